//! Commands that are asked something, and of which nothing is left behind.
//!
//! A command may start others, and these may leave its group and its session, outlive it, and keep its output open. So
//! each is run by a guard: this program once more, as a process of its own between the watchdog and the command. What
//! loses its parent below it becomes the guard's child (`PR_SET_CHILD_SUBREAPER`), so it finds all of them, and it ends
//! only when it has none any more. It also ends them when the watchdog is gone, for whatever reason: then its socket is
//! closed. The watchdog itself cannot be that parent: the daemons that it starts must not become its children.
//!
//! What a command has others start for it, as `systemd-run` or `docker exec` do, is out of reach.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::child::scratch;
use crate::program::Program;
use crate::sys::{PidFd, spawn_after};

mod descendants;
mod serve;

pub use serve::serve;

/// The argument that has this program be a guard. Nobody types it.
pub const ARGUMENT: &str = "guard";

/// How long a guard may take to end what it started.
const ENDING: Duration = Duration::from_secs(5);

/// How much longer than its command a guard may take: to be started on a busy machine, and to end what is left.
const SLACK: Duration = Duration::from_secs(15);

/// How long a guard that has answered may take to be gone.
const DYING: Duration = Duration::from_secs(1);

/// More than an answer has, in bytes.
const ANSWER_LIMIT: u64 = 8 << 20;

/// A command to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where it is run, absolute.
    pub working_dir: OsString,
    /// Who runs it; absent: the watchdog's own user.
    pub user: Option<String>,
    /// Its group; absent: the user's.
    pub group: Option<String>,
    /// Variables that win over those of `env_file`.
    pub env: Vec<(String, String)>,
    /// Lines of KEY=VALUE.
    pub env_file: Option<OsString>,
    /// What stands on its standard input; absent: nothing.
    pub input: Option<String>,
    /// How long it may take.
    pub limit: Duration,
    /// How many processes it may have at a time.
    pub most_processes: usize,
    /// How much of its output is kept, in bytes: the beginning of standard output, the end of standard error.
    pub kept: usize,
}

impl Task {
    /// What is run.
    pub fn program(&self) -> Program<'_> {
        Program {
            command: &self.command,
            working_dir: self.working_dir.as_ref(),
            user: self.user.as_deref(),
            group: self.group.as_deref(),
            env: &self.env,
            env_file: self.env_file.as_deref().map(AsRef::as_ref),
        }
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// By itself, or by somebody else's signal: with this wait status.
    Ended(i32),
    /// Its time was over, and it was killed.
    TimedOut,
    /// Its time was over, but for so long of it nothing got on here.
    Stalled(Duration),
    /// It had more processes than it may, and was killed.
    TooMany,
    /// It was not run. The text is a sentence.
    Unstarted(String),
    /// Nobody waits for it any more, and it was killed.
    Abandoned,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// How it ended.
    pub end: End,
    /// The beginning of its standard output.
    pub stdout: Vec<u8>,
    /// The end of its standard error.
    pub stderr: Vec<u8>,
    /// Processes of it that could not be killed.
    pub left: Vec<i32>,
    /// How long it took, with the beginning and the end of the process that guards it.
    #[serde(skip)]
    pub took: Duration,
}

impl Answer {
    fn of(end: End) -> Self {
        Self {
            end,
            stdout: Vec::new(),
            stderr: Vec::new(),
            left: Vec::new(),
            took: Duration::ZERO,
        }
    }
}

/// Runs a command to its end, or to the end of its time, or until `deadline`: then it is [`End::Abandoned`]. An error
/// where it could not be guarded: it is a sentence.
pub fn run(task: &Task, deadline: Instant) -> Result<Answer, String> {
    let cannot = |error: io::Error| {
        let hint = match error.raw_os_error() {
            Some(libc::EAGAIN) => " (ulimit -u, TasksMax=)",
            Some(libc::EMFILE | libc::ENFILE) => " (ulimit -n, LimitNOFILE=)",
            _ => "",
        };
        format!("no process can be started for it: {error}{hint}")
    };
    let began = Instant::now();
    let (mut guard, socket) = start(task).map_err(cannot)?;
    let answer = receive(&socket, task.limit, deadline);
    let pid = i32::try_from(guard.id()).unwrap_or_default();
    // our child, and not yet waited for
    let is_gone = || {
        PidFd::open(pid)
            .and_then(|handle| handle.map_or(Ok(true), |handle| handle.has_ended(DYING)))
            .unwrap_or(false)
    };
    let answer: Option<Answer> = answer.and_then(|answer| serde_json::from_slice(&answer).ok());
    let goes_on = answer
        .as_ref()
        .is_some_and(|answer| !answer.left.is_empty());
    if !goes_on {
        if answer.is_none() || !is_gone() {
            let _ = guard.kill();
        }
        if is_gone() {
            let _ = guard.wait();
        }
    }
    let answer = answer.map(|answer| Answer {
        took: began.elapsed(),
        ..answer
    });
    answer.ok_or_else(|| "the process that guards it gave no answer: was it killed?".to_owned())
}

/// Starts a guard. Its standard input is its task, its standard output the other end of the socket.
fn start(task: &Task) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("watchdog")
        .arg(ARGUMENT)
        .env_clear()
        .current_dir("/")
        .stdin(scratch(&serde_json::to_vec(task)?)?)
        .stdout(OwnedFd::from(theirs))
        .stderr(Stdio::null());
    let unhindered: Option<fn(i32) -> Result<(), String>> = None;
    let guard = spawn_after(command, unhindered)?;
    Ok((guard, ours))
}

/// Reads an answer to its end; none where there is no end.
fn receive(socket: &UnixStream, limit: Duration, deadline: Instant) -> Option<Vec<u8>> {
    let mut last = (Instant::now() + limit + SLACK).min(deadline);
    let mut is_cut = false;
    let mut answer = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        let left = last.saturating_duration_since(Instant::now());
        if left.is_zero() {
            if is_cut || Instant::now() < deadline {
                return None;
            }
            // the guard takes this for the end of the watchdog, and tells how it went all the same
            socket.shutdown(Shutdown::Write).ok()?;
            is_cut = true;
            last = Instant::now() + ENDING + DYING;
            continue;
        }
        socket.set_read_timeout(Some(left)).ok()?;
        let mut reader = socket;
        match reader.read(&mut buffer) {
            Ok(0) => return Some(answer),
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(_) => return None,
        }
        if answer.len() as u64 > ANSWER_LIMIT {
            return None;
        }
    }
}
