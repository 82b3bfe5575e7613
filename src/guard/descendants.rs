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
    let own = nix::unistd::getpgrp().as_raw();
    let listed: BTreeSet<i32> = all.iter().map(|process| process.pid).collect();
    let mut ended = BTreeSet::from([0, 1, own]);
    for process in all {
        // held until the signal is sent: its number may be another's by now, and so its group
        let Ok(Some(handle)) = PidFd::open(process.pid) else {
            continue;
        };
        let group = group_below(*process, &listed).filter(|group| !ended.contains(group));
        let Some(group) = group else { continue };
        // what was read was of the process that is held: it has its number still
        if handle.has_ended(Duration::ZERO).is_ok_and(|ended| !ended) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            ended.insert(group);
        }
    }
}

/// The group of a process, where the process is still the one that was listed: its parent is, or it has become this
/// process's child, and whoever leads its session is listed as well, is this process, or is gone. While a session lasts, no
/// other process gets the number of its leader.
fn group_below(process: Below, listed: &BTreeSet<i32>) -> Option<i32> {
    let stat = process_table::stat(process.pid).ok()?;
    let me = me();
    let is_same = [process.parent, me].contains(&stat.parent);
    let leader = stat.session;
    let is_below = leader == me || listed.contains(&leader) || process_table::stat(leader).is_err();
    (is_same && is_below).then_some(stat.group)
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::sys::spawn_in_session;

    #[test]
    fn a_group_is_killed_only_by_a_process_that_is_still_below() {
        let mut command = Command::new("sh");
        command
            .args(["-c", "cat; true"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut shell = spawn_in_session(command).unwrap();
        let leader = i32::try_from(shell.id()).unwrap();
        let mut input = shell.stdin.take().unwrap();
        let mut output = BufReader::new(shell.stdout.take().unwrap());
        let mut answers = || {
            let mut line = String::new();
            let asked = input.write_all(b"x\n").is_ok();
            asked && output.read_line(&mut line).is_ok() && line == "x\n"
        };
        assert!(answers());
        let pid = children_of_threads(leader).unwrap()[0];
        let below = |pid, parent| Below { pid, parent };
        // its number is another's, whose parent is another one
        let listed = BTreeSet::from([leader, pid]);
        assert_eq!(group_below(below(pid, leader), &listed), Some(leader));
        assert_eq!(group_below(below(pid, i32::MAX), &listed), None);
        // it is in the session of somebody else, who lives
        end_groups(&[below(pid, leader)]);
        assert!(answers());
        end_groups(&[below(leader, me()), below(pid, leader)]);
        assert!(!answers());
        assert!(!shell.wait().unwrap().success());
    }
}
