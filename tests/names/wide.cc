// The rounds of a deep stack that are C++: templates, closures, an anonymous namespace, and the streams of the C++ library.
#include <algorithm>
#include <functional>
#include <ostream>
#include <streambuf>
#include <vector>

using next = void (*)(void *);

namespace {

class Passing : public std::streambuf {
public:
  Passing(const std::function<void()> &call) : call(call) {}

protected:
  int_type overflow(int_type character) override {
    if (!called) {
      called = true;
      call();
    }
    return character;
  }

private:
  const std::function<void()> &call;
  bool called = false;
};

__attribute__((noinline)) int printed(const std::function<void()> &call) {
  Passing buffer(call);
  std::ostream out(&buffer);
  out << 12345;
  return out.good();
}

}  // namespace

namespace wide {

struct Shape {
  virtual ~Shape() = default;
  virtual int draw(const std::function<void()> &call) = 0;
};

template <typename Number>
struct Square : Shape {
  __attribute__((noinline)) int draw(const std::function<void()> &call) override {
    std::vector<Number> numbers{3, 1, 2};
    bool called = false;
    std::sort(numbers.begin(), numbers.end(), [&](Number left, Number right) {
      if (!called) {
        called = true;
        call();
      }
      return left < right;
    });
    return static_cast<int>(numbers.front());
  }
};

}  // namespace wide

extern "C" int wide_cc(next call, void *with) {
  wide::Square<double> square;
  wide::Shape &shape = square;
  return shape.draw([&] { printed([&] { call(with); }); }) + 1;
}
