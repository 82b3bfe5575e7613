//! `watchdog restart`: the whole restart sequence now, because a person says so.

use std::collections::BTreeSet;

use crate::check::container::Awaited;
use crate::cli;
use crate::clock;
use crate::commands::discovered::Containers;
use crate::commands::{one, print_or_log};
use crate::config::{Config, Service};
use crate::decide::Decision;
use crate::error::Error;
use crate::report::page::Style;
use crate::report::text::table;
use crate::restart::Operation;
use crate::run::{Access, Run, Session};
use crate::verdict::Verdict;

/// Restarts one service, recorded as an attempt like any other. Refused, with exit code 1, where there is no way
/// to do it, where its process could not be seen, and, unless forced, where the budget is spent or none.
pub fn run(
    config: Config,
    containers: Containers,
    options: &cli::Restart,
    style: Style,
) -> Result<u8, Error> {
    let names = BTreeSet::from([one(&config, &options.service)?.name.clone()]);
    // whoever asked for it is looking: there is nobody to alert
    let run = Run::begin(config, Some(names), false, crate::progress::is_watched());
    let run = run.with_containers(containers);
    let service = one(&run.config, &options.service)?;

    let mut session = run.open(false)?;
    if let Access::Refused(error) = session.access {
        return Err(error.into());
    }
    let observations = run.observe(&session);
    if let Some(why) = refusal(&run, &session, service, &observations, options.force) {
        ::log::error!("{} is not restarted: {why}", service.name);
        return Ok(1);
    }
    let decisions = [forced(&session, service)];
    let acted = run.act(&mut session, &observations, &decisions);
    let results = run.settle(&mut session, &observations, &decisions, &acted);
    run.record(&mut session, &results);
    run.publish(&session, &results);
    let report = run.report(session, results, None)?;

    print_or_log(&table(&report, style));
    let restarted = |service: &crate::report::ServiceReport| service.verdict == Verdict::Restarted;
    Ok(u8::from(!report.services.iter().all(restarted)))
}

/// Why the service is not restarted although a person asks for it.
fn refusal(
    run: &Run,
    session: &Session,
    service: &Service,
    observations: &crate::run::Observations,
    force: bool,
) -> Option<String> {
    if service.method.is_none() {
        let why = "no restart method is configured (spawn, systemd, container or restart.command)";
        return Some(why.to_owned());
    }
    if !service.enabled {
        return Some("it is disabled (enabled = false)".to_owned());
    }
    let Some(observation) = observations.get(&service.name) else {
        return Some("it could not be looked at, and a second copy might be started".to_owned());
    };
    if let Some(why) = observation.unseen_process() {
        return Some(why);
    }
    if observation.recreating.is_some() {
        return observation.recreating.clone();
    }
    if service.policy.max_per_hour == 0 && !force {
        let why = "max_per_hour = 0: it is never restarted; --force does it all the same";
        return Some(why.to_owned());
    }
    if session.state.attempts_lost && !force {
        let why = "the state and its backup were damaged, and how often it was restarted in the last hour is not known; the \
                   next check takes that up; --force does it all the same";
        return Some(why.to_owned());
    }
    if let Some(Awaited::Pending(why)) = &observation.awaited
        && !force
    {
        return Some(format!("{why}; --force does it all the same"));
    }
    let now = run.now.wall;
    let known = session.state.services.get(&service.name)?;
    let frees = known.budget_frees_at(now, service.policy.max_per_hour)?;
    (!force).then(|| {
        format!(
            "it has had {} of {} restarts in the last hour, and the next is free at {}; --force does it all the same",
            known.attempts_in_hour(now),
            service.policy.max_per_hour,
            clock::stamp(frees)
        )
    })
}

/// The decision that a person has made.
fn forced(session: &Session, service: &Service) -> Decision {
    let known = session.state.services.get(&service.name);
    Decision {
        operation: Some(Operation::Restart),
        requested: true,
        failures: known.map_or(0, |known| known.consecutive_failures),
        ..Decision::of(&service.name, Verdict::Failing)
    }
}
