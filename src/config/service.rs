//! The `[service.NAME]` tables.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::dependencies::{Dependent, check_dependencies};
use super::policy::{Policy, check_window};
use super::strategy::{Strategy, StrategyKeys, check_windows};
use super::{Defaults, Service};
use crate::check::container;
use crate::check::disk::{self, Disks};
use crate::check::exec::{self, Execs};
use crate::check::http::{self, Https};
use crate::check::log::{self, Logs};
use crate::check::port::{self, Ports};
use crate::check::prometheus::{self, Prometheuses};
use crate::check::unit::Unit;
use crate::check::usage::{self, Usage};
use crate::check::{Listed, assign_ids, process};
use crate::restart::spawn::Spawn;
use crate::restart::{Limits, RestartMethod, Tables, evidence};
use crate::table::{
    Checked, Context, Field, Fields, Flat, Form, Inner, Key, Nested, Part, Program, Shown,
    Standing, Table, Value, quoted, table,
};

/// Younger processes are not judged by their logs.
const START_GRACE: Duration = Duration::from_mins(1);

/// The ways to restart, of which a service has one at most.
const ONE_WAY: &str =
    "a service is restarted in one way: spawn, systemd, container or restart.command";

table! {
    /// What a service does not say itself.
    pub(super) struct DefaultKeys like "defaults = { start_grace = \"60s\" }" {
        /// As in a service, below.
        start_grace: Duration = START_GRACE;
        /// Any key of a service's restart table, below.
        restart: RestartKeys => Nested, example "{ max_per_hour = 3 }";
        /// And of its evidence table.
        evidence: evidence::Settings => Nested, example "{ enabled = true }";
    }
}

table! {
    /// A program that the watchdog looks after; NAME is of letters, digits, '-', '_', '.', 64 at most.
    pub(super) struct ServiceKeys like "[service.NAME]", check fits_together {
        /// For people.
        description: Option<String>, example r#""the trading bot""#;
        /// Whether it is checked.
        enabled: bool = true;
        /// Default: the directory of this file.
        working_dir: Arc<Path> => WorkingDir, example r#""/srv/trader""#;
        /// A younger process is not judged by its logs and probes: longer than it takes to write its first lines.
        start_grace: Duration = START_GRACE;
        /// Not restarted while one of these is down, or before it was restarted in this run.
        depends_on: Vec<String> as Vec<Dependency> = Vec::new(), example r#"["database"]"#;
        /// How its process is known.
        process: Option<process::Rule>;
        /// How it is started.
        spawn: Option<Spawn>;
        /// Its unit.
        systemd: Option<Unit>;
        /// Its container.
        container: Option<container::Rule>;
        /// Its logs.
        log: Vec<log::Rule> = Vec::new();
        /// Its ports.
        port: Vec<port::Rule> = Vec::new();
        /// Its endpoints.
        http: Vec<http::Rule> = Vec::new();
        /// Commands that say how it is.
        exec: Vec<exec::Rule> = Vec::new();
        /// File systems that must not fill up.
        disk: Vec<disk::Rule> = Vec::new();
        /// Alerts and expressions of Prometheus.
        prometheus: Vec<prometheus::Probe> = Vec::new();
        /// The memory of its processes.
        memory: Option<usage::Memory>;
        /// Their processor time.
        cpu: Option<usage::Cpu>;
        /// The files that its main process has open.
        open_files: Option<usage::OpenFiles>;
        /// The threads of its processes.
        threads: Option<usage::Threads>;
        /// When it is restarted.
        restart: RestartKeys => Nested;
        /// What is recorded before its process is stopped.
        evidence: evidence::Settings => Nested;
        /// What is done for which findings.
        strategy: Vec<StrategyKeys> = Vec::new();
    }
}

table! {
    /// When it is restarted, and how long that may take.
    pub(super) struct RestartKeys like "restart = { max_per_hour = 3 }" {
        /// When.
        policy: Policy => Flat;
        /// How.
        limits: Limits => Flat;
        /// Another restart method, instead of spawn, systemd or the container's engine: run to its end, exit 0 is success.
        command: Option<Vec<String>> as Option<Program>, commented r#"["/etc/init.d/trader", "restart"]"#;
        /// false: the command stops what runs itself, as "supervisorctl restart x" does; the watchdog stops nothing.
        stop_first: bool = true;
    }
}

impl Defaults {
    /// What holds for a service that says nothing.
    pub(super) fn of(keys: DefaultKeys) -> Self {
        let RestartKeys {
            policy,
            limits,
            command,
            stop_first,
        } = keys.restart;
        Self {
            start_grace: keys.start_grace,
            policy,
            limits,
            command,
            stop_first,
            evidence: keys.evidence,
        }
    }
}

impl From<&Defaults> for DefaultKeys {
    fn from(defaults: &Defaults) -> Self {
        Self {
            start_grace: defaults.start_grace,
            restart: RestartKeys {
                policy: defaults.policy.clone(),
                limits: defaults.limits.clone(),
                command: defaults.command.clone(),
                stop_first: defaults.stop_first,
            },
            evidence: defaults.evidence.clone(),
        }
    }
}

impl From<&Service> for ServiceKeys {
    fn from(service: &Service) -> Self {
        let Tables {
            spawn,
            command,
            stop_first,
            ..
        } = service
            .method
            .as_ref()
            .map(RestartMethod::tables)
            .unwrap_or_default();
        let used = usage::Tables::of(service.rules::<Usage>());
        Self {
            description: service.description.clone(),
            enabled: service.enabled,
            working_dir: Arc::clone(&service.working_dir),
            start_grace: service.start_grace,
            depends_on: service.depends_on.clone(),
            process: service.process.clone(),
            spawn,
            systemd: service.unit.clone(),
            container: service.container.clone(),
            log: service.rules::<Logs>().cloned().collect(),
            port: service.rules::<Ports>().cloned().collect(),
            http: service.rules::<Https>().cloned().collect(),
            exec: service.rules::<Execs>().cloned().collect(),
            disk: service.rules::<Disks>().cloned().collect(),
            prometheus: (service.rules::<Prometheuses>())
                .filter_map(|rule| rule.probe().cloned())
                .collect(),
            memory: used.memory,
            cpu: used.cpu,
            open_files: used.open_files,
            threads: used.threads,
            restart: RestartKeys {
                policy: service.policy.clone(),
                limits: service.limits.clone(),
                command,
                stop_first,
            },
            evidence: service.evidence.clone(),
            strategy: service.strategies.iter().map(StrategyKeys::from).collect(),
        }
    }
}

/// The directory that relative paths of a service begin at: it is known before its other keys are read.
struct WorkingDir;

impl Field<Arc<Path>> for WorkingDir {
    type Part = Option<Arc<Path>>;

    fn take(_: &Table<'_>, _: &'static Key, context: &Context) -> Self::Part {
        Some(Arc::clone(&context.base))
    }

    fn whole(part: Self::Part, _: Option<fn() -> Arc<Path>>) -> Option<Arc<Path>> {
        part
    }

    fn or(part: Self::Part, other: &Self::Part) -> Self::Part {
        part.or_else(|| other.clone())
    }

    fn show(value: &Arc<Path>, key: &'static Key, entries: &mut Vec<(String, Shown)>) {
        entries.push((key.name.to_owned(), Shown::text(value.to_string_lossy())));
    }

    fn kind() -> String {
        <PathBuf as Form>::kind()
    }
}

/// The services by their names. Each is read when the rest is known.
pub(super) struct Named;

impl Field<Vec<(String, ServiceKeys)>> for Named {
    type Part = ();

    fn take(_: &Table<'_>, _: &'static Key, _: &Context) {}

    fn whole(
        (): (),
        _: Option<fn() -> Vec<(String, ServiceKeys)>>,
    ) -> Option<Vec<(String, ServiceKeys)>> {
        Some(Vec::new())
    }

    fn or((): (), (): &()) {}

    fn show(
        services: &Vec<(String, ServiceKeys)>,
        key: &'static Key,
        entries: &mut Vec<(String, Shown)>,
    ) {
        let services = services
            .iter()
            .map(|(name, service)| (name.clone(), service.shown()))
            .collect();
        entries.push((key.name.to_owned(), Shown::Table(services)));
    }

    fn inner() -> Option<Inner> {
        Some(Inner {
            layouts: &[ServiceKeys::LAYOUT],
            standing: Standing::Named,
        })
    }
}

/// The name of another service. A wrong one is kept as an empty name, so that the others keep their numbers.
struct Dependency;

impl Checked for Dependency {
    type Of = String;
    const KIND: &'static str = "the name of a service";

    fn read(value: &Value<'_>, _: &Context) -> Option<String> {
        Some(value.filled().unwrap_or_default())
    }
}

/// A table of a name of the user's own, and where it stands.
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    pub(super) value: Value<'a>,
    /// The file.
    pub(super) file: Arc<Path>,
    /// What it says.
    pub(super) text: &'a str,
    /// The directory that it is in.
    pub(super) directory: Arc<Path>,
}

impl Entry<'_> {
    /// It with another value.
    pub(super) fn with<'s>(&'s self, value: Value<'s>) -> Entry<'s> {
        Entry {
            name: self.name,
            value,
            file: Arc::clone(&self.file),
            text: self.text,
            directory: Arc::clone(&self.directory),
        }
    }

    /// Whether another file has one of this name already, which is reported as a fault. `what` names the kind of table in the
    /// plural; `places` is where each name stands first.
    pub(super) fn repeats<'e>(
        &'e self,
        places: &mut HashMap<&'e str, &'e Self>,
        what: &str,
    ) -> bool {
        let first = places.entry(self.name).or_insert(self);
        if first.file == self.file {
            return false;
        }
        self.value.misplaced(
            &format!(
                "there are two {what} {}: the other one is at {}",
                quoted(self.name),
                first.place()
            ),
            "give one of them another name, or take it out",
        );
        true
    }

    /// Its file and line, for a message at another place.
    pub(super) fn place(&self) -> String {
        let before = self.text.get(..self.value.span().start);
        let line = before.unwrap_or_default().matches('\n').count() + 1;
        format!("{}:{line}", self.file.display())
    }
}

/// Reads the services, and holds them against one another: who depends on whom. With `repairs` alerts of Prometheus may be
/// all that is known of one.
pub(super) fn read(
    entries: &[Entry<'_>],
    defaults: &Part<DefaultKeys>,
    repairs: bool,
    many: impl Fn() -> bool,
) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::with_capacity(entries.len());
    let mut dependents = Vec::new();
    let mut containers = HashMap::new();
    check_repeated(entries);
    for (number, entry) in entries.iter().enumerate() {
        check_name(entry.name, &entry.value);
        let Some(table) = entry.value.table(ServiceKeys::LAYOUT) else {
            continue;
        };
        if !repairs {
            has_something_to_look_at(&table);
        }
        let Some(mut service) = body(entry, &table, defaults) else {
            continue;
        };
        if let (Some(rule), Some(value)) = (
            service.container.as_ref().filter(|rule| rule.says_which()),
            table.get("container"),
        ) {
            let which = (
                rule.name.clone(),
                rule.project.clone(),
                rule.service.clone(),
            );
            let first = containers.entry(which).or_insert(entry.name);
            if *first != entry.name {
                value.misplaced(
                    &format!("the service {} is the {rule}, too", quoted(first)),
                    "two services for one container would restart it twice: take one of them out",
                );
            }
        }
        if !service.depends_on.is_empty() {
            let names = service.depends_on.clone();
            service.depends_on.retain(|name| !name.is_empty());
            dependents.push(Dependent {
                number,
                table,
                names,
            });
        }
        services.push(service);
    }
    let names: Vec<&str> = entries.iter().map(|entry| entry.name).collect();
    check_dependencies(&names, &dependents, many);
    services
}

/// Within a file a name stands once, or it is no TOML.
fn check_repeated(entries: &[Entry<'_>]) {
    let files = entries.first().zip(entries.last());
    if files.is_none_or(|(first, last)| Arc::ptr_eq(&first.file, &last.file)) {
        return;
    }
    let mut places = HashMap::new();
    for entry in entries {
        entry.repeats(&mut places, "services");
    }
}

/// Whether that can be the name of something in a config.
pub(super) fn is_name(name: &str) -> bool {
    let right = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 64 && name.chars().all(right)
}

/// The name that alerts and journal entries about the watchdog itself have: no service and no scale has it.
pub const RESERVED: &str = "watchdog";

/// Notes a name that only the watchdog itself has. `what` it is, with its article.
pub(super) fn is_not_reserved(name: &str, what: &str, value: &Value<'_>) {
    if name == RESERVED {
        value.misplaced(
            &format!("{} cannot be the name of {what}", quoted(name)),
            "alerts and the journal have that name for what is about the watchdog itself: choose another one",
        );
    }
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
    is_not_reserved(name, "a service", value);
}

/// One service.
pub(super) fn body(
    entry: &Entry<'_>,
    table: &Table<'_>,
    defaults: &Part<DefaultKeys>,
) -> Option<Service> {
    let directory = &entry.directory;
    let working_dir = table
        .get("working_dir")
        .and_then(|value| value.path(directory))
        .map_or_else(|| Arc::clone(directory), Arc::from);
    let context = Context {
        base: working_dir,
        directory: Arc::clone(directory),
    };
    let mut part = ServiceKeys::take(table, &context);
    part.start_grace = part.start_grace.or(defaults.start_grace);
    part.restart = RestartKeys::or(part.restart, &defaults.restart);
    part.evidence = evidence::Settings::or(part.evidence, &defaults.evidence);
    let policy = &part.restart.policy;
    let restart = table.get("restart");
    let key = |name| restart.as_ref().and_then(|restart| restart.key(name));
    check_window(
        key("out_of").as_ref(),
        key("after_failures").as_ref(),
        // what is left out everywhere has room among any
        policy.after_failures,
        policy.out_of.flatten(),
    );
    let keys = ServiceKeys::whole(part)?;
    if let Some(list) = table.get("strategy") {
        check_windows(&list, &keys.strategy, &keys.restart.policy);
    }

    let around = keys.spawn.as_ref().map(surroundings).unwrap_or_default();
    let tables = Tables {
        spawn: keys.spawn,
        systemd: keys.systemd.clone(),
        container: keys.container.clone(),
        command: keys.restart.command,
        stop_first: keys.restart.stop_first,
    };
    let pid_file = keys
        .process
        .as_ref()
        .and_then(|rule| rule.pid_file.as_deref());
    let method = RestartMethod::of(tables, &keys.working_dir, pid_file);
    if !method.as_ref().is_some_and(RestartMethod::has_command) {
        let restart = table.get("restart");
        let key = restart
            .as_ref()
            .and_then(|restart| restart.key("stop_first"));
        if let Some(key) = key.filter(|key| key.raw_flag() == Some(false)) {
            key.misplaced(
                "`stop_first` without `restart.command`",
                "the watchdog itself stops what it starts by spawn or systemd; leave it out",
            );
        }
    }
    let unit = keys.systemd.as_ref().map(|unit| log::Unit {
        name: unit.unit.clone(),
        manager: unit.manager,
    });
    let logs = keys.log.into_iter().map(|rule| {
        let unit = unit.clone().filter(|_| rule.journal);
        let of_container = keys.container.clone().filter(|_| rule.container);
        Logs::rule(log::Rule {
            unit,
            of_container,
            ..rule
        })
    });
    let ports = keys.port.into_iter().map(Ports::rule);
    let endpoints = keys.http.into_iter().map(Https::rule);
    let disks = keys.disk.into_iter().map(Disks::rule);
    let execs = keys.exec.into_iter().map(|rule| {
        Execs::rule(exec::Rule {
            surroundings: around.clone(),
            ..rule
        })
    });
    let used = usage::Tables {
        memory: keys.memory,
        cpu: keys.cpu,
        open_files: keys.open_files,
        threads: keys.threads,
    };
    let used = used.into_rules().map(Usage::rule);
    let asked = keys.prometheus.into_iter();
    let asked = asked.map(|probe| Prometheuses::rule(prometheus::Rule::of(probe)));
    let rules = logs.chain(ports).chain(endpoints).chain(execs);
    let rules = rules.chain(disks).chain(used).chain(asked);
    let strategies = Strategy::all(keys.strategy, &keys.restart.policy, &keys.working_dir);
    Some(Service {
        name: entry.name.to_owned(),
        file: Arc::clone(&entry.file),
        description: keys.description,
        enabled: keys.enabled,
        working_dir: keys.working_dir,
        start_grace: keys.start_grace,
        depends_on: keys.depends_on,
        process: keys.process,
        checks: assign_ids(rules.collect()),
        unit: keys.systemd,
        container: keys.container,
        method,
        strategies,
        policy: keys.restart.policy,
        limits: keys.restart.limits,
        evidence: keys.evidence,
        origin: None,
    })
}

/// Whether it says anything that can be looked at.
fn has_something_to_look_at(table: &Table<'_>) {
    if !table.has_any(&[
        "process",
        "spawn",
        "systemd",
        "container",
        "log",
        "port",
        "http",
        "exec",
        "disk",
        "prometheus",
    ]) {
        table.lacks(
            &format!("service {} has nothing to look at", table.name()),
            "give it one of process, systemd, container, log, port, http, exec, disk, prometheus, or spawn alone",
        );
    }
}

/// Says that a check of Prometheus does not say which, in a config that has no table `[prometheus]`.
pub(super) fn prometheus_has_url(entry: &Entry<'_>) {
    let Some(probes) = entry.value.key("prometheus") else {
        return;
    };
    for probe in (0..).map_while(|number| probes.entry(number)) {
        if probe.is_table() && probe.key("url").is_none() {
            probe.misplaced(
                "it does not say which Prometheus is asked, and there is no table [prometheus]",
                "write url = \"http://127.0.0.1:9090\" here, or in a table [prometheus]",
            );
        }
    }
}

/// What the commands of probes have of `spawn`.
fn surroundings(spawn: &Spawn) -> exec::Surroundings {
    exec::Surroundings {
        user: spawn.user.clone(),
        group: spawn.group.clone(),
        env: spawn.env.clone(),
        env_file: spawn.env_file.clone(),
    }
}

/// What a service uses can be seen only where its processes are known.
fn usage_has_processes(table: &Table<'_>) {
    const USED: [&str; 4] = ["memory", "cpu", "open_files", "threads"];
    if table.has_any(&["process", "spawn", "systemd", "container"]) {
        return;
    }
    if let Some(value) = USED.iter().find_map(|key| table.get(key)) {
        value.misplaced(
            &format!("{} of a service without a process", value.name()),
            "give the service one of process, systemd, container, spawn: by that it is known what runs of it",
        );
    }
}

/// Whose messages or output a log is, the service has to be.
fn has_what_logs(table: &Table<'_>) {
    let Some(logs) = table.get("log") else {
        return;
    };
    for (key, owner, what, help) in [
        (
            "journal",
            "systemd",
            "`journal` in a service without a unit",
            "write systemd = { unit = \"trader.service\" } too, whose messages those are",
        ),
        (
            "container",
            "container",
            "`container` in a log of a service without a container",
            "write container = { name = \"gateway\" } in the service too, whose output that is",
        ),
    ] {
        if table.has(owner) {
            continue;
        }
        for log in (0..).map_while(|number| logs.entry(number)) {
            let value = log.key(key).filter(|value| value.raw_flag() == Some(true));
            if let Some(value) = value {
                value.misplaced(what, help);
            }
        }
    }
}

/// Holds the tables of a service against one another.
fn fits_together(table: &Table<'_>, _: &mut Part<ServiceKeys>) {
    let (process, spawn, restart) = (
        table.get("process"),
        table.get("spawn"),
        table.get("restart"),
    );
    // a second way to restart is told at the one that comes later in the file
    let first = table.at_most_one(&["spawn", "systemd", "container"], ONE_WAY);
    let command = restart.as_ref().and_then(|restart| restart.key("command"));
    // a command may restart what a container is in the place of the engine
    let first = first.filter(|_| table.has("spawn") || table.has("systemd"));
    if let (Some(first), Some(command)) = (first, command) {
        command.misplaced(
            &format!("`restart.command` beside {}{}", first.name(), table.place()),
            ONE_WAY,
        );
    }
    usage_has_processes(table);
    has_what_logs(table);
    if let Some(writes) = spawn.as_ref().and_then(|spawn| spawn.key("write_pid_file"))
        && writes.raw_flag() == Some(true)
        && process
            .as_ref()
            .and_then(|process| process.key("pid_file"))
            .is_none()
    {
        writes.wrong(
            "`write_pid_file` without a PID file to write",
            "write process = { pid_file = \"trader.pid\" } too",
        );
    }
}
