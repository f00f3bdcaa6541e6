/* main <- outer <- mid <- leaf, which waits; no call is in tail position. Waits for a nop that somebody may probe, too.
   With a second argument it does not wait, but shows what backtrace() says there. */
#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define KEPT __attribute__((noinline, noclone))

volatile int rounds = 1;
static volatile int kept;

static int reporting;
KEPT void report(void) {
    void *pcs[64];
    int count = backtrace(pcs, 64);
    for (int i = 0; i < count; i++)
        dprintf(1, "pc %p\n", pcs[i]);
    char text[4096];
    int maps = open("/proc/self/maps", O_RDONLY);
    for (long size; (size = read(maps, text, sizeof text)) > 0;)
        write(1, text, size);
    _exit(0);
}
static inline __attribute__((always_inline)) void waits(void) {
    char ready = 'r';
    if (reporting)
        report();
    write(1, &ready, 1);
    for (int i = 0; i < rounds; i++)
        pause();
}

KEPT int leaf(int x) {
    waits();
    kept += x;
    return kept;
}
KEPT int mid(int x) { return leaf(x + 1) + kept; }
KEPT int outer(int x) { return mid(x + 1) + kept; }

KEPT int probed(int x) {
    __asm__ volatile(".globl site\nsite: .byte 0x0f, 0x1f, 0x44, 0x00, 0x00");
    kept += x;
    return kept;
}
KEPT int loop(void) {
    int sum = 0;
    for (;;)
        sum += probed(1);
    return sum;
}
KEPT int looping(void) { return loop() + kept; }

/* A breakpoint that the program plants itself, over the first instruction of a function. */
__asm__(".text\n.globl victim\n.type victim,@function\n.p2align 4\n"
        "victim:\n.cfi_startproc\n push %rbx\n.cfi_def_cfa_offset 16\n.cfi_offset %rbx,-16\n"
        " mov %edi,%ebx\n call abs\n add %ebx,%eax\n pop %rbx\n.cfi_def_cfa_offset 8\n ret\n.cfi_endproc\n"
        ".size victim,.-victim\n");
int victim(int);
KEPT int caller1(int x) { return victim(x + 1) + kept; }
KEPT int caller2(int x) { return caller1(x + 1) + kept; }
KEPT void on_trap(int signal, siginfo_t *info, void *context) {
    kept = signal + info->si_code + (context != 0);
    waits();
    kept++;
}
KEPT void on_alarm(int signal) {
    kept = signal;
    report();
}

/* Every shape of frame, for breakpoints over every instruction. */
KEPT int framed(int x) {
    volatile int local[8] = {x};
    return local[x & 7] + kept;
}
KEPT int red_zone(int x) {
    volatile int local[4];
    local[x & 3] = x;
    return local[x & 3];
}
KEPT int saves(int a, int b, int c) {
    int d = red_zone(a), e = red_zone(b), f = red_zone(c);
    return a + b * c + d + e * f + kept;
}
KEPT int dynamic(int n) {
    char *room = __builtin_alloca(n + 16);
    memset(room, n, n + 16);
    return room[n] + kept;
}
KEPT int shapes(int n) { return framed(n) + saves(n, n + 1, n + 2) + dynamic(n) + kept; }

#include <sys/mman.h>

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "wait";
    void *first[1];
    reporting = argc > 2 ? backtrace(first, 1) : 0;
    if (strcmp(what, "loop") == 0) {
        struct itimerval soon = {.it_value.tv_usec = reporting ? 100000 : 0};
        signal(SIGALRM, on_alarm);
        setitimer(ITIMER_REAL, &soon, 0);
        return looping();
    }
    if (strcmp(what, "shapes") == 0)
        return shapes(2) & 1;
    if (strcmp(what, "handled") == 0) {
        struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
        sigaction(SIGTRAP, &action, 0);
    }
    if (strcmp(what, "trap") == 0 || strcmp(what, "handled") == 0) {
        char *page = (char *)((unsigned long)victim & ~4095ul);
        mprotect(page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC);
        *(volatile unsigned char *)victim = 0xcc;
        mprotect(page, 8192, PROT_READ | PROT_EXEC);
        return caller2(1);
    }
    return outer(1) & 1;
}
