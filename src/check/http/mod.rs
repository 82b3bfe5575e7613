//! HTTP: whether an endpoint answers, with the status and the body that it should, and in time.
//!
//! All probes of a run are [requests](crate::client::http) side by side: a thousand silent endpoints take as long as one,
//! and a probe that could not be made is told apart from one that failed.
//!
//! The body of an answer is looked at when it is whole, and only what was seen of it is kept.

use std::sync::Arc;
use std::time::Duration;

use super::lasting::{Failing, UNREADABLE};
use super::port::{CERTIFICATE_EXPIRING, CERTIFICATE_INVALID};
use super::trap::Trap;
use super::{
    Can, CheckKind, Checked, Code, Grace, JobOf, Kind, LastLook, Looking, ServiceContext, Severity,
};
use crate::secret::Kept;

mod explain;
mod judge;
mod look;
mod rule;
mod traps;

pub use self::judge::judge;
pub use self::look::{Raw, Seen, look};
pub(crate) use self::rule::{HeaderFiles, Headers};
pub use self::rule::{Rule, Status, Verb};

/// No answer, or a bad status.
pub const FAILED: &str = "http_failed";
/// The body is not as expected.
pub const UNEXPECTED: &str = "http_unexpected";
/// The answer took too long.
pub const SLOW: &str = "http_slow";

/// Of a body that is not as expected, so many bytes are shown.
const KEPT: usize = 150;

/// The HTTP check.
#[derive(Debug)]
pub struct Https;

impl CheckKind for Https {
    type Rule = Rule;
    type State = Failing;

    const KIND: Kind = Kind::Http;
    const CODES: &'static [Code] = &[
        Code::new(FAILED, Grace::Young, Can::Settable),
        Code::new(UNEXPECTED, Grace::Young, Can::Settable),
        Code::new(SLOW, Grace::Young, Can::Warning),
        Code::new(UNREADABLE, Grace::Young, Can::Unknown),
        Code::of_host(CERTIFICATE_INVALID, Can::Settable),
        Code::of_host(CERTIFICATE_EXPIRING, Can::Warning),
    ];
    const IS_PROBE: bool = true;

    fn is_warning(rule: &Rule) -> bool {
        rule.severity == Severity::Warning
    }

    fn fill_in(rule: &mut Rule, check_timeout: Duration) {
        rule.timeout.get_or_insert(check_timeout);
    }

    fn target(rule: &Rule) -> String {
        rule.url.to_string()
    }

    fn judge_at_once(rule: &mut Rule) {
        rule.for_ = Duration::ZERO;
    }

    fn secrets(rule: &Rule) -> Vec<Kept<'_>> {
        rule.secrets()
    }

    fn look(jobs: Vec<JobOf<Self>>, looking: &Looking<'_>) -> Vec<Checked<Failing>> {
        let rules: Vec<Arc<Rule>> = jobs.iter().map(|job| Arc::clone(&job.rule)).collect();
        let raws = look(&rules, looking);
        let checked = jobs.iter().zip(&raws).map(|(job, raw)| {
            let nothing = Failing::default();
            let former = job.state.as_deref().unwrap_or(&nothing);
            let took = match raw {
                Raw::Answered(answered) => Some(answered.took),
                Raw::Failed(_) | Raw::NotAsked(_) => None,
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
        let timeout = rule.timeout.unwrap_or_default();
        explain::explain(rule, timeout, state.unwrap_or(&nothing), last).join("; ")
    }
}
