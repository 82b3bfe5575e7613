//! The last look before anything is started: time has passed since the checks, and a second copy is the worst that could
//! be done.

use super::{Failure, RestartContext, Up};
use crate::check::process::{self, ProcessStatus, Target};
use crate::clock::Reading;

/// What runs of a service that was stopped, or that did not run: then nothing is started beside it. `is_own` says of a
/// process that the method's start makes no other.
pub(super) fn already_running(
    context: &RestartContext<'_>,
    is_own: impl Fn(i32) -> bool,
) -> Result<Option<Up>, Failure> {
    let now = Reading::take();
    let target = Target {
        has_other_checks: false,
        ..context.target
    };
    // one that is known only by what would be started has been searched for a moment ago; by now, another service
    // of this run may have started the very same command
    let remembered = context
        .last_seen
        .main
        .as_ref()
        .is_some_and(|main| main.boot_id == now.boot_id);
    if !target.is_known() || (target.rule.is_none() && !remembered) {
        return Ok(None);
    }
    let seen = process::look(
        &target,
        &context.last_seen,
        &context.snapshots.ask(),
        &now,
        &context.taken,
    );
    match (seen.process_status, &context.running) {
        (ProcessStatus::NotRunning | ProcessStatus::NotApplicable, _) => Ok(None),
        // it was gone, and somebody else has started it
        (ProcessStatus::Running(running), None) => Ok(Some(Up {
            running: Some(running),
            last_seen: seen.last_seen,
            unit: None,
        })),
        // a unit that something else, its socket say, has started anew: it is still to be seen that it stays up
        (ProcessStatus::Running(running), Some(_)) if is_own(running.main.pid) => Ok(None),
        (ProcessStatus::Running(running), Some(_)) => Err(Failure::from(format!(
            "PID {} is already running; no second copy was started",
            running.main.pid
        ))),
        (ProcessStatus::Unknown, _) => Err(Failure::from(
            "whether it still runs could not be seen; nothing was started".to_owned(),
        )),
    }
}
