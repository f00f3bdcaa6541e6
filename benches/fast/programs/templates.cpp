// C++: templates that call each other, and functions that catch.
#include "chain.h"
#include <stdexcept>
#include <vector>

namespace {

template <int LEFT> struct Level {
    static __attribute__((noinline)) uintptr_t go(struct chain *chain) {
        volatile char room[8 + 16 * LEFT];
        NOTE(chain);
        room[LEFT] = LEFT;
        uintptr_t result = Level<LEFT - 1>::go(chain) + static_cast<uintptr_t>(room[LEFT]);
        chain->noted--;
        return result;
    }
};

template <> struct Level<0> {
    static __attribute__((noinline)) uintptr_t go(struct chain *chain) {
        NOTE(chain);
        return proceed(chain);
    }
};

uintptr_t by_catching(struct chain *chain) {
    NOTE(chain);
    std::vector<uintptr_t> results(3);
    try {
        results.at(1) = proceed(chain);
    } catch (const std::out_of_range &) {
        return 0;
    }
    return results.back() + results[1];
}

uintptr_t aligned(struct chain *chain) {
    alignas(64) volatile char room[128];
    NOTE(chain);
    room[5] = 1;
    return proceed(chain) + static_cast<uintptr_t>(room[5]);
}

} // namespace

LINKS = {Level<0>::go, Level<1>::go, Level<2>::go, by_catching, aligned, nullptr};
