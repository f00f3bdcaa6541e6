use super::*;
use std::string::String;
use std::vec::Vec;

/// A description.
fn site(level: u64, kinds: &[u64], strings: &[&str]) -> Vec<u64> {
    let mut bytes = Vec::new();
    for text in strings {
        bytes.push(u8::try_from(text.len()).unwrap());
        bytes.extend(text.as_bytes());
    }
    let length = bytes.len() as u64;
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let kinds_word = kinds.iter().rev().fold(0, |word, kind| word << 4 | kind);
    let mut all = std::vec![0, kinds_word, 12 | length << 32];
    all.extend(words(&bytes));
    let head = all.len() as u64 | level << 32 | ((strings.len() - 3) as u64) << 40;
    let sum = all.iter().skip(1).fold(Sum::of(head), |sum, word| sum.and(*word));
    all[0] = head | sum.value() << 16;
    all
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().copied().flat_map(u64::to_le_bytes).collect()
}

/// Names and values of the fields of a record with these words, and how many bytes no field took.
fn fields(site: &[u64], record: &[u64]) -> (Vec<(String, String)>, usize) {
    let (site, record) = (bytes(site), bytes(record));
    let site = Site::decode(&site).unwrap();
    let mut fields = site.kinds.fields(&Record { position: 0, site: 1, time: 0, fields: &record });
    let values = fields.by_ref().map(|seen| std::format!("{:?} {}", seen.value, seen.length));
    let each = site.names().map(Into::into).zip(values).collect();
    (each, fields.rest().len())
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.into(), value.into())
}

#[test]
fn a_description_says_what_where_and_how_important() {
    let bytes = bytes(&site(3, &[kind::BOOL], &["request", "app::server", "src/server.rs", "whole"]));
    let site = Site::decode(&bytes).unwrap();
    assert_eq!((site.event, site.target, site.file), ("request", "app::server", "src/server.rs"));
    assert_eq!((site.line, site.level), (12, 3));
}

#[test]
fn values_have_the_types_of_the_site() {
    let kinds = [kind::UNSIGNED, kind::SIGNED, kind::FLOAT, kind::BOOL, kind::ADDRESS];
    let site = site(0, &kinds, &["e", "t", "f", "a", "b", "c", "d", "e"]);
    let (found, rest) = fields(&site, &[7, u64::MAX, 1.5_f64.to_bits(), 1, 0x1000]);
    let expected = [
        pair("a", "Unsigned(7) 8"),
        pair("b", "Signed(-1) 8"),
        pair("c", "Float(1.5) 8"),
        pair("d", "Bool(true) 8"),
        pair("e", "Address(4096) 8"),
    ];
    assert_eq!((found, rest), (expected.to_vec(), 0));
}

#[test]
fn text_is_what_was_kept_of_it_and_its_whole_length() {
    let site = site(0, &[kind::TEXT, kind::UNSIGNED], &["e", "t", "f", "a", "b"]);
    let text = u64::from_le_bytes(*b"abc\0\0\0\0\0");
    let (found, rest) = fields(&site, &[3 | 3 << 32, text, 5]);
    assert_eq!((found, rest), ([pair("a", "Text(\"abc\") 3"), pair("b", "Unsigned(5) 8")].to_vec(), 0));
    let (found, _) = fields(&site, &[300 | 3 << 32, text, 5]);
    assert_eq!(found[0], pair("a", "Text(\"abc\") 300"));
    let (found, _) = fields(&site, &[300, 5]);
    assert_eq!(found, [pair("a", "Text(\"\") 300"), pair("b", "Unsigned(5) 8")]);
}

#[test]
fn text_ends_where_it_is_none() {
    let site = site(0, &[kind::TEXT], &["e", "t", "f", "a"]);
    let (found, _) = fields(&site, &[8 | 8 << 32, u64::from_le_bytes(*b"ab\xff\xffcdef")]);
    assert_eq!(found, [pair("a", "Text(\"ab\") 8")]);
}

#[test]
fn text_longer_than_its_record_is_no_field() {
    let site = site(0, &[kind::TEXT], &["e", "t", "f", "a"]);
    assert_eq!(fields(&site, &[u64::MAX, 0]), (Vec::new(), 16));
}

#[test]
fn fields_that_an_event_left_out_are_left_out() {
    let site = site(0, &[kind::UNSIGNED, kind::NONE], &["e", "t", "f", "a", "b"]);
    assert_eq!(fields(&site, &[1]), ([pair("a", "Unsigned(1) 8")].to_vec(), 0));
}

#[test]
fn words_that_no_field_explains_are_left() {
    let site = site(0, &[kind::UNSIGNED], &["e", "t", "f", "a"]);
    assert_eq!(fields(&site, &[1, 2, 3]), ([pair("a", "Unsigned(1) 8")].to_vec(), 16));
}

#[test]
fn a_description_with_any_bit_changed_is_none() {
    let whole = bytes(&site(5, &[kind::TEXT], &["request", "app", "src/server.rs", "path"]));
    assert!(Site::decode(&whole).is_some());
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Site::decode(&damaged), None, "bit {bit}");
    }
}

#[test]
fn descriptions_that_cannot_be_are_none_whatever_their_sum() {
    let decoded = |words: &[u64]| Site::decode(&bytes(words)).is_some();
    assert!(!decoded(&site(6, &[], &["e", "t", "f"])), "a level");
    assert!(!decoded(&site(0, &[1; 13], &["x"; 16])), "thirteen fields");
    let mut cut = site(0, &[1], &["e", "t", "f", "a"]);
    assert!(decoded(&cut));
    // One field more than there are names.
    let head = cut[0] & !(0xffff << 16 | 0xff << 40) | 3 << 40;
    let sum = cut.iter().skip(1).fold(Sum::of(head), |sum, word| sum.and(*word));
    cut[0] = head | sum.value() << 16;
    assert!(!decoded(&cut), "names");
    assert_eq!((Site::bytes(2), Site::bytes(3), Site::bytes(0xffff)), (None, Some(24), None));
}
