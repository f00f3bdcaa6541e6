/* What a C program does with surestack.h. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <surestack.h>

#define CHECK(what) do { if (!(what)) { fprintf(stderr, "%d: %s\n", __LINE__, #what); exit(1); } } while (0)

static void *alternate_size(void *unused) {
    (void)unused;
    stack_t now;
    sigaltstack(0, &now);
    return (void *)(now.ss_flags & SS_DISABLE ? 0 : now.ss_size);
}

static int deep(volatile int depth) {
    volatile char room[256];
    room[depth % 256] = 1;
    return depth == -1 ? 0 : deep(depth + 1) + room[depth % 256];
}

static void *overflow(void *unused) {
    (void)unused;
    return (void *)(size_t)deep(0);
}

static void *in_thread(void *(*function)(void *)) {
    pthread_t thread;
    pthread_attr_t attributes;
    void *result = 0;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    CHECK(pthread_create(&thread, &attributes, function, 0) == 0);
    pthread_join(thread, &result);
    return result;
}

int main(int count, char **arguments) {
    const char *how = count > 1 ? arguments[1] : "";
    struct sigaction before, now;
    memset(&before, 0, sizeof before);
    memset(&now, 0, sizeof now);
    sigaction(SIGSEGV, 0, &before);
    surestack_options options;
    memset(&options, 0, sizeof options);
    CHECK(strstr(surestack_install(&options), "options of 0 bytes are not understood"));
    options.size = sizeof options;
    options.chain = 9;
    CHECK(strstr(surestack_install(&options), "9 is no value of `chain`"));
    options.chain = SURESTACK_CHAIN_AFTER;
    options.signals = 1ULL << (SIGKILL - 1);
    CHECK(strstr(surestack_install(&options), "signal 9 cannot be caught"));
    options.signals = 0;
    options.budget_ms = 2000;
    const char *refused = surestack_install(&options);
    if (refused) fprintf(stderr, "%s\n", refused);
    CHECK(!refused);
    CHECK(strstr(surestack_install(0), "installed already"));
    CHECK(surestack_refresh() >= 2);
    CHECK((size_t)in_thread(alternate_size) >= 16384);
    if (!strcmp(how, "crash")) *(volatile int *)8 = 1;
    if (!strcmp(how, "overflow")) in_thread(overflow);
    CHECK(surestack_uninstall() == 0);
    sigaction(SIGSEGV, 0, &now);
    CHECK(before.sa_handler == now.sa_handler && before.sa_flags == now.sa_flags);
    CHECK(memcmp(&before.sa_mask, &now.sa_mask, 8) == 0);
    CHECK(in_thread(alternate_size) == 0);
    CHECK(surestack_uninstall() == 0);
    return 0;
}
