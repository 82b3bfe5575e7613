//! The last decision about a scale, and what it rests on.

use chrono::{DateTime, Utc};

use crate::amount::rounded;
use crate::clock::{Reading, age, rough, stamp};
use crate::commands::{print, read_journal, recorded};
use crate::config::Config;
use crate::config::scale::{Levels, Metric, Scale};
use crate::error::Error;
use crate::report::page::{Page, Style};
use crate::report::text::{add_entry, describe};
use crate::state::journal::Entry;
use crate::state::scale::{LastResult, ScaleState};
use crate::verdict::Verdict;

/// How many of the last changes are shown.
const CHANGES: usize = 5;

/// Tells it.
pub(super) fn run(config: &Config, scale: &Scale, style: Style) -> Result<u8, Error> {
    let clock = Reading::take();
    let now = clock.wall;
    let mut state = recorded(config)?;
    state.move_with_clock(&clock);
    let mut changes = Vec::new();
    read_journal(config, |entry| {
        if entry.service == scale.name && entry.action.is_some() {
            changes.push(entry);
        }
    })?;
    let known = state.scales.get(&scale.name);
    print(&account(scale, known, &changes, now, style))?;
    Ok(0)
}

/// The account: the verdict, what was seen, what was decided, the limits, the last changes. `changes` are the entries of the
/// journal about changes, oldest first.
fn account(
    scale: &Scale,
    known: Option<&ScaleState>,
    changes: &[Entry],
    now: DateTime<Utc>,
    style: Style,
) -> String {
    let mut page = Page::new(style);
    let (name, rule) = (&scale.name, &scale.rule);
    let Some((known, verdict)) = known.and_then(|known| Some((known, known.verdict?))) else {
        let line = format!("no run has looked at {name} yet; `watchdog check {name}` does");
        page.line(0, &line);
        return page.into_text();
    };
    let ago = |time: DateTime<Utc>| format!("{} ({} ago)", stamp(time), rough(age(now, time)));
    let since = known.since.map(|since| format!(" since {}", ago(since)));
    page.verdict(
        verdict.name(),
        0,
        verdict.exit_code(),
        &format!("{name}{}", since.unwrap_or_default()),
    );
    let report = &known.report;
    let seen = report.time.map(|time| format!(", {}", ago(time)));
    page.line(
        0,
        &format!("seen by the last run{}:", seen.unwrap_or_default()),
    );
    page.line(
        4,
        &match report.replicas {
            Some(count) => format!(
                "{count} replica{} of {} (min {}, max {})",
                if count == 1 { "" } else { "s" },
                rule.target(),
                rule.min,
                rule.max
            ),
            None => format!("the replicas of {} could not be counted", rule.target()),
        },
    );
    let load = report.metric.as_ref().and_then(serde_json::Number::as_f64);
    page.line(
        4,
        &format!(
            "{}{}",
            measure(scale),
            match load {
                Some(load) => format!(": {}", rounded(load)),
                None => ": not known".to_owned(),
            }
        ),
    );
    page.line(0, "decided:");
    page.line(4, &meaning(verdict, report));
    for note in &report.notes {
        page.line(4, note);
    }
    if verdict != Verdict::Paused
        && let Some(pause) = known.pause_note(now)
    {
        page.line(4, &format!("since then {pause}"));
    }
    if let Some(action) = &report.action {
        page.line(4, &describe(action));
        for line in &action.stderr {
            page.quoted(6, line);
        }
    }
    page.line(0, "limits:");
    page.line(
        4,
        &format!(
            "{} of {} changes in the last hour (max_per_hour), {} between two (cooldown)",
            known.changes_in_hour(now),
            rule.max_per_hour,
            rough(rule.cooldown)
        ),
    );
    let last = changes.len().saturating_sub(CHANGES);
    if !changes.is_empty() {
        page.line(0, "the last changes:");
    }
    for entry in &changes[last..] {
        add_entry(&mut page, entry);
    }
    page.into_text()
}

/// What the load is, and what it is held against.
fn measure(scale: &Scale) -> String {
    let what = match &scale.rule.metric {
        Metric::Cpu => "their average processor time, of one processor",
        Metric::Memory => "their average memory, of its limit",
        Metric::Asked(_) => "the load",
    };
    match scale.rule.levels() {
        Some(Levels::Each(each)) => format!("{what} (one replica for each {each})"),
        Some(Levels::Between(up, down)) => {
            format!("{what} (more replicas above {up}, fewer below {down})")
        }
        None => what.to_owned(),
    }
}

/// What was decided. A change that is due and was not made, for which the notes say why, goes by the verdict of what was
/// seen: it is no trouble.
fn meaning(verdict: Verdict, report: &LastResult) -> String {
    let (from, to) = (report.replicas, report.desired);
    let sentence = match verdict {
        Verdict::Scaled => {
            let now = to.map_or_else(|| "so many".to_owned(), |to| to.to_string());
            return format!("another number of replicas was due, and {now} run now");
        }
        Verdict::AtMax => "the load asks for more replicas than there may be (max)",
        Verdict::ScaleFailed => "another number of replicas was to run, and does not",
        Verdict::Paused => "a person wants it left alone",
        _ => {
            if let (Some(from), Some(to)) = (from, to)
                && from != to
                && report.action.is_none()
            {
                return format!(
                    "a change from {from} to {to} replicas is due, and is not made now"
                );
            }
            if verdict == Verdict::Unknown {
                "what could not be seen changes nothing"
            } else {
                "nothing has to be changed"
            }
        }
    };
    sentence.to_owned()
}
