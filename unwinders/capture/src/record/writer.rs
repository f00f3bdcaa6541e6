//! Items to bytes.

use super::check::head;
use super::codes::Variants;
use super::fields::{Fields, copy};
use super::{ALIGNMENT, HEAD, ITEM_HEAD, Item, MAGIC, VERSION};
use surestack_module_map::Record;
use surestack_reliable::{Doubted, Noted, Verdict};
use surestack_walk::{Arch, End};

/// Bytes that are kept until there are so many, or somebody wants them out: some forty frames.
const BUFFER: usize = 4096;
/// What follows an item up to the next multiple of eight.
const ZEROS: [u8; ALIGNMENT] = [0; ALIGNMENT];

/// Where the bytes of a record go.
pub trait Sink {
    /// Why it took not all of them.
    type Error;

    /// Takes all of `bytes`.
    ///
    /// # Errors
    /// Where it cannot. What it took of them stays, and readers find the next whole item behind it.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// Writes a record, many items at a time.
///
/// Nothing is written but when the buffer is full and when [`Writer::flush`] is called: a writer that is dropped takes with
/// it what was not. What a sink refuses is gone, and counted.
#[derive(Debug)]
pub struct Writer<S> {
    sink: S,
    buffer: [u8; BUFFER],
    used: usize,
    lost: u64,
}

impl<S: Sink> Writer<S> {
    /// A writer of nothing so far.
    pub const fn new(sink: S) -> Self {
        Self { sink, buffer: [0; BUFFER], used: 0, lost: 0 }
    }

    /// Writes what a record begins with, for whoever begins one.
    ///
    /// # Errors
    /// Those of the sink, here and below.
    pub fn begin(&mut self, arch: &Arch) -> Result<(), S::Error> {
        let numbers = [VERSION.to_le_bytes(), arch.machine.to_le_bytes()];
        self.keep(&[&MAGIC, numbers.as_flattened(), &[0; HEAD - MAGIC.len() - 4]])
    }

    /// Writes an item.
    ///
    /// # Errors
    /// Those of the sink. The item may be one that was written before: it came out of the buffer only now.
    pub fn put(&mut self, item: &Item<'_>) -> Result<(), S::Error> {
        let mut fields = Fields::new();
        item.put_fields(&mut fields);
        let head: [u8; ITEM_HEAD] = head(item.code(), &fields);
        let over = fields.length() & (ALIGNMENT - 1);
        let padding = ZEROS.get(over..).filter(|_| over > 0).unwrap_or_default();
        let mut pieces: [&[u8]; 5] = [&head, &[], &[], &[], padding];
        pieces.iter_mut().skip(1).zip(fields.pieces()).for_each(|(place, piece)| *place = piece);
        self.keep(&pieces)
    }

    /// Writes a frame of a walk.
    ///
    /// # Errors
    /// As [`Writer::put`], here and below.
    pub fn frame(&mut self, tid: u32, index: usize, noted: &Noted) -> Result<(), S::Error> {
        self.put(&Item::Frame { tid, index, noted: *noted })
    }

    /// Writes a doubt.
    pub fn doubt(&mut self, tid: u32, doubted: Doubted) -> Result<(), S::Error> {
        self.put(&Item::Doubted { tid, doubted })
    }

    /// Writes the end of a thread's trace, of which there were so many frames and doubts.
    pub fn end(
        &mut self,
        tid: u32,
        end: Option<End>,
        verdict: Verdict,
        (frames, doubts): (usize, usize),
    ) -> Result<(), S::Error> {
        self.put(&Item::End { tid, end, verdict, frames, doubts })
    }

    /// Writes a module.
    pub fn module(&mut self, module: &Record) -> Result<(), S::Error> {
        let Record { start, end, bias, build_id, path, .. } = *module;
        self.put(&Item::Module { start, end, bias, build_id, path })
    }

    /// Hands on all that is kept.
    pub fn flush(&mut self) -> Result<(), S::Error> {
        let used = core::mem::take(&mut self.used);
        let bytes = self.buffer.get(..used).unwrap_or_default();
        hand_on(&mut self.sink, &mut self.lost, bytes)
    }

    /// How many bytes the sink has refused, of which some may be there all the same.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Where the bytes go.
    pub fn sink(&mut self) -> &mut S {
        &mut self.sink
    }

    /// Keeps what belongs together, so that it goes out in one piece if it fits.
    fn keep(&mut self, pieces: &[&[u8]]) -> Result<(), S::Error> {
        let length = pieces.iter().fold(0usize, |sum, piece| sum.saturating_add(piece.len()));
        let mut refused = Ok(());
        if length > BUFFER.saturating_sub(self.used) {
            refused = self.flush();
        }
        for piece in pieces {
            refused = refused.and(self.append(piece));
        }
        refused
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), S::Error> {
        let mut refused = Ok(());
        if bytes.len() > BUFFER.saturating_sub(self.used) {
            refused = self.flush();
        }
        let end = self.used.saturating_add(bytes.len());
        match self.buffer.get_mut(self.used..end) {
            Some(room) => {
                copy(room, bytes);
                self.used = end;
            }
            None => refused = refused.and(hand_on(&mut self.sink, &mut self.lost, bytes)),
        }
        refused
    }
}

fn hand_on<S: Sink>(sink: &mut S, lost: &mut u64, bytes: &[u8]) -> Result<(), S::Error> {
    if bytes.is_empty() {
        return Ok(());
    }
    sink.put(bytes).inspect_err(|_| *lost = lost.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX)))
}
