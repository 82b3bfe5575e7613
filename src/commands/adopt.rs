//! `watchdog adopt`: a `[service]` table for a program that runs now.
//!
//! What is printed works as it is: it is a config, the program that runs is found by it, and it is started again
//! as it was started. What could not be known, and what would be a guess that restarts something that is well, is
//! there as a comment.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::cli;
use crate::clock::rough;
use crate::commands::{complain, print};
use crate::error::Error;
use crate::process_table::{Lookup, ProcessTable};
use crate::restart::environment::DEFAULT_PATH;
use crate::systemctl::Manager;
use crate::text::{is_unseen, printable};
use facts::{Facts, Open, is_log};
use pattern::Found;

mod facts;
mod pattern;

/// Variables that change what a program is, and that hold no secrets. Others are named, not told.
const TOLD: [&str; 24] = [
    "APP_ENV",
    "CLASSPATH",
    "DJANGO_SETTINGS_MODULE",
    "ENVIRONMENT",
    "GEM_HOME",
    "GOMAXPROCS",
    "JAVA_HOME",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "MODE",
    "NODE_ENV",
    "NODE_PATH",
    "PATH",
    "PERL5LIB",
    "PGDATA",
    "PORT",
    "PYTHONPATH",
    "PYTHONUNBUFFERED",
    "RACK_ENV",
    "RAILS_ENV",
    "RUST_LOG",
    "STAGE",
    "TZ",
    "VIRTUAL_ENV",
];

/// Variables that every program has of its shell, its session or its manager, and that the watchdog sets itself or
/// leaves out. A name that ends with `*` is a beginning.
const ORDINARY: [&str; 31] = [
    "_",
    "COLORTERM",
    "COLUMNS",
    "DBUS_*",
    "DEBIAN_FRONTEND",
    "DISPLAY",
    "EDITOR",
    "HOME",
    "HOSTNAME",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LANG",
    "LANGUAGE",
    "LESS*",
    "LINES",
    "LISTEN_*",
    "LOGNAME",
    "LS_COLORS",
    "MAIL",
    "NOTIFY_SOCKET",
    "OLDPWD",
    "PAGER",
    "PWD",
    "SHELL",
    "SHLVL",
    "SSH_*",
    "SUDO_*",
    "SYSTEMD_*",
    "TERM",
    "USER",
    "XDG_*",
];

/// The most processes of one name that are listed.
const LISTED: usize = 10;

/// Prints the table. Refused, with exit code 1, where the program cannot be found or looked at.
pub fn run(options: &cli::Adopt) -> Result<u8, Error> {
    let processes = ProcessTable::full_scan();
    let told = chosen(&options.program, &processes)
        .and_then(|pid| facts::look(main_of(pid, &processes)))
        .map(|facts| {
            let found = known_by(&facts, &processes);
            table(&facts, &found, &options.program, SystemTime::now())
        });
    match told {
        Ok(table) => {
            print(&table)?;
            Ok(0)
        }
        Err(why) => {
            complain(&why);
            Ok(1)
        }
    }
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
            Lookup::Found(_) => Ok(pid),
            Lookup::Thread(leader) => Ok(leader),
            Lookup::Gone => Err(format!("no process has PID {pid}")),
            Lookup::Hidden(why) => Err(why),
        };
    }
    match facts::named(asked, table).as_slice() {
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

/// The process that a helper belongs to: the eldest ancestor that runs the same file.
fn main_of(pid: i32, table: &ProcessTable) -> i32 {
    let file = |pid: i32| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let Some(own) = file(pid).filter(|file| {
        // what runs an interpreter, and was started by one, is another program
        !pattern::is_interpreter(&file.to_string_lossy())
    }) else {
        return pid;
    };
    let mut main = pid;
    while let Some(parent) = table
        .scanned_process(main)
        .map(|process| process.parent)
        .filter(|&parent| parent > 1 && !table.is_lineage(parent))
        .filter(|&parent| file(parent).as_ref() == Some(&own))
    {
        main = parent;
    }
    main
}

/// A pattern for the program, held against all that runs but its own children.
fn known_by(facts: &Facts, table: &ProcessTable) -> Found {
    let mut family = BTreeSet::from([facts.pid]);
    loop {
        let before = family.len();
        family.extend(
            table
                .all()
                .filter(|process| family.contains(&process.parent))
                .map(|process| process.pid)
                .collect::<Vec<_>>(),
        );
        if family.len() == before {
            break;
        }
    }
    let others: Vec<&[u8]> = table
        .all()
        .filter(|process| !process.kernel && !family.contains(&process.pid))
        .map(|process| process.command.as_slice())
        .collect();
    pattern::find(&words(facts), &others)
}

/// Whether the program has written a title over its arguments.
fn has_title(facts: &Facts) -> bool {
    match facts.arguments.as_slice() {
        [only] => only.contains(' ') && !facts.working_dir.join(only).exists(),
        _ => false,
    }
}

/// What a pattern is made of: the arguments, or the words of a title. A title's first word is the program's name,
/// which its helpers have as well.
fn words(facts: &Facts) -> Vec<String> {
    match facts.arguments.as_slice() {
        [title] if has_title(facts) => {
            let mut words: Vec<String> = title.split(' ').map(str::to_owned).collect();
            if words.len() > 1 {
                let second = words.remove(1);
                words[0] = format!("{} {second}", words[0]);
            }
            words
        }
        arguments => arguments.to_vec(),
    }
}

/// A value as TOML.
fn quoted(text: &str) -> String {
    // a literal string shows a pattern as it is; what it cannot hold, or a terminal would obey, the other kind can
    if text.contains(|c: char| c == '\'' || is_unseen(c)) {
        let mut written = String::from("\"");
        for c in text.chars() {
            let _ = match c {
                '"' | '\\' => write!(written, "\\{c}"),
                '\n' => write!(written, "\\n"),
                c if is_unseen(c) => write!(written, "\\u{:04X}", u32::from(c)),
                c => write!(written, "{c}"),
            };
        }
        written.push('"');
        return written;
    }
    if text.contains(['\\', '"']) {
        return format!("'{text}'");
    }
    format!("\"{text}\"")
}

fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// The table.
fn table(facts: &Facts, found: &Found, asked: &str, now: SystemTime) -> String {
    let name = service_name(facts, asked);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "# PID {}, as it runs now; `watchdog validate` and `watchdog check --dry-run` show whether this is what you mean",
        facts.pid
    );
    let _ = writeln!(out, "[service.{}]", key(&name));
    let _ = writeln!(out, "working_dir = {}", path(&facts.working_dir));
    if facts::is_deleted(&facts.working_dir) {
        out.push_str("# this directory is gone: name one that there is\n");
    }
    if let Some(unit) = &facts.unit {
        let manager = match unit.manager {
            Manager::User => ", manager = \"user\"",
            Manager::System => "",
        };
        let _ = writeln!(
            out,
            "systemd = {{ unit = {}{manager} }}",
            quoted(&unit.unit)
        );
    } else {
        add_process(&mut out, facts, found);
        add_spawn(&mut out, facts);
    }
    let mut told = BTreeSet::new();
    for open in facts.open.iter().filter(|open| is_log(open)) {
        if told.insert(&open.path) {
            add_log(&mut out, &name, open, now);
        }
    }
    out
}

/// A name as a key: one with a dot has to be quoted.
fn key(name: &str) -> String {
    if name.contains('.') {
        quoted(name)
    } else {
        name.to_owned()
    }
}

fn add_process(out: &mut String, facts: &Facts, found: &Found) {
    let mut keys = Vec::new();
    if let Some(pid_file) = &facts.pid_file {
        keys.push(format!("pid_file = {}", path(pid_file)));
    }
    keys.push(format!("command_line = {}", quoted(&found.pattern)));
    if !facts.is_own_user {
        keys.push(format!("user = {}", quoted(&facts.user)));
    }
    if !found.is_unique {
        out.push_str(
            "# something else that runs has the same command line: without a PID file they cannot be told apart\n",
        );
    }
    let _ = writeln!(out, "process = {{ {} }}", keys.join(", "));
}

fn add_spawn(out: &mut String, facts: &Facts) {
    if has_title(facts) {
        // a title begins with the name that it was started by, as a rule
        let called = facts.arguments[0].split([' ', ':']).next();
        let called = called.filter(|called| starts(called, facts));
        let program = match (called, &facts.program) {
            (Some(called), _) => quoted(called),
            (None, Some(program)) => path(program),
            (None, None) => quoted(&facts.name),
        };
        let _ = writeln!(
            out,
            "# it has written a title over its arguments, so how it was started is not known; fill it in, or it is\n\
             # only watched:\n#spawn = {{ command = [{program}, \"…\"] }}"
        );
        return;
    }
    let mut command = facts.arguments.clone();
    if let (Some(first), Some(program)) = (command.first_mut(), &facts.program)
        && !starts(first, facts)
    {
        *first = program.to_string_lossy().into_owned();
    }
    let command: Vec<String> = command.iter().map(|argument| quoted(argument)).collect();
    let mut keys = vec![format!("command = [{}]", command.join(", "))];
    if !facts.is_own_user {
        keys.push(format!("user = {}", quoted(&facts.user)));
    }
    if let Some(group) = &facts.group {
        keys.push(format!("group = {}", quoted(group)));
    }
    let told: Vec<String> = facts
        .environment
        .iter()
        .filter(|(key, value)| {
            TOLD.contains(&key.as_str()) && !(*key == "PATH" && is_ordinary_path(value))
        })
        .map(|(key, value)| format!("{key} = {}", quoted(value)))
        .collect();
    if !told.is_empty() {
        keys.push(format!("env = {{ {} }}", told.join(", ")));
    }
    for (number, key) in [(1, "stdout"), (2, "stderr")] {
        let Some(open) = facts.open.iter().find(|open| open.number == number) else {
            continue;
        };
        if facts.uid == 0 || open.owner == facts.uid {
            keys.push(format!("{key} = {}", path(&open.path)));
        } else {
            let _ = writeln!(
                out,
                "# its {key} goes to {}, which belongs to another user and was opened for it: chown that file before \
                 you write it here",
                printable(open.path.to_string_lossy().as_bytes(), 1000)
            );
        }
    }
    if let Some(umask) = facts.umask.filter(|&umask| umask != 0o022) {
        keys.push(format!("umask = \"{umask:03o}\""));
    }
    if facts.nice != 0 {
        keys.push(format!("nice = {}", facts.nice));
    }
    let left: Vec<&str> = facts
        .environment
        .keys()
        .map(String::as_str)
        .filter(|key| !TOLD.contains(key) && !is_ordinary(key))
        .collect();
    if !left.is_empty() {
        let _ = writeln!(
            out,
            "# not taken over, because they may be secret: its variables {}; what it needs belongs in an env_file",
            printable(left.join(", ").as_bytes(), 1000)
        );
    }
    let _ = writeln!(out, "spawn = {{ {} }}", keys.join(", "));
}

/// Whether the name that a program was started by starts it again.
fn starts(first: &str, facts: &Facts) -> bool {
    if first.contains('/') {
        return facts.working_dir.join(first).is_file();
    }
    DEFAULT_PATH
        .split(':')
        .map(|directory| Path::new(directory).join(first))
        .find(|path| path.is_file())
        .and_then(|path| path.canonicalize().ok())
        .is_some_and(|path| facts.program.as_ref() == Some(&path))
}

/// Whether a PATH finds nothing that the one that the watchdog gives does not find.
fn is_ordinary_path(value: &str) -> bool {
    value
        .split(':')
        .all(|directory| DEFAULT_PATH.split(':').any(|usual| usual == directory))
}

fn is_ordinary(key: &str) -> bool {
    ORDINARY.iter().any(|known| match known.strip_suffix('*') {
        Some(start) => key.starts_with(start),
        None => key == *known,
    })
}

fn add_log(out: &mut String, name: &str, open: &Open, now: SystemTime) {
    let _ = writeln!(out, "\n[[service.{}.log]]", key(name));
    let _ = writeln!(out, "path = {}", path(&open.path));
    let age = open
        .written
        .map(|written| now.duration_since(written).unwrap_or_default());
    // a limit that is too short restarts a program that is well, and one look cannot tell how often it writes
    if let Some((age, limit)) = age.and_then(|age| Some((age, proposed(age)?))) {
        let _ = writeln!(
            out,
            "# last written {} ago; if it always writes about as often, this tells a program that is frozen:\n\
             #max_age = {}",
            rough(age),
            quoted(limit)
        );
    } else {
        let age = age.map_or_else(
            || "at an unknown time".to_owned(),
            |age| format!("{} ago", rough(age)),
        );
        let _ = writeln!(
            out,
            "# last written {age}: too seldom for a limit that would tell a frozen program"
        );
    }
}

/// A limit that leaves room for several missed writes.
fn proposed(age: Duration) -> Option<&'static str> {
    match age.as_secs() {
        0..60 => Some("5m"),
        60..300 => Some("20m"),
        300..1800 => Some("2h"),
        1800..7200 => Some("8h"),
        _ => None,
    }
}

/// A name for the service: the one that it was asked for by, or that of the script, or of the program.
fn service_name(facts: &Facts, asked: &str) -> String {
    let script = facts
        .arguments
        .first()
        .filter(|first| pattern::is_interpreter(first))
        .and_then(|_| {
            facts
                .arguments
                .iter()
                .skip(1)
                .find(|argument| !argument.starts_with('-'))
        })
        .and_then(|script| Path::new(script).file_stem())
        .map(|stem| stem.to_string_lossy().into_owned());
    let meant = if asked.parse::<i32>().is_ok() {
        script.unwrap_or_else(|| facts.name.clone())
    } else {
        asked.to_owned()
    };
    let right: String = meant
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        })
        .take(64)
        .collect();
    if right.is_empty() {
        "adopted".to_owned()
    } else {
        right
    }
}

#[cfg(test)]
mod tests;
