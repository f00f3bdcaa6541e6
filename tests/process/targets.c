// Processes to be stopped, one per word on the command line.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void ready(void) {
    puts("ready");
    fflush(stdout);
}

static void *sleeps(void *unused) {
    for (;;) pause();
    return unused;
}

static void *nothing(void *unused) { return unused; }

// Threads come and go without end.
static void *churns(void *unused) {
    for (;;) {
        pthread_t thread[8];
        int made = 0;
        while (made < 8 && pthread_create(&thread[made], NULL, nothing, NULL) == 0) made++;
        for (int i = 0; i < made; i++) pthread_join(thread[i], NULL);
    }
    return unused;
}

static volatile sig_atomic_t received;
static void count(int signal) { (void)signal; received++; }

// Says how many of the signals it sent to itself arrived, and whether each call came back as it should.
static void *timed_sleep(void *unused) {
    struct timespec t = {1, 0}, left = {0, 0};
    double before = now();
    int result = nanosleep(&t, &left);
    double took = now() - before;
    if (result != 0 || took < 1.0) printf("nanosleep %d after %f\n", result, took);
    return unused;
}

static void *timed_futex(void *unused) {
    static int word;
    struct timespec t = {1, 0};
    double before = now();
    long result = syscall(SYS_futex, &word, FUTEX_WAIT, 0, &t, NULL, 0);
    double took = now() - before;
    if (result != -1 || errno != ETIMEDOUT || took < 1.0) printf("futex %ld %s after %f\n", result, strerror(errno), took);
    return unused;
}

static int ends[2];
static void *timed_read(void *unused) {
    char byte;
    ssize_t result = read(ends[0], &byte, 1);
    if (result != 1) printf("read %zd %s\n", result, strerror(errno));
    return unused;
}

static int clone_main(void *unused) {
    (void)unused;
    for (;;) pause();
    return 0;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    pthread_t thread[300];
    if (!strcmp(what, "threads")) {
        for (int i = 0; i < 3; i++) pthread_create(&thread[i], NULL, sleeps, NULL);
    } else if (!strcmp(what, "churn")) {
        for (int i = 0; i < 25; i++) pthread_create(&thread[i], NULL, churns, NULL);
    } else if (!strcmp(what, "many")) {
        for (int i = 0; i < 220; i++) pthread_create(&thread[i], NULL, sleeps, NULL);
        for (int i = 220; i < 224; i++) pthread_create(&thread[i], NULL, churns, NULL);
    } else if (!strcmp(what, "headless")) {
        pthread_create(&thread[0], NULL, sleeps, NULL);
        ready();
        pthread_exit(NULL);
    } else if (!strcmp(what, "calls")) {
        if (pipe(ends)) return 1;
        void *(*bodies[])(void *) = {timed_sleep, timed_futex, timed_read};
        for (int i = 0; i < 3; i++) pthread_create(&thread[i], NULL, bodies[i], NULL);
        ready();
        pthread_join(thread[0], NULL);
        pthread_join(thread[1], NULL);
        char byte;
        while (read(0, &byte, 1) != 0) {}
        if (write(ends[1], "x", 1) != 1) return 1;
        pthread_join(thread[2], NULL);
        puts("done");
        return 0;
    } else if (!strcmp(what, "signals")) {
        // Real-time signals queue: none may be lost, none come twice.
        struct sigaction action = {.sa_handler = count};
        sigaction(SIGRTMIN, &action, NULL);
        ready();
        while (received < 30000) raise(SIGRTMIN);
        printf("received %d\n", received);
        return 0;
    } else if (!strcmp(what, "listens")) {
        struct sigaction action = {.sa_handler = count};
        sigaction(SIGRTMIN, &action, NULL);
        ready();
        char byte;
        while (read(0, &byte, 1) != 0) {}
        printf("received %d\n", received);
        return 0;
    } else if (!strcmp(what, "vfork")) {
        ready();
        pid_t child = vfork();
        if (child == 0) {
            struct timespec t = {60, 0};
            syscall(SYS_nanosleep, &t, NULL);
            _exit(0);
        }
        waitpid(child, NULL, 0);
    } else if (!strcmp(what, "clone")) {
        char *stack = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        clone(clone_main, stack + (1 << 20), CLONE_VM | SIGCHLD, NULL);
    } else if (!strcmp(what, "name")) {
        prctl(PR_SET_NAME, "a\xff)\n(\xfe z");
    } else if (!strcmp(what, "hidden")) {
        prctl(PR_SET_DUMPABLE, 0);
    } else if (!strcmp(what, "zombie")) {
        if (fork() == 0) _exit(0);
        int child = 0;
        siginfo_t info;
        waitid(P_ALL, 0, &info, WEXITED | WNOWAIT);
        child = info.si_pid;
        printf("ready %d\n", child);
        fflush(stdout);
        for (;;) pause();
    } else if (!strcmp(what, "short")) {
        for (int i = 0; i < 4; i++) pthread_create(&thread[i], NULL, churns, NULL);
        struct timespec t = {0, argc > 2 ? atol(argv[2]) : 0};
        ready();
        nanosleep(&t, NULL);
        return 0;
    }
    ready();
    for (;;) pause();
}
