//! Times out of lines: what a format finds, and what it leaves out filled in.
//!
//! Formats in logs are rarely whole: syslog writes no year, many programs no date, most no zone. What is
//! missing is filled in so that the time lies as near as can be to the last write of the file that the line is in: a
//! file that nobody has written for two days has no line of today.

use chrono::format::{Fixed, Item, Numeric, Parsed, StrftimeItems, parse_and_remainder};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use memchr::memmem;

use super::{Stamp, Zone};

mod epoch;
mod in_order;

pub(super) use in_order::{InOrder, Lacking, Place};

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
            Format::Unix => self.believed(epoch::unix(text)?),
            Format::UnixMs => self.believed(epoch::unix_ms(text)?),
            Format::Tai64n => self.believed(epoch::tai64n(text)?),
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
        let date_known = lacking(parsed)? == Lacking::Year;
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

/// What of a date that is not whole is missing: its year, or all of it; none where it is something else.
fn lacking(parsed: &Parsed) -> Option<Lacking> {
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
    Some(if date_known {
        Lacking::Year
    } else {
        Lacking::Date
    })
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

#[cfg(test)]
mod tests;
