/* Code that changes while nobody maps anything, or while somebody else is mapped where it was. With -DLIBRARY=N a library
   whose function has another frame for each N. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define KEPT __attribute__((noinline, noclone))

static volatile int kept;

#ifdef LIBRARY
int entered(int (*back)(int), int x) {
    volatile char room[LIBRARY * 48] = {x};
    return back(x + 1) + room[0] + kept;
}
#else
KEPT static int back(int x) {
    kept += x;
    return kept;
}

/* Four bytes of prologue, `call *%rdi`, an epilogue: the call returns to the same address in both. */
static const unsigned char small[] = {0x53, 0x90, 0x90, 0x90, 0xff, 0xd7, 0x5b, 0xc3};
static const unsigned char large[] = {0x48, 0x83, 0xec, 0x28, 0xff, 0xd7, 0x48, 0x83, 0xc4, 0x28, 0xc3};

KEPT static int jit(void) {
    unsigned char *code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int (*made)(int (*)(int)) = (int (*)(int (*)(int)))code;
    for (int i = 0; i < 6; i++) {
        if (i & 1)
            memcpy(code, large, sizeof large);
        else
            memcpy(code, small, sizeof small);
        kept += made(back);
    }
    return kept;
}

KEPT static int load(const char *path) {
    void *library = dlopen(path, RTLD_NOW);
    if (!library)
        exit(2);
    int (*entered)(int (*)(int), int) = (int (*)(int (*)(int), int))dlsym(library, "entered");
    kept += entered(back, 1) + entered(back, 2);
    dlclose(library);
    return kept;
}

/* Each of these is bound by its first call. */
KEPT static int bind(const char *text) {
    for (int i = 0; i < 3; i++) {
        kept += atoi(text) + (int)strtol(text, 0, 16);
        kept += getppid() + (int)labs(kept);
    }
    return kept;
}

/* Half a megabyte of stack, which the kernel maps while it is used. */
KEPT static int grow(int depth) {
    volatile char room[256] = {depth};
    return depth == 0 ? back(1) : grow(depth - 1) + room[depth & 255];
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "load") == 0)
        for (int i = 2; i < argc; i++)
            load(argv[i]);
    if (argc > 1 && strcmp(argv[1], "jit") == 0)
        jit();
    if (argc > 1 && strcmp(argv[1], "grow") == 0)
        grow(2000);
    if (argc > 1 && strcmp(argv[1], "bind") == 0)
        bind(argc > 2 ? argv[2] : "12");
    return 0;
}
#endif
