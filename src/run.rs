//! The steps of a run, for the commands that make one: `check` and `restart`.
//!
//! Each step takes the results of the earlier ones as values and hands its own on. What the state may be used for
//! is such a value too ([`Access`]): a dry run, a state directory that cannot be used and a disk that hangs go
//! through the same steps, which then write nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};

use crate::act::{ActContext, Acted, act};
use crate::check::Observation;
use crate::check::process::ProcessStatus;
use crate::client::engine::Listed;
use crate::clock::{Reading, age, rough};
use crate::config::Config;
use crate::decide::{Decision, Facts, decide_with_losses, decide_with_requests};
use crate::deliver::{at_once, deliver};
use crate::error::Error;
use crate::files::FileId;
use crate::notify::Channel;
use crate::observe::observe;
use crate::plan::Roster;
use crate::pool::{Failed, Pool};
use crate::report::period::expected;
use crate::report::{self, Deliveries, RunReport, ScaleReport, ServiceReport};
use crate::requests::Request;
use crate::restart::Asking;
use crate::restart::command::empty_large_outputs;
use crate::scale::watched::excuse;
use crate::settle::{
    AlertConfig, alert_own_trouble, note_start, recover_interrupted, settle, settle_stand_ins,
};
use crate::state::journal::{self, Entry, JournalEvent};
use crate::state::store::{Loaded, Lock, Lost, Store, StoreError};
use crate::state::{RunResult, State};
use crate::verdict::{ExitCode, Verdict};

mod scales;

mod publishing;
mod requests;

/// What was observed, by service.
pub type Observations = BTreeMap<String, Observation>;

/// What a run is about: fixed before its first step.
#[derive(Debug)]
pub struct Run {
    /// The config.
    pub config: Arc<Config>,
    /// The services and scales that were asked for; absent: all of them.
    pub only: Option<BTreeSet<String>>,
    /// What the clocks showed when the run began. The only time that decisions know.
    pub now: Reading,
    /// Whether anybody is alerted.
    pub alerts: bool,
    /// Whether a person watches who would wonder about long waits.
    pub watched: bool,
    /// What the engine listed, where services were looked for.
    containers: Option<Result<Vec<Listed>, String>>,
    began: Instant,
    deadline: Instant,
    pool: Pool,
}

/// How a run may use the state.
#[derive(Debug)]
pub enum Access {
    /// It has the lock, and records what it does.
    Writable {
        /// The state directory.
        store: Store,
        /// The file that the lock is on.
        lock_file: FileId,
    },
    /// A dry run: it reads the state, and does nothing.
    ReadOnly,
    /// The state directory cannot be used, for this reason: nothing can be recorded, so nothing is restarted.
    Refused(StoreError),
}

/// The state in the hands of a run.
#[derive(Debug)]
pub struct Session {
    /// How it may be used.
    pub access: Access,
    /// The lock, held until all of the run is done, also where the state turns out not to be writable.
    lock: Option<Lock>,
    /// A restart goes on that the run could not wait for: it ends with the process, and so must the lock.
    is_unfinished: bool,
    /// What is remembered.
    pub state: State,
    /// The services that there are.
    pub roster: Roster,
    /// Whether the remembered attempts can be relied on.
    pub trusted: bool,
    /// What somebody asked for.
    requests: Vec<Asked>,
    /// The services whose restart an earlier run did not see the end of.
    interrupted: BTreeSet<String>,
    /// The clock was set or jumped, or the state was not flushed to the disk for long: it must be flushed now.
    must_flush: bool,
    before: TopLevel,
}

/// What somebody asked for.
#[derive(Debug)]
struct Asked {
    request: Request,
    /// Why the alert that wants it is no reason for it.
    refusal: Option<String>,
}

/// What is remembered beside the services, and of how many of them.
#[derive(Debug, PartialEq)]
struct TopLevel {
    jumped_at: Option<DateTime<Utc>>,
    pending_alerts: usize,
    sent: usize,
    services: usize,
}

impl TopLevel {
    fn of(state: &State) -> Self {
        Self {
            jumped_at: state.jumped_at,
            pending_alerts: state.channels.values().map(|it| it.pending.len()).sum(),
            sent: state.channels.values().map(|it| it.sent.len()).sum(),
            services: state.services.len(),
        }
    }
}

/// Logs what of the state is damaged, and returns it for the journal.
pub fn damage_entries(damage: &[String], now: DateTime<Utc>) -> Vec<Entry> {
    let entry = |sentence: &String| {
        ::log::error!("{sentence}");
        let mut entry = Entry::new(now, "watchdog", JournalEvent::StateDamaged);
        entry.message = Some(sentence.clone());
        entry
    };
    damage.iter().map(entry).collect()
}

/// The entry that no run was made from the last one to now, where one should have been by what lay between the two before.
fn silence(since: DateTime<Utc>, now: DateTime<Utc>, interval: Duration) -> Option<Entry> {
    let gap = age(now, since);
    (gap > expected(interval)).then(|| Entry {
        since: Some(since),
        message: Some(format!("no run for {}", rough(gap))),
        ..Entry::new(now, "watchdog", JournalEvent::Silent)
    })
}

/// What all steps up to the restarts came to.
#[derive(Debug)]
pub struct Results {
    /// The services in the order of the config.
    pub services: Vec<ServiceReport>,
    /// The scales in the order of the config.
    pub scales: Vec<ScaleReport>,
    /// What to write into the journal.
    entries: Vec<Entry>,
    /// The state has changed in a way that must survive a crash.
    must_flush: bool,
}

impl Run {
    /// A run over these services and scales, or over all of them, that begins now.
    pub fn begin(
        config: Config,
        only: Option<BTreeSet<String>>,
        alerts: bool,
        watched: bool,
    ) -> Self {
        let began = Instant::now();
        Self {
            deadline: began + config.run_timeout,
            now: Reading::take(),
            config: Arc::new(config),
            only,
            alerts,
            watched,
            containers: None,
            began,
            pool: Pool::new(),
        }
    }

    /// It with what the engine listed before it began, which need not be asked for again.
    #[must_use]
    pub fn with_containers(self, containers: Option<Result<Vec<Listed>, String>>) -> Self {
        Self { containers, ..self }
    }

    /// Whether a service or scale is one of those that were asked for.
    fn is_about(&self, name: &str) -> bool {
        (self.only.as_ref()).is_none_or(|only| only.contains(name))
    }

    /// Whom to alert.
    fn alerting(&self) -> AlertConfig<'_> {
        let channels: &[Channel] = &self.config.channels;
        AlertConfig {
            channels: if self.alerts { channels } else { &[] },
        }
    }

    /// Takes the lock and loads the state; a dry run only reads. Another run that holds the lock is an error, any
    /// other trouble with the state directory is an [`Access::Refused`].
    pub fn open(&self, dry_run: bool) -> Result<Session, Error> {
        if dry_run {
            let loaded = Store::at(&self.config.state_dir).look();
            // a run sets aside what is damaged, and goes on; what it comes to without a state that it may have is not known
            let loaded = match loaded.lost {
                None | Some(Lost::Damaged) => loaded,
                Some(_) => loaded.readable()?,
            };
            loaded.warn();
            return Ok(self.session(Access::ReadOnly, None, loaded));
        }
        match self.lock_and_load()? {
            Ok((access, lock, mut loaded)) => {
                let damage = std::mem::take(&mut loaded.damage);
                let mut session = self.session(access, Some(lock), loaded);
                if let Err(error) = self.keep_damage(&mut session, damage) {
                    session.access = Access::Refused(error);
                }
                Ok(session)
            }
            Err(busy @ StoreError::Busy { .. }) => Err(busy.into()),
            Err(error) => Ok(self.session(Access::Refused(error), None, Loaded::default())),
        }
    }

    /// A disk that hangs blocks whoever asks it, so a thread of the pool asks.
    fn lock_and_load(&self) -> Result<Result<(Access, Lock, Loaded), StoreError>, Error> {
        let path = self.config.state_dir.clone();
        let limit = self.config.check_timeout.min(self.config.run_timeout);
        let now = self.now.wall;
        let asked = self.pool.alone(limit, {
            let path = path.clone();
            move || {
                let store = Store::prepare(&path)?;
                let lock = store.lock()?;
                empty_large_outputs(store.dir());
                let loaded = store.load(now)?;
                let access = Access::Writable {
                    lock_file: lock.mark()?,
                    store,
                };
                Ok((access, lock, loaded))
            }
        });
        match asked {
            Ok(opened) => Ok(opened),
            Err(Failed::Panicked) => Err(Error::fault()),
            Err(_) => Ok(Err(StoreError::Hangs { path, limit })),
        }
    }

    fn session(&self, access: Access, lock: Option<Lock>, loaded: Loaded) -> Session {
        let Loaded {
            mut state, trusted, ..
        } = loaded;
        let long_unflushed = state.is_long_unflushed(self.now.wall);
        let clock_set = state.adjust_to_clock(&self.now);
        Session {
            access,
            lock,
            is_unfinished: false,
            trusted,
            requests: Vec::new(),
            interrupted: state.interrupted(),
            roster: Roster {
                services: self.config.services.clone(),
                scales: self.config.scales.clone(),
                containers: self.containers.clone(),
            },
            must_flush: long_unflushed || clock_set,
            before: TopLevel::of(&state),
            state,
        }
    }

    /// Journals and saves at once what of the state was found damaged: the damaged file has been set aside, and a run
    /// that is killed leaves no other trace of it. A check alerts about it, and restarts nothing where attempts may be
    /// missing; any other run leaves that to the next check.
    fn keep_damage(&self, session: &mut Session, damage: Vec<String>) -> Result<(), StoreError> {
        let Access::Writable { store, .. } = &session.access else {
            return Ok(());
        };
        if damage.is_empty() {
            return Ok(());
        }
        journal::append_or_warn(store.dir(), &damage_entries(&damage, self.now.wall));
        session.state.damage.extend(damage);
        session.state.attempts_lost = !session.trusted;
        store.save_twice(&mut session.state)
    }

    /// Runs all checks of the services, side by side.
    pub fn observe(&self, session: &Session) -> Observations {
        let mut seen = observe(
            &self.pool,
            &self.config,
            &session.roster,
            |name| self.is_about(name),
            &session.state,
            &self.now,
            self.deadline,
        );
        if !self.config.scales.is_empty() {
            let (scales, services) = (&self.config.scales, &session.roster.services);
            excuse(scales, services, &session.state, self.now.wall, &mut seen);
        }
        seen
    }

    /// Journals and alerts about what earlier runs left behind: restarts that they did not see the end of, a damaged
    /// state. Journal first: a crash in between then duplicates an entry instead of losing it.
    pub fn recover(&self, session: &mut Session, observations: &Observations) {
        let Access::Writable { store, .. } = &session.access else {
            return;
        };
        let roster = &session.roster;
        let unseen = |name: &str| {
            let unseen = observations
                .get(name)
                .is_none_or(|seen| seen.process_status == ProcessStatus::Unknown);
            unseen && roster.service(name).is_some_and(|it| it.enabled)
        };
        let (state, now) = (&mut session.state, self.now.wall);
        let entries = recover_interrupted(state, now, self.alerting(), unseen);
        // journalled by the run that found it
        let damage = std::mem::take(&mut state.damage);
        session.must_flush |= !entries.is_empty() || !damage.is_empty() || state.attempts_lost;
        state.attempts_lost = false;
        let is_new = state.last_run.is_none() && damage.is_empty();
        if is_new && !self.alerting().channels.is_empty() {
            let count = session.roster.services.len() + session.roster.scales.len();
            note_start(state, now, count, self.alerting());
        }
        for sentence in damage {
            alert_own_trouble(state, now, &sentence, self.alerting());
        }
        journal::append_or_warn(store.dir(), &entries);
    }

    /// Decides about every service that was observed. What the restarts that are due will take from others is added to
    /// what was observed of those.
    pub fn decide(&self, session: &Session, observations: &mut Observations) -> Vec<Decision> {
        let services = &session.roster.services;
        let requested = self.requested(session);
        let mut decisions = decide_with_losses(services, observations, |seen| {
            let facts = Facts {
                seen,
                state: &session.state,
                now: self.now.wall,
                trusted: session.trusted,
            };
            decide_with_requests(services, facts, &requested)
        });
        // disabled services are decided about without a look, so they may not have been asked for
        decisions.retain(|decision| self.is_about(&decision.service));
        decisions
    }

    /// Records and makes the restarts that were decided. Where the state cannot be written, nothing is done.
    pub fn act(
        &self,
        session: &mut Session,
        observations: &Observations,
        decisions: &[Decision],
    ) -> Acted {
        let Access::Writable { store, lock_file } = &session.access else {
            return Acted::default();
        };
        let context = ActContext {
            roster: &session.roster,
            store,
            lock: lock_file,
            seen: observations,
            interrupted: &session.interrupted,
            now: self.now.wall,
            began: self.began,
            asking: Asking {
                check_timeout: self.config.check_timeout,
                run_timeout: self.config.run_timeout,
                run_ends: self.deadline,
            },
            watched: self.watched,
        };
        let mut acted = act(&context, decisions, &mut session.state);
        session.is_unfinished = acted.is_unfinished();
        if let Some(error) = acted.unwritable.take() {
            session.access = Access::Refused(error);
        }
        acted
    }

    /// Brings the state up to date with what was observed, decided and done, and gives back what it all came to.
    pub fn settle(
        &self,
        session: &mut Session,
        observations: &Observations,
        decisions: &[Decision],
        acted: &Acted,
    ) -> Results {
        // a dry run alerts nobody
        let alerting = match session.access {
            Access::ReadOnly => AlertConfig { channels: &[] },
            _ => self.alerting(),
        };
        let mut results = Results {
            services: Vec::with_capacity(decisions.len()),
            scales: Vec::new(),
            entries: Vec::new(),
            must_flush: !acted.outcomes.is_empty()
                || observations.values().any(|seen| seen.consumed),
        };
        // decisions come in the order of the roster
        let mut services = session.roster.services.iter();
        for decision in decisions {
            let Some(service) = services.find(|service| service.name == decision.service) else {
                continue;
            };
            let settled = settle(
                &mut session.state,
                service,
                decision,
                observations.get(&service.name),
                acted.outcomes.get(&service.name),
                self.now.wall,
                alerting,
            );
            results.services.push(settled.report);
            results.entries.extend(settled.entries);
            results.must_flush |= settled.must_persist;
        }
        let ended = session.roster.no_longer_stand(&session.state);
        let tables = &self.config.discover;
        let ended = ended.filter(|(name, table)| {
            session.roster.service(name).is_none() && tables.iter().any(|it| it.name == *table)
        });
        let ended: Vec<String> = ended.map(|(name, _)| name.to_owned()).collect();
        let now = self.now.wall;
        let entries = settle_stand_ins(&mut session.state, &ended, now, alerting);
        results.entries.extend(entries);
        results.must_flush |= !results.entries.is_empty();
        results
    }

    /// Writes journal and state. Where that fails, the access becomes [`Access::Refused`]. Journal first: a crash in
    /// between then duplicates an entry instead of losing it.
    pub fn record(&self, session: &mut Session, results: &Results) {
        session.must_flush |= session.state.close_threads();
        let interval = session.state.run_interval();
        let before = session.state.note_run(self.now.wall);
        let silent = before.zip(interval);
        let silent = silent.and_then(|(since, interval)| silence(since, self.now.wall, interval));
        session.state.last_result = Some(self.result(results));
        session
            .roster
            .remember_found(&mut session.state, self.now.wall);
        session
            .roster
            .forget_removed(&mut session.state, self.now.wall);
        let Access::Writable { store, lock_file } = &session.access else {
            return;
        };
        // what was done is in the audit trail, whatever becomes of the state
        journal::append_or_warn(store.dir(), &results.entries);
        journal::append_or_warn(store.dir(), silent.as_slice());
        let flush = session.must_flush
            || results.must_flush
            || session.before != TopLevel::of(&session.state);
        let saved = if !lock_file.holds() {
            let path = lock_file.path.clone();
            Err(StoreError::Unlocked { path })
        } else if flush {
            store.save(&mut session.state)
        } else {
            store.save_unflushed(&mut session.state)
        };
        if let Err(error) = saved {
            session.access = Access::Refused(error);
        }
    }

    /// Sends what is pending, and gives back what came of it on each channel. Where the state cannot be written there is
    /// no outbox: people are alerted at once.
    pub fn alert(&self, session: &mut Session, results: &Results) -> BTreeMap<String, Deliveries> {
        let channels = self.alerting().channels;
        match &session.access {
            Access::Writable { store, .. } if !channels.is_empty() => {
                deliver(&self.config, channels, store, &mut session.state, &self.now)
            }
            Access::Refused(error) => {
                let hangs = matches!(error, StoreError::Hangs { .. });
                let last_saved = if hangs { None } else { self.last_saved() };
                let error = error.to_string();
                self.alert_unrecorded(&error, &mut session.state, results, last_saved);
                BTreeMap::new()
            }
            _ => BTreeMap::new(),
        }
    }

    fn result(&self, results: &Results) -> RunResult {
        RunResult {
            duration_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            exit_code: report::exit_code(&results.services, &results.scales).code(),
        }
    }

    fn alert_unrecorded(
        &self,
        error: &str,
        state: &mut State,
        results: &Results,
        last_saved: Option<SystemTime>,
    ) {
        let is_unwell = |verdict: Verdict| verdict.exit_code() != ExitCode::Ok;
        let services = results.services.iter().filter(|it| is_unwell(it.verdict));
        let scales = results.scales.iter().filter(|it| is_unwell(it.verdict));
        let unwell: Vec<String> = services
            .map(report::summary::sentence)
            .chain(scales.map(report::summary::of_scale))
            .collect();
        let channels = self.alerting().channels;
        if !channels.is_empty() {
            let mut message = format!("{error}; nothing is restarted until that is mended");
            for sentence in &unwell {
                message.push_str("; ");
                message.push_str(sentence);
            }
            let now = self.now.wall;
            alert_own_trouble(state, now, &message, self.alerting());
            at_once(&self.config, channels, state, now, last_saved);
        }
        for sentence in unwell {
            ::log::error!("{sentence}");
        }
    }

    /// When a run could write its state last, as far as that can be told. A disk that hangs blocks whoever asks it.
    fn last_saved(&self) -> Option<SystemTime> {
        let store = Store::at(&self.config.state_dir);
        let asked = self
            .pool
            .alone(self.config.check_timeout, move || store.last_saved());
        asked.ok()?
    }

    /// What the run came to; an error where it could not be recorded.
    pub fn report(
        &self,
        session: Session,
        results: Results,
        sent: Option<BTreeMap<String, Deliveries>>,
    ) -> Result<RunReport, Error> {
        let Session {
            access,
            lock,
            is_unfinished,
            state,
            roster,
            ..
        } = session;
        // what still stops and starts a service must not do so beside another run
        if is_unfinished {
            std::mem::forget(lock);
        }
        // the program ends: to free all of it piece by piece took as long as to decide
        std::mem::forget((state, roster));
        if let Access::Refused(error) = access {
            return Err(error.into());
        }
        let alerts = sent.is_some();
        let mut notify = sent.unwrap_or_default();
        let mail = notify.remove(Channel::MAIL).unwrap_or_default();
        Ok(RunReport {
            version: 1,
            host: report::host(),
            time: Some(self.now.wall),
            duration_ms: Some(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)),
            exit_code: report::exit_code(&results.services, &results.scales).code(),
            services: results.services,
            scales: results.scales,
            mail: alerts.then_some(mail),
            notify: alerts.then_some(notify),
        })
    }
}
