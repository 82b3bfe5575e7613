//! Strategies, failing runs among the last ones, growing cooldowns, attempts of an incident.

use std::time::Duration;

use super::*;
use crate::config::{Policy, Remedy, Strategy};
use crate::fixtures::{repair, strategy};
use crate::state::strategies::StrategyAttempts;

fn critical(code: &'static str) -> Observation {
    with(up(1, 3600), Kind::Log, code, Severity::Critical)
}

fn with_strategies(strategies: Vec<Strategy>) -> Service {
    Service {
        strategies,
        ..service("a")
    }
}

/// What a strategy did so many seconds ago, and how often in the incident; the service made no other attempt.
fn made_by(id: &str, ago: &[i64], of_incident: u32) -> ServiceState {
    let times: Vec<_> = ago.iter().map(|ago| at(NOW - ago)).collect();
    ServiceState {
        attempts: times.clone(),
        incident_attempts: of_incident,
        strategies: [(
            id.to_owned(),
            StrategyAttempts {
                attempts: times,
                of_incident,
            },
        )]
        .into(),
        ..ServiceState::default()
    }
}

#[test]
fn the_first_strategy_that_lists_a_critical_finding_holds() {
    let service = with_strategies(vec![
        repair(&["log_error"]),
        strategy(&["log_error", "process_missing"], Remedy::Restart),
        strategy(&["log_stale"], Remedy::Alert),
        repair(&["certificate_invalid"]),
    ]);
    let nothing = ServiceState::default;
    let (restart, repair) = (Some(Operation::Restart), Some(Operation::Repair));
    let warned = with(up(1, 3600), Kind::Log, "log_error", Severity::Warning);
    let unseen = with(
        critical("log_quiet"),
        Kind::Log,
        "log_error",
        Severity::Unknown,
    );
    let invalid = |seen| with(seen, Kind::Port, "certificate_invalid", Severity::Critical);
    for (seen, operation, strategy, verdict) in [
        (
            critical("log_error"),
            repair,
            Some("log_error"),
            Verdict::Failing,
        ),
        // in the order of the file, not in that of the findings
        (
            with(gone(), Kind::Log, "log_error", Severity::Critical),
            repair,
            Some("log_error"),
            Verdict::Failing,
        ),
        (
            gone(),
            restart,
            Some("log_error+process_missing"),
            Verdict::Failing,
        ),
        (critical("log_stale"), None, None, Verdict::Down),
        // none lists it
        (critical("log_quiet"), restart, None, Verdict::Failing),
        // warnings, and what could not be seen, lead to nothing
        (warned, None, None, Verdict::Degraded),
        (unseen, restart, None, Verdict::Failing),
        // of the host, and listed
        (
            invalid(up(1, 3600)),
            repair,
            Some("certificate_invalid"),
            Verdict::Failing,
        ),
    ] {
        let decision = decide_one(&service, seen.clone(), nothing());
        let got = (
            decision.operation,
            decision.strategy.as_deref(),
            decision.verdict,
        );
        assert_eq!(got, (operation, strategy, verdict), "{seen:?}");
    }
    let alerted = decide_one(&service, critical("log_stale"), nothing());
    assert_eq!(
        alerted.why.as_deref(),
        Some("its strategy for log_stale says that it is only alerted about")
    );
    // of the host, and not listed
    let decision = decide_one(
        &with_strategies(Vec::new()),
        invalid(up(1, 3600)),
        nothing(),
    );
    assert_eq!(
        (decision.operation, decision.verdict),
        (None, Verdict::Down)
    );
}

#[test]
fn what_holds_a_restart_back_holds_a_repair_back_where_it_should() {
    let service = with_strategies(vec![repair(&["log_error"])]);
    let seen = || critical("log_error");
    let unseen = Observation {
        process_status: ProcessStatus::Unknown,
        ..seen()
    };
    // it starts no second copy
    let decision = decide_one(&service, unseen.clone(), ServiceState::default());
    assert_eq!(decision.operation, Some(Operation::Repair));
    let restarted = decide_one(
        &with_strategies(Vec::new()),
        unseen,
        ServiceState::default(),
    );
    assert_eq!(restarted.operation, None);
    // nor does it need a restart method
    let watched = Service {
        method: None,
        ..service.clone()
    };
    let decision = decide_one(&watched, seen(), ServiceState::default());
    assert_eq!(decision.operation, Some(Operation::Repair));
    assert_eq!(
        decide_one(&watched, gone(), ServiceState::default()).verdict,
        Verdict::Down
    );
    // what a timer starts may be repaired
    let left_alone = Observation {
        left_alone: Some("a timer starts it".to_owned()),
        ..seen()
    };
    let decision = decide_one(&service, left_alone, ServiceState::default());
    assert_eq!(decision.operation, Some(Operation::Repair));
    let mut never = service.clone();
    never.policy.max_per_hour = 0;
    let decision = decide_one(&never, seen(), ServiceState::default());
    assert_eq!(
        (decision.verdict, decision.why.as_deref()),
        (
            Verdict::Down,
            Some("max_per_hour = 0: it is never restarted or repaired")
        )
    );
    let mut never = service.clone();
    never.strategies[0].policy.max_per_hour = 0;
    assert_eq!(
        decide_one(&never, seen(), ServiceState::default()).verdict,
        Verdict::Down
    );
    let decision = decide_trusting(&service, seen(), ServiceState::default(), false);
    assert_eq!(
        (decision.verdict, decision.operation),
        (Verdict::Waiting, None)
    );
    let paused = ServiceState {
        paused_until: Some(at(NOW + 60)),
        ..ServiceState::default()
    };
    assert_eq!(
        decide_one(&service, seen(), paused).verdict,
        Verdict::Paused
    );
}

#[test]
fn a_repair_waits_for_a_dependency_that_is_down() {
    let app = Service {
        depends_on: vec!["db".to_owned()],
        ..with_strategies(vec![repair(&["log_error"])])
    };
    let db = Service {
        method: None,
        ..service("db")
    };
    let seen = BTreeMap::from([
        ("a".to_owned(), critical("log_error")),
        ("db".to_owned(), gone()),
    ]);
    let facts = Facts {
        seen: &seen,
        state: &State::default(),
        now: at(NOW),
        trusted: true,
    };
    let decisions = decide(&[app, db], facts);
    assert_eq!(decisions[0].verdict, Verdict::Waiting);
    assert_eq!(
        (decisions[0].operation, &decisions[0].strategy),
        (None, &None)
    );
}

#[test]
fn the_limits_of_a_strategy_count_its_own_attempts_and_those_of_the_service_all() {
    let limited = |own: fn(&mut Policy), all: fn(&mut Policy)| {
        let mut service = with_strategies(vec![repair(&["log_error"])]);
        service.policy.max_per_hour = 9;
        service.strategies[0].policy.max_per_hour = 9;
        own(&mut service.strategies[0].policy);
        all(&mut service.policy);
        service
    };
    let other = |ago: &[i64], of_incident| ServiceState {
        incident_attempts: of_incident,
        ..attempts(ago)
    };
    let own = |ago: &[i64], of_incident| made_by("log_error", ago, of_incident);
    let cooldown = |policy: &mut Policy| policy.cooldown = Duration::from_secs(600);
    let per_hour = |policy: &mut Policy| policy.max_per_hour = 2;
    let of_incident = |policy: &mut Policy| policy.max_attempts = 2;
    let any = |_: &mut Policy| {};
    let hour_frees = Some(Spent::Hour(at(NOW + 600)));
    for (service, state, verdict, spent) in vec![
        (
            limited(cooldown, any),
            own(&[599], 1),
            Verdict::Waiting,
            None,
        ),
        (
            limited(cooldown, any),
            own(&[600], 1),
            Verdict::Failing,
            None,
        ),
        (
            limited(cooldown, any),
            other(&[1], 1),
            Verdict::Failing,
            None,
        ),
        (
            limited(any, cooldown),
            other(&[1], 1),
            Verdict::Waiting,
            None,
        ),
        (limited(any, cooldown), own(&[1], 1), Verdict::Waiting, None),
        (
            limited(per_hour, any),
            own(&[3000, 10], 0),
            Verdict::Exhausted,
            hour_frees,
        ),
        (
            limited(per_hour, any),
            own(&[3600, 10], 0),
            Verdict::Failing,
            None,
        ),
        (
            limited(per_hour, any),
            other(&[3000, 10], 0),
            Verdict::Failing,
            None,
        ),
        (
            limited(any, per_hour),
            other(&[3000, 10], 0),
            Verdict::Exhausted,
            hour_frees,
        ),
        (
            limited(of_incident, any),
            own(&[9000], 2),
            Verdict::Exhausted,
            Some(Spent::Incident(2)),
        ),
        (
            limited(of_incident, any),
            own(&[9000], 1),
            Verdict::Failing,
            None,
        ),
        (
            limited(of_incident, any),
            other(&[9000], 7),
            Verdict::Failing,
            None,
        ),
        (
            limited(any, of_incident),
            other(&[9000], 2),
            Verdict::Exhausted,
            Some(Spent::Incident(2)),
        ),
    ] {
        let decision = decide_one(&service, critical("log_error"), state.clone());
        assert_eq!(
            (decision.verdict, decision.spent),
            (verdict, spent),
            "{state:?}"
        );
        assert_eq!(decision.operation.is_some(), verdict == Verdict::Failing);
    }
    // only the hour of the service is given up
    let mut service = limited(per_hour, any);
    service.policy.on_exhausted = OnExhausted::GiveUp;
    let decision = decide_one(&service, critical("log_error"), own(&[3000, 10], 0));
    assert_eq!(decision.spent, hour_frees);
    let decision = decide_one(&service, critical("log_error"), other(&[9; 9], 0));
    assert_eq!(decision.spent, Some(Spent::GivenUp));
}

#[test]
fn each_wait_is_told() {
    let mut service = with_strategies(vec![repair(&["log_error"])]);
    let seen = || critical("log_error");
    service.strategies[0].policy.cooldown = Duration::from_secs(600);
    service.strategies[0].policy.backoff = crate::table::Factor::of(2.0).unwrap();
    service.policy.cooldown = Duration::from_secs(60);
    let why = |service: &Service, state| decide_one(service, seen(), state).why.unwrap();
    assert_eq!(
        why(&service, made_by("log_error", &[30], 2)),
        "cooldown: the last attempt by its strategy for log_error was 30s ago, the next can be made in 19m 30s"
    );
    assert_eq!(
        why(&service, attempts(&[30])),
        "cooldown: the last attempt was 30s ago, the next can be made in 30s"
    );
    service.strategies[0].policy.max_attempts = 2;
    assert_eq!(
        why(&service, made_by("log_error", &[30], 2)),
        "2 attempts by its strategy for log_error in this incident (max_attempts = 2): no more before it is well again, \
         or `watchdog reset a`"
    );
    service.strategies[0].policy.after_failures = 2;
    service.strategies[0].policy.out_of = Some(4);
    assert_eq!(
        why(&service, ServiceState::default()),
        "1 of 2 failing runs, of the last 4 that count, before a repair"
    );
}

#[test]
fn the_cooldown_grows_with_the_attempts_of_the_incident() {
    let mut service = service("a");
    service.policy.max_per_hour = 60;
    service.policy.cooldown = Duration::from_secs(60);
    service.policy.backoff = crate::table::Factor::of(3.0).unwrap();
    service.policy.max_cooldown = Duration::from_secs(500);
    for (of_incident, seconds) in [(0, 60), (1, 60), (2, 180), (3, 500), (90, 500)] {
        for (ago, verdict) in [(seconds - 1, Verdict::Waiting), (seconds, Verdict::Failing)] {
            let state = ServiceState {
                incident_attempts: of_incident,
                ..attempts(&[ago])
            };
            let decision = decide_one(&service, gone(), state);
            assert_eq!(decision.verdict, verdict, "{of_incident} {ago}");
        }
    }
}

#[test]
fn failing_runs_are_counted_among_the_last_ones() {
    let mut service = service("a");
    service.policy.after_failures = 3;
    for (out_of, runs, is_due) in [
        (None, "", false),
        (None, "11", true),
        (None, "101", false),
        (Some(5), "11", true),
        (Some(5), "10100", false),
        (Some(5), "0101", true),
        (Some(5), "110000", false),
        (Some(4), "1100", false),
    ] {
        service.policy.out_of = out_of;
        let state = ServiceState {
            recent_runs: Some(runs.to_owned()),
            // of before the last attempt
            consecutive_failures: 9,
            ..ServiceState::default()
        };
        let decision = decide_one(&service, gone(), state);
        assert_eq!(decision.operation.is_some(), is_due, "{out_of:?} {runs}");
        assert_eq!(decision.counts, Some(true));
    }
}

#[test]
fn runs_that_say_nothing_do_not_count() {
    let counts = |seen, state| decide_one(&service("a"), seen, state).counts;
    let paused = ServiceState {
        paused_until: Some(at(NOW + 60)),
        ..ServiceState::default()
    };
    let young = with(up(1, 5), Kind::Log, "log_stale", Severity::Critical);
    let unseen = with(up(1, 99), Kind::Log, "log_unreadable", Severity::Unknown);
    let warned = with(up(1, 99), Kind::Log, "log_error", Severity::Warning);
    for (seen, state, expected) in [
        (up(1, 99), ServiceState::default(), Some(false)),
        (warned, ServiceState::default(), Some(false)),
        (gone(), ServiceState::default(), Some(true)),
        (gone(), paused, None),
        (young, ServiceState::default(), None),
        (unseen, ServiceState::default(), None),
    ] {
        assert_eq!(counts(seen.clone(), state), expected, "{seen:?}");
    }
}

#[test]
fn what_compose_re_creates_is_waited_for_whatever_is_wrong_with_it() {
    let repair = repair(&["disk_full"]);
    let plain = service("a");
    let never = Service {
        policy: Policy {
            max_per_hour: 0,
            ..plain.policy.clone()
        },
        ..plain.clone()
    };
    let patient = Service {
        policy: Policy {
            after_failures: 3,
            ..plain.policy.clone()
        },
        ..plain.clone()
    };
    for (service, code, verdict) in [
        (&plain, "container_exited", Verdict::Waiting),
        // no false alarm, and no failing run that counts for a restart alone
        (&never, "container_exited", Verdict::Waiting),
        (&patient, "container_exited", Verdict::Waiting),
        (
            &with_strategies(vec![repair]),
            "disk_full",
            Verdict::Failing,
        ),
    ] {
        let mut seen = with(gone(), Kind::Container, code, Severity::Critical);
        seen.recreating = Some("it is being re-created".to_owned());
        let decision = decide_one(service, seen, ServiceState::default());
        assert_eq!(decision.verdict, verdict, "{code}");
        let is_repaired = decision.operation == Some(Operation::Repair);
        assert_eq!(is_repaired, verdict == Verdict::Failing);
        if verdict == Verdict::Waiting {
            assert_eq!(decision.operation, None);
            assert_eq!(decision.why.as_deref(), Some("it is being re-created"));
        }
    }
}
