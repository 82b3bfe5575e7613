//! The processes of services, and the main processes that systemd and engines name.

use std::sync::Arc;

use super::{Subject, known_processes, target};
use crate::check::log;
use crate::check::process::{self, ProcessStatus, Target};
use crate::check::{CheckStates, Kind, Looking, Observation, SubjectState};
use crate::config::{Config, Service};
use crate::pool::Failed;
use crate::process_table::{ProcessTable, scan_within};
use crate::state::State;

/// Whether no other service that is enabled is started by the same command, in the same directory and as the same user: then what runs
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
    let enabled = services.iter().filter(|other| other.enabled);
    enabled.filter(is_same).count() == 1
}

pub(super) fn look_at_processes(
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
    let known = Arc::new(known_processes(&config.services, state));
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
                recreating: None,
                left_alone: None,
                unjudged: None,
                awaited: None,
                network_of: None,
                control_group: None,
                container: None,
                subject: SubjectState {
                    process: seen.last_seen,
                    unit: None,
                    container: None,
                },
                checks: CheckStates::default(),
                tail: log::Tail::default(),
                consumed: false,
                unsettled: false,
            }
        })
        .collect()
}

/// Looks at the main processes of the services at these places, as systemd or an engine names them.
pub(super) fn look_at_mains(
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
