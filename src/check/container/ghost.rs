//! Containers that the engine says run, and whose main process is not there.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::{Answer, Containers, GHOST, Seen, is_process_of};
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
    let details = Engine::at(&path).details(&ids, containers.timeout, run_ends);
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
}
