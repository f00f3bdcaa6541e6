// Threads: each with its own chain, signalled from another, ended by return and by pthread_exit.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define NOINLINE __attribute__((noinline, noclone))

static _Thread_local long mine;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long shared;

NOINLINE long leaf(long a) { return mine += a; }

NOINLINE void work(int n) {
    for (int i = 0; i < n; i++) {
        void *p = malloc(16 + leaf(i) % 64);
        pthread_mutex_lock(&lock);
        shared += leaf(i);
        pthread_mutex_unlock(&lock);
        free(p);
    }
}

static void handler(int signal) { leaf(signal); }

static void *returns(void *argument) {
    work((int)(long)argument);
    return 0;
}

static void *exits(void *argument) {
    work((int)(long)argument);
    pthread_exit(argument);
}

int main(void) {
    pthread_t threads[4];
    signal(SIGUSR1, handler);
    for (long i = 0; i < 4; i++)
        pthread_create(&threads[i], 0, i & 1 ? exits : returns, (void *)(10 + i));
    pthread_kill(threads[0], 0);
    work(10);
    raise(SIGUSR1);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], 0);
    printf("%ld\n", shared);
    return 0;
}
