//! Every order in which a thread writes into its ring and a reader takes a record from it, also those that a processor
//! makes which reorders loads and stores.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::thread;
use surestack_recorder::layout::{PAGE, SMALLEST_RING, mode, record};
use surestack_recorder::ring::{Ring, Word, write};

const EDGE: u64 = PAGE as u64;
const SIZE: u64 = SMALLEST_RING as u64;
/// Words of the ring that there are: the last one of a page, and the first ones of the next.
const THERE: u64 = 12;

/// Whether the taking of a position is made visible before what is put there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Fenced,
    Unfenced,
}

/// A ring in which the next record lies one word before the edge of a page; behind the edge is the oldest page.
struct Memory {
    reserve: AtomicU64,
    commit: AtomicU64,
    others: [AtomicU64; 4],
    cells: Vec<AtomicU64>,
    /// Where the first of the cells is.
    begin: u64,
    taken: Taken,
}

impl Memory {
    /// One gone round once, or not at all.
    fn new(rounds: u64, taken: Taken) -> Self {
        let begin = rounds * SIZE + EDGE - 8;
        let zero = || AtomicU64::new(0);
        let cells = (0..THERE).map(|_| zero()).collect();
        let (reserve, commit) = (AtomicU64::new(begin), AtomicU64::new(begin));
        Self { reserve, commit, others: [zero(), zero(), zero(), zero()], cells, begin, taken }
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        match word {
            Word::Reserve => &self.reserve,
            Word::Commit => &self.commit,
            Word::Nest => &self.others[0],
            Word::Dropped => &self.others[1],
            Word::Refused => &self.others[2],
            Word::Left => &self.others[3],
        }
    }

    fn cell(&self, position: u64) -> &AtomicU64 {
        &self.cells[(position.wrapping_sub(self.begin) % SIZE / 8) as usize]
    }
}

/// Nobody interrupts the thread here, so that an addition may be two accesses: others only read.
impl Ring for Memory {
    fn load(&self, word: Word) -> u64 {
        self.word(word).load(Ordering::Relaxed)
    }

    fn store(&self, word: Word, value: u64) {
        self.word(word).store(value, Ordering::Relaxed);
    }

    fn add(&self, word: Word, value: u64) -> u64 {
        let old = self.load(word);
        self.store(word, old + value);
        old
    }

    fn publish(&self, word: Word, value: u64) {
        self.word(word).store(value, Ordering::Release);
    }

    fn taken(&self) {
        if self.taken == Taken::Fenced {
            fence(Ordering::Release);
        }
    }

    fn put(&self, position: u64, value: u64) {
        self.cell(position).store(value, Ordering::Relaxed);
    }

    fn finish(&self, position: u64, head: u64) {
        self.cell(position).store(head, Ordering::Release);
    }

    fn size(&self) -> u64 {
        SIZE
    }

    fn mode(&self) -> u64 {
        mode::OVERWRITE
    }

    fn base(&self) -> u64 {
        0
    }

    fn is_left(&self, _outer: u64, _sp: u64) -> bool {
        false
    }
}

/// What a reader takes for the record at a position. It does not look at sums: what holds here holds without them.
fn take(memory: &Memory, position: u64) -> Option<Vec<u64>> {
    let commit = memory.commit.load(Ordering::Acquire);
    let head = memory.cell(position).load(Ordering::Acquire);
    let here = head & ((1 << record::POSITION_BITS) - 1) == position / 8;
    let words = head >> record::WORDS_SHIFT & 0xff;
    if !here || head >> record::SITE_SHIFT == 0 || position + words * 8 > commit {
        return None;
    }
    let fields = (1..words).map(|at| memory.cell(position + at * 8).load(Ordering::Relaxed));
    let record: Vec<u64> = [head >> record::SITE_SHIFT].into_iter().chain(fields).collect();
    fence(Ordering::Acquire);
    let reserve = memory.reserve.load(Ordering::Relaxed);
    let oldest = (reserve / EDGE * EDGE + EDGE).saturating_sub(SIZE);
    (position >= oldest).then_some(record)
}

fn put(memory: &Memory, site: u16, fields: &[u64]) {
    let written =
        write(memory, 64, site, fields.len() + 1, |filler| fields.iter().for_each(|field| filler.put(*field)));
    assert_eq!(written, Ok(()));
}

#[test]
fn what_a_reader_takes_while_it_is_written_is_whole() {
    super::model(|| {
        let memory = Arc::new(Memory::new(0, Taken::Fenced));
        let writer = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || {
                put(&memory, 1, &[11, 12]);
                put(&memory, 2, &[21]);
            })
        };
        // The first one crossed the edge: words of nothing are before it.
        let first = memory.begin + 3 * 8;
        let (one, other) = (take(&memory, first), take(&memory, first + 3 * 8));
        assert!(one.is_none() || one == Some(vec![1, 11, 12]), "{one:?}");
        assert!(other.is_none() || other == Some(vec![2, 21]), "{other:?}");
        writer.join().unwrap();
        assert_eq!(take(&memory, first), Some(vec![1, 11, 12]));
        assert_eq!(take(&memory, first + 3 * 8), Some(vec![2, 21]));
    });
}

/// A record at the beginning of the oldest page, and a reader that takes it while another one takes its place.
fn overwritten(taken: Taken) {
    super::model(move || {
        let memory = Arc::new(Memory::new(1, taken));
        let old = memory.begin + 8 - SIZE;
        let head = old / 8 | 3 << record::WORDS_SHIFT | 9 << record::SITE_SHIFT;
        [head, 91, 92].iter().zip(0..).for_each(|(word, at)| memory.put(old + at * 8, *word));
        let writer = {
            let memory = Arc::clone(&memory);
            thread::spawn(move || put(&memory, 1, &[11]))
        };
        let found = take(&memory, old);
        assert!(found.is_none() || found == Some(vec![9, 91, 92]), "{found:?}");
        writer.join().unwrap();
        assert_eq!(take(&memory, old), None);
    });
}

#[test]
fn what_a_reader_takes_while_it_is_overwritten_is_whole() {
    overwritten(Taken::Fenced);
}

#[test]
#[should_panic(expected = "Some([9, 91, ")]
fn what_a_reader_takes_may_be_torn_where_the_taking_of_a_position_is_not_fenced() {
    overwritten(Taken::Unfenced);
}
