# Wrong unwind information of every kind that was found in shipped libraries, each in a function of its own, and a program
# that calls them all. Where a name ends with _lie the row is wrong; each function is right but for that.

        .text
        .globl  main
        .type   main, @function
main:   .cfi_startproc
        push    %rbp
        .cfi_def_cfa_offset 16
        .cfi_offset rbp, -16
        mov     %rsp, %rbp
        .cfi_def_cfa_register rbp
        call    sign_error
        call    no_rows_for_alignment
        call    one_register_twice
        call    no_rule_for_a_register
        call    flags_on_the_stack
        call    no_rows_for_pushes
        call    released_before_a_branch
        call    one_row_for_all
        xor     %eax, %eax
        pop     %rbp
        .cfi_def_cfa rsp, 8
        ret
        .cfi_endproc
        .size   main, . - main

# OpenSSL's x25519_fe51_sqr: the frame is given back, and the row adds its size once more.
        .type   sign_error, @function
sign_error:
        .cfi_startproc
        push    %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_offset rbp, -16
        lea     -80(%rsp), %rsp
        .cfi_adjust_cfa_offset 80
        xor     %ebp, %ebp
        mov     80(%rsp), %rbp
        .cfi_restore rbp
        lea     88(%rsp), %rsp
        .cfi_adjust_cfa_offset 88
sign_error_lie:
        ret
        .cfi_endproc
        .size   sign_error, . - sign_error

# OpenSSL's bn_gather5: a frame is made and aligned, and no row tells.
        .type   no_rows_for_alignment, @function
no_rows_for_alignment:
        .cfi_startproc
        lea     (%rsp), %r10
        sub     $0x108, %rsp
no_rows_for_alignment_lie:
        and     $-16, %rsp
        movq    $0, (%rsp)
        lea     (%r10), %rsp
        ret
        .cfi_endproc
        .size   no_rows_for_alignment, . - no_rows_for_alignment

# OpenSSL's sha1_multi_block: the push of rbp is told as one of rbx.
        .type   one_register_twice, @function
one_register_twice:
        .cfi_startproc
        mov     %rsp, %rax
        .cfi_def_cfa_register rax
        push    %rbx
        .cfi_offset rbx, -16
        push    %rbp
        .cfi_offset rbx, -24
one_register_twice_lie:
        xor     %ebx, %ebx
        xor     %ebp, %ebp
one_register_twice_without_rbp:
        nop
        mov     -16(%rax), %rbp
        mov     -8(%rax), %rbx
        .cfi_restore rbx
        mov     %rax, %rsp
        .cfi_def_cfa_register rsp
        ret
        .cfi_endproc
        .size   one_register_twice, . - one_register_twice

# OpenSSL's mul4x_internal: a register is used that its caller has saved, and no rule says that it is lost.
        .type   no_rule_for_a_register, @function
no_rule_for_a_register:
        .cfi_startproc
        push    %r14
        .cfi_adjust_cfa_offset 8
        .cfi_offset r14, -16
        call    uses_a_register
        pop     %r14
        .cfi_adjust_cfa_offset -8
        .cfi_restore r14
        ret
        .cfi_endproc
        .size   no_rule_for_a_register, . - no_rule_for_a_register

        .type   uses_a_register, @function
uses_a_register:
        .cfi_startproc
        xor     %r14d, %r14d
no_rule_for_a_register_lie:
        nop
        ret
        .cfi_endproc
        .size   uses_a_register, . - uses_a_register

# libgcrypt's code for VIA processors: flags are pushed and popped without a row.
        .type   flags_on_the_stack, @function
flags_on_the_stack:
        .cfi_startproc
        sub     $8, %rsp
        .cfi_adjust_cfa_offset 8
        pushf
flags_on_the_stack_lie:
        popf
        add     $8, %rsp
        .cfi_adjust_cfa_offset -8
        ret
        .cfi_endproc
        .size   flags_on_the_stack, . - flags_on_the_stack

# glibc's __mpn_addmul_1: two registers are pushed without a row. Here it calls, too.
        .type   no_rows_for_pushes, @function
no_rows_for_pushes:
        .cfi_startproc
        push    %rbx
        push    %rbp
no_rows_for_pushes_lie:
        xor     %ebx, %ebx
        xor     %ebp, %ebp
        call    leaf
        pop     %rbp
        pop     %rbx
        ret
        .cfi_endproc
        .size   no_rows_for_pushes, . - no_rows_for_pushes

# LLVM's code before a conditional jump in tail position: the frame is given back, and the row follows behind the jump.
        .type   released_before_a_branch, @function
released_before_a_branch:
        .cfi_startproc
        push    %rbx
        .cfi_adjust_cfa_offset 8
        .cfi_offset rbx, -16
        sub     $8, %rsp
        .cfi_adjust_cfa_offset 8
        xor     %ebx, %ebx
        mov     8(%rsp), %rbx
        add     $16, %rsp
released_before_a_branch_lie:
        test    %rsp, %rsp
        jne     leaf
        .cfi_def_cfa_offset 8
        .cfi_restore rbx
        ret
        .cfi_endproc
        .size   released_before_a_branch, . - released_before_a_branch

# LuaJIT's interpreter: one row for all of it, and a helper that makes room before it calls.
        .type   one_row_for_all, @function
one_row_for_all:
        .cfi_startproc
        sub     $72, %rsp
        .cfi_def_cfa_offset 80
        nop
        sub     $16, %rsp
one_row_for_all_lie:
        call    leaf
        add     $16, %rsp
        add     $72, %rsp
        .cfi_def_cfa_offset 8
        ret
        .cfi_endproc
        .size   one_row_for_all, . - one_row_for_all

        .type   leaf, @function
leaf:   .cfi_startproc
        nop
        ret
        .cfi_endproc
        .size   leaf, . - leaf

        .section .note.GNU-stack, "", @progbits
