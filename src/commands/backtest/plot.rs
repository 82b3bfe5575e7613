//! The gaps of a log over time, drawn as text.

use std::env;
use std::time::Duration;

use chrono::DateTime;

use crate::check::log::backtest::Gaps;
use crate::clock::{rough, stamp};
use crate::report::page::Page;

/// So many rows at most.
const ROWS: usize = 48;

/// The columns of a row beside its bar: indentation, time, length, mark.
const BESIDE: usize = 4 + 20 + 2 + 2 + 7 + 3;

/// What bars are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocks {
    /// Blocks, down to an eighth of a column.
    Eighths,
    /// ASCII.
    Hashes,
}

impl Blocks {
    /// What the terminal can show, as far as the locale says.
    pub(super) fn of_locale() -> Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .filter_map(|name| env::var(name).ok())
            .find(|value| !value.is_empty())
            .unwrap_or_default()
            .to_uppercase();
        if locale.contains("UTF-8") || locale.contains("UTF8") {
            Self::Eighths
        } else {
            Self::Hashes
        }
    }

    /// A bar of so many eighths of a column.
    fn bar(self, eighths: usize) -> String {
        const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        match self {
            Self::Eighths => format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8]),
            Self::Hashes => "#".repeat(eighths.div_ceil(8)),
        }
    }
}

/// Adds the longest gap of each period as a bar.
pub(super) fn add(
    page: &mut Page,
    gaps: &Gaps,
    limit: Option<Duration>,
    width: usize,
    blocks: Blocks,
) {
    let (length, periods) = gaps.over_time(ROWS);
    let longest = gaps.percentile(100).unwrap_or_default();
    if periods.is_empty() {
        return;
    }
    let over = limit.map_or(String::new(), |limit| {
        format!(", `!`: longer than max_age = {}", rough(limit))
    });
    page.line(
        4,
        &format!(
            "the longest gap that begins in each {}; the bars are logarithmic{over}",
            rough(length)
        ),
    );
    let columns = width.saturating_sub(BESIDE).max(4);
    for (from, gap) in periods {
        let time = DateTime::from_timestamp_millis(from)
            .map(stamp)
            .unwrap_or_default();
        let row = gap.map_or_else(String::new, |gap| {
            let bar = blocks.bar(eighths(gap, longest, columns));
            let mark = if limit.is_some_and(|limit| gap > limit) {
                " !"
            } else {
                ""
            };
            format!("{bar} {}{mark}", rough(gap))
        });
        page.line(4, &format!("{time}  {row}"));
    }
}

/// How long a bar is: in proportion to the logarithm of the gap.
fn eighths(gap: Duration, longest: Duration, columns: usize) -> usize {
    let (size, most) = (logarithm(gap), logarithm(longest));
    if most == 0 {
        return 0;
    }
    let all = columns * 8;
    let share = ((all as u64).saturating_mul(size) + most / 2) / most;
    usize::try_from(share).unwrap_or(all).min(all)
}

/// The logarithm of whole seconds and one to base 2, in 256ths; straight between powers of two, which is near enough for
/// a bar. That of the C library would have every run of the program load it.
fn logarithm(gap: Duration) -> u64 {
    let number = gap.as_secs().saturating_add(1);
    let power = number.ilog2();
    let above = (u128::from(number - (1 << power)) * 256) >> power;
    u64::from(power) * 256 + u64::try_from(above).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::page::{Paint, columns};

    #[test]
    fn bars_are_as_long_as_the_gaps_in_any_width() {
        let second = Duration::from_secs(1);
        assert_eq!(eighths(Duration::ZERO, second, 10), 0);
        assert_eq!(eighths(second, second, 10), 80);
        let half = eighths(Duration::from_secs(9), Duration::from_secs(99), 10);
        assert_eq!(half, 40);
        assert_eq!(eighths(Duration::ZERO, Duration::ZERO, 10), 0);
        assert_eq!(Blocks::Eighths.bar(17), "██▏");
        assert_eq!(Blocks::Hashes.bar(17), "###");
        for width in [40, 80, 200] {
            let style = crate::report::page::Style {
                paint: Paint::Plain,
                width,
            };
            for blocks in [Blocks::Eighths, Blocks::Hashes] {
                let mut page = Page::new(style);
                let gaps = Gaps::of(&[(0, 60_000), (60_000, 3_600_000), (3_660_000, 500)]);
                add(
                    &mut page,
                    &gaps,
                    Some(Duration::from_mins(5)),
                    width,
                    blocks,
                );
                let text = page.into_text();
                assert!(text.contains("1h !\n"), "{text}");
                let rows: Vec<&str> = text.lines().filter(|row| row.contains("Z ")).collect();
                assert!(
                    rows.iter().all(|row| columns(row) <= width.max(44)),
                    "{text}"
                );
                assert_eq!(text.is_ascii(), blocks == Blocks::Hashes);
            }
        }
    }
}
