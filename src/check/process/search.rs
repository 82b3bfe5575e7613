//! The search for a service's process: by its PID file, its command line, what was remembered and what was started.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::check::process::pid_file::PidFile;
use crate::check::process::{
    Family, Identity, LastSeen, MAIN_ENDED, MISSING, ProcessStatus, Running, STOPPED, Seen,
    Started, Target, UNREADABLE, ZOMBIE, resolve_user,
};
use crate::check::{Finding, Kind, Severity};
use crate::clock::Reading;
use crate::process_table;
use crate::process_table::{Lookup, Process, ProcessState, ProcessTable};

mod by_command_line;
mod by_pid_file;
mod by_rule;
mod by_start;

pub(super) use by_command_line::none_matches;

/// How long after the first reading the second one comes.
pub(super) const REREAD_AFTER: Duration = Duration::from_millis(100);
/// A PID file is older than the boot only if it is so by more than this: both times are rounded.
pub(super) const BOOT_SLACK: Duration = Duration::from_secs(5);
/// How much of a command line a message quotes, in bytes.
const QUOTED: usize = 120;
/// How many of the processes that match are kept as evidence.
const MATCHES_LIMIT: usize = 4096;

/// What the search for a main process came to.
pub(super) enum Outcome {
    Found {
        main: Process,
        all: Vec<Process>,
        named_by: Option<(PathBuf, PidFile)>,
    },
    /// The main process has ended, and what runs are its workers.
    Ended(String),
    /// The main process has ended, and what had started it runs: for too long without it where that is `over`.
    WithoutMain {
        wrapper: Process,
        over: Option<String>,
    },
    Zombie(i32),
    Absent(String),
    Unseen(String),
    NotApplicable,
}

impl Outcome {
    /// Found, without others and not by a PID file.
    pub(super) fn alone(main: Process) -> Self {
        Self::Found {
            all: vec![main.clone()],
            main,
            named_by: None,
        }
    }
}

/// One look for a service's process, and what was found on the way.
pub(super) struct Search<'a> {
    pub(super) last_seen: &'a LastSeen,
    pub(super) table: &'a ProcessTable,
    pub(super) now: &'a Reading,
    taken: &'a BTreeSet<Identity>,
    findings: Vec<Finding>,
    notes: Vec<String>,
}

/// Since when a process may run that is taken for a service by its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Born<'a> {
    /// At any time.
    Ever,
    /// At any time, and none of these: they are surely what the main process left behind.
    Except(&'a [Identity]),
    /// Since the main process was last seen, where one is remembered: what is older may be a child that it left behind.
    SinceLastSight,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        last_seen: &'a LastSeen,
        table: &'a ProcessTable,
        now: &'a Reading,
        taken: &'a BTreeSet<Identity>,
    ) -> Self {
        Self {
            last_seen,
            table,
            now,
            taken,
            findings: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn identity(&self, process: &Process) -> Identity {
        Identity {
            pid: process.pid,
            start: process.start,
            boot_id: self.now.boot_id.clone(),
        }
    }

    /// The process with a PID, and whose it is where it must be a certain user's.
    fn process(&self, pid: i32, uid: Option<u32>) -> Lookup {
        match uid {
            Some(_) => self.table.process_with_user(pid),
            None => self.table.process(pid),
        }
    }

    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    fn found(&mut self, code: &'static str, severity: Severity, message: String) {
        self.findings
            .push(Finding::new(Kind::Process, code, severity, message));
    }

    /// Turns the outcome into findings, evidence for a restart, and what to remember.
    pub(super) fn conclude(mut self, outcome: Outcome, target: &Target<'_>) -> Seen {
        let mut last_seen = None;
        let wrapper = self.living_wrapper(target);
        let process_status = match outcome {
            Outcome::Found {
                main,
                mut all,
                named_by,
            } => {
                let wrapper = wrapper
                    .or_else(|| self.wrapper_above(&main, target))
                    .filter(|wrapper| wrapper.pid != main.pid);
                if let Some(wrapper) = &wrapper
                    && all.iter().all(|process| process.pid != wrapper.pid)
                {
                    all.push(wrapper.clone());
                }
                for process in &all {
                    self.note_state(process);
                }
                let identity = self.identity(&main);
                last_seen = Some(LastSeen {
                    main: Some(identity.clone()),
                    leads_group: main.group == main.pid,
                    seen_ms: self.now.boot_ms,
                    pid_file: match &named_by {
                        Some((_, file)) => Some(file.mark(identity.clone(), self.now)),
                        None => self.last_seen.pid_file.clone(),
                    },
                    started: self.last_seen.started.clone(),
                    wrapper: wrapper.map(|wrapper| self.identity(&wrapper)),
                    alone_ms: None,
                    family: Family::of(&main, self.last_seen, self.table, self.now),
                });
                ProcessStatus::Running(Running {
                    age: age(&main, self.now),
                    all: all.iter().map(|process| self.identity(process)).collect(),
                    main: identity,
                    named_by: named_by.map(|(path, _)| path),
                })
            }
            Outcome::WithoutMain { wrapper, over } => {
                if let Some(why) = over {
                    self.found(MISSING, Severity::Critical, why);
                }
                self.note_state(&wrapper);
                last_seen = Some(LastSeen {
                    alone_ms: self.last_seen.alone_ms.or(Some(self.now.boot_ms)),
                    ..self.last_seen.clone()
                });
                self.only(&wrapper)
            }
            Outcome::Zombie(pid) => {
                self.found(
                    ZOMBIE,
                    Severity::Critical,
                    format!("PID {pid} has ended and is a zombie: its parent has not collected it"),
                );
                ProcessStatus::NotRunning
            }
            Outcome::Ended(why) => {
                self.found(MAIN_ENDED, Severity::Critical, why);
                wrapper.map_or(ProcessStatus::NotRunning, |wrapper| self.only(&wrapper))
            }
            Outcome::Absent(why) => {
                match self.left_behind() {
                    Some((_, shown)) => {
                        let why = format!("{why}; its main process {shown}");
                        self.found(MAIN_ENDED, Severity::Critical, why);
                    }
                    None => self.found(MISSING, Severity::Critical, why),
                }
                ProcessStatus::NotRunning
            }
            Outcome::Unseen(why) => {
                self.found(UNREADABLE, Severity::Unknown, why);
                ProcessStatus::Unknown
            }
            Outcome::NotApplicable => ProcessStatus::NotApplicable,
        };
        Seen {
            findings: self.findings,
            notes: self.notes,
            process_status,
            last_seen: last_seen.unwrap_or_else(|| self.last_seen.clone()),
        }
    }

    /// That a process does not run although it lives.
    fn note_state(&mut self, process: &Process) {
        let pid = process.pid;
        match process.state {
            ProcessState::Stopped => self.found(
                STOPPED,
                Severity::Critical,
                format!("PID {pid} is stopped by a signal (state T)"),
            ),
            ProcessState::Traced => self.found(
                STOPPED,
                Severity::Warning,
                format!("PID {pid} is held by a debugger (state t)"),
            ),
            ProcessState::Alive | ProcessState::Zombie => {}
        }
    }

    /// That this process alone runs of the service.
    fn only(&self, process: &Process) -> ProcessStatus {
        let main = self.identity(process);
        ProcessStatus::Running(Running {
            age: age(process, self.now),
            all: vec![main.clone()],
            main,
            named_by: None,
        })
    }
}

fn age(process: &Process, now: &Reading) -> Duration {
    let started_ms = process.start.saturating_mul(1000) / process_table::ticks_per_second();
    Duration::from_millis(now.boot_ms.saturating_sub(started_ms))
}

/// Whether a service's process can only be this user's own.
fn own_user(uid: Option<u32>, started: Option<Started<'_>>) -> bool {
    let me = nix::unistd::geteuid().as_raw();
    match (uid, started) {
        (Some(uid), _) => uid == me,
        (None, Some(started)) => started
            .user
            .is_none_or(|user| resolve_user(user).is_ok_and(|uid| uid == me)),
        (None, None) => false,
    }
}

fn user_name(uid: u32) -> String {
    match nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tests::{now, process};
    use super::*;

    #[test]
    fn an_age_is_counted_from_the_start_in_clock_ticks() {
        let now = Reading {
            boot_ms: 100_000,
            ..now()
        };
        let mut it = process(600, 1, "app");
        it.start = 60 * process_table::ticks_per_second() + process_table::ticks_per_second() / 2;
        assert_eq!(age(&it, &now), Duration::from_millis(39_500));
        // one that started after the clock was read
        it.start = 101 * process_table::ticks_per_second();
        assert_eq!(age(&it, &now), Duration::ZERO);
    }

    #[test]
    fn whose_process_it_can_be_and_the_names_of_users() {
        let me = nix::unistd::geteuid().as_raw();
        let command = ["a".to_owned()];
        let as_user = |user| {
            Some(Started {
                command: &command,
                working_dir: Path::new("/"),
                user,
            })
        };
        let (mine, other) = (me.to_string(), (me + 1).to_string());
        for (uid, started, own) in [
            (Some(me), None, true),
            (Some(me + 1), None, false),
            (Some(me + 1), as_user(None), false),
            (None, None, false),
            (None, as_user(None), true),
            (None, as_user(Some(&*mine)), true),
            (None, as_user(Some(&*other)), false),
            (None, as_user(Some("no-such-user")), false),
        ] {
            assert_eq!(own_user(uid, started), own, "{uid:?} {started:?}");
        }
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(3_999_999_999), "3999999999");
    }
}
