//! Logs of files, read back.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::gzip::tests::gzip;
use super::*;
use crate::check::log::{NamedZone, Zone};

fn utc(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn millis(text: &str) -> i64 {
    utc(text).timestamp_millis()
}

/// A directory with logs.
struct Logs {
    dir: TempDir,
}

impl Logs {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a log, compressed where its name says so.
    fn write(&self, name: &str, text: &str, written: &str) {
        let packed = name.contains(".gz").then(|| gzip(text.as_bytes()));
        let bytes = packed.unwrap_or_else(|| text.as_bytes().to_vec());
        fs::write(self.path(name), bytes).unwrap();
        let file = fs::File::options()
            .append(true)
            .open(self.path(name))
            .unwrap();
        file.set_modified(utc(written).into()).unwrap();
    }

    fn rule(&self, max_age: Option<Duration>, stamp: Option<(&str, Zone)>) -> Rule {
        Rule {
            path: self.path("a.log"),
            max_age,
            stamp: stamp.map(|(format, zone)| Stamp {
                format: format.to_owned(),
                after: String::new(),
                zone,
            }),
            ..Rule::fixture("a.log")
        }
    }
}

fn read(rule: &Rule) -> ReadBack {
    let now = utc("2026-11-27T12:00:00Z");
    read_back(Some(rule), None, None, Duration::ZERO, now).unwrap()
}

const MINUTES: Option<Duration> = Some(Duration::from_mins(5));

/// Lines at seconds after a moment, in UTC.
fn lines(from: &str, seconds: impl IntoIterator<Item = i64>) -> String {
    let from = utc(from);
    let line = |second| {
        let time = from + TimeDelta::seconds(second);
        format!("{} line\n", time.format("%Y-%m-%dT%H:%M:%SZ"))
    };
    seconds.into_iter().map(line).collect()
}

#[test]
fn gaps_and_alarms_of_a_log_are_exact() {
    let logs = Logs::new();
    // each minute for an hour, silent for twenty minutes, each minute for an hour
    let seconds = (0..60).chain(79..139).map(|minute| minute * 60);
    logs.write(
        "a.log",
        &lines("2026-11-26T00:00:00Z", seconds),
        "2026-11-26T02:18:00Z",
    );
    let found = read(&logs.rule(MINUTES, None));
    let out = &found.outcome;
    assert_eq!((out.lines, out.stamped, out.gaps.count), (120, 120, 119));
    let seconds = |count| Some(Duration::from_secs(count));
    assert_eq!(out.gaps.percentile(50), seconds(60));
    assert_eq!(out.gaps.percentile(99), seconds(60));
    let longest = Gap {
        from: millis("2026-11-26T00:59:00Z"),
        length: 20 * 60_000,
    };
    assert_eq!(out.gaps.longest, Some(longest));
    assert_eq!(out.stale.count, 1);
    let alarm = &out.stale.kept[0];
    assert_eq!(alarm.from, millis("2026-11-26T01:05:00Z"));
    assert_eq!(alarm.last, millis("2026-11-26T01:18:00Z"));
    assert_eq!(alarm.runs, 14);
    assert_eq!(found.proposed(), Some(Duration::from_mins(30)));
    assert!(found.is_recognised && found.notes.is_empty());
    let silent = read(&logs.rule(found.proposed(), None));
    assert!(!silent.outcome.is_alarmed());
}

#[test]
fn a_rotated_log_is_read_once_and_whole() {
    let logs = Logs::new();
    let names = ["a.log.3.gz", "a.log.2.gz", "a.log.1", "a.log"];
    for (hour, name) in names.into_iter().enumerate() {
        let from = format!("2026-11-26T0{hour}:00:00Z");
        // all were written now, as after a copy
        let text = lines(&from, (0..60).map(|minute| minute * 60));
        logs.write(name, &text, "2026-11-27T11:00:00Z");
    }
    logs.write(
        "b.log.1",
        &lines("2026-11-26T00:00:00Z", [1]),
        "2026-11-26T02:18:00Z",
    );
    let rule = logs.rule(MINUTES, None);
    let found = read(&rule);
    assert_eq!(found.files, 4);
    assert_eq!((found.outcome.lines, found.outcome.gaps.count), (240, 239));
    assert_eq!(
        found.outcome.gaps.percentile(100),
        Some(Duration::from_mins(1))
    );
    assert!(!found.outcome.is_alarmed());
    // a copy that is truncated only then is there twice
    let copy = lines("2026-11-26T03:00:00Z", (0..30).map(|minute| minute * 60));
    logs.write("a.log.0", &copy, "2026-11-27T11:00:00Z");
    assert_eq!(read(&rule).outcome.lines, 240);
    fs::remove_file(logs.path("a.log.0")).unwrap();
    // one is gone
    fs::remove_file(logs.path("a.log.2.gz")).unwrap();
    let found = read(&rule);
    assert_eq!((found.outcome.lines, found.outcome.gaps.count), (180, 178));
    assert!(!found.outcome.is_alarmed());
    assert!(found.notes[0].contains("number 2"), "{:?}", found.notes);
    // only the last two hours
    let window = Duration::from_secs((33 * 60 + 30) * 60);
    let now = utc("2026-11-27T12:00:00Z");
    let found = read_back(Some(&rule), None, Some(window), Duration::ZERO, now).unwrap();
    assert_eq!(found.outcome.lines, 90);
}

#[test]
fn a_damaged_file_is_told_and_is_no_silence() {
    let logs = Logs::new();
    let hour = |hour: u8| {
        let from = format!("2026-11-26T0{hour}:00:00Z");
        lines(&from, (0..3600).step_by(2))
    };
    logs.write("a.log.1.gz", &hour(0), "2026-11-26T01:00:00Z");
    logs.write("a.log", &hour(3), "2026-11-26T04:00:00Z");
    let whole = read(&logs.rule(MINUTES, None));
    assert!(whole.outcome.is_alarmed() && whole.notes.is_empty());
    let packed = fs::read(logs.path("a.log.1.gz")).unwrap();
    fs::write(logs.path("a.log.1.gz"), &packed[..packed.len() / 2]).unwrap();
    let found = read(&logs.rule(MINUTES, None));
    assert!(
        found.notes[0].starts_with("a.log.1.gz: it is damaged: it is cut off"),
        "{:?}",
        found.notes
    );
    assert!(found.outcome.lines > 1800 && found.outcome.lines < 3600);
    assert!(!found.outcome.is_alarmed());
}

#[test]
fn an_hour_that_is_put_back_is_no_silence_and_hides_none() {
    let prague = Zone::Named(NamedZone::of("Europe/Prague").unwrap());
    let logs = Logs::new();
    let text = |silent: std::ops::Range<i64>| -> String {
        let minutes = (0..300).filter(|minute| !silent.contains(minute));
        let line = |minute| {
            let time = utc("2026-10-24T22:00:00Z") + TimeDelta::minutes(minute);
            // two hours ahead of UTC until 01:00, then one
            let ahead = if time < utc("2026-10-25T01:00:00Z") {
                2
            } else {
                1
            };
            let local = time + TimeDelta::hours(ahead);
            format!("{} line\n", local.format("%Y-%m-%d %H:%M:%S"))
        };
        minutes.map(line).collect()
    };
    let rule = logs.rule(MINUTES, Some(("%Y-%m-%d %H:%M:%S", prague)));
    logs.write("a.log", &text(0..0), "2026-10-25T02:59:00Z");
    let found = read(&rule);
    assert_eq!((found.outcome.gaps.count, found.outcome.set_back), (299, 0));
    assert_eq!(
        found.outcome.gaps.percentile(100),
        Some(Duration::from_mins(1))
    );
    // silent for half an hour around it
    logs.write("a.log", &text(165..195), "2026-10-25T02:59:00Z");
    let found = read(&rule);
    assert_eq!(found.outcome.stale.count, 1);
    assert_eq!(
        found.outcome.gaps.percentile(100),
        Some(Duration::from_mins(31))
    );
}

#[test]
fn stamps_without_a_year_or_a_date_are_counted_on() {
    let logs = Logs::new();
    let text =
        "Dec 31 23:58:00 h a\nDec 31 23:59:00 h b\nJan  1 00:00:00 h c\nJan  1 00:09:00 h d\n";
    logs.write("a.log", text, "2026-01-01T00:09:00Z");
    let found = read(&logs.rule(MINUTES, Some(("%b %e %H:%M:%S", Zone::Utc))));
    let span = (
        millis("2025-12-31T23:58:00Z"),
        millis("2026-01-01T00:09:00Z"),
    );
    assert_eq!(found.outcome.span, Some(span));
    assert_eq!(found.outcome.stale.kept[0].runs, 3);
    // three days of a log that has only times
    let hours = (0..60).map(|hour| format!("{:02}:30:00 line\n", hour % 24));
    let text: String = hours.collect();
    logs.write("a.log", &text, "2026-11-26T11:30:00Z");
    let found = read(&logs.rule(MINUTES, Some(("%H:%M:%S", Zone::Utc))));
    let span = (
        millis("2026-11-24T00:30:00Z"),
        millis("2026-11-26T11:30:00Z"),
    );
    assert_eq!(found.outcome.span, Some(span));
    assert_eq!(
        found.outcome.gaps.percentile(100),
        Some(Duration::from_hours(1))
    );
}

#[test]
fn lines_without_a_stamp_belong_to_the_one_before() {
    let logs = Logs::new();
    let mut text = String::new();
    for minute in 0..30 {
        text += &lines("2026-11-26T00:00:00Z", [minute * 60]);
        text += "Traceback\n  File \"a.py\"\n2026 was no stamp\n";
    }
    logs.write("a.log", &text, "2026-11-26T00:29:00Z");
    let found = read(&logs.rule(MINUTES, None));
    assert_eq!((found.outcome.lines, found.outcome.stamped), (120, 30));
    assert_eq!(found.outcome.gaps.count, 29);
    assert!(!found.outcome.is_alarmed());
}

#[test]
fn what_cannot_be_read_back_is_said_with_what_to_do() {
    let logs = Logs::new();
    let now = utc("2026-11-27T12:00:00Z");
    let why = |rule: &Rule| read_back(Some(rule), None, None, Duration::ZERO, now).unwrap_err();
    let rule = logs.rule(MINUTES, None);
    assert_eq!(why(&rule), "no such file");
    logs.write("a.log", "", "2026-11-26T00:00:00Z");
    assert_eq!(why(&rule), "it has no line");
    logs.write("a.log", "one\ntwo\n", "2026-11-26T00:00:00Z");
    assert!(why(&rule).contains("write how its lines are stamped as `timestamp`"));
    let open = "03/04/2026 10:00:00 a\n03/04/2026 10:00:01 b\n";
    logs.write("a.log", open, "2026-11-26T00:00:00Z");
    assert!(why(&rule).contains("cannot be told"), "{}", why(&rule));
    let journal = Rule {
        journal: true,
        ..rule.clone()
    };
    assert!(why(&journal).contains("only files can be read back"));
    // a format that fits no line
    let text = lines("2026-11-26T00:00:00Z", [0, 60]);
    logs.write("a.log", &text, "2026-11-26T00:00:00Z");
    let found = read(&logs.rule(MINUTES, Some(("%H:%M:%S", Zone::Utc))));
    assert!(found.is_recognised && found.notes[0].starts_with("`%H:%M:%S` reads no stamp"));
}

#[test]
fn stamps_that_are_far_ahead_are_counted_and_said() {
    let logs = Logs::new();
    let sane = lines("2026-11-26T00:00:00Z", (0..60).map(|n| n * 60));
    let ahead = lines("2031-01-01T00:00:00Z", [0, 60, 120]);
    logs.write("a.log", &format!("{sane}{ahead}"), "2026-11-26T01:00:00Z");
    let rule = logs.rule(MINUTES, Some(("%+", Zone::Utc)));
    let found = read(&rule);
    assert_eq!(
        found.ahead,
        Ahead {
            lines: 3,
            first: Some(utc("2031-01-01T00:00:00Z"))
        }
    );
    assert_eq!((found.outcome.lines, found.outcome.stamped), (63, 60));
    assert_eq!(found.notes, Vec::<String>::new());
    // less than a day is no other time
    let soon = lines("2026-11-28T11:00:00Z", [0]);
    logs.write("a.log", &format!("{sane}{soon}"), "2026-11-26T01:00:00Z");
    let found = read(&rule);
    assert_eq!(found.ahead, Ahead::default());
    assert_eq!(found.outcome.stamped, 61);
    // where all are, there is nothing to judge
    logs.write("a.log", &ahead, "2026-11-26T01:00:00Z");
    let now = utc("2026-11-27T12:00:00Z");
    for stamp in [None, Some(("%+", Zone::Utc))] {
        let rule = logs.rule(MINUTES, stamp);
        let why = read_back(Some(&rule), None, None, Duration::ZERO, now).unwrap_err();
        assert!(
            why.starts_with("its stamps are ahead of the clock, the first is 2031-01-01T00:00:00Z: set the clock of the program right"),
            "{stamp:?}: {why}"
        );
    }
}

#[test]
fn a_zone_that_the_host_does_not_have_is_seen_at_the_last_write() {
    let logs = Logs::new();
    let text = "2026-11-26 00:00:00 a\n2026-11-26 00:01:00 b\n";
    logs.write("a.log", text, "2026-11-26T00:01:01Z");
    let found = read(&logs.rule(None, None));
    // where the host is in UTC, both are the same
    let first = found.outcome.span.unwrap().0;
    assert_eq!(first, millis("2026-11-26T00:00:00Z"));
}

#[test]
fn the_end_of_a_long_log_is_held_against_a_rule() {
    let logs = Logs::new();
    let minutes = (0..4000).filter(|minute| !(3800..3820).contains(minute));
    let text = lines("2026-11-24T00:00:00Z", minutes.map(|minute| minute * 60));
    let text = text.replace("line", &"line ".repeat(200));
    assert!(text.len() > 3 << 20);
    logs.write("a.log", &text, "2026-11-26T18:39:00Z");
    let now = utc("2026-11-26T18:40:00Z");
    let opened = open::open(&logs.path("a.log"), crate::files::Links::Follow).unwrap();
    let ends = Instant::now() + Duration::from_mins(10);
    let found = last_day(&logs.rule(MINUTES, None), &opened, now, ends).unwrap();
    assert_eq!(found.outcome.stale.count, 1);
    assert_eq!(found.outcome.lines, 24 * 60 + 1 - 20);
    let found = look_back(&logs.path("a.log"), now, ends).unwrap();
    assert_eq!(found.outcome.lines, 3980);
    assert_eq!(found.proposed(), Some(Duration::from_mins(45)));
}
