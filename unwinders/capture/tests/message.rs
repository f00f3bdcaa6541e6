//! Messages of panicking threads, written and read at once.

use std::sync::atomic::{AtomicBool, Ordering};
use surestack_capture::message::{Call, Message, Messages, TEXT};

fn text(message: &Message) -> Option<String> {
    let mut bytes = [0; TEXT];
    let length = message.read(&mut bytes)?;
    Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

#[test]
fn a_place_for_a_message_is_a_page() {
    assert_eq!(size_of::<Message>(), 4096);
}

#[test]
fn a_threads_last_message_is_found_and_a_long_one_is_cut() {
    let messages = Messages::new();
    messages.keep(7, b"first", 1).unwrap();
    messages.keep(8, b"of another", 2).unwrap();
    messages.keep(7, b"last", 3).unwrap();
    let last = messages.of(7).unwrap();
    assert_eq!((text(last).as_deref(), last.inside()), (Some("last"), 3));
    assert_eq!(text(messages.of(8).unwrap()).as_deref(), Some("of another"));
    assert!(messages.of(9).is_none());
    let long = messages.keep(9, &[b'x'; 2 * TEXT], 0).unwrap();
    assert_eq!(text(long), Some("x".repeat(TEXT)));
    let mut little = [0; 3];
    assert_eq!((last.read(&mut little), &little), (Some(3), b"las"));
}

#[test]
fn the_oldest_message_makes_room_for_the_next() {
    let messages = Messages::new();
    for thread in 1..=17 {
        messages.keep(thread, b"text", 0).unwrap();
    }
    assert!(messages.of(1).is_none());
    assert!((2..=17).all(|thread| messages.of(thread).is_some()));
}

#[test]
fn only_the_frame_that_called_the_hook_of_the_last_panic_is_the_panics() {
    let messages = Messages::new();
    let frame = Call { return_slot: 0x7008, return_address: 0x40_1234 };
    let message = messages.keep(7, b"text", 0x7000).unwrap();
    assert!(!message.is_in(frame) && !message.is_in(Call { return_slot: 0, return_address: 0 }), "not reported yet");
    message.reported(frame);
    assert!(message.is_in(frame));
    assert!(!message.is_in(Call { return_address: 0x40_1238, ..frame }));
    assert!(!message.is_in(Call { return_slot: 0x7010, ..frame }));
    let next = messages.keep(7, b"another", 0x7000).unwrap();
    assert!(!next.is_in(frame), "another panic in the same place is another");
}

#[test]
fn a_message_that_is_read_is_one_message_while_others_are_written() {
    static MESSAGES: Messages = Messages::new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 1..=3_u32 {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    for byte in b'a'..=b'z' {
                        MESSAGES.keep(thread, &[byte; 600], 0);
                    }
                }
            });
        }
        let mut read = 0;
        while read < 20_000 {
            for text in (1..=3).filter_map(|thread| text(MESSAGES.of(thread)?)) {
                assert!(text.len() == 600 && text.bytes().all(|byte| Some(byte) == text.bytes().next()), "{text}");
                read += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}
