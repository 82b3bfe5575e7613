//! The processor time between two looks, of processes that come and go.
//!
//! The time of a process that has ended and was waited for moves into its parent's count of ended children. So both counts
//! of each process are kept from look to look: what ended children add is counted only as far as it was not counted
//! while they lived. What cannot be told apart is left out, so that an average may be too low, and never has a peak that
//! was not there.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Reading;
use crate::process_table::Used;

/// So many processes of a service are remembered one by one: more workers than a server has.
const MOST: usize = 512;

/// Two looks that are closer together say too little: time is counted in steps of 10 ms.
const LEAST_MS: u64 = 1000;

/// Start times are rounded, and the clocks are not read at one instant.
const ROUNDING_MS: u64 = 100;

/// The processor time that a service had used at a look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// The boot that this was in.
    #[serde(deserialize_with = "crate::clock::shared")]
    pub boot_id: Arc<str>,
    /// When, in milliseconds of the boot clock.
    pub at_ms: u64,
    /// What was counted.
    #[serde(flatten)]
    pub total: Total,
}

/// Processor time in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Total {
    /// Of a control group.
    Group(u64),
    /// Of each process.
    Processes(Processes),
}

/// The processor time of some processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processes {
    /// PID, start, own time, time of its ended children.
    pub each: Vec<(i32, u64, u64, u64)>,
    /// Both times of those that there is no room for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rest: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Processes {
    /// Those of a look.
    pub(super) fn of(tree: &[Used]) -> Self {
        let each = |used: &Used| (used.pid, used.start, used.own_us, used.reaped_us);
        Self {
            each: tree.iter().map(each).collect(),
            rest: 0,
        }
    }

    /// The same, with those that used the most where there are too many.
    fn bounded(mut self) -> Self {
        if self.each.len() > MOST {
            let total = |&(_, _, own, reaped): &(i32, u64, u64, u64)| own.saturating_add(reaped);
            self.each.sort_by_key(|it| std::cmp::Reverse(total(it)));
            let rest = self.each.drain(MOST..).map(|it| total(&it));
            self.rest = rest.fold(self.rest, u64::saturating_add);
        }
        self
    }
}

/// What a look makes of the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Average {
    /// There is nothing to hold it against: the first look, another boot, another group.
    First,
    /// The looks are too close together: the one before is kept.
    TooSoon,
    /// So much of one processor, in thousandths of a percent, over so many milliseconds.
    Of { load: u64, over_ms: u64 },
}

impl Baseline {
    /// What is counted now.
    pub(super) fn new(total: Total, at_ms: u64, now: &Reading) -> Self {
        Self {
            boot_id: Arc::clone(&now.boot_id),
            at_ms,
            total,
        }
    }

    /// To be kept for the next look.
    pub(super) fn kept(self) -> Self {
        let total = match self.total {
            Total::Processes(processes) => Total::Processes(processes.bounded()),
            total @ Total::Group(_) => total,
        };
        Self { total, ..self }
    }

    /// The average since `former`. `ticks` are those that a second has in start times.
    pub(super) fn since(&self, former: Option<&Self>, ticks: u64) -> Average {
        let is_same_boot = |former: &&Self| {
            // a boot that is not known is no other's
            !self.boot_id.is_empty()
                && *self.boot_id != *crate::clock::UNREAD
                && former.boot_id == self.boot_id
        };
        let Some(former) = former.filter(is_same_boot) else {
            return Average::First;
        };
        let Some(over_ms) = self.at_ms.checked_sub(former.at_ms) else {
            return Average::First;
        };
        let used = match (&former.total, &self.total) {
            (Total::Group(before), Total::Group(after)) => after.checked_sub(*before),
            (Total::Processes(before), Total::Processes(after)) => {
                Some(between(before, former.at_ms, after, ticks))
            }
            _ => None,
        };
        let Some(used) = used else {
            return Average::First;
        };
        if over_ms < LEAST_MS {
            return Average::TooSoon;
        }
        // microseconds in milliseconds, as thousandths of a percent
        let load = u128::from(used) * 100 / u128::from(over_ms);
        Average::Of {
            load: u64::try_from(load).unwrap_or(u64::MAX),
            over_ms,
        }
    }
}

/// The time that was used between two looks, the first of which was at `before_ms`.
fn between(before: &Processes, before_ms: u64, after: &Processes, ticks: u64) -> u64 {
    let mut ended: BTreeMap<(i32, u64), (u64, u64)> = (before.each.iter())
        .map(|&(pid, start, own, reaped)| ((pid, start), (own, reaped)))
        .collect();
    let (mut used, mut of_ended) = (0_u64, 0_u64);
    for &(pid, start, own, reaped) in &after.each {
        if let Some((own_before, reaped_before)) = ended.remove(&(pid, start)) {
            used = used.saturating_add(own.saturating_sub(own_before));
            of_ended = of_ended.saturating_add(reaped.saturating_sub(reaped_before));
        } else if start.saturating_mul(1000) / ticks.max(1) + ROUNDING_MS >= before_ms {
            used = used.saturating_add(own);
            of_ended = of_ended.saturating_add(reaped);
        }
        // else it was there before and not seen: what it had used by then is not known
    }
    let counted = ended
        .values()
        .map(|(own, reaped)| own.saturating_add(*reaped));
    let counted = counted.fold(before.rest, u64::saturating_add);
    used.saturating_add(of_ended.saturating_sub(counted))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixtures::at;

    const TICKS: u64 = 100;
    const SECOND: u64 = 1_000_000;

    fn baseline(at_s: u64, boot: &str, total: Total) -> Baseline {
        let now = Reading {
            wall: at(0),
            boot_ms: 0,
            awake_ms: 0,
            boot_id: boot.into(),
        };
        Baseline::new(total, at_s * 1000, &now)
    }

    /// Processes by PID, start in seconds, and seconds used by themselves and their ended children.
    fn of(at_s: u64, each: &[(i32, u64, u64, u64)]) -> Baseline {
        let each = each
            .iter()
            .map(|&(pid, start, own, reaped)| (pid, start * TICKS, own * SECOND, reaped * SECOND));
        let each = each.collect();
        baseline(at_s, "a", Total::Processes(Processes { each, rest: 0 }))
    }

    /// The average in percent.
    fn percent(former: &Baseline, present: &Baseline) -> Option<u64> {
        match present.since(Some(former), TICKS) {
            Average::Of { load, .. } => Some(load / 1000),
            Average::First | Average::TooSoon => None,
        }
    }

    #[test]
    fn processes_that_come_and_go_are_counted_once() {
        let before = of(100, &[(1, 5, 10, 100), (2, 6, 50, 0)]);
        for (what, after, expected) in [
            ("nothing", of(160, &[(1, 5, 10, 100), (2, 6, 50, 0)]), 0),
            ("one works", of(160, &[(1, 5, 40, 100), (2, 6, 50, 0)]), 50),
            ("two work", of(160, &[(1, 5, 70, 100), (2, 6, 110, 0)]), 200),
            // its 50 seconds, and 6 more, are in its parent's count now
            ("one has ended", of(160, &[(1, 5, 10, 156)]), 10),
            // its parent did not wait for it: they are nowhere
            ("one has vanished", of(160, &[(1, 5, 10, 100)]), 0),
            (
                "a new one",
                of(160, &[(1, 5, 10, 100), (2, 6, 50, 0), (3, 101, 30, 0)]),
                50,
            ),
            (
                "one came and went",
                of(160, &[(1, 5, 10, 130), (2, 6, 50, 0)]),
                50,
            ),
            // it has used an hour, but was there before the first look, which missed it
            (
                "one that was missed",
                of(160, &[(1, 5, 10, 100), (2, 6, 50, 0), (3, 7, 3600, 0)]),
                0,
            ),
            (
                "a PID that was used again",
                of(160, &[(1, 5, 10, 150), (2, 130, 30, 0)]),
                50,
            ),
        ] {
            assert_eq!(percent(&before, &after), Some(expected), "{what}");
        }
    }

    #[test]
    fn groups_are_counted_by_their_own_counter() {
        let group = |at_s, boot, seconds: u64| baseline(at_s, boot, Total::Group(seconds * SECOND));
        let before = group(100, "a", 50);
        for (after, average) in [
            (group(160, "a", 80), Some(50)),
            (group(160, "a", 50), Some(0)),
            // made anew
            (group(160, "a", 3), None),
            // another boot, and one that is not known
            (group(160, "b", 80), None),
            (group(50, "a", 80), None),
            (of(160, &[(1, 5, 60, 0)]), None),
        ] {
            assert_eq!(percent(&before, &after), average, "{after:?}");
        }
        let unknown = group(100, "", 50);
        assert_eq!(
            group(160, "", 80).since(Some(&unknown), TICKS),
            Average::First
        );
        assert_eq!(group(160, "a", 80).since(None, TICKS), Average::First);
        let mut soon = group(100, "a", 51);
        soon.at_ms += 999;
        assert_eq!(soon.since(Some(&before), TICKS), Average::TooSoon);
    }

    #[test]
    fn more_processes_than_there_is_room_for_make_no_peak() {
        let each: Vec<_> = (1..=2000).map(|pid| (pid, 5, 10, 0)).collect();
        let before = of(100, &each).kept();
        let Total::Processes(kept) = &before.total else {
            panic!("{before:?}");
        };
        assert_eq!(kept.each.len(), MOST);
        assert_eq!(kept.rest, (2000 - MOST as u64) * 10 * SECOND);
        // all of them go on for a second, and the forgotten ones count for nothing
        let each: Vec<_> = (1..=2000).map(|pid| (pid, 5, 11, 0)).collect();
        let load = percent(&before, &of(200, &each)).unwrap();
        assert_eq!(load, MOST as u64);
        // all but one have ended, and it has waited for them
        let after = of(200, &[(1, 5, 10, 1999 * 10)]);
        assert_eq!(percent(&before, &after), Some(0));
        let text = serde_json::to_string(&before).unwrap();
        assert_eq!(serde_json::from_str::<Baseline>(&text).unwrap(), before);
        assert!(text.len() < 20_000, "{}", text.len());
    }

    /// One step of a service: a process works, forks, or ends and is waited for by its parent.
    #[derive(Clone, Debug)]
    enum Step {
        Work(usize, u64),
        Fork(usize),
        End(usize),
        Look,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0usize..20, 0u64..50).prop_map(|(which, ticks)| Step::Work(which, ticks)),
            2 => (0usize..20).prop_map(Step::Fork),
            2 => (0usize..20).prop_map(Step::End),
            1 => Just(Step::Look),
        ]
    }

    proptest! {
        /// What is waited for is counted to the microsecond, whoever ends between two looks.
        #[test]
        fn what_a_pool_of_workers_uses_is_what_is_counted(steps in proptest::collection::vec(any_step(), 1..200)) {
            const TICK: u64 = 10_000;
            // pid, parent, start, own, reaped
            let mut live: Vec<(i32, i32, u64, u64, u64)> = vec![(1, 0, 0, 0, 0)];
            let (mut next, mut clock, mut used) = (2, 0_u64, 0_u64);
            let mut former: Option<(Processes, u64)> = None;
            for step in steps.into_iter().chain([Step::Look]) {
                match step {
                    Step::Work(which, ticks) => {
                        let count = live.len();
                        live[which % count].3 += ticks * TICK;
                        used += ticks * TICK;
                        clock += ticks;
                    }
                    Step::Fork(which) => {
                        let parent = live[which % live.len()].0;
                        // later than any look by more than the rounding
                        clock += 20;
                        live.push((next, parent, clock, 0, 0));
                        next += 1;
                    }
                    Step::End(which) => {
                        let which = which % live.len();
                        let (pid, parent, _, own, reaped) = live[which];
                        let has_children = live.iter().any(|it| it.1 == pid);
                        if pid != 1 && !has_children {
                            live.remove(which);
                            let parent = live.iter_mut().find(|it| it.0 == parent);
                            if let Some(parent) = parent {
                                parent.4 += own + reaped;
                            }
                        }
                    }
                    Step::Look => {
                        clock += 20;
                        let each = live.iter().map(|&(pid, _, start, own, reaped)| (pid, start, own, reaped));
                        let processes = Processes { each: each.collect(), rest: 0 };
                        if let Some((before, before_ms)) = &former {
                            prop_assert_eq!(between(before, *before_ms, &processes, TICKS), used);
                        }
                        former = Some((processes, clock * 10));
                        used = 0;
                    }
                }
            }
        }

        #[test]
        fn no_numbers_are_too_odd(
            before in proptest::collection::vec(any::<(i32, u64, u64, u64)>(), 0..5),
            after in proptest::collection::vec(any::<(i32, u64, u64, u64)>(), 0..5),
            at_ms: u64,
            rest: u64,
        ) {
            let before = Baseline { at_ms, ..baseline(0, "a", Total::Processes(Processes { each: before, rest })) };
            let after = Baseline { at_ms: u64::MAX, ..baseline(0, "a", Total::Processes(Processes { each: after, rest: 0 })) };
            let _ = after.since(Some(&before), TICKS);
        }
    }
}
