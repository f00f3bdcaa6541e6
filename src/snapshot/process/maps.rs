//! Lines of `/proc/PID/maps`.

use crate::snapshot::Mapped;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use surestack_walk::ProbeKind;

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub start: u64,
    pub end: u64,
    pub writable: bool,
    pub executable: bool,
    pub offset: u64,
    /// Device of the file, as written there.
    pub device: String,
    /// 0 when there is no file.
    pub inode: u64,
    /// Path of the file, or a name in brackets.
    pub path: Option<PathBuf>,
}

/// The mappings in the text of `/proc/PID/maps`.
pub(super) fn parse(text: &[u8]) -> Vec<Map> {
    text.split(|&byte| byte == b'\n').filter_map(Map::parse).collect()
}

impl Map {
    /// A mapping from `start-end perms offset device inode path`.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut rest = line;
        let mut field = || {
            rest = rest.trim_ascii_start();
            let length = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
            let (field, after) = rest.split_at_checked(length)?;
            rest = after;
            std::str::from_utf8(field).ok()
        };
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let (start, end) = field()?.split_once('-')?;
        let permissions = field()?.as_bytes();
        let (offset, device) = (hex(field()?)?, field()?.to_owned());
        let inode = field()?.parse().ok()?;
        let path = rest.trim_ascii_start();
        Some(Self {
            start: hex(start)?,
            end: hex(end)?,
            writable: permissions.contains(&b'w'),
            executable: permissions.contains(&b'x'),
            offset,
            device,
            inode,
            path: (!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path))),
        })
    }

    /// The same without its name: a file that is deleted stays mapped, under another one.
    pub fn unnamed(self) -> Self {
        Self { path: None, ..self }
    }

    /// As a snapshot has it.
    pub fn mapped(self) -> Mapped {
        let probe = match self.path.as_deref().and_then(Path::to_str) {
            Some("[uprobes]") => Some(ProbeKind::Return),
            Some("[uprobes-trampoline]") => Some(ProbeKind::Nop),
            _ => None,
        };
        let file = if self.inode == 0 { None } else { self.path.map(|path| (path, self.offset)) };
        let (executable, writable) = (Some(self.executable), Some(self.writable));
        Mapped { start: self.start, end: self.end, executable, writable, file, probe }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_and_spaces_belong_to_the_path() {
        let line = b"7f12a000-7f12c000 r-xp 00002000 08:01 1234                       /a b/c (deleted)";
        let map = Map::parse(line).unwrap();
        assert_eq!((map.start, map.end, map.offset, map.inode), (0x7f12_a000, 0x7f12_c000, 0x2000, 1234));
        assert_eq!((map.writable, map.executable), (false, true));
        assert_eq!(map.path, Some(PathBuf::from("/a b/c (deleted)")));
        assert_eq!(map.mapped().file, Some((PathBuf::from("/a b/c (deleted)"), 0x2000)));
    }

    #[test]
    fn memory_without_a_file_has_none() {
        let map = Map::parse(b"7ffc0000-7ffe1000 rw-p 00000000 00:00 0                          [stack]").unwrap();
        assert_eq!(map.path, Some(PathBuf::from("[stack]")));
        assert_eq!(map.mapped().file, None);
        assert_eq!(Map::parse(b"7ffc0000-7ffe1000 rw-p 00000000 00:00 0").unwrap().path, None);
        assert_eq!(Map::parse(b""), None);
    }
}
