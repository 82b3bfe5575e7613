//! Sizes and shares as a config writes them: `"512 MB"`, `"1.5 GiB"`, `"90%"`.
//!
//! They are kept as they were written, in thousandths of their unit, so that `show-config` prints what a person wrote and
//! nothing is rounded on the way.

use std::fmt;

/// The most decimals that a number has.
const DECIMALS: usize = 3;

/// Thousandths in a whole.
const WHOLE: u64 = 1000;

/// More than any machine has, and far below where products with a share overflow.
const MOST_BYTES: u128 = 1 << 60;

/// A unit of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unit {
    name: &'static str,
    bytes: u64,
}

/// The units that there are, those of 1000 before those of 1024.
const UNITS: [Unit; 9] = [
    unit("B", 1),
    unit("kB", 1000),
    unit("MB", 1_000_000),
    unit("GB", 1_000_000_000),
    unit("TB", 1_000_000_000_000),
    unit("KiB", 1 << 10),
    unit("MiB", 1 << 20),
    unit("GiB", 1 << 30),
    unit("TiB", 1 << 40),
];

const fn unit(name: &'static str, bytes: u64) -> Unit {
    Unit { name, bytes }
}

/// A size in bytes: above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// In thousandths of the unit.
    count: u64,
    unit: Unit,
}

impl Size {
    /// Reads `512 MB`. The error says what is wrong, and what it takes.
    pub fn parse(text: &str) -> Result<Self, String> {
        const HELP: &str = "write it like \"512 MB\" or \"1.5 GiB\" (units: B, kB, MB, GB, TB of 1000, and KiB, MiB, GiB, TiB of 1024)";
        let (number, rest) = split(text);
        let count = match thousandths(number) {
            Ok(count) => count,
            Err(why) => return Err(format!("{why}; {HELP}")),
        };
        let known = UNITS
            .into_iter()
            .find(|unit| unit.name.eq_ignore_ascii_case(rest));
        let Some(unit) = known else {
            let prefix = rest.to_ascii_uppercase();
            return Err(match (rest, prefix.as_str()) {
                ("", _) => format!("there is no unit behind {number}; {HELP}"),
                ("%", _) => format!("a share is no size; {HELP}"),
                (_, "K" | "M" | "G" | "T") => {
                    let small = if prefix == "K" { "k" } else { &prefix };
                    format!(
                        "`{rest}` is 1000 to some and 1024 to others; write {small}B or {prefix}iB"
                    )
                }
                _ => format!("unknown unit in a size; {HELP}"),
            });
        };
        if u128::from(count) * u128::from(unit.bytes) / u128::from(WHOLE) > MOST_BYTES {
            return Err(format!("this is more than any machine has; {HELP}"));
        }
        let size = Self { count, unit };
        if size.bytes() == 0 {
            return Err(format!("a size is at least 1 B; {HELP}"));
        }
        Ok(size)
    }

    /// How many bytes it is.
    pub fn bytes(self) -> u64 {
        let bytes = u128::from(self.count) * u128::from(self.unit.bytes) / u128::from(WHOLE);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", decimal(self.count), self.unit.name)
    }
}

/// A share of something in percent: above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u64);

impl Share {
    /// A share of so many percent.
    pub const fn percent(percent: u64) -> Self {
        Self(percent * WHOLE)
    }

    /// Reads `90%`, of `most` at the most. The error says what is wrong, and what it takes.
    pub fn parse(text: &str, most: u64) -> Result<Self, String> {
        const HELP: &str = "write it like \"90%\"";
        let (number, rest) = split(text);
        match thousandths(number) {
            Err(why) => Err(format!("{why}; {HELP}")),
            Ok(_) if rest.is_empty() => Err(format!(
                "there is no `%` behind {number}; write \"{number}%\""
            )),
            Ok(_) if rest != "%" => Err(format!("this is not a share in percent; {HELP}")),
            Ok(0) => Err(format!("a share is more than 0%; {HELP}")),
            Ok(share) if share > most * WHOLE => {
                Err(format!("{number}% is more than {most}%; {HELP}"))
            }
            Ok(share) => Ok(Self(share)),
        }
    }

    /// So much of a whole, rounded down.
    pub fn of(self, whole: u64) -> u64 {
        let part = u128::from(whole) * u128::from(self.0) / u128::from(100 * WHOLE);
        u64::try_from(part).unwrap_or(u64::MAX)
    }

    /// Whether `part` of `whole` is more than this.
    pub fn is_below(self, part: u64, whole: u64) -> bool {
        u128::from(part) * u128::from(100 * WHOLE) > u128::from(whole) * u128::from(self.0)
    }

    /// In thousandths of a percent.
    pub fn thousandths(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", decimal(self.0))
    }
}

/// A size, or a share of what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many bytes.
    Size(Size),
    /// So much of it.
    Share(Share),
}

impl Amount {
    /// Reads either. The error says what is wrong, and what it takes.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim_end().ends_with('%') {
            return Share::parse(text, 100).map(Self::Share);
        }
        Size::parse(text).map(Self::Size)
    }

    /// How many bytes it is of so many.
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Self::Size(size) => size.bytes(),
            Self::Share(share) => share.of(whole),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(size) => size.fmt(f),
            Self::Share(share) => share.fmt(f),
        }
    }
}

/// A count, or a share of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// So many.
    Number(u64),
    /// So much of the limit.
    Share(Share),
}

impl Count {
    /// How many that is of so many.
    pub fn of(self, limit: u64) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Share(share) => share.of(limit),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Share(share) => share.fmt(f),
        }
    }
}

/// The number that a text begins with, and what is behind it.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| c.is_alphabetic() || c == '%')
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    (number.trim(), rest.trim())
}

/// A number in thousandths.
fn thousandths(number: &str) -> Result<u64, &'static str> {
    if number.is_empty() {
        return Err("this does not begin with a number");
    }
    if number.starts_with('-') {
        return Err("this is less than nothing");
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_number =
        |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return Err("this is not a number");
    }
    if fraction.len() > DECIMALS {
        return Err("a number has three decimals at most");
    }
    let fraction = format!("{fraction:0<DECIMALS$}");
    let (whole, fraction) = (whole.parse::<u64>(), fraction.parse::<u64>());
    let count = whole
        .ok()
        .zip(fraction.ok())
        .and_then(|(whole, fraction)| whole.checked_mul(WHOLE)?.checked_add(fraction));
    count.ok_or("this number is too large")
}

/// A number of thousandths, without zeros at its end.
fn decimal(count: u64) -> String {
    let (whole, fraction) = (count / WHOLE, count % WHOLE);
    if fraction == 0 {
        return whole.to_string();
    }
    let fraction = format!("{fraction:03}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

/// A figure for people, to two decimals where it has any: `0.85`, `1700`.
pub fn rounded(figure: f64) -> String {
    if figure.fract() == 0.0 || figure.abs() >= 1000.0 {
        format!("{figure:.0}")
    } else {
        format!("{figure:.2}")
    }
}

/// A number of bytes for a person: three digits, and a unit of 1000.
pub fn rough_bytes(bytes: u64) -> String {
    let unit = UNITS[..5]
        .iter()
        .rev()
        .find(|unit| bytes >= unit.bytes)
        .unwrap_or(&UNITS[0]);
    let (whole, rest) = (bytes / unit.bytes, bytes % unit.bytes);
    let figures = match whole {
        _ if unit.bytes == 1 => whole.to_string(),
        0..10 => format!("{whole}.{:02}", rest * 100 / unit.bytes),
        10..100 => format!("{whole}.{}", rest * 10 / unit.bytes),
        _ => whole.to_string(),
    };
    format!("{figures} {}", unit.name)
}

/// How much `part` is of `whole`, in percent with one decimal, for a person: `93.4%`.
pub fn rough_percent(part: u64, whole: u64) -> String {
    let thousandth = u128::from(part) * 1000 / u128::from(whole.max(1));
    format!("{}.{}%", thousandth / 10, thousandth % 10)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_and_written_back() {
        for (text, bytes, written) in [
            ("512 MB", 512_000_000, "512 MB"),
            ("1536 MB", 1_536_000_000, "1536 MB"),
            ("1.5 GiB", 3 << 29, "1.5 GiB"),
            ("1.50GiB", 3 << 29, "1.5 GiB"),
            (" 5gb ", 5_000_000_000, "5 GB"),
            ("4096", 0, ""),
            ("4096 b", 4096, "4096 B"),
            ("64 kb", 64_000, "64 kB"),
            ("64 KIB", 65_536, "64 KiB"),
            ("0.001 kB", 1, "0.001 kB"),
            ("2TiB", 2 << 40, "2 TiB"),
            ("2 tb", 2_000_000_000_000, "2 TB"),
        ] {
            match Size::parse(text) {
                Ok(size) => assert_eq!((size.bytes(), size.to_string()), (bytes, written.into())),
                Err(why) => assert_eq!(written, "", "{text}: {why}"),
            }
        }
    }

    #[test]
    fn what_is_no_size_is_told() {
        for (text, part) in [
            (
                "",
                "this does not begin with a number; write it like \"512 MB\"",
            ),
            ("MB", "does not begin with a number"),
            ("512", "there is no unit behind 512; write it like"),
            (
                "512 M",
                "`M` is 1000 to some and 1024 to others; write MB or MiB",
            ),
            (
                "512k",
                "`k` is 1000 to some and 1024 to others; write kB or KiB",
            ),
            ("512 MegaBytes", "unknown unit in a size"),
            ("-1 MB", "less than nothing"),
            ("nan", "does not begin with a number"),
            ("inf GB", "does not begin with a number"),
            ("1e3 MB", "unknown unit"),
            ("1,5 GB", "not a number"),
            ("1 000 MB", "not a number"),
            (".5 GB", "not a number"),
            ("1.2345 GB", "three decimals at most"),
            ("90%", "a share is no size"),
            ("0 MB", "a size is at least 1 B"),
            ("0.5 B", "a size is at least 1 B"),
            ("2000000 TB", "more than any machine has"),
            ("99999999999999999999 B", "this number is too large"),
        ] {
            let why = Size::parse(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }

    #[test]
    fn shares_are_read_and_written_back() {
        for (text, most, written) in [
            ("90%", 100, "90%"),
            (" 99.50 % ", 100, "99.5%"),
            ("100%", 100, "100%"),
            ("350%", 1000, "350%"),
        ] {
            assert_eq!(Share::parse(text, most).unwrap().to_string(), written);
        }
        for (text, part) in [
            ("101%", "101% is more than 100%"),
            ("0%", "a share is more than 0%"),
            ("90", "there is no `%` behind 90; write \"90%\""),
            ("-5%", "less than nothing"),
            ("%", "does not begin with a number"),
            ("5 GB", "not a share in percent"),
            ("90%%", "not a share in percent"),
            ("NaN%", "does not begin with a number"),
        ] {
            let why = Share::parse(text, 100).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }

    #[test]
    fn either_is_told_by_its_sign() {
        let of = |text: &str, whole| Amount::parse(text).unwrap().of(whole);
        assert_eq!(of("90%", 200), 180);
        assert_eq!(of("5 kB", 200), 5000);
        assert_eq!(Amount::parse("12.5%").unwrap().to_string(), "12.5%");
        assert_eq!(Count::Share(Share::percent(80)).of(1024), 819);
        assert_eq!(Count::Number(7).of(1024), 7);
        let ninety = Share::percent(90);
        assert!(!ninety.is_below(90, 100) && ninety.is_below(91, 100));
        assert!(ninety.is_below(u64::MAX, u64::MAX) && !ninety.is_below(0, 0));
    }

    #[test]
    fn figures_for_people_are_short() {
        for (bytes, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (12_345, "12.3 kB"),
            (999_999, "999 kB"),
            (1_536_000_000, "1.53 GB"),
            (47_300_000_000, "47.3 GB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(rough_bytes(bytes), shown);
        }
        assert_eq!(rough_percent(934, 1000), "93.4%");
        assert_eq!(rough_percent(0, 0), "0.0%");
        assert_eq!(rough_percent(u64::MAX, 1), format!("{}00.0%", u64::MAX));
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "\\PC{0,20}|[0-9.]{0,25} ?[kKmMgGtT]?[iI]?[bB%]?") {
            if let Ok(amount) = Amount::parse(&text) {
                prop_assert_eq!(Amount::parse(&amount.to_string()), Ok(amount));
            }
            let _ = Share::parse(&text, 1_000_000);
        }

        #[test]
        fn a_share_is_no_more_than_the_whole(percent in 1u64..=100, whole: u64) {
            let share = Share::percent(percent);
            prop_assert!(share.of(whole) <= whole);
            prop_assert!(!share.is_below(share.of(whole), whole));
        }
    }
}
