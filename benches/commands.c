/* The floor of exec probes: a process for each command, and its exit status.
 *
 *     commands LIST
 *
 * A line of LIST is the path of a program. All are started at once; what exits with anything but zero is printed, and the
 * exit code is 2 then.
 *
 * It reads no output, gives nobody a deadline, and lets live what they leave behind: nobody should run it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 4096 };

static char list[1 << 20];

int main(int argc, char **argv)
{
    if (argc != 2) return 64;
    int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, list, sizeof list - 1);
    if (got < 0) return 66;
    close(fd);
    static struct { pid_t pid; const char *path; } begun[MOST];
    int count = 0, failed = 0;
    char *none[] = {NULL};
    for (char *path = strtok(list, "\n"); path && count < MOST; path = strtok(NULL, "\n")) {
        char *arguments[] = {path, NULL};
        begun[count].path = path;
        if (posix_spawn(&begun[count++].pid, path, NULL, NULL, arguments, none)) return 71;
    }
    for (int i = 0; i < count; i++) {
        int status;
        if (waitpid(begun[i].pid, &status, 0) < 0 || status != 0) failed += printf("%s failed\n", begun[i].path) > 0;
    }
    return failed ? 2 : 0;
}
