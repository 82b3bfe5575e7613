//! Which of the files that a program writes are logs.
//!
//! A table for a file that is none restarts what is well, as soon as the program replaces that file by another: the
//! journal of a database, a file with a name made up at each start. So only what is surely a log gets a table.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::facts::{LogSample, Open};
use crate::check::log::backtest::{self, ReadBack};
use crate::clock::age;

/// So long all logs of a program together may be read.
const READING: Duration = Duration::from_secs(3);

/// The names of files that are written to and are no logs.
const NO_LOGS: [&str; 14] = [
    "pid", "lock", "lck", "sock", "db", "sqlite", "sqlite3", "wal", "aof", "rdb", "journal", "tmp",
    "ldb", "sst",
];

/// The endings of logs.
const ENDINGS: [&str; 3] = ["log", "out", "err"];

/// The directories in which programs keep data under any name.
const DATA: [&str; 20] = [
    "wal",
    "pg_wal",
    "pg_xlog",
    "db",
    "data",
    "database",
    "mysql",
    "mariadb",
    "mnesia",
    "chunks_head",
    "base",
    "cache",
    "store",
    "storage",
    "queue",
    "raft",
    "binlog",
    "redo",
    "leveldb",
    "rocksdb",
];

/// The beginnings of the names that databases give to their journals.
const JOURNALS: [&str; 8] = [
    "ib_logfile",
    "aria_log",
    "ddl_recovery",
    "latest.log",
    "decision_tab.log",
    "tc.log",
    "redo",
    "undo",
];

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Surely a log: its path, or a pattern where its name has a date or a number of the process.
    Log(PathBuf),
    /// Perhaps one.
    Perhaps,
    /// None.
    Not,
}

/// Reads the logs among open files back, for what they say of the time between two lines.
pub(super) fn samples(open: &[Open], pid: i32) -> BTreeMap<PathBuf, Result<LogSample, String>> {
    let ends = Instant::now() + READING;
    let now = Utc::now();
    let paths = open.iter().filter_map(|open| match kind(open, pid) {
        Kind::Log(path) => Some(path),
        Kind::Perhaps | Kind::Not => None,
    });
    let mut samples = BTreeMap::new();
    for path in paths {
        samples.entry(path).or_insert_with_key(|path| {
            let read = backtest::look_back(path, now, ends);
            read.map(|read| sample(read, now))
        });
    }
    samples
}

fn sample(read: ReadBack, now: DateTime<Utc>) -> LogSample {
    let out = &read.outcome;
    let at = |millis| DateTime::from_timestamp_millis(millis).unwrap_or(now);
    let last = out.span.map_or(now, |(_, last)| at(last));
    let longest = out.gaps.longest.map(|gap| {
        let length = u64::try_from(gap.length).unwrap_or_default();
        let known = (Duration::from_millis(length), at(gap.from));
        known.max((age(now, last), last))
    });
    LogSample {
        lines: out.lines,
        stamped: out.stamped,
        apart: age(last, read.written).max(age(read.written, last)),
        span: read.span(),
        longest,
        stamp: read.stamp,
    }
}

/// What a file is that process `pid` has open for writing.
pub(super) fn kind(open: &Open, pid: i32) -> Kind {
    let name = open
        .path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let lower = name.to_lowercase();
    let ending = lower.rsplit('.').next().unwrap_or_default();
    let is_output = open.number == 1 || open.number == 2;
    if NO_LOGS.contains(&ending) {
        return Kind::Not;
    }
    let may_be = is_output || open.appends || lower.contains("log") || ENDINGS.contains(&ending);
    if !may_be {
        return Kind::Not;
    }
    if is_output {
        return Kind::Log(open.path.clone());
    }
    let stem = lower
        .strip_suffix(ending)
        .unwrap_or(&lower)
        .trim_end_matches('.');
    let is_called_log = ENDINGS.contains(&ending) && stem.chars().any(char::is_alphabetic);
    if !is_called_log
        || is_data(&open.path)
        || JOURNALS.iter().any(|start| lower.starts_with(start))
    {
        return Kind::Perhaps;
    }
    match steady(&name, pid) {
        Some(steady) if steady == name => Kind::Log(open.path.clone()),
        Some(steady) => Kind::Log(open.path.with_file_name(steady)),
        None => Kind::Perhaps,
    }
}

/// Whether a file is among a program's data.
fn is_data(path: &Path) -> bool {
    let parts: Vec<String> = path
        .parent()
        .map(|parent| {
            parent
                .iter()
                .map(|part| part.to_string_lossy().to_lowercase())
                .collect()
        })
        .unwrap_or_default();
    if parts.iter().any(|part| part == "log" || part == "logs") {
        return false;
    }
    path.starts_with("/var/lib") || parts.iter().any(|part| DATA.contains(&part.as_str()))
}

/// A name in which the next start has the same: a date and the number of the process become `*`; none where a part of it
/// is made up.
fn steady(name: &str, pid: i32) -> Option<String> {
    if name.contains("---supervisor-") {
        return None;
    }
    let mut steady = String::new();
    let mut digits = String::new();
    // all of a date is one star
    let flush = |digits: &mut String, steady: &mut String| {
        let count = digits.chars().filter(char::is_ascii_digit).count();
        let trimmed = digits.trim_end_matches(['-', '_', '.']);
        if count >= 6 || trimmed == pid.to_string() {
            steady.push('*');
            steady.push_str(&digits[trimmed.len()..]);
        } else {
            steady.push_str(digits);
        }
        digits.clear();
    };
    for c in name.chars() {
        if c.is_ascii_digit() || (!digits.is_empty() && "-_.".contains(c)) {
            digits.push(c);
        } else {
            flush(&mut digits, &mut steady);
            steady.push(c);
        }
    }
    flush(&mut digits, &mut steady);
    let made_up = steady
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|part| part.len() >= 6 && is_made_up(part));
    (!made_up && !steady.contains('[') && !steady.contains('?')).then_some(steady)
}

/// Whether a part of a name looks as a program makes them up: letters and digits, or letters of both kinds, by turns.
fn is_made_up(part: &str) -> bool {
    let kind = |c: char| (c.is_ascii_digit(), c.is_ascii_uppercase());
    let kinds: Vec<_> = part.chars().map(kind).collect();
    let changes = kinds.windows(2).filter(|pair| pair[0] != pair[1]).count();
    changes >= 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_surely_a_log_is_one() {
        let log = |path: &str| Kind::Log(path.into());
        for (path, appends, number, kind_expected) in [
            ("/var/log/redis.log", false, 5, log("/var/log/redis.log")),
            ("/srv/a/nohup.out", false, 1, log("/srv/a/nohup.out")),
            ("/srv/a/data/out", false, 2, log("/srv/a/data/out")),
            ("/srv/a/trade.ERR", true, 7, log("/srv/a/trade.ERR")),
            (
                "/var/lib/tomcat/logs/catalina.log",
                true,
                7,
                log("/var/lib/tomcat/logs/catalina.log"),
            ),
            (
                "/srv/a/bot-2026-11-27.log",
                true,
                7,
                log("/srv/a/bot-*.log"),
            ),
            (
                "/srv/a/bot.20261127-101112.log",
                true,
                7,
                log("/srv/a/bot.*.log"),
            ),
            ("/srv/a/bot.4711.log", true, 7, log("/srv/a/bot.*.log")),
            ("/srv/a/worker-2.log", true, 7, log("/srv/a/worker-2.log")),
            ("/var/log/syslog", true, 5, Kind::Perhaps),
            ("/srv/a/events", true, 5, Kind::Perhaps),
            (
                "/tmp/w-stdout---supervisor-jmuovdhm.log",
                true,
                5,
                Kind::Perhaps,
            ),
            ("/tmp/bot-aB3xY9q.log", true, 5, Kind::Perhaps),
            (
                "/var/lib/prometheus/metrics2/wal/00000000",
                true,
                5,
                Kind::Perhaps,
            ),
            ("/var/lib/mysql/ib_logfile0", true, 5, Kind::Perhaps),
            ("/var/lib/mysql/ddl_recovery.log", true, 5, Kind::Perhaps),
            ("/srv/db/aria_log_control", true, 5, Kind::Perhaps),
            (
                "/var/lib/rabbitmq/mnesia/rabbit@h/LATEST.LOG",
                true,
                5,
                Kind::Perhaps,
            ),
            ("/var/lib/postgrey/log.0000000001", true, 5, Kind::Perhaps),
            ("/srv/a/leveldb/000123.log", true, 5, Kind::Perhaps),
            ("/srv/a/000123.log", true, 5, Kind::Perhaps),
            ("/srv/a/data.db", true, 5, Kind::Not),
            ("/srv/a/appendonly.aof", true, 5, Kind::Not),
            ("/srv/a/a.pid", true, 5, Kind::Not),
            ("/srv/a/base/16384/2601", false, 5, Kind::Not),
        ] {
            let open = Open {
                number,
                path: path.into(),
                appends,
                written: None,
                owner: 0,
                mode: 0o644,
            };
            assert_eq!(kind(&open, 4711), kind_expected, "{path}");
        }
    }
}
