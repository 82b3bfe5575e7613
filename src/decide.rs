//! The policy: what to do is a function of what was seen, what is remembered, the config and the time.
//!
//! Pure and total: it looks at nothing, changes nothing and cannot fail. All that a person argues about ("why
//! was it restarted?", "why not?") is decided here, so all of it can be shown by tables.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use crate::check::process::Presence;
use crate::check::{Finding, Grace, Kind, Observation, Severity, worst};
use crate::clock;
use crate::config::{OnExhausted, Service, dependencies_first};
use crate::memory::{GRACES, Memory, ServiceMemory};
use crate::verdict::Verdict;

/// What is to be done about one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The service.
    pub service: String,
    /// The verdict as far as observing goes: [`Verdict::Failing`] where a restart is due.
    pub verdict: Verdict,
    /// Whether it is to be restarted now, and after which other services.
    pub restart: Option<Restart>,
    /// Why nothing is done about it, where something is wrong.
    pub why: Option<String>,
    /// How many runs in a row have found it broken, this one included.
    pub failures: u32,
}

/// A restart that is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restart {
    /// The services that are restarted in this run and must come up before.
    pub after: Vec<String>,
}

/// What a run knows when it decides.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What was seen, by service. Services that were not asked for are not in it.
    pub seen: &'a BTreeMap<String, Observation>,
    /// What is remembered.
    pub memory: &'a Memory,
    /// The time of the run.
    pub now: DateTime<Utc>,
    /// Whether the remembered attempts can be relied on.
    pub trusted: bool,
}

/// Decides about every service that was looked at, in the order of `services`.
pub fn decide(services: &[Service], facts: Facts<'_>) -> Vec<Decision> {
    let names = services.iter().map(|service| service.name.as_str());
    let mut making = Making {
        services,
        facts,
        places: names.zip(0..).collect(),
        made: vec![Made::Open; services.len()],
    };
    for place in dependencies_first(services) {
        making.settle_on(place);
    }
    let made = making.made.into_iter().filter_map(|made| match made {
        Made::Decided(decision) => Some(decision),
        Made::Open | Made::Begun | Made::Unseen => None,
    });
    made.collect()
}

/// How far deciding about a service has got.
#[derive(Clone)]
enum Made {
    Open,
    /// Those that it depends on come first. A circle of dependencies, which the config refuses, would end here.
    Begun,
    /// It was not looked at in this run.
    Unseen,
    Decided(Decision),
}

struct Making<'a> {
    services: &'a [Service],
    facts: Facts<'a>,
    /// By name, where a service stands.
    places: HashMap<&'a str, usize>,
    /// In the order of `services`.
    made: Vec<Made>,
}

impl Making<'_> {
    /// Decides about a service after those that it depends on.
    fn settle_on(&mut self, place: usize) {
        if !matches!(self.made[place], Made::Open) {
            return;
        }
        let service = &self.services[place];
        let mut decision = if service.enabled {
            let Some(observation) = self.facts.seen.get(&service.name) else {
                self.made[place] = Made::Unseen;
                return;
            };
            let nothing = ServiceMemory::default();
            let remembered = self.facts.memory.services.get(&service.name);
            alone(
                service,
                observation,
                remembered.unwrap_or(&nothing),
                self.facts,
            )
        } else {
            Decision {
                service: service.name.clone(),
                verdict: Verdict::Disabled,
                restart: None,
                why: None,
                failures: 0,
            }
        };
        if let Some(restart) = &mut decision.restart {
            self.made[place] = Made::Begun;
            let mut held_by = None;
            for name in &service.depends_on {
                match self.standing(name) {
                    Standing::Well => {}
                    Standing::Restarting => restart.after.push(name.clone()),
                    Standing::Broken(verdict) => {
                        held_by.get_or_insert_with(|| {
                            format!("waits for `{name}`, which is {}", verdict.name())
                        });
                    }
                }
            }
            if let Some(why) = held_by {
                decision.restart = None;
                decision.verdict = Verdict::Waiting;
                decision.why = Some(why);
            }
        }
        self.made[place] = Made::Decided(decision);
    }

    /// How a dependency stands, once it is decided about.
    fn standing(&mut self, name: &str) -> Standing {
        let place = self.places.get(name).copied();
        if let Some(place) = place {
            self.settle_on(place);
        }
        match place.map(|place| &self.made[place]) {
            Some(Made::Decided(decision)) if decision.restart.is_some() => Standing::Restarting,
            Some(Made::Decided(decision)) if decision.verdict.is_broken() => {
                Standing::Broken(decision.verdict)
            }
            // a paused service is broken all the same
            Some(Made::Decided(decision))
                if decision.failures > 0 && decision.verdict == Verdict::Paused =>
            {
                Standing::Broken(Verdict::Paused)
            }
            Some(Made::Decided(_)) => Standing::Well,
            // not looked at in this run: as the last one saw it
            _ => {
                let Some(remembered) = self.facts.memory.services.get(name) else {
                    return Standing::Well;
                };
                match remembered.verdict {
                    Some(verdict) if verdict.is_broken() => Standing::Broken(verdict),
                    Some(Verdict::Paused) if remembered.consecutive_failures > 0 => {
                        Standing::Broken(Verdict::Paused)
                    }
                    _ => Standing::Well,
                }
            }
        }
    }
}

/// How a dependency stands.
enum Standing {
    Well,
    Restarting,
    Broken(Verdict),
}

/// Decides about a service as if it depended on no other.
fn alone(
    service: &Service,
    observation: &Observation,
    memory: &ServiceMemory,
    facts: Facts<'_>,
) -> Decision {
    let graced = has_grace(service, observation, memory);
    let activating = observation
        .unit
        .as_ref()
        .and_then(|unit| unit.activating.as_ref());
    let (held, judged): (Vec<&Finding>, Vec<&Finding>) =
        observation
            .findings
            .iter()
            .partition(|finding| match finding.grace() {
                Grace::None => false,
                Grace::Activating => activating.is_some(),
                Grace::Young => graced || activating.is_some(),
            });
    let mendable = judged.iter().any(|finding| finding.is_reason_to_restart());
    let severity = worst(judged);
    let broken = severity == Some(Severity::Critical);
    let failures = match severity {
        Some(Severity::Critical) => memory.consecutive_failures.saturating_add(1),
        // what was not seen is neither a failure nor a success
        Some(Severity::Unknown) => memory.consecutive_failures,
        _ => 0,
    };
    let decision = |verdict, why: Option<String>| Decision {
        service: service.name.clone(),
        verdict,
        restart: None,
        why,
        failures,
    };
    if let Some(pause) = memory.pause_told(facts.now) {
        return decision(Verdict::Paused, Some(pause));
    }
    if broken && !mendable {
        let why = "a restart does not mend what is wrong, so it is only alerted about".to_owned();
        return decision(Verdict::Down, Some(why));
    }
    if broken {
        return match obstacle(service, observation, memory, facts, failures) {
            Some((verdict, why)) => decision(verdict, Some(why)),
            None => Decision {
                restart: Some(Restart::default()),
                ..decision(Verdict::Failing, None)
            },
        };
    }
    match severity {
        Some(Severity::Unknown) => decision(Verdict::Unknown, None),
        // that systemd restarts it again and again is told, also while it is at it
        Some(_) if activating.is_some() => decision(Verdict::Degraded, activating.cloned()),
        None if activating.is_some() => decision(Verdict::Starting, activating.cloned()),
        _ if !held.is_empty() => decision(
            Verdict::Starting,
            Some(format!(
                "its logs and probes are not judged before its process is {} old",
                clock::rough(service.start_grace)
            )),
        ),
        Some(_) => decision(Verdict::Degraded, None),
        None => decision(Verdict::Healthy, None),
    }
}

/// Why a broken service is not restarted now; nothing where it is.
fn obstacle(
    service: &Service,
    observation: &Observation,
    memory: &ServiceMemory,
    facts: Facts<'_>,
    failures: u32,
) -> Option<(Verdict, String)> {
    let policy = &service.policy;
    let now = facts.now;
    if failures < policy.after_failures {
        let why = format!(
            "{failures} of {} failing runs before a restart",
            policy.after_failures
        );
        return Some((Verdict::Failing, why));
    }
    if service.way.is_none() {
        return Some((Verdict::Down, "it has no way to be restarted".to_owned()));
    }
    if policy.max_per_hour == 0 {
        return Some((
            Verdict::Down,
            "max_per_hour = 0: it is never restarted".to_owned(),
        ));
    }
    if observation.presence == Presence::Unseen {
        let unit = observation
            .findings
            .iter()
            .find(|finding| finding.check == Kind::Unit && finding.severity == Severity::Unknown);
        let why = match unit {
            Some(finding) => format!("not restarted: {}", finding.message),
            None => "not restarted, because its process could not be seen: a second copy might be started"
                .to_owned(),
        };
        return Some((Verdict::Down, why));
    }
    if !facts.trusted {
        let why = "the state was damaged, so earlier restarts are not known; it can be restarted by the next run";
        return Some((Verdict::Waiting, why.to_owned()));
    }
    if policy.on_exhausted == OnExhausted::GiveUp && memory.given_up.is_some() {
        let why = format!(
            "given up; `watchdog reset {}` lets it be restarted again",
            service.name
        );
        return Some((Verdict::Exhausted, why));
    }
    if let Some(frees) = memory.budget_frees_at(now, policy.max_per_hour) {
        let used = memory.attempts_in_hour(now);
        let max = policy.max_per_hour;
        let why = match policy.on_exhausted {
            OnExhausted::Wait => {
                format!(
                    "{used} of {max} restarts in the last hour; the next can be made at {}",
                    clock::stamp(frees)
                )
            }
            OnExhausted::GiveUp => {
                format!(
                    "{used} of {max} restarts in the last hour; given up until `watchdog reset {}`",
                    service.name
                )
            }
        };
        return Some((Verdict::Exhausted, why));
    }
    if let Some(last) = memory.last_attempt() {
        let passed = clock::age(now, last);
        if passed < policy.cooldown {
            let why = format!(
                "cooldown: the last restart was {} ago, the next can be made in {}",
                clock::rough(passed),
                clock::rough(policy.cooldown.saturating_sub(passed))
            );
            return Some((Verdict::Waiting, why));
        }
    }
    None
}

/// Whether its logs are held against it: not while its process is young, unless two young ones before it have
/// not made it healthy.
fn has_grace(service: &Service, observation: &Observation, memory: &ServiceMemory) -> bool {
    let Presence::Running(running) = &observation.presence else {
        return false;
    };
    let earlier = memory
        .young
        .iter()
        .take_while(|&young| *young != running.main)
        .count();
    running.age < service.start_grace && earlier < GRACES
}

#[cfg(test)]
mod tests;
