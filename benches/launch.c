/* Runs a program once and tells what it cost.
 *
 *     launch COMMAND [ARGUMENT...]
 *
 * The last line on standard error is: exit code, wall ns, user µs, system µs, peak KiB, page faults. The figures are
 * wait4's: of the program and of all children that it waited for, the peak that of the largest single process.
 *
 * A peak begins with the size of whoever called exec. So this is small, linked statically, and borrows its memory to the
 * child until then (vfork): a program's peak is not that of the script that measures it.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc < 2) return 64;
    /* what cron and systemd give */
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){1024, 1024});
    struct rusage used;
    int status;
    long long began = now();
    pid_t pid = vfork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* nothing is left of a measurement that is broken off */
        execv(argv[1], argv + 1);
        _exit(127);
    }
    if (pid < 0 || wait4(pid, &status, 0, &used) != pid) return 71;
    long long took = now() - began;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    dprintf(2, "\n%d %lld %lld %lld %ld %ld\n", code, took, used.ru_utime.tv_sec * 1000000LL + used.ru_utime.tv_usec,
            used.ru_stime.tv_sec * 1000000LL + used.ru_stime.tv_usec, used.ru_maxrss, used.ru_minflt + used.ru_majflt);
    return 0;
}
