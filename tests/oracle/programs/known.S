// A program whose chain is known at every label: see tests/known.rs, which lists them. No C library, no CFI.
    .text
    .globl _start
_start:
    mov %rsp, %rbp
at_start:
    call outer
after_outer:
    call next_and_pop
after_next_and_pop:
    call push_and_ret
after_push_and_ret:
    call popped
after_popped:
    call tail
after_tail:
    call switches
after_switches:
    call jumps_out
after_jumps_out:
    call coroutine
after_coroutine:
    call repairs_return
after_repairs_return:
    call signals
after_signals:
    call two_levels
after_two_levels:
    mov $60, %eax
    xor %edi, %edi
    syscall

outer:
    push %rbx
at_outer:
    call inner
after_inner:
    pop %rbx
leaving_outer:
    ret
inner:
    sub $24, %rsp
at_inner:
    lea -128(%rsp), %rsp
below_red_zone:
    lea 128(%rsp), %rsp
    add $24, %rsp
leaving_inner:
    ret $0

next_and_pop:
    call 1f
1:  nop
with_pc_on_stack:
    pop %rax
leaving_next_and_pop:
    ret

push_and_ret:
    lea 1f(%rip), %rax
    push %rax
with_target_on_stack:
    ret
1:  nop
after_push_ret:
    ret

popped:
    pop %rdx
with_address_in_register:
    push %rdx
    pop %rdx
    nop
still_in_register:
    jmp *%rdx

tail:
    push %rbx
    pop %rbx
    lea tail_target(%rip), %rax
    jmp *%rax
tail_target:
    nop
at_tail_target:
    ret

// Calls a function on another stack: its caller is still its caller.
switches:
    push %rbx
    mov %rsp, %rbx
    lea stack_top(%rip), %rsp
    call on_other_stack
after_on_other_stack:
    mov %rbx, %rsp
back_on_own_stack:
    pop %rbx
    ret
on_other_stack:
    push %rax
at_other_stack:
    pop %rax
    ret

// Leaves two frames behind by loading rsp and jumping, as longjmp does.
jumps_out:
    push %rbx
    mov %rsp, %rbx
    call dives
landing:
    nop
landed:
    pop %rbx
    ret
dives:
    call deeper
after_deeper:
    ud2
deeper:
    lea landing(%rip), %rdx
before_load:
    mov %rbx, %rsp
in_transfer:
    jmp *%rdx

// A coroutine on its own stack, entered by `ret`, with a planted return address; it comes back by rsp and `ret`.
coroutine:
    lea coroutine_top(%rip), %rax
    lea coroutine_body(%rip), %rcx
    mov %rcx, -16(%rax)
    lea planted(%rip), %rcx
    mov %rcx, -8(%rax)
    lea -16(%rax), %rdi
    lea main_sp(%rip), %rsi
    call swap
after_swap_in:
    nop
    mov coroutine_sp(%rip), %rdi
    lea main_sp(%rip), %rsi
    call swap
after_swap_again:
    ret
coroutine_body:
    push %rbp
at_coroutine:
    mov main_sp(%rip), %rdi
    lea coroutine_sp(%rip), %rsi
    call swap
after_swap_out:
    nop
resumed:
    mov main_sp(%rip), %rdi
    lea coroutine_sp(%rip), %rsi
    call swap
    ud2
// Saves rsp at *rsi and goes on where the stack at rdi says.
swap:
    mov %rsp, (%rsi)
    mov %rdi, %rsp
    ret
planted:
    ud2

// Drops its caller: returns to its caller's caller.
repairs_return:
    push %rax
    call drops_a_level
after_drops:
    ud2
drops_a_level:
    nop
before_drop:
    add $16, %rsp
after_drop:
    ret

two_levels:
    call one_level
after_one_level:
    ret
one_level:
    enter $32, $0
at_one_level:
    leave
leaving_one_level:
    ret

// A handler on the alternate stack, during `interrupted`; then a second one on the ordinary stack, nested in it.
signals:
    mov $131, %eax              // sigaltstack
    lea alternate(%rip), %rdi
    xor %esi, %esi
    syscall
    mov $13, %eax               // rt_sigaction(SIGUSR1): alternate stack
    mov $10, %edi
    lea on_alternate(%rip), %rsi
    xor %edx, %edx
    mov $8, %r10d
    syscall
    mov $13, %eax               // rt_sigaction(SIGUSR2)
    mov $12, %edi
    lea on_ordinary(%rip), %rsi
    xor %edx, %edx
    mov $8, %r10d
    syscall
    mov $39, %eax               // getpid
    syscall
    mov %eax, %r12d
    mov $62, %eax               // kill
    mov %r12d, %edi
    mov $10, %esi
    syscall
interrupted:
    nop
after_signal:
    ret
handler:
    push %rax
at_handler:
    mov $62, %eax
    mov %r12d, %edi
    mov $12, %esi
    syscall
handler_interrupted:
    pop %rax
leaving_handler:
    ret
nested:
    nop
at_nested:
    ret
restorer:
    mov $15, %eax
    syscall

    .data
    .balign 16
alternate:
    .quad alternate_stack
    .quad 0
    .quad 16384
on_alternate:
    .quad handler
    .quad 0x0c000000            // SA_RESTORER | SA_ONSTACK
    .quad restorer
    .quad 0
on_ordinary:
    .quad nested
    .quad 0x04000000            // SA_RESTORER
    .quad restorer
    .quad 0
main_sp:
    .quad 0
coroutine_sp:
    .quad 0
    .bss
    .balign 16
    .skip 65536
stack_top:
    .skip 65536
coroutine_top:
    .skip 65536
alternate_stack:
    .skip 16384
    .section .note.GNU-stack,"",@progbits
