//! What a frame costs, in memory: nanoseconds of CPU, and instructions where valgrind is installed.
//!
//! `cargo bench --bench walk`. The same two stacks are walked by each contender: a recursion of [`DEPTH`] frames, where
//! everything is known after the first, and Debian's python3 in `abort`, each frame of which is another function. Below
//! that, the look-up of a row alone: remembered, by search table, and one entry after the other, which is the slow
//! obvious way; then the same of all functions of the C library in random order, where nothing is in a cache, with
//! gimli beside it. Rounds are interleaved and medians quoted.

use std::error::Error;
use std::hint::black_box;
use std::process::Command;
use surestack::rows::CachedRows;
use surestack::snapshot::{AddressSpace, Snapshot, Thread, core_file};
use surestack::trace::{Known, Tracer};
use surestack_cfi::{Cfi, CompactCfa, DwarfRows, Function, Header, Lookup, ReferenceRows, Rows};
use surestack_fixtures::Case;
use surestack_framehop::Framehop;
use surestack_reliable::Judge;
use surestack_signal_frame::SignalFrame;
use surestack_walk::{
    CodeAddress, Frame, Mapping, Module, Modules, NoEvidence, Registry, Regs, Stop, Target, UnwindSections, Unwinder,
    Walk,
};

const CASES: [&str; 2] = ["overflow", "python3"];
/// Frames walked of the recursion.
const DEPTH: usize = 2_000;
const ROUNDS: usize = 31;
/// What a round of one contender takes at least, so that the clock's own cost does not matter.
const ROUND_FRAMES: usize = 20_000;
/// Nanoseconds after which a round is over all the same: what knows nothing before proves everything anew.
const ROUND_TIME: f64 = 20e6;
/// Nanoseconds for a walk whose instructions are not counted: it would take minutes.
const LONG: f64 = 5e6;
/// Walks whose instructions are counted.
const COUNTED: usize = 20;

static NO_REGS: Regs = Regs::new();

/// One way to walk a stack; how many frames it found.
type Contender = (&'static str, fn(&Stand<'_>) -> usize);

const WALKS: [Contender; 6] = [
    ("surestack, judged", |stand| stand.judged(&stand.tracer)),
    ("surestack, judged, knowing nothing before", |stand| {
        stand.judged(&Tracer::new(stand.snapshot, &Known::default()).budget(DEPTH))
    }),
    ("judging alone, of frames walked before", |stand| stand.judge()),
    ("rows remembered, not judged", |stand| stand.walk(&[&SignalFrame, &stand.remembered])),
    ("rows looked up for each frame, not judged", |stand| stand.walk(&[&SignalFrame, &Cfi(DwarfRows)])),
    ("framehop with its cache, as a plug-in", |stand| stand.walk(&[&stand.framehop])),
];

const LOOKUPS: [Contender; 3] = [
    ("remembered", |stand| stand.look_up(&stand.remembered.0, &stand.snapshot.space)),
    ("by search table", |stand| stand.look_up(&DwarfRows, &stand.snapshot.space)),
    ("one entry after the other", |stand| stand.look_up(&DwarfRows, &WithoutTable(&stand.snapshot.space))),
];

const ANYWHERE: [Contender; 4] = [
    ("search table alone", |stand| stand.anywhere.iter().filter(|pc| stand.entry(**pc).is_some()).count()),
    ("decoded", |stand| stand.anywhere.iter().filter(|pc| stand.decode(**pc).is_some()).count()),
    ("by our own reader", |stand| stand.look_up_anywhere(&DwarfRows)),
    ("by gimli", |stand| stand.look_up_anywhere(&ReferenceRows)),
];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, count, case, contender, times] = arguments.as_slice()
        && count == "--count"
    {
        return run(case, contender, times.parse()?);
    }
    table("frame", &CASES, &WALKS)?;
    println!();
    table("row", &["python3"], &LOOKUPS)?;
    println!();
    table("row", &["python3"], &ANYWHERE)
}

/// Prints what each contender needs for one `unit`.
fn table(unit: &str, cases: &[&str], contenders: &[Contender]) -> Result<(), Box<dyn Error>> {
    println!("| stack | {unit}s | by | ns / {unit} | first = 1 | instructions / {unit} |\n|---|--:|---|--:|--:|--:|");
    for case in cases {
        let Some(snapshot) = snapshot(case)? else { continue };
        let known = Known::default();
        let stand = Stand::of(&snapshot, &known)?;
        let mut nanoseconds = vec![Vec::new(); contenders.len()];
        for _ in 0..ROUNDS {
            for ((_, contender), seen) in contenders.iter().zip(&mut nanoseconds) {
                let (began, mut found) = (cpu_time()?, 0);
                while found < ROUND_FRAMES && cpu_time()? - began < ROUND_TIME {
                    found += black_box(contender(&stand)).max(1);
                }
                seen.push((cpu_time()? - began) / found as f64);
            }
        }
        let mut first = None;
        for ((name, contender), mut seen) in contenders.iter().zip(nanoseconds) {
            seen.sort_by(f64::total_cmp);
            let (frames, median) = (contender(&stand), seen[seen.len() / 2]);
            let ratio = median / *first.get_or_insert(median);
            let counted = (median * frames as f64) < LONG;
            let instructions = counted
                .then(|| instructions(case, name, frames))
                .flatten()
                .map_or("–".to_owned(), |count| format!("{count:.0}"));
            println!("| {case} | {frames} | {name} | {median:.0} | {ratio:.2} | {instructions} |");
        }
    }
    Ok(())
}

/// One stack, and what each contender has learned about its code.
struct Stand<'s> {
    snapshot: &'s Snapshot,
    thread: &'s Thread,
    registry: Registry<'s>,
    tracer: Tracer<'s>,
    remembered: Cfi<CachedRows<DwarfRows>>,
    framehop: Framehop,
    /// The stack's frames, each with its registers beside it.
    frames: Vec<(Regs, Frame<'static>)>,
    /// The C library.
    libc: Module<'s>,
    /// An address in each of its functions, in random order.
    anywhere: Vec<u64>,
}

impl<'s> Stand<'s> {
    fn of(snapshot: &'s Snapshot, known: &'s Known) -> Result<Self, Box<dyn Error>> {
        let thread = snapshot.threads.first().ok_or("a core without threads")?;
        let tracer = Tracer::new(snapshot, known).budget(DEPTH);
        let mut frames = Vec::new();
        tracer.walk(&thread.regs, thread.stop, |frame| {
            let Frame { index, pc, found_by, link, callee_cfa, return_slot, .. } = *frame;
            frames.push((*frame.regs, Frame { regs: &NO_REGS, index, pc, found_by, link, callee_cfa, return_slot }));
        });
        let (remembered, framehop) = (Cfi::default(), Framehop::new());
        let libc = snapshot.space.modules.iter().find(|module| module.path.ends_with("libc.so.6"));
        let libc = libc.and_then(|libc| snapshot.space.find(libc.start)).ok_or("a core without a C library")?;
        let anywhere = anywhere(&libc).ok_or("a C library without a search table")?;
        let registry = Registry::default();
        Ok(Self { snapshot, thread, registry, tracer, remembered, framehop, frames, libc, anywhere })
    }

    fn judged(&self, tracer: &Tracer<'_>) -> usize {
        tracer
            .walk(&self.thread.regs, self.thread.stop, |frame| {
                black_box(frame.pc);
            })
            .depth
    }

    /// What the judge adds to a walk.
    fn judge(&self) -> usize {
        let target = self.tracer.target(self.thread.stop);
        let mut judge = Judge::new();
        for (regs, frame) in &self.frames {
            judge.see(&target, &Frame { regs, ..*frame });
        }
        black_box(judge.count());
        self.frames.len()
    }

    fn walk(&self, unwinders: &[&dyn Unwinder]) -> usize {
        let target = self.target(&self.snapshot.space);
        let mut walk = Walk::new(&target, unwinders, self.thread.regs, DEPTH);
        let mut frames = 0;
        while walk.next().is_some() {
            frames += 1;
        }
        frames
    }

    fn look_up(&self, rows: &impl Rows, modules: &dyn Modules) -> usize {
        let target = self.target(modules);
        let found = |pc: &&CodeAddress| matches!(rows.row(&target, **pc, |row| row.end), Ok(Lookup::Row(_)));
        self.frames.iter().map(|(_, frame)| &frame.pc).filter(found).count()
    }

    /// The entry for an address of the C library.
    fn entry(&self, pc: u64) -> Option<u64> {
        black_box(Header::parse(self.libc.unwind.eh_frame_hdr?)?.lookup(pc - self.libc.bias))
    }

    /// The CFA of an address of the C library.
    fn decode(&self, pc: u64) -> Option<CompactCfa> {
        let function = Function::at(self.libc.unwind.eh_frame?, self.entry(pc)?).ok()?;
        black_box(function.row_at(pc - self.libc.bias).ok()?.map(|row| row.cfa))
    }

    fn look_up_anywhere(&self, rows: &impl Rows) -> usize {
        let libc = Alone(self.libc);
        let target = self.target(&libc);
        let found =
            |pc: &&u64| matches!(rows.row(&target, CodeAddress::Exact(**pc), |row| row.end), Ok(Lookup::Row(_)));
        self.anywhere.iter().filter(found).count()
    }

    fn target<'t>(&'t self, modules: &'t dyn Modules) -> Target<'t> {
        Target {
            arch: self.snapshot.arch,
            memory: &*self.snapshot.memory,
            modules,
            stacks: &self.snapshot.space,
            registry: &self.registry,
            evidence: &NoEvidence,
            stop: Stop::default(),
        }
    }
}

/// An address in the middle of each function of `module`, in an order that has nothing to do with where they lie.
fn anywhere(module: &Module<'_>) -> Option<Vec<u64>> {
    let eh_frame = module.unwind.eh_frame?;
    let functions = Header::parse(module.unwind.eh_frame_hdr?)?;
    let functions = functions.pairs().filter_map(|(_, fde)| Function::at(eh_frame, fde).ok());
    let middle = |function: Function<'_>| function.start + (function.end - function.start) / 2 + module.bias;
    let mut addresses: Vec<u64> = functions.map(middle).collect();
    addresses.sort_unstable_by_key(|address| address.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    Some(addresses)
}

/// One module.
struct Alone<'s>(Module<'s>);

impl Modules for Alone<'_> {
    fn find(&self, _: u64) -> Option<Module<'_>> {
        Some(self.0)
    }

    fn mapping(&self, _: u64) -> Mapping {
        Mapping::Unknown
    }
}

/// The same modules without their search tables.
struct WithoutTable<'s>(&'s AddressSpace);

impl Modules for WithoutTable<'_> {
    fn find(&self, address: u64) -> Option<Module<'_>> {
        let module = Modules::find(self.0, address)?;
        let unwind = UnwindSections { eh_frame_hdr: None, debug_frame_hdr: None, ..module.unwind };
        Some(Module { unwind, ..module })
    }

    fn mapping(&self, address: u64) -> Mapping {
        self.0.mapping(address)
    }
}

fn snapshot(name: &str) -> Result<Option<Snapshot>, Box<dyn Error>> {
    let case = Case::named(&[name.to_owned()])?.pop();
    let Some(built) = case.map(|case| case.build()).transpose()?.flatten() else { return Ok(None) };
    Ok(Some(core_file::open(&built.core, &Default::default())?))
}

/// CPU nanoseconds of this process so far.
fn cpu_time() -> Result<f64, Box<dyn Error>> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours and outlives the call, which writes it and nothing else.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    if failed != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(time.tv_sec as f64 * 1e9 + time.tv_nsec as f64)
}

/// Instructions for each of `frames`, by the difference between many walks and one; `None` without valgrind.
fn instructions(case: &str, contender: &str, frames: usize) -> Option<f64> {
    let count = |times: usize| {
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(std::env::current_exe().ok()?);
        let output = valgrind.args(["--count", case, contender, &times.to_string()]).output().ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let refs = text.lines().find_map(|line| line.split_once("refs:"))?.1;
        refs.trim().replace(',', "").parse::<f64>().ok()
    };
    Some((count(1 + COUNTED)? - count(1)?) / COUNTED as f64 / frames as f64)
}

/// Lets one contender do its work so often, and nothing else.
fn run(case: &str, contender: &str, times: usize) -> Result<(), Box<dyn Error>> {
    let snapshot = snapshot(case)?.ok_or("the case cannot be built here")?;
    let known = Known::default();
    let stand = Stand::of(&snapshot, &known)?;
    let named = WALKS.iter().chain(&LOOKUPS).chain(&ANYWHERE).find(|(name, _)| *name == contender);
    let (_, work) = named.ok_or("no such contender")?;
    for _ in 0..times {
        black_box(work(&stand));
    }
    Ok(())
}
