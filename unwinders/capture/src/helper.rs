//! A program that is started when a report is made, reads this process from outside (ptrace) and writes the report that
//! takes files: names, lines, inlined calls, verdicts. It ends by itself; it is waited for, but no longer than there is time.

use crate::plan::Helper;
use crate::record::{Gap, Item};
use crate::report::Report;
use crate::syscall::{self, Clock, Errno};
use core::ffi::CStr;

/// Room for a path.
const PATH: usize = 512;
/// Files that one helper writes.
const FILES: usize = 2;
/// How often it is looked whether it has ended.
const NAP: u64 = 2_000_000;
/// `PR_SET_PTRACER`: whom Yama lets trace this process.
const SET_PTRACER: usize = 0x5961_6d61;

/// Has the helper write its report of this crash, and waits for it.
pub(crate) fn run(report: &mut Report<'_>) {
    let Some(helper) = report.plan.helper else { return };
    if let Err(error) = start(report, &helper) {
        report.put(&Item::Gap { what: Gap::Helper, number: u64::from(error.0.unsigned_abs()) });
    }
}

fn start(report: &mut Report<'_>, helper: &Helper) -> Result<(), Errno> {
    let deadline = report.deadline();
    let left = deadline.saturating_sub(syscall::now(Clock::Monotonic)) / 1_000_000;
    let place = report.plan.place.to_bytes();
    let name = report.record.sink().named().ok_or(Errno(2))?.to_bytes();
    let record = Text::new().with(place).with(b"/").with(name);
    let stem = name.strip_suffix(b".surestack").unwrap_or(name);
    let mut files = [const { Text::new() }; FILES];
    for (file, (_, ending)) in files.iter_mut().zip(helper.writes) {
        *file = Text::new().with(place).with(b"/").with(stem).with(ending);
    }
    let (process, deadline_text) = (Text::new().number(u64::from(report.process)), Text::new().number(left));

    let mut arguments = [core::ptr::null::<u8>(); 16];
    let first = [helper.program, c"crash-helper", process.text(), c"--record", record.text(), c"--deadline"];
    let rest = helper.writes.iter().zip(&files).flat_map(|((option, _), file)| [*option, file.text()]);
    let all = first.into_iter().chain([deadline_text.text()]).chain(rest);
    // The last stays null.
    arguments.iter_mut().take(15).zip(all).for_each(|(place, text)| *place = text.as_ptr().cast());
    let environment = [core::ptr::null::<u8>()];
    // SAFETY: the child does nothing but become another program, or end.
    let child = match unsafe { syscall::fork() }? {
        Some(child) => child,
        None => {
            let _ = syscall::set_blocked(0);
            // SAFETY: both lists end with null, and lead to text that ends with zero.
            let _ = unsafe { syscall::execute(helper.program, arguments.as_ptr(), environment.as_ptr()) };
            syscall::exit(127)
        }
    };
    // Where there is no Yama the kernel says so, and nobody needs it.
    let _ = syscall::process_control(SET_PTRACER, usize::try_from(child).unwrap_or_default());
    let ended = wait(child, deadline);
    let _ = syscall::process_control(SET_PTRACER, 0);
    ended
}

/// Waits until a child has ended; ends it when the time is over.
fn wait(child: u32, deadline: u64) -> Result<(), Errno> {
    const SIGKILL: i32 = 9;
    loop {
        match syscall::ended(child) {
            // 4 says that the report is partial.
            Ok(Some(0 | 4)) => return Ok(()),
            Ok(Some(status)) => return Err(Errno(status)),
            Ok(None) | Err(Errno::EINTR) => {}
            // Somebody ignores SIGCHLD: it has ended, and nobody knows how.
            Err(Errno(10)) => return Ok(()),
            Err(error) => return Err(error),
        }
        if syscall::now(Clock::Monotonic) > deadline {
            let _ = syscall::kill(child, SIGKILL);
            let _ = syscall::ended(child);
            return Err(Errno::ETIMEDOUT);
        }
        syscall::sleep(NAP);
    }
}

/// A text that ends with zero, cut where there is no more room.
struct Text {
    bytes: [u8; PATH],
    length: usize,
}

impl Text {
    const fn new() -> Self {
        Self { bytes: [0; PATH], length: 0 }
    }

    fn with(mut self, text: &[u8]) -> Self {
        for byte in text {
            // The last byte stays 0.
            if let Some(place) = self.bytes.get_mut(self.length).filter(|_| self.length < PATH - 1) {
                *place = *byte;
                self.length = self.length.saturating_add(1);
            }
        }
        self
    }

    fn number(self, number: u64) -> Self {
        let digits = number.checked_ilog10().unwrap_or(0).saturating_add(1);
        (0..digits).rev().fold(self, |text, power| {
            let digit = number.checked_div(10_u64.pow(power)).unwrap_or(0) % 10;
            text.with(&[b'0'.wrapping_add(u8::try_from(digit).unwrap_or_default())])
        })
    }

    fn text(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}
