//! What a guard has below it: found, counted, and ended.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::process_table::{self, children_of_threads};
use crate::sys::PidFd;

/// So many are looked at in one round.
const MOST: usize = 10_000;

/// How long a round waits for what it killed to be gone: at first, and at the most.
const PAUSE: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(20)];

/// What cannot be killed is looked at for so long before it is left behind.
const DENIED: Duration = Duration::from_millis(300);

/// A process below this one, and its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Below {
    pid: i32,
    parent: i32,
}

/// Collects those children that have ended, but `spared`. Whether there is any child left.
pub(super) fn reap(spared: Option<i32>) -> bool {
    let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
    if let Some(spared) = spared {
        for pid in children_of_threads(me()).unwrap_or_default() {
            if pid != spared {
                let _ = waitpid(Pid::from_raw(pid), Some(flags));
            }
        }
        return true;
    }
    loop {
        match waitpid(None, Some(flags)) {
            Ok(WaitStatus::StillAlive) => return true,
            Err(Errno::EINTR) | Ok(_) => {}
            Err(_) => return false,
        }
    }
}

fn me() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// How many processes there are below this one, counted up to `most`.
pub(super) fn count(most: usize) -> usize {
    below(most).len()
}

/// The processes below this one, parents first, `most` at the most.
fn below(most: usize) -> Vec<Below> {
    let mut found: Vec<Below> = Vec::new();
    let mut known = BTreeSet::from([me()]);
    // where the kernel does not tell children, all processes are read once
    let parents = match children_of_threads(me()) {
        Ok(_) => None,
        Err(_) => Some(all_by_parent()),
    };
    let children = |pid: i32| match &parents {
        Some(parents) => parents.get(&pid).cloned().unwrap_or_default(),
        None => children_of_threads(pid).unwrap_or_default(),
    };
    let mut at = 0;
    let mut parent = me();
    loop {
        for pid in children(parent) {
            if found.len() >= most {
                return found;
            }
            if known.insert(pid) {
                found.push(Below { pid, parent });
            }
        }
        match found.get(at) {
            Some(next) => parent = next.pid,
            None => return found,
        }
        at += 1;
    }
}

fn all_by_parent() -> BTreeMap<i32, Vec<i32>> {
    let mut all: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (pid, stat) in process_table::living(|_| true).unwrap_or_default() {
        all.entry(stat.parent).or_default().push(pid);
    }
    all
}

/// Kills a process. A child keeps its number until it is collected here; another one is killed only while its parent is
/// still the one by which it was found, or this process.
fn end(process: Below) -> Result<(), Errno> {
    let me = me();
    if process.parent == me {
        return kill(Pid::from_raw(process.pid), Signal::SIGKILL);
    }
    let Ok(Some(handle)) = PidFd::open(process.pid) else {
        return Ok(());
    };
    let parent = process_table::stat(process.pid).map(|stat| stat.parent);
    if !parent.is_ok_and(|parent| parent == process.parent || parent == me) {
        return Ok(());
    }
    handle.signal(Signal::SIGKILL).map_err(|error| {
        let number = error.raw_os_error().unwrap_or_default();
        Errno::from_raw(number)
    })
}

/// Kills the groups that processes are in. Whoever forks faster than they are killed one by one is killed at once with
/// all others of its group. None of these has anybody else in it: the command began with a session of its own.
fn end_groups(all: &[Below]) {
    let own = nix::unistd::getpgrp();
    let groups: BTreeSet<i32> = (all.iter())
        .filter_map(|process| process_table::stat(process.pid).ok())
        .map(|stat| stat.group)
        .filter(|&group| group > 1 && group != own.as_raw())
        .collect();
    for group in groups {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}

/// Ends all that is below this process, within `limit`. Returns what is left: what belongs to another user, what the
/// kernel holds, and what is faster.
pub(super) fn end_all(limit: Duration) -> Vec<i32> {
    let deadline = Instant::now() + limit;
    let [mut pause, longest] = PAUSE;
    let mut denied_since = None;
    loop {
        if !reap(None) {
            return Vec::new();
        }
        let all = below(MOST);
        end_groups(&all);
        let refused = all
            .iter()
            .filter(|process| end(**process) == Err(Errno::EPERM));
        let refused: Vec<i32> = refused.map(|process| process.pid).collect();
        let now = Instant::now();
        denied_since = match denied_since {
            _ if refused.is_empty() || refused.len() < all.len() => None,
            None => Some(now),
            since => since,
        };
        let is_hopeless = denied_since.is_some_and(|since| now.duration_since(since) >= DENIED);
        if is_hopeless || now >= deadline {
            return all.iter().map(|process| process.pid).collect();
        }
        sleep(pause);
        pause = (pause * 2).min(longest);
    }
}
