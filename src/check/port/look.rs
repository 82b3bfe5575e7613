//! All port probes of a run in one poll(2) loop.
//!
//! A name is tried at each of its addresses: the next one is begun when one fails, or shortly after it was begun, so that
//! a silent first address does not use up the time of the others. Where one has connected and does not answer, the next
//! waits for its share of the time. The first address that passes decides.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit};

use super::helpers::{Done, Helpers, Job, STALL};
use super::probe::{AGAIN, Probe, Shared};
use super::tls::Trust;
use super::{Address, Raw, Rule};

#[cfg(test)]
mod tests;

/// No round waits for longer, so that one in which this thread had no processor is noticed.
const TICK: Duration = Duration::from_millis(250);

/// Rounds that took this much longer than they had to wait are counted: this thread had no processor, or much to do.
const STALLED: Duration = Duration::from_millis(100);

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
    /// How long sockets were not looked at though they may have been ready.
    stalled: Duration,
}

fn no_descriptor(error: &io::Error) -> String {
    format!("there is no descriptor for it: {error} (ulimit -n, LimitNOFILE=)")
}

fn no_poll(error: Errno) -> String {
    format!("cannot be asked: the system cannot wait for sockets: {error}")
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
            stalled: Duration::ZERO,
        };
        for &(rule, timeout) in probes {
            if let Address::Name { name, .. } = &rule.address
                && !look.names.contains_key(name)
            {
                look.names.insert(name.clone(), None);
                look.push(Job::Resolve(name.clone()));
            }
            if rule.tls && !look.trusts.contains_key(&rule.ca_file) {
                look.trusts.insert(rule.ca_file.clone(), None);
                look.push(Job::Trust(rule.ca_file.clone()));
            }
            let probe = Probe::new(rule, timeout, began, run_ends);
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

    fn push(&mut self, job: Job) {
        if self.helpers.is_none() {
            match Helpers::new() {
                Ok(helpers) => self.helpers = Some(helpers),
                Err(error) => {
                    self.no_helper = Some(no_descriptor(&error));
                }
            }
        }
        if let Some(helpers) = &mut self.helpers {
            helpers.push(job);
        }
    }

    fn round(&mut self) {
        let now = Instant::now();
        self.take_results(now);
        self.begin(now);
        let is_waiting = self.add_threads(now);
        for probe in self.probes.iter_mut().filter(|probe| probe.raw.is_none()) {
            probe.conclude();
        }
        let wait = self.next_event(now, is_waiting);
        let Some(wait) = wait.map(|wait| wait.min(now + TICK)) else {
            return;
        };
        let polled_at = Instant::now();
        let ready = match self.poll(wait.saturating_duration_since(polled_at)) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => return,
            Err(error) => {
                let why = no_poll(error);
                for probe in self.probes.iter_mut().filter(|probe| probe.raw.is_none()) {
                    probe.raw = Some(Raw::NotAsked(why.clone()));
                }
                return;
            }
        };
        self.drive(&ready, Instant::now());
        let late = Instant::now().saturating_duration_since(now.max(wait));
        if late > STALLED {
            self.stalled += late;
        }
        // only what was polled after its deadline: this thread may not have run for a while
        for probe in &mut self.probes {
            if probe.raw.is_none() && probe.deadline <= polled_at {
                probe.expire(self.began, self.stalled, self.no_helper.as_deref());
            }
        }
    }

    fn add_threads(&mut self, now: Instant) -> bool {
        match self
            .helpers
            .as_mut()
            .map(|helpers| helpers.add_threads(now))
        {
            None => false,
            Some(Ok(is_waiting)) => {
                self.no_helper = None;
                is_waiting
            }
            Some(Err(error)) => {
                let why = format!("cannot create a thread (ulimit -u, TasksMax=): {error}");
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
                    let probe = self.probes.get_mut(number).filter(|p| p.raw.is_none());
                    if let Some(probe) = probe {
                        probe.take_unix(connected, now);
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
                while free > 0 && probe.raw.is_none() && probe.is_due(now) {
                    free -= 1;
                    if let Some(path) = probe.ask_unix(now) {
                        jobs.push(Job::Unix(number, path));
                        continue;
                    }
                    if !probe.begin_next(now) {
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
            self.push(job);
        }
    }

    /// How many connections may still be opened.
    fn free(&self) -> usize {
        let open = self.probes.iter().filter(|probe| probe.raw.is_none());
        let taken = open.map(Probe::descriptors).sum();
        self.descriptors.saturating_sub(taken)
    }

    /// When something has to be done though no socket is ready; none where all is over.
    fn next_event(&self, now: Instant, is_waiting: bool) -> Option<Instant> {
        let has_room = self.free() > 0;
        let mut next: Option<Instant> = None;
        for probe in self.probes.iter().filter(|p| p.raw.is_none()) {
            let mut at = probe.deadline;
            if has_room && probe.has_next() {
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
            if is_waiting {
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
            probe.drive(place, now);
        }
    }
}
