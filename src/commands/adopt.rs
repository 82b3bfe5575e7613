//! `watchdog adopt`: a `[service]` table for a program that runs now.
//!
//! What is printed works as it is: it is a config, the program that runs is found by it and no other one is, and it is
//! started again as it was started. What could not be known, and what would be a guess that restarts something that is
//! well, is there as a comment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::check::container::Containers;
use crate::cli;
use crate::commands::{complain, print};
use crate::config;
use crate::error::Error;
use crate::process_table::{Lookup, Process, ProcessState, ProcessTable, working_dir};
use crate::text::printable;
use arguments::Runs;
use facts::Facts;
use table::{Table, Twins};

mod arguments;
mod container;
mod facts;
mod logs;
mod names;
pub(super) mod parent;
mod pattern;
mod pid_file;
mod privileges;
mod root;
mod spawn;
mod table;
mod toml;
mod unit;

/// The most processes of one name that are listed.
const LISTED: usize = 10;

/// Prints the table. Refused, with exit code 1, where the program cannot be found or looked at.
pub fn run(options: &cli::Adopt, config: Option<&Path>) -> Result<u8, Error> {
    let processes = ProcessTable::full_scan();
    let (service, text) = match adopt(&options.program, &processes, config) {
        Ok(adopted) => adopted,
        Err(why) => {
            complain(&why);
            return Ok(1);
        }
    };
    print(&text)?;
    if let Some(path) = has_already(&service, config) {
        complain(&format!(
            "{} has a table [service.{}] already: a name stands once, so do not append this one as it is",
            path.display(),
            toml::key(&service)
        ));
    }
    Ok(0)
}

/// The name of the service, and its table.
fn adopt(
    asked: &str,
    processes: &ProcessTable,
    config: Option<&Path>,
) -> Result<(String, String), String> {
    let pid = match chosen(asked, processes) {
        Ok(pid) => pid,
        Err(why) if asked.parse::<i32>().is_ok() => return Err(why),
        Err(why) => {
            let Some(named) = unit::named(asked) else {
                return match container::named(asked, &engine(config)) {
                    Ok(found) => found.ok_or(why),
                    // each line of these is of a program
                    Err(_) if why.contains('\n') => Err(why),
                    Err(silent) => Err(format!(
                        "{why}; and whether a container is called so is not known: {silent}"
                    )),
                };
            };
            let service = asked.strip_suffix(".service").unwrap_or(asked);
            let service = table::as_name(service);
            // its main process tells which logs it has
            let facts = (named.main > 1)
                .then(|| look(named.main, processes).ok())
                .flatten();
            return Ok(match facts {
                Some(facts)
                    if facts
                        .unit
                        .as_ref()
                        .is_some_and(|unit| unit.place == named.place) =>
                {
                    table_of(&facts, &service, processes)
                }
                _ => (service.clone(), table::of_unit(&named, &service)),
            });
        }
    };
    let facts = look(main_of(pid, processes), processes)?;
    Ok(table_of(&facts, asked, processes))
}

/// Looks at a program, and reads its logs back.
fn look(pid: i32, processes: &ProcessTable) -> Result<Facts, String> {
    let facts = facts::look(pid, processes)?;
    // of one below another root the paths mean other files
    let samples = match facts.root {
        None => logs::samples(&facts.open, facts.pid),
        Some(_) => BTreeMap::new(),
    };
    Ok(Facts { samples, ..facts })
}

/// The engine that the config names, or the usual one.
fn engine(config: Option<&Path>) -> Containers {
    let config = config::find(config).and_then(|path| config::load(&path));
    let Ok(config) = config else {
        return Containers::default();
    };
    let mut containers = config.containers;
    let is_used = config.services.iter().any(|it| it.container.is_some())
        || config.discover.iter().any(|table| !table.finds_units());
    if is_used && let Ok(path) = containers.path() {
        containers.socket = Some(path);
    }
    containers
}

fn table_of(facts: &Facts, asked: &str, processes: &ProcessTable) -> (String, String) {
    let table = Table {
        facts,
        twins: twins(facts, processes),
        parent: parent::of(facts, processes),
        asked,
        is_root: nix::unistd::Uid::effective().is_root(),
        now: SystemTime::now(),
    };
    (table.service(), table.text())
}

/// The config, where it has a service of that name; one that cannot be read has none.
fn has_already(service: &str, config: Option<&Path>) -> Option<PathBuf> {
    let path = config::find(config).ok()?;
    let has = config::load(&path)
        .ok()?
        .services
        .iter()
        .any(|known| known.name == service);
    has.then_some(path)
}

/// The process that was meant.
fn chosen(asked: &str, table: &ProcessTable) -> Result<i32, String> {
    let shown = printable(asked.as_bytes(), 100);
    if let Ok(pid) = asked.parse::<i32>() {
        return match table.process(pid) {
            Lookup::Found(process) if process.kernel => {
                Err(format!("PID {pid} is a thread of the kernel"))
            }
            Lookup::Found(process) if process.command.is_empty() => {
                Err(format!("PID {pid} has ended, or has no command line"))
            }
            Lookup::Found(_) if table.is_in_other_namespace(pid) => Err(format!(
                "PID {pid} runs in a container: what runs there is not watched by its process"
            )),
            Lookup::Found(_) => Ok(pid),
            Lookup::Thread(leader) => Ok(leader),
            Lookup::Gone => Err(format!("no process has PID {pid}")),
            Lookup::Hidden(why) => Err(why),
        };
    }
    match named(asked, table).as_slice() {
        [] => Err(format!(
            "no program called `{shown}` runs; name it by its PID, of which `ps -eo pid,args` knows all"
        )),
        [pid] => Ok(*pid),
        several => {
            let mut why = format!("several programs are called `{shown}`; name one by its PID:");
            for &pid in several.iter().take(LISTED) {
                let command = table
                    .scanned_process(pid)
                    .map(|process| printable(&process.command, 100))
                    .unwrap_or_default();
                let _ = write!(why, "\n    {pid}: {command}");
            }
            // each line was made safe by itself
            Err(why)
        }
    }
}

/// The programs of a name, without the helpers that they themselves started: by the name of the program or of its script.
fn named(name: &str, table: &ProcessTable) -> Vec<i32> {
    let is_called = |process: &Process| {
        let arguments =
            facts::texts(Path::new(&format!("/proc/{}/cmdline", process.pid))).unwrap_or_default();
        let first = arguments
            .first()
            .map_or("", |first| first.split(' ').next().unwrap_or_default());
        let first = first
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or_default();
        let script = match arguments::runs(&arguments) {
            Runs::Script(at) => Path::new(&arguments[at]),
            _ => Path::new(""),
        };
        first.strip_suffix(':').unwrap_or(first) == name
            || script.file_name().is_some_and(|file| file == name)
            || script.file_stem().is_some_and(|stem| stem == name)
            || fs::read_to_string(format!("/proc/{}/comm", process.pid))
                .is_ok_and(|comm| comm.trim_end() == name)
    };
    let all: BTreeSet<i32> = table
        .all()
        .filter(|process| !process.kernel && !table.is_lineage(process.pid))
        .filter(|process| process.state != ProcessState::Zombie)
        .filter(|process| !table.is_in_other_namespace(process.pid))
        .filter(|process| is_called(process))
        .map(|process| process.pid)
        .collect();
    all.iter()
        .copied()
        .filter(|&pid| {
            table
                .parent(pid)
                .is_none_or(|parent| !all.contains(&parent))
        })
        .collect()
}

/// The process that a helper belongs to: the eldest ancestor that runs the same file. What runs an interpreter, and was
/// started by one, is another program, unless it has the same arguments.
fn main_of(pid: i32, table: &ProcessTable) -> i32 {
    let file = |pid: i32| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let Some(own) = file(pid) else {
        return pid;
    };
    let is_interpreter = arguments::is_interpreter(&own.to_string_lossy());
    let command = |pid: i32| {
        table
            .scanned_process(pid)
            .map(|process| process.command.clone())
    };
    let mut main = pid;
    while let Some(parent) = table
        .parent(main)
        .filter(|&parent| parent > 1 && !table.is_lineage(parent))
        .filter(|&parent| file(parent).as_ref() == Some(&own))
        .filter(|&parent| !is_interpreter || command(parent) == command(pid))
    {
        main = parent;
    }
    main
}

/// What runs beside a program, its own children aside, under the same command line.
fn twins(facts: &Facts, table: &ProcessTable) -> Twins {
    let mut found = Twins::default();
    let Some(own) = table.scanned_process(facts.pid) else {
        return found;
    };
    let is_family = |pid: i32| {
        std::iter::successors(Some(pid), |&pid| table.parent(pid))
            .take(256)
            .any(|pid| pid == facts.pid)
    };
    for twin in table.all().filter(|process| process.command == own.command) {
        if twin.kernel
            || is_family(twin.pid)
            || table.is_in_other_namespace(twin.pid)
            || table.is_lineage(twin.pid)
        {
            continue;
        }
        if twin.uid != own.uid {
            found.of_others = true;
        } else if working_dir(twin.pid).is_ok_and(|directory| directory != facts.working_dir) {
            found.elsewhere = true;
        } else {
            found.copies.push(twin.pid);
        }
    }
    found
}

#[cfg(test)]
mod tests;
