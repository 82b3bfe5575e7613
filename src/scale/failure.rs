//! Why a change failed.

/// Why a change failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// A sentence.
    pub(super) error: String,
    /// The last lines that a command wrote.
    pub(super) lines: Vec<String>,
}

impl From<String> for Failure {
    fn from(error: String) -> Self {
        Self {
            error,
            lines: Vec::new(),
        }
    }
}
