//! What is kept between runs: plain data, and the arithmetic of remembered times.
//!
//! The state holds facts and not conclusions: when attempts were made, which process was last seen, where a log
//! was read to. What can be derived from them is derived anew by each run, so that nothing has to be reset.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize};

use crate::clock::{Reading, SETTING, times};

pub mod attempts;
pub mod channels;
pub mod counters;
mod event;
pub mod journal;
pub mod scale;
mod service;
pub mod showing;
pub mod store;
pub mod strategies;
mod upgrade;

use channels::ChannelState;
use journal::JournalEvent;
use scale::ScaleState;
pub use service::{AttemptRecord, Discovered, LastResult, ServiceState};

/// The form of the state file that this program writes. Older ones are read too, and nothing in them is forgotten:
/// version 1 (watchdog 0.1.0) has other names for some fields, positions in logs by the path in the config, and mail as
/// the only channel.
pub const VERSION: u32 = 2;

/// The window of the restart budget.
pub const HOUR: Duration = Duration::from_hours(1);

/// The number of young processes in a row that have a grace: the next one is judged at once.
pub const MAX_GRACE_PERIODS: usize = 2;

/// How many young processes, and restarts that did not fail, are remembered: more than the grace needs, and a bound.
pub const STARTS_KEPT: usize = 8;

/// Everything that a run remembers for the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`VERSION`].
    pub version: u32,
    /// When the last run looked.
    #[serde(default)]
    pub last_run: Option<DateTime<Utc>>,
    /// How long before this run the last one looked, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// The same of the last run and the one before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_before: Option<Duration>,
    /// The clocks of the last run.
    #[serde(default)]
    pub clock: Option<Reading>,
    /// When the state was last flushed to the disk.
    #[serde(default)]
    pub flushed: Option<DateTime<Utc>>,
    /// The file that this was read from, or written to last, was not: the system writes it in its own time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unflushed: bool,
    /// What of the state was found damaged outside of a check; the next check alerts about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<String>,
    /// Both the state and its backup were damaged, and no check has run since: attempts may be missing, and the next
    /// check restarts nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attempts_lost: bool,
    /// How long the last run took until it wrote this, in milliseconds, and what it exited with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_result: Option<RunResult>,
    /// When a run last found that the wall clock had jumped, or that the machine had slept.
    #[serde(default)]
    pub jumped_at: Option<DateTime<Utc>>,
    /// The services by their names. Each is allocated by itself: a map that is filled in order is half empty.
    #[serde(default)]
    pub services: BTreeMap<String, Box<ServiceState>>,
    /// The alerts that were handed in and that a repair was made for, and when.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub handed_in: BTreeMap<String, DateTime<Utc>>,
    /// The scales by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scales: BTreeMap<String, ScaleState>,
    /// What is remembered of each channel, by its name.
    #[serde(default)]
    pub channels: BTreeMap<String, ChannelState>,
    /// Present in a state that has no channels yet: it is read again for what it has in their place.
    #[serde(default, skip_serializing)]
    mails: Option<Vec<DateTime<Utc>>>,
}

/// Alerts that were handed in are remembered for so long after: longer than one lasts, and so many at most.
const HANDED_IN_KEPT: TimeDelta = TimeDelta::days(30);
const MOST_HANDED_IN: usize = 1000;

impl State {
    /// Takes note of an alert that was handed in and that a repair is made for.
    pub fn note_handed_in(&mut self, key: String, now: DateTime<Utc>) {
        self.handed_in.retain(|_, at| now - *at < HANDED_IN_KEPT);
        while self.handed_in.len() >= MOST_HANDED_IN {
            let oldest = self.handed_in.iter().min_by_key(|(_, at)| **at);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            self.handed_in.remove(&oldest);
        }
        self.handed_in.insert(key, now);
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: VERSION,
            last_run: None,
            interval: None,
            interval_before: None,
            clock: None,
            flushed: None,
            unflushed: false,
            damage: Vec::new(),
            attempts_lost: false,
            last_result: None,
            jumped_at: None,
            services: BTreeMap::new(),
            handed_in: BTreeMap::new(),
            scales: BTreeMap::new(),
            channels: BTreeMap::new(),
            mails: None,
        }
    }
}

/// How a run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunResult {
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What it exited with.
    pub exit_code: u8,
}

impl State {
    /// Takes note of a run that looks now, and gives back when the last one did.
    pub fn note_run(&mut self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let before = self.last_run.replace(now);
        self.interval_before = self.interval;
        self.interval = before.and_then(|before| (now - before).to_std().ok());
        before
    }

    /// The time from one run to the next, as far as it is known: the longer one of the last two, for a person may have made
    /// one in between.
    pub fn run_interval(&self) -> Option<Duration> {
        self.interval.max(self.interval_before)
    }

    /// A new state with what the journal knows of restart attempts, so that the budget is not forgotten with the
    /// state; nor is what was started last. The times are by the wall clock of then: whether it was set since is not
    /// known.
    pub fn of_journal(entries: &[journal::Entry]) -> Self {
        let mut state = Self::default();
        for entry in entries {
            match entry.event {
                JournalEvent::Restarting | JournalEvent::Repairing => {
                    let known = state.services.entry(entry.service.clone()).or_default();
                    known.attempts.push(entry.time);
                    entry.add_attempt_to(known);
                }
                _ if entry.is_good_restart() => {
                    let known = state.services.entry(entry.service.clone()).or_default();
                    known.record_good_restart(entry.time);
                }
                JournalEvent::Scaling => {
                    let known = state.scales.entry(entry.service.clone()).or_default();
                    known.changes.push(entry.time);
                }
                JournalEvent::Reset => {
                    state.services.remove(&entry.service);
                    state.scales.remove(&entry.service);
                }
                _ => {}
            }
        }
        state.learn_started(entries);
        state
    }

    /// Takes over from the journal which processes were started last: a backup may be of before.
    pub fn learn_started(&mut self, entries: &[journal::Entry]) {
        for entry in entries {
            if entry.started.is_some() {
                let known = self.services.entry(entry.service.clone()).or_default();
                known.process.started.clone_from(&entry.started);
                if entry.wrapper.is_some() {
                    known.process.wrapper.clone_from(&entry.wrapper);
                }
            }
        }
    }

    /// The services whose restart was cut short, and that no run has taken up since.
    pub fn interrupted(&self) -> BTreeSet<String> {
        self.services
            .iter()
            .filter(|(_, service)| service.interrupted_attempt.is_some())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Moves remembered times to the clock of this run, where the wall clock was set since the last one. What lies ahead then
    /// stays there: a command that only looks says so, and must not take it for now. Returns whether the clock was set or
    /// jumped.
    pub fn move_with_clock(&mut self, now: &Reading) -> bool {
        let mut set = false;
        if let Some(last) = self.clock.replace(now.clone()) {
            let moved = now.wall_moved_since(&last);
            if moved.abs() >= SETTING {
                set = true;
                for time in self.times() {
                    *time = time.checked_add_signed(moved).unwrap_or(now.wall);
                }
                for service in self.services.values_mut() {
                    if let Some(until) = &mut service.paused_until {
                        *until = until.checked_add_signed(moved).unwrap_or(now.wall);
                    }
                }
                for scale in self.scales.values_mut() {
                    if let Some(until) = &mut scale.paused_until {
                        *until = until.checked_add_signed(moved).unwrap_or(now.wall);
                    }
                }
            }
            if now.jumped_since(&last) {
                set = true;
                self.jumped_at = Some(now.wall);
            }
        }
        set
    }

    /// Brings remembered times to the clock of this run: where the wall clock was set since the last one, they
    /// move with it; what would then lie ahead happened now at the latest; attempts and mails that the budgets
    /// no longer count are dropped. What checks remember needs none of that: it has times that stay right. Returns whether
    /// the clock was set or jumped.
    pub fn adjust_to_clock(&mut self, now: &Reading) -> bool {
        let set = self.move_with_clock(now);
        for time in self.times() {
            *time = (*time).min(now.wall);
        }
        for service in self.services.values_mut() {
            let last = service.last_attempt();
            service
                .attempts
                .retain(|&at| within_hour(now.wall, at) || Some(at) == last);
            for of in service.strategies.values_mut() {
                of.prune(now.wall);
            }
        }
        for scale in self.scales.values_mut() {
            scale.prune(now.wall);
        }
        for channel in self.channels.values_mut() {
            channel.sent.retain(|&at| within_hour(now.wall, at));
        }
        set
    }

    /// Ends the threads of incidents that are over and reported. Returns whether there were any.
    pub fn close_threads(&mut self) -> bool {
        let services = self.services.values();
        let of_services = services.filter_map(|service| service.incident.as_deref());
        let scales = self.scales.values();
        let of_scales = scales.filter_map(|scale| scale.incident.as_deref());
        let open = of_services.chain(of_scales).collect();
        let mut closed = false;
        for channel in self.channels.values_mut() {
            closed |= channel.close_threads(&open);
        }
        closed
    }

    /// Forgets services and scales, but for those to be kept.
    pub fn retain(
        &mut self,
        keep: impl Fn(&str, &ServiceState) -> bool,
        keep_scale: impl Fn(&str, &ScaleState) -> bool,
    ) {
        self.services.retain(|name, known| keep(name, known));
        self.scales.retain(|name, known| keep_scale(name, known));
        let (services, scales) = (&self.services, &self.scales);
        for channel in self.channels.values_mut() {
            channel
                .services
                .retain(|name, _| services.contains_key(name) || scales.contains_key(name));
        }
    }

    /// Whether it is long ago, or not known, that the state was flushed to the disk.
    pub fn is_long_unflushed(&self, now: DateTime<Utc>) -> bool {
        self.flushed
            .is_none_or(|flushed| flushed >= now || !within_hour(now, flushed))
    }

    fn times(&mut self) -> impl Iterator<Item = &mut DateTime<Utc>> {
        self.services
            .values_mut()
            .flat_map(|known| known.times())
            .chain(self.scales.values_mut().flat_map(ScaleState::times))
            .chain(&mut self.last_run)
            .chain(&mut self.flushed)
            .chain(&mut self.jumped_at)
            .chain(self.channels.values_mut().flat_map(ChannelState::times))
    }
}

/// What an incident is called that began at a time. Each service has its own.
pub fn incident_id(service: &str, began: DateTime<Utc>) -> String {
    format!("{service}.{}", began.format("%Y%m%dT%H%M%S%.3fZ"))
}

fn time_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(value.as_str().and_then(|text| times::read(text).ok()))
}

fn text_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(value.as_str().map(str::to_owned))
}

/// When the oldest of the attempts that fill a budget of `max` leaves the window.
fn budget_frees_at(
    attempts: &[DateTime<Utc>],
    now: DateTime<Utc>,
    max: u32,
) -> Option<DateTime<Utc>> {
    let recent = attempts.iter().copied();
    let mut recent: Vec<_> = recent.filter(|&at| within_hour(now, at)).collect();
    recent.sort_unstable();
    let over = recent
        .len()
        .checked_sub(usize::try_from(max).unwrap_or(usize::MAX))?;
    let hour = TimeDelta::from_std(HOUR).ok()?;
    recent.get(over)?.checked_add_signed(hour)
}

/// Whether `at` is in the sixty minutes before `now`.
fn within_hour(now: DateTime<Utc>, at: DateTime<Utc>) -> bool {
    crate::clock::age(now, at) < HOUR
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::process::Identity;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + minute * 60, 0).unwrap()
    }

    fn reading(minute: i64, boot_minute: u64) -> Reading {
        Reading {
            wall: at(minute),
            boot_ms: boot_minute * 60_000,
            awake_ms: boot_minute * 60_000,
            boot_id: "a".into(),
        }
    }

    fn with_attempts(minutes: &[i64]) -> State {
        let mut state = State::default();
        let service = ServiceState {
            attempts: minutes.iter().map(|&m| at(m)).collect(),
            ..ServiceState::default()
        };
        state.services.insert("a".to_owned(), Box::new(service));
        state
    }

    #[test]
    fn the_journal_knows_attempts_and_what_was_started_last() {
        let line = |event: &str, second: u32, started: &str| {
            let text = format!(
                r#"{{"time":"2027-01-15T08:00:{second:02}Z","service":"a","event":"{event}"{started}}}"#
            );
            serde_json::from_str::<journal::Entry>(&text).unwrap()
        };
        let started =
            |pid: i32| format!(r#","started":{{"pid":{pid},"start":{pid},"boot_id":"b"}}"#);
        let identity = |pid: i32| Identity {
            pid,
            start: u64::from(pid.unsigned_abs()),
            boot_id: "b".into(),
        };
        // the first is of a journal that was written before anything was known of what was started
        let mut entries = vec![line("restarting", 1, ""), line("restarted", 2, "")];
        let known = |entries: &[journal::Entry]| State::of_journal(entries).services["a"].clone();
        assert_eq!(known(&entries).attempts.len(), 1);
        assert_eq!(known(&entries).process.started, None);
        entries.extend([
            line("restarting", 3, ""),
            line("restarted", 4, &started(7)),
            line("restarting", 5, ""),
            line("restarted", 6, &started(8)),
            line("restarting", 7, ""),
            line("restart_failed", 8, ""),
        ]);
        assert_eq!(known(&entries).attempts.len(), 4);
        assert_eq!(known(&entries).process.started, Some(identity(8)));
        // a person who has attempts forgotten starts nothing a second time
        entries.push(line("reset", 9, ""));
        assert_eq!(known(&entries).attempts.len(), 0);
        assert_eq!(known(&entries).process.started, Some(identity(8)));
        // a backup may be of before
        let mut backup = with_attempts(&[0]);
        backup.learn_started(&entries);
        assert_eq!(backup.services["a"].attempts.len(), 1);
        assert_eq!(backup.services["a"].process.started, Some(identity(8)));
    }

    #[test]
    fn an_attempt_counts_for_an_hour_and_no_longer() {
        let service = &with_attempts(&[0]).services["a"];
        assert_eq!(service.attempts_in_hour(at(59)), 1);
        assert_eq!(service.attempts_in_hour(at(60)), 0);
        assert_eq!(service.budget_frees_at(at(10), 1), Some(at(60)));
        assert_eq!(service.budget_frees_at(at(10), 2), None);
    }

    #[test]
    fn the_budget_frees_when_enough_attempts_have_left() {
        let service = &with_attempts(&[0, 10, 20, 30]).services["a"];
        assert_eq!(service.budget_frees_at(at(40), 3), Some(at(70)));
        assert_eq!(service.budget_frees_at(at(40), 4), Some(at(60)));
    }

    #[test]
    fn f43_times_move_with_a_clock_that_was_set() {
        for (wall, attempts_left) in [(70, 1), (-50, 1), (10, 1)] {
            let mut state = with_attempts(&[0]);
            state.clock = Some(reading(5, 100));
            // five minutes pass by the boot clock, whatever the wall clock says
            state.adjust_to_clock(&reading(wall, 105));
            let service = &state.services["a"];
            assert_eq!(service.attempts, [at(wall - 10)], "wall clock at {wall}");
            assert_eq!(service.attempts_in_hour(at(wall)), attempts_left);
        }
    }

    #[test]
    fn f43_times_ahead_are_brought_back_to_now() {
        let mut state = with_attempts(&[500, -20, -90]);
        state.adjust_to_clock(&reading(0, 1));
        assert_eq!(state.services["a"].attempts, [at(0), at(-20)]);
    }

    #[test]
    fn a_jump_is_remembered() {
        let mut state = State::default();
        state.adjust_to_clock(&reading(0, 100));
        assert_eq!(state.jumped_at, None);
        state.adjust_to_clock(&reading(5, 102));
        assert_eq!(state.jumped_at, Some(at(5)));
    }

    #[test]
    fn a_bad_record_of_a_pause_is_no_pause() {
        for (until, reason) in [
            ("\"soon\"", "7"),
            ("{}", "[]"),
            ("null", "null"),
            ("5", "{}"),
        ] {
            let text = format!(
                r#"{{"consecutive_failures":4,"paused_until":{until},"pause_reason":{reason}}}"#
            );
            let service: ServiceState = serde_json::from_str(&text).unwrap();
            assert_eq!(service.consecutive_failures, 4);
            assert_eq!((service.paused_until, service.pause_reason), (None, None));
        }
        let paused = ServiceState {
            paused_until: Some(at(1)),
            pause_reason: Some("disk".to_owned()),
            ..ServiceState::default()
        };
        let text = serde_json::to_string(&paused).unwrap();
        assert_eq!(serde_json::from_str::<ServiceState>(&text).unwrap(), paused);
    }

    #[test]
    fn a_pause_lies_ahead_and_moves_with_the_clock() {
        let mut state = with_attempts(&[]);
        state.clock = Some(reading(0, 100));
        if let Some(service) = state.services.get_mut("a") {
            service.paused_until = Some(at(30));
        }
        state.adjust_to_clock(&reading(120, 110));
        assert_eq!(state.services["a"].paused_until, Some(at(140)));
        assert!(state.services["a"].is_paused(at(120)));
    }
}
