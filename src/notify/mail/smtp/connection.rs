//! A connection to a mail server: looked up, made, and each read and write of it within one deadline.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::timed::{Timed, is_timeout, left};
use super::{Message, SHOWN, Shared, Smtp, Step, at, host, lock, no_answer, tls};
use crate::text::{cut, plain, visible};

/// Connects to the first address of the host that answers.
pub(super) fn connect(
    smtp: &Smtp,
    deadline: Instant,
    shared: &Shared,
    say: &mpsc::Sender<Message>,
) -> Result<Timed, String> {
    lock(shared).step = Step::Lookup;
    let host = host(smtp);
    let addresses: Vec<SocketAddr> = (host, smtp.port)
        .to_socket_addrs()
        .map_err(|error| {
            let reason = plain(&error);
            let reason = reason
                .rsplit(": ")
                .next()
                .unwrap_or_default()
                .to_lowercase();
            format!(
                "{}: the host name cannot be looked up: {reason}; check [mail] host",
                at(smtp)
            )
        })?
        .collect();
    let ips: Vec<String> = addresses.iter().map(|a| a.ip().to_string()).collect();
    let found = format!("{} is at {}", visible(host), cut(&ips.join(", "), SHOWN));
    let _ = say.send(Message::Step(found));
    lock(shared).step = Step::Connect;
    let mut last = None;
    for (index, address) in addresses.iter().enumerate() {
        // a dead address must not eat the time of those behind it
        let share = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let tried =
            left(deadline).and_then(|left| TcpStream::connect_timeout(address, left / share));
        match tried {
            Ok(stream) => {
                // commands are small and each waits for its answer
                let _ = stream.set_nodelay(true);
                let _ = say.send(Message::Step(format!("connected to {address}")));
                return Ok(Timed { stream, deadline });
            }
            Err(error) => last = Some((*address, error)),
        }
    }
    Err(match last {
        None => format!(
            "{}: the host name cannot be looked up: no address; check [mail] host",
            at(smtp)
        ),
        Some((_, error)) if is_timeout(&error) => no_answer(smtp, Step::Connect),
        Some((address, error)) => {
            let hint = match error.kind() {
                ErrorKind::ConnectionRefused => {
                    "; is a mail server running there, and is the port right"
                }
                ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => "; is the network up",
                _ => "",
            };
            format!(
                "{}: cannot connect to {}: {}{hint}",
                at(smtp),
                address.ip(),
                plain(&error)
            )
        }
    })
}

/// A connection, protected or not.
pub(super) enum Channel {
    Plain(Timed),
    Tls(Box<tls::Stream>),
}

impl Channel {
    /// Leaves it no more time than this.
    pub(super) fn hurry(&mut self, left: Duration) {
        let timed = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &mut stream.sock,
        };
        timed.deadline = timed.deadline.min(Instant::now() + left);
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
}
