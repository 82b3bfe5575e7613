//! Commands that say by their exit status how a service is: `pg_isready`, `redis-cli`, Nagios plugins, scripts.
//!
//! Each is run by a guard of its own ([`crate::guard`]), which bounds its time, its output and its processes, and leaves
//! nothing of it behind. So many run side by side; the others wait for their turn, and each has its whole time from when
//! it begins. What was not run is told apart from what failed: a command that is not there says nothing of the service.

use std::sync::Arc;
use std::time::Duration;

use super::trap::Trap;
use super::{
    Can, CheckKind, Checked, Code, Grace, JobOf, Kind, LastLook, Looking, ServiceContext, Severity,
};
use crate::check::lasting::{Failing, UNREADABLE};
use crate::guard::Answer;

mod explain;
mod judge;
mod look;
mod rule;
mod traps;

pub use self::judge::{FAILED, judge};
pub use self::look::look;
pub use self::rule::{Convention, Rule, Surroundings};

/// The exec check.
#[derive(Debug)]
pub struct Execs;

impl CheckKind for Execs {
    type Rule = Rule;
    type State = Failing;

    const KIND: Kind = Kind::Exec;
    const CODES: &'static [Code] = &[
        Code::new(FAILED, Grace::Young, Can::Settable),
        Code::new(UNREADABLE, Grace::Young, Can::Unknown),
    ];
    const IS_PROBE: bool = true;

    fn is_warning(rule: &Rule) -> bool {
        rule.severity == Severity::Warning
    }

    fn fill_in(rule: &mut Rule, check_timeout: Duration) {
        rule.timeout.get_or_insert(check_timeout);
    }

    fn judge_at_once(rule: &mut Rule) {
        rule.for_ = Duration::ZERO;
    }

    fn target(rule: &Rule) -> String {
        rule.target()
    }

    fn look(jobs: Vec<JobOf<Self>>, looking: &Looking<'_>) -> Vec<Checked<Failing>> {
        let rules: Vec<&Rule> = jobs.iter().map(|job| &*job.rule).collect();
        let looked = look(&rules, looking);
        let checked = jobs.iter().zip(&looked).map(|(job, raw)| {
            let nothing = Failing::default();
            let former = job.state.as_deref().unwrap_or(&nothing);
            let took = match raw {
                Raw::Answered(answer) => Some(answer.took),
                Raw::NotAsked(_) => None,
            };
            judge(&job.rule, raw, former, looking.now).after(took)
        });
        checked.collect()
    }

    fn catch_up(state: &mut Failing, later: &Failing) {
        state.took_us = later.took_us;
    }

    fn took(state: &Failing) -> Option<Duration> {
        state.took()
    }

    fn when_stopped(_rule: &Rule, _state: Option<&Failing>) -> Option<Failing> {
        // what fails from now on is the new process's
        Some(Failing::default())
    }

    fn traps(rules: &[(&Arc<Rule>, &ServiceContext<'_>)], looking: &Looking<'_>) -> Vec<Vec<Trap>> {
        traps::traps(rules, looking)
    }

    fn explain(rule: &Rule, state: Option<&Failing>, last: LastLook<'_>) -> String {
        let nothing = Failing::default();
        let lines = explain::explain(rule, state.unwrap_or(&nothing), last);
        format!("exec {}", lines.join("; "))
    }
}

/// What one probe came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// It was run.
    Answered(Answer),
    /// It was not, or not to its end, and so says nothing about the service. The text is a sentence.
    NotAsked(String),
}
