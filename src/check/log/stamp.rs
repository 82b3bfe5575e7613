//! Times out of lines: what a format finds, and what it leaves out filled in.
//!
//! Formats in logs are rarely whole: syslog writes no year, many programs no date, most no zone. What is
//! missing is filled in so that the time lies as near as can be to the last write of the file that the line is in: a
//! file that nobody has written for two days has no line of today.

use chrono::format::{Fixed, Item, Numeric, Parsed, StrftimeItems, parse_and_remainder};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use memchr::memmem;

use super::{Stamp, Zone};

/// Longer than any stamp: so much of a line is searched for one.
const LENGTH: usize = 256;

/// So many places of the literal text before a stamp are tried in a line.
const PLACES: usize = 16;

/// A line may be stamped after its file was written last, by a clock that is a little ahead.
const SKEW: TimeDelta = TimeDelta::minutes(5);

/// What is further ahead of the clock is no time that was meant: milliseconds that were read as seconds.
const MOST_AHEAD: TimeDelta = TimeDelta::days(366);

const HALF_A_YEAR: TimeDelta = TimeDelta::days(183);

/// Of a date without a year, so many years before the last write are tried: back to the last leap year before a century
/// without one.
const YEARS: i32 = 8;

/// How stamps are written.
enum Format<'a> {
    /// Seconds since 1970.
    Unix,
    /// Milliseconds since 1970.
    UnixMs,
    /// TAI64N, as daemontools, runit and s6 write it.
    Tai64n,
    /// As chrono has it.
    Chrono(Items<'a>),
}

struct Items<'a> {
    all: Vec<Item<'a>>,
    /// So many of them are the time; what follows is text that selects lines.
    of_time: usize,
    /// The format says that the time is in UTC, by a `Z` behind it.
    is_utc: bool,
}

impl<'a> Format<'a> {
    fn new(format: &'a str) -> Self {
        match format {
            "unix" => Self::Unix,
            "unix_ms" => Self::UnixMs,
            "tai64n" => Self::Tai64n,
            _ => Self::Chrono(Items::new(format)),
        }
    }
}

impl<'a> Items<'a> {
    fn new(format: &'a str) -> Self {
        let items: Vec<Item<'a>> = StrftimeItems::new(format).collect();
        let utc = place_of_utc(&items);
        let has_zone = items.iter().any(names_zone);
        let last = items
            .iter()
            .rposition(|item| !matches!(item, Item::Literal(_) | Item::Space(_)));
        let after = last.map_or(0, |at| at + 1);
        let selects = |(at, item): (usize, &Item<'_>)| match item {
            Item::Literal(text) => text.contains(char::is_alphabetic) && Some(at + after) != utc,
            _ => false,
        };
        let text = items[after..]
            .iter()
            .enumerate()
            .position(|(at, item)| selects((at, item)));
        Self {
            of_time: text.map_or(items.len(), |at| at + after),
            is_utc: utc.is_some() && !has_zone,
            all: items,
        }
    }
}

/// Whether an item says which zone the time is in, or which instant it is.
fn names_zone(item: &Item<'_>) -> bool {
    match item {
        Item::Numeric(number, _) => *number == Numeric::Timestamp,
        Item::Fixed(fixed) => {
            is_permissive_offset(item)
                || matches!(
                    fixed,
                    Fixed::TimezoneName
                        | Fixed::TimezoneOffset
                        | Fixed::TimezoneOffsetZ
                        | Fixed::TimezoneOffsetColon
                        | Fixed::TimezoneOffsetColonZ
                        | Fixed::TimezoneOffsetDoubleColon
                        | Fixed::TimezoneOffsetTripleColon
                        | Fixed::RFC2822
                        | Fixed::RFC3339
                )
        }
        _ => false,
    }
}

/// `%#z`, which can only be read.
fn is_permissive_offset(item: &Item<'_>) -> bool {
    StrftimeItems::new("%#z").next().as_ref() == Some(item)
}

/// The item that is a `Z` right behind a time, perhaps with digits of a fraction between.
fn place_of_utc(items: &[Item<'_>]) -> Option<usize> {
    let is_time = |item: &Item<'_>| match item {
        Item::Numeric(number, _) => matches!(
            number,
            Numeric::Hour | Numeric::Minute | Numeric::Second | Numeric::Nanosecond
        ),
        Item::Fixed(fixed) => {
            let is_fraction = matches!(
                fixed,
                Fixed::Nanosecond
                    | Fixed::Nanosecond3
                    | Fixed::Nanosecond6
                    | Fixed::Nanosecond9
                    | Fixed::Internal(_)
            );
            is_fraction && !is_permissive_offset(item)
        }
        _ => false,
    };
    (1..items.len()).find(|&at| {
        let Item::Literal(text) = &items[at] else {
            return false;
        };
        let text = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.' || c == ',');
        let ends = |rest: &str| !rest.starts_with(char::is_alphanumeric);
        is_time(&items[at - 1]) && text.strip_prefix('Z').is_some_and(ends)
    })
}

/// What items found at the beginning of a text.
struct Found<'t> {
    parsed: Parsed,
    /// The name of a zone: `CET`.
    zone: Option<&'t str>,
    rest: &'t str,
}

fn find<'t>(items: &[Item<'_>], text: &'t str) -> Option<Found<'t>> {
    let mut found = Found {
        parsed: Parsed::new(),
        zone: None,
        rest: text,
    };
    for item in items {
        let rest = found.rest;
        found.rest = match item {
            // chrono passes over it, and over all that follows up to a blank
            Item::Fixed(Fixed::TimezoneName) => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '-';
                let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                let (name, rest) = rest.split_at(length);
                found.zone = Some(name).filter(|name| !name.is_empty());
                found.zone?;
                rest
            }
            Item::Fixed(Fixed::RFC3339) => {
                let point = with_point(rest);
                let text = point.as_deref().unwrap_or(rest);
                let one = std::iter::once(item);
                let after = parse_and_remainder(&mut found.parsed, text, one).ok()?;
                &rest[rest.len() - after.len()..]
            }
            // chrono takes what follows `+00` for its minutes
            item if is_permissive_offset(item) => {
                let is_part = |c: char| c.is_ascii_digit() || c == ':';
                let sign = rest.chars().next()?.len_utf8();
                let digits = rest[sign..].find(|c| !is_part(c));
                let (offset, after) = rest.split_at(digits.map_or(rest.len(), |at| sign + at));
                let one = std::iter::once(item);
                let left = parse_and_remainder(&mut found.parsed, offset, one).ok()?;
                &rest[rest.len() - left.len() - after.len()..]
            }
            _ => parse_and_remainder(&mut found.parsed, rest, std::iter::once(item)).ok()?,
        };
    }
    Some(found)
}

/// The same with a point before the fraction of a second, where there is a comma: RFC 3339 knows no comma, ISO 8601 does.
fn with_point(text: &str) -> Option<String> {
    const FRACTION: usize = "2026-11-22T05:06:03".len();
    (text.as_bytes().get(FRACTION) == Some(&b',') && text.is_char_boundary(FRACTION))
        .then(|| [&text[..FRACTION], ".", &text[FRACTION + 1..]].concat())
}

/// A time to try formats with: 2026-11-22 01:02:03 UTC.
const SAMPLE: i64 = 1_795_309_323;

/// What is wrong with a format: a time that is written as it says must be read by it. What can only be read is written
/// in one of the ways that it reads.
pub(super) fn check(format: &str) -> Result<(), &'static str> {
    use std::fmt::Write;
    const NONE: &str = "is not a time format";
    let Format::Chrono(Items { all: items, .. }) = Format::new(format) else {
        return Ok(());
    };
    if items.iter().any(|item| matches!(item, Item::Error)) {
        return Err(NONE);
    }
    let written = items.iter().map(|item| {
        if is_permissive_offset(item) {
            Item::Fixed(Fixed::TimezoneOffset)
        } else {
            item.clone()
        }
    });
    let sample = DateTime::from_timestamp(SAMPLE, 456_789_000).ok_or(NONE)?;
    let mut text = String::new();
    write!(text, "{}", sample.format_with_items(written)).map_err(|_| NONE)?;
    let parsed = find(&items, &text)
        .filter(|found| found.rest.is_empty())
        .ok_or("cannot be read back as it is written")?
        .parsed;
    let has_time = parsed.to_naive_time().is_ok() || parsed.timestamp().is_some();
    if has_time {
        Ok(())
    } else {
        Err("has no time of day, with hour and minute")
    }
}

/// Reads the stamps of lines.
pub(super) struct Reader<'a> {
    format: Format<'a>,
    after: &'a str,
    zone: Zone,
    now: DateTime<Utc>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(stamp: &'a Stamp, now: DateTime<Utc>) -> Self {
        Self {
            format: Format::new(&stamp.format),
            after: &stamp.after,
            zone: stamp.zone,
            now,
        }
    }

    /// The stamp of a line, if it has one. It was written by `written`.
    pub(super) fn read(&self, line: &[u8], written: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.places(line).find_map(|text| match &self.format {
            Format::Unix => self.believed(unix(text)?),
            Format::UnixMs => self.believed(unix_ms(text)?),
            Format::Tai64n => self.believed(tai64n(text)?),
            Format::Chrono(items) => self.time(items, &items.all, text, written),
        })
    }

    /// Whether the format ends with a text that selects lines, and this line has a stamp before another text: what it
    /// says is not asked for, but how it is stamped is known.
    pub(super) fn reads_another(&self, line: &[u8], written: DateTime<Utc>) -> bool {
        let Format::Chrono(items) = &self.format else {
            return false;
        };
        items.of_time < items.all.len()
            && self.places(line).any(|text| {
                let of_time = &items.all[..items.of_time];
                self.time(items, of_time, text, written).is_some()
            })
    }

    /// Where in a line a stamp may begin.
    fn places<'t>(&self, line: &'t [u8]) -> impl Iterator<Item = &'t str> {
        let after = self.after.as_bytes();
        // of an empty text there is only the first
        let places = if after.is_empty() { 1 } else { PLACES };
        memmem::find_iter(line, self.after)
            .take(places)
            .map(move |at| beginning(&line[at + after.len()..]))
    }

    /// A time, unless it lies so far ahead of the clock that it was misread.
    fn believed(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        (time <= self.now + MOST_AHEAD).then_some(time)
    }

    fn time(
        &self,
        format: &Items<'_>,
        items: &[Item<'_>],
        text: &str,
        written: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let Found { parsed, zone, .. } = find(items, text)?;
        if parsed.timestamp().is_some() {
            return self.believed(parsed.to_datetime().ok()?.to_utc());
        }
        // these mean the same everywhere
        let is_utc =
            format.is_utc || zone.is_some_and(|name| ["UTC", "GMT", "Z", "UT"].contains(&name));
        let offset = parsed.offset().or(is_utc.then_some(0));
        let at = |local: NaiveDateTime| match offset {
            Some(offset) => local
                .and_utc()
                .checked_sub_signed(TimeDelta::seconds(offset.into())),
            None => one_of(&self.zone.instants(local, zone), written),
        };
        self.believed(self.fill_in(&parsed, at, written)?)
    }

    /// The time that was meant by one that may lack its year or its whole date.
    fn fill_in(
        &self,
        parsed: &Parsed,
        at: impl Fn(NaiveDateTime) -> Option<DateTime<Utc>>,
        written: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let time = parsed.to_naive_time().ok()?;
        let at = |date: NaiveDate| at(NaiveDateTime::new(date, time));
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
        let here = written.date_naive();
        let nearest = if date_known {
            let of_year = |away: i32| {
                let mut whole = parsed.clone();
                whole.set_year(i64::from(here.year() + away)).ok()?;
                // of each date but the 29 February one lies within half a year
                at(whole.to_naive_date().ok()?).filter(|time| *time <= written + HALF_A_YEAR)
            };
            nearest((-1..=1).filter_map(of_year), written)
                .or_else(|| (2..=YEARS).find_map(|back| of_year(-back)))?
        } else {
            // two days, for a zone may have another date
            let dates = (-2..=2).filter_map(|away| here.checked_add_signed(TimeDelta::days(away)));
            nearest(dates.filter_map(at), written)?
        };
        // no line is younger than the last write of its file; one that would be of a time to come is told as that
        let is_younger = nearest > written + SKEW && nearest <= self.now + SKEW;
        Some(if is_younger { written } else { nearest })
    }
}

fn nearest(
    times: impl Iterator<Item = DateTime<Utc>>,
    written: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    times.min_by_key(|time| (*time - written).abs())
}

/// The one of several instants that was meant: the latest that is not after the last write, or the earliest.
fn one_of(instants: &[DateTime<Utc>], written: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let mut by_then = instants
        .iter()
        .rev()
        .filter(|time| **time <= written + SKEW);
    by_then.next().or(instants.first()).copied()
}

/// The first bytes as text, up to what is none.
fn beginning(bytes: &[u8]) -> &str {
    let bytes = &bytes[..bytes.len().min(LENGTH)];
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

/// The digits at the beginning, and what follows.
fn digits(text: &str) -> (&str, &str) {
    let length = text.find(|c: char| !c.is_ascii_digit());
    text.split_at(length.unwrap_or(text.len()))
}

/// Seconds, perhaps with a fraction. More digits are of a smaller unit.
fn unix(text: &str) -> Option<DateTime<Utc>> {
    let (seconds, rest) = digits(text);
    if seconds.len() > 10 {
        return None;
    }
    let fraction = rest
        .strip_prefix(['.', ','])
        .map_or("", |rest| digits(rest).0);
    let nanos = format!("{fraction:0<9.9}").parse().ok()?;
    DateTime::from_timestamp(seconds.parse().ok()?, nanos)
}

/// Milliseconds: thirteen digits.
fn unix_ms(text: &str) -> Option<DateTime<Utc>> {
    let (millis, _) = digits(text);
    if millis.len() != 13 {
        return None;
    }
    DateTime::from_timestamp_millis(millis.parse().ok()?)
}

/// The label of 1970 in TAI64, with the ten seconds that TAI was ahead of UTC in 1972. Programs that know of leap seconds
/// are half a minute further ahead.
const TAI64_EPOCH: u64 = (1 << 62) + 10;

/// `@` and 24 hexadecimal digits.
fn tai64n(text: &str) -> Option<DateTime<Utc>> {
    let text = text.strip_prefix('@').unwrap_or(text);
    let number = |range: std::ops::Range<usize>| {
        let digits = text.get(range)?;
        let is_digit = |c: char| c.is_ascii_hexdigit();
        digits.chars().all(is_digit).then_some(digits)
    };
    let seconds = u64::from_str_radix(number(0..16)?, 16).ok()?;
    let nanos = u32::from_str_radix(number(16..24)?, 16).ok()?;
    let seconds = seconds.checked_sub(TAI64_EPOCH)?;
    DateTime::from_timestamp(seconds.try_into().ok()?, nanos)
}

#[cfg(test)]
mod tests {
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

    fn read_in(
        zone: Zone,
        format: &str,
        after: &str,
        line: &str,
        now: &str,
    ) -> Option<DateTime<Utc>> {
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
}
