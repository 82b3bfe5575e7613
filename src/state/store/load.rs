//! Reading the state: it, its backup, or what the journal knows.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use super::{Store, StoreError};
use crate::check::CheckStates;
use crate::check::log::LogPosition;
use crate::files::{self, Links, Refusal};
use crate::state::journal::{self, JournalEvent};
use crate::state::upgrade;
use crate::state::{State, VERSION};

/// How many damaged files are kept for a person to look at.
const CORRUPT_KEPT: usize = 8;

/// A state file larger than this is not one of ours.
const STATE_LIMIT: u64 = 64 << 20;

/// What loading the state gave.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The state, or a new one.
    pub state: State,
    /// What was damaged, as sentences for a person; empty where all was well.
    pub damage: Vec<String>,
    /// Whether the attempts in it can be relied on. Where not, nothing may be restarted.
    pub trusted: bool,
    /// Why it is a new one although there is a state; absent where there is none, or it or its backup was read.
    pub lost: Option<Lost>,
}

impl Loaded {
    /// An error where there is a state, and neither it nor its backup can be read: that must not look like no state.
    pub fn readable(self) -> Result<Self, StoreError> {
        match self.lost {
            Some(lost) => Err(StoreError::Unreadable {
                why: self.damage.join("; "),
                lost,
            }),
            None => Ok(self),
        }
    }

    /// Logs what was damaged.
    pub fn warn(&self) {
        for sentence in &self.damage {
            ::log::warn!("{sentence}");
        }
    }
}

/// Why neither the state nor its backup was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lost {
    /// They are no states of ours.
    Damaged,
    /// The system does not give them.
    Failed,
    /// This user may not read them.
    Forbidden,
    /// They may be whole: what is wrong passes.
    NotNow,
}

impl Lost {
    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Damaged => {
                "`watchdog check` sets it aside and begins a new one, and restarts nothing in that run"
            }
            Self::Failed => "see whether state_dir is the right directory, and its disk is well",
            Self::Forbidden => "run as the user that owns it",
            Self::NotNow => "try again",
        }
    }
}

impl Store {
    /// Loads the state or its backup. Damaged files are set aside as of `now`. An error where they may be whole, and
    /// cannot be read this time.
    pub fn load(&self, now: DateTime<Utc>) -> Result<Loaded, StoreError> {
        let mut unread = None;
        let loaded = self.judge(files::keep_private, |path, tag, why| match why {
            Unusable::NotNow(source) => {
                unread.get_or_insert(StoreError::Io {
                    what: "cannot read the state",
                    path: path.to_owned(),
                    source,
                });
                None
            }
            Unusable::Damaged(_) | Unusable::Failed(..) => self.set_aside(path, tag, now),
        });
        unread.map_or(Ok(loaded), Err)
    }

    /// The same for commands that only look: nothing is set aside.
    pub fn look(&self) -> Loaded {
        self.judge(|_, _, _| {}, |_, _, _| None)
    }

    /// Reads the state or its backup. What is opened is handed to `opened`, and what cannot be used to `put_away`, which
    /// gives back where it is now.
    fn judge(
        &self,
        opened: impl Fn(&Path, &File, &Metadata),
        mut put_away: impl FnMut(&Path, &str, Unusable) -> Option<PathBuf>,
    ) -> Loaded {
        let state = self.dir.join("state.json");
        let backup = self.dir.join("state.json.bak");
        let mut damage = Vec::new();
        let mut lost = None;
        let mut check = |path: &Path, tag: &str| match read_state(path, &opened) {
            Ok(found) => Ok(found),
            Err(unusable) => {
                let why = unusable.to_string();
                lost = lost.max(Some(unusable.lost()));
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
                lost: None,
            };
        }
        match check(&backup, "bak-") {
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
                    lost: None,
                }
            }
            Ok(None) | Err(()) => Loaded {
                state: State::of_journal(&self.journalled()),
                trusted: lost.is_none(),
                damage,
                lost,
            },
        }
    }

    /// What the journal knows of restarts, for where there is no state, or an old one.
    fn journalled(&self) -> Vec<journal::Entry> {
        let mut entries = Vec::new();
        let read = journal::read(&self.dir, |entry| {
            let is_of_attempts = matches!(
                entry.event,
                JournalEvent::Restarting
                    | JournalEvent::Repairing
                    | JournalEvent::Scaling
                    | JournalEvent::Reset
            );
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
    pub(super) fn set_aside(&self, path: &Path, tag: &str, now: DateTime<Utc>) -> Option<PathBuf> {
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
}

/// Why a state file cannot be used.
#[derive(Debug, Error)]
pub(super) enum Unusable {
    /// It is no state of ours: a sentence without its name.
    #[error("{0}")]
    Damaged(String),
    /// It is not given out: what was tried, and why it failed.
    #[error("{0}: {1}")]
    Failed(&'static str, io::Error),
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
    fn lost(&self) -> Lost {
        match self {
            Self::Damaged(_) => Lost::Damaged,
            Self::Failed(_, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Lost::Forbidden
            }
            Self::Failed(..) => Lost::Failed,
            Self::NotNow(_) => Lost::NotNow,
        }
    }

    fn from_io(what: &'static str, error: io::Error) -> Self {
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
            _ => Self::Failed(what, error),
        }
    }
}

/// Reads one state file, once it was handed to `opened`: `None` where there is none.
pub(super) fn read_state(
    path: &Path,
    opened: impl Fn(&Path, &File, &Metadata),
) -> Result<Option<State>, Unusable> {
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
    // of it, the backup may become one more name
    opened(path, &file, &meta);
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
    // once for the whole, and not for each string of it
    let read = match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text),
        // it says where
        Err(_) => serde_json::from_slice(bytes),
    };
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
                // from a text again: code that reads from a value is another copy of all that reads a state
                let json = state.to_string();
                let is_read = if by_id {
                    CheckStates::can_read(id, &json)
                } else {
                    serde_json::from_str::<LogPosition>(&json).is_ok()
                };
                if !is_read {
                    *state = json!({});
                    mended = true;
                }
            }
        }
    }
    if !mended {
        return None;
    }
    serde_json::from_str(&state.to_string()).ok()
}
