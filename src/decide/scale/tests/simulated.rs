//! A month with noisy load, lost state and clock steps; and the rule held beside that of Kubernetes on the same loads.

use std::fmt::Write;

use chrono::TimeDelta;

use super::{count, rule, spread};
use crate::clock::Reading;
use crate::decide::scale::{Facts, Load, decide};
use crate::fixtures::at;
use crate::state::State;
use crate::state::scale::ScaleState;

/// A source of numbers that are the same in each run of the test.
struct Dice(u64);

impl Dice {
    /// From 0 to 1.
    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        f64::from(u32::try_from(self.0 >> 32).unwrap()) / f64::from(u32::MAX)
    }
}

/// A load by the quarter of a minute: that of the day, with noise and bursts.
fn of_the_day(quarter: usize, dice: &mut Dice) -> f64 {
    let day = f64::from(u32::try_from(quarter % (4 * 1440)).unwrap()) / (4.0 * 1440.0);
    let base = 1.6 - 1.3 * (day * std::f64::consts::TAU).cos();
    (base * (1.0 + 0.5 * (dice.roll() - 0.5))).max(0.0)
}

#[test]
fn a_month_of_noise_lost_states_and_clock_steps_breaks_no_limit() {
    let rule = rule("min = 2\nmax = 6");
    let mut dice = Dice(0x2545_F491_4F6C_DD1D);
    let (mut state, mut running, mut trusted) = (State::default(), 2_u32, true);
    let (mut made, mut waited, mut lost, mut set) = (Vec::new(), Vec::new(), 0, 0);
    // wall and boot clock apart: what is counted here goes by the boot clock
    let mut wall = at(0);
    for minute in 0..30 * 1440_u64 {
        wall += TimeDelta::seconds(60);
        let odd = dice.roll();
        if odd < 0.001 {
            // the state is lost: the journal has the changes, and the run knows that it cannot be relied on
            let changes = std::mem::take(&mut state.scales)
                .remove("w")
                .map(|it| it.changes);
            state = State::default();
            let known = state.scales.entry("w".to_owned()).or_default();
            known.changes = changes.unwrap_or_default();
            trusted = dice.roll() < 0.5;
            lost += 1;
        } else if odd < 0.002 {
            let by = TimeDelta::seconds(if dice.roll() < 0.5 { -7200 } else { 5400 });
            wall += by;
            set += 1;
        }
        let now = Reading {
            wall,
            boot_ms: minute * 60_000,
            awake_ms: minute * 60_000,
            boot_id: "a".into(),
        };
        state.adjust_to_clock(&now);
        // somebody starts or stops one now and then
        if dice.roll() < 0.0005 {
            running = if dice.roll() < 0.5 { 9 } else { 1 };
        }
        let quarter = usize::try_from(minute * 4).unwrap();
        let load = of_the_day(quarter, &mut dice) / f64::from(running);
        let load = match dice.roll() {
            roll if roll < 0.05 => Load::Unreadable("gone".to_owned()),
            roll if roll < 0.07 => Load::NotYet("young".to_owned()),
            _ => Load::Read(load),
        };
        let nothing = ScaleState::default();
        let decision = decide(&Facts {
            rule: &rule,
            known: state.scales.get("w").unwrap_or(&nothing),
            count: &count(running),
            load: &load,
            now: wall,
            trusted,
            jumped: state.jumped_at == Some(wall),
        });
        let known = state.scales.entry("w".to_owned()).or_default();
        (known.above, known.below) = (decision.above, decision.below);
        if let Some(due) = decision.change {
            assert!(trusted, "{minute}");
            assert!((2..=6).contains(&due.to), "{minute}");
            let was_inside = (2..=6).contains(&running);
            assert!(!was_inside || due.to.abs_diff(running) == 1, "{minute}");
            assert!(!was_inside || matches!(load, Load::Read(_)), "{minute}");
            known.changes.push(wall);
            (known.above, known.below) = (None, None);
            running = due.to;
            made.push(minute);
            waited.push(was_inside);
        }
        trusted = true;
    }
    assert!(lost > 10 && set > 10, "{lost} {set}");
    assert!(made.len() > 100, "{}", made.len());
    for (place, pair) in made.windows(2).enumerate() {
        assert!(!waited[place + 1] || pair[1] - pair[0] >= 5, "{pair:?}");
    }
    for (place, &last) in made.iter().enumerate() {
        let in_hour = made[..=place].iter().filter(|&&at| last - at < 60).count();
        assert!(in_hour <= 6, "{last}");
    }
}

/// What following a load came to.
struct Figures {
    changes: usize,
    /// Minutes in which the average was above the level, of all, in tenths of a percent.
    above: usize,
    /// Replicas on average, in hundredths.
    replicas: usize,
}

const MINUTES: usize = 7 * 1440;
const MAX: u32 = 6;
const LEVEL: f64 = 0.8;

fn figures(loads: &[f64], counts: &[u32], changes: usize) -> Figures {
    let above = loads
        .iter()
        .zip(counts)
        .filter(|(load, count)| **load / f64::from(**count) > LEVEL);
    let all: u32 = counts.iter().sum();
    Figures {
        changes,
        above: above.count() * 1000 / counts.len(),
        replicas: usize::try_from(all).unwrap() * 100 / counts.len(),
    }
}

/// The rule here, a run a minute, by the average of each minute.
fn ours(loads: &[f64], step: u32) -> Figures {
    let rule = rule(&format!("min = 1\nmax = {MAX}\nstep = {step}"));
    let minutes = loads.chunks(4).map(|four| four.iter().sum::<f64>() / 4.0);
    let (counts, changes) = super::play(&rule, 1, minutes.map(Load::Read), spread);
    // what runs in a minute is what the run before it made
    let running = std::iter::once(1).chain(counts.iter().copied());
    let quarters: Vec<u32> = running
        .take(counts.len())
        .flat_map(|count| [count; 4])
        .collect();
    figures(loads, &quarters, changes.len())
}

/// The rule of the Horizontal Pod Autoscaler with its defaults: each 15 seconds ceil(current × load / target), nothing within
/// a tenth of the target; up by no more than four or twice as many, down to the highest that was wanted in 5 minutes.
fn hpa(loads: &[f64], target: f64) -> Figures {
    let (mut running, mut changes) = (1_u32, 0);
    let mut wanted: Vec<u32> = Vec::new();
    let mut counts = Vec::with_capacity(loads.len());
    for load in loads {
        counts.push(running);
        let ratio = load / f64::from(running) / target;
        let desired = if (ratio - 1.0).abs() <= 0.1 {
            running
        } else {
            let desired = (f64::from(running) * ratio).ceil();
            (1..=MAX).find(|&n| f64::from(n) >= desired).unwrap_or(MAX)
        };
        wanted.push(desired);
        let window = &wanted[wanted.len().saturating_sub(20)..];
        let highest = window.iter().copied().max().unwrap();
        let next = if desired > running {
            desired.min((running * 2).max(running + 4))
        } else {
            highest.min(running)
        };
        changes += usize::from(next != running);
        running = next;
    }
    figures(loads, &counts, changes)
}

/// The loads that both follow, for a week.
fn loads() -> Vec<(&'static str, Vec<f64>)> {
    let quarters = 0..MINUTES * 4;
    let made = |of: &dyn Fn(usize, &mut Dice) -> f64| {
        let mut dice = Dice(88_172_645_463_325_252);
        quarters
            .clone()
            .map(|it| of(it, &mut dice))
            .collect::<Vec<f64>>()
    };
    vec![
        ("steady, 2.0", made(&|_, _| 2.0)),
        (
            "steady, with half of it as noise",
            made(&|_, dice| 2.0 * (0.75 + 0.5 * dice.roll())),
        ),
        ("that of a day, with noise", made(&of_the_day)),
        (
            "swings between 0.1 and 2.5 each minute",
            made(&|quarter, _| {
                if (quarter / 4).is_multiple_of(2) {
                    0.1
                } else {
                    2.5
                }
            }),
        ),
        (
            "swings between 0.3 and 2.5 each 6 minutes",
            made(&|quarter, _| {
                if (quarter / 24).is_multiple_of(2) {
                    0.3
                } else {
                    2.5
                }
            }),
        ),
        (
            "a burst of 20 minutes each 2 hours",
            made(&|quarter, _| if quarter % 480 < 80 { 3.0 } else { 0.3 }),
        ),
        (
            "around a level, 0.75 to 0.85",
            made(&|_, dice| 0.75 + 0.1 * dice.roll()),
        ),
    ]
}

/// The lines of the table in docs/scaling.md.
fn table() -> String {
    let mut text = String::new();
    for (name, loads) in loads() {
        let _ = write!(text, "| {name} ");
        let all = [
            ours(&loads, 1),
            ours(&loads, 3),
            hpa(&loads, 0.5),
            hpa(&loads, LEVEL),
        ];
        for of in all {
            let _ = write!(
                text,
                "| {} | {}.{}% | {}.{:02} ",
                of.changes,
                of.above / 10,
                of.above % 10,
                of.replicas / 100,
                of.replicas % 100
            );
        }
        text.push_str("|\n");
    }
    text
}

#[test]
fn the_rule_is_held_beside_that_of_kubernetes_on_the_same_loads() {
    let table = table();
    println!("{table}");
    let page = include_str!("../../../../docs/scaling.md");
    for line in table.lines() {
        assert!(page.contains(line), "docs/scaling.md lacks\n{line}");
    }
    // what does not last changes little
    for (name, loads) in loads()
        .iter()
        .filter(|(name, _)| name.starts_with("swings"))
    {
        assert!(ours(loads, 1).changes < 10, "{name}");
    }
}
