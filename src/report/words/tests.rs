//! One test for each sentence.

use super::*;
use crate::snapshot::{AddressSpace, Process};
use surestack_walk::{Bytes, Regs, Stop, X86_64};

const CODE: u64 = 0x40_1000;
const STACK: u64 = 0x7fff_0000;

/// A thread of process 77 that runs `code` at 0x401000, with a stack from 0x7fff0000 to 0x7fff1000, read-only data at
/// 0x500000 and a guard page below the stack.
struct Case {
    code: Vec<u8>,
    registers: Vec<(&'static str, u64)>,
    signal: SignalInfo,
}

fn case(number: i32, code: i32, detail: u64) -> Case {
    Case { code: vec![0x90; 16], registers: Vec::new(), signal: SignalInfo::from_words(number, code, detail) }
}

impl Case {
    fn code(mut self, bytes: &[u8]) -> Self {
        self.code = [bytes, &[0x90; 16]].concat();
        self
    }

    fn with(mut self, name: &'static str, value: u64) -> Self {
        self.registers.push((name, value));
        self
    }

    fn says(self, expected: &str) {
        let map = |start, end, rights: &str, file: Option<&str>| Mapped {
            start,
            end,
            executable: Some(rights.contains('x')),
            writable: Some(rights.contains('w')),
            file: file.map(|file| (file.into(), 0)),
            probe: None,
        };
        let mappings = vec![
            map(CODE, CODE + 0x1000, "rx", Some("/bin/prog")),
            map(0x50_0000, 0x50_1000, "r", Some("/bin/prog")),
            map(0x60_0000, 0x60_1000, "rw", None),
            map(STACK - 0x1000, STACK, "", None),
            map(STACK, STACK + 0x1000, "rw", None),
        ];
        let mut regs = Regs::new();
        regs.set_pc(CodeAddress::Exact(CODE));
        regs.set(X86_64.sp, STACK + 0x800);
        for (name, value) in self.registers {
            let (register, _) = X86_64.registers.iter().find(|(_, known)| *known == name).unwrap();
            regs.set(*register, value);
        }
        let thread = Thread { id: 78, name: None, regs, stop: Stop::default(), signal: Some(self.signal) };
        let bytes: &'static [u8] = self.code.leak();
        let snapshot = Snapshot {
            arch: &X86_64,
            process: Process { pid: Some(77), ..Process::default() },
            threads: Vec::new(),
            absent: Vec::new(),
            space: AddressSpace { mappings, complete: true, ..AddressSpace::default() },
            memory: Box::new(Bytes { address: CODE, bytes }),
            gaps: Vec::new(),
            signed_bits: 0,
        };
        let name = |pc: CodeAddress| (pc.value() / 0x1000 == CODE / 0x1000).then(|| "f".to_owned());
        assert_eq!(what(&snapshot, &thread, &name), expected);
    }
}

/// `mov eax, [rax+0x18]`
const READ: &[u8] = &[0x8b, 0x40, 0x18];
/// `mov [rdi], eax`
const WRITE: &[u8] = &[0x89, 0x07];

#[test]
fn a_null_pointer_with_an_offset_is_named_with_its_register() {
    case(11, 1, 0x18).code(READ).with("rax", 0).says("SIGSEGV: read of null pointer + 0x18 through rax in f");
    case(11, 1, 0).code(WRITE).with("rdi", 0).says("SIGSEGV: write to null pointer through rdi in f");
}

#[test]
fn an_unmapped_address_is_told_from_one_that_is_protected() {
    case(11, 1, 0x70_0018)
        .code(READ)
        .with("rax", 0x70_0000)
        .says("SIGSEGV: read of unmapped address 0x700018 through rax in f");
    case(11, 2, 0x50_0010)
        .code(WRITE)
        .with("rdi", 0x50_0010)
        .says("SIGSEGV: write to read-only memory at 0x500010 (prog) through rdi in f");
}

#[test]
fn a_call_or_jump_into_nowhere_says_so() {
    case(11, 1, 0).with("rip", 0).says("SIGSEGV: jump through null pointer");
    case(11, 1, 0x1234_5000).with("rip", 0x1234_5000).says("SIGSEGV: jump to unmapped address 0x12345000");
    case(11, 1, 0)
        .with("rip", 0)
        .with("rsp", CODE)
        .code(&(CODE + 8).to_le_bytes())
        .says("SIGSEGV: call through null pointer in f");
    case(11, 2, 0x60_0000)
        .with("rip", 0x60_0000)
        .says("SIGSEGV: execution of non-executable memory at 0x600000 (memory of no file)");
    case(11, 2, STACK).with("rip", STACK).says("SIGSEGV: execution of non-executable memory at 0x7fff0000 (the stack)");
}

#[test]
fn an_address_that_is_not_canonical_is_found_in_the_registers() {
    case(11, 0x80, 0).code(READ).with("rax", 0x1234_5678_9abc_def0).says(
        "SIGSEGV: read of non-canonical address 0x123456789abcdf08 through rax in f \
         (the kernel reports no address for these)",
    );
    case(11, 0x80, 0).says("SIGSEGV: general protection fault in f (the kernel reports no address for these)");
}

#[test]
fn a_stack_overflow_is_told_by_the_stack_pointer_and_the_guard_page() {
    // push rbp
    case(11, 2, STACK - 8)
        .code(&[0x55])
        .with("rsp", STACK)
        .says("SIGSEGV: stack overflow in f (write to the guard page below the stack of thread 78)");
    case(11, 1, STACK - 0x1008)
        .code(&[0x55])
        .with("rsp", STACK - 0x1000)
        .says("SIGSEGV: write to unmapped address 0x7ffeeff8 in f");
}

#[test]
fn arithmetic_tells_zero_from_overflow() {
    // idiv ecx
    case(8, 1, CODE).code(&[0xf7, 0xf9]).with("rcx", 1 << 32).says("SIGFPE: integer division by zero in f");
    case(8, 1, CODE)
        .code(&[0xf7, 0xf9])
        .with("rcx", 0xffff_ffff)
        .says("SIGFPE: integer division whose quotient does not fit in f");
    case(8, 3, CODE).says("SIGFPE: floating-point division by zero in f");
}

#[test]
fn bus_errors_say_what_is_wrong_with_the_address() {
    case(7, 2, 0x50_0018)
        .code(READ)
        .with("rax", 0x50_0000)
        .says("SIGBUS: read of address 0x500018 beyond the end of its file (prog) through rax in f");
    case(7, 1, 0x60_0019)
        .code(READ)
        .with("rax", 0x60_0001)
        .says("SIGBUS: read of misaligned address 0x600019 through rax in f");
}

#[test]
fn instructions_that_trap_are_named() {
    case(4, 2, CODE)
        .code(&[0x0f, 0x0b])
        .says("SIGILL: trap instruction ud2 (the compiler's mark for what must not be reached) in f");
    case(4, 2, CODE).code(&[0x06]).says("SIGILL: illegal instruction in f");
    case(5, 0x80, 0).says("SIGTRAP: breakpoint in f");
    case(31, 1, CODE).says("SIGSYS: system call forbidden by a seccomp filter in f");
}

#[test]
fn a_signal_that_somebody_sent_names_the_sender() {
    case(6, -6, 77).says("SIGABRT raised by the process itself (abort)");
    case(11, 0, 5 << 32 | 123).says("SIGSEGV sent by pid 123 (uid 5); the thread was in f");
    case(15, 0, 77).says("SIGTERM raised by the process itself");
}
