//! Carrying out decisions: record the attempt, restart, and start those whose dependencies came up.
//!
//! Restarts run side by side, each in a thread of its own, so that one slow stop delays no other. A service
//! begins once all that it depends on have come up, and its attempt is recorded, on the disk, just before.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::check::log::Logs;
use crate::check::process::{LastSeen, ProcessStatus};
use crate::check::{CheckId, CheckStates, Observation, Severity, SubjectState};
use crate::clock::{exact, later};
use crate::config::{Remedy, Service};
use crate::decide::Decision;
use crate::files::FileId;
use crate::observe::{known_processes, target};
use crate::plan::Roster;
use crate::process_table::SharedSnapshots;
use crate::progress::{Progress, TICK};
use crate::restart::command::output_file;
use crate::restart::evidence;
use crate::restart::repair::Repair;
use crate::restart::stop::OPEN_LIMIT;
use crate::restart::{
    Action, Asking, Attempted, MethodName, Operation, RestartContext, RestartMethod,
};
use crate::settle::{Outcome, critical_codes, record_attempt};
use crate::state::State;
use crate::state::journal::{self, Entry};
use crate::state::store::{Store, StoreError};

/// Restarts at the same time, at the most.
const AT_ONCE: usize = 64;

/// The descriptors that a restart may have open beside the handles of its processes: pipes, the files of the program.
const DESCRIPTORS_EACH: u64 = 8;

/// The descriptors that are left to all else.
const DESCRIPTORS_KEPT: u64 = 32;

/// How many descriptors restarts may have open together: one that fails for want of them has cost an attempt.
fn descriptors() -> u64 {
    use nix::sys::resource::{Resource, getrlimit};
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(limit, _)| limit);
    limit.saturating_sub(DESCRIPTORS_KEPT)
}

/// How many descriptors a restart may have open: one for each process of the service while it is stopped.
fn needs(observation: Option<&Observation>) -> u64 {
    let open = match observation.map(|seen| &seen.process_status) {
        Some(ProcessStatus::Running(running)) => running.all.len().min(OPEN_LIMIT),
        _ => 0,
    };
    DESCRIPTORS_EACH + open as u64
}

/// What acting needs beside the decisions.
#[derive(Debug)]
pub struct ActContext<'a> {
    /// The services of the run.
    pub roster: &'a Roster,
    /// Where attempts are recorded.
    pub store: &'a Store,
    /// The lock that this run holds.
    pub lock: &'a FileId,
    /// What was seen.
    pub seen: &'a BTreeMap<String, Observation>,
    /// The services that a run before was cut short over.
    pub interrupted: &'a BTreeSet<String>,
    /// When the run began, by the wall clock.
    pub now: DateTime<Utc>,
    /// The same by the clock that nobody sets.
    pub began: Instant,
    /// When the run has to end, and what checks may take that are asked again.
    pub asking: Asking,
    /// Whether somebody watches who would wonder about long waits.
    pub watched: bool,
}

/// What acting came to.
#[derive(Debug, Default)]
pub struct Acted {
    /// What came of each restart that was due.
    pub outcomes: BTreeMap<String, Outcome>,
    /// Why the state could not be written: then nothing more was restarted.
    pub unwritable: Option<StoreError>,
}

impl ActContext<'_> {
    /// What the wall clock would show now, had nobody set it during the run: budget and cooldown count from when an attempt
    /// is made, which may be minutes after the run has begun.
    fn time(&self) -> DateTime<Utc> {
        later(self.now, self.began.elapsed())
    }

    /// How long the run may still take.
    fn left(&self) -> Duration {
        self.asking
            .run_ends
            .saturating_duration_since(Instant::now())
    }

    /// So much time has to be left for a restart or a repair to begin: one that is cut off between stop and start leaves
    /// the service down, and its attempt is spent. Half of a run always is enough, or a config that gives more time to a
    /// stop than to the run would never see a restart.
    fn needed(&self, (service, decision): Due<'_>) -> Duration {
        let needed = if let Some((repair, _)) = repair_of(service, decision) {
            repair.timeout
        } else {
            let seen = self.seen.get(&service.name).map(|it| &it.process_status);
            let stops = matches!(seen, Some(ProcessStatus::Running(_)));
            let stop = stops.then_some(service.limits.stop_timeout);
            stop.unwrap_or_default()
                .saturating_add(service.limits.settle)
        };
        needed.min(self.asking.run_timeout / 2)
    }
}

impl Acted {
    /// Whether a restart or repair goes on that the run could not wait for.
    pub fn is_unfinished(&self) -> bool {
        let mut outcomes = self.outcomes.values();
        outcomes.any(|outcome| matches!(outcome, Outcome::Unfinished))
    }
}

/// What is done to a service, as a participle.
fn done(decision: &Decision) -> &'static str {
    match decision.operation {
        Some(Operation::Repair) => "repaired",
        _ => "restarted",
    }
}

/// A service, and what was decided about it.
type Due<'a> = (&'a Arc<Service>, &'a Decision);

/// Carries out all restarts and repairs that are due.
pub fn act(context: &ActContext<'_>, decisions: &[Decision], state: &mut State) -> Acted {
    let mut waiting: Vec<Due<'_>> = decisions
        .iter()
        .filter_map(|decision| {
            // first of all, for there seldom is one
            decision.operation?;
            let service = context.roster.service(&decision.service)?;
            Some((service, decision))
        })
        .collect();
    let mut acted = Acted::default();
    let mut under_way = Vec::new();
    let (report, reports) = channel();
    let snapshots = Arc::new(SharedSnapshots::default());
    let descriptors = descriptors();
    loop {
        skip_dependents(&mut waiting, &mut acted);
        let mut ready = Vec::new();
        let mut used: u64 = under_way
            .iter()
            .map(|(name, _)| needs(context.seen.get(name)))
            .sum();
        waiting.retain(|&(service, decision)| {
            let needs = needs(context.seen.get(&service.name));
            let count = under_way.len() + ready.len();
            // one alone begins in any case
            let free = count == 0 || (count < AT_ONCE && used + needs <= descriptors);
            let begins = free
                && decision.after.iter().all(|name| came_up(name, &acted))
                && context.needed((service, decision)) <= context.left();
            if begins {
                used += needs;
                ready.push((service, decision));
            }
            !begins
        });
        begin(
            context,
            &ready,
            state,
            &mut acted,
            &mut under_way,
            (&snapshots, &report),
        );
        if under_way.is_empty() {
            break;
        }
        let left = context.left();
        let limit = if context.watched {
            left.min(TICK)
        } else {
            left
        };
        match reports.recv_timeout(limit) {
            // those that have ended meanwhile too: what follows them is recorded in one write
            Ok(first) => {
                for (name, attempted) in std::iter::once(first).chain(reports.try_iter()) {
                    under_way.retain(|(other, _)| other != &name);
                    let outcome = match attempted.unmade {
                        Some(why) => Outcome::Skipped(why),
                        None => Outcome::Attempted(Box::new(attempted)),
                    };
                    acted.outcomes.insert(name, outcome);
                }
            }
            Err(RecvTimeoutError::Timeout) if limit < left => {
                for (_, progress) in &mut under_way {
                    progress.tick();
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    for (name, _) in under_way {
        acted.outcomes.insert(name, Outcome::Unfinished);
    }
    for (service, decision) in waiting {
        let limit = exact(context.asking.run_timeout);
        let not_done = format!("not {}, because", done(decision));
        let outcome = match &acted.unwritable {
            Some(_) => Outcome::Skipped(format!("{not_done} the state cannot be written")),
            None => Outcome::NoTime(format!(
                "{not_done} the run had too little time left for it (run_timeout = {limit}); raise run_timeout, or see what takes so long"
            )),
        };
        acted.outcomes.insert(service.name.clone(), outcome);
    }
    acted
}

fn came_up(name: &str, acted: &Acted) -> bool {
    matches!(acted.outcomes.get(name), Some(Outcome::Attempted(attempted)) if attempted.action.ok)
}

/// Takes out those that wait for a service that did not come up, and those that wait for them.
fn skip_dependents(waiting: &mut Vec<Due<'_>>, acted: &mut Acted) {
    loop {
        let before = waiting.len();
        waiting.retain(|(service, decision)| {
            let failed = (decision.after.iter())
                .find(|name| acted.outcomes.contains_key(*name) && !came_up(name, acted));
            if let Some(name) = failed {
                let why = format!("waits for `{name}`, which did not come up");
                acted
                    .outcomes
                    .insert(service.name.clone(), Outcome::Skipped(why));
            }
            failed.is_none()
        });
        if waiting.len() == before {
            return;
        }
    }
}

/// Records the attempts of services, all of them in one write, and then starts their restarts.
fn begin(
    context: &ActContext<'_>,
    ready: &[Due<'_>],
    state: &mut State,
    acted: &mut Acted,
    under_way: &mut Vec<(String, Progress)>,
    (snapshots, report): (&Arc<SharedSnapshots>, &Sender<(String, Attempted)>),
) {
    if ready.is_empty() {
        return;
    }
    let skip = |acted: &mut Acted| {
        for (service, decision) in ready {
            let why = format!(
                "not {}, because the state cannot be written",
                done(decision)
            );
            acted
                .outcomes
                .insert(service.name.clone(), Outcome::Skipped(why));
        }
    };
    if acted.unwritable.is_some() {
        skip(acted);
        return;
    }
    if !context.lock.holds() {
        skip(acted);
        let path = context.lock.path.clone();
        acted.unwritable = Some(StoreError::Unlocked { path });
        return;
    }
    let at = context.time();
    let mut recorded = state.clone();
    let entries: Vec<Entry> = ready
        .iter()
        .filter_map(|(service, decision)| {
            let observation = context.seen.get(&service.name)?;
            Some(record_attempt(
                &mut recorded,
                service,
                decision,
                observation,
                at,
            ))
        })
        .collect();
    if let Err(error) = context.store.save_twice(&mut recorded) {
        skip(acted);
        // the first of the two may be on the disk: as nothing was done, no run was cut short
        let _ = context.store.save(state);
        acted.unwritable = Some(error);
        return;
    }
    *state = recorded;
    journal::append_or_warn(context.store.dir(), &entries);
    for &(service, decision) in ready {
        if run_beside(
            context,
            (service, decision),
            state,
            Arc::clone(snapshots),
            report.clone(),
        ) {
            let old = context
                .seen
                .get(&service.name)
                .and_then(|seen| match &seen.process_status {
                    ProcessStatus::Running(running) => Some(running.main.clone()),
                    _ => None,
                });
            let progress = match repair_of(service, decision) {
                Some((repair, _)) => Progress::of_repair(&service.name, repair.timeout),
                None => Progress::new(&service.name, &service.limits, old),
            };
            under_way.push((service.name.clone(), progress));
        } else {
            let what = match decision.operation {
                Some(Operation::Repair) => "repair",
                _ => "restart",
            };
            let why = format!("no thread could be made for its {what}; the attempt counts");
            acted
                .outcomes
                .insert(service.name.clone(), Outcome::Skipped(why));
        }
    }
}

/// The repair that was decided on, and the codes of the findings that it is for.
fn repair_of<'a>(service: &'a Service, decision: &Decision) -> Option<(&'a Repair, &'a [String])> {
    let strategy = service.strategy(decision.strategy.as_deref()?)?;
    match &strategy.remedy {
        Remedy::Repair(repair) => Some((repair, &strategy.findings)),
        Remedy::Restart | Remedy::Alert => None,
    }
}

/// The checks that found something critical of these codes.
fn reasons(observation: &Observation, codes: &[String]) -> Vec<CheckId> {
    let findings = observation.findings.iter();
    let critical = findings.filter(|finding| finding.severity == Severity::Critical);
    critical
        .filter(|finding| codes.iter().any(|code| *code == finding.code))
        .map(|finding| finding.id.clone())
        .collect()
}

/// Starts one restart or repair in a thread of its own. Returns whether it began.
fn run_beside(
    context: &ActContext<'_>,
    (service, decision): Due<'_>,
    state: &State,
    snapshots: Arc<SharedSnapshots>,
    report: Sender<(String, Attempted)>,
) -> bool {
    let service = Arc::clone(service);
    let name = service.name.clone();
    let taken = known_processes(&context.roster.services, state);
    let (last_seen, running) = match context.seen.get(&name) {
        Some(observation) => (
            observation.subject.process.clone(),
            match &observation.process_status {
                ProcessStatus::Running(running) => Some(running.clone()),
                _ => None,
            },
        ),
        None => return false,
    };
    let container = context.seen.get(&name);
    let container = container.and_then(|seen| seen.subject.container.clone());
    let states = state
        .services
        .get(&name)
        .and_then(|known| Some(known.recorded.as_ref()?.checks.clone()))
        .unwrap_or_default();
    let output = output_file(context.store.dir(), &name);
    let interrupted = context.interrupted.contains(&name);
    let asking = context.asking;
    let decision = decision.clone();
    let observation = context.seen.get(&name);
    let reasons = match (repair_of(&service, &decision), observation) {
        (Some((_, codes)), Some(observation)) => reasons(observation, codes),
        _ => Vec::new(),
    };
    let codes = match observation {
        Some(observation) if !decision.requested => critical_codes(observation),
        _ => Vec::new(),
    };
    let lock = context.lock.clone();
    let evidence = observation.and_then(|seen| {
        let is_repair = decision.operation == Some(Operation::Repair);
        (service.evidence.enabled && !is_repair)
            .then(|| evidence_of(&service, seen, context.store.dir()))
    });
    thread::Builder::new()
        .name("restart".to_owned())
        .spawn(move || {
            let context = RestartContext {
                service: &name,
                limits: &service.limits,
                target: target(&service),
                last_seen,
                running,
                codes,
                container,
                checks: &service.checks,
                states,
                taken,
                snapshots: &snapshots,
                output,
                interrupted,
                lock,
                start_grace: service.start_grace,
                asking,
                evidence,
            };
            // a fault of this program must not leave the run waiting for word of it
            let attempted = catch_unwind(AssertUnwindSafe(|| {
                match (repair_of(&service, &decision), &service.method) {
                    (Some((repair, _)), _) => repair.make(&context, &reasons),
                    (None, Some(method)) => method.restart(&context),
                    // nothing is decided that there is no way to do
                    (None, None) => failed_inside(&service, &decision, &context.last_seen),
                }
            }))
            .unwrap_or_else(|_| failed_inside(&service, &decision, &context.last_seen));
            let _ = report.send((name.clone(), attempted));
        })
        .is_ok()
}

/// What is to be recorded of what runs of a service.
fn evidence_of(service: &Service, seen: &Observation, state_dir: &Path) -> evidence::Request {
    evidence::Request {
        settings: service.evidence.clone(),
        state_dir: state_dir.to_owned(),
        working_dir: service.working_dir.to_path_buf(),
        findings: seen.findings.clone(),
        log_tail: seen.tail.lines(),
        logs: (service.rules::<Logs>())
            .filter(|rule| !rule.journal && !rule.container)
            .map(|rule| rule.path.clone())
            .collect(),
        figures: service.figures(&seen.checks),
    }
}

fn failed_inside(service: &Service, decision: &Decision, last_seen: &LastSeen) -> Attempted {
    let kind = decision.operation.unwrap_or(Operation::Restart);
    let method = (service.method.as_ref()).filter(|_| kind == Operation::Restart);
    Attempted {
        action: Action {
            kind,
            method: method.map_or(MethodName::Command, RestartMethod::name),
            ok: false,
            old_pid: None,
            new_pid: None,
            duration_ms: 0,
            error: Some(format!(
                "internal error (bug) while it was {}; please report it",
                done(decision)
            )),
            stderr: Vec::new(),
            pending: Vec::new(),
            evidence: None,
            facts: Vec::new(),
            from: None,
            to: None,
        },
        subject: SubjectState {
            process: last_seen.clone(),
            unit: None,
            container: None,
        },
        checks: CheckStates::default(),
        unanswered: None,
        unmade: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{gone, service, up};
    use crate::verdict::Verdict;

    #[test]
    fn each_process_that_is_stopped_takes_a_descriptor_up_to_a_limit() {
        assert_eq!(needs(None), DESCRIPTORS_EACH);
        assert_eq!(needs(Some(&gone())), DESCRIPTORS_EACH);
        for (processes, open) in [(1, 1), (100, 100), (5000, OPEN_LIMIT)] {
            let mut seen = up(1, 3600);
            if let ProcessStatus::Running(running) = &mut seen.process_status {
                running.all = vec![running.main.clone(); processes];
            }
            assert_eq!(needs(Some(&seen)), DESCRIPTORS_EACH + open as u64);
        }
    }

    #[test]
    fn a_fault_of_this_program_is_a_failed_restart_that_says_so() {
        let decision = Decision::of("a", Verdict::Failing);
        let attempted = failed_inside(&service("a"), &decision, &LastSeen::default());
        assert!(!attempted.action.ok);
        assert_eq!(attempted.action.method, MethodName::Command);
        assert_eq!(
            attempted.action.error.as_deref(),
            Some("internal error (bug) while it was restarted; please report it")
        );
    }
}
