//! Address → function, file, line, inlined calls.

use std::path::PathBuf;

/// What is known of the name of a place in code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbol {
    /// The function whose code this is, and the calls inlined there: innermost first, the function itself last. Empty
    /// when nothing is known.
    pub functions: Vec<Function>,
    /// Distance from the function's first byte.
    pub offset: Option<u64>,
    /// Where the names came from.
    pub origin: Origin,
}

/// A function, inlined or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, demangled.
    pub name: String,
    /// The place in it: where the pc is, or where it calls the function inlined into it.
    pub location: Option<Location>,
}

/// A place in a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file, as the compiler wrote it.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: Option<u32>,
    /// Column, from 1.
    pub column: Option<u32>,
}

/// Where a name came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere.
    #[default]
    None,
    /// Debug information.
    Dwarf,
    /// A symbol table: the nearest symbol at or below the address, whose size covers it.
    SymbolTable,
    /// A symbol table: the nearest symbol below, which has no size.
    Nearest,
}
