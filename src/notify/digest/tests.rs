use super::*;
use crate::check::{self, Finding, Kind};
use crate::fixtures::{self, action, stale};
use crate::notify::Severity;
use crate::notify::outbox::FILE_LIMIT;
use crate::restart::Action;

const CONTEXT: Context<'_> = Context {
    config: None,
    table: "mail",
    rate_limited: 0,
    nonce: 0,
};

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn alert(service: &str, event: Event) -> Alert {
    Alert {
        time: time("2026-11-22T01:02:03Z"),
        ..fixtures::alert(service, event)
    }
}

fn digest(now: &str, alerts: &[Alert]) -> Notification {
    let context = Context {
        nonce: 0x9f,
        ..CONTEXT
    };
    compose("box1", time(now), alerts, &context).unwrap()
}

/// The body with the version left out of its last line.
fn body(message: &Notification) -> String {
    message.body.replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

#[test]
fn nothing_to_report_is_no_notification() {
    let context = Context {
        rate_limited: 3,
        ..CONTEXT
    };
    assert_eq!(
        compose("box1", time("2026-11-22T01:02:03Z"), &[], &context),
        None
    );
}

#[test]
fn a_restart_is_reported_whole() {
    let mut restarted = alert("trader", Event::Restarted);
    restarted.findings.push(stale());
    restarted.action = Some(action());
    restarted.attempts = 1;
    restarted.since = Some(time("2026-11-22T01:00:00Z"));
    restarted.log_tail = vec![
        "2026-11-22 00:54:51 tick\r\n".to_owned(),
        String::new(),
        "\x1b[31mred\x1b[0m".to_owned(),
    ];
    let message = digest("2026-11-22T01:02:05Z", &[restarted]);
    assert_eq!(message.subject, "[watchdog] box1: trader restarted");
    assert_eq!(
        body(&message),
        "\
trader was restarted and is up again.

When: 2026-11-22T01:02:03Z (just now)
In trouble since: 2026-11-22T01:00:00Z (2m 5s ago)
Seen:
- logs/trader.log: no write for 7m 12s (limit 5m)
Done: stopped PID 4711, started PID 4980 (spawn, took 2.3s).
Restarts: 1 of 3 in the last hour, 2 left.

Last log lines:
> 2026-11-22 00:54:51 tick
>
> \\x1b[31mred\\x1b[0m

Nothing has to be done at once. To see what happened:
  watchdog status trader
  watchdog history trader

--
box1, 2026-11-22T01:02:05Z, watchdog VERSION
"
    );
    assert_eq!(message.id, "20261122T010205Z.trader.000000000000009f");
    assert_eq!(message.host, "box1");
    assert_eq!(message.severity, Severity::Warning);
    assert_eq!(message.services, ["trader"]);
    assert_eq!(message.event, Event::Restarted);
}

#[test]
fn a_failed_start_brings_its_error_and_its_last_words() {
    let mut failed = alert("trader", Event::RestartFailed);
    failed.action = Some(Action {
        ok: false,
        old_pid: None,
        new_pid: None,
        duration_ms: 250,
        error: Some("it exited with status 1 after 0.2s".to_owned()),
        stderr: vec![
            "Traceback (most recent call last):".to_owned(),
            "ModuleNotFoundError: No module named 'ccxt'".to_owned(),
        ],
        ..action()
    });
    failed.attempts = 2;
    failed.notes = vec!["the log was not read".to_owned()];
    let message = digest("2026-11-22T01:02:03Z", &[failed]);
    assert_eq!(message.subject, "[watchdog] box1: trader restart failed");
    assert_eq!(
        body(&message),
        "\
trader is broken, and could not be restarted.

When: 2026-11-22T01:02:03Z (just now)
Done: tried to start it (spawn, took 250ms).
It failed: it exited with status 1 after 0.2s

The last lines of its standard error:
> Traceback (most recent call last):
> ModuleNotFoundError: No module named 'ccxt'

Restarts: 2 of 3 in the last hour, 1 left.
Note: the log was not read

Somebody has to find the cause. To look at it, and to look again:
  watchdog status trader
  watchdog history trader
  watchdog check --dry-run trader
When the cause is mended, to restart it at once:
  watchdog restart trader --force
To have it left alone for a while, without restarts and mails:
  watchdog pause trader --for 2h --reason 'being mended'

--
box1, 2026-11-22T01:02:03Z, watchdog VERSION
"
    );
}

#[test]
fn f48_exhaustion_says_that_restarting_does_not_help() {
    let mut exhausted = alert("trader", Event::Exhausted);
    exhausted.findings.push(stale());
    exhausted.attempts = 3;
    exhausted.same_finding = Some("log_stale".to_owned());
    exhausted.next_attempt = Some(time("2026-11-22T01:40:00Z"));
    let config = Path::new("/srv/my bots/watchdog.toml");
    let context = Context {
        config: Some(config),
        rate_limited: 4,
        ..CONTEXT
    };
    let message = compose("box1", time("2026-11-22T01:02:03Z"), &[exhausted], &context).unwrap();
    assert_eq!(message.subject, "[watchdog] box1: trader exhausted");
    assert_eq!(
        body(&message),
        "\
trader is broken, and its restarts are used up: logs/trader.log: no write for
7m 12s (limit 5m)

When: 2026-11-22T01:02:03Z (just now)
Seen:
- logs/trader.log: no write for 7m 12s (limit 5m)
Done: nothing.
Restarts: 3 of 3 in the last hour, none left.
Every attempt of this incident met the same finding (log_stale): restarting
does not help, and the cause lies elsewhere.
Next attempt: 2026-11-22T01:40:00Z (in 37m 57s)

Somebody has to find the cause. To look at it, and to look again:
  watchdog -c '/srv/my bots/watchdog.toml' status trader
  watchdog -c '/srv/my bots/watchdog.toml' history trader
  watchdog -c '/srv/my bots/watchdog.toml' check --dry-run trader
When the cause is mended, to restart it before then:
  watchdog -c '/srv/my bots/watchdog.toml' restart trader --force
To have it left alone for a while, without restarts and mails:
  watchdog -c '/srv/my bots/watchdog.toml' pause trader --for 2h --reason 'being mended'

4 messages were held back before this one, because the hourly limit
(mail.max_per_hour) was reached. What they had to tell is in this one.

--
box1, 2026-11-22T01:02:03Z, watchdog VERSION
"
    );
}

#[test]
fn f47_one_recovers_and_another_fails_and_both_are_reported() {
    let mut recovered = alert("feed", Event::Recovered);
    recovered.since = Some(time("2026-11-22T00:32:03Z"));
    recovered.findings.push(stale());
    let mut down = alert("db", Event::Down);
    down.findings.push(Finding::new(
        Kind::Process,
        "process_missing",
        check::Severity::Critical,
        "no process: /run/db.pid names PID 77, which is gone",
    ));
    let message = digest("2026-11-22T01:02:03Z", &[recovered, down]);
    assert_eq!(message.subject, "[watchdog] box1: db down (+1 more)");
    assert_eq!(message.services, ["db", "feed"]);
    assert_eq!(message.event, Event::Down);
    assert_eq!(
        body(&message),
        "\
2 things to tell:
- db down (2026-11-22T01:02:03Z)
- feed recovered (2026-11-22T01:02:03Z)

----------------------------------------
db is broken, and the watchdog does not restart it: no process: /run/db.pid
names PID 77, which is gone

When: 2026-11-22T01:02:03Z (just now)
Seen:
- no process: /run/db.pid names PID 77, which is gone
Done: nothing.

It has to be put right by hand. To look at it, and to look again:
  watchdog status db
  watchdog history db
  watchdog check --dry-run db
To have it left alone for a while, without restarts and mails:
  watchdog pause db --for 2h --reason 'being mended'

----------------------------------------
feed is well again.

When: 2026-11-22T01:02:03Z (just now)
In trouble from: 2026-11-22T00:32:03Z (30m ago)
Seen then:
- logs/trader.log: no write for 7m 12s (limit 5m)

Nothing has to be done. What happened:
  watchdog status feed
  watchdog history feed

--
box1, 2026-11-22T01:02:03Z, watchdog VERSION
"
    );
}

#[test]
fn f71_what_is_reported_late_says_when_it_happened() {
    let mut exhausted = alert("trader", Event::Exhausted);
    exhausted.time = time("2026-11-20T01:02:03Z");
    exhausted.attempts = 3;
    let mut recovered = alert("trader", Event::Recovered);
    recovered.time = time("2026-11-20T02:02:03Z");
    // in whatever order they are kept
    let message = digest("2026-11-22T01:02:03Z", &[recovered, exhausted]);
    assert_eq!(
        message.subject,
        "[watchdog] box1: trader exhausted, then recovered"
    );
    assert!(
        message.body.contains(
            "trader is broken, and its restarts are used up.\n\
                 This happened 2d ago and could not be sent before.\n\n\
                 When: 2026-11-20T01:02:03Z (2d ago)\n"
        ),
        "{}",
        message.body
    );
    assert!(
        message
            .body
            .contains("Next attempt: none by itself (on_exhausted = \"give_up\").\n")
            && message.body.contains("  watchdog reset trader\n"),
        "{}",
        message.body
    );
    assert!(
        message.body.contains("This happened 1d 23h ago"),
        "{}",
        message.body
    );
}

#[test]
fn every_event_has_its_subject_first_line_and_advice_and_warnings_are_marked() {
    for (event, subject, first, advice) in [
        (
            Event::Recovered,
            "s recovered",
            "s is well again.",
            "Nothing has to be done. What happened:",
        ),
        (
            Event::Degraded,
            "s degraded",
            "s runs, but something about it is not right.",
            "To look at it:",
        ),
        (
            Event::Restarted,
            "s restarted",
            "s was restarted and is up again.",
            "Nothing has to be done at once. To see what happened:",
        ),
        (
            Event::Unknown,
            "s unknown",
            "s could not be seen properly, so nothing was done.",
            "To see what is in the way, and to look again:",
        ),
        (
            Event::Down,
            "s down",
            "s is broken, and the watchdog does not restart it.",
            "It has to be put right by hand. To look at it, and to look again:",
        ),
        (
            Event::RestartFailed,
            "s restart failed",
            "s is broken, and could not be restarted.",
            "Somebody has to find the cause. To look at it, and to look again:",
        ),
        (
            Event::Exhausted,
            "s exhausted",
            "s is broken, and its restarts are used up.",
            "Somebody has to find the cause. To look at it, and to look again:",
        ),
        (
            Event::Watchdog,
            "s in trouble",
            "The watchdog itself is in trouble.",
            "To see the state of things:",
        ),
        (
            Event::Test,
            "s sends a test",
            "This is a test: what this watchdog has to tell arrives where you read this.",
            "Nothing has to be done. To see the state of things:",
        ),
    ] {
        let mut one = alert("s", event);
        let mut warning = stale();
        warning.severity = check::Severity::Warning;
        let mut unseen = stale();
        unseen.severity = check::Severity::Unknown;
        one.findings = vec![warning, unseen];
        let message = digest("2026-11-22T01:02:03Z", &[one]);
        assert_eq!(message.subject, format!("[watchdog] box1: {subject}"));
        let lines: Vec<&str> = message.body.lines().collect();
        let (sentence, _) = message.body.split_once("\n\n").unwrap();
        let lasts = !matches!(
            event,
            Event::Recovered | Event::Restarted | Event::Watchdog | Event::Test
        );
        let expected = if lasts {
            let first = first.trim_end_matches('.');
            format!("{first}: logs/trader.log: no write for 7m 12s (limit 5m)")
        } else {
            first.to_owned()
        };
        assert_eq!(sentence.replace('\n', " "), expected);
        for line in [
            advice,
            "- warning: logs/trader.log: no write for 7m 12s (limit 5m)",
            "- not seen: logs/trader.log: no write for 7m 12s (limit 5m)",
        ] {
            assert!(lines.contains(&line), "{line}\n{}", message.body);
        }
    }
}

#[test]
fn what_was_rate_limited_is_counted_in_the_next_message() {
    for (rate_limited, said) in [
        (
            1,
            "1 message was held back before this one, because the hourly limit (mail.max_per_hour) was reached. What it had to tell is in this one.",
        ),
        (
            7,
            "7 messages were held back before this one, because the hourly limit (mail.max_per_hour) was reached. What they had to tell is in this one.",
        ),
    ] {
        let context = Context {
            rate_limited,
            ..CONTEXT
        };
        let one = [alert("s", Event::Down)];
        let message = compose("box1", time("2026-11-22T01:02:03Z"), &one, &context).unwrap();
        let words: Vec<&str> = message.body.split_whitespace().collect();
        assert!(words.join(" ").contains(said), "{}", message.body);
    }
}

#[test]
fn f74_nothing_from_elsewhere_makes_a_second_line_of_the_subject() {
    let mut evil = alert("a\r\nBcc: x@y", Event::Down);
    evil.findings.push(Finding::new(
        Kind::Log,
        "log_error",
        check::Severity::Critical,
        "line one\nline two\x1b[2J",
    ));
    let context = CONTEXT;
    let host = "h\r\nX: y".to_owned() + &"z".repeat(300);
    let message = compose(&host, time("2026-11-22T01:02:03Z"), &[evil], &context).unwrap();
    assert!(
        !message.subject.chars().any(char::is_control),
        "{}",
        message.subject
    );
    assert!(
        message.subject.chars().count() <= 150,
        "{}",
        message.subject
    );
    assert!(
        message.body.contains("- line one\\x0aline two\\x1b[2J\n"),
        "{}",
        message.body
    );
    assert!(!message.body.chars().any(|c| c.is_control() && c != '\n'));
    assert!(!message.services.concat().chars().any(char::is_control));
}

#[test]
fn a_thousand_alerts_make_one_mail_of_bearable_size() {
    let alerts: Vec<Alert> = (0..1000)
        .map(|n| {
            let mut one = alert(&format!("s{n}"), Event::Down);
            one.log_tail = vec!["x".repeat(5000); 30];
            one.findings = vec![stale(); 30];
            one
        })
        .collect();
    let message = digest("2026-11-22T01:02:03Z", &alerts);
    assert_eq!(message.subject, "[watchdog] box1: s0 down (+999 more)");
    assert!(message.body.len() < 300_000, "{}", message.body.len());
    assert!(message.body.contains("- and 800 more\n"));
    assert!(
        message
            .body
            .contains("Only the first 20 are described in full. All of it:\n  watchdog history\n")
    );
    assert!(message.services.len() <= 50);
}

#[test]
fn any_number_of_alerts_fits_into_a_file_of_the_outbox() {
    let long = || "\u{1f409}".repeat(700);
    let alerts: Vec<Alert> = (0..500)
        .map(|n| {
            let mut one = alert(&format!("s{n}"), Event::RestartFailed);
            one.findings =
                vec![Finding::new(Kind::Log, "log_error", check::Severity::Critical, long()); 100];
            one.notes = vec![long(); 25];
            one.log_tail = (0..100).map(|n| format!("{n}\r\n")).collect();
            one.log_tail[99] = long();
            one.action = Some(Action {
                error: Some(long()),
                stderr: vec![long(); 25],
                ..action()
            });
            one.incident = Some(format!("s{n}.20261122T010203.000Z"));
            one
        })
        .collect();
    let message = digest("2026-11-22T01:02:03Z", &alerts);
    assert_eq!(message.alerts.len(), 500);
    assert_eq!(message.incidents().len(), 500);
    let size = u64::try_from(serde_json::to_vec(&message).unwrap().len()).unwrap();
    assert!(size < FILE_LIMIT, "{size} bytes");
    // the last lines are kept, as they are quoted
    assert_eq!(message.alerts[0].log_tail.len(), 20);
    assert_eq!(message.alerts[0].log_tail[18], "98");
    assert_eq!(message.alerts[0].log_tail[19].chars().count(), 300);
}
