//! What was seen of processes: the facts, as values.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::call::Call;
use super::sockets::Socket;

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The main process first.
    pub(super) processes: Vec<Process>,
    /// Further ones that were not looked at.
    pub(super) left_out: usize,
    /// What could not be read, as sentences.
    pub(super) troubles: Vec<String>,
    /// File systems that are full, or nearly.
    pub(super) full: Vec<FullDisk>,
}

/// What was seen of one process.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    /// Its name, as the kernel has it.
    pub(super) name: String,
    /// The letter of its state.
    pub(super) state: char,
    /// For how long it has run.
    pub(super) age: Option<Duration>,
    /// The processor time that it has used.
    pub(super) cpu: Duration,
    /// Its resident memory, in bytes.
    pub(super) resident: u64,
    pub(super) threads: Threads,
    pub(super) files: Files,
    /// Lines of `/proc/PID/status`, `limits` and `cgroup`.
    pub(super) tables: Vec<(&'static str, Vec<String>)>,
    /// What only its memory tells.
    pub(super) memory: Memory,
}

/// The threads of a process.
#[derive(Clone, Debug, Default)]
pub(super) struct Threads {
    /// How many there are.
    pub(super) count: usize,
    /// Those that were looked at.
    pub(super) each: Vec<Thread>,
    /// For how long their processor time was watched.
    pub(super) watched: Duration,
    /// Why what they wait in could not be read.
    pub(super) unreadable: Option<String>,
}

/// One thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Thread {
    pub(super) tid: i32,
    pub(super) name: String,
    pub(super) state: char,
    /// The function of the kernel that it waits in.
    pub(super) channel: Option<String>,
    pub(super) call: Call,
    /// The processor time that it has used since it began.
    pub(super) cpu: Duration,
    /// The same while it was watched.
    pub(super) used: Option<Duration>,
    /// For how long it was ready to run since it began, and had no processor.
    pub(super) delayed: Duration,
    /// The same while it was watched.
    pub(super) waited: Duration,
    /// Its stack in the kernel.
    pub(super) stack: Option<Vec<String>>,
}

impl Thread {
    /// Whether it waits for a lock or another thread. Where its call cannot be read, where it waits tells.
    pub(super) fn waits_for_lock(&self) -> bool {
        match self.call {
            Call::Unknown => self
                .channel
                .as_ref()
                .is_some_and(|it| it.starts_with("futex_")),
            _ => self.call.waits() == Some(super::call::Wait::Lock),
        }
    }
}

/// The files that a process has open.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    /// How many, where that is known.
    pub(super) count: Option<u64>,
    /// Those that were looked at, by their descriptors.
    pub(super) each: BTreeMap<u64, OpenFile>,
    /// Its sockets among them, by their inodes.
    pub(super) sockets: BTreeMap<u64, Socket>,
    /// Why they could not be read.
    pub(super) unreadable: Option<String>,
}

impl Files {
    /// What a descriptor is, for people.
    pub(super) fn describe(&self, fd: u64) -> String {
        match self.each.get(&fd) {
            Some(file) => match file.socket().and_then(|inode| self.sockets.get(&inode)) {
                Some(socket) => socket.describe(),
                None => file.shown(),
            },
            None => "not readable".to_owned(),
        }
    }
}

/// An open file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OpenFile {
    /// What its link says: a path, `socket:[7]`, `pipe:[8]`.
    pub(super) target: PathBuf,
    /// Whether it is open for writing, where that was looked at.
    pub(super) is_written: bool,
}

impl OpenFile {
    /// The inode of the socket that it is.
    pub(super) fn socket(&self) -> Option<u64> {
        let text = self.target.to_str()?;
        text.strip_prefix("socket:[")?
            .strip_suffix(']')?
            .parse()
            .ok()
    }

    /// Whether it is a file of a file system.
    pub(super) fn is_path(&self) -> bool {
        self.target.is_absolute()
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        crate::text::cut(&crate::text::visible_path(&self.target), 300)
    }
}

/// What can be read only through the memory of a process.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    pub(super) command_line: Option<String>,
    pub(super) program: Option<String>,
    pub(super) working_dir: Option<String>,
    /// The names of its variables, and no values.
    pub(super) variables: Option<Vec<String>>,
}

/// A file system on which nothing more can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FullDisk {
    /// A file on it that is written.
    pub(super) file: String,
    /// Who writes it: `fd 3 of PID 4711`, `its log`.
    pub(super) whose: String,
    /// The bytes that are left for ordinary users.
    pub(super) left: u64,
    /// The bytes that it has.
    pub(super) size: u64,
    /// It has no inodes left.
    pub(super) no_inodes: bool,
}
