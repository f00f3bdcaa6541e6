/* What a victim knows about itself, in a file it shares with its judge: src/truth.rs has the same layout. */
#ifndef TRUTH_H
#define TRUTH_H

#define TRUTH_ENTRIES 16384
#define TRUTH_COUNT 4

/* How an address of the chain is known. */
#define KIND_EXACT 1  /* the return address itself */
#define KIND_WITHIN 2 /* some address in the function that begins here */
#define KIND_LIBRARY 3 /* any frames of libraries, or none */
#define KIND_MANY 4    /* any frames of the function that begins here, or none */

/* Offsets that the assembly needs. */
#define AT_ARMED 8
#define AT_PC_KNOWN 24
#define AT_PC 32
#define AT_REGISTERS_KNOWN 40
#define AT_REGISTERS 48
#define AT_SURVIVED 192
#define AT_ADDRESS 208
#define AT_DEPTH 224
#define AT_CHAIN 232

#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>

struct entry {
    uint64_t kind, address, slot;
};

struct truth {
    uint64_t magic;
    uint64_t armed;             /* the fault is the next thing that happens */
    uint64_t tid;               /* of the thread it happens in */
    uint64_t pc_known, pc;      /* where it is interrupted */
    uint64_t registers_known;
    uint64_t registers[16];     /* in the order of DWARF's numbers */
    uint64_t inner_known, inner; /* how a child died, as waitpid said */
    uint64_t survived;          /* what must not happen: control came back from the fault */
    uint64_t unable;            /* the scene could not be set up: 1, or 2 when it is not for this machine */
    uint64_t address;           /* what the instruction that faults uses */
    uint64_t before;            /* the time in nanoseconds right before the fault */
    uint64_t depth;
    struct entry chain[TRUTH_ENTRIES]; /* outermost first */
    uint64_t calls[4];          /* counted by count.c while armed: allocator, locks, thread-locals, standard output */
    void (*act)(struct truth *);
};

_Static_assert(offsetof(struct truth, armed) == AT_ARMED, "armed");
_Static_assert(offsetof(struct truth, pc) == AT_PC, "pc");
_Static_assert(offsetof(struct truth, registers) == AT_REGISTERS, "registers");
_Static_assert(offsetof(struct truth, survived) == AT_SURVIVED, "survived");
_Static_assert(offsetof(struct truth, address) == AT_ADDRESS, "address");
_Static_assert(offsetof(struct truth, depth) == AT_DEPTH, "depth");
_Static_assert(offsetof(struct truth, chain) == AT_CHAIN, "chain");
#endif
#endif
