//! What is remembered of one service, and what follows from it at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::strategies::{ByStrategy, is_zero};
use super::{STARTS_KEPT, budget_frees_at, counters, text_or_none, time_or_none, within_hour};
use crate::check::log::{self, Logs};
use crate::check::process::{self, Identity, ProcessStatus};
use crate::check::prometheus::{Acted, Repaired};
use crate::check::{Check, CheckState, CheckStates, Finding, Listed, container, unit};
use crate::clock::times;
use crate::restart::Action;
use crate::verdict::Verdict;

/// How many attempts of an incident are remembered with their findings.
const ATTEMPT_CODES_KEPT: usize = 8;

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

    pub(super) fn times(&mut self) -> impl Iterator<Item = &mut DateTime<Utc>> {
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

/// What a check remembers: by its id, or as version 1 wrote it. Several tables of one path were one then.
fn find(states: &CheckStates, logs: &log::Positions, check: &Check) -> Option<CheckState> {
    let state = states.get(&check.id).cloned();
    state.or_else(|| {
        let log = Logs::of(&check.rule)?;
        logs.get(&log.shown).cloned().map(CheckState::Log)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::assign_ids;

    fn at(minute: i64) -> DateTime<Utc> {
        crate::fixtures::at(minute * 60)
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
}
