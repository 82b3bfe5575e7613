//! The systemd unit that a program belongs to, or that a person named.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::process_table::ProcessTable;
use crate::restart::scope::{self, Place};
use crate::systemctl::{Manager, is_booted, succeeded, systemctl};

/// What a call may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What runs programs of others, which are in its cgroup: it is not their unit.
const HOSTS: [&str; 12] = [
    "anacron", "at", "atd", "cron", "crond", "cronie", "dcron", "fcron", "getty", "ssh", "sshd",
    "user",
];

/// The kinds of units that can be named.
const KINDS: [&str; 5] = ["service", "socket", "timer", "path", "mount"];

/// The unit that a process is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InUnit {
    /// Which.
    pub(super) place: Place,
    /// What it is to the process.
    pub(super) role: Role,
}

/// What a unit is to a process in its cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// systemd started it, and sees its end.
    Keeps,
    /// systemd started it and does not see its end: the unit has no main process.
    Blind,
    /// It only got there by who started it.
    Hosts,
}

/// The unit that a process is in, where systemd runs here; not the one that this very program is in.
pub(super) fn of_process(proc: &Path, pid: i32, table: &ProcessTable) -> Option<InUnit> {
    if !is_booted() {
        return None;
    }
    let place = scope::place(&fs::read_to_string(proc.join("cgroup")).ok()?)?;
    let own = scope::place(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
    if !place.is_service() || own.as_ref() == Some(&place) {
        return None;
    }
    let role = match properties(place.manager, &place.unit)
        .as_ref()
        .map(main_pid)
    {
        Some(main) if main == pid => Role::Keeps,
        _ if is_host(&place.unit) => Role::Hosts,
        // systemd did not answer: what is in the cgroup is its own as a rule
        None => Role::Keeps,
        Some(0) => Role::Blind,
        Some(main) if descends(pid, main, table) => Role::Keeps,
        Some(_) => Role::Hosts,
    };
    Some(InUnit { place, role })
}

fn is_host(unit: &str) -> bool {
    let name = unit.split(['@', '.']).next().unwrap_or_default();
    HOSTS.contains(&name)
}

fn descends(pid: i32, from: i32, table: &ProcessTable) -> bool {
    std::iter::successors(table.parent(pid), |&pid| table.parent(pid))
        .take(256)
        .any(|ancestor| ancestor == from)
}

/// A unit that a person named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// Which.
    pub(super) place: Place,
    /// Its main process; 0 where it has none.
    pub(super) main: i32,
    /// Its state: `active (running)`.
    pub(super) state: String,
    /// Whether it stays active when all its processes have ended.
    pub(super) remains: bool,
}

/// Looks for a unit by its name, with or without its kind.
pub(super) fn named(name: &str) -> Option<Named> {
    let is_name = !name.is_empty()
        && !name.starts_with('-')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || r":_.\@-".contains(c));
    if !is_name || !is_booted() {
        return None;
    }
    let has_kind = name
        .rsplit_once('.')
        .is_some_and(|(_, kind)| KINDS.contains(&kind));
    let unit = if has_kind {
        name.to_owned()
    } else {
        format!("{name}.service")
    };
    [Manager::System, Manager::User]
        .into_iter()
        .find_map(|manager| {
            let known = properties(manager, &unit)?;
            let value = |key: &str| known.get(key).map_or("", String::as_str);
            (value("LoadState") == "loaded").then(|| Named {
                main: main_pid(&known),
                state: format!("{} ({})", value("ActiveState"), value("SubState")),
                remains: value("RemainAfterExit") == "yes",
                place: Place {
                    // an alias is another name of the unit
                    unit: Some(value("Id"))
                        .filter(|id| !id.is_empty())
                        .unwrap_or(&unit)
                        .to_owned(),
                    manager,
                },
            })
        })
}

fn main_pid(known: &BTreeMap<String, String>) -> i32 {
    known
        .get("MainPID")
        .and_then(|pid| pid.parse().ok())
        .unwrap_or_default()
}

fn properties(manager: Manager, unit: &str) -> Option<BTreeMap<String, String>> {
    let args = [
        "show",
        "--property=Id,LoadState,ActiveState,SubState,MainPID,RemainAfterExit",
        "--",
        unit,
    ];
    let ended = systemctl(manager, &args, LIMIT).ok().filter(succeeded)?;
    Some(
        String::from_utf8_lossy(&ended.stdout)
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_runs_programs_of_others_is_not_their_unit() {
        for (unit, hosts) in [
            ("cron.service", true),
            ("ssh@1-2.service", true),
            ("user@0.service", true),
            ("bot.service", false),
            ("cron-worker.service", false),
        ] {
            assert_eq!(is_host(unit), hosts, "{unit}");
        }
    }

    #[test]
    fn what_cannot_be_a_unit_is_not_asked_for() {
        for name in ["", "--help", "a b", "x;y", "\u{1b}[2J"] {
            assert_eq!(named(name), None, "{name:?}");
        }
    }
}
