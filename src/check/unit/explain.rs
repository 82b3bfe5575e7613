//! What is checked of a unit, for `why`.

use super::Unit;

/// A sentence without its end.
pub fn explain(unit: &Unit) -> String {
    format!("unit {}", unit.unit)
}
