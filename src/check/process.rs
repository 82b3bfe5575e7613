//! PID files, command lines and process states.

use std::path::PathBuf;

use super::pattern::Pattern;

/// A service's `process` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The PID file as the config has it, for messages.
    pub shown: String,
    /// The PID file, absolute.
    pub pid_file: Option<PathBuf>,
    /// Searched in the arguments joined by single spaces.
    pub command_line: Option<Pattern>,
    /// The effective user that the process must have, by name or number.
    pub user: Option<String>,
}
