//! What in the rule for a unit may not do what was meant.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::trap::Trap;
use super::{Manager, Status, Unit, ask};

/// What of these units may not do what was meant, in order. Each systemd is asked once, within `limit`.
pub fn traps(units: &[&Unit], limit: Duration) -> Vec<Vec<Trap>> {
    let mut by_manager: BTreeMap<Manager, Vec<usize>> = BTreeMap::new();
    for (place, unit) in units.iter().enumerate() {
        by_manager.entry(unit.manager).or_default().push(place);
    }
    let mut all = vec![Vec::new(); units.len()];
    for (manager, places) in by_manager {
        let names: Vec<String> = places
            .iter()
            .map(|&place| units[place].unit.clone())
            .collect();
        match ask(manager, &names, limit) {
            Ok(known) => {
                for place in places {
                    let unit = units[place];
                    all[place].extend(of_unit(unit, known.get(&unit.unit)));
                }
            }
            Err(why) => {
                if let Some(&place) = places.first() {
                    all[place].push(Trap::of(
                        "",
                        format!(
                            "systemd could not be asked for {}: {why}",
                            units[place].unit
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

fn of_unit(unit: &Unit, status: Option<&Status>) -> Option<Trap> {
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
