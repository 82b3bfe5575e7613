//! The processes of a test: started, found, waited for, ended.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Scene, numbers};

/// How long anything that is waited for may take: far beyond what it takes, so that only a hang meets it.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

impl Scene {
    /// Starts the stand-in program beside the watchdog, leading a group of its own, and waits until it is up.
    /// It is reaped as soon as it ends.
    pub(crate) fn start(&self, name: &str, options: &[&str]) -> i32 {
        self.start_in(name, options, 0)
    }

    /// The same in an existing process group; 0: in its own.
    pub(crate) fn start_in(&self, name: &str, options: &[&str], group: i32) -> i32 {
        let mut child = self.start_unreaped(name, options, group);
        let pid = pid_of(&child);
        std::thread::spawn(move || child.wait());
        self.wait_until(&format!("start of {name}"), || {
            numbers(&self.read(&format!("{name}.up"))).contains(&pid)
        });
        pid
    }

    /// Starts the stand-in program and leaves it to the caller to reap it.
    pub(crate) fn start_unreaped(&self, name: &str, options: &[&str], group: i32) -> Child {
        let options: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        self.start_with(name, &options, group)
    }

    /// Starts the stand-in program with options that may be any bytes.
    pub(crate) fn start_with(&self, name: &str, options: &[&OsStr], group: i32) -> Child {
        Command::new("/bin/sh")
            .arg(self.path("prog.sh"))
            .arg(name)
            .args(options)
            .current_dir(&self.dir)
            // what the machine that runs the tests has in its environment is no part of a scene
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(group)
            .spawn()
            .unwrap()
    }

    /// The PIDs of all starts of a program so far.
    pub(crate) fn starts(&self, name: &str) -> Vec<i32> {
        numbers(&self.read(&format!("{name}.starts")))
    }

    /// The PID of the last start of a program.
    pub(crate) fn last(&self, name: &str) -> i32 {
        *self
            .starts(name)
            .last()
            .unwrap_or_else(|| panic!("{name} was never started"))
    }

    /// How many copies of a program live; a parent and its children are one.
    pub(crate) fn copies(&self, name: &str) -> usize {
        let mark = format!("{}/prog.sh {name} ", self.dir());
        let live: Vec<Proc> = processes()
            .into_iter()
            .filter(|p| p.lives() && format!("{} ", p.command_line()).contains(&mark))
            .collect();
        live.iter()
            .filter(|p| !live.iter().any(|other| other.pid == p.parent))
            .count()
    }

    /// Ends a process and waits until nothing of it is left but perhaps a zombie.
    pub(crate) fn kill(&self, pid: i32) {
        signal(pid, Signal::SIGKILL);
        self.wait_until(&format!("end of {pid}"), || !alive(pid));
    }

    /// Ends a process and waits until its PID names nothing any more.
    pub(crate) fn kill_and_reap(&self, pid: i32) {
        signal(pid, Signal::SIGKILL);
        self.wait_until(&format!("reaping of {pid}"), || {
            !Path::new(&format!("/proc/{pid}")).exists()
        });
    }

    /// Stops a process as Ctrl-Z does, and waits until it has stopped.
    pub(crate) fn freeze(&self, pid: i32) {
        signal(pid, Signal::SIGSTOP);
        self.wait_until(&format!("{pid} to stop"), || {
            Proc::of(pid).is_some_and(|p| p.state == 'T')
        });
    }

    /// Waits for something to become true, with a deadline that only a hang meets.
    pub(crate) fn wait_until(&self, what: &str, condition: impl Fn() -> bool) {
        wait_until(&format!("{what} (in {})", self.dir()), condition);
    }

    /// The processes of this scene, zombies and this one aside.
    pub(crate) fn belongings(&self) -> Vec<Proc> {
        let mark = self.dir.as_os_str().as_bytes();
        let me = i32::try_from(std::process::id()).unwrap();
        processes()
            .into_iter()
            .filter(|p| p.lives() && p.pid != me && p.mentions(mark))
            .collect()
    }

    pub(super) fn clear(&self) -> Vec<Proc> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = self.belongings();
            if left.is_empty() || Instant::now() >= deadline {
                return left;
            }
            for process in left {
                // looked at once more: the PID may be another's by now
                if Proc::of(process.pid).is_some_and(|p| p.start == process.start) {
                    signal(process.pid, Signal::SIGKILL);
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A process as /proc tells it.
#[derive(Clone, Debug)]
pub(crate) struct Proc {
    /// Its PID.
    pub(crate) pid: i32,
    /// The letter of its state.
    pub(crate) state: char,
    /// Its parent's PID.
    pub(crate) parent: i32,
    /// Its process group.
    pub(crate) group: i32,
    /// Its session.
    pub(crate) session: i32,
    /// Its terminal, 0 for none.
    pub(crate) terminal: i32,
    /// Its niceness.
    pub(crate) nice: i32,
    /// Its start, in ticks since boot.
    pub(crate) start: u64,
    /// Where `/proc` has its facts: that of another thread where the main one has ended before it.
    facts: PathBuf,
    arguments: Vec<u8>,
}

impl Proc {
    /// The process with a PID.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let close = stat.iter().rposition(|&b| b == b')')?;
        let rest = String::from_utf8_lossy(&stat[close + 1..]).into_owned();
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // numbered as in proc(5)
        let field = |number: usize| fields.get(number - 3).copied();
        let state = field(3)?.chars().next()?;
        let mut facts = PathBuf::from(format!("/proc/{pid}"));
        let main_ended = state == 'Z' && field(20)?.parse::<u32>().ok()? > 1;
        if main_ended {
            let mut threads = fs::read_dir(facts.join("task")).ok()?.flatten();
            facts = threads
                .find(|it| it.file_name() != *pid.to_string())?
                .path();
        }
        Some(Self {
            pid,
            state: if main_ended { 'S' } else { state },
            parent: field(4)?.parse().ok()?,
            group: field(5)?.parse().ok()?,
            session: field(6)?.parse().ok()?,
            terminal: field(7)?.parse().ok()?,
            nice: field(19)?.parse().ok()?,
            start: field(22)?.parse().ok()?,
            arguments: fs::read(facts.join("cmdline")).unwrap_or_default(),
            facts,
        })
    }

    /// Whether it runs or could run again.
    pub(crate) fn lives(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Its arguments with spaces between.
    pub(crate) fn command_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.arguments).replace('\0', " ");
        text.trim_end().to_owned()
    }

    fn mentions(&self, mark: &[u8]) -> bool {
        let holds = |bytes: &[u8]| bytes.windows(mark.len()).any(|window| window == mark);
        holds(&self.arguments)
            || fs::read_link(self.facts.join("cwd"))
                .is_ok_and(|cwd| cwd.as_os_str().as_bytes().starts_with(mark))
            || fs::read(self.facts.join("environ")).is_ok_and(|bytes| holds(&bytes))
    }
}

/// All processes.
pub(crate) fn processes() -> Vec<Proc> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Proc::of)
        .collect()
}

/// Whether a process lives; a zombie does not.
pub(crate) fn alive(pid: i32) -> bool {
    Proc::of(pid).is_some_and(|p| p.lives())
}

/// Sends a signal to a process; one that is gone is no failure.
pub(crate) fn signal(pid: i32, signal: Signal) {
    assert!(pid > 1, "a signal to {pid}");
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("{signal} to {pid}: {error}"),
    }
}

/// A line of `/proc/PID/status`, without its name.
pub(crate) fn status(pid: i32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("no {name} in {text}"));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The environment that a process was started with.
pub(crate) fn environment(pid: i32) -> BTreeMap<String, String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap();
    String::from_utf8_lossy(&bytes)
        .split('\0')
        .filter_map(|entry| entry.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Waits for something to become true, with a deadline that only a hang meets.
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The PID of a child.
pub(crate) fn pid_of(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap()
}
