//! Ports: whether connections are accepted, and answered as expected.
//!
//! All probes of a run share one thread and one poll(2) loop, so that a thousand silent addresses take as long as one.
//! What blocks without a limit (the resolver, the path of a unix socket, files of certificates) is done in helper
//! threads that are given up at the deadline. A probe that could not be made is told apart from one that failed:
//! silence of the other side is a failure, a missing route or descriptor is not.
//!
//! The kernel completes connections for a program that is frozen, so only a probe with `expect` finds one that is.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::pattern::Pattern;
use super::trap::Trap;
use super::{CheckKind, Checked, Code, Grace, JobOf, Kind, LastLook, Looking, ServiceContext};
use crate::check::lasting::{Failing, UNREADABLE};

mod connection;
mod errno;
mod explain;
mod helpers;
mod judge;
mod look;
mod owner;
mod probe;
mod rule;
mod tls;
mod traps;

pub use self::judge::{CERTIFICATE_EXPIRING, CERTIFICATE_INVALID, CLOSED, UNEXPECTED, judge};
pub use self::look::look;
pub use self::owner::is_held_by;
pub use self::rule::{Address, Rule};

/// The port check.
#[derive(Debug)]
pub struct Ports;

impl CheckKind for Ports {
    type Rule = Rule;
    type State = Failing;

    const KIND: Kind = Kind::Port;
    const CODES: &'static [Code] = &[
        Code::new(CLOSED, Grace::Young),
        Code::new(UNEXPECTED, Grace::Young),
        Code::new(UNREADABLE, Grace::Young),
        Code::of_host(CERTIFICATE_INVALID),
        Code::of_host(CERTIFICATE_EXPIRING),
    ];
    const IS_PROBE: bool = true;

    fn fill_in(rule: &mut Rule, check_timeout: Duration) {
        rule.timeout.get_or_insert(check_timeout);
    }

    fn target(rule: &Rule) -> String {
        rule.address.to_string()
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
            judge(&job.rule, raw, former, looking.now)
        });
        checked.collect()
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

/// A certificate that ends sooner than this is reported.
pub const EXPIRY_WARNING: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// What one probe came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// It connected, and the answer was as expected.
    Passed {
        /// When the certificate ends, where that is within [`EXPIRY_WARNING`].
        certificate_ends: Option<SystemTime>,
    },
    /// Each address that was tried failed: one for an IP address or a unix socket, perhaps several for a name.
    Failed(Vec<Failure>),
    /// It could not be made, and so says nothing about the service. The text continues a sentence that begins with the
    /// address.
    NotAsked(String),
}

/// One address that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The IP address or the path.
    pub place: String,
    /// What happened there.
    pub fault: Fault,
}

/// What happened at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing listens there.
    Refused,
    /// There is no file at the path of the unix socket.
    NoSocket,
    /// The file at the path is not a socket.
    NotASocket,
    /// The other side broke the connection off.
    Reset(Step),
    /// The other side closed the connection before it could be judged.
    HungUp(Step),
    /// Nothing happened until the end of the timeout.
    TimedOut {
        /// What was waited for.
        step: Step,
        /// The timeout.
        after: Duration,
    },
    /// What arrived does not match `expect`.
    Unexpected {
        /// The first bytes of it.
        first: Vec<u8>,
        /// How many bytes arrived.
        length: usize,
        /// Why no more were waited for.
        end: End,
    },
    /// No TLS session came about, for another reason than the certificate.
    NoTls(String),
    /// The certificate cannot be trusted; the text continues "its certificate".
    Certificate(String),
    /// The connection could not be tried from here: no route, no permission.
    Unreadable(String),
}

/// How far a connection got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The connection itself.
    Connect,
    /// The TLS handshake.
    Handshake,
    /// Sending, and the answer.
    Answer,
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
        };
        assert_eq!(
            Ports::when_stopped(&rule, Some(&failing)),
            Some(Failing::default())
        );
    }
}
