//! Restarting a systemd unit.
//!
//! Stop and start are asked for one after the other, and not by `systemctl restart`: what ignores the stop can be
//! killed in between, and the ends of its logs be marked. All calls have a limit, and jobs are only queued and then
//! watched: a client that waits for a job of systemd's waits as long as the unit file says.

use std::time::{Duration, Instant, SystemTime};

use super::leftovers::named_by;
use super::verify::{Awaited, STDERR_LINES};
use super::{Failure, Limits, Method, MethodName, RestartContext, Up, stop, traps};
use crate::check::process::{self, Identity};
use crate::check::unit::{self, Active, Status, Unit};
use crate::child;
use crate::clock::{self, Reading};
use crate::systemctl::{call, complaint, succeeded, systemctl};

/// What one call of systemctl may take: it asks for something and does not wait until it is done.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// What a unit may take to be gone after KILL, its `ExecStopPost` included.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// How often what still lives of it is killed again meanwhile: commands of its unit file may come up one by one.
const KILL_AGAIN: Duration = Duration::from_millis(500);
/// How often a unit is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(100);

/// A start that was asked for.
pub(super) struct Begun {
    at: SystemTime,
    deadline: Instant,
    /// The id of the run of the unit before.
    before: String,
}

impl Method for Unit {
    const NAME: MethodName = MethodName::Systemd;
    const PLACE: &'static str = "systemd";
    const STARTS_CHILD: bool = false;
    type Begun = Begun;

    /// What a unit leaves behind it leaves on purpose (KillMode); but what the service's own process table knows to be
    /// the service must be gone.
    fn stop(&self, context: &RestartContext<'_>, _: &[Identity]) -> Result<(), Failure> {
        stop(context.service, self, context.limits)?;
        let running = context.running.as_ref();
        let running = running.filter(|_| context.target.is_known());
        Ok(stop::stop(
            &[],
            running,
            &[],
            named_by(context),
            context.limits,
        )?)
    }

    /// One that something else, its socket say, has started anew: it is still to be seen that it stays up.
    fn has_main(&self, pid: i32) -> bool {
        look(self).is_ok_and(|status| status.main_pid == Some(pid))
    }

    fn start(&self, context: &RestartContext<'_>) -> Result<Begun, Failure> {
        let at = SystemTime::now();
        match start(self, context.limits) {
            Ok((deadline, before)) => Ok(Begun {
                at,
                deadline,
                before,
            }),
            Err(error) => Err(with_journal(error, self, at)),
        }
    }

    fn verify(&self, context: &RestartContext<'_>, begun: &mut Begun) -> Result<Up, Failure> {
        let status = come_up(self, context.limits, begun.deadline, &begun.before)
            .map_err(|error| with_journal(error, self, begun.at))?;
        let up = up(&status, &context.last_seen);
        if !context.target.is_known() {
            return Ok(up);
        }
        // the service's own process table has the last word; it has settled already
        let limits = Limits {
            settle: Duration::ZERO,
            ..context.limits.clone()
        };
        let seen = Awaited::with(context, &limits).come_up(None)?;
        Ok(Up {
            unit: up.unit,
            ..seen
        })
    }

    fn ended(&self, _: &RestartContext<'_>, begun: &mut Begun) -> Failure {
        with_journal("ended".to_owned(), self, begun.at)
    }

    fn claim(&self) -> Option<traps::Claim> {
        Some(traps::Claim {
            key: "systemd.unit",
            what: "unit",
            value: self.unit.clone(),
        })
    }
}

fn with_journal(error: String, unit: &Unit, since: SystemTime) -> Failure {
    Failure {
        stderr: journal(unit, since),
        ..Failure::from(error)
    }
}

/// Stops a unit: asks systemd to, and kills what is left of it after `stop_timeout`. One that has been started anew
/// meanwhile, by its socket say, has been stopped.
///
/// The error is a sentence that says what still lives; nothing may be started then.
fn stop(service: &str, unit: &Unit, limits: &Limits) -> Result<(), String> {
    let before = look(unit)?.invocation;
    order(unit, &["stop", "--no-block"])?;
    // systemd thaws what it signals, but first it runs the stop command of the unit file, which may talk to the
    // program: a frozen one would not answer
    if let Err(why) = order(unit, &["kill", "--signal=CONT"]) {
        ::log::debug!("{service}: {why}");
    }
    let Some(still) = wait_stopped(unit, &before, limits.stop_timeout, || {})? else {
        return Ok(());
    };
    ::log::warn!(
        "{service}: {} did not stop within {}, it is {}: killing it",
        unit.unit,
        clock::rough(limits.stop_timeout),
        still.shown()
    );
    let mut killed_at: Option<Instant> = None;
    let left = wait_stopped(unit, &before, KILL_WAIT, || {
        if killed_at.is_none_or(|at| at.elapsed() >= KILL_AGAIN) {
            killed_at = Some(Instant::now());
            // it may have ended by itself just now
            if let Err(why) = order(unit, &["kill", "--signal=KILL"]) {
                ::log::debug!("{service}: {why}");
            }
        }
    })?;
    match left {
        None => Ok(()),
        Some(still) => Err(format!(
            "{} is still {} after KILL; nothing was started",
            unit.unit,
            still.shown()
        )),
    }
}

/// Waits until the run `invocation` of a unit has ended, and nothing is queued for it. Gives back how it is where that
/// takes longer than `limit`.
fn wait_stopped(
    unit: &Unit,
    invocation: &str,
    limit: Duration,
    mut meanwhile: impl FnMut(),
) -> Result<Option<Status>, String> {
    let deadline = Instant::now() + limit;
    loop {
        meanwhile();
        let status = look(unit)?;
        let stopped = matches!(status.active, Active::Inactive | Active::Failed);
        let anew = !invocation.is_empty() && status.invocation != invocation;
        if (stopped && !status.has_job) || anew {
            return Ok(None);
        }
        if Instant::now() >= deadline {
            return Ok(Some(status));
        }
        std::thread::sleep(POLL);
    }
}

/// Starts a unit that does not run. Gives back when `start_timeout` is over, and the id of its run before.
fn start(unit: &Unit, limits: &Limits) -> Result<(Instant, String), String> {
    let deadline = Instant::now() + limits.start_timeout;
    // forgets an earlier failure, and how often it was started: systemd's own limit is not meant for us
    if let Err(why) = order(unit, &["reset-failed"]) {
        ::log::debug!("{why}");
    }
    let before = look(unit)?;
    order(unit, &["start", "--no-block"])?;
    Ok((deadline, before.invocation))
}

/// What is up where systemd says this of a unit.
fn up(status: &Status, last_seen: &process::LastSeen) -> Up {
    let now = Reading::take();
    let main = status
        .main_pid
        .and_then(|pid| process::look_at(pid, last_seen, &now));
    let unit = status.last_seen(&now);
    match main {
        Some(seen) => Up {
            running: match seen.process_status {
                process::ProcessStatus::Running(running) => Some(running),
                _ => None,
            },
            last_seen: seen.last_seen,
            unit,
            container: None,
            by_itself: false,
            pending: None,
        },
        None => Up {
            running: None,
            last_seen: last_seen.clone(),
            unit,
            container: None,
            by_itself: false,
            pending: None,
        },
    }
}

/// Waits until a unit is active, and then for `settle` longer. One that may rightly be inactive may also have ended well
/// by then; `before` is the id of its run before the start. The error says why it does not count as up.
fn come_up(
    unit: &Unit,
    limits: &Limits,
    deadline: Instant,
    before: &str,
) -> Result<Status, String> {
    let mut up: Option<(Instant, Status)> = None;
    loop {
        let status = look(unit)?;
        let name = &unit.unit;
        // systemd may have unloaded one that has ended, and its id with it
        let has_run = status.invocation.is_empty() || status.invocation != before;
        if status.is_done() && !status.has_job && status.conditions_hold && has_run {
            return Ok(status);
        }
        if let Some((since, first)) = &up {
            let same = status.invocation == first.invocation && status.main_pid == first.main_pid;
            if status.active != Active::Active || !same {
                return Err(format!(
                    "{name} came up, but not for {}: {}",
                    clock::rough(limits.settle),
                    standing(&status)
                ));
            }
            if since.elapsed() >= limits.settle {
                return Ok(status);
            }
        } else {
            match status.active {
                Active::Active if limits.settle.is_zero() => return Ok(status),
                Active::Active => {
                    up = Some((Instant::now(), status));
                    continue;
                }
                // systemd has given up, so there is nothing to wait for
                Active::Failed | Active::Inactive if !status.has_job => {
                    return Err(format!("{name} did not come up: {}", standing(&status)));
                }
                _ => {}
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "{name} did not come up within {}: {}",
                    clock::rough(limits.start_timeout),
                    standing(&status)
                ));
            }
        }
        std::thread::sleep(POLL);
    }
}

fn standing(status: &Status) -> String {
    let mut text = format!("it is {}", status.shown());
    if let Some(how) = status.ending() {
        text.push_str(", ");
        text.push_str(&how);
    } else if !status.conditions_hold {
        text.push_str(", a condition in its unit file does not hold");
    } else if status.active == Active::Inactive && status.load == "loaded" {
        text.push_str(", it has ended after its start, and without an error");
    }
    if status.load != "loaded" {
        text.push_str(", ");
        text.push_str(&status.load);
    }
    text
}

fn look(unit: &Unit) -> Result<Status, String> {
    let mut known = unit::ask(unit.manager, std::slice::from_ref(&unit.unit), CALL_LIMIT)
        .map_err(|why| format!("systemd could not be asked for {}: {why}", unit.unit))?;
    known
        .remove(&unit.unit)
        .ok_or_else(|| unit::nothing_said(&unit.unit))
}

/// Asks systemd to do something to a unit. The error is a sentence with what systemctl said.
fn order(unit: &Unit, args: &[&str]) -> Result<(), String> {
    let ended = systemctl(
        unit.manager,
        &[args, &["--", &unit.unit]].concat(),
        CALL_LIMIT,
    )?;
    if succeeded(&ended) {
        return Ok(());
    }
    Err(format!(
        "systemctl {} {} failed: {}",
        args[0],
        unit.unit,
        complaint(&ended, CALL_LIMIT)
    ))
}

/// The last lines that the journal has of a unit since its start.
fn journal(unit: &Unit, began: SystemTime) -> Vec<String> {
    let since = began
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let which = match unit.manager {
        unit::Manager::System => format!("--unit={}", unit.unit),
        unit::Manager::User => format!("--user-unit={}", unit.unit),
    };
    let lines = STDERR_LINES.to_string();
    let args = [
        "--no-pager",
        "--quiet",
        "--output=cat",
        "--lines",
        &lines,
        &which,
        &format!("--since=@{since}"),
    ];
    // the user's own journal may be kept in the system's: asking without --user finds it in both
    match call(unit::Manager::System, "journalctl", &args, CALL_LIMIT) {
        Ok(ended) if succeeded(&ended) => child::last_lines(&ended.stdout, STDERR_LINES),
        _ => Vec::new(),
    }
}
