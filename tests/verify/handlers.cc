// Signal handlers in C++. Each root is `extern "C"`.

#include <cstdlib>
#include <cstring>
#include <new>
#include <unistd.h>

namespace {

struct Sink {
    virtual void line(const char *text) = 0;
    virtual void end() {}
    virtual ~Sink() = default;
};

// Writes what it is given.
struct Direct : Sink {
    void line(const char *text) override { (void)!write(2, text, strlen(text)); }
};

// Keeps it first.
struct Kept : Sink {
    char *kept = nullptr;
    void line(const char *text) override { kept = static_cast<char *>(realloc(kept, strlen(text) + 1)); }
    void end() override { (void)!write(2, kept, strlen(kept)); }
};

__attribute__((noinline)) void opaque(std::exception *error)
{
    __asm__("" : "+r"(error));
    (void)!write(2, error->what(), 1);
}

__attribute__((noinline)) void report(Sink &sink)
{
    sink.line("it crashed\n");
    sink.end();
}

} // namespace

// The two of one family, so that no compiler sees which one it is.
extern "C" {
void clean(int)
{
    Direct direct;
    report(direct);
}

void allocates(int number)
{
    Direct direct;
    Kept kept;
    report(number ? static_cast<Sink &>(kept) : direct);
}

// Somebody else chose it.
Sink *chosen;
void unknown(int) { chosen->line("it crashed\n"); }

void throws(int number)
{
    if (number == 3)
        throw number;
}

// A class of another module: what its functions do nobody can tell.
void foreign(int number)
{
    std::bad_alloc error;
    std::exception *which = number ? static_cast<std::exception *>(&error) : nullptr;
    opaque(which);
}
}

int main(int count, char **)
{
    chosen = count > 1 ? static_cast<Sink *>(new Kept) : new Direct;
    clean(count);
    allocates(count);
    unknown(count);
    throws(count);
    foreign(count);
    return 0;
}
