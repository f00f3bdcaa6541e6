// Exceptions: thrown through frames with and without cleanups, rethrown, nested in a destructor, by foreign code.
// throws [ROUNDS [WORK]]: without arguments they follow each other closely; with, WORK units of ordinary work lie before
// each, as in programs where an exception is one.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <sstream>
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

// A line is written, split into words, counted and sorted.
NOINLINE void works(int units) {
    for (int unit = 0; unit < units; unit++) {
        std::ostringstream out;
        for (int i = 0; i < 20; i++)
            out << (unit * 7919 + i * i) % 101 << (i % 3 ? " " : ",");
        std::istringstream in(out.str());
        std::map<std::string, int> words;
        std::string word;
        while (in >> word)
            words[word]++;
        std::vector<std::pair<int, std::string>> sorted;
        for (const auto &entry : words)
            sorted.emplace_back(-entry.second, entry.first);
        std::sort(sorted.begin(), sorted.end());
        leaf(sorted.front().first);
    }
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? std::atoi(argv[1]) : 6, units = argc > 2 ? std::atoi(argv[2]) : 0;
    std::map<std::string, int> counts;
    for (int i = 0; i < rounds; i++) {
        works(units);
        try {
            rethrower(i);
        } catch (const std::exception &e) {
            counts[e.what()] += i;
        }
        works(units);
        try {
            from_callback();
        } catch (const std::string &s) {
            counts[s] += i;
        }
        works(units);
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
