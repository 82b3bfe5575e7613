//! What is kept between runs: plain data, and the arithmetic of remembered times.
//!
//! The state holds facts and not conclusions: when attempts were made, which process was last seen, where a log
//! was read to. What can be derived from them is derived anew by each run, so that nothing has to be reset.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize};

use crate::check::log::{self, Logs};
use crate::check::process::{self, Identity, ProcessStatus};
use crate::check::prometheus::{Acted, Repaired};
use crate::check::{Check, CheckState, CheckStates, Finding, Listed, container, unit};
use crate::clock::{Reading, SETTING, times};
use crate::restart::Action;
use crate::verdict::Verdict;

pub mod attempts;
pub mod channels;
pub mod counters;
mod event;
pub mod journal;
pub mod scale;
pub mod showing;
pub mod store;
mod upgrade;

use attempts::{ByStrategy, is_zero};
use channels::ChannelState;
use journal::JournalEvent;
use scale::ScaleState;

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

/// How many attempts of an incident are remembered with their findings.
const ATTEMPT_CODES_KEPT: usize = 8;

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

/// What is remembered of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceState {
    /// The verdict of the last run.
    pub verdict: Option<Verdict>,
    /// Since when it has been this verdict.
    #[serde(with = "times::perhaps")]
    pub since: Option<DateTime<Utc>>,
    /// How many runs in a row found it broken, the last one included.
    pub consecutive_failures: u32,
    /// The restart attempts of the last hour, good and bad, oldest first; and the last one, however long ago,
    /// for cooldowns of more than an hour.
    pub attempts: Vec<DateTime<Utc>>,
    /// How many attempts the present incident has had. It is over when nothing critical is found at least `start_grace`
    /// after the last attempt.
    #[serde(skip_serializing_if = "is_zero")]
    pub incident_attempts: u32,
    /// The attempts that strategies made, by these. They are in `attempts` as well.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub strategies: ByStrategy,
    /// How the last runs went that count, oldest first, since the last attempt: `1` for one that found it failing. Absent
    /// where one failing run is reason enough, or in a state of before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recent_runs: Option<String>,
    /// An attempt that was recorded and whose end is not known: the run was cut short.
    #[serde(alias = "unfinished", skip_serializing_if = "Option::is_none")]
    pub interrupted_attempt: Option<DateTime<Utc>>,
    /// When its budget was spent under `on_exhausted = "give_up"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given_up: Option<DateTime<Utc>>,
    /// All attempts at it, for the metrics.
    #[serde(skip_serializing_if = "counters::Attempts::is_none")]
    pub counted: counters::Attempts,
    /// Its process.
    pub process: process::LastSeen,
    /// Its systemd unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<unit::LastSeen>,
    /// Its container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Arc<container::LastSeen>>,
    /// How it was found, where no config has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovered: Option<Box<Discovered>>,
    /// The `discover` table whose services it stands for, as its source could not be read and none was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stands_for: Option<String>,
    /// A restart that an engine was asked for, and whose end no run has seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordered: Option<Box<container::Ordered>>,
    /// Young processes that were seen since it was last healthy.
    #[serde(alias = "young", skip_serializing_if = "Vec::is_empty")]
    pub recent_starts: Vec<Identity>,
    /// When restarts were begun that did not fail, the latest ones, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub good_restarts: Vec<DateTime<Utc>>,
    /// When the incidents of the last hour began, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub incidents: Vec<DateTime<Utc>>,
    /// The alerts of Prometheus that counted when the last attempt was made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub acted_alerts: Vec<Acted>,
    /// What its checks remember, by their ids.
    #[serde(skip_serializing_if = "CheckStates::is_empty")]
    pub checks: CheckStates,
    /// Positions in logs that version 1 wrote, until the logs are read again.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub logs: log::Positions,
    /// What the run knew that recorded an unfinished attempt.
    #[serde(alias = "charged", skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Box<AttemptRecord>>,
    /// When the present trouble began, be it broken, degraded or unseen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble_since: Option<DateTime<Utc>>,
    /// The id of the present incident: it begins with the trouble, and is over when the service is healthy and the
    /// incident has no attempts that still count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    /// The codes of the critical findings that each attempt of the present trouble was made for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempt_codes: Vec<Vec<String>>,
    /// Until when it is left alone. What is no time is no pause: nobody is left unwatched by a slip.
    #[serde(deserialize_with = "time_or_none")]
    pub paused_until: Option<DateTime<Utc>>,
    /// Why it is left alone.
    #[serde(
        deserialize_with = "text_or_none",
        skip_serializing_if = "Option::is_none"
    )]
    pub pause_reason: Option<String>,
    /// What the last run saw and did, for `status`.
    pub report: LastResult,
}

/// How a service was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovered {
    /// The `discover` table.
    pub table: String,
    /// The container or unit that it is.
    pub target: String,
    /// When it was found last.
    pub at: DateTime<Utc>,
    /// A later run could read its table's source, and did not find it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_gone: bool,
}

/// What a run knew when it recorded a restart attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttemptRecord {
    /// The process that was to be stopped.
    pub main: Option<Identity>,
    /// It was an attempt to repair it, and not to restart it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub repair: bool,
    /// What the checks remembered.
    #[serde(skip_serializing_if = "CheckStates::is_empty")]
    pub checks: CheckStates,
    /// Positions in logs that version 1 wrote.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub logs: log::Positions,
}

/// What the last run saw and did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastResult {
    /// When it looked: a run of other services alone is no look at this one.
    #[serde(with = "times::perhaps")]
    pub time: Option<DateTime<Utc>>,
    /// The main process.
    pub pid: Option<i32>,
    /// What was wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// What was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Box<Action>>,
    /// What a person should know beside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The budget.
    pub max_per_hour: u32,
}

impl ServiceState {
    /// Brings this to where `later` is in all that the next run sees again where it is lost: when the service was last
    /// looked at, when its process was last seen, how far its logs were read. What differs then must survive a crash.
    pub fn catch_up(&mut self, later: &Self) {
        self.report.time = later.report.time;
        if let (Some(found), Some(later)) = (&mut self.discovered, &later.discovered) {
            found.at = later.at;
        }
        self.process.catch_up(&later.process);
        self.checks.catch_up(&later.checks);
    }

    /// How many restart attempts the hour before `now` had.
    pub fn attempts_in_hour(&self, now: DateTime<Utc>) -> usize {
        self.attempts
            .iter()
            .filter(|&&at| within_hour(now, at))
            .count()
    }

    /// Takes note that an incident begins.
    pub fn note_incident(&mut self, now: DateTime<Utc>) {
        self.incidents.retain(|&at| within_hour(now, at));
        self.incidents.push(now);
    }

    /// How many incidents the hour before `now` had.
    pub fn incidents_in_hour(&self, now: DateTime<Utc>) -> usize {
        let begun = self.incidents.iter();
        begun.filter(|&&at| within_hour(now, at)).count()
    }

    /// The last attempt, however long ago.
    pub fn last_attempt(&self) -> Option<DateTime<Utc>> {
        self.attempts.iter().copied().max()
    }

    /// The last attempt, and the alerts that counted then.
    pub fn last_repair(&self) -> Option<Repaired> {
        Some(Repaired {
            at: self.last_attempt()?,
            alerts: self.acted_alerts.clone(),
        })
    }

    /// When the oldest of the attempts that fill a budget of `max` leaves the window.
    pub fn budget_frees_at(&self, now: DateTime<Utc>, max: u32) -> Option<DateTime<Utc>> {
        budget_frees_at(&self.attempts, now, max)
    }

    /// What a check of the service remembers. A run that was cut short had read further; but where the process still
    /// runs that it was about to stop, what it read there counts as unread: the restart that it was evidence for never
    /// came. Without a status of the process: what the last run that was not cut short knew.
    pub fn state_of(&self, check: &Check, process: Option<&ProcessStatus>) -> Option<CheckState> {
        let (states, logs) = self.known_to(process);
        find(states, logs, check)
    }

    /// These states, and what is remembered of the configured checks that have none in them, and of kinds that this
    /// version does not have.
    pub fn add_states_to(
        &self,
        mut states: CheckStates,
        configured: &[Check],
        process: Option<&ProcessStatus>,
    ) -> CheckStates {
        let (known, logs) = self.known_to(process);
        for check in configured {
            if states.get(&check.id).is_none()
                && let Some(state) = find(known, logs, check)
            {
                states.insert(check.id.clone(), state);
            }
        }
        for (id, state) in known.iter() {
            if matches!(state, CheckState::Other(_)) {
                states.insert(id.clone(), state.clone());
            }
        }
        states
    }

    /// What the run knew that this one goes on from.
    fn known_to(&self, process: Option<&ProcessStatus>) -> (&CheckStates, &log::Positions) {
        match (&self.recorded, process) {
            (Some(recorded), Some(ProcessStatus::Running(running)))
                if recorded.main.as_ref() == Some(&running.main) =>
            {
                (&self.checks, &self.logs)
            }
            (Some(recorded), Some(_)) => (&recorded.checks, &recorded.logs),
            _ => (&self.checks, &self.logs),
        }
    }

    /// Whether a person has asked to leave it alone at `now`.
    pub fn is_paused(&self, now: DateTime<Utc>) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// What to say of its pause, where there is one at `now`.
    pub fn pause_note(&self, now: DateTime<Utc>) -> Option<String> {
        let until = self.paused_until.filter(|_| self.is_paused(now))?;
        let reason = self
            .pause_reason
            .as_ref()
            .map(|reason| format!(": {reason}"))
            .unwrap_or_default();
        Some(format!(
            "paused until {}{reason}",
            crate::clock::stamp(until)
        ))
    }

    /// Enters an attempt, and the strategy that it is made by: to be saved before anything is touched. Of so many runs is
    /// kept whether they failed.
    pub fn record_attempt(
        &mut self,
        now: DateTime<Utc>,
        codes: Vec<String>,
        strategy: Option<&str>,
        runs_kept: u32,
    ) {
        self.attempts.push(now);
        self.counted.last = Some(now);
        self.count_attempt(now, strategy, runs_kept);
        self.interrupted_attempt = Some(now);
        self.attempt_codes.push(codes);
        // what all attempts have in common is known from the first: it stands for those that are dropped
        while self.attempt_codes.len() > ATTEMPT_CODES_KEPT {
            let dropped = self.attempt_codes.remove(1);
            self.attempt_codes[0].retain(|code| dropped.contains(code));
        }
    }

    /// Enters a restart that did not fail.
    pub fn record_good_restart(&mut self, at: DateTime<Utc>) {
        self.good_restarts.push(at);
        let over = self.good_restarts.len().saturating_sub(STARTS_KEPT);
        self.good_restarts.drain(..over);
    }

    /// How many restarts of its present trouble did not fail, and did not mend it either: the last one is still to show.
    pub fn vain_restarts(&self) -> usize {
        let Some(since) = self.trouble_since else {
            return 0;
        };
        let of_trouble = self.good_restarts.iter().filter(|&&at| at >= since);
        of_trouble.count().saturating_sub(1)
    }

    /// Whether the watchdog has tried to start it within the last hour, in its present trouble.
    pub fn is_being_started(&self, now: DateTime<Utc>) -> bool {
        !self.attempt_codes.is_empty() && self.attempts_in_hour(now) > 0
    }

    /// Whether a process of it was seen at the end of the last attempt, or since: a restart that did not fail has one, and
    /// so has one that failed by its probes, or a repair. A start whose end no run has seen has none.
    pub fn was_seen_since_attempt(&self) -> bool {
        let (seen, attempt) = (self.report.time, self.last_attempt());
        self.report.pid.is_some() && seen.is_some() && seen >= attempt
    }

    fn times(&mut self) -> impl Iterator<Item = &mut DateTime<Utc>> {
        self.attempts
            .iter_mut()
            .chain(&mut self.since)
            .chain(&mut self.interrupted_attempt)
            .chain(&mut self.given_up)
            .chain(&mut self.counted.last)
            .chain(&mut self.trouble_since)
            .chain(&mut self.report.time)
            .chain(&mut self.good_restarts)
            .chain(&mut self.incidents)
            .chain(self.ordered.as_mut().map(|ordered| &mut ordered.at))
            .chain(self.strategies.values_mut().flat_map(|it| &mut it.attempts))
            .chain(self.discovered.as_mut().map(|it| &mut it.at))
    }
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

/// What a check remembers: by its id, or as version 1 wrote it. Several tables of one path were one then.
fn find(states: &CheckStates, logs: &log::Positions, check: &Check) -> Option<CheckState> {
    let state = states.get(&check.id).cloned();
    state.or_else(|| {
        let log = Logs::of(&check.rule)?;
        logs.get(&log.shown).cloned().map(CheckState::Log)
    })
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
    use std::sync::Arc;

    use super::*;
    use crate::check::assign_ids;

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
    fn f33_what_a_run_read_that_was_cut_short_is_unread_while_its_process_runs() {
        let identity = |pid| Identity {
            pid,
            start: 1,
            boot_id: "a".into(),
        };
        let running = |pid| ProcessStatus::Running(process::Running::just_started(identity(pid)));
        let rule = log::Rule::fixture("a.log");
        let checks = assign_ids(vec![Logs::rule(rule)]);
        let further: CheckStates = [(checks[0].id.clone(), CheckState::Log(Arc::default()))]
            .into_iter()
            .collect();
        let nothing = CheckStates::default();
        let mut service = ServiceState::default();
        assert_eq!(
            service.add_states_to(CheckStates::default(), &checks, Some(&running(7))),
            nothing
        );
        service.recorded = Some(Box::new(AttemptRecord {
            main: Some(identity(7)),
            checks: further.clone(),
            ..AttemptRecord::default()
        }));
        assert_eq!(
            service.add_states_to(CheckStates::default(), &checks, Some(&running(7))),
            nothing
        );
        for process_status in [
            running(8),
            ProcessStatus::NotRunning,
            ProcessStatus::NotApplicable,
        ] {
            assert_eq!(
                service.add_states_to(CheckStates::default(), &checks, Some(&process_status)),
                further
            );
        }
    }

    #[test]
    fn only_what_the_next_run_sees_again_may_be_lost() {
        type Change = fn(&mut ServiceState);

        let identity = Identity {
            pid: 7,
            start: 1,
            boot_id: "a".into(),
        };
        let file = process::PidFileState {
            file: (1, 2),
            modified: (3, 4),
            size: 5,
            changed: None,
            named: identity.clone(),
        };
        let id = || "log:/a.log".to_owned().into();
        let mut known = ServiceState::default();
        known.process.main = Some(identity);
        known.process.pid_file = Some(file);
        known.checks.insert(id(), CheckState::Log(Arc::default()));
        let changes: [(&str, bool, Change); 11] = [
            ("nothing", true, |_| ()),
            ("the time of the look", true, |it| {
                it.report.time = Some(at(1));
            }),
            ("the last sight of it", true, |it| it.process.seen_ms += 1),
            ("a touched PID file", true, |it| {
                let file = it.process.pid_file.as_mut().unwrap();
                file.changed = Some((6, 7));
            }),
            ("another PID file", false, |it| {
                let file = it.process.pid_file.as_mut().unwrap();
                file.file = (1, 3);
            }),
            ("no PID file", false, |it| it.process.pid_file = None),
            ("another process", false, |it| it.process.main = None),
            ("an attempt", false, |it| it.attempts.push(at(1))),
            ("a finding", false, |it| it.report.pid = Some(7)),
            ("a check less", false, |it| {
                it.checks = CheckStates::default();
            }),
            ("a check more", false, |it| {
                let id = "log:/b.log".to_owned().into();
                it.checks.insert(id, CheckState::Log(Arc::default()));
            }),
        ];
        for (what, may_be_lost, change) in changes {
            let (mut former, mut later) = (known.clone(), known.clone());
            change(&mut later);
            former.catch_up(&later);
            assert_eq!(former == later, may_be_lost, "{what}");
        }
        // how far a log was read is forwarded to its kind
        let (mut former, mut later) = (known.clone(), known);
        let mut position = log::LogPosition::default();
        position.here.offset = 9;
        later
            .checks
            .insert(id(), CheckState::Log(Arc::new(position)));
        assert_ne!(former, later);
        former.catch_up(&later);
        assert_eq!(former, later);
    }

    #[test]
    fn states_of_unknown_kinds_are_kept_and_of_removed_checks_are_not() {
        let state =
            r#"{"checks":{"tape:/dev/st0":{"block":7},"log:/gone.log":{"here":{"ino":5}}}}"#;
        let service: ServiceState = serde_json::from_str(state).unwrap();
        let kept = service.add_states_to(
            CheckStates::default(),
            &[],
            Some(&ProcessStatus::NotRunning),
        );
        let written = serde_json::to_string(&kept).unwrap();
        assert_eq!(written, r#"{"tape:/dev/st0":{"block":7}}"#);
    }

    #[test]
    fn what_all_attempts_have_in_common_is_kept_of_any_number_of_them() {
        let mut service = ServiceState::default();
        let both = || vec!["log_stale".to_owned(), "process_missing".to_owned()];
        service.record_attempt(at(0), both(), None, 1);
        service.record_attempt(at(1), vec!["process_missing".to_owned()], None, 1);
        for minute in 2..1000 {
            service.record_attempt(at(minute), both(), None, 1);
        }
        assert_eq!(service.attempt_codes.len(), ATTEMPT_CODES_KEPT);
        assert_eq!(service.attempt_codes[0], ["process_missing"]);
        assert!(service.is_being_started(at(1000)));
        assert!(!service.is_being_started(at(1100)), "an hour later");
    }

    #[test]
    fn a_start_has_come_up_where_a_process_was_seen_since() {
        // when attempts were made, when it was looked at last, and its process then
        for (attempts, seen, pid, expected) in [
            (&[][..], None, None, false),
            (&[], Some(5), Some(7), true),
            // by the very run that started it
            (&[5], Some(5), Some(7), true),
            (&[5], Some(5), None, false),
            // the run that started it was cut short, or left the service out
            (&[5], Some(4), Some(7), false),
            (&[5], None, None, false),
            (&[5], None, Some(7), false),
            // by a later run
            (&[5], Some(6), Some(7), true),
            (&[5], Some(6), None, false),
            // the last attempt is what counts
            (&[5, 8], Some(6), Some(7), false),
            (&[5, 8], Some(8), None, false),
            (&[5, 8], Some(8), Some(7), true),
        ] {
            let service = ServiceState {
                attempts: attempts.iter().map(|&minute| at(minute)).collect(),
                report: LastResult {
                    time: seen.map(at),
                    pid,
                    ..LastResult::default()
                },
                ..ServiceState::default()
            };
            let shown = format!("{attempts:?} {seen:?} {pid:?}");
            assert_eq!(service.was_seen_since_attempt(), expected, "{shown}");
        }
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
