//! Small reports made by hand, for the tests of the printers.

use super::*;
use crate::symbol::{Function, Location, Origin};
use surestack_reliable::Doubt;
use surestack_walk::{Error, Register, Root, RowSource, SignalSign, X86_64};

fn function(name: &str, line: u32) -> Function {
    let location = Location { file: PathBuf::from("/src/demo.c"), line: Some(line), column: Some(5) };
    Function { name: name.to_owned(), location: Some(location) }
}

fn frame(number: usize, pc: u64, found_by: FoundBy, functions: Vec<Function>) -> FrameReport {
    let symbol = Symbol { functions, offset: Some(0x14), origin: Origin::Dwarf };
    let path = Arc::new(PathBuf::from("/bin/demo"));
    FrameReport {
        number,
        pc: if number == 0 { CodeAddress::Exact(pc) } else { CodeAddress::Return(pc) },
        link: Link::Call,
        found_by,
        sp: Some(0x7ffc_0000),
        callee_cfa: (number > 0).then_some(0x7ffc_0000),
        module: Some(ModuleOffset { index: 0, path, offset: pc - 0x40_0000 }),
        symbol: Arc::new(symbol),
        regs: None,
        signal: None,
        what: None,
    }
}

fn regs() -> Regs {
    let mut regs = Regs::new();
    regs.set(Register::PC, 0x40_1014);
    regs.set(X86_64.sp, 0x7ffc_0100);
    regs.set_saved(X86_64.fp, 0x7ffc_0120, 0x7ffc_0040);
    regs
}

/// A handler that aborted, its interrupted code with an inlined call, a recursion, two equal threads, and a tail with
/// something of each kind.
pub(super) fn report() -> Report {
    let fault = SignalInfo { number: 11, code: 1, address: Some(0x18), sender: None };
    let cfi = FoundBy::Cfi(RowSource::EhFrame);
    let interrupted = FrameReport {
        pc: CodeAddress::Exact(0x40_1014),
        link: Link::Signal,
        regs: Some(Box::new(regs())),
        signal: Some(fault),
        what: Some("SIGSEGV: read of null pointer + 0x18 through rax in add".to_owned()),
        ..frame(2, 0x40_1014, FoundBy::SignalFrame(SignalSign::Bytes), vec![function("add", 16), function("post", 26)])
    };
    let unknown = FrameReport {
        module: None,
        symbol: Arc::new(Symbol::default()),
        ..frame(3, 0x7f00_0000, FoundBy::FramePointer, Vec::new())
    };
    let crashed = ThreadReport {
        threads: vec![ThreadName { id: 10, name: None, doing: None }],
        crashed: true,
        regs: regs(),
        frames: vec![
            Entry::Frame(frame(0, 0x40_1100, FoundBy::Context, vec![function("on_segv", 47)])),
            Entry::Frame(frame(1, 0x40_1200, cfi, Vec::new())),
            Entry::Frame(interrupted),
            Entry::Frame(unknown),
            Entry::Repeat { length: 1, times: 174_760 },
        ],
        depth: 174_764,
        end: End::Stopped(Error::UnknownCode { pc: 0x7f00_0000 }),
        refusals: vec![("cfi", Why::NoModule)],
        verdict: Verdict::Unreliable,
        doubts: vec![
            Doubted { frame: 3, doubt: Doubt::FramePointerAcrossSignal },
            Doubted { frame: 174_763, doubt: Doubt::Stopped(Error::UnknownCode { pc: 0x7f00_0000 }) },
        ],
        believed: 3,
    };
    let waiting = ThreadReport {
        threads: (11..=20)
            .map(|id| ThreadName { id, name: (id == 11).then(|| "pool\u{1b}[0m".to_owned()), doing: None })
            .collect(),
        crashed: false,
        frames: vec![Entry::Frame(frame(0, 0x40_1300, FoundBy::Context, vec![function("wait", 54)]))],
        depth: 1,
        end: End::Root(Root::UndefinedReturn),
        refusals: Vec::new(),
        verdict: Verdict::Reliable,
        doubts: Vec::new(),
        believed: 1,
        regs: regs(),
    };
    let module = |path: &str, identity| ModuleReport {
        start: 0x40_0000,
        end: 0x50_0000,
        bias: 0x40_0000,
        path: PathBuf::from(path),
        build_id: Some(BuildId(vec![0xab, 0xcd])),
        identity,
        debug: false,
    };
    let replaced = Identity::Replaced { wanted: Some(BuildId(vec![0xab, 0xcd])), found: Some(BuildId(vec![0x12])) };
    Report {
        head: Some(Head {
            source: PathBuf::from("core.10"),
            arch: &X86_64,
            process: Process {
                pid: Some(10),
                name: Some("demo".to_owned()),
                arguments: Some("./demo -v ".to_owned()),
                user: None,
                auxv: Vec::new(),
                initial_sp: None,
            },
            threads: 11,
            signal: Some(SignalInfo { number: 6, code: -6, address: None, sender: Some((10, 0)) }),
            signal_number: Some(6),
            what: "SIGABRT raised by the process itself (abort)".to_owned(),
            held: None,
            recorder: None,
            recorded: None,
        }),
        threads: vec![crashed, waiting],
        tail: Tail {
            modules: vec![
                module("/bin/demo", Identity::BuildId),
                module("/lib/liba.so", replaced),
                module("/lib/libb.so", Identity::Missing),
            ],
            gaps: vec![Gap::Truncated { expected: 5000, found: 400 }, Gap::Unwritten { mappings: 3, bytes: 8192 }],
            absent: Vec::new(),
        },
    }
}

/// Hands `report` to `printer`, piece by piece.
pub(super) fn print(report: &Report, printer: &mut dyn Printer) {
    printer.head(report.head.as_ref().unwrap()).unwrap();
    report.threads.iter().for_each(|thread| printer.thread(thread).unwrap());
    printer.tail(&report.tail).unwrap();
}
