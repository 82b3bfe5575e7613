//! Alerting a person: events become one message a run, and a message goes out by one channel.
//!
//! [`message::compose`] is pure: alerts in, one [`Message`] out. [`mail::send`] is the channel: whatever the other
//! side does, it comes back within its time limit with a [`Report`] that tells the recipients apart, so that the
//! caller can keep what is still pending and for whom, in the [`outbox`]. What is worth telling, and when again, is
//! decided above.

use std::hash::{BuildHasher, Hasher, RandomState};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::check::Finding;
use crate::restart::Action;

pub mod mail;
pub mod message;
pub mod outbox;

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
    /// Nothing happened: a person tries whether mail arrives.
    Test,
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
            Self::Test => "test",
        }
    }
}

/// One thing to tell about one service, with its evidence. Kept in the state until a message tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// What no other alert has: by it a message in the outbox is known to tell this one.
    #[serde(default)]
    pub id: String,
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
    /// The code of the finding that every restart attempt of this incident met, where it was always the same and
    /// there were at least two: a sign that restarting does not help.
    #[serde(default)]
    pub same_finding: Option<String>,
    /// When a spent budget frees its next attempt. Absent with [`Event::Exhausted`]: never by itself.
    #[serde(default)]
    pub next_attempt: Option<DateTime<Utc>>,
    /// `max_per_hour` has held it back.
    #[serde(default)]
    pub held: bool,
}

/// A message ready to be sent by any channel, and to be kept until it can be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// One line, without control characters.
    pub subject: String,
    /// Plain text, lines ended by line feeds.
    pub body: String,
    /// The services in it, the worst first, for `X-Watchdog-Service`.
    pub services: Vec<String>,
    /// The worst event in it, for `X-Watchdog-Event`.
    pub event: Event,
    /// When it was written.
    pub time: DateTime<Utc>,
    /// Its own id with angle brackets, by [`message::id`]; the same at every attempt to deliver it, so that a
    /// mailbox can tell a copy.
    pub message_id: String,
    /// The id of the last message of the same incident, if there was one.
    #[serde(default)]
    pub in_reply_to: Option<String>,
    /// The ids of the incident's messages, the oldest first.
    #[serde(default)]
    pub references: Vec<String>,
}

/// How a delivery went, recipient by recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order in which they were asked for, each once.
    pub recipients: Vec<Recipient>,
    /// The way itself failed, and not with this message or its recipients: another one would fare no better now.
    pub in_vain: bool,
}

/// One recipient's part of a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// As the config has it.
    pub address: String,
    /// How it went.
    pub outcome: Outcome,
}

/// How a delivery to one recipient went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The channel took it.
    Delivered,
    /// It will never be taken, and why: to try again is in vain.
    Refused(String),
    /// It was not taken now: to be tried again.
    Deferred {
        /// Why: where, at which step, what was said, and what to do.
        why: String,
        /// All of it was handed over and no answer came: another attempt may make a second copy.
        maybe_delivered: bool,
    },
}

impl Outcome {
    /// Not taken, and surely not delivered.
    pub fn deferred(why: impl Into<String>) -> Self {
        Self::Deferred {
            why: why.into(),
            maybe_delivered: false,
        }
    }
}

impl Report {
    /// The same outcome for all.
    pub fn all(addresses: &[String], outcome: &Outcome) -> Self {
        let recipients = addresses.iter().map(|address| Recipient {
            address: address.clone(),
            outcome: outcome.clone(),
        });
        Self {
            recipients: recipients.collect(),
            in_vain: false,
        }
    }

    /// Whether at least one recipient has it.
    pub fn reached_somebody(&self) -> bool {
        self.recipients
            .iter()
            .any(|recipient| recipient.outcome == Outcome::Delivered)
    }

    /// The recipients to try again.
    pub fn pending(&self) -> Vec<String> {
        let pending = self
            .recipients
            .iter()
            .filter(|recipient| matches!(recipient.outcome, Outcome::Deferred { .. }));
        pending.map(|recipient| recipient.address.clone()).collect()
    }

    /// What went wrong, one sentence a reason, with the recipients that it befell: for the log and the journal.
    pub fn troubles(&self) -> Vec<String> {
        self.reasons().into_iter().map(|(_, told)| told).collect()
    }

    /// The same, and of each whether it is final: the recipients were refused.
    pub fn reasons(&self) -> Vec<(bool, String)> {
        let mut reasons: Vec<(&'static str, &str, Vec<&str>)> = Vec::new();
        for Recipient { address, outcome } in &self.recipients {
            let (kind, why) = match outcome {
                Outcome::Delivered => continue,
                Outcome::Refused(why) => ("refused", why),
                Outcome::Deferred {
                    why,
                    maybe_delivered: false,
                } => ("not delivered yet", why),
                Outcome::Deferred {
                    why,
                    maybe_delivered: true,
                } => ("perhaps not delivered", why),
            };
            match reasons.iter_mut().find(|r| r.0 == kind && r.1 == why) {
                Some(reason) => reason.2.push(address),
                None => reasons.push((kind, why, vec![address])),
            }
        }
        reasons
            .into_iter()
            .map(|(kind, why, addresses)| {
                let told = format!("mail to {} {kind}: {why}", addresses.join(", "));
                (kind == "refused", told)
            })
            .collect()
    }
}

/// A number that no other message has: for ids and file names, not for secrets.
pub fn nonce() -> u64 {
    // the standard library seeds its hash tables from the system's randomness
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_the_recipients_apart() {
        let recipient = |address: &str, outcome| Recipient {
            address: address.to_owned(),
            outcome,
        };
        let report = Report {
            recipients: vec![
                recipient("a@x", Outcome::Delivered),
                recipient("b@x", Outcome::Refused("550 no".to_owned())),
                recipient("c@x", Outcome::deferred("452 full")),
                recipient("d@x", Outcome::deferred("452 full")),
                recipient(
                    "e@x",
                    Outcome::Deferred {
                        why: "no answer".to_owned(),
                        maybe_delivered: true,
                    },
                ),
            ],
            in_vain: false,
        };
        assert!(report.reached_somebody());
        assert_eq!(report.pending(), ["c@x", "d@x", "e@x"]);
        assert_eq!(
            report.troubles(),
            [
                "mail to b@x refused: 550 no",
                "mail to c@x, d@x not delivered yet: 452 full",
                "mail to e@x perhaps not delivered: no answer",
            ]
        );
    }

    #[test]
    fn nonces_differ() {
        assert_ne!(nonce(), nonce());
    }
}
