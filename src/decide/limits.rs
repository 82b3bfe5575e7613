//! Why nothing is done about a broken service yet: failing runs, budgets, cooldowns, attempts of an incident.
//!
//! The limits of `restart` count all attempts, those of a strategy its own. Both hold.

use chrono::{DateTime, Utc};

use super::Facts;
use super::remedy::Chosen;
use crate::check::container::{Awaited, NETWORK_LOST};
use crate::check::process::ProcessStatus;
use crate::check::{Finding, Kind, Observation, Severity};
use crate::clock;
use crate::config::{OnExhausted, Policy, Service, Strategy};
use crate::restart::Operation;
use crate::state::ServiceState;
use crate::state::strategies::StrategyAttempts;
use crate::verdict::Verdict;

/// What is spent where nothing more is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// The attempts of an hour, until then.
    Hour(DateTime<Utc>),
    /// The attempts of an hour, and with them all others until a person says so.
    GivenUp,
    /// So many attempts of the incident, until it is over.
    Incident(u32),
}

/// Why nothing is done.
#[derive(Clone, Debug)]
pub(super) struct Blocked {
    pub(super) verdict: Verdict,
    pub(super) why: String,
    pub(super) spent: Option<Spent>,
}

impl Blocked {
    fn by(verdict: Verdict, why: impl Into<String>) -> Self {
        Self {
            verdict,
            why: why.into(),
            spent: None,
        }
    }

    fn spent(spent: Spent, why: String) -> Self {
        Self {
            verdict: Verdict::Exhausted,
            why,
            spent: Some(spent),
        }
    }
}

/// Why nothing is done about a broken service now; nothing where something is.
pub(super) fn blocked(
    service: &Service,
    chosen: Chosen<'_>,
    observation: &Observation,
    state: &ServiceState,
    facts: Facts<'_>,
) -> Option<Blocked> {
    recreating(chosen, observation)
        .or_else(|| too_few_failures(service, chosen, observation, state))
        .or_else(|| never(service, chosen, observation))
        .or_else(|| pending(chosen, observation))
        .or_else(|| {
            let why = if chosen.operation() == Some(Operation::Repair) {
                "the state was damaged, so earlier attempts are not known; it can be repaired by the next run"
            } else {
                "the state was damaged, so earlier restarts are not known; it can be restarted by the next run"
            };
            (!facts.trusted).then(|| Blocked::by(Verdict::Waiting, why))
        })
        .or_else(|| given_up(service, state))
        .or_else(|| of_incident(service, chosen, state))
        .or_else(|| of_hour(service, chosen, state, facts.now))
        .or_else(|| cooling(service, chosen, state, facts.now))
}

/// Whoever re-creates its container starts it as well. A repair of something else goes on.
fn recreating(chosen: Chosen<'_>, observation: &Observation) -> Option<Blocked> {
    let why = observation.recreating.as_ref()?;
    (chosen.operation() != Some(Operation::Repair))
        .then(|| Blocked::by(Verdict::Waiting, why.clone()))
}

fn too_few_failures(
    service: &Service,
    chosen: Chosen<'_>,
    observation: &Observation,
    state: &ServiceState,
) -> Option<Blocked> {
    // what a restart of another has surely taken from it does not come back by itself
    let lost = |finding: &Finding| finding.code == NETWORK_LOST;
    if observation.findings.iter().any(lost) {
        return None;
    }
    let policy = chosen.policy(service);
    let (needed, window) = (policy.after_failures, policy.window());
    // this one included
    let failing = state.failing_among(window.saturating_sub(1)) + 1;
    if failing >= needed {
        return None;
    }
    let among = if window > needed {
        format!(", of the last {window} that count,")
    } else {
        String::new()
    };
    let what = chosen.named();
    Some(Blocked::by(
        Verdict::Failing,
        format!("{failing} of {needed} failing runs{among} before {what}"),
    ))
}

/// What no time changes.
fn never(service: &Service, chosen: Chosen<'_>, observation: &Observation) -> Option<Blocked> {
    let down = |why: String| Some(Blocked::by(Verdict::Down, why));
    let title = chosen.strategy().map(Strategy::title);
    let Some(operation) = chosen.operation() else {
        let title = title.unwrap_or_default();
        return down(format!(
            "its strategy for {title} says that it is only alerted about"
        ));
    };
    if operation == Operation::Restart {
        if let Some(why) = observation.left_alone.clone() {
            return down(why);
        }
        if service.method.is_none() {
            return down("no restart method is configured".to_owned());
        }
    }
    if service.policy.max_per_hour == 0 {
        let what = if service.strategies.is_empty() {
            "restarted"
        } else {
            "restarted or repaired"
        };
        return down(format!("max_per_hour = 0: it is never {what}"));
    }
    if chosen.policy(service).max_per_hour == 0 {
        let title = title.unwrap_or_default();
        return down(format!(
            "max_per_hour = 0 in its strategy for {title}: nothing is done about it"
        ));
    }
    // a repair starts no second copy
    if operation == Operation::Restart && observation.process_status == ProcessStatus::Unknown {
        let unit = (observation.findings.iter()).find(|finding| {
            matches!(finding.check, Kind::Unit | Kind::Container)
                && finding.severity == Severity::Unknown
        });
        return down(match unit {
            Some(finding) => format!("not restarted: {}", finding.message),
            None => "not restarted, because its process could not be seen: a second copy might be started"
                .to_owned(),
        });
    }
    None
}

/// A restart that an engine was asked for may still be done: a second one would end what the first one starts.
fn pending(chosen: Chosen<'_>, observation: &Observation) -> Option<Blocked> {
    match &observation.awaited {
        Some(Awaited::Pending(why)) if chosen.operation() == Some(Operation::Restart) => {
            Some(Blocked::by(Verdict::Waiting, why.clone()))
        }
        _ => None,
    }
}

fn given_up(service: &Service, state: &ServiceState) -> Option<Blocked> {
    let gives_up = service.policy.on_exhausted == OnExhausted::GiveUp;
    state.given_up.filter(|_| gives_up)?;
    let why = format!(
        "given up; `watchdog reset {}` lets it be restarted again",
        service.name
    );
    Some(Blocked::spent(Spent::GivenUp, why))
}

/// The attempts of the incident, by whatever, and by the strategy.
fn of_incident(service: &Service, chosen: Chosen<'_>, state: &ServiceState) -> Option<Blocked> {
    let all = (&service.policy, state.incident_attempts, String::new());
    let own = chosen.strategy().map(|strategy| {
        let made = state.attempts_by(&strategy.id).map(|it| it.of_incident);
        let of = format!(" by its strategy for {}", strategy.title());
        (&strategy.policy, made.unwrap_or_default(), of)
    });
    let spent = |(policy, made, _): &(&Policy, u32, String)| {
        policy.max_attempts > 0 && *made >= policy.max_attempts
    };
    let (policy, made, of) = [Some(all), own].into_iter().flatten().find(spent)?;
    let more = if made == 1 { "" } else { "s" };
    let why = format!(
        "{made} attempt{more}{of} in this incident (max_attempts = {}): no more before it is well again, or `watchdog reset {}`",
        policy.max_attempts, service.name
    );
    Some(Blocked::spent(Spent::Incident(policy.max_attempts), why))
}

/// The attempts of the last hour.
fn of_hour(
    service: &Service,
    chosen: Chosen<'_>,
    state: &ServiceState,
    now: DateTime<Utc>,
) -> Option<Blocked> {
    let max = service.policy.max_per_hour;
    if let Some(frees) = state.budget_frees_at(now, max) {
        let used = state.attempts_in_hour(now);
        let made = if service.strategies.is_empty() {
            "restarts"
        } else {
            "attempts"
        };
        return Some(match service.policy.on_exhausted {
            OnExhausted::Wait => Blocked::spent(
                Spent::Hour(frees),
                format!(
                    "{used} of {max} {made} in the last hour; the next can be made at {}",
                    clock::stamp(frees)
                ),
            ),
            OnExhausted::GiveUp => Blocked::spent(
                Spent::GivenUp,
                format!(
                    "{used} of {max} {made} in the last hour; given up until `watchdog reset {}`",
                    service.name
                ),
            ),
        });
    }
    let strategy = chosen.strategy()?;
    let own = state.attempts_by(&strategy.id)?;
    let max = strategy.policy.max_per_hour;
    let frees = own.frees_at(now, max)?;
    let why = format!(
        "{} of {max} attempts by its strategy for {} in the last hour; the next can be made at {}",
        own.in_hour(now),
        strategy.title(),
        clock::stamp(frees)
    );
    Some(Blocked::spent(Spent::Hour(frees), why))
}

/// The time since the last attempt, by whatever, and since the last one by the strategy: the longer wait is told.
fn cooling(
    service: &Service,
    chosen: Chosen<'_>,
    state: &ServiceState,
    now: DateTime<Utc>,
) -> Option<Blocked> {
    let made = if service.strategies.is_empty() {
        "restart"
    } else {
        "attempt"
    };
    let all = (
        &service.policy,
        state.last_attempt(),
        state.incident_attempts,
        made.to_owned(),
    );
    let own = chosen.strategy().map(|strategy| {
        let made = state.attempts_by(&strategy.id);
        (
            &strategy.policy,
            made.and_then(StrategyAttempts::last),
            made.map_or(0, |made| made.of_incident),
            format!("attempt by its strategy for {}", strategy.title()),
        )
    });
    let waits = [Some(all), own].into_iter().flatten();
    let waits = waits.filter_map(|(policy, last, attempts, what)| {
        let passed = clock::age(now, last?);
        let left = policy.cooldown_after(attempts).checked_sub(passed)?;
        (!left.is_zero()).then_some((left, passed, what))
    });
    let (left, passed, what) = waits.max_by_key(|(left, ..)| *left)?;
    let why = format!(
        "cooldown: the last {what} was {} ago, the next can be made in {}",
        clock::rough(passed),
        clock::rough(left)
    );
    Some(Blocked::by(Verdict::Waiting, why))
}
