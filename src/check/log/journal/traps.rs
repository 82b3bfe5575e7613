//! What in a rule for the journal may not do what was meant: it is held against the journal as it is now.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::super::held::Lines;
use super::super::{Rule, Unit, patterns};
use super::newest_lines;
use super::read::{Wanted, ask, read};
use crate::check::trap::Trap;
use crate::systemctl::Manager;
use crate::text::printable;

/// So much of the last line is quoted, in bytes.
const QUOTED: usize = 120;

/// Where a journal is kept that survives a boot.
const KEPT: &str = "/var/log/journal";

/// `SD_MESSAGE_JOURNAL_DROPPED` of sd-messages.h: journald has left out messages that came too fast.
const DROPPED: &str = "MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e";

/// So many such messages are looked at, the newest.
const MOST_DROPPED: usize = 1000;

/// What is in the way of a rule now, found out within `limit`.
pub(in super::super) fn traps(rule: &Rule, unit: &Unit, limit: Duration) -> Vec<Trap> {
    const UNTIL: &str = "until then nothing of it is judged";
    let wanted = Wanted {
        known: None,
        new: false,
        lines: rule.lines,
    };
    let messages = match read(unit, &wanted, limit) {
        Ok(messages) => messages,
        Err(why) => {
            let message = format!("{}: {why}", rule.title());
            return vec![Trap::of("journal", message, UNTIL)];
        }
    };
    let mut traps = Vec::new();
    let lines: Vec<Vec<u8>> = newest_lines(&messages).take(rule.lines).collect();
    match lines.first() {
        None => traps.push(Trap::of(
            "journal",
            format!("{} has no message of its processes", rule.title()),
            "see where it logs: `systemctl cat` (StandardOutput=), `systemctl show -P Names` (an alias has no messages), \
             `journalctl -u`",
        )),
        Some(last) if rule.fault().is_none() => {
            let name = rule.title();
            let held = Lines {
                name: &name,
                count: lines.len(),
                last: printable(last, QUOTED),
            };
            let lines = lines.iter().map(|line| &**line);
            let missed = patterns::missed(&rule.expect, lines);
            traps.extend(missed.map(|(expect, found)| held.without(expect, found)));
        }
        Some(_) => {}
    }
    if let Some(said) = dropped(unit, limit) {
        traps.push(Trap::of(
            "journal",
            format!(
                "{}: journald has left out messages of it, which nobody judges: {said}",
                rule.title()
            ),
            "raise LogRateLimitBurst= in the unit, or RateLimitBurst= in journald.conf",
        ));
    }
    if unit.manager == Manager::System && !is_kept(Path::new(KEPT)) {
        traps.push(Trap::of(
            "journal",
            format!("the journal is kept in memory only: there is none in {KEPT}, so a boot ends it"),
            "write Storage=persistent into journald.conf, where what was logged before a boot matters",
        ));
    }
    traps
}

/// Whether there is a journal in a directory: one of this machine in a directory of its own.
fn is_kept(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}

/// What journald said last of messages of a unit that it has left out.
fn dropped(unit: &Unit, limit: Duration) -> Option<String> {
    #[derive(Deserialize)]
    struct Said {
        #[serde(rename = "MESSAGE")]
        message: String,
    }
    let mut count = 0;
    let mut found = None;
    let end = format!(" from {}", unit.name);
    let _ = ask(&["--reverse", "--since=-7d", DROPPED], limit, |line| {
        count += 1;
        let said = serde_json::from_slice(line).ok();
        let said = said.filter(|said: &Said| said.message.ends_with(&end));
        found = said.map(|said| printable(said.message.as_bytes(), QUOTED));
        if found.is_some() || count >= MOST_DROPPED {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    found
}
