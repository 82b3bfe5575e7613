//! Deliveries that are not over yet: one file for each notification and channel, from before the first attempt to send
//! it until it is known of each recipient how it ended.
//!
//! Invariant: an alert is pending in the state, or a delivery on the disk names it, or its delivery is over. So a
//! delivery is flushed to the disk before the state forgets the alerts in it; a run that is killed between the two
//! leaves both, and the next one finds the ids of those alerts in the file.
//!
//! One case cannot be excluded: the other side has taken a message, and the run is killed before the file is removed.
//! Then the message is sent a second time with the same id, by which its reader can tell a copy.
//!
//! Whoever calls this holds the state's lock. Files that are not ours, or that are damaged, are set aside.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{Channel, Notification, Pause, Thread, nonce};
use crate::clock::{Reading, age};
use crate::files::{self, Links, Refusal};

mod old;

/// How many deliveries are kept for a channel, at the most.
pub const LIMIT: usize = 200;

/// How many bytes they may have together.
pub const SIZE_LIMIT: u64 = 16 << 20;

/// How long it is tried to deliver a notification.
pub const PATIENCE: Duration = Duration::from_hours(72);

/// A file larger than this is not one of ours.
pub(super) const FILE_LIMIT: u64 = 8 << 20;

/// How many files that were set aside are kept for a person to look at.
const ASIDE_KEPT: usize = 8;

/// What a file that was set aside ends with.
const ASIDE: &str = ".corrupt";

/// The longest wait, in minutes, between attempts that may each have made a copy.
const LONGEST_WAIT: i64 = 6 * 60;

/// A notification on its way to the recipients of one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// What is sent.
    pub notification: Notification,
    /// The name of the channel.
    pub channel: String,
    /// The recipients who do not have it yet. None left: it is only kept until the state knows.
    pub recipients: Vec<String>,
    /// The ids of the alerts in it.
    pub alerts: Vec<String>,
    /// The messages that it follows on this channel.
    #[serde(default)]
    pub thread: Thread,
    /// When it was written.
    pub since: DateTime<Utc>,
    /// How many attempts have failed.
    #[serde(default)]
    pub tries: u32,
    /// How many of them may have delivered it all the same: all of it was handed over, and no answer came.
    #[serde(default)]
    pub uncertain: u32,
    /// When the last of those was.
    #[serde(default)]
    pub last_uncertain: Option<DateTime<Utc>>,
    /// The id that the other side gave it, where it gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Time in which there is no further attempt, where the other side does not take it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// The same of recipients who were refused while others are still to have it soon.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, Hold>,
    /// The clocks that these times are by. Each delivery has its own: whoever sets the clock, and whatever runs come
    /// before the one that sends, it is held against the right ones.
    #[serde(default)]
    pub clock: Option<Reading>,
}

impl Delivery {
    /// A notification that was not delivered to anybody yet.
    pub fn new(
        notification: Notification,
        channel: &str,
        recipients: Vec<String>,
        alerts: Vec<String>,
        thread: Thread,
        now: &Reading,
    ) -> Self {
        Self {
            since: notification.time,
            notification,
            channel: channel.to_owned(),
            recipients,
            alerts,
            thread,
            tries: 0,
            uncertain: 0,
            last_uncertain: None,
            message_id: None,
            hold: None,
            refused: BTreeMap::new(),
            clock: Some(now.clone()),
        }
    }

    /// Whether every recipient has it or was refused.
    pub fn is_over(&self) -> bool {
        self.recipients.is_empty()
    }

    /// Whether it is to be tried now. Each run tries, but where attempts may have made copies the waits grow, so
    /// that a server which takes everything and answers nothing fills no mailbox.
    pub fn is_due(&self, now: DateTime<Utc>) -> bool {
        let Some(last) = self.last_uncertain else {
            return true;
        };
        let minutes = 1_i64.checked_shl(self.uncertain).unwrap_or(LONGEST_WAIT);
        let wait = TimeDelta::minutes(minutes.clamp(1, LONGEST_WAIT));
        // a time that lies ahead is that of a clock that was wrong
        last > now || now - last >= wait
    }

    /// Moves its times with a clock that was set since they were written. Says whether it was.
    pub fn adjust_to_clock(&mut self, now: &Reading) -> bool {
        let moved = self
            .clock
            .replace(now.clone())
            .map(|clock| now.wall_moved_since(&clock))
            .unwrap_or_default();
        // the clocks are not read at one instant: what is less than a second is no setting of a clock
        if moved.abs() < TimeDelta::seconds(1) {
            return false;
        }
        let held = (self.hold.iter_mut().chain(self.refused.values_mut())).map(|it| &mut it.since);
        let times = std::iter::once(&mut self.since).chain(&mut self.last_uncertain);
        for time in times.chain(held) {
            *time = time.checked_add_signed(moved).unwrap_or(*time);
        }
        true
    }

    /// The recipients who are to be tried now.
    pub fn due_recipients(&self, channel: &Channel, now: DateTime<Utc>) -> Vec<String> {
        let is_held = |hold: &Hold| hold.holds(channel, now);
        if self.hold.as_ref().is_some_and(is_held) {
            return Vec::new();
        }
        let recipients = self.recipients.iter();
        recipients
            .filter(|it| !self.refused.get(*it).is_some_and(is_held))
            .cloned()
            .collect()
    }

    /// Whether it has been tried for long enough.
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        age(now, self.since) >= PATIENCE
    }
}

/// Time in which the other side is not asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Since when.
    pub since: DateTime<Utc>,
    /// For how long, in milliseconds.
    pub length_ms: u64,
    /// What the channel was like, where it ends when that has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<u16>,
}

impl Hold {
    /// What a pause is from now on.
    pub fn of(pause: &Pause, channel: &Channel, now: DateTime<Utc>) -> Self {
        Self {
            since: now,
            length_ms: u64::try_from(pause.length.as_millis()).unwrap_or(u64::MAX),
            fingerprint: pause.until_changed.then(|| channel.fingerprint()),
        }
    }

    /// Whether it holds.
    pub fn holds(&self, channel: &Channel, now: DateTime<Utc>) -> bool {
        // a beginning that lies ahead is that of a clock that was wrong
        self.since <= now
            && age(now, self.since) < Duration::from_millis(self.length_ms)
            && (self.fingerprint).is_none_or(|known| known == channel.fingerprint())
    }
}

/// A delivery with its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The name of its file.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// What is in it.
    pub delivery: Delivery,
}

/// What is in the outbox.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The deliveries, the oldest first.
    pub deliveries: Vec<Kept>,
    /// What was wrong, as sentences for a person.
    pub troubles: Vec<String>,
}

/// The directory.
#[derive(Clone, Debug)]
pub struct Outbox {
    dir: PathBuf,
}

impl Outbox {
    /// The outbox in a state directory. Nothing is made before there is something to keep.
    pub fn at(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.join("outbox"),
        }
    }

    /// All that is in it, the oldest first. Remains of writes that were cut short are removed, and files that cannot
    /// be used are set aside: none of it stops the others.
    pub fn load(&self) -> Loaded {
        let mut loaded = Loaded::default();
        let listed = match fs::read_dir(&self.dir) {
            Ok(listed) => listed,
            Err(error) if error.kind() == ErrorKind::NotFound => return loaded,
            Err(error) => {
                loaded.troubles.push(format!(
                    "the outbox {} cannot be read: {error}",
                    self.dir.display()
                ));
                return loaded;
            }
        };
        let mut names: Vec<String> = listed
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        for name in names {
            let path = self.dir.join(&name);
            let ending = path.extension().and_then(OsStr::to_str);
            if ending == Some("new") {
                let _ = fs::remove_file(&path);
            } else if ending == Some("json") {
                match read(&path) {
                    Ok((delivery, size)) => loaded.deliveries.push(Kept {
                        name,
                        size,
                        delivery,
                    }),
                    Err(why) => loaded.troubles.push(self.set_aside(&name, &why)),
                }
            }
        }
        loaded
    }

    /// For each channel, how many messages about a service wait in it. Only looks: for commands that hold no lock.
    pub fn waiting_about(&self, service: &str) -> BTreeMap<String, usize> {
        let mut waiting = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|ending| ending == "json")
                && let Ok((delivery, _)) = read(&path)
                && !delivery.is_over()
                && (delivery.notification.services.iter()).any(|name| name == service)
            {
                *waiting.entry(delivery.channel).or_default() += 1;
            }
        }
        waiting
    }

    /// Renames a file that cannot be used, and says so; the oldest of such files go.
    fn set_aside(&self, name: &str, why: &str) -> String {
        let path = self.dir.join(name);
        let aside = self.dir.join(format!("{name}{ASIDE}"));
        let moved = fs::rename(&path, &aside).is_ok();
        let mut kept: Vec<PathBuf> = fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.to_string_lossy().ends_with(ASIDE))
            .collect();
        kept.sort_unstable();
        for path in kept.iter().rev().skip(ASIDE_KEPT) {
            let _ = fs::remove_file(path);
        }
        let shown = path.display();
        if moved {
            format!(
                "{shown} {why}; it is not sent, and was set aside as {}",
                aside.display()
            )
        } else {
            format!("{shown} {why}; it is not sent; look at it and remove it")
        }
    }

    /// Takes up a new delivery: when this returns, it is on the disk.
    pub fn add(&self, delivery: Delivery) -> io::Result<Kept> {
        self.prepare()?;
        let name = format!(
            "{}-{}-{:016x}.json",
            delivery.since.format("%Y%m%dT%H%M%S%3fZ"),
            delivery.channel,
            nonce()
        );
        let size = self.write(&name, &delivery)?;
        Ok(Kept {
            name,
            size,
            delivery,
        })
    }

    /// Writes a delivery anew, whole or not at all.
    pub fn update(&self, kept: &Kept) -> io::Result<()> {
        self.write(&kept.name, &kept.delivery).map(|_| ())
    }

    /// Removes a delivery: when this returns, it will not come back.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.dir.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => self.flush(),
        }
    }

    fn prepare(&self) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let meta = fs::symlink_metadata(&self.dir)?;
        let me = nix::unistd::geteuid().as_raw();
        if !meta.is_dir() || (meta.uid() != me && meta.uid() != 0) || meta.mode() & 0o022 != 0 {
            return Err(io::Error::other(
                "it must be a directory of this user that nobody else can write to; remove it, and it is made anew",
            ));
        }
        Ok(())
    }

    fn write(&self, name: &str, delivery: &Delivery) -> io::Result<u64> {
        let bytes = serde_json::to_vec(delivery)?;
        let new = self.dir.join(format!("{name}.new"));
        let _ = fs::remove_file(&new);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&new)
            .and_then(|mut file| {
                file.write_all(&bytes)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&new, self.dir.join(name)))
            .and_then(|()| self.flush());
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written?;
        Ok(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
    }

    fn flush(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

/// The names of the oldest deliveries of a channel that have to go for its others to fit.
pub fn surplus(kept: &[Kept], channel: &str) -> Vec<String> {
    let mut size = 0;
    let mut number = 0;
    let newest_first = kept.iter().rev();
    newest_first
        .filter(|kept| kept.delivery.channel == channel)
        .filter(|kept| {
            number += 1;
            size += kept.size;
            // the newest one stays whatever its size
            number > 1 && (number > LIMIT || size > SIZE_LIMIT)
        })
        .map(|kept| kept.name.clone())
        .collect()
}

/// Reads one file and its size. The error says what is wrong with it.
fn read(path: &Path) -> Result<(Delivery, u64), String> {
    let (file, meta) = files::open(path, Links::Refuse).map_err(|refusal| match refusal {
        Refusal::Kind(kind) => format!("is {kind}, not a regular file"),
        Refusal::Io(error) => format!("cannot be read ({error})"),
    })?;
    if meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err(format!("belongs to another user (UID {})", meta.uid()));
    }
    if meta.len() > FILE_LIMIT {
        return Err("is too large".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read ({error})"))?;
    let delivery = parse(&bytes)?;
    Ok((delivery, meta.len()))
}

/// Parses the bytes of a file, of this or an earlier version. Never panics, whatever they are.
pub fn parse(bytes: &[u8]) -> Result<Delivery, String> {
    if bytes.is_empty() {
        return Err("is empty".to_owned());
    }
    serde_json::from_slice(bytes)
        .or_else(|error| old::parse(bytes).ok_or(error))
        .map_err(|error| format!("is damaged ({error})"))
}

#[cfg(test)]
mod tests;
