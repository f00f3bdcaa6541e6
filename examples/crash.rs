//! Crashes, in the way that its argument says, with the crash handler installed.

fn main() -> Result<(), surestack::crash::InstallError> {
    let _guard = surestack::install()?;
    match std::env::args().nth(1).as_deref() {
        Some("null") => {
            // SAFETY: it is not.
            unsafe { std::ptr::without_provenance::<u32>(24).read_volatile() };
        }
        Some("overflow") => println!("{}", deep(0)),
        Some("thread") => drop(std::thread::spawn(|| println!("{}", deep(0))).join()),
        Some("abort") => std::process::abort(),
        Some("panic") => panic!("as it was asked to"),
        _ => eprintln!("give null, overflow, thread, abort or panic"),
    }
    Ok(())
}

fn deep(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 32]);
    if depth == u64::MAX { 0 } else { deep(depth + 1) + room[3] }
}
