//! Zones of times: which instants a local time may mean.

use std::env;
use std::fmt;
use std::sync::OnceLock;

use chrono::{
    DateTime, Datelike, MappedLocalTime, NaiveDateTime, NaiveTime, TimeDelta, TimeZone as _,
    Timelike, Utc,
};
use tz::datetime::FoundDateTimeKind;
use tz::{TimeZone, TimeZoneRef};

/// A zone for stamps without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// The zone of this machine.
    Local,
    /// UTC.
    Utc,
    /// One of the IANA database: `Europe/Prague`.
    Named(NamedZone),
}

/// A zone of the IANA database, as the program has it: a host may have none, and a config means the same everywhere.
#[derive(Clone, Copy)]
pub struct NamedZone {
    name: &'static str,
    rules: &'static TimeZone,
}

impl NamedZone {
    /// The zone of a name.
    pub fn of(name: &str) -> Option<Self> {
        let name = Self::names().find(|known| *known == name)?;
        // the files of the database, as a host has them: made up as constants, they took a quarter of the addresses that
        // each start of this program has to fill in
        let rules = TimeZone::from_tz_data(tzdb_data::find_raw(name.as_bytes())?).ok()?;
        // a config names few
        let rules = Box::leak(Box::new(rules));
        Some(Self { name, rules })
    }

    /// All names.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        tzdb_data::TZ_NAMES.iter().copied()
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        self.name
    }
}

impl PartialEq for NamedZone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for NamedZone {}

impl fmt::Debug for NamedZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamedZone({})", self.name)
    }
}

impl Zone {
    /// What a clock shows there at an instant.
    pub fn time_of_day(self, instant: DateTime<Utc>) -> NaiveTime {
        match self {
            Self::Utc => instant.time(),
            Self::Local => instant.with_timezone(&chrono::Local).time(),
            Self::Named(zone) => {
                let kind = zone.rules.as_ref();
                let kind = kind.find_local_time_type(instant.timestamp());
                // the rules know all times, but for those that no clock shows
                let offset = kind.map_or(0, tz::LocalTimeType::ut_offset);
                let local = instant.naive_utc() + TimeDelta::seconds(offset.into());
                local.time()
            }
        }
    }

    /// The instants that a local time may mean: two where an hour is put back, the earlier first. Where an hour is left
    /// out, as if it were not.
    ///
    /// With the abbreviation of a zone, `CEST`, only those at which the zone is called so.
    pub(super) fn instants(
        self,
        local: NaiveDateTime,
        abbreviation: Option<&str>,
    ) -> Vec<DateTime<Utc>> {
        match (self, abbreviation) {
            (Self::Utc, None) => vec![local.and_utc()],
            // stamps in UTC are known by their own names for it
            (Self::Utc, Some(_)) => Vec::new(),
            (Self::Named(zone), _) => of_rules(zone.rules.as_ref(), local, abbreviation),
            (Self::Local, None) => of_host(local),
            // chrono knows no abbreviations
            (Self::Local, Some(_)) => host_rules()
                .map(|rules| of_rules(rules, local, abbreviation))
                .unwrap_or_default(),
        }
    }
}

/// The rules of this machine's zone, read once.
fn host_rules() -> Option<TimeZoneRef<'static>> {
    static RULES: OnceLock<Option<TimeZone>> = OnceLock::new();
    let read = || match env::var("TZ") {
        Ok(zone) if !zone.is_empty() => TimeZone::from_posix_tz(&zone).ok(),
        _ => TimeZone::local().ok(),
    };
    RULES.get_or_init(read).as_ref().map(TimeZone::as_ref)
}

fn of_host(local: NaiveDateTime) -> Vec<DateTime<Utc>> {
    let map = |local: &NaiveDateTime| chrono::Local.from_local_datetime(local);
    let hour = TimeDelta::hours(1);
    match map(&local) {
        MappedLocalTime::Single(time) => vec![time.to_utc()],
        MappedLocalTime::Ambiguous(one, other) => {
            let (one, other) = (one.to_utc(), other.to_utc());
            vec![one.min(other), one.max(other)]
        }
        MappedLocalTime::None => local
            .checked_sub_signed(hour)
            .and_then(|before| map(&before).earliest())
            .and_then(|before| before.to_utc().checked_add_signed(hour))
            .into_iter()
            .collect(),
    }
}

fn of_rules(
    rules: TimeZoneRef<'_>,
    local: NaiveDateTime,
    abbreviation: Option<&str>,
) -> Vec<DateTime<Utc>> {
    let small = |number: u32| u8::try_from(number).ok();
    let found = || {
        let mut found = [None; 4];
        tz::DateTime::find_n(
            &mut found,
            local.year(),
            small(local.month())?,
            small(local.day())?,
            small(local.hour())?,
            small(local.minute())?,
            small(local.second())?,
            0,
            rules,
        )
        .ok()?;
        Some(found)
    };
    let mut instants: Vec<DateTime<Utc>> = found()
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|kind| {
            let kind_of = match &kind {
                FoundDateTimeKind::Normal(time) => time,
                FoundDateTimeKind::Skipped {
                    before_transition, ..
                } => before_transition,
            };
            let kind_of = kind_of.local_time_type();
            if abbreviation.is_some_and(|name| name != kind_of.time_zone_designation()) {
                return None;
            }
            let offset = TimeDelta::seconds(kind_of.ut_offset().into());
            local.and_utc().checked_sub_signed(offset)
        })
        .collect();
    instants.sort_unstable();
    instants
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_of_local_times() {
        let prague = Zone::Named(NamedZone::of("Europe/Prague").unwrap());
        let kolkata = Zone::Named(NamedZone::of("Asia/Kolkata").unwrap());
        for (zone, local, abbreviation, expected) in [
            (
                Zone::Utc,
                "2026-11-22T12:00:00",
                None,
                &["2026-11-22T12:00:00Z"][..],
            ),
            (Zone::Utc, "2026-11-22T12:00:00", Some("CET"), &[]),
            (
                prague,
                "2026-11-22T12:00:00.5",
                None,
                &["2026-11-22T11:00:00.5Z"],
            ),
            (
                prague,
                "2026-07-22T12:00:00",
                None,
                &["2026-07-22T10:00:00Z"],
            ),
            (
                prague,
                "2026-07-22T12:00:00",
                Some("CEST"),
                &["2026-07-22T10:00:00Z"],
            ),
            (prague, "2026-07-22T12:00:00", Some("CET"), &[]),
            (prague, "2026-07-22T12:00:00", Some("EST"), &[]),
            // put back
            (
                prague,
                "2026-10-25T02:30:00",
                None,
                &["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"],
            ),
            (
                prague,
                "2026-10-25T02:30:00",
                Some("CET"),
                &["2026-10-25T01:30:00Z"],
            ),
            (
                prague,
                "2026-10-25T02:30:00",
                Some("CEST"),
                &["2026-10-25T00:30:00Z"],
            ),
            // left out
            (
                prague,
                "2026-03-29T02:30:00",
                None,
                &["2026-03-29T01:30:00Z"],
            ),
            // far beyond the table
            (
                prague,
                "2099-07-01T12:00:00",
                None,
                &["2099-07-01T10:00:00Z"],
            ),
            (
                kolkata,
                "2026-11-22T12:00:00",
                Some("IST"),
                &["2026-11-22T06:30:00Z"],
            ),
        ] {
            let expected: Vec<DateTime<Utc>> = expected
                .iter()
                .map(|text| DateTime::parse_from_rfc3339(text).unwrap().to_utc())
                .collect();
            let found = zone.instants(local.parse().unwrap(), abbreviation);
            assert_eq!(found, expected, "{zone:?} {local} {abbreviation:?}");
        }
    }

    #[test]
    fn this_machine_has_a_zone_of_its_own() {
        let local: NaiveDateTime = "2026-11-22T12:00:00".parse().unwrap();
        let [instant] = Zone::Local.instants(local, None)[..] else {
            panic!("it is no hour of a change");
        };
        let here = instant.with_timezone(&chrono::Local);
        assert_eq!(here.naive_local(), local);
        let called = host_rules().unwrap();
        let called = called.find_local_time_type(instant.timestamp()).unwrap();
        let called = called.time_zone_designation();
        assert_eq!(Zone::Local.instants(local, Some(called)), [instant]);
        assert!(Zone::Local.instants(local, Some("XYZ")).is_empty());
    }

    #[test]
    fn names_are_those_of_the_database() {
        for name in [
            "Europe/Prague",
            "America/New_York",
            "Asia/Kolkata",
            "Etc/GMT-3",
        ] {
            assert_eq!(NamedZone::of(name).unwrap().name(), name);
        }
        for name in NamedZone::names() {
            assert!(NamedZone::of(name).is_some(), "{name}");
        }
        for name in ["", "europe/prague", "Europe", "Mars/Olympus", "CEST"] {
            assert_eq!(NamedZone::of(name), None, "{name}");
        }
    }
}
