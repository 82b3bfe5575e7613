//! The journal: one JSON object a line for everything that happened, kept for people and for `history`.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::check::Finding;
use crate::check::process::Identity;
use crate::files::{self, Links};
use crate::restart::{Action, Operation};
use crate::verdict::Verdict;

/// The size in bytes at which the journal is rotated; one old file is kept.
pub const ROTATE_AT: u64 = 5 << 20;

/// The event of a restart attempt, entered before anything is touched.
pub const RESTARTING: &str = "restarting";

/// The event of attempts that a person had forgotten.
pub const RESET: &str = "reset";

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub time: DateTime<Utc>,
    /// The service; `watchdog` for what concerns the watchdog itself.
    pub service: String,
    /// What: a verdict's name, `recovered`, `restarting`, `interrupted`, `state_damaged`, `mail_sent`,
    /// `mail_deferred`, `mail_refused`, `mail_given_up`, ….
    pub event: String,
    /// The verdict of the run that it happened in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// What was seen.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// What was done.
    #[serde(default)]
    pub action: Option<Action>,
    /// The process that a restart brought up: after a lost state it is known by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Identity>,
    /// The services that a mail was about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub about: Vec<String>,
    /// Further sentences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Entry {
    /// An entry of a time, a service and an event alone.
    pub fn new(time: DateTime<Utc>, service: &str, event: &str) -> Self {
        Self {
            time,
            service: service.to_owned(),
            event: event.to_owned(),
            verdict: None,
            findings: Vec::new(),
            action: None,
            started: None,
            about: Vec::new(),
            message: None,
        }
    }

    /// Whether it tells of a restart that did not fail.
    pub fn is_good_restart(&self) -> bool {
        let is_good = |action: &Action| action.ok && action.kind == Operation::Restart;
        self.action.as_ref().is_some_and(is_good)
    }

    /// Whether it is about a service: it happened to it, or it was mailed about.
    pub fn concerns(&self, service: &str) -> bool {
        self.service == service || self.about.iter().any(|name| name == service)
    }
}

fn current(state_dir: &Path) -> PathBuf {
    state_dir.join("journal.jsonl")
}

fn old(state_dir: &Path) -> PathBuf {
    state_dir.join("journal.jsonl.1")
}

/// Appends entries, each as one line in one write, and rotates a journal that has grown too large.
pub fn append(state_dir: &Path, entries: &[Entry]) -> io::Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let path = current(state_dir);
    if fs::symlink_metadata(&path).is_ok_and(|meta| meta.len() >= ROTATE_AT) {
        fs::rename(&path, old(state_dir))?;
    }
    let mut file = files::append(&path, 0o600)?;
    let mut lines = Vec::new();
    if ends_torn(&mut file)? {
        lines.push(b'\n');
    }
    for entry in entries {
        serde_json::to_writer(&mut lines, entry)?;
        lines.push(b'\n');
    }
    file.write_all(&lines)
}

/// Appends entries. A journal that cannot be written is logged about, and is no reason to stop.
pub fn append_or_warn(state_dir: &Path, entries: &[Entry]) {
    if let Err(error) = append(state_dir, entries) {
        ::log::warn!(
            "the journal in {} cannot be written: {error}",
            state_dir.display()
        );
    }
}

/// Whether the last line was cut short, by a full disk or a crash: the next one must not be glued to it.
fn ends_torn(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// Reads the whole journal, oldest first, handing each entry to `each`; lines that are damaged are counted and
/// passed over. The count is returned.
pub fn read(state_dir: &Path, mut each: impl FnMut(Entry)) -> io::Result<usize> {
    let mut damaged = 0;
    for path in [old(state_dir), current(state_dir)] {
        let file = match files::open(&path, Links::Refuse).map_err(io::Error::from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?.0,
        };
        for line in BufReader::new(file.take(2 * ROTATE_AT)).split(b'\n') {
            let line = line?;
            if line.is_empty() {
                continue;
            }
            match serde_json::from_slice(&line) {
                Ok(entry) => each(entry),
                Err(_) => damaged += 1,
            }
        }
    }
    Ok(damaged)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    fn entry(event: &str) -> Entry {
        Entry::new(
            DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            "trader",
            event,
        )
    }

    fn events(dir: &Path) -> (Vec<String>, usize) {
        let mut events = Vec::new();
        let damaged = read(dir, |entry| events.push(entry.event)).unwrap();
        (events, damaged)
    }

    #[test]
    fn a_torn_line_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), &[entry("one")]).unwrap();
        let mut file = OpenOptions::new()
            .append(true)
            .open(current(dir.path()))
            .unwrap();
        file.write_all(b"{\"time\":\"20").unwrap();
        append(dir.path(), &[entry("two"), entry("three")]).unwrap();
        assert_eq!(
            events(dir.path()),
            (vec!["one".into(), "two".into(), "three".into()], 1)
        );
    }

    #[test]
    fn one_old_file_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), &[entry("old")]).unwrap();
        let file = OpenOptions::new()
            .append(true)
            .open(current(dir.path()))
            .unwrap();
        file.set_len(ROTATE_AT).unwrap();
        append(dir.path(), &[entry("new")]).unwrap();
        let (events, _) = events(dir.path());
        assert_eq!(events, ["old", "new"]);
        assert!(fs::metadata(current(dir.path())).unwrap().len() < 1000);
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, current(dir.path())).unwrap();
        assert!(append(dir.path(), &[entry("one")]).is_err());
        assert!(!elsewhere.exists());
    }
}
