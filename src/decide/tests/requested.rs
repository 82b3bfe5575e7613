//! Requests for restarts: what forbids them, and what does not.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Decision, Facts, decide_with_requests};
use crate::check::Observation;
use crate::check::process::ProcessStatus;
use crate::check::{Kind, Severity};
use crate::config::{OnExhausted, Service};
use crate::fixtures::{at, gone, service, up, with};
use crate::restart::Operation;
use crate::state::{ServiceState, State};
use crate::verdict::Verdict;

/// What is decided about `a`, which somebody asked for, beside `b`.
fn asked(services: &[Service], seen: Vec<(&str, Observation)>, state: ServiceState) -> Decision {
    let mut states = State::default();
    states.services.insert("a".to_owned(), Box::new(state));
    let seen: BTreeMap<String, Observation> = seen
        .into_iter()
        .map(|(name, it)| (name.to_owned(), it))
        .collect();
    let facts = Facts {
        seen: &seen,
        state: &states,
        now: at(0),
        trusted: true,
    };
    let mut decisions = decide_with_requests(services, facts, &BTreeSet::from(["a"]));
    let place = decisions.iter().position(|it| it.service == "a").unwrap();
    decisions.swap_remove(place)
}

#[test]
fn a_service_that_is_well_is_restarted() {
    let decision = asked(
        &[service("a")],
        vec![("a", up(7, 1000))],
        ServiceState::default(),
    );
    assert_eq!(decision.operation, Some(Operation::Restart));
    assert_eq!(decision.refused, None);
    assert_eq!(decision.verdict, Verdict::Failing);
}

#[test]
fn patience_and_cooldowns_do_not_hold_it_back() {
    let mut patient = service("a");
    patient.policy.after_failures = 5;
    patient.policy.cooldown = std::time::Duration::from_secs(600);
    let lately = ServiceState {
        attempts: vec![at(-60)],
        ..ServiceState::default()
    };
    let decision = asked(&[patient], vec![("a", gone())], lately);
    assert_eq!(decision.operation, Some(Operation::Restart));
    assert_eq!(decision.refused, None);
}

#[test]
fn what_forbids_it_changes_no_verdict() {
    let state = ServiceState::default;
    let unseen = || Observation {
        process_status: ProcessStatus::Unknown,
        ..with(
            up(7, 1000),
            Kind::Process,
            "process_unreadable",
            Severity::Unknown,
        )
    };
    let watched = Service {
        method: None,
        ..service("a")
    };
    let mut never = service("a");
    never.policy.max_per_hour = 0;
    let mut quitter = service("a");
    quitter.policy.on_exhausted = OnExhausted::GiveUp;
    let disabled = Service {
        enabled: false,
        ..service("a")
    };
    let paused = ServiceState {
        paused_until: Some(at(60)),
        ..state()
    };
    let spent = ServiceState {
        attempts: vec![at(-30), at(-20), at(-10)],
        ..state()
    };
    let given_up = ServiceState {
        given_up: Some(at(-9000)),
        ..state()
    };
    for (service, seen, state, verdict, why) in [
        (
            service("a"),
            up(7, 1000),
            paused,
            Verdict::Paused,
            "paused until ",
        ),
        (
            service("a"),
            up(7, 1000),
            spent,
            Verdict::Healthy,
            "3 of 3 restarts in the last hour; the next can be made at ",
        ),
        (
            quitter,
            up(7, 1000),
            given_up,
            Verdict::Healthy,
            "given up; `watchdog reset a`",
        ),
        (
            watched,
            up(7, 1000),
            state(),
            Verdict::Healthy,
            "no restart method",
        ),
        (
            never,
            up(7, 1000),
            state(),
            Verdict::Healthy,
            "max_per_hour = 0",
        ),
        (
            disabled,
            up(7, 1000),
            state(),
            Verdict::Disabled,
            "it is disabled",
        ),
        (
            service("a"),
            unseen(),
            state(),
            Verdict::Unknown,
            "its process could not be seen",
        ),
    ] {
        let decision = asked(&[service], vec![("a", seen)], state);
        assert_eq!(decision.verdict, verdict, "{why}");
        assert_eq!(decision.operation, None, "{why}");
        let refused = decision.refused.unwrap_or_default();
        assert!(refused.starts_with(why), "{refused}");
    }
}

#[test]
fn what_it_depends_on_comes_first() {
    let needy = || Service {
        depends_on: vec!["b".to_owned()],
        ..service("a")
    };
    let seen = |b| vec![("a", up(7, 1000)), ("b", b)];
    let well = asked(
        &[needy(), service("b")],
        seen(up(8, 1000)),
        ServiceState::default(),
    );
    assert_eq!(
        (well.operation, well.after.len()),
        (Some(Operation::Restart), 0)
    );
    let restarting = asked(
        &[needy(), service("b")],
        seen(gone()),
        ServiceState::default(),
    );
    assert_eq!(restarting.operation, Some(Operation::Restart));
    assert_eq!(restarting.after, ["b"]);
    let broken = Service {
        method: None,
        ..service("b")
    };
    let held = asked(&[needy(), broken], seen(gone()), ServiceState::default());
    assert_eq!(held.operation, None);
    assert_eq!(held.verdict, Verdict::Healthy);
    assert_eq!(
        held.refused.as_deref(),
        Some("waits for `b`, which is down")
    );
}
