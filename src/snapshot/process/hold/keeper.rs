//! The thread that holds the tasks of a process: ptrace obeys only the thread that seized them, and when that thread ends,
//! for whatever reason, the kernel lets go of those that have not stopped.

use super::super::memory::Peek;
use super::stopper::{Stopped, Stopper};
use crate::error::Refusal;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is asked of the thread; the answer goes where the question says.
enum Question {
    /// Whether all stand still.
    Holds(Sender<bool>),
    /// So many bytes of memory, from an address on.
    Memory(u64, usize, Sender<Option<Vec<u8>>>),
    /// To let all go.
    End,
}

/// Holds until it is dropped.
pub(super) struct Keeper {
    questions: Sender<Question>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Stops process `pid` from a thread of its own.
    pub fn start(pid: u32, within: Duration) -> Result<(Self, Stopped), Refusal> {
        let (answer, answered) = channel();
        let (questions, asked) = channel();
        let thread = std::thread::spawn(move || keep(pid, within, &answer, &asked));
        let keeper = Self { questions, thread: Some(thread) };
        // The thread answers before it ends, unless it panicked, and then it holds nothing.
        let stopped = answered.recv().unwrap_or(Err(Refusal::Exited))?;
        Ok((keeper, stopped))
    }

    /// Whether all stand still.
    pub fn holds(&self) -> bool {
        let (answer, answered) = channel();
        self.questions.send(Question::Holds(answer)).is_ok() && answered.recv().unwrap_or(false)
    }

    /// Reads memory while it holds; afterwards there is none.
    pub fn peek(&self) -> Peek {
        let questions = self.questions.clone();
        Rc::new(move |address, into| {
            let (answer, answered) = channel();
            let asked = questions.send(Question::Memory(address, into.len(), answer));
            let bytes = asked.ok().and_then(|()| answered.recv().ok()?);
            bytes.is_some_and(|bytes| {
                into.copy_from_slice(&bytes);
                true
            })
        })
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
        match question {
            Question::Holds(answer) => drop(answer.send(stopper.holds())),
            Question::Memory(address, size, answer) => {
                let mut bytes = vec![0; size];
                let read = stopper.peek(address, &mut bytes);
                drop(answer.send(read.then_some(bytes)));
            }
            Question::End => return,
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Whoever still reads memory has the other end too, so that closing ours would not do.
        let _ = self.questions.send(Question::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
