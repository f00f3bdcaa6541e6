//! Following code from one or more places, the state carried along.

use super::op::Op;
use super::text::Text;
use super::value::State;
use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic};
use std::collections::{BTreeMap, VecDeque};

/// How far to follow.
pub struct Limits<'l> {
    /// Most instructions executed, repeats included.
    pub steps: usize,
    /// Whether the code at an address belongs to what is followed.
    pub inside: &'l dyn Fn(u64) -> bool,
    /// Whether an address is known to begin a function, so that the call before it did not come back.
    pub begins: &'l dyn Fn(u64) -> bool,
}

/// What was found on the way.
#[derive(Default)]
pub struct Flow {
    visits: BTreeMap<u64, Visit>,
    /// Addresses of the `ret` instructions that were reached.
    pub returns: Vec<u64>,
    /// Targets of direct calls.
    pub calls: Vec<u64>,
    /// Whether some code was not followed: a jump through a register, undecodable bytes, the budget.
    pub partial: bool,
}

/// An instruction that was reached.
pub struct Visit {
    /// What holds before it.
    pub state: State,
    /// Its bytes.
    pub length: u8,
    /// Whether it is a call.
    pub call: bool,
}

impl Flow {
    /// Follows the code from `starts`.
    pub fn follow(text: &Text<'_>, starts: Vec<(u64, State)>, limits: &Limits<'_>) -> Self {
        let mut flow = Self::default();
        let mut factory = InstructionInfoFactory::new();
        // First in, first out: near code comes first, so that a budget cuts what is far.
        let mut work = VecDeque::from(starts);
        let mut steps = 0;
        while let Some((mut address, mut state)) = work.pop_front() {
            while (limits.inside)(address) {
                if steps == limits.steps {
                    flow.partial = true;
                    return flow;
                }
                steps += 1;
                let Some(instruction) = text.instruction(address) else {
                    flow.partial = true;
                    break;
                };
                if !flow.visit(&instruction, &mut state) {
                    break;
                }
                let next = flow.next(text, &instruction, limits);
                state.execute(Op::of(&instruction, &mut factory), address);
                if let Some(aside) = next.aside {
                    work.push_back((aside, state.clone()));
                }
                let Some(on) = next.on else { break };
                address = on;
            }
        }
        flow
    }

    /// What was found at the instruction at `address`.
    pub fn at(&self, address: u64) -> Option<&Visit> {
        self.visits.get(&address)
    }

    /// The call that returns to `address`.
    pub fn call_before(&self, address: u64) -> Option<&Visit> {
        (2..=8).find_map(|length| {
            let visit = self.at(address.checked_sub(length)?)?;
            (visit.call && u64::from(visit.length) == length).then_some(visit)
        })
    }

    /// Every instruction that was reached.
    pub fn visits(&self) -> impl Iterator<Item = (u64, &Visit)> {
        self.visits.iter().map(|(address, visit)| (*address, visit))
    }

    /// Merges `state` into what is known at the instruction. Returns whether there is anything new.
    fn visit(&mut self, instruction: &Instruction, state: &mut State) -> bool {
        if let Some(visit) = self.visits.get_mut(&instruction.ip()) {
            if !visit.state.join(state) {
                return false;
            }
            state.clone_from(&visit.state);
            return true;
        }
        let call = instruction.mnemonic() == Mnemonic::Call;
        let length = u8::try_from(instruction.len()).unwrap_or(u8::MAX);
        self.visits.insert(instruction.ip(), Visit { state: state.clone(), length, call });
        if instruction.mnemonic() == Mnemonic::Ret {
            self.returns.push(instruction.ip());
        }
        true
    }

    fn next(&mut self, text: &Text<'_>, instruction: &Instruction, limits: &Limits<'_>) -> Next {
        let on = instruction.next_ip();
        match instruction.flow_control() {
            // Privileged: in user space it is where a noreturn call is caught.
            FlowControl::Next if instruction.mnemonic() == Mnemonic::Hlt => Next::default(),
            FlowControl::Next => Next { on: Some(on), aside: None },
            FlowControl::UnconditionalBranch => Next { on: Some(instruction.near_branch_target()), aside: None },
            FlowControl::ConditionalBranch => Next { on: Some(on), aside: Some(instruction.near_branch_target()) },
            FlowControl::Call | FlowControl::IndirectCall => {
                // `syscall` counts as a call for the decoder.
                if instruction.mnemonic() != Mnemonic::Call {
                    return Next { on: Some(on), aside: None };
                }
                let target = instruction.near_branch_target();
                if target != 0 && target != on {
                    self.calls.push(target);
                }
                let back = !(limits.begins)(on) && !padded(text, on);
                Next { on: back.then_some(on), aside: None }
            }
            FlowControl::IndirectBranch => {
                self.partial = true;
                Next::default()
            }
            FlowControl::Return | FlowControl::Interrupt | FlowControl::Exception | FlowControl::XbeginXabortXend => {
                Next::default()
            }
        }
    }
}

/// Where an instruction leads.
#[derive(Default)]
struct Next {
    on: Option<u64>,
    aside: Option<u64>,
}

/// Whether `address` begins what fills the space up to the next function: a call before it did not come back.
pub fn padded(text: &Text<'_>, mut address: u64) -> bool {
    const ALIGNMENT: u64 = 16;
    let start = address;
    while let Some(instruction) = text.instruction(address) {
        match instruction.mnemonic() {
            Mnemonic::Nop | Mnemonic::Int3 => address = instruction.next_ip(),
            Mnemonic::Endbr64 => return true,
            _ => break,
        }
        if address.wrapping_sub(start) >= ALIGNMENT {
            break;
        }
    }
    address != start && address.is_multiple_of(ALIGNMENT)
}
