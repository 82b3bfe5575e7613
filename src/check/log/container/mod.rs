//! What a container writes to standard output and error, as its engine has it: judged by the same rules as the lines of
//! a file.
//!
//! The engine stamps each line when it gets it. By these times, and by its order, it is known which lines were judged,
//! whatever was restarted or rotated in between; another container of the same name begins anew. When the present run of
//! the container began is known as well, so of each line it is known whether that run wrote it.

use std::time::{Duration, Instant};

use super::position::{LogPosition, OutputPosition};
use super::{Context, Rule, SHOWN, Seen, Severity, finding};
use crate::check::container::Described;
use crate::client::engine::{Lines, Since, Trouble};

mod judge;
mod new;
mod read;
mod traps;

pub(super) use traps::traps;

use judge::{Judgement, Run};
use read::{LIMIT, Output};

/// The log driver of Docker that keeps nothing.
const NO_DRIVER: &str = "none";

/// Looks at the output of a container within `limit`. Of one that the engine has not described nothing is said here: the
/// finding is that.
pub(super) fn look(
    rule: &Rule,
    described: Option<&Described>,
    position: Option<&LogPosition>,
    context: Context<'_>,
    limit: Duration,
) -> Seen {
    let Some(described) = described else {
        return Seen::default();
    };
    let id = &described.details.id;
    let known = position.and_then(|position| position.container.clone());
    // all that another container has written is new
    let known = known.map(|known| {
        if known.id == *id {
            return known;
        }
        OutputPosition {
            id: id.clone(),
            ..OutputPosition::default()
        }
    });
    let name = rule.title();
    let nothing_seen = |why: &str| Seen {
        findings: vec![finding(
            rule,
            "log_unreadable",
            Severity::Unknown,
            &name,
            why,
        )],
        ..Seen::default()
    };
    let wanted = if rule.expect.is_empty() && rule.stamp.is_none() {
        SHOWN
    } else {
        rule.lines.max(SHOWN)
    };
    let wanted = wanted.max(if known.is_none() { rule.lines } else { 0 });
    let known_before = known.as_ref().filter(|_| !rule.forbid.is_empty());
    let output = match (read(described, wanted, known_before, limit), rule.fault()) {
        (Err(why), _) => return nothing_seen(&why),
        // the former position stands, so that its lines are judged by a run that can
        (Ok(_), Some(fault)) => return nothing_seen(&fault),
        (Ok(output), None) => output,
    };
    let judgement = Judgement {
        rule,
        name: &name,
        context,
        run: Run::of(&described.details.state),
        id,
    };
    judgement.judge(&output, known.as_ref(), position)
}

/// When a restart has stopped what ran, what it wrote is done with. Which lines that are, the time of the next start says.
pub(super) fn at_end(position: Option<&LogPosition>) -> LogPosition {
    LogPosition {
        restarted: true,
        ..position.cloned().unwrap_or_default()
    }
}

/// Reads the last lines: as many as are wanted, and back to what was judged. The error is a sentence.
fn read(
    described: &Described,
    wanted: usize,
    known: Option<&OutputPosition>,
    limit: Duration,
) -> Result<Output, String> {
    let details = &described.details;
    if details.host_config.log_config.kind == NO_DRIVER {
        return Err(format!(
            "its log driver is `{NO_DRIVER}`, so nothing of it is kept; make the container with json-file, local or journald"
        ));
    }
    let ends = Instant::now() + limit;
    let ask = |lines| -> Result<Lines, String> {
        let timeout = (described.timeout).min(ends.saturating_duration_since(Instant::now()));
        let (id, tty) = (&details.id, details.config.tty);
        let engine = &described.engine;
        let answer = engine.logs(id, Since::Last(lines), tty, LIMIT, timeout, ends);
        answer.map_err(|trouble| match trouble {
            Trouble::Refused { status: 501, why } => format!(
                "the engine cannot read it: {why} (log driver `{}`); make the container with json-file, local or journald",
                details.host_config.log_config.kind
            ),
            Trouble::NotFound(_) => "the container was removed just now".to_owned(),
            other => other.to_string(),
        })
    };
    read::read(wanted, |lines| new::is_enough(lines, known), ask)
}
