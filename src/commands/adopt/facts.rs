//! What can be found out about a program that runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use nix::unistd::{Gid, Group, Uid, User};

use super::arguments::{self, Runs};
use super::pid_file::{self, PidFile};
use super::privileges::Privileges;
use super::unit::{self, InUnit};
use crate::check::log::Stamp;
use crate::process_table;

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
    /// Who may write it, as the mode has it.
    pub(super) mode: u32,
}

/// What was read back of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogSample {
    /// How many lines were read.
    pub(super) lines: u64,
    /// How many of them are stamped.
    pub(super) stamped: u64,
    /// How they are.
    pub(super) stamp: Stamp,
    /// How far the last stamp is from the last write.
    pub(super) apart: Duration,
    /// From the first stamp to the last.
    pub(super) span: Duration,
    /// The longest time between two stamps, or since the last one, and when it began.
    pub(super) longest: Option<(Duration, DateTime<Utc>)>,
}

/// What the command line of a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The arguments that it was started with.
    Arguments,
    /// A text that it has written over them.
    Title(String),
    /// Its arguments, which it has cut up or shortened.
    Edited,
}

/// What is known of a program.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Its PID.
    pub(super) pid: i32,
    /// The name that the kernel has for it.
    pub(super) name: String,
    /// The file that is run; of one that was exchanged or removed, where it was.
    pub(super) program: Option<PathBuf>,
    /// Its arguments, the program's name first, as they stand now.
    pub(super) arguments: Vec<String>,
    /// How many of them it was started with, where that can be read.
    pub(super) started_with: Option<usize>,
    /// Its working directory; of one that was removed, where it was.
    pub(super) working_dir: PathBuf,
    /// Whether there is no such directory any more.
    pub(super) working_dir_is_gone: bool,
    /// Whether it runs a script that is not where it should be.
    pub(super) script_is_gone: bool,
    /// The root of its file system, where that is not ours.
    pub(super) root: Option<PathBuf>,
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
    /// The variables that those who started it had as well: as a rule they were not set for it.
    pub(super) inherited: BTreeSet<String>,
    /// Its mask of permissions.
    pub(super) umask: Option<u32>,
    /// Its niceness.
    pub(super) nice: i32,
    /// The systemd unit that it is in.
    pub(super) unit: Option<InUnit>,
    /// The file that its PID is in.
    pub(super) pid_file: Option<PidFile>,
    /// Files that hold its PID as well, and are called after other programs.
    pub(super) other_pid_files: Vec<PathBuf>,
    /// The files that it writes to.
    pub(super) open: Vec<Open>,
    /// What its logs say of the time between two lines, by their paths in the table; an error says why nothing.
    pub(super) samples: BTreeMap<PathBuf, Result<LogSample, String>>,
    /// Of its standard output and error, those that go to a pipe.
    pub(super) pipes: Vec<u32>,
    /// The terminal that it runs in.
    pub(super) terminal: Option<String>,
    /// What tells whether it was root.
    pub(super) privileges: Privileges,
}

/// A process has no more ancestors than that which matter.
const ANCESTORS: usize = 32;

/// What `/proc/PID` gives for a path that is gone stands behind it.
const DELETED: &str = " (deleted)";

/// A path without that, and whether there is nothing any more.
fn undeleted(path: PathBuf) -> PathBuf {
    match path.to_str().and_then(|text| text.strip_suffix(DELETED)) {
        Some(text) if !path.exists() => PathBuf::from(text),
        _ => path,
    }
}

/// Looks at a program. An error says what could not be read.
pub(super) fn look(pid: i32, table: &process_table::ProcessTable) -> Result<Facts, String> {
    let proc = readable(pid);
    let unreadable = |error: io::Error| {
        let help = if error.kind() == io::ErrorKind::PermissionDenied {
            "; run this as root, or as the user of that program"
        } else {
            ""
        };
        format!("what PID {pid} is cannot be read: {error}{help}")
    };
    let arguments = texts(&proc.join("cmdline")).map_err(unreadable)?;
    let working_dir = fs::read_link(proc.join("cwd")).map_err(unreadable)?;
    let working_dir = undeleted(working_dir);
    let environment = environment(&proc).map_err(unreadable)?;
    let open = open_files(&proc).map_err(unreadable)?;
    let status = fs::read_to_string(proc.join("status")).map_err(unreadable)?;
    let (uid, gid) = (
        id(&status, "Uid:").ok_or_else(|| unreadable(io::ErrorKind::InvalidData.into()))?,
        id(&status, "Gid:").unwrap_or_default(),
    );
    let account = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let own_group = account.as_ref().map(|user| user.gid.as_raw());
    let name = fs::read_to_string(proc.join("comm"))
        .map_err(unreadable)?
        .trim_end()
        .to_owned();
    let stat = stat_fields(&proc).unwrap_or_default();
    let program = fs::read_link(proc.join("exe")).ok().map(undeleted);
    let user = account.map_or_else(|| uid.to_string(), |user| user.name);
    let (pid_file, other_pid_files) = pid_file::find(&pid_file::Asked {
        pid,
        uid,
        name: &name,
        program: program.as_deref(),
        arguments: &arguments,
        working_dir: &working_dir,
        started: started(&stat),
    });
    Ok(Facts {
        pid,
        working_dir_is_gone: !working_dir.is_dir(),
        script_is_gone: script_is_gone(&arguments, &working_dir),
        inherited: inherited(pid, &environment, table),
        started_with: argument_count(&proc, &stat),
        root: fs::read_link(proc.join("root"))
            .ok()
            .filter(|root| root != Path::new("/")),
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
        nice: field(&stat, 19).unwrap_or_default(),
        unit: unit::of_process(&proc, pid, table),
        pid_file,
        other_pid_files,
        pipes: pipes(&proc),
        terminal: terminal(&proc, &stat),
        privileges: Privileges::of(&proc, uid, &status, program.as_deref()),
        user,
        uid,
        name,
        program,
        arguments,
        working_dir,
        environment,
        open,
        samples: BTreeMap::new(),
    })
}

impl Facts {
    /// What its command line is.
    pub(super) fn shape(&self) -> Shape {
        let words: Vec<&str> = self
            .arguments
            .iter()
            .map(String::as_str)
            .filter(|word| !word.is_empty())
            .collect();
        let title = || Shape::Title(words.concat());
        if let Some(count) = self.started_with
            && count != self.arguments.len()
        {
            return if words.len() < 2 {
                title()
            } else {
                Shape::Edited
            };
        }
        let [only] = words.as_slice() else {
            return Shape::Arguments;
        };
        if only.contains(' ') && !self.working_dir.join(only).exists() {
            return title();
        }
        // what could not be counted: an interpreter has more than a name, and that name is its own
        let program = self
            .program
            .as_ref()
            .map(|program| program.to_string_lossy().into_owned())
            .unwrap_or_default();
        if self.started_with.is_none()
            && arguments::is_interpreter(&program)
            && !arguments::is_interpreter(only)
        {
            return title();
        }
        Shape::Arguments
    }
}

/// Where the kernel tells of a process: of one whose main thread has ended, only with its other threads.
fn readable(pid: i32) -> PathBuf {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let has_ended = |path: &Path| {
        fs::read_link(path.join("cwd")).is_err_and(|error| process_table::is_gone(&error))
    };
    if !has_ended(&proc) {
        return proc;
    }
    let threads = fs::read_dir(proc.join("task")).into_iter().flatten();
    threads
        .flatten()
        .map(|thread| thread.path())
        .find(|thread| !has_ended(thread))
        .unwrap_or(proc)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What stands in a file of /proc as texts that end with NULs.
pub(super) fn texts(path: &Path) -> io::Result<Vec<String>> {
    let bytes = fs::read(path)?;
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(&bytes);
    Ok(bytes.split(|&byte| byte == 0).map(lossy).collect())
}

fn environment(proc: &Path) -> io::Result<BTreeMap<String, String>> {
    let variables = texts(&proc.join("environ"))?;
    Ok(variables
        .iter()
        .filter_map(|variable| variable.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect())
}

/// The variables that an ancestor had been started with, with the same values.
fn inherited(
    pid: i32,
    own: &BTreeMap<String, String>,
    table: &process_table::ProcessTable,
) -> BTreeSet<String> {
    let above = |pid: &i32| table.parent(*pid).filter(|&parent| parent > 0);
    std::iter::successors(above(&pid), above)
        .take(ANCESTORS)
        .filter_map(|ancestor| environment(Path::new(&format!("/proc/{ancestor}"))).ok())
        .flatten()
        .filter(|(key, value)| own.get(key) == Some(value))
        .map(|(key, _)| key)
        .collect()
}

/// Whether what an interpreter runs is surely a file, and there is none: modules, commands and projects have no ending.
fn script_is_gone(arguments: &[String], working_dir: &Path) -> bool {
    let Runs::Script(at) = arguments::runs(arguments) else {
        return false;
    };
    let script = Path::new(arguments[at].trim_start_matches("--file="));
    (script.is_absolute() || script.extension().is_some()) && !working_dir.join(script).exists()
}

/// The effective id of a line of /proc/PID/status that has the real, the effective, the saved and that for files.
fn id(status: &str, key: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The fields of /proc/PID/stat from the third on: the second may hold blanks.
fn stat_fields(proc: &Path) -> Option<Vec<String>> {
    let stat = fs::read(proc.join("stat")).ok()?;
    let close = stat.iter().rposition(|&byte| byte == b')')?;
    let fields = lossy(&stat[close + 1..]);
    Some(fields.split_ascii_whitespace().map(str::to_owned).collect())
}

/// A field by its number in proc(5).
fn field<T: std::str::FromStr>(stat: &[String], number: usize) -> Option<T> {
    stat.get(number - 3)?.parse().ok()
}

/// When it was started, by the wall clock as it is now.
fn started(stat: &[String]) -> Option<SystemTime> {
    let ticks: u64 = field(stat, 22)?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
    let up = Duration::try_from_secs_f64(uptime).ok()?;
    let since_boot =
        Duration::from_millis(ticks.saturating_mul(1000) / process_table::ticks_per_second());
    SystemTime::now().checked_sub(up.saturating_sub(since_boot))
}

/// How many arguments the kernel gave it, which stays where it was when the arguments are written over. Nobody else may
/// look there but who may trace it.
fn argument_count(proc: &Path, stat: &[String]) -> Option<usize> {
    let at: u64 = field(stat, 28).filter(|&at| at > 0)?;
    let mut word = [0; 8];
    File::open(proc.join("mem"))
        .ok()?
        .read_exact_at(&mut word, at)
        .ok()?;
    let count = u64::from_ne_bytes(word);
    // a program of 32 bits has a pointer in the upper half
    let count = if count > u64::from(u32::MAX) {
        count & u64::from(u32::MAX)
    } else {
        count
    };
    usize::try_from(count)
        .ok()
        .filter(|&count| (1..1_000_000).contains(&count))
}

fn pipes(proc: &Path) -> Vec<u32> {
    [1, 2]
        .into_iter()
        .filter(|number| {
            fs::metadata(proc.join(format!("fd/{number}")))
                .is_ok_and(|held| held.file_type().is_fifo())
                && fs::read_link(proc.join(format!("fd/{number}")))
                    .is_ok_and(|path| path.to_string_lossy().starts_with("pipe:"))
        })
        .collect()
}

/// The terminal that its standard streams are, or that controls it.
fn terminal(proc: &Path, stat: &[String]) -> Option<String> {
    let of_stream = (0..3).find_map(|number| {
        let path = fs::read_link(proc.join(format!("fd/{number}"))).ok()?;
        let path = path.to_string_lossy().into_owned();
        (path.starts_with("/dev/pts/") || path.starts_with("/dev/tty")).then_some(path)
    });
    // who has none that controls it only has an old stream open
    of_stream.filter(|_| field(stat, 7).is_none_or(|device: i64| device != 0))
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
            mode: held.mode(),
        });
    }
    Ok(open)
}

fn flags(fdinfo: &Path) -> Option<i32> {
    let text = fs::read_to_string(fdinfo).ok()?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
    i32::from_str_radix(flags.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_of_this_process_are_counted() {
        let stat = stat_fields(Path::new("/proc/self")).unwrap();
        let arguments = texts(Path::new("/proc/self/cmdline")).unwrap();
        // a sandbox may forbid it
        if let Some(count) = argument_count(Path::new("/proc/self"), &stat) {
            assert_eq!(count, arguments.len());
        }
        assert!(started(&stat).unwrap() <= SystemTime::now());
    }

    #[test]
    fn a_path_that_is_gone_is_given_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("x (deleted)");
        assert_eq!(undeleted(odd.clone()), dir.path().join("x"));
        fs::write(&odd, "").unwrap();
        assert_eq!(undeleted(odd.clone()), odd);
        assert_eq!(undeleted("/bin".into()), Path::new("/bin"));
    }
}
