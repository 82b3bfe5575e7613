//! Ports: whether connections are accepted, and answered as expected.
//!
//! All probes of a run are [conversations](crate::client) side by side: a thousand silent addresses take as long as one,
//! and a probe that could not be made is told apart from one that failed.
//!
//! The kernel completes connections for a program that is frozen, so only a probe with `expect` finds one that is.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::pattern::Pattern;
use super::trap::Trap;
use super::{
    Can, CheckKind, Checked, Code, Grace, JobOf, Kind, LastLook, Looking, ServiceContext, Severity,
};
use crate::check::lasting::{Failing, UNREADABLE};
use crate::client;

mod explain;
mod judge;
mod look;
mod owner;
mod rule;
mod traps;

pub use self::judge::{
    CERTIFICATE_EXPIRING, CERTIFICATE_INVALID, CLOSED, UNEXPECTED, expiring, judge,
};
pub use self::look::{Probe, Question, look};
pub use self::owner::who_listens;
pub use self::rule::Rule;
pub use crate::client::{Address, Step};

/// The port check.
#[derive(Debug)]
pub struct Ports;

impl CheckKind for Ports {
    type Rule = Rule;
    type State = Failing;

    const KIND: Kind = Kind::Port;
    const CODES: &'static [Code] = &[
        Code::new(CLOSED, Grace::Young, Can::Settable),
        Code::new(UNEXPECTED, Grace::Young, Can::Settable),
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
        rule.address.to_string()
    }

    fn judge_at_once(rule: &mut Rule) {
        rule.for_ = Duration::ZERO;
    }

    fn look(jobs: Vec<JobOf<Self>>, looking: &Looking<'_>) -> Vec<Checked<Failing>> {
        let probes: Vec<(&Rule, Duration)> = jobs
            .iter()
            .map(|job| {
                let timeout = job.rule.timeout.unwrap_or(looking.check_timeout);
                (&*job.rule, timeout)
            })
            .collect();
        let looked = look(&probes, looking.deadline);
        let checked = jobs.iter().zip(&looked).map(|(job, raw)| {
            let nothing = Failing::default();
            let former = job.state.as_deref().unwrap_or(&nothing);
            // an answer that cannot be held against its pattern says nothing about the service
            let fault = job.rule.expect.as_ref().and_then(Pattern::fault);
            let raw = &fault.map_or_else(|| raw.clone(), Raw::NotAsked);
            let took = match raw {
                Raw::Passed { took, .. } => Some(*took),
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
        let lines = explain::explain(rule, timeout, state.unwrap_or(&nothing), last);
        format!("port {}", lines.join("; "))
    }
}

/// So much of an answer is read.
pub const ANSWER_LIMIT: usize = 64 << 10;

/// Of an answer that is not as expected, so many bytes are kept.
const KEPT: usize = 100;

/// What one probe came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// It connected, and the answer was as expected.
    Passed {
        /// When the certificate ends, where that is [soon](crate::client::EXPIRY_WARNING).
        certificate_ends: Option<SystemTime>,
        /// How long that took from the first connection on.
        took: Duration,
    },
    /// Each address that was tried failed: one for an IP address or a unix socket, perhaps several for a name.
    Failed(Vec<Failure>),
    /// It could not be made, and so says nothing about the service. The text continues a sentence that begins with the
    /// address.
    NotAsked(String),
}

/// One address that failed.
pub type Failure = client::Failure<Unexpected>;

/// What happened at an address.
pub type Fault = client::Fault<Unexpected>;

/// What arrived does not match `expect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unexpected {
    /// The first bytes of it.
    pub first: Vec<u8>,
    /// How many bytes arrived.
    pub length: usize,
    /// Why no more were waited for.
    pub end: End,
}

/// Why no more of an answer was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The other side closed the connection.
    Closed,
    /// [`ANSWER_LIMIT`] was reached.
    Limit,
    /// The timeout, of this length, was over.
    Timeout(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::at;

    #[test]
    fn what_failed_before_a_restart_does_not_count_for_the_new_process() {
        let rule = Rule::new(Address::parse("127.0.0.1:4002").unwrap());
        let failing = Failing {
            failing_since: Some(at(0).into()),
            ..Failing::default()
        };
        assert_eq!(
            Ports::when_stopped(&rule, Some(&failing)),
            Some(Failing::default())
        );
    }
}
