//! Messages on their way: each a file, from before the first attempt to send it until all its recipients are settled.
//!
//! A message is written here, flushed to the disk, before the state forgets the alerts that it tells, and it names
//! them: so a run that is killed between the two is understood by the next one, and nothing is lost or told twice.
//! There is one window that no order of steps can close: a server has taken a message, and the run is killed before
//! the file is removed. Then the message comes a second time, with the same id, so that a mailbox can tell.
//!
//! Whoever calls this holds the state's lock. Files that are not ours, or that are damaged, are set aside.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{Message, nonce};
use crate::clock::{Reading, age};
use crate::files::{self, Links, Refusal};

/// How many messages are kept, at the most.
pub const LIMIT: usize = 200;

/// How many bytes they may have together.
pub const SIZE_LIMIT: u64 = 16 << 20;

/// How long it is tried to deliver a message.
pub const PATIENCE: Duration = Duration::from_hours(72);

/// A file larger than this is not one of ours.
const FILE_LIMIT: u64 = 4 << 20;

/// How many files that were set aside are kept for a person to look at.
const ASIDE_KEPT: usize = 8;

/// What a file that was set aside ends with.
const ASIDE: &str = ".corrupt";

/// The longest wait, in minutes, between attempts that may each have made a copy.
const LONGEST_WAIT: i64 = 6 * 60;

/// One message and what is left to be done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The message.
    pub message: Message,
    /// The recipients who do not have it yet. None left: it is only kept until the state knows.
    pub recipients: Vec<String>,
    /// The ids of the alerts that it tells.
    pub alerts: Vec<String>,
    /// When it was written.
    pub since: DateTime<Utc>,
    /// How many attempts have failed.
    #[serde(default)]
    pub tries: u32,
    /// How many of them may have delivered it all the same: all of it was handed over, and no answer came.
    #[serde(default)]
    pub doubts: u32,
    /// When the last of those was.
    #[serde(default)]
    pub doubted: Option<DateTime<Utc>>,
    /// The clocks that these times are by. Each message has its own: whoever sets the clock, and whatever runs come
    /// before the one that sends mail, it is held against the right ones.
    #[serde(default)]
    pub clock: Option<Reading>,
}

impl Entry {
    /// A message that nobody has yet.
    pub fn new(
        message: Message,
        recipients: &[String],
        alerts: Vec<String>,
        now: &Reading,
    ) -> Self {
        Self {
            since: message.time,
            message,
            recipients: recipients.to_vec(),
            alerts,
            tries: 0,
            doubts: 0,
            doubted: None,
            clock: Some(now.clone()),
        }
    }

    /// Whether it is to be tried now. Each run tries, but where attempts may have made copies the waits grow, so
    /// that a server which takes everything and answers nothing fills no mailbox.
    pub fn is_due(&self, now: DateTime<Utc>) -> bool {
        let Some(last) = self.doubted else {
            return true;
        };
        let minutes = 1_i64.checked_shl(self.doubts).unwrap_or(LONGEST_WAIT);
        let wait = TimeDelta::minutes(minutes.clamp(1, LONGEST_WAIT));
        // a time that lies ahead is that of a clock that was wrong
        last > now || now - last >= wait
    }

    /// Moves its times with a clock that was set since they were written. Says whether it was.
    pub fn bring_to(&mut self, now: &Reading) -> bool {
        let moved = self
            .clock
            .replace(now.clone())
            .map(|clock| now.wall_moved_since(&clock))
            .unwrap_or_default();
        // the clocks are not read at one instant: what is less than a second is no setting of a clock
        if moved.abs() < TimeDelta::seconds(1) {
            return false;
        }
        for time in std::iter::once(&mut self.since).chain(&mut self.doubted) {
            *time = time.checked_add_signed(moved).unwrap_or(*time);
        }
        true
    }

    /// Whether it has been tried for long enough.
    pub fn is_hopeless(&self, now: DateTime<Utc>) -> bool {
        age(now, self.since) >= PATIENCE
    }
}

/// An entry with its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The name of its file.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// What is in it.
    pub entry: Entry,
}

/// What is in the outbox.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The messages, the oldest first.
    pub entries: Vec<Kept>,
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
                    Ok((entry, size)) => loaded.entries.push(Kept { name, size, entry }),
                    Err(why) => loaded.troubles.push(self.set_aside(&name, &why)),
                }
            }
        }
        loaded
    }

    /// How many messages about a service wait in it. Only looks: for commands that hold no lock.
    pub fn waiting_about(&self, service: &str) -> usize {
        fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
            .filter_map(|path| read(&path).ok())
            .filter(|(entry, _)| !entry.recipients.is_empty())
            .filter(|(entry, _)| entry.message.services.iter().any(|name| name == service))
            .count()
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

    /// Takes up a new entry: when this returns, it is on the disk.
    pub fn add(&self, entry: Entry) -> io::Result<Kept> {
        self.prepare()?;
        let name = format!(
            "{}-{:016x}.json",
            entry.since.format("%Y%m%dT%H%M%S%3fZ"),
            nonce()
        );
        let size = self.write(&name, &entry)?;
        Ok(Kept { name, size, entry })
    }

    /// Writes an entry anew, whole or not at all.
    pub fn update(&self, kept: &Kept) -> io::Result<()> {
        self.write(&kept.name, &kept.entry).map(|_| ())
    }

    /// Lets an entry go: when this returns, it will not come back.
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

    fn write(&self, name: &str, entry: &Entry) -> io::Result<u64> {
        let bytes = serde_json::to_vec(entry)?;
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

/// How many of the oldest entries have to go for the others to fit.
pub fn surplus(entries: &[Kept]) -> usize {
    let mut size = 0;
    let fitting = entries
        .iter()
        .rev()
        .take(LIMIT)
        .take_while(|kept| {
            size += kept.size;
            size <= SIZE_LIMIT
        })
        .count();
    // the newest one stays whatever its size
    entries.len().saturating_sub(fitting.max(1))
}

/// Reads one file and its size. The error says what is wrong with it.
fn read(path: &Path) -> Result<(Entry, u64), String> {
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
    let entry = parse(&bytes)?;
    Ok((entry, meta.len()))
}

/// Parses the bytes of a file. Never panics, whatever they are.
pub fn parse(bytes: &[u8]) -> Result<Entry, String> {
    if bytes.is_empty() {
        return Err("is empty".to_owned());
    }
    serde_json::from_slice(bytes).map_err(|error| format!("is damaged ({error})"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::notify::Event;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    /// The clocks of a machine that was up for `up` seconds.
    fn reading(second: i64, up: u64) -> Reading {
        Reading {
            wall: at(second),
            boot_ms: up * 1000,
            awake_ms: up * 1000,
            boot_id: "a".into(),
        }
    }

    fn entry(second: i64) -> Entry {
        let message = Message {
            subject: "s".to_owned(),
            body: "b\n".to_owned(),
            services: vec!["a".to_owned()],
            event: Event::Down,
            time: at(second),
            message_id: format!("<{second}@h>"),
            in_reply_to: None,
            references: Vec::new(),
        };
        let now = reading(second, 0);
        Entry::new(
            message,
            &["ops@x.org".to_owned()],
            vec!["1".to_owned()],
            &now,
        )
    }

    fn ids(loaded: &Loaded) -> Vec<String> {
        let ids = loaded.entries.iter();
        ids.map(|kept| kept.entry.message.message_id.clone())
            .collect()
    }

    #[test]
    fn what_is_kept_comes_back_oldest_first_and_is_its_owners_alone() {
        let state = tempfile::tempdir().unwrap();
        let outbox = Outbox::at(state.path());
        assert!(outbox.load().entries.is_empty());
        assert!(!state.path().join("outbox").exists(), "looking makes none");
        for second in [3, 1, 2] {
            outbox.add(entry(second)).unwrap();
        }
        let mut loaded = outbox.load();
        assert_eq!(ids(&loaded), ["<1@h>", "<2@h>", "<3@h>"]);
        assert_eq!(loaded.entries[0].entry, entry(1));
        let dir = state.path().join("outbox");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        for kept in &loaded.entries {
            let path = dir.join(&kept.name);
            assert_eq!(mode(&path), 0o600);
            assert_eq!(fs::metadata(path).unwrap().len(), kept.size);
        }
        let kept = &mut loaded.entries[1];
        kept.entry.recipients.clear();
        outbox.update(kept).unwrap();
        outbox.remove(&loaded.entries[0].name).unwrap();
        outbox.remove(&loaded.entries[0].name).unwrap();
        let again = outbox.load();
        assert_eq!(ids(&again), ["<2@h>", "<3@h>"]);
        assert!(again.entries[0].entry.recipients.is_empty());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
    }

    #[test]
    fn what_is_no_entry_is_set_aside_and_stops_nobody() {
        let state = tempfile::tempdir().unwrap();
        let outbox = Outbox::at(state.path());
        let good = outbox.add(entry(1)).unwrap();
        let dir = state.path().join("outbox");
        let whole = fs::read(dir.join(&good.name)).unwrap();
        fs::write(dir.join("0-empty.json"), "").unwrap();
        fs::write(dir.join("0-torn.json"), &whole[..whole.len() / 2]).unwrap();
        fs::write(dir.join("0-other.json"), "[1]").unwrap();
        fs::write(dir.join("0-half.json.new"), &whole[..9]).unwrap();
        fs::write(dir.join("notes.txt"), "mine").unwrap();
        fs::create_dir(dir.join("0-dir.json")).unwrap();
        nix::unistd::mkfifo(&dir.join("0-fifo.json"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        let target = state.path().join("target");
        fs::write(&target, &whole).unwrap();
        symlink(&target, dir.join("0-link.json")).unwrap();
        let loaded = outbox.load();
        assert_eq!(ids(&loaded), ["<1@h>"]);
        assert_eq!(loaded.troubles.len(), 6, "{:?}", loaded.troubles);
        for (name, why) in [
            (
                "0-empty.json is empty; it is not sent, and was set aside as",
                0,
            ),
            ("0-torn.json is damaged (", 5),
            ("0-fifo.json is a FIFO, not a regular file;", 2),
            ("0-link.json is a symbolic link, not a regular file;", 3),
        ] {
            assert!(
                loaded.troubles.iter().any(|told| told.contains(name)),
                "{why} {name}: {:?}",
                loaded.troubles
            );
        }
        assert!(!dir.join("0-half.json.new").exists());
        assert!(dir.join("notes.txt").exists());
        assert_eq!(fs::read(&target).unwrap(), whole);
        assert!(outbox.load().troubles.is_empty(), "told once");
    }

    #[test]
    fn a_file_that_has_gone_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(
            read(&directory.path().join("1.json")).unwrap_err(),
            "cannot be read (No such file or directory (os error 2))"
        );
    }

    #[test]
    fn files_set_aside_are_bounded() {
        let state = tempfile::tempdir().unwrap();
        let outbox = Outbox::at(state.path());
        outbox.add(entry(1)).unwrap();
        for n in 0..30 {
            fs::write(state.path().join(format!("outbox/{n:02}.json")), "?").unwrap();
        }
        outbox.load();
        let left = fs::read_dir(state.path().join("outbox")).unwrap().count();
        assert_eq!(left, 1 + ASIDE_KEPT);
    }

    #[test]
    fn a_directory_that_is_a_link_is_not_written_to() {
        let state = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), state.path().join("outbox")).unwrap();
        let error = Outbox::at(state.path()).add(entry(1)).unwrap_err();
        assert!(error.to_string().contains("it is made anew"), "{error}");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }

    #[test]
    fn f71_the_oldest_go_when_there_are_too_many() {
        let kept = |size| Kept {
            name: String::new(),
            size,
            entry: entry(1),
        };
        assert_eq!(surplus(&vec![kept(10); LIMIT]), 0);
        assert_eq!(surplus(&vec![kept(10); LIMIT + 3]), 3);
        assert_eq!(surplus(&vec![kept(SIZE_LIMIT / 4); 5]), 1);
        assert_eq!(surplus(&[kept(SIZE_LIMIT * 2)]), 0);
        assert_eq!(surplus(&[kept(1), kept(SIZE_LIMIT * 2)]), 1);
        assert_eq!(surplus(&[]), 0);
    }

    #[test]
    fn doubtful_attempts_come_at_growing_intervals_and_all_end_after_three_days() {
        let mut entry = entry(0);
        assert!(entry.is_due(at(0)));
        let mut copies = 0;
        for minute in 0..3 * 24 * 60 {
            if entry.is_due(at(minute * 60)) {
                copies += 1;
                entry.doubts += 1;
                entry.doubted = Some(at(minute * 60));
            }
        }
        assert!((10..25).contains(&copies), "{copies}");
        assert!(entry.is_due(at(0)), "the clock was ahead");
        assert!(!entry.is_hopeless(at(3 * 86_400 - 1)));
        assert!(entry.is_hopeless(at(3 * 86_400)));
        assert!(!entry.is_hopeless(at(-100)));
        entry.doubts = u32::MAX;
        assert!(entry.is_due(at(10 * 86_400)));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
