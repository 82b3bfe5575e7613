//! Files in places where others have a hand in.
//!
//! A service's own user can put a link, a FIFO or a device in the place of any file in its directories, and between a look
//! and an open put something else there again. So a file is opened in two steps, of which the first has no effect, and
//! where root writes, nobody else may be able to decide what a path means: no flag of open(2) helps against a directory
//! that is swapped for a link further up.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// More symbolic links than a path has: the kernel's own bound.
const LINKS: usize = 40;

/// The bit of a mode that keeps all but the owners of names in a directory from changing them.
const STICKY: u32 = 0o1000;

/// Whether a last symbolic link in a path is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// For paths that a person wrote.
    Follow,
    /// For names that were found in a directory.
    Refuse,
}

/// A file by its name and by what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileId {
    /// Its name.
    pub path: PathBuf,
    /// Its device and inode.
    pub file: (u64, u64),
}

impl FileId {
    /// Whether the name still means the file.
    pub fn holds(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.file)
    }
}

/// Why a file was not opened.
#[derive(Debug)]
pub enum Refusal {
    /// It is not a regular file: what it is, with its article.
    Kind(&'static str),
    /// The system said no.
    Io(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Kind(kind) => Self::other(format!("it is {kind}, not a regular file")),
            Refusal::Io(error) => error,
        }
    }
}

/// Opens a regular file for reading. Whatever is put in its place meanwhile, nothing is waited for, and nothing that is
/// not a regular file is opened: opening a FIFO lets its writer go on, and opening a device can set it off.
pub fn open(path: &Path, links: Links) -> Result<(File, Metadata), Refusal> {
    let no_follow = match links {
        Links::Follow => 0,
        Links::Refuse => libc::O_NOFOLLOW,
    };
    // a handle on what is there, which does not open it
    let handle = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | no_follow)
        .open(path)?;
    let meta = handle.metadata()?;
    regular(&meta)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(format!("/proc/self/fd/{}", handle.as_raw_fd()))
        // something was there: what has no /proc to get at it by must not be taken for missing
        .map_err(|error| match fs::metadata("/proc/self/fd") {
            Err(error) => io::Error::other(format!("/proc/self/fd: {error}")),
            Ok(_) => error,
        })?;
    // this leads to what the handle is on, whatever its path means by now
    Ok((file, meta))
}

/// Whether there is no such file for this user: it is not there, or may not be reached.
pub fn is_out_of_reach(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied
    )
}

/// Why the system did not open a path: what it says, or what is there where that says too little.
pub fn explain(path: &Path, error: &io::Error) -> String {
    let link = || fs::read_link(path).ok();
    match (error.raw_os_error(), link()) {
        (Some(libc::ENOENT), Some(target)) => format!(
            "it is a symbolic link to {}, which does not exist",
            target.display()
        ),
        // it is one only where links are refused: one that leads in a circle cannot be followed either
        (Some(libc::ELOOP), Some(target)) if !leads_in_a_circle(path) => format!(
            "it is a symbolic link to {}, and no link is followed there",
            target.display()
        ),
        (Some(libc::ELOOP), _) => "the symbolic links in its path lead in a circle".to_owned(),
        (Some(libc::ENOTDIR), _) => "a part of its path is not a directory".to_owned(),
        _ => error.to_string(),
    }
}

fn leads_in_a_circle(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.raw_os_error() == Some(libc::ELOOP))
}

/// What keeps a directory from being one: the lowest part of its path that is there, and what that is. Nothing where it is
/// there, or can be made.
pub fn no_directory(dir: &Path) -> Option<String> {
    let there = |path: &&Path| fs::symlink_metadata(path).is_ok();
    let lowest = dir.ancestors().find(there)?;
    let what = match fs::metadata(lowest) {
        Ok(meta) if meta.is_dir() => return None,
        Ok(meta) => match regular(&meta) {
            Err(Refusal::Kind(kind)) => format!("is {kind}"),
            _ => "is a regular file".to_owned(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let target = fs::read_link(lowest).unwrap_or_default();
            format!(
                "is a symbolic link to {}, which does not exist",
                target.display()
            )
        }
        Err(_) => return None,
    };
    Some(format!("{} {what}", lowest.display()))
}

/// Nothing, for a regular file; what else it is, for all others.
pub fn regular(meta: &Metadata) -> Result<(), Refusal> {
    let kind = meta.file_type();
    Err(Refusal::Kind(if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else {
        "a device"
    }))
}

/// Who, beside root and one user, can decide what a path means or what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writers {
    /// Users by their numbers.
    pub users: BTreeSet<u32>,
    /// The members of groups, by their numbers.
    pub groups: BTreeSet<u32>,
    /// All users.
    pub everybody: bool,
}

impl Writers {
    /// Whether there are none.
    pub fn are_none(&self) -> bool {
        !self.everybody && self.users.is_empty() && self.groups.is_empty()
    }
}

/// `UID 33`, `UID 33 and GID 4`, `everybody`.
impl std::fmt::Display for Writers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.everybody {
            return f.write_str("everybody");
        }
        let users = self.users.iter().map(|uid| format!("UID {uid}"));
        let groups = self.groups.iter().map(|gid| format!("GID {gid}"));
        f.write_str(&users.chain(groups).collect::<Vec<_>>().join(" and "))
    }
}

/// How much of a path has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it; where it is not, whoever can make it can decide what it is.
    Whole,
    /// What is there of it: the rest is going to be made.
    Existing,
}

/// Who, beside root and the user `me`, could make a write to `path` go elsewhere although no link at its end is followed:
/// whoever can put a link in the place of one of its directories. Where other names in its own directory are made, by all in a
/// sticky directory or by the directory's group, it is for [`append`] to see whether the file is the right one.
pub fn who_could_redirect(path: &Path, me: u32) -> Writers {
    let directory = path.parent().unwrap_or(path);
    let mut found = writers(directory, me, Extent::Existing);
    let above = fs::canonicalize(directory)
        .ok()
        .and_then(|real| Some(writers(real.parent()?, me, Extent::Existing)));
    if above.is_some_and(|above| above.groups.is_empty()) {
        found.groups.clear();
    }
    found
}

/// Who could have root write elsewhere than into this directory, by putting a link in its place or above it. Nobody, where
/// this user is not root: others cannot have him do what they could not do themselves with the directory.
pub fn who_could_lead_root(directory: &Path) -> Option<Writers> {
    let me = nix::unistd::geteuid();
    let found = || writers(directory, me.as_raw(), Extent::Existing);
    me.is_root().then(found).filter(|found| !found.are_none())
}

/// One thing on the way along a path.
#[derive(Debug)]
pub struct Place {
    /// Where it is, by a path without links.
    pub path: PathBuf,
    /// What it is; a link is not followed.
    pub meta: Metadata,
    /// It is in a directory where only owners rename and remove.
    pub in_sticky: bool,
    last: bool,
}

/// Who, beside root and the user `me`, can decide what a path means or what is in it: each directory and each link on the
/// way counts. A path that leads nowhere, in a circle for instance, is in everybody's hands.
pub fn writers(path: &Path, me: u32, extent: Extent) -> Writers {
    let mut writers = Writers::default();
    let Ok((places, missing)) = walk(path) else {
        writers.everybody = true;
        return writers;
    };
    for place in &places {
        let meta = &place.meta;
        let is_link = meta.file_type().is_symlink();
        // a link cannot be changed, only replaced
        if (!is_link || place.in_sticky) && meta.uid() != 0 && meta.uid() != me {
            writers.users.insert(meta.uid());
        }
        let sticky = meta.is_dir() && meta.mode() & 0o1000 != 0;
        let makes = missing && place.last && extent == Extent::Whole;
        if is_link || (sticky && !makes) {
            continue;
        }
        if meta.mode() & 0o002 != 0 {
            writers.everybody = true;
        }
        if meta.mode() & 0o020 != 0 {
            writers.groups.insert(meta.gid());
        }
    }
    writers
}

/// Everything on the way along a path, each directory in which a name is looked up and each link, and whether its end is
/// missing. A directory that is left by a `..` at once is none of them.
pub fn walk(path: &Path) -> io::Result<(Vec<Place>, bool)> {
    let path = std::path::absolute(path)?;
    let mut rest: VecDeque<OsString> = parts(&path);
    let mut here = PathBuf::from("/");
    let mut links = 0;
    let root = fs::symlink_metadata(&here)?;
    let root_is_sticky = root.mode() & STICKY != 0;
    let mut here_is_sticky = root_is_sticky;
    // whether the last of the places is the directory `here`, and no name in it was looked up
    let mut is_fresh = true;
    let mut places = vec![Place {
        path: here.clone(),
        meta: root,
        in_sticky: false,
        last: rest.is_empty(),
    }];
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            // who can change a directory has no say in what is above it, as long as no name in it was looked up: another
            // user can make a link of a directory or of a link in it, and its `..` is somewhere else then
            if here.pop() && is_fresh {
                places.pop();
            }
            is_fresh = false;
            here_is_sticky = fs::symlink_metadata(&here)?.mode() & STICKY != 0;
            continue;
        }
        is_fresh = false;
        let next = here.join(&name);
        let meta = match fs::symlink_metadata(&next) {
            // what this user may not enter leads nowhere for him, either
            Err(error) if is_out_of_reach(&error) => {
                if let Some(directory) = places.iter_mut().rfind(|place| place.path == here) {
                    directory.last = true;
                }
                return Ok((places, true));
            }
            meta => meta?,
        };
        let is_link = meta.file_type().is_symlink();
        let is_sticky = meta.mode() & STICKY != 0;
        places.push(Place {
            path: next.clone(),
            meta,
            in_sticky: here_is_sticky,
            last: rest.is_empty() && !is_link,
        });
        if is_link {
            links += 1;
            if links > LINKS {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            let target = fs::read_link(&next)?;
            if target.is_absolute() {
                here = PathBuf::from("/");
                here_is_sticky = root_is_sticky;
            }
            for part in parts(&target).into_iter().rev() {
                rest.push_front(part);
            }
        } else {
            here = next;
            here_is_sticky = is_sticky;
            is_fresh = true;
        }
    }
    Ok((places, false))
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// Whether a file can be run. The error is a sentence.
pub fn check_executable(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Err(error) => Err(format!("{} cannot be run: {error}", path.display())),
        Ok(meta) if !meta.is_file() => Err(format!("{} is not a program", path.display())),
        Ok(meta) if meta.mode() & 0o111 == 0 => {
            Err(format!("{} is not executable", path.display()))
        }
        Ok(_) => Ok(()),
    }
}

/// Makes a new file, in the place of one that a run left behind that was cut short: never through a link.
pub fn create_anew(path: &Path, mode: u32) -> io::Result<File> {
    match create(path, mode) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            create(path, mode)
        }
        file => file,
    }
}

/// Makes a new file: an error where anything has its name.
pub fn create(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// The mode of a file that only its owner may read and write.
pub const PRIVATE: u32 = 0o600;

/// Takes away what others may do with a file of one's own that only its owner is to read and write: somebody gave it to
/// them since it was made. `meta` is what is known of it already.
pub fn keep_private(path: &Path, file: &File, meta: &Metadata) {
    const OTHERS: u32 = 0o077;
    let mode = meta.mode() & 0o7777;
    let is_shared = mode & OTHERS != 0;
    if !is_shared || meta.uid() != nix::unistd::geteuid().as_raw() {
        return;
    }
    let path = path.display();
    match file.set_permissions(fs::Permissions::from_mode(PRIVATE)) {
        Ok(()) => ::log::warn!(
            "{path} could be read or written by others (mode {mode:o}); its mode is {PRIVATE:o} again"
        ),
        Err(error) => ::log::warn!(
            "{path} can be read or written by others (mode {mode:o}), and that cannot be changed: {error}; chmod {PRIVATE:o} it"
        ),
    }
}

/// Opens a file as [`append`] does that only its owner is to read and write.
pub fn append_private(path: &Path) -> io::Result<File> {
    let (file, meta) = open_to_append(path, PRIVATE)?;
    keep_private(path, &file, &meta);
    Ok(file)
}

/// Opens a file of one's own to append to, made with `mode` where it is missing: never a link, nor a second name for
/// another file, nor somebody else's file.
pub fn append(path: &Path, mode: u32) -> io::Result<File> {
    open_to_append(path, mode).map(|(file, _)| file)
}

fn open_to_append(path: &Path, mode: u32) -> io::Result<(File, Metadata)> {
    let me = nix::unistd::geteuid().as_raw();
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(mode)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let meta = file.metadata()?;
    regular(&meta)?;
    if meta.uid() != me && meta.uid() != 0 {
        return Err(io::Error::other(format!(
            "it belongs to another user (UID {})",
            meta.uid()
        )));
    }
    if meta.nlink() != 1 {
        return Err(io::Error::other(
            "it has another name (a hard link), and may be another file",
        ));
    }
    Ok((file, meta))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        std::os::unix::fs::symlink("circle", at("circle")).unwrap();
        let said = |name: &str, code| explain(&at(name), &io::Error::from_raw_os_error(code));
        let nowhere = "it is a symbolic link to nowhere, ";
        for (name, code, what) in [
            (
                "none",
                libc::ENOENT,
                "No such file or directory (os error 2)",
            ),
            (
                "file/x",
                libc::ENOTDIR,
                "a part of its path is not a directory",
            ),
            (
                "circle",
                libc::ELOOP,
                "the symbolic links in its path lead in a circle",
            ),
            (
                "link",
                libc::ELOOP,
                "it is a symbolic link to file, and no link is followed there",
            ),
            (
                "dangling",
                libc::ELOOP,
                &format!("{nowhere}and no link is followed there"),
            ),
            (
                "dangling",
                libc::ENOENT,
                &format!("{nowhere}which does not exist"),
            ),
        ] {
            assert_eq!(said(name, code), what, "{name}");
        }
        let shown = |name: &str| at(name).display().to_string();
        for (name, what) in [
            ("none/a", None),
            (".", None),
            ("file", Some(format!("{} is a regular file", shown("file")))),
            (
                "file/a/b",
                Some(format!("{} is a regular file", shown("file"))),
            ),
            (
                "dangling/a",
                Some(format!(
                    "{} {}which does not exist",
                    shown("dangling"),
                    &nowhere[3..]
                )),
            ),
        ] {
            assert_eq!(no_directory(&at(name)), what, "{name}");
        }
    }

    #[test]
    fn what_is_appended_to_is_a_file_of_ones_own_with_one_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        append(&path, 0o600).unwrap();
        fs::hard_link(&path, dir.path().join("name")).unwrap();
        assert_eq!(
            append(&path, 0o600).unwrap_err().to_string(),
            "it has another name (a hard link), and may be another file"
        );
    }
    use std::os::unix::fs::{chown, symlink};

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_regular_files_are_opened_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "text").unwrap();
        symlink(at("file"), at("link")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (file, meta) = open(&at("file"), Links::Refuse).unwrap();
        assert_eq!(io::read_to_string(file).unwrap(), "text");
        assert_eq!(meta.len(), 4);
        assert!(open(&at("link"), Links::Follow).is_ok());
        for (name, links, kind) in [
            ("link", Links::Refuse, "a symbolic link"),
            ("zero", Links::Follow, "a device"),
            ("fifo", Links::Follow, "a FIFO"),
            (".", Links::Follow, "a directory"),
        ] {
            match open(&at(name), links) {
                Err(Refusal::Kind(found)) => assert_eq!(found, kind),
                other => panic!("{name}: {other:?}"),
            }
        }
        let missing = io::Error::from(open(&at("none"), Links::Follow).unwrap_err());
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn whoever_can_write_a_file_its_directories_or_links_counts() {
        let me = nix::unistd::geteuid().as_raw();
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("a")).unwrap();
        mode(&at("a"), 0o755);
        let file = at("a/file");
        fs::write(&file, "").unwrap();
        mode(&file, 0o644);
        let who = |path: &Path| writers(path, me, Extent::Whole);
        assert!(who(&file).are_none(), "{}", who(&file));
        // one's own for oneself, somebody's for another
        if me != 0 {
            let other = writers(&file, me + 1, Extent::Whole);
            assert_eq!(other.users, BTreeSet::from([me]));
        }
        mode(&file, 0o664);
        let gid = fs::metadata(&file).unwrap().gid();
        assert_eq!(who(&file).groups, BTreeSet::from([gid]));
        mode(&file, 0o644);
        mode(&at("a"), 0o777);
        assert!(who(&file).everybody);
        mode(&at("a"), 0o1777);
        assert!(who(&file).are_none(), "only its owner replaces it");
        let missing = at("a/none");
        assert!(who(&missing).everybody, "anybody could make it");
        assert!(writers(&missing, me, Extent::Existing).are_none());
        mode(&at("a"), 0o755);
        // a link leads through another directory
        fs::create_dir(at("open")).unwrap();
        mode(&at("open"), 0o777);
        symlink(&file, at("open/link")).unwrap();
        assert!(who(&at("open/link")).everybody);
        assert!(
            who(&at("open/../a/file")).are_none(),
            "{}",
            who(&at("open/../a/file"))
        );
        symlink(at("circle"), at("circle")).unwrap();
        assert!(who(&at("circle")).everybody);
        symlink("a/file", at("relative")).unwrap();
        assert!(who(&at("relative")).are_none());
        if me == 0 {
            chown(&file, Some(4242), None).unwrap();
            assert_eq!(who(&file).users, BTreeSet::from([4242]));
            assert!(writers(&file, 4242, Extent::Whole).are_none());
            chown(&file, Some(0), None).unwrap();
            // a link in a sticky directory is its owner's to replace
            mode(&at("a"), 0o1777);
            symlink("file", at("a/theirs")).unwrap();
            std::os::unix::fs::lchown(at("a/theirs"), Some(4242), None).unwrap();
            assert_eq!(who(&at("a/theirs")).users, BTreeSet::from([4242]));
        }
    }

    #[test]
    fn a_directory_counts_that_a_name_was_looked_up_in_before_it_was_left() {
        let me = nix::unistd::geteuid().as_raw();
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["real/sub", "open/sub"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        for name in ["real", "real/sub", "open/sub"] {
            mode(&at(name), 0o755);
        }
        fs::write(at("real/file"), "").unwrap();
        mode(&at("real/file"), 0o644);
        mode(&at("open"), 0o777);
        for (link, target) in [
            ("open/file", "../real/file"),
            ("open/dir", "../real"),
            ("open/none", "../real/none"),
            ("open/sub/file", "../../real/file"),
            ("real/sub/file", "../file"),
            ("by_link", "open/file"),
            ("past", "open/../real/file"),
        ] {
            symlink(target, at(link)).unwrap();
        }
        for (path, everybody) in [
            ("real/file", false),
            ("real/sub/file", false),
            ("real/sub/../file", false),
            ("open/../real/file", false),
            ("past", false),
            ("open/file", true),
            ("open/dir/file", true),
            ("open/dir/sub/../file", true),
            ("open/none", true),
            ("open/sub/file", true),
            ("by_link", true),
            // who puts a link in the place of `sub` decides what is above it
            ("open/sub/../../real/file", true),
        ] {
            let found = writers(&at(path), me, Extent::Existing);
            assert_eq!(found.everybody, everybody, "{path}: {found}");
        }
        // who makes what is missing is asked of the directory that it is missing in
        mode(&at("open"), 0o1777);
        symlink("../none", at("open/above")).unwrap();
        assert!(writers(&at("open/above"), me, Extent::Whole).are_none());
    }

    #[test]
    fn directories_that_others_can_swap_mislead_and_a_shared_one_at_the_end_does_not() {
        let me = nix::unistd::geteuid().as_raw();
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        for (above, directory, misled) in [
            (0o755, 0o755, false),
            (0o755, 0o1777, false),
            (0o755, 0o775, false),
            (0o755, 0o777, true),
            (0o775, 0o775, true),
            (0o1777, 0o755, false),
        ] {
            mode(&at("a"), above);
            mode(&at("a/b"), directory);
            for name in ["a/b/file", "a/b/none"] {
                let found = who_could_redirect(&at(name), me);
                assert_eq!(
                    !found.are_none(),
                    misled,
                    "{above:o} {directory:o}: {found}"
                );
            }
            fs::write(at("a/b/file"), "").unwrap();
        }
        if me == 0 {
            mode(&at("a/b"), 0o755);
            chown(at("a/b"), Some(4242), None).unwrap();
            assert_eq!(
                who_could_redirect(&at("a/b/file"), 0).users,
                BTreeSet::from([4242])
            );
            assert!(who_could_redirect(&at("a/b/file"), 4242).are_none());
        }
    }

    #[test]
    fn only_a_file_of_ones_own_is_appended_to() {
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        append(&at("own"), 0o600).unwrap().write_all(b"a").unwrap();
        append(&at("own"), 0o600).unwrap().write_all(b"b").unwrap();
        assert_eq!(fs::read(at("own")).unwrap(), b"ab");
        symlink(at("own"), at("link")).unwrap();
        assert!(append(&at("link"), 0o600).is_err());
        fs::hard_link(at("own"), at("second")).unwrap();
        let error = append(&at("second"), 0o600).unwrap_err().to_string();
        assert!(error.contains("hard link"), "{error}");
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(append(&at("fifo"), 0o600).is_err());
        if nix::unistd::geteuid().is_root() {
            fs::write(at("theirs"), "").unwrap();
            chown(at("theirs"), Some(4242), None).unwrap();
            let error = append(&at("theirs"), 0o600).unwrap_err().to_string();
            assert!(error.contains("UID 4242"), "{error}");
        }
    }
}
