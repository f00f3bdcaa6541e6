//! The kernel as adversary: real uprobes, uretprobes and breakpoints, in code that is on the stack.
//!
//! Where the kernel refuses a probe the scene is skipped, with a line that says so.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

#[path = "kernel/bed.rs"]
mod bed;
mod skip;
#[path = "kernel/traced.rs"]
mod traced;

use bed::{BUILDS, Kind, Probe, Program, Running, alone};
use skip::skipped;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use surestack::image::Find;
use surestack::snapshot::process::hold::{self, Hold};
use surestack::snapshot::{Snapshot, core_file};
use surestack::trace::{Judged, Known, Tracer};
use surestack_reliable::{Doubt, Verdict};
use surestack_walk::{CodeAddress, FoundBy};
use traced::Traced;

/// The pcs of a thread, how they were found, and what was made of them.
struct Seen {
    pcs: Vec<u64>,
    found_by: Vec<FoundBy>,
    judged: Judged,
}

impl Seen {
    fn first_thread(snapshot: &Snapshot) -> Self {
        let known = Known::default();
        let thread = snapshot.threads.first().expect("a thread");
        let (mut pcs, mut found_by) = (vec![], vec![]);
        let judged = Tracer::new(snapshot, &known).walk(&thread.regs, thread.stop, |frame| {
            pcs.push(frame.pc.value());
            found_by.push(frame.found_by);
        });
        Self { pcs, found_by, judged }
    }

    fn live(pid: u32) -> Self {
        let hold = Hold::stop(pid, &hold::Options::default()).expect("it can be held");
        Self::first_thread(hold.snapshot())
    }

    fn core(path: &Path) -> Self {
        Self::first_thread(&core_file::open(path, &Find::default()).expect("a core"))
    }

    /// Names of its frames in the program, without repeats of what is not.
    fn names(&self, program: &Program) -> Vec<String> {
        let name = |(index, pc): (usize, &u64)| program.named(if index == 0 { *pc } else { pc - 1 });
        self.pcs.iter().enumerate().filter_map(name).collect()
    }

    /// Where the first return address that the kernel replaced is.
    fn hole(&self) -> Option<usize> {
        let found = |doubted: &surestack_reliable::Doubted| matches!(doubted.doubt, Doubt::ReturnProbed { .. });
        self.judged.doubts.iter().find(|doubted| found(doubted)).map(|doubted| doubted.frame)
    }
}

/// The probe, or a line that says why there is none.
fn planted(probe: std::io::Result<Probe>, scene: &str) -> Option<Probe> {
    probe.map_err(|error| skipped(&format!("{scene}: the kernel refuses probes: {error}"))).ok()
}

#[test]
fn frames_before_a_probed_return_are_exact_the_hole_is_named_and_the_trace_is_never_reliable() {
    let _alone = alone();
    for build in BUILDS {
        let program = Program::build(build);
        let clean = Seen::live(program.waiting().pid());
        assert_eq!(clean.judged.verdict, Verdict::Reliable, "{:?}", clean.judged.doubts);
        let names = clean.names(&program);
        assert_eq!(names[..4], ["leaf", "mid", "outer", "main"], "{names:?}");
        let depth = |name: &str| {
            clean.pcs.len()
                - clean
                    .pcs
                    .iter()
                    .rev()
                    .position(|pc| program.named(pc - 1).as_deref() == Some(name))
                    .expect("it is there")
        };
        for hidden in [&["mid"][..], &["leaf"], &["leaf", "mid"], &["outer"]] {
            let probes: Option<Vec<_>> = hidden
                .iter()
                .map(|name| planted(program.probe(Kind::Return, program.function(name).0), "uretprobe"))
                .collect();
            let Some(probes) = probes else { return };
            let running = program.waiting();
            let live = Seen::live(running.pid());
            let core = Seen::core(&running.core(libc::SIGQUIT));
            for (how, seen) in [("live", live), ("core", core)] {
                let what = format!("{how} {build:?} {hidden:?}: {:x?} {:?}", seen.pcs, seen.judged.doubts);
                let hole = depth(hidden[0]);
                assert_eq!(seen.judged.verdict, Verdict::Unreliable, "{what}");
                assert_eq!(seen.hole(), Some(hole), "{what}");
                assert_eq!(seen.judged.believed, hole, "{what}");
                assert_eq!(seen.pcs[..hole], clean.pcs[..hole], "{what}");
                if build.0 == "fp" && hidden.len() == 1 {
                    assert_eq!(seen.pcs[hole + 1..], clean.pcs[hole + 1..], "frame pointers lead on: {what}");
                }
                assert!(
                    seen.found_by[hole + 1..].iter().take(1).all(|found| *found == FoundBy::FramePointer),
                    "{what}"
                );
            }
            drop(probes);
            assert_eq!(Seen::live(program.waiting().pid()).judged.verdict, Verdict::Reliable, "the probes are gone");
        }
    }
}

/// What `surestack check` says about replacing a function of the program, and its exit code.
fn check(program: &Program, pid: u32, function: &str) -> (Option<i32>, serde_json::Value) {
    let targets = program.path.with_extension(format!("targets-{:?}", std::thread::current().id()));
    // One function of the program is assembly, without a description of what was inlined.
    std::fs::write(&targets, format!("{function} vouch")).expect("a file under target/");
    let mut command = Command::new(env!("CARGO_BIN_EXE_surestack"));
    let output = command.args(["check", "--json", &pid.to_string(), "--functions"]).arg(&targets).output();
    let output = output.expect("it runs");
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

#[test]
fn a_function_hidden_by_a_probed_return_is_never_allowed_to_be_replaced() {
    let _alone = alone();
    for build in BUILDS {
        let program = Program::build(build);
        let clean = |targets: &[&str]| {
            let running = program.waiting();
            for target in targets {
                let (code, said) = check(&program, running.pid(), target);
                let standing = &said["threads"][0]["standing"];
                assert_eq!((code, standing.as_str()), (Some(1), Some("blocked")), "{build:?} {target}: {said:#}");
            }
            let (code, said) = check(&program, running.pid(), "caller1");
            assert_eq!(code, Some(0), "nobody is in it: {build:?}: {said:#}");
        };
        clean(&["leaf", "mid", "outer"]);
        for probed in ["leaf", "mid"] {
            let Some(_probe) = planted(program.probe(Kind::Return, program.function(probed).0), "uretprobe") else {
                return;
            };
            let running = program.waiting();
            for target in ["mid", "outer", "caller1"] {
                let (code, said) = check(&program, running.pid(), target);
                let what = format!("{build:?} {probed} {target}: {code:?} {said:#}");
                assert!(matches!(code, Some(1 | 5)), "{what}");
                let thread = &said["threads"][0];
                let untrusted = format!("{thread}").contains("uretprobe");
                assert!(matches!(thread["standing"].as_str(), Some("blocked" | "untrusted")) && untrusted, "{what}");
            }
        }
        clean(&["mid"]);
    }
}

#[test]
fn probes_on_instructions_of_functions_on_the_stack_change_nothing() {
    let _alone = alone();
    for build in BUILDS {
        let program = Program::build(build);
        let clean = Seen::live(program.waiting().pid());
        let probes: Option<Vec<_>> = ["leaf", "mid", "outer"]
            .iter()
            .map(|name| planted(program.probe(Kind::Entry, program.function(name).0), "uprobe"))
            .collect();
        let Some(_probes) = probes else { return };
        let running = program.waiting();
        let live = Seen::live(running.pid());
        let core = Seen::core(&running.core(libc::SIGQUIT));
        for (how, seen) in [("live", live), ("core", core)] {
            assert_eq!(seen.pcs, clean.pcs, "{how} {build:?}");
            assert_eq!(seen.judged.verdict, Verdict::Reliable, "{how} {build:?}: {:?}", seen.judged.doubts);
        }
    }
}

/// The frames of the first thread, and what was made of them.
fn trace(snapshot: &Snapshot, known: &Known) -> (Vec<(CodeAddress, FoundBy)>, Judged) {
    let thread = &snapshot.threads[0];
    let mut frames = vec![];
    let judged = Tracer::new(snapshot, known).walk(&thread.regs, thread.stop, |frame| {
        frames.push((frame.pc, frame.found_by));
    });
    (frames, judged)
}

/// Samples taken of a loop around a probed nop. A profiler takes as many in two minutes.
const SAMPLES: usize = 10_000;

#[test]
fn at_every_sample_of_a_probed_nop_the_callers_are_those_of_the_unprobed_one() {
    let _alone = alone();
    for build in BUILDS {
        let program = Program::build(build);
        let Some(_probe) = planted(program.probe(Kind::Entry, program.function("site").0), "nop probe") else { return };
        let running = program.start("loop");
        let mut traced = Traced::seize(running.pid());
        // Out of the loader, and the nop a call.
        traced.interrupt(std::time::Duration::from_millis(100));
        traced.look(|_, _| ());
        let (mut inside, mut offsets) = (0, BTreeMap::new());
        for sample in 0..SAMPLES {
            traced.interrupt(std::time::Duration::from_micros(20 + sample as u64 % 7));
            let (frames, judged) = traced.look(trace);
            let what = format!("sample {sample}: {frames:x?} {:?}", judged.doubts);
            if let Some(offset) = in_trampoline(&program, &frames, &what) {
                inside += 1;
                *offsets.entry(offset).or_insert(0) += 1;
            } else {
                let names: Vec<_> = frames.iter().filter_map(|(pc, _)| program.named(pc.lookup())).collect();
                let from = names.iter().position(|name| name == "loop").unwrap_or_else(|| panic!("{what}"));
                assert_eq!(names[from..from + 3], ["loop", "looping", "main"], "{what}");
            }
            assert_eq!(judged.verdict, Verdict::Reliable, "{what}");
        }
        println!("{build:?}: {inside} of {SAMPLES} samples in the trampoline, by offset: {offsets:?}");
        if inside == 0 {
            skipped("nop probe: this kernel does not turn nops into calls");
        }
    }
}

#[test]
fn at_every_instruction_of_a_nop_probes_trampoline_the_chain_is_exact_and_in_a_core_made_there() {
    let _alone = alone();
    for build in BUILDS {
        let program = Program::build(build);
        let Some(_probe) = planted(program.probe(Kind::Entry, program.function("site").0), "nop probe") else { return };
        let running = program.start("loop");
        let mut traced = around(&running);
        let mut offsets = BTreeSet::new();
        for _ in 0..TWICE_AROUND {
            offsets.extend(step_in_loop(&program, &mut traced));
        }
        if offsets.is_empty() {
            skipped("nop probe: this kernel does not turn nops into calls");
            return;
        }
        // Behind its system call a single step comes two bytes late.
        assert!(offsets.is_superset(&[0, 1, 3, 4, 11, 14, 16, 17].into()), "{build:?}: {offsets:?}");
        for offset in offsets {
            let running = program.start("loop");
            let mut traced = around(&running);
            let there = (0..TWICE_AROUND).any(|_| step_in_loop(&program, &mut traced) == Some(offset));
            assert!(there, "{build:?}: {offset}");
            traced.leave(libc::SIGQUIT);
            assert_eq!(in_core(&program, running.core(0)), Some(offset), "{build:?}");
        }
        // A signal from outside comes mostly where the system call returns to, which no step shows.
        let running = program.start("loop");
        around(&running).leave(0);
        println!("{build:?}: the signal came at {:?}", in_core(&program, running.core(libc::SIGQUIT)));
    }
}

/// Where in the trampoline a core was made of a program in its loop; the chain is exact.
fn in_core(program: &Program, path: PathBuf) -> Option<u64> {
    let core = core_file::open(&path, &Find::default()).expect("a core");
    let (frames, judged) = trace(&core, &Known::default());
    let what = format!("{frames:x?} {:?}", judged.doubts);
    assert_eq!(judged.verdict, Verdict::Reliable, "{what}");
    in_trampoline(program, &frames, &what)
}

/// As many instructions as the loop around the nop takes twice.
const TWICE_AROUND: usize = 100;

/// A program that runs round its loop, out of the loader and the nop a call, stopped.
fn around(running: &Running) -> Traced {
    let mut traced = Traced::seize(running.pid());
    traced.interrupt(std::time::Duration::from_millis(100));
    traced
}

/// One instruction on, where the chain is exact: at which offset of the trampoline.
fn step_in_loop(program: &Program, traced: &mut Traced) -> Option<u64> {
    traced.step();
    let (frames, judged) = traced.look(trace);
    let what = format!("{frames:x?} {:?}", judged.doubts);
    assert_eq!(judged.verdict, Verdict::Reliable, "{what}");
    in_trampoline(program, &frames, &what)
}

/// Where a trace of the loop goes through the nop's trampoline: at which offset of it, and whether the chain is exact.
fn in_trampoline(program: &Program, frames: &[(CodeAddress, FoundBy)], what: &str) -> Option<u64> {
    let by_probe = frames.iter().position(|(_, found)| *found == FoundBy::Probe)?;
    assert_eq!(by_probe, 1, "{what}");
    let behind = CodeAddress::Exact(program.function("site").0 + 5);
    assert_eq!(frames[1].0, behind, "{what}");
    let names: Vec<_> = frames.iter().filter_map(|(pc, _)| program.named(pc.lookup())).collect();
    assert_eq!(names[..4], ["probed", "loop", "looping", "main"], "{what}");
    Some(frames[0].0.value() & 0xfff)
}

#[test]
fn a_breakpoint_that_the_program_planted_over_a_push_leaves_an_exact_chain_in_its_core() {
    let _alone = alone();
    for build in BUILDS {
        let program = Program::build(build);
        let seen = Seen::core(&program.start("trap").core(0));
        let names = seen.names(&program);
        assert_eq!(names[..4], ["victim", "caller1", "caller2", "main"], "{names:?}");
        assert_eq!(seen.pcs[0], program.function("victim").0, "the instruction under the breakpoint has not run");
        assert_eq!(seen.judged.verdict, Verdict::Reliable, "{:?}", seen.judged.doubts);
    }
}

#[test]
fn from_the_handler_of_a_breakpoint_the_walk_goes_on_at_the_instruction_under_it() {
    let _alone = alone();
    for build in BUILDS {
        let program = Program::build(build);
        let running = program.waiting_in("handled");
        let live = Seen::live(running.pid());
        let core = Seen::core(&running.core(libc::SIGQUIT));
        for (how, seen) in [("live", live), ("core", core)] {
            let what = format!("{how} {build:?}: {:x?} {:?}", seen.pcs, seen.judged.doubts);
            let victim = program.function("victim").0;
            let at = seen.pcs.iter().position(|pc| *pc == victim).unwrap_or_else(|| panic!("{what}"));
            assert!(matches!(seen.found_by[at], FoundBy::SignalFrame(_)), "{what}");
            let names: Vec<_> = seen.pcs[at + 1..].iter().filter_map(|pc| program.named(pc - 1)).collect();
            assert_eq!(names[..3], ["caller1", "caller2", "main"], "{what}");
            assert_eq!(seen.judged.verdict, Verdict::Reliable, "{what}");
        }
    }
}

#[test]
fn with_a_breakpoint_over_any_instruction_of_a_function_the_chain_is_exact() {
    let _alone = alone();
    for build in BUILDS {
        let program = Program::build(build);
        let mut planted = 0;
        for function in ["framed", "red_zone", "saves", "dynamic", "shapes"] {
            let (start, size) = program.function(function);
            let mut callers: Option<Vec<u64>> = None;
            for at in program.instructions(start, size) {
                let mut traced = Traced::spawn(&program, "shapes");
                if !traced.run_to(at) {
                    continue;
                }
                planted += 1;
                let (frames, judged) = traced.look(|snapshot, known| {
                    let thread = &snapshot.threads[0];
                    let mut pcs = vec![];
                    let judged = Tracer::new(snapshot, known)
                        .walk(&thread.regs, thread.stop, |frame| pcs.push(frame.pc.value()));
                    (pcs, judged)
                });
                let what = format!("{build:?} {function} at {at:#x}: {frames:x?} {:?}", judged.doubts);
                assert_eq!(frames[0], at, "{what}");
                let expected = callers.get_or_insert_with(|| frames[1..].to_vec());
                assert_eq!(frames[1..], expected[..], "{what}");
                assert_eq!(judged.verdict, Verdict::Reliable, "{what}");
            }
            let names: Vec<_> = callers.unwrap_or_default().iter().filter_map(|pc| program.named(pc - 1)).collect();
            assert!(names.contains(&"main".to_owned()), "{function}: {names:?}");
        }
        assert!(planted > 60, "{planted}");
        println!("{build:?}: {planted} breakpoints");
    }
}
