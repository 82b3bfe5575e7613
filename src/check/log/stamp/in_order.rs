//! Times of lines that are read from the beginning: what a stamp lacks is filled in from the line before.
//!
//! A check looks at the end of a log, and goes by its last write. Who reads all of it knows more: a line was written after
//! the one before. That tells the two hours apart where an hour is put back, and the years of syslog.

use chrono::format::Parsed;
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Utc};

use super::{Format, Found, Reader, SKEW, YEARS, epoch, find};

/// Stamps without a year may go back by so much before the next year is meant.
const BACK_BY_DATE: TimeDelta = TimeDelta::days(2);

/// Stamps without a date may go back by so much before the next day is meant.
const BACK_BY_TIME: TimeDelta = TimeDelta::hours(1);

/// Before this no line of a log was written: a number that says so is another number.
const FIRST: i64 = 631_152_000;

/// What is known of the place of a line.
#[derive(Clone, Copy, Debug)]
pub(in crate::check::log) struct Place {
    /// The stamp before.
    pub(in crate::check::log) previous: Option<DateTime<Utc>>,
    /// When its file was last written: no line is younger.
    pub(in crate::check::log) written: DateTime<Utc>,
}

/// What stamps of a format do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::check::log) enum Lacking {
    /// Nothing, but perhaps the zone.
    Nothing,
    /// The year.
    Year,
    /// The whole date.
    Date,
}

/// What a line says of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::check::log) enum InOrder {
    /// Its stamp, and what that does not say itself.
    At(DateTime<Utc>, Lacking),
    /// A time that is more than a day ahead: the line does not count as stamped.
    Ahead(DateTime<Utc>),
    /// Nothing.
    Unstamped,
}

impl Reader<'_> {
    /// The stamp of a line, and what it does not say itself.
    pub(in crate::check::log) fn read_in_order(
        &self,
        line: &[u8],
        place: Place,
    ) -> Option<(DateTime<Utc>, Lacking)> {
        match self.time_in_order(line, place) {
            InOrder::At(time, lacking) => Some((time, lacking)),
            InOrder::Ahead(_) | InOrder::Unstamped => None,
        }
    }

    /// What a line says of its time.
    pub(in crate::check::log) fn time_in_order(&self, line: &[u8], place: Place) -> InOrder {
        let whole = |time: DateTime<Utc>| (time, Lacking::Nothing);
        let found = self.places(line).find_map(|text| match &self.format {
            Format::Unix => epoch::unix(text).map(whole),
            Format::UnixMs => epoch::unix_ms(text).map(whole),
            Format::Tai64n => epoch::tai64n(text).map(whole),
            Format::Chrono(items) => {
                let Found { parsed, zone, .. } = find(&items.all, text)?;
                if parsed.timestamp().is_some() {
                    return Some(whole(parsed.to_datetime().ok()?.to_utc()));
                }
                let is_utc = items.is_utc
                    || zone.is_some_and(|name| ["UTC", "GMT", "Z", "UT"].contains(&name));
                let offset = parsed.offset().or(is_utc.then_some(0));
                let at = |local: NaiveDateTime| match offset {
                    Some(offset) => local
                        .and_utc()
                        .checked_sub_signed(TimeDelta::seconds(offset.into())),
                    None => place.choose(&self.zone.instants(local, zone)),
                };
                place.fill_in(&parsed, at)
            }
        });
        let by_then = self.now.max(place.written);
        let latest = by_then.checked_add_signed(TimeDelta::days(1));
        match found {
            Some((time, _)) if latest.is_none_or(|latest| time > latest) => InOrder::Ahead(time),
            Some((time, lacking)) if time.timestamp() >= FIRST => InOrder::At(time, lacking),
            _ => InOrder::Unstamped,
        }
    }
}

impl Place {
    /// So long after the last write. Times without a date may have led to the end of all times: each line that seems to go back
    /// is of the next day.
    fn after(self, length: TimeDelta) -> DateTime<Utc> {
        let after = self.written.checked_add_signed(length);
        after.unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// The one of several instants that was meant: the first after the line before, or else the last that its file can hold.
    fn choose(self, instants: &[DateTime<Utc>]) -> Option<DateTime<Utc>> {
        let by_then = |time: &&DateTime<Utc>| **time <= self.after(SKEW);
        match self.previous {
            Some(previous) => (instants.iter())
                .find(|time| **time >= previous - SKEW)
                .or(instants.last()),
            None => (instants.iter().rev().find(by_then)).or(instants.first()),
        }
        .copied()
    }

    fn fill_in(
        self,
        parsed: &Parsed,
        at: impl Fn(NaiveDateTime) -> Option<DateTime<Utc>>,
    ) -> Option<(DateTime<Utc>, Lacking)> {
        let time = parsed.to_naive_time().ok()?;
        let at = |date: NaiveDate| at(NaiveDateTime::new(date, time));
        if let Ok(date) = parsed.to_naive_date() {
            return Some((at(date)?, Lacking::Nothing));
        }
        let lacking = super::lacking(parsed)?;
        let latest = self.after(TimeDelta::days(1));
        let around = self.previous.unwrap_or(latest);
        let found = if lacking == Lacking::Year {
            let of_year = |year: i32| {
                let mut whole = parsed.clone();
                whole.set_year(year.into()).ok()?;
                at(whole.to_naive_date().ok()?)
            };
            let year = around.year();
            let last = || {
                let back = (0..=YEARS).filter_map(|back| of_year(year + 1 - back));
                back.into_iter().find(|time| *time <= latest)
            };
            match self.previous {
                Some(previous) => (year - 1..=year + YEARS)
                    .filter_map(of_year)
                    .find(|time| *time >= previous - BACK_BY_DATE)
                    .filter(|time| *time <= latest)
                    .or_else(last),
                None => last(),
            }
        } else {
            let of_day = |away: i64| {
                at(around
                    .date_naive()
                    .checked_add_signed(TimeDelta::days(away))?)
            };
            match self.previous {
                Some(previous) => (-2..=2)
                    .filter_map(of_day)
                    .find(|time| *time >= previous - BACK_BY_TIME),
                None => (-3..=1)
                    .rev()
                    .filter_map(of_day)
                    .find(|time| *time <= self.after(SKEW)),
            }
        };
        Some((found?, lacking))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{NamedZone, Stamp, Zone};
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    /// The lines as they are read one after the other.
    fn read(format: &str, zone: Zone, written: &str, lines: &[&str]) -> Vec<String> {
        let written = utc(written);
        let stamp = Stamp {
            format: format.to_owned(),
            after: String::new(),
            zone,
        };
        let reader = Reader::new(&stamp, written);
        let mut previous = None;
        let mut read = |line: &&str| {
            let place = Place { previous, written };
            let (time, _) = reader.read_in_order(line.as_bytes(), place).unwrap();
            previous = Some(time);
            time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
        };
        lines.iter().map(&mut read).collect()
    }

    #[test]
    fn the_years_of_syslog_are_counted_from_the_first_line() {
        let lines = [
            "Dec 30 23:59:59 h a",
            "Jan  1 00:00:00 h b",
            "Feb  3 00:00:00 h c",
            "Dec 31 00:00:00 h d",
            "Dec 30 23:00:00 h late",
            "Jan  2 00:00:00 h e",
        ];
        let found = read("%b %e %H:%M:%S", Zone::Utc, "2026-01-02T00:00:05Z", &lines);
        assert_eq!(
            found,
            [
                // nothing says that it is not of the last year
                "2025-12-30T23:59:59Z",
                "2026-01-01T00:00:00Z",
                "2025-02-03T00:00:00Z",
                "2025-12-31T00:00:00Z",
                "2025-12-30T23:00:00Z",
                "2026-01-02T00:00:00Z",
            ]
        );
    }

    #[test]
    fn times_without_a_date_go_on_over_midnight() {
        let lines = [
            "22:59:58", "23:59:58", "00:00:01", "00:00:00", "12:00:00", "11:30:00",
        ];
        // the first is as late as its file can hold; where the days are to be right, it begins earlier
        let found = read("%H:%M:%S", Zone::Utc, "2026-11-22T23:00:00Z", &lines);
        assert_eq!(
            found,
            [
                "2026-11-22T22:59:58Z",
                "2026-11-22T23:59:58Z",
                "2026-11-23T00:00:01Z",
                "2026-11-23T00:00:00Z",
                "2026-11-23T12:00:00Z",
                "2026-11-23T11:30:00Z",
            ]
        );
    }

    #[test]
    fn of_an_hour_that_is_put_back_the_first_comes_first() {
        let prague = Zone::Named(NamedZone::of("Europe/Prague").unwrap());
        let lines = [
            "2026-10-25 01:59:59",
            "2026-10-25 02:00:00",
            "2026-10-25 02:59:59",
            "2026-10-25 02:00:00",
            "2026-10-25 02:30:00",
            "2026-10-25 03:00:00",
        ];
        let format = "%Y-%m-%d %H:%M:%S";
        assert_eq!(
            read(format, prague, "2026-11-22T00:00:00Z", &lines),
            [
                "2026-10-24T23:59:59Z",
                "2026-10-25T00:00:00Z",
                "2026-10-25T00:59:59Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T01:30:00Z",
                "2026-10-25T02:00:00Z",
            ]
        );
        // silent while the hour is put back
        let lines = ["2026-10-25 02:50:00", "2026-10-25 02:10:00"];
        assert_eq!(
            read(format, prague, "2026-10-25T01:10:00Z", &lines)[1],
            "2026-10-25T01:10:00Z"
        );
        // left out in spring
        let lines = ["2026-03-29 01:59:59", "2026-03-29 03:00:00"];
        assert_eq!(
            read(format, prague, "2026-11-22T00:00:00Z", &lines),
            ["2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z"]
        );
    }

    #[test]
    fn lines_may_lead_to_the_end_of_all_times() {
        let last = DateTime::<Utc>::MAX_UTC;
        for format in ["%H:%M:%S", "%b %e %H:%M:%S", "%Y-%m-%d %H:%M:%S"] {
            for zone in [
                Zone::Utc,
                Zone::Named(NamedZone::of("Europe/Prague").unwrap()),
            ] {
                let stamp = Stamp {
                    format: format.to_owned(),
                    after: String::new(),
                    zone,
                };
                let line = utc("2026-11-22T23:59:00Z").format(format).to_string();
                let reader = Reader::new(&stamp, utc("2026-11-22T23:59:00Z"));
                for previous in [None, Some(last)] {
                    let place = Place {
                        previous,
                        written: last,
                    };
                    // there is no day after that one, in which it could have been written
                    let found = reader.read_in_order(line.as_bytes(), place);
                    assert_eq!(found, None, "{format}");
                }
            }
        }
    }

    #[test]
    fn what_no_log_can_say_is_no_stamp() {
        let written = utc("2026-11-22T00:00:00Z");
        for (format, line) in [
            ("unix", "1234 requests"),
            ("%Y-%m-%d %H:%M:%S", "2027-01-01 00:00:00 is planned"),
            ("%Y-%m-%d %H:%M:%S", "no stamp"),
        ] {
            let stamp = Stamp {
                format: format.to_owned(),
                after: String::new(),
                zone: Zone::Utc,
            };
            let place = Place {
                previous: None,
                written,
            };
            let found = Reader::new(&stamp, written).read_in_order(line.as_bytes(), place);
            assert_eq!(found, None, "{line}");
        }
    }
}
