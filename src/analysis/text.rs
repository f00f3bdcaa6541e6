//! Reading and decoding the target's code.

use iced_x86::{Decoder, DecoderOptions, Instruction};
use std::cell::RefCell;
use surestack_walk::Memory;

/// Longest x86 instruction.
const LONGEST: usize = 15;
/// Bytes read at once.
const WINDOW: usize = 256;

/// The target's code, a window of it at a time.
pub struct Text<'m> {
    memory: &'m dyn Memory,
    window: RefCell<(u64, Vec<u8>)>,
}

impl<'m> Text<'m> {
    /// The code in `memory`.
    pub fn new(memory: &'m dyn Memory) -> Self {
        Self { memory, window: RefCell::default() }
    }

    /// The target's memory.
    pub fn memory(&self) -> &'m dyn Memory {
        self.memory
    }

    /// The instruction at `address`; none where nothing can be read or decoded.
    pub fn instruction(&self, address: u64) -> Option<Instruction> {
        let mut window = self.window.borrow_mut();
        let within = |window: &(u64, Vec<u8>)| {
            let skip = usize::try_from(address.checked_sub(window.0)?).ok()?;
            (skip < window.1.len()).then_some(skip)
        };
        let skip = match within(&window) {
            Some(skip) if window.1.len().saturating_sub(skip) >= LONGEST => skip,
            _ => {
                self.fill(address, &mut window);
                0
            }
        };
        let bytes = window.1.get(skip..).filter(|bytes| !bytes.is_empty())?;
        let instruction = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
        (!instruction.is_invalid()).then_some(instruction)
    }

    /// Reads the window at `address`, shorter near the end of a mapping.
    fn fill(&self, address: u64, window: &mut (u64, Vec<u8>)) {
        window.0 = address;
        for length in [WINDOW, 64, LONGEST].into_iter().chain((1..LONGEST).rev()) {
            window.1.resize(length, 0);
            if self.memory.read(address, &mut window.1).is_ok() {
                return;
            }
        }
        window.1.clear();
    }
}
