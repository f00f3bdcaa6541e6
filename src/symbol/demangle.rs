//! Mangled name → the name in the source.

use cpp_demangle::{DemangleOptions, ParseOptions};
use std::fmt::{self, Write};

/// Longest mangled name that is looked into.
const LONGEST: usize = 64 << 10;
/// Longest demangled name. Substitutions let a short name stand for an endless one.
const LONGEST_NAME: usize = 16 << 10;
/// How deep a C++ name may nest.
const DEPTH: u32 = 128;

/// The name in the source, the mangling recognised by its prefix. A name that is not mangled, or whose mangling is
/// broken or beyond all measure, is returned as it is.
pub fn demangle(name: &str) -> String {
    let demangled = if name.len() > LONGEST { None } else { rust(name).or_else(|| cpp(name)) };
    demangled.unwrap_or_else(|| name.to_owned())
}

/// Rust's v0 and legacy mangling, without hash and disambiguators. Legacy names look like C++ ones, so this goes first.
fn rust(name: &str) -> Option<String> {
    let demangled = rustc_demangle::try_demangle(name).ok()?;
    let mut out = Bounded::default();
    write!(out, "{demangled:#}").ok()?;
    Some(out.0)
}

fn cpp(name: &str) -> Option<String> {
    if !["_Z", "__Z", "___Z", "____Z"].iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    let parsing = ParseOptions::default().recursion_limit(DEPTH);
    let printing = DemangleOptions::new().recursion_limit(DEPTH);
    let symbol = cpp_demangle::Symbol::new_with_options(name, &parsing).ok()?;
    let mut out = Bounded::default();
    symbol.structured_demangle(&mut out, &printing).ok()?;
    Some(out.0)
}

/// A string that refuses to grow without end.
#[derive(Default)]
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len().saturating_add(text.len()) > LONGEST_NAME {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::demangle;

    #[test]
    fn the_mangling_is_told_by_its_prefix() {
        assert_eq!(demangle("_RNvC6_123foo3bar"), "123foo::bar");
        assert_eq!(demangle("_ZN3std2io5print17h0123456789abcdefE"), "std::io::print");
        assert_eq!(demangle("_ZN3gui6Window4openEi"), "gui::Window::open(int)");
        assert_eq!(demangle("_ZN12_GLOBAL__N_14workEv"), "(anonymous namespace)::work()");
        assert_eq!(demangle("main"), "main");
    }

    #[test]
    fn a_broken_or_endless_name_is_kept_raw() {
        assert_eq!(demangle("_ZN3gui"), "_ZN3gui");
        let deep = format!("_Z1f{}i", "P".repeat(5000));
        assert_eq!(demangle(&deep), deep);
        let wide = "_Z1fI1AE".to_owned() + &"I".repeat(70_000);
        assert_eq!(demangle(&wide), wide);
    }
}
