//! Runs scenes, prints what became of them, and writes the table.

use std::env;
use std::process::ExitCode;
use surestack_crash_scenes::contender::Contender;
use surestack_crash_scenes::victims::Victims;
use surestack_crash_scenes::{run, scenes, table};
use surestack_oracle::error::{Error, Result};

const USAGE: &str = "usage: surestack-crash-scenes COMMAND
    table [--write FILE]       every scene under every handler
    scene NAME HANDLER         one of them, with everything it left
    list                       the scenes";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match command(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn command(words: &[&str]) -> Result<()> {
    match words {
        ["list"] => {
            for scene in scenes::SCENES {
                println!("{:24}{}", scene.name, scene.says);
            }
            Ok(())
        }
        ["scene", name, contender] => one(name, contender),
        ["table"] => {
            table::table(&Victims::built()?, &mut |row| print!("{row}"))?;
            Ok(())
        }
        ["table", "--write", path] => {
            let text = table::table(&Victims::built()?, &mut |row| print!("{row}"))?;
            surestack_oracle::document::write(path, "crash handlers", &text)
        }
        _ => Err(Error::new(USAGE)),
    }
}

fn one(name: &str, contender: &str) -> Result<()> {
    let scene = scenes::named(name).ok_or_else(|| Error::new(format!("no scene is called {name}")))?;
    let contender = Contender::named(contender)
        .ok_or_else(|| Error::new(format!("no handler is called {contender}, or it is not compiled in")))?;
    let victims = Victims::built()?;
    let victim = victims.of(contender)?;
    let death = run::run(victim, &scene, contender, &[])?;
    println!("{}", death.text);
    for truth in &death.truths {
        println!("truth: pc {:x?}, survived {}, calls {:?}", truth.pc, truth.survived, truth.calls);
        for entry in truth.chain.iter().take(40) {
            println!("    {:x?}", entry.known);
        }
    }
    println!("fate {:x?} in {:?}; {:?}", death.fate(), death.took, death.trace(contender, victim));
    for left in &death.records {
        println!("record: {} threads, done {}, {:?}", left.threads, left.done, left.troubles);
        println!("    frames {:x?}", left.frames.iter().take(40).collect::<Vec<_>>());
    }
    println!("registers right: {:?}", death.registers_are_right());
    println!("left in {}", death.directory.display());
    Ok(())
}
