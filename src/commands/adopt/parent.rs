//! Whether a program's parent starts it again by itself: then a `spawn` would start a second copy beside that.

use std::fs;
use std::path::Path;

use super::arguments::{self, Runs};
use super::facts::{Facts, texts};
use crate::process_table::ProcessTable;

/// What starts a program once and never again: inits, terminals, logins, and what watches over a single run.
const ONCE: [&str; 54] = [
    "abduco",
    "alacritty",
    "at",
    "atd",
    "bwrap",
    "catatonit",
    "conmon",
    "containerd-shim",
    "containerd-shim-runc-v2",
    "cron",
    "crond",
    "docker-init",
    "dtach",
    "dumb-init",
    "fcron",
    "firejail",
    "gdb",
    "gnome-terminal-",
    "init",
    "kitty",
    "konsole",
    "launchd",
    "lightdm",
    "login",
    "lxc-start",
    "mosh-server",
    "nohup",
    "pkexec",
    "podman",
    "rlwrap",
    "run-parts",
    "runc",
    "runuser",
    "screen",
    "SCREEN",
    "script",
    "setsid",
    "ssh",
    "sshd",
    "sshd-session",
    "strace",
    "su",
    "sudo",
    "systemd",
    "tini",
    "tmux",
    "tmux: server",
    "unshare",
    "valgrind",
    "watchdog",
    "xterm",
    "xvfb-run",
    "doas",
    "zellij",
];

/// What keeps a program running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    /// Its PID.
    pub(super) pid: i32,
    /// What it is called.
    pub(super) name: String,
    /// The command by which it restarts the program, where it has one.
    pub(super) restart: Option<Vec<String>>,
}

/// The parent that starts a program again; the highest one, where it does so through a shell.
pub(super) fn of(facts: &Facts, table: &ProcessTable) -> Option<Parent> {
    let (pid, name) = keeper_of(facts.pid, table)?;
    Some(Parent {
        restart: restart_command(&name, pid, facts),
        pid,
        name,
    })
}

/// Its PID and its name.
pub(in crate::commands) fn keeper_of(pid: i32, table: &ProcessTable) -> Option<(i32, String)> {
    let mut keeper = None;
    let mut child = pid;
    while let Some(process) = parent_of(child, table) {
        if !starts_again(process, table) {
            break;
        }
        keeper = Some(process);
        // `npm start` runs `sh -c`, which runs the program
        let arguments = arguments_of(process);
        let is_step = arguments
            .first()
            .is_some_and(|first| arguments::is_shell(first))
            && matches!(arguments::runs(&arguments), Runs::Code(_));
        if !is_step {
            break;
        }
        child = process;
    }
    keeper.map(|keeper| (keeper, name_of(keeper)))
}

fn parent_of(pid: i32, table: &ProcessTable) -> Option<i32> {
    table
        .parent(pid)
        .filter(|&parent| parent > 1 && !table.is_lineage(parent))
        .filter(|&parent| {
            table
                .scanned_process(parent)
                .is_some_and(|process| !process.kernel)
        })
}

fn arguments_of(pid: i32) -> Vec<String> {
    texts(Path::new(&format!("/proc/{pid}/cmdline"))).unwrap_or_default()
}

fn name_of(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .map(|name| name.trim_end().to_owned())
        .unwrap_or_default()
}

fn starts_again(pid: i32, table: &ProcessTable) -> bool {
    let arguments = arguments_of(pid);
    let name = name_of(pid);
    let first = arguments.first().map_or("", String::as_str);
    if is_once(&name) || is_once(first.rsplit('/').next().unwrap_or_default()) {
        return false;
    }
    // a shell that a person types into starts nothing again; a copy of it that runs a loop has the same arguments
    if arguments::is_shell(first) && arguments::runs(&arguments) == Runs::Input {
        let is_copy = table.parent(pid).is_some_and(|above| {
            arguments_of(above) == arguments
                && file_of(above).is_some()
                && file_of(above) == file_of(pid)
        });
        return is_copy;
    }
    true
}

fn is_once(name: &str) -> bool {
    ONCE.contains(&name)
        || name.starts_with("gnome-terminal")
        || name.starts_with("containerd-shim")
}

fn file_of(pid: i32) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// How a supervisor is asked to restart one of its programs.
fn restart_command(name: &str, pid: i32, facts: &Facts) -> Option<Vec<String>> {
    let variable = |key: &str| facts.environment.get(key).filter(|value| !value.is_empty());
    let command = |words: &[&str]| Some(words.iter().map(|&word| word.to_owned()).collect());
    if let Some(program) = variable("SUPERVISOR_PROCESS_NAME") {
        let program = match variable("SUPERVISOR_GROUP_NAME") {
            Some(group) if group != program => format!("{group}:{program}"),
            _ => program.clone(),
        };
        // the same config as the supervisor's own
        let arguments = arguments_of(pid);
        let config = arguments
            .iter()
            .position(|argument| argument == "-c" || argument == "--configuration")
            .and_then(|at| arguments.get(at + 1));
        return match config {
            Some(config) => command(&["supervisorctl", "-c", config, "restart", &program]),
            None => command(&["supervisorctl", "restart", &program]),
        };
    }
    let directory = || fs::read_link(format!("/proc/{pid}/cwd")).ok();
    let directory = directory().map(|path| path.to_string_lossy().into_owned());
    match (name, directory) {
        ("runsv", Some(directory)) => command(&["sv", "restart", &directory]),
        ("s6-supervise", Some(directory)) => command(&["s6-svc", "-r", &directory]),
        ("supervise", Some(directory)) => command(&["svc", "-t", &directory]),
        _ if variable("pm_id").is_some() && name.starts_with("PM2") => command(&[
            "pm2",
            "restart",
            variable("name").or_else(|| variable("pm_id"))?,
        ]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_starts_a_program_once_is_no_keeper() {
        for (name, once) in [
            ("tmux: server", true),
            ("SCREEN", true),
            ("sshd", true),
            ("containerd-shim-runc-v2", true),
            ("gnome-terminal-server", true),
            ("collectdmon", false),
            ("mysqld_safe", false),
            ("supervisord", false),
            ("runsv", false),
            ("node", false),
        ] {
            assert_eq!(is_once(name), once, "{name}");
        }
    }
}
