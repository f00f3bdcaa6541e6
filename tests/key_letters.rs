//! aarch64 code whose return addresses are signed with the B key, as clang compiles it.

mod skip;

use std::path::Path;
use std::process::Command;
use surestack::image::Image;
use surestack::snapshot::{AddressSpace, Identity, LoadedModule, Mapped};
use surestack_cfi::{DwarfRows, Lookup, Rows};
use surestack_walk::{AARCH64, Bytes, CodeAddress, NoEvidence, Registry, Stop, Target};

const SOURCE: &str = "int g(int); int f(int a) { return g(a) + 1; }";

#[test]
fn functions_signed_with_the_b_key_have_rows() {
    let directory = std::env::temp_dir().join(format!("surestack-key-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("f.c"), SOURCE).unwrap();
    let line = "clang --target=aarch64-linux-gnu -O2 -fuse-ld=lld -nostdlib -shared -mbranch-protection=pac-ret+b-key \
                -fasynchronous-unwind-tables f.c -o f.so";
    let built = Command::new("sh").args(["-c", line]).current_dir(&directory).status().unwrap();
    if !built.success() {
        assert!(std::env::var_os("CI").is_none(), "clang and lld are wanted here");
        skip::skipped("no clang that compiles for aarch64");
        return;
    }
    let image = Image::open(&directory.join("f.so")).unwrap();
    let bytes = image.unwind().eh_frame.unwrap().bytes.to_vec();
    assert!(!bytes.windows(4).any(|letters| letters == b"zRB\0"), "the letter is gone");
    let code = image.segments().iter().find(|segment| segment.flags & 1 != 0).copied().unwrap();
    let (start, end) = (code.address, code.address + code.memory_size);
    let module = LoadedModule {
        start: 0,
        end,
        bias: 0,
        path: Path::new("f.so").to_owned(),
        build_id: None,
        image: Some(image.into()),
        debug: None,
        identity: Identity::Memory,
    };
    let mapped = Mapped { start: 0, end, executable: Some(true), writable: Some(false), file: None, probe: None };
    let space = AddressSpace { mappings: vec![mapped], modules: vec![module], ..AddressSpace::default() };
    let target = Target {
        arch: &AARCH64,
        memory: &Bytes { address: 0, bytes: &[] },
        modules: &space,
        stacks: &space,
        registry: &Registry::default(),
        evidence: &NoEvidence,
        stop: Stop::default(),
    };
    let begins = |pc| DwarfRows.row(&target, CodeAddress::Exact(pc), |row| row.function.0);
    let covered = (start..end).step_by(4).filter(|&pc| matches!(begins(pc), Ok(Lookup::Row(start)) if start <= pc));
    assert!(covered.count() >= 6, "the instructions of f");
    std::fs::remove_dir_all(&directory).unwrap();
}
