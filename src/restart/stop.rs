//! Stopping: the asked-for signal, then KILL, and never a signal to anybody else.
//!
//! Every process is reached through a pidfd that was checked against its remembered start time after it was
//! opened. From then on the handle is that process, whatever happens to its number.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::Limits;
use crate::check::process::{Identity, Running};
use crate::clock;
use crate::files::{self, Extent, Writers};
use crate::process_table::{self, ProcessState, Stat};
use crate::sys::PidFd;

/// How long a killed process may take to be gone. Only one in uninterruptible sleep takes longer.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// How often what is left of a group is looked at.
const POLL: Duration = Duration::from_millis(20);

/// More ancestors than a process tree has.
const ANCESTORS_LIMIT: usize = 256;

/// More processes than this, members of their groups aside, are not opened at the same time: each takes a descriptor,
/// and other restarts need some too.
pub const OPEN_LIMIT: usize = 128;

/// A process with an open handle.
struct OpenProcess {
    identity: Identity,
    handle: PidFd,
    group: i32,
    leads: bool,
}

/// Stops all that runs of a service. `leftovers` are members of the group of a main process that has ended. `named_by`
/// is the PID file on whose word alone its main process, or the one that has ended, is known; `own` are the process that
/// runs the command of `spawn`, whatever a PID file says, and those below it.
///
/// The error is a sentence that says what still lives, or why it may not be signalled; nothing may be started
/// then.
pub fn stop(
    own: &[Identity],
    running: Option<&Running>,
    leftovers: &[Identity],
    named_by: Option<&Path>,
    limits: &Limits,
) -> Result<(), String> {
    let own_group = nix::unistd::getpgrp().as_raw();
    let lineage = lineage();
    let on_its_word = running
        .map(|running| &running.main)
        .into_iter()
        .chain(leftovers);
    let others = running.iter().flat_map(|running| &running.all);
    let named_by = named_by.filter(|_| nix::unistd::geteuid().is_root());
    let mut opened: Vec<OpenProcess> = Vec::new();
    let (wrapper, below) = own.split_at(own.len().min(1));
    let sure = |it| (it, None);
    let all = (wrapper.iter().map(sure))
        .chain(on_its_word.map(|it| (it, named_by)))
        .chain(others.chain(below).map(sure));
    for (identity, named_by) in all {
        if opened.iter().any(|process| process.identity == *identity) {
            continue;
        }
        let process =
            open(identity, own_group).map_err(|error| cannot("look at", identity.pid, &error))?;
        let Some(process) = process else { continue };
        if lineage.contains(&identity.pid) {
            return Err(format!(
                "PID {} is what runs this watchdog, or has started it: nothing was signalled; a service that runs its own \
                 watchdog cannot be restarted by it",
                identity.pid
            ));
        }
        // asked of the process that is open: it may have become another user's since it was seen
        if let Some(why) = named_by.and_then(|path| untrusted_pid_file(path, identity.pid)) {
            return Err(why);
        }
        // the group gets every signal, and is waited for as a whole
        let in_group = opened
            .iter()
            .any(|leader| leader.leads && leader.identity.pid == process.group);
        if in_group {
            continue;
        }
        if opened.len() == OPEN_LIMIT {
            return Err(format!(
                "more than {OPEN_LIMIT} processes of different groups are taken for it: nothing was signalled; make \
                 `command_line` narrower"
            ));
        }
        opened.push(process);
    }
    if opened.is_empty() {
        return Ok(());
    }
    signal_all(&opened, limits.stop_signal)?;
    // one that is frozen would take the signal only when it is thawed
    if !matches!(limits.stop_signal, Signal::SIGKILL) {
        signal_all(&opened, Signal::SIGCONT)?;
    }
    if gone(&opened, limits.stop_timeout) {
        return Ok(());
    }
    ::log::warn!(
        "PID {} did not end within {} of {}: killing it",
        opened[0].identity.pid,
        clock::rough(limits.stop_timeout),
        limits.stop_signal
    );
    signal_all(&opened, Signal::SIGKILL)?;
    kill_groups(&opened);
    if gone(&opened, KILL_WAIT) {
        return Ok(());
    }
    let living =
        living(&opened).map_err(|error| cannot("look at", opened[0].identity.pid, &error))?;
    let pids: Vec<String> = living.iter().map(i32::to_string).collect();
    Err(format!(
        "PID {} still lives after KILL (in uninterruptible sleep, perhaps on a dead disk or network share); \
         nothing was started beside it",
        pids.join(", ")
    ))
}

/// This process and all that it descends from: a signal to one of them would end the run half-way.
fn lineage() -> BTreeSet<i32> {
    let me = nix::unistd::getpid().as_raw();
    let parent =
        |pid: &i32| Some(process_table::stat(*pid).ok()?.parent).filter(|&parent| parent > 0);
    std::iter::successors(Some(me), parent)
        .take(ANCESTORS_LIMIT)
        .collect()
}

fn cannot(what: &str, pid: i32, error: &io::Error) -> String {
    format!("cannot {what} PID {pid}: {error}")
}

/// Opens a process and makes sure that it is the one that was seen.
fn open(identity: &Identity, own_group: i32) -> io::Result<Option<OpenProcess>> {
    let Some(handle) = PidFd::open(identity.pid)? else {
        return Ok(None);
    };
    // read after the handle was opened: if this is the process that was seen, so is the handle
    match process_table::stat(identity.pid) {
        Err(error) if !process_table::is_gone(&error) => Err(error),
        Ok(stat) if stat.start == identity.start && stat.state != ProcessState::Zombie => {
            Ok(Some(OpenProcess {
                // a signal to its own group would end the watchdog half-way
                leads: stat.group == identity.pid && stat.group != own_group,
                group: stat.group,
                identity: identity.clone(),
                handle,
            }))
        }
        _ => Ok(None),
    }
}

fn signal_all(opened: &[OpenProcess], signal: Signal) -> Result<(), String> {
    for process in opened {
        let pid = process.identity.pid;
        let sent = if process.leads {
            process.handle.signal_group(pid, signal)
        } else {
            process.handle.signal(signal)
        };
        sent.map_err(|error| cannot(&format!("send {signal} to"), pid, &error))?;
    }
    Ok(())
}

/// The members of the group that a process leads, or led while it lived. While any of them lives, the group's number is
/// taken, so none of them can be a stranger; none where the group has died out and a new process has its number.
fn members(leader: &Identity) -> io::Result<Vec<(i32, Stat)>> {
    let members = process_table::group_members(leader.pid)?;
    // asked after they were listed: it may have happened meanwhile
    let taken_over = process_table::stat(leader.pid).is_ok_and(|stat| stat.start != leader.start);
    Ok(if taken_over { Vec::new() } else { members })
}

/// Kills what is left of the groups whose leaders have ended.
fn kill_groups(opened: &[OpenProcess]) {
    for leader in opened.iter().filter(|process| process.leads) {
        for (pid, seen) in members(&leader.identity).unwrap_or_default() {
            if let Ok(Some(handle)) = PidFd::open(pid)
                && process_table::stat(pid)
                    .is_ok_and(|stat| stat.start == seen.start && stat.group == seen.group)
            {
                let _ = handle.signal(Signal::SIGKILL);
            }
        }
    }
}

/// Waits until all of them, and the groups that they led, are gone.
fn gone(opened: &[OpenProcess], limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    for process in opened {
        let left = deadline.saturating_duration_since(Instant::now());
        if !process.handle.has_ended(left).unwrap_or(false) {
            return false;
        }
    }
    loop {
        if living(opened).is_ok_and(|living| living.is_empty()) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

/// What still lives of the processes and of the groups that they led, zombies aside. An error where that cannot be
/// seen.
fn living(opened: &[OpenProcess]) -> io::Result<BTreeSet<i32>> {
    let mut pids: BTreeSet<i32> = opened
        .iter()
        .filter(|process| !process.handle.has_ended(Duration::ZERO).unwrap_or(false))
        .map(|process| process.identity.pid)
        .collect();
    for leader in opened.iter().filter(|process| process.leads) {
        pids.extend(members(&leader.identity)?.into_iter().map(|(pid, _)| pid));
    }
    Ok(pids)
}

/// Why root must not signal a process on the word of a PID file: others than root can write the file, and the
/// process is not theirs.
fn untrusted_pid_file(pid_file: &Path, pid: i32) -> Option<String> {
    let writers = files::writers(pid_file, 0, Extent::Whole);
    if writers.are_none() {
        return None;
    }
    let shown = pid_file.display();
    if writers.everybody {
        return Some(format!(
            "PID file {shown} can be written by everybody: PID {pid}, which it names, was not signalled; chmod o-w it \
             and its directories"
        ));
    }
    let owner = match Owner::of(pid) {
        Ok(owner) => owner,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(cannot("look at", pid, &error)),
    };
    (!owner.is_among(&writers)).then(|| {
        format!(
            "PID file {shown} can be written by {writers}, but names PID {pid}, a process of UID {}: not signalled",
            owner.shown()
        )
    })
}

/// Whose a process is.
struct Owner {
    /// Its real, effective and saved user.
    uids: Vec<u32>,
    /// All of its groups.
    groups: Vec<u32>,
}

impl Owner {
    fn of(pid: i32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let numbers = |name: &str| -> Vec<u32> {
            text.lines()
                .filter_map(|line| line.strip_prefix(name))
                .flat_map(str::split_ascii_whitespace)
                .filter_map(|number| number.parse().ok())
                .collect()
        };
        let uids = numbers("Uid:").into_iter().take(3).collect();
        let groups = [numbers("Gid:"), numbers("Groups:")].concat();
        Ok(Self { uids, groups })
    }

    /// Whether it belongs wholly to one who can write: a process of root that acts for a user for a while does not.
    fn is_among(&self, writers: &Writers) -> bool {
        let Some(uid) = self.uids.first() else {
            return false;
        };
        let wholly = self.uids.len() == 3 && self.uids.iter().all(|other| other == uid);
        let by_group = *uid != 0 && self.groups.iter().any(|gid| writers.groups.contains(gid));
        wholly && (writers.users.contains(uid) || by_group)
    }

    fn shown(&self) -> String {
        let mut uids: Vec<String> = self.uids.iter().map(u32::to_string).collect();
        uids.dedup();
        uids.join("/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    fn limits() -> Limits {
        Limits {
            stop_signal: Signal::SIGTERM,
            stop_timeout: Duration::from_millis(300),
            start_timeout: Duration::from_secs(5),
            settle: Duration::ZERO,
            wait_for: super::super::WaitFor::Probes,
        }
    }

    fn identity(pid: u32) -> Identity {
        let pid = i32::try_from(pid).unwrap();
        Identity {
            pid,
            start: process_table::stat(pid).unwrap().start,
            boot_id: "".into(),
        }
    }

    /// Stops what runs as this process alone.
    fn stop_main(main: Identity, limits: &Limits) -> Result<(), String> {
        stop(&[], Some(&Running::just_started(main)), &[], None, limits)
    }

    #[test]
    fn f01_a_process_with_another_start_time_is_never_signalled() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let mut wrong = identity(child.id());
        wrong.start += 1;
        stop_main(wrong, &limits()).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        stop_main(identity(child.id()), &limits()).unwrap();
        assert!(child.wait().unwrap().code().is_none());
    }

    #[test]
    fn one_that_ignores_the_signal_is_killed_with_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!(
            "trap '' TERM; sleep 60 & echo $! > {}; while :; do sleep 0.1; done",
            file.display()
        );
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .process_group(0)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let inner = loop {
            match fs::read_to_string(&file)
                .ok()
                .and_then(|text| text.trim().parse::<u32>().ok())
            {
                Some(pid) => break identity(pid),
                None => assert!(Instant::now() < deadline),
            }
            std::thread::sleep(POLL);
        };
        stop_main(identity(child.id()), &limits()).unwrap();
        child.wait().unwrap();
        assert!(
            open(&inner, 0).unwrap().is_none(),
            "the child of the group lives"
        );
    }

    #[test]
    fn f01_a_group_whose_number_has_been_given_to_another_is_not_killed() {
        let mut child = Command::new("sh")
            .args(["-c", "read line; exit 7"])
            .stdin(std::process::Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut former = identity(child.id());
        let mut opened = OpenProcess {
            handle: PidFd::open(former.pid).unwrap().unwrap(),
            group: former.pid,
            leads: true,
            identity: former.clone(),
        };
        assert_eq!(members(&former).unwrap().len(), 1);
        former.start -= 1;
        opened.identity = former;
        kill_groups(&[opened]);
        drop(child.stdin.take());
        assert_eq!(child.wait().unwrap().code(), Some(7));
    }

    #[test]
    fn a_frozen_one_ends_by_the_first_signal() {
        let mut child = Command::new("sh")
            .args([
                "-c",
                "trap 'exit 7' TERM; kill -STOP $$; while :; do sleep 0.05; done",
            ])
            .process_group(0)
            .spawn()
            .unwrap();
        let it = identity(child.id());
        let deadline = Instant::now() + Duration::from_secs(20);
        while process_table::stat(it.pid).unwrap().state != ProcessState::Stopped {
            assert!(Instant::now() < deadline);
            std::thread::sleep(POLL);
        }
        let patient = Limits {
            stop_timeout: Duration::from_secs(30),
            ..limits()
        };
        stop_main(it, &patient).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
    }

    #[test]
    fn nobody_stops_what_runs_the_watchdog() {
        let parent = u32::try_from(nix::unistd::getppid().as_raw()).unwrap();
        let why = stop_main(identity(parent), &limits()).unwrap_err();
        assert!(why.contains("has started it"), "{why}");
    }

    #[test]
    fn a_process_is_theirs_who_can_write_its_pid_file_only_if_all_of_it_is() {
        let owner = |uids: [u32; 3], groups: &[u32]| Owner {
            uids: uids.to_vec(),
            groups: groups.to_vec(),
        };
        let writers = Writers {
            users: BTreeSet::from([33]),
            groups: BTreeSet::from([4]),
            everybody: false,
        };
        for (uids, groups, among) in [
            ([33, 33, 33], &[33][..], true),
            ([34, 34, 34], &[34, 4], true),
            ([34, 34, 34], &[34], false),
            ([0, 0, 0], &[0, 4], false),
            // a process of root that acts for a user, and a user's that acts for root
            ([0, 33, 0], &[33, 4], false),
            ([33, 0, 0], &[33], false),
            ([33, 33, 0], &[33], false),
        ] {
            assert_eq!(
                owner(uids, groups).is_among(&writers),
                among,
                "{uids:?} {groups:?}"
            );
        }
        let nobody = Owner {
            uids: Vec::new(),
            groups: vec![4],
        };
        assert!(!nobody.is_among(&writers));
        let me = Owner::of(nix::unistd::getpid().as_raw()).unwrap();
        assert_eq!(me.uids, [nix::unistd::getuid().as_raw(); 3]);
        assert!(me.groups.contains(&nix::unistd::getgid().as_raw()));
    }
}
