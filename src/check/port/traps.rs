//! What of a port probe may not do what was meant: each is made once, as the next run will make it.

use std::sync::Arc;
use std::time::Duration;

use super::super::trap::Trap;
use super::super::{Looking, ServiceContext};
use super::judge::{CERTIFICATE_INVALID, CLOSED, UNEXPECTED, failed};
use super::{Raw, Rule, look, who_listens};
use crate::check::lasting::UNREADABLE;

/// Probes the ports of all services at once.
pub(super) fn traps(
    rules: &[(&Arc<Rule>, &ServiceContext<'_>)],
    looking: &Looking<'_>,
) -> Vec<Vec<Trap>> {
    let probes: Vec<(&Rule, Duration)> = rules
        .iter()
        .map(|(rule, _)| (&***rule, rule.timeout.unwrap_or(looking.check_timeout)))
        .collect();
    let raws = look(&probes, looking.deadline);
    let found = rules.iter().zip(&raws).map(|((rule, service), raw)| {
        let (is_running, is_held) = who_listens(service.process_status, &rule.address);
        let help =
            "see that this is the port of this service, and that it can be reached from here";
        let message = what_to_know(rule, raw, is_running, is_held);
        let trap = message.map(|message| Trap::of("address", message, help));
        let control = (rule.expect.as_ref())
            .and_then(|expect| Trap::of_control("expect", expect, &['\t', '\r', '\n']));
        trap.into_iter().chain(control).collect()
    });
    found.collect()
}

/// What a person should know of a probe before it is relied on, given what it came to just now, whether the service
/// runs, and whether it is the service that listens ([`who_listens`]), where those are known.
fn what_to_know(
    rule: &Rule,
    raw: &Raw,
    is_running: Option<bool>,
    is_held: Option<bool>,
) -> Option<String> {
    let address = &rule.address;
    match raw {
        Raw::NotAsked(why) => Some(format!(
            "{address} {why}; until that is mended the probe is unknown in each run, and finds nothing"
        )),
        Raw::Passed { .. } if is_running == Some(false) => Some(format!(
            "{address} answers although the service does not run: another program listens there, and the probe would pass whatever the service does"
        )),
        Raw::Passed { .. } if is_held == Some(false) => Some(format!(
            "{address} answers, but none of the service's processes listens there: where that is no proxy of it, the probe would pass whatever the service does"
        )),
        Raw::Passed { .. } => None,
        Raw::Failed(failures) => {
            let failed = failed(rule, failures);
            match (&*failed.code, is_running) {
                (UNREADABLE, _) => Some(format!(
                    "{}; until that is mended the probe is unknown in each run, and finds nothing",
                    failed.message
                )),
                (UNEXPECTED | CERTIFICATE_INVALID, Some(false)) => Some(format!(
                    "{}, and the service does not run: another program listens there",
                    failed.message
                )),
                // that nothing listens while nothing runs is as it should be
                (_, Some(false)) => None,
                (code, _) => Some(format!(
                    "{} while the service runs: it would be {code} in the next run",
                    failed.message
                ))
                .filter(|_| is_running == Some(true) || code != CLOSED),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::expecting as rule;
    use super::super::{End, Failure, Fault, Unexpected};
    use super::*;

    fn one(fault: Fault) -> Raw {
        Raw::Failed(vec![Failure {
            place: "10.0.0.1".to_owned(),
            fault,
        }])
    }

    #[test]
    fn traps_say_what_the_probe_will_come_to() {
        let ip = rule("10.0.0.1:1");
        let passed = Raw::Passed {
            certificate_ends: None,
            took: std::time::Duration::ZERO,
        };
        let not_asked = Raw::NotAsked("cannot be resolved: no such name".to_owned());
        let refused = one(Fault::Refused);
        let unexpected = one(Fault::Answer(Unexpected {
            first: b"x".to_vec(),
            length: 1,
            end: End::Closed,
        }));
        for (raw, is_running, part) in [
            (&passed, Some(true), None),
            (&passed, None, None),
            (
                &passed,
                Some(false),
                Some(
                    "10.0.0.1:1 answers although the service does not run: another program listens there",
                ),
            ),
            (
                &not_asked,
                None,
                Some("cannot be resolved: no such name; until that is mended"),
            ),
            (&refused, Some(false), None),
            (&refused, None, None),
            (
                &refused,
                Some(true),
                Some(
                    "nothing listens there while the service runs: it would be port_closed in the next run",
                ),
            ),
            (&unexpected, None, Some("would be port_unexpected")),
            (
                &unexpected,
                Some(false),
                Some("another program listens there"),
            ),
        ] {
            let found = what_to_know(&ip, raw, is_running, None);
            assert_eq!(found.is_some(), part.is_some(), "{found:?}");
            if let Some(part) = part {
                assert!(found.unwrap().contains(part), "{part}");
            }
        }
    }

    #[test]
    fn a_port_of_another_process_is_a_trap() {
        let ip = rule("10.0.0.1:1");
        let passed = Raw::Passed {
            certificate_ends: None,
            took: std::time::Duration::ZERO,
        };
        let found = |is_held| what_to_know(&ip, &passed, Some(true), is_held);
        assert_eq!((found(Some(true)), found(None)), (None, None));
        assert!(
            found(Some(false))
                .unwrap()
                .contains("none of the service's processes listens there")
        );
    }
}
