//! What is checked of a unit, and what the last run saw of it, for `why`.

use super::{LastSeen, Unit};

/// A sentence without its end. `has_process` says whether its process is known by other means.
pub fn explain(unit: &Unit, last_seen: Option<&LastSeen>, has_process: bool) -> String {
    let without_main = last_seen.is_some_and(|seen| seen.without_main) && !has_process;
    let what = if without_main {
        ", active without a main process: its end is not seen; a `process` table would know it"
    } else {
        ""
    };
    format!("unit {}{what}", unit.unit)
}
