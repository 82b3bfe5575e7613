//! One connection: made without blocking, protected where wanted, and driven as far as it gets whenever its socket is
//! ready.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

use nix::poll::PollFlags;
use rustls::ClientConnection;
use socket2::{Domain, SockAddr, Socket, Type};

use super::errno::{fault, is_shortage};
use super::tls::{self, Trust};
use super::{ANSWER_LIMIT, End, Failure, Fault, Rule, Step};

/// Of an answer that is not as expected, so many bytes are kept.
pub(super) const KEPT: usize = 100;

/// The size of one read of an answer. There is one read a round, so that a flood from one server delays no other probe.
const READ: usize = 16 << 10;

/// An answer is searched no more often than this, or when it has doubled: searching it after each byte would take the
/// square of its length.
const SEARCH_EVERY: Duration = Duration::from_millis(20);

/// Rounds of a TLS session before others have their turn.
const TLS_ROUNDS: usize = 8;

/// A connection under way.
pub(super) struct Connection {
    socket: Socket,
    place: String,
    step: Step,
    began: Instant,
    session: Option<(Box<ClientConnection>, String)>,
    /// How much of `send` the socket, or the session, has taken.
    sent: usize,
    answer: Vec<u8>,
    is_closed: bool,
    searched: usize,
    searched_at: Option<Instant>,
    is_due: bool,
}

/// How a connection stands.
pub(super) enum Progress {
    /// It waits for the other side.
    Waiting,
    /// All was as expected.
    Passed(Option<SystemTime>),
    /// It failed.
    Failed(Fault),
}

/// Why a connection was not even begun.
pub(super) enum Unbegun {
    /// There was no descriptor, or no memory for one.
    NoDescriptor,
    /// It failed at once.
    Failed(Failure),
}

impl Connection {
    /// Begins a connection to an IP address.
    pub(super) fn begin(
        rule: &Rule,
        trust: Option<&Trust>,
        address: SocketAddr,
        now: Instant,
    ) -> Result<Self, Unbegun> {
        let place = match &rule.address {
            super::Address::Name { .. } => address.ip().to_string(),
            other => other.to_string(),
        };
        let begun = stream(Domain::for_address(address)).and_then(|socket| {
            match socket.connect(&SockAddr::from(address)) {
                Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
                _ => Ok(socket),
            }
        });
        let socket = match begun {
            Ok(socket) => socket,
            Err(error) if is_shortage(&error) => return Err(Unbegun::NoDescriptor),
            Err(error) => {
                let fault = fault(&error, Step::Connect, Duration::ZERO);
                return Err(Unbegun::Failed(Failure { place, fault }));
            }
        };
        Self::with(rule, trust, socket, place, now).map_err(Unbegun::Failed)
    }

    /// Goes on with a unix socket that is connected.
    pub(super) fn of_unix(
        rule: &Rule,
        trust: Option<&Trust>,
        socket: Socket,
        now: Instant,
    ) -> Result<Self, Failure> {
        Self::with(rule, trust, socket, rule.address.to_string(), now)
    }

    fn with(
        rule: &Rule,
        trust: Option<&Trust>,
        socket: Socket,
        place: String,
        now: Instant,
    ) -> Result<Self, Failure> {
        let session = match (trust, rule.server_name()) {
            (Some(trust), name) => {
                let name = name.unwrap_or_default();
                match trust.session(&name) {
                    Ok(session) => Some((Box::new(session), name)),
                    Err(text) => {
                        let fault = Fault::Unreadable(text);
                        return Err(Failure { place, fault });
                    }
                }
            }
            (None, _) => None,
        };
        Ok(Self {
            socket,
            place,
            step: Step::Connect,
            began: now,
            session,
            sent: 0,
            answer: Vec::new(),
            is_closed: false,
            searched: 0,
            searched_at: None,
            is_due: false,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn is_connected(&self) -> bool {
        self.step != Step::Connect
    }

    /// What it waits for.
    pub(super) fn events(&self, rule: &Rule) -> PollFlags {
        match (self.step, &self.session) {
            (Step::Connect, _) => PollFlags::POLLOUT,
            (_, Some((session, _))) if session.wants_write() => {
                PollFlags::POLLIN | PollFlags::POLLOUT
            }
            (Step::Answer, None) if self.sent < to_send(rule).len() => {
                PollFlags::POLLIN | PollFlags::POLLOUT
            }
            _ => PollFlags::POLLIN,
        }
    }

    /// When it wants to be driven though nothing arrived.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.is_due
            .then(|| self.searched_at.map(|at| at + SEARCH_EVERY))
            .flatten()
    }

    /// Drives it as far as it gets.
    pub(super) fn drive(&mut self, rule: &Rule, trust: Option<&Trust>, now: Instant) -> Progress {
        match self.advance(rule, trust, now) {
            Ok(progress) => progress,
            Err(fault) => Progress::Failed(fault),
        }
    }

    fn advance(
        &mut self,
        rule: &Rule,
        trust: Option<&Trust>,
        now: Instant,
    ) -> Result<Progress, Fault> {
        if self.step == Step::Connect {
            self.finish_connecting(now)?;
        }
        if self.session.is_some() {
            self.drive_session(now)?;
            if self.step == Step::Handshake {
                return Ok(Progress::Waiting);
            }
        }
        self.send(rule, now)?;
        let Some(expect) = &rule.expect else {
            let flushed = (self.session.as_ref()).is_none_or(|(session, _)| !session.wants_write());
            if self.sent == to_send(rule).len() && flushed {
                return Ok(self.passed(trust));
            }
            // without `expect` the answer is dropped, but it must be read: else the server may not read the rest of `send`
            self.receive(now)?;
            self.answer.clear();
            return if self.is_closed {
                Err(Fault::HungUp(self.step))
            } else {
                Ok(Progress::Waiting)
            };
        };
        let received = self.receive(now);
        let grown = self.answer.len() > self.searched;
        let is_last = self.is_closed || self.answer.len() == ANSWER_LIMIT || received.is_err();
        let rested = (self.searched_at).is_none_or(|at| now >= at + SEARCH_EVERY);
        let doubled = self.answer.len() >= 2 * self.searched;
        self.is_due = grown;
        if is_last || grown && (rested || doubled) {
            self.is_due = false;
            self.searched = self.answer.len();
            self.searched_at = Some(now);
            if expect.matches(&self.answer) {
                return Ok(self.passed(trust));
            }
        }
        received?;
        if self.is_closed {
            return Err(self.unexpected(End::Closed));
        }
        if self.answer.len() == ANSWER_LIMIT {
            return Err(self.unexpected(End::Limit));
        }
        Ok(Progress::Waiting)
    }

    /// What it comes to when its time is over.
    pub(super) fn time_out(
        mut self,
        rule: &Rule,
        trust: Option<&Trust>,
        after: Duration,
    ) -> Progress {
        if self.is_due
            && rule
                .expect
                .as_ref()
                .is_some_and(|e| e.matches(&self.answer))
        {
            return self.passed(trust);
        }
        Progress::Failed(if self.answer.is_empty() {
            let step = self.step;
            Fault::TimedOut { step, after }
        } else {
            self.unexpected(End::Timeout(after))
        })
    }

    fn finish_connecting(&mut self, now: Instant) -> Result<(), Fault> {
        let elapsed = now.saturating_duration_since(self.began);
        let error = self.socket.take_error();
        if let Some(error) = error.unwrap_or_else(Some) {
            return Err(fault(&error, Step::Connect, elapsed));
        }
        if let (Ok(here), Ok(there)) = (self.socket.local_addr(), self.socket.peer_addr())
            && here == there
            && here.as_socket().is_some()
        {
            // the kernel chose the probed port as the local one and connected the socket with itself: nothing listens
            return Err(Fault::Refused);
        }
        self.step = match self.session {
            Some(_) => Step::Handshake,
            None => Step::Answer,
        };
        Ok(())
    }

    fn drive_session(&mut self, now: Instant) -> Result<(), Fault> {
        let elapsed = now.saturating_duration_since(self.began);
        let Some((session, name)) = &mut self.session else {
            return Ok(());
        };
        let mut wire = Wire(&self.socket);
        for _ in 0..TLS_ROUNDS {
            let mut moved = false;
            while session.wants_write() {
                match session.write_tls(&mut wire) {
                    Ok(length) if length > 0 => moved = true,
                    // after an error of a write the read below tells why: an alert, or the end of the stream
                    _ => break,
                }
            }
            if session.wants_read() && !self.is_closed {
                match session.read_tls(&mut wire) {
                    Ok(0) => self.is_closed = true,
                    Ok(_) => moved = true,
                    Err(error) if is_nothing(&error) => {}
                    Err(error) => return Err(fault(&error, self.step, elapsed)),
                }
                if let Err(error) = session.process_new_packets() {
                    // the alert that says why; whether it arrives does not matter
                    let _ = session.write_tls(&mut wire);
                    return Err(tls::fault(&error, name));
                }
            }
            if !moved {
                break;
            }
        }
        if self.step == Step::Handshake {
            if !session.is_handshaking() {
                self.step = Step::Answer;
            } else if self.is_closed {
                return Err(Fault::HungUp(Step::Handshake));
            }
        }
        Ok(())
    }

    fn send(&mut self, rule: &Rule, now: Instant) -> Result<(), Fault> {
        let bytes = to_send(rule);
        if self.session.is_some() {
            if self.sent < bytes.len()
                && let Some((session, _)) = &mut self.session
            {
                // without a limit it takes all
                let _ = session.writer().write_all(bytes);
                self.sent = bytes.len();
                return self.drive_session(now);
            }
            return Ok(());
        }
        while self.sent < bytes.len() {
            match Wire(&self.socket).write(&bytes[self.sent..]) {
                Ok(length) => self.sent += length,
                Err(error) if is_nothing(&error) => break,
                // it may have answered before it closed
                Err(_) if rule.expect.is_some() => self.sent = bytes.len(),
                Err(error) => {
                    let elapsed = now.saturating_duration_since(self.began);
                    return Err(fault(&error, Step::Answer, elapsed));
                }
            }
        }
        Ok(())
    }

    /// Reads what arrived: once from a socket, and until it is empty from a session, since poll knows nothing of what a
    /// session has buffered.
    fn receive(&mut self, now: Instant) -> Result<(), Fault> {
        let mut bytes = [0; READ];
        loop {
            let room = READ.min(ANSWER_LIMIT - self.answer.len());
            if room == 0 {
                return Ok(());
            }
            let bytes = &mut bytes[..room];
            let read = match &mut self.session {
                Some((session, _)) => match session.reader().read(bytes) {
                    // closed without close_notify, as many servers do
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
                    read => read,
                },
                None => Wire(&self.socket).read(bytes),
            };
            match read {
                Ok(0) => self.is_closed = true,
                Ok(length) => {
                    self.answer.extend_from_slice(&bytes[..length]);
                    if self.session.is_some() {
                        continue;
                    }
                }
                Err(error) if is_nothing(&error) => {}
                Err(error) => {
                    let elapsed = now.saturating_duration_since(self.began);
                    return Err(fault(&error, Step::Answer, elapsed));
                }
            }
            return Ok(());
        }
    }

    fn passed(&mut self, trust: Option<&Trust>) -> Progress {
        let mut ends = None;
        if let (Some((session, name)), Some(trust)) = (&mut self.session, trust) {
            ends = trust.ends_soon(session, name);
            // close_notify, so that the server logs no broken session; whether it arrives does not matter
            session.send_close_notify();
            let _ = session.write_tls(&mut Wire(&self.socket));
        }
        Progress::Passed(ends)
    }

    fn unexpected(&self, end: End) -> Fault {
        Fault::Unexpected {
            first: self.answer[..self.answer.len().min(KEPT)].to_vec(),
            length: self.answer.len(),
            end,
        }
    }
}

/// A stream socket that never blocks.
pub(super) fn stream(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A socket as TLS wants it. A broken connection is an error and no signal.
struct Wire<'a>(&'a Socket);

impl Read for Wire<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut socket = self.0;
        socket.read(bytes)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_with_flags(bytes, libc::MSG_NOSIGNAL)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn to_send(rule: &Rule) -> &[u8] {
    rule.send.as_deref().unwrap_or_default()
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
