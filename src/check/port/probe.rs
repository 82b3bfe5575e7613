//! One probe on its way through the loop: its addresses, its connections, and what it comes to at its deadline.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::connection::{Connection, Progress, Unbegun};
use super::helpers::Unconnected;
use super::tls::Trust;
use super::{Address, Failure, Fault, Raw, Rule, Step};
use crate::clock::rough;

/// The next address of a name is begun after so long where the one before is still silent.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Where there was no descriptor, or no room at a unix socket, it is tried again after so long.
pub(super) const AGAIN: Duration = Duration::from_millis(50);

/// A probe under way.
pub(super) struct Probe<'a> {
    pub(super) rule: &'a Rule,
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
    pub(super) open: Vec<Connection>,
    failures: Vec<Failure>,
    /// It had to wait for a descriptor.
    pub(super) is_starved: bool,
    pub(super) raw: Option<Raw>,
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

/// What is asked once for all probes: none until it is known.
pub(super) type Shared<K, V> = BTreeMap<K, Option<Result<V, String>>>;

impl<'a> Probe<'a> {
    pub(super) fn new(
        rule: &'a Rule,
        timeout: Duration,
        began: Instant,
        run_ends: Instant,
    ) -> Self {
        let own = began.checked_add(timeout);
        let deadline = own.map_or(run_ends, |own| own.min(run_ends));
        let (unix, targets) = match &rule.address {
            Address::Ip(address) => (Unix::None, Some(VecDeque::from([*address]))),
            Address::Name { .. } => (Unix::None, None),
            Address::Unix(_) => (Unix::Wanted, Some(VecDeque::new())),
        };
        Self {
            rule,
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
            raw: None,
        }
    }

    /// What became known of its name and of whom it trusts.
    pub(super) fn take_shared(
        &mut self,
        names: &Shared<String, Vec<SocketAddr>>,
        trusts: &Shared<Option<PathBuf>, Arc<Trust>>,
    ) {
        if let (Address::Name { name, port }, None) = (&self.rule.address, &self.targets) {
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
                    self.raw = Some(Raw::NotAsked(format!("cannot be resolved: {error}")));
                }
                _ => {}
            }
        }
        if self.rule.tls && self.trust.is_none() {
            match trusts.get(&self.rule.ca_file) {
                Some(Some(Ok(trust))) => self.trust = Some(Arc::clone(trust)),
                Some(Some(Err(error))) => {
                    self.raw = Some(Raw::NotAsked(format!("cannot be asked: {error}")));
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
                match Connection::of_unix(self.rule, self.trust.as_deref(), socket, now) {
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
                let place = self.rule.address.to_string();
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
            self.raw = Some(Raw::Failed(std::mem::take(&mut self.failures)));
        }
    }

    /// Whether there is something to be begun, now or later.
    pub(super) fn has_next(&self) -> bool {
        if self.rule.tls && self.trust.is_none() {
            return false;
        }
        let is_unix = matches!(self.unix, Unix::Wanted | Unix::Full);
        is_unix
            || self
                .targets
                .as_ref()
                .is_some_and(|targets| !targets.is_empty())
    }

    /// Whether that is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.has_next() && now >= self.next_at
    }

    /// The path that a helper has to try now.
    pub(super) fn ask_unix(&mut self, now: Instant) -> Option<PathBuf> {
        let Address::Unix(path) = &self.rule.address else {
            return None;
        };
        self.unix = match self.unix {
            Unix::Wanted => Unix::Asked,
            Unix::Full => Unix::AskedAgain,
            other => other,
        };
        self.first_at.get_or_insert(now);
        Some(path.clone())
    }

    /// Begins the next address. Whether there was a descriptor for it.
    pub(super) fn begin_next(&mut self, now: Instant) -> bool {
        let Some(address) = self.targets.as_mut().and_then(VecDeque::pop_front) else {
            return true;
        };
        match Connection::begin(self.rule, self.trust.as_deref(), address, now) {
            Ok(connection) => {
                self.first_at.get_or_insert(now);
                self.open.push(connection);
                // all are begun by the middle of the time
                self.next_at = now + NEXT_ADDRESS.min(self.timeout / 2 / self.addresses);
            }
            Err(Unbegun::Failed(failure)) => {
                self.first_at.get_or_insert(now);
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

    /// Drives one of its connections.
    pub(super) fn drive(&mut self, index: usize, now: Instant) {
        let connection = &mut self.open[index];
        let was_connected = connection.is_connected();
        match connection.drive(self.rule, self.trust.as_deref(), now) {
            Progress::Waiting => {
                if !was_connected && connection.is_connected() {
                    let rest = self.targets.as_ref().map_or(0, VecDeque::len);
                    let parts = u32::try_from(rest + 1).unwrap_or(u32::MAX);
                    let share = self.deadline.saturating_duration_since(now) / parts;
                    self.next_at = now + share;
                }
            }
            Progress::Passed(certificate_ends) => {
                self.raw = Some(Raw::Passed { certificate_ends });
                self.open.clear();
            }
            Progress::Failed(fault) => {
                let connection = self.open.remove(index);
                let place = connection.place().to_owned();
                self.failures.push(Failure { place, fault });
                self.next_at = now;
            }
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
        let needs_helper = self.targets.is_none()
            || self.rule.tls && self.trust.is_none()
            || self.unix == Unix::Asked;
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
        } else if self.rule.tls && self.trust.is_none() {
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
        self.raw = Some(match unasked {
            Some(why) => Raw::NotAsked(why),
            None => self.timed_out(),
        });
        self.open.clear();
    }

    fn timed_out(&mut self) -> Raw {
        if self.unix != Unix::None {
            self.failures.push(Failure {
                place: self.rule.address.to_string(),
                fault: Fault::TimedOut {
                    step: Step::Connect,
                    after: self.timeout,
                },
            });
        }
        for connection in std::mem::take(&mut self.open) {
            let place = connection.place().to_owned();
            match connection.time_out(self.rule, self.trust.as_deref(), self.timeout) {
                Progress::Passed(certificate_ends) => return Raw::Passed { certificate_ends },
                Progress::Failed(fault) => self.failures.push(Failure { place, fault }),
                Progress::Waiting => {}
            }
        }
        Raw::Failed(std::mem::take(&mut self.failures))
    }
}
