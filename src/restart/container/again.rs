//! Asking the engine once more, right before something is done to a container: it may be another one by now.

use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::Utc;

use super::super::{Failure, RestartContext};
use crate::check::container::order::SLACK;
use crate::check::container::recreated::{being_recreated, is_in_use, runs_in_its_place};
use crate::check::container::{
    CREATED, Containers, DEAD, EXITED, LastSeen, RESTARTING, Rule, UNHEALTHY, select,
};
use crate::client::engine::{Details, Engine, Listed, Trouble};

/// An engine learns of an end within milliseconds, and on a machine that is busy within seconds.
const END_WAIT: Duration = Duration::from_secs(5);

/// How often it is asked whether it has.
const END_POLL: Duration = Duration::from_millis(50);

/// A container as it is right before it is restarted.
#[derive(Debug)]
pub(in super::super) struct Asked {
    /// Its engine.
    pub(super) engine: Engine,
    /// As the list has it.
    pub(super) listed: Listed,
    /// As the engine describes it.
    pub(super) details: Details,
}

/// Asks for the container of a rule once more. Nothing, where there was none when it was looked at, and still is none. The
/// failure says why nothing is to be done.
pub(in super::super) fn ask_again(
    rule: &Rule,
    containers: &Containers,
    context: &RestartContext<'_>,
) -> Result<Option<Asked>, Failure> {
    let unseen = |why: &str| {
        unmade(format!(
            "the engine was asked about the {rule} once more right before, and nothing was done: {why}; the next run tries again; \
             see whether `docker ps -a` answers"
        ))
    };
    let engine = Engine::at(&containers.path().map_err(|why| unseen(&why))?);
    let timeout = containers.call_limit();
    let far = Instant::now() + timeout + SLACK;
    let listed = (engine.list(timeout, far)).map_err(|trouble| unseen(&trouble.to_string()))?;
    let selected = select(rule, &listed);
    let all: Vec<&Listed> = (selected.found.iter().chain(&selected.beside))
        .copied()
        .collect();
    let ids: Vec<&str> = all.iter().map(|it| it.id.as_str()).collect();
    let described = engine.details(&ids, timeout, far);
    let described: Vec<(&str, Result<Details, Trouble>)> = ids.into_iter().zip(described).collect();
    let details = |id: &str| {
        let mut described = described.iter();
        described.find(|(known, _)| *known == id)?.1.as_ref().ok()
    };
    let now = Utc::now();
    let mut beside = selected.beside.iter();
    if let Some(beside) = beside.find(|it| is_in_use(it, &selected, details, now)) {
        return Err(unmade(being_recreated(rule, beside)));
    }
    let is_up = |id: &str| details(id).is_some_and(|it| it.state.running);
    let mut beside = selected.beside.iter();
    if let Some(beside) = beside.find(|it| is_up(&it.id))
        && !selected.found.iter().any(|it| is_up(&it.id))
    {
        return Err(unmade(runs_in_its_place(rule, beside)));
    }
    let seen = context.container.as_ref();
    let container = match (&selected.found[..], seen) {
        ([container], Some(_)) => container,
        ([container], None) => {
            let name = container.name();
            return Err(unmade(format!("{name} was made since it was looked at")));
        }
        ([], Some(seen)) => return Err(removed(&seen.name)),
        ([], None) => return Ok(None),
        (several, _) => {
            let count = several.len();
            return Err(unmade(format!(
                "there are {count} containers by now where one is meant"
            )));
        }
    };
    let name = container.name();
    if seen.is_some_and(|seen| seen.id != container.id) {
        let why = format!("{name} was re-created since it was looked at");
        return Err(unmade(why));
    }
    let own = described.iter().find(|(id, _)| *id == container.id);
    let details = match own.map(|(_, details)| details) {
        Some(Ok(details)) => details.clone(),
        Some(Err(Trouble::NotFound(_))) => return Err(removed(name)),
        Some(Err(trouble)) => return Err(unseen(&trouble.to_string())),
        None => return Err(unseen("the engine was not asked")),
    };
    let since = seen.and_then(|seen| why_not(seen, &details, &context.codes));
    if let Some(why) = since {
        return Err(unmade(format!("{name} {why}")));
    }
    Ok(Some(Asked {
        engine,
        listed: Listed::clone(container),
        details,
    }))
}

/// Why the same container is left alone all the same. `codes` are those of the findings that it was to be restarted for.
fn why_not(seen: &LastSeen, details: &Details, codes: &[String]) -> Option<&'static str> {
    let state = &details.state;
    if state.paused {
        return Some("is paused");
    }
    // what the engine starts again and again is started anew all the time
    let in_loop = codes.iter().any(|code| code == RESTARTING);
    if state.started_at > seen.started_at && !in_loop {
        return Some("was restarted by somebody else meanwhile");
    }
    // of a log, a probe or a process the engine says nothing
    let engine_says = |code: &String| [EXITED, CREATED, DEAD, UNHEALTHY].contains(&code.as_str());
    let health = state.health.as_ref().map(|health| health.status.as_str());
    let is_well = state.running && !state.restarting && matches!(health, None | Some("healthy"));
    let is_mended = is_well && !codes.is_empty() && codes.iter().all(engine_says);
    is_mended.then_some("is well by now")
}

/// Waits until the engine has seen the end of a container whose processes have ended, or has started it again.
pub(super) fn await_end(asked: &Asked, containers: &Containers) {
    let deadline = Instant::now() + END_WAIT;
    let started = asked.details.state.started_at;
    let runs_as_before = || {
        details(&asked.engine, containers, &asked.listed.id, deadline)
            .is_ok_and(|now| now.state.running && now.state.started_at == started)
    };
    while runs_as_before() && Instant::now() < deadline {
        sleep(END_POLL);
    }
}

/// What the engine says of one container.
pub(super) fn details(
    engine: &Engine,
    containers: &Containers,
    id: &str,
    far: Instant,
) -> Result<Details, Trouble> {
    let mut details = engine.details(&[id], containers.call_limit(), far);
    let asked = details.pop();
    asked.unwrap_or_else(|| Err(Trouble::Unreachable("the engine was not asked".to_owned())))
}

fn removed(name: &str) -> Failure {
    unmade(format!("{name} was removed since it was looked at"))
}

/// It is not as it was when it was decided to restart it, so nothing was done.
pub(super) fn unmade(error: String) -> Failure {
    Failure {
        error,
        is_unmade: true,
        ..Failure::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::container::{GHOST, NETWORK_LOST};
    use crate::client::engine::{Health, State};
    use crate::fixtures::at;

    #[test]
    fn one_that_was_restarted_or_is_well_by_now_is_left_alone() {
        type Case<'a> = (
            &'a [&'a str],
            i64,
            &'a str,
            Option<&'a str>,
            Option<&'static str>,
        );
        let anew = Some("was restarted by somebody else meanwhile");
        let well = Some("is well by now");
        let stale = "log_stale";
        let cases: [Case<'_>; 17] = [
            (&[EXITED], -900, "exited", None, None),
            (&[EXITED], -5, "running", None, anew),
            (&[EXITED], -5, "exited", None, anew),
            (&[CREATED], -5, "running", None, anew),
            (&[UNHEALTHY], -900, "running", Some("unhealthy"), None),
            (&[UNHEALTHY], -900, "running", Some("starting"), None),
            (&[UNHEALTHY], -900, "running", Some("healthy"), well),
            (&[UNHEALTHY], -5, "running", Some("starting"), anew),
            (
                &[UNHEALTHY],
                -900,
                "paused",
                Some("unhealthy"),
                Some("is paused"),
            ),
            // the engine does not know of these
            (&[stale], -900, "running", Some("healthy"), None),
            (&[stale, UNHEALTHY], -900, "running", Some("healthy"), None),
            (&[GHOST], -900, "running", None, None),
            (&[NETWORK_LOST], -900, "running", None, None),
            (&[stale], -5, "running", None, anew),
            // it is started anew all the time
            (&[RESTARTING], -5, "running", None, None),
            // somebody asked for it
            (&[], -900, "running", Some("healthy"), None),
            (&[], -900, "running", None, None),
        ];
        let seen = LastSeen {
            started_at: Some(at(-900)),
            ..LastSeen::default()
        };
        for (codes, started, status, health, why) in cases {
            let details = Details {
                state: State {
                    status: status.to_owned(),
                    running: status != "exited",
                    paused: status == "paused",
                    started_at: Some(at(started)),
                    health: health.map(|status| Health {
                        status: status.to_owned(),
                        ..Health::default()
                    }),
                    ..State::default()
                },
                ..Details::default()
            };
            let owned: Vec<String> = codes.iter().map(|&code| code.to_owned()).collect();
            assert_eq!(
                why_not(&seen, &details, &owned),
                why,
                "{codes:?} {started} {status} {health:?}"
            );
        }
        // one that was never started
        let never = LastSeen::default();
        assert_eq!(why_not(&never, &Details::default(), &[]), None);
    }
}
