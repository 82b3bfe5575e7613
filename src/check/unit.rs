//! systemd units: what systemd says of a unit, and what of that is wrong.
//!
//! All units of a manager are asked for in one call, a hundred at the most. What comes back is judged by a pure function; that a unit is
//! `active` says only that its process has not ended, so its main process is handed on to be looked at like any
//! other, and to the rules for its logs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Code, Finding, Grace, Kind, Severity};
use crate::clock::{self, Reading};
use crate::systemctl::{complaint, systemctl};
use crate::text::printable;

pub use crate::systemctl::Manager;

mod rule;

pub use rule::Unit;

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
    Code::new(RESTARTED, Grace::None),
    Code::new(NOT_FOUND, Grace::None),
    Code::new(MASKED, Grace::None),
    Code::new(UNREACHABLE, Grace::None),
];

/// What is asked of a unit.
const PROPERTIES: &str = "--property=Id,Names,LoadState,LoadError,ActiveState,SubState,MainPID,NRestarts,Result,\
                          ExecMainCode,ExecMainStatus,InvocationID,Job,ConditionResult,ConditionTimestampMonotonic";
/// So many units are asked for in one call at the most: a helper's output is read only up to a limit.
const UNITS_PER_CALL: usize = 100;
/// How often a unit that is stopping or reloading is asked for again.
const POLL: Duration = Duration::from_millis(200);
/// `CLD_EXITED` of wait(2), as `ExecMainCode` has it.
const EXITED: i32 = 1;

/// Whether a unit runs, as systemd has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Active {
    /// It does.
    Active,
    /// It does, and takes up its configuration anew.
    Reloading,
    /// It does not.
    #[default]
    Inactive,
    /// It does not, and ended badly.
    Failed,
    /// It is being started, or waits to be restarted by systemd itself.
    Activating,
    /// It is being stopped.
    Deactivating,
}

/// What systemd says of one unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// All its names, aliases among them.
    pub names: Vec<String>,
    /// `loaded`, `not-found`, `masked`, `bad-setting`, `error`.
    pub load: String,
    /// Why it could not be loaded, in systemd's words.
    pub load_error: String,
    /// Whether it runs.
    pub active: Active,
    /// The finer state: `running`, `auto-restart`, `stop-sigterm`.
    pub sub: String,
    /// The main process, where it has one.
    pub main_pid: Option<i32>,
    /// How often systemd has restarted it by itself since it was last started by hand; absent where this is no
    /// service.
    pub restarts: Option<u32>,
    /// How it ended: `success`, `exit-code`, `signal`, `timeout`, `start-limit-hit`.
    pub result: String,
    /// How its main process ended: 1 by exit, 2 and 3 by a signal.
    pub exec_code: i32,
    /// The exit status or the signal of its main process.
    pub exec_status: i32,
    /// The id of its present or last run.
    pub invocation: String,
    /// Whether something is queued to be done to it.
    pub has_job: bool,
    /// Whether the conditions of its unit file held when it was last started.
    pub conditions_hold: bool,
}

/// What is remembered of a unit from run to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSeen {
    /// Its `NRestarts`.
    pub restarts: u32,
    /// The boot that this was in.
    #[serde(deserialize_with = "crate::clock::shared")]
    pub boot_id: Arc<str>,
}

/// What looking at a service's unit gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// That systemd is busy with it, and how: then nobody else should be.
    pub activating: Option<String>,
    /// Whether it runs, is known not to, or could not be seen.
    pub standing: UnitStatus,
    /// What to remember.
    pub last_seen: Option<LastSeen>,
}

/// Whether a unit runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnitStatus {
    /// It does, with a main process or without one.
    Up(Option<i32>),
    /// It surely does not.
    Down,
    /// It could not be seen, or systemd would not start it.
    #[default]
    Unseen,
}

impl Status {
    /// The unit's state as `systemctl status` shows it: `active (running)`.
    pub fn shown(&self) -> String {
        let active = match self.active {
            Active::Active => "active",
            Active::Reloading => "reloading",
            Active::Inactive => "inactive",
            Active::Failed => "failed",
            Active::Activating => "activating",
            Active::Deactivating => "deactivating",
        };
        format!("{active} ({})", self.sub)
    }

    /// How it ended, for a person; nothing where it ended well.
    pub fn ending(&self) -> Option<String> {
        let how = match self.result.as_str() {
            "" | "success" => return None,
            "start-limit-hit" => {
                "it was started too often, and systemd refuses to start it again".to_owned()
            }
            "timeout" => "it did not start or stop in time".to_owned(),
            "oom-kill" => "the kernel was out of memory and killed it".to_owned(),
            "watchdog" => "it stopped telling systemd that it is alive".to_owned(),
            _ if self.exec_code == EXITED => match exec_failure(self.exec_status) {
                Some(step) => format!("exit status {} ({step})", self.exec_status),
                None => format!("exit status {}", self.exec_status),
            },
            _ if self.exec_code > EXITED => {
                let name = nix::sys::signal::Signal::try_from(self.exec_status)
                    .map_or_else(|_| String::new(), |signal| format!(" ({signal})"));
                format!("ended by signal {}{name}", self.exec_status)
            }
            _ => return Some(format!("result {}", self.result)),
        };
        Some(format!("{how}, result {}", self.result))
    }
}

/// What systemd's own exit statuses mean, those that a person meets (systemd.exec(5)).
fn exec_failure(status: i32) -> Option<&'static str> {
    Some(match status {
        200 => "its working directory could not be entered",
        203 => "its program could not be run",
        208 => "its standard input could not be set up",
        209 => "its standard output could not be set up",
        216 => "its group could not be taken on",
        217 => "its user could not be taken on",
        226 => "its mount namespace could not be set up",
        _ => return None,
    })
}

/// Asks a manager for all of its units at once; those that are stopping or reloading are waited for, as long
/// as `limit` allows. A unit that systemd has nothing to say of is left out.
///
/// The error is a sentence.
pub fn look(
    manager: Manager,
    units: &[String],
    limit: Duration,
) -> Result<BTreeMap<String, Status>, String> {
    let deadline = Instant::now() + limit;
    let mut known = ask(manager, units, limit)?;
    loop {
        let unsettled: Vec<String> = known
            .iter()
            .filter(|(_, status)| matches!(status.active, Active::Deactivating | Active::Reloading))
            .map(|(name, _)| name.clone())
            .collect();
        let left = deadline.saturating_duration_since(Instant::now());
        if unsettled.is_empty() || left <= POLL * 2 {
            return Ok(known);
        }
        std::thread::sleep(POLL);
        // what was learnt before a manager stopped answering is still known
        match ask(manager, &unsettled, left.saturating_sub(POLL)) {
            Ok(again) => known.extend(again),
            Err(_) => return Ok(known),
        }
    }
}

/// Asks for the state of some units, by their names, in as few calls as their number allows and within `limit`. A unit
/// that systemd has nothing to say of is left out.
///
/// The error is a sentence.
pub fn ask(
    manager: Manager,
    units: &[String],
    limit: Duration,
) -> Result<BTreeMap<String, Status>, String> {
    let deadline = Instant::now() + limit;
    let mut known = BTreeMap::new();
    for units in calls(units) {
        ask_once(manager, units, limit, deadline, &mut known)?;
    }
    Ok(known)
}

/// The units of each call. They are about as many in each: a call for a single one that systemd has nothing to say of
/// would look like a manager that does not answer.
fn calls(units: &[String]) -> impl Iterator<Item = &[String]> {
    let calls = units.len().div_ceil(UNITS_PER_CALL).max(1);
    units.chunks(units.len().div_ceil(calls).max(1))
}

/// One call; two for half of the units each where its output was too long to be read as a whole.
fn ask_once(
    manager: Manager,
    units: &[String],
    limit: Duration,
    deadline: Instant,
    known: &mut BTreeMap<String, Status>,
) -> Result<(), String> {
    let mut args = vec!["show", PROPERTIES, "--"];
    args.extend(units.iter().map(String::as_str));
    let left = deadline.saturating_duration_since(Instant::now());
    let ended = systemctl(manager, &args, left)?;
    if ended.is_cut {
        let (first, second) = units.split_at(units.len() / 2);
        if first.is_empty() {
            return Err("the output of systemctl is too long".to_owned());
        }
        ask_once(manager, first, limit, deadline, known)?;
        return ask_once(manager, second, limit, deadline, known);
    }
    let statuses = parse(&ended.stdout);
    if statuses.is_empty() {
        return Err(complaint(&ended, limit));
    }
    known.extend(units.iter().filter_map(|unit| {
        let status = statuses.iter().find(|status| status.names.contains(unit))?;
        Some((unit.clone(), status.clone()))
    }));
    Ok(())
}

/// Reads the output of `systemctl show`: a block of `Key=value` lines for each unit, with blank lines between.
pub fn parse(output: &[u8]) -> Vec<Status> {
    let text = String::from_utf8_lossy(output);
    let mut statuses = Vec::new();
    for block in text.split("\n\n") {
        let mut status = Status {
            conditions_hold: true,
            ..Status::default()
        };
        let mut were_asked = true;
        for line in block.lines() {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let value = value.trim();
            match key {
                "Id" => status.names.push(value.to_owned()),
                "Names" => status.names.extend(value.split(' ').map(str::to_owned)),
                "LoadState" => value.clone_into(&mut status.load),
                "LoadError" => status.load_error = bus_error(value),
                "ActiveState" => status.active = active(value),
                "SubState" => value.clone_into(&mut status.sub),
                "MainPID" => status.main_pid = value.parse().ok().filter(|&pid| pid > 1),
                "NRestarts" => status.restarts = value.parse().ok(),
                "Result" => value.clone_into(&mut status.result),
                "ExecMainCode" => status.exec_code = value.parse().unwrap_or_default(),
                "ExecMainStatus" => status.exec_status = value.parse().unwrap_or_default(),
                "InvocationID" => value.clone_into(&mut status.invocation),
                "Job" => status.has_job = !matches!(value, "" | "0"),
                "ConditionResult" => status.conditions_hold = value != "no",
                "ConditionTimestampMonotonic" => were_asked = value != "0",
                _ => {}
            }
        }
        // before the first start, systemd shows that they do not hold
        status.conditions_hold |= !were_asked;
        if !status.names.is_empty() {
            statuses.push(status);
        }
    }
    statuses
}

fn active(value: &str) -> Active {
    match value {
        "active" | "refreshing" => Active::Active,
        "reloading" => Active::Reloading,
        "failed" => Active::Failed,
        "activating" => Active::Activating,
        "deactivating" | "maintenance" => Active::Deactivating,
        _ => Active::Inactive,
    }
}

/// The sentence of an error as the bus gives it: `org.….NoSuchUnit "Unit x.service not found."`.
fn bus_error(value: &str) -> String {
    let sentence = value.split_once(' ').map_or(value, |(_, rest)| rest);
    let sentence = sentence.trim_matches('"').trim_end_matches('.');
    printable(sentence.as_bytes(), 300)
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
    match status.active {
        Active::Active | Active::Reloading => seen.standing = UnitStatus::Up(status.main_pid),
        Active::Activating => {
            seen.standing = match status.main_pid {
                Some(pid) => UnitStatus::Up(Some(pid)),
                None => UnitStatus::Down,
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
            seen.standing = UnitStatus::Down;
            seen.activating = Some(format!("{name} waits in systemd's queue to be started"));
        }
        Active::Failed => {
            seen.standing = UnitStatus::Down;
            let how = status.ending().unwrap_or_else(|| status.sub.clone());
            seen.found(
                FAILED,
                Severity::Critical,
                format!("{name} has failed: {how}"),
            );
        }
        Active::Inactive => {
            seen.standing = UnitStatus::Down;
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

impl Status {
    /// What to remember of it.
    pub fn last_seen(&self, now: &Reading) -> Option<LastSeen> {
        self.restarts.map(|restarts| LastSeen {
            restarts,
            boot_id: now.boot_id.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
