//! Talking to systemd, by its own programs, with a time limit.
//!
//! `systemctl` and `busctl` know how to reach a manager whatever its version and its bus; a client of our own
//! would have to learn all of that. Every call has a limit, since a manager that hangs holds its clients for 90
//! seconds, and what a program says on standard error comes back to be told to a person.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::{Uid, User};

use crate::child::{self, DEFAULT_PATH, Ended};

/// How many lines of what a program says are told.
const TOLD_LINES: usize = 5;

/// Which systemd a unit belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manager {
    /// The system's.
    System,
    /// The one of the user that the watchdog runs as.
    User,
}

/// Runs `systemctl` for a manager to its end, `limit` at the most.
///
/// The error is a sentence: the manager cannot be reached, or there is no such program. That a program failed is
/// no error here.
pub fn systemctl(manager: Manager, args: &[&str], limit: Duration) -> Result<Ended, String> {
    // a question for a password would wait for an answer that nobody gives
    call(
        manager,
        "systemctl",
        &[&["--no-ask-password", "--no-pager"], args].concat(),
        limit,
    )
}

/// Runs one of systemd's programs for a manager to its end, `limit` at the most; see [`systemctl`].
pub fn call(
    manager: Manager,
    program: &str,
    args: &[&str],
    limit: Duration,
) -> Result<Ended, String> {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", DEFAULT_PATH)
        .env("LC_ALL", "C.UTF-8")
        .env("SYSTEMD_COLORS", "0");
    match manager {
        Manager::System => {}
        Manager::User => {
            let runtime = runtime_dir()?;
            let mut bus = OsString::from("unix:path=");
            bus.push(runtime.join("bus"));
            command
                .arg("--user")
                .env("XDG_RUNTIME_DIR", &runtime)
                .env("DBUS_SESSION_BUS_ADDRESS", bus);
        }
    }
    command.args(args);
    child::run(command, None, limit)
        .map_err(|error| format!("cannot run {program}: {error}; is this a machine with systemd?"))
}

/// The directory through which the user's own manager is reached. Cron and `su` set no variable for it.
fn runtime_dir() -> Result<PathBuf, String> {
    let uid = Uid::effective();
    let own = |path: &Path| {
        path.metadata()
            .is_ok_and(|meta| meta.is_dir() && meta.uid() == uid.as_raw())
    };
    // one that sudo has carried over from another user is of no use
    let given = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute() && own(path));
    if let Some(path) = given {
        return Ok(path);
    }
    let usual = PathBuf::from(format!("/run/user/{uid}"));
    if own(&usual) {
        return Ok(usual);
    }
    let name = User::from_uid(uid)
        .ok()
        .flatten()
        .map_or_else(|| uid.to_string(), |user| user.name);
    Err(format!(
        "the systemd of user {name} does not run: there is no {}; `loginctl enable-linger {name}` keeps it \
         running without a login",
        usual.display()
    ))
}

/// What a call that failed said, for a person: its last lines, and how it ended where it said nothing.
pub fn complaint(ended: &Ended, limit: Duration) -> String {
    let lines = child::last_lines(&ended.stderr, TOLD_LINES);
    if ended.status.is_some() && !lines.is_empty() {
        return lines.join("; ");
    }
    let mut said = format!("it {}", ended.describe(limit));
    if !lines.is_empty() {
        said.push_str(": ");
        said.push_str(&lines.join("; "));
    }
    said
}

/// Whether a call ended with exit status 0.
pub fn succeeded(ended: &Ended) -> bool {
    ended.status.is_some_and(|status| status.success())
}

/// Whether this machine was booted by systemd, as sd_booted(3) finds out.
pub fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}
