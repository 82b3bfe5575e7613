//! What is counted for the metrics. Counters only grow; where the state is lost they begin at 0, which Prometheus takes for a
//! restart of what it watches.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::event::DeliveryEvent;
use super::strategies::is_zero;
use crate::clock::times;
use crate::restart::Operation;

/// How attempts went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcomes {
    /// The service came up, or what was wrong is gone.
    #[serde(skip_serializing_if = "is_zero")]
    pub succeeded: u32,
    /// It did not, or is not.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed: u32,
    /// No run saw the end of them.
    #[serde(skip_serializing_if = "is_zero")]
    pub unknown: u32,
}

impl Outcomes {
    /// Whether there has been none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Counts an attempt; `succeeded` is absent where its end was not seen.
    pub fn count(&mut self, succeeded: Option<bool>) {
        let count = match succeeded {
            Some(true) => &mut self.succeeded,
            Some(false) => &mut self.failed,
            None => &mut self.unknown,
        };
        *count = count.saturating_add(1);
    }
}

/// All attempts at a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attempts {
    /// To restart it.
    pub restart: Outcomes,
    /// To repair it.
    pub repair: Outcomes,
    /// When the last one was begun.
    #[serde(with = "times::perhaps")]
    pub last: Option<DateTime<Utc>>,
}

impl Attempts {
    /// Whether there has been none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Counts an attempt; `succeeded` is absent where its end was not seen.
    pub fn count(&mut self, operation: Operation, succeeded: Option<bool>) {
        match operation {
            Operation::Restart => self.restart.count(succeeded),
            Operation::Repair => self.repair.count(succeeded),
            // a scale counts its own
            Operation::Scale => {}
        }
    }
}

/// What became of the messages on a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Messages {
    /// Handed over to at least one recipient.
    #[serde(skip_serializing_if = "is_zero")]
    pub sent: u32,
    /// Tries that did not hand one over, and after which it is tried again.
    #[serde(skip_serializing_if = "is_zero")]
    pub deferred: u32,
    /// Refused for good.
    #[serde(skip_serializing_if = "is_zero")]
    pub refused: u32,
    /// Given up, by time or for want of space.
    #[serde(skip_serializing_if = "is_zero")]
    pub given_up: u32,
}

impl Messages {
    /// Whether there has been none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Counts one.
    pub fn count(&mut self, what: DeliveryEvent) {
        let count = match what {
            DeliveryEvent::Sent => &mut self.sent,
            DeliveryEvent::Deferred => &mut self.deferred,
            DeliveryEvent::Refused => &mut self.refused,
            DeliveryEvent::GivenUp => &mut self.given_up,
        };
        *count = count.saturating_add(1);
    }

    /// Adds what a run counted.
    pub fn add(&mut self, others: Self) {
        for (count, more) in [
            (&mut self.sent, others.sent),
            (&mut self.deferred, others.deferred),
            (&mut self.refused, others.refused),
            (&mut self.given_up, others.given_up),
        ] {
            *count = count.saturating_add(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_by_what_was_done_and_how_it_went() {
        let mut attempts = Attempts::default();
        assert!(attempts.is_none());
        for (operation, succeeded) in [
            (Operation::Restart, Some(true)),
            (Operation::Restart, Some(true)),
            (Operation::Restart, Some(false)),
            (Operation::Repair, None),
        ] {
            attempts.count(operation, succeeded);
        }
        let outcomes = |succeeded, failed, unknown| Outcomes {
            succeeded,
            failed,
            unknown,
        };
        assert_eq!(attempts.restart, outcomes(2, 1, 0));
        assert_eq!(attempts.repair, outcomes(0, 0, 1));
        let text = serde_json::to_string(&attempts).unwrap();
        assert_eq!(serde_json::from_str::<Attempts>(&text).unwrap(), attempts);
    }
}
