//! What is remembered of the attempts that one strategy has made.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{budget_frees_at, within_hour};

/// The attempts of one strategy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StrategyAttempts {
    /// Those of the last hour, oldest first; and the last one, however long ago.
    pub attempts: Vec<DateTime<Utc>>,
    /// How many of them the present incident has had.
    #[serde(skip_serializing_if = "is_zero")]
    pub of_incident: u32,
}

/// Whether a count is zero, and need not be written.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it so")]
pub(super) fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl StrategyAttempts {
    /// How many the hour before `now` had.
    pub fn in_hour(&self, now: DateTime<Utc>) -> usize {
        let recent = self.attempts.iter().filter(|&&at| within_hour(now, at));
        recent.count()
    }

    /// The last one.
    pub fn last(&self) -> Option<DateTime<Utc>> {
        self.attempts.iter().copied().max()
    }

    /// When the oldest of those that fill a budget of `max` leaves the hour.
    pub fn frees_at(&self, now: DateTime<Utc>, max: u32) -> Option<DateTime<Utc>> {
        budget_frees_at(&self.attempts, now, max)
    }

    /// Forgets times that nothing counts any more.
    pub(super) fn prune(&mut self, now: DateTime<Utc>) {
        let last = self.last();
        self.attempts
            .retain(|&at| within_hour(now, at) || Some(at) == last);
    }
}

/// The attempts of strategies, by the ids of these.
pub type ByStrategy = BTreeMap<String, StrategyAttempts>;
