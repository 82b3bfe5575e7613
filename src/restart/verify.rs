//! Seeing that what was started comes up, and stays up.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::{Failure, Limits, RestartContext, Up};
use crate::check::process::{self, Identity, ProcessStatus, Running, Target};
use crate::check::{Severity, worst};
use crate::child::{describe_status, last_lines};
use crate::clock::{self, Reading};
use crate::files::{self, Links};
use crate::process_table::{self, ProcessTable, SharedSnapshots};
use crate::sys::{Credentials, with_rights_of};

/// The first pause between two looks; each is longer than the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How many of the last lines of standard error are told of a start that failed.
pub(super) const STDERR_LINES: usize = 20;
/// How much of standard error is read for them, in bytes.
const STDERR_LIMIT: u64 = 64 << 10;

/// A program that was started as the leader of a session, and what it leaves behind in its group.
#[derive(Debug)]
pub(super) struct StartedChild {
    child: Child,
    pid: i32,
    /// The members of its group when it had ended and was not collected yet: so long its number was nobody else's.
    left: BTreeSet<(i32, u64)>,
}

impl StartedChild {
    /// Takes charge of a child that has just been started.
    pub(super) fn new(child: Child) -> Result<Self, String> {
        let pid = i32::try_from(child.id()).map_err(|error| error.to_string())?;
        Ok(Self {
            child,
            pid,
            left: BTreeSet::new(),
        })
    }

    /// Its PID.
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Collects it if it has ended, and takes note of whom it leaves behind.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        // one that was collected already is none to wait for
        match waitid(Id::Pid(Pid::from_raw(self.pid)), flags) {
            Ok(WaitStatus::StillAlive) => return Ok(None),
            Ok(_) => {
                let members = process_table::group_members(self.pid).unwrap_or_default();
                let known = members.into_iter().map(|(pid, stat)| (pid, stat.start));
                self.left = known.collect();
            }
            Err(_) => {}
        }
        self.child.try_wait()
    }

    /// What still lives of its group, now that it has been collected. While one that it left behind lives, the group's
    /// number is given to nobody else, so that all in it are its own.
    pub(super) fn leftovers(&self) -> io::Result<Vec<Identity>> {
        let members = process_table::group_members(self.pid)?;
        let is_its_own =
            |(pid, stat): &(i32, process_table::Stat)| self.left.contains(&(*pid, stat.start));
        if !members.iter().any(is_its_own) {
            return Ok(Vec::new());
        }
        let members = members.into_iter().map(|(pid, stat)| Identity {
            pid,
            start: stat.start,
            boot_id: "".into(),
        });
        Ok(members.collect())
    }
}

/// What is waited for.
#[derive(Debug)]
pub(super) struct Awaited<'a> {
    /// How the service's process is known.
    target: &'a Target<'a>,
    /// What is remembered of the one before.
    last_seen: &'a process::LastSeen,
    /// Processes that the services are known to have.
    taken: &'a BTreeSet<Identity>,
    /// The processes of the machine, for all the restarts of a run.
    snapshots: &'a SharedSnapshots,
    /// The limits of the restart.
    limits: &'a Limits,
}

impl<'a> Awaited<'a> {
    /// What a restart waits for, with these limits.
    pub(super) fn with(context: &'a RestartContext<'_>, limits: &'a Limits) -> Self {
        Self {
            target: &context.target,
            last_seen: &context.last_seen,
            taken: &context.taken,
            snapshots: context.snapshots,
            limits,
        }
    }

    /// Waits until all process checks pass, `start_timeout` at the most, and go on passing for `settle`. A child
    /// that exits with another status than 0 fails at once; one that exits with 0 has gone into the background.
    pub(super) fn come_up(&self, mut child: Option<&mut StartedChild>) -> Result<Up, Failure> {
        let deadline = Instant::now() + self.limits.start_timeout;
        let mut up_since: Option<Instant> = None;
        let mut last_seen = None;
        let mut exited_well = false;
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(started) = child.as_deref_mut()
                && let Some(status) = started.try_wait().map_err(|error| error.to_string())?
            {
                if !status.success() {
                    let when = if up_since.is_some() {
                        "came up, but then "
                    } else {
                        ""
                    };
                    let why = format!("{when}{}", describe_status(status));
                    return Err(failed(why, last_seen));
                }
                // what was up until now has gone into the background, and its successor may not be there yet
                up_since = None;
                last_seen = None;
                exited_well = true;
                child = None;
            }
            let seen = self.look(child.as_deref(), exited_well);
            match (seen, up_since) {
                (Ok(up), Some(since)) if since.elapsed() >= self.limits.settle => return Ok(up),
                (Ok(up), None) if self.limits.settle.is_zero() => return Ok(up),
                (Ok(up), None) => {
                    last_seen = Some(Box::new(up.last_seen));
                    up_since = Some(Instant::now());
                    pause = FIRST_PAUSE;
                }
                (Err(why), Some(_)) => {
                    let limit = clock::rough(self.limits.settle);
                    let why = format!("came up, but not for {limit}: {why}");
                    return Err(failed(why, last_seen));
                }
                (Err(why), None) if Instant::now() >= deadline => {
                    let exited = if exited_well {
                        " (what was started exited with status 0)"
                    } else {
                        ""
                    };
                    let limit = clock::rough(self.limits.start_timeout);
                    let why = format!("did not come up within {limit}: {why}{exited}");
                    return Err(failed(why, last_seen));
                }
                // what it has forked by now is known for its own if it is left behind
                (Ok(up), Some(_)) => last_seen = Some(Box::new(up.last_seen)),
                (Err(_), None) => {}
            }
            std::thread::sleep(pause);
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }

    /// One look. The error says why it does not count as up.
    fn look(&self, child: Option<&StartedChild>, exited_well: bool) -> Result<Up, String> {
        let now = Reading::take();
        if self.target.rule.is_none() {
            if let Some(child) = child {
                return child_is_up(child, &now);
            }
            if self.target.started.is_none() {
                return Ok(Up {
                    running: None,
                    last_seen: self.last_seen.clone(),
                    unit: None,
                });
            }
        }
        // one that went into the background has another PID than the one that was started
        let fresh;
        let last_seen = if exited_well && self.target.rule.is_none() {
            fresh = process::LastSeen::default();
            &fresh
        } else {
            self.last_seen
        };
        let table = if process::needs_scan(self.target, last_seen, &now) {
            self.snapshots.ask()
        } else {
            Arc::new(ProcessTable::on_demand())
        };
        let target = Target {
            has_other_checks: false,
            ..*self.target
        };
        let seen = process::look(&target, last_seen, &table, &now, self.taken);
        match seen.process_status {
            ProcessStatus::Running(running) if worst(&seen.findings) < Some(Severity::Critical) => {
                Ok(Up {
                    running: Some(running),
                    last_seen: seen.last_seen,
                    unit: None,
                })
            }
            _ => Err(seen
                .findings
                .iter()
                .max_by_key(|finding| finding.severity)
                .map_or_else(
                    || "no process".to_owned(),
                    |finding| finding.message.clone(),
                )),
        }
    }
}

fn failed(error: String, last_seen: Option<Box<process::LastSeen>>) -> Failure {
    Failure {
        last_seen,
        ..Failure::from(error)
    }
}

/// A service without a rule is what was started.
fn child_is_up(child: &StartedChild, now: &Reading) -> Result<Up, String> {
    let pid = child.pid();
    if !now.knows_boot() {
        return Err("the id of this boot cannot be read".to_owned());
    }
    let stat = process_table::stat(pid).map_err(|error| error.to_string())?;
    let main = Identity {
        pid,
        start: stat.start,
        boot_id: now.boot_id.clone(),
    };
    let last_seen = process::LastSeen {
        main: Some(main.clone()),
        leads_group: stat.group == pid,
        seen_ms: now.boot_ms,
        pid_file: None,
        started: None,
    };
    let running = Running::just_started(main);
    Ok(Up {
        running: Some(running),
        last_seen,
        unit: None,
    })
}

/// The last lines that a start wrote to its standard error, from what was in the file before it on. It is read with the
/// rights of `who`, where that is given: what a program may put a link to is what its user may read.
pub(super) fn stderr_since(
    path: Option<&Path>,
    before: u64,
    who: Option<&Credentials>,
) -> Vec<String> {
    let read = |path: &Path| -> std::io::Result<Vec<u8>> {
        let (file, meta) = files::open(path, Links::Follow)?;
        // a shorter file was emptied in between: then all of it is new
        let from = if meta.len() < before { 0 } else { before };
        let from = from.max(meta.len().saturating_sub(STDERR_LIMIT));
        let mut bytes = vec![0; usize::try_from(meta.len() - from).unwrap_or(0)];
        let got = file.read_at(&mut bytes, from)?;
        bytes.truncate(got);
        Ok(bytes)
    };
    let read = |path: &Path| match who {
        Some(who) => with_rights_of(who, || read(path)).and_then(|result| result),
        None => read(path),
    };
    path.and_then(|path| read(path).ok())
        .map(|bytes| last_lines(&bytes, STDERR_LINES))
        .unwrap_or_default()
}

/// How long a file is now: where what a start writes begins.
pub(super) fn length_of(path: Option<&Path>) -> u64 {
    path.and_then(|path| std::fs::metadata(path).ok())
        .map_or(0, |meta| meta.len())
}
