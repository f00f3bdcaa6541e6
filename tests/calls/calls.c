// System calls at the last instruction of a function, and stops at odd places; one scene per word on the command line.
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// `ends` makes the system call r8 as its last instruction and runs on into `begins` when the call fails.
// `skips` does so with a return address of `far` on top of the stack, where `lands` would have its own.
__asm__(".text\n"
        ".globl ends, begins, skips, lands, host, old_time\n"
        ".type ends, @function\n"
        "ends: .cfi_startproc\n"
        "  mov %r8d, %eax\n"
        "  syscall\n"
        "  .cfi_endproc\n"
        ".size ends, .-ends\n"
        ".type begins, @function\n"
        "begins: .cfi_startproc\n"
        "  ret\n"
        "  .cfi_endproc\n"
        ".size begins, .-begins\n"
        ".type host, @function\n"
        "host: .cfi_startproc\n"
        "  mov (%rsp), %rcx\n"
        "  call skips\n"
        "  ret\n"
        "  .cfi_endproc\n"
        ".size host, .-host\n"
        ".type skips, @function\n"
        "skips: .cfi_startproc\n"
        "  push %rcx\n"
        "  .cfi_adjust_cfa_offset 8\n"
        "  mov $34, %eax\n"
        "  syscall\n"
        "  .cfi_endproc\n"
        ".size skips, .-skips\n"
        ".type lands, @function\n"
        "lands: .cfi_startproc\n"
        "  ret\n"
        "  .cfi_endproc\n"
        ".size lands, .-lands\n"
        ".type old_time, @function\n"
        "old_time: .cfi_startproc\n"
        "  xor %edi, %edi\n"
        "  mov $0xffffffffff600400, %rax\n"
        "  call *%rax\n"
        "  ret\n"
        "  .cfi_endproc\n"
        ".size old_time, .-old_time\n");
long ends(const void *first, void *second, long third, long fourth, long number);
long host(void);
long old_time(void);

#define APART __attribute__((noinline, noclone))
volatile long sink;

APART static void ready(void) {
    puts("ready");
    fflush(stdout);
}

APART static void caught(int signal) {
    sink = signal;
    for (;;) pause();
}

APART static void on_signal(int flags) {
    struct sigaction action = {.sa_handler = caught, .sa_flags = flags};
    sigaction(SIGUSR1, &action, NULL);
}

APART long idle(long n) { return n + sink; }

// The chain goes on by the frame pointer, whatever the stack pointer is.
APART static long far(long (*volatile callee)(void)) {
    callee();
    return sink;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    const struct timespec minute = {60, 0};
    struct timespec now;
    on_signal(!strcmp(what, "restarted") ? SA_RESTART : 0);
    sink = idle(1);
    ready();
    if (!strcmp(what, "skips")) far(host);
    // nanosleep goes on with another system call, pause and pipe reads with the same.
    if (!strcmp(what, "sleeps")) ends(&minute, 0, 0, 0, SYS_nanosleep);
    if (!strcmp(what, "pauses")) ends(0, 0, 0, 0, SYS_pause);
    if (!strcmp(what, "restarted") || !strcmp(what, "failed")) {
        int pipes[2];
        char byte;
        sink = pipe(pipes);
        // read(0, ...) of a pipe that nobody writes to: begun anew after handlers that ask for it.
        dup2(pipes[0], 0);
        ends((void *)0, &byte, 1, 0, SYS_read);
    }
    if (!strcmp(what, "steps")) {
        raise(SIGSTOP);
        clock_gettime(CLOCK_MONOTONIC, &now);
        old_time();
        raise(SIGSTOP);
    }
    if (!strcmp(what, "traced") || !strcmp(what, "filtered")) {
        struct sock_filter filter[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = {4, filter};
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (!strcmp(what, "filtered")) prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
        raise(SIGSTOP);
        ends(0, 0, 0, 0, SYS_getppid);
    }
    return 0;
}
