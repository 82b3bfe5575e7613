//! Asking checks again after something was done, until they pass or the time is over.

use std::time::{Duration, Instant};

use super::RestartContext;
use crate::check::{
    self, Check, CheckStates, Circumstances, Finding, Job, Looking, Severity, log::Author,
};
use crate::clock::Reading;
use crate::pool::Pool;

/// The first pause between two looks; each is longer than the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A first look may take so long where no time is left at all.
const LEAST: Duration = Duration::from_secs(1);

/// What asking depends on beside what is asked: the same for all of a run.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    /// The limit of one check.
    pub check_timeout: Duration,
    /// The limit of the run.
    pub run_timeout: Duration,
    /// When the run has to end.
    pub run_ends: Instant,
}

/// How one check answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Passed,
    Failed,
    /// It could not be asked.
    Unseen,
}

/// What checks came to that did not pass, and what all of them remember.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Those that failed: their names, and what was found last.
    pub(super) failed: Vec<(String, String)>,
    /// Those that could not be asked, likewise.
    pub(super) unseen: Vec<(String, String)>,
    /// What they remember.
    pub(super) states: CheckStates,
}

impl Answers {
    /// The names of all that did not pass.
    pub(super) fn pending(&self) -> Vec<String> {
        let all = self.failed.iter().chain(&self.unseen);
        all.map(|(name, _)| name.clone()).collect()
    }
}

/// What findings say of a check, where a failure is what `is_failure` takes for one.
fn answer(findings: &[Finding], is_failure: impl Fn(&Finding) -> bool) -> Answer {
    if findings.iter().any(is_failure) {
        Answer::Failed
    } else if (findings.iter()).any(|finding| finding.severity == Severity::Unknown) {
        Answer::Unseen
    } else {
        Answer::Passed
    }
}

/// Asks checks, all of them side by side, and those again that do not pass, until all have or it is over: at `until`, or
/// a little before the run ends, or when it is no longer `worth` it. Each is asked once in any case.
pub(super) fn ask(
    checks: &[&Check],
    context: &RestartContext<'_>,
    until: Instant,
    is_failure: impl Fn(&Finding) -> bool,
    worth: impl Fn() -> bool,
) -> Answers {
    let now = Instant::now();
    let asking = &context.asking;
    // what was done is still to be told of
    let run_ends = asking.run_ends.checked_sub(LEAST).unwrap_or(now);
    let until = until.max(now + LEAST).min(run_ends.max(now));
    let pool = Pool::new();
    let mut answers = Answers::default();
    let mut open: Vec<(&Check, Answer, String)> = (checks.iter())
        .map(|check| (*check, Answer::Unseen, String::new()))
        .collect();
    let mut pause = FIRST_PAUSE;
    loop {
        let time = Reading::take();
        let looking = Looking {
            pool: &pool,
            now: &time,
            jumped_at: None,
            check_timeout: asking.check_timeout,
            run_timeout: asking.run_timeout,
            deadline: until,
        };
        let jobs = open.iter().enumerate().map(|(place, (check, ..))| {
            let mut rule = check.rule.clone();
            // what has to last before it counts would pass for now
            rule.judge_at_once();
            Job {
                slot: (0, place),
                rule,
                state: None,
                circumstances: Circumstances {
                    author: Author::Present,
                    shown: false,
                    runs: None,
                    repaired: None,
                },
            }
        });
        let is_last = |now: Instant| now >= until;
        for ((_, place), checked) in check::look(jobs.collect(), &looking) {
            let (check, latest, why) = &mut open[place];
            let now = answer(&checked.findings, &is_failure);
            // a look that had no time left says less than the one before
            if now == Answer::Unseen && *latest == Answer::Failed && is_last(Instant::now()) {
                continue;
            }
            *latest = now;
            let worst = checked.findings.iter().max_by_key(|it| it.severity);
            *why = worst.map(|it| it.message.clone()).unwrap_or_default();
            if let Some(state) = checked.state {
                answers.states.insert(check.id.clone(), state);
            }
        }
        open.retain(|(_, answer, _)| *answer != Answer::Passed);
        let left = until.saturating_duration_since(Instant::now());
        if open.is_empty() || left.is_zero() || !worth() {
            break;
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
    for (check, answer, why) in open {
        let name = format!("{} {}", check.rule.kind_name(), check.rule.target());
        match answer {
            Answer::Failed => answers.failed.push((name, why)),
            _ => answers.unseen.push((name, why)),
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Kind;

    #[test]
    fn what_only_warns_passes_and_what_could_not_be_asked_is_no_failure() {
        use Severity::{Critical, Unknown, Warning};
        type Case<'a> = (&'a [(&'static str, Severity)], Answer, Answer);
        let cases: [Case<'_>; 7] = [
            (&[], Answer::Passed, Answer::Passed),
            (&[("port_closed", Warning)], Answer::Passed, Answer::Passed),
            (&[("port_closed", Critical)], Answer::Failed, Answer::Failed),
            (
                &[("probe_unreadable", Unknown)],
                Answer::Unseen,
                Answer::Unseen,
            ),
            (
                &[("probe_unreadable", Unknown), ("port_closed", Critical)],
                Answer::Failed,
                Answer::Failed,
            ),
            // a restart does not mend it, but a repair may
            (
                &[("certificate_invalid", Critical)],
                Answer::Passed,
                Answer::Failed,
            ),
            (&[("disk_full", Critical)], Answer::Passed, Answer::Failed),
        ];
        for (found, restarted, repaired) in cases {
            let findings: Vec<Finding> = (found.iter())
                .map(|&(code, severity)| Finding::new(Kind::Port, code, severity, ""))
                .collect();
            let is_critical = |finding: &Finding| finding.severity == Critical;
            let got = (
                answer(&findings, Finding::is_reason_to_restart),
                answer(&findings, is_critical),
            );
            assert_eq!(got, (restarted, repaired), "{found:?}");
        }
    }
}
