use super::*;
use crate::check::Kind;
use crate::config::OnExhausted;
use crate::fixtures::{at, gone, identity, service, up, with};
use std::time::Duration;

mod network;
mod requested;
mod strategies;

const NOW: i64 = 100_000;

fn decide_one(service: &Service, observation: Observation, state: ServiceState) -> Decision {
    decide_trusting(service, observation, state, true)
}

fn decide_trusting(
    service: &Service,
    observation: Observation,
    known: ServiceState,
    trusted: bool,
) -> Decision {
    let mut state = State::default();
    state.services.insert(service.name.clone(), Box::new(known));
    let seen = BTreeMap::from([(service.name.clone(), observation)]);
    let facts = Facts {
        seen: &seen,
        state: &state,
        now: at(NOW),
        trusted,
    };
    decide(std::slice::from_ref(service), facts).remove(0)
}

fn attempts(seconds_ago: &[i64]) -> ServiceState {
    let mut attempts: Vec<_> = seconds_ago.iter().map(|ago| at(NOW - ago)).collect();
    attempts.sort_unstable();
    ServiceState {
        attempts,
        ..ServiceState::default()
    }
}

fn restarts(decision: &Decision) -> bool {
    assert!(decision.operation.is_none() || decision.verdict == Verdict::Failing);
    decision.operation.is_some()
}

#[test]
fn findings_become_verdicts() {
    use Severity::{Critical, Unknown, Warning};
    type Case<'a> = (&'a [(Kind, Severity)], Verdict, bool);
    let cases: [Case<'_>; 8] = [
        (&[], Verdict::Healthy, false),
        (&[(Kind::Process, Warning)], Verdict::Degraded, false),
        (
            &[(Kind::Log, Warning), (Kind::Log, Unknown)],
            Verdict::Unknown,
            false,
        ),
        (&[(Kind::Process, Unknown)], Verdict::Unknown, false),
        (&[(Kind::Log, Critical)], Verdict::Failing, true),
        (&[(Kind::Process, Critical)], Verdict::Failing, true),
        (
            &[(Kind::Log, Critical), (Kind::Log, Unknown)],
            Verdict::Failing,
            true,
        ),
        (
            &[(Kind::Unit, Critical), (Kind::Log, Warning)],
            Verdict::Failing,
            true,
        ),
    ];
    for (findings, verdict, restarted) in cases {
        let mut observation = up(10, 3600);
        for &(check, severity) in findings {
            observation = with(observation, check, "x", severity);
        }
        let decision = decide_one(&service("a"), observation, ServiceState::default());
        assert_eq!(
            (decision.verdict, restarts(&decision)),
            (verdict, restarted),
            "{findings:?}"
        );
    }
}

#[test]
fn f40_the_budget_is_a_sliding_hour() {
    for (ago, max, verdict) in [
        (&[][..], 3, Verdict::Failing),
        (&[10, 20], 3, Verdict::Failing),
        (&[10, 20, 30], 3, Verdict::Exhausted),
        (&[10, 20, 3599], 3, Verdict::Exhausted),
        (&[10, 20, 3600], 3, Verdict::Failing),
        (&[10, 20, 30, 40, 50], 3, Verdict::Exhausted),
        (&[0], 1, Verdict::Exhausted),
        (&[], 0, Verdict::Down),
    ] {
        let mut service = service("a");
        service.policy.max_per_hour = max;
        let decision = decide_one(&service, gone(), attempts(ago));
        assert_eq!(decision.verdict, verdict, "{ago:?} of {max}");
        assert_eq!(restarts(&decision), verdict == Verdict::Failing);
    }
}

#[test]
fn exhausted_says_when_it_frees() {
    let decision = decide_one(&service("a"), gone(), attempts(&[600, 1200, 3000]));
    let why = decision.why.unwrap();
    assert_eq!(
        why,
        format!(
            "3 of 3 restarts in the last hour; the next can be made at {}",
            clock::stamp(at(NOW + 600))
        )
    );
}

#[test]
fn given_up_stays_given_up_when_the_window_frees() {
    let mut service = service("a");
    service.policy.on_exhausted = OnExhausted::GiveUp;
    let mut state = attempts(&[]);
    state.given_up = Some(at(NOW - 90_000));
    let decision = decide_one(&service, gone(), state.clone());
    assert_eq!(
        (decision.verdict, restarts(&decision)),
        (Verdict::Exhausted, false)
    );
    assert!(decision.why.unwrap().contains("watchdog reset a"));
    // and a config that no longer says so is heeded
    service.policy.on_exhausted = OnExhausted::Wait;
    assert!(restarts(&decide_one(&service, gone(), state)));
}

#[test]
fn f42_failures_are_counted_in_a_row() {
    let mut service = service("a");
    service.policy.after_failures = 3;
    for (before, observation, verdict, failures) in [
        (0, gone(), Verdict::Failing, 1),
        (1, gone(), Verdict::Failing, 2),
        (7, gone(), Verdict::Failing, 8),
        (2, up(1, 3600), Verdict::Healthy, 0),
        (
            2,
            with(up(1, 3600), Kind::Log, "w", Severity::Warning),
            Verdict::Degraded,
            0,
        ),
        (
            2,
            with(up(1, 3600), Kind::Log, "u", Severity::Unknown),
            Verdict::Unknown,
            2,
        ),
    ] {
        let state = ServiceState {
            consecutive_failures: before,
            ..ServiceState::default()
        };
        let decision = decide_one(&service, observation, state);
        assert_eq!((decision.verdict, decision.failures), (verdict, failures));
        assert_eq!(restarts(&decision), failures >= 3);
    }
}

#[test]
fn failing_comes_before_down() {
    let mut service = service("a");
    service.method = None;
    service.policy.after_failures = 2;
    let first = decide_one(&service, gone(), ServiceState::default());
    assert_eq!(first.verdict, Verdict::Failing);
    let state = ServiceState {
        consecutive_failures: 1,
        ..ServiceState::default()
    };
    let second = decide_one(&service, gone(), state);
    assert_eq!((second.verdict, restarts(&second)), (Verdict::Down, false));
}

#[test]
fn cooldown_waits_and_says_how_long() {
    let mut service = service("a");
    service.policy.cooldown = Duration::from_secs(600);
    let decision = decide_one(&service, gone(), attempts(&[100]));
    assert_eq!(decision.verdict, Verdict::Waiting);
    assert_eq!(
        decision.why.as_deref(),
        Some("cooldown: the last restart was 1m 40s ago, the next can be made in 8m 20s")
    );
    assert!(restarts(&decide_one(&service, gone(), attempts(&[600]))));
    // longer than the budget's window
    service.policy.cooldown = Duration::from_secs(7200);
    let decision = decide_one(&service, gone(), attempts(&[5000]));
    assert_eq!(decision.verdict, Verdict::Waiting);
}

#[test]
fn nothing_is_restarted_that_could_not_be_seen() {
    let mut observation = with(gone(), Kind::Log, "log_stale", Severity::Critical);
    observation.process_status = ProcessStatus::Unknown;
    let decision = decide_one(&service("a"), observation, ServiceState::default());
    assert_eq!(
        (decision.verdict, restarts(&decision)),
        (Verdict::Down, false)
    );
    assert!(decision.why.unwrap().contains("could not be seen"));
}

#[test]
fn f45_nothing_is_restarted_on_a_state_that_is_lost() {
    let decision = decide_trusting(&service("a"), gone(), ServiceState::default(), false);
    assert_eq!(
        (decision.verdict, restarts(&decision)),
        (Verdict::Waiting, false)
    );
    let well = decide_trusting(&service("a"), up(1, 3600), ServiceState::default(), false);
    assert_eq!(well.verdict, Verdict::Healthy);
}

#[test]
fn a_young_process_is_not_judged_by_its_logs_twice_at_the_most() {
    let stale = |pid, age| with(up(pid, age), Kind::Log, "log_stale", Severity::Critical);
    let young = |pids: &[i32]| ServiceState {
        recent_starts: pids.iter().map(|&pid| identity(pid)).collect(),
        ..ServiceState::default()
    };
    for (observation, known, verdict) in [
        (stale(5, 10), young(&[]), Verdict::Starting),
        (stale(5, 60), young(&[]), Verdict::Failing),
        (stale(5, 10), young(&[5]), Verdict::Starting),
        (stale(5, 10), young(&[4, 5]), Verdict::Starting),
        (stale(5, 10), young(&[3, 4]), Verdict::Failing),
        (stale(5, 10), young(&[3, 4, 5]), Verdict::Failing),
        (
            with(
                stale(5, 10),
                Kind::Process,
                "process_stopped",
                Severity::Critical,
            ),
            young(&[]),
            Verdict::Failing,
        ),
        (
            with(stale(5, 10), Kind::Process, "too_many", Severity::Warning),
            young(&[]),
            Verdict::Starting,
        ),
        (
            with(stale(5, 10), Kind::Process, "unreadable", Severity::Unknown),
            young(&[]),
            Verdict::Unknown,
        ),
    ] {
        let decision = decide_one(&service("a"), observation, known);
        assert_eq!(decision.verdict, verdict);
    }
}

#[test]
fn where_no_process_is_known_the_grace_counts_from_the_last_restart_that_did_not_fail() {
    let stale = |process_status: &ProcessStatus| {
        let seen = Observation {
            process_status: process_status.clone(),
            ..up(5, 3600)
        };
        with(seen, Kind::Log, "log_stale", Severity::Critical)
    };
    // how long ago its trouble began, and its good restarts were
    let restarted = |since: Option<i64>, ago: &[i64]| ServiceState {
        trouble_since: since.map(|ago| at(NOW - ago)),
        good_restarts: ago.iter().map(|ago| at(NOW - ago)).collect(),
        attempts: vec![at(NOW - 1)],
        ..ServiceState::default()
    };
    let unknown = ProcessStatus::NotApplicable;
    for (process_status, known, verdict) in [
        (&unknown, restarted(None, &[]), Verdict::Failing),
        (&unknown, restarted(Some(10), &[]), Verdict::Failing),
        (&unknown, restarted(Some(59), &[59]), Verdict::Starting),
        (&unknown, restarted(Some(60), &[60]), Verdict::Failing),
        // it has been healthy since
        (
            &unknown,
            restarted(None, &[40, 30, 20, 10]),
            Verdict::Starting,
        ),
        (
            &unknown,
            restarted(Some(5), &[40, 30, 20]),
            Verdict::Starting,
        ),
        // the second in a row, and the third
        (
            &unknown,
            restarted(Some(900), &[900, 10]),
            Verdict::Starting,
        ),
        (
            &unknown,
            restarted(Some(900), &[5000, 900, 10]),
            Verdict::Starting,
        ),
        (
            &unknown,
            restarted(Some(900), &[900, 500, 10]),
            Verdict::Failing,
        ),
        // a process that is known is as old as it is
        (
            &ProcessStatus::NotRunning,
            restarted(Some(10), &[10]),
            Verdict::Failing,
        ),
        (
            &up(5, 3600).process_status,
            restarted(Some(10), &[10]),
            Verdict::Failing,
        ),
    ] {
        let decision = decide_one(&service("a"), stale(process_status), known.clone());
        assert_eq!(decision.verdict, verdict, "{process_status:?} {known:?}");
    }
    let decision = decide_one(&service("a"), stale(&unknown), restarted(Some(9), &[9]));
    assert_eq!(
        decision.why.as_deref(),
        Some("its logs and probes are not judged within 1m of its last restart")
    );
    // what is no log and no probe has none
    let seen = Observation {
        process_status: unknown.clone(),
        ..up(5, 0)
    };
    let failed = with(seen, Kind::Unit, "unit_failed", Severity::Critical);
    let decision = decide_one(&service("a"), failed, restarted(Some(9), &[9]));
    assert_eq!(decision.verdict, Verdict::Failing);
}

#[test]
fn a_paused_service_is_left_alone_until_the_pause_ends() {
    let paused = |until| ServiceState {
        paused_until: Some(at(NOW + until)),
        pause_reason: Some("upgrade".to_owned()),
        ..ServiceState::default()
    };
    let decision = decide_one(&service("a"), gone(), paused(60));
    assert_eq!(
        (decision.verdict, restarts(&decision), decision.failures),
        (Verdict::Paused, false, 1)
    );
    assert!(decision.why.unwrap().ends_with(": upgrade"));
    assert!(restarts(&decide_one(&service("a"), gone(), paused(0))));
}

#[test]
fn a_disabled_service_is_not_looked_at() {
    let mut service = service("a");
    service.enabled = false;
    assert_eq!(
        decide_one(&service, gone(), ServiceState::default()).verdict,
        Verdict::Disabled
    );
}

/// Decides about services that depend on each other, `(name, depends on, observation)`.
fn decide_many(
    services: &[(&str, &[&str], Option<Observation>)],
    state: &State,
) -> BTreeMap<String, Decision> {
    let mut seen = BTreeMap::new();
    let services: Vec<Service> = services
        .iter()
        .map(|(name, after, observation)| {
            if let Some(observation) = observation {
                seen.insert((*name).to_owned(), observation.clone());
            }
            Service {
                depends_on: after.iter().map(|&name| name.to_owned()).collect(),
                ..service(name)
            }
        })
        .collect();
    let facts = Facts {
        seen: &seen,
        state,
        now: at(NOW),
        trusted: true,
    };
    decide(&services, facts)
        .into_iter()
        .map(|decision| (decision.service.clone(), decision))
        .collect()
}

#[test]
fn restarts_follow_dependencies() {
    let nothing = State::default();
    let fine = Some(up(1, 3600));
    let dead = Some(gone());
    // the dependency stands after its dependent in the config, and is restarted before it all the same
    let both = decide_many(
        &[("app", &["db"], dead.clone()), ("db", &[], dead.clone())],
        &nothing,
    );
    assert_eq!(
        (both["app"].operation, both["app"].after.as_slice()),
        (Some(Operation::Restart), &["db".to_owned()][..])
    );
    assert_eq!(
        (both["db"].operation, both["db"].after.as_slice()),
        (Some(Operation::Restart), &[][..])
    );
    let well = decide_many(
        &[("db", &[], fine.clone()), ("app", &["db"], dead.clone())],
        &nothing,
    );
    assert_eq!(
        (well["app"].operation, well["app"].after.as_slice()),
        (Some(Operation::Restart), &[][..])
    );
    // what the last run saw of it counts only where this one did not look
    for (verdict, db, is_restarted) in [
        (Verdict::Down, fine.clone(), true),
        (Verdict::Down, None, false),
        (Verdict::Healthy, None, true),
    ] {
        let mut state = State::default();
        let known = ServiceState {
            verdict: Some(verdict),
            ..ServiceState::default()
        };
        state.services.insert("db".to_owned(), Box::new(known));
        let services = [("db", &[][..], db), ("app", &["db"], dead.clone())];
        let app = &decide_many(&services, &state)["app"];
        assert_eq!(app.operation.is_some(), is_restarted, "{verdict:?}");
    }
    // a dependent that is well is left alone
    let only_db = decide_many(
        &[("db", &[], dead.clone()), ("app", &["db"], fine)],
        &nothing,
    );
    assert!(only_db["db"].operation.is_some() && only_db["app"].verdict == Verdict::Healthy);
}

#[test]
fn a_chain_of_services_may_be_longer_than_a_stack_is_deep() {
    let services: Vec<Service> = (0..16_000)
        .map(|n| Service {
            depends_on: (n + 1 < 16_000)
                .then(|| format!("s{}", n + 1))
                .into_iter()
                .collect(),
            ..service(&format!("s{n}"))
        })
        .collect();
    let seen = services
        .iter()
        .map(|service| (service.name.clone(), gone()))
        .collect();
    let facts = Facts {
        seen: &seen,
        state: &State::default(),
        now: at(NOW),
        trusted: true,
    };
    let decisions = decide(&services, facts);
    assert!(decisions.iter().all(restarts));
    assert_eq!(decisions[0].after, ["s1"]);
}

#[test]
fn a_dependency_that_is_left_alone_is_waited_for_only_where_it_is_broken() {
    let mut state = State::default();
    let paused = ServiceState {
        paused_until: Some(at(NOW + 10)),
        ..ServiceState::default()
    };
    state.services.insert("db".to_owned(), Box::new(paused));
    for (db, why) in [
        (gone(), Some("waits for `db`, which is paused")),
        (up(1, 3600), None),
    ] {
        let services = [("db", &[][..], Some(db)), ("app", &["db"], Some(gone()))];
        let decisions = decide_many(&services, &state);
        assert_eq!(decisions["db"].verdict, Verdict::Paused);
        assert_eq!(decisions["app"].why.as_deref(), why);
        assert_eq!(decisions["app"].operation.is_some(), why.is_none());
    }
}

#[test]
fn nothing_is_restarted_while_a_dependency_is_down() {
    let mut state = State::default();
    state
        .services
        .insert("db".to_owned(), Box::new(attempts(&[1, 2, 3])));
    let dead = Some(gone());
    let chain = decide_many(
        &[
            ("web", &["app"], dead.clone()),
            ("app", &["db"], dead.clone()),
            ("db", &[], dead.clone()),
        ],
        &state,
    );
    assert_eq!(chain["db"].verdict, Verdict::Exhausted);
    assert_eq!(chain["app"].verdict, Verdict::Waiting);
    assert_eq!(
        chain["app"].why.as_deref(),
        Some("waits for `db`, which is exhausted")
    );
    assert_eq!(
        chain["web"].why.as_deref(),
        Some("waits for `app`, which is waiting")
    );
    // not looked at in this run: as the last one left it
    let mut state = State::default();
    let down = ServiceState {
        verdict: Some(Verdict::Down),
        ..ServiceState::default()
    };
    state.services.insert("db".to_owned(), Box::new(down));
    let alone = decide_many(&[("db", &[], None), ("app", &["db"], dead.clone())], &state);
    assert_eq!(alone["app"].verdict, Verdict::Waiting);
    // and a circle, which the config refuses, ends
    let circle = decide_many(
        &[("a", &["b"], dead.clone()), ("b", &["a"], dead)],
        &State::default(),
    );
    assert_eq!(circle.len(), 2);
}

mod units {
    use super::*;
    use crate::check::process::ProcessStatus;
    use crate::check::unit;

    fn busy(mut observation: Observation) -> Observation {
        observation.activating = Some("systemd is busy".to_owned());
        observation
    }

    fn unseen(mut observation: Observation) -> Observation {
        observation.process_status = ProcessStatus::Unknown;
        with(observation, Kind::Unit, unit::MASKED, Severity::Unknown)
    }

    #[test]
    fn f27_what_systemd_is_busy_with_is_left_to_it() {
        let stale = |observation| with(observation, Kind::Log, "log_stale", Severity::Critical);
        let again = |observation| with(observation, Kind::Unit, unit::RESTARTED, Severity::Warning);
        let masked = |observation| with(observation, Kind::Unit, unit::MASKED, Severity::Unknown);
        for (observation, verdict, restarts) in [
            (busy(up(1, 3600)), Verdict::Starting, false),
            (busy(gone()), Verdict::Starting, false),
            (busy(stale(up(1, 3600))), Verdict::Starting, false),
            // that it does so again and again is told meanwhile
            (busy(again(gone())), Verdict::Degraded, false),
            (again(up(1, 3600)), Verdict::Degraded, false),
            (masked(up(1, 3600)), Verdict::Unknown, false),
            // a stale log is a reason to restart, but what is masked cannot be
            (unseen(stale(up(1, 3600))), Verdict::Down, false),
            (
                with(gone(), Kind::Unit, unit::FAILED, Severity::Critical),
                Verdict::Failing,
                true,
            ),
        ] {
            let decided = decide_one(&service("a"), observation.clone(), attempts(&[]));
            assert_eq!(decided.verdict, verdict, "{observation:?}");
            assert_eq!(decided.operation.is_some(), restarts, "{observation:?}");
        }
        let masked_and_stale = unseen(stale(up(1, 3600)));
        let decided = decide_one(&service("a"), masked_and_stale, attempts(&[]));
        let why = decided.why.unwrap_or_default();
        assert!(why.contains("not restarted: unit_masked"), "{why}");
    }
}

#[test]
fn what_a_restart_does_not_mend_is_only_alerted_about() {
    let invalid = |seen| with(seen, Kind::Port, "certificate_invalid", Severity::Critical);
    let decided = decide_one(&service("a"), invalid(up(1, 3600)), attempts(&[]));
    assert_eq!(decided.verdict, Verdict::Down);
    assert!(decided.operation.is_none());
    assert_eq!(
        decided.why.as_deref(),
        Some("a restart does not mend what is wrong, so it is only alerted about")
    );
    // beside what it does mend, it is no reason against it
    let decided = decide_one(&service("a"), invalid(gone()), attempts(&[]));
    assert!(decided.operation.is_some());
}

#[test]
fn ports_have_the_grace_of_a_young_process_and_certificates_have_none() {
    for (code, verdict) in [
        ("port_closed", Verdict::Starting),
        ("port_unexpected", Verdict::Starting),
        ("certificate_invalid", Verdict::Down),
    ] {
        let seen = with(up(1, 5), Kind::Port, code, Severity::Critical);
        assert_eq!(
            decide_one(&service("a"), seen, attempts(&[])).verdict,
            verdict,
            "{code}"
        );
    }
}

#[test]
fn a_dependency_that_was_left_out_is_as_the_last_run_saw_it() {
    let app = Service {
        depends_on: vec!["db".to_owned()],
        ..service("app")
    };
    for (verdict, failures, waits) in [
        (Verdict::Healthy, 0, false),
        (Verdict::Paused, 0, false),
        // a paused service is broken all the same
        (Verdict::Paused, 3, true),
        (Verdict::Down, 3, true),
        (Verdict::Starting, 0, false),
    ] {
        let mut state = State::default();
        let db = ServiceState {
            verdict: Some(verdict),
            consecutive_failures: failures,
            ..ServiceState::default()
        };
        state.services.insert("db".to_owned(), Box::new(db));
        let seen = BTreeMap::from([("app".to_owned(), gone())]);
        let facts = Facts {
            seen: &seen,
            state: &state,
            now: at(0),
            trusted: true,
        };
        let decisions = decide(&[service("db"), app.clone()], facts);
        let [decision] = decisions.as_slice() else {
            panic!("only what was looked at is decided about");
        };
        assert_eq!(
            decision.verdict == Verdict::Waiting,
            waits,
            "{verdict:?} {failures}"
        );
        assert_eq!(decision.operation.is_none(), waits);
    }
}

#[test]
fn a_unit_that_something_else_starts_is_alerted_about_and_not_restarted() {
    let why = "a.service is started by a.timer, so it is not started here";
    let failed = |left_alone: Option<&str>| {
        let mut seen = with(gone(), Kind::Unit, "unit_failed", Severity::Critical);
        seen.left_alone = left_alone.map(str::to_owned);
        seen
    };
    let decision = decide_one(&service("a"), failed(Some(why)), ServiceState::default());
    assert_eq!(decision.verdict, Verdict::Down);
    assert_eq!(decision.why.as_deref(), Some(why));
    assert!(!restarts(&decision));
    let decision = decide_one(&service("a"), failed(None), ServiceState::default());
    assert!(restarts(&decision));
}
