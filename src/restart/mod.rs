//! Restarting: stop what is left, start it anew, and see that it stays up.
//!
//! Each way to start has a file. A restart is handed all that it needs and looks at nothing of the config; its
//! troubles are an [`Action`] with `ok: false`, never an error that ends the run.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::check::unit::Unit;

/// The way that a service is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// A program of the watchdog's own starting.
    Spawn(Spawn),
    /// A systemd unit.
    Systemd(Unit),
    /// A command that is run to its end.
    Command(Command),
}

impl Way {
    /// The name that reports give it: `spawn`, `systemd`, `command`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Spawn(_) => "spawn",
            Self::Systemd(_) => "systemd",
            Self::Command(_) => "command",
        }
    }
}

/// A program to start detached: a service's `spawn` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// The program and its arguments, at least the program.
    pub command: Vec<String>,
    /// The user to run it as, by name or number; absent: the watchdog's own.
    pub user: Option<String>,
    /// The group, by name or number; absent: the user's own.
    pub group: Option<String>,
    /// Variables that win over those of `env_file`.
    pub env: Vec<(String, String)>,
    /// A file of KEY=VALUE lines, absolute.
    pub env_file: Option<PathBuf>,
    /// Where standard output is appended, absolute; absent: /dev/null.
    pub stdout: Option<PathBuf>,
    /// Where standard error is appended, absolute; absent: /dev/null.
    pub stderr: Option<PathBuf>,
    /// The file mode creation mask, 0 to 0o777.
    pub umask: u32,
    /// Niceness, -20 to 19.
    pub nice: i32,
    /// The PID file that the watchdog writes for a program that writes none, absolute.
    pub write_pid_file: Option<PathBuf>,
    /// The working folder, absolute.
    pub working_dir: PathBuf,
}

/// A command that restarts a service: `restart.command`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments, at least the program.
    pub command: Vec<String>,
    /// The working folder, absolute.
    pub working_dir: PathBuf,
}

/// The limits of a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The first signal of a stop.
    pub stop_signal: Signal,
    /// How long a stop may take before KILL.
    pub stop_timeout: Duration,
    /// How long a start may take, all process checks passing at its end.
    pub start_timeout: Duration,
    /// How long it must then stay up.
    pub settle: Duration,
}

/// What was done to a service and how it went, as `check --json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// `restart`.
    pub kind: String,
    /// `spawn`, `systemd` or `command`.
    pub method: String,
    /// Whether the service came up and stayed up.
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
}
