//! A month of alerts, with the real state, outbox and requests: channels die and come back, answers are lost, secrets are
//! wrong for days, and runs are killed at any step.
//!
//! A run that is killed leaves the files as they were then. So the files are copied while a run asks the other sides, and
//! such a copy, or one with the older of some of its files, is what the next run finds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::deliver;
use crate::clock::{Reading, age};
use crate::config::{Config, Environment, parse};
use crate::decide::Decision;
use crate::fixtures::{at, gone, service, up};
use crate::notify::outbox::{self, Outbox};
use crate::notify::{Alert, Event, Routing, Severity};
use crate::settle::{AlertConfig, settle};
use crate::state::journal;
use crate::state::store::Store;
use crate::verdict::Verdict;

const NAMES: [&str; 3] = ["one", "two", "three"];

/// Where nothing listens: the port is not of those that a listener gets.
const NOWHERE: u16 = 1;

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

/// Where a run is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    /// Before it has anything to do with channels.
    Before,
    /// When so many new messages are in the outbox, and the state knows of none.
    Queued(usize),
    /// Before a message reaches anybody.
    Unsent,
    /// Once so many messages have reached somebody.
    Sent(usize),
    /// When all is sent and noted, but in the state.
    Unsaved,
}

/// The files of a state directory, by their names in it.
type Files = BTreeMap<String, Vec<u8>>;

/// What the other sides saw.
#[derive(Default)]
struct Seen {
    now: DateTime<Utc>,
    state_dir: std::path::PathBuf,
    killed: Option<Killed>,
    /// How many messages have come in this run.
    count: usize,
    /// The files when the first one came.
    first: Option<Files>,
    /// The files when the run was killed: after that nothing that it does is heard.
    last: Option<Files>,
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
    /// Notes what is in messages of the outbox.
    fn note(&mut self, files: &Files) {
        for (name, bytes) in files {
            // one that is being written does not parse, or is read again under its own name
            let bytes = name.starts_with("outbox/").then_some(bytes);
            let Some(delivery) = bytes.and_then(|bytes| outbox::parse(bytes).ok()) else {
                continue;
            };
            for alert in delivery.notification.alerts {
                let key = (delivery.channel.clone(), alert.id.clone());
                let entry = self.written.entry(key);
                let (_, messages) = entry.or_insert_with(|| (alert, BTreeSet::new()));
                messages.insert(delivery.notification.id.clone());
            }
        }
    }

    /// What is answered to a message; nothing: the connection ends without an answer.
    fn answer(&mut self, channel: &str, id: &str) -> Option<&'static str> {
        let mood = self.moods[channel];
        if self.last.is_none() {
            let files = files(&self.state_dir);
            self.first.get_or_insert_with(|| files.clone());
            self.count += 1;
            if matches!(self.killed, Some(Killed::Queued(_) | Killed::Unsent)) {
                self.last = Some(files);
            } else {
                self.note(&files);
                self.take(channel, id, mood);
                if self.killed == Some(Killed::Sent(self.count)) {
                    self.last = Some(files);
                }
            }
        }
        match mood {
            Mood::Well => Some("200 OK"),
            Mood::Busy => Some("429 Too Many Requests\r\nRetry-After: 3000"),
            Mood::Refuses => Some("401 Unauthorized"),
            Mood::Gone | Mood::Deaf | Mood::Mute => None,
        }
    }

    fn take(&mut self, channel: &str, id: &str, mood: Mood) {
        let asked = self.asked.entry(channel.to_owned()).or_default();
        let secret = self.changes.get(channel).copied().unwrap_or(0);
        asked.push((self.now, mood, secret));
        if matches!(mood, Mood::Well | Mood::Deaf) {
            self.taken.push((channel.to_owned(), id.to_owned()));
        }
        if matches!(mood, Mood::Deaf | Mood::Mute) {
            *self.doubts.entry(id.to_owned()).or_default() += 1;
        }
    }
}

/// The files in a state directory. What is written meanwhile is there whole, or not at all.
fn files(dir: &Path) -> Files {
    let mut found = Files::new();
    for (inside, dir) in [("", dir.to_owned()), ("outbox/", dir.join("outbox"))] {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.path().is_file()) {
            // one that has gone since it was listed is gone
            if let Ok(bytes) = fs::read(entry.path()) {
                let name = entry.file_name().into_string().unwrap();
                found.insert(format!("{inside}{name}"), bytes);
            }
        }
    }
    found
}

/// Makes the files of a state directory these.
fn restore(dir: &Path, wanted: &Files) {
    for name in files(dir).keys().filter(|name| !wanted.contains_key(*name)) {
        fs::remove_file(dir.join(name)).unwrap();
    }
    for (name, bytes) in wanted {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

/// Plays the other side of a channel. Returns its port.
fn listen(name: &'static str, seen: &Arc<Mutex<Seen>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::clone(seen);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Some(id) = id_of_message(&stream) else {
                continue;
            };
            let answer = seen.lock().unwrap().answer(name, &id);
            if let Some(status) = answer {
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                let _ = (&stream).write_all(head.as_bytes());
            }
        }
    });
    port
}

/// Reads a message to its end.
fn id_of_message(stream: &TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let message: serde_json::Value = serde_json::from_slice(&body).ok()?;
    Some(message["id"].as_str()?.to_owned())
}

/// The config as it is by now: the path of a URL is a secret of its channel.
fn configured(dir: &Path, ports: &BTreeMap<&str, u16>, seen: &Seen) -> Config {
    const ALL: &str = "on = [\"recovered\", \"degraded\", \"restarted\", \"down\", \"restart_failed\", \"exhausted\"]";
    let channel = |name: &str, keys: &str| {
        let port = match seen.moods[name] {
            Mood::Gone => NOWHERE,
            _ => ports[name],
        };
        let secret = seen.changes.get(name).copied().unwrap_or(0);
        format!(
            "[notify.{name}]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:{port}/{secret}\"\n{keys}\n"
        )
    };
    let text = [
        "state_dir = \"state\"\n[service.a]\nprocess = { pid_file = \"a.pid\" }\n".to_owned(),
        channel("one", ALL),
        channel("two", "min_severity = \"critical\"\nmax_per_hour = 2"),
        channel("three", &format!("{ALL}\nremind_every = \"10h\"")),
    ];
    let path = dir.join("watchdog.toml");
    parse(&text.concat(), &path, &Environment::default()).unwrap()
}

struct Month {
    /// Held for as long as the files are needed.
    dir: tempfile::TempDir,
    config: Config,
    store: Store,
    seen: Arc<Mutex<Seen>>,
    ports: BTreeMap<&'static str, u16>,
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
        let state_dir = dir.path().join("state");
        let store = Store::prepare(&state_dir).unwrap();
        let seen = Arc::new(Mutex::new(Seen {
            state_dir,
            ..Seen::default()
        }));
        for name in NAMES {
            seen.lock()
                .unwrap()
                .moods
                .insert(name.to_owned(), Mood::Well);
        }
        let ports = NAMES.map(|name| (name, listen(name, &seen))).into();
        let config = configured(dir.path(), &ports, &seen.lock().unwrap());
        Self {
            config,
            store,
            seen,
            ports,
            second: 0,
            dir,
        }
    }

    /// A run, so many minutes after the one before, that finds this.
    fn run(&mut self, minutes: i64, verdicts: &[(&str, Verdict)], killed: Option<Killed>) {
        self.second += minutes * 60;
        let now = at(self.second);
        let milliseconds = u64::try_from(self.second).unwrap() * 1000;
        let clock = Reading {
            wall: now,
            boot_ms: milliseconds,
            awake_ms: milliseconds,
            boot_id: "a".into(),
        };
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
        if killed == Some(Killed::Before) {
            return;
        }
        let dir = self.store.dir().to_owned();
        let before = files(&dir);
        let taken = {
            let mut seen = self.seen.lock().unwrap();
            (seen.now, seen.killed, seen.count) = (now, killed, 0);
            (seen.first, seen.last) = (None, None);
            seen.taken.len()
        };
        let channels = self.config.channels.clone();
        deliver(&self.config, &channels, &self.store, &mut state, &clock);
        let after = files(&dir);
        let mut seen = self.seen.lock().unwrap();
        let first = seen.first.take();
        let left: Files = match (killed, first) {
            // nothing was sent, so there was no such step
            (None | Some(Killed::Before), _) | (_, None) => return seen.note(&after),
            (Some(Killed::Queued(most)), Some(first)) => {
                let is_new =
                    |name: &&String| name.starts_with("outbox/") && !before.contains_key(*name);
                let new = first.iter().filter(|(name, _)| is_new(name)).take(most);
                let new = new.map(|(name, bytes)| (name.clone(), bytes.clone()));
                before.clone().into_iter().chain(new).collect()
            }
            (Some(Killed::Unsaved), Some(first)) => {
                let state = first
                    .into_iter()
                    .filter(|(name, _)| name.starts_with("state.json"));
                after.into_iter().chain(state).collect()
            }
            (Some(Killed::Unsent | Killed::Sent(_)), Some(_)) => match seen.last.take() {
                Some(last) => last,
                // fewer were sent
                None => return seen.note(&after),
            },
        };
        restore(&dir, &left);
        seen.note(&left);
        // what was said to it may be forgotten
        for asked in seen.asked.values_mut() {
            asked.retain(|(time, ..)| *time != now);
        }
        // it may not have been recorded that these were taken
        let taken: Vec<String> = (seen.taken[taken..].iter().map(|it| it.1.clone())).collect();
        for id in taken {
            *seen.doubts.entry(id).or_default() += 1;
        }
    }

    /// Sets how a channel is from now on. Where its secret was wrong, it is a right one now; where nobody was there, it has
    /// moved.
    fn set_mood(&mut self, name: &str, mood: Mood) {
        let mut seen = self.seen.lock().unwrap();
        let before = seen.moods.insert(name.to_owned(), mood);
        let is_changed = |mood| matches!(mood, Some(Mood::Refuses | Mood::Gone));
        if is_changed(before) || mood == Mood::Gone {
            *seen.changes.entry(name.to_owned()).or_default() += 1;
        }
        self.config = configured(self.dir.path(), &self.ports, &seen);
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
        let mut until = BTreeMap::new();
        let mut verdicts = [("a", Verdict::Healthy), ("b", Verdict::Healthy)];
        for number in 0..600_u32 {
            for name in NAMES {
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
            let killed = match dice.roll(24) {
                0 => Some(Killed::Before),
                1 => Some(Killed::Queued(dice.roll(4) as usize)),
                2 => Some(Killed::Unsent),
                3 | 4 => Some(Killed::Sent(1 + dice.roll(3) as usize)),
                5 => Some(Killed::Unsaved),
                _ => None,
            };
            month.run(20, &verdicts, killed);
        }
        for name in NAMES {
            month.set_mood(name, Mood::Well);
        }
        for _ in 0..40 {
            let well = verdicts.map(|(name, _)| (name, Verdict::Healthy));
            month.run(180, &well, None);
        }
        month.judge(seed);
    }
}
