/* What libunwind says about a process, in the loop that live patchers have: a line for each frame, and how it ended. */
#include <libunwind-ptrace.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

int main(int argc, char **argv) {
    pid_t pid = argc > 1 ? atoi(argv[1]) : 0;
    if (ptrace(PTRACE_ATTACH, pid, 0, 0) != 0 || waitpid(pid, 0, __WALL) != pid)
        return 1;
    unw_addr_space_t space = unw_create_addr_space(&_UPT_accessors, 0);
    void *process = _UPT_create(pid);
    unw_cursor_t cursor;
    int more = unw_init_remote(&cursor, space, process);
    int exact = 1;
    do {
        unw_word_t pc = 0;
        unw_get_reg(&cursor, UNW_REG_IP, &pc);
        printf("%s %#lx\n", exact ? "exact" : "pc", pc);
        exact = unw_is_signal_frame(&cursor) > 0;
    } while ((more = unw_step(&cursor)) > 0);
    printf("end %d\n", more);
    ptrace(PTRACE_DETACH, pid, 0, 0);
    return 0;
}
