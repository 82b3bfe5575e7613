//! A main process that has ended while its children go on: who they are, and when they are no longer the service.
//!
//! Workers whose main process is gone may still answer, for a while. They cannot be reloaded, nobody replaces those that
//! end, and they hold the ports that a new main process needs.

use std::collections::BTreeMap;
use std::io;

use super::search::Search;
use super::{Identity, LastSeen, Running};
use crate::clock::Reading;
use crate::process_table::{self, Lookup, Process, ProcessState, Stat};

impl LastSeen {
    /// What is left of a main process that has ended: the children that outlived it, and all in its group and its
    /// session where those were its own.
    ///
    /// The number of a group or a session is given to no other while it has a member. So where one member is older than
    /// the last sight of the main process, all in it are the service's own. A child that leads a session has left on
    /// purpose and is not counted.
    ///
    /// A main process that lives and is not what is `running` of the service leaves nothing behind: it was taken for
    /// the service by another config than this one, and may be a stranger. Of one that is running, only its group counts.
    ///
    /// An error where they cannot be seen: nothing may be started beside them.
    pub fn leftovers(&self, now: &Reading, running: Option<&Running>) -> io::Result<Vec<Identity>> {
        let Some(main) = self
            .main
            .as_ref()
            .filter(|main| main.boot_id == now.boot_id)
        else {
            return Ok(Vec::new());
        };
        let is_reused = process_table::stat(main.pid).is_ok_and(|stat| stat.start != main.start);
        let lives = main.lives(now);
        if lives && running.is_none_or(|running| !running.all.contains(main)) {
            return Ok(Vec::new());
        }
        let family = &self.family;
        let group = match family.group {
            None => (self.leads_group && !is_reused).then_some(main.pid),
            group => group,
        };
        let session = family
            .session
            .filter(|&session| session != main.pid || !is_reused);
        let session = session.filter(|_| !lives);
        let children: &[Identity] = if lives { &[] } else { &family.children };
        if group.is_none() && session.is_none() && children.is_empty() {
            return Ok(Vec::new());
        }
        let all: BTreeMap<i32, Stat> = process_table::living(|_| true)?.into_iter().collect();
        let mut left = BTreeMap::new();
        let seen = self
            .seen_ms
            .saturating_mul(process_table::ticks_per_second())
            / 1000;
        let mut add = |is_in: &dyn Fn(&Stat) -> bool| {
            let members = || all.iter().filter(|(_, stat)| is_in(stat));
            if members().any(|(_, stat)| stat.start <= seen) {
                left.extend(members().map(|(pid, stat)| (*pid, stat.start)));
            }
        };
        if let Some(group) = group {
            add(&|stat| stat.group == group);
        }
        if let Some(session) = session {
            add(&|stat| stat.session == session);
        }
        let has_left = |pid: i32, stat: &Stat| stat.session == pid;
        for child in children {
            if let Some(stat) = all.get(&child.pid).filter(|stat| stat.start == child.start)
                && !has_left(child.pid, stat)
            {
                left.insert(child.pid, child.start);
            }
        }
        // and their own children, and so on
        let mut before = None;
        while !lives && before != Some(left.len()) {
            before = Some(left.len());
            for (pid, stat) in &all {
                if left.contains_key(&stat.parent) && !has_left(*pid, stat) {
                    left.insert(*pid, stat.start);
                }
            }
        }
        let identity = |(pid, start)| Identity {
            pid,
            start,
            boot_id: now.boot_id.clone(),
        };
        Ok(left.into_iter().map(identity).collect())
    }
}

impl Search<'_> {
    /// What the main process that an earlier run knew has left behind, where it has ended, and how to say it.
    pub(super) fn left_behind(&self) -> Option<(Vec<Identity>, String)> {
        let left = self.last_seen.leftovers(self.now, None).ok()?;
        if left.is_empty() {
            return None;
        }
        let mut pids: Vec<String> = left.iter().take(10).map(|it| it.pid.to_string()).collect();
        if left.len() > pids.len() {
            pids.push(format!("{} more", left.len() - pids.len()));
        }
        let shown = format!("left PID {} behind", pids.join(", "));
        Some((left, shown))
    }

    /// Why processes that match the command line are not the service: the main process has ended, and they are its
    /// workers. One that leads a group, or has children that match as well, may have taken its place.
    pub(super) fn only_workers(&self, matches: &[Process], roots: &[&Process]) -> Option<String> {
        let main = self.last_seen.main.as_ref()?;
        if main.boot_id != self.now.boot_id || roots.len() != matches.len() {
            return None;
        }
        if matches
            .iter()
            .any(|process| process.pid == main.pid && process.start == main.start)
        {
            return None;
        }
        match self.table.process(main.pid) {
            Lookup::Found(process)
                if process.start == main.start && process.state != ProcessState::Zombie =>
            {
                return None;
            }
            Lookup::Hidden(_) => return None,
            _ => {}
        }
        if matches.iter().any(|process| process.group == process.pid) {
            return None;
        }
        let (left, shown) = self.left_behind()?;
        let is_left = |process: &Process| left.contains(&self.identity(process));
        matches.iter().all(is_left).then(|| {
            format!(
                "PID {}, the main process at the last check, has ended, and {shown}",
                main.pid
            )
        })
    }
}
