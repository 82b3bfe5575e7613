//! How old a log is: by the stamps of its lines, or by its last write.

use std::io;

use chrono::{DateTime, Utc};

use super::patterns;
use super::position::LogPosition;
use super::recent::Recent;
use super::rotation::RotationChain;
use super::{AHEAD, Context, Finding, Rule, Seen, Severity, Stamp, finding, stamp};
use crate::clock::{self, Moment};

/// What the lines of a log say of its age.
enum Newest {
    /// The newest stamp.
    Stamped(DateTime<Utc>),
    /// Nothing.
    Unstamped,
}

/// The judgement of a log's age.
pub(super) struct Freshness<'a> {
    pub(super) rule: &'a Rule,
    pub(super) name: &'a str,
    pub(super) context: Context<'a>,
    /// When the log was seen written in this run.
    pub(super) wrote: Option<DateTime<Utc>>,
}

impl Freshness<'_> {
    pub(super) fn judge(
        &self,
        route: &RotationChain,
        recent: &Recent,
        next: &mut LogPosition,
        seen: &mut Seen,
    ) -> io::Result<()> {
        let now = self.context.now.wall;
        // while the file is empty, the last write that is known counts
        let known = next.written.filter(|_| self.wrote.is_none());
        let written = match known {
            Some(known) => known.at(self.context.now),
            None => self.wrote.unwrap_or(route.current.opened.modified),
        };
        next.written = Some(match known {
            Some(known) => known.renewed(self.context.now),
            None => Moment::new(written, self.context.now),
        });
        let limit = self.rule.max_age;
        let held = match (self.context.jumped_at, limit) {
            (Some(jump), Some(limit)) => clock::age(now, jump) < limit,
            _ => false,
        };
        let stamps = match (&self.rule.stamp, limit) {
            (Some(stamp), Some(_)) => Some(self.newest_stamp(stamp, route, recent, next)?),
            _ => None,
        };
        let mut findings = Vec::new();
        if let Some(Newest::Stamped(newest)) = stamps {
            next.stamped = Some(Moment::new(newest, self.context.now));
            next.unstamped_since = None;
            if newest > now + AHEAD {
                findings.push(self.ahead("its newest line is stamped", newest));
            } else if written > now + AHEAD {
                findings.push(self.ahead("modified", written));
            } else if limit.is_some_and(|limit| clock::age(now, newest) > limit) {
                let what = format!("the newest stamped line is {} old", self.rough(newest));
                findings.push(self.stale(&what));
            }
        } else {
            if stamps.is_some() {
                self.note_unstamped(recent, next, seen);
            }
            if written > now + AHEAD {
                findings.push(self.ahead("modified", written));
            } else if limit.is_some_and(|limit| clock::age(now, written) > limit) {
                findings.push(self.stale(&format!("no write for {}", self.rough(written))));
            }
        }
        if limit.is_some() && !held {
            seen.findings.append(&mut findings);
        }
        Ok(())
    }

    /// The newest stamp among the last lines.
    ///
    /// Where the format asks for a text that none of them has, they are stamped all the same, and the newest that has it
    /// is further back: among what may be read, or what an earlier run has read.
    fn newest_stamp(
        &self,
        stamp: &Stamp,
        route: &RotationChain,
        recent: &Recent,
        next: &LogPosition,
    ) -> io::Result<Newest> {
        let reader = stamp::Reader::new(stamp, self.context.now.wall);
        let newest = |recent: &Recent, count: usize| {
            let mut lines = recent.dated_lines().take(count);
            lines.find_map(|(line, written)| reader.read(line, written))
        };
        if let Some(found) = newest(recent, self.rule.lines) {
            return Ok(Newest::Stamped(found));
        }
        let mut lines = recent.dated_lines().take(self.rule.lines);
        if !lines.any(|(line, written)| reader.reads_another(line, written)) {
            return Ok(Newest::Unstamped);
        }
        let further = Recent::read(&route.current.opened, false, &next.former, usize::MAX)?;
        let known = next.stamped.map(|known| known.at(self.context.now));
        let found = newest(&further, usize::MAX).or(known);
        Ok(found.map_or(Newest::Unstamped, Newest::Stamped))
    }

    /// Tells that the age is that of the last write, though stamps are asked for.
    fn note_unstamped(&self, recent: &Recent, next: &mut LogPosition, seen: &mut Seen) {
        let now = self.context.now;
        let since = next.unstamped_since.map(|since| since.renewed(now));
        next.unstamped_since = since.or(Some(Moment::new(now.wall, now)));
        let count = recent.count.min(self.rule.lines);
        let Some(last) = recent.lines().next() else {
            return;
        };
        let format = self.rule.stamp.as_ref().map_or("", |stamp| &stamp.format);
        let none = match count {
            1 => "its last line has no stamp".to_owned(),
            _ => format!("none of the last {count} lines has a stamp"),
        };
        let why = format!(
            "{none} that `{format}` can read; its age is that of the last write (the last line: {})",
            patterns::excerpt(last)
        );
        seen.findings.push(finding(
            self.rule,
            "log_unstamped",
            Severity::Warning,
            self.name,
            &why,
        ));
    }

    fn rough(&self, then: DateTime<Utc>) -> String {
        clock::rough(clock::age(self.context.now.wall, then))
    }

    fn stale(&self, what: &str) -> Finding {
        let limit = clock::rough(self.rule.max_age.unwrap_or_default());
        let why = format!("{what} (limit {limit})");
        finding(self.rule, "log_stale", Severity::Critical, self.name, &why)
    }

    fn ahead(&self, what: &str, then: DateTime<Utc>) -> Finding {
        let by = clock::rough(clock::age(then, self.context.now.wall));
        let why = format!("{what} {by} ahead of the clock, at {}", clock::stamp(then));
        finding(
            self.rule,
            "log_in_future",
            Severity::Warning,
            self.name,
            &why,
        )
    }
}
