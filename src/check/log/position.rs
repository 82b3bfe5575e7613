//! Where a log was read to.
//!
//! A name and an offset are not enough: logs are renamed, copied and truncated, compressed, and inode numbers
//! are used again. A [`FilePosition`] therefore holds prints of the first bytes that were in the file and of the last,
//! and a file is the same only if they still stand where they stood.

use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, Serializer};

use super::encoding::Encoding;
use super::fingerprint::{Fingerprint, HEAD, TAIL};
use super::open::{self, Links, Opened};
use super::tail::{self, End};
use crate::clock::{Moment, times};

/// Where a log was read to: kept from run to run. Facts about the file, no judgement.
///
/// Of a state in which one cannot be read, that one alone is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogPosition {
    /// The file that was at the path.
    #[serde(skip_serializing_if = "FilePosition::is_none")]
    pub here: FilePosition,
    /// The files that were there before it, the latest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<FilePosition>,
    /// When the log was last written with content, in whichever file: the modification time of then. An empty
    /// new file does not change it.
    pub written: Option<Moment>,
    /// The newest stamp that a line had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stamped: Option<Moment>,
    /// Since when no line has a stamp that can be read, so that its age is that of the last write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unstamped_since: Option<Moment>,
    /// The file at the path took the place of one that cannot be read any more: the lines before its first are
    /// not known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// Of a journal: how far it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalPosition>,
    /// Of a container: how far its output was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<OutputPosition>,
    /// It was made by [`super::position_at_end`], when a restart had stopped the process.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub restarted: bool,
}

impl LogPosition {
    /// Whether it marks anything.
    pub(super) fn is_known(&self) -> bool {
        self.here.ino != 0
    }

    /// Brings this to how far `later` was read in the same file, and to what was last there.
    pub fn catch_up(&mut self, later: &Self) {
        if later.journal.is_some() {
            self.journal.clone_from(&later.journal);
        }
        if later.container.is_some() {
            self.container.clone_from(&later.container);
        }
        if self.here.same_file(&later.here) && self.here.path == later.here.path {
            self.here.clone_from(&later.here);
        }
        self.written = later.written;
        self.stamped = later.stamped;
    }
}

/// How far a journal was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JournalPosition {
    /// The cursor of the newest message that was judged, as systemd has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Nothing that was logged by then is judged, in microseconds since 1970: where no cursor could be had.
    #[serde(skip_serializing_if = "is_zero")]
    pub until: i64,
    /// Since when there is no message at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_since: Option<Moment>,
}

/// How far the output of a container was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutputPosition {
    /// The id of the container: another one has output of its own.
    pub id: String,
    /// The newest line of standard output that was judged; absent: it has none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<LastLine>,
    /// The newest line of standard error that was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<LastLine>,
    /// Since when there is no line at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_since: Option<Moment>,
}

/// The newest line of a stream that was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastLine {
    /// When the engine got it, to the nanosecond, by the wall clock of then.
    pub time: DateTime<Utc>,
    /// So many lines of its stream have that time, and all of them were judged; absent: all that have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(time: &i64) -> bool {
    *time == 0
}

/// A file as it was when it was read, and how far it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FilePosition {
    /// Its path, without symbolic links.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// Its device.
    pub dev: u64,
    /// Its inode; 0: no file.
    pub ino: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Its modification time.
    #[serde(with = "times")]
    pub modified: DateTime<Utc>,
    /// All before this byte was judged.
    pub offset: u64,
    /// `offset` is within a line that was judged already.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub inside: bool,
    /// The line before `offset` ended with a CR, to which a LF may belong that comes next.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub after_cr: bool,
    /// It ended within a line.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unfinished: bool,
    /// The patterns that matched the unfinished line at `offset`: they are not asked about it again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matched: Vec<String>,
    /// How its characters are stored.
    #[serde(skip_serializing_if = "is_bytes")]
    pub encoding: Encoding,
    /// Its first bytes.
    pub head: Fingerprint,
    /// The last bytes before `size`.
    pub tail: Fingerprint,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_bytes(encoding: &Encoding) -> bool {
    *encoding == Encoding::Bytes
}

/// A path that is not UTF-8 is only found again by its inode.
fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    // to look for what is not UTF-8 takes longer than to see that all is
    match path.to_str() {
        Some(text) => serializer.serialize_str(text),
        None => serializer.serialize_str(&path.to_string_lossy()),
    }
}

impl FilePosition {
    /// Whether this is no file.
    fn is_none(&self) -> bool {
        self.ino == 0
    }

    /// A file that was read as far as `end`.
    pub(super) fn of(opened: &Opened, path: PathBuf, end: End) -> io::Result<Self> {
        let size = opened.size;
        let len = size.min(TAIL);
        Ok(Self {
            path,
            dev: opened.dev,
            ino: opened.ino,
            size,
            modified: opened.modified,
            offset: end.offset,
            inside: end.inside,
            after_cr: end.after_cr,
            matched: Vec::new(),
            encoding: opened.bytes.encoding()?,
            unfinished: tail::ends_inside(&opened.bytes, size)?,
            // the end first: it may hold the beginning as well
            tail: opened.bytes.print(size - len, len)?,
            head: opened.bytes.print(0, size.min(HEAD))?,
        })
    }

    /// A file of which all that is there is as good as judged.
    pub(super) fn at_end(opened: &Opened, path: PathBuf) -> io::Result<Self> {
        Self::of(opened, path, End::of_all(&opened.bytes, opened.size)?)
    }

    /// The same file, as far as it was seen, with all of it as good as judged: also a last line without an end.
    pub(super) fn passed(self) -> Self {
        Self {
            inside: self.unfinished,
            // where a line is not finished, what came before is not a CR
            after_cr: self.after_cr && self.offset == self.size,
            offset: self.size,
            matched: Vec::new(),
            ..self
        }
    }

    /// Whether a file is this one: not only its inode, which is used again, but what was in it.
    pub(super) fn is(&self, opened: &Opened) -> bool {
        // the device of a file changes with a reboot on some file systems; of an empty file nothing else is known
        let device = self.dev == opened.dev || self.size > 0;
        device && self.ino == opened.ino && self.reads_like(opened)
    }

    /// Whether a file begins with what was in this one.
    pub(super) fn reads_like(&self, opened: &Opened) -> bool {
        // a damaged mark must not ask for a large read
        if self.size > opened.size
            || self.offset > self.size
            || self.head.len != self.size.min(HEAD)
            || self.tail.len != self.size.min(TAIL)
        {
            return false;
        }
        let stands = |print: &Fingerprint, at| {
            print.len == 0
                || opened
                    .bytes
                    .print(at, print.len)
                    .is_ok_and(|found| found == *print)
        };
        stands(&self.tail, self.size - self.tail.len) && stands(&self.head, 0)
    }

    /// Opens the file by the path that it had, if it is still there.
    pub(super) fn reopen(&self) -> Option<Opened> {
        let opened = open::open(&self.path, Links::Refuse)
            .ok()
            .filter(|opened| self.is(opened))?;
        opened.bytes.inherit(self.encoding);
        Some(opened)
    }

    fn same_file(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    pub(super) fn same_inode(&self, opened: &Opened) -> bool {
        (self.dev, self.ino) == (opened.dev, opened.ino)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back() {
        let position = LogPosition {
            here: FilePosition {
                path: "/a/b.log".into(),
                ino: 7,
                size: u64::MAX,
                head: Fingerprint::of(b"abc"),
                ..FilePosition::default()
            },
            written: Some(DateTime::from_timestamp(5, 0).unwrap().into()),
            ..LogPosition::default()
        };
        let text = serde_json::to_string(&position).unwrap();
        assert_eq!(
            serde_json::from_str::<LogPosition>(&text).unwrap(),
            position
        );
        let odd = r#"{"here":{"ino":5,"size":3,"offset":9},"other":1}"#;
        assert!(serde_json::from_str::<LogPosition>(odd).unwrap().is_known());
    }

    #[test]
    fn how_far_the_same_file_was_read_may_be_lost_and_all_else_may_not() {
        type Change = fn(&mut LogPosition);

        let time = |secs| DateTime::from_timestamp(secs, 0).map(Moment::from);
        let place = |path: &str, ino: u64| FilePosition {
            path: path.into(),
            dev: 3,
            ino,
            size: 10,
            ..FilePosition::default()
        };
        let known = LogPosition {
            here: place("/a.log", 7),
            former: vec![place("/a.log.1", 6)],
            written: time(100),
            stamped: time(90),
            unstamped_since: time(80),
            cut: false,
            journal: None,
            container: None,
            restarted: false,
        };
        let changes: [(&str, bool, Change); 12] = [
            ("nothing", true, |_| ()),
            ("further along", true, |position| position.here.offset += 1),
            ("longer", true, |position| position.here.size += 1),
            ("written", true, |position| position.written = None),
            ("stamped", true, |position| position.stamped = None),
            ("path", false, |position| {
                position.here.path = "/b.log".into();
            }),
            ("device", false, |position| position.here.dev += 1),
            ("inode", false, |position| position.here.ino += 1),
            ("former", false, |position| position.former.clear()),
            ("without a stamp", false, |position| {
                position.unstamped_since = None;
            }),
            ("cut", false, |position| position.cut = true),
            ("restarted", false, |position| position.restarted = true),
        ];
        for (what, may_be_lost, change) in changes {
            let (mut former, mut later) = (known.clone(), known.clone());
            change(&mut later);
            former.catch_up(&later);
            assert_eq!(former == later, may_be_lost, "{what}");
        }
    }

    #[test]
    fn a_place_is_a_file_that_still_has_what_was_read_of_it() {
        type Change = fn(&mut FilePosition);

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let text = "x".repeat(2000) + "\n";
        std::fs::write(&path, &text).unwrap();
        let opened = open::open(&path, Links::Refuse).unwrap();
        let place = FilePosition::at_end(&opened, path.clone()).unwrap();
        let empty = FilePosition {
            size: 0,
            offset: 0,
            head: Fingerprint::of(b""),
            tail: Fingerprint::of(b""),
            ..place.clone()
        };
        let earlier = FilePosition {
            size: 1500,
            offset: 1000,
            tail: Fingerprint::of(&text.as_bytes()[1244..1500]),
            ..place.clone()
        };
        let changes: [(&str, [bool; 3], Change); 9] = [
            ("as it was", [true, true, true], |_| ()),
            // an empty file has nothing else to be known by
            ("device", [true, true, false], |place| place.dev += 1),
            ("inode", [false; 3], |place| place.ino += 1),
            ("shorter now", [false; 3], |place| place.size += 3000),
            ("read too far", [false; 3], |place| {
                place.offset = place.size + 1;
            }),
            ("another beginning", [false; 3], |place| {
                place.head = Fingerprint::of(&[b'y'; 1024]);
            }),
            ("another end", [false; 3], |place| {
                place.tail = Fingerprint::of(&[b'y'; 256]);
            }),
            // prints that are right, and of more or less than they should be
            ("odd beginning", [false; 3], |place| {
                place.head = Fingerprint::of(&[b'x'; 1025]);
            }),
            ("odd end", [false; 3], |place| {
                place.tail = Fingerprint::of(b"\n");
            }),
        ];
        for (what, expected, change) in changes {
            let mut places = [place.clone(), earlier.clone(), empty.clone()];
            places.iter_mut().for_each(change);
            assert_eq!(places.map(|place| place.is(&opened)), expected, "{what}");
        }
    }
}
