//! What of an HTTP probe may not do what was meant: each is made once, as the next run will make it.

use std::sync::Arc;

use super::super::port::who_listens;
use super::super::trap::Trap;
use super::super::{Looking, ServiceContext};
use super::{FAILED, Raw, Rule, UNEXPECTED, look};
use crate::check::Finding;
use crate::check::lasting::{Failing, UNREADABLE};
use crate::client::Fault;
use crate::client::http::{Cause, Failure};
use crate::clock::{Reading, exact};

/// Asks the endpoints of all services at once.
pub(super) fn traps(
    rules: &[(&Arc<Rule>, &ServiceContext<'_>)],
    looking: &Looking<'_>,
) -> Vec<Vec<Trap>> {
    let asked: Vec<Arc<Rule>> = rules.iter().map(|(rule, _)| Arc::clone(rule)).collect();
    let raws = look(&asked, looking);
    let found = rules.iter().zip(&raws).map(|((rule, service), raw)| {
        let (is_running, is_held) = who_listens(service.process_status, rule.url.address());
        let mut traps = what_to_know(rule, raw, is_running, is_held, looking.now);
        let timeout = rule.timeout.unwrap_or(looking.check_timeout);
        traps.extend(rule.max_time.filter(|most| *most >= timeout).map(|most| {
            Trap::of(
                "max_time",
                format!(
                    "max_time {} is not less than the timeout, {}: no answer would ever be slow",
                    exact(most),
                    exact(timeout)
                ),
                "set it to what is slow, and `timeout` to what has failed",
            )
        }));
        let but = ['\t', '\r', '\n'];
        let expect = rule.expect.iter().map(|pattern| ("expect", pattern));
        let forbid = rule.forbid.iter().map(|pattern| ("forbid", pattern));
        let controls = expect.chain(forbid);
        traps.extend(controls.filter_map(|(key, pattern)| Trap::of_control(key, pattern, &but)));
        traps
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
    now: &Reading,
) -> Vec<Trap> {
    const URL: &str =
        "see that this is the endpoint of this service, and that it can be reached from here";
    let url = &rule.url;
    // what lasts is no matter here
    let rule = &Rule {
        for_: std::time::Duration::ZERO,
        ..rule.clone()
    };
    let findings = super::judge(rule, raw, &Failing::default(), now).findings;
    if findings.is_empty() || !findings.iter().any(is_failure) {
        let other = match (is_running, is_held) {
            (Some(false), _) => Some(format!(
                "{url} answers although the service does not run: another program listens there, and the probe would pass whatever the service does"
            )),
            (_, Some(false)) => Some(format!(
                "{url} answers, but none of the service's processes listens there: where that is no proxy of it, the probe would pass whatever the service does"
            )),
            _ => None,
        };
        let other = other.map(|message| Trap::of("url", message, URL));
        let warnings = findings.iter().map(|warning| {
            let key = if warning.code == super::SLOW {
                "max_time"
            } else {
                "url"
            };
            would_be(
                warning,
                key,
                "renew the certificate, or set `max_time` to what is slow",
            )
        });
        return warnings.chain(other).collect();
    }
    let traps = findings.iter().filter_map(|finding| {
        let help = match &*finding.code {
            UNEXPECTED => {
                "see what the endpoint answers when it is well, and what the patterns are to match"
            }
            _ => URL,
        };
        match (&*finding.code, is_running) {
            (UNREADABLE, _) => Some(Trap::of(
                "url",
                format!(
                    "{}; until that is mended the probe is unknown in each run, and finds nothing",
                    finding.message
                ),
                help,
            )),
            // that nothing answers while nothing runs is as it should be
            (FAILED, Some(false) | None) if is_closed(raw) => None,
            (_, Some(false)) => Some(Trap::of(
                "url",
                format!(
                    "{}, and the service does not run: another program listens there",
                    finding.message
                ),
                help,
            )),
            (code, _) => {
                let key = match (code, raw) {
                    (FAILED, Raw::Answered(_)) => "status",
                    (UNEXPECTED, _) if rule.expect.is_empty() => "forbid",
                    (UNEXPECTED, _) => "expect",
                    _ => "url",
                };
                Some(would_be(finding, key, help))
            }
        }
    });
    traps.collect()
}

/// Whether nobody answered at all.
fn is_closed(raw: &Raw) -> bool {
    let Raw::Failed(Failure {
        cause: Cause::Failed(failures),
        ..
    }) = raw
    else {
        return false;
    };
    let is_closed = |fault: &Fault<_>| {
        !matches!(
            fault,
            Fault::Answer(_) | Fault::NoTls(_) | Fault::Certificate(_) | Fault::Unreadable(_)
        )
    };
    failures.iter().all(|failure| is_closed(&failure.fault))
}

fn is_failure(finding: &Finding) -> bool {
    finding.severity > crate::check::Severity::Warning
        || matches!(&*finding.code, FAILED | UNEXPECTED)
        || finding.code == super::CERTIFICATE_INVALID
}

fn would_be(finding: &Finding, key: &'static str, help: &'static str) -> Trap {
    let message = format!(
        "{}: it would be {} in the next run",
        finding.message, finding.code
    );
    Trap::of(key, message, help)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::look::{Seen, Wrong};
    use super::*;
    use crate::check::pattern::Pattern;
    use crate::client;
    use crate::client::http::{Answered, StatusCode};

    fn rule() -> Rule {
        Rule {
            expect: vec![Pattern::new("ok").unwrap()],
            max_time: Some(Duration::from_secs(1)),
            ..Rule::of("http://10.0.0.1/")
        }
    }

    fn answered(status: u16, wrong: Option<Wrong>, took: Duration) -> Raw {
        Raw::Answered(Box::new(Answered {
            answer: Seen {
                status: StatusCode::from_u16(status).unwrap(),
                wrong,
                first: Vec::new(),
                length: 0,
                redirects_to: None,
                compressed: None,
            },
            url: rule().url,
            certificate_ends: None,
            took,
        }))
    }

    #[test]
    fn traps_say_what_the_probe_will_come_to() {
        let fast = Duration::from_millis(1);
        let well = || answered(200, None, fast);
        let missing = || answered(200, Some(Wrong::Missing("ok".to_owned())), fast);
        let broken = |fault| {
            Raw::Failed(Failure {
                url: Box::new(rule().url),
                was_redirected: false,
                proxy: None,
                was_sent: false,
                cause: Cause::Failed(vec![client::Failure {
                    place: "10.0.0.1".to_owned(),
                    fault,
                }]),
            })
        };
        let refused = || broken(Fault::Refused);
        let unresolved = || Raw::NotAsked("cannot be resolved: no such name".to_owned());
        for (raw, is_running, is_held, expected) in [
            (well(), Some(true), Some(true), None),
            (well(), None, None, None),
            (
                well(),
                Some(false),
                None,
                Some(("url", "answers although the service does not run")),
            ),
            (
                well(),
                Some(true),
                Some(false),
                Some(("url", "none of the service's processes listens there")),
            ),
            (
                unresolved(),
                None,
                None,
                Some(("url", "until that is mended the probe is unknown")),
            ),
            (refused(), Some(false), None, None),
            (refused(), None, None, None),
            (
                refused(),
                Some(true),
                None,
                Some(("url", "it would be http_failed in the next run")),
            ),
            (
                broken(Fault::NoTls("it does not speak TLS".to_owned())),
                None,
                None,
                Some(("url", "it would be http_failed in the next run")),
            ),
            (
                answered(404, None, fast),
                None,
                None,
                Some(("status", "it would be http_failed in the next run")),
            ),
            (
                missing(),
                Some(true),
                Some(true),
                Some(("expect", "it would be http_unexpected in the next run")),
            ),
            (
                missing(),
                Some(false),
                None,
                Some(("url", "another program listens there")),
            ),
            (
                answered(200, None, Duration::from_secs(3)),
                Some(true),
                Some(true),
                Some(("max_time", "it would be http_slow in the next run")),
            ),
        ] {
            let traps = what_to_know(&rule(), &raw, is_running, is_held, &Reading::take());
            match (traps.as_slice(), expected) {
                ([], None) => {}
                ([trap], Some((key, part))) => {
                    assert!(trap.message.contains(part), "{}", trap.message);
                    assert_eq!(trap.place, super::super::super::trap::Place::Table(key));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
