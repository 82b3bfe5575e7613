//! The files that a log is made of: the present one, and those that a rotation has put aside, be they compressed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::super::open::{self, Opened, Trouble};
use super::super::rotation::is_rotation_of;
use super::gzip::Gunzip;
use crate::files::{self, Links, Refusal};

/// Of a directory, so many entries are looked at.
const ENTRIES: usize = 100_000;

/// So many files are read, the latest.
const FILES: usize = 2000;

/// So many files that cannot be read are named.
const NAMED: usize = 5;

/// What compressed files end with that cannot be read here.
const UNREAD: [&str; 7] = [".xz", ".zst", ".bz2", ".lz4", ".lzma", ".Z", ".zip"];

/// A name says when a file was put aside: by a date, or by how many have been since.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Age {
    Present,
    Number(u64),
    /// The digits of its date.
    Date(String),
    Unknown,
}

/// A file of a log.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    /// When it was last written.
    pub(super) written: DateTime<Utc>,
    /// In bytes, as it is stored.
    pub(super) size: u64,
    pub(super) is_packed: bool,
    /// It is read from here on.
    pub(super) from: u64,
    /// A file that came before it is not there.
    pub(super) is_torn: bool,
    age: Age,
}

/// The files of a log, the oldest first, and what of it cannot be read.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) parts: Vec<Part>,
    pub(super) notes: Vec<String>,
}

impl Part {
    /// A file that is open, by itself.
    pub(super) fn present(opened: &Opened) -> Self {
        Self {
            path: opened.path.clone(),
            written: opened.modified,
            size: opened.size,
            is_packed: false,
            from: 0,
            is_torn: false,
            age: Age::Present,
        }
    }

    /// Opens it for reading, decompressed.
    pub(super) fn open(&self) -> io::Result<Box<dyn Read>> {
        let mut file = self.file()?;
        if self.is_packed {
            return Ok(Box::new(Gunzip::new(file)));
        }
        if self.from > 0 {
            file.seek(SeekFrom::Start(self.from))?;
        }
        // what is written meanwhile is not read
        Ok(Box::new(file.take(self.size.saturating_sub(self.from))))
    }

    fn file(&self) -> io::Result<File> {
        let opened = files::open(&self.path, Links::Follow).map_err(|refusal| match refusal {
            Refusal::Io(error) => error,
            Refusal::Kind(kind) => io::Error::other(format!("it is {kind}, not a regular file")),
        });
        Ok(opened?.0)
    }

    /// Its name in sentences.
    pub(super) fn name(&self) -> String {
        file_name(&self.path)
    }

    fn of(path: &Path, age: Age, meta: &fs::Metadata) -> Self {
        Self {
            path: path.to_owned(),
            written: open::modified(meta),
            size: meta.len(),
            is_packed: path.extension().is_some_and(|ending| ending == "gz"),
            from: 0,
            is_torn: false,
            age,
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The files of the log at a path, which may be a glob. An error is a sentence without its name.
pub(super) fn of(path: &Path) -> Result<Chain, String> {
    let chosen = open::choose(path);
    let mut chain = Chain::default();
    let (present, missing) = match chosen {
        Ok(present) => match fs::metadata(&present) {
            Ok(meta) if meta.is_file() => (Some((present, meta)), None),
            Ok(_) | Err(_) => {
                let trouble = open::open(&present, Links::Follow).err();
                (
                    None,
                    trouble.or_else(|| Some(Trouble::Missing("no such file".to_owned()))),
                )
            }
        },
        Err(trouble) => (None, Some(trouble)),
    };
    let mut seen = BTreeSet::new();
    let mut owners = vec![path.to_owned()];
    if let Some((present, meta)) = &present {
        seen.insert((meta.dev(), meta.ino()));
        chain.parts.push(Part::of(present, Age::Present, meta));
        owners.push(present.clone());
        owners.extend(fs::canonicalize(present));
    }
    let mut packed = path.as_os_str().to_owned();
    packed.push(".gz");
    let matches = open::matches(path).into_iter();
    for found in matches.chain(open::matches(Path::new(&packed))) {
        add(&mut chain, &mut seen, &found, Age::Unknown);
        owners.push(found);
    }
    owners.sort();
    owners.dedup();
    beside(&mut chain, &mut seen, &owners);
    if chain.parts.is_empty() {
        return Err(match missing {
            Some(Trouble::Missing(why) | Trouble::Unreadable(why)) => why,
            None => "no such file".to_owned(),
        });
    }
    if let Some(Trouble::Unreadable(why)) = missing {
        chain.notes.push(format!("{}: {why}", file_name(path)));
    }
    chain.sort();
    Ok(chain)
}

/// Adds what stands beside the log under names that rotations give.
fn beside(chain: &mut Chain, seen: &mut BTreeSet<(u64, u64)>, owners: &[PathBuf]) {
    let names: BTreeSet<String> = owners.iter().map(|path| file_name(path)).collect();
    let directories: BTreeSet<PathBuf> = (owners.iter())
        .filter_map(|path| fs::canonicalize(path.parent()?).ok())
        .collect();
    let mut unread = 0_usize;
    for directory in directories {
        let entries = fs::read_dir(directory).into_iter().flatten();
        let mut found: Vec<PathBuf> = entries
            .take(ENTRIES)
            .flatten()
            .map(|entry| entry.path())
            .collect();
        found.sort();
        for path in found {
            let name = file_name(&path);
            let is_unread = UNREAD.iter().find_map(|end| name.strip_suffix(end));
            let bare = is_unread.or_else(|| name.strip_suffix(".gz"));
            let is_packed = bare.is_some();
            let bare = bare.unwrap_or(&name);
            let age = names.iter().find_map(|own| age(own, bare, is_packed));
            let Some(age) = age else {
                continue;
            };
            if is_unread.is_some() {
                unread += 1;
                if unread <= NAMED {
                    chain.notes.push(format!(
                        "{name} is not read: only gzip can be; decompress it to have it read"
                    ));
                }
                continue;
            }
            // one that is about to be compressed is there twice
            let unpacked = path.with_file_name(bare);
            if is_packed && unpacked.is_file() && !names.contains(bare) {
                continue;
            }
            add(chain, seen, &path, age);
        }
    }
    if unread > NAMED {
        chain
            .notes
            .push(format!("and {} more are not read either", unread - NAMED));
    }
}

fn add(chain: &mut Chain, seen: &mut BTreeSet<(u64, u64)>, path: &Path, age: Age) {
    let Ok(meta) = fs::metadata(path) else {
        return;
    };
    if meta.is_file() && seen.insert((meta.dev(), meta.ino())) {
        chain.parts.push(Part::of(path, age, &meta));
    }
}

/// What a name, without the ending of a compressed file, says of the age of a file; none where it is not of that log.
fn age(own: &str, name: &str, is_packed: bool) -> Option<Age> {
    let own = own.strip_suffix(".gz").unwrap_or(own);
    if name == own {
        return is_packed.then_some(Age::Number(0));
    }
    if name.strip_prefix(own) == Some(".old") {
        return Some(Age::Number(0));
    }
    if !is_rotation_of(own, name) {
        return None;
    }
    let same = own.bytes().zip(name.bytes());
    let same = same.take_while(|(one, other)| one == other).count();
    let digits: String = name[same..].chars().filter(char::is_ascii_digit).collect();
    Some(match digits.parse() {
        Ok(number) if digits.len() < 6 => Age::Number(number),
        _ => Age::Date(digits),
    })
}

impl Chain {
    /// Puts the oldest first, by their names where these tell, or else by their times.
    fn sort(&mut self) {
        let aside = || self.parts.iter().filter(|part| part.age != Age::Present);
        let is_numbered = aside().all(|part| matches!(part.age, Age::Number(_)));
        let is_dated = aside().all(|part| matches!(part.age, Age::Date(_)));
        self.parts.sort_by(|one, other| {
            let is_present = |part: &Part| part.age == Age::Present;
            is_present(one)
                .cmp(&is_present(other))
                .then_with(|| match (&one.age, &other.age) {
                    (Age::Number(one), Age::Number(other)) if is_numbered => other.cmp(one),
                    (Age::Date(one), Age::Date(other)) if is_dated && one.len() == other.len() => {
                        one.cmp(other)
                    }
                    _ => one.written.cmp(&other.written),
                })
        });
        let beyond = self.parts.len().saturating_sub(FILES);
        if beyond > 0 {
            self.parts.drain(..beyond);
            self.notes.push(format!(
                "only the latest {FILES} files are read, {beyond} are left out"
            ));
        }
        if is_numbered {
            self.find_missing();
        }
    }

    /// Finds where a number is left out.
    fn find_missing(&mut self) {
        let mut before = None;
        for part in &mut self.parts {
            let Age::Number(number) = part.age else {
                continue;
            };
            if let Some(before) = before.filter(|before| *before > number + 1) {
                part.is_torn = true;
                self.notes.push(format!(
                    "number {} of its rotated files is missing: what is between {before} and {number} is no silence",
                    before - 1
                ));
            }
            before = Some(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gzip::tests::gzip;
    use super::*;

    fn chain(names: &[&str], path: &str) -> (Vec<String>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        for (at, name) in names.iter().enumerate() {
            let file = dir.path().join(name);
            fs::write(
                &file,
                if name.contains(".gz") {
                    gzip(b"x\n")
                } else {
                    b"x\n".to_vec()
                },
            )
            .unwrap();
            let written = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at as u64 * 60);
            let file = File::options().append(true).open(&file).unwrap();
            file.set_modified(written).unwrap();
        }
        let chain = of(&dir.path().join(path)).unwrap();
        let parts = chain.parts.iter();
        let mut text = String::new();
        for part in &chain.parts {
            text.clear();
            part.open().unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "x\n");
        }
        (parts.map(Part::name).collect(), chain.notes)
    }

    #[test]
    fn rotated_files_are_found_the_oldest_first() {
        for (names, path, expected) in [
            // by their numbers, whatever their times are
            (
                &[
                    "a.log",
                    "a.log.1",
                    "a.log.10.gz",
                    "a.log.2.gz",
                    "b.log.1",
                    "a.log.x",
                ][..],
                "a.log",
                &["a.log.10.gz", "a.log.2.gz", "a.log.1", "a.log"][..],
            ),
            (
                &[
                    "a.log",
                    "a.log-20261103",
                    "a.log-20261101.gz",
                    "a.log-20261102.gz",
                ],
                "a.log",
                &[
                    "a.log-20261101.gz",
                    "a.log-20261102.gz",
                    "a.log-20261103",
                    "a.log",
                ],
            ),
            (
                &["a.log", "a.log.2026-11-01.gz", "a.log.2026-10-31"],
                "a.log",
                &["a.log.2026-10-31", "a.log.2026-11-01.gz", "a.log"],
            ),
            // by their times
            (
                &[
                    "a-2026-10-31.log",
                    "a-2026-11-01.log.gz",
                    "a-2026-11-02.log",
                ],
                "a-*.log",
                &[
                    "a-2026-10-31.log",
                    "a-2026-11-01.log.gz",
                    "a-2026-11-02.log",
                ],
            ),
            (&["a.log.old", "a.log"], "a.log", &["a.log.old", "a.log"]),
            // what is being compressed is there twice
            (
                &["a.log.1", "a.log.1.gz", "a.log"],
                "a.log",
                &["a.log.1", "a.log"],
            ),
            // only a compressed one is left
            (&["a.log.gz"], "a.log", &["a.log.gz"]),
            (&["a.log.3.gz", "a.log"], "a.log.3.gz", &["a.log.3.gz"]),
        ] {
            assert_eq!(chain(names, path).0, expected, "{names:?}");
        }
    }

    #[test]
    fn what_is_missing_or_cannot_be_read_is_told() {
        let (parts, notes) = chain(&["a.log.4", "a.log.1", "a.log", "a.log.2.xz"], "a.log");
        assert_eq!(parts, ["a.log.4", "a.log.1", "a.log"]);
        assert_eq!(
            notes,
            [
                "a.log.2.xz is not read: only gzip can be; decompress it to have it read",
                "number 3 of its rotated files is missing: what is between 4 and 1 is no silence",
            ]
        );
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of(&dir.path().join("a.log")).unwrap_err(), "no such file");
        let fifo = of(Path::new("/dev/null")).unwrap_err();
        assert!(fifo.contains("not a regular file"), "{fifo}");
    }
}
