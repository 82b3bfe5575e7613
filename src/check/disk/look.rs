//! Asking file systems how full they are.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::sys::statvfs::{FsFlags, statvfs};
use serde::{Deserialize, Serialize};

use crate::check::Looking;
use crate::clock::rough;
use crate::pool::Failed;

/// How full a file system is, for an ordinary user: what is kept for root counts neither as used nor as free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Bytes that are used.
    pub used: u64,
    /// Bytes that are free.
    pub free: u64,
    /// Inodes that are used; both are 0 where there is no fixed number.
    pub inodes_used: u64,
    /// Inodes that are free.
    pub inodes_free: u64,
    /// Nothing can be written to it.
    #[serde(skip)]
    pub read_only: bool,
}

impl Figures {
    /// Bytes that an ordinary user may use.
    pub fn size(&self) -> u64 {
        self.used.saturating_add(self.free)
    }

    /// Inodes that an ordinary user may use.
    pub fn inodes(&self) -> u64 {
        self.inodes_used.saturating_add(self.inodes_free)
    }
}

/// What asking gave; the error continues a sentence that begins with the path.
pub(super) type Answer = Result<Figures, String>;

/// Asks for each path once, all side by side, each within its limit.
pub(super) fn look(wanted: &[(&Path, Duration)], looking: &Looking<'_>) -> Vec<Answer> {
    let mut limits: BTreeMap<&Path, Duration> = BTreeMap::new();
    for (path, limit) in wanted {
        let longest = limits.entry(path).or_insert(*limit);
        *longest = (*longest).max(*limit);
    }
    let mut rounds: BTreeMap<Duration, Vec<PathBuf>> = BTreeMap::new();
    for (path, limit) in limits {
        rounds.entry(limit).or_default().push(path.to_owned());
    }
    let ask = |limit: Duration, paths: &Vec<PathBuf>| {
        let answers = looking
            .pool
            .side_by_side(paths.clone(), limit, looking.deadline, |path| {
                figures(&path)
            });
        answers.into_iter().map(move |answer| match answer {
            Ok(answer) => answer,
            Err(failed) => Err(given_up(failed, limit, looking)),
        })
    };
    let mut answers: BTreeMap<&Path, Answer> = BTreeMap::new();
    thread::scope(|scope| {
        let ask = &ask;
        let mut rounds = rounds.iter();
        let first = rounds.next();
        // most configs have one limit; where a second one is hung, the first does not wait for it
        let others: Vec<_> = rounds
            .map(|(limit, paths)| {
                let asked = move || ask(*limit, paths).collect::<Vec<_>>();
                let thread = thread::Builder::new().name("disks".to_owned());
                (paths, thread.spawn_scoped(scope, asked))
            })
            .collect();
        if let Some((limit, paths)) = first {
            answers.extend(paths.iter().map(PathBuf::as_path).zip(ask(*limit, paths)));
        }
        for (paths, thread) in others {
            // without an answer of its own, a path gets the one below
            if let Some(found) = thread.ok().and_then(|thread| thread.join().ok()) {
                answers.extend(paths.iter().map(PathBuf::as_path).zip(found));
            }
        }
        let answer = |(path, limit): &(&Path, Duration)| {
            let none = || Err(given_up(Failed::NoThread, *limit, looking));
            answers.get(path).cloned().unwrap_or_else(none)
        };
        wanted.iter().map(answer).collect()
    })
}

fn given_up(failed: Failed, limit: Duration, looking: &Looking<'_>) -> String {
    match failed {
        Failed::TimedOut => format!(
            "did not answer within {} (a dead disk or network share?)",
            rough(limit)
        ),
        Failed::OutOfTime => format!(
            "did not answer before the run had to end (run_timeout {})",
            rough(looking.run_timeout)
        ),
        Failed::NoThread => {
            "was not asked: cannot create a thread (ulimit -u, TasksMax=)".to_owned()
        }
        Failed::Panicked => "was not asked: internal error (bug); please report it".to_owned(),
    }
}

/// How full the file system is that holds a path.
#[allow(
    clippy::useless_conversion,
    reason = "the counts have 32 bits on some architectures"
)]
fn figures(path: &Path) -> Answer {
    let stat = statvfs(path).map_err(|errno| match errno {
        nix::errno::Errno::ENOENT => "is not there".to_owned(),
        errno => format!("cannot be looked at: {}", errno.desc()),
    })?;
    let block = u64::from(stat.fragment_size());
    let bytes = |blocks: u64| blocks.saturating_mul(block);
    let (blocks, unused) = (u64::from(stat.blocks()), u64::from(stat.blocks_free()));
    if blocks == 0 {
        return Err("is on a file system that has no size, such as /proc".to_owned());
    }
    let (files, unused_files) = (u64::from(stat.files()), u64::from(stat.files_free()));
    Ok(Figures {
        used: bytes(blocks.saturating_sub(unused)),
        free: bytes(u64::from(stat.blocks_available())),
        inodes_used: files.saturating_sub(unused_files),
        inodes_free: if files == 0 {
            0
        } else {
            u64::from(stat.files_available())
        },
        read_only: stat.flags().contains(FsFlags::ST_RDONLY),
    })
}

/// Where the file system that holds a path is mounted, and of which type it is. Not for one that may hang.
pub(super) fn mount_of(path: &Path) -> Option<(PathBuf, String)> {
    let whole = fs::canonicalize(path).ok()?;
    let mounts = fs::read("/proc/self/mountinfo").ok()?;
    mount_in(&mounts, &whole)
}

/// The same in a table of mounts (proc_pid_mountinfo(5)): the last one that a path is below, of the deepest.
fn mount_in(mounts: &[u8], path: &Path) -> Option<(PathBuf, String)> {
    let lines = mounts.split(|byte| *byte == b'\n');
    let found = lines.filter_map(|line| {
        let text = String::from_utf8_lossy(line);
        let (front, back) = text.split_once(" - ")?;
        let point = unescaped(front.split(' ').nth(4)?);
        let kind = back.split(' ').next()?.to_owned();
        path.starts_with(&point).then_some((point, kind))
    });
    found.max_by_key(|(point, _)| point.as_os_str().as_bytes().len())
}

/// A path without the escapes of blanks: `\040`.
fn unescaped(text: &str) -> PathBuf {
    let path = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    path.iter()
        .fold(text.to_owned(), |text, (escape, c)| text.replace(escape, c))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_holds_a_path_and_the_last_of_several() {
        let table = b"22 1 8:1 / / rw,noatime shared:1 - ext4 /dev/sda1 rw\n\
            30 22 8:2 / /var rw - xfs /dev/sda2 rw\n\
            31 30 0:4 / /var/my\\040lib rw shared:2 master:1 - tmpfs tmpfs rw\n\
            32 31 0:5 / /var/my\\040lib rw - ext4 /dev/sdb rw\n\
            bad line\n";
        for (path, point, kind) in [
            ("/", "/", "ext4"),
            ("/variable", "/", "ext4"),
            ("/var", "/var", "xfs"),
            ("/var/lib", "/var", "xfs"),
            ("/var/my lib/x", "/var/my lib", "ext4"),
        ] {
            let found = mount_in(table, Path::new(path)).unwrap();
            assert_eq!(found, (point.into(), kind.to_owned()), "{path}");
        }
        assert_eq!(mount_in(b"", Path::new("/")), None);
    }

    #[test]
    fn a_file_system_says_how_full_it_is() {
        let root = figures(Path::new("/")).unwrap();
        assert!(root.size() > 0, "{root:?}");
        let no = |path: &str| figures(Path::new(path)).unwrap_err();
        assert_eq!(no("/nonexistent/x"), "is not there");
        assert_eq!(
            no("/proc"),
            "is on a file system that has no size, such as /proc"
        );
        assert!(no("/dev/null/x").starts_with("cannot be looked at: "));
        assert!(mount_of(Path::new("/proc/self")).is_some_and(|(_, kind)| kind == "proc"));
    }
}
