//! The journal: one JSON object a line for everything that happened, kept for people and for `history`.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::check::Finding;
use crate::check::process::Identity;
use crate::files::{self, Links};
use crate::notify::Channel;
use crate::restart::{Action, Operation};
use crate::verdict::Verdict;

use super::ServiceState;
pub use super::event::{DeliveryEvent, JournalEvent};
use super::strategies::is_zero;

/// The size in bytes at which the journal is rotated; one old file is kept.
pub const ROTATE_AT: u64 = 5 << 20;

/// Which attempt of its incident one is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptNumber {
    /// Its number, from 1 on.
    pub of_incident: u32,
    /// The strategy that it was made by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// Its number among the attempts of that strategy.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub of_strategy: u32,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub time: DateTime<Utc>,
    /// The service; `watchdog` for what concerns the watchdog itself.
    pub service: String,
    /// What.
    pub event: JournalEvent,
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
    /// The process that was spawned, where that is another one and still ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrapper: Option<Identity>,
    /// Which attempt of its incident one is that was recorded: after a lost state they are counted by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptNumber>,
    /// The channel of a message, if that is not mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Since when, of what has lasted until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// The services that a message was about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub about: Vec<String>,
    /// Further sentences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Entry {
    /// An entry of a time, a service and an event alone.
    pub fn new(time: DateTime<Utc>, service: &str, event: JournalEvent) -> Self {
        Self {
            time,
            service: service.to_owned(),
            event,
            verdict: None,
            findings: Vec::new(),
            action: None,
            started: None,
            wrapper: None,
            attempt: None,
            channel: None,
            since: None,
            about: Vec::new(),
            message: None,
        }
    }

    /// Enters what it has of an attempt beside its time.
    pub(super) fn add_attempt_to(&self, known: &mut ServiceState) {
        let Some(attempt) = &self.attempt else {
            return;
        };
        if attempt.of_incident == 1 {
            known.end_incident();
        }
        known.incident_attempts = attempt.of_incident;
        if let Some(strategy) = &attempt.strategy {
            let of = known.strategies.entry(strategy.clone()).or_default();
            of.attempts.push(self.time);
            of.of_incident = attempt.of_strategy;
        }
    }

    /// Whether it tells of a restart that did not fail.
    pub fn is_good_restart(&self) -> bool {
        let is_good = |action: &Action| action.ok && action.kind == Operation::Restart;
        self.action.as_ref().is_some_and(is_good)
    }

    /// An entry of what became of a message about these services on a channel.
    pub fn of_delivery(
        time: DateTime<Utc>,
        channel: &str,
        what: DeliveryEvent,
        about: &[String],
        message: String,
    ) -> Self {
        Self {
            channel: (channel != Channel::MAIL).then(|| channel.to_owned()),
            about: about.to_vec(),
            message: Some(message),
            ..Self::new(time, "watchdog", JournalEvent::of_delivery(channel, what))
        }
    }

    /// What became of a message, and on which channel, if it is about one.
    pub fn delivery(&self) -> Option<(&str, DeliveryEvent)> {
        match self.event {
            JournalEvent::Mail(what) => Some((Channel::MAIL, what)),
            JournalEvent::Alert(what) => Some((self.channel.as_deref()?, what)),
            _ => None,
        }
    }

    /// Whether it is about a service: it happened to it, or people were alerted about it.
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
    let mut file = files::append_private(&path)?;
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

/// The last entries of the journal, oldest first: as many as stand in its last `most` bytes. Damaged lines are passed over.
pub fn last(state_dir: &Path, most: u64) -> io::Result<Vec<Entry>> {
    let (mut parts, mut left) = (Vec::new(), most);
    for path in [current(state_dir), old(state_dir)] {
        let (mut file, meta) = match files::open(&path, Links::Refuse).map_err(io::Error::from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        let skipped = meta.len().saturating_sub(left);
        file.seek(SeekFrom::Start(skipped))?;
        let mut bytes = Vec::new();
        file.take(left).read_to_end(&mut bytes)?;
        if skipped > 0 {
            // what is in the middle of a line
            let line = bytes.iter().position(|byte| *byte == b'\n');
            bytes.drain(..line.map_or(bytes.len(), |end| end + 1));
        }
        parts.push(bytes);
        left = left.saturating_sub(meta.len());
        if left == 0 {
            break;
        }
    }
    let lines = (parts.iter().rev()).flat_map(|part| part.split(|byte| *byte == b'\n'));
    Ok(lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect())
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
            JournalEvent::Other(event.to_owned()),
        )
    }

    fn events(dir: &Path) -> (Vec<String>, usize) {
        let mut events = Vec::new();
        let damaged = read(dir, |entry| events.push(entry.event.to_string())).unwrap();
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
    fn what_another_version_wrote_is_kept_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let line = r#"{"time":"2027-01-15T08:00:00Z","service":"trader","event":"scaled_sideways","findings":[],"action":null}"#;
        fs::write(current(dir.path()), format!("{line}\n")).unwrap();
        let mut entries = Vec::new();
        assert_eq!(read(dir.path(), |entry| entries.push(entry)).unwrap(), 0);
        assert_eq!(serde_json::to_string(&entries[0]).unwrap(), line);
    }

    #[test]
    fn a_message_on_another_channel_than_mail_names_it() {
        let time = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let sent = |channel| {
            Entry::of_delivery(
                time,
                channel,
                DeliveryEvent::Sent,
                &["a".to_owned()],
                "told".to_owned(),
            )
        };
        for (channel, written) in [
            (
                "mail",
                r#""event":"mail_sent","findings":[],"action":null,"about":["a"]"#,
            ),
            (
                "phone",
                r#""event":"alert_sent","findings":[],"action":null,"channel":"phone","about":["a"]"#,
            ),
        ] {
            let text = serde_json::to_string(&sent(channel)).unwrap();
            assert!(text.contains(written), "{text}");
            let entry: Entry = serde_json::from_str(&text).unwrap();
            assert_eq!(entry.delivery(), Some((channel, DeliveryEvent::Sent)));
        }
        assert_eq!(entry("one").delivery(), None);
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
    fn the_last_entries_are_read_from_the_end() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(last(dir.path(), 1000).unwrap(), []);
        append(dir.path(), &[entry("one"), entry("two")]).unwrap();
        fs::rename(current(dir.path()), old(dir.path())).unwrap();
        append(dir.path(), &[entry("three"), entry("four")]).unwrap();
        let line = fs::metadata(old(dir.path())).unwrap().len() / 2;
        let all = [entry("one"), entry("two"), entry("three"), entry("four")];
        for (most, kept) in [
            (1 << 20, 4),
            (4 * line + 4, 4),
            (3 * line + 4, 3),
            (line + 4, 1),
            (line / 2, 0),
            (0, 0),
        ] {
            let entries = last(dir.path(), most).unwrap();
            assert_eq!(entries, all[4 - kept..], "{most}");
        }
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
