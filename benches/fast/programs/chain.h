// What a stack is made of: links, each of which calls the next. Every one notes its return address: that is the truth
// that traces are held against.
#pragma once
#include <stdint.h>

struct chain {
    // Links to come; the last one calls `leaf`.
    uintptr_t (*const *next)(struct chain *);
    // The return addresses so far, outermost first.
    void **noted;
    // Where traces are taken, with the frame pointer where there is one.
    void (*leaf)(struct chain *, void *frame);
};

typedef uintptr_t link_of(struct chain *);
typedef link_of *link_at;

#define NOTE(chain) (*(chain)->noted++ = __builtin_return_address(0))

// Goes on to the next link, and takes the note back.
static inline __attribute__((always_inline)) uintptr_t proceed(struct chain *chain) {
    link_at next = *chain->next++;
    uintptr_t result = next(chain);
    chain->next--;
    chain->noted--;
    return result + 1;
}

#ifdef __cplusplus
#define LINKS extern "C" const link_at links[]; const link_at links[]
#else
#define LINKS const link_at links[]
#endif
