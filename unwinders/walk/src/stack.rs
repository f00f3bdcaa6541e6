//! The stacks a thread may be on.

/// A range of memory used as a stack. It grows down from `high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Lowest address.
    pub low: u64,
    /// One past the highest address.
    pub high: u64,
    /// What it is for.
    pub kind: StackKind,
}

/// What a stack is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackKind {
    /// The stack the kernel made for the program's first thread.
    Main,
    /// A mapping that a thread, a coroutine or a signal handler runs on; which of them is not known.
    Other,
}

impl Stack {
    /// Whether `length` bytes from `address` all lie on this stack.
    pub fn holds(&self, address: u64, length: u64) -> bool {
        address >= self.low && address.checked_add(length).is_some_and(|end| end <= self.high)
    }
}

/// Finds the stack an address lies on.
pub trait Stacks {
    /// The stack that `address` lies on; its top counts, since an empty stack's pointer is there.
    fn find(&self, address: u64) -> Option<Stack>;
}

impl Stacks for [Stack] {
    fn find(&self, address: u64) -> Option<Stack> {
        let inside = |stack: &&Stack| stack.holds(address, 1);
        let at_top = |stack: &&Stack| stack.high == address;
        self.iter().find(inside).or_else(|| self.iter().find(at_top)).copied()
    }
}

impl<const N: usize> Stacks for [Stack; N] {
    fn find(&self, address: u64) -> Option<Stack> {
        self.as_slice().find(address)
    }
}
