/* The parts of the victim, and how its functions keep their own call chain. */
#ifndef VICTIM_H
#define VICTIM_H

#define _GNU_SOURCE
#include "truth.h"

#define NOINLINE __attribute__((noinline, noclone))

/* Begins the calling function's frame: what it will return to. */
#define ENTER(t) truth_push(t, KIND_EXACT, (uint64_t)__builtin_return_address(0))
/* Ends it. Also keeps the last call from becoming a jump. */
#define LEAVE(t) truth_pop(t)
/* The calling function dies below this point, in a function that keeps no truth. */
#define DIES_WITHIN(t, function)                                                                                       \
    do {                                                                                                               \
        truth_push(t, KIND_WITHIN, (uint64_t)(function));                                                              \
        truth_push(t, KIND_LIBRARY, 0);                                                                                \
        truth_arm(t);                                                                                                  \
    } while (0)

typedef void act(struct truth *);

extern struct truth *the_truth;

void truth_map(void);
void truth_push(struct truth *t, uint64_t kind, uint64_t address);
void truth_pop(struct truth *t);
/* Empties the chain and puts in what called the caller, as libgcc's unwinder finds it while all is calm. */
void truth_begin(struct truth *t);
/* Enters for the chain so far where on the stack each address lies; called by the function that entered the last one. */
void truth_slots(struct truth *t);
/* Notes the time, the thread and the values that a leaf loads into the registers; r15 is to be `address`. */
void truth_ready(struct truth *t, uint64_t address);
/* The same, and whatever comes next is the handler's doing. */
void truth_arm(struct truth *t);
void truth_unable(int why);
/* Takes a child's status, as the truth about how it died. */
void truth_inner(int pid);

/* Calls `what` at the bottom of a chain of C and Rust functions, one of them called back by qsort. */
void chain(struct truth *t, act *what);
/* The same without libraries in between. */
void straight_chain(struct truth *t, act *what);

/* From leaf.S: each loads known values into all registers and executes one instruction. */
act leaf_read, leaf_write, leaf_write_frameless, leaf_ill, leaf_divide, leaf_int3, leaf_spin;
act leaf_call, leaf_return, leaf_system_call;
/* Ends the single stepper's run to the start of its work. */
void begin_here(void);

/* From the Rust half. */
void rust_first(struct truth *t);
void rust_second(struct truth *t);
/* Installs the contender that the environment names; for scenes that begin before main. */
void install_contender(void);

/* Runs the scene of this name; -1 if there is none. */
int run_scene(const char *name);
/* Before the contender is installed, for scenes that need that; returns for the process that is to go on. */
void prepare_scene(const char *name);

struct scene {
    const char *name;
    void (*run)(void);
};
extern const struct scene fault_scenes[], thread_scenes[], lock_scenes[], process_scenes[], edge_scenes[];

/* Runs `what` at the bottom of the chain, begun here. */
#define AT_BOTTOM(t, what)                                                                                             \
    do {                                                                                                               \
        truth_begin(t);                                                                                                \
        chain(t, what);                                                                                                \
    } while (0)

act act_null_read, act_overflow, link_alloca;
#endif
