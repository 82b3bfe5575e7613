//! The units of services: each systemd is asked once for all of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::processes::look_at_mains;
use super::{Subject, unanswered};
use crate::check::process::ProcessStatus;
use crate::check::unit::{self, Manager};
use crate::check::{Looking, Observation, Presence};
use crate::config::Config;
use crate::pool::Failed;

/// What a call of systemctl may take beyond its own limit: to be killed and collected.
const SYSTEMCTL_SLACK: Duration = Duration::from_secs(2);

/// Asks each systemd once for all of its units, and looks at their main processes.
pub(super) fn look_at_units(
    subjects: &[Subject<'_>],
    config: &Config,
    looking: &Looking<'_>,
    seen: &mut [Observation],
) {
    let (pool, now, deadline) = (looking.pool, looking.now, looking.deadline);
    let mut units: BTreeMap<Manager, BTreeSet<String>> = BTreeMap::new();
    for unit in subjects
        .iter()
        .filter_map(|subject| subject.service.unit.as_ref())
    {
        units
            .entry(unit.manager)
            .or_default()
            .insert(unit.unit.clone());
    }
    let managers: Vec<Manager> = units.keys().copied().collect();
    let limit = config.check_timeout;
    let answers = pool.side_by_side(
        units.into_iter().collect(),
        limit + SYSTEMCTL_SLACK,
        deadline,
        move |(manager, units): (Manager, BTreeSet<String>)| {
            unit::look(manager, &units.into_iter().collect::<Vec<_>>(), limit)
        },
    );
    let answers: BTreeMap<_, _> = managers.into_iter().zip(answers).collect();
    // whose they are, and what to look at
    let (mut whose, mut mains) = (Vec::new(), Vec::new());
    for (place, (subject, observation)) in subjects.iter().zip(&mut *seen).enumerate() {
        let Some(unit) = &subject.service.unit else {
            continue;
        };
        let last_seen = subject.known.unit.as_ref();
        let answer = answers.get(&unit.manager);
        let judged = match answer.unwrap_or(&Err(Failed::NoThread)) {
            Ok(Ok(statuses)) => unit::judge(
                unit,
                statuses.get(&unit.unit),
                last_seen,
                now,
                config.check_timeout,
            ),
            Ok(Err(why)) => unit::unreachable(unit, last_seen, why),
            Err(failed) => unit::unreachable(unit, last_seen, &unanswered(*failed, config)),
        };
        observation.findings.extend(judged.findings.iter().cloned());
        // a process table of its own says more than systemd does
        if subject.service.process.is_none() {
            match judged.standing {
                Presence::Up(Some(pid)) => {
                    whose.push(place);
                    mains.push((pid, observation.subject.process.clone()));
                }
                Presence::Up(None) => {}
                Presence::Down => observation.process_status = ProcessStatus::NotRunning,
                Presence::Unseen => observation.process_status = ProcessStatus::Unknown,
            }
        }
        observation.activating = judged.activating;
        observation.left_alone = judged.left_alone;
        observation.control_group = judged.control_group;
        observation.subject.unit = judged.last_seen;
    }
    look_at_mains(whose, mains, config, looking, seen);
}
