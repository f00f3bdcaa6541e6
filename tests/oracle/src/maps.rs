//! The mappings of a process, as `/proc/PID/maps` lists them.

use std::fs;

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Whether code in it can run.
    pub executable: bool,
    /// The file's path, or a name such as `[vdso]`, or nothing.
    pub name: String,
}

/// All mappings, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps(Vec<Mapping>);

impl Maps {
    /// Reads them. A process that is gone has none.
    pub fn of(pid: i32) -> Maps {
        let text = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        Maps(text.lines().filter_map(parse).collect())
    }

    /// The mapping that holds `address`.
    pub fn at(&self, address: u64) -> Option<&Mapping> {
        let i = self.0.partition_point(|m| m.end <= address);
        self.0.get(i).filter(|m| m.start <= address)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.0.iter()
    }

    /// Every file with executable code, with the lowest address at which it is mapped.
    pub fn modules(&self) -> Vec<Module> {
        let mut modules: Vec<Module> = Vec::new();
        let mut low: Option<&Mapping> = None;
        for mapping in &self.0 {
            if !mapping.name.starts_with('/') && mapping.name != "[vdso]" {
                continue;
            }
            if low.is_none_or(|l| l.name != mapping.name) {
                low = Some(mapping);
            }
            let base = low.map_or(mapping.start, |l| l.start.wrapping_sub(l.offset));
            let known = modules.iter().position(|m| m.name == mapping.name && m.base == base);
            let i = known.unwrap_or_else(|| {
                modules.push(Module { name: mapping.name.clone(), base, end: mapping.end, runs: false });
                modules.len() - 1
            });
            if let Some(module) = modules.get_mut(i) {
                module.end = mapping.end;
                module.runs |= mapping.executable;
            }
        }
        modules.retain(|m| m.runs);
        modules
    }
}

/// A file with code, where it is mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its path, or `[vdso]`.
    pub name: String,
    /// Where its first byte lies.
    pub base: u64,
    /// The first address behind it.
    pub end: u64,
    runs: bool,
}

fn parse(line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    let offset = fields.next()?;
    let name = fields.nth(2).unwrap_or_default().trim_start();
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        offset: u64::from_str_radix(offset, 16).ok()?,
        executable: permissions.contains('x'),
        name: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_maps_file_is_read_with_its_name() {
        let line = "7ffff7fc3000-7ffff7fc5000 r-xp 00001000 00:00 7   /lib/a b.so";
        let mapping = parse(line).expect("a mapping");
        assert_eq!((mapping.start, mapping.end, mapping.offset), (0x7fff_f7fc_3000, 0x7fff_f7fc_5000, 0x1000));
        assert!(mapping.executable);
        assert_eq!(mapping.name, "/lib/a b.so");
    }
}
