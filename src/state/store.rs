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
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::files::{self, Extent, FileId, Writers};

mod load;
mod save;

pub use self::load::{Loaded, Lost, parse_state};

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
    #[error("{what} {}: {}{}", path.display(), files::explain(path, source), hint(source))]
    Io {
        /// What was tried: `cannot create the state directory`.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// There is a state, and neither it nor its backup can be read.
    #[error("the state cannot be read: {why}; {}", lost.remedy())]
    Unreadable {
        /// Which files, and what is wrong with each.
        why: String,
        /// What kind of trouble that is.
        lost: Lost,
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
        io::ErrorKind::FileTooLarge => {
            "; raise the limit of the size of files that it is run with (ulimit -f, LimitFSIZE=)"
        }
        io::ErrorKind::PermissionDenied => {
            "; run as the user that owns it, or set state_dir to a directory that this user can write"
        }
        _ if error.raw_os_error() == Some(libc::ELOOP) => {
            "; take the link away, or set state_dir to another directory"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            "; take away what is in the way, or set state_dir to another directory"
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
            if let Some(what) = files::no_directory(dir) {
                return refuse(format!(
                    "cannot be made: {what}; take that away, or set state_dir to another directory"
                ));
            }
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

    /// When the state was written last, as far as that can be told.
    pub fn last_saved(&self) -> Option<SystemTime> {
        let meta = fs::symlink_metadata(self.dir.join("state.json")).ok()?;
        meta.modified().ok()
    }

    /// Whether a process has the lock file open, as a run has while it lasts and none of its children.
    pub fn is_locked_by(&self, pid: i32) -> bool {
        let id = |meta: fs::Metadata| (meta.dev(), meta.ino());
        let Ok(lock) = fs::metadata(self.dir.join("lock")).map(id) else {
            return false;
        };
        let open = fs::read_dir(format!("/proc/{pid}/fd"));
        let mut open = open.into_iter().flatten().flatten();
        open.any(|entry| fs::metadata(entry.path()).is_ok_and(|meta| id(meta) == lock))
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

#[cfg(test)]
mod tests;
