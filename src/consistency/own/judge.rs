//! The child that judges its parent's threads.

use super::Options;
use super::carry::Carry;
use super::child::Socket;
use super::shared::{Full, Shared};
use crate::consistency::check::{Examined, Request, Vouch, examine_sought, find};
use crate::consistency::decision::Overall;
use crate::consistency::expand::Expanded;
use crate::consistency::world::Obstacle;
use crate::error::Error;
use crate::image::BuildId;
use crate::snapshot::process::parked::{Listed, OwnMemoryFiles, ParkedProcess, Stands};
use crate::snapshot::{LoadedModule, Snapshot};
use crate::trace::Known;
use std::ops::Range;
use std::path::PathBuf;

/// Asks to look at everything once, so that it is known.
pub(super) const REHEARSE: u8 = 1;
/// Asks for an answer.
pub(super) const CHECK: u8 = 2;
/// Says that the targets can be replaced; the answer is written.
pub(super) const APPLY: u8 = 1;
/// Says that they cannot, or, of a rehearsal, that it is over.
const OTHER: u8 = 2;
/// Says that there is no answer; why is written.
pub(super) const FAILED: u8 = 3;

/// What is asked, and of which process.
pub(super) struct Question<'q, 'r> {
    pub process: u32,
    pub thread: u32,
    pub request: &'q Request<'r>,
    pub options: &'q Options,
}

impl Question<'_, '_> {
    /// Answers as long as somebody asks.
    pub fn answer(&self, socket: &Socket, list: &Shared, answer: &mut Shared, files: OwnMemoryFiles) {
        let opened = ParkedProcess::open(self.process, self.thread, self.options.find.clone(), files);
        let shared = [list.range(), answer.range()];
        let mut judge = opened.map(|process| Judge { process, known: Known::default(), sought: None });
        while let Some(command) = socket.hear() {
            let examined = match &mut judge {
                Ok(judge) => judge.examine(self.request, list, &shared).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let said = match &examined {
                Err(_) => FAILED,
                Ok(_) if command == REHEARSE => OTHER,
                Ok(examined) if examined.decision.overall == Overall::Apply => APPLY,
                Ok(_) => OTHER,
            };
            let written =
                if said == OTHER && command == REHEARSE { Ok(()) } else { examined.put(&mut answer.writer()) };
            let written = written.or_else(|Full| {
                Err::<Examined, _>("there was no room for the answer".to_owned()).put(&mut answer.writer())?;
                Err(Full)
            });
            if !socket.say(if written.is_ok() { said } else { FAILED }) {
                return;
            }
        }
    }
}

struct Judge {
    process: ParkedProcess,
    known: Known,
    /// The targets, and where the modules were in which they were sought: that may take seconds.
    sought: Option<(Modules, Expanded)>,
}

type Modules = Vec<(Range<u64>, PathBuf, Option<BuildId>)>;

impl Judge {
    fn examine(&mut self, request: &Request<'_>, list: &Shared, shared: &[Range<u64>]) -> Result<Examined, Error> {
        let listed = read(list);
        self.process.stand(&listed)?;
        let snapshot = self.process.snapshot();
        let mut request_here = request.clone();
        let spared = own_memory(request).chain(shared.iter().cloned()).chain(signal_stacks(snapshot, &listed));
        request_here.vouches.extend(spared.map(Vouch::NoStackIn));
        let changed = || if self.process.is_mapped_as_read() { vec![] } else { vec![Obstacle::ModulesChanged] };
        let modules: Modules = snapshot.space.modules.iter().map(module).collect();
        let sought = match self.sought.take().filter(|(before, _)| *before == modules) {
            Some((_, sought)) => sought,
            None => find(snapshot, request)?,
        };
        self.sought = Some((modules, sought.clone()));
        Ok(examine_sought(snapshot, &self.known, &request_here, sought, changed))
    }
}

fn module(module: &LoadedModule) -> (Range<u64>, PathBuf, Option<BuildId>) {
    (module.start..module.end, module.path.clone(), module.build_id.clone())
}

fn read(list: &Shared) -> Vec<Listed> {
    // SAFETY: the parent wrote it so, and waits for the answer.
    let mut reader = unsafe { list.reader() };
    std::iter::from_fn(|| reader.take::<bool>()?.then(|| Listed::take(&mut reader))?).collect()
}

/// Where the parent keeps what it asks: addresses of targets that are no stack's.
fn own_memory(request: &Request<'_>) -> impl Iterator<Item = Range<u64>> {
    fn range<T>(list: &[T]) -> Range<u64> {
        let start = list.as_ptr().addr() as u64;
        start..start.saturating_add(size_of_val(list) as u64)
    }
    let parts = request.targets.iter().flat_map(|target| [range(&target.parts), range(target.live())]);
    [range(&request.targets), range(&request.stacks), range(&request.vouches)].into_iter().chain(parts)
}

/// Alternate stacks on which nothing is but the handler that keeps a thread standing.
fn signal_stacks(snapshot: &Snapshot, listed: &[Listed]) -> impl Iterator<Item = Range<u64>> {
    listed.iter().filter_map(|thread| {
        let Stands::At { context, .. } = thread.stands else { return None };
        let frame = &snapshot.arch.signal_frame;
        let word = |offset: u64| snapshot.memory.word(context.checked_add(offset)?).ok();
        let (low, size) = (word(u64::from(frame.stack))?, word(u64::from(frame.stack).checked_add(16)?)?);
        let (_, sp_at, _) = frame.registers.fields.iter().find(|(register, ..)| *register == snapshot.arch.sp)?;
        let sp = word(u64::from(*sp_at))?;
        let stack = low..low.checked_add(size)?;
        (stack.contains(&context) && !stack.contains(&sp) && sp != stack.end).then_some(stack)
    })
}
