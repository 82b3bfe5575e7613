//! Rules that are held against the last lines of a log, for `validate`: what of them does not fit.

use chrono::{DateTime, Utc};

use super::{AHEAD, Expect, Stamp};
use crate::check::trap::Trap;
use crate::clock::{self, rough};

/// The lines that rules are held against, in words.
pub(super) struct Lines<'a> {
    pub(super) name: &'a str,
    pub(super) count: usize,
    pub(super) last: String,
}

impl Lines<'_> {
    fn all(&self) -> String {
        match self.count {
            1 => format!("the only line of {}", self.name),
            count => format!("the last {count} lines of {}", self.name),
        }
    }

    pub(super) fn without(&self, expect: &Expect, found: u64) -> Trap {
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

    pub(super) fn stamped(
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
