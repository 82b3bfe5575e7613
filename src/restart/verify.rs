//! Seeing that what was started comes up, and stays up.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::leftovers::abandon;
use super::others::{Other, OtherCopies};
use super::started::StartedChild;
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
    /// The service, for the log.
    service: &'a str,
    /// Processes that are to be replaced: they do not count as up.
    old: Vec<Identity>,
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
            service: context.service,
            old: Vec::new(),
        }
    }

    /// The same where the command stops what runs: only what is none of these is up.
    pub(super) fn instead_of(mut self, old: Vec<Identity>) -> Self {
        self.old = old;
        self
    }

    /// Waits until all process checks pass, `start_timeout` at the most, and the same process goes on passing them for
    /// `settle`. A child that exits with another status than 0 fails at once; one that exits with 0 has gone into the
    /// background. Where something else starts the service as well, the child is ended again.
    pub(super) fn come_up(&self, mut child: Option<&mut StartedChild>) -> Result<Up, Failure> {
        let deadline = Instant::now() + self.limits.start_timeout;
        let mut first: Option<FirstSight> = None;
        let mut last_seen = None;
        let mut exited_well = false;
        let mut by_itself = false;
        let mut watch = child
            .as_deref()
            .map(|child| OtherCopies::beside(child.pid()));
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(started) = child.as_deref_mut()
                && let Some(status) = started.try_wait().map_err(|error| error.to_string())?
            {
                if !status.success() {
                    let when = if first.is_some() {
                        "came up, but then "
                    } else {
                        ""
                    };
                    let why = format!("{when}{}", describe_status(status));
                    return Err(failed(why, last_seen));
                }
                // what was up until now has gone into the background, and its successor may not be there yet
                first = None;
                last_seen = None;
                exited_well = true;
                child = None;
            }
            let seen = self.look(child.as_deref(), exited_well);
            let other = match (&seen, child.is_some(), &mut watch) {
                (Ok(up), true, Some(watch)) => watch.look(up.running.as_ref()),
                _ => None,
            };
            match (seen, &mut first) {
                (Ok(_), _) if other.is_some() => {
                    if let Some(Other::Sure(pid)) = other
                        && let Some(started) = child.take()
                    {
                        self.end_ours(started, pid)?;
                        by_itself = true;
                        first = None;
                        last_seen = None;
                    }
                }
                (Ok(up), Some(sight)) if !sight.is_of(&up) => {
                    if Instant::now() >= deadline {
                        return Err(failed(self.not_settled("no process"), last_seen));
                    }
                    *sight = FirstSight::of(&up);
                    last_seen = Some(Box::new(up.last_seen));
                }
                (Ok(up), Some(sight)) if sight.at.elapsed() >= self.limits.settle => {
                    return Ok(Up { by_itself, ..up });
                }
                // what it has forked by now is known for its own if it is left behind
                (Ok(up), Some(sight)) => {
                    sight.looks += 1;
                    last_seen = Some(Box::new(up.last_seen));
                }
                (Ok(up), None) => {
                    let sight = FirstSight::of(&up);
                    if self.limits.settle.is_zero() && !sight.forked {
                        return Ok(Up { by_itself, ..up });
                    }
                    last_seen = Some(Box::new(up.last_seen));
                    first = Some(sight);
                    pause = FIRST_PAUSE;
                }
                (Err(_), Some(sight)) if child.is_none() && sight.was_only_a_fork() => {
                    first = None;
                    last_seen = None;
                }
                (Err(why), Some(_)) => {
                    return Err(failed(self.not_settled(&why), last_seen));
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
                (Err(_), None) => {}
            }
            std::thread::sleep(pause);
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }

    fn not_settled(&self, why: &str) -> String {
        let limit = clock::rough(self.limits.settle);
        format!("came up, but not for {limit}: {why}")
    }

    /// Ends what was started, since something else has started the service as well.
    fn end_ours(&self, started: &mut StartedChild, other: i32) -> Result<(), Failure> {
        match abandon(started, self.limits) {
            Ok(ended) => {
                ::log::warn!(
                    "{}: PID {other} was started by something else as well{}",
                    self.service,
                    ended.unwrap_or_default()
                );
                Ok(())
            }
            Err(why) => Err(Failure::from(why.trim_start_matches("; ").to_owned())),
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
                    container: None,
                    by_itself: false,
                    pending: None,
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
            ProcessStatus::Running(running)
                if running.all.iter().any(|it| self.old.contains(it)) =>
            {
                Err(format!("PID {} is no new process", running.main.pid))
            }
            ProcessStatus::Running(running) if worst(&seen.findings) < Some(Severity::Critical) => {
                Ok(Up {
                    running: Some(running),
                    last_seen: seen.last_seen,
                    unit: None,
                    container: None,
                    by_itself: false,
                    pending: None,
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

/// A process as it was first seen up.
struct FirstSight {
    at: Instant,
    main: Option<Identity>,
    /// It was a fork that has not become another program: perhaps on its way to become one.
    forked: bool,
    looks: u32,
}

impl FirstSight {
    fn of(up: &Up) -> Self {
        let main = up.running.as_ref().map(|running| running.main.clone());
        Self {
            at: Instant::now(),
            forked: main
                .as_ref()
                .is_some_and(|main| process_table::stat(main.pid).is_ok_and(|stat| stat.forked)),
            main,
            looks: 1,
        }
    }

    fn is_of(&self, up: &Up) -> bool {
        self.main.as_ref() == up.running.as_ref().map(|running| &running.main)
    }

    /// A fork has the command line of its program until it executes another. One that has done so since, or was seen
    /// only once, never was the service.
    fn was_only_a_fork(&self) -> bool {
        let Some(main) = self.main.as_ref().filter(|_| self.forked) else {
            return false;
        };
        match process_table::stat(main.pid) {
            Ok(stat) if stat.start == main.start => !stat.forked,
            _ => self.looks == 1,
        }
    }
}

/// A service without a rule is what was started.
fn child_is_up(child: &StartedChild, now: &Reading) -> Result<Up, String> {
    if !now.knows_boot() {
        return Err("the id of this boot cannot be read".to_owned());
    }
    let pid = child.pid();
    let seen = process::look_at(pid, &process::LastSeen::default(), now);
    match seen.map(|seen| (seen.process_status, seen.last_seen)) {
        Some((ProcessStatus::Running(running), last_seen)) => Ok(Up {
            running: Some(Running {
                age: Duration::ZERO,
                ..running
            }),
            last_seen,
            unit: None,
            container: None,
            by_itself: false,
            pending: None,
        }),
        _ => Err(format!("PID {pid} cannot be seen")),
    }
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
