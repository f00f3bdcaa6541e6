// A signal in the middle of a stack: the rest of it lies on the alternate stack, below the handler.
#define _GNU_SOURCE
#include "chain.h"
#include <signal.h>
#include <ucontext.h>

static struct chain *interrupted;

static void on_trap(int number, siginfo_t *information, void *context) {
    struct chain *chain = interrupted;
    (void)number, (void)information;
    // The interrupted instruction itself, and the return to the restorer.
    *chain->noted++ = (void *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    NOTE(chain);
    proceed(chain);
    chain->noted--;
}

static uintptr_t by_signal(struct chain *chain) {
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    NOTE(chain);
    sigaction(SIGTRAP, &action, 0);
    interrupted = chain;
    __asm__ volatile("int3" : : : "memory");
    chain->noted--;
    return 1;
}

LINKS = {by_signal, 0};
