//! What becomes of a request for a restart: as `watchdog restart` without `--force`, but for pauses and dependencies, which a
//! person at a terminal knows of, and who asked by the network may not.

use super::Facts;
use crate::check::Observation;
use crate::check::container::Awaited;
use crate::clock::stamp;
use crate::config::{OnExhausted, Service};
use crate::state::ServiceState;

/// Why a service is not restarted although it was asked for; nothing where it is, as far as it depends on itself.
pub(super) fn refusal(
    service: &Service,
    observation: &Observation,
    state: &ServiceState,
    facts: Facts<'_>,
) -> Option<String> {
    if let Some(pause) = state.pause_note(facts.now) {
        return Some(pause);
    }
    if service.method.is_none() {
        return Some("no restart method is configured".to_owned());
    }
    if service.policy.max_per_hour == 0 {
        return Some("max_per_hour = 0: it is never restarted".to_owned());
    }
    if let Some(why) = observation.unseen_process() {
        return Some(why);
    }
    if !facts.trusted || facts.state.attempts_lost {
        return Some("the state was damaged, so earlier restarts are not known".to_owned());
    }
    if observation.recreating.is_some() {
        return observation.recreating.clone();
    }
    if let Some(Awaited::Pending(why)) = &observation.awaited {
        return Some(why.clone());
    }
    if state.given_up.is_some() && service.policy.on_exhausted == OnExhausted::GiveUp {
        return Some(format!(
            "given up; `watchdog reset {}` lets it be restarted again",
            service.name
        ));
    }
    let max = service.policy.max_per_hour;
    let frees = state.budget_frees_at(facts.now, max)?;
    Some(format!(
        "{} of {max} restarts in the last hour; the next can be made at {}",
        state.attempts_in_hour(facts.now),
        stamp(frees)
    ))
}
