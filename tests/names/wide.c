/* The rounds of a deep stack that are C: in the C library through qsort, and through functions that are inlined. */
#include <stdlib.h>

typedef void (*next)(void *);

struct order {
  next call;
  void *with;
  int called;
};

static struct order *order;

static inline __attribute__((always_inline)) void pass_on(struct order *what) {
  if (!what->called++) what->call(what->with);
}

static int compare(const void *left, const void *right) {
  struct order *mine = order;
  pass_on(mine);
  order = mine;
  return *(const int *)left - *(const int *)right;
}

__attribute__((noinline)) static int sorted(int *numbers, size_t count) {
  qsort(numbers, count, sizeof *numbers, compare);
  return numbers[0];
}

int wide_c(next call, void *with) {
  struct order mine = {call, with, 0};
  struct order *before = order;
  int numbers[] = {3, 1, 2};
  order = &mine;
  int least = sorted(numbers, 3);
  order = before;
  return least + 1;
}
