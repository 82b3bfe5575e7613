//! Helper programs with a time limit: run to their end, or ended with their whole group.
//!
//! Their output goes into a file and not through a pipe: a daemon that such a program leaves behind may keep its
//! output open for ever, and then a reader of a pipe would wait for ever, or end it by going away.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::sys::{PidFd, spawn_after, wait_readable};

/// The PATH of Debian's login.defs for root: what a program finds that no shell has set up.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of a helper's output is read, in bytes: the end of it.
const OUTPUT_LIMIT: u64 = 64 << 10;

/// How much a helper may write where its output is kept in memory, in bytes: one that floods is ended.
const MEMORY_LIMIT: u64 = 32 << 20;

/// How often is looked at how much there is of it.
const GLANCE: Duration = Duration::from_millis(50);

/// How long a killed helper may take to be gone: one that the kernel holds (state D) is left behind.
const DYING: Duration = Duration::from_secs(1);

/// How a helper program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; absent: it was killed at its time limit.
    pub status: Option<ExitStatus>,
    /// The last 64 KiB of what it wrote to standard output.
    pub stdout: Vec<u8>,
    /// The last 64 KiB of what it wrote to standard error.
    pub stderr: Vec<u8>,
    /// Whether it wrote more to standard output than `stdout` has: whoever reads facts from it misses the first of them.
    pub is_cut: bool,
    /// Whether it had read its input to the end, where it was given one and read it in order.
    pub read_all: bool,
}

impl Ended {
    /// How it ended, for a person: `exit status 3`, `killed by signal 9`, `no end after 10s`.
    pub fn describe(&self, limit: Duration) -> String {
        self.status.map_or_else(
            || {
                format!(
                    "did not end within {}, and was killed",
                    crate::clock::rough(limit)
                )
            },
            describe_status,
        )
    }
}

/// An exit status, for a person.
pub fn describe_status(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(name) => format!("was ended by signal {signal} ({name})"),
            Err(_) => format!("was ended by signal {signal}"),
        },
        (None, None) => "ended".to_owned(),
    }
}

/// A file in memory that a helper can write to or read from.
pub fn scratch(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("watchdog", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

/// Runs a helper in a process group of its own until it ends, `limit` at the most, with `input` on its standard
/// input. At the limit its group is killed. `stdout` and `stderr` are where its output goes. `before_exec` is as
/// [`spawn_after`] has it.
pub fn run_into(
    command: Command,
    input: Option<&[u8]>,
    limit: Duration,
    stdout: &File,
    stderr: &File,
    before_exec: Option<impl FnOnce(i32) -> Result<(), String> + Send>,
) -> io::Result<Ended> {
    run_bounded(command, input, limit, stdout, stderr, None, before_exec)
}

fn run_bounded(
    mut command: Command,
    input: Option<&[u8]>,
    limit: Duration,
    stdout: &File,
    stderr: &File,
    bound: Option<u64>,
    before_exec: Option<impl FnOnce(i32) -> Result<(), String> + Send>,
) -> io::Result<Ended> {
    let deadline = Instant::now() + limit;
    let mut given = input.map(scratch).transpose()?;
    let stdin = match &given {
        Some(file) => Stdio::from(file.try_clone()?),
        None => Stdio::null(),
    };
    command
        .process_group(0)
        .stdin(stdin)
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?);
    let mut child = spawn_after(command, before_exec)?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    // the child is ours and not yet waited for: its number is its own until then
    let handle = PidFd::open(pid);
    let floods = || {
        let written = |file: &File| file.metadata().map_or(0, |meta| meta.len());
        bound.is_some_and(|bound| written(stdout) + written(stderr) > bound)
    };
    let waited = match &handle {
        Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        Ok(None) => Ok(Wait::Ended),
        Ok(Some(handle)) => wait(handle, deadline, bound.is_some(), floods),
    };
    let mut gone = true;
    if !matches!(waited, Ok(Wait::Ended)) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        gone = match &handle {
            Ok(Some(handle)) => handle.has_ended(DYING).unwrap_or(true),
            _ => true,
        };
    }
    let status = if gone { Some(child.wait()?) } else { None };
    let in_time = !matches!(waited?, Wait::TooLong);
    let (said, is_cut) = end_of(stdout)?;
    Ok(Ended {
        status: status.filter(|_| in_time),
        stdout: said,
        stderr: end_of(stderr)?.0,
        is_cut,
        // the offset is one for both, as the file was opened but once
        read_all: match (&mut given, input) {
            (Some(file), Some(input)) => {
                file.stream_position()? >= u64::try_from(input.len()).unwrap_or(u64::MAX)
            }
            _ => true,
        },
    })
}

/// How waiting for a helper ended.
enum Wait {
    Ended,
    Floods,
    TooLong,
}

fn wait(
    handle: &PidFd,
    deadline: Instant,
    bounded: bool,
    floods: impl Fn() -> bool,
) -> io::Result<Wait> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let slice = if bounded { left.min(GLANCE) } else { left };
        if handle.has_ended(slice)? {
            return Ok(Wait::Ended);
        }
        if floods() {
            return Ok(Wait::Floods);
        }
        if left.is_zero() {
            return Ok(Wait::TooLong);
        }
    }
}

/// Runs a helper as [`run_into`] does, with its output kept in memory; one that floods it is ended, and its status
/// says so.
pub fn run(command: Command, input: Option<&[u8]>, limit: Duration) -> io::Result<Ended> {
    let unhindered: Option<fn(i32) -> Result<(), String>> = None;
    let (stdout, stderr) = (scratch(b"")?, scratch(b"")?);
    run_bounded(
        command,
        input,
        limit,
        &stdout,
        &stderr,
        Some(MEMORY_LIMIT),
        unhindered,
    )
}

/// What reading the lines of a helper came to.
#[derive(Debug)]
pub struct LinesRead {
    /// Its exit status; absent: it was killed, since nobody wanted more of it or its time was over.
    pub status: Option<ExitStatus>,
    /// Its time was over.
    pub timed_out: bool,
    /// A line was too long to be read.
    pub too_long: bool,
    /// The last 64 KiB of what it wrote to standard error.
    pub stderr: Vec<u8>,
}

/// Runs a helper, and hands out the lines of its standard output as they come, until `give` wants no more: then it is
/// killed, as it is after `limit`, and where a line has more than `longest` bytes. For helpers that leave nothing behind.
pub fn read_lines(
    mut command: Command,
    limit: Duration,
    longest: usize,
    mut give: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<LinesRead> {
    let deadline = Instant::now() + limit;
    let stderr = scratch(b"")?;
    let (mut reader, writer) = io::pipe()?;
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(stderr.try_clone()?);
    let unhindered: Option<fn(i32) -> Result<(), String>> = None;
    let mut child = spawn_after(command, unhindered)?;
    let mut read = LinesRead {
        status: None,
        timed_out: false,
        too_long: false,
        stderr: Vec::new(),
    };
    let (mut buffer, mut line) = (vec![0; 64 << 10], Vec::new());
    let failed = loop {
        match wait_readable(
            reader.as_fd(),
            deadline.saturating_duration_since(Instant::now()),
        ) {
            Ok(true) => {}
            Ok(false) => {
                read.timed_out = true;
                break None;
            }
            Err(error) => break Some(error),
        }
        let mut rest = match reader.read(&mut buffer) {
            Ok(0) => break None,
            Ok(length) => &buffer[..length],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => break Some(error),
        };
        let mut flow = ControlFlow::Continue(());
        while let Some(end) = memchr::memchr(b'\n', rest) {
            line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            flow = give(&line);
            line.clear();
            if flow.is_break() {
                break;
            }
        }
        line.extend_from_slice(rest);
        read.too_long = line.len() > longest;
        if flow.is_break() || read.too_long {
            break None;
        }
    };
    // what has closed its output may take a moment to end
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let handle = PidFd::open(pid)?;
    let ends = |limit: Duration| match &handle {
        Some(handle) => handle.has_ended(limit).unwrap_or(true),
        None => true,
    };
    drop(reader);
    let is_whole = failed.is_none() && !read.timed_out && !read.too_long;
    if !(is_whole && ends(DYING.min(deadline.saturating_duration_since(Instant::now())))) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    if ends(DYING) {
        read.status = Some(child.wait()?).filter(|status| status.code().is_some());
    }
    read.stderr = end_of(&stderr)?.0;
    failed.map_or(Ok(read), Err)
}

/// The end of a file, as far as it is worth reading, and whether there is more before it. Its offset is not moved:
/// whoever writes to it still shares that.
fn end_of(file: &File) -> io::Result<(Vec<u8>, bool)> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(OUTPUT_LIMIT);
    let mut bytes = vec![0; usize::try_from(OUTPUT_LIMIT).unwrap_or(usize::MAX)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], start + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok((bytes, start > 0))
}

/// The last lines of some output, each of them safe to show, blank ones left out.
pub fn last_lines(output: &[u8], count: usize) -> Vec<String> {
    let lines: Vec<String> = output
        .split(|&b| b == b'\n')
        .map(|line| crate::text::printable(line.trim_ascii_end(), 500))
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(count)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_status_come_back() {
        let ended = run(
            shell("cat; echo no >&2; exit 3"),
            Some(b"yes\n"),
            Duration::from_secs(30),
        )
        .unwrap();
        assert_eq!(ended.status.and_then(|status| status.code()), Some(3));
        assert_eq!(
            (&ended.stdout[..], &ended.stderr[..]),
            (&b"yes\n"[..], &b"no\n"[..])
        );
        assert!(ended.read_all);
    }

    #[test]
    fn output_that_is_longer_than_what_is_read_is_marked_as_cut() {
        for (count, is_cut) in [(OUTPUT_LIMIT, false), (OUTPUT_LIMIT + 1, true)] {
            let script = format!("head -c {count} /dev/zero");
            let ended = run(shell(&script), None, Duration::from_secs(30)).unwrap();
            assert_eq!(ended.is_cut, is_cut, "{count}");
            assert_eq!(u64::try_from(ended.stdout.len()).unwrap(), OUTPUT_LIMIT);
        }
    }

    #[test]
    fn one_that_floods_is_ended_long_before_its_time() {
        let ended = run(shell("exec yes"), Some(b"unread"), Duration::from_mins(10)).unwrap();
        assert_eq!(
            ended.describe(Duration::ZERO),
            "was ended by signal 9 (SIGKILL)"
        );
        assert!(ended.stdout.ends_with(b"y\ny\n"));
        assert!(!ended.read_all);
    }

    #[test]
    fn one_that_hangs_is_killed_with_its_children() {
        let ended = run(
            shell("sleep 1000 & echo $!; sleep 1000"),
            None,
            Duration::from_millis(300),
        )
        .unwrap();
        assert!(ended.status.is_none());
        let pid: i32 = String::from_utf8(ended.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        if let Some(handle) = PidFd::open(pid).unwrap() {
            assert!(handle.has_ended(Duration::from_secs(20)).unwrap());
        }
    }

    #[test]
    fn reading_output_leaves_its_offset_to_the_writer() {
        let mut file = scratch(b"").unwrap();
        file.write_all(&vec![b'x'; 100_000]).unwrap();
        assert_eq!(end_of(&file).unwrap(), (vec![b'x'; 64 << 10], true));
        file.rewind().unwrap();
        file.write_all(b"abc").unwrap();
        let (end, _) = end_of(&file).unwrap();
        assert_eq!((file.stream_position().unwrap(), end.len()), (3, 64 << 10));
    }

    #[test]
    fn a_daemon_left_behind_is_not_waited_for() {
        let ended = run(
            shell("setsid sleep 30 & echo $!"),
            None,
            Duration::from_secs(20),
        )
        .unwrap();
        assert!(ended.status.is_some());
        let pid: i32 = String::from_utf8(ended.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        PidFd::open(pid)
            .unwrap()
            .unwrap()
            .signal(Signal::SIGKILL)
            .unwrap();
    }

    #[test]
    fn the_last_lines_are_safe_to_show() {
        assert_eq!(last_lines(b"a\n\n\x1b[31mb\r\nc", 2), ["\\x1b[31mb", "c"]);
    }
}
