//! What the watchdog itself starts: known by what was started last, or by the very command.

use std::fs;
use std::io;

use super::by_command_line::{eldest, is_own_command, roots};
use super::{Born, MATCHES_LIMIT, Outcome, Search};
use crate::check::process::own_command::OwnCommand;
use crate::check::process::{Identity, Started, Target, resolve_user};
use crate::process_table;
use crate::process_table::{Lookup, Process, ProcessState};

impl Search<'_> {
    /// A service that is known by what the watchdog started.
    pub(in super::super) fn by_start(
        &mut self,
        started: Started<'_>,
        target: &Target<'_>,
    ) -> Outcome {
        let last_seen = self.last_seen;
        let known = [&last_seen.main, &last_seen.started, &last_seen.wrapper];
        let known = known.map(Option::as_ref);
        if let Some(main) = known.into_iter().find_map(|it| self.living(it, None)) {
            return Outcome::alone(main);
        }
        let of_this_boot = |it: &&Identity| it.boot_id == self.now.boot_id;
        let known = known.into_iter().flatten().find(of_this_boot);
        // nothing is remembered, as the state is new or lost; or what is remembered is the one that a run was about
        // to replace when it was cut short. What was started then may still run
        if known.is_none() || target.may_have_started {
            let left = self.left_behind().map(|(left, _)| left);
            let left = left.unwrap_or_default();
            match self.with_command_of(started, Born::Except(&left)) {
                Ok(Some(main)) => {
                    return Outcome::alone(main);
                }
                Ok(None) => {}
                Err(why) => return Outcome::Unseen(why),
            }
        }
        if let Some(main) = self.with_own_command(target) {
            return Outcome::alone(main);
        }
        let Some(known) = known else {
            return Outcome::Absent(
                "it has not been started yet, or not since the last boot".to_owned(),
            );
        };
        match self.table.process(known.pid) {
            Lookup::Found(process) if process.start == known.start => Outcome::Zombie(known.pid),
            Lookup::Hidden(why) => Outcome::Unseen(why),
            _ => Outcome::Absent(format!(
                "PID {}, which ran at the last check, has ended",
                known.pid
            )),
        }
    }

    /// A process that an earlier run knew, if it lives.
    pub(in super::super) fn living(
        &self,
        known: Option<&Identity>,
        uid: Option<u32>,
    ) -> Option<Process> {
        let known = known.filter(|known| known.boot_id == self.now.boot_id)?;
        match self.process(known.pid, uid) {
            Lookup::Found(process)
                if process.start == known.start
                    && process.state != ProcessState::Zombie
                    && uid.is_none_or(|uid| process.uid == Some(uid)) =>
            {
                Some(process)
            }
            _ => None,
        }
    }

    /// What runs the very command of the service, where nothing else was found: somebody has started it by hand. One that
    /// may have been missed is no reason to wait: this is a second look.
    pub(super) fn with_own_command(&self, target: &Target<'_>) -> Option<Process> {
        let started = target.started.filter(|_| target.by_command)?;
        self.with_command_of(started, Born::SinceLastSight).ok()?
    }

    /// Whether a process is known to be another service's.
    pub(super) fn is_anothers(&self, process: &Process) -> bool {
        let identity = self.identity(process);
        let last_seen = self.last_seen;
        let own = [&last_seen.main, &last_seen.started, &last_seen.wrapper];
        self.taken.contains(&identity) && !own.into_iter().flatten().any(|it| *it == identity)
    }

    /// Whether a process may be one that the main process has left behind: it began before that was last seen, or is in its
    /// group. What is older than the main process, or was its parent, is no child of it.
    pub(super) fn may_be_left_behind(&self, process: &Process) -> bool {
        let Some(main) = self
            .last_seen
            .main
            .as_ref()
            .filter(|main| main.boot_id == self.now.boot_id)
        else {
            return false;
        };
        let seen = self
            .last_seen
            .seen_ms
            .saturating_mul(process_table::ticks_per_second())
            / 1000;
        let identity = self.identity(process);
        if process.start < main.start || self.last_seen.family.parent.as_ref() == Some(&identity) {
            return false;
        }
        let is_itself = identity == *main;
        let began_then = process.start == seen && !self.is_surely_apart(process);
        !is_itself && (process.start < seen || began_then || process.group == main.pid)
    }

    /// Whether a process is in another session than the main process was, where that had one of its own. In the clock tick of
    /// the last look, 10 ms, may have begun what was forked just before it, and what somebody started just after.
    fn is_surely_apart(&self, process: &Process) -> bool {
        let Some(own) = self.last_seen.family.session else {
            return false;
        };
        process_table::stat(process.pid)
            .is_ok_and(|stat| stat.start == process.start && stat.session != own)
    }

    /// Whether a process has just the arguments, the directory and the user that the watchdog would start.
    pub(in super::super) fn runs_command_of(&self, pid: i32, started: Started<'_>) -> bool {
        let Lookup::Found(process) = process_table::look_up_whole(pid) else {
            return false;
        };
        let uid = match started.user {
            Some(user) => resolve_user(user).ok(),
            None => Some(nix::unistd::geteuid().as_raw()),
        };
        process.uid == uid
            && is_own_command(&process, Some(started))
            && !self.is_anothers(&process)
            && process_table::working_dir(pid).is_ok_and(|cwd| {
                fs::canonicalize(started.working_dir).is_ok_and(|directory| directory == cwd)
            })
    }

    /// The oldest process with just the arguments, the directory and the user that the watchdog would start. The error is
    /// why one may have been missed.
    pub(in super::super) fn with_command_of(
        &self,
        started: Started<'_>,
        born: Born<'_>,
    ) -> Result<Option<Process>, String> {
        let uid = match started.user {
            Some(user) => resolve_user(user)?,
            None => nix::unistd::geteuid().as_raw(),
        };
        let directory = match fs::canonicalize(started.working_dir) {
            Ok(directory) => directory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(format!(
                    "its working directory {} cannot be looked at: {error}",
                    started.working_dir.display()
                ));
            }
        };
        let command = OwnCommand::of(started).map_err(|error| {
            let program = started.command.first().map_or("", String::as_str);
            format!("its program {program} cannot be looked at: {error}")
        })?;
        let candidates = self.table.with_command(
            &command.needles(),
            MATCHES_LIMIT,
            |pid| self.table.process_with_user(pid),
            |text| command.may_be(text),
            |process| {
                process.uid == Some(uid)
                    && command.is_run_by(process)
                    && self.eligible(process)
                    && match born {
                        Born::Ever => true,
                        Born::Except(left) => !left.contains(&self.identity(process)),
                        Born::SinceLastSight => !self.may_be_left_behind(process),
                    }
                    && process_table::working_dir(process.pid).is_ok_and(|cwd| cwd == directory)
                    && !self.is_anothers(process)
            },
        );
        match (
            eldest(&roots(&candidates.found, self.table)),
            candidates.unread,
        ) {
            (None, Some(unread)) => Err(format!("no process was found, but {unread}")),
            (found, _) => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::process::{Command, Stdio};

    use super::super::super::{Family, LastSeen};
    use super::*;
    use crate::clock::Reading;
    use crate::process_table::ProcessTable;

    #[test]
    fn what_began_in_the_tick_of_the_last_look_is_told_apart_by_its_session() {
        let mut child = Command::new("sleep")
            .arg("61.8")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let stat = process_table::stat(pid).unwrap();
        let table = ProcessTable::on_demand();
        let Lookup::Found(process) = table.process(pid) else {
            panic!("it is there");
        };
        let now = Reading::take();
        let taken = BTreeSet::new();
        let may_be_left_behind = |ticks: i64, session| {
            let tick = stat.start.checked_add_signed(ticks).unwrap();
            let last_seen = LastSeen {
                main: Some(Identity {
                    pid: i32::MAX,
                    start: stat.start - 1,
                    boot_id: now.boot_id.clone(),
                }),
                seen_ms: tick * 1000 / process_table::ticks_per_second(),
                family: Family {
                    session,
                    ..Family::default()
                },
                ..LastSeen::default()
            };
            Search::new(&last_seen, &table, &now, &taken).may_be_left_behind(&process)
        };
        let (own, other) = (Some(stat.session), Some(stat.session + 1));
        let judged = [
            // in a later tick, in an earlier one, and in the very one
            may_be_left_behind(-1, own),
            may_be_left_behind(1, other),
            may_be_left_behind(0, own),
            may_be_left_behind(0, other),
            // where it had no session of its own, nothing tells them apart
            may_be_left_behind(0, None),
        ];
        // it is older than the main process was, or was its parent, and so no child of it
        let main = |start| Identity {
            pid: i32::MAX,
            start,
            boot_id: now.boot_id.clone(),
        };
        let is_left_by = |start, parent| {
            let last_seen = LastSeen {
                main: Some(main(start)),
                seen_ms: u64::MAX,
                family: Family {
                    parent,
                    ..Family::default()
                },
                ..LastSeen::default()
            };
            Search::new(&last_seen, &table, &now, &taken).may_be_left_behind(&process)
        };
        let itself = Identity {
            pid,
            ..main(stat.start)
        };
        let older = [
            is_left_by(stat.start + 1, None),
            is_left_by(stat.start, None),
            is_left_by(stat.start, Some(itself)),
            is_left_by(stat.start, Some(main(stat.start))),
        ];
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(judged, [false, true, true, false, true]);
        assert_eq!(older, [false, true, false, true]);
    }
}
