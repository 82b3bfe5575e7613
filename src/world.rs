//! The processes of this machine as plain data.
//!
//! sysinfo lists them; the two facts that it rounds or leaves out, the exact start time and the state letter,
//! come from `/proc/PID/stat`. A [`World`] is looked at once a run: as a whole table where some service is
//! known by its command line, one process at a time where all of them have PID files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Pid;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, ThreadKind, UpdateKind};

/// Command lines are cut here: longer than any that a person writes a pattern for, and a bound on memory.
const COMMAND_LIMIT: usize = 256 << 10;

/// How often a process without arguments is looked at, and how long after each look: few are so for good.
const EXEC_LOOKS: u32 = 4;
const EXEC_PAUSE: Duration = Duration::from_millis(2);

/// The PID of the parent of all other threads of the kernel.
const KTHREADD: i32 = 2;

/// More ancestors than a process tree has: a bound for the walk up.
const ANCESTORS_LIMIT: usize = 256;

/// The state of a process, from the letter in `/proc/PID/stat` (proc(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Running, sleeping, idle, in disk sleep: alive.
    Alive,
    /// `T`: stopped by a signal.
    Stopped,
    /// `t`: stopped by a debugger.
    Traced,
    /// `Z` or `X`: ended, only its exit status is left.
    Zombie,
}

impl State {
    fn from_letter(letter: u8) -> Self {
        match letter {
            b'T' => Self::Stopped,
            b't' => Self::Traced,
            b'Z' | b'X' | b'x' => Self::Zombie,
            _ => Self::Alive,
        }
    }
}

/// One process, never a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its PID.
    pub pid: i32,
    /// The PID of its parent.
    pub parent: i32,
    /// The process group that it is in; its own PID where it leads one.
    pub group: i32,
    /// Its state.
    pub state: State,
    /// When it started, in clock ticks since boot: with the PID and the boot, its identity.
    pub start: u64,
    /// Its effective user, where that could be read.
    pub uid: Option<u32>,
    /// Its arguments joined by single spaces, cut at 256 KiB. Empty for zombies and kernel threads.
    pub command: Vec<u8>,
    /// A thread of the kernel.
    pub kernel: bool,
}

/// What looking for one PID gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A process has that PID.
    Found(Process),
    /// None has.
    Gone,
    /// A thread of the process with the second number has that number as its id.
    Thread(i32),
    /// Something has it that may not be looked at; the reason, for a person.
    Hidden(String),
}

/// The processes, as of one instant or on demand.
#[derive(Debug)]
pub struct World {
    table: Option<BTreeMap<i32, Process>>,
    gap: Option<String>,
    hidden: bool,
    me: i32,
    ancestors: BTreeSet<i32>,
}

impl World {
    /// Looks at every process there is: for services that are known by their command line.
    pub fn survey() -> Self {
        let (table, gap) = scan();
        let parent = |pid: i32| {
            table
                .get(&pid)
                .map(|p| p.parent)
                .or_else(|| stat(pid).ok().map(|s| s.parent))
        };
        let (me, ancestors) = lineage(parent);
        Self {
            hidden: others_are_hidden(),
            table: Some(table),
            gap,
            me,
            ancestors,
        }
    }

    /// Looks at nothing yet: each PID is looked up when it is asked for.
    pub fn on_demand() -> Self {
        Self {
            table: None,
            gap: None,
            hidden: false,
            me: nix::unistd::getpid().as_raw(),
            ancestors: BTreeSet::new(),
        }
    }

    /// A world made by hand, with the watchdog as process `me`.
    pub fn of(processes: impl IntoIterator<Item = Process>, me: i32) -> Self {
        let table: BTreeMap<i32, Process> = processes.into_iter().map(|p| (p.pid, p)).collect();
        let mut ancestors = BTreeSet::new();
        let mut pid = me;
        while let Some(process) = table.get(&pid).filter(|p| p.parent > 0) {
            if !ancestors.insert(process.parent) {
                break;
            }
            pid = process.parent;
        }
        Self {
            table: Some(table),
            gap: None,
            hidden: false,
            me,
            ancestors,
        }
    }

    /// The PID of the watchdog.
    pub fn me(&self) -> i32 {
        self.me
    }

    /// Whether `pid` is the watchdog or one of its ancestors. Known of surveyed worlds only.
    pub fn is_lineage(&self, pid: i32) -> bool {
        pid == self.me || self.ancestors.contains(&pid)
    }

    /// Whether other users' processes are hidden from this one (a `/proc` mounted with hidepid).
    pub fn hides_others(&self) -> bool {
        self.hidden
    }

    /// Why a survey may lack a process that runs, where it may: this one was short of descriptors or memory.
    pub fn gap(&self) -> Option<&str> {
        self.gap.as_deref()
    }

    /// The process with a PID. What a survey does not know is looked up again: it may have started since.
    pub fn process(&self, pid: i32) -> Lookup {
        if let Some(process) = self.surveyed(pid) {
            return Lookup::Found(process.clone());
        }
        look_up(pid)
    }

    /// The process with a PID as the survey saw it.
    pub fn surveyed(&self, pid: i32) -> Option<&Process> {
        self.table.as_ref()?.get(&pid)
    }

    /// All processes, by PID; none where nothing was surveyed.
    pub fn all(&self) -> impl Iterator<Item = &Process> {
        self.table.iter().flat_map(BTreeMap::values)
    }
}

/// Surveys for many who want one at about the same time: as fresh as one of one's own, for it was begun after it was
/// asked for, but one at a time, and one for all who have waited for the one before to end.
#[derive(Debug, Default)]
pub struct Surveys {
    latest: Mutex<Option<(Instant, Arc<World>)>>,
}

impl Surveys {
    /// The processes as they are now.
    pub fn ask(&self) -> Arc<World> {
        let asked = Instant::now();
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((begun, world)) = &*latest
            && *begun >= asked
        {
            return Arc::clone(world);
        }
        let begun = Instant::now();
        let world = Arc::new(World::survey());
        *latest = Some((begun, Arc::clone(&world)));
        world
    }
}

/// The fields of `/proc/PID/stat` that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Field 3.
    pub state: State,
    /// Field 4.
    pub parent: i32,
    /// Field 5.
    pub group: i32,
    /// Field 22: start time in clock ticks since boot.
    pub start: u64,
}

/// Reads `/proc/PID/stat`.
pub fn stat(pid: i32) -> io::Result<Stat> {
    let bytes = fs::read(format!("/proc/{pid}/stat"))?;
    parse_stat(&bytes).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "unexpected form of /proc/PID/stat",
        )
    })
}

/// Parses the line of `/proc/PID/stat`. The name in parentheses may itself hold spaces and parentheses, so all
/// is counted from the last closing one.
pub fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let close = bytes.iter().rposition(|&b| b == b')')?;
    let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = State::from_letter(*fields.next()?.as_bytes().first()?);
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    // group is field 5; field 22 comes after 16 more
    let start = fields.nth(16)?.parse().ok()?;
    Some(Stat {
        state,
        parent,
        group,
        start,
    })
}

/// How many clock ticks a second has in `/proc/PID/stat`.
pub fn ticks_per_second() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .and_then(|ticks| u64::try_from(ticks).ok())
        .filter(|&ticks| ticks > 0)
        .unwrap_or(100)
}

/// The members of a process group that still live, zombies aside. An error where one may have been missed.
pub fn group_members(group: i32) -> io::Result<Vec<(i32, Stat)>> {
    let mut members = Vec::new();
    for pid in listed()? {
        match stat(pid) {
            Ok(stat) if stat.group == group && stat.state != State::Zombie => {
                members.push((pid, stat));
            }
            Err(error) if !is_gone(&error) && !is_forbidden(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(members)
}

/// The PIDs that `/proc` lists.
fn listed() -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        pids.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok()),
        );
    }
    Ok(pids)
}

/// Whether an error of reading below `/proc/PID` says that the process has ended; any other says nothing of it.
pub fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

fn is_forbidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// Whether a process is in a PID namespace below this one, from `NSpid` in `/proc/PID/status` (proc(5)).
pub fn in_other_namespace(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/status")).is_ok_and(|status| {
        status
            .split(|&b| b == b'\n')
            .find_map(|line| line.strip_prefix(b"NSpid:"))
            .is_some_and(|ids| {
                String::from_utf8_lossy(ids)
                    .split_ascii_whitespace()
                    .count()
                    > 1
            })
    })
}

fn refresh_kind() -> ProcessRefreshKind {
    ProcessRefreshKind::nothing()
        .without_tasks()
        .with_cmd(UpdateKind::Always)
        .with_user(UpdateKind::Always)
}

/// All processes, and why some of them may be missing. sysinfo passes over what it cannot read, be it gone or be it
/// that there was no descriptor left to read it with: so it is held against the list of PIDs.
fn scan() -> (BTreeMap<i32, Process>, Option<String>) {
    let unread = |error: &dyn std::fmt::Display| Some(format!("/proc cannot be read: {error}"));
    let before = match listed() {
        Ok(pids) => pids,
        Err(error) => return (BTreeMap::new(), unread(&error)),
    };
    let mut system = match System::new() {
        Ok(system) => system,
        Err(error) => return (BTreeMap::new(), unread(&error)),
    };
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, refresh_kind());
    let found: BTreeMap<i32, &sysinfo::Process> = system
        .processes()
        .values()
        .filter_map(|process| Some((i32::try_from(process.pid().as_u32()).ok()?, process)))
        .collect();
    let mut table = BTreeMap::new();
    let mut gap = None;
    let pids: BTreeSet<i32> = before.into_iter().chain(found.keys().copied()).collect();
    for pid in pids {
        match whole(pid, found.get(&pid).copied()) {
            Ok(Some(process)) => {
                table.insert(pid, process);
            }
            Ok(None) => {}
            Err(error) if is_gone(&error) || is_forbidden(&error) => {}
            Err(error) => {
                gap.get_or_insert_with(|| format!("/proc/{pid} cannot be read: {error}"));
            }
        }
    }
    (table, gap)
}

/// A process of which nothing is missing: what sysinfo could not read is read again, or the error is why not. `None`
/// for a thread.
fn whole(pid: i32, seen: Option<&sysinfo::Process>) -> io::Result<Option<Process>> {
    let stat = stat(pid)?;
    if seen.is_some_and(|seen| seen.thread_kind() == Some(ThreadKind::Userland)) {
        return Ok(None);
    }
    let mut process = match seen {
        Some(seen) => from_sysinfo(seen, stat),
        None => Process {
            pid,
            parent: stat.parent,
            group: stat.group,
            state: stat.state,
            start: stat.start,
            uid: None,
            command: Vec::new(),
            kernel: pid == KTHREADD || stat.parent == KTHREADD,
        },
    };
    if process.state != State::Zombie && !process.kernel {
        // in the middle of an exec, a process has no arguments
        for _ in 0..EXEC_LOOKS {
            if !process.command.is_empty() {
                break;
            }
            process.command = command(pid)?;
            if process.command.is_empty() {
                std::thread::sleep(EXEC_PAUSE);
            }
        }
        if process.uid.is_none() {
            process.uid = Some(effective_user(pid)?);
        }
    }
    Ok(Some(process))
}

/// The arguments joined by single spaces.
fn command(pid: i32) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(COMMAND_LIMIT).unwrap_or(u64::MAX);
    fs::File::open(format!("/proc/{pid}/cmdline"))?
        .take(limit)
        .read_to_end(&mut bytes)?;
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    for byte in bytes.iter_mut().filter(|byte| **byte == 0) {
        *byte = b' ';
    }
    Ok(bytes)
}

/// The second number of the line `Uid:` of `/proc/PID/status` (proc(5)).
fn effective_user(pid: i32) -> io::Result<u32> {
    let status = fs::read(format!("/proc/{pid}/status"))?;
    status
        .split(|&b| b == b'\n')
        .find_map(|line| {
            let ids = std::str::from_utf8(line.strip_prefix(b"Uid:")?).ok()?;
            ids.split_ascii_whitespace().nth(1)?.parse().ok()
        })
        .ok_or_else(|| io::Error::other("its status names no user"))
}

fn look_up(pid: i32) -> Lookup {
    // zero and below are groups and everybody to kill(2), never a process
    let Some(number) = u32::try_from(pid).ok().filter(|&n| n > 0) else {
        return Lookup::Gone;
    };
    let hidden =
        |why: &dyn std::fmt::Display| match nix::sys::signal::kill(Pid::from_raw(pid), None) {
            Err(Errno::ESRCH) => Lookup::Gone,
            _ => Lookup::Hidden(format!("/proc/{pid} cannot be read: {why}")),
        };
    let mut system = match System::new() {
        Ok(system) => system,
        Err(error) => return hidden(&error),
    };
    let key = sysinfo::Pid::from_u32(number);
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[key]), true, refresh_kind());
    let seen = system.process(key);
    if let Some(thread) = seen.filter(|seen| seen.thread_kind() == Some(ThreadKind::Userland)) {
        let leader = thread.parent().and_then(|p| i32::try_from(p.as_u32()).ok());
        return Lookup::Thread(leader.unwrap_or_default());
    }
    match whole(pid, seen) {
        Ok(Some(process)) => Lookup::Found(process),
        Ok(None) => Lookup::Gone,
        Err(error) => hidden(&error),
    }
}

fn from_sysinfo(process: &sysinfo::Process, stat: Stat) -> Process {
    use std::os::unix::ffi::OsStrExt;
    let mut command = Vec::new();
    for argument in process.cmd() {
        if command.len() >= COMMAND_LIMIT {
            break;
        }
        if !command.is_empty() {
            command.push(b' ');
        }
        command.extend_from_slice(argument.as_bytes());
    }
    command.truncate(COMMAND_LIMIT);
    Process {
        pid: i32::try_from(process.pid().as_u32()).unwrap_or_default(),
        parent: stat.parent,
        group: stat.group,
        state: stat.state,
        start: stat.start,
        uid: process.effective_user_id().map(|uid| **uid),
        command,
        kernel: process.thread_kind() == Some(ThreadKind::Kernel),
    }
}

/// The watchdog's PID and all its ancestors.
fn lineage(parent: impl Fn(i32) -> Option<i32>) -> (i32, BTreeSet<i32>) {
    let me = nix::unistd::getpid().as_raw();
    let mut ancestors = BTreeSet::new();
    let mut pid = me;
    for _ in 0..ANCESTORS_LIMIT {
        match parent(pid) {
            Some(next) if next > 0 && ancestors.insert(next) => pid = next,
            _ => break,
        }
    }
    (me, ancestors)
}

/// Whether `/proc` is mounted so that processes of other users cannot be seen. Root sees all of them.
fn others_are_hidden() -> bool {
    !nix::unistd::geteuid().is_root() && fs::read("/proc/1/stat").is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f11_a_name_full_of_parentheses_does_not_shift_the_fields() {
        let line = b"4711 (a) R 1 (b) T 17 4700 4711 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 1 0 987654 1000 10 0\n";
        let stat = parse_stat(line).unwrap();
        assert_eq!(
            stat,
            Stat {
                state: State::Stopped,
                parent: 17,
                group: 4700,
                start: 987_654
            }
        );
    }

    #[test]
    fn half_a_stat_line_is_no_stat() {
        for line in [
            &b""[..],
            b")",
            b"1 (x",
            b"1 (x)",
            b"1 (x) R",
            b"1 (x) R 1 1 1",
            b"1 (x) R a b c d",
        ] {
            assert_eq!(parse_stat(line), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_stat_parser_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = parse_stat(&bytes);
        }
    }

    #[test]
    fn this_process_is_found_both_ways() {
        let me = nix::unistd::getpid().as_raw();
        let Lookup::Found(by_pid) = World::on_demand().process(me) else {
            panic!("not found by PID");
        };
        let world = World::survey();
        let by_table = world.all().find(|p| p.pid == me).unwrap();
        assert_eq!(by_pid.start, by_table.start);
        assert_eq!(by_pid.uid, Some(nix::unistd::geteuid().as_raw()));
        assert!(!by_pid.command.is_empty());
        assert!(world.is_lineage(me) && world.is_lineage(by_pid.parent));
    }

    #[test]
    fn a_shared_survey_is_never_older_than_the_wish_for_it() {
        let surveys = Surveys::default();
        let mut known = Vec::new();
        for _ in 0..3 {
            let mut child = std::process::Command::new("sleep")
                .arg("60")
                .spawn()
                .unwrap();
            let pid = i32::try_from(child.id()).unwrap();
            let sees = |world: &World| {
                world
                    .all()
                    .any(|p| p.pid == pid && p.state != State::Zombie)
            };
            std::thread::scope(|scope| {
                for asking in [(); 8].map(|()| scope.spawn(|| surveys.ask())) {
                    let world = asking.join().unwrap();
                    assert!(sees(&world), "begun after it was asked for");
                    known.push(world);
                }
            });
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(!sees(&surveys.ask()));
        }
    }

    #[test]
    fn f06_a_thread_is_no_process() {
        let (tell, told) = std::sync::mpsc::channel();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            let _ = wait.recv();
        });
        let tid = told.recv().unwrap();
        assert!(matches!(World::on_demand().process(tid), Lookup::Thread(_)));
        let world = World::survey();
        assert!(
            !world.all().any(|p| p.pid == tid),
            "F14: the table lists no threads"
        );
        assert!(matches!(world.process(tid), Lookup::Thread(_)));
        drop(done);
        thread.join().unwrap();
    }

    #[test]
    fn numbers_that_no_process_has_are_gone() {
        for pid in [i32::MAX, -1, 0] {
            assert_eq!(World::on_demand().process(pid), Lookup::Gone, "{pid}");
        }
    }
}
