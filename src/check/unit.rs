//! systemd units: what systemd says of a unit, and what of that is wrong.
//!
//! All units of a manager are asked for in one call, a hundred at the most. What comes back is judged by a pure function; that a unit is
//! `active` says only that its process has not ended, so its main process is handed on to be looked at like any
//! other, and to the rules for its logs.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Code, Finding, Grace, Kind, Presence, Severity};
use crate::clock::{self, Reading};

pub use crate::systemctl::Manager;
pub use ask::{ask, look};
pub use explain::explain;
pub use rule::Unit;
pub use status::{Active, Status, parse};
pub use traps::{Watched, trap_in_name, traps};

mod ask;
mod explain;
mod rule;
mod status;
mod traps;

/// It does not run.
pub const INACTIVE: &str = "unit_inactive";
/// It does not run, and systemd says that it failed.
pub const FAILED: &str = "unit_failed";
/// systemd restarted it since the last run.
pub const RESTARTED: &str = "unit_restarted";
/// systemd has no such unit.
pub const NOT_FOUND: &str = "unit_not_found";
/// Somebody has forbidden to start it.
pub const MASKED: &str = "unit_masked";
/// systemd did not answer.
pub const UNREACHABLE: &str = "systemd_unreachable";

/// The codes of findings about units.
pub(super) const CODES: &[Code] = &[
    Code::new(INACTIVE, Grace::None),
    Code::new(FAILED, Grace::None),
    Code::new(RESTARTED, Grace::None).never_critical(),
    Code::new(NOT_FOUND, Grace::None).never_critical(),
    Code::new(MASKED, Grace::None).never_critical(),
    Code::new(UNREACHABLE, Grace::None).never_critical(),
];

/// What is remembered of a unit from run to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSeen {
    /// Its `NRestarts`.
    pub restarts: u32,
    /// The boot that this was in.
    #[serde(deserialize_with = "crate::clock::shared")]
    pub boot_id: Arc<str>,
    /// It was active without a main process, so that systemd does not see where its program ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_main: bool,
}

/// What looking at a service's unit gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// That systemd is busy with it, and how: then nobody else should be.
    pub activating: Option<String>,
    /// Why it is not to be started, whatever is wrong: something else starts it, or it is a job.
    pub left_alone: Option<String>,
    /// Whether it runs, is known not to, or could not be seen.
    pub standing: Presence,
    /// Its control group, where it is up.
    pub control_group: Option<String>,
    /// What to remember.
    pub last_seen: Option<LastSeen>,
}

/// Judges what systemd said of a unit; absent: it said nothing. `last_seen` is what an earlier run remembered, and
/// `waited` is how long a unit that is busy was waited for.
pub fn judge(
    unit: &Unit,
    status: Option<&Status>,
    last_seen: Option<&LastSeen>,
    now: &Reading,
    waited: Duration,
) -> Seen {
    let name = &unit.unit;
    let mut seen = Seen {
        last_seen: last_seen.cloned(),
        ..Seen::default()
    };
    let Some(status) = status else {
        seen.found(NOT_FOUND, Severity::Unknown, nothing_said(name));
        return seen;
    };
    seen.count_restarts(name, status, now);
    let runs = !matches!(status.active, Active::Inactive | Active::Failed);
    seen.control_group =
        Some(status.control_group.clone()).filter(|group| runs && !group.is_empty());
    match status.load.as_str() {
        // one that runs although its unit file has gone or is masked by now is well as long as it runs
        _ if runs => {}
        "masked" => {
            let why = format!(
                "{name} is masked: somebody has forbidden to start it; systemctl unmask {name}"
            );
            seen.found(MASKED, Severity::Unknown, why);
            return seen;
        }
        "not-found" => {
            let why = format!("systemd has no unit {name}; is its name right, and its manager?");
            seen.found(NOT_FOUND, Severity::Unknown, why);
            return seen;
        }
        "" | "loaded" | "merged" => {}
        other => {
            let error = if status.load_error.is_empty() {
                String::new()
            } else {
                format!(": {}", status.load_error)
            };
            let why = format!(
                "systemd cannot load {name} ({other}){error}; systemd-analyze verify {name}"
            );
            seen.found(NOT_FOUND, Severity::Unknown, why);
            return seen;
        }
    }
    if !runs && !unit.rerun {
        seen.left_alone = status.may_be_inactive().map(|why| {
            format!("{name} {why}, so it is not started here; `rerun = true` in its systemd table changes that")
        });
    }
    match status.active {
        Active::Active | Active::Reloading => seen.standing = Presence::Up(status.main_pid),
        Active::Activating => {
            seen.standing = match status.main_pid {
                Some(pid) => Presence::Up(Some(pid)),
                None => Presence::Down,
            };
            seen.activating = Some(match status.sub.as_str() {
                "auto-restart" | "auto-restart-queued" => {
                    let why = status
                        .ending()
                        .map(|how| format!(" after {how}"))
                        .unwrap_or_default();
                    format!("systemd is about to restart {name} by itself{why}")
                }
                sub => format!("systemd is starting {name} ({sub})"),
            });
        }
        // whoever stops it has set it a time of its own in its unit file: to kill it before that is not for us
        Active::Deactivating => {
            let why = format!(
                "{name} was still stopping ({}) after {}; systemd ends that by its TimeoutStopSec",
                status.sub,
                clock::rough(waited)
            );
            seen.found(super::TIMED_OUT, Severity::Unknown, why);
        }
        Active::Inactive | Active::Failed if status.has_job => {
            seen.standing = Presence::Down;
            seen.activating = Some(format!("{name} waits in systemd's queue to be started"));
        }
        Active::Failed => {
            seen.standing = Presence::Down;
            let how = status.ending().unwrap_or_else(|| status.sub.clone());
            seen.found(
                FAILED,
                Severity::Critical,
                format!("{name} has failed: {how}"),
            );
        }
        Active::Inactive if status.is_done() => seen.standing = Presence::Down,
        Active::Inactive => {
            seen.standing = Presence::Down;
            let why = if status.conditions_hold {
                ""
            } else {
                "; a condition in its unit file did not hold when it was last started"
            };
            let message = format!("{name} is inactive ({}){why}", status.sub);
            seen.found(INACTIVE, Severity::Critical, message);
        }
    }
    seen
}

/// What it means that systemd has left a unit out of its answer.
pub fn nothing_said(name: &str) -> String {
    format!("systemctl returned no data for {name}; is it a template without an instance?")
}

/// What is found of each unit of a manager that did not answer.
pub fn unreachable(unit: &Unit, last_seen: Option<&LastSeen>, why: &str) -> Seen {
    let mut seen = Seen {
        last_seen: last_seen.cloned(),
        ..Seen::default()
    };
    let whose = match unit.manager {
        Manager::System => "systemd",
        Manager::User => "the user's systemd",
    };
    let message = format!("{whose} could not be asked for {}: {why}", unit.unit);
    seen.found(UNREACHABLE, Severity::Unknown, message);
    seen
}

impl Seen {
    fn found(&mut self, code: &'static str, severity: Severity, message: String) {
        self.findings
            .push(Finding::new(Kind::Unit, code, severity, message));
    }

    /// Compares how often systemd has restarted a unit with what an earlier run saw.
    fn count_restarts(&mut self, name: &str, status: &Status, now: &Reading) {
        let Some(restarts) = status.restarts.filter(|_| now.knows_boot()) else {
            return;
        };
        if let Some(before) = &self.last_seen {
            // the count begins anew with each boot and with each start by hand
            let begun_anew = before.boot_id != now.boot_id || restarts < before.restarts;
            let grown = if begun_anew {
                restarts
            } else {
                restarts - before.restarts
            };
            if grown > 0 {
                let times = if grown == 1 {
                    "once".to_owned()
                } else {
                    format!("{grown} times")
                };
                let message =
                    format!("systemd has restarted {name} {times} by itself since the last run");
                self.found(RESTARTED, Severity::Warning, message);
            }
        }
        self.last_seen = status.last_seen(now);
    }
}

#[cfg(test)]
mod tests;
