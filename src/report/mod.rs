//! What a run, or a look at the last one, says: to people and to programs.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use serde_json::Number;

use crate::check::{Finding, container};
use crate::config::Config;
use crate::restart::{Action, Operation};
use crate::state::{ServiceState, State};
use crate::verdict::{ExitCode, Verdict};

pub mod page;
pub mod period;
pub mod summary;
pub mod text;

/// What a run came to: the value that the run hands to its reports, and all of `check --json` and `status --json`.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// 1.
    pub version: u32,
    /// The name of this machine.
    pub host: String,
    /// When the run looked; absent: there was none.
    pub time: Option<DateTime<Utc>>,
    /// How long the run took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// What the process exits with.
    pub exit_code: u8,
    /// The services, in the order of the config.
    pub services: Vec<ServiceReport>,
    /// The scales, in the order of the config.
    pub scales: Vec<ScaleReport>,
    /// What became of the mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<Deliveries>,
    /// What became of the messages on the other channels, by their names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notify: Option<BTreeMap<String, Deliveries>>,
}

/// What a run came to for one service.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceReport {
    /// Its name.
    pub name: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// Since when it has been that.
    pub since: Option<DateTime<Utc>>,
    /// Its main process.
    pub pid: Option<i32>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What was done.
    pub action: Option<Action>,
    /// Restart attempts in the last hour.
    pub restarts_last_hour: usize,
    /// Restart attempts that an hour may have.
    pub max_per_hour: u32,
    /// What it uses, as far as its checks ask for it and could read it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub usage: BTreeMap<&'static str, Number>,
    /// Its container, as far as it is one and could be seen.
    #[serde(
        serialize_with = "without_namespace",
        skip_serializing_if = "Option::is_none"
    )]
    pub container: Option<Arc<container::LastSeen>>,
    /// Further sentences: why nothing was done, what was left out.
    pub notes: Vec<String>,
    /// What a run that is no dry run would do.
    #[serde(skip)]
    pub would: Option<Operation>,
}

/// What a run came to for one scale.
#[derive(Clone, Debug, Serialize)]
pub struct ScaleReport {
    /// Its name.
    pub name: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// Since when it has been that.
    pub since: Option<DateTime<Utc>>,
    /// So many replicas ran, before a change was made.
    pub replicas: Option<u32>,
    /// So many were to run, after it.
    pub desired: Option<u32>,
    /// The load, as far as it could be read.
    pub metric: Option<Number>,
    /// What was done.
    pub action: Option<Action>,
    /// Changes in the last hour.
    pub changes_last_hour: usize,
    /// Changes that an hour may have.
    pub max_per_hour: u32,
    /// Further sentences: why it was changed, or why not.
    pub notes: Vec<String>,
    /// To how many replicas a run that is no dry run would scale it.
    #[serde(skip)]
    pub would: Option<u32>,
}

impl ScaleReport {
    /// It as a service, for pages that show both alike.
    pub fn as_service(&self) -> ServiceReport {
        ServiceReport {
            name: self.name.clone(),
            verdict: self.verdict,
            since: self.since,
            pid: None,
            findings: Vec::new(),
            action: self.action.clone(),
            // its changes are no restarts
            restarts_last_hour: 0,
            max_per_hour: self.max_per_hour,
            usage: BTreeMap::new(),
            container: None,
            notes: self.notes.clone(),
            would: None,
        }
    }
}

/// What became of the messages of a run on a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Deliveries {
    /// Messages sent.
    pub sent: usize,
    /// Messages that could not be sent and are kept.
    pub queued: usize,
}

/// The wanted services as the last run recorded them, in the order of the config. Those that no run has checked
/// are left out.
pub fn recorded(
    config: &Config,
    state: &State,
    now: DateTime<Utc>,
    wanted: impl Fn(&str) -> bool,
) -> Vec<ServiceReport> {
    config
        .services
        .iter()
        .filter(|service| wanted(&service.name))
        .filter_map(|service| {
            let known = state.services.get(&service.name)?;
            Some(ServiceReport {
                name: service.name.clone(),
                verdict: known.verdict?,
                since: known.since,
                pid: known.report.pid,
                findings: known.report.findings.clone(),
                action: known.report.action.as_deref().cloned(),
                restarts_last_hour: known.attempts_in_hour(now),
                max_per_hour: known.report.max_per_hour,
                usage: service.figures(&known.checks),
                container: known
                    .container
                    .clone()
                    .filter(|_| service.container.is_some()),
                notes: notes(known, now),
                would: None,
            })
        })
        .collect()
}

/// What the last run recorded of these services and scales, as `status` and the published pages show it.
pub fn of_state(
    config: &Config,
    state: &State,
    now: DateTime<Utc>,
    wanted: impl Fn(&str) -> bool,
) -> RunReport {
    let services = recorded(config, state, now, &wanted);
    let scales = recorded_scales(config, state, now, wanted);
    RunReport {
        version: 1,
        host: host(),
        time: state.last_run,
        duration_ms: None,
        exit_code: exit_code(&services, &scales).code(),
        services,
        scales,
        mail: None,
        notify: None,
    }
}

/// The wanted scales as the last run recorded them, in the order of the config. Those that no run has looked at are left
/// out.
fn recorded_scales(
    config: &Config,
    state: &State,
    now: DateTime<Utc>,
    wanted: impl Fn(&str) -> bool,
) -> Vec<ScaleReport> {
    let scales = config.scales.iter().filter(|scale| wanted(&scale.name));
    let reports = scales.filter_map(|scale| {
        let known = state.scales.get(&scale.name)?;
        let verdict = known.verdict?;
        let mut notes = known.report.notes.clone();
        notes.extend(known.pause_note(now).filter(|_| verdict != Verdict::Paused));
        Some(ScaleReport {
            name: scale.name.clone(),
            verdict,
            since: known.since,
            replicas: known.report.replicas,
            desired: known.report.desired,
            metric: known.report.metric.clone(),
            action: known.report.action.clone(),
            changes_last_hour: known.changes_in_hour(now),
            max_per_hour: scale.rule.max_per_hour,
            notes,
            would: None,
        })
    });
    reports.collect()
}

/// The notes of the last run, and a pause that its verdict does not show.
fn notes(known: &ServiceState, now: DateTime<Utc>) -> Vec<String> {
    let mut notes = known.report.notes.clone();
    let pause = known.pause_note(now);
    notes.extend(pause.filter(|_| known.verdict != Some(Verdict::Paused)));
    notes
}

/// What is remembered of a container but for what is of use to later runs alone.
#[expect(clippy::ref_option, reason = "serde hands it so")]
fn without_namespace<S: Serializer>(
    known: &Option<Arc<container::LastSeen>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let shown = known.as_deref().map(|known| container::LastSeen {
        pid_namespace: None,
        ..known.clone()
    });
    shown.serialize(serializer)
}

/// The exit code that services and scales add up to.
pub fn exit_code(services: &[ServiceReport], scales: &[ScaleReport]) -> ExitCode {
    let scales = scales.iter().map(|scale| scale.verdict);
    ExitCode::of(services.iter().map(|service| service.verdict).chain(scales))
}

/// The name of this machine, for reports and mails.
pub fn host() -> String {
    nix::unistd::gethostname().map_or_else(
        |_| "localhost".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
