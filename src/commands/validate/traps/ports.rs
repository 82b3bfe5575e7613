//! Traps of port probes: each is made once, as the next run will make it.

use std::time::{Duration, Instant};

use super::{Traps, seen};
use crate::check::port;
use crate::check::process::ProcessStatus;
use crate::clock::Reading;
use crate::config::Config;
use crate::process_table::ProcessTable;

/// Probes the ports of all services at once.
pub(super) fn watched(config: &Config, table: &ProcessTable, now: &Reading, traps: &mut Traps) {
    let enabled = config.services.iter().filter(|service| service.enabled);
    let watched: Vec<_> = enabled
        .flat_map(|service| {
            (0_usize..)
                .zip(service.ports())
                .map(move |it| (service, it))
        })
        .collect();
    let rules: Vec<(&port::Rule, Duration)> = watched
        .iter()
        .map(|(_, (_, rule))| (*rule, rule.timeout.unwrap_or(config.check_timeout)))
        .collect();
    let raws = port::look(&rules, Instant::now() + config.run_timeout);
    for ((service, (number, rule)), raw) in watched.iter().zip(&raws) {
        let (is_running, pids) = match seen(service, table, now).process_status {
            ProcessStatus::Running(running) => {
                let pids: Vec<i32> = running.all.iter().map(|process| process.pid).collect();
                (Some(true), pids)
            }
            ProcessStatus::NotRunning => (Some(false), Vec::new()),
            ProcessStatus::Unknown | ProcessStatus::NotApplicable => (None, Vec::new()),
        };
        let is_held = match is_running {
            Some(true) => port::is_held_by(&rule.address, &pids),
            _ => None,
        };
        for message in port::traps(rule, raw, is_running, is_held) {
            traps.of(
                service,
                &format!("port.{number}.address"),
                message,
                "see that this is the port of this service, and that it can be reached from here",
            );
        }
    }
}
