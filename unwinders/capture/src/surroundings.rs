//! Our own process as unwinders see it: the modules of the map, and of everything else what the kernel says.

use crate::mapping::{Mapped, Mappings};
use surestack_module_map::ModuleMap;
use surestack_walk::{Mapping, Module, Modules, ProbeKind, ProbePage, Stack, StackKind, Stacks};

/// Our own code and stacks.
pub struct Surroundings<'p> {
    modules: &'p ModuleMap,
    mappings: Mappings,
}

impl<'p> Surroundings<'p> {
    /// Modules from the map, everything else from the kernel.
    pub const fn new(modules: &'p ModuleMap, mappings: Mappings) -> Self {
        Self { modules, mappings }
    }

    /// What is mapped where.
    pub fn mappings(&self) -> &Mappings {
        &self.mappings
    }
}

impl Modules for Surroundings<'_> {
    fn find(&self, address: u64) -> Option<Module<'_>> {
        self.modules.find(address)
    }

    fn mapping(&self, address: u64) -> Mapping {
        match self.modules.mapping(address) {
            Mapping::Unknown => match self.mappings.at(address) {
                Ok(Some(mapped)) if mapped.may(Mapped::EXECUTABLE) => Mapping::Code,
                Ok(Some(_)) => Mapping::Data,
                Ok(None) => Mapping::Nothing,
                Err(_) => Mapping::Unknown,
            },
            known => known,
        }
    }

    fn probe(&self, address: u64) -> Option<ProbePage> {
        if self.modules.find(address).is_some() {
            return None;
        }
        let mapped = self.mappings.at(address).ok()??;
        let kinds = [(b"[uprobes]".as_slice(), ProbeKind::Return), (b"[uprobes-trampoline]", ProbeKind::Nop)];
        let (_, kind) = kinds.into_iter().find(|(name, _)| mapped.is_named(name))?;
        Some(ProbePage { start: mapped.low, kind })
    }

    fn generation(&self) -> Option<u64> {
        self.modules.generation()
    }
}

impl Stacks for Surroundings<'_> {
    /// The writable mapping that holds `address`, or ends there.
    fn find(&self, address: u64) -> Option<Stack> {
        let writable = |address| self.mappings.at(address).ok()?.filter(|mapped| mapped.may(Mapped::WRITABLE));
        let ends_here = || writable(address.checked_sub(1)?).filter(|mapped| mapped.high == address);
        let Mapped { low, high, .. } = writable(address).or_else(ends_here)?;
        let is_main = || writable(low).is_some_and(|mapped| mapped.is_named(b"[stack]"));
        Some(Stack { low, high, kind: if is_main() { StackKind::Main } else { StackKind::Other } })
    }
}
