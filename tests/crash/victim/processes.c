/* Children of every kind, and surroundings that deny something. */
#include "victim.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

extern volatile int one;

static void null_read(void) { AT_BOTTOM(the_truth, act_null_read); }

static void in_child(void (*what)(void)) {
    int child = fork();
    if (child < 0)
        truth_unable(1);
    if (child == 0) {
        what();
        _exit(0);
    }
    truth_inner(child);
}
static void run_fork_child(void) { in_child(null_read); }

static void *body_allocates(void *unused) {
    for (;;) {
        char *volatile p[16];
        for (int i = 0; i < 16; i++)
            p[i] = malloc((size_t)(i * 100 + 8));
        for (int i = 0; i < 16; i++)
            free(p[i]);
    }
    return unused;
}
static void run_fork_busy_child(void) {
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        pthread_create(&thread, 0, body_allocates, 0);
    }
    usleep(5000);
    in_child(null_read);
    _exit(0);
}
static void run_vfork_child(void) {
    int child = vfork();
    if (child == 0) {
        null_read();
        _exit(0);
    }
    truth_inner(child);
}

/* PID 1 of its own namespace: see prepare_scene. */
NOINLINE static void act_abort_here(struct truth *t) {
    ENTER(t);
    DIES_WITHIN(t, act_abort_here);
    abort();
}
static void run_pid1(void) { null_read(); }
static void run_pid1_abort(void) { AT_BOTTOM(the_truth, act_abort_here); }

static void filter(const int *calls, unsigned count, uint32_t answer) {
    struct sock_filter program[16] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0)};
    unsigned n = 1;
    for (unsigned i = 0; i < count; i++)
        program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i], (uint8_t)(count - i), 0);
    program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, answer);
    struct sock_fprog all = {(unsigned short)n, program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &all))
        truth_unable(2);
}
static void run_no_ptrace(void) {
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
        truth_unable(2);
    const int calls[] = {SYS_ptrace};
    filter(calls, 1, SECCOMP_RET_ERRNO | EPERM);
    null_read();
}
static void run_no_vm_readv(void) {
    const int calls[] = {SYS_process_vm_readv, SYS_process_vm_writev, SYS_ptrace};
    filter(calls, 3, SECCOMP_RET_ERRNO | EPERM);
    null_read();
}
static void run_kill_on_open(void) {
    const int calls[] = {SYS_open, SYS_openat, 437 /* openat2 */, SYS_creat, SYS_process_vm_readv};
    filter(calls, 5, SECCOMP_RET_KILL_PROCESS);
    null_read();
}

static void run_stderr_closed(void) {
    close(2);
    null_read();
}
static void run_stderr_full(void) {
    int ends[2];
    char room[4096];
    memset(room, 'x', sizeof room);
    if (pipe(ends) || fcntl(ends[1], F_SETFL, O_NONBLOCK))
        truth_unable(1);
    while (write(ends[1], room, sizeof room) > 0)
        ;
    while (write(ends[1], room, 1) > 0)
        ;
    fcntl(ends[1], F_SETFL, 0);
    dup2(ends[1], 2);
    close(ends[1]);
    null_read();
}
static void run_no_memory(void) {
    struct rlimit limit = {4096, 4096};
    setrlimit(RLIMIT_AS, &limit);
    null_read();
}
static void run_no_file_size(void) {
    struct rlimit limit = {0, 0};
    setrlimit(RLIMIT_FSIZE, &limit);
    null_read();
}
static void run_no_descriptors(void) {
    struct rlimit limit = {0, 0};
    setrlimit(RLIMIT_NOFILE, &limit);
    null_read();
}
static void run_exe_deleted(void) {
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0)
        truth_unable(1);
    path[n] = 0;
    if (unlink(path))
        truth_unable(1);
    null_read();
}

void prepare_scene(const char *name) {
    if (strncmp(name, "pid1", 4))
        return;
    if (unshare(CLONE_NEWPID))
        truth_unable(2);
    int child = fork();
    if (child) {
        truth_inner(child);
        _exit(0);
    }
}

const struct scene process_scenes[] = {
    {"fork_child", run_fork_child},
    {"fork_busy_child", run_fork_busy_child},
    {"vfork_child", run_vfork_child},
    {"pid1", run_pid1},
    {"pid1_abort", run_pid1_abort},
    {"no_ptrace", run_no_ptrace},
    {"no_vm_readv", run_no_vm_readv},
    {"kill_on_open", run_kill_on_open},
    {"stderr_closed", run_stderr_closed},
    {"stderr_full", run_stderr_full},
    {"no_memory", run_no_memory},
    {"no_file_size", run_no_file_size},
    {"no_descriptors", run_no_descriptors},
    {"exe_deleted", run_exe_deleted},
    {0, 0},
};
