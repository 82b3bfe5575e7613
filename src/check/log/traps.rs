//! What in the rules for a log may not do what was meant: they are held against the log as it is now.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::super::container::{Containers, Rule as Container};
use super::super::trap::Trap;
use super::super::{Kind, Looking, ServiceContext};
use super::backtest::{self, Alarms, ReadBack};
use super::held::Lines;
use super::open::Trouble;
use super::stamp::Reader;
use super::{Recent, Rule, Severity, container, journal, name, patterns, reach, resolve};
use crate::clock::{exact, rough};
use crate::text::printable;

/// So much of the last line is quoted, in bytes.
const QUOTED: usize = 120;

/// So long the last day of a log may be read.
const LAST_DAY: Duration = Duration::from_millis(500);

/// The shortest time from one run to the next: cron knows no seconds.
const CRON: Duration = Duration::from_mins(1);

pub(super) fn traps(
    rules: &[(&Arc<Rule>, &ServiceContext<'_>)],
    looking: &Looking<'_>,
) -> Vec<Vec<Trap>> {
    let logs = rules.iter().map(|(rule, service)| {
        let of_container = service.container.filter(|_| rule.container);
        let of_container = of_container.map(|it| (it.clone(), service.engine.clone()));
        (Arc::clone(rule), of_container)
    });
    let logs = logs.collect();
    let now = looking.now.wall;
    let (each, limit) = (looking.check_timeout, content_limit(rules, looking));
    // a dead disk hangs whoever reads from it
    let read = looking.pool.side_by_side(
        logs,
        limit,
        looking.deadline,
        move |(rule, of_container): (Arc<Rule>, Option<(Container, Containers)>)| match (
            &rule.unit,
            of_container,
        ) {
            (Some(unit), _) if rule.journal => journal::traps(&rule, unit, each),
            (_, Some((named, engine))) => container::traps(&rule, &named, &engine, each),
            _ if rule.container => Vec::new(),
            _ => of_content(&rule, now),
        },
    );
    let all = rules.iter().zip(read).map(|((rule, service), content)| {
        let mut traps = of_limits(rule, service);
        traps.extend(content.unwrap_or_else(|failed| {
            let finding = looking.given_up(Kind::Log, &rule.title(), failed);
            vec![Trap::of("path", finding.message, READABLE)]
        }));
        traps
    });
    all.collect()
}

/// The limit of a look at the content of one of these.
fn content_limit(rules: &[(&Arc<Rule>, &ServiceContext<'_>)], looking: &Looking<'_>) -> Duration {
    let rules: Vec<Arc<Rule>> = rules.iter().map(|(rule, _)| Arc::clone(rule)).collect();
    match super::limit(&rules, looking) {
        limit if limit == looking.check_timeout => limit,
        // its end, and what was dropped
        limit => limit * 2,
    }
}

/// What mends a log that cannot be read.
const READABLE: &str = "name a regular file that the user who runs `watchdog check` may read; until then nothing of it is judged";

/// Holds the rules against the last lines, as a check would: as many, and no more of them than that may read.
fn of_content(rule: &Rule, now: DateTime<Utc>) -> Vec<Trap> {
    let opened = match reach(rule) {
        Ok(opened) => opened,
        Err(Trouble::Missing(_)) => return Vec::new(),
        Err(Trouble::Unreadable(why)) => {
            let message = format!("{}: {why}", rule.shown);
            return vec![Trap::of("path", message, READABLE)];
        }
    };
    let name = name(rule, &opened.path);
    let read = |wanted| -> io::Result<Recent> {
        opened.bytes.hold()?;
        Recent::read(&opened, false, &[], wanted)
    };
    let Ok(recent) = read(rule.lines) else {
        // it was rotated meanwhile
        return Vec::new();
    };
    let Some(last) = recent.lines().next() else {
        return Vec::new();
    };
    let count = recent.count.min(rule.lines);
    let lines = Lines {
        name: &name,
        count,
        last: printable(last, QUOTED),
    };
    let mut traps = Vec::new();
    if rule.fault().is_none() {
        let missed = patterns::missed(&rule.expect, recent.lines().take(count));
        traps.extend(missed.map(|(expect, found)| lines.without(expect, found)));
    }
    if let Some(stamp) = &rule.stamp {
        let reader = Reader::new(stamp, now);
        let newest = |recent: &Recent| {
            let mut lines = recent.dated_lines();
            lines.find_map(|(line, written)| reader.read(line, written))
        };
        // a long trace may stand behind the last line with a stamp
        let further = || {
            recent
                .more
                .then(|| read(usize::MAX).ok().and_then(|all| newest(&all)))
        };
        let newest = newest(&recent).or_else(|| further().flatten());
        traps.extend(lines.stamped(stamp, newest, now));
    }
    // what holds now may not have held a few hours ago
    let is_well = traps.is_empty();
    if is_well && rule.severity == Severity::Critical && !rule.is_empty() {
        let ends = Instant::now() + LAST_DAY;
        let read = backtest::last_day(rule, &opened, now, ends);
        traps.extend(
            read.into_iter()
                .flat_map(|read| of_last_day(rule, &name, &read)),
        );
    }
    traps
}

/// What of a rule would have been broken on the last day of a log.
fn of_last_day(rule: &Rule, name: &str, read: &ReadBack) -> Vec<Trap> {
    const HELP: &str =
        "if it was well then, the rule restarts what is well: `watchdog backtest` shows each alarm";
    let found = |key, what: String, alarms: &Alarms| {
        let often = match alarms.count {
            0 => return None,
            1 => "once".to_owned(),
            count => format!("{count} times"),
        };
        let message = format!("on its last day {name} {what} {often}: each is a reason to restart");
        Some((key, message))
    };
    let out = &read.outcome;
    let mut traps = Vec::new();
    if let Some(limit) = rule.max_age {
        let what = format!("was silent for more than {}", rough(limit));
        let help = match read.proposed() {
            Some(silent) => format!(
                "max_age = \"{}\" would not have been; `watchdog backtest` shows each alarm",
                exact(silent)
            ),
            None => HELP.to_owned(),
        };
        let stale = found("max_age", what, &out.stale);
        traps.extend(stale.map(|(key, message)| Trap::of(key, message, help)));
    }
    let quiet = rule
        .expect
        .iter()
        .zip(&out.quiet)
        .filter_map(|(expect, alarms)| {
            let what = format!("had too few lines that match `{}`", expect.pattern.source());
            found("expect", what, alarms)
        });
    let errors = rule
        .forbid
        .iter()
        .zip(&out.errors)
        .filter_map(|(forbid, alarms)| {
            let what = format!(
                "had too many lines that match `{}`",
                forbid.pattern.source()
            );
            found("forbid", what, alarms)
        });
    let others = quiet.chain(errors);
    traps.extend(others.map(|(key, message)| Trap::of(key, message, HELP)));
    traps
}

/// What is wrong with a rule whatever is in the log.
fn of_limits(rule: &Rule, service: &ServiceContext<'_>) -> Vec<Trap> {
    let mut traps = Vec::new();
    let expected = (rule.expect.iter()).flat_map(|expect| {
        let all = std::iter::once(&expect.pattern).chain(&expect.except);
        all.map(|pattern| ("expect", pattern))
    });
    let forbidden = (rule.forbid.iter()).flat_map(|forbid| {
        let all = std::iter::once(&forbid.pattern).chain(&forbid.except);
        all.map(|pattern| ("forbid", pattern))
    });
    let patterns = expected.chain(forbidden);
    traps.extend(patterns.filter_map(|(key, pattern)| Trap::of_control(key, pattern, &['\t'])));
    let is_glob = |text: &str| text.contains(['*', '?', '[']);
    if rule.journal || rule.container {
        // whatever there is of it is looked for in the journal, or by the engine
    } else if resolve(&rule.path).is_none() {
        traps.push(Trap::of(
            "path",
            format!("{} matches no file now", rule.shown),
            "a log that is not there is a failure: hold the pattern against `ls`",
        ));
    } else if (rule.path.parent()).is_some_and(|directory| !is_glob(&directory.to_string_lossy())) {
        traps.extend(Trap::of_directory("path", &rule.path));
    }
    if service.buffered_output == Some(&*rule.path)
        && (rule.max_age.is_some() || !rule.expect.is_empty())
    {
        traps.push(Trap::of_service(
            "spawn.stdout",
            format!(
                "{} is what Python prints, which it keeps back until it has 8 KiB of it: the log looks older than it is",
                rule.shown
            ),
            "write \"python3\", \"-u\", or env = { PYTHONUNBUFFERED = \"1\" } in `spawn`",
        ));
    }
    let Some(limit) = rule.max_age else {
        return traps;
    };
    if limit < service.settle {
        traps.push(Trap::of(
            "max_age",
            format!(
                "{} may be no older than {}, less than it is given to settle ({})",
                rule.title(),
                rough(limit),
                rough(service.settle)
            ),
            "make max_age longer, or settle shorter",
        ));
    } else if limit < CRON {
        traps.push(Trap::of(
            "max_age",
            format!(
                "{} may be no older than {}: a moment's pause at the time of a run is taken for a freeze",
                rule.title(),
                rough(limit)
            ),
            "runs are a minute apart, so a limit of a minute or more finds a freeze as soon",
        ));
    }
    if service.start_grace.is_zero() && service.has_process {
        traps.push(Trap::of_service(
            "start_grace",
            format!("{} is judged the moment that it was started", rule.title()),
            "make start_grace longer than it takes to write its first lines",
        ));
    }
    traps
}
