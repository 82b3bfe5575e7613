//! Containers that the engine says run, and whose main process is not there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::{Answer, Containers, GHOST, LastSeen, Seen, is_process_of};
use crate::check::process::Identity;
use crate::check::{Presence, Severity};
use crate::client::engine::{Details, Engine};
use crate::process_table::{self, ProcessState};

/// Between the two questions: an engine learns of an end within milliseconds.
const BETWEEN: Duration = Duration::from_millis(500);

/// A container whose process is not there, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    id: String,
    pid: i32,
}

/// The PID namespace of this process, by the inode of `/proc/self/ns/pid`; none where it cannot be read.
pub fn own_namespace() -> Option<u64> {
    let namespace = fs::metadata("/proc/self/ns/pid").ok()?;
    Some(namespace.ino())
}

/// Notes in which PID namespace a container's main process was found. Where it was not found in this run, what an earlier
/// one has noted stands.
pub fn note_namespace(seen: &mut Seen, known: Option<&LastSeen>, own: Option<u64>) {
    let Some(last_seen) = &mut seen.last_seen else {
        return;
    };
    let namespace = match seen.presence {
        Presence::Up(Some(_)) => own,
        _ => known
            .filter(|known| known.id == last_seen.id)
            .and_then(|known| known.pid_namespace),
    };
    if last_seen.pid_namespace != namespace {
        Arc::make_mut(last_seen).pid_namespace = namespace;
    }
}

/// The PID by which an earlier run found a container's main process, where that was in the PID namespace of this one. A
/// number of another namespace, or of another boot, says nothing about the processes that are here.
pub fn known_pid(
    id: &str,
    known: Option<&LastSeen>,
    main: Option<&Identity>,
    boot_id: &str,
    own: Option<u64>,
) -> Option<i32> {
    let is_ours = known.is_some_and(|known| {
        known.id == id && known.pid_namespace.is_some() && known.pid_namespace == own
    });
    let main = main.filter(|main| is_ours && *main.boot_id == *boot_id);
    main.map(|main| main.pid)
}

/// Whether the engine says that a container runs whose process is not there. Only where the engine's PIDs are surely those
/// of this PID namespace: another process that it named is its container's, or this very PID was, in an earlier run.
pub fn suspect(answer: &Answer, id: &str, known_pid: Option<i32>) -> Option<Suspect> {
    let Some(Ok(details)) = answer.details(id) else {
        return None;
    };
    let pid = said_to_run(details)?;
    if !is_gone(pid) {
        return None;
    }
    let is_shared = known_pid == Some(pid)
        || !answer.unchanged.is_empty()
        || answer.details.iter().any(|(id, details)| {
            let details = details.as_ref().ok();
            details.is_some_and(|it| is_process_of(it.state.pid, id))
        });
    is_shared.then(|| Suspect {
        id: id.to_owned(),
        pid,
    })
}

/// Asks once more about all of them, a moment later, by the places of their services. What is left are those that are
/// still said to run by the same process, and that is still not there.
pub fn again(
    containers: &Containers,
    suspects: Vec<(usize, Suspect)>,
    run_ends: Instant,
) -> BTreeMap<usize, Suspect> {
    let Ok(path) = containers.path() else {
        return BTreeMap::new();
    };
    if suspects.is_empty() {
        return BTreeMap::new();
    }
    sleep(BETWEEN.min(run_ends.saturating_duration_since(Instant::now())));
    let ids: Vec<&str> = suspects.iter().map(|(_, it)| it.id.as_str()).collect();
    let details = Engine::at(&path).details(&ids, containers.call_limit(), run_ends);
    let again = suspects.into_iter().zip(details);
    let again = again.filter(|((_, suspect), details)| {
        let pid = details.as_ref().ok().and_then(said_to_run);
        pid == Some(suspect.pid) && is_gone(suspect.pid)
    });
    again.map(|(suspect, _)| suspect).collect()
}

/// That a container is one.
pub fn found(seen: &mut Seen, suspect: &Suspect) {
    let name = seen.last_seen.as_ref().map(|it| it.name.clone());
    let message = format!(
        "the engine says that {} runs, and its process (PID {}) is not there; it said so twice",
        name.unwrap_or_default(),
        suspect.pid
    );
    seen.found(GHOST, Severity::Critical, message);
    seen.presence = Presence::Down;
}

fn said_to_run(details: &Details) -> Option<i32> {
    let state = &details.state;
    (state.status == "running" && state.pid > 0).then_some(state.pid)
}

/// Whether there is no such process, or only its remains that nobody has collected.
fn is_gone(pid: i32) -> bool {
    match process_table::stat(pid) {
        Ok(stat) => stat.state == ProcessState::Zombie,
        // hidden from us is not gone
        Err(error) if process_table::is_gone(&error) => {
            kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, id};

    use super::*;
    use crate::client::engine::{State, Trouble};

    const ID: &str = "2bb4f39b04599424472aa8e4c4d817c9ced95e23407e4406a590cd59a6503e87";

    fn answer(status: &str, pid: i32) -> Answer {
        let details = Details {
            id: ID.to_owned(),
            state: State {
                status: status.to_owned(),
                pid,
                ..State::default()
            },
            ..Details::default()
        };
        Answer {
            listed: Vec::new(),
            details: vec![(ID.to_owned(), Ok(details))],
            unchanged: Vec::new(),
        }
    }

    #[test]
    fn a_process_is_gone_once_it_has_ended_collected_or_not() {
        assert!(!is_gone(i32::try_from(id()).unwrap()));
        let mut child = Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_gone(pid) {
            assert!(Instant::now() < deadline, "it does not end");
            sleep(Duration::from_millis(1));
        }
        child.wait().unwrap();
        assert!(is_gone(pid));
    }

    #[test]
    fn only_what_is_said_to_run_where_pids_are_shared_is_suspect() {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let gone = i32::try_from(child.id()).unwrap();
        let own = i32::try_from(id()).unwrap();
        for (answer, known, is_suspect) in [
            (answer("running", gone), Some(gone), true),
            // the engine may count in another namespace
            (answer("running", gone), None, false),
            (answer("running", gone), Some(own), false),
            (answer("running", own), Some(own), false),
            (answer("running", 0), Some(0), false),
            (answer("exited", gone), Some(gone), false),
            (answer("paused", gone), Some(gone), false),
        ] {
            let found = suspect(&answer, ID, known);
            assert_eq!(found.is_some(), is_suspect, "{answer:?} {known:?}");
        }
        let mut silent = answer("running", gone);
        silent.details[0].1 = Err(Trouble::Unreachable("silent".to_owned()));
        assert_eq!(suspect(&silent, ID, Some(gone)), None);
    }

    #[test]
    fn a_pid_is_known_only_in_the_namespace_and_the_boot_that_it_was_found_in() {
        let known = |pid_namespace| LastSeen {
            id: ID.to_owned(),
            pid_namespace,
            ..LastSeen::default()
        };
        let main = Identity {
            pid: 7,
            start: 1,
            boot_id: "a".into(),
        };
        for (noted, own, boot, found) in [
            (Some(1), Some(1), "a", Some(7)),
            (Some(1), Some(2), "a", None),
            (Some(1), Some(1), "b", None),
            // a state of an earlier version
            (None, Some(1), "a", None),
            (None, None, "a", None),
        ] {
            let known = known(noted);
            let found_here = known_pid(ID, Some(&known), Some(&main), boot, own);
            assert_eq!(found_here, found, "{noted:?} {own:?} {boot}");
        }
        let other = known(Some(1));
        assert_eq!(
            known_pid("b2", Some(&other), Some(&main), "a", Some(1)),
            None
        );
    }

    #[test]
    fn the_namespace_is_noted_where_the_process_was_found_and_kept_until_then() {
        let with = |id: &str, pid_namespace| LastSeen {
            id: id.to_owned(),
            pid_namespace,
            ..LastSeen::default()
        };
        for (presence, known, noted) in [
            (Presence::Up(Some(7)), None, Some(2)),
            (Presence::Up(Some(7)), Some(with(ID, Some(1))), Some(2)),
            (Presence::Up(None), Some(with(ID, Some(1))), Some(1)),
            (Presence::Down, Some(with(ID, Some(1))), Some(1)),
            (Presence::Up(None), Some(with("b2", Some(1))), None),
            (Presence::Up(None), None, None),
        ] {
            let mut seen = Seen {
                presence,
                last_seen: Some(Arc::new(with(ID, None))),
                ..Seen::default()
            };
            note_namespace(&mut seen, known.as_ref(), Some(2));
            let last_seen = seen.last_seen.unwrap();
            assert_eq!(last_seen.pid_namespace, noted, "{presence:?} {known:?}");
        }
    }
}
