//! libunwind, by its quick `unw_backtrace` and by its cursor.

use super::{Library, filled_by};
use crate::stacks::Leaf;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

/// What is used of it.
struct Functions {
    backtrace: unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int,
    cursor: Cursor,
}

/// Any libunwind's cursor.
pub struct Cursor {
    pub getcontext: unsafe extern "C" fn(*mut c_void) -> c_int,
    pub init_local: unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int,
    pub step: unsafe extern "C" fn(*mut c_void) -> c_int,
    pub get_reg: unsafe extern "C" fn(*mut c_void, c_int, *mut usize) -> c_int,
    /// The pc's number.
    pub pc: c_int,
}

impl Cursor {
    /// From here to the end.
    #[inline(always)]
    pub fn walk(&self, pcs: &mut [usize]) -> usize {
        // More than either libunwind asks for.
        let (mut context, mut cursor) = ([0_u64; 256], [0_u64; 256]);
        let (context, cursor) = (context.as_mut_ptr().cast::<c_void>(), cursor.as_mut_ptr().cast::<c_void>());
        let mut count = 0;
        // SAFETY: this function is on the stack until the cursor is not used any more.
        unsafe {
            (self.getcontext)(context);
            (self.init_local)(cursor, context);
            while let Some(place) = pcs.get_mut(count) {
                (self.get_reg)(cursor, self.pc, place);
                count += 1;
                if (self.step)(cursor) <= 0 {
                    break;
                }
            }
        }
        count
    }
}

static FUNCTIONS: OnceLock<Result<Functions, String>> = OnceLock::new();

pub fn prepare() -> Result<(), String> {
    let found = FUNCTIONS.get_or_init(|| {
        let library = Library::open(c"libunwind.so.8")?;
        // SAFETY: as its header declares them.
        unsafe {
            let backtrace = library.function(c"unw_backtrace")?;
            let cursor = Cursor {
                getcontext: library.function(c"_Ux86_64_getcontext")?,
                init_local: library.function(c"_ULx86_64_init_local")?,
                step: library.function(c"_ULx86_64_step")?,
                get_reg: library.function(c"_ULx86_64_get_reg")?,
                pc: 16,
            };
            Ok(Functions { backtrace, cursor })
        }
    });
    found.as_ref().map(|_| ()).map_err(Clone::clone)
}

pub fn backtrace(_: &Leaf<'_>, pcs: &mut [usize]) -> usize {
    let Some(Ok(functions)) = FUNCTIONS.get() else { return 0 };
    // SAFETY: it is one.
    unsafe { filled_by(functions.backtrace, pcs) }
}

pub fn step(_: &Leaf<'_>, pcs: &mut [usize]) -> usize {
    let Some(Ok(functions)) = FUNCTIONS.get() else { return 0 };
    functions.cursor.walk(pcs)
}
