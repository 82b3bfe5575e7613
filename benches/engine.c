/* The floor of containers: the request that they need, and no others.
 *
 *     engine SOCKET LIST
 *
 * A line of LIST is the name of a container. All containers are asked for at once over SOCKET, that of an engine; those
 * of LIST must run. What does not is printed; the exit code is 2 then.
 *
 * It takes the engine's word for everything, looks at no process, and knows nothing of JSON but the order in which
 * Docker writes it: nobody should run it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { LARGEST_LIST = 1 << 16, LARGEST_ANSWER = 8 << 20 };

static char list[LARGEST_LIST], answer[LARGEST_ANSWER];

int main(int argc, char **argv)
{
    if (argc != 3) return 64;
    int fd = open(argv[2], O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, list, sizeof list - 1);
    if (got < 0) return 66;
    close(fd);
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (strlen(argv[1]) >= sizeof to.sun_path) return 64;
    strcpy(to.sun_path, argv[1]);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    static const char request[] = "GET /containers/json?all=1 HTTP/1.0\r\nHost: engine\r\n\r\n";
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)
        || send(fd, request, sizeof request - 1, MSG_NOSIGNAL) < 0)
        return 69;
    size_t size = 0;
    while ((got = read(fd, answer + size, sizeof answer - 1 - size)) > 0) size += got;
    close(fd);
    if (got < 0 || strncmp(answer + 8, " 200", 4)) return 69;
    int failed = 0;
    for (char *name = strtok(list, "\n"); name; name = strtok(NULL, "\n")) {
        char wanted[256];
        snprintf(wanted, sizeof wanted, "\"Names\":[\"/%s\"]", name);
        char *container = strstr(answer, wanted);
        char *state = container ? strstr(container, "\"State\":\"") : NULL;
        if (!state || strncmp(state + 9, "running\"", 8)) failed += printf("%s does not run\n", name) > 0;
    }
    return failed ? 2 : 0;
}
