//! Alerting a person: the alerts of a run become one notification a channel, and each channel sends it in its own form.
//!
//! [`digest::compose`] is pure: alerts in, one [`Notification`] out. A [`Channel`] is of one of the kinds in the list of
//! `channel.rs`; each is a [`ChannelKind`] in a file of its own. It renders a notification (pure), and sends it: whatever
//! the other side does, it comes back within its time limit with a [`DeliveryReport`] that has an outcome for each recipient,
//! so that the caller can keep what is still pending and for whom, in the [`outbox`]. What is alerted about, and when
//! again, is decided above.

use std::hash::{BuildHasher, Hasher, RandomState};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::check::Finding;
use crate::restart::Action;

pub mod alertmanager;
mod answers;
mod channel;
pub mod digest;
pub mod discord;
pub mod exec;
mod facts;
pub mod gotify;
mod kind;
mod layout;
pub mod mail;
mod notification;
pub mod ntfy;
pub mod outbox;
mod own;
pub mod pagerduty;
pub mod ping;
mod post;
mod posted;
pub mod pushover;
pub mod quiet;
pub mod redis;
mod report;
mod routing;
mod safe;
mod sentences;
mod shorten;
pub mod slack;
pub mod teams;
pub mod telegram;
pub mod webhook;

pub use crate::secret::Secret;
pub(crate) use channel::Tables;
pub use channel::{Attempt, Channel, ChannelSettings};
pub use kind::{ChannelKind, Private};
pub use notification::{Notification, Thread};
pub use report::{DeliveryReport, Outcome, Pause, Paused, Recipient};
pub use routing::{Common, Routing, means};
pub use sentences::command;

/// How much a notification matters, the most last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look at it some time.
    Warning,
    /// The watchdog's own trouble.
    Error,
    /// A service does not run, and is not brought back.
    Critical,
}

/// What a person can be alerted about, in the order of how much it matters, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// What a day came to: somebody has asked for it to be sent.
    Report,
    /// The first run with a new state: from here on the services are looked after.
    Started,
    /// All is well again after trouble that was reported.
    Recovered,
    /// More or fewer replicas run, as the load asks for.
    Scaled,
    /// Warnings only.
    Degraded,
    /// The load asks for more replicas than there may be.
    AtMax,
    /// Repaired by a command.
    Repaired,
    /// Restarted and verified.
    Restarted,
    /// Something could not be seen.
    Unknown,
    /// Broken, and nothing the watchdog may do about it.
    Down,
    /// A repair failed.
    RepairFailed,
    /// More or fewer replicas were to run, and do not.
    ScaleFailed,
    /// A restart failed.
    RestartFailed,
    /// Broken, and the restart budget is spent.
    Exhausted,
    /// The watchdog's own trouble: a damaged state, a run that was cut short. Always reported.
    Watchdog,
    /// Nothing happened: a person tries whether messages arrive.
    Test,
}

impl Event {
    /// Its name in configs, headers and the journal.
    pub fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Started => "started",
            Self::Recovered => "recovered",
            Self::Scaled => "scaled",
            Self::AtMax => "at_max",
            Self::ScaleFailed => "scale_failed",
            Self::Degraded => "degraded",
            Self::Repaired => "repaired",
            Self::Restarted => "restarted",
            Self::Unknown => "unknown",
            Self::Down => "down",
            Self::RepairFailed => "repair_failed",
            Self::RestartFailed => "restart_failed",
            Self::Exhausted => "exhausted",
            Self::Watchdog => "watchdog",
            Self::Test => "test",
        }
    }

    /// Whether it is reported once in an incident, however long that lasts; all others again after `remind_every`.
    pub fn is_once_an_incident(self) -> bool {
        matches!(self, Self::Degraded | Self::AtMax | Self::Unknown)
    }

    /// Whether a service is in trouble by it, and so far nothing has ended that.
    pub fn is_trouble(self) -> bool {
        match self {
            Self::Degraded
            | Self::AtMax
            | Self::Unknown
            | Self::Down
            | Self::RepairFailed
            | Self::ScaleFailed
            | Self::RestartFailed
            | Self::Exhausted => true,
            Self::Report
            | Self::Started
            | Self::Recovered
            | Self::Scaled
            | Self::Repaired
            | Self::Restarted
            | Self::Watchdog
            | Self::Test => false,
        }
    }

    /// How much it matters.
    pub fn severity(self) -> Severity {
        match self {
            Self::Report | Self::Started | Self::Recovered | Self::Scaled | Self::Test => {
                Severity::Info
            }
            Self::Degraded | Self::AtMax | Self::Repaired | Self::Restarted | Self::Unknown => {
                Severity::Warning
            }
            Self::Watchdog => Severity::Error,
            Self::Down
            | Self::RepairFailed
            | Self::ScaleFailed
            | Self::RestartFailed
            | Self::Exhausted => Severity::Critical,
        }
    }
}

/// One thing to report about one service, with its evidence. Kept in the state until a notification reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// What no other alert has: by it a notification in the outbox is known to report this one.
    #[serde(default)]
    pub id: String,
    /// When it happened.
    pub time: DateTime<Utc>,
    /// The service, or `watchdog` for [`Event::Watchdog`] and [`Event::Started`].
    pub service: String,
    /// What happened.
    pub event: Event,
    /// What was seen.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// What was done.
    #[serde(default)]
    pub action: Option<Action>,
    /// Since when the service is in this trouble, or was until it recovered.
    #[serde(default)]
    pub since: Option<DateTime<Utc>>,
    /// How many runs in a row had found it failing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub consecutive_failures: u32,
    /// Restart attempts in the last hour.
    #[serde(default)]
    pub attempts: usize,
    /// Restart attempts that an hour may have.
    #[serde(default)]
    pub max_per_hour: u32,
    /// The last lines of the service's logs, as they were read.
    #[serde(default)]
    pub log_tail: Vec<String>,
    /// Further sentences: why nothing was done, what was left out.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The code of the finding that every restart attempt of this incident met, where it was always the same and
    /// there were at least two: a sign that restarting does not help.
    #[serde(default)]
    pub same_finding: Option<String>,
    /// When a spent budget frees its next attempt. Absent with [`Event::Exhausted`]: never by itself.
    #[serde(default)]
    pub next_attempt: Option<DateTime<Utc>>,
    /// How many attempts an incident may have, where these are spent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// `max_per_hour` has held it back.
    #[serde(default, alias = "held")]
    pub rate_limited: bool,
    /// `quiet` or `escalate_after` holds it back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
    /// The incident that it is about, by the id that all alerts of it have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Alert {
    /// An alert without evidence.
    pub fn new(time: DateTime<Utc>, service: &str, event: Event) -> Self {
        Self {
            id: String::new(),
            time,
            service: service.to_owned(),
            event,
            findings: Vec::new(),
            action: None,
            since: None,
            consecutive_failures: 0,
            attempts: 0,
            max_per_hour: 0,
            log_tail: Vec::new(),
            notes: Vec::new(),
            same_finding: None,
            next_attempt: None,
            max_attempts: None,
            rate_limited: false,
            waits: false,
            incident: None,
        }
    }
}

/// A number that no other message has: for ids and file names, not for secrets.
pub fn nonce() -> u64 {
    // the standard library seeds its hash tables from the system's randomness
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod fixtures;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_differ() {
        assert_ne!(nonce(), nonce());
    }
}
