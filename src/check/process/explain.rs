//! How a service's process is known, for `why`.

use super::Rule;

/// A sentence without its end. Without a rule the process is the one that the watchdog started; `pid` is the one that
/// was seen.
pub fn explain(rule: Option<&Rule>, pid: Option<i32>) -> String {
    let pid = pid.map(|pid| format!(", PID {pid}")).unwrap_or_default();
    let Some(rule) = rule else {
        return format!("process, known as the one that the watchdog started{pid}");
    };
    let mut by = Vec::new();
    if rule.pid_file.is_some() {
        by.push(format!("PID file {}", rule.shown));
    }
    if let Some(pattern) = &rule.command_line {
        by.push(format!("command line `{}`", pattern.source()));
    }
    if let Some(user) = &rule.user {
        by.push(format!("user {user}"));
    }
    format!("process, known by {}{pid}", by.join(" and "))
}
