//! What to type about a service that is not well.

use crate::report::ServiceReport;
use crate::verdict::Verdict;

/// Commands without the program's name, each with what it is good for; the first is for every trouble.
pub(super) fn commands(service: &ServiceReport) -> Vec<(&'static str, String)> {
    let name = &service.name;
    let mut commands = vec![("the evidence in full", format!("why {name}"))];
    let is_spent = service.max_per_hour > 0
        && service.restarts_last_hour
            >= usize::try_from(service.max_per_hour).unwrap_or(usize::MAX);
    match service.verdict {
        Verdict::Exhausted | Verdict::RestartFailed if is_spent => {
            commands.push((
                "when the cause is mended: restart it although its budget is spent",
                format!("restart {name} --force"),
            ));
        }
        Verdict::Exhausted | Verdict::RepairFailed => {
            commands.push((
                "when the cause is mended: have it restarted again",
                format!("reset {name}"),
            ));
        }
        Verdict::RestartFailed => {
            commands.push((
                "when the cause is mended: restart it now",
                format!("restart {name}"),
            ));
        }
        Verdict::Down | Verdict::Unknown => {
            commands.push((
                "look again, and do nothing",
                format!("check --dry-run {name}"),
            ));
        }
        Verdict::Waiting | Verdict::Failing => {
            commands.push(("do not wait: restart it now", format!("restart {name}")));
        }
        Verdict::ScaleFailed => {
            commands.push((
                "when the cause is mended: look again",
                format!("check {name}"),
            ));
        }
        Verdict::Restarted
        | Verdict::Repaired
        | Verdict::Degraded
        | Verdict::Scaled
        | Verdict::AtMax => {
            commands.push(("what happened before", format!("history {name} --since 1d")));
        }
        Verdict::Healthy
        | Verdict::Steady
        | Verdict::Starting
        | Verdict::Paused
        | Verdict::Disabled => {}
    }
    if !matches!(service.verdict, Verdict::Restarted | Verdict::Repaired) {
        commands.push((
            "leave it alone for a while, without restarts and alerts",
            format!("pause {name} --for 2h --reason 'being mended'"),
        ));
    }
    commands
}
