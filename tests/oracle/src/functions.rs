//! Where functions begin and end, by the unwind information of their files, read without the library.

use crate::maps::Module;
use gimli::{BaseAddresses, EhFrame, LittleEndian, UnwindSection};
use object::{Object, ObjectSection, ObjectSegment};
use std::collections::HashMap;
use std::fs;
use std::ops::Range;

/// The functions of files, each file read once.
#[derive(Default)]
pub struct Functions {
    files: HashMap<String, File>,
}

#[derive(Default)]
struct File {
    low: u64,
    /// Linked addresses, ascending.
    ranges: Vec<Range<u64>>,
}

impl Functions {
    /// The function that holds `address`.
    pub fn at(&mut self, modules: &[Module], address: u64) -> Option<Range<u64>> {
        let module = modules.iter().find(|m| (m.base..m.end).contains(&address))?;
        let file = self.file(module);
        let linked = address - module.base + file.low;
        let i = file.ranges.partition_point(|range| range.start <= linked).checked_sub(1)?;
        let range = file.ranges.get(i).filter(|range| range.contains(&linked))?;
        Some(file.mapped(module, range))
    }

    /// The function before and the one behind the one that holds `address`.
    pub fn beside(&mut self, modules: &[Module], address: u64) -> Vec<Range<u64>> {
        let here = self.at(modules, address);
        let ends = here.map(|range| [range.start.wrapping_sub(1), range.end]).into_iter().flatten();
        ends.filter_map(|address| self.at(modules, address)).collect()
    }

    /// Some function of a module, chosen by two numbers.
    pub fn some(&mut self, modules: &[Module], module: usize, function: u64) -> Option<Range<u64>> {
        let module = modules.get(module)?;
        let file = self.file(module);
        let i = usize::try_from(function.checked_rem(file.ranges.len() as u64)?).ok()?;
        Some(file.mapped(module, file.ranges.get(i)?))
    }

    fn file(&mut self, module: &Module) -> &File {
        self.files.entry(module.name.clone()).or_insert_with(|| File::read(&module.name))
    }
}

impl File {
    fn mapped(&self, module: &Module, range: &Range<u64>) -> Range<u64> {
        let bias = module.base.wrapping_sub(self.low);
        range.start.wrapping_add(bias)..range.end.wrapping_add(bias)
    }

    fn read(path: &str) -> File {
        let mut file = File::default();
        let Ok(bytes) = fs::read(path) else { return file };
        let Ok(elf) = object::File::parse(&*bytes) else { return file };
        file.low = elf.segments().map(|s| s.address()).min().unwrap_or(0) & !0xfff;
        let Some(section) = elf.section_by_name(".eh_frame") else { return file };
        let Ok(data) = section.data() else { return file };
        let frames = EhFrame::new(data, LittleEndian);
        let bases = BaseAddresses::default().set_eh_frame(section.address());
        let mut entries = frames.entries(&bases);
        while let Ok(Some(entry)) = entries.next() {
            if let gimli::CieOrFde::Fde(partial) = entry
                && let Ok(fde) = partial.parse(|frames, bases, offset| frames.cie_from_offset(bases, offset))
            {
                let start = fde.initial_address();
                file.ranges.push(start..start.saturating_add(fde.len()));
            }
        }
        file.ranges.sort_by_key(|range| range.start);
        file
    }
}
