//! Replicas that are instances of a template of systemd.
//!
//! The lowest that does not run is started, the highest that runs is stopped. Jobs are only queued: what an instance may
//! take to end its work is said by its unit file (`TimeoutStopSec=`), and one that is ending its work is no replica any
//! more.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::{Replica, Replicas};
use crate::clock::Reading;
use crate::config::scale::{Scale, ScaleRule};
use crate::systemctl::{complaint, succeeded, systemctl};
use crate::text::visible;

/// What is asked of an instance.
const PROPERTIES: &str = "--property=Id,LoadState,ActiveState,SubState,Result,ControlGroup,InvocationID,ActiveEnterTimestampMonotonic";

/// What a call that only queues may take.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// What systemd says of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Status {
    unit: String,
    load: String,
    active: String,
    sub: String,
    result: String,
    group: String,
    invocation: String,
    /// In microseconds of the clock that stands still while the machine sleeps.
    entered_us: u64,
}

/// Reads the output of `systemctl show`: a block of `Key=value` lines for each unit, with blank lines between.
fn parse(output: &[u8]) -> Vec<Status> {
    let text = String::from_utf8_lossy(output);
    let blocks = text.split("\n\n").filter(|block| !block.trim().is_empty());
    blocks
        .map(|block| {
            let mut status = Status::default();
            for (key, value) in block.lines().filter_map(|line| line.split_once('=')) {
                let value = value.to_owned();
                match key {
                    "Id" => status.unit = value,
                    "LoadState" => status.load = value,
                    "ActiveState" => status.active = value,
                    "SubState" => status.sub = value,
                    "Result" => status.result = value,
                    "ControlGroup" => status.group = value,
                    "InvocationID" => status.invocation = value,
                    "ActiveEnterTimestampMonotonic" => {
                        status.entered_us = value.parse().unwrap_or_default();
                    }
                    _ => {}
                }
            }
            status
        })
        .collect()
}

/// The instances that systemd knows: those that run, and those that have failed. One that was stopped and is not enabled
/// is not among them.
pub(super) fn count(rule: &ScaleRule, limit: Duration, now: &Reading) -> Result<Replicas, String> {
    Ok(counted(rule, &ask(rule, limit)?, now))
}

fn ask(rule: &ScaleRule, limit: Duration) -> Result<Vec<Status>, String> {
    let pattern = rule.pattern().unwrap_or_default();
    let ended = systemctl(rule.manager(), &["show", PROPERTIES, "--", &pattern], limit)?;
    if !succeeded(&ended) {
        return Err(format!(
            "systemd does not say which of {pattern} run: {}",
            complaint(&ended, limit)
        ));
    }
    if ended.is_cut {
        return Err(format!("systemd has too much to say of {pattern}"));
    }
    Ok(parse(&ended.stdout))
}

fn counted(rule: &ScaleRule, statuses: &[Status], now: &Reading) -> Replicas {
    let mut replicas = Replicas::default();
    for status in statuses {
        let Some(number) = rule.number_of(&status.unit) else {
            continue;
        };
        match status.active.as_str() {
            "active" | "reloading" => replicas.running.push(Replica {
                number,
                id: status.invocation.clone(),
                age: (status.entered_us > 0).then(|| {
                    let age = now.awake_ms.saturating_sub(status.entered_us / 1000);
                    Duration::from_millis(age)
                }),
                group: Some(status.group.clone()).filter(|group| !group.is_empty()),
            }),
            "failed" => _ = replicas.failed.insert(number),
            // being started, being stopped, or neither
            _ => {}
        }
    }
    replicas.running.sort_by_key(|replica| replica.number);
    replicas
}

/// Which instances are started, and which are stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Plan {
    start: Vec<u32>,
    stop: Vec<u32>,
}

impl Plan {
    /// Those of a change to `to` replicas, where these run and these are to be repaired: they come first.
    fn of(running: &BTreeSet<u32>, repaired: &BTreeSet<u32>, to: u32) -> Self {
        let to = to as usize;
        let mut plan = Self::default();
        let lowest = (1..=u32::MAX).filter(|number| !repaired.contains(number));
        let start = repaired.iter().copied().chain(lowest);
        plan.start = start
            .filter(|number| !running.contains(number))
            .take(to.saturating_sub(running.len()))
            .collect();
        plan.stop = (running.iter().rev())
            .take(running.len().saturating_sub(to))
            .copied()
            .collect();
        plan
    }
}

/// Has so many instances run. Gives back the numbers of those that are to run.
pub(super) fn change(
    scale: &Scale,
    before: &Replicas,
    failed: &BTreeSet<u32>,
    to: u32,
) -> Result<BTreeSet<u32>, Failure> {
    let rule = &scale.rule;
    let mut running = before.numbers();
    let plan = Plan::of(&running, failed, to);
    let name = |number: &u32| rule.unit(*number).unwrap_or_default();
    for number in &plan.start {
        // one that has failed too often is not started again before that is forgotten
        if before.failed.contains(number) {
            let _ = order(rule, &["reset-failed"], &[name(number)]);
        }
    }
    for (verb, numbers) in [("start", &plan.start), ("stop", &plan.stop)] {
        let units: Vec<String> = numbers.iter().map(name).collect();
        if !units.is_empty() {
            ::log::info!("{}: systemctl {verb} {}", scale.name, units.join(" "));
            order(rule, &[verb, "--no-block"], &units).map_err(Failure::from)?;
        }
    }
    running.extend(&plan.start);
    running.retain(|number| !plan.stop.contains(number));
    Ok(running)
}

/// Why those that are to run do not: the first that has failed or is not there.
pub(super) fn why_not(scale: &Scale, wanted: &BTreeSet<u32>, limit: Duration) -> Option<String> {
    let statuses = ask(&scale.rule, limit).ok()?;
    let of = |number: &u32| {
        let unit = scale.rule.unit(*number)?;
        let status = statuses.iter().find(|status| status.unit == unit);
        match status {
            Some(status) if status.active == "active" => None,
            Some(status) => Some(format!(
                "{unit} is {} ({}{}); journalctl -u {unit}",
                status.active,
                status.sub,
                match status.result.as_str() {
                    "" | "success" => String::new(),
                    result => format!(", result {result}"),
                }
            )),
            None => Some(format!("{unit} ended at once; journalctl -u {unit}")),
        }
    };
    wanted.iter().find_map(of)
}

/// Whether one of those that are to run has failed: then nothing is waited for.
pub(super) fn has_failed(replicas: &Replicas, wanted: &BTreeSet<u32>) -> bool {
    replicas.failed.iter().any(|number| wanted.contains(number))
}

/// Forgets that instances failed which were stopped: they are not wanted, and would be looked at by each run.
pub(super) fn forget_failed(scale: &Scale, stopped: &BTreeSet<u32>, until: Instant) {
    let units: Vec<String> = stopped
        .iter()
        .filter_map(|it| scale.rule.unit(*it))
        .collect();
    if !units.is_empty() && Instant::now() < until {
        let _ = order(&scale.rule, &["reset-failed"], &units);
    }
}

fn order(rule: &ScaleRule, words: &[&str], units: &[String]) -> Result<(), String> {
    let mut args = words.to_vec();
    args.push("--");
    args.extend(units.iter().map(String::as_str));
    let ended = systemctl(rule.manager(), &args, CALL_LIMIT)?;
    if succeeded(&ended) {
        return Ok(());
    }
    Err(format!(
        "systemctl {} {}: {}",
        words.join(" "),
        visible(&units.join(" ")),
        complaint(&ended, CALL_LIMIT)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(numbers: &[u32]) -> BTreeSet<u32> {
        numbers.iter().copied().collect()
    }

    #[test]
    fn the_lowest_is_started_and_the_highest_stopped() {
        for (running, failed, to, start, stop) in [
            (&[1][..], &[][..], 2, &[2][..], &[][..]),
            (&[1, 2], &[], 2, &[], &[]),
            (&[2, 5], &[], 4, &[1, 3], &[]),
            (&[2, 5], &[], 1, &[], &[5]),
            (&[1, 2, 3, 9], &[], 2, &[], &[9, 3]),
            // what has failed comes first
            (&[2, 4], &[3], 3, &[3], &[]),
            (&[1], &[3, 4], 2, &[3], &[]),
            (&[], &[], 2, &[1, 2], &[]),
            (&[1, 2], &[], 0, &[], &[2, 1]),
        ] {
            let plan = Plan::of(&numbers(running), &numbers(failed), to);
            assert_eq!(
                (&plan.start[..], &plan.stop[..]),
                (start, stop),
                "{running:?} {to}"
            );
        }
    }
}
