//! Log files: how fresh they are, what their last lines show, what is new in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::pattern::Pattern;
use super::{Finding, Severity};
use crate::clock::Reading;

/// One `[[service.NAME.log]]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The path as the config has it, for messages.
    pub shown: String,
    /// The absolute path; it may be a glob, which takes its newest match.
    pub path: PathBuf,
    /// The freshness limit; absent: freshness is not judged.
    pub max_age: Option<Duration>,
    /// How many last lines `expect` sees, and `forbid` on a first run. At least 1.
    pub lines: usize,
    /// Each must match at least so many of the last lines.
    pub expect: Vec<Expect>,
    /// Each may match at most so many of the new lines.
    pub forbid: Vec<Forbid>,
    /// How lines are stamped, where the age is that of the newest stamp and not the modification time.
    pub stamp: Option<Stamp>,
    /// The worst that a finding of this log can be: [`Severity::Critical`] or [`Severity::Warning`].
    pub severity: Severity,
}

/// A pattern that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// What is searched for in each line.
    pub pattern: Pattern,
    /// How many of the last lines must match. At least 1.
    pub at_least: u64,
}

/// A pattern that must not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forbid {
    /// What is searched for in each new line.
    pub pattern: Pattern,
    /// How many new lines may match.
    pub at_most: u64,
}

/// How the lines of a log are stamped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// A chrono format.
    pub format: String,
    /// Literal text before the stamp; empty: the line begins with the stamp.
    pub after: String,
    /// The zone of a stamp that names none.
    pub zone: Zone,
}

/// A zone for stamps without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Zone {
    /// The zone of this machine.
    Local,
    /// UTC.
    Utc,
}

/// What the judgement of a log depends on beside the log.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The time of this run.
    pub now: &'a Reading,
    /// When the wall clock last jumped or the machine last slept: ages are not judged until `max_age` has
    /// passed since.
    pub jumped_at: Option<DateTime<Utc>>,
    /// Who may have written what is new.
    pub author: Author,
}

/// Who wrote the lines that are new since the last run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// Surely the process that runs now; or the service has no process that could be known.
    Present,
    /// Perhaps an earlier process: its lines are warnings.
    Perhaps,
}

/// Where a log was read to: kept from run to run. Facts about the file, no judgement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mark {}

/// The marks of a service's logs, by the path in its config.
pub type Marks = BTreeMap<String, Mark>;

/// What looking at a log gave.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What a person should know although nothing is wrong with the service: lines that could not be read any
    /// more, and the like.
    pub notes: Vec<String>,
    /// Where the log was read to; absent where nothing could be read, and the former mark stands.
    pub mark: Option<Mark>,
    /// The last few lines, for a mail: lossy UTF-8, control characters still in them.
    pub tail: Vec<String>,
}

/// Looks at one log.
pub fn look(_rule: &Rule, _mark: Option<&Mark>, _context: Context<'_>) -> Seen {
    Seen::default()
}

/// A mark at the present end of a log: what is in it now is not judged again. Taken when a restart has stopped
/// the old process.
pub fn mark_end(_rule: &Rule, _mark: Option<&Mark>) -> Option<Mark> {
    None
}

/// The file that a log's path means now: itself, or the newest match of a glob.
pub fn resolve(path: &Path) -> Option<PathBuf> {
    Some(path.to_owned())
}
