//! What is left of a service: by its former main process, by a start that failed, and its PID file.

use std::path::Path;
use std::time::{Duration, Instant};

use super::started::StartedChild;
use super::{Limits, RestartContext, stop};
use crate::check::process::{self, Identity, Running};
use crate::clock::Reading;
use crate::files::{self, Extent};
use crate::process_table::{self, ProcessState};

/// How long the parent of a process that has ended is given to collect it. Init takes milliseconds, in some
/// containers and small virtual machines seconds.
const COLLECTION_WAIT: Duration = Duration::from_secs(5);

/// The processes that a main process has left behind. The error is why they cannot be seen.
pub(super) fn left_behind(context: &RestartContext<'_>) -> Result<Vec<Identity>, String> {
    let now = Reading::take();
    if !now.knows_boot() {
        return Err("the id of this boot cannot be read".to_owned());
    }
    let left = context.last_seen.leftovers(&now, context.running.as_ref());
    left.map_err(|error| error.to_string())
}

/// Stops what runs of a service and what its former main process has left behind.
pub(super) fn stop_all(context: &RestartContext<'_>, leftovers: &[Identity]) -> Result<(), String> {
    let running = context.running.as_ref();
    stop::stop(&[], running, leftovers, named_by(context), context.limits)
}

/// The same, with what runs the command of `spawn` and all below it: left alone, it would start the service a second time.
pub(super) fn stop_all_with_wrapper(
    context: &RestartContext<'_>,
    leftovers: &[Identity],
) -> Result<(), String> {
    let (running, now) = (context.running.as_ref(), Reading::take());
    let own = process::wrapper_and_below(&context.target, &context.last_seen, running, &now)
        .map_err(|error| format!("what had started it cannot be seen: {error}"))?;
    if let Some(wrapper) = own.first()
        && running.is_none_or(|running| running.main != *wrapper)
    {
        ::log::info!(
            "{}: stopping PID {}, which had started it",
            context.service,
            wrapper.pid
        );
    }
    stop::stop(&own, running, leftovers, named_by(context), context.limits)
}

/// The PID file on whose word alone the service's process is known. What it named once is remembered when it names
/// nobody any more, and its children when it has ended itself: all of that is the file's word as well.
pub(super) fn named_by<'a>(context: &'a RestartContext<'_>) -> Option<&'a Path> {
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

/// Ends what was started and must not go on: left alone, it would be a second copy beside what is started next. Gives
/// back what to say of it, as the end of a sentence; the error is why it still runs.
pub(super) fn abandon(child: &mut StartedChild, limits: &Limits) -> Result<Option<String>, String> {
    if !matches!(child.try_wait(), Ok(None)) {
        return end_leftovers(child, limits);
    }
    let pid = child.pid();
    let Ok(stat) = process_table::stat(pid) else {
        return Ok(None);
    };
    let main = Identity {
        pid,
        start: stat.start,
        boot_id: "".into(),
    };
    let running = Running::just_started(main);
    stop::stop(&[], Some(&running), &[], None, limits)
        .map_err(|why| format!("; what was started could not be stopped again: {why}"))?;
    Ok(Some(format!(
        "; what was started (PID {pid}) was stopped again"
    )))
}

/// Ends what was left behind by what was started, has not come up, and has ended.
fn end_leftovers(child: &StartedChild, limits: &Limits) -> Result<Option<String>, String> {
    let ended = child
        .leftovers()
        .map_err(|error| error.to_string())
        .and_then(|left| stop::stop(&[], None, &left, None, limits).map(|()| left.len()));
    match ended {
        Ok(0) => Ok(None),
        Ok(1) => Ok(Some(
            "; a process that it had left behind was stopped".to_owned(),
        )),
        Ok(count) => Ok(Some(format!(
            "; {count} processes that it had left behind were stopped"
        ))),
        Err(why) => Err(format!(
            "; what it had left behind could not be stopped: {why}"
        )),
    }
}

/// The PID file to remove before a start.
pub(super) fn stale_pid_file<'a>(context: &RestartContext<'a>) -> Option<&'a Path> {
    let path = context.target.rule?.pid_file.as_deref()?;
    process::is_stale(path, context.last_seen.pid_file.as_ref()).then_some(path)
}

/// Where the program keeps its own PID file, it asks the kernel whether the process in it still is, and takes a
/// zombie for one. So the parent, init mostly, is given a moment to collect it.
pub(super) fn await_collection(context: &RestartContext<'_>) {
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
        process_table::stat(main.pid)
            .is_ok_and(|stat| stat.start == main.start && stat.state == ProcessState::Zombie)
    };
    while kept && is_zombie() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Removes the PID file of a process that has ended, for commands that take one for a running program. Root
/// does so only where nobody else could have put a link in the way.
pub(super) fn remove_stale(pid_file: &Path) {
    if !nix::unistd::geteuid().is_root() || files::writers(pid_file, 0, Extent::Whole).are_none() {
        let _ = std::fs::remove_file(pid_file);
    }
}
