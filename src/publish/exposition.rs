//! The text format of Prometheus, version 0.0.4.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>. node-exporter drops a whole file in which one line is
//! wrong, so lines are made nowhere else.

use std::fmt::{self, Write};

use chrono::{DateTime, Utc};

/// What the samples of a family are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// They only grow, and begin at 0 anew now and then.
    Counter,
    /// They go up and down.
    Gauge,
}

/// The value of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A count.
    Count(u64),
    /// A point in time, or a duration, in milliseconds: written in seconds.
    Millis(i64),
    /// A duration in microseconds: written in seconds.
    Micros(u64),
}

impl From<bool> for Number {
    fn from(is: bool) -> Self {
        Self::Count(u64::from(is))
    }
}

impl From<u32> for Number {
    fn from(count: u32) -> Self {
        Self::Count(count.into())
    }
}

impl From<u64> for Number {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<usize> for Number {
    fn from(count: usize) -> Self {
        Self::Count(u64::try_from(count).unwrap_or(u64::MAX))
    }
}

impl From<DateTime<Utc>> for Number {
    fn from(time: DateTime<Utc>) -> Self {
        Self::Millis(time.timestamp_millis())
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Millis(millis) => {
                let sign = if millis < 0 { "-" } else { "" };
                f.write_str(sign)?;
                seconds(f, millis.unsigned_abs(), 3)
            }
            Self::Micros(micros) => seconds(f, micros, 6),
        }
    }
}

/// Writes a number that has so many digits behind its point.
fn seconds(f: &mut fmt::Formatter<'_>, number: u64, digits: usize) -> fmt::Result {
    let unit = 10_u64.pow(u32::try_from(digits).unwrap_or_default());
    write!(f, "{}", number / unit)?;
    match number % unit {
        0 => Ok(()),
        rest => {
            let rest = format!("{rest:0digits$}");
            write!(f, ".{}", rest.trim_end_matches('0'))
        }
    }
}

/// A text that grows by families of samples.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Begins a family. It is written with its first sample: one without samples is not there.
    pub fn family(&mut self, name: &'static str, kind: Type, help: &'static str) -> Family<'_> {
        Family {
            text: &mut self.text,
            name,
            kind,
            help,
            has_samples: false,
        }
    }

    /// All of it.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// The samples of one name.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
    kind: Type,
    help: &'static str,
    has_samples: bool,
}

impl Family<'_> {
    /// Adds a sample. No two of a family have the same labels.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<Number>) {
        if !std::mem::replace(&mut self.has_samples, true) {
            let kind = match self.kind {
                Type::Counter => "counter",
                Type::Gauge => "gauge",
            };
            let (name, help) = (self.name, self.help);
            self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        }
        self.text.push_str(self.name);
        for (number, (name, value)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            self.push(format_args!("{before}{name}=\"{}\"", Escaped(value)));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        self.push(format_args!(" {}\n", value.into()));
    }

    fn push(&mut self, arguments: fmt::Arguments<'_>) {
        // a text takes all that is written to it
        let _ = self.text.write_fmt(arguments);
    }
}

/// The value of a label, as the format has it.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                // node-exporter takes a carriage return for the end of a line
                '\r' => f.write_char(char::REPLACEMENT_CHARACTER)?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_family_has_its_heading_once_and_only_with_a_sample() {
        let mut text = Exposition::default();
        text.family("a_nothing", Type::Gauge, "None.");
        let mut family = text.family("a_total", Type::Counter, "All.");
        family.sample(&[("x", "1"), ("y", "a\"b\\c\nd")], 3_u64);
        family.sample(&[], 4_u64);
        assert_eq!(
            text.into_text(),
            "# HELP a_total All.\n# TYPE a_total counter\na_total{x=\"1\",y=\"a\\\"b\\\\c\\nd\"} 3\na_total 4\n"
        );
    }

    #[test]
    fn times_are_in_seconds() {
        for (millis, text) in [
            (0, "0"),
            (1, "0.001"),
            (1500, "1.5"),
            (-20, "-0.02"),
            (1_771_234_567_089, "1771234567.089"),
            (i64::MIN, "-9223372036854775.808"),
        ] {
            assert_eq!(Number::Millis(millis).to_string(), text);
        }
    }

    proptest! {
        /// Whatever a label holds, it is one line, and what it held can be read back.
        #[test]
        fn a_label_of_any_text_is_within_its_quotes(value in any::<String>()) {
            let mut text = Exposition::default();
            text.family("a", Type::Gauge, "A.").sample(&[("x", &value)], 1_u64);
            let text = text.into_text();
            let line = text.lines().nth(2).unwrap();
            prop_assert_eq!(text.lines().count(), 3);
            let quoted = line.strip_prefix("a{x=\"").unwrap().strip_suffix("\"} 1").unwrap();
            let mut read = String::new();
            let mut chars = quoted.chars();
            while let Some(c) = chars.next() {
                prop_assert_ne!(c, '"');
                read.push(match c {
                    '\\' => match chars.next().unwrap() { 'n' => '\n', other => other },
                    c => c,
                });
            }
            prop_assert_eq!(read, value.replace('\r', "\u{fffd}"));
        }
    }
}
