/* A loop like that of many a main: a switch whose table's address is in a register, and a case that ends in a call which
   does not come back. Behind it the register holds something else, and the loop begins. */
#include <stdio.h>
#include <unistd.h>

#ifndef DIE
#define DIE die
#endif
#define TEXT(name) TEXT_OF(name)
#define TEXT_OF(name) #name

void DIE(int code);
int next(void);
void loop(void);
extern char behind[];

__asm__(
    ".text\n"
    ".globl loop, behind\n"
    ".type loop,@function\n"
    "loop: .cfi_startproc\n"
    "  push %rbx\n"
    "  .cfi_adjust_cfa_offset 8\n"
    "  .cfi_offset rbx,-16\n"
    "  lea table(%rip),%rbx\n"
    "again:\n"
    "  sub $16,%rsp\n"
    "  .cfi_adjust_cfa_offset 16\n"
    "  call next\n"
    "behind:\n"
    "  add $16,%rsp\n"
    "  .cfi_adjust_cfa_offset -16\n"
    "  cmp $2,%eax\n"
    "  ja out\n"
    "  mov %eax,%eax\n"
    "  movslq (%rbx,%rax,4),%rax\n"
    "  add %rbx,%rax\n"
    "  jmp *%rax\n"
    "fatal:\n"
    "  xor %ebx,%ebx\n"
    "  mov $1,%edi\n"
    "  call " TEXT(DIE) "@plt\n"
    "one:\n"
    "  jmp again\n"
    "out:\n"
    "  pop %rbx\n"
    "  .cfi_adjust_cfa_offset -8\n"
    "  ret\n"
    "  .cfi_endproc\n"
    ".section .rodata\n"
    ".balign 4\n"
    "table: .long one-table, fatal-table, out-table\n"
    ".text\n");

int next(void)
{
    printf("%p\n", (void *)behind);
    fflush(stdout);
    pause();
    return 2;
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        DIE(0);
    loop();
    return 0;
}
