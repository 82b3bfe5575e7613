//! The config from the outside.

use std::path::Path;

use super::*;

mod discover;
mod example;
mod faults;
mod files;
mod included;
mod meaning;
mod scales;

/// The process environment of a test: root's, with nothing set.
fn bare() -> Environment {
    Environment::default()
}

/// Where the configs of these tests are said to be.
const PLACE: &str = "/etc/watchdog/watchdog.toml";

/// Parses what must be right.
fn good(text: &str) -> Config {
    parse(text, Path::new(PLACE), &bare())
        .unwrap_or_else(|faults| panic!("{}\n{text}", told(&faults)))
}

/// Parses what must be wrong.
fn bad(text: &str) -> Vec<Fault> {
    parse(text, Path::new(PLACE), &bare()).expect_err(text)
}

/// Faults as a person sees them.
fn told(faults: &[Fault]) -> String {
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    faults.join("\n\n")
}
