//! Repairing by a command in place of a restart: nothing is stopped, and nothing is waited for but that what was wrong is
//! gone, where that can be looked at again.

use std::time::{Duration, Instant};

use super::answers::ask;
use super::command::{Command, outlast_earlier, run};
use super::{Action, Attempted, Failure, MethodName, Operation, REPORTED, RestartContext};
use crate::check::trap::{Place, Trap};
use crate::check::{Check, CheckId, CheckStates, Finding, Severity, SubjectState};
use crate::clock::rough;

/// The command is ended so long before the run has to, so that it can be told how it went.
const TO_TELL: Duration = Duration::from_secs(2);

/// A command that a strategy runs in place of a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The command; it stops nothing first.
    pub command: Command,
    /// How long it may take.
    pub timeout: Duration,
}

impl Repair {
    /// Runs the command, and looks again at the checks of these ids that can be: they have to be well within
    /// `start_timeout`.
    pub fn make(&self, context: &RestartContext<'_>, reasons: &[CheckId]) -> Attempted {
        let began = Instant::now();
        let (mut pending, mut states) = (Vec::new(), CheckStates::default());
        let outcome = self.attempt(context, reasons, &mut pending, &mut states);
        let mut attempted = Attempted {
            action: Action {
                kind: Operation::Repair,
                method: MethodName::Command,
                ok: outcome.is_ok(),
                old_pid: None,
                new_pid: None,
                duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                error: None,
                stderr: Vec::new(),
                pending,
                evidence: None,
                facts: Vec::new(),
                from: None,
                to: None,
            },
            subject: SubjectState {
                process: context.last_seen.clone(),
                unit: None,
                container: None,
            },
            checks: states,
            unanswered: None,
            unmade: None,
        };
        if let Err(failure) = outcome {
            ::log::error!(target: REPORTED, "{}: repair failed: {}", context.service, failure.error);
            attempted.action.error = Some(failure.error);
            attempted.action.stderr = failure.stderr;
        }
        attempted
    }

    fn attempt(
        &self,
        context: &RestartContext<'_>,
        reasons: &[CheckId],
        pending: &mut Vec<String>,
        states: &mut CheckStates,
    ) -> Result<(), Failure> {
        let service = context.service;
        let left = context.asking.run_ends.checked_sub(TO_TELL);
        let left = left.map(|ends| ends.saturating_duration_since(Instant::now()));
        let limit = self.timeout.min(left.unwrap_or_default());
        if context.interrupted {
            outlast_earlier(context, &self.command, limit, "repair command")?;
        }
        context.check_lock()?;
        ::log::info!("{service}: repairing by {}", self.command.command.join(" "));
        run(service, &self.command, &context.output, limit)?;
        let again: Vec<&Check> = (context.checks.iter())
            .filter(|check| check.rule.can_look_again() && reasons.contains(&check.id))
            .collect();
        if again.is_empty() {
            ::log::info!("{service}: it is repaired");
            return Ok(());
        }
        let until = Instant::now() + context.limits.start_timeout;
        let is_wrong = |finding: &Finding| finding.severity == Severity::Critical;
        let mut answers = ask(&again, context, until, is_wrong, || true);
        *pending = answers.pending();
        *states = std::mem::take(&mut answers.states);
        if let Some((_, why)) = answers.failed.first() {
            let limit = rough(context.limits.start_timeout);
            return Err(Failure::from(format!(
                "the command succeeded, but after {limit} it is not mended: {why}"
            )));
        }
        ::log::info!("{service}: it is repaired");
        Ok(())
    }

    /// What in its configuration may not do what was meant.
    pub fn traps(&self) -> Vec<Trap> {
        let traps = self.command.traps_of("command", "repaired").into_iter();
        let in_table = traps.map(|trap| Trap {
            place: Place::Table("command"),
            ..trap
        });
        in_table.collect()
    }
}
