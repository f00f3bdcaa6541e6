//! The unwind information of one file, checked against its instructions.

pub mod document;
mod known;
mod print;

use crate::error::Error;
use crate::image::{Find, Image};
use crate::proof::Return;
use crate::proof::claim::Claim;
use crate::proof::code::Step;
use crate::proof::imports::never_returning;
use crate::proof::layout::Layout;
use crate::proof::{Proofs, Proved, Proven, Source};
use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use surestack_walk::RowProof;

pub use print::TABLE_HEAD;

/// Longest x86 instruction.
const LONGEST: u8 = 15;

/// How many instruction addresses there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Functions, and parts of functions, that have unwind information.
    pub functions: u64,
    /// Bytes of their code.
    pub bytes: u64,
    /// Rows that are right, from the function's entry on.
    pub proven: u64,
    /// Rows that are consistent, where a row's own claim was believed.
    pub assumed: u64,
    /// Rows that are wrong.
    pub contradicted: u64,
    /// Rows of which nobody can tell.
    pub undecided: u64,
    /// Instructions that only fill space where no entry leads to. They are not among the others.
    pub fillers: u64,
    /// Rows with the right frame and a wrong register.
    pub wrong_registers: u64,
}

impl Counts {
    /// All instruction addresses, without fillers.
    pub fn all(&self) -> u64 {
        self.proven + self.assumed + self.contradicted + self.undecided
    }
}

/// What was found in one file.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// How many.
    pub counts: Counts,
    /// Rows that are wrong, ascending.
    pub contradictions: Vec<Contradiction>,
    /// Addresses of which nobody can tell, ascending.
    pub undecided: Vec<u64>,
    /// Addresses that are at most assumed, ascending.
    pub assumed: Vec<u64>,
    /// CPU time it took.
    pub cpu: Duration,
}

/// A row that is wrong.
#[derive(Clone, Debug)]
pub struct Contradiction {
    /// The instruction's linked address.
    pub address: u64,
    /// Where the function begins.
    pub function: u64,
    /// A symbol there.
    pub name: Option<String>,
    /// The instruction, in Intel syntax.
    pub instruction: String,
    /// What became of the row.
    pub proven: Proven,
    /// What the row says.
    pub claim: Claim,
    /// What it would have to say, where that is proven.
    pub corrected: Option<Claim>,
    /// What was known before to be wrong in the function.
    pub known: Option<&'static str>,
}

/// Checks the file at `path`.
///
/// # Errors
/// [`Error::Read`] and [`Error::NotElf`] where it cannot be read.
pub fn file(path: &Path) -> Result<Checked, Error> {
    let whole = Image::open(path)?;
    let mut checked = image(&whole);
    if let Some(debug) = Find::default().debug_file(&whole, path) {
        checked.name(&debug);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    for found in &mut checked.contradictions {
        found.known = known::what(&name, found.function);
    }
    Ok(checked)
}

/// Checks an image.
pub fn image(image: &Image) -> Checked {
    let began = cpu();
    let never = never_returning(image);
    let through = |slot: u64| Return::by_name(&never, slot);
    let source = Source { memory: image, bias: 0, unwind: image.unwind(), through: &through, resolves: &|_| false };
    let proofs = Proofs::new(Rc::new(Layout::new(&source)));
    let functions = proofs.layout.functions();
    let mut checked = Checked::default();
    let mut done = vec![false; functions.len()];
    for index in 0..functions.len() {
        if done.get(index) == Some(&true) {
            continue;
        }
        let Proved { code, proven, mut corrections } = proofs.prove(&source, index);
        let mut members = code.members.iter().peekable();
        let mut fresh = false;
        let mut function = 0;
        for (at, (step, proven)) in code.steps.iter().zip(proven).enumerate() {
            while let Some(member) = members.next_if(|member| member.first <= at) {
                function = member.extent.start;
                let place = proofs.layout.function(function).and_then(|index| done.get_mut(index));
                fresh = place.is_some_and(|done| !std::mem::replace(done, true));
                if fresh {
                    checked.counts.functions += 1;
                    checked.counts.bytes += member.extent.end - member.extent.start;
                }
            }
            if fresh {
                let claim = usize::try_from(step.claim).ok().and_then(|claim| code.claims.get(claim));
                checked.count(step, proven);
                if let Some(claim) = claim.filter(|_| proven.frame == RowProof::Contradicted || proven.wrong != 0) {
                    let corrected = corrections.remove(&step.at);
                    checked.contradictions.push(Contradiction {
                        address: step.at,
                        function,
                        name: None,
                        instruction: String::new(),
                        proven,
                        claim: *claim,
                        corrected,
                        known: None,
                    });
                }
            }
        }
        if let Some(done) = done.get_mut(index) {
            *done = true;
        }
    }
    checked.contradictions.sort_by_key(|found| found.address);
    checked.undecided.sort_unstable();
    checked.assumed.sort_unstable();
    checked.cpu = cpu().saturating_sub(began);
    checked.describe(image);
    checked
}

impl Checked {
    fn count(&mut self, step: &Step, proven: Proven) {
        let counts = &mut self.counts;
        match proven.frame {
            RowProof::Proven => counts.proven += 1,
            RowProof::Assumed | RowProof::Overwritten if step.filler => counts.fillers += 1,
            RowProof::Assumed | RowProof::Overwritten => {
                counts.assumed += 1;
                self.assumed.push(step.at);
            }
            RowProof::Contradicted => counts.contradicted += 1,
            RowProof::Undecided | RowProof::Unknown => {
                counts.undecided += 1;
                self.undecided.push(step.at);
            }
        }
        counts.wrong_registers += u64::from(proven.wrong != 0);
    }

    /// Adds names and disassembly to what is contradicted.
    fn describe(&mut self, image: &Image) {
        let mut formatter = IntelFormatter::new();
        let options = formatter.options_mut();
        options.set_hex_prefix("0x");
        options.set_hex_suffix("");
        options.set_uppercase_hex(false);
        options.set_branch_leading_zeros(false);
        for found in &mut self.contradictions {
            let bytes = (1..=LONGEST).rev().find_map(|length| image.at(found.address, usize::from(length)));
            let bytes = bytes.unwrap_or_default();
            let instruction = Decoder::with_ip(64, bytes, found.address, DecoderOptions::NONE).decode();
            formatter.format(&instruction, &mut found.instruction);
        }
        self.name(image);
    }

    /// Adds the names that `image` has.
    fn name(&mut self, image: &Image) {
        if self.contradictions.is_empty() {
            return;
        }
        for symbol in image.symbols().filter(|symbol| symbol.section != 0 && !symbol.name.is_empty()) {
            for found in self.contradictions.iter_mut().filter(|found| found.function == symbol.address) {
                found.name.get_or_insert_with(|| String::from_utf8_lossy(symbol.name).into_owned());
            }
        }
    }
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours and writable for the length of the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
