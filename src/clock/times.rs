//! Times in the state: RFC 3339, as chrono writes and reads them, by humantime in less than half of the instructions. A
//! state has four for each service: by chrono they were 18 of the 62 million that the state of a thousand services took.
//!
//! For `#[serde(with = "…")]`.

use std::cell::RefCell;
use std::fmt;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// 9999-12-31T23:59:59Z, the last second that RFC 3339 can write.
const LAST_SECOND: i64 = 253_402_300_799;

/// Of so many texts is remembered which times they are. A state has the same few again and again: that of the last run,
/// and when all was first well.
const REMEMBERED: usize = 8;

/// Times and their texts, each at a place that follows from the time: one that is asked for takes the place of another.
type Known = [Option<(DateTime<Utc>, String)>; REMEMBERED];

thread_local! {
    static WRITTEN: RefCell<Known> = const { RefCell::new([const { None }; REMEMBERED]) };
}

/// Gives the text of a time.
fn with_text<T>(time: DateTime<Utc>, give: impl FnOnce(&str) -> T) -> T {
    // those of one run differ in their fractions
    let place = time.timestamp_subsec_nanos() as usize % REMEMBERED;
    // taken out, for what it is given to may write a time itself
    let known = WRITTEN.with_borrow_mut(|written| written[place].take());
    let known = known.filter(|(of, _)| *of == time);
    let (time, text) = known.unwrap_or_else(|| (time, text_of(time)));
    let given = give(&text);
    WRITTEN.with_borrow_mut(|written| written[place] = Some((time, text)));
    given
}

fn text_of(time: DateTime<Utc>) -> String {
    // what humantime cannot write is left to chrono
    if (0..=LAST_SECOND).contains(&time.timestamp()) {
        humantime::format_rfc3339(SystemTime::from(time)).to_string()
    } else {
        time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
    }
}

/// Writes a time.
pub fn serialize<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    with_text(*time, |text| serializer.serialize_str(text))
}

/// The text of a time.
pub(super) fn write(time: DateTime<Utc>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    with_text(time, |text| f.write_str(text))
}

/// Reads a time. An error where it is none.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<DateTime<Utc>, D::Error> {
    struct Text;

    impl de::Visitor<'_> for Text {
        type Value = DateTime<Utc>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an RFC 3339 time")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            read(text).map_err(E::custom)
        }
    }

    from.deserialize_str(Text)
}

/// Reads a time from its text. An error where it is none.
pub fn read(text: &str) -> chrono::ParseResult<DateTime<Utc>> {
    thread_local! {
        static READ: RefCell<Known> = const { RefCell::new([const { None }; REMEMBERED]) };
    }

    READ.with_borrow_mut(|read| {
        // the last digits, before the Z
        let digits = text.bytes().rev().skip(1).take(2);
        let place = &mut read[digits.map(usize::from).sum::<usize>() % REMEMBERED];
        match place {
            Some((time, known)) if known == text => Ok(*time),
            place => {
                let time = parse(text)?;
                *place = Some((time, text.to_owned()));
                Ok(time)
            }
        }
    })
}

fn parse(text: &str) -> chrono::ParseResult<DateTime<Utc>> {
    match humantime::parse_rfc3339(text) {
        Ok(time) => Ok(time.into()),
        // another zone, a year of five digits
        Err(_) => text.parse(),
    }
}

/// The same for a time that may be absent.
pub mod perhaps {
    use super::{DateTime, Deserialize, Deserializer, Serialize, Serializer, Utc};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Time(#[serde(with = "super")] DateTime<Utc>);

    /// Writes a time, or null.
    pub fn serialize<S: Serializer>(
        time: &Option<DateTime<Utc>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(Time).serialize(serializer)
    }

    /// Reads a time, or null. An error where it is neither.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<DateTime<Utc>>, D::Error> {
        Ok(Option::<Time>::deserialize(from)?.map(|time| time.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Kept {
        #[serde(with = "super")]
        at: DateTime<Utc>,
        #[serde(with = "perhaps", default)]
        then: Option<DateTime<Utc>>,
    }

    fn json(time: DateTime<Utc>) -> String {
        let kept = Kept {
            at: time,
            then: Some(time),
        };
        serde_json::to_string(&kept).unwrap()
    }

    proptest! {
        #[test]
        fn every_time_reads_back_and_chrono_reads_the_same(seconds: i64, nanos in 0..1_000_000_000_u32) {
            let range = DateTime::<Utc>::MIN_UTC.timestamp()..DateTime::<Utc>::MAX_UTC.timestamp();
            let seconds = seconds.rem_euclid(range.end - range.start) + range.start;
            for seconds in [seconds, seconds.rem_euclid(LAST_SECOND + 1)] {
                let time = DateTime::from_timestamp(seconds, nanos).unwrap();
                let text = json(time);
                let kept: Kept = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(kept, Kept { at: time, then: Some(time) });
                let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(value["at"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap(), time);
                let by_chrono = serde_json::json!({ "at": time });
                prop_assert_eq!(serde_json::from_value::<Kept>(by_chrono).unwrap().at, time);
            }
        }
    }

    #[test]
    fn the_ends_of_what_can_be_written_are_written() {
        let last = DateTime::from_timestamp(LAST_SECOND, 0).unwrap();
        let second = TimeDelta::seconds(1);
        let epoch = DateTime::UNIX_EPOCH;
        for (time, shown) in [
            (last, "9999-12-31T23:59:59Z"),
            (last + second, "+10000-01-01T00:00:00Z"),
            (epoch, "1970-01-01T00:00:00Z"),
            (epoch - second, "1969-12-31T23:59:59Z"),
        ] {
            let text = json(time);
            assert_eq!(text, format!(r#"{{"at":"{shown}","then":"{shown}"}}"#));
            assert_eq!(serde_json::from_str::<Kept>(&text).unwrap().at, time);
        }
    }

    #[test]
    fn what_is_no_time_is_an_error_and_null_is_none() {
        let read = |text: &str| serde_json::from_str::<Kept>(text);
        let time = r#""at":"2026-11-22T12:00:00+01:00""#;
        let at = DateTime::from_timestamp(1_795_345_200, 0).unwrap();
        for absent in ["", r#","then":null"#] {
            let kept = Kept { at, then: None };
            assert_eq!(read(&format!("{{{time}{absent}}}")).unwrap(), kept);
        }
        for wrong in ["3", "\"soon\"", "\"2026-02-30T00:00:00Z\"", "[]", "true"] {
            assert!(read(&format!(r#"{{"at":{wrong}}}"#)).is_err(), "{wrong}");
            assert!(
                read(&format!(r#"{{{time},"then":{wrong}}}"#)).is_err(),
                "{wrong}"
            );
        }
        assert!(read(r#"{"at":null}"#).is_err());
        let why = read(r#"{"at":3}"#).unwrap_err().to_string();
        assert!(
            why.starts_with("invalid type: integer `3`, expected an RFC 3339 time"),
            "{why}"
        );
    }
}
