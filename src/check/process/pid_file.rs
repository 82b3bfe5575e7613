//! Reading a PID file: what it says, and which file said it.
//!
//! Anybody may write anything there, at any moment: half a number, a gigabyte, a FIFO in its place. Nothing of it
//! blocks, and only a positive decimal integer on the first line is a PID.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Identity;
use crate::clock::{self, Reading};
use crate::files::{self, Links, Refusal};
use crate::process_table::{self, ProcessState};
use crate::text::printable;

/// More of a PID file is never read; a longer one names nothing.
const PID_FILE_LIMIT: usize = 4096;
/// A PID file younger than this may be in the middle of being written: it is read a second time.
const FRESH: Duration = Duration::from_secs(5);

/// A PID file as it was when it named a process that was the service's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidFileState {
    /// Device and inode.
    pub file: (u64, u64),
    /// Modification time in seconds and nanoseconds.
    pub modified: (i64, i64),
    /// Size in bytes.
    pub size: u64,
    /// When it was last changed in any way, in seconds and nanoseconds, as only the kernel can set it; none where that
    /// was just before it was read, so that a second change may bear the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<(i64, i64)>,
    /// The process that it named.
    pub named: Identity,
}

/// A PID file, read once.
#[derive(Default)]
pub(super) struct PidFile {
    pub(super) file: (u64, u64),
    pub(super) modified: (i64, i64),
    pub(super) size: u64,
    changed: (i64, i64),
    /// Open, for what is seldom asked.
    handle: Option<File>,
    pub(super) pid: Option<i32>,
    pub(super) why_nothing: String,
}

impl PidFile {
    /// Reads a PID file: `None` where there is none. What is no regular file is never opened.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        let absent = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            )
        };
        let mut this = Self {
            why_nothing: "is not a regular file".to_owned(),
            ..Self::default()
        };
        let (file, meta) = match files::open(path, Links::Follow) {
            Err(Refusal::Kind(_)) => return Ok(Some(this)),
            Err(Refusal::Io(error)) if absent(&error) => return Ok(None),
            Err(Refusal::Io(error)) if error.raw_os_error() == Some(libc::ELOOP) => {
                "is a circle of symbolic links".clone_into(&mut this.why_nothing);
                return Ok(Some(this));
            }
            opened => opened.map_err(io::Error::from)?,
        };
        this.take_facts(&meta);
        // a regular file gives all that fits at once
        let mut bytes = [0; PID_FILE_LIMIT + 1];
        let length = (&file).read(&mut bytes)?;
        match parse_pid_file(&bytes[..length]) {
            Ok(pid) => this.pid = Some(pid),
            Err(why) => this.why_nothing = why,
        }
        this.handle = Some(file);
        Ok(Some(this))
    }

    fn take_facts(&mut self, meta: &Metadata) {
        self.file = (meta.dev(), meta.ino());
        self.modified = (meta.mtime(), meta.mtime_nsec());
        self.size = meta.size();
        self.changed = (meta.ctime(), meta.ctime_nsec());
    }

    /// The PID file of a mark, without reading it again: none where it was changed since, or may have been. Whoever
    /// believes it must see that the process still lives that it named: on a network share, its times may be old.
    pub(super) fn unchanged(path: &Path, mark: &PidFileState) -> Option<Self> {
        let changed = mark.changed?;
        let meta = fs::metadata(path).ok().filter(Metadata::is_file)?;
        let mut this = Self {
            pid: Some(mark.named.pid),
            ..Self::default()
        };
        this.take_facts(&meta);
        (this.is_same(mark) && this.changed == changed).then_some(this)
    }

    pub(super) fn is_same(&self, mark: &PidFileState) -> bool {
        (self.file, self.modified, self.size) == (mark.file, mark.modified, mark.size)
    }

    /// Whether it lives on a file system that a boot empties.
    pub(super) fn is_in_memory(&self) -> bool {
        use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
        self.handle
            .as_ref()
            .is_some_and(|file| fstatfs(file).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC))
    }

    pub(super) fn mark(&self, named: Identity, now: &Reading) -> PidFileState {
        let is_settled = clock::age(now.wall, clock::of_file(self.changed)) >= FRESH;
        PidFileState {
            file: self.file,
            modified: self.modified,
            size: self.size,
            changed: is_settled.then_some(self.changed),
            named,
        }
    }

    pub(super) fn modified_at(&self) -> DateTime<Utc> {
        clock::of_file(self.modified)
    }
}

/// The PID on the first line of a PID file: a positive decimal integer above 1 with nothing beside it but white
/// space. The error says what the file holds instead.
pub fn parse_pid_file(bytes: &[u8]) -> Result<i32, String> {
    if bytes.len() > PID_FILE_LIMIT {
        return Err("is longer than 4 KiB".to_owned());
    }
    let line = bytes
        .split(|&b| b == b'\n')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    if line.is_empty() {
        return Err("is empty".to_owned());
    }
    let shown = || printable(line, 40);
    if !line.iter().all(u8::is_ascii_digit) {
        return Err(format!("holds `{}`, which is not a PID", shown()));
    }
    match std::str::from_utf8(line)
        .ok()
        .and_then(|text| text.parse::<i32>().ok())
    {
        Some(pid) if pid > 1 => Ok(pid),
        _ => Err(format!(
            "holds `{}`, which no service can have as its PID",
            shown()
        )),
    }
}

/// Whether a PID file is a regular file with one line at the most.
pub(super) fn holds_only_a_pid(path: &Path) -> bool {
    let read = || -> io::Result<bool> {
        let (file, _) = files::open(path, Links::Follow)?;
        let mut bytes = Vec::new();
        file.take(PID_FILE_LIMIT as u64).read_to_end(&mut bytes)?;
        Ok(!bytes.trim_ascii().contains(&b'\n'))
    };
    read().unwrap_or(false)
}

/// Whether a PID file may be removed before a start of the service that is to write it, of which nothing runs: it names
/// nobody who lives, or what was the service's own process when the same file was read before. One that holds more than
/// a PID is the program's own book-keeping: by its further lines PostgreSQL finds out whether children of the old server
/// still use the data. One that names another process that lives is that one's.
pub fn is_stale(path: &Path, mark: Option<&PidFileState>) -> bool {
    let Ok(Some(file)) = PidFile::read(path) else {
        return false;
    };
    let lives =
        |pid: i32| process_table::stat(pid).is_ok_and(|stat| stat.state != ProcessState::Zombie);
    let is_of_another = file.pid.is_some_and(lives) && !mark.is_some_and(|mark| file.is_same(mark));
    !is_of_another && holds_only_a_pid(path)
}

/// Whether a PID file was written so recently that it may be half written.
pub(super) fn is_fresh(path: &Path, now: &Reading) -> bool {
    fs::metadata(path).is_ok_and(|meta| {
        let modified = clock::of_file((meta.mtime(), meta.mtime_nsec()));
        clock::age(now.wall, modified) < FRESH
    })
}
