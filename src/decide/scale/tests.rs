//! Tables and properties of the policy; `simulated.rs` has months.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::{self, Environment};
use crate::fixtures::at;
use crate::state::scale::Change;

mod simulated;

/// The rule of a table with these lines beside its target.
pub(super) fn rule(lines: &str) -> ScaleRule {
    let text = format!("[scale.w]\nunits = \"w@{{n}}.service\"\n{lines}\n");
    let config = config::parse(&text, Path::new("/w.toml"), &Environment::default());
    config.unwrap().scales[0].rule.clone()
}

fn count(running: u32) -> Count {
    Count::Known {
        running,
        failed: 0,
        left_alone: None,
    }
}

fn decided(
    rule: &ScaleRule,
    known: &ScaleState,
    count: &Count,
    load: &Load,
    now: i64,
) -> ScaleDecision {
    decide(&Facts {
        rule,
        known,
        count,
        load,
        now: at(now),
        trusted: true,
        jumped: false,
    })
}

fn window(since: i64, last: i64, replicas: u32, desired: u32) -> Window {
    Window {
        since: at(since),
        last: at(last),
        replicas,
        desired,
    }
}

#[test]
fn what_is_decided_follows_from_load_bounds_and_times() {
    use Verdict::{AtMax, Paused, ScaleFailed, Steady, Unknown};
    let read = Load::Read;
    let fresh = ScaleState::default;
    let high = |since, replicas, desired| ScaleState {
        above: Some(window(since, 940, replicas, desired)),
        ..ScaleState::default()
    };
    let low = |since, replicas, desired| ScaleState {
        below: Some(window(since, 940, replicas, desired)),
        ..ScaleState::default()
    };
    let changed = |state: ScaleState, at_second: i64| ScaleState {
        changes: vec![at(at_second)],
        ..state
    };
    let failed = |state: ScaleState| ScaleState {
        failed: Some(Change {
            at: at(900),
            from: 2,
            to: 3,
        }),
        ..state
    };
    let cpu = "min = 1\nmax = 4";
    let queue = "max = 4\nmetric = { command = [\"x\"] }\nper_replica = 100";
    // at second 1000: what the table says, what is known, what runs, the load; the verdict, what is wanted, whether it is
    // changed to that
    for (what, lines, known, runs, load, verdict, desired, to) in vec![
        (
            "nothing to do",
            cpu,
            fresh(),
            count(2),
            read(0.5),
            Steady,
            Some(2),
            None,
        ),
        (
            "high, and not for long",
            cpu,
            fresh(),
            count(2),
            read(0.9),
            Steady,
            Some(2),
            None,
        ),
        (
            "high for 59s",
            cpu,
            high(941, 2, 3),
            count(2),
            read(0.9),
            Steady,
            Some(2),
            None,
        ),
        (
            "high for a minute",
            cpu,
            high(940, 2, 3),
            count(2),
            read(0.9),
            Steady,
            Some(3),
            Some(3),
        ),
        (
            "high before, and not now",
            cpu,
            high(700, 2, 3),
            count(2),
            read(0.8),
            Steady,
            Some(2),
            None,
        ),
        (
            "high for long, with other replicas",
            cpu,
            high(700, 1, 2),
            count(2),
            read(0.9),
            Steady,
            Some(2),
            None,
        ),
        (
            "low for less than ten minutes",
            cpu,
            low(401, 2, 1),
            count(2),
            read(0.1),
            Steady,
            Some(2),
            None,
        ),
        (
            "low for ten minutes",
            cpu,
            low(400, 2, 1),
            count(2),
            read(0.1),
            Steady,
            Some(1),
            Some(1),
        ),
        (
            "low, and at the minimum",
            cpu,
            low(0, 1, 1),
            count(1),
            read(0.1),
            Steady,
            Some(1),
            None,
        ),
        (
            "at the maximum, and high for long",
            cpu,
            high(940, 4, 5),
            count(4),
            read(0.9),
            AtMax,
            Some(4),
            None,
        ),
        (
            "at the maximum, and high for a moment",
            cpu,
            fresh(),
            count(4),
            read(0.9),
            Steady,
            Some(4),
            None,
        ),
        (
            "in the cooldown",
            cpu,
            changed(high(940, 2, 3), 701),
            count(2),
            read(0.9),
            Steady,
            Some(3),
            None,
        ),
        (
            "after the cooldown",
            cpu,
            changed(high(940, 2, 3), 700),
            count(2),
            read(0.9),
            Steady,
            Some(3),
            Some(3),
        ),
        (
            "not a number that is known",
            cpu,
            high(700, 2, 3),
            count(2),
            Load::NotYet("young".into()),
            Steady,
            Some(2),
            None,
        ),
        (
            "not read",
            cpu,
            high(700, 2, 3),
            count(2),
            Load::Unreadable("gone".into()),
            Unknown,
            Some(2),
            None,
        ),
        (
            "not counted",
            cpu,
            high(700, 2, 3),
            Count::Unknown("gone".into()),
            read(0.9),
            Unknown,
            None,
            None,
        ),
        (
            "stopped by a person",
            cpu,
            fresh(),
            count(0),
            read(0.0),
            Unknown,
            None,
            None,
        ),
        (
            "too many",
            cpu,
            fresh(),
            count(7),
            read(0.5),
            Steady,
            Some(4),
            Some(4),
        ),
        (
            "one too many",
            cpu,
            fresh(),
            count(5),
            read(0.5),
            Steady,
            Some(4),
            Some(4),
        ),
        (
            "one too few",
            "min = 3\nmax = 4",
            fresh(),
            count(2),
            read(0.5),
            Steady,
            Some(3),
            Some(3),
        ),
        (
            "too many, whatever the load",
            cpu,
            fresh(),
            count(7),
            Load::Unreadable("gone".into()),
            Unknown,
            Some(4),
            Some(4),
        ),
        (
            "too few",
            "min = 3\nmax = 4",
            fresh(),
            count(1),
            read(0.0),
            Steady,
            Some(3),
            Some(3),
        ),
        (
            "too few, which waits for no cooldown",
            "min = 3\nmax = 4",
            changed(fresh(), 900),
            count(1),
            read(0.0),
            Steady,
            Some(3),
            Some(3),
        ),
        (
            "too many, which waits for no cooldown",
            cpu,
            changed(fresh(), 999),
            count(6),
            read(0.5),
            Steady,
            Some(4),
            Some(4),
        ),
        (
            "too many, and the last change failed",
            cpu,
            failed(changed(fresh(), 900)),
            count(6),
            read(0.5),
            ScaleFailed,
            Some(4),
            None,
        ),
        (
            "too many, and the budget is spent",
            "max = 4\nmax_per_hour = 1",
            changed(fresh(), 100),
            count(6),
            read(0.5),
            Steady,
            Some(4),
            None,
        ),
        (
            "never",
            "max = 4\nmax_per_hour = 0",
            high(940, 2, 3),
            count(2),
            read(0.9),
            Steady,
            Some(3),
            None,
        ),
        (
            "a big step",
            "max = 9\nstep = 3",
            high(940, 2, 5),
            count(2),
            read(0.9),
            Steady,
            Some(5),
            Some(5),
        ),
        (
            "a step to the maximum",
            "max = 4\nstep = 3",
            high(940, 2, 5),
            count(2),
            read(0.9),
            Steady,
            Some(4),
            Some(4),
        ),
        (
            "a big step down",
            "max = 9\nstep = 3",
            low(400, 6, 3),
            count(6),
            read(0.1),
            Steady,
            Some(3),
            Some(3),
        ),
        (
            "a step down as far as the rest can bear",
            "max = 9\nstep = 5",
            low(400, 6, 2),
            count(6),
            read(0.19),
            Steady,
            Some(2),
            Some(2),
        ),
        (
            "levels without a space between",
            "max = 9\nscale_down_at = 0.7",
            fresh(),
            count(2),
            read(0.6),
            Steady,
            Some(2),
            None,
        ),
        (
            "a queue that is empty",
            queue,
            low(400, 2, 0),
            count(2),
            read(0.0),
            Steady,
            Some(1),
            Some(1),
        ),
        (
            "a queue for one more",
            queue,
            high(940, 2, 3),
            count(2),
            read(201.0),
            Steady,
            Some(3),
            Some(3),
        ),
        (
            "a queue that is just right",
            queue,
            fresh(),
            count(2),
            read(200.0),
            Steady,
            Some(2),
            None,
        ),
        (
            "a queue for many more",
            queue,
            high(940, 2, 9),
            count(2),
            read(900.0),
            Steady,
            Some(3),
            Some(3),
        ),
        (
            "a queue that was lower in between",
            queue,
            high(940, 2, 3),
            count(2),
            read(900.0),
            Steady,
            Some(3),
            Some(3),
        ),
        (
            "a queue for more than there may be",
            queue,
            high(940, 4, 9),
            count(4),
            read(900.0),
            AtMax,
            Some(4),
            None,
        ),
        (
            "a failed change that is still wanted",
            cpu,
            failed(changed(high(940, 2, 3), 900)),
            count(2),
            read(0.9),
            ScaleFailed,
            Some(3),
            None,
        ),
        (
            "a failed change that is tried again",
            cpu,
            failed(changed(high(940, 2, 3), 600)),
            count(2),
            read(0.9),
            ScaleFailed,
            Some(3),
            Some(3),
        ),
        (
            "a failed change that is not wanted",
            cpu,
            failed(changed(fresh(), 900)),
            count(2),
            read(0.5),
            Steady,
            Some(2),
            None,
        ),
        (
            "a failed change, and nothing is read",
            cpu,
            failed(changed(fresh(), 900)),
            count(2),
            Load::NotYet("young".into()),
            ScaleFailed,
            Some(2),
            None,
        ),
        (
            "one has failed",
            cpu,
            fresh(),
            Count::Known {
                running: 2,
                failed: 1,
                left_alone: None,
            },
            read(0.5),
            Steady,
            Some(3),
            Some(3),
        ),
        (
            "all have failed",
            cpu,
            fresh(),
            Count::Known {
                running: 0,
                failed: 2,
                left_alone: None,
            },
            read(0.0),
            Steady,
            Some(2),
            Some(2),
        ),
        (
            "more have failed than there may be",
            cpu,
            fresh(),
            Count::Known {
                running: 3,
                failed: 9,
                left_alone: None,
            },
            read(0.5),
            Steady,
            Some(4),
            Some(4),
        ),
        (
            "left alone",
            cpu,
            high(700, 2, 3),
            Count::Known {
                running: 2,
                failed: 0,
                left_alone: Some("paused".into()),
            },
            read(0.9),
            Unknown,
            None,
            None,
        ),
        (
            "paused by a person",
            cpu,
            ScaleState {
                paused_until: Some(at(2000)),
                ..high(700, 2, 3)
            },
            count(9),
            read(0.9),
            Paused,
            None,
            None,
        ),
    ] {
        let rule = rule(lines);
        let decision = decided(&rule, &known, &runs, &load, 1000);
        let found = (
            decision.verdict,
            decision.desired,
            decision.change.as_ref().map(|due| due.to),
        );
        assert_eq!(
            found,
            (verdict, desired, to),
            "{what}: {:?}",
            decision.notes
        );
        if let Some(due) = &decision.change {
            let Count::Known { running, .. } = runs else {
                panic!("{what}")
            };
            assert_eq!(due.from, running, "{what}");
        }
    }
}

#[test]
fn nothing_is_changed_where_the_state_was_lost() {
    let rule = rule("min = 3");
    let decision = decide(&Facts {
        rule: &rule,
        known: &ScaleState::default(),
        count: &count(1),
        load: &Load::Read(0.9),
        now: at(0),
        trusted: false,
        jumped: false,
    });
    assert_eq!(decision.verdict, Verdict::Unknown);
    assert_eq!(decision.change, None);
}

#[test]
fn a_budget_that_is_spent_says_when_it_frees() {
    let rule = rule("cooldown = \"0s\"\nmax_per_hour = 2");
    let known = ScaleState {
        changes: vec![at(0), at(100)],
        above: Some(window(900, 940, 2, 3)),
        ..ScaleState::default()
    };
    let decision = decided(&rule, &known, &count(2), &Load::Read(0.9), 1000);
    assert_eq!(decision.change, None);
    assert_eq!(
        decision.notes,
        [
            "the load, 0.90, is above 0.8 for 1m 40s, so there are to be 3 replicas; 2 of 2 changes in the last hour; \
          the next can be made at 2027-01-15T09:00:00Z"
        ]
    );
    let outside = decided(&rule, &known, &count(12), &Load::Read(0.5), 1000);
    assert_eq!(
        outside.notes,
        [
            "12 replicas run, and 5 at most may (max), so there are to be 5 replicas; 2 of 2 changes in the last hour; \
          the next can be made at 2027-01-15T09:00:00Z"
        ]
    );
    let later = decided(&rule, &known, &count(2), &Load::Read(0.9), 3600);
    assert_eq!(later.change, None, "a window with a gap begins anew");
    let known = ScaleState {
        above: Some(window(3500, 3560, 2, 3)),
        ..known
    };
    let later = decided(&rule, &known, &count(2), &Load::Read(0.9), 3600);
    assert_eq!(later.change.unwrap().to, 3);
}

#[test]
fn a_reading_that_is_missing_neither_confirms_nor_ends_a_window() {
    let rule = rule("up_after = \"3m\"");
    let mut known = ScaleState::default();
    let mut changes = Vec::new();
    for (second, load) in [
        (0, Some(0.9)),
        (60, None),
        (120, Some(0.9)),
        (170, None),
        (185, Some(0.9)),
    ] {
        let load = load.map_or(Load::Unreadable("x".to_owned()), Load::Read);
        let decision = decided(&rule, &known, &count(2), &load, second);
        changes.push(decision.change.map(|due| due.to));
        (known.above, known.below) = (decision.above, decision.below);
    }
    assert_eq!(changes, [None, None, None, None, Some(3)]);
    // one that is missing for long does: nobody knows what was in between
    let known = ScaleState {
        above: Some(window(0, 60, 2, 3)),
        ..ScaleState::default()
    };
    for (second, to) in [(960, Some(3)), (961, None)] {
        let decision = decided(&rule, &known, &count(2), &Load::Read(0.9), second);
        assert_eq!(decision.change.map(|due| due.to), to, "{second}");
    }
}

#[test]
fn a_window_does_not_outlast_a_clock_that_jumped() {
    let rule = rule("");
    let known = ScaleState {
        above: Some(window(0, 60, 2, 3)),
        ..ScaleState::default()
    };
    let facts = Facts {
        rule: &rule,
        known: &known,
        count: &count(2),
        load: &Load::Read(0.9),
        now: at(120),
        trusted: true,
        jumped: true,
    };
    assert_eq!(decide(&facts).change, None);
    let before = Facts {
        jumped: false,
        ..facts
    };
    assert!(decide(&before).change.is_some());
}

/// Runs a policy over loads, a minute each: what runs after each, and when it was changed.
pub(super) fn play(
    rule: &ScaleRule,
    begin: u32,
    loads: impl Iterator<Item = Load>,
    mut load_of: impl FnMut(Load, u32) -> Load,
) -> (Vec<u32>, Vec<i64>) {
    let (mut known, mut running) = (ScaleState::default(), begin);
    let (mut counts, mut changes) = (Vec::new(), Vec::new());
    for (minute, load) in loads.enumerate() {
        let now = i64::try_from(minute).unwrap() * 60;
        let load = load_of(load, running);
        let decision = decided(rule, &known, &count(running), &load, now);
        (known.above, known.below) = (decision.above.clone(), decision.below.clone());
        if let Some(due) = decision.change {
            known.changes.push(at(now));
            (known.above, known.below) = (None, None);
            running = due.to;
            changes.push(now);
        }
        counts.push(running);
    }
    (counts, changes)
}

/// A load in all, spread over the replicas.
pub(super) fn spread(load: Load, running: u32) -> Load {
    match load {
        Load::Read(all) => Load::Read(all / f64::from(running)),
        other => other,
    }
}

fn any_load() -> impl Strategy<Value = Load> {
    prop_oneof![
        8 => (0.0..8.0_f64).prop_map(Load::Read),
        1 => Just(Load::NotYet("young".to_owned())),
        1 => Just(Load::Unreadable("gone".to_owned())),
    ]
}

fn any_lines() -> impl Strategy<Value = (String, u32, u32)> {
    (1..6_u32, 0..6_u32, 1..4_u32, 0..20_u32, 0..5_u32, 0..15_u32, 0..30_u32).prop_map(
        |(min, more, step, cooldown, up_after, down_after, per_hour)| {
            let max = min + more;
            let lines = format!(
                "min = {min}\nmax = {max}\nstep = {step}\ncooldown = \"{cooldown}m\"\nup_after = \"{up_after}m\"\n\
                 down_after = \"{down_after}m\"\nmax_per_hour = {per_hour}"
            );
            (lines, min, max)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Never outside the bounds, never two changes within the cooldown  never more than the hour may have, never more than a
    /// step, and nothing at all by what could not be read.
    #[test]
    fn limits_hold_whatever_the_load(
        (lines, min, max) in any_lines(),
        begin in 1..12_u32,
        loads in proptest::collection::vec(any_load(), 1..200),
    ) {
        let rule = rule(&lines);
        let unreadable: Vec<bool> = loads.iter().map(|load| !matches!(load, Load::Read(_))).collect();
        let (counts, changes) = play(&rule, begin, loads.into_iter(), spread);
        let cooldown = i64::try_from(rule.cooldown.as_secs()).unwrap();
        for pair in changes.windows(2) {
            prop_assert!(pair[1] - pair[0] >= cooldown);
        }
        for (place, &change) in changes.iter().enumerate() {
            let in_hour = changes[..=place].iter().filter(|&&at| change - at < 3600).count();
            prop_assert!(in_hour <= rule.max_per_hour as usize);
        }
        let mut before = begin;
        for (minute, &count) in counts.iter().enumerate() {
            let was_inside = (min..=max).contains(&before);
            if was_inside {
                prop_assert!((min..=max).contains(&count));
                prop_assert!(count.abs_diff(before) <= rule.step);
                prop_assert!(count == before || !unreadable[minute]);
            } else {
                // inside at once, in one step, or not at all
                prop_assert!(count == before || (min..=max).contains(&count));
            }
            before = count;
        }
    }

    /// A load that swings faster than both windows changes nothing.
    #[test]
    fn a_load_that_swings_faster_than_the_windows_changes_nothing(
        period in 1..5_usize,
        high in 1.0..9.0_f64,
        low in 0.0..0.1_f64,
        runs in 2..5_u32,
    ) {
        let rule = rule("min = 1\nmax = 9\nup_after = \"5m\"\ndown_after = \"5m\"\ncooldown = \"0s\"\nmax_per_hour = 3600");
        let loads = (0..500_usize).map(|minute| {
            let is_high = (minute / period).is_multiple_of(2);
            Load::Read(if is_high { high } else { low })
        });
        let (_, changes) = play(&rule, runs, loads, |load, _| load);
        prop_assert!(changes.is_empty());
    }

    /// A steady load reaches one number and stays there, whatever the levels and the step are.
    #[test]
    fn a_steady_load_reaches_one_number_and_stays(
        load in 0.0..40.0_f64,
        up in 0.3..2.0_f64,
        gap in 0.01..0.99_f64,
        step in 1..6_u32,
        begin in 1..20_u32,
    ) {
        let down = up * gap;
        let rule = rule(&format!(
            "min = 1\nmax = 20\nstep = {step}\nscale_up_at = {up:.3}\nscale_down_at = {:.3}\n\
             cooldown = \"1m\"\nup_after = \"1m\"\ndown_after = \"2m\"\nmax_per_hour = 3600",
            (down - 0.001).max(0.0)
        ));
        let (counts, _) = play(&rule, begin, std::iter::repeat_n(Load::Read(load), 400), spread);
        let last = counts[counts.len() - 1];
        let settled = counts.iter().position(|&count| count == last).unwrap();
        prop_assert!(counts[settled..].iter().all(|&count| count == last));
        prop_assert!(settled < 200, "{counts:?}");
        // and what it reached can bear the load, or is all that there may be
        let level = rule.levels().map(|levels| match levels {
            Levels::Between(up, _) | Levels::Each(up) => up.number(),
        });
        prop_assert!(load / f64::from(last) <= level.unwrap() || last == 20);
    }

    /// The same of queues, whose length does not follow from the replicas.
    #[test]
    fn a_steady_queue_reaches_one_number_and_stays(length in 0.0..3000.0_f64, step in 1..6_u32, begin in 1..20_u32) {
        let rule = rule(&format!(
            "min = 1\nmax = 20\nstep = {step}\nmetric = {{ command = [\"x\"] }}\nper_replica = 100\n\
             cooldown = \"1m\"\ndown_after = \"2m\"\nmax_per_hour = 3600"
        ));
        let (counts, _) = play(&rule, begin, std::iter::repeat_n(Load::Read(length), 400), |load, _| load);
        let wanted = (1..20).find(|&n| f64::from(n) * 100.0 >= length).unwrap_or(20);
        prop_assert_eq!(counts[counts.len() - 1], wanted);
        let reached = counts.iter().position(|&count| count == wanted).unwrap();
        prop_assert!(counts[reached..].iter().all(|&count| count == wanted));
    }

    /// No figures are too odd.
    #[test]
    fn no_load_is_too_odd(load: f64, running: u32, failed: u32, now in 0_i64..1 << 40) {
        for lines in ["", "metric = { command = [\"x\"] }\nper_replica = 0.001"] {
            let rule = rule(lines);
            let count = Count::Known { running, failed, left_alone: None };
            let decision = decided(&rule, &ScaleState::default(), &count, &Load::Read(load), now);
            if let Some(due) = decision.change {
                prop_assert!((rule.min..=rule.max).contains(&due.to));
            }
        }
    }
}
