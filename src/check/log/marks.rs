//! Where a log was read to, and the way from there to its present end, across rotations.
//!
//! A name and an offset are not enough: logs are renamed, copied and truncated, compressed, and inode numbers
//! are used again. A [`Place`] therefore holds prints of the first bytes that were in the file and of the last,
//! and a file is the same only if they still stand where they stood. Where the file at the path is not the one
//! that was read, the rest of that one is looked for beside it, and a [`Route`] says what there is to read, the
//! oldest first. A folder is listed only then.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize, Serializer};
use twox_hash::XxHash3_64;

use super::open::{self, Links, Opened};
use super::tail::{self, End};
use crate::clock::times;

/// A print of the beginning is of so many bytes at most.
pub(super) const HEAD: u64 = 1024;

/// A print of what was read last is of so many bytes at most.
pub(super) const TAIL: u64 = 256;

/// So many earlier files of a log are remembered: those that a late writer, an `expect` or a glob of several
/// living files may come back to.
const REMEMBERED: usize = 4;

/// Of a folder, so many entries are looked at.
const ENTRIES: usize = 100_000;

/// So many files are asked whether they are a copy, or were written and rotated between two runs.
const CANDIDATES: usize = 64;

/// Where a log was read to: kept from run to run. Facts about the file, no judgement.
///
/// Of a state in which one cannot be read, that one alone is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mark {
    /// The file that was at the path.
    pub here: Place,
    /// The files that were there before it, the latest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<Place>,
    /// When the log was last written with content, in whichever file: the modification time of then. An empty
    /// new file does not change it.
    #[serde(with = "times::perhaps")]
    pub written: Option<DateTime<Utc>>,
    /// The newest stamp that a line had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stamped: Option<DateTime<Utc>>,
    /// When it was first seen that no line has a stamp, while none had one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unstamped_since: Option<DateTime<Utc>>,
    /// The file at the path took the place of one that cannot be read any more: the lines before its first are
    /// not known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// It was made by [`super::mark_end`], when a restart had stopped the process.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub restarted: bool,
}

impl Mark {
    /// Whether it marks anything.
    pub(super) fn is_known(&self) -> bool {
        self.here.ino != 0
    }

    /// Whether this mark knows nothing worth keeping that `other` does not: it may be further along in the same files.
    pub fn adds_nothing_to(&self, other: &Self) -> bool {
        let Self {
            here,
            former,
            // how far it was read, and what was last there: what is lost of it is seen again
            written: _,
            stamped: _,
            unstamped_since,
            cut,
            restarted,
        } = self;
        here.path == other.here.path
            && here.same_file(&other.here)
            && *former == other.former
            && *unstamped_since == other.unstamped_since
            && *cut == other.cut
            && *restarted == other.restarted
    }

    /// Moves the remembered times, after the wall clock was set by so much. The times of files stay: the files
    /// keep theirs too.
    pub fn move_times(&mut self, by: TimeDelta) {
        for time in [
            &mut self.written,
            &mut self.stamped,
            &mut self.unstamped_since,
        ] {
            *time = time.map(|time| time.checked_add_signed(by).unwrap_or(time));
        }
    }
}

/// A file as it was when it was read, and how far it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
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
    /// It ended without a newline.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unfinished: bool,
    /// Its first bytes.
    pub head: Print,
    /// The last bytes before `size`.
    pub tail: Print,
}

/// A path that is not UTF-8 is only found again by its inode.
fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// Enough of some bytes to know them again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    /// How many bytes.
    pub len: u64,
    /// Their hash (XXH3, 64 bits); in JSON as hexadecimal digits, for JSON tools round large numbers. With a hash of
    /// another kind a mark is none, and its log is seen for the first time.
    #[serde(rename = "xxh3", with = "hexadecimal")]
    pub hash: u64,
}

impl Print {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self {
            len: bytes.len() as u64,
            // the same in every build, as the hashers of the standard library need not be
            hash: XxHash3_64::oneshot(bytes),
        }
    }
}

mod hexadecimal {
    use serde::{Deserializer, Serializer, de};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(hash: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{hash:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        struct Digits;

        impl de::Visitor<'_> for Digits {
            type Value = u64;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("hexadecimal digits")
            }

            fn visit_str<E: de::Error>(self, digits: &str) -> Result<u64, E> {
                u64::from_str_radix(digits, 16).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Digits)
    }
}

impl Place {
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
            unfinished: tail::ends_inside(&opened.bytes, size)?,
            // the end first: it may hold the beginning as well
            tail: opened.bytes.print(size - len, len)?,
            head: opened.bytes.print(0, size.min(HEAD))?,
        })
    }

    /// A file of which all that is there is as good as judged.
    pub(super) fn at_end(opened: &Opened, path: PathBuf) -> io::Result<Self> {
        let end = End {
            offset: opened.size,
            inside: tail::ends_inside(&opened.bytes, opened.size)?,
        };
        Self::of(opened, path, end)
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
        let stands = |print: &Print, at| {
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
        open::open(&self.path, Links::Refuse)
            .ok()
            .filter(|opened| self.is(opened))
    }

    fn same_file(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    fn same_inode(&self, opened: &Opened) -> bool {
        (self.dev, self.ino) == (opened.dev, opened.ino)
    }
}

/// A file with something to read in it.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) opened: Opened,
    /// Its path for the next mark.
    pub(super) path: PathBuf,
    /// From here on it was not judged.
    pub(super) from: u64,
    /// That is within a line that was.
    pub(super) inside: bool,
    /// Something was written to it since it was last seen, so that its modification time says when.
    pub(super) grown: bool,
}

impl Piece {
    fn from_place(opened: Opened, place: &Place) -> Self {
        Self {
            path: opened.path.clone(),
            from: place.offset,
            inside: place.inside,
            grown: opened.size > place.size,
            opened,
        }
    }

    fn whole(opened: Opened) -> Self {
        Self {
            path: opened.path.clone(),
            from: 0,
            inside: false,
            grown: opened.size > 0,
            opened,
        }
    }
}

/// What became of the file that was marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is still at the path.
    Same,
    /// Another is at the path, and it was found beside.
    Rotated,
    /// It was truncated where it is, and no copy was found.
    Truncated,
    /// It is gone, or no longer readable as it was.
    Gone,
}

/// The way from a mark to the present end of a log.
#[derive(Debug)]
pub(super) struct Route {
    /// Files before the present one with something new in them, the oldest first.
    pub(super) older: Vec<Piece>,
    /// The file at the path.
    pub(super) current: Piece,
    /// Remembered files with nothing new in them, the latest first.
    pub(super) former: Vec<Place>,
    pub(super) fate: Fate,
    /// The file at the path is as it was, to the byte: its last line has not grown.
    pub(super) unchanged: bool,
}

impl Route {
    /// The way where nothing was marked: all of the file.
    pub(super) fn first(current: Opened) -> Self {
        let path = real(&current.path);
        Self {
            older: Vec::new(),
            current: Piece {
                path,
                ..Piece::whole(current)
            },
            former: Vec::new(),
            fate: Fate::Same,
            unchanged: false,
        }
    }

    /// The way from a mark. `path` is the path of the rule, perhaps a glob.
    ///
    /// Where files were renamed meanwhile the error is [`tail::interrupted`].
    pub(super) fn from(path: &Path, mark: &Mark, current: Opened) -> io::Result<Self> {
        let here = &mark.here;
        let same = here.is(&current);
        // an empty file looks the same after it was written, copied and truncated, but for its time
        let touched = current.size > 0 || current.modified != here.modified;
        let folder = if !same || (here.size == 0 && touched) {
            Folder::around(path, here, &current)
        } else {
            Folder::default()
        };
        let route = Self::through(&folder, path, mark, current, same);
        if folder.still_stands() {
            Ok(route)
        } else {
            Err(tail::interrupted())
        }
    }

    fn through(folder: &Folder, path: &Path, mark: &Mark, current: Opened, same: bool) -> Self {
        let here = &mark.here;
        // by inode, and only of files that are surely still those: a number that is free is soon used again
        let mut known = BTreeSet::from([(current.dev, current.ino)]);

        let mut older = Vec::new();
        let mut former = Vec::new();
        let mut earlier_place = None;
        for place in &mark.former {
            if place.same_inode(&current) {
                earlier_place = Some(place).filter(|place| place.is(&current));
            } else if let Some(piece) = folder.follow(place) {
                // it was a copy just begun when it was seen empty
                if place.size == 0
                    && (is_begun_copy(&piece.opened, &current)
                        || (here.size > 0 && here.reads_like(&piece.opened)))
                {
                    continue;
                }
                known.insert((piece.opened.dev, piece.opened.ino));
                if piece.grown {
                    older.push(piece);
                } else {
                    former.push(Place {
                        path: piece.path,
                        ..place.clone()
                    });
                }
            } else {
                former.push(place.clone());
            }
        }
        older.reverse();

        let last_seen = mark
            .former
            .iter()
            .map(|place| place.modified)
            .fold(here.modified, DateTime::max);
        if same {
            older.extend(folder.between(path, (last_seen, Reverse(0)), None, &known, &current));
            return Self {
                older,
                unchanged: current.size == here.size,
                current: Piece {
                    path: here.path.clone(),
                    ..Piece::from_place(current, here)
                },
                former,
                fate: Fate::Same,
            };
        }

        let mut fate = Fate::Rotated;
        let mut reference = (here.modified, Reverse(0));
        let mut name = None;
        if let Some(old) = folder.renamed(here, &current) {
            reference = (old.modified, Reverse(number(&file_name(&old.path))));
            name = Some(file_name(&old.path));
            known.insert((old.dev, old.ino));
            older.push(Piece::from_place(old, here));
        } else if here.size > 0 && !here.same_inode(&current) && here.reads_like(&current) {
            // restored from a backup, or on a file system that numbers its files anew
            return Self {
                older,
                unchanged: current.size == here.size,
                current: Piece {
                    path: real(&current.path),
                    ..Piece::from_place(current, here)
                },
                former,
                fate: Fate::Same,
            };
        } else if let Some(old) = folder.copied(here, &known) {
            reference = (old.modified, Reverse(number(&file_name(&old.path))));
            name = Some(file_name(&old.path));
            known.insert((old.dev, old.ino));
            older.push(Piece::from_place(old, here));
        } else {
            fate = if here.same_inode(&current) {
                Fate::Truncated
            } else {
                Fate::Gone
            };
        }
        if here.size == 0 {
            // it may have been written, copied and truncated before it was renamed
            reference = (last_seen, Reverse(0));
        }
        older.extend(folder.between(path, reference, name.as_deref(), &known, &current));
        let path = real(&current.path);
        let current = match earlier_place {
            Some(place) => Piece::from_place(current, place),
            None => Piece::whole(current),
        };
        Self {
            older,
            current: Piece { path, ..current },
            former,
            fate,
            unchanged: false,
        }
    }

    /// The remembered files after this run, the latest first: those that were read now, which come the oldest
    /// first, and the others.
    pub(super) fn remember(former: Vec<Place>, read: Vec<Place>) -> Vec<Place> {
        let mut all: Vec<Place> = read.into_iter().rev().chain(former).collect();
        all.sort_by_key(|place| Reverse(place.modified));
        all.truncate(REMEMBERED);
        all
    }
}

/// Whether a file is a copy, as far as it goes, of the present one, which is about to be truncated: an earlier
/// file it is only then.
fn is_begun_copy(opened: &Opened, current: &Opened) -> bool {
    opened.size > 0
        && Place::at_end(opened, PathBuf::new()).is_ok_and(|place| place.reads_like(current))
}

/// Where the marked file is now, when nothing is at the path.
pub(super) fn whereabouts(path: &Path, place: &Place) -> Option<Opened> {
    if let Some(opened) = place.reopen() {
        return Some(opened);
    }
    let mut folder = Folder::default();
    for parent in [place.path.parent(), path.parent()].into_iter().flatten() {
        folder.list(parent);
    }
    folder.by_inode(place)
}

/// A path without symbolic links, where that can be told.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// What is beside a log.
#[derive(Debug, Default)]
struct Folder {
    /// Paths with the inode that the folder has for them.
    entries: Vec<(PathBuf, u64)>,
    /// The names that the log had or has: what its rotated files begin with.
    names: Vec<String>,
    listed: Vec<PathBuf>,
}

impl Folder {
    fn around(path: &Path, here: &Place, current: &Opened) -> Self {
        let mut folder = Self::default();
        for own in [&here.path, &current.path, &real(&current.path)] {
            let name = file_name(own);
            if !name.is_empty() && !folder.names.contains(&name) {
                folder.names.push(name);
            }
            if let Some(parent) = own.parent() {
                folder.list(parent);
            }
        }
        if let Some(parent) = path.parent() {
            folder.list(parent);
        }
        folder
    }

    /// Whether the names still are those of the same files. A rotation that is under way moves them past a
    /// reader, who would then miss some or see some twice.
    fn still_stands(&self) -> bool {
        let mut again = Self::default();
        for parent in &self.listed {
            again.list(parent);
        }
        again.entries == self.entries
    }

    fn list(&mut self, parent: &Path) {
        let parent = real(parent);
        if self.listed.contains(&parent) {
            return;
        }
        // a folder that cannot be listed hides what is in it: told by the file that is not found
        let entries = fs::read_dir(&parent).into_iter().flatten();
        let room = ENTRIES.saturating_sub(self.entries.len());
        self.entries.extend(
            entries
                .take(room)
                .flatten()
                .map(|entry| (entry.path(), entry.ino())),
        );
        // as bytes: to compare paths part by part takes ten times as long, and a thousand logs rotated at once are a
        // thousand sorts of two thousand names
        self.entries
            .sort_unstable_by(|one, other| one.0.as_os_str().cmp(other.0.as_os_str()));
        self.listed.push(parent);
    }

    /// A remembered file, by its path or by its inode.
    fn follow(&self, place: &Place) -> Option<Piece> {
        let by_path = fs::symlink_metadata(&place.path)
            .ok()
            .filter(|meta| (meta.dev(), meta.ino()) == (place.dev, place.ino));
        // the usual: nothing new, and not worth an open
        let opened = match by_path {
            Some(meta) if meta.is_file() && meta.len() == place.size && self.listed.is_empty() => {
                return None;
            }
            Some(_) => place.reopen(),
            None => self.by_inode(place),
        };
        opened.map(|opened| Piece::from_place(opened, place))
    }

    fn by_inode(&self, place: &Place) -> Option<Opened> {
        self.entries
            .iter()
            .filter(|(_, ino)| *ino == place.ino)
            .filter(|(path, _)| {
                // nothing is known of an empty file but its name, and its inode may be another's by now
                place.size > 0 || file_name(path).starts_with(stem(&file_name(&place.path)))
            })
            .filter_map(|(path, _)| open::open(path, Links::Refuse).ok())
            .find(|opened| place.is(opened))
    }

    /// The marked file, under whichever name.
    fn renamed(&self, here: &Place, current: &Opened) -> Option<Opened> {
        here.reopen()
            .or_else(|| self.by_inode(here))
            .filter(|old| !old.is(current))
    }

    /// A copy of the marked file: of several that begin as it did, the oldest that was made since.
    fn copied(&self, here: &Place, known: &BTreeSet<(u64, u64)>) -> Option<Opened> {
        if here.size == 0 {
            return None;
        }
        let mut candidates = Vec::new();
        for (path, _) in &self.entries {
            let name = file_name(path);
            if !self.names.iter().any(|own| name.starts_with(stem(own))) {
                continue;
            }
            if let Ok(meta) = fs::symlink_metadata(path)
                && meta.is_file()
                && meta.len() >= here.size
                && open::modified(&meta) >= here.modified
                && !known.contains(&(meta.dev(), meta.ino()))
            {
                candidates.push((open::modified(&meta), path));
            }
        }
        candidates.sort();
        candidates
            .into_iter()
            .take(CANDIDATES)
            .filter_map(|(_, path)| open::open(path, Links::Refuse).ok())
            .find(|opened| here.reads_like(opened))
    }

    /// The files that were the log after the marked one and before the present one, the oldest first.
    ///
    /// `name` is the name under which the marked file was found: files named as it is are rotated files too.
    fn between(
        &self,
        path: &Path,
        after: (DateTime<Utc>, Reverse<u64>),
        name: Option<&str>,
        known: &BTreeSet<(u64, u64)>,
        current: &Opened,
    ) -> Vec<Piece> {
        if self.listed.is_empty() {
            return Vec::new();
        }
        let beside = self
            .entries
            .iter()
            .map(|(path, _)| path)
            .filter(|path| self.is_rotated(&file_name(path), name));
        let matches = open::matches(path);
        let mut seen = known.clone();
        let mut found = Vec::new();
        for path in beside.chain(&matches) {
            let Ok(meta) = fs::symlink_metadata(path) else {
                continue;
            };
            let key = (open::modified(&meta), Reverse(number(&file_name(path))));
            if meta.is_file() && key > after && seen.insert((meta.dev(), meta.ino())) {
                found.push((key, (meta.dev(), meta.ino()), path));
            }
        }
        found.sort();
        let beyond = found.len().saturating_sub(CANDIDATES);
        found
            .into_iter()
            .skip(beyond)
            .filter_map(|(_, inode, path)| {
                let opened = open::open(path, Links::Refuse).ok()?;
                ((opened.dev, opened.ino) == inode && !is_begun_copy(&opened, current))
                    .then(|| Piece::whole(opened))
            })
            .collect()
    }

    /// Whether a name is that of an earlier file of the log.
    fn is_rotated(&self, name: &str, found: Option<&str>) -> bool {
        self.names.iter().any(|own| {
            is_rotation_of(own, name)
                || found.is_some_and(|found| found != own && same_shape(stem(own), found, name))
        })
    }
}

/// A name without its last extension: `trader` of `trader.log`.
fn stem(name: &str) -> &str {
    match name.rfind('.') {
        Some(at) if at > 0 => &name[..at],
        _ => name,
    }
}

/// Whether `name` is what a rotation makes of `own`: `trader.log.1`, `trader.log-20261122`,
/// `trader-2026-11-22.log`. Not `trader-2.log`, which is a second trader's; nothing compressed.
fn is_rotation_of(own: &str, name: &str) -> bool {
    let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
    let numeric = |text: &str| {
        text.starts_with(['.', '-', '_'])
            && digits(text) > 0
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || b".-_:T".contains(&byte))
    };
    if let Some(rest) = name.strip_prefix(own) {
        return numeric(rest);
    }
    let stem = stem(own);
    let extension = &own[stem.len()..];
    name.strip_prefix(stem)
        .and_then(|rest| rest.strip_suffix(extension))
        .is_some_and(|middle| numeric(middle) && digits(middle) >= 6)
}

/// Whether two names that begin with `stem` differ in nothing but numbers after it.
fn same_shape(stem: &str, one: &str, other: &str) -> bool {
    let shape = |text: &str| {
        let mut shape = String::new();
        for character in text.chars() {
            if !character.is_ascii_digit() {
                shape.push(character);
            } else if !shape.ends_with('0') {
                shape.push('0');
            }
        }
        shape
    };
    match (one.strip_prefix(stem), other.strip_prefix(stem)) {
        (Some(one), Some(other)) => shape(one) == shape(other),
        _ => false,
    }
}

/// The number at the end of a rotated name: `.2` is older than `.1`. 0 for none, and for a date.
fn number(name: &str) -> u64 {
    name.rsplit_once('.')
        .filter(|(_, last)| last.len() <= 5)
        .and_then(|(_, last)| last.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rotated_files() {
        for (own, name, expected) in [
            ("trader.log", "trader.log.1", true),
            ("trader.log", "trader.log-20261122", true),
            ("trader.log", "trader.log.2026-11-22_01", true),
            ("trader.log", "trader-2026-11-22.log", true),
            ("trader.log", "trader.20261122.log", true),
            ("trader", "trader.3", true),
            ("trader.log", "trader.log", false),
            ("trader.log", "trader.log.1.gz", false),
            ("trader.log", "trader.log.old", false),
            ("trader.log", "trader-2.log", false),
            ("trader.log", "trader.log.", false),
            ("trader.log", "trader2.log.1", false),
            ("worker1.log", "worker10.log.1", false),
        ] {
            assert_eq!(is_rotation_of(own, name), expected, "{own} {name}");
        }
        assert!(same_shape("app", "app-12.log", "app-3.log"));
        assert!(!same_shape("app1", "app1.log.2", "app10.log.2"));
        assert_eq!(number("a.log.12"), 12);
        assert_eq!(number("a.log.20261122"), 0);
        assert_eq!(number("a.log"), 0);
    }

    #[test]
    fn the_stem_of_a_name() {
        for (name, expected) in [
            ("trader.log", "trader"),
            ("a.b.log", "a.b"),
            ("trader", "trader"),
            (".hidden", ".hidden"),
            (".hidden.log", ".hidden"),
            ("trader.", "trader"),
            ("", ""),
        ] {
            assert_eq!(stem(name), expected, "{name}");
        }
    }

    #[test]
    fn a_mark_reads_back() {
        let mark = Mark {
            here: Place {
                path: "/a/b.log".into(),
                ino: 7,
                size: u64::MAX,
                head: Print::of(b"abc"),
                ..Place::default()
            },
            written: Some(DateTime::from_timestamp(5, 0).unwrap()),
            ..Mark::default()
        };
        let text = serde_json::to_string(&mark).unwrap();
        assert_eq!(serde_json::from_str::<Mark>(&text).unwrap(), mark);
        let odd = r#"{"here":{"ino":5,"size":3,"offset":9},"other":1}"#;
        assert!(serde_json::from_str::<Mark>(odd).unwrap().is_known());
    }

    #[test]
    fn a_print_is_the_same_in_every_build() {
        assert_eq!(Print::of(b"").hash, 0x2d06_8005_38d3_94c2);
        assert_eq!(Print::of(b"a").hash, 0xe6c6_32b6_1e96_4e1f);
    }

    #[test]
    fn a_print_is_written_as_digits_and_read_back() {
        let print = Print {
            len: 3,
            hash: 0x0123_4567_89ab_cdef,
        };
        let json = r#"{"len":3,"xxh3":"0123456789abcdef"}"#;
        assert_eq!(serde_json::to_string(&print).unwrap(), json);
        assert_eq!(serde_json::from_str::<Print>(json).unwrap(), print);
        for (print, why) in [
            (r#"{"len":3,"xxh3":5}"#, "expected hexadecimal digits"),
            (r#"{"len":3,"xxh3":"x"}"#, "invalid digit"),
            (r#"{"len":3,"fnv":"af63dc4c8601ec8c"}"#, "missing field"),
        ] {
            let error = serde_json::from_str::<Print>(print);
            let error = error.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_mark_further_along_in_the_same_files_adds_nothing() {
        type Change = fn(&mut Mark);

        let time = |secs| DateTime::from_timestamp(secs, 0);
        let place = |path: &str, ino: u64| Place {
            path: path.into(),
            dev: 3,
            ino,
            size: 10,
            ..Place::default()
        };
        let known = Mark {
            here: place("/a.log", 7),
            former: vec![place("/a.log.1", 6)],
            written: time(100),
            stamped: time(90),
            unstamped_since: time(80),
            cut: false,
            restarted: false,
        };
        let changes: [(&str, bool, Change); 11] = [
            ("nothing", true, |_| ()),
            ("further along", true, |mark| mark.here.offset += 1),
            ("longer", true, |mark| mark.here.size += 1),
            ("written", true, |mark| mark.written = None),
            ("stamped", true, |mark| mark.stamped = None),
            ("path", false, |mark| mark.here.path = "/b.log".into()),
            ("device", false, |mark| mark.here.dev += 1),
            ("inode", false, |mark| mark.here.ino += 1),
            ("former", false, |mark| mark.former.clear()),
            ("without a stamp", false, |mark| mark.unstamped_since = None),
            ("cut", false, |mark| mark.cut = true),
        ];
        for (what, adds_nothing, change) in changes {
            let mut other = known.clone();
            change(&mut other);
            assert_eq!(other.adds_nothing_to(&known), adds_nothing, "{what}");
        }
        let restarted = Mark {
            restarted: true,
            ..known.clone()
        };
        assert!(!restarted.adds_nothing_to(&known));
    }

    #[test]
    fn a_place_is_a_file_that_still_has_what_was_read_of_it() {
        type Change = fn(&mut Place);

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let text = "x".repeat(2000) + "\n";
        std::fs::write(&path, &text).unwrap();
        let opened = open::open(&path, Links::Refuse).unwrap();
        let place = Place::at_end(&opened, path.clone()).unwrap();
        let empty = Place {
            size: 0,
            offset: 0,
            head: Print::of(b""),
            tail: Print::of(b""),
            ..place.clone()
        };
        let earlier = Place {
            size: 1500,
            offset: 1000,
            tail: Print::of(&text.as_bytes()[1244..1500]),
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
                place.head = Print::of(&[b'y'; 1024]);
            }),
            ("another end", [false; 3], |place| {
                place.tail = Print::of(&[b'y'; 256]);
            }),
            // prints that are right, and of more or less than they should be
            ("odd beginning", [false; 3], |place| {
                place.head = Print::of(&[b'x'; 1025]);
            }),
            ("odd end", [false; 3], |place| place.tail = Print::of(b"\n")),
        ];
        for (what, expected, change) in changes {
            let mut places = [place.clone(), earlier.clone(), empty.clone()];
            places.iter_mut().for_each(change);
            assert_eq!(places.map(|place| place.is(&opened)), expected, "{what}");
        }
    }

    #[test]
    fn a_folder_stands_while_its_names_are_those_of_the_same_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a.log", "a.log.1"] {
            std::fs::write(at(name), "x\n").unwrap();
        }
        let around = || {
            let opened = open::open(&at("a.log"), Links::Refuse).unwrap();
            let place = Place::at_end(&opened, at("a.log")).unwrap();
            Folder::around(&at("a.log"), &place, &opened)
        };
        assert!(Folder::default().still_stands());
        let folder = around();
        std::fs::write(at("a.log"), "more\n").unwrap();
        assert!(folder.still_stands(), "its files may change");
        let blows: [&dyn Fn(); 3] = [
            &|| std::fs::rename(at("a.log.1"), at("a.log.2")).unwrap(),
            &|| std::fs::write(at("a.log.1"), "").unwrap(),
            &|| std::fs::remove_file(at("a.log.2")).unwrap(),
        ];
        for blow in blows {
            let folder = around();
            blow();
            assert!(!folder.still_stands());
        }
    }

    #[test]
    fn remembered_times_move_with_the_clock() {
        let time = |secs| DateTime::from_timestamp(secs, 0);
        let mut mark = Mark {
            written: time(100),
            stamped: None,
            unstamped_since: time(50),
            ..Mark::default()
        };
        mark.move_times(TimeDelta::seconds(-30));
        assert_eq!(
            (mark.written, mark.stamped, mark.unstamped_since),
            (time(70), None, time(20))
        );
    }
}
