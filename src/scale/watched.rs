//! Services that are replicas: one that is gone because there are to be fewer is not broken.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::check::container::{self, behind_digits};
use crate::check::process::ProcessStatus;
use crate::check::{Finding, Observation, Severity, unit};
use crate::config::{Scale, Service};
use crate::state::State;

/// Takes out of what was seen of services what is no failure: they are replicas that are not to run, or of a scale whose
/// change was cut short a short while ago.
pub fn excuse(
    scales: &[Arc<Scale>],
    services: &[Arc<Service>],
    state: &State,
    now: DateTime<Utc>,
    seen: &mut BTreeMap<String, Observation>,
) {
    for service in services {
        let Some((scale, number)) = scales
            .iter()
            .find_map(|scale| Some((scale, replica(scale, service)?)))
        else {
            continue;
        };
        let Some(observation) = seen.get_mut(&service.name) else {
            continue;
        };
        let runs = matches!(observation.process_status, ProcessStatus::Running(_));
        let is_critical = |it: &Finding| it.severity == Severity::Critical;
        if runs || !observation.findings.iter().any(is_critical) {
            continue;
        }
        let known = state.scales.get(&scale.name);
        let is_changing =
            known.is_some_and(|known| known.is_changing(now, 2 * scale.rule.start_timeout));
        let why = if is_changing {
            format!(
                "the scale `{}` is changing, so what does not run of it is not broken",
                scale.name
            )
        } else {
            match known.and_then(|known| known.wanted.as_ref()) {
                Some(wanted) if wanted.contains(&number) => continue,
                Some(_) => format!(
                    "the scale `{}` has fewer replicas now, so this one is not to run",
                    scale.name
                ),
                // this run is the first that counts them: those that are to run are those that do
                None if observation.findings.iter().all(is_absence) => format!(
                    "no run has counted the replicas of the scale `{}` before, so one that does not run is not to run",
                    scale.name
                ),
                None => continue,
            }
        };
        observation.findings.clear();
        observation.notes.push(why);
    }
}

/// Whether a finding says only that a replica is not there, and not that it has failed.
fn is_absence(finding: &Finding) -> bool {
    finding.severity != Severity::Critical
        || [container::MISSING, unit::INACTIVE].contains(&&*finding.code)
}

/// The number of the replica that a service is.
fn replica(scale: &Scale, service: &Service) -> Option<u32> {
    if let Some(unit) = &service.unit {
        let is_its = unit.manager == scale.rule.manager();
        return scale.rule.number_of(&unit.unit).filter(|_| is_its);
    }
    let compose = scale.rule.compose.as_ref()?;
    let name = service.container.as_ref()?.name.as_ref()?;
    let name = behind_digits(name).unwrap_or(name);
    // `_` by the first version of Compose, `-` by the second
    let rest = name.strip_prefix(&*compose.project)?;
    let rest = rest.strip_prefix(['-', '_'])?;
    let rest = rest.strip_prefix(&*compose.service)?;
    rest.strip_prefix(['-', '_'])?.parse().ok()
}
