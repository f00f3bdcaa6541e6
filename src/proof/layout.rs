//! The functions of one module as unwind information delimits them, and how control gets from one into another.
//!
//! ```text
//!   f       ── call ─────────────►  g         at its start: the ABI says what holds
//!   f       ── jump, call ───────►  inside g  f and g are looked at together
//!   f       ── jump ─────────────►  f.cold    which nobody calls: together too
//!   f       ── throw ────────────►  f.cold    a landing pad in another part
//!   f       ── no jump at its end ► g         behind it: together too
//! ```
//!
//! Addresses are linked addresses.

mod end;

use super::claim::{debug_frame, eh_frame};
use super::{Source, lsda};
use gimli::{BaseAddresses, CieOrFde, EndianSlice, LittleEndian, UnwindSection};
use iced_x86::{Decoder, DecoderOptions, Instruction};
use surestack_walk::{Memory, RowSource};

/// Functions between which lie no more bytes than this are read at once.
const GAP: u64 = 4_096;
/// Most bytes read at once.
const CHUNK: u64 = 1 << 20;
/// More bytes than any function has: interpreters' main loops have a hundred thousand.
const LONGEST: u64 = 1 << 22;
/// How far a short jump leads.
const SHORT: u64 = 130;
/// A part of a function has one host; what so many functions jump to is a function.
const HOSTS: usize = 4;

/// A function, or a part of one that was split off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// The section with its entry.
    pub section: RowSource,
    /// Offset of its entry there.
    pub fde: usize,
    /// Where its table of landing pads lies.
    pub lsda: Option<u64>,
    /// Whether it is called by name somewhere in the module.
    pub called: bool,
}

impl Extent {
    /// Whether `address` is in it.
    pub fn holds(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }
}

/// A branch with a target somewhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Branch {
    from: u64,
    to: u64,
}

/// All functions of a module.
#[derive(Debug, Default)]
pub struct Layout {
    functions: Vec<Extent>,
    /// Functions by index, `into` and `from`, that are looked at together.
    together: Vec<(u32, u32)>,
    back: Vec<(u32, u32)>,
    /// Functions into which code leads that no unwind information covers, ascending.
    open: Vec<u32>,
    /// Functions past whose end control gets into the next one, ascending.
    falls: Vec<u32>,
}

impl Layout {
    /// Reads the unwind information and the code of `source`.
    pub fn new(source: &Source<'_>) -> Self {
        let mut layout = Self { functions: extents(source), ..Self::default() };
        let branches = layout.branches(source);
        layout.sort_out(source, branches);
        layout
    }

    /// The functions, ascending.
    pub fn functions(&self) -> &[Extent] {
        &self.functions
    }

    /// The function that covers `address`.
    pub fn function(&self, address: u64) -> Option<usize> {
        let after = self.functions.partition_point(|function| function.start <= address);
        let index = after.checked_sub(1)?;
        self.functions.get(index)?.holds(address).then_some(index)
    }

    /// Whether code without unwind information leads into the middle of the function.
    pub fn is_open(&self, index: usize) -> bool {
        u32::try_from(index).is_ok_and(|index| self.open.binary_search(&index).is_ok())
    }

    /// Whether control gets past the end of the function into the next one.
    pub fn falls(&self, index: usize) -> bool {
        u32::try_from(index).is_ok_and(|index| self.falls.binary_search(&index).is_ok())
    }

    /// The functions that have to be looked at together with the one at `index`, ascending, up to `most` of them.
    pub fn together(&self, index: usize, most: usize) -> Vec<usize> {
        let mut members = vec![index];
        let mut next = 0;
        while let Some(&member) = members.get(next) {
            next = next.saturating_add(1);
            for other in related(&self.together, member).chain(related(&self.back, member)) {
                if members.len() < most && !members.contains(&other) {
                    members.push(other);
                }
            }
        }
        members.sort_unstable();
        members
    }

    /// Whether it is a procedure linkage table: every stub in it is a function.
    fn is_linkage(&self, source: &Source<'_>, index: usize) -> bool {
        let mut bytes = [0; 8];
        let function = self.functions.get(index).filter(|function| function.lsda.is_none());
        function.is_some_and(|function| source.read(function.start, &mut bytes).is_ok()) && is_linkage(&bytes)
    }

    /// Branches that lead out of the function they are in, and calls. Bytes that only look like one may be among them.
    fn branches(&mut self, source: &Source<'_>) -> Vec<Branch> {
        let mut found = Vec::new();
        let mut calls = Vec::new();
        let (mut first, mut bytes) = (0, Vec::new());
        while let Some(start) = self.functions.get(first).map(|function| function.start) {
            let mut last = first;
            while let (Some(this), Some(next)) = (self.functions.get(last), self.functions.get(last.saturating_add(1)))
                && next.start.saturating_sub(this.end) <= GAP
                && next.end.saturating_sub(start) <= CHUNK
            {
                last = last.saturating_add(1);
            }
            let end = self.functions.get(last).map_or(start, |function| function.end);
            if read(source, start, end, &mut bytes) {
                let cluster = self.functions.get(first..=last).unwrap_or_default();
                scan(&bytes, start, cluster, &mut found, &mut calls);
            }
            first = last.saturating_add(1);
        }
        self.settle(calls, &mut found);
        found
    }

    /// Marks the functions that are called at their start; other calls are branches like jumps.
    fn settle(&mut self, mut calls: Vec<Branch>, found: &mut Vec<Branch>) {
        calls.sort_unstable_by_key(|call| call.to);
        let mut functions = self.functions.iter_mut().peekable();
        for call in calls {
            while functions.next_if(|function| function.end <= call.to).is_some() {}
            match functions.peek_mut() {
                Some(function) if function.start == call.to => function.called = true,
                Some(function) if function.holds(call.to) => found.push(call),
                _ => {}
            }
        }
    }

    /// Sorts branches into those that bind functions together and those that do not matter.
    fn sort_out(&mut self, source: &Source<'_>, mut branches: Vec<Branch>) {
        branches.sort_unstable();
        let mut starts: Vec<(u32, u32)> = Vec::new();
        let stubs: Vec<usize> = (0..self.functions.len()).filter(|index| self.is_linkage(source, *index)).collect();
        let (mut verified_in, mut boundaries) = (usize::MAX, Vec::new());
        for Branch { from, to } in branches {
            let Some(into) = self.function(to) else { continue };
            let Some(target) = self.functions.get(into) else { continue };
            let at_start = target.start == to;
            if at_start && target.called || stubs.contains(&into) {
                continue;
            }
            let Some(host) = self.function(from) else {
                self.open.extend((!at_start).then_some(into).and_then(|into| u32::try_from(into).ok()));
                continue;
            };
            if host == into {
                continue;
            }
            if host != verified_in {
                verified_in = host;
                boundaries = self.functions.get(host).map(|host| instructions(source, host)).unwrap_or_default();
            }
            if boundaries.binary_search(&from).is_err() {
                continue;
            }
            let (Ok(into), Ok(host)) = (u32::try_from(into), u32::try_from(host)) else { continue };
            if at_start { starts.push((into, host)) } else { self.together.push((into, host)) }
        }
        starts.sort_unstable();
        starts.dedup();
        for hosts in starts.chunk_by(|one, other| one.0 == other.0) {
            // Whether it is a part of them or a function that they call in tail position is seen when they jump there.
            if hosts.len() <= HOSTS {
                self.together.extend(hosts);
            }
        }
        self.pads(source);
        self.falls = end::falling(source, &self.functions);
        self.together.extend(self.falls.iter().map(|index| (index.saturating_add(1), *index)));
        self.together.sort_unstable();
        self.together.dedup();
        self.back = self.together.iter().map(|&(into, from)| (from, into)).collect();
        self.back.sort_unstable();
        self.open.sort_unstable();
        self.open.dedup();
    }

    /// Binds functions to the landing pads of their exceptions.
    fn pads(&mut self, source: &Source<'_>) {
        for (index, function) in self.functions.iter().enumerate() {
            let Some(table) = function.lsda else { continue };
            let Some(sites) = lsda::call_sites(source, table, function.start) else { continue };
            for pad in sites.iter().filter_map(|site| site.pad).filter(|pad| !function.holds(*pad)) {
                if let (Some(into), Ok(from)) = (self.function(pad), u32::try_from(index))
                    && let Ok(into) = u32::try_from(into)
                {
                    self.together.push((into, from));
                }
            }
        }
    }
}

/// Whether code begins like a procedure linkage table: `push slot(%rip)`, or `[endbr64;] [bnd] jmp *slot(%rip)`.
pub fn is_linkage(code: &[u8]) -> bool {
    let stub = code.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(code);
    let stub = stub.strip_prefix(&[0xf2]).unwrap_or(stub);
    code.starts_with(&[0xff, 0x35]) || stub.starts_with(&[0xff, 0x25])
}

/// What is paired with `index`.
fn related(pairs: &[(u32, u32)], index: usize) -> impl Iterator<Item = usize> {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    let from = pairs.partition_point(|pair| pair.0 < index);
    let pairs = pairs.get(from..).unwrap_or_default().iter();
    pairs.take_while(move |pair| pair.0 == index).filter_map(|pair| usize::try_from(pair.1).ok())
}

/// What every entry of `.eh_frame` covers, and of `.debug_frame` where that has none.
fn extents(source: &Source<'_>) -> Vec<Extent> {
    let mut found = Vec::new();
    if let Some(section) = source.unwind.eh_frame {
        add_entries(source, &eh_frame(section), section.address, RowSource::EhFrame, &mut found);
    }
    let first = found.len();
    if let Some(section) = source.unwind.debug_frame {
        add_entries(source, &debug_frame(section), section.address, RowSource::DebugFrame, &mut found);
    }
    if first < found.len() {
        let more = found.split_off(first);
        let mut ends = 0;
        let reached: Vec<(u64, u64)> = found
            .iter()
            .map(|function| {
                ends = function.end.max(ends);
                (function.start, ends)
            })
            .collect();
        let is_free = |function: &Extent| {
            let before = reached.partition_point(|(start, _)| *start < function.end).checked_sub(1);
            before.and_then(|index| reached.get(index)).is_none_or(|(_, end)| *end <= function.start)
        };
        found.extend(more.into_iter().filter(is_free));
        found.sort_by_key(|function| function.start);
    }
    found
}

/// Adds what every entry of one section covers, ascending.
fn add_entries<'m, S>(source: &Source<'m>, table: &S, address: u64, section: RowSource, found: &mut Vec<Extent>)
where
    S: UnwindSection<EndianSlice<'m, LittleEndian>>,
    S::Offset: gimli::UnwindOffset<usize>,
{
    let first = found.len();
    let bases = bases(source, address);
    let mut entries = table.entries(&bases);
    let mut kept: Option<(S::Offset, gimli::CommonInformationEntry<EndianSlice<'_, LittleEndian>>)> = None;
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let parsed = partial.parse(|section, bases, offset| match &kept {
            Some((at, cie)) if *at == offset => Ok(cie.clone()),
            _ => {
                let cie = section.cie_from_offset(bases, offset)?;
                kept = Some((offset, cie.clone()));
                Ok(cie)
            }
        });
        let Ok(fde) = parsed else { continue };
        let lsda = fde.lsda().and_then(|pointer| match pointer {
            gimli::Pointer::Direct(address) => Some(address),
            gimli::Pointer::Indirect(slot) => source.word(slot).ok().map(|there| there.wrapping_sub(source.bias)),
        });
        let (start, end) = (fde.initial_address(), fde.end_address());
        if start < end && start != 0 {
            let lsda = lsda.filter(|at| *at != 0);
            found.push(Extent { start, end, section, fde: fde.offset(), lsda, called: false });
        }
    }
    let mut added = found.split_off(first);
    added.sort_by_key(|function| function.start);
    added.dedup_by_key(|function| function.start);
    found.append(&mut added);
}

/// The bases of pointers in `.eh_frame`.
pub fn bases(source: &Source<'_>, eh_frame: u64) -> BaseAddresses {
    let mut bases = BaseAddresses::default().set_eh_frame(eh_frame);
    if let Some(text) = source.unwind.text {
        bases = bases.set_text(text);
    }
    if let Some(got) = source.unwind.got {
        bases = bases.set_got(got);
    }
    bases
}

/// Reads a range of code; whether there is no more of it than a function has, and all could be read.
pub fn read(source: &Source<'_>, start: u64, end: u64, into: &mut Vec<u8>) -> bool {
    let length = end.checked_sub(start).filter(|length| *length <= LONGEST);
    let Some(length) = length.and_then(|length| usize::try_from(length).ok()) else { return false };
    into.resize(length, 0);
    source.read(start, into).is_ok()
}

/// Finds what looks like a call or a jump out of its function in the code of a cluster of functions.
fn scan(bytes: &[u8], start: u64, cluster: &[Extent], found: &mut Vec<Branch>, calls: &mut Vec<Branch>) {
    let mut current = 0;
    for (offset, window) in bytes.windows(6).enumerate() {
        let [first, second, rest @ ..] = window else { break };
        let long = match (first, second) {
            (0xe8 | 0xe9, _) => 1,
            (0x0f, 0x80..=0x8f) => 2,
            (0x70..=0x7f | 0xeb, _) => 0,
            _ => continue,
        };
        let at = start.wrapping_add(u64::try_from(offset).unwrap_or(0));
        let word = |bytes: &[u8]| bytes.first_chunk::<4>().map_or(0, |four| i64::from(i32::from_le_bytes(*four)));
        let to = match long {
            0 => at.wrapping_add(2).wrapping_add_signed(i64::from(i8::from_le_bytes([*second]))),
            1 => at.wrapping_add(5).wrapping_add_signed(word(window.get(1..).unwrap_or_default())),
            _ => at.wrapping_add(6).wrapping_add_signed(word(rest)),
        };
        while let Some(function) = cluster.get(current)
            && function.end <= at
            && current < cluster.len()
        {
            current = current.saturating_add(1);
        }
        let inside = cluster.get(current).filter(|function| function.holds(at));
        // A short jump that stays near the middle of a function stays in it.
        let leaves = match inside {
            Some(function) => *first == 0xe8 || !function.holds(to),
            None => long != 0,
        };
        if leaves && (long != 0 || to.abs_diff(at) <= SHORT) {
            let into = if *first == 0xe8 { &mut *calls } else { &mut *found };
            into.push(Branch { from: at, to });
        }
    }
}

/// Where the instructions of a function begin.
fn instructions(source: &Source<'_>, function: &Extent) -> Vec<u64> {
    let mut bytes = Vec::new();
    if !read(source, function.start, function.end, &mut bytes) {
        return Vec::new();
    }
    let mut decoder = Decoder::with_ip(64, &bytes, function.start, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let mut found = Vec::new();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        found.push(instruction.ip());
    }
    found
}
