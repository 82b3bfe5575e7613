//! Services that are replicas: one that is gone because there are to be fewer is not broken.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::check::Observation;
use crate::check::Severity;
use crate::check::container::behind_digits;
use crate::check::process::ProcessStatus;
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
        let is_critical = |it: &crate::check::Finding| it.severity == Severity::Critical;
        if runs || !observation.findings.iter().any(is_critical) {
            continue;
        }
        let Some(known) = state.scales.get(&scale.name) else {
            continue;
        };
        let is_changing = known.is_changing(now, 2 * scale.rule.start_timeout);
        let is_wanted = known
            .wanted
            .as_ref()
            .is_none_or(|wanted| wanted.contains(&number));
        let why = if is_changing {
            format!(
                "the scale `{}` is changing, so what does not run of it is not broken",
                scale.name
            )
        } else if is_wanted {
            continue;
        } else {
            format!(
                "the scale `{}` has fewer replicas now, so this one is not to run",
                scale.name
            )
        };
        observation.findings.clear();
        observation.notes.push(why);
    }
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
