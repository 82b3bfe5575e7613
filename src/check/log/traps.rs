//! What in the rules for a log may not do what was meant: they are held against the log as it is now.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::super::trap::Trap;
use super::super::{Kind, Looking, ServiceContext};
use super::open::Trouble;
use super::stamp::Reader;
use super::{AHEAD, Expect, Recent, Rule, Stamp, name, patterns, reach, resolve};
use crate::clock::{self, rough};
use crate::text::printable;

/// So much of the last line is quoted, in bytes.
const QUOTED: usize = 120;

/// The shortest time from one run to the next: cron knows no seconds.
const CRON: Duration = Duration::from_mins(1);

pub(super) fn traps(
    rules: &[(&Arc<Rule>, &ServiceContext<'_>)],
    looking: &Looking<'_>,
) -> Vec<Vec<Trap>> {
    let logs = rules.iter().map(|(rule, _)| Arc::clone(rule)).collect();
    let now = looking.now.wall;
    // a dead disk hangs whoever reads from it
    let read = looking.pool.side_by_side(
        logs,
        looking.check_timeout,
        looking.deadline,
        move |rule: Arc<Rule>| of_content(&rule, now),
    );
    let all = rules.iter().zip(read).map(|((rule, service), content)| {
        let mut traps = of_limits(rule, service);
        traps.extend(content.unwrap_or_else(|failed| {
            let finding = looking.given_up(Kind::Log, &rule.shown, failed);
            vec![Trap::of("path", finding.message, READABLE)]
        }));
        traps
    });
    all.collect()
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

/// The lines that rules are held against, in words.
struct Lines<'a> {
    name: &'a str,
    count: usize,
    last: String,
}

impl Lines<'_> {
    fn all(&self) -> String {
        match self.count {
            1 => format!("the only line of {}", self.name),
            count => format!("the last {count} lines of {}", self.name),
        }
    }

    fn without(&self, expect: &Expect, found: u64) -> Trap {
        let (all, needed) = (self.all(), expect.at_least);
        let matches = match (found, self.count) {
            (0, 1) => format!("does not match {all}"),
            (0, _) => format!("matches none of {all}"),
            (_, 1) => format!("matches {all}, and {needed} are needed"),
            (found, _) => format!("matches only {found} of {all}, and {needed} are needed"),
        };
        Trap::of(
            "expect",
            format!(
                "`{}` {matches}: a check would find log_quiet now; the last line is `{}`",
                expect.pattern.source(),
                self.last
            ),
            "hold the pattern against the log: `grep -E`; capitals count, and a dot means any character",
        )
    }

    fn stamped(
        &self,
        stamp: &Stamp,
        newest: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Option<Trap> {
        let format = &stamp.format;
        let what = match newest {
            None => format!("`{format}` reads no stamp in {}", self.all()),
            Some(newest) if newest > now + AHEAD => format!(
                "`{format}` reads a stamp of {} that lies {} ahead of the clock, at {}",
                self.name,
                rough(clock::age(newest, now)),
                clock::stamp(newest)
            ),
            Some(_) => return None,
        };
        Some(Trap::of(
            "timestamp",
            format!("{what}; the last line is `{}`", self.last),
            "write it as the lines have it, like \"%Y-%m-%d %H:%M:%S\" for 2026-11-22 16:00:00; what stands before it \
             goes into timestamp_after, and timestamp_zone says whose time it is",
        ))
    }
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
    if resolve(&rule.path).is_none() {
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
                rule.shown,
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
                rule.shown,
                rough(limit)
            ),
            "runs are a minute apart, so a limit of a minute or more finds a freeze as soon",
        ));
    }
    if service.start_grace.is_zero() && service.has_process {
        traps.push(Trap::of_service(
            "start_grace",
            format!("{} is judged the moment that it was started", rule.shown),
            "make start_grace longer than it takes to write its first lines",
        ));
    }
    traps
}
