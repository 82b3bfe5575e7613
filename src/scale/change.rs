//! Changing the number of replicas, and seeing that it is what was asked for.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::{Context, Replicas, Target, compose, count, method, units};
use crate::check::container::order::{STOP, stop_time};
use crate::client::engine::Engine;
use crate::clock::rough;
use crate::config::scale::Scale;
use crate::restart::{Action, Operation};

/// How often the replicas are counted while they are waited for.
const POLL: Duration = Duration::from_millis(250);

/// So long there must be as many as were asked for.
const SETTLE: Duration = Duration::from_secs(1);

/// So long they are waited for where the command that was to make them has failed.
const AFTER_FAILURE: Duration = Duration::from_secs(2);

/// The change ends so long before the run has to, so that it can be recorded.
const TO_RECORD: Duration = Duration::from_secs(2);

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// How it went.
    pub action: Action,
    /// The numbers of the replicas that are to run, where that is known.
    pub wanted: Option<BTreeSet<u32>>,
}

/// Has `to` replicas run where `before` did. `failed` are those of them that are to be started again.
pub fn change(
    scale: &Scale,
    before: &Replicas,
    failed: &BTreeSet<u32>,
    to: u32,
    context: &Context<'_>,
) -> Changed {
    let began = Instant::now();
    let ends = context.run_ends.checked_sub(TO_RECORD).unwrap_or(began);
    let context = Context {
        run_ends: ends,
        ..*context
    };
    let outcome = make(scale, before, failed, to, &context);
    let (wanted, failure) = match outcome {
        Ok(wanted) => (Some(wanted), None),
        Err((wanted, failure)) => (wanted, Some(failure)),
    };
    if let Some(failure) = &failure {
        ::log::error!(
            target: crate::restart::REPORTED,
            "{}: it was not scaled from {} to {to} replicas: {}",
            scale.name,
            before.count(),
            failure.error
        );
    }
    let (error, stderr) = failure.map_or((None, Vec::new()), |it| (Some(it.error), it.lines));
    Changed {
        action: Action {
            kind: Operation::Scale,
            method: method(scale),
            ok: error.is_none(),
            old_pid: None,
            new_pid: None,
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            error,
            stderr,
            pending: Vec::new(),
            evidence: None,
            facts: Vec::new(),
            from: Some(before.count()),
            to: Some(to),
        },
        wanted,
    }
}

type Wanted = BTreeSet<u32>;

fn make(
    scale: &Scale,
    before: &Replicas,
    failed: &BTreeSet<u32>,
    to: u32,
    context: &Context<'_>,
) -> Result<Wanted, (Option<Wanted>, Failure)> {
    let until = Instant::now() + scale.rule.start_timeout;
    let (planned, until) = match Target::of(scale) {
        Target::Units => {
            let planned = units::change(scale, before, failed, to).map_err(|it| (None, it))?;
            (Some(planned), until)
        }
        Target::Compose(of) => {
            // what it stops has a time of its own
            let stops = if to < before.count() {
                stop_timeout(before, context)
            } else {
                Duration::ZERO
            };
            let limit = (scale.rule.start_timeout + stops).min(context.left());
            match compose::change(scale, of, to, limit, context) {
                Ok(()) => (None, until.max(Instant::now() + AFTER_FAILURE)),
                // what it says is not believed, in neither way
                Err(failure) => {
                    let until = Instant::now() + AFTER_FAILURE;
                    let wanted = verify(scale, to, None, until, context);
                    return wanted.map_err(|counted| {
                        let error = format!("{}; {}", failure.error, counted.error);
                        (None, Failure { error, ..failure })
                    });
                }
            }
        }
    };
    let wanted = verify(scale, to, planned.as_ref(), until, context)
        .map_err(|failure| (planned.clone(), failure))?;
    if let (Target::Units, Some(planned)) = (Target::of(scale), &planned) {
        let stopped = before.numbers().difference(planned).copied().collect();
        units::forget_failed(scale, &stopped, until);
    }
    Ok(planned.unwrap_or(wanted))
}

/// The longest time that one of the containers has to stop in.
fn stop_timeout(before: &Replicas, context: &Context<'_>) -> Duration {
    let Ok(socket) = context.containers.path() else {
        return STOP;
    };
    let ids: Vec<&str> = before.running.iter().map(|it| it.id.as_str()).collect();
    let limit = context.containers.call_limit().min(context.left());
    let details = Engine::at(&socket).details(&ids, limit, context.run_ends);
    let details = details.into_iter().flatten();
    details
        .map(|it| stop_time(STOP, it.config.stop_timeout))
        .max()
        .unwrap_or(STOP)
        .max(STOP)
}

/// Waits until so many replicas run, and goes on to for a moment. Gives back their numbers.
fn verify(
    scale: &Scale,
    to: u32,
    planned: Option<&Wanted>,
    until: Instant,
    context: &Context<'_>,
) -> Result<Wanted, Failure> {
    let began = Instant::now();
    let until = until.min(context.run_ends);
    let mut reached: Option<Instant> = None;
    loop {
        let counted = count(scale, None, context);
        let now = Instant::now();
        if let Ok(replicas) = &counted
            && replicas.count() == to
        {
            let since = *reached.get_or_insert(now);
            if now - since >= SETTLE || (now >= until && since < now) {
                return Ok(replicas.numbers());
            }
        } else {
            reached = None;
        }
        let is_lost = matches!((&counted, planned), (Ok(replicas), Some(planned))
            if units::has_failed(replicas, planned));
        if is_lost || (now >= until && reached.is_none()) {
            let mut error = match &counted {
                Ok(replicas) => format!("{} of {to} replicas run", replicas.count()),
                Err(why) => format!("the replicas cannot be counted: {why}"),
            };
            if now - began > AFTER_FAILURE {
                error = format!("after {} {error}", rough(now - began));
            }
            let why = planned.and_then(|it| units::why_not(scale, it, context.limit()));
            if let Some(why) = why {
                error = format!("{error}: {why}");
            }
            return Err(Failure::from(error));
        }
        thread::sleep(POLL);
    }
}
