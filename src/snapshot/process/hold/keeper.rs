//! The thread that holds the tasks of a process: ptrace obeys only the thread that seized them, and when that thread ends,
//! for whatever reason, the kernel lets go of those that have not stopped.

use super::stopper::{Stopped, Stopper};
use crate::error::Refusal;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Asks whether all stand still; the answer goes there.
type Question = Sender<bool>;

/// Holds until it is dropped.
pub(super) struct Keeper {
    questions: Option<Sender<Question>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Stops process `pid` from a thread of its own.
    pub fn start(pid: u32, within: Duration) -> Result<(Self, Stopped), Refusal> {
        let (answer, answered) = channel();
        let (questions, asked) = channel();
        let thread = std::thread::spawn(move || keep(pid, within, &answer, &asked));
        let keeper = Self { questions: Some(questions), thread: Some(thread) };
        // The thread answers before it ends, unless it panicked, and then it holds nothing.
        let stopped = answered.recv().unwrap_or(Err(Refusal::Exited))?;
        Ok((keeper, stopped))
    }

    /// Whether all stand still.
    pub fn holds(&self) -> bool {
        let (answer, answered) = channel();
        let asked = self.questions.as_ref().is_some_and(|questions| questions.send(answer).is_ok());
        asked && answered.recv().unwrap_or(false)
    }
}

fn keep(pid: u32, within: Duration, answer: &Sender<Result<Stopped, Refusal>>, asked: &Receiver<Question>) {
    let mut stopper = Stopper::new(pid);
    let stopped = stopper.stop(within);
    if answer.send(stopped).is_err() {
        return;
    }
    while let Ok(question) = asked.recv() {
        // Who asked may have gone.
        let _ = question.send(stopper.holds());
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.questions.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
