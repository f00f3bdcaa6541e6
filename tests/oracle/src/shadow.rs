//! The true call chain of one thread, kept from the instructions it executes.
//!
//! # What counts as truth
//!
//! The chain at an instruction is its pc, then every address that will be returned to, innermost first. The last one
//! lies in `_start` (of the program, or of ld.so during start-up), in the code that started a thread, or is the first
//! byte of `__start_context` for a coroutine. In `_start` itself, and in a new thread between the `syscall` of
//! clone and its first call, the chain is the pc alone.
//!
//! * **Call and return.** A call adds an entry: the slot it wrote and the return address. A `ret` from that slot takes
//!   it away. A `ret` from any other slot (`push; ret`) is a jump. A call to the very next instruction
//!   (`call 1f; 1: pop`) adds nothing.
//! * **Death of a frame.** An entry dies when rsp rises above its slot, by whatever instruction (`add`, `leave`,
//!   longjmp's `mov`). Until that instruction the old frames are the truth, also while `longjmp` already has the
//!   target in its registers and while `_Unwind_RaiseException` looks for handlers and installs the context.
//! * **The value** of an entry is what the call put in its slot. libgcc's install-context writes over slots of frames that
//!   are never returned through, so what a slot holds later proves nothing; it is only counted. The pc that a signal
//!   interrupted is read from the saved registers when somebody asks: handlers may change it, and `rt_sigreturn` goes
//!   where it says.
//! * **A return address popped into a register** (vfork; libgcc's jump to a landing pad) stays in the chain, with
//!   the value that was popped, until control reaches it.
//! * **Transfers.** From the instruction that loads rsp (longjmp, setcontext, swapcontext) to the jump or return that
//!   completes the transfer, the truth is the pc, then the chain as it is right after that jump. It is known only then,
//!   so such a stop is judged late.
//! * **Signals.** At the handler's first instruction the kernel has added two entries: the restorer's address, where the
//!   handler returns to, and the interrupted pc, in the saved registers. `rt_sigreturn` takes them away. If the signal fell
//!   into a transfer, the truth is unknown until the handler is left.
//! * **Stacks.** An rsp loaded from elsewhere begins a new segment. If the next transfer is a call, the old stack's
//!   frames are still callers; if it is a jump or an unmatched `ret`, a context of its own has begun and the old one is parked
//!   until rsp comes back into it. A return address planted by hand for a fresh context (not preceded by a call) is
//!   its outermost entry.
//!
//! What it cannot know: a `call` whose return address is later popped and thrown away counts as a frame until then,
//! unless it calls the next instruction.

use crate::decode::Effect;

/// What the shadow has to ask about memory when a stack is switched: rare.
pub trait World {
    /// Whether both addresses lie in the same mapping.
    fn same_mapping(&self, a: u64, b: u64) -> bool;
    /// Whether the bytes before `address` are a call instruction.
    fn follows_call(&self, address: u64) -> bool;
    /// The word at `address`.
    fn word(&self, address: u64) -> Option<u64>;
    /// The return address at `slot`, if it points into code but not behind a call.
    fn planted_return(&self, slot: u64) -> Option<u64>;
}

/// One executed instruction, with rsp before and after it.
#[derive(Clone, Copy, Debug)]
pub struct Executed {
    /// What it does.
    pub effect: Effect,
    /// The address behind it.
    pub next: u64,
    /// rsp before.
    pub sp: u64,
    /// The pc it led to.
    pub to: u64,
    /// rsp after.
    pub sp_after: u64,
}

/// An address that will be returned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where on the stack it lies.
    pub slot: u64,
    /// Its value when it was put there.
    pub address: u64,
    /// Where it is now.
    pub place: Place,
}

/// Where a return address is held, and who put it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In its slot, put there by a call, or by hand for a fresh context.
    Stack,
    /// Popped into a register; the slot is dead.
    Register,
    /// In its slot: the pc that a signal interrupted, among the saved registers.
    SignalFrame,
}

/// How a transfer ended, for the stops that wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// Control jumped: what waited is judged by the chain that holds now.
    Arrived,
    /// Control called a function on the new stack: what waited is judged by its caller's chain.
    Called,
    /// It was no transfer after all: the chain of that time was right.
    Stayed,
}

/// Whether the chain can be believed at this instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// It is the truth.
    Known,
    /// In a transfer: see [`Landing`].
    Landing,
    /// A signal interrupted a transfer.
    Unknown,
}

#[derive(Clone, Debug)]
struct Segment {
    /// The highest rsp that belongs to this stack.
    base: u64,
    /// rsp when the thread left it for the segment above, or for another context.
    left: u64,
    entries: Vec<Entry>,
}

impl Segment {
    fn at(base: u64, entries: Vec<Entry>) -> Segment {
        Segment { base, left: base, entries }
    }

    fn holds(&self, sp: u64) -> bool {
        (self.left..=self.base).contains(&sp)
    }

    /// Drops the entries that rsp has risen above; says how many.
    fn trim(&mut self, sp: u64) -> usize {
        match self.entries.last() {
            Some(last) if last.slot < sp => {}
            _ => return 0,
        }
        let dead = |e: &Entry| e.place != Place::Register && e.slot < sp;
        let keep = self.entries.iter().position(dead).unwrap_or(self.entries.len());
        let dropped = self.entries.len() - keep;
        self.entries.truncate(keep);
        dropped
    }
}

#[derive(Clone, Debug)]
struct Transfer {
    /// The chain before rsp was loaded.
    before: Vec<Segment>,
    /// The return address of the innermost frame that the load killed: where a resumed context goes on.
    resumes: Option<u64>,
    /// The parked context that rsp was loaded back into, as it was.
    resumed: Option<Vec<Segment>>,
    certain: bool,
    budget: u32,
}

/// Instructions between the load of rsp and the jump in glibc's setcontext and swapcontext: about 20.
const TRANSFER_BUDGET: u32 = 256;
/// How far above its first rsp a fresh context may still pop: arguments that makecontext laid out.
const SLACK: u64 = 128;
/// Contexts remembered while others run.
const PARKED_LIMIT: usize = 4096;

/// The shadow call stack of one thread.
#[derive(Debug)]
pub struct Shadow {
    chain: Vec<Segment>,
    parked: Vec<Vec<Segment>>,
    transfer: Option<Transfer>,
    /// A transfer that a signal interrupted, and the slot of the interrupted pc.
    suspended: Option<(u64, Transfer)>,
}

impl Shadow {
    /// An empty chain on a stack whose highest address is `base`.
    pub fn new(base: u64) -> Shadow {
        Shadow { chain: vec![Segment::at(base, Vec::new())], parked: Vec::new(), transfer: None, suspended: None }
    }

    /// The entries, innermost first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.chain.iter().rev().flat_map(|segment| segment.entries.iter().rev())
    }

    /// Whether [`entries`](Shadow::entries) is the truth now.
    pub fn certainty(&self) -> Certainty {
        match (&self.suspended, &self.transfer) {
            (Some(_), _) => Certainty::Unknown,
            (None, Some(transfer)) if transfer.certain => Certainty::Landing,
            _ => Certainty::Known,
        }
    }

    /// Takes note of one executed instruction.
    pub fn executed(&mut self, step: &Executed, world: &dyn World) -> Option<Landing> {
        match step.effect {
            Effect::Call => {
                let transfer = self.transfer.take();
                let pushes = step.to != step.next;
                let how = if pushes { Landing::Called } else { Landing::Stayed };
                let landing = transfer.as_ref().map(|_| how);
                if let Some(transfer) = transfer {
                    self.called_from_transfer(transfer, step.sp);
                }
                if pushes {
                    let entry = Entry { slot: step.sp_after, address: step.next, place: Place::Stack };
                    self.top().entries.push(entry);
                }
                landing
            }
            Effect::Return => self.returned(step, world),
            Effect::IndirectJump => {
                if self.reached(step.to) {
                    return self.transfer.take().map(|_| Landing::Arrived);
                }
                // A switch table behind an alloca looks like a jump to another stack in the same mapping: it is not one.
                self.transfer.take_if(|t| !t.certain);
                self.landed(step, world)
            }
            Effect::Pop => {
                if let Some(last) = self.top().entries.last_mut()
                    && last.slot == step.sp
                    && last.place == Place::Stack
                {
                    // libgcc installs a landing pad by `pop %rcx; jmp *%rcx`: the slot was rewritten before.
                    last.address = world.word(step.sp).unwrap_or(last.address);
                    last.place = Place::Register;
                }
                self.moved(step, world);
                self.expire()
            }
            Effect::Push => {
                if let Some(last) = self.top().entries.last_mut()
                    && last.slot == step.sp_after
                {
                    last.place = Place::Stack;
                }
                self.moved(step, world);
                self.expire()
            }
            _ => {
                self.moved(step, world);
                self.expire()
            }
        }
    }

    /// The kernel has built a signal frame: `sp` is rsp at the handler's first instruction.
    pub fn signalled(&mut self, signal: &SignalFrame) {
        if let Some(transfer) = self.transfer.take()
            && transfer.certain
        {
            self.suspended = Some((signal.pc_slot, transfer));
        }
        if signal.alternate {
            self.top().left = signal.interrupted_sp;
            self.forget_parked(signal.sp);
            self.chain.push(Segment::at(signal.pc_slot, Vec::new()));
        }
        let entries = &mut self.top().entries;
        entries.push(Entry { slot: signal.pc_slot, address: signal.interrupted_pc, place: Place::SignalFrame });
        entries.push(Entry { slot: signal.sp, address: signal.restorer, place: Place::Stack });
    }

    /// `rt_sigreturn` was executed with the interrupted pc in `pc_slot`; rsp is now `sp_after`.
    pub fn sigreturned(&mut self, pc_slot: u64, step: &Executed, world: &dyn World) {
        let found = self.chain.iter().enumerate().rev().find_map(|(i, segment)| {
            let at = segment.entries.iter().rposition(|e| e.slot == pc_slot && e.place == Place::SignalFrame)?;
            Some((i, at))
        });
        if let Some((i, at)) = found {
            self.chain.truncate(i + 1);
            self.top().entries.truncate(at);
            let handler_stack_is_left = self.top().entries.is_empty() && self.top().base == pc_slot;
            if handler_stack_is_left && self.chain.len() > 1 {
                self.chain.pop();
            }
        }
        self.transfer = match self.suspended.take() {
            Some((slot, transfer)) if slot == pc_slot => Some(transfer),
            other => {
                self.suspended = other;
                None
            }
        };
        if step.sp_after < step.sp || step.sp_after > self.top().base {
            self.moved(&Executed { effect: Effect::Plain, ..*step }, world);
        }
        self.top().trim(step.sp_after);
    }

    fn top(&mut self) -> &mut Segment {
        if self.chain.is_empty() {
            self.chain.push(Segment::at(u64::MAX, Vec::new()));
        }
        let last = self.chain.len() - 1;
        &mut self.chain[last]
    }

    fn returned(&mut self, step: &Executed, world: &dyn World) -> Option<Landing> {
        let entries = &mut self.top().entries;
        let innermost = entries.iter().rposition(|e| e.place != Place::Register);
        let matched = innermost.filter(|&i| entries.get(i).is_some_and(|e| e.slot == step.sp));
        if let Some(i) = matched {
            entries.truncate(i);
            return self.transfer.take().map(|_| Landing::Arrived);
        }
        if self.reached(step.to) {
            return self.transfer.take().map(|_| Landing::Arrived);
        }
        self.landed(step, world)
    }

    /// A return address held in a register is used up when control reaches it; says whether it did.
    fn reached(&mut self, to: u64) -> bool {
        let entries = &mut self.top().entries;
        let held = entries.pop_if(|e| e.place == Place::Register && e.address == to);
        held.is_some()
    }

    /// Control jumped to `step.to`: the end of a transfer, if one was on the way.
    fn landed(&mut self, step: &Executed, world: &dyn World) -> Option<Landing> {
        let transfer = self.transfer.take()?;
        let resumed = transfer.resumes == Some(step.to) || world.follows_call(step.to);
        let planted = if resumed { None } else { world.planted_return(step.sp_after) };
        if let Some(address) = planted {
            self.forget_parked(step.sp_after);
            self.park(transfer.before);
            let root = Entry { slot: step.sp_after, address, place: Place::Stack };
            self.chain = vec![Segment::at(step.sp_after.saturating_add(SLACK), vec![root])];
        } else if !resumed && !transfer.certain {
            self.park(transfer.before);
            self.chain = vec![Segment::at(step.sp_after.saturating_add(SLACK), Vec::new())];
        } else if self.chain.len() > 1 && self.top().entries.is_empty() {
            let fresh = self.chain.pop();
            let old = std::mem::take(&mut self.chain);
            self.park(old);
            self.chain.extend(fresh);
        }
        Some(Landing::Arrived)
    }

    /// A call right after rsp was loaded from elsewhere: nothing is resumed, a function runs on another stack, perhaps
    /// one that a finished context has left behind.
    fn called_from_transfer(&mut self, transfer: Transfer, sp: u64) {
        let Some(resumed) = transfer.resumed else {
            return;
        };
        let extent = |c: &Vec<Segment>| c.last().map(|s| (s.left, s.base));
        let left = extent(&transfer.before);
        self.parked.retain(|context| extent(context) != left);
        self.park(resumed);
        self.chain = transfer.before;
        self.chain.push(Segment::at(sp.saturating_add(SLACK), Vec::new()));
    }

    fn expire(&mut self) -> Option<Landing> {
        let transfer = self.transfer.as_mut()?;
        transfer.budget = transfer.budget.saturating_sub(1);
        if transfer.budget > 0 {
            return None;
        }
        self.transfer = None;
        Some(Landing::Stayed)
    }

    /// rsp went from `step.sp` to `step.sp_after` by anything but a call, a return or a signal.
    fn moved(&mut self, step: &Executed, world: &dyn World) {
        let (sp, after) = (step.sp, step.sp_after);
        if sp == after {
            return;
        }
        let loads = step.effect == Effect::LoadSp;
        let base = self.top().base;
        if !loads && after <= base {
            self.top().trim(after);
            return;
        }
        if after > base && !loads && after - base < SLACK {
            self.top().base = after;
            self.top().trim(after);
            return;
        }
        if let Some(i) = self.parked_at(after) {
            self.switch_to(i, sp, after);
        } else if after <= base && after > sp {
            self.rise(sp, after);
        } else if after <= base && world.same_mapping(sp, after) {
            let before = self.leaving(sp);
            self.begin(before, None, false);
        } else if let Some(i) = self.chain.iter().rposition(|s| s.holds(after)) {
            self.leave_to(i, sp, after);
        } else {
            let before = self.leaving(sp);
            self.forget_parked(after);
            self.top().left = sp;
            self.chain.push(Segment::at(after.saturating_add(SLACK), Vec::new()));
            self.begin(before, None, true);
        }
    }

    /// The chain as it would have to be parked, with rsp at `sp`.
    fn leaving(&mut self, sp: u64) -> Vec<Segment> {
        let mut before = self.chain.clone();
        if let Some(last) = before.last_mut() {
            last.left = sp;
        }
        before
    }

    fn begin(&mut self, before: Vec<Segment>, resumes: Option<u64>, certain: bool) {
        self.transfer = Some(Transfer { before, resumes, resumed: None, certain, budget: TRANSFER_BUDGET });
    }

    /// rsp was loaded with a higher value on the same stack: an epilogue, or longjmp.
    fn rise(&mut self, sp: u64, after: u64) {
        let dies = self.top().entries.last().is_some_and(|e| e.slot < after);
        if !dies {
            return;
        }
        let before = self.leaving(sp);
        let resumes = self.trim_to(after);
        self.begin(before, resumes, true);
    }

    /// rsp was loaded with a value on a stack further out in the same chain.
    fn leave_to(&mut self, i: usize, sp: u64, after: u64) {
        let before = self.leaving(sp);
        let left = self.chain.split_off(i + 1);
        let empty = left.iter().all(|s| s.entries.is_empty());
        self.park(left.into_iter().map(|s| Segment { left: s.left.min(sp), ..s }).collect());
        let resumes = self.trim_to(after);
        if !empty || resumes.is_some() {
            self.begin(before, resumes, true);
        }
    }

    fn switch_to(&mut self, i: usize, sp: u64, after: u64) {
        let before = self.leaving(sp);
        let resumed = self.parked.swap_remove(i);
        self.park(before.clone());
        self.chain = resumed.clone();
        let resumes = self.trim_to(after);
        self.begin(before, resumes, true);
        if let Some(transfer) = &mut self.transfer {
            transfer.resumed = Some(resumed);
        }
    }

    /// Trims the innermost segment; returns the outermost return address that died, which is where a context that
    /// saved its rsp behind its own call goes on.
    fn trim_to(&mut self, sp: u64) -> Option<u64> {
        let segment = self.top();
        let resumes = segment.entries.iter().find(|e| e.slot < sp).map(|e| e.address);
        segment.trim(sp);
        resumes
    }

    fn park(&mut self, context: Vec<Segment>) {
        if context.iter().all(|s| s.entries.is_empty()) {
            return;
        }
        if self.parked.len() >= PARKED_LIMIT {
            self.parked.remove(0);
        }
        self.parked.push(context);
    }

    /// The parked context that `sp` lies in; the smallest, for a stack may be an array on another stack.
    fn parked_at(&self, sp: u64) -> Option<usize> {
        let extents = self.parked.iter().enumerate().filter_map(|(i, context)| {
            let stack = context.last().filter(|s| s.holds(sp))?;
            Some((stack.base - stack.left, i))
        });
        extents.min().map(|(_, i)| i)
    }

    /// Whatever was parked on the stack that now begins afresh at `sp` is gone.
    fn forget_parked(&mut self, sp: u64) {
        let stale = |s: &Segment| s.holds(sp) && s.base - sp <= 8 * SLACK;
        self.parked.retain(|context| !context.last().is_some_and(stale));
    }
}

/// What the kernel pushed to run a handler.
#[derive(Clone, Copy, Debug)]
pub struct SignalFrame {
    /// rsp at the handler's first instruction: the slot of the restorer's address.
    pub sp: u64,
    /// The restorer's address.
    pub restorer: u64,
    /// Where the interrupted pc is saved.
    pub pc_slot: u64,
    /// The interrupted pc.
    pub interrupted_pc: u64,
    /// The interrupted rsp.
    pub interrupted_sp: u64,
    /// Whether the handler runs on the alternate stack and the interrupted code did not.
    pub alternate: bool,
}
