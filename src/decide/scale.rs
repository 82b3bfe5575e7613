//! How many replicas there are to be: a function of what was measured, what is remembered, the rule and the time.
//!
//! Pure and total, as the policy is. A load must ask for the same side in each run of a window, `up_after` or `down_after`,
//! before anything changes, and a change begins new windows. A reading that is missing neither confirms a window nor ends
//! it, but one that has not been confirmed for long is begun anew.
//!
//! An average of the replicas falls when one is added, and rises when one is taken away. So fewer there are only as far as
//! the rest would not be above `scale_up_at` by that: else the next windows would bring back what was taken away, however
//! steady the load is.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::amount::rounded;
use crate::clock::{age, rough, stamp};
use crate::config::scale::{Levels, ScaleRule};
use crate::state::scale::{ScaleState, Window};
use crate::verdict::Verdict;

/// What was read is joined to what was read before, unless there is more than this, or than the window itself, between.
const LONGEST_GAP: Duration = Duration::from_mins(15);

/// What has lasted less long has just begun.
const SHORT: Duration = Duration::from_secs(1);

/// The load.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// So much.
    Read(f64),
    /// There is none yet, for this reason: an average needs two looks at the same replicas, and these not too young.
    NotYet(String),
    /// It could not be read, for this reason.
    Unreadable(String),
}

/// The replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Count {
    /// They were counted.
    Known {
        /// So many run.
        running: u32,
        /// So many have failed that are to run.
        failed: u32,
        /// Why nothing may be done to them now, whatever is wrong.
        left_alone: Option<String>,
    },
    /// They could not be counted, for this reason.
    Unknown(String),
}

/// What a run knows when it decides.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The rule.
    pub rule: &'a ScaleRule,
    /// What is remembered.
    pub known: &'a ScaleState,
    /// The replicas.
    pub count: &'a Count,
    /// The load.
    pub load: &'a Load,
    /// The time of the run.
    pub now: DateTime<Utc>,
    /// Whether what is remembered can be relied on.
    pub trusted: bool,
    /// The clock was set, or the machine slept, since the last run: how long something has lasted is not known.
    pub jumped: bool,
}

/// What is to be done about the replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleDecision {
    /// The verdict, as far as looking goes: [`Verdict::Steady`] where a change is due.
    pub verdict: Verdict,
    /// So many run.
    pub replicas: Option<u32>,
    /// So many are to run.
    pub desired: Option<u32>,
    /// The change that is to be made now.
    pub change: Option<Due>,
    /// What a person should know: why nothing is done, what is waited for.
    pub notes: Vec<String>,
    /// The last change failed, and is no longer wanted.
    pub forgets_failure: bool,
    /// For how long the load has asked for more.
    pub above: Option<Window>,
    /// For how long it has asked for fewer.
    pub below: Option<Window>,
}

/// A change that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// So many run.
    pub from: u32,
    /// So many are to run.
    pub to: u32,
    /// Why.
    pub why: String,
}

impl Due {
    /// Why, and what follows, as a sentence.
    pub fn reason(&self) -> String {
        format!("{}, so there are to be {}", self.why, replicas(self.to))
    }
}

impl ScaleDecision {
    fn of(facts: &Facts<'_>, verdict: Verdict, note: impl Into<String>) -> Self {
        Self {
            verdict,
            replicas: match facts.count {
                Count::Known { running, .. } => Some(*running),
                Count::Unknown(_) => None,
            },
            desired: None,
            change: None,
            notes: vec![note.into()],
            forgets_failure: false,
            above: facts.known.above.clone(),
            below: facts.known.below.clone(),
        }
    }
}

impl ScaleDecision {
    /// That a person wants so many replicas.
    pub fn by_hand(from: u32, to: u32) -> Self {
        Self {
            verdict: Verdict::Steady,
            replicas: Some(from),
            desired: Some(to),
            change: Some(Due {
                from,
                to,
                why: "by hand".to_owned(),
            }),
            notes: Vec::new(),
            forgets_failure: false,
            above: None,
            below: None,
        }
    }
}

/// What a load asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    /// More: at most so many.
    More(u32),
    /// Fewer: at least so many.
    Fewer(u32),
    /// What runs.
    Same,
}

/// Decides about the replicas of a scale.
pub fn decide(facts: &Facts<'_>) -> ScaleDecision {
    let Facts {
        rule, known, now, ..
    } = *facts;
    if let Some(pause) = known.pause_note(now) {
        return ScaleDecision {
            above: None,
            below: None,
            ..ScaleDecision::of(facts, Verdict::Paused, pause)
        };
    }
    if !facts.trusted {
        let why = "the state was lost, and with it when there was a change: nothing is changed in this run";
        return ScaleDecision::of(facts, Verdict::Unknown, why);
    }
    let (running, failed) = match facts.count {
        Count::Unknown(why)
        | Count::Known {
            left_alone: Some(why),
            ..
        } => return ScaleDecision::of(facts, Verdict::Unknown, why),
        Count::Known {
            running: 0,
            failed: 0,
            ..
        } => {
            let why = "no replica runs: they were stopped by a person, and are left alone";
            return ScaleDecision {
                above: None,
                below: None,
                ..ScaleDecision::of(facts, Verdict::Unknown, why)
            };
        }
        Count::Known {
            running, failed, ..
        } => (*running, *failed),
    };
    let asks = match facts.load {
        Load::Read(load) => asked(rule, *load, running),
        Load::NotYet(_) | Load::Unreadable(_) => None,
    };
    let [above, below] = windows(facts, asks, running);
    let mut decision = ScaleDecision {
        verdict: Verdict::Steady,
        replicas: Some(running),
        desired: Some(running),
        change: None,
        notes: Vec::new(),
        forgets_failure: false,
        above,
        below,
    };
    let due =
        outside(rule, running, failed).or_else(|| by_load(facts, &mut decision, asks, running));
    match facts.load {
        Load::Read(_) => {}
        Load::NotYet(why) => decision.notes.push(why.clone()),
        Load::Unreadable(why) => {
            decision.verdict = Verdict::Unknown;
            decision.notes.push(why.clone());
        }
    }
    decision.forgets_failure = due.is_none() && matches!(facts.load, Load::Read(_));
    if let Some(failed) = known.failed.as_ref().filter(|_| !decision.forgets_failure) {
        if decision.verdict != Verdict::Unknown {
            decision.verdict = Verdict::ScaleFailed;
        }
        decision.notes.push(format!(
            "the last change, from {} to {} at {}, failed",
            replicas(failed.from),
            failed.to,
            stamp(failed.at)
        ));
    }
    let Some(due) = due else {
        return decision;
    };
    decision.desired = Some(due.to);
    // what failed is not tried again in each run
    let waits = !is_outside(rule, running) || known.failed.is_some();
    match held(rule, known, now, waits) {
        Some(held) => decision.notes.push(format!("{}; {held}", due.reason())),
        None => decision.change = Some(due),
    }
    decision
}

/// `1 replica`, `2 replicas`.
fn replicas(number: u32) -> String {
    format!("{number} replica{}", if number == 1 { "" } else { "s" })
}

/// Whether there are fewer or more than there ever are to be.
fn is_outside(rule: &ScaleRule, running: u32) -> bool {
    !(rule.min..=rule.max).contains(&running)
}

/// What brings the replicas back to where they have to be, whatever the load is.
fn outside(rule: &ScaleRule, running: u32, failed: u32) -> Option<Due> {
    let due = |to, why: String| {
        Some(Due {
            from: running,
            to,
            why,
        })
    };
    if running > rule.max {
        let why = format!(
            "{} run, and {} at most may (max)",
            replicas(running),
            rule.max
        );
        return due(rule.max, why);
    }
    let repaired = running.saturating_add(failed).min(rule.max);
    if running < rule.min {
        let why = format!(
            "{} run, and {} at least have to (min)",
            replicas(running),
            rule.min
        );
        return due(repaired.max(rule.min), why);
    }
    if repaired > running {
        return due(repaired, format!("{} failed", replicas(failed)));
    }
    None
}

/// Which side a load is on.
fn asked(rule: &ScaleRule, load: f64, running: u32) -> Option<Asks> {
    let asks = match rule.levels()? {
        Levels::Each(each) => {
            let wanted = rounded_up(load / each.number());
            match wanted {
                _ if wanted > running => Asks::More(wanted),
                _ if wanted < running => Asks::Fewer(wanted),
                _ => Asks::Same,
            }
        }
        Levels::Between(up, _) if load > up.number() => {
            Asks::More(running.saturating_add(rule.step))
        }
        Levels::Between(up, down) if load < down.number() => {
            let least = running.saturating_sub(rule.step).max(1);
            let stays_below = |fewer: u32| {
                !rule.metric.is_average()
                    || load * f64::from(running) / f64::from(fewer) <= up.number()
            };
            // a step is small, and this is its only bound
            match (least..running).find(|&fewer| stays_below(fewer)) {
                Some(fewer) => Asks::Fewer(fewer),
                None => Asks::Same,
            }
        }
        Levels::Between(..) => Asks::Same,
    };
    Some(asks)
}

/// How many replicas a share of them is.
fn rounded_up(share: f64) -> u32 {
    // what a division leaves over is not one more
    let whole = (share - 1e-9).ceil().clamp(0.0, f64::from(u32::MAX));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is within the range"
    )]
    let whole = whole as u32;
    whole
}

/// The windows, brought up to date: the one above, and the one below. A load that could not be read leaves both as they are.
fn windows(facts: &Facts<'_>, asks: Option<Asks>, running: u32) -> [Option<Window>; 2] {
    let Facts {
        rule, known, now, ..
    } = *facts;
    let former = |window: &Option<Window>, lasts: Duration| {
        let joined = |window: &&Window| {
            !facts.jumped
                && window.replicas == running
                && age(now, window.last) <= LONGEST_GAP.max(lasts)
        };
        window.as_ref().filter(joined).cloned()
    };
    let above = former(&known.above, rule.up_after);
    let below = former(&known.below, rule.down_after);
    let begun = |former: Option<Window>, desired: u32, nearer: fn(u32, u32) -> u32| {
        let (since, before) = former.map_or((now, desired), |it| (it.since, it.desired));
        Some(Window {
            since: since.min(now),
            last: now,
            replicas: running,
            desired: nearer(desired, before),
        })
    };
    match asks {
        None => [above, below],
        Some(Asks::Same) => [None, None],
        Some(Asks::More(desired)) => [begun(above, desired, u32::min), None],
        Some(Asks::Fewer(desired)) => [None, begun(below, desired, u32::max)],
    }
}

/// What the load has asked for so long that it is to be; notes what it has not asked for long enough.
fn by_load(
    facts: &Facts<'_>,
    decision: &mut ScaleDecision,
    asks: Option<Asks>,
    running: u32,
) -> Option<Due> {
    let Facts { rule, now, .. } = *facts;
    let Load::Read(load) = facts.load else {
        return None;
    };
    let load = rounded(*load);
    let (window, lasts, is_more) = match asks? {
        Asks::Same => return None,
        Asks::More(_) => (decision.above.as_ref()?, rule.up_after, true),
        Asks::Fewer(_) => (decision.below.as_ref()?, rule.down_after, false),
    };
    let desired = window.desired;
    let lasted = age(now, window.since);
    let side = match rule.levels()? {
        Levels::Each(each) => format!("the load, {load}, takes {} of {each}", replicas(desired)),
        Levels::Between(up, _) if is_more => format!("the load, {load}, is above {up}"),
        Levels::Between(_, down) => format!("the load, {load}, is below {down}"),
    };
    let to = if is_more {
        desired.min(running.saturating_add(rule.step)).min(rule.max)
    } else {
        desired.max(running.saturating_sub(rule.step)).max(rule.min)
    };
    if lasted < lasts {
        // where nothing would follow, nothing is waited for
        if to != running || is_more {
            let key = if is_more { "up_after" } else { "down_after" };
            decision.notes.push(format!(
                "{side} for {}, which counts from {} on ({key})",
                rough(lasted),
                rough(lasts)
            ));
        }
        return None;
    }
    let why = if lasted < SHORT {
        side
    } else {
        format!("{side} for {}", rough(lasted))
    };
    if to == running {
        if is_more {
            decision.verdict = Verdict::AtMax;
            decision
                .notes
                .push(format!("{why}, and there are {running} already (max)"));
        }
        return None;
    }
    Some(Due {
        from: running,
        to,
        why,
    })
}

/// Why a change that is due may not be made now: for the budget, and, where it `waits` for that, the cooldown.
fn held(rule: &ScaleRule, known: &ScaleState, now: DateTime<Utc>, waits: bool) -> Option<String> {
    if rule.max_per_hour == 0 {
        return Some("nothing is changed (max_per_hour = 0)".to_owned());
    }
    let made = known.changes_in_hour(now);
    if made >= rule.max_per_hour as usize {
        let frees = known.budget_frees_at(now, rule.max_per_hour);
        let when = frees.map_or_else(String::new, |frees| {
            format!("; the next can be made at {}", stamp(frees))
        });
        return Some(format!(
            "{made} of {} changes in the last hour{when}",
            rule.max_per_hour
        ));
    }
    let last = known.last_change().filter(|_| waits)?;
    let ends = TimeDelta::from_std(rule.cooldown)
        .ok()
        .and_then(|cooldown| last.checked_add_signed(cooldown))
        .unwrap_or(DateTime::<Utc>::MAX_UTC);
    (age(now, last) < rule.cooldown).then(|| {
        format!(
            "the last change was {} ago, and the next can be made at {} (cooldown {})",
            rough(age(now, last)),
            stamp(ends),
            rough(rule.cooldown)
        )
    })
}

#[cfg(test)]
mod tests;
