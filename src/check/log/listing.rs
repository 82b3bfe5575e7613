//! What is in the directories of logs: each is read once for all logs of a run, while it stays as it was.
//!
//! A thousand logs in one directory that were rotated at once listed it two thousand times, each two thousand names:
//! 4.7 s. What was read is read again only where the directory was touched since, or so shortly before that its time
//! could not tell.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Of a directory, so many entries are looked at.
const ENTRIES: usize = 100_000;

/// So long after a directory was touched its time tells every further change: file systems keep it to 2 s (FAT) or
/// better.
const SETTLED: Duration = Duration::from_millis(2500);

/// The directories that were read, for all who look in one run.
#[derive(Debug, Default)]
pub(super) struct Listings {
    known: Mutex<BTreeMap<PathBuf, Arc<Listing>>>,
}

impl Listings {
    /// What is in a directory now. One that cannot be read hides what is in it: told by the file that is not found.
    pub(super) fn of(&self, directory: &Path) -> Arc<Listing> {
        // not held while a directory is read: one may hang, and the others are to go on
        let known = self.lock().get(directory).cloned();
        let touched = Touched::of(directory);
        if let Some(known) = known.filter(|known| known.holds(touched.as_ref())) {
            return known;
        }
        let listing = Arc::new(Listing::read(directory, touched));
        if listing.touched.is_some() {
            self.lock()
                .insert(directory.to_owned(), Arc::clone(&listing));
        }
        listing
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, Arc<Listing>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which directory it is, and when it was last touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Touched {
    inode: (u64, u64),
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Touched {
    /// None where it was touched so shortly ago, or in the future, that a further change may not show.
    fn of(directory: &Path) -> Option<Self> {
        let now = SystemTime::now();
        let meta = fs::metadata(directory).ok()?;
        let is_settled = |time: SystemTime| now.duration_since(time).is_ok_and(|age| age > SETTLED);
        (is_settled(meta.modified().ok()?) && meta.mtime() > 0).then(|| Self::from(&meta))
    }
}

impl From<&Metadata> for Touched {
    fn from(meta: &Metadata) -> Self {
        Self {
            inode: (meta.dev(), meta.ino()),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// The names in a directory, each with the inode that it has for it, sorted as bytes.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) directory: PathBuf,
    /// All names, one behind the other.
    text: Vec<u8>,
    entries: Vec<Entry>,
    /// As it was before it was read; none where that does not tell whether it was touched since.
    touched: Option<Touched>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    from: usize,
    to: usize,
    inode: u64,
}

impl Listing {
    fn read(directory: &Path, touched: Option<Touched>) -> Self {
        let mut text = Vec::new();
        let mut entries = Vec::new();
        let read = fs::read_dir(directory).into_iter().flatten();
        for entry in read.take(ENTRIES).flatten() {
            let from = text.len();
            text.extend_from_slice(entry.file_name().as_bytes());
            entries.push(Entry {
                from,
                to: text.len(),
                inode: entry.ino(),
            });
        }
        entries.sort_unstable_by(|one: &Entry, other| {
            text[one.from..one.to].cmp(&text[other.from..other.to])
        });
        Self {
            directory: directory.to_owned(),
            text,
            entries,
            touched,
        }
    }

    fn holds(&self, touched: Option<&Touched>) -> bool {
        touched.is_some() && self.touched.as_ref() == touched
    }

    fn name(&self, entry: &Entry) -> &[u8] {
        &self.text[entry.from..entry.to]
    }

    fn path(&self, entry: &Entry) -> PathBuf {
        self.directory
            .join(std::ffi::OsStr::from_bytes(self.name(entry)))
    }

    /// Those with an inode of this number.
    pub(super) fn with_inode(&self, inode: u64) -> impl Iterator<Item = PathBuf> {
        self.entries
            .iter()
            .filter(move |entry| entry.inode == inode)
            .map(|entry| self.path(entry))
    }

    /// Those whose names begin so, and perhaps others where a byte of that is no UTF-8.
    pub(super) fn beginning_with(&self, prefix: &str) -> impl Iterator<Item = PathBuf> {
        let (known, _) = prefix
            .split_once(char::REPLACEMENT_CHARACTER)
            .unwrap_or((prefix, ""));
        let prefix = known.as_bytes();
        let first = self
            .entries
            .partition_point(|entry| self.name(entry) < prefix);
        self.entries[first..]
            .iter()
            .take_while(move |entry| self.name(entry).starts_with(prefix))
            .map(|entry| self.path(entry))
    }

    /// Whether the names still are those of the same files. A rotation that is under way moves them past a
    /// reader, who would then miss some or see some twice.
    pub(super) fn still_stands(&self) -> bool {
        if self.holds(Touched::of(&self.directory).as_ref()) {
            return true;
        }
        let again = Self::read(&self.directory, None);
        self.entries.len() == again.entries.len()
            && self.text.len() == again.text.len()
            && (self.entries.iter().zip(&again.entries))
                .all(|(one, other)| one.inode == other.inode && self.name(one) == again.name(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(paths: impl Iterator<Item = PathBuf>) -> Vec<String> {
        paths
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect()
    }

    /// A directory with some files, as if it had last been touched so long ago.
    fn directory(files: &[&str], ago: Duration) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in files {
            fs::write(dir.path().join(name), name).unwrap();
        }
        touched(dir.path(), ago);
        dir
    }

    fn touched(path: &Path, ago: Duration) {
        let opened = fs::File::open(path).unwrap();
        opened.set_modified(SystemTime::now() - ago).unwrap();
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn entries_are_found_by_their_inode_and_by_the_beginning_of_their_name() {
        let dir = directory(&["b.log.1", "a.log", "b.log", "c"], LONG);
        let listing = Listings::default().of(dir.path());
        for (prefix, expected) in [
            ("b", &["b.log", "b.log.1"][..]),
            ("b.log.", &["b.log.1"]),
            ("", &["a.log", "b.log", "b.log.1", "c"]),
            ("bb", &[]),
            ("d", &[]),
            // where a byte is unknown, all that may begin so
            ("b.\u{fffd}x", &["b.log", "b.log.1"]),
        ] {
            assert_eq!(names(listing.beginning_with(prefix)), expected, "{prefix}");
        }
        let inode = fs::metadata(dir.path().join("a.log")).unwrap().ino();
        assert_eq!(names(listing.with_inode(inode)), ["a.log"]);
        assert_eq!(names(listing.with_inode(0)), [""; 0]);
        let none = Listings::default().of(&dir.path().join("none"));
        assert_eq!(names(none.beginning_with("")), [""; 0]);
    }

    #[test]
    fn a_directory_is_read_once_while_nobody_touches_it() {
        let dir = directory(&["a"], LONG);
        let listings = Listings::default();
        let first = listings.of(dir.path());
        assert!(Arc::ptr_eq(&first, &listings.of(dir.path())));
        fs::write(dir.path().join("b"), "").unwrap();
        let second = listings.of(dir.path());
        assert_eq!(names(second.beginning_with("")), ["a", "b"]);
        // one that was touched a moment ago may be touched again without a trace
        assert!(!Arc::ptr_eq(&second, &listings.of(dir.path())));
        fs::remove_file(dir.path().join("b")).unwrap();
        touched(dir.path(), LONG);
        assert_eq!(names(listings.of(dir.path()).beginning_with("")), ["a"]);
    }

    #[test]
    fn times_that_tell_nothing_are_not_believed() {
        let long_ago = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        for (ago, is_believed) in [
            (LONG, true),
            (Duration::from_secs(1), false),
            // a file system that keeps none
            (long_ago, false),
        ] {
            let dir = directory(&["a"], ago);
            let listings = Listings::default();
            let (one, other) = (listings.of(dir.path()), listings.of(dir.path()));
            assert_eq!(Arc::ptr_eq(&one, &other), is_believed, "{ago:?}");
            assert!(one.still_stands());
        }
        let dir = directory(&["a"], Duration::ZERO);
        let opened = fs::File::open(dir.path()).unwrap();
        opened.set_modified(SystemTime::now() + LONG).unwrap();
        let listings = Listings::default();
        let (one, other) = (listings.of(dir.path()), listings.of(dir.path()));
        assert!(!Arc::ptr_eq(&one, &other), "in the future");
    }

    #[test]
    fn a_directory_stands_while_its_names_are_those_of_the_same_files() {
        for ago in [LONG, Duration::ZERO] {
            let dir = directory(&["a.log", "a.log.1"], ago);
            let at = |name: &str| dir.path().join(name);
            let listing = || Listings::default().of(dir.path());
            let before = listing();
            fs::write(at("a.log"), "more\n").unwrap();
            assert!(before.still_stands(), "its files may change");
            let blows: [&dyn Fn(); 3] = [
                &|| fs::rename(at("a.log.1"), at("a.log.2")).unwrap(),
                &|| fs::write(at("a.log.1"), "").unwrap(),
                &|| fs::remove_file(at("a.log.2")).unwrap(),
            ];
            for blow in blows {
                touched(dir.path(), ago);
                let before = listing();
                assert!(before.still_stands());
                blow();
                assert!(!before.still_stands());
            }
        }
    }
}
