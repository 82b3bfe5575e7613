//! The steps of a restart, whatever the method: stop, take the positions in logs, start, verify, settle.

use std::time::{Duration, Instant};

use super::already_running::already_running;
use super::evidence::{self, Recorded};
use super::leftovers::{await_collection, left_behind};
use super::{
    Action, Attempted, Failure, Method, MethodName, Operation, REPORTED, RestartContext, Up, probes,
};
use crate::check::process::{Identity, LastSeen};
use crate::check::{CheckStates, SubjectState};
use crate::pool::Pool;

/// How long finding the ends of a service's logs may take.
const POSITIONS_LIMIT: Duration = Duration::from_secs(10);

/// Stops what is left of a service, starts it, and sees that it stays up.
pub(super) fn restart<M: Method>(method: &M, context: &RestartContext<'_>) -> Attempted {
    let began = Instant::now();
    let mut states = CheckStates::default();
    let mut recorded = Recorded::default();
    let outcome = attempt(method, context, &mut states, &mut recorded);
    let mut attempted = Attempted {
        action: Action {
            kind: Operation::Restart,
            method: M::NAME,
            ok: outcome.is_ok(),
            old_pid: context.running.as_ref().map(|running| running.main.pid),
            new_pid: None,
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            error: None,
            stderr: Vec::new(),
            pending: Vec::new(),
            evidence: recorded.file.as_deref().map(evidence::shown),
            facts: recorded.facts.clone(),
            from: None,
            to: None,
        },
        subject: SubjectState {
            process: context.last_seen.clone(),
            unit: None,
            container: None,
        },
        checks: states,
        unanswered: None,
        unmade: None,
    };
    match outcome {
        Ok((up, probed)) => {
            if up.by_itself {
                attempted.action.method = MethodName::Itself;
            }
            attempted.action.pending = probed.pending;
            if let Some(failure) = probed.failure {
                ::log::error!(target: REPORTED, "{}: restart failed: {}", context.service, failure.error);
                attempted.action.ok = false;
                attempted.action.error = Some(failure.error);
            }
            attempted.checks.extend(probed.states);
            let main = up.running.map(|running| running.main);
            attempted.action.new_pid = main.as_ref().map(|main| main.pid);
            attempted.subject.process = up.last_seen;
            attempted.subject.process.started = main.or_else(|| context.last_seen.started.clone());
            attempted.subject.unit = up.unit;
            attempted.subject.container = up.container;
        }
        Err(failure) if failure.is_unmade => {
            evidence::withdraw(&recorded);
            ::log::warn!(target: REPORTED, "{}: not restarted: {}", context.service, failure.error);
            attempted.action.error = Some(failure.error.clone());
            attempted.unmade = Some(format!("not restarted: {}", failure.error));
        }
        Err(failure) => {
            ::log::error!(target: REPORTED, "{}: restart failed: {}", context.service, failure.error);
            for line in &failure.stderr {
                ::log::info!("{}: it said: {line}", context.service);
            }
            attempted.action.error = Some(failure.error);
            attempted.action.stderr = failure.stderr;
            attempted.unanswered = failure.unanswered;
            if let Some(last_seen) = failure.last_seen {
                attempted.subject.process = LastSeen {
                    started: context.last_seen.started.clone(),
                    ..*last_seen
                };
            }
        }
    }
    attempted
}

/// What the probes of a service that is up came to.
#[derive(Default)]
struct Outcome {
    /// Those that have not passed.
    pending: Vec<String>,
    /// Why the restart has failed all the same.
    failure: Option<Failure>,
    states: CheckStates,
}

fn attempt<M: Method>(
    method: &M,
    context: &RestartContext<'_>,
    states: &mut CheckStates,
    recorded: &mut Recorded,
) -> Result<(Up, Outcome), Failure> {
    let service = context.service;
    context.check_lock()?;
    let leftovers = left_behind(context).map_err(|why| {
        format!(
            "what its main process may have left behind cannot be seen: {why}; nothing was started"
        )
    })?;
    *recorded = record(context, &leftovers);
    if let Some(running) = context.running.as_ref().filter(|_| method.stops_first()) {
        ::log::info!("{service}: stopping PID {}", running.main.pid);
    } else if !leftovers.is_empty() && method.stops_first() {
        let pids: Vec<_> = leftovers.iter().map(|left| left.pid.to_string()).collect();
        ::log::info!(
            "{service}: stopping what its main process left behind: PID {}",
            pids.join(", ")
        );
    }
    if method.stops_first() {
        method.stop(context, &leftovers)?;
    }
    states.extend(states_when_stopped(context));
    if method.stops_first()
        && let Some(up) = already_running(context, |pid| method.has_main(pid))?
    {
        return with_probes(context, up, Instant::now(), || "ended".to_owned().into());
    }
    await_collection(context);
    context.check_lock()?;
    ::log::info!("{service}: starting by {}", M::NAME);
    let started = Instant::now();
    let mut begun = method.start(context)?;
    let up = method.verify(context, &mut begun)?;
    with_probes(context, up, started, || method.ended(context, &mut begun))
}

/// Records what is to be stopped, where that is wanted and anything is.
fn record(context: &RestartContext<'_>, leftovers: &[Identity]) -> Recorded {
    let running = context.running.iter().flat_map(|running| &running.all);
    let roots: Vec<Identity> = running.chain(leftovers).cloned().collect();
    match &context.evidence {
        Some(request) if !roots.is_empty() => {
            let ends = context.asking.run_ends;
            evidence::record(context.service, request, &roots, ends)
        }
        _ => Recorded::default(),
    }
}

/// A service that is up, once its probes were waited for. `ended` says why it has ended meanwhile.
fn with_probes(
    context: &RestartContext<'_>,
    up: Up,
    started: Instant,
    ended: impl FnOnce() -> Failure,
) -> Result<(Up, Outcome), Failure> {
    let service = context.service;
    let probed = probes::wait(context, &up, started);
    if probed.has_ended {
        let why = ended();
        return Err(Failure {
            error: format!(
                "came up, but then, while its probes were waited for, {}",
                why.error
            ),
            last_seen: Some(Box::new(up.last_seen)),
            ..why
        });
    }
    let pending: Vec<String> = (up.pending.iter().cloned())
        .chain(probed.answers.pending())
        .collect();
    for name in &pending {
        ::log::warn!("{service}: {name} does not pass yet");
    }
    if pending.is_empty() {
        ::log::info!("{service}: it is up");
    }
    let outcome = Outcome {
        failure: probes::failure(context, &up, started, &probed.answers),
        states: probed.answers.states,
        pending,
    };
    Ok((up, outcome))
}

/// What the checks remember from now on. A log on a dead disk or network share keeps nobody from being started.
fn states_when_stopped(context: &RestartContext<'_>) -> CheckStates {
    let work: Vec<_> = context
        .checks
        .iter()
        .map(|check| (check.rule.clone(), context.states.get(&check.id).cloned()))
        .collect();
    let deadline = Instant::now() + POSITIONS_LIMIT;
    let next = Pool::new().side_by_side(work, POSITIONS_LIMIT, deadline, |(rule, state)| {
        rule.when_stopped(state.as_ref())
    });
    let ids = context.checks.iter().map(|check| check.id.clone());
    ids.zip(next)
        .filter_map(|(id, next)| Some((id, next.ok().flatten()?)))
        .collect()
}
