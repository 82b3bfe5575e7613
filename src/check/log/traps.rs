//! What in the rules for a log may not do what was meant: they are held against the log as it is now.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::super::container::{Containers, Rule as Container};
use super::super::trap::Trap;
use super::super::{Kind, Looking, ServiceContext};
use super::held::Lines;
use super::open::Trouble;
use super::stamp::Reader;
use super::{Recent, Rule, container, journal, name, patterns, reach, resolve};
use crate::clock::rough;
use crate::text::printable;

/// So much of the last line is quoted, in bytes.
const QUOTED: usize = 120;

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
