//! Traps in the unit that runs the watchdog.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nix::unistd::{Uid, User};

use super::{SYSTEMCTL_LIMIT, Traps};
use crate::check::unit::Manager;
use crate::child::DEFAULT_PATH;
use crate::clock::rough;
use crate::config::{Config, Service};
use crate::files::check_executable;
use crate::restart::scope;
use crate::systemctl::{is_booted, succeeded, systemctl};

/// The name that the watchdog's own unit has, as it is shipped.
const OWN: &str = "watchdog.service";

/// What of a unit shuts its processes in: scopes do not let what they start out of it.
const SANDBOX: [&str; 4] = [
    "ProtectSystem",
    "NoNewPrivileges",
    "PrivateDevices",
    "PrivateTmp",
];

/// The unit that runs the watchdog, where there is one: it may end a run too early, and with the run all that the
/// run has started.
pub(super) fn look(config: &Config, traps: &mut Traps) {
    if !is_booted() {
        return;
    }
    // run by the unit itself, as an `ExecStartPre=` perhaps; that of a CI's runner is another matter
    let inside = fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|cgroup| scope::place(&cgroup))
        .filter(scope::Place::is_service)
        .and_then(|place| OwnUnit::ask(place.manager, &place.unit))
        .filter(OwnUnit::is_watchdogs);
    if let Some(own) = inside {
        own.look(config, traps);
        return;
    }
    for manager in [Manager::System, Manager::User] {
        if let Some(own) = OwnUnit::ask(manager, OWN).filter(|own| own.runs(config)) {
            own.look(config, traps);
        }
    }
}

/// A unit that runs the watchdog.
struct OwnUnit {
    manager: Manager,
    name: String,
    properties: BTreeMap<String, String>,
}

impl OwnUnit {
    /// None where the manager does not answer, or has no such unit.
    fn ask(manager: Manager, name: &str) -> Option<Self> {
        let wanted = format!(
            "--property=LoadState,ExecStart,KillMode,Type,User,TimeoutStartUSec,{}",
            SANDBOX.join(",")
        );
        let ended = systemctl(manager, &["show", &wanted, "--", name], SYSTEMCTL_LIMIT).ok()?;
        if !succeeded(&ended) || ended.is_cut {
            return None;
        }
        let properties: BTreeMap<String, String> = String::from_utf8_lossy(&ended.stdout)
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let own = Self {
            manager,
            name: name.to_owned(),
            properties,
        };
        (own.property("LoadState") == "loaded").then_some(own)
    }

    fn property(&self, name: &str) -> &str {
        self.properties.get(name).map_or("", String::as_str)
    }

    /// Whether it runs a program of this name.
    fn is_watchdogs(&self) -> bool {
        let mut words = self.property("ExecStart").split_whitespace();
        words.any(|word| Path::new(word).file_name() == Some("watchdog".as_ref()))
    }

    /// Whether it runs `watchdog check` with this config: another program has that name as well.
    fn runs(&self, config: &Config) -> bool {
        let words: Vec<&str> = self.property("ExecStart").split_whitespace().collect();
        let named = words
            .iter()
            .enumerate()
            .find_map(|(at, word)| match *word {
                "-c" | "--config" => words.get(at + 1).copied(),
                word => word.strip_prefix("--config="),
            })
            .map(Path::new);
        let same = named.is_none_or(|named| {
            named == config.path
                || fs::canonicalize(named)
                    .is_ok_and(|named| Some(named) == fs::canonicalize(&config.path).ok())
        });
        self.is_watchdogs() && words.contains(&"check") && same
    }

    fn look(&self, config: &Config, traps: &mut Traps) {
        self.look_at_time(config, traps);
        let starts = config
            .services
            .iter()
            .filter(|service| service.enabled)
            .find_map(|service| {
                let method = service.method.as_ref()?;
                method.starts_child().then(|| (service, method.place()))
            });
        if let Some((service, method)) = starts {
            self.look_at_end(service, method, traps);
            self.look_at_sandbox(service, method, traps);
        }
    }

    /// systemd ends a run that takes too long, in the middle of a restart.
    fn look_at_time(&self, config: &Config, traps: &mut Traps) {
        // of other types it limits the start alone
        if self.property("Type") != "oneshot" {
            return;
        }
        let given = humantime::parse_duration(self.property("TimeoutStartUSec"));
        if let Ok(given) = given
            && given < config.run_timeout
        {
            traps.whole(
                "run_timeout",
                format!(
                    "{} ends a run after {}, before run_timeout ({}) does",
                    self.name,
                    rough(given),
                    rough(config.run_timeout)
                ),
                format!(
                    "set TimeoutStartSec in {} to more than run_timeout",
                    self.name
                ),
            );
        }
    }

    /// What a run starts is put into a scope of its own; where none can be had, it ends with the run.
    fn look_at_end(&self, service: &Service, method: &str, traps: &mut Traps) {
        if matches!(self.property("KillMode"), "process" | "none") {
            return;
        }
        let user = self.user();
        let (why, help) = if !in_path("busctl") {
            (
                "busctl, which gives it a scope of its own, is not there".to_owned(),
                "install it, it belongs to systemd".to_owned(),
            )
        } else if let Some(user) = user.filter(|user| !user.uid.is_root() && !lingers(user)) {
            (
                format!(
                    "only the systemd of user {} can give it a scope of its own, and that ends with the last login",
                    user.name
                ),
                format!("loginctl enable-linger {}", user.name),
            )
        } else {
            return;
        };
        traps.of(
            service,
            method,
            format!(
                "what is started would be killed when {} ends: {why}",
                self.name
            ),
            format!("{help}; or set KillMode=process in {}", self.name),
        );
    }

    /// Whom it runs as.
    fn user(&self) -> Option<User> {
        let named = self.property("User");
        match self.manager {
            Manager::System if named.is_empty() => User::from_uid(Uid::from_raw(0)).ok()?,
            Manager::System => User::from_name(named).ok()?.or_else(|| {
                let uid = named.parse().ok()?;
                User::from_uid(Uid::from_raw(uid)).ok()?
            }),
            Manager::User => User::from_uid(Uid::effective()).ok()?,
        }
    }

    fn look_at_sandbox(&self, service: &Service, method: &str, traps: &mut Traps) {
        let walls: Vec<String> = SANDBOX
            .iter()
            .map(|name| (name, self.property(name)))
            .filter(|(_, value)| !matches!(*value, "" | "no" | "false"))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !walls.is_empty() {
            traps.of(
                service,
                method,
                format!(
                    "what is started would be shut into the sandbox of {} ({}), whatever scope it is in",
                    self.name,
                    walls.join(", ")
                ),
                "take the sandbox away, or have every service restarted by `systemd = { … }`",
            );
        }
    }
}

fn lingers(user: &User) -> bool {
    Path::new("/var/lib/systemd/linger")
        .join(&user.name)
        .exists()
}

fn in_path(program: &str) -> bool {
    DEFAULT_PATH
        .split(':')
        .any(|directory| check_executable(&Path::new(directory).join(program)).is_ok())
}
