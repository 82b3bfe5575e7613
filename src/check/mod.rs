//! What can be seen of a service, and what is wrong with it.
//!
//! Each kind of check has a file: it looks, and gives back [`Finding`]s for people and for the policy, and
//! evidence for the next run and for the restart. Nothing above this room knows how a kind of check looks;
//! nothing in it knows what will be done about a finding.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use self::process::Presence;

pub mod log;
pub mod pattern;
pub mod port;
pub mod process;
pub mod unit;

/// The kinds of checks there are: a new kind is a file beside this one, and a line here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// PID files, command lines and process states.
    Process,
    /// systemd units.
    Unit,
    /// Freshness and patterns of log files.
    Log,
}

/// How bad a finding is, in the order of the exit codes: what could not be seen is worse than a warning, and
/// what is surely broken is worse than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Told, and never a reason to restart.
    Warning,
    /// Could not be seen, and so never a reason to restart.
    Unknown,
    /// A reason to restart.
    Critical,
}

/// One thing that a check found, the only thing that the policy and the reports know of checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The kind of check that found it.
    pub check: Kind,
    /// What it is, by a name that scripts rely on: `log_stale`.
    pub code: Cow<'static, str>,
    /// How bad it is.
    pub severity: Severity,
    /// A sentence with the figures in it, for a person.
    pub message: String,
}

impl Finding {
    /// A finding of a kind of check.
    pub fn new(
        check: Kind,
        code: &'static str,
        severity: Severity,
        message: impl Into<String>,
    ) -> Self {
        Self {
            check,
            code: Cow::Borrowed(code),
            severity,
            message: message.into(),
        }
    }
}

/// The code of a check that was given up after its time limit.
pub const TIMED_OUT: &str = "check_timed_out";

/// The worst severity among findings, if there are any.
pub fn worst<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Option<Severity> {
    findings.into_iter().map(|finding| finding.severity).max()
}

/// All that the checks of one service gave in one run.
#[derive(Clone, Debug)]
pub struct Observation {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What a person should know although nothing is wrong with the service.
    pub notes: Vec<String>,
    /// Whether its process runs, and which one that is.
    pub presence: Presence,
    /// What to remember of its process.
    pub process: process::Memo,
    /// What systemd said of its unit, where it has one.
    pub unit: Option<unit::Seen>,
    /// Where its logs were read to.
    pub marks: log::Marks,
    /// The last lines of its logs.
    pub tail: log::Tail,
    /// Something was found that must not count twice, though it may be no finding yet.
    pub evidence: bool,
}

impl Observation {
    /// The PID of the main process, where one runs.
    pub fn pid(&self) -> Option<i32> {
        match &self.presence {
            Presence::Running(running) => Some(running.main.pid),
            _ => None,
        }
    }
}
