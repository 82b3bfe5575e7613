//! What a probe means: findings, notes, and since when it has failed. Nothing here looks at anything.

use std::time::SystemTime;

use chrono::{DateTime, Utc};

use super::{End, Failure, Fault, Raw, Rule, Unexpected};
use crate::check::lasting::{self, Failing, Outcome, UNREADABLE};
use crate::check::{Checked, Finding, Kind, Severity};
use crate::client;
use crate::clock::{Reading, age, rough};
use crate::text::printable;

/// Refused, timed out, reset, or no socket.
pub const CLOSED: &str = "port_closed";
/// The answer is not as expected.
pub const UNEXPECTED: &str = "port_unexpected";
/// The certificate cannot be trusted.
pub const CERTIFICATE_INVALID: &str = "certificate_invalid";
/// The certificate ends soon.
pub const CERTIFICATE_EXPIRING: &str = "certificate_expiring";

/// Judges a probe.
pub fn judge(rule: &Rule, raw: &Raw, state: &Failing, now: &Reading) -> Checked<Failing> {
    let outcome = match raw {
        Raw::Passed {
            certificate_ends, ..
        } => {
            let ending = certificate_ends.map(|ends| {
                let message = expiring(&rule.address.to_string(), ends, now.wall);
                Finding::new(Kind::Port, CERTIFICATE_EXPIRING, Severity::Warning, message)
            });
            Outcome::Passed(ending.into_iter().collect())
        }
        Raw::NotAsked(why) => Outcome::Unseen(Finding::new(
            Kind::Port,
            UNREADABLE,
            Severity::Unknown,
            format!("{} {why}", rule.address),
        )),
        Raw::Failed(failures) => {
            let failed = failed(rule, failures);
            if failed.code == UNREADABLE {
                Outcome::Unseen(failed)
            } else {
                Outcome::Failed(failed)
            }
        }
    };
    lasting::judge(outcome, rule.for_, state, now)
}

/// That a certificate of somebody ends soon.
pub fn expiring(whose: &str, ends: SystemTime, now: DateTime<Utc>) -> String {
    format!(
        "the certificate of {whose} ends in {}, at {}; renew it",
        rough(age(DateTime::from(ends), now)),
        humantime::format_rfc3339_seconds(ends)
    )
}

/// Which code a fault has. In their order, the one that got furthest first: an address without a route is no reason to
/// doubt what another one said, since most names have addresses of both kinds and many hosts a route to only one.
fn code(fault: &Fault) -> (u8, &'static str) {
    match fault {
        Fault::Answer(_) | Fault::NoTls(_) => (0, UNEXPECTED),
        Fault::Certificate(_) => (1, CERTIFICATE_INVALID),
        Fault::Refused
        | Fault::NoSocket
        | Fault::NotASocket
        | Fault::Reset(_)
        | Fault::HungUp(_)
        | Fault::TimedOut { .. } => (2, CLOSED),
        Fault::Unreadable(_) => (3, UNREADABLE),
    }
}

pub(super) fn failed(rule: &Rule, failures: &[Failure]) -> Finding {
    let codes = failures.iter().map(|failure| code(&failure.fault));
    let code = codes.min().map_or(UNREADABLE, |(_, code)| code);
    let severity = if code == UNREADABLE {
        Severity::Unknown
    } else {
        rule.severity
    };
    let shown = rule.address.to_string();
    let message = client::failed(&shown, &rule.address, failures, |fault| {
        sentence(rule, fault)
    });
    Finding::new(Kind::Port, code, severity, message)
}

/// What happened, as the rest of a sentence that begins with the address.
fn sentence(rule: &Rule, fault: &Fault) -> String {
    client::sentence(&rule.address, fault, rule.expect.is_some(), |wrong| {
        unexpected(rule, wrong)
    })
}

fn unexpected(rule: &Rule, wrong: &Unexpected) -> String {
    let Unexpected { first, length, end } = wrong;
    let (length, end) = (*length, *end);
    let expected = rule.expect.as_ref().map_or("", |expect| expect.source());
    if length == 0 {
        return format!("closed the connection without an answer; expected `{expected}`");
    }
    let mut shown = printable(first, first.len());
    if length > first.len() {
        shown.push('…');
    }
    let end = match end {
        End::Closed => "then it closed the connection".to_owned(),
        End::Limit => "the most that is read".to_owned(),
        End::Timeout(after) => format!("and no more within {}", rough(after)),
    };
    let unit = if length == 1 { "byte" } else { "bytes" };
    format!("answered `{shown}` ({length} {unit}, {end}), which does not match `{expected}`")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::super::Step;
    use super::super::rule::expecting as rule;
    use super::*;
    use crate::fixtures::at;

    const TEN: Duration = Duration::from_secs(10);

    fn failure(place: &str, fault: Fault) -> Failure {
        Failure {
            place: place.to_owned(),
            fault,
        }
    }

    fn one(fault: Fault) -> Raw {
        Raw::Failed(vec![failure("10.0.0.1", fault)])
    }

    fn timed_out(step: Step) -> Fault {
        Fault::TimedOut { step, after: TEN }
    }

    fn unexpected(first: &[u8], length: usize, end: End) -> Fault {
        Fault::Answer(Unexpected {
            first: first.to_vec(),
            length,
            end,
        })
    }

    /// The clocks of a machine that tells no boot.
    fn now(second: i64) -> Reading {
        Reading {
            wall: at(second),
            boot_ms: 0,
            awake_ms: 0,
            boot_id: "".into(),
        }
    }

    fn now_judged(rule: &Rule, raw: &Raw) -> Checked<Failing> {
        judge(rule, raw, &Failing::default(), &now(0))
    }

    #[test]
    fn each_fault_has_its_code_and_its_sentence() {
        let ip = rule("10.0.0.1:6379");
        let cases = [
            (
                Fault::Refused,
                CLOSED,
                "refused the connection: nothing listens there",
            ),
            (
                Fault::NoSocket,
                CLOSED,
                "is closed: there is no such socket",
            ),
            (
                Fault::NotASocket,
                CLOSED,
                "is closed: the file there is not a socket",
            ),
            (Fault::Reset(Step::Connect), CLOSED, "reset the connection"),
            (
                Fault::Reset(Step::Handshake),
                CLOSED,
                "reset the connection in the TLS handshake",
            ),
            (
                Fault::Reset(Step::Answer),
                CLOSED,
                "reset the connection before it had answered",
            ),
            (
                Fault::HungUp(Step::Handshake),
                CLOSED,
                "closed the connection in the TLS handshake",
            ),
            (
                Fault::HungUp(Step::Answer),
                CLOSED,
                "closed the connection before all was sent",
            ),
            (
                timed_out(Step::Connect),
                CLOSED,
                "timed out after 10s: no connection was accepted",
            ),
            (
                timed_out(Step::Handshake),
                CLOSED,
                "timed out after 10s: it accepted the connection and did not finish the TLS handshake",
            ),
            (
                timed_out(Step::Answer),
                CLOSED,
                "timed out after 10s: it accepted the connection and sent nothing",
            ),
            (
                unexpected(b"", 0, End::Closed),
                UNEXPECTED,
                r"closed the connection without an answer; expected `^\+PONG`",
            ),
            (
                unexpected(b"-ERR\r\n", 6, End::Closed),
                UNEXPECTED,
                r"answered `-ERR\x0d\x0a` (6 bytes, then it closed the connection), which does not match `^\+PONG`",
            ),
            (
                unexpected(b"\xff", 1, End::Timeout(TEN)),
                UNEXPECTED,
                "answered `\u{fffd}` (1 byte, and no more within 10s), which does not match `^\\+PONG`",
            ),
            (
                unexpected(b"ab", 65_536, End::Limit),
                UNEXPECTED,
                r"answered `ab…` (65536 bytes, the most that is read), which does not match `^\+PONG`",
            ),
            (
                Fault::NoTls("it does not speak TLS".to_owned()),
                UNEXPECTED,
                "answers, but it does not speak TLS",
            ),
            (
                Fault::Certificate("is not valid yet".to_owned()),
                CERTIFICATE_INVALID,
                "answers, but its certificate is not valid yet",
            ),
            (
                Fault::Unreadable("cannot be reached: no route to host".to_owned()),
                UNREADABLE,
                "cannot be reached: no route to host",
            ),
        ];
        for (fault, code, ending) in cases {
            let judged = now_judged(&ip, &one(fault));
            let [problem] = judged.findings.as_slice() else {
                panic!("{judged:?}");
            };
            assert_eq!(problem.code, code);
            assert_eq!(problem.message, format!("10.0.0.1:6379 {ending}"));
            let is_unknown = code == UNREADABLE;
            assert_eq!(problem.severity == Severity::Unknown, is_unknown);
            assert_eq!(
                judged.state.clone().unwrap().failing_since.is_none(),
                is_unknown
            );
            assert!(crate::check::code(code).is_some());
        }
    }

    #[test]
    fn a_name_tells_of_its_addresses_and_the_one_that_got_furthest_decides() {
        let name = rule("db.example:5432");
        let unreadable = || Fault::Unreadable("cannot be reached: no route".to_owned());
        let v6 = |fault| failure("fd00::1", fault);
        let v4 = |fault| failure("10.0.0.1", fault);
        for (failures, code, message) in [
            (
                vec![v6(unreadable()), v4(Fault::Refused)],
                CLOSED,
                "db.example:5432 failed at both of its addresses: fd00::1 cannot be reached: no route; \
                 10.0.0.1 refused the connection: nothing listens there",
            ),
            (
                vec![
                    v6(timed_out(Step::Connect)),
                    v4(Fault::NoTls("it does not speak TLS".to_owned())),
                ],
                UNEXPECTED,
                "db.example:5432 failed at both of its addresses: fd00::1 timed out after 10s: no connection was accepted; \
                 10.0.0.1 answers, but it does not speak TLS",
            ),
            (
                vec![v4(Fault::Refused)],
                CLOSED,
                "db.example:5432 (10.0.0.1) refused the connection: nothing listens there",
            ),
            (
                vec![v4(unreadable()); 6],
                UNREADABLE,
                "db.example:5432 failed at all of its addresses: 10.0.0.1 cannot be reached: no route; \
                 10.0.0.1 cannot be reached: no route; 10.0.0.1 cannot be reached: no route; \
                 10.0.0.1 cannot be reached: no route; and 2 more",
            ),
        ] {
            let judged = now_judged(&name, &Raw::Failed(failures));
            assert_eq!(judged.findings[0].code, code);
            assert_eq!(judged.findings[0].message, message);
        }
    }

    #[test]
    fn severity_is_the_rules_own_but_for_what_is_unknown() {
        let warning = Rule {
            severity: Severity::Warning,
            ..rule("10.0.0.1:1")
        };
        let severity = |raw: &Raw| now_judged(&warning, raw).findings[0].severity;
        assert_eq!(severity(&one(Fault::Refused)), Severity::Warning);
        let not_asked = Raw::NotAsked("cannot be resolved: no such name".to_owned());
        assert_eq!(severity(&not_asked), Severity::Unknown);
        // a name without an address
        let untried = now_judged(&warning, &Raw::Failed(Vec::new())).findings;
        assert_eq!(untried[0].severity, Severity::Unknown);
        assert_eq!(
            untried[0].message,
            "10.0.0.1:1 was not tried: it has no address"
        );
    }

    #[test]
    fn a_certificate_that_ends_soon_is_a_warning_and_no_failure() {
        let tls = rule("10.0.0.1:443");
        let ends = at(0) + TimeDelta::days(3) + TimeDelta::hours(2);
        let raw = Raw::Passed {
            certificate_ends: Some(ends.into()),
            took: std::time::Duration::ZERO,
        };
        let failing = Failing {
            failing_since: Some(at(-60).into()),
            ..Failing::default()
        };
        let judged = judge(&tls, &raw, &failing, &now(0));
        assert_eq!(judged.state, Some(Failing::default()));
        assert_eq!(
            judged.findings,
            [Finding::new(
                Kind::Port,
                CERTIFICATE_EXPIRING,
                Severity::Warning,
                format!(
                    "the certificate of 10.0.0.1:443 ends in 3d 2h, at {}; renew it",
                    humantime::format_rfc3339_seconds(ends.into())
                )
            )]
        );
    }

    #[test]
    fn a_failure_counts_once_it_has_lasted() {
        let slow = Rule {
            for_: Duration::from_secs(120),
            ..rule("10.0.0.1:1")
        };
        let refused = one(Fault::Refused);
        let unknown = Raw::NotAsked("cannot be resolved: no such name".to_owned());
        let passed = Raw::Passed {
            certificate_ends: None,
            took: std::time::Duration::ZERO,
        };
        let mut state = Failing::default();
        // seconds, what it came to, whether it is a finding, whether it is a note
        for (second, raw, code, is_noted) in [
            (0, &refused, None, true),
            (60, &refused, None, true),
            (90, &unknown, Some(UNREADABLE), false),
            (119, &refused, None, true),
            (120, &refused, Some(CLOSED), false),
            (180, &refused, Some(CLOSED), false),
            (200, &passed, None, false),
            (210, &refused, None, true),
            // the clock is set back, and it begins anew
            (100, &refused, None, true),
            (219, &refused, None, true),
            (220, &refused, Some(CLOSED), false),
        ] {
            let judged = judge(&slow, raw, &state, &now(second));
            let found = judged.findings.first().map(|finding| &*finding.code);
            assert_eq!(found, code, "{second}");
            assert_eq!(!judged.notes.is_empty(), is_noted, "{second}");
            state = judged.state.unwrap();
        }
        let judged = judge(
            &slow,
            &refused,
            &Failing {
                failing_since: Some(at(-65).into()),
                ..Failing::default()
            },
            &now(0),
        );
        assert_eq!(
            judged.notes,
            ["10.0.0.1:1 refused the connection: nothing listens there; \
              that counts once it has lasted 2m (1m 5s so far)"]
        );
    }

    #[test]
    fn a_clock_that_is_set_makes_a_failure_last_no_longer_and_no_shorter() {
        let slow = Rule {
            for_: Duration::from_secs(120),
            ..rule("10.0.0.1:1")
        };
        let refused = one(Fault::Refused);
        let mut state = Failing::default();
        // seconds since the boot, and how far the wall clock is off
        for (second, off, is_found) in [
            (1000, 0, false),
            (1060, 7200, false),
            (1119, -86_400, false),
            (1120, -86_400, true),
            (1180, 0, true),
        ] {
            let now = Reading {
                boot_ms: second * 1000,
                boot_id: "a".into(),
                ..now(1000 + off)
            };
            let judged = judge(&slow, &refused, &state, &now);
            assert_eq!(!judged.findings.is_empty(), is_found, "{second}");
            state = judged.state.unwrap();
        }
    }

    #[test]
    fn the_state_is_small_and_reads_back() {
        let state = Failing {
            failing_since: Some(at(0).into()),
            ..Failing::default()
        };
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<Failing>(&text).unwrap(), state);
        assert_eq!(serde_json::to_string(&Failing::default()).unwrap(), "{}");
    }

    fn any_fault() -> impl Strategy<Value = Fault> {
        let step = || {
            prop_oneof![
                Just(Step::Connect),
                Just(Step::Handshake),
                Just(Step::Answer)
            ]
        };
        prop_oneof![
            Just(Fault::Refused),
            Just(Fault::NoSocket),
            step().prop_map(Fault::Reset),
            step().prop_map(timed_out),
            proptest::collection::vec(any::<u8>(), 0..100).prop_map(|first| unexpected(
                &first,
                first.len(),
                End::Closed
            )),
            "\\PC{0,20}".prop_map(Fault::Certificate),
            "\\PC{0,20}".prop_map(Fault::Unreadable),
        ]
    }

    proptest! {
        #[test]
        fn what_could_not_be_asked_never_counts_and_what_failed_always_does(
            faults in proptest::collection::vec(any_fault(), 1..8),
            since in proptest::option::of(-500i64..500),
            for_ in 0u64..400,
        ) {
            let rule = Rule { for_: Duration::from_secs(for_), ..rule("db.example:1") };
            let all_unreadable = faults.iter().all(|fault| matches!(fault, Fault::Unreadable(_)));
            let failures = faults.into_iter().map(|fault| failure("10.0.0.1", fault)).collect();
            let state = Failing { failing_since: since.map(|since| at(since).into()), ..Failing::default() };
            let judged = judge(&rule, &Raw::Failed(failures), &state, &now(0));
            prop_assert_eq!(judged.findings.len() + judged.notes.len(), 1);
            if all_unreadable {
                prop_assert_eq!(judged.findings[0].severity, Severity::Unknown);
                prop_assert_eq!(judged.state.as_ref(), Some(&state));
            } else {
                let lasted = since.map_or(0, |since| -since.min(0)).unsigned_abs();
                prop_assert_eq!(judged.notes.is_empty(), lasted >= for_);
                prop_assert!(judged.state.clone().unwrap().failing_since.is_some_and(|since| since.wall() <= at(0)));
            }
            for text in judged.notes.iter().chain(judged.findings.iter().map(|p| &p.message)) {
                prop_assert!(!text.contains(['\r', '\n', '\x1b']), "{:?}", text);
            }
        }
    }
}
