//! The victim with our own handler, or none.

mod rust;
mod start;

fn main() {
    start::start();
}

fn install(name: &str) -> Result<(), String> {
    match name {
        "ours" => {
            let guard = surestack::install().map_err(|error| error.to_string())?;
            std::mem::forget(guard);
            Ok(())
        }
        other => Err(format!("no contender {other} here")),
    }
}
