//! What naming a trace costs.
//!
//! `cargo bench --bench names`.

#[path = "fast/names.rs"]
mod names;

fn main() {
    if let [_, cold, whose] = &std::env::args().collect::<Vec<_>>()[..]
        && cold == "--cold"
    {
        return names::cold(whose);
    }
    print!("{}", names::tables());
}
