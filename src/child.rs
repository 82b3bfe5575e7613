//! Helper programs with a time limit: run to their end, or ended with their whole group.
//!
//! Their output goes into a file and not through a pipe: a daemon that such a program leaves behind may keep its
//! output open for ever, and then a reader of a pipe would wait for ever, or end it by going away.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::sys::{PidFd, spawn_after};

/// The PATH of Debian's login.defs for root: what a program finds that no shell has set up.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of a helper's output is read, in bytes: the end of it.
const OUTPUT_LIMIT: u64 = 64 << 10;

/// How a helper program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; absent: it was killed at its time limit.
    pub status: Option<ExitStatus>,
    /// The last 64 KiB of what it wrote to standard output.
    pub stdout: Vec<u8>,
    /// The last 64 KiB of what it wrote to standard error.
    pub stderr: Vec<u8>,
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
    mut command: Command,
    input: Option<&[u8]>,
    limit: Duration,
    mut stdout: File,
    mut stderr: File,
    before_exec: Option<impl FnOnce(i32) -> Result<(), String> + Send>,
) -> io::Result<Ended> {
    let stdin = match input {
        Some(input) => Stdio::from(scratch(input)?),
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
    let waited = PidFd::open(pid)
        .and_then(|handle| handle.map_or(Ok(true), |handle| handle.has_ended(limit)));
    if !matches!(waited, Ok(true)) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let status = child.wait()?;
    let in_time = waited?;
    Ok(Ended {
        status: in_time.then_some(status),
        stdout: end_of(&mut stdout)?,
        stderr: end_of(&mut stderr)?,
    })
}

/// Runs a helper as [`run_into`] does, with its output kept in memory.
pub fn run(command: Command, input: Option<&[u8]>, limit: Duration) -> io::Result<Ended> {
    let unhindered: Option<fn(i32) -> Result<(), String>> = None;
    let (stdout, stderr) = (scratch(b"")?, scratch(b"")?);
    run_into(command, input, limit, stdout, stderr, unhindered)
}

/// The end of a file, as far as it is worth reading.
fn end_of(file: &mut File) -> io::Result<Vec<u8>> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT_LIMIT)))?;
    let mut bytes = Vec::new();
    file.take(OUTPUT_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
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
