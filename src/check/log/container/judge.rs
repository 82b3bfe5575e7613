//! What the output of a container means: findings, notes, and how far it was judged. Nothing here reads anything.

use chrono::{DateTime, TimeDelta, Utc};

use super::super::age::Age;
use super::super::authors::{ByAuthor, Whose};
use super::super::position::{LogPosition, OutputPosition};
use super::super::{
    Author, Context, LAST, NEW, Rule, SHOWN, SHOWN_BYTES, Seen, Severity, Stamp, Tail, finding,
    patterns, size, stamp, tail, tell_missed, terminal,
};
use super::new::{goes_back, new_lines, position as next_position};
use super::read::Output;
use crate::client::engine::{Line, State};
use crate::clock::{self, Moment, rough};

/// What of a line counts beside its text, in bytes: there may be millions of empty ones.
const OVERHEAD: u64 = 40;

/// So long before an engine says that a container was started its process may have written at the most.
const EARLY: TimeDelta = TimeDelta::seconds(1);

/// The present run of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    /// It has not ended.
    pub(super) is_up: bool,
    /// What came by then was written by an earlier one; absent: it is not known.
    pub(super) since: Option<DateTime<Utc>>,
}

impl Run {
    /// Its process begins to write a moment before the engine notes that it was started, and the last words of the one
    /// before come a moment after the engine notes its end.
    pub(super) fn of(state: &State) -> Self {
        let since = state.started_at.map(|started| {
            let ended = state.finished_at.filter(|ended| *ended < started);
            let between = ended.map(|ended| ended + (started - ended) / 2);
            between.unwrap_or(started - EARLY).max(started - EARLY)
        });
        Self {
            is_up: state.running && !state.restarting,
            since,
        }
    }
}

/// What the judgement of a container's output depends on beside its lines.
pub(super) struct Judgement<'a> {
    pub(super) rule: &'a Rule,
    pub(super) name: &'a str,
    pub(super) context: Context<'a>,
    pub(super) run: Run,
    pub(super) id: &'a str,
}

impl Judgement<'_> {
    /// `known` is how far this container was judged, where it or one before it was looked at by an earlier run.
    pub(super) fn judge(
        &self,
        output: &Output,
        known: Option<&OutputPosition>,
        position: Option<&LogPosition>,
    ) -> Seen {
        let mut seen = Seen::default();
        let is_same = position
            .and_then(|position| position.container.as_ref())
            .is_some_and(|before| before.id == self.id);
        let restarted = position.is_some_and(|position| position.restarted);
        let mut next = position.filter(|_| is_same).cloned().unwrap_or_default();
        let was_judged = known.is_some_and(|known| known.output.or(known.error).is_some());
        let is_gone = was_judged
            && output.is_whole
            && known.is_some_and(|known| !goes_back(&output.lines, known));
        if is_gone {
            seen.note(
                self.name,
                "the line that was judged last is not in it any more (rotated, or cleared): what was written between the last \
                 run and what is left was not seen",
            );
        }
        next.cut |= is_gone;
        let lines: Vec<Shown> = output.lines.iter().map(Shown::of).collect();
        let mut at = next_position(&output.lines, output.is_whole, known, self.id);
        at.silent_since = known.and_then(|known| known.silent_since);
        next.container = Some(at);
        self.judge_age(&lines, &mut next, &mut seen);
        self.judge_expect(&lines, output.is_whole, &mut next, &mut seen);
        self.judge_new(output, &lines, known, restarted, &mut seen);
        next.restarted = false;
        if self.context.shown || !seen.findings.is_empty() {
            seen.tail = shown(&lines);
        }
        seen.state = Some(next);
        seen
    }

    /// The age of the newest line, or of the newest stamp; of a container without any line, that of its present run.
    fn judge_age(&self, lines: &[Shown], next: &mut LogPosition, seen: &mut Seen) {
        let now = self.context.now;
        let newest = lines.last().map(|line| line.time);
        if let Some(newest) = newest {
            next.written = Some(Moment::new(newest, now));
        } else if let Some(written) = next.written {
            next.written = Some(written.renewed(now));
        }
        if self.rule.max_age.is_none() {
            return;
        }
        let ago = |then: DateTime<Utc>| rough(clock::age(now.wall, then));
        let stamped = self.rule.stamp.as_ref();
        let stamped = stamped.and_then(|stamp| self.newest_stamp(stamp, lines, next, seen));
        let (then, stale, ahead) = if let Some(stamped) = stamped {
            let stale = format!("the newest stamped line is {} old", ago(stamped));
            (stamped, stale, "its newest line is stamped")
        } else if let Some(written) = next.written {
            let written = newest.unwrap_or_else(|| written.at(now));
            let stale = format!("no line for {}", ago(written));
            (written, stale, "its newest line is")
        } else {
            let at = next.container.get_or_insert_default();
            let since = at.silent_since.map(|since| since.renewed(now));
            let since = since.unwrap_or_else(|| Moment::new(now.wall, now));
            at.silent_since = Some(since);
            let (since, began) = (since.at(now), self.run.since);
            let then = began.map_or(since, |began| began.min(since));
            let stale = match began {
                Some(_) => format!("no line since the container was started, {} ago", ago(then)),
                None => format!("no line since it was first looked at, {} ago", ago(then)),
            };
            (then, stale, "its start is")
        };
        let age = Age {
            then,
            stale: &stale,
            ahead,
        };
        age.judge(self.rule, self.name, self.context, seen);
    }

    /// The newest stamp among the last lines. Where none of them has one, that is said, and the engine's times count.
    fn newest_stamp(
        &self,
        stamp: &Stamp,
        lines: &[Shown],
        next: &mut LogPosition,
        seen: &mut Seen,
    ) -> Option<DateTime<Utc>> {
        let now = self.context.now;
        let reader = stamp::Reader::new(stamp, now.wall);
        let last = || lines.iter().rev().take(self.rule.lines);
        let newest = last().find_map(|line| reader.read(&line.text, line.time));
        if let Some(newest) = newest {
            next.stamped = Some(Moment::new(newest, now));
            next.unstamped_since = None;
            return Some(newest);
        }
        let newest = last().next()?;
        let since = next.unstamped_since.map(|since| since.renewed(now));
        next.unstamped_since = since.or(Some(Moment::new(now.wall, now)));
        let why = format!(
            "none of the last lines has a stamp that `{}` can read; its age is by the engine's times (the last line: {})",
            stamp.format,
            patterns::excerpt(&newest.text)
        );
        self.find("log_unstamped", Severity::Warning, &why, seen);
        None
    }

    fn judge_expect(
        &self,
        lines: &[Shown],
        is_whole: bool,
        next: &mut LogPosition,
        seen: &mut Seen,
    ) {
        let rule = self.rule;
        if rule.expect.is_empty() {
            return;
        }
        let mut bytes = 0;
        let within = |line: &&Shown| {
            bytes += line.text.len() as u64 + OVERHEAD;
            bytes <= LAST
        };
        let newest: Vec<&[u8]> = (lines.iter().rev())
            .take(rule.lines)
            .take_while(within)
            .map(|line| &*line.text)
            .collect();
        let count = newest.len();
        if count >= rule.lines {
            next.cut = false;
        }
        tell_missed(rule, self.name, newest.into_iter(), next.cut, seen);
        if count < rule.lines && (count < lines.len() || !is_whole) {
            seen.note(
                self.name,
                format!(
                    "only the last {} were looked at for what is expected: {count} of {} lines",
                    size(LAST),
                    rule.lines
                ),
            );
        }
    }

    fn judge_new(
        &self,
        output: &Output,
        lines: &[Shown],
        known: Option<&OutputPosition>,
        restarted: bool,
        seen: &mut Seen,
    ) {
        let rule = self.rule;
        if rule.forbid.is_empty() {
            return;
        }
        let is_first = known.is_none();
        let is_new = match known {
            Some(known) => new_lines(&output.lines, known),
            None => vec![true; lines.len()],
        };
        let mut bytes = 0;
        let mut left_out =
            known.is_some_and(|known| !output.is_whole && !goes_back(&output.lines, known));
        let mut judged = Vec::new();
        for (line, _) in lines.iter().zip(is_new).rev().filter(|(_, is_new)| *is_new) {
            bytes += line.text.len() as u64 + OVERHEAD;
            if is_first && judged.len() >= rule.lines {
                break;
            }
            if bytes > NEW && !judged.is_empty() {
                left_out |= !is_first;
                break;
            }
            judged.push(line);
        }
        let mut by_author = ByAuthor::new(rule);
        for line in judged.into_iter().rev() {
            by_author.line(
                self.whose(line, is_first, restarted),
                &line.text,
                line.is_cut,
            );
        }
        by_author.tell(rule, self.name, is_first, seen);
        if left_out {
            seen.note(
                self.name,
                format!(
                    "of new lines only the newest {} are judged in a run, or what the engine gives in time; there were more",
                    size(NEW)
                ),
            );
        }
    }

    /// Who wrote a line. What is seen for the first time may be long done with.
    fn whose(&self, line: &Shown, is_first: bool, restarted: bool) -> Whose {
        let is_of_earlier = self.run.since.is_some_and(|since| line.time <= since);
        match self.run.since {
            _ if is_of_earlier && restarted => Whose::Stopped,
            _ if is_first || is_of_earlier => Whose::Perhaps,
            Some(_) if self.run.is_up => Whose::Present,
            None if self.context.author == Author::Present => Whose::Present,
            _ => Whose::Perhaps,
        }
    }

    fn find(&self, code: &'static str, severity: Severity, why: &str, seen: &mut Seen) {
        let finding = finding(self.rule, code, severity, self.name, why);
        seen.findings.push(finding);
    }
}

/// A line as patterns see it.
pub(super) struct Shown {
    pub(super) time: DateTime<Utc>,
    pub(super) text: Vec<u8>,
    /// There was more of it than is searched.
    is_cut: bool,
}

impl Shown {
    pub(super) fn of(line: &Line) -> Self {
        let plain = terminal::without_sequences(&line.text);
        Self {
            time: line.time,
            text: tail::clean(&plain).to_vec(),
            is_cut: plain.len() > tail::LINE,
        }
    }
}

/// The lines that are shown.
fn shown(lines: &[Shown]) -> Tail {
    let mut bytes = Vec::new();
    for line in &lines[lines.len().saturating_sub(SHOWN)..] {
        bytes.extend_from_slice(patterns::shorten(&line.text, SHOWN_BYTES));
        bytes.push(b'\n');
    }
    Tail { bytes }
}

#[cfg(test)]
mod tests;
