//! A program without an allocator that walks and judges a stack with every unwinder that may run in a signal handler.
//!
//! That it links is the proof; that it exits with 0 shows that the code proven is the code that walks.
#![no_std]
#![no_main]

#[cfg(feature = "cheat")]
extern crate alloc;

use core::hint::black_box;
use core::panic::PanicInfo;
use surestack_capture::record::{Item, Items, Name, Signature, Sink, Writer};
use surestack_capture::{OwnMemory, Range};
use surestack_cfi::{Cfi, DwarfRows};
use surestack_frame_pointer::{Entry, FramePointer, Markers};
use surestack_module_map::{ModuleMap, Record, Slots};
use surestack_probe::Probes;
use surestack_reliable::{Judge, Noted};
use surestack_signal_frame::SignalFrame;
use surestack_walk::{
    Bytes, CodeAddress, Marker, Memory, NoEvidence, Register, Registry, Regs, Section, Sign, Stack, StackKind, Stop,
    Target, UnwindSections, Unwinder, Walk, X86_64,
};

#[link(name = "c")]
unsafe extern "C" {}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

/// The prebuilt `core` was compiled to unwind and names this; nothing here ever does.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// One function, 0x1000 to 0x1100, with its caller at the stack pointer.
const EH_FRAME: [u8; 52] = [
    0x14, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x03, 0x0c, 7, 8, 0x90, 1, 0, 0, // CIE, udata4
    0x10, 0, 0, 0, 0x1c, 0, 0, 0, 0, 0x10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, // FDE
    0, 0, 0, 0, 0, 0, 0, 0,
];

const NOTHING: UnwindSections<'static> = UnwindSections {
    eh_frame_hdr: None,
    eh_frame: None,
    debug_frame: None,
    debug_frame_hdr: None,
    text: None,
    got: None,
};
static CODE: Record = Record {
    start: 0,
    end: 0x5000,
    bias: 0,
    unwind: UnwindSections { eh_frame: Some(Section { address: 0x9000, bytes: &EH_FRAME }), ..NOTHING },
    code: &[(0, 0x5000)],
    path: b"code",
    build_id: b"",
    symbols: None,
    table: None,
};
/// One block is enough.
static NO_MORE: Slots = Slots(&[]);
static MAP: ModuleMap = ModuleMap::new([&NO_MORE; 2]);

/// ```text
///   0x6050  ucontext_t: interrupted at 0x4000
///   0x6048  trampoline 0x3000        found by the frame record at 0x6040
///   0x6040  0
///   0x6008  (room)
///   0x6000  return into 0x2000       found by call frame information
/// ```
const MARKERS: [Marker<'static>; 1] =
    [Marker { id: 1, sign: Sign::Function { start: 0x4800 }, layout: &X86_64.entry_registers }];
const LOW: u64 = 0x6000;
const PCS: [u64; 4] = [0x1010, 0x2000, 0x3000, 0x4000];

fn reads_itself() -> bool {
    let word = black_box(0x1234_5678_u64);
    let Ok(low) = u64::try_from((&raw const word).expose_provenance()) else { return false };
    let known = [Range { low, high: low.wrapping_add(8) }];
    // SAFETY: the word is there.
    let memory = unsafe { OwnMemory::new(&known) };
    memory.word(low) == Ok(word) && memory.word(low.wrapping_add(8)).is_err()
}

fn walks() -> bool {
    if MAP.write(black_box(&[&CODE])) != 1 || !reads_itself() {
        return false;
    }
    let mut stack = [0_u8; 0x400];
    let mut put = |offset: u64, value: u64| {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Some(word) = stack.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<8>()) {
            *word = value.to_le_bytes();
        }
    };
    put(0x0, 0x2000);
    put(0x48, 0x3000);
    put(0x50 + 168, 0x4000);
    put(0x50 + 160, 0x6300);
    put(0x50 + 184, 0x33);
    let memory = Both(
        Bytes { address: LOW, bytes: black_box(&stack) },
        Bytes { address: 0x3000, bytes: &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05] },
    );
    let stacks = [Stack { low: LOW, high: LOW + 0x400, kind: StackKind::Other }];
    let registry = black_box(Registry { markers: &MARKERS, ..Registry::default() });
    let target = Target {
        arch: black_box(&X86_64),
        memory: &memory,
        modules: &MAP,
        stacks: &stacks,
        registry: &registry,
        evidence: &NoEvidence,
        stop: Stop::default(),
    };
    let mut regs = Regs::new();
    regs.set_pc(CodeAddress::Exact(0x1010));
    regs.set(X86_64.sp, LOW);
    regs.set(X86_64.fp, LOW + 0x40);

    let unwinders: [&dyn Unwinder; 6] = [&SignalFrame, &Probes, &Cfi(DwarfRows), &Markers, &FramePointer, &Entry];
    let mut walk = Walk::new(&target, &unwinders, black_box(regs), 16);
    let mut judge = Judge::new();
    let mut last = regs;
    let mut expected = PCS.iter();
    let (mut bytes, mut signature) = ([0; 2048], Signature::new());
    let mut record = Writer::new(Room { bytes: &mut bytes, used: 0 });
    while let Some(frame) = walk.next() {
        if expected.next() != Some(&frame.pc.value()) {
            return false;
        }
        judge.see(&target, &frame);
        let noted = Noted::of(&target, &frame);
        signature.see(frame.index, &noted, None);
        if record.frame(1, frame.index, &noted).is_err() {
            return false;
        }
        last = *frame.regs;
    }
    black_box(judge.verdict(&target, walk.end()));
    black_box(Name::new(black_box(1), 1, signature.value(judge.believed())));
    if record.flush().is_err() {
        return false;
    }
    let used = record.sink().used;
    let items = Items::new(bytes.get(..used).unwrap_or_default());
    let frames = items.filter(|item| matches!(item, Ok(Item::Frame { .. }))).count();
    frames == PCS.len() && expected.next().is_none() && last.get(Register::CS) == Some(0x33)
}

/// A file of a fixed size.
struct Room<'r> {
    bytes: &'r mut [u8],
    used: usize,
}

impl Sink for Room<'_> {
    type Error = ();

    fn put(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let end = self.used.checked_add(bytes.len()).ok_or(())?;
        self.bytes.get_mut(self.used..end).ok_or(())?.copy_from_slice(bytes);
        self.used = end;
        Ok(())
    }
}

/// Two pieces of memory.
struct Both<'a>(Bytes<'a>, Bytes<'a>);

impl surestack_walk::Memory for Both<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), surestack_walk::Error> {
        self.0.read(address, into).or_else(|_| self.1.read(address, into))
    }
}

#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    #[cfg(feature = "cheat")]
    black_box(alloc::boxed::Box::new(1));
    // The whole handler, from the kernel's call on: that it links is what counts.
    i32::from(black_box(surestack_capture::entry()) == 0 || !walks())
}
