//! Open files, the other ends of sockets, and file systems that are full.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::statvfs::statvfs;

use super::super::call::Wait;
use super::super::seen::{FullDisk, OpenFile};
use super::super::sockets;
use super::shared::{Shared, change, text, with};
use crate::text::plain;

/// So many open files of a process are looked at.
const FILES: usize = 1000;

/// So much of a list of sockets is looked through, in bytes: a hundred thousand connections.
const SOCKETS_LIMIT: u64 = 16 << 20;

/// A file system with less space than this is full, in bytes: whoever writes more than a few lines is refused.
const FULL: u64 = 64 << 10;

fn open_file(pid: i32, fd: u64) -> io::Result<OpenFile> {
    let target = fs::read_link(format!("/proc/{pid}/fd/{fd}"))?;
    let is_written = target.is_absolute()
        && text(&format!("/proc/{pid}/fdinfo/{fd}")).is_ok_and(|info| is_for_writing(&info));
    Ok(OpenFile { target, is_written })
}

/// By the flags of `/proc/PID/fdinfo/FD`, in octal.
fn is_for_writing(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
}

pub(super) fn look_at_files(shared: &Shared, place: usize, pid: i32, until: Instant) {
    // what a thread waits for is looked at first, wherever it stands among a million
    let waited: BTreeSet<u64> = with(shared, |seen| {
        let process = seen.processes.get(place);
        let threads = process.iter().flat_map(|process| &process.threads.each);
        let fd = |wait| match wait {
            Wait::Read(fd)
            | Wait::Write(fd)
            | Wait::Connect(fd)
            | Wait::FileLock(fd)
            | Wait::Sync(fd) => Some(fd),
            Wait::Lock | Wait::Events => None,
        };
        let waits = threads.filter_map(|thread| fd(thread.call.waits()?));
        waits.take(FILES).collect()
    });
    let mut each = BTreeMap::new();
    for fd in waited {
        each.extend(open_file(pid, fd).ok().map(|file| (fd, file)));
    }
    let path = format!("/proc/{pid}/fd");
    let mut count = None;
    let mut unreadable = None;
    match fs::read_dir(&path) {
        Ok(listed) => {
            let mut listed = listed.flatten();
            let mut read = 0;
            for entry in listed.by_ref() {
                read += 1;
                let fd = entry.file_name();
                if let Some(fd) = fd.to_str().and_then(|fd| fd.parse().ok())
                    && !each.contains_key(&fd)
                    && let Ok(file) = open_file(pid, fd)
                {
                    each.insert(fd, file);
                }
                if each.len() >= FILES || Instant::now() >= until {
                    break;
                }
            }
            // since Linux 6.2 the size of the directory says how many there are
            count = match fs::metadata(&path).map(|meta| meta.len()) {
                Ok(0) | Err(_) => Some(read).filter(|_| listed.next().is_none()),
                Ok(count) => Some(count),
            };
        }
        Err(error) => unreadable = Some(format!("{path}: {}", plain(&error))),
    }
    change(shared, place, |process| {
        process.files.each = each;
        process.files.count = count;
        process.files.unreadable = unreadable;
    });
}

/// Looks the sockets up, in the network namespace of each process.
pub(super) fn look_at_sockets(
    shared: &Shared,
    pids: &[i32],
    wanted: &BTreeSet<(usize, u64)>,
    until: Instant,
) {
    // most processes of a service share a namespace, which is then looked through once
    let mut namespaces: BTreeMap<PathBuf, (i32, BTreeMap<u64, Vec<usize>>)> = BTreeMap::new();
    for &(place, inode) in wanted {
        let Some(&pid) = pids.get(place) else {
            continue;
        };
        let name = fs::read_link(format!("/proc/{pid}/ns/net"));
        let name = name.unwrap_or_else(|_| PathBuf::from(pid.to_string()));
        let (_, inodes) = namespaces
            .entry(name)
            .or_insert_with(|| (pid, BTreeMap::new()));
        inodes.entry(inode).or_default().push(place);
    }
    for (pid, mut inodes) in namespaces.into_values() {
        for (name, reader) in sockets::FILES {
            if inodes.is_empty() || Instant::now() >= until {
                break;
            }
            let path = format!("/proc/{pid}/net/{name}");
            let Ok(file) = File::open(&path) else {
                continue;
            };
            for line in BufReader::new(file.take(SOCKETS_LIMIT)).split(b'\n') {
                let Ok(line) = line else { break };
                if inodes.is_empty() || Instant::now() >= until {
                    break;
                }
                let Some(socket) = reader(&line) else {
                    continue;
                };
                for place in inodes.remove(&socket.inode).into_iter().flatten() {
                    change(shared, place, |process| {
                        process.files.sockets.insert(socket.inode, socket.clone());
                    });
                }
            }
        }
    }
}

/// Looks for file systems that are full among those of the files that are written, and of these logs.
pub(in super::super) fn look_at_disks(shared: &Shared, logs: &[PathBuf], until: Instant) {
    let written: Vec<(String, String, String)> = with(shared, |seen| {
        let mut written = Vec::new();
        for process in &seen.processes {
            for (fd, file) in &process.files.each {
                if file.is_written && file.is_path() {
                    // through the descriptor, for the path is one of the process's own file systems
                    let path = format!("/proc/{}/fd/{fd}", process.pid);
                    let whose = format!("fd {fd} of PID {}", process.pid);
                    written.push((path, file.shown(), whose));
                }
            }
        }
        written
    });
    let logs = logs.iter().map(|path| {
        let shown = crate::text::visible_path(path);
        (
            path.to_string_lossy().into_owned(),
            shown,
            "its log".to_owned(),
        )
    });
    let mut known = BTreeSet::new();
    for (path, file, whose) in written.into_iter().chain(logs) {
        if Instant::now() >= until {
            return;
        }
        // one that is not there would be made in its directory
        let at = if Path::new(&path).exists() {
            PathBuf::from(&path)
        } else {
            Path::new(&path)
                .parent()
                .map(PathBuf::from)
                .unwrap_or_default()
        };
        let Ok(stat) = statvfs(&at) else { continue };
        if !known.insert((stat.filesystem_id(), stat.blocks())) {
            continue;
        }
        let block = stat.fragment_size();
        let left = stat.blocks_available().saturating_mul(block);
        // one of the kernel's own has no size, and is never full
        let size = stat.blocks().saturating_mul(block);
        let no_inodes = stat.files() > 0 && stat.files_available() == 0;
        if size > 0 && (left < FULL || no_inodes) {
            let full = FullDisk {
                file,
                whose,
                left,
                size,
                no_inodes,
            };
            with(shared, |seen| seen.full.push(full));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_say_whether_a_file_is_written() {
        for (flags, is_written) in [("0100000", false), ("0100001", true), ("02100002", true)] {
            let info = format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t29\n");
            assert_eq!(is_for_writing(&info), is_written, "{flags}");
        }
        assert!(!is_for_writing(""));
    }
}
