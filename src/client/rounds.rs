//! All conversations of a batch in one poll(2) loop.
//!
//! A name is tried at each of its addresses: the next one is begun when one fails, or shortly after it was begun, so that
//! a silent first address does not use up the time of the others. Where one has connected and does not answer, the next
//! waits for its share of the time. The first address that passes decides.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit};

use super::helpers::{Done, Helpers, Job, STALL};
use super::talk::{AGAIN, Conversation, Shared};
use super::tls::Trust;
use super::{Address, Exchange, Outcome, Talk, Target};

/// No round waits for longer, so that one in which this thread had no processor is noticed.
const TICK: Duration = Duration::from_millis(250);

/// Rounds that took this much longer than they had to wait are counted: this thread had no processor, or much to do.
const STALLED: Duration = Duration::from_millis(100);

/// Descriptors that are left to all else that a run does at the same time.
const DESCRIPTORS_KEPT: u64 = 128;

/// What conversations came to, with where each of them ended.
type Ended<T> = (
    T,
    Outcome<
        <<T as Talk>::Exchange as Exchange>::Answer,
        <<T as Talk>::Exchange as Exchange>::Wrong,
    >,
);

/// Has all conversations, each within its own timeout, and returns what each came to, in their order. Those that are not
/// over when the run has to end say nothing about the other side.
pub fn converse<T: Talk>(talks: Vec<(T, Duration)>, run_ends: Instant) -> Vec<Ended<T>> {
    Rounds::new(talks, run_ends, Descriptors::of_process()).run()
}

/// How many connections may be open at the same time, in all loops that share this.
#[derive(Debug)]
pub struct Descriptors {
    most: usize,
    taken: Mutex<usize>,
}

impl Descriptors {
    /// So many, for some loops.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            taken: Mutex::new(0),
        }
    }

    /// What this process may have, but for what is left to all else that it does at the same time.
    pub fn of_process() -> &'static Self {
        static OF_PROCESS: OnceLock<Descriptors> = OnceLock::new();
        OF_PROCESS.get_or_init(|| {
            let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(256, |(soft, _)| soft);
            let fit = limit.saturating_sub(DESCRIPTORS_KEPT).max(limit / 4);
            Self::new(usize::try_from(fit).unwrap_or(usize::MAX).max(1))
        })
    }

    /// How many there may be.
    pub fn most(&self) -> usize {
        self.most
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The descriptors that one loop has of those that it shares.
struct Held<'a> {
    all: &'a Descriptors,
    mine: usize,
}

impl Held<'_> {
    /// Tells how many it has, and sees how many more it could take.
    fn free(&mut self, mine: usize) -> usize {
        self.reserve(mine, 0);
        let taken = self.all.lock();
        self.all.most.saturating_sub(*taken)
    }

    /// Tells how many it has, and takes up to `wanted` more, which it gives back by telling how many it has then.
    fn reserve(&mut self, mine: usize, wanted: usize) -> usize {
        let mut taken = self.all.lock();
        let others = taken.saturating_sub(self.mine);
        let free = self.all.most.saturating_sub(others + mine).min(wanted);
        self.mine = mine + free;
        *taken = others + self.mine;
        free
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.free(0);
    }
}

pub(super) struct Rounds<'a, T: Talk> {
    pub(super) began: Instant,
    conversations: Vec<Conversation<T>>,
    pub(super) names: Shared<String, Vec<SocketAddr>>,
    trusts: Shared<Option<PathBuf>, Arc<Trust>>,
    pub(super) helpers: Option<Helpers>,
    /// Why work for helpers cannot be done.
    pub(super) no_helper: Option<String>,
    descriptors: Held<'a>,
    /// How many descriptors may still be taken.
    free: usize,
    /// There was no descriptor: no new connection before this.
    starved_until: Option<Instant>,
    /// How long sockets were not looked at though they may have been ready.
    pub(super) stalled: Duration,
}

pub(super) fn no_descriptor(error: &io::Error) -> String {
    format!("there is no descriptor for it: {error} (ulimit -n, LimitNOFILE=)")
}

pub(super) fn no_poll(error: Errno) -> String {
    format!("cannot be asked: the system cannot wait for sockets: {error}")
}

impl<'a, T: Talk> Rounds<'a, T> {
    pub(super) fn new(
        talks: Vec<(T, Duration)>,
        run_ends: Instant,
        descriptors: &'a Descriptors,
    ) -> Self {
        let began = Instant::now();
        let mut rounds = Self {
            began,
            conversations: Vec::with_capacity(talks.len()),
            names: BTreeMap::new(),
            trusts: BTreeMap::new(),
            helpers: None,
            no_helper: None,
            descriptors: Held {
                all: descriptors,
                mine: 0,
            },
            free: 0,
            starved_until: None,
            stalled: Duration::ZERO,
        };
        for (talk, timeout) in talks {
            rounds.ask_for(&talk.target().clone());
            let conversation = Conversation::new(talk, timeout, began, run_ends);
            rounds.conversations.push(conversation);
        }
        rounds
    }

    /// Asks for what has to be known before a target can be connected to, where nobody has asked for it yet.
    fn ask_for(&mut self, target: &Target) {
        if let Address::Name { name, .. } = &target.address
            && !self.names.contains_key(name)
        {
            self.names.insert(name.clone(), None);
            self.push(Job::Resolve(name.clone()));
        }
        if let Some(tls) = &target.tls
            && !self.trusts.contains_key(&tls.ca_file)
        {
            self.trusts.insert(tls.ca_file.clone(), None);
            self.push(Job::Trust(tls.ca_file.clone()));
        }
    }

    pub(super) fn run(mut self) -> Vec<Ended<T>> {
        while self.conversations.iter().any(|one| one.outcome.is_none()) {
            self.round();
        }
        let missing = || Outcome::NotAsked("was not asked".to_owned());
        let all = std::mem::take(&mut self.conversations).into_iter();
        all.map(|one| (one.talk, one.outcome.unwrap_or_else(missing)))
            .collect()
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

    pub(super) fn round(&mut self) {
        let now = Instant::now();
        self.take_results(now);
        self.begin(now);
        let is_waiting = self.add_threads(now);
        for one in self
            .conversations
            .iter_mut()
            .filter(|one| one.outcome.is_none())
        {
            one.conclude();
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
                for one in self
                    .conversations
                    .iter_mut()
                    .filter(|one| one.outcome.is_none())
                {
                    one.outcome = Some(Outcome::NotAsked(why.clone()));
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
        for one in &mut self.conversations {
            if one.outcome.is_none() && one.deadline <= polled_at {
                one.expire(self.began, self.stalled, self.no_helper.as_deref());
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
                    let one = self
                        .conversations
                        .get_mut(number)
                        .filter(|one| one.outcome.is_none());
                    if let Some(one) = one {
                        one.take_unix(connected, now);
                    }
                }
            }
        }
        for one in self
            .conversations
            .iter_mut()
            .filter(|one| one.outcome.is_none())
        {
            one.take_shared(&self.names, &self.trusts);
        }
    }

    /// Begins connections as far as descriptors go: first one for each conversation, then further addresses.
    fn begin(&mut self, now: Instant) {
        let stalled = self.stalled;
        let mine = self.mine();
        let due = self.conversations.iter();
        let due = due.filter(|one| one.outcome.is_none() && one.is_due(now));
        let wanted = due.map(Conversation::wanted).sum();
        let mut free = self.descriptors.reserve(mine, wanted);
        if self.starved_until.is_some_and(|until| now < until) {
            free = 0;
        }
        self.starved_until = self.starved_until.filter(|&until| now < until);
        let mut jobs = Vec::new();
        for is_first in [true, false] {
            for (number, one) in self.conversations.iter_mut().enumerate() {
                if one.outcome.is_some() || one.first_at.is_none() != is_first || !one.is_due(now) {
                    continue;
                }
                while free > 0 && one.outcome.is_none() && one.is_due(now) {
                    free -= 1;
                    if let Some(path) = one.ask_unix(now, stalled) {
                        jobs.push(Job::Unix(number, path));
                        continue;
                    }
                    if !one.begin_next(now, stalled) {
                        self.starved_until = Some(now + AGAIN);
                        free = 0;
                    }
                }
                if free == 0 && one.is_due(now) {
                    one.is_starved = true;
                }
            }
        }
        for job in jobs {
            self.push(job);
        }
        let mine = self.mine();
        self.free = self.descriptors.free(mine);
    }

    /// How many descriptors its conversations have.
    fn mine(&self) -> usize {
        let open = self
            .conversations
            .iter()
            .filter(|one| one.outcome.is_none());
        open.map(Conversation::descriptors).sum()
    }

    /// When something has to be done though no socket is ready; none where all is over.
    fn next_event(&self, now: Instant, is_waiting: bool) -> Option<Instant> {
        let has_room = self.free > 0;
        let mut next: Option<Instant> = None;
        for one in self
            .conversations
            .iter()
            .filter(|one| one.outcome.is_none())
        {
            let mut at = one.deadline;
            if has_room && one.has_next() {
                at = at.min(one.next_at.max(self.starved_until.unwrap_or(one.next_at)));
            }
            for connection in &one.open {
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

    /// Waits until sockets are ready, and says which: by conversation, and by connection in it.
    fn poll(&self, wait: Duration) -> Result<Vec<(usize, usize)>, Errno> {
        let mut which = Vec::new();
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        let woken: Option<BorrowedFd<'_>> = self.helpers.as_ref().map(Helpers::woken);
        for (number, one) in self.conversations.iter().enumerate() {
            if one.outcome.is_some() {
                continue;
            }
            for (place, connection) in one.open.iter().enumerate() {
                which.push((number, place));
                fds.push(PollFd::new(connection.fd(), connection.events()));
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
            let is_due =
                (self.conversations[number].open[place].wakes_at()).is_some_and(|at| at <= now);
            (is_due || fd.any().unwrap_or(true)).then_some((number, place))
        };
        Ok(which.into_iter().zip(&fds).filter_map(is_ready).collect())
    }

    fn drive(&mut self, ready: &[(usize, usize)], now: Instant) {
        let mut moved = Vec::new();
        // from the last to the first: one that ends leaves the places before it as they are
        for &(number, place) in ready.iter().rev() {
            let one = &mut self.conversations[number];
            // one that has gone on has left its connections
            if one.outcome.is_some() || place >= one.open.len() {
                continue;
            }
            if one.drive(place, now, self.stalled) {
                moved.push(one.talk.target().clone());
            }
        }
        for target in moved {
            self.ask_for(&target);
        }
    }
}
