//! framehop, given every loaded module's sections where they lie.

use crate::stacks::Leaf;
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, Module, Unwinder as _};
use std::arch::asm;
use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::ops::Range;

type Bytes = &'static [u8];

/// What one thread keeps.
#[derive(Default)]
struct Kept {
    unwinder: UnwinderX86_64<Bytes>,
    cache: CacheX86_64,
    /// The stack, and the alternate one: what is read elsewhere fails.
    stacks: [Range<u64>; 2],
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

pub fn prepare() -> Result<(), String> {
    KEPT.with_borrow_mut(|kept| {
        *kept = Kept { stacks: stacks(), ..Kept::default() };
        // SAFETY: the callback is called before this returns, with what is given here.
        unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut kept.unwinder).cast()) };
    });
    Ok(())
}

pub fn warm(_: &Leaf<'_>, pcs: &mut [usize]) -> usize {
    KEPT.with_borrow_mut(|kept| walk(kept, pcs))
}

/// Nothing is known of any pc.
pub fn cold(_: &Leaf<'_>, pcs: &mut [usize]) -> usize {
    KEPT.with_borrow_mut(|kept| {
        kept.cache = CacheX86_64::new();
        walk(kept, pcs)
    })
}

#[inline(always)]
fn walk(kept: &mut Kept, pcs: &mut [usize]) -> usize {
    let (pc, sp, fp): (u64, u64, u64);
    // SAFETY: reads three registers.
    unsafe { asm!("lea {}, [rip]", "mov {}, rsp", "mov {}, rbp", out(reg) pc, out(reg) sp, out(reg) fp) };
    let Kept { unwinder, cache, stacks } = kept;
    let mut read = |address: u64| {
        let is_inside = stacks.iter().any(|stack| stack.contains(&address) && stack.contains(&(address + 7)));
        // SAFETY: on a stack of this thread.
        if is_inside { Ok(unsafe { (address as *const u64).read_unaligned() }) } else { Err(()) }
    };
    let mut frames = unwinder.iter_frames(pc, UnwindRegsX86_64::new(pc, sp, fp), cache, &mut read);
    let mut count = 0;
    while let Some(place) = pcs.get_mut(count)
        && let Ok(Some(frame)) = frames.next()
    {
        *place = usize::try_from(frame.address()).unwrap_or(0);
        count += 1;
    }
    count
}

/// Adds a loaded module.
unsafe extern "C" fn add(info: *mut libc::dl_phdr_info, _: usize, unwinder: *mut c_void) -> c_int {
    // SAFETY: as `prepare` and the loader pass them.
    let (info, unwinder) = unsafe { (&*info, &mut *unwinder.cast::<UnwinderX86_64<Bytes>>()) };
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
    // SAFETY: mapped as long as the module is loaded, and traces meet no module that is not.
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

/// This thread's stack and its alternate one.
fn stacks() -> [Range<u64>; 2] {
    let (mut start, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: all of it is about this thread, and filled before it is read.
    unsafe {
        let mut attributes = std::mem::zeroed();
        libc::pthread_getattr_np(libc::pthread_self(), &raw mut attributes);
        libc::pthread_attr_getstack(&raw const attributes, &raw mut start, &raw mut size);
        libc::pthread_attr_destroy(&raw mut attributes);
        let mut alternate: libc::stack_t = std::mem::zeroed();
        libc::sigaltstack(std::ptr::null(), &raw mut alternate);
        [(start, size), (alternate.ss_sp, alternate.ss_size)]
            .map(|(start, size)| start.addr() as u64..(start.addr() + size) as u64)
    }
}
