//! framehop and our own reading of the same `.eh_frame` agree on the stack of this very test.
#![cfg(target_arch = "x86_64")]

use object::{Object, ObjectSection, ObjectSegment};
use std::arch::asm;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use surestack_cfi::{Cfi, DwarfRows};
use surestack_drawing::{Stack as Drawing, cfi};
use surestack_framehop::Framehop;
use surestack_walk::{
    CodeAddress, End, Error, FoundBy, Mapping, Memory, Module, Modules, NoEvidence, Register, Registry, Regs, Root,
    Section, Stack, StackKind, Step, Stop, Target, UnwindSections, Unwinder, Walk, X86_64,
};

struct OwnMemory(File);

impl Memory for OwnMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        self.0.read_exact_at(into, address).map_err(|_| Error::Unreadable { address })
    }
}

/// A file mapped in this process.
struct Mapped {
    start: u64,
    end: u64,
    bias: u64,
    hdr: Option<(u64, Vec<u8>)>,
    eh_frame: Option<(u64, Vec<u8>)>,
}

struct OwnModules(Vec<Mapped>);

impl OwnModules {
    fn read() -> Self {
        let mut modules: Vec<Mapped> = Vec::new();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        for line in maps.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let &[range, _, offset, _, _, path] = words.as_slice() else { continue };
            if !path.starts_with('/') {
                continue;
            }
            let (start, end) = range.split_once('-').unwrap();
            let hex = |text| u64::from_str_radix(text, 16).unwrap();
            if hex(offset) != 0 {
                if let Some(module) = modules.last_mut() {
                    module.end = hex(end);
                }
                continue;
            }
            let Ok(bytes) = fs::read(path) else { continue };
            let Ok(file) = object::File::parse(&*bytes) else { continue };
            let lowest = file.segments().map(|segment| segment.address()).min().unwrap();
            let section = |name| {
                let section = file.section_by_name(name)?;
                Some((section.address(), section.data().ok()?.to_vec()))
            };
            modules.push(Mapped {
                start: hex(start),
                end: hex(end),
                bias: hex(start) - lowest,
                hdr: section(".eh_frame_hdr"),
                eh_frame: section(".eh_frame"),
            });
        }
        Self(modules)
    }
}

impl Modules for OwnModules {
    fn find(&self, address: u64) -> Option<Module<'_>> {
        let (index, found) = self.0.iter().enumerate().find(|(_, m)| m.start <= address && address < m.end)?;
        fn section(kept: &Option<(u64, Vec<u8>)>) -> Option<Section<'_>> {
            kept.as_ref().map(|(address, bytes)| Section { address: *address, bytes })
        }
        let unwind = UnwindSections {
            eh_frame_hdr: section(&found.hdr),
            eh_frame: section(&found.eh_frame),
            ..UnwindSections::default()
        };
        Some(Module { index, start: found.start, end: found.end, bias: found.bias, unwind })
    }

    fn mapping(&self, address: u64) -> Mapping {
        if self.find(address).is_some() { Mapping::Code } else { Mapping::Unknown }
    }
}

/// What each step of framehop differs in from ours, and how many steps there were.
#[inline(never)]
fn compare(depth: usize) -> (usize, Vec<String>) {
    if depth > 0 {
        return std::hint::black_box(compare(depth - 1));
    }
    let mut values = [0_u64; 8];
    // SAFETY: reads registers, and writes the eight words of `values`.
    unsafe {
        asm!(
            "lea {scratch}, [rip]",
            "mov [{at}], {scratch}",
            "mov [{at} + 8], rsp",
            "mov [{at} + 16], rbp",
            "mov [{at} + 24], rbx",
            "mov [{at} + 32], r12",
            "mov [{at} + 40], r13",
            "mov [{at} + 48], r14",
            "mov [{at} + 56], r15",
            at = in(reg) values.as_mut_ptr(),
            scratch = out(reg) _,
        );
    }
    std::hint::black_box(walk_both(values))
}

/// Walks from these registers by our own reading, and asks framehop for each of its steps.
fn walk_both([pc, sp, fp, bx, r12, r13, r14, r15]: [u64; 8]) -> (usize, Vec<String>) {
    let memory = OwnMemory(File::open("/proc/self/mem").unwrap());
    let modules = OwnModules::read();
    let stacks = [Stack { low: sp, high: sp + (8 << 20), kind: StackKind::Other }];
    let target = Target {
        arch: &X86_64,
        memory: &memory,
        modules: &modules,
        stacks: &stacks,
        registry: &Registry::default(),
        evidence: &NoEvidence,
        stop: Stop::default(),
    };
    let mut regs = Regs::new();
    regs.set_pc(CodeAddress::Exact(pc));
    for (number, value) in [(7, sp), (6, fp), (3, bx), (12, r12), (13, r13), (14, r14), (15, r15)] {
        regs.set(Register::general(number).unwrap(), value);
    }
    let framehop = Framehop::new();
    let mut walk = Walk::new(&target, &[&Cfi(DwarfRows)], regs, 500);
    let (mut steps, mut differences, mut theirs) = (0, Vec::new(), Regs::new());
    while let Some(frame) = walk.next() {
        if steps > 0 && frame.pc != theirs.pc().unwrap() {
            differences.push(format!("#{steps}: pc {} and {}", frame.pc, theirs.pc().unwrap()));
        }
        for register in [X86_64.sp, X86_64.fp] {
            if steps > 0 && frame.regs.get(register) != theirs.get(register) {
                differences.push(format!(
                    "#{steps}: {register} {:x?} and {:x?}",
                    frame.regs.get(register),
                    theirs.get(register)
                ));
            }
        }
        steps += 1;
        match framehop.step(&target, frame.regs, &mut theirs) {
            Ok(Step::Caller { found_by: FoundBy::Foreign("framehop"), .. }) => {}
            // Whatever it says of the outermost frame, it does not call it a root.
            other => {
                assert!(!matches!(other, Ok(Step::End(_))));
                theirs.forget();
                theirs.set_pc(CodeAddress::Return(0));
            }
        }
    }
    assert_eq!(walk.end(), Some(End::Root(Root::UndefinedReturn)), "our own walk reaches the thread's root");
    (steps, differences)
}

#[test]
fn framehop_and_our_rows_agree_on_every_frame_of_this_thread() {
    let (steps, differences) = compare(5);
    assert_eq!(differences, Vec::<String>::new());
    assert!(steps > 10, "{steps} frames");
}

#[test]
fn only_pc_sp_and_fp_are_known_in_a_frame_found_by_framehop() {
    let stack = Drawing::at(0x7000)
        .word(0x40_2000)
        .set(Register::general(12).unwrap(), 7)
        .eh_frame(cfi::eh_frame(&[cfi::Fde::new(&[&cfi::def_cfa(7, 8), &cfi::offset(16, 1)])]));
    let trace = stack.walk(&[&Framehop::new()]);
    assert_eq!(trace.pcs().get(..2), Some(&[0x40_1000, 0x40_2000][..]));
    let frame = &trace.frames[1];
    assert_eq!(frame.found_by, FoundBy::Foreign("framehop"));
    assert_eq!((frame.regs.get(X86_64.sp), frame.regs.get(X86_64.fp)), (Some(0x7008), Some(0x7000)));
    assert_eq!(frame.regs.get(Register::general(12).unwrap()), None);
}

#[test]
fn code_without_unwind_sections_is_not_framehops() {
    let trace = Drawing::at(0x7000).words(&[0x7100, 0x40_2000]).walk(&[&Framehop::new()]);
    assert_eq!(trace.end, End::Stopped(Error::UnknownCode { pc: 0x40_1000 }));
    assert_eq!(trace.refusals, [(0, surestack_walk::Why::NoModule)]);
}
