//! From the path in a config to an open, regular file, or to a sentence that says why there is none.
//!
//! Nothing here waits for anything. Missing and unreadable are told apart, because only the first is a reason to
//! restart.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use glob::MatchOptions;
use memchr::memchr3;
use nix::errno::Errno;

use super::bytes::Bytes;
use crate::clock;
use crate::files::{self, Refusal};

pub(super) use crate::files::Links;

/// A glob that matches more files than this is not listed further.
const LISTED: usize = 100_000;

/// Of the matches of a glob, so many are looked at, the last by name: names with a date sort by age.
const CONSIDERED: usize = 10_000;

/// Why there is no file to read.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It is not there: the sentence without the log's name.
    Missing(String),
    /// It may be there, and cannot be read: the sentence without the log's name.
    Unreadable(String),
}

/// A regular file, open for reading, and what it was at that instant.
#[derive(Debug)]
pub(super) struct Opened {
    /// By which path.
    pub(super) path: PathBuf,
    pub(super) bytes: Bytes,
    pub(super) dev: u64,
    pub(super) ino: u64,
    /// In bytes. Nothing beyond is read in this run, however the file grows.
    pub(super) size: u64,
    /// The modification time; never the change time, which a chmod moves.
    pub(super) modified: DateTime<Utc>,
    /// The change time in seconds and nanoseconds: nobody can set it.
    changed: (i64, i64),
    /// A time from before it was opened.
    pub(super) asked: DateTime<Utc>,
}

/// The kernel's clock for files stands still for a tick at a time, 10 ms at the most (`CONFIG_HZ` is 100 or more): for so
/// long, twice that, a second change may bear the time of the first.
const TICKS: TimeDelta = TimeDelta::milliseconds(20);

/// Whether a file that was changed at a time would bear another time, were it changed after `asked`.
fn would_tell(changed: (i64, i64), asked: DateTime<Utc>) -> bool {
    if changed.1 == 0 {
        // on some file systems times are whole seconds
        return changed.0.saturating_add(1) < asked.timestamp();
    }
    clock::of_file(changed)
        .checked_add_signed(TICKS)
        .is_some_and(|over| over < asked)
}

impl Opened {
    /// Whether nothing was done to the file since it was opened, as far as its times can tell.
    pub(super) fn is_untouched(&self) -> bool {
        would_tell(self.changed, self.asked)
            && self
                .bytes
                .file()
                .metadata()
                .is_ok_and(|meta| (meta.len(), changed(&meta)) == (self.size, self.changed))
    }

    /// Whether both are one file.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }
}

/// Opens a regular file for reading, without waiting and without taking a terminal.
pub(super) fn open(path: &Path, links: Links) -> Result<Opened, Trouble> {
    open_io(path, links).map_err(|error| match error {
        Refusal::Kind(kind) => Trouble::Unreadable(format!("it is {kind}, not a regular file")),
        Refusal::Io(error) => explain(path, &error),
    })
}

fn open_io(path: &Path, links: Links) -> Result<Opened, Refusal> {
    let asked = Utc::now();
    let (file, meta) = files::open(path, links)?;
    Ok(Opened {
        path: path.to_owned(),
        bytes: Bytes::new(file, meta.len()),
        dev: meta.dev(),
        ino: meta.ino(),
        size: meta.len(),
        modified: modified(&meta),
        changed: changed(&meta),
        asked,
    })
}

fn changed(meta: &Metadata) -> (i64, i64) {
    (meta.ctime(), meta.ctime_nsec())
}

/// The modification time.
pub(super) fn modified(meta: &Metadata) -> DateTime<Utc> {
    clock::of_file((meta.mtime(), meta.mtime_nsec()))
}

/// Why a path that a person wrote cannot be opened.
fn explain(path: &Path, error: &io::Error) -> Trouble {
    if error.kind() != io::ErrorKind::NotFound {
        return Trouble::Unreadable(reason(error));
    }
    if let Ok(target) = fs::read_link(path) {
        return Trouble::Missing(format!(
            "it is a symbolic link to {}, which does not exist",
            target.display()
        ));
    }
    Trouble::Missing(match path.parent() {
        // a bare name has an empty one, which is the current directory
        Some(directory) if !directory.as_os_str().is_empty() && !directory.exists() => {
            format!(
                "no such file, and its directory {} does not exist",
                directory.display()
            )
        }
        _ => "no such file".to_owned(),
    })
}

/// What an error of the system means for somebody who wants the log read.
pub(super) fn reason(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES | Errno::EPERM) => {
            "permission denied; let the watchdog's user read it and enter its directories"
                .to_owned()
        }
        Some(Errno::ENOTDIR) => "a part of its path is not a directory".to_owned(),
        Some(Errno::ELOOP) => "the symbolic links in its path lead in a circle".to_owned(),
        Some(Errno::EIO) => {
            "input/output error; look at the disk or the mount that it is on".to_owned()
        }
        _ if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it was rotated or truncated again and again while it was read".to_owned()
        }
        _ => format!("it cannot be read: {error}"),
    }
}

/// Whether a path is a glob: it has the characters of one, and no file has it for a name.
pub(super) fn is_glob(path: &Path) -> bool {
    memchr3(b'*', b'?', b'[', path.as_os_str().as_bytes()).is_some()
        && path.to_str().is_some()
        && fs::symlink_metadata(path).is_err()
}

/// The file that a path means: itself, or the newest match of a glob, the greater name of two as new.
pub(super) fn choose(path: &Path) -> Result<PathBuf, Trouble> {
    if !is_glob(path) {
        return Ok(path.to_owned());
    }
    let listing = list(path);
    let mut newest = None;
    let mut other = None;
    for candidate in listing.paths {
        match fs::metadata(&candidate) {
            Ok(meta) if meta.is_file() => {
                let key = Some((modified(&meta), candidate));
                newest = newest.max(key);
            }
            // opening it will say what it is
            _ => other = Some(candidate),
        }
    }
    if let Some(path) = newest.map(|(_, path)| path).or(other) {
        return Ok(path);
    }
    Err(match listing.error {
        Some(error) => Trouble::Unreadable(reason(&error)),
        None => Trouble::Missing("no file matches".to_owned()),
    })
}

/// The paths that a glob matches, by name, with a bound; none for a path that is no glob.
pub(super) fn matches(path: &Path) -> Vec<PathBuf> {
    if is_glob(path) {
        list(path).paths
    } else {
        Vec::new()
    }
}

struct Listing {
    paths: Vec<PathBuf>,
    /// What kept a directory from being listed, beside that it is not there.
    error: Option<io::Error>,
}

fn list(path: &Path) -> Listing {
    let mut listing = Listing {
        paths: Vec::new(),
        error: None,
    };
    let options = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    // what is no valid glob is a file name, and that file is not there
    let found = path
        .to_str()
        .and_then(|pattern| glob::glob_with(pattern, options).ok());
    for entry in found.into_iter().flatten().take(LISTED) {
        match entry {
            Ok(path) => listing.paths.push(path),
            Err(error) => listing.error = listing.error.or(Some(error.into())),
        }
    }
    if listing.paths.is_empty() && listing.error.is_none() {
        // the crate passes over a first directory that it cannot enter
        let first = fixed_directory(path);
        listing.error = fs::read_dir(&first).err();
    }
    listing.error = listing
        .error
        .filter(|error| error.kind() != io::ErrorKind::NotFound);
    listing.paths.sort();
    let beyond = listing.paths.len().saturating_sub(CONSIDERED);
    listing.paths.drain(..beyond);
    listing
}

/// The part of a glob before its first special character, as a directory.
fn fixed_directory(path: &Path) -> PathBuf {
    path.ancestors()
        .skip(1)
        .find(|directory| !directory.to_string_lossy().contains(['*', '?', '[']))
        .map_or_else(PathBuf::new, Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    fn touch(path: &Path, ago: u64) {
        fs::write(path, "x\n").unwrap();
        let then = SystemTime::now() - Duration::from_secs(ago);
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(then)
            .unwrap();
    }

    #[test]
    fn a_glob_takes_its_newest_regular_match() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        touch(&at("a-1.log"), 50);
        touch(&at("a-2.log"), 10);
        touch(&at("a-3.log"), 30);
        touch(&at(".a-4.log"), 0);
        fs::create_dir(at("a-9.log")).unwrap();
        assert_eq!(choose(&at("a-*.log")).unwrap(), at("a-2.log"));
        assert_eq!(choose(&at("a-[13].log")).unwrap(), at("a-3.log"));
        assert_eq!(
            choose(&at("a-9*")).unwrap(),
            at("a-9.log"),
            "opening it says what it is"
        );
        assert!(matches!(choose(&at("b-*")), Err(Trouble::Missing(_))));
        assert!(matches!(choose(&at("no/b-*")), Err(Trouble::Missing(_))));
        assert!(matches!(
            choose(&at("a-1.log/b-*")),
            Err(Trouble::Unreadable(_))
        ));
    }

    #[test]
    fn of_two_as_new_the_greater_name_wins() {
        let dir = tempfile::tempdir().unwrap();
        let then = SystemTime::now() - Duration::from_secs(5);
        for name in ["b.log", "c.log", "a.log"] {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_modified(then).unwrap();
        }
        assert_eq!(
            choose(&dir.path().join("*.log")).unwrap(),
            dir.path().join("c.log")
        );
    }

    #[test]
    fn a_glob_in_a_directory_part_and_a_name_that_only_looks_like_one() {
        let dir = tempfile::tempdir().unwrap();
        for day in ["21", "22"] {
            fs::create_dir(dir.path().join(day)).unwrap();
        }
        touch(&dir.path().join("21/x.log"), 5);
        touch(&dir.path().join("22/x.log"), 50);
        assert_eq!(
            choose(&dir.path().join("*/x.log")).unwrap(),
            dir.path().join("21/x.log")
        );
        let literal = dir.path().join("odd[1].log");
        touch(&literal, 500);
        touch(&dir.path().join("odd1.log"), 5);
        assert_eq!(choose(&literal).unwrap(), literal);
        let broken = dir.path().join("a[b");
        assert!(matches!(choose(&broken), Err(Trouble::Missing(_))));
    }

    #[test]
    fn what_the_times_of_a_file_can_tell() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        fs::write(&path, "one\n").unwrap();
        let made = fs::metadata(&path).unwrap();
        let opened = |after: i64| Opened {
            asked: DateTime::from_timestamp(made.ctime() + after, 0).unwrap(),
            ..open(&path, Links::Follow).unwrap()
        };
        let (file, at_once) = (opened(99), opened(-1));
        assert!(file.is_untouched() && !at_once.is_untouched());
        // as long as it was, and of the same time
        let ctime = |meta: &Metadata| (meta.ctime(), meta.ctime_nsec());
        while ctime(&fs::metadata(&path).unwrap()) == ctime(&made) {
            fs::write(&path, "two\n").unwrap();
            let times = fs::FileTimes::new().set_modified(made.modified().unwrap());
            File::options()
                .append(true)
                .open(&path)
                .unwrap()
                .set_times(times)
                .unwrap();
        }
        assert!(!file.is_untouched());
        let file = opened(1000);
        assert!(file.is_untouched());
        fs::write(&path, "longer\n").unwrap();
        assert!(!file.is_untouched());
    }

    #[test]
    fn when_the_time_of_a_change_would_tell_of_another() {
        let at = |(seconds, millis): (i64, u32)| {
            DateTime::from_timestamp(1_000 + seconds, millis * 1_000_000).unwrap()
        };
        let changed = |(seconds, millis): (i64, i64)| (1_000 + seconds, millis * 1_000_000);
        for (then, asked, expected) in [
            // to the tick, twice
            ((0, 500), (0, 520), false),
            ((0, 500), (0, 521), true),
            ((0, 990), (1, 10), false),
            ((0, 990), (1, 11), true),
            ((0, 500), (0, 400), false),
            ((9, 1), (5, 0), false),
            // where times are whole seconds: that second and the next may hold another write
            ((0, 0), (0, 999), false),
            ((0, 0), (1, 999), false),
            ((0, 0), (2, 0), true),
            ((0, 0), (-1, 0), false),
        ] {
            let told = would_tell(changed(then), at(asked));
            assert_eq!(told, expected, "{then:?} {asked:?}");
        }
        assert!(!would_tell((i64::MAX, 0), at((0, 0))) && !would_tell((i64::MAX, 1), at((0, 0))));
    }

    #[test]
    fn one_file_under_two_names_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a", "b"] {
            fs::write(at(name), "x\n").unwrap();
        }
        fs::hard_link(at("a"), at("c")).unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| open(&at(name), Links::Refuse).unwrap());
        assert!(a.is(&a) && a.is(&c) && c.is(&a));
        assert!(!a.is(&b) && !b.is(&c));
        let elsewhere = Opened {
            dev: a.dev + 1,
            ..c
        };
        assert!(!a.is(&elsewhere));
    }

    #[test]
    fn times_of_files_are_of_the_years_1_to_9999() {
        let utc = |text| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
        let [first, last] = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"].map(utc);
        for (seconds, nanos, expected) in [
            (0, 0, DateTime::UNIX_EPOCH),
            (-1, 0, DateTime::from_timestamp(-1, 0).unwrap()),
            (
                7,
                500_000_000,
                DateTime::from_timestamp_millis(7500).unwrap(),
            ),
            (7, -1, DateTime::from_timestamp(7, 0).unwrap()),
            (7, i64::MAX, DateTime::from_timestamp(7, 0).unwrap()),
            (i64::MIN, 0, first),
            (-99_999_999_999, 5, first),
            (9_999_999_999_999, 5, last),
            (i64::MAX, i64::MAX, last),
        ] {
            assert_eq!(clock::of_file((seconds, nanos)), expected);
        }
    }

    #[test]
    fn errors_of_the_system_are_told_apart() {
        let of = io::Error::from_raw_os_error;
        for (error, said) in [
            (
                of(libc::EACCES),
                "permission denied; let the watchdog's user read it and enter its directories",
            ),
            (of(libc::ENOTDIR), "a part of its path is not a directory"),
            (
                of(libc::ELOOP),
                "the symbolic links in its path lead in a circle",
            ),
            (
                of(libc::EIO),
                "input/output error; look at the disk or the mount that it is on",
            ),
            (
                of(libc::ESTALE),
                "it cannot be read: Stale file handle (os error 116)",
            ),
            (
                io::ErrorKind::UnexpectedEof.into(),
                "it was rotated or truncated again and again while it was read",
            ),
        ] {
            assert_eq!(reason(&error), said);
        }
    }
}
