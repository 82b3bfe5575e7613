//! What attempts leave in the state of a service beside their times: which strategy they were made by, how many the present
//! incident has had, and how the runs since the last one went.

use chrono::{DateTime, Utc};

use super::ServiceState;
use super::strategies::StrategyAttempts;

/// A run that found the service failing, in [`ServiceState::recent_runs`].
const FAILING: char = '1';

/// A run that found it well enough.
const WELL: char = '0';

impl ServiceState {
    /// What is remembered of the attempts of a strategy.
    pub fn attempts_by(&self, strategy: &str) -> Option<&StrategyAttempts> {
        self.strategies.get(strategy)
    }

    /// Of the last so many runs that count, since the last attempt, how many found it failing. Runs in a row are known
    /// where nothing more was kept.
    pub fn failing_among(&self, last: u32) -> u32 {
        match &self.recent_runs {
            None => self.consecutive_failures.min(last),
            Some(runs) => {
                let last = usize::try_from(last).unwrap_or(usize::MAX);
                let failing = runs.chars().rev().take(last).filter(|&run| run == FAILING);
                u32::try_from(failing.count()).unwrap_or(u32::MAX)
            }
        }
    }

    /// Takes note of a run that counts, of which so many are kept. Where one alone is reason enough, nothing is.
    pub fn count_run(&mut self, failing: bool, kept: u32) {
        if kept <= 1 {
            self.recent_runs = None;
            return;
        }
        let kept = usize::try_from(kept).unwrap_or(usize::MAX);
        let in_a_row = usize::try_from(self.consecutive_failures).unwrap_or(usize::MAX);
        let row = || FAILING.to_string().repeat(in_a_row.min(kept));
        let runs = self.recent_runs.take().unwrap_or_else(row);
        let run = if failing { FAILING } else { WELL };
        let over = (runs.chars().count() + 1).saturating_sub(kept);
        self.recent_runs = Some(runs.chars().skip(over).chain([run]).collect());
    }

    /// Counts an attempt, and by which strategy it is made; of the runs before it none counts any more.
    pub(super) fn count_attempt(&mut self, now: DateTime<Utc>, strategy: Option<&str>, kept: u32) {
        self.incident_attempts = self.incident_attempts.saturating_add(1);
        self.recent_runs = (kept > 1).then(String::new);
        if let Some(strategy) = strategy {
            let of = self.strategies.entry(strategy.to_owned()).or_default();
            of.attempts.push(now);
            of.of_incident = of.of_incident.saturating_add(1);
        }
    }

    /// The incident is over: the next one has its attempts before it. What the hour counts is counted as before.
    pub fn end_incident(&mut self) {
        self.incident_attempts = 0;
        for of in self.strategies.values_mut() {
            of.of_incident = 0;
        }
    }

    /// Forgets strategies whose attempts nothing counts any more, but for those that there are.
    pub fn prune_strategies(&mut self, now: DateTime<Utc>, is_there: impl Fn(&str) -> bool) {
        self.strategies
            .retain(|id, of| is_there(id) || of.in_hour(now) > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::at;

    #[test]
    fn the_last_runs_are_counted_and_no_more_are_kept() {
        let mut known = ServiceState::default();
        for (failing, kept, runs, among_3, among_5) in [
            (true, 5, "1", 1, 1),
            (false, 5, "10", 1, 1),
            (true, 5, "101", 2, 2),
            (true, 5, "1011", 2, 3),
            (false, 5, "10110", 2, 3),
            (false, 5, "01100", 1, 2),
            (false, 3, "000", 0, 0),
        ] {
            known.count_run(failing, kept);
            assert_eq!(known.recent_runs.as_deref(), Some(runs));
            assert_eq!(known.failing_among(3), among_3, "{runs}");
            assert_eq!(known.failing_among(5), among_5, "{runs}");
        }
        known.count_run(true, 1);
        assert_eq!(known.recent_runs, None);
    }

    #[test]
    fn what_a_version_before_knew_of_runs_in_a_row_counts() {
        let mut known = ServiceState {
            consecutive_failures: 2,
            ..ServiceState::default()
        };
        assert_eq!((known.failing_among(1), known.failing_among(4)), (1, 2));
        known.count_run(true, 4);
        assert_eq!(known.recent_runs.as_deref(), Some("111"));
    }

    #[test]
    fn an_attempt_empties_the_runs_and_the_end_of_an_incident_its_attempts() {
        let mut known = ServiceState::default();
        known.count_run(true, 3);
        known.record_attempt(at(0), Vec::new(), Some("x"), 3);
        known.record_attempt(at(5), Vec::new(), None, 3);
        assert_eq!(known.failing_among(3), 0);
        assert_eq!(known.incident_attempts, 2);
        let by = known.attempts_by("x").unwrap();
        assert_eq!(
            (by.of_incident, by.last(), by.in_hour(at(9))),
            (1, Some(at(0)), 1)
        );
        known.end_incident();
        assert_eq!(known.incident_attempts, 0);
        let by = known.attempts_by("x").unwrap();
        assert_eq!((by.of_incident, by.in_hour(at(9))), (0, 1));
        assert_eq!(known.attempts_in_hour(at(9)), 2);
        // kept as long as the hour counts it, and while the config has it
        known.prune_strategies(at(3599), |_| false);
        assert_eq!(known.strategies.len(), 1);
        known.prune_strategies(at(3600), |_| true);
        assert_eq!(known.strategies.len(), 1);
        known.prune_strategies(at(3600), |_| false);
        assert!(known.strategies.is_empty());
    }

    #[test]
    fn a_damaged_record_of_runs_is_no_reason_to_restart() {
        let known = ServiceState {
            recent_runs: Some("1\u{1F980}x1".to_owned()),
            consecutive_failures: 7,
            ..ServiceState::default()
        };
        assert_eq!(known.failing_among(9), 2);
    }
}
