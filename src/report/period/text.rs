//! A report of a stretch of time, for people.

use std::time::Duration;

use super::{AttemptMade, PeriodReport, ServicePeriod, Span};
use crate::clock::{age, rough, stamp};
use crate::report::page::{Page, Style};
use crate::restart::Operation;
use crate::text::{cut, visible};

/// So many attempts of a service have a line, the newest; further ones are counted.
const ATTEMPTS: usize = 20;

/// What was found, and why something failed, is cut to so many characters.
const QUOTED: usize = 300;

/// So many lines at the most go into a message.
const LINES: usize = 400;

/// `1 restart`, `2 restarts`.
fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn with_failed(number: usize, what: &str, failed: usize) -> String {
    let made = count(number, what);
    match failed {
        0 => made,
        failed => format!("{made} ({failed} failed)"),
    }
}

/// All of it in a sentence.
pub fn headline(report: &PeriodReport) -> String {
    let sum = |of: fn(&ServicePeriod) -> usize| report.services.iter().map(of).sum::<usize>();
    let troubled = report.services.iter().filter(|it| !it.is_quiet()).count();
    let time = rough(age(report.to, report.from));
    if troubled == 0 {
        let all = count(report.services.len(), "service");
        return format!("{all} in {time}: no trouble");
    }
    let of = report.services.len();
    let mut parts = vec![with_failed(
        sum(|it| it.restarts),
        "restart",
        sum(|it| it.restarts_failed),
    )];
    let repairs = sum(|it| it.repairs);
    if repairs > 0 {
        parts.push(with_failed(repairs, "repair", sum(|it| it.repairs_failed)));
    }
    parts.push(count(sum(|it| it.failures), "failure"));
    let not_well: Duration = report.services.iter().map(|it| it.not_well).sum();
    parts.push(format!("{} not well", rough(not_well)));
    format!(
        "{troubled} of {} had trouble in {time}: {}",
        count(of, "service"),
        parts.join(", ")
    )
}

/// A service in a line.
pub fn service(service: &ServicePeriod) -> String {
    let mut parts = Vec::new();
    if service.restarts > 0 {
        let (made, failed) = (service.restarts, service.restarts_failed);
        parts.push(with_failed(made, "restart", failed));
    }
    if service.repairs > 0 {
        let (made, failed) = (service.repairs, service.repairs_failed);
        parts.push(with_failed(made, "repair", failed));
    }
    if service.failures > 0 {
        parts.push(count(service.failures, "failure"));
    }
    parts.push(format!("{} not well", rough(service.not_well)));
    if let Some(mean) = service.mean_between_restarts {
        parts.push(format!("{} between restarts on average", rough(mean)));
    }
    if service.in_trouble {
        parts.push("still in trouble".to_owned());
    }
    format!("{}: {}", service.name, parts.join(", "))
}

/// `12m, from … to …`.
pub fn span(span: &Span) -> String {
    let to = match span.to {
        Some(to) => format!("to {}", stamp(to)),
        None => "until now".to_owned(),
    };
    format!("{}, from {} {to}", rough(span.lasted), stamp(span.from))
}

/// What an attempt met, and how it ended.
pub fn attempt(attempt: &AttemptMade) -> String {
    let what = match (attempt.kind, attempt.ok) {
        (Some(Operation::Restart), true) => "restarted",
        (Some(Operation::Restart), false) => "restart failed",
        (Some(Operation::Repair), true) => "repaired",
        (Some(Operation::Repair), false) => "repair failed",
        (Some(Operation::Scale), true) => "scaled",
        (Some(Operation::Scale), false) => "not scaled",
        (None, _) => "cut short",
    };
    let reasons: Vec<String> = (attempt.findings.iter())
        .map(|reason| {
            format!(
                "{} ({})",
                cut(&visible(&reason.message), QUOTED),
                reason.code
            )
        })
        .collect();
    let mut text = format!("{}  {what}", stamp(attempt.time));
    if !reasons.is_empty() {
        text.push_str(" for ");
        text.push_str(&reasons.join("; "));
    }
    if let Some(error) = &attempt.error {
        text.push_str(": ");
        text.push_str(&cut(&visible(error), QUOTED));
    }
    text
}

/// The lines of a report behind its headline, each with its indentation.
pub fn lines(report: &PeriodReport) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let (quiet, troubled): (Vec<&ServicePeriod>, Vec<&ServicePeriod>) =
        report.services.iter().partition(|it| it.is_quiet());
    for of in troubled {
        lines.push((0, service(of)));
        if let Some(longest) = &of.longest_trouble {
            lines.push((4, format!("longest trouble: {}", span(longest))));
        }
        let earlier = of.attempts.len().saturating_sub(ATTEMPTS);
        if earlier > 0 {
            lines.push((4, format!("{} earlier", count(earlier, "attempt"))));
        }
        for made in of.attempts.iter().skip(earlier) {
            lines.push((4, attempt(made)));
            let facts = made.facts.iter();
            lines.extend(facts.map(|fact| (8, cut(&visible(fact), QUOTED))));
            if let Some(path) = &made.evidence {
                lines.push((8, format!("what it was doing: {}", visible(path))));
            }
        }
    }
    if !quiet.is_empty() && quiet.len() < report.services.len() {
        let names: Vec<&str> = quiet.iter().map(|it| it.name.as_str()).collect();
        lines.push((0, format!("no trouble: {}", names.join(", "))));
    }
    for silent in &report.silent {
        lines.push((0, format!("no run for {}", span(silent))));
    }
    for trouble in &report.troubles {
        let message = cut(&visible(&trouble.message), QUOTED);
        lines.push((0, format!("{}  watchdog: {message}", stamp(trouble.time))));
    }
    for (channel, counts) in &report.messages {
        let mut parts = vec![format!("{} sent", counts.sent)];
        if counts.refused > 0 {
            parts.push(format!("{} refused", counts.refused));
        }
        if counts.given_up > 0 {
            parts.push(format!("{} given up", counts.given_up));
        }
        lines.push((0, format!("messages by {channel}: {}", parts.join(", "))));
    }
    lines.extend(known_from(report).map(|line| (0, line)));
    lines
}

/// From when on the journal tells anything, where that is later than was asked for.
pub fn known_from(report: &PeriodReport) -> Option<String> {
    match report.journal_from {
        None => Some("the journal is empty: nothing has happened, or it was removed".to_owned()),
        Some(from) if from > report.from => Some(format!(
            "the journal begins {}: what was before is not known",
            stamp(from)
        )),
        Some(_) => None,
    }
}

/// A report as a page.
pub fn page(report: &PeriodReport, style: Style) -> String {
    let mut page = Page::new(style);
    page.line(0, &title(report));
    page.line(0, &headline(report));
    for (indent, line) in lines(report) {
        page.line(indent, &line);
    }
    page.into_text()
}

/// Of which machine, and which time.
pub fn title(report: &PeriodReport) -> String {
    format!(
        "{}, {} to {}",
        report.host,
        stamp(report.from),
        stamp(report.to)
    )
}

/// A report as sentences of a message, the first of which is all of it.
pub fn sentences(report: &PeriodReport) -> Vec<String> {
    let mut sentences = vec![headline(report), title(report)];
    let lines = lines(report);
    let more = lines.len().saturating_sub(LINES);
    for (indent, line) in lines.into_iter().take(LINES) {
        sentences.push(format!("{:indent$}{line}", ""));
    }
    if more > 0 {
        sentences.push(format!("and {more} more lines"));
    }
    sentences
}
