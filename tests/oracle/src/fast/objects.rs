//! Tables and rules of files at each of their addresses.
//!
//! ```text
//!   linked address ─┬─► table       compiled
//!   as a pc and as  ├─► Evaluated   our own reader
//!   return address  ├─► gimli       whose row is packed
//!                   └─► a chase with the table, and a full walk, over one drawn stack
//! ```

use super::object::{Object, place};
use super::seen::Seen;
use super::tally::Tally;
use crate::error::Result;
use crate::random::Random;
use crate::targets::Set;
use std::ops::Range;
use std::path::{Path, PathBuf};
use surestack_cfi::{Cfi, DwarfRows, Lookup, ReferenceRows, Rows};
use surestack_fast::{Cache, Chase, Evaluated, Ground, Packed, Remembered, Ruled, Rules, Special, Start, Unpacked};
use surestack_frame_pointer::{Entry, FramePointer};
use surestack_signal_frame::{SignalFrame, Underfoot, underfoot};
use surestack_walk::{CodeAddress, Mapping, Modules, Register, Regs, Target, Unwinder, X86_64};

/// Files by the names they have in the table. Of some there are several places to look for; those that are not there are left
/// out.
const OBJECTS: &[(&str, Set, &[&str])] = &[
    ("ld.so", Set::Short, &["/lib64/ld-linux-x86-64.so.2"]),
    ("libc", Set::Short, &["/lib/x86_64-linux-gnu/libc.so.6"]),
    ("libm", Set::Short, &["/lib/x86_64-linux-gnu/libm.so.6"]),
    ("libstdc++", Set::Short, &["/usr/lib/x86_64-linux-gnu/libstdc++.so.6"]),
    ("libgcc_s", Set::Short, &["/lib/x86_64-linux-gnu/libgcc_s.so.1"]),
    ("libcrypto", Set::Full, &["/usr/lib/x86_64-linux-gnu/libcrypto.so.3"]),
    ("bash", Set::Full, &["/usr/bin/bash"]),
    ("git", Set::Full, &["/usr/bin/git"]),
    ("python3", Set::Full, &["/usr/bin/python3"]),
    ("ocamlopt", Set::Full, &["/usr/bin/ocamlopt.opt", "/usr/bin/ocamlc.opt"]),
    ("this oracle (Rust)", Set::Full, &["/proc/self/exe"]),
    ("node", Set::Full, &["/usr/bin/node"]),
    ("libLLVM", Set::Full, &["/usr/lib/x86_64-linux-gnu/libLLVM-14.so.1"]),
];

/// Frames of a step that is followed: a frame pointer shows in the frames behind it.
const BUDGET: usize = 6;
/// After so many steps another stack is drawn.
const STACK: u64 = 4096;

/// Most steps that are followed of one object.
const fn steps(set: Set) -> u64 {
    match set {
        Set::Short => 40_000,
        Set::Full => 4_000_000,
    }
}

/// The objects of a set that are there.
pub fn objects(set: Set) -> Vec<(&'static str, PathBuf)> {
    let wanted = OBJECTS.iter().filter(|(_, of, _)| set == Set::Full || *of == set);
    let there = |paths: &[&str]| paths.iter().map(PathBuf::from).find(|path| path.exists());
    wanted.filter_map(|(name, _, paths)| Some((*name, there(paths)?))).collect()
}

/// Asks for every address of an object.
pub fn measure(name: &str, path: &Path, set: Set) -> Result<Tally> {
    let mut object = Object::open(path)?;
    let mut tally = Tally {
        rows: object.table.rows(),
        bytes: object.table.size(),
        unwind: object.unwind_size(),
        code: object.code.iter().map(|code| code.end - code.start).sum(),
        compiled_in: object.compiled_in,
        ..Tally::default()
    };
    object.with(|target| rules(&object, target, &mut tally));
    let mut random = Random::of(name);
    let every = (2 * tally.code / steps(set)).max(1);
    let mut follower = Follower { cache: Box::new(Cache::new()), previous: Remembered::new() };
    for code in object.code.clone() {
        let addresses = code.flat_map(|linked| [CodeAddress::Exact(linked), CodeAddress::Return(linked)]);
        for pc in addresses.step_by(usize::try_from(every).unwrap_or(1)) {
            if tally.followed.is_multiple_of(STACK) {
                object.fill(&mut random);
            }
            follower.follow(&mut object, pc, &mut random, &mut tally);
        }
    }
    Ok(tally)
}

/// Holds the three sources of rules against each other at every byte of code, one before it and one behind.
fn rules(object: &Object, target: &Target<'_>, tally: &mut Tally) {
    let mut reference = Reference { entries: object.entries(), held: 0..0, rule: None };
    for code in &object.code {
        for linked in code.start.saturating_sub(1)..=code.end {
            let at = object.mapped_at(linked);
            for pc in [CodeAddress::Exact(at), CodeAddress::Return(at.wrapping_add(1))] {
                tally.asked += 1;
                let table = object.table.look_up(linked);
                let ruled = object.rule(target, pc);
                let evaluated = Evaluated.rule(target, pc);
                let full = reference.rule(object, target, pc);
                tally.left += u64::from(table == Ruled::Ask);
                match full.map(Packed::unpacked) {
                    Some(Unpacked::Special(Special::Full)) => tally.full += 1,
                    Some(Unpacked::Special(_) | Unpacked::Aligned { .. }) => tally.special += 1,
                    Some(Unpacked::BySp { .. } | Unpacked::ByFp { .. }) => {}
                    None => tally.none += 1,
                }
                if ruled != full || evaluated != full {
                    tally.differs(|| format!("{pc:x?}: table {table:x?}, evaluated {evaluated:x?}, full {full:x?}"));
                }
            }
        }
    }
}

/// Rules from gimli's rows; a row is asked for once.
struct Reference {
    entries: Vec<u64>,
    /// Addresses to which the last row applies.
    held: Range<u64>,
    rule: Option<Packed>,
}

impl Reference {
    fn rule(&mut self, object: &Object, target: &Target<'_>, pc: CodeAddress) -> Option<Packed> {
        if !pc.is_exact() && matches!(object.mapping(pc.value()), Mapping::Data | Mapping::Nothing) {
            return None;
        }
        match underfoot(target, pc) {
            Some(Underfoot::Trampoline) => return Some(Packed::special(Special::Signal)),
            Some(Underfoot::ContextEntry) => return Some(Packed::special(Special::ContextEntry)),
            None => {}
        }
        let lookup = pc.lookup();
        if !self.held.contains(&lookup) {
            let row = ReferenceRows.row(target, pc, |row| (row.start..row.end, Packed::of(row, target.arch)));
            (self.held, self.rule) = match row {
                Ok(Lookup::Row((held, rule))) => (held, Some(rule)),
                Ok(Lookup::Missing(_)) | Err(_) => (lookup..lookup, None),
            };
            // Where another entry begins, this one is no longer found.
            let behind = self.entries.partition_point(|start| object.mapped_at(*start) <= lookup);
            if let Some(next) = self.entries.get(behind) {
                self.held.end = self.held.end.min(object.mapped_at(*next));
            }
        }
        self.rule
    }
}

/// What is kept from one step to the next.
struct Follower {
    cache: Box<Cache>,
    previous: Remembered,
}

impl Follower {
    /// Follows the rule at a linked address, and some more, on the stack that is drawn.
    fn follow(&mut self, object: &mut Object, linked: CodeAddress, random: &mut Random, tally: &mut Tally) {
        const UNWINDERS: [&dyn Unwinder; 4] = [&SignalFrame, &Cfi(DwarfRows), &Entry, &FramePointer];
        let sp = place(random);
        let at = match linked {
            CodeAddress::Exact(linked) => object.mapped_at(linked),
            // What called it is a function that has just been entered.
            CodeAddress::Return(linked) => {
                object.put(sp, object.mapped_at(linked));
                object.entered
            }
        };
        let fp = if random.below(4) == 0 { place(random) } else { sp.saturating_add(8 * (random.number() % 32)) };
        let mut regs = Regs::new();
        for number in 0..16 {
            Register::general(number).into_iter().for_each(|register| regs.set(register, random.number()));
        }
        regs.set(X86_64.sp, sp);
        regs.set(X86_64.fp, fp);
        regs.set_pc(CodeAddress::Exact(at));
        let object = &*object;
        object.with(|target| {
            let Some(stack) = target.stacks.find(sp) else { return };
            let full = Seen::walked(target, &UNWINDERS, regs, BUDGET);
            let ground = Ground {
                target,
                unwinders: &UNWINDERS,
                budget: BUDGET,
                cache: &self.cache,
                rules: object,
                words: object,
            };
            let start = Start { pc: at, sp, fp, stack, regs: move || regs };
            let mut fast = Seen::default();
            let mut chase = Chase::new(&ground, &start);
            fast.end = if tally.followed.is_multiple_of(2) {
                chase.run_again(&mut self.previous, &mut fast)
            } else {
                chase.run(&mut fast)
            };
            tally.followed += 1;
            tally.frames += u64::try_from(full.frames.len()).unwrap_or(0);
            if let Some(difference) = fast.difference(&full) {
                tally.differs(|| format!("{at:#x} sp {sp:#x} fp {fp:#x}: {difference}"));
            }
        });
    }
}
