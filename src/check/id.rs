//! The names of checks: by these, what a check remembers is found again in the next run.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of a check within its service: `KIND:TARGET` (`log:/srv/a.log`), and `#2` behind it for a second check of
/// the same target. A table that moves in the file keeps its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CheckId(Arc<str>);

impl CheckId {
    /// Whether this names no check.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The kind that it begins with.
    pub fn kind(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }
}

impl From<String> for CheckId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
