//! What can be seen of a service, and what is wrong with it.
//!
//! What a service is made of (a process, a unit) says whether it runs, and which process that is. All else that is
//! checked is a [`CheckKind`]: a file of its own, and a line in the list below. A kind looks, judges, and says what it
//! wants to remember; [`Finding`]s are all that the policy and the reports know of it. Layers above do not depend on a
//! kind, and nothing here knows what is done about a finding.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Number;

use self::process::ProcessStatus;
use self::trap::Trap;
use crate::clock::{self, Moment, Reading};
use crate::pool::{Failed, Pool};
use crate::secret::Kept;

pub mod command_traps;
pub mod container;
pub mod disk;
pub mod exec;
pub mod http;
mod id;
mod kinds;
pub mod lasting;
pub mod log;
pub mod pattern;
pub mod port;
pub mod process;
pub mod prometheus;
pub mod trap;
pub mod unit;
pub mod usage;

pub use id::CheckId;
pub use kinds::{CheckState, CheckStates, Job, Listed, Rule, Slot, code, codes, look, traps};

/// What finds something, by the name that reports give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// PID files, command lines and process states.
    Process,
    /// systemd units.
    Unit,
    /// Containers.
    Container,
    /// Freshness and patterns of log files.
    Log,
    /// Ports that accept connections.
    Port,
    /// Endpoints that answer over HTTP.
    Http,
    /// Commands that end well.
    Exec,
    /// File systems that fill up.
    Disk,
    /// Memory, processor time, open files and threads.
    Usage,
    /// Alerts and expressions of Prometheus.
    Prometheus,
}

/// How bad a finding is, in the order of the exit codes: what could not be seen is worse than a warning, and
/// what is surely broken is worse than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Reported, and never a reason to restart.
    Warning,
    /// Could not be seen, and so never a reason to restart.
    Unknown,
    /// A reason to restart.
    Critical,
}

impl Severity {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Unknown => "unknown",
            Self::Critical => "critical",
        }
    }
}

/// While which a finding is not held against a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// Never: it counts at once.
    None,
    /// While systemd is bringing the service up.
    Activating,
    /// While systemd is bringing it up, and while its process is younger than `start_grace`.
    Young,
}

/// How bad the findings of a code can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Can {
    /// A reason to restart.
    Critical,
    /// A reason to restart, or a warning: by what was seen, or as the check's `severity` says.
    Settable,
    /// A warning.
    Warning,
    /// That something could not be seen.
    Unknown,
}

impl Can {
    /// All severities that there can be of it.
    pub fn severities(self) -> &'static [Severity] {
        match self {
            Self::Critical => &[Severity::Critical],
            Self::Settable => &[Severity::Warning, Severity::Critical],
            Self::Warning => &[Severity::Warning],
            Self::Unknown => &[Severity::Unknown],
        }
    }
}

/// A code that findings have: a name that scripts rely on, and what it means for the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// Its name: `log_stale`.
    pub name: &'static str,
    /// While which it does not count.
    pub grace: Grace,
    /// How bad it can be.
    pub can: Can,
    /// It is about the host or about others: to restart the service does not mend it, so it is only alerted about.
    pub of_host: bool,
}

impl Code {
    const fn new(name: &'static str, grace: Grace, can: Can) -> Self {
        Self {
            name,
            grace,
            can,
            of_host: false,
        }
    }

    /// One that a restart of the service does not mend.
    const fn of_host(name: &'static str, can: Can) -> Self {
        Self {
            name,
            grace: Grace::None,
            can,
            of_host: true,
        }
    }
}

/// The codes of what a service is made of: always a process, and perhaps a unit or a container.
pub fn codes_of_subject(unit: bool, container: bool) -> impl Iterator<Item = &'static Code> {
    let unit = if unit { unit::CODES } else { &[] };
    let container = if container { container::CODES } else { &[] };
    process::CODES.iter().chain(unit).chain(container)
}

/// One thing that a check found, the only thing that the policy and the reports know of checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The kind of check that found it.
    pub check: Kind,
    /// What it is, by a name that scripts rely on: `log_stale`.
    pub code: Cow<'static, str>,
    /// How bad it is.
    pub severity: Severity,
    /// A sentence with the figures in it, for a person.
    pub message: String,
    /// Which check of the service found it, where it has several of the kind: `log:/srv/a.log`.
    #[serde(default, skip_serializing_if = "CheckId::is_none")]
    pub id: CheckId,
    /// Whoever found it says that nothing is to be done about it; it is alerted about.
    #[serde(skip)]
    pub only_alerts: bool,
}

impl Finding {
    /// A finding of a kind of check.
    pub fn new(
        check: Kind,
        code: &'static str,
        severity: Severity,
        message: impl Into<String>,
    ) -> Self {
        Self {
            check,
            code: Cow::Borrowed(code),
            severity,
            message: message.into(),
            id: CheckId::default(),
            only_alerts: false,
        }
    }

    /// While which it is not held against the service. A code that this version does not know counts at once.
    pub fn grace(&self) -> Grace {
        match (&*self.code, self.check) {
            // given up after its limit: as any other finding of its kind
            (TIMED_OUT, Kind::Log | Kind::Port | Kind::Http | Kind::Exec | Kind::Prometheus) => {
                Grace::Young
            }
            (TIMED_OUT, Kind::Process) => Grace::Activating,
            // what counts for a young process, too
            (lasting::UNREADABLE, Kind::Disk | Kind::Usage) => Grace::None,
            (name, _) => code(name).map_or(Grace::None, |code| code.grace),
        }
    }

    /// Whether a restart of the service may mend it.
    pub fn is_reason_to_restart(&self) -> bool {
        self.severity == Severity::Critical
            && !self.only_alerts
            && code(&self.code).is_none_or(|code| !code.of_host)
    }
}

/// The code of a check that was given up after its time limit.
pub const TIMED_OUT: &str = "check_timed_out";

/// The worst severity among findings, if there are any.
pub fn worst<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Option<Severity> {
    findings.into_iter().map(|finding| finding.severity).max()
}

/// Puts the findings first that matter most: the worst, and of those what the service is made of before what depends on
/// it. A log is stale because the process is missing, and not the other way round.
pub fn sort_by_weight(findings: &mut [Finding]) {
    findings.sort_by_key(|finding| {
        let is_cause = matches!(finding.check, Kind::Process | Kind::Unit | Kind::Container);
        (std::cmp::Reverse(finding.severity), !is_cause)
    });
}

/// One check of a service beside what it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name in the state and in reports, unique within the service.
    pub id: CheckId,
    /// What is checked.
    pub rule: Rule,
}

/// Gives each of a service's checks a name of its own, in the order of the file.
pub fn assign_ids(rules: Vec<Rule>) -> Vec<Check> {
    let first = |rule: &Rule| [rule.kind_name(), ":", &rule.target()].concat();
    // most services have one, which no other can be taken for
    if rules.len() < 2 {
        let alone = |rule: Rule| Check {
            id: first(&rule).into(),
            rule,
        };
        return rules.into_iter().map(alone).collect();
    }
    // a file may be called `a.log#2`, too
    let targets: BTreeSet<String> = rules.iter().map(first).collect();
    let mut taken = BTreeSet::new();
    let named = |rule: Rule| {
        let first = first(&rule);
        let numbered = (2_usize..).map(|number| format!("{first}#{number}"));
        let numbered = numbered.filter(|id| !targets.contains(id));
        let id = std::iter::once(first.clone())
            .chain(numbered)
            .find(|id| !taken.contains(id))
            .unwrap_or_default();
        taken.insert(id.clone());
        Check {
            id: id.into(),
            rule,
        }
    };
    rules.into_iter().map(named).collect()
}

/// What one check came to. `S` is what it remembers.
#[derive(Clone, Debug)]
pub struct Checked<S> {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What a person should know although nothing is wrong with the service.
    pub notes: Vec<String>,
    /// What to remember; absent: nothing could be seen, and what was remembered stands.
    pub state: Option<S>,
    /// The last few lines of a log, for an alert.
    pub tail: log::Tail,
    /// Something was found that must not count twice, though it may be no finding yet.
    pub consumed: bool,
    /// What the last restart or repair was for may go on, though it is no finding for a while: its incident is not over.
    pub unsettled: bool,
}

impl<S> Default for Checked<S> {
    fn default() -> Self {
        Self {
            findings: Vec::new(),
            notes: Vec::new(),
            state: None,
            tail: log::Tail::default(),
            consumed: false,
            unsettled: false,
        }
    }
}

/// What a look depends on beside the rule and what is remembered: the same for all looks of a run.
#[derive(Debug)]
pub struct Looking<'a> {
    /// Where blocking work is done.
    pub pool: &'a Pool,
    /// The time of this run.
    pub now: &'a Reading,
    /// When the wall clock last jumped or the machine last slept: ages are not judged until a while after.
    pub jumped_at: Option<DateTime<Utc>>,
    /// The limit of one check.
    pub check_timeout: Duration,
    /// The limit of the run.
    pub run_timeout: Duration,
    /// When the run has to end.
    pub deadline: std::time::Instant,
}

impl Looking<'_> {
    /// The finding in place of what a check would have found that has no result.
    pub fn given_up(&self, check: Kind, what: &str, failed: Failed) -> Finding {
        let why = match failed {
            Failed::TimedOut => format!(
                "check timed out after {} (a dead disk or network share?)",
                clock::rough(self.check_timeout)
            ),
            Failed::OutOfTime => format!(
                "check not done when the run had to end (run_timeout {})",
                clock::rough(self.run_timeout)
            ),
            Failed::NoThread => {
                "check not done: cannot create a thread (ulimit -u, TasksMax=)".to_owned()
            }
            Failed::Panicked => "internal error (bug); please report it".to_owned(),
        };
        Finding::new(
            check,
            TIMED_OUT,
            Severity::Unknown,
            format!("{what}: {why}"),
        )
    }
}

/// What runs of a service, as it was seen before its checks are looked at.
#[derive(Clone, Debug)]
pub struct Runs {
    /// Whether its process runs, and which one that is.
    pub process_status: ProcessStatus,
    /// The control group of its unit, where it has one that is up.
    pub control_group: Option<String>,
    /// Its container, where the engine has described it in this run.
    pub container: Option<Arc<container::Described>>,
}

/// What a look at one service depends on.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// Who may have written what is new in a log.
    pub author: log::Author,
    /// The last lines of logs are wanted for an alert even where nothing is wrong with them.
    pub shown: bool,
    /// What runs of it, for a kind that asks; one value for all checks of a service.
    pub runs: Option<Arc<Runs>>,
    /// The last repair of it, for a kind that asks.
    pub repaired: Option<Arc<prometheus::Repaired>>,
}

/// What the traps of a check depend on of its service.
#[derive(Clone, Copy, Debug)]
pub struct ServiceContext<'a> {
    /// How long a restart waits whether it stays up.
    pub settle: Duration,
    /// A younger process is not judged by its logs.
    pub start_grace: Duration,
    /// Whether there is any way to know a process of it.
    pub has_process: bool,
    /// Whether it can be restarted.
    pub has_method: bool,
    /// Its systemd unit.
    pub unit: Option<&'a unit::Unit>,
    /// Its container.
    pub container: Option<&'a container::Rule>,
    /// Where containers are asked for.
    pub engine: &'a container::Containers,
    /// Whether its process runs now, with nothing remembered.
    pub process_status: &'a ProcessStatus,
    /// The file that its standard output goes to, where the program is known to keep back what it prints.
    pub buffered_output: Option<&'a Path>,
}

/// The last look at a service, for `why`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastLook<'a> {
    /// When it was.
    pub time: Option<DateTime<Utc>>,
    /// The clocks of the last run, be it one that looked only at other services: what is remembered is told by them.
    pub clock: Option<&'a Reading>,
}

impl LastLook<'_> {
    /// A remembered moment by the clock of the last run.
    pub fn at(&self, moment: &Moment) -> DateTime<Utc> {
        self.clock.map_or(moment.wall(), |clock| moment.at(clock))
    }
}

/// One check to make, of a kind.
#[derive(Debug)]
pub struct JobOf<K: CheckKind + ?Sized> {
    /// What is checked.
    pub rule: Arc<K::Rule>,
    /// What is remembered of it.
    pub state: Option<Arc<K::State>>,
    /// What it depends on beside.
    pub circumstances: Circumstances,
}

/// A kind of check. All that the rest of the program knows of it goes through here.
pub trait CheckKind {
    /// What a config table says.
    type Rule: Clone + Send + Sync + 'static;
    /// What is remembered from run to run.
    type State: Serialize + DeserializeOwned + Clone + PartialEq + Send + Sync + 'static;

    /// Its name in reports; in lower case, the first part of its checks' ids.
    const KIND: Kind;
    /// The codes of its findings.
    const CODES: &'static [Code];
    /// It waits for others over a network, so it is done beside the rest from the start of a run.
    const IS_PROBE: bool;
    /// A look says how things are now, and nothing that is seen is used up by it: after a repair it is looked at again.
    const CAN_LOOK_AGAIN: bool = Self::IS_PROBE;

    /// It needs to know nothing of the service's process and may wait, so it is begun at the start of a run, beside
    /// the rest.
    const IS_INDEPENDENT: bool = Self::IS_PROBE;

    /// That it finds nothing shows that the service runs, as a log that is written does: then a program of which nothing
    /// is known may have been started by hand.
    /// Also one that is a warning does: to start a program beside one that it belongs to would be a second copy.
    const SHOWS_LIFE: bool = true;

    /// Whether what it finds is a warning at most.
    fn is_warning(_rule: &Self::Rule) -> bool {
        false
    }

    /// It has to be told what runs of the service.
    fn asks_what_runs(_rule: &Self::Rule) -> bool {
        false
    }

    /// It depends on when the service was repaired last.
    const ASKS_LAST_REPAIR: bool = false;

    /// What is checked, the second part of a check's id.
    fn target(rule: &Self::Rule) -> String;

    /// Fills in what a table left to the config as a whole.
    fn fill_in(_rule: &mut Self::Rule, _check_timeout: Duration) {}

    /// Takes out of a rule what makes a failure count only once it has lasted.
    fn judge_at_once(_rule: &mut Self::Rule) {}

    /// What in a rule nobody else may read.
    fn secrets(_rule: &Self::Rule) -> Vec<Kept<'_>> {
        Vec::new()
    }

    /// Makes all checks of this kind, in order.
    fn look(jobs: Vec<JobOf<Self>>, looking: &Looking<'_>) -> Vec<Checked<Self::State>>;

    /// What to remember once a restart has stopped what ran; absent: what was remembered stands.
    fn when_stopped(_rule: &Self::Rule, _state: Option<&Self::State>) -> Option<Self::State> {
        None
    }

    /// Brings `state` to where `later` is in all that the next run sees again where it is lost, as how far a file was
    /// read. What differs then is on the disk before a run ends.
    fn catch_up(_state: &mut Self::State, _later: &Self::State) {}

    /// The figure of the last look, with its name in reports.
    fn figures(_rule: &Self::Rule, _state: &Self::State) -> Option<(&'static str, Number)> {
        None
    }

    /// The alerts that counted in the last look: what is done is done for these.
    fn evidence(_state: &Self::State) -> &[prometheus::Acted] {
        &[]
    }

    /// How long the answer of the last look took.
    fn took(_state: &Self::State) -> Option<Duration> {
        None
    }

    /// When what it reads was last written, for a log.
    fn last_write(_state: &Self::State) -> Option<&Moment> {
        None
    }

    /// What in the rules of this kind, of all services, may not do what was meant, in order. Looks at the world as it is
    /// now, and changes nothing.
    fn traps(
        rules: &[(&Arc<Self::Rule>, &ServiceContext<'_>)],
        looking: &Looking<'_>,
    ) -> Vec<Vec<Trap>>;

    /// What it checks, and how that stood at the time of the last run, for `why`.
    fn explain(rule: &Self::Rule, state: Option<&Self::State>, last: LastLook<'_>) -> String;
}

/// Whether a unit or a container runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// It does, with a main process that is known or without one.
    Up(Option<i32>),
    /// It surely does not.
    Down,
    /// It could not be seen, or is not to be started here.
    #[default]
    Unseen,
}

/// What is remembered from run to run of what a service is made of. It may be both: a unit, and a process that is known
/// by other means than systemd's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectState {
    /// Its process, and which one that was.
    pub process: process::LastSeen,
    /// Its systemd unit.
    pub unit: Option<unit::LastSeen>,
    /// Its container.
    pub container: Option<Arc<container::LastSeen>>,
}

/// All that the checks of one service gave in one run.
#[derive(Clone, Debug)]
pub struct Observation {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What a person should know although nothing is wrong with the service.
    pub notes: Vec<String>,
    /// Whether its process runs, and which one that is.
    pub process_status: ProcessStatus,
    /// That whatever manages it is busy bringing it up, and how: then nobody else should be.
    pub activating: Option<String>,
    /// That Compose re-creates its container, and how that shows: then nobody else does anything about it.
    pub recreating: Option<String>,
    /// Why it is not to be started, whatever is wrong: something else starts it, or it is a job.
    pub left_alone: Option<String>,
    /// Why its logs and probes are not judged: what is paused writes nothing, and answers nobody.
    pub unjudged: Option<String>,
    /// What has become of a restart that an engine was asked for, and whose end no run saw.
    pub awaited: Option<container::Awaited>,
    /// The service whose container's network its own shares.
    pub network_of: Option<String>,
    /// The control group of its unit, where that is up.
    pub control_group: Option<String>,
    /// Its container, where the engine has described it in this run and a check asks for that.
    pub container: Option<Arc<container::Described>>,
    /// What to remember of what it is made of.
    pub subject: SubjectState,
    /// What its checks want to remember.
    pub checks: CheckStates,
    /// The last lines of its logs.
    pub tail: log::Tail,
    /// Something was found that must not count twice, though it may be no finding yet.
    pub consumed: bool,
    /// What the last restart or repair was for may go on, though it is no finding for a while: its incident is not over.
    pub unsettled: bool,
}

impl Observation {
    /// The PID of the main process, where one runs.
    pub fn pid(&self) -> Option<i32> {
        match &self.process_status {
            ProcessStatus::Running(running) => Some(running.main.pid),
            _ => None,
        }
    }

    /// Why nothing may be started beside the process, where it could not be seen.
    pub fn unseen_process(&self) -> Option<String> {
        if self.process_status != ProcessStatus::Unknown {
            return None;
        }
        let unseen = self.findings.iter();
        let unseen = unseen.filter(|finding| finding.severity == Severity::Unknown);
        let why: Vec<&str> = unseen.map(|finding| &*finding.message).collect();
        Some(format!(
            "its process could not be seen, and a second copy might be started: {}",
            why.join("; ")
        ))
    }
}
