//! Our own process as unwinders see it: the modules of the map, and of everything else what the kernel says.

use crate::late::{self, Late, Loader};
use crate::mapping::{Mapped, Mappings};
use surestack_module_map::ModuleMap;
use surestack_walk::{Mapping, Module, Modules, ProbeKind, ProbePage, Stack, StackKind, Stacks};

/// Our own code and stacks.
pub struct Surroundings<'p> {
    modules: &'p ModuleMap,
    mappings: Mappings,
    late: Late,
}

impl<'p> Surroundings<'p> {
    /// Modules from the map, everything else from the kernel.
    pub const fn new(modules: &'p ModuleMap, mappings: Mappings) -> Self {
        Self { modules, mappings, late: Late::new() }
    }

    /// Finds out about modules that the map does not have, and that it has no more right to.
    pub fn learn(&mut self, loader: &Loader) {
        self.late.learn(loader, self.modules);
    }

    /// What [`Surroundings::learn`] found.
    pub(crate) fn late(&self) -> &Late {
        &self.late
    }

    /// The modules of the map.
    pub(crate) fn map(&self) -> &'p ModuleMap {
        self.modules
    }

    /// Whether these are all modules there are, as far as is known.
    pub(crate) fn is_the_map(&self) -> bool {
        self.late.gone == 0 && self.late.all().next().is_none()
    }

    /// What is mapped where.
    pub fn mappings(&self) -> &Mappings {
        &self.mappings
    }
}

impl Modules for Surroundings<'_> {
    fn find(&self, address: u64) -> Option<Module<'_>> {
        // What was mapped later is there now, whatever the map says.
        let late = || self.late.find(address).map(|(index, record)| late::module(index, record));
        late().or_else(|| self.modules.find(address))
    }

    fn mapping(&self, address: u64) -> Mapping {
        if let Some((index, _)) = self.late.find(address) {
            let is_code = self.late.code(index).iter().any(|(low, high)| (*low..*high).contains(&address));
            return if is_code { Mapping::Code } else { Mapping::Data };
        }
        // Where another came, what the map says is of the one before.
        let replaced = self
            .modules
            .look_up(address)
            .is_ok_and(|(found, _)| found.is_some_and(|found| self.late.replaces(found.record)));
        match Some(self.modules.mapping(address)).filter(|_| !replaced).unwrap_or(Mapping::Unknown) {
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
        // A module that the map has and the loader has not: what is at its addresses now is anybody's guess.
        Some(self.modules.generation()).filter(|_| self.late.gone == 0)
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
