//! `watchdog validate`: errors were found by loading; this looks for traps.

use std::fmt::Write;

use crate::check::process::{self, Presence};
use crate::cli;
use crate::clock::Reading;
use crate::commands::print;
use crate::config::{Config, Service};
use crate::error::Error;
use crate::observe::target;
use crate::text::printable;
use crate::world::World;

/// How many processes that a pattern matches are listed.
const LISTED: usize = 10;

/// Says that the config is right, what its patterns match now, and where it may not do what was meant.
pub fn run(config: &Config, options: &cli::Validate) -> Result<u8, Error> {
    let now = Reading::take();
    let world = World::survey();
    let mut out = String::new();
    let mut traps = 0;
    for service in config.services.iter().filter(|service| service.enabled) {
        list_matches(service, &world, &now, &mut out);
        for trap in traps_of(service, &world, &now) {
            traps += 1;
            let _ = writeln!(out, "trap: {}: {trap}", service.name);
        }
    }
    let _ = writeln!(
        out,
        "{}: {} service{}, no errors{}",
        config.path.display(),
        config.services.len(),
        if config.services.len() == 1 { "" } else { "s" },
        match traps {
            0 => String::new(),
            1 => ", 1 trap".to_owned(),
            _ => format!(", {traps} traps"),
        }
    );
    print(&out)?;
    Ok(u8::from(options.strict && traps > 0))
}

/// What a service's command line matches now, so that a pattern that is too wide is seen before it is trusted.
fn list_matches(service: &Service, world: &World, now: &Reading, out: &mut String) {
    let Some(pattern) = service
        .process
        .as_ref()
        .and_then(|rule| rule.command_line.as_ref())
    else {
        return;
    };
    let nothing = process::Memo::default();
    let seen = process::look(
        &target(service),
        &nothing,
        world,
        now,
        &std::collections::BTreeSet::new(),
    );
    if let Presence::Running(running) = seen.presence {
        let _ = writeln!(out, "{}: `{}` matches now", service.name, pattern.source());
        for identity in running.all.iter().take(LISTED) {
            let command = world
                .surveyed(identity.pid)
                .map(|process| printable(&process.command, 120))
                .unwrap_or_default();
            let _ = writeln!(out, "    PID {}: {command}", identity.pid);
        }
        if running.all.len() > LISTED {
            let _ = writeln!(out, "    and {} more", running.all.len() - LISTED);
        }
    }
}

fn traps_of(service: &Service, world: &World, now: &Reading) -> Vec<String> {
    let mut traps = Vec::new();
    let Some(rule) = &service.process else {
        return traps;
    };
    if let Some(pattern) = &rule.command_line {
        let nothing = process::Memo::default();
        let seen = process::look(
            &target(service),
            &nothing,
            world,
            now,
            &std::collections::BTreeSet::new(),
        );
        if !matches!(seen.presence, Presence::Running(_)) {
            traps.push(format!("`{}` matches no process now", pattern.source()));
        }
    }
    if let Some(folder) = rule.pid_file.as_ref().and_then(|path| path.parent())
        && !folder.is_dir()
    {
        traps.push(format!(
            "the folder of its PID file, {}, is not there",
            folder.display()
        ));
    }
    traps
}
