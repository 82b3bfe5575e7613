//! What a run leaves behind of a scale: as `settle` does of services, and as pure.

use chrono::{DateTime, Utc};
use serde_json::Number;

use super::alerts::{AlertConfig, Occasion};
use crate::config::Scale;
use crate::decide::scale::{Load, ScaleDecision};
use crate::notify::Alert;
use crate::report::ScaleReport;
use crate::scale::change::Changed;
use crate::scale::measure::Measured;
use crate::state::journal::{Entry, JournalEvent};
use crate::state::scale::{Change, LastResult};
use crate::state::{State, incident_id};
use crate::verdict::Verdict;

/// What came of a change that was due.
#[derive(Clone, Debug)]
pub enum ScaleOutcome {
    /// It was made.
    Made(Box<Changed>),
    /// It was not made, for this reason.
    Skipped(String),
}

/// What was settled about a scale.
#[derive(Clone, Debug)]
pub struct SettledScale {
    /// What this run came to.
    pub report: ScaleReport,
    /// What to write into the journal.
    pub entries: Vec<Entry>,
    /// Something is remembered of it now that must not be forgotten.
    pub must_persist: bool,
}

/// Enters a change that is about to be made: to be on the disk before anything is touched.
pub fn record_change(state: &mut State, scale: &Scale, change: Change, why: &str) -> Entry {
    let now = change.at;
    let known = state.scales.entry(scale.name.clone()).or_default();
    let mut entry = Entry::new(now, &scale.name, JournalEvent::Scaling);
    let (from, to) = (change.from, change.to);
    known.record(change);
    entry.message = Some(format!(
        "change {} of {} in this hour, from {from} to {to} replicas: {why}",
        known.changes_in_hour(now),
        scale.rule.max_per_hour
    ));
    entry
}

/// Takes up a change that a run before left unfinished: it was cut short. The number of replicas says how it ended.
pub fn recover_change(
    state: &mut State,
    scale: &Scale,
    measured: &Measured,
    now: DateTime<Utc>,
) -> Option<Entry> {
    let known = state.scales.get_mut(&scale.name)?;
    let replicas = measured.replicas.as_ref().ok()?;
    let change = known.interrupted.take()?;
    known.counted.count(None);
    let count = replicas.count();
    known.wanted = Some(replicas.numbers());
    let how = if count == change.to {
        known.failed = None;
        "and so many run".to_owned()
    } else {
        format!("and {count} run now")
    };
    let mut entry = Entry::new(now, &scale.name, JournalEvent::Interrupted);
    entry.message = Some(format!(
        "the run of {} was cut short while it scaled `{}` from {} to {} replicas, {how}; the change counts",
        crate::clock::stamp(change.at),
        scale.name,
        change.from,
        change.to
    ));
    Some(entry)
}

/// Settles one scale: its state is brought up to date, what is worth it is journalled and alerted about.
pub fn settle_scale(
    state: &mut State,
    scale: &Scale,
    decision: &ScaleDecision,
    measured: &Measured,
    outcome: Option<&ScaleOutcome>,
    now: DateTime<Utc>,
    alerting: AlertConfig<'_>,
) -> SettledScale {
    let known = state.scales.entry(scale.name.clone()).or_default();
    let former = known.clone();
    let mut notes = decision.notes.clone();
    let (verdict, made) = match outcome {
        Some(ScaleOutcome::Made(changed)) if changed.action.ok => {
            (Verdict::Scaled, Some(&**changed))
        }
        Some(ScaleOutcome::Made(changed)) => (Verdict::ScaleFailed, Some(&**changed)),
        Some(ScaleOutcome::Skipped(why)) => {
            notes.push(why.clone());
            (decision.verdict, None)
        }
        None => (decision.verdict, None),
    };
    if let (Some(due), Some(_)) = (&decision.change, made) {
        notes.insert(0, due.why.clone());
    }
    if let (Some(due), None) = (&decision.change, outcome) {
        notes.insert(0, due.reason());
    }
    known.above.clone_from(&decision.above);
    known.below.clone_from(&decision.below);
    if let Some(samples) = &measured.samples {
        known.samples = Some(samples.clone());
    }
    if decision.forgets_failure {
        known.failed = None;
    }
    if let Ok(replicas) = &measured.replicas {
        // only a change takes one out: what is gone by itself is broken
        let failed = replicas.failed_of(known.wanted.as_ref(), scale.rule.max);
        let wanted = known.wanted.get_or_insert_default();
        wanted.extend(replicas.numbers());
        wanted.extend(failed);
    }
    if let Some(changed) = made {
        let begun = known.interrupted.take();
        known.counted.count(Some(changed.action.ok));
        if changed.wanted.is_some() {
            known.wanted.clone_from(&changed.wanted);
        }
        if changed.action.ok {
            // what runs now is judged anew
            (known.above, known.below, known.failed) = (None, None, None);
        } else {
            known.failed = begun;
        }
    }
    if known.verdict != Some(verdict) {
        known.since = Some(now);
    }
    let before = known.verdict.replace(verdict);
    let (since, mut incident) = (known.trouble_since, known.incident.clone());
    match verdict {
        Verdict::Steady | Verdict::Scaled => (known.trouble_since, known.incident) = (None, None),
        Verdict::Paused => {}
        _ => {
            let began = *known.trouble_since.get_or_insert(now);
            let id = known
                .incident
                .get_or_insert_with(|| incident_id(&scale.name, began));
            incident = Some(id.clone());
        }
    }
    let load = match measured.load {
        Load::Read(load) => Number::from_f64(load),
        Load::NotYet(_) | Load::Unreadable(_) => None,
    };
    let report = ScaleReport {
        name: scale.name.clone(),
        verdict,
        since: known.since,
        replicas: decision.replicas,
        desired: decision.desired,
        metric: load,
        action: made.map(|changed| changed.action.clone()),
        changes_last_hour: known.changes_in_hour(now),
        max_per_hour: scale.rule.max_per_hour,
        notes,
        would: decision
            .change
            .as_ref()
            .filter(|_| outcome.is_none())
            .map(|due| due.to),
    };
    known.report = LastResult {
        time: Some(now),
        replicas: report.replicas,
        desired: report.desired,
        metric: report.metric.clone(),
        action: report.action.clone(),
        notes: report.notes.clone(),
    };
    let has_changed = {
        let mut former = former;
        former.catch_up(known);
        former != *known
    };
    let trouble_since = known.trouble_since.or(since);
    let entries = journalled(before, &report, now);
    let occasion = Occasion {
        name: &scale.name,
        verdict,
        incident: incident.as_deref(),
        // it is not told of one that it fails again and again: each change is news
        incidents: 0,
        now,
    };
    let has_alerted = occasion.alert(&mut state.channels, alerting, |event| Alert {
        action: report.action.clone(),
        since: trouble_since,
        attempts: report.changes_last_hour,
        max_per_hour: report.max_per_hour,
        notes: report.notes.clone(),
        incident: incident.clone(),
        ..Alert::new(now, &scale.name, event)
    });
    SettledScale {
        report,
        entries,
        must_persist: has_changed || has_alerted,
    }
}

/// What the journal says of a run: every change of the verdict, and every change of the replicas.
fn journalled(before: Option<Verdict>, report: &ScaleReport, now: DateTime<Utc>) -> Vec<Entry> {
    let verdict = report.verdict;
    let is_first_and_well = before.is_none() && verdict.exit_code().code() == 0;
    // that nothing more has to be changed is no news
    let is_calm = verdict == Verdict::Steady && before == Some(Verdict::Scaled);
    let is_same = before == Some(verdict) || is_first_and_well || is_calm;
    if is_same && report.action.is_none() {
        return Vec::new();
    }
    let is_over = before.is_some_and(|before| before.exit_code().code() != 0);
    let event = match verdict {
        Verdict::Steady if is_over => JournalEvent::Recovered,
        verdict => JournalEvent::Verdict(verdict),
    };
    let mut entry = Entry::new(now, &report.name, event);
    entry.verdict = Some(verdict);
    entry.action.clone_from(&report.action);
    entry.message = Some(report.notes.join("; ")).filter(|message| !message.is_empty());
    vec![entry]
}
