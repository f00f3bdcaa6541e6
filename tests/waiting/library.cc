// The functions that are called from another module.
#ifndef ONE_FILE
struct Seen {
  const char *name;
  void *in_a, *in_b, *pc;
};
#define NOINLINE __attribute__((noinline, noclone, noipa))
#define KEEP asm volatile("" ::: "memory")
#endif

NOINLINE static void library_c(Seen *seen) {
  seen->in_b = __builtin_return_address(0);
  asm volatile("lea 0(%%rip), %0" : "=r"(seen->pc));
  KEEP;
}

extern "C" {
void library_plt(Seen *seen) {
  seen->in_a = __builtin_return_address(0);
  library_c(seen);
  KEEP;
}
void library_got(Seen *seen) {
  seen->in_a = __builtin_return_address(0);
  library_c(seen);
  KEEP;
}
static void picked_here(Seen *seen) {
  seen->in_a = __builtin_return_address(0);
  library_c(seen);
  KEEP;
}
void (*pick(void))(Seen *) { return picked_here; }
void picked(Seen *) __attribute__((ifunc("pick")));
void thrown(Seen *, int what) {
  if (what) throw what;
}
}
