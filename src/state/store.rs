//! The state directory: the lock, and a state file that is whole at every instant.
//!
//! Invariants, at every instant, whatever is killed or loses its power:
//!
//! - `state.json` is whole or, where it was not flushed before the power failed, the backup is.
//! - The backup was flushed before it got its name, and knows every attempt, every alert and all evidence. It is an hour
//!   old at most when a run ends: then a state is flushed in any case.
//! - Before anything is restarted, the attempt is in both files, and they share no block of the disk.
//!
//! So a new state is written beside the old one, flushed and renamed over it, and the old one becomes the backup if it
//! was flushed. Most runs learn nothing that must not be forgotten: theirs is written and renamed, and not waited for. A
//! flush costs a thousand times what such a run does, 1,440 times a day, and wears out cards of flash. What may be lost
//! is what the next run sees again: when the last run was, and how far logs were read through lines that nothing was
//! found in.
//!
//! What is found damaged is set aside and never deleted. The lock is a file of its own, because a lock on a file that is
//! renamed over would be held by two.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use super::journal::{self, JournalEvent};
use super::{State, VERSION, upgrade};
use crate::check::CheckStates;
use crate::check::log::LogPosition;
use crate::files::{self, Extent, FileId, Links, Refusal, Writers};
use crate::sys;

/// A state file larger than this is not one of ours.
const STATE_LIMIT: u64 = 64 << 20;

/// So many bytes are written at once.
const PIECE: usize = 64 << 10;

/// How many damaged files are kept for a person to look at.
const CORRUPT_KEPT: usize = 8;

/// Why the state directory cannot be used: exit code 73, or 75 for [`StoreError::Busy`].
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another run holds the lock.
    #[error("another run{} holds the lock {}; this one did nothing", holder.as_ref().map(|pid| format!(" (PID {pid})")).unwrap_or_default(), path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote into it.
        holder: Option<String>,
    },
    /// A file operation failed.
    #[error("{what} {}: {source}{}", path.display(), hint(source))]
    Io {
        /// What was tried: `cannot create the state directory`.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The lock that this run holds is no longer the one that others would take.
    #[error("the lock {} was removed during the run, and another run may be under way; nothing of this one is remembered", path.display())]
    Unlocked {
        /// The lock file.
        path: PathBuf,
    },
    /// Whoever asks for the directory waits.
    #[error("the state directory {} did not answer within {}; does the disk or the network share that it is on hang?", path.display(), crate::clock::rough(*limit))]
    Hangs {
        /// The directory.
        path: PathBuf,
        /// For so long it was waited.
        limit: Duration,
    },
    /// The directory is not safe to keep a state in.
    #[error("the state directory {} {why}", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: String,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "; free some space on its disk",
        io::ErrorKind::PermissionDenied => {
            "; run as the user that owns it, or set state_dir to a directory that this user can write"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; set state_dir to a directory that can be written",
        _ => "",
    }
}

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    held: File,
}

impl Lock {
    /// The file that the lock is on: for those who must see that it still is the one that others would take.
    pub fn mark(&self) -> Result<FileId, StoreError> {
        let meta = self.held.metadata().map_err(|source| StoreError::Io {
            what: "cannot take the lock",
            path: self.path.clone(),
            source,
        })?;
        Ok(FileId {
            path: self.path.clone(),
            file: (meta.dev(), meta.ino()),
        })
    }
}

impl Drop for Lock {
    /// A child that has not become its program yet has the lock as well, and may be held up by its user: so it is not
    /// enough to close it here.
    fn drop(&mut self) {
        let _ = fs2::FileExt::unlock(&self.held);
    }
}

/// What loading the state gave.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The state, or a new one.
    pub state: State,
    /// What was damaged, as sentences for a person; empty where all was well.
    pub damage: Vec<String>,
    /// Whether the attempts in it can be relied on. Where not, nothing may be restarted.
    pub trusted: bool,
}

/// A state directory.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The directory as it is, for commands that only read.
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// Makes the directory where it is missing, and refuses one that others could write to.
    pub fn prepare(dir: &Path) -> Result<Self, StoreError> {
        let io = |what, source| StoreError::Io {
            what,
            path: dir.to_owned(),
            source,
        };
        let me = nix::unistd::geteuid().as_raw();
        let refuse = |why: String| {
            Err(StoreError::Unsafe {
                path: dir.to_owned(),
                why,
            })
        };
        // before anything is made: whoever could put a link in the place of one of its directories would have root make
        // and write files anywhere, and swap what is remembered
        if let Some(parent) = dir.parent() {
            let others = others(parent, me);
            if !others.are_none() {
                return refuse(format!(
                    "is not safe: {others} can write to a directory above it, and could put another in its place; let \
                     none but UID {me} write there, or set state_dir to another directory"
                ));
            }
        }
        let there = fs::metadata(dir).ok().filter(fs::Metadata::is_dir);
        if there.is_none() {
            if let Some(parent) = dir.parent() {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o755)
                    .create(parent)
                    .map_err(|source| {
                        io(
                            "cannot create the directory above the state directory",
                            source,
                        )
                    })?;
            }
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(|source| io("cannot create the state directory", source))?;
        }
        let meta = there
            .map_or_else(|| fs::metadata(dir), Ok)
            .map_err(|source| io("cannot create the state directory", source))?;
        if meta.uid() != me && meta.uid() != 0 {
            return refuse(format!(
                "belongs to another user (UID {}); chown it to UID {me}, or set state_dir to another directory",
                meta.uid()
            ));
        }
        if meta.mode() & 0o002 != 0 {
            return refuse(format!(
                "can be written by everybody (mode {:o}); chmod 700 it, or set state_dir to another directory",
                meta.mode() & 0o7777
            ));
        }
        let others = others(dir, me);
        if !others.are_none() {
            return refuse(format!(
                "can be changed by {others}; chmod 700 it, or set state_dir to another directory"
            ));
        }
        Ok(Self::at(dir))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes the lock, or says who holds it. The file is never removed: whoever opened a removed one would hold
    /// another lock.
    pub fn lock(&self) -> Result<Lock, StoreError> {
        let path = self.dir.join("lock");
        let io = |what, source| StoreError::Io {
            what,
            path: path.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path)
            .map_err(|source| io("cannot take the lock", source))?;
        // who can open it can lock it, and would keep every run from its work
        let meta = file
            .metadata()
            .map_err(|source| io("cannot take the lock", source))?;
        if meta.mode() & 0o077 != 0 {
            let _ = file.set_permissions(fs::Permissions::from_mode(0o600));
        }
        match fs2::FileExt::try_lock_exclusive(&file) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => {
                let mut holder = String::new();
                let _ = (&file).take(32).read_to_string(&mut holder);
                let holder = Some(holder.trim().to_owned())
                    .filter(|pid| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()));
                return Err(StoreError::Busy { path, holder });
            }
            Err(source) => return Err(io("cannot take the lock", source)),
        }
        // for people only: the lock itself is the kernel's, so a full disk is no reason to stop
        let line = format!("{}\n", std::process::id());
        let _ = file
            .write_all(line.as_bytes())
            // cut after it was written: the disk need not give a block back and find another one
            .and_then(|()| file.set_len(line.len() as u64));
        Ok(Lock { path, held: file })
    }

    /// Loads the state or its backup. Damaged files are set aside as of `now`. An error where they may be whole, and
    /// cannot be read this time.
    pub fn load(&self, now: DateTime<Utc>) -> Result<Loaded, StoreError> {
        let mut unread = None;
        let loaded = self.judge(|path, tag, why| match why {
            Unusable::NotNow(source) => {
                unread.get_or_insert(StoreError::Io {
                    what: "cannot read the state",
                    path: path.to_owned(),
                    source,
                });
                None
            }
            Unusable::Damaged(_) => self.set_aside(path, tag, now),
        });
        unread.map_or(Ok(loaded), Err)
    }

    /// The same for commands that only look: nothing is set aside.
    pub fn look(&self) -> Loaded {
        self.judge(|_, _, _| None)
    }

    /// Reads the state or its backup. What cannot be used is handed to `put_away`, which gives back where it is now.
    fn judge(&self, mut put_away: impl FnMut(&Path, &str, Unusable) -> Option<PathBuf>) -> Loaded {
        let state = self.dir.join("state.json");
        let backup = self.dir.join("state.json.bak");
        let mut damage = Vec::new();
        let mut check = |path: &Path, tag: &str| match read_state(path) {
            Ok(found) => Ok(found),
            Err(unusable) => {
                let why = unusable.to_string();
                damage.push(match put_away(path, tag, unusable) {
                    Some(aside) => format!(
                        "{} {why}; it was set aside as {}",
                        path.display(),
                        aside.display()
                    ),
                    None => format!("{} {why}", path.display()),
                });
                Err(())
            }
        };
        let first = check(&state, "");
        if let Ok(Some(state)) = first {
            return Loaded {
                trusted: !state.attempts_lost,
                state,
                damage,
            };
        }
        let second = check(&backup, "bak-");
        let lost = first.is_err() || second.is_err();
        match second {
            Ok(Some(mut state)) => {
                damage.push(format!(
                    "the backup {} was used in its place",
                    backup.display()
                ));
                state.learn_started(&self.journalled());
                Loaded {
                    trusted: !state.attempts_lost,
                    state,
                    damage,
                }
            }
            Ok(None) | Err(()) => Loaded {
                state: State::of_journal(&self.journalled()),
                trusted: !lost,
                damage,
            },
        }
    }

    /// What the journal knows of restarts, for where there is no state, or an old one.
    fn journalled(&self) -> Vec<journal::Entry> {
        let mut entries = Vec::new();
        let read = journal::read(&self.dir, |entry| {
            let is_of_attempts =
                [JournalEvent::Restarting, JournalEvent::Reset].contains(&entry.event);
            if is_of_attempts || entry.started.is_some() || entry.is_good_restart() {
                entries.push(entry);
            }
        });
        if let Err(error) = read {
            ::log::warn!(
                "the journal in {} cannot be read: {error}",
                self.dir.display()
            );
        }
        entries
    }

    /// Renames a damaged file to `state.json.corrupt-TIME`, and lets the oldest of such files go.
    fn set_aside(&self, path: &Path, tag: &str, now: DateTime<Utc>) -> Option<PathBuf> {
        let aside = self.dir.join(format!(
            "state.json.corrupt-{tag}{}",
            now.format("%Y%m%dT%H%M%SZ")
        ));
        let renamed = fs::rename(path, &aside).ok().map(|()| aside);
        let mut kept: Vec<PathBuf> = fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .starts_with("state.json.corrupt-")
            })
            .map(|entry| entry.path())
            .collect();
        kept.sort_unstable_by_key(|path| {
            fs::symlink_metadata(path)
                .and_then(|meta| meta.modified())
                .ok()
        });
        for path in kept.iter().rev().skip(CORRUPT_KEPT) {
            let _ = fs::remove_file(path);
        }
        renamed
    }

    /// Writes the state, whole and flushed to the disk. The one before becomes the backup, if it was flushed.
    pub fn save(&self, state: &mut State) -> Result<(), StoreError> {
        self.write(state, Flush::Now, Backup::Before)
    }

    /// Writes the state, whole, and leaves it to the system when it gets to the disk: for one that holds nothing that
    /// must not be forgotten and that the one before did not hold.
    pub fn save_unflushed(&self, state: &mut State) -> Result<(), StoreError> {
        self.write(state, Flush::Later, Backup::Before)
    }

    /// Writes the state and its backup alike: for attempts, which must not be forgotten with either.
    pub fn save_twice(&self, state: &mut State) -> Result<(), StoreError> {
        self.write(state, Flush::Now, Backup::Same)
    }

    fn write(&self, state: &mut State, flush: Flush, backup: Backup) -> Result<(), StoreError> {
        match self.try_write(state, flush, backup) {
            Err(StoreError::Io { source, .. })
                if source.kind() == io::ErrorKind::IsADirectory
                    && self.clear_directories(state) =>
            {
                self.try_write(state, flush, backup)
            }
            written => written,
        }
    }

    /// Sets aside directories that stand in the place of the state or its backup; the next check alerts about them. Returns
    /// whether there were any. A run that only reads the state does not look for them: that would cost each run a call.
    fn clear_directories(&self, state: &mut State) -> bool {
        let now = state
            .clock
            .as_ref()
            .map_or_else(Utc::now, |clock| clock.wall);
        let mut cleared = false;
        for (name, tag) in [("state.json", ""), ("state.json.bak", "bak-")] {
            let path = self.dir.join(name);
            if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir())
                && let Some(aside) = self.set_aside(&path, tag, now)
            {
                let sentence = format!(
                    "{} is a directory, not a regular file; it was set aside as {}",
                    path.display(),
                    aside.display()
                );
                ::log::error!("{sentence}");
                state.damage.push(sentence);
                cleared = true;
            }
        }
        cleared
    }

    fn try_write(&self, state: &mut State, flush: Flush, backup: Backup) -> Result<(), StoreError> {
        let path = self.dir.join("state.json");
        let new = self.dir.join("state.json.new");
        let before = (state.flushed, state.unflushed);
        let becomes_backup = !state.unflushed;
        state.unflushed = flush == Flush::Later;
        if flush == Flush::Now {
            state.flushed = state.clock.as_ref().map(|clock| clock.wall);
        }
        let whole = |file: &mut BufWriter<File>| {
            serde_json::to_writer(&mut *file, state)?;
            file.write_all(b"\n")
        };
        let written = replace(&new, flush, whole).and_then(|()| {
            if backup == Backup::Before && becomes_backup {
                self.back_up(&path)?;
            }
            fs::rename(&new, &path)?;
            if backup == Backup::Same {
                self.copy_to_backup(&path)?;
            }
            match flush {
                Flush::Now => File::open(&self.dir)?.sync_all(),
                Flush::Later => Ok(()),
            }
        });
        written.map_err(|source| {
            let _ = fs::remove_file(&new);
            (state.flushed, state.unflushed) = before;
            StoreError::Io {
                what: "cannot write the state",
                path,
                source,
            }
        })
    }

    /// Makes a copy of the present state the backup. No link: what damages one of the two files must not damage both.
    fn copy_to_backup(&self, state: &Path) -> io::Result<()> {
        let copy = self.dir.join("state.json.bak.new");
        let mut from = File::open(state)?;
        replace(&copy, Flush::Now, |file| {
            io::copy(&mut from, file).map(drop)
        })?;
        fs::rename(&copy, self.dir.join("state.json.bak"))
    }

    /// Makes the present state the backup, and leaves it where it is.
    fn back_up(&self, state: &Path) -> io::Result<()> {
        let backup = self.dir.join("state.json.bak");
        let link = self.dir.join("state.json.bak.new");
        // a hard link keeps the old state under both names: there is never an instant without a state
        let linked = match fs::hard_link(state, &link) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                remove_if_there(&link).and_then(|()| fs::hard_link(state, &link))
            }
            linked => linked,
        };
        match linked {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // a file system without hard links
            Err(_) => {
                let bytes = fs::read(state)?;
                replace(&link, Flush::Now, |file| file.write_all(&bytes))?;
            }
        }
        fs::rename(&link, &backup)?;
        // where the backup is that very file already, a rename leaves both names (rename(2))
        remove_if_there(&link)
    }
}

/// Whether a write waits until it is on the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    Now,
    Later,
}

/// What the backup is after a write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Backup {
    /// The state before, if that was flushed.
    Before,
    /// The same state.
    Same,
}

/// Who beside root and `me` could change what is at `path`. Of other users than root a group that can write is their
/// own business, as it is with the config.
fn others(path: &Path, me: u32) -> Writers {
    let mut others = files::writers(path, me, Extent::Existing);
    if me != 0 {
        others.groups.clear();
    }
    others
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a new file of mode 0600, in the place of one that a run left behind that was cut short.
fn replace(
    path: &Path,
    flush: Flush,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let create = || {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
    };
    let file = match create() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            remove_if_there(path)?;
            create()?
        }
        file => file?,
    };
    // in pieces: the state of a thousand services is nearly a megabyte, which would be held once more
    let mut writer = BufWriter::with_capacity(PIECE, file);
    write(&mut writer)?;
    let file = writer
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    match flush {
        Flush::Now => file.sync_all(),
        Flush::Later => {
            // some file systems put a new name on the disk long before the bytes under it
            sys::begin_writeback(&file);
            Ok(())
        }
    }
}

/// Why a state file cannot be used.
#[derive(Debug, Error)]
enum Unusable {
    /// It is no state of ours: a sentence without its name.
    #[error("{0}")]
    Damaged(String),
    /// It may be whole: what is wrong passes.
    #[error("cannot be read: {0}")]
    NotNow(io::Error),
}

impl From<String> for Unusable {
    fn from(why: String) -> Self {
        Self::Damaged(why)
    }
}

impl Unusable {
    fn from_io(what: &str, error: io::Error) -> Self {
        // descriptors, memory, or a server that does not answer
        match error.raw_os_error() {
            Some(
                libc::EMFILE
                | libc::ENFILE
                | libc::ENOMEM
                | libc::ENOBUFS
                | libc::EAGAIN
                | libc::EINTR
                | libc::ETIMEDOUT,
            ) => Self::NotNow(error),
            _ => Self::Damaged(format!("{what}: {error}")),
        }
    }
}

/// Reads one state file: `None` where there is none.
fn read_state(path: &Path) -> Result<Option<State>, Unusable> {
    let (file, meta) = match files::open(path, Links::Refuse) {
        Err(Refusal::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(Refusal::Io(error)) => return Err(Unusable::from_io("cannot be opened", error)),
        Err(Refusal::Kind(kind)) => return Err(format!("is {kind}, not a regular file").into()),
        Ok(opened) => opened,
    };
    let me = nix::unistd::geteuid().as_raw();
    if meta.uid() != me && meta.uid() != 0 {
        return Err(format!("belongs to another user (UID {})", meta.uid()).into());
    }
    if meta.len() > STATE_LIMIT {
        return Err("is too large".to_owned().into());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or_default() + 1);
    file.take(STATE_LIMIT)
        .read_to_end(&mut bytes)
        .map_err(|error| Unusable::from_io("cannot be read", error))?;
    Ok(Some(parse_state(&bytes)?))
}

/// The one field that every version has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Parses the bytes of a state file. Never panics, whatever they are.
pub fn parse_state(bytes: &[u8]) -> Result<State, String> {
    if bytes.is_empty() {
        return Err("is empty".to_owned());
    }
    let read = serde_json::from_slice(bytes);
    let read = read.or_else(|error| without_damaged_marks(bytes).ok_or(error));
    let error = match read {
        Ok(mut state) if (1..=VERSION).contains(&state.version) => {
            state.version = VERSION;
            if state.mails.take().is_some() {
                upgrade::add(bytes, &mut state).map_err(|error| format!("is damaged ({error})"))?;
            }
            return Ok(state);
        }
        Ok(_) => None,
        Err(error) => Some(error),
    };
    // only now: to ask for the version first is to read all of it twice
    Err(match (serde_json::from_slice::<Versioned>(bytes), error) {
        (Ok(Versioned { version }), _) if version > VERSION => {
            format!("was written by a newer watchdog (version {version})")
        }
        (Ok(Versioned { version: 0 }), _) => "has an unknown version (0)".to_owned(),
        (_, Some(error)) | (Err(error), None) => format!("is damaged ({error})"),
        (Ok(_), None) => "is damaged".to_owned(),
    })
}

/// A state of which nothing but marks of logs cannot be read, with empty ones in their place: a log that is read from
/// its end is a small loss beside that of all attempts. Only now: to be ready for it, each mark was read twice by each run.
fn without_damaged_marks(bytes: &[u8]) -> Option<State> {
    let mut state: Value = serde_json::from_slice(bytes).ok()?;
    let services = state.get_mut("services")?.as_object_mut()?.values_mut();
    let mut mended = false;
    for service in services {
        for (place, by_id) in [
            ("/checks", true),
            ("/recorded/checks", true),
            ("/logs", false),
            ("/recorded/logs", false),
            ("/charged/logs", false),
        ] {
            let states = service.pointer_mut(place).and_then(Value::as_object_mut);
            for (id, state) in states.into_iter().flatten() {
                let is_read = if by_id {
                    CheckStates::can_read(id, state)
                } else {
                    LogPosition::deserialize(&*state).is_ok()
                };
                if !is_read {
                    *state = json!({});
                    mended = true;
                }
            }
        }
    }
    State::deserialize(state).ok().filter(|_| mended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::check::log::Rule as LogRule;
    use crate::check::{CheckState, Rule, assign_ids};
    use crate::notify::Event;
    use crate::state::ServiceState;

    #[test]
    fn a_mark_that_cannot_be_read_is_none_and_the_rest_is_kept() {
        let attempt = "2026-11-22T11:30:00Z";
        for (mark, is_known) in [
            (
                json!({"here": {"ino": 5, "size": 3, "offset": 9}, "other": 1}),
                true,
            ),
            (json!(null), false),
            (json!([]), false),
            (json!(3), false),
            (json!({}), false),
            (json!({"here": {"ino": -1}}), false),
            (json!({"here": {"ino": "x"}, "former": 7}), false),
            (
                json!({"here": {"ino": 5, "head": {"len": 3, "sha256": "00"}}}),
                false,
            ),
            (
                json!({"here": {"ino": 5, "head": {"len": 3, "xxh3": "not hexadecimal"}}}),
                false,
            ),
            (json!({"here": {"ino": 5}, "written": "soon"}), false),
        ] {
            let known = json!({"here": {"ino": 7}});
            let state = json!({"version": VERSION, "services": {"a": {
                "attempts": [attempt],
                "logs": {"/a.log": mark, "/b.log": known},
                "charged": {"logs": {"/b.log": known, "/c.log": mark}},
                "checks": {"log:/a.log": mark, "log:/b.log": known},
            }}});
            let state = parse_state(state.to_string().as_bytes()).unwrap();
            let service = &state.services["a"];
            assert_eq!(
                service.attempts,
                [attempt.parse::<DateTime<Utc>>().unwrap()]
            );
            for (id, expected) in [("log:/a.log", is_known), ("log:/b.log", true)] {
                let Some(CheckState::Log(state)) = service.checks.get(&id.to_owned().into()) else {
                    panic!("{id}");
                };
                assert_eq!(state.here.ino != 0, expected, "{id}: {mark}");
            }
            let recorded = &service.recorded.as_ref().unwrap().logs;
            for (marks, name, expected) in [
                (&service.logs, "/a.log", is_known),
                (&service.logs, "/b.log", true),
                (recorded, "/b.log", true),
                (recorded, "/c.log", is_known),
            ] {
                assert_eq!(marks[name].here.ino != 0, expected, "{name}: {mark}");
            }
        }
    }

    #[test]
    fn a_damaged_mark_excuses_no_other_damage() {
        for damaged in [
            r#""attempts":["soon"]"#,
            r#""attempts":3"#,
            r#""charged":{"logs":7}"#,
            r#""logs":[]"#,
            r#""since":{}"#,
        ] {
            for mark in ["", r#","logs":{"/a.log":3}"#] {
                if damaged.contains("logs") && mark.contains("logs") {
                    continue;
                }
                let state = format!(r#"{{"version":1,"services":{{"a":{{{damaged}{mark}}}}}}}"#);
                let why = parse_state(state.as_bytes()).unwrap_err();
                assert!(why.starts_with("is damaged ("), "{state}: {why}");
            }
        }
    }

    #[test]
    fn what_cannot_be_done_with_a_file_says_what_to_do() {
        for (errno, hint) in [
            (
                libc::ENOSPC,
                "No space left on device (os error 28); free some space on its disk",
            ),
            (
                libc::EACCES,
                "Permission denied (os error 13); run as the user that owns it, or set state_dir to a directory that this user can write",
            ),
            (
                libc::EROFS,
                "Read-only file system (os error 30); set state_dir to a directory that can be written",
            ),
            (libc::EIO, "Input/output error (os error 5)"),
        ] {
            let error = StoreError::Io {
                what: "cannot write the state",
                path: "/s/state.json".into(),
                source: io::Error::from_raw_os_error(errno),
            };
            assert_eq!(
                error.to_string(),
                format!("cannot write the state /s/state.json: {hint}")
            );
        }
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn state(failures: u32) -> State {
        let mut state = State::default();
        let service = ServiceState {
            consecutive_failures: failures,
            ..ServiceState::default()
        };
        state.services.insert("a".to_owned(), service);
        state
    }

    fn failures(loaded: &Loaded) -> Option<u32> {
        Some(loaded.state.services.get("a")?.consecutive_failures)
    }

    #[test]
    fn the_state_and_the_one_before_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::prepare(&dir.path().join("a/b/state")).unwrap();
        assert!(
            store.load(now()).unwrap().trusted,
            "a first run starts afresh"
        );
        store.save(&mut state(1)).unwrap();
        store.save(&mut state(2)).unwrap();
        let loaded = store.load(now()).unwrap();
        assert_eq!((failures(&loaded), loaded.damage.len()), (Some(2), 0));
        assert_eq!(
            read_state(&store.dir().join("state.json.bak")).unwrap(),
            Some(state(1))
        );
        for (path, mode) in [
            (".", 0o700),
            ("state.json", 0o600),
            ("state.json.bak", 0o600),
        ] {
            let meta = fs::metadata(store.dir().join(path)).unwrap();
            assert_eq!(meta.mode() & 0o777, mode, "{path}");
        }
    }

    #[test]
    fn only_what_was_flushed_becomes_the_backup() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::prepare(dir.path()).unwrap();
        let mut kept = state(1);
        let run = |kept: &mut State, failures, flush| {
            *kept = store.load(now()).unwrap().state;
            *kept.services.get_mut("a").unwrap() = state(failures).services["a"].clone();
            match flush {
                Flush::Now => store.save(kept).unwrap(),
                Flush::Later => store.save_unflushed(kept).unwrap(),
            }
            let backup = read_state(&dir.path().join("state.json.bak")).unwrap();
            let backup = backup.unwrap().services["a"].consecutive_failures;
            (failures_of(&store), backup)
        };
        store.save(&mut kept).unwrap();
        for (failures, flush, backup) in [
            (2, Flush::Later, 1),
            (3, Flush::Later, 1),
            (4, Flush::Now, 1),
            (5, Flush::Now, 4),
            (6, Flush::Later, 5),
            (7, Flush::Later, 5),
        ] {
            assert_eq!(run(&mut kept, failures, flush), (failures, backup));
        }
        // what a power cut may leave of a file that was never flushed
        fs::write(dir.path().join("state.json"), "").unwrap();
        let loaded = store.load(now()).unwrap();
        assert_eq!((failures(&loaded), loaded.trusted), (Some(5), true));
        let mut state = loaded.state;
        store.save_unflushed(&mut state).unwrap();
        store.save_twice(&mut state).unwrap();
        assert_eq!(failures_of(&store), 5);
    }

    fn failures_of(store: &Store) -> u32 {
        failures(&store.look()).unwrap()
    }

    #[test]
    fn f45_damage_is_set_aside_and_the_backup_used() {
        let bad: [&[u8]; 6] = [
            b"",
            b"{",
            b"{\"version\":3,\"services\":{}}",
            b"[]",
            b"{\"version\":1,\"services\":{\"a\":3}}",
            b"\xff\xfe",
        ];
        for bytes in bad {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::prepare(dir.path()).unwrap();
            store.save_twice(&mut state(3)).unwrap();
            fs::write(dir.path().join("state.json"), bytes).unwrap();
            let looked = store.look();
            assert_eq!(failures(&looked), Some(3));
            assert!(
                dir.path().join("state.json").exists(),
                "looking changes nothing"
            );
            let loaded = store.load(now()).unwrap();
            assert!(loaded.trusted);
            assert_eq!(
                (failures(&loaded), loaded.damage.len()),
                (Some(3), 2),
                "{bytes:?}"
            );
            let aside = dir.path().join("state.json.corrupt-20270115T080000Z");
            assert_eq!(fs::read(aside).unwrap(), bytes);
        }
    }

    #[test]
    fn an_attempt_is_in_two_files_that_share_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::prepare(dir.path()).unwrap();
        for failures in [1, 2] {
            store.save_twice(&mut state(failures)).unwrap();
            let file = |name: &str| dir.path().join(name);
            let [state, backup] = ["state.json", "state.json.bak"].map(file);
            assert_eq!(fs::read(&state).unwrap(), fs::read(&backup).unwrap());
            assert_eq!(failures_of(&store), failures);
            let inode = |path: &Path| fs::metadata(path).unwrap().ino();
            assert_ne!(inode(&state), inode(&backup));
            let names = fs::read_dir(dir.path()).unwrap().count();
            assert_eq!(names, 2, "nothing else is left behind");
        }
    }

    #[test]
    fn f33_a_backup_that_is_the_state_itself_leaves_no_second_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::prepare(dir.path()).unwrap();
        store.save(&mut state(1)).unwrap();
        // as a run leaves it that is killed just before its new state takes its place
        let (state, backup) = (
            dir.path().join("state.json"),
            dir.path().join("state.json.bak"),
        );
        fs::hard_link(&state, &backup).unwrap();
        let mut next = store.load(now()).unwrap().state;
        store.save(&mut next).unwrap();
        assert!(!dir.path().join("state.json.bak.new").exists());
        assert!(backup.exists());
    }

    #[test]
    fn f45_both_damaged_is_not_to_be_trusted_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::prepare(dir.path()).unwrap();
        store.save_twice(&mut state(3)).unwrap();
        fs::write(dir.path().join("state.json"), "{").unwrap();
        fs::write(dir.path().join("state.json.bak"), "").unwrap();
        let loaded = store.load(now()).unwrap();
        assert!(!loaded.trusted);
        assert_eq!((failures(&loaded), loaded.damage.len()), (None, 2));
        assert!(
            store.load(now()).unwrap().trusted,
            "the next run starts afresh"
        );
    }

    #[test]
    fn f45_a_link_is_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::prepare(dir.path()).unwrap();
        let target = dir.path().join("target");
        fs::write(&target, serde_json::to_vec(&state(9)).unwrap()).unwrap();
        std::os::unix::fs::symlink(&target, dir.path().join("state.json")).unwrap();
        let loaded = store.load(now()).unwrap();
        assert_eq!(failures(&loaded), None);
        assert!(!loaded.trusted);
        std::os::unix::fs::symlink(&target, dir.path().join("state.json.new")).unwrap();
        store.save(&mut state(1)).unwrap();
        assert_eq!(read_state(&target).unwrap(), Some(state(9)));
    }

    #[test]
    fn f30_one_lock_for_all_and_its_holder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::prepare(dir.path()).unwrap();
        let lock = store.lock().unwrap();
        let busy = store.lock().unwrap_err().to_string();
        assert!(busy.contains(&std::process::id().to_string()), "{busy}");
        drop(lock);
        store.lock().unwrap();
    }

    #[test]
    fn a_directory_that_all_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = Store::prepare(dir.path()).unwrap_err().to_string();
        assert!(error.contains("chmod 700"), "{error}");
        let error = Store::prepare(&dir.path().join("state")).unwrap_err();
        assert!(error.to_string().contains("above it"), "{error}");
        assert!(!dir.path().join("state").exists(), "nothing is made there");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_state_parser_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = parse_state(&bytes);
        }
    }

    /// A state that watchdog 0.1.0 wrote.
    const VERSION_1: &[u8] = include_bytes!("versions/1.json");

    #[test]
    fn nothing_that_version_1_remembers_is_forgotten() {
        let mut state = parse_state(VERSION_1).unwrap();
        let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        for read_again in [false, true] {
            assert_eq!(state.version, VERSION);
            assert_eq!(state.last_run, Some(time("2026-11-26T22:44:47.418222864Z")));
            let channel = &state.channels["mail"];
            assert_eq!(channel.sent.len(), 2);
            assert_eq!(state.clock.as_ref().unwrap().boot_ms, 7_941_116);
            let broken = &state.services["broken"];
            assert_eq!(broken.attempts.len(), 2);
            assert_eq!(broken.given_up, state.last_run);
            assert_eq!(broken.attempt_codes, [["process_missing"]; 2]);
            let incident = "broken.20261126T224446.511Z";
            assert_eq!(broken.incident.as_deref(), Some(incident));
            assert_eq!(channel.threads[incident].len(), 2);
            assert_eq!(channel.services["broken"].alerted.len(), 2);
            assert_eq!(
                channel.services["broken"].open_trouble,
                Some(Event::Exhausted)
            );
            assert_eq!(channel.services["worker"].alerted.len(), 1);
            assert_eq!(broken.report.findings[0].code, "process_missing");
            let held = &state.services["held"];
            assert_eq!(
                held.paused_until,
                Some(time("2026-12-26T22:44:46.469056129Z"))
            );
            assert_eq!(held.pause_reason.as_deref(), Some("moving"));
            assert_eq!(held.consecutive_failures, 3);
            let worker = &state.services["worker"];
            let main = worker.process.main.as_ref().unwrap();
            assert_eq!((main.pid, main.start), (25_132, 794_023));
            assert!(worker.process.leads_group && worker.process.pid_file.is_some());
            let rule = LogRule {
                shown: "worker.log".to_owned(),
                ..LogRule::fixture("srv/app/worker.log")
            };
            let check = assign_ids(vec![Rule::Log(Arc::new(rule))]).remove(0);
            let Some(CheckState::Log(position)) = worker.state_of(&check, None) else {
                panic!("where it was read to");
            };
            assert_eq!((position.here.ino, position.here.offset), (10_324_547, 9));
            if !read_again {
                state = parse_state(&serde_json::to_vec(&state).unwrap()).unwrap();
            }
        }
    }

    #[test]
    fn the_names_that_version_1_has_for_fields_are_read() {
        let state = br#"{"version":1,"owed":[],"services":{"a":{
            "young":[{"pid":7,"start":1,"boot_id":"b"}],"unfinished":"2026-11-22T11:30:00Z",
            "charged":{"main":{"pid":7,"start":1,"boot_id":"b"},"logs":{"a.log":{"here":{"ino":5}}}}}}}"#;
        let state = parse_state(state).unwrap();
        let service = &state.services["a"];
        assert_eq!(service.recent_starts[0].pid, 7);
        assert!(service.interrupted_attempt.is_some());
        let recorded = service.recorded.as_ref().unwrap();
        assert_eq!(recorded.main.as_ref().unwrap().pid, 7);
        assert_eq!(recorded.logs["a.log"].here.ino, 5);
    }
}
