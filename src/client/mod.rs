//! Conversations with others over sockets, as many as there are side by side in one thread.
//!
//! What it promises, whatever the other side does:
//!
//! - One deadline holds for all of a conversation: the name, the connection, TLS, what is sent and what is answered.
//! - A thousand silent addresses take as long as one. All conversations share one poll(2) loop; what blocks without a
//!   limit (the resolver, the path of a unix socket, files of certificates) is done in a bounded number of helper threads
//!   that are given up at the deadline.
//! - Descriptors are bounded, for all loops of the program together; where there are too few, conversations wait for
//!   one another.
//! - What could not be asked is told apart from what failed: silence of the other side is a failure, a missing route,
//!   right, descriptor, name or processor is not.
//!
//! What is said is not known here: a [`Talk`] says whom to connect to, and makes an [`Exchange`] for each connection.
//! Nothing here decides, restarts or reports anything.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

mod address;
pub mod alertmanager;
mod connection;
pub mod engine;
mod errno;
mod helpers;
pub mod http;
pub mod prometheus;
pub mod redis;
mod rounds;
mod sentences;
mod talk;
#[cfg(test)]
mod tests;
pub mod tls;
mod tunnel;

pub use self::address::Address;
pub use self::rounds::{Descriptors, converse};
pub use self::sentences::{failed, sentence};
pub use self::tunnel::Tunnel;

/// A certificate that ends sooner than this is reported.
pub const EXPIRY_WARNING: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Whom to talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub address: Address,
    /// What is asked there first, where that is a proxy on the way.
    pub tunnel: Option<Tunnel>,
    /// How that is protected, where it is.
    pub tls: Option<Protection>,
}

/// What a certificate has to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// The name that it must have.
    pub name: String,
    /// Authorities to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
}

/// A conversation to be had, with each address of a name until one has answered.
pub trait Talk: Sized {
    /// What is said over one connection.
    type Exchange: Exchange<Next = Self>;

    /// Whom to connect to.
    fn target(&self) -> &Target;

    /// What is said, from its beginning.
    fn begin(&self) -> Self::Exchange;

    /// Whether it may be said over one connection only: once there is one, no other address is tried.
    fn is_said_once(&self) -> bool {
        false
    }
}

/// What is said over one connection. It is given what arrives, and asked what to send; it never waits itself.
pub trait Exchange {
    /// What a conversation that ended well came to.
    type Answer;
    /// What may be wrong with an answer.
    type Wrong;
    /// A conversation to go on with in place of this one.
    type Next;

    /// What is to be sent and was not yet.
    fn unsent(&self) -> &[u8];

    /// So many bytes of that were taken.
    fn sent(&mut self, length: usize);

    /// Whether a connection that breaks while something is sent has failed. Where it has not, the other side may have
    /// answered before it broke.
    fn must_be_sent(&self) -> bool {
        false
    }

    /// All was sent, and is on its way.
    fn flushed(&mut self) -> Heard<Self> {
        Heard::Waiting
    }

    /// How many more bytes it can hold: so much is read at most.
    fn capacity(&self) -> usize;

    /// Takes what arrived, which may be nothing. `is_last` says that no more will come: the other side has closed the
    /// connection.
    fn hear(&mut self, bytes: &[u8], is_last: bool, now: Instant) -> Heard<Self>;

    /// The connection broke; where what was heard until then is not enough, that is the fault.
    fn cut_off(&mut self, now: Instant) -> Heard<Self> {
        self.hear(&[], true, now)
    }

    /// When it wants to be heard again though nothing arrives.
    fn wakes_at(&self) -> Option<Instant> {
        None
    }

    /// What it comes to when the time is over, after `limit`; none where nothing was heard.
    fn time_out(&mut self, limit: Duration) -> Option<Heard<Self>>;
}

/// What an exchange makes of what it has heard.
#[derive(Debug)]
pub enum Heard<E: Exchange + ?Sized> {
    /// There is more to be heard.
    Waiting,
    /// All was as it should be.
    Passed(E::Answer),
    /// The conversation goes on with somebody else.
    Moved(E::Next),
    /// The other side closed the connection too early.
    HungUp,
    /// The answer is wrong.
    Wrong(E::Wrong),
}

/// What a conversation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<A, W> {
    /// It was had.
    Passed {
        /// Its answer.
        answer: A,
        /// When the certificate ends, where that is within [`EXPIRY_WARNING`].
        certificate_ends: Option<SystemTime>,
        /// How long it took from its first connection on, without the time in which this side was busy with others.
        took: Duration,
    },
    /// Each address that was tried failed: one for an IP address or a unix socket, perhaps several for a name.
    Failed(Vec<Failure<W>>),
    /// It could not be had, and so says nothing about the other side. The text continues a sentence that begins with the
    /// address.
    NotAsked(String),
}

/// One address that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure<W> {
    /// The IP address or the path.
    pub place: String,
    /// What happened there.
    pub fault: Fault<W>,
}

/// What happened at an address. `W` is what may be wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault<W> {
    /// Nothing listens there.
    Refused,
    /// There is no file at the path of the unix socket.
    NoSocket,
    /// The file at the path is not a socket.
    NotASocket,
    /// The other side broke the connection off.
    Reset(Step),
    /// The other side closed the connection before it could be judged.
    HungUp(Step),
    /// Nothing happened until the end of the timeout.
    TimedOut {
        /// What was waited for.
        step: Step,
        /// The timeout.
        after: Duration,
    },
    /// What was answered is wrong.
    Answer(W),
    /// No TLS session came about, for another reason than the certificate; the text continues "it answers, but".
    NoTls(String),
    /// The certificate cannot be trusted; the text continues "its certificate".
    Certificate(String),
    /// The connection could not be tried from here: no route, no permission, a proxy that does not let it through.
    Unreadable(String),
}

impl Fault<Infallible> {
    /// The same where an answer could have been wrong.
    fn of_any<W>(self) -> Fault<W> {
        match self {
            Self::Refused => Fault::Refused,
            Self::NoSocket => Fault::NoSocket,
            Self::NotASocket => Fault::NotASocket,
            Self::Reset(step) => Fault::Reset(step),
            Self::HungUp(step) => Fault::HungUp(step),
            Self::TimedOut { step, after } => Fault::TimedOut { step, after },
            Self::Answer(never) => match never {},
            Self::NoTls(why) => Fault::NoTls(why),
            Self::Certificate(why) => Fault::Certificate(why),
            Self::Unreadable(why) => Fault::Unreadable(why),
        }
    }
}

/// How far a connection got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The connection itself.
    Connect,
    /// The way through a proxy.
    Tunnel,
    /// The TLS handshake.
    Handshake,
    /// Sending, and the answer.
    Answer,
}
