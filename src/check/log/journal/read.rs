//! Asks journalctl for the messages of a unit, the newest first, until enough is known.
//!
//! By the cursor that was judged last it could be asked for what came after; but only from the oldest on, which may be
//! gigabytes, and not where that message is gone. Backwards, both ends are within bounds.

use std::ops::ControlFlow;
use std::process::Command;
use std::time::Duration;

use super::super::{JournalPosition, LAST, NEW, Unit};
use super::entry::Entry;
use crate::child::{self, DEFAULT_PATH, LinesRead};
use crate::systemctl::Manager;

/// A line of output that is longer than this is not read. Of a message that is no text each byte takes up to five.
const LONGEST: usize = 64 << 20;

/// What of a message counts beside its text, in bytes: there may be millions of empty ones.
const OVERHEAD: u64 = 200;

/// What journalctl says where it may read nothing.
const NO_RIGHT: &str = "insufficient permissions";

/// And what is to be done.
const MAY_NOT: &str =
    "this user may not read it: add it to the group systemd-journal, or run the watchdog as root";

/// What is wanted of a journal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// How far it was judged; absent: it is seen for the first time.
    pub(super) known: Option<&'a JournalPosition>,
    /// All that is new since.
    pub(super) new: bool,
    /// So many of the last lines, whether new or not.
    pub(super) lines: usize,
}

/// What was read of a journal.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// The newest first.
    pub(super) all: Vec<Entry>,
    /// So many of them are new.
    pub(super) new: usize,
    /// There is more that is new, beyond what may be read.
    pub(super) left_out: bool,
    /// The messages go back to what was judged.
    pub(super) reached: bool,
    /// No more was wanted, so what comes before these was not looked at.
    pub(super) stopped: bool,
    /// There are more, beyond what may be read, and fewer lines than were wanted.
    pub(super) bounded: bool,
    lines: usize,
    new_bytes: u64,
    old_bytes: u64,
}

impl Messages {
    /// Takes a message, and says whether another is wanted.
    pub(super) fn take(&mut self, entry: Entry, wanted: &Wanted<'_>) -> ControlFlow<()> {
        let is_new = !self.reached && wanted.known.is_none_or(|known| entry.is_after(known));
        self.reached |= !is_new;
        let is_due = is_new && wanted.new && wanted.known.is_some();
        let has_lines = self.lines >= wanted.lines;
        if has_lines && !is_due && !self.all.is_empty() {
            return ControlFlow::Break(());
        }
        let (bytes, limit) = if is_due {
            (&mut self.new_bytes, NEW)
        } else {
            (&mut self.old_bytes, LAST)
        };
        *bytes += entry.text.len() as u64 + OVERHEAD;
        if *bytes > limit && !self.all.is_empty() {
            self.left_out |= is_due;
            self.bounded |= !has_lines;
            return ControlFlow::Break(());
        }
        self.lines += entry.lines().len();
        self.new += usize::from(is_new);
        self.all.push(entry);
        ControlFlow::Continue(())
    }
}

/// Reads the messages of a unit. The error is a sentence.
pub(super) fn read(unit: &Unit, wanted: &Wanted<'_>, limit: Duration) -> Result<Messages, String> {
    let mut messages = Messages::default();
    let matches = match unit.manager {
        // not --unit=: that has what systemd itself says of the unit as well, and a log has not
        Manager::System => vec![format!("_SYSTEMD_UNIT={}", unit.name)],
        Manager::User => vec![
            format!("_SYSTEMD_USER_UNIT={}", unit.name),
            format!("_UID={}", nix::unistd::geteuid()),
        ],
    };
    let mut args = vec![
        "--reverse",
        "--all",
        "--output-fields=MESSAGE,_SYSTEMD_INVOCATION_ID",
    ];
    args.extend(matches.iter().map(String::as_str));
    let read = ask(&args, limit, |line| match Entry::parse(line) {
        Some(entry) => {
            let flow = messages.take(entry, wanted);
            messages.stopped = flow.is_break();
            flow
        }
        None => ControlFlow::Continue(()),
    })?;
    refusal(&read, unit.manager).map_or(Ok(messages), Err)
}

/// When the oldest message of all that the journal has was logged, in microseconds since 1970.
pub(super) fn oldest(limit: Duration) -> Option<i64> {
    let mut found = None;
    let fields = ["--output-fields=_BOOT_ID"];
    ask(&fields, limit, |line| {
        found = Entry::parse(line).map(|entry| entry.time);
        ControlFlow::Break(())
    })
    .ok()?;
    found
}

/// Runs journalctl, and hands out the messages that it prints, until no more is wanted or there is none. The error is a
/// sentence.
pub(super) fn ask(
    args: &[&str],
    limit: Duration,
    mut give: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<LinesRead, String> {
    let mut command = Command::new("journalctl");
    command
        .env_clear()
        .env("PATH", DEFAULT_PATH)
        .env("LC_ALL", "C.UTF-8")
        .args(["--no-pager", "--output=json"])
        .args(args);
    let mut is_stopped = false;
    let read = child::read_lines(command, limit, LONGEST, |line| {
        let flow = give(line);
        is_stopped |= flow.is_break();
        flow
    });
    let read = read.map_err(|error| {
        format!("cannot run journalctl: {error}; is this a machine with systemd?")
    })?;
    let limit = crate::clock::rough(limit);
    if read.too_long {
        return Err("a message in it is too long to be read".to_owned());
    }
    if read.timed_out {
        return Err(format!("journalctl gave no answer within {limit}"));
    }
    let is_well = read.status.is_some_and(|status| status.success());
    if is_stopped || is_well {
        return Ok(read);
    }
    let said = child::last_lines(&read.stderr, 3).join("; ");
    if said.contains(NO_RIGHT) {
        return Err(MAY_NOT.to_owned());
    }
    let how = read
        .status
        .map_or("was killed".to_owned(), child::describe_status);
    Err(if said.is_empty() {
        format!("journalctl {how}")
    } else {
        format!("journalctl {how}: {said}")
    })
}

/// Why journalctl may have shown less than there is, though it ended well: it only says so.
fn refusal(read: &LinesRead, manager: Manager) -> Option<String> {
    let said = String::from_utf8_lossy(&read.stderr);
    if said.contains("No journal files were found") {
        return Some(
            "there are no journal files: does systemd-journald run, and with Storage= other than none?"
                .to_owned(),
        );
    }
    let hidden = said.contains(NO_RIGHT)
        || (manager == Manager::System && said.contains("not seeing messages"));
    hidden.then(|| MAY_NOT.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64, text: &str) -> Entry {
        Entry {
            cursor: format!("s=s;i={number:x};b=b;m={number:x};t={number:x};x=1"),
            time: i64::try_from(number).unwrap(),
            invocation: None,
            text: text.as_bytes().to_vec(),
        }
    }

    fn known(number: u64) -> JournalPosition {
        JournalPosition {
            cursor: Some(entry(number, "").cursor),
            ..JournalPosition::default()
        }
    }

    /// Reads messages with these texts, the newest of them number 100, and says: how many were read, how many of them are
    /// new, whether what was judged was reached, whether some was left out.
    fn read(wanted: &Wanted<'_>, texts: &[&str]) -> (usize, usize, bool, bool) {
        let mut messages = Messages::default();
        for (number, text) in (1..=100).rev().zip(texts) {
            if messages.take(entry(number, text), wanted).is_break() {
                break;
            }
        }
        let all = messages.all.len();
        (all, messages.new, messages.reached, messages.left_out)
    }

    #[test]
    fn as_much_is_read_as_is_new_and_as_many_lines_as_are_wanted() {
        let texts = ["x"; 100];
        for (last, new, lines, expected) in [
            (Some(98), true, 1, (2, 2, true, false)),
            (Some(98), true, 5, (5, 2, true, false)),
            (Some(100), true, 1, (1, 0, true, false)),
            (Some(1), true, 1, (99, 99, true, false)),
            // what nobody forbids anything in
            (Some(1), false, 3, (3, 3, false, false)),
            // seen for the first time
            (None, true, 3, (3, 3, false, false)),
            (None, true, 1000, (100, 100, false, false)),
        ] {
            let position = last.map(known);
            let wanted = Wanted {
                known: position.as_ref(),
                new,
                lines,
            };
            assert_eq!(read(&wanted, &texts), expected, "{last:?} {new} {lines}");
        }
    }

    #[test]
    fn what_is_new_has_a_bound_and_the_newest_is_kept() {
        let large = "x".repeat(3 << 20);
        let position = known(1);
        let wanted = Wanted {
            known: Some(&position),
            new: true,
            lines: 1,
        };
        let texts = [&*large; 10];
        assert_eq!(read(&wanted, &texts), (2, 2, false, true));
        // one that is larger than all that is read is read all the same
        let huge = "x".repeat(20 << 20);
        assert_eq!(read(&wanted, &[&huge, "x"]), (1, 1, false, true));
    }
}
