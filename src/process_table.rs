//! The processes of this machine as plain data.
//!
//! A [`ProcessTable`] is looked at once a run, in one of three ways. One process at a time, where all services have PID
//! files: then it does not matter how many others there are. At a snapshot, where processes are to be found by their
//! command lines: one pass reads those of all, and all else only of those that match. As a whole table, by sysinfo, for
//! commands that a person runs, which ask more of each process and are rare.
//!
//! Each way is where it is best. For one PID, sysinfo makes about 40 system calls and reads all of `/proc/stat` before
//! it begins (30 µs, and 160 µs for ten); what a check needs takes 3, and a fourth where a process must be a certain
//! user's (6 µs, 44 µs). For a table of 2000 processes it makes 21 calls a process (40 ms), and a snapshot 3 (`pgrep -f`:
//! 19). What sysinfo rounds or leaves out, the exact start time and the state letter, comes from `/proc/PID/stat` in
//! either case.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::unistd::Pid;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, ThreadKind, UpdateKind};

mod index;
mod needles;
mod proc;
mod snapshot;
mod used;

pub use needles::{Needle, Needles};
use proc::{
    CommandLine, effective_user, in_other_namespace, is_forbidden, join, listed, settled_command,
    status,
};
pub use proc::{
    Stat, children_of_threads, group_members, is_gone, is_init, living, parse_stat, stat,
    ticks_per_second, working_dir,
};
use snapshot::Snapshot;
pub use snapshot::{Scan, SharedSnapshots, scan_within};
pub use used::{Used, UsedByAll, open_files, open_files_limit, proportional, used};

/// More ancestors than a process tree has: a bound for the walk up.
const ANCESTORS_LIMIT: usize = 256;

/// The state of a process, from the letter in `/proc/PID/stat` (proc(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// Running, sleeping, idle, in disk sleep: alive.
    Alive,
    /// `T`: stopped by a signal.
    Stopped,
    /// `t`: stopped by a debugger.
    Traced,
    /// `Z` or `X`, and no other thread runs: ended, only its exit status is left.
    Zombie,
}

impl ProcessState {
    /// The letter is that of the main thread. Where it has ended and others run, the process is alive.
    fn of(letter: u8, main_ended: bool) -> Self {
        match letter {
            b'T' => Self::Stopped,
            b't' => Self::Traced,
            b'Z' | b'X' | b'x' if !main_ended => Self::Zombie,
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
    pub state: ProcessState,
    /// When it started, in clock ticks since boot: with the PID and the boot, its identity.
    pub start: u64,
    /// Its effective user, where that was asked for and could be read.
    pub uid: Option<u32>,
    /// Its arguments joined by single spaces, cut at 256 KiB. Empty for zombies and kernel threads, and where the
    /// table is asked on demand: then nobody asks.
    pub command: Vec<u8>,
    /// Where each argument ends in that, where one behind the first has a blank in it; else empty.
    pub ends: Box<[usize]>,
    /// A thread of the kernel.
    pub kernel: bool,
}

impl Process {
    /// The arguments that have a blank in them, the first one aside: where they begin and end in the command line.
    pub fn arguments_with_blanks(&self) -> impl Iterator<Item = (usize, usize)> {
        let begins = self.ends.iter().map(|end| end + 1);
        begins
            .zip(self.ends.iter().skip(1).copied())
            .filter(|&(begin, end)| {
                self.command
                    .get(begin..end)
                    .is_some_and(|argument| argument.contains(&b' '))
            })
    }
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

/// What a search for command lines gave.
#[derive(Debug, PartialEq, Eq)]
pub struct Matches {
    /// The processes that match.
    pub found: Vec<Process>,
    /// Why a process that matches may be missing among them, where one may be: it may not be looked at, or there was no
    /// descriptor or memory left for that. What stood in the way of another search says nothing of this one.
    pub unread: Option<String>,
}

/// The processes, as of one instant or on demand.
#[derive(Debug)]
pub struct ProcessTable {
    known: Known,
    /// Why a process that runs may be missing in what is known beforehand.
    unread: Option<String>,
    hidden: bool,
    me: i32,
    ancestors: BTreeSet<i32>,
    /// What tells this very program, and the namespace that it runs in: looked up when it is first asked for.
    own_program: OnceLock<Option<(u64, u64)>>,
    own_namespace: OnceLock<Option<(u64, u64)>>,
}

/// What is known beforehand.
#[derive(Debug)]
enum Known {
    Nothing,
    Commands(Box<Snapshot>),
    All(BTreeMap<i32, Process>),
}

impl ProcessTable {
    fn with(known: Known, me: i32, ancestors: BTreeSet<i32>) -> Self {
        Self {
            known,
            unread: None,
            hidden: false,
            me,
            ancestors,
            own_program: OnceLock::new(),
            own_namespace: OnceLock::new(),
        }
    }

    /// Looks at every process there is: for those who want to know more of them than their command lines.
    pub fn full_scan() -> Self {
        let (table, unread) = scan();
        let parent = |pid: i32| {
            table
                .get(&pid)
                .map(|p| p.parent)
                .or_else(|| stat(pid).ok().map(|s| s.parent))
        };
        let (me, ancestors) = lineage(parent);
        Self {
            hidden: others_are_hidden(),
            unread,
            ..Self::with(Known::All(table), me, ancestors)
        }
    }

    /// Looks at the command line of every process there is: for services that are known by theirs.
    pub fn snapshot() -> Self {
        Self::of_scan(&Scan::default())
    }

    fn of_scan(scan: &Scan) -> Self {
        let (snapshot, unread) = Snapshot::take(scan);
        let (me, ancestors) = lineage(|pid| snapshot.parent(pid));
        Self {
            hidden: others_are_hidden(),
            unread,
            ..Self::with(Known::Commands(Box::new(snapshot)), me, ancestors)
        }
    }

    /// Looks at nothing yet: each PID is looked up when it is asked for.
    pub fn on_demand() -> Self {
        let me = nix::unistd::getpid().as_raw();
        Self::with(Known::Nothing, me, BTreeSet::new())
    }

    /// The same where a process that runs may be missing, and why.
    #[must_use]
    pub fn with_gap(self, why: String) -> Self {
        Self {
            unread: Some(why),
            ..self
        }
    }

    /// A table made by hand, with the watchdog as process `me`.
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
        Self::with(Known::All(table), me, ancestors)
    }

    /// The PID of the watchdog.
    pub fn me(&self) -> i32 {
        self.me
    }

    /// Whether `pid` is the watchdog or one of its ancestors. Not known of a table on demand.
    pub fn is_lineage(&self, pid: i32) -> bool {
        pid == self.me || self.ancestors.contains(&pid)
    }

    /// Whether other users' processes are hidden from this one (a `/proc` mounted with hidepid).
    pub fn hides_others(&self) -> bool {
        self.hidden
    }

    /// The process with a PID. what a full scan does not know is looked up again: it may have started since.
    pub fn process(&self, pid: i32) -> Lookup {
        self.look_up(pid, |_| Ok(None))
    }

    /// The same with its user, for a system call more.
    pub fn process_with_user(&self, pid: i32) -> Lookup {
        self.look_up(pid, |pid| effective_user(pid).map(Some))
    }

    fn look_up(&self, pid: i32, user: impl FnOnce(i32) -> io::Result<Option<u32>>) -> Lookup {
        match &self.known {
            Known::All(table) => match table.get(&pid) {
                Some(process) => Lookup::Found(process.clone()),
                None => look_up(pid, user, |stat| settled_command(pid, stat)),
            },
            Known::Commands(snapshot) => look_up(pid, user, |stat| snapshot.command(pid, stat)),
            Known::Nothing => look_up(pid, user, |_| Ok(CommandLine::default())),
        }
    }

    /// The process with a PID as a full scan saw it.
    pub fn scanned_process(&self, pid: i32) -> Option<&Process> {
        match &self.known {
            Known::All(table) => table.get(&pid),
            _ => None,
        }
    }

    /// The parent of a process; 0 and none above those that have one. Not known of a table on demand.
    pub fn parent(&self, pid: i32) -> Option<i32> {
        match &self.known {
            Known::All(table) => table.get(&pid).map(|process| process.parent),
            Known::Commands(snapshot) => snapshot.parent(pid),
            Known::Nothing => None,
        }
    }

    /// The PIDs of the children of a process.
    pub fn children(&self, pid: i32) -> Vec<i32> {
        match &self.known {
            Known::All(table) => {
                let children = table.values().filter(|process| process.parent == pid);
                children.map(|process| process.pid).collect()
            }
            Known::Commands(_) | Known::Nothing => proc::children(pid),
        }
    }

    /// When a process that lives was started, in clock ticks since boot.
    pub fn start_of(&self, pid: i32) -> Option<u64> {
        match &self.known {
            Known::All(table) => table.get(&pid).map(|process| process.start),
            Known::Commands(_) | Known::Nothing => {
                let stat = stat(pid).ok();
                let living = stat.filter(|stat| stat.state != ProcessState::Zombie);
                living.map(|stat| stat.start)
            }
        }
    }

    /// All processes, by PID, as a full scan saw them; none where there was none.
    pub fn all(&self) -> impl Iterator<Item = &Process> {
        match &self.known {
            Known::All(table) => Some(table),
            _ => None,
        }
        .into_iter()
        .flat_map(BTreeMap::values)
    }

    /// The processes whose command lines are wanted, by PID, `most` at the most. The `needles` stand in each that is. `look` looks at each of them where no more is known than its command line.
    pub fn with_command(
        &self,
        needles: &Needles<'_>,
        most: usize,
        look: impl Fn(i32) -> Lookup,
        wanted: impl Fn(&[u8]) -> bool,
        also: impl Fn(&Process) -> bool,
    ) -> Matches {
        let unread = RefCell::new(self.unread.clone());
        let found = match &self.known {
            Known::All(table) => table
                .values()
                .filter(|process| !process.command.is_empty() && wanted(&process.command))
                .filter(|process| also(process))
                .take(most)
                .cloned()
                .collect(),
            Known::Commands(snapshot) => {
                let known = |pid: i32| match look(pid) {
                    Lookup::Found(process) => Some(process),
                    Lookup::Hidden(why) => {
                        unread.borrow_mut().get_or_insert(why);
                        None
                    }
                    Lookup::Gone | Lookup::Thread(_) => None,
                };
                // its PID may be another's by now
                let is_wanted = |process: &Process| wanted(&process.command);
                let mut found: Vec<Process> = snapshot
                    .matching(needles, &wanted)
                    .filter_map(known)
                    .filter(is_wanted)
                    .filter(&also)
                    .take(most)
                    .collect();
                if found.is_empty() {
                    // one that was in the middle of an exec has its arguments by now
                    let without_arguments = snapshot.without_arguments.iter().copied();
                    found = without_arguments
                        .filter_map(known)
                        .filter(|process| !process.command.is_empty() && is_wanted(process))
                        .filter(also)
                        .take(most)
                        .collect();
                }
                found
            }
            Known::Nothing => Vec::new(),
        };
        Matches {
            found,
            unread: unread.into_inner(),
        }
    }

    /// Whether a process runs this very program: another `watchdog`, or a child of this one before its exec.
    pub fn is_this_program(&self, pid: i32) -> bool {
        let own = self.own_program.get_or_init(|| file("/proc/self/exe"));
        own.is_some() && *own == file(&format!("/proc/{pid}/exe"))
    }

    /// Whether a process belongs to a probe of this very run: between it and the watchdog stands a guard, which is this
    /// program once more. Of one that has lost its parent meanwhile the way is gone again from the beginning.
    pub fn is_of_a_probe(&self, process: &Process) -> bool {
        let mut parent = process.parent;
        for _ in 0..ANCESTORS_LIMIT {
            if parent <= 1 || parent == self.me {
                return false;
            }
            match stat(parent) {
                Ok(above) if above.parent == self.me => return self.is_this_program(parent),
                Ok(above) => parent = above.parent,
                Err(_) => match stat(process.pid) {
                    Ok(now) if now.parent != parent => parent = now.parent,
                    _ => return false,
                },
            }
        }
        false
    }

    /// Whether a process is in a PID namespace below this one.
    pub fn is_in_other_namespace(&self, pid: i32) -> bool {
        let own = self.own_namespace.get_or_init(|| file("/proc/self/ns/pid"));
        match (own, file(&format!("/proc/{pid}/ns/pid"))) {
            (Some(own), Some(its)) => *own != its,
            // who may not look into another user's process is told it by a file that takes longer to read
            _ => in_other_namespace(pid),
        }
    }
}

/// The process with a PID, with its user and its command line.
pub fn look_up_whole(pid: i32) -> Lookup {
    let user = |pid: i32| effective_user(pid).map(Some);
    look_up(pid, user, |stat| settled_command(pid, stat))
}

/// Which file a path means.
fn file(path: &str) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
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
        .filter(|process| process.thread_kind() != Some(ThreadKind::Userland))
        .filter_map(|process| Some((i32::try_from(process.pid().as_u32()).ok()?, process)))
        .collect();
    let mut table = BTreeMap::new();
    let mut unread = None;
    let pids: BTreeSet<i32> = before.into_iter().chain(found.keys().copied()).collect();
    for pid in pids {
        match whole(pid, found.get(&pid).copied()) {
            Ok(process) => {
                table.insert(pid, process);
            }
            Err(error) if is_gone(&error) || is_forbidden(&error) => {}
            Err(error) => {
                unread.get_or_insert_with(|| format!("/proc/{pid} cannot be read: {error}"));
            }
        }
    }
    (table, unread)
}

/// A process of which nothing is missing: what sysinfo could not read is read again, or the error is why not.
fn whole(pid: i32, seen: Option<&sysinfo::Process>) -> io::Result<Process> {
    let stat = stat(pid)?;
    let mut command = seen.map(joined).unwrap_or_default();
    if command.text.is_empty() {
        command = settled_command(pid, &stat)?;
    }
    let uid = match seen.and_then(|seen| seen.effective_user_id()) {
        Some(uid) => **uid,
        None => effective_user(pid)?,
    };
    Ok(process(pid, &stat, Some(uid), command))
}

fn process(pid: i32, stat: &Stat, uid: Option<u32>, command: CommandLine) -> Process {
    Process {
        pid,
        parent: stat.parent,
        group: stat.group,
        state: stat.state,
        start: stat.start,
        uid,
        command: command.text,
        ends: command.ends,
        kernel: stat.kernel,
    }
}

fn look_up(
    pid: i32,
    user: impl FnOnce(i32) -> io::Result<Option<u32>>,
    command: impl FnOnce(&Stat) -> io::Result<CommandLine>,
) -> Lookup {
    // zero and below are groups and everybody to kill(2), never a process
    if pid <= 0 {
        return Lookup::Gone;
    }
    let seen = || {
        let stat = stat(pid)?;
        if stat.thread {
            let leader = status(pid, b"Tgid:").and_then(|id| id.trim().parse().ok());
            return Ok(Lookup::Thread(leader.unwrap_or_default()));
        }
        let (uid, command) = (user(pid)?, command(&stat)?);
        Ok(Lookup::Found(process(pid, &stat, uid, command)))
    };
    seen().unwrap_or_else(|error: io::Error| {
        match nix::sys::signal::kill(Pid::from_raw(pid), None) {
            Err(Errno::ESRCH) => Lookup::Gone,
            _ => Lookup::Hidden(format!("/proc/{pid} cannot be read: {error}")),
        }
    })
}

/// The arguments that sysinfo read, joined by single spaces.
fn joined(process: &sysinfo::Process) -> CommandLine {
    use std::os::unix::ffi::OsStrExt;
    let mut text = Vec::new();
    let ends = join(
        process.cmd().iter().map(|argument| argument.as_bytes()),
        &mut text,
    );
    CommandLine { text, ends }
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
    fn this_process_is_found_both_ways() {
        let me = nix::unistd::getpid().as_raw();
        let Lookup::Found(by_pid) = ProcessTable::on_demand().process_with_user(me) else {
            panic!("not found by PID");
        };
        let of_anybody = |process: &Process| {
            Lookup::Found(Process {
                uid: None,
                ..process.clone()
            })
        };
        assert_eq!(ProcessTable::on_demand().process(me), of_anybody(&by_pid));
        let table = ProcessTable::full_scan();
        let by_table = table.all().find(|p| p.pid == me).unwrap();
        assert!(!by_table.command.is_empty());
        let by_pid = Process {
            command: by_table.command.clone(),
            ends: by_table.ends.clone(),
            ..by_pid
        };
        assert_eq!(&by_pid, by_table);
        assert_eq!(by_pid.uid, Some(nix::unistd::geteuid().as_raw()));
        assert!(table.is_lineage(me) && table.is_lineage(by_pid.parent));
        let snapshot = ProcessTable::snapshot();
        assert_eq!(snapshot.process(me), of_anybody(&by_pid));
        assert_eq!(
            snapshot.process_with_user(me),
            Lookup::Found(by_pid.clone())
        );
        assert!(snapshot.is_lineage(me) && snapshot.is_lineage(by_pid.parent));
        assert!(snapshot.is_this_program(me) && !snapshot.is_in_other_namespace(me));
    }

    /// Is a guard for the test below: has a process below it, for as long as somebody holds its input open.
    #[test]
    #[ignore = "needs a test that starts it"]
    fn holds_a_process_below_it() {
        use std::io::Read;
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        println!("holds PID {} ", child.id());
        let _ = std::io::stdin().read(&mut [0]);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn what_runs_below_this_program_and_this_process_is_a_probe() {
        use std::io::{BufRead, BufReader, Read};
        use std::process::{Command, Stdio};
        let mut guard = Command::new("/proc/self/exe")
            .args(["--ignored", "--exact", "--nocapture"])
            .arg("process_table::tests::holds_a_process_below_it")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(guard.stdout.take().unwrap());
        let pid = said
            .by_ref()
            .lines()
            .map_while(Result::ok)
            .find_map(|line| {
                let rest = line.split_once("holds PID ")?.1;
                rest.split(' ').next()?.parse::<i32>().ok()
            });
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        let table = ProcessTable::full_scan();
        let find = |pid: i32| match table.process(pid) {
            Lookup::Found(process) => table.is_of_a_probe(&process),
            other => panic!("{other:?}"),
        };
        let found = pid.map(find);
        // a child, and the guard itself, are none
        let others = [other.id(), guard.id()].map(|id| find(i32::try_from(id).unwrap()));
        drop(guard.stdin.take());
        other.kill().unwrap();
        for child in [&mut guard, &mut other] {
            child.wait().unwrap();
        }
        assert_eq!(found, Some(true));
        assert_eq!(others, [false, false]);
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
        assert!(matches!(
            ProcessTable::on_demand().process(tid),
            Lookup::Thread(_)
        ));
        let table = ProcessTable::full_scan();
        assert!(
            !table.all().any(|p| p.pid == tid),
            "F14: the table lists no threads"
        );
        let me = nix::unistd::getpid().as_raw();
        assert_eq!(table.process(tid), Lookup::Thread(me));
        assert_eq!(ProcessTable::snapshot().process(tid), Lookup::Thread(me));
        drop(done);
        thread.join().unwrap();
    }

    #[test]
    fn numbers_that_no_process_has_are_gone() {
        for pid in [i32::MAX, -1, 0] {
            assert_eq!(
                ProcessTable::on_demand().process(pid),
                Lookup::Gone,
                "{pid}"
            );
        }
    }
}
