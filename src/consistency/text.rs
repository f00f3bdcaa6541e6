//! A decision as text.

use super::check::Examined;
use super::decision::{Answer, Hit, Overall, Reason, Standing, Wait};
use super::target::Target;
use std::fmt::{self, Display, Formatter};
use surestack_reliable::Missing;
use surestack_walk::CodeAddress;

/// Findings of one kind that are printed; more are counted.
const SHOWN: usize = 20;

/// Prints what was examined; `name` is asked for the function at a place.
pub struct Text<'e> {
    examined: &'e Examined,
    name: &'e dyn Fn(CodeAddress) -> Option<String>,
}

impl<'e> Text<'e> {
    /// The text of `examined`, with the names that `name` knows.
    pub fn new(examined: &'e Examined, name: &'e dyn Fn(CodeAddress) -> Option<String>) -> Self {
        Self { examined, name }
    }

    fn target(&self, target: &Target, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "target {}", target.name)?;
        for part in target.live() {
            let name =
                part.name.clone().or_else(|| (self.name)(CodeAddress::Exact(part.range.start))).unwrap_or_default();
            writeln!(out, "    {:#x}-{:#x} {name} ({})", part.range.start, part.range.end, part.whose)?;
        }
        Ok(())
    }

    fn answer(&self, answer: &Answer, out: &mut Formatter<'_>) -> fmt::Result {
        let name = answer.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        write!(out, "{}{name}: ", answer.of)?;
        match &answer.standing {
            Standing::Clear => writeln!(out, "clear"),
            Standing::Running => writeln!(out, "runs: it could not be stopped"),
            Standing::Gone => writeln!(out, "gone"),
            Standing::Blocked { hits, wait, doubts } => {
                writeln!(out, "blocked")?;
                for hit in hits.iter().take(SHOWN) {
                    self.hit(hit, out)?;
                }
                more(hits.len(), out)?;
                self.wait(*wait, out)?;
                doubts
                    .iter()
                    .try_for_each(|found| writeln!(out, "    and doubted at frame {}: {}", found.frame, found.doubt))
            }
            Standing::Untrusted { doubts, missing, believed } => {
                writeln!(out, "untrusted; {believed} frames can be believed, and none of those found is in a target")?;
                if *missing != Missing::NONE {
                    writeln!(out, "    missing: evidence {missing}")?;
                }
                doubts.iter().try_for_each(|found| writeln!(out, "    frame {}: {}", found.frame, found.doubt))
            }
        }
    }

    fn hit(&self, hit: &Hit, out: &mut Formatter<'_>) -> fmt::Result {
        let target = self.examined.targets.get(hit.target);
        let verb = if hit.pc.is_exact() { "is at" } else { "will return to" };
        write!(out, "    frame {} {verb} {}", hit.frame, self.place(hit.pc))?;
        let part = target.zip(hit.part).and_then(|(target, part)| target.live().get(part));
        let name = target.map_or("", |target| &target.name);
        match part {
            Some(part) => writeln!(out, ", target {name} ({})", part.whose),
            None => writeln!(out, ", inside bytes of {name} that will be overwritten"),
        }
    }

    fn wait(&self, wait: Option<Wait>, out: &mut Formatter<'_>) -> fmt::Result {
        match wait {
            Some(wait) => {
                let place = self.place(CodeAddress::Return(wait.pc));
                writeln!(out, "    wait until it returns to frame {} at {place}", wait.frame)
            }
            None => writeln!(out, "    no frame above can be believed: nothing to wait for is known"),
        }
    }

    fn place(&self, pc: CodeAddress) -> String {
        let name = (self.name)(pc).map(|name| format!(" ({name})")).unwrap_or_default();
        format!("{pc}{name}")
    }

    fn reason(&self, reason: &Reason, out: &mut Formatter<'_>) -> fmt::Result {
        match reason {
            Reason::Thread(_) => Ok(()),
            Reason::NoTargets => writeln!(out, "    there are no targets"),
            Reason::NoCode(number) => {
                let name = self.examined.targets.get(*number).map_or("", |target| &target.name);
                writeln!(out, "    nothing says where the code of {name} is")
            }
            Reason::NoThreads => writeln!(out, "    there are no threads"),
            Reason::NotSearched => writeln!(out, "    nobody has looked for stacks that are not listed"),
            Reason::Process(obstacle) => writeln!(out, "    {obstacle}"),
        }
    }
}

impl Display for Text<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Examined { targets, searched, decision, .. } = self.examined;
        targets.iter().try_for_each(|target| self.target(target, out))?;
        let clear = decision.threads.iter().filter(|answer| answer.standing == Standing::Clear).count();
        let others = decision.threads.iter().filter(|answer| answer.standing != Standing::Clear);
        writeln!(out, "{} threads and listed stacks, {clear} of them clear", decision.threads.len())?;
        others.take(SHOWN).try_for_each(|answer| self.answer(answer, out))?;
        more(decision.threads.len().saturating_sub(clear), out)?;
        match searched {
            None => writeln!(out, "memory was not searched for other stacks: somebody vouches that there are none")?,
            Some(searched) => {
                let mib = searched.bytes >> 20;
                writeln!(out, "{mib} MiB of memory searched for other stacks in {:.1?}", searched.took)?;
            }
        }
        let (word, reasons) = words(&decision.overall);
        writeln!(out, "{word}")?;
        let process = || reasons.iter().filter(|reason| !matches!(reason, Reason::Thread(_)));
        process().take(SHOWN).try_for_each(|reason| self.reason(reason, out))?;
        more(process().count(), out)
    }
}

/// The answer in a word, and what keeps it from being better.
pub(super) fn words(overall: &Overall) -> (&'static str, &[Reason]) {
    match overall {
        Overall::Apply => ("apply", &[]),
        Overall::RetryLater(reasons) => ("retry later", reasons),
        Overall::Refuse(reasons) => ("refuse", reasons),
    }
}

fn more(count: usize, out: &mut Formatter<'_>) -> fmt::Result {
    match count.saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(out, "    … and {more} more"),
    }
}
