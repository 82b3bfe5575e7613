//! Restarting by a command that is run to its end.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::environment::{account, environment};
use super::{Command, scope};
use crate::child::{self, Ended};
use crate::files;
use crate::sys;

/// How many of the last lines of a command's output are told.
pub const TOLD_LINES: usize = 20;

/// How large the output of a command that has ended may grow, in bytes.
const OUTPUT_LIMIT: u64 = 1 << 20;

/// The file in `state_dir` that the output of a service's command goes to.
pub fn output_file(state_dir: &Path, service: &str) -> PathBuf {
    state_dir.join(format!("{service}.out"))
}

/// Empties the outputs that have grown too large: what a command has left running may hold one open for as long as it
/// lives, and would fill the disk that the state is on.
pub fn empty_large_outputs(state_dir: &Path) {
    let outputs = fs::read_dir(state_dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "out"));
    for path in outputs {
        let is_large = fs::symlink_metadata(&path)
            .is_ok_and(|meta| meta.is_file() && meta.len() > OUTPUT_LIMIT);
        if is_large && let Err(error) = files::append(&path, 0o600).and_then(|file| file.set_len(0))
        {
            ::log::warn!("{} cannot be emptied: {error}", path.display());
        }
    }
}

/// Runs the command of `service`, `limit` at the most, with its output in the file `output`; exit status 0 is success. What it
/// printed last is in the error.
pub fn run(
    service: &str,
    command: &Command,
    output: &Path,
    limit: Duration,
) -> Result<(), (String, Vec<String>)> {
    let alone = |why: String| (why, Vec::new());
    let variables = variables(command).map_err(alone)?;
    let name = command.command.first().map_or("", String::as_str);
    let program = if name.contains('/') {
        command.working_dir.join(name)
    } else {
        PathBuf::from(name)
    };
    let mut process = std::process::Command::new(&program);
    process
        .args(command.command.iter().skip(1))
        .current_dir(&command.working_dir)
        .env_clear()
        .envs(variables);
    let like = command.as_spawn();
    super::tell_niceness_kept(service, like.nice);
    sys::begin_afresh(&mut process, like.nice, like.umask);
    // a file that a person can see: what the command leaves running may go on writing to it, at its end wherever that
    // is by then
    let file = files::append(output, 0o600)
        .and_then(|file| {
            file.set_len(0)?;
            Ok(file)
        })
        .or_else(|_| child::scratch(b""));
    let ended = file.and_then(|file| {
        // what it leaves running is to outlive the run
        let detached_scope = scope::detached_scope();
        let take_in = detached_scope
            .as_ref()
            .map(|detached_scope| |pid| detached_scope.take_in(service, pid));
        child::run_into(process, None, limit, &file, &file, take_in)
    });
    let ended = ended.map_err(|error| {
        // the directory may be what is not there, or may not be entered; it has no part in what else fails
        let directory = match error.raw_os_error() {
            Some(_) => format!(
                "; its working directory is {}",
                command.working_dir.display()
            ),
            None => String::new(),
        };
        alone(format!(
            "cannot run {}: {error}{directory}",
            program.display()
        ))
    })?;
    judge(&ended, &program, limit)
}

fn judge(ended: &Ended, program: &Path, limit: Duration) -> Result<(), (String, Vec<String>)> {
    let lines = child::last_lines(&ended.stdout, TOLD_LINES);
    for line in &lines {
        ::log::info!("{}: {line}", program.display());
    }
    if ended.status.is_some_and(|status| status.success()) {
        return Ok(());
    }
    Err((
        format!("{} {}", program.display(), ended.describe(limit)),
        lines,
    ))
}

/// The environment is that of a program of the watchdog's own user.
fn variables(command: &Command) -> Result<BTreeMap<String, String>, String> {
    let like = command.as_spawn();
    environment(&like, &account(&like)?)
}
