//! Port probes as conversations: what is sent, and what has to arrive.

use std::time::{Duration, Instant};

use super::{ANSWER_LIMIT, End, KEPT, Raw, Rule, Unexpected};
use crate::client::{Exchange, Heard, Outcome, Talk, Target, converse};

/// An answer is searched no more often than this, or when it has doubled: searching it after each byte would take the
/// square of its length.
const SEARCH_EVERY: Duration = Duration::from_millis(20);

/// Makes all probes, each within its own timeout, and returns what each came to, in their order. Those that are not
/// over when the run has to end say nothing about their service.
pub fn look(probes: &[(&Rule, Duration)], run_ends: Instant) -> Vec<Raw> {
    let talks = probes
        .iter()
        .map(|&(rule, timeout)| (Probe::new(rule), timeout));
    let ended = converse(talks.collect(), run_ends);
    ended
        .into_iter()
        .map(|(_, outcome)| outcome.into())
        .collect()
}

impl From<Outcome<(), Unexpected>> for Raw {
    fn from(outcome: Outcome<(), Unexpected>) -> Self {
        match outcome {
            Outcome::Passed {
                certificate_ends,
                took,
                ..
            } => Self::Passed {
                certificate_ends,
                took,
            },
            Outcome::Failed(failures) => Self::Failed(failures),
            Outcome::NotAsked(why) => Self::NotAsked(why),
        }
    }
}

/// A probe to be made.
#[derive(Debug)]
pub struct Probe<'a> {
    rule: &'a Rule,
    target: Target,
}

impl<'a> Probe<'a> {
    /// The probe of a rule.
    pub fn new(rule: &'a Rule) -> Self {
        Self {
            rule,
            target: rule.target(),
        }
    }
}

impl<'a> Talk for Probe<'a> {
    type Exchange = Question<'a>;

    fn target(&self) -> &Target {
        &self.target
    }

    fn begin(&self) -> Question<'a> {
        Question {
            rule: self.rule,
            sent: 0,
            answer: Vec::new(),
            searched: 0,
            searched_at: None,
            is_due: false,
        }
    }
}

/// What is sent to one address, and what it has answered so far.
#[derive(Debug)]
pub struct Question<'a> {
    rule: &'a Rule,
    /// How much of `send` was taken.
    sent: usize,
    answer: Vec<u8>,
    searched: usize,
    searched_at: Option<Instant>,
    /// What arrived was not searched yet.
    is_due: bool,
}

impl<'a> Exchange for Question<'a> {
    type Answer = ();
    type Wrong = Unexpected;
    type Next = Probe<'a>;

    fn unsent(&self) -> &[u8] {
        &self.rule.send.as_deref().unwrap_or_default()[self.sent..]
    }

    fn sent(&mut self, length: usize) {
        self.sent += length;
    }

    fn must_be_sent(&self) -> bool {
        self.rule.expect.is_none()
    }

    fn flushed(&mut self) -> Heard<Self> {
        match self.rule.expect {
            None => Heard::Passed(()),
            Some(_) => Heard::Waiting,
        }
    }

    fn capacity(&self) -> usize {
        ANSWER_LIMIT - self.answer.len()
    }

    fn hear(&mut self, bytes: &[u8], is_last: bool, now: Instant) -> Heard<Self> {
        let Some(expect) = &self.rule.expect else {
            // the answer is dropped, but it must be read: else the server may not read the rest of `send`
            return if is_last {
                Heard::HungUp
            } else {
                Heard::Waiting
            };
        };
        self.answer.extend_from_slice(bytes);
        let is_full = self.answer.len() == ANSWER_LIMIT;
        let grown = self.answer.len() > self.searched;
        let rested = (self.searched_at).is_none_or(|at| now >= at + SEARCH_EVERY);
        let doubled = self.answer.len() >= 2 * self.searched;
        self.is_due = grown;
        if is_last || is_full || grown && (rested || doubled) {
            self.is_due = false;
            self.searched = self.answer.len();
            self.searched_at = Some(now);
            if expect.matches(&self.answer) {
                return Heard::Passed(());
            }
        }
        if is_last {
            return Heard::Wrong(self.unexpected(End::Closed));
        }
        if is_full {
            return Heard::Wrong(self.unexpected(End::Limit));
        }
        Heard::Waiting
    }

    fn wakes_at(&self) -> Option<Instant> {
        self.is_due
            .then(|| self.searched_at.map(|at| at + SEARCH_EVERY))
            .flatten()
    }

    fn time_out(&mut self, limit: Duration) -> Option<Heard<Self>> {
        let expect = self.rule.expect.as_ref()?;
        if self.is_due && expect.matches(&self.answer) {
            return Some(Heard::Passed(()));
        }
        (!self.answer.is_empty()).then(|| Heard::Wrong(self.unexpected(End::Timeout(limit))))
    }
}

impl Question<'_> {
    fn unexpected(&self, end: End) -> Unexpected {
        Unexpected {
            first: self.answer[..self.answer.len().min(KEPT)].to_vec(),
            length: self.answer.len(),
            end,
        }
    }
}
