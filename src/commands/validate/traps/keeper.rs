//! Programs that something else keeps running: a restart by `spawn` would make a second copy beside that.

use std::fs;

use super::SYSTEMCTL_LIMIT;
use crate::check::process::{ProcessStatus, Seen};
use crate::check::trap::Trap;
use crate::check::unit;
use crate::commands::adopt::parent;
use crate::config::Service;
use crate::process_table::ProcessTable;
use crate::restart::scope;
use crate::state::store::Store;

/// What keeps the process that runs now of a service which the watchdog starts itself.
pub(super) fn look(
    service: &Service,
    seen: &Seen,
    table: &ProcessTable,
    store: &Store,
) -> Option<Trap> {
    service.method.as_ref()?.started()?;
    let ProcessStatus::Running(running) = &seen.process_status else {
        return None;
    };
    let pid = running.main.pid;
    if let Some(unit) = unit_of(pid) {
        return Some(Trap::of_service(
            "spawn",
            format!(
                "PID {pid} is the main process of {unit}, which systemd starts: a restart by `spawn` makes a second copy \
                 beside that"
            ),
            format!("write systemd = {{ unit = \"{unit}\" }} in place of `spawn`"),
        ));
    }
    let (keeper, name) = parent::keeper_of(pid, table)?;
    // a restart stops what runs the command of `spawn` as well
    if running.all.iter().any(|process| process.pid == keeper) {
        return None;
    }
    // a run that has just started it, which may have any name
    if table.is_this_program(keeper) || store.is_locked_by(keeper) {
        return None;
    }
    Some(Trap::of_service(
        "spawn",
        format!(
            "PID {pid} is started again by its parent, PID {keeper} ({name}): a restart by `spawn` may make a second copy \
             beside that"
        ),
        "let the service be the parent, or restart it by the parent's own command: \
         restart = { command = [\"supervisorctl\", \"restart\", \"…\"] }",
    ))
}

/// The unit whose main process this is. What cron or a login has started is in a unit of theirs, and not kept by it.
fn unit_of(pid: i32) -> Option<String> {
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let place = scope::place(&cgroup).filter(scope::Place::is_service)?;
    let names = [place.unit];
    let known = unit::ask(place.manager, &names, SYSTEMCTL_LIMIT).ok()?;
    let [name] = names;
    let status = known.get(&name)?;
    (status.main_pid == Some(pid)).then_some(name)
}
