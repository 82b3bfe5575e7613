//! Units that a pattern matches.

use std::time::Duration;

use crate::config::discover::{Answer, Target, Template};
use crate::config::{RESERVED, Service};
use crate::systemctl::{Manager, complaint, succeeded, systemctl};

/// The units that systemd knows by a pattern, whether they run or not. The error is a sentence.
pub(super) fn list(
    manager: Manager,
    pattern: &str,
    limit: Duration,
) -> Result<Vec<String>, String> {
    let args = [
        "list-units",
        "--all",
        "--full",
        "--plain",
        "--no-legend",
        "--",
        pattern,
    ];
    let ended = systemctl(manager, &args, limit)?;
    if !succeeded(&ended) {
        return Err(format!(
            "systemd does not list its units: {}",
            complaint(&ended, limit)
        ));
    }
    Ok(read(&String::from_utf8_lossy(&ended.stdout)))
}

/// The names in the list; what is only named by others, and is not there, is left out.
fn read(text: &str) -> Vec<String> {
    let unit = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, loaded) = (words.next()?, words.next()?);
        (loaded != "not-found").then(|| name.to_owned())
    };
    let mut units: Vec<String> = text.lines().filter_map(unit).collect();
    units.sort();
    units.dedup();
    units
}

/// A name that a pattern could match: of a unit that stands for all of them.
pub(super) fn example(pattern: &str) -> String {
    let name = pattern.replace(
        |c: char| !c.is_ascii_alphanumeric() && !"-_.@".contains(c),
        "_",
    );
    if name.starts_with(['.', '@', '-']) {
        return format!("x{name}");
    }
    name
}

/// What is between `@` and the suffix.
fn instance(unit: &str) -> Option<&str> {
    let (name, _) = unit.rsplit_once('.')?;
    let (_, instance) = name.split_once('@')?;
    Some(instance).filter(|instance| !instance.is_empty())
}

/// The name of a service that a unit becomes: its own, without `.service`.
fn name(unit: &str) -> String {
    let bare = unit.strip_suffix(".service").unwrap_or(unit);
    let bare = if bare == RESERVED { unit } else { bare };
    bare.replace(
        |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'),
        "-",
    )
}

/// The services of units; those aside that services of the config are, or that have the name of one.
pub(super) fn services(
    template: &Template<'_>,
    units: &[String],
    manager: Manager,
    taken: &[String],
) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::with_capacity(units.len());
    for unit in units {
        let name = name(unit);
        let is_taken = taken.contains(&name) || services.iter().any(|it| it.name == name);
        if name.len() > 64 || is_taken || template.has_unit(unit, manager) {
            continue;
        }
        let answer = |placeholder: &str| -> Option<Answer> {
            match placeholder {
                "unit" => Some(Ok(unit.clone())),
                "instance" => Some(
                    instance(unit)
                        .map(str::to_owned)
                        .ok_or_else(|| "it is no instance of a template".to_owned()),
                ),
                _ => None,
            }
        };
        if let Some(made) = template.make(&name, &Target::unit(unit, manager), &answer) {
            services.push(made.service);
        }
    }
    services
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_systemd_is_read() {
        let text = "worker@2.service  loaded    active   running The worker 2\n\
                    worker@1.service  loaded    failed   failed  The worker 1\n\
                    worker@3.service  not-found inactive dead    worker@3.service\n\n";
        assert_eq!(read(text), ["worker@1.service", "worker@2.service"]);
        assert!(read("").is_empty());
    }

    #[test]
    fn a_pattern_has_a_unit_that_stands_for_it() {
        for (pattern, unit) in [
            ("worker@*.service", "worker@_.service"),
            ("*@[12]", "_@_12_"),
            ("@?.service", "x@_.service"),
        ] {
            assert_eq!(example(pattern), unit);
        }
    }

    #[test]
    fn a_service_is_called_as_its_unit_is() {
        for (unit, called, its) in [
            ("worker@1.service", "worker-1", Some("1")),
            ("worker@a.b.service", "worker-a.b", Some("a.b")),
            ("nginx.service", "nginx", None),
            ("x@.service", "x-", None),
            ("backup.timer", "backup.timer", None),
            ("watchdog.service", "watchdog.service", None),
            (r"a@b\x2dc.service", r"a-b-x2dc", Some(r"b\x2dc")),
        ] {
            assert_eq!(name(unit), called);
            assert_eq!(instance(unit), its, "{unit}");
        }
    }
}
