//! Finding services: the `[discover.NAME]` tables against what an engine and systemd have.
//!
//! An engine is asked for its list once in a run, and what looks at containers later goes by the same list. Which
//! containers become services, what they are called and what placeholders stand for, is decided by pure functions.
//!
//! Where a source cannot be read, the services that earlier runs found by it stand for it, and will be unknown; where no
//! run has found any, one service with the name of the table does.

use std::time::{Duration, Instant};

use crate::check::container::list;
use crate::client::engine::Listed;
use crate::config::discover::{By, Discover, Target, Template};
use crate::config::{Config, Service};
use crate::plan::Listing;
use crate::state::State;

mod choose;
mod exposed;
mod names;
mod own;
mod units;
mod values;

pub use self::choose::{has_any, odd_labels};
pub use self::values::address_of as address;

/// What sources came to.
#[derive(Debug)]
pub struct Found {
    /// What each table came to, in their order.
    pub listings: Vec<Listing>,
    /// What the engine listed, where it was asked.
    pub containers: Option<Result<Vec<Listed>, String>>,
}

/// Looks for services by all tables of a config, until `run_ends` at the most. `state` is asked only where a source cannot
/// be read.
pub fn find(config: &Config, run_ends: Instant, state: impl Fn() -> State) -> Found {
    let asks_engine = config.discover.iter().any(|table| !table.finds_units());
    let mut containers = asks_engine.then(|| list(&config.containers, run_ends));
    if let Some(Ok(listed)) = &mut containers {
        exposed::add(config, listed, run_ends);
    }
    let own = match &containers {
        Some(Ok(listed)) => own::id(listed),
        _ => None,
    };
    let mut taken: Vec<String> = match &containers {
        Some(Ok(listed)) => choose::named(config, listed),
        _ => Vec::new(),
    };
    taken.extend(own);
    let mut names: Vec<String> = (config.services.iter())
        .map(|service| service.name.clone())
        // a scale has its name for itself
        .chain(config.scales.iter().map(|scale| scale.name.clone()))
        .collect();
    let listings = config.discover.iter().map(|table| {
        let template = Template::of(table, config);
        let found = match (&table.by, &containers) {
            (By::Units { pattern, manager }, _) => {
                let limit = config.check_timeout.min(left(run_ends));
                units::list(*manager, pattern, limit)
                    .map(|units| units::services(&template, &units, *manager, &names))
            }
            (_, Some(Ok(listed))) => {
                let chosen = choose::chosen(table, listed, &taken);
                taken.extend(chosen.iter().map(|container| container.id.clone()));
                Ok(from_containers(table, &template, &chosen, &mut names))
            }
            (_, Some(Err(why))) => Err(why.clone()),
            (_, None) => Ok(Vec::new()),
        };
        let services = match found {
            Ok(services) => services,
            Err(_) => in_place(table, &template, &state(), &names),
        };
        names.extend(services.iter().map(|service| service.name.clone()));
        Listing { services }
    });
    let listings = listings.collect();
    Found {
        listings,
        containers,
    }
}

/// What is remembered of what was found, without asking anybody; `wanted` says which.
pub fn recall(
    config: &Config,
    state: &State,
    wanted: impl Fn(&crate::state::ServiceState) -> bool,
) -> Vec<Listing> {
    let of_table = |table: &Discover| {
        let template = Template::of(table, config);
        let known = state.services.iter().filter(|(_, known)| wanted(known));
        let known = known.filter_map(|(name, known)| match &known.discovered {
            Some(found) => (found.table == table.name)
                .then(|| remembered(&template, table, name, &found.target))?,
            None => (known.stands_for.as_ref() == Some(&table.name))
                .then(|| stand_in(&template, table, name))?,
        });
        Listing {
            services: known.collect(),
        }
    };
    config.discover.iter().map(of_table).collect()
}

fn left(run_ends: Instant) -> Duration {
    run_ends.saturating_duration_since(Instant::now())
}

fn from_containers(
    table: &Discover,
    template: &Template<'_>,
    chosen: &[&Listed],
    names: &mut Vec<String>,
) -> Vec<Service> {
    let mut services = Vec::with_capacity(chosen.len());
    let mut own = Vec::new();
    let explicit = names.clone();
    for (container, name) in chosen.iter().zip(names::of_containers(chosen)) {
        // a service of the config, or of an earlier table, of this name wins
        if explicit.contains(&name) {
            continue;
        }
        let target = Target::container(container.name());
        let answer = |placeholder: &str| values::of(container, table.port, placeholder);
        let Some(made) = template.make(&name, &target, &answer) else {
            continue;
        };
        let mut service = made.service;
        if values::runs(container)
            && let Some(origin) = &mut service.origin
        {
            origin.unset = made.unset;
        }
        own.push(name);
        services.push(service);
    }
    names.extend(own);
    services
}

/// What stands for a source that could not be read.
fn in_place(
    table: &Discover,
    template: &Template<'_>,
    state: &State,
    names: &[String],
) -> Vec<Service> {
    let known = state.services.iter().filter_map(|(name, known)| {
        let found = known.discovered.as_ref()?;
        (found.table == table.name).then(|| remembered(template, table, name, &found.target))?
    });
    let known: Vec<Service> = known.collect();
    if !known.is_empty() {
        return known;
    }
    let mut name = table.name.clone();
    if names.contains(&name) {
        name = format!("discover.{name}");
    }
    stand_in(template, table, &name).into_iter().collect()
}

/// What stands for a table of which nothing is known.
fn stand_in(template: &Template<'_>, table: &Discover, name: &str) -> Option<Service> {
    let target = match &table.by {
        By::Units { pattern, .. } => units::example(pattern),
        _ => table.name.clone(),
    };
    remembered(template, table, name, &target)
}

/// A service that is not seen now: of its table what needs nothing of what it is.
fn remembered(
    template: &Template<'_>,
    table: &Discover,
    name: &str,
    target: &str,
) -> Option<Service> {
    let target = match &table.by {
        By::Units { manager, .. } => Target::unit(target, *manager),
        _ => Target::container(target),
    };
    let nothing = |placeholder: &str| match placeholder {
        "name" | "unit" => Some(Ok(target.name().to_owned())),
        _ => Some(Err("it is not seen now".to_owned())),
    };
    let mut service = template.make(name, &target, &nothing)?.service;
    if let Some(origin) = &mut service.origin {
        origin.is_listed = false;
    }
    Some(service)
}
