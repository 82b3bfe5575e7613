//! Runs of the watchdog taken apart into their system calls, and ended at any one of them.
//!
//! A run is traced with ptrace, all its threads and what it forks up to their exec. Of its calls those count as steps
//! that change something that outlives it: files, signals, processes, connections, locks. A thread is none: it is
//! gone with its process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use regex::Regex;

use crate::scene::{Scene, pid_of, signal};

/// Far longer than a traced run takes.
const PATIENCE: Duration = Duration::from_mins(2);

/// Times, PIDs and random numbers.
static NUMBERS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[0-9a-f]*[0-9][0-9a-f]{3,}|\[\d+\]|/proc/\d+|\.\d{3}Z").unwrap());

/// `PTRACE_SYSCALL_INFO_ENTRY` of ptrace(2).
const ENTRY: u8 = 1;

/// When at a step a run is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum When {
    /// The call has not been made.
    Before,
    /// It has been made, and its answer not been looked at.
    After,
}

/// What is done to a run at a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault<'a> {
    /// It is killed.
    Kill(&'a str, When),
    /// There is no room on the disk for this one step.
    NoRoom(&'a str),
    /// There is none from this step on.
    NoRoomFrom(&'a str),
}

/// Whether a step takes room on a disk.
pub(crate) fn takes_room(step: &str) -> bool {
    [
        "create /",
        "write /",
        "mkdir /",
        "link /",
        "rename /",
        "fsync /",
        "truncate /",
    ]
    .iter()
    .any(|call| step.starts_with(call))
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Walked {
    /// Its steps: each call with what it was made on, and its number among those that look alike.
    pub(crate) steps: Vec<String>,
    /// Whether it came to the step of the fault.
    pub(crate) met: bool,
}

/// Runs the watchdog, with a fault at a step.
pub(crate) fn walk(scene: &Scene, args: &[&str], fault: Option<Fault<'_>>) -> Walked {
    let inner = scene.command(args);
    let mut command = scene.shell_command("kill -STOP $$; exec \"$@\"");
    command
        .arg("sh")
        .arg(inner.get_program())
        .args(inner.get_args());
    let file = |name: &str| Stdio::from(fs::File::create(scene.path(name)).unwrap());
    command.stdout(file("walk.out")).stderr(file("walk.err"));
    let mut walk = Walk::begin(scene, command, fault);
    let (over, wait) = mpsc::channel::<()>();
    let main = walk.main;
    let guard = std::thread::spawn(move || {
        if wait.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            signal(main.as_raw(), Signal::SIGKILL);
        }
    });
    walk.go();
    drop(over);
    guard.join().unwrap();
    Walked {
        steps: walk.steps,
        met: walk.met,
    }
}

struct Walk<'a> {
    scene: &'a Scene,
    main: Pid,
    fault: Option<Fault<'a>>,
    steps: Vec<String>,
    counts: BTreeMap<String, usize>,
    /// The step that a thread is in.
    inside: BTreeMap<Pid, String>,
    /// The main process is the watchdog by now.
    begun: bool,
    met: bool,
    killed: bool,
    /// Threads whose call is to fail.
    failing: BTreeSet<Pid>,
    /// The main process has been reaped.
    over: bool,
    /// Children that wait until the main process is gone.
    held: BTreeSet<Pid>,
    /// All that is traced, and whether it is a thread of the main process.
    traced: BTreeMap<Pid, bool>,
}

impl<'a> Walk<'a> {
    fn begin(scene: &'a Scene, mut command: Command, fault: Option<Fault<'a>>) -> Self {
        // reaped by its PID, with all that is traced
        #[expect(clippy::zombie_processes)]
        let child = command.spawn().unwrap();
        let main = Pid::from_raw(pid_of(&child));
        let stopped = waitpid(main, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC;
        ptrace::seize(main, options).unwrap();
        signal(main.as_raw(), Signal::SIGCONT);
        Self {
            scene,
            main,
            fault,
            steps: Vec::new(),
            counts: BTreeMap::new(),
            inside: BTreeMap::new(),
            begun: false,
            met: false,
            killed: false,
            failing: BTreeSet::new(),
            over: false,
            held: BTreeSet::new(),
            traced: BTreeMap::from([(main, true)]),
        }
    }

    fn go(&mut self) {
        // of this thread's own children alone: other tests wait for theirs
        let mine = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        // the program that is looked after may be another child of this thread, which is not waited for
        loop {
            if self.over {
                // an end can be told of before the fork, which is entered then and does not end again; and a thread that is
                // gone looks like a child
                self.traced
                    .retain(|pid, _| fs::exists(format!("/proc/{pid}")).unwrap());
                if self.traced.values().all(|own| *own) {
                    break;
                }
            }
            let event = match waitpid(None, Some(mine)) {
                Ok(event) => event,
                Err(Errno::EINTR) => continue,
                // what was killed with the run may be gone before its parent's fork is told of
                Err(Errno::ECHILD) if self.over => break,
                Err(error) => panic!("waiting for a traced run: {error}"),
            };
            if let (Some(pid), WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
                (event.pid(), event)
            {
                self.traced.remove(&pid);
                if pid == self.main {
                    self.over = true;
                    for pid in std::mem::take(&mut self.held) {
                        self.release(pid);
                    }
                }
                continue;
            }
            let Some(pid) = event.pid() else { continue };
            if !self.traced.contains_key(&pid) {
                self.traced.insert(pid, self.is_own(pid));
            }
            match event {
                WaitStatus::PtraceSyscall(_) => {
                    let is_entry = ptrace::syscall_info(pid).is_ok_and(|info| info.op == ENTRY);
                    if is_entry {
                        if let Some(step) = self.named(pid) {
                            self.entered(pid, &step);
                        }
                    } else {
                        self.left(pid);
                    }
                    self.resume(pid, None);
                }
                WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_EXEC) => {
                    if pid == self.main {
                        self.begun = true;
                        self.resume(pid, None);
                    } else {
                        self.left(pid);
                        self.release(pid);
                    }
                }
                WaitStatus::PtraceEvent(
                    _,
                    _,
                    libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE,
                ) => {
                    if let Some(new) = ptrace::getevent(pid)
                        .ok()
                        .and_then(|id| i32::try_from(id).ok())
                    {
                        let new = Pid::from_raw(new);
                        let own = self.is_own(new);
                        self.traced.entry(new).or_insert(own);
                    }
                    self.resume(pid, None);
                }
                WaitStatus::Stopped(_, signal) => self.resume(pid, Some(signal)),
                _ => self.resume(pid, None),
            }
        }
    }

    fn is_own(&self, pid: Pid) -> bool {
        fs::metadata(format!("/proc/{}/task/{pid}", self.main)).is_ok()
    }

    /// Lets a stopped thread go on; a child of a run that is being killed only when that is gone.
    fn resume(&mut self, pid: Pid, signal: Option<Signal>) {
        if self.killed && self.traced.get(&pid) == Some(&false) {
            self.release(pid);
        } else {
            // it may have been killed meanwhile
            let _ = ptrace::syscall(pid, signal);
        }
    }

    /// Lets a child go its own way.
    fn release(&mut self, pid: Pid) {
        if self.killed && !self.over {
            self.held.insert(pid);
        } else {
            let _ = ptrace::detach(pid, None);
            self.traced.remove(&pid);
        }
    }

    fn entered(&mut self, pid: Pid, name: &str) {
        let count = self.counts.entry(name.to_owned()).or_default();
        *count += 1;
        let step = format!("{name} #{count}");
        self.steps.push(step.clone());
        self.kill_at(&step, When::Before);
        if let Some(Fault::NoRoom(at) | Fault::NoRoomFrom(at)) = self.fault
            && (at == step || (self.met && matches!(self.fault, Some(Fault::NoRoomFrom(_)))))
            && takes_room(&step)
        {
            self.met = true;
            self.failing.insert(pid);
            // no call has this number: it does nothing
            change(pid, |registers| registers.orig_rax = u64::MAX);
        }
        self.inside.insert(pid, step);
    }

    fn left(&mut self, pid: Pid) {
        if self.failing.remove(&pid) {
            let answer = i64::from(-libc::ENOSPC).cast_unsigned();
            change(pid, |registers| registers.rax = answer);
        }
        if let Some(step) = self.inside.remove(&pid) {
            self.kill_at(&step, When::After);
        }
    }

    fn kill_at(&mut self, step: &str, when: When) {
        if self.fault == Some(Fault::Kill(step, when)) && !self.killed {
            self.met = true;
            self.killed = true;
            signal(self.main.as_raw(), Signal::SIGKILL);
        }
    }

    /// The call that a thread is about to make, if it is a step.
    fn named(&self, pid: Pid) -> Option<String> {
        if !self.begun {
            return None;
        }
        let registers = ptrace::getregs(pid).ok()?;
        let path = |address: u64| string_at(pid, address);
        let file = |fd: u64| {
            let link = fs::read_link(format!("/proc/{pid}/fd/{fd}"));
            link.map_or_else(|_| "?".to_owned(), |link| link.display().to_string())
        };
        let (first, second, third, fourth) =
            (registers.rdi, registers.rsi, registers.rdx, registers.r10);
        let creates = |flags: u64| {
            flags & u64::try_from(libc::O_CREAT | libc::O_TRUNC).unwrap_or_default() != 0
        };
        let text = match i64::try_from(registers.orig_rax).ok()? {
            libc::SYS_write
            | libc::SYS_pwrite64
            | libc::SYS_writev
            | libc::SYS_sendto
            | libc::SYS_sendmsg => format!("write {}", file(first)),
            libc::SYS_open if creates(second) => format!("create {}", path(first)),
            libc::SYS_openat if creates(third) => format!("create {}", path(second)),
            libc::SYS_creat => format!("create {}", path(first)),
            libc::SYS_rename => format!("rename {} {}", path(first), path(second)),
            libc::SYS_renameat | libc::SYS_renameat2 => {
                format!("rename {} {}", path(second), path(fourth))
            }
            libc::SYS_unlink => format!("unlink {}", path(first)),
            libc::SYS_unlinkat => format!("unlink {}", path(second)),
            libc::SYS_rmdir => format!("rmdir {}", path(first)),
            libc::SYS_mkdir => format!("mkdir {}", path(first)),
            libc::SYS_mkdirat => format!("mkdir {}", path(second)),
            libc::SYS_link => format!("link {} {}", path(first), path(second)),
            libc::SYS_linkat => format!("link {} {}", path(second), path(fourth)),
            libc::SYS_symlink => format!("symlink {}", path(second)),
            libc::SYS_symlinkat => format!("symlink {}", path(third)),
            libc::SYS_chmod | libc::SYS_chown | libc::SYS_lchown => {
                format!("chmod {}", path(first))
            }
            libc::SYS_fchmod | libc::SYS_fchown => format!("chmod {}", file(first)),
            libc::SYS_fchmodat | libc::SYS_fchownat | libc::SYS_utimensat => {
                format!("chmod {}", path(second))
            }
            libc::SYS_truncate => format!("truncate {}", path(first)),
            libc::SYS_ftruncate | libc::SYS_fallocate => format!("truncate {}", file(first)),
            libc::SYS_fsync | libc::SYS_fdatasync => format!("fsync {}", file(first)),
            libc::SYS_flock => format!("flock {}", file(first)),
            libc::SYS_kill => format!("kill {second}"),
            // to itself, as an abort does
            libc::SYS_tgkill => format!("tgkill {third}"),
            libc::SYS_pidfd_send_signal => format!("pidfd_send_signal {second}"),
            libc::SYS_fork | libc::SYS_vfork => "fork".to_owned(),
            libc::SYS_clone if !makes_a_thread(first) => "fork".to_owned(),
            libc::SYS_clone3 if !makes_a_thread(word_at(pid, first)) => "fork".to_owned(),
            libc::SYS_execve => format!("execve {}", path(first)),
            libc::SYS_connect => "connect".to_owned(),
            libc::SYS_setsid => "setsid".to_owned(),
            _ => return None,
        };
        // a signal 0 only asks
        if matches!(text.as_str(), "kill 0" | "pidfd_send_signal 0") {
            return None;
        }
        Some(self.plain(&text))
    }

    /// The same for every scene and every run: without its directory, times and random numbers.
    fn plain(&self, text: &str) -> String {
        let text = text.replace(self.scene.dir(), "");
        NUMBERS.replace_all(&text, "N").into_owned()
    }
}

fn change(pid: Pid, edit: impl FnOnce(&mut libc::user_regs_struct)) {
    let mut registers = ptrace::getregs(pid).unwrap();
    edit(&mut registers);
    ptrace::setregs(pid, registers).unwrap();
}

fn makes_a_thread(flags: u64) -> bool {
    flags & u64::try_from(libc::CLONE_THREAD).unwrap() != 0
}

fn string_at(pid: Pid, address: u64) -> String {
    let mut bytes = Vec::new();
    let Ok(memory) = fs::File::open(format!("/proc/{pid}/mem")) else {
        return "?".to_owned();
    };
    let mut chunk = [0; 64];
    let mut at = address;
    while bytes.len() < 4096 {
        let Ok(got @ 1..) = memory.read_at(&mut chunk, at) else {
            break;
        };
        if let Some(end) = chunk[..got].iter().position(|&b| b == 0) {
            bytes.extend_from_slice(&chunk[..end]);
            break;
        }
        bytes.extend_from_slice(&chunk[..got]);
        at += u64::try_from(got).unwrap();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn word_at(pid: Pid, address: u64) -> u64 {
    let mut bytes = [0; 8];
    let read = fs::File::open(format!("/proc/{pid}/mem"))
        .and_then(|memory| memory.read_exact_at(&mut bytes, address));
    read.map_or(0, |()| u64::from_le_bytes(bytes))
}
