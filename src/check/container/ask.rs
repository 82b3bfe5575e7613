//! Asking the engine: one list, and details of what is meant.

use std::fs;
use std::time::{Duration, Instant};

use super::{Containers, Rule, select};
use crate::client::engine::{Details, Engine, Listed, Trouble};

/// What an engine said: all containers, and details of some, by their ids.
#[derive(Clone, Debug)]
pub struct Answer {
    /// All containers.
    pub listed: Vec<Listed>,
    /// Details, or why there are none.
    pub details: Vec<(String, Result<Details, Trouble>)>,
}

impl Answer {
    /// The details of a container.
    pub fn details(&self, id: &str) -> Option<&Result<Details, Trouble>> {
        let found = self.details.iter().find(|(known, _)| known == id);
        found.map(|(_, details)| details)
    }

    /// The container of a rule, where there is one and its details came.
    pub fn described(&self, rule: &Rule, containers: &Containers) -> Option<Described> {
        let [container] = select(rule, &self.listed).found[..] else {
            return None;
        };
        let details = self.details(&container.id)?.as_ref().ok()?.clone();
        Some(Described {
            engine: Engine::at(&containers.path().ok()?),
            timeout: containers.timeout,
            details,
        })
    }
}

/// A container that an engine has described, and the engine, which can be asked for more.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its engine.
    pub engine: Engine,
    /// For a call.
    pub timeout: Duration,
    /// What it says.
    pub details: Details,
}

/// Asks for all containers. The error is a sentence.
pub fn list(containers: &Containers, run_ends: Instant) -> Result<Vec<Listed>, String> {
    let engine = Engine::at(&containers.path()?);
    let listed = engine.list(containers.timeout, run_ends);
    listed.map_err(|trouble| trouble.to_string())
}

/// Asks for all containers, where they are not `listed` already, and for details of those that rules mean, each call
/// within its time. The error is a sentence.
pub fn ask(
    containers: &Containers,
    rules: &[&Rule],
    listed: Option<Result<Vec<Listed>, String>>,
    run_ends: Instant,
) -> Result<Answer, String> {
    let listed = listed.unwrap_or_else(|| list(containers, run_ends))?;
    let engine = Engine::at(&containers.path()?);
    let mut ids: Vec<String> = Vec::new();
    for rule in rules {
        let selected = select(rule, &listed);
        for container in selected.found.into_iter().chain(selected.beside) {
            if !ids.contains(&container.id) {
                ids.push(container.id.clone());
            }
        }
    }
    let wanted: Vec<&str> = ids.iter().map(String::as_str).collect();
    let details = engine.details(&wanted, containers.timeout, run_ends);
    let details = ids.into_iter().zip(details).collect();
    Ok(Answer { listed, details })
}

/// Whether a process is surely of a container: its control group has the id in its name. An engine that is elsewhere, or in
/// another PID namespace, gives numbers of other processes.
pub fn is_process_of(pid: i32, id: &str) -> bool {
    pid > 0
        && id.len() >= 32
        && fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(id))
}
