//! `watchdog validate`: errors were found by loading; this looks for traps.
//!
//! A trap is what a config may say, and what yet does not do what was meant: a pattern that matches a person's
//! editor, a limit that cuts another short, a directory that is not there. Each is told with its place and with what
//! mends it, as errors are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::check::process::{ProcessStatus, Seen};
use crate::cli;
use crate::clock::Reading;
use crate::commands::{count, print};
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
    let texts = Texts::of(config);
    let scene = Scene::look(config, &texts, &table, &now);
    for (service, seen) in &scene.services {
        list_matches(service, seen, &table, &mut out);
    }
    let traps = traps::find(&scene, &now);
    for trap in &traps {
        let _ = writeln!(out, "{}\n", shown(trap, &texts));
    }
    let _ = writeln!(
        out,
        "{}: {}{}, no errors{}",
        visible(&config.path.display().to_string()),
        count(config.services.len(), "service"),
        match config.scales.len() {
            0 => String::new(),
            scales => format!(" and {}", count(scales, "scale")),
        },
        match traps.len() {
            0 => String::new(),
            1 => ", 1 trap".to_owned(),
            traps => format!(", {traps} traps"),
        }
    );
    print(&out)?;
    Ok(u8::from(options.strict && !traps.is_empty()))
}

/// The files of a config as they are written.
struct Texts<'a> {
    main: &'a Path,
    by_path: BTreeMap<&'a Path, String>,
}

impl<'a> Texts<'a> {
    fn of(config: &'a Config) -> Self {
        let included = config.included.iter().flat_map(|it| &it.files);
        let paths = std::iter::once(&config.path).chain(included);
        let read = |path: &'a PathBuf| {
            let text = fs::read_to_string(path).unwrap_or_default();
            (path.as_path(), text)
        };
        Self {
            main: &config.path,
            by_path: paths
                .collect::<BTreeSet<_>>()
                .into_iter()
                .map(read)
                .collect(),
        }
    }

    fn at(&self, path: &Path) -> &str {
        self.by_path.get(path).map_or("", String::as_str)
    }
}

/// A trap as errors are shown: what, where, and what to do.
fn shown(trap: &PlacedTrap, texts: &Texts<'_>) -> String {
    let path: Vec<&str> = trap.place.iter().map(String::as_str).collect();
    let file = trap.file.as_deref().unwrap_or(texts.main);
    let text = texts.at(file);
    let line = place::line_of(text, &path)
        .map(|line| format!(":{line}"))
        .unwrap_or_default();
    let key = match place::shown(text, &path) {
        key if key.is_empty() => key,
        key => format!(": {key}"),
    };
    format!(
        "trap: {}\n --> {}{line}{}\n  = help: {}",
        visible(&trap.message),
        visible(&file.display().to_string()),
        visible(&key),
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
