//! The initial stack: where the kernel left the stack pointer of the program's first thread.
//!
//! ```text
//!   high   strings: environment, arguments, AT_RANDOM's bytes, AT_EXECFN
//!          auxiliary vector: pairs (tag, value), the last one AT_NULL
//!          0
//!          envp[…]
//!          0
//!          argv[argc - 1] … argv[0]
//!   sp ──► argc
//! ```
//!
//! The auxiliary vector is known from elsewhere (NT_AUXV, `/proc/PID/auxv`); it is found on the stack word for word, and
//! what lies below it is parsed backwards. ld.so run as
//! a command moves argc and argv: the result is then the stack pointer that the program saw.

use super::{Process, Snapshot};
use surestack_walk::Memory;

/// How far below the top of the stack the vector is looked for: the kernel's limit for arguments and environment is
/// a quarter of the stack limit, at most 6 MiB with the usual 8 MiB and three quarters of 8 MiB in any case.
const REACH: u64 = 6 << 20;
/// Read in steps of this many words.
const WORDS: usize = 512;
/// Most words of envp and argv that are walked back over.
const POINTERS: u64 = 1 << 20;

/// The stack pointer with which the program's first thread began, if it can be proven.
pub fn initial_sp(snapshot: &Snapshot) -> Option<u64> {
    if let Some(said) = snapshot.process.initial_sp {
        return Some(said);
    }
    let stack = snapshot.space.mapped(snapshot.space.main_stack?)?;
    find(&*snapshot.memory, &snapshot.process, stack.start, stack.end)
}

/// An address on the initial stack: the kernel puts AT_RANDOM's bytes and the program's name there.
pub(super) fn address_on_it(process: &Process) -> Option<u64> {
    const AT_RANDOM: u64 = 25;
    process.aux(AT_RANDOM).or_else(|| process.aux(AT_EXECFN))
}

/// Looks for the auxiliary vector from `high` downwards, and from it for argc.
fn find(memory: &dyn Memory, process: &Process, low: u64, high: u64) -> Option<u64> {
    let &[(tag, value), ..] = process.auxv.as_slice() else { return None };
    let mut bytes = [0; (WORDS + 1) * 8];
    let low = low.max(high.saturating_sub(REACH)).checked_next_multiple_of(8)?;
    let mut end = high & !7;
    while end > low {
        // One word of overlap: a pair may lie across two steps.
        let start = end.saturating_sub(WORDS as u64 * 8).max(low);
        let length = usize::try_from(high.min(end.checked_add(8)?).checked_sub(start)?).ok()?;
        let chunk = bytes.get_mut(..length)?;
        if memory.read(start, chunk).is_err() {
            return None;
        }
        let (words, _) = chunk.as_chunks::<8>();
        for (index, pair) in words.windows(2).enumerate().rev() {
            let same = pair.first()? == &tag.to_le_bytes() && pair.last()? == &value.to_le_bytes();
            let at = start.checked_add(u64::try_from(index).ok()?.checked_mul(8)?)?;
            if same && is_vector(memory, process, at) {
                return argc_below(memory, at);
            }
        }
        end = start;
    }
    None
}

const AT_PHDR: u64 = 3;
const AT_PHNUM: u64 = 5;
const AT_ENTRY: u64 = 9;
const AT_EXECFN: u64 = 31;

/// Whether the whole vector with its AT_NULL lies at `address`.
fn is_vector(memory: &dyn Memory, process: &Process, address: u64) -> bool {
    let mut at = address;
    for &(tag, value) in process.auxv.iter().chain([&(0, 0)]) {
        let Some(after) = at.checked_add(16) else { return false };
        // The value of AT_NULL is nobody's. Run as a command, the loader describes the program that it loaded.
        let same_value = matches!(tag, 0 | AT_PHDR | AT_PHNUM | AT_ENTRY | AT_EXECFN)
            || memory.word(after.wrapping_sub(8)) == Ok(value);
        if memory.word(at) != Ok(tag) || !same_value {
            return false;
        }
        at = after;
    }
    true
}

/// Walks back from the vector over envp and argv to the word that counts argv.
///
/// Between the vector and argc lie pointers and zeros only. Programs change them: `unsetenv` closes the gap it makes and
/// leaves more zeros, and some overwrite argv. So argc is the first word that is neither, and argv must end where it says.
fn argc_below(memory: &dyn Memory, vector: u64) -> Option<u64> {
    /// No pointer is below this (`vm.mmap_min_addr`), and no count of arguments above `POINTERS`.
    const SMALLEST_POINTER: u64 = 1 << 16;
    let mut at = vector.checked_sub(8)?;
    if memory.word(at).ok()? != 0 {
        return None;
    }
    for _ in 0..POINTERS {
        at = at.checked_sub(8)?;
        let word = memory.word(at).ok()?;
        if (1..SMALLEST_POINTER).contains(&word) {
            let end = word.checked_add(1)?.checked_mul(8)?.checked_add(at)?;
            return (end < vector && memory.word(end) == Ok(0)).then_some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use surestack_walk::Bytes;

    const TOP: u64 = 0x7ffc_0000_2000;
    const AUXV: [(u64, u64); 3] = [(33, 0x7fff_0000), (6, 4096), (25, TOP - 0x40)];

    /// The words of an initial stack from argc on, then strings up to `TOP`.
    fn stack(argv: &[u64], envp: &[u64]) -> (u64, Vec<u8>) {
        let mut words = vec![argv.len() as u64];
        words.extend(argv);
        words.push(0);
        words.extend(envp);
        words.push(0);
        words.extend(AUXV.iter().flat_map(|&(tag, value)| [tag, value]));
        words.extend([0, 0]);
        let strings = [0x41u64; 20];
        let sp = TOP - 8 * (words.len() + strings.len()) as u64;
        // Below it frames, among them a stray copy of the vector's first pair.
        let below = [7, 33, 0x7fff_0000, 5];
        let all = below.iter().chain(&words).chain(&strings).flat_map(|word| word.to_le_bytes());
        (sp, all.collect())
    }

    fn found(bytes: &[u8]) -> Option<u64> {
        let low = TOP - bytes.len() as u64;
        let process = Process { auxv: AUXV.to_vec(), ..Process::default() };
        find(&Bytes { address: low, bytes }, &process, low, TOP)
    }

    #[test]
    fn argc_is_found_below_argv_and_envp() {
        // The kernel starts nobody without an argument any more (Linux 5.18).
        for (argv, envp) in [(&[TOP - 9, TOP - 5][..], &[TOP - 3, TOP - 2, TOP - 1][..]), (&[TOP - 9], &[])] {
            let (sp, bytes) = stack(argv, envp);
            assert_eq!(found(&bytes), Some(sp), "{} {}", argv.len(), envp.len());
        }
    }

    #[test]
    fn argc_is_found_when_unsetenv_has_moved_the_environment_down() {
        let (sp, bytes) = stack(&[TOP - 9, TOP - 5], &[TOP - 3, 0, 0]);
        assert_eq!(found(&bytes), Some(sp));
    }

    #[test]
    fn argc_is_found_when_the_program_has_cut_argv_short() {
        let (sp, bytes) = stack(&[TOP - 9, 0], &[TOP - 3]);
        assert_eq!(found(&bytes), Some(sp));
    }

    #[test]
    fn it_is_found_across_reading_steps() {
        for count in 0..600 {
            let (sp, bytes) = stack(&[TOP - 9], &vec![TOP - 3; count]);
            assert_eq!(found(&bytes), Some(sp));
        }
    }

    #[test]
    fn another_auxiliary_vector_or_a_wrong_count_is_no_initial_stack() {
        let (_, bytes) = stack(&[TOP - 9], &[TOP - 3]);
        let mut other = bytes.clone();
        let at = bytes.len() - (20 + 2 + 1) * 8; // the value of the last pair
        other[at] ^= 1;
        assert_eq!(found(&other), None);
        let mut miscounted = bytes;
        miscounted[4 * 8] = 2;
        assert_eq!(found(&miscounted), None);
    }

    #[test]
    fn an_empty_vector_is_nowhere() {
        let process = Process::default();
        assert_eq!(find(&Bytes { address: 0, bytes: &[0; 64] }, &process, 0, 64), None);
    }
}
