//! Starting a program that outlives the watchdog.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use super::environment::{Account, account, environment};
use super::leftovers::{abandon, stale_pid_file, stop_all};
use super::started::StartedChild;
use super::verify::{Awaited, length_of, stderr_since};
use super::{Failure, Method, MethodName, RestartContext, Up, scope, traps};
use crate::check::process::{Identity, Started};
use crate::check::trap::Trap;
use crate::child::describe_status;
use crate::clock;
use crate::files::{self, Extent};
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

    fn stop(&self, context: &RestartContext<'_>, leftovers: &[Identity]) -> Result<(), String> {
        stop_all(context, leftovers)
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
        up.map_err(|failure| self.with_last_words(context, begun, failure))
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
            Ok((_, _, program)) => traps::of_program(self, "spawn.command", &program)
                .into_iter()
                .chain(traps::not_executable("spawn.command", &program))
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
        let who = account(self).ok().and_then(|account| account.credentials);
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
    let (account, variables, program) = prepare(spawn)?;
    let as_root = account.is_root();
    // a name that somebody else could lead elsewhere is not removed by root
    let stale = stale.filter(|path| !as_root || files::writers(path, 0, Extent::Whole).are_none());
    let target = |path: &Path| -> Result<Target, String> {
        Ok(Target {
            path: c_path(path)?,
            // what another user has may only be written to by himself
            own_only: as_root && !files::writers(path, 0, Extent::Whole).are_none(),
        })
    };
    let environment = variables
        .iter()
        .map(|(key, value)| c_text(&format!("{key}={value}")));
    let plan = Detached {
        program: c_path(&program)?,
        arguments: spawn
            .command
            .iter()
            .map(|argument| c_text(argument))
            .collect::<Result<_, _>>()?,
        environment: environment.collect::<Result<_, _>>()?,
        credentials: account.credentials,
        nice: spawn.nice,
        umask: spawn.umask,
        working_dir: c_path(&spawn.working_dir)?,
        stdout: spawn.stdout.as_deref().map(target).transpose()?,
        stderr: spawn.stderr.as_deref().map(target).transpose()?,
        remove: stale.map(c_path).transpose()?,
        pid_file: spawn.write_pid_file.as_deref().map(target).transpose()?,
    };
    super::log_kept_niceness(service, spawn.nice);
    let scope = scope::detached_scope();
    let adopt_pid = scope
        .as_ref()
        .map(|scope| |pid| scope.adopt_pid(service, pid));
    spawn_detached(plan, adopt_pid, limit)
        .map_err(|(step, error)| explain(step, &error, spawn, &program, limit))
}

/// What a start needs to be there: its user, its environment, its working directory, its program. Looks, and changes
/// nothing. The error is a sentence about what is missing.
pub(super) fn prepare(
    spawn: &Spawn,
) -> Result<(Account, BTreeMap<String, String>, PathBuf), String> {
    let account = account(spawn)?;
    let variables = environment(spawn, &account)?;
    let name = spawn.command.first().map_or("", String::as_str);
    match fs::metadata(&spawn.working_dir) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return Err(format!(
                "the working directory {} is not a directory",
                spawn.working_dir.display()
            ));
        }
        // another user's directory may be closed to this one: then the child tells
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
        Err(error) => {
            return Err(format!(
                "no working directory {}: {error}",
                spawn.working_dir.display()
            ));
        }
    }
    let program = find(name, &variables, &spawn.working_dir)?;
    if account.is_root() {
        not_misled(spawn)?;
    }
    Ok((account, variables, program))
}

/// Root opens no file for a program where somebody else could put a link to any other file.
fn not_misled(spawn: &Spawn) -> Result<(), String> {
    for (what, path) in [
        ("stdout", &spawn.stdout),
        ("stderr", &spawn.stderr),
        ("PID", &spawn.write_pid_file),
    ] {
        let Some(path) = path else { continue };
        let others = files::misleaders(path, 0);
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

fn c_text(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| {
        format!(
            "`{}` holds a NUL",
            crate::text::printable(text.as_bytes(), 80)
        )
    })
}

fn c_path(path: &Path) -> Result<CString, String> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| format!("the path {} holds a NUL", path.display()))
}

/// The file that a program's name means: a path as it stands, a bare name along the PATH that the program will
/// itself have.
fn find(
    name: &str,
    variables: &BTreeMap<String, String>,
    working_dir: &Path,
) -> Result<PathBuf, String> {
    if name.contains('/') {
        let path = working_dir.join(name);
        return match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(format!("no such program {}", path.display()))
            }
            Ok(meta) if meta.is_dir() => {
                Err(format!("{} is a directory, not a program", path.display()))
            }
            _ => Ok(path),
        };
    }
    let search = variables.get("PATH").map_or("", String::as_str);
    search
        .split(':')
        .map(|directory| working_dir.join(directory).join(name))
        .find(|path| {
            fs::metadata(path)
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
        .ok_or_else(|| {
            format!("no such program `{name}` in its PATH ({search}); give its whole path")
        })
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
        Step::Exec => match error.raw_os_error() {
            Some(libc::ENOEXEC) => format!(
                "{} is no program that the kernel can run; a script needs a first line such as #!/bin/sh",
                program.display()
            ),
            Some(libc::ENOENT) => format!(
                "{} cannot be run: {error}; if it is a script, its interpreter (the first line) is missing",
                program.display()
            ),
            Some(libc::EACCES) => format!(
                "{} cannot be run: {error}; is it executable (chmod +x) for its user, and its directory not mounted noexec?",
                program.display()
            ),
            _ => format!("{} cannot be run: {error}", program.display()),
        },
        Step::Scope => error.to_string(),
        Step::Stuck => format!(
            "it had not become {} within {}, and was killed: its working directory {} or one of its files hangs (a dead \
             disk or network share?), or somebody stopped it",
            program.display(),
            clock::rough(limit),
            spawn.working_dir.display()
        ),
        Step::Session => format!("cannot make a session for it: {error}"),
        Step::Nice => format!("cannot set its niceness to {}: {error}", spawn.nice),
        Step::Credentials => format!(
            "cannot become user {} for it: {error}",
            spawn.user.as_deref().unwrap_or("of its group")
        ),
        Step::WorkingDir => {
            format!(
                "cannot enter its working directory {}: {error}",
                spawn.working_dir.display()
            )
        }
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

    #[test]
    fn what_the_kernel_would_cut_off_is_refused() {
        assert_eq!(c_text("a\0b").unwrap_err(), "`a\\x00b` holds a NUL");
        assert_eq!(
            c_path(Path::new("a\0b")).unwrap_err(),
            "the path a\0b holds a NUL"
        );
    }
}
