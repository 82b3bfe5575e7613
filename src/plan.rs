//! Which services there are in a run: those of the config, and those that other sources list.
//!
//! A source that could not be read says nothing about what is gone. As long as one could not, nothing that is remembered
//! of any service is forgotten.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::config::{Config, Service};
use crate::state::State;

/// What a source of services, beside the config, came to in this run.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The source, for people.
    pub source: String,
    /// The services that it has; or why it could not be read.
    pub services: Result<Vec<Service>, String>,
}

/// A source that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreachable {
    /// The source, for people.
    pub source: String,
    /// Why.
    pub why: String,
}

/// The services of a run.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    /// All of them: those of the config in its order, then those of each source.
    pub services: Vec<Arc<Service>>,
    /// The sources that could not be read.
    pub unreachable: Vec<Unreachable>,
    /// Services that earlier runs knew and no source lists, while one could not be read: perhaps they are its own, and
    /// whether they are well is unknown.
    pub last_known: BTreeSet<String>,
}

/// Which services there are. A service of the config wins over one of the same name that a source lists, and an earlier
/// source over a later one.
pub fn plan(config: &Config, listings: Vec<Listing>, state: &State) -> Roster {
    let mut roster = Roster {
        services: config.services.clone(),
        ..Roster::default()
    };
    for Listing { source, services } in listings {
        match services {
            Ok(found) => {
                let new = found
                    .into_iter()
                    .filter(|found| roster.service(&found.name).is_none());
                let new: Vec<_> = new.map(Arc::new).collect();
                roster.services.extend(new);
            }
            Err(why) => roster.unreachable.push(Unreachable { source, why }),
        }
    }
    if !roster.unreachable.is_empty() {
        let remembered = state.services.keys();
        roster.last_known = remembered
            .filter(|name| roster.service(name).is_none())
            .cloned()
            .collect();
    }
    roster
}

impl Roster {
    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.iter().find(|service| service.name == name)
    }

    /// Forgets services that there are no longer. Not while one is paused or given up, or has attempts that still count:
    /// taking a service out and putting it back in must not double its budget.
    pub fn forget_removed(&self, state: &mut State, now: DateTime<Utc>) {
        let listed: BTreeSet<&str> = (self.services.iter())
            .map(|service| service.name.as_str())
            .collect();
        state.retain_services(|name, known| {
            listed.contains(name)
                || self.last_known.contains(name)
                || known.attempts_in_hour(now) > 0
                || known.is_paused(now)
                || known.given_up.is_some()
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{self, Environment};
    use crate::fixtures::{at, service};
    use crate::state::ServiceState;

    fn config(names: &[&str]) -> Config {
        let table = |name: &&str| format!("[service.{name}]\nspawn = {{ command = [\"true\"] }}\n");
        let tables: Vec<String> = names.iter().map(table).collect();
        let text = tables.concat();
        config::parse(&text, Path::new("/w.toml"), &Environment::default()).unwrap()
    }

    fn listing(source: &str, services: Result<&[&str], &str>) -> Listing {
        Listing {
            source: source.to_owned(),
            services: services
                .map(|names| names.iter().map(|name| service(name)).collect())
                .map_err(str::to_owned),
        }
    }

    fn state(names: &[&str]) -> State {
        let mut state = State::default();
        for name in names {
            let known = ServiceState::default();
            state.services.insert((*name).to_owned(), known);
        }
        state
    }

    #[test]
    fn the_services_are_those_of_the_config_and_of_each_source_that_was_read() {
        let state = state(&["a", "gone"]);
        for (listings, services, unreachable, last_known) in [
            (vec![], &["a", "b"][..], &[][..], &[][..]),
            (vec![listing("x", Ok(&["c"]))], &["a", "b", "c"], &[], &[]),
            // the config wins, and the earlier source
            (
                vec![listing("x", Ok(&["b", "c"])), listing("y", Ok(&["c", "d"]))],
                &["a", "b", "c", "d"],
                &[],
                &[],
            ),
            (
                vec![listing("x", Err("no answer")), listing("y", Ok(&["c"]))],
                &["a", "b", "c"],
                &[("x", "no answer")],
                &["gone"],
            ),
        ] {
            let roster = plan(&config(&["a", "b"]), listings, &state);
            let names: Vec<&str> = (roster.services.iter())
                .map(|service| service.name.as_str())
                .collect();
            assert_eq!(names, services);
            let missing: Vec<(&str, &str)> = (roster.unreachable.iter())
                .map(|it| (it.source.as_str(), it.why.as_str()))
                .collect();
            assert_eq!(missing, unreachable);
            assert!(roster.last_known.iter().eq(last_known));
        }
    }

    #[test]
    fn what_still_counts_of_a_removed_service_is_not_forgotten() {
        let hour_ago = ServiceState {
            attempts: vec![at(0)],
            ..ServiceState::default()
        };
        let now = at(3601);
        for (what, known, listings, is_kept) in [
            ("removed", ServiceState::default(), vec![], false),
            (
                "attempts that no longer count",
                hour_ago.clone(),
                vec![],
                false,
            ),
            (
                "attempts in the hour",
                ServiceState {
                    attempts: vec![at(2)],
                    ..ServiceState::default()
                },
                vec![],
                true,
            ),
            (
                "paused",
                ServiceState {
                    paused_until: Some(at(9000)),
                    ..ServiceState::default()
                },
                vec![],
                true,
            ),
            (
                "a pause that is over",
                ServiceState {
                    paused_until: Some(at(3600)),
                    ..ServiceState::default()
                },
                vec![],
                false,
            ),
            (
                "given up",
                ServiceState {
                    given_up: Some(at(0)),
                    ..ServiceState::default()
                },
                vec![],
                true,
            ),
            (
                "a source that has it",
                ServiceState::default(),
                vec![listing("x", Ok(&["it"]))],
                true,
            ),
            (
                "a source that no longer has it",
                ServiceState::default(),
                vec![listing("x", Ok(&[]))],
                false,
            ),
            (
                "a source that could not be read",
                ServiceState::default(),
                vec![listing("x", Err("no answer"))],
                true,
            ),
        ] {
            let mut state = state(&["a"]);
            state.services.insert("it".to_owned(), known);
            let roster = plan(&config(&["a"]), listings, &state);
            roster.forget_removed(&mut state, now);
            assert_eq!(state.services.contains_key("it"), is_kept, "{what}");
            assert!(state.services.contains_key("a"), "{what}");
        }
    }
}
