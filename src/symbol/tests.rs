//! Against the committed program of `fixtures/demo`.

use super::dwarf::Debug;
use super::*;
use crate::image::Image;
use crate::snapshot::{Identity, LoadedModule};
use std::path::Path;

fn demo() -> Image {
    Image::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/demo/demo")).unwrap()
}

fn space(identity: Identity) -> AddressSpace {
    let module = LoadedModule {
        start: 0x40_0000,
        end: 0x50_0000,
        bias: 0,
        path: PathBuf::from("/demo/demo"),
        build_id: None,
        image: Some(Arc::new(demo())),
        debug: None,
        identity,
    };
    AddressSpace { modules: vec![module], ..AddressSpace::default() }
}

/// The functions at `pc` with their lines, innermost first.
fn lines(symbol: &Symbol) -> Vec<(&str, Option<u32>)> {
    let line = |function: &Function| function.location.as_ref().and_then(|location| location.line);
    symbol.functions.iter().map(|function| (function.name.as_str(), line(function))).collect()
}

#[test]
fn inlined_calls_come_innermost_first_each_with_its_line() {
    let (space, store) = (space(Identity::BuildId), Store::default());
    let symbol = Symbols::of(&space, &store).symbol(CodeAddress::Exact(0x40_17bf));
    assert_eq!(lines(&symbol), [("add", Some(16)), ("entry_of", Some(21)), ("post", Some(26))]);
    assert_eq!((symbol.offset, symbol.origin), (Some(0xf), Origin::Dwarf));
}

#[test]
fn a_return_address_is_named_by_the_call_before_it() {
    let (space, store) = (space(Identity::BuildId), Store::default());
    let symbols = Symbols::of(&space, &store);
    let symbol = symbols.symbol(CodeAddress::Return(0x40_1844));
    assert_eq!(lines(&symbol), [("post_all", Some(35))]);
    assert_eq!(symbol.offset, Some(0x14));
    // From what was kept, the same.
    assert_eq!(symbols.symbol(CodeAddress::Return(0x40_1844)), symbol);
}

#[test]
fn code_without_debug_information_is_named_by_the_symbol_table() {
    let (space, store) = (space(Identity::BuildId), Store::default());
    let symbol = Symbols::of(&space, &store).symbol(CodeAddress::Return(0x40_8862));
    assert_eq!(lines(&symbol), [("raise", None)]);
    assert_eq!((symbol.offset, symbol.origin), (Some(0x12), Origin::SymbolTable));
}

#[test]
fn a_file_that_nothing_proves_names_nothing() {
    let (space, store) = (space(Identity::Unchecked), Store::default());
    assert_eq!(*Symbols::of(&space, &store).symbol(CodeAddress::Exact(0x40_17bf)), Symbol::default());
}

/// Asks for addresses `step` apart in all code of `image`, of units alone and of `addr2line`'s index of the whole; how many
/// there were names for.
fn compare(image: &Image, step: usize) -> usize {
    let store = Store::default();
    let alone = Debug::of(image, Path::new("/demo/demo"), &store).unwrap();
    let whole = Debug::of(image, Path::new("/demo/demo"), &store).unwrap().without_ranges();
    let mut named = 0;
    for address in image.code().into_iter().flatten().step_by(step) {
        let (alone, whole) = (alone.find(address), whole.find(address));
        named += usize::from(alone.is_some());
        assert_eq!(alone.map(|found| found.symbol), whole.map(|found| found.symbol), "at {address:#x}");
    }
    assert!(!alone.is_indexed(), "the whole was indexed");
    named
}

#[test]
fn a_unit_looked_at_alone_says_what_the_whole_says() {
    let named = compare(&demo(), 1);
    assert!(named > 400, "{named}");
}

#[test]
fn it_does_so_in_a_program_of_many_units_that_refer_to_each_other() {
    let ours = Image::open(&std::env::current_exe().unwrap()).unwrap();
    let named = compare(&ours, 3_001);
    assert!(named > 500, "{named}");
}

#[test]
fn it_does_so_in_the_c_library_whose_debug_information_is_compressed() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps.lines().find_map(|line| Some(&line[line.find('/')?..]).filter(|path| path.contains("/libc.so")));
    let path = Path::new(path.unwrap());
    let Some(debug) = crate::image::Find::default().debug_file(&Image::open(path).unwrap(), path) else { return };
    let named = compare(&debug, 1_009);
    assert!(named > 500, "{named}");
}
