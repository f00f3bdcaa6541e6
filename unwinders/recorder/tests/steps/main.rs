//! The recorder's writer interrupted, and killed, behind each of its instructions: by the trap flag, in the code that runs.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod cases;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod checks;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod memory;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod outcome;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod runs;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod stepping;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let mut arguments = Arguments::from_args();
    // Each test forks, and its child runs any code, which only that of a process of one thread may.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials()).exit();
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn trials() -> Vec<Trial> {
    vec![]
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn trials() -> Vec<Trial> {
    use checks::{interrupted, killed, pairs};
    use libtest_mimic::Failed;
    use runs::Case;

    /// Pairs that are drawn for each case, and how many where there is time.
    const PAIRS: [usize; 2] = [30, 400];

    let trial = |case: &'static Case, sentence: &str, check: fn(&'static Case) -> Result<(), String>| {
        Trial::test(format!("{} {sentence}", case.name), move || check(case).map_err(Failed::from))
    };
    let all = cases::CASES.iter().flat_map(|case| {
        [
            trial(case, "interrupted behind each instruction loses nothing", interrupted),
            trial(case, "killed behind each instruction loses only itself", killed),
            trial(case, "disturbed twice, at drawn instructions, loses only what is open", |case| {
                pairs(case, PAIRS[0])
            }),
            trial(case, "disturbed twice, at many drawn instructions", |case| pairs(case, PAIRS[1]))
                .with_ignored_flag(true),
        ]
    });
    all.collect()
}
