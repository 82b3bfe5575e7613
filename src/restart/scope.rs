//! A scope of its own for what is started, where it would else be ended with the run.
//!
//! systemd keeps count of processes by cgroup, and when the service that a timer started has done its work, it
//! kills all that is left in the service's cgroup, whatever session it is in. A login session can end likewise.
//! So a new program is moved into a scope of its own, and before it runs: what it forks is then in the scope as
//! well. Under cron, in a shell, and where no systemd runs, nothing is done.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User};

use crate::systemctl::{Manager, call, complaint, is_booted, succeeded, systemctl};

/// What a call may take, and the move after it.
const LIMIT: Duration = Duration::from_secs(10);
/// How often the cgroup of the process is looked at while it is moved.
const POLL: Duration = Duration::from_millis(5);

/// A unit of systemd's that a process is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name: `watchdog.service`, `session-3.scope`.
    pub unit: String,
    /// Whose manager runs it.
    pub manager: Manager,
}

impl Place {
    /// Whether it is a service, whose end is the end of what is left in it.
    pub fn is_service(&self) -> bool {
        matches!(self.unit.rsplit_once('.'), Some((_, "service")))
    }
}

/// Where a new program is taken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransientScope {
    /// The unit whose end would be its end.
    from: Place,
    /// The manager that is asked for a scope.
    manager: Manager,
    /// Whether it would surely be killed without one.
    needed: bool,
}

/// The unit that a process is in, from its `/proc/PID/cgroup`; none where systemd keeps no count of it.
pub fn place(cgroup: &str) -> Option<Place> {
    // systemd's own hierarchy: the unified one, and in older layouts the named one; in a container the other of
    // them may be the host's
    cgroup
        .lines()
        .filter_map(|line| line.split_once(':')?.1.split_once(':'))
        .filter(|(controllers, _)| matches!(*controllers, "" | "name=systemd"))
        .find_map(|(_, path)| unit_of(path))
}

/// The unit that a path of systemd's cgroups belongs to.
fn unit_of(path: &str) -> Option<Place> {
    let mut manager = Manager::System;
    let mut unit = None;
    for part in path.split('/') {
        match part.rsplit_once('.') {
            Some((name, "service")) if name.starts_with("user@") => {
                manager = Manager::User;
                unit = None;
            }
            // what is below a unit is delegated to it
            Some((_, "service" | "scope")) => unit = unit.or(Some(part)),
            _ => {}
        }
    }
    Some(Place {
        unit: unit.filter(|unit| *unit != "init.scope")?.to_owned(),
        manager,
    })
}

/// Finds out whether what this process starts now needs a scope.
pub fn detached_scope() -> Option<TransientScope> {
    if !is_booted() {
        return None;
    }
    let from = place(&fs::read_to_string("/proc/self/cgroup").ok()?)?;
    let is_root = Uid::effective().is_root();
    // root's programs outlive even root's own manager
    let manager = if is_root {
        Manager::System
    } else {
        Manager::User
    };
    if from.is_service() {
        return kills_what_is_left(&from).then_some(TransientScope {
            from,
            manager,
            needed: true,
        });
    }
    // a login session: without lingering, a user's own manager ends with the last of them, and sooner than what
    // is merely left in one
    let session = from.manager == Manager::System && from.unit.starts_with("session-");
    (session && (is_root || lingers())).then_some(TransientScope {
        from,
        manager,
        needed: false,
    })
}

/// Whether the end of a service is the end of all that it has started. What cannot be found out is taken to be
/// so, as that is what systemd does by itself.
fn kills_what_is_left(place: &Place) -> bool {
    let args = ["show", "--property=KillMode", "--value", "--", &place.unit];
    match systemctl(place.manager, &args, LIMIT) {
        Ok(ended) if succeeded(&ended) => {
            !matches!(ended.stdout.trim_ascii(), b"process" | b"none")
        }
        _ => true,
    }
}

/// Whether this user's manager runs without a login.
fn lingers() -> bool {
    User::from_uid(Uid::effective())
        .ok()
        .flatten()
        .is_some_and(|user| {
            Path::new("/var/lib/systemd/linger")
                .join(user.name)
                .exists()
        })
}

impl TransientScope {
    /// Moves a process into a scope of its own, named after the service and the process.
    ///
    /// The error is a sentence, and is given only where the process would be killed otherwise: a program that is
    /// known to end with the run is better not started, as every run would find it dead, and count a restart that
    /// never had a chance. Where it merely might be, the trouble goes to the log.
    pub fn adopt_pid(&self, service: &str, pid: i32) -> Result<(), String> {
        match self.make_scope(service, pid) {
            Ok(scope) => {
                ::log::info!(
                    "{service}: PID {pid} is in {scope}, to outlive {}",
                    self.from.unit
                );
                Ok(())
            }
            Err(why) if self.needed => Err(format!(
                "it would be killed when {} ends, and cannot be given a scope of its own: {why}; \
                 KillMode=process in {} lets it live",
                self.from.unit, self.from.unit
            )),
            Err(why) => {
                ::log::warn!(
                    "{service}: cannot be given a scope of its own, and may end with {}: {why}",
                    self.from.unit
                );
                Ok(())
            }
        }
    }

    fn make_scope(&self, service: &str, pid: i32) -> Result<String, String> {
        let scope = format!("watchdog-{service}-{pid}.scope");
        let description = format!("{service}, started by watchdog");
        let pid_shown = pid.to_string();
        let args = [
            "call",
            "org.freedesktop.systemd1",
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
            "StartTransientUnit",
            "ssa(sv)a(sa(sv))",
            &scope,
            "fail",
            "3",
            "Description",
            "s",
            &description,
            // one that has failed must not be in the way of a namesake
            "CollectMode",
            "s",
            "inactive-or-failed",
            "PIDs",
            "au",
            "1",
            &pid_shown,
            "0",
        ];
        let ended = call(self.manager, "busctl", &args, LIMIT)?;
        if !succeeded(&ended) {
            return Err(complaint(&ended, LIMIT));
        }
        // the call only queues the move
        let deadline = Instant::now() + LIMIT;
        let moved = || {
            fs::read_to_string(format!("/proc/{pid}/cgroup"))
                .ok()
                .and_then(|cgroup| place(&cgroup))
                .is_some_and(|place| place.unit == scope)
        };
        while !moved() {
            if Instant::now() >= deadline {
                return Err(format!("systemd has not moved PID {pid} into {scope}"));
            }
            std::thread::sleep(POLL);
        }
        Ok(scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_found_in_every_layout() {
        use Manager::{System, User};
        for (cgroup, expected) in [
            ("0::/\n", None),
            ("", None),
            ("0::/init.scope\n", None),
            ("0::/system.slice\n", None),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/init.scope\n",
                None,
            ),
            (
                "0::/system.slice/watchdog.service\n",
                Some(("watchdog.service", System)),
            ),
            (
                "0::/system.slice/system-dog.slice/dog@a.service/sub\n",
                Some(("dog@a.service", System)),
            ),
            (
                "0::/user.slice/user-0.slice/session-3.scope\n",
                Some(("session-3.scope", System)),
            ),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/watchdog.service\n",
                Some(("watchdog.service", User)),
            ),
            (
                "12:pids:/system.slice/other.service\n1:name=systemd:/system.slice/cron.service\n0::/\n",
                Some(("cron.service", System)),
            ),
            ("9:name=systemd:/\n8:pids:/\n0::/\n", None),
            (
                "9:name=systemd:/\n8:pids:/\n0::/system.slice/watchdog.service\n",
                Some(("watchdog.service", System)),
            ),
        ] {
            let found = place(cgroup);
            let found = found
                .as_ref()
                .map(|place| (place.unit.as_str(), place.manager));
            assert_eq!(found, expected, "{cgroup}");
        }
    }
}
