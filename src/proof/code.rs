//! The instructions of functions that are looked at together, decoded once.

use super::Source;
use super::claim::{Claim, Reader};
use super::layout::{Extent, Layout, is_linkage, read};
use super::lsda::{self, CallSite};
use crate::analysis::{Op, number};
use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register as Name,
};
use surestack_walk::Memory;

/// No instruction, no row.
pub const NONE: u32 = u32::MAX;

/// Bytes of an average instruction.
const AVERAGE: usize = 4;

/// Where control goes from an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the next.
    On,
    /// Elsewhere.
    Jump(u64),
    /// To the next or elsewhere.
    Branch(u64),
    /// Into a function and then to the next.
    Call(Callee),
    /// Where a register or memory says.
    Indirect,
    /// Into another module or function, through a slot of the global offset table.
    Slot,
    /// Back to the caller.
    Return,
    /// Nowhere.
    Stop,
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callee {
    /// A function.
    Function(u64),
    /// What a slot of the global offset table points at.
    Slot(u64),
    /// Nobody knows.
    Unknown,
}

/// An instruction.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Its address.
    pub at: u64,
    /// Its bytes.
    pub length: u8,
    /// Whether it only fills space.
    pub filler: bool,
    /// Whether it is `cmp` of the stack pointer with this register.
    pub compares_sp: Option<u8>,
    /// Whether it is a branch that is not taken on equality.
    pub not_equal: bool,
    /// Whether control can come here from elsewhere.
    pub target: bool,
    /// Index of its row.
    pub claim: u32,
    /// Where control goes.
    pub way: Way,
    /// What it does.
    pub op: Op,
}

impl Step {
    /// Address behind it.
    pub fn end(&self) -> u64 {
        self.at.wrapping_add(u64::from(self.length))
    }
}

/// One function of those looked at together.
pub struct Member {
    /// Its place.
    pub extent: Extent,
    /// Its call sites with landing pads; `None` where its table cannot be read.
    pub sites: Option<Vec<CallSite>>,
    /// Whether it is entered by a signal.
    pub signal: bool,
    /// Whether code without unwind information leads into it.
    pub open: bool,
    /// Whether it is a procedure linkage table.
    pub linkage: bool,
    /// Whether control gets past its end into the next function.
    pub falls: bool,
    /// Index of its first instruction.
    pub first: usize,
    /// By offset, index of the instruction that begins there.
    index: Vec<u32>,
}

/// All of them.
#[derive(Default)]
pub struct Code {
    /// The functions, ascending.
    pub members: Vec<Member>,
    /// Their instructions, ascending.
    pub steps: Vec<Step>,
    /// Their rows, ascending.
    pub claims: Vec<Claim>,
    /// Indices of the instructions that load an address inside them.
    pub labels: Vec<usize>,
    /// Whether there are jumps to where a register or memory says.
    pub jumps: bool,
    /// Whether they could not be read as a whole.
    pub unreadable: bool,
}

impl Code {
    /// Decodes the functions at `indices` of `layout`.
    pub fn new(source: &Source<'_>, layout: &Layout, indices: &[usize]) -> Self {
        let mut code = Self::default();
        let mut factory = InstructionInfoFactory::new();
        let mut rows = Reader::new(source);
        let mut bytes = Vec::new();
        for index in indices {
            let Some(extent) = layout.functions().get(*index) else { continue };
            // An entry may overlap the next; what is looked up is the latter.
            let next = layout.functions().get(index.saturating_add(1)).map_or(u64::MAX, |next| next.start);
            let extent = Extent { end: extent.end.min(next), ..*extent };
            let Some(claims) = rows.rows(&extent).filter(|_| read(source, extent.start, extent.end, &mut bytes)) else {
                code.unreadable = true;
                continue;
            };
            let sites = match extent.lsda {
                Some(table) => lsda::call_sites(source, table, extent.start),
                None => Some(Vec::new()),
            };
            let open = layout.is_open(*index);
            let first = code.steps.len();
            let linkage = is_linkage(&bytes) && extent.lsda.is_none();
            let member = Member {
                extent,
                sites,
                linkage,
                signal: claims.signal,
                open,
                falls: layout.falls(*index),
                first,
                index: Vec::new(),
            };
            code.decode(member, &bytes, &claims.rows, &mut factory);
        }
        code.mark();
        code
    }

    /// Index of the instruction that begins at `address`.
    pub fn find(&self, address: u64) -> Option<usize> {
        let member = self.member(address)?;
        let offset = usize::try_from(address.checked_sub(member.extent.start)?).ok()?;
        member.index.get(offset).filter(|step| **step != NONE).and_then(|step| usize::try_from(*step).ok())
    }

    /// Index of the instruction at `address` without its `lock`, which a program with one thread jumps over.
    pub fn find_unlocked(&self, source: &Source<'_>, address: u64) -> Option<usize> {
        const LOCK: u8 = 0xf0;
        let mut prefix = [0];
        let before = address.checked_sub(1)?;
        source.read(before, &mut prefix).ok().filter(|()| prefix == [LOCK])?;
        self.find(before)
    }

    /// The function that covers `address`.
    pub fn member(&self, address: u64) -> Option<&Member> {
        let after = self.members.partition_point(|member| member.extent.start <= address);
        self.members.get(after.checked_sub(1)?).filter(|member| member.extent.holds(address))
    }

    fn decode(&mut self, mut member: Member, bytes: &[u8], rows: &[Claim], factory: &mut InstructionInfoFactory) {
        member.index.resize(bytes.len(), NONE);
        self.steps.reserve(bytes.len() / AVERAGE);
        let base = self.claims.len();
        self.claims.extend(rows);
        let mut row = 0usize;
        let mut decoder = Decoder::with_ip(64, bytes, member.extent.start, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while decoder.can_decode() {
            let offset = decoder.position();
            decoder.decode_out(&mut instruction);
            while rows.get(row).is_some_and(|claim| claim.end <= instruction.ip()) {
                row = row.saturating_add(1);
            }
            let covered = rows.get(row).is_some_and(|claim| claim.start <= instruction.ip());
            let claim = if covered { u32::try_from(base.saturating_add(row)).unwrap_or(NONE) } else { NONE };
            if let (Some(slot), Ok(step)) = (member.index.get_mut(offset), u32::try_from(self.steps.len())) {
                *slot = step;
            }
            let step = step(&instruction, claim, factory);
            if let Op::Address { address, .. } = step.op
                && instruction.mnemonic() == Mnemonic::Lea
                && member.extent.holds(address)
            {
                self.labels.push(self.steps.len());
            }
            self.jumps |= step.way == Way::Indirect;
            self.steps.push(step);
        }
        self.members.push(member);
    }

    /// Index of the instruction to which control gets from the one at `index` if it does not jump.
    pub fn after(&self, index: usize) -> Option<usize> {
        let next = index.checked_add(1)?;
        let (step, behind) = (self.steps.get(index)?, self.steps.get(next)?);
        if step.end() == behind.at {
            return Some(next);
        }
        // Behind what fills the space up to the next function.
        let member = self.member(step.at).filter(|member| member.falls && member.extent.end == step.end())?;
        self.member(behind.at)
            .is_some_and(|next| next.extent.start == behind.at && next.first > member.first)
            .then_some(next)
    }

    /// Marks the instructions to which others lead.
    fn mark(&mut self) {
        let targets: Vec<u64> = self
            .steps
            .iter()
            .filter_map(|step| match step.way {
                Way::Jump(to) | Way::Branch(to) | Way::Call(Callee::Function(to)) => Some(to),
                _ => None,
            })
            .collect();
        let pads = self.members.iter().flat_map(|member| member.sites.iter().flatten().filter_map(|site| site.pad));
        let starts = self.members.iter().map(|member| member.extent.start);
        let all: Vec<u64> = targets.into_iter().chain(pads).chain(starts).collect();
        for target in all {
            if let Some(step) = self.find(target).and_then(|index| self.steps.get_mut(index)) {
                step.target = true;
            }
        }
    }
}

fn step(instruction: &Instruction, claim: u32, factory: &mut InstructionInfoFactory) -> Step {
    let filler = instruction.mnemonic() == Mnemonic::Nop || instruction.mnemonic() == Mnemonic::Int3;
    let compared = if instruction.mnemonic() == Mnemonic::Cmp && instruction.op1_kind() == OpKind::Register {
        match (instruction.op0_register(), instruction.op1_register()) {
            (Name::RSP, other) | (other, Name::RSP) if other.is_gpr64() => number(other),
            _ => None,
        }
    } else {
        None
    };
    Step {
        at: instruction.ip(),
        length: u8::try_from(instruction.len()).unwrap_or(u8::MAX),
        filler,
        compares_sp: compared,
        not_equal: instruction.mnemonic() == Mnemonic::Jne,
        target: false,
        claim,
        way: way(instruction),
        op: if filler { Op::Nothing } else { Op::of(instruction, factory) },
    }
}

fn way(instruction: &Instruction) -> Way {
    if instruction.is_invalid() || instruction.mnemonic() == Mnemonic::Hlt {
        return Way::Stop;
    }
    match instruction.flow_control() {
        FlowControl::Next | FlowControl::Interrupt => Way::On,
        FlowControl::UnconditionalBranch => Way::Jump(instruction.near_branch_target()),
        FlowControl::ConditionalBranch => Way::Branch(instruction.near_branch_target()),
        FlowControl::XbeginXabortXend if instruction.mnemonic() == Mnemonic::Xbegin => {
            Way::Branch(instruction.near_branch_target())
        }
        FlowControl::XbeginXabortXend => Way::On,
        // `syscall` counts as a call for the decoder, and `call .+5` only pushes.
        FlowControl::Call if instruction.mnemonic() != Mnemonic::Call => Way::On,
        FlowControl::Call if instruction.near_branch_target() == instruction.next_ip() => Way::On,
        FlowControl::Call => Way::Call(Callee::Function(instruction.near_branch_target())),
        FlowControl::IndirectCall if instruction.is_ip_rel_memory_operand() => {
            Way::Call(Callee::Slot(instruction.ip_rel_memory_address()))
        }
        FlowControl::IndirectCall => Way::Call(Callee::Unknown),
        FlowControl::IndirectBranch if instruction.is_ip_rel_memory_operand() => Way::Slot,
        FlowControl::IndirectBranch => Way::Indirect,
        FlowControl::Return => Way::Return,
        FlowControl::Exception => Way::Stop,
    }
}
