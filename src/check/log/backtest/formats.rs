//! Which of the common formats the lines of a log are stamped by.
//!
//! Every format is held against a sample of lines, and the one that stamps most of them wins, provided that its times go
//! on. An order of day and month that the sample leaves open is not guessed.

use chrono::{DateTime, TimeDelta, Utc};
use memchr::memmem;

use super::super::stamp::{Lacking, Place, Reader};
use super::super::{Stamp, Zone};

/// What programs put before a stamp that is a text: nothing, a bracket, the key of JSON or logfmt, or some words.
const BEFORE_TEXT: &[&str] = &[
    "",
    "[",
    "(",
    "<",
    "\"time\":\"",
    "\"time\": \"",
    "\"timestamp\":\"",
    "\"timestamp\": \"",
    "\"@timestamp\":\"",
    "\"@timestamp\": \"",
    "\"ts\":\"",
    "\"ts\": \"",
    "\"t\":\"",
    "\"t\": \"",
    "\"$date\":\"",
    "\"datetime\":\"",
    "\"datetime\": \"",
    "\"date\":\"",
    "\"date\": \"",
    "\"asctime\":\"",
    "\"asctime\": \"",
    "\"@t\":\"",
    "time=\"",
    "time=",
    "timestamp=",
    "ts=",
    "t=",
    "\"",
    " [",
    ": ",
    " ",
    "\t",
];

/// The same for one that is a number.
const BEFORE_NUMBER: &[&str] = &[
    "",
    "[",
    "\"time\":",
    "\"time\": ",
    "\"timestamp\":",
    "\"timestamp\": ",
    "\"@timestamp\":",
    "\"@timestamp\": ",
    "\"ts\":",
    "\"ts\": ",
    "\"t\":",
    "\"t\": ",
    "\"level_time\":",
    "time=",
    "timestamp=",
    "ts=",
    "audit(",
];

/// The letters of glog and klog.
const BEFORE_GLOG: &[&str] = &["I", "W", "E"];

/// Of these the first are the more exact: where two stamp as many lines, the first one is taken.
const FORMATS: &[(&str, &[&str])] = &[
    // RFC 3339, with a zone
    ("%+", BEFORE_TEXT),
    ("%Y-%m-%dT%H:%M:%S%.f%z", BEFORE_TEXT),
    ("%Y-%m-%dT%H:%M:%S,%3f%z", BEFORE_TEXT),
    ("%Y-%m-%dT%H:%M:%S,%3f", BEFORE_TEXT),
    ("%Y-%m-%dT%H:%M:%S%.f", BEFORE_TEXT),
    ("%Y-%m-%dT%H:%M:%S", BEFORE_TEXT),
    // Ruby, Rails, Rust, PostgreSQL
    ("%Y-%m-%d %H:%M:%S%.f %z", BEFORE_TEXT),
    ("%Y-%m-%d %H:%M:%S %z", BEFORE_TEXT),
    ("%Y-%m-%d %H:%M:%S%.f%#z", BEFORE_TEXT),
    ("%Y-%m-%d %H:%M:%S%.f %Z", BEFORE_TEXT),
    ("%Y-%m-%d %H:%M:%S %Z", BEFORE_TEXT),
    // Python's logging, log4j and logback
    ("%Y-%m-%d %H:%M:%S,%3f", BEFORE_TEXT),
    ("%Y-%m-%d %H:%M:%S:%3f", BEFORE_TEXT),
    ("%Y-%m-%d %H:%M:%S%.f", BEFORE_TEXT),
    ("%Y-%m-%d %H:%M:%S", BEFORE_TEXT),
    ("%Y-%m-%d_%H:%M:%S%.f", BEFORE_TEXT),
    ("%Y-%m-%d_%H:%M:%S", BEFORE_TEXT),
    // Go's log, the error log of nginx
    ("%Y/%m/%d %H:%M:%S%.f", BEFORE_TEXT),
    ("%Y/%m/%d %H:%M:%S", BEFORE_TEXT),
    ("%Y.%m.%d %H:%M:%S%.f", BEFORE_TEXT),
    ("%Y.%m.%d %H:%M:%S", BEFORE_TEXT),
    // the access logs of nginx and Apache
    ("%d/%b/%Y:%H:%M:%S%.f %z", BEFORE_TEXT),
    ("%d/%b/%Y:%H:%M:%S %z", BEFORE_TEXT),
    ("%d/%b/%Y:%H:%M:%S", BEFORE_TEXT),
    // date(1), the error log of Apache, RFC 2822
    ("%a %b %e %H:%M:%S %Z %Y", BEFORE_TEXT),
    ("%a %b %e %I:%M:%S %p %Z %Y", BEFORE_TEXT),
    ("%a %b %e %H:%M:%S%.f %Y", BEFORE_TEXT),
    ("%a %b %e %H:%M:%S %Y", BEFORE_TEXT),
    ("%a, %d %b %Y %H:%M:%S %z", BEFORE_TEXT),
    ("%a, %d %b %Y %H:%M:%S %Z", BEFORE_TEXT),
    ("%a %d %b %Y %H:%M:%S %Z", BEFORE_TEXT),
    // Redis, Tomcat, BIND
    ("%d %b %Y %H:%M:%S%.f", BEFORE_TEXT),
    ("%d %b %Y %H:%M:%S", BEFORE_TEXT),
    ("%d-%b-%Y %H:%M:%S%.f", BEFORE_TEXT),
    ("%d-%b-%Y %H:%M:%S", BEFORE_TEXT),
    ("%b %e, %Y %H:%M:%S%.f", BEFORE_TEXT),
    ("%b %e, %Y %H:%M:%S", BEFORE_TEXT),
    ("%b %e %Y %H:%M:%S%.f", BEFORE_TEXT),
    ("%b %e %Y %H:%M:%S", BEFORE_TEXT),
    ("%Y %b %e %H:%M:%S", BEFORE_TEXT),
    ("%Y%m%d %H:%M:%S%.f", BEFORE_TEXT),
    ("%Y%m%d %H:%M:%S", BEFORE_TEXT),
    ("%Y%m%d-%H:%M:%S%.f", BEFORE_TEXT),
    ("%Y%m%d-%H:%M:%S", BEFORE_TEXT),
    ("%Y%m%dT%H%M%S%.f", BEFORE_TEXT),
    ("%Y%m%dT%H%M%S", BEFORE_TEXT),
    ("%d.%m.%Y %H:%M:%S%.f", BEFORE_TEXT),
    ("%d.%m.%Y %H:%M:%S", BEFORE_TEXT),
    // which is the day, the lines have to tell
    ("%d/%m/%Y %H:%M:%S%.f", BEFORE_TEXT),
    ("%d/%m/%Y %H:%M:%S", BEFORE_TEXT),
    ("%m/%d/%Y %H:%M:%S%.f", BEFORE_TEXT),
    ("%m/%d/%Y %H:%M:%S", BEFORE_TEXT),
    ("%d-%m-%Y %H:%M:%S%.f", BEFORE_TEXT),
    ("%d-%m-%Y %H:%M:%S", BEFORE_TEXT),
    ("%m-%d-%Y %H:%M:%S%.f", BEFORE_TEXT),
    ("%m-%d-%Y %H:%M:%S", BEFORE_TEXT),
    // without a year
    ("%b %e %H:%M:%S%.f", BEFORE_TEXT),
    ("%b %e %H:%M:%S", BEFORE_TEXT),
    ("%m%d %H:%M:%S%.f", BEFORE_GLOG),
    // numbers
    ("unix_ms", BEFORE_NUMBER),
    ("unix", BEFORE_NUMBER),
    ("tai64n", &["", "@"]),
    // without a date
    ("%H:%M:%S,%3f", BEFORE_TEXT),
    ("%H:%M:%S%.f", BEFORE_TEXT),
    ("%H:%M:%S", BEFORE_TEXT),
];

/// Times may go back by so much: several threads write one log.
const BACK: TimeDelta = TimeDelta::minutes(5);

/// Two clocks that are less apart show the same hour.
const SAME: TimeDelta = TimeDelta::minutes(10);

/// Some lines of a log, the oldest first.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) lines: Vec<Vec<u8>>,
    /// When the file that they are in was last written.
    pub(super) written: DateTime<Utc>,
    /// The last of them is the last of its file, so that it was written then.
    pub(super) is_end: bool,
}

/// What a sample says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recognised {
    /// Its lines are stamped so.
    As(Stamp, Lacking),
    /// They are stamped, and either format could be meant.
    Either([&'static str; 2]),
    /// No format that is known stamps enough of them.
    No,
}

/// How well a format fits.
struct Fit {
    stamp: Stamp,
    format: &'static str,
    lacking: Lacking,
    /// Lines that it stamps, less where it is a guess.
    worth: usize,
    /// The stamp of the last line that has one.
    last: DateTime<Utc>,
}

/// Recognises the format of a sample.
pub(super) fn recognise(sample: &Sample) -> Recognised {
    let mut best: Option<Fit> = None;
    let mut either = None;
    let texts = |before: &str| {
        let finder = memmem::Finder::new(before);
        let has = |line: &&Vec<u8>| finder.find(line).is_some();
        sample.lines.iter().filter(has).count()
    };
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for (format, before) in FORMATS {
        for after in *before {
            let known = counts.iter().find(|(text, _)| text == after);
            let count = if let Some((_, count)) = known {
                *count
            } else {
                let count = texts(after);
                counts.push((after, count));
                count
            };
            let least = best.as_ref().map_or(1, |best| best.worth);
            if count < least {
                continue;
            }
            let Some(fit) = fit(sample, format, after) else {
                continue;
            };
            match &best {
                Some(best) if fit.worth < best.worth => {}
                Some(best) if fit.worth == best.worth => {
                    if swaps_day_and_month(best.format, format) {
                        either = Some([best.format, *format]);
                    }
                }
                _ => {
                    either = None;
                    best = Some(fit);
                }
            }
        }
    }
    match (best, either) {
        (_, Some(either)) => Recognised::Either(either),
        (Some(fit), None) => {
            let stamp = in_zone(fit.stamp, fit.last, sample, fit.lacking);
            Recognised::As(stamp, fit.lacking)
        }
        (None, None) => Recognised::No,
    }
}

fn fit(sample: &Sample, format: &'static str, after: &str) -> Option<Fit> {
    let stamp = Stamp {
        format: format.to_owned(),
        after: after.to_owned(),
        zone: Zone::Local,
    };
    let reader = Reader::new(&stamp, sample.written);
    let mut previous: Option<DateTime<Utc>> = None;
    let mut lacks = Lacking::Nothing;
    let (mut stamped, mut back) = (0_usize, 0_usize);
    let mut has_fraction = false;
    for line in &sample.lines {
        let place = Place {
            previous,
            written: sample.written,
        };
        // a time of day is not held against the end of a file, from which it may be days away
        let place = if lacks == Lacking::Date {
            Place {
                written: DateTime::<Utc>::MAX_UTC - TimeDelta::days(9),
                ..place
            }
        } else {
            place
        };
        let Some((time, lacking)) = reader.read_in_order(line, place) else {
            continue;
        };
        stamped += 1;
        lacks = lacking;
        has_fraction |= time.timestamp_subsec_nanos() > 0;
        if previous.is_some_and(|previous| time < previous - BACK) {
            back += 1;
        }
        previous = Some(time);
    }
    // a fraction that no line has is not asked for
    let asks_fraction = format.contains("%.f");
    if stamped < 2 || stamped * 20 < sample.lines.len() || back * 10 > stamped {
        return None;
    }
    if asks_fraction && !has_fraction {
        return None;
    }
    let is_guess = matches!(after, " " | ": " | "\t");
    if is_guess && lacks == Lacking::Date {
        // the time of a date that was not understood
        return None;
    }
    let less = if is_guess || lacks == Lacking::Date {
        stamped / 10
    } else {
        0
    };
    Some(Fit {
        format,
        lacking: lacks,
        worth: stamped - less,
        last: previous?,
        stamp,
    })
}

/// Whether two formats differ in nothing but which of two numbers is the day.
fn swaps_day_and_month(one: &str, other: &str) -> bool {
    let swapped = one.replace("%d", "%\0").replace("%m", "%d");
    one != other && swapped.replace("%\0", "%m") == other
}

/// The same in UTC, where that is how its last line was written when its file was, and the host's zone is not.
fn in_zone(stamp: Stamp, last: DateTime<Utc>, sample: &Sample, lacking: Lacking) -> Stamp {
    let away = |time: DateTime<Utc>| (time - sample.written).abs();
    if !sample.is_end || away(last) < SAME || lacking == Lacking::Date {
        return stamp;
    }
    let utc = Stamp {
        zone: Zone::Utc,
        ..stamp.clone()
    };
    let reader = Reader::new(&utc, sample.written);
    let place = Place {
        previous: None,
        written: sample.written,
    };
    let mut lines = sample.lines.iter().rev();
    let of_utc = lines.find_map(|line| reader.read_in_order(line, place));
    match of_utc {
        Some((time, _)) if time != last && away(time) < SAME => utc,
        _ => stamp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(lines: &[&str], written: &str) -> Sample {
        Sample {
            lines: lines.iter().map(|line| line.as_bytes().to_vec()).collect(),
            written: DateTime::parse_from_rfc3339(written).unwrap().to_utc(),
            is_end: false,
        }
    }

    /// The format, what stands before it, and the stamps of the lines.
    fn recognised(lines: &[&str]) -> (String, String, Vec<String>) {
        let sample = sample(lines, "2026-11-27T23:00:00Z");
        let Recognised::As(stamp, _) = recognise(&sample) else {
            return (String::new(), String::new(), Vec::new());
        };
        let mut previous = None;
        let stamp = Stamp {
            zone: Zone::Utc,
            ..stamp
        };
        let reader = Reader::new(&stamp, sample.written);
        let times = sample.lines.iter().filter_map(|line| {
            let written = sample.written;
            let (time, _) = reader.read_in_order(line, Place { previous, written })?;
            previous = Some(time);
            Some(time.format("%dT%H:%M:%S%.f").to_string())
        });
        let times = times.collect();
        (stamp.format, stamp.after, times)
    }

    #[test]
    fn common_logs_are_recognised() {
        let mut wrong = Vec::new();
        for (first, second, format, after) in [
            ("2026-11-27T10:00:01Z a", "2026-11-27T10:00:02Z b", "%+", ""),
            (
                "2026-11-27T10:00:01.5+00:00 a",
                "2026-11-27T10:00:02.5+00:00 b",
                "%+",
                "",
            ),
            (
                "2026-11-27 10:00:01+00:00 a",
                "2026-11-27 10:00:02+00:00 b",
                "%+",
                "",
            ),
            (
                "2026-11-27T10:00:01+0000 h u[1]: a",
                "2026-11-27T10:00:02+0000 h u[1]: b",
                "%+",
                "",
            ),
            (
                "2026-11-27T10:00:01,123 a",
                "2026-11-27T10:00:02,456 b",
                "%Y-%m-%dT%H:%M:%S,%3f",
                "",
            ),
            (
                "2026-11-27T10:00:01 a",
                "2026-11-27T10:00:02 b",
                "%Y-%m-%dT%H:%M:%S",
                "",
            ),
            (
                "2026-11-27 10:00:01.123 UTC [7] LOG:  a",
                "2026-11-27 10:00:02.456 UTC [7] LOG:  b",
                "%+",
                "",
            ),
            (
                "2026-11-27 10:00:01 UTC [7] LOG:  a",
                "2026-11-27 10:00:02 UTC [7] LOG:  b",
                "%+",
                "",
            ),
            (
                "2026-11-27 10:00:01,123 - root - INFO - a",
                "2026-11-27 10:00:02,123 - root - INFO - b",
                "%Y-%m-%d %H:%M:%S,%3f",
                "",
            ),
            (
                "2026-11-27 10:00:01.123 INFO a",
                "2026-11-27 10:00:02.123 INFO b",
                "%Y-%m-%d %H:%M:%S%.f",
                "",
            ),
            (
                "2026-11-27 10:00:01 INFO a",
                "2026-11-27 10:00:02 INFO b",
                "%Y-%m-%d %H:%M:%S",
                "",
            ),
            (
                "[2026-11-27 10:00:01] a",
                "[2026-11-27 10:00:02] b",
                "%Y-%m-%d %H:%M:%S",
                "[",
            ),
            (
                "INFO 2026-11-27 10:00:01 a",
                "INFO 2026-11-27 10:00:02 b",
                "%Y-%m-%d %H:%M:%S",
                " ",
            ),
            (
                "[2026-11-27 10:00:01 +0000] [7] [INFO] a",
                "[2026-11-27 10:00:02 +0000] [7] [INFO] b",
                "%+",
                "[",
            ),
            (
                "2026/11/27 10:00:01 a",
                "2026/11/27 10:00:02 b",
                "%Y/%m/%d %H:%M:%S",
                "",
            ),
            (
                "2026/11/27 10:00:01.123456 a",
                "2026/11/27 10:00:02.000001 b",
                "%Y/%m/%d %H:%M:%S%.f",
                "",
            ),
            (
                "1.2.3.4 - - [27/Nov/2026:10:00:01 +0000] \"GET",
                "1.2.3.4 - - [27/Nov/2026:10:00:02 +0000] \"GET",
                "%d/%b/%Y:%H:%M:%S %z",
                "[",
            ),
            (
                "Fri Nov 27 10:00:01 UTC 2026",
                "Fri Nov 27 10:00:02 UTC 2026",
                "%a %b %e %H:%M:%S %Z %Y",
                "",
            ),
            (
                "Fri Nov 27 10:00:01 AM UTC 2026",
                "Fri Nov 27 10:00:02 AM UTC 2026",
                "%a %b %e %I:%M:%S %p %Z %Y",
                "",
            ),
            (
                "[Fri Nov 27 10:00:01.123456 2026] [core:notice]",
                "[Fri Nov 27 10:00:02.123456 2026] [core:notice]",
                "%a %b %e %H:%M:%S%.f %Y",
                "[",
            ),
            (
                "Fri, 27 Nov 2026 10:00:01 +0000",
                "Fri, 27 Nov 2026 10:00:02 +0000",
                "%a, %d %b %Y %H:%M:%S %z",
                "",
            ),
            (
                "7:M 27 Nov 2026 10:00:01.123 * a",
                "7:M 27 Nov 2026 10:00:02.123 * b",
                "%d %b %Y %H:%M:%S%.f",
                " ",
            ),
            (
                "27-Nov-2026 10:00:01.123 a",
                "27-Nov-2026 10:00:02.123 b",
                "%d-%b-%Y %H:%M:%S%.f",
                "",
            ),
            (
                "27.11.2026 10:00:01 a",
                "27.11.2026 10:00:02 b",
                "%d.%m.%Y %H:%M:%S",
                "",
            ),
            (
                "27/11/2026 10:00:01 a",
                "27/11/2026 10:00:02 b",
                "%d/%m/%Y %H:%M:%S",
                "",
            ),
            (
                "11/27/2026 10:00:01 a",
                "11/27/2026 10:00:02 b",
                "%m/%d/%Y %H:%M:%S",
                "",
            ),
            (
                "Nov 27 10:00:01 host a",
                "Nov 27 10:00:02 host b",
                "%b %e %H:%M:%S",
                "",
            ),
            (
                "I1127 10:00:01.123456    7 a.go:1] a",
                "I1127 10:00:02.123456    7 a.go:1] b",
                "%m%d %H:%M:%S%.f",
                "I",
            ),
            ("1795773601 a", "1795773602 b", "unix", ""),
            (
                "1795773601.123   56 10.0.0.1 TCP_MISS",
                "1795773602.123   56 10.0.0.1 TCP_MISS",
                "unix",
                "",
            ),
            ("1795773601123 a", "1795773602123 b", "unix_ms", ""),
            (
                "type=X msg=audit(1795773601.363:24287)",
                "type=X msg=audit(1795773602.363:24288)",
                "unix",
                "audit(",
            ),
            (
                "{\"level\":30,\"time\":1795773601123}",
                "{\"level\":30,\"time\":1795773602123}",
                "unix_ms",
                "\"time\":",
            ),
            (
                "{\"ts\":1795773601.123,\"msg\":\"a\"}",
                "{\"ts\":1795773602.123,\"msg\":\"b\"}",
                "unix",
                "\"ts\":",
            ),
            (
                "{\"m\":1,\"timestamp\":\"2026-11-27T10:00:01Z\"}",
                "{\"m\":2,\"timestamp\":\"2026-11-27T10:00:02Z\"}",
                "%+",
                "\"timestamp\":\"",
            ),
            (
                "{\"time\": \"2026-11-27 10:00:01,123\"}",
                "{\"time\": \"2026-11-27 10:00:02,123\"}",
                "%Y-%m-%d %H:%M:%S,%3f",
                "\"time\": \"",
            ),
            (
                "{\"t\":{\"$date\":\"2026-11-27T10:00:01.123+00:00\"}}",
                "{\"t\":{\"$date\":\"2026-11-27T10:00:02.123+00:00\"}}",
                "%+",
                "\"$date\":\"",
            ),
            (
                "time=\"2026-11-27T10:00:01Z\" level=info",
                "time=\"2026-11-27T10:00:02Z\" level=info",
                "%+",
                "time=\"",
            ),
            (
                "level=info ts=2026-11-27T10:00:01.1Z a",
                "level=info ts=2026-11-27T10:00:02.1Z b",
                "%+",
                "ts=",
            ),
            (
                "@400000006b0959ab00000000 a",
                "@400000006b0959ac00000000 b",
                "tai64n",
                "",
            ),
            ("10:00:01 a", "10:00:02 b", "%H:%M:%S", ""),
            ("[10:00:01,123] a", "[10:00:02,123] b", "%H:%M:%S,%3f", "["),
        ] {
            let (found, before, times) = recognised(&[first, "  at a.b.c", second]);
            let whole: Vec<&str> = times.iter().map(|time| &time[2..11]).collect();
            let is_right = format == "tai64n" || whole == ["T10:00:01", "T10:00:02"];
            if (&*found, &*before) != (format, after) || !is_right {
                wrong.push(format!("{first}: {found} after {before:?}, {times:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn an_order_of_day_and_month_is_not_guessed() {
        let of = |lines: &[&str]| recognise(&sample(lines, "2026-11-27T23:00:00Z"));
        let open = of(&["03/04/2026 10:00:00", "03/04/2026 10:00:01"]);
        let both = ["%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S"];
        assert_eq!(open, Recognised::Either(both));
        let told = of(&["03/04/2026 10:00:00", "03/13/2026 10:00:01"]);
        assert!(matches!(told, Recognised::As(stamp, _) if stamp.format == both[1]));
    }

    #[test]
    fn what_is_no_stamp_is_none() {
        for lines in [
            &[][..],
            &["no", "stamps"],
            &["2026-11-27 10:00:00 only one", "of", "them"],
            // times that do not go on
            &[
                "2026-11-27 10:00:00",
                "2026-11-20 10:00:00",
                "2026-11-25 10:00:00",
                "2026-11-10 10:00:00",
            ],
            &["1234 5678", "1235 5678"],
        ] {
            let found = recognise(&sample(lines, "2026-11-27T23:00:00Z"));
            assert_eq!(found, Recognised::No, "{lines:?}");
        }
    }
}
