//! The policy: what to do is a function of what was seen, what is remembered, the config and the time.
//!
//! Pure and total: it looks at nothing, changes nothing and cannot fail. All that a person argues about ("why
//! was it restarted?", "why not?") is decided here, so all of it can be shown by tables.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use crate::check::process::ProcessStatus;
use crate::check::{Finding, Grace, Observation, Severity, worst};
use crate::clock;
use crate::config::{Service, dependencies_first};
use crate::restart::Operation;
use crate::state::{MAX_GRACE_PERIODS, ServiceState, State};
use crate::verdict::Verdict;

mod limits;
mod network;
mod remedy;
mod requested;
pub mod scale;

use limits::blocked;
use remedy::Chosen;

pub use limits::Spent;
pub use network::decide_with_losses;

/// What is to be done about one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The service.
    pub service: String,
    /// The verdict as far as observing goes: [`Verdict::Failing`] where a restart is due.
    pub verdict: Verdict,
    /// What is to be done to it now.
    pub operation: Option<Operation>,
    /// The strategy that says so, by its id; absent: `restart` does.
    pub strategy: Option<String>,
    /// The services that are restarted in this run and must come up before.
    pub after: Vec<String>,
    /// Why nothing is done about it, where something is wrong.
    pub why: Option<String>,
    /// How many runs in a row have found it broken, this one included.
    pub failures: u32,
    /// Whether it was found failing, for `out_of`; absent where a run does not count: it was not seen, or is not judged.
    pub counts: Option<bool>,
    /// What is spent, where that is why nothing is done.
    pub spent: Option<Spent>,
    /// Somebody asked for it, whatever was seen.
    pub requested: bool,
    /// Why it is not restarted although somebody asked for it.
    pub refused: Option<String>,
}

impl Decision {
    /// That nothing is done about a service.
    pub fn of(service: &str, verdict: Verdict) -> Self {
        Self {
            service: service.to_owned(),
            verdict,
            operation: None,
            strategy: None,
            after: Vec::new(),
            why: None,
            failures: 0,
            counts: None,
            spent: None,
            requested: false,
            refused: None,
        }
    }
}

/// What a run knows when it decides.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What was seen, by service. Services that were not asked for are not in it.
    pub seen: &'a BTreeMap<String, Observation>,
    /// What is remembered.
    pub state: &'a State,
    /// The time of the run.
    pub now: DateTime<Utc>,
    /// Whether the remembered attempts can be relied on.
    pub trusted: bool,
}

/// Decides about every service that was looked at, in the order of `services`.
pub fn decide(services: &[impl Borrow<Service>], facts: Facts<'_>) -> Vec<Decision> {
    decide_with_requests(services, facts, &BTreeSet::new())
}

/// The same where somebody asked for restarts of these services: one that nothing else is done about is restarted, or
/// [`Decision::refused`] says why it is not.
pub fn decide_with_requests(
    services: &[impl Borrow<Service>],
    facts: Facts<'_>,
    requested: &BTreeSet<&str>,
) -> Vec<Decision> {
    let services: Vec<&Service> = services.iter().map(Borrow::borrow).collect();
    let names = services.iter().map(|service| service.name.as_str());
    let order = dependencies_first(&services);
    let mut resolver = Resolver {
        facts,
        requested,
        indexes: names.zip(0..).collect(),
        visits: vec![Visit::Pending; services.len()],
        services,
    };
    for index in order {
        resolver.decide_one(index);
    }
    let visits = resolver.visits.into_iter().filter_map(|made| match made {
        Visit::Done(decision) => Some(decision),
        Visit::Pending | Visit::InProgress | Visit::Skipped => None,
    });
    visits.collect()
}

/// How far deciding about a service has got.
#[derive(Clone)]
enum Visit {
    Pending,
    /// Those that it depends on come first. A circle of dependencies, which the config refuses, would end here.
    InProgress,
    /// It was not looked at in this run.
    Skipped,
    Done(Decision),
}

struct Resolver<'a> {
    services: Vec<&'a Service>,
    facts: Facts<'a>,
    /// Those that somebody asked to have restarted.
    requested: &'a BTreeSet<&'a str>,
    /// By name, where a service stands.
    indexes: HashMap<&'a str, usize>,
    /// In the order of `services`.
    visits: Vec<Visit>,
}

impl Resolver<'_> {
    /// Decides about a service after those that it depends on.
    fn decide_one(&mut self, index: usize) {
        if !matches!(self.visits[index], Visit::Pending) {
            return;
        }
        let service = self.services[index];
        let mut decision = if service.enabled {
            let Some(observation) = self.facts.seen.get(&service.name) else {
                self.visits[index] = Visit::Skipped;
                return;
            };
            let nothing = Box::default();
            let remembered = self.facts.state.services.get(&service.name);
            decide_without_dependencies(
                service,
                observation,
                remembered.unwrap_or(&nothing),
                self.facts,
            )
        } else {
            Decision::of(&service.name, Verdict::Disabled)
        };
        if decision.operation.is_some() {
            self.visits[index] = Visit::InProgress;
            match self.dependencies_restarting(service) {
                Ok(after) => decision.after = after,
                Err(why) => {
                    decision.operation = None;
                    decision.strategy = None;
                    decision.verdict = Verdict::Waiting;
                    decision.why = Some(why);
                }
            }
        }
        if self.requested.contains(&*service.name) {
            self.visits[index] = Visit::InProgress;
            decision = self.answer_request(service, decision);
        }
        self.visits[index] = Visit::Done(decision);
    }

    /// The services that are restarted in this run and must come up before this one; an error where one of those that it
    /// depends on is broken.
    fn dependencies_restarting(&mut self, service: &Service) -> Result<Vec<String>, String> {
        let mut after = Vec::new();
        let mut held_by = None;
        // one that shares a network comes up only where its owner is up
        let seen = self.facts.seen.get(&service.name);
        let owner = seen.and_then(|seen| seen.network_of.as_ref());
        let owner = owner.filter(|name| !service.depends_on.contains(name));
        for name in service.depends_on.iter().chain(owner) {
            match self.dependency_status(name) {
                DependencyStatus::Well => {}
                DependencyStatus::Restarting => after.push(name.clone()),
                DependencyStatus::Broken(verdict) => {
                    held_by.get_or_insert_with(|| {
                        format!("waits for `{name}`, which is {}", verdict.name())
                    });
                }
            }
        }
        held_by.map_or(Ok(after), Err)
    }

    /// The decision about a service that somebody asked to have restarted.
    fn answer_request(&mut self, service: &Service, decision: Decision) -> Decision {
        // it is mended anyway
        if decision.operation.is_some() {
            return decision;
        }
        let nothing = Box::default();
        let remembered = self.facts.state.services.get(&service.name);
        let refusal = match self.facts.seen.get(&service.name) {
            Some(observation) if service.enabled => requested::refusal(
                service,
                observation,
                remembered.unwrap_or(&nothing),
                self.facts,
            ),
            _ => Some("it is disabled (enabled = false)".to_owned()),
        };
        let after = refusal.map_or_else(|| self.dependencies_restarting(service), Err);
        match after {
            Ok(after) => Decision {
                operation: Some(Operation::Restart),
                after,
                requested: true,
                failures: decision.failures,
                ..Decision::of(&service.name, Verdict::Failing)
            },
            Err(why) => Decision {
                refused: Some(why),
                ..decision
            },
        }
    }

    /// How a dependency stands, once it is decided about.
    fn dependency_status(&mut self, name: &str) -> DependencyStatus {
        let index = self.indexes.get(name).copied();
        if let Some(index) = index {
            self.decide_one(index);
        }
        match index.map(|index| &self.visits[index]) {
            Some(Visit::Done(decision)) if decision.operation.is_some() => {
                DependencyStatus::Restarting
            }
            Some(Visit::Done(decision)) if decision.verdict.is_broken() => {
                DependencyStatus::Broken(decision.verdict)
            }
            // a paused service is broken all the same
            Some(Visit::Done(decision))
                if decision.failures > 0 && decision.verdict == Verdict::Paused =>
            {
                DependencyStatus::Broken(Verdict::Paused)
            }
            Some(Visit::Done(_)) => DependencyStatus::Well,
            // not looked at in this run: as the last one saw it
            _ => {
                let Some(remembered) = self.facts.state.services.get(name) else {
                    return DependencyStatus::Well;
                };
                match remembered.verdict {
                    Some(verdict) if verdict.is_broken() => DependencyStatus::Broken(verdict),
                    Some(Verdict::Paused) if remembered.consecutive_failures > 0 => {
                        DependencyStatus::Broken(Verdict::Paused)
                    }
                    _ => DependencyStatus::Well,
                }
            }
        }
    }
}

/// How a dependency stands.
enum DependencyStatus {
    Well,
    Restarting,
    Broken(Verdict),
}

/// Decides about a service as if it depended on no other.
fn decide_without_dependencies(
    service: &Service,
    observation: &Observation,
    state: &ServiceState,
    facts: Facts<'_>,
) -> Decision {
    let graced = has_grace(service, observation, state, facts.now);
    let activating = observation.activating.as_ref();
    let (held, judged): (Vec<&Finding>, Vec<&Finding>) =
        observation
            .findings
            .iter()
            .partition(|finding| match finding.grace() {
                Grace::None => false,
                Grace::Activating => activating.is_some(),
                Grace::Young => graced || activating.is_some(),
            });
    let chosen = Chosen::of(service, &judged);
    let severity = worst(judged);
    let broken = severity == Some(Severity::Critical);
    let failures = match severity {
        Some(Severity::Critical) => state.consecutive_failures.saturating_add(1),
        // what was not seen is neither a failure nor a success
        Some(Severity::Unknown) => state.consecutive_failures,
        _ => 0,
    };
    let decision = |verdict, why: Option<String>| Decision {
        why,
        failures,
        ..Decision::of(&service.name, verdict)
    };
    if let Some(pause) = state.pause_note(facts.now) {
        return decision(Verdict::Paused, Some(pause));
    }
    if broken {
        let failing = |verdict, why| Decision {
            counts: Some(true),
            ..decision(verdict, why)
        };
        let Some(chosen) = chosen else {
            let why =
                "a restart does not mend what is wrong, so it is only alerted about".to_owned();
            return failing(Verdict::Down, Some(why));
        };
        if let Some(blocked) = blocked(service, chosen, observation, state, facts) {
            return Decision {
                spent: blocked.spent,
                ..failing(blocked.verdict, Some(blocked.why))
            };
        }
        let strategy = chosen.strategy();
        return Decision {
            operation: chosen.operation(),
            strategy: strategy.map(|strategy| strategy.id.clone()),
            ..failing(Verdict::Failing, None)
        };
    }
    let well = |verdict| Decision {
        counts: Some(false),
        ..decision(verdict, None)
    };
    match severity {
        Some(Severity::Unknown) => decision(Verdict::Unknown, None),
        // that systemd restarts it again and again is told, also while it is at it
        Some(_) if activating.is_some() => decision(Verdict::Degraded, activating.cloned()),
        None if activating.is_some() => decision(Verdict::Starting, activating.cloned()),
        _ if !held.is_empty() => {
            let grace = clock::rough(service.start_grace);
            let why = match observation.process_status {
                ProcessStatus::Running(_) => {
                    format!("its logs and probes are not judged before its process is {grace} old")
                }
                _ => {
                    format!("its logs and probes are not judged within {grace} of its last restart")
                }
            };
            decision(Verdict::Starting, Some(why))
        }
        Some(_) => well(Verdict::Degraded),
        None => well(Verdict::Healthy),
    }
}

/// Whether its logs and probes are held against it: not while its process is young, unless two young ones before it have
/// not made it healthy. Where no process can be known, what was restarted is as old as its last restart that did not fail.
fn has_grace(
    service: &Service,
    observation: &Observation,
    state: &ServiceState,
    now: DateTime<Utc>,
) -> bool {
    let (age, earlier) = match &observation.process_status {
        ProcessStatus::Running(running) => {
            let others = state.recent_starts.iter();
            let earlier = others.take_while(|&young| *young != running.main);
            (running.age, earlier.count())
        }
        ProcessStatus::NotApplicable => match state.good_restarts.last() {
            Some(&last) => (clock::age(now, last), state.vain_restarts()),
            None => return false,
        },
        ProcessStatus::NotRunning | ProcessStatus::Unknown => return false,
    };
    age < service.start_grace && earlier < MAX_GRACE_PERIODS
}

#[cfg(test)]
mod tests;
