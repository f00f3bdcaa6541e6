/* Faults of the main thread, at the bottom of the chain. */
#include "victim.h"
#include <assert.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

extern volatile int one;

#define LEAF(name, leaf, address)                                                                                      \
    NOINLINE static void act_##name(struct truth *t) {                                                                 \
        ENTER(t);                                                                                                      \
        truth_ready(t, (uint64_t)(address));                                                                           \
        leaf(t);                                                                                                       \
        LEAVE(t);                                                                                                      \
    }                                                                                                                  \
    static void run_##name(void) { AT_BOTTOM(the_truth, act_##name); }

static uint64_t zero;

static void *past_the_end(void) {
    char path[] = "/tmp/crash-mapping-XXXXXX";
    int fd = mkstemp(path);
    unlink(path);
    if (fd < 0 || ftruncate(fd, 4096))
        truth_unable(1);
    char *at = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return at == MAP_FAILED ? (truth_unable(1), NULL) : at + 4096;
}

/* Memory that holds return instructions but may not be run. */
static void *no_code(void) {
    void *at = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(at, 0xc3, 4096);
    mprotect(at, 4096, PROT_READ);
    return at;
}

static void *unmapped(void) {
    void *at = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(at, 4096);
    return at;
}

NOINLINE void act_null_read(struct truth *t) {
    ENTER(t);
    truth_ready(t, 0);
    leaf_read(t);
    LEAVE(t);
}
static void run_null_read(void) { AT_BOTTOM(the_truth, act_null_read); }
LEAF(null_write, leaf_write_frameless, 0)
LEAF(noncanonical, leaf_read, 0xdead00000000beef)
LEAF(read_only, leaf_write, act_null_read)
LEAF(bus, leaf_read, past_the_end())
LEAF(ill, leaf_ill, 0)
LEAF(divide, leaf_divide, &zero)
LEAF(int3, leaf_int3, 0)
LEAF(call_null, leaf_call, 0)
LEAF(call_unmapped, leaf_call, unmapped())
LEAF(call_heap, leaf_call, malloc(64))
LEAF(call_data, leaf_call, no_code())

NOINLINE static void act_smash_return(struct truth *t) {
    ENTER(t);
    truth_ready(t, 0x414141414141);
    leaf_return(t);
    LEAVE(t);
}
static void run_smash_return(void) { AT_BOTTOM(the_truth, act_smash_return); }

NOINLINE static void act_abort(struct truth *t) {
    ENTER(t);
    DIES_WITHIN(t, act_abort);
    abort();
}
static void run_abort(void) { AT_BOTTOM(the_truth, act_abort); }

NOINLINE static void act_assert(struct truth *t) {
    ENTER(t);
    DIES_WITHIN(t, act_assert);
    assert(one == 2);
    LEAVE(t);
}
static void run_assert(void) { AT_BOTTOM(the_truth, act_assert); }

NOINLINE static void act_double_free(struct truth *t) {
    ENTER(t);
    void *volatile p = malloc(40);
    free(p);
    DIES_WITHIN(t, act_double_free);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuse-after-free"
    free(p);
#pragma GCC diagnostic pop
    LEAVE(t);
}
static void run_double_free(void) { AT_BOTTOM(the_truth, act_double_free); }

__attribute__((stack_protect)) NOINLINE static void act_canary(struct truth *t) {
    char room[40];
    ENTER(t);
    DIES_WITHIN(t, act_canary);
    /* One word behind it lies the canary. */
    char *p = room;
    __asm__ volatile("" : "+r"(p) : : "memory");
    for (int i = 0; i < 44 * one; i++)
        p[i] = 'A';
    __asm__ volatile("" : : "r"(p) : "memory");
}
static void run_canary(void) { AT_BOTTOM(the_truth, act_canary); }

/* getppid becomes SIGSYS. */
static void trap_getppid(void) {
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {4, program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
        truth_unable(2);
}
NOINLINE static void act_sys(struct truth *t) {
    ENTER(t);
    truth_ready(t, 0);
    t->registers[0] = SYS_getppid;
    leaf_system_call(t);
    LEAVE(t);
}
static void run_sys(void) {
    trap_getppid();
    AT_BOTTOM(the_truth, act_sys);
}

/* Sent from outside: by the judge, who waits until the victim is armed. */
NOINLINE static void act_kill_wait(struct truth *t) {
    ENTER(t);
    DIES_WITHIN(t, act_kill_wait);
    for (;;)
        pause();
}
static void run_kill_wait(void) { AT_BOTTOM(the_truth, act_kill_wait); }
LEAF(kill_spin, leaf_spin, 0)

/* The unwind tables of the program cannot be read. */
static int hide_tables(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size;
    (void)unused;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_GNU_EH_FRAME) {
            uint64_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            const unsigned char *header = (const void *)begin;
            /* .eh_frame follows its header, in the same segment: hide up to that segment's end. */
            for (int j = 0; j < info->dlpi_phnum; j++) {
                uint64_t low = info->dlpi_addr + info->dlpi_phdr[j].p_vaddr, high = low + info->dlpi_phdr[j].p_memsz;
                if (info->dlpi_phdr[j].p_type == PT_LOAD && low <= begin && begin < high && header[0] == 1)
                    mprotect((void *)((begin + 4095) & ~4095ull), (high - begin) & ~4095ull, PROT_NONE);
            }
        }
    return 1; /* the program only */
}
NOINLINE static void act_no_tables(struct truth *t) {
    ENTER(t);
    truth_ready(t, 0);
    dl_iterate_phdr(hide_tables, 0);
    leaf_read(t);
    LEAVE(t);
}
static void run_no_tables(void) { AT_BOTTOM(the_truth, act_no_tables); }

/* Nothing but the lowest pages of the stack is mapped any more. */
NOINLINE static void act_unmap_above(struct truth *t) {
    ENTER(t);
    truth_ready(t, 0);
    char *here = __builtin_frame_address(0);
    uint64_t cut = ((uint64_t)here & ~4095ull) + 4096;
    munmap((void *)cut, 64 * 4096);
    leaf_read(t);
    LEAVE(t);
}
NOINLINE static void deeper(struct truth *t, int n) {
    ENTER(t);
    char room[512];
    __asm__ volatile("" : : "r"(room) : "memory");
    if (n)
        deeper(t, n - 1);
    else
        act_unmap_above(t);
    __asm__ volatile("" : : "r"(room) : "memory");
    LEAVE(t);
}
NOINLINE static void deep_enough(struct truth *t) {
    ENTER(t);
    deeper(t, 24);
    LEAVE(t);
}
static void run_unmap_above(void) { AT_BOTTOM(the_truth, deep_enough); }

/* A frame of generated code, with a frame pointer and nothing else, calls back. */
NOINLINE static void back_from_jit(struct truth *t) {
    ENTER(t);
    truth_ready(t, 0);
    leaf_read(t);
    LEAVE(t);
}
NOINLINE static void act_jit(struct truth *t) {
    ENTER(t);
    /* push rbp; mov rbp, rsp; push rbx; push rbx; call rsi; pop rbx; pop rbx; pop rbp; ret */
    static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0x53, 0x53, 0xff, 0xd6, 0x5b, 0x5b, 0x5d, 0xc3};
    unsigned char *at = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(at, code, sizeof code);
    mprotect(at, 4096, PROT_READ | PROT_EXEC);
    truth_push(t, KIND_WITHIN, (uint64_t)act_jit);
    ((void (*)(struct truth *, act *))at)(t, back_from_jit);
    LEAVE(t);
    LEAVE(t);
}
static void run_jit(void) { AT_BOTTOM(the_truth, act_jit); }

const struct scene fault_scenes[] = {
    {"null_read", run_null_read},
    {"null_write", run_null_write},
    {"noncanonical", run_noncanonical},
    {"read_only", run_read_only},
    {"bus", run_bus},
    {"ill", run_ill},
    {"divide", run_divide},
    {"int3", run_int3},
    {"abort", run_abort},
    {"assert", run_assert},
    {"double_free", run_double_free},
    {"canary", run_canary},
    {"sys", run_sys},
    {"call_null", run_call_null},
    {"call_unmapped", run_call_unmapped},
    {"call_heap", run_call_heap},
    {"call_data", run_call_data},
    {"smash_return", run_smash_return},
    {"kill_wait", run_kill_wait},
    {"kill_spin", run_kill_spin},
    {"no_tables", run_no_tables},
    {"unmap_above", run_unmap_above},
    {"jit", run_jit},
    {0, 0},
};
