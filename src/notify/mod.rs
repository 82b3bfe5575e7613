//! Telling a person: events become one message a run, and a message goes out by one channel.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::check::Finding;
use crate::restart::Action;

pub mod mail;
pub mod message;

/// What a person can be told of, in the order of how much it matters, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// All is well again after trouble that was told.
    Recovered,
    /// Warnings only.
    Degraded,
    /// Restarted and verified.
    Restarted,
    /// Something could not be seen.
    Unknown,
    /// Broken, and nothing the watchdog may do about it.
    Down,
    /// Restarted in vain.
    RestartFailed,
    /// Broken, and the restart budget is spent.
    Exhausted,
    /// The watchdog's own trouble: a damaged state, a run that was cut short. Always told.
    Watchdog,
}

impl Event {
    /// Its name in configs, headers and the journal.
    pub fn name(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::Degraded => "degraded",
            Self::Restarted => "restarted",
            Self::Unknown => "unknown",
            Self::Down => "down",
            Self::RestartFailed => "restart_failed",
            Self::Exhausted => "exhausted",
            Self::Watchdog => "watchdog",
        }
    }
}

/// One thing to tell about one service, with its evidence. Kept in the state until it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// When it happened.
    pub time: DateTime<Utc>,
    /// The service, or `watchdog` for [`Event::Watchdog`].
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
}

/// A message ready to be sent by any channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// One line, without control characters.
    pub subject: String,
    /// Plain text.
    pub body: String,
    /// The services in it, for `X-Watchdog-Service`.
    pub services: Vec<String>,
    /// The worst event in it, for `X-Watchdog-Event`.
    pub event: Event,
    /// When it was written.
    pub time: DateTime<Utc>,
}

/// How a message went.
pub type Delivery = Result<(), String>;

/// The time that a whole mail step may take beyond the transport's own timeout.
pub const GRACE: Duration = Duration::from_secs(2);
