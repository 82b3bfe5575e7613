use super::*;
use crate::config::OnExhausted;
use crate::notify::{Alert, Channel, Event, Routing};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use proptest::prelude::*;

use crate::check::{CheckState, CheckStates, Kind, Rule, SubjectState, assign_ids, process};
use crate::clock::Reading;
use crate::decide::{Facts, decide};
use crate::fixtures::{at, gone, identity, routing, service, up, with};
use crate::notify::mail::{Mailbox, Settings, Transport};
use crate::restart::{Action, MethodName, Operation};
use crate::state::channels::THREAD_KEPT;

mod held;
mod policy;

fn mail() -> Channel {
    let on = [
        Event::Restarted,
        Event::RestartFailed,
        Event::Exhausted,
        Event::Down,
        Event::Recovered,
    ];
    channel("mail", routing(&on))
}

fn channel(name: &str, routing: Routing) -> Channel {
    Channel {
        name: name.to_owned(),
        ..Channel::mail(Settings {
            from: Mailbox::parse("w@example.org").unwrap(),
            to: vec![Mailbox::parse("o@example.org").unwrap()],
            routing,
            timeout: None,
            transport: Transport::Directory("/nonexistent".into()),
        })
    }
}

/// What is remembered of mail.
fn of_mail(state: &mut State) -> &mut crate::state::channels::ChannelState {
    state.channels.entry("mail".to_owned()).or_default()
}

/// The thread of the present incident of `a`, and of those before.
fn threads(state: &State) -> Vec<&Vec<String>> {
    state.channels["mail"].threads.values().collect()
}

/// A repair that was made.
fn repaired(ok: bool) -> Outcome {
    let Outcome::Attempted(mut attempted) = tried(ok) else {
        unreachable!("an attempt is one")
    };
    attempted.action.kind = Operation::Repair;
    attempted.action.new_pid = None;
    Outcome::Attempted(attempted)
}

/// A restart that is due.
fn due() -> Decision {
    Decision {
        operation: Some(Operation::Restart),
        ..Decision::of("a", Verdict::Failing)
    }
}

fn tried(ok: bool) -> Outcome {
    Outcome::Attempted(Box::new(Attempted {
        unanswered: None,
        unmade: None,
        action: Action {
            kind: Operation::Restart,
            method: MethodName::Command,
            ok,
            old_pid: None,
            new_pid: ok.then_some(99),
            duration_ms: 1,
            error: (!ok).then(|| "no".to_owned()),
            stderr: Vec::new(),
            pending: Vec::new(),
            evidence: None,
            facts: Vec::new(),
            from: None,
            to: None,
        },
        subject: SubjectState {
            process: process::LastSeen {
                main: Some(identity(99)),
                ..process::LastSeen::default()
            },
            unit: None,
            container: None,
        },
        checks: CheckStates::default(),
    }))
}

/// One run over one service: charges where a restart is due, and settles with `restart_works`.
fn run(
    state: &mut State,
    service: &Service,
    observation: &Observation,
    second: i64,
    works: bool,
) -> Verdict {
    let channels = [mail()];
    let now = at(second);
    let seen = BTreeMap::from([(service.name.clone(), observation.clone())]);
    let facts = Facts {
        seen: &seen,
        state,
        now,
        trusted: true,
    };
    let decision = decide(std::slice::from_ref(service), facts).remove(0);
    let outcome = decision.operation.is_some().then(|| {
        record_attempt(state, service, &decision, observation, now);
        tried(works)
    });
    let alerting = AlertConfig {
        channels: &channels,
    };
    settle(
        state,
        service,
        &decision,
        Some(observation),
        outcome.as_ref(),
        now,
        alerting,
    )
    .report
    .verdict
}

fn alerted(state: &mut State) -> Vec<Event> {
    let pending = of_mail(state).pending.drain(..);
    pending.map(|alert| alert.event).collect()
}

#[test]
fn a_failure_is_reported_once_and_again_when_it_lasts() {
    let (service, mut state) = (service("a"), State::default());
    let mut heard = Vec::new();
    for minute in 0..=70 {
        run(&mut state, &service, &gone(), minute * 60, false);
        heard.extend(alerted(&mut state).into_iter().map(|event| (minute, event)));
    }
    assert_eq!(
        heard,
        [
            (0, Event::RestartFailed),
            (3, Event::Exhausted),
            (60, Event::RestartFailed),
            (63, Event::Exhausted),
        ]
    );
}

#[test]
fn a_recovery_is_reported_once_and_makes_the_next_failure_news() {
    let (mut service, mut state) = (service("a"), State::default());
    service.method = None;
    let well = up(1, 3600);
    let mut heard = Vec::new();
    for observation in [&gone(), &gone(), &well, &well, &gone(), &well] {
        let verdict = run(&mut state, &service, observation, 60, true);
        heard.push((verdict, alerted(&mut state)));
    }
    assert_eq!(
        heard,
        [
            (Verdict::Down, vec![Event::Down]),
            (Verdict::Down, vec![]),
            (Verdict::Healthy, vec![Event::Recovered]),
            (Verdict::Healthy, vec![]),
            (Verdict::Down, vec![Event::Down]),
            (Verdict::Healthy, vec![Event::Recovered]),
        ]
    );
}

#[test]
fn a_good_restart_is_reported_as_such_and_not_again_as_a_recovery() {
    let (service, mut state) = (service("a"), State::default());
    assert_eq!(
        run(&mut state, &service, &gone(), 0, true),
        Verdict::Restarted
    );
    assert_eq!(alerted(&mut state), [Event::Restarted]);
    assert_eq!(
        run(&mut state, &service, &up(99, 60), 60, true),
        Verdict::Healthy
    );
    assert_eq!(alerted(&mut state), []);
    assert_eq!(state.services["a"].consecutive_failures, 0);
}

#[test]
fn the_journal_has_every_change_and_every_restart() {
    let (service, mut state) = (service("a"), State::default());
    let channels = [mail()];
    let (mut events, mut persisted) = (Vec::new(), Vec::new());
    let mut step = |state: &mut State, observation: &Observation, second: i64| {
        let seen = BTreeMap::from([("a".to_owned(), observation.clone())]);
        let facts = Facts {
            seen: &seen,
            state,
            now: at(second),
            trusted: true,
        };
        let decision = decide(std::slice::from_ref(&service), facts).remove(0);
        let outcome = decision.operation.is_some().then(|| {
            events.push(
                record_attempt(state, &service, &decision, observation, at(second))
                    .event
                    .to_string(),
            );
            tried(true)
        });
        let alerting = AlertConfig {
            channels: &channels,
        };
        let settled = settle(
            state,
            &service,
            &decision,
            Some(observation),
            outcome.as_ref(),
            at(second),
            alerting,
        );
        persisted.push(settled.must_persist);
        events.extend(
            settled
                .entries
                .into_iter()
                .map(|entry| entry.event.to_string()),
        );
    };
    let warned = with(up(99, 600), Kind::Log, "log_error", Severity::Warning);
    for (minute, observation) in [
        up(1, 600),
        up(1, 660),
        gone(),
        gone(),
        up(99, 600),
        warned.clone(),
        warned,
        up(99, 700),
    ]
    .iter()
    .enumerate()
    {
        step(&mut state, observation, i64::try_from(minute).unwrap() * 60);
    }
    assert_eq!(
        events,
        [
            "restarting",
            "restarted",
            "restarting",
            "restarted",
            "recovered",
            "degraded",
            "recovered"
        ]
    );
    // what is as it was need not be on the disk
    assert_eq!(
        persisted,
        [true, false, true, true, true, true, false, true]
    );
}

#[test]
fn f33_a_run_that_was_cut_short_is_reported_and_its_attempt_counts() {
    let (service, mut state) = (service("a"), State::default());
    record_attempt(&mut state, &service, &due(), &gone(), at(0));
    let channels = [mail()];
    let entries = recover_interrupted(
        &mut state,
        at(60),
        AlertConfig {
            channels: &channels,
        },
        |_| false,
    );
    assert_eq!(
        entries
            .iter()
            .map(|entry| entry.event.name())
            .collect::<Vec<_>>(),
        ["interrupted"]
    );
    assert_eq!(alerted(&mut state), [Event::Watchdog]);
    assert_eq!(state.services["a"].attempts_in_hour(at(60)), 1);
    assert!(
        recover_interrupted(
            &mut state,
            at(120),
            AlertConfig {
                channels: &channels
            },
            |_| false
        )
        .is_empty()
    );
}

/// Notes that a message of such a number is in the outbox.
fn queued(state: &mut State, n: usize, in_it: impl Fn(&Alert) -> bool) -> bool {
    of_mail(state).queued(at(0), Some(&format!("<{n}@h>")), in_it)
}

#[test]
fn no_two_alerts_have_the_same_id() {
    let mut state = State::default();
    let channels = [mail()];
    for n in 0..20 {
        let alerting = AlertConfig {
            channels: &channels,
        };
        alert_own_trouble(&mut state, at(n / 10), &n.to_string(), alerting);
    }
    let pending = of_mail(&mut state).pending.iter();
    let mut ids: Vec<String> = pending.map(|alert| alert.id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

#[test]
fn f33_a_message_is_noted_once_and_covers_only_what_is_in_it() {
    let (mut service, mut state) = (service("a"), State::default());
    service.method = None;
    run(&mut state, &service, &gone(), 0, false);
    let first = of_mail(&mut state).pending[0].id.clone();
    run(&mut state, &service, &gone(), 7200, false);
    assert_eq!(of_mail(&mut state).pending.len(), 2);
    let in_it = |alert: &Alert| alert.id == first;
    assert!(queued(&mut state, 1, in_it));
    assert_eq!(of_mail(&mut state).pending.len(), 1);
    assert!(!queued(&mut state, 1, in_it), "noted before");
    assert_eq!(of_mail(&mut state).sent.len(), 1);
    assert_eq!(threads(&state), [&["<1@h>"]]);
}

#[test]
fn a_thread_ends_when_all_is_well_and_reported() {
    let (mut service, mut state) = (service("a"), State::default());
    service.method = None;
    run(&mut state, &service, &gone(), 0, false);
    queued(&mut state, 0, |_| true);
    for n in 1..30 {
        let second = 3600 * i64::try_from(n).unwrap();
        run(&mut state, &service, &gone(), second, false);
        queued(&mut state, n, |_| true);
        state.close_threads();
    }
    let thread = threads(&state)[0];
    assert_eq!(thread.len(), THREAD_KEPT);
    assert_eq!(thread[0], "<0@h>", "the first one stays");
    assert_eq!(thread[THREAD_KEPT - 1], "<29@h>");
    // well again, and that is still to be reported
    run(&mut state, &service, &up(1, 3600), 200_000, false);
    assert!(!state.close_threads());
    assert_eq!(threads(&state)[0].len(), THREAD_KEPT);
    queued(&mut state, 30, |_| true);
    assert!(state.close_threads());
    assert!(threads(&state).is_empty());
    assert!(!state.close_threads());
}

#[test]
fn all_alerts_of_an_incident_have_its_id_and_the_next_incident_has_another() {
    let (mut service, mut state) = (service("a"), State::default());
    service.method = None;
    let well = up(1, 3600);
    let mut incidents = Vec::new();
    for (second, seen) in [
        (0, &gone()),
        (60, &gone()),
        (3600, &gone()),
        (3660, &well),
        (3720, &gone()),
        (3780, &well),
    ] {
        run(&mut state, &service, seen, second, false);
        for alert in of_mail(&mut state).pending.drain(..) {
            incidents.push((alert.event, alert.incident.unwrap()));
        }
    }
    let (first, second) = (incident_id("a", at(0)), incident_id("a", at(3720)));
    assert_eq!(
        incidents,
        [
            (Event::Down, first.clone()),
            (Event::Down, first.clone()),
            (Event::Recovered, first),
            (Event::Down, second.clone()),
            (Event::Recovered, second),
        ]
    );
    assert_eq!(state.services["a"].incident, None);
}

#[test]
fn a_warning_is_reported_once_an_incident_and_a_failure_again_after_a_while() {
    let warned = with(up(1, 3600), Kind::Log, "log_error", Severity::Warning);
    let unseen = with(up(1, 3600), Kind::Log, "log_unreadable", Severity::Unknown);
    let well = up(1, 3600);
    let channels = [channel(
        "mail",
        routing(&[Event::Degraded, Event::Unknown, Event::Down]),
    )];
    let (mut service, mut state) = (service("a"), State::default());
    service.method = None;
    let mut heard = Vec::new();
    let mut step = |state: &mut State, hour: i64, seen: &Observation| {
        let known = BTreeMap::from([("a".to_owned(), seen.clone())]);
        let facts = Facts {
            seen: &known,
            state,
            now: at(hour * 3600),
            trusted: true,
        };
        let decision = decide(std::slice::from_ref(&service), facts).remove(0);
        let alerting = AlertConfig {
            channels: &channels,
        };
        let now = at(hour * 3600);
        settle(state, &service, &decision, Some(seen), None, now, alerting);
        heard.extend(alerted(state).into_iter().map(|event| (hour, event)));
    };
    for (hour, seen) in [
        &warned,
        &warned,
        &unseen,
        &warned,
        &unseen,
        &warned, // one incident
        &well,
        &warned,
        &warned, // the recovery is not asked for: all the same the next one is news
        &well,
        &gone(),
        &gone(),
        &warned,
        &gone(),
        &warned,
    ]
    .into_iter()
    .enumerate()
    {
        step(&mut state, i64::try_from(hour).unwrap(), seen);
    }
    assert_eq!(
        heard,
        [
            (0, Event::Degraded),
            (2, Event::Unknown),
            (7, Event::Degraded),
            (10, Event::Down),
            (11, Event::Down),
            (12, Event::Degraded),
            (13, Event::Down),
        ]
    );
}

#[test]
fn an_alert_begins_with_the_finding_that_matters_most() {
    let mut seen = up(1, 3600);
    for (check, code, severity) in [
        (Kind::Process, "pid_file_stale", Severity::Warning),
        (Kind::Log, "log_unreadable", Severity::Unknown),
        (Kind::Log, "log_stale", Severity::Critical),
        (Kind::Process, "process_missing", Severity::Critical),
        (Kind::Port, "port_closed", Severity::Critical),
        (Kind::Unit, "unit_failed", Severity::Critical),
    ] {
        seen = with(seen, check, code, severity);
    }
    let (mut service, mut state) = (service("a"), State::default());
    service.method = None;
    run(&mut state, &service, &seen, 0, false);
    let codes: Vec<_> = of_mail(&mut state).pending[0]
        .findings
        .iter()
        .map(|finding| &*finding.code)
        .collect();
    assert_eq!(
        codes,
        [
            "process_missing",
            "unit_failed",
            "log_stale",
            "port_closed",
            "log_unreadable",
            "pid_file_stale",
        ]
    );
}

#[test]
fn each_channel_is_alerted_as_its_own_table_says() {
    let (mut service, mut state) = (service("a"), State::default());
    service.method = None;
    let often = Routing {
        remind_every: Duration::from_secs(60),
        ..routing(&[Event::Down])
    };
    let channels = [mail(), channel("often", often)];
    let mut heard = Vec::new();
    for (second, seen) in [(0, gone()), (60, gone()), (120, up(1, 3600)), (180, gone())] {
        let verdict = if seen.findings.is_empty() {
            Verdict::Healthy
        } else {
            Verdict::Down
        };
        let decision = Decision {
            failures: 0,
            ..Decision::of("a", verdict)
        };
        let alerting = AlertConfig {
            channels: &channels,
        };
        let (now, state) = (at(second), &mut state);
        settle(state, &service, &decision, Some(&seen), None, now, alerting);
        for (name, known) in &mut state.channels {
            let events = known.pending.drain(..);
            heard.extend(events.map(|alert| (second, name.clone(), alert.event)));
        }
    }
    let heard: Vec<_> = heard
        .iter()
        .map(|(second, name, event)| (*second, name.as_str(), *event))
        .collect();
    assert_eq!(
        heard,
        [
            (0, "mail", Event::Down),
            (0, "often", Event::Down),
            (60, "often", Event::Down),
            (120, "mail", Event::Recovered),
            (180, "mail", Event::Down),
            (180, "often", Event::Down),
        ]
    );
}

#[test]
fn f48_what_every_attempt_met_is_known() {
    let codes = |attempts: &[&[&str]]| {
        let remembered = ServiceState {
            attempt_codes: attempts
                .iter()
                .map(|codes| codes.iter().map(ToString::to_string).collect())
                .collect(),
            ..ServiceState::default()
        };
        same_finding(&remembered)
    };
    assert_eq!(codes(&[]), None);
    assert_eq!(codes(&[&["a"]]), None, "one attempt shows nothing");
    assert_eq!(codes(&[&["a"], &["a", "b"]]), Some("a".to_owned()));
    assert_eq!(
        codes(&[&["a", "b"], &["b"], &["c", "b"]]),
        Some("b".to_owned())
    );
    assert_eq!(codes(&[&["a"], &["b"]]), None);
    assert_eq!(codes(&[&[], &["b"]]), None);
    let seen = with(gone(), Kind::Log, "log_stale", Severity::Critical);
    let seen = with(seen, Kind::Log, "log_error", Severity::Warning);
    let seen = with(seen, Kind::Log, "log_stale", Severity::Critical);
    assert_eq!(critical_codes(&seen), ["log_stale", "process_missing"]);
    let (service, mut state) = (service("a"), State::default());
    run(&mut state, &service, &seen, 0, false);
    assert_eq!(
        state.services["a"].attempt_codes,
        [["log_stale", "process_missing"]]
    );
}

#[test]
fn what_a_trouble_leaves_behind_ends_with_it() {
    let (service, mut state) = (service("a"), State::default());
    run(&mut state, &service, &up(1, 10), 0, true);
    assert_eq!(state.services["a"].since, Some(at(0)));
    run(&mut state, &service, &gone(), 60, false);
    run(&mut state, &service, &gone(), 120, false);
    let it = &state.services["a"];
    assert_eq!((it.since, it.trouble_since), (Some(at(60)), Some(at(60))));
    assert_eq!((it.attempt_codes.len(), it.consecutive_failures), (2, 2));
    assert_eq!(it.recorded, None);
    // a young process that is not judged yet is neither well nor a new trouble
    let young = with(up(2, 5), Kind::Log, "log_stale", Severity::Critical);
    assert_eq!(
        run(&mut state, &service, &young, 180, false),
        Verdict::Starting
    );
    let it = &state.services["a"];
    assert_eq!((it.since, it.trouble_since), (Some(at(180)), Some(at(60))));
    run(&mut state, &service, &up(2, 65), 240, false);
    let it = &state.services["a"];
    assert_eq!((it.trouble_since, it.attempt_codes.len()), (None, 0));
    // a good restart begins a new row, and says nothing of the trouble before it is seen to be well
    assert_eq!(
        run(&mut state, &service, &gone(), 300, true),
        Verdict::Restarted
    );
    let it = &state.services["a"];
    assert_eq!(
        (it.consecutive_failures, it.trouble_since),
        (0, Some(at(300)))
    );
}

#[test]
fn only_who_gives_up_is_remembered_as_such() {
    for (on_exhausted, given_up) in [
        (OnExhausted::Wait, None),
        (OnExhausted::GiveUp, Some(at(180))),
    ] {
        let (mut service, mut state) = (service("a"), State::default());
        service.policy.on_exhausted = on_exhausted;
        for minute in 0..6 {
            let verdict = run(&mut state, &service, &gone(), minute * 60, false);
            assert_eq!(verdict == Verdict::Exhausted, minute >= 3);
        }
        assert_eq!(state.services["a"].given_up, given_up);
    }
}

#[test]
fn young_processes_are_remembered_once_each_until_all_is_well() {
    let (mut service, mut state) = (service("a"), State::default());
    service.method = None;
    let with_stale_log = |pid, age| with(up(pid, age), Kind::Log, "log_stale", Severity::Critical);
    let young = |state: &State| -> Vec<i32> {
        state.services["a"]
            .recent_starts
            .iter()
            .map(|it| it.pid)
            .collect()
    };
    for (second, seen) in [
        (0, with_stale_log(1, 5)),
        (10, with_stale_log(1, 15)),
        (20, with_stale_log(2, 59)),
    ] {
        run(&mut state, &service, &seen, second, false);
    }
    assert_eq!(young(&state), [1, 2]);
    // as old as its grace is not young any more
    run(&mut state, &service, &with_stale_log(3, 60), 30, false);
    assert_eq!(young(&state), [1, 2]);
    for n in 4..20 {
        run(
            &mut state,
            &service,
            &with_stale_log(n, 1),
            i64::from(n) * 10,
            false,
        );
    }
    assert_eq!(young(&state), (20 - 8..20).collect::<Vec<_>>());
    run(&mut state, &service, &up(30, 3600), 300, false);
    assert!(young(&state).is_empty());
}

#[test]
fn an_attempt_keeps_what_it_was_made_for() {
    let (service, mut state) = (service("a"), State::default());
    let seen = with(up(7, 3600), Kind::Log, "log_stale", Severity::Critical);
    let entry = record_attempt(&mut state, &service, &due(), &seen, at(0));
    assert_eq!(
        entry.message.as_deref(),
        Some("attempt 1 of 3 in this hour")
    );
    let recorded = state.services["a"].recorded.clone().unwrap();
    assert_eq!(recorded.main, Some(identity(7)));
    record_attempt(&mut state, &service, &due(), &gone(), at(1));
    let recorded = state.services["a"].recorded.clone().unwrap();
    assert_eq!(recorded.main, None);
}

#[test]
fn logs_that_the_config_no_longer_has_are_forgotten() {
    let (service, mut state) = (service("a"), State::default());
    let remembered = state.services.entry("a".to_owned()).or_default();
    remembered.logs.insert("old.log".to_owned(), Arc::default());
    let old = "log:/old.log".to_owned();
    remembered
        .checks
        .insert(old.into(), CheckState::Log(Arc::default()));
    run(&mut state, &service, &up(1, 3600), 0, false);
    assert!(state.services["a"].logs.is_empty() && state.services["a"].checks.is_empty());
}

#[test]
fn what_follows_a_restart_that_was_reported_is_news() {
    let (service, mut state) = (service("a"), State::default());
    let mut heard = Vec::new();
    for (second, works) in [(0, false), (60, true), (120, false)] {
        run(&mut state, &service, &gone(), second, works);
        heard.extend(alerted(&mut state));
    }
    assert_eq!(
        heard,
        [Event::RestartFailed, Event::Restarted, Event::RestartFailed]
    );
}

#[test]
fn one_that_is_restarted_again_and_again_is_reported_once_in_a_while() {
    let (mut service, mut state) = (service("a"), State::default());
    service.policy.max_per_hour = 60;
    let mut heard = Vec::new();
    for minute in 0..=61 {
        run(&mut state, &service, &gone(), minute * 60, true);
        heard.extend(alerted(&mut state).into_iter().map(|event| (minute, event)));
    }
    assert_eq!(heard, [(0, Event::Restarted), (60, Event::Restarted)]);
}

#[test]
fn what_an_attempt_has_started_was_seen_after_it_although_the_run_began_before() {
    let (service, mut state) = (service("a"), State::default());
    record_attempt(&mut state, &service, &due(), &gone(), at(5));
    let channels = [mail()];
    let alerting = AlertConfig {
        channels: &channels,
    };
    let outcome = tried(true);
    settle(
        &mut state,
        &service,
        &due(),
        Some(&gone()),
        Some(&outcome),
        at(0),
        alerting,
    );
    let known = &state.services["a"];
    assert!(known.was_seen_since_attempt(), "{known:?}");
    assert!(known.good_restarts.iter().all(|&made| made >= at(5)));
}

/// What happens to the simulated machine in a minute.
#[derive(Clone, Debug)]
enum Weather {
    Calm,
    Crash,
    /// It crashes, and cannot be started for so many minutes.
    Broken(u32),
    Freeze,
    /// It writes errors until it is restarted or repaired.
    Sick,
    /// The wall clock is set by so many seconds.
    ClockSet(i64),
    /// A run is cut short after it has recorded an attempt.
    CutShort,
    /// No run for so many minutes.
    Gap(u32),
    Reboot,
}

fn weather() -> impl Strategy<Value = Weather> {
    prop_oneof![
        900 => Just(Weather::Calm),
        30 => Just(Weather::Crash),
        4 => (1..400_u32).prop_map(Weather::Broken),
        10 => Just(Weather::Freeze),
        15 => Just(Weather::Sick),
        6 => prop_oneof![-90_000..90_000_i64, -5..5_i64].prop_map(Weather::ClockSet),
        8 => Just(Weather::CutShort),
        4 => (1..200_u32).prop_map(Weather::Gap),
        2 => Just(Weather::Reboot),
    ]
}

/// A machine with one service, and the watchdog's state of it.
struct Machine {
    service: Service,
    state: State,
    /// True time, in seconds.
    time: i64,
    wall_offset: i64,
    boot: u32,
    booted: i64,
    pid: i32,
    alive: bool,
    frozen: bool,
    sick: bool,
    broken_until: i64,
    /// Where no process can be known: for so many seconds after a restart its log is not written yet.
    warms_up_for: Option<i64>,
    warm_at: i64,
    /// True times of all attempts.
    starts: Vec<i64>,
    /// The strategies that made them.
    made_by: Vec<Option<String>>,
    /// What a run saw and came to, with the number of attempts by then.
    runs: Vec<Ran>,
    /// True times of those that did not fail.
    good_starts: Vec<i64>,
    /// True times at which it was healthy.
    healthy: Vec<i64>,
    journal: Vec<Entry>,
    /// The state as it was last saved, and as it was saved before.
    saved: [State; 2],
    trusted: bool,
    mail: Vec<Channel>,
    /// The ids of all alerts that there ever were.
    alerts: BTreeSet<String>,
    /// The ids of those that are in the outbox, on the disk.
    queued: BTreeSet<String>,
    /// True times at which each event of an incident was last alerted about, as long as it is no news when it comes again.
    alerted: BTreeMap<(Event, Option<String>), i64>,
    /// Alerts that came too soon after one like them.
    repeated: Vec<(i64, Event)>,
}

/// A run of a simulated machine.
#[derive(Clone, Copy, Debug)]
struct Ran {
    time: i64,
    /// Whether it counts as one that found it failing.
    failing: Option<bool>,
    /// It found nothing wrong.
    is_well: bool,
    /// It made an attempt.
    attempted: bool,
}

impl Machine {
    fn new(service: Service) -> Self {
        Self {
            service,
            state: State::default(),
            time: 1_000_000,
            wall_offset: 0,
            boot: 0,
            booted: 0,
            pid: 100,
            alive: true,
            frozen: false,
            sick: false,
            broken_until: 0,
            warms_up_for: None,
            warm_at: 0,
            starts: Vec::new(),
            made_by: Vec::new(),
            runs: Vec::new(),
            good_starts: Vec::new(),
            healthy: Vec::new(),
            journal: Vec::new(),
            saved: [State::default(), State::default()],
            trusted: true,
            mail: Vec::new(),
            alerts: BTreeSet::new(),
            queued: BTreeSet::new(),
            alerted: BTreeMap::new(),
            repeated: Vec::new(),
        }
    }

    fn reading(&self) -> Reading {
        let boot_ms = u64::try_from((self.time - self.booted) * 1000).unwrap();
        // as on a real machine, no two runs have the same time when the clock was set back: an alert's id is made of it
        let fraction = TimeDelta::microseconds(self.time / 30);
        Reading {
            wall: at(0) + TimeDelta::seconds(self.time + self.wall_offset) + fraction,
            boot_ms,
            awake_ms: boot_ms,
            boot_id: format!("boot-{}", self.boot).into(),
        }
    }

    fn observation(&self) -> Observation {
        if self.warms_up_for.is_some() {
            let unknown = Observation {
                process_status: ProcessStatus::NotApplicable,
                subject: SubjectState::default(),
                ..up(self.pid, 0)
            };
            let writes = self.alive && !self.frozen && self.time >= self.warm_at;
            return if writes {
                unknown
            } else {
                with(unknown, Kind::Log, "log_stale", Severity::Critical)
            };
        }
        match (self.alive, self.frozen) {
            (false, _) => gone(),
            (true, true) => with(
                up(self.pid, 3600),
                Kind::Process,
                "process_stopped",
                Severity::Critical,
            ),
            (true, false) if self.sick => with(
                up(self.pid, 3600),
                Kind::Log,
                "log_error",
                Severity::Critical,
            ),
            (true, false) => up(self.pid, 3600),
        }
    }

    fn run(&mut self, interrupted: bool) {
        let now = self.reading();
        self.state.adjust_to_clock(&now);
        let mail = self.mail.clone();
        let alerting = AlertConfig { channels: &mail };
        recover_interrupted(&mut self.state, now.wall, alerting, |_| false);
        let observation = self.observation();
        let seen = BTreeMap::from([(self.service.name.clone(), observation.clone())]);
        let facts = Facts {
            seen: &seen,
            state: &self.state,
            now: now.wall,
            trusted: std::mem::replace(&mut self.trusted, true),
        };
        let decision = decide(std::slice::from_ref(&self.service), facts).remove(0);
        let mut outcome = None;
        if decision.operation.is_some() {
            let entry = record_attempt(
                &mut self.state,
                &self.service,
                &decision,
                &observation,
                now.wall,
            );
            self.journal.push(entry);
            // state and backup alike
            self.save();
            self.save();
            self.starts.push(self.time);
            self.made_by.push(decision.strategy.clone());
            self.runs.push(Ran {
                time: self.time,
                failing: decision.counts,
                is_well: false,
                attempted: true,
            });
            if interrupted {
                return;
            }
            let works = self.time >= self.broken_until;
            if decision.operation == Some(Operation::Repair) {
                self.sick &= !works;
                outcome = Some(repaired(works));
            } else {
                self.alive = works;
                self.frozen = false;
                self.sick &= !works;
                self.pid += 1;
                outcome = Some(tried(works));
            }
            if works && decision.operation == Some(Operation::Restart) {
                self.good_starts.push(self.time);
                self.warm_at = self.time + self.warms_up_for.unwrap_or_default();
            }
        }
        if decision.operation.is_none() {
            self.runs.push(Ran {
                time: self.time,
                failing: decision.counts,
                is_well: observation.findings.is_empty(),
                attempted: false,
            });
        }
        if decision.verdict == Verdict::Healthy {
            self.healthy.push(self.time);
        }
        settle(
            &mut self.state,
            &self.service,
            &decision,
            Some(&observation),
            outcome.as_ref(),
            now.wall,
            alerting,
        );
        self.state.last_run = Some(now.wall);
        self.save();
    }

    /// Saves the state, and takes down which alerts are new in it.
    fn save(&mut self) {
        if self.mail.is_empty() {
            return;
        }
        self.saved.swap(0, 1);
        self.saved[0] = self.state.clone();
        for alert in self.state.channels.values().flat_map(|it| &it.pending) {
            let event = alert.event;
            if !self.alerts.insert(alert.id.clone()) || event == Event::Watchdog {
                continue;
            }
            let of = (event, alert.incident.clone());
            if let Some(at) = self.alerted.get(&of)
                && event != Event::Recovered
                && self.time - at < 3600
            {
                self.repeated.push((self.time, event));
            }
            if [Event::Recovered, Event::Restarted].contains(&event) {
                self.alerted
                    .retain(|(event, _), _| *event == Event::Restarted);
            }
            self.alerted.insert(of, self.time);
        }
    }

    /// Puts what is pending into the outbox.
    fn deliver(&mut self) {
        if !of_mail(&mut self.state).pending.is_empty() {
            let pending = of_mail(&mut self.state).pending.drain(..);
            let ids = pending.map(|alert| alert.id);
            self.queued.extend(ids);
            self.save();
        }
    }

    /// Goes on with another state than the last run's: what was reported is reported again, and what was pending in it alone is gone.
    fn lose(&mut self, state: State) {
        self.state = state;
        // what was damaged is set aside, and is never a backup
        self.saved = [self.state.clone(), self.state.clone()];
        let pending = self.state.channels.values().flat_map(|it| &it.pending);
        let pending: BTreeSet<&String> = pending.map(|alert| &alert.id).collect();
        let queued = &self.queued;
        self.alerts
            .retain(|id| pending.contains(id) || queued.contains(id));
        self.alerted.clear();
    }

    fn live(&mut self, weather: &Weather) {
        let mut interrupted = false;
        match weather {
            Weather::Calm => {}
            Weather::Crash => self.alive = false,
            Weather::Broken(minutes) => {
                self.alive = false;
                self.broken_until = self.time + i64::from(*minutes) * 60;
            }
            Weather::Freeze => self.frozen = true,
            Weather::Sick => self.sick = true,
            Weather::ClockSet(by) => self.wall_offset += by,
            Weather::CutShort => {
                self.alive = false;
                interrupted = true;
            }
            Weather::Gap(minutes) => self.time += i64::from(*minutes) * 60,
            Weather::Reboot => {
                self.boot += 1;
                self.booted = self.time;
                self.time += 30;
                self.alive = false;
            }
        }
        self.run(interrupted);
        // what is kept is kept through its file; writing and reading it each minute would only be slow
        if !matches!(weather, Weather::Calm) {
            self.state = reloaded(&self.state);
        }
        self.time += 60;
    }
}

/// The state as it is after it was written and read again.
fn reloaded(state: &State) -> State {
    crate::state::store::parse_state(&serde_json::to_vec(state).unwrap()).unwrap()
}

/// The most starts that any sixty minutes had.
fn most_in_an_hour(starts: &[i64]) -> usize {
    (0..starts.len())
        .map(|first| {
            starts[first..]
                .iter()
                .take_while(|&&at| at - starts[first] < 3600)
                .count()
        })
        .max()
        .unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// A month of one-minute runs: in no hour of true time more attempts than the budget, whatever happened to
    /// the processes, the clock or the runs; and at its end, when it can be started again, the service runs.
    #[test]
    fn f40_a_month_of_bad_weather(
        days in proptest::collection::vec(weather(), 1000..4000),
        max in 1..5_u32,
        after in 1..4_u32,
        cooldown in prop_oneof![Just(0_u64), 0..1200_u64],
    ) {
        let mut watched = service("a");
        watched.policy.max_per_hour = max;
        watched.policy.after_failures = after;
        watched.policy.cooldown = Duration::from_secs(cooldown);
        let mut machine = Machine::new(watched);
        for weather in &days {
            machine.live(weather);
        }
        prop_assert!(most_in_an_hour(&machine.starts) <= max as usize, "{:?}", machine.starts);
        machine.broken_until = 0;
        for _ in 0..150 {
            machine.live(&Weather::Calm);
        }
        prop_assert!(machine.alive && !machine.frozen, "not brought back");
        let known = &machine.state.services["a"];
        prop_assert_eq!(known.verdict, Some(Verdict::Healthy));
        prop_assert_eq!(known.consecutive_failures, 0);
        prop_assert!(known.attempts.len() <= max as usize);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Where no process can be known, what was restarted has its time to write its first lines: no attempt comes within
    /// the grace of the last one that did not fail, but for the third in a row of a service that was not healthy between.
    #[test]
    fn a_month_of_a_service_without_a_process(
        days in proptest::collection::vec(weather(), 500..3000),
        warms_up_for in 0..900_i64,
    ) {
        let grace = 600_i64;
        let mut watched = service("a");
        watched.start_grace = Duration::from_secs(grace.unsigned_abs());
        let mut machine = Machine::new(watched);
        machine.warms_up_for = Some(warms_up_for);
        for weather in &days {
            machine.live(weather);
        }
        prop_assert!(most_in_an_hour(&machine.starts) <= 3, "{:?}", machine.starts);
        for &start in &machine.starts {
            let healthy = machine.healthy.iter().copied().filter(|&at| at < start).max();
            let mut before = machine.good_starts.iter().filter(|&&at| at < start);
            let in_a_row = before.clone().filter(|&&at| healthy.is_none_or(|it| at > it)).count();
            if let Some(last) = before.next_back() {
                prop_assert!(start - last >= grace || in_a_row >= 3, "{start} after {last}");
            }
        }
        machine.broken_until = 0;
        for _ in 0..150 {
            machine.live(&Weather::Calm);
        }
        if warms_up_for < grace {
            prop_assert_eq!(machine.state.services["a"].verdict, Some(Verdict::Healthy));
        }
    }
}

/// The same for a whole month without a seed, so that every run of the tests sees the full length once.
#[test]
fn a_month_that_breaks_every_two_hours() {
    let mut machine = Machine::new(service("a"));
    for minute in 0..43_200_u32 {
        let weather = match minute % 127 {
            0 => Weather::Crash,
            50 if minute % 3 == 0 => Weather::Broken(90),
            80 => Weather::Freeze,
            99 => Weather::ClockSet(if minute % 2 == 0 { 3700 } else { -3700 }),
            _ => Weather::Calm,
        };
        machine.live(&weather);
    }
    assert!(
        machine.starts.len() > 300,
        "{} restarts",
        machine.starts.len()
    );
    assert!(most_in_an_hour(&machine.starts) <= 3);
    let lately = machine
        .starts
        .iter()
        .filter(|&&start| start > machine.time - 86_400)
        .count();
    assert!(lately > 5, "still at work on the last day");
}

/// Numbers that a seed decides (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        i64::try_from((mixed ^ (mixed >> 31)) % below).unwrap()
    }
}

/// What a seed does to a machine in a run; how often by the thousand.
fn storm(machine: &mut Machine, dice: &mut Dice, clock_set_at: &mut i64) {
    let weather = match dice.roll(1000) {
        0..30 => Weather::Crash,
        30..36 => Weather::Broken(u32::try_from(dice.roll(400)).unwrap()),
        36..46 => Weather::Freeze,
        46..52 => {
            *clock_set_at = machine.time;
            Weather::ClockSet(dice.roll(180_000) - 90_000)
        }
        52..60 => Weather::CutShort,
        60..63 => Weather::Gap(u32::try_from(dice.roll(200)).unwrap()),
        63..65 => Weather::Reboot,
        // the state is damaged: the backup has all attempts
        65..70 => {
            let backup = machine.saved[1].clone();
            machine.lose(backup);
            Weather::Calm
        }
        // state and backup are gone, or damaged: the journal has the attempts, by a clock that it knows nothing of
        74..85 => Weather::Sick,
        70..74 if machine.time - *clock_set_at > 3600 => {
            machine.trusted = dice.roll(2) == 0;
            let recent = machine.journal.len().saturating_sub(20);
            let lost = State::of_journal(&machine.journal[recent..]);
            machine.lose(reloaded(&lost));
            Weather::Calm
        }
        _ => Weather::Calm,
    };
    machine.live(&weather);
}

proptest! {
    // a seed has nothing to shrink
    #![proptest_config(ProptestConfig { cases: 10, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    /// A thousand days, ten times a hundred, of runs a minute to a quarter of an hour apart, with mail that often
    /// cannot be kept for sending, and a state that is damaged or lost.
    #[test]
    fn f40_a_thousand_days(seed in any::<u64>(), max in 1..6_u32, after in 1..4_u32, cooldown in 0..1200_u64) {
        const DAY: i64 = 86_400;
        let mut dice = Dice(seed);
        let mut watched = service("a");
        watched.policy.max_per_hour = max;
        watched.policy.after_failures = after;
        watched.policy.cooldown = Duration::from_secs(cooldown);
        let mut machine = Machine::new(watched);
        machine.mail = vec![mail()];
        let (mut clock_set_at, mut full_until) = (0, 0);
        let end = machine.time + 100 * DAY;
        while machine.time < end {
            // a run a minute on some days, one in five to fifteen minutes on the others
            let pause = match machine.time / DAY % 20 {
                0 => 0,
                day => 240 + day % 3 * 300,
            };
            storm(&mut machine, &mut dice, &mut clock_set_at);
            if dice.roll(200) == 0 {
                full_until = machine.time + dice.roll(12 * 3600);
            }
            if machine.time >= full_until {
                machine.deliver();
            }
            machine.time += pause;
        }
        prop_assert!(machine.starts.len() > 100, "{} restarts", machine.starts.len());
        prop_assert!(most_in_an_hour(&machine.starts) <= max as usize, "{:?}", machine.starts);
        prop_assert_eq!(&machine.repeated, &vec![]);
        machine.broken_until = 0;
        for _ in 0..150 {
            machine.live(&Weather::Calm);
        }
        prop_assert!(machine.alive && !machine.frozen, "not brought back");
        prop_assert_eq!(machine.state.services["a"].verdict, Some(Verdict::Healthy));
        machine.deliver();
        prop_assert!(machine.queued.len() > 100, "{} alerts", machine.queued.len());
        prop_assert_eq!(&machine.alerts, &machine.queued);
    }
}

#[test]
fn trouble_begins_with_a_verdict_that_is_trouble_and_ends_when_all_is_well() {
    let (began, now) = (at(0), at(60));
    for (verdict, after_none, after_some) in [
        (Verdict::Healthy, None, None),
        (Verdict::Starting, None, Some(began)),
        (Verdict::Paused, None, Some(began)),
        (Verdict::Disabled, None, Some(began)),
        (Verdict::Degraded, Some(now), Some(began)),
        (Verdict::Failing, Some(now), Some(began)),
        (Verdict::Waiting, Some(now), Some(began)),
        (Verdict::Down, Some(now), Some(began)),
        (Verdict::Unknown, Some(now), Some(began)),
    ] {
        for (before, after) in [(None, after_none), (Some(began), after_some)] {
            let mut state = State::default();
            let service = service("a");
            state
                .services
                .entry("a".to_owned())
                .or_default()
                .trouble_since = before;
            let decision = Decision {
                failures: 0,
                ..Decision::of("a", verdict)
            };
            let silent = AlertConfig { channels: &[] };
            settle(&mut state, &service, &decision, None, None, now, silent);
            assert_eq!(
                state.services["a"].trouble_since, after,
                "{verdict:?} {before:?}"
            );
        }
    }
}

fn with_logs(paths: &[&str]) -> Service {
    let rule = |path: &&str| Rule::Log(Arc::new(log::Rule::fixture(path)));
    Service {
        checks: assign_ids(paths.iter().map(rule).collect()),
        ..service("a")
    }
}

fn position(inode: u64) -> Arc<log::LogPosition> {
    let mut position = log::LogPosition::default();
    position.here.ino = inode;
    Arc::new(position)
}

fn states(positions: &[(&str, u64)]) -> CheckStates {
    let state =
        |&(id, inode): &(&str, u64)| (id.to_owned().into(), CheckState::Log(position(inode)));
    positions.iter().map(state).collect()
}

#[test]
fn positions_are_kept_of_the_logs_that_the_config_has() {
    let (a, b) = (("log:/a.log", 1), ("log:/b.log", 2));
    for (in_config, kept) in [
        (&["a.log"][..], &[a][..]),
        (&["a.log", "new.log"], &[a]),
        (&["b.log", "a.log"], &[a, b]),
        (&[], &[]),
    ] {
        // as this version wrote them, and as version 1 did
        for version in [1, 2] {
            let mut state = State::default();
            let known = state.services.entry("a".to_owned()).or_default();
            if version == 1 {
                known.logs.insert("a.log".to_owned(), position(1));
                known.logs.insert("b.log".to_owned(), position(2));
            } else {
                known.checks = states(&[a, b]);
            }
            let service = with_logs(in_config);
            run(&mut state, &service, &up(1, 3600), 60, true);
            let known = &state.services["a"];
            assert_eq!(known.checks, states(kept), "{in_config:?} {version}");
            assert!(known.logs.is_empty());
        }
    }
}

#[test]
fn tables_of_one_log_go_on_from_the_position_that_they_shared() {
    let mut state = State::default();
    let service = with_logs(&["a.log", "a.log"]);
    let known = state.services.entry("a".to_owned()).or_default();
    known.logs.insert("a.log".to_owned(), position(1));
    // the second one could not be read in this run
    let mut seen = up(1, 3600);
    seen.checks = states(&[("log:/a.log", 2)]);
    let mut recorded = state.clone();
    record_attempt(&mut recorded, &service, &due(), &seen, at(60));
    run(&mut state, &service, &seen, 60, true);
    let expected = states(&[("log:/a.log", 2), ("log:/a.log#2", 1)]);
    assert_eq!(state.services["a"].checks, expected);
    let recorded = recorded.services["a"].recorded.as_ref();
    assert_eq!(recorded.unwrap().checks, expected);
}

#[test]
fn the_journal_has_the_notes_of_a_run_where_there_are_any() {
    for (notes, message) in [
        (&[][..], None),
        (&["one"], Some("one")),
        (&["one", "two"], Some("one; two")),
    ] {
        let mut state = State::default();
        let mut seen = gone();
        seen.notes = notes.iter().map(|&note| note.to_owned()).collect();
        let decision = Decision {
            failures: 1,
            ..Decision::of("a", Verdict::Failing)
        };
        let silent = AlertConfig { channels: &[] };
        let now = at(60);
        let settled = settle(
            &mut state,
            &service("a"),
            &decision,
            Some(&seen),
            None,
            now,
            silent,
        );
        assert_eq!(settled.entries.len(), 1);
        assert_eq!(settled.entries[0].message.as_deref(), message);
    }
}
