//! Disks: whether the file system that holds a path has room left, and inodes.
//!
//! A file system is asked by statvfs(2), once a run for each path. That blocks for as long as a dead disk or network share
//! does, so it is done in the pool and given up after its limit; it is begun with the run and delays no other check. What
//! an ordinary user may use counts, as `df` shows it: what is kept for root is of no use to a service.
//!
//! A restart mends no disk, so one that is full is only alerted about.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lasting::{self, Failing, UNREADABLE};
use super::trap::Trap;
use super::{Can, CheckKind, Checked, Code, Grace, JobOf, Kind, LastLook, Looking, ServiceContext};
use crate::amount::{rough_bytes, rough_percent};

mod judge;
mod look;
mod rule;
mod traps;

pub use self::look::Figures;
pub use self::rule::Rule;

/// Too much is used, of space or of inodes.
pub const FULL: &str = "disk_full";

/// What is remembered of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Since when it is too full.
    #[serde(flatten)]
    pub failing: Failing,
    /// How full it was when it last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<Figures>,
}

/// The disk check.
#[derive(Debug)]
pub struct Disks;

/// What is to be asked, each within its limit.
fn wanted<'a>(
    rules: impl Iterator<Item = &'a Rule>,
    looking: &Looking<'_>,
) -> Vec<(&'a Path, Duration)> {
    let limit = |rule: &Rule| rule.timeout.unwrap_or(looking.check_timeout);
    rules.map(|rule| (&*rule.path, limit(rule))).collect()
}

impl CheckKind for Disks {
    type Rule = Rule;
    type State = State;

    const KIND: Kind = Kind::Disk;
    const CODES: &'static [Code] = &[
        Code::of_host(FULL, Can::Settable),
        Code::new(UNREADABLE, Grace::Young, Can::Unknown),
    ];
    const IS_PROBE: bool = false;
    const IS_INDEPENDENT: bool = true;
    const CAN_LOOK_AGAIN: bool = true;
    const SHOWS_LIFE: bool = false;

    fn fill_in(rule: &mut Rule, check_timeout: Duration) {
        rule.timeout.get_or_insert(check_timeout);
    }

    fn judge_at_once(rule: &mut Rule) {
        rule.for_ = Duration::ZERO;
    }

    fn target(rule: &Rule) -> String {
        rule.path.display().to_string()
    }

    fn look(jobs: Vec<JobOf<Self>>, looking: &Looking<'_>) -> Vec<Checked<State>> {
        let answers = look::look(&wanted(jobs.iter().map(|job| &*job.rule), looking), looking);
        let checked = jobs.iter().zip(&answers).map(|(job, answer)| {
            let nothing = State::default();
            let former = job.state.as_deref().unwrap_or(&nothing);
            // it has just answered
            let mount = || {
                let (point, kind) = look::mount_of(&job.rule.path)?;
                Some(judge::mount_in_words(&job.rule.path, &point, &kind))
            };
            judge::judge(&job.rule, answer, former, looking.now, mount)
        });
        checked.collect()
    }

    fn catch_up(state: &mut State, later: &State) {
        state.figures = later.figures;
    }

    fn traps(rules: &[(&Arc<Rule>, &ServiceContext<'_>)], looking: &Looking<'_>) -> Vec<Vec<Trap>> {
        let answers = look::look(
            &wanted(rules.iter().map(|(rule, _)| &***rule), looking),
            looking,
        );
        let found = rules.iter().zip(&answers);
        found
            .map(|((rule, _), answer)| traps::traps(rule, answer).into_iter().collect())
            .collect()
    }

    fn explain(rule: &Rule, state: Option<&State>, last: LastLook<'_>) -> String {
        let nothing = State::default();
        let state = state.unwrap_or(&nothing);
        let mut limits = Vec::new();
        limits.extend(rule.max_used.map(|most| format!("at most {most} used")));
        limits.extend(rule.min_free.map(|least| format!("at least {least} free")));
        let mut lines = vec![format!(
            "disk {} has to have {}, and at most {} of its inodes used",
            rule.path.display(),
            limits.join(" and "),
            rule.max_inodes
        )];
        lines.extend(state.figures.map(in_words));
        lines.extend(lasting::explain(&state.failing, rule.for_, last));
        lines.join("; ")
    }
}

/// How full a file system was.
fn in_words(figures: Figures) -> String {
    let inodes = match figures.inodes() {
        0 => String::new(),
        inodes => format!(
            ", and {} of the inodes used",
            rough_percent(figures.inodes_used, inodes)
        ),
    };
    format!(
        "it had {} used, {} of {} free{inodes}",
        rough_percent(figures.used, figures.size()),
        rough_bytes(figures.free),
        rough_bytes(figures.size())
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::at;

    #[test]
    fn why_says_the_limits_and_how_full_it_was() {
        let last = LastLook {
            time: Some(at(0)),
            clock: None,
        };
        let rule = Rule::of("/srv");
        assert_eq!(
            Disks::explain(&rule, None, last),
            "disk /srv has to have at most 90% used, and at most 90% of its inodes used"
        );
        let state = State {
            failing: Failing {
                failing_since: Some(at(-90).into()),
                ..Failing::default()
            },
            figures: Some(Figures {
                used: 95_000,
                free: 5000,
                inodes_used: 1,
                inodes_free: 3,
                read_only: false,
            }),
        };
        assert_eq!(
            Disks::explain(&rule, Some(&state), last),
            "disk /srv has to have at most 90% used, and at most 90% of its inodes used; \
             it had 95.0% used, 5.00 kB of 100 kB free, and 25.0% of the inodes used; \
             it has failed for 1m 30s"
        );
    }

    #[test]
    fn the_state_is_small_and_reads_back() {
        assert_eq!(serde_json::to_string(&State::default()).unwrap(), "{}");
        let state = State {
            failing: Failing {
                failing_since: Some(at(0).into()),
                ..Failing::default()
            },
            figures: Some(Figures {
                used: 1,
                ..Figures::default()
            }),
        };
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
        let mut earlier = State::default();
        Disks::catch_up(&mut earlier, &state);
        assert_eq!(earlier.figures, state.figures);
        assert_eq!(earlier.failing, Failing::default());
    }
}
