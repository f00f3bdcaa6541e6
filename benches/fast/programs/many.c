// 10,000 functions, ten shapes of frames: a thousand of them, linked ten times between `FIRST` and `LAST`.
#include "chain.h"

#define LINK(number, before, after)                    \
    static uintptr_t f##number(struct chain *chain) {  \
        before;                                        \
        NOTE(chain);                                   \
        uintptr_t result = proceed(chain) + 1##number; \
        after;                                         \
        return result;                                 \
    }
#define ROOM(bytes) volatile char room[bytes]; room[1] = 1
#define KEEP1 uintptr_t a = (uintptr_t)chain->next
#define USE1 __asm__ volatile("" : "+r"(a))
#define KEEP3 KEEP1, b = a ^ 3, c = b * 5
#define USE3 __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c))

#define TEN(n)                          \
    LINK(n##0, , )                      \
    LINK(n##1, ROOM(24), )              \
    LINK(n##2, ROOM(120), )             \
    LINK(n##3, KEEP1, USE1)             \
    LINK(n##4, KEEP3, USE3)             \
    LINK(n##5, ROOM(40); KEEP1, USE1)   \
    LINK(n##6, ROOM(200); KEEP3, USE3)  \
    LINK(n##7, ROOM(1000), )            \
    LINK(n##8, KEEP1, USE1)             \
    LINK(n##9, ROOM(64), )
#define NAMES(n) f##n##0, f##n##1, f##n##2, f##n##3, f##n##4, f##n##5, f##n##6, f##n##7, f##n##8, f##n##9,
#define EACH(what, n)                                                                            \
    what(n##0) what(n##1) what(n##2) what(n##3) what(n##4) what(n##5) what(n##6) what(n##7) what(n##8) \
        what(n##9)
// The same again: no macro expands within itself.
#define EACH2(what, n)                                                                           \
    what(n##0) what(n##1) what(n##2) what(n##3) what(n##4) what(n##5) what(n##6) what(n##7) what(n##8) \
        what(n##9)
#define HUNDRED(n) EACH(TEN, n)
#define HUNDRED_NAMES(n) EACH(NAMES, n)
#define THOUSAND(n) EACH2(HUNDRED, n)
#define THOUSAND_NAMES(n) EACH2(HUNDRED_NAMES, n)

#define IN_THE_LIST __attribute__((section("many"), used))

#if defined FIRST
const link_at links[0] IN_THE_LIST;
#elif defined LAST
static const link_at end IN_THE_LIST = 0;
#else
THOUSAND(0)
static const link_at part[] IN_THE_LIST = {THOUSAND_NAMES(0)};
#endif
