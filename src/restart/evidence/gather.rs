//! Reading what processes do: bounded in number and in time, and each fact handed over as soon as it is there, so that a
//! file of `/proc` that hangs costs only what comes behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;

use super::call::{Call, Wait};
use super::seen::{FullDisk, OpenFile, Process, Seen, Thread};
use super::sockets;
use crate::check::process::Identity;
use crate::clock::Reading;
use crate::process_table::{self, Used, UsedByAll, ticks_per_second};
use crate::text::{plain, printable};

/// So many processes are looked at.
const PROCESSES: usize = 32;

/// So many threads of a process are looked at.
const THREADS: usize = 10_000;

/// The stacks of so many threads of a process are read: those of threads that wait alike look alike.
const STACKS: usize = 16;

/// So many open files of a process are looked at.
const FILES: usize = 1000;

/// For so long the processor time of threads is watched.
const WATCHED: Duration = Duration::from_millis(200);

/// No file of `/proc` that is shown whole is longer.
const TEXT_LIMIT: u64 = 16 << 10;

/// So much of a list of sockets is looked through, in bytes: a hundred thousand connections.
const SOCKETS_LIMIT: u64 = 16 << 20;

/// The environment of a process is read so far, in bytes.
const VARIABLES_LIMIT: u64 = 256 << 10;

/// So many names of variables are shown.
const VARIABLES: usize = 1000;

/// A file system with less space than this is full, in bytes: whoever writes more than a few lines is refused.
const FULL: u64 = 64 << 10;

/// The lines of `/proc/PID/status` that tell something here.
const STATUS: [&str; 18] = [
    "Uid:",
    "Gid:",
    "NSpid:",
    "TracerPid:",
    "FDSize:",
    "VmHWM:",
    "VmRSS:",
    "RssAnon:",
    "VmSwap:",
    "SigQ:",
    "SigPnd:",
    "ShdPnd:",
    "SigBlk:",
    "SigIgn:",
    "SigCgt:",
    "CapEff:",
    "voluntary_ctxt_switches:",
    "nonvoluntary_ctxt_switches:",
];

/// What several threads add to.
pub(super) type Shared = Arc<Mutex<Seen>>;

/// Does something with what was seen so far.
pub(super) fn with<T>(shared: &Shared, act: impl FnOnce(&mut Seen) -> T) -> T {
    act(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

fn change(shared: &Shared, place: usize, act: impl FnOnce(&mut Process)) {
    with(shared, |seen| seen.processes.get_mut(place).map(act));
}

/// Looks at these processes and all their descendants, until `until` at the most.
pub(super) fn look(shared: &Shared, roots: &[Identity], now: &Reading, until: Instant) {
    let (members, left_out) = members(roots);
    with(shared, |seen| {
        seen.left_out = left_out;
        seen.processes = members.iter().map(|used| process(used, now)).collect();
    });
    let pids: Vec<i32> = members.iter().map(|used| used.pid).collect();
    let mut began = Vec::with_capacity(pids.len());
    for (place, &pid) in pids.iter().enumerate() {
        began.push(Instant::now());
        look_at_threads(shared, place, pid, until);
    }
    let mut wanted = BTreeSet::new();
    for (place, &pid) in pids.iter().enumerate() {
        look_at_waits(shared, place, pid, until);
        look_at_files(shared, place, pid, until);
        look_at_tables(shared, place, pid);
        with(shared, |seen| {
            let files = seen.processes.get(place).map(|it| &it.files.each);
            let files = files.into_iter().flat_map(BTreeMap::values);
            wanted.extend(files.filter_map(|file| Some((place, file.socket()?))));
        });
    }
    look_at_sockets(shared, &pids, &wanted, until);
    for ((place, &pid), began) in pids.iter().enumerate().zip(began) {
        sleep(WATCHED.saturating_sub(began.elapsed()));
        look_again(shared, place, pid, began, until);
    }
}

/// The processes to look at, and how many there are besides.
fn members(roots: &[Identity]) -> (Vec<Used>, usize) {
    let mut members: Vec<Used> = Vec::new();
    let all = UsedByAll::read().ok();
    for root in roots {
        if members.iter().any(|known| known.pid == root.pid) {
            continue;
        }
        if let Some(all) = &all {
            let tree = all.tree(root.pid, root.start).into_iter();
            let new: Vec<Used> = tree
                .filter(|it| members.iter().all(|known| known.pid != it.pid))
                .collect();
            members.extend(new);
        } else {
            let used = process_table::used(root.pid).ok();
            members.extend(used.filter(|used| used.start == root.start));
        }
    }
    let left_out = members.len().saturating_sub(PROCESSES);
    members.truncate(PROCESSES);
    (members, left_out)
}

fn process(used: &Used, now: &Reading) -> Process {
    let started = Duration::from_millis(used.start.saturating_mul(1000) / ticks_per_second());
    Process {
        pid: used.pid,
        parent: used.parent,
        age: Duration::from_millis(now.boot_ms).checked_sub(started),
        cpu: Duration::from_micros(used.own_us),
        resident: used.resident,
        state: '?',
        ..Process::default()
    }
}

/// A file of `/proc`, as far as `limit`.
fn bytes(path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn text(path: &str) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&bytes(path, TEXT_LIMIT)?).into_owned())
}

/// The name, the state and the processor time of a thread, from its `stat`.
fn parse_stat(line: &[u8]) -> Option<(String, char, Duration)> {
    let open = memchr::memchr(b'(', line)?;
    let close = memchr::memrchr(b')', line)?;
    let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // numbered from 1 in proc(5); the third is the first behind the name
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let used = ticks(14)?.saturating_add(ticks(15)?);
    let used = Duration::from_millis(used.saturating_mul(1000) / ticks_per_second());
    let name = printable(line.get(open + 1..close)?, 64);
    Some((name, fields.first()?.chars().next()?, used))
}

/// The processor time of a thread, and for how long it was ready to run and had no processor: on a busy machine one that
/// only computes has little of the first and much of the second. Not every kernel tells.
fn schedule(pid: i32, tid: i32) -> Option<(Duration, Duration)> {
    let text = text(&format!("/proc/{pid}/task/{tid}/schedstat")).ok()?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
    let mut next = || Some(Duration::from_nanos(numbers.next()?.ok()?));
    Some((next()?, next()?))
}

fn look_at_thread(pid: i32, tid: i32) -> Option<Thread> {
    let line = bytes(&format!("/proc/{pid}/task/{tid}/stat"), TEXT_LIMIT).ok()?;
    let (name, state, cpu) = parse_stat(&line)?;
    let (cpu, delayed) = schedule(pid, tid).unwrap_or((cpu, Duration::ZERO));
    Some(Thread {
        tid,
        name,
        state,
        cpu,
        delayed,
        ..Thread::default()
    })
}

fn look_at_threads(shared: &Shared, place: usize, pid: i32, until: Instant) {
    let Ok(listed) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return;
    };
    let (mut count, mut each) = (0, Vec::new());
    for entry in listed.flatten() {
        count += 1;
        let tid = entry.file_name();
        let tid = tid.to_str().and_then(|tid| tid.parse::<i32>().ok());
        if each.len() < THREADS && Instant::now() < until {
            each.extend(tid.and_then(|tid| look_at_thread(pid, tid)));
        }
    }
    change(shared, place, |process| {
        if let Some(main) = each.iter().find(|thread| thread.tid == pid) {
            process.name.clone_from(&main.name);
            process.state = main.state;
        }
        process.threads.count = count;
        process.threads.each = each;
    });
}

/// What each thread waits in, and the stacks of some that wait differently.
fn look_at_waits(shared: &Shared, place: usize, pid: i32, until: Instant) {
    let tids: Vec<i32> = with(shared, |seen| {
        let process = seen.processes.get(place);
        let threads = process.iter().flat_map(|process| &process.threads.each);
        threads.map(|thread| thread.tid).collect()
    });
    let mut stacks: BTreeSet<(String, String)> = BTreeSet::new();
    let mut seen = BTreeMap::new();
    let mut unreadable = None;
    for tid in tids {
        if Instant::now() >= until {
            break;
        }
        let directory = format!("/proc/{pid}/task/{tid}");
        let call = match text(&format!("{directory}/syscall")) {
            Ok(text) => Call::parse(&text),
            Err(error) => {
                if !process_table::is_gone(&error) {
                    unreadable.get_or_insert(format!("/proc/{pid}/syscall: {}", plain(&error)));
                }
                Call::Unknown
            }
        };
        let channel = text(&format!("{directory}/wchan")).ok();
        let channel = channel.filter(|name| !name.is_empty() && name != "0");
        let kind = (call.describe(), channel.clone().unwrap_or_default());
        let stack = if stacks.len() < STACKS && stacks.insert(kind) {
            let stack = text(&format!("{directory}/stack")).ok();
            stack.map(|stack| stack.lines().take(32).map(frame).collect())
        } else {
            None
        };
        seen.insert(tid, (call, channel, stack));
    }
    change(shared, place, |process| {
        process.threads.unreadable = unreadable;
        for thread in &mut process.threads.each {
            if let Some((call, channel, stack)) = seen.remove(&thread.tid) {
                thread.call = call;
                thread.channel = channel;
                thread.stack = stack;
            }
        }
    });
}

/// `[<0>] futex_wait+0x9a/0x150` without what stands for an address.
fn frame(line: &str) -> String {
    printable(line.strip_prefix("[<0>] ").unwrap_or(line).as_bytes(), 200)
}

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

fn look_at_files(shared: &Shared, place: usize, pid: i32, until: Instant) {
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

fn look_at_tables(shared: &Shared, place: usize, pid: i32) {
    let lines = |name: &str, wanted: &dyn Fn(&str) -> bool| -> Vec<String> {
        match text(&format!("/proc/{pid}/{name}")) {
            Ok(text) => (text.lines().filter(|line| wanted(line)))
                .map(|line| printable(line.trim_end().as_bytes(), 300))
                .collect(),
            Err(error) => vec![format!("not readable: {}", plain(&error))],
        }
    };
    let is_shown = |line: &str| STATUS.iter().any(|key| line.starts_with(key));
    let tables = vec![
        ("status", lines("status", &is_shown)),
        ("limits", lines("limits", &|_| true)),
        ("cgroup", lines("cgroup", &|_| true)),
    ];
    change(shared, place, |process| process.tables = tables);
}

/// Looks the sockets up, in the network namespace of each process.
fn look_at_sockets(shared: &Shared, pids: &[i32], wanted: &BTreeSet<(usize, u64)>, until: Instant) {
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

/// The processor time that was used meanwhile.
fn look_again(shared: &Shared, place: usize, pid: i32, began: Instant, until: Instant) {
    let tids: Vec<i32> = with(shared, |seen| {
        let process = seen.processes.get(place);
        let threads = process.iter().flat_map(|process| &process.threads.each);
        threads.map(|thread| thread.tid).collect()
    });
    let watched = began.elapsed();
    let mut now = BTreeMap::new();
    for tid in tids {
        if Instant::now() >= until {
            break;
        }
        let times = schedule(pid, tid).or_else(|| {
            let thread = look_at_thread(pid, tid)?;
            Some((thread.cpu, thread.delayed))
        });
        now.extend(times.map(|times| (tid, times)));
    }
    change(shared, place, |process| {
        process.threads.watched = watched;
        for thread in &mut process.threads.each {
            if let Some((cpu, delayed)) = now.get(&thread.tid) {
                thread.used = Some(cpu.saturating_sub(thread.cpu));
                thread.waited = delayed.saturating_sub(thread.delayed);
                thread.cpu = *cpu;
            }
        }
    });
}

/// Reads what only the memory of the processes tells: one whose memory is locked by a thread that hangs holds up who reads
/// it.
pub(super) fn look_at_memory(shared: &Shared, until: Instant) {
    let pids: Vec<i32> = with(shared, |seen| {
        seen.processes.iter().map(|it| it.pid).collect()
    });
    let link = |pid: i32, name: &str| {
        let target = fs::read_link(format!("/proc/{pid}/{name}")).ok()?;
        Some(crate::text::visible_path(&target))
    };
    for (place, pid) in pids.into_iter().enumerate() {
        if Instant::now() >= until {
            return;
        }
        let working_dir = link(pid, "cwd");
        change(shared, place, |it| it.memory.working_dir = working_dir);
        let program = link(pid, "exe");
        change(shared, place, |it| it.memory.program = program);
        let arguments = bytes(&format!("/proc/{pid}/cmdline"), TEXT_LIMIT).ok();
        let command_line = arguments.map(|bytes| joined(&bytes));
        change(shared, place, |it| it.memory.command_line = command_line);
        let variables = bytes(&format!("/proc/{pid}/environ"), VARIABLES_LIMIT).ok();
        let variables = variables.map(|bytes| names(&bytes));
        change(shared, place, |it| it.memory.variables = variables);
    }
}

fn joined(arguments: &[u8]) -> String {
    let arguments = arguments.split(|&b| b == 0);
    let arguments: Vec<&[u8]> = arguments.filter(|it| !it.is_empty()).collect();
    printable(&arguments.join(&b' '), 2000)
}

/// The names of variables. What does not look like one is left out: it may be a part of a value, where a program has
/// written something else over its environment.
fn names(environment: &[u8]) -> Vec<String> {
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let name = |entry: &[u8]| {
        let end = memchr::memchr(b'=', entry)?;
        let name = &entry[..end];
        let is_name =
            (1..=64).contains(&name.len()) && name.iter().all(is_part) && !name[0].is_ascii_digit();
        is_name.then(|| String::from_utf8_lossy(name).into_owned())
    };
    let mut names: Vec<String> = (environment.split(|&b| b == 0).filter_map(name))
        .take(VARIABLES)
        .collect();
    names.sort();
    names
}

/// Looks for file systems that are full among those of the files that are written, and of these logs.
pub(super) fn look_at_disks(shared: &Shared, logs: &[PathBuf], until: Instant) {
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
    fn of_variables_only_the_names_are_kept() {
        let environment =
            b"PATH=/bin\0TOKEN=canary=1\0nginx: worker\0=x\x001A=2\0a b=3\0_=y\0PATH_2=\0";
        assert_eq!(names(environment), ["PATH", "PATH_2", "TOKEN", "_"]);
    }

    #[test]
    fn the_state_of_a_thread_is_read_whatever_its_name_is() {
        let line =
            b"7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 11 4 300 20 20 0 5 0 12345 9000000 250";
        let (name, state, cpu) = parse_stat(line).unwrap();
        assert_eq!((name.as_str(), state), ("a) b (c)", 'S'));
        assert_eq!(cpu, Duration::from_millis(15_000 / ticks_per_second()));
        for bad in ["", "7 (a", "7 )a( S", "7 (a) S 1"] {
            assert!(parse_stat(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn flags_say_whether_a_file_is_written() {
        for (flags, is_written) in [("0100000", false), ("0100001", true), ("02100002", true)] {
            let info = format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t29\n");
            assert_eq!(is_for_writing(&info), is_written, "{flags}");
        }
        assert!(!is_for_writing(""));
    }

    #[test]
    fn this_process_is_seen_with_its_threads_files_and_sockets() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let now = Reading::take();
        let pid = nix::unistd::getpid().as_raw();
        let me = Identity {
            pid,
            start: process_table::stat(pid).unwrap().start,
            boot_id: now.boot_id.clone(),
        };
        let shared = Shared::default();
        let until = Instant::now() + Duration::from_secs(20);
        look(&shared, &[me.clone(), me], &now, until);
        look_at_memory(&shared, until);
        let seen = with(&shared, |seen| seen.clone());
        let process = &seen.processes[0];
        assert!(process.threads.count >= 2 && process.resident > 100_000);
        assert!(process.threads.each.iter().any(|it| it.used.is_some()));
        assert!(process.files.count.is_some_and(|count| count >= 3));
        let listens = |it: &super::sockets::Socket| it.local == address.to_string();
        assert!(process.files.sockets.values().any(listens), "{process:?}");
        assert!(process.memory.command_line.is_some());
        let ours = seen.processes.iter().filter(|it| it.pid == pid);
        assert_eq!(ours.count(), 1);
    }
}
