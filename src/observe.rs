//! Looking at all services: one snapshot of the processes, then every check side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::check::log::{self, Author};
use crate::check::process::{self, Identity, ProcessStatus, Target};
use crate::check::unit::{self, Manager};
use crate::check::{
    self, CheckState, CheckStates, Checked, Circumstances, Finding, Job, Kind, Looking,
    Observation, Presence, Rule, Runs, Slot, SubjectState, container,
};
use crate::clock::{self, Reading};
use crate::config::{Config, Service};
use crate::plan::Roster;
use crate::pool::{Failed, Pool};
use crate::process_table::{ProcessTable, scan_within};
use crate::restart::RestartMethod;
use crate::state::{ServiceState, State};

/// What a call of systemctl may take beyond its own limit: to be killed and collected.
const SYSTEMCTL_SLACK: Duration = Duration::from_secs(2);

/// How a service's process is known.
pub fn target(service: &Service) -> Target<'_> {
    Target {
        rule: service.process.as_ref(),
        started: service.method.as_ref().and_then(RestartMethod::started),
        has_other_checks: service.unit.is_some()
            || service.container.is_some()
            || (service.checks.iter()).any(|check| check.rule.shows_life()),
        may_have_started: false,
        by_command: false,
    }
}

/// The processes that the services are known to have: what belongs to one is not taken for another.
pub fn known_processes(state: &State) -> BTreeSet<Identity> {
    state
        .services
        .values()
        .flat_map(|service| [&service.process.main, &service.process.started])
        .flatten()
        .cloned()
        .collect()
}

/// Whether no other service is started by the same command, in the same directory and as the same user: then what runs
/// it can be no other service's.
fn is_alone_with_its_command(service: &Service, services: &[Arc<Service>]) -> bool {
    let Some(own) = target(service).started else {
        return false;
    };
    let is_same = |other: &&Arc<Service>| {
        target(other).started.is_some_and(|other| {
            (other.command, other.working_dir, other.user)
                == (own.command, own.working_dir, own.user)
        })
    };
    services.iter().filter(is_same).count() == 1
}

/// A service to be looked at.
#[derive(Clone, Copy)]
struct Subject<'a> {
    service: &'a Arc<Service>,
    known: &'a ServiceState,
    /// The time of this run.
    now: DateTime<Utc>,
}

impl Subject<'_> {
    /// Whether the watchdog has just tried to start it. Then a log that was just written shows nothing: it may be the
    /// last words of that very start.
    fn is_being_started(&self) -> bool {
        self.known.is_being_started(self.now)
    }

    /// A start that failed may have gone into the background, and come up after all.
    fn may_have_been_started(&self) -> bool {
        self.known.interrupted_attempt.is_some()
            || (self.service.process.is_none() && self.is_being_started())
    }
}

/// Looks at the services of `names`, until `deadline` at the most.
///
/// What waits for others begins at once, each kind in a thread of its own, beside all else.
pub fn observe(
    pool: &Pool,
    config: &Config,
    roster: &Roster,
    names: &BTreeSet<String>,
    state: &State,
    now: &Reading,
    deadline: Instant,
) -> BTreeMap<String, Observation> {
    let nothing = ServiceState::default();
    let subjects: Vec<Subject<'_>> = (roster.services.iter())
        .filter(|service| service.enabled && names.contains(&service.name))
        .map(|service| Subject {
            service,
            known: state.services.get(&service.name).unwrap_or(&nothing),
            now: now.wall,
        })
        .collect();
    let looking = Looking {
        pool,
        now,
        jumped_at: state.jumped_at,
        check_timeout: config.check_timeout,
        run_timeout: config.run_timeout,
        deadline,
    };
    // by kind, since each kind makes its own side by side
    let mut independent: BTreeMap<&str, Vec<Job>> = BTreeMap::new();
    for job in jobs(&subjects, &[], Rule::is_independent) {
        let kind = job.rule.kind_name();
        independent.entry(kind).or_default().push(job);
    }
    // in the order of the subjects
    let seen = thread::scope(|scope| {
        let looking = &looking;
        let begun: Vec<_> = (independent.into_iter())
            .map(|(name, jobs)| {
                let slots: Vec<(Slot, Kind)> = (jobs.iter())
                    .map(|job| (job.slot, job.rule.kind()))
                    .collect();
                let thread = thread::Builder::new()
                    .name(format!("{name} checks"))
                    .spawn_scoped(scope, move || check::look(jobs, looking));
                (slots, thread)
            })
            .collect();
        let asked = ask_engine(scope, &subjects, config, looking);
        let mut seen = look_at_processes(&subjects, config, state, looking);
        look_at_units(&subjects, config, looking, &mut seen);
        if let Some(asked) = asked {
            look_at_containers(&subjects, config, looking, asked, &mut seen);
        }
        let rest = jobs(&subjects, &seen, |rule| !rule.is_independent());
        add(&subjects, check::look(rest, looking), &mut seen);
        for (slots, thread) in begun {
            let answers = match thread {
                Err(_) => without_result(&subjects, slots, Failed::NoThread, looking),
                Ok(thread) => thread.join().unwrap_or_else(|_| {
                    without_result(&subjects, slots, Failed::Panicked, looking)
                }),
            };
            add(&subjects, answers, &mut seen);
        }
        seen
    });
    let names = subjects.iter().map(|subject| subject.service.name.clone());
    names.zip(seen).collect()
}

/// The checks to make, of the wanted rules. `seen` is what is known of their services by then.
fn jobs(
    subjects: &[Subject<'_>],
    seen: &[Observation],
    wanted: impl Fn(&Rule) -> bool,
) -> Vec<Job> {
    let mut jobs = Vec::new();
    for (place, subject) in subjects.iter().enumerate() {
        let checks = &subject.service.checks;
        if !checks.iter().any(|check| wanted(&check.rule)) {
            continue;
        }
        let observation = seen.get(place);
        let process_status = observation.map(|seen| &seen.process_status);
        let circumstances = Circumstances {
            author: author(process_status, subject.known),
            // else they are shown only if something is wrong with the log itself
            shown: observation.is_some_and(|seen| !seen.findings.is_empty())
                || subject.known.incident.is_some()
                || checks.len() > 1,
            runs: None,
        };
        // only for those that ask, and once for all of them
        let asks = checks.iter().any(|check| check.rule.asks_what_runs());
        let runs = observation.filter(|_| asks).map(|seen| {
            Arc::new(Runs {
                process_status: seen.process_status.clone(),
                control_group: seen.control_group.clone(),
            })
        });
        for (number, check) in checks.iter().enumerate() {
            if wanted(&check.rule) {
                jobs.push(Job {
                    slot: (place, number),
                    rule: check.rule.clone(),
                    state: subject.known.state_of(check, process_status),
                    circumstances: Circumstances {
                        runs: runs.clone().filter(|_| check.rule.asks_what_runs()),
                        ..circumstances.clone()
                    },
                });
            }
        }
    }
    jobs
}

/// Adds what checks came to, to what is known of their services.
fn add(
    subjects: &[Subject<'_>],
    mut checked: Vec<(Slot, Checked<CheckState>)>,
    seen: &mut [Observation],
) {
    checked.sort_by_key(|(slot, _)| *slot);
    // several checks may have one target: its last lines are shown once, and what both of them note
    let mut shown = BTreeSet::new();
    for ((place, number), checked) in checked {
        let check = &subjects[place].service.checks[number];
        let observation = &mut seen[place];
        // the missing process is the finding
        if check.rule.is_probe() && observation.process_status == ProcessStatus::NotRunning {
            continue;
        }
        observation
            .findings
            .extend(checked.findings.into_iter().map(|finding| Finding {
                id: check.id.clone(),
                ..finding
            }));
        for note in checked.notes {
            if !observation.notes.contains(&note) {
                observation.notes.push(note);
            }
        }
        if !checked.tail.is_empty() && shown.insert((place, check.rule.target())) {
            observation.tail.append(checked.tail);
        }
        observation.consumed |= checked.consumed;
        if let Some(state) = checked.state {
            observation.checks.insert(check.id.clone(), state);
        }
    }
}

/// What checks come to that were not made.
fn without_result(
    subjects: &[Subject<'_>],
    slots: Vec<(Slot, Kind)>,
    failed: Failed,
    looking: &Looking<'_>,
) -> Vec<(Slot, Checked<CheckState>)> {
    let checked = slots.into_iter().map(|((place, number), kind)| {
        let target = subjects[place].service.checks[number].rule.target();
        let findings = vec![looking.given_up(kind, &target, failed)];
        let checked = Checked {
            findings,
            ..Checked::default()
        };
        ((place, number), checked)
    });
    checked.collect()
}

fn look_at_processes(
    subjects: &[Subject<'_>],
    config: &Config,
    state: &State,
    looking: &Looking<'_>,
) -> Vec<Observation> {
    let (pool, now, deadline) = (looking.pool, looking.now, looking.deadline);
    let needs_scan: Vec<bool> = subjects
        .iter()
        .map(|subject| {
            let target = Target {
                may_have_started: subject.may_have_been_started(),
                ..target(subject.service)
            };
            process::needs_scan(&target, &subject.known.process, now)
        })
        .collect();
    let on_demand = Arc::new(ProcessTable::on_demand());
    let scan = || {
        let scanned = scan_within(config.check_timeout, |scan, limit| {
            let mut results = pool.side_by_side(vec![scan], limit, deadline, |scan| scan.run());
            results.pop().unwrap_or(Err(Failed::NoThread))
        });
        scanned.map(Arc::new)
    };
    // a hang in the kernel costs only those services that need to know all processes
    let mut scanned = needs_scan.contains(&true).then(scan);
    let known = Arc::new(known_processes(state));
    let look = |places: &[usize], table: &dyn Fn(usize) -> Arc<ProcessTable>, by_command| {
        let work = places.iter().map(|&place| {
            let subject = &subjects[place];
            (
                Arc::clone(subject.service),
                table(place),
                subject.known.process.clone(),
                subject.is_being_started(),
                subject.may_have_been_started(),
            )
        });
        let (time, known) = (now.clone(), Arc::clone(&known));
        pool.side_by_side(
            work.collect(),
            config.check_timeout,
            deadline,
            move |(service, table, last_seen, being_started, may_have_started)| {
                let mut target = target(&service);
                target.has_other_checks &= !being_started;
                target.may_have_started = may_have_started;
                target.by_command = by_command;
                process::look(&target, &last_seen, &table, &time, &known)
            },
        )
    };
    let failed = match &scanned {
        Some(Err(failed)) => *failed,
        _ => Failed::NoThread,
    };
    let mut results: Vec<_> = subjects.iter().map(|_| Err(failed)).collect();
    let is_looked_at = |place: &usize| !needs_scan[*place] || !matches!(scanned, Some(Err(_)));
    let places: Vec<usize> = (0..subjects.len()).filter(is_looked_at).collect();
    let table = |_| match &scanned {
        Some(Ok(table)) => Arc::clone(table),
        _ => Arc::clone(&on_demand),
    };
    let looked = look(&places, &table, false);
    for (place, result) in places.into_iter().zip(looked) {
        results[place] = result;
    }
    // what is gone may have been started by hand, by the very command that would be started now
    let is_gone = |place: &usize| {
        let gone = matches!(&results[*place], Ok(seen) if seen.process_status == ProcessStatus::NotRunning);
        gone && is_alone_with_its_command(subjects[*place].service, &config.services)
    };
    let gone: Vec<usize> = (0..subjects.len()).filter(is_gone).collect();
    if !gone.is_empty()
        && let Ok(table) = scanned.get_or_insert_with(scan)
    {
        let looked = look(&gone, &|_| Arc::clone(table), true);
        for (place, result) in gone.into_iter().zip(looked) {
            if matches!(&result, Ok(seen) if matches!(seen.process_status, ProcessStatus::Running(_)))
            {
                results[place] = result;
            }
        }
    }
    subjects
        .iter()
        .zip(results)
        .map(|(subject, result)| {
            let seen = result.unwrap_or_else(|failed| process::Seen {
                findings: vec![looking.given_up(Kind::Process, "its process", failed)],
                notes: Vec::new(),
                process_status: ProcessStatus::Unknown,
                last_seen: subject.known.process.clone(),
            });
            Observation {
                findings: seen.findings,
                notes: seen.notes,
                process_status: seen.process_status,
                activating: None,
                left_alone: None,
                control_group: None,
                subject: SubjectState {
                    process: seen.last_seen,
                    unit: None,
                    container: None,
                },
                checks: CheckStates::default(),
                tail: log::Tail::default(),
                consumed: false,
            }
        })
        .collect()
}

/// Asks each systemd once for all of its units, and looks at their main processes.
fn look_at_units(
    subjects: &[Subject<'_>],
    config: &Config,
    looking: &Looking<'_>,
    seen: &mut [Observation],
) {
    let (pool, now, deadline) = (looking.pool, looking.now, looking.deadline);
    let mut units: BTreeMap<Manager, BTreeSet<String>> = BTreeMap::new();
    for unit in subjects
        .iter()
        .filter_map(|subject| subject.service.unit.as_ref())
    {
        units
            .entry(unit.manager)
            .or_default()
            .insert(unit.unit.clone());
    }
    let managers: Vec<Manager> = units.keys().copied().collect();
    let limit = config.check_timeout;
    let answers = pool.side_by_side(
        units.into_iter().collect(),
        limit + SYSTEMCTL_SLACK,
        deadline,
        move |(manager, units): (Manager, BTreeSet<String>)| {
            unit::look(manager, &units.into_iter().collect::<Vec<_>>(), limit)
        },
    );
    let answers: BTreeMap<_, _> = managers.into_iter().zip(answers).collect();
    // whose they are, and what to look at
    let (mut whose, mut mains) = (Vec::new(), Vec::new());
    for (place, (subject, observation)) in subjects.iter().zip(&mut *seen).enumerate() {
        let Some(unit) = &subject.service.unit else {
            continue;
        };
        let last_seen = subject.known.unit.as_ref();
        let answer = answers.get(&unit.manager);
        let judged = match answer.unwrap_or(&Err(Failed::NoThread)) {
            Ok(Ok(statuses)) => unit::judge(
                unit,
                statuses.get(&unit.unit),
                last_seen,
                now,
                config.check_timeout,
            ),
            Ok(Err(why)) => unit::unreachable(unit, last_seen, why),
            Err(failed) => unit::unreachable(unit, last_seen, &unanswered(*failed, config)),
        };
        observation.findings.extend(judged.findings.iter().cloned());
        // a process table of its own says more than systemd does
        if subject.service.process.is_none() {
            match judged.standing {
                Presence::Up(Some(pid)) => {
                    whose.push(place);
                    mains.push((pid, observation.subject.process.clone()));
                }
                Presence::Up(None) => {}
                Presence::Down => observation.process_status = ProcessStatus::NotRunning,
                Presence::Unseen => observation.process_status = ProcessStatus::Unknown,
            }
        }
        observation.activating = judged.activating;
        observation.left_alone = judged.left_alone;
        observation.control_group = judged.control_group;
        observation.subject.unit = judged.last_seen;
    }
    look_at_mains(whose, mains, config, looking, seen);
}

/// Begins to ask the engine for all containers, where a service is one.
fn ask_engine<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    subjects: &[Subject<'_>],
    config: &'scope Config,
    looking: &Looking<'_>,
) -> Option<Asked<'scope>> {
    let services = subjects.iter().map(|subject| Arc::clone(subject.service));
    let services: Vec<Arc<Service>> = services.filter(|it| it.container.is_some()).collect();
    let deadline = looking.deadline;
    (!services.is_empty()).then(|| {
        thread::Builder::new()
            .name("containers".to_owned())
            .spawn_scoped(scope, move || {
                let rules = services.iter().filter_map(|it| it.container.as_ref());
                container::ask(&config.containers, &rules.collect::<Vec<_>>(), deadline)
            })
    })
}

/// An engine that is being asked.
type Asked<'scope> =
    std::io::Result<thread::ScopedJoinHandle<'scope, Result<container::Answer, String>>>;

/// Judges what the engine said of each container, and looks at their main processes.
fn look_at_containers(
    subjects: &[Subject<'_>],
    config: &Config,
    looking: &Looking<'_>,
    asked: Asked<'_>,
    seen: &mut [Observation],
) {
    let answer = match asked.map(thread::ScopedJoinHandle::join) {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(unanswered(Failed::Panicked, config)),
        Err(_) => Err(unanswered(Failed::NoThread, config)),
    };
    let (mut whose, mut mains) = (Vec::new(), Vec::new());
    for (place, (subject, observation)) in subjects.iter().zip(&mut *seen).enumerate() {
        let Some(rule) = &subject.service.container else {
            continue;
        };
        let last_seen = subject.known.container.as_deref();
        let judged = match &answer {
            Ok(answer) => container::judge(
                rule,
                answer,
                last_seen,
                looking.now.wall,
                subject.service.start_grace,
                container::is_process_of,
            ),
            Err(why) => container::unreachable(why),
        };
        observation.findings.extend(judged.findings);
        observation.notes.extend(judged.notes);
        // a process table of its own says more than the engine does
        if subject.service.process.is_none() {
            match judged.presence {
                Presence::Up(Some(pid)) => {
                    whose.push(place);
                    mains.push((pid, observation.subject.process.clone()));
                }
                Presence::Up(None) => {}
                Presence::Down => observation.process_status = ProcessStatus::NotRunning,
                Presence::Unseen => observation.process_status = ProcessStatus::Unknown,
            }
        }
        observation.activating = judged.activating;
        // a command may make it anew
        let by_command = (subject.service.method.as_ref()).is_some_and(RestartMethod::has_command);
        observation.left_alone = judged.left_alone.filter(|_| !by_command);
        observation.subject.container = judged.last_seen;
    }
    look_at_mains(whose, mains, config, looking, seen);
}

/// Looks at the main processes of the services at these places, as systemd or an engine names them.
fn look_at_mains(
    whose: Vec<usize>,
    mains: Vec<(i32, process::LastSeen)>,
    config: &Config,
    looking: &Looking<'_>,
    seen: &mut [Observation],
) {
    let time = looking.now.clone();
    let results = looking.pool.side_by_side(
        mains,
        config.check_timeout,
        looking.deadline,
        move |(pid, last_seen)| process::look_at(pid, &last_seen, &time),
    );
    for (place, result) in whose.into_iter().zip(results) {
        let observation = &mut seen[place];
        match result {
            Ok(Some(main)) => {
                observation.findings.extend(main.findings);
                observation.process_status = main.process_status;
                observation.subject.process = main.last_seen;
            }
            Ok(None) => {}
            Err(failed) => {
                let finding = looking.given_up(Kind::Process, "its process", failed);
                observation.findings.push(finding);
                observation.process_status = ProcessStatus::Unknown;
            }
        }
    }
}

/// Who wrote what is new in a service's logs: the present process, if it is the one that ran at the last look,
/// or if the service has none that could be known.
fn author(process_status: Option<&ProcessStatus>, known: &ServiceState) -> Author {
    match process_status {
        Some(ProcessStatus::NotApplicable) => Author::Present,
        Some(ProcessStatus::Running(running))
            if known.process.main.as_ref() == Some(&running.main) =>
        {
            Author::Present
        }
        _ => Author::Perhaps,
    }
}

/// Why a systemd has not said anything.
fn unanswered(failed: Failed, config: &Config) -> String {
    match failed {
        Failed::TimedOut => format!("no answer within {}", clock::rough(config.check_timeout)),
        Failed::OutOfTime => format!(
            "no answer before the run had to end (run_timeout {})",
            clock::rough(config.run_timeout)
        ),
        Failed::NoThread => "cannot create a thread (ulimit -u, TasksMax=)".to_owned(),
        Failed::Panicked => "internal error (bug); please report it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::check::Severity;
    use crate::config::{self, Environment};

    #[test]
    fn what_ended_a_look_is_said_with_the_figure_of_that_limit() {
        let text = "check_timeout = \"10s\"\nrun_timeout = \"3s\"\n[service.a]\nspawn = { command = [\"true\"] }\n";
        let config = config::parse(text, Path::new("/w.toml"), &Environment::default()).unwrap();
        for (failed, look, answer) in [
            (
                Failed::TimedOut,
                "a.log: check timed out after 10s (a dead disk or network share?)",
                "no answer within 10s",
            ),
            (
                Failed::OutOfTime,
                "a.log: check not done when the run had to end (run_timeout 3s)",
                "no answer before the run had to end (run_timeout 3s)",
            ),
            (
                Failed::NoThread,
                "a.log: check not done: cannot create a thread (ulimit -u, TasksMax=)",
                "cannot create a thread (ulimit -u, TasksMax=)",
            ),
            (
                Failed::Panicked,
                "a.log: internal error (bug); please report it",
                "internal error (bug); please report it",
            ),
        ] {
            let (pool, now) = (Pool::new(), Reading::take());
            let looking = Looking {
                pool: &pool,
                now: &now,
                jumped_at: None,
                check_timeout: config.check_timeout,
                run_timeout: config.run_timeout,
                deadline: Instant::now(),
            };
            let finding = looking.given_up(Kind::Log, "a.log", failed);
            assert_eq!(finding.message, look);
            assert_eq!(finding.severity, Severity::Unknown);
            assert_eq!(unanswered(failed, &config), answer);
        }
    }
}
