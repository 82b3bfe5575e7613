/* The floor: the system calls that the job needs, and no others.
 *
 *     floor LIST STATE
 *
 * A line of LIST is NAME, PID file, command line, log and pattern, with tabs between them; the command line and the
 * pattern are literal texts, the pattern several with '|' between them. STATE keeps how often each service failed: it
 * is read, and replaced by rename. What is broken is printed; the exit code is 2 then.
 *
 * It restarts nothing, mails nothing, and takes a config, a clock and a disk at their word: nobody should run it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FRESH = 300, LINES = 100, LARGEST_TAIL = 1 << 20 };

static char buffer[LARGEST_TAIL];

static ssize_t slurp(const char *path, char *into, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t got = read(fd, into, room);
    close(fd);
    return got;
}

static const char *process_trouble(const char *pid_file, const char *command)
{
    char path[64];
    ssize_t got = slurp(pid_file, buffer, 32);
    if (got <= 0) return "has no PID file";
    buffer[got] = 0;
    int pid = atoi(buffer);
    if (pid <= 1) return "has a PID file that names nobody";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    got = slurp(path, buffer, 1024);
    char *name_end = got > 0 ? memrchr(buffer, ')', got) : NULL;
    if (!name_end) return "does not run";
    if (name_end[2] == 'Z' || name_end[2] == 'X') return "is a zombie";
    if (name_end[2] == 'T' || name_end[2] == 't') return "is stopped";
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    got = slurp(path, buffer, 4096);
    for (ssize_t i = 0; i < got - 1; i++)
        if (!buffer[i]) buffer[i] = ' ';
    if (got <= 0 || !memmem(buffer, got, command, strlen(command))) return "is another program";
    return NULL;
}

static int has_any(const char *text, size_t size, const char *pattern)
{
    for (;;) {
        const char *end = strchrnul(pattern, '|');
        if (memmem(text, size, pattern, end - pattern)) return 1;
        if (!*end) return 0;
        pattern = end + 1;
    }
}

static const char *log_trouble(const char *path, const char *pattern, time_t now)
{
    struct stat stat;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return "has no log";
    if (fstat(fd, &stat) || now - stat.st_mtime > FRESH) {
        close(fd);
        return "has a log that is frozen";
    }
    /* the last lines, from a block at the end that is doubled until they are in it */
    const char *found = "has a log without the pattern";
    for (off_t block = 16 << 10; block <= LARGEST_TAIL; block *= 2) {
        off_t from = stat.st_size > block ? stat.st_size - block : 0;
        ssize_t got = pread(fd, buffer, block, from);
        if (got <= 0) break;
        int lines = 0;
        char *start = buffer + got - 1; /* at the line feed that ends the last line */
        while (lines < LINES && start) {
            start = memrchr(buffer, '\n', start - buffer);
            lines++;
        }
        if (!start && from > 0) continue;
        start = start ? start + 1 : buffer;
        if (has_any(start, buffer + got - start, pattern)) found = NULL;
        break;
    }
    close(fd);
    return found;
}

int main(int argc, char **argv)
{
    if (argc != 3) return 64;
    static char list[1 << 20], past[1 << 18], next[1 << 18], draft[4096];
    ssize_t got = slurp(argv[1], list, sizeof list - 1);
    if (got < 0) return 66;
    got = slurp(argv[2], past, sizeof past - 1);
    const char *remembered = past;
    size_t written = 0;
    int code = 0;
    time_t now = time(NULL);
    char *rest = list, *line;
    while ((line = strsep(&rest, "\n")) && *line) {
        char *name = strsep(&line, "\t"), *pid_file = strsep(&line, "\t"), *command = strsep(&line, "\t"),
             *log = strsep(&line, "\t"), *pattern = line;
        /* the state has the services in the order of the list */
        int failures = 0;
        size_t length = strlen(name);
        if (!strncmp(remembered, name, length) && remembered[length] == ' ') {
            failures = atoi(remembered + length);
            remembered = strchrnul(remembered, '\n');
            remembered += *remembered == '\n';
        }
        const char *trouble = process_trouble(pid_file, command);
        if (!trouble) trouble = log_trouble(log, pattern, now);
        if (trouble) {
            printf("%s %s\n", name, trouble);
            failures++;
            code = 2;
        }
        written += snprintf(next + written, sizeof next - written, "%s %d\n", name, failures);
        if (written >= sizeof next) return 70;
    }
    snprintf(draft, sizeof draft, "%s.new", argv[2]);
    int fd = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, next, written) != (ssize_t)written || close(fd) || rename(draft, argv[2])) return 73;
    return code;
}
