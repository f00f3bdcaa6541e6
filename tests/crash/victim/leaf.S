/* Leaves that fault with every general register known.
 *
 * Each is called as leaf(truth). It notes its return address, its rsp and the pc of the instruction that faults, loads
 * the values that truth->registers holds (r15 is truth->address), and executes that instruction. A trap that is run over
 * says so and returns. */
#include "truth.h"

        .text

/* The registers that the caller wants back go to the stack, where the rows say they are. */
        .macro  SAVE register
        push    \register
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset \register, 0
        .endm
        .macro  SAVE_ALL
        SAVE    %rbx
        SAVE    %rbp
        SAVE    %r12
        SAVE    %r13
        SAVE    %r14
        SAVE    %r15
        .endm

/* Adds an exact entry: the address in rdx. */
        .macro  ADD_ENTRY
        mov     AT_DEPTH(%rdi), %rax
        lea     (%rax,%rax,2), %rsi
        movq    $KIND_EXACT, AT_CHAIN(%rdi,%rsi,8)
        mov     %rdx, AT_CHAIN+8(%rdi,%rsi,8)
        movq    $0, AT_CHAIN+16(%rdi,%rsi,8)
        inc     %rax
        mov     %rax, AT_DEPTH(%rdi)
        .endm

        .macro  RESTORE register
        pop     \register
        .cfi_adjust_cfa_offset -8
        .cfi_restore \register
        .endm
/* Control came back from the fault. */
        .macro  OVER
        mov     the_truth(%rip), %rdi
        movq    $1, AT_SURVIVED(%rdi)
        RESTORE %r15
        RESTORE %r14
        RESTORE %r13
        RESTORE %r12
        RESTORE %rbp
        RESTORE %rbx
        ret
        .endm

        .macro  NOTE_LEAF
        mov     (%rsp), %rdx
        ADD_ENTRY
        SAVE_ALL
        mov     %rsp, AT_REGISTERS+56(%rdi)
        mov     AT_ADDRESS(%rdi), %r15
        mov     %r15, AT_REGISTERS+120(%rdi)
        .endm

        .macro  LOAD registers_known=1
        movq    $1, AT_PC_KNOWN(%rdi)
        movq    $\registers_known, AT_REGISTERS_KNOWN(%rdi)
        movq    $1, AT_ARMED(%rdi)
        mov     AT_REGISTERS(%rdi), %rax
        mov     AT_REGISTERS+8(%rdi), %rdx
        mov     AT_REGISTERS+16(%rdi), %rcx
        mov     AT_REGISTERS+24(%rdi), %rbx
        mov     AT_REGISTERS+32(%rdi), %rsi
        mov     AT_REGISTERS+48(%rdi), %rbp
        mov     AT_REGISTERS+64(%rdi), %r8
        mov     AT_REGISTERS+72(%rdi), %r9
        mov     AT_REGISTERS+80(%rdi), %r10
        mov     AT_REGISTERS+88(%rdi), %r11
        mov     AT_REGISTERS+96(%rdi), %r12
        mov     AT_REGISTERS+104(%rdi), %r13
        mov     AT_REGISTERS+112(%rdi), %r14
        mov     AT_REGISTERS+40(%rdi), %rdi
        .endm

        .macro  LEAF name, instruction:vararg
        .globl  \name
        .type   \name, @function
\name:
        .cfi_startproc
        NOTE_LEAF
        lea     1f(%rip), %rdx
        mov     %rdx, AT_PC(%rdi)
        LOAD
1:      \instruction
        OVER
        .cfi_endproc
        .size   \name, . - \name
        .endm

        LEAF    leaf_read, mov (%r15), %rax
        LEAF    leaf_write, mov %rax, (%r15)
        LEAF    leaf_ill, ud2
        LEAF    leaf_divide, divq (%r15)
/* Waits for a signal from outside. */
        LEAF    leaf_spin, jmp .

/* A frameless leaf: the registers that the caller wants back are as the caller left them. */
        .globl  leaf_write_frameless
        .type   leaf_write_frameless, @function
leaf_write_frameless:
        .cfi_startproc
        mov     (%rsp), %rdx
        ADD_ENTRY
        mov     %rbx, AT_REGISTERS+24(%rdi)
        mov     %rbp, AT_REGISTERS+48(%rdi)
        mov     %rsp, AT_REGISTERS+56(%rdi)
        mov     %r12, AT_REGISTERS+96(%rdi)
        mov     %r13, AT_REGISTERS+104(%rdi)
        mov     %r14, AT_REGISTERS+112(%rdi)
        mov     %r15, AT_REGISTERS+120(%rdi)
        mov     AT_ADDRESS(%rdi), %rax
        mov     %rax, AT_REGISTERS+88(%rdi)
        lea     1f(%rip), %rdx
        mov     %rdx, AT_PC(%rdi)
        LOAD
1:      mov     %rax, (%r11)
        mov     the_truth(%rip), %rdi
        movq    $1, AT_SURVIVED(%rdi)
        ret
        .cfi_endproc
        .size   leaf_write_frameless, . - leaf_write_frameless

/* The saved pc is behind the breakpoint. */
        .globl  leaf_int3
        .type   leaf_int3, @function
leaf_int3:
        .cfi_startproc
        NOTE_LEAF
        lea     1f(%rip), %rdx
        mov     %rdx, AT_PC(%rdi)
        LOAD
        int3
1:      OVER
        .cfi_endproc
        .size   leaf_int3, . - leaf_int3

/* Calls the address: the pc is there, and the return address is one more entry of the chain. */
        .globl  leaf_call
        .type   leaf_call, @function
leaf_call:
        .cfi_startproc
        NOTE_LEAF
        mov     %r15, AT_PC(%rdi)
        lea     -8(%rsp), %rdx
        mov     %rdx, AT_REGISTERS+56(%rdi)
        lea     1f(%rip), %rdx
        ADD_ENTRY
        LOAD
        call    *%r15
1:      OVER
        .cfi_endproc
        .size   leaf_call, . - leaf_call

/* Returns to the address, over its own return address: nobody can know where in its caller it was called. */
        .globl  leaf_return
        .type   leaf_return, @function
leaf_return:
        .cfi_startproc
        mov     AT_ADDRESS(%rdi), %rdx
        mov     %rdx, AT_PC(%rdi)
        mov     %rdx, (%rsp)
        movq    $1, AT_PC_KNOWN(%rdi)
        movq    $1, AT_ARMED(%rdi)
        ret
        .cfi_endproc
        .size   leaf_return, . - leaf_return

/* A system call of the number in rax: registers[0]. It overwrites rcx and r11, so the registers are not judged. */
        .globl  leaf_system_call
        .type   leaf_system_call, @function
leaf_system_call:
        .cfi_startproc
        NOTE_LEAF
        lea     1f(%rip), %rdx
        mov     %rdx, AT_PC(%rdi)
        LOAD    registers_known=0
        syscall
1:      OVER
        .cfi_endproc
        .size   leaf_system_call, . - leaf_system_call

/* Rust functions of the chain are entered through these: the second argument is the return address. */
        .macro  ENTRANCE name
        .globl  \name
        .type   \name, @function
\name:
        .cfi_startproc
        mov     (%rsp), %rsi
        jmp     \name\()_body
        .cfi_endproc
        .size   \name, . - \name
        .endm
        ENTRANCE rust_first
        ENTRANCE rust_second
        ENTRANCE rust_panic
        ENTRANCE rust_panic_abort

/* Stops a single stepper. */
        .globl  begin_here
        .type   begin_here, @function
begin_here:
        .cfi_startproc
        int3
        ret
        .cfi_endproc
        .size   begin_here, . - begin_here

        .section .note.GNU-stack,"",@progbits
