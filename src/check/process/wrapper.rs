//! The process that runs the command of `spawn` where that is not the main one: a loop in a script, mostly, that starts the
//! main process again when it ends.
//!
//! The service is known by its main process, by a PID file or a command line. But what was started is the wrapper: while it
//! lives, another one beside it would be a second copy, and so would be what the two of them start.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use super::host;
use super::search::{Outcome, Search, none_matches};
use super::{Identity, LastSeen, Rule, Running, Target, resolve_user};
use crate::clock::{Reading, rough};
use crate::process_table::{self, Lookup, Process, ProcessState, ProcessTable, Stat};

/// More ancestors than a process tree has.
const ANCESTORS_LIMIT: usize = 256;

impl Search<'_> {
    /// The wrapper that is remembered, while it lives.
    pub(super) fn living_wrapper(&self, target: &Target<'_>) -> Option<Process> {
        target.started?;
        self.living(self.last_seen.wrapper.as_ref(), None)
    }

    /// The topmost process above a main process, seen for the first time, that runs the command of `spawn`.
    pub(super) fn wrapper_above(&self, main: &Process, target: &Target<'_>) -> Option<Process> {
        target.rule?;
        let is_known = self.last_seen.main.as_ref() == Some(&self.identity(main));
        if is_known {
            return None;
        }
        self.running_command_above(main.parent, target)
    }

    /// The topmost process that runs the command of `spawn`, from this one upwards. Forks of it have its arguments too.
    fn running_command_above(&self, parent: i32, target: &Target<'_>) -> Option<Process> {
        let started = target.started?;
        let mut topmost = None;
        let mut pid = parent;
        for _ in 0..ANCESTORS_LIMIT {
            if pid <= 0 || process_table::is_init(pid) || self.table.is_lineage(pid) {
                break;
            }
            if self.runs_command_of(pid, started) && !serves_others(pid) {
                topmost = Some(pid);
            }
            let Ok(stat) = process_table::stat(pid) else {
                break;
            };
            pid = stat.parent;
        }
        match self.table.process(topmost?) {
            Lookup::Found(process) if process.state != ProcessState::Zombie => Some(process),
            _ => None,
        }
    }

    /// A wrapper lives, and the main process that an earlier run knew does not. It is given a while to start that again.
    pub(super) fn without_main(
        &mut self,
        wrapper: Process,
        stale: Option<&(String, bool)>,
        rule: &Rule,
        target: &Target<'_>,
    ) -> Outcome {
        let pid = wrapper.pid;
        let uid = rule
            .user
            .as_deref()
            .and_then(|user| resolve_user(user).ok());
        let missing = match (stale, &rule.command_line) {
            (Some((why, _)), _) => why.clone(),
            (None, Some(pattern)) => none_matches(pattern, uid, &[]),
            (None, None) => "no process".to_owned(),
        };
        let alone = self.last_seen.alone_ms.map(|since| {
            let ms = self.now.boot_ms.saturating_sub(since);
            Duration::from_millis(ms)
        });
        if let Some(alone) = alone.filter(|alone| *alone >= target.patience) {
            let time = rough(alone);
            let over = format!(
                "{missing}, and PID {pid}, which had started it, has not started it again for {time}"
            );
            return Outcome::WithoutMain {
                wrapper,
                over: Some(over),
            };
        }
        let but = format!("but PID {pid}, which had started it, runs and may start it again");
        match stale {
            None => self.note(format!("{missing}, {but}")),
            stale => self.told_otherwise(stale, &but),
        }
        Outcome::WithoutMain {
            wrapper,
            over: None,
        }
    }
}

/// Whether a process is the server of a multiplexer, by its name: it may run commands of others as well, so it is no service
/// that is known by something else, and is not stopped with one.
pub fn serves_others(pid: i32) -> bool {
    match process_table::look_up_whole(pid) {
        Lookup::Found(process) => host::is_multiplexer(&process),
        _ => false,
    }
}

/// The wrapper of a service that is to be stopped, and those below it that are not `running` of the service and have not left
/// for a session of their own. One that is not remembered is looked for above the main process. An error where they cannot be
/// seen.
pub fn wrapper_and_below(
    target: &Target<'_>,
    last_seen: &LastSeen,
    running: Option<&Running>,
    now: &Reading,
) -> io::Result<Vec<Identity>> {
    let (table, taken) = (ProcessTable::on_demand(), BTreeSet::new());
    let search = Search::new(last_seen, &table, now, &taken);
    let wrapper = search.living_wrapper(target).or_else(|| {
        let main = &running?.main;
        let stat = process_table::stat(main.pid).ok()?;
        let parent = (stat.start == main.start).then_some(stat.parent)?;
        search.running_command_above(parent, target)
    });
    let Some(wrapper) = wrapper else {
        return Ok(Vec::new());
    };
    let all: BTreeMap<i32, Stat> = process_table::living(|_| true)?.into_iter().collect();
    // what is known to run is stopped with what it has below it as ever
    let running: &[Identity] = running.map_or(&[], |running| &running.all);
    let is_known = |pid: i32, stat: &Stat| {
        let mut known = running.iter();
        known.any(|it| it.pid == pid && it.start == stat.start)
    };
    let mut below = vec![(wrapper.pid, wrapper.start)];
    let mut next = 0;
    while let Some(&(parent, _)) = below.get(next) {
        next += 1;
        let children = all.iter().filter(|(pid, stat)| {
            stat.parent == parent && stat.session != **pid && !is_known(**pid, stat)
        });
        below.extend(children.map(|(pid, stat)| (*pid, stat.start)));
    }
    let identity = |(pid, start)| Identity {
        pid,
        start,
        boot_id: now.boot_id.clone(),
    };
    Ok(below.into_iter().map(identity).collect())
}
