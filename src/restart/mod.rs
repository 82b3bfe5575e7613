//! Restarting: stop what is left, start it anew, and see that it stays up.
//!
//! A `Method` is a file (or a directory) of its own: its rule, how it stops, starts and sees that the service is up,
//! its traps and its sentences. [`RestartMethod`] is the closed list of them, and all that the rest of the program knows
//! of one goes through it. What they have in common, the order of the steps, is in `template`.
//!
//! A restart is handed all that it needs and looks at nothing of the config; its troubles are an [`Action`] with
//! `ok: false`, never an error that ends the run.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::process::{self, Identity, Running, Started, Target};
use crate::check::trap::Trap;
use crate::check::{Check, CheckStates, SubjectState, container as container_check, unit};
use crate::files::FileId;
use crate::process_table::SharedSnapshots;
use crate::sys;

pub use answers::Asking;
pub use limits::{Limits, WaitFor};
pub use method::{RestartMethod, Tables};

mod already_running;
mod answers;
pub mod command;
mod container;
pub mod evidence;
mod leftovers;
mod limits;
mod method;
mod others;
mod probes;
pub mod repair;
pub mod scope;
pub mod spawn;
mod started;
pub mod stop;
mod systemd;
mod template;
pub mod traps;
mod verify;

/// The target of log records that the report of the run tells as well: standard error, beside the report, needs
/// them only where more is asked for.
pub const REPORTED: &str = "reported";

/// What is done to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// What runs of it is stopped, and it is started anew.
    Restart,
    /// A command is run, and nothing is stopped.
    Repair,
    /// More or fewer replicas of it are to run.
    Scale,
}

/// The name of a restart method in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MethodName {
    /// A program of the watchdog's own starting.
    Spawn,
    /// A systemd unit.
    Systemd,
    /// A container, by its engine.
    Container,
    /// A command that is run to its end.
    Command,
    /// The command of Compose.
    Compose,
    /// None: something else has started the service again.
    Itself,
}

impl fmt::Display for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spawn => "spawn",
            Self::Systemd => "systemd",
            Self::Container => "container",
            Self::Command => "command",
            Self::Compose => "compose",
            Self::Itself => "itself",
        })
    }
}

/// What was done to a service and how it went, as `check --json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// What was done.
    pub kind: Operation,
    /// By which method.
    pub method: MethodName,
    /// Whether the service came up and stayed up, or what was wrong is gone.
    pub ok: bool,
    /// The process that was stopped.
    pub old_pid: Option<i32>,
    /// The process that runs now.
    pub new_pid: Option<i32>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// The last lines of standard error of a start that failed.
    #[serde(default)]
    pub stderr: Vec<String>,
    /// The probes that have not passed yet, or could not be asked: `port 127.0.0.1:4002`; and a container's own check that
    /// is still `starting`: `HEALTHCHECK of web`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<String>,
    /// The file with what the process was doing before it was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// The first facts in it; or why it could not be written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<String>,
    /// Of a change of the number of replicas: so many ran before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u32>,
    /// So many were to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u32>,
}

/// All that a restart needs to know beside its method.
#[derive(Clone, Debug)]
pub struct RestartContext<'a> {
    /// The service, for the log.
    pub service: &'a str,
    /// The limits.
    pub limits: &'a Limits,
    /// How its process is known.
    pub target: Target<'a>,
    /// What is remembered of its process.
    pub last_seen: process::LastSeen,
    /// What runs of it.
    pub running: Option<Running>,
    /// The codes of the critical findings that it is restarted for; none, where somebody asked for it.
    pub codes: Vec<String>,
    /// Its container, as this run saw it.
    pub container: Option<Arc<container_check::LastSeen>>,
    /// Its checks: what they remember begins anew once the old process is gone.
    pub checks: &'a [Check],
    /// What they remember.
    pub states: CheckStates,
    /// Processes that the services are known to have.
    pub taken: BTreeSet<Identity>,
    /// The processes of the machine, for all the restarts of a run.
    pub snapshots: &'a SharedSnapshots,
    /// The file for a command's output.
    pub output: PathBuf,
    /// Whether a run was cut short while it restarted the service: what it began may still be under way.
    pub interrupted: bool,
    /// The lock that keeps other runs from starting the same.
    pub lock: FileId,
    /// A process that is younger is not judged by its probes.
    pub start_grace: Duration,
    /// What asking its checks again depends on.
    pub asking: Asking,
    /// What is recorded before it is stopped; absent: nothing.
    pub evidence: Option<evidence::Request>,
}

impl RestartContext<'_> {
    /// Whether this run still has the lock; the error is a sentence.
    fn check_lock(&self) -> Result<(), String> {
        if self.lock.holds() {
            return Ok(());
        }
        // somebody removed the directory: whoever makes it anew has a lock of its own
        Err(format!(
            "the lock {} was removed meanwhile, and another run may be starting it; nothing was started",
            self.lock.path.display()
        ))
    }
}

/// What a restart came to.
#[derive(Clone, Debug)]
pub struct Attempted {
    /// How it went.
    pub action: Action,
    /// What to remember of the process that runs now, and of the systemd unit, where that is what was restarted.
    pub subject: SubjectState,
    /// What the checks remember since the old process was gone.
    pub checks: CheckStates,
    /// What an engine was asked for and did not answer in time: it may be done all the same.
    pub unanswered: Option<Box<container_check::Ordered>>,
    /// Why it was not made after all: what was to be restarted is another one by now.
    pub unmade: Option<String>,
}

/// A service that is up.
#[derive(Clone, Debug)]
struct Up {
    /// The process, where the service has one that can be known.
    running: Option<Running>,
    /// What to remember of it.
    last_seen: process::LastSeen,
    /// What to remember of its systemd unit, where that is what was restarted.
    unit: Option<unit::LastSeen>,
    /// What to remember of its container, where that is what was restarted.
    container: Option<Arc<container_check::LastSeen>>,
    /// Something else has started it.
    by_itself: bool,
    /// What of it has not passed yet, and need not have.
    pending: Option<String>,
}

/// Why a restart failed.
#[derive(Clone, Debug, Default)]
struct Failure {
    /// A sentence.
    error: String,
    /// The last lines that the start wrote: to its standard error, its output, or the journal.
    stderr: Vec<String>,
    /// What to remember of the process that was up for a while: by that, the next attempt knows what it has left behind.
    last_seen: Option<Box<process::LastSeen>>,
    /// What an engine was asked for and did not answer in time.
    unanswered: Option<Box<container_check::Ordered>>,
    /// Nothing was done, for what was to be restarted is another one by now.
    is_unmade: bool,
}

impl From<String> for Failure {
    fn from(error: String) -> Self {
        Self {
            error,
            ..Self::default()
        }
    }
}

/// A way to restart a service.
trait Method {
    /// Its name in reports.
    const NAME: MethodName;
    /// The table or key of a service that it is configured by.
    const PLACE: &'static str;
    /// What is started is a child of the run, and would end with the run's own unit.
    const STARTS_CHILD: bool;
    /// What a start hands on to the look whether the service is up.
    type Begun;

    /// Whether what runs is stopped before the start. Else the start stops it.
    fn stops_first(&self) -> bool {
        true
    }

    /// Stops what runs of the service, `leftovers` of a main process that has ended included. The failure says what still
    /// lives, or why it may not be signalled; nothing may be started then.
    fn stop(&self, context: &RestartContext<'_>, leftovers: &[Identity]) -> Result<(), Failure>;

    /// Whether a process that runs after the stop is the method's own, so that a start makes no other.
    fn has_main(&self, _pid: i32) -> bool {
        false
    }

    /// Starts the service, of which nothing runs.
    fn start(&self, context: &RestartContext<'_>) -> Result<Self::Begun, Failure>;

    /// Sees that the service comes up within `start_timeout`, and goes on being so for `settle`.
    fn verify(&self, context: &RestartContext<'_>, begun: &mut Self::Begun) -> Result<Up, Failure>;

    /// Why it has ended after it was up, as far as that is known.
    fn ended(&self, _context: &RestartContext<'_>, _begun: &mut Self::Begun) -> Failure {
        Failure::from("ended".to_owned())
    }

    /// What the watchdog itself starts by it, by which alone a service may be known.
    fn started(&self) -> Option<Started<'_>> {
        None
    }

    /// The file that the standard output of what it starts goes to, where that is known to keep back what it prints.
    fn buffered_output(&self) -> Option<&Path> {
        None
    }

    /// What it is that only one service can have: the key, its name and its value.
    fn claim(&self) -> Option<traps::Claim> {
        None
    }

    /// What in its configuration may not do what was meant.
    fn traps(&self) -> Vec<Trap> {
        Vec::new()
    }
}

/// Logs that a child's niceness stays what it is, where that is not the one that it was to have.
fn log_kept_niceness(service: &str, nice: i32) {
    if let Some(kept) = sys::niceness_kept(nice) {
        ::log::debug!(
            "{service}: its niceness stays at {kept}: to lower it to {nice} takes CAP_SYS_NICE"
        );
    }
}
