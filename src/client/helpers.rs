//! Threads for what blocks without a limit: the resolver, the path of a unix socket, files of certificates.
//!
//! They are never waited for. One that hangs is left behind, and ends with the process.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket};

use super::Fault;
use super::connection::stream;
use super::errno::{is_shortage, unix_fault};
use super::tls::Trust;

/// The most threads of each kind, hung ones included: for names, and for what is local. Names that do not resolve must
/// not delay unix sockets and certificates.
const MOST: [usize; 2] = [64, 16];

/// Another thread is added where work is still waiting after so long.
pub(super) const STALL: Duration = Duration::from_millis(20);

/// Less than the default, since there may be many, and enough for the plugins of a resolver.
const STACK: usize = 512 << 10;

/// Something that may block.
#[derive(Debug)]
pub(super) enum Job {
    /// The addresses of a name.
    Resolve(String),
    /// Whom to trust, with a file of further authorities.
    Trust(Option<PathBuf>),
    /// A connection to a unix socket, for the conversation of this number.
    Unix(usize, PathBuf),
}

impl Job {
    /// Which kind of threads does it.
    fn kind(&self) -> usize {
        match self {
            Self::Resolve(_) => 0,
            Self::Trust(_) | Self::Unix(..) => 1,
        }
    }
}

/// What came of a job.
#[derive(Debug)]
pub(super) enum Done {
    Resolved(String, Result<Vec<SocketAddr>, String>),
    Trust(Option<PathBuf>, Result<Arc<Trust>, String>),
    Unix(usize, Result<Socket, Unconnected>),
}

/// Why there is no connection to a unix socket.
#[derive(Debug)]
pub(super) enum Unconnected {
    /// As many wait to be accepted as the listener allows.
    Full,
    /// There was no descriptor, or no memory for one.
    NoDescriptor,
    /// It failed.
    Failed(Fault<Infallible>),
}

/// The helper threads of one loop.
pub(super) struct Helpers {
    workers: [Workers; 2],
    wake: Arc<UnixStream>,
    results: Receiver<Done>,
    sender: Sender<Done>,
    woken: UnixStream,
}

/// The threads of one kind.
#[derive(Default)]
struct Workers {
    shared: Arc<Mutex<Work>>,
    added_at: Option<Instant>,
}

#[derive(Default)]
struct Work {
    queue: VecDeque<Job>,
    /// Hung ones included.
    threads: usize,
}

impl Helpers {
    /// None yet: the first is made for the first job.
    pub(super) fn new() -> io::Result<Self> {
        let (woken, wake) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let (sender, results) = channel();
        Ok(Self {
            workers: Default::default(),
            wake: Arc::new(wake),
            results,
            sender,
            woken,
        })
    }

    /// Takes a job into the queue.
    pub(super) fn push(&mut self, job: Job) {
        lock(&self.workers[job.kind()].shared).queue.push_back(job);
    }

    /// Adds threads where work is waiting and none was added of late. Whether there is work that waits still for one.
    pub(super) fn add_threads(&mut self, now: Instant) -> io::Result<bool> {
        let mut is_waiting = false;
        for (kind, most) in self.workers.iter_mut().zip(MOST) {
            let mut work = lock(&kind.shared);
            if work.queue.is_empty() || work.threads >= most {
                continue;
            }
            is_waiting = true;
            let is_late = |at| now.saturating_duration_since(at) >= STALL;
            if work.threads > 0 && !kind.added_at.is_none_or(is_late) {
                continue;
            }
            kind.added_at = Some(now);
            let (shared, wake, sender) = (
                Arc::clone(&kind.shared),
                Arc::clone(&self.wake),
                self.sender.clone(),
            );
            let made = thread::Builder::new()
                .name("helper".to_owned())
                .stack_size(STACK)
                .spawn(move || serve(&shared, &sender, &wake));
            match made {
                Ok(_) => work.threads += 1,
                // those that there are may still come to it
                Err(_) if work.threads > 0 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(is_waiting)
    }

    /// What is done by now.
    pub(super) fn done(&mut self) -> Vec<Done> {
        let mut bytes = [0; 64];
        while matches!((&self.woken).read(&mut bytes), Ok(length) if length > 0) {}
        self.results.try_iter().collect()
    }

    /// What becomes readable when something is done.
    pub(super) fn woken(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        // the results would not be used
        for kind in &self.workers {
            lock(&kind.shared).queue.clear();
        }
    }
}

fn lock(work: &Mutex<Work>) -> MutexGuard<'_, Work> {
    work.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next job; a thread that finds none ends, and is counted no more.
fn next(work: &Mutex<Work>) -> Option<Job> {
    let mut work = lock(work);
    let job = work.queue.pop_front();
    if job.is_none() {
        work.threads -= 1;
    }
    job
}

fn serve(work: &Mutex<Work>, sender: &Sender<Done>, mut wake: &UnixStream) {
    while let Some(job) = next(work) {
        let done = match job {
            Job::Resolve(name) => {
                let addresses = resolve(&name);
                Done::Resolved(name, addresses)
            }
            Job::Trust(ca_file) => {
                let trust = Trust::load(ca_file.as_deref(), "ca_file").map(Arc::new);
                Done::Trust(ca_file, trust)
            }
            Job::Unix(number, path) => Done::Unix(number, connect(&path)),
        };
        if sender.send(done).is_err() {
            return;
        }
        // where it is full there is a byte to be read already
        let _ = wake.write(&[0]);
    }
}

fn resolve(name: &str) -> Result<Vec<SocketAddr>, String> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    let found = (name, 0).to_socket_addrs().map_err(|error| {
        let text = error.to_string();
        text.rsplit(": ").next().unwrap_or(&text).to_lowercase()
    })?;
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

fn connect(path: &Path) -> Result<Socket, Unconnected> {
    let connected = stream(Domain::UNIX)
        .and_then(|socket| socket.connect(&SockAddr::unix(path)?).map(|()| socket));
    connected.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Unconnected::Full,
        _ if is_shortage(&error) => Unconnected::NoDescriptor,
        _ => Unconnected::Failed(unix_fault(&error, path)),
    })
}
