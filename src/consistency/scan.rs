//! Stacks that nobody listed, by the words in memory that lead into a target.
//!
//! ```text
//!   stack of a judged thread       │ high
//!     words in its frames          │ searched: a coroutine's stack may be a local variable
//!     its return addresses         │ judged already
//!     below its stack pointer      │ dead, if all of it is this thread's stack and nothing else
//!   guard page                     ▼
//!   everything else that was written: heap, data, other stacks — searched
//! ```
//!
//! A word leads into a target if it may be a return address or a saved pc there. A pointer to a function's first byte is
//! not one: nothing returns to where nothing was called before.

use super::target::{Target, Whose};
use super::trace::{ThreadTrace, Trace};
use super::world::Obstacle;
use crate::snapshot::{AddressSpace, Mapped, Snapshot};
use std::collections::HashSet;
use std::ops::Range;
use std::time::{Duration, Instant};
use surestack_reliable::Verdict;
use surestack_walk::{NoEvidence, Registry, Root, Stack, StackKind, Stacks, Stop};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
/// Where a chunk cannot be read, it is tried by pages.
const PAGE: usize = 4096;
/// Bytes that are searched at most: the process stands still meanwhile. What is beyond is as if it could not be read.
const MOST: u64 = 64 << 30;
/// More words than this are only counted.
const LISTED: usize = 1000;

/// What a search of memory found.
#[derive(Clone, Debug, Default)]
pub struct Searched {
    /// Words that lead into a target and memory that cannot be read.
    pub obstacles: Vec<Obstacle>,
    /// How many bytes were looked at.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// Memory that need not be searched.
#[derive(Clone, Debug, Default)]
pub struct Spared {
    /// Ranges that hold no way back, or whose ways back are known.
    pub ranges: Vec<Range<u64>>,
    /// Whether a stack may be a local variable of a function that is on another stack.
    pub frames: Frames,
}

/// Whether stacks lie in the frames of other stacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Frames {
    /// They may.
    #[default]
    MayHoldStacks,
    /// The caller vouches that none does.
    HoldNone,
}

/// Searches all memory that may be written, now or at another time, for words that lead into `targets` and belong to none of
/// the judged frames.
pub fn search(snapshot: &Snapshot, targets: &[Target], traces: &[ThreadTrace], spared: &Spared) -> Searched {
    let began = Instant::now();
    let places = Places::of(snapshot, targets);
    let stacks = traces.iter().filter_map(|thread| OwnStack::of(&snapshot.space, thread)).collect();
    let owned = traces.iter().flat_map(owned).collect();
    let mut search = Search { snapshot, places, stacks, owned, spared, found: Searched::default(), unread: None };
    if search.places.list.is_empty() {
        return search.found;
    }
    // A stack that is parked may be shut meanwhile: of what belongs to no file and is no code all is searched.
    let may_hold =
        |mapped: &&Mapped| mapped.writable != Some(false) || mapped.file.is_none() && mapped.executable == Some(false);
    for mapped in snapshot.space.mappings.iter().filter(may_hold) {
        search.mapping(mapped);
    }
    search.flush_unread();
    search.found.took = began.elapsed();
    search.found
}

/// Where the words of judged frames lie that may lead into a target.
fn owned(thread: &ThreadTrace) -> impl Iterator<Item = u64> {
    thread.traces().flat_map(|trace| {
        let slots = trace.frames.iter().filter_map(|frame| frame.return_slot);
        slots.chain(trace.saved.iter().copied())
    })
}

/// Where words may lead to that lead into a target.
struct Places {
    list: Vec<(Range<u64>, usize)>,
    low: u64,
    span: u64,
}

impl Places {
    fn of(snapshot: &Snapshot, targets: &[Target]) -> Self {
        let mut list = vec![];
        for (number, target) in targets.iter().enumerate() {
            for part in target.live() {
                // Nobody has a pointer to the first byte of what the compiler split off, so such a word is a saved pc.
                let first =
                    if part.whose == Whose::Split { part.range.start } else { part.range.start.saturating_add(1) };
                // A return address behind the last byte, or the next function: a call stands before it or does not.
                let last = if follows_call(snapshot, part.range.end) {
                    part.range.end.saturating_add(1)
                } else {
                    part.range.end
                };
                list.push((first..last, number));
            }
        }
        list.retain(|(range, _)| !range.is_empty());
        list.sort_unstable_by_key(|(range, number)| (range.start, *number));
        let low = list.first().map_or(0, |(range, _)| range.start);
        let high = list.iter().map(|(range, _)| range.end).max().unwrap_or(0);
        Self { list, low, span: high.saturating_sub(low) }
    }

    fn target(&self, value: u64) -> Option<usize> {
        self.list.iter().find(|(range, _)| range.contains(&value)).map(|(_, number)| *number)
    }
}

fn follows_call(snapshot: &Snapshot, address: u64) -> bool {
    let target = surestack_walk::Target {
        arch: snapshot.arch,
        memory: &*snapshot.memory,
        modules: &snapshot.space,
        stacks: &snapshot.space,
        registry: &Registry::default(),
        evidence: &NoEvidence,
        stop: Stop::default(),
    };
    target.follows_call(address) != Some(false)
}

/// The stack that a thread was started on, while nothing else is on it.
struct OwnStack {
    name: String,
    mapping: Range<u64>,
    /// The lowest stack pointer of its frames; what lies below is dead.
    lowest: u64,
    /// The highest address of a frame that was judged.
    top: u64,
}

impl OwnStack {
    fn of(space: &AddressSpace, thread: &ThreadTrace) -> Option<Self> {
        // However it goes on, the stack pointer is the same.
        let trace =
            thread.traces().next().filter(|_| thread.traces().all(|trace| trace.verdict == Verdict::Reliable))?;
        let outermost = trace.frames.last()?.sp?;
        let stack = space.find(outermost)?;
        let on_it = |sp: &u64| (stack.low..=stack.high).contains(sp);
        // Below the innermost frame on it. A handler on another stack may have interrupted that one.
        let lowest = trace.frames.iter().filter_map(|frame| frame.sp).filter(on_it).min()?;
        let name = thread.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        let name = format!("{}{name}", thread.of);
        is_whole(space, &stack, trace).then_some(Self { name, mapping: stack.low..stack.high, lowest, top: outermost })
    }
}

/// Whether nothing but this thread's frames can be below them on the stack: it is the one that the kernel made for the
/// first thread, or it begins at a guard page, and the frames go down to where threads begin.
fn is_whole(space: &AddressSpace, stack: &Stack, trace: &Trace) -> bool {
    let begins = matches!(trace.root, Some(Root::EntryPoint | Root::UndefinedReturn));
    let guarded = || {
        let below = stack.low.checked_sub(1).and_then(|below| space.mapped(below));
        below.is_some_and(|below| {
            below.file.is_none() && below.writable == Some(false) && below.executable == Some(false)
        })
    };
    begins && (stack.kind == StackKind::Main || guarded())
}

struct Search<'s> {
    snapshot: &'s Snapshot,
    places: Places,
    stacks: Vec<OwnStack>,
    owned: HashSet<u64>,
    spared: &'s Spared,
    found: Searched,
    /// Memory that could not be read, up to where the search is.
    unread: Option<Range<u64>>,
}

impl Search<'_> {
    fn mapping(&mut self, mapped: &Mapped) {
        if self.spared.ranges.iter().any(|range| range.start <= mapped.start && mapped.end <= range.end) {
            return;
        }
        let mut at = mapped.start;
        let mut buffer = vec![0; CHUNK];
        while at < mapped.end {
            // Of a file all is there; what else was never written holds nothing, and may be as large as an address space.
            let next = if mapped.file.is_none() { self.snapshot.memory.next_held(at..mapped.end) } else { Some(at) };
            let next = next.unwrap_or(mapped.end);
            if at < next {
                self.not_held(mapped, at..next);
                at = next;
                continue;
            }
            if self.found.bytes >= MOST {
                // Whatever it is: what is there and was not looked at is said.
                self.found.obstacles.push(Obstacle::Unreadable { range: at..mapped.end });
                return;
            }
            let size = usize::try_from(mapped.end.saturating_sub(at)).unwrap_or(CHUNK).min(CHUNK);
            self.chunk(mapped, at, size, &mut buffer);
            at = at.saturating_add(CHUNK as u64);
        }
    }

    /// Memory that nothing was written to, or that is not here: the first of it tells which.
    fn not_held(&mut self, mapped: &Mapped, range: Range<u64>) {
        if self.snapshot.memory.read(range.start, &mut [0]).is_err() {
            self.not_read(mapped, range);
        }
    }

    fn chunk(&mut self, mapped: &Mapped, at: u64, size: usize, buffer: &mut [u8]) {
        let Some(bytes) = buffer.get_mut(..size) else { return };
        if self.snapshot.memory.read(at, bytes).is_ok() {
            return self.words(mapped, at, bytes);
        }
        let mut page = at;
        for bytes in bytes.chunks_mut(PAGE) {
            match self.snapshot.memory.read(page, bytes) {
                Ok(()) => self.words(mapped, page, bytes),
                Err(_) => self.not_read(mapped, page..page.saturating_add(PAGE as u64)),
            }
            page = page.saturating_add(PAGE as u64);
        }
    }

    fn words(&mut self, mapped: &Mapped, at: u64, bytes: &[u8]) {
        self.found.bytes = self.found.bytes.saturating_add(bytes.len() as u64);
        let (words, _) = bytes.as_chunks::<8>();
        let (low, span) = (self.places.low, self.places.span);
        let near = |word: &[u8; 8]| u64::from_le_bytes(*word).wrapping_sub(low) < span;
        // Most memory has no such word at all: a block is passed over as fast as it can be read.
        for (block, words) in words.chunks(64).enumerate() {
            if !words.iter().fold(false, |any, word| any | near(word)) {
                continue;
            }
            for (number, word) in words.iter().enumerate().filter(|(_, word)| near(word)) {
                let offset = (block * 64 + number) as u64 * 8;
                self.word(mapped, at.saturating_add(offset), u64::from_le_bytes(*word));
            }
        }
    }

    fn word(&mut self, mapped: &Mapped, at: u64, value: u64) {
        let Some(target) = self.places.target(value) else { return };
        if self.owned.contains(&at) || self.spared.ranges.iter().any(|range| range.contains(&at)) {
            return;
        }
        let stack = self.stacks.iter().find(|stack| stack.mapping.contains(&at));
        let place = match stack {
            // The red zone too: no return address is ever there.
            Some(stack) if at < stack.lowest => return,
            Some(stack) if at < stack.top && self.spared.frames == Frames::HoldNone => return,
            Some(stack) if at < stack.top => format!("in a frame of {}, not its return address", stack.name),
            Some(stack) => format!("above the frames of {}", stack.name),
            None => describe(&self.snapshot.space, mapped, at),
        };
        if self.found.obstacles.len() < LISTED {
            self.found.obstacles.push(Obstacle::Unlisted { at, value, target, place });
        }
    }

    fn not_read(&mut self, mapped: &Mapped, range: Range<u64>) {
        // The kernel's own pages, guard pages: what nobody may write to now and nobody can read is no stack of today.
        if mapped.writable == Some(false) {
            return;
        }
        if self.spared.ranges.iter().any(|spared| spared.start <= range.start && range.end <= spared.end) {
            return;
        }
        match &mut self.unread {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => {
                self.flush_unread();
                self.unread = Some(range);
            }
        }
    }

    fn flush_unread(&mut self) {
        let unread = self.unread.take();
        self.found.obstacles.extend(unread.map(|range| Obstacle::Unreadable { range }));
    }
}

/// What lies at `at`, in words.
fn describe(space: &AddressSpace, mapped: &Mapped, at: u64) -> String {
    match (&mapped.file, space.module(at)) {
        (Some((path, _)), _) => format!("in {}", path.display()),
        (None, Some((_, module))) => format!("in the data of {}", module.path.display()),
        (None, None) => format!("in the mapping {:#x}-{:#x}", mapped.start, mapped.end),
    }
}
