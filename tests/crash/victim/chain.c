/* The chain that every scene dies at the bottom of: frames of many shapes. Each function keeps the truth about itself. */
#include "victim.h"
#include <alloca.h>
#include <stdlib.h>
#include <string.h>

volatile int one = 1;
volatile double third = 1.0 / 3;

/* Without a frame of its own beyond the return address. */
NOINLINE void link_last(struct truth *t) {
    ENTER(t);
    t->act(t);
    LEAVE(t);
}

/* Many registers saved. */
NOINLINE static long link_saves(struct truth *t, long a, long b, long c) {
    ENTER(t);
    long d = a * one, e = b * one, f = c * one, g = a ^ b;
    link_last(t);
    LEAVE(t);
    return a + b + c + d * e + f * g;
}

/* A table of functions, one called. */
static long (*volatile links[2])(struct truth *, long, long, long) = {link_saves, link_saves};

NOINLINE static double link_pointer(struct truth *t) {
    ENTER(t);
    double x = third * one;
    long l = links[one](t, one, 2, 3);
    LEAVE(t);
    return x + (double)l;
}

/* A realigned frame: its canonical address is found through another register. */
NOINLINE static double link_aligned(struct truth *t) {
    ENTER(t);
    double wide[8] __attribute__((aligned(64)));
    wide[one] = link_pointer(t);
    __asm__ volatile("" : : "r"(wide) : "memory");
    LEAVE(t);
    return wide[one];
}

/* A frame as large as its argument says. */
NOINLINE void link_alloca(struct truth *t) {
    ENTER(t);
    char *room = alloca((size_t)one * 300);
    memset(room, one, 300);
    __asm__ volatile("" : : "r"(room) : "memory");
    volatile double d = link_aligned(t);
    (void)d;
    LEAVE(t);
}

static int compare(const void *a, const void *b, void *argument) {
    struct truth *t = argument;
    ENTER(t);
    if (*(const int *)a != *(const int *)b)
        rust_second(t);
    LEAVE(t);
    return 0;
}

/* Goes on in a function that the library calls. */
NOINLINE void link_sorts(struct truth *t) {
    ENTER(t);
    truth_push(t, KIND_WITHIN, (uint64_t)link_sorts);
    truth_push(t, KIND_LIBRARY, 0);
    int two[2] = {2, one};
    qsort_r(two, 2, sizeof two[0], compare, t);
    LEAVE(t);
    LEAVE(t);
    LEAVE(t);
}

static void (*volatile next)(struct truth *);

NOINLINE static int link_first(struct truth *t, int x) {
    ENTER(t);
    int before = x + one;
    rust_first(t);
    LEAVE(t);
    return before;
}

NOINLINE void chain(struct truth *t, act *what) {
    ENTER(t);
    t->act = what;
    next = link_sorts;
    volatile int r = link_first(t, one);
    (void)r;
    LEAVE(t);
}

NOINLINE void straight_chain(struct truth *t, act *what) {
    ENTER(t);
    t->act = what;
    next = link_alloca;
    volatile int r = link_first(t, one);
    (void)r;
    LEAVE(t);
}

/* Called by the first Rust link. */
NOINLINE void link_middle(struct truth *t) {
    ENTER(t);
    next(t);
    LEAVE(t);
}
