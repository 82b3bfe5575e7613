//! The `[service.NAME]` tables, and the `restart` table that they share with `[defaults]`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::format::{Item, Parsed, StrftimeItems};
use memchr::memchr3;
use nix::sys::signal::Signal;

use super::fault::MOST;
use super::read::{Table, Value, absolute, quoted};
use super::{Defaults, OnExhausted, Policy, Service, keys, ports};
use crate::check::log::{self, Expect, Forbid, Stamp, Zone};
use crate::check::unit::{Manager, Unit};
use crate::check::{Rule, assign_ids};
use crate::check::{Severity, process};
use crate::restart::{Command, Limits, RestartMethod, Spawn};

/// Younger processes are not judged by their logs.
pub(super) const START_GRACE: Duration = Duration::from_mins(1);

/// How many lines `expect` sees.
const LINES: usize = 100;

/// The most it may see: the bytes that are read for it could hold no more.
const MOST_LINES: i64 = 1_000_000;

/// The ways to restart, of which a service has one at most.
const ONE_WAY: &str = "a service is restarted in one way: spawn, systemd or restart.command";

/// A `restart` table as it was written, or the whole of what holds where nothing was.
#[derive(Clone, Default)]
pub(super) struct Restart {
    max_per_hour: Option<u32>,
    on_exhausted: Option<OnExhausted>,
    after_failures: Option<u32>,
    cooldown: Option<Duration>,
    stop_signal: Option<Signal>,
    stop_timeout: Option<Duration>,
    start_timeout: Option<Duration>,
    settle: Option<Duration>,
    command: Option<Vec<String>>,
}

impl Restart {
    /// Reads a `restart` table.
    pub(super) fn read(table: &Table<'_>) -> Self {
        Self {
            max_per_hour: table
                .get("max_per_hour")
                .and_then(|value| value.whole(0..=3600)),
            on_exhausted: table.get("on_exhausted").and_then(|value| {
                value.choice(&[
                    ("wait", OnExhausted::Wait),
                    ("give_up", OnExhausted::GiveUp),
                ])
            }),
            after_failures: table
                .get("after_failures")
                .and_then(|value| value.whole(1..=1000)),
            cooldown: table.get("cooldown").and_then(|value| value.duration()),
            stop_signal: table.get("stop_signal").and_then(|value| signal(&value)),
            stop_timeout: table.get("stop_timeout").and_then(|value| value.time()),
            start_timeout: table.get("start_timeout").and_then(|value| value.time()),
            settle: table.get("settle").and_then(|value| value.duration()),
            command: table.get("command").and_then(|value| value.command()),
        }
    }

    /// This, and `other` where this says nothing.
    pub(super) fn or(self, other: &Self) -> Self {
        Self {
            max_per_hour: self.max_per_hour.or(other.max_per_hour),
            on_exhausted: self.on_exhausted.or(other.on_exhausted),
            after_failures: self.after_failures.or(other.after_failures),
            cooldown: self.cooldown.or(other.cooldown),
            stop_signal: self.stop_signal.or(other.stop_signal),
            stop_timeout: self.stop_timeout.or(other.stop_timeout),
            start_timeout: self.start_timeout.or(other.start_timeout),
            settle: self.settle.or(other.settle),
            command: self.command.or_else(|| other.command.clone()),
        }
    }

    /// When to restart, with what holds where nothing was written.
    pub(super) fn policy(&self) -> Policy {
        Policy {
            max_per_hour: self.max_per_hour.unwrap_or(3),
            on_exhausted: self.on_exhausted.unwrap_or(OnExhausted::Wait),
            after_failures: self.after_failures.unwrap_or(1),
            cooldown: self.cooldown.unwrap_or_default(),
        }
    }

    /// How to restart, with what holds where nothing was written.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            stop_signal: self.stop_signal.unwrap_or(Signal::SIGTERM),
            stop_timeout: self.stop_timeout.unwrap_or(Duration::from_secs(10)),
            start_timeout: self.start_timeout.unwrap_or(Duration::from_secs(30)),
            settle: self.settle.unwrap_or(Duration::from_secs(2)),
        }
    }
}

/// The `[defaults]` table, as it was written.
pub(super) struct Written {
    /// For the services.
    pub(super) start_grace: Option<Duration>,
    /// For the services.
    pub(super) restart: Restart,
    /// For probes: the limit of one check.
    pub(super) check_timeout: Duration,
}

impl Written {
    /// Reads the table, where there is one.
    pub(super) fn read(value: Option<&Value<'_>>, check_timeout: Duration) -> Self {
        let table = value.and_then(|value| value.table(&keys::DEFAULTS));
        let get = |key| table.as_ref().and_then(|table| table.get(key));
        Self {
            check_timeout,
            start_grace: get("start_grace").and_then(|value| value.duration()),
            restart: get("restart")
                .and_then(|value| value.table(&keys::RESTART))
                .map(|table| Restart::read(&table))
                .unwrap_or_default(),
        }
    }

    /// What holds for a service that says nothing.
    pub(super) fn meant(&self) -> Defaults {
        Defaults {
            start_grace: self.start_grace.unwrap_or(START_GRACE),
            policy: self.restart.policy(),
            limits: self.restart.limits(),
            command: self.restart.command.clone(),
        }
    }
}

/// A service that depends on others.
struct Dependent<'a> {
    /// Which of all it is.
    number: usize,
    table: Table<'a>,
    /// Whom it depends on, by the entries of its list; absent where one is wrong.
    names: Vec<Option<String>>,
}

impl Dependent<'_> {
    /// Hands out an entry of its list.
    fn entry(&self, number: usize, note: impl FnOnce(&Value<'_>)) {
        let list = self.table.get("depends_on");
        if let Some(entry) = list.as_ref().and_then(|list| list.entry(number)) {
            note(&entry);
        }
    }
}

/// Reads the services, and holds them against one another: who depends on whom.
pub(super) fn read(
    entries: &[(&str, Value<'_>)],
    directory: &Path,
    defaults: &Written,
    many: impl Fn() -> bool,
) -> Vec<Service> {
    let directory = Arc::from(directory);
    let mut services = Vec::with_capacity(entries.len());
    let mut dependents = Vec::new();
    for (number, (name, value)) in entries.iter().enumerate() {
        check_name(name, value);
        let Some(table) = value.table(&keys::SERVICE) else {
            continue;
        };
        let names = table
            .get("depends_on")
            .and_then(|value| value.list(|entry| Some(entry.filled())))
            .unwrap_or_default();
        let mut service = body(name, &table, &directory, defaults);
        if !names.is_empty() {
            service.depends_on = names.iter().flatten().cloned().collect();
            dependents.push(Dependent {
                number,
                table,
                names,
            });
        }
        services.push(service);
    }
    check_dependencies(entries, &dependents, many);
    services
}

fn check_name(name: &str, value: &Value<'_>) {
    const HELP: &str = "letters, digits, '-', '_' and '.', 64 at most";
    let right = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(right) {
        value.misplaced(
            &format!("{} cannot be the name of a service", quoted(name)),
            HELP,
        );
    } else if name.len() > 64 {
        value.misplaced("the name of this service is too long", HELP);
    }
}

fn body(name: &str, table: &Table<'_>, directory: &Arc<Path>, defaults: &Written) -> Service {
    let description = table
        .get("description")
        .and_then(|value| value.text().map(str::to_owned));
    let enabled = table.get("enabled").and_then(|value| value.flag());
    let working_dir = table
        .get("working_dir")
        .and_then(|value| value.path(directory))
        .map_or_else(|| Arc::clone(directory), Arc::from);
    let base = &working_dir;
    let start_grace = table
        .get("start_grace")
        .and_then(|value| value.duration())
        .or(defaults.start_grace);

    let process = table
        .get("process")
        .and_then(|value| value.table(&keys::PROCESS));
    let process = process.map(|table| process_rule(&table, base));
    let pid_file = process.as_ref().and_then(|rule| rule.pid_file.as_deref());
    let spawn = table
        .get("spawn")
        .and_then(|value| spawn(&value, base, pid_file));
    let unit = table.get("systemd").and_then(|value| unit(&value));
    let logs = table
        .get("log")
        .and_then(|value| value.tables_of(&keys::LOG, |table| log(table, base)))
        .unwrap_or_default();
    let ports = table
        .get("port")
        .and_then(|value| {
            value.tables_of(&keys::PORT, |table| {
                ports::port(table, base, defaults.check_timeout)
            })
        })
        .unwrap_or_default();
    let logs = logs.into_iter().map(|rule| Rule::Log(Arc::new(rule)));
    let rules = logs.chain(ports.into_iter().map(|rule| Rule::Port(Arc::new(rule))));

    let restart_table = table
        .get("restart")
        .and_then(|value| value.table(&keys::RESTART));
    let command = restart_table
        .as_ref()
        .and_then(|table| table.get("command"));
    one_way(table, command.as_ref());
    let restart = restart_table
        .as_ref()
        .map_or(Cow::Borrowed(&defaults.restart), |table| {
            Cow::Owned(Restart::read(table).or(&defaults.restart))
        });
    if !table.has_any(&["process", "spawn", "systemd", "log", "port"]) {
        table.lacks(
            &format!("service {} has nothing to look at", quoted(name)),
            "give it one of process, systemd, log, port, or spawn alone",
        );
    }
    let method = (spawn.map(|spawn| RestartMethod::Spawn(Box::new(spawn))))
        .or_else(|| unit.clone().map(RestartMethod::Systemd))
        .or_else(|| {
            Some(RestartMethod::Command(Command {
                command: restart.command.clone()?,
                working_dir: Arc::clone(&working_dir),
            }))
        });
    Service {
        name: name.to_owned(),
        description,
        enabled: enabled.unwrap_or(true),
        start_grace: start_grace.unwrap_or(START_GRACE),
        depends_on: Vec::new(),
        process,
        checks: assign_ids(rules.collect()),
        unit,
        method,
        policy: restart.policy(),
        limits: restart.limits(),
        working_dir,
    }
}

/// Notes a second way to restart, at the one that comes later in the file.
fn one_way(table: &Table<'_>, command: Option<&Value<'_>>) {
    let first = table.at_most_one(&["spawn", "systemd"], ONE_WAY);
    if let (Some(first), Some(command)) = (first, command) {
        command.misplaced(
            &format!("`restart.command` beside {}", first.name()),
            ONE_WAY,
        );
    }
}

fn process_rule(table: &Table<'_>, base: &Path) -> process::Rule {
    if !table.has_any(&["pid_file", "command_line"]) {
        table.lacks(
            "`process` needs `pid_file` or `command_line`",
            "by a user alone no process is known",
        );
    }
    let pid_file = table.get("pid_file");
    let shown = pid_file
        .as_ref()
        .and_then(Value::path_text)
        .unwrap_or_default();
    let command_line = table.get("command_line").and_then(|value| {
        let pattern = value.pattern()?;
        if pattern.matches(b"") {
            value.wrong(
                "`command_line` matches every process",
                "write something that only this program has in its arguments, like its script",
            );
        }
        Some(pattern)
    });
    process::Rule {
        shown: shown.to_owned(),
        // a PID file that is wrong still counts as one, so that nothing else is said to lack it
        pid_file: pid_file.map(|_| absolute(base, shown)),
        command_line,
        user: table.get("user").and_then(|value| value.account()),
    }
}

fn spawn(value: &Value<'_>, base: &Arc<Path>, pid_file: Option<&Path>) -> Option<Spawn> {
    let table = value.table(&keys::SPAWN)?;
    let path = |key| table.get(key).and_then(|value| value.path(base));
    let account = |key| table.get(key).and_then(|value| value.account());
    let command = table
        .require("command", "write command = [\"python3\", \"main.py\"]")
        .and_then(|value| value.command());
    let umask = table.get("umask").and_then(|value| umask(&value));
    let nice = table.get("nice").and_then(|value| value.whole(-20..=19));
    let writes = table.get("write_pid_file");
    let wanted = writes.as_ref().and_then(Value::flag).unwrap_or(false);
    if let (Some(value), true, None) = (writes, wanted, pid_file) {
        value.wrong(
            "`write_pid_file` without a PID file to write",
            "write process = { pid_file = \"trader.pid\" } too",
        );
    }
    Some(Spawn {
        user: account("user"),
        group: account("group"),
        env: table
            .get("env")
            .and_then(|value| variables(&value))
            .unwrap_or_default(),
        env_file: path("env_file"),
        stdout: path("stdout"),
        stderr: path("stderr"),
        umask: umask.unwrap_or(0o022),
        nice: nice.unwrap_or(0),
        write_pid_file: pid_file.filter(|_| wanted).map(Path::to_owned),
        working_dir: Arc::clone(base),
        command: command?,
    })
}

fn variables(value: &Value<'_>) -> Option<Vec<(String, String)>> {
    let entries = value.entries("env = { MODE = \"live\" }")?;
    let read = |(name, value): (&str, Value<'_>)| {
        if name.is_empty() || name.contains(['=', '\0']) {
            value.misplaced(
                &format!("{} cannot be the name of a variable", quoted(name)),
                "a name is not empty and has no '=' in it",
            );
            return None;
        }
        Some((name.to_owned(), value.text()?.to_owned()))
    };
    Some(entries.into_iter().filter_map(read).collect())
}

fn umask(value: &Value<'_>) -> Option<u32> {
    const HELP: &str = "write it as octal digits in quotes, like \"027\"";
    let text = value.text_or(HELP)?;
    let octal = (1..=4).contains(&text.len()) && text.chars().all(|c| c.is_digit(8));
    let mask = octal.then(|| u32::from_str_radix(text, 8).ok()).flatten();
    let mask = mask.filter(|mask| *mask <= 0o777);
    if mask.is_none() {
        value.wrong(&format!("{} is not a umask", quoted(text)), HELP);
    }
    mask
}

fn signal(value: &Value<'_>) -> Option<Signal> {
    const HELP: &str = "write a name like TERM, INT, QUIT, HUP, USR1, USR2 or KILL";
    let text = value.text_or(HELP)?;
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    match format!("SIG{name}").parse::<Signal>() {
        Err(_) => {
            value.wrong(&format!("{} is not a signal", quoted(text)), HELP);
            None
        }
        Ok(
            Signal::SIGSTOP | Signal::SIGCONT | Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU,
        ) => {
            value.wrong(&format!("{} does not end a program", quoted(text)), HELP);
            None
        }
        Ok(signal) => Some(signal),
    }
}

fn unit(value: &Value<'_>) -> Option<Unit> {
    let table = value.table(&keys::SYSTEMD)?;
    let unit = table
        .require("unit", "write unit = \"trader.service\"")
        .and_then(|value| unit_name(&value));
    let manager = table
        .get("manager")
        .and_then(|value| value.choice(&[("system", Manager::System), ("user", Manager::User)]));
    Some(Unit {
        unit: unit?,
        manager: manager.unwrap_or(Manager::System),
    })
}

fn unit_name(value: &Value<'_>) -> Option<String> {
    const RESTARTABLE: [&str; 8] = [
        "service",
        "socket",
        "timer",
        "target",
        "mount",
        "automount",
        "path",
        "swap",
    ];
    let text = value.filled()?;
    let right =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
    if !text.chars().all(right) || text.starts_with(['.', '@', '-']) || text.len() > 240 {
        value.wrong(
            &format!("{} is not the name of a unit", quoted(&text)),
            "write one unit's name, like trader.service, without a path or a wildcard",
        );
        return None;
    }
    let (stem, suffix) = match text.rsplit_once('.') {
        Some((stem, suffix)) if RESTARTABLE.contains(&suffix) => (stem, suffix),
        Some((_, suffix @ ("device" | "scope" | "slice" | "snapshot"))) => {
            value.wrong(
                &format!("a {suffix} cannot be restarted"),
                "name the service that runs the program",
            );
            return None;
        }
        _ => (text.as_str(), "service"),
    };
    if stem.ends_with('@') {
        value.wrong(
            &format!("{} is a template, not a unit", quoted(&text)),
            "write its instance too, like trader@one.service",
        );
        return None;
    }
    Some(format!("{stem}.{suffix}"))
}

fn log(table: &Table<'_>, base: &Path) -> Option<log::Rule> {
    let path = table
        .require("path", "write path = \"logs/trader.log\"")
        .and_then(|value| log_path(&value, base));
    let lines = table
        .get("lines")
        .map_or(Some(LINES), |value| value.whole(1..=MOST_LINES));
    let expect = table.get("expect").and_then(|value| {
        value.list(|entry| {
            let (pattern, at_least) = counted(entry, &keys::EXPECT, "at_least", 1, 1)?;
            if let Some(lines) = lines
                && usize::try_from(at_least).map_or(true, |at_least| at_least > lines)
            {
                entry.wrong(
                    &format!("{at_least} of the last {lines} lines can never match"),
                    "raise `lines`, or lower `at_least`",
                );
            }
            Some(Expect { pattern, at_least })
        })
    });
    let forbid = table.get("forbid").and_then(|value| {
        value.list(|entry| {
            let (pattern, at_most) = counted(entry, &keys::FORBID, "at_most", 0, 0)?;
            Some(Forbid { pattern, at_most })
        })
    });
    let severity = table.get("severity").and_then(|value| {
        value.choice(&[
            ("critical", Severity::Critical),
            ("warning", Severity::Warning),
        ])
    });
    let max_age = table.get("max_age").and_then(|value| value.time());
    let stamp = stamp(table);
    let (shown, path) = path?;
    Some(log::Rule {
        shown,
        path,
        max_age,
        lines: lines?,
        expect: expect.unwrap_or_default(),
        forbid: forbid.unwrap_or_default(),
        stamp,
        severity: severity.unwrap_or(Severity::Critical),
    })
}

/// The path of a log as it is written and as it is meant. Where it is a glob, the directory that it is relative to
/// must not become a part of the pattern.
fn log_path(value: &Value<'_>, base: &Path) -> Option<(String, PathBuf)> {
    let shown = value.path_text()?;
    if memchr3(b'*', b'?', b'[', shown.as_bytes()).is_none() {
        return Some((shown.to_owned(), absolute(base, shown)));
    }
    if let Err(error) = glob::Pattern::new(shown) {
        value.wrong(
            &format!("`path` is not a valid glob: {}", error.msg),
            "`*`, `?` and `[a-z]` are wildcards; `[[]` is a bracket",
        );
        return None;
    }
    let base = base.to_str().map_or_else(
        || base.to_owned(),
        |base| glob::Pattern::escape(base).into(),
    );
    Some((shown.to_owned(), absolute(&base, shown)))
}

/// A pattern with a count: `'tick'`, or `{ pattern = 'tick', at_least = 3 }`.
fn counted(
    entry: &Value<'_>,
    layout: &'static keys::Layout,
    key: &'static str,
    default: u64,
    least: i64,
) -> Option<(crate::check::pattern::Pattern, u64)> {
    if !entry.is_table() {
        return Some((entry.shared_pattern()?, default));
    }
    let table = entry.table(layout)?;
    let pattern = table
        .require("pattern", &format!("write it like {}", layout.sample))
        .and_then(|value| value.shared_pattern());
    let count = table
        .get(key)
        .and_then(|value| value.whole(least..=i64::MAX));
    Some((pattern?, count.unwrap_or(default)))
}

fn stamp(table: &Table<'_>) -> Option<Stamp> {
    let format = table.get("timestamp");
    let after = table.get("timestamp_after");
    let zone = table.get("timestamp_zone");
    if format.is_none() {
        for key in [&after, &zone].into_iter().flatten() {
            key.misplaced(
                &format!("{} without `timestamp`", key.name()),
                "write timestamp = \"%Y-%m-%d %H:%M:%S\" too, or whatever the lines have",
            );
        }
    }
    let after = after.as_ref().and_then(Value::text);
    let zone = zone.and_then(|value| value.choice(&[("local", Zone::Local), ("utc", Zone::Utc)]));
    let format = format.as_ref().and_then(|value| {
        let format = value.text()?;
        match check_format(format) {
            Ok(()) => Some(format),
            Err(reason) => {
                value.wrong(
                    &format!("`timestamp` {reason}"),
                    "write it like \"%Y-%m-%d %H:%M:%S\"",
                );
                None
            }
        }
    });
    Some(Stamp {
        format: format?.to_owned(),
        after: after.unwrap_or_default().to_owned(),
        zone: zone.unwrap_or(Zone::Local),
    })
}

/// A time to try formats with: 2026-11-22 01:02:03 UTC.
const SAMPLE: i64 = 1_795_309_323;

/// Whether a time that is written by a format can be read back by it.
fn check_format(format: &str) -> Result<(), &'static str> {
    use std::fmt::Write;
    let items: Vec<_> = StrftimeItems::new(format).collect();
    if items.iter().any(|item| matches!(item, Item::Error)) {
        return Err("is not a time format");
    }
    let sample = chrono::DateTime::from_timestamp(SAMPLE, 456_789_000)
        .ok_or("is not a time format")?
        .fixed_offset();
    let mut text = String::new();
    write!(text, "{}", sample.format_with_items(items.iter()))
        .map_err(|_| "is not a time format")?;
    let mut parsed = Parsed::new();
    chrono::format::parse(&mut parsed, &text, items.iter())
        .map_err(|_| "cannot be read back as it is written")?;
    let has_time = parsed.to_naive_time().is_ok() || parsed.timestamp().is_some();
    if has_time {
        Ok(())
    } else {
        Err("has no time of day, with hour and minute")
    }
}

fn check_dependencies(
    entries: &[(&str, Value<'_>)],
    dependents: &[Dependent<'_>],
    many: impl Fn() -> bool,
) {
    if dependents.is_empty() {
        return;
    }
    let index: HashMap<&str, usize> = entries
        .iter()
        .enumerate()
        .map(|(number, (name, _))| (*name, number))
        .collect();
    let mut edges: Vec<Vec<(usize, usize)>> = vec![Vec::new(); entries.len()];
    for dependent in dependents {
        for (entry, name) in dependent.names.iter().enumerate() {
            let Some(name) = name else { continue };
            match index.get(name.as_str()) {
                Some(other) if *other == dependent.number => dependent.entry(entry, |value| {
                    value.wrong(
                        &format!("service {} depends on itself", quoted(name)),
                        "leave it out",
                    );
                }),
                Some(other) => edges[dependent.number].push((*other, entry)),
                None => {
                    let near = if many() {
                        None
                    } else {
                        let others = entries.iter().enumerate();
                        keys::nearest(
                            name,
                            others
                                .filter(|(other, _)| *other != dependent.number)
                                .map(|(_, (name, _))| *name),
                        )
                    };
                    dependent.entry(entry, |value| {
                        value.absent(
                            &format!("no service {}", quoted(name)),
                            near.map_or_else(
                                || "`depends_on` names other services of this file".to_owned(),
                                |near| format!("did you mean `{near}`?"),
                            ),
                        );
                    });
                }
            }
        }
    }
    for cycle in cycles(&edges) {
        note_cycle(entries, dependents, &cycle);
    }
}

fn note_cycle(
    entries: &[(&str, Value<'_>)],
    dependents: &[Dependent<'_>],
    cycle: &[(usize, usize)],
) {
    let Some((first, entry)) = cycle.first() else {
        return;
    };
    let name = |number: &usize| entries.get(*number).map(|(name, _)| *name);
    let mut names: Vec<&str> = cycle
        .iter()
        .take(10)
        .filter_map(|(number, _)| name(number))
        .collect();
    if cycle.len() > 10 {
        names.push("…");
    }
    names.extend(name(first));
    if let Ok(at) = dependents.binary_search_by_key(first, |dependent| dependent.number) {
        dependents[at].entry(*entry, |value| {
            value.wrong(
                &format!("services depend on one another: {}", names.join(" → ")),
                "none of them could ever be the first to be restarted; take one arrow out",
            );
        });
    }
}

/// The cycles of a graph, each as nodes with the edge that is followed, from its first node. Without recursion:
/// a chain of services may be longer than a stack is deep.
fn cycles(edges: &[Vec<(usize, usize)>]) -> Vec<Vec<(usize, usize)>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open(usize),
        Done,
    }
    let mut marks = vec![Mark::New; edges.len()];
    let mut found = Vec::new();
    for root in 0..edges.len() {
        if marks[root] != Mark::New {
            continue;
        }
        // the path from the root: node, and which of its edges comes next
        let mut path: Vec<(usize, usize)> = vec![(root, 0)];
        marks[root] = Mark::Open(0);
        while let Some((node, next)) = path.last().copied() {
            let Some((target, _)) = edges[node].get(next).copied() else {
                marks[node] = Mark::Done;
                path.pop();
                continue;
            };
            if let Some(last) = path.last_mut() {
                last.1 += 1;
            }
            match marks[target] {
                Mark::Done => {}
                Mark::New => {
                    marks[target] = Mark::Open(path.len());
                    path.push((target, 0));
                }
                // a tangle has more cycles than memory would hold, and a person would read
                Mark::Open(_) if found.len() >= MOST => {}
                Mark::Open(depth) => {
                    let mut cycle: Vec<_> = path[depth..]
                        .iter()
                        .map(|(node, followed)| (*node, edges[*node][followed - 1].1))
                        .collect();
                    let least = (0..cycle.len()).min_by_key(|at| cycle[*at].0).unwrap_or(0);
                    cycle.rotate_left(least);
                    found.push(cycle);
                }
            }
        }
    }
    found
}
