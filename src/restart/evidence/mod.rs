//! Evidence: what a process was doing is recorded before it is stopped.
//!
//! A restart destroys what would tell why it was needed. So it is written down first: in one text file, with the first
//! facts on top. It takes [`ALL`] at the most, whatever hangs: everything that may is done in a thread that is given up in
//! time, and what was seen by then is what there is. Nothing of it keeps a restart from being made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Number;

use crate::check::Finding;
use crate::check::process::Identity;
use crate::child::describe_status;
use crate::clock::{Reading, exact, rough};
use crate::guard::{self, End, Task};
use crate::text::{plain, visible_path};

use self::gather::{Shared, with};
use self::text::Said;

mod call;
mod facts;
mod gather;
mod keep;
mod seen;
mod settings;
mod sockets;
mod text;

pub use keep::{KEPT, Kept, directory, list, read};
pub use settings::Settings;

/// All of it takes no longer.
pub const ALL: Duration = Duration::from_secs(5);

/// A record has so many bytes at the most.
pub const SIZE_LIMIT: usize = 1 << 20;

/// Looking at the processes takes no longer, so that time is left for the command.
const LOOKING: Duration = Duration::from_secs(2);

/// What may hang takes no longer, where no command is waited for beside it.
const HANGING: Duration = Duration::from_secs(1);

/// So much of the time is left to write it.
const WRITING: Duration = Duration::from_millis(500);

/// So long before the end of its time a command is killed, so that it can be told how it went.
const TO_TELL: Duration = Duration::from_millis(300);

/// A command that cannot have at least so long is not run.
const LEAST: Duration = Duration::from_millis(100);

/// So many processes may the command have at a time.
const MOST_PROCESSES: usize = 64;

/// How much of its output is kept, in bytes.
const KEPT_OUTPUT: usize = 256 << 10;

/// What is to be recorded, and where.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Its table.
    pub settings: Settings,
    /// The state directory.
    pub state_dir: PathBuf,
    /// Where its command is run.
    pub working_dir: PathBuf,
    /// What was found.
    pub findings: Vec<Finding>,
    /// The last lines of its logs.
    pub log_tail: Vec<String>,
    /// The files of its logs.
    pub logs: Vec<PathBuf>,
    /// What its checks measured in this run.
    pub figures: BTreeMap<&'static str, Number>,
}

/// What was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The file; absent: it could not be written.
    pub file: Option<PathBuf>,
    /// Its first facts; and why it could not be written.
    pub facts: Vec<String>,
}

/// Records what these processes and all their descendants are doing, the main one first. It is over by `run_ends`, and
/// after [`ALL`].
pub(super) fn record(
    service: &str,
    request: &Request,
    roots: &[Identity],
    run_ends: Instant,
) -> Recorded {
    let began = Instant::now();
    let ends = run_ends.min(began + ALL);
    let now = Reading::take();
    let shared = Shared::default();
    look(&shared, roots, &now, ends.min(began + LOOKING));
    let said = look_closer(&shared, request, roots, ends);
    let seen = with(&shared, |seen| seen.clone());
    let mut facts = facts::facts(&seen);
    let text = text::text(service, now.wall, request, &facts, &seen, said.as_ref());
    let written = beside({
        let (state_dir, service) = (request.state_dir.clone(), service.to_owned());
        move || keep::write(&state_dir, &service, now.wall, &text)
    });
    let written = match written {
        Some(written) => match written.recv_timeout(left(ends).max(LEAST)) {
            Ok(written) => written.map_err(|error| plain(&error)),
            Err(_) => Err("the disk did not answer in time".to_owned()),
        },
        None => Err(NO_THREAD.to_owned()),
    };
    let file = match written {
        Ok(path) => {
            let shown = visible_path(&path);
            ::log::info!("{service}: recorded what it was doing in {shown}");
            Some(path)
        }
        Err(why) => {
            let sentence = format!(
                "what it was doing could not be recorded in {}: {why}",
                visible_path(&directory(&request.state_dir))
            );
            ::log::warn!("{service}: {sentence}");
            facts.push(sentence);
            None
        }
    };
    Recorded { file, facts }
}

/// Removes a record of what was not stopped after all.
pub(super) fn withdraw(recorded: &Recorded) {
    if let Some(file) = &recorded.file {
        let _ = std::fs::remove_file(file);
    }
}

const NO_THREAD: &str = "no thread could be made for it";

fn left(ends: Instant) -> Duration {
    ends.saturating_duration_since(Instant::now())
}

/// Does something in a thread that nobody waits for longer than he wants to.
fn beside<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Option<Receiver<T>> {
    let (done, result) = channel();
    let thread = thread::Builder::new().name("evidence".to_owned());
    let begun = thread.spawn(move || {
        let _ = done.send(act());
    });
    begun.ok().map(|_| result)
}

/// Notes what was not done.
fn note(shared: &Shared, trouble: String) {
    with(shared, |seen| seen.troubles.push(trouble));
}

/// Waits for a thread, and notes where it was given up.
fn wait_for(shared: &Shared, begun: Option<Receiver<()>>, what: &str, until: Instant) {
    let Some(done) = begun else {
        note(shared, format!("{what}: {NO_THREAD}"));
        return;
    };
    let start = Instant::now();
    if done.recv_timeout(left(until)).is_err() {
        let waited = rough(start.elapsed());
        note(
            shared,
            format!("{what}: no answer within {waited}; the rest of that is missing"),
        );
    }
}

/// What the kernel tells of the processes.
fn look(shared: &Shared, roots: &[Identity], now: &Reading, until: Instant) {
    let begun = beside({
        let (shared, roots, now) = (Arc::clone(shared), roots.to_vec(), now.clone());
        // its own end is a little earlier, so that it is seldom given up
        let until = until.checked_sub(TO_TELL).unwrap_or(until);
        move || gather::look(&shared, &roots, &now, until)
    });
    wait_for(shared, begun, "the processes in /proc", until);
}

/// What may hang, side by side: the memory of the processes, the file systems that they write to, and the command.
fn look_closer(
    shared: &Shared,
    request: &Request,
    roots: &[Identity],
    ends: Instant,
) -> Option<Said> {
    let until = ends.checked_sub(WRITING).unwrap_or(ends);
    let hanging = until.min(Instant::now() + HANGING);
    let memory = beside({
        let shared = Arc::clone(shared);
        move || gather::look_at_memory(&shared, hanging)
    });
    let disks = beside({
        let (shared, logs) = (Arc::clone(shared), request.logs.clone());
        move || gather::look_at_disks(&shared, &logs, hanging)
    });
    let command = request.settings.command.as_ref().zip(roots.first());
    let said = command.map(|(command, main)| run(command, main.pid, request, until));
    wait_for(
        shared,
        memory,
        "the arguments and variables of the processes",
        hanging,
    );
    wait_for(shared, disks, "the file systems of the open files", hanging);
    said
}

/// The command of the table, with the PID filled in.
fn filled(command: &[String], pid: i32) -> Vec<String> {
    let pid = pid.to_string();
    command
        .iter()
        .map(|word| word.replace("{pid}", &pid))
        .collect()
}

/// Runs the command until `until` at the most.
fn run(command: &[String], pid: i32, request: &Request, until: Instant) -> Said {
    let command = filled(command, pid);
    let limit = request
        .settings
        .timeout
        .min(left(until).saturating_sub(TO_TELL));
    let unsaid = |end: String| Said {
        command: command.clone(),
        end,
        ..Said::default()
    };
    if limit < LEAST {
        return unsaid("not run: there was no time left for it".to_owned());
    }
    let task = Task {
        command: command.clone(),
        working_dir: request.working_dir.clone().into_os_string(),
        user: None,
        group: None,
        env: Vec::new(),
        env_file: None,
        input: None,
        limit,
        most_processes: MOST_PROCESSES,
        kept: KEPT_OUTPUT,
    };
    let begun = beside(move || guard::run(&task, until + TO_TELL));
    let Some(begun) = begun else {
        return unsaid(format!("not run: {NO_THREAD}"));
    };
    match begun.recv_timeout(left(until)) {
        Ok(Ok(answer)) => Said {
            end: end(&answer.end, limit),
            stdout: answer.stdout,
            stderr: answer.stderr,
            command,
        },
        Ok(Err(why)) => unsaid(format!("not run: {why}")),
        // its guard ends it all the same
        Err(_) => unsaid(format!("did not end within {}", exact(limit))),
    }
}

fn end(end: &End, limit: Duration) -> String {
    use std::os::unix::process::ExitStatusExt;
    match end {
        End::Ended(status) => describe_status(std::process::ExitStatus::from_raw(*status)),
        End::TimedOut | End::Abandoned => {
            format!("did not end within {}, and was killed", rough(limit))
        }
        End::Stalled(_) => format!(
            "did not end within {}, and was killed; the machine was too busy to run it",
            rough(limit)
        ),
        End::TooMany => format!("had more than {MOST_PROCESSES} processes, and was killed"),
        End::Unstarted(why) => format!("not run: {why}"),
    }
}

/// The path of a record for people and programs.
pub(super) fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_is_filled_in_wherever_it_stands() {
        let command = ["py-spy", "dump", "--pid", "{pid}", "/proc/{pid}/{x}"];
        let command = command.map(str::to_owned);
        assert_eq!(
            filled(&command, 7),
            ["py-spy", "dump", "--pid", "7", "/proc/7/{x}"]
        );
    }

    #[test]
    fn a_disk_that_is_full_or_gone_is_told_and_holds_up_nothing() {
        let request = Request {
            state_dir: PathBuf::from("/proc/self/fdinfo"),
            ..Request::default()
        };
        let recorded = record("a", &request, &[], Instant::now() + ALL);
        assert_eq!(recorded.file, None);
        let last = recorded.facts.last().unwrap();
        assert!(
            last.starts_with(
                "what it was doing could not be recorded in /proc/self/fdinfo/evidence: "
            ),
            "{last}"
        );
    }
}
