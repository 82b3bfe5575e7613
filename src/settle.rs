//! What a run leaves behind: decisions and outcomes become state, journal entries, and alerts that are pending.
//!
//! As pure as the policy, and the other half of it: every transition of what is remembered is here.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::check::container::{Awaited, Ordered};
use crate::check::process::ProcessStatus;
use crate::check::{Finding, Observation, Severity, log, sort_by_weight};
use crate::config::{OnExhausted, Service};
use crate::decide::{Decision, Spent};
use crate::notify::{Alert, Event};
use crate::report::ServiceReport;
use crate::restart::{Action, Attempted, MethodName, Operation};
use crate::state::journal::{AttemptNumber, Entry, JournalEvent};
use crate::state::{AttemptRecord, LastResult, STARTS_KEPT, ServiceState, State, incident_id};
use crate::verdict::Verdict;

mod alerts;
pub mod scale;

use alerts::Occasion;
pub use alerts::{AlertConfig, alert_own_trouble, event_of, note_start};

/// What came of a restart or a repair that was due.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It was made.
    Attempted(Box<Attempted>),
    /// It was not made after all, for this reason. It is recorded as an attempt only where the reason came up after that:
    /// no thread could be had.
    Skipped(String),
    /// The run had too little time left for it, as this sentence says.
    NoTime(String),
    /// It had not ended when the run had to: the next run says so.
    Unfinished,
}

/// What was settled about a service.
#[derive(Clone, Debug)]
pub struct Settled {
    /// What this run came to.
    pub report: ServiceReport,
    /// What to write into the journal.
    pub entries: Vec<Entry>,
    /// Something is remembered of it now that must not be forgotten.
    pub must_persist: bool,
}

/// Enters a restart attempt and the evidence that it uses up: to be on the disk before anything is touched.
pub fn record_attempt(
    state: &mut State,
    service: &Service,
    decision: &Decision,
    observation: &Observation,
    now: DateTime<Utc>,
) -> Entry {
    let codes = critical_codes(observation);
    let is_repair = decision.operation == Some(Operation::Repair);
    let strategy = decision.strategy.as_deref();
    let remembered = state.services.entry(service.name.clone()).or_default();
    remembered.record_attempt(now, codes, strategy, service.runs_kept());
    let counted = service.checks.iter().flat_map(|check| {
        let state = observation.checks.get(&check.id);
        state.map_or(&[][..], |state| check.rule.evidence(state))
    });
    remembered.acted_alerts = counted.cloned().collect();
    let checks = remembered.add_states_to(observation.checks.clone(), &service.checks, None);
    remembered.recorded = Some(Box::new(AttemptRecord {
        main: match &observation.process_status {
            ProcessStatus::Running(running) => Some(running.main.clone()),
            _ => None,
        },
        repair: is_repair,
        checks,
        logs: log::Positions::new(),
    }));
    if !is_repair {
        remembered.ordered = order(service, observation, now).map(Box::new);
    }
    let event = if is_repair {
        JournalEvent::Repairing
    } else {
        JournalEvent::Restarting
    };
    let mut entry = Entry::new(now, &service.name, event);
    entry.findings.clone_from(&observation.findings);
    let by = strategy_note(service, strategy).map(|note| format!(", {note}"));
    entry.message = Some(format!(
        "attempt {} of {} in this hour{}",
        remembered.attempts_in_hour(now),
        service.policy.max_per_hour,
        by.unwrap_or_default()
    ));
    entry.attempt = Some(AttemptNumber {
        of_incident: remembered.incident_attempts,
        of_strategy: (strategy.and_then(|it| remembered.attempts_by(it)))
            .map_or(0, |it| it.of_incident),
        strategy: decision.strategy.clone(),
    });
    entry
}

/// What an engine is about to be asked for: a run that is killed does not see its end.
fn order(service: &Service, observation: &Observation, now: DateTime<Utc>) -> Option<Ordered> {
    let method = service.method.as_ref()?;
    let container = observation.subject.container.as_ref()?;
    (method.name() == MethodName::Container).then(|| Ordered {
        id: container.id.clone(),
        before: container.started_at,
        at: now,
        unanswered: false,
    })
}

/// What is known now of a restart that an engine was asked for, in this run or an earlier one.
fn settle_order(
    remembered: &mut ServiceState,
    observation: Option<&Observation>,
    outcome: Option<&Outcome>,
    wall: DateTime<Utc>,
) {
    let Some(ordered) = &remembered.ordered else {
        return;
    };
    let at = ordered.at;
    // by this run: those of earlier ones are from before it began
    if at >= wall {
        remembered.ordered = match outcome {
            Some(Outcome::Unfinished) => return,
            Some(Outcome::Attempted(attempted)) => {
                let unanswered = attempted.unanswered.as_deref().cloned();
                unanswered.map(|ordered| Box::new(Ordered { at, ..ordered }))
            }
            _ => None,
        };
        return;
    }
    match observation.and_then(|seen| seen.awaited.as_ref()) {
        Some(&Awaited::Done(started)) => {
            remembered.record_good_restart(started);
            remembered.ordered = None;
        }
        Some(Awaited::Over) => remembered.ordered = None,
        Some(Awaited::Pending(_)) | None => {}
    }
}

/// Which strategy says what is done.
fn strategy_note(service: &Service, strategy: Option<&str>) -> Option<String> {
    let strategy = service.strategy(strategy?)?;
    Some(format!("by its strategy for {}", strategy.title()))
}

/// Takes up what a run before left unfinished: it was cut short in the middle of a restart or a repair. Not of services that were
/// `left_out` of this run or could not be seen: the one that sees them must know.
pub fn recover_interrupted(
    state: &mut State,
    now: DateTime<Utc>,
    alerting: AlertConfig<'_>,
    left_out: impl Fn(&str) -> bool,
) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut cut = Vec::new();
    for (name, service) in &mut state.services {
        if left_out(name) {
            continue;
        }
        if let Some(at) = service.interrupted_attempt.take() {
            let (operation, did) = match &service.recorded {
                Some(recorded) if recorded.repair => (Operation::Repair, "repaired"),
                _ => (Operation::Restart, "restarted"),
            };
            service.counted.count(operation, None);
            let message = format!(
                "the run of {} was cut short while it {did} `{name}`; the attempt counts",
                crate::clock::stamp(at)
            );
            let mut entry = Entry::new(now, name, JournalEvent::Interrupted);
            entry.message = Some(message.clone());
            entries.push(entry);
            cut.push(message);
        }
    }
    for message in cut {
        alert_own_trouble(state, now, &message, alerting);
    }
    entries
}

/// Ends the trouble of what stood for a `discover` table whose source could not be read, once it can be: what is found has
/// names of its own, and nothing would ever be said of this one again.
pub fn settle_stand_ins(
    state: &mut State,
    names: &[String],
    now: DateTime<Utc>,
    alerting: AlertConfig<'_>,
) -> Vec<Entry> {
    let mut entries = Vec::new();
    for name in names {
        let Some(known) = state.services.get(name) else {
            continue;
        };
        let (incident, since) = (known.incident.clone(), known.trouble_since);
        let table = known.stands_for.as_deref().unwrap_or(name);
        let message = format!(
            "the source of [discover.{table}] can be read again; what it finds is looked at by its own name"
        );
        let occasion = Occasion {
            name,
            verdict: Verdict::Healthy,
            incident: incident.as_deref(),
            incidents: 0,
            now,
        };
        occasion.alert(&mut state.channels, alerting, |event| Alert {
            since,
            incident: incident.clone(),
            notes: vec![message.clone()],
            ..Alert::new(now, name, event)
        });
        if known.verdict == Some(Verdict::Unknown) {
            let mut entry = Entry::new(now, name, JournalEvent::Recovered);
            entry.message = Some(message);
            entries.push(entry);
        }
        if let Some(known) = state.services.get_mut(name) {
            (known.trouble_since, known.incident) = (None, None);
        }
    }
    entries
}

/// The codes of the critical findings, each once.
pub fn critical_codes(observation: &Observation) -> Vec<String> {
    let mut codes: Vec<String> = observation
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Critical)
        .map(|finding| finding.code.to_string())
        .collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// Settles one service: its state is brought up to date, what is worth it is journalled and alerted about.
pub fn settle(
    state: &mut State,
    service: &Service,
    decision: &Decision,
    observation: Option<&Observation>,
    outcome: Option<&Outcome>,
    wall: DateTime<Utc>,
    alerting: AlertConfig<'_>,
) -> Settled {
    let former;
    let remembered = if let Some(known) = state.services.get_mut(&service.name) {
        former = Some(ServiceState::clone(known));
        known
    } else {
        former = None;
        state.services.entry(service.name.clone()).or_default()
    };
    let before = remembered.verdict;
    let ended = Ended {
        service,
        decision,
        observation,
        outcome,
        wall,
    };
    let (verdict, why) = ended.verdict(before);
    ended.remember(remembered, verdict);
    let since = remembered.trouble_since;
    let incident = ended.settle_trouble(remembered, verdict);
    let mut report = ended.report(remembered, verdict, why);
    // by an attempt of this run, which is made later than the run began, it was looked at after that
    let looked = remembered.last_attempt().map_or(wall, |at| at.max(wall));
    remembered.report = last_result(&report, looked);
    let entries = ended.entries(before, &report);
    let has_changed = former.is_none_or(|mut former| {
        former.catch_up(remembered);
        former != **remembered
    });
    let occasion = Occasion {
        name: &service.name,
        verdict,
        incident: incident.as_deref(),
        incidents: remembered.incidents_in_hour(wall),
        now: wall,
    };
    let since = remembered.trouble_since.or(since);
    let has_alerted = occasion.alert(&mut state.channels, alerting, |event| Alert {
        since,
        incident: incident.clone(),
        ..ended.alert(remembered, &report, event)
    });
    // that the verdict does not show: of a disabled service
    let pause = (remembered.pause_note(wall)).filter(|_| verdict != Verdict::Paused);
    report.notes.extend(pause);
    Settled {
        report,
        entries,
        must_persist: has_changed || has_alerted,
    }
}

/// The end of a run for one service: what was seen, decided and done.
struct Ended<'a> {
    service: &'a Service,
    decision: &'a Decision,
    observation: Option<&'a Observation>,
    outcome: Option<&'a Outcome>,
    wall: DateTime<Utc>,
}

impl<'a> Ended<'a> {
    fn attempted(&self) -> Option<&'a Attempted> {
        match self.outcome {
            Some(Outcome::Attempted(attempted)) => Some(attempted),
            _ => None,
        }
    }

    /// What the run comes to, and why, where it is the outcome that says so. `before` is what the last run came to.
    fn verdict(&self, before: Option<Verdict>) -> (Verdict, Option<String>) {
        match self.outcome {
            Some(Outcome::Attempted(attempted)) => {
                let verdict = match (attempted.action.kind, attempted.action.ok) {
                    (Operation::Restart, true) => Verdict::Restarted,
                    (Operation::Restart, false) => Verdict::RestartFailed,
                    (Operation::Repair, true) => Verdict::Repaired,
                    (Operation::Repair, false) => Verdict::RepairFailed,
                    (Operation::Scale, true) => Verdict::Scaled,
                    (Operation::Scale, false) => Verdict::ScaleFailed,
                };
                (verdict, None)
            }
            Some(Outcome::Skipped(why)) => (Verdict::Waiting, Some(why.clone())),
            Some(Outcome::NoTime(why)) => {
                // what no run has the time for is not only late, and somebody has to know
                let verdict = match before {
                    Some(Verdict::Waiting | Verdict::Down) => Verdict::Down,
                    _ => Verdict::Waiting,
                };
                (verdict, Some(why.clone()))
            }
            Some(Outcome::Unfinished) => {
                let what = match self.decision.operation {
                    Some(Operation::Repair) => "repair",
                    _ => "restart",
                };
                let why = format!("its {what} had not ended when the run had to (run_timeout)");
                (Verdict::Unknown, Some(why))
            }
            None => (self.decision.verdict, None),
        }
    }

    /// What was seen and done, and what it came to.
    fn remember(&self, remembered: &mut ServiceState, verdict: Verdict) {
        let (service, decision, wall) = (self.service, self.decision, self.wall);
        if remembered.verdict != Some(verdict) {
            remembered.since = Some(wall);
        }
        remembered.verdict = Some(verdict);
        // an attempt has emptied the runs, and this one was its reason
        if let Some(failing) = decision.counts
            && !matches!(
                self.outcome,
                Some(Outcome::Attempted(_) | Outcome::Unfinished)
            )
        {
            remembered.count_run(failing, service.runs_kept());
        }
        remembered.consecutive_failures = match verdict {
            // what runs now is a new process, or a mended one, with a patience of its own
            Verdict::Restarted | Verdict::Repaired => 0,
            _ => decision.failures,
        };
        // of this run, or of one before that could not be taken up yet
        let is_interrupted = match self.outcome {
            Some(Outcome::Unfinished) => true,
            Some(Outcome::Attempted(_) | Outcome::Skipped(_) | Outcome::NoTime(_)) => false,
            None => remembered.interrupted_attempt.is_some(),
        };
        if let Some(observation) = self.observation {
            remember_seen(remembered, service, observation, is_interrupted);
        }
        if !is_interrupted {
            remembered.interrupted_attempt = None;
            remembered.recorded = None;
        }
        if let Some(attempted) = self.attempted() {
            remember_attempted(remembered, attempted, wall);
        }
        settle_order(remembered, self.observation, self.outcome, wall);
        if decision.spent == Some(Spent::GivenUp) {
            remembered.given_up.get_or_insert(wall);
        }
        if has_ended(verdict, self.observation, remembered, service, wall) {
            remembered.end_incident();
        }
        remembered.prune_strategies(wall, |id| service.strategy(id).is_some());
    }

    /// Begins the trouble of a service or ends it, and gives back the incident that this run was a part of, also where that has
    /// ended just now.
    fn settle_trouble(&self, remembered: &mut ServiceState, verdict: Verdict) -> Option<String> {
        let incident = remembered.incident.clone();
        match verdict {
            Verdict::Healthy => {
                remembered.trouble_since = None;
                // what breaks again before it is over is a part of it
                if remembered.incident_attempts == 0 {
                    remembered.incident = None;
                }
                remembered.attempt_codes.clear();
                remembered.recent_starts.clear();
                incident
            }
            Verdict::Starting | Verdict::Paused | Verdict::Disabled => incident,
            _ => {
                let began = *remembered.trouble_since.get_or_insert(self.wall);
                if remembered.incident.is_none() {
                    remembered.note_incident(self.wall);
                }
                let id = || incident_id(&self.service.name, began);
                Some(remembered.incident.get_or_insert_with(id).clone())
            }
        }
    }

    /// For those who read what a run says. `why` is the outcome's own reason.
    fn report(
        &self,
        remembered: &ServiceState,
        verdict: Verdict,
        why: Option<String>,
    ) -> ServiceReport {
        let (service, observation) = (self.service, self.observation);
        let why = why.or_else(|| self.decision.why.clone());
        let why = why.or_else(|| strategy_note(service, self.decision.strategy.as_deref()));
        let seen = observation
            .into_iter()
            .flat_map(|seen| seen.notes.iter().cloned());
        let action = self.attempted().map(|attempted| attempted.action.clone());
        ServiceReport {
            name: service.name.clone(),
            verdict,
            since: remembered.since,
            pid: match &action {
                Some(action) if action.kind == Operation::Restart => action.new_pid,
                _ => observation.and_then(Observation::pid),
            },
            findings: observation
                .map(|seen| seen.findings.clone())
                .unwrap_or_default(),
            action,
            restarts_last_hour: remembered.attempts_in_hour(self.wall),
            max_per_hour: service.policy.max_per_hour,
            usage: observation
                .map(|seen| service.figures(&seen.checks))
                .unwrap_or_default(),
            container: remembered
                .container
                .clone()
                .filter(|_| service.container.is_some()),
            notes: why.into_iter().chain(seen).collect(),
            would: self.decision.operation.filter(|_| self.outcome.is_none()),
        }
    }

    /// For the channels that are to know of it.
    fn alert(&self, remembered: &ServiceState, report: &ServiceReport, event: Event) -> Alert {
        let mut findings = report.findings.clone();
        sort_by_weight(&mut findings);
        let (spent, policy) = (self.decision.spent, &self.service.policy);
        Alert {
            findings,
            action: report.action.clone(),
            consecutive_failures: remembered.consecutive_failures,
            attempts: report.restarts_last_hour,
            max_per_hour: report.max_per_hour,
            log_tail: self
                .observation
                .map(|seen| seen.tail.lines())
                .unwrap_or_default(),
            notes: report.notes.clone(),
            same_finding: same_finding(remembered),
            next_attempt: match (spent, policy.on_exhausted) {
                (Some(Spent::Hour(frees)), _) => Some(frees),
                (Some(Spent::GivenUp | Spent::Incident(_)), _) | (None, OnExhausted::GiveUp) => {
                    None
                }
                (None, OnExhausted::Wait) => {
                    remembered.budget_frees_at(self.wall, policy.max_per_hour)
                }
            },
            max_attempts: match spent {
                Some(Spent::Incident(max)) => Some(max),
                _ => None,
            },
            ..Alert::new(self.wall, &self.service.name, event)
        }
    }

    /// For the journal.
    fn entries(&self, before: Option<Verdict>, report: &ServiceReport) -> Vec<Entry> {
        let mut entries = journalled(before, report, self.wall);
        if self.observation.is_some_and(|seen| seen.unsettled) {
            // well for the time being
            let recovered = entries.iter_mut();
            let recovered = recovered.filter(|it| it.event == JournalEvent::Recovered);
            recovered.for_each(|it| it.event = JournalEvent::Verdict(report.verdict));
        }
        // also one that is left running although its probes have failed
        let has_started = |action: &Action| action.ok || action.new_pid.is_some();
        if let Some(attempted) = self.attempted().filter(|it| has_started(&it.action)) {
            for entry in &mut entries {
                entry.started.clone_from(&attempted.subject.process.started);
                entry.wrapper.clone_from(&attempted.subject.process.wrapper);
            }
        }
        entries
    }
}

/// What a restart or a repair leaves in the state.
fn remember_attempted(remembered: &mut ServiceState, attempted: &Attempted, wall: DateTime<Utc>) {
    let action = &attempted.action;
    remembered.counted.count(action.kind, Some(action.ok));
    if action.ok && action.kind == Operation::Restart {
        let made = remembered.last_attempt().unwrap_or(wall).max(wall);
        let took = Duration::from_millis(action.duration_ms);
        remembered.record_good_restart(crate::clock::later(made, took));
    }
    remembered.process = attempted.subject.process.clone();
    if attempted.subject.unit.is_some() {
        remembered.unit.clone_from(&attempted.subject.unit);
    }
    if attempted.subject.container.is_some() {
        remembered
            .container
            .clone_from(&attempted.subject.container);
    }
    remembered.checks.extend(attempted.checks.clone());
}

/// Whether the incident that has attempts is over: nothing critical was found, what it was for does not go on, and the last
/// attempt is long enough ago to have shown what it was good for.
fn has_ended(
    verdict: Verdict,
    observation: Option<&Observation>,
    remembered: &ServiceState,
    service: &Service,
    now: DateTime<Utc>,
) -> bool {
    let is_critical = |finding: &Finding| finding.severity == Severity::Critical;
    let is_well = matches!(verdict, Verdict::Healthy | Verdict::Degraded)
        && observation
            .is_some_and(|seen| !seen.unsettled && !seen.findings.iter().any(is_critical));
    let has_shown = |last| crate::clock::age(now, last) >= service.start_grace;
    remembered.incident_attempts > 0 && is_well && remembered.last_attempt().is_none_or(has_shown)
}

/// The finding that every attempt of this trouble was made for, where there were several and it was always the
/// same: a sign that restarting does not help.
fn same_finding(remembered: &ServiceState) -> Option<String> {
    let (first, others) = remembered.attempt_codes.split_first()?;
    let code = first
        .iter()
        .find(|code| others.iter().all(|codes| codes.contains(code)))?;
    (!others.is_empty()).then(|| code.clone())
}

/// What a look at a service leaves in its state, whatever is decided; but what led to a restart that `is_interrupted`
/// may be evidence for the next one.
fn remember_seen(
    remembered: &mut ServiceState,
    service: &Service,
    observation: &Observation,
    is_interrupted: bool,
) {
    let young = |age| age < service.start_grace;
    if let ProcessStatus::Running(running) = &observation.process_status
        && young(running.age)
        && !remembered.recent_starts.contains(&running.main)
    {
        remembered.recent_starts.push(running.main.clone());
        let over = remembered.recent_starts.len().saturating_sub(STARTS_KEPT);
        remembered.recent_starts.drain(..over);
    }
    remembered.unit.clone_from(&observation.subject.unit);
    if observation.subject.container.is_some() {
        remembered
            .container
            .clone_from(&observation.subject.container);
    }
    if is_interrupted {
        return;
    }
    remembered.process = observation.subject.process.clone();
    remembered.checks = remembered.add_states_to(
        observation.checks.clone(),
        &service.checks,
        Some(&observation.process_status),
    );
    remembered.logs.clear();
}

/// What `status` and `why` will show of this run.
fn last_result(report: &ServiceReport, now: DateTime<Utc>) -> LastResult {
    LastResult {
        time: Some(now),
        pid: report.pid,
        findings: report.findings.clone(),
        action: report.action.clone().map(Box::new),
        notes: report.notes.clone(),
        max_per_hour: report.max_per_hour,
    }
}

/// What the journal says of a run: every change of the verdict, and every restart.
fn journalled(before: Option<Verdict>, report: &ServiceReport, now: DateTime<Utc>) -> Vec<Entry> {
    let verdict = report.verdict;
    let recovered =
        verdict == Verdict::Healthy && before.is_some_and(|before| before.exit_code().code() != 0);
    let first_and_well = before.is_none() && verdict.exit_code().code() == 0;
    if (before == Some(verdict) && report.action.is_none()) || first_and_well {
        return Vec::new();
    }
    let event = if recovered {
        JournalEvent::Recovered
    } else {
        JournalEvent::Verdict(verdict)
    };
    let mut entry = Entry::new(now, &report.name, event);
    entry.verdict = Some(verdict);
    entry.findings.clone_from(&report.findings);
    entry.action.clone_from(&report.action);
    entry.message = Some(report.notes.join("; ")).filter(|message| !message.is_empty());
    vec![entry]
}

#[cfg(test)]
mod tests;
