//! `redis`: an entry of a stream for each alert.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answers::LONGEST;
use super::kind::Private;
use super::report::{DeliveryReport, Outcome, Pause, Paused};
use super::safe::said;
use super::sentences::first_sentence;
use super::{Alert, ChannelKind, Common, Event, Notification, Routing, Secret, Thread};
use crate::check::trap::Trap;
use crate::client::redis::{Answer, Command, Failure, Reply, Server, ask};
use crate::table::{Filled, Flat, Part, Table, Within, table};

table! {
    /// Whom to tell by entries of a stream of Redis, one for each alert.
    pub struct Settings like "type = \"redis\"", check fits_together {
        /// Which kind of channel it is.
        kind("type"): String as Filled, example r#""redis""#;
        /// Where it is: redis://user:password@host:6379/0, the same with rediss:// for TLS, or
        /// unix://user:password@/run/redis/redis.sock?db=0.
        url: Secret => Secret, commented r#""redis://127.0.0.1:6379/0""#;
        /// The key of the stream.
        stream: String as Filled = "alerts".to_owned();
        /// The field that has the JSON.
        field: String as Filled = "data".to_owned();
        /// So many entries are kept about: the oldest are removed.
        max_len: u32 as Within<1, 1_000_000_000> = 10_000;
        /// Authorities to trust in addition to the system's.
        ca_file: Option<PathBuf>, commented r#""/etc/ssl/own-ca.pem""#;
        /// What goes out by it.
        common: Common => Flat;
    }
}

/// So many entries are looked through for what may be there already.
const LOOKED_BACK: usize = 20;

/// Errors that say that all is well with the config, and that the server cannot take it now.
const LATER: [&str; 10] = [
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOREPLICAS",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "UNKILLABLE",
];

fn fits_together(table: &Table<'_>, part: &mut Part<Settings>) {
    let (Some(Secret::Inline(text)), Some(value)) = (&part.url, table.get("url")) else {
        return;
    };
    if let Err(why) = Server::parse(text, None) {
        value.misplaced(
            &format!("`url` is no URL of Redis: {why}"),
            "write it like redis://user:password@host:6379/0",
        );
    }
}

/// An entry of the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    id: String,
    json: String,
}

impl Settings {
    /// The server, and what is shown to nobody of its URL.
    fn server(&self) -> Result<(Server, Vec<String>), String> {
        let url = self.url.read("URL")?;
        let server = Server::parse(&url, self.ca_file.clone())
            .map_err(|why| format!("its URL is no right one: {why}"))?;
        let userinfo = url
            .split_once("://")
            .and_then(|(_, rest)| rest.split('/').next()?.rsplit_once('@'));
        // one without a user is no more than the place of the server
        let mut secrets = userinfo.map_or(Vec::new(), |(userinfo, _)| {
            let (user, password) = userinfo.split_once(':').unwrap_or(("", userinfo));
            [&url, userinfo, password, user].map(str::to_owned).into()
        });
        secrets.extend(server.password());
        Ok((server, secrets))
    }

    fn adds(&self, entry: &Entry) -> Command {
        let max_len = self.max_len.to_string();
        [
            "XADD",
            &self.stream,
            "MAXLEN",
            "~",
            &max_len,
            "*",
            &self.field,
            &entry.json,
        ]
        .map(|word| word.as_bytes().to_vec())
        .into()
    }

    fn looks_back(&self, count: usize) -> Command {
        let count = (LOOKED_BACK + count).to_string();
        ["XREVRANGE", &self.stream, "+", "-", "COUNT", &count]
            .map(|word| word.as_bytes().to_vec())
            .into()
    }

    /// Adds entries to the stream, those aside that are there already where that is to be looked for.
    fn add(
        &self,
        mut entries: Vec<Entry>,
        recipients: &[String],
        limit: Duration,
        looks: bool,
        step: &mut dyn FnMut(&str),
    ) -> DeliveryReport {
        let deadline = Instant::now() + limit;
        let (server, secrets) = match self.server() {
            Ok(found) => found,
            Err(why) => return failed(recipients, &Outcome::deferred(why), None),
        };
        let origin = server.origin();
        if looks {
            let command = self.looks_back(entries.len() - 1);
            match ask(&server, &[command], limit / 2) {
                Ok(answer) => {
                    let before = entries.len();
                    remove_known(&mut entries, &self.field, &answer);
                    if entries.len() < before {
                        step(&format!(
                            "{origin}: {} of {before} entries were added by an earlier attempt",
                            before - entries.len()
                        ));
                    }
                }
                // twice is better than never
                Err(Failure {
                    is_too_long: true, ..
                }) => {}
                Err(failure) => {
                    let why = said(&failure.why, &secrets);
                    return failed(recipients, &Outcome::deferred(why), None);
                }
            }
            if entries.is_empty() {
                return DeliveryReport::all(recipients, &Outcome::Delivered);
            }
        }
        let commands: Vec<Command> = entries.iter().map(|entry| self.adds(entry)).collect();
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = match ask(&server, &commands, left) {
            Ok(answer) => answer,
            Err(failure) => {
                let outcome = Outcome::Deferred {
                    why: said(&failure.why, &secrets),
                    maybe_delivered: failure.was_sent,
                };
                return failed(recipients, &outcome, None);
            }
        };
        match meaning(&answer) {
            Meaning::Taken => {
                step(&format!(
                    "{origin}: added to the stream {}",
                    crate::text::visible(&self.stream)
                ));
                DeliveryReport::all(recipients, &Outcome::Delivered)
            }
            Meaning::Later { error, in_part } => {
                let outcome = Outcome::Deferred {
                    why: format!("{origin} answered {}", said(&error, &secrets)),
                    maybe_delivered: in_part,
                };
                failed(recipients, &outcome, None)
            }
            Meaning::Refused { error, in_part } => {
                let outcome = Outcome::Deferred {
                    why: format!(
                        "{origin} answered {}; {}",
                        said(&error, &secrets),
                        advice(&error)
                    ),
                    maybe_delivered: in_part,
                };
                let pause = Pause {
                    whom: Paused::Channel,
                    length: LONGEST,
                    until_changed: true,
                };
                failed(recipients, &outcome, Some(pause))
            }
        }
    }
}

impl ChannelKind for Settings {
    type Request = Vec<Entry>;

    fn routing(&self) -> &Routing {
        &self.common.routing
    }

    fn recipients(&self) -> Vec<String> {
        vec![self.kind.clone()]
    }

    fn timeout(&self) -> Duration {
        self.common.timeout
    }

    fn describe(&self) -> String {
        let place = self.server().map(|(server, _)| server.origin());
        format!(
            "to the stream {} of {}",
            crate::text::visible(&self.stream),
            place.as_deref().unwrap_or("its URL")
        )
    }

    fn secrets(&self) -> Vec<Private<'_>> {
        vec![Private::of(&["url"], &self.url)]
    }

    fn traps(&self) -> Vec<Trap> {
        let (server, secrets) = match self.server() {
            Ok(found) => found,
            Err(why) => {
                const HELP: &str =
                    "put the URL there, in one line, like redis://user:password@host:6379/0";
                return vec![Trap::of("url", why, HELP)];
            }
        };
        let mut traps = Vec::new();
        if server.sends_secret_openly() {
            traps.push(Trap::of(
                "url",
                format!(
                    "the password for {} crosses the network as it is",
                    said(&server.origin(), &secrets)
                ),
                "use rediss:// where the server speaks TLS, or an address of this host",
            ));
        }
        if self.ca_file.is_some() && !server.is_tls() {
            traps.push(Trap::of(
                "ca_file",
                "`ca_file` means nothing without rediss://",
                "take it out, or write rediss:// where the server speaks TLS",
            ));
        }
        traps
    }

    fn message_id(&self, _: &Notification) -> Option<String> {
        None
    }

    fn render(&self, notification: &Notification, _: &Thread) -> Result<Vec<Entry>, String> {
        let alerts = notification.alerts.iter().enumerate();
        Ok(alerts
            .map(|(place, alert)| {
                let id = format!("{}.{}", notification.id, place + 1);
                let json = of_alert(notification, alert, &id).to_string();
                Entry { id, json }
            })
            .collect())
    }

    fn send(
        &self,
        entries: Vec<Entry>,
        recipients: &[String],
        limit: Duration,
        step: &mut dyn FnMut(&str),
    ) -> DeliveryReport {
        self.add(entries, recipients, limit, false, step)
    }

    fn send_again(
        &self,
        entries: Vec<Entry>,
        recipients: &[String],
        limit: Duration,
        step: &mut dyn FnMut(&str),
    ) -> DeliveryReport {
        self.add(entries, recipients, limit, true, step)
    }
}

/// Nothing else would be taken now either.
fn failed(recipients: &[String], outcome: &Outcome, pause: Option<Pause>) -> DeliveryReport {
    DeliveryReport {
        transport_failed: true,
        pause,
        ..DeliveryReport::all(recipients, outcome)
    }
}

/// An alert as JSON for the programs that read the stream.
fn of_alert(notification: &Notification, alert: &Alert, id: &str) -> Value {
    let severity = json!(alert.event.severity());
    let severity = severity.as_str().unwrap_or_default().to_uppercase();
    let event_type = match alert.event {
        Event::Recovered | Event::Restarted | Event::Repaired | Event::Scaled => {
            "COMPONENT_RECOVERED"
        }
        Event::Test => "TEST",
        Event::Report => "REPORT",
        _ => "COMPONENT_DOWN",
    };
    let findings: Vec<&str> = (alert.findings.iter())
        .map(|finding| finding.message.as_str())
        .collect();
    let why = match &alert.action {
        _ if !findings.is_empty() => findings.join("; "),
        Some(action) if action.error.is_some() => action.error.clone().unwrap_or_default(),
        _ => alert.notes.join("; "),
    };
    let action = alert.action.as_ref();
    // in tenths, which are exact enough to be read and written again as they are
    #[expect(clippy::cast_precision_loss, reason = "it is far less than 2^52")]
    let timestamp = (alert.time.timestamp_millis() / 100) as f64 / 10.0;
    json!({
        "id": id,
        "event_type": event_type,
        "message": first_sentence(alert),
        "timestamp": timestamp,
        "severity": severity,
        "service": "watchdog",
        "reason": why,
        "params": {
            "component_name": alert.service,
            "container_name": alert.service,
            "event": alert.event,
            "action": action.map(|action| json!(action.kind)),
            "success": action.map(|action| action.ok),
            "consecutive_failures": alert.consecutive_failures,
            "severity": severity,
            "host": notification.host,
        },
    })
}

/// What the answers to all entries mean.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// All are in the stream.
    Taken,
    /// Not now, and perhaps some of them.
    Later { error: String, in_part: bool },
    /// Nothing, until something is changed there or here; perhaps some of them.
    Refused { error: String, in_part: bool },
}

fn meaning(answer: &Answer) -> Meaning {
    let (errors, taken): (Vec<&str>, usize) = match answer {
        Answer::Refused(error) => (vec![error], 0),
        Answer::Replies(replies) => {
            let errors: Vec<&str> = (replies.iter())
                .filter_map(|reply| match reply {
                    // an entry that was added has an id
                    Reply::Bytes(Some(_)) => None,
                    Reply::Error(error) => Some(error.as_str()),
                    _ => Some("something else than the id of an entry"),
                })
                .collect();
            let taken = replies.len() - errors.len();
            (errors, taken)
        }
    };
    let Some(&error) = errors.first() else {
        return Meaning::Taken;
    };
    let in_part = taken > 0;
    let word = error.split(' ').next().unwrap_or_default();
    let is_full = error.starts_with("ERR max number of clients");
    let error = error.to_owned();
    if LATER.contains(&word) || is_full {
        Meaning::Later { error, in_part }
    } else {
        Meaning::Refused { error, in_part }
    }
}

/// What mends a refusal.
fn advice(error: &str) -> &'static str {
    match error.split(' ').next().unwrap_or_default() {
        "NOAUTH" => "put a user and a password into its URL: redis://user:password@host",
        "WRONGPASS" => "see whether user and password in its URL are right",
        "NOPERM" => "let that user XADD to the stream, and XREVRANGE (ACL SETUSER)",
        "WRONGTYPE" => "the key is something else than a stream: name another `stream`",
        "MOVED" | "ASK" | "CROSSSLOT" => {
            "it is a cluster, of which another node has the stream: name that one in its URL"
        }
        "DENIED" => "it takes no connections from other hosts without a password",
        _ if error.contains("unknown command") => "streams are in Redis from 5.0 on",
        _ => "see whether its URL and its table are right",
    }
}

/// Removes the entries that the stream has already, as far as it was looked through.
fn remove_known(entries: &mut Vec<Entry>, field: &str, answer: &Answer) {
    let Answer::Replies(replies) = answer else {
        return;
    };
    let [Reply::List(Some(there))] = &replies[..] else {
        return;
    };
    let mut ids: Vec<String> = Vec::new();
    for entry in there {
        // an entry is its id, and its fields and values one after the other
        let Reply::List(Some(parts)) = entry else {
            continue;
        };
        let Some(Reply::List(Some(fields))) = parts.get(1) else {
            continue;
        };
        for pair in fields.chunks_exact(2) {
            if let [Reply::Bytes(Some(name)), Reply::Bytes(Some(value))] = pair
                && name == field.as_bytes()
                && let Ok(value) = serde_json::from_slice::<Value>(value)
            {
                ids.extend(value["id"].as_str().map(str::to_owned));
            }
        }
    }
    entries.retain(|entry| !ids.contains(&entry.id));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Finding, Kind, Severity};
    use crate::fixtures::{alert, at};
    use crate::notify::fixtures::{hostile, notification};
    use proptest::prelude::*;

    fn settings() -> Settings {
        Settings {
            kind: "redis".to_owned(),
            url: Secret::Inline("redis://me:canary@10.0.0.1".to_owned()),
            stream: "alerts".to_owned(),
            field: "data".to_owned(),
            max_len: 10_000,
            ca_file: None,
            common: crate::fixtures::common(),
        }
    }

    #[test]
    fn an_alert_is_json_that_those_who_read_the_stream_know() {
        let down = Alert {
            findings: vec![Finding::new(
                Kind::Process,
                "not_running",
                Severity::Critical,
                "it does not run".to_owned(),
            )],
            consecutive_failures: 3,
            time: at(0),
            ..alert("trader", Event::Down)
        };
        let recovered = Alert {
            time: at(0),
            ..alert("feed", Event::Recovered)
        };
        let notification = Notification {
            alerts: vec![down, recovered],
            ..notification("")
        };
        let entries = settings()
            .render(&notification, &Thread::default())
            .unwrap();
        assert_eq!(entries.len(), 2);
        let json: Value = serde_json::from_str(&entries[0].json).unwrap();
        assert_eq!(json["id"], "20261122T010203Z.trader.1.1");
        assert_eq!(json["event_type"], "COMPONENT_DOWN");
        assert!(
            json["message"].as_str().unwrap().contains("trader"),
            "{json}"
        );
        #[expect(clippy::cast_precision_loss, reason = "it is far less than 2^52")]
        let seconds = at(0).timestamp() as f64;
        assert!((json["timestamp"].as_f64().unwrap() - seconds).abs() < 1.0);
        assert_eq!(json["severity"], "CRITICAL");
        assert_eq!(json["service"], "watchdog");
        assert_eq!(json["reason"], "it does not run");
        assert_eq!(
            json["params"],
            json!({
                "component_name": "trader",
                "container_name": "trader",
                "event": "down",
                "action": null,
                "success": null,
                "consecutive_failures": 3,
                "severity": "CRITICAL",
                "host": "box1",
            })
        );
        let json: Value = serde_json::from_str(&entries[1].json).unwrap();
        assert_eq!(json["id"], "20261122T010203Z.trader.1.2");
        assert_eq!(json["event_type"], "COMPONENT_RECOVERED");
        assert_eq!(json["severity"], "INFO");
    }

    #[test]
    fn each_answer_has_its_meaning() {
        let id = || Reply::Bytes(Some(b"1-0".to_vec()));
        let error = |text: &str| Reply::Error(text.to_owned());
        let later = |text: &str, in_part| Meaning::Later {
            error: text.to_owned(),
            in_part,
        };
        let refused = |text: &str, in_part| Meaning::Refused {
            error: text.to_owned(),
            in_part,
        };
        for (replies, expected) in [
            (vec![id()], Meaning::Taken),
            (vec![id(), id()], Meaning::Taken),
            (vec![error("OOM x")], later("OOM x", false)),
            (vec![error("LOADING x")], later("LOADING x", false)),
            (vec![error("READONLY x")], later("READONLY x", false)),
            (vec![error("MISCONF x")], later("MISCONF x", false)),
            (vec![id(), error("OOM x")], later("OOM x", true)),
            (vec![error("NOAUTH x")], refused("NOAUTH x", false)),
            (vec![error("WRONGTYPE x")], refused("WRONGTYPE x", false)),
            (vec![error("MOVED 1 h:1")], refused("MOVED 1 h:1", false)),
            (vec![error("NOPERM x"), id()], refused("NOPERM x", true)),
            (
                vec![error("ERR unknown command")],
                refused("ERR unknown command", false),
            ),
            (
                vec![error("ERR max number of clients reached")],
                later("ERR max number of clients reached", false),
            ),
            (
                vec![Reply::Bytes(None)],
                refused("something else than the id of an entry", false),
            ),
        ] {
            assert_eq!(meaning(&Answer::Replies(replies)), expected);
        }
        let answer = Answer::Refused("WRONGPASS x".to_owned());
        assert_eq!(meaning(&answer), refused("WRONGPASS x", false));
        assert!(advice("MOVED 1 h:1").contains("cluster"));
    }

    #[test]
    fn what_the_stream_has_is_not_added_again() {
        let bytes = |text: &str| Reply::Bytes(Some(text.as_bytes().to_vec()));
        let list = |entries: Vec<Reply>| Reply::List(Some(entries));
        let entry = |fields: Vec<Reply>| list(vec![bytes("1-0"), list(fields)]);
        let there = list(vec![
            entry(vec![bytes("x"), bytes("{\"id\":\"a.1\"}")]),
            entry(vec![bytes("data"), bytes("no JSON")]),
            entry(vec![
                bytes("x"),
                bytes("y"),
                bytes("data"),
                bytes("{\"id\":\"a.2\"}"),
            ]),
            Reply::Number(1),
            list(vec![bytes("1-0")]),
        ]);
        let mut entries = ["a.1", "a.2", "a.3"]
            .map(|id| Entry {
                id: id.to_owned(),
                json: String::new(),
            })
            .to_vec();
        remove_known(&mut entries, "data", &Answer::Replies(vec![there]));
        let left: Vec<&str> = entries.iter().map(|entry| &*entry.id).collect();
        assert_eq!(left, ["a.1", "a.3"]);
        // who may not read it adds it again
        let refused = Answer::Replies(vec![Reply::Error("NOPERM x".to_owned())]);
        remove_known(&mut entries, "data", &refused);
        assert_eq!(entries.len(), 2);
    }

    #[test]
    fn a_password_that_crosses_the_network_openly_is_a_trap() {
        for (url, is_trap) in [
            ("redis://me:canary@10.0.0.1", true),
            ("redis://:canary@redis.example.org", true),
            ("redis://10.0.0.1", false),
            ("redis://:canary@127.0.0.1", false),
            ("redis://:canary@localhost", false),
            ("rediss://:canary@10.0.0.1", false),
            ("unix://:canary@/run/redis.sock", false),
        ] {
            let settings = Settings {
                url: Secret::Inline(url.to_owned()),
                ..settings()
            };
            let traps = settings.traps();
            assert_eq!(traps.len(), usize::from(is_trap), "{url}: {traps:?}");
            assert!(!format!("{traps:?} {}", settings.describe()).contains("canary"));
        }
    }

    proptest! {
        #[test]
        fn every_entry_is_one_line_of_json(notification in hostile()) {
            for entry in settings().render(&notification, &Thread::default()).unwrap() {
                prop_assert!(!entry.json.contains('\n'));
                let json: Value = serde_json::from_str(&entry.json).unwrap();
                prop_assert_eq!(json["id"].as_str(), Some(entry.id.as_str()));
            }
        }
    }
}
