//! `quiet`: hours in which a channel keeps what it has to say.

use chrono::{DateTime, NaiveTime, Utc};

use super::Severity;
use crate::check::log::Zone;
use crate::table::{Context, Form, Part, Shown, Table, Value, table};

table! {
    /// Hours in which nothing is sent.
    pub struct Quiet like "quiet = { from = \"22:00\", to = \"07:00\" }", check is_a_time {
        /// When they begin, by the clock on the wall.
        from: TimeOfDay, example r#""22:00""#;
        /// When they end: an earlier time than `from` is one of the next day.
        to: TimeOfDay, example r#""07:00""#;
        /// "local", "utc", or a zone such as "Europe/Prague".
        zone: Zone = Zone::Local;
        /// What matters so much or more (info, warning, error or critical) is sent all the same.
        except: Option<Severity>, commented r#""critical""#;
    }
}

/// An hour and a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(pub NaiveTime);

impl Form for TimeOfDay {
    fn read(value: &Value<'_>, _: &Context) -> Option<Self> {
        let text = value.text()?;
        let time = NaiveTime::parse_from_str(text, "%H:%M");
        // a sign, or one digit in place of two, is more likely a slip than a time
        match time {
            Ok(time) if text.len() == 5 => Some(Self(time)),
            _ => {
                value.wrong(
                    "this is no time of day",
                    "write it like \"22:00\", from \"00:00\" to \"23:59\"",
                );
                None
            }
        }
    }

    fn show(value: &Self) -> Option<Shown> {
        Some(Shown::text(value.0.format("%H:%M").to_string()))
    }

    fn kind() -> String {
        "a time of day".to_owned()
    }
}

fn is_a_time(table: &Table<'_>, part: &mut Part<Quiet>) {
    if let (Some(from), Some(to), Some(value)) = (part.from, part.to, table.get("to"))
        && from == to
    {
        value.misplaced(
            "`to` is the same as `from`: that is no time",
            "to send nothing at all, take the channel out",
        );
    }
}

impl Quiet {
    /// Whether it is quiet at an instant. It goes by what a clock shows in the zone: where that is put back over one end, the
    /// time in between comes twice.
    pub fn holds(&self, now: DateTime<Utc>) -> bool {
        let (from, to) = (self.from.0, self.to.0);
        let time = self.zone.time_of_day(now);
        if from < to {
            (from..to).contains(&time)
        } else {
            time >= from || time < to
        }
    }

    /// Whether what matters so much is sent all the same.
    pub fn passes(&self, severity: Severity) -> bool {
        self.except.is_some_and(|least| severity >= least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::log::NamedZone;

    fn quiet(from: &str, to: &str, zone: &str) -> Quiet {
        let time = |text| TimeOfDay(NaiveTime::parse_from_str(text, "%H:%M").unwrap());
        Quiet {
            from: time(from),
            to: time(to),
            zone: match zone {
                "utc" => Zone::Utc,
                name => Zone::Named(NamedZone::of(name).unwrap()),
            },
            except: Some(Severity::Critical),
        }
    }

    #[test]
    fn quiet_hours_go_by_the_clock_on_the_wall() {
        for (from, to, zone, now, is_quiet) in [
            ("22:00", "07:00", "utc", "2026-11-22T21:59:59Z", false),
            ("22:00", "07:00", "utc", "2026-11-22T22:00:00Z", true),
            ("22:00", "07:00", "utc", "2026-11-22T00:00:00Z", true),
            ("22:00", "07:00", "utc", "2026-11-22T06:59:59Z", true),
            ("22:00", "07:00", "utc", "2026-11-22T07:00:00Z", false),
            ("12:00", "13:30", "utc", "2026-11-22T12:30:00Z", true),
            ("12:00", "13:30", "utc", "2026-11-22T13:30:00Z", false),
            ("12:00", "13:30", "utc", "2026-11-22T23:00:00Z", false),
            // an hour ahead in winter, two in summer
            (
                "22:00",
                "07:00",
                "Europe/Prague",
                "2026-01-22T20:59:00Z",
                false,
            ),
            (
                "22:00",
                "07:00",
                "Europe/Prague",
                "2026-01-22T21:00:00Z",
                true,
            ),
            (
                "22:00",
                "07:00",
                "Europe/Prague",
                "2026-07-22T20:00:00Z",
                true,
            ),
            (
                "22:00",
                "07:00",
                "Europe/Prague",
                "2026-07-22T05:00:00Z",
                false,
            ),
            (
                "22:00",
                "07:00",
                "Europe/Prague",
                "2026-01-22T05:00:00Z",
                true,
            ),
            (
                "22:00",
                "07:00",
                "Asia/Kolkata",
                "2026-01-22T16:29:00Z",
                false,
            ),
            (
                "22:00",
                "07:00",
                "Asia/Kolkata",
                "2026-01-22T16:30:00Z",
                true,
            ),
            // the hour from two to three is left out: it ends at three
            (
                "22:00",
                "02:30",
                "Europe/Prague",
                "2026-03-29T00:59:59Z",
                true,
            ),
            (
                "22:00",
                "02:30",
                "Europe/Prague",
                "2026-03-29T01:00:00Z",
                false,
            ),
            // and here it comes twice
            (
                "22:00",
                "02:30",
                "Europe/Prague",
                "2026-10-25T00:29:00Z",
                true,
            ),
            (
                "22:00",
                "02:30",
                "Europe/Prague",
                "2026-10-25T00:30:00Z",
                false,
            ),
            (
                "22:00",
                "02:30",
                "Europe/Prague",
                "2026-10-25T01:29:00Z",
                true,
            ),
            (
                "22:00",
                "02:30",
                "Europe/Prague",
                "2026-10-25T01:30:00Z",
                false,
            ),
        ] {
            assert_eq!(
                quiet(from, to, zone).holds(now.parse().unwrap()),
                is_quiet,
                "{from} {to} {zone} {now}"
            );
        }
    }

    #[test]
    fn what_matters_enough_passes() {
        let quiet = quiet("22:00", "07:00", "utc");
        assert!(quiet.passes(Severity::Critical));
        assert!(!quiet.passes(Severity::Error));
        let except = None;
        assert!(!Quiet { except, ..quiet }.passes(Severity::Critical));
    }
}
