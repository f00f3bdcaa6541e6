/* Deaths with a lock held: of the allocator, of the loader, of a stream; by this thread or by another. */
#include "victim.h"
#include <dlfcn.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern volatile int one;

static void forever(void) {
    for (;;)
        pause();
}
static void *body_sleeps(void *unused) {
    forever();
    return unused;
}
/* glibc takes no lock of the allocator while there is one thread. */
static void second_thread(void) {
    pthread_t thread;
    pthread_create(&thread, 0, body_sleeps, 0);
}

/* Chunks too large for caches: what is freed of them goes to the list that malloc searches with the lock held. */
#define CHUNKS 64
static char *chunks[CHUNKS];
static void take_chunks(void) {
    for (int i = 0; i < CHUNKS; i++)
        chunks[i] = malloc(0x900);
}
/* Faults inside malloc: the neighbours of free chunks are where nothing is. */
NOINLINE static void act_malloc_fault(struct truth *t) {
    ENTER(t);
    take_chunks();
    for (int i = 1; i < CHUNKS - 1; i += 2)
        free(chunks[i]);
    for (int i = 1; i < CHUNKS - 1; i += 2)
        ((uint64_t *volatile *)chunks)[i][1] = 0x10; /* the list's backward pointer */
    DIES_WITHIN(t, act_malloc_fault);
    void *volatile q = malloc(0xa00);
    (void)q;
    LEAVE(t);
}
static void run_malloc_fault(void) {
    second_thread();
    AT_BOTTOM(the_truth, act_malloc_fault);
}
/* malloc finds the size of what is left overwritten and aborts. */
NOINLINE static void act_malloc_abort(struct truth *t) {
    ENTER(t);
    take_chunks();
    for (int i = 0; i < CHUNKS; i++) {
        char *last = malloc(0x900);
        /* Behind the last chunk: the size of the rest. */
        if ((uint64_t)sbrk(0) - (uint64_t)last < 0x20000)
            *(uint64_t *)(last + malloc_usable_size(last)) = ~0ull;
    }
    DIES_WITHIN(t, act_malloc_abort);
    void *volatile q = malloc(0x1f000);
    (void)q;
    LEAVE(t);
}
static void run_malloc_abort(void) {
    second_thread();
    AT_BOTTOM(the_truth, act_malloc_abort);
}

/* An allocator of the program's own, interposed, with one lock: faults inside it, or is held elsewhere. */
extern void allocator_fault_next(void) __attribute__((weak));
extern void allocator_hold(void) __attribute__((weak));
NOINLINE static void act_allocator_fault(struct truth *t) {
    ENTER(t);
    DIES_WITHIN(t, act_allocator_fault);
    allocator_fault_next();
    void *volatile q = malloc(100);
    (void)q;
    LEAVE(t);
}
static void run_allocator_fault(void) {
    if (!allocator_fault_next)
        truth_unable(1);
    AT_BOTTOM(the_truth, act_allocator_fault);
}
static volatile int holds;
static void *body_holds_allocator(void *unused) {
    allocator_hold();
    holds = 1;
    forever();
    return unused;
}
static void elsewhere(void *(*body)(void *)) {
    pthread_t thread;
    if (pthread_create(&thread, 0, body, 0))
        truth_unable(1);
    while (!holds)
        usleep(1000);
    usleep(20000);
}
NOINLINE static void act_allocator_held(struct truth *t) {
    ENTER(t);
    elsewhere(body_holds_allocator);
    truth_ready(t, 0);
    leaf_read(t);
    LEAVE(t);
}
static void run_allocator_held(void) {
    if (!allocator_hold)
        truth_unable(1);
    AT_BOTTOM(the_truth, act_allocator_held);
}

/* A library's constructor: the loader is in the middle of dlopen. The plug-in calls plugin_constructed. */
static int plugin_waits;
void plugin_constructed(void) {
    if (plugin_waits) {
        holds = 1;
        forever();
    }
    AT_BOTTOM(the_truth, act_null_read);
}
static void open_plugin(void) {
    char path[512];
    snprintf(path, sizeof path, "%s/plugin.so", getenv("CRASH_LIBRARIES"));
    if (!dlopen(path, RTLD_NOW)) {
        fprintf(stderr, "%s\n", dlerror());
        truth_unable(1);
    }
}
static void run_in_constructor(void) { open_plugin(); }
static void *body_opens(void *unused) {
    plugin_waits = 1;
    open_plugin();
    return unused;
}
static void run_dlopen_elsewhere(void) {
    elsewhere(body_opens);
    AT_BOTTOM(the_truth, act_null_read);
}

static int in_callback(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)info, (void)size, (void)unused;
    AT_BOTTOM(the_truth, act_null_read);
    return 1;
}
static void run_in_phdr_callback(void) { dl_iterate_phdr(in_callback, 0); }
static int hold_in_callback(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)info, (void)size, (void)unused;
    holds = 1;
    forever();
    return 1;
}
static void *body_holds_phdr(void *unused) {
    dl_iterate_phdr(hold_in_callback, 0);
    return unused;
}
static void run_phdr_elsewhere(void) {
    elsewhere(body_holds_phdr);
    AT_BOTTOM(the_truth, act_null_read);
}

/* Inside stdio: a stream's own write function faults, the stream's lock held; the streams of the process are locked too. */
static ssize_t writes(void *cookie, const char *text, size_t size) {
    (void)text, (void)size;
    AT_BOTTOM((struct truth *)cookie, act_null_read);
    return 0;
}
static void run_in_stdio(void) {
    FILE *stream = fopencookie(the_truth, "w", (cookie_io_functions_t){.write = writes});
    setvbuf(stream, 0, _IONBF, 0);
    flockfile(stderr);
    flockfile(stdout);
    fprintf(stream, "hello %d\n", one);
}
static void *body_holds_stdio(void *unused) {
    flockfile(stderr);
    flockfile(stdout);
    holds = 1;
    forever();
    return unused;
}
static void run_stdio_elsewhere(void) {
    elsewhere(body_holds_stdio);
    AT_BOTTOM(the_truth, act_null_read);
}

const struct scene lock_scenes[] = {
    {"malloc_fault", run_malloc_fault},
    {"malloc_abort", run_malloc_abort},
    {"allocator_fault", run_allocator_fault},
    {"allocator_held", run_allocator_held},
    {"in_constructor", run_in_constructor},
    {"dlopen_elsewhere", run_dlopen_elsewhere},
    {"in_phdr_callback", run_in_phdr_callback},
    {"phdr_elsewhere", run_phdr_elsewhere},
    {"in_stdio", run_in_stdio},
    {"stdio_elsewhere", run_stdio_elsewhere},
    {0, 0},
};
