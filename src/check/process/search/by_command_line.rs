//! Processes that a pattern matches: which of them are the service, and which only host or quote it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{MATCHES_LIMIT, QUOTED, Search, user_name};
use crate::check::Severity;
use crate::check::pattern::Pattern;
use crate::check::process::host::{Role, is_wrapper, role};
use crate::check::process::own_command::OwnCommand;
use crate::check::process::{Started, TOO_MANY};
use crate::process_table::{Lookup, Process, ProcessState, ProcessTable};
use crate::text::printable;

impl Search<'_> {
    /// All processes that a pattern matches and that may be the service's, and what was found beside them.
    pub(super) fn matching(
        &self,
        pattern: &Pattern,
        uid: Option<u32>,
        at_hand: Option<&Process>,
        started: Option<Started<'_>>,
    ) -> (Vec<Process>, Missed) {
        let at_hand_or_anew = |pid: i32| match at_hand.filter(|named| named.pid == pid) {
            Some(named) => Lookup::Found(named.clone()),
            None => self.process(pid, uid),
        };
        let hosts = RefCell::new(Vec::new());
        let matches = self.table.with_command(
            &pattern.needles(),
            MATCHES_LIMIT,
            at_hand_or_anew,
            |command| pattern.matches(command),
            |process| {
                // the PID file answers for its own
                if at_hand.is_some_and(|named| named.pid == process.pid) {
                    return true;
                }
                if uid.is_some_and(|uid| process.uid != Some(uid)) || !self.eligible(process) {
                    return false;
                }
                let role = role_for(pattern, process, started);
                if role != Role::Itself {
                    hosts.borrow_mut().push((process.clone(), role));
                }
                role == Role::Itself
            },
        );
        let (mut found, mut hosts) = (matches.found, hosts.into_inner());
        if !hosts.is_empty() {
            self.leave_out_wrappers_of(&mut hosts, &mut found, started);
        }
        let unread = matches.unread;
        (found, Missed { unread, hosts })
    }

    /// Moves those wrappers to the hosts that have nothing below them but hosts.
    pub(super) fn leave_out_wrappers_of(
        &self,
        hosts: &mut Vec<(Process, Role)>,
        found: &mut Vec<Process>,
        started: Option<Started<'_>>,
    ) {
        let above = |processes: &mut dyn Iterator<Item = i32>| -> BTreeSet<i32> {
            processes
                .flat_map(|pid| ancestors(pid, self.table))
                .collect()
        };
        let above_hosts = above(&mut hosts.iter().map(|(host, _)| host.pid));
        let above_others = above(
            &mut found
                .iter()
                .filter(|process| !is_wrapper(process))
                .map(|process| process.pid),
        );
        let wraps_a_host = |process: &mut Process| {
            is_wrapper(process)
                && above_hosts.contains(&process.pid)
                && !above_others.contains(&process.pid)
                && !is_own_command(process, started)
        };
        let client = Role::Host {
            is_multiplexer: false,
        };
        let wrappers = found.extract_if(.., wraps_a_host);
        hosts.extend(wrappers.map(|process| (process, client)));
    }

    /// Never the watchdog, what started it, a kernel thread, a zombie, what lives in a container, or a probe of this run.
    pub(super) fn eligible(&self, process: &Process) -> bool {
        !process.kernel
            && process.state != ProcessState::Zombie
            && !self.table.is_lineage(process.pid)
            && !self.table.is_this_program(process.pid)
            && !self.table.is_in_other_namespace(process.pid)
            && !self.table.is_of_a_probe(process)
    }

    /// The processes of one main process's tree among all that match; others are told as too many.
    pub(super) fn with_family(&mut self, main: &Process, matches: &[Process]) -> Vec<Process> {
        let strangers: Vec<i32> = roots(matches, self.table)
            .iter()
            .map(|root| root.pid)
            .filter(|&pid| pid != main.pid && !related(pid, main.pid, self.table))
            .collect();
        if !strangers.is_empty() {
            let mut pids: Vec<String> = strangers.iter().take(10).map(i32::to_string).collect();
            if strangers.len() > pids.len() {
                pids.push(format!("{} more", strangers.len() - pids.len()));
            }
            self.found(
                TOO_MANY,
                Severity::Warning,
                format!(
                    "{} unrelated processes match the command line: PID {} and {}",
                    strangers.len() + 1,
                    main.pid,
                    pids.join(", ")
                ),
            );
        }
        let mut all = vec![main.clone()];
        all.extend(
            matches
                .iter()
                .filter(|process| process.pid != main.pid)
                .cloned(),
        );
        all
    }
}

/// What a search for command lines did not give, and why.
#[derive(Default)]
pub(super) struct Missed {
    /// Why a process that matches may be missing.
    pub(super) unread: Option<String>,
    /// Those that have the command in their arguments and are not the service.
    pub(super) hosts: Vec<(Process, Role)>,
}

/// What a process that a pattern matches is to a service: the very command that it is started with is its own, but for
/// the server of a multiplexer, which goes by the command of the first program that it serves.
pub(super) fn role_for(pattern: &Pattern, process: &Process, started: Option<Started<'_>>) -> Role {
    let role = role(pattern, process);
    let may_be_own = match role {
        Role::Itself => false,
        Role::Host { is_multiplexer } => !is_multiplexer,
        Role::Quotes => true,
    };
    if may_be_own && is_own_command(process, started) {
        Role::Itself
    } else {
        role
    }
}

/// Whether a process has the arguments that the service is started with.
pub(super) fn is_own_command(process: &Process, started: Option<Started<'_>>) -> bool {
    started.is_some_and(|started| {
        match OwnCommand::of(started) {
            Ok(command) => command.is_run_by(process),
            // its words are known all the same
            Err(_) => process.command == started.command.join(" ").as_bytes(),
        }
    })
}

/// What a process does that is not the service, and has its command in its arguments.
pub(super) fn what_it_does(process: &Process, role: Role) -> String {
    let command = printable(&process.command, QUOTED);
    match role {
        Role::Quotes => format!("only has the command in one of its arguments: `{command}`"),
        Role::Host { .. } | Role::Itself => format!("only hosts the command: `{command}`"),
    }
}

/// That no process matches, and who has the command in its arguments all the same.
pub(in super::super) fn none_matches(
    pattern: &Pattern,
    uid: Option<u32>,
    hosts: &[(Process, Role)],
) -> String {
    let of_user = uid.map(|uid| format!(" of user {}", user_name(uid)));
    let mut text = format!(
        "no process{} matches `{}`",
        of_user.unwrap_or_default(),
        pattern.source()
    );
    if let Some((host, role)) = hosts.first() {
        let what = what_it_does(host, *role);
        let _ = write!(text, " (PID {} does not count: it {what})", host.pid);
    }
    text
}

/// The processes that no other of them descends to: a parent and its children count as one.
pub(super) fn roots<'a>(processes: &'a [Process], table: &ProcessTable) -> Vec<&'a Process> {
    // the usual, and nobody need be asked for its parents
    if processes.len() < 2 {
        return processes.iter().collect();
    }
    let pids: BTreeSet<i32> = processes.iter().map(|process| process.pid).collect();
    processes
        .iter()
        .filter(|process| !ancestors(process.pid, table).any(|pid| pids.contains(&pid)))
        .collect()
}

pub(super) fn related(one: i32, other: i32, table: &ProcessTable) -> bool {
    ancestors(one, table).any(|pid| pid == other) || ancestors(other, table).any(|pid| pid == one)
}

/// The ancestors of a process, nearest first, and no more of them than a tree can have.
pub(super) fn ancestors(pid: i32, table: &ProcessTable) -> impl Iterator<Item = i32> {
    let parent = move |pid: &i32| table.parent(*pid).filter(|&parent| parent > 0);
    std::iter::successors(parent(&pid), parent).take(256)
}

pub(super) fn eldest(processes: &[&Process]) -> Option<Process> {
    processes
        .iter()
        .min_by_key(|process| (process.start, process.pid))
        .map(|&process| process.clone())
}
