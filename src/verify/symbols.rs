//! What the file's symbol tables call its functions and objects.

use crate::image::{Image, ImageSymbol};
use crate::symbol::demangle;
use object::elf::{STB_LOCAL, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE, STT_OBJECT};
use std::ops::Range;

/// Sections from here on are no sections: absolute values, common blocks.
const SHN_LORESERVE: u16 = 0xff00;

/// A function, or a label in code that has no size. Linked addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// The name as the compiler mangled it, without its version.
    pub symbol: String,
    /// Whether the file gives its size.
    sized: bool,
}

impl Function {
    /// The name in the source.
    pub fn name(&self) -> String {
        demangle(&self.symbol)
    }
}

/// All that have a name.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    /// Ascending by address; of several at one address, the best name last.
    functions: Vec<Function>,
    /// Objects with their sizes, ascending.
    objects: Vec<Object>,
    code: Vec<Range<u64>>,
}

/// A variable or constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    /// Where it lies.
    pub extent: Range<u64>,
    /// The name as the compiler mangled it.
    pub symbol: String,
}

impl Symbols {
    /// Those of `image`.
    pub fn of(image: &Image) -> Self {
        let code = image.code();
        let is_code = |address: u64| code.iter().any(|part| part.contains(&address));
        let defined =
            |symbol: &ImageSymbol<'_>| (1..SHN_LORESERVE).contains(&symbol.section) && !symbol.name.is_empty();
        let mut functions: Vec<(bool, bool, Function)> = Vec::new();
        let mut objects = Vec::new();
        for symbol in image.symbols().filter(defined) {
            let end = symbol.address.saturating_add(symbol.size);
            let bare = name(symbol.name);
            match symbol.kind {
                STT_FUNC | STT_GNU_IFUNC | STT_NOTYPE if is_code(symbol.address) => functions.push((
                    symbol.binding != STB_LOCAL,
                    symbol.kind != STT_NOTYPE,
                    Function { start: symbol.address, end, symbol: bare, sized: symbol.size != 0 },
                )),
                STT_OBJECT | STT_NOTYPE if symbol.size != 0 => {
                    objects.push(Object { extent: symbol.address..end, symbol: bare });
                }
                _ => {}
            }
        }
        functions.sort_by(|one, other| {
            let key = |(global, typed, function): &(bool, bool, Function)| {
                (function.start, function.sized, *typed, *global, std::cmp::Reverse(function.symbol.clone()))
            };
            key(one).cmp(&key(other))
        });
        let mut functions: Vec<Function> = functions.into_iter().map(|(_, _, function)| function).collect();
        // What has no size reaches to the next symbol, or to the end of its section.
        let starts: Vec<u64> = functions.iter().map(|function| function.start).collect();
        for function in functions.iter_mut().filter(|function| !function.sized) {
            let next = starts.get(starts.partition_point(|start| *start <= function.start)).copied();
            let part = code.iter().find(|part| part.contains(&function.start)).map_or(function.start, |part| part.end);
            function.end = next.map_or(part, |next| next.min(part));
        }
        objects.sort_by_key(|object: &Object| (object.extent.start, object.extent.end));
        Self { functions, objects, code }
    }

    /// Whether there is no function among them.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// The function whose size covers `address`, or else the nearest label before it in its section.
    pub fn function(&self, address: u64) -> Option<&Function> {
        /// Labels inside one function.
        const LABELS: usize = 64;
        let after = self.functions.partition_point(|function| function.start <= address);
        let below = self.functions.get(..after)?;
        let covers = |function: &&Function| address < function.end;
        let sized = below.iter().rev().take(LABELS).filter(covers).find(|function| function.sized);
        sized.or_else(|| below.last().filter(covers))
    }

    /// All names of what begins at `address`.
    pub fn names_at(&self, address: u64) -> impl Iterator<Item = &str> {
        let first = self.functions.partition_point(|function| function.start < address);
        let rest = self.functions.get(first..).unwrap_or_default().iter();
        rest.take_while(move |function| function.start == address).map(|function| function.symbol.as_str())
    }

    /// Where the functions begin that are called `name`: mangled, as in the source, or the end of that from a `::` on.
    pub fn called(&self, name: &str) -> Vec<u64> {
        let ends = |source: &str| source.strip_suffix(name).is_some_and(|path| path.is_empty() || path.ends_with("::"));
        let is = |function: &&Function| function.symbol == name || ends(&function.name());
        let mut found: Vec<u64> = self.functions.iter().filter(is).map(|function| function.start).collect();
        found.dedup();
        found
    }

    /// A few short names that have `name` in their last part.
    pub fn near(&self, name: &str) -> Vec<String> {
        const FEW: usize = 4;
        const SHORT: usize = 80;
        let last = name.rsplit("::").next().unwrap_or(name);
        let has = |function: &String| {
            function.len() <= SHORT && function.rsplit("::").next().is_some_and(|end| end.contains(last))
        };
        self.functions.iter().map(Function::name).filter(|_| !last.is_empty()).filter(has).take(FEW).collect()
    }

    /// All functions, ascending.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The object whose size covers `address`: of several, the smallest.
    pub fn object(&self, address: u64) -> Option<&Object> {
        /// Objects that begin between the start of one and a place inside it.
        const INSIDE: usize = 64;
        let after = self.objects.partition_point(|object| object.extent.start <= address);
        let below = self.objects.get(..after)?.iter().rev().take(INSIDE);
        below
            .filter(|object| object.extent.contains(&address))
            .min_by_key(|object| object.extent.end - object.extent.start)
    }

    /// Where the next object begins behind `address`.
    pub fn next_object(&self, address: u64) -> Option<u64> {
        let after = self.objects.partition_point(|object| object.extent.start <= address);
        self.objects.get(after).map(|object| object.extent.start)
    }

    /// Whether there is code at `address`.
    pub fn is_code(&self, address: u64) -> bool {
        self.code.iter().any(|part| part.contains(&address))
    }
}

/// `name@VERSION` and `name@@VERSION` without the version.
pub(super) fn name(symbol: &[u8]) -> String {
    let name = String::from_utf8_lossy(symbol);
    match name.find('@') {
        Some(at) if at > 0 => name.get(..at).unwrap_or(&name).to_owned(),
        _ => name.into_owned(),
    }
}
