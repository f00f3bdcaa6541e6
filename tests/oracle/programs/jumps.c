// Stack switches and jumps: longjmp through several frames, coroutines by makecontext on adjacent heap stacks that
// switch to each other directly, a coroutine on a local array, a hand-written switch, a call on another stack.
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define NOINLINE __attribute__((noinline, noclone))
#define STACK (64 << 10)

volatile long sink;
static jmp_buf out;
static ucontext_t home, one, two;

NOINLINE long leaf(long a) { return sink += a; }

NOINLINE void deep(int n) {
    if (n == 0)
        longjmp(out, 1);
    deep(n - 1);
    leaf(n);
}

NOINLINE void yields(ucontext_t *from, ucontext_t *to) {
    leaf(1);
    swapcontext(from, to);
    leaf(2);
}

static void first(int rounds) {
    for (int i = 0; i < rounds; i++)
        yields(&one, &two);
}

static void second(int rounds) {
    for (int i = 0; i < rounds; i++)
        yields(&two, &one);
}

static void once(void) { leaf(5); }

static void prepare(ucontext_t *context, char *stack, void (*body)(void), int rounds) {
    getcontext(context);
    context->uc_stack.ss_sp = stack;
    context->uc_stack.ss_size = STACK;
    context->uc_link = &home;
    makecontext(context, body, 1, rounds);
}

// Saves its callee-saved registers and rsp in *from, loads rsp from `to`, and returns there.
void hand_switch(void **from, void *to);
__asm__(".text\n"
        ".type hand_switch, @function\n"
        "hand_switch:\n"
        "    push %rbp\n"
        "    push %rbx\n"
        "    push %r12\n"
        "    mov %rsp, (%rdi)\n"
        "    mov %rsi, %rsp\n"
        "    pop %r12\n"
        "    pop %rbx\n"
        "    pop %rbp\n"
        "    ret\n"
        ".size hand_switch, . - hand_switch\n");

static void *hand_home, *hand_other;

static void hand_body(void) {
    for (;;) {
        leaf(3);
        hand_switch(&hand_other, hand_home);
    }
}

// Calls `body` on the stack that ends at `top`.
long call_on(char *top, long (*body)(long), long argument);
__asm__(".text\n"
        ".type call_on, @function\n"
        "call_on:\n"
        "    .cfi_startproc\n"
        "    push %rbx\n"
        "    .cfi_def_cfa_offset 16\n"
        "    .cfi_offset rbx, -16\n"
        "    mov %rsp, %rbx\n"
        "    .cfi_def_cfa_register rbx\n"
        "    mov %rdi, %rsp\n"
        "    mov %rdx, %rdi\n"
        "    call *%rsi\n"
        "    mov %rbx, %rsp\n"
        "    .cfi_def_cfa_register rsp\n"
        "    pop %rbx\n"
        "    .cfi_def_cfa_offset 8\n"
        "    ret\n"
        "    .cfi_endproc\n"
        ".size call_on, . - call_on\n");

NOINLINE long on_other_stack(long a) { return leaf(a) + leaf(a + 1); }

int main(void) {
    for (int i = 0; i < 3; i++)
        if (setjmp(out) == 0)
            deep(5);

    char *stacks = malloc(3 * STACK);
    for (int i = 0; i < 3; i++) {
        // Both orders: downwards and upwards between neighbours.
        prepare(&one, stacks + (i & 1) * STACK, (void (*)(void))first, 3);
        prepare(&two, stacks + (1 - (i & 1)) * STACK, (void (*)(void))second, 3);
        swapcontext(&home, &one);
        leaf(i);
    }

    char local[STACK];
    prepare(&one, local, once, 0);
    swapcontext(&home, &one);
    leaf(local[0] & 1);

    void **top = (void **)(stacks + 3 * STACK - 64);
    top[3] = (void *)hand_body;
    hand_other = top;
    for (int i = 0; i < 3; i++) {
        hand_switch(&hand_home, hand_other);
        leaf(i);
    }
    leaf(call_on(stacks + 2 * STACK, on_other_stack, 4));
    printf("%ld\n", sink);
    return 0;
}
