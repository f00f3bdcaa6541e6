// Signals: on the ordinary and on the alternate stack, nested, a fault repaired by the handler, siglongjmp out of both.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

volatile long sink;
static sigjmp_buf out;

NOINLINE long leaf(long a) { return sink += a; }

static void inner(int signal) { leaf(signal); }

static void outer(int signal) {
    leaf(signal);
    raise(SIGUSR2);
    leaf(signal);
}

static void jumps_out(int signal) {
    leaf(signal);
    siglongjmp(out, signal);
}

// Steps over the two-byte `ud2`.
static void repairs(int signal, siginfo_t *info, void *context) {
    (void)info;
    ucontext_t *uc = context;
    leaf(signal);
    uc->uc_mcontext.gregs[REG_RIP] += 2;
}

static void handle(int signal, void (*handler)(int), int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags;
    sigaction(signal, &action, 0);
}

NOINLINE void faults(void) {
    leaf(1);
    __asm__ volatile("ud2");
    leaf(2);
}

int main(int argc, char **argv) {
    static char alternate[64 << 10];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, 0);
    int busy = argc > 1 ? atoi(argv[1]) : 0;

    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = repairs;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGILL, &action, 0);
    for (int round = 0; round < 4; round++) {
        handle(SIGUSR1, outer, round & 1 ? SA_ONSTACK : 0);
        handle(SIGUSR2, inner, round & 2 ? SA_ONSTACK : 0);
        raise(SIGUSR1);
        faults();
        handle(SIGHUP, jumps_out, round & 1 ? SA_ONSTACK : 0);
        if (sigsetjmp(out, 1) == 0)
            raise(SIGHUP);
        leaf(round);
    }
    handle(SIGUSR1, outer, SA_ONSTACK);
    handle(SIGUSR2, inner, 0);
    char text[64];
    for (int i = 0; i < busy; i++) {
        snprintf(text, sizeof text, "%d %s", i, "word");
        leaf(text[0]);
    }
    printf("%s\n", sink > 0 ? "done" : "nothing");
    return 0;
}
