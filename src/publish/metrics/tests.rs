use std::path::Path;

use super::*;
use crate::check::{Finding, Kind};
use crate::config::{self, Config, Environment};
use crate::fixtures::{at, identity, stale};
use crate::restart::Operation;
use crate::state::channels::ChannelState;
use crate::state::counters::Messages;

const CONFIG: &str = r#"
[service.trader]
spawn = { command = ["true"] }
restart = { cooldown = "5m" }

[[service.trader.log]]
path = "/srv/a.log"
max_age = "5m"

[service.host]
restart = { command = ["true"] }

[[service.host.disk]]
path = "/"
max_used = "90%"

[[service.host.strategy]]
findings = ["disk_full"]
command = ["true"]

[notify.phone]
type = "ntfy"
topic = "alerts"
"#;

fn config() -> Config {
    config::parse(CONFIG, Path::new("/w.toml"), &Environment::default()).unwrap()
}

fn facts<'a>(config: &'a Config, state: &'a State) -> Facts<'a> {
    Facts {
        services: &config.services,
        scales: &config.scales,
        channels: &config.channels,
        state,
        now: at(0),
        run: None,
        used: BTreeMap::new(),
        booted_at: at(-1000),
        waiting: BTreeMap::new(),
    }
}

/// The value of a series; nothing where it is not there.
fn value(text: &str, series: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(series))?;
    Some(line.strip_prefix(' ')?.to_owned())
}

#[test]
fn every_series_is_there_before_anything_has_happened() {
    let (config, state) = (config(), State::default());
    let text = render(&facts(&config, &state));
    for series in [
        r#"watchdog_repair_attempts_total{service="trader",action="restart",success="true"}"#,
        r#"watchdog_repair_attempts_total{service="trader",action="restart",success="unknown"}"#,
        r#"watchdog_repair_attempts_total{service="host",action="repair",success="false"}"#,
        r#"watchdog_service_status{service="trader",status="healthy"}"#,
        r#"watchdog_service_consecutive_failures{service="host"}"#,
        r#"watchdog_service_paused{service="host"}"#,
        r#"watchdog_service_findings{service="trader",code="log_stale",severity="critical"}"#,
        r#"watchdog_service_findings{service="trader",code="process_missing",severity="critical"}"#,
        r#"watchdog_service_findings{service="host",code="disk_full",severity="warning"}"#,
        r#"watchdog_service_findings{service="host",code="probe_unreadable",severity="unknown"}"#,
        r#"watchdog_service_findings{service="host",code="process_unreadable",severity="unknown"}"#,
        r#"watchdog_service_findings{service="trader",code="log_unreadable",severity="unknown"}"#,
        r#"watchdog_service_findings{service="trader",code="check_timed_out",severity="unknown"}"#,
        r#"watchdog_notifications_total{channel="phone",outcome="sent"}"#,
        r#"watchdog_notifications_total{channel="phone",outcome="given_up"}"#,
        r#"watchdog_outbox_messages{channel="phone"}"#,
    ] {
        assert_eq!(value(&text, series).as_deref(), Some("0"), "{series}");
    }
    assert_eq!(
        value(&text, r#"watchdog_service_restarts_left{service="trader"}"#).as_deref(),
        Some("3")
    );
    assert_eq!(
        value(&text, r#"watchdog_channel_up{channel="phone"}"#).as_deref(),
        Some("1")
    );
    // a time of nothing would be one in 1970, and what no strategy repairs has no repairs
    for absent in [
        "_last_repair_timestamp_seconds",
        "_next_attempt_timestamp_seconds",
        "_log_modified_timestamp_seconds",
        "_last_run_timestamp_seconds",
        "_last_run_exit_code",
        "_process_start_time_seconds",
        r#"service="trader",action="repair""#,
        // what no check finds
        r#"code="process_missing",severity="warning""#,
        r#"code="log_in_future",severity="critical""#,
    ] {
        assert!(!text.contains(absent), "{absent}");
    }
}

#[test]
fn no_finding_adds_a_series() {
    let (config, mut state) = (config(), State::default());
    let series = |state: &State| {
        let text = render(&facts(&config, state));
        text.lines().filter(|it| !it.starts_with('#')).count()
    };
    let before = series(&state);
    let unseen = [
        (Kind::Log, "log_unreadable"),
        (Kind::Process, "process_unreadable"),
        (Kind::Log, TIMED_OUT),
    ];
    let mut trader = ServiceState::default();
    trader.report.findings = (unseen.into_iter())
        .map(|(kind, code)| Finding::new(kind, code, Severity::Unknown, "why"))
        .collect();
    state.services.insert("trader".to_owned(), Box::new(trader));
    assert_eq!(series(&state), before);
}

#[test]
fn what_is_remembered_is_what_is_shown() {
    let config = config();
    let mut state = State::default();
    state.last_run.replace(at(0));
    let mut trader = ServiceState {
        verdict: Some(Verdict::RestartFailed),
        consecutive_failures: 2,
        paused_until: Some(at(60)),
        ..ServiceState::default()
    };
    trader.record_attempt(at(-100), vec!["log_stale".to_owned()], None, 1);
    trader.counted.count(Operation::Restart, Some(false));
    trader.report.findings = vec![stale(), stale()];
    state.services.insert("trader".to_owned(), Box::new(trader));
    // a service that the config no longer has
    state
        .services
        .insert("gone".to_owned(), Box::new(ServiceState::default()));
    let phone = ChannelState {
        messages: Messages {
            sent: 7,
            deferred: 2,
            ..Messages::default()
        },
        ..ChannelState::default()
    };
    state.channels.insert("phone".to_owned(), phone);
    let text = render(&Facts {
        run: Some(RunResult {
            duration_ms: 1250,
            exit_code: 2,
        }),
        used: BTreeMap::from([(
            "trader",
            Used {
                pid: 5,
                parent: 1,
                start: identity(5).start,
                own_us: 2_500_000,
                reaped_us: 9,
                threads: 1,
                resident: 4096,
            },
        )]),
        waiting: BTreeMap::from([("phone".to_owned(), 3)]),
        ..facts(&config, &state)
    });
    for (series, expected) in [
        (
            r#"watchdog_repair_attempts_total{service="trader",action="restart",success="false"}"#,
            "1",
        ),
        (
            r#"watchdog_service_status{service="trader",status="restart_failed"}"#,
            "1",
        ),
        (
            r#"watchdog_service_status{service="trader",status="healthy"}"#,
            "0",
        ),
        (
            r#"watchdog_service_consecutive_failures{service="trader"}"#,
            "2",
        ),
        (
            r#"watchdog_service_last_repair_timestamp_seconds{service="trader"}"#,
            "1799999900",
        ),
        (r#"watchdog_service_restarts_left{service="trader"}"#, "2"),
        // the cooldown of 5m began 100 s ago
        (
            r#"watchdog_service_next_attempt_timestamp_seconds{service="trader"}"#,
            "1800000200",
        ),
        (r#"watchdog_service_paused{service="trader"}"#, "1"),
        (
            r#"watchdog_service_findings{service="trader",code="log_stale",severity="critical"}"#,
            "2",
        ),
        (
            r#"watchdog_service_process_resident_memory_bytes{service="trader"}"#,
            "4096",
        ),
        (
            r#"watchdog_service_process_cpu_seconds_total{service="trader"}"#,
            "2.5",
        ),
        (
            r#"watchdog_notifications_total{channel="phone",outcome="sent"}"#,
            "7",
        ),
        (
            r#"watchdog_notifications_total{channel="phone",outcome="deferred"}"#,
            "2",
        ),
        (r#"watchdog_outbox_messages{channel="phone"}"#, "3"),
        ("watchdog_last_run_timestamp_seconds", "1800000000"),
        ("watchdog_last_run_duration_seconds", "1.25"),
        ("watchdog_last_run_exit_code", "2"),
    ] {
        assert_eq!(
            value(&text, series).as_deref(),
            Some(expected),
            "{series}\n{text}"
        );
    }
    assert!(!text.contains("gone"), "{text}");
}

#[test]
fn the_next_attempt_is_when_the_last_limit_lets_go() {
    let config = config();
    let service = config.service("trader").unwrap();
    let with = |attempts: &[i64]| ServiceState {
        attempts: attempts.iter().map(|&seconds| at(seconds)).collect(),
        ..ServiceState::default()
    };
    for (what, known, expected) in [
        ("no attempt", with(&[]), None),
        ("a cooldown that is over", with(&[-301]), None),
        ("a cooldown", with(&[-100]), Some(at(200))),
        (
            "a budget that is spent",
            with(&[-3000, -2000, -1000]),
            Some(at(600)),
        ),
        (
            "both: the later one",
            with(&[-3500, -2000, -10]),
            Some(at(290)),
        ),
        (
            "only a person can allow it",
            ServiceState {
                given_up: Some(at(-5)),
                ..with(&[-10])
            },
            None,
        ),
    ] {
        assert_eq!(next_attempt(service, &known, at(0)), expected, "{what}");
    }
}

#[test]
fn no_series_is_there_twice() {
    let (config, state) = (config(), State::default());
    let text = render(&facts(&config, &state));
    let series: Vec<&str> = (text.lines())
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(series, _)| series)
        .collect();
    let different: BTreeSet<&&str> = series.iter().collect();
    assert_eq!(different.len(), series.len());
}
