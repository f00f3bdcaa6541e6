/* An allocator to be interposed: memory in one direction, one lock that is not recursive. */
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *at, *end;
static int fault_next;

void allocator_fault_next(void) { fault_next = 1; }
void allocator_hold(void) { pthread_mutex_lock(&lock); }

static void *take(size_t size, size_t align) {
    pthread_mutex_lock(&lock);
    if (fault_next) {
        fault_next = 0;
        *(volatile int *)0 = 1;
    }
    char *start = (char *)(((uintptr_t)at + 16 + align - 1) & ~(align - 1));
    if (!at || start + size > end) {
        size_t room = size + align + (64 << 20);
        at = mmap(0, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        end = at + room;
        start = (char *)(((uintptr_t)at + 16 + align - 1) & ~(align - 1));
    }
    ((size_t *)start)[-1] = size;
    at = start + size;
    pthread_mutex_unlock(&lock);
    return start;
}

void *malloc(size_t size) { return take(size, 16); }
void *calloc(size_t count, size_t size) { return memset(take(count * size, 16), 0, count * size); }
void *realloc(void *old, size_t size) {
    void *fresh = take(size, 16);
    if (old) {
        size_t had = ((size_t *)old)[-1];
        memcpy(fresh, old, had < size ? had : size);
    }
    return fresh;
}
void free(void *unused) {
    pthread_mutex_lock(&lock);
    (void)unused;
    pthread_mutex_unlock(&lock);
}
void *memalign(size_t align, size_t size) { return take(size, align < 16 ? 16 : align); }
void *aligned_alloc(size_t align, size_t size) { return memalign(align, size); }
int posix_memalign(void **to, size_t align, size_t size) {
    *to = memalign(align, size);
    return 0;
}
