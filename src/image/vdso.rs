//! The vDSO, which is no file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

/// The vDSO that this process has, from its first byte.
pub fn own_vdso() -> Option<&'static [u8]> {
    static OURS: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    OURS.get_or_init(read_own_vdso).as_deref()
}

fn read_own_vdso() -> Option<Vec<u8>> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]"))?;
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let mut bytes = vec![0; usize::try_from(end.checked_sub(start)?).ok()?];
    File::open("/proc/self/mem").ok()?.read_exact_at(&mut bytes, start).ok()?;
    Some(bytes)
}
