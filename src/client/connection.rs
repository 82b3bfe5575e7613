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
use super::tunnel::Opening;
use super::{Address, Exchange, Failure, Fault, Heard, Step, Target, Tunnel};

/// The size of one read of an answer. There is one read a round, so that a flood from one server delays no other.
const READ: usize = 16 << 10;

/// Rounds of a TLS session before others have their turn.
const TLS_ROUNDS: usize = 8;

/// A connection under way.
pub(super) struct Connection<E> {
    socket: Socket,
    place: String,
    step: Step,
    began: Instant,
    /// What is asked of a proxy before anybody else can be spoken to.
    opening: Option<Opening>,
    session: Option<(Box<ClientConnection>, String)>,
    exchange: E,
    is_closed: bool,
}

/// How a connection stands.
pub(super) enum Progress<E: Exchange> {
    /// It waits for the other side.
    Waiting,
    /// All was as it should be; and when the certificate ends, where that is soon.
    Passed(E::Answer, Option<SystemTime>),
    /// The conversation goes on with somebody else.
    Moved(E::Next),
    /// It failed.
    Failed(Fault<E::Wrong>),
}

/// Why a connection was not even begun.
pub(super) enum Unbegun<W> {
    /// There was no descriptor, or no memory for one.
    NoDescriptor,
    /// It failed at once.
    Failed(Failure<W>),
}

impl<E: Exchange> Connection<E> {
    /// Begins a connection to an IP address.
    pub(super) fn begin(
        target: &Target,
        trust: Option<&Trust>,
        exchange: E,
        address: SocketAddr,
        now: Instant,
    ) -> Result<Self, Unbegun<E::Wrong>> {
        let place = match &target.address {
            Address::Name { .. } => address.ip().to_string(),
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
        Self::with(target, trust, exchange, socket, place, now).map_err(Unbegun::Failed)
    }

    /// Goes on with a unix socket that is connected.
    pub(super) fn of_unix(
        target: &Target,
        trust: Option<&Trust>,
        exchange: E,
        socket: Socket,
        now: Instant,
    ) -> Result<Self, Failure<E::Wrong>> {
        let place = target.address.to_string();
        Self::with(target, trust, exchange, socket, place, now)
    }

    fn with(
        target: &Target,
        trust: Option<&Trust>,
        exchange: E,
        socket: Socket,
        place: String,
        now: Instant,
    ) -> Result<Self, Failure<E::Wrong>> {
        let session = match (trust, &target.tls) {
            (Some(trust), Some(protection)) => match trust.session(&protection.name) {
                Ok(session) => Some((Box::new(session), protection.name.clone())),
                Err(text) => {
                    let fault = Fault::Unreadable(text);
                    return Err(Failure { place, fault });
                }
            },
            _ => None,
        };
        Ok(Self {
            socket,
            place,
            step: Step::Connect,
            began: now,
            opening: target.tunnel.as_ref().map(Tunnel::begin),
            session,
            exchange,
            is_closed: false,
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
    pub(super) fn events(&self) -> PollFlags {
        match (self.step, &self.session) {
            (Step::Connect, _) => PollFlags::POLLOUT,
            (Step::Tunnel, _) if self.opening.as_ref().is_some_and(Opening::has_unsent) => {
                PollFlags::POLLIN | PollFlags::POLLOUT
            }
            (Step::Tunnel, _) => PollFlags::POLLIN,
            (_, Some((session, _))) if session.wants_write() => {
                PollFlags::POLLIN | PollFlags::POLLOUT
            }
            (Step::Answer, _) if !self.exchange.unsent().is_empty() => {
                PollFlags::POLLIN | PollFlags::POLLOUT
            }
            _ => PollFlags::POLLIN,
        }
    }

    /// When it wants to be driven though nothing arrived.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.exchange.wakes_at()
    }

    /// Drives it as far as it gets.
    pub(super) fn drive(&mut self, trust: Option<&Trust>, now: Instant) -> Progress<E> {
        match self.advance(now) {
            Ok(heard) => self.progress(heard, trust),
            Err(fault) => Progress::Failed(fault),
        }
    }

    fn advance(&mut self, now: Instant) -> Result<Heard<E>, Fault<E::Wrong>> {
        if self.step == Step::Connect {
            self.finish_connecting(now)?;
        }
        if self.step == Step::Tunnel && !self.open_tunnel(now)? {
            return Ok(Heard::Waiting);
        }
        if self.session.is_some() {
            self.drive_session(now)?;
            if self.step == Step::Handshake {
                return Ok(Heard::Waiting);
            }
        }
        self.send(now)?;
        let flushed = (self.session.as_ref()).is_none_or(|(session, _)| !session.wants_write());
        if flushed && self.exchange.unsent().is_empty() {
            match self.exchange.flushed() {
                Heard::Waiting => {}
                heard => return Ok(heard),
            }
        }
        self.receive(now)
    }

    fn progress(&mut self, heard: Heard<E>, trust: Option<&Trust>) -> Progress<E> {
        match heard {
            Heard::Waiting => Progress::Waiting,
            Heard::Passed(answer) => Progress::Passed(answer, self.part(trust)),
            Heard::Moved(next) => {
                self.part(None);
                Progress::Moved(next)
            }
            Heard::HungUp => Progress::Failed(Fault::HungUp(self.step)),
            Heard::Wrong(wrong) => Progress::Failed(Fault::Answer(wrong)),
        }
    }

    /// What it comes to when its time is over.
    pub(super) fn time_out(mut self, trust: Option<&Trust>, after: Duration) -> Progress<E> {
        let heard = match self.step {
            Step::Answer => self.exchange.time_out(after),
            Step::Connect | Step::Tunnel | Step::Handshake => None,
        };
        match heard {
            None | Some(Heard::Waiting) => {
                let step = self.step;
                Progress::Failed(Fault::TimedOut { step, after })
            }
            Some(heard) => self.progress(heard, trust),
        }
    }

    fn finish_connecting(&mut self, now: Instant) -> Result<(), Fault<E::Wrong>> {
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
        self.step = match self.opening {
            Some(_) => Step::Tunnel,
            None => self.after_tunnel(),
        };
        Ok(())
    }

    fn after_tunnel(&self) -> Step {
        match self.session {
            Some(_) => Step::Handshake,
            None => Step::Answer,
        }
    }

    /// Whether the way through the proxy is open.
    fn open_tunnel(&mut self, now: Instant) -> Result<bool, Fault<E::Wrong>> {
        let elapsed = now.saturating_duration_since(self.began);
        let socket = &self.socket;
        let is_open = match &mut self.opening {
            None => true,
            Some(opening) => opening.drive(
                |bytes| Wire(socket).write(bytes),
                |bytes| Wire(socket).read(bytes),
                |error| fault(error, Step::Tunnel, elapsed),
            )?,
        };
        if is_open {
            self.opening = None;
            self.step = self.after_tunnel();
        }
        Ok(is_open)
    }

    fn drive_session(&mut self, now: Instant) -> Result<(), Fault<E::Wrong>> {
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

    fn send(&mut self, now: Instant) -> Result<(), Fault<E::Wrong>> {
        if let Some((session, _)) = &mut self.session {
            let bytes = self.exchange.unsent();
            if bytes.is_empty() {
                return Ok(());
            }
            let length = bytes.len();
            // without a limit it takes all
            let _ = session.writer().write_all(bytes);
            self.exchange.sent(length);
            return self.drive_session(now);
        }
        while !self.exchange.unsent().is_empty() {
            match Wire(&self.socket).write(self.exchange.unsent()) {
                Ok(length) => self.exchange.sent(length),
                Err(error) if is_nothing(&error) => break,
                Err(error) if self.exchange.must_be_sent() => {
                    let elapsed = now.saturating_duration_since(self.began);
                    return Err(fault(&error, Step::Answer, elapsed));
                }
                // it may have answered before it closed
                Err(_) => {
                    let rest = self.exchange.unsent().len();
                    self.exchange.sent(rest);
                }
            }
        }
        Ok(())
    }

    /// Hands on what arrived: read once from a socket, and until it is empty from a session, since poll knows nothing of
    /// what a session has buffered.
    fn receive(&mut self, now: Instant) -> Result<Heard<E>, Fault<E::Wrong>> {
        let mut bytes = [0; READ];
        loop {
            let capacity = READ.min(self.exchange.capacity());
            let bytes = &mut bytes[..capacity];
            let read = match &mut self.session {
                _ if capacity == 0 => Ok(0),
                Some((session, _)) => match session.reader().read(bytes) {
                    // closed without close_notify, as many servers do
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
                    read => read,
                },
                None => Wire(&self.socket).read(bytes),
            };
            let length = match read {
                Ok(length) => length,
                Err(error) if is_nothing(&error) => {
                    return Ok(self.exchange.hear(&[], false, now));
                }
                Err(error) => {
                    // what arrived before may be enough
                    if let heard @ Heard::Passed(_) = self.exchange.cut_off(now) {
                        return Ok(heard);
                    }
                    let elapsed = now.saturating_duration_since(self.began);
                    return Err(fault(&error, Step::Answer, elapsed));
                }
            };
            let is_last = length == 0 && capacity > 0;
            self.is_closed |= is_last;
            let heard = self.exchange.hear(&bytes[..length], is_last, now);
            if is_last && matches!(heard, Heard::Waiting) {
                return Ok(Heard::HungUp);
            }
            if self.session.is_some() && length > 0 && matches!(heard, Heard::Waiting) {
                continue;
            }
            return Ok(heard);
        }
    }

    /// Ends a session, and tells when its certificate ends, where that is soon.
    fn part(&mut self, trust: Option<&Trust>) -> Option<SystemTime> {
        let (session, name) = self.session.as_mut()?;
        let ends = trust.and_then(|trust| trust.ends_soon(session, name));
        // close_notify, so that the server logs no broken session; whether it arrives does not matter
        session.send_close_notify();
        let _ = session.write_tls(&mut Wire(&self.socket));
        ends
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

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
