//! Stopping: the asked-for signal, then KILL, and never a signal to anybody else.
//!
//! Every process is reached through a pidfd that was checked against its remembered start time after it was
//! opened. From then on the handle is that process, whatever happens to its number.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::Limits;
use crate::check::process::{Identity, Running};
use crate::clock;
use crate::sys::PidFd;
use crate::world::{self, State};

/// How long a killed process may take to be gone. Only one in uninterruptible sleep takes longer.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// How often what is left of a group is looked at.
const POLL: Duration = Duration::from_millis(20);

/// A process on hold by its handle.
struct Held {
    identity: Identity,
    handle: PidFd,
    leads: bool,
}

/// Stops all that runs of a service. `leftovers` are members of the group of a main process that has ended.
///
/// The error is a sentence that says what still lives, or why it may not be signalled; nothing may be started
/// then.
pub fn stop(
    running: Option<&Running>,
    leftovers: &[Identity],
    limits: &Limits,
) -> Result<(), String> {
    if let Some(running) = running
        && let Some(path) = &running.named_by
        && let Some(why) = distrust(path, running.uid)
    {
        return Err(why);
    }
    let own_group = nix::unistd::getpgrp().as_raw();
    let mut held = Vec::new();
    for identity in running
        .iter()
        .flat_map(|running| &running.all)
        .chain(leftovers)
    {
        if let Some(process) =
            hold(identity, own_group).map_err(|error| cannot("look at", identity.pid, &error))?
        {
            held.push(process);
        }
    }
    if held.is_empty() {
        return Ok(());
    }
    signal_all(&held, limits.stop_signal)?;
    // one that is frozen would take the signal only when it is thawed
    if !matches!(limits.stop_signal, Signal::SIGKILL) {
        signal_all(&held, Signal::SIGCONT)?;
    }
    if gone(&held, limits.stop_timeout) {
        return Ok(());
    }
    ::log::warn!(
        "PID {} did not end within {} of {}: killing it",
        held[0].identity.pid,
        clock::rough(limits.stop_timeout),
        limits.stop_signal
    );
    signal_all(&held, Signal::SIGKILL)?;
    kill_groups(&held);
    if gone(&held, KILL_WAIT) {
        return Ok(());
    }
    let living = living(&held).map_err(|error| {
        format!(
            "whether all of it has ended cannot be seen: {error}; nothing was started beside it"
        )
    })?;
    let pids: Vec<String> = living.iter().map(i32::to_string).collect();
    Err(format!(
        "PID {} still lives after KILL (in uninterruptible sleep, perhaps on a dead disk or network share); \
         nothing was started beside it",
        pids.join(", ")
    ))
}

fn cannot(what: &str, pid: i32, error: &io::Error) -> String {
    format!("cannot {what} PID {pid}: {error}")
}

/// Opens a process and makes sure that it is the one that was seen.
fn hold(identity: &Identity, own_group: i32) -> io::Result<Option<Held>> {
    let Some(handle) = PidFd::open(identity.pid)? else {
        return Ok(None);
    };
    // read after the handle was opened: if this is the process that was seen, so is the handle
    match world::stat(identity.pid) {
        Err(error) if !world::is_gone(&error) => Err(error),
        Ok(stat) if stat.start == identity.start && stat.state != State::Zombie => Ok(Some(Held {
            // a signal to its own group would end the watchdog half-way
            leads: stat.group == identity.pid && stat.group != own_group,
            identity: identity.clone(),
            handle,
        })),
        _ => Ok(None),
    }
}

fn signal_all(held: &[Held], signal: Signal) -> Result<(), String> {
    for process in held {
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

/// Kills what is left of the groups whose leaders have ended. While any of them lives, the group's number is
/// taken, so none of them can be a stranger.
fn kill_groups(held: &[Held]) {
    for leader in held.iter().filter(|process| process.leads) {
        for (pid, seen) in world::group_members(leader.identity.pid).unwrap_or_default() {
            if let Ok(Some(handle)) = PidFd::open(pid)
                && world::stat(pid)
                    .is_ok_and(|stat| stat.start == seen.start && stat.group == seen.group)
            {
                let _ = handle.signal(Signal::SIGKILL);
            }
        }
    }
}

/// Waits until all of them, and the groups that they led, are gone.
fn gone(held: &[Held], limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    for process in held {
        let left = deadline.saturating_duration_since(Instant::now());
        if !process.handle.has_ended(left).unwrap_or(false) {
            return false;
        }
    }
    loop {
        if living(held).is_ok_and(|living| living.is_empty()) {
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
fn living(held: &[Held]) -> io::Result<BTreeSet<i32>> {
    let mut pids: BTreeSet<i32> = held
        .iter()
        .filter(|process| !process.handle.has_ended(Duration::ZERO).unwrap_or(false))
        .map(|process| process.identity.pid)
        .collect();
    for leader in held.iter().filter(|process| process.leads) {
        // a new process that got the number of a group that has died out is none of ours
        let taken_over =
            world::stat(leader.identity.pid).is_ok_and(|stat| stat.start != leader.identity.start);
        if !taken_over {
            let members = world::group_members(leader.identity.pid)?;
            pids.extend(members.into_iter().map(|(pid, _)| pid));
        }
    }
    Ok(pids)
}

/// Why root must not signal a process on the word of a PID file: others than root can write the file, and the
/// process is not theirs.
fn distrust(pid_file: &Path, uid: Option<u32>) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let writers = writers(pid_file);
    let uid_shown = uid.map_or_else(|| "unknown".to_owned(), |uid| uid.to_string());
    let shown = pid_file.display();
    match writers {
        Writers::RootAlone => None,
        Writers::Users(users) if uid.is_some_and(|uid| users.contains(&uid)) => None,
        Writers::Users(users) => {
            let users: Vec<String> = users.iter().map(u32::to_string).collect();
            Some(format!(
                "PID file {shown} can be written by UID {}, but names a process of UID {uid_shown}: not signalled",
                users.join(", ")
            ))
        }
        Writers::Everybody => Some(format!(
            "PID file {shown} can be written by everybody: the process that it names was not signalled; \
             chmod o-w it and its folders"
        )),
    }
}

/// Whether nobody but root can decide what a path means.
pub fn only_root_writes(path: &Path) -> bool {
    writers(path) == Writers::RootAlone
}

/// Who beside root can decide what a path holds.
#[derive(Debug, PartialEq, Eq)]
enum Writers {
    RootAlone,
    Users(BTreeSet<u32>),
    Everybody,
}

fn writers(path: &Path) -> Writers {
    let mut users = BTreeSet::new();
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    for (depth, place) in real.ancestors().enumerate() {
        let Ok(meta) = fs::symlink_metadata(place) else {
            continue;
        };
        if meta.uid() != 0 {
            users.insert(meta.uid());
        }
        // in a sticky folder, only the owner of a file can replace it
        let sticky = depth > 0 && meta.mode() & 0o1000 != 0;
        if meta.mode() & 0o002 != 0 && !sticky {
            return Writers::Everybody;
        }
    }
    if users.is_empty() {
        Writers::RootAlone
    } else {
        Writers::Users(users)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    fn limits() -> Limits {
        Limits {
            stop_signal: Signal::SIGTERM,
            stop_timeout: Duration::from_millis(300),
            start_timeout: Duration::from_secs(5),
            settle: Duration::ZERO,
        }
    }

    fn identity(pid: u32) -> Identity {
        let pid = i32::try_from(pid).unwrap();
        Identity {
            pid,
            start: world::stat(pid).unwrap().start,
            boot_id: String::new(),
        }
    }

    fn running(main: Identity) -> Running {
        Running {
            all: vec![main.clone()],
            main,
            uid: None,
            age: Duration::ZERO,
            named_by: None,
        }
    }

    #[test]
    fn f01_a_process_with_another_start_time_is_never_signalled() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let mut wrong = identity(child.id());
        wrong.start += 1;
        stop(Some(&running(wrong)), &[], &limits()).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        stop(Some(&running(identity(child.id()))), &[], &limits()).unwrap();
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
        stop(Some(&running(identity(child.id()))), &[], &limits()).unwrap();
        child.wait().unwrap();
        assert!(
            hold(&inner, 0).unwrap().is_none(),
            "the child of the group lives"
        );
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
        while world::stat(it.pid).unwrap().state != State::Stopped {
            assert!(Instant::now() < deadline);
            std::thread::sleep(POLL);
        }
        let patient = Limits {
            stop_timeout: Duration::from_secs(30),
            ..limits()
        };
        stop(Some(&running(it)), &[], &patient).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
    }

    #[test]
    fn whoever_can_write_the_file_or_its_folder_counts() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        fs::write(&file, "1").unwrap();
        assert_eq!(writers(&file), Writers::RootAlone);
        std::os::unix::fs::chown(&file, Some(4242), None).unwrap();
        assert_eq!(writers(&file), Writers::Users(BTreeSet::from([4242])));
        assert!(distrust(&file, Some(0)).is_some());
        assert!(distrust(&file, Some(4242)).is_none());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(writers(&file), Writers::Everybody);
        assert!(distrust(&file, Some(4242)).is_some());
    }
}
