//! Failures that count once they have lasted: the key `for` of a probe, and what it remembers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Checked, Finding};
use crate::clock::{Moment, Reading, age, exact, rough};

/// The code of a probe that could not be made.
pub const UNREADABLE: &str = "probe_unreadable";

/// What a probe keeps from run to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// The first of the runs in which it has failed without a break.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Moment>,
    /// How long the last answer took, in microseconds, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
}

impl Failing {
    /// It with how long the answer of the look took.
    #[must_use]
    pub fn after(self, took: Option<Duration>) -> Self {
        let micros = |took: Duration| u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        Self {
            took_us: took.map(micros),
            ..self
        }
    }

    /// How long the last answer took, where there was one.
    pub fn took(&self) -> Option<Duration> {
        self.took_us.map(Duration::from_micros)
    }
}

impl Checked<Failing> {
    /// It with how long the answer of the look took.
    #[must_use]
    pub(super) fn after(self, took: Option<Duration>) -> Self {
        let state = self.state.map(|state| state.after(took));
        Self { state, ..self }
    }
}

/// What one look came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All was as it has to be, though there may be something to know.
    Passed(Vec<Finding>),
    /// It failed.
    Failed(Finding),
    /// It could not be made: that neither confirms nor ends a failure.
    Unseen(Finding),
}

/// What a look means for a rule whose failure counts once it has lasted for `limit`.
pub fn judge(
    outcome: Outcome,
    limit: Duration,
    former: &Failing,
    now: &Reading,
) -> Checked<Failing> {
    let failed = match outcome {
        Outcome::Passed(findings) => {
            return Checked {
                findings,
                state: Some(Failing::default()),
                ..Checked::default()
            };
        }
        Outcome::Unseen(finding) => {
            return Checked {
                findings: vec![finding],
                state: Some(former.clone()),
                ..Checked::default()
            };
        }
        Outcome::Failed(finding) => finding,
    };
    let since = former.failing_since;
    let since = since.map_or_else(|| Moment::new(now.wall, now), |since| since.renewed(now));
    let lasted = age(now.wall, since.at(now));
    let (mut findings, mut notes) = (Vec::new(), Vec::new());
    if lasted < limit {
        notes.push(format!(
            "{}; that counts once it has lasted {} ({} so far)",
            failed.message,
            exact(limit),
            rough(lasted)
        ));
    } else {
        findings.push(failed);
    }
    Checked {
        findings,
        notes,
        state: Some(Failing {
            failing_since: Some(since),
            took_us: None,
        }),
        ..Checked::default()
    }
}

/// How long it has failed, for `why`; nothing where it has not.
pub fn explain(state: &Failing, limit: Duration, last: super::LastLook<'_>) -> Option<String> {
    let (since, time) = state.failing_since.as_ref().zip(last.time)?;
    let counts = if limit.is_zero() {
        String::new()
    } else {
        format!(", and counts once that is {}", exact(limit))
    };
    Some(format!(
        "it has failed for {}{counts}",
        rough(age(time, last.at(since)))
    ))
}
