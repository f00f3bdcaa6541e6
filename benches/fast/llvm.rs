//! LLVM's libunwind, by its cursor: `_Unwind_Backtrace` does the same.

use super::Library;
use super::nongnu::Cursor;
use crate::stacks::Leaf;
use std::sync::OnceLock;

static CURSOR: OnceLock<Result<Cursor, String>> = OnceLock::new();

pub fn prepare() -> Result<(), String> {
    let found = CURSOR.get_or_init(|| {
        let library = Library::open(c"libunwind.so.1")?;
        // SAFETY: as its header declares them.
        unsafe {
            Ok(Cursor {
                getcontext: library.function(c"unw_getcontext")?,
                init_local: library.function(c"unw_init_local")?,
                step: library.function(c"unw_step")?,
                get_reg: library.function(c"unw_get_reg")?,
                pc: -1,
            })
        }
    });
    found.as_ref().map(|_| ()).map_err(Clone::clone)
}

pub fn step(_: &Leaf<'_>, pcs: &mut [usize]) -> usize {
    let Some(Ok(cursor)) = CURSOR.get() else { return 0 };
    cursor.walk(pcs)
}
