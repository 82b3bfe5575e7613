//! Factors, such as 1.5.

use std::time::Duration;

use super::{Context, Form, Shown, Value};

/// A number from 1 to 1000, kept in thousandths, so that it can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor(u32);

impl Factor {
    /// It changes nothing.
    pub const ONE: Self = Self(1000);

    /// That of a number, if it is one from 1 to 1000.
    pub fn of(number: f64) -> Option<Self> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is within the range"
        )]
        let thousandths = |number: f64| (number * 1000.0).round() as u32;
        (1.0..=1000.0)
            .contains(&number)
            .then(|| Self(thousandths(number)))
    }

    /// The number.
    pub fn number(self) -> f64 {
        f64::from(self.0) / 1000.0
    }

    /// A time, multiplied by this so many times.
    pub fn raised(self, time: Duration, times: u32) -> Duration {
        let factor = self.number().powi(i32::try_from(times).unwrap_or(i32::MAX));
        Duration::try_from_secs_f64(time.as_secs_f64() * factor).unwrap_or_else(|_| {
            // nothing, many times
            if time.is_zero() {
                Duration::ZERO
            } else {
                Duration::MAX
            }
        })
    }
}

impl Form for Factor {
    fn read(value: &Value<'_>, _: &Context) -> Option<Self> {
        let number = value.number()?;
        let factor = Self::of(number);
        if factor.is_none() {
            value.wrong(
                &format!("{} is out of range", value.name()),
                "write a number from 1 to 1000, such as 2 or 1.5",
            );
        }
        factor
    }

    fn show(factor: &Self) -> Option<Shown> {
        Some(Shown::Fraction(factor.0))
    }

    fn kind() -> String {
        "a number from 1 to 1000".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_within_its_range_is_a_factor() {
        for (number, factor) in [
            (1.0, Some(1000)),
            (1.5, Some(1500)),
            (1000.0, Some(1_000_000)),
            (0.999, None),
            (1000.1, None),
            (-2.0, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
        ] {
            assert_eq!(Factor::of(number), factor.map(Factor), "{number}");
        }
    }

    #[test]
    fn a_time_is_raised_without_an_end_of_the_world() {
        let second = Duration::from_secs(1);
        let factor = |number| Factor::of(number).unwrap();
        assert_eq!(factor(2.0).raised(second, 10), second * 1024);
        assert_eq!(factor(1.0).raised(second, u32::MAX), second);
        assert_eq!(factor(1000.0).raised(second, u32::MAX), Duration::MAX);
        assert_eq!(
            factor(1000.0).raised(Duration::ZERO, u32::MAX),
            Duration::ZERO
        );
    }
}
