//! The guard itself: runs one command, and ends when nothing of it is left.

use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::Pid;

use super::descendants::{count, end_all, reap};
use super::{ANSWER_LIMIT, Answer, ENDING, End, Task};
use crate::child::scratch;
use crate::program::{c_path, explain};
use crate::sys::{Detached, PidFd, raise_priority, spawn_with_streams};

/// When the processes are first counted, and how often at the least: most commands have ended by then.
const COUNT: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(250)];

/// How long a guard goes on to end what is left, when the watchdog has its answer.
const LAST_ENDING: Duration = Duration::from_secs(600);

/// So often is read from a stream before anything else is looked at.
const READS: usize = 16;

/// What of a wait is longer than it should have been is time in which nothing got on here.
const STALL: Duration = Duration::from_millis(500);

/// Is a guard: its standard input is a task, its standard output the socket to the watchdog. Returns an exit code.
pub fn serve() -> u8 {
    let mut text = Vec::new();
    let read = io::stdin().take(ANSWER_LIMIT).read_to_end(&mut text);
    let task = read.ok().and_then(|_| serde_json::from_slice(&text).ok());
    let Some(task) = task else {
        let _ = writeln!(
            io::stderr(),
            "watchdog: `watchdog guard` is for the watchdog itself"
        );
        return 64;
    };
    // it ends by itself, so that nothing is left of what it guards; and belongs to no terminal
    let _ = SigSet::all().thread_set_mask();
    let _ = nix::unistd::setsid();
    let mut answer = match nix::sys::prctl::set_child_subreaper(true) {
        Ok(()) => perform(&task),
        Err(errno) => Answer::of(End::Unstarted(format!(
            "what it starts could not be kept together: {errno}"
        ))),
    };
    // before all else, whoever forks fast must not get ahead
    raise_priority();
    answer.left = end_all(ENDING);
    let said = serde_json::to_vec(&answer).unwrap_or_default();
    // nobody who waits any more, no matter
    if let Ok(fd) = io::stdout().as_fd().try_clone_to_owned() {
        let mut socket = UnixStream::from(fd);
        let _ = socket.write_all(&said);
        let _ = socket.shutdown(Shutdown::Write);
    }
    if !answer.left.is_empty() {
        // the watchdog does not wait for that
        end_all(LAST_ENDING);
    }
    0
}

/// Runs a command, and ends what is left of it.
fn perform(task: &Task) -> Answer {
    let began = Instant::now();
    let mut running = match start(task) {
        Ok(running) => running,
        Err(why) => return Answer::of(End::Unstarted(why)),
    };
    let end = running.attend(task, began);
    if !matches!(end, End::Ended(_)) {
        let _ = killpg(Pid::from_raw(running.pid), Signal::SIGKILL);
    }
    // first what is in the pipes: what keeps them open is not waited for
    for stream in &mut running.streams {
        stream.drain();
    }
    let [stdout, stderr] = running.streams;
    Answer {
        end,
        left: Vec::new(),
        took: Duration::ZERO,
        stdout: stdout.kept,
        stderr: stderr.kept,
    }
}

/// Starts the command in a session of its own.
fn start(task: &Task) -> Result<Running, String> {
    let program = task.program();
    let prepared = program.prepare()?;
    let plan = Detached {
        program: c_path(&prepared.path)?,
        arguments: program.arguments()?,
        environment: prepared.environment()?,
        credentials: prepared.account.credentials.clone(),
        nice: 0,
        umask: 0o022,
        working_dir: c_path(program.working_dir)?,
        stdout: None,
        stderr: None,
        remove: None,
        pid_file: None,
        dies_with_parent: true,
    };
    let pipes = || -> io::Result<_> {
        let (out, said) = io::pipe()?;
        let (err, complained) = io::pipe()?;
        let most = task.kept;
        let streams = [
            Stream::new(out, Kept::Beginning, most)?,
            Stream::new(err, Kept::End, most)?,
        ];
        // a file and no pipe: a command that reads none of it keeps nobody waiting
        let input = match &task.input {
            Some(text) => Stdio::from(scratch(text.as_bytes())?),
            None => Stdio::null(),
        };
        Ok((streams, [input, said.into(), complained.into()]))
    };
    let (streams, given) = pipes().map_err(|error| format!("there is no pipe for it: {error}"))?;
    let unhindered: Option<fn(i32) -> Result<(), String>> = None;
    let child = spawn_with_streams(plan, given, unhindered, task.limit)
        .map_err(|(step, error)| explain(step, &error, &program, &prepared.path, task.limit))?;
    let pid = i32::try_from(child.id()).map_err(|error| error.to_string())?;
    let handle = PidFd::open(pid).map_err(|error| format!("it cannot be waited for: {error}"))?;
    let handle = handle.ok_or("it cannot be waited for: it is gone")?;
    Ok(Running {
        child,
        pid,
        handle,
        streams,
    })
}

/// A command that runs.
struct Running {
    child: Child,
    pid: i32,
    handle: PidFd,
    /// Its standard output, and its standard error.
    streams: [Stream; 2],
}

impl Running {
    /// Waits for its end, or for a reason to end it.
    fn attend(&mut self, task: &Task, began: Instant) -> End {
        let deadline = began + task.limit;
        let [mut pause, longest] = COUNT;
        let mut count_at = began + pause;
        let mut stalled = Duration::ZERO;
        loop {
            let asked = Instant::now();
            let until = deadline.min(count_at);
            let ready = match self.wait(until.saturating_duration_since(asked)) {
                Ok(ready) => ready,
                Err(errno) => return End::Unstarted(format!("it cannot be waited for: {errno}")),
            };
            let now = Instant::now();
            let late = now.saturating_duration_since(until.max(asked));
            stalled += late.saturating_sub(STALL);
            for (stream, is_ready) in self.streams.iter_mut().zip(ready.streams) {
                if is_ready {
                    stream.drain();
                }
            }
            if ready.ended {
                // until it is collected, no other group has its number
                let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
                return match self.child.wait() {
                    Ok(status) => End::Ended(status.into_raw()),
                    Err(error) => End::Unstarted(format!("it cannot be waited for: {error}")),
                };
            }
            if ready.abandoned {
                return End::Abandoned;
            }
            if now >= deadline {
                return if stalled > task.limit / 2 {
                    End::Stalled(stalled)
                } else {
                    End::TimedOut
                };
            }
            if now >= count_at {
                reap(Some(self.pid));
                if count(task.most_processes + 1) > task.most_processes {
                    return End::TooMany;
                }
                pause = (pause * 2).min(longest);
                count_at = now + pause;
            }
        }
    }

    /// Waits until there is something to do, `limit` at the most.
    fn wait(&self, limit: Duration) -> Result<Ready, Errno> {
        let out = io::stdout();
        let mut fds = vec![
            PollFd::new(out.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.handle.as_fd(), PollFlags::POLLIN),
        ];
        let open = self.streams.each_ref().map(Stream::as_fd);
        for fd in open.into_iter().flatten() {
            fds.push(PollFd::new(fd, PollFlags::POLLIN));
        }
        // rounded up, so that the last part of a millisecond is no busy loop
        let millis = i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        match poll(
            &mut fds,
            PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX),
        ) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        let mut is_ready = fds.iter().map(|fd| fd.any().unwrap_or(true));
        let mut next = || is_ready.next().unwrap_or(false);
        Ok(Ready {
            abandoned: next(),
            ended: next(),
            streams: open.map(|fd| fd.is_some() && next()),
        })
    }
}

/// What there is to do.
struct Ready {
    abandoned: bool,
    ended: bool,
    streams: [bool; 2],
}

/// Which part of a stream is kept.
enum Kept {
    Beginning,
    End,
}

/// An output of the command: read for as long as it is written, so that nothing waits for a reader.
struct Stream {
    reader: Option<PipeReader>,
    part: Kept,
    most: usize,
    kept: Vec<u8>,
}

impl Stream {
    fn new(reader: PipeReader, part: Kept, most: usize) -> io::Result<Self> {
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self {
            reader: Some(reader),
            part,
            most,
            kept: Vec::new(),
        })
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.reader.as_ref().map(AsFd::as_fd)
    }

    /// Reads what is there.
    fn drain(&mut self) {
        let mut buffer = [0; 16 << 10];
        for _ in 0..READS {
            let Some(reader) = &mut self.reader else {
                return;
            };
            match reader.read(&mut buffer) {
                Ok(0) => self.reader = None,
                Ok(length) => self.keep(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.reader = None,
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        match self.part {
            Kept::Beginning => {
                let room = self.most.saturating_sub(self.kept.len());
                self.kept.extend_from_slice(&bytes[..room.min(bytes.len())]);
            }
            Kept::End => {
                self.kept.extend_from_slice(bytes);
                let excess = self.kept.len().saturating_sub(self.most);
                self.kept.drain(..excess);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_output_the_beginning_is_kept_and_of_errors_the_end() {
        for (part, kept) in [(Kept::Beginning, "0123"), (Kept::End, "6789")] {
            let (reader, mut writer) = io::pipe().unwrap();
            let mut stream = Stream::new(reader, part, 4).unwrap();
            for bytes in ["01", "234", "56789"] {
                writer.write_all(bytes.as_bytes()).unwrap();
                stream.drain();
            }
            assert_eq!(stream.kept, kept.as_bytes());
            assert!(stream.as_fd().is_some(), "it is still open");
            drop(writer);
            stream.drain();
            assert!(stream.as_fd().is_none());
        }
    }
}
