//! What channels hold back, and what of it is reported in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::NaiveTime;
use proptest::prelude::*;

use super::{AlertConfig, channel, settle};
use crate::check::log::Zone;
use crate::decide::Decision;
use crate::fixtures::{at, gone, routing, service, up};
use crate::notify::quiet::{Quiet, TimeOfDay};
use crate::notify::{Alert, Channel, Event, Routing, Severity};
use crate::state::State;
use crate::verdict::Verdict;

/// All that a channel can be told of a service.
const ALL: [Event; 9] = [
    Event::Recovered,
    Event::Degraded,
    Event::Repaired,
    Event::Restarted,
    Event::Unknown,
    Event::Down,
    Event::RepairFailed,
    Event::RestartFailed,
    Event::Exhausted,
];

/// A channel, and what went out by it.
struct Told {
    state: State,
    channels: Vec<Channel>,
    /// The alerts of each message, with the time of the message.
    messages: Vec<(i64, Vec<Alert>)>,
}

impl Told {
    fn new(routing: Routing) -> Self {
        Self {
            state: State::default(),
            channels: vec![channel("mail", routing)],
            messages: Vec::new(),
        }
    }

    /// A run that finds this of the services, in this second, and sends what is due.
    fn run(&mut self, second: i64, verdicts: &[(&str, Verdict)]) {
        let now = at(second);
        for (name, verdict) in verdicts {
            let seen = match verdict {
                Verdict::Healthy => up(1, 3600),
                _ => gone(),
            };
            settle(
                &mut self.state,
                &service(name),
                &Decision::of(name, *verdict),
                Some(&seen),
                None,
                now,
                AlertConfig {
                    channels: &self.channels,
                },
            );
        }
        self.send(second);
    }

    /// What the delivery does with the state of a channel.
    fn send(&mut self, second: i64) {
        let now = at(second);
        let routing = self.channels[0].routing();
        let Some(known) = self.state.channels.get_mut("mail") else {
            return;
        };
        known
            .sent
            .retain(|&sent| crate::clock::age(now, sent) < Duration::from_hours(1));
        known.hold_back(routing, now);
        let due: Vec<Alert> = (known.pending.iter())
            .filter(|alert| !alert.waits)
            .cloned()
            .collect();
        let is_full = known.sent.len() >= usize::try_from(routing.max_per_hour).unwrap();
        if due.is_empty() || (is_full && !due.iter().any(|alert| known.is_urgent(alert))) {
            return;
        }
        known.queued(now, None, |alert| !alert.waits);
        self.messages.push((second, due));
    }

    /// What went out: the minute, and the services with their events.
    fn said(&self) -> Vec<(i64, String)> {
        let words = |alerts: &[Alert]| -> Vec<String> {
            let words = alerts.iter();
            words
                .map(|alert| format!("{} {}", alert.service, alert.event.name()))
                .collect()
        };
        let messages = self.messages.iter();
        messages
            .map(|(second, alerts)| (second / 60, words(alerts).join(", ")))
            .collect()
    }
}

/// Quiet for the hour from minute 60 on.
fn quiet(except: Option<Severity>) -> Quiet {
    let end = |minute: i64| TimeOfDay(Zone::Utc.time_of_day(at(minute * 60)));
    Quiet {
        from: end(60),
        to: end(120),
        zone: Zone::Utc,
        except,
    }
}

const WELL: Verdict = Verdict::Healthy;
const DOWN: Verdict = Verdict::Down;

/// The minute of a run, and what it finds.
type Runs<'a> = &'a [(i64, &'a [(&'a str, Verdict)])];

fn said(routing: Routing, runs: Runs<'_>) -> Vec<(i64, String)> {
    let mut told = Told::new(routing);
    for (minute, verdicts) in runs {
        told.run(minute * 60, verdicts);
    }
    told.said()
}

fn expected(messages: &[(i64, &str)]) -> Vec<(i64, String)> {
    let messages = messages.iter();
    messages
        .map(|(minute, words)| (*minute, (*words).to_owned()))
        .collect()
}

#[test]
fn in_quiet_hours_all_is_kept_for_one_message_without_what_has_recovered() {
    let never = |except| Routing {
        quiet: Some(quiet(except)),
        remind_every: Duration::ZERO,
        ..routing(&ALL)
    };
    let runs: Runs<'_> = &[
        (50, &[("a", DOWN), ("b", WELL), ("c", WELL)]),
        (60, &[("a", DOWN), ("b", DOWN), ("c", Verdict::Degraded)]),
        (70, &[("a", DOWN), ("b", DOWN), ("c", Verdict::Degraded)]),
        // what was told before is over, and so is what nobody was told of
        (80, &[("a", WELL), ("b", WELL), ("c", Verdict::Degraded)]),
        (119, &[("a", WELL), ("b", WELL), ("c", Verdict::Degraded)]),
        (120, &[("a", WELL), ("b", WELL), ("c", Verdict::Degraded)]),
        (121, &[("a", WELL), ("b", WELL), ("c", WELL)]),
    ];
    assert_eq!(
        said(never(None), runs),
        expected(&[
            (50, "a down"),
            (120, "c degraded, a recovered"),
            (121, "c recovered"),
        ])
    );
    // what is critical is sent at once, and its end when they are over
    assert_eq!(
        said(never(Some(Severity::Critical)), runs),
        expected(&[
            (50, "a down"),
            (60, "b down"),
            (120, "c degraded, a recovered, b recovered"),
            (121, "c recovered"),
        ])
    );
    // a failure that is over and comes again is told once
    let twice: Runs<'_> = &[
        (60, &[("a", DOWN)]),
        (65, &[("a", WELL)]),
        (70, &[("a", DOWN)]),
        (120, &[("a", DOWN)]),
        (125, &[("a", WELL)]),
    ];
    assert_eq!(
        said(never(None), twice),
        expected(&[(120, "a down"), (125, "a recovered")])
    );
    // nor is it told again and again in the message because it lasts
    let lasting: Runs<'_> = &[
        (60, &[("a", DOWN)]),
        (80, &[("a", DOWN)]),
        (100, &[("a", DOWN)]),
        (120, &[("a", DOWN)]),
    ];
    let often = Routing {
        remind_every: Duration::from_mins(10),
        ..never(None)
    };
    assert_eq!(said(often, lasting), expected(&[(120, "a down")]));
}

#[test]
fn a_channel_for_what_lasts_is_told_of_nothing_else() {
    let patient = Routing {
        escalate_after: Duration::from_mins(15),
        remind_every: Duration::ZERO,
        ..routing(&ALL)
    };
    let runs: Runs<'_> = &[
        (0, &[("a", DOWN), ("b", DOWN), ("c", Verdict::Restarted)]),
        (5, &[("a", DOWN), ("b", WELL)]),
        (14, &[("a", Verdict::Exhausted)]),
        // from the first failure on, and all that was told by then
        (15, &[("a", Verdict::Exhausted), ("b", WELL)]),
        // what follows is told at once
        (16, &[("a", Verdict::RestartFailed), ("b", DOWN)]),
        (17, &[("a", WELL), ("b", Verdict::Restarted)]),
        (40, &[("b", WELL)]),
    ];
    assert_eq!(
        said(patient, runs),
        expected(&[
            (15, "a down, a exhausted"),
            (16, "a restart_failed"),
            (17, "a recovered"),
        ])
    );
}

#[test]
fn the_first_critical_alert_of_an_incident_is_never_held_by_the_hourly_limit() {
    let limited = Routing {
        max_per_hour: 1,
        remind_every: Duration::from_mins(1),
        ..routing(&ALL)
    };
    let runs: Runs<'_> = &[
        (0, &[("a", Verdict::Degraded)]),
        (1, &[("b", Verdict::Degraded)]),
        // it takes along what was held
        (2, &[("a", DOWN)]),
        (3, &[("a", DOWN)]),
        (4, &[("a", WELL), ("b", Verdict::Exhausted)]),
        (5, &[("b", DOWN)]),
    ];
    assert_eq!(
        said(limited, runs),
        expected(&[
            (0, "a degraded"),
            (2, "b degraded, a down"),
            (4, "a down, a recovered, b exhausted"),
        ])
    );
}

#[test]
fn each_restart_of_another_incident_is_news_until_there_are_many() {
    let minutes = (0..8).map(|turn| turn * 5);
    let mut told = Told::new(routing(&ALL));
    for minute in minutes {
        told.run(minute * 60, &[("a", Verdict::Restarted)]);
        told.run(minute * 60 + 60, &[("a", WELL)]);
    }
    let restarted = "a restarted";
    assert_eq!(
        told.said(),
        expected(&[
            (0, restarted),
            (5, restarted),
            (10, restarted),
            (15, restarted)
        ])
    );
    assert!(told.messages[3].1[0].notes[0].starts_with("it fails again and again: 4 incidents"));
}

#[test]
fn one_that_breaks_again_and_again_is_told_once_and_then_when_it_stays_well() {
    let mut told = Told::new(routing(&ALL));
    for minute in 0..90 {
        // it breaks every five minutes for an hour
        let verdict = if minute < 60 && minute % 5 == 0 {
            DOWN
        } else {
            WELL
        };
        told.run(minute * 60, &[("a", verdict)]);
    }
    let notes: Vec<(i64, usize)> = (told.messages.iter())
        .map(|(second, alerts)| (second / 60, alerts[0].notes.len()))
        .collect();
    assert_eq!(
        told.said(),
        expected(&[
            (0, "a down"),
            (1, "a recovered"),
            (5, "a down"),
            (6, "a recovered"),
            (10, "a down"),
            (11, "a recovered"),
            // the fourth within an hour
            (15, "a down"),
        ])
    );
    assert!(told.messages[6].1[0].notes[0].starts_with("it fails again and again: 4 incidents"));
    assert!(notes[..6].iter().all(|(_, notes)| *notes == 0), "{notes:?}");
    // no more than three in the last hour
    for minute in 90..160 {
        told.run(minute * 60, &[("a", WELL)]);
    }
    assert_eq!(told.said()[7..], expected(&[(100, "a recovered")]));
    // and the next one is news
    told.run(170 * 60, &[("a", DOWN)]);
    assert_eq!(told.said()[8..], expected(&[(170, "a down")]));
}

#[test]
fn one_that_breaks_again_and_again_is_told_again_where_it_is_worse_or_lasts() {
    let mut told = Told::new(routing(&ALL));
    let mut runs: Vec<(i64, Verdict)> = (0..8)
        .map(|turn| (turn, if turn % 2 == 0 { DOWN } else { WELL }))
        .collect();
    runs.extend([
        (10, Verdict::Exhausted),
        (11, Verdict::Exhausted),
        (12, DOWN),
    ]);
    // in the same trouble, an hour after
    runs.extend([(69, Verdict::Exhausted), (70, Verdict::Exhausted)]);
    for (minute, verdict) in runs {
        told.run(minute * 60, &[("a", verdict)]);
    }
    assert_eq!(
        told.said()[6..],
        expected(&[(6, "a down"), (10, "a exhausted"), (70, "a exhausted")])
    );
}

#[test]
fn what_was_held_back_of_one_that_breaks_again_and_again_is_not_told_once_it_is_well() {
    // four incidents in the hour; the last recovery is not told
    let breaks = |from: i64| {
        let minutes = (from..from + 8).map(|minute| {
            let verdict = if minute % 2 == 0 { DOWN } else { WELL };
            (minute, verdict)
        });
        minutes.collect::<Vec<_>>()
    };
    let said = |routing: Routing, runs: &[(i64, Verdict)]| {
        let mut told = Told::new(routing);
        for &(minute, verdict) in runs {
            told.run(minute * 60, &[("a", verdict)]);
        }
        told.said()
    };
    for on in [&ALL[..], &[Event::Down]] {
        let patient = Routing {
            escalate_after: Duration::from_mins(3),
            remind_every: Duration::ZERO,
            ..routing(on)
        };
        let well = [breaks(0), vec![(8, WELL), (12, WELL), (90, WELL)]].concat();
        assert_eq!(said(patient.clone(), &well), expected(&[]), "{on:?}");
        // where it breaks once more and lasts, that is told
        let lasts = [breaks(0), vec![(8, DOWN), (10, DOWN), (11, DOWN)]].concat();
        assert_eq!(said(patient, &lasts), expected(&[(11, "a down")]), "{on:?}");
        let quiet = Routing {
            quiet: Some(quiet(None)),
            ..routing(on)
        };
        let well = [breaks(60), vec![(119, WELL), (120, WELL), (180, WELL)]].concat();
        assert_eq!(said(quiet.clone(), &well), expected(&[]), "{on:?}");
        let lasts = [breaks(60), vec![(70, DOWN), (120, DOWN)]].concat();
        assert_eq!(said(quiet, &lasts), expected(&[(120, "a down")]), "{on:?}");
    }
    // what was told before stays open until its end is told
    let quiet = Routing {
        quiet: Some(quiet(None)),
        ..routing(&ALL)
    };
    let runs = [
        breaks(50),
        vec![(61, Verdict::Exhausted), (63, WELL), (120, WELL)],
        vec![(180, WELL)],
    ]
    .concat();
    let told = said(quiet, &runs);
    assert_eq!(
        told[told.len() - 2..],
        expected(&[(56, "a down"), (120, "a recovered")])
    );
}

fn policies() -> impl Strategy<Value = Routing> {
    let except = prop_oneof![
        Just(None),
        Just(Some(Severity::Critical)),
        Just(Some(Severity::Warning))
    ];
    let hours = (0..24_u32, 1..24_u32, except).prop_map(|(from, length, except)| {
        let hour = |hour: u32| TimeOfDay(NaiveTime::from_hms_opt(hour % 24, 0, 0).unwrap());
        Quiet {
            from: hour(from),
            to: hour(from + length),
            zone: Zone::Utc,
            except,
        }
    });
    (
        proptest::option::of(hours),
        prop_oneof![Just(0_u64), 1..90_u64],
        prop_oneof![Just(0_u64), 1..180_u64],
        1..6_u32,
    )
        .prop_map(|(quiet, escalate, remind, max_per_hour)| Routing {
            quiet,
            escalate_after: Duration::from_mins(escalate),
            remind_every: Duration::from_mins(remind),
            max_per_hour,
            ..routing(&ALL)
        })
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        6 => Just(WELL),
        2 => Just(DOWN),
        1 => Just(Verdict::Degraded),
        1 => Just(Verdict::Restarted),
        1 => Just(Verdict::Exhausted),
        1 => Just(Verdict::RestartFailed),
        1 => Just(Verdict::Unknown),
    ]
}

/// What was told of a service, each with its time and that of its message.
fn trace(told: &Told, service: &str) -> Vec<String> {
    let alerts = (told.messages.iter())
        .flat_map(|(second, alerts)| alerts.iter().map(|alert| (at(*second), alert)));
    alerts
        .filter(|(_, alert)| alert.service == service)
        .map(|(sent, alert)| format!("{} {} sent {sent}", alert.time, alert.event.name()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// A month of runs, each some minutes after the one before.
    #[test]
    fn a_month_of_alerts(
        policy in policies(),
        weather in proptest::collection::vec((1..240_i64, verdicts(), verdicts(), 1..6_i64), 120),
    ) {
        let mut told = Told::new(policy.clone());
        let mut minute = 0;
        for (pause, a, b, lasts) in weather {
            minute += pause;
            for _ in 0..lasts {
                minute += 5;
                told.run(minute * 60, &[("a", a), ("b", b)]);
            }
        }
        // all is well in the end, for a day and more
        for _ in 0..60 {
            minute += 30;
            told.run(minute * 60, &[("a", WELL), ("b", WELL)]);
        }
        let mut ids = BTreeSet::new();
        let mut open: BTreeMap<&str, bool> = BTreeMap::new();
        let mut last: BTreeMap<(&str, Event, Option<&str>), i64> = BTreeMap::new();
        for (second, alerts) in &told.messages {
            let is_quiet = policy.quiet.as_ref().filter(|quiet| quiet.holds(at(*second)));
            for alert in alerts {
                prop_assert!(ids.insert(alert.id.clone()), "told twice: {}", alert.id);
                if let Some(quiet) = is_quiet {
                    prop_assert!(quiet.passes(alert.event.severity()), "told in quiet hours");
                }
            }
        }
        // a restart that was held may be told after a failure that was not; each has its time
        let mut all: Vec<&Alert> = told.messages.iter().flat_map(|(_, alerts)| alerts).collect();
        all.sort_by_key(|alert| alert.time);
        for alert in all {
            let name = alert.service.as_str();
            if alert.event == Event::Recovered {
                prop_assert!(
                    open.remove(name).is_some(),
                    "{name}: a recovery of nothing at {}: {:?}", alert.time, trace(&told, name)
                );
            } else if alert.event.is_trouble() {
                open.insert(name, true);
            } else {
                open.remove(name);
            }
            if !alert.event.is_trouble() {
                last.retain(|(service, ..), _| *service != name);
            } else if alert.event.severity() == Severity::Critical {
                let key = (name, alert.event, alert.incident.as_deref());
                let time = (alert.time - at(0)).num_seconds();
                if let Some(before) = last.insert(key, time) {
                    let every = i64::try_from(policy.remind_every.as_secs()).unwrap();
                    prop_assert!(
                        every > 0 && time - before >= every,
                        "{name}: again after {} s", time - before
                    );
                }
            }
        }
        prop_assert!(open.is_empty(), "no end was told of {open:?}");
        let left: Vec<_> = told.state.channels["mail"].pending.iter().map(|it| it.event).collect();
        prop_assert!(left.is_empty(), "left: {left:?}");
    }
}

/// The incidents of which a channel was told the beginning and not the end.
fn left_open(told: &Told) -> BTreeSet<String> {
    let mut open = BTreeSet::new();
    for alert in told.messages.iter().flat_map(|(_, alerts)| alerts) {
        let incident = alert.incident.clone().unwrap_or_default();
        if alert.event.is_trouble() {
            open.insert(incident);
        } else if alert.event == Event::Recovered {
            assert!(open.remove(&incident), "{incident:?} was not begun");
        }
    }
    open
}

#[test]
fn what_breaks_again_and_again_leaves_no_incident_open() {
    for worse in [Verdict::Down, Verdict::Exhausted] {
        let mut told = Told::new(routing(&ALL));
        for minute in 0..100 {
            let verdict = match minute {
                0..40 if minute % 4 == 1 => Verdict::Down,
                0..40 if minute % 4 == 3 && minute > 20 => worse,
                _ => Verdict::Healthy,
            };
            told.run(minute * 60, &[("a", verdict)]);
        }
        assert!(told.messages.len() > 6, "{:?}", told.messages);
        assert_eq!(left_open(&told), BTreeSet::new());
        let last = told.messages.last().unwrap();
        assert_eq!(last.1[0].event, Event::Recovered);
        assert!(told.state.channels["mail"].threads.is_empty());
    }
}
