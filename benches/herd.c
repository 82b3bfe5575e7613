/* The programs that are watched: small ones that wait.
 *
 *     herd FOLDER FIRST COUNT     each is an exec of its own, named `herd service-NUMBER FOLDER`, and has a PID file in
 *                                 FOLDER, service-NUMBER.pid
 *     herd crowd COUNT            processes without a name of their own, which nobody watches
 *
 * It says "ready", and waits for the end of its standard input. All of them end with it, however it ends, for the kernel
 * does that: nothing is left behind, and nothing is signalled by a PID that might be another's by then.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static void begin(const char *name, const char *directory)
{
    /* closed by exec: until then its command line is ours */
    int begun[2];
    if (pipe2(begun, O_CLOEXEC)) exit(71);
    pid_t herd = getpid(), pid = fork();
    if (pid < 0) {
        perror("herd: fork");
        exit(71);
    }
    if (pid > 0) {
        char byte;
        close(begun[1]);
        while (read(begun[0], &byte, 1) > 0) {}
        close(begun[0]);
        if (name) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s.pid", directory, name);
            FILE *file = fopen(path, "w");
            if (!file || fprintf(file, "%d\n", pid) < 0 || fclose(file)) exit(73);
        }
        return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != herd) _exit(0);
    /* as a daemon does, and whatever setsid starts */
    setpgid(0, 0);
    close(0);
    close(1);
    close(2);
    if (name) execl("/proc/self/exe", "herd", name, directory, NULL);
    close(begun[1]);
    for (;;) pause();
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strncmp(argv[1], "service-", 8))
        for (;;) pause();
    if (argc != 4 && argc != 3) return 64;
    /* one that was ended on purpose is no zombie */
    signal(SIGCHLD, SIG_IGN);
    if (argc == 3) {
        for (int i = 0; i < atoi(argv[2]); i++) begin(NULL, NULL);
    } else {
        for (int i = 0; i < atoi(argv[3]); i++) {
            char name[32];
            snprintf(name, sizeof name, "service-%d", atoi(argv[2]) + i);
            begin(name, argv[1]);
        }
    }
    puts("ready");
    fflush(stdout);
    char byte;
    while (read(0, &byte, 1) > 0) {}
    return 0;
}
