//! A program under single-step, with a shadow call stack for each of its threads.

use crate::code::Code;
use crate::contender::Stop;
use crate::decode::{Decoded, Effect};
use crate::error::{Error, Result};
use crate::maps::{Maps, Module};
use crate::memory::Memory;
use crate::shadow::{Certainty, Executed, Landing, Place, Shadow, SignalFrame};
use crate::tracee::{self, Wait};
use libc::user_regs_struct;
use std::collections::HashMap;
use std::fs;
use std::process::Command;

/// Where stepping begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At the first instruction after exec: ld.so's, unless the program is static.
    Kernel,
    /// At the program's entry point, with ld.so's work done.
    Entry,
}

/// What a step led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A thread is at its next instruction.
    Stopped {
        /// This pc was never executed before.
        first_visit: bool,
        /// A transfer of this thread has just ended so.
        landing: Option<Landing>,
    },
    /// The process is gone.
    Ended(Wait),
}

/// The true chain at a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    /// pc first, outermost return address last.
    pub pcs: Vec<u64>,
    /// Which of them were interrupted, and which are the trampolines before those: no call precedes them.
    pub exact: Vec<usize>,
    /// Whether it can be judged by now.
    pub certainty: Certainty,
    /// A return address of the chain is no longer where its call put it: the program has written over it, and memory
    /// does not tell the chain any more.
    pub erased: bool,
}

impl Truth {
    /// For each pc of the chain, an address in the function that runs or will run: for a return address that of the call.
    pub fn inside(&self) -> impl Iterator<Item = u64> {
        let call = |(i, pc): (usize, &u64)| pc.wrapping_sub(u64::from(!self.exact.contains(&i)));
        self.pcs.iter().enumerate().map(call)
    }
}

/// A return address of a chain that somebody else has kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Where it lies.
    pub slot: u64,
    /// What it is.
    pub address: u64,
}

/// The innermost frame that was called, and what it must hand back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called {
    /// Where the call put the return address: the frame's canonical address is 8 above.
    pub slot: u64,
    /// The return address.
    pub address: u64,
    /// rbx, rbp, r12 to r15 when the function was entered.
    pub saved: [u64; 6],
}

struct Thread {
    /// By the slot of a return address, that address and the registers to be preserved as they were when it was pushed.
    /// `makecontext` writes one without a call: then what is known is of an earlier call.
    entered: HashMap<u64, (u64, [u64; 6])>,
    shadow: Shadow,
    registers: user_regs_struct,
    decoded: Option<Decoded>,
    deliver: i32,
}

/// A program being stepped.
pub struct Session {
    pid: i32,
    threads: HashMap<i32, Thread>,
    current: i32,
    /// The current thread is where it is without having been resumed by us: report it before stepping on.
    fresh: bool,
    ended: bool,
    code: Code,
    modules: Vec<Module>,
    modules_generation: u64,
    modules_checked: u64,
    counts: Counts,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Stops at an instruction.
    pub steps: u64,
    /// Handlers entered.
    pub signals: u64,
    /// Threads seen beside the first.
    pub threads: u64,
    /// Programs that replaced this one by exec.
    pub execs: u64,
    /// Return addresses that had been written over in their slot when asked for.
    pub rewritten: u64,
}

const SYS_MMAP: u64 = libc::SYS_mmap as u64;
const SYS_MPROTECT: u64 = libc::SYS_mprotect as u64;
const SYS_MUNMAP: u64 = libc::SYS_munmap as u64;
const SYS_MREMAP: u64 = libc::SYS_mremap as u64;
const SYS_BRK: u64 = libc::SYS_brk as u64;
const SYS_RT_SIGRETURN: u64 = libc::SYS_rt_sigreturn as u64;

/// From rsp at a handler's first instruction: the ucontext lies behind the restorer's address.
const UCONTEXT: u64 = 8;
/// In the ucontext: `uc_stack` (sp, flags, size), then the general registers, rsp the 16th and rip the 17th.
const UC_STACK: u64 = UCONTEXT + 16;
const UC_SP: u64 = UCONTEXT + 40 + 15 * 8;
const UC_PC: u64 = UCONTEXT + 40 + 16 * 8;

impl Session {
    /// Starts `command` and brings it to where stepping begins.
    pub fn start(command: &mut Command, begin: Begin) -> Result<Session> {
        let pid = tracee::spawn(command)?.id() as i32;
        let mut session = Session::of(pid);
        if begin == Begin::Entry {
            session.run_to_entry()?;
        }
        session.adopt(pid)?;
        Ok(session)
    }

    /// Goes on with a traced process of one thread that is stopped where its chain is known: by the slot of each return
    /// address, outermost first.
    pub fn adopted(pid: i32, chain: &[Known]) -> Result<Session> {
        let mut session = Session::of(pid);
        session.adopt(pid)?;
        let memory = Memory::of(pid);
        let code = Code::of(pid);
        let shadow = &mut session.thread()?.shadow;
        for known in chain {
            if memory.word(known.slot) != Some(known.address) {
                return Err(Error::new(format!("{:#x} does not lie at {:#x}", known.address, known.slot)));
            }
            let (sp, sp_after) = (known.slot.wrapping_add(8), known.slot);
            let called = Executed { effect: Effect::Call, next: known.address, sp, to: 0, sp_after };
            shadow.executed(&called, &code);
        }
        Ok(session)
    }

    /// Lets the process go on untraced, delivering `signal` to the current thread first unless it is 0.
    pub fn release(mut self, signal: i32) -> Result<()> {
        self.ended = true;
        tracee::detach(self.current, signal)
    }

    /// Executes one instruction of some thread. The first call only reports where the program is.
    pub fn step(&mut self) -> Result<Event> {
        if self.ended {
            return Err(Error::new("the program has ended"));
        }
        if std::mem::take(&mut self.fresh) {
            return Ok(self.stopped(None));
        }
        self.resume_current()?;
        loop {
            let (tid, wait) = tracee::wait(-1)?;
            match wait {
                Wait::Exited(_) | Wait::Killed(_) if tid == self.pid => {
                    self.ended = true;
                    return Ok(Event::Ended(wait));
                }
                Wait::Exited(_) | Wait::Killed(_) => {
                    self.threads.remove(&tid);
                }
                Wait::Stopped { event: libc::PTRACE_EVENT_EXEC, .. } => {
                    self.threads.clear();
                    self.code.replaced();
                    self.counts.execs += 1;
                    self.adopt(tid)?;
                    return Ok(self.stopped(None));
                }
                Wait::Stopped { event, .. } if event != 0 => tracee::single_step(tid, 0)?,
                Wait::Stopped { .. } if !self.threads.contains_key(&tid) => {
                    self.counts.threads += 1;
                    self.adopt(tid)?;
                    return Ok(self.stopped(None));
                }
                Wait::Stopped { signal, .. } => {
                    self.current = tid;
                    let planned = self.thread()?.decoded.is_some_and(|d| d.effect == Effect::Breakpoint);
                    let landing = self.advance()?;
                    if signal == libc::SIGTRAP && !planned {
                        return Ok(self.stopped(landing));
                    }
                    self.thread()?.deliver = signal;
                    self.resume_current()?;
                }
            }
        }
    }

    /// Delivers `signal` to the current thread before its next instruction, if the program has a handler for it.
    pub fn inject(&mut self, signal: i32) -> Result<()> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.current)).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        if caught >> (signal - 1) & 1 == 1 {
            self.thread()?.deliver = signal;
        }
        Ok(())
    }

    /// The true chain where the current thread is.
    pub fn truth(&mut self) -> Result<Truth> {
        let memory = Memory::of(self.pid);
        let thread = self.threads.get(&self.current).ok_or_else(|| Error::new("no current thread"))?;
        let entries: Vec<_> = thread.shadow.entries().copied().collect();
        let slots: Vec<u64> = entries.iter().map(|e| e.slot).collect();
        let found = memory.words(&slots).unwrap_or_default();
        let (mut pcs, mut exact) = (vec![thread.registers.rip], vec![0]);
        let before = self.counts.rewritten;
        for (i, entry) in entries.iter().enumerate() {
            let now = found.get(i).copied().unwrap_or(entry.address);
            match entry.place {
                Place::SignalFrame => {
                    exact.extend([pcs.len().saturating_sub(1), pcs.len()]);
                    pcs.push(now);
                }
                Place::Stack | Place::Register => pcs.push(entry.address),
            }
            self.counts.rewritten += u64::from(entry.place == Place::Stack && now != entry.address);
        }
        let erased = self.counts.rewritten != before;
        Ok(Truth { pcs, exact, certainty: thread.shadow.certainty(), erased })
    }

    /// The frame that the current instruction belongs to; `None` where that is not certain, or where its return address is
    /// not in its slot: in a transfer, in an outermost frame, in a trampoline.
    pub fn called(&self) -> Option<Called> {
        let thread = self.threads.get(&self.current)?;
        let entry = thread.shadow.entries().next().filter(|entry| entry.place == Place::Stack)?;
        let (address, saved) = *thread.entered.get(&entry.slot)?;
        let known = address == entry.address && thread.shadow.certainty() == Certainty::Known;
        known.then_some(Called { slot: entry.slot, address: entry.address, saved })
    }

    /// What a contender is shown where the current thread is.
    pub fn stop(&mut self) -> Result<Stop<'_>> {
        let registers = self.registers()?;
        let generation = self.code.generation();
        if self.modules_checked != generation {
            self.modules_checked = generation;
            let modules = self.code.maps().modules();
            if modules != self.modules {
                self.modules = modules;
                self.modules_generation += 1;
            }
        }
        Ok(Stop {
            pid: self.pid,
            tid: self.current,
            registers,
            maps_generation: generation,
            modules_generation: self.modules_generation,
            maps: self.code.maps(),
            modules: &self.modules,
        })
    }

    /// The registers of the current thread.
    pub fn registers(&self) -> Result<user_regs_struct> {
        let thread = self.threads.get(&self.current).ok_or_else(|| Error::new("no current thread"))?;
        Ok(thread.registers)
    }

    /// The thread that is stopped.
    pub fn tid(&self) -> i32 {
        self.current
    }

    /// The process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The mappings as they are now.
    pub fn maps(&mut self) -> &Maps {
        self.code.maps()
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn of(pid: i32) -> Session {
        Session {
            pid,
            threads: HashMap::new(),
            current: pid,
            fresh: true,
            ended: false,
            code: Code::of(pid),
            modules: Vec::new(),
            modules_generation: 0,
            modules_checked: 0,
            counts: Counts::default(),
        }
    }

    fn run_to_entry(&mut self) -> Result<()> {
        let entry = entry_point(self.pid)?;
        let unreadable = || Error::new(format!("the entry point {entry:#x} cannot be read"));
        let original = Memory::of(self.pid).word(entry).ok_or_else(unreadable)?;
        tracee::poke(self.pid, entry, original & !0xff | 0xcc)?;
        tracee::resume(self.pid)?;
        match tracee::wait(self.pid)? {
            (_, Wait::Stopped { signal: libc::SIGTRAP, .. }) => {}
            (_, other) => {
                return Err(Error::new(format!("the entry point was not reached: {other:?}")));
            }
        }
        tracee::poke(self.pid, entry, original)?;
        let mut registers = tracee::registers(self.pid)?;
        registers.rip = entry;
        tracee::set_registers(self.pid, &registers)
    }

    /// Begins an empty shadow for a task that is stopped at its first instruction.
    fn adopt(&mut self, tid: i32) -> Result<()> {
        let registers = tracee::registers(tid)?;
        let maps = Maps::of(self.pid);
        let base = match maps.at(registers.rsp) {
            Some(stack) if stack.name == "[stack]" => stack.end,
            _ => registers.rsp.saturating_add(128),
        };
        let shadow = Shadow::new(base);
        let thread = Thread { entered: HashMap::new(), shadow, registers, decoded: None, deliver: 0 };
        self.threads.insert(tid, thread);
        self.current = tid;
        Ok(())
    }

    fn thread(&mut self) -> Result<&mut Thread> {
        self.threads.get_mut(&self.current).ok_or_else(|| Error::new("no current thread"))
    }

    fn resume_current(&mut self) -> Result<()> {
        let tid = self.current;
        match self.threads.get(&tid) {
            Some(thread) => tracee::single_step(tid, thread.deliver),
            None => Ok(()),
        }
    }

    /// Counts the stop and decodes the instruction that comes next.
    fn stopped(&mut self, landing: Option<Landing>) -> Event {
        self.counts.steps += 1;
        let Some(thread) = self.threads.get_mut(&self.current) else {
            return Event::Stopped { first_visit: false, landing };
        };
        let visit = self.code.visit(thread.registers.rip);
        thread.decoded = visit.map(|(decoded, _)| decoded);
        Event::Stopped { first_visit: visit.is_some_and(|(_, first)| first), landing }
    }

    /// Brings the current thread's shadow from where it was to where its registers are now.
    fn advance(&mut self) -> Result<Option<Landing>> {
        let registers = tracee::registers(self.current)?;
        let memory = Memory::of(self.pid);
        let Some(thread) = self.threads.get_mut(&self.current) else {
            return Ok(None);
        };
        let before = std::mem::replace(&mut thread.registers, registers);
        let delivered = std::mem::take(&mut thread.deliver);
        if delivered != 0
            && let Some(frame) = signal_frame(memory, &before, &registers)
        {
            thread.shadow.signalled(&frame);
            thread.entered.insert(frame.sp, (frame.restorer, preserved(&registers)));
            self.counts.signals += 1;
            return Ok(None);
        }
        // Nothing was executed: a signal came first, or one round of a `rep` was done.
        let stayed = registers.rip == before.rip && registers.rsp == before.rsp;
        let Some(decoded) = thread.decoded.filter(|_| !stayed) else {
            return Ok(None);
        };
        let step = Executed {
            effect: decoded.effect,
            next: before.rip.wrapping_add(u64::from(decoded.len)),
            sp: before.rsp,
            to: registers.rip,
            sp_after: registers.rsp,
        };
        match decoded.effect {
            Effect::Syscall => {
                match before.rax {
                    SYS_RT_SIGRETURN => {
                        let pc_slot = before.rsp.wrapping_add(UC_PC - UCONTEXT);
                        thread.shadow.sigreturned(pc_slot, &step, &self.code);
                    }
                    SYS_MMAP => self.code.remapped(registers.rax, before.rsi),
                    SYS_MUNMAP | SYS_MPROTECT | SYS_MREMAP => self.code.remapped(before.rdi, before.rsi),
                    SYS_BRK => self.code.remapped(0, 0),
                    _ => {}
                }
                return Ok(None);
            }
            Effect::Call => {
                let address = memory.word(registers.rsp).unwrap_or_default();
                thread.entered.insert(registers.rsp, (address, preserved(&registers)));
            }
            Effect::PushFlags => {
                // The program must not see that it is stepped.
                if let Some(flags) = memory.word(registers.rsp) {
                    tracee::poke(self.current, registers.rsp, flags & !0x100)?;
                }
            }
            _ => {}
        }
        Ok(thread.shadow.executed(&step, &self.code))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.ended {
            tracee::kill(self.pid);
        }
    }
}

/// The registers that a function must hand back as they were.
fn preserved(registers: &user_regs_struct) -> [u64; 6] {
    let r = registers;
    [r.rbx, r.rbp, r.r12, r.r13, r.r14, r.r15]
}

/// The frame of a handler that was just entered, if the registers say so: rdx is the third argument, the ucontext.
fn signal_frame(memory: Memory, before: &user_regs_struct, now: &user_regs_struct) -> Option<SignalFrame> {
    let sp = now.rsp;
    let word = |offset: u64| memory.word(sp.wrapping_add(offset));
    if now.rdx != sp.wrapping_add(UCONTEXT) || word(UC_SP)? != before.rsp {
        return None;
    }
    let (alternate, size) = (word(UC_STACK)?, word(UC_STACK + 16)?);
    let on_alternate = |sp: u64| sp.wrapping_sub(alternate) < size;
    Some(SignalFrame {
        sp,
        restorer: word(0)?,
        pc_slot: sp.wrapping_add(UC_PC),
        interrupted_pc: word(UC_PC)?,
        interrupted_sp: before.rsp,
        alternate: on_alternate(sp) && !on_alternate(before.rsp),
    })
}

fn entry_point(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/auxv");
    let auxv = fs::read(&path).map_err(|e| Error::system(&path, e))?;
    let words: Vec<u64> = auxv.chunks_exact(8).filter_map(|c| c.try_into().ok()).map(u64::from_le_bytes).collect();
    let entry = words.chunks_exact(2).find(|pair| pair.first() == Some(&libc::AT_ENTRY));
    entry.and_then(|pair| pair.get(1).copied()).ok_or_else(|| Error::new(format!("{path} names no entry point")))
}
