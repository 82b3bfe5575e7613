//! A month of alerts, with the real state and outbox: channels die and come back, answers are lost, secrets are wrong for
//! days, and runs are killed at any step.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::deliver;
use crate::clock::{Reading, age};
use crate::config::{Config, Environment, parse};
use crate::decide::Decision;
use crate::fixtures::{at, gone, routing, service, up, world};
use crate::notify::mail::{Mailbox, Settings, Transport};
use crate::notify::outbox::{Delivery, Outbox};
use crate::notify::{
    Alert, Channel, ChannelSettings, DeliveryReport, Event, Outcome, Pause, Paused, Routing,
    Severity,
};
use crate::settle::{AlertConfig, settle};
use crate::state::journal;
use crate::state::store::Store;
use crate::verdict::Verdict;

const ALL: [Event; 7] = [
    Event::Recovered,
    Event::Degraded,
    Event::Restarted,
    Event::Down,
    Event::RestartFailed,
    Event::Exhausted,
    Event::Watchdog,
];

/// How the other side of a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// It takes all.
    Well,
    /// Nobody is there.
    Gone,
    /// It wants to be left alone for fifty minutes.
    Busy,
    /// It knows no such secret.
    Refuses,
    /// It takes a message, and its answer is lost.
    Deaf,
    /// A message is lost on the way.
    Mute,
}

/// The same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from((self.0 >> 16) % u64::from(sides)).unwrap()
    }
}

/// What the other sides saw.
#[derive(Default)]
struct Seen {
    now: DateTime<Utc>,
    moods: BTreeMap<String, Mood>,
    /// Each message that was taken: its channel, and its id.
    taken: Vec<(String, String)>,
    /// For each message, how often nobody could know whether it was taken.
    doubts: BTreeMap<String, usize>,
    /// How often the secret of each channel was changed.
    changes: BTreeMap<String, u32>,
    /// When each channel was asked, how it was then, and which of its secrets it was asked by.
    asked: BTreeMap<String, Vec<(DateTime<Utc>, Mood, u32)>>,
    /// Each alert of each channel that a message was written of, and the ids of these messages.
    written: BTreeMap<(String, String), (Alert, BTreeSet<String>)>,
}

impl Seen {
    fn note(&mut self, delivery: &Delivery) {
        for alert in &delivery.notification.alerts {
            let key = (delivery.channel.clone(), alert.id.clone());
            let entry = self.written.entry(key);
            let (_, messages) = entry.or_insert_with(|| (alert.clone(), BTreeSet::new()));
            messages.insert(delivery.notification.id.clone());
        }
    }

    fn answer(&mut self, channel: &str, delivery: &Delivery) -> DeliveryReport {
        let mood = self.moods[channel];
        let asked = self.asked.entry(channel.to_owned()).or_default();
        let secret = self.changes.get(channel).copied().unwrap_or(0);
        asked.push((self.now, mood, secret));
        self.note(delivery);
        let id = delivery.notification.id.clone();
        if matches!(mood, Mood::Well | Mood::Deaf) {
            self.taken.push((channel.to_owned(), id.clone()));
        }
        let failed = |maybe_delivered, pause| DeliveryReport {
            transport_failed: true,
            pause,
            ..DeliveryReport::all(
                &delivery.recipients,
                &Outcome::Deferred {
                    why: "no".to_owned(),
                    maybe_delivered,
                },
            )
        };
        let pause = |minutes, until_changed| Pause {
            whom: Paused::Channel,
            length: Duration::from_mins(minutes),
            until_changed,
        };
        match mood {
            Mood::Well => DeliveryReport::all(&delivery.recipients, &Outcome::Delivered),
            Mood::Gone => failed(false, None),
            Mood::Busy => failed(false, Some(pause(50, false))),
            Mood::Refuses => failed(false, Some(pause(60, true))),
            Mood::Deaf | Mood::Mute => {
                *self.doubts.entry(id).or_default() += 1;
                failed(true, None)
            }
        }
    }
}

fn channel(name: &str, policy: Routing) -> Channel {
    Channel {
        name: name.to_owned(),
        settings: ChannelSettings::Mail(Settings {
            from: Mailbox::parse("w@example.org").unwrap(),
            to: vec![Mailbox::parse("o@example.org").unwrap()],
            routing: policy,
            transport: Transport::Directory("/nonexistent".into()),
        }),
        file: None,
    }
}

struct Month {
    dir: tempfile::TempDir,
    config: Config,
    store: Store,
    seen: Arc<Mutex<Seen>>,
    second: i64,
}

impl Month {
    fn new() -> Self {
        // nothing is to be waited for
        let fast = Path::new("/dev/shm");
        let dir = if fast.is_dir() {
            tempfile::tempdir_in(fast).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        let text = "state_dir = \"state\"\n[service.a]\nprocess = { pid_file = \"a.pid\" }\n";
        let path = dir.path().join("watchdog.toml");
        let config = parse(text, &path, &Environment::default()).unwrap();
        let channels = vec![
            channel("one", routing(&ALL)),
            channel(
                "two",
                Routing {
                    max_per_hour: 2,
                    min_severity: Some(Severity::Critical),
                    ..routing(&[])
                },
            ),
            channel(
                "three",
                Routing {
                    remind_every: Duration::from_hours(10),
                    ..routing(&ALL)
                },
            ),
        ];
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let store = Store::prepare(&dir.path().join("state")).unwrap();
        let other = Arc::clone(&seen);
        let play = move |channel: &str, delivery: &Delivery| {
            other.lock().unwrap().answer(channel, delivery)
        };
        world::make(store.dir(), Box::new(play));
        Self {
            config: Config { channels, ..config },
            store,
            seen,
            second: 0,
            dir,
        }
    }

    /// A run, so many minutes after the one before, that finds this; it is killed after so many steps.
    fn run(&mut self, minutes: i64, verdicts: &[(&str, Verdict)], killed: Option<u32>) {
        self.second += minutes * 60;
        let now = at(self.second);
        self.seen.lock().unwrap().now = now;
        let milliseconds = u64::try_from(self.second).unwrap() * 1000;
        let clock = Reading {
            wall: now,
            boot_ms: milliseconds,
            awake_ms: milliseconds,
            boot_id: "a".into(),
        };
        world::kill_after(self.store.dir(), killed);
        let mut state = self.store.look().state;
        state.clock = Some(clock.clone());
        for known in state.channels.values_mut() {
            known
                .sent
                .retain(|&sent| age(now, sent) < Duration::from_hours(1));
        }
        for (name, verdict) in verdicts {
            let seen = match verdict {
                Verdict::Healthy => up(1, 3600),
                _ => gone(),
            };
            settle(
                &mut state,
                &service(name),
                &Decision::of(name, *verdict),
                Some(&seen),
                None,
                now,
                AlertConfig {
                    channels: &self.config.channels,
                },
            );
        }
        state.close_threads();
        self.store.save(&mut state).unwrap();
        let before = self.seen.lock().unwrap().taken.len();
        let channels = self.config.channels.clone();
        deliver(&self.config, &channels, &self.store, &mut state, &clock);
        let was_killed = world::was_killed(self.store.dir());
        world::kill_after(self.store.dir(), None);
        let mut seen = self.seen.lock().unwrap();
        if was_killed {
            // what was said to it may be forgotten
            for asked in seen.asked.values_mut() {
                asked.retain(|(time, ..)| *time != now);
            }
            // it may not have been recorded that these were taken
            let taken: Vec<String> = (seen.taken[before..].iter().map(|it| it.1.clone())).collect();
            for id in taken {
                *seen.doubts.entry(id).or_default() += 1;
            }
        }
        for kept in Outbox::at(self.store.dir()).load().deliveries {
            seen.note(&kept.delivery);
        }
    }

    /// Sets how a channel is from now on; where its secret was wrong, it is a right one now.
    fn set_mood(&mut self, name: &str, mood: Mood) {
        let mut seen = self.seen.lock().unwrap();
        let before = seen.moods.insert(name.to_owned(), mood);
        if before == Some(Mood::Refuses) {
            let changes = seen.changes.entry(name.to_owned()).or_default();
            *changes += 1;
            let channel = self.config.channels.iter_mut().find(|it| it.name == name);
            if let Some(ChannelSettings::Mail(mail)) = channel.map(|it| &mut it.settings) {
                mail.to = vec![Mailbox::parse("o@example.org").unwrap()];
                mail.from = Mailbox::parse(&format!("w{changes}@example.org")).unwrap();
            }
        }
    }

    fn judge(&self, number: u64) {
        let mut given_up: BTreeMap<String, Vec<String>> = BTreeMap::new();
        journal::read(self.store.dir(), |entry| {
            let entry = serde_json::to_value(entry).unwrap();
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            if ["alert_given_up", "mail_given_up"].contains(&&*text("event")) {
                let channel = entry["channel"].as_str().unwrap_or("mail").to_owned();
                given_up.entry(channel).or_default().push(text("message"));
            }
        })
        .unwrap();
        let seen = self.seen.lock().unwrap();
        let mut times: BTreeMap<&(String, String), usize> = BTreeMap::new();
        for message in &seen.taken {
            *times.entry(message).or_default() += 1;
        }
        let mut lost: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for ((channel, id), (alert, messages)) in &seen.written {
            let what = format!(
                "seed {number}, {channel}: {} {} at {}",
                alert.service,
                alert.event.name(),
                alert.time
            );
            assert_eq!(messages.len(), 1, "{what} is in two messages");
            let message = messages.first().unwrap();
            let told = times
                .get(&(channel.clone(), message.clone()))
                .copied()
                .unwrap_or(0);
            let doubts = seen.doubts.get(message).copied().unwrap_or(0);
            assert!(
                told <= 1 + doubts,
                "{what} ({id}) came {told} times, with {doubts} doubts"
            );
            if told == 0 {
                lost.entry(channel).or_default().insert(message);
            }
        }
        for (channel, messages) in &lost {
            let said = given_up.get(*channel).map_or(0, Vec::len);
            assert!(
                said >= messages.len(),
                "seed {number}, {channel}: {} never came, and {said} are said to be given up",
                messages.len()
            );
        }
        for channel in &self.config.channels {
            let of_channel = seen
                .written
                .iter()
                .filter(|((name, _), _)| *name == channel.name);
            let mut alerts: Vec<&Alert> = of_channel.map(|(_, (alert, _))| alert).collect();
            alerts.sort_by_key(|alert| alert.time);
            assert!(
                alerts.len() > 15,
                "seed {number}, {}: {} alerts",
                channel.name,
                alerts.len()
            );
            in_order(
                &alerts,
                channel.routing(),
                &format!("seed {number}, {}", channel.name),
            );
            let asked = seen.asked.get(&channel.name).map_or(&[][..], Vec::as_slice);
            for pair in asked.windows(2) {
                let (wait, mood) = (pair[1].0 - pair[0].0, pair[0].1);
                let least = match (mood, pair[1].1) {
                    (Mood::Busy, _) => TimeDelta::minutes(50),
                    (Mood::Refuses, _) if pair[0].2 == pair[1].2 => TimeDelta::minutes(60),
                    _ => continue,
                };
                assert!(
                    wait >= least,
                    "seed {number}, {}: {mood:?} was asked again after {wait}",
                    channel.name
                );
            }
        }
        let state = self.store.look().state;
        for (name, known) in &state.channels {
            assert!(
                known.pending.is_empty(),
                "seed {number}, {name}: {:?}",
                known.pending
            );
        }
        assert_eq!(
            Outbox::at(self.store.dir()).load().deliveries.len(),
            0,
            "seed {number}"
        );
        assert!(self.dir.path().exists());
    }
}

/// No reminder comes before its time, no end without its beginning, and no beginning is without an end.
fn in_order(alerts: &[&Alert], policy: &Routing, who: &str) {
    let mut open: BTreeSet<&str> = BTreeSet::new();
    let mut last: BTreeMap<(&str, Event, Option<&str>), DateTime<Utc>> = BTreeMap::new();
    let of_services = alerts.iter().filter(|alert| alert.service != "watchdog");
    for alert in of_services {
        let name = alert.service.as_str();
        if alert.event == Event::Recovered {
            assert!(
                open.remove(name),
                "{who}: {name} recovered of nothing at {}",
                alert.time
            );
        } else if alert.event.is_trouble() {
            open.insert(name);
        } else {
            open.remove(name);
        }
        if !alert.event.is_trouble() {
            last.retain(|(service, ..), _| *service != name);
        } else if alert.event.severity() == Severity::Critical {
            let key = (name, alert.event, alert.incident.as_deref());
            if let Some(before) = last.insert(key, alert.time) {
                let wait = (alert.time - before).to_std().unwrap();
                assert!(
                    wait >= policy.remind_every,
                    "{who}: {name} again after {wait:?}"
                );
            }
        }
    }
    assert!(open.is_empty(), "{who}: no end of {open:?}");
}

#[test]
fn a_month_in_which_channels_die_and_runs_are_killed() {
    for seed in [1, 2, 3] {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut month = Month::new();
        let names = ["one", "two", "three"];
        for name in names {
            month.set_mood(name, Mood::Well);
        }
        let mut until = BTreeMap::new();
        let mut verdicts = [("a", Verdict::Healthy), ("b", Verdict::Healthy)];
        for number in 0..600_u32 {
            for name in names {
                if until.get(name).is_none_or(|&until| until <= number) {
                    let mood = match dice.roll(12) {
                        0 => Mood::Gone,
                        1 => Mood::Busy,
                        2 => Mood::Refuses,
                        3 => Mood::Deaf,
                        4 => Mood::Mute,
                        _ => Mood::Well,
                    };
                    month.set_mood(name, mood);
                    // now and then for more than three days
                    let lasts = if dice.roll(20) == 0 {
                        260
                    } else {
                        1 + dice.roll(30)
                    };
                    until.insert(name, number + lasts);
                }
            }
            for (_, verdict) in &mut verdicts {
                if dice.roll(6) == 0 {
                    *verdict = match dice.roll(12) {
                        0 | 1 => Verdict::Down,
                        2 => Verdict::Degraded,
                        3 => Verdict::Restarted,
                        4 => Verdict::RestartFailed,
                        5 => Verdict::Exhausted,
                        _ => Verdict::Healthy,
                    };
                }
            }
            let killed = (dice.roll(4) == 0).then(|| 1 + dice.roll(12));
            month.run(20, &verdicts, killed);
        }
        for name in names {
            month.set_mood(name, Mood::Well);
        }
        for _ in 0..40 {
            let well = verdicts.map(|(name, _)| (name, Verdict::Healthy));
            month.run(180, &well, None);
        }
        month.judge(seed);
    }
}
