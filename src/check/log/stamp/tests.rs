//! Tables of stamps, as programs write them.

use super::super::NamedZone;
use super::*;

const NOW: &str = "2026-11-22T12:00:00Z";

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

fn stamp(format: &str, after: &str, zone: Zone) -> Stamp {
    Stamp {
        format: format.to_owned(),
        after: after.to_owned(),
        zone,
    }
}

fn read(format: &str, after: &str, line: &str, now: &str) -> Option<DateTime<Utc>> {
    read_in(Zone::Utc, format, after, line, now)
}

fn read_in(zone: Zone, format: &str, after: &str, line: &str, now: &str) -> Option<DateTime<Utc>> {
    Reader::new(&stamp(format, after, zone), at(now)).read(line.as_bytes(), at(now))
}

#[test]
fn stamps_of_many_shapes() {
    for (format, after, line, expected) in [
        (
            "%Y-%m-%d %H:%M:%S",
            "",
            "2026-11-22 11:59:01 INFO tick",
            "2026-11-22T11:59:01Z",
        ),
        (
            "%Y-%m-%d %H:%M:%S,%3f",
            "",
            "2026-11-22 11:59:01,250 x",
            "2026-11-22T11:59:01.25Z",
        ),
        (
            "[%d/%b/%Y:%H:%M:%S %z]",
            "- ",
            "::1 - - [22/Nov/2026:12:30:00 +0100] \"GET",
            "2026-11-22T11:30:00Z",
        ),
        (
            "%+",
            "\"timestamp\":\"",
            "{\"a\":1,\"timestamp\":\"2026-11-22T11:00:00.5+01:00\"}",
            "2026-11-22T10:00:00.5Z",
        ),
        (
            "%Y-%m-%dT%H:%M:%S%.f%#z",
            "",
            "2026-11-22T11:00:00Z x",
            "2026-11-22T11:00:00Z",
        ),
        (
            "%b %e %H:%M:%S",
            "",
            "Nov 22 11:58:00 host x",
            "2026-11-22T11:58:00Z",
        ),
        (
            "%b %e %H:%M:%S",
            "",
            "Nov  2 11:58:00 host x",
            "2026-11-02T11:58:00Z",
        ),
        ("%H:%M:%S", "", "11:58:00 x", "2026-11-22T11:58:00Z"),
        ("%s", "ts=", "a ts=1795348800 b", "2026-11-22T12:00:00Z"),
        (
            "%y%m%d %H:%M:%S",
            "I",
            "I261122 11:58:00.123 9 x",
            "2026-11-22T11:58:00Z",
        ),
        (
            "%Y-%m-%d %H:%M:%S %Z",
            "",
            "2026-11-22 11:58:00 UTC x",
            "2026-11-22T11:58:00Z",
        ),
        // a letter of the format is no name of a zone
        (
            "%Y-%m-%dT%H:%M:%SZ%z",
            "",
            "2026-11-22T11:58:00Z+0100 x",
            "2026-11-22T10:58:00Z",
        ),
        ("%I:%M:%S %p", "", "11:58:00 AM x", "2026-11-22T11:58:00Z"),
    ] {
        assert_eq!(read(format, after, line, NOW), Some(at(expected)), "{line}");
    }
}

#[test]
fn what_is_no_stamp() {
    for (format, after, line) in [
        (
            "%Y-%m-%d %H:%M:%S",
            "",
            "Traceback (most recent call last):",
        ),
        ("%Y-%m-%d %H:%M:%S", "", ""),
        ("%Y-%m-%d %H:%M:%S", "", "2026-13-45 11:00:00"),
        ("%Y-%m-%d %H:%M:%S", "", "INFO 2026-11-22 11:00:00"),
        ("%Y-%m-%d", "", "2026-11-22"),
        ("%Q", "", "2026-11-22"),
        ("%H:%M:%S", "at ", "11:00:00"),
    ] {
        assert_eq!(read(format, after, line, NOW), None, "{line}");
    }
    // a part of a date is none, and no time of today either
    for (part, text) in [
        ("%Y", "2026"),
        ("%y", "26"),
        ("%C", "20"),
        ("%G", "2026"),
        ("%g", "26"),
        ("%m", "11"),
        ("%b", "Nov"),
        ("%d", "22"),
        ("%U", "47"),
        ("%W", "46"),
        ("%V", "47"),
        ("%a", "Sun"),
    ] {
        let (format, line) = (format!("{part} %H:%M:%S"), format!("{text} 11:00:00"));
        assert_eq!(read(&format, "", &line, NOW), None, "{line}");
    }
    let bytes = b"\xff\xfe2026-11-22 11:00:00";
    let rule = stamp("%Y-%m-%d %H:%M:%S", "", Zone::Utc);
    assert_eq!(Reader::new(&rule, at(NOW)).read(bytes, at(NOW)), None);
}

#[test]
fn the_literal_before_it_may_come_more_than_once() {
    let line = "t=abc t=11:30:00";
    assert_eq!(
        read("%H:%M:%S", "t=", line, NOW),
        Some(at("2026-11-22T11:30:00Z"))
    );
}

#[test]
fn years_and_dates_are_those_nearest_to_the_last_write() {
    const DATE: &str = "%b %e %H:%M:%S";
    for (format, line, written, expected) in [
        (
            DATE,
            "Dec 31 23:59:58",
            "2027-01-01T00:00:05Z",
            "2026-12-31T23:59:58Z",
        ),
        (
            DATE,
            "Jan  1 00:00:03",
            "2026-12-31T23:59:58Z",
            "2027-01-01T00:00:03Z",
        ),
        (
            DATE,
            "Nov 20 00:00:03",
            "2026-11-22T12:00:00Z",
            "2026-11-20T00:00:03Z",
        ),
        (
            DATE,
            "Feb 29 10:00:00",
            "2027-03-01T00:00:00Z",
            "2024-02-29T10:00:00Z",
        ),
        (
            "%a %b %e %T",
            "Sat Nov 22 10:00:00",
            "2026-11-22T12:00:00Z",
            "2025-11-22T10:00:00Z",
        ),
        (
            "%a %b %e %T",
            "Fri Nov 22 10:00:00",
            "2026-11-22T12:00:00Z",
            "2024-11-22T10:00:00Z",
        ),
        (
            "%H:%M:%S",
            "23:59:58",
            "2026-11-22T00:00:05Z",
            "2026-11-21T23:59:58Z",
        ),
        (
            "%H:%M:%S",
            "00:00:02",
            "2026-11-21T23:59:59Z",
            "2026-11-22T00:00:02Z",
        ),
        (
            "%H:%M:%S",
            "01:30:00",
            "2026-11-22T12:00:00Z",
            "2026-11-22T01:30:00Z",
        ),
        // of a clock that is ahead
        (
            DATE,
            "Nov 24 00:00:03",
            "2026-11-22T12:00:00Z",
            "2026-11-24T00:00:03Z",
        ),
        (
            "%H:%M:%S",
            "12:30:00",
            "2026-11-22T12:00:00Z",
            "2026-11-22T12:30:00Z",
        ),
    ] {
        assert_eq!(
            read(format, "", line, written),
            Some(at(expected)),
            "{line}"
        );
    }
}

#[test]
fn no_line_without_a_date_is_younger_than_the_last_write_of_its_file() {
    let now = at("2026-11-22T12:00:00Z");
    for (format, line, written, expected) in [
        // of the same time two days ago
        (
            "[%H:%M:%S]",
            "[11:59:00]",
            "2026-11-20T11:59:30Z",
            "2026-11-20T11:59:00Z",
        ),
        (
            "%b %e %T",
            "Nov 22 11:59:00",
            "2024-11-22T12:00:00Z",
            "2024-11-22T11:59:00Z",
        ),
        // within what two clocks may differ by
        (
            "%H:%M",
            "09:05",
            "2026-11-22T09:00:00Z",
            "2026-11-22T09:05:00Z",
        ),
        (
            "%H:%M",
            "09:06",
            "2026-11-22T09:00:00Z",
            "2026-11-22T09:00:00Z",
        ),
        (
            "%b %e %H:%M",
            "Nov 22 11:00",
            "2026-11-22T09:00:00Z",
            "2026-11-22T09:00:00Z",
        ),
        // a time to come is told as that
        (
            "%H:%M",
            "12:06",
            "2026-11-22T09:00:00Z",
            "2026-11-22T12:06:00Z",
        ),
        // a whole date is what it says
        (
            "%F %H:%M",
            "2026-11-22 11:00",
            "2026-11-22T09:00:00Z",
            "2026-11-22T11:00:00Z",
        ),
    ] {
        let rule = stamp(format, "", Zone::Utc);
        let found = Reader::new(&rule, now).read(line.as_bytes(), at(written));
        assert_eq!(found, Some(at(expected)), "{line} {written}");
    }
}

#[test]
fn of_an_hour_twice_the_one_before_the_last_write_is_meant() {
    let prague = Zone::Named(NamedZone::of("Europe/Prague").unwrap());
    for (format, line) in [("%F %T", "2026-10-25 02:30:00"), ("%T", "02:30:00")] {
        for (written, expected) in [
            ("2026-10-25T00:31:00Z", "2026-10-25T00:30:00Z"),
            ("2026-10-25T01:24:59Z", "2026-10-25T00:30:00Z"),
            ("2026-10-25T01:25:00Z", "2026-10-25T01:30:00Z"),
            ("2026-10-25T01:31:00Z", "2026-10-25T01:30:00Z"),
        ] {
            let rule = stamp(format, "", prague);
            // 90 minutes after the first
            let reader = Reader::new(&rule, at("2026-10-25T02:00:00Z"));
            let found = reader.read(line.as_bytes(), at(written));
            assert_eq!(found, Some(at(expected)), "{line} {written}");
        }
    }
}

#[test]
fn seconds_and_their_parts_since_1970() {
    for (format, line, expected) in [
        ("unix", "1795348740 x", Some("2026-11-22T11:59:00Z")),
        ("unix", "1795348740.25 x", Some("2026-11-22T11:59:00.25Z")),
        (
            "unix",
            "1795348740,123456789012,",
            Some("2026-11-22T11:59:00.123456789Z"),
        ),
        ("unix", "1795348740.", Some("2026-11-22T11:59:00Z")),
        ("unix", "1795348740123", None),
        ("unix", "x", None),
        ("unix", "", None),
        (
            "unix_ms",
            "1795348740250,\"msg\"",
            Some("2026-11-22T11:59:00.25Z"),
        ),
        ("unix_ms", "1795348740", None),
        ("unix_ms", "1795348740250000", None),
        ("unix_ms", "", None),
        (
            "tai64n",
            "@400000006b02d90e0ee6b280 x",
            Some("2026-11-22T11:59:00.25Z"),
        ),
        (
            "tai64n",
            "400000006b02d90e0ee6b280",
            Some("2026-11-22T11:59:00.25Z"),
        ),
        ("tai64n", "@400000006b02d90e", None),
        ("tai64n", "@400000006b02d90e+ee6b280", None),
        ("tai64n", "@000000006b02d90e0ee6b280", None),
        ("tai64n", "@ffffffffffffffffffffffff", None),
        // years ahead: it was not seconds
        ("%s", "1795348740250", None),
        ("%s", "1795348740", Some("2026-11-22T11:59:00Z")),
        ("unix", "4000000000", None),
    ] {
        assert_eq!(
            read(format, "", line, NOW),
            expected.map(at),
            "{format} {line}"
        );
    }
    let line = "{\"level\":30,\"time\":1795348740250,\"pid\":1}";
    let found = read("unix_ms", "\"time\":", line, NOW);
    assert_eq!(found, Some(at("2026-11-22T11:59:00.25Z")));
}

#[test]
fn a_time_that_lies_more_than_a_year_ahead_was_misread() {
    for (line, is_read) in [
        ("2026-11-23 12:00:00", true),
        ("2027-11-23 12:00:00", true),
        ("2027-11-23 12:00:01", false),
        ("9999-01-01 12:00:00", false),
    ] {
        let found = read("%Y-%m-%d %H:%M:%S", "", line, NOW);
        assert_eq!(found.is_some(), is_read, "{line}");
    }
}

#[test]
fn a_z_behind_the_time_means_utc_and_a_named_zone_is_asked_for_its_names() {
    let prague = Zone::Named(NamedZone::of("Europe/Prague").unwrap());
    for (format, line, expected) in [
        (
            "%Y-%m-%dT%H:%M:%SZ",
            "2026-11-22T11:58:00Z x",
            Some("2026-11-22T11:58:00Z"),
        ),
        (
            "%FT%TZ]",
            "2026-11-22T11:58:00Z] x",
            Some("2026-11-22T11:58:00Z"),
        ),
        (
            "%FT%T%.fZ",
            "2026-11-22T11:58:00.5Z x",
            Some("2026-11-22T11:58:00.5Z"),
        ),
        (
            "%FT%T,%3fZ",
            "2026-11-22T11:58:00,500Z x",
            Some("2026-11-22T11:58:00.5Z"),
        ),
        (
            "%FT%T.000Z",
            "2026-11-22T11:58:00.000Z x",
            Some("2026-11-22T11:58:00Z"),
        ),
        ("%H:%MZ", "11:58Z x", Some("2026-11-22T11:58:00Z")),
        (
            "%FT%H:%M:%SZ%z",
            "2026-11-22T11:58:00Z+0200",
            Some("2026-11-22T09:58:00Z"),
        ),
        // no zone, or a letter of a text
        (
            "%FT%T",
            "2026-11-22T11:58:00Z x",
            Some("2026-11-22T10:58:00Z"),
        ),
        (
            "%F %TZulu",
            "2026-11-22 11:58:00Zulu",
            Some("2026-11-22T10:58:00Z"),
        ),
        (
            "Z %F %T",
            "Z 2026-11-22 11:58:00",
            Some("2026-11-22T10:58:00Z"),
        ),
        // names
        (
            "%F %T %Z",
            "2026-11-22 11:58:00 UTC x",
            Some("2026-11-22T11:58:00Z"),
        ),
        (
            "[%F %T %Z]",
            "[2026-11-22 11:58:00 GMT] x",
            Some("2026-11-22T11:58:00Z"),
        ),
        (
            "%F %T %Z",
            "2026-11-22 11:58:00 CET x",
            Some("2026-11-22T10:58:00Z"),
        ),
        (
            "%F %T %Z",
            "2026-07-22 11:58:00 CEST x",
            Some("2026-07-22T09:58:00Z"),
        ),
        ("%F %T %Z", "2026-11-22 11:58:00 CEST x", None),
        ("%F %T %Z", "2026-11-22 11:58:00 EST x", None),
        ("%F %T %Z", "2026-11-22 11:58:00 IST x", None),
        ("%F %T %Z", "2026-11-22 11:58:00 ", None),
        // offsets of all kinds
        (
            "%F %T%.f%#z",
            "2026-11-22 11:58:00.123+00",
            Some("2026-11-22T11:58:00.123Z"),
        ),
        (
            "%F %T%#z",
            "2026-11-22 11:58:00+0100",
            Some("2026-11-22T10:58:00Z"),
        ),
        (
            "%F %T%#z",
            "2026-11-22 11:58:00+00 LOG:  x",
            Some("2026-11-22T11:58:00Z"),
        ),
        (
            "%F %T%#z",
            "2026-11-22 11:58:00Z LOG",
            Some("2026-11-22T11:58:00Z"),
        ),
        ("%F %T%#z", "2026-11-22 11:58:00 LOG", None),
        ("%F %T%#z", "2026-11-22 11:58:00", None),
        (
            "%F %T%#z",
            "2026-11-22 11:58:00Z",
            Some("2026-11-22T11:58:00Z"),
        ),
        (
            "%+",
            "2026-11-22T11:58:00,123Z x",
            Some("2026-11-22T11:58:00.123Z"),
        ),
        (
            "%+",
            "2026-11-22T11:58:00,123+01:00",
            Some("2026-11-22T10:58:00.123Z"),
        ),
        (
            "%+",
            "2026-11-22T11:58:00.123Z",
            Some("2026-11-22T11:58:00.123Z"),
        ),
        (
            "%+",
            "2026-11-22T11:58:00Z, x",
            Some("2026-11-22T11:58:00Z"),
        ),
    ] {
        let found = read_in(prague, format, "", line, NOW);
        assert_eq!(found, expected.map(at), "{format} {line}");
    }
}

#[test]
fn a_line_with_another_text_behind_its_stamp_is_stamped_all_the_same() {
    for (format, after, line, another) in [
        (
            "[%H:%M:%S] Imported",
            "",
            "[11:58:00] Looking for peers",
            true,
        ),
        ("[%H:%M:%S] Imported", "", "[11:58:00", false),
        ("[%H:%M:%S] Imported", "", "no stamp at all", false),
        ("[%H:%M:%S] Imported", "", "11:58:00 Looking", false),
        (
            "%H:%M:%S Imported",
            "ts=",
            "a ts=x ts=11:58:00 Looking",
            true,
        ),
        // what is no text selects nothing
        ("[%H:%M:%S]", "", "[11:58:00", false),
        ("%H:%M:%S,", "", "11:58:00.123", false),
        ("%FT%TZ", "", "2026-11-22T11:58:00+0100", false),
        ("%FT%TZ x", "", "2026-11-22T11:58:00Z y", true),
        ("unix", "", "1795348740", false),
    ] {
        let rule = stamp(format, after, Zone::Utc);
        let reader = Reader::new(&rule, at(NOW));
        let found = reader.reads_another(line.as_bytes(), at(NOW));
        assert_eq!(found, another, "{format} {line}");
    }
}

#[test]
fn formats_are_tried_by_reading() {
    for format in [
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%d %H:%M:%S%.f%#z",
        "%FT%T%.fZ",
        "%c %Z",
        "%+",
        "%s",
        "%I:%M %p",
        "unix",
        "unix_ms",
        "tai64n",
    ] {
        assert_eq!(check(format), Ok(()), "{format}");
    }
    for (format, why) in [
        ("%Q", "is not a time format"),
        ("unix_us", "has no time of day, with hour and minute"),
        ("%Y-%m-%d", "has no time of day, with hour and minute"),
        ("%s%3f", "cannot be read back as it is written"),
    ] {
        assert_eq!(check(format), Err(why), "{format}");
    }
}

#[test]
fn a_time_without_zone_is_in_the_zone_of_the_rule() {
    let rule = stamp("%Y-%m-%d %H:%M:%S", "", Zone::Local);
    let now = at(NOW);
    let line = now
        .with_timezone(&chrono::Local)
        .format("%Y-%m-%d %H:%M:%S")
        .to_string();
    assert_eq!(
        Reader::new(&rule, now).read(line.as_bytes(), now),
        Some(now)
    );
}

#[test]
fn a_file_may_bear_any_time() {
    // most file systems on disks keep no such time
    if let Ok(file) = tempfile::tempfile_in("/dev/shm") {
        for seconds in [9_999_999_999_999, i64::MAX.unsigned_abs()] {
            let far = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            file.set_modified(far).unwrap();
            let written = super::super::open::modified(&file.metadata().unwrap());
            assert_eq!(written, at("9999-12-31T23:59:59Z"));
        }
    }
    for seconds in [i64::MIN, -99_999_999_999, 9_999_999_999_999, i64::MAX] {
        let written = crate::clock::of_file((seconds, 0));
        for (format, line) in [
            ("%H:%M:%S", "11:59:00 x"),
            ("%b %e %H:%M:%S", "Nov 22 11:59:00 x"),
            ("%Y-%m-%d %H:%M:%S", "2026-11-22 11:59:00 x"),
        ] {
            for zone in [
                Zone::Utc,
                Zone::Named(NamedZone::of("Europe/Prague").unwrap()),
            ] {
                let stamp = stamp(format, "", zone);
                let reader = Reader::new(&stamp, at(NOW));
                let is_whole = format.contains("%Y");
                let found = reader.read(line.as_bytes(), written);
                assert!(found.is_some() || !is_whole);
                for previous in [None, Some(at(NOW))] {
                    let place = Place { previous, written };
                    let found = reader.read_in_order(line.as_bytes(), place);
                    assert!(found.is_some() || !is_whole);
                }
            }
        }
    }
}
