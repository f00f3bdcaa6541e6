//! Every scene once: without a handler, to know that it is what it says; and under our own handler.

use libtest_mimic::{Arguments, Failed, Trial};
use std::path::Path;
use surestack_crash_scenes::contender::Contender;
use surestack_crash_scenes::run;
use surestack_crash_scenes::scenes::{Outside, SCENES, Scene};
use surestack_crash_scenes::victim::Victim;

fn main() {
    let arguments = Arguments::from_args();
    let victim = Victim::at(Path::new(env!("CARGO_BIN_EXE_surestack-crash-victim"))).expect("the victim was built");
    // What was sent from outside is lost in std's own handler: without another one, those victims live.
    let ending = SCENES.iter().filter(|scene| scene.outside != Outside::Signal);
    let trials = ending.map(|scene| {
        let victim = victim.clone();
        Trial::test(format!("without_a_handler::{}_ends_and_the_truth_is_kept", scene.name), move || {
            is_what_it_says(&victim, scene)
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// It ends by its own fault, having begun its chain.
fn is_what_it_says(victim: &Victim, scene: &Scene) -> Result<(), Failed> {
    let death = run::run(victim, scene, Contender::None)?;
    if death.is_unable() {
        println!("skipped: {} cannot be set up here", scene.name);
        return Ok(());
    }
    if death.truths.iter().any(|t| t.unable != 0) {
        return Err(format!("it was not set up: {}", death.text).into());
    }
    match death.fate() {
        None => return Err("it hangs".into()),
        Some(0) if scene.name != "panic_thread" => return Err("it does not die".into()),
        _ => {}
    }
    let begun = death.truths.iter().any(|t| t.chain.len() >= 6);
    let ran_on = death.truths.iter().any(|t| t.survived);
    match (begun, ran_on) {
        (true, false) => Ok(()),
        (false, _) => Err("it kept no truth".into()),
        (true, true) => Err("it ran on over its fault".into()),
    }
}
