// Ordinary and odd frames: tail calls, alloca, realigned stack, qsort callbacks, call/pop and push/ret in inline
// assembly behind a skipped red zone, a popped and restored return address, vfork.
#define _GNU_SOURCE
#include <alloca.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

volatile long sink;

NOINLINE long leaf(long a) { return sink += a; }
NOINLINE long tail_target(long a) { return leaf(a) + 1; }
NOINLINE long tail_call(long a) { return tail_target(a * 3); }
long (*volatile indirect)(long) = tail_call;
NOINLINE long indirect_tail(long a) { return indirect(a + 1); }

NOINLINE long with_alloca(int n) {
    char *p = alloca(n);
    memset(p, n, n);
    return leaf(p[n - 1]) + leaf(p[0]);
}

NOINLINE long realigned(int n) {
    __attribute__((aligned(64))) char wide[128];
    memset(wide, n, sizeof wide);
    char *p = alloca(n);
    memset(p, 1, n);
    return leaf(wide[5]) + leaf(p[0]);
}

NOINLINE long call_pop(void) {
    long here;
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
                     "call 1f\n\t"
                     "1: pop %0\n\t"
                     "lea 128(%%rsp), %%rsp\n\t"
                     : "=r"(here)
                     :
                     : "memory");
    return here != 0;
}

NOINLINE long push_ret(void) {
    long seen = 0;
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
                     "lea 1f(%%rip), %0\n\t"
                     "push %0\n\t"
                     "ret\n\t"
                     "int3\n\t"
                     "1: mov $1, %0\n\t"
                     "lea 128(%%rsp), %%rsp\n\t"
                     : "+r"(seen)
                     :
                     : "memory");
    return seen;
}

// Takes its return address off the stack, works, and jumps to it.
long popped_return(void);
__asm__(".text\n"
        ".type popped_return, @function\n"
        "popped_return:\n"
        "    pop %rdx\n"
        "    mov $3, %eax\n"
        "    add $4, %rax\n"
        "    jmp *%rdx\n"
        ".size popped_return, . - popped_return\n");

// Returns to its caller's caller.
long skips_a_level(void);
long skipped(void);
__asm__(".text\n"
        ".type skipped, @function\n"
        "skipped:\n"
        "    add $8, %rsp\n"
        "    mov $7, %eax\n"
        "    ret\n"
        ".size skipped, . - skipped\n"
        ".type skips_a_level, @function\n"
        "skips_a_level:\n"
        "    call skipped\n"
        "    ud2\n"
        ".size skips_a_level, . - skips_a_level\n");

static int ascending(const void *a, const void *b) {
    int x = *(const int *)a, y = *(const int *)b;
    leaf(x);
    return (x > y) - (x < y);
}

NOINLINE long recursive(int n) { return n == 0 ? leaf(1) : recursive(n - 1) + leaf(n); }

NOINLINE int forks(void) {
    pid_t child = vfork();
    if (child == 0)
        _exit(3);
    int status = 0;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

int main(void) {
    int numbers[40];
    for (int i = 0; i < 40; i++)
        numbers[i] = (i * 7919) % 101;
    for (int i = 0; i < 4; i++) {
        leaf(indirect_tail(i));
        with_alloca(100 + i);
        realigned(40 + i);
        leaf(call_pop());
        leaf(push_ret());
        leaf(popped_return());
        leaf(skips_a_level());
        recursive(20);
    }
    qsort(numbers, 40, sizeof *numbers, ascending);
    leaf(forks());
    printf("%ld\n", sink);
    return 0;
}
