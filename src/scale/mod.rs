//! Scaling: counting replicas, measuring their load, and having more or fewer of them.
//!
//! How many there are to be is decided by `decide::scale`; here is what looks, and what acts. A way to scale is a file of
//! its own: `compose.rs` and `units.rs` count the replicas and change their number, and nothing else tells them apart.
//! Whatever a command answers, the result of a change is what is counted afterwards.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::check::container::Containers;
use crate::check::prometheus::Prometheus;
use crate::client::engine::Listed;
use crate::clock::Reading;
use crate::config::scale::{Compose, Scale};
use crate::decide::scale::Count;
use crate::restart::MethodName;

pub mod asked;
pub mod change;
pub mod compose;
mod failure;
pub mod measure;
pub mod preflight;
mod units;
mod usage;
pub mod watched;

/// What looking at replicas depends on.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The container engine.
    pub containers: &'a Containers,
    /// The Prometheus of the config.
    pub prometheus: Option<&'a Prometheus>,
    /// For one question.
    pub check_timeout: Duration,
    /// When the run has to end.
    pub run_ends: Instant,
    /// What the clocks showed when the run began.
    pub now: &'a Reading,
}

impl Context<'_> {
    /// For one question, and no longer than the run.
    fn limit(&self) -> Duration {
        self.check_timeout.min(self.left())
    }

    fn left(&self) -> Duration {
        self.run_ends.saturating_duration_since(Instant::now())
    }
}

/// A replica that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its number, from 1 on.
    pub number: u32,
    /// What no other run of it has: the id of its container, or of the run of its unit.
    pub id: String,
    /// How long it has run, as far as that was asked for.
    pub age: Option<Duration>,
    /// Its control group, as far as that was asked for and is seen from here.
    pub group: Option<String>,
}

/// The replicas of a scale.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replicas {
    /// Those that run, by their numbers.
    pub running: Vec<Replica>,
    /// The numbers of those that have failed.
    pub failed: BTreeSet<u32>,
    /// Why nothing may be done to them now.
    pub left_alone: Option<String>,
}

impl Replicas {
    /// So many run.
    pub fn count(&self) -> u32 {
        u32::try_from(self.running.len()).unwrap_or(u32::MAX)
    }

    /// The numbers of those that run.
    pub fn numbers(&self) -> BTreeSet<u32> {
        self.running.iter().map(|replica| replica.number).collect()
    }

    /// Those that have failed and are to run: all of them where it is not known which are.
    pub fn failed_of(&self, wanted: Option<&BTreeSet<u32>>, max: u32) -> BTreeSet<u32> {
        let is_wanted =
            |number: &&u32| **number <= max && wanted.is_none_or(|wanted| wanted.contains(number));
        self.failed.iter().filter(is_wanted).copied().collect()
    }

    /// What is decided by; `wanted` are the numbers of those that are to run.
    pub fn counted(&self, wanted: Option<&BTreeSet<u32>>, max: u32) -> Count {
        let failed = self.failed_of(wanted, max).len();
        Count::Known {
            running: self.count(),
            failed: u32::try_from(failed).unwrap_or(u32::MAX),
            left_alone: self.left_alone.clone(),
        }
    }
}

/// A way to scale.
#[derive(Clone, Copy, Debug)]
enum Target<'a> {
    Compose(&'a Compose),
    Units,
}

impl<'a> Target<'a> {
    fn of(scale: &'a Scale) -> Self {
        match &scale.rule.compose {
            Some(compose) => Self::Compose(compose),
            None => Self::Units,
        }
    }
}

/// By what the replicas of a scale are changed, in reports.
pub fn method(scale: &Scale) -> MethodName {
    match Target::of(scale) {
        Target::Compose(_) => MethodName::Compose,
        Target::Units => MethodName::Systemd,
    }
}

/// Counts the replicas of a scale. `listed` is what the engine listed, where it was asked for this. The error is a
/// sentence.
fn count(
    scale: &Scale,
    listed: Option<&Result<Vec<Listed>, String>>,
    context: &Context<'_>,
) -> Result<Replicas, String> {
    match Target::of(scale) {
        Target::Compose(compose) => match listed {
            Some(Ok(listed)) => Ok(compose::count(compose, listed)),
            Some(Err(why)) => Err(why.clone()),
            None => {
                let listed = crate::check::container::list(context.containers, context.run_ends)?;
                Ok(compose::count(compose, &listed))
            }
        },
        Target::Units => units::count(&scale.rule, context.limit(), context.now),
    }
}
