//! `watchdog backtest`: which alarms the rules for a service's logs would have raised on the logs that are there.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::check::log::Rule as LogRule;
use crate::check::log::backtest::{Alarm, Alarms, Found, ReadBack, read_back, runs_to_find};
use crate::check::{Rule, Severity};
use crate::cli;
use crate::clock::{age, exact, rough, stamp};
use crate::commands::{complain, count, one, print};
use crate::config::{Config, Service};
use crate::error::Error;
use crate::report::page::{Page, Style};
use plot::Blocks;

mod plot;

/// Of fewer gaps, or of a shorter time, a limit says little.
const FEW: u64 = 20;
const SHORT: Duration = Duration::from_hours(1);

/// A stamp that is further ahead is told: checks find it as well (`log_in_future`).
const AHEAD: TimeDelta = TimeDelta::minutes(5);

/// What follows the last line is told where it is longer ago.
const LONG_AGO: Duration = Duration::from_mins(2);

/// Reads the service's logs back. The exit code is 1 where there would have been alarms, or a log cannot be read back.
pub fn run(config: &Config, options: &cli::Backtest, style: Style) -> Result<u8, Error> {
    let service = one(config, &options.service)?;
    let now = Utc::now();
    let rules: Vec<&Arc<LogRule>> = (service.checks.iter())
        .filter_map(|check| match &check.rule {
            Rule::Log(rule) => Some(rule),
            _ => None,
        })
        .collect();
    if rules.is_empty() && options.log.is_none() {
        complain(&format!(
            "{} has no log: there is nothing to read back; write a [[service.{}.log]] table with its path, or name a file \
             with --log FILE to see the gaps in it",
            service.name, service.name
        ));
        return Ok(1);
    }
    let rules: Vec<Option<&LogRule>> = if rules.is_empty() {
        vec![None]
    } else {
        rules.into_iter().map(|rule| Some(&**rule)).collect()
    };
    let mut code = 0;
    for rule in rules {
        let named = (options.log.as_ref()).map(|path| path.display().to_string());
        let title = named
            .or_else(|| rule.map(LogRule::title))
            .unwrap_or_default();
        let read = read_back(
            rule,
            options.log.as_deref(),
            options.since,
            service.start_grace,
            now,
        );
        let read = match read {
            Ok(read) => read,
            Err(why) => {
                complain(&format!("{}: {title}: {why}", service.name));
                code = 1;
                continue;
            }
        };
        if read.outcome.is_alarmed() {
            code = 1;
        }
        let mut page = Page::new(style);
        page.line(0, &format!("{}: {title}", service.name));
        tell(&mut page, service, rule, &read, options.since, now);
        if options.plot {
            let limit = rule.and_then(|rule| rule.max_age);
            plot::add(
                &mut page,
                &read.outcome.gaps,
                limit,
                style.width,
                Blocks::of_locale(),
            );
        }
        print(&page.into_text())?;
    }
    Ok(code)
}

/// Tells what came out of one log.
fn tell(
    page: &mut Page,
    service: &Service,
    rule: Option<&LogRule>,
    read: &ReadBack,
    since: Option<Duration>,
    now: DateTime<Utc>,
) {
    for note in &read.notes {
        page.line(4, &format!("note: {note}"));
    }
    if let Some(first) = read.ahead.first {
        page.line(
            4,
            &format!(
                "note: {} stamped more than a day ahead of the clock, the first {}; such lines are judged as if they had no \
                 stamp: is the clock of the program right?",
                are(read.ahead.lines, "line"),
                stamp(first)
            ),
        );
    }
    let out = &read.outcome;
    let Some((first, last)) = out.span else {
        let newest = format!("it was last written {} ago", rough(age(now, read.written)));
        let back = since.map(|since| format!("no line of the last {}: ", rough(since)));
        page.line(4, &format!("{}{newest}", back.unwrap_or_default()));
        return;
    };
    let mut what = format!(
        "{}, {}, {} of them stamped by \"{}\"",
        count(read.files, "file"),
        lines(out.lines),
        out.stamped,
        read.stamp.format
    );
    if !read.stamp.after.is_empty() {
        let _ = write!(what, " after `{}`", read.stamp.after);
    }
    if read.is_recognised {
        what.push_str(" (recognised)");
    }
    page.line(4, &what);
    page.line(
        4,
        &format!(
            "from {} to {} ({})",
            time(first),
            time(last),
            rough(read.span())
        ),
    );
    if let Some(last) = at(last).filter(|&last| last > now + AHEAD) {
        page.line(
            4,
            &format!(
                "its last stamp is {} ahead of the clock: is the clock of the program right, and the zone (`timestamp_zone`)?",
                rough(age(last, now))
            ),
        );
    }
    let since_last = at(last).map(|last| age(now, last)).unwrap_or_default();
    if since_last > LONG_AGO {
        page.line(
            4,
            &format!("the {} since then are not judged", rough(since_last)),
        );
    }
    if out.set_back > 0 {
        page.line(
            4,
            &format!(
                "its stamps go back {}: the clock was set back, or it is of several programs",
                count(usize::try_from(out.set_back).unwrap_or(usize::MAX), "time")
            ),
        );
    }
    tell_gaps(page, read);
    if let Some(rule) = rule {
        tell_rules(page, service, rule, read);
    }
    tell_limit(page, rule, read);
}

fn tell_gaps(page: &mut Page, read: &ReadBack) {
    let gaps = &read.outcome.gaps;
    let of = |of_hundred| rough(gaps.percentile(of_hundred).unwrap_or_default());
    let Some(longest) = gaps.longest else {
        page.line(4, "one stamped line, and so no gap");
        return;
    };
    page.line(
        4,
        &format!(
            "gaps between stamped lines: median {}, 99th percentile {}, longest {} (after {})",
            of(50),
            of(99),
            of(100),
            time(longest.from)
        ),
    );
}

fn tell_rules(page: &mut Page, service: &Service, rule: &LogRule, read: &ReadBack) {
    let out = &read.outcome;
    let mut parts = Vec::new();
    if let Some(limit) = rule.max_age {
        parts.push((format!("max_age = \"{}\"", exact(limit)), &out.stale));
    }
    for (expect, alarms) in rule.expect.iter().zip(&out.quiet) {
        parts.push((format!("expect `{}`", expect.pattern.source()), alarms));
    }
    for (forbid, alarms) in rule.forbid.iter().zip(&out.errors) {
        parts.push((format!("forbid `{}`", forbid.pattern.source()), alarms));
    }
    if parts.is_empty() {
        page.line(
            4,
            &format!(
                "nothing is asked of it: write max_age, expect or forbid into its table of {}",
                service.name
            ),
        );
    }
    for (what, alarms) in parts {
        tell_alarms(page, &what, rule, alarms);
    }
    if out.never_enough {
        page.line(
            4,
            &format!(
                "expect is not judged: there are fewer than {} lines, and those before are not there",
                rule.lines
            ),
        );
    }
}

fn tell_alarms(page: &mut Page, what: &str, rule: &LogRule, alarms: &Alarms) {
    if alarms.count == 0 {
        page.line(4, &format!("{what}: no alarm"));
        return;
    }
    let kind = match rule.severity {
        Severity::Warning => " (warnings, which restart nothing)",
        _ => "",
    };
    let number = usize::try_from(alarms.count).unwrap_or(usize::MAX);
    page.line(
        4,
        &format!(
            "{what}: {}{kind} in {}",
            count(number, "alarm"),
            runs(alarms.runs)
        ),
    );
    for alarm in &alarms.kept {
        page.line(8, &shown(alarm));
    }
    let more = alarms.count - alarms.kept.len() as u64;
    if more > 0 {
        let last = alarms.last.map(time).unwrap_or_default();
        page.line(8, &format!("and {more} more, the last at {last}"));
    }
}

fn shown(alarm: &Alarm) -> String {
    let found = match &alarm.found {
        Found::Silent(silent) => format!("no line for {}", rough(*silent)),
        Found::Few(matching, all) => format!("{matching} of the last {} match", lines(*all as u64)),
        Found::Many(1, first) => format!("1 new line matches: {first}"),
        Found::Many(count, first) => format!("{count} new lines match, the first: {first}"),
    };
    let lasted = Duration::from_secs(alarm.runs.saturating_mul(60));
    format!(
        "{}, for {} ({}): {found}",
        time(alarm.from),
        rough(lasted),
        runs(alarm.runs)
    )
}

fn tell_limit(page: &mut Page, rule: Option<&LogRule>, read: &ReadBack) {
    let Some(proposed) = read.proposed() else {
        return;
    };
    let out = &read.outcome;
    let present = rule.and_then(|rule| rule.max_age);
    let found_by = |limit: Duration| {
        format!(
            "a freeze is found by the first run after it, {} after the last line at most",
            runs(runs_to_find(limit))
        )
    };
    page.line(
        4,
        &format!(
            "max_age = \"{}\" would have been silent: {}",
            exact(proposed),
            found_by(proposed)
        ),
    );
    if let Some(present) = present.filter(|present| out.stale.count == 0 && *present > proposed) {
        page.line(
            4,
            &format!(
                "the present max_age is longer than that: a freeze is found {} later",
                rough(present.saturating_sub(proposed))
            ),
        );
    }
    if out.gaps.count < FEW || read.span() < SHORT {
        page.line(
            4,
            &format!(
                "{} in {} say little of what is usual: read it back again when there is more of it",
                count(usize::try_from(out.gaps.count).unwrap_or(usize::MAX), "gap"),
                rough(read.span())
            ),
        );
    }
}

fn lines(number: u64) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), "line")
}

/// `1 line is`, `2 lines are`.
fn are(number: u64, what: &str) -> String {
    let count = count(usize::try_from(number).unwrap_or(usize::MAX), what);
    format!("{count} {}", if number == 1 { "is" } else { "are" })
}

fn runs(number: u64) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), "run")
}

fn at(millis: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(millis)
}

fn time(millis: i64) -> String {
    at(millis).map(stamp).unwrap_or_default()
}
