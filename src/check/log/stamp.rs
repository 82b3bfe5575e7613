//! Times out of lines: what a chrono format finds, and what it leaves out filled in.
//!
//! Formats in logs are rarely whole: syslog writes no year, many programs no date, most no zone. What is
//! missing is filled in so that the time lies where a line just written must lie, a little before now or at
//! most a little after.

use chrono::format::{Fixed, Item, Parsed, StrftimeItems, parse_and_remainder};
use chrono::{
    DateTime, Datelike, FixedOffset, Local, MappedLocalTime, NaiveDate, NaiveDateTime, TimeDelta,
    TimeZone, Utc,
};
use memchr::memmem;

use super::{Stamp, Zone};

/// Longer than any stamp: so much of a line is searched for one.
const LENGTH: usize = 256;

/// So many places of the literal text before a stamp are tried in a line.
const PLACES: usize = 16;

/// A time without a date is today's unless it would be more than this ahead.
const TIME_AHEAD: TimeDelta = TimeDelta::hours(1);

/// A date without a year is this year's unless it would be more than this ahead.
const DATE_AHEAD: TimeDelta = TimeDelta::days(1);

/// A line may be written after `now` was taken, by a clock that is a little ahead.
const SKEW: TimeDelta = TimeDelta::minutes(5);

/// Reads the stamps of lines.
pub(super) struct Reader<'a> {
    items: Vec<Item<'a>>,
    after: &'a str,
    zone: Zone,
    now: DateTime<Utc>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(stamp: &'a Stamp, now: DateTime<Utc>) -> Self {
        Self {
            items: StrftimeItems::new(&stamp.format).collect(),
            after: &stamp.after,
            zone: stamp.zone,
            now,
        }
    }

    /// The stamp of a line, if it has one.
    pub(super) fn read(&self, line: &[u8]) -> Option<DateTime<Utc>> {
        if self.after.is_empty() {
            return self.parse(without_colours(line));
        }
        memmem::find_iter(line, self.after)
            .take(PLACES)
            .find_map(|at| self.parse(&line[at + self.after.len()..]))
    }

    fn parse(&self, text: &[u8]) -> Option<DateTime<Utc>> {
        let text = &text[..text.len().min(LENGTH)];
        let text = match std::str::from_utf8(text) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&text[..error.valid_up_to()]).ok()?,
        };
        let mut parsed = Parsed::new();
        let mut rest = text;
        for item in &self.items {
            let before = rest;
            rest = parse_and_remainder(&mut parsed, rest, std::iter::once(item)).ok()?;
            // chrono passes over a zone's name; these mean the same everywhere
            if *item == Item::Fixed(Fixed::TimezoneName)
                && ["UTC", "GMT", "Z"].contains(&&before[..before.len() - rest.len()])
                && parsed.offset().is_none()
            {
                parsed.set_offset(0).ok()?;
            }
        }
        if parsed.timestamp().is_some() {
            return Some(parsed.to_datetime().ok()?.to_utc());
        }
        match (parsed.offset(), self.zone) {
            (Some(offset), _) => fill_in(&parsed, &FixedOffset::east_opt(offset)?, self.now),
            (None, Zone::Utc) => fill_in(&parsed, &Utc, self.now),
            (None, Zone::Local) => fill_in(&parsed, &Local, self.now),
        }
    }
}

/// A line without the colours, zeros and byte order mark before its first character.
fn without_colours(mut line: &[u8]) -> &[u8] {
    loop {
        if let Some(rest) = line
            .strip_prefix(b"\0")
            .or_else(|| line.strip_prefix("\u{feff}".as_bytes()))
        {
            line = rest;
        } else if let Some(rest) = line.strip_prefix(b"\x1b[") {
            let parameters = rest
                .iter()
                .take_while(|byte| byte.is_ascii_digit() || **byte == b';')
                .count();
            match rest.get(parameters) {
                Some(b'm') => line = &rest[parameters + 1..],
                _ => return line,
            }
        } else {
            return line;
        }
    }
}

/// The time that was meant by one that may lack its year or its whole date.
fn fill_in<Z: TimeZone>(parsed: &Parsed, zone: &Z, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let time = parsed.to_naive_time().ok()?;
    let here = now.with_timezone(zone).date_naive();
    let at = |date: NaiveDate| {
        let wanted = NaiveDateTime::new(date, time);
        in_zone(|naive| zone.from_local_datetime(naive), wanted, now)
    };
    if let Ok(date) = parsed.to_naive_date() {
        return at(date);
    }
    let year_known = parsed.year().is_some()
        || parsed.year_mod_100().is_some()
        || parsed.year_div_100().is_some()
        || parsed.isoyear().is_some()
        || parsed.isoyear_mod_100().is_some();
    if year_known {
        return None;
    }
    let date_known = parsed.month().is_some()
        || parsed.day().is_some()
        || parsed.ordinal().is_some()
        || parsed.week_from_sun().is_some()
        || parsed.week_from_mon().is_some()
        || parsed.isoweek().is_some()
        || parsed.weekday().is_some();
    if date_known {
        // back to the last leap year before a century without one
        return (-1..=8).find_map(|back| {
            let mut whole = parsed.clone();
            whole.set_year(i64::from(here.year() - back)).ok()?;
            at(whole.to_naive_date().ok()?).filter(|time| *time <= now + DATE_AHEAD)
        });
    }
    [here.succ_opt(), Some(here), here.pred_opt()]
        .into_iter()
        .flatten()
        .find_map(|date| at(date).filter(|time| *time <= now + TIME_AHEAD))
}

/// A local time as an instant. Of the two that an hour put back gives, the later unless it lies ahead;
/// where an hour is left out, as if it were not.
fn in_zone<Z: TimeZone>(
    map: impl Fn(&NaiveDateTime) -> MappedLocalTime<DateTime<Z>>,
    wanted: NaiveDateTime,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    match map(&wanted) {
        MappedLocalTime::Single(time) => Some(time.to_utc()),
        MappedLocalTime::Ambiguous(one, other) => {
            let (one, other) = (one.to_utc(), other.to_utc());
            let (earlier, later) = (one.min(other), one.max(other));
            Some(if later <= now + SKEW { later } else { earlier })
        }
        MappedLocalTime::None => {
            let hour = TimeDelta::hours(1);
            let before = map(&wanted.checked_sub_signed(hour)?).earliest()?;
            before.to_utc().checked_add_signed(hour)
        }
    }
}

#[cfg(test)]
mod tests {
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
        Reader::new(&stamp(format, after, Zone::Utc), at(now)).read(line.as_bytes())
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
            (
                "%Y-%m-%d %H:%M:%S",
                "",
                "\u{1b}[32m2026-11-22 11:58:00\u{1b}[0m x",
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
        assert_eq!(Reader::new(&rule, at(NOW)).read(bytes), None);
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
    fn years_and_dates_are_filled_in_around_their_turns() {
        for (format, line, now, expected) in [
            (
                "%b %e %H:%M:%S",
                "Dec 31 23:59:58",
                "2027-01-01T00:00:05Z",
                "2026-12-31T23:59:58Z",
            ),
            (
                "%b %e %H:%M:%S",
                "Jan  1 00:00:03",
                "2026-12-31T23:59:58Z",
                "2027-01-01T00:00:03Z",
            ),
            (
                "%b %e %H:%M:%S",
                "Nov 24 00:00:03",
                "2026-11-22T12:00:00Z",
                "2025-11-24T00:00:03Z",
            ),
            (
                "%b %e %H:%M:%S",
                "Feb 29 10:00:00",
                "2027-03-01T00:00:00Z",
                "2024-02-29T10:00:00Z",
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
                "12:30:00",
                "2026-11-22T12:00:00Z",
                "2026-11-22T12:30:00Z",
            ),
            (
                "%H:%M:%S",
                "14:30:00",
                "2026-11-22T12:00:00Z",
                "2026-11-21T14:30:00Z",
            ),
        ] {
            assert_eq!(read(format, "", line, now), Some(at(expected)), "{line}");
        }
    }

    #[test]
    fn a_time_without_zone_is_in_the_zone_of_the_rule() {
        let rule = stamp("%Y-%m-%d %H:%M:%S", "", Zone::Local);
        let now = at(NOW);
        let line = now
            .with_timezone(&Local)
            .format("%Y-%m-%d %H:%M:%S")
            .to_string();
        assert_eq!(Reader::new(&rule, now).read(line.as_bytes()), Some(now));
    }

    #[test]
    fn an_hour_twice_and_an_hour_left_out() {
        let east = |hours: i32| FixedOffset::east_opt(hours * 3600).unwrap();
        // clocks put back by an hour: 02:30 is 00:30 and 01:30 UTC
        let back = |naive: &NaiveDateTime| {
            MappedLocalTime::Ambiguous(
                east(2).from_local_datetime(naive).unwrap(),
                east(1).from_local_datetime(naive).unwrap(),
            )
        };
        let wanted = at("2026-10-25T02:30:00Z").naive_utc();
        for (now, expected) in [
            ("2026-10-25T00:31:00Z", "2026-10-25T00:30:00Z"),
            ("2026-10-25T01:31:00Z", "2026-10-25T01:30:00Z"),
            ("2026-10-25T01:29:59Z", "2026-10-25T01:30:00Z"),
        ] {
            assert_eq!(in_zone(back, wanted, at(now)), Some(at(expected)));
        }
        // clocks put forward: there is no 02:30
        let wanted = at("2026-03-29T02:30:00Z").naive_utc();
        let forward = |naive: &NaiveDateTime| {
            if *naive == wanted {
                MappedLocalTime::None
            } else {
                east(1).from_local_datetime(naive)
            }
        };
        assert_eq!(
            in_zone(forward, wanted, at(NOW)),
            Some(at("2026-03-29T01:30:00Z"))
        );
    }
}
