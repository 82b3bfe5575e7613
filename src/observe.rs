//! Looking at all services: one glance at the processes, then every check side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::check::log::{self, Author, Context};
use crate::check::process::{self, Identity, Presence, Started, Target};
use crate::check::unit::{self, Manager, Standing};
use crate::check::{Finding, Kind, Observation, Severity, TIMED_OUT};
use crate::clock::{self, Reading};
use crate::config::{Config, Service};
use crate::memory::{Memory, ServiceMemory};
use crate::pool::{Failed, Pool};
use crate::restart::Way;
use crate::world::World;

/// What a call of systemctl may take beyond its own limit: to be killed and collected.
const SYSTEMCTL_SLACK: Duration = Duration::from_secs(2);

/// How a service's process is known.
pub fn target(service: &Service) -> Target<'_> {
    Target {
        rule: service.process.as_ref(),
        started: match &service.way {
            Some(Way::Spawn(spawn)) => Some(Started {
                command: &spawn.command,
                working_dir: &spawn.working_dir,
                user: spawn.user.as_deref(),
            }),
            _ => None,
        },
        has_other_checks: !service.logs.is_empty() || service.unit.is_some(),
        perhaps_started: false,
    }
}

/// The processes that the services are known to have: what belongs to one is not taken for another.
pub fn known_processes(memory: &Memory) -> BTreeSet<Identity> {
    memory
        .services
        .values()
        .filter_map(|service| service.process.main.clone())
        .collect()
}

/// A service to be looked at.
#[derive(Clone, Copy)]
struct Subject<'a> {
    /// Where it stands in the config.
    index: usize,
    service: &'a Service,
    known: &'a ServiceMemory,
}

impl Subject<'_> {
    /// Whether the watchdog has tried to start it in its present trouble. Then a log that was just written shows nothing:
    /// it may be the last words of that very start.
    fn is_being_started(&self) -> bool {
        !self.known.attempt_codes.is_empty()
    }

    /// A start that failed may have gone into the background, and come up after all.
    fn is_perhaps_started(&self) -> bool {
        self.known.unfinished.is_some()
            || (self.service.process.is_none() && self.is_being_started())
    }
}

/// Looks at the services of `names`, until `deadline` at the most.
pub fn observe(
    pool: &Pool,
    config: &Arc<Config>,
    names: &BTreeSet<String>,
    memory: &Memory,
    now: &Reading,
    deadline: Instant,
) -> BTreeMap<String, Observation> {
    let nothing = ServiceMemory::default();
    let subjects: Vec<Subject<'_>> = (config.services.iter().enumerate())
        .filter(|(_, service)| service.enabled && names.contains(&service.name))
        .map(|(index, service)| Subject {
            index,
            service,
            known: memory.services.get(&service.name).unwrap_or(&nothing),
        })
        .collect();
    // in the order of the subjects
    let mut seen = look_at_processes(pool, config, &subjects, memory, now, deadline);
    look_at_units(pool, config, &subjects, now, deadline, &mut seen);
    look_at_logs(
        pool,
        config,
        &subjects,
        memory.jumped_at,
        now,
        deadline,
        &mut seen,
    );
    let names = subjects.iter().map(|subject| subject.service.name.clone());
    names.zip(seen).collect()
}

fn look_at_processes(
    pool: &Pool,
    config: &Arc<Config>,
    subjects: &[Subject<'_>],
    memory: &Memory,
    now: &Reading,
    deadline: Instant,
) -> Vec<Observation> {
    let survey = subjects.iter().any(|subject| {
        let target = Target {
            perhaps_started: subject.is_perhaps_started(),
            ..target(subject.service)
        };
        process::needs_survey(&target, &subject.known.process, now)
    });
    // reading another process's arguments can hang in the kernel, as any other look can
    let world = if survey {
        pool.side_by_side(vec![()], config.check_timeout, deadline, |()| {
            World::glance()
        })
        .pop()
        .unwrap_or(Err(Failed::NoThread))
        .map(Arc::new)
    } else {
        Ok(Arc::new(World::on_demand()))
    };
    let known = known_processes(memory);
    let results = match &world {
        Ok(world) => {
            let work = subjects
                .iter()
                .map(|subject| {
                    (
                        subject.index,
                        subject.known.process.clone(),
                        subject.is_being_started(),
                        subject.is_perhaps_started(),
                    )
                })
                .collect();
            let (config, world, now) = (Arc::clone(config), Arc::clone(world), now.clone());
            pool.side_by_side(
                work,
                config.check_timeout,
                deadline,
                move |(index, memo, being_started, perhaps_started)| {
                    let mut target = target(&config.services[index]);
                    target.has_other_checks &= !being_started;
                    target.perhaps_started = perhaps_started;
                    process::look(&target, &memo, &world, &now, &known)
                },
            )
        }
        Err(failed) => subjects.iter().map(|_| Err(*failed)).collect(),
    };
    subjects
        .iter()
        .zip(results)
        .map(|(subject, result)| {
            let seen = result.unwrap_or_else(|failed| process::Seen {
                findings: vec![given_up(Kind::Process, "its process", failed, config)],
                presence: Presence::Unseen,
                memo: subject.known.process.clone(),
            });
            Observation {
                findings: seen.findings,
                notes: Vec::new(),
                presence: seen.presence,
                process: seen.memo,
                unit: None,
                marks: log::Marks::new(),
                tail: log::Tail::default(),
                evidence: false,
            }
        })
        .collect()
}

/// Asks each systemd once for all of its units, and looks at their main processes.
fn look_at_units(
    pool: &Pool,
    config: &Arc<Config>,
    subjects: &[Subject<'_>],
    now: &Reading,
    deadline: Instant,
    seen: &mut [Observation],
) {
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
        let memo = subject.known.unit.as_ref();
        let answer = answers.get(&unit.manager);
        let judged = match answer.unwrap_or(&Err(Failed::NoThread)) {
            Ok(Ok(statuses)) => unit::judge(
                unit,
                statuses.get(&unit.unit),
                memo,
                now,
                config.check_timeout,
            ),
            Ok(Err(why)) => unit::unreachable(unit, memo, why),
            Err(failed) => unit::unreachable(unit, memo, &unanswered(*failed, config)),
        };
        observation.findings.extend(judged.findings.iter().cloned());
        // a process table of its own says more than systemd does
        if subject.service.process.is_none() {
            match judged.standing {
                Standing::Up(Some(pid)) => {
                    whose.push(place);
                    mains.push((pid, observation.process.clone()));
                }
                Standing::Up(None) => {}
                Standing::Down => observation.presence = Presence::Absent,
                Standing::Unseen => observation.presence = Presence::Unseen,
            }
        }
        observation.unit = Some(judged);
    }
    let time = now.clone();
    let results = pool.side_by_side(mains, config.check_timeout, deadline, move |(pid, memo)| {
        process::look_at(pid, &memo, &time)
    });
    for (place, result) in whose.into_iter().zip(results) {
        let observation = &mut seen[place];
        match result {
            Ok(Some(main)) => {
                observation.findings.extend(main.findings);
                observation.presence = main.presence;
                observation.process = main.memo;
            }
            Ok(None) => {}
            Err(failed) => {
                let finding = given_up(Kind::Process, "its process", failed, config);
                observation.findings.push(finding);
                observation.presence = Presence::Unseen;
            }
        }
    }
}

fn look_at_logs(
    pool: &Pool,
    config: &Arc<Config>,
    subjects: &[Subject<'_>],
    jumped_at: Option<DateTime<Utc>>,
    now: &Reading,
    deadline: Instant,
    seen: &mut [Observation],
) {
    // whose they are, and what to look at
    let (mut whose, mut work) = (Vec::new(), Vec::new());
    for (place, (subject, observation)) in subjects.iter().zip(&*seen).enumerate() {
        let author = author(observation, subject.known);
        // else they are shown only if something is wrong with the log itself
        let shown = !observation.findings.is_empty()
            || subject.known.open_trouble.is_some()
            || subject.service.logs.len() > 1;
        let marks = subject.known.marks(Some(&observation.presence));
        for (number, rule) in subject.service.logs.iter().enumerate() {
            whose.push((place, rule));
            work.push((
                subject.index,
                number,
                rule.mark_in(marks).cloned(),
                author,
                shown,
            ));
        }
    }
    let (shared, time) = (Arc::clone(config), now.clone());
    let results = pool.side_by_side(
        work,
        config.check_timeout,
        deadline,
        move |(index, number, mark, author, shown)| {
            let context = Context {
                now: &time,
                jumped_at,
                author,
                shown,
            };
            log::look(
                &shared.services[index].logs[number],
                mark.as_deref(),
                context,
            )
        },
    );
    // several tables may have one path: its last lines are shown once, and what both of them note
    let mut shown = BTreeSet::new();
    for ((place, rule), result) in whose.into_iter().zip(results) {
        let observation = &mut seen[place];
        match result {
            Ok(log) => {
                observation.findings.extend(log.findings);
                for note in log.notes {
                    if !observation.notes.contains(&note) {
                        observation.notes.push(note);
                    }
                }
                if !log.tail.is_empty() && shown.insert((place, &rule.path)) {
                    observation.tail.append(log.tail);
                }
                observation.evidence |= log.evidence;
                if let Some(mark) = log.mark {
                    observation.marks.insert(rule.key.clone(), Arc::new(mark));
                }
            }
            Err(failed) => {
                let finding = given_up(Kind::Log, &rule.shown, failed, config);
                observation.findings.push(finding);
            }
        }
    }
}

/// Who wrote what is new in a service's logs: the present process, if it is the one that ran at the last look,
/// or if the service has none that could be known.
fn author(observation: &Observation, known: &ServiceMemory) -> Author {
    match &observation.presence {
        Presence::NotApplicable => Author::Present,
        Presence::Running(running) if known.process.main.as_ref() == Some(&running.main) => {
            Author::Present
        }
        _ => Author::Perhaps,
    }
}

/// The finding in place of what a look would have found.
fn given_up(check: Kind, what: &str, failed: Failed, config: &Config) -> Finding {
    let why = match failed {
        Failed::TimedOut => format!(
            "could not be looked at within {} (a dead disk or network share?)",
            clock::rough(config.check_timeout)
        ),
        Failed::OutOfTime => format!(
            "could not be looked at before the run had to end (run_timeout {})",
            clock::rough(config.run_timeout)
        ),
        Failed::NoThread => {
            "could not be looked at: there is no thread to be had (ulimit -u, TasksMax=)".to_owned()
        }
        Failed::Panicked => {
            "could not be looked at: a fault of the watchdog; please report this".to_owned()
        }
    };
    let message = format!("{what} {why}");
    Finding::new(check, TIMED_OUT, Severity::Unknown, message)
}

/// Why a systemd has not said anything.
fn unanswered(failed: Failed, config: &Config) -> String {
    match failed {
        Failed::TimedOut => format!("no answer within {}", clock::rough(config.check_timeout)),
        Failed::OutOfTime => format!(
            "no answer before the run had to end (run_timeout {})",
            clock::rough(config.run_timeout)
        ),
        Failed::NoThread => "there is no thread to ask from (ulimit -u, TasksMax=)".to_owned(),
        Failed::Panicked => {
            "asking failed by a fault of the watchdog; please report this".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{self, Environment};

    #[test]
    fn what_ended_a_look_is_said_with_the_figure_of_that_limit() {
        let text = "check_timeout = \"10s\"\nrun_timeout = \"3s\"\n[service.a]\nspawn = { command = [\"true\"] }\n";
        let config = config::parse(text, Path::new("/w.toml"), &Environment::default()).unwrap();
        for (failed, look, answer) in [
            (
                Failed::TimedOut,
                "a.log could not be looked at within 10s (a dead disk or network share?)",
                "no answer within 10s",
            ),
            (
                Failed::OutOfTime,
                "a.log could not be looked at before the run had to end (run_timeout 3s)",
                "no answer before the run had to end (run_timeout 3s)",
            ),
            (
                Failed::NoThread,
                "a.log could not be looked at: there is no thread to be had (ulimit -u, TasksMax=)",
                "there is no thread to ask from (ulimit -u, TasksMax=)",
            ),
            (
                Failed::Panicked,
                "a.log could not be looked at: a fault of the watchdog; please report this",
                "asking failed by a fault of the watchdog; please report this",
            ),
        ] {
            let finding = given_up(Kind::Log, "a.log", failed, &config);
            assert_eq!(finding.message, look);
            assert_eq!(finding.severity, Severity::Unknown);
            assert_eq!(unanswered(failed, &config), answer);
        }
    }
}
