//! Rust closures that call each other. A function cannot ask for its own return address here: an assembly stub notes it
//! and jumps on.

#![no_std]

use core::arch::global_asm;
use core::hint::black_box;
use core::mem::offset_of;

#[repr(C)]
pub struct Chain {
    next: *const Link,
    noted: *mut usize,
    leaf: usize,
}

type Link = extern "C" fn(&mut Chain) -> usize;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

global_asm!(
    ".type by_closures,@function",
    "by_closures:",
    ".cfi_startproc",
    "lea rsi, [rip + {body}]",
    "jmp noted",
    ".cfi_endproc",
    ".size by_closures, . - by_closures",
    ".type noted,@function",
    "noted:",
    ".cfi_startproc",
    "mov rax, qword ptr [rsp]",
    "mov rcx, qword ptr [rdi + {notes}]",
    "mov qword ptr [rcx], rax",
    "add qword ptr [rdi + {notes}], 8",
    "jmp rsi",
    ".cfi_endproc",
    ".size noted, . - noted",
    body = sym body,
    notes = const offset_of!(Chain, noted),
);

unsafe extern "C" {
    safe fn by_closures(chain: &mut Chain) -> usize;
    /// `what(chain, what, data)`, after noting where this is called from.
    fn noted(chain: &mut Chain, what: Code, data: *const ()) -> usize;
}

type Code = unsafe extern "C" fn(&mut Chain, usize, *const ()) -> usize;

/// Calls a closure, whose return address is noted.
fn call<F: Fn(&mut Chain) -> usize>(chain: &mut Chain, closure: &F) -> usize {
    unsafe extern "C" fn code<F: Fn(&mut Chain) -> usize>(chain: &mut Chain, _: usize, closure: *const ()) -> usize {
        // SAFETY: as `call` passes it.
        unsafe { (*closure.cast::<F>())(chain) }
    }
    // SAFETY: the closure outlives the call.
    let result = unsafe { noted(chain, code::<F>, (&raw const *closure).cast()) };
    // SAFETY: one was noted.
    chain.noted = unsafe { chain.noted.sub(1) };
    result
}

/// As `proceed` in `chain.h`; the note is taken back by whom it is of.
fn proceed(chain: &mut Chain) -> usize {
    // SAFETY: a link never calls more than the stack has.
    let next = unsafe { *chain.next };
    // SAFETY: as above.
    chain.next = unsafe { chain.next.add(1) };
    let result = next(chain);
    // SAFETY: it was added.
    chain.next = unsafe { chain.next.sub(1) };
    black_box(result + 1)
}

extern "C" fn body(chain: &mut Chain) -> usize {
    let captured = black_box([1, 2, 3]);
    let inner = |chain: &mut Chain| proceed(chain) + captured[1];
    let outer = |chain: &mut Chain| {
        let room = black_box([7_usize; 20]);
        call(chain, &inner) + room[3]
    };
    let result = call(chain, &outer) + captured[0];
    // SAFETY: the stub noted one.
    chain.noted = unsafe { chain.noted.sub(1) };
    result
}

/// All links of this object, up to a null.
#[repr(transparent)]
pub struct Links([Option<Link>; 2]);

#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static links: Links = Links([Some(by_closures), None]);
