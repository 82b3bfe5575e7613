//! What of a rule about what a service uses may not do what was meant: each is looked at once, as the next run will do it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::look::{Look, Seen, look, memory_of_machine};
use super::{Rule, code};
use crate::amount::{Amount, rough_bytes};
use crate::check::process::{self, LastSeen, ProcessStatus};
use crate::check::trap::Trap;
use crate::check::unit::{self, Active, Manager, Status};
use crate::check::{Looking, Runs, ServiceContext};

/// Looks at all services at once.
pub(super) fn traps(
    rules: &[(&Arc<Rule>, &ServiceContext<'_>)],
    looking: &Looking<'_>,
) -> Vec<Vec<Trap>> {
    let machine = memory_of_machine();
    let units = units(rules, looking);
    let runs: Vec<Option<Arc<Runs>>> = (rules.iter())
        .map(|(_, service)| runs(service, &units, looking).map(Arc::new))
        .collect();
    let asked: Vec<_> = (rules.iter().zip(&runs))
        .map(|((rule, _), runs)| (*rule, runs.as_ref()))
        .collect();
    let looks = look(&asked, looking);
    let found = rules.iter().zip(&looks).map(|((rule, service), look)| {
        let mut traps = Vec::new();
        traps.extend(of_look(rule, look));
        traps.extend(of_machine(rule, machine));
        traps.extend(of_no_limit(rule, look));
        if rule.is_critical() && !service.has_method {
            traps.push(Trap::of_service(
                rule.key(),
                format!(
                    "`critical` of `{}` restarts nothing: the service has no restart method",
                    rule.key()
                ),
                "give it one of spawn, systemd, restart.command; else a person is only alerted",
            ));
        }
        traps
    });
    found.collect()
}

/// What systemd says of the units of these services.
fn units(
    rules: &[(&Arc<Rule>, &ServiceContext<'_>)],
    looking: &Looking<'_>,
) -> BTreeMap<(Manager, String), Status> {
    let mut wanted: BTreeMap<Manager, BTreeSet<String>> = BTreeMap::new();
    for unit in rules.iter().filter_map(|(_, service)| service.unit) {
        let units = wanted.entry(unit.manager).or_default();
        units.insert(unit.unit.clone());
    }
    let known = wanted.into_iter().flat_map(|(manager, units)| {
        let units: Vec<String> = units.into_iter().collect();
        // that it does not answer is a trap of the unit
        let statuses = unit::ask(manager, &units, looking.check_timeout).unwrap_or_default();
        let statuses = statuses.into_iter();
        statuses.map(move |(name, status)| ((manager, name), status))
    });
    known.collect()
}

/// What runs of a service now; nothing where nothing does, or where it cannot be seen.
fn runs(
    service: &ServiceContext<'_>,
    units: &BTreeMap<(Manager, String), Status>,
    looking: &Looking<'_>,
) -> Option<Runs> {
    let Some(unit) = service.unit else {
        let is_running = matches!(service.process_status, ProcessStatus::Running(_));
        return is_running.then(|| Runs {
            process_status: service.process_status.clone(),
            control_group: None,
            container: None,
        });
    };
    let status = units.get(&(unit.manager, unit.unit.clone()))?;
    if status.active != Active::Active {
        return None;
    }
    let main = status.main_pid;
    let main = main.and_then(|pid| process::look_at(pid, &LastSeen::default(), looking.now));
    Some(Runs {
        process_status: main.map_or(ProcessStatus::NotApplicable, |seen| seen.process_status),
        control_group: Some(status.control_group.clone()).filter(|group| !group.is_empty()),
        container: None,
    })
}

/// What the next run would find.
fn of_look(rule: &Rule, look: &Look) -> Option<Trap> {
    let Look::At { seen, .. } = look else {
        return None;
    };
    match seen {
        Seen::Unreadable(why) => Some(Trap::of_service(
            rule.key(),
            format!(
                "{}: {why}; until that is mended it is unknown in each run",
                rule.key()
            ),
            "run the watchdog as root or as the user of the service",
        )),
        Seen::Time { .. } => None,
        Seen::Measured(measured) => {
            let whole = measured.whole.as_ref();
            let levels = rule.levels(whole.map_or(0, |whole| whole.amount));
            let reached = [&levels.critical, &levels.warning].into_iter().flatten();
            let level = reached
                .into_iter()
                .find(|level| measured.figure >= level.from)?;
            Some(Trap::of_service(
                rule.key(),
                format!(
                    "it has {} now, which is over {}: it would be {} in the next run",
                    super::judge::shown(rule, measured.figure),
                    level.written,
                    code(rule)
                ),
                "give it a limit that it keeps while it is well",
            ))
        }
    }
}

/// A share of a limit that is not there.
fn of_no_limit(rule: &Rule, look: &Look) -> Option<Trap> {
    let Look::At {
        seen: Seen::Measured(measured),
        ..
    } = look
    else {
        return None;
    };
    let whole = measured.whole.as_ref().filter(|_| rule.has_share())?;
    let levels = rule.levels(0);
    let mut both = levels.warning.iter().chain(&levels.critical);
    let share = &both.find(|level| level.is_share)?.written;
    match rule {
        Rule::Memory(_) if whole.is_machine => Some(Trap::of_service(
            rule.key(),
            format!(
                "{share} is of all the memory of the machine, {}: it runs in no cgroup that has less",
                rough_bytes(whole.amount)
            ),
            "write a size, such as \"512 MB\", or set the limit that is meant (MemoryMax= of its unit)",
        )),
        Rule::OpenFiles(_) if whole.amount == u64::MAX => Some(Trap::of_service(
            rule.key(),
            format!("{share} is of a limit that it does not have: it is never reached"),
            "write a number, or set the limit that is meant (`ulimit -n`)",
        )),
        _ => None,
    }
}

/// A level that the machine does not have.
fn of_machine(rule: &Rule, machine: Option<u64>) -> Option<Trap> {
    let Rule::Memory(memory) = rule else {
        return None;
    };
    let machine = machine?;
    let levels = [memory.warning, memory.critical];
    let size = levels.into_iter().flatten().find_map(|level| match level {
        Amount::Size(size) if size.bytes() > machine => Some(size),
        _ => None,
    })?;
    Some(Trap::of_service(
        rule.key(),
        format!(
            "{size} is more than the machine has ({}): it is never reached",
            rough_bytes(machine)
        ),
        "write less, or a share such as \"90%\"",
    ))
}
