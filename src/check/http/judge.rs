//! What a probe means: findings, notes, and since when it has failed. Nothing here looks at anything.

use std::time::Duration;

use super::look::Wrong;
use super::{CERTIFICATE_EXPIRING, CERTIFICATE_INVALID, FAILED, Raw, Rule, SLOW, Seen, UNEXPECTED};
use crate::check::lasting::{self, Failing, Outcome, UNREADABLE};
use crate::check::port::expiring;
use crate::check::{Checked, Finding, Kind, Severity};
use crate::client::Fault;
use crate::client::http::{self, Answered, Cause, Failure};
use crate::clock::{Reading, rough};
use crate::text::printable;

/// Judges a probe.
pub fn judge(rule: &Rule, raw: &Raw, state: &Failing, now: &Reading) -> Checked<Failing> {
    let mut beside = Vec::new();
    let outcome = match raw {
        Raw::Answered(answered) => {
            beside.extend(answered.certificate_ends.map(|ends| {
                let message = expiring(&rule.url.to_string(), ends, now.wall);
                finding(CERTIFICATE_EXPIRING, Severity::Warning, message)
            }));
            judge_answer(rule, answered)
        }
        Raw::NotAsked(why) => Outcome::Unseen(finding(
            UNREADABLE,
            Severity::Unknown,
            format!("{} {why}", rule.url),
        )),
        Raw::Failed(failure) => {
            let failed = failed(rule, failure);
            if failed.code == UNREADABLE {
                Outcome::Unseen(failed)
            } else {
                Outcome::Failed(failed)
            }
        }
    };
    let mut checked = lasting::judge(outcome, rule.for_, state, now);
    checked.findings.extend(beside);
    checked
}

fn finding(code: &'static str, severity: Severity, message: String) -> Finding {
    Finding::new(Kind::Http, code, severity, message)
}

fn judge_answer(rule: &Rule, answered: &Answered<Seen>) -> Outcome {
    let url = &rule.url;
    let said = said(rule, answered);
    let seen = &answered.answer;
    if !rule.takes(seen.status) {
        let hint = match &seen.redirects_to {
            Some(_) if !rule.follow_redirects => "; set `follow_redirects` where that is meant",
            _ => "",
        };
        let message = format!(
            "{url} {said}, which is not {}{}{hint}",
            rule.statuses(),
            body(seen)
        );
        return Outcome::Failed(finding(FAILED, rule.severity, message));
    }
    let compressed = match &seen.compressed {
        Some(how) => format!(" (it is compressed, {how}, which was not asked for)"),
        None => String::new(),
    };
    match &seen.wrong {
        Some(Wrong::Unsearched(why)) => {
            let message = format!("{url} {said}, and {why}");
            Outcome::Unseen(finding(UNREADABLE, Severity::Unknown, message))
        }
        Some(Wrong::Missing(pattern)) => Outcome::Failed(finding(
            UNEXPECTED,
            rule.severity,
            format!(
                "{url} {said}, but nothing in its body matches `{pattern}`{compressed}{}",
                body(seen)
            ),
        )),
        Some(Wrong::Forbidden(pattern)) => Outcome::Failed(finding(
            UNEXPECTED,
            rule.severity,
            format!(
                "{url} {said}, but its body matches `{pattern}`, which it must not{}",
                body(seen)
            ),
        )),
        None => {
            match rule.max_time.filter(|most| answered.took > *most) {
                // slow only once may be a pause to tidy up: it counts by `for`, as a failure does
                Some(most) => {
                    let message = format!("{url} {said}, slower than {}", rough(most));
                    Outcome::Failed(finding(SLOW, Severity::Warning, message))
                }
                None => Outcome::Passed(Vec::new()),
            }
        }
    }
}

/// What was answered, and how long that took.
fn said(rule: &Rule, answered: &Answered<Seen>) -> String {
    let seen = &answered.answer;
    let from = if answered.url == rule.url {
        String::new()
    } else {
        format!("redirects to {}, which ", answered.url)
    };
    let to = match &seen.redirects_to {
        Some(to) => format!(" (to {to})"),
        None => String::new(),
    };
    format!(
        "{from}answered {}{to} after {}",
        http::shown(seen.status),
        time(answered.took)
    )
}

/// A time that is mostly shorter than a second.
fn time(took: Duration) -> String {
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    rough(Duration::from_millis(milliseconds.max(1)))
}

/// The first bytes of a body, as the end of a sentence.
fn body(seen: &Seen) -> String {
    if seen.length == 0 {
        return "; its body is empty".to_owned();
    }
    // laid out for a browser or a person, a body is mostly blank
    let words: Vec<&[u8]> = (seen.first)
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .collect();
    let mut shown = printable(&words.join(&b' '), seen.first.len());
    if seen.length > seen.first.len() {
        shown.push('…');
    }
    let unit = if seen.length == 1 { "byte" } else { "bytes" };
    format!("; its body is `{shown}` ({} {unit})", seen.length)
}

/// Which code a fault has. In their order, the one that got furthest first, as for ports.
fn code(fault: &Fault<http::Wrong>) -> (u8, &'static str) {
    match fault {
        Fault::Answer(http::Wrong::Unsendable(_)) | Fault::Unreadable(_) => (3, UNREADABLE),
        Fault::Answer(_) | Fault::NoTls(_) => (0, FAILED),
        Fault::Certificate(_) => (1, CERTIFICATE_INVALID),
        Fault::Refused
        | Fault::NoSocket
        | Fault::NotASocket
        | Fault::Reset(_)
        | Fault::HungUp(_)
        | Fault::TimedOut { .. } => (2, FAILED),
    }
}

pub(super) fn failed(rule: &Rule, failure: &Failure) -> Finding {
    let code = match &failure.cause {
        Cause::NotAsked(_) => UNREADABLE,
        Cause::Failed(failures) => {
            let codes = failures.iter().map(|failure| code(&failure.fault));
            codes.min().map_or(UNREADABLE, |(_, code)| code)
        }
    };
    let severity = if code == UNREADABLE {
        Severity::Unknown
    } else {
        rule.severity
    };
    finding(code, severity, failure.sentence(&rule.url.to_string()))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use chrono::TimeDelta;

    use super::*;
    use crate::check::pattern::Pattern;
    use crate::client::http::{StatusCode, Url};
    use crate::client::{self, Step};
    use crate::fixtures::at;

    const TEN: Duration = Duration::from_secs(10);

    fn now() -> Reading {
        Reading {
            wall: at(0),
            boot_ms: 0,
            awake_ms: 0,
            boot_id: "".into(),
        }
    }

    fn judged(rule: &Rule, raw: &Raw) -> Checked<Failing> {
        judge(rule, raw, &Failing::default(), &now())
    }

    fn answer(url: &Url, status: u16, body: &[u8]) -> Answered<Seen> {
        Answered {
            answer: Seen {
                status: StatusCode::from_u16(status).unwrap(),
                wrong: None,
                first: body[..body.len().min(150)].to_vec(),
                length: body.len(),
                redirects_to: None,
                compressed: None,
            },
            url: url.clone(),
            certificate_ends: None,
            took: Duration::from_micros(12_345),
        }
    }

    fn failure(rule: &Rule, fault: Fault<http::Wrong>) -> Raw {
        Raw::Failed(Failure {
            url: Box::new(rule.url.clone()),
            was_redirected: false,
            proxy: None,
            was_sent: false,
            cause: Cause::Failed(vec![client::Failure {
                place: "10.0.0.1".to_owned(),
                fault,
            }]),
        })
    }

    #[test]
    fn an_answer_is_held_against_status_body_and_time() {
        let rule = Rule {
            max_time: Some(Duration::from_secs(2)),
            ..Rule::of("http://10.0.0.1/health")
        };
        let url = &rule.url;
        let with = |change: &dyn Fn(&mut Answered<Seen>)| {
            let mut answered = answer(url, 200, b"{\n  \"status\": \"\x1b[31m\"\n}\n");
            change(&mut answered);
            answered
        };
        let wrong = |wrong: Wrong| with(&|answered| answered.answer.wrong = Some(wrong.clone()));
        for (answered, code, severity, message) in [
            (
                answer(url, 503, b"<h1>no  backend</h1>\r\n"),
                FAILED,
                Severity::Critical,
                "answered 503 Service Unavailable after 12ms, which is not 2xx; its body is `<h1>no backend</h1>` (22 bytes)",
            ),
            (
                answer(url, 500, b""),
                FAILED,
                Severity::Critical,
                "answered 500 Internal Server Error after 12ms, which is not 2xx; its body is empty",
            ),
            (
                answer(url, 599, b"."),
                FAILED,
                Severity::Critical,
                "answered 599 after 12ms, which is not 2xx; its body is `.` (1 byte)",
            ),
            (
                with(&|answered| {
                    answered.answer.status = StatusCode::FOUND;
                    answered.answer.length = 0;
                    answered.answer.redirects_to = Some("https://a.example/login".to_owned());
                }),
                FAILED,
                Severity::Critical,
                "answered 302 Found (to https://a.example/login) after 12ms, which is not 2xx; its body is empty; \
                 set `follow_redirects` where that is meant",
            ),
            (
                wrong(Wrong::Missing("ok".to_owned())),
                UNEXPECTED,
                Severity::Critical,
                "answered 200 OK after 12ms, but nothing in its body matches `ok`; \
                 its body is `{ \"status\": \"\\x1b[31m\" }` (24 bytes)",
            ),
            (
                wrong(Wrong::Forbidden("status".to_owned())),
                UNEXPECTED,
                Severity::Critical,
                "answered 200 OK after 12ms, but its body matches `status`, which it must not; \
                 its body is `{ \"status\": \"\\x1b[31m\" }` (24 bytes)",
            ),
            (
                with(&|answered| {
                    answered.answer.wrong = Some(Wrong::Missing("ok".to_owned()));
                    answered.answer.compressed = Some("gzip".to_owned());
                    answered.answer.first = vec![b'x'; 150];
                    answered.answer.length = 1 << 20;
                }),
                UNEXPECTED,
                Severity::Critical,
                &format!(
                    "answered 200 OK after 12ms, but nothing in its body matches `ok` \
                     (it is compressed, gzip, which was not asked for); its body is `{}…` (1048576 bytes)",
                    "x".repeat(150)
                ),
            ),
            (
                wrong(Wrong::Unsearched(
                    "`(` cannot be searched for: no memory".to_owned(),
                )),
                UNREADABLE,
                Severity::Unknown,
                "answered 200 OK after 12ms, and `(` cannot be searched for: no memory",
            ),
            (
                with(&|answered| answered.took = Duration::from_millis(3200)),
                SLOW,
                Severity::Warning,
                "answered 200 OK after 3.2s, slower than 2s",
            ),
        ] {
            let judged = judged(&rule, &Raw::Answered(Box::new(answered)));
            let [found] = judged.findings.as_slice() else {
                panic!("{judged:?}");
            };
            assert_eq!(found.message, format!("http://10.0.0.1/health {message}"));
            assert_eq!((&*found.code, found.severity), (code, severity));
            let counts = matches!(code, FAILED | UNEXPECTED | SLOW);
            assert_eq!(judged.state.unwrap().failing_since.is_some(), counts);
        }
        let well = judged(&rule, &Raw::Answered(Box::new(answer(url, 204, b""))));
        assert!(well.findings.is_empty() && well.notes.is_empty());
    }

    #[test]
    fn an_answer_that_is_slow_counts_once_it_has_been_so_for_as_long_as_a_failure() {
        let rule = Rule {
            max_time: Some(Duration::from_secs(2)),
            for_: Duration::from_mins(5),
            ..Rule::of("http://10.0.0.1/health")
        };
        let took = |seconds| {
            let mut answered = answer(&rule.url, 200, b"");
            answered.took = Duration::from_secs(seconds);
            Raw::Answered(Box::new(answered))
        };
        let mut state = Failing::default();
        // minutes, how long the answer took, what was found, and whether there is a note of it
        for (minute, seconds, code, is_noted) in [
            (0, 1, None, false),
            (1, 3, None, true),
            (4, 3, None, true),
            // an answer in time ends it
            (5, 1, None, false),
            (6, 3, None, true),
            (10, 3, None, true),
            (11, 3, Some(SLOW), false),
            (12, 3, Some(SLOW), false),
        ] {
            let now = Reading {
                wall: at(minute * 60),
                boot_ms: u64::try_from(minute).unwrap() * 60_000,
                awake_ms: u64::try_from(minute).unwrap() * 60_000,
                ..now()
            };
            let judged = judge(&rule, &took(seconds), &state, &now);
            let found = judged.findings.first();
            assert_eq!(found.map(|found| &*found.code), code, "minute {minute}");
            assert!(found.is_none_or(|found| found.severity == Severity::Warning));
            let noted = judged
                .notes
                .iter()
                .any(|note| note.contains("slower than 2s; that counts once it has lasted 5m ("));
            assert_eq!(noted, is_noted, "minute {minute}: {:?}", judged.notes);
            state = judged.state.unwrap();
        }
    }

    #[test]
    fn each_fault_has_its_code() {
        let rule = Rule::of("http://10.0.0.1/health");
        for (fault, code, ending) in [
            (
                Fault::Refused,
                FAILED,
                "refused the connection: nothing listens there",
            ),
            (
                Fault::NoSocket,
                FAILED,
                "is closed: there is no such socket",
            ),
            (
                Fault::TimedOut {
                    step: Step::Answer,
                    after: TEN,
                },
                FAILED,
                "timed out after 10s: it accepted the connection and sent nothing",
            ),
            (
                Fault::Answer(http::Wrong::None),
                FAILED,
                "closed the connection without an answer",
            ),
            (
                Fault::NoTls("it does not speak TLS".to_owned()),
                FAILED,
                "answers, but it does not speak TLS; write http:// in its URL if that is meant",
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
            (
                Fault::Answer(http::Wrong::Unsendable("odd".to_owned())),
                UNREADABLE,
                "cannot be asked: odd",
            ),
        ] {
            let judged = judged(&rule, &failure(&rule, fault));
            let [found] = judged.findings.as_slice() else {
                panic!("{judged:?}");
            };
            assert_eq!(found.message, format!("http://10.0.0.1/health {ending}"));
            assert_eq!(found.code, code);
            assert_eq!(found.severity == Severity::Unknown, code == UNREADABLE);
            assert!(crate::check::code(code).is_some());
        }
        let unasked = Raw::NotAsked("cannot be asked: the file is not there".to_owned());
        assert_eq!(judged(&rule, &unasked).findings[0].code, UNREADABLE);
        let warning = Rule {
            severity: Severity::Warning,
            for_: Duration::from_secs(60),
            ..rule
        };
        let soon = judged(&warning, &failure(&warning, Fault::Refused));
        assert!(soon.findings.is_empty() && soon.notes[0].contains("counts once it has lasted 1m"));
        let at_once = Rule {
            for_: Duration::ZERO,
            ..warning
        };
        let found = judged(&at_once, &failure(&at_once, Fault::Refused)).findings;
        assert_eq!(found[0].severity, Severity::Warning);
    }

    #[test]
    fn a_certificate_that_ends_soon_is_told_whatever_the_answer_is() {
        let rule = Rule::of("https://me:canary@api.example/health");
        let ends: SystemTime = (at(0) + TimeDelta::days(3)).into();
        for (status, codes) in [
            (200, &[CERTIFICATE_EXPIRING][..]),
            (503, &[FAILED, CERTIFICATE_EXPIRING]),
        ] {
            let mut answered = answer(&rule.url, status, b"");
            answered.certificate_ends = Some(ends);
            let found = judged(&rule, &Raw::Answered(Box::new(answered))).findings;
            let found_codes: Vec<&str> = found.iter().map(|found| &*found.code).collect();
            assert_eq!(found_codes, codes);
            let last = found.last().unwrap();
            assert_eq!(last.severity, Severity::Warning);
            assert!(
                last.message
                    .starts_with("the certificate of https://api.example/*** ends in 3d, at "),
                "{}",
                last.message
            );
        }
    }

    #[test]
    fn what_a_redirect_led_to_is_told() {
        let rule = Rule {
            follow_redirects: true,
            expect: vec![Pattern::new("ok").unwrap()],
            ..Rule::of("http://10.0.0.1/")
        };
        let there = Url::parse("http://10.0.0.2/login").unwrap();
        let found = judged(&rule, &Raw::Answered(Box::new(answer(&there, 403, b"no")))).findings;
        assert_eq!(
            found[0].message,
            "http://10.0.0.1/ redirects to http://10.0.0.2/login, which answered 403 Forbidden after 12ms, \
             which is not 2xx; its body is `no` (2 bytes)"
        );
    }
}
