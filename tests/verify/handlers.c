/* Signal handlers in C, clean ones and ones that reach what they must not. Each is a root of its own. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char text[] = "it crashed\n";

static void put(const char *line) { (void)!write(2, line, strlen(line)); }

/* Clean: memory it has, and system calls on the list. */
void clean(int number)
{
    char line[sizeof text];
    memcpy(line, text, sizeof line);
    line[0] = (char)('0' + number);
    put(line);
    _exit(1);
}

/* Clean: a system call of its own. */
void raw(int number)
{
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(SYS_write), "D"(2L), "S"(text), "d"(sizeof text)
                     : "rcx", "r11", "memory");
    (void)number;
}

/* A tail call of a function of another module. */
int tail(int number) { return printf("%d\n", number); }

/* Deep, and by way of another function. */
static __attribute__((noinline)) char *deeper(size_t size) { return malloc(size); }
static __attribute__((noinline)) void deep_in(size_t size) { *(volatile char *)deeper(size) = 0; }
void deep(int number) { deep_in((size_t)number); }

/* Functions in a constant table. */
static void zero(int number) { put(number ? "0" : "-"); }
static void one(int number) { put(number ? "1" : "-"); }
static void release(int number) { free((void *)(long)number); }
typedef void function(int);
static function *const good[] = {zero, one};
static function *const bad[] = {zero, one, release};
void table(int number) { good[number & 1](number); }
void bad_table(int number) { bad[number % 3](number); }

/* A function whose address is taken, and given to somebody else. */
void taken(int number)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = release;
    sigaction(number, &action, 0);
}

/* A function that another one chose: unknown. */
function *volatile hook;
void unknown(int number) { hook(number); }

/* The same, in what it was given; and beside it a table of its own with a function at the same place. */
struct given {
    function *chosen;
};
void given(struct given *what) { what->chosen(1); }
void given_beside_a_table(struct given *what)
{
    function *const *volatile own = good;
    put(own[0] == zero ? "a" : "b");
    what->chosen(1);
}

/* Set here and changed by a callee; and what another function took from a variable. */
static __attribute__((noinline)) void change(struct given *what) { what->chosen = hook; }
void changed(int number)
{
    struct given own = {zero};
    change(&own);
    own.chosen(number);
}
static struct given *volatile current;
static __attribute__((noinline)) struct given *get(void) { return current; }
void gotten(int number) { get()->chosen(number); }

/* A switch, which becomes a jump table; one case prints. */
void chooses(int number)
{
    switch (number) {
    case 0: put("a"); break;
    case 1: _exit(1);
    case 2: put("c"); break;
    case 3: put("d"); break;
    case 4: put("e"); break;
    case 5: puts("f"); break;
    case 6: put("g"); break;
    }
}

/* Thread-local storage: by %fs in a program, by __tls_get_addr in a library. */
__thread int counted;
void thread_local_storage(int number) { counted += number; }

/* Two that call each other. */
static __attribute__((noinline)) int odd(int number);
static __attribute__((noinline)) int even(int number) { return number ? odd(number - 1) + 1 : 0; }
static int odd(int number) { return number ? even(number - 1) + 2 : 1; }
int recursive(int number) { return even(number) + odd(number); }

/* Does not come back, and behind it nothing is executed. */
static __attribute__((noinline, noreturn)) void leave(int number)
{
    put("leaving\n");
    _exit(number);
}
void leaves(int number)
{
    if (number) {
        leave(number);
        __builtin_unreachable();
    }
    put("stays\n");
}

/* Bytes that are no instruction, and a jump to where no function is. */
__asm__(".text\n.globl garbage\n.type garbage,@function\ngarbage:\n nop\n .byte 0x06\n ret\n.size garbage,.-garbage\n"
        ".globl nameless\n.type nameless,@function\nnameless:\n jmp 1f\n.size nameless,.-nameless\n1: ret\n");
void garbage(int);
void nameless(int);

/* A return that is a jump. */
__asm__(".text\n.globl returned\n.type returned,@function\nreturned:\n lea release_it(%rip), %rax\n push %rax\n ret\n"
        ".size returned,.-returned\n"
        ".type release_it,@function\nrelease_it:\n jmp *free@GOTPCREL(%rip)\n.size release_it,.-release_it\n"
        ".globl anywhere\n.type anywhere,@function\nanywhere:\n push %rdi\n ret\n.size anywhere,.-anywhere\n");
void returned(int);
void anywhere(int);

function *const all[] = {clean, raw, (function *)tail, deep, table, bad_table, taken, unknown, chooses,
                         thread_local_storage, (function *)recursive, leaves, garbage, nameless, returned, anywhere,
                         (function *)given, (function *)given_beside_a_table, changed, gotten};

int main(int count, char **arguments)
{
    current = (struct given *)arguments;
    hook = all[count % 20];
    hook(count);
    return 0;
}
