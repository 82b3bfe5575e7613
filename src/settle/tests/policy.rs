//! Simulated months of strategies, failing runs among the last ones, growing cooldowns and attempts of incidents; and
//! what the end of an incident resets.

use proptest::prelude::{
    Just, ProptestConfig, TestCaseError, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use proptest::strategy::Strategy as _;

use super::*;
use crate::config::{Policy, Remedy, Strategy};
use crate::fixtures::{repair, strategy};
use crate::table::Factor;

/// How long a process is young, in seconds.
const GRACE: i64 = 300;

/// The clock may be set by so little that nobody notices.
const BLUR: i64 = 10;

fn policies() -> impl proptest::strategy::Strategy<Value = Policy> {
    let backoffs = prop_oneof![Just(1.0), Just(1.5), Just(2.0), Just(4.0)];
    let cooldowns = prop_oneof![2 => Just(0_u64), 3 => 60..900_u64];
    let numbers = (
        1..6_u32,
        1..4_u32,
        0..4_u32,
        prop_oneof![Just(0_u32), 1..6_u32],
    );
    (numbers, cooldowns, backoffs).prop_map(
        |((max_per_hour, after_failures, more, max_attempts), cooldown, backoff)| Policy {
            max_per_hour,
            after_failures,
            out_of: (more > 0).then_some(after_failures + more),
            cooldown: Duration::from_secs(cooldown),
            backoff: Factor::of(backoff).unwrap(),
            max_cooldown: Duration::from_secs(2400),
            max_attempts,
            ..service("a").policy
        },
    )
}

/// A service with a repair for errors, and a restart of its own for what is frozen.
fn watched(policies: [Policy; 3]) -> Service {
    let [all, of_repair, of_restart] = policies;
    Service {
        start_grace: Duration::from_secs(GRACE.unsigned_abs()),
        policy: all,
        strategies: vec![
            Strategy {
                policy: of_repair,
                ..repair(&["log_error"])
            },
            Strategy {
                policy: of_restart,
                ..strategy(&["process_stopped"], Remedy::Restart)
            },
        ],
        ..service("a")
    }
}

/// The cooldown after the n-th attempt of an incident, in seconds.
fn cooldown_of(policy: &Policy, n: u32) -> f64 {
    let mut cooldown = policy.cooldown.as_secs_f64();
    for _ in 1..n {
        cooldown = (cooldown * policy.backoff.number()).min(policy.max_cooldown.as_secs_f64());
    }
    cooldown
}

/// Whether so many seconds are no less than a cooldown.
fn is_over(passed: i64, cooldown: f64) -> bool {
    f64::from(i32::try_from(passed + BLUR).unwrap()) >= cooldown
}

/// An attempt, with those before it of its incident.
struct Numbered {
    time: i64,
    by: Option<String>,
    of_incident: u32,
    of_strategy: u32,
}

/// The attempts of a machine, numbered by what truly happened: an incident is over when a run finds nothing wrong at
/// least `start_grace` after the last attempt.
fn numbered(machine: &Machine) -> Vec<Numbered> {
    let mut numbered: Vec<Numbered> = Vec::new();
    let (mut all, mut own) = (0, BTreeMap::<String, u32>::new());
    let mut made = machine.made_by.iter();
    for run in &machine.runs {
        if run.attempted {
            let by = made.next().unwrap().clone();
            all += 1;
            let of_strategy = by.as_ref().map_or(0, |by| {
                let own = own.entry(by.clone()).or_default();
                *own += 1;
                *own
            });
            numbered.push(Numbered {
                time: run.time,
                by,
                of_incident: all,
                of_strategy,
            });
        } else if run.is_well
            && numbered
                .last()
                .is_some_and(|last| run.time - last.time >= GRACE - BLUR)
        {
            (all, own) = (0, BTreeMap::new());
        }
    }
    numbered
}

/// What must hold of all attempts, whatever happened to the clock, the state and the runs.
fn holds(machine: &Machine) -> Result<(), TestCaseError> {
    let service = &machine.service;
    let all = &service.policy;
    let attempts = numbered(machine);
    prop_assert_eq!(attempts.len(), machine.starts.len());
    prop_assert!(most_in_an_hour(&machine.starts) <= all.max_per_hour as usize);
    for pair in attempts.windows(2) {
        let [former, later] = pair else { continue };
        // of an incident that is over, the cooldown does not grow
        let grown = if later.of_incident > 1 {
            former.of_incident
        } else {
            1
        };
        let cooldown = cooldown_of(all, grown);
        let passed = later.time - former.time;
        prop_assert!(is_over(passed, cooldown), "{passed} s of {cooldown}");
    }
    for attempt in &attempts {
        let within = all.max_attempts == 0 || attempt.of_incident <= all.max_attempts;
        prop_assert!(within, "{} attempts", attempt.of_incident);
    }
    for strategy in &service.strategies {
        let policy = &strategy.policy;
        let own: Vec<&Numbered> = attempts
            .iter()
            .filter(|attempt| attempt.by.as_ref() == Some(&strategy.id))
            .collect();
        let times: Vec<i64> = own.iter().map(|attempt| attempt.time).collect();
        prop_assert!(most_in_an_hour(&times) <= policy.max_per_hour as usize);
        for pair in own.windows(2) {
            let [former, later] = pair else { continue };
            let grown = if later.of_strategy > 1 {
                former.of_strategy
            } else {
                1
            };
            let cooldown = cooldown_of(policy, grown);
            let passed = later.time - former.time;
            prop_assert!(
                is_over(passed, cooldown),
                "{passed} s of {cooldown} by {}",
                strategy.id
            );
        }
        for attempt in own {
            let within = policy.max_attempts == 0 || attempt.of_strategy <= policy.max_attempts;
            prop_assert!(
                within,
                "{} attempts by {}",
                attempt.of_strategy,
                strategy.id
            );
        }
    }
    Ok(())
}

/// Before each attempt enough of the last runs since the one before had failed.
fn enough_runs_failed(machine: &Machine) -> Result<(), TestCaseError> {
    let mut counted: Vec<bool> = Vec::new();
    let mut made = machine.made_by.iter();
    for run in &machine.runs {
        counted.extend(run.failing);
        if run.attempted {
            let by = made.next().unwrap();
            let own = by.as_deref().and_then(|id| machine.service.strategy(id));
            let policy = own.map_or(&machine.service.policy, |strategy| &strategy.policy);
            let window = policy.window() as usize;
            let failing = counted
                .iter()
                .rev()
                .take(window)
                .filter(|&&failing| failing);
            prop_assert!(
                failing.count() >= policy.after_failures as usize,
                "{:?}",
                counted
            );
            counted.clear();
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// A month of bad weather with strategies: the limits of each, and of all together, hold; and when it is well again
    /// nothing is left of its incidents but what the hour counts.
    #[test]
    fn f40_a_month_of_strategies(
        days in proptest::collection::vec(weather(), 1000..4000),
        policies in [policies(), policies(), policies()],
    ) {
        let mut machine = Machine::new(watched(policies));
        for weather in &days {
            machine.live(weather);
        }
        holds(&machine)?;
        enough_runs_failed(&machine)?;
        // somebody mends it by hand
        (machine.alive, machine.frozen, machine.sick) = (true, false, false);
        let before = machine.state.services["a"].clone();
        machine.time += GRACE + 60;
        machine.live(&Weather::Calm);
        let known = &machine.state.services["a"];
        prop_assert_eq!(known.verdict, Some(Verdict::Healthy));
        prop_assert_eq!(known.incident_attempts, 0);
        prop_assert!(known.strategies.values().all(|of| of.of_incident == 0));
        prop_assert_eq!(&known.incident, &None);
        let now = known.report.time.unwrap();
        prop_assert_eq!(known.attempts_in_hour(now), before.attempts_in_hour(now));
        for (id, of) in &before.strategies {
            let left = known.attempts_by(id).map_or(0, |of| of.in_hour(now));
            prop_assert_eq!(left, of.in_hour(now));
        }
        // what is kept has bounds
        prop_assert!(known.strategies.len() <= 2);
        prop_assert!(known.strategies.values().all(|of| of.attempts.len() <= 7));
        let runs = known.recent_runs.as_ref().map_or(0, String::len);
        prop_assert!(runs <= machine.service.runs_kept() as usize);
    }
}

proptest! {
    // a seed has nothing to shrink
    #![proptest_config(ProptestConfig { cases: 10, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    /// A hundred days whose state is damaged and lost now and then: no limit is exceeded for that.
    #[test]
    fn f45_a_hundred_days_of_strategies_and_lost_states(
        seed in any::<u64>(),
        policies in [policies(), policies(), policies()],
    ) {
        let mut dice = Dice(seed);
        let mut machine = Machine::new(watched(policies));
        machine.mail = vec![mail()];
        let mut clock_set_at = 0;
        let end = machine.time + 100 * 86_400;
        while machine.time < end {
            storm(&mut machine, &mut dice, &mut clock_set_at);
            machine.deliver();
            machine.time += 240;
            // what has spent its attempts is mended by hand some time
            if dice.roll(300) == 0 {
                (machine.alive, machine.frozen, machine.sick) = (true, false, false);
            }
        }
        prop_assert!(machine.starts.len() > 50, "{} attempts", machine.starts.len());
        holds(&machine)?;
    }
}

#[test]
fn an_incident_is_over_when_all_is_well_long_enough_after_the_last_attempt() {
    let mut service = service("a");
    service.start_grace = Duration::from_mins(5);
    service.policy.max_per_hour = 9;
    service.policy.after_failures = 1;
    service.policy.out_of = Some(4);
    let mut state = State::default();
    let warned = with(up(99, 3600), Kind::Log, "log_error", Severity::Warning);
    let unseen = with(up(99, 3600), Kind::Log, "log_unreadable", Severity::Unknown);
    let young = with(up(99, 5), Kind::Log, "log_stale", Severity::Critical);
    run(&mut state, &service, &gone(), 0, true);
    let first = state.services["a"].incident.clone();
    for (second, seen, verdict, attempts) in [
        (60, up(99, 60), Verdict::Healthy, 1),
        // it breaks again, and that is the same incident
        (120, gone(), Verdict::Restarted, 2),
        (300, warned.clone(), Verdict::Degraded, 2),
        (419, up(99, 299), Verdict::Healthy, 2),
        (430, unseen, Verdict::Unknown, 2),
        (440, young, Verdict::Starting, 2),
        // warnings are nothing critical
        (450, warned, Verdict::Degraded, 0),
        (460, up(99, 600), Verdict::Healthy, 0),
        (500, gone(), Verdict::Restarted, 1),
    ] {
        let got = run(&mut state, &service, &seen, second, true);
        let known = &state.services["a"];
        assert_eq!(
            (got, known.incident_attempts),
            (verdict, attempts),
            "{second}"
        );
        if second < 440 {
            assert_eq!(
                known.incident, first,
                "{second}: alerts go on in one thread"
            );
        }
    }
    let known = &state.services["a"];
    assert_eq!(
        known.attempts_in_hour(at(500)),
        3,
        "the hour counts them all"
    );
    assert_eq!(known.recent_runs.as_deref(), Some(""));
    assert_ne!(known.incident, first);
}

#[test]
fn a_repair_leaves_what_is_known_of_the_process_and_says_what_it_was() {
    let service = Service {
        strategies: vec![repair(&["log_error"])],
        ..service("a")
    };
    let seen = with(up(7, 3600), Kind::Log, "log_error", Severity::Critical);
    for (ok, verdict, event) in [
        (true, Verdict::Repaired, Event::Repaired),
        (false, Verdict::RepairFailed, Event::RepairFailed),
    ] {
        let mut state = State::default();
        let decision = Decision {
            operation: Some(Operation::Repair),
            strategy: Some("log_error".to_owned()),
            failures: 1,
            counts: Some(true),
            ..Decision::of("a", Verdict::Failing)
        };
        let entry = record_attempt(&mut state, &service, &decision, &seen, at(0));
        assert_eq!(entry.event.name(), "repairing");
        assert_eq!(
            entry.message.as_deref(),
            Some("attempt 1 of 3 in this hour, by its strategy for log_error")
        );
        let attempt = entry.attempt.clone().unwrap();
        assert_eq!((attempt.of_incident, attempt.of_strategy), (1, 1));
        // a run that is cut short here is told of as what it was
        let mut cut = state.clone();
        let channels = [channel("mail", routing(&[event]))];
        let alerting = AlertConfig {
            channels: &channels,
        };
        let told = recover_interrupted(&mut cut, at(60), alerting, |_| false);
        let message = told[0].message.as_deref().unwrap();
        assert!(
            message.contains("was cut short while it repaired `a`"),
            "{message}"
        );
        // and the journal alone knows the attempt
        let lost = State::of_journal(&[entry]);
        let known = &lost.services["a"];
        assert_eq!((known.attempts.len(), known.incident_attempts), (1, 1));
        assert_eq!(known.attempts_by("log_error").unwrap().of_incident, 1);

        let Outcome::Attempted(mut made) = repaired(ok) else {
            panic!("it was made")
        };
        made.subject = seen.subject.clone();
        let outcome = Outcome::Attempted(made);
        let settled = settle(
            &mut state,
            &service,
            &decision,
            Some(&seen),
            Some(&outcome),
            at(5),
            alerting,
        );
        assert_eq!(settled.report.verdict, verdict);
        assert_eq!(settled.report.pid, Some(7));
        assert_eq!(settled.entries[0].event.name(), verdict.name());
        assert_eq!(settled.entries[0].started, None);
        assert_eq!(alerted(&mut state), [event]);
        let known = &state.services["a"];
        assert!(known.good_restarts.is_empty());
        assert_eq!(known.consecutive_failures, u32::from(!ok));
        assert_eq!(known.process.main, Some(identity(7)));
        assert_eq!(known.interrupted_attempt, None);
    }
}

#[test]
fn states_of_before_are_read_and_only_what_is_new_is_added() {
    let text = r#"{"attempts":["2027-01-15T08:00:00Z"],"consecutive_failures":3}"#;
    let known: ServiceState = serde_json::from_str(text).unwrap();
    assert_eq!((known.attempts.len(), known.incident_attempts), (1, 0));
    assert_eq!(known.failing_among(2), 2);
    let written = serde_json::to_value(&known).unwrap();
    for key in ["incident_attempts", "strategies", "recent_runs"] {
        assert!(written.get(key).is_none(), "{key}");
    }
    assert_eq!(
        written["attempts"],
        serde_json::json!(["2027-01-15T08:00:00Z"])
    );
}
