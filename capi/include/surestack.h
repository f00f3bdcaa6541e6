/* surestack: the crash handler, for C and C++ programs on x86_64 Linux.
 *
 *     const char *refused = surestack_install(NULL);
 *     if (refused) fprintf(stderr, "no crash handler: %s\n", refused);
 *
 * From then on SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP and SIGSYS in any thread leave a report. Whoever runs the
 * program may change that by SURESTACK_DISABLE, SURESTACK_DIR, SURESTACK_FORMAT, SURESTACK_BUDGET_MS and RUST_BACKTRACE,
 * which come before the options below.
 *
 * None of these functions may be called in a signal handler. Link with libsurestack_capi.so, or with libsurestack_capi.a,
 * -lpthread, -ldl, -lm and -lgcc_s. For a program without a dynamic loader (-static) the library has to be built with
 * RUSTFLAGS="-C target-feature=+crt-static".
 */
#ifndef SURESTACK_H
#define SURESTACK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* When the handlers that were there before get their turn. */
enum { SURESTACK_CHAIN_AFTER = 0, SURESTACK_CHAIN_BEFORE = 1, SURESTACK_CHAIN_NEVER = 2 };

/* Which threads get an alternate stack. */
enum { SURESTACK_STACKS_EVERY_THREAD = 0, SURESTACK_STACKS_THIS = 1, SURESTACK_STACKS_NONE = 2 };

/* Which threads are in a report. */
enum { SURESTACK_THREADS_ALL = 0, SURESTACK_THREADS_CRASHED = 1 };

/* Where the report is printed. */
enum { SURESTACK_TEXT_STDERR = 0, SURESTACK_TEXT_NONE = 1 };

/* What is zero has the value that surestack_install(NULL) takes. */
typedef struct surestack_options {
    size_t size;             /* sizeof(surestack_options) */
    const char *directory;   /* where records are written; it is made if it is not there */
    const char *helper;      /* path of the program that turns a record into text while the crashed process waits */
    uint64_t signals;        /* bit n - 1 for signal n */
    uint64_t budget_ms;      /* how long a report may take */
    uint32_t chain;
    uint32_t stacks;
    uint32_t threads;
    uint32_t text;
} surestack_options;

/* Installs the handler. NULL if that was done, or if SURESTACK_DISABLE=1 forbids it; else what was refused and what to do
 * about it. Then nothing is changed. The text stays for ever. */
const char *surestack_install(const surestack_options *options);

/* Puts everything back as it was. NULL if that was done; else what could not be, which does no harm. The text stays for
 * ever. */
const char *surestack_uninstall(void);

/* Has the handler know the libraries that are loaded now: to be called after dlopen and dlclose. Creating a thread does so
 * too. Returns how many there are, the program itself included. */
size_t surestack_refresh(void);

#ifdef __cplusplus
}
#endif

#endif
