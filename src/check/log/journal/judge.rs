//! What the messages of a unit mean: findings, notes, and how far they were judged. Nothing here reads anything.

use chrono::{DateTime, Utc};

use super::super::age::Age;
use super::super::authors::{ByAuthor, Whose};
use super::super::patterns;
use super::super::{
    Author, Context, JournalPosition, LAST, LogPosition, NEW, Rule, SHOWN, SHOWN_BYTES, Seen, Tail,
    size, tell_missed,
};
use super::Run;
use super::entry::{Entry, time_of};
use super::read::Messages;
use crate::clock::{self, Moment, Reading, rough};

/// What the judgement of a journal depends on beside its messages.
pub(super) struct Judgement<'a> {
    pub(super) rule: &'a Rule,
    pub(super) name: &'a str,
    pub(super) context: Context<'a>,
    pub(super) run: &'a Run,
    /// When the journal begins, where it has no message of the unit.
    pub(super) begins: Option<DateTime<Utc>>,
}

impl Judgement<'_> {
    pub(super) fn judge(&self, messages: &Messages, position: Option<&LogPosition>) -> Seen {
        let mut seen = Seen::default();
        let known = position.and_then(|position| position.journal.as_ref());
        let mut next = LogPosition {
            journal: Some(known.cloned().unwrap_or_default()),
            ..position.cloned().unwrap_or_default()
        };
        let is_gone = known.is_some_and(|known| known.cursor.is_some())
            && !messages.reached
            && !messages.stopped;
        if is_gone {
            seen.note(
                self.name,
                "the message that was judged last is not in it any more (rotated, vacuumed or cleared): what was logged between \
                 the last run and what is left was not seen",
            );
        }
        next.cut = is_gone || next.cut && !messages.stopped;
        self.judge_age(messages, &mut next, &mut seen);
        self.judge_expect(messages, &mut next, &mut seen);
        self.judge_new(messages, position, &mut seen);
        next.restarted = false;
        let silent_since = next.journal.take().and_then(|journal| journal.silent_since);
        next.journal = Some(match messages.all.first() {
            Some(newest)
                if messages.new > 0 || known.is_none_or(|known| known.cursor.is_none()) =>
            {
                JournalPosition {
                    cursor: Some(newest.cursor.clone()),
                    until: if messages.new > 0 {
                        0
                    } else {
                        known.map_or(0, |known| known.until)
                    },
                    silent_since: None,
                }
            }
            // told once
            _ if is_gone => JournalPosition {
                cursor: None,
                until: known
                    .and_then(|known| time_of(known.cursor.as_deref()?))
                    .unwrap_or_default(),
                silent_since,
            },
            _ => JournalPosition {
                silent_since,
                ..known.cloned().unwrap_or_default()
            },
        });
        if self.context.shown || !seen.findings.is_empty() {
            seen.tail = shown(messages);
        }
        seen.state = Some(next);
        seen
    }

    /// The age of the newest message; of a unit without any, the time that it has run or been looked at.
    fn judge_age(&self, messages: &Messages, next: &mut LogPosition, seen: &mut Seen) {
        let now = self.context.now;
        let newest = messages.all.first();
        let newest = newest.and_then(|entry| DateTime::from_timestamp_micros(entry.time));
        if let Some(newest) = newest {
            next.written = Some(Moment::new(newest, now));
        } else if let Some(written) = next.written {
            next.written = Some(written.renewed(now));
        }
        let Some(limit) = self.rule.max_age else {
            return;
        };
        let rough_age = |then: DateTime<Utc>| rough(clock::age(now.wall, then));
        let (then, what) = if let Some(written) = next.written {
            let written = newest.unwrap_or_else(|| written.at(now));
            (written, format!("no message for {}", rough_age(written)))
        } else {
            let since = seen_silent_since(next, now);
            let began = self.run.began.filter(|began| *began < since);
            let since = began.unwrap_or(since);
            if let Some(begins) = self.begins
                && clock::age(now.wall, begins) < limit
            {
                seen.note(
                    self.name,
                    format!(
                        "there is no message, and its age is not judged: the journal goes back only {}",
                        rough_age(begins)
                    ),
                );
                return;
            }
            let what = match began {
                Some(_) => format!(
                    "no message since the unit was started, {} ago",
                    rough_age(since)
                ),
                None => format!(
                    "no message since it was first looked at, {} ago",
                    rough_age(since)
                ),
            };
            (since, what)
        };
        let what = Age {
            then,
            stale: &what,
            ahead: "its newest message is",
        };
        what.judge(self.rule, self.name, self.context, seen);
    }

    fn judge_expect(&self, messages: &Messages, next: &mut LogPosition, seen: &mut Seen) {
        let rule = self.rule;
        if rule.expect.is_empty() {
            return;
        }
        let lines: Vec<Vec<u8>> = newest_lines(messages).take(rule.lines).collect();
        if lines.len() >= rule.lines {
            next.cut = false;
        }
        let name = self.name;
        tell_missed(rule, name, lines.iter().map(|line| &**line), next.cut, seen);
        if messages.bounded && lines.len() < rule.lines {
            seen.note(
                name,
                format!(
                    "only the last {} were looked at for what is expected: {} of {} lines",
                    size(LAST),
                    lines.len(),
                    rule.lines
                ),
            );
        }
    }

    fn judge_new(&self, messages: &Messages, position: Option<&LogPosition>, seen: &mut Seen) {
        let rule = self.rule;
        let is_first = position.is_none_or(|position| position.journal.is_none());
        let restarted = position.is_some_and(|position| position.restarted);
        let mut by_author = ByAuthor::new(rule);
        let new = &messages.all[..messages.new];
        let mut lines: Vec<(Whose, Vec<u8>, bool)> = (new.iter())
            .flat_map(|entry| {
                let whose = self.whose(entry, is_first, restarted);
                let lines = entry.lines().into_iter().rev();
                lines.map(move |(line, cut)| (whose, line, cut))
            })
            .collect();
        if is_first {
            lines.truncate(rule.lines);
        }
        for (whose, line, cut) in lines.iter().rev() {
            by_author.line(*whose, line, *cut);
        }
        by_author.tell(rule, self.name, is_first, seen);
        if messages.left_out {
            seen.note(
                self.name,
                format!(
                    "of new messages only the newest {} are judged in a run; there were more",
                    size(NEW)
                ),
            );
        }
    }

    /// Who wrote a message. What is seen for the first time may be long done with.
    fn whose(&self, entry: &Entry, is_first: bool, restarted: bool) -> Whose {
        match (&self.run.id, &entry.invocation) {
            _ if is_first => Whose::Perhaps,
            (Some(present), Some(its)) if present == its => Whose::Present,
            (Some(_), Some(_)) if restarted => Whose::Stopped,
            (Some(_), Some(_)) => Whose::Perhaps,
            _ => match self.context.author {
                Author::Present => Whose::Present,
                Author::Perhaps => Whose::Perhaps,
            },
        }
    }
}

/// Since when a unit has had no message, remembered from the first look on.
fn seen_silent_since(next: &mut LogPosition, now: &Reading) -> DateTime<Utc> {
    let journal = next.journal.get_or_insert_default();
    let since = journal.silent_since.map(|since| since.renewed(now));
    let since = since.unwrap_or_else(|| Moment::new(now.wall, now));
    journal.silent_since = Some(since);
    since.at(now)
}

/// The lines of messages, the newest first.
pub(super) fn newest_lines(messages: &Messages) -> impl Iterator<Item = Vec<u8>> {
    let entries = messages.all.iter();
    entries.flat_map(|entry| entry.lines().into_iter().rev().map(|(line, _)| line))
}

/// The lines that are shown.
fn shown(messages: &Messages) -> Tail {
    let newest: Vec<Vec<u8>> = newest_lines(messages).take(SHOWN).collect();
    let mut bytes = Vec::new();
    for line in newest.iter().rev() {
        bytes.extend_from_slice(patterns::shorten(line, SHOWN_BYTES));
        bytes.push(b'\n');
    }
    Tail { bytes }
}

#[cfg(test)]
mod tests;
