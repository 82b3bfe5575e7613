//! Which services there are in a run: those of the config, and those that were found.
//!
//! A source that could not be read says nothing about what is gone. What earlier runs found by it stands in its place.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::client::engine::Listed;
use crate::config::{Config, Scale, Service};
use crate::state::{Discovered, State};

/// So long what was found is remembered after it was found last.
const REMEMBERED: TimeDelta = TimeDelta::days(1);

/// What a source of services, beside the config, came to in this run.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The services that it has; where it could not be read, those that it had.
    pub services: Vec<Service>,
}

/// The services of a run.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    /// All of them: those of the config in its order, then those of each source.
    pub services: Vec<Arc<Service>>,
    /// How many replicas of something are to run.
    pub scales: Vec<Arc<Scale>>,
    /// What the engine listed, where it was asked for what there is; the error is a sentence.
    pub containers: Option<Result<Vec<Listed>, String>>,
}

/// Adds what sources found to the services of a config. One of the config wins over one of the same name that a source
/// lists, and an earlier source over a later one.
pub fn plan(config: &mut Config, listings: Vec<Listing>) {
    let mut names: BTreeSet<String> = (config.services.iter())
        .map(|service| service.name.clone())
        .chain(config.scales.iter().map(|scale| scale.name.clone()))
        .collect();
    for service in listings.into_iter().flat_map(|listing| listing.services) {
        if names.insert(service.name.clone()) {
            config.services.push(Arc::new(service));
        }
    }
}

impl Roster {
    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.iter().find(|service| service.name == name)
    }

    /// Notes which services were found, and when; and which stand for a source that could not be read.
    pub fn remember_found(&self, state: &mut State, now: DateTime<Utc>) {
        for service in &self.services {
            let Some(origin) = &service.origin else {
                continue;
            };
            // one that was not looked at yet has no state
            let Some(known) = state.services.get_mut(&service.name) else {
                continue;
            };
            if origin.is_listed {
                known.stands_for = None;
                known.discovered = Some(Box::new(Discovered {
                    table: origin.table.clone(),
                    target: origin.target.clone(),
                    at: now,
                    is_gone: false,
                }));
            } else if known.discovered.is_none() {
                known.stands_for = Some(origin.table.clone());
            }
        }
        self.note_gone(state);
        let ended = self.no_longer_stand(state);
        let ended: Vec<String> = ended.map(|(name, _)| name.to_owned()).collect();
        for name in ended {
            if let Some(known) = state.services.get_mut(&name) {
                known.stands_for = None;
            }
        }
    }

    /// Notes what tables have found before, and do not find now. What stands for a table shows that it could not be read.
    fn note_gone(&self, state: &mut State) {
        let found = self.services.iter().filter(|it| it.origin.is_some());
        let names: HashSet<&str> = found.map(|it| it.name.as_str()).collect();
        let origins = self.services.iter().filter_map(|it| it.origin.as_ref());
        let unread: HashSet<&str> = (origins.filter(|origin| !origin.is_listed))
            .map(|origin| origin.table.as_str())
            .collect();
        for (name, known) in &mut state.services {
            if let Some(found) = &mut known.discovered
                && !found.is_gone
                && !unread.contains(found.table.as_str())
            {
                found.is_gone = !names.contains(name.as_str());
            }
        }
    }

    /// Services of a state that stood for a table whose source could not be read, and in this run do not, with that table.
    pub fn no_longer_stand<'a>(
        &self,
        state: &'a State,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        state.services.iter().filter_map(|(name, known)| {
            let table = known.stands_for.as_deref()?;
            let origin = self.service(name).and_then(|it| it.origin.as_ref());
            let stands = origin.is_some_and(|origin| !origin.is_listed);
            (!stands).then_some((name.as_str(), table))
        })
    }

    /// Forgets services that there are no longer. Not while one is paused or given up, or has attempts that still count:
    /// taking a service out and putting it back in must not double its budget. What was found is remembered for a day: a
    /// container that is made anew is gone for a while.
    pub fn forget_removed(&self, state: &mut State, now: DateTime<Utc>) {
        let listed: HashSet<&str> = (self.services.iter())
            .map(|service| service.name.as_str())
            .collect();
        let scaled: HashSet<&str> = (self.scales.iter())
            .map(|scale| scale.name.as_str())
            .collect();
        state.retain(
            |name, known| {
                let found = known.discovered.as_ref();
                listed.contains(name)
                    || known.attempts_in_hour(now) > 0
                    || known.is_paused(now)
                    || known.given_up.is_some()
                    || found.is_some_and(|found| now - found.at < REMEMBERED)
            },
            |name, known| {
                scaled.contains(name) || known.changes_in_hour(now) > 0 || known.is_paused(now)
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{self, Environment, Origin};
    use crate::fixtures::{at, service};
    use crate::state::ServiceState;

    fn config(names: &[&str]) -> Config {
        let table = |name: &&str| format!("[service.{name}]\nspawn = {{ command = [\"true\"] }}\n");
        let tables: Vec<String> = names.iter().map(table).collect();
        let text = tables.concat();
        config::parse(&text, Path::new("/w.toml"), &Environment::default()).unwrap()
    }

    fn listing(names: &[&str], is_listed: bool) -> Listing {
        let found = |name: &&str| Service {
            origin: Some(Box::new(Origin {
                table: "x".to_owned(),
                target: format!("container-{name}"),
                is_listed,
                unset: Vec::new(),
            })),
            ..service(name)
        };
        Listing {
            services: names.iter().map(found).collect(),
        }
    }

    fn roster(config: Config) -> Roster {
        Roster {
            services: config.services,
            scales: config.scales,
            containers: None,
        }
    }

    #[test]
    fn the_services_are_those_of_the_config_and_then_of_each_source() {
        for (listings, services) in [
            (vec![], &["a", "b"][..]),
            (vec![listing(&["c"], true)], &["a", "b", "c"]),
            // the config wins, and the earlier source
            (
                vec![listing(&["b", "c"], true), listing(&["c", "d"], true)],
                &["a", "b", "c", "d"],
            ),
        ] {
            let mut config = config(&["a", "b"]);
            plan(&mut config, listings);
            let names: Vec<&str> = (config.services.iter())
                .map(|service| service.name.as_str())
                .collect();
            assert_eq!(names, services);
            assert!(config.services[..2].iter().all(|it| it.origin.is_none()));
        }
    }

    #[test]
    fn when_something_was_found_last_is_noted_only_where_it_was_found() {
        for (is_listed, noted) in [(true, Some(at(5))), (false, None)] {
            let mut config = config(&["a"]);
            plan(&mut config, vec![listing(&["b", "unseen"], is_listed)]);
            let mut state = State::default();
            for name in ["a", "b"] {
                let known = Box::default();
                state.services.insert(name.to_owned(), known);
            }
            roster(config).remember_found(&mut state, at(5));
            let found = state.services["b"].discovered.as_ref();
            assert_eq!(found.map(|it| it.at), noted);
            if let Some(found) = found {
                assert_eq!((&*found.table, &*found.target), ("x", "container-b"));
            }
            assert!(state.services["a"].discovered.is_none());
            assert!(!state.services.contains_key("unseen"));
        }
    }

    #[test]
    fn what_a_table_found_before_is_gone_only_where_it_could_be_read() {
        for (listings, is_gone) in [
            (vec![listing(&["b"], true)], false),
            (vec![listing(&["c"], true)], true),
            (vec![listing(&[], true)], true),
            // it could not be read, and something else is known of it
            (vec![listing(&["c"], false)], false),
        ] {
            let mut config = config(&["a"]);
            plan(&mut config, listings.clone());
            let mut state = State::default();
            let known = ServiceState {
                discovered: Some(Box::new(Discovered {
                    table: "x".to_owned(),
                    target: "it".to_owned(),
                    at: at(0),
                    is_gone: false,
                })),
                ..ServiceState::default()
            };
            state.services.insert("b".to_owned(), Box::new(known));
            roster(config).remember_found(&mut state, at(5));
            let found = state.services["b"].discovered.as_ref().unwrap();
            assert_eq!(found.is_gone, is_gone, "{listings:?}");
        }
    }

    #[test]
    fn what_still_counts_of_a_removed_service_is_not_forgotten() {
        let found = |seconds| ServiceState {
            discovered: Some(Box::new(Discovered {
                table: "x".to_owned(),
                target: "it".to_owned(),
                at: at(seconds),
                is_gone: false,
            })),
            ..ServiceState::default()
        };
        let attempted = |seconds| ServiceState {
            attempts: vec![at(seconds)],
            ..ServiceState::default()
        };
        let paused = |until| ServiceState {
            paused_until: Some(at(until)),
            ..ServiceState::default()
        };
        let now = 3601;
        for (what, known, listings, is_kept) in [
            ("removed", ServiceState::default(), vec![], false),
            ("attempts that no longer count", attempted(0), vec![], false),
            ("attempts in the hour", attempted(2), vec![], true),
            ("paused", paused(9000), vec![], true),
            ("a pause that is over", paused(3600), vec![], false),
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
                vec![listing(&["it"], true)],
                true,
            ),
            (
                "a source that no longer has it",
                ServiceState::default(),
                vec![listing(&[], true)],
                false,
            ),
            (
                "found less than a day ago",
                found(now - 86_399),
                vec![],
                true,
            ),
            ("found a day ago", found(now - 86_400), vec![], false),
            (
                "a source that could not be read for long",
                found(now - 900_000),
                vec![listing(&["it"], false)],
                true,
            ),
        ] {
            let mut state = State::default();
            for (name, known) in [("a", ServiceState::default()), ("it", known)] {
                state.services.insert(name.to_owned(), Box::new(known));
            }
            let mut config = config(&["a"]);
            plan(&mut config, listings);
            roster(config).forget_removed(&mut state, at(now));
            assert_eq!(state.services.contains_key("it"), is_kept, "{what}");
            assert!(state.services.contains_key("a"), "{what}");
        }
    }
}
