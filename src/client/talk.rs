//! One conversation on its way through the loop: its addresses, its connections, and what it comes to at its deadline.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use socket2::Socket;

use super::connection::{Connection, Progress, Unbegun};
use super::helpers::Unconnected;
use super::tls::Trust;
use super::{Address, Exchange, Failure, Fault, Outcome, Step, Talk, Target};
use crate::clock::rough;

/// The next address of a name is begun after so long where the one before is still silent.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Where there was no descriptor, or no room at a unix socket, it is tried again after so long.
pub(super) const AGAIN: Duration = Duration::from_millis(50);

/// What is known of the outcome of a talk.
type OutcomeOf<T> = Outcome<Answer<T>, Wrong<T>>;
type Answer<T> = <<T as Talk>::Exchange as Exchange>::Answer;
type Wrong<T> = <<T as Talk>::Exchange as Exchange>::Wrong;

/// A conversation under way.
pub(super) struct Conversation<T: Talk> {
    pub(super) talk: T,
    timeout: Duration,
    pub(super) deadline: Instant,
    /// The run ends before the timeout is over.
    is_cut: bool,
    /// Whom it trusts, where it has to and that is known.
    trust: Option<Arc<Trust>>,
    /// Addresses that were not begun yet; none until they are known.
    pub(super) targets: Option<VecDeque<SocketAddr>>,
    /// How many there were.
    addresses: u32,
    pub(super) unix: Unix,
    pub(super) next_at: Instant,
    pub(super) first_at: Option<Instant>,
    pub(super) open: Vec<Connection<T::Exchange>>,
    failures: Vec<Failure<Wrong<T>>>,
    /// It had to wait for a descriptor.
    pub(super) is_starved: bool,
    /// How long this side had not looked at sockets when it began.
    stalled_then: Duration,
    pub(super) outcome: Option<OutcomeOf<T>>,
}

/// How the connection to a unix socket stands, until there is one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unix {
    /// It is none, or it is connected or has failed.
    None,
    /// To be tried.
    Wanted,
    /// A helper tries it.
    Asked,
    /// Its queue was full.
    Full,
    /// It was full, and a helper tries it again.
    AskedAgain,
}

/// What is asked once for all conversations: none until it is known.
pub(super) type Shared<K, V> = BTreeMap<K, Option<Result<V, String>>>;

impl<T: Talk> Conversation<T> {
    pub(super) fn new(talk: T, timeout: Duration, began: Instant, run_ends: Instant) -> Self {
        let own = began.checked_add(timeout);
        let deadline = own.map_or(run_ends, |own| own.min(run_ends));
        let (unix, targets) = places(talk.target());
        Self {
            talk,
            timeout,
            deadline,
            is_cut: own != Some(deadline),
            trust: None,
            targets,
            addresses: 1,
            unix,
            next_at: began,
            first_at: None,
            open: Vec::new(),
            failures: Vec::new(),
            is_starved: false,
            stalled_then: Duration::ZERO,
            outcome: None,
        }
    }

    /// Goes on with somebody else, in what is left of the time.
    fn go_on(&mut self, talk: T, now: Instant) {
        (self.unix, self.targets) = places(talk.target());
        self.talk = talk;
        self.trust = None;
        self.addresses = 1;
        self.next_at = now;
        self.open.clear();
        self.failures.clear();
    }

    /// What became known of its name and of whom it trusts.
    pub(super) fn take_shared(
        &mut self,
        names: &Shared<String, Vec<SocketAddr>>,
        trusts: &Shared<Option<PathBuf>, Arc<Trust>>,
    ) {
        if let (Address::Name { name, port }, None) = (&self.talk.target().address, &self.targets) {
            match names.get(name) {
                Some(Some(Ok(addresses))) => {
                    let with_port = |&address: &SocketAddr| {
                        let mut address = address;
                        address.set_port(*port);
                        address
                    };
                    self.addresses = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
                    self.targets = Some(addresses.iter().map(with_port).collect());
                }
                Some(Some(Err(error))) => {
                    self.outcome = Some(Outcome::NotAsked(format!("cannot be resolved: {error}")));
                }
                _ => {}
            }
        }
        if let (Some(tls), None) = (&self.talk.target().tls, &self.trust) {
            match trusts.get(&tls.ca_file) {
                Some(Some(Ok(trust))) => self.trust = Some(Arc::clone(trust)),
                Some(Some(Err(error))) => {
                    self.outcome = Some(Outcome::NotAsked(format!("cannot be asked: {error}")));
                }
                _ => {}
            }
        }
    }

    /// What a helper came to with a unix socket.
    pub(super) fn take_unix(&mut self, connected: Result<Socket, Unconnected>, now: Instant) {
        match connected {
            Ok(socket) => {
                self.unix = Unix::None;
                let exchange = self.talk.begin();
                let trust = self.trust.as_deref();
                match Connection::of_unix(self.talk.target(), trust, exchange, socket, now) {
                    Ok(connection) => self.open.push(connection),
                    Err(failure) => self.failures.push(failure),
                }
            }
            Err(Unconnected::Full) => {
                self.unix = Unix::Full;
                self.next_at = now + AGAIN;
            }
            Err(Unconnected::NoDescriptor) => {
                self.unix = Unix::Wanted;
                self.first_at = None;
                self.is_starved = true;
                self.next_at = now + AGAIN;
            }
            Err(Unconnected::Failed(fault)) => {
                self.unix = Unix::None;
                let place = self.talk.target().address.to_string();
                let fault = fault.of_any();
                self.failures.push(Failure { place, fault });
            }
        }
    }

    /// How many descriptors it has.
    pub(super) fn descriptors(&self) -> usize {
        let is_asked = matches!(self.unix, Unix::Asked | Unix::AskedAgain);
        self.open.len() + usize::from(is_asked)
    }

    /// Where it has failed at all addresses, that is what it came to.
    pub(super) fn conclude(&mut self) {
        let is_tried = self.targets.as_ref().is_some_and(VecDeque::is_empty);
        if is_tried && self.open.is_empty() && self.unix == Unix::None {
            self.outcome = Some(Outcome::Failed(std::mem::take(&mut self.failures)));
        }
    }

    /// Whether there is something to be begun, now or later.
    pub(super) fn has_next(&self) -> bool {
        if self.lacks_trust() {
            return false;
        }
        let is_unix = matches!(self.unix, Unix::Wanted | Unix::Full);
        is_unix
            || self
                .targets
                .as_ref()
                .is_some_and(|targets| !targets.is_empty())
    }

    fn lacks_trust(&self) -> bool {
        self.talk.target().tls.is_some() && self.trust.is_none()
    }

    /// How many connections could be begun.
    pub(super) fn wanted(&self) -> usize {
        self.targets.as_ref().map_or(0, VecDeque::len).max(1)
    }

    /// Whether that is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.has_next() && now >= self.next_at
    }

    /// The path that a helper has to try now.
    pub(super) fn ask_unix(&mut self, now: Instant, stalled: Duration) -> Option<PathBuf> {
        let Address::Unix(path) = &self.talk.target().address else {
            return None;
        };
        let path = path.clone();
        self.unix = match self.unix {
            Unix::Wanted => Unix::Asked,
            Unix::Full => Unix::AskedAgain,
            other => other,
        };
        self.note_begin(now, stalled);
        Some(path)
    }

    /// Begins the next address. Whether there was a descriptor for it.
    pub(super) fn begin_next(&mut self, now: Instant, stalled: Duration) -> bool {
        let Some(address) = self.targets.as_mut().and_then(VecDeque::pop_front) else {
            return true;
        };
        let exchange = self.talk.begin();
        let trust = self.trust.as_deref();
        match Connection::begin(self.talk.target(), trust, exchange, address, now) {
            Ok(connection) => {
                self.note_begin(now, stalled);
                self.open.push(connection);
                // all are begun by the middle of the time
                self.next_at = now + NEXT_ADDRESS.min(self.timeout / 2 / self.addresses);
            }
            Err(Unbegun::Failed(failure)) => {
                self.note_begin(now, stalled);
                self.failures.push(failure);
            }
            Err(Unbegun::NoDescriptor) => {
                if let Some(targets) = &mut self.targets {
                    targets.push_front(address);
                }
                return false;
            }
        }
        true
    }

    /// Drives one of its connections. Whether it goes on with somebody else. `stalled` is how long this side had not
    /// looked at sockets.
    pub(super) fn drive(&mut self, index: usize, now: Instant, stalled: Duration) -> bool {
        let connection = &mut self.open[index];
        let was_connected = connection.is_connected();
        let progress = connection.drive(self.trust.as_deref(), now);
        let has_connected = !was_connected && connection.is_connected();
        let index = if has_connected && self.talk.is_said_once() {
            self.keep_only(index)
        } else {
            index
        };
        match progress {
            Progress::Waiting => {
                if has_connected {
                    let rest = self.targets.as_ref().map_or(0, VecDeque::len);
                    let parts = u32::try_from(rest + 1).unwrap_or(u32::MAX);
                    let share = self.deadline.saturating_duration_since(now) / parts;
                    self.next_at = now + share;
                }
            }
            Progress::Passed(answer, certificate_ends) => {
                self.outcome = Some(self.passed(answer, certificate_ends, now, stalled));
                self.open.clear();
            }
            Progress::Moved(talk) => {
                self.go_on(talk, now);
                return true;
            }
            Progress::Failed(fault) => {
                let connection = self.open.remove(index);
                let place = connection.place().to_owned();
                self.failures.push(Failure { place, fault });
                self.next_at = now;
            }
        }
        false
    }

    /// Gives up all connections but one, and the addresses that were not tried. Returns where that one stands then.
    fn keep_only(&mut self, index: usize) -> usize {
        let kept = self.open.swap_remove(index);
        self.open.clear();
        self.open.push(kept);
        self.targets = Some(VecDeque::new());
        0
    }

    fn passed(
        &self,
        answer: Answer<T>,
        certificate_ends: Option<SystemTime>,
        now: Instant,
        stalled: Duration,
    ) -> OutcomeOf<T> {
        let took = now.saturating_duration_since(self.first_at.unwrap_or(now));
        Outcome::Passed {
            answer,
            certificate_ends,
            took: took.saturating_sub(stalled.saturating_sub(self.stalled_then)),
        }
    }

    /// It is about to begin its first connection.
    fn note_begin(&mut self, now: Instant, stalled: Duration) {
        if self.first_at.is_none() {
            self.first_at = Some(now);
            self.stalled_then = stalled;
        }
    }

    /// Its time is over. `stalled` is how long this thread had no processor, or was busy with others.
    pub(super) fn expire(&mut self, began: Instant, stalled: Duration, no_helper: Option<&str>) {
        let limit = rough(self.timeout);
        let late = self.first_at.map(|at| at.saturating_duration_since(began));
        let is_untried = self
            .targets
            .as_ref()
            .is_none_or(|targets| !targets.is_empty());
        let needs_helper = self.targets.is_none() || self.lacks_trust() || self.unix == Unix::Asked;
        let unasked = if self.is_cut {
            Some(format!(
                "was not asked for {limit}: the time of the run was over"
            ))
        } else if let (true, Some(why)) = (needs_helper, no_helper) {
            Some(format!("cannot be asked: {why}"))
        } else if self.targets.is_none() {
            Some(format!(
                "cannot be resolved: the resolver did not answer within {limit}"
            ))
        } else if self.lacks_trust() {
            Some(format!(
                "cannot be asked: the certificates of authorities could not be read within {limit}"
            ))
        } else if self.unix == Unix::Asked {
            Some(format!(
                "cannot be asked: its file system did not answer within {limit}"
            ))
        } else if late.is_none() || is_untried {
            Some(format!(
                "cannot be asked: no descriptor was free within {limit} (ulimit -n, LimitNOFILE=)"
            ))
        } else if stalled > self.timeout / 2 {
            Some(format!(
                "did not answer, but this host was too busy to ask: {} of {limit} went by without a look",
                rough(stalled)
            ))
        } else {
            // what could begin so late says more about this side than about the other
            late.filter(|&late| late > self.timeout / 2).map(|late| {
                let late = rough(late);
                if self.is_starved {
                    format!("did not answer, but no descriptor was free for the first {late} of {limit}")
                } else {
                    format!("did not answer, but its name or certificates took the first {late} of {limit}")
                }
            })
        };
        self.outcome = Some(match unasked {
            Some(why) => Outcome::NotAsked(why),
            None => self.timed_out(stalled),
        });
        self.open.clear();
    }

    fn timed_out(&mut self, stalled: Duration) -> OutcomeOf<T> {
        if self.unix != Unix::None {
            self.failures.push(Failure {
                place: self.talk.target().address.to_string(),
                fault: Fault::TimedOut {
                    step: Step::Connect,
                    after: self.timeout,
                },
            });
        }
        for connection in std::mem::take(&mut self.open) {
            let place = connection.place().to_owned();
            match connection.time_out(self.trust.as_deref(), self.timeout) {
                Progress::Passed(answer, certificate_ends) => {
                    return self.passed(answer, certificate_ends, self.deadline, stalled);
                }
                Progress::Failed(fault) => self.failures.push(Failure { place, fault }),
                Progress::Waiting | Progress::Moved(_) => {}
            }
        }
        Outcome::Failed(std::mem::take(&mut self.failures))
    }
}

/// Where to begin with a target: addresses are none until they are known.
fn places(target: &Target) -> (Unix, Option<VecDeque<SocketAddr>>) {
    match &target.address {
        Address::Ip(address) => (Unix::None, Some(VecDeque::from([*address]))),
        Address::Name { .. } => (Unix::None, None),
        Address::Unix(_) => (Unix::Wanted, Some(VecDeque::new())),
    }
}
