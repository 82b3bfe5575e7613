/* A process whose arguments cannot be read: who tries waits for ever.

   One thread holds the lock of the memory while it waits for a page of the file that the argument names: where a first
   read fails, the second is made under that lock. Another thread waits for the lock to change the memory, and lets no
   reader overtake it. */
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile char *page;

static void *touch(void *unused) {
    (void)unused;
    return (void *)(ptrdiff_t)page[0];
}

static void *change(void *unused) {
    (void)unused;
    for (;;) {
        void *more = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        munmap(more, 4096);
        usleep(1000);
    }
}

int main(int count, char **arguments) {
    if (count != 2) return 1;
    int file = open(arguments[1], O_RDONLY);
    if (file < 0) return 2;
    page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0);
    if (page == MAP_FAILED) return 3;
    pthread_t one, other;
    pthread_create(&one, NULL, touch, NULL);
    pthread_create(&other, NULL, change, NULL);
    pause();
    return 0;
}
