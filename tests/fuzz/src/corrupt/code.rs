//! What the bytes and symbols of a program say about calls, found without any of the library's evidence.

use super::thread::Link;
use std::collections::{BTreeMap, BTreeSet};
use surestack::image::Image;
use surestack_walk::X86_64;

const STT_FUNC: u8 = 2;
const STT_GNU_IFUNC: u8 = 10;
/// `call rel32`.
const CALL: u8 = 0xe8;
/// `call r/m64` and `jmp r/m64`, the operations 2 and 4 of their group.
const INDIRECT: u8 = 0xff;

const END: [u8; 10] = [0x48, 0x89, 0xc7, 0xb8, 60, 0, 0, 0, 0x0f, 0x05];

/// The code of one program at its linked addresses.
pub struct Code {
    /// Start and end of each function.
    functions: BTreeMap<u64, u64>,
    /// Every address behind a direct call, with its target.
    direct: BTreeMap<u64, u64>,
    /// Every address behind bytes that are an indirect call.
    indirect: BTreeSet<u64>,
    /// Every address of bytes that are an indirect jump.
    jumps: BTreeSet<u64>,
    /// The functions that are sigreturn trampolines.
    trampolines: Vec<u64>,
    /// Where a thread ends: `mov %rax,%rdi; mov $__NR_exit,%eax; syscall`.
    ends: BTreeSet<u64>,
}

impl Code {
    /// Scans the executable segments: at every byte, so that calls inside of other instructions are found too.
    pub fn of(image: &Image) -> Self {
        let functions: BTreeMap<u64, u64> = image
            .symbols()
            .filter(|symbol| matches!(symbol.kind, STT_FUNC | STT_GNU_IFUNC) && symbol.section != 0)
            .map(|symbol| (symbol.address, symbol.address.saturating_add(symbol.size)))
            .collect();
        let (mut direct, mut indirect, mut jumps, mut trampolines, mut ends) =
            (BTreeMap::new(), BTreeSet::new(), BTreeSet::new(), vec![], BTreeSet::new());
        for code in image.code() {
            let Ok(length) = usize::try_from(code.end - code.start) else { continue };
            let Some(bytes) = image.at(code.start, length) else { continue };
            for (address, rest) in (code.start..).zip((0..length).map(|at| &bytes[at..])) {
                match *rest {
                    [CALL, a, b, c, d, ..] => {
                        let next = address + 5;
                        let target = next.wrapping_add_signed(i64::from(i32::from_le_bytes([a, b, c, d])));
                        if functions.contains_key(&target) {
                            direct.insert(next, target);
                        }
                    }
                    [INDIRECT, operand, ..] if operand >> 3 & 7 == 2 => {
                        indirect.extend(indirect_length(operand, rest.get(2)).map(|length| address + length));
                    }
                    [INDIRECT, operand, ..] if operand >> 3 & 7 == 4 => {
                        jumps.insert(address);
                    }
                    _ => {}
                }
                if rest.starts_with(&END) {
                    ends.insert(address);
                }
                if X86_64.signal_frame.trampolines.iter().any(|known| rest.starts_with(known.bytes)) {
                    trampolines.push(address);
                }
            }
        }
        Self { functions, direct, indirect, jumps, trampolines, ends }
    }

    /// The start of the function that holds `address`.
    pub fn function(&self, address: u64) -> Option<u64> {
        let (start, end) = self.functions.range(..address.saturating_add(1)).next_back()?;
        (address < *end).then_some(*start)
    }

    /// Whether two frames and two others are the same function, called from the same place and at the same stack pointer:
    /// how it got from the call to where it is (by a tail call, say) was seen there.
    pub fn is_same_call(&self, was: &[Link], now: &[Link]) -> bool {
        let ([was, from], [callee, caller]) = (was, now) else { return false };
        from == caller && self.function(was.pc) == self.function(callee.pc)
    }

    /// What is before `address`: no call, an indirect one (`Some(None)`), or a direct one and where it goes.
    pub fn called_before(&self, address: u64) -> Option<Option<u64>> {
        let direct = self.direct.get(&address).map(|&target| Some(target));
        direct.or_else(|| self.indirect.contains(&address).then_some(None))
    }

    /// Whether the function at `start` may jump to anywhere: to another function at its end, or into its own table.
    pub fn jumps_anywhere(&self, start: u64) -> bool {
        // The sizes of startup code are not given.
        let end = self.functions.range(start.saturating_add(1)..).next().map_or(start, |(next, _)| *next);
        self.jumps.range(start..end).next().is_some()
    }

    /// Whether a thread that returns there ends.
    pub fn ends_thread(&self, address: u64) -> bool {
        self.ends.contains(&address)
    }

    /// Whether a signal trampoline begins there.
    pub fn is_trampoline(&self, address: u64) -> bool {
        self.trampolines.contains(&address)
    }

    /// The trampolines.
    pub fn trampolines(&self) -> &[u64] {
        &self.trampolines
    }

    /// Every address behind a call, direct ones first.
    pub fn return_addresses(&self) -> impl Iterator<Item = u64> {
        self.direct.keys().chain(&self.indirect).copied()
    }

    /// The addresses behind calls of `function`.
    pub fn callers(&self, function: u64) -> impl Iterator<Item = u64> {
        self.direct.iter().filter(move |(_, target)| **target == function).map(|(address, _)| *address)
    }

    /// The functions' first addresses.
    pub fn starts(&self) -> impl Iterator<Item = u64> {
        self.functions.keys().copied()
    }
}

/// How long an indirect call with this ModRM byte (and SIB byte, if it has one) is.
fn indirect_length(operand: u8, scale: Option<&u8>) -> Option<u64> {
    let (mode, base) = (operand >> 6, operand & 7);
    let has_scale = mode != 3 && base == 4;
    let wide_base = if has_scale { scale? & 7 == 5 } else { base == 5 };
    let displacement = match mode {
        0 if wide_base => 4,
        1 => 1,
        2 => 4,
        _ => 0,
    };
    Some(2 + u64::from(has_scale) + displacement)
}

#[cfg(test)]
mod tests {
    use super::indirect_length;

    #[test]
    fn an_indirect_call_is_as_long_as_its_operand_says() {
        assert_eq!(indirect_length(0xd0, None), Some(2)); // *%rax
        assert_eq!(indirect_length(0x15, None), Some(6)); // *disp32(%rip)
        assert_eq!(indirect_length(0x53, None), Some(3)); // *disp8(%rbx)
        assert_eq!(indirect_length(0x14, Some(&0xc7)), Some(3)); // *(%rdi,%rax,8)
        assert_eq!(indirect_length(0x14, Some(&0xc5)), Some(7)); // *disp32(,%rax,8)
        assert_eq!(indirect_length(0x90, None), Some(6)); // *disp32(%rax)
        assert_eq!(indirect_length(0x54, None), None);
    }
}
