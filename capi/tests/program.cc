// What a C++ program does with surestack.h.
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <surestack.h>

#include <pthread.h>

namespace {

std::size_t alternate_size() {
    stack_t now;
    sigaltstack(nullptr, &now);
    return now.ss_flags & SS_DISABLE ? 0 : now.ss_size;
}

int deep(volatile int depth) {
    volatile char room[256];
    room[depth % 256] = 1;
    return depth == -1 ? 0 : deep(depth + 1) + room[depth % 256];
}

std::size_t size_in_thread() {
    std::size_t size = 0;
    std::thread([&] { size = alternate_size(); }).join();
    return size;
}

}  // namespace

int main(int count, char **arguments) {
    const std::string how = count > 1 ? arguments[1] : "";
    if (const char *refused = surestack_install(nullptr)) {
        std::fprintf(stderr, "%s\n", refused);
        return 1;
    }
    if (size_in_thread() < 16384) return 2;
    if (how == "crash") std::thread([] { *reinterpret_cast<volatile int *>(8) = 1; }).join();
    if (how == "overflow") std::thread([] { deep(0); }).join();
    if (surestack_uninstall()) return 3;
    return size_in_thread() == 0 ? 0 : 4;
}
