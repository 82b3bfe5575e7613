//! The status page: one HTML document for somebody who was woken up. What is wrong comes first, with why, since when, what was
//! done and what to type; then every service with a line of its last 24 hours; then what happened lately.
//!
//! Pure: from what is recorded to a text. It has no scripts, loads nothing, and its one style sheet is allowed by its hash,
//! so that whatever a log or a program could slip in would do nothing. What is said is said in words: colours and heights
//! only repeat it. Its size is bounded: below 100 kB with 100 services, whatever happened to them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};

use crate::clock::{known_age, rough, stamp};
use crate::report::{RunReport, ServiceReport};
use crate::state::journal::Entry;
use crate::verdict::{ExitCode, Verdict};

mod advice;
mod events;
mod html;
mod problems;
mod services;
mod timeline;

use html::Html;
use timeline::{Level, Timeline, WINDOW};

/// The one style sheet.
const STYLE: &str = include_str!("style.css");

/// Where [`with_warning`] puts a warning: no text that came from elsewhere can hold it.
const WARNING_HERE: &str = "<!--warning-->";

/// A page of so few services is smaller than [`MOST_BYTES`].
const FEW_SERVICES: usize = 100;

/// The size in bytes that a page of [`FEW_SERVICES`] stays below.
const MOST_BYTES: usize = 100_000;

/// The blocks of a line: a quarter of an hour each. Where the page would be too large, they are longer, and the parts that
/// grow with the trouble are shorter.
const BLOCKS: [u32; 3] = [96, 48, 24];

/// What the page is made of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The run: its host, its time, and the services that it or earlier ones looked at.
    pub report: &'a RunReport,
    /// The names of the services that no run has looked at yet.
    pub unseen: &'a [&'a str],
    /// What the services are, for people, by their names.
    pub descriptions: &'a BTreeMap<&'a str, &'a str>,
    /// The journal's last entries, oldest first: those of the last 24 hours, and of before as far as there are some.
    pub entries: &'a [Entry],
    /// When the page is made.
    pub now: DateTime<Utc>,
    /// The config file, for the commands to type.
    pub config: &'a Path,
    /// What is wrong with the watchdog itself, as sentences.
    pub trouble: &'a [String],
    /// How many messages wait in the outbox, by channel.
    pub waiting: &'a BTreeMap<String, usize>,
}

/// How large the parts of a page may be.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// The blocks of a line.
    blocks: u32,
    /// The bytes for what is described in full.
    problems: usize,
    /// The bytes for what happened.
    events: usize,
}

/// The page.
pub fn render(facts: &Facts<'_>) -> String {
    let services = facts.report.services.len() + facts.unseen.len();
    let mut page = String::new();
    for (tried, blocks) in (1..).zip(BLOCKS) {
        page = document(
            facts,
            Bounds {
                blocks,
                problems: 48_000 / tried,
                events: 16_000 / tried,
            },
        );
        if page.len() < MOST_BYTES || services > FEW_SERVICES {
            break;
        }
    }
    page
}

/// What a browser may do with the page: apply its style sheet, and nothing else.
pub fn policy() -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes());
    format!(
        "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        BASE64_STANDARD.encode(hash)
    )
}

/// A page with a warning in front: who looks at it later than it was made must know.
pub fn with_warning(page: &str, title: &str, warning: &str) -> String {
    let mut note = Html::default();
    note.markup("<p class=\"note crit\" role=\"alert\"><strong>")
        .text(title, 100)
        .markup("</strong> ")
        .text(warning, 500)
        .markup("</p>\n");
    page.replacen(WARNING_HERE, &note.to_string(), 1)
}

fn document(facts: &Facts<'_>, bounds: Bounds) -> String {
    let report = facts.report;
    let mut page = Html::default();
    page.markup("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"")
        .text(&policy(), 500)
        .markup("\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"referrer\" content=\"no-referrer\">\n<meta name=\"robots\" content=\"noindex\">\n<title>")
        .text(&title(facts), 200)
        .markup("</title>\n<style>")
        .markup(STYLE)
        .markup("</style>\n</head>\n<body>\n")
        .markup(WARNING_HERE)
        .markup("<header class=\"")
        .markup(class(worst(facts)))
        .markup("\">\n<h1>")
        .text(&title(facts), 200)
        .markup("</h1>\n<p>")
        .text(&last_run(facts), 300)
        .markup("</p>\n</header>\n<main>\n");
    own_trouble(&mut page, facts);
    problems::add(&mut page, facts, bounds.problems);
    services::add(&mut page, facts, bounds.blocks);
    events::add(&mut page, facts, bounds.events);
    page.markup("</main>\n<footer><p class=\"dim\">watchdog ")
        .text(env!("CARGO_PKG_VERSION"), 40)
        .markup(" on ")
        .text(&report.host, 100)
        .markup(". All times are UTC.</p></footer>\n</body>\n</html>\n");
    page.to_string()
}

/// How bad all of it is.
fn worst(facts: &Facts<'_>) -> Level {
    let services = facts.report.services.iter();
    let worst = services
        .map(|service| Level::of(service.verdict))
        // one that is left alone is no trouble
        .map(|level| match level {
            Level::LeftAlone => Level::Well,
            level => level,
        })
        .max();
    let unseen =
        (facts.report.time.is_none() || !facts.unseen.is_empty()).then_some(Level::Unknown);
    let own = (!facts.trouble.is_empty()).then_some(Level::Critical);
    worst.max(unseen).max(own).unwrap_or(Level::Well)
}

/// The host, and how many of its services are not well.
fn title(facts: &Facts<'_>) -> String {
    let host = &facts.report.host;
    if facts.report.time.is_none() {
        return format!("{host}: no run has been recorded yet");
    }
    let services = facts.report.services.len() + facts.unseen.len();
    let mut counts: BTreeMap<Level, usize> = BTreeMap::new();
    for service in &facts.report.services {
        *counts.entry(Level::of(service.verdict)).or_default() += 1;
    }
    let unwell: Vec<String> = [Level::Critical, Level::Unknown, Level::Warning]
        .into_iter()
        .filter_map(|level| Some(format!("{} {}", counts.get(&level)?, level.name())))
        .collect();
    let own = match facts.trouble {
        [] => "",
        _ => "the watchdog itself is in trouble; ",
    };
    if unwell.is_empty() {
        let left = counts.get(&Level::LeftAlone).copied().unwrap_or_default();
        let well = services - facts.unseen.len() - left;
        return match (left + facts.unseen.len(), own) {
            (0, "") => format!("{host}: all well"),
            _ => format!("{host}: {own}{well} of {services} services are well"),
        };
    }
    let of = format!(
        "of {services} service{}",
        if services == 1 { "" } else { "s" }
    );
    format!("{host}: {own}{} {of}", unwell.join(", "))
}

/// When the last run was, and what it was.
fn last_run(facts: &Facts<'_>) -> String {
    let Some(time) = facts.report.time else {
        return "`watchdog check` makes a run; cron or a timer should, every minute or so."
            .to_owned();
    };
    let mut told = vec![format!("The last run was at {}", stamp(time))];
    match known_age(facts.now, time) {
        Some(old) if old.as_secs() >= 1 => told.push(format!(" ({} ago)", rough(old))),
        Some(_) => {}
        None => told.push(" (ahead of the clock)".to_owned()),
    }
    let checked = facts.report.services.len();
    let more = if checked == 1 { "" } else { "s" };
    told.push(format!(", of {checked} service{more}"));
    if let Some(took) = facts.report.duration_ms {
        let took = rough(Duration::from_millis(took));
        told.push(format!(", and took {took}"));
    }
    told.concat() + "."
}

/// What is wrong with the watchdog itself: else nobody would learn of the rest.
fn own_trouble(page: &mut Html, facts: &Facts<'_>) {
    let waiting: Vec<String> = (facts.waiting.iter())
        .map(|(channel, messages)| {
            let more = if *messages == 1 { " waits" } else { "s wait" };
            format!("{messages} message{more} to be sent on the channel {channel}")
        })
        .collect();
    for (sentences, class) in [(facts.trouble, "note crit"), (&waiting, "note warn")] {
        if sentences.is_empty() {
            continue;
        }
        page.markup("<div class=\"")
            .markup(class)
            .markup("\" role=\"note\">");
        for sentence in sentences.iter().take(10) {
            page.markup("<p>").text(sentence, 500).markup("</p>");
        }
        page.markup("</div>\n");
    }
}

/// The class of what is as bad as this.
fn class(level: Level) -> &'static str {
    match level {
        Level::Well => "ok",
        Level::LeftAlone => "idle",
        Level::Warning => "warn",
        Level::Unknown => "unk",
        Level::Critical => "crit",
    }
}

/// A verdict as a word, coloured.
fn add_verdict(page: &mut Html, verdict: Verdict) {
    page.markup("<span class=\"v ")
        .markup(class(Level::of(verdict)))
        .markup("\">")
        .text(&verdict.name().replace('_', " "), 40)
        .markup("</span>");
}

/// The services that are not well, the worst first.
fn unwell(report: &RunReport) -> Vec<&ServiceReport> {
    let mut unwell: Vec<&ServiceReport> = (report.services.iter())
        .filter(|service| service.verdict.exit_code() != ExitCode::Ok)
        .collect();
    unwell.sort_by_key(|service| std::cmp::Reverse(service.verdict.exit_code()));
    unwell
}

/// A time of the last days: without its date, where that is today's.
fn add_time(page: &mut Html, time: DateTime<Utc>, now: DateTime<Utc>) {
    let format = if time.date_naive() == now.date_naive() {
        "%H:%M:%S"
    } else {
        "%m-%d %H:%M"
    };
    page.markup("<time datetime=\"")
        .text(&stamp(time), 40)
        .markup("\">")
        .text(&time.format(format).to_string(), 40)
        .markup("</time>");
}

#[cfg(test)]
mod tests;
