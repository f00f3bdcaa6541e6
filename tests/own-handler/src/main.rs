//! A program that has the handler.

fn main() {
    println!("{:#x}", surestack_capture::entry());
}
