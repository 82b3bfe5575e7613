//! Looking at all services: one snapshot of the processes, then every check side by side.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use chrono::{DateTime, Utc};

use crate::check::log::Author;
use crate::check::process::{Identity, ProcessStatus, Target};
use crate::check::{
    self, CheckState, Checked, Circumstances, Finding, Job, Kind, Looking, Observation, Rule, Runs,
    Slot, prometheus,
};
use crate::clock::{self, Reading};
use crate::config::{Config, Service};
use crate::plan::Roster;
use crate::pool::{Failed, Pool};
use crate::restart::RestartMethod;
use crate::state::{ServiceState, State};

mod containers;
mod processes;
mod units;

use self::containers::{ask_engine, look_at_containers};
use self::processes::look_at_processes;
use self::units::look_at_units;

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
        patience: service.start_grace,
    }
}

/// The processes that the services of a run are known to have: what belongs to one is not taken for another. What belongs to
/// one that the config does not have any more, or that is disabled, nobody watches: it may be one that was renamed.
pub fn known_processes(services: &[Arc<Service>], state: &State) -> BTreeSet<Identity> {
    let watched: HashSet<&str> = (services.iter())
        .filter(|service| service.enabled)
        .map(|service| service.name.as_str())
        .collect();
    let known = state.services.iter();
    known
        .filter(|(name, known)| watched.contains(name.as_str()) || known.discovered.is_some())
        .flat_map(|(_, known)| {
            let known = &known.process;
            [&known.main, &known.started, &known.wrapper]
        })
        .flatten()
        .cloned()
        .collect()
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

    /// A start that failed, or whose end is not known, may have gone into the background, and come up after all. One that
    /// came up is known, and what runs beside it may be its children.
    fn may_have_been_started(&self) -> bool {
        self.known.interrupted_attempt.is_some()
            || (self.service.process.is_none()
                && self.is_being_started()
                && !self.known.was_seen_since_attempt())
    }
}

/// Looks at the wanted services, until `deadline` at the most.
///
/// What waits for others begins at once, each kind in a thread of its own, beside all else.
pub fn observe(
    pool: &Pool,
    config: &Config,
    roster: &Roster,
    is_wanted: impl Fn(&str) -> bool,
    state: &State,
    now: &Reading,
    deadline: Instant,
) -> BTreeMap<String, Observation> {
    let nothing = Box::default();
    let subjects: Vec<Subject<'_>> = (roster.services.iter())
        .filter(|service| service.enabled && is_wanted(&service.name))
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
        let listed = roster.containers.as_ref();
        let asked = ask_engine(scope, &subjects, config, listed, looking);
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
        if config.prometheus.as_ref().is_some_and(|it| it.confirm) {
            for observation in &mut seen {
                prometheus::confirm(&mut observation.findings);
            }
        }
        seen
    });
    by_name(&subjects, seen)
}

/// What was seen of the subjects, by their names. In their order first: a map puts what it is given in order itself, and
/// moves it from place to place for that.
fn by_name(subjects: &[Subject<'_>], seen: Vec<Observation>) -> BTreeMap<String, Observation> {
    let name = |place: &usize| &subjects[*place].service.name;
    let mut order: Vec<usize> = (0..subjects.len()).collect();
    order.sort_unstable_by(|one, other| name(one).cmp(name(other)));
    let mut seen: Vec<Option<Observation>> = seen.into_iter().map(Some).collect();
    let mut named = Vec::with_capacity(order.len());
    for place in &order {
        if let Some(seen) = seen.get_mut(*place).and_then(Option::take) {
            named.push((name(place).clone(), seen));
        }
    }
    named.into_iter().collect()
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
            repaired: None,
        };
        // only for those that ask, and once for all of them
        let asks = checks.iter().any(|check| check.rule.asks_what_runs());
        let runs = observation.filter(|_| asks).map(|seen| {
            Arc::new(Runs {
                process_status: seen.process_status.clone(),
                control_group: seen.control_group.clone(),
                container: seen.container.clone(),
            })
        });
        let asks = checks.iter().any(|check| check.rule.asks_last_repair());
        let repaired = subject.known.last_repair().filter(|_| asks).map(Arc::new);
        for (number, check) in checks.iter().enumerate() {
            if wanted(&check.rule) {
                jobs.push(Job {
                    slot: (place, number),
                    rule: check.rule.clone(),
                    state: subject.known.state_of(check, process_status),
                    circumstances: Circumstances {
                        runs: runs.clone().filter(|_| check.rule.asks_what_runs()),
                        repaired: repaired.clone().filter(|_| check.rule.asks_last_repair()),
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
        if (check.rule.is_probe() || check.rule.kind() == Kind::Log)
            && let Some(why) = &observation.unjudged
        {
            if !observation.notes.contains(why) {
                observation.notes.push(why.clone());
            }
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
        observation.unsettled |= checked.unsettled;
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
