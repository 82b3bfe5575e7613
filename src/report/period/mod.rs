//! What a stretch of time came to, service by service: read from the journal, entry by entry. Pure.
//!
//! The journal has every change of a verdict and every attempt, and no line for a run that found all as it was. So between
//! two entries a service is as the first of them says. Before its first entry it was well, as far as anybody knows.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::clock::age;
use crate::restart::Operation;
use crate::state::journal::{DeliveryEvent, Entry, JournalEvent};
use crate::verdict::Verdict;

mod figures;
pub mod html;
pub mod text;

#[cfg(test)]
mod tests;

pub use figures::{
    AttemptMade, MessageCounts, OwnTrouble, PeriodReport, Reason, ServicePeriod, Span,
};

/// So many attempts of a service are listed, the newest.
const ATTEMPTS: usize = 1000;

/// So many of the watchdog's own troubles and silent times are listed, the newest.
const LISTED: usize = 100;

/// How a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// Well.
    Well,
    /// Starting, paused or disabled: neither well nor broken.
    Between,
    /// Warnings alone, or what could not be seen.
    Warned,
    /// Broken, or restarted in this run.
    Broken,
}

impl Condition {
    fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Healthy | Verdict::Steady | Verdict::Scaled => Self::Well,
            Verdict::Starting | Verdict::Paused | Verdict::Disabled => Self::Between,
            Verdict::Degraded | Verdict::Unknown | Verdict::AtMax => Self::Warned,
            _ => Self::Broken,
        }
    }

    fn is_trouble(self) -> bool {
        matches!(self, Self::Warned | Self::Broken)
    }
}

/// A time of trouble that has not ended.
#[derive(Clone, Debug)]
struct Open {
    from: DateTime<Utc>,
    has_failed: bool,
    /// Since when there is nothing wrong, and it is not yet known to be well.
    calm_since: Option<DateTime<Utc>>,
}

/// One service, as far as the journal was read.
#[derive(Debug)]
struct Tracked {
    condition: Condition,
    since: DateTime<Utc>,
    open: Option<Open>,
    restarts: Vec<DateTime<Utc>>,
    sum: ServicePeriod,
    /// Something about it is in the time of the report.
    is_named: bool,
}

/// Reads the journal, the oldest entry first, for a report of what was from then to now.
#[derive(Debug)]
pub struct Reader {
    from: DateTime<Utc>,
    now: DateTime<Utc>,
    oldest: Option<DateTime<Utc>>,
    services: BTreeMap<String, Tracked>,
    silent: Vec<Span>,
    messages: BTreeMap<String, MessageCounts>,
    troubles: Vec<OwnTrouble>,
}

/// What the state knows of runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Runs {
    /// When the last one was.
    pub last: Option<DateTime<Utc>>,
    /// The time between the last two.
    pub interval: Option<Duration>,
}

impl Reader {
    /// A report of what was from `from` to `now`.
    pub fn new(from: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        Self {
            from,
            now,
            oldest: None,
            services: BTreeMap::new(),
            silent: Vec::new(),
            messages: BTreeMap::new(),
            troubles: Vec::new(),
        }
    }

    /// Takes an entry up. One whose time is to come was written by a clock that was wrong, and is one of now.
    pub fn add(&mut self, entry: &Entry) {
        let time = entry.time.min(self.now);
        self.oldest = Some(self.oldest.map_or(time, |oldest| oldest.min(time)));
        let is_in = time >= self.from;
        if let Some((channel, what)) = entry.delivery() {
            if is_in {
                let counts = self.messages.entry(channel.to_owned()).or_default();
                match what {
                    DeliveryEvent::Sent => counts.sent += 1,
                    DeliveryEvent::Refused => counts.refused += 1,
                    DeliveryEvent::GivenUp => counts.given_up += 1,
                    DeliveryEvent::Deferred => {}
                }
            }
            return;
        }
        if entry.service == "watchdog" {
            self.add_own(entry, time, is_in);
            return;
        }
        let (from, now) = (self.from, self.now);
        let tracked = self
            .services
            .entry(entry.service.clone())
            .or_insert_with(|| Tracked::new(&entry.service, time));
        tracked.is_named |= is_in;
        let condition = match &entry.event {
            JournalEvent::Verdict(verdict) => Some(Condition::of(*verdict)),
            JournalEvent::Recovered => Some(Condition::Well),
            _ => None,
        };
        if let Some(condition) = condition {
            tracked.change(condition, time, from, now);
        }
        if is_in {
            tracked.add_attempt(entry, time);
        }
    }

    fn add_own(&mut self, entry: &Entry, time: DateTime<Utc>, is_in: bool) {
        if !is_in {
            return;
        }
        match (&entry.event, entry.since) {
            (JournalEvent::Silent, Some(since)) => {
                let span = Span::new(since.min(time), Some(time), self.now);
                self.silent.push(span);
            }
            (JournalEvent::StateDamaged | JournalEvent::OutboxDamaged, _) => {
                self.troubles.push(OwnTrouble {
                    time,
                    message: entry.message.clone().unwrap_or_default(),
                });
            }
            _ => {}
        }
    }

    /// The report of these services of the config.
    pub fn finish(mut self, host: String, names: &[&str], runs: Runs) -> PeriodReport {
        if let (Some(last), Some(interval)) = (runs.last, runs.interval)
            && age(self.now, last) > expected(interval)
        {
            self.silent.push(Span::new(last, None, self.now));
        }
        let mut services = Vec::with_capacity(names.len());
        for name in names {
            services.push(match self.services.remove(*name) {
                Some(tracked) => tracked.finish(self.from, self.now),
                None => ServicePeriod {
                    name: (*name).to_owned(),
                    ..ServicePeriod::default()
                },
            });
        }
        // of one that is gone, and was in trouble to its end, nobody knows how it is
        let gone = self.services.into_values().filter(|it| it.is_named);
        services.extend(gone.map(|tracked| tracked.finish(self.from, self.now)));
        newest(&mut self.silent, LISTED);
        newest(&mut self.troubles, LISTED);
        PeriodReport {
            version: 1,
            host,
            from: self.from,
            to: self.now,
            journal_from: self.oldest,
            last_run: runs.last,
            services,
            silent: self.silent,
            messages: self.messages,
            troubles: self.troubles,
        }
    }
}

/// Leaves so many, the newest.
fn newest<T>(list: &mut Vec<T>, count: usize) {
    list.drain(..list.len().saturating_sub(count));
}

/// After the last run the next one should have been made within this, where the one before it came after `interval`.
pub fn expected(interval: Duration) -> Duration {
    /// A run that is merely late, or takes its time, is not missing.
    const LEAST: Duration = Duration::from_mins(10);
    interval.saturating_mul(3).max(LEAST)
}

impl Tracked {
    fn new(name: &str, time: DateTime<Utc>) -> Self {
        Self {
            condition: Condition::Well,
            since: time,
            open: None,
            restarts: Vec::new(),
            sum: ServicePeriod {
                name: name.to_owned(),
                ..ServicePeriod::default()
            },
            is_named: false,
        }
    }

    /// Counts the time since the last change, as far as it is in that of the report. Where the clock was set back, none.
    fn count(&mut self, time: DateTime<Utc>, from: DateTime<Utc>) {
        if self.condition.is_trouble() {
            self.sum.not_well += age(time, self.since.max(from));
        }
        self.since = time;
    }

    fn change(
        &mut self,
        condition: Condition,
        time: DateTime<Utc>,
        from: DateTime<Utc>,
        now: DateTime<Utc>,
    ) {
        self.count(time, from);
        self.condition = condition;
        match condition {
            Condition::Warned | Condition::Broken => {
                let open = self.open.get_or_insert(Open {
                    from: time,
                    has_failed: false,
                    calm_since: None,
                });
                open.has_failed |= condition == Condition::Broken;
                open.calm_since = None;
            }
            Condition::Between => {
                if let Some(open) = &mut self.open {
                    open.calm_since.get_or_insert(time);
                }
            }
            Condition::Well => {
                if let Some(open) = self.open.take() {
                    let to = open.calm_since.unwrap_or(time);
                    self.close(&open, Some(to), from, now);
                }
            }
        }
    }

    /// Enters a time of trouble, if any of it is in the time of the report.
    fn close(
        &mut self,
        open: &Open,
        to: Option<DateTime<Utc>>,
        from: DateTime<Utc>,
        now: DateTime<Utc>,
    ) {
        if to.is_some_and(|to| to < from) {
            return;
        }
        self.sum.failures += usize::from(open.has_failed);
        let span = Span::new(open.from, to, now);
        let longest = self.sum.longest_trouble.as_ref();
        if longest.is_none_or(|longest| span.lasted > longest.lasted) {
            self.sum.longest_trouble = Some(span);
        }
        self.is_named = true;
    }

    fn add_attempt(&mut self, entry: &Entry, time: DateTime<Utc>) {
        let interrupted = entry.event == JournalEvent::Interrupted;
        if entry.action.is_none() && !interrupted {
            return;
        }
        let action = entry.action.as_ref();
        if let Some(action) = action {
            let failed = usize::from(!action.ok);
            match action.kind {
                Operation::Restart => {
                    self.sum.restarts += 1;
                    self.sum.restarts_failed += failed;
                    self.restarts.push(time);
                }
                Operation::Repair => {
                    self.sum.repairs += 1;
                    self.sum.repairs_failed += failed;
                }
                // it is among the attempts
                Operation::Scale => {}
            }
        }
        let findings = entry.findings.iter().map(|finding| Reason {
            code: finding.code.to_string(),
            severity: finding.severity,
            message: finding.message.clone(),
        });
        self.sum.attempts.push(AttemptMade {
            time,
            kind: action.map(|action| action.kind),
            method: action.map(|action| action.method),
            ok: action.is_some_and(|action| action.ok),
            findings: findings.collect(),
            error: match action {
                Some(action) => action.error.clone(),
                None => entry.message.clone(),
            },
            duration_ms: action.map_or(0, |action| action.duration_ms),
            facts: action
                .map(|action| action.facts.clone())
                .unwrap_or_default(),
            evidence: action.and_then(|action| action.evidence.clone()),
        });
        newest(&mut self.sum.attempts, ATTEMPTS);
    }

    fn finish(mut self, from: DateTime<Utc>, now: DateTime<Utc>) -> ServicePeriod {
        self.count(now, from);
        if let Some(open) = self.open.take() {
            self.sum.in_trouble = open.calm_since.is_none();
            self.close(&open, open.calm_since, from, now);
        }
        let gaps = u32::try_from(self.restarts.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let (first, last) = (self.restarts.iter().min(), self.restarts.iter().max());
        if let (Some(&first), Some(&last)) = (first, last)
            && gaps > 0
        {
            self.sum.mean_between_restarts = Some(age(last, first) / gaps);
        }
        self.sum
    }
}
