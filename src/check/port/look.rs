//! All port probes of a run in one poll(2) loop.
//!
//! A name is tried at each of its addresses: the next one is begun when one fails, or shortly after it was begun, so that
//! a silent first address does not use up the time of the others. Where one has connected and does not answer, the next
//! waits for its share of the time. The first address that passes decides.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit};

use super::connection::{Connection, Progress, Unbegun};
use super::helpers::{Done, Helpers, Job, STALL, Unconnected};
use super::tls::Trust;
use super::{Address, Failure, Fault, Raw, Rule, Step};
use crate::clock::rough;

#[cfg(test)]
mod tests;

/// The next address of a name is begun after so long where the one before is still silent.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Where there was no descriptor, or no room at a unix socket, it is tried again after so long.
const AGAIN: Duration = Duration::from_millis(50);

/// Descriptors that are left to all else that a run does at the same time.
const DESCRIPTORS_KEPT: u64 = 128;

/// Makes all probes, each within its own timeout, and returns what each came to, in their order. Those that are not
/// over when the run has to end say nothing about their service.
pub fn look(probes: &[(&Rule, Duration)], run_ends: Instant) -> Vec<Raw> {
    Look::new(probes, run_ends, descriptors()).run()
}

/// How many connections may be open at the same time.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(256, |(soft, _)| soft);
    let fit = limit.saturating_sub(DESCRIPTORS_KEPT).max(limit / 4);
    usize::try_from(fit).unwrap_or(usize::MAX).max(1)
}

/// What is asked once for all probes: none until it is known.
type Shared<K, V> = BTreeMap<K, Option<Result<V, String>>>;

struct Look<'a> {
    began: Instant,
    probes: Vec<Probe<'a>>,
    names: Shared<String, Vec<SocketAddr>>,
    trusts: Shared<Option<PathBuf>, Arc<Trust>>,
    helpers: Option<Helpers>,
    /// Why work for helpers cannot be done.
    no_helper: Option<String>,
    descriptors: usize,
    /// There was no descriptor: no new connection before this.
    starved_until: Option<Instant>,
}

struct Probe<'a> {
    rule: &'a Rule,
    timeout: Duration,
    deadline: Instant,
    /// The run ends before the timeout is over.
    is_cut: bool,
    /// Addresses that were not begun yet; none until they are known.
    targets: Option<VecDeque<SocketAddr>>,
    /// How many there were.
    addresses: u32,
    unix: Unix,
    next_at: Instant,
    first_at: Option<Instant>,
    open: Vec<Connection>,
    failures: Vec<Failure>,
    /// It had to wait for a descriptor.
    is_starved: bool,
    raw: Option<Raw>,
}

/// How the connection to a unix socket stands, until there is one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unix {
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

impl<'a> Look<'a> {
    fn new(probes: &[(&'a Rule, Duration)], run_ends: Instant, descriptors: usize) -> Self {
        let began = Instant::now();
        let mut look = Self {
            began,
            probes: Vec::with_capacity(probes.len()),
            names: BTreeMap::new(),
            trusts: BTreeMap::new(),
            helpers: None,
            no_helper: None,
            descriptors,
            starved_until: None,
        };
        for &(rule, timeout) in probes {
            let own = began.checked_add(timeout);
            let deadline = own.map_or(run_ends, |own| own.min(run_ends));
            let mut probe = Probe {
                rule,
                timeout,
                deadline,
                is_cut: own != Some(deadline),
                targets: None,
                addresses: 1,
                unix: Unix::None,
                next_at: began,
                first_at: None,
                open: Vec::new(),
                failures: Vec::new(),
                is_starved: false,
                raw: None,
            };
            match &rule.address {
                Address::Ip(address) => probe.targets = Some(VecDeque::from([*address])),
                Address::Name { name, .. } => {
                    if !look.names.contains_key(name) {
                        look.names.insert(name.clone(), None);
                        look.give(Job::Resolve(name.clone()));
                    }
                }
                Address::Unix(_) => {
                    probe.unix = Unix::Wanted;
                    probe.targets = Some(VecDeque::new());
                }
            }
            if rule.tls && !look.trusts.contains_key(&rule.ca_file) {
                look.trusts.insert(rule.ca_file.clone(), None);
                look.give(Job::Trust(rule.ca_file.clone()));
            }
            look.probes.push(probe);
        }
        look
    }

    fn run(mut self) -> Vec<Raw> {
        while self.probes.iter().any(|probe| probe.raw.is_none()) {
            self.round();
        }
        let missing = || Raw::NotAsked("was not asked".to_owned());
        let raws = self.probes.into_iter().map(|probe| probe.raw);
        raws.map(|raw| raw.unwrap_or_else(missing)).collect()
    }

    fn give(&mut self, job: Job) {
        if self.helpers.is_none() {
            match Helpers::new() {
                Ok(helpers) => self.helpers = Some(helpers),
                Err(error) => {
                    self.no_helper = Some(format!("there is no descriptor for it ({error})"));
                }
            }
        }
        if let Some(helpers) = &mut self.helpers {
            helpers.give(job);
        }
    }

    fn round(&mut self) {
        let now = Instant::now();
        self.take_results(now);
        self.begin(now);
        let is_hiring = self.staff(now);
        self.conclude();
        let wait = self.next_event(now, is_hiring);
        let Some(wait) = wait else {
            return;
        };
        let polled_at = Instant::now();
        let ready = match self.poll(wait.saturating_duration_since(polled_at)) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => return,
            Err(error) => {
                let why = format!("cannot be asked: poll failed: {error}");
                for probe in self.probes.iter_mut().filter(|probe| probe.raw.is_none()) {
                    probe.raw = Some(Raw::NotAsked(why.clone()));
                }
                return;
            }
        };
        self.drive(&ready, Instant::now());
        // only what was polled after its deadline: this thread may not have run for a while
        for probe in &mut self.probes {
            if probe.raw.is_none() && probe.deadline <= polled_at {
                let trust = trust_of(&self.trusts, probe.rule);
                probe.expire(self.began, trust.as_ref(), self.no_helper.as_deref());
            }
        }
    }

    fn staff(&mut self, now: Instant) -> bool {
        match self.helpers.as_mut().map(|helpers| helpers.staff(now)) {
            None => false,
            Some(Ok(is_hiring)) => {
                self.no_helper = None;
                is_hiring
            }
            Some(Err(error)) => {
                let why = format!("there is no thread for it: {error} (ulimit -u, TasksMax=)");
                self.no_helper = Some(why);
                true
            }
        }
    }

    fn take_results(&mut self, now: Instant) {
        let done = self.helpers.as_mut().map(Helpers::done);
        for done in done.unwrap_or_default() {
            match done {
                Done::Resolved(name, addresses) => {
                    self.names.insert(name, Some(addresses));
                }
                Done::Trust(ca_file, trust) => {
                    self.trusts.insert(ca_file, Some(trust));
                }
                Done::Unix(number, connected) => {
                    let Some(probe) = self.probes.get_mut(number).filter(|p| p.raw.is_none())
                    else {
                        continue;
                    };
                    let trust = trust_of(&self.trusts, probe.rule);
                    match connected {
                        Ok(socket) => {
                            probe.unix = Unix::None;
                            match Connection::of_unix(probe.rule, trust.as_deref(), socket, now) {
                                Ok(connection) => probe.open.push(connection),
                                Err(failure) => probe.failures.push(failure),
                            }
                        }
                        Err(Unconnected::Full) => {
                            probe.unix = Unix::Full;
                            probe.next_at = now + AGAIN;
                        }
                        Err(Unconnected::NoDescriptor) => {
                            probe.unix = Unix::Wanted;
                            probe.first_at = None;
                            probe.is_starved = true;
                            probe.next_at = now + AGAIN;
                        }
                        Err(Unconnected::Failed(fault)) => {
                            probe.unix = Unix::None;
                            let place = probe.rule.address.to_string();
                            probe.failures.push(Failure { place, fault });
                        }
                    }
                }
            }
        }
        for probe in self.probes.iter_mut().filter(|p| p.raw.is_none()) {
            probe.take_shared(&self.names, &self.trusts);
        }
    }

    /// Begins connections as far as descriptors go: first one for each probe, then further addresses.
    fn begin(&mut self, now: Instant) {
        let mut free = self.free();
        if self.starved_until.is_some_and(|until| now < until) {
            free = 0;
        }
        self.starved_until = self.starved_until.filter(|&until| now < until);
        let mut jobs = Vec::new();
        for is_first in [true, false] {
            for (number, probe) in self.probes.iter_mut().enumerate() {
                if probe.raw.is_some() || probe.first_at.is_none() != is_first || !probe.is_due(now)
                {
                    continue;
                }
                let Some(trust) = ready_trust(&self.trusts, probe.rule) else {
                    continue;
                };
                while free > 0 && probe.raw.is_none() && probe.is_due(now) {
                    free -= 1;
                    if let Some(path) = probe.ask_unix(now) {
                        jobs.push(Job::Unix(number, path));
                        continue;
                    }
                    if !probe.begin_next(trust.as_deref(), now) {
                        self.starved_until = Some(now + AGAIN);
                        free = 0;
                    }
                }
                if free == 0 && probe.is_due(now) {
                    probe.is_starved = true;
                }
            }
        }
        for job in jobs {
            self.give(job);
        }
    }

    /// How many connections may still be opened.
    fn free(&self) -> usize {
        let open = |probe: &Probe<'_>| {
            let asked = matches!(probe.unix, Unix::Asked | Unix::AskedAgain);
            probe.open.len() + usize::from(asked)
        };
        let taken = self
            .probes
            .iter()
            .filter(|p| p.raw.is_none())
            .map(open)
            .sum();
        self.descriptors.saturating_sub(taken)
    }

    /// Those that have failed at all addresses.
    fn conclude(&mut self) {
        for probe in self.probes.iter_mut().filter(|p| p.raw.is_none()) {
            let is_tried = probe.targets.as_ref().is_some_and(VecDeque::is_empty);
            if is_tried && probe.open.is_empty() && probe.unix == Unix::None {
                probe.raw = Some(Raw::Failed(std::mem::take(&mut probe.failures)));
            }
        }
    }

    /// When something has to be done though no socket is ready; none where all is over.
    fn next_event(&self, now: Instant, is_hiring: bool) -> Option<Instant> {
        let has_room = self.free() > 0;
        let mut next: Option<Instant> = None;
        for probe in self.probes.iter().filter(|p| p.raw.is_none()) {
            let mut at = probe.deadline;
            if has_room && probe.has_next() && ready_trust(&self.trusts, probe.rule).is_some() {
                at = at.min(
                    probe
                        .next_at
                        .max(self.starved_until.unwrap_or(probe.next_at)),
                );
            }
            for connection in &probe.open {
                at = connection.wakes_at().map_or(at, |due| at.min(due));
            }
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        next.map(|next| {
            if is_hiring {
                next.min(now + STALL)
            } else {
                next
            }
        })
    }

    /// Waits until sockets are ready, and says which: by probe, and by connection in it.
    fn poll(&self, wait: Duration) -> Result<Vec<(usize, usize)>, Errno> {
        let mut which = Vec::new();
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        let woken: Option<BorrowedFd<'_>> = self.helpers.as_ref().map(Helpers::woken);
        for (number, probe) in self.probes.iter().enumerate() {
            if probe.raw.is_some() {
                continue;
            }
            for (place, connection) in probe.open.iter().enumerate() {
                which.push((number, place));
                fds.push(PollFd::new(connection.fd(), connection.events(probe.rule)));
            }
        }
        fds.extend(woken.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        // rounded up, so that it is over when it is over
        let wait = wait
            .saturating_add(Duration::from_nanos(999_999))
            .as_millis();
        let wait = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        poll(&mut fds, wait)?;
        let now = Instant::now();
        let is_ready = |((number, place), fd): ((usize, usize), &PollFd<'_>)| {
            let is_due = (self.probes[number].open[place].wakes_at()).is_some_and(|at| at <= now);
            (is_due || fd.any().unwrap_or(true)).then_some((number, place))
        };
        Ok(which.into_iter().zip(&fds).filter_map(is_ready).collect())
    }

    fn drive(&mut self, ready: &[(usize, usize)], now: Instant) {
        // from the last to the first: one that ends leaves the places before it as they are
        for &(number, place) in ready.iter().rev() {
            let probe = &mut self.probes[number];
            if probe.raw.is_some() {
                continue;
            }
            let trust = trust_of(&self.trusts, probe.rule);
            probe.drive(place, trust.as_deref(), now);
        }
    }
}

impl Probe<'_> {
    /// What became known of its name and of whom it trusts.
    fn take_shared(
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
        if self.rule.tls
            && let Some(Some(Err(error))) = trusts.get(&self.rule.ca_file)
        {
            self.raw = Some(Raw::NotAsked(format!("cannot be asked: {error}")));
        }
    }

    fn has_next(&self) -> bool {
        let is_unix = matches!(self.unix, Unix::Wanted | Unix::Full);
        is_unix
            || self
                .targets
                .as_ref()
                .is_some_and(|targets| !targets.is_empty())
    }

    fn is_due(&self, now: Instant) -> bool {
        self.has_next() && now >= self.next_at
    }

    /// The path that a helper has to try now.
    fn ask_unix(&mut self, now: Instant) -> Option<PathBuf> {
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
    fn begin_next(&mut self, trust: Option<&Trust>, now: Instant) -> bool {
        let Some(address) = self.targets.as_mut().and_then(VecDeque::pop_front) else {
            return true;
        };
        match Connection::begin(self.rule, trust, address, now) {
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

    fn drive(&mut self, index: usize, trust: Option<&Trust>, now: Instant) {
        let connection = &mut self.open[index];
        let was_connected = connection.is_connected();
        match connection.drive(self.rule, trust, now) {
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

    /// Its time is over.
    fn expire(&mut self, began: Instant, trust: Option<&Arc<Trust>>, no_helper: Option<&str>) {
        let limit = rough(self.timeout);
        let late = self.first_at.map(|at| at.saturating_duration_since(began));
        let is_untried = self
            .targets
            .as_ref()
            .is_none_or(|targets| !targets.is_empty());
        let needs_helper =
            self.targets.is_none() || self.rule.tls && trust.is_none() || self.unix == Unix::Asked;
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
        } else if self.rule.tls && trust.is_none() {
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
        } else {
            // what could begin so late says more about this side than about the other
            late.filter(|&late| late > self.timeout / 2).map(|late| {
                let why = match (self.is_starved, &self.rule.address) {
                    (true, _) => "no descriptor was free for the first",
                    (false, Address::Name { .. }) => "the name was resolved only after",
                    (false, _) => "it could be begun only after",
                };
                format!("did not answer, but {why} {} of {limit}", rough(late))
            })
        };
        self.raw = Some(match unasked {
            Some(why) => Raw::NotAsked(why),
            None => self.timed_out(trust.map(AsRef::as_ref)),
        });
        self.open.clear();
    }

    fn timed_out(&mut self, trust: Option<&Trust>) -> Raw {
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
            match connection.time_out(self.rule, trust, self.timeout) {
                Progress::Passed(certificate_ends) => return Raw::Passed { certificate_ends },
                Progress::Failed(fault) => self.failures.push(Failure { place, fault }),
                Progress::Waiting => {}
            }
        }
        Raw::Failed(std::mem::take(&mut self.failures))
    }
}

/// Whom a probe trusts, where it is known.
fn trust_of(trusts: &Shared<Option<PathBuf>, Arc<Trust>>, rule: &Rule) -> Option<Arc<Trust>> {
    ready_trust(trusts, rule).flatten()
}

/// Whom a probe trusts, if it has to know; none where it is not known yet.
fn ready_trust(
    trusts: &Shared<Option<PathBuf>, Arc<Trust>>,
    rule: &Rule,
) -> Option<Option<Arc<Trust>>> {
    if !rule.tls {
        return Some(None);
    }
    match trusts.get(&rule.ca_file) {
        Some(Some(Ok(trust))) => Some(Some(Arc::clone(trust))),
        _ => None,
    }
}
