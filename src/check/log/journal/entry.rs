//! One message, as `journalctl --output=json` prints it, and which of two came first.

use serde::Deserialize;
use serde_json::Value;

use super::super::{JournalPosition, tail, terminal};

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) cursor: String,
    /// When it was logged, in microseconds since 1970.
    pub(super) time: i64,
    /// The run of the unit that it is of, where it says so.
    pub(super) invocation: Option<String>,
    /// What was logged; it may have several lines, or none where it cannot be shown.
    pub(super) text: Vec<u8>,
}

#[derive(Deserialize)]
struct Printed {
    #[serde(rename = "__CURSOR")]
    cursor: String,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    time: String,
    #[serde(rename = "_SYSTEMD_INVOCATION_ID", default)]
    invocation: Value,
    #[serde(rename = "MESSAGE", default)]
    message: Value,
}

impl Entry {
    /// Reads a line of output; `None` where it is no message.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let printed: Printed = serde_json::from_slice(line).ok()?;
        Some(Self {
            time: printed.time.parse().ok()?,
            cursor: printed.cursor,
            invocation: printed.invocation.as_str().map(str::to_owned),
            text: bytes_of(&printed.message),
        })
    }

    /// Its lines, as patterns see them, and whether there was more of one than is searched.
    pub(super) fn lines(&self) -> Vec<(Vec<u8>, bool)> {
        let text = self.text.strip_suffix(b"\n").unwrap_or(&self.text);
        if text.is_empty() {
            return Vec::new();
        }
        let lines = text.split(|&byte| byte == b'\n');
        lines
            .map(|line| {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let plain = terminal::without_sequences(line);
                (tail::clean(&plain).to_vec(), plain.len() > tail::LINE)
            })
            .collect()
    }

    /// Whether it came after all that was judged.
    pub(super) fn is_after(&self, known: &JournalPosition) -> bool {
        if self.time <= known.until {
            return false;
        }
        let Some(cursor) = &known.cursor else {
            return true;
        };
        let (Some(own), Some(other)) = (Place::of(&self.cursor), Place::of(cursor)) else {
            return self.cursor != *cursor;
        };
        own.is_after(&other)
    }
}

/// The bytes of a field. One that is no text is a list of numbers; one that is there several times a list of those.
fn bytes_of(field: &Value) -> Vec<u8> {
    let byte = |value: &Value| value.as_u64().and_then(|number| u8::try_from(number).ok());
    match field {
        Value::String(text) => text.clone().into_bytes(),
        Value::Array(all) if all.iter().all(Value::is_u64) => all.iter().filter_map(byte).collect(),
        Value::Array(several) => {
            let fields: Vec<Vec<u8>> = several.iter().map(bytes_of).collect();
            fields.join(&b'\n')
        }
        _ => Vec::new(),
    }
}

/// When the message of a cursor was logged, in microseconds since 1970.
pub(super) fn time_of(cursor: &str) -> Option<i64> {
    i64::try_from(Place::of(cursor)?.time).ok()
}

/// What a cursor says (systemd.journal-fields(7) and sd_journal_get_cursor(3) call it opaque; its parts have been the
/// same since the first version).
struct Place<'a> {
    /// Which sequence of numbers, and the number in it.
    sequence: (&'a str, u64),
    /// Which boot, and when in it.
    boot: (&'a str, u64),
    /// When, by the wall clock.
    time: u64,
}

impl<'a> Place<'a> {
    fn of(cursor: &'a str) -> Option<Self> {
        let part = |name: &str| {
            cursor
                .split(';')
                .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        };
        let number = |name: &str| u64::from_str_radix(part(name)?, 16).ok();
        Some(Self {
            sequence: (part("s")?, number("i")?),
            boot: (part("b")?, number("m")?),
            time: number("t")?,
        })
    }

    /// Whether it stands behind another one: by the order that journalctl itself has.
    fn is_after(&self, other: &Self) -> bool {
        if self.sequence.0 == other.sequence.0 {
            self.sequence.1 > other.sequence.1
        } else if self.boot.0 == other.boot.0 {
            self.boot.1 > other.boot.1
        } else {
            self.time > other.time
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(sequence: &str, number: u64, boot: &str, since: u64, time: u64) -> String {
        format!("s={sequence};i={number:x};b={boot};m={since:x};t={time:x};x=1")
    }

    #[test]
    fn a_message_is_read_whatever_it_is() {
        let printed = |message: &str| {
            let line = format!(
                r#"{{"__CURSOR":"s=a;i=1;b=b;m=1;t=1;x=1","__REALTIME_TIMESTAMP":"7","_SYSTEMD_INVOCATION_ID":"f0"{message}}}"#
            );
            Entry::parse(line.as_bytes()).unwrap()
        };
        for (message, lines) in [
            (r#","MESSAGE":"one""#, &["one"][..]),
            (
                r#","MESSAGE":"one\ntwo\r\n\nthree\n""#,
                &["one", "two", "", "three"],
            ),
            (r#","MESSAGE":[104,105,10,255]"#, &["hi", "\u{fffd}"]),
            (r#","MESSAGE":["a",[98]]"#, &["a", "b"]),
            (r#","MESSAGE":"\u001b[31mred\u001b[0m""#, &["red"]),
            (r#","MESSAGE":null"#, &[]),
            (r#","MESSAGE":"""#, &[]),
            ("", &[]),
        ] {
            let entry = printed(message);
            assert_eq!((entry.time, entry.invocation.as_deref()), (7, Some("f0")));
            let found: Vec<String> = (entry.lines().iter())
                .map(|(line, _)| String::from_utf8_lossy(line).into_owned())
                .collect();
            assert_eq!(found, lines, "{message}");
        }
        let long = printed(&format!(r#","MESSAGE":"{}""#, "x".repeat(100_000)));
        assert_eq!(long.lines()[0].0.len(), tail::LINE);
        assert!(long.lines()[0].1);
        for line in ["", "-- No entries --", "{}", "[]", r#"{"__CURSOR":"a"}"#] {
            assert_eq!(Entry::parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn what_came_later_is_known_by_number_boot_or_clock() {
        let last = cursor("s", 10, "b", 100, 1000);
        for (entry, is_after) in [
            (cursor("s", 10, "b", 100, 1000), false),
            (cursor("s", 11, "b", 100, 1000), true),
            // a clock that was set back
            (cursor("s", 11, "b", 101, 5), true),
            (cursor("s", 9, "b", 99, 2000), false),
            // another file, that began to count anew
            (cursor("z", 1, "b", 101, 5), true),
            (cursor("z", 99, "b", 99, 2000), false),
            (cursor("z", 1, "c", 1, 1001), true),
            (cursor("z", 1, "c", 1, 999), false),
            ("odd".to_owned(), true),
        ] {
            let entry = Entry {
                cursor: entry,
                time: 1000,
                invocation: None,
                text: Vec::new(),
            };
            let known = |until| JournalPosition {
                cursor: Some(last.clone()),
                until,
                silent_since: None,
            };
            assert_eq!(entry.is_after(&known(0)), is_after, "{}", entry.cursor);
            assert!(!entry.is_after(&known(1000)));
        }
    }
}
