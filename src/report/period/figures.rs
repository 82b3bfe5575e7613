//! What a report of a stretch of time says, as values; they are its JSON as well.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};

use crate::check::Severity;
use crate::clock::age;
use crate::restart::{MethodName, Operation};

/// What a stretch of time came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeriodReport {
    /// 1.
    pub version: u32,
    /// The name of this machine.
    pub host: String,
    /// The beginning.
    pub from: DateTime<Utc>,
    /// The end.
    pub to: DateTime<Utc>,
    /// The time of the oldest entry of the journal; what was before it is not known. Absent: it is empty.
    pub journal_from: Option<DateTime<Utc>>,
    /// The last run that was recorded.
    pub last_run: Option<DateTime<Utc>>,
    /// The services, in the order of the config; those that it no longer has, and to which something happened, behind them.
    pub services: Vec<ServicePeriod>,
    /// When no run was made for longer than there should have been one.
    pub silent: Vec<Span>,
    /// What became of messages, by channel.
    pub messages: BTreeMap<String, MessageCounts>,
    /// The watchdog's own troubles.
    pub troubles: Vec<OwnTrouble>,
}

/// What a stretch of time came to for one service.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ServicePeriod {
    /// Its name.
    pub name: String,
    /// The restarts that were made, those that failed included.
    pub restarts: usize,
    /// Those of them that failed.
    pub restarts_failed: usize,
    /// The same of repairs.
    pub repairs: usize,
    /// Those of them that failed.
    pub repairs_failed: usize,
    /// How often it failed: times of trouble in which there was more than warnings.
    pub failures: usize,
    /// How long it was not well: warnings and what could not be seen included, pauses and starts left out.
    #[serde(rename = "not_well_s", serialize_with = "seconds")]
    pub not_well: Duration,
    /// The mean time from one restart to the next; absent where there were not two.
    #[serde(rename = "mean_between_restarts_s", serialize_with = "perhaps_seconds")]
    pub mean_between_restarts: Option<Duration>,
    /// The longest trouble, from its beginning, which may be before that of the report.
    pub longest_trouble: Option<Span>,
    /// Whether its last trouble goes on.
    pub in_trouble: bool,
    /// Each attempt: what it was made for, and how it ended.
    pub attempts: Vec<AttemptMade>,
}

/// From when to when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// The beginning.
    pub from: DateTime<Utc>,
    /// The end; absent: it goes on.
    pub to: Option<DateTime<Utc>>,
    /// How long it was, or is so far.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub lasted: Duration,
}

impl Span {
    pub(super) fn new(from: DateTime<Utc>, to: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Self {
        Self {
            from,
            to,
            lasted: age(to.unwrap_or(now), from),
        }
    }
}

/// An attempt to restart or repair a service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttemptMade {
    /// When.
    pub time: DateTime<Utc>,
    /// What was done; absent: nobody saw its end.
    pub kind: Option<Operation>,
    /// By which method.
    pub method: Option<MethodName>,
    /// Whether it worked.
    pub ok: bool,
    /// What it was made for.
    pub findings: Vec<Reason>,
    /// Why it failed.
    pub error: Option<String>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The first facts of what its process was doing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<String>,
    /// The file with all of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

/// A finding that an attempt was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Its code.
    pub code: String,
    /// Its severity.
    pub severity: Severity,
    /// Its sentence.
    pub message: String,
}

/// What became of the messages on a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MessageCounts {
    /// Those that somebody has.
    pub sent: usize,
    /// How often one was refused.
    pub refused: usize,
    /// Those that were given up.
    pub given_up: usize,
}

/// Trouble of the watchdog itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnTrouble {
    /// When.
    pub time: DateTime<Utc>,
    /// What, as a sentence.
    pub message: String,
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}

#[expect(clippy::ref_option, reason = "serde hands it so")]
fn perhaps_seconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_some(&duration.as_secs()),
        None => serializer.serialize_none(),
    }
}

impl ServicePeriod {
    /// Whether nothing is to be told of it.
    pub fn is_quiet(&self) -> bool {
        self.restarts == 0
            && self.repairs == 0
            && self.attempts.is_empty()
            && self.longest_trouble.is_none()
    }
}
