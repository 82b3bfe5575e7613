//! Tables for people.

use std::time::Duration;

use super::page::{Page, Style, columns};
use super::{Report, Service};
use crate::check::Severity;
use crate::clock;
use crate::memory::journal::Entry;
use crate::restart::Action;

/// The columns that a verdict fills: as many as the longest name of one.
const VERDICTS: usize = 14;

/// Names up to so many columns stand below each other; a longer one pushes its own line alone.
const NAMES: usize = 24;

/// The report as a table: verdict first, then the service, then why, then what was done.
pub fn table(report: &Report, style: Style) -> String {
    let mut page = Page::new(style);
    let column = report
        .services
        .iter()
        .map(|service| columns(&service.name))
        .max()
        .unwrap_or_default()
        .min(NAMES);
    for service in &report.services {
        add_service(&mut page, service, column, report);
    }
    if let Some(mail) = &report.mail {
        if mail.sent > 0 {
            page.line(0, &format!("mail: {} sent", mail.sent));
        }
        if mail.queued > 0 {
            page.line(
                0,
                &format!(
                    "mail: {} could not be sent yet; the next run tries again",
                    mail.queued
                ),
            );
        }
    }
    page.into_text()
}

fn add_service(page: &mut Page, service: &Service, column: usize, report: &Report) {
    let mut facts = Vec::new();
    if let Some(pid) = service.pid {
        facts.push(format!("PID {pid}"));
    }
    if let (Some(time), Some(since)) = (report.time, service.since)
        && service.verdict.exit_code().code() != 0
    {
        let lasting = clock::age(time, since);
        if lasting >= Duration::from_secs(1) {
            facts.push(format!("for {}", clock::rough(lasting)));
        }
    }
    if service.restarts_last_hour > 0 {
        facts.push(format!(
            "{} of {} restarts in the last hour",
            service.restarts_last_hour, service.max_per_hour
        ));
    }
    let line = format!("{:<column$}  {}", service.name, facts.join(", "));
    page.verdict(
        service.verdict.name(),
        VERDICTS,
        service.verdict.exit_code(),
        &line,
    );
    for finding in &service.findings {
        page.line(
            4,
            &format!(
                "{}: {} ({})",
                severity(finding.severity),
                finding.message,
                finding.code
            ),
        );
    }
    if let Some(action) = &service.action {
        page.line(4, &describe(action));
        for line in &action.stderr {
            page.quoted(6, line);
        }
    }
    if service.would_restart {
        page.line(4, "would be restarted now");
    }
    for note in &service.notes {
        page.line(4, note);
    }
}

/// How bad a finding is, in a word.
pub fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Unknown => "unknown",
        Severity::Warning => "warning",
    }
}

/// What was done and how it went, in a sentence.
pub fn describe(action: &Action) -> String {
    let took = clock::rough(Duration::from_millis(action.duration_ms));
    let stopped = action
        .old_pid
        .map(|pid| format!("stopped PID {pid}, "))
        .unwrap_or_default();
    match (&action.error, action.new_pid) {
        (Some(error), _) => format!("restart by {} failed after {took}: {error}", action.method),
        (None, Some(pid)) => format!(
            "{stopped}started PID {pid} by {}, up after {took}",
            action.method
        ),
        (None, None) => format!("{stopped}restarted by {} in {took}", action.method),
    }
}

/// Adds an entry of the journal to a page, with what belongs to it indented below.
pub fn add_entry(page: &mut Page, entry: &Entry) {
    let message = entry
        .message
        .as_ref()
        .map(|message| format!(": {message}"))
        .unwrap_or_default();
    page.line(
        0,
        &format!(
            "{}  {:<VERDICTS$}  {}{message}",
            clock::stamp(entry.time),
            entry.event,
            entry.service
        ),
    );
    for finding in &entry.findings {
        page.line(
            4,
            &format!(
                "{}: {} ({})",
                severity(finding.severity),
                finding.message,
                finding.code
            ),
        );
    }
    if let Some(action) = &entry.action {
        page.line(4, &describe(action));
        for line in &action.stderr {
            page.quoted(6, line);
        }
    }
}
