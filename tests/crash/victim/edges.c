/* The edges of a program's life, and of its signal handlers: before main, during exit, in another handler, without an
 * alternate stack. Also the work that a single stepper interrupts. */
#include "victim.h"
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern volatile int one;

static void null_read(void) { AT_BOTTOM(the_truth, act_null_read); }

static void early(const char *scene) {
    const char *wanted = getenv("CRASH_SCENE");
    if (!wanted || strcmp(wanted, scene))
        return;
    truth_map();
    install_contender();
    null_read();
}
/* libc has not set its own variable yet. */
static void before_constructors(int count, char **arguments, char **environment) {
    (void)count, (void)arguments;
    environ = environment;
    early("before_constructors");
}
__attribute__((section(".preinit_array"), used)) static void (*preinit)(int, char **, char **) = before_constructors;
__attribute__((constructor)) static void constructor(void) { early("before_main"); }
static void run_early(void) { truth_unable(1); }

static void run_atexit(void) {
    atexit(null_read);
    exit(3);
}
extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);
extern void *__dso_handle;
static void destroyed(void *t) { AT_BOTTOM((struct truth *)t, act_null_read); }
static void run_tls_destructor(void) {
    __cxa_thread_atexit_impl(destroyed, the_truth, &__dso_handle);
    exit(3);
}

/* Somebody's own handler faults. */
NOINLINE static void others_handler(int signal) {
    struct truth *t = the_truth;
    ENTER(t);
    (void)signal;
    straight_chain(t, act_null_read);
    LEAVE(t);
}
NOINLINE static void act_raise(struct truth *t) {
    ENTER(t);
    truth_push(t, KIND_WITHIN, (uint64_t)act_raise);
    truth_push(t, KIND_LIBRARY, 0);
    raise(SIGUSR1);
    LEAVE(t);
    LEAVE(t);
    LEAVE(t);
}
static void with_handler(int flags) {
    struct sigaction action = {.sa_handler = others_handler, .sa_flags = flags};
    sigaction(SIGUSR1, &action, 0);
    AT_BOTTOM(the_truth, act_raise);
}
static void run_in_handler(void) { with_handler(0); }
static void own_alternate_stack(size_t size) {
    /* With a hole below. */
    char *room = mmap(0, size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(room, 4096, PROT_NONE);
    stack_t stack = {.ss_sp = room + 4096, .ss_size = size};
    if (sigaltstack(&stack, 0))
        truth_unable(1);
}
static void run_in_handler_alternate(void) {
    own_alternate_stack(64 << 10);
    with_handler(SA_ONSTACK);
}

/* The alternate stack is used up by the one who runs on it. */
NOINLINE static long uses_up(volatile long depth) {
    volatile long room[64];
    room[depth % 64] = depth;
    return one ? uses_up(depth + one) + room[one] : 0;
}
static void hungry_handler(int signal) {
    DIES_WITHIN(the_truth, hungry_handler);
    uses_up(signal);
}
NOINLINE static void act_raise_hungry(struct truth *t) {
    ENTER(t);
    raise(SIGUSR1);
    LEAVE(t);
}
static void run_alternate_exhausted(void) {
    own_alternate_stack(32 << 10);
    struct sigaction action = {.sa_handler = hungry_handler, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR1, &action, 0);
    AT_BOTTOM(the_truth, act_raise_hungry);
}
static void no_alternate(void) {
    stack_t stack = {.ss_flags = SS_DISABLE};
    sigaltstack(&stack, 0);
}
static void run_alternate_off(void) {
    no_alternate();
    null_read();
}
static void run_alternate_off_overflow(void) {
    no_alternate();
    AT_BOTTOM(the_truth, act_overflow);
}
static void run_alternate_unmapped(void) {
    stack_t stack;
    own_alternate_stack(64 << 10);
    sigaltstack(0, &stack);
    munmap(stack.ss_sp, stack.ss_size);
    null_read();
}

/* Work of many kinds for the single stepper, without libraries that keep their own stack tricks. */
static int ascending(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
NOINLINE static double numbers(int n) {
    double sum = 0;
    for (int i = 1; i < n; i++)
        sum += sqrt(i) * sin(i) / (i + one);
    return sum;
}
NOINLINE static long fibonacci(long n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
NOINLINE static long work(int kind) {
    char text[256];
    int values[40];
    switch (kind % 6) {
    case 0:
        for (int i = 0; i < 40; i++)
            values[i] = (i * 7919) % 101;
        qsort(values, 40, sizeof values[0], ascending);
        return values[one];
    case 1:
        return snprintf(text, sizeof text, "%d %s %.3f %lx", kind, "text", numbers(3), (long)kind * 77);
    case 2: {
        char *p = malloc((size_t)kind * 16 + 2000), *q = malloc(24);
        memset(p, kind, 2000);
        p = realloc(p, 5000);
        long r = p[one];
        free(q);
        free(p);
        return r;
    }
    case 3:
        return (long)numbers(40);
    case 4:
        return fibonacci(9);
    default:
        memset(text, 'a', sizeof text - 1);
        text[255] = 0;
        return (long)strlen(text) + strtol("12345", 0, 10) + atoi("77") + (strstr(text, "ab") != 0);
    }
}
NOINLINE static void act_work(struct truth *t) {
    ENTER(t);
    const char *from = getenv("CRASH_WORK");
    volatile long sum = 0;
    int kind = from ? atoi(from) : 0;
    for (int i = 0; i < 6; i++)
        sum += work(i);
    truth_ready(t, 0);
    truth_slots(t);
    begin_here();
    for (;; kind++)
        sum += work(kind);
    LEAVE(t);
}
static void run_work(void) {
    truth_begin(the_truth);
    straight_chain(the_truth, act_work);
}

const struct scene edge_scenes[] = {
    {"before_constructors", run_early},
    {"before_main", run_early},
    {"atexit", run_atexit},
    {"tls_destructor", run_tls_destructor},
    {"in_handler", run_in_handler},
    {"in_handler_alternate", run_in_handler_alternate},
    {"alternate_exhausted", run_alternate_exhausted},
    {"alternate_off", run_alternate_off},
    {"alternate_off_overflow", run_alternate_off_overflow},
    {"alternate_unmapped", run_alternate_unmapped},
    {"work", run_work},
    {0, 0},
};
