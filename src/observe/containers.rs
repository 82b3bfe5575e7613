//! The containers of services: the engine is asked beside all else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use super::processes::look_at_mains;
use super::{Subject, unanswered};
use crate::check::container::{self, Wanted, ghost, network};
use crate::check::process::ProcessStatus;
use crate::check::{Looking, Observation, Presence, Rule as CheckRule};
use crate::client::engine::{Details, Listed};
use crate::config::Config;
use crate::pool::Failed;
use crate::restart::RestartMethod;

/// Begins to ask the engine for all containers, where a service is one.
pub(super) fn ask_engine<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    subjects: &[Subject<'_>],
    config: &'scope Config,
    listed: Option<&Result<Vec<Listed>, String>>,
    looking: &Looking<'_>,
) -> Option<Asked<'scope>> {
    let wanted: Vec<Wanted> = subjects.iter().filter_map(wanted).collect();
    let (now, deadline) = (looking.now.clone(), looking.deadline);
    let listed = listed.cloned();
    (!wanted.is_empty()).then(|| {
        thread::Builder::new()
            .name("containers".to_owned())
            .spawn_scoped(scope, move || {
                container::ask(&config.containers, &wanted, listed, &now, deadline)
            })
    })
}

/// The container of a service, and what is known of it.
fn wanted(subject: &Subject<'_>) -> Option<Wanted> {
    let (service, known) = (subject.service, subject.known);
    let rule = service.container.clone()?;
    let mut rules = service.checks.iter().map(|check| &check.rule);
    let by_rule = service.process.is_some();
    Some(Wanted {
        rule,
        known: known.container.clone(),
        // where its process is known by a rule of its own, that may be another one
        main: known.process.main.clone().filter(|_| !by_rule),
        is_described: known.ordered.is_some() || rules.any(CheckRule::asks_what_runs),
    })
}

/// An engine that is being asked.
type Asked<'scope> =
    std::io::Result<thread::ScopedJoinHandle<'scope, Result<container::Answer, String>>>;

/// Judges what the engine said of each container, and looks at their main processes.
pub(super) fn look_at_containers(
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
    let own_namespace = answer.as_ref().ok().and_then(|_| ghost::own_namespace());
    let ghosts = match &answer {
        Ok(answer) => find_ghosts(subjects, config, looking, answer, own_namespace),
        Err(_) => BTreeMap::new(),
    };
    let names = match &answer {
        Ok(answer) => names_by_id(subjects, answer),
        Err(_) => BTreeMap::new(),
    };
    let (mut whose, mut mains) = (Vec::new(), Vec::new());
    for (place, (subject, observation)) in subjects.iter().zip(&mut *seen).enumerate() {
        let Some(rule) = &subject.service.container else {
            continue;
        };
        let last_seen = subject.known.container.as_deref();
        let one = answer.as_ref().ok().and_then(|answer| {
            let found = container::select(rule, &answer.listed).found;
            Some((answer, *found.first().filter(|_| found.len() == 1)?))
        });
        let first = one.and_then(|(_, container)| names.get(container.id.as_str()));
        let other = first.filter(|name| **name != subject.service.name);
        let mut judged = match &answer {
            Ok(_) if let Some(other) = other => container::claimed(rule, other),
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
        ghost::note_namespace(&mut judged, last_seen, own_namespace);
        if let Some(origin) = &subject.service.origin {
            judged.lacks(&origin.unset);
        }
        if let Some(suspect) = ghosts.get(&place) {
            ghost::found(&mut judged, suspect);
        }
        if let Some((answer, listed)) = one
            && let Some(shared) = network::shared(listed, answer, looking.now.wall)
        {
            observation.network_of = (shared.owner)
                .and_then(|id| names.get(id.as_str()))
                .map(|name| (*name).to_owned());
            // of one whose details did not come, nothing is known
            let is_described = (judged.last_seen.as_ref())
                .is_some_and(|last_seen| last_seen.state != container::REMOVED);
            if let Some(loss) = shared.loss.filter(|_| is_described) {
                judged.lost_network(&loss);
            }
        }
        let asks = subject.service.checks.iter();
        if let Ok(answer) = &answer
            && asks.map(|check| &check.rule).any(CheckRule::asks_what_runs)
        {
            let described = answer.described(rule, &config.containers);
            observation.container = described.map(Arc::new);
        }
        observation.unjudged = judged.unjudged(last_seen);
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
        observation.recreating = judged.recreating;
        // a command may make it anew
        let by_command = (subject.service.method.as_ref()).is_some_and(RestartMethod::has_command);
        let may_be_made = by_command && !judged.is_not_to_be_touched;
        observation.left_alone = judged.left_alone.filter(|_| !may_be_made);
        observation.awaited = answer.as_ref().ok().and_then(|answer| {
            let id = &judged.last_seen.as_ref()?.id;
            awaited(subject, answer.details(id)?.as_ref().ok()?, looking)
        });
        observation.subject.container = judged.last_seen;
    }
    look_at_mains(whose, mains, config, looking, seen);
}

/// The services by the ids of their containers.
fn names_by_id<'a>(
    subjects: &[Subject<'a>],
    answer: &'a container::Answer,
) -> BTreeMap<&'a str, &'a str> {
    let mut names = BTreeMap::new();
    for subject in subjects {
        if let Some(rule) = &subject.service.container
            && let [container] = container::select(rule, &answer.listed).found[..]
        {
            // the first of several has it
            names
                .entry(container.id.as_str())
                .or_insert(subject.service.name.as_str());
        }
    }
    names
}

/// The containers that are said to run and whose process is not there, by the places of their services: asked twice.
fn find_ghosts(
    subjects: &[Subject<'_>],
    config: &Config,
    looking: &Looking<'_>,
    answer: &container::Answer,
    own_namespace: Option<u64>,
) -> BTreeMap<usize, ghost::Suspect> {
    let mut found = Vec::new();
    for (place, subject) in subjects.iter().enumerate() {
        let Some(rule) = &subject.service.container else {
            continue;
        };
        let [container] = container::select(rule, &answer.listed).found[..] else {
            continue;
        };
        let known = subject.known;
        let known_pid = ghost::known_pid(
            &container.id,
            known.container.as_deref(),
            known.process.main.as_ref(),
            &looking.now.boot_id,
            own_namespace,
        );
        if let Some(suspect) = ghost::suspect(answer, &container.id, known_pid) {
            found.push((place, suspect));
        }
    }
    ghost::again(&config.containers, found, looking.deadline)
}

/// What has become of a restart that the engine was asked for, and whose end no run saw.
fn awaited(
    subject: &Subject<'_>,
    details: &Details,
    looking: &Looking<'_>,
) -> Option<container::Awaited> {
    let limits = &subject.service.limits;
    Some(container::awaited(
        subject.known.ordered.as_ref()?,
        details,
        limits.stop_timeout,
        limits.start_timeout,
        looking.now.wall,
    ))
}
