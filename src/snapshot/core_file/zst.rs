//! The core's bytes, decompressed first when the file is compressed with zstd (as systemd stores cores).

use crate::error::Error;
use crate::image;
use memmap2::Mmap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// The magic number of a zstd frame.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Largest core that is decompressed, holes included.
const LARGEST: u64 = 64 << 30;
/// Runs of zeros are left out of the temporary file in steps of this size.
const BLOCK: usize = 64 << 10;

/// The contents of a core.
pub(super) struct Contents {
    /// All of it, for its headers and notes.
    pub map: Mmap,
    /// The same file, for its memory.
    pub file: File,
    /// What went wrong when not all of it could be had.
    pub cut: Option<String>,
}

/// The contents of the core at `path`.
pub(super) fn contents(path: &Path) -> Result<Contents, Error> {
    let map = image::map(path)?;
    let refused = |source| Error::Read { path: path.to_owned(), source };
    if map.get(..4) != Some(&MAGIC) {
        let file = File::open(path).map_err(refused)?;
        return Ok(Contents { map, file, cut: None });
    }
    let mut plain = temporary().map_err(refused)?;
    let end = decompress(&map, &mut plain);
    let size = plain.metadata().map_err(refused)?.len();
    let cut = match end {
        Err(why) if size == 0 => return Err(Error::Compressed { path: path.to_owned(), why: why.to_string() }),
        Err(why) => Some(format!("it does not decompress beyond {size} bytes: {why}")),
        Ok(()) => None,
    };
    // SAFETY: the file is unlinked and ours alone, nobody can change or shorten it while it is mapped.
    let map = unsafe { Mmap::map(&plain) };
    Ok(Contents { map: map.map_err(refused)?, file: plain, cut })
}

/// A file without a name; it is gone when it is closed.
fn temporary() -> io::Result<File> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // Relaxed: the count only has to differ between calls.
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("surestack-{}-{count}.core", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Writes what `packed` holds to `plain`, frame after frame, zeros as holes. What came before an error stays.
fn decompress(packed: &[u8], plain: &mut File) -> io::Result<()> {
    let mut source = packed;
    let mut size = 0u64;
    let mut block = vec![0; BLOCK];
    while !source.is_empty() {
        let mut input = BufReader::with_capacity(BLOCK, source);
        let consumed = {
            let decoder = ruzstd::decoding::StreamingDecoder::new(&mut input);
            let mut decoder = decoder.map_err(|why| io::Error::other(why.to_string()))?;
            loop {
                let (filled, end) = fill(&mut decoder, &mut block);
                let bytes = block.get(..filled).unwrap_or_default();
                if bytes.iter().any(|&byte| byte != 0) {
                    plain.seek(SeekFrom::Start(size))?;
                    plain.write_all(bytes)?;
                }
                size = size.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
                if size > LARGEST {
                    return Err(io::Error::other("it is larger than 64 GiB"));
                }
                end?;
                if filled < block.len() {
                    break;
                }
            }
            plain.set_len(size)?;
            let buffered = input.buffer().len();
            let left = input.get_ref().len().saturating_add(buffered);
            source.len().saturating_sub(left)
        };
        source = source.get(consumed.max(1)..).unwrap_or_default();
    }
    Ok(())
}

/// Fills `block` as far as there is data; how much it was, and the error that ended it.
fn fill(from: &mut impl Read, block: &mut [u8]) -> (usize, io::Result<()>) {
    let mut filled = 0usize;
    while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(read) => filled = filled.saturating_add(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Err(error)),
        }
    }
    (filled, Ok(()))
}
