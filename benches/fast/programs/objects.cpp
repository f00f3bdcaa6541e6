// C++: a comparison of `std::sort`, a `std::function`, virtual functions, and one that has something to destroy.
#include "chain.h"
#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <string>

namespace {

struct Comparison {
    struct chain *&chain;
    uintptr_t &result;

    __attribute__((noinline)) bool operator()(int left, int right) const {
        if (struct chain *now = chain) {
            NOTE(now);
            chain = nullptr;
            result = proceed(now);
        }
        return left < right;
    }
};

uintptr_t by_sort(struct chain *chain) {
    std::array<int, 20> numbers{};
    for (int &number : numbers)
        number = static_cast<int>(20 - (&number - numbers.data()));
    NOTE(chain);
    struct chain *once = chain;
    uintptr_t result = 0;
    std::sort(numbers.begin(), numbers.end(), Comparison{once, result});
    chain->noted--;
    return result + static_cast<uintptr_t>(numbers[3]);
}

__attribute__((noinline)) uintptr_t call(struct chain *chain, const std::function<uintptr_t(struct chain *)> &what) {
    NOTE(chain);
    uintptr_t result = what(chain) + 1;
    chain->noted--;
    return result;
}

uintptr_t by_function(struct chain *chain) {
    NOTE(chain);
    uintptr_t seen = 3;
    uintptr_t result = call(chain, [&seen, extra = std::string(40, 'x')](struct chain *now) {
        NOTE(now);
        return proceed(now) + seen + extra.size();
    });
    chain->noted--;
    return result + seen;
}

struct Base {
    virtual ~Base() = default;
    virtual uintptr_t go(struct chain *chain) = 0;
};

struct First : Base {
    uintptr_t go(struct chain *chain) override {
        NOTE(chain);
        return proceed(chain) + 2;
    }
};

struct Second : Base {
    uintptr_t go(struct chain *chain) override {
        volatile uintptr_t room[30];
        NOTE(chain);
        room[7] = 4;
        return proceed(chain) + room[7];
    }
};

uintptr_t by_virtual(struct chain *chain) {
    NOTE(chain);
    std::unique_ptr<Base> object;
    if (reinterpret_cast<uintptr_t>(chain->next) & 8)
        object = std::make_unique<First>();
    else
        object = std::make_unique<Second>();
    uintptr_t result = object->go(chain);
    chain->noted--;
    return result;
}

} // namespace

LINKS = {by_sort, by_function, by_virtual, nullptr};
