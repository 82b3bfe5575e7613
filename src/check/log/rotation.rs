//! The way from where a log was read to, to its present end, across rotations.
//!
//! Where the file at the path is not the one that was read, the rest of that one is looked for beside it, and a
//! [`RotationChain`] says what there is to read, the oldest first. A directory is listed only then.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::bytes;
use super::encoding::Encoding;
use super::listing::{Listing, Listings};
use super::open::{self, Links, Opened};
use super::position::{FilePosition, LogPosition};

/// So many earlier files of a log are remembered: those that a late writer, an `expect` or a glob of several
/// living files may come back to.
const REMEMBERED: usize = 4;

/// So many files are asked whether they are a copy, or were written and rotated between two runs.
const CANDIDATES: usize = 64;

/// A file with something to read in it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) opened: Opened,
    /// Its path for the next mark.
    pub(super) path: PathBuf,
    /// From here on it was not judged.
    pub(super) from: u64,
    /// That is within a line that was.
    pub(super) inside: bool,
    /// That is after a CR, to which a LF may belong.
    pub(super) after_cr: bool,
    /// The patterns that matched the line at `from` already, when it was unfinished.
    pub(super) matched: Vec<String>,
    /// Something was written to it since it was last seen, so that its modification time says when.
    pub(super) grown: bool,
}

impl Segment {
    fn from_place(opened: Opened, place: &FilePosition) -> Self {
        opened.bytes.inherit(place.encoding);
        Self {
            path: opened.path.clone(),
            from: place.offset,
            inside: place.inside,
            after_cr: place.after_cr,
            matched: place.matched.clone(),
            grown: opened.size > place.size,
            opened,
        }
    }

    /// A file that was not read yet, of a log that was stored so before.
    fn whole(opened: Opened, encoding: Encoding) -> Self {
        opened.bytes.inherit(encoding);
        Self {
            path: opened.path.clone(),
            from: 0,
            inside: false,
            after_cr: false,
            matched: Vec::new(),
            grown: opened.size > 0,
            opened,
        }
    }
}

/// What became of the file that was marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RotationOutcome {
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
pub(super) struct RotationChain {
    /// Files before the present one with something new in them, the oldest first.
    pub(super) older: Vec<Segment>,
    /// The file at the path.
    pub(super) current: Segment,
    /// Remembered files with nothing new in them, the latest first.
    pub(super) former: Vec<FilePosition>,
    pub(super) outcome: RotationOutcome,
    /// The file at the path is as it was, to the byte: its last line has not grown.
    pub(super) unchanged: bool,
}

impl RotationChain {
    /// The way where nothing was marked: all of the file.
    pub(super) fn first(current: Opened) -> Self {
        let path = real(&current.path);
        Self {
            older: Vec::new(),
            current: Segment {
                path,
                ..Segment::whole(current, Encoding::Bytes)
            },
            former: Vec::new(),
            outcome: RotationOutcome::Same,
            unchanged: false,
        }
    }

    /// The way from a mark. `path` is the path of the rule, perhaps a glob.
    ///
    /// Where files were renamed meanwhile the error is [`bytes::interrupted`].
    pub(super) fn from(
        path: &Path,
        position: &LogPosition,
        current: Opened,
        listings: &Listings,
    ) -> io::Result<Self> {
        let here = &position.here;
        let same = here.is(&current);
        // an empty file looks the same after it was written, copied and truncated, but for its time
        let touched = current.size > 0 || current.modified != here.modified;
        let directory = if !same || (here.size == 0 && touched) {
            Directory::around(path, here, &current, listings)
        } else {
            Directory::default()
        };
        let route = Self::through(&directory, path, position, current, same);
        if directory.still_stands() {
            Ok(route)
        } else {
            Err(bytes::interrupted())
        }
    }

    fn through(
        directory: &Directory,
        path: &Path,
        position: &LogPosition,
        current: Opened,
        same: bool,
    ) -> Self {
        let here = &position.here;
        // by inode, and only of files that are surely still those: a number that is free is soon used again
        let mut known = BTreeSet::from([(current.dev, current.ino)]);

        let mut older = Vec::new();
        let mut former = Vec::new();
        let mut earlier_place = None;
        for place in &position.former {
            if place.same_inode(&current) {
                earlier_place = Some(place).filter(|place| place.is(&current));
            } else if let Some(piece) = directory.follow(place) {
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
                    former.push(FilePosition {
                        path: piece.path,
                        ..place.clone()
                    });
                }
            } else {
                former.push(place.clone());
            }
        }
        older.reverse();

        let last_seen = position
            .former
            .iter()
            .map(|place| place.modified)
            .fold(here.modified, DateTime::max);
        if same {
            older.extend(directory.between(
                path,
                (last_seen, Reverse(0)),
                None,
                &known,
                &current,
                here.encoding,
            ));
            return Self {
                older,
                unchanged: current.size == here.size,
                current: Segment {
                    path: here.path.clone(),
                    ..Segment::from_place(current, here)
                },
                former,
                outcome: RotationOutcome::Same,
            };
        }

        let mut outcome = RotationOutcome::Rotated;
        let mut reference = (here.modified, Reverse(0));
        let mut name = None;
        if let Some(old) = directory.renamed(here, &current) {
            reference = (old.modified, Reverse(number(&file_name(&old.path))));
            name = Some(file_name(&old.path));
            known.insert((old.dev, old.ino));
            older.push(Segment::from_place(old, here));
        } else if here.size > 0 && !here.same_inode(&current) && here.reads_like(&current) {
            // restored from a backup, or on a file system that numbers its files anew
            return Self {
                older,
                unchanged: current.size == here.size,
                current: Segment {
                    path: real(&current.path),
                    ..Segment::from_place(current, here)
                },
                former,
                outcome: RotationOutcome::Same,
            };
        } else if let Some(old) = directory.copied(here, &known) {
            reference = (old.modified, Reverse(number(&file_name(&old.path))));
            name = Some(file_name(&old.path));
            known.insert((old.dev, old.ino));
            older.push(Segment::from_place(old, here));
        } else {
            outcome = if here.same_inode(&current) {
                RotationOutcome::Truncated
            } else {
                RotationOutcome::Gone
            };
        }
        if here.size == 0 {
            // it may have been written, copied and truncated before it was renamed
            reference = (last_seen, Reverse(0));
        }
        older.extend(directory.between(
            path,
            reference,
            name.as_deref(),
            &known,
            &current,
            here.encoding,
        ));
        let path = real(&current.path);
        let current = match earlier_place {
            Some(place) => Segment::from_place(current, place),
            None => Segment::whole(current, here.encoding),
        };
        Self {
            older,
            current: Segment { path, ..current },
            former,
            outcome,
            unchanged: false,
        }
    }

    /// The remembered files after this run, the latest first: those that were read now, which come the oldest
    /// first, and the others.
    pub(super) fn remember(
        former: Vec<FilePosition>,
        read: Vec<FilePosition>,
    ) -> Vec<FilePosition> {
        let mut all: Vec<FilePosition> = read.into_iter().rev().chain(former).collect();
        all.sort_by_key(|place| Reverse(place.modified));
        all.truncate(REMEMBERED);
        all
    }
}

/// Whether a file is a copy, as far as it goes, of the present one, which is about to be truncated: an earlier
/// file it is only then.
fn is_begun_copy(opened: &Opened, current: &Opened) -> bool {
    opened.size > 0
        && FilePosition::at_end(opened, PathBuf::new()).is_ok_and(|place| place.reads_like(current))
}

/// Where the marked file is now, when nothing is at the path.
pub(super) fn locate(path: &Path, place: &FilePosition) -> Option<Opened> {
    if let Some(opened) = place.reopen() {
        return Some(opened);
    }
    let (mut directory, listings) = (Directory::default(), Listings::default());
    for parent in [place.path.parent(), path.parent()].into_iter().flatten() {
        directory.list(parent, &listings);
    }
    directory.by_inode(place)
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
struct Directory {
    listed: Vec<Arc<Listing>>,
    /// The names that the log had or has: what its rotated files begin with.
    names: Vec<String>,
}

impl Directory {
    fn around(path: &Path, here: &FilePosition, current: &Opened, listings: &Listings) -> Self {
        let mut directory = Self::default();
        for own in [&here.path, &current.path, &real(&current.path)] {
            let name = file_name(own);
            if !name.is_empty() && !directory.names.contains(&name) {
                directory.names.push(name);
            }
            if let Some(parent) = own.parent() {
                directory.list(parent, listings);
            }
        }
        if let Some(parent) = path.parent() {
            directory.list(parent, listings);
        }
        directory
    }

    /// Whether the names still are those of the same files.
    fn still_stands(&self) -> bool {
        self.listed.iter().all(|listing| listing.still_stands())
    }

    fn list(&mut self, parent: &Path, listings: &Listings) {
        let parent = real(parent);
        if !self.listed.iter().any(|known| known.directory == parent) {
            self.listed.push(listings.of(&parent));
            self.listed
                .sort_by(|one, other| one.directory.cmp(&other.directory));
        }
    }

    /// The files whose names begin as those of the log do, without an extension.
    fn of_its_names(&self) -> impl Iterator<Item = PathBuf> {
        self.names.iter().flat_map(|own| {
            let listed = self.listed.iter();
            listed.flat_map(|listing| listing.beginning_with(stem(own)))
        })
    }

    /// A remembered file, by its path or by its inode.
    fn follow(&self, place: &FilePosition) -> Option<Segment> {
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
        opened.map(|opened| Segment::from_place(opened, place))
    }

    fn by_inode(&self, place: &FilePosition) -> Option<Opened> {
        self.listed
            .iter()
            .flat_map(|listing| listing.with_inode(place.ino))
            .filter(|path| {
                // nothing is known of an empty file but its name, and its inode may be another's by now
                place.size > 0 || file_name(path).starts_with(stem(&file_name(&place.path)))
            })
            .filter_map(|path| open::open(&path, Links::Refuse).ok())
            .find(|opened| place.is(opened))
    }

    /// The marked file, under whichever name.
    fn renamed(&self, here: &FilePosition, current: &Opened) -> Option<Opened> {
        here.reopen()
            .or_else(|| self.by_inode(here))
            .filter(|old| !old.is(current))
    }

    /// A copy of the marked file: of several that begin as it did, the oldest that was made since.
    fn copied(&self, here: &FilePosition, known: &BTreeSet<(u64, u64)>) -> Option<Opened> {
        if here.size == 0 {
            return None;
        }
        let mut candidates = Vec::new();
        for path in self.of_its_names() {
            let name = file_name(&path);
            if !self.names.iter().any(|own| name.starts_with(stem(own))) {
                continue;
            }
            if let Ok(meta) = fs::symlink_metadata(&path)
                && meta.is_file()
                && meta.len() >= here.size
                && open::modified(&meta) >= here.modified
                && !known.contains(&(meta.dev(), meta.ino()))
            {
                candidates.push((open::modified(&meta), path));
            }
        }
        candidates.sort();
        // one that begins with two of its names
        candidates.dedup();
        candidates
            .into_iter()
            .take(CANDIDATES)
            .filter_map(|(_, path)| open::open(&path, Links::Refuse).ok())
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
        encoding: Encoding,
    ) -> Vec<Segment> {
        if self.listed.is_empty() {
            return Vec::new();
        }
        let beside = self
            .of_its_names()
            .filter(|path| self.is_rotated(&file_name(path), name));
        let mut seen = known.clone();
        let mut found = Vec::new();
        for path in beside.chain(open::matches(path)) {
            let Ok(meta) = fs::symlink_metadata(&path) else {
                continue;
            };
            let key = (open::modified(&meta), Reverse(number(&file_name(&path))));
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
                let opened = open::open(&path, Links::Refuse).ok()?;
                ((opened.dev, opened.ino) == inode && !is_begun_copy(&opened, current))
                    .then(|| Segment::whole(opened, encoding))
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
pub(super) fn is_rotation_of(own: &str, name: &str) -> bool {
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
}
