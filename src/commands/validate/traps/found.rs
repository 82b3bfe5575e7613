//! The traps of tables that find services: what they find now.

use std::time::Instant;

use super::Traps;
use crate::client::engine::Listed;
use crate::config::Config;
use crate::config::discover::{By, Discover};
use crate::discover::{find, has_any, odd_labels};
use crate::notify::means;
use crate::state::State;

/// So many services are named.
const NAMED: usize = 5;

/// Whether there is what a table means, and other tables have all of it.
fn are_taken(table: &Discover, config: &Config, listed: &[Listed]) -> bool {
    match &table.by {
        By::Units { pattern, manager } => {
            let mut units = config.services.iter().filter_map(|it| it.unit.as_ref());
            units.any(|unit| unit.manager == *manager && means(pattern, &unit.unit))
        }
        By::Label(_) | By::Project(_) => has_any(table, listed),
    }
}

/// Looks for services as a run does.
pub(super) fn look(config: &Config, traps: &mut Traps) {
    if config.discover.is_empty() {
        return;
    }
    let found = find(config, Instant::now() + config.run_timeout, State::default);
    if let Some(Err(why)) = &found.containers {
        traps.whole(
            "discover",
            format!("{why}; until that is mended nothing is found, and what was found is unknown"),
            "start the engine, or name its socket: [containers] socket = \"unix:///run/docker.sock\"",
        );
    }
    let listed = match &found.containers {
        Some(Ok(listed)) => &listed[..],
        _ => &[],
    };
    for (table, listing) in config.discover.iter().zip(&found.listings) {
        let place = format!("discover.{}", table.name);
        let services = || listing.services.iter();
        let origins = || services().filter_map(|it| Some((&*it.name, it.origin.as_ref()?)));
        let is_read = table.finds_units() || matches!(found.containers, Some(Ok(_)));
        if is_read && listing.services.is_empty() {
            let (message, help) = if are_taken(table, config, listed) {
                (
                    format!("all {table} are services already; this table finds none"),
                    "leave it out, or the [service.NAME] and [discover.NAME] tables that have them",
                )
            } else {
                (
                    format!("there are no {table} now"),
                    "is it written as there? `docker ps -a` and `systemctl list-units --all` show what there is",
                )
            };
            traps.at(&table.file, &place, message, help);
        } else if is_read && origins().all(|(_, origin)| !origin.is_listed) {
            traps.at(
                &table.file,
                &place,
                "systemd does not list its units; until that is mended what was found is unknown",
                "does `systemctl list-units --all` work here?",
            );
        }
        for (key, placeholder) in table.labels_in_scripts() {
            traps.at(
                &table.file,
                &place,
                format!("{placeholder} stands in a script of {key}: whoever makes a container writes that label, and with it commands that the watchdog's user runs"),
                "hand it over behind the script: [\"sh\", \"-c\", \"echo \\\"$1\\\"\", \"sh\", \"{label:KEY}\"]",
            );
        }
        let unset: Vec<_> = origins().filter(|(_, it)| !it.unset.is_empty()).collect();
        for (name, origin) in unset.iter().take(NAMED) {
            let is_port = origin.unset.iter().any(|why| why.contains("watchdog.port"));
            let mends = if is_port {
                "a label watchdog.port=8080 of the container says which port is meant"
            } else {
                "give it what the placeholder stands for, or take that out of the table"
            };
            let help = match table.exclude.last() {
                Some(rule) => format!("{mends}; a label {rule} leaves it out"),
                None => mends.to_owned(),
            };
            traps.at(
                &table.file,
                &place,
                format!("{name} will be unknown: {}", origin.unset.join("; ")),
                help,
            );
        }
        for (container, label, value, is_out) in odd_labels(table, listed).into_iter().take(NAMED) {
            let so = if is_out { "left out" } else { "taken in" };
            traps.at(
                &table.file,
                &place,
                format!("{container} has the label {label}={value}, which is neither yes nor no; it is {so}"),
                "write true or false",
            );
        }
    }
}
