//! Reading what processes do: bounded in number and in time, and each fact handed over as soon as it is there, so that a
//! file of `/proc` that hangs costs only what comes behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::seen::Process;
use crate::check::process::Identity;
use crate::clock::Reading;
use crate::process_table::{self, Used, UsedByAll, ticks_per_second};
use crate::text::{plain, printable};

mod files;
mod shared;
mod threads;

use files::{look_at_files, look_at_sockets};
use shared::{TEXT_LIMIT, bytes, change, text};
use threads::{look_again, look_at_threads, look_at_waits};

pub(super) use files::look_at_disks;
pub(super) use shared::{Shared, with};

/// So many processes are looked at.
const PROCESSES: usize = 32;

/// For so long the processor time of threads is watched.
const WATCHED: Duration = Duration::from_millis(200);

/// The environment of a process is read so far, in bytes.
const VARIABLES_LIMIT: u64 = 256 << 10;

/// So many names of variables are shown.
const VARIABLES: usize = 1000;

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
        let listens =
            |it: &crate::restart::evidence::sockets::Socket| it.local == address.to_string();
        assert!(process.files.sockets.values().any(listens), "{process:?}");
        assert!(process.memory.command_line.is_some());
        let ours = seen.processes.iter().filter(|it| it.pid == pid);
        assert_eq!(ours.count(), 1);
    }
}
