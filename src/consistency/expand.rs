//! Targets as a user names them → all of their code: parts that the compiler split off, functions that inlined them.

use super::functions::{Function, Functions, STT_GNU_IFUNC};
use super::names::{Named, Place, Ranges, Several};
use super::target::{Part, Target, Version, Whose};
use super::world::Obstacle;
use crate::error::Error;
use crate::snapshot::{Identity, Snapshot};
use crate::symbol::{Inlined, Symbols, Wanted};
use std::ops::Range;
use std::path::Path;
use surestack_walk::{CodeAddress, Mapping, Modules};

/// Names that are listed where there may be many.
const LISTED: usize = 5;

/// Targets with all of their code.
#[derive(Clone, Debug, Default)]
pub struct Expanded {
    /// The targets, in the order in which they were named.
    pub targets: Vec<Target>,
    /// What is not known of them and not vouched for.
    pub obstacles: Vec<Obstacle>,
}

/// Finds the code of all that is named.
///
/// # Errors
/// When a name is no function's or several functions', or a range holds no code.
pub fn expand<'s>(snapshot: &'s Snapshot, symbols: &Symbols<'s>, names: &[Named]) -> Result<Expanded, Error> {
    let search = Search { snapshot, symbols, functions: Functions::of_all(snapshot) };
    let mut expanded = Expanded::default();
    for named in names {
        for found in search.find(named)? {
            if named.ranges == Ranges::Shown {
                let target = &found.target.name;
                let unknown = |why| Obstacle::InlinesUnknown { target: target.clone(), why };
                expanded.obstacles.extend(found.unknown.into_iter().map(unknown));
            }
            expanded.targets.push(found.target);
        }
    }
    Ok(expanded)
}

struct Search<'s, 'y> {
    snapshot: &'s Snapshot,
    symbols: &'y Symbols<'s>,
    functions: Vec<Functions<'s>>,
}

/// A target, and why more code may belong to it.
struct Found {
    target: Target,
    unknown: Vec<String>,
}

impl<'s> Search<'s, '_> {
    fn find(&self, named: &Named) -> Result<Vec<Found>, Error> {
        match &named.place {
            Place::Function { file, name } => self.by_name(named, file.as_deref(), name),
            Place::Addresses(range) => self.by_range(named, range.clone()).map(|found| vec![found]),
            Place::Linked { build_id, range } => {
                let mut modules = self.snapshot.space.modules.iter();
                let module = modules.find(|module| module.build_id.as_ref() == Some(build_id));
                let module = module.ok_or_else(|| bad(named, "no file with this build ID is mapped"))?;
                let place = |linked: u64| linked.wrapping_add(module.bias);
                self.by_range(named, place(range.start)..place(range.end)).map(|found| vec![found])
            }
        }
    }

    fn by_name(&self, named: &Named, file: Option<&str>, name: &str) -> Result<Vec<Found>, Error> {
        let mut found: Vec<(&Functions<'s>, Function<'s>)> = self.everywhere(file, |functions| functions.named(name));
        if found.is_empty() {
            // Only the variant that the compiler made of it is left.
            found = self.everywhere(file, |functions| functions.variants(name).take(1).collect());
        }
        if found.is_empty() {
            return self.inlined_only(named, file, name).map(|found| vec![found]);
        }
        if found.len() > 1 && named.several == Several::Refused {
            let found = found.iter().map(|(functions, function)| self.describe(functions, function)).collect();
            return Err(Error::SeveralFunctions { name: name.to_owned(), found });
        }
        let several = found.len() > 1;
        let target = |(functions, function): (&Functions<'s>, Function<'s>)| {
            let name = if several { self.describe(functions, &function) } else { named.name() };
            self.function(name, functions, &function)
        };
        Ok(found.into_iter().map(target).collect())
    }

    /// What `find` finds in the modules and source files that `file` may mean.
    fn everywhere(
        &self,
        file: Option<&str>,
        find: impl Fn(&Functions<'s>) -> Vec<Function<'s>>,
    ) -> Vec<(&Functions<'s>, Function<'s>)> {
        let mut all = vec![];
        for functions in &self.functions {
            let is_module = file.is_none_or(|file| is_file(&functions.module.path, file));
            let is_meant = |function: &Function<'_>| {
                is_module
                    || file.zip(self.source(functions, function)).is_some_and(|(file, source)| is_file(&source, file))
            };
            all.extend(find(functions).into_iter().filter(is_meant).map(|function| (functions, function)));
        }
        all
    }

    /// The source file that a function was written in.
    fn source(&self, functions: &Functions<'_>, function: &Function<'_>) -> Option<std::path::PathBuf> {
        let at = function.start.wrapping_add(functions.module.bias);
        let symbol = self.symbols.symbol(CodeAddress::Exact(at));
        Some(symbol.functions.last()?.location.as_ref()?.file.clone())
    }

    fn describe(&self, functions: &Functions<'_>, function: &Function<'_>) -> String {
        let object = file_name(&functions.module.path);
        let at = function.start.wrapping_add(functions.module.bias);
        match self.source(functions, function) {
            Some(source) => format!("{object}:{} at {at:#x} ({})", function.name, file_name(&source)),
            None => format!("{object}:{} at {at:#x}", function.name),
        }
    }

    fn function(&self, name: String, functions: &Functions<'s>, function: &Function<'s>) -> Found {
        let mut unknown = vec![];
        if function.kind == STT_GNU_IFUNC {
            unknown.push("it is chosen at load time; name the function that was chosen".to_owned());
        }
        if function.size == 0 {
            unknown.push("its symbol does not say how long it is".to_owned());
        }
        let range = functions.range(function);
        let body = Part { range: range.clone(), name: Some(function.name.to_owned()), whose: Whose::Body };
        let mut parts = vec![body];
        parts.extend(functions.variants(function.name).map(|variant| {
            let name = Some(variant.name.to_owned());
            Part { range: functions.range(&variant), name, whose: Whose::Split }
        }));
        self.complete(name, functions, parts, unknown)
    }

    fn by_range(&self, named: &Named, range: Range<u64>) -> Result<Found, Error> {
        if !matches!(self.snapshot.space.mapping(range.start), Mapping::Code | Mapping::Unknown) {
            return Err(bad(named, "it is not in executable memory"));
        }
        let module = self.snapshot.space.module(range.start).map(|(index, _)| index);
        let functions = self.functions.iter().find(|functions| Some(functions.index) == module);
        let Some(functions) = functions else {
            let unknown = vec!["nothing is known of the file it is in".to_owned()];
            return Ok(Found { target: Target::range(named.name(), range), unknown });
        };
        let linked = |address: u64| address.wrapping_sub(functions.module.bias);
        let range = linked(range.start)..linked(range.end);
        let body = Part { range: range.clone(), name: None, whose: Whose::Body };
        let variants = functions.within(&range).flat_map(|function| functions.variants(function.name));
        let split = variants.map(|variant| {
            let name = Some(variant.name.to_owned());
            Part { range: functions.range(&variant), name, whose: Whose::Split }
        });
        let parts = std::iter::once(body).chain(split).collect();
        Ok(self.complete(named.name(), functions, parts, vec![]))
    }

    /// The parts (linked addresses) with all that debug information knows beside, at their addresses in the process.
    fn complete(&self, name: String, functions: &Functions<'s>, parts: Vec<Part>, mut unknown: Vec<String>) -> Found {
        for part in &parts {
            if let Some((own, other)) = functions.folded(&part.range) {
                unknown.push(format!("{own} and {other} share their code"));
            }
        }
        let wanted = Wanted { bodies: parts.iter().map(|part| part.range.clone()).collect(), ..Wanted::default() };
        let inlined = self.symbols.inlined(functions.index, &wanted);
        let bias = functions.module.bias;
        let mut target = Target { name, parts: vec![], live: Version::Original, overwritten: None };
        parts.into_iter().for_each(|part| add(&mut target, part, bias));
        let Some(inlined) = inlined else {
            unknown.push(format!("{} has no debug information", file_name(&functions.module.path)));
            return Found { target, unknown };
        };
        if inlined.sources.is_empty() {
            unknown.push("debug information does not describe it".to_owned());
        }
        self.add_inlined(&mut target, functions, &inlined, &mut unknown);
        self.add_other_modules(&mut target, functions.index, &inlined, &mut unknown);
        Found { target, unknown }
    }

    fn add_inlined(
        &self,
        target: &mut Target,
        functions: &Functions<'_>,
        inlined: &Inlined,
        unknown: &mut Vec<String>,
    ) {
        let object = file_name(&functions.module.path);
        unknown.extend(inlined.missed.map(|why| format!("of {object}, {why}")));
        let outside = functions.outside(&inlined.described);
        if !outside.is_empty() {
            let named: Vec<&str> = outside.iter().take(LISTED).copied().collect();
            let more = if outside.len() > LISTED { ", …" } else { "" };
            let count = outside.len();
            unknown
                .push(format!("{count} functions of {object} have no debug information: {}{more}", named.join(", ")));
        }
        let bias = functions.module.bias;
        for range in &inlined.own {
            add(target, Part { range: range.clone(), name: None, whose: Whose::Split }, bias);
        }
        for host in &inlined.hosts {
            for range in &host.ranges {
                let name = Some(host.name.clone());
                add(target, Part { range: range.clone(), name, whose: Whose::Host }, bias);
            }
        }
    }

    /// A function from a file that others may have included can have been inlined in other modules too.
    fn add_other_modules(&self, target: &mut Target, own: usize, inlined: &Inlined, unknown: &mut Vec<String>) {
        if !inlined.sources.iter().any(|source| source.shared) {
            return;
        }
        let wanted = Wanted { sources: inlined.sources.clone(), ..Wanted::default() };
        for (index, module) in self.snapshot.space.modules.iter().enumerate() {
            if index == own || module.path.as_os_str() == "[vdso]" {
                continue;
            }
            let functions = self.functions.iter().find(|functions| functions.index == index);
            let found = functions.zip(self.symbols.inlined(index, &wanted));
            match found.filter(|_| module.identity != Identity::Unchecked) {
                Some((functions, inlined)) => self.add_inlined(target, functions, &inlined, unknown),
                None => unknown.push(format!(
                    "it may have been included elsewhere, and {} has no debug information",
                    file_name(&module.path)
                )),
            }
        }
    }

    /// A function that has no code of its own: it was inlined wherever it is used.
    fn inlined_only(&self, named: &Named, file: Option<&str>, name: &str) -> Result<Found, Error> {
        let wanted = Wanted { names: vec![name.to_owned()], ..Wanted::default() };
        for functions in &self.functions {
            let Some(inlined) = self.symbols.inlined(functions.index, &wanted) else { continue };
            let is_meant = file.is_none_or(|file| is_file(&functions.module.path, file));
            if inlined.hosts.is_empty() || !is_meant {
                continue;
            }
            let mut target = Target { name: named.name(), parts: vec![], live: Version::Original, overwritten: None };
            let mut unknown = vec![];
            self.add_inlined(&mut target, functions, &inlined, &mut unknown);
            self.add_other_modules(&mut target, functions.index, &inlined, &mut unknown);
            return Ok(Found { target, unknown });
        }
        let near = self.functions.iter().flat_map(|functions| functions.near(name));
        let near = near.take(LISTED).map(str::to_owned).collect();
        Err(Error::NoFunction { name: named.name(), near })
    }
}

/// Adds a part at its linked addresses, unless it is there.
fn add(target: &mut Target, part: Part, bias: u64) {
    let range = part.range.start.wrapping_add(bias)..part.range.end.wrapping_add(bias);
    let is_inside = |known: &Part| known.range.start <= range.start && range.end <= known.range.end;
    if !target.parts.iter().any(is_inside) {
        target.parts.push(Part { range, ..part });
    }
}

fn bad(named: &Named, why: &str) -> Error {
    Error::BadTarget { target: named.name(), why: why.to_owned() }
}

/// Whether a user who wrote `file` may mean the file at `path`.
fn is_file(path: &Path, file: &str) -> bool {
    path == Path::new(file) || path.file_name().is_some_and(|name| name == file)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
