// Through a `qsort` that calls back, through variable arguments, and through functions that the linker resolves.
#include "chain.h"
#include <stdarg.h>
#include <stdlib.h>

struct sorted {
    struct chain *chain;
    uintptr_t result;
};

#ifdef FRAME_POINTERS
// The C library's has no frame pointers, and a chase would end there.
static __attribute__((noinline)) void part(int *at, size_t count, int (*compare)(const void *, const void *)) {
    if (count > 2) {
        part(at, count / 2, compare);
        part(at + count / 2, count - count / 2, compare);
    } else if (count == 2 && compare(at, at + 1) > 0) {
        at[0] = at[1];
    }
    __asm__ volatile("");
}

static __attribute__((noinline)) void own_sort(void *at, size_t count, size_t size,
                                               int (*compare)(const void *, const void *)) {
    part(at, count * (size / sizeof(int)), compare);
    __asm__ volatile("");
}
#define qsort own_sort
#endif

static __thread struct sorted sorted;

static int compare(const void *left, const void *right) {
    struct sorted now = sorted;
    if (now.chain) {
        NOTE(now.chain);
        sorted.chain = 0;
        now.result = proceed(now.chain);
        sorted = now;
        sorted.chain = 0;
    }
    return *(const int *)left - *(const int *)right;
}

static uintptr_t by_qsort(struct chain *chain) {
    int numbers[4] = {4, 3, 2, 1};
    NOTE(chain);
    sorted = (struct sorted){chain, 0};
    qsort(numbers, 4, sizeof *numbers, compare);
    chain->noted--;
    return sorted.result + (uintptr_t)numbers[0];
}

static __attribute__((noinline)) uintptr_t with_arguments(struct chain *chain, int count, ...) {
    va_list arguments;
    uintptr_t sum = 0;
    NOTE(chain);
    va_start(arguments, count);
    while (count--)
        sum += (uintptr_t)va_arg(arguments, int);
    va_end(arguments);
    return proceed(chain) + sum;
}

static uintptr_t by_arguments(struct chain *chain) {
    NOTE(chain);
    uintptr_t result = with_arguments(chain, 7, 1, 2, 3, 4, 5, 6, 7);
    chain->noted--;
    return result;
}

uintptr_t resolved(struct chain *chain) {
    NOTE(chain);
    return proceed(chain);
}

static uintptr_t by_linkage(struct chain *chain) {
    NOTE(chain);
    uintptr_t result = resolved(chain);
    chain->noted--;
    return result;
}

LINKS = {by_qsort, by_arguments, by_linkage, 0};
