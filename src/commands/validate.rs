//! `watchdog validate`: errors were found by loading; this looks for traps.
//!
//! A trap is what a config may say, and what yet does not do what was meant: a pattern that matches a person's
//! editor, a limit that cuts another short, a directory that is not there. Each is told with its place and with what
//! mends it, as errors are.

use std::fmt::Write;
use std::fs;

use crate::check::process::{ProcessStatus, Seen};
use crate::cli;
use crate::clock::Reading;
use crate::commands::print;
use crate::config::{Config, Service, place};
use crate::error::Error;
use crate::process_table::ProcessTable;
use crate::text::printable;
use crate::text::visible;
use traps::{PlacedTrap, Scene};

mod traps;

/// How many processes that a pattern matches are listed.
const LISTED: usize = 10;

/// Says that the config is right, what its patterns match now, and where it may not do what was meant.
pub fn run(config: &Config, options: &cli::Validate) -> Result<u8, Error> {
    let now = Reading::take();
    let table = ProcessTable::full_scan();
    let mut out = String::new();
    let text = fs::read_to_string(&config.path).unwrap_or_default();
    let scene = Scene::look(config, &text, &table, &now);
    for (service, seen) in &scene.services {
        list_matches(service, seen, &table, &mut out);
    }
    let traps = traps::find(&scene, &now);
    for trap in &traps {
        let _ = writeln!(out, "{}\n", shown(trap, config, &text));
    }
    let _ = writeln!(
        out,
        "{}: {} service{}, no errors{}",
        visible(&config.path.display().to_string()),
        config.services.len(),
        if config.services.len() == 1 { "" } else { "s" },
        match traps.len() {
            0 => String::new(),
            1 => ", 1 trap".to_owned(),
            traps => format!(", {traps} traps"),
        }
    );
    print(&out)?;
    Ok(u8::from(options.strict && !traps.is_empty()))
}

/// A trap as errors are shown: what, where, and what to do.
fn shown(trap: &PlacedTrap, config: &Config, text: &str) -> String {
    let path: Vec<&str> = trap.place.iter().map(String::as_str).collect();
    let line = place::line_of(text, &path)
        .map(|line| format!(":{line}"))
        .unwrap_or_default();
    let key = match trap.place.as_slice() {
        [] => String::new(),
        parts => format!(" ({})", parts.join(".")),
    };
    format!(
        "trap: {}\n --> {}{line}{key}\n  = help: {}",
        visible(&trap.message),
        visible(&config.path.display().to_string()),
        visible(&trap.help)
    )
}

/// What a service's command line matches now, so that a pattern that is too wide is seen before it is trusted.
fn list_matches(service: &Service, seen: &Seen, table: &ProcessTable, out: &mut String) {
    let Some(pattern) = service
        .process
        .as_ref()
        .and_then(|rule| rule.command_line.as_ref())
    else {
        return;
    };
    if let ProcessStatus::Running(running) = &seen.process_status {
        let _ = writeln!(out, "{}: `{}` matches now", service.name, pattern.source());
        for identity in running.all.iter().take(LISTED) {
            let command = table
                .scanned_process(identity.pid)
                .map(|process| printable(&process.command, 120))
                .unwrap_or_default();
            let _ = writeln!(out, "    PID {}: {command}", identity.pid);
        }
        if running.all.len() > LISTED {
            let _ = writeln!(out, "    and {} more", running.all.len() - LISTED);
        }
        out.push('\n');
    }
}
