//! Starting a program that outlives the watchdog.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use super::leftovers::{abandon, stale_pid_file, stop_all_with_wrapper};
use super::started::StartedChild;
use super::verify::{Awaited, length_of, stderr_since};
use super::{Failure, Method, MethodName, RestartContext, Up, scope, traps};
use crate::check::process::{Identity, Started, serves_others};
use crate::check::trap::Trap;
use crate::child::describe_status;
use crate::files::{self, Extent};
use crate::program::{self, Prepared, c_path};
use crate::sys::{Detached, Step, Target, spawn_detached};

mod buffer;
pub(super) mod rule;

pub use rule::Spawn;

/// A program that was started.
pub(super) struct Begun {
    child: StartedChild,
    /// How long its file for standard error was before.
    stderr_before: u64,
}

impl Method for Spawn {
    const NAME: MethodName = MethodName::Spawn;
    const PLACE: &'static str = "spawn";
    const STARTS_CHILD: bool = true;
    type Begun = Begun;

    fn stop(&self, context: &RestartContext<'_>, leftovers: &[Identity]) -> Result<(), Failure> {
        Ok(stop_all_with_wrapper(context, leftovers)?)
    }

    fn start(&self, context: &RestartContext<'_>) -> Result<Begun, Failure> {
        let stderr_before = length_of(self.stderr.as_deref());
        let stale = stale_pid_file(context);
        let child = start(context.service, self, stale, context.limits.start_timeout)?;
        Ok(Begun {
            child: StartedChild::new(child)?,
            stderr_before,
        })
    }

    fn verify(&self, context: &RestartContext<'_>, begun: &mut Begun) -> Result<Up, Failure> {
        let up = Awaited::with(context, context.limits).come_up(Some(&mut begun.child));
        let mut up = up.map_err(|failure| self.with_last_words(context, begun, failure))?;
        let main = up.running.as_ref().map(|running| &running.main);
        if let Some(child) = begun.child.living().filter(|child| main != Some(child))
            && !up.by_itself
            && !serves_others(child.pid)
        {
            up.last_seen.wrapper = Some(child);
        }
        Ok(up)
    }

    fn ended(&self, context: &RestartContext<'_>, begun: &mut Begun) -> Failure {
        let why = match begun.child.try_wait() {
            Ok(Some(status)) => describe_status(status),
            // it had gone into the background
            _ => "ended".to_owned(),
        };
        self.with_last_words(context, begun, Failure::from(why))
    }

    fn started(&self) -> Option<Started<'_>> {
        Some(Started {
            command: &self.command,
            working_dir: &self.working_dir,
            user: self.user.as_deref(),
        })
    }

    fn buffered_output(&self) -> Option<&Path> {
        buffer::buffered_output(self)
    }

    fn claim(&self) -> Option<traps::Claim> {
        let directory = self.working_dir.display();
        Some(traps::Claim {
            key: "spawn.command",
            what: "command",
            value: format!("{} in {directory}", self.command.join(" ")),
        })
    }

    fn traps(&self) -> Vec<Trap> {
        let mut traps = match prepare(self) {
            Err(why) => vec![traps::cannot_start("spawn", "started", &why)],
            Ok(prepared) => traps::of_program(&self.program(), "spawn.command", &prepared)
                .into_iter()
                .chain(traps::not_executable("spawn.command", &prepared.path))
                .collect(),
        };
        traps.extend(traps::of_words("spawn.command", &self.command));
        for (key, path) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let path = path.as_deref();
            traps.extend(path.and_then(|path| Trap::of_directory(key, path)));
        }
        traps
    }
}

impl Spawn {
    /// A failure with what the program wrote to its standard error; what is left of it is ended.
    fn with_last_words(
        &self,
        context: &RestartContext<'_>,
        begun: &mut Begun,
        failure: Failure,
    ) -> Failure {
        let abandoned = match abandon(&mut begun.child, context.limits) {
            Ok(ended) => ended.unwrap_or_default(),
            Err(why) => why,
        };
        let account = self.program().account();
        let who = account.ok().and_then(|account| account.credentials);
        let stderr = stderr_since(self.stderr.as_deref(), begun.stderr_before, who.as_ref());
        let hint = if self.stderr.is_none() {
            "; set `stderr` in its spawn table to a file to see what it says"
        } else {
            ""
        };
        Failure {
            error: format!("{}{abandoned}{hint}", failure.error),
            stderr,
            last_seen: failure.last_seen,
            ..Failure::default()
        }
    }
}

/// Starts the program of `service`, in a session and with an environment of its own. `stale` is a PID file that its
/// predecessor left. What hangs before it is the program is given up after `limit`.
///
/// The error is a sentence that says which step failed, on what, and what to do.
fn start(
    service: &str,
    spawn: &Spawn,
    stale: Option<&Path>,
    limit: Duration,
) -> Result<Child, String> {
    let prepared = prepare(spawn)?;
    let as_root = prepared.account.is_root();
    // a name that somebody else could lead elsewhere is not removed by root
    let stale = stale.filter(|path| !as_root || files::writers(path, 0, Extent::Whole).are_none());
    let target = |path: &Path| -> Result<Target, String> {
        Ok(Target {
            path: c_path(path)?,
            // what another user has may only be written to by himself
            own_only: as_root && !files::writers(path, 0, Extent::Whole).are_none(),
        })
    };
    let plan = Detached {
        program: c_path(&prepared.path)?,
        arguments: spawn.program().arguments()?,
        environment: prepared.environment()?,
        credentials: prepared.account.credentials,
        nice: spawn.nice,
        umask: spawn.umask,
        working_dir: c_path(&spawn.working_dir)?,
        stdout: spawn.stdout.as_deref().map(target).transpose()?,
        stderr: spawn.stderr.as_deref().map(target).transpose()?,
        remove: stale.map(c_path).transpose()?,
        pid_file: spawn.write_pid_file.as_deref().map(target).transpose()?,
        dies_with_parent: false,
    };
    super::log_kept_niceness(service, spawn.nice);
    let scope = scope::detached_scope();
    let adopt_pid = scope
        .as_ref()
        .map(|scope| |pid| scope.adopt_pid(service, pid));
    spawn_detached(plan, adopt_pid, limit)
        .map_err(|(step, error)| explain(step, &error, spawn, &prepared.path, limit))
}

/// What a start needs to be there. Looks, and changes nothing. The error is a sentence about what is missing.
pub(super) fn prepare(spawn: &Spawn) -> Result<Prepared, String> {
    let prepared = spawn.program().prepare()?;
    if prepared.account.is_root() {
        not_misled(spawn)?;
    }
    Ok(prepared)
}

/// Root opens no file for a program where somebody else could put a link to any other file.
fn not_misled(spawn: &Spawn) -> Result<(), String> {
    for (what, path) in [
        ("stdout", &spawn.stdout),
        ("stderr", &spawn.stderr),
        ("PID", &spawn.write_pid_file),
    ] {
        let Some(path) = path else { continue };
        let others = files::who_could_redirect(path, 0);
        if !others.are_none() {
            return Err(format!(
                "root would open its {what} file {} in a directory that {others} can change, and could be led to any other \
                 file; set `user` in its spawn table, or keep the file where only root can write",
                path.display()
            ));
        }
    }
    Ok(())
}

fn explain(
    step: Step,
    error: &io::Error,
    spawn: &Spawn,
    program: &Path,
    limit: Duration,
) -> String {
    let shown = |path: &Option<PathBuf>| {
        path.as_deref()
            .unwrap_or(Path::new("?"))
            .display()
            .to_string()
    };
    match step {
        Step::Nice => format!("cannot set its niceness to {}: {error}", spawn.nice),
        Step::Stdout => format!(
            "cannot open its stdout file {}: {error}",
            shown(&spawn.stdout)
        ),
        Step::Stderr => format!(
            "cannot open its stderr file {}: {error}",
            shown(&spawn.stderr)
        ),
        Step::PidFile => format!(
            "cannot write its PID file {}: {error}",
            shown(&spawn.write_pid_file)
        ),
        _ => program::explain(step, error, &spawn.program(), program, limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Spawn {
        Spawn::plain(vec!["x".to_owned()], Path::new("/srv").into())
    }

    #[test]
    fn each_step_of_a_start_has_its_sentence() {
        let spawn = Spawn {
            user: Some("trader".to_owned()),
            nice: -5,
            ..plain()
        };
        let error = || io::Error::from_raw_os_error(libc::EPERM);
        let said = |step, error: &io::Error, spawn: &Spawn| {
            explain(
                step,
                error,
                spawn,
                Path::new("/bin/x"),
                Duration::from_secs(5),
            )
        };
        for (step, expected) in [
            (Step::Session, "cannot make a session for it: E"),
            (Step::Nice, "cannot set its niceness to -5: E"),
            (Step::Credentials, "cannot become user trader for it: E"),
            (
                Step::WorkingDir,
                "cannot enter its working directory /srv: E",
            ),
            (Step::Exec, "/bin/x cannot be run: E"),
            (Step::Scope, "E"),
            (
                Step::Stuck,
                "it had not become /bin/x within 5s, and was killed: its working directory /srv or one of its files hangs \
                 (a dead disk or network share?), or somebody stopped it",
            ),
        ] {
            let expected = expected.replace('E', "Operation not permitted (os error 1)");
            assert_eq!(said(step, &error(), &spawn), expected);
        }
        let group_alone = Spawn {
            group: Some("staff".to_owned()),
            ..plain()
        };
        assert_eq!(
            said(Step::Credentials, &error(), &group_alone),
            "cannot become user of its group for it: Operation not permitted (os error 1)"
        );
    }
}
