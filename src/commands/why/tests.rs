use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::check::log::{Expect, LogPosition, Rule};
use crate::check::pattern::Pattern;
use crate::check::{self, Check, Severity, assign_ids, process};
use crate::fixtures::{self, alert, at, service};
use crate::notify::mail::{Mailbox, Settings, Transport};
use crate::notify::{Event, Routing};
use crate::restart::Action;
use crate::state::LastResult;
use crate::state::channels::ServiceAlerts;

fn mail() -> Channel {
    channel(&[Event::Restarted, Event::Exhausted, Event::Down], 12)
}

fn channel(on: &[Event], max_per_hour: u32) -> Channel {
    Channel::mail(Settings {
        from: Mailbox::parse("w@example.org").unwrap(),
        to: vec![Mailbox::parse("o@example.org").unwrap()],
        routing: Routing {
            max_per_hour,
            ..fixtures::routing(on)
        },
        timeout: None,
        transport: Transport::Directory("/nonexistent".into()),
    })
}

/// What mail was alerted about.
fn alerted(event: Event) -> ServiceAlerts {
    ServiceAlerts {
        alerted: [(event, at(0))].into(),
        ..ServiceAlerts::default()
    }
}

fn checks(logs: Vec<Rule>) -> Vec<Check> {
    let rules = logs
        .into_iter()
        .map(|rule| check::Rule::Log(Arc::new(rule)));
    assign_ids(rules.collect())
}

fn trader() -> Service {
    let log = |shown: &str, max_age| Rule {
        shown: shown.to_owned(),
        path: format!("/srv/trader/{shown}").into(),
        max_age,
        journal: false,
        unit: None,
        container: false,
        of_container: None,
        lines: 100,
        expect: Vec::new(),
        forbid: Vec::new(),
        stamp: None,
        severity: Severity::Critical,
    };
    Service {
        process: Some(process::Rule {
            shown: "trader.pid".to_owned(),
            pid_file: Some("/srv/trader/trader.pid".into()),
            command_line: Some(Pattern::new(r"main\.py").unwrap()),
            user: None,
        }),
        checks: checks(vec![
            log("trader.log", Some(Duration::from_secs(300))),
            Rule {
                expect: vec![Expect {
                    pattern: Pattern::new("tick").unwrap(),
                    at_least: 1,
                    except: Vec::new(),
                }],
                ..log("ticks.log", None)
            },
        ]),
        ..service("trader")
    }
}

fn action(ok: bool) -> Action {
    Action {
        ok,
        new_pid: ok.then_some(4980),
        error: (!ok).then(|| "exited with status 1".to_owned()),
        ..fixtures::action()
    }
}

fn tried(second: i64, ok: bool) -> Entry {
    let event = if ok {
        Verdict::Restarted
    } else {
        Verdict::RestartFailed
    };
    Entry {
        action: Some(action(ok)),
        ..Entry::new(at(second), "trader", JournalEvent::Verdict(event))
    }
}

fn remembered(verdict: Verdict) -> ServiceState {
    ServiceState {
        verdict: Some(verdict),
        since: Some(at(0)),
        ..ServiceState::default()
    }
}

fn told(
    service: &Service,
    remembered: ServiceState,
    mail: Option<&Channel>,
    journal: &[Entry],
) -> String {
    told_after(service, remembered, None, mail, journal)
}

fn told_after(
    service: &Service,
    mut remembered: ServiceState,
    alerts: Option<ServiceAlerts>,
    mail: Option<&Channel>,
    journal: &[Entry],
) -> String {
    remembered.report.time = Some(at(60));
    let mut state = State::default();
    state
        .services
        .insert(service.name.clone(), Box::new(remembered));
    if let Some(alerts) = alerts {
        let known = state.channels.entry("mail".to_owned()).or_default();
        known.services.insert(service.name.clone(), alerts);
    }
    let known = Known {
        service,
        channels: mail.map(std::slice::from_ref).unwrap_or_default(),
        state: &state,
        journal,
        waiting: BTreeMap::new(),
        now: at(90),
    };
    account(&known, Style::plain())
}

#[test]
fn a_spent_budget_is_told_with_all_its_figures() {
    let mut known = ServiceState {
        consecutive_failures: 4,
        attempts: vec![at(-1800), at(-900), at(-600)],
        trouble_since: Some(at(-2000)),
        report: LastResult {
            time: None,
            pid: Some(5000),
            findings: vec![Finding {
                id: "log:/srv/trader/trader.log".to_owned().into(),
                ..Finding::new(
                    Kind::Log,
                    "log_stale",
                    Severity::Critical,
                    "trader.log: no write for 7m 12s (limit 5m)",
                )
            }],
            action: None,
            notes: vec![
                "3 of 3 restarts in the last hour; the next can be made at 2027-01-15T08:30:00Z"
                    .to_owned(),
            ],
            max_per_hour: 3,
        },
        ..remembered(Verdict::Exhausted)
    };
    known.logs.insert(
        "trader.log".to_owned(),
        Arc::new(LogPosition {
            written: Some(at(-372).into()),
            ..LogPosition::default()
        }),
    );
    let journal = [tried(-1800, true), tried(-900, false), tried(-600, true)];
    assert_eq!(
        told_after(
            &trader(),
            known,
            Some(alerted(Event::Exhausted)),
            Some(&mail()),
            &journal
        ),
        r"exhausted  trader since 2027-01-15T08:00:00Z (1m 30s ago)
seen by the last run, 2027-01-15T08:01:00Z (30s ago):
    process, known by PID file trader.pid and command line `main\.py`, PID 5000
        nothing wrong
    log trader.log: last written 2027-01-15T07:53:48Z, 7m 12s before that run
        (limit 5m)
        critical: trader.log: no write for 7m 12s (limit 5m) (log_stale)
    log ticks.log: 1 pattern expected in its last 100 lines
        nothing wrong
decided:
    it is broken, and its restart budget is spent
    3 of 3 restarts in the last hour; the next can be made at
        2027-01-15T08:30:00Z
    4 failing runs in a row, the first one is reason for a restart; the trouble
        began 2027-01-15T07:26:40Z (34m 50s ago)
restart budget:
    3 of 3 used
    the next can be made at 2027-01-15T08:30:00Z (in 28m 30s)
last restarts, the latest first:
    2027-01-15T07:50:00Z (11m 30s ago): stopped PID 4711, started PID 4980 by
        spawn, up after 2.3s
    2027-01-15T07:45:00Z (16m 30s ago): restart by spawn failed after 2.3s:
        exited with status 1
    2027-01-15T07:30:00Z (31m 30s ago): stopped PID 4711, started PID 4980 by
        spawn, up after 2.3s
mail:
    `exhausted` was sent 2027-01-15T08:00:00Z (1m 30s ago); while it lasts,
        again from 2027-01-15T09:00:00Z (in 58m 30s) on (remind_every 1h)
"
    );
}

#[test]
fn of_one_that_breaks_again_and_again_it_is_told_that_this_is_why() {
    let flapping = |open| ServiceAlerts {
        flapping: Some((Event::Down, at(0))),
        open_trouble: Some(open),
        ..ServiceAlerts::default()
    };
    let account = |verdict, alerts| {
        let mail = channel(&[Event::Down, Event::Recovered], 12);
        let known = remembered(verdict);
        let text = told_after(&service("a"), known, Some(alerts), Some(&mail), &[]);
        mail_lines(&text)
    };
    assert_eq!(
        account(Verdict::Healthy, flapping(Event::Down)),
        "none about `recovered`: it fails again and again; its recovery is reported once it stays well"
    );
    assert_eq!(
        account(Verdict::Down, flapping(Event::Down)),
        "none about `down`: it fails again and again, which was reported with `down` 2027-01-15T08:00:00Z \
         (1m 30s ago); again after remind_every (1h)"
    );
}

#[test]
fn a_healthy_service_has_a_short_account() {
    assert_eq!(
        told(&service("a"), remembered(Verdict::Healthy), None, &[]),
        "\
healthy  a since 2027-01-15T08:00:00Z (1m 30s ago)
seen by the last run, 2027-01-15T08:01:00Z (30s ago):
decided:
    nothing is wrong, so nothing was done
restart budget:
    0 of 3 used
last restarts: none in the journal
mail:
    the config has no [mail] table: nobody is alerted by mail
"
    );
}

/// The lines below `mail:`.
fn mail_lines(account: &str) -> String {
    let (_, mail) = account.split_once("\nmail:\n").unwrap();
    mail.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn why_no_mail_went_out_is_told() {
    let service = service("a");
    let on_none = channel(&[], 12);
    let paused = ServiceState {
        paused_until: Some(at(3690)),
        ..remembered(Verdict::Paused)
    };
    for ((known, alerts), mail, said) in [
        (
            (remembered(Verdict::Down), None),
            &on_none,
            "none, because `down` is not in `on` of [mail]",
        ),
        (
            (remembered(Verdict::Degraded), None),
            &mail(),
            "none, because `degraded` is not in `on` of [mail]",
        ),
        (
            (paused, None),
            &mail(),
            "none while it is paused until 2027-01-15T09:01:30Z (in 1h)",
        ),
        (
            (remembered(Verdict::Failing), None),
            &mail(),
            "none about `failing`: only what comes of it is alerted about",
        ),
        (
            (remembered(Verdict::Down), None),
            &mail(),
            "none about `down`: the run had --no-mail, or was `watchdog restart`",
        ),
        (
            (remembered(Verdict::Healthy), None),
            &mail(),
            "nothing to alert about now",
        ),
        (
            (
                remembered(Verdict::Healthy),
                Some(alerted(Event::Recovered)),
            ),
            &mail(),
            "nothing to alert about now; `recovered` was sent 2027-01-15T08:00:00Z (1m 30s ago)",
        ),
        (
            (
                remembered(Verdict::Restarted),
                Some(alerted(Event::Restarted)),
            ),
            &mail(),
            "`restarted` was sent 2027-01-15T08:00:00Z (1m 30s ago); the next such alert of this incident can be sent from 2027-01-15T09:00:00Z (in \
             58m 30s) on (remind_every 1h)",
        ),
        (
            (remembered(Verdict::Unknown), Some(alerted(Event::Unknown))),
            &channel(&[Event::Unknown], 12),
            "`unknown` was sent 2027-01-15T08:00:00Z (1m 30s ago); there is one alert while it lasts",
        ),
    ] {
        let text = told_after(&service, known, alerts, Some(mail), &[]);
        assert_eq!(mail_lines(&text), said, "{text}");
    }
}

#[test]
fn mail_that_waits_is_told_with_the_reason() {
    let service = service("a");
    let mail = channel(&[Event::Down], 2);
    let mut state = State::default();
    let known = remembered(Verdict::Down);
    state.services.insert("a".to_owned(), Box::new(known));
    let known = state.channels.entry("mail".to_owned()).or_default();
    known.sent = vec![at(-10), at(-20)];
    known.pending.push(alert("a", Event::Down));
    known.services.insert("a".to_owned(), alerted(Event::Down));
    let why = "localhost:25: connection refused".to_owned();
    let failed = Entry::of_delivery(at(30), "mail", DeliveryEvent::Deferred, &[], why);
    // on another channel, and later
    let why = "no answer".to_owned();
    let other = Entry::of_delivery(at(40), "phone", DeliveryEvent::Deferred, &[], why);
    let account = account(
        &Known {
            service: &service,
            channels: &[mail],
            state: &state,
            journal: &[failed, other],
            waiting: BTreeMap::new(),
            now: at(90),
        },
        Style::plain(),
    );
    assert_eq!(
        mail_lines(&account),
        "`down` was to be sent 2027-01-15T08:00:00Z (1m 30s ago); while it lasts, again from \
         2027-01-15T09:00:00Z (in 58m 30s) on (remind_every 1h) 1 message about it not sent yet; \
         the last failure was 2027-01-15T08:00:30Z (1m ago): localhost:25: \
         connection refused 2 of 2 messages were sent in the last hour: more are held back"
    );
}

#[test]
fn a_service_given_up_says_how_to_go_on() {
    let mut service = service("a");
    service.policy.on_exhausted = OnExhausted::GiveUp;
    let known = ServiceState {
        attempts: vec![at(-10), at(-20), at(-30)],
        given_up: Some(at(0)),
        ..remembered(Verdict::Exhausted)
    };
    let text = told(&service, known, None, &[]);
    assert!(
        text.contains(
            "    3 of 3 used\n    given up 2027-01-15T08:00:00Z (1m 30s ago); `watchdog reset a` lets it be\n"
        ),
        "{text}"
    );
}

#[test]
fn one_that_is_given_up_next_and_one_that_is_off_say_so() {
    let mut service = service("a");
    service.policy.on_exhausted = OnExhausted::GiveUp;
    let known = ServiceState {
        attempts: vec![at(-10), at(-20), at(-30)],
        ..remembered(Verdict::Failing)
    };
    let text = told(&service, known, None, &[]);
    let said =
        "    3 of 3 used\n    it is given up if it fails before 2027-01-15T08:59:30Z (in 58m)\n";
    assert!(text.contains(said), "{text}");
    // in the last run, and not any more
    let text = told(&service, remembered(Verdict::Disabled), None, &[]);
    assert!(
        text.contains("decided:\n    it is not looked at\n"),
        "{text}"
    );
}

#[test]
fn a_cooldown_says_when_it_ends() {
    let mut service = service("a");
    service.policy.cooldown = Duration::from_secs(600);
    let known = ServiceState {
        attempts: vec![at(0)],
        ..remembered(Verdict::Waiting)
    };
    let text = told(&service, known, None, &[]);
    assert!(
        text.contains("    cooldown of 10m until 2027-01-15T08:10:00Z (in 8m 30s)\n"),
        "{text}"
    );
}

#[test]
fn a_service_that_has_no_way_or_no_run_is_told_so() {
    let mut watched = service("a");
    watched.method = None;
    let text = told(&watched, remembered(Verdict::Down), None, &[]);
    assert!(text.contains("no restart method is configured"), "{text}");
    let mut never = service("a");
    never.policy.max_per_hour = 0;
    let text = told(&never, remembered(Verdict::Down), None, &[]);
    assert!(text.contains("max_per_hour = 0: it is never"), "{text}");
    let text = told(&service("a"), ServiceState::default(), None, &[]);
    assert_eq!(
        text,
        "no run has looked at a yet; `watchdog check a` does\n"
    );
    let mut disabled = service("a");
    disabled.enabled = false;
    let text = told(&disabled, ServiceState::default(), None, &[]);
    assert_eq!(
        text,
        "a is disabled (enabled = false): no run looks at it\n"
    );
}

#[test]
fn f75_what_logs_and_programs_wrote_is_escaped() {
    let known = ServiceState {
        report: LastResult {
            findings: vec![Finding::new(
                Kind::Process,
                "process_missing",
                Severity::Critical,
                "another program: \x1b[2J\x07",
            )],
            notes: vec!["a\rb".to_owned()],
            ..LastResult::default()
        },
        ..remembered(Verdict::Down)
    };
    let text = told(&trader(), known, None, &[]);
    assert!(text.contains("\\x1b[2J\\x07"), "{text}");
    assert!(
        !text.contains(|c: char| c.is_control() && c != '\n'),
        "{text:?}"
    );
}
