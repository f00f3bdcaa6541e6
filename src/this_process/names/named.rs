//! What an address is called.

use crate::snapshot::LoadedModule;
use crate::symbol::{Function, Location, Origin, Symbol};
use std::fmt;
use std::sync::Arc;
use surestack_walk::CodeAddress;

/// An address and what it is called.
#[derive(Clone, Debug)]
pub struct Named {
    pc: CodeAddress,
    symbol: Arc<Symbol>,
    module: Option<Arc<LoadedModule>>,
}

impl Named {
    pub(super) fn new(pc: CodeAddress, symbol: Arc<Symbol>, module: Arc<LoadedModule>) -> Self {
        Self { pc, symbol, module: Some(module) }
    }

    /// In no module.
    pub(super) fn unknown(pc: CodeAddress) -> Self {
        Self { pc, symbol: Arc::default(), module: None }
    }

    /// The address that was asked for.
    pub fn pc(&self) -> CodeAddress {
        self.pc
    }

    /// The function whose code this is; its location is where it calls what is inlined into it, or the place itself.
    pub fn function(&self) -> Option<&Function> {
        self.symbol.functions.last()
    }

    /// The calls inlined there, innermost first.
    pub fn inlined(&self) -> &[Function] {
        self.symbol.functions.split_last().map_or(&[], |(_, inlined)| inlined)
    }

    /// The place in the source: in the innermost inlined call, or else in the function.
    pub fn location(&self) -> Option<&Location> {
        self.symbol.functions.first()?.location.as_ref()
    }

    /// Distance from the function's first byte.
    pub fn offset(&self) -> Option<u64> {
        self.symbol.offset
    }

    /// Where the names came from.
    pub fn origin(&self) -> Origin {
        self.symbol.origin
    }

    /// The module, and how its file is known to be the right one; none where nothing is loaded.
    pub fn module(&self) -> Option<&LoadedModule> {
        self.module.as_deref()
    }

    /// All of it, as reports have it.
    pub fn symbol(&self) -> &Symbol {
        &self.symbol
    }
}

/// A line for each function, innermost first: `0x55d0c2f04a1e work at src/work.rs:12, inlined`.
impl fmt::Display for Named {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:#014x} ", self.pc.value())?;
        let Some(function) = self.function() else {
            return match &self.module {
                Some(module) => write!(out, "in {}", module.path.display()),
                None => out.write_str("in no module"),
            };
        };
        for inlined in self.inlined() {
            place(out, inlined)?;
            write!(out, ", inlined\n{:15}", "")?;
        }
        place(out, function)
    }
}

fn place(out: &mut fmt::Formatter<'_>, function: &Function) -> fmt::Result {
    out.write_str(if function.name.is_empty() { "a function without a name" } else { &function.name })?;
    let Some(location) = &function.location else { return Ok(()) };
    write!(out, " at {}", location.file.display())?;
    location.line.map_or(Ok(()), |line| write!(out, ":{line}"))
}
