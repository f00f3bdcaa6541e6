//! What naming a trace costs.
//!
//! `cargo bench --bench names`.

#[path = "fast/names.rs"]
mod names;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.as_slice() {
        [_, cold, whose, folder] if cold == names::WORD => names::cold(whose, folder),
        _ => print!("{}", names::tables()?.0),
    }
    Ok(())
}
