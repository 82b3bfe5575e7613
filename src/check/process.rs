//! PID files, command lines and process states: whether a service's own process runs, and which one it is.
//!
//! A PID is a number that anybody's process can have tomorrow. What makes it a service's own is the command
//! line and the user where the config gives them, and otherwise the identity (PID, start time, boot) that
//! earlier runs saw. Whatever is not surely the service's own is told, and never handed on to be signalled.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pattern::Pattern;
use super::{Can, Code, Finding, Grace};
use crate::clock::Reading;
use crate::process_table::{self, Lookup, ProcessState, ProcessTable};

mod ended;
mod explain;
mod family;
mod host;
mod own_command;
mod pid_file;
mod rule;
mod script;
mod search;
mod traps;
mod wrapper;

pub use explain::explain;
pub use family::Family;
pub use pid_file::{PidFileState, is_stale, parse_pid_file};
pub use rule::Rule;
pub use script::is_run_by;
use search::{Born, Outcome, Search};
pub use traps::{Bystanders, scripts, traps};
pub use wrapper::{serves_others, wrapper_and_below};

/// No process of the service runs.
pub const MISSING: &str = "process_missing";
/// The main process that an earlier run knew has ended, and its former children and group still run.
pub const MAIN_ENDED: &str = "main_process_ended";
/// It has ended and nobody has collected it.
pub const ZOMBIE: &str = "process_zombie";
/// It was stopped by a signal, or is held by a debugger.
pub const STOPPED: &str = "process_stopped";
/// It runs, and its PID file does not name it.
pub const PID_FILE_STALE: &str = "pid_file_stale";
/// Several unrelated processes match the command line.
pub const TOO_MANY: &str = "too_many_processes";
/// It could not be looked at.
pub const UNREADABLE: &str = "process_unreadable";

/// The codes of findings about processes. Whatever is missing, systemd may be busy bringing it up.
pub(super) const CODES: &[Code] = &[
    Code::new(MISSING, Grace::Activating, Can::Critical),
    Code::new(MAIN_ENDED, Grace::Activating, Can::Critical),
    Code::new(ZOMBIE, Grace::Activating, Can::Critical),
    Code::new(STOPPED, Grace::Activating, Can::Settable),
    Code::new(PID_FILE_STALE, Grace::Activating, Can::Warning),
    Code::new(TOO_MANY, Grace::Activating, Can::Warning),
    Code::new(UNREADABLE, Grace::Activating, Can::Unknown),
];

/// What the watchdog itself starts for a service: how one without a rule is known when nothing is remembered.
#[derive(Clone, Copy, Debug)]
pub struct Started<'a> {
    /// The program and its arguments.
    pub command: &'a [String],
    /// Its working directory.
    pub working_dir: &'a Path,
    /// The user that it runs as; absent: the watchdog's.
    pub user: Option<&'a str>,
}

/// How a service's process is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target<'a> {
    /// Its `process` table.
    pub rule: Option<&'a Rule>,
    /// Its `spawn` table.
    pub started: Option<Started<'a>>,
    /// Whether other checks show that it runs: then one that was never seen may have been started by hand.
    pub has_other_checks: bool,
    /// Whether a run was cut short while it restarted the service: it may have started what it did not live to see.
    pub may_have_started: bool,
    /// Whether what runs its very command is taken for it where nothing else is found. Not while a restart is under way:
    /// another service may be starting the same.
    pub by_command: bool,
    /// How long what runs the command of `spawn` may take to start its main process again.
    pub patience: Duration,
}

impl Target<'_> {
    /// Whether there is any way to know a process of this service.
    pub fn is_known(&self) -> bool {
        self.rule.is_some() || self.started.is_some()
    }
}

/// One process and no other, for as long as the machine exists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// Its PID.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start: u64,
    /// The boot that this was in.
    #[serde(deserialize_with = "crate::clock::shared")]
    pub boot_id: Arc<str>,
}

impl Identity {
    /// Whether this very process still is, zombies aside.
    pub fn lives(&self, now: &Reading) -> bool {
        self.boot_id == now.boot_id
            && process_table::stat(self.pid)
                .is_ok_and(|stat| stat.start == self.start && stat.state != ProcessState::Zombie)
    }
}

/// What runs of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its main process.
    pub main: Identity,
    /// All processes that are surely the service's, the main one first.
    pub all: Vec<Identity>,
    /// How long the main process has run.
    pub age: Duration,
    /// The PID file, where it is what names the main process.
    pub named_by: Option<PathBuf>,
}

impl Running {
    /// A process that has only just been started, and nothing besides.
    pub(crate) fn just_started(main: Identity) -> Self {
        Self {
            all: vec![main.clone()],
            main,
            age: Duration::ZERO,
            named_by: None,
        }
    }
}

/// Whether a service's process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessStatus {
    /// It does.
    Running(Running),
    /// It surely does not.
    NotRunning,
    /// It could not be seen; nothing may be started.
    Unknown,
    /// The service has no process that could be known.
    NotApplicable,
}

/// What is remembered of a service's process from run to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastSeen {
    /// The main process as it was last seen alive.
    pub main: Option<Identity>,
    /// Whether it led a process group.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub leads_group: bool,
    /// When it was last seen alive, in milliseconds of the boot clock.
    pub seen_ms: u64,
    /// The PID file that named it.
    pub pid_file: Option<PidFileState>,
    /// The process that the last restart brought up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Identity>,
    /// The process that runs the command of `spawn`, where that is not the main one: a loop in a script that starts the
    /// main one again when it ends. While it lives, the service runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrapper: Option<Identity>,
    /// Since when that has run without a main process, in milliseconds of the boot clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alone_ms: Option<u64>,
    /// The processes around it.
    #[serde(skip_serializing_if = "Family::is_empty")]
    pub family: Family,
}

impl LastSeen {
    /// Brings this to where `later` is in what the next run sees again where it is lost: when the process was last seen,
    /// with which children, and when its PID file was last changed.
    pub fn catch_up(&mut self, later: &Self) {
        self.seen_ms = later.seen_ms;
        self.family.children.clone_from(&later.family.children);
        if let (Some(file), Some(later)) = (&mut self.pid_file, &later.pid_file) {
            file.changed = later.changed;
        }
    }
}

/// What looking at a service's process gave.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What a person should know beside.
    pub notes: Vec<String>,
    /// Whether it runs.
    pub process_status: ProcessStatus,
    /// What to remember.
    pub last_seen: LastSeen,
}

/// Whether this check must know every process of the machine to judge.
pub fn needs_scan(target: &Target<'_>, last_seen: &LastSeen, now: &Reading) -> bool {
    let by_start = target.started.is_some();
    if by_start && target.may_have_started {
        return true;
    }
    match target.rule {
        Some(rule) => rule.command_line.is_some(),
        None => {
            by_start
                && last_seen
                    .main
                    .as_ref()
                    .is_none_or(|main| main.boot_id != now.boot_id)
        }
    }
}

/// Looks for a service's process. `taken` are the processes that services are known to have, this one's own former
/// one perhaps among them.
pub fn look(
    target: &Target<'_>,
    last_seen: &LastSeen,
    table: &ProcessTable,
    now: &Reading,
    taken: &BTreeSet<Identity>,
) -> Seen {
    let mut search = Search::new(last_seen, table, now, taken);
    let outcome = match (target.rule, target.started) {
        // held against another boot, whatever is remembered would be of before it
        (Some(_), _) | (_, Some(_)) if !now.knows_boot() => {
            Outcome::Unseen("the id of this boot cannot be read".to_owned())
        }
        (Some(rule), _) => search.by_rule(rule, target),
        (None, Some(started)) => match search.by_start(started, target) {
            // never seen, but its logs may show that somebody else started it
            Outcome::Absent(_)
                if target.has_other_checks
                    && last_seen.main.is_none()
                    && last_seen.started.is_none() =>
            {
                Outcome::NotApplicable
            }
            outcome => outcome,
        },
        (None, None) => Outcome::NotApplicable,
    };
    let pattern = target.rule.and_then(|rule| rule.command_line.as_ref());
    let outcome = match pattern.and_then(Pattern::fault) {
        Some(fault) => Outcome::Unseen(fault),
        None => outcome,
    };
    search.conclude(outcome, target)
}

/// Whether just these arguments run, in this directory and as this user, whoever started them. The error is why that
/// cannot be told.
pub fn is_being_run(started: Started<'_>, now: &Reading) -> Result<Option<i32>, String> {
    let (last_seen, table, taken) = (
        LastSeen::default(),
        ProcessTable::snapshot(),
        BTreeSet::new(),
    );
    let search = Search::new(&last_seen, &table, now, &taken);
    let found = search.with_command_of(started, Born::Ever)?;
    Ok(found.map(|process| process.pid))
}

/// Looks at a process whose PID another keeper tells, as systemd does; nothing where it has just ended, or may
/// not be looked at: then the keeper's word is all there is.
pub fn look_at(pid: i32, last_seen: &LastSeen, now: &Reading) -> Option<Seen> {
    let table = ProcessTable::on_demand();
    let Lookup::Found(main) = table.process(pid) else {
        return None;
    };
    if main.state == ProcessState::Zombie {
        return None;
    }
    let taken = BTreeSet::new();
    let search = Search::new(last_seen, &table, now, &taken);
    Some(search.conclude(Outcome::alone(main), &Target::default()))
}

/// The number of a user given by name or number.
pub fn resolve_user(user: &str) -> Result<u32, String> {
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    match nix::unistd::User::from_name(user) {
        Ok(Some(found)) => Ok(found.uid.as_raw()),
        Ok(None) => Err(format!("no such user `{user}`")),
        Err(error) => Err(format!("user `{user}` cannot be looked up: {error}")),
    }
}

#[cfg(test)]
mod tests;
