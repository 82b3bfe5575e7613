//! Levels of a load: numbers from nothing to very much.

use std::fmt;

use crate::table::{Context, Form, Shown, Value};

/// The largest level.
const MOST: f64 = 1e12;

/// The largest level that is written back with a fraction.
const WITH_FRACTION: u64 = 1_000_000_000;

/// A number of 0 or more, kept in thousandths, so that it can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u64);

impl Level {
    /// That of a number, if it is one from 0 to 10^12.
    pub fn of(number: f64) -> Option<Self> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is within the range"
        )]
        let thousandths = |number: f64| (number * 1000.0).round() as u64;
        (0.0..=MOST)
            .contains(&number)
            .then(|| Self(thousandths(number)))
    }

    /// The number.
    #[expect(clippy::cast_precision_loss, reason = "at most 10^15, which is exact")]
    pub fn number(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())
    }
}

impl Form for Level {
    fn read(value: &Value<'_>, _: &Context) -> Option<Self> {
        let number = value.number()?;
        let level = Self::of(number);
        if level.is_none() {
            value.wrong(
                &format!("{} is out of range", value.name()),
                "write a number of 0 or more, such as 0.8 or 100",
            );
        }
        level
    }

    fn show(level: &Self) -> Option<Shown> {
        let is_whole = level.0.is_multiple_of(1000) || level.0 > WITH_FRACTION;
        Some(if is_whole {
            Shown::Whole(i64::try_from(level.0 / 1000).unwrap_or(i64::MAX))
        } else {
            Shown::Fraction(u32::try_from(level.0).unwrap_or(u32::MAX))
        })
    }

    fn kind() -> String {
        "a number of 0 or more".to_owned()
    }
}

/// A level that is not 0.
pub(super) struct AboveZero;

impl Form<Level> for AboveZero {
    fn read(value: &Value<'_>, context: &Context) -> Option<Level> {
        let level = <Level as Form>::read(value, context)?;
        if level == Level(0) {
            value.wrong(
                &format!("{} must be more than 0", value.name()),
                "write a number such as 0.8 or 100; it is kept in thousandths",
            );
            return None;
        }
        Some(level)
    }

    fn show(level: &Level) -> Option<Shown> {
        <Level as Form>::show(level)
    }

    fn kind() -> String {
        "a number above 0".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_a_load_is_a_level() {
        for (number, level) in [
            (0.0, Some(0)),
            (0.8, Some(800)),
            (0.0004, Some(0)),
            (1e12, Some(1_000_000_000_000_000)),
            (1.1e12, None),
            (-0.1, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
        ] {
            assert_eq!(Level::of(number), level.map(Level), "{number}");
        }
        for (level, shown) in [(800, "0.8"), (100_000, "100"), (1_500, "1.5")] {
            assert_eq!(
                <Level as Form>::show(&Level(level)).unwrap().to_string(),
                shown
            );
            assert_eq!(Level(level).to_string(), shown);
        }
    }
}
