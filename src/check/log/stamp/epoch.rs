//! Stamps that are numbers: so much time since a moment.

use chrono::{DateTime, Utc};

/// The digits at the beginning, and what follows.
fn digits(text: &str) -> (&str, &str) {
    let length = text.find(|c: char| !c.is_ascii_digit());
    text.split_at(length.unwrap_or(text.len()))
}

/// Seconds, perhaps with a fraction. More digits are of a smaller unit.
pub(super) fn unix(text: &str) -> Option<DateTime<Utc>> {
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
pub(super) fn unix_ms(text: &str) -> Option<DateTime<Utc>> {
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
pub(super) fn tai64n(text: &str) -> Option<DateTime<Utc>> {
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
