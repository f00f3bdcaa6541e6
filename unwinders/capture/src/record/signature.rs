//! A number by which crashes of the same kind are told from others.

use surestack_reliable::Noted;
use surestack_walk::FoundBy;

/// How many places it is made of: a Rust panic that aborts has eight of its own before those of the program.
const PLACES: usize = 12;
/// A place in no module: generated code, a call to nowhere. Its address says nothing, since it is another in each run.
const NOWHERE: &[u8] = b"?";

/// A number for a trace: the same for the same program that died in the same way, wherever it was loaded, built and
/// installed, and however often a function called itself before.
///
/// It is a sum (FNV-1a, 64 bits) over places in code, innermost first: the file name of the module without its directory,
/// a zero byte, and the linked address that is looked up for the frame (eight bytes, little endian). Only what is believed
/// enters: frames before the first one that is doubted by somebody without files, found by unwind information, instructions,
/// a signal frame or a marker, and always the interrupted one. Of these the first twelve places count, each once. The C
/// library's that come first do not, unless there are no others: how `abort` and `memcpy` are made differs between machines.
#[derive(Clone, Copy, Debug)]
pub struct Signature {
    places: [(usize, u64); PLACES],
    count: usize,
    /// Whether all places so far are the C library's.
    in_library: bool,
}

impl Default for Signature {
    fn default() -> Self {
        Self::new()
    }
}

impl Signature {
    /// A signature of no frames.
    pub const fn new() -> Self {
        Self { places: [(0, 0); PLACES], count: 0, in_library: true }
    }

    /// Takes the next frame of the trace, with the path and the bias of its module if it lies in one. The loader has no name
    /// for the program itself: that is to be called by its path here as well.
    pub fn see(&mut self, index: usize, noted: &Noted, module: Option<(&[u8], u64)>) {
        if !is_believable(noted.found_by) {
            return;
        }
        let (path, linked) = match module {
            Some((path, bias)) => (path, noted.pc.lookup().wrapping_sub(bias)),
            None => (NOWHERE, 0),
        };
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        if self.in_library && !is_library(name) {
            (self.in_library, self.count) = (false, 0);
        }
        let place = sum(sum(sum(BASIS, name), &[0]), &linked.to_le_bytes());
        let is_known = self.places.iter().take(self.count).any(|(_, known)| *known == place);
        if let Some(free) = self.places.get_mut(self.count).filter(|_| !is_known) {
            *free = (index, place);
            self.count = self.count.saturating_add(1);
        }
    }

    /// The number for a trace of which so many frames are believed ([`surestack_reliable::Judge::believed`]).
    pub fn value(&self, believed: usize) -> u64 {
        let places = self.places.iter().take(self.count).filter(|(frame, _)| *frame < believed.max(1));
        places.fold(BASIS, |all, (_, place)| sum(all, &place.to_le_bytes()))
    }
}

/// Whether a module is a C library, its loader or the kernel's.
fn is_library(name: &[u8]) -> bool {
    let names: [&[u8]; 7] = [b"libc.so", b"libc-2", b"libpthread", b"ld-linux", b"ld-musl", b"[vdso]", b"linux-vdso"];
    names.iter().any(|library| name.starts_with(library))
}

/// Whether a frame that was found in this way can be nothing but a frame.
fn is_believable(found_by: FoundBy) -> bool {
    match found_by {
        FoundBy::Context
        | FoundBy::Cfi(_)
        | FoundBy::Analysed(_)
        | FoundBy::Corrected
        | FoundBy::SignalFrame(_)
        | FoundBy::Probe
        | FoundBy::Marker(_)
        | FoundBy::Resolver => true,
        // Right after a call to nowhere the return address is where it must be, and without it the signature says nothing.
        FoundBy::CallAtSp => true,
        FoundBy::FramePointer | FoundBy::Foreign(_) => false,
    }
}

/// What the sum of nothing is.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;

fn sum(so_far: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(so_far, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use surestack_walk::{CodeAddress, Link, RowSource};

    const CFI: FoundBy = FoundBy::Cfi(RowSource::EhFrame);

    fn noted(pc: u64, found_by: FoundBy) -> Noted {
        Noted {
            pc: CodeAddress::Exact(pc),
            sp: None,
            thread: None,
            stack: None,
            found_by,
            link: Link::Call,
            callee_cfa: None,
            return_slot: None,
            context: None,
            arrival: None,
        }
    }

    /// The signature of a trace in a module, of which so many frames are believed.
    fn signature(path: &str, bias: u64, frames: &[(u64, FoundBy)], believed: usize) -> u64 {
        let mut signature = Signature::new();
        for (index, (linked, found_by)) in frames.iter().enumerate() {
            signature.see(index, &noted(bias.wrapping_add(*linked), *found_by), Some((path.as_bytes(), bias)));
        }
        signature.value(believed)
    }

    const FRAMES: [(u64, FoundBy); 3] = [(0x1000, FoundBy::Context), (0x2000, CFI), (0x3000, CFI)];

    #[test]
    fn it_does_not_depend_on_where_the_program_was_loaded_or_installed() {
        let here = signature("/usr/bin/demo", 0x5555_0000, &FRAMES, 3);
        assert_eq!(here, signature("/home/me/target/demo", 0x7fff_0000, &FRAMES, 3));
        assert_eq!(here, 0x9feb_e502_60ce_4a45, "the documented sum, made by other means");
    }

    #[test]
    fn another_program_or_another_place_has_another() {
        let here = signature("demo", 0, &FRAMES, 3);
        assert_ne!(here, signature("other", 0, &FRAMES, 3));
        assert_ne!(here, signature("demo", 0, &[FRAMES[0], FRAMES[2], FRAMES[1]], 3));
    }

    #[test]
    fn what_is_not_believed_does_not_enter() {
        let two = signature("demo", 0, &FRAMES[..2], 2);
        assert_eq!(two, signature("demo", 0, &FRAMES, 2));
        let guessed = [FRAMES[0], FRAMES[1], (0x9000, FoundBy::FramePointer)];
        assert_eq!(two, signature("demo", 0, &guessed, 3));
        assert_eq!(signature("demo", 0, &FRAMES[..1], 1), signature("demo", 0, &FRAMES, 0));
    }

    #[test]
    fn the_c_library_s_frames_at_the_top_count_only_where_there_are_no_others() {
        let of = |modules: &[&str]| {
            let mut signature = Signature::new();
            for (index, module) in modules.iter().enumerate() {
                signature.see(index, &noted(0x1000, CFI), Some((module.as_bytes(), 0)));
            }
            signature.value(modules.len())
        };
        assert_eq!(of(&["/lib/libc.so.6", "/lib/ld-linux-x86-64.so.2", "demo"]), of(&["demo"]));
        assert_ne!(of(&["/lib/libc.so.6"]), of(&[]));
        assert_ne!(of(&["demo", "libc.so.6"]), of(&["demo"]));
    }

    #[test]
    fn recursion_counts_once_however_deep() {
        let shallow = [FRAMES[0], FRAMES[1], FRAMES[1], FRAMES[2]];
        let mut deep = [FRAMES[1]; 1000];
        (deep[0], deep[999]) = (FRAMES[0], FRAMES[2]);
        assert_eq!(signature("demo", 0, &shallow, 4), signature("demo", 0, &deep, 1000));
    }

    #[test]
    fn a_place_in_no_module_counts_without_its_address() {
        let of = |pc| {
            let mut signature = Signature::new();
            signature.see(0, &noted(pc, FoundBy::Context), None);
            signature.value(1)
        };
        assert_eq!(of(0x1234), of(0x5678));
        assert_ne!(of(0x1234), Signature::new().value(0));
    }
}
