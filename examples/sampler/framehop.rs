//! framehop, given every loaded module's sections where they lie.

use crate::contender::{Contender, Frames, Pcs};
use crate::timer::alternate_stack;
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, Module, MustNotAllocateDuringUnwind, Unwinder as _};
use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::OnceLock;

pub const NAME: &str = "framehop";

type Unwinder = UnwinderX86_64<&'static [u8], MustNotAllocateDuringUnwind>;

static UNWINDER: OnceLock<Unwinder> = OnceLock::new();

pub struct Framehop {
    unwinder: &'static Unwinder,
    cache: CacheX86_64<MustNotAllocateDuringUnwind>,
    stack: Range<u64>,
}

#[derive(Clone)]
pub struct Ended {
    pcs: Pcs,
    /// Whether it said that there are no more.
    complete: bool,
}

impl Contender for Framehop {
    type Trace = Ended;
    type Known = ();
    const EMPTY: Self::Trace = Ended { pcs: Pcs::EMPTY, complete: false };

    fn prepare() -> Result<(), String> {
        let mut unwinder = Unwinder::new();
        // SAFETY: the callback is called before this returns, with what is given here.
        unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut unwinder).cast()) };
        UNWINDER.get_or_init(|| unwinder);
        Ok(())
    }

    fn enter() {
        alternate_stack();
    }

    fn of_this_thread(_room: usize) -> Self {
        let unwinder = UNWINDER.get().expect("prepared");
        Self { unwinder, cache: CacheX86_64::new_in(), stack: this_stack() }
    }

    unsafe fn take(&mut self, context: *const c_void, trace: &mut Self::Trace) {
        // SAFETY: as the caller promises.
        let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
        let register = |number: c_int| registers[number as usize] as u64;
        let (pc, sp, fp) = (register(libc::REG_RIP), register(libc::REG_RSP), register(libc::REG_RBP));
        let mut read = |address: u64| {
            let is_inside = self.stack.contains(&address) && self.stack.contains(&address.saturating_add(7));
            // SAFETY: on the stack of this thread.
            if is_inside { Ok(unsafe { (address as *const u64).read_unaligned() }) } else { Err(()) }
        };
        let registers = UnwindRegsX86_64::new(pc, sp, fp);
        let mut frames = self.unwinder.iter_frames(pc, registers, &mut self.cache, &mut read);
        (trace.pcs.depth, trace.complete) = (0, false);
        while let Some(place) = trace.pcs.pcs.get_mut(trace.pcs.depth) {
            match frames.next() {
                Ok(Some(frame)) => *place = frame.address(),
                Ok(None) => {
                    trace.complete = true;
                    break;
                }
                Err(_) => break,
            }
            trace.pcs.depth += 1;
        }
    }

    fn frames(trace: &Self::Trace) -> Frames {
        Frames { pcs: trace.pcs.code(), complete: Some(trace.complete) }
    }
}

/// Adds a loaded module.
unsafe extern "C" fn add(info: *mut libc::dl_phdr_info, _: usize, unwinder: *mut c_void) -> c_int {
    // SAFETY: as `prepare` and the loader pass them.
    let (info, unwinder) = unsafe { (&*info, &mut *unwinder.cast::<Unwinder>()) };
    // SAFETY: the loader says where they are, and how many.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let range = |header: &libc::Elf64_Phdr| header.p_vaddr..header.p_vaddr + header.p_memsz;
    let loads = headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
    let Some(table) = headers.iter().find(|header| header.p_type == libc::PT_GNU_EH_FRAME).map(range) else { return 0 };
    let text = loads.clone().find(|header| header.p_flags & libc::PF_X != 0).map(range);
    let Some(all) = loads.clone().map(range).reduce(|all, load| all.start..load.end) else { return 0 };
    // SAFETY: the table begins with where the entries are, as of its second word.
    let entries = unsafe {
        let word = (info.dlpi_addr + table.start + 4) as *const i32;
        (table.start + 4).wrapping_add_signed(i64::from(word.read_unaligned()))
    };
    let Some(end) = loads.clone().map(range).find(|load| load.contains(&entries)).map(|load| load.end) else {
        return 0;
    };
    // SAFETY: mapped as long as the module is loaded, and nothing is unloaded here.
    let bytes = |range: &Range<u64>| unsafe {
        std::slice::from_raw_parts((info.dlpi_addr + range.start) as *const u8, (range.end - range.start) as usize)
    };
    let sections = ExplicitModuleSectionInfo {
        text: text.as_ref().map(bytes),
        text_svma: text,
        eh_frame: Some(bytes(&(entries..end))),
        eh_frame_svma: Some(entries..end),
        eh_frame_hdr: Some(bytes(&table)),
        eh_frame_hdr_svma: Some(table),
        ..ExplicitModuleSectionInfo::default()
    };
    let loaded = info.dlpi_addr + all.start..info.dlpi_addr + all.end;
    unwinder.add_module(Module::new(String::new(), loaded, info.dlpi_addr, sections));
    0
}

/// Where this thread's stack is.
fn this_stack() -> Range<u64> {
    let (mut start, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: all of it is about this thread, and filled before it is read.
    unsafe {
        let mut attributes = std::mem::zeroed();
        libc::pthread_getattr_np(libc::pthread_self(), &raw mut attributes);
        libc::pthread_attr_getstack(&raw const attributes, &raw mut start, &raw mut size);
        libc::pthread_attr_destroy(&raw mut attributes);
    }
    start.addr() as u64..(start.addr() + size) as u64
}
