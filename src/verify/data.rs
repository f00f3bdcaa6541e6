//! What code refers to: functions whose address it takes, data with addresses in it, vtables.

use super::binary::Binary;
use super::execute::place;
use super::value::{State, Value};
use super::walk::{Callee, Came, Slot, Walk};
use super::{Edge, Offence};
use crate::analysis::number;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};
use std::ops::Range;

const WORD: u64 = 8;
/// Larger alignments than any type has.
const ALIGNED: u64 = 1 << 29;

impl Walk<'_> {
    /// Whether a stub of a linkage table is at `address`: `[endbr64;] [bnd] jmp *slot(%rip)`.
    pub fn is_stub(&self, address: u64) -> bool {
        self.stub_target(address).is_some()
    }

    /// What the stub at `address` is called.
    pub fn stub_name(&self, address: u64) -> Option<String> {
        let nameless = self.binary.symbols.function(address).is_none();
        let target = self.stub_target(address).filter(|_| nameless)?;
        Some(format!("{}@plt", self.binary.describe(target)))
    }

    /// Where the stub leads.
    fn stub_target(&self, address: u64) -> Option<u64> {
        let mut code = Decoder::with_ip(64, self.binary.code(address)?, address, DecoderOptions::NONE).into_iter();
        let jump = code.find(|found| found.mnemonic() != Mnemonic::Endbr64)?;
        let leads = jump.flow_control() == FlowControl::IndirectBranch && jump.is_ip_rel_memory_operand();
        let word = self.binary.constant(jump.ip_rel_memory_address()).filter(|_| leads)?;
        self.binary.pointer(word)
    }

    /// What `instruction` refers to, and how.
    pub fn references(&self, state: &State, instruction: &Instruction) -> Vec<(u64, Edge)> {
        let flow = instruction.flow_control();
        let leads = matches!(flow, FlowControl::IndirectCall | FlowControl::IndirectBranch);
        let mut found: Vec<(u64, Edge)> =
            addresses(self.binary, instruction).into_iter().map(|address| (address, Edge::Taken)).collect();
        found.extend(moved(self.binary, state, instruction).into_iter().map(|address| (address, Edge::Taken)));
        let reads = (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory);
        if leads || !reads || instruction.mnemonic() == Mnemonic::Lea || instruction.mnemonic() == Mnemonic::Nop {
            return found;
        }
        // The words that are read or written themselves; where an index is added, that may be all of the object.
        let size = u64::try_from(instruction.memory_size().size()).unwrap_or(0);
        if let Value::Known(places) = place(state, instruction) {
            for at in places {
                let words = self.binary.pointers(at, at.saturating_add(size));
                found.extend(words.into_iter().map(|(word, pointer)| (pointer, Edge::Data(word))));
            }
        }
        found
    }

    /// Something at `came` has the address of something.
    pub fn refer(&mut self, address: u64, came: Came) {
        let mut work = vec![(address, came)];
        while let Some((address, came)) = work.pop() {
            if let Some(name) = foreign_vtable(self.binary, address) {
                self.offend(Offence::Function(crate::symbol::demangle(&name)), came);
                continue;
            }
            if let Some(import) = self.binary.import(address) {
                if !import.data && !import.symbol.starts_with("_ZT") {
                    self.enter(address, &[const { Value::Any }; 6], came);
                }
                continue;
            }
            if self.binary.symbols.is_code(address) {
                self.take(address, came);
                continue;
            }
            if !self.binary.is_mapped(address) || !self.seen.insert(address) {
                continue;
            }
            if is_vtable(self.binary, address) {
                if self.vtables.insert(address) {
                    self.connect_vtable(address, came);
                }
                continue;
            }
            let extent = self.extent(address);
            let pointers = self.binary.pointers(extent.start, extent.end);
            // A constant with functions in it may be called through as a vtable is.
            let has_code = pointers.iter().any(|(_, pointer)| self.binary.symbols.is_code(*pointer));
            if has_code && self.binary.constant(address).is_some() && self.vtables.insert(address) {
                self.connect_vtable(address, came);
            }
            for (at, pointer) in pointers {
                work.push((pointer, Came { edge: Edge::Data(at), ..came }));
            }
        }
    }

    /// The address of code is taken. A label inside the function itself is no function.
    fn take(&mut self, address: u64, came: Came) {
        let symbols = &self.binary.symbols;
        let label = symbols.function(address).is_some_and(|function| function.start != address);
        if label && symbols.function(address) == symbols.function(came.site) {
            return;
        }
        self.enter(address, &[const { Value::Any }; 6], came);
    }

    /// From where to where the object reaches that `address` is in.
    fn extent(&mut self, address: u64) -> Range<u64> {
        if let Some(object) = self.binary.symbols.object(address) {
            return object.extent.clone();
        }
        let referred = self.referred.get_or_insert_with(|| referred(self.binary));
        let next = referred.get(referred.partition_point(|other| *other <= address)).copied();
        let named = self.binary.symbols.next_object(address);
        let segments = self.binary.image.segments().iter();
        let ends = segments.filter_map(|segment| {
            let end = segment.address.checked_add(segment.memory_size)?;
            (segment.address <= address && address < end).then_some(end)
        });
        let end = next.into_iter().chain(named).chain(ends).min().unwrap_or(address);
        address..end
    }

    /// A call through the slot `offset` of what may be a vtable.
    pub fn slot(&mut self, here: Came, offset: i64, state: &State) {
        let depth = self.nodes.get(here.node).and_then(|found| found.frame.depth(state));
        let slot = Slot { offset, depth: depth.map(|depth| depth.saturating_add(WORD)) };
        if self.slots.insert((here.node, here.site), slot).is_some() {
            return;
        }
        for vtable in self.vtables.clone() {
            self.connect(here, slot, vtable);
        }
    }

    /// Code refers to another vtable.
    fn connect_vtable(&mut self, vtable: u64, came: Came) {
        for ((node, site), slot) in self.slots.clone() {
            self.connect(Came { node, site, ..came }, slot, vtable);
        }
    }

    fn connect(&mut self, here: Came, slot: Slot, vtable: u64) {
        let extent = self.extent(vtable);
        let Some(callee) = function(self.binary, vtable, slot.offset, &extent) else { return };
        self.callees.entry(here.site).or_default().insert(self.binary.describe(callee));
        let came = Came { edge: Edge::Vtable(vtable), ..here };
        let callee = self.enter(callee, &[const { Value::Any }; 6], came);
        if let (Callee::Node(callee), Some(found)) = (callee, self.nodes.get_mut(here.node)) {
            found.frame.calls(callee, slot.depth);
        }
    }
}

/// The addresses in the operands of an instruction.
fn addresses(binary: &Binary, instruction: &Instruction) -> Vec<u64> {
    let mut found = Vec::new();
    if instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand() {
        found.push(instruction.ip_rel_memory_address());
    }
    if binary.image.is_relocatable() {
        return found;
    }
    // Where addresses are constants, every constant may be one.
    for operand in 0..instruction.op_count() {
        let value = match instruction.op_kind(operand) {
            OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64 => instruction.immediate(operand),
            OpKind::Memory if !instruction.is_ip_rel_memory_operand() && instruction.mnemonic() != Mnemonic::Nop => {
                instruction.memory_displacement64()
            }
            _ => continue,
        };
        let code = binary.symbols.is_code(value);
        if binary.is_mapped(value) && (!code || binary.symbols.names_at(value).next().is_some()) {
            found.push(value);
        }
    }
    found
}

/// Places in objects that the instruction makes out of other places in them: `add $16, %rax` behind `lea vtable, %rax`.
fn moved(binary: &Binary, state: &State, instruction: &Instruction) -> Vec<u64> {
    let sum = matches!(instruction.mnemonic(), Mnemonic::Add | Mnemonic::Sub | Mnemonic::Lea);
    let from =
        if instruction.mnemonic() == Mnemonic::Lea { instruction.memory_base() } else { instruction.op0_register() };
    let Some(Value::Known(places)) = number(from).filter(|_| sum).map(|from| state.get(from)) else {
        return Vec::new();
    };
    let by = match (instruction.mnemonic(), instruction.op1_kind()) {
        (Mnemonic::Lea, _) => instruction.memory_displacement64().cast_signed(),
        (Mnemonic::Add, OpKind::Immediate8to64 | OpKind::Immediate32to64) => instruction.immediate(1).cast_signed(),
        (Mnemonic::Sub, OpKind::Immediate8to64 | OpKind::Immediate32to64) => {
            instruction.immediate(1).cast_signed().wrapping_neg()
        }
        _ => return Vec::new(),
    };
    let both = places.into_iter().map(|place| (place, place.wrapping_add_signed(by)));
    let same = |(from, to): &(u64, u64)| {
        let object = binary.symbols.object(*from);
        object.is_some() && object == binary.symbols.object(*to)
    };
    both.filter(same).map(|(_, to)| to).collect()
}

/// The name of a C++ vtable that another module fills: what is in its slots nobody can tell. Those of the language's own
/// type descriptions are never called through by a program.
fn foreign_vtable(binary: &Binary, address: u64) -> Option<String> {
    let symbol = match binary.import(address) {
        Some(import) => &import.symbol,
        None => &binary.symbols.object(address).filter(|_| binary.constant(address).is_none())?.symbol,
    };
    (symbol.starts_with("_ZTV") && !symbol.contains("__cxxabiv1")).then(|| symbol.clone())
}

/// Whether a vtable begins at `address`: of Rust's, with a function or nothing, a size and an alignment; or of C++'s.
fn is_vtable(binary: &Binary, address: u64) -> bool {
    if let Some(object) = binary.symbols.object(address) {
        return object.symbol.starts_with("_ZTV") && binary.constant(address).is_some();
    }
    let word = |index: u64| binary.constant(address.checked_add(index.checked_mul(WORD)?)?);
    let number = |index: u64| match word(index) {
        Some(super::binary::Word::Number(number)) => Some(number),
        _ => None,
    };
    let code = |index: u64| {
        word(index).and_then(|word| binary.pointer(word)).is_some_and(|address| binary.symbols.is_code(address))
    };
    let header = number(0) == Some(0) || code(0);
    let align = number(2).is_some_and(|align| align.is_power_of_two() && align <= ALIGNED);
    header && number(1).is_some() && align && code(3)
}

/// The function in the slot `offset` of a vtable, or of another constant, if it has that.
fn function(binary: &Binary, table: u64, offset: i64, extent: &Range<u64>) -> Option<u64> {
    let at = table.checked_add_signed(offset)?;
    if is_vtable(binary, table) && binary.symbols.object(table).is_none() {
        // Functions follow one another from the fourth word on; between them may be vtables of supertraits.
        let mut next = table.checked_add(3 * WORD)?;
        while next < at {
            binary.pointer(binary.constant(next)?).filter(|address| *address != 0)?;
            next = next.checked_add(WORD)?;
        }
    } else if !extent.contains(&at) {
        return None;
    }
    let callee = binary.pointer(binary.constant(at)?)?;
    (binary.symbols.is_code(callee) || binary.import(callee).is_some()).then_some(callee)
}

/// All addresses that some code or some pointer of the file refers to, ascending: where one object ends another begins.
fn referred(binary: &Binary) -> Vec<u64> {
    let mut found: Vec<u64> = binary.pointed_at().collect();
    for function in binary.symbols.functions() {
        let length = usize::try_from(function.end.saturating_sub(function.start)).unwrap_or(0);
        let Some(bytes) = binary.image.at(function.start, length) else { continue };
        for instruction in Decoder::with_ip(64, bytes, function.start, DecoderOptions::NONE).iter() {
            if instruction.is_ip_rel_memory_operand() {
                found.push(instruction.ip_rel_memory_address());
            } else if !binary.image.is_relocatable() {
                found.extend(addresses(binary, &instruction));
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}
