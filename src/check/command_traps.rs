//! What in a command may not do what was meant: of a restart, or of a probe.

use std::path::Path;

use super::process::scripts;
use super::trap::Trap;
use crate::files::{self, Extent, check_executable};
use crate::program::{Prepared, Program};

/// What stands in a command only where a shell was thought of.
const SHELL_WORDS: [&str; 9] = ["&&", "||", "|", ">", ">>", "<", "&", ";", "2>&1"];

/// A program that could not be `started` or `restarted`.
pub fn cannot_start(key: &'static str, what: &str, why: &str) -> Trap {
    let help = if why.contains(" in its PATH ") {
        "its PATH is not that of your shell: cron and timers have no other"
    } else if why.starts_with("no such user") || why.starts_with("no such group") {
        "name one that this machine has: `getent passwd`, `getent group`"
    } else if why.starts_with("env_file ") {
        "its lines are KEY=VALUE, with `#` before a comment and quotes as in a shell, in UTF-8 without a byte order mark"
    } else {
        "relative paths begin at the service's working_dir, and that at the config's directory"
    };
    Trap::of_service(key, format!("it could not be {what}: {why}"), help)
}

/// A program that is there and cannot be run.
pub fn not_executable(key: &'static str, program: &Path) -> Option<Trap> {
    let why = check_executable(program).err()?;
    let help = "chmod +x makes a script a program";
    Some(Trap::of_service(
        key,
        format!("it could not be started: {why}"),
        help,
    ))
}

/// What root would run of somebody else's: who can change it has root's power.
pub fn of_program(program: &Program<'_>, key: &'static str, found: &Prepared) -> Option<Trap> {
    if !found.account.is_root() {
        return None;
    }
    let scripts = scripts(program.command, program.working_dir);
    let mut all = std::iter::once(found.path.clone()).chain(scripts);
    all.find_map(|path| {
        let others = files::writers(&path, 0, Extent::Whole);
        (!others.are_none()).then(|| {
            Trap::of_service(
                key,
                format!("root would run {}, which {others} can change", path.display()),
                "give a program of another user's its `user` in `spawn`; or let root alone write it and its directories",
            )
        })
    })
}

/// No shell reads a command, so what only a shell understands is an argument like any other.
pub fn of_words(key: &'static str, command: &[String]) -> Vec<Trap> {
    // `sh -c` and its like: a shell reads the next one
    let is_shell = command
        .get(1)
        .is_some_and(|option| option.starts_with('-') && option.ends_with('c'));
    let word = command.iter().find(|word| {
        SHELL_WORDS.contains(&word.as_str()) || word.starts_with('$') || word.starts_with("~/")
    });
    let mut traps = Vec::new();
    if let Some(word) = word.filter(|_| !is_shell) {
        traps.push(Trap::of_service(
            key,
            format!("no shell reads this command: `{word}` is an argument like any other"),
            "write command = [\"/bin/sh\", \"-c\", \"exec …\"] where you need a shell",
        ));
    }
    if let [single] = command
        && single.contains(' ')
        && !Path::new(single).exists()
    {
        traps.push(Trap::of_service(
            key,
            format!("the whole of `{single}` is taken for the name of a program"),
            "write each argument by itself: [\"python3\", \"main.py\"]",
        ));
    }
    traps
}
