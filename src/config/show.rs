//! The config written back: what holds, every default filled in, every secret masked.
//!
//! A mirror of the tables as a person writes them, and not of the types that the program works with: what is
//! shown can be saved and loaded again. Paths are shown as they are meant, but for those that messages repeat.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::fault::is_secret;
use super::{Config, Defaults, OnExhausted, Policy, Service};
use crate::check::log::{Rule, Zone};
use crate::check::pattern::Pattern;
use crate::check::unit::Unit;
use crate::check::{Severity, port, process};
use crate::clock::as_text;
use crate::notify::mail::{Mailbox, Secret, Settings, Smtp, Tls, Transport};
use crate::restart::{Limits, RestartMethod, Spawn};

/// What stands for a secret.
const MASK: &str = "***";

/// The effective config as TOML, which can be loaded again, but for its masked secrets.
pub fn to_toml(config: &Config) -> String {
    toml::to_string(&Shown::of(config))
        // every value above is a string, a number or a list of them
        .unwrap_or_else(|error| format!("# {error}\n"))
}

#[derive(Serialize)]
struct Shown<'a> {
    state_dir: &'a Path,
    #[serde(with = "as_text")]
    check_timeout: Duration,
    #[serde(with = "as_text")]
    run_timeout: Duration,
    logging: Logging<'a>,
    defaults: ShownDefaults<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mail: Option<Mail<'a>>,
    service: InOrder<'a, ShownService<'a>>,
}

impl<'a> Shown<'a> {
    fn of(config: &'a Config) -> Self {
        Self {
            state_dir: &config.state_dir,
            check_timeout: config.check_timeout,
            run_timeout: config.run_timeout,
            logging: Logging {
                file: config.logging.file.as_deref(),
                level: config.logging.level.as_str().to_ascii_lowercase(),
            },
            defaults: ShownDefaults::of(&config.defaults),
            mail: config.mail.as_ref().map(Mail::of),
            service: InOrder(
                config
                    .services
                    .iter()
                    .map(|service| (service.name.as_str(), ShownService::of(service)))
                    .collect(),
            ),
        }
    }
}

/// A table whose keys are the user's own, in the order of the file.
struct InOrder<'a, T>(Vec<(&'a str, T)>);

impl<T> InOrder<'_, T> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Serialize> Serialize for InOrder<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Logging<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a Path>,
    level: String,
}

#[derive(Serialize)]
struct ShownDefaults<'a> {
    #[serde(with = "as_text")]
    start_grace: Duration,
    restart: Restart<'a>,
}

impl<'a> ShownDefaults<'a> {
    fn of(defaults: &'a Defaults) -> Self {
        Self {
            start_grace: defaults.start_grace,
            restart: Restart::of(
                &defaults.policy,
                &defaults.limits,
                defaults.command.as_deref(),
            ),
        }
    }
}

#[derive(Serialize)]
struct Restart<'a> {
    max_per_hour: u32,
    on_exhausted: &'static str,
    after_failures: u32,
    #[serde(with = "as_text")]
    cooldown: Duration,
    stop_signal: &'static str,
    #[serde(with = "as_text")]
    stop_timeout: Duration,
    #[serde(with = "as_text")]
    start_timeout: Duration,
    #[serde(with = "as_text")]
    settle: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a [String]>,
}

impl<'a> Restart<'a> {
    fn of(policy: &Policy, limits: &Limits, command: Option<&'a [String]>) -> Self {
        let signal = limits.stop_signal.as_str();
        Self {
            max_per_hour: policy.max_per_hour,
            on_exhausted: match policy.on_exhausted {
                OnExhausted::Wait => "wait",
                OnExhausted::GiveUp => "give_up",
            },
            after_failures: policy.after_failures,
            cooldown: policy.cooldown,
            stop_signal: signal.strip_prefix("SIG").unwrap_or(signal),
            stop_timeout: limits.stop_timeout,
            start_timeout: limits.start_timeout,
            settle: limits.settle,
            command,
        }
    }
}

#[derive(Serialize)]
struct Mail<'a> {
    from: &'a str,
    to: Vec<&'a str>,
    on: Vec<&'static str>,
    #[serde(with = "as_text")]
    remind_every: Duration,
    max_per_hour: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    smtp: Option<ShownSmtp<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sendmail: Option<Sendmail<'a>>,
}

#[derive(Serialize)]
struct Sendmail<'a> {
    command: &'a Path,
}

#[derive(Serialize)]
struct ShownSmtp<'a> {
    host: &'a str,
    port: u16,
    tls: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_env: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_credential: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<&'a Path>,
    #[serde(with = "as_text")]
    timeout: Duration,
}

impl<'a> Mail<'a> {
    fn of(mail: &'a Settings) -> Self {
        let (smtp, sendmail, directory) = match &mail.transport {
            Transport::Smtp(smtp) => (Some(ShownSmtp::of(smtp)), None, None),
            Transport::Sendmail { command } => (None, Some(Sendmail { command }), None),
            Transport::Directory(path) => (None, None, Some(path.as_path())),
        };
        Self {
            from: mail.from.as_str(),
            to: mail.to.iter().map(Mailbox::as_str).collect(),
            on: mail.on.iter().map(|event| event.name()).collect(),
            remind_every: mail.remind_every,
            max_per_hour: mail.max_per_hour,
            directory,
            smtp,
            sendmail,
        }
    }
}

impl<'a> ShownSmtp<'a> {
    fn of(smtp: &'a Smtp) -> Self {
        let mut shown = Self {
            host: &smtp.host,
            port: smtp.port,
            tls: match smtp.tls {
                Tls::Starttls => "starttls",
                Tls::Tls => "tls",
                Tls::None => "none",
            },
            username: smtp.username.as_deref(),
            password_file: None,
            password_env: None,
            password_credential: None,
            password: None,
            ca_file: smtp.ca_file.as_deref(),
            timeout: smtp.timeout,
        };
        match &smtp.password {
            None => {}
            Some(Secret::Inline(_)) => shown.password = Some(MASK),
            Some(Secret::File(path)) => shown.password_file = Some(path),
            Some(Secret::Env(name)) => shown.password_env = Some(name),
            Some(Secret::Credential(name)) => shown.password_credential = Some(name),
        }
        shown
    }
}

#[derive(Serialize)]
struct ShownService<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    enabled: bool,
    working_dir: &'a Path,
    #[serde(with = "as_text")]
    start_grace: Duration,
    depends_on: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<Process<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spawn: Option<ShownSpawn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    systemd: Option<&'a Unit>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    log: Vec<Log<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    port: Vec<Port<'a>>,
    restart: Restart<'a>,
}

impl<'a> ShownService<'a> {
    fn of(service: &'a Service) -> Self {
        let (spawn, command) = match &service.method {
            Some(RestartMethod::Spawn(spawn)) => (Some(ShownSpawn::of(spawn)), None),
            Some(RestartMethod::Command(command)) => (None, Some(command.command.as_slice())),
            Some(RestartMethod::Systemd(_)) | None => (None, None),
        };
        Self {
            description: service.description.as_deref(),
            enabled: service.enabled,
            working_dir: &service.working_dir,
            start_grace: service.start_grace,
            depends_on: &service.depends_on,
            process: service.process.as_ref().map(Process::of),
            spawn,
            systemd: service.unit.as_ref(),
            log: service.logs().map(Log::of).collect(),
            port: service.ports().map(Port::of).collect(),
            restart: Restart::of(&service.policy, &service.limits, command),
        }
    }
}

#[derive(Serialize)]
struct Process<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pid_file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command_line: Option<&'a Pattern>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
}

impl<'a> Process<'a> {
    fn of(rule: &'a process::Rule) -> Self {
        Self {
            pid_file: rule.pid_file.as_ref().map(|_| rule.shown.as_str()),
            command_line: rule.command_line.as_ref(),
            user: rule.user.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct ShownSpawn<'a> {
    command: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    env_file: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<&'a Path>,
    umask: String,
    nice: i32,
    write_pid_file: bool,
    #[serde(skip_serializing_if = "InOrder::is_empty")]
    env: InOrder<'a, &'a str>,
}

impl<'a> ShownSpawn<'a> {
    fn of(spawn: &'a Spawn) -> Self {
        // what a program is told in its environment is often a key to something
        let shown = |name: &str, value: &'a str| if is_secret(name) { MASK } else { value };
        Self {
            command: &spawn.command,
            user: spawn.user.as_deref(),
            group: spawn.group.as_deref(),
            env_file: spawn.env_file.as_deref(),
            stdout: spawn.stdout.as_deref(),
            stderr: spawn.stderr.as_deref(),
            umask: format!("{:03o}", spawn.umask),
            nice: spawn.nice,
            write_pid_file: spawn.write_pid_file.is_some(),
            env: InOrder(
                spawn
                    .env
                    .iter()
                    .map(|(name, value)| (name.as_str(), shown(name, value)))
                    .collect(),
            ),
        }
    }
}

#[derive(Serialize)]
struct Log<'a> {
    path: &'a str,
    #[serde(
        serialize_with = "as_text::option::serialize",
        skip_serializing_if = "Option::is_none"
    )]
    max_age: Option<Duration>,
    lines: usize,
    expect: Vec<AtLeast<'a>>,
    forbid: Vec<AtMost<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp_after: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp_zone: Option<Zone>,
    severity: Severity,
}

#[derive(Serialize)]
struct AtLeast<'a> {
    pattern: &'a Pattern,
    at_least: u64,
}

#[derive(Serialize)]
struct AtMost<'a> {
    pattern: &'a Pattern,
    at_most: u64,
}

impl<'a> Log<'a> {
    fn of(rule: &'a Rule) -> Self {
        let stamp = rule.stamp.as_ref();
        Self {
            path: &rule.shown,
            max_age: rule.max_age,
            lines: rule.lines,
            expect: rule
                .expect
                .iter()
                .map(|expect| AtLeast {
                    pattern: &expect.pattern,
                    at_least: expect.at_least,
                })
                .collect(),
            forbid: rule
                .forbid
                .iter()
                .map(|forbid| AtMost {
                    pattern: &forbid.pattern,
                    at_most: forbid.at_most,
                })
                .collect(),
            timestamp: stamp.map(|stamp| stamp.format.as_str()),
            timestamp_after: stamp.map(|stamp| stamp.after.as_str()),
            timestamp_zone: stamp.map(|stamp| stamp.zone),
            severity: rule.severity,
        }
    }
}

#[derive(Serialize)]
struct Port<'a> {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    send: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<&'a Pattern>,
    tls: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    severity: Severity,
    #[serde(
        serialize_with = "as_text::option::serialize",
        skip_serializing_if = "Option::is_none"
    )]
    timeout: Option<Duration>,
    #[serde(rename = "for", with = "as_text")]
    for_: Duration,
}

impl<'a> Port<'a> {
    fn of(rule: &'a port::Rule) -> Self {
        Self {
            address: rule.address.to_string(),
            send: rule.send.as_deref().map(String::from_utf8_lossy),
            expect: rule.expect.as_ref(),
            tls: rule.tls,
            ca_file: rule.ca_file.as_deref(),
            host: rule.host.as_deref(),
            severity: rule.severity,
            timeout: rule.timeout,
            for_: rule.for_,
        }
    }
}
