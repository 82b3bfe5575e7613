//! What time it is, by three clocks, taken once a run.
//!
//! The wall clock can be set, so nothing that must survive is trusted to it alone. The boot clock counts on
//! through sleep and is never set; the awake clock is the boot clock less the time that the machine slept.
//! Within one boot the three together tell a clock that was set from time that passed, and sleep from both.
//! A [`Reading`] is an argument everywhere: no code below asks for the time itself.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::ErrorKind::{NotFound, PermissionDenied};
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Deserializer, Serialize, de};

mod moment;
pub mod times;

pub use moment::{Moment, SETTING};

/// A jump of the wall clock, or a sleep, of more than this between two runs makes log ages unsafe to judge.
pub const JUMP: Duration = Duration::from_secs(10);

/// The boot id that stands for one that could not be read this time, for want of a descriptor or of memory.
pub const UNREAD: &str = "unread";

/// The three clocks at one instant, and the boot that the last two belong to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The wall clock.
    pub wall: DateTime<Utc>,
    /// CLOCK_BOOTTIME in milliseconds: time since boot, sleep included.
    pub boot_ms: u64,
    /// CLOCK_MONOTONIC in milliseconds: time since boot, sleep left out.
    pub awake_ms: u64,
    /// /proc/sys/kernel/random/boot_id: another value, another boot. Empty on a machine that tells none, and
    /// [`UNREAD`] where it could not be read this time.
    #[serde(deserialize_with = "shared")]
    pub boot_id: Arc<str>,
}

impl Reading {
    /// Reads the clocks of this machine.
    pub fn take() -> Self {
        let millis = |id| {
            clock_gettime(id).map_or(0, |t| {
                u64::try_from(Duration::from(t).as_millis()).unwrap_or(u64::MAX)
            })
        };
        Self {
            wall: Utc::now(),
            boot_ms: millis(ClockId::CLOCK_BOOTTIME),
            awake_ms: millis(ClockId::CLOCK_MONOTONIC),
            boot_id: match boot_id() {
                Ok(id) => id.into(),
                Err(error) if matches!(error.kind(), NotFound | PermissionDenied) => "".into(),
                Err(_) => UNREAD.into(),
            },
        }
    }

    /// Whether the boot can be held against a remembered one.
    pub fn knows_boot(&self) -> bool {
        *self.boot_id != *UNREAD
    }

    /// Whether both readings were taken within one boot. Unknown boots are never the same.
    pub fn same_boot(&self, other: &Self) -> bool {
        !self.boot_id.is_empty() && self.knows_boot() && self.boot_id == other.boot_id
    }

    /// How far the wall clock was moved between `earlier` and this reading, beyond the time that passed.
    /// Zero across boots: there is no clock to hold it against. The same where the boot clock has gone back, as in a
    /// state that somebody has edited.
    pub fn wall_moved_since(&self, earlier: &Self) -> TimeDelta {
        let passed = self.boot_ms.checked_sub(earlier.boot_ms);
        match passed.map(millis) {
            Some(passed) if self.same_boot(earlier) => (self.wall - earlier.wall)
                .checked_sub(&passed)
                .unwrap_or_default(),
            _ => TimeDelta::zero(),
        }
    }

    /// How long the machine slept between `earlier` and this reading. Zero across boots.
    pub fn slept_since(&self, earlier: &Self) -> Duration {
        if !self.same_boot(earlier) {
            return Duration::ZERO;
        }
        let boot = self.boot_ms.saturating_sub(earlier.boot_ms);
        let awake = self.awake_ms.saturating_sub(earlier.awake_ms);
        Duration::from_millis(boot.saturating_sub(awake))
    }

    /// Whether ages by the wall clock cannot be believed across `earlier`: it was set, or the machine slept,
    /// by more than [`JUMP`].
    pub fn jumped_since(&self, earlier: &Self) -> bool {
        self.wall_moved_since(earlier)
            .abs()
            .to_std()
            .unwrap_or(Duration::MAX)
            > JUMP
            || self.slept_since(earlier) > JUMP
    }

    /// When this boot began, by today's wall clock.
    pub fn booted_at(&self) -> DateTime<Utc> {
        self.wall
            .checked_sub_signed(millis(self.boot_ms))
            .unwrap_or(DateTime::<Utc>::MIN_UTC)
    }
}

/// Whether the clock goes on while the machine is off: it has one with a battery, or it is the guest of another machine,
/// which tells it the time. Of a machine without, files that were written before the time is set look older than the boot.
/// `root` is `/`.
pub fn goes_on_while_off(root: &Path) -> bool {
    let is_there = |path: &str| root.join(path).exists();
    let has_any = |path: &str| {
        fs::read_dir(root.join(path)).is_ok_and(|mut entries| entries.next().is_some())
    };
    let is_guest = || {
        let about = fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
        about
            .split_ascii_whitespace()
            .any(|word| word == "hypervisor")
            || has_any("sys/hypervisor")
    };
    has_any("sys/class/rtc") || is_there("dev/rtc") || is_there("dev/rtc0") || is_guest()
}

/// Reads a boot id. Nearly all that a state has are one and the same: it is kept once.
pub fn shared<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
    thread_local!(static LATEST: RefCell<Arc<str>> = RefCell::new("".into()));

    struct BootId;

    impl de::Visitor<'_> for BootId {
        type Value = Arc<str>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a boot id")
        }

        fn visit_str<E: de::Error>(self, id: &str) -> Result<Arc<str>, E> {
            Ok(LATEST.with_borrow_mut(|latest| {
                if **latest != *id {
                    *latest = id.into();
                }
                Arc::clone(latest)
            }))
        }
    }

    from.deserialize_str(BootId)
}

fn boot_id() -> io::Result<String> {
    // 36 digits and dashes, and a line end
    let mut id = [0; 64];
    let length = File::open("/proc/sys/kernel/random/boot_id")?.read(&mut id)?;
    Ok(String::from_utf8_lossy(&id[..length]).trim().to_owned())
}

fn millis(count: u64) -> TimeDelta {
    TimeDelta::milliseconds(i64::try_from(count).unwrap_or(i64::MAX))
}

/// The seconds of the years 1 to 9999.
const YEARS: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// The time of a file, from its seconds and nanoseconds, in one of the years 1 to 9999. A file system may keep any number
/// that somebody has set; a time at the end of what chrono can hold could not be added to.
pub fn of_file((seconds, nanos): (i64, i64)) -> DateTime<Utc> {
    let nanos = u32::try_from(nanos).ok().filter(|it| *it < 1_000_000_000);
    let within = seconds.clamp(*YEARS.start(), *YEARS.end());
    let nanos = nanos.filter(|_| within == seconds).unwrap_or_default();
    DateTime::from_timestamp(within, nanos).unwrap_or_default()
}

/// So much later; the latest time that there is where that would be beyond it.
pub fn later(time: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    let by = TimeDelta::from_std(by).unwrap_or(TimeDelta::MAX);
    (time.checked_add_signed(by)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// How long ago `then` was; zero for the future.
pub fn age(now: DateTime<Utc>, then: DateTime<Utc>) -> Duration {
    (now - then).to_std().unwrap_or_default()
}

/// How long ago a remembered time was. `None` where it lies ahead by more than [`JUMP`]: the clock was set back since, or the
/// time was never right, and nothing says how long ago it was.
pub fn known_age(now: DateTime<Utc>, then: DateTime<Utc>) -> Option<Duration> {
    let ahead = age(then, now);
    (ahead <= JUMP).then(|| age(now, then))
}

/// Reads a duration as a config writes it: `"90s"`, `"5m"`, `"1h 30m"`; units ms, s, m, h, d; `"0"` is zero.
///
/// The text is the caller's to place; the error says only what is wrong with it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const HELP: &str = "write it like \"90s\", \"5m\" or \"1h 30m\" (units: ms, s, m, h, d)";
    let trimmed = text.trim();
    if trimmed == "0" {
        return Ok(Duration::ZERO);
    }
    // humantime reads `M` as months and knows years; neither is a time limit that somebody means
    for unit in trimmed
        .split(|c: char| !c.is_alphabetic())
        .filter(|u| !u.is_empty())
    {
        if !["ms", "s", "m", "h", "d"].contains(&unit) {
            return Err(format!("unknown unit `{unit}` in a duration; {HELP}"));
        }
    }
    let parsed = humantime::parse_duration(trimmed)
        .map_err(|_| format!("`{text}` is not a duration; {HELP}"))?;
    // humantime guesses at fractions; two units say the same without a guess
    if trimmed.contains('.') {
        return Err(format!(
            "`{text}` is not a duration of whole numbers; {HELP}"
        ));
    }
    // a century: far beyond any limit, and far below where sums of times overflow
    if parsed > Duration::from_hours(100 * 365 * 24) {
        return Err(format!("`{text}` is longer than a hundred years; {HELP}"));
    }
    Ok(parsed)
}

/// Writes a duration as [`parse_duration`] reads it, exactly.
pub fn exact(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    let mut parts = Vec::new();
    for (unit, size) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ] {
        if rest >= size {
            parts.push(format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    if parts.is_empty() {
        return "0s".to_owned();
    }
    parts.join(" ")
}

/// Writes a duration for a person: the two largest units, nothing below a second once it is ten or more.
pub fn rough(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms < 1000 {
        return format!("{ms}ms");
    }
    if ms < 10_000 {
        let tenths = ms % 1000 / 100;
        return if tenths == 0 {
            format!("{}s", ms / 1000)
        } else {
            format!("{}.{tenths}s", ms / 1000)
        };
    }
    let s = duration.as_secs();
    let pair = |big: u64, unit: &str, small: u64, sub: &str| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit} {small}{sub}")
        }
    };
    match s {
        0..60 => format!("{s}s"),
        60..3600 => pair(s / 60, "m", s % 60, "s"),
        3600..86_400 => pair(s / 3600, "h", s % 3600 / 60, "m"),
        _ => pair(s / 86_400, "d", s % 86_400 / 3600, "h"),
    }
}

/// RFC 3339 in UTC with whole seconds, the form of every time that is shown or kept for people.
pub fn stamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(wall: i64, boot_s: u64, slept_s: u64) -> Reading {
        Reading {
            wall: DateTime::from_timestamp(1_800_000_000 + wall, 0).unwrap(),
            boot_ms: boot_s * 1000,
            awake_ms: (boot_s - slept_s) * 1000,
            boot_id: "a".into(),
        }
    }

    #[test]
    fn boot_ids_that_are_the_same_are_kept_once() {
        let read = |id: &str| {
            let text = format!(
                r#"{{"wall":"2026-11-22T12:00:00Z","boot_ms":1,"awake_ms":1,"boot_id":{id}}}"#
            );
            serde_json::from_str::<Reading>(&text)
        };
        let [first, again, other, back] =
            ["\"a\"", "\"a\"", "\"b\"", "\"a\""].map(|id| read(id).unwrap().boot_id);
        assert_eq!([&*first, &*again, &*other, &*back], ["a", "a", "b", "a"]);
        assert!(Arc::ptr_eq(&first, &again) && !Arc::ptr_eq(&first, &back));
        let why = read("7").unwrap_err().to_string();
        assert!(
            why.starts_with("invalid type: integer `7`, expected a boot id"),
            "{why}"
        );
    }

    #[test]
    fn a_clock_goes_on_by_a_battery_or_by_another_machine() {
        for (file, text, goes_on) in [
            ("", "", false),
            ("sys/class/rtc/rtc0/name", "rtc_cmos\n", true),
            ("dev/rtc0", "", true),
            ("proc/cpuinfo", "flags\t\t: fpu hypervisor sse\n", true),
            ("proc/cpuinfo", "Model\t\t: Raspberry Pi 4 Model B\n", false),
            ("sys/hypervisor/type", "xen\n", true),
        ] {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(root.path().join("sys/class/rtc")).unwrap();
            let path = root.path().join(file);
            if !file.is_empty() {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            assert_eq!(goes_on_while_off(root.path()), goes_on, "{file} {text}");
        }
    }

    #[test]
    fn a_set_clock_is_told_from_time_that_passed() {
        let before = reading(0, 1000, 0);
        let quiet = reading(60, 1060, 0);
        assert_eq!(quiet.wall_moved_since(&before), TimeDelta::zero());
        assert!(!quiet.jumped_since(&before));
        let forward = reading(3660, 1060, 0);
        assert_eq!(forward.wall_moved_since(&before), TimeDelta::hours(1));
        assert!(forward.jumped_since(&before));
        let back = reading(-3540, 1060, 0);
        assert_eq!(back.wall_moved_since(&before), TimeDelta::hours(-1));
        assert!(back.jumped_since(&before));
        let slewed = reading(69, 1060, 0);
        assert!(
            !slewed.jumped_since(&before),
            "ten seconds and less are no jump"
        );
    }

    #[test]
    fn sleep_is_told_from_both() {
        let before = reading(0, 1000, 0);
        let woken = reading(7200, 8200, 7000);
        assert_eq!(woken.wall_moved_since(&before), TimeDelta::zero());
        assert_eq!(woken.slept_since(&before), Duration::from_secs(7000));
        assert!(woken.jumped_since(&before));
    }

    #[test]
    fn across_boots_nothing_is_compared() {
        let before = reading(0, 1000, 0);
        let mut after = reading(86_400, 10, 0);
        after.boot_id = "b".into();
        assert!(!after.jumped_since(&before));
        after.boot_id = "".into();
        assert!(
            !after.same_boot(&after.clone()),
            "an unknown boot is not the same boot"
        );
    }

    #[test]
    fn no_reading_is_too_far_away_to_be_compared() {
        let now = reading(0, 1000, 0);
        let walls = [DateTime::<Utc>::MIN_UTC, now.wall, DateTime::<Utc>::MAX_UTC];
        let counts = [0, 1_000_000, 1 << 62, u64::MAX];
        let extremes = walls.iter().flat_map(|&wall| {
            counts.map(|boot_ms| Reading {
                wall,
                boot_ms,
                ..now.clone()
            })
        });
        for other in extremes {
            let moved = now.wall_moved_since(&other);
            let (back, ahead) = (other.wall_moved_since(&now), other.jumped_since(&now));
            assert!(now.jumped_since(&other) || moved.is_zero(), "{other:?}");
            assert!(ahead || back.is_zero(), "{other:?}");
            assert!(other.booted_at() <= other.wall);
            // a clock that cannot go back tells nothing where it did
            if other.boot_ms > now.boot_ms {
                assert_eq!(moved, TimeDelta::zero());
            }
        }
    }

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, ms) in [
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("2d", 172_800_000),
            ("0", 0),
            ("0s", 0),
            (" 10s ", 10_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
    }

    #[test]
    fn durations_that_mean_something_else_are_refused() {
        for text in [
            "5M",
            "1y",
            "1month",
            "2w",
            "5",
            "",
            "-5s",
            "5 minutes",
            "abc",
            "1.5h",
            "1us",
            "99999999999999999d",
            "40000d",
        ] {
            assert!(parse_duration(text).is_err(), "{text} was taken");
        }
    }

    #[test]
    fn exact_is_read_back() {
        for ms in [0, 1, 999, 1000, 61_001, 5_400_000, 90_061_007] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&exact(duration)), Ok(duration));
        }
    }

    #[test]
    fn rough_keeps_two_units() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1000, "1s"),
            (2310, "2.3s"),
            (59_999, "59s"),
            (432_000, "7m 12s"),
            (300_000, "5m"),
            (7_384_000, "2h 3m"),
            (180_000_000, "2d 2h"),
        ] {
            assert_eq!(rough(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn what_is_no_duration_is_said_in_a_sentence() {
        const HELP: &str = "write it like \"90s\", \"5m\" or \"1h 30m\" (units: ms, s, m, h, d)";
        for (text, said) in [
            ("5M", "unknown unit `M` in a duration"),
            ("1y", "unknown unit `y` in a duration"),
            ("5", "`5` is not a duration"),
            ("", "`` is not a duration"),
            ("s", "`s` is not a duration"),
            ("40000d", "`40000d` is longer than a hundred years"),
        ] {
            assert_eq!(parse_duration(text), Err(format!("{said}; {HELP}")));
        }
    }
}
