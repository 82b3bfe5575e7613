//! Asking the engine once more, right before something is done to a container: it may be another one by now.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::super::{Failure, RestartContext};
use crate::check::container::order::SLACK;
use crate::check::container::{Containers, Rule, select};
use crate::client::engine::{Details, Engine, Listed};

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
    let engine = Engine::at(&containers.path()?);
    let timeout = containers.timeout;
    let far = Instant::now() + timeout + SLACK;
    let listed = engine.list(timeout, far).map_err(|it| it.to_string())?;
    let selected = select(rule, &listed);
    let seen = context.container.as_ref();
    let container = match selected.found[..] {
        [container] if selected.beside.is_empty() => container,
        [] if selected.beside.is_empty() && seen.is_none() => return Ok(None),
        _ => {
            return Err(unmade(format!(
                "the {rule} is not there alone any more: it may be in the middle of a re-creation"
            )));
        }
    };
    let name = container.name();
    match seen {
        Some(seen) if seen.id != container.id => {
            return Err(unmade(format!(
                "{name} was re-created since it was looked at"
            )));
        }
        None => return Err(unmade(format!("{name} was made since it was looked at"))),
        Some(_) => {}
    }
    let details = details(&engine, containers, &container.id, far)?;
    if details.state.paused {
        return Err(unmade(format!("{name} is paused")));
    }
    Ok(Some(Asked {
        engine,
        listed: container.clone(),
        details,
    }))
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
) -> Result<Details, String> {
    match engine.details(&[id], containers.timeout, far).pop() {
        Some(Ok(details)) => Ok(details),
        Some(Err(trouble)) => Err(trouble.to_string()),
        None => Err("the engine was not asked".to_owned()),
    }
}

/// It is not as it was when it was decided to restart it, so nothing was done.
pub(super) fn unmade(error: String) -> Failure {
    Failure {
        error,
        is_unmade: true,
        ..Failure::default()
    }
}
