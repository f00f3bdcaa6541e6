//! The framehop crate as one more unwinder: a second opinion, offline.
//!
//! Its frames are [`FoundBy::Foreign`], so the judge doubts every one: framehop knows no signal frames, recovers the pc,
//! the stack pointer, the frame pointer and the link register and nothing else, and follows frame pointers without
//! saying so where it finds no row. It never feeds a verdict. Nor does its idea of the end: where it says that a stack
//! is complete, this unwinder says that it has nothing to say, since framehop gives no outermost frame to check.
//!
//! Unlike our own unwinders it allocates: it is not for signal handlers.
#![forbid(unsafe_code)]

use framehop::Unwinder as _;
use framehop::aarch64::{CacheAarch64, PtrAuthMask, UnwindRegsAarch64, UnwinderAarch64};
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress};
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use surestack_walk::{CodeAddress, Error, FoundBy, Link, Module, Register, Regs, Section, Step, Target, Unwinder, Why};

/// Bytes of a section, kept beyond the target that lent them.
type Kept = Arc<[u8]>;

/// Steps by asking framehop. One value serves one target: it keeps what it has seen of its modules.
#[derive(Default)]
pub struct Framehop(RefCell<State>);

#[derive(Default)]
struct State {
    known: Vec<(u64, u64)>,
    x86_64: UnwinderX86_64<Kept>,
    x86_64_cache: CacheX86_64,
    aarch64: UnwinderAarch64<Kept>,
    aarch64_cache: CacheAarch64,
}

impl fmt::Debug for Framehop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Framehop")
    }
}

impl Framehop {
    /// An unwinder that has seen no module.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Unwinder for Framehop {
    fn step(&self, target: &Target<'_>, callee: &Regs, caller: &mut Regs) -> Result<Step, Error> {
        let Some(pc) = callee.pc() else {
            return Ok(Step::NotMine(Why::NoPc));
        };
        let Some(module) = target.modules.find(pc.lookup()) else {
            return Ok(Step::NotMine(Why::NoModule));
        };
        if module.unwind.eh_frame.is_none() && module.unwind.debug_frame.is_none() {
            return Ok(Step::NotMine(Why::NoTable));
        }
        let Ok(mut state) = self.0.try_borrow_mut() else {
            return Ok(Step::NotMine(Why::Undecided));
        };
        state.learn(target, &module);
        let Some(found) = state.ask(target, callee, pc)? else {
            return Ok(Step::NotMine(Why::Undecided));
        };
        found.fill(target, caller);
        // What framehop calls a canonical frame address it keeps to itself; the caller's stack pointer is one.
        Ok(Step::Caller { cfa: found.sp, return_slot: None, link: Link::Call, found_by: FoundBy::Foreign("framehop") })
    }
}

/// What framehop recovers.
struct Found {
    return_address: u64,
    sp: u64,
    fp: u64,
    link: Option<u64>,
}

impl Found {
    fn fill(&self, target: &Target<'_>, caller: &mut Regs) {
        caller.forget();
        caller.set(target.arch.sp, self.sp);
        caller.set(target.arch.fp, self.fp);
        if let (Some(register), Some(value)) = (target.arch.link, self.link) {
            caller.set(register, value);
        }
        caller.set(Register::PC, self.return_address);
        caller.set_pc(CodeAddress::Return(self.return_address));
    }
}

impl State {
    /// Hands framehop a module it has not seen.
    fn learn(&mut self, target: &Target<'_>, module: &Module<'_>) {
        if self.known.contains(&(module.start, module.end)) {
            return;
        }
        self.known.push((module.start, module.end));
        let kept = |section: Option<Section<'_>>| section.map(|section| Kept::from(section.bytes));
        let range = |section: Option<Section<'_>>| {
            section.map(|section| section.address..section.address.saturating_add(section.bytes.len() as u64))
        };
        let unwind = &module.unwind;
        let sections = ExplicitModuleSectionInfo {
            base_svma: module.start.wrapping_sub(module.bias),
            text_svma: unwind.text.map(|text| text..text.saturating_add(1)),
            got_svma: unwind.got.map(|got| got..got.saturating_add(1)),
            eh_frame_hdr_svma: range(unwind.eh_frame_hdr),
            eh_frame_hdr: kept(unwind.eh_frame_hdr),
            eh_frame_svma: range(unwind.eh_frame),
            eh_frame: kept(unwind.eh_frame),
            debug_frame: kept(unwind.debug_frame),
            ..Default::default()
        };
        let module = framehop::Module::new(String::new(), module.start..module.end, module.start, sections);
        match target.arch.link {
            None => self.x86_64.add_module(module),
            Some(_) => self.aarch64.add_module(module),
        }
    }

    /// The caller by framehop, `None` where it says that there is none.
    fn ask(&mut self, target: &Target<'_>, callee: &Regs, pc: CodeAddress) -> Result<Option<Found>, Error> {
        let address = match pc {
            CodeAddress::Exact(pc) => FrameAddress::from_instruction_pointer(pc),
            CodeAddress::Return(pc) => FrameAddress::from_return_address(pc).ok_or(Error::UnknownCode { pc })?,
        };
        let sp = callee.need(target.arch.sp)?;
        let fp = callee.need(target.arch.fp)?;
        let mut read = |address| target.memory.word(address).map_err(|_| ());
        let refused = |error| match error {
            framehop::Error::CouldNotReadStack(address) => Error::Unreadable { address },
            framehop::Error::IntegerOverflow => Error::Overflow { address: sp },
            framehop::Error::DidNotAdvance | framehop::Error::FramepointerUnwindingMovedBackwards => {
                Error::NoProgress { cfa: sp }
            }
            framehop::Error::ReturnAddressIsNull => Error::UnknownCode { pc: 0 },
        };
        let Some(link) = target.arch.link else {
            let mut regs = UnwindRegsX86_64::new(pc.value(), sp, fp);
            let answer = self.x86_64.unwind_frame(address, &mut regs, &mut self.x86_64_cache, &mut read);
            let found = |return_address| Found { return_address, sp: regs.sp(), fp: regs.bp(), link: None };
            return Ok(answer.map_err(refused)?.map(found));
        };
        // A link register that is not known is one that framehop's rule must not need; 0 makes it say so.
        let signed = target.arch.signed_bits | target.registry.signed_bits;
        let mask = PtrAuthMask::from_max_known_address(!signed & (u64::MAX >> 9));
        let link = callee.get(link).unwrap_or(0);
        let mut regs = UnwindRegsAarch64::new_with_ptr_auth_mask(mask, link, sp, fp);
        let answer = self.aarch64.unwind_frame(address, &mut regs, &mut self.aarch64_cache, &mut read);
        let found = |return_address| Found { return_address, sp: regs.sp(), fp: regs.fp(), link: Some(regs.lr()) };
        Ok(answer.map_err(refused)?.map(found))
    }
}
