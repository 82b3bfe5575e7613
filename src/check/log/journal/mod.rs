//! The messages of a unit, as the journal of systemd has them: judged by the same rules as the lines of a file.
//!
//! What the unit's own processes wrote counts, and not what systemd says of the unit: a log file does not have that
//! either, and "Started" is no sign of life of the program. Which of two messages came first, their cursors say; so a
//! message is judged once, whatever is rotated or vacuumed in between. Each has the id of the run of the unit that it is
//! of, so of most it is known whether the present process wrote them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::rule::Unit;
use super::{Context, JournalPosition, LogPosition, Rule, SHOWN, Seen, Severity, finding};
use crate::clock::Reading;
use crate::systemctl::Manager;

mod entry;
mod judge;
mod read;
mod traps;

pub(super) use traps::traps;

use judge::{Judgement, newest_lines};
use read::{Wanted, oldest};

/// How long the end of a journal may take to be found when a restart has stopped the unit.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Looks at the messages of a unit within `limit`.
pub(super) fn look(
    rule: &Rule,
    unit: &Unit,
    position: Option<&LogPosition>,
    context: Context<'_>,
    limit: Duration,
) -> Seen {
    let known = position.and_then(|position| position.journal.as_ref());
    let wanted = Wanted {
        known,
        new: !rule.forbid.is_empty(),
        lines: if rule.expect.is_empty() {
            SHOWN
        } else {
            rule.lines.max(SHOWN)
        }
        .max(if known.is_none() { rule.lines } else { 0 }),
    };
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
    let messages = match (read::read(unit, &wanted, limit), rule.fault()) {
        (Err(why), _) => return nothing_seen(&why),
        // the former position stands, so that its lines are judged by a run that can
        (Ok(_), Some(fault)) => return nothing_seen(&fault),
        (Ok(messages), None) => messages,
    };
    let begins = match (rule.max_age, messages.all.is_empty()) {
        // only of a unit without any message it matters how far back the journal goes
        (Some(_), true) => oldest(limit).and_then(DateTime::from_timestamp_micros),
        _ => None,
    };
    let run = Run::present(unit);
    Judgement {
        rule,
        name: &name,
        context,
        run: &run,
        begins,
    }
    .judge(&messages, position)
}

/// The present end of the journal of a unit: what is in it now is not judged again. Taken when a restart has stopped the
/// old process.
pub(super) fn at_end(unit: &Unit, position: Option<&LogPosition>) -> LogPosition {
    let wanted = Wanted {
        known: None,
        new: false,
        lines: 1,
    };
    let newest = read::read(unit, &wanted, END_LIMIT);
    let newest = newest
        .ok()
        .and_then(|messages| messages.all.into_iter().next());
    let position = position.cloned().unwrap_or_default();
    let former = position.journal.clone().unwrap_or_default();
    let journal = match newest {
        Some(entry) => JournalPosition {
            cursor: Some(entry.cursor),
            ..JournalPosition::default()
        },
        None => JournalPosition {
            until: Reading::take().wall.timestamp_micros(),
            ..former
        },
    };
    LogPosition {
        journal: Some(journal),
        restarted: true,
        ..position
    }
}

/// The present run of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Run {
    /// Its id, where that is known.
    id: Option<String>,
    /// When it began.
    began: Option<DateTime<Utc>>,
}

impl Run {
    /// As systemd tells journald: by a link that is made when a unit is started.
    fn present(unit: &Unit) -> Self {
        if unit.manager != Manager::System {
            return Self::default();
        }
        let link: PathBuf =
            Path::new("/run/systemd/units").join(format!("invocation:{}", unit.name));
        let began = fs::symlink_metadata(&link).ok().map(|meta| {
            let nanos = u32::try_from(meta.mtime_nsec()).unwrap_or_default();
            DateTime::from_timestamp(meta.mtime(), nanos).unwrap_or_default()
        });
        let target = fs::read_link(&link).ok();
        Self {
            id: target.and_then(|id| Some(id.to_str()?.to_owned())),
            began,
        }
    }
}
