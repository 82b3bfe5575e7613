//! What restarts take from containers that share the network of what is restarted.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use super::Decision;
use crate::check::container::NETWORK_LOST;
use crate::check::{Finding, Kind, Observation, Severity};
use crate::config::Service;
use crate::restart::{MethodName, Operation, RestartMethod};

/// Decides by `decide`, and adds to what was seen what the restarts that are due take from others, until they take nothing
/// more.
pub fn decide_with_losses(
    services: &[impl Borrow<Service>],
    seen: &mut BTreeMap<String, Observation>,
    decide: impl Fn(&BTreeMap<String, Observation>) -> Vec<Decision>,
) -> Vec<Decision> {
    loop {
        let decisions = decide(seen);
        // each is added once, so this ends
        let lost = lost_networks(services, &decisions, seen);
        if lost.is_empty() {
            return decisions;
        }
        for (name, finding) in lost {
            if let Some(seen) = seen.get_mut(&name) {
                seen.findings.push(finding);
            }
        }
    }
}

/// The services that lose their network by the restarts that were decided on, each with what is then wrong with it. Those
/// that have lost it already are not among them.
fn lost_networks(
    services: &[impl Borrow<Service>],
    decisions: &[Decision],
    seen: &BTreeMap<String, Observation>,
) -> Vec<(String, Finding)> {
    // first of all, for there seldom is one
    let shares = seen.iter().filter_map(|(name, seen)| {
        let owner = seen.network_of.as_ref()?;
        let container = seen.subject.container.as_ref()?;
        let is_lost = seen.findings.iter().any(|it| it.code == NETWORK_LOST);
        (container.state == "running" && !is_lost).then_some((name, owner))
    });
    let lost = shares.filter(|(_, owner)| {
        let is_restarted = decisions.iter().any(|decision| {
            decision.service == **owner && decision.operation == Some(Operation::Restart)
        });
        // a command may make it anew, and then a restart does not help who shares its network
        let by_engine = services.iter().map(Borrow::borrow).any(|service| {
            let method = service.method.as_ref().map(RestartMethod::name);
            service.name == **owner && method == Some(MethodName::Container)
        });
        is_restarted && by_engine
    });
    let found = lost.map(|(name, owner)| {
        let message = format!(
            "its network is that of `{owner}`, which is restarted: it loses it then, until it is restarted too"
        );
        let finding = Finding::new(
            Kind::Container,
            NETWORK_LOST,
            Severity::Critical,
            message,
        );
        (name.clone(), finding)
    });
    found.collect()
}
