//! Code in memory compared with its file, in a program whose code is changed while it waits.

mod waiting;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use surestack::evidence::{FileEvidence, Unprobed};
use surestack::image::Find;
use surestack::snapshot::process::StoppedProcess;
use surestack_walk::{CodeAddress, Evidence, Mapping, Memory, Modules, Proof, Witness};
use waiting::{Chain, Waiting, run};

/// Writes into the program's code, as a debugger does.
fn poke(waiting: &Waiting, address: u64, bytes: &[u8]) {
    let memory = OpenOptions::new().write(true).open(format!("/proc/{}/mem", waiting.id())).unwrap();
    memory.write_all_at(bytes, address).unwrap();
}

fn bytes(process: &StoppedProcess, address: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    process.snapshot().memory.read(address, &mut bytes).unwrap();
    bytes
}

fn proof(process: &StoppedProcess, pc: u64) -> Proof {
    FileEvidence::new(process.snapshot(), Rc::default()).text(CodeAddress::Exact(pc))
}

/// Runs the program and hands over its first chain, whose calls are direct.
fn direct(name: &str, flags: &[&str]) -> (Waiting, StoppedProcess, Chain) {
    let waiting = run(name, "g++", flags);
    let process = StoppedProcess::open(waiting.id(), Find::default()).unwrap();
    let chain = waiting.chains().into_iter().next().unwrap();
    (waiting, process, chain)
}

#[test]
fn code_that_nobody_touched_is_its_files() {
    let (_waiting, process, chain) = direct("untouched", &["-O2"]);
    for pc in [chain.pc, chain.in_a, chain.in_b] {
        assert_eq!(proof(&process, pc), Proof::Proven);
    }
    assert_eq!(proof(&process, 0x1000), Proof::Unknown, "no file");
}

#[test]
fn a_breakpoint_between_instructions_is_recognised_and_the_code_under_it_is_read() {
    let (waiting, process, chain) = direct("planted", &["-O2"]);
    // The call of c is five bytes long.
    let call = chain.in_b - 5;
    let before = bytes(&process, call, 5);
    assert_eq!(before[0], 0xe8);
    poke(&waiting, call, &[0xcc]);
    assert_eq!(proof(&process, chain.in_b), Proof::Proven);
    let snapshot = process.snapshot();
    let mut original = [0; 5];
    Unprobed::new(&*snapshot.memory, Some(&snapshot.space)).read(call, &mut original).unwrap();
    assert_eq!(original, *before);
    let evidence = FileEvidence::new(snapshot, Rc::default());
    assert_eq!(evidence.call(chain.in_b, CodeAddress::Exact(chain.pc)), Witness::Confirmed);
    assert_eq!(evidence.call(chain.in_a, CodeAddress::Return(chain.in_b)), Witness::Confirmed);
    assert!(matches!(evidence.call(chain.in_a, CodeAddress::Exact(chain.pc)), Witness::Refuted { .. }));
}

#[test]
fn a_breakpoint_inside_an_instruction_is_no_probe() {
    let (waiting, process, chain) = direct("inside", &["-O2"]);
    poke(&waiting, chain.in_b - 4, &[0xcc]);
    assert_eq!(proof(&process, chain.in_b), Proof::Refuted);
    assert_eq!(proof(&process, chain.pc), Proof::Proven, "another function");
}

#[test]
fn code_that_was_changed_otherwise_is_not_its_files_and_is_read_as_it_is() {
    let (waiting, process, chain) = direct("changed", &["-O2"]);
    // A live patch: b's first bytes become a jump to itself, the rest stays.
    poke(&waiting, chain.in_b - 5, &[0xe9]);
    assert_eq!(proof(&process, chain.in_b), Proof::Refuted);
    let evidence = FileEvidence::new(process.snapshot(), Rc::default());
    assert_eq!(evidence.call(chain.in_b, CodeAddress::Exact(chain.pc)), Witness::NotACall);
}

/// An instruction with five bytes that does nothing, in the function that covers `pc`.
fn nop5(process: &StoppedProcess, pc: u64) -> u64 {
    let code = bytes(process, pc, 64);
    let at = code.windows(5).position(|bytes| bytes == [0x0f, 0x1f, 0x44, 0x00, 0x00]).expect("a nop of five bytes");
    pc + at as u64
}

/// That the kernel's own page is one is seen in `tests/kernel.rs`.
#[test]
fn a_nop_that_became_a_call_is_no_probe_unless_the_call_leads_to_the_kernels_page() {
    let (waiting, process, chain) = direct("nop5", &["-O2", "-DPROBED"]);
    let nop = nop5(&process, chain.pc);
    let space = &process.snapshot().space;
    let reachable = |start: u64| start.abs_diff(nop) < 1 << 31;
    let page = space.mappings.iter().find(|found| found.file.is_none() && reachable(found.start));
    let page = page.filter(|found| space.mapping(found.start) == Mapping::Code).expect("the program's own trampoline");
    let call_to = |target: u64| {
        let offset = i32::try_from(target.cast_signed() - (nop + 5).cast_signed()).unwrap();
        let mut call = vec![0xe8];
        call.extend(offset.to_le_bytes());
        call
    };
    for (target, whose) in [(page.start, "the program's own page"), (chain.in_a, "the program")] {
        poke(&waiting, nop, &call_to(target));
        assert_eq!(proof(&process, chain.pc), Proof::Refuted, "a call into {whose}");
    }
    poke(&waiting, nop, &[0x0f, 0x1f, 0x44, 0x00, 0x00]);
    // While the kernel writes a call, the first byte is a breakpoint.
    poke(&waiting, nop, &[0xcc]);
    assert_eq!(proof(&process, chain.pc), Proof::Proven);
    let snapshot = process.snapshot();
    let code = Unprobed::new(&*snapshot.memory, Some(&snapshot.space));
    for back in 0..5 {
        let mut original = [0; 3];
        code.read(nop + back, &mut original).unwrap();
        let expected = [0x0f, 0x1f, 0x44, 0x00, 0x00];
        let index = back as usize;
        let shared = (5 - index).min(3);
        assert_eq!(original[..shared], expected[index..index + shared], "from byte {back} on");
    }
}

#[test]
fn the_vdso_is_our_own() {
    let (_waiting, process, _chain) = direct("vdso", &["-O2"]);
    let start = process.snapshot().process.aux(33).expect("AT_SYSINFO_EHDR");
    let (_, vdso) = process.snapshot().space.module(start).expect("the vDSO is a module");
    assert_eq!(proof(&process, vdso.start + 0x800), Proof::Proven);
}
