//! Waiting for the probes of a service whose process is up.
//!
//! A slow start is never punished by being stopped: whatever the probes say, the process is left running.

use std::time::Instant;

use super::answers::{Answers, ask};
use super::{Failure, RestartContext, Up, WaitFor};
use crate::check::{Check, Finding};
use crate::clock::{Reading, rough};

/// What the probes came to.
#[derive(Debug, Default)]
pub(super) struct Probed {
    /// What they came to, where they were asked.
    pub(super) answers: Answers,
    /// The main process has ended meanwhile.
    pub(super) has_ended: bool,
}

/// Waits until the probes of a service that is up have passed, `start_timeout` from its start on at the most, or until it
/// has ended.
pub(super) fn wait(context: &RestartContext<'_>, up: &Up, started: Instant) -> Probed {
    let probes: Vec<&Check> = (context.checks.iter())
        .filter(|check| check.rule.is_probe() && check.rule.can_look_again())
        .collect();
    if probes.is_empty() || context.limits.wait_for == WaitFor::Process {
        return Probed::default();
    }
    ::log::info!("{}: it is up, its probes are waited for", context.service);
    let lives = || {
        let main = up.running.as_ref().map(|running| &running.main);
        main.is_none_or(|main| main.lives(&Reading::take()))
    };
    let until = started + context.limits.start_timeout;
    // what a restart does not mend, such as a certificate, is not waited for
    let answers = ask(
        &probes,
        context,
        until,
        Finding::is_reason_to_restart,
        lives,
    );
    Probed {
        has_ended: !lives(),
        answers,
    }
}

/// Why the restart of a service that is up has failed all the same: it is no longer young, and a probe fails.
pub(super) fn failure(
    context: &RestartContext<'_>,
    up: &Up,
    started: Instant,
    answers: &Answers,
) -> Option<Failure> {
    let (name, why) = answers.failed.first()?;
    let age = started.elapsed();
    // one that something else has started may be older
    let age = (up.running.as_ref()).map_or(age, |running| age.max(running.age));
    if age < context.start_grace {
        return None;
    }
    let others = match answers.failed.len() {
        1 => String::new(),
        more => format!(", and {} more", more - 1),
    };
    Some(Failure::from(format!(
        "it is up, and left running, but {name}{others} did not pass within {}: {why}",
        rough(context.limits.start_timeout)
    )))
}
