//! The sentences about one alert: what is the matter, what was seen, what was done and how that ended, what to type.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};

use super::layout::{Body, QUOTED, QUOTED_LINES};
use super::{Alert, Event};
use crate::check::{Finding, Severity};
use crate::clock::{age, rough, stamp};
use crate::restart::{Action, MethodName, Operation};
use crate::text::{cut, visible};

/// What is reported later than this after it happened is reported as something of the past, in minutes.
const LATE_MINUTES: i64 = 10;
/// What stands above lists of what was found.
pub(super) const LISTS: [&str; 3] = [SEEN, SEEN_THEN, BEFORE];
const SEEN: &str = "Seen:";
const SEEN_THEN: &str = "Seen then:";
const BEFORE: &str = "Before it was stopped:";
/// What is typed.
pub(super) const PROGRAM: &str = "watchdog";
/// Where the config is found without being named.
const USUAL_CONFIG: &str = "/etc/watchdog/watchdog.toml";

/// An event after the name of its service.
pub(super) fn words(event: Event) -> &'static str {
    match event {
        Event::Report => "report",
        Event::Started => "started",
        Event::Recovered => "recovered",
        Event::Degraded => "degraded",
        Event::Restarted => "restarted",
        Event::Scaled => "scaled",
        Event::AtMax => "at its maximum",
        Event::ScaleFailed => "not scaled",
        Event::Unknown => "unknown",
        Event::Down => "down",
        Event::Repaired => "repaired",
        Event::RepairFailed => "repair failed",
        Event::RestartFailed => "restart failed",
        Event::Exhausted => "exhausted",
        Event::Watchdog => "in trouble",
        Event::Test => "sends a test",
    }
}

/// The first line about a service: what is the matter, and the finding that matters most, where it is the trouble that
/// lasts.
pub(super) fn first_sentence(alert: &Alert) -> String {
    let headline = headline(alert);
    let lasts = matches!(
        alert.event,
        Event::Degraded
            | Event::AtMax
            | Event::Unknown
            | Event::Down
            | Event::RepairFailed
            | Event::ScaleFailed
            | Event::RestartFailed
            | Event::Exhausted
    );
    match (alert.findings.first(), headline.strip_suffix('.')) {
        (Some(finding), Some(headline)) if lasts => {
            format!("{headline}: {}", cut(&visible(&finding.message), QUOTED))
        }
        _ => headline,
    }
}

/// Whether what was done is still to show whether it helps.
fn is_pending(alert: &Alert) -> bool {
    let action = alert.action.as_ref();
    action.is_some_and(|action| !action.pending.is_empty())
}

/// What is the matter.
fn headline(alert: &Alert) -> String {
    let name = visible(&alert.service);
    match alert.event {
        // its first note is all of it in a sentence
        Event::Report => {
            let all = alert
                .notes
                .first()
                .map(|note| cut(&visible(note), 2 * QUOTED));
            format!("Report: {}.", all.unwrap_or_default())
        }
        Event::Started => {
            "The watchdog has begun: this is its first run with a new state.".to_owned()
        }
        Event::Recovered => format!("{name} is well again."),
        Event::Degraded => format!("{name} runs, but something about it is not right."),
        Event::Restarted if is_pending(alert) => {
            format!("{name} was restarted and runs, but not all of it answers yet.")
        }
        Event::Restarted => format!("{name} was restarted and is up again."),
        Event::Repaired if is_pending(alert) => {
            format!("{name} was repaired, as far as that can be seen.")
        }
        Event::Unknown => format!("{name} could not be seen properly, so nothing was done."),
        Event::Down => format!("{name} is broken, and the watchdog does not restart it."),
        Event::Repaired => format!("{name} was repaired."),
        Event::RepairFailed => format!("{name} is broken, and could not be repaired."),
        Event::RestartFailed => format!("{name} is broken, and could not be restarted."),
        Event::Scaled => format!("{name} has as many replicas as its load asks for."),
        Event::AtMax => {
            format!("{name} has as many replicas as it may have, and its load asks for more.")
        }
        Event::ScaleFailed => format!("{name} does not have as many replicas as it is to have."),
        Event::Exhausted if alert.max_attempts.is_some() => {
            format!("{name} is broken, and the attempts to mend it are used up.")
        }
        Event::Exhausted => format!("{name} is broken, and its restarts are used up."),
        Event::Watchdog => "The watchdog itself is in trouble.".to_owned(),
        Event::Test => {
            "This is a test: what this watchdog has to tell arrives where you read this.".to_owned()
        }
    }
}

/// All about one alert; `called` is how the program is called.
pub(super) fn section(body: &mut Body, now: DateTime<Utc>, alert: &Alert, called: &str) {
    body.sentence(&first_sentence(alert));
    if alert.event == Event::Report {
        report(body, alert, called);
        return;
    }
    if now - alert.time >= TimeDelta::minutes(LATE_MINUTES) {
        body.sentence(&format!(
            "This happened {} and could not be sent before.",
            relative(now, alert.time)
        ));
    }
    body.blank_line();
    body.line(&format!("When: {}", moment(now, alert.time)));
    if let Some(since) = alert.since {
        let label = if alert.event == Event::Recovered {
            "In trouble from"
        } else {
            "In trouble since"
        };
        body.line(&format!("{label}: {}", moment(now, since)));
    }
    if !alert.findings.is_empty() {
        let label = if alert.event == Event::Recovered {
            SEEN_THEN
        } else {
            SEEN
        };
        body.line(label);
        for finding in alert.findings.iter().take(QUOTED_LINES) {
            body.item(&seen(finding));
        }
        if alert.findings.len() > QUOTED_LINES {
            body.item(&format!("and {} more", alert.findings.len() - QUOTED_LINES));
        }
    }
    match &alert.action {
        Some(action) => {
            done(body, action);
            before_it_was_stopped(body, action);
        }
        None if matches!(
            alert.event,
            Event::Exhausted | Event::Down | Event::Degraded
        ) =>
        {
            body.line("Done: nothing.");
        }
        None => {}
    }
    attempts(body, now, alert);
    for note in &alert.notes {
        body.sentence(&format!("Note: {}", cut(&visible(note), QUOTED)));
    }
    if !alert.log_tail.is_empty() {
        body.blank_line();
        body.line("Last log lines:");
        body.quote(alert.log_tail.iter().map(String::as_str));
    }
    body.blank_line();
    next(body, alert, called);
}

/// The lines of a report. They are as long as they are: they have columns and paths in them.
fn report(body: &mut Body, alert: &Alert, called: &str) {
    body.blank_line();
    for line in alert.notes.iter().skip(1) {
        body.line(&cut(&visible(line), 2 * QUOTED));
    }
    body.blank_line();
    body.sentence("To see it again, and what happened one by one:");
    body.command(called, "report");
    body.command(called, "history");
}

fn seen(finding: &Finding) -> String {
    let message = cut(&visible(&finding.message), 2 * QUOTED);
    match finding.severity {
        Severity::Critical => message,
        Severity::Warning => format!("warning: {message}"),
        Severity::Unknown => format!("not seen: {message}"),
    }
}

fn done(body: &mut Body, action: &Action) {
    if let (Operation::Scale, Some(from), Some(to)) = (action.kind, action.from, action.to) {
        let took = rough(std::time::Duration::from_millis(action.duration_ms));
        let done = if action.ok {
            "scaled"
        } else {
            "tried to scale it"
        };
        body.sentence(&format!(
            "Done: {done} from {from} to {to} replicas ({}, took {took}).",
            action.method
        ));
        failure(body, action, "The last lines that were written:");
        return;
    }
    let stopped = action.old_pid.map(|pid| format!("stopped PID {pid}"));
    let took = rough(std::time::Duration::from_millis(action.duration_ms));
    let how = format!("({}, took {took})", action.method);
    if action.kind == Operation::Repair {
        body.sentence(&format!("Done: ran the command of its strategy {how}."));
        pending(body, action);
        failure(body, action, "The last lines that it wrote:");
        return;
    }
    if action.ok && action.method == MethodName::Itself {
        let steps = [
            stopped,
            action
                .new_pid
                .map(|pid| format!("something else started PID {pid}")),
        ];
        let steps: Vec<String> = steps.into_iter().flatten().collect();
        body.sentence(&format!("Done: {} (took {took}).", steps.join(", ")));
        pending(body, action);
        return;
    }
    if action.ok {
        let started = action.new_pid.map_or_else(
            || "started it".to_owned(),
            |pid| format!("started PID {pid}"),
        );
        let steps: Vec<String> = stopped.into_iter().chain([started]).collect();
        body.sentence(&format!("Done: {} {how}.", steps.join(", ")));
        pending(body, action);
        return;
    }
    // one that is left running all the same
    let started = action.new_pid.map_or_else(
        || "tried to start it".to_owned(),
        |pid| format!("started PID {pid}"),
    );
    let steps: Vec<String> = stopped.into_iter().chain([started]).collect();
    body.sentence(&format!("Done: {} {how}.", steps.join(", ")));
    failure(body, action, "The last lines of its standard error:");
}

/// What the process was doing, as far as that was recorded.
fn before_it_was_stopped(body: &mut Body, action: &Action) {
    if !action.facts.is_empty() {
        body.line(BEFORE);
        for fact in action.facts.iter().take(QUOTED_LINES) {
            body.item(&cut(&visible(fact), 2 * QUOTED));
        }
    }
    if let Some(path) = &action.evidence {
        body.sentence(&format!("Recorded then: {}", cut(&visible(path), QUOTED)));
    }
}

/// What has not passed yet, where that alone is no failure.
fn pending(body: &mut Body, action: &Action) {
    if action.ok && !action.pending.is_empty() {
        body.sentence(&format!(
            "Not passed yet, and judged again by the next runs: {}.",
            cut(&visible(&action.pending.join(", ")), 2 * QUOTED)
        ));
    }
}

/// Why it failed, if it did.
fn failure(body: &mut Body, action: &Action, lines: &str) {
    if let Some(error) = &action.error {
        body.sentence(&format!("It failed: {}", cut(&visible(error), 2 * QUOTED)));
    }
    if !action.stderr.is_empty() {
        body.blank_line();
        body.line(lines);
        body.quote(action.stderr.iter().map(String::as_str));
        body.blank_line();
    }
}

fn attempts(body: &mut Body, now: DateTime<Utc>, alert: &Alert) {
    let is_shown = match alert.event {
        Event::Restarted
        | Event::Repaired
        | Event::RestartFailed
        | Event::RepairFailed
        | Event::Scaled
        | Event::ScaleFailed
        | Event::Exhausted => true,
        Event::Recovered | Event::Degraded | Event::Unknown | Event::Down => alert.attempts > 0,
        Event::AtMax | Event::Watchdog | Event::Started | Event::Test | Event::Report => false,
    };
    let max = usize::try_from(alert.max_per_hour).unwrap_or(usize::MAX);
    if is_shown && max > 0 {
        let left = match max.saturating_sub(alert.attempts) {
            0 => "none".to_owned(),
            left => left.to_string(),
        };
        let is_repair = |action: &Action| action.kind == Operation::Repair;
        let made = if matches!(alert.event, Event::Scaled | Event::ScaleFailed) {
            "Changes"
        } else if alert.action.as_ref().is_some_and(is_repair) {
            "Attempts"
        } else {
            "Restarts"
        };
        body.line(&format!(
            "{made}: {} of {max} in the last hour, {left} left.",
            alert.attempts
        ));
    }
    if let Some(code) = &alert.same_finding {
        body.sentence(&format!(
            "Every attempt of this incident met the same finding ({}): restarting does not help, and the cause lies elsewhere.",
            visible(code)
        ));
    }
    if alert.event == Event::Exhausted {
        match (alert.next_attempt, alert.max_attempts) {
            (None, Some(max)) => body.sentence(&format!(
                "Next attempt: none in this incident, which has had {max} (max_attempts)."
            )),
            (Some(next), _) => body.line(&format!("Next attempt: {}", moment(now, next))),
            (None, None) => body.line("Next attempt: none by itself (on_exhausted = \"give_up\")."),
        }
    }
}

/// What to do, and the commands for it.
fn next(body: &mut Body, alert: &Alert, called: &str) {
    let name = visible(&alert.service);
    let advice = match alert.event {
        Event::Report | Event::Recovered | Event::Scaled => {
            "Nothing has to be done. What happened:"
        }
        Event::AtMax => {
            "Where that is more often so, it takes a greater `max`, or more than this machine. To look at it:"
        }
        Event::Restarted | Event::Repaired => {
            "Nothing has to be done at once. To see what happened:"
        }
        Event::Degraded => "To look at it:",
        Event::Unknown => "To see what is in the way, and to look again:",
        Event::Down => "It has to be put right by hand. To look at it, and to look again:",
        Event::RepairFailed | Event::ScaleFailed | Event::RestartFailed | Event::Exhausted => {
            "Somebody has to find the cause. To look at it, and to look again:"
        }
        Event::Watchdog => "To see the state of things:",
        Event::Started | Event::Test => "Nothing has to be done. To see the state of things:",
    };
    body.sentence(advice);
    let mut commands = Vec::new();
    if matches!(alert.event, Event::Watchdog | Event::Started | Event::Test) {
        commands.push("status".to_owned());
        commands.push("check --dry-run".to_owned());
    } else {
        commands.push(format!("status {name}"));
        commands.push(format!("history {name}"));
        let has_evidence = |action: &Action| action.evidence.is_some();
        if alert.action.as_ref().is_some_and(has_evidence) {
            commands.push(format!("evidence {name} --last"));
        }
        if !matches!(
            alert.event,
            Event::Recovered | Event::Scaled | Event::Restarted | Event::Repaired
        ) {
            commands.push(format!("check --dry-run {name}"));
        }
    }
    for command in commands {
        body.command(called, &command);
    }
    let mut offer = |what: &str, rest: &str| {
        body.sentence(what);
        body.command(called, rest);
    };
    match (alert.event, alert.next_attempt) {
        (Event::ScaleFailed, _) => {
            if let Some(to) = alert.action.as_ref().and_then(|action| action.to) {
                offer(
                    "When the cause is mended, to have so many replicas at once:",
                    &format!("scale {name} {to}"),
                );
            }
        }
        (Event::RestartFailed, _) => offer(
            "When the cause is mended, to restart it at once:",
            &format!("restart {name} --force"),
        ),
        (Event::Exhausted, Some(_)) => offer(
            "When the cause is mended, to restart it before then:",
            &format!("restart {name} --force"),
        ),
        (Event::Exhausted, None) => offer(
            "When the cause is mended, to let the watchdog restart it again:",
            &format!("reset {name}"),
        ),
        _ => {}
    }
    if matches!(
        alert.event,
        Event::Degraded
            | Event::Unknown
            | Event::Down
            | Event::RepairFailed
            | Event::ScaleFailed
            | Event::RestartFailed
            | Event::Exhausted
    ) {
        offer(
            "To have it left alone for a while, without restarts and mails:",
            &format!("pause {name} --for 2h --reason 'being mended'"),
        );
    }
}

/// A command line that can be typed as it stands.
pub fn command(config: Option<&Path>, rest: &str) -> String {
    format!("{} {rest}", called(config))
}

/// How the program is called, with the config where that has to be named.
pub(super) fn called(config: Option<&Path>) -> String {
    match config {
        Some(path) if path != Path::new(USUAL_CONFIG) => {
            format!("{PROGRAM} -c {}", quoted(&path.to_string_lossy()))
        }
        _ => PROGRAM.to_owned(),
    }
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", visible(word).replace('\'', "'\\''"))
    }
}

/// A time with its distance from now.
fn moment(now: DateTime<Utc>, time: DateTime<Utc>) -> String {
    format!("{} ({})", stamp(time), relative(now, time))
}

fn relative(now: DateTime<Utc>, time: DateTime<Utc>) -> String {
    if time > now {
        format!("in {}", rough(age(time, now)))
    } else if now - time < TimeDelta::seconds(10) {
        "just now".to_owned()
    } else {
        format!("{} ago", rough(age(now, time)))
    }
}
