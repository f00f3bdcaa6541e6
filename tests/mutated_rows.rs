//! Unwind information with single bits flipped: whatever a flip changes in a row that was proven is noticed, and what is put
//! right is put right as it was.

use gimli::{BaseAddresses, EhFrame, EhFrameOffset, LittleEndian, UnwindSection};
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use surestack::image::Image;
use surestack::proof::claim::{Cfa, Claim, Saved};
use surestack::proof::layout::Layout;
use surestack::proof::{Proofs, Proved, Proven, Return, Source};
use surestack_walk::{RowProof, Section, UnwindSections};

const FLIPS: usize = 10_000;

/// What became of a flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Outcome {
    /// No row of the function is another one: `nop`s, and advances between equal rows.
    Nothing,
    /// Some row that was proven is contradicted, or a register in it.
    Contradicted,
    /// None is contradicted, and some is not proven any more.
    Undecided,
    /// The entry cannot be read any more.
    Unreadable,
    /// Rows changed of which nothing had been proven.
    NeverProven,
    /// It changes how much whoever catches an exception pops, and with that what the code does.
    Pops,
    /// Every row that changed is proven again: it says the same of the frame in other words.
    OtherWords,
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// The bytes of an entry's instructions, in `.eh_frame`.
fn instructions(bytes: &[u8], fde: usize, bases: &BaseAddresses) -> Option<std::ops::Range<usize>> {
    let eh_frame = EhFrame::new(bytes, LittleEndian);
    let entry = eh_frame.fde_from_offset(bases, EhFrameOffset(fde), EhFrame::cie_from_offset).ok()?;
    // Length, distance to the CIE, two four-byte addresses, and what is behind the length of the augmentation.
    let augmentation = fde + 16;
    let length = usize::from(*bytes.get(augmentation)?);
    (length < 0x80).then_some(augmentation + 1 + length..fde + 4 + entry.entry_len())
}

fn source<'m>(image: &'m Image, eh_frame: &'m [u8], through: &'m dyn Fn(u64) -> Return) -> Source<'m> {
    let unwind = image.unwind();
    let address = unwind.eh_frame.unwrap().address;
    let unwind = UnwindSections { eh_frame: Some(Section { address, bytes: eh_frame }), ..unwind };
    Source { memory: image, bias: 0, unwind, through, resolves: &|_| false }
}

/// By address, the rows and what became of them.
fn rows(proved: &Proved) -> HashMap<u64, (Claim, Proven)> {
    let steps = proved.code.steps.iter().zip(&proved.proven);
    let row = |step: &surestack::proof::code::Step| proved.code.claims.get(step.claim as usize).copied();
    steps.filter_map(|(step, proven)| Some((step.at, (row(step)?, *proven)))).collect()
}

fn says_the_same(one: &Claim, other: &Claim) -> bool {
    (one.cfa, one.return_address, one.saved) == (other.cfa, other.return_address, other.saved)
}

/// Whether the frame that a changed row describes is certainly another one than before. A return address in a register may
/// lie on the stack as well.
fn is_other_frame(before: &Claim, after: &Claim) -> bool {
    let moved = match (before.cfa, after.cfa) {
        (Cfa::Register(one, at), Cfa::Register(other, to)) => one == other && at != to,
        _ => false,
    };
    let returns = match (before.return_address, after.return_address) {
        (Saved::At(one), Saved::At(other)) => one != other,
        (_, Saved::Kept | Saved::Undefined) => true,
        _ => false,
    };
    moved || before.cfa == after.cfa && returns
}

/// The registers that a changed row certainly has wrong: they are said to lie in another place of the same frame.
fn moved_registers(before: &Claim, after: &Claim) -> u8 {
    let rules = before.saved.iter().zip(&after.saved).zip([1, 2, 4, 8, 16, 32]);
    let moved = rules.filter(|((before, after), _)| match (before, after) {
        (Saved::At(one), Saved::At(other)) => one != other,
        _ => false,
    });
    moved.fold(0, |set, (_, bit)| set | bit)
}

#[test]
fn no_flipped_bit_leaves_a_row_proven_that_says_something_else() {
    let path = Path::new("/lib/x86_64-linux-gnu/libc.so.6");
    let Ok(image) = Image::open(path) else { return println!("skipped: there is no {}", path.display()) };
    let section = image.unwind().eh_frame.unwrap();
    let whole = source(&image, section.bytes, &|_| Return::Unknown);
    let layout = Rc::new(Layout::new(&whole));
    let bases = BaseAddresses::default().set_eh_frame(section.address);
    let (mut random, mut outcomes) = (Random(0x9e37_79b9_7f4a_7c15), HashMap::<Outcome, usize>::new());
    let mut known: HashMap<usize, HashMap<u64, (Claim, Proven)>> = HashMap::new();
    let mut flipped = section.bytes.to_vec();
    let mut corrected = 0;
    for flip in 0..FLIPS {
        let index = random.below(layout.functions().len());
        let function = layout.functions()[index];
        let Some(range) = instructions(section.bytes, function.fde, &bases).filter(|range| !range.is_empty()) else {
            continue;
        };
        let (at, bit) = (range.start + random.below(range.len()), random.below(8));
        let before = known.entry(index).or_insert_with(|| rows(&Proofs::new(Rc::clone(&layout)).prove(&whole, index)));
        flipped[at] ^= 1 << bit;
        let changed = source(&image, &flipped, &|_| Return::Unknown);
        let proved = Proofs::new(Rc::clone(&layout)).prove(&changed, index);
        let (after, unreadable) = (rows(&proved), proved.code.unreadable);
        flipped[at] ^= 1 << bit;

        let pops = |address: &u64, (claim, _): &(Claim, Proven)| {
            before.get(address).is_some_and(|(right, _)| right.arguments != claim.arguments)
        };
        if after.iter().any(|(address, row)| pops(address, row)) {
            *outcomes.entry(Outcome::Pops).or_default() += 1;
            continue;
        }
        let (mut contradicted, mut undecided, mut other_words, mut changes) = (0, 0, 0, 0);
        for (address, (right, proven)) in before.iter().filter(|(address, _)| function.holds(**address)) {
            let Some((claim, found)) = after.get(address) else { continue };
            if says_the_same(right, claim) {
                continue;
            }
            changes += 1;
            if proven.frame != RowProof::Proven {
                continue;
            }
            let says = format!("flip {flip} of byte {at:#x} bit {bit}: {address:#x} {right:x?} became {claim:x?}");
            let stays = found.frame == RowProof::Proven;
            if let Some(put_right) = proved.corrections.get(address) {
                assert!(!is_other_frame(right, put_right), "put right as {put_right:x?}: {says}");
                assert_eq!(moved_registers(right, put_right) & proven.saved, 0, "put right as {put_right:x?}: {says}");
                corrected += 1;
            }
            assert!(!(stays && is_other_frame(right, claim)), "the frame: {says}");
            let moved = moved_registers(right, claim) & proven.saved;
            assert_eq!(if stays { moved & (found.saved | found.kept) } else { 0 }, 0, "a register: {says}");
            let lost = (proven.saved | proven.kept) & !(found.saved | found.kept);
            match found.frame {
                RowProof::Contradicted => contradicted += 1,
                RowProof::Proven if found.wrong & !proven.wrong != 0 => contradicted += 1,
                RowProof::Proven if lost == 0 => other_words += 1,
                _ => undecided += 1,
            }
        }
        let outcome = match () {
            () if unreadable => Outcome::Unreadable,
            () if contradicted > 0 => Outcome::Contradicted,
            () if undecided > 0 => Outcome::Undecided,
            () if other_words > 0 => Outcome::OtherWords,
            () if changes > 0 => Outcome::NeverProven,
            () => Outcome::Nothing,
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    let mut counted: Vec<_> = outcomes.iter().collect();
    counted.sort();
    println!("{FLIPS} flips: {counted:?}; {corrected} rows put right");
    let of = |outcome| outcomes.get(&outcome).copied().unwrap_or_default();
    assert!(corrected > FLIPS, "{corrected} rows were put right");
    assert!(of(Outcome::Contradicted) > FLIPS / 4, "{counted:?}");
    assert!(of(Outcome::OtherWords) < FLIPS / 20, "{counted:?}");
}
