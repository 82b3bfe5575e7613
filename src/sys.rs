//! The only module with `unsafe`: pidfds, and the steps of a child between fork and exec.
//!
//! nix wraps neither, and std's own wrappers for them are unstable. Everything here is a thin, checked cover
//! over one system call, or a list of async-signal-safe calls.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

/// `PIDFD_SIGNAL_PROCESS_GROUP` of linux/pidfd.h (Linux 6.9), which libc does not have yet.
const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

/// How often is looked whether a child has become its program.
const GLANCE: Duration = Duration::from_millis(100);

/// How long a killed child may take to be gone.
const DYING: Duration = Duration::from_secs(1);

/// How many signals Linux has (signal(7)).
const SIGNALS: libc::c_int = 64;

/// A handle on one process: whatever happens to its PID, no other process is ever reached through it.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens the process that has `pid` now; `None` where there is none.
    pub fn open(pid: i32) -> io::Result<Option<Self>> {
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            return match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
                Errno::ESRCH => Ok(None),
                _ => Err(error),
            };
        }
        let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the kernel has just returned this descriptor, and nobody else has it.
        Ok(Some(Self(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Sends a signal to the process; one that has ended is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.send(signal, 0)
    }

    /// Sends a signal to all of the group that the process leads. Where the kernel cannot do that through the
    /// handle, the number is used while the handle shows that the leader still has it.
    pub fn signal_group(&self, leader: i32, signal: Signal) -> io::Result<()> {
        match self.send(signal, PIDFD_SIGNAL_PROCESS_GROUP) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                if self.has_ended(Duration::ZERO)? {
                    return Ok(());
                }
                match nix::sys::signal::killpg(nix::unistd::Pid::from_raw(leader), signal) {
                    Ok(()) | Err(Errno::ESRCH) => Ok(()),
                    Err(errno) => Err(errno.into()),
                }
            }
            result => result,
        }
    }

    fn send(&self, signal: Signal, flags: libc::c_uint) -> io::Result<()> {
        // SAFETY: the null pointer asks for the default siginfo (pidfd_send_signal(2)); the rest are integers,
        // and the descriptor is open for as long as self lives.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal as libc::c_int,
                std::ptr::null::<libc::siginfo_t>(),
                flags,
            )
        };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::ESRCH) {
            return Ok(());
        }
        Err(error)
    }

    /// The descriptor, which is readable once the process has ended.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Waits until the process has ended, `limit` at the most; a zombie has ended. Returns whether it has.
    pub fn has_ended(&self, limit: Duration) -> io::Result<bool> {
        wait_readable(self.0.as_fd(), limit)
    }
}

/// Waits until a descriptor is readable, `limit` at the most.
pub fn wait_readable(fd: BorrowedFd<'_>, limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // rounded up, so that the last part of a millisecond is no busy loop
        let millis = i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
            Ok(0) if Instant::now() >= deadline => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Who a child becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// All further groups.
    pub groups: Vec<u32>,
}

/// What a child does with itself between fork and exec, after it has left the watchdog's session.
#[derive(Clone, Debug)]
pub struct Detached {
    /// The file to run, as it is seen from its working directory.
    pub program: CString,
    /// Its arguments, its name first.
    pub arguments: Vec<CString>,
    /// Its whole environment, as `KEY=VALUE`.
    pub environment: Vec<CString>,
    /// Who it becomes; absent: it stays who it is.
    pub credentials: Option<Credentials>,
    /// Its niceness.
    pub nice: i32,
    /// Its file mode creation mask.
    pub umask: u32,
    /// Its working directory.
    pub working_dir: CString,
    /// What its standard output is appended to.
    pub stdout: Option<Target>,
    /// What its standard error is appended to.
    pub stderr: Option<Target>,
    /// A PID file to remove, left by its predecessor.
    pub remove: Option<CString>,
    /// A PID file to write its own PID into.
    pub pid_file: Option<Target>,
    /// It is killed when the thread that starts it ends.
    pub dies_with_parent: bool,
}

/// A file to write to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its path.
    pub path: CString,
    /// Others can make names in its directory: a link, a further name of another file and another user's file are
    /// refused.
    pub own_only: bool,
}

impl Target {
    /// Opens it to append to it, without waiting for anything: a FIFO without a reader would hold the child for ever.
    /// Async-signal-safe.
    fn open(&self, mode: libc::mode_t, flags: libc::c_int) -> Result<libc::c_int, Errno> {
        let mut flags = flags
            | libc::O_WRONLY
            | libc::O_APPEND
            | libc::O_CREAT
            | libc::O_NOCTTY
            | libc::O_NONBLOCK
            | libc::O_CLOEXEC;
        if self.own_only {
            flags |= libc::O_NOFOLLOW;
        }
        // SAFETY: system calls on a C string that outlives them, on integers, and on a local that fstat fills in.
        unsafe {
            let fd = libc::open(self.path.as_ptr(), flags, mode);
            if fd == -1 {
                return Err(Errno::last());
            }
            let mut meta = std::mem::zeroed::<libc::stat>();
            if self.own_only
                && (libc::fstat(fd, &raw mut meta) == -1
                    || meta.st_mode & libc::S_IFMT != libc::S_IFREG
                    || meta.st_nlink != 1
                    || meta.st_uid != libc::geteuid())
            {
                return Err(Errno::EPERM);
            }
            Ok(fd)
        }
    }
}

/// The step between fork and exec that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// The fork, or the exec itself.
    Exec = 0,
    /// What was to be done about the child before it becomes the program.
    Scope,
    /// setsid(2).
    Session,
    /// setpriority(2).
    Nice,
    /// setgroups(2), setgid(2), setuid(2), or finding that they did not hold.
    Credentials,
    /// chdir(2).
    WorkingDir,
    /// Opening standard output.
    Stdout,
    /// Opening standard error.
    Stderr,
    /// Writing the PID file.
    PidFile,
    /// One of the others, without end.
    Stuck,
}

impl Step {
    fn from_byte(byte: u8) -> Self {
        [
            Self::Session,
            Self::Nice,
            Self::Credentials,
            Self::WorkingDir,
            Self::Stdout,
            Self::Stderr,
            Self::PidFile,
        ]
        .into_iter()
        .find(|&step| step as u8 == byte)
        .unwrap_or(Self::Exec)
    }
}

/// A list of C strings in the form that execve(2) takes, together with the strings.
struct Pointers {
    pointers: Vec<*const libc::c_char>,
    _strings: Vec<CString>,
}

impl Pointers {
    fn to(strings: Vec<CString>) -> Self {
        let ends = std::iter::once(std::ptr::null());
        Self {
            pointers: strings
                .iter()
                .map(|string| string.as_ptr())
                .chain(ends)
                .collect(),
            _strings: strings,
        }
    }
}

// SAFETY: the pointers lead into strings that the same value owns and that nobody changes; the heap that they lie
// on does not move with it.
unsafe impl Send for Pointers {}
// SAFETY: as above; there is no way to change either through a shared reference.
unsafe impl Sync for Pointers {}

/// How long a child waits for its parent at the most: longer than all that is done to it meanwhile.
const RELEASE_LIMIT_MS: libc::c_int = 60_000;

/// Starts a command, and does something about the child before it becomes the program: `before_exec` gets its PID
/// and runs in a thread beside. Where that fails, so does the start, with its sentence for an error. The program gets
/// no descriptor beside the standard three, whatever the watchdog was itself handed: a daemon that it leaves behind
/// would hold it for good.
pub fn spawn_after(
    command: Command,
    before_exec: Option<impl FnOnce(i32) -> Result<(), String> + Send>,
) -> io::Result<Child> {
    spawn_waiting(command, before_exec, |_| {})
}

/// Starts a command in a session of its own, out of reach of the terminal, and of signals to the group of this process.
pub fn spawn_in_session(mut command: Command) -> io::Result<Child> {
    // SAFETY: the closure runs in the child between fork and exec; setsid is async-signal-safe, and the error is built
    // from a number.
    unsafe {
        command.pre_exec(|| {
            if libc::setsid() == -1 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let unhindered: Option<fn(i32) -> Result<(), String>> = None;
    spawn_after(command, unhindered)
}

/// Starts a command as [`spawn_after`] does, with further steps of the child, which come after it was released.
fn spawn_waiting(
    mut command: Command,
    before_exec: Option<impl FnOnce(i32) -> Result<(), String> + Send>,
    add_steps: impl FnOnce(&mut Command),
) -> io::Result<Child> {
    // SAFETY: the closure runs in the child of a process that has threads; it makes only system calls on integers, and sets
    // a disposition to its default.
    unsafe {
        command.pre_exec(|| {
            close_on_exec();
            // what this program ignores is none of its children's business: see `reset_inherited`
            libc::signal(libc::SIGXFSZ, libc::SIG_DFL);
            Ok(())
        });
    }
    let Some(before_exec) = before_exec else {
        add_steps(&mut command);
        return command.spawn();
    };
    let (mut ready, say_ready) = pipe()?;
    let (wait, mut release) = pipe()?;
    let (ready_fd, wait_fd, release_fd) =
        (say_ready.as_raw_fd(), wait.as_raw_fd(), release.as_raw_fd());
    // SAFETY: the closure runs in the child of a process that has threads; `wait_for_parent` makes only async-signal-safe
    // system calls on integers that were copied in, and the error is built from a number. The descriptors are
    // open in the child as they are in the parent at the time of the fork, which is before their end below.
    unsafe {
        command.pre_exec(move || {
            wait_for_parent(ready_fd, wait_fd, release_fd)
                .map_err(|errno| io::Error::from_raw_os_error(errno as i32))
        });
    }
    add_steps(&mut command);
    std::thread::scope(|scope| {
        let helper = move || {
            let mut pid = [0; size_of::<libc::pid_t>()];
            // no child, or none that got that far
            if ready.read_exact(&mut pid).is_err() {
                return Ok(());
            }
            let result = before_exec(libc::pid_t::from_ne_bytes(pid));
            // a child that is gone by now is told of by its start
            let _ = release.write_all(&[u8::from(result.is_ok())]);
            result
        };
        let helper = std::thread::Builder::new().spawn_scoped(scope, helper)?;
        let spawned = command.spawn();
        drop(say_ready);
        let done = helper.join().unwrap_or_else(|fault| resume_unwind(fault));
        match (spawned, done) {
            (_, Err(why)) => Err(io::Error::other(why)),
            (spawned, Ok(())) => spawned,
        }
    })
}

fn pipe() -> io::Result<(std::fs::File, std::fs::File)> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    Ok((read.into(), write.into()))
}

/// A child writes its PID and waits until its parent releases it. Async-signal-safe throughout.
fn wait_for_parent(ready: RawFd, wait: RawFd, release: RawFd) -> Result<(), Errno> {
    // SAFETY: getpid, close, write, poll and read are async-signal-safe, and get pointers to locals that outlive
    // the calls, with their sizes.
    unsafe {
        // its own copy would keep the pipe open after the watchdog is gone
        libc::close(release);
        let pid = libc::getpid();
        let size = size_of::<libc::pid_t>();
        if usize::try_from(libc::write(ready, std::ptr::from_ref(&pid).cast(), size)) != Ok(size) {
            return Err(Errno::last());
        }
        let mut released = libc::pollfd {
            fd: wait,
            events: libc::POLLIN,
            revents: 0,
        };
        let mut go = 0_u8;
        if libc::poll(&raw mut released, 1, RELEASE_LIMIT_MS) == 1
            && libc::read(wait, std::ptr::from_mut(&mut go).cast(), 1) == 1
            && go == 1
        {
            return Ok(());
        }
    }
    Err(Errno::ECANCELED)
}

/// Starts a program in a session of its own, as `plan` says; `before_exec` is as [`spawn_after`] has it. Its files
/// are opened, and its PID file is written, by the child once it is who it becomes: a root watchdog lends its rights
/// to nobody's symlink.
///
/// A child that has not become the program after `limit` is killed: it is in the hands of its user by then, who could
/// stop it, or have it wait for a file system of his own. And it has a copy of every descriptor, that of the lock too;
/// so it does not outlive the watchdog either before it is the program.
pub fn spawn_detached(
    plan: Detached,
    before_exec: Option<impl FnOnce(i32) -> Result<(), String> + Send>,
    limit: Duration,
) -> Result<Child, (Step, io::Error)> {
    spawn_with_streams(
        plan,
        [Stdio::null(), Stdio::null(), Stdio::null()],
        before_exec,
        limit,
    )
}

/// The same with its standard input, its standard output and its standard error, the last two where `plan` names no files
/// for them.
pub fn spawn_with_streams(
    mut plan: Detached,
    [stdin, stdout, stderr]: [Stdio; 3],
    before_exec: Option<impl FnOnce(i32) -> Result<(), String> + Send>,
    limit: Duration,
) -> Result<Child, (Step, io::Error)> {
    let (mut said, say) =
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK)
            .map(|(read, write)| (std::fs::File::from(read), write))
            .map_err(|errno| (Step::Exec, errno.into()))?;
    let tell = say.as_raw_fd();
    let parent = nix::unistd::getpid().as_raw();
    let arguments = Pointers::to(std::mem::take(&mut plan.arguments));
    let environment = Pointers::to(std::mem::take(&mut plan.environment));
    // the closure below never comes back but with an error: this name is for nobody
    let mut command = Command::new("/nonexistent");
    command
        .env_clear()
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr);
    // the PID file and all else come after: one that is refused leaves no trace
    let add_steps = move |command: &mut Command| {
        // SAFETY: the closure runs in the child of a process that may have threads, so it may only make
        // async-signal-safe calls: `become_detached` makes system calls on memory that was allocated before the
        // fork, and allocates nothing; neither does the error that is built from a number.
        unsafe {
            command.pre_exec(move || {
                let (arguments, environment) = (&arguments, &environment);
                become_detached(&plan, arguments, environment, parent, tell).map_err(
                    |(step, errno)| {
                        let byte = step as u8;
                        libc::write(tell, std::ptr::from_ref(&byte).cast(), 1);
                        io::Error::from_raw_os_error(errno as i32)
                    },
                )
            });
        }
    };
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let watched = std::thread::scope(|scope| {
        let said = &mut said;
        let watch = move || end_in_time(said, &is_done, limit);
        // where nobody can watch over the child, there is none
        let watcher = std::thread::Builder::new().spawn_scoped(scope, watch)?;
        let spawned = spawn_waiting(command, before_exec, add_steps);
        drop(done);
        let (pid, killed) = watcher.join().unwrap_or_default();
        Ok((spawned, pid, killed))
    });
    let (spawned, pid, killed) = watched.map_err(|error| (Step::Exec, error))?;
    if killed {
        if let Ok(mut child) = spawned {
            // one that the kernel holds is not waited for
            let gone = PidFd::open(pid.unwrap_or_default())
                .and_then(|handle| handle.map_or(Ok(true), |handle| handle.has_ended(DYING)));
            if gone.unwrap_or(false) {
                let _ = child.wait();
            }
        }
        return Err((Step::Stuck, ErrorKind::TimedOut.into()));
    }
    spawned.map_err(|error| {
        if pid.is_none() {
            let mut bytes = [0; size_of::<libc::pid_t>()];
            let _ = said.read(&mut bytes);
        }
        let mut byte = [0];
        let step = match said.read(&mut byte) {
            Ok(1) => Step::from_byte(byte[0]),
            // what the kernel says has a number, what `before_exec` says has none
            _ if error.raw_os_error().is_none() => Step::Scope,
            _ => Step::Exec,
        };
        (step, error)
    })
}

/// Kills a child that has told its PID and is not done after `limit`. Returns its PID, where it was told, and whether
/// it was killed.
fn end_in_time(
    said: &mut std::fs::File,
    is_done: &std::sync::mpsc::Receiver<()>,
    limit: Duration,
) -> (Option<i32>, bool) {
    let mut pid = None;
    let mut deadline = Instant::now();
    loop {
        match is_done.recv_timeout(GLANCE) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return (pid, false),
        }
        match pid {
            None => {
                let mut bytes = [0; size_of::<libc::pid_t>()];
                if said.read_exact(&mut bytes).is_ok() {
                    pid = Some(libc::pid_t::from_ne_bytes(bytes));
                    deadline = Instant::now() + limit;
                }
            }
            Some(child) if Instant::now() >= deadline && is_uncollected_child(child) => {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), Signal::SIGKILL);
                return (pid, true);
            }
            Some(_) => {}
        }
    }
}

/// Whether a PID is surely that of a child of this process: until it is collected, no other process gets it.
fn is_uncollected_child(pid: i32) -> bool {
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::Pid(nix::unistd::Pid::from_raw(pid)), flags).is_ok()
}

/// The steps of a child. Async-signal-safe throughout: no allocation, no lock, no panic.
fn become_detached(
    plan: &Detached,
    arguments: &Pointers,
    environment: &Pointers,
    parent: libc::pid_t,
    tell: RawFd,
) -> Result<(), (Step, Errno)> {
    let check = |step: Step, result: libc::c_int| {
        if result == -1 {
            Err((step, Errno::last()))
        } else {
            Ok(())
        }
    };
    // SAFETY: plain system calls on integers and on C strings and slices that `plan` owns and that outlive the
    // calls; getpid, getppid, prctl, setsid, setpriority, setgroups, setgid, setuid, umask, chdir, open, fstat, dup2,
    // write, ftruncate, unlink and close are all async-signal-safe (signal-safety(7)), or bare system calls.
    unsafe {
        let pid = libc::getpid();
        libc::write(
            tell,
            std::ptr::from_ref(&pid).cast(),
            size_of::<libc::pid_t>(),
        );
        check(Step::Session, libc::setsid())?;
        reset_signals();
        set_niceness(plan.nice).map_err(|errno| (Step::Nice, errno))?;
        libc::umask(plan.umask);
        if let Some(who) = &plan.credentials {
            check(
                Step::Credentials,
                libc::setgroups(who.groups.len(), who.groups.as_ptr()),
            )?;
            check(Step::Credentials, libc::setgid(who.gid))?;
            check(Step::Credentials, libc::setuid(who.uid))?;
            let held = libc::getuid() == who.uid
                && libc::geteuid() == who.uid
                && libc::getgid() == who.gid
                && libc::getegid() == who.gid;
            // nobody but root may be able to take root back
            if !held || (who.uid != 0 && libc::setuid(0) == 0) {
                return Err((Step::Credentials, Errno::EPERM));
            }
        }
        // only now: another user's would be forgotten
        check(
            Step::Session,
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL),
        )?;
        if libc::getppid() != parent {
            return Err((Step::Session, Errno::ESRCH));
        }
        check(Step::WorkingDir, libc::chdir(plan.working_dir.as_ptr()))?;
        for (step, file, stream) in [
            (Step::Stdout, &plan.stdout, 1),
            (Step::Stderr, &plan.stderr, 2),
        ] {
            if let Some(file) = file {
                let fd = file.open(0o666, 0).map_err(|errno| (step, errno))?;
                check(step, libc::fcntl(fd, libc::F_SETFL, libc::O_APPEND))?;
                check(step, libc::dup2(fd, stream))?;
            }
        }
        if let Some(path) = &plan.remove {
            // one that cannot be removed may still be overwritten; the program will tell
            libc::unlink(path.as_ptr());
        }
        if let Some(file) = &plan.pid_file {
            let fd = file
                .open(0o644, libc::O_NOFOLLOW)
                .map_err(|errno| (Step::PidFile, errno))?;
            // what cannot be emptied is no regular file
            check(Step::PidFile, libc::ftruncate(fd, 0))?;
            let mut digits = [0_u8; 12];
            let text = decimal(libc::getpid(), &mut digits);
            let written = libc::write(fd, text.as_ptr().cast(), text.len());
            if usize::try_from(written) != Ok(text.len()) {
                return Err((Step::PidFile, Errno::last()));
            }
            check(Step::PidFile, libc::close(fd))?;
        }
    }
    close_on_exec();
    if !plan.dies_with_parent {
        // SAFETY: a system call on integers.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, 0);
        }
    }
    // SAFETY: both lists end with a null pointer, and their strings outlive the call. Not execvp, which would
    // have a shell run whatever is no program.
    unsafe {
        libc::execve(
            plan.program.as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
        );
    }
    Err((Step::Exec, Errno::last()))
}

/// Gives every signal its default disposition, and blocks none. Async-signal-safe.
fn reset_signals() {
    // SAFETY: bare system calls that read from locals of the size that they are told.
    unsafe {
        // ignored signals are inherited through exec: nohup and shells leave some behind
        for signal in 1..=SIGNALS {
            // the bare call: the C library refuses those that it keeps to itself
            let default = [0_u64; 4];
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null::<u64>(),
                size_of::<u64>(),
            );
        }
        let none = 0_u64;
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            std::ptr::from_ref(&none),
            std::ptr::null::<u64>(),
            size_of::<u64>(),
        );
    }
}

/// Sets the niceness of the calling thread, which a fork inherits. Where that takes a privilege that is not there, one
/// of 0 or more is left as it is: the program can do its work all the same. Async-signal-safe.
fn set_niceness(nice: i32) -> Result<(), Errno> {
    // SAFETY: a system call on integers.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } == 0 {
        return Ok(());
    }
    match Errno::last() {
        Errno::EACCES | Errno::EPERM if nice >= 0 => Ok(()),
        errno => Err(errno),
    }
}

/// Has this thread come before all others, where it may.
pub fn raise_priority() {
    let _ = set_niceness(-20);
}

/// The niceness of this thread, where that is more than `nice` and there is no privilege to lower it: children keep it.
pub fn niceness_kept(nice: i32) -> Option<i32> {
    // SAFETY: a system call on integers.
    let own = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    if own() <= nice {
        return None;
    }
    // in a thread that ends with it: on Linux, each thread has a niceness of its own
    let tried = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, || {
            let _ = set_niceness(nice);
            own()
        })?;
        thread.join().map_err(|_| io::Error::from(ErrorKind::Other))
    });
    tried.ok().filter(|&reached| reached > nice)
}

/// Has a command begin with what a program gets that the watchdog spawns, however the watchdog was started: no signal
/// ignored or blocked, its own niceness and umask.
pub fn begin_afresh(command: &mut Command, nice: i32, umask: u32) {
    // SAFETY: the closure runs in the child of a process that has threads; it makes only async-signal-safe calls on
    // integers.
    unsafe {
        command.pre_exec(move || {
            reset_signals();
            libc::umask(umask);
            set_niceness(nice).map_err(io::Error::from)
        });
    }
}

/// Marks every descriptor but the standard three to be closed by exec, also those that the watchdog was itself
/// handed by a careless parent.
fn close_on_exec() {
    // SAFETY: system calls on integers. Where close_range is missing (before Linux 5.11), the descriptors are
    // marked one by one, as far as a service reasonably inherits any.
    unsafe {
        if libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        ) != 0
        {
            for fd in 3..4096 {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
}

/// Writes a positive number and a newline into `buffer`, without allocating.
fn decimal(number: i32, buffer: &mut [u8; 12]) -> &[u8] {
    let mut at = buffer.len() - 1;
    buffer[at] = b'\n';
    let mut rest = number.unsigned_abs();
    while at > 0 {
        at -= 1;
        buffer[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    &buffer[at..]
}

/// The system calls that take ids of 32 bits. Where an architecture has had ids of 16 bits, the plain names still mean
/// those, and would read a list of groups as twice as many others.
mod ids {
    #[cfg(target_arch = "m68k")]
    compile_error!("the libc crate has no calls that take ids of 32 bits here");
    #[cfg(not(any(target_arch = "arm", target_arch = "sparc", target_arch = "x86")))]
    pub(super) use libc::{
        SYS_setfsgid as SETFSGID, SYS_setfsuid as SETFSUID, SYS_setgroups as SETGROUPS,
    };
    #[cfg(any(target_arch = "arm", target_arch = "sparc", target_arch = "x86"))]
    pub(super) use libc::{
        SYS_setfsgid32 as SETFSGID, SYS_setfsuid32 as SETFSUID, SYS_setgroups32 as SETGROUPS,
    };

    /// The id in the answer of a call.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an id is the lower 32 bits"
    )]
    pub(super) fn present(answer: libc::c_long) -> u32 {
        answer as u32
    }
}

/// Does something with the file rights of another user, in a thread of its own: what that user may not read is
/// not read for him by root.
pub fn with_rights_of<T: Send>(
    who: &Credentials,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, || {
            // SAFETY: bare system calls, which change the credentials of this thread alone (the wrappers of
            // the C library would change those of all threads); the group list outlives its call. The thread
            // ends with this scope, and its rights with it.
            let taken = unsafe {
                libc::syscall(ids::SETGROUPS, who.groups.len(), who.groups.as_ptr()) == 0 && {
                    libc::syscall(ids::SETFSGID, who.gid);
                    // it answers with the former value, so asking for an impossible one tells the present. As 32
                    // bits, which is what there is of an id: a long may have no room for a large one
                    libc::syscall(ids::SETFSUID, who.uid);
                    ids::present(libc::syscall(ids::SETFSUID, -1)) == who.uid
                }
            };
            if taken {
                Ok(work())
            } else {
                Err(io::Error::from(io::ErrorKind::PermissionDenied))
            }
        })?;
        thread.join().unwrap_or_else(|fault| resume_unwind(fault))
    })
}

/// Has the system begin to write a file to the disk, and waits for nothing. Where that is not possible, it is written
/// when its time comes.
pub fn begin_writeback(file: &std::fs::File) {
    // SAFETY: a system call on an open descriptor and integers.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE);
    }
}

/// Has all threads share one heap, and keeps in it what is freed. A run has one thread that works at a time, and for a
/// second heap the C library makes four system calls, and keeps in it what the other could use again. What is given back
/// to the system is soon asked for again, page by page: a fifth of all page faults over a thousand services.
pub fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets parameters of malloc, before any thread exists.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT / 8);
    }
}

/// Of freed memory, so many bytes are not given back to the system before the end.
#[cfg(target_env = "gnu")]
const KEPT: libc::c_int = 64 << 20;

/// Whether a program gives privileges to whoever runs it (capabilities(7), "File capabilities"); not where it cannot be seen.
pub fn gives_capabilities(program: &Path) -> bool {
    let Ok(path) = CString::new(program.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: both texts end with NUL and outlive the call; with a size of 0 nothing is written, only the length is told.
    unsafe {
        libc::getxattr(
            path.as_ptr(),
            c"security.capability".as_ptr(),
            std::ptr::null_mut(),
            0,
        ) > 0
    }
}

/// Undoes what a parent may have done to this process and that would break the watchdog: with SIGCHLD ignored,
/// no child can be waited for, and with SIGALRM ignored it could hang for ever. A limit of the size of files (`ulimit -f`)
/// is an error of the write that meets it, which can be told, and no signal that ends the watchdog without a word.
pub fn reset_inherited() {
    // SAFETY: sets dispositions to their default or to none, without a handler, before any thread or child exists.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNHINDERED: Option<fn(i32) -> Result<(), String>> = None;
    const LIMIT: Duration = Duration::from_secs(60);

    fn target(path: &std::ffi::CStr, own_only: bool) -> Target {
        Target {
            path: path.to_owned(),
            own_only,
        }
    }

    fn in_directory(path: &std::ffi::CStr) -> Detached {
        Detached {
            program: c"/bin/true".to_owned(),
            arguments: vec![c"true".to_owned()],
            environment: Vec::new(),
            credentials: None,
            nice: 0,
            umask: 0o22,
            working_dir: path.to_owned(),
            stdout: None,
            stderr: None,
            remove: None,
            pid_file: None,
            dies_with_parent: false,
        }
    }

    #[test]
    fn ids_have_32_bits_on_every_architecture() {
        // arch/*/entry/syscalls of Linux: what ends in 32 there, or the only one
        let expected = match std::env::consts::ARCH {
            "x86" | "arm" => Some([206, 215, 216]),
            "x86_64" => Some([116, 122, 123]),
            "aarch64" | "riscv64" | "riscv32" | "loongarch64" => Some([159, 151, 152]),
            _ => None,
        };
        let used = [ids::SETGROUPS, ids::SETFSUID, ids::SETFSGID];
        assert!(expected.is_none_or(|expected| expected == used), "{used:?}");
        assert_eq!(ids::present(-2), u32::MAX - 1);
        assert_eq!(ids::present(70_000), 70_000);
    }

    #[test]
    fn a_child_becomes_its_program_only_when_it_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("ran");
        let touch = || {
            let mut command = Command::new("touch");
            command.arg(&mark);
            command
        };
        let refused = spawn_after(touch(), Some(|_| Err("no".to_owned()))).unwrap_err();
        assert_eq!(refused.to_string(), "no");
        assert!(!mark.exists(), "it ran although it was not let on");
        let before_exec = |pid: i32| {
            assert!(!mark.exists());
            let link = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
            let own = std::fs::read_link("/proc/self/exe").unwrap();
            assert_eq!(link, own, "it is another program already");
            Ok(())
        };
        let mut child = spawn_after(touch(), Some(before_exec)).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(mark.exists());
        let missing = spawn_after(Command::new("/nonexistent"), Some(|_| Ok(()))).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn numbers_are_written_without_allocating() {
        for number in [1, 9, 10, 4711, i32::MAX] {
            assert_eq!(
                decimal(number, &mut [0; 12]),
                format!("{number}\n").as_bytes()
            );
        }
    }

    #[test]
    fn a_pidfd_reaches_its_process_and_no_other() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let handle = PidFd::open(pid).unwrap().unwrap();
        assert!(!handle.has_ended(Duration::ZERO).unwrap());
        handle.signal(Signal::SIGKILL).unwrap();
        assert!(
            handle.has_ended(Duration::from_secs(20)).unwrap(),
            "a zombie has ended"
        );
        child.wait().unwrap();
        handle.signal(Signal::SIGKILL).unwrap();
        assert!(PidFd::open(pid).unwrap().is_none());
    }

    #[test]
    fn a_start_that_nobody_can_watch_over_is_not_made() {
        const NAME: &str = "sys::tests::a_start_that_nobody_can_watch_over_is_not_made";
        // no thread can have such a stack; it holds for a whole process, so that is another one
        let stack = (usize::MAX / 2).to_string();
        if std::env::var("RUST_MIN_STACK").is_ok_and(|set| set == stack) {
            let plan = in_directory(c"/");
            let (step, error) = spawn_detached(plan, UNHINDERED, LIMIT).unwrap_err();
            assert_eq!((step, error.kind()), (Step::Exec, ErrorKind::WouldBlock));
            return;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--test-threads=1"])
            .env("RUST_MIN_STACK", stack)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}"
        );
    }

    #[test]
    fn a_failed_step_is_named() {
        let plan = in_directory(c"/nonexistent");
        let (step, error) = spawn_detached(plan.clone(), UNHINDERED, LIMIT).unwrap_err();
        assert_eq!(
            (step, error.kind()),
            (Step::WorkingDir, io::ErrorKind::NotFound)
        );
        let plan = Detached {
            working_dir: c"/".to_owned(),
            stderr: Some(target(c"/nonexistent/err.log", false)),
            ..plan
        };
        let (step, _) = spawn_detached(plan.clone(), UNHINDERED, LIMIT).unwrap_err();
        assert_eq!(step, Step::Stderr);
        // what is in a shared directory and not one's own file
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let c = |name: &str| CString::new(at(name).to_str().unwrap()).unwrap();
        std::fs::write(at("file"), "mine").unwrap();
        std::fs::hard_link(at("file"), at("second")).unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _reader = std::fs::File::options()
            .read(true)
            .write(true)
            .open(at("fifo"))
            .unwrap();
        for (name, own_only, refused) in [
            ("new", true, false),
            ("second", true, true),
            ("link", true, true),
            ("fifo", true, true),
            ("link", false, false),
            ("fifo", false, false),
        ] {
            let plan = Detached {
                working_dir: c"/".to_owned(),
                stderr: Some(target(&c(name), own_only)),
                ..plan.clone()
            };
            let spawned = spawn_detached(plan, UNHINDERED, LIMIT);
            assert_eq!(spawned.is_err(), refused, "{name} {own_only}");
            if let Ok(mut child) = spawned {
                child.wait().unwrap();
            }
        }
        for name in ["link", "fifo"] {
            let plan = Detached {
                working_dir: c"/".to_owned(),
                stderr: None,
                pid_file: Some(target(&c(name), false)),
                ..plan.clone()
            };
            let (step, _) = spawn_detached(plan, UNHINDERED, LIMIT).unwrap_err();
            assert_eq!(step, Step::PidFile, "{name}");
        }
        assert_eq!(std::fs::read(at("file")).unwrap(), b"mine");
    }
}
