//! A third party writes an unwinder against `surestack-walk` alone: the example shows it, and stays as small as promised.

const EXAMPLE: &str = include_str!("../examples/third_party_unwinder.rs");

#[test]
fn the_example_is_shorter_than_sixty_lines() {
    assert!(EXAMPLE.lines().count() < 60, "{} lines", EXAMPLE.lines().count());
}

#[test]
fn the_example_names_no_crate_but_walk_and_std() {
    let named = |line: &str| {
        let path = line.trim_start().trim_start_matches("use ");
        path.split_once("::").map(|(first, _)| first.to_owned())
    };
    let imported: Vec<String> = EXAMPLE.lines().filter(|line| line.starts_with("use ")).filter_map(named).collect();
    assert_eq!(imported, ["surestack_walk"]);
    for other in
        ["surestack::", "surestack_cfi", "surestack_frame_pointer", "gimli", "object", "libc::", "extern crate"]
    {
        assert!(!EXAMPLE.contains(other), "the example names {other}");
    }
}
