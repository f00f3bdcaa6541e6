//! Where functions without unwind information begin, from the module's own headers in memory and from
//! symbol tables.

use super::text::Text;
use super::value::{State, Value};
use crate::image::{Image, ImageSymbol};
use iced_x86::Mnemonic;
use std::sync::Arc;
use surestack_walk::Memory;

const STT_FUNC: u8 = 2;
const PT_DYNAMIC: u64 = 2;
const DT_NULL: u64 = 0;
const DT_INIT: u64 = 12;
const DT_FINI: u64 = 13;
const DT_INIT_ARRAY: u64 = 25;
const DT_FINI_ARRAY: u64 = 26;
const DT_INIT_ARRAYSZ: u64 = 27;
const DT_FINI_ARRAYSZ: u64 = 28;
/// More program headers or dynamic entries than any file has; a damaged header stops here.
const MOST_HEADERS: u64 = 256;
/// Most functions of one array.
const MOST_FUNCTIONS: u64 = 4_096;

/// Where code begins. Addresses are the target's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Functions: called, with the return address on top of the stack.
    pub functions: Vec<u64>,
    /// Functions of symbol tables, ascending.
    pub named: Vec<u64>,
    /// The entry point: nobody calls it.
    pub start: Option<u64>,
}

impl Entries {
    /// What the ELF file mapped at `start` with load bias `bias` says in its header and dynamic section.
    ///
    /// What cannot be read is left out: with fewer entries less code is known, and nothing is known wrongly.
    pub fn of_module(memory: &dyn Memory, start: u64, bias: u64) -> Self {
        let mut entries = Self::default();
        let _ = entries.read(memory, start, bias);
        entries.functions.sort_unstable();
        entries.functions.dedup();
        entries
    }

    /// Adds the functions in the symbol tables of a module's files, loaded with `bias`.
    #[must_use]
    pub fn with_symbols(mut self, images: &[Arc<Image>], bias: u64) -> Self {
        let symbols = images.iter().flat_map(|image| image.symbols());
        // A cold part is jumped to, in the middle of its function's frame.
        let is_called = |symbol: &ImageSymbol<'_>| {
            symbol.kind == STT_FUNC && symbol.section != 0 && !symbol.name.windows(5).any(|part| part == b".cold")
        };
        self.named = symbols.filter(is_called).map(|symbol| symbol.address.wrapping_add(bias)).collect();
        self.named.sort_unstable();
        self.named.dedup();
        self
    }

    fn read(&mut self, memory: &dyn Memory, start: u64, bias: u64) -> Result<(), surestack_walk::Error> {
        let field = |offset: u64, width| memory.value(start.wrapping_add(offset), width);
        let is_elf = field(0, 4)? == u64::from(u32::from_le_bytes(*b"\x7fELF"));
        let entry = field(24, 8)?;
        if !is_elf {
            return Ok(());
        }
        self.start = (entry != 0).then(|| entry.wrapping_add(bias));
        let (headers, size, count) = (field(32, 8)?, field(54, 2)?, field(56, 2)?);
        for index in 0..count.min(MOST_HEADERS) {
            let at = headers.wrapping_add(index.wrapping_mul(size));
            if field(at, 4)? == PT_DYNAMIC {
                self.dynamic(memory, field(at.wrapping_add(16), 8)?.wrapping_add(bias), bias)?;
            }
        }
        Ok(())
    }

    fn dynamic(&mut self, memory: &dyn Memory, start: u64, bias: u64) -> Result<(), surestack_walk::Error> {
        let (mut arrays, mut sizes) = ([None; 2], [0; 2]);
        for index in 0..MOST_HEADERS {
            let at = start.wrapping_add(index.wrapping_mul(16));
            let (tag, value) = (memory.word(at)?, memory.word(at.wrapping_add(8))?);
            match tag {
                DT_NULL => break,
                DT_INIT | DT_FINI => self.functions.push(value.wrapping_add(bias)),
                DT_INIT_ARRAY => arrays[0] = Some(value),
                DT_FINI_ARRAY => arrays[1] = Some(value),
                DT_INIT_ARRAYSZ => sizes[0] = value,
                DT_FINI_ARRAYSZ => sizes[1] = value,
                _ => {}
            }
        }
        for (array, size) in arrays.into_iter().zip(sizes) {
            let Some(array) = array else { continue };
            for index in 0..(size / 8).min(MOST_FUNCTIONS) {
                // The loader has relocated the array; before it did, this is no address of the module's.
                let function = memory.word(array.wrapping_add(bias).wrapping_add(index.wrapping_mul(8)))?;
                if function != 0 && function != u64::MAX {
                    self.functions.push(function);
                }
            }
        }
        Ok(())
    }
}

/// The state at `pc` in a procedure linkage table, by the shape of its stubs.
///
/// ```text
///   PLT0   push GOT[1]; jmp *GOT[2]          entered with a relocation number pushed
///   stub   [endbr64;] jmp *slot; push number; jmp PLT0
/// ```
pub fn plt_entry(text: &Text<'_>, pc: u64) -> Option<State> {
    let at = |address: u64| text.instruction(address);
    let through_slot = |address: u64| {
        at(address).is_some_and(|found| found.mnemonic() == Mnemonic::Jmp && found.is_ip_rel_memory_operand())
    };
    let pushes_slot = |address: u64| {
        at(address).is_some_and(|found| found.mnemonic() == Mnemonic::Push && found.is_ip_rel_memory_operand())
    };
    let pushed = |count: usize| {
        let mut state = State::at_entry();
        (0..count).for_each(|_| state.push(Value::Unknown));
        state
    };
    let here = at(pc)?;
    match here.mnemonic() {
        Mnemonic::Endbr64 if through_slot(here.next_ip()) => Some(pushed(0)),
        // PLT0: `ff 35` is six bytes long.
        Mnemonic::Push if pushes_slot(pc) && through_slot(here.next_ip()) => Some(pushed(1)),
        Mnemonic::Jmp if through_slot(pc) && pc.checked_sub(6).is_some_and(&pushes_slot) => Some(pushed(2)),
        Mnemonic::Jmp if through_slot(pc) => Some(pushed(0)),
        Mnemonic::Push | Mnemonic::Jmp => {
            // In the second half of a stub: the number is pushed, then PLT0 is jumped to.
            let jump = if here.mnemonic() == Mnemonic::Push { at(here.next_ip())? } else { here };
            let to_plt0 = jump.mnemonic() == Mnemonic::Jmp
                && jump.is_jmp_short_or_near()
                && pushes_slot(jump.near_branch_target());
            let push = jump.ip().checked_sub(5).and_then(at).filter(|push| push.mnemonic() == Mnemonic::Push);
            (to_plt0 && push.is_some()).then(|| pushed(usize::from(here.ip() == jump.ip())))
        }
        _ => None,
    }
}
