//! New lines whose author is known line by line, as a journal and an engine have it.

use super::patterns::Tally;
use super::{Rule, Seen, size, tail, tell_forbidden};

/// Who wrote a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Surely the process that runs now.
    Present,
    /// Perhaps an earlier one.
    Perhaps,
    /// One that a restart has stopped: it is done with.
    Stopped,
}

/// What of new lines is forbidden, by whose they are.
#[derive(Debug)]
pub(super) struct ByAuthor<'a> {
    sure: Tally<'a>,
    perhaps: Tally<'a>,
}

impl<'a> ByAuthor<'a> {
    pub(super) fn new(rule: &'a Rule) -> Self {
        Self {
            sure: Tally::new(&rule.forbid),
            perhaps: Tally::new(&rule.forbid),
        }
    }

    /// Judges one line; `cut` says that there was more of it than is searched.
    pub(super) fn line(&mut self, whose: Whose, line: &[u8], cut: bool) {
        match whose {
            Whose::Present => self.sure.line(line, cut, &[]),
            Whose::Perhaps => self.perhaps.line(line, cut, &[]),
            Whose::Stopped => {}
        }
    }

    /// Says what was found.
    pub(super) fn tell(&self, rule: &Rule, name: &str, is_first: bool, seen: &mut Seen) {
        let (sure, perhaps) = (&self.sure, &self.perhaps);
        for ((forbid, sure), perhaps) in rule.forbid.iter().zip(&sure.hits).zip(&perhaps.hits) {
            let count = sure.count + perhaps.count;
            seen.consumed |= count > 0;
            if count <= forbid.at_most {
                continue;
            }
            let is_sure = sure.count > forbid.at_most;
            let (hits, count) = if is_sure {
                (sure, sure.count)
            } else if perhaps.count > 0 {
                (perhaps, count)
            } else {
                (sure, count)
            };
            let found = (count, &*hits.first);
            tell_forbidden(rule, name, forbid, found, is_first, !is_sure, seen);
        }
        let cut = sure.cut + perhaps.cut;
        if cut > 0 {
            let limit = size(tail::LINE as u64);
            seen.note(
                name,
                format!("lines longer than {limit} were truncated for the search: {cut}"),
            );
        }
    }
}
