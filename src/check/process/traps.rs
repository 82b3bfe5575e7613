//! What in the rule for a process may not do what was meant.

use std::path::{Path, PathBuf};

use super::super::pattern::Pattern;
use super::super::trap::Trap;
use super::{ProcessStatus, Rule, Seen, Started, TOO_MANY, resolve_user};
use crate::text::printable;

/// What people and other programs are likely to run that has to do with the service.
#[derive(Clone, Debug)]
pub struct Bystanders<'a> {
    /// The config, which people edit.
    pub config: &'a Path,
    /// Logs, which people read.
    pub logs: Vec<&'a Path>,
    /// What the watchdog itself starts.
    pub started: Option<Started<'a>>,
}

/// What in a rule may not do what was meant. `seen` is what it finds now, with nothing remembered.
pub fn traps(rule: &Rule, seen: &Seen, bystanders: &Bystanders<'_>) -> Vec<Trap> {
    let mut traps = Vec::new();
    if let Some(directory) = rule.pid_file.as_ref().and_then(|path| path.parent())
        && !directory.is_dir()
    {
        traps.push(Trap::of(
            "pid_file",
            format!(
                "the directory of its PID file, {}, is not there",
                directory.display()
            ),
            "make it, or say where the program writes its PID; below /run it has to be made at each boot",
        ));
    }
    let unknown = rule.user.as_deref().map(resolve_user);
    if let Some(Err(why)) = &unknown {
        traps.push(Trap::of(
            "user",
            why,
            "name a user that this machine has: `getent passwd`",
        ));
    }
    let Some(pattern) = &rule.command_line else {
        return traps;
    };
    // an argument may have several lines
    traps.extend(Trap::of_control("command_line", pattern, &['\t', '\n']));
    if !matches!(unknown, Some(Err(_))) {
        traps.extend(matches_now(rule, pattern, seen));
    }
    // other programs of that user are few, and those of a person are not among them
    if rule.user.is_none() {
        traps.extend(matches_bystander(pattern, bystanders));
    }
    traps
}

fn matches_now(rule: &Rule, pattern: &Pattern, seen: &Seen) -> Vec<Trap> {
    let mut traps = Vec::new();
    if !matches!(seen.process_status, ProcessStatus::Running(_)) {
        let of = rule.user.as_ref().map(|user| format!(" of user {user}"));
        traps.push(Trap::of(
            "command_line",
            format!(
                "`{}` matches no process{} now",
                pattern.source(),
                of.unwrap_or_default()
            ),
            "where the program runs, hold the pattern against `ps -eo user,args`; it is searched in the \
             arguments joined by single spaces",
        ));
    }
    let mut findings = seen.findings.iter();
    if let Some(finding) = findings.find(|finding| finding.code == TOO_MANY) {
        traps.push(Trap::of(
            "command_line",
            &finding.message,
            "make the pattern narrower, or give the `user` or a `pid_file` as well",
        ));
    }
    traps
}

/// A pattern that fits somebody's editor makes a person who reads the config into the program.
fn matches_bystander(pattern: &Pattern, bystanders: &Bystanders<'_>) -> Option<Trap> {
    let file = bystanders.config.display();
    let mut lines = vec![
        format!("vi {file}"),
        format!("watchdog check --config {file}"),
    ];
    let logs = bystanders.logs.iter();
    lines.extend(logs.map(|log| format!("tail -f {}", log.display())));
    if let Some(started) = bystanders.started {
        let scripts = scripts(started.command, started.working_dir);
        lines.extend(scripts.map(|script| format!("vi {}", script.display())));
    }
    let line = lines.iter().find(|line| pattern.matches(line.as_bytes()))?;
    Some(Trap::of(
        "command_line",
        format!(
            "the pattern `{}` also matches `{}`",
            pattern.source(),
            printable(line.as_bytes(), 200)
        ),
        "let the pattern begin at the beginning, as in '^/usr/bin/python3 .*main\\.py', or give the `user`",
    ))
}

/// The files among the arguments of a program.
pub fn scripts(command: &[String], working_dir: &Path) -> impl Iterator<Item = PathBuf> {
    let paths = (command.iter().skip(1)).map(|argument| working_dir.join(argument));
    paths.filter(|path| path.is_file())
}
