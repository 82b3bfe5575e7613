//! What a service was in the last 24 hours: from the journal, which has each change of a verdict, to segments, and to the
//! blocks of a line. Pure.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::{age, rough};
use crate::state::journal::{Entry, JournalEvent};
use crate::verdict::{ExitCode, Verdict};

/// How far back a line goes.
pub(super) const WINDOW: TimeDelta = TimeDelta::hours(24);

/// How it was, the worst last: of a block of the line, the worst of it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Healthy, or coming up.
    Well,
    /// Paused or disabled.
    LeftAlone,
    /// A warning, or a restart that helped.
    Warning,
    /// It could not be seen.
    Unknown,
    /// Broken.
    Critical,
}

impl Level {
    /// All that are worth a word, in the order of their weight.
    const TOLD: [Self; 4] = [
        Self::Critical,
        Self::Unknown,
        Self::Warning,
        Self::LeftAlone,
    ];

    /// That of a verdict.
    pub(super) fn of(verdict: Verdict) -> Self {
        match (verdict, verdict.exit_code()) {
            (Verdict::Paused | Verdict::Disabled, _) => Self::LeftAlone,
            (_, ExitCode::Ok) => Self::Well,
            (_, ExitCode::Warning) => Self::Warning,
            (_, ExitCode::Unknown) => Self::Unknown,
            (_, ExitCode::Critical) => Self::Critical,
        }
    }

    /// Its name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::LeftAlone => "left alone",
            Self::Warning => "warning",
            Self::Unknown => "unknown",
            Self::Critical => "critical",
        }
    }
}

/// A time for which a service was the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// From when.
    pub(super) from: DateTime<Utc>,
    /// Until when.
    pub(super) until: DateTime<Utc>,
    /// How it was.
    pub(super) level: Level,
}

/// The last 24 hours of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Timeline {
    /// Without gaps, oldest first; neighbours differ. The last one, what it is now, may have no length.
    pub(super) segments: Vec<Segment>,
    /// How many restarts and repairs were made.
    pub(super) attempts: usize,
}

impl Timeline {
    /// That of a service, from its entries in the journal, oldest first, and what it is at `now` and since when. A service
    /// was well before the first entry of it that there is: a first verdict that is bad is journalled, and so is each change.
    pub(super) fn of<'a>(
        entries: impl IntoIterator<Item = &'a Entry>,
        verdict: Option<Verdict>,
        since: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Self {
        let begin = now - WINDOW;
        let mut changes = vec![(begin, Level::Well)];
        let mut attempts = 0;
        for entry in entries {
            // a clock that was set may have left entries of the future
            let at = entry.time.min(now);
            attempts += usize::from(entry.action.is_some() && at >= begin);
            if let Some(verdict) = verdict_of(entry) {
                changes.push((at.max(begin), Level::of(verdict)));
            }
        }
        if let (Some(verdict), Some(since)) = (verdict, since) {
            // what it is now may be of a journal that was lost; what is after that is of a clock that was set back
            let since = since.clamp(begin, now);
            changes.retain(|(at, _)| *at <= since);
            changes.push((since, Level::of(verdict)));
        }
        changes.sort_by_key(|(at, _)| *at);
        let ends = changes.iter().skip(1).map(|(at, _)| *at).chain([now]);
        let mut segments: Vec<Segment> = Vec::new();
        let last = changes.len() - 1;
        for (index, (&(from, level), until)) in changes.iter().zip(ends).enumerate() {
            match segments.last_mut() {
                // what it is now is seen, though it is that since this moment
                _ if until <= from && index < last => {}
                Some(last) if last.level == level => last.until = until,
                _ => segments.push(Segment { from, until, level }),
            }
        }
        Self { segments, attempts }
    }

    /// The line as so many blocks of the same length, by runs: the first block, how many, and the worst that was in each
    /// of them. So what was over in a moment is seen as well.
    pub(super) fn runs(&self, blocks: u32) -> Vec<(u32, u32, Level)> {
        let Some(first) = self.segments.first() else {
            return Vec::new();
        };
        let block = WINDOW.num_milliseconds() / i64::from(blocks.max(1));
        let at = |time: DateTime<Utc>| (time - first.from).num_milliseconds().max(0);
        let mut worst = vec![Level::Well; usize::try_from(blocks).unwrap_or_default()];
        for segment in &self.segments {
            let from = usize::try_from(at(segment.from) / block).unwrap_or_default();
            let from = from.min(worst.len().saturating_sub(1));
            // the block that it ends in, where it is not the beginning of it
            let until = usize::try_from((at(segment.until) - 1).max(0) / block).unwrap_or_default();
            let last = until.clamp(from, worst.len().saturating_sub(1));
            for level in worst.get_mut(from..=last).unwrap_or_default() {
                *level = segment.level.max(*level);
            }
        }
        let mut runs: Vec<(u32, u32, Level)> = Vec::new();
        for (place, level) in (0..).zip(worst) {
            match runs.last_mut() {
                Some((_, length, of)) if *of == level => *length += 1,
                _ => runs.push((place, 1, level)),
            }
        }
        runs
    }

    /// How long it was each of the levels that are worth a word, and how often it was restarted: `critical 40m, 2 restarts`;
    /// nothing where it was well all the time.
    pub(super) fn told(&self) -> String {
        let mut told = Vec::new();
        for level in Level::TOLD {
            let lasted: Duration = (self.segments.iter())
                .filter(|segment| segment.level == level)
                .map(|segment| age(segment.until, segment.from))
                .sum();
            let is_now = self.segments.last().is_some_and(|it| it.level == level);
            match lasted.as_secs() {
                _ if lasted.is_zero() && !is_now => {}
                0 => told.push(format!("{} since just now", level.name())),
                _ => told.push(format!("{} {}", level.name(), rough(lasted))),
            }
        }
        match self.attempts {
            0 => {}
            1 => told.push("1 attempt to mend it".to_owned()),
            more => told.push(format!("{more} attempts to mend it")),
        }
        told.join(", ")
    }
}

/// What a service became by an entry.
fn verdict_of(entry: &Entry) -> Option<Verdict> {
    entry.verdict.or(match entry.event {
        JournalEvent::Verdict(verdict) => Some(verdict),
        JournalEvent::Recovered => Some(Verdict::Healthy),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{action, at};

    const HOUR: i64 = 3600;
    /// The end of the window that begins at `at(0)`.
    const NOW: i64 = 24 * HOUR;

    fn became(hour: i64, verdict: Verdict) -> Entry {
        Entry::new(at(hour * HOUR), "a", JournalEvent::Verdict(verdict))
    }

    fn shape(timeline: &Timeline) -> Vec<(i64, i64, Level)> {
        let hours = |time: DateTime<Utc>| (time - at(0)).num_hours();
        let segments = timeline.segments.iter();
        segments
            .map(|it| (hours(it.from), hours(it.until), it.level))
            .collect()
    }

    #[test]
    fn segments_are_what_the_journal_and_the_state_say() {
        use Level::{Critical, LeftAlone, Unknown, Warning, Well};
        use Verdict::{Degraded, Down, Healthy, Paused, Restarted, Starting};
        for (entries, verdict, since, expected) in [
            // nothing happened
            (vec![], Healthy, -100, vec![(0, 24, Well)]),
            (vec![], Down, -100, vec![(0, 24, Critical)]),
            (
                vec![],
                Verdict::Unknown,
                20,
                vec![(0, 20, Well), (20, 24, Unknown)],
            ),
            // what began before the window goes on into it
            (
                vec![became(-5, Down), became(3, Restarted), became(4, Healthy)],
                Healthy,
                4,
                vec![(0, 3, Critical), (3, 4, Warning), (4, 24, Well)],
            ),
            // the same level is one segment
            (
                vec![became(3, Starting), became(4, Healthy)],
                Healthy,
                4,
                vec![(0, 24, Well)],
            ),
            // the journal was lost after the first entry
            (
                vec![became(3, Degraded)],
                Down,
                6,
                vec![(0, 3, Well), (3, 6, Warning), (6, 24, Critical)],
            ),
            // a clock that was ahead
            (vec![became(30, Down)], Healthy, 10, vec![(0, 24, Well)]),
            (
                vec![became(30, Down)],
                Paused,
                30,
                vec![(0, 24, Well), (24, 24, LeftAlone)],
            ),
            // since this moment
            (
                vec![became(3, Degraded), became(24, Healthy)],
                Down,
                24,
                vec![(0, 3, Well), (3, 24, Warning), (24, 24, Critical)],
            ),
            (
                vec![became(23, Paused)],
                Paused,
                23,
                vec![(0, 23, Well), (23, 24, LeftAlone)],
            ),
        ] {
            let timeline = Timeline::of(&entries, Some(verdict), Some(at(since * HOUR)), at(NOW));
            assert_eq!(shape(&timeline), expected, "{entries:?}");
        }
    }

    #[test]
    fn what_was_over_in_a_moment_is_seen() {
        let mut down = became(1, Verdict::Down);
        down.time = at(90 * 60);
        let mut up = became(1, Verdict::Restarted);
        up.time = at(91 * 60);
        up.action = Some(action());
        let mut well = became(1, Verdict::Healthy);
        well.time = at(92 * 60);
        let timeline = Timeline::of(
            &[down, up, well],
            Some(Verdict::Healthy),
            Some(at(92 * 60)),
            at(NOW),
        );
        assert_eq!(
            timeline.runs(96),
            [
                (0, 6, Level::Well),
                (6, 1, Level::Critical),
                (7, 89, Level::Well)
            ]
        );
        assert_eq!(
            timeline.told(),
            "critical 1m, warning 1m, 1 attempt to mend it"
        );
        let runs = timeline.runs(24);
        assert_eq!(runs.iter().map(|(_, length, _)| length).sum::<u32>(), 24);
    }

    #[test]
    fn what_ends_with_a_block_is_not_in_the_next_one() {
        let entries = [became(6, Verdict::Down), became(12, Verdict::Healthy)];
        let timeline = Timeline::of(
            &entries,
            Some(Verdict::Healthy),
            Some(at(12 * HOUR)),
            at(NOW),
        );
        assert_eq!(
            timeline.runs(4),
            [
                (0, 1, Level::Well),
                (1, 1, Level::Critical),
                (2, 2, Level::Well)
            ]
        );
        assert_eq!(timeline.told(), "critical 6h");
    }

    #[test]
    fn what_it_is_since_this_moment_is_seen() {
        let timeline = Timeline::of([], Some(Verdict::Down), Some(at(NOW)), at(NOW));
        assert_eq!(
            timeline.runs(96),
            [(0, 95, Level::Well), (95, 1, Level::Critical)]
        );
        assert_eq!(timeline.told(), "critical since just now");
        let timeline = Timeline::of([], Some(Verdict::Healthy), Some(at(NOW)), at(NOW));
        assert_eq!(timeline.runs(96), [(0, 96, Level::Well)]);
        assert_eq!(timeline.told(), "");
    }

    #[test]
    fn nothing_is_said_of_a_good_day() {
        let timeline = Timeline::of([], Some(Verdict::Healthy), None, at(NOW));
        assert_eq!(timeline.told(), "");
        assert_eq!(timeline.runs(96), [(0, 96, Level::Well)]);
    }
}
