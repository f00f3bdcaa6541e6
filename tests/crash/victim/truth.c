/* The truth: mapped from the file that the environment names, so that it outlives the victim. */
#include "victim.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <unwind.h>

struct truth *the_truth;

static void copy_maps(const char *truth) {
    char path[512], buffer[4096];
    snprintf(path, sizeof path, "%s.maps", truth);
    int from = open("/proc/self/maps", O_RDONLY), to = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    for (ssize_t n; from >= 0 && to >= 0 && (n = read(from, buffer, sizeof buffer)) > 0;)
        if (write(to, buffer, (size_t)n) != n)
            break;
    close(from);
    close(to);
}

void truth_map(void) {
    const char *path = getenv("CRASH_TRUTH");
    if (the_truth || !path)
        return;
    int fd = open(path, O_RDWR);
    void *at = mmap(0, sizeof(struct truth) * TRUTH_COUNT, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || at == MAP_FAILED) {
        perror(path);
        exit(70);
    }
    close(fd);
    copy_maps(path);
    the_truth = at;
    for (int i = 0; i < TRUTH_COUNT; i++)
        the_truth[i].magic = 0x7275746820746f6eull + (uint64_t)i;
}

void truth_push(struct truth *t, uint64_t kind, uint64_t address) {
    if (t->depth >= TRUTH_ENTRIES)
        truth_unable(1);
    t->chain[t->depth] = (struct entry){kind, address, 0};
    t->depth++;
}

void truth_pop(struct truth *t) {
    /* Who ran on over the fault is judged by the chain that was there at the fault. */
    if (!t->survived)
        t->depth--;
}

struct outer {
    unsigned seen, found;
    struct entry entries[256];
};

static _Unwind_Reason_Code outer_frame(struct _Unwind_Context *context, void *argument) {
    struct outer *outer = argument;
    uint64_t pc = _Unwind_GetIP(context), slot = _Unwind_GetCFA(context) - 8;
    /* The first two are truth_begin and its caller. */
    if (outer->seen++ >= 2 && pc && outer->found < 256)
        outer->entries[outer->found++] = (struct entry){KIND_EXACT, pc, slot};
    return _URC_NO_REASON;
}

NOINLINE void truth_begin(struct truth *t) {
    struct outer outer = {0};
    _Unwind_Backtrace(outer_frame, &outer);
    t->depth = 0;
    while (outer.found)
        t->chain[t->depth++] = outer.entries[--outer.found];
}

NOINLINE void truth_slots(struct truth *t) {
    struct outer outer = {0};
    _Unwind_Backtrace(outer_frame, &outer);
    if (outer.found != t->depth)
        truth_unable(1);
    for (uint64_t i = 0; i < t->depth; i++) {
        struct entry *entry = &t->chain[t->depth - 1 - i];
        /* Two ways to the same address, and it must lie where the second says. */
        if (outer.entries[i].address != entry->address || *(uint64_t *)outer.entries[i].slot != entry->address)
            truth_unable(1);
        entry->slot = outer.entries[i].slot;
    }
}

void truth_ready(struct truth *t, uint64_t address) {
    struct timespec now;
    t->tid = (uint64_t)syscall(SYS_gettid);
    clock_gettime(CLOCK_MONOTONIC, &now);
    t->before = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    t->address = address;
    for (uint64_t i = 0; i < 16; i++)
        t->registers[i] = 0x5157000000000000u + (i + 1) * 0x0000010305070b0du;
}

void truth_arm(struct truth *t) {
    truth_ready(t, 0);
    t->armed = 1;
}

void truth_unable(int why) {
    the_truth->unable = (uint64_t)why;
    _exit(71);
}

void truth_inner(int pid) {
    int status = 0;
    if (waitpid(pid, &status, 0) != pid)
        truth_unable(1);
    the_truth->inner = (uint64_t)status;
    the_truth->inner_known = 1;
}
