//! What in the configuration of a restart may not do what was meant: what the methods have in common.

pub(super) use crate::check::command_traps::{cannot_start, not_executable, of_program, of_words};

/// What only one service can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The key that says it, with dots.
    pub key: &'static str,
    /// What it is: `unit`.
    pub what: &'static str,
    /// Which one.
    pub value: String,
}
