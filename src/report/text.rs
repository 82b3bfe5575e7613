//! Tables for people.

use std::fmt::Write;

use super::{Report, Service};
use crate::check::Severity;
use crate::clock;
use crate::memory::journal::Entry;
use crate::verdict::ExitCode;

/// Whether text may hold colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// It may.
    Colours,
    /// It may not.
    Plain,
}

impl Paint {
    fn wrap(self, text: &str, code: ExitCode) -> String {
        let colour = match code {
            ExitCode::Ok => "32",
            ExitCode::Warning => "33",
            ExitCode::Unknown => "35",
            ExitCode::Critical => "31",
        };
        match self {
            Self::Colours => format!("\x1b[{colour}m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

/// The report as a table: verdict first, then the service, then why, then what was done.
pub fn table(report: &Report, paint: Paint) -> String {
    let mut out = String::new();
    let width = report
        .services
        .iter()
        .map(|service| service.name.chars().count())
        .max()
        .unwrap_or_default();
    for service in &report.services {
        write_service(&mut out, service, width, paint);
    }
    if let Some(mail) = &report.mail {
        if mail.sent > 0 {
            let _ = writeln!(out, "mail: {} sent", mail.sent);
        }
        if mail.queued > 0 {
            let _ = writeln!(
                out,
                "mail: {} could not be sent yet; the next run tries again",
                mail.queued
            );
        }
    }
    out
}

fn write_service(out: &mut String, service: &Service, width: usize, paint: Paint) {
    let verdict = paint.wrap(
        &format!("{:<14}", service.verdict.name()),
        service.verdict.exit_code(),
    );
    let pid = service
        .pid
        .map(|pid| format!("  PID {pid}"))
        .unwrap_or_default();
    let used = if service.restarts_last_hour > 0 {
        format!(
            "  {} of {} restarts in the last hour",
            service.restarts_last_hour, service.max_per_hour
        )
    } else {
        String::new()
    };
    let line = format!("{verdict}  {:<width$}{pid}{used}", service.name);
    let _ = writeln!(out, "{}", line.trim_end());
    for finding in &service.findings {
        let severity = match finding.severity {
            Severity::Critical => "critical",
            Severity::Unknown => "unknown",
            Severity::Warning => "warning",
        };
        let _ = writeln!(
            out,
            "    {severity}: {} ({})",
            finding.message, finding.code
        );
    }
    if let Some(action) = &service.action {
        let took = clock::rough(std::time::Duration::from_millis(action.duration_ms));
        let stopped = action
            .old_pid
            .map(|pid| format!("stopped PID {pid}, "))
            .unwrap_or_default();
        let line = match (&action.error, action.new_pid) {
            (Some(error), _) => {
                format!("restart by {} failed after {took}: {error}", action.method)
            }
            (None, Some(pid)) => format!(
                "{stopped}started PID {pid} by {}, up after {took}",
                action.method
            ),
            (None, None) => format!("{stopped}restarted by {} in {took}", action.method),
        };
        let _ = writeln!(out, "    {line}");
        for line in &action.stderr {
            let _ = writeln!(out, "      | {line}");
        }
    }
    if service.would_restart {
        let _ = writeln!(out, "    would be restarted now");
    }
    for note in &service.notes {
        let _ = writeln!(out, "    {note}");
    }
}

/// One line of the journal for a person, with what belongs to it indented below.
pub fn entry(entry: &Entry) -> String {
    let mut out = format!(
        "{}  {:<14}  {}",
        clock::stamp(entry.time),
        entry.event,
        entry.service
    );
    if let Some(message) = &entry.message {
        let _ = write!(out, ": {message}");
    }
    out.push('\n');
    for finding in &entry.findings {
        let _ = writeln!(out, "    {} ({})", finding.message, finding.code);
    }
    if let Some(action) = &entry.action {
        match (&action.error, action.new_pid) {
            (Some(error), _) => {
                let _ = writeln!(out, "    {error}");
            }
            (None, Some(pid)) => {
                let took = clock::rough(std::time::Duration::from_millis(action.duration_ms));
                let _ = writeln!(out, "    PID {pid} by {}, up after {took}", action.method);
            }
            (None, None) => {}
        }
    }
    out
}
