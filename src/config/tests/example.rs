//! The example config says what is so: it parses, has every key, and states the defaults that hold.

use super::super::keys::LAYOUTS;
use super::*;

const EXAMPLE: &str = include_str!("../../../watchdog.toml.example");

/// The keys of the example with their tables, those that are commented out too.
fn keys_of(text: &str) -> Vec<(String, String)> {
    let mut keys = Vec::new();
    let mut place = String::new();
    for line in text.lines() {
        if line.starts_with("# ") {
            continue;
        }
        let line = line.trim_start_matches('#');
        if line.starts_with('[') {
            place = line.replace("trader", "NAME").replace("database", "NAME");
            continue;
        }
        if let Some((key, value)) = line.split_once(" = ") {
            keys.push((place.clone(), key.to_owned()));
            // entries of lists of patterns are tables of their own
            for inner in ["pattern", "at_least", "at_most"] {
                if value.contains(&format!("{inner} = ")) {
                    keys.push((format!("an entry of `{key}`"), inner.to_owned()));
                }
            }
        }
    }
    keys
}

#[test]
fn the_example_parses() {
    let config = good(EXAMPLE);
    assert_eq!(config.services.len(), 2);
    assert_eq!(config.services[0].name, "trader");
}

#[test]
fn the_example_has_every_key_and_no_other() {
    let there = keys_of(EXAMPLE);
    for layout in LAYOUTS {
        for key in layout.keys {
            let is_table = LAYOUTS.iter().any(|other| {
                let place = other.place.trim_matches(['[', ']']);
                place.rsplit('.').next() == Some(key)
                    || (*key == "service" && place == "service.NAME")
            });
            let found = there
                .iter()
                .any(|(place, other)| place == layout.place && other == key);
            assert!(
                found || is_table,
                "the example lacks `{key}` of {}",
                layout.place
            );
        }
    }
    for (place, key) in there {
        let known = LAYOUTS
            .iter()
            .any(|layout| layout.place == place && layout.keys.contains(&key.as_str()));
        assert!(known, "the example has an unknown `{key}` in {place}");
    }
}

#[test]
fn what_is_commented_out_would_be_right_too() {
    let lines: Vec<_> = EXAMPLE
        .lines()
        .map(|line| {
            let uncommented = line.strip_prefix('#').filter(|rest| !rest.starts_with(' '));
            uncommented.unwrap_or(line)
        })
        .collect();
    let faults: Vec<_> = bad(&lines.join("\n"))
        .into_iter()
        .map(|fault| fault.message)
        .collect();
    // the alternatives exclude one another, and nothing else is wrong
    assert_eq!(
        faults,
        [
            "`smtp` beside `directory`",
            "`password_env` beside `password_file`",
            "`password_credential` beside `password_file`",
            "`password` beside `password_file`",
            "`sendmail` beside `directory`",
            "`ca_file` means nothing without `tls = true`",
            "`restart.command` beside `spawn`",
        ]
    );
}

#[test]
fn the_example_states_the_defaults() {
    let example = good(EXAMPLE);
    let least = good(
        "[mail]\nfrom = \"a@b\"\nto = [\"c@d\"]\ndirectory = \"x\"\n\
         [service.x]\nspawn = { command = [\"x\"] }\n[[service.x.log]]\npath = \"y\"\n\
         [[service.x.port]]\naddress = \"127.0.0.1:4002\"\n",
    );
    assert_eq!(example.check_timeout, least.check_timeout);
    assert_eq!(example.run_timeout, least.run_timeout);
    assert_eq!(example.logging, least.logging);
    assert_eq!(example.defaults, least.defaults);
    let (stated, holds) = (&example.services[0], &least.services[0]);
    assert_eq!(stated.policy, holds.policy);
    assert_eq!(stated.limits, holds.limits);
    assert_eq!(stated.enabled, holds.enabled);
    assert_eq!(stated.start_grace, holds.start_grace);
    assert_eq!(
        stated.logs().next().unwrap().lines,
        holds.logs().next().unwrap().lines
    );
    assert_eq!(
        stated.logs().next().unwrap().severity,
        holds.logs().next().unwrap().severity
    );
    let stated_port = stated.ports().next().unwrap();
    let default_port = holds.ports().next().unwrap();
    assert_eq!(stated_port.tls, default_port.tls);
    assert_eq!(stated_port.severity, default_port.severity);
    assert_eq!(stated_port.timeout, default_port.timeout);
    assert_eq!(stated_port.for_, default_port.for_);
    let (Some(stated), Some(holds)) = (example.mail, least.mail) else {
        panic!("both have mail");
    };
    assert_eq!(stated.on, holds.on);
    assert_eq!(stated.remind_every, holds.remind_every);
    assert_eq!(stated.max_per_hour, holds.max_per_hour);
    let (Some(RestartMethod::Spawn(stated)), Some(RestartMethod::Spawn(holds))) =
        (&example.services[0].method, &least.services[0].method)
    else {
        panic!("both are spawned");
    };
    assert_eq!((stated.umask, stated.nice), (holds.umask, holds.nice));
    assert_eq!(stated.write_pid_file, holds.write_pid_file);
}

#[test]
fn the_example_is_toml_1_0() {
    // what 1.1 added: inline tables over several lines, a comma at their end, \e and \x
    for line in EXAMPLE.lines().filter(|line| !line.starts_with("# ")) {
        assert_eq!(
            line.matches('{').count(),
            line.matches('}').count(),
            "{line}"
        );
        assert!(
            !line.contains(", }") && !line.contains("\\e") && !line.contains("\\x"),
            "{line}"
        );
    }
}
