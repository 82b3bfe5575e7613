//! The process that a PID file names, where it is the service's own.

use std::path::Path;

use super::by_command_line::{role_for, what_it_does};
use super::{BOOT_SLACK, QUOTED, REREAD_AFTER, Search, user_name};
use crate::check::process::host::Role;
use crate::check::process::pid_file::{PidFile, is_fresh};
use crate::check::process::{Rule, Started};
use crate::process_table::{Lookup, Process, ProcessState};
use crate::text::printable;

impl Search<'_> {
    /// What a PID file names, read a second time where it may be in the middle of being written.
    pub(super) fn named(
        &self,
        path: &Path,
        rule: &Rule,
        uid: Option<u32>,
        started: Option<Started<'_>>,
    ) -> Named {
        let first = self.named_now(path, rule, uid, started);
        match first {
            Named::Not(_) if is_fresh(path, self.now) => {
                std::thread::sleep(REREAD_AFTER);
                self.named_now(path, rule, uid, started)
            }
            named => named,
        }
    }

    pub(super) fn named_now(
        &self,
        path: &Path,
        rule: &Rule,
        uid: Option<u32>,
        started: Option<Started<'_>>,
    ) -> Named {
        // the usual: the file was not touched, and the process that it named still runs
        if let Some(mark) = &self.last_seen.pid_file
            && mark.named.boot_id == self.now.boot_id
            && let Some(file) = PidFile::unchanged(path, mark)
            && let Named::Own(process, file) = self.named_by(file, rule, uid, started)
            && process.start == mark.named.start
        {
            return Named::Own(process, file);
        }
        let shown = &rule.shown;
        match PidFile::read(path) {
            Ok(Some(file)) => self.named_by(file, rule, uid, started),
            Ok(None) => Named::Not(format!("there is no PID file {shown}")),
            Err(error) => Named::Unreadable(format!("PID file {shown} cannot be read: {error}")),
        }
    }

    pub(super) fn named_by(
        &self,
        file: PidFile,
        rule: &Rule,
        uid: Option<u32>,
        started: Option<Started<'_>>,
    ) -> Named {
        let shown = &rule.shown;
        let Some(pid) = file.pid else {
            return Named::Not(format!("PID file {shown} {}", file.why_nothing));
        };
        if pid == self.table.me() {
            return Named::Not(format!("PID file {shown} names the watchdog itself"));
        }
        let process = match self.process(pid, uid) {
            Lookup::Found(process) => process,
            Lookup::Gone => {
                return Named::Not(format!(
                    "PID file {shown} names PID {pid}, which does not run"
                ));
            }
            Lookup::Thread(leader) => {
                return Named::Not(format!(
                    "PID file {shown} names {pid}, a thread of PID {leader}, not a process"
                ));
            }
            Lookup::Hidden(why) => {
                return Named::Unreadable(format!("PID file {shown} names PID {pid}, but {why}"));
            }
        };
        if process.state == ProcessState::Zombie {
            return Named::Zombie(pid);
        }
        if let Some(uid) = uid.filter(|&uid| process.uid != Some(uid)) {
            return Named::Not(format!(
                "PID file {shown} names PID {pid}, a process of user {}, not {}",
                process.uid.map_or_else(|| "?".to_owned(), user_name),
                user_name(uid),
            ));
        }
        let pattern = rule.command_line.as_ref();
        if process.kernel || pattern.is_some_and(|pattern| !pattern.matches(&process.command)) {
            return Named::Not(format!(
                "PID file {shown} names PID {pid}, which is another program: `{}`",
                printable(&process.command, QUOTED)
            ));
        }
        if let Some(pattern) = pattern
            && let stranger = role_for(pattern, &process, started)
            && stranger != Role::Itself
        {
            return Named::Not(format!(
                "PID file {shown} names PID {pid}, which {}",
                what_it_does(&process, stranger)
            ));
        }
        match self.recycled(&file, &process, rule.command_line.is_some(), started) {
            Some(why) => Named::Not(format!("PID file {shown} {why}")),
            None => Named::Own(process, file),
        }
    }

    /// Why the process behind a PID is not the one that the file was written for.
    pub(super) fn recycled(
        &self,
        file: &PidFile,
        process: &Process,
        command_line_matches: bool,
        started: Option<Started<'_>>,
    ) -> Option<String> {
        let pid = process.pid;
        let is_its_command =
            || started.is_some_and(|started| self.runs_command_of(process.pid, started));
        if let Some(mark) = self
            .last_seen
            .pid_file
            .as_ref()
            .filter(|mark| file.is_same(mark))
        {
            if mark.named.boot_id == self.now.boot_id {
                let reused = mark.named.pid == pid && mark.named.start != process.start;
                return reused.then(|| {
                    format!("names PID {pid}, which another process has got since (it was reused)")
                });
            }
            return (!command_line_matches && !is_its_command()).then(|| {
                format!("names PID {pid} of before the last boot; another process has it now")
            });
        }
        let identity = self.identity(process);
        let known = [&self.last_seen.main, &self.last_seen.started];
        if command_line_matches || known.into_iter().flatten().any(|it| *it == identity) {
            return None;
        }
        let slack = chrono::TimeDelta::from_std(BOOT_SLACK).unwrap_or_default();
        // what is in memory does not survive a boot, whatever its time: a board without a battery clock boots
        // in the past and jumps ahead when it finds the network
        let outlived = self.now.booted_at() - file.modified_at() > slack && !file.is_in_memory();
        (outlived && !is_its_command())
            .then(|| format!("is older than the last boot; PID {pid} is another process"))
    }
}

/// What a PID file came to.
pub(super) enum Named {
    Own(Process, PidFile),
    Zombie(i32),
    Not(String),
    Unreadable(String),
}
