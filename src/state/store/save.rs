//! Writing the state, so that a whole one is there at every instant.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use chrono::Utc;

use super::{Store, StoreError};
use crate::files;
use crate::state::State;
use crate::sys;

/// So many bytes are written at once.
const PIECE: usize = 64 << 10;

impl Store {
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
pub(super) enum Flush {
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
    let file = files::create_anew(path, 0o600)?;
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
