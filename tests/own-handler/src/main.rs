//! A program that has the handler.

mod writes;

fn main() {
    println!("{:#x} {:p}", surestack_capture::entry(), writes::surestack_own_writes as *const ());
}
