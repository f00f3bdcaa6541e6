//! From what the search found to what is reported.

use super::aim::Reason;
use super::depth::depth;
use super::value::Value;
use super::walk::{Came, Walk};
use super::{Annotated, Edge, Hop, Offence, Sites, SystemCall, Verified, Violation, VirtualCall};
use std::collections::{BTreeMap, BTreeSet};

impl Walk<'_> {
    /// What was found from `roots`.
    pub fn verified(mut self, roots: &[usize]) -> Verified {
        self.through_vtables();
        self.one_reason_each();
        let (annotated, unused) = self.vouch();
        self.count_on_nobody();
        let binary = self.binary;
        let name =
            |address: u64| binary.symbols.function(address).map_or_else(|| binary.describe(address), |f| f.name());
        let node_name = |node: usize| self.nodes.get(node).map_or_else(String::new, |node| self.entry_name(node.entry));
        let mut system_calls = Vec::new();
        for (address, number) in &self.system_calls {
            let numbers = match number {
                Value::Known(numbers) => Some(numbers.clone()),
                _ => None,
            };
            system_calls.push(SystemCall { address: *address, function: name(*address), numbers });
        }
        let virtual_calls = self.slots.iter().filter_map(|((_, site), slot)| {
            let callees = self.callees.get(site)?.clone();
            Some((*site, VirtualCall { address: *site, function: name(*site), slot: slot.offset, callees }))
        });
        let virtual_calls: BTreeMap<u64, VirtualCall> = virtual_calls.collect();
        let escapes = self.escapes.iter();
        Verified {
            violations: self.violations(),
            functions: self.nodes.iter().filter(|node| !node.stub).map(|node| self.entry_name(node.entry)).collect(),
            allowed: self.allowed.clone(),
            escapes: escapes
                .map(|(name, sites)| Sites { name: name.clone(), sites: sites.iter().copied().collect() })
                .collect(),
            annotated,
            unused,
            virtual_calls: virtual_calls.into_values().collect(),
            resolved: self.resolved.len(),
            system_calls,
            stack: roots.iter().map(|root| (node_name(*root), depth(&self.nodes, *root, &node_name))).collect(),
        }
    }

    /// What a function is called that is entered at an address.
    fn entry_name(&self, entry: u64) -> String {
        self.stub_name(entry).unwrap_or_else(|| self.binary.describe(entry))
    }

    /// What may be calls through a vtable, and none has that slot.
    fn through_vtables(&mut self) {
        for ((node, site), slot) in self.slots.clone() {
            if !self.callees.contains_key(&site) {
                let came = Came { node, site, edge: Edge::Here };
                self.offend(Offence::Indirect(Reason::Slot(slot.offset)), came);
            }
        }
    }

    /// Of several reasons why nobody knows where one instruction leads, one is enough.
    fn one_reason_each(&mut self) {
        let mut seen = BTreeSet::new();
        self.offences.retain(|(what, site), _| !matches!(what, Offence::Indirect(_)) || seen.insert(*site));
    }

    /// Takes away the indirect calls that somebody vouches for.
    fn vouch(&mut self) -> (Vec<Annotated>, Vec<super::Annotation>) {
        let annotations = &self.options.annotations;
        let mut used = BTreeSet::new();
        let mut found: BTreeMap<u64, Annotated> = BTreeMap::new();
        let mut counts: BTreeMap<(usize, u64), usize> = BTreeMap::new();
        let mut kept = BTreeMap::new();
        for ((what, site), came) in std::mem::take(&mut self.offences) {
            let function = self.binary.symbols.function(site).filter(|_| matches!(what, Offence::Indirect(_)));
            let vouched = function.and_then(|function| {
                let source = function.name();
                let index = annotations.iter().position(|one| one.is_about(&function.symbol, &source))?;
                Some((index, annotations.get(index)?, function.start, source))
            });
            let Some((index, annotation, start, source)) = vouched else {
                kept.insert((what, site), came);
                continue;
            };
            used.insert(index);
            let count = counts.entry((index, start)).or_default();
            *count = count.saturating_add(1);
            if *count > annotation.calls {
                kept.insert((what, site), came);
                continue;
            }
            let reason = annotation.reason.clone();
            found.insert(site, Annotated { address: site, function: source, reason });
        }
        self.offences = kept;
        let unused = annotations.iter().enumerate().filter(|(index, _)| !used.contains(index));
        (found.into_values().collect(), unused.map(|(_, annotation)| annotation.clone()).collect())
    }

    /// How much stack a function takes that calls somebody unknown is not known.
    fn count_on_nobody(&mut self) {
        for ((what, _), came) in &self.offences {
            if let (Offence::Indirect(_), Some(found)) = (what, self.nodes.get_mut(came.node)) {
                found.frame.loses();
            }
        }
    }

    /// One for each thing that is wrong, by its shortest path; indirect calls each by itself.
    fn violations(&self) -> Vec<Violation> {
        let mut by_kind: BTreeMap<(&Offence, u64), Violation> = BTreeMap::new();
        for ((what, site), came) in &self.offences {
            let each = matches!(what, Offence::Indirect(_) | Offence::Nameless | Offence::Undecodable);
            let violation = Violation { what: what.clone(), path: self.path(*came, what), others: 0 };
            match by_kind.get_mut(&(what, if each { *site } else { 0 })) {
                Some(known) if known.path.len() <= violation.path.len() => {
                    known.others = known.others.saturating_add(1)
                }
                Some(known) => *known = Violation { others: known.others.saturating_add(1), ..violation },
                None => {
                    by_kind.insert((what, if each { *site } else { 0 }), violation);
                }
            }
        }
        by_kind.into_values().collect()
    }

    /// From a root to `came`.
    fn path(&self, came: Came, what: &Offence) -> Vec<Hop> {
        let mut hops = Vec::new();
        let mut to = match what {
            Offence::Function(name) | Offence::Thread(name) | Offence::Late(name) => name.clone(),
            Offence::NoCode(address) => format!("{address:#x}"),
            Offence::Indirect(Reason::Variable(address) | Reason::Table(address)) => self.binary.describe(*address),
            _ => String::new(),
        };
        let mut next = Some(came);
        // A path visits no node twice.
        while let Some(came) = next.filter(|_| hops.len() <= self.nodes.len()) {
            let Some(node) = self.nodes.get(came.node) else { break };
            let part = self.binary.symbols.function(came.site).map(super::symbols::Function::name);
            let function = part.unwrap_or_else(|| self.entry_name(node.entry));
            hops.push(Hop { address: came.site, function, edge: came.edge, to });
            to = self.entry_name(node.entry);
            next = node.came;
        }
        hops.reverse();
        hops
    }
}
