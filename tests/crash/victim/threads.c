/* Threads of every kind, and stacks that are too small. */
#include "victim.h"
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

extern volatile int one;

/* Recursion without end. The truth keeps its outermost part only. */
NOINLINE static long recurse(struct truth *t, volatile long depth) {
    volatile long room[12];
    room[depth % 12] = depth;
    return one ? recurse(t, depth + one) + room[one] : 0;
}
NOINLINE void act_overflow(struct truth *t) {
    ENTER(t);
    DIES_WITHIN(t, act_overflow);
    /* Not a library's frames but those of `recurse`, however many. */
    t->chain[t->depth - 1] = (struct entry){KIND_MANY, (uint64_t)recurse, 0};
    volatile long r = recurse(t, 1);
    (void)r;
    LEAVE(t);
}
static void limited_stack(void) {
    struct rlimit limit = {1 << 20, RLIM_INFINITY};
    setrlimit(RLIMIT_STACK, &limit);
}
static void run_overflow_main(void) {
    limited_stack();
    AT_BOTTOM(the_truth, act_overflow);
}

static void in_thread(size_t stack, void *(*body)(void *)) {
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    if (stack)
        pthread_attr_setstacksize(&attributes, stack);
    if (pthread_create(&thread, &attributes, body, the_truth))
        truth_unable(1);
    pthread_join(thread, 0);
}
static void *body_overflow(void *t) {
    AT_BOTTOM(t, act_overflow);
    return 0;
}
static void *body_null(void *t) {
    AT_BOTTOM(t, act_null_read);
    return 0;
}
static void run_overflow_raw_thread(void) { in_thread(64 << 10, body_overflow); }
static void run_overflow_tiny_thread(void) { in_thread(PTHREAD_STACK_MIN, body_overflow); }
static void run_null_raw_thread(void) { in_thread(0, body_null); }
static void run_null_tiny_thread(void) { in_thread(PTHREAD_STACK_MIN, body_null); }

/* Several threads at the same moment, each with a truth of its own. */
static pthread_barrier_t barrier;
NOINLINE static void act_together(struct truth *t) {
    ENTER(t);
    truth_ready(t, 0);
    pthread_barrier_wait(&barrier);
    leaf_read(t);
    LEAVE(t);
}
static void *body_together(void *t) {
    AT_BOTTOM(t, act_together);
    return 0;
}
static void run_several_at_once(void) {
    pthread_t threads[TRUTH_COUNT];
    pthread_barrier_init(&barrier, 0, TRUTH_COUNT);
    for (int i = 0; i < TRUTH_COUNT; i++)
        pthread_create(&threads[i], 0, body_together, the_truth + i);
    for (int i = 0; i < TRUTH_COUNT; i++)
        pthread_join(threads[i], 0);
}

static void *body_sleeps(void *unused) {
    for (;;)
        pause();
    return unused;
}
static void sleepers(int count) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, &attributes, body_sleeps, 0))
            truth_unable(1);
    }
}
static void run_threads_500(void) {
    sleepers(499);
    AT_BOTTOM(the_truth, act_null_read);
}

/* A thread that libc knows nothing about, with fs = 0: whatever reads a thread-local or a stack protector's canary
 * faults. The chain is C only: Rust's formatting and qsort would do that. */
extern long raw_thread(uint64_t flags, void *stack, act *body, struct truth *t);
__asm__(".text\n.globl raw_thread\n.type raw_thread, @function\nraw_thread:\n.cfi_startproc\n"
        "    mov %rdx, %r9\n    mov %rcx, %r8\n    mov $56, %eax\n    xor %edx, %edx\n    xor %r10d, %r10d\n    syscall\n"
        "    test %rax, %rax\n    jnz 1f\n    .cfi_undefined rip\n    xor %ebp, %ebp\n    mov %r8, %rdi\n"
        "    call *%r9\n    mov $60, %eax\n    syscall\n1:  ret\n.cfi_endproc\n.size raw_thread, . - raw_thread\n");
NOINLINE static void act_raw(struct truth *t) {
    ENTER(t);
    leaf_read(t);
    LEAVE(t);
}
NOINLINE static void raw_body(struct truth *t) {
    ENTER(t);
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(SYS_arch_prctl), "D"(0x1002), "S"(0) : "rcx", "r11", "memory");
    t->act = act_raw;
    link_alloca(t);
    LEAVE(t);
}
static void run_raw_clone(void) {
    char *stack = mmap(0, 256 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    truth_ready(the_truth, 0);
    the_truth->depth = 0;
    /* CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM. */
    raw_thread(0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000, stack + (256 << 10), raw_body, the_truth);
    body_sleeps(0);
}

NOINLINE static void ten_thousand(struct truth *t, int n) {
    ENTER(t);
    if (n)
        ten_thousand(t, n - one);
    else
        act_null_read(t);
    LEAVE(t);
}
NOINLINE static void act_deep(struct truth *t) {
    ENTER(t);
    ten_thousand(t, 10000);
    LEAVE(t);
}
static void run_deep(void) { AT_BOTTOM(the_truth, act_deep); }

const struct scene thread_scenes[] = {
    {"overflow_main", run_overflow_main},
    {"overflow_raw_thread", run_overflow_raw_thread},
    {"overflow_tiny_thread", run_overflow_tiny_thread},
    {"null_raw_thread", run_null_raw_thread},
    {"null_tiny_thread", run_null_tiny_thread},
    {"several_at_once", run_several_at_once},
    {"threads_500", run_threads_500},
    {"raw_clone", run_raw_clone},
    {"deep", run_deep},
    {0, 0},
};
