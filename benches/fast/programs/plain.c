// Ordinary C functions. The first is the recursive one; the last calls the leaf.
#include "chain.h"
#include <alloca.h>
#include <string.h>

static uintptr_t recurse(struct chain *chain) {
    NOTE(chain);
    return proceed(chain);
}

static uintptr_t with_buffer(struct chain *chain) {
    volatile char buffer[200];
    NOTE(chain);
    buffer[17] = 1;
    return proceed(chain) + (uintptr_t)buffer[17];
}

// Every register that is saved by who is called.
static uintptr_t with_registers(struct chain *chain) {
    uintptr_t a = (uintptr_t)chain->next, b = a * 3, c = b ^ 5, d = c + a, e = d * b, f = e - c;
    NOTE(chain);
    __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e));
    uintptr_t result = proceed(chain);
    __asm__ volatile("" : "+r"(f));
    return result + ((a + b + c + d + e + f) & 1);
}

static uintptr_t with_some_registers(struct chain *chain) {
    uintptr_t a = (uintptr_t)chain->noted;
    NOTE(chain);
    uintptr_t result = proceed(chain);
    __asm__ volatile("" : "+r"(a));
    return result + (a & 1);
}

// More than a page.
static uintptr_t with_large_buffer(struct chain *chain) {
    volatile char buffer[5000];
    NOTE(chain);
    buffer[4000] = 1;
    return proceed(chain) + (uintptr_t)buffer[4000];
}

// Its frame is found by the frame pointer, in either build.
static uintptr_t with_alloca(struct chain *chain) {
    NOTE(chain);
    volatile char *buffer = alloca(64 + ((uintptr_t)chain->next & 64));
    buffer[3] = 1;
    return proceed(chain) + (uintptr_t)buffer[3];
}

static uintptr_t with_copy(struct chain *chain) {
    struct chain copies[3];
    NOTE(chain);
    memset(copies, 1, sizeof copies);
    __asm__ volatile("" : : "r"(copies) : "memory");
    uintptr_t result = proceed(chain);
    return result + (copies[1].noted != 0);
}

static uintptr_t leaf(struct chain *chain) {
    void *frame = 0;
    NOTE(chain);
#ifdef FRAME_POINTERS
    frame = __builtin_frame_address(0);
#endif
    chain->leaf(chain, frame);
    chain->noted--;
    return 0;
}

LINKS = {recurse,           with_buffer, with_registers, with_some_registers,
         with_large_buffer, with_alloca, with_copy,      leaf, 0};
