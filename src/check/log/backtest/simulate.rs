//! Runs that were not made: what rules would have found in a log, had it been looked at every minute.
//!
//! All of it is a function of the lines and their times. A run sees the lines that were stamped by then; a line without a stamp
//! was written with the one before it. Runs between two lines differ in nothing but the age of the log, so they are
//! counted and not made one by one: a silence of a year takes no longer than one of a minute.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::patterns::Tally;
use super::super::{Expect, Forbid, LAST};
use super::gaps::{Gap, Gaps, MINUTE, millis};

/// So many alarms of a rule are kept, the first ones; the others are counted.
const KEPT: usize = 10;

/// Stamps may go back by so much in a log that several threads write, in milliseconds.
const BACK: i64 = 5 * MINUTE;

/// So many stamped lines in a row that go back are a clock that was set back; fewer are times that were quoted.
const SET_BACK: u32 = 3;

/// What a log is held against.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The freshness limit.
    pub max_age: Option<Duration>,
    /// How many of the last lines `expect` looks at.
    pub lines: usize,
    /// What has to match some of them.
    pub expect: &'a [Expect],
    /// What may match few of the new ones.
    pub forbid: &'a [Forbid],
    /// Runs before this, in milliseconds since 1970, are not judged.
    pub since: Option<i64>,
    /// The first line is the first of the log: then there may be fewer lines than `expect` looks at, once the service had so long
    /// to start.
    pub begins: Option<Duration>,
}

/// A time in which every run would have found a rule broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// The first run that finds it, in milliseconds since 1970.
    pub from: i64,
    /// The last one.
    pub last: i64,
    /// How many.
    pub runs: u64,
    /// What it finds: how long the log was silent, how many lines matched, the first line.
    pub found: Found,
}

/// What a run finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No line for so long, until the next one came.
    Silent(Duration),
    /// So many of so many lines match what is expected.
    Few(usize, usize),
    /// So many new lines match what is forbidden, and the first of them.
    Many(u64, String),
}

/// The alarms of one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    /// The first ones.
    pub kept: Vec<Alarm>,
    /// How many there were.
    pub count: u64,
    /// How many runs found it.
    pub runs: u64,
    /// When the first run of the last alarm was, in milliseconds since 1970.
    pub last: Option<i64>,
    open: Option<Alarm>,
}

impl Alarms {
    /// So many runs from `from` on find it.
    fn add(&mut self, from: i64, runs: u64, found: Found) {
        let last = from + (i64::try_from(runs).unwrap_or(i64::MAX / MINUTE) - 1) * MINUTE;
        self.runs += runs;
        match &mut self.open {
            Some(open) if open.last + MINUTE == from => {
                open.last = last;
                open.runs += runs;
                match (&mut open.found, found) {
                    (Found::Silent(known), Found::Silent(other)) => *known = other.max(*known),
                    (Found::Many(known, _), Found::Many(other, _)) => *known += other,
                    _ => {}
                }
            }
            _ => {
                self.close();
                self.count += 1;
                self.last = Some(from);
                self.open = Some(Alarm {
                    from,
                    last,
                    runs,
                    found,
                });
            }
        }
    }

    fn close(&mut self) {
        if let Some(alarm) = self.open.take()
            && self.kept.len() < KEPT
        {
            self.kept.push(alarm);
        }
    }
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Those of `max_age`, if there is one.
    pub stale: Alarms,
    /// Those of each `expect`.
    pub quiet: Vec<Alarms>,
    /// Those of each `forbid`.
    pub errors: Vec<Alarms>,
    /// The gaps between stamps.
    pub gaps: Gaps,
    /// How many lines there were.
    pub lines: u64,
    /// How many of them have a stamp.
    pub stamped: u64,
    /// The first stamp that counts and the last one, in milliseconds since 1970.
    pub span: Option<(i64, i64)>,
    /// How often the clock was set back.
    pub set_back: u64,
    /// There were never as many lines as `expect` looks at, and so it was not judged.
    pub never_enough: bool,
}

impl Outcome {
    /// Whether there was an alarm.
    pub fn is_alarmed(&self) -> bool {
        let all = self.quiet.iter().chain(&self.errors);
        self.stale.count > 0 || all.into_iter().any(|alarms| alarms.count > 0)
    }
}

/// The last lines, as far as `expect` asks about them: how long each is, and which of them match.
#[derive(Debug, Default)]
struct Window {
    lengths: VecDeque<u32>,
    bytes: u64,
    /// How many lines went out of it.
    gone: u64,
    /// Of each `expect`, the numbers of the lines that match.
    matching: Vec<VecDeque<u64>>,
    is_full: bool,
}

impl Window {
    fn add(&mut self, line: &[u8], asked: &Asked<'_>) {
        let number = self.gone + self.lengths.len() as u64;
        let length = u32::try_from(line.len() + 1).unwrap_or(u32::MAX);
        self.lengths.push_back(length);
        self.bytes += u64::from(length);
        while self.lengths.len() > asked.lines || self.bytes > LAST {
            self.is_full = true;
            let Some(length) = self.lengths.pop_front() else {
                break;
            };
            self.bytes -= u64::from(length);
            self.gone += 1;
        }
        self.is_full |= self.lengths.len() == asked.lines;
        for (expect, numbers) in asked.expect.iter().zip(&mut self.matching) {
            if expect.matches(line) {
                numbers.push_back(number);
            }
            while numbers.front().is_some_and(|first| *first < self.gone) {
                numbers.pop_front();
            }
        }
    }
}

/// Runs along a log.
#[derive(Debug)]
pub(super) struct Simulation<'a> {
    asked: Asked<'a>,
    out: Outcome,
    window: Window,
    /// What is new since the last run.
    tally: Tally<'a>,
    is_news: bool,
    /// The time that the stamps so far have come to.
    clock: Option<i64>,
    /// The stamp of the newest stamped line.
    newest: i64,
    /// The next run.
    next: i64,
    begun: i64,
    /// So many stamps in a row went back.
    back: u32,
    /// Lines are missing before the next one.
    is_broken: bool,
}

/// The first minute that begins at a time or after it.
fn run_at(time: i64) -> i64 {
    time.div_euclid(MINUTE) * MINUTE
        + if time.rem_euclid(MINUTE) > 0 {
            MINUTE
        } else {
            0
        }
}

impl<'a> Simulation<'a> {
    /// One in which nothing was read yet.
    pub(super) fn new(asked: Asked<'a>) -> Self {
        Self {
            out: Outcome {
                quiet: vec![Alarms::default(); asked.expect.len()],
                errors: vec![Alarms::default(); asked.forbid.len()],
                ..Outcome::default()
            },
            window: Window {
                matching: vec![VecDeque::new(); asked.expect.len()],
                ..Window::default()
            },
            tally: Tally::new(asked.forbid),
            is_news: false,
            clock: None,
            newest: 0,
            next: 0,
            begun: 0,
            back: 0,
            is_broken: false,
            asked,
        }
    }

    /// Adds a line, with its stamp in milliseconds since 1970 if it has one.
    pub(super) fn line(&mut self, line: &[u8], is_cut: bool, stamp: Option<i64>) {
        if let Some(stamp) = stamp {
            self.stamp(stamp);
        }
        let is_judged = self.is_judged(self.clock.unwrap_or(i64::MIN));
        self.out.lines += u64::from(is_judged);
        self.out.stamped += u64::from(is_judged && stamp.is_some());
        if !self.asked.expect.is_empty() {
            self.window.add(line, &self.asked);
        }
        if !self.asked.forbid.is_empty() {
            self.tally.line(line, is_cut, &[]);
            self.is_news = true;
        }
    }

    /// Lines are missing between those so far and those that follow: what is between their stamps is no silence.
    pub(super) fn is_torn(&mut self) {
        self.is_broken = true;
    }

    /// The last run, which sees the last line.
    pub(super) fn finish(mut self) -> Outcome {
        if let Some(clock) = self.clock {
            self.run_until(run_at(clock) + 1, clock);
        }
        self.out.never_enough =
            !self.asked.expect.is_empty() && self.asked.begins.is_none() && !self.window.is_full;
        let all = (self.out.quiet.iter_mut()).chain(&mut self.out.errors);
        for alarms in all.chain([&mut self.out.stale]) {
            alarms.close();
        }
        self.out
    }

    fn is_judged(&self, time: i64) -> bool {
        self.asked.since.is_none_or(|since| time >= since)
    }

    fn stamp(&mut self, stamp: i64) {
        let Some(clock) = self.clock else {
            self.begin(stamp);
            self.begun = stamp;
            return;
        };
        if stamp < clock - BACK {
            self.back += 1;
            if self.back >= SET_BACK {
                self.run_until(run_at(clock) + 1, clock);
                self.out.set_back += 1;
                self.begin(stamp);
            }
            return;
        }
        self.back = 0;
        if std::mem::take(&mut self.is_broken) {
            self.run_until(run_at(clock) + 1, clock);
            self.begin(stamp.max(clock));
            return;
        }
        if stamp > clock {
            self.run_until(stamp, stamp);
        }
        if self.is_judged(stamp) {
            self.out.gaps.add(Gap {
                from: self.newest,
                length: (stamp - self.newest).max(0),
            });
        }
        self.newest = stamp;
        self.go_to(stamp.max(clock));
    }

    /// Goes on at a time, with nothing known of the time before it.
    fn begin(&mut self, time: i64) {
        self.back = 0;
        self.newest = time;
        self.next = run_at(time);
        self.go_to(time);
    }

    fn go_to(&mut self, time: i64) {
        self.clock = Some(time);
        if self.is_judged(time) {
            let first = self.out.span.map_or(time, |(first, _)| first);
            self.out.span = Some((first, time));
        }
    }

    /// Makes the runs that are due before a time. Those after `known` do not judge the age.
    fn run_until(&mut self, end: i64, known: i64) {
        let last = run_at(end) - MINUTE;
        if self.next > last {
            return;
        }
        let from = self.next;
        self.next = last + MINUTE;
        if self.is_judged(from) {
            for (at, forbid) in self.asked.forbid.iter().enumerate() {
                let hits = &self.tally.hits[at];
                if hits.count > forbid.at_most {
                    let found = Found::Many(hits.count, hits.first.clone());
                    self.out.errors[at].add(from, 1, found);
                }
            }
        }
        if std::mem::take(&mut self.is_news) {
            self.tally = Tally::new(self.asked.forbid);
        }
        let from = from.max(self.asked.since.map_or(i64::MIN, run_at));
        if from > last {
            return;
        }
        let count = |from: i64, last: i64| u64::try_from((last - from) / MINUTE + 1).unwrap_or(0);
        self.judge_expect(from, last, count);
        if let Some(limit) = self.asked.max_age {
            let limit = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX / 4);
            let last = last.min(known);
            let from = from.max(run_at(self.newest.saturating_add(limit).saturating_add(1)));
            if from <= last {
                let silent = Found::Silent(millis(known - self.newest));
                self.out.stale.add(from, count(from, last), silent);
            }
        }
    }

    fn judge_expect(&mut self, from: i64, last: i64, count: impl Fn(i64, i64) -> u64) {
        let from = match self.asked.begins {
            _ if self.window.is_full => from,
            Some(grace) => {
                let grace = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX / 4);
                from.max(run_at(self.begun.saturating_add(grace)))
            }
            None => return,
        };
        if from > last {
            return;
        }
        let all = self.window.lengths.len();
        for (at, expect) in self.asked.expect.iter().enumerate() {
            let matching = self.window.matching[at].len();
            if (matching as u64) < expect.at_least {
                let found = Found::Few(matching, all);
                self.out.quiet[at].add(from, count(from, last), found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::gaps::{propose, runs_to_find};
    use super::*;
    use crate::check::pattern::Pattern;

    const ASKED: Asked<'_> = Asked {
        max_age: None,
        lines: 3,
        expect: &[],
        forbid: &[],
        since: None,
        begins: None,
    };

    /// Lines at seconds.
    fn run(asked: Asked<'_>, lines: &[(i64, &str)]) -> Outcome {
        let mut simulation = Simulation::new(asked);
        for (second, text) in lines {
            simulation.line(text.as_bytes(), false, Some(second * 1000));
        }
        simulation.finish()
    }

    /// The first and the last minute of each alarm, and its runs.
    fn minutes(alarms: &Alarms) -> Vec<(i64, i64, u64)> {
        let minute = |time: i64| time / MINUTE;
        let all = alarms.kept.iter();
        all.map(|alarm| (minute(alarm.from), minute(alarm.last), alarm.runs))
            .collect()
    }

    fn expect(pattern: &str, at_least: u64) -> Expect {
        Expect {
            pattern: Pattern::new(pattern).unwrap(),
            at_least,
            except: Vec::new(),
        }
    }

    fn forbid(pattern: &str, at_most: u64) -> Forbid {
        Forbid {
            pattern: Pattern::new(pattern).unwrap(),
            at_most,
            except: Vec::new(),
        }
    }

    #[test]
    fn a_silence_is_found_from_the_first_run_after_the_limit_to_the_next_line() {
        let asked = Asked {
            max_age: Some(Duration::from_mins(5)),
            ..ASKED
        };
        for (lines, expected) in [
            (&[0, 60, 120][..], &[][..]),
            // as old as the limit is not too old
            (&[0, 300], &[]),
            (&[0, 360], &[]),
            (&[0, 361], &[(6, 6, 1)]),
            (&[30, 390], &[(6, 6, 1)]),
            (&[0, 601], &[(6, 10, 5)]),
            (&[0, 3600, 3660, 7200], &[(6, 59, 54), (67, 119, 53)]),
        ] {
            let lines: Vec<(i64, &str)> = lines.iter().map(|second| (*second, "x")).collect();
            let out = run(asked, &lines);
            assert_eq!(minutes(&out.stale), expected, "{lines:?}");
            assert_eq!(out.is_alarmed(), !expected.is_empty());
        }
        let out = run(asked, &[(0, "x"), (601, "x")]);
        assert_eq!(
            out.stale.kept[0].found,
            Found::Silent(Duration::from_secs(601))
        );
        assert_eq!(out.span, Some((0, 601_000)));
    }

    #[test]
    fn what_is_expected_is_looked_for_in_the_last_lines() {
        let rules = [expect("tick", 1), expect("t", 3)];
        let asked = Asked {
            expect: &rules,
            ..ASKED
        };
        let lines = [
            (0, "x"),
            (60, "x"),
            (120, "tick"),
            (180, "x"),
            (240, "x"),
            (300, "x"),
            (420, "tt"),
            (421, "tt"),
            (422, "tick"),
        ];
        let out = run(asked, &lines);
        // not before there are three lines
        assert_eq!(minutes(&out.quiet[0]), [(5, 7, 3)]);
        assert_eq!(minutes(&out.quiet[1]), [(2, 7, 6)]);
        assert_eq!(out.quiet[0].kept[0].found, Found::Few(0, 3));
        // the beginning of a log has fewer
        let begins = Asked {
            begins: Some(Duration::from_secs(60)),
            ..asked
        };
        let out = run(begins, &[(0, "x"), (300, "x")]);
        assert_eq!(minutes(&out.quiet[0]), [(1, 5, 5)]);
        let out = run(asked, &[(0, "x"), (300, "x")]);
        assert!(out.never_enough && !out.is_alarmed());
    }

    #[test]
    fn what_is_forbidden_is_counted_in_the_new_lines_of_each_run() {
        let rules = [forbid("ERROR", 1)];
        let asked = Asked {
            forbid: &rules,
            ..ASKED
        };
        let lines = [
            (1, "ERROR a"),
            (61, "ERROR b"),
            (62, "ERROR c"),
            (121, "ERROR d"),
            (122, "ERROR e"),
            (123, "ERROR f"),
            (1000, "x"),
            (1001, "ERROR g"),
            (1002, "ERROR h"),
        ];
        let out = run(asked, &lines);
        assert_eq!(minutes(&out.errors[0]), [(2, 3, 2), (17, 17, 1)]);
        let found = out.errors[0].kept.iter().map(|alarm| alarm.found.clone());
        let found: Vec<Found> = found.collect();
        let many = |count, first: &str| Found::Many(count, first.to_owned());
        assert_eq!(found, [many(5, "ERROR b"), many(2, "ERROR g")]);
        // a trace belongs to the line before it
        let mut simulation = Simulation::new(asked);
        simulation.line(b"x", false, Some(0));
        simulation.line(b"x", false, Some(60_000));
        simulation.line(b"ERROR", false, None);
        simulation.line(b"ERROR", false, None);
        simulation.line(b"x", false, Some(600_000));
        assert_eq!(minutes(&simulation.finish().errors[0]), [(1, 1, 1)]);
    }

    #[test]
    fn a_window_bounds_what_is_judged_and_not_what_is_read() {
        let rules = ([expect("tick", 1)], [forbid("ERROR", 0)]);
        let asked = Asked {
            max_age: Some(Duration::from_mins(5)),
            expect: &rules.0,
            forbid: &rules.1,
            since: Some(600_000),
            ..ASKED
        };
        let lines = [
            (0, "ERROR"),
            (1, "x"),
            (2, "x"),
            (605, "x"),
            (610, "ERROR"),
            (615, "tick"),
        ];
        let out = run(asked, &lines);
        assert_eq!(minutes(&out.stale), [(10, 10, 1)]);
        assert_eq!(minutes(&out.quiet[0]), [(10, 10, 1)]);
        assert_eq!(minutes(&out.errors[0]), [(11, 11, 1)]);
        assert_eq!(out.gaps.count, 3);
        assert_eq!((out.lines, out.span), (3, Some((605_000, 615_000))));
    }

    #[test]
    fn stamps_that_go_back() {
        let asked = Asked {
            max_age: Some(Duration::from_mins(5)),
            ..ASKED
        };
        let at = |seconds: &[i64]| -> Vec<(i64, &str)> {
            seconds.iter().map(|second| (*second, "x")).collect()
        };
        // threads
        let out = run(asked, &at(&[0, 60, 58, 61, 120]));
        assert_eq!((out.set_back, out.gaps.count), (0, 4));
        assert!(!out.is_alarmed());
        // a time that was quoted
        let out = run(asked, &at(&[100_000, 100_060, 5, 100_120, 6, 100_180]));
        assert_eq!((out.set_back, out.gaps.count), (0, 3));
        assert!(!out.is_alarmed());
        // a clock that was set back by an hour
        let out = run(asked, &at(&[7200, 7260, 3660, 3720, 3780, 3840, 3900]));
        assert_eq!(out.set_back, 1);
        assert!(!out.is_alarmed());
        assert_eq!(out.gaps.longest.unwrap().length, 60_000);
        // where lines are missing there is no silence
        let mut simulation = Simulation::new(asked);
        simulation.line(b"x", false, Some(0));
        simulation.is_torn();
        simulation.line(b"x", false, Some(9_000_000));
        let out = simulation.finish();
        assert!(!out.is_alarmed() && out.gaps.count == 0);
    }

    #[test]
    fn alarms_beyond_those_that_are_kept_are_counted() {
        let asked = Asked {
            max_age: Some(Duration::from_mins(5)),
            ..ASKED
        };
        let lines: Vec<(i64, &str)> = (0..50).map(|n| (n * 900, "x")).collect();
        let out = run(asked, &lines);
        assert_eq!((out.stale.kept.len(), out.stale.count), (KEPT, 49));
        assert_eq!(out.stale.last, Some(48 * 900_000 + 6 * MINUTE));
    }

    proptest! {
        /// What is proposed is silent on the log that it was proposed for, wherever in a minute the runs are, and finds that
        /// the log has stopped within two runs after it.
        #[test]
        fn what_is_proposed_is_silent_and_finds_a_freeze(
            steps in prop::collection::vec(0_i64..20_000_000, 1..60),
            phase in 0_i64..MINUTE,
        ) {
            let mut times = vec![1_795_000_000_000 + phase];
            for step in steps {
                times.push(times.last().unwrap() + step);
            }
            let simulate = |max_age, times: &[i64]| {
                let mut simulation = Simulation::new(Asked { max_age, ..ASKED });
                for time in times {
                    simulation.line(b"x", false, Some(*time));
                }
                simulation.finish()
            };
            let out = simulate(None, &times);
            let longest = millis(out.gaps.longest.unwrap().length);
            let limit = propose(longest);
            prop_assert!(limit >= longest + Duration::from_mins(1));
            let out = simulate(Some(limit), &times);
            prop_assert!(!out.is_alarmed(), "{:?}", out.stale);
            let last = *times.last().unwrap();
            let limit_ms = i64::try_from(limit.as_millis()).unwrap();
            times.push(last + limit_ms + 10 * MINUTE);
            let out = simulate(Some(limit), &times);
            let found = out.stale.kept[0].from;
            prop_assert!(found > last + limit_ms && found <= last + limit_ms + 2 * MINUTE);
            let runs = (found - last.div_euclid(MINUTE) * MINUTE) / MINUTE;
            prop_assert!(runs <= i64::try_from(runs_to_find(limit)).unwrap());
        }

        /// Counting runs is the same as making each of them.
        #[test]
        fn runs_that_are_counted_are_those_that_would_be_made(
            steps in prop::collection::vec((0_i64..400_000, 0_u8..3), 1..60),
            max_age in 1_u64..8,
        ) {
            let limit = Duration::from_mins(max_age);
            let rules = ([expect("a", 2)], [forbid("b", 1)]);
            let asked = Asked {
                max_age: Some(limit),
                expect: &rules.0,
                forbid: &rules.1,
                begins: Some(Duration::ZERO),
                ..ASKED
            };
            let mut lines = Vec::new();
            let mut time = 1_795_000_000_000;
            for (step, text) in steps {
                time += step;
                lines.push((time, ["a", "b", "c"][usize::from(text)]));
            }
            let mut simulation = Simulation::new(asked);
            for (time, text) in &lines {
                simulation.line(text.as_bytes(), false, Some(*time));
            }
            let out = simulation.finish();
            let (mut stale, mut quiet, mut errors) = (0, 0, 0);
            let first = run_at(lines[0].0);
            let last = run_at(time);
            for run in (first..=last).step_by(usize::try_from(MINUTE).unwrap()) {
                let seen: Vec<_> = lines.iter().filter(|(time, _)| *time <= run).collect();
                let Some((newest, _)) = seen.last() else { continue };
                let limit = i64::try_from(limit.as_millis()).unwrap();
                stale += u64::from(run <= time && run - newest > limit);
                let found = seen.iter().rev().take(3).filter(|(_, text)| *text == "a");
                quiet += u64::from(found.count() < 2);
                let new = seen.iter().filter(|(time, text)| *time > run - MINUTE && *text == "b");
                errors += u64::from(new.count() > 1);
            }
            prop_assert_eq!(out.stale.runs, stale);
            prop_assert_eq!(out.quiet[0].runs, quiet);
            prop_assert_eq!(out.errors[0].runs, errors);
        }
    }
}
