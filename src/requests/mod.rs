//! Requests: what somebody asked `watchdog web` for, and the next check takes up.
//!
//! Who answers requests from the network has no right to restart anything: it only drops a file into a directory. So whatever is
//! in that directory may be the work of an attacker: it is looked at file by file, within bounds, by what it is rather than by
//! what it is called, and what is not a request is removed. A request is of one service, and there is one of each at a time.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::files::{self, Extent, Links};
use crate::text::{cut, digest, plain, visible};

/// So many requests wait at the most.
pub const MOST: usize = 100;

/// The bytes of a request.
const BYTES: u64 = 16 << 10;

/// So many names are looked at in a run: what is beyond them is for the next one.
const NAMES: usize = 1000;

/// A request that no run has taken for so long is not carried out any more: nobody waits for it.
const LASTS: TimeDelta = TimeDelta::hours(1);

/// A file is written under a name with this in front, and renamed.
const NEW: &str = "new-";

/// So old a file that is still being written is not.
const WRITTEN_WITHIN_S: u64 = 60;

/// A request for a repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Its id, as whoever asked was told.
    pub id: String,
    /// The service that is to be restarted; of an alert, which names it by a label, what the label says once it is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// When it was asked for.
    pub time: DateTime<Utc>,
    /// Who asked: an address.
    pub from: String,
    /// The alert that wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<Alert>,
}

/// An alert that an Alertmanager has handed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Which one it is, by its labels.
    pub fingerprint: String,
    /// When it began to fire.
    pub started: DateTime<Utc>,
    /// All its labels.
    pub labels: BTreeMap<String, String>,
}

impl Alert {
    /// What no other alert, and no other time of this one, has. It is a part of the name of a file: a fingerprint that is not
    /// the number of an Alertmanager's own stands there by its digest.
    pub fn key(&self) -> String {
        let print = &self.fingerprint;
        let is_number =
            (1..=32).contains(&print.len()) && print.bytes().all(|byte| byte.is_ascii_hexdigit());
        let started = self.started.timestamp_millis();
        if is_number {
            return format!("{print}-{started}");
        }
        format!("of-{}-{started}", digest(print.as_bytes()))
    }
}

impl Request {
    /// The name of its file: one for each service, and each alert.
    fn file_name(&self) -> String {
        match &self.alert {
            None => format!("repair-{}", self.service),
            Some(alert) => format!("alert-{}", alert.key()),
        }
    }

    /// Who asked, when, for people and the journal.
    pub fn origin(&self) -> String {
        let alert = self.alert.as_ref().map(|alert| {
            let name = alert.labels.get("alertname");
            let name = name.map_or("", String::as_str);
            format!(" by the alert {},", cut(&visible(name), 100))
        });
        format!(
            "asked for{} by {} at {} (request {})",
            alert.unwrap_or_default(),
            cut(&visible(&self.from), 100),
            crate::clock::stamp(self.time),
            cut(&visible(&self.id), 40)
        )
    }
}

/// What became of a request that was handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It waits for the next check.
    Queued,
    /// One of this id for the same service waits already.
    Waits(String),
    /// Too many wait.
    TooMany,
}

/// Hands in a request.
pub fn put(directory: &Path, request: &Request) -> io::Result<Put> {
    let path = directory.join(request.file_name());
    if let Some(waiting) = waiting(&path) {
        return Ok(Put::Waits(waiting));
    }
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // beside the pages, where those are of this user; a directory for another user is made by who is set up for that
            DirBuilder::new().mode(0o700).create(directory)?;
            fs::read_dir(directory)?
        }
        entries => entries?,
    };
    if entries.take(MOST).count() >= MOST {
        return Ok(Put::TooMany);
    }
    let text = serde_json::to_vec(request)?;
    let new = directory.join(format!("{NEW}{}", request.id));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    // a link, which fails where there is one: two that come at once are not both told that they are queued
    let put = file
        .write_all(&text)
        .and_then(|()| fs::hard_link(&new, &path));
    let removed = fs::remove_file(&new);
    match put {
        Ok(()) => removed.map(|()| Put::Queued),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok(Put::Waits(waiting(&path).unwrap_or_default()))
        }
        Err(error) => Err(error),
    }
}

/// The id of the request in a file, if there is one.
fn waiting(path: &Path) -> Option<String> {
    fs::symlink_metadata(path).ok()?;
    let id = read(path, None).map(|request| request.id);
    Some(id.unwrap_or_default())
}

/// What waits in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// The requests with their files, the oldest first.
    pub requests: Vec<(PathBuf, Request)>,
    /// What was removed, and why; or why nothing can be taken, as sentences.
    pub troubles: Vec<String>,
}

/// Looks for requests; what is none is removed. Nothing is done where others than `me` and root could put the directory in
/// another's place, or where others than its owner can write to it.
pub fn look(directory: &Path, me: u32, now: DateTime<Utc>) -> Waiting {
    let mut waiting = Waiting::default();
    let meta = match fs::symlink_metadata(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return waiting,
        Err(error) => {
            waiting.troubles.push(told(directory, &plain(&error)));
            return waiting;
        }
        Ok(meta) => meta,
    };
    if let Some(why) = unsafe_directory(directory, &meta, me) {
        waiting.troubles.push(told(
            directory,
            &format!("{why}; no request is taken from it"),
        ));
        return waiting;
    }
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            waiting.troubles.push(told(directory, &plain(&error)));
            return waiting;
        }
    };
    for entry in entries.take(NAMES).flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if is_being_put(&path, name.starts_with(NEW), now) {
            continue;
        }
        let request = read(&path, Some((meta.uid(), me))).and_then(|request| {
            if *name != request.file_name()
                || (request.service.is_empty() != request.alert.is_some())
            {
                return Err("its name is not that of what is in it".to_owned());
            }
            if now - request.time > LASTS {
                return Err(format!(
                    "it was {}, and no run has taken it for more than an hour",
                    request.origin()
                ));
            }
            Ok(request)
        });
        match request {
            Ok(request) if waiting.requests.len() < MOST => waiting.requests.push((path, request)),
            // for the next run
            Ok(_) => {}
            Err(why) => {
                // a directory can be removed where it is empty
                let is_directory = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
                let removed = if is_directory {
                    fs::remove_dir(&path)
                } else {
                    fs::remove_file(&path)
                };
                let removed = match removed {
                    Ok(()) => "removed".to_owned(),
                    Err(error) => format!("cannot be removed: {}", plain(&error)),
                };
                waiting
                    .troubles
                    .push(told(&path, &format!("no request ({why}); {removed}")));
            }
        }
    }
    waiting.requests.sort_by(|(_, one), (_, other)| {
        (one.time, &one.service).cmp(&(other.time, &other.service))
    });
    // a directory full of rubbish is not to fill the log
    if waiting.troubles.len() > 10 {
        let more = waiting.troubles.len() - 10;
        waiting.troubles.truncate(10);
        waiting.troubles.push(told(
            directory,
            &format!("{more} more that are no requests"),
        ));
    }
    waiting
}

fn told(path: &Path, what: &str) -> String {
    cut(
        &format!("{}: {what}", visible(&path.to_string_lossy())),
        500,
    )
}

/// Why requests cannot be taken from a directory.
fn unsafe_directory(directory: &Path, meta: &fs::Metadata, me: u32) -> Option<String> {
    if !meta.is_dir() {
        return Some("this is no directory".to_owned());
    }
    if meta.mode() & 0o022 != 0 {
        return Some(format!(
            "others than its owner can write to it (mode {:o}); chmod 700 it",
            meta.mode() & 0o7777
        ));
    }
    let above = directory.parent()?;
    let others = files::writers(above, me, Extent::Whole);
    (!others.are_none()).then(|| {
        format!(
            "{others} can write to {} or above it, and could put another directory in its place",
            above.display()
        )
    })
}

/// Whether a file is perhaps being handed in just now: it is written under its new name, and has both names for a moment
/// after that. The next run sees what has become of it.
fn is_being_put(path: &Path, is_new: bool, now: DateTime<Utc>) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| {
        let age = now.timestamp().saturating_sub(meta.mtime());
        let is_young = age.unsigned_abs() < WRITTEN_WITHIN_S;
        meta.is_file() && is_young && (is_new || meta.nlink() == 2)
    })
}

/// Reads a request, whose file must be of one of these two users, or root. The error is why it is none.
fn read(path: &Path, users: Option<(u32, u32)>) -> Result<Request, String> {
    let (file, meta) = files::open(path, Links::Refuse)
        .map_err(io::Error::from)
        .map_err(|error| plain(&error))?;
    if let Some((owner, me)) = users
        && ![owner, me, 0].contains(&meta.uid())
    {
        return Err(format!("it belongs to UID {}", meta.uid()));
    }
    // the second name of a file that somebody has elsewhere
    if meta.nlink() != 1 && users.is_some() {
        return Err("it has another name (a hard link)".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| plain(&error))?;
    if bytes.len() as u64 > BYTES {
        return Err(format!("it is larger than {BYTES} bytes"));
    }
    serde_json::from_slice(&bytes).map_err(|_| "it cannot be read as one".to_owned())
}

#[cfg(test)]
mod tests;
