// A process to be recorded: threads at the ends of chains of calls, one of them in a signal handler.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static volatile int depth = 6;

#ifdef PADDING
// Moves all that follows.
__attribute__((noinline)) int padding(int value) { return value * depth + depth; }
#endif

static inline __attribute__((always_inline)) void inlined(void) { pause(); }

static __attribute__((noinline)) int waits(int value) {
    for (;;) inlined();
    return value + depth;
}

static __attribute__((noinline)) int recurses(int level) {
    return (level == 0 ? waits(level) : recurses(level - 1)) + depth;
}

static void handles(int signal) {
    (void)signal;
    waits(1);
}

static void *answers(void *unused) {
    recurses(depth);
    return unused;
}

static void *is_interrupted(void *unused) {
    pthread_kill(pthread_self(), SIGUSR1);
    return unused;
}

int main(void) {
    pthread_t thread[3];
    struct sigaction action = {.sa_handler = handles};
    sigaction(SIGUSR1, &action, NULL);
    pthread_create(&thread[0], NULL, answers, NULL);
    pthread_create(&thread[1], NULL, answers, NULL);
    pthread_create(&thread[2], NULL, is_interrupted, NULL);
    usleep(50000);
    puts("ready");
    fflush(stdout);
    recurses(3);
    return 0;
}
