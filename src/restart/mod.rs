//! Restarting: stop what is left, start it anew, and see that it stays up.
//!
//! Each way to start has a file. A restart is handed all that it needs and looks at nothing of the config; its
//! troubles are an [`Action`] with `ok: false`, never an error that ends the run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::check::process::{self, Identity, ProcessStatus, Running, Target};
use crate::check::unit::{self, Unit};
use crate::check::{Check, CheckStates};
use crate::clock::Reading;
use crate::files::{self, Extent, FileId};
use crate::pool::Pool;
use crate::process_table::{ProcessState, SharedSnapshots};
use crate::sys;
use verify::{Awaited, Fallen, Started, Up};

pub use keys::{Limits, Spawn};

pub mod command;
pub mod environment;
mod keys;
pub mod scope;
pub mod spawn;
pub mod stop;
pub mod systemd;
pub mod verify;

/// The target of log records that the report of the run tells as well: standard error, beside the report, needs
/// them only where more is asked for.
pub const REPORTED: &str = "reported";

/// How long finding the ends of a service's logs may take.
const MARK_LIMIT: Duration = Duration::from_secs(10);

/// How long the parent of a process that has ended is given to collect it. Init takes milliseconds, in some
/// containers and small virtual machines seconds.
const COLLECTION_WAIT: Duration = Duration::from_secs(5);

/// How often is looked whether a command of an earlier run has ended.
const OUTLAST_POLL: Duration = Duration::from_millis(100);

/// The way that a service is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartMethod {
    /// A program of the watchdog's own starting.
    Spawn(Box<Spawn>),
    /// A systemd unit.
    Systemd(Unit),
    /// A command that is run to its end.
    Command(Command),
}

impl RestartMethod {
    /// The name that reports give it: `spawn`, `systemd`, `command`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Spawn(_) => "spawn",
            Self::Systemd(_) => "systemd",
            Self::Command(_) => "command",
        }
    }
}

/// A command that restarts a service: `restart.command`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments, at least the program.
    pub command: Vec<String>,
    /// The working directory, absolute.
    pub working_dir: Arc<Path>,
}

impl Command {
    /// The same as a program of the watchdog's own user: for its environment and its look-up.
    pub fn as_spawn(&self) -> Spawn {
        Spawn {
            command: self.command.clone(),
            user: None,
            group: None,
            env: Vec::new(),
            env_file: None,
            stdout: None,
            stderr: None,
            umask: 0o022,
            nice: 0,
            write_pid_file: None,
            working_dir: Arc::clone(&self.working_dir),
        }
    }
}

/// What was done to a service and how it went, as `check --json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// `restart`.
    pub kind: String,
    /// `spawn`, `systemd` or `command`.
    pub method: String,
    /// Whether the service came up and stayed up.
    pub ok: bool,
    /// The process that was stopped.
    pub old_pid: Option<i32>,
    /// The process that runs now.
    pub new_pid: Option<i32>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// The last lines of standard error of a start that failed.
    #[serde(default)]
    pub stderr: Vec<String>,
}

/// All that a restart needs to know.
#[derive(Clone, Debug)]
pub struct RestartContext<'a> {
    /// The service, for the log.
    pub service: &'a str,
    /// The way to start it.
    pub method: &'a RestartMethod,
    /// The limits.
    pub limits: &'a Limits,
    /// How its process is known.
    pub target: Target<'a>,
    /// What is remembered of its process.
    pub last_seen: process::LastSeen,
    /// What runs of it.
    pub running: Option<Running>,
    /// Its checks: what they remember begins anew once the old process is gone.
    pub checks: &'a [Check],
    /// What they remember.
    pub states: CheckStates,
    /// Processes that the services are known to have.
    pub taken: BTreeSet<Identity>,
    /// The processes of the machine, for all the restarts of a run.
    pub snapshots: &'a SharedSnapshots,
    /// The file for a command's output.
    pub output: PathBuf,
    /// Whether a run was cut short while it restarted the service: what it began may still be under way.
    pub interrupted: bool,
    /// The lock that keeps other runs from starting the same.
    pub lock: FileId,
}

/// What a restart came to.
#[derive(Clone, Debug)]
pub struct Done {
    /// How it went.
    pub action: Action,
    /// What to remember of the process that runs now.
    pub process: process::LastSeen,
    /// What to remember of the systemd unit, where that is what was restarted.
    pub unit: Option<unit::LastSeen>,
    /// What the checks remember since the old process was gone.
    pub checks: CheckStates,
}

/// Why a restart failed.
struct Failure {
    error: String,
    stderr: Vec<String>,
    /// What to remember of the process that was up for a while: by that, the next attempt knows what it has left behind.
    last_seen: Option<Box<process::LastSeen>>,
}

impl From<String> for Failure {
    fn from(error: String) -> Self {
        Self::from(Fallen::from(error))
    }
}

impl From<Fallen> for Failure {
    fn from(fallen: Fallen) -> Self {
        Self {
            error: fallen.why,
            stderr: Vec::new(),
            last_seen: fallen.last_seen,
        }
    }
}

/// Stops what is left of a service, starts it, and sees that it stays up.
pub fn restart(context: &RestartContext<'_>) -> Done {
    let began = Instant::now();
    let mut states = CheckStates::default();
    let outcome = attempt(context, &mut states);
    let mut done = Done {
        action: Action {
            kind: "restart".to_owned(),
            method: context.method.name().to_owned(),
            ok: outcome.is_ok(),
            old_pid: context.running.as_ref().map(|running| running.main.pid),
            new_pid: None,
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            error: None,
            stderr: Vec::new(),
        },
        process: context.last_seen.clone(),
        unit: None,
        checks: states,
    };
    match outcome {
        Ok(up) => {
            done.action.new_pid = up.running.map(|running| running.main.pid);
            done.process = up.last_seen;
            done.unit = up.unit;
        }
        Err(failure) => {
            ::log::error!(target: REPORTED, "{}: restart failed: {}", context.service, failure.error);
            for line in &failure.stderr {
                ::log::info!("{}: it said: {line}", context.service);
            }
            done.action.error = Some(failure.error);
            done.action.stderr = failure.stderr;
            if let Some(last_seen) = failure.last_seen {
                done.process = *last_seen;
            }
        }
    }
    done
}

fn attempt(context: &RestartContext<'_>, states: &mut CheckStates) -> Result<Up, Failure> {
    let service = context.service;
    let now = Reading::take();
    let leftovers = if now.knows_boot() {
        context
            .last_seen
            .leftovers(&now, context.running.as_ref())
            .map_err(|error| error.to_string())
    } else {
        Err("the id of this boot cannot be read".to_owned())
    };
    let leftovers = leftovers.map_err(|why| {
        format!(
            "what its main process may have left behind cannot be seen: {why}; nothing was started"
        )
    })?;
    if let Some(running) = &context.running {
        ::log::info!("{service}: stopping PID {}", running.main.pid);
    } else if !leftovers.is_empty() {
        let pids: Vec<_> = leftovers.iter().map(|left| left.pid.to_string()).collect();
        ::log::info!(
            "{service}: stopping what its main process left behind: PID {}",
            pids.join(", ")
        );
    }
    match context.method {
        // what a unit leaves behind it leaves on purpose (KillMode); but what its own process table knows to be
        // the service must be gone
        RestartMethod::Systemd(unit) => {
            systemd::stop(service, unit, context.limits)?;
            let running = context
                .running
                .as_ref()
                .filter(|_| context.target.is_known());
            stop::stop(running, &[], named_by(context), context.limits)?;
        }
        RestartMethod::Spawn(_) | RestartMethod::Command(_) => {
            stop::stop(
                context.running.as_ref(),
                &leftovers,
                named_by(context),
                context.limits,
            )?;
        }
    }
    states.extend(states_when_stopped(context));
    if let Some(up) = running_after_all(context)? {
        return Ok(up);
    }
    await_collection(context);
    if !context.lock.holds() {
        // somebody removed the directory: whoever makes it anew has a lock of its own
        return Err(Failure::from(format!(
            "the lock {} was removed meanwhile, and another run may be starting it; nothing was started",
            context.lock.path.display()
        )));
    }
    ::log::info!("{service}: starting by {}", context.method.name());
    let up = match context.method {
        RestartMethod::Spawn(plan) => start_by_spawn(context, plan),
        RestartMethod::Command(plan) => start_by_command(context, plan),
        RestartMethod::Systemd(unit) => start_by_systemd(context, unit),
    }?;
    ::log::info!("{service}: it is up");
    Ok(up)
}

/// What the checks remember from now on. A log on a dead disk or network share keeps nobody from being started.
fn states_when_stopped(context: &RestartContext<'_>) -> CheckStates {
    let work: Vec<_> = context
        .checks
        .iter()
        .map(|check| (check.rule.clone(), context.states.get(&check.id).cloned()))
        .collect();
    let deadline = Instant::now() + MARK_LIMIT;
    let next = Pool::new().side_by_side(work, MARK_LIMIT, deadline, |(rule, state)| {
        rule.when_stopped(state.as_ref())
    });
    let ids = context.checks.iter().map(|check| check.id.clone());
    ids.zip(next)
        .filter_map(|(id, next)| Some((id, next.ok().flatten()?)))
        .collect()
}

/// The PID file on whose word alone the service's process is known. What it named once is remembered when it names
/// nobody any more, and its children when it has ended itself: all of that is the file's word as well.
fn named_by<'a>(context: &'a RestartContext<'_>) -> Option<&'a Path> {
    let now = context
        .running
        .as_ref()
        .and_then(|running| running.named_by.as_deref());
    let then = context
        .last_seen
        .pid_file
        .as_ref()
        .is_some_and(|mark| context.last_seen.main.as_ref() == Some(&mark.named));
    let rule = context.target.rule?;
    let by_file_alone = rule.command_line.is_none() || (context.running.is_none() && then);
    now.or_else(|| rule.pid_file.as_deref().filter(|_| by_file_alone))
}

/// The last look before anything is started: time has passed since the checks, and a second copy is the worst
/// that could be done.
fn running_after_all(context: &RestartContext<'_>) -> Result<Option<Up>, Failure> {
    let now = Reading::take();
    let target = Target {
        has_other_checks: false,
        ..context.target
    };
    // one that is known only by what would be started has been searched for a moment ago; by now, another service
    // of this run may have started the very same command
    let remembered = context
        .last_seen
        .main
        .as_ref()
        .is_some_and(|main| main.boot_id == now.boot_id);
    if !target.is_known() || (target.rule.is_none() && !remembered) {
        return Ok(None);
    }
    let seen = process::look(
        &target,
        &context.last_seen,
        &context.snapshots.ask(),
        &now,
        &context.taken,
    );
    match (seen.process_status, &context.running) {
        (ProcessStatus::NotRunning | ProcessStatus::NotApplicable, _) => Ok(None),
        // it was gone, and somebody else has started it
        (ProcessStatus::Running(running), None) => Ok(Some(Up {
            running: Some(running),
            last_seen: seen.last_seen,
            unit: None,
        })),
        // a unit that something else, its socket say, has started anew: it is still to be seen that it stays up
        (ProcessStatus::Running(running), Some(_)) if matches!(context.method, RestartMethod::Systemd(unit) if systemd::has_main(unit, running.main.pid)) => {
            Ok(None)
        }
        (ProcessStatus::Running(running), Some(_)) => Err(Failure::from(format!(
            "PID {} is already running; no second copy was started",
            running.main.pid
        ))),
        (ProcessStatus::Unknown, _) => Err(Failure::from(
            "whether it still runs could not be seen; nothing was started".to_owned(),
        )),
    }
}

fn awaited<'a>(context: &'a RestartContext<'_>) -> Awaited<'a> {
    Awaited {
        target: &context.target,
        last_seen: &context.last_seen,
        taken: &context.taken,
        snapshots: context.snapshots,
        limits: context.limits,
    }
}

fn start_by_spawn(context: &RestartContext<'_>, plan: &Spawn) -> Result<Up, Failure> {
    let stale = stale_pid_file(context);
    let before = verify::length_of(plan.stderr.as_deref());
    let child = spawn::start(context.service, plan, stale, context.limits.start_timeout)?;
    let mut child = Started::new(child)?;
    awaited(context)
        .come_up(Some(&mut child))
        .map_err(|fallen| {
            let Fallen { why, last_seen } = fallen;
            let abandoned = abandon(&mut child, context.limits);
            let who = environment::account(plan)
                .ok()
                .and_then(|account| account.credentials);
            let stderr = verify::stderr_since(plan.stderr.as_deref(), before, who.as_ref());
            let hint = if plan.stderr.is_none() {
                "; set `stderr` in its spawn table to a file to see what it says"
            } else {
                ""
            };
            Failure {
                error: format!("{why}{abandoned}{hint}"),
                stderr,
                last_seen,
            }
        })
}

/// Logs that a child's niceness stays what it is, where that is not the one that it was to have.
fn tell_niceness_kept(service: &str, nice: i32) {
    if let Some(kept) = sys::niceness_kept(nice) {
        ::log::debug!(
            "{service}: its niceness stays at {kept}: to lower it to {nice} takes CAP_SYS_NICE"
        );
    }
}

/// Ends what was started and has not come up: left alone, the next attempt would start a second one beside it.
fn abandon(child: &mut Started, limits: &Limits) -> String {
    if !matches!(child.try_wait(), Ok(None)) {
        return end_leftovers(child, limits);
    }
    let pid = child.pid();
    let Ok(stat) = crate::process_table::stat(pid) else {
        return String::new();
    };
    let main = Identity {
        pid,
        start: stat.start,
        boot_id: "".into(),
    };
    let running = Running::just_started(main);
    match stop::stop(Some(&running), &[], None, limits) {
        Ok(()) => format!("; what was started (PID {pid}) was stopped again"),
        Err(why) => format!("; what was started could not be stopped again: {why}"),
    }
}

/// Ends what was left behind by what was started, has not come up, and has ended.
fn end_leftovers(child: &Started, limits: &Limits) -> String {
    let ended = child
        .leftovers()
        .map_err(|error| error.to_string())
        .and_then(|left| stop::stop(None, &left, None, limits).map(|()| left.len()));
    match ended {
        Ok(0) => String::new(),
        Ok(1) => "; a process that it had left behind was stopped".to_owned(),
        Ok(count) => format!("; {count} processes that it had left behind were stopped"),
        Err(why) => format!("; what it had left behind could not be stopped: {why}"),
    }
}

fn start_by_systemd(context: &RestartContext<'_>, unit: &Unit) -> Result<Up, Failure> {
    let up =
        systemd::start(unit, context.limits, &context.last_seen).map_err(|trouble| Failure {
            error: trouble.error,
            stderr: trouble.lines,
            last_seen: None,
        })?;
    if !context.target.is_known() {
        return Ok(up);
    }
    // its own process table has the last word; it has settled already
    let limits = Limits {
        settle: Duration::ZERO,
        ..context.limits.clone()
    };
    let awaited = Awaited {
        limits: &limits,
        ..awaited(context)
    };
    Ok(Up {
        unit: up.unit,
        ..awaited.come_up(None)?
    })
}

fn start_by_command(context: &RestartContext<'_>, plan: &Command) -> Result<Up, Failure> {
    if context.interrupted {
        let was_run = outlast_earlier(context, plan)?;
        // what it has started by then is seen now
        if let Some(up) = running_after_all(context)? {
            return Ok(up);
        }
        if was_run {
            return Ok(awaited(context).come_up(None)?);
        }
    }
    if let Some(pid_file) = stale_pid_file(context) {
        remove_stale(pid_file);
    }
    command::run(
        context.service,
        plan,
        &context.output,
        context.limits.start_timeout,
    )
    .map_err(|(error, stderr)| Failure {
        error,
        stderr,
        last_seen: None,
    })?;
    Ok(awaited(context).come_up(None)?)
}

/// Waits for the end of a command that a run before began and did not live to see the end of: two of them side by
/// side might start two programs. Returns whether there was one.
fn outlast_earlier(context: &RestartContext<'_>, plan: &Command) -> Result<bool, String> {
    let command = process::Started {
        command: &plan.command,
        working_dir: &plan.working_dir,
        user: None,
    };
    let deadline = Instant::now() + context.limits.start_timeout;
    let mut found = false;
    // one that hands over to a child during a look is missed by it: only two in a row tell
    let mut misses = 0;
    while misses < 2 {
        let Some(pid) = process::is_being_run(command, &Reading::take())? else {
            misses += 1;
            std::thread::sleep(OUTLAST_POLL);
            continue;
        };
        misses = 0;
        if Instant::now() >= deadline {
            return Err(format!(
                "its restart command still runs (PID {pid}) since a run that was cut short; it was not run beside it"
            ));
        }
        if !found {
            ::log::info!(
                "{}: its restart command runs already (PID {pid}), since a run that was cut short: waiting for it",
                context.service
            );
        }
        found = true;
        std::thread::sleep(OUTLAST_POLL);
    }
    Ok(found)
}

/// The PID file to remove before a start. One that holds more than a PID is the program's own book-keeping: by
/// its further lines PostgreSQL finds out whether children of the old server still use the data.
fn stale_pid_file<'a>(context: &RestartContext<'a>) -> Option<&'a Path> {
    let path = context.target.rule?.pid_file.as_deref()?;
    process::holds_only_a_pid(path).then_some(path)
}

/// Where the program keeps its own PID file, it asks the kernel whether the process in it still is, and takes a
/// zombie for one. So the parent, init mostly, is given a moment to collect it.
fn await_collection(context: &RestartContext<'_>) {
    let Some(main) = &context.last_seen.main else {
        return;
    };
    let kept = context
        .target
        .rule
        .and_then(|rule| rule.pid_file.as_deref())
        .is_some_and(|path| path.exists() && stale_pid_file(context).is_none());
    let deadline = Instant::now() + COLLECTION_WAIT;
    let is_zombie = || {
        crate::process_table::stat(main.pid)
            .is_ok_and(|stat| stat.start == main.start && stat.state == ProcessState::Zombie)
    };
    while kept && is_zombie() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Removes the PID file of a process that has ended, for commands that take one for a running program. Root
/// does so only where nobody else could have put a link in the way.
fn remove_stale(pid_file: &Path) {
    if !nix::unistd::geteuid().is_root() || files::writers(pid_file, 0, Extent::Whole).are_none() {
        let _ = std::fs::remove_file(pid_file);
    }
}
