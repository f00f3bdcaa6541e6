use super::super::samples::{print, report};
use super::*;

fn printed(length: Length, colour: Colour) -> String {
    let mut out = Vec::new();
    print(&report(), &mut Text::new(&mut out, length, colour));
    String::from_utf8(out).unwrap()
}

#[test]
fn a_report_says_what_happened_first_and_what_is_missing_last() {
    assert_eq!(printed(Length::Full, Colour::Never), include_str!("expected/full.txt"));
}

#[test]
fn a_brief_report_has_the_crashed_thread_alone_and_no_registers() {
    assert_eq!(printed(Length::Brief, Colour::Never), include_str!("expected/brief.txt"));
}

#[test]
fn an_explained_report_says_how_each_frame_is_known_and_puts_doubts_beside_it() {
    assert_eq!(printed(Length::Explained, Colour::Never), include_str!("expected/explained.txt"));
}

#[test]
fn colours_change_nothing_but_colours() {
    let coloured = printed(Length::Full, Colour::Ansi);
    let mut plain = String::new();
    let mut parts = coloured.split('\u{1b}');
    plain.push_str(parts.next().unwrap());
    for part in parts {
        plain.push_str(part.split_once('m').unwrap().1);
    }
    assert_ne!(coloured, plain);
    assert_eq!(plain, printed(Length::Full, Colour::Never));
}

#[test]
fn numbers_are_grouped_by_thousands() {
    let groups = [0, 999, 1000, 174_760, 1_000_000].map(grouped);
    assert_eq!(groups, ["0", "999", "1,000", "174,760", "1,000,000"]);
}
