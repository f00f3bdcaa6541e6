//! Every run of something that makes choices, one after the other.

use std::cell::{Cell, RefCell};

/// The choices of one run, and how many there were each time.
#[derive(Default)]
pub struct Choices {
    taken: RefCell<Vec<(usize, usize)>>,
    at: Cell<usize>,
    begun: Cell<usize>,
}

impl Choices {
    /// One of so many: the first, until all that follows from it was seen.
    pub fn choose(&self, of: usize) -> usize {
        let at = self.at.replace(self.at.get() + 1);
        let mut taken = self.taken.borrow_mut();
        if at == taken.len() {
            taken.push((0, of));
        }
        assert_eq!(taken[at].1, of, "a run does the same after the same choices");
        taken[at].0
    }

    /// Whether this run is past what it has in common with the one before.
    pub fn is_new(&self) -> bool {
        self.at.get() >= self.begun.get()
    }

    /// What was chosen in this run.
    pub fn said(&self) -> String {
        let places =
            self.taken.borrow().iter().take(self.at.get()).enumerate().fold(vec![], |mut said, (at, (choice, _))| {
                if *choice != 0 {
                    said.push(format!("{choice} at {at}"));
                }
                said
            });
        places.join(", ")
    }

    fn advance(&self) -> bool {
        self.at.set(0);
        let mut taken = self.taken.borrow_mut();
        while let Some((choice, of)) = taken.pop() {
            if choice + 1 < of {
                taken.push((choice + 1, of));
                self.begun.set(taken.len());
                return true;
            }
        }
        false
    }
}

/// Runs once for each sequence of choices, and says how often that was.
pub fn every_run(mut run: impl FnMut(&Choices)) -> usize {
    let choices = Choices::default();
    let mut runs = 0;
    loop {
        run(&choices);
        runs += 1;
        if !choices.advance() {
            return runs;
        }
    }
}
