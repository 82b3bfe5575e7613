//! The file that a program's PID is in: which of several it is, and who writes it.
//!
//! A number alone is no proof. In a container PIDs are low and /run may outlive them, so that a file that another daemon
//! left holds the same number. What counts is the name, and that the file is not older than the process.

use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use memchr::memmem;

use super::arguments::{self, Runs};
use super::names;
use crate::check::process::parse_pid_file;
use crate::files::{self, Links};

/// No longer file is a PID file.
const PID_FILE_LIMIT: u64 = 4096;
/// Of a directory, so many entries are looked at.
const ENTRIES: usize = 2000;
/// So much of a file is searched for the name of a PID file.
const SEARCHED: u64 = 64 << 20;
/// A file may seem to be older than its process by so much: both times are rounded.
const SLACK: Duration = Duration::from_secs(2);

/// A PID file of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PidFile {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Whether the program, its arguments or its config mention it, so that the next start writes it again.
    pub(super) is_mentioned: bool,
    /// Whether the program's user can make it.
    pub(super) can_be_made: bool,
}

/// The program whose PID file is looked for.
pub(super) struct Asked<'a> {
    pub(super) pid: i32,
    pub(super) uid: u32,
    pub(super) name: &'a str,
    pub(super) program: Option<&'a Path>,
    pub(super) arguments: &'a [String],
    pub(super) working_dir: &'a Path,
    pub(super) started: Option<SystemTime>,
}

/// How sure it is that a file is this program's; the least is the surest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Mentioned,
    SameName,
    OwnDirectory,
    Stranger,
}

/// The file that its PID is in, and those that hold it as well but seem to be another program's.
pub(super) fn find(asked: &Asked<'_>) -> (Option<PidFile>, Vec<PathBuf>) {
    let mentioned = mentioned(asked);
    let mut found: Vec<(Claim, PathBuf)> = mentioned
        .iter()
        .map(|path| (Claim::Mentioned, path.clone()))
        .filter(|(_, path)| holds(path, asked))
        .collect();
    for (directory, is_own) in directories(asked, &mentioned) {
        for path in candidates(&directory) {
            if found.iter().any(|(_, known)| is_same(known, &path)) || !holds(&path, asked) {
                continue;
            }
            found.push((claim(&path, is_own, asked), path));
        }
    }
    found.sort();
    let strangers = found
        .iter()
        .filter(|(claim, _)| *claim == Claim::Stranger)
        .map(|(_, path)| path.clone())
        .collect();
    let best = found
        .into_iter()
        .find(|(claim, _)| *claim != Claim::Stranger)
        .map(|(claim, path)| PidFile {
            is_mentioned: claim == Claim::Mentioned || is_mentioned(&path, asked, &mentioned),
            can_be_made: can_be_made(&path, asked.uid),
            path,
        });
    (best, strangers)
}

fn is_same(one: &Path, other: &Path) -> bool {
    one == other
        || one
            .canonicalize()
            .ok()
            .is_some_and(|one| Some(one) == other.canonicalize().ok())
}

/// The paths among its arguments. A title holds all of them in one.
fn mentioned(asked: &Asked<'_>) -> Vec<PathBuf> {
    asked
        .arguments
        .iter()
        .flat_map(|argument| argument.split(['=', ' ', ',']))
        .skip(1)
        .filter(|part| part.contains('/') || part.contains(".pid"))
        .map(|part| {
            asked
                .working_dir
                .join(part.trim_matches(['(', ')', '[', ']']))
        })
        .collect()
}

/// Where PID files are kept, and whether only this program's own can be there.
fn directories(asked: &Asked<'_>, mentioned: &[PathBuf]) -> Vec<(PathBuf, bool)> {
    let mut all = Vec::new();
    let shared = [
        "/", "/root", "/home", "/tmp", "/var/tmp", "/run", "/etc", "/usr", "/var",
    ];
    let is_shared = |path: &Path| shared.iter().any(|known| path == Path::new(known));
    if !is_shared(asked.working_dir) {
        for below in ["", "run", "tmp", "tmp/pids", "var/run"] {
            all.push((asked.working_dir.join(below), true));
        }
    }
    for path in mentioned {
        if path.is_dir() {
            all.push((path.clone(), !is_shared(path)));
        } else {
            all.extend(path.parent().map(|parent| (parent.to_owned(), false)));
        }
    }
    let run = Path::new("/run");
    all.push((run.to_owned(), false));
    if let Ok(entries) = fs::read_dir(run) {
        let mut below: Vec<(PathBuf, bool)> = entries
            .flatten()
            .take(ENTRIES)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| {
                // one that was made for its user
                let is_own =
                    asked.uid != 0 && entry.metadata().is_ok_and(|meta| meta.uid() == asked.uid);
                (entry.path(), is_own)
            })
            .collect();
        below.sort();
        all.extend(below);
    }
    let mut known: Vec<(PathBuf, bool)> = Vec::new();
    for (path, is_own) in all {
        if !known.iter().any(|(other, _)| *other == path) {
            known.push((path, is_own));
        }
    }
    known
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

/// Whether a file holds its PID and is not from before it was started.
fn holds(path: &Path, asked: &Asked<'_>) -> bool {
    let mut bytes = Vec::new();
    let Ok((file, meta)) = files::open(path, Links::Follow) else {
        return false;
    };
    file.take(PID_FILE_LIMIT + 1)
        .read_to_end(&mut bytes)
        .is_ok()
        && parse_pid_file(&bytes) == Ok(asked.pid)
        && asked.started.is_none_or(|started| {
            // a file may bear any time, also the last one that there is
            let latest = |written: SystemTime| written.checked_add(SLACK).unwrap_or(written);
            (meta.modified()).is_ok_and(|written| latest(written) >= started)
        })
}

fn claim(path: &Path, is_own: bool, asked: &Asked<'_>) -> Claim {
    let own_names = names(asked);
    let of_file = [path.file_stem(), path.parent().and_then(Path::file_name)];
    let is_named = of_file
        .into_iter()
        .flatten()
        .map(|name| letters(&name.to_string_lossy()))
        .filter(|name| name.len() > 1 && name != "run" && name != "pid")
        .any(|name| own_names.iter().any(|own| is_alike(own, &name)));
    if is_named {
        Claim::SameName
    } else if is_own {
        Claim::OwnDirectory
    } else {
        Claim::Stranger
    }
}

/// What the program may be called, in letters alone.
fn names(asked: &Asked<'_>) -> Vec<String> {
    let mut names = vec![asked.name.to_owned()];
    let is_interpreter = asked
        .program
        .is_some_and(|program| arguments::is_interpreter(&program.to_string_lossy()));
    if !is_interpreter {
        names.extend(
            asked
                .program
                .and_then(Path::file_name)
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    if let Some(first) = asked.arguments.first() {
        // the name that a title begins with
        let first = first.split([' ', ':']).next().unwrap_or_default();
        names.extend(
            Path::new(first)
                .file_name()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    if let Runs::Script(at) | Runs::Module(at) = arguments::runs(asked.arguments) {
        names.extend(
            Path::new(&asked.arguments[at])
                .file_stem()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    names.extend(names::name(asked.arguments, asked.working_dir));
    names
        .iter()
        .filter(|name| !arguments::is_interpreter(name))
        .map(|name| letters(name))
        .filter(|name| name.len() > 1)
        .collect()
}

/// `phpfpm` of both `php-fpm8.2` and `php8.2-fpm`.
fn letters(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_alphabetic())
        .flat_map(char::to_lowercase)
        .collect()
}

fn is_alike(one: &str, other: &str) -> bool {
    one == other
        || (one.len() > 2 && other.starts_with(one))
        || (other.len() > 2 && one.starts_with(other))
}

/// Whether the program knows of the file: then it writes it itself.
fn is_mentioned(path: &Path, asked: &Asked<'_>, mentioned: &[PathBuf]) -> bool {
    // a database keeps it in the directory that it is given
    if mentioned
        .iter()
        .any(|known| known.is_dir() && known.parent().is_some() && path.starts_with(known))
    {
        return true;
    }
    let Some(name) = path.file_name() else {
        return false;
    };
    // a name that says nothing is looked for with its directory
    let needle = if path.file_stem().is_some_and(|stem| stem == "pid") {
        path.as_os_str().as_bytes()
    } else {
        name.as_bytes()
    };
    let is_in = |path: &Path, needle: &[u8]| contains(path, needle).unwrap_or(false);
    let script = match arguments::runs(asked.arguments) {
        Runs::Script(at) => Some(asked.working_dir.join(&asked.arguments[at])),
        _ => None,
    };
    let interpreter = asked
        .program
        .is_some_and(|program| arguments::is_interpreter(&program.to_string_lossy()));
    if let Some(program) = asked.program.filter(|_| !interpreter)
        // a name that is put together
        && (is_in(program, needle) || is_in(program, b"%s.pid"))
    {
        return true;
    }
    script
        .iter()
        .chain(mentioned)
        .chain(&configs(asked.name))
        .any(|path| is_in(path, needle))
}

/// The configs of a program in /etc, by its name.
fn configs(name: &str) -> Vec<PathBuf> {
    let etc = Path::new("/etc");
    let mut found = vec![etc.join(format!("{name}.conf"))];
    let short = name.trim_end_matches("-server").trim_end_matches('d');
    for directory in [name, short] {
        found.extend(
            fs::read_dir(etc.join(directory))
                .into_iter()
                .flatten()
                .flatten()
                .take(100)
                .map(|entry| entry.path()),
        );
    }
    found
}

fn contains(path: &Path, needle: &[u8]) -> io::Result<bool> {
    let Ok((file, meta)) = files::open(path, Links::Follow) else {
        return Ok(false);
    };
    if !meta.is_file() || meta.len() > SEARCHED {
        return Ok(false);
    }
    let mut bytes = Vec::new();
    file.take(SEARCHED).read_to_end(&mut bytes)?;
    Ok(memmem::find(&bytes, needle).is_some())
}

/// Whether a user can make the file again, once root has removed it; or write it as it is.
fn can_be_made(path: &Path, uid: u32) -> bool {
    let meta = |path: Option<&Path>| path.and_then(|path| fs::metadata(path).ok());
    let (Some(directory), Some(file)) = (meta(path.parent()), meta(Some(path))) else {
        return false;
    };
    let is_own = |meta: &fs::Metadata| meta.uid() == uid && meta.mode() & 0o200 != 0;
    // in a directory of everybody's, such as /tmp, another user's file can neither be written nor replaced
    let is_everybodys = directory.mode() & 0o002 != 0 && file.uid() == uid;
    uid == 0 || is_own(&directory) || is_everybodys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked<'a>(arguments: &'a [String], working_dir: &'a Path) -> Asked<'a> {
        Asked {
            pid: 4711,
            uid: 0,
            name: "prog",
            program: Some(Path::new("/usr/bin/python3.11")),
            arguments,
            working_dir,
            started: Some(SystemTime::now()),
        }
    }

    #[test]
    fn a_name_counts_and_an_old_file_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let arguments = ["python3".to_owned(), "/opt/prog.py".to_owned()];
        let asked = asked(&arguments, dir.path());
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let found = || {
            find(&asked)
                .0
                .map(|found| found.path.file_name().unwrap().to_owned())
        };
        write("prog.pid", "12\n");
        assert_eq!(found(), None);
        write("aaa.pid", "4711\n");
        assert_eq!(found().unwrap(), "aaa.pid", "the only one of its directory");
        write("prog.pid", "4711\n");
        assert_eq!(found().unwrap(), "prog.pid");
        let old = SystemTime::now() - Duration::from_secs(60);
        fs::File::options()
            .append(true)
            .open(dir.path().join("prog.pid"))
            .unwrap()
            .set_modified(old)
            .unwrap();
        assert_eq!(found().unwrap(), "aaa.pid");
    }

    #[test]
    fn a_file_may_bear_the_last_time_that_there_is() {
        // most file systems on disks keep no such time
        let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
            return;
        };
        let path = dir.path().join("prog.pid");
        fs::write(&path, "4711\n").unwrap();
        let file = fs::File::options().append(true).open(&path).unwrap();
        let last = SystemTime::UNIX_EPOCH + Duration::from_secs(i64::MAX.unsigned_abs());
        file.set_modified(last).unwrap();
        let arguments = ["prog".to_owned()];
        assert!(holds(&path, &asked(&arguments, dir.path())));
    }

    #[test]
    fn names_are_held_against_each_other_by_their_letters() {
        for (name, path, expected) in [
            ("php-fpm8.2", "/run/php/php8.2-fpm.pid", Claim::SameName),
            (
                "redis-server",
                "/run/redis/redis-server.pid",
                Claim::SameName,
            ),
            (
                "zabbix_agentd",
                "/run/zabbix/zabbix_agentd.pid",
                Claim::SameName,
            ),
            ("cron", "/run/crond.pid", Claim::SameName),
            (
                "murmurd",
                "/run/mumble-server/mumble-server.pid",
                Claim::Stranger,
            ),
            ("apache2", "/run/beanstalkd.pid", Claim::Stranger),
            ("prog", "/run/aaa-other.pid", Claim::Stranger),
            ("prog", "/run/prog.pid", Claim::SameName),
            ("x", "/run/prog/pid", Claim::Stranger),
            ("prog", "/run/prog/pid", Claim::SameName),
        ] {
            let arguments = [name.to_owned()];
            let asked = Asked {
                name,
                program: None,
                ..asked(&arguments, Path::new("/"))
            };
            assert_eq!(
                claim(Path::new(path), false, &asked),
                expected,
                "{name} {path}"
            );
        }
        let arguments = ["murmurd".to_owned()];
        let asked = asked(&arguments, Path::new("/"));
        assert_eq!(
            claim(Path::new("/run/x/y.pid"), true, &asked),
            Claim::OwnDirectory
        );
    }

    #[test]
    fn a_script_that_mentions_its_pid_file_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("prog.py");
        let arguments = ["python3".to_owned(), script.display().to_string()];
        let asked = asked(&arguments, Path::new("/"));
        let path = dir.path().join("prog.pid");
        fs::write(&script, "print(1)").unwrap();
        assert!(!is_mentioned(&path, &asked, &mentioned(&asked)));
        fs::write(&script, "open('prog.pid', 'w')").unwrap();
        assert!(is_mentioned(&path, &asked, &mentioned(&asked)));
    }
}
