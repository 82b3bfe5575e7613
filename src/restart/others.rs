//! Copies of a service that something else starts: a supervisor, a shell loop, systemd.
//!
//! Two copies are the worst that a restart can leave behind. Whose a process is tells its line of parents, its session and
//! its group: what is started here leads a session of its own.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use crate::check::process::{Identity, Running};
use crate::process_table;

/// For so long another copy must be seen: whatever has the same words in its command line for a moment is none.
const SURE_AFTER: Duration = Duration::from_millis(300);

/// More ancestors than a process tree has.
const ANCESTORS_LIMIT: usize = 256;

/// A copy that something else has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Other {
    /// It was not seen for long enough yet.
    Perhaps,
    /// It is one, with this PID.
    Sure(i32),
}

/// Looks for other copies beside a child that was started.
#[derive(Debug)]
pub(super) struct OtherCopies {
    child: i32,
    cgroup: Option<Vec<u8>>,
    /// The first that was seen, and when.
    first: Option<(Identity, Instant)>,
}

impl OtherCopies {
    /// Beside the child with this PID.
    pub(super) fn beside(child: i32) -> Self {
        Self {
            child,
            cgroup: cgroup(child),
            first: None,
        }
    }

    /// Whether what runs of the service has another copy in it.
    pub(super) fn look(&mut self, running: Option<&Running>) -> Option<Other> {
        let all = running
            .map(|running| running.all.as_slice())
            .unwrap_or_default();
        let mut others = all.iter().filter(|process| self.is_other(process.pid));
        let Some(other) = others.next().cloned() else {
            self.first = None;
            return None;
        };
        match &self.first {
            Some((first, since)) if *first == other => Some(if since.elapsed() >= SURE_AFTER {
                Other::Sure(other.pid)
            } else {
                Other::Perhaps
            }),
            _ => {
                self.first = Some((other, Instant::now()));
                Some(Other::Perhaps)
            }
        }
    }

    /// Whether something else has started a process: it is neither the child nor one of its session or group, and does
    /// not descend from it. One whose parent has ended may be the child's all the same, if it is in the same cgroup.
    fn is_other(&self, pid: i32) -> bool {
        if pid == self.child {
            return false;
        }
        let Ok(stat) = process_table::stat(pid) else {
            return false;
        };
        if stat.session == self.child || stat.group == self.child {
            return false;
        }
        let ancestors = ancestors(pid);
        if ancestors.contains(&self.child) {
            return false;
        }
        if process_table::is_init(stat.parent) {
            return self.cgroup.is_some() && cgroup(pid).is_some() && self.cgroup != cgroup(pid);
        }
        true
    }
}

/// The process that has started the service and may do so again: the parent that its main process had, while it lives.
pub(super) fn keeper(parent: Option<&Identity>) -> Option<&Identity> {
    let me = nix::unistd::getpid().as_raw();
    parent.filter(|parent| {
        parent.pid != me
            && process_table::stat(parent.pid).is_ok_and(|stat| {
                stat.start == parent.start && stat.state == process_table::ProcessState::Alive
            })
    })
}

fn cgroup(pid: i32) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{pid}/cgroup")).ok()
}

fn ancestors(pid: i32) -> BTreeSet<i32> {
    let parent = |pid: &i32| {
        let stat = process_table::stat(*pid).ok()?;
        (stat.parent > 0).then_some(stat.parent)
    };
    std::iter::successors(parent(&pid), parent)
        .take(ANCESTORS_LIMIT)
        .collect()
}
