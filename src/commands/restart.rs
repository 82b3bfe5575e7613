//! `watchdog restart`: the whole restart sequence now, because a person says so.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use crate::act::{Stage, act};
use crate::check::Severity;
use crate::check::process::Presence;
use crate::cli;
use crate::clock::{self, Reading};
use crate::commands::{Opened, one, open, print, selected};
use crate::config::Config;
use crate::decide::{Decision, Restart};
use crate::error::Error;
use crate::memory::journal;
use crate::memory::store::StoreError;
use crate::observe::observe;
use crate::pool::Pool;
use crate::report::page::Style;
use crate::report::text::table;
use crate::report::{self, Report};
use crate::settle::{Telling, settle};

/// Restarts one service, counted as an attempt like any other. Refused, with exit code 1, where there is no way
/// to do it, where its process could not be seen, and, unless forced, where the budget is spent or not known.
pub fn run(config: Config, options: &cli::Restart, style: Style) -> Result<u8, Error> {
    let began = Instant::now();
    let names = selected(&config, std::slice::from_ref(&options.service))?;
    let config = Arc::new(config);
    let Opened {
        store,
        lock,
        mut memory,
        now,
    } = open(&config)?;
    let mark = lock.mark()?;
    let service = one(&config, &options.service)?;
    let refuse = |why: &str| {
        ::log::error!("{} is not restarted: {why}", service.name);
        Ok(1)
    };
    if service.way.is_none() {
        return refuse("its config has no way to restart it (spawn, systemd or restart.command)");
    }
    let deadline = began + config.run_timeout;
    let seen = observe(&Pool::new(), &config, &names, &memory, &now, deadline);
    let observation = seen.get(&service.name);
    if observation.is_none_or(|seen| seen.presence == Presence::Unseen) {
        let why: Vec<&str> = observation
            .iter()
            .flat_map(|seen| &seen.findings)
            .filter(|finding| finding.severity == Severity::Unknown)
            .map(|finding| finding.message.as_str())
            .collect();
        return refuse(&format!(
            "its process could not be seen, and a second copy might be started: {}",
            why.join("; ")
        ));
    }
    if memory.attempts_lost && !options.force {
        return refuse(
            "the state and its backup were damaged, and how often it was restarted in the last hour is not known; the \
             next check takes that up; --force does it all the same",
        );
    }
    let known = memory.services.entry(service.name.clone()).or_default();
    if let Some(frees) = known.budget_frees_at(now.wall, service.policy.max_per_hour)
        && !options.force
    {
        return refuse(&format!(
            "it has had {} of {} restarts in the last hour, and the next is free at {}; --force does it all the same",
            known.attempts_in_hour(now.wall),
            service.policy.max_per_hour,
            clock::stamp(frees)
        ));
    }
    let decision = Decision {
        service: service.name.clone(),
        verdict: crate::verdict::Verdict::Failing,
        restart: Some(Restart::default()),
        why: None,
        failures: known.consecutive_failures,
    };
    let cut_short = memory.cut_short();
    let stage = Stage {
        config: &config,
        store: &store,
        lock: &mark,
        seen: &seen,
        cut_short: &cut_short,
        now: now.wall,
        deadline,
        watched: crate::progress::is_watched(),
    };
    let mut acted = act(&stage, std::slice::from_ref(&decision), &mut memory);
    if let Some(error) = acted.unwritable.take() {
        return Err(error.into());
    }
    // whoever asked for it is looking: there is nobody to mail
    let settled = settle(
        &mut memory,
        service,
        &decision,
        seen.get(&service.name),
        acted.outcomes.get(&service.name),
        now.wall,
        Telling { mail: None },
    );
    // before the state knows, and where it cannot: the restart was made
    journal::append_or_warn(store.dir(), &settled.entries);
    if !mark.holds() {
        let path = mark.path.clone();
        return Err(StoreError::Unlocked { path }.into());
    }
    store.save(&mut memory)?;
    show(&config, &memory, &names, &now, style)?;
    Ok(u8::from(
        settled.verdict != crate::verdict::Verdict::Restarted,
    ))
}

fn show(
    config: &Config,
    memory: &crate::memory::Memory,
    names: &BTreeSet<String>,
    now: &Reading,
    style: Style,
) -> Result<(), Error> {
    let services = report::services(config, memory, now.wall, |name| names.contains(name));
    let report = Report {
        version: 1,
        host: report::host(),
        time: Some(now.wall),
        duration_ms: None,
        exit_code: 0,
        services,
        mail: None,
    };
    print(&table(&report, style))
}
