//! Asking the engine: one list, and details of what is meant.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::select::named;
use super::unchanged::{Unchanged, is_as_before};
use super::{Containers, LastSeen, Rule, select};
use crate::check::process::Identity;
use crate::client::engine::{Details, Engine, Listed, Trouble};
use crate::clock::Reading;

/// A container that a service is, and what is known of it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which one.
    pub rule: Rule,
    /// As it was seen last.
    pub known: Option<Arc<LastSeen>>,
    /// Its main process then.
    pub main: Option<Identity>,
    /// Its details are used whether it has changed or not.
    pub is_described: bool,
}

impl Wanted {
    /// One of which nothing is known.
    pub fn of(rule: &Rule) -> Self {
        Self {
            rule: rule.clone(),
            known: None,
            main: None,
            is_described: true,
        }
    }
}

/// What an engine said: all containers, and details of some, by their ids.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// All containers.
    pub listed: Vec<Listed>,
    /// Details, or why there are none.
    pub details: Vec<(String, Result<Details, Trouble>)>,
    /// Those that are surely as they were seen last, whose details were not asked for.
    pub unchanged: Vec<Unchanged>,
}

impl Answer {
    /// The details of a container.
    pub fn details(&self, id: &str) -> Option<&Result<Details, Trouble>> {
        let found = self.details.iter().find(|(known, _)| known == id);
        found.map(|(_, details)| details)
    }

    /// That a container is surely as it was seen last.
    pub fn unchanged(&self, id: &str) -> Option<&Unchanged> {
        self.unchanged.iter().find(|known| known.id == id)
    }

    /// When a container was started last, where that is known.
    pub fn started_at(&self, id: &str) -> Option<DateTime<Utc>> {
        match self.unchanged(id) {
            Some(known) => known.started_at,
            None => self.details(id)?.as_ref().ok()?.state.started_at,
        }
    }

    /// The container of a rule, where there is one and its details came.
    pub fn described(&self, rule: &Rule, containers: &Containers) -> Option<Described> {
        let [container] = select(rule, &self.listed).found[..] else {
            return None;
        };
        let details = self.details(&container.id)?.as_ref().ok()?.clone();
        Some(Described {
            engine: Engine::at(&containers.path().ok()?),
            timeout: containers.call_limit(),
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
    let listed = engine.list(containers.call_limit(), run_ends);
    listed.map_err(|trouble| trouble.to_string())
}

/// Asks for all containers, where they are not `listed` already, and for details of those that are wanted and may have
/// changed, each call within its time. The error is a sentence.
pub fn ask(
    containers: &Containers,
    wanted: &[Wanted],
    listed: Option<Result<Vec<Listed>, String>>,
    now: &Reading,
    run_ends: Instant,
) -> Result<Answer, String> {
    let listed = listed.unwrap_or_else(|| list(containers, run_ends))?;
    let engine = Engine::at(&containers.path()?);
    let (mut ids, mut unchanged): (Vec<String>, Vec<Unchanged>) = (Vec::new(), Vec::new());
    let mut ask_for = |id: &str| {
        if !ids.iter().any(|known| known == id) {
            ids.push(id.to_owned());
        }
    };
    let mut owners = Vec::new();
    for wanted in wanted {
        let selected = select(&wanted.rule, &listed);
        for container in &selected.found {
            let mode = &container.host.network_mode;
            owners.extend(mode.strip_prefix("container:"));
        }
        match (&selected.found[..], &selected.beside[..]) {
            ([container], []) if let Some(known) = as_before(wanted, container, now) => {
                unchanged.push(known);
            }
            (found, beside) => {
                let all = found.iter().chain(beside);
                all.for_each(|container| ask_for(&container.id));
            }
        }
    }
    for owner in owners {
        if let Some(owner) = named(owner, &listed) {
            ask_for(&owner.id);
        }
    }
    // another service may ask for the details of the same one
    unchanged.retain(|known| !ids.contains(&known.id));
    let wanted: Vec<&str> = ids.iter().map(String::as_str).collect();
    let details = engine.details(&wanted, containers.call_limit(), run_ends);
    let details = ids.into_iter().zip(details).collect();
    Ok(Answer {
        listed,
        details,
        unchanged,
    })
}

/// A container that is surely as it was seen last: its main process has not ended since, and all else is in the list.
fn as_before(wanted: &Wanted, container: &Listed, now: &Reading) -> Option<Unchanged> {
    let (known, main) = (wanted.known.as_ref()?, wanted.main.as_ref()?);
    let is_so = !wanted.is_described
        && is_as_before(container, known)
        && main.lives(now)
        && is_process_of(main.pid, &container.id);
    is_so.then(|| Unchanged {
        id: container.id.clone(),
        pid: main.pid,
        started_at: known.started_at,
    })
}

/// Whether a process is surely of a container: its control group has the id in its name. An engine that is elsewhere, or in
/// another PID namespace, gives numbers of other processes.
pub fn is_process_of(pid: i32, id: &str) -> bool {
    pid > 0
        && id.len() >= 32
        && fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(id))
}
