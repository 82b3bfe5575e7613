//! The look before anything is started: time has passed since the checks, and a second copy is the worst that could be
//! done. Whatever has started the service before is given a while to start it again.

use std::time::{Duration, Instant};

use super::others::keeper;
use super::verify::Awaited;
use super::{Failure, RestartContext, Up};
use crate::check::process::{self, ProcessStatus, Target};
use crate::clock::Reading;

/// How often it is looked whether something else starts the service again.
const POLL: Duration = Duration::from_millis(50);

/// What something else has started of a service that was stopped, or that did not run: then nothing is started beside
/// it. It has stayed up for `settle`. `is_own` says of a process that the method's start makes no other.
pub(super) fn already_running(
    context: &RestartContext<'_>,
    is_own: impl Fn(i32) -> bool,
) -> Result<Option<Up>, Failure> {
    let now = Reading::take();
    // one that is known only by what would be started has been searched for a moment ago; by now, another service
    // of this run may have started the very same command
    let remembered = context
        .last_seen
        .main
        .as_ref()
        .is_some_and(|main| main.boot_id == now.boot_id);
    let target = &context.target;
    if !target.is_known() || (target.rule.is_none() && !remembered) {
        return Ok(None);
    }
    let parent = context.last_seen.family.parent.as_ref();
    let mut is_told = false;
    let deadline = Instant::now() + context.limits.settle;
    loop {
        match look(context) {
            ProcessStatus::Running(running) if is_own(running.main.pid) => return Ok(None),
            ProcessStatus::Running(running) => {
                let pid = running.main.pid;
                ::log::info!(
                    "{}: something else has started PID {pid}: nothing is started beside it",
                    context.service
                );
                let up = Awaited::with(context, context.limits).come_up(None);
                return up
                    .map(|up| Some(Up { by_itself: true, ..up }))
                    .map_err(|failure| Failure {
                        error: format!(
                            "something else started PID {pid}, so that nothing was started beside it; it {}",
                            failure.error
                        ),
                        ..failure
                    });
            }
            ProcessStatus::Unknown => {
                return Err(Failure::from(
                    "whether it still runs could not be seen; nothing was started".to_owned(),
                ));
            }
            ProcessStatus::NotRunning | ProcessStatus::NotApplicable => {}
        }
        let Some(keeper) = keeper(parent) else {
            return Ok(None);
        };
        if Instant::now() >= deadline {
            return Ok(None);
        }
        if !is_told {
            ::log::info!(
                "{}: PID {}, which had started it, may start it again: waiting for that",
                context.service,
                keeper.pid
            );
            is_told = true;
        }
        std::thread::sleep(POLL);
    }
}

fn look(context: &RestartContext<'_>) -> ProcessStatus {
    let target = Target {
        has_other_checks: false,
        ..context.target
    };
    let seen = process::look(
        &target,
        &context.last_seen,
        &context.snapshots.ask(),
        &Reading::take(),
        &context.taken,
    );
    seen.process_status
}
