//! The config as it is meant: typed, checked and complete, with defaults filled in and paths absolute.
//!
//! What was written is read in `read.rs`, which knows places in the file; nothing here does.

use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use crate::check::{log as log_check, process};
use crate::notify::mail;
use crate::restart::{Limits, Way};

/// A whole config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file it came from, absolute.
    pub path: PathBuf,
    /// Where state, lock, journal and outbox are, absolute.
    pub state_dir: PathBuf,
    /// For one check.
    pub check_timeout: Duration,
    /// For a whole run.
    pub run_timeout: Duration,
    /// The watchdog's own log.
    pub logging: Logging,
    /// Whom to mail, and how; absent: nobody.
    pub mail: Option<mail::Settings>,
    /// The services in the order of the file.
    pub services: Vec<Service>,
}

/// The watchdog's own log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// Absolute; absent: standard error only.
    pub file: Option<PathBuf>,
    /// What is worth a line in the file.
    pub level: LevelFilter,
}

/// One program to look after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, unique.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// Whether it is looked at.
    pub enabled: bool,
    /// Absolute.
    pub working_dir: PathBuf,
    /// A younger process is not judged by its logs.
    pub start_grace: Duration,
    /// Services that must be well before this one is restarted.
    pub depends_on: Vec<String>,
    /// How its process is known. Absent: it has only logs, a unit, or what the watchdog itself started.
    pub process: Option<process::Rule>,
    /// Its logs.
    pub logs: Vec<log_check::Rule>,
    /// Its systemd unit, which is a check as well.
    pub unit: Option<crate::check::unit::Unit>,
    /// How it is restarted; absent: it is only watched.
    pub way: Option<Way>,
    /// When it is restarted.
    pub policy: Policy,
    /// The limits of a restart.
    pub limits: Limits,
}

/// When a service is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Attempts, good or bad, in any 60 minutes; 0: never.
    pub max_per_hour: u32,
    /// What happens when they are spent.
    pub on_exhausted: OnExhausted,
    /// Consecutive failing runs before a restart. At least 1.
    pub after_failures: u32,
    /// Least time between two attempts.
    pub cooldown: Duration,
}

/// What happens when the budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExhausted {
    /// Wait until the window frees.
    Wait,
    /// Nothing more until `watchdog reset`.
    GiveUp,
}
