//! Restarting by a command that is run to its end.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::already_running::already_running;
use super::container::{Asked, Container};
use super::leftovers::{left_behind, remove_stale, stale_pid_file, stop_all};
use super::spawn::{Spawn, prepare};
use super::verify::Awaited;
use super::{Failure, Method, MethodName, RestartContext, Up, scope, traps};
use crate::check::process::{self, Identity};
use crate::check::trap::Trap;
use crate::child::{self, Ended};
use crate::clock::Reading;
use crate::files::{self, check_executable};
use crate::sys;

/// How many of the last lines of a command's output are told.
pub const TOLD_LINES: usize = 20;

/// How large the output of a command that has ended may grow, in bytes.
const OUTPUT_LIMIT: u64 = 1 << 20;

/// How often is looked whether a command of an earlier run has ended.
const OUTLAST_POLL: Duration = Duration::from_millis(100);

/// A command that restarts a service: `restart.command`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments, at least the program.
    pub command: Vec<String>,
    /// The working directory, absolute.
    pub working_dir: Arc<Path>,
    /// Whether what runs is stopped before; else the command does that.
    pub stop_first: bool,
    /// The container that the service is, and that the command restarts in the place of its engine.
    pub container: Option<Box<Container>>,
}

impl Command {
    /// The same as a program of the watchdog's own user: for its environment and its look-up.
    fn as_spawn(&self) -> Spawn {
        Spawn::plain(self.command.clone(), Arc::clone(&self.working_dir))
    }

    /// The failure says why its container is left alone: it is another one since it was looked at, or paused.
    fn ask_again(&self, context: &RestartContext<'_>) -> Result<Option<Asked>, Failure> {
        let container = self.container.as_ref();
        container.map_or(Ok(None), |container| container.ask_again(context))
    }

    /// Waits until the service is up once the command has ended: its process by a rule of its own, its container by what the
    /// engine says.
    fn come_up(&self, context: &RestartContext<'_>, old: Vec<Identity>) -> Result<Up, Failure> {
        let deadline = Instant::now() + context.limits.start_timeout;
        let by_rule = || {
            let awaited = Awaited::with(context, context.limits).instead_of(old);
            awaited.come_up(None)
        };
        let Some(container) = &self.container else {
            return by_rule();
        };
        if !context.target.is_known() {
            return container.come_up_after_command(context, deadline);
        }
        let up = by_rule()?;
        let made = container.come_up_after_command(context, deadline)?;
        Ok(Up {
            container: made.container,
            pending: made.pending,
            ..up
        })
    }

    /// What about it may not do what was meant: under this key, where without it a service is not `done` so.
    pub(super) fn traps_of(&self, key: &'static str, done: &str) -> Vec<Trap> {
        let like = self.as_spawn();
        let mut traps = match prepare(&like) {
            Err(why) => vec![traps::cannot_start(key, done, &why)],
            Ok(prepared) => {
                let unusable = check_executable(&prepared.path).err();
                let unusable = unusable.map(|why| traps::cannot_start(key, done, &why));
                let of_program = traps::of_program(&like.program(), key, &prepared);
                of_program.into_iter().chain(unusable).collect()
            }
        };
        traps.extend(traps::of_words(key, &self.command));
        traps
    }
}

/// A command that was run, or need not be.
pub(super) enum Begun {
    /// What it starts is up already.
    Up(Box<Up>),
    /// Something new is to come up, and none of these.
    InsteadOf(Vec<Identity>),
}

impl Method for Command {
    const NAME: MethodName = MethodName::Command;
    const PLACE: &'static str = "restart.command";
    const STARTS_CHILD: bool = true;
    type Begun = Begun;

    fn stops_first(&self) -> bool {
        self.stop_first
    }

    fn stop(&self, context: &RestartContext<'_>, leftovers: &[Identity]) -> Result<(), Failure> {
        let asked = self.ask_again(context)?;
        stop_all(context, leftovers)?;
        // else the command would find one that the engine still takes for running
        let was_stopped = context.running.is_some() || !leftovers.is_empty();
        if let (Some(container), Some(asked)) = (&self.container, asked)
            && was_stopped
        {
            container.await_end(&asked);
        }
        Ok(())
    }

    fn start(&self, context: &RestartContext<'_>) -> Result<Begun, Failure> {
        let mut old = Vec::new();
        if !self.stop_first {
            let running = context.running.iter().flat_map(|running| &running.all);
            old.extend(running.cloned());
            old.extend(left_behind(context)?);
        }
        if context.interrupted {
            let was_run = outlast_earlier(
                context,
                self,
                context.limits.start_timeout,
                "restart command",
            )?;
            // what it has started by then is seen now
            let up = if self.stop_first {
                already_running(context, |_| false)?
            } else {
                None
            };
            match up {
                Some(up) => return Ok(Begun::Up(Box::new(up))),
                None if was_run => return Ok(Begun::InsteadOf(old)),
                None => {}
            }
        }
        // by that of one that runs the command finds what to stop
        if old.is_empty()
            && let Some(pid_file) = stale_pid_file(context)
        {
            remove_stale(pid_file);
        }
        // else it was asked for before the stop
        if !self.stop_first {
            self.ask_again(context)?;
        }
        let limit = context.limits.start_timeout;
        run(context.service, self, &context.output, limit).map(|()| Begun::InsteadOf(old))
    }

    fn verify(&self, context: &RestartContext<'_>, begun: &mut Begun) -> Result<Up, Failure> {
        match begun {
            Begun::Up(up) => Ok(Up::clone(up)),
            Begun::InsteadOf(old) => self.come_up(context, std::mem::take(old)),
        }
    }

    fn traps(&self) -> Vec<Trap> {
        self.traps_of(Self::PLACE, "restarted")
    }
}

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
        if is_large
            && let Err(error) = files::append_private(&path).and_then(|file| file.set_len(0))
        {
            ::log::warn!("{} cannot be emptied: {error}", path.display());
        }
    }
}

/// Runs the command of `service`, `limit` at the most, with its output in the file `output`; exit status 0 is success. What it
/// printed last is in the error.
pub(super) fn run(
    service: &str,
    command: &Command,
    output: &Path,
    limit: Duration,
) -> Result<(), Failure> {
    let variables = variables(command)?;
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
    super::log_kept_niceness(service, like.nice);
    sys::begin_afresh(&mut process, like.nice, like.umask);
    // a file that a person can see: what the command leaves running may go on writing to it, at its end wherever that
    // is by then
    let file = files::append_private(output)
        .and_then(|file| {
            file.set_len(0)?;
            Ok(file)
        })
        .or_else(|_| child::scratch(b""));
    let ended = file.and_then(|file| {
        // what it leaves running is to outlive the run
        let scope = scope::detached_scope();
        let adopt_pid = scope
            .as_ref()
            .map(|scope| |pid| scope.adopt_pid(service, pid));
        child::run_into(process, None, limit, &file, &file, adopt_pid)
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
        format!("cannot run {}: {error}{directory}", program.display())
    })?;
    judge(&ended, &program, limit)
}

fn judge(ended: &Ended, program: &Path, limit: Duration) -> Result<(), Failure> {
    let lines = child::last_lines(&ended.stdout, TOLD_LINES);
    for line in &lines {
        ::log::info!("{}: {line}", program.display());
    }
    if ended.status.is_some_and(|status| status.success()) {
        return Ok(());
    }
    Err(Failure {
        stderr: lines,
        ..Failure::from(format!("{} {}", program.display(), ended.describe(limit)))
    })
}

/// The environment is that of a program of the watchdog's own user.
fn variables(command: &Command) -> Result<BTreeMap<String, String>, String> {
    let like = command.as_spawn();
    let program = like.program();
    program.environment(&program.account()?)
}

/// Waits for the end of a command that a run before began and did not live to see the end of: two of them side by
/// side might start two programs. Returns whether there was one.
pub(super) fn outlast_earlier(
    context: &RestartContext<'_>,
    command: &Command,
    limit: Duration,
    what: &str,
) -> Result<bool, String> {
    let started = process::Started {
        command: &command.command,
        working_dir: &command.working_dir,
        user: None,
    };
    let deadline = Instant::now() + limit;
    let mut found = false;
    // one that hands over to a child during a look is missed by it: only two in a row tell
    let mut misses = 0;
    while misses < 2 {
        let Some(pid) = process::is_being_run(started, &Reading::take())? else {
            misses += 1;
            std::thread::sleep(OUTLAST_POLL);
            continue;
        };
        misses = 0;
        if Instant::now() >= deadline {
            return Err(format!(
                "its {what} still runs (PID {pid}) since a run that was cut short; it was not run beside it"
            ));
        }
        if !found {
            ::log::info!(
                "{}: its {what} runs already (PID {pid}), since a run that was cut short: waiting for it",
                context.service
            );
        }
        found = true;
        std::thread::sleep(OUTLAST_POLL);
    }
    Ok(found)
}
