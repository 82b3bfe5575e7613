//! The families of metrics: pure, from what is remembered to text.
//!
//! Every series of a configured service is there from the first run on, at 0 where nothing has happened: `increase()` misses
//! the first event of a series that begins with it. Ages are not given but times, which stay right where nobody writes them
//! anew. No label holds a PID, a message, or anything else of which there is no end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::exposition::{Exposition, Number, Type};
use crate::check::{Severity, TIMED_OUT, codes_of_subject};
use crate::config::{Remedy, Scale, Service};
use crate::notify::Channel;
use crate::process_table::Used;
use crate::state::counters::Outcomes;
use crate::state::scale::ScaleState;
use crate::state::{RunResult, ServiceState, State};
use crate::verdict::Verdict;

/// What metrics are made of.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The services that there are.
    pub services: &'a [Arc<Service>],
    /// How many replicas of something there are to be.
    pub scales: &'a [Arc<Scale>],
    /// The channels.
    pub channels: &'a [Channel],
    /// What is remembered.
    pub state: &'a State,
    /// When.
    pub now: DateTime<Utc>,
    /// How the last run went.
    pub run: Option<RunResult>,
    /// What the main process of each service uses, where one runs.
    pub used: BTreeMap<&'a str, Used>,
    /// When this machine was started.
    pub booted_at: DateTime<Utc>,
    /// How many messages wait in the outbox, by channel.
    pub waiting: BTreeMap<String, usize>,
}

/// All metrics, in the text format of Prometheus.
pub fn render(facts: &Facts<'_>) -> String {
    let mut text = Exposition::default();
    let nothing = Box::default();
    let services: Vec<(&Service, &ServiceState)> = (facts.services.iter())
        .map(|service| {
            let known = facts.state.services.get(&service.name);
            (&**service, &**known.unwrap_or(&nothing))
        })
        .collect();
    attempts(&mut text, &services);
    status(&mut text, &services);
    limits(&mut text, &services, facts.now);
    findings(&mut text, &services);
    processes(&mut text, &services, facts);
    logs(&mut text, &services);
    probes(&mut text, &services);
    scales(&mut text, facts);
    channels(&mut text, facts);
    runs(&mut text, facts);
    text.into_text()
}

fn attempts(text: &mut Exposition, services: &[(&Service, &ServiceState)]) {
    let mut family = text.family(
        "watchdog_repair_attempts_total",
        Type::Counter,
        "Restarts and repairs of a service, by how they went; unknown: no run saw the end.",
    );
    for (service, known) in services {
        let mut add = |action: &str, outcomes: &Outcomes| {
            for (success, count) in [
                ("true", outcomes.succeeded),
                ("false", outcomes.failed),
                ("unknown", outcomes.unknown),
            ] {
                let labels = [
                    ("service", &*service.name),
                    ("action", action),
                    ("success", success),
                ];
                family.sample(&labels, count);
            }
        };
        add("restart", &known.counted.restart);
        let can_be_repaired =
            (service.strategies.iter()).any(|it| matches!(it.remedy, Remedy::Repair(_)));
        if can_be_repaired || known.counted.repair != Outcomes::default() {
            add("repair", &known.counted.repair);
        }
    }
    let mut family = text.family(
        "watchdog_service_last_repair_timestamp_seconds",
        Type::Gauge,
        "When the last restart or repair was begun; absent before the first.",
    );
    for (service, known) in services {
        if let Some(last) = known.counted.last.or_else(|| known.last_attempt()) {
            family.sample(&[("service", &service.name)], last);
        }
    }
}

fn status(text: &mut Exposition, services: &[(&Service, &ServiceState)]) {
    let mut family = text.family(
        "watchdog_service_status",
        Type::Gauge,
        "1 for the verdict of the last run about a service, 0 for all others.",
    );
    for (service, known) in services {
        for verdict in Verdict::ALL {
            let labels = [("service", &*service.name), ("status", verdict.name())];
            family.sample(&labels, known.verdict == Some(verdict));
        }
    }
    let mut family = text.family(
        "watchdog_service_consecutive_failures",
        Type::Gauge,
        "Failing runs in a row.",
    );
    for (service, known) in services {
        family.sample(&[("service", &service.name)], known.consecutive_failures);
    }
}

fn limits(text: &mut Exposition, services: &[(&Service, &ServiceState)], now: DateTime<Utc>) {
    let mut family = text.family(
        "watchdog_service_restarts_left",
        Type::Gauge,
        "Attempts that the present hour has left (max_per_hour).",
    );
    for (service, known) in services {
        let made = u32::try_from(known.attempts_in_hour(now)).unwrap_or(u32::MAX);
        let left = match known.given_up {
            Some(_) => 0,
            None => service.policy.max_per_hour.saturating_sub(made),
        };
        family.sample(&[("service", &service.name)], left);
    }
    let mut family = text.family(
        "watchdog_service_next_attempt_timestamp_seconds",
        Type::Gauge,
        "When cooldown and budget allow the next attempt; absent where they allow it now, or only a person does.",
    );
    for (service, known) in services {
        if let Some(next) = next_attempt(service, known, now) {
            family.sample(&[("service", &service.name)], next);
        }
    }
    let mut family = text.family(
        "watchdog_service_paused",
        Type::Gauge,
        "Whether a person has paused it.",
    );
    for (service, known) in services {
        family.sample(&[("service", &service.name)], known.is_paused(now));
    }
}

/// When the limits of a service, without those of its strategies, allow the next attempt, where that is not now.
fn next_attempt(
    service: &Service,
    known: &ServiceState,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    if known.given_up.is_some() {
        return None;
    }
    let policy = &service.policy;
    let cooled = known.last_attempt().and_then(|last| {
        let cooldown = policy.cooldown_after(known.incident_attempts);
        last.checked_add_signed(TimeDelta::from_std(cooldown).ok()?)
    });
    let is_spent = known.attempts_in_hour(now) >= policy.max_per_hour as usize;
    let frees = (is_spent && policy.max_per_hour > 0)
        .then(|| known.budget_frees_at(now, policy.max_per_hour))
        .flatten();
    cooled.max(frees).filter(|&next| next > now)
}

fn findings(text: &mut Exposition, services: &[(&Service, &ServiceState)]) {
    let mut family = text.family(
        "watchdog_service_findings",
        Type::Gauge,
        "What the last run found wrong with a service, by code and severity.",
    );
    for (service, known) in services {
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let checks = service.checks.iter().flat_map(|check| check.rule.codes());
        let subject = codes_of_subject(service.unit.is_some(), service.container.is_some());
        for code in checks.chain(subject) {
            for severity in code.can.severities() {
                counts.insert((code.name, severity.name()), 0);
            }
        }
        // whatever is looked at can be given up
        counts.insert((TIMED_OUT, Severity::Unknown.name()), 0);
        for finding in &known.report.findings {
            let of = (&*finding.code, finding.severity.name());
            *counts.entry(of).or_default() += 1;
        }
        for ((code, severity), count) in counts {
            let labels = [
                ("service", &*service.name),
                ("code", code),
                ("severity", severity),
            ];
            family.sample(&labels, count);
        }
    }
}

/// A family about main processes: its name, type and help, and the figure.
type OfProcess<'a> = (
    &'static str,
    Type,
    &'static str,
    &'a dyn Fn(&Used) -> Number,
);

fn processes(text: &mut Exposition, services: &[(&Service, &ServiceState)], facts: &Facts<'_>) {
    let ticks = crate::process_table::ticks_per_second().max(1);
    let started = |used: &Used| {
        let millis = i64::try_from(used.start.saturating_mul(1000) / ticks).unwrap_or(i64::MAX);
        Number::Millis(facts.booted_at.timestamp_millis().saturating_add(millis))
    };
    let cpu = |used: &Used| Number::Millis(i64::try_from(used.own_us / 1000).unwrap_or(i64::MAX));
    let resident = |used: &Used| Number::Count(used.resident);
    let families: [OfProcess<'_>; 3] = [
        (
            "watchdog_service_process_resident_memory_bytes",
            Type::Gauge,
            "Resident memory of the main process; absent where none runs.",
            &resident,
        ),
        (
            "watchdog_service_process_cpu_seconds_total",
            Type::Counter,
            "Processor time that the main process has used; begins anew with each process.",
            &cpu,
        ),
        (
            "watchdog_service_process_start_time_seconds",
            Type::Gauge,
            "When the main process was started.",
            &started,
        ),
    ];
    for (name, kind, help, value) in families {
        let mut family = text.family(name, kind, help);
        for (service, _) in services {
            if let Some(used) = facts.used.get(&*service.name) {
                family.sample(&[("service", &service.name)], value(used));
            }
        }
    }
}

fn logs(text: &mut Exposition, services: &[(&Service, &ServiceState)]) {
    let mut family = text.family(
        "watchdog_service_log_modified_timestamp_seconds",
        Type::Gauge,
        "When a log was last written; absent before it was seen.",
    );
    for (service, known) in services {
        // two checks of one log have one series
        let mut paths = BTreeSet::new();
        for check in &service.checks {
            let state = known.checks.get(&check.id);
            let written = state.and_then(|state| check.rule.last_write(state));
            let path = check.rule.target();
            if let Some(written) = written.filter(|_| !paths.contains(&path)) {
                let labels = [("service", &*service.name), ("path", &*path)];
                family.sample(&labels, written.wall());
                paths.insert(path);
            }
        }
    }
}

fn probes(text: &mut Exposition, services: &[(&Service, &ServiceState)]) {
    let mut family = text.family(
        "watchdog_probe_duration_seconds",
        Type::Gauge,
        "How long the last answer to a probe took; absent where the last run got none.",
    );
    for (service, known) in services {
        for check in &service.checks {
            let state = known.checks.get(&check.id);
            let Some(took) = state.and_then(|state| check.rule.took(state)) else {
                continue;
            };
            let kind = check.rule.kind_name();
            // a second check of one target has a number behind it, and no secret is in either
            let id = check.id.to_string();
            let target = id.strip_prefix(kind).and_then(|it| it.strip_prefix(':'));
            let labels = [
                ("service", &*service.name),
                ("check", kind),
                ("target", target.unwrap_or(&id)),
            ];
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            family.sample(&labels, Number::Micros(micros));
        }
    }
}

fn scales(text: &mut Exposition, facts: &Facts<'_>) {
    // a family without series is none
    if facts.scales.is_empty() {
        return;
    }
    let known = |scale: &Scale| facts.state.scales.get(&scale.name);
    for (name, help, number) in [
        (
            "watchdog_scale_replicas",
            "Replicas that ran when the last run looked; absent where they could not be counted.",
            &(|known: &ScaleState| known.report.replicas) as &dyn Fn(&ScaleState) -> Option<u32>,
        ),
        (
            "watchdog_scale_desired_replicas",
            "Replicas that there were to be after that; absent where that could not be decided.",
            &|known: &ScaleState| known.report.desired,
        ),
    ] {
        let mut family = text.family(name, Type::Gauge, help);
        for scale in facts.scales {
            // before the first run there is a series as well
            let number = known(scale).map_or(Some(0), number);
            if let Some(number) = number {
                family.sample(&[("scale", &scale.name)], number);
            }
        }
    }
    let mut family = text.family(
        "watchdog_scale_status",
        Type::Gauge,
        "1 for the verdict of the last run about a scale, 0 for all others.",
    );
    for scale in facts.scales {
        let is = known(scale).and_then(|known| known.verdict);
        for verdict in Verdict::OF_SCALE {
            let labels = [("scale", &*scale.name), ("status", verdict.name())];
            family.sample(&labels, is == Some(verdict));
        }
    }
    let mut family = text.family(
        "watchdog_scale_changes_total",
        Type::Counter,
        "Changes of the number of replicas, by how they went; unknown: no run saw the end.",
    );
    for scale in facts.scales {
        let counted = known(scale).map(|known| known.counted).unwrap_or_default();
        for (success, count) in [
            ("true", counted.succeeded),
            ("false", counted.failed),
            ("unknown", counted.unknown),
        ] {
            family.sample(&[("scale", &scale.name), ("success", success)], count);
        }
    }
}

fn channels(text: &mut Exposition, facts: &Facts<'_>) {
    let known = |channel: &Channel| facts.state.channels.get(&channel.name);
    let mut family = text.family(
        "watchdog_notifications_total",
        Type::Counter,
        "Messages on a channel: sent, deferred (once for each try), refused, given_up.",
    );
    for channel in facts.channels {
        let counts = known(channel).map_or_else(Default::default, |known| known.messages);
        for (outcome, count) in [
            ("sent", counts.sent),
            ("deferred", counts.deferred),
            ("refused", counts.refused),
            ("given_up", counts.given_up),
        ] {
            let labels = [("channel", &*channel.name), ("outcome", outcome)];
            family.sample(&labels, count);
        }
    }
    let mut family = text.family(
        "watchdog_outbox_messages",
        Type::Gauge,
        "Messages on a channel that could not be sent yet.",
    );
    for channel in facts.channels {
        let waiting = facts.waiting.get(&channel.name).copied();
        family.sample(&[("channel", &channel.name)], waiting.unwrap_or_default());
    }
    let mut family = text.family(
        "watchdog_channel_up",
        Type::Gauge,
        "0 while a channel is left alone because of what its other side answered.",
    );
    for channel in facts.channels {
        let hold = known(channel).and_then(|known| known.hold.as_ref());
        let is_held = hold.is_some_and(|hold| hold.holds(channel, facts.now));
        family.sample(&[("channel", &channel.name)], !is_held);
    }
}

fn runs(text: &mut Exposition, facts: &Facts<'_>) {
    if let Some(last) = facts.state.last_run {
        let mut family = text.family(
            "watchdog_last_run_timestamp_seconds",
            Type::Gauge,
            "When the last run began.",
        );
        family.sample(&[], last);
    }
    if let Some(run) = facts.run {
        let mut family = text.family(
            "watchdog_last_run_duration_seconds",
            Type::Gauge,
            "How long the last run took, without the handing over of messages.",
        );
        let millis = i64::try_from(run.duration_ms).unwrap_or(i64::MAX);
        family.sample(&[], Number::Millis(millis));
        let mut family = text.family(
            "watchdog_last_run_exit_code",
            Type::Gauge,
            "What the last run exited with.",
        );
        family.sample(&[], u32::from(run.exit_code));
    }
    let mut family = text.family(
        "watchdog_build_info",
        Type::Gauge,
        "1, with the version of the program.",
    );
    family.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1_u32);
}

#[cfg(test)]
mod tests;
