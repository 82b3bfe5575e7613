//! Asking a systemd for its units: all of them in as few calls as their number allows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Manager;
use super::status::{Active, PROPERTIES, Status, parse};
use crate::systemctl::{complaint, systemctl};

/// So many units are asked for in one call at the most: a helper's output is read only up to a limit.
const UNITS_PER_CALL: usize = 100;
/// How often a unit that is stopping or reloading is asked for again.
const POLL: Duration = Duration::from_millis(200);
/// Asks a manager for all of its units at once; those that are stopping or reloading are waited for, as long
/// as `limit` allows. A unit that systemd has nothing to say of is left out.
///
/// The error is a sentence.
pub fn look(
    manager: Manager,
    units: &[String],
    limit: Duration,
) -> Result<BTreeMap<String, Status>, String> {
    let deadline = Instant::now() + limit;
    let mut known = ask(manager, units, limit)?;
    loop {
        let unsettled: Vec<String> = known
            .iter()
            .filter(|(_, status)| matches!(status.active, Active::Deactivating | Active::Reloading))
            .map(|(name, _)| name.clone())
            .collect();
        let left = deadline.saturating_duration_since(Instant::now());
        if unsettled.is_empty() || left <= POLL * 2 {
            return Ok(known);
        }
        std::thread::sleep(POLL);
        // what was learnt before a manager stopped answering is still known
        match ask(manager, &unsettled, left.saturating_sub(POLL)) {
            Ok(again) => known.extend(again),
            Err(_) => return Ok(known),
        }
    }
}

/// Asks for the state of some units, by their names, in as few calls as their number allows and within `limit`. A unit
/// that systemd has nothing to say of is left out.
///
/// The error is a sentence.
pub fn ask(
    manager: Manager,
    units: &[String],
    limit: Duration,
) -> Result<BTreeMap<String, Status>, String> {
    let deadline = Instant::now() + limit;
    let mut known = BTreeMap::new();
    for units in calls(units) {
        ask_once(manager, units, limit, deadline, &mut known)?;
    }
    Ok(known)
}

/// The units of each call. They are about as many in each: a call for a single one that systemd has nothing to say of
/// would look like a manager that does not answer.
pub(super) fn calls(units: &[String]) -> impl Iterator<Item = &[String]> {
    let calls = units.len().div_ceil(UNITS_PER_CALL).max(1);
    units.chunks(units.len().div_ceil(calls).max(1))
}

/// One call; two for half of the units each where its output was too long to be read as a whole.
fn ask_once(
    manager: Manager,
    units: &[String],
    limit: Duration,
    deadline: Instant,
    known: &mut BTreeMap<String, Status>,
) -> Result<(), String> {
    let mut args = vec!["show", PROPERTIES, "--"];
    args.extend(units.iter().map(String::as_str));
    let left = deadline.saturating_duration_since(Instant::now());
    let ended = systemctl(manager, &args, left)?;
    if ended.is_cut {
        let (first, second) = units.split_at(units.len() / 2);
        if first.is_empty() {
            return Err("the output of systemctl is too long".to_owned());
        }
        ask_once(manager, first, limit, deadline, known)?;
        return ask_once(manager, second, limit, deadline, known);
    }
    let statuses = parse(&ended.stdout);
    if statuses.is_empty() {
        return Err(complaint(&ended, limit));
    }
    known.extend(units.iter().filter_map(|unit| {
        let status = statuses.iter().find(|status| status.names.contains(unit))?;
        Some((unit.clone(), status.clone()))
    }));
    Ok(())
}
