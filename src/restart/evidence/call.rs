//! System calls that a thread may wait in, by their numbers.

/// What a thread is in, by `/proc/PID/task/TID/syscall`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Call {
    /// That cannot be read.
    #[default]
    Unknown,
    /// It runs.
    Runs,
    /// It waits outside of any system call.
    Outside,
    /// It waits in this one.
    In {
        /// Its number on this machine.
        number: u64,
        /// Its name, where it is one that is known to wait.
        name: Option<&'static str>,
        /// Its first two arguments.
        arguments: [u64; 2],
    },
}

/// What a call waits for, as far as its name and arguments tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// A lock or another thread.
    Lock,
    /// Something to come from this descriptor.
    Read(u64),
    /// Something to be taken by this descriptor.
    Write(u64),
    /// The other side of this descriptor to accept.
    Connect(u64),
    /// A lock on the file of this descriptor.
    FileLock(u64),
    /// What was written to this descriptor to be on the disk.
    Sync(u64),
    /// Something to happen on any of several descriptors.
    Events,
}

/// `F_SETLKW` and `F_OFD_SETLKW` of fcntl(2).
const WAITING_LOCKS: [u64; 2] = [libc::F_SETLKW as u64, libc::F_OFD_SETLKW as u64];

impl Call {
    /// Reads `202 0x7f7a3c000b70 0x189 …`, `running` or `-1 0x7ffe… 0x7f…`.
    pub(super) fn parse(text: &str) -> Self {
        let mut words = text.split_ascii_whitespace();
        let number = match words.next() {
            Some("running") => return Self::Runs,
            Some("-1") => return Self::Outside,
            Some(word) => word.parse().ok(),
            None => None,
        };
        let hex = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
        let rest: Option<Vec<u64>> = words.map(hex).collect();
        match (number, rest.as_deref()) {
            (Some(number), Some(&[first, second, .., stack, _])) => Self::In {
                number,
                // a program of 32 bits has other numbers
                name: name(number).filter(|_| stack > u64::from(u32::MAX)),
                arguments: [first, second],
            },
            _ => Self::Unknown,
        }
    }

    /// What it waits for.
    pub(super) fn waits(&self) -> Option<Wait> {
        let Self::In {
            name: Some(name),
            arguments: [first, second],
            ..
        } = *self
        else {
            return None;
        };
        // a descriptor is an int, whatever the rest of the register has
        let fd = first & u64::from(u32::MAX);
        Some(match name {
            "futex" | "futex_waitv" => Wait::Lock,
            "read" | "readv" | "pread64" | "recvfrom" | "recvmsg" | "recvmmsg" => Wait::Read(fd),
            "write" | "writev" | "pwrite64" | "sendto" | "sendmsg" | "sendmmsg" => Wait::Write(fd),
            "connect" => Wait::Connect(fd),
            "flock" => Wait::FileLock(fd),
            "fcntl" if WAITING_LOCKS.contains(&second) => Wait::FileLock(fd),
            "fsync" | "fdatasync" => Wait::Sync(fd),
            "poll" | "ppoll" | "select" | "pselect6" | "epoll_wait" | "epoll_pwait"
            | "epoll_pwait2" => Wait::Events,
            _ => return None,
        })
    }

    /// `futex`, `system call 12`, `no system call`.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Unknown => "system call not readable".to_owned(),
            Self::Runs => "running".to_owned(),
            Self::Outside => "no system call".to_owned(),
            Self::In {
                name: Some(name), ..
            } => (*name).to_owned(),
            Self::In { number, .. } => format!("system call {number}"),
        }
    }
}

/// The calls of both machines.
const COMMON: &[(libc::c_long, &str)] = &[
    (libc::SYS_accept, "accept"),
    (libc::SYS_accept4, "accept4"),
    (libc::SYS_clock_nanosleep, "clock_nanosleep"),
    (libc::SYS_close, "close"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_epoll_pwait, "epoll_pwait"),
    (libc::SYS_epoll_pwait2, "epoll_pwait2"),
    (libc::SYS_fcntl, "fcntl"),
    (libc::SYS_fdatasync, "fdatasync"),
    (libc::SYS_flock, "flock"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_futex, "futex"),
    (libc::SYS_futex_waitv, "futex_waitv"),
    (libc::SYS_getdents64, "getdents64"),
    (libc::SYS_getrandom, "getrandom"),
    (libc::SYS_io_getevents, "io_getevents"),
    (libc::SYS_io_uring_enter, "io_uring_enter"),
    (libc::SYS_msgrcv, "msgrcv"),
    (libc::SYS_msgsnd, "msgsnd"),
    (libc::SYS_nanosleep, "nanosleep"),
    (libc::SYS_openat, "openat"),
    (libc::SYS_ppoll, "ppoll"),
    (libc::SYS_pread64, "pread64"),
    (libc::SYS_pselect6, "pselect6"),
    (libc::SYS_pwrite64, "pwrite64"),
    (libc::SYS_read, "read"),
    (libc::SYS_readv, "readv"),
    (libc::SYS_recvfrom, "recvfrom"),
    (libc::SYS_recvmmsg, "recvmmsg"),
    (libc::SYS_recvmsg, "recvmsg"),
    (libc::SYS_restart_syscall, "restart_syscall"),
    (libc::SYS_rt_sigsuspend, "rt_sigsuspend"),
    (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait"),
    (libc::SYS_sched_yield, "sched_yield"),
    (libc::SYS_semop, "semop"),
    (libc::SYS_semtimedop, "semtimedop"),
    (libc::SYS_sendmmsg, "sendmmsg"),
    (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_sendto, "sendto"),
    (libc::SYS_statx, "statx"),
    (libc::SYS_sync, "sync"),
    (libc::SYS_wait4, "wait4"),
    (libc::SYS_waitid, "waitid"),
    (libc::SYS_write, "write"),
    (libc::SYS_writev, "writev"),
];

/// Those that newer machines do without.
#[cfg(target_arch = "x86_64")]
const OLDER: &[(libc::c_long, &str)] = &[
    (libc::SYS_epoll_wait, "epoll_wait"),
    (libc::SYS_open, "open"),
    (libc::SYS_pause, "pause"),
    (libc::SYS_poll, "poll"),
    (libc::SYS_select, "select"),
    (libc::SYS_stat, "stat"),
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[(libc::c_long, &str)] = &[];

fn name(number: u64) -> Option<&'static str> {
    let mut known = COMMON.iter().chain(OLDER);
    let found = known.find(|(known, _)| u64::try_from(*known) == Ok(number));
    found.map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line as the kernel writes it.
    fn line(number: libc::c_long, first: u64, second: u64) -> String {
        format!("{number} {first:#x} {second:#x} 0x0 0x0 0x0 0x0 0x7ffee2682370 0x7f7a42ca3f16")
    }

    #[test]
    fn what_a_call_waits_for_is_told_by_its_name_and_arguments() {
        for (number, first, second, name, wait) in [
            (
                libc::SYS_futex,
                0x7f00_dead,
                0x189,
                "futex",
                Some(Wait::Lock),
            ),
            (libc::SYS_recvfrom, 4, 0, "recvfrom", Some(Wait::Read(4))),
            // the upper half of the register is whatever was in it
            (
                libc::SYS_read,
                0xffff_ffff_0000_0003,
                0,
                "read",
                Some(Wait::Read(3)),
            ),
            (libc::SYS_write, 1, 0, "write", Some(Wait::Write(1))),
            (libc::SYS_connect, 7, 0, "connect", Some(Wait::Connect(7))),
            (libc::SYS_flock, 9, 2, "flock", Some(Wait::FileLock(9))),
            (libc::SYS_fcntl, 9, 7, "fcntl", Some(Wait::FileLock(9))),
            (libc::SYS_fcntl, 9, 6, "fcntl", None),
            (libc::SYS_ppoll, 0x7f00, 1, "ppoll", Some(Wait::Events)),
            (libc::SYS_clock_nanosleep, 0, 0, "clock_nanosleep", None),
        ] {
            let call = Call::parse(&line(number, first, second));
            assert_eq!((call.describe().as_str(), call.waits()), (name, wait));
        }
    }

    #[test]
    fn what_is_no_call_is_none() {
        assert_eq!(Call::parse("running\n"), Call::Runs);
        assert_eq!(
            Call::parse("-1 0x7ffcfb5a2278 0x7f9843928929\n"),
            Call::Outside
        );
        for text in ["", "x", "202", "202 0x1", "202 1 2 3 4 5 6 7 8"] {
            assert_eq!(Call::parse(text), Call::Unknown, "{text}");
        }
        // 32 bits: 4 is write there, and stat here
        let narrow = Call::parse("4 0x3 0x1 0x0 0x0 0x0 0x0 0xffb5a278 0xf7f28929");
        assert_eq!(
            (narrow.describe().as_str(), narrow.waits()),
            ("system call 4", None)
        );
    }
}
