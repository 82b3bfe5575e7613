/* The floor of HTTP probes: the system calls that they need, and no others.
 *
 *     endpoints LIST
 *
 * A line of LIST is a port of 127.0.0.1 and a path, with a blank between them. All are asked at once, without blocking,
 * in one epoll(7) loop; each must answer "HTTP/1.1 200" and close the connection. What does not is printed; the exit
 * code is 2 then.
 *
 * It resolves no names, speaks no TLS, frames no bodies and gives nobody a deadline but all of them: nobody should run it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 4096, LARGEST_LIST = 1 << 20, TIMEOUT_MS = 10000, AT_ONCE = 256 };

static struct probe {
    int fd, asked, well;
    unsigned short port;
    const char *path;
} probes[MOST];

static char list[LARGEST_LIST];

int main(int argc, char **argv)
{
    if (argc != 2) return 64;
    int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, list, sizeof list - 1);
    if (got < 0) return 66;
    close(fd);
    int count = 0;
    for (char *line = strtok(list, "\n"); line && count < MOST; line = strtok(NULL, "\n")) {
        char *blank = strchr(line, ' ');
        if (!blank) return 65;
        probes[count].port = (unsigned short)atoi(line);
        probes[count++].path = blank + 1;
    }
    int epoll = epoll_create1(EPOLL_CLOEXEC), open_ones = 0, next = 0, failed = 0;
    while (next < count || open_ones > 0) {
        // as many as descriptors go round for
        for (; next < count && open_ones < 900; next++) {
            struct probe *probe = &probes[next];
            struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(probe->port)};
            to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            probe->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
            if (probe->fd < 0) return 71;
            if (connect(probe->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) {
                close(probe->fd);
                continue;
            }
            struct epoll_event wanted = {.events = EPOLLOUT, .data.ptr = probe};
            epoll_ctl(epoll, EPOLL_CTL_ADD, probe->fd, &wanted);
            open_ones++;
        }
        struct epoll_event ready[AT_ONCE];
        int number = epoll_wait(epoll, ready, AT_ONCE, TIMEOUT_MS);
        if (number <= 0) break;
        for (int i = 0; i < number; i++) {
            struct probe *probe = ready[i].data.ptr;
            char buffer[16384];
            if (!probe->asked) {
                int length = snprintf(buffer, sizeof buffer,
                                      "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nConnection: close\r\n\r\n", probe->path, probe->port);
                probe->asked = 1;
                struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = probe};
                if (send(probe->fd, buffer, length, MSG_NOSIGNAL) == length
                    && epoll_ctl(epoll, EPOLL_CTL_MOD, probe->fd, &wanted) == 0)
                    continue;
            } else {
                got = read(probe->fd, buffer, sizeof buffer);
                if (got > 0) {
                    if (got >= 12 && memcmp(buffer, "HTTP/1.1 200", 12) == 0) probe->well = 1;
                    continue;
                }
            }
            close(probe->fd);
            open_ones--;
        }
    }
    for (int i = 0; i < count; i++)
        if (!probes[i].well) failed += printf("%s\n", probes[i].path) > 0;
    return failed ? 2 : 0;
}
