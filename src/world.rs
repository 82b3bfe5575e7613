//! The processes of this machine as plain data.
//!
//! A [`World`] is looked at once a run, in one of three ways. One process at a time, where all services have PID
//! files: then it does not matter how many others there are. At a glance, where processes are to be found by their
//! command lines: one pass reads those of all, and all else only of those that match. As a whole table, by sysinfo, for
//! commands that a person runs, which ask more of each process and are rare.
//!
//! Each way is where it is best. For one PID, sysinfo makes about 40 system calls and reads all of `/proc/stat` before
//! it begins (30 µs, and 160 µs for ten); the two facts that a check needs take 4 (6 µs, 44 µs). For a table of 2000
//! processes it makes 21 calls a process (40 ms), and a glance 3 (`pgrep -f`: 19). What sysinfo rounds or leaves out,
//! the exact start time and the state letter, comes from `/proc/PID/stat` in either case.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use memchr::memmem::Finder;
use nix::errno::Errno;
use nix::unistd::Pid;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, ThreadKind, UpdateKind};

mod glance;

use glance::Glance;
pub use glance::Glances;

/// Command lines are cut here: longer than any that a person writes a pattern for, and a bound on memory.
const COMMAND_LIMIT: usize = 256 << 10;

/// How often a process without arguments is looked at, and how long after each look: few are so for good.
const EXEC_LOOKS: u32 = 4;
const EXEC_PAUSE: Duration = Duration::from_millis(2);

/// PF_KTHREAD of the kernel's flags of a task.
const KERNEL_THREAD: u64 = 0x0020_0000;

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
    /// Its arguments joined by single spaces, cut at 256 KiB. Empty for zombies and kernel threads, and where the
    /// world is looked at on demand: then nobody asks.
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
    known: Known,
    /// Why a process that runs may be missing.
    gap: Mutex<Option<String>>,
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
    Commands(Glance),
    All(BTreeMap<i32, Process>),
}

impl World {
    fn with(known: Known, me: i32, ancestors: BTreeSet<i32>) -> Self {
        Self {
            known,
            gap: Mutex::default(),
            hidden: false,
            me,
            ancestors,
            own_program: OnceLock::new(),
            own_namespace: OnceLock::new(),
        }
    }

    /// Looks at every process there is: for those who want to know more of them than their command lines.
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
            gap: Mutex::new(gap),
            ..Self::with(Known::All(table), me, ancestors)
        }
    }

    /// Looks at the command line of every process there is: for services that are known by theirs.
    pub fn glance() -> Self {
        let (glance, gap) = Glance::take();
        let (me, ancestors) = lineage(|pid| glance.parent(pid));
        Self {
            hidden: others_are_hidden(),
            gap: Mutex::new(gap),
            ..Self::with(Known::Commands(glance), me, ancestors)
        }
    }

    /// Looks at nothing yet: each PID is looked up when it is asked for.
    pub fn on_demand() -> Self {
        let me = nix::unistd::getpid().as_raw();
        Self::with(Known::Nothing, me, BTreeSet::new())
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
        Self::with(Known::All(table), me, ancestors)
    }

    /// The PID of the watchdog.
    pub fn me(&self) -> i32 {
        self.me
    }

    /// Whether `pid` is the watchdog or one of its ancestors. Not known of a world on demand.
    pub fn is_lineage(&self, pid: i32) -> bool {
        pid == self.me || self.ancestors.contains(&pid)
    }

    /// Whether other users' processes are hidden from this one (a `/proc` mounted with hidepid).
    pub fn hides_others(&self) -> bool {
        self.hidden
    }

    /// Why a process that runs may be missing among those that were found, where one may be: there was no descriptor or
    /// memory left to look at it with. To be asked after the search.
    pub fn gap(&self) -> Option<String> {
        self.gap
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Remembers why a process that runs may be missing; the first reason stays.
    pub fn miss(&self, why: String) {
        let mut gap = self.gap.lock().unwrap_or_else(PoisonError::into_inner);
        gap.get_or_insert(why);
    }

    /// The process with a PID. What a survey does not know is looked up again: it may have started since.
    pub fn process(&self, pid: i32) -> Lookup {
        match &self.known {
            Known::All(table) => match table.get(&pid) {
                Some(process) => Lookup::Found(process.clone()),
                None => look_up(pid, |stat| settled_command(pid, stat)),
            },
            Known::Commands(glance) => look_up(pid, |stat| glance.command(pid, stat)),
            Known::Nothing => look_up(pid, |_| Ok(Vec::new())),
        }
    }

    /// The process with a PID as a survey saw it.
    pub fn surveyed(&self, pid: i32) -> Option<&Process> {
        match &self.known {
            Known::All(table) => table.get(&pid),
            _ => None,
        }
    }

    /// The parent of a process; 0 and none above those that have one. Not known of a world on demand.
    pub fn parent(&self, pid: i32) -> Option<i32> {
        match &self.known {
            Known::All(table) => table.get(&pid).map(|process| process.parent),
            Known::Commands(glance) => glance.parent(pid),
            Known::Nothing => None,
        }
    }

    /// All processes, by PID, as a survey saw them; none where there was none.
    pub fn all(&self) -> impl Iterator<Item = &Process> {
        match &self.known {
            Known::All(table) => Some(table),
            _ => None,
        }
        .into_iter()
        .flat_map(BTreeMap::values)
    }

    /// The processes whose command lines are wanted, by PID, `most` at the most. A `needle` stands in each that is;
    /// none is empty. What was just found out about one, `at_hand`, is not asked for again.
    pub fn with_command(
        &self,
        needle: Option<&Finder<'_>>,
        most: usize,
        at_hand: Option<&Process>,
        wanted: impl Fn(&[u8]) -> bool,
        also: impl Fn(&Process) -> bool,
    ) -> Vec<Process> {
        match &self.known {
            Known::All(table) => table
                .values()
                .filter(|process| !process.command.is_empty() && wanted(&process.command))
                .filter(|process| also(process))
                .take(most)
                .cloned()
                .collect(),
            Known::Commands(glance) => {
                let at_hand = |pid: i32| at_hand.filter(|process| process.pid == pid).cloned();
                let look = |pid: i32| at_hand(pid).map_or_else(|| self.process(pid), Lookup::Found);
                let known = |pid: i32| match look(pid) {
                    Lookup::Found(process) => Some(process),
                    Lookup::Hidden(why) => {
                        self.miss(why);
                        None
                    }
                    Lookup::Gone | Lookup::Thread(_) => None,
                };
                let found: Vec<Process> = glance
                    .matching(needle, &wanted)
                    .filter_map(known)
                    .filter(&also)
                    .take(most)
                    .collect();
                if !found.is_empty() {
                    return found;
                }
                // one that was in the middle of an exec has its arguments by now
                let silent = glance.silent.iter().copied();
                silent
                    .filter_map(known)
                    .filter(|process| !process.command.is_empty() && wanted(&process.command))
                    .filter(also)
                    .take(most)
                    .collect()
            }
            Known::Nothing => Vec::new(),
        }
    }

    /// Whether a process runs this very program: another `watchdog`, or a child of this one before its exec.
    pub fn is_this_program(&self, pid: i32) -> bool {
        let own = self.own_program.get_or_init(|| file("/proc/self/exe"));
        own.is_some() && *own == file(&format!("/proc/{pid}/exe"))
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

/// Which file a path means.
fn file(path: &str) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// The PIDs that `/proc` lists: processes, no threads.
fn listed() -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        pids.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
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

/// The command line of a process. In the middle of an exec a process has none: then it is looked at again.
fn settled_command(pid: i32, stat: &Stat) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut buffer = vec![0; 4096];
    for look in 0..EXEC_LOOKS {
        if look > 0 {
            std::thread::sleep(EXEC_PAUSE);
        }
        append_command(pid, &mut buffer, &mut text)?;
        if !text.is_empty() || stat.kernel || stat.state == State::Zombie {
            break;
        }
    }
    Ok(text)
}

/// Appends the command line of a process to `text`: its arguments, joined by single spaces. `buffer` may grow.
fn append_command(pid: i32, buffer: &mut Vec<u8>, text: &mut Vec<u8>) -> io::Result<()> {
    append_arguments(File::open(format!("/proc/{pid}/cmdline"))?, buffer, text)
}

/// The same of a file as `/proc/PID/cmdline` is: each argument with a zero behind it, and only its end is a short read.
fn append_arguments(
    mut file: impl Read,
    buffer: &mut Vec<u8>,
    text: &mut Vec<u8>,
) -> io::Result<()> {
    let mut length = 0;
    loop {
        match file.read(&mut buffer[length..]) {
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        // what leaves room in the buffer is the whole
        if length < buffer.len() || length >= COMMAND_LIMIT {
            break;
        }
        buffer.resize(2 * buffer.len(), 0);
    }
    let start = text.len();
    for argument in buffer[..length]
        .split(|&b| b == 0)
        .filter(|a| !a.is_empty())
    {
        if text.len() > start {
            text.push(b' ');
        }
        text.extend_from_slice(argument);
    }
    text.truncate(start + COMMAND_LIMIT);
    Ok(())
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
    /// Of field 9: a thread of the kernel.
    pub kernel: bool,
    /// Of field 38: a thread of a process, not the process. It has no signal for when it ends.
    pub thread: bool,
    /// Field 22: start time in clock ticks since boot.
    pub start: u64,
}

/// Reads `/proc/PID/stat`.
pub fn stat(pid: i32) -> io::Result<Stat> {
    // the kernel writes it whole into a buffer that is large enough, and it is never longer than this
    let mut buffer = [0; 2048];
    let length = File::open(format!("/proc/{pid}/stat"))?.read(&mut buffer)?;
    parse_stat(&buffer[..length]).ok_or_else(|| io::ErrorKind::InvalidData.into())
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
    // group is field 5
    let flags: u64 = fields.nth(9 - 6)?.parse().ok()?;
    let start = fields.nth(22 - 10)?.parse().ok()?;
    // a sandbox may write fewer
    let exit_signal = fields
        .nth(38 - 23)
        .and_then(|field| field.parse::<i64>().ok());
    Some(Stat {
        state,
        parent,
        group,
        kernel: flags & KERNEL_THREAD != 0,
        thread: exit_signal.is_some_and(|signal| signal < 0),
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

/// Whether a process is in a PID namespace below this one, from `NSpid` in `/proc/PID/status` (proc(5)).
fn in_other_namespace(pid: i32) -> bool {
    status(pid, b"NSpid:").is_some_and(|ids| ids.split_ascii_whitespace().count() > 1)
}

/// A line of `/proc/PID/status`, what it begins with left out.
fn status(pid: i32, key: &[u8]) -> Option<String> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    status
        .split(|&b| b == b'\n')
        .find_map(|line| line.strip_prefix(key))
        .map(|rest| String::from_utf8_lossy(rest).into_owned())
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
    let mut gap = None;
    let pids: BTreeSet<i32> = before.into_iter().chain(found.keys().copied()).collect();
    for pid in pids {
        match whole(pid, found.get(&pid).copied()) {
            Ok(process) => {
                table.insert(pid, process);
            }
            Err(error) if is_gone(&error) || is_forbidden(&error) => {}
            Err(error) => {
                gap.get_or_insert_with(|| format!("/proc/{pid} cannot be read: {error}"));
            }
        }
    }
    (table, gap)
}

/// A process of which nothing is missing: what sysinfo could not read is read again, or the error is why not.
fn whole(pid: i32, seen: Option<&sysinfo::Process>) -> io::Result<Process> {
    let stat = stat(pid)?;
    let mut command = seen.map(joined).unwrap_or_default();
    if command.is_empty() {
        command = settled_command(pid, &stat)?;
    }
    let uid = match seen.and_then(|seen| seen.effective_user_id()) {
        Some(uid) => **uid,
        None => effective_user(pid)?,
    };
    Ok(process(pid, &stat, uid, command))
}

/// The effective user of a process: its folder is that one's, whatever it allows others to see of it, unlike its files.
fn effective_user(pid: i32) -> io::Result<u32> {
    Ok(fs::metadata(format!("/proc/{pid}"))?.uid())
}

fn process(pid: i32, stat: &Stat, uid: u32, command: Vec<u8>) -> Process {
    Process {
        pid,
        parent: stat.parent,
        group: stat.group,
        state: stat.state,
        start: stat.start,
        uid: Some(uid),
        command,
        kernel: stat.kernel,
    }
}

fn look_up(pid: i32, command: impl FnOnce(&Stat) -> io::Result<Vec<u8>>) -> Lookup {
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
        let (uid, command) = (effective_user(pid)?, command(&stat)?);
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
fn joined(process: &sysinfo::Process) -> Vec<u8> {
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
    command
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

    use proptest::collection::vec;
    use proptest::prelude::*;

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
                kernel: false,
                thread: false,
                start: 987_654
            }
        );
        let kernel =
            parse_stat(b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 3 0 0")
                .unwrap();
        assert!(kernel.kernel && !kernel.thread);
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

    proptest! {
        #[test]
        fn no_bytes_make_the_stat_parser_panic(bytes in vec(any::<u8>(), 0..200)) {
            let _ = parse_stat(&bytes);
        }
    }

    /// The bytes of a file in `/proc`, where a signal comes between the reads.
    struct Interrupted<'a>(&'a [u8], bool);

    impl Read for Interrupted<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            self.0.read(into)
        }
    }

    /// A command line as the kernel has it: arguments with zeros behind them, and all that a program can do to it.
    fn command_line() -> impl Strategy<Value = Vec<u8>> {
        let argument = prop_oneof![
            8 => vec(any::<u8>(), 0..12),
            2 => Just(Vec::new()),
            1 => (4080..4110_usize).prop_map(|length| vec![b'x'; length]),
            1 => (COMMAND_LIMIT - 20..COMMAND_LIMIT + 20).prop_map(|length| vec![b'y'; length]),
        ];
        (vec(argument, 0..6), 0..9000_usize, any::<bool>()).prop_map(
            |(arguments, zeros, padded)| {
                let mut line = arguments.join(&0);
                if padded {
                    line.resize(line.len() + zeros, 0);
                }
                line
            },
        )
    }

    proptest! {
        #[test]
        fn f10_arguments_are_joined_by_single_spaces(lines in vec(command_line(), 1..5)) {
            let mut buffer = vec![0; 4096];
            let mut text = Vec::new();
            for line in lines {
                let before = text.clone();
                append_arguments(Interrupted(&line, false), &mut buffer, &mut text).unwrap();
                let arguments: Vec<&[u8]> = line[..line.len().min(COMMAND_LIMIT)]
                    .split(|byte| *byte == 0)
                    .filter(|argument| !argument.is_empty())
                    .collect();
                prop_assert!(text == [before, arguments.join(&b' ')].concat());
            }
        }
    }

    #[test]
    fn f10_a_command_line_that_cannot_be_read_to_its_end_is_none() {
        struct Failing(bool);
        impl Read for Failing {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                into.fill(b'x');
                Ok(into.len())
            }
        }
        let mut text = b"before".to_vec();
        let error = append_arguments(Failing(false), &mut vec![0; 4096], &mut text).unwrap_err();
        assert!(is_gone(&error));
        assert_eq!(text, b"before");
    }

    #[test]
    fn this_process_is_found_both_ways() {
        let me = nix::unistd::getpid().as_raw();
        let Lookup::Found(by_pid) = World::on_demand().process(me) else {
            panic!("not found by PID");
        };
        let world = World::survey();
        let by_table = world.all().find(|p| p.pid == me).unwrap();
        assert!(!by_table.command.is_empty());
        let by_pid = Process {
            command: by_table.command.clone(),
            ..by_pid
        };
        assert_eq!(&by_pid, by_table);
        assert_eq!(by_pid.uid, Some(nix::unistd::geteuid().as_raw()));
        assert!(world.is_lineage(me) && world.is_lineage(by_pid.parent));
        let glance = World::glance();
        assert_eq!(glance.process(me), Lookup::Found(by_pid.clone()));
        assert!(glance.is_lineage(me) && glance.is_lineage(by_pid.parent));
        assert!(glance.is_this_program(me) && !glance.is_in_other_namespace(me));
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
        let me = nix::unistd::getpid().as_raw();
        assert_eq!(world.process(tid), Lookup::Thread(me));
        assert_eq!(World::glance().process(tid), Lookup::Thread(me));
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
