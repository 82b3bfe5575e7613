//! What can be found out about a program that runs.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::unistd::{Gid, Group, Uid, User};

use crate::check::process::parse_pid_file;
use crate::files::{self, Links};
use crate::process_table;
use crate::restart::scope::{self, Place};
use crate::systemctl::is_booted;

/// No longer file is a PID file.
const PID_FILE_LIMIT: u64 = 4096;

/// Of a directory, so many entries are looked at for a PID file.
const ENTRIES: usize = 2000;

/// The names of files that are written to and are no logs.
const NO_LOGS: [&str; 12] = [
    "pid", "lock", "lck", "sock", "db", "sqlite", "sqlite3", "wal", "aof", "rdb", "journal", "tmp",
];

/// A file that a program has open for writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Open {
    /// The descriptor.
    pub(super) number: u32,
    /// The file.
    pub(super) path: PathBuf,
    /// Whether all that is written is appended.
    pub(super) appends: bool,
    /// When it was last written.
    pub(super) written: Option<SystemTime>,
    /// Whose it is: who is not root may have been handed a file that he could not open.
    pub(super) owner: u32,
}

/// What is known of a program.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Its PID.
    pub(super) pid: i32,
    /// The name that the kernel has for it.
    pub(super) name: String,
    /// The file that is run.
    pub(super) program: Option<PathBuf>,
    /// Its arguments, the program's name first.
    pub(super) arguments: Vec<String>,
    /// Its working directory.
    pub(super) working_dir: PathBuf,
    /// Its user.
    pub(super) user: String,
    /// The same as a number.
    pub(super) uid: u32,
    /// Whether that is who the watchdog is.
    pub(super) is_own_user: bool,
    /// Its group, where it is not the one of its user.
    pub(super) group: Option<String>,
    /// Its environment.
    pub(super) environment: BTreeMap<String, String>,
    /// Its mask of permissions.
    pub(super) umask: Option<u32>,
    /// Its niceness.
    pub(super) nice: i32,
    /// The systemd unit that it belongs to.
    pub(super) unit: Option<Place>,
    /// The file that its PID is in.
    pub(super) pid_file: Option<PathBuf>,
    /// The files that it writes to.
    pub(super) open: Vec<Open>,
}

/// Looks at a program. An error says what could not be read.
pub(super) fn look(pid: i32) -> Result<Facts, String> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let unreadable = |error: io::Error| {
        let help = if error.kind() == io::ErrorKind::PermissionDenied {
            "; run this as root, or as the user of that program"
        } else {
            ""
        };
        format!("what PID {pid} is cannot be read: {error}{help}")
    };
    let arguments = arguments(&proc).map_err(unreadable)?;
    let working_dir = fs::read_link(proc.join("cwd")).map_err(unreadable)?;
    let environment = environment(&proc).map_err(unreadable)?;
    let open = open_files(&proc).map_err(unreadable)?;
    let status = fs::read_to_string(proc.join("status")).map_err(unreadable)?;
    let ids = |key: &str| -> Option<u32> {
        // real, effective, saved, of the file system
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    let (uid, gid) = (
        ids("Uid:").ok_or_else(|| unreadable(io::ErrorKind::InvalidData.into()))?,
        ids("Gid:").unwrap_or_default(),
    );
    let account = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let own_group = account.as_ref().map(|user| user.gid.as_raw());
    let name = fs::read_to_string(proc.join("comm"))
        .map_err(unreadable)?
        .trim_end()
        .to_owned();
    Ok(Facts {
        pid,
        program: fs::read_link(proc.join("exe")).ok(),
        user: account.map_or_else(|| uid.to_string(), |user| user.name),
        uid,
        is_own_user: uid == Uid::effective().as_raw(),
        group: (own_group != Some(gid)).then(|| {
            Group::from_gid(Gid::from_raw(gid))
                .ok()
                .flatten()
                .map_or_else(|| gid.to_string(), |group| group.name)
        }),
        umask: status
            .lines()
            .find_map(|line| line.strip_prefix("Umask:"))
            .and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()),
        nice: nice(&proc),
        unit: unit(&proc),
        pid_file: pid_file(pid, &name, &arguments, &working_dir),
        name,
        arguments,
        working_dir,
        environment,
        open,
    })
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What stands in a file of /proc as texts that end with NULs.
fn texts(path: &Path) -> io::Result<Vec<String>> {
    let bytes = fs::read(path)?;
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(&bytes);
    Ok(bytes.split(|&byte| byte == 0).map(lossy).collect())
}

fn arguments(proc: &Path) -> io::Result<Vec<String>> {
    let mut arguments = texts(&proc.join("cmdline"))?;
    // a program that writes a title over its arguments leaves empty ones behind it
    let is_title = arguments
        .first()
        .is_some_and(|first| first.contains(' ') && !Path::new(first).exists());
    while is_title && arguments.last().is_some_and(String::is_empty) {
        arguments.pop();
    }
    Ok(arguments)
}

fn environment(proc: &Path) -> io::Result<BTreeMap<String, String>> {
    let variables = texts(&proc.join("environ"))?;
    Ok(variables
        .iter()
        .filter_map(|variable| variable.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect())
}

fn nice(proc: &Path) -> i32 {
    let read = || -> Option<i32> {
        let stat = fs::read(proc.join("stat")).ok()?;
        let close = stat.iter().rposition(|&byte| byte == b')')?;
        // field 19; the first after the name is field 3
        lossy(&stat[close + 1..])
            .split_ascii_whitespace()
            .nth(16)?
            .parse()
            .ok()
    };
    read().unwrap_or_default()
}

/// The unit that it is in, where systemd runs here; not the one that this very program is in.
fn unit(proc: &Path) -> Option<Place> {
    if !is_booted() {
        return None;
    }
    let unit = scope::place(&fs::read_to_string(proc.join("cgroup")).ok()?)?;
    let own = scope::place(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
    (unit.is_service() && own.as_ref() != Some(&unit)).then_some(unit)
}

fn open_files(proc: &Path) -> io::Result<Vec<Open>> {
    let mut open: Vec<Open> = Vec::new();
    let mut numbers: Vec<u32> = fs::read_dir(proc.join("fd"))?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    for number in numbers {
        let Some(flags) = flags(&proc.join(format!("fdinfo/{number}"))) else {
            continue;
        };
        let Ok(path) = fs::read_link(proc.join(format!("fd/{number}"))) else {
            continue;
        };
        // what the name means now has to be the file that is written to: it may have been rotated away
        let same = fs::metadata(proc.join(format!("fd/{number}")))
            .ok()
            .zip(fs::metadata(&path).ok())
            .filter(|(held, named)| held.ino() == named.ino() && held.dev() == named.dev());
        let Some((held, _)) = same else { continue };
        if flags & libc::O_ACCMODE == libc::O_RDONLY || !held.is_file() {
            continue;
        }
        open.push(Open {
            number,
            path,
            appends: flags & libc::O_APPEND != 0,
            written: held.modified().ok(),
            owner: held.uid(),
        });
    }
    Ok(open)
}

fn flags(fdinfo: &Path) -> Option<i32> {
    let text = fs::read_to_string(fdinfo).ok()?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
    i32::from_str_radix(flags.trim(), 8).ok()
}

/// Whether a file that is written to is a log: it is appended to or called one, and nothing else by its name.
pub(super) fn is_log(open: &Open) -> bool {
    let name = open
        .path
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase())
        .unwrap_or_default();
    let ending = name.rsplit('.').next().unwrap_or_default();
    if NO_LOGS.contains(&ending) {
        return false;
    }
    let called = name.contains("log") || ["out", "err"].contains(&ending);
    called || open.appends || open.number == 1 || open.number == 2
}

/// Looks for a file that its PID is in: where programs keep them, where it works, and where its arguments point.
fn pid_file(pid: i32, name: &str, arguments: &[String], working_dir: &Path) -> Option<PathBuf> {
    let holds = |path: &Path| {
        let mut bytes = Vec::new();
        files::open(path, Links::Follow).is_ok_and(|(file, _)| {
            file.take(PID_FILE_LIMIT + 1)
                .read_to_end(&mut bytes)
                .is_ok()
        }) && parse_pid_file(&bytes) == Ok(pid)
    };
    let mentioned: Vec<PathBuf> = arguments
        .iter()
        // a title holds all of them in one
        .flat_map(|argument| argument.split(['=', ' ', ',']))
        .skip(1)
        .filter(|part| part.contains('/') || part.contains(".pid"))
        .map(|part| working_dir.join(part))
        .collect();
    if let Some(path) = mentioned.iter().find(|path| holds(path)) {
        return Some(path.clone());
    }
    let mut names = BTreeSet::from([name.to_owned()]);
    if let Some(program) = arguments
        .first()
        .and_then(|first| Path::new(first).file_name())
    {
        names.insert(program.to_string_lossy().into_owned());
    }
    let run = Path::new("/run");
    let mut directories = vec![working_dir.to_owned(), working_dir.join("run")];
    for path in &mentioned {
        directories.push(path.clone());
        directories.extend(path.parent().map(Path::to_owned));
    }
    directories.extend(names.iter().map(|name| run.join(name)));
    directories.push(run.to_owned());
    directories
        .iter()
        .flat_map(|directory| candidates(directory))
        .find(|path| holds(path))
}

/// The files of a directory that may be PID files, by their names.
fn candidates(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .take(ENTRIES)
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.as_bytes().windows(3).any(|part| part == b"pid"))
        })
        .collect();
    found.sort();
    found
}

/// A path as the kernel gives it for a file that is gone.
pub(super) fn is_deleted(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b" (deleted)")
}

/// The programs of a name, without the helpers that they themselves started.
pub(super) fn named(name: &str, table: &process_table::ProcessTable) -> Vec<i32> {
    let is_called = |pid: i32, command: &[u8]| {
        let first = command
            .split(|&byte| byte == b' ')
            .next()
            .unwrap_or_default();
        let base = OsString::from_vec(first.to_vec());
        let base = Path::new(&base).file_name().unwrap_or_default().to_owned();
        base == name
            || base == format!("{name}:").as_str()
            || fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm.trim_end() == name)
    };
    let all: BTreeMap<i32, i32> = table
        .all()
        .filter(|process| !process.kernel && !table.is_lineage(process.pid))
        .filter(|process| process.state != process_table::ProcessState::Zombie)
        .filter(|process| is_called(process.pid, &process.command))
        .map(|process| (process.pid, process.parent))
        .collect();
    all.iter()
        .filter(|(_, parent)| !all.contains_key(parent))
        .map(|(&pid, _)| pid)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_known_by_how_they_are_written_and_called() {
        let open = |path: &str, appends, number| Open {
            number,
            path: path.into(),
            appends,
            written: None,
            owner: 0,
        };
        for (file, log) in [
            (open("/var/log/redis.log", false, 5), true),
            (open("/var/log/syslog", true, 5), true),
            (open("/srv/a/events", true, 5), true),
            (open("/srv/a/nohup.out", false, 1), true),
            (open("/srv/a/data.db", true, 5), false),
            (open("/srv/a/appendonly.aof", true, 5), false),
            (open("/srv/a/a.pid", true, 5), false),
            (open("/srv/a/base/16384/2601", false, 5), false),
        ] {
            assert_eq!(is_log(&file), log, "{file:?}");
        }
    }
}
