//! What in the rule for a unit may not do what was meant.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::trap::Trap;
use super::{Manager, Status, Unit, ask};

/// A unit that is watched.
#[derive(Clone, Copy, Debug)]
pub struct Watched<'a> {
    /// Its rule.
    pub unit: &'a Unit,
    /// Whether its process is known by other means than by systemd.
    pub has_process: bool,
}

/// What of these units may not do what was meant, in order. Each systemd is asked once, within `limit`.
pub fn traps(units: &[Watched<'_>], limit: Duration) -> Vec<Vec<Trap>> {
    let mut by_manager: BTreeMap<Manager, Vec<usize>> = BTreeMap::new();
    for (place, unit) in units.iter().enumerate() {
        by_manager.entry(unit.unit.manager).or_default().push(place);
    }
    let mut all = vec![Vec::new(); units.len()];
    for (manager, places) in by_manager {
        let names: Vec<String> = places
            .iter()
            .map(|&place| units[place].unit.unit.clone())
            .collect();
        match ask(manager, &names, limit) {
            Ok(known) => {
                for place in places {
                    let status = known.get(&units[place].unit.unit);
                    let of_file = of_file(units[place].unit, status);
                    let of_life = match (&of_file, status) {
                        (None, Some(status)) => of_life(units[place], status),
                        _ => None,
                    };
                    all[place].extend(of_file.into_iter().chain(of_life));
                }
            }
            Err(why) => {
                if let Some(&place) = places.first() {
                    all[place].push(Trap::of(
                        "",
                        format!(
                            "systemd could not be asked for {}: {why}",
                            units[place].unit.unit
                        ),
                        "validate where the units run, as the user who runs `watchdog check`",
                    ));
                }
            }
        }
    }
    all
}

/// What in its name may not be what was meant, as it is `written` in the config, with its quotes: `\x2d` in a unit's name
/// stands for a dash that its path has, and in double quotes it becomes one.
pub fn trap_in_name(unit: &Unit, written: &str) -> Option<Trap> {
    let inside = written.strip_prefix('"')?.trim_matches('"');
    let has_escape = ["\\x", "\\u", "\\U"]
        .iter()
        .any(|escape| inside.contains(escape));
    has_escape.then(|| {
        Trap::of(
            "unit",
            format!("in double quotes `{inside}` is another unit: {}", unit.unit),
            format!("write it in single quotes, where a backslash stays one: '{inside}'"),
        )
    })
}

/// What its inactivity means, or that nobody sees it.
fn of_life(watched: Watched<'_>, status: &Status) -> Option<Trap> {
    let Watched { unit, has_process } = watched;
    let name = &unit.unit;
    if status.is_without_main() && !has_process {
        return Some(Trap::of(
            "unit",
            format!(
                "{name} is {} without a main process: where its program ends, systemd does not see it, and it stays active",
                status.shown()
            ),
            "add `process`, which knows the program by its PID file or its command line",
        ));
    }
    let why = status.may_be_inactive().filter(|_| !unit.rerun)?;
    let watch = match status.triggered_by.as_slice() {
        [] => String::new(),
        [trigger, ..] => {
            format!("; a service with systemd = {{ unit = \"{trigger}\" }} sees whether that runs")
        }
    };
    Some(Trap::of(
        "unit",
        format!(
            "{name} {why}: it is well while it is inactive, and where it failed it is alerted about and not started"
        ),
        format!("rerun = true starts it where it failed{watch}"),
    ))
}

/// What is wrong with its unit file.
fn of_file(unit: &Unit, status: Option<&Status>) -> Option<Trap> {
    let name = &unit.unit;
    let ctl = match unit.manager {
        Manager::System => "systemctl",
        Manager::User => "systemctl --user",
    };
    match status.map(|status| status.load.as_str()) {
        Some("" | "loaded" | "merged") => None,
        Some("masked") => Some(Trap::of(
            "unit",
            format!("{name} is masked: nobody can start it, the watchdog neither"),
            format!("{ctl} unmask {name}"),
        )),
        None | Some("not-found") => {
            let other = match unit.manager {
                Manager::System => "units of a user need manager = \"user\"",
                Manager::User => "units of the system need manager = \"system\"",
            };
            Some(Trap::of(
                "unit",
                format!("systemd has no unit {name}"),
                format!("`{ctl} list-unit-files` shows those that it has; {other}"),
            ))
        }
        Some(load) => Some(Trap::of(
            "unit",
            format!("systemd cannot load {name} ({load})"),
            format!("`systemd-analyze verify {name}` says why"),
        )),
    }
}
