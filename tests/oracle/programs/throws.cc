// Exceptions: thrown through frames with and without cleanups, rethrown, nested in a destructor, by foreign code.
#include <algorithm>
#include <cstdio>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#define NOINLINE __attribute__((noinline, noclone))

volatile long sink;
NOINLINE void leaf(long a) { sink += a; }

struct Guard {
    long value;
    ~Guard() { leaf(value); }
};

struct Swallows {
    ~Swallows() {
        try {
            throw 7;
        } catch (int seven) {
            leaf(seven);
        }
    }
};

NOINLINE void thrower(int depth) {
    Guard guard{depth};
    if (depth == 0)
        throw std::runtime_error("at the bottom");
    thrower(depth - 1);
    leaf(depth);
}

NOINLINE void rethrower(int depth) {
    try {
        Swallows swallows;
        thrower(depth);
    } catch (...) {
        leaf(1);
        throw;
    }
}

NOINLINE void from_callback() {
    std::vector<int> numbers{5, 3, 9, 1};
    std::sort(numbers.begin(), numbers.end(), [](int a, int b) {
        if (a == 9 || b == 9)
            throw std::string("nine");
        return a < b;
    });
}

int main() {
    std::map<std::string, int> counts;
    for (int i = 0; i < 6; i++) {
        try {
            rethrower(i);
        } catch (const std::exception &e) {
            counts[e.what()] += i;
        }
        try {
            from_callback();
        } catch (const std::string &s) {
            counts[s] += i;
        }
        try {
            counts.at("absent");
        } catch (const std::out_of_range &) {
            leaf(i);
        }
    }
    for (const auto &entry : counts)
        std::printf("%s %d\n", entry.first.c_str(), entry.second);
    return 0;
}
