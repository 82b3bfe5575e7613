//! What a notification says: the alerts of a run as one digest.
//!
//! It is read on a telephone at three in the morning by somebody who did not set this up: the first line says what
//! is the matter, then what was seen, what was done and how that ended, then what to type. Lines are kept short;
//! what was quoted from elsewhere is bounded and stripped of all that could do more than be read. Pure: the time,
//! the host and the nonce come from the caller.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, Utc};

use super::layout::{Body, QUOTED, QUOTED_LINES, quoted};
use super::sentences::{called, section, words};
use super::{Alert, Event, Notification};
use crate::clock::stamp;
use crate::text::{cut, visible};

/// Alerts that are reported in full; further ones have a line each.
const FULL: usize = 20;
/// Alerts that are reported in a line; of further ones only the number is reported.
const LISTED: usize = 200;
/// The command that shows all that happened.
pub(super) const ALL: &str = "history";
/// Services that are named.
const NAMED: usize = 50;
/// Findings and notes that are kept of an alert that is not reported in full.
const FEW: usize = 1;

/// What a digest needs beside its alerts.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The config file, for the commands to type; absent: the commands name none.
    pub config: Option<&'a Path>,
    /// The table of the channel, for the name of its limit.
    pub table: &'a str,
    /// Notifications that `max_per_hour` held back since the last one that went out.
    pub rate_limited: usize,
    /// For the notification's own id: see [`super::nonce`].
    pub nonce: u64,
}

/// One notification of all that is to be reported; none where there is nothing.
///
/// Services come worst first, and what happened to one service in the order of time.
pub fn compose(
    host: &str,
    now: DateTime<Utc>,
    alerts: &[Alert],
    context: &Context<'_>,
) -> Option<Notification> {
    let groups = by_service(alerts);
    let lead = groups.first()?;
    let event = lead.iter().map(|alert| alert.event).max()?;
    let service = lead.first()?.service.as_str();
    let in_order = groups.iter().flatten();
    Some(Notification {
        id: id(now, service, context.nonce),
        time: now,
        host: host.to_owned(),
        event,
        severity: in_order.clone().map(|alert| alert.event.severity()).max()?,
        subject: subject(host, service, event, lead, groups.len() - 1),
        body: body(host, now, &groups, context),
        services: groups
            .iter()
            .filter_map(|group| group.first())
            .map(|alert| visible(&alert.service))
            .take(NAMED)
            .collect(),
        alerts: in_order
            .enumerate()
            .map(|(place, alert)| shortened(alert, place < FULL))
            .collect(),
    })
}

/// What no other notification is called: `20261122T010203Z.trader.9f86d081884c7d65`. It is made of letters, digits,
/// `-`, `_` and `.`, so that a channel can put it into an id of its own; what else a service is called becomes `-`.
pub fn id(time: DateTime<Utc>, service: &str, nonce: u64) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let service: String = service
        .chars()
        .take(64)
        .map(|c| if kept(c) { c } else { '-' })
        .collect();
    let time = time.format("%Y%m%dT%H%M%SZ");
    // empty parts are not allowed between dots
    if service.is_empty() {
        return format!("{time}.{nonce:016x}");
    }
    format!("{time}.{service}.{nonce:016x}")
}

/// The alerts of each service by time; the services by their worst event, then by time.
fn by_service(alerts: &[Alert]) -> Vec<Vec<&Alert>> {
    let mut services: BTreeMap<&str, Vec<&Alert>> = BTreeMap::new();
    for alert in alerts {
        services.entry(&alert.service).or_default().push(alert);
    }
    let mut groups: Vec<Vec<&Alert>> = services.into_values().collect();
    for group in &mut groups {
        group.sort_by_key(|alert| alert.time);
    }
    groups.sort_by_key(|group| {
        let worst = group.iter().map(|alert| alert.event).max();
        let first = group.iter().map(|alert| alert.time).min();
        (std::cmp::Reverse(worst), first)
    });
    groups
}

/// An alert with what a channel can show of it: what is quoted is bounded as in the body, so that any number of alerts
/// fits into a file of the outbox.
fn shortened(alert: &Alert, in_full: bool) -> Alert {
    let last = |lines: &[String]| -> Vec<String> {
        let skipped = lines.len().saturating_sub(QUOTED_LINES);
        let kept = lines.iter().skip(skipped).filter(|_| in_full);
        kept.map(|line| quoted(line)).collect()
    };
    let (number, length) = if in_full {
        (QUOTED_LINES, 2 * QUOTED)
    } else {
        (FEW, QUOTED)
    };
    let mut short = alert.clone();
    short.findings.truncate(number);
    for finding in &mut short.findings {
        finding.message = cut(&visible(&finding.message), length);
    }
    short.notes.truncate(number);
    for note in &mut short.notes {
        *note = cut(&visible(note), QUOTED);
    }
    short.log_tail = last(&alert.log_tail);
    if let Some(action) = &mut short.action {
        action.error = action
            .error
            .as_ref()
            .map(|error| cut(&visible(error), length));
        action.stderr = last(&action.stderr);
        action.facts.truncate(number);
        for fact in &mut action.facts {
            *fact = cut(&visible(fact), length);
        }
        let evidence = action.evidence.as_ref();
        action.evidence = evidence.map(|path| cut(&visible(path), QUOTED));
        action.pending.truncate(number);
        for name in &mut action.pending {
            *name = cut(&visible(name), QUOTED);
        }
    }
    short
}

fn subject(host: &str, service: &str, event: Event, lead: &[&Alert], others: usize) -> String {
    let mut subject = format!(
        "[watchdog] {}: {} {}",
        cut(&visible(host), 40),
        cut(&visible(service), 64),
        words(event)
    );
    if let Some(last) = lead.last().map(|alert| alert.event)
        && last != event
    {
        let _ = write!(subject, ", then {}", words(last));
    }
    if others > 0 {
        let _ = write!(subject, " (+{others} more)");
    }
    subject
}

fn body(host: &str, now: DateTime<Utc>, groups: &[Vec<&Alert>], context: &Context<'_>) -> String {
    let mut body = Body::default();
    let called = called(context.config);
    let alerts: Vec<&Alert> = groups.iter().flatten().copied().collect();
    if alerts.len() > 1 {
        body.sentence(&format!("{} things to tell:", alerts.len()));
        for alert in alerts.iter().take(LISTED) {
            let when = stamp(alert.time);
            body.item(&format!(
                "{} {} ({when})",
                visible(&alert.service),
                words(alert.event)
            ));
        }
        if alerts.len() > LISTED {
            body.item(&format!("and {} more", alerts.len() - LISTED));
        }
    }
    for alert in alerts.iter().take(FULL) {
        body.blank_line();
        if alerts.len() > 1 {
            body.line(&"-".repeat(40));
        }
        section(&mut body, now, alert, &called);
    }
    body.blank_line();
    if alerts.len() > FULL {
        body.sentence(&format!(
            "Only the first {FULL} are described in full. All of it:"
        ));
        body.command(&called, ALL);
    }
    if context.rate_limited > 0 {
        let (messages, they) = if context.rate_limited == 1 {
            ("message was", "it")
        } else {
            ("messages were", "they")
        };
        body.sentence(&format!(
            "{} {messages} held back before this one, because the hourly limit ({}.max_per_hour) was reached. What {they} had to tell is in this one.",
            context.rate_limited, context.table
        ));
    }
    body.blank_line();
    body.line("--");
    body.line(&format!(
        "{}, {}, watchdog {}",
        cut(&visible(host), 100),
        stamp(now),
        env!("CARGO_PKG_VERSION")
    ));
    body.text
}

#[cfg(test)]
mod tests;
