//! The config as it is meant: typed, checked and complete, with defaults filled in and paths absolute.
//!
//! What was written is read in `top.rs`, `service.rs` and `mail.rs` by the reader of `read.rs`, which knows places
//! in the file; nothing here does. Nothing but the config itself is opened, resolved or run on the way; only
//! `load.rs` touches the world, to find the file, to judge whom it could come from, and who can read its secrets.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use log::LevelFilter;

use crate::check::{Check, Rule, log as log_check, port, process};
use crate::notify;
use crate::restart::{Limits, RestartMethod};

mod environment;
mod fault;
pub mod keys;
mod load;
mod mail;
pub mod place;
mod ports;
mod read;
mod service;
mod show;
#[cfg(test)]
mod tests;
mod top;
pub mod trust;

pub use environment::Environment;
pub use fault::{ConfigError, Fault};
pub use load::{find, load};
pub use show::to_toml;

/// Parses and checks a config that stands at `path`, an absolute path that is not touched. All that is wrong is
/// told, in the order of the file.
pub fn parse(text: &str, path: &Path, environment: &Environment) -> Result<Config, Vec<Fault>> {
    top::read(text, path, environment).map(|read| read.config)
}

/// A whole config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file it came from, absolute.
    pub path: PathBuf,
    /// Where state, lock, journal and outbox are, absolute.
    pub state_dir: PathBuf,
    /// For one check.
    pub check_timeout: Duration,
    /// For a whole run.
    pub run_timeout: Duration,
    /// The watchdog's own log.
    pub logging: Logging,
    /// What holds for a service that says nothing; the services have it in them already.
    pub defaults: Defaults,
    /// Whom to mail, and how; absent: nobody.
    pub mail: Option<notify::mail::Settings>,
    /// The services in the order of the file.
    pub services: Vec<Service>,
}

impl Config {
    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    /// The name of a service that somebody who wrote `name` may have meant.
    pub fn nearest_service(&self, name: &str) -> Option<&str> {
        keys::nearest(
            name,
            self.services.iter().map(|service| service.name.as_str()),
        )
    }
}

/// What a service does not say itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// A younger process is not judged by its logs.
    pub start_grace: Duration,
    /// When a service is restarted.
    pub policy: Policy,
    /// The limits of a restart.
    pub limits: Limits,
    /// The command of a service that has neither `spawn` nor `systemd` nor a command of its own.
    pub command: Option<Vec<String>>,
}

/// The watchdog's own log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// Absolute; absent: standard error only.
    pub file: Option<PathBuf>,
    /// What is worth a line in the file.
    pub level: LevelFilter,
}

/// One program to look after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, unique.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// Whether it is looked at.
    pub enabled: bool,
    /// Absolute; most have that of the config.
    pub working_dir: Arc<Path>,
    /// A younger process is not judged by its logs.
    pub start_grace: Duration,
    /// Services that must be well before this one is restarted.
    pub depends_on: Vec<String>,
    /// How its process is known. Absent: it has only logs, a unit, or what the watchdog itself started.
    pub process: Option<process::Rule>,
    /// Its checks beside what it is made of: logs, ports.
    pub checks: Vec<Check>,
    /// Its systemd unit, which is a check as well.
    pub unit: Option<crate::check::unit::Unit>,
    /// How it is restarted; absent: it is only watched.
    pub method: Option<RestartMethod>,
    /// When it is restarted.
    pub policy: Policy,
    /// The limits of a restart.
    pub limits: Limits,
}

impl Service {
    /// Its logs, in the order of the file.
    pub fn logs(&self) -> impl Iterator<Item = &log_check::Rule> {
        self.checks.iter().filter_map(|check| match &check.rule {
            Rule::Log(rule) => Some(&**rule),
            Rule::Port(_) => None,
        })
    }

    /// Its port probes, in the order of the file.
    pub fn ports(&self) -> impl Iterator<Item = &port::Rule> {
        self.checks.iter().filter_map(|check| match &check.rule {
            Rule::Port(rule) => Some(&**rule),
            Rule::Log(_) => None,
        })
    }
}

/// When a service is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Attempts, good or bad, in any 60 minutes; 0: never.
    pub max_per_hour: u32,
    /// What happens when they are spent.
    pub on_exhausted: OnExhausted,
    /// Consecutive failing runs before a restart. At least 1.
    pub after_failures: u32,
    /// Least time between two attempts.
    pub cooldown: Duration,
}

/// What happens when the budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExhausted {
    /// Wait until the window frees.
    Wait,
    /// Nothing more until `watchdog reset`.
    GiveUp,
}

/// Where the services stand, each after all that it depends on. Without recursion: a chain of services may be longer than
/// a stack is deep.
pub fn dependencies_first(services: &[Service]) -> Vec<usize> {
    if services.iter().all(|service| service.depends_on.is_empty()) {
        return (0..services.len()).collect();
    }
    let names = services.iter().map(|service| service.name.as_str());
    let places: HashMap<&str, usize> = names.zip(0..).collect();
    let mut order = Vec::with_capacity(services.len());
    let mut begun = vec![false; services.len()];
    for root in 0..services.len() {
        // the way from the root: a service, and which of its dependencies comes next
        let mut way = Vec::new();
        if !std::mem::replace(&mut begun[root], true) {
            way.push((root, 0));
        }
        while let Some((place, next)) = way.pop() {
            let Some(name) = services[place].depends_on.get(next) else {
                order.push(place);
                continue;
            };
            way.push((place, next + 1));
            if let Some(&other) = places.get(name.as_str())
                && !std::mem::replace(&mut begun[other], true)
            {
                way.push((other, 0));
            }
        }
    }
    order
}
