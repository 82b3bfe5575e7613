use std::time::{Duration, Instant};

use chrono::DateTime;

use super::*;
use crate::config::{Environment, parse};
use crate::fixtures::{self, alert, at};
use crate::notify::mail::{Mailbox, Settings, Smtp, Tls, Transport};
use crate::notify::{ChannelSettings, Event, Routing};
use crate::settle::{AlertConfig, alert_own_trouble};

mod month;

fn channel(name: &str, transport: Transport) -> Channel {
    limited(name, transport, 12)
}

fn limited(name: &str, transport: Transport, max_per_hour: u32) -> Channel {
    Channel {
        name: name.to_owned(),
        settings: ChannelSettings::Mail(Settings {
            from: Mailbox::parse("w@example.org").unwrap(),
            to: vec![Mailbox::parse("o@example.org").unwrap()],
            routing: Routing {
                max_per_hour,
                ..fixtures::routing(&[Event::Down])
            },
            timeout: None,
            transport,
        }),
        file: None,
    }
}

fn smtp(port: u16) -> Transport {
    Transport::Smtp(Smtp {
        host: "127.0.0.1".to_owned(),
        port,
        tls: Tls::None,
        username: None,
        password: None,
        ca_file: None,
        timeout: Duration::from_secs(2),
    })
}

#[test]
fn f73_what_was_held_back_counts_by_runs() {
    let mut state = State::default();
    let channels = [channel("mail", Transport::Directory("/nonexistent".into()))];
    for second in [1, 1, 2, 3] {
        let now = DateTime::from_timestamp(second, 0).unwrap();
        let alerting = AlertConfig {
            channels: &channels,
        };
        alert_own_trouble(&mut state, now, "", alerting);
    }
    let pending = &mut state.channels.get_mut("mail").unwrap().pending;
    assert_eq!(rate_limited(pending), 0);
    for alert in pending.iter_mut().take(3) {
        alert.rate_limited = true;
    }
    assert_eq!(rate_limited(pending), 2);
}

/// A state directory, and the state of these channels.
struct Run {
    dir: tempfile::TempDir,
    config: Config,
    store: Store,
    state: State,
}

impl Run {
    fn new(channels: Vec<Channel>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = "state_dir = \"state\"\n[service.a]\nprocess = { pid_file = \"a.pid\" }\n";
        let path = dir.path().join("watchdog.toml");
        let config = parse(text, &path, &Environment::default()).unwrap();
        Self {
            store: Store::prepare(&dir.path().join("state")).unwrap(),
            config: Config { channels, ..config },
            state: State::default(),
            dir,
        }
    }

    fn fail(&mut self, second: i64) {
        for channel in &self.config.channels {
            let known = self.state.channels.entry(channel.name.clone()).or_default();
            known.add(Alert {
                time: at(second),
                incident: Some("a.1".to_owned()),
                ..alert("a", Event::Down)
            });
        }
        let service = self.state.services.entry("a".to_owned()).or_default();
        service.incident = Some("a.1".to_owned());
    }

    fn deliver(&mut self, second: i64) -> BTreeMap<String, Deliveries> {
        let now = Reading {
            wall: at(second),
            boot_ms: u64::try_from(second).unwrap() * 1000,
            awake_ms: u64::try_from(second).unwrap() * 1000,
            boot_id: "a".into(),
        };
        let channels = &self.config.channels;
        deliver(&self.config, channels, &self.store, &mut self.state, &now)
    }

    fn mails(&self, directory: &str) -> usize {
        std::fs::read_dir(self.dir.path().join(directory)).map_or(0, Iterator::count)
    }

    fn thread(&self, channel: &str) -> usize {
        let threads = &self.state.channels[channel].threads;
        threads.values().map(Vec::len).sum()
    }
}

fn deliveries(sent: usize, queued: usize) -> Deliveries {
    Deliveries { sent, queued }
}

#[test]
fn a_channel_whose_other_side_is_silent_delays_and_costs_the_others_nothing() {
    // it takes connections and says nothing
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut run = Run::new(Vec::new());
    let directory = |name: &str| Transport::Directory(run.dir.path().join(name));
    run.config.channels = vec![
        channel("silent", smtp(port)),
        limited("one", directory("one"), 1),
        channel("other", directory("other")),
    ];
    run.fail(0);
    let expected = |all: &[(&str, Deliveries)]| -> BTreeMap<String, Deliveries> {
        let pairs = all.iter().map(|(name, it)| ((*name).to_owned(), *it));
        pairs.collect()
    };
    let began = Instant::now();
    assert_eq!(
        run.deliver(1),
        expected(&[
            ("silent", deliveries(0, 1)),
            ("one", deliveries(1, 0)),
            ("other", deliveries(1, 0)),
        ])
    );
    // side by side: not the sum of the timeouts
    assert!(began.elapsed() < Duration::from_secs(60));
    assert_eq!((run.mails("one"), run.mails("other")), (1, 1));
    // the limit of one holds back nothing of another, and what waits for the silent one is sent by no other
    run.fail(60);
    assert_eq!(
        run.deliver(60),
        expected(&[
            ("silent", deliveries(0, 2)),
            ("one", deliveries(0, 0)),
            ("other", deliveries(1, 0)),
        ])
    );
    assert_eq!((run.mails("one"), run.mails("other")), (1, 2));
    assert_eq!(run.state.channels["one"].pending.len(), 1);
    assert!(run.state.channels["other"].pending.is_empty());
    assert_eq!(
        ["silent", "one", "other"].map(|name| run.thread(name)),
        [2, 1, 2]
    );
    assert_eq!(run.mails("state/outbox"), 2);
}

#[test]
fn a_run_that_was_killed_before_the_state_knew_sends_nothing_twice_on_any_channel() {
    let mut run = Run::new(Vec::new());
    let directory = |name: &str| Transport::Directory(run.dir.path().join(name));
    run.config.channels = vec![
        channel("one", directory("one")),
        channel("other", directory("other")),
    ];
    run.fail(0);
    // one of the two was written when the run was killed
    let before = run.state.clone();
    let known = before.channels["one"].clone();
    let config = &run.config;
    let notification = composed(config, "one", &known.pending, at(0)).unwrap();
    let ids = known.pending.iter().map(|alert| alert.id.clone()).collect();
    let now = Reading {
        wall: at(0),
        boot_ms: 0,
        awake_ms: 0,
        boot_id: "a".into(),
    };
    let delivery = outbox::Delivery::new(
        notification,
        "one",
        vec!["o@example.org".to_owned()],
        ids,
        notify::Thread::default(),
        &now,
    );
    Outbox::at(run.store.dir()).add(delivery).unwrap();
    for second in 1..4 {
        run.deliver(second);
    }
    assert_eq!((run.mails("one"), run.mails("other")), (1, 1));
    assert_eq!(["one", "other"].map(|name| run.thread(name)), [1, 1]);
    assert_eq!(run.mails("state/outbox"), 0);
}

#[test]
fn what_waits_for_a_channel_that_the_config_no_longer_has_is_kept_for_three_days() {
    let mut run = Run::new(Vec::new());
    run.config.channels = vec![
        channel("gone", smtp(1)),
        channel("mail", Transport::Directory(run.dir.path().join("mail"))),
    ];
    run.fail(0);
    run.deliver(1);
    assert_eq!(run.mails("state/outbox"), 1);
    let gone = run.config.channels.remove(0);
    run.deliver(2 * 86_400);
    assert_eq!(run.mails("state/outbox"), 1, "it may come back");
    let mut later = Run {
        dir: tempfile::tempdir().unwrap(),
        config: run.config.clone(),
        store: run.store.clone(),
        state: run.state.clone(),
    };
    later.deliver(4 * 86_400);
    assert_eq!(run.mails("state/outbox"), 0);
    let mut said = Vec::new();
    journal::read(run.store.dir(), |entry| said.extend(entry.message)).unwrap();
    assert!(
        said.last()
            .unwrap()
            .starts_with("the config has no such channel any more; never told to o@example.org: "),
        "{said:?}"
    );
    assert_eq!(gone.name, "gone");
}

#[test]
fn ids_that_the_other_side_gives_are_a_part_of_the_thread() {
    let mut run = Run::new(Vec::new());
    let done = Done {
        channel: "phone".to_owned(),
        deliveries: deliveries(1, 0),
        message_ids: vec![("4711".to_owned(), vec!["a.1".to_owned(), "b.1".to_owned()])],
        told: Vec::new(),
        hold: None,
        refusal: None,
        unreached: None,
        reached: true,
        moved: None,
    };
    let sent = Messages {
        sent: 1,
        ..Messages::default()
    };
    let counts = BTreeMap::from([("phone".to_owned(), sent)]);
    note_answers(&run.store, &mut run.state, &[done], counts, at(1));
    let known = &run.store.look().state.channels["phone"];
    assert_eq!(known.threads["a.1"], ["4711"]);
    assert_eq!(known.threads["b.1"], ["4711"]);
    assert_eq!(known.messages.sent, 1);
}
