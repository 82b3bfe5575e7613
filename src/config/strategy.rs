//! What is done for which findings: the `[[service.NAME.strategy]]` tables.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Policy;
use super::policy::check_window;
use crate::check;
use crate::restart::command::Command;
use crate::restart::repair::Repair;
use crate::table::{
    Checked, Context, Factor, Filled, Part, Positive, Program, Table, Value, Within, choice,
    nearest, quoted, table,
};

/// How long a command may take that says nothing about it.
const TIMEOUT: Duration = Duration::from_mins(5);

table! {
    /// What is done for some findings. The first one, in the order of the file, that lists one of the critical findings
    /// holds; without one, `restart` does. A limit here counts the strategy's own attempts, one in `restart` counts all;
    /// what is left out is as in `restart`.
    pub(super) struct StrategyKeys like "[[service.NAME.strategy]]", check fits {
        /// The codes of the findings that it is for.
        findings: Vec<String> as Filled<Vec<FindingCode>>, example r#"["log_error", "log_quiet"]"#;
        /// Run in place of a restart, to its end; exit 0 is success. Nothing is stopped.
        command: Option<Vec<String>> as Option<Program>, example r#"["/usr/local/bin/clear-cache"]"#;
        /// How long the command may take.
        timeout: Option<Duration> as Option<Positive>, example r#""5m""#;
        /// "alert": it is only alerted about. Or "restart", as without a command.
        action: Option<Wanted>, commented r#""alert""#;
        /// Attempts in any 60 minutes; 0: never.
        max_per_hour: Option<u32> as Option<Within<0, 3600>>, example "2";
        /// Failing runs before it …
        after_failures: Option<u32> as Option<Within<1, 1000>>, example "1";
        /// … among the last so many since the last attempt.
        out_of: Option<u32> as Option<Within<1, 1000>>, example "1";
        /// The least time between two attempts.
        cooldown: Option<Duration>, example r#""10m""#;
        /// The cooldown is multiplied by this for each further attempt of the same incident …
        backoff: Option<Factor>, example "2.0";
        /// … until it is so long.
        max_cooldown: Option<Duration>, example r#""1h""#;
        /// Attempts in one incident; 0: no such limit.
        max_attempts: Option<u32> as Option<Within<0, 1_000_000>>, example "3";
    }
}

/// What is to be done without a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Alert,
    Restart,
}

choice! { Wanted: "alert" = Alert, "restart" = Restart }

/// The code of a finding.
pub(super) struct FindingCode;

impl Checked for FindingCode {
    type Of = String;
    const KIND: &'static str = "a code of a finding";

    fn read(value: &Value<'_>, _: &Context) -> Option<String> {
        let text = value.filled()?;
        if check::code(&text).is_none() {
            let near = nearest(&text, check::codes().map(|code| code.name));
            value.wrong(
                &format!("no finding has the code {}", quoted(&text)),
                near.map_or_else(
                    || "docs/checks.md has the codes of all findings".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                ),
            );
            return None;
        }
        Some(text)
    }
}

/// What is done for some findings, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strategy {
    /// What no other strategy of the service is called: what is remembered of it is kept under this.
    pub id: String,
    /// The codes of the findings that it is for.
    pub findings: Vec<String>,
    /// The limits: how often failing runs must have come, and how many attempts of its own it may have.
    pub policy: Policy,
    /// What is done.
    pub remedy: Remedy,
}

/// What a strategy does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The service is restarted.
    Restart,
    /// A command is run; nothing is stopped.
    Repair(Repair),
    /// It is only alerted about.
    Alert,
}

impl Strategy {
    /// What people call it: `log_error, log_quiet`.
    pub fn title(&self) -> String {
        self.findings.join(", ")
    }

    /// The strategies that the tables of a service are, where `restart` has this policy.
    pub(super) fn all(
        tables: Vec<StrategyKeys>,
        policy: &Policy,
        working_dir: &Arc<Path>,
    ) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::with_capacity(tables.len());
        for keys in tables {
            let mut sorted = keys.findings.clone();
            sorted.sort_unstable();
            sorted.dedup();
            let first = sorted.join("+");
            let numbered = (2_usize..).map(|number| format!("{first}#{number}"));
            let id = std::iter::once(first.clone())
                .chain(numbered)
                .find(|id| all.iter().all(|other| other.id != *id))
                .unwrap_or_default();
            let remedy = match (keys.command, keys.action) {
                (Some(command), _) => Remedy::Repair(Repair {
                    command: Command {
                        container: None,
                        command,
                        working_dir: Arc::clone(working_dir),
                        stop_first: false,
                    },
                    timeout: keys.timeout.unwrap_or(TIMEOUT),
                }),
                (None, Some(Wanted::Alert)) => Remedy::Alert,
                (None, _) => Remedy::Restart,
            };
            all.push(Self {
                id,
                findings: keys.findings,
                policy: Policy {
                    max_per_hour: keys.max_per_hour.unwrap_or(policy.max_per_hour),
                    on_exhausted: policy.on_exhausted,
                    after_failures: keys.after_failures.unwrap_or(policy.after_failures),
                    out_of: keys.out_of.or(policy.out_of),
                    cooldown: keys.cooldown.unwrap_or(policy.cooldown),
                    backoff: keys.backoff.unwrap_or(policy.backoff),
                    max_cooldown: keys.max_cooldown.unwrap_or(policy.max_cooldown),
                    max_attempts: keys.max_attempts.unwrap_or(policy.max_attempts),
                },
                remedy,
            });
        }
        all
    }
}

impl From<&Strategy> for StrategyKeys {
    fn from(strategy: &Strategy) -> Self {
        let policy = strategy.policy.clone();
        let (command, timeout, action) = match &strategy.remedy {
            Remedy::Repair(repair) => (
                Some(repair.command.command.clone()),
                Some(repair.timeout),
                None,
            ),
            Remedy::Restart => (None, None, Some(Wanted::Restart)),
            Remedy::Alert => (None, None, Some(Wanted::Alert)),
        };
        Self {
            findings: strategy.findings.clone(),
            command,
            timeout,
            action,
            max_per_hour: Some(policy.max_per_hour),
            after_failures: Some(policy.after_failures),
            out_of: policy.out_of,
            cooldown: Some(policy.cooldown),
            backoff: Some(policy.backoff),
            max_cooldown: Some(policy.max_cooldown),
            max_attempts: Some(policy.max_attempts),
        }
    }
}

/// Holds the keys of one table against one another.
fn fits(table: &Table<'_>, _: &mut Part<StrategyKeys>) {
    const HELP: &str = "`command` is run in place of a restart; `action` is for what has none";
    table.at_most_one(&["command", "action"], HELP);
    if let Some(timeout) = table.get("timeout")
        && !table.has_any(&["command"])
    {
        timeout.misplaced(
            "`timeout` without `command`",
            "a restart has the times of `restart`: stop_timeout, start_timeout, settle",
        );
    }
}

/// Holds the strategies of a service against the policy that they take over what they leave out from.
pub(super) fn check_windows(list: &Value<'_>, keys: &[StrategyKeys], policy: &Policy) {
    for (number, keys) in keys.iter().enumerate() {
        let Some(table) = list.entry(number) else {
            continue;
        };
        check_window(
            table.key("out_of").as_ref(),
            table.key("after_failures").as_ref(),
            Some(keys.after_failures.unwrap_or(policy.after_failures)),
            keys.out_of.or(policy.out_of),
        );
    }
}
