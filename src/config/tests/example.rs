//! The example config says what is so: it is made of the tables' definitions, parses, and states the defaults that hold.

use std::fmt::Write;

use super::*;
use crate::check::disk::Disks;
use crate::check::http::Https;
use crate::check::log::Logs;
use crate::check::port::Ports;
use crate::check::usage::Usage;
use crate::table::Sample;

const EXAMPLE: &str = include_str!("../../../watchdog.toml.example");

/// The widest line.
const WIDTH: usize = 118;

/// What stands at the top of the file.
const HEAD: &str = "Every key of a watchdog config. What is commented out by `#key = …`, with no space, is a default of \
                    which the value depends on the machine, a key that is not needed, or another way to say the same.";

/// The example as the definitions have it.
fn made() -> String {
    let mut text = comment(HEAD) + &comment(ABOUT) + "\n";
    let all = sections();
    let (apart, others): (Vec<_>, Vec<_>) = all
        .iter()
        .filter(|section| section.place.is_empty() || section.place.starts_with('['))
        .partition(|section| {
            section.place.ends_with("systemd]") || section.place.ends_with(".container]")
        });
    for section in others {
        let is_scale = section.place.starts_with("[scale.");
        let name = if is_scale { "workers" } else { "trader" };
        write(&mut text, section, &all, section.variant().unwrap_or(name));
    }
    // one that systemd or an engine runs is a service of its own
    for section in apart {
        let mut own = String::new();
        let is_unit = section.place.ends_with("systemd]");
        let name = if is_unit { "database" } else { "gateway" };
        write(&mut own, section, &all, name);
        text += &own.replace("trader.service", "postgresql.service");
    }
    text.trim_end().to_owned() + "\n"
}

fn write(text: &mut String, section: &Section, all: &[Section], name: &str) {
    // one way out is shown, and the others would be too many
    let is_other = ["[mail.", "[notify.", "[ping", "[web", "[prometheus"]
        .iter()
        .any(|it| section.place.starts_with(it));
    if !section.place.is_empty() {
        let mark = if is_other { "#" } else { "" };
        let place = section.place.replace("NAME", name);
        writeln!(text, "{}{mark}{place}", comment(&section.about())).unwrap();
    }
    for line in section.own_lines(all) {
        let (value, is_commented) = match line.value {
            Sample::Default(value) | Sample::Example(value) => (value, is_other),
            Sample::Commented(value) => (value, true),
        };
        let mark = if is_commented { "#" } else { "" };
        writeln!(
            text,
            "{}{mark}{} = {value}",
            comment(&line.about),
            line.name
        )
        .unwrap();
    }
    text.push('\n');
}

fn comment(text: &str) -> String {
    let mut lines = String::new();
    let mut line = "#".to_owned();
    for word in text.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln!(lines, "{line}").unwrap();
            line = "#".to_owned();
        }
        write!(line, " {word}").unwrap();
    }
    lines + &line + "\n"
}

#[test]
fn the_example_is_what_the_definitions_make() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("watchdog.toml.example");
    if std::env::var_os("WATCHDOG_RENEW_EXAMPLE").is_some() {
        std::fs::write(&path, made()).unwrap();
        return;
    }
    let (is, made) = (std::fs::read_to_string(path).unwrap(), made());
    let differs = is.lines().zip(made.lines()).find(|(is, made)| is != made);
    assert_eq!(
        differs, None,
        "WATCHDOG_RENEW_EXAMPLE=1 cargo test --lib the_example_is"
    );
    assert_eq!(is, made);
}

#[test]
fn every_key_says_what_it_is_for_and_has_a_value() {
    let mut keys = 0;
    for section in sections() {
        assert!(!section.about().is_empty(), "{}", section.place);
        for line in section.lines() {
            keys += 1;
            let key = format!("{} of {}", line.name, section.place);
            assert!(
                line.about.ends_with('.') || line.about.ends_with('…'),
                "{key}: {}",
                line.about
            );
            let (Sample::Default(value) | Sample::Example(value) | Sample::Commented(value)) =
                line.value;
            assert!(!value.is_empty(), "{key} has no value");
        }
        // and no key is hidden
        let lines: Vec<_> = section.lines().into_iter().map(|line| line.name).collect();
        for name in section.layout.names() {
            let inner = |other: &Section| {
                let place = other
                    .place
                    .trim_matches(['[', ']'])
                    .trim_end_matches(".NAME");
                place.rsplit('.').next() == Some(&name)
            };
            assert!(
                lines.contains(&name) || sections().iter().any(inner),
                "{name}"
            );
        }
    }
    assert!(keys > 60, "only {keys} keys were seen");
}

#[test]
fn the_example_parses() {
    let config = good(EXAMPLE);
    assert_eq!(config.services.len(), 3);
    assert_eq!(config.services[0].name, "trader");
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
    let faults: Vec<_> = (faults.into_iter())
        .filter(|message| !message.ends_with(']') || !message.contains(" in [notify."))
        .filter(|message| !message.ends_with(" in [ping]") && !message.ends_with(" in [web]"))
        .filter(|message| !message.ends_with(" in [prometheus]"))
        .collect();
    assert_eq!(
        faults,
        [
            "`ca_file` means nothing without https",
            "`min_severity` beside `on` in [mail]",
            "`smtp` beside `directory` in [mail]",
            "`password_env` beside `password_file` in [mail.smtp]",
            "`password_credential` beside `password_file` in [mail.smtp]",
            "`password` beside `password_file` in [mail.smtp]",
            "`sendmail` beside `directory` in [mail]",
            "`journal` beside `path`",
            "`journal` in a service without a unit",
            "`container` beside `path`",
            "`container` in a log of a service without a container",
            "`ca_file` means nothing without `tls = true`",
            "`body` is sent by a POST only",
            "`ca_file` means nothing without https",
            "`query` beside `alert` in [[service.trader.prometheus]]",
            "`restart.command` beside `spawn` in [service.trader]",
            "`action` beside `command` in [[service.trader.strategy]]",
            "`project` beside `label` in [discover.trader]",
            "`units` beside `label` in [discover.trader]",
            "`exclude` beside `units`",
            "`port` beside `units`",
            "`scale_up_at` beside `per_replica`",
            "`scale_down_at` beside `per_replica`",
            "`per_replica` is for what a queue or a query counts, and not for an average of the replicas",
            "`command` stands in the table `compose` as well",
            "`compose` beside `units` in [scale.workers]",
            "`name` beside `project` and `service`",
        ]
    );
}

#[test]
fn the_example_states_the_defaults() {
    let example = good(EXAMPLE);
    let least = good(
        "[mail]\nfrom = \"a@b\"\nto = [\"c@d\"]\ndirectory = \"x\"\n\
         [service.x]\nspawn = { command = [\"x\"] }\n[[service.x.log]]\npath = \"y\"\n\
         [[service.x.port]]\naddress = \"127.0.0.1:4002\"\n\
         [[service.x.http]]\nurl = \"http://127.0.0.1\"\n\
         [[service.x.disk]]\npath = \"/var/lib\"\n\
         [service.x.open_files]\nwarning = \"80%\"\n[service.x.threads]\nwarning = 500\n",
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
        stated.rules::<Logs>().next().unwrap().lines,
        holds.rules::<Logs>().next().unwrap().lines
    );
    assert_eq!(
        stated.rules::<Logs>().next().unwrap().severity,
        holds.rules::<Logs>().next().unwrap().severity
    );
    let stated_port = stated.rules::<Ports>().next().unwrap();
    let default_port = holds.rules::<Ports>().next().unwrap();
    assert_eq!(stated_port.tls, default_port.tls);
    assert_eq!(stated_port.severity, default_port.severity);
    assert_eq!(stated_port.timeout, default_port.timeout);
    assert_eq!(stated_port.for_, default_port.for_);
    let stated_http = stated.rules::<Https>().next().unwrap();
    let default_http = holds.rules::<Https>().next().unwrap();
    assert_eq!(stated_http.method, default_http.method);
    assert_eq!(stated_http.status, default_http.status);
    assert_eq!(stated_http.follow_redirects, default_http.follow_redirects);
    assert_eq!(stated_http.severity, default_http.severity);
    assert_eq!(stated_http.timeout, default_http.timeout);
    assert_eq!(stated_http.for_, default_http.for_);
    let stated_disk = stated.rules::<Disks>().next().unwrap();
    assert_eq!(stated_disk, holds.rules::<Disks>().next().unwrap());
    let [stated_used, default_used] = [stated, holds].map(|service| {
        let used: Vec<_> = service
            .rules::<Usage>()
            .map(|rule| (rule.key(), rule.lasting()))
            .collect();
        used
    });
    for used in default_used {
        assert!(stated_used.contains(&used), "{used:?}");
    }
    let (Some(stated), Some(holds)) = (example.mail(), least.mail()) else {
        panic!("both have mail");
    };
    assert_eq!(stated.routing, holds.routing);
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

/// The keys of a table in the README, with their defaults: rows of `key`, `key` | `default`, `default` | text.
fn rows<'a>(readme: &'a str, head: &str) -> Vec<(&'a str, &'a str)> {
    let (_, table) = readme.split_once(head).unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    rows.flat_map(|row| {
        let mut cells = row.trim_matches('|').split(" | ").map(str::trim);
        let (keys, defaults) = (cells.next().unwrap(), cells.next().unwrap());
        keys.split(", ").zip(defaults.split(", "))
    })
    .map(|(key, default)| (key.trim_matches('`'), default.trim_matches('`')))
    .collect()
}

#[test]
fn the_documentation_states_the_defaults_and_has_every_key() {
    let page = include_str!("../../../docs/configuration.md");
    for section in sections() {
        for line in section.lines() {
            let name = line.name.split('.').next_back().unwrap_or_default();
            assert!(page.contains(name), "{name} of {}", section.place);
        }
    }
    let stated = rows(page, "| key of `restart` | default | |");
    let sections = sections();
    let restart = sections
        .iter()
        .find(|section| section.place == "[service.NAME.restart]");
    let hold: Vec<_> = restart
        .unwrap()
        .lines()
        .into_iter()
        .filter_map(|line| match line.value {
            Sample::Default(value) => Some((line.name, value)),
            _ => None,
        })
        .collect();
    let hold: Vec<_> = hold
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let stated: Vec<_> = stated
        .into_iter()
        .filter(|(key, _)| !["command", "out_of"].contains(key))
        .collect();
    assert_eq!(stated, hold);
}
