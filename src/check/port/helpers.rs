//! Threads for what blocks without a limit: the resolver, the path of a unix socket, files of certificates.
//!
//! They are never waited for. One that hangs is left behind, and ends with the process.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket};

use super::Fault;
use super::connection::{is_shortage, stream, unix_fault};
use super::tls::Trust;

/// Threads at the most, hung ones included.
const MOST: usize = 32;

/// Another thread is added where work is still waiting after so long.
pub(super) const STALL: Duration = Duration::from_millis(20);

/// What a resolver and its plugins need is about a third of it.
const STACK: usize = 256 << 10;

/// Something that may block.
#[derive(Debug)]
pub(super) enum Job {
    /// The addresses of a name.
    Resolve(String),
    /// Whom to trust, with a file of further authorities.
    Trust(Option<PathBuf>),
    /// A connection to a unix socket, for the probe of this number.
    Unix(usize, PathBuf),
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
    Failed(Fault),
}

/// The helper threads of one look.
pub(super) struct Helpers {
    shared: Arc<Shared>,
    results: Receiver<Done>,
    sender: Sender<Done>,
    woken: UnixStream,
    hired_at: Option<Instant>,
}

struct Shared {
    queue: Mutex<VecDeque<Job>>,
    threads: AtomicUsize,
    wake: UnixStream,
}

impl Helpers {
    /// None yet: the first is made for the first job.
    pub(super) fn new() -> io::Result<Self> {
        let (woken, wake) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let (sender, results) = channel();
        Ok(Self {
            shared: Arc::new(Shared {
                queue: Mutex::default(),
                threads: AtomicUsize::new(0),
                wake,
            }),
            results,
            sender,
            woken,
            hired_at: None,
        })
    }

    /// Takes a job into the queue.
    pub(super) fn give(&mut self, job: Job) {
        queue(&self.shared).push_back(job);
    }

    /// Adds a thread where work is waiting and none was added of late. Whether there is work that waits still for one.
    pub(super) fn staff(&mut self, now: Instant) -> io::Result<bool> {
        if queue(&self.shared).is_empty() {
            return Ok(false);
        }
        let threads = self.shared.threads.load(Ordering::SeqCst);
        let lately = self
            .hired_at
            .is_some_and(|at| now.saturating_duration_since(at) < STALL);
        if threads >= MOST || (threads > 0 && lately) {
            return Ok(threads < MOST);
        }
        self.hired_at = Some(now);
        let shared = Arc::clone(&self.shared);
        let sender = self.sender.clone();
        self.shared.threads.fetch_add(1, Ordering::SeqCst);
        let made = thread::Builder::new()
            .name("port helper".to_owned())
            .stack_size(STACK)
            .spawn(move || work(&shared, &sender));
        if let Err(error) = made {
            let left = self.shared.threads.fetch_sub(1, Ordering::SeqCst);
            // those that there are may still come to it
            return if left > 1 { Ok(true) } else { Err(error) };
        }
        Ok(true)
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
        // nobody waits for it any more
        queue(&self.shared).clear();
    }
}

fn queue(shared: &Shared) -> MutexGuard<'_, VecDeque<Job>> {
    shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(shared: &Shared, sender: &Sender<Done>) {
    loop {
        let job = {
            let mut queue = queue(shared);
            let job = queue.pop_front();
            if job.is_none() {
                // under the lock of the queue: a job that comes later finds one thread less
                shared.threads.fetch_sub(1, Ordering::SeqCst);
            }
            job
        };
        let done = match job {
            Some(Job::Resolve(name)) => {
                let addresses = resolve(&name);
                Done::Resolved(name, addresses)
            }
            Some(Job::Trust(ca_file)) => {
                let trust = Trust::load(ca_file.as_deref()).map(Arc::new);
                Done::Trust(ca_file, trust)
            }
            Some(Job::Unix(number, path)) => Done::Unix(number, connect(&path)),
            None => return,
        };
        if sender.send(done).is_err() {
            return;
        }
        // where it is full there is a byte to be read already
        let _ = (&shared.wake).write(&[0]);
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
    if addresses.is_empty() {
        return Err("it has no address".to_owned());
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
