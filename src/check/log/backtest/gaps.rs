//! The gaps between the stamps of a log, and the `max_age` that follows from them.
//!
//! Memory is bounded whatever the length of the log: equal gaps are counted, and above some seconds those that differ by less
//! than half a part in a thousand are as well, under the longest of them.

use std::collections::BTreeMap;
use std::time::Duration;

/// A minute in milliseconds.
pub(super) const MINUTE: i64 = 60_000;

/// So many bits of a gap in milliseconds tell it from others.
const EXACT: u32 = 12;

/// So many periods are kept for a drawing; where there are more, they are made longer.
const PERIODS: usize = 4096;

/// How long the periods of a drawing may be, in minutes: each a multiple of the one before.
const LENGTHS: [i64; 10] = [1, 5, 15, 60, 180, 360, 720, 1440, 10_080, 40_320];

/// A gap: when it began, and how long it was, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// The stamp before it, in milliseconds since 1970.
    pub from: i64,
    /// How long it was.
    pub length: i64,
}

/// All gaps of a log.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    /// How often, and the longest, by what tells them apart.
    counts: BTreeMap<(u32, i64), (u64, i64)>,
    /// How many.
    pub count: u64,
    /// The longest, the first of them.
    pub longest: Option<Gap>,
    /// The longest gap that began in a period, by its number.
    periods: BTreeMap<i64, i64>,
    /// Which of `LENGTHS` they have.
    length: usize,
}

impl Gaps {
    /// Counts a gap.
    pub(super) fn add(&mut self, gap: Gap) {
        let shift = (i64::BITS - gap.length.leading_zeros()).saturating_sub(EXACT);
        let (count, longest) = (self.counts)
            .entry((shift, gap.length >> shift))
            .or_default();
        *count += 1;
        *longest = gap.length.max(*longest);
        self.count += 1;
        if self.longest.is_none_or(|known| gap.length > known.length) {
            self.longest = Some(gap);
        }
        let period = gap.from.div_euclid(LENGTHS[self.length] * MINUTE);
        let known = self.periods.entry(period).or_default();
        *known = gap.length.max(*known);
        if self.periods.len() > PERIODS && self.length + 1 < LENGTHS.len() {
            self.lengthen();
        }
    }

    fn lengthen(&mut self) {
        let factor = LENGTHS[self.length + 1] / LENGTHS[self.length];
        self.length += 1;
        for (period, longest) in std::mem::take(&mut self.periods) {
            let known = self.periods.entry(period.div_euclid(factor)).or_default();
            *known = longest.max(*known);
        }
    }

    /// Gaps that begin at times and last so long, in milliseconds.
    #[cfg(test)]
    pub(crate) fn of(all: &[(i64, i64)]) -> Self {
        let mut gaps = Self::default();
        for (from, length) in all {
            gaps.add(Gap {
                from: *from,
                length: *length,
            });
        }
        gaps
    }

    /// The shortest gap that so many of a hundred are no longer than; none where there are no gaps.
    pub fn percentile(&self, of_hundred: u64) -> Option<Duration> {
        let rank = (u128::from(self.count) * u128::from(of_hundred)).div_ceil(100);
        let mut sum = 0;
        for (count, longest) in self.counts.values() {
            sum += u128::from(*count);
            if sum >= rank {
                return Some(millis(*longest));
            }
        }
        None
    }

    /// The longest gap of each period, in no more than so many periods: how long these are, and each with when it begins, in
    /// milliseconds since 1970; none where no gap began in it.
    pub fn over_time(&self, periods: usize) -> (Duration, Vec<(i64, Option<Duration>)>) {
        let mut shown = self.clone();
        let span = |gaps: &Self| -> i64 {
            let ends = (gaps.periods.keys().next()).zip(gaps.periods.keys().next_back());
            ends.map_or(0, |(first, last)| last - first + 1)
        };
        while usize::try_from(span(&shown)).is_ok_and(|span| span > periods)
            && shown.length + 1 < LENGTHS.len()
        {
            shown.lengthen();
        }
        let length = LENGTHS[shown.length] * MINUTE;
        let Some((first, _)) = shown.periods.first_key_value() else {
            return (millis(length), Vec::new());
        };
        let all = (*first..*first + span(&shown)).take(periods.max(1));
        let all = all.map(|period| {
            let longest = shown.periods.get(&period).map(|longest| millis(*longest));
            (period * length, longest)
        });
        (millis(length), all.collect())
    }
}

/// Milliseconds as a duration; none are less than zero.
pub(super) fn millis(count: i64) -> Duration {
    Duration::from_millis(u64::try_from(count).unwrap_or_default())
}

/// The limits that are proposed, in minutes; after the last, whole days.
const LIMITS: [u64; 19] = [
    2, 3, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 360, 480, 720, 1080, 1440, 2880,
];

/// The `max_age` that a log with such a longest gap suggests: half as much again, and a minute more at least, rounded up to
/// what a person would write.
pub fn propose(longest: Duration) -> Duration {
    let wanted = (longest + longest / 2).max(longest + Duration::from_mins(1));
    let minutes = wanted.as_millis().div_ceil(60_000);
    let minutes = u64::try_from(minutes).unwrap_or(u64::MAX / 120);
    let limit = LIMITS.into_iter().find(|limit| *limit >= minutes);
    let limit = limit.unwrap_or_else(|| minutes.div_ceil(1440) * 1440);
    Duration::from_secs(limit * 60)
}

/// How many runs, one a minute, are made after the last line until one finds that the log is older than `max_age`.
pub fn runs_to_find(max_age: Duration) -> u64 {
    // the first run may come at once, and what is just as old as the limit is not too old
    u64::try_from(max_age.as_millis().div_ceil(60_000)).unwrap_or(u64::MAX - 1) + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gaps(lengths: impl IntoIterator<Item = i64>) -> Gaps {
        let mut gaps = Gaps::default();
        let mut from = 0;
        for length in lengths {
            gaps.add(Gap { from, length });
            from += length;
        }
        gaps
    }

    #[test]
    fn percentiles_are_gaps_that_there_were() {
        let seconds = |count| Some(Duration::from_secs(count));
        let even = gaps((1..=100).map(|n| n * 1000));
        assert_eq!(even.percentile(50), seconds(50));
        assert_eq!(even.percentile(99), seconds(99));
        assert_eq!(even.percentile(100), seconds(100));
        let one = gaps([60_000]);
        assert_eq!(
            (one.percentile(50), one.percentile(99)),
            (seconds(60), seconds(60))
        );
        let zeros = gaps([0, 0, 0, 3_600_000]);
        assert_eq!(zeros.percentile(50), seconds(0));
        assert_eq!(zeros.percentile(99), seconds(3600));
        assert_eq!(
            zeros.longest,
            Some(Gap {
                from: 0,
                length: 3_600_000
            })
        );
        assert_eq!(gaps([]).percentile(50), None);
    }

    #[test]
    fn limits_are_rounded_up_with_a_margin() {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        for (seconds, limit) in [
            (0, 2),
            (1, 2),
            (60, 2),
            (61, 3),
            (120, 3),
            (121, 5),
            (200, 5),
            (201, 10),
            (2400, 60),
            (86_400, 2880),
            (10 * 86_400, 15 * 1440),
        ] {
            let proposed = propose(Duration::from_secs(seconds));
            assert_eq!(proposed, minutes(limit), "{seconds}");
        }
        assert_eq!(runs_to_find(minutes(5)), 6);
        assert_eq!(runs_to_find(Duration::from_secs(90)), 3);
    }

    #[test]
    fn periods_grow_with_the_log() {
        let hourly = gaps((0..48).map(|_| 3_600_000));
        let (length, shown) = hourly.over_time(60);
        assert_eq!((length, shown.len()), (Duration::from_hours(1), 48));
        let (length, shown) = hourly.over_time(10);
        assert_eq!((length, shown.len()), (Duration::from_hours(6), 8));
        let mut holes = gaps([1000, 1000]);
        holes.add(Gap {
            from: 600_000,
            length: 5000,
        });
        let (length, shown) = holes.over_time(60);
        assert_eq!((length, shown.len()), (Duration::from_mins(1), 11));
        assert_eq!(shown[1], (60_000, None));
        assert_eq!(shown[10], (600_000, Some(Duration::from_secs(5))));
        assert!(gaps([]).over_time(60).1.is_empty());
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_percentiles_are_near(
            lengths in prop::collection::vec(0_i64..100_000_000, 1..300),
            of_hundred in 1_u64..=100,
        ) {
            let all = gaps(lengths.iter().copied());
            let mut sorted = lengths.clone();
            sorted.sort_unstable();
            let rank = (sorted.len() as u64 * of_hundred).div_ceil(100);
            let exact = sorted[usize::try_from(rank).unwrap() - 1];
            let told = i64::try_from(all.percentile(of_hundred).unwrap().as_millis()).unwrap();
            prop_assert!(told >= exact && told - exact <= exact / 2000, "{told} {exact}");
            let (_, shown) = all.over_time(24);
            prop_assert!(shown.len() <= 24);
            let longest = shown.iter().filter_map(|(_, longest)| *longest).max();
            prop_assert_eq!(longest, all.percentile(100));
        }
    }
}
