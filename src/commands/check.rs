//! `watchdog check`: the main job.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};

use crate::act::{Acted, Stage, act};
use crate::check::Observation;
use crate::check::process::Presence;
use crate::cli;
use crate::clock::Reading;
use crate::commands::{print, selected};
use crate::config::Config;
use crate::decide::{Decision, Facts, decide};
use crate::deliver::{self, deliver};
use crate::error::Error;
use crate::files::FileMark;
use crate::memory::Memory;
use crate::memory::journal::{self, Entry};
use crate::memory::store::{Loaded, Lock, Store, StoreError};
use crate::notify;
use crate::observe::observe;
use crate::pool::{Failed, Pool};
use crate::report::page::Style;
use crate::report::text::table;
use crate::report::{self, Report};
use crate::settle::{Telling, close_threads, settle, take_up, tell_own_trouble};
use crate::verdict::ExitCode;

/// One run: observe, decide, charge, act, settle, deliver, report.
pub fn run(config: Config, options: &cli::Check, style: Style) -> Result<u8, Error> {
    let began = Instant::now();
    let now = Reading::take();
    let deadline = began + config.run_timeout;
    let names = selected(&config, &options.services)?;
    let config = Arc::new(config);
    let pool = Pool::new();
    if options.dry_run {
        let store = Store::at(&config.state_dir);
        let mut loaded = store.look();
        loaded.memory.bring_to(&now);
        let seen = observe(&pool, &config, &names, &loaded.memory, &now, deadline);
        let decisions = decided(&config, &seen, &loaded.memory, &now, loaded.trusted);
        let silent = Telling { mail: None };
        settle_all(
            &config,
            &mut loaded.memory,
            &decisions,
            &seen,
            &Acted::default(),
            &now,
            silent,
        );
        return finish(
            &config,
            &loaded.memory,
            &decisions,
            None,
            began,
            &now,
            options,
            style,
        );
    }
    let telling = Telling {
        mail: config.mail.as_ref().filter(|_| !options.no_mail),
    };
    let (mark, _lock, store, loaded) = match take(&pool, &config, now.wall)? {
        Ok(taken) => taken,
        Err(busy @ StoreError::Busy { .. }) => return Err(busy.into()),
        Err(error) => {
            // nothing can be remembered, so nothing may be restarted; what is broken is told all the same
            let mut memory = Memory::default();
            let seen = observe(&pool, &config, &names, &memory, &now, deadline);
            let decisions = decided(&config, &seen, &memory, &now, false);
            settle_all(
                &config,
                &mut memory,
                &decisions,
                &seen,
                &Acted::default(),
                &now,
                telling,
            );
            return Err(unwritten(&config, &mut memory, error, &now, telling).into());
        }
    };
    let Loaded {
        mut memory,
        damage,
        trusted,
    } = loaded;
    let long_unflushed = memory.is_long_unflushed(now.wall);
    let clock_set = memory.bring_to(&now);
    let before = Beside::of(&memory);
    let seen = observe(&pool, &config, &names, &memory, &now, deadline);
    let left_out = |name: &str| {
        let unseen = seen
            .get(name)
            .is_none_or(|seen| seen.presence == Presence::Unseen);
        unseen && config.service(name).is_some_and(|service| service.enabled)
    };
    let cut_short = memory.cut_short();
    let mut taken_up = take_up(&mut memory, now.wall, telling, left_out);
    taken_up.extend(own_troubles(&mut memory, &damage, &now, telling));
    // before what this run does itself: that the state no longer knows of it then
    note(&store, &taken_up);
    let decisions = decided(&config, &seen, &memory, &now, trusted);
    let stage = Stage {
        config: &config,
        store: &store,
        lock: &mark,
        seen: &seen,
        cut_short: &cut_short,
        now: now.wall,
        deadline,
        watched: !options.quiet && crate::progress::is_watched(),
    };
    let mut acted = act(&stage, &decisions, &mut memory);
    let settled = settle_all(
        &config,
        &mut memory,
        &decisions,
        &seen,
        &acted,
        &now,
        telling,
    );
    let closed = close_threads(&mut memory);
    memory.last_run = Some(now.wall);
    forget_strangers(&config, &mut memory, now.wall);
    let nothing_new = !settled.news
        && !closed
        && taken_up.is_empty()
        && settled.entries.is_empty()
        && acted.outcomes.is_empty()
        && !clock_set
        && before == Beside::of(&memory)
        && !seen.values().any(|seen| seen.evidence)
        && !long_unflushed;
    let unwritable = acted.unwritable.take().or_else(|| {
        if !mark.holds() {
            let path = mark.path.clone();
            return Some(StoreError::Unlocked { path });
        }
        // before the state knows: a run that is killed between the two is told twice there, and not never
        note(&store, &settled.entries);
        let saved = if nothing_new {
            store.save_unflushed(&mut memory)
        } else {
            store.save(&mut memory)
        };
        saved.err()
    });
    if let Some(error) = unwritable {
        return Err(unwritten(&config, &mut memory, error, &now, telling).into());
    }

    let mail = telling
        .mail
        .map(|settings| deliver(&config, settings, &store, &mut memory, &now))
        .unwrap_or_default();
    let code = finish(
        &config,
        &memory,
        &decisions,
        Some(mail),
        began,
        &now,
        options,
        style,
    );
    // it ends with the process: to free thousands of pieces one by one helps nobody
    std::mem::forget((config, memory, seen, decisions));
    code
}

type Taken = (FileMark, Lock, Store, Loaded);

/// Takes the lock and loads the state. Who asks a disk that hangs can do nothing else: so it is a thread that asks.
fn take(
    pool: &Pool,
    config: &Config,
    now: DateTime<Utc>,
) -> Result<Result<Taken, StoreError>, Error> {
    let path = config.state_dir.clone();
    let limit = config.check_timeout.min(config.run_timeout);
    let asked = pool.alone(limit, {
        let path = path.clone();
        move || {
            let store = Store::prepare(&path)?;
            let lock = store.lock()?;
            let loaded = store.load(now)?;
            Ok((lock.mark()?, lock, store, loaded))
        }
    });
    match asked {
        Ok(taken) => Ok(taken),
        Err(Failed::Panicked) => Err(Error::fault()),
        Err(_) => Ok(Err(StoreError::Hangs { path, limit })),
    }
}

fn decided(
    config: &Config,
    seen: &BTreeMap<String, Observation>,
    memory: &Memory,
    now: &Reading,
    trusted: bool,
) -> Vec<Decision> {
    let facts = Facts {
        seen,
        memory,
        now: now.wall,
        trusted,
    };
    decide(&config.services, facts)
}

/// What is wrong with the state.
fn own_troubles(
    memory: &mut Memory,
    damage: &[String],
    now: &Reading,
    telling: Telling<'_>,
) -> Vec<Entry> {
    let mut entries = Vec::new();
    for sentence in damage {
        ::log::error!("{sentence}");
        let mut entry = Entry::new(now.wall, "watchdog", "state_damaged");
        entry.message = Some(sentence.clone());
        entries.push(entry);
        tell_own_trouble(memory, now.wall, sentence.clone(), telling);
    }
    entries
}

/// What is remembered beside the services, and of how many of them.
#[derive(PartialEq)]
struct Beside {
    jumped_at: Option<DateTime<Utc>>,
    owed: usize,
    mails: usize,
    services: usize,
}

impl Beside {
    fn of(memory: &Memory) -> Self {
        Self {
            jumped_at: memory.jumped_at,
            owed: memory.owed.len(),
            mails: memory.mails.len(),
            services: memory.services.len(),
        }
    }
}

/// What settling all services came to.
struct Settled {
    entries: Vec<Entry>,
    /// Something is remembered now that must not be forgotten.
    news: bool,
}

fn settle_all(
    config: &Config,
    memory: &mut Memory,
    decisions: &[Decision],
    seen: &BTreeMap<String, Observation>,
    acted: &Acted,
    now: &Reading,
    telling: Telling<'_>,
) -> Settled {
    let mut all = Settled {
        entries: Vec::new(),
        news: false,
    };
    // decided in the order of the config
    let mut services = config.services.iter();
    for decision in decisions {
        let Some(service) = services.find(|service| service.name == decision.service) else {
            break;
        };
        let settled = settle(
            memory,
            service,
            decision,
            seen.get(&service.name),
            acted.outcomes.get(&service.name),
            now.wall,
            telling,
        );
        all.entries.extend(settled.entries);
        all.news |= settled.news;
    }
    all
}

/// Lets go of services that the config no longer has, but not of attempts that still count: taking a service
/// out and putting it back in must not double its budget.
fn forget_strangers(config: &Config, memory: &mut Memory, now: DateTime<Utc>) {
    let names: HashSet<&str> = config
        .services
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    memory
        .services
        .retain(|name, known| names.contains(name.as_str()) || known.attempts_in_hour(now) > 0);
}

fn note(store: &Store, entries: &[Entry]) {
    if let Err(error) = journal::append(store.dir(), entries) {
        ::log::warn!(
            "the journal in {} cannot be written: {error}",
            store.dir().display()
        );
    }
}

/// The state cannot be written: nothing can be remembered, so a person is told at once.
fn unwritten(
    config: &Config,
    memory: &mut Memory,
    error: StoreError,
    now: &Reading,
    telling: Telling<'_>,
) -> StoreError {
    let unwell: Vec<String> = report::services(config, memory, now.wall, |_| true)
        .into_iter()
        .filter(|service| service.verdict.exit_code() != ExitCode::Ok)
        .map(|service| {
            let seen = service
                .findings
                .iter()
                .max_by_key(|finding| finding.severity);
            let why = seen
                .map(|finding| format!(": {}", finding.message))
                .unwrap_or_default();
            format!("{} is {}{why}", service.name, service.verdict.name())
        })
        .collect();
    if let Some(settings) = telling.mail {
        let mut message = format!("{error}; nothing is restarted until that is mended");
        for sentence in &unwell {
            message.push_str("; ");
            message.push_str(sentence);
        }
        tell_own_trouble(memory, now.wall, message, telling);
        let sent = deliver::at_once(config, settings, memory, now.wall);
        for trouble in sent.iter().flat_map(notify::Report::troubles) {
            ::log::error!("{trouble}");
        }
    }
    for sentence in unwell {
        ::log::error!("{sentence}");
    }
    error
}

#[expect(
    clippy::too_many_arguments,
    reason = "the end of a run: all that it came to is told here"
)]
fn finish(
    config: &Config,
    memory: &Memory,
    decisions: &[Decision],
    mail: Option<report::Mail>,
    began: Instant,
    now: &Reading,
    options: &cli::Check,
    style: Style,
) -> Result<u8, Error> {
    let by_name: HashMap<&str, &Decision> = decisions
        .iter()
        .map(|decision| (decision.service.as_str(), decision))
        .collect();
    let decided = |name: &str| by_name.get(name);
    let mut services = report::services(config, memory, now.wall, |name| decided(name).is_some());
    if options.dry_run {
        for service in &mut services {
            service.would_restart =
                decided(&service.name).is_some_and(|decision| decision.restart.is_some());
        }
    }
    let code = report::exit_code(&services);
    let report = Report {
        version: 1,
        host: report::host(),
        time: Some(now.wall),
        duration_ms: Some(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)),
        exit_code: code.code(),
        services,
        mail: Some(mail.unwrap_or_default()),
    };
    let quiet = options.quiet && code == ExitCode::Ok;
    if options.json {
        if !quiet {
            let json = serde_json::to_string(&report)
                .map_err(|error| Error::Internal(error.to_string()))?;
            print(&(json + "\n"))?;
        }
    } else if !quiet {
        let mut shown = report;
        if options.quiet {
            // what cron mails is read by somebody who was just woken
            shown
                .services
                .retain(|service| service.verdict.exit_code() != ExitCode::Ok);
        }
        print(&table(&shown, style))?;
    }
    Ok(code.code())
}
