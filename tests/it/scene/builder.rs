//! Configs for tests: a service's table, with the stand-in program in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A service's table in a config, with quick limits and no grace for its logs.
#[derive(Clone)]
pub(crate) struct Service {
    name: String,
    top: BTreeMap<String, String>,
    process: Option<String>,
    spawn: Option<BTreeMap<String, String>>,
    options: Vec<String>,
    restart: BTreeMap<String, String>,
    rest: String,
}

impl Service {
    /// The stand-in program, known by PID file and command line and started by the watchdog.
    pub(crate) fn new(name: &str) -> Self {
        let restart = [
            ("settle", "\"200ms\""),
            ("start_timeout", "\"20s\""),
            ("stop_timeout", "\"20s\""),
            ("max_per_hour", "9"),
        ];
        Self {
            name: name.to_owned(),
            top: pairs(&[("start_grace", "\"0s\"")]),
            process: Some(format!(
                "{{ pid_file = \"{name}.pid\", command_line = '{{dir}}/prog\\.sh {name}( |$)' }}"
            )),
            spawn: Some(BTreeMap::new()),
            options: vec![format!("pid_file={name}.pid")],
            restart: pairs(&restart),
            rest: String::new(),
        }
    }

    /// A service with logs alone.
    pub(crate) fn logs(name: &str) -> Self {
        Self::new(name).known_by(None).watched()
    }

    /// A further option of the program.
    pub(crate) fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// The program without any option, its PID file included.
    pub(crate) fn no_options(mut self) -> Self {
        self.options.clear();
        self
    }

    /// A key of the service itself.
    pub(crate) fn top(mut self, key: &str, value: &str) -> Self {
        self.top.insert(key.to_owned(), value.to_owned());
        self
    }

    /// A key of its restart table.
    pub(crate) fn restart(mut self, key: &str, value: &str) -> Self {
        self.restart.insert(key.to_owned(), value.to_owned());
        self
    }

    /// A key of its spawn table; `command` instead of the stand-in program's.
    pub(crate) fn spawn(mut self, key: &str, value: &str) -> Self {
        self.spawn
            .get_or_insert_default()
            .insert(key.to_owned(), value.to_owned());
        self
    }

    /// Another process table, or none.
    pub(crate) fn known_by(mut self, process: Option<&str>) -> Self {
        self.process = process.map(str::to_owned);
        self
    }

    /// No way to restart it.
    pub(crate) fn watched(mut self) -> Self {
        self.spawn = None;
        self
    }

    /// A `[[log]]` table.
    pub(crate) fn log(mut self, keys: &str) -> Self {
        let _ = write!(self.rest, "[[service.{}.log]]\n{keys}\n", self.name);
        self
    }

    /// Further tables.
    pub(crate) fn rest(mut self, tables: &str) -> Self {
        self.rest.push_str(tables);
        self
    }

    fn render(&self) -> String {
        let mut text = format!("[service.{}]\n", self.name);
        for (key, value) in &self.top {
            let _ = writeln!(text, "{key} = {value}");
        }
        if let Some(process) = &self.process {
            let _ = writeln!(text, "process = {process}");
        }
        if let Some(spawn) = &self.spawn {
            let mut spawn = spawn.clone();
            spawn.entry("command".to_owned()).or_insert_with(|| {
                let mut words = vec![
                    "/bin/sh".to_owned(),
                    "{dir}/prog.sh".to_owned(),
                    self.name.clone(),
                ];
                words.extend(self.options.iter().cloned());
                format!("{words:?}")
            });
            let _ = writeln!(text, "spawn = {{ {} }}", inline(&spawn));
        }
        let _ = writeln!(text, "restart = {{ {} }}", inline(&self.restart));
        text.push_str(&self.rest);
        text
    }
}

/// The tables of several services.
pub(crate) fn render(services: &[&Service]) -> String {
    services.iter().map(|s| s.render()).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn inline(table: &BTreeMap<String, String>) -> String {
    let keys: Vec<String> = table.iter().map(|(k, v)| format!("{k} = {v}")).collect();
    keys.join(", ")
}
