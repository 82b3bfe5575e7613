//! What an engine's answer means. Nothing here asks anything.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::recreated::{being_recreated, is_in_use, runs_in_its_place};
use super::{
    Answer, CREATED, DEAD, ENGINE_UNREACHABLE, EXITED, LEFTOVER, LastSeen, MANAGED, MISSING,
    PAUSED, PAUSED_STATE, RESTARTED, RESTARTING, Rule, Seen, UNHEALTHY, UNREADABLE, managed_by,
    select,
};
use crate::check::{Finding, Presence, Severity};
use crate::client::engine::{Details, Listed, Trouble};
use crate::clock::{age, rough};
use crate::text::{cut, visible};

/// Restarts by the engine since the last run that are no accident any more.
const CRASH_LOOP: u64 = 3;

/// What is remembered as the state of a container that the list has, and that is not there.
pub const REMOVED: &str = "removed";

/// Of what somebody else wrote, so much is shown.
const SHOWN: usize = 200;

/// The engine did not answer. `last_seen` stands.
pub fn unreachable(why: &str) -> Seen {
    let mut seen = Seen::default();
    seen.found(ENGINE_UNREACHABLE, Severity::Unknown, why);
    seen
}

/// Another service is the same container. Nothing is known of it for this one, so that it is not restarted twice.
pub fn claimed(rule: &Rule, service: &str) -> Seen {
    let mut seen = Seen::default();
    let message = format!(
        "the {rule} is that of service `{service}`, too: take one of the two services out of the config"
    );
    seen.found(UNREADABLE, Severity::Unknown, message);
    seen
}

/// Judges what an engine said of a service's container. `is_ours` says whether a process is surely a container's.
pub fn judge(
    rule: &Rule,
    answer: &Answer,
    last_seen: Option<&LastSeen>,
    now: DateTime<Utc>,
    start_grace: Duration,
    is_ours: impl Fn(i32, &str) -> bool,
) -> Seen {
    let mut seen = Seen::default();
    let selected = select(rule, &answer.listed);
    let details = |id: &str| answer.details(id)?.as_ref().ok();
    let is_in_use = |beside: &&&Listed| is_in_use(beside, &selected, details, now);
    let remaking = selected.beside.iter().find(is_in_use);
    for left in selected.beside.iter().filter(|it| !is_in_use(it)) {
        let message = format!(
            "{} was left behind by a re-creation that failed; look at it, and `docker rm {}`",
            left.name(),
            left.name()
        );
        seen.found(LEFTOVER, Severity::Warning, message);
    }
    let mut is_left = selected.beside.iter().filter(|it| !is_in_use(it));
    let runs_beside = is_left.find(|left| left.state == "running");
    if let ([], Some(id)) = (&selected.found[..], unnamed(rule, answer)) {
        let message = format!(
            "the engine's list has a container without a name (ID {id}), which may be the {rule}; does `docker ps -a` show one"
        );
        seen.found(UNREADABLE, Severity::Unknown, message);
    } else if selected.found.is_empty() {
        seen.presence = Presence::Down;
        if remaking.is_none() {
            let message = format!(
                "there is no {rule}; it is made by `docker compose up` or `docker run`, not here"
            );
            seen.found(MISSING, Severity::Critical, message);
            seen.left_alone = Some(format!(
                "there is no {rule}, and the engine starts nothing that is not there"
            ));
        }
    } else {
        let times = (now, start_grace);
        let found = &selected.found;
        judge_found(&mut seen, rule, answer, found, last_seen, times, is_ours);
    }
    if let Some(beside) = runs_beside.filter(|_| seen.presence == Presence::Down) {
        seen.left_alone = Some(runs_in_its_place(rule, beside));
        seen.is_not_to_be_touched = true;
    }
    if let Some(beside) = remaking {
        let why = being_recreated(rule, beside);
        let is_critical = |finding: &Finding| finding.severity == Severity::Critical;
        if !seen.findings.iter().any(is_critical) {
            seen.activating.get_or_insert_with(|| why.clone());
        }
        seen.recreating = Some(why);
    }
    seen
}

/// Judges the one that was found for a rule.
fn judge_found(
    seen: &mut Seen,
    rule: &Rule,
    answer: &Answer,
    found: &[&Listed],
    last_seen: Option<&LastSeen>,
    (now, start_grace): (DateTime<Utc>, Duration),
    is_ours: impl Fn(i32, &str) -> bool,
) {
    let container = match found {
        [container] => *container,
        several => {
            let names: Vec<&str> = several.iter().map(|it| it.name()).collect();
            let message = format!(
                "there are {} containers where one is meant ({}); give each a service, by its `name`",
                names.len(),
                names.join(", ")
            );
            seen.found(UNREADABLE, Severity::Unknown, message);
            return;
        }
    };
    if let Some(who) = managed_by(&container.labels) {
        let message = format!("{} belongs to {who}", container.name());
        seen.found(MANAGED, Severity::Unknown, message);
        return;
    }
    if let (Some(unchanged), Some(known)) = (answer.unchanged(&container.id), last_seen) {
        seen.presence = Presence::Up(Some(unchanged.pid));
        seen.last_seen = Some(Arc::new(known.clone()));
        return;
    }
    let details = match answer.details(&container.id) {
        Some(Ok(details)) => details,
        Some(Err(Trouble::NotFound(_))) => {
            judge_removed(seen, container, last_seen);
            return;
        }
        Some(Err(trouble)) => {
            let message = format!("{}: {trouble}", container.name());
            seen.found(UNREADABLE, Severity::Unknown, message);
            return;
        }
        None => {
            let message = format!("{}: its details did not come", container.name());
            seen.found(UNREADABLE, Severity::Unknown, message);
            return;
        }
    };
    let known = last_seen.filter(|known| known.id == details.id);
    seen.last_seen = Some(Arc::new(remembered(container, details)));
    judge_state(seen, rule, container, details, known, now, start_grace);
    if seen.presence == Presence::Up(None) && is_ours(details.state.pid, &details.id) {
        seen.presence = Presence::Up(Some(details.state.pid));
    }
    judge_restarts(seen, container.name(), details, known);
}

/// The id of a container that the list has no name of, where it may be the one that is looked for by its name. An engine
/// forgets the name of one that it removes, or could not remove.
fn unnamed(rule: &Rule, answer: &Answer) -> Option<String> {
    rule.name.as_ref()?;
    let is_unnamed =
        |it: &&Listed| it.name().is_empty() && !matches!(it.state.as_str(), "removing" | "dead");
    let found = answer.listed.iter().find(is_unnamed)?;
    Some(visible(&found.id).chars().take(12).collect())
}

/// The list has it, and there are no details of it: it was removed after the list was made. That cannot be so twice.
fn judge_removed(seen: &mut Seen, container: &Listed, last_seen: Option<&LastSeen>) {
    let known = last_seen.filter(|known| known.id == container.id);
    if known.is_some_and(|known| known.state == REMOVED) {
        let message = format!(
            "{}: the engine lists it, and says when it is asked for details that there is none (404), in two runs in a row; is a proxy before its socket",
            container.name()
        );
        seen.found(UNREADABLE, Severity::Unknown, message);
        return;
    }
    seen.activating = Some(format!("{} was removed just now", container.name()));
    seen.presence = Presence::Down;
    let before = known.cloned().unwrap_or_else(|| LastSeen {
        id: container.id.clone(),
        ..LastSeen::default()
    });
    seen.last_seen = Some(Arc::new(LastSeen {
        name: container.name().to_owned(),
        image: container.image.clone(),
        state: REMOVED.to_owned(),
        ..before
    }));
}

fn remembered(container: &Listed, details: &Details) -> LastSeen {
    let state = &details.state;
    LastSeen {
        name: container.name().to_owned(),
        id: details.id.clone(),
        image: container.image.clone(),
        state: state.status.clone(),
        health: state.health.as_ref().map(|health| health.status.clone()),
        restart_count: details.restart_count,
        started_at: state.started_at,
        pid_namespace: None,
    }
}

fn judge_state(
    seen: &mut Seen,
    rule: &Rule,
    container: &Listed,
    details: &Details,
    known: Option<&LastSeen>,
    now: DateTime<Utc>,
    start_grace: Duration,
) {
    let name = container.name();
    let state = &details.state;
    match state.status.as_str() {
        "running" => {
            seen.presence = Presence::Up(None);
            judge_health(seen, name, details);
        }
        PAUSED_STATE => {
            seen.presence = Presence::Up(None);
            let message = format!("{name} is paused: somebody did that; `docker unpause {name}`");
            seen.left_alone = Some(format!("{name} is paused, so it is left alone"));
            seen.is_not_to_be_touched = true;
            seen.found(PAUSED, Severity::Warning, message);
        }
        "restarting" => {
            seen.presence = Presence::Down;
            let ending = ending(details, now);
            if known.is_some_and(|known| known.state == "restarting") {
                let message =
                    format!("{name} {ending}, and the engine restarts it again and again");
                seen.found(RESTARTING, Severity::Critical, message);
            } else {
                let why = format!("{name} {ending}, and the engine is restarting it");
                seen.activating = Some(why);
            }
        }
        "removing" | "stopping" => {
            seen.presence = Presence::Down;
            let why = format!("{name} is being stopped or removed ({})", state.status);
            seen.activating = Some(why);
        }
        "created" => {
            seen.presence = Presence::Down;
            let made = DateTime::from_timestamp(container.created, 0).unwrap_or(now);
            let passed = age(now, made);
            // of what could not be started the engine knows why
            let why = match &*state.error {
                "" => String::new(),
                error => format!(": {}", cut(&visible(error), SHOWN)),
            };
            // Compose makes all containers of a project before it starts the first one
            let is_of_compose = select::compose(&container.labels).is_some();
            let is_seen_again = known.is_some_and(|known| known.state == "created");
            if passed < start_grace || is_of_compose && !is_seen_again {
                seen.activating = Some(format!("{name} was made, and is not started yet{why}"));
            } else {
                let message = format!(
                    "{name} was made {} ago, and never started{why}",
                    rough(passed)
                );
                seen.found(CREATED, Severity::Critical, message);
            }
        }
        "exited" => {
            seen.presence = Presence::Down;
            let message = format!("{name} {}", ending(details, now));
            let is_meant =
                u8::try_from(state.exit_code).is_ok_and(|code| rule.exit_ok.contains(&code));
            if is_meant {
                seen.notes
                    .push(format!("{message}, which is well (exit_ok)"));
            } else {
                seen.found(EXITED, Severity::Critical, message);
            }
        }
        "dead" => {
            seen.presence = Presence::Down;
            let message = format!("{name} is dead: the engine could not remove it");
            seen.found(DEAD, Severity::Critical, message);
        }
        other => {
            let message = format!(
                "{name} is `{}`, a state that is not known here",
                visible(other)
            );
            seen.found(UNREADABLE, Severity::Unknown, message);
        }
    }
}

/// A paused or ended container keeps its last result, and one whose check has not failed in a row is not unhealthy.
fn judge_health(seen: &mut Seen, name: &str, details: &Details) {
    let Some(health) = &details.state.health else {
        return;
    };
    match health.status.as_str() {
        "unhealthy" if health.failing_streak > 0 => {
            let said = health.log.last().map(|last| last.output.trim());
            let said = match said.filter(|said| !said.is_empty()) {
                Some(said) => format!(": `{}`", cut(&visible(said), SHOWN)),
                None => String::new(),
            };
            let message = format!(
                "{name} is unhealthy: its HEALTHCHECK has failed {} times in a row{said}",
                health.failing_streak
            );
            seen.found(UNHEALTHY, Severity::Critical, message);
        }
        "starting" => {
            seen.activating = Some(format!("the HEALTHCHECK of {name} has not passed yet"));
        }
        _ => {}
    }
}

/// What the engine did by itself since the last run.
fn judge_restarts(seen: &mut Seen, name: &str, details: &Details, known: Option<&LastSeen>) {
    let before = known.map_or(details.restart_count, |known| known.restart_count);
    let grown = details.restart_count.saturating_sub(before);
    if grown == 0 {
        return;
    }
    let times = if grown == 1 {
        "once".to_owned()
    } else {
        format!("{grown} times")
    };
    let message = format!("the engine has restarted {name} {times} since the last run");
    if grown >= CRASH_LOOP {
        seen.found(RESTARTING, Severity::Critical, message);
    } else {
        seen.found(RESTARTED, Severity::Warning, message);
    }
}

/// `exited with code 137 (memory ran out) 2m ago`.
fn ending(details: &Details, now: DateTime<Utc>) -> String {
    let state = &details.state;
    let mut said = format!("exited with code {}", state.exit_code);
    if state.oom_killed {
        said.push_str(" (memory ran out)");
    }
    if let Some(at) = state.finished_at {
        let _ = write!(said, " {} ago", rough(age(now, at)));
    }
    if !state.error.is_empty() {
        let _ = write!(said, ": {}", cut(&visible(&state.error), SHOWN));
    }
    said
}
