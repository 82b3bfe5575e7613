//! What a run came to, for the watchdog's own log.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::{RunReport, ScaleReport, ServiceReport};
use crate::check::sort_by_weight;
use crate::clock::rough;
use crate::restart::REPORTED;
use crate::verdict::ExitCode;

/// Logs one line for a run that found all well, and one for each service that is not. The report that is printed says
/// the same, so standard error has them only where more is asked for.
pub fn log(report: &RunReport) {
    let unwell = |service: &&ServiceReport| service.verdict.exit_code() != ExitCode::Ok;
    let is_unwell = |scale: &&ScaleReport| scale.verdict.exit_code() != ExitCode::Ok;
    let are_services_well = !report.services.iter().any(|service| unwell(&service));
    if are_services_well && !report.scales.iter().any(|scale| is_unwell(&scale)) {
        let details = Details(|| of_run(report));
        ::log::info!(target: REPORTED, details:%; "{}", all_well(report));
    }
    for service in report.services.iter().filter(unwell) {
        let level = match service.verdict.exit_code() {
            ExitCode::Critical => ::log::Level::Error,
            _ => ::log::Level::Warn,
        };
        let details = Details(|| of_service(service));
        ::log::log!(target: REPORTED, level, details:%; "{}", sentence(service));
    }
    // a change is worth a line, also one that went well
    let is_told = |scale: &&ScaleReport| is_unwell(scale) || scale.action.is_some();
    for scale in report.scales.iter().filter(is_told) {
        let level = match scale.verdict.exit_code() {
            ExitCode::Critical => ::log::Level::Error,
            ExitCode::Ok => ::log::Level::Info,
            _ => ::log::Level::Warn,
        };
        let details = Details(|| details(&scale.name, scale));
        ::log::log!(target: REPORTED, level, details:%; "{}", of_scale(scale));
    }
}

/// What is the matter with a scale, or what was done, in a sentence.
pub fn of_scale(scale: &ScaleReport) -> String {
    let done = scale.action.as_ref().map(super::text::describe);
    let why = done.into_iter().chain(scale.notes.iter().cloned()).next();
    let why = why.map(|why| format!(": {why}"));
    format!(
        "{} is {}{}",
        scale.name,
        scale.verdict.name(),
        why.unwrap_or_default()
    )
}

/// What a line has beside its message. It is made when a log asks for it.
struct Details<F>(F);

impl<F: Fn() -> Value> fmt::Display for Details<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0().fmt(f)
    }
}

fn of_run(report: &RunReport) -> Value {
    let mut details = json!({
        "services": report.services.len(),
        "duration_ms": report.duration_ms,
        "exit_code": report.exit_code,
    });
    if !report.scales.is_empty() {
        details["scales"] = report.scales.len().into();
    }
    details
}

/// The service as `check --json` has it, its name under `service`.
fn of_service(service: &ServiceReport) -> Value {
    details(&service.name, service)
}

fn details(name: &str, of: &impl Serialize) -> Value {
    let mut details = json!({ "service": name });
    if let (Some(details), Ok(Value::Object(all))) =
        (details.as_object_mut(), serde_json::to_value(of))
    {
        details.extend(all.into_iter().filter(|(key, _)| key != "name"));
    }
    details
}

/// `checked 12 services in 8 ms: 11 healthy, 1 paused`.
fn all_well(report: &RunReport) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    let services = report.services.iter().map(|service| service.verdict);
    let scales = report.scales.iter().map(|scale| scale.verdict);
    for verdict in services.chain(scales) {
        let name = verdict.name();
        match counts.iter_mut().find(|(verdict, _)| *verdict == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    let verdicts = match counts[..] {
        [] => "nothing to check".to_owned(),
        [(verdict, _)] => format!("all {verdict}"),
        _ => {
            let counts = counts.iter().map(|(name, count)| format!("{count} {name}"));
            counts.collect::<Vec<_>>().join(", ")
        }
    };
    let took = match report.duration_ms.unwrap_or_default() {
        ms @ 0..1000 => format!("{ms} ms"),
        ms => rough(Duration::from_millis(ms)),
    };
    let count = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    let mut checked = count(report.services.len(), "service");
    if !report.scales.is_empty() {
        let scales = count(report.scales.len(), "scale");
        checked = match report.services.len() {
            0 => scales,
            _ => format!("{checked} and {scales}"),
        };
    }
    format!("checked {checked} in {took}: {verdicts}")
}

/// A service and what is wrong with it: the finding that matters most.
pub fn sentence(service: &ServiceReport) -> String {
    let mut findings = service.findings.clone();
    sort_by_weight(&mut findings);
    let why = findings
        .first()
        .map(|finding| format!(": {}", finding.message))
        .unwrap_or_default();
    format!("{} is {}{why}", service.name, service.verdict.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Verdict;

    fn report(verdicts: &[Verdict], duration_ms: u64) -> RunReport {
        let services = verdicts.iter().map(|&verdict| ServiceReport {
            name: "a".to_owned(),
            verdict,
            since: None,
            pid: None,
            findings: Vec::new(),
            action: None,
            restarts_last_hour: 0,
            max_per_hour: 3,
            usage: std::collections::BTreeMap::new(),
            container: None,
            notes: Vec::new(),
            would: None,
        });
        RunReport {
            version: 1,
            host: "h".to_owned(),
            time: None,
            duration_ms: Some(duration_ms),
            exit_code: 0,
            services: services.collect(),
            scales: Vec::new(),
            mail: None,
            notify: None,
        }
    }

    #[test]
    fn a_run_that_found_all_well_is_one_line() {
        use Verdict::{Healthy, Paused, Starting};
        for (verdicts, ms, line) in [
            (&[Healthy][..], 8, "checked 1 service in 8 ms: all healthy"),
            (
                &[Healthy, Healthy],
                1500,
                "checked 2 services in 1.5s: all healthy",
            ),
            (&[], 0, "checked 0 services in 0 ms: nothing to check"),
            (&[Paused], 999, "checked 1 service in 999 ms: all paused"),
            (
                &[Healthy, Starting, Healthy, Paused],
                0,
                "checked 4 services in 0 ms: 2 healthy, 1 starting, 1 paused",
            ),
        ] {
            assert_eq!(all_well(&report(verdicts, ms)), line);
        }
    }
}
