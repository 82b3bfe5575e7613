//! The config as it is meant: typed, checked and complete, with defaults filled in and paths absolute.
//!
//! Each table is defined once, by `table!` in the file of whatever goes by it; `top.rs` and `service.rs` put them
//! together. What was written is read by the reader of `table`, which knows places in the file; nothing here does.
//! Nothing but the config itself is opened, resolved or run on the way; only `load.rs` touches the system, to find the
//! file, to judge whom it could come from, and who can read its secrets.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Number;

use crate::check::prometheus::{self, Prometheus, Prometheuses};
use crate::check::{Check, CheckStates, Listed, Rule, process};
use crate::notify::ping::Ping;
use crate::notify::{Channel, mail};
use crate::restart::{Limits, RestartMethod, evidence};
use crate::table::{Fields, Section};

mod channels;
mod dependencies;
pub mod discover;
mod environment;
mod error;
mod load;
mod metrics;
pub mod place;
mod policy;
pub mod scale;
mod service;
mod strategy;
#[cfg(test)]
mod tests;
mod top;
pub mod trust;
mod web;

pub use crate::table::fault::Fault;
pub use discover::Discover;
pub use environment::Environment;
pub use error::ConfigError;
pub use load::{find, load, ping};
pub use metrics::Metrics;
pub use policy::Policy;
pub use scale::Scale;
pub use service::RESERVED;
pub use strategy::{Remedy, Strategy};
pub use top::{LogFormat, Logging, to_toml};
pub use web::Web;

/// What holds for all of a config file.
pub(crate) const ABOUT: &str = "Times are \"250ms\", \"90s\", \"5m\", \"1h 30m\", \"1d\"; sizes \"512 MB\", \"1.5 GiB\" (MB is 10^6, MiB 2^20). Relative paths are relative to the service's \
                                working_dir, and that to the directory of this file. Nothing expands `~` or `$HOME`. `watchdog \
                                validate` tells what is wrong with a config.";

/// All tables of a config, with their keys.
pub(crate) fn sections() -> Vec<Section> {
    crate::table::sections(top::TopKeys::LAYOUT)
}

/// Parses and checks a config that stands at `path`, an absolute path that is not touched. All that is wrong is
/// told, in the order of the file.
pub fn parse(text: &str, path: &Path, environment: &Environment) -> Result<Config, Vec<Fault>> {
    top::read(top::Written { path, text }, &[], environment)
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
    /// The container engine.
    pub containers: crate::check::container::Containers,
    /// What its `include` names.
    pub included: Vec<Included>,
    /// The watchdog's own log.
    pub logging: Logging,
    /// What Prometheus reads.
    pub metrics: Metrics,
    /// What `watchdog web` serves.
    pub web: Option<Web>,
    /// A Prometheus, whose alerts may be reasons for repairs.
    pub prometheus: Option<Arc<Prometheus>>,
    /// What holds for a service that says nothing; the services have it in them already.
    pub defaults: Defaults,
    /// Whom to alert, and how; empty: nobody.
    pub channels: Vec<Channel>,
    /// Who is told that runs happen.
    pub ping: Option<Ping>,
    /// What is looked for in each run.
    pub discover: Vec<Discover>,
    /// How many replicas of something run.
    pub scales: Vec<Arc<Scale>>,
    /// The services in the order of the file; in a run with what it found behind them.
    pub services: Vec<Arc<Service>>,
}

impl Config {
    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        let mut services = self.services.iter().map(|service| &**service);
        services.find(|service| service.name == name)
    }

    /// The scale of this name.
    pub fn scale(&self, name: &str) -> Option<&Scale> {
        let mut scales = self.scales.iter().map(|scale| &**scale);
        scales.find(|scale| scale.name == name)
    }

    /// The `[mail]` table, or what the environment has in its place.
    pub fn mail(&self) -> Option<&mail::Settings> {
        self.channels.iter().find_map(Channel::as_mail)
    }

    /// The names of all services and scales.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        let services = self.services.iter().map(|service| service.name.as_str());
        services.chain(self.scales.iter().map(|scale| scale.name.as_str()))
    }
}

/// A pattern of `include`, and the files that it matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Included {
    /// As it is written.
    pub pattern: String,
    /// In the order of their names, the config itself left out. Another pattern may match them as well: each is read once.
    pub files: Vec<PathBuf>,
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
    /// Whether what runs is stopped before that command is run.
    pub stop_first: bool,
    /// What is recorded before a process is stopped.
    pub evidence: evidence::Settings,
}

/// One program to look after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, unique.
    pub name: String,
    /// The file that it stands in.
    pub file: Arc<Path>,
    /// For people.
    pub description: Option<String>,
    /// Whether it is checked.
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
    /// Its container, which is a check as well.
    pub container: Option<crate::check::container::Rule>,
    /// How it is restarted; absent: it is only watched.
    pub method: Option<RestartMethod>,
    /// What is done for which findings, in the order of the file.
    pub strategies: Vec<Strategy>,
    /// When it is restarted.
    pub policy: Policy,
    /// The limits of a restart.
    pub limits: Limits,
    /// What is recorded before its process is stopped.
    pub evidence: evidence::Settings,
    /// How it was found, where it is not in the config.
    pub origin: Option<Box<Origin>>,
}

/// How a service was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The `discover` table.
    pub table: String,
    /// The container or unit that it is.
    pub target: String,
    /// Whether it was found in this run. Else its source could not be read, and an earlier run found it.
    pub is_listed: bool,
    /// What of the table it lacks, and why, as sentences.
    pub unset: Vec<String>,
}

impl Service {
    /// The strategy of this id.
    pub fn strategy(&self, id: &str) -> Option<&Strategy> {
        self.strategies.iter().find(|strategy| strategy.id == id)
    }

    /// Of how many of the last runs has to be known whether they failed.
    pub fn runs_kept(&self) -> u32 {
        let policies = self.strategies.iter().map(|strategy| &strategy.policy);
        let windows = policies.chain([&self.policy]).map(Policy::window);
        windows.max().unwrap_or(1)
    }

    /// Whether there is anything that can be done about it.
    pub fn has_remedy(&self) -> bool {
        let repairs = |strategy: &Strategy| matches!(strategy.remedy, Remedy::Repair(_));
        self.method.is_some() || self.strategies.iter().any(repairs)
    }

    /// The figures of its last looks, by their names in reports.
    pub fn figures(&self, states: &CheckStates) -> BTreeMap<&'static str, Number> {
        let figures = self.checks.iter().filter_map(|check| {
            let state = states.get(&check.id)?;
            check.rule.figures(state)
        });
        figures.collect()
    }

    /// Fills in what its checks have of the config as a whole.
    fn complete(&mut self, check_timeout: Duration, prometheus: Option<&Arc<Prometheus>>) {
        for check in &mut self.checks {
            check.rule.fill_in(check_timeout);
            if let (Rule::Prometheus(rule), Some(settings)) = (&mut check.rule, prometheus) {
                Arc::make_mut(rule).settings = Some(Arc::clone(settings));
            }
        }
        let wanted = prometheus
            .and_then(|settings| prometheus::Rule::repairs(&self.name, settings, check_timeout));
        if let Some(rule) = wanted {
            let rule = Prometheuses::rule(rule);
            let id = format!("{}:{}", rule.kind_name(), rule.target()).into();
            self.checks.push(Check { id, rule });
        }
    }

    /// Its checks of one kind, in the order of the file.
    pub fn rules<K: Listed>(&self) -> impl Iterator<Item = &K::Rule> {
        self.checks.iter().filter_map(|check| K::of(&check.rule))
    }
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
pub fn dependencies_first(services: &[impl Borrow<Service>]) -> Vec<usize> {
    let services: Vec<&Service> = services.iter().map(Borrow::borrow).collect();
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
