// Chains a -> b -> c of every form of call. Each c says where it is, where it returns to, and where b returns to.
#include <cstdio>
#include <sys/mman.h>
#include <unistd.h>

// Where probes are put: a nop of five bytes.
#ifdef PROBED
#define PROBE asm volatile(".byte 0x0f, 0x1f, 0x44, 0x00, 0x00")
#else
#define PROBE
#endif

struct Seen {
  const char *name;
  void *in_a, *in_b, *pc;
};

extern "C" {
void library_plt(Seen *);
__attribute__((noplt)) void library_got(Seen *);
void picked(Seen *);
void thrown(Seen *, int);
}

#define NOINLINE __attribute__((noinline, noclone, noipa))
#define KEEP asm volatile("" ::: "memory")

NOINLINE void c(Seen *seen) {
  seen->in_b = __builtin_return_address(0);
  asm volatile("lea 0(%%rip), %0" : "=r"(seen->pc));
  PROBE;
  KEEP;
}
NOINLINE __attribute__((cold)) void c_cold(Seen *seen) {
  seen->in_b = __builtin_return_address(0);
  asm volatile("lea 0(%%rip), %0" : "=r"(seen->pc));
  KEEP;
}
NOINLINE void other(Seen *seen, long by) { seen->name += by; KEEP; }

NOINLINE void b(Seen *seen) {
  seen->in_a = __builtin_return_address(0);
  c(seen);
  KEEP;
}
NOINLINE void direct(Seen *seen) { b(seen); KEEP; }
NOINLINE void through_plt(Seen *seen) { library_plt(seen); KEEP; }
NOINLINE void through_got(Seen *seen) { library_got(seen); KEEP; }
NOINLINE void through_ifunc(Seen *seen) { picked(seen); KEEP; }

NOINLINE void b_cold(Seen *seen, long rare) {
  seen->in_a = __builtin_return_address(0);
  if (__builtin_expect(rare != 0, 0)) {
    other(seen, rare - rare);
    c_cold(seen);
    other(seen, 0);
  }
  KEEP;
}
NOINLINE void split(Seen *seen, long rare) { b_cold(seen, rare); KEEP; }

NOINLINE void b_switch(Seen *seen, long which) {
  seen->in_a = __builtin_return_address(0);
  switch (which) {
    case 0: other(seen, 1); break;
    case 1: other(seen, 2); other(seen, -3); break;
    case 2: other(seen, 3); other(seen, -4); break;
    case 3: c(seen); other(seen, 0); break;
    case 4: other(seen, 4); other(seen, -5); break;
    case 5: other(seen, 5); other(seen, -6); break;
    case 6: other(seen, 6); other(seen, -7); break;
  }
  KEEP;
}
NOINLINE void switched(Seen *seen, long which) { b_switch(seen, which); KEEP; }

// The chain has one frame less than it has functions: `first` jumps to `second`, which jumps to `last`.
NOINLINE void last(Seen *seen) {
  seen->in_a = __builtin_return_address(0);
  c(seen);
  KEEP;
}
NOINLINE void second(Seen *seen) { return last(seen); }
NOINLINE void first(Seen *seen) { return second(seen); }
NOINLINE void tail(Seen *seen) { first(seen); KEEP; }

NOINLINE void b_caught(Seen *seen) {
  seen->in_a = __builtin_return_address(0);
  try {
    thrown(seen, 1);
  } catch (int) {
    c(seen);
    other(seen, 0);
  }
  KEEP;
}
NOINLINE void caught(Seen *seen) { b_caught(seen); KEEP; }

#ifdef ONE_FILE
#include "library.cc"
#endif

static void show(Seen seen) {
  std::printf("%s %p %p %p\n", seen.name, seen.in_a, seen.in_b, seen.pc);
}

int main(int argc, char **) {
#ifdef PROBED
  // Code that belongs to no file, near enough for a call.
  char *near = (char *)((unsigned long)&show & ~0xfffUL) - (64 << 20);
  mmap(near, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
#endif
  Seen seen{"direct", 0, 0, 0};
  direct(&seen), show(seen);
  seen.name = "plt", through_plt(&seen), show(seen);
  seen.name = "got", through_got(&seen), show(seen);
  seen.name = "ifunc", through_ifunc(&seen), show(seen);
  seen.name = "cold", split(&seen, argc), show(seen);
  seen.name = "switch", switched(&seen, argc + 2), show(seen);
  seen.name = "tail", tail(&seen), show(seen);
  seen.name = "landing-pad", caught(&seen), show(seen);
  std::puts("done");
  std::fflush(stdout);
  pause();
}
