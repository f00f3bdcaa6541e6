/* Counts, once the victim is armed and in the thread that dies, what a handler must not call. Preloaded. */
#define _GNU_SOURCE
#include "truth.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct truth *truth;

__attribute__((constructor)) static void find(void) {
    const char *path = getenv("CRASH_TRUTH");
    int fd = path ? open(path, O_RDWR) : -1;
    void *at = mmap(0, sizeof(struct truth), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED)
        truth = at;
    if (fd >= 0)
        close(fd);
}

/* Raw: errno is a thread-local. */
static uint64_t this_thread(void) {
    uint64_t tid;
    __asm__ volatile("syscall" : "=a"(tid) : "a"(SYS_gettid) : "rcx", "r11", "memory");
    return tid;
}

__attribute__((visibility("hidden"), used)) void count_call(int what) {
    if (truth && truth->armed && truth->tid == this_thread())
        __atomic_fetch_add(&truth->calls[what], 1, __ATOMIC_RELAXED);
}

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

void *malloc(size_t size) { return count_call(0), __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return count_call(0), __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { return count_call(0), __libc_realloc(old, size); }
void free(void *p) { count_call(0), __libc_free(p); }
void *memalign(size_t align, size_t size) { return count_call(0), __libc_memalign(align, size); }
void *aligned_alloc(size_t align, size_t size) { return count_call(0), __libc_memalign(align, size); }
int posix_memalign(void **to, size_t align, size_t size) {
    count_call(0);
    *to = __libc_memalign(align, size);
    return *to ? 0 : 12;
}

#define LOCK(name, type)                                                                                               \
    int name(type *lock) {                                                                                             \
        static int (*real)(type *);                                                                                    \
        count_call(1);                                                                                                 \
        if (!real)                                                                                                     \
            real = (int (*)(type *))dlsym(RTLD_NEXT, #name);                                                           \
        return real(lock);                                                                                             \
    }
LOCK(pthread_mutex_lock, pthread_mutex_t)
LOCK(pthread_mutex_trylock, pthread_mutex_t)
LOCK(pthread_rwlock_rdlock, pthread_rwlock_t)
LOCK(pthread_rwlock_wrlock, pthread_rwlock_t)

/* The loader's function keeps nearly all registers; so does this. */
__attribute__((visibility("hidden"))) void *real_tls_get_addr;
__attribute__((visibility("hidden"), used)) void find_tls_get_addr(void) {
    count_call(2);
    if (!real_tls_get_addr)
        real_tls_get_addr = dlsym(RTLD_NEXT, "__tls_get_addr");
}
__asm__(".text\n.globl __tls_get_addr\n.type __tls_get_addr, @function\n__tls_get_addr:\n"
        "    push %rbp\n    mov %rsp, %rbp\n    and $-16, %rsp\n    push %rdi\n    push %rdi\n"
        "    call find_tls_get_addr\n    mov (%rsp), %rdi\n    call *real_tls_get_addr(%rip)\n    leave\n    ret\n");
