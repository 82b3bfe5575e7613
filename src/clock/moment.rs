//! Moments that stay right when the wall clock is set.
//!
//! What a check remembers is looked into by nobody else, so its times cannot be moved by somebody when the clock is set.
//! Each is kept by two clocks: the wall clock, and the boot clock with the boot that it counts from. Within that boot the
//! boot clock says how long ago it was, whatever was done to the wall clock since; after it, the wall clock is all there is.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Reading, UNREAD, times};

/// The clocks are not read at one instant: what is less is no setting of a clock.
pub const SETTING: TimeDelta = TimeDelta::seconds(1);

/// So much of a boot id is kept: it tells one boot of a machine from another.
const TAG: usize = 8;

/// A time that is kept from run to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By the wall clock of then.
    wall: DateTime<Utc>,
    /// By the boot clock, in milliseconds, negative where it was before the boot; absent where the boot was not known.
    boot: Option<(Tag, i64)>,
}

/// The beginning of a boot id.
type Tag = [u8; TAG];

fn tag(boot_id: &str) -> Option<Tag> {
    let mut tag = [0; TAG];
    let letters = boot_id.bytes().filter(u8::is_ascii_alphanumeric);
    for (place, letter) in tag.iter_mut().zip(letters) {
        *place = letter;
    }
    (boot_id != UNREAD && tag != [0; TAG]).then_some(tag)
}

impl Moment {
    /// The moment that the wall clock of `now` calls `wall`; what lies ahead is now.
    pub fn new(wall: DateTime<Utc>, now: &Reading) -> Self {
        let wall = wall.min(now.wall);
        let before = (now.wall - wall).num_milliseconds();
        let boot_ms = i64::try_from(now.boot_ms)
            .ok()
            .and_then(|boot_ms| boot_ms.checked_sub(before));
        Self {
            wall,
            boot: tag(&now.boot_id).zip(boot_ms),
        }
    }

    /// What the wall clock of `now` calls it, no later than now.
    pub fn at(&self, now: &Reading) -> DateTime<Utc> {
        let by_wall = self.wall.min(now.wall);
        match self.passed(now) {
            Some(passed) if self.was_set(passed, now) => {
                now.wall.checked_sub_signed(passed).unwrap_or(by_wall)
            }
            _ => by_wall,
        }
    }

    /// The same moment by the clocks of `now`, for the next boot, or the next setting of the clock, to go on from. It is
    /// not changed where nothing happened to the clocks.
    #[must_use]
    pub fn renewed(self, now: &Reading) -> Self {
        match self.passed(now) {
            Some(passed) if !self.was_set(passed, now) && self.wall <= now.wall => self,
            _ => Self::new(self.at(now), now),
        }
    }

    /// As the wall clock of then called it.
    pub fn wall(&self) -> DateTime<Utc> {
        self.wall
    }

    /// Another moment, by the wall clock of then.
    #[must_use]
    pub fn with_wall(self, wall: DateTime<Utc>) -> Self {
        let later = (wall - self.wall).num_milliseconds();
        let boot = |(tag, boot_ms): (Tag, i64)| Some((tag, boot_ms.checked_add(later)?));
        Self {
            wall,
            boot: self.boot.and_then(boot),
        }
    }

    /// The time that passed since, by the boot clock. Absent where another boot counted it, or where the boot clock went
    /// back, as in a state that somebody has edited.
    fn passed(&self, now: &Reading) -> Option<TimeDelta> {
        let (boot, boot_ms) = self.boot?;
        let passed = i64::try_from(now.boot_ms).ok()?.checked_sub(boot_ms)?;
        let is_same = tag(&now.boot_id) == Some(boot);
        TimeDelta::try_milliseconds(passed).filter(|_| is_same && passed >= 0)
    }

    /// Whether the wall clock was set in this time.
    fn was_set(&self, passed: TimeDelta, now: &Reading) -> bool {
        let by_wall = now.wall - self.wall;
        by_wall
            .checked_sub(&passed)
            .is_none_or(|moved| moved.abs() >= SETTING)
    }
}

/// One that only the wall clock knows, as older states have them.
impl From<DateTime<Utc>> for Moment {
    fn from(wall: DateTime<Utc>) -> Self {
        Self { wall, boot: None }
    }
}

/// `2026-11-22T12:00:00Z 1234567@5f3a9c21`: the wall clock, the boot clock in milliseconds, the boot.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        times::write(self.wall, f)?;
        match &self.boot {
            Some((tag, boot_ms)) => {
                let tag = String::from_utf8_lossy(tag);
                write!(f, " {boot_ms}@{}", tag.trim_end_matches('\0'))
            }
            None => Ok(()),
        }
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = Moment;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time, and that of the boot clock")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Moment, E> {
                let (wall, boot) = match text.split_once(' ') {
                    Some((wall, boot)) => (wall, Some(boot)),
                    None => (text, None),
                };
                let wall = times::read(wall).map_err(E::custom)?;
                let Some(boot) = boot else {
                    return Ok(wall.into());
                };
                let boot = boot
                    .split_once('@')
                    .and_then(|(boot_ms, id)| Some((tag(id)?, boot_ms.parse().ok()?)))
                    .ok_or_else(|| E::custom("not a time of the boot clock"))?;
                Ok(Moment {
                    wall,
                    boot: Some(boot),
                })
            }
        }

        from.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the clocks of a machine show: so many seconds of boot `id`, by a wall clock that is `off` so much.
    fn reading(id: &str, seconds: i64, off: i64) -> Reading {
        let boot_ms = u64::try_from(seconds * 1000).unwrap();
        Reading {
            wall: DateTime::from_timestamp(1_800_000_000 + seconds + off, 0).unwrap(),
            boot_ms,
            awake_ms: boot_ms,
            boot_id: id.into(),
        }
    }

    fn ago(now: &Reading, seconds: i64) -> DateTime<Utc> {
        now.wall - TimeDelta::seconds(seconds)
    }

    proptest! {
        #[test]
        fn however_the_clock_is_set_it_was_as_long_ago_as_it_was(
            before in -100_000i64..100_000,
            steps in prop::collection::vec((0i64..100_000, -1_000_000i64..1_000_000), 1..6),
            renews in any::<bool>(),
        ) {
            let (mut seconds, mut passed) = (200_000, before.max(0));
            let first = reading("a", seconds, 0);
            let mut moment = Moment::new(ago(&first, before), &first);
            for (pause, off) in steps {
                seconds += pause;
                passed += pause;
                let now = reading("a", seconds, off);
                prop_assert_eq!(moment.at(&now), ago(&now, passed));
                if renews {
                    moment = moment.renewed(&now);
                }
            }
        }

        #[test]
        fn across_boots_the_wall_clock_counts_and_nothing_is_later_than_now(
            before in 0i64..100_000, seconds in 0i64..100_000, off in -300_000i64..300_000,
            ids in prop::sample::select(vec![("a", "b"), ("a", ""), ("", "a"), ("", ""), (UNREAD, UNREAD), ("a", UNREAD)]),
        ) {
            let first = reading(ids.0, 200_000, 0);
            let moment = Moment::new(ago(&first, before), &first);
            let now = reading(ids.1, seconds, off);
            let expected = moment.wall().min(now.wall);
            prop_assert_eq!(moment.at(&now), expected);
            // from then on it goes on in the new boot
            let renewed = moment.renewed(&now);
            let set = reading(ids.1, seconds + 60, off + 7200);
            if !ids.1.is_empty() && ids.1 != UNREAD {
                let hence = TimeDelta::seconds(60 + 7200);
                prop_assert_eq!(renewed.at(&set), expected + hence - TimeDelta::seconds(60));
            }
        }

        #[test]
        fn every_moment_reads_back(seconds: i64, boot_ms: u64, id in "[0-9a-f-]{0,36}") {
            let range = DateTime::<Utc>::MIN_UTC.timestamp()..DateTime::<Utc>::MAX_UTC.timestamp();
            let seconds = seconds.rem_euclid(range.end - range.start) + range.start;
            let now = Reading { boot_ms, boot_id: id.into(), ..reading("", 0, 0) };
            let moment = Moment::new(DateTime::from_timestamp(seconds, 5).unwrap(), &now);
            let text = serde_json::to_string(&moment).unwrap();
            prop_assert_eq!(serde_json::from_str::<Moment>(&text).unwrap(), moment);
            // nothing overflows
            moment.at(&reading("a", 5, 5));
            let _ = moment.with_wall(DateTime::<Utc>::MAX_UTC).renewed(&now);
        }
    }

    #[test]
    fn a_moment_is_not_changed_where_nothing_happened_to_the_clocks() {
        let first = reading("a", 1000, 0);
        let moment = Moment::new(first.wall, &first);
        let mut later = reading("a", 1060, 0);
        // the clocks were not read at one instant
        later.boot_ms += 999;
        assert_eq!(moment.renewed(&later), moment);
        assert_eq!(moment.at(&later), first.wall);
        later.boot_ms += 1;
        assert_ne!(moment.renewed(&later), moment);
        assert_eq!(moment.at(&later), ago(&later, 61));
        // a boot clock that went back tells nothing
        assert_eq!(moment.at(&reading("a", 900, 0)), ago(&first, 100));
    }

    #[test]
    fn it_is_written_for_people_too_and_an_older_state_has_the_wall_clock_alone() {
        let now = reading("5f3a9c21-aaaa-bbbb-cccc-0123456789ab", 1234, 0);
        let text = serde_json::to_string(&Moment::new(now.wall, &now)).unwrap();
        assert_eq!(text, r#""2027-01-15T08:20:34Z 1234000@5f3a9c21""#);
        let old = serde_json::from_str::<Moment>(r#""2027-01-15T08:20:34Z""#).unwrap();
        assert_eq!(old, now.wall.into());
        for wrong in [
            "3",
            r#""""#,
            r#""soon""#,
            r#""2027-01-15T08:20:34Z ""#,
            r#""2027-01-15T08:20:34Z 5""#,
            r#""2027-01-15T08:20:34Z x@a""#,
            r#""2027-01-15T08:20:34Z 5@""#,
        ] {
            assert!(serde_json::from_str::<Moment>(wrong).is_err(), "{wrong}");
        }
        let why = |text| {
            let read = serde_json::from_str::<Moment>(text);
            read.unwrap_err().to_string()
        };
        let boot = why(r#""2027-01-15T08:20:34Z x@a""#);
        assert!(boot.starts_with("not a time of the boot clock"), "{boot}");
        let kind = why("3");
        let expected =
            "invalid type: integer `3`, expected an RFC 3339 time, and that of the boot clock";
        assert!(kind.starts_with(expected), "{kind}");
    }

    #[test]
    fn another_moment_by_the_same_clocks_is_as_far_from_it_in_all_of_them() {
        let now = reading("a", 1000, 0);
        let moment = Moment::new(now.wall, &now).with_wall(ago(&now, 30));
        assert_eq!(moment, Moment::new(ago(&now, 30), &now));
        assert_eq!(
            Moment::from(now.wall).with_wall(ago(&now, 30)),
            ago(&now, 30).into()
        );
    }
}
