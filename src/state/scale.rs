//! What is remembered of a scale: when it was changed, how long its load has been high or low, and what ran.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Number;

use super::counters::Outcomes;
use super::{budget_frees_at, text_or_none, time_or_none, within_hour};
use crate::clock::{age, shared, stamp, times};
use crate::restart::Action;
use crate::verdict::Verdict;

/// What is remembered of one scale.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScaleState {
    /// The verdict of the last run.
    pub verdict: Option<Verdict>,
    /// Since when it has been this verdict.
    #[serde(with = "times::perhaps")]
    pub since: Option<DateTime<Utc>>,
    /// The changes of the last hour, good and bad, oldest first; and the last one, however long ago.
    pub changes: Vec<DateTime<Utc>>,
    /// All changes, for the metrics.
    #[serde(skip_serializing_if = "Outcomes::is_none")]
    pub counted: Outcomes,
    /// A change that was recorded and whose end is not known: the run was cut short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<Change>,
    /// The last change, where it failed and is still wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<Change>,
    /// For how long the load has asked for more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above: Option<Window>,
    /// For how long it has asked for fewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<Window>,
    /// The numbers of the replicas that are to run; absent: not known yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<BTreeSet<u32>>,
    /// The processor time that replicas had used when it was looked at last, by their ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<Samples>,
    /// When the present trouble began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble_since: Option<DateTime<Utc>>,
    /// The id of the present trouble.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    /// Until when it is left alone.
    #[serde(deserialize_with = "time_or_none")]
    pub paused_until: Option<DateTime<Utc>>,
    /// Why it is left alone.
    #[serde(
        deserialize_with = "text_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub pause_reason: Option<String>,
    /// What the last run saw and did, for `status`.
    pub report: LastResult,
}

/// A change of the number of replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When it was begun.
    pub at: DateTime<Utc>,
    /// So many ran.
    pub from: u32,
    /// So many were to run.
    pub to: u32,
}

/// A time in which each run found the load on one side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The first of these runs.
    pub since: DateTime<Utc>,
    /// The last of them.
    pub last: DateTime<Utc>,
    /// So many replicas ran in all of them.
    pub replicas: u32,
    /// What the load asked for, where it was closest to what runs.
    pub desired: u32,
}

/// The processor time that replicas had used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Samples {
    /// The boot that the times belong to.
    #[serde(deserialize_with = "shared")]
    pub boot_id: Arc<str>,
    /// By the id of each replica.
    pub each: BTreeMap<String, Sample>,
}

/// The processor time that a replica had used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// In microseconds since it was started.
    pub used_us: u64,
    /// When, in milliseconds since the boot.
    pub at_ms: u64,
}

/// What the last run saw and did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastResult {
    /// When it looked.
    #[serde(with = "times::perhaps")]
    pub time: Option<DateTime<Utc>>,
    /// So many ran.
    pub replicas: Option<u32>,
    /// So many were to run.
    pub desired: Option<u32>,
    /// The load.
    pub metric: Option<Number>,
    /// What was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// What a person should know beside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl ScaleState {
    /// How many changes the hour before `now` had.
    pub fn changes_in_hour(&self, now: DateTime<Utc>) -> usize {
        let changes = self.changes.iter();
        changes.filter(|&&at| within_hour(now, at)).count()
    }

    /// The last change, however long ago.
    pub fn last_change(&self) -> Option<DateTime<Utc>> {
        self.changes.iter().copied().max()
    }

    /// When the oldest of the changes that fill a budget of `max` leaves the hour.
    pub fn budget_frees_at(&self, now: DateTime<Utc>, max: u32) -> Option<DateTime<Utc>> {
        budget_frees_at(&self.changes, now, max)
    }

    /// Enters a change: to be saved before anything is touched.
    pub fn record(&mut self, change: Change) {
        self.changes.push(change.at);
        self.interrupted = Some(change);
    }

    /// Whether a change of it may be under way that no run sees the end of: one was cut short a short while ago.
    pub fn is_changing(&self, now: DateTime<Utc>, limit: Duration) -> bool {
        let begun = self.interrupted.as_ref();
        begun.is_some_and(|change| age(now, change.at) < limit)
    }

    /// Whether a person has asked to leave it alone at `now`.
    pub fn is_paused(&self, now: DateTime<Utc>) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// What to say of its pause, where there is one at `now`.
    pub fn pause_note(&self, now: DateTime<Utc>) -> Option<String> {
        let until = self.paused_until.filter(|_| self.is_paused(now))?;
        let reason = self.pause_reason.as_ref();
        let reason = reason.map(|reason| format!(": {reason}"));
        Some(format!(
            "paused until {}{}",
            stamp(until),
            reason.unwrap_or_default()
        ))
    }

    /// Brings this to where `later` is in all that the next run sees again where it is lost.
    pub fn catch_up(&mut self, later: &Self) {
        self.report.time = later.report.time;
        self.report.metric.clone_from(&later.report.metric);
        self.samples.clone_from(&later.samples);
        for (known, later) in [
            (&mut self.above, &later.above),
            (&mut self.below, &later.below),
        ] {
            if let (Some(known), Some(later)) = (known, later) {
                known.last = later.last;
            }
        }
    }

    pub(super) fn prune(&mut self, now: DateTime<Utc>) {
        let last = self.last_change();
        self.changes
            .retain(|&at| within_hour(now, at) || Some(at) == last);
    }

    pub(super) fn times(&mut self) -> impl Iterator<Item = &mut DateTime<Utc>> {
        let windows = self.above.iter_mut().chain(&mut self.below);
        self.changes
            .iter_mut()
            .chain(&mut self.since)
            .chain(&mut self.trouble_since)
            .chain(&mut self.report.time)
            .chain(self.interrupted.as_mut().map(|it| &mut it.at))
            .chain(self.failed.as_mut().map(|it| &mut it.at))
            .chain(windows.flat_map(|it| [&mut it.since, &mut it.last]))
    }
}
