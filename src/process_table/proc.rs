//! What `/proc` tells of a process, read file by file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use super::ProcessState;

/// Command lines are cut here: longer than any that a person writes a pattern for, and a bound on memory.
pub(super) const COMMAND_LIMIT: usize = 256 << 10;

/// Of the children of a process, so many bytes are read: 100,000 PIDs.
const CHILDREN_LIMIT: u64 = 1 << 20;

/// How often a process without arguments is looked at, and how long after each look: few are so for good.
const EXEC_LOOKS: u32 = 4;
const EXEC_PAUSE: Duration = Duration::from_millis(2);

/// PF_KTHREAD of the kernel's flags of a task.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// PF_FORKNOEXEC: forked, and no program executed since.
const FORKED: u64 = 0x0000_0040;

/// The PIDs that `/proc` lists: processes, no threads.
pub(super) fn listed() -> io::Result<Vec<i32>> {
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

pub(super) fn is_forbidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// The command line of a process. In the middle of an exec a process has none: then it is looked at again.
pub(super) fn settled_command(pid: i32, stat: &Stat) -> io::Result<CommandLine> {
    let mut text = Vec::new();
    let mut ends = Ends::default();
    let mut buffer = vec![0; 4096];
    if stat.main_ended {
        let read = |thread: PathBuf| {
            append_arguments(File::open(thread.join("cmdline"))?, &mut buffer, &mut text)
        };
        return match of_other_threads(pid, read) {
            Ok(ends) => Ok(CommandLine { text, ends }),
            // its last threads have ended meanwhile: it is a zombie now, and those have no arguments
            Err(error) if is_gone(&error) => Ok(CommandLine::default()),
            Err(error) => Err(error),
        };
    }
    for look in 0..EXEC_LOOKS {
        if look > 0 {
            std::thread::sleep(EXEC_PAUSE);
        }
        ends = append_command(pid, &mut buffer, &mut text)?;
        if !text.is_empty() || stat.kernel || stat.state == ProcessState::Zombie {
            break;
        }
    }
    Ok(CommandLine { text, ends })
}

/// What the other threads of a process tell of it, in the place of its main thread: that has no memory, program or
/// working directory any more once it has ended.
fn of_other_threads<T>(pid: i32, mut read: impl FnMut(PathBuf) -> io::Result<T>) -> io::Result<T> {
    let main = pid.to_string();
    let mut result = Err(io::ErrorKind::NotFound.into());
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?;
        if thread.file_name() == *main {
            continue;
        }
        result = read(thread.path());
        // one may have ended just now
        if result.is_ok() {
            break;
        }
    }
    result
}

/// The working directory of a process.
pub fn working_dir(pid: i32) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).or_else(|error| match stat(pid) {
        Ok(stat) if stat.main_ended => {
            of_other_threads(pid, |thread| fs::read_link(thread.join("cwd")))
        }
        _ => Err(error),
    })
}

/// Appends the command line of a process to `text`: its arguments, joined by single spaces. `buffer` may grow.
pub(super) fn append_command(
    pid: i32,
    buffer: &mut Vec<u8>,
    text: &mut Vec<u8>,
) -> io::Result<Ends> {
    append_arguments(File::open(format!("/proc/{pid}/cmdline"))?, buffer, text)
}

/// The same of a file as `/proc/PID/cmdline` is: each argument with a zero behind it, and only its end is a short read.
fn append_arguments(
    mut file: impl Read,
    buffer: &mut Vec<u8>,
    text: &mut Vec<u8>,
) -> io::Result<Ends> {
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
    Ok(join(buffer[..length].split(|&b| b == 0), text))
}

/// A command line: arguments joined by single spaces.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CommandLine {
    pub(super) text: Vec<u8>,
    pub(super) ends: Ends,
}

/// Where each argument of a command line ends, where one behind the first has a blank in it. Else it is empty: few have
/// one, and nobody else asks.
pub(super) type Ends = Box<[usize]>;

/// Appends arguments to `text`, joined by single spaces; empty ones are left out.
pub(super) fn join<'a>(
    arguments: impl Iterator<Item = &'a [u8]> + Clone,
    text: &mut Vec<u8>,
) -> Ends {
    let start = text.len();
    let arguments = arguments.filter(|argument| !argument.is_empty());
    let mut has_blank = false;
    for argument in arguments.clone() {
        if text.len() > start {
            text.push(b' ');
            has_blank |= argument.contains(&b' ');
        }
        text.extend_from_slice(argument);
    }
    text.truncate(start + COMMAND_LIMIT);
    if !has_blank {
        return Ends::default();
    }
    let limit = text.len() - start;
    let lengths = arguments.map(<[u8]>::len);
    let ends = lengths.scan(0, |begin, length| {
        let end = *begin + length;
        *begin = end + 1;
        Some(end.min(limit))
    });
    ends.collect()
}

/// The fields of `/proc/PID/stat` that are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Of field 3.
    pub state: ProcessState,
    /// Its main thread has ended, and others run (field 20): its letter is `Z`, yet it is alive.
    pub main_ended: bool,
    /// Field 4.
    pub parent: i32,
    /// Field 5.
    pub group: i32,
    /// Field 6.
    pub session: i32,
    /// Of field 9: it was forked, and has not executed a program since.
    pub forked: bool,
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
    let stat = parse_stat(&buffer[..length]).ok_or(io::ErrorKind::InvalidData)?;
    Ok(if stat.main_ended {
        let state = state_of_threads(pid).unwrap_or(stat.state);
        Stat { state, ..stat }
    } else {
        stat
    })
}

/// The state of a process whose main thread has ended: that of another thread. A signal stops all of them.
fn state_of_threads(pid: i32) -> io::Result<ProcessState> {
    of_other_threads(pid, |thread| {
        let line = fs::read(thread.join("stat"))?;
        let stat = parse_stat(&line).ok_or(io::ErrorKind::InvalidData)?;
        match stat.state {
            ProcessState::Zombie => Err(io::ErrorKind::NotFound.into()),
            state => Ok(state),
        }
    })
}

/// Parses the line of `/proc/PID/stat`. The name in parentheses may itself hold spaces and parentheses, so all
/// is counted from the last closing one.
pub fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let close = memchr::memrchr(b')', bytes)?;
    let mut fields = bytes[close + 1..]
        .split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty());
    let letter = *fields.next()?.first()?;
    let parent = number(fields.next()?)?;
    let group = number(fields.next()?)?;
    let session = number(fields.next()?)?;
    let flags: u64 = number(fields.nth(9 - 7)?)?;
    let threads: i64 = number(fields.nth(20 - 10)?)?;
    let start = number(fields.nth(22 - 21)?)?;
    // a sandbox may write fewer
    let exit_signal: Option<i64> = fields.nth(38 - 23).and_then(number);
    // the main thread is counted until it is collected, and that is when all others have ended
    let main_ended = letter == b'Z' && threads > 1;
    Some(Stat {
        state: ProcessState::of(letter, main_ended),
        main_ended,
        parent,
        group,
        session,
        forked: flags & FORKED != 0,
        kernel: flags & KERNEL_THREAD != 0,
        thread: exit_signal.is_some_and(|signal| signal < 0),
        start,
    })
}

fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
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

/// Whether a process takes in those whose parents have ended, and starts none of them again by that.
pub fn is_init(pid: i32) -> bool {
    let name = || fs::read_to_string(format!("/proc/{pid}/comm"));
    pid <= 1 || name().is_ok_and(|name| name.trim_end() == "systemd")
}

/// The PIDs of the children that the main thread of a process has forked; none where the kernel does not tell.
pub(super) fn children(pid: i32) -> Vec<i32> {
    let mut text = String::with_capacity(4096);
    // a bound, so that nobody asks how long the file is: the kernel does not know
    let read = File::open(format!("/proc/{pid}/task/{pid}/children"))
        .and_then(|file| file.take(CHILDREN_LIMIT).read_to_string(&mut text));
    if read.is_err() {
        return Vec::new();
    }
    let pids = text.split_ascii_whitespace();
    pids.filter_map(|pid| pid.parse().ok()).collect()
}

/// The PIDs of the threads of the kernel, by one look at what its thread 2, kthreadd, has forked, in place of three
/// system calls for each; none where PID 2 is another, as in a container, or the kernel does not tell. A program that the
/// kernel has started for itself is among them.
pub(super) fn kernel_threads() -> Vec<i32> {
    match stat(2) {
        Ok(kthreadd) if kthreadd.kernel => children(2),
        _ => Vec::new(),
    }
}

/// The PIDs of the children that any thread of a process has forked. An error where the kernel does not tell, or the
/// process is gone.
pub fn children_of_threads(pid: i32) -> io::Result<Vec<i32>> {
    let mut all = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = match fs::read_to_string(thread?.path().join("children")) {
            Ok(text) => text,
            // a kernel that does not tell has no such file for any of its threads
            Err(error) if is_gone(&error) && !all.is_empty() => continue,
            Err(error) => return Err(error),
        };
        let pids = text.split_ascii_whitespace();
        all.extend(pids.filter_map(|pid| pid.parse::<i32>().ok()));
    }
    Ok(all)
}

/// The members of a process group that still live, zombies aside. An error where one may have been missed.
pub fn group_members(group: i32) -> io::Result<Vec<(i32, Stat)>> {
    living(|stat| stat.group == group)
}

/// The processes that live, zombies aside, and that are wanted. An error where one may have been missed.
pub fn living(wanted: impl Fn(&Stat) -> bool) -> io::Result<Vec<(i32, Stat)>> {
    let mut members = Vec::new();
    for pid in listed()? {
        match stat(pid) {
            Ok(stat) if stat.state != ProcessState::Zombie && wanted(&stat) => {
                members.push((pid, stat));
            }
            Err(error) if !is_gone(&error) && !is_forbidden(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(members)
}

/// Whether a process is in a PID namespace below this one, from `NSpid` in `/proc/PID/status` (proc(5)).
pub(super) fn in_other_namespace(pid: i32) -> bool {
    status(pid, b"NSpid:").is_some_and(|ids| ids.split_ascii_whitespace().count() > 1)
}

/// A line of `/proc/PID/status`, what it begins with left out.
pub(super) fn status(pid: i32, key: &[u8]) -> Option<String> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    status
        .split(|&b| b == b'\n')
        .find_map(|line| line.strip_prefix(key))
        .map(|rest| String::from_utf8_lossy(rest).into_owned())
}

/// The effective user of a process: its directory is that one's, whatever it allows others to see of it, unlike its files.
pub(super) fn effective_user(pid: i32) -> io::Result<u32> {
    Ok(fs::metadata(format!("/proc/{pid}"))?.uid())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_whose_last_threads_have_ended_meanwhile_has_no_arguments() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let seen = Stat {
            main_ended: true,
            ..stat(pid).unwrap()
        };
        let read = settled_command(pid, &seen);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(read.unwrap(), CommandLine::default());
    }

    #[test]
    fn the_threads_of_the_kernel_are_known_by_one_look() {
        let by_their_flags = || -> Vec<i32> {
            let all = listed().unwrap().into_iter();
            all.filter(|pid| stat(*pid).is_ok_and(|stat| stat.kernel && stat.parent == 2))
                .collect()
        };
        let is_told = File::open("/proc/2/task/2/children").is_ok();
        let before = by_their_flags();
        let known = kernel_threads();
        let after = by_their_flags();
        // they come and go
        let stayed = before.into_iter().filter(|pid| after.contains(pid));
        for pid in stayed {
            assert!(!is_told || known.contains(&pid), "{pid} in {known:?}");
        }
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(!known.contains(&me));
    }

    #[test]
    fn f11_a_name_full_of_parentheses_does_not_shift_the_fields() {
        let line = b"4711 (a) R 1 (b) T 17 4700 4711 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 1 0 987654 1000 10 0\n";
        let stat = parse_stat(line).unwrap();
        assert_eq!(
            stat,
            Stat {
                state: ProcessState::Stopped,
                main_ended: false,
                parent: 17,
                group: 4700,
                session: 4711,
                forked: false,
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
    fn a_process_is_alive_while_it_has_a_thread_beside_its_main_one() {
        for (letter, threads, state) in [
            ("Z", 1, ProcessState::Zombie),
            ("X", 0, ProcessState::Zombie),
            ("Z", 2, ProcessState::Alive),
            ("Z", 40, ProcessState::Alive),
            ("S", 2, ProcessState::Alive),
            ("T", 2, ProcessState::Stopped),
        ] {
            let line =
                format!("7 (z) {letter} 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 {threads} 0 99 0 0");
            let stat = parse_stat(line.as_bytes()).unwrap();
            assert_eq!(stat.state, state, "{letter} {threads}");
            assert_eq!(stat.main_ended, letter == "Z" && threads > 1);
            assert_eq!(stat.start, 99);
        }
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
                let ends =
                    append_arguments(Interrupted(&line, false), &mut buffer, &mut text).unwrap();
                let arguments: Vec<&[u8]> = line[..line.len().min(COMMAND_LIMIT)]
                    .split(|byte| *byte == 0)
                    .filter(|argument| !argument.is_empty())
                    .collect();
                let quotes = arguments.iter().skip(1).any(|argument| argument.contains(&b' '));
                prop_assert_eq!(ends.is_empty(), !quotes);
                let begins = std::iter::once(0).chain(ends.iter().map(|end| end + 1));
                for ((begin, end), argument) in begins.zip(&*ends).zip(&arguments) {
                    prop_assert!(text[before.len() + begin..before.len() + end] == **argument);
                }
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
}
