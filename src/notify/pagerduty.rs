//! `pagerduty`: an event for each alert, by version 2 of the Events API: one that opens the incident there or adds to it, and
//! one that closes it, both with one key.
//!
//! Who gets an event that opens after the one that closed has a new incident that nobody will close. So events go out in
//! order: one that is not taken holds up those behind it, and of a message that was taken in part only the rest is sent
//! again. A copy costs nothing there, so an event without an answer is sent again by the next run. An event that is said
//! to be invalid itself, in full and in short, is tried once an hour, as any message that is not taken, and holds up those of
//! its own incident alone.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::SecondsFormat;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::answers::{Answer, Receipt};
use super::kind::{Private, Server, length_trap};
use super::layout::Body;
use super::own::Own;
use super::post::{Post, hand_over, proxy_trap};
use super::posted::Message;
use super::safe::{inert_line, inert_unless_own};
use super::sentences::{section, words};
use super::shorten::{line, units};
use super::{
    Alert, ChannelKind, Common, DeliveryReport, Event, Notification, Outcome, Pause, Paused,
    Recipient, Routing, Secret, Severity, Thread,
};
use crate::check::trap::Trap;
use crate::table::{Filled, Flat, table};

table! {
    /// Whom to tell by a service of PagerDuty.
    pub struct Settings like "type = \"pagerduty\"" {
        /// Which kind of channel it is.
        kind("type"): String as Filled, example r#""pagerduty""#;
        /// The key of an integration of the service by the Events API, version 2.
        routing_key: Secret => Secret, commented r#""4f1c2b7a9d3e4c5b8a6f0d1e2c3b4a59""#;
        /// Accounts of the EU have theirs at events.eu.pagerduty.com.
        api_url: String as Server = "https://events.pagerduty.com".to_owned();
        /// What goes out by it.
        common: Common => Flat;
    }
}

/// Limits, in characters.
const SUMMARY: usize = 1024;
const DEDUP_KEY: usize = 255;
const SHORT: usize = 200;
/// All keys have so many letters and digits.
const KEY: usize = 32;

/// Before the number of the first event that is left of a message.
const FROM: &str = ", from event ";
/// Before the number of an event that is left by itself.
const EVENT: &str = ", event ";

impl ChannelKind for Settings {
    /// Its events, in order.
    type Request = Vec<Message>;

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
        format!("by {}", self.api_url)
    }

    fn secrets(&self) -> Vec<Private<'_>> {
        vec![Private::of(&["routing_key"], &self.routing_key)]
    }

    fn traps(&self) -> Vec<Trap> {
        let help = "add an integration \"Events API V2\" to the service, and put its key there";
        let trap = length_trap("routing_key", &self.routing_key, KEY, help);
        let proxy = proxy_trap(self.post(&json!({})));
        trap.into_iter().chain(proxy).collect()
    }

    /// What joins the events of an incident is their key.
    fn message_id(&self, _: &Notification) -> Option<String> {
        None
    }

    fn render(&self, notification: &Notification, _: &Thread) -> Result<Vec<Message>, String> {
        let alerts = notification.alerts.iter();
        Ok(alerts
            .flat_map(|alert| events(notification, alert))
            .collect())
    }

    fn parts(&self, notification: &Notification, recipients: &[String]) -> Vec<(String, String)> {
        let alerts = notification.alerts.iter();
        let events: Vec<Message> = alerts
            .flat_map(|alert| events(notification, alert))
            .collect();
        let left = left_of(recipients, events.len()).into_iter();
        left.map(|number| {
            let key = events[number].whole["dedup_key"].as_str();
            (self.event(number), key.unwrap_or_default().to_owned())
        })
        .collect()
    }

    fn send(
        &self,
        events: Vec<Message>,
        recipients: &[String],
        limit: Duration,
        step: &mut dyn FnMut(&str),
    ) -> DeliveryReport {
        let deadline = Instant::now() + limit;
        let left = left_of(recipients, events.len());
        // those that are invalid, and those behind them in the same incident
        let mut held: Vec<Recipient> = Vec::new();
        let mut keys: Vec<&Value> = Vec::new();
        for (place, &number) in left.iter().enumerate() {
            let event = &events[number];
            let key = &event.whole["dedup_key"];
            if keys.contains(&key) {
                let why = "an event of the same incident before it is not taken";
                held.push(Recipient {
                    address: self.event(number),
                    outcome: Outcome::deferred(why),
                });
                continue;
            }
            let time = deadline.saturating_duration_since(Instant::now());
            let rest = self.rest(&left[place..], events.len());
            // one that is cut short at its end has no answer: none begins with little time
            if place > 0 && time < limit / 4 {
                let why = "the time of this run is over; the next one goes on";
                let report = DeliveryReport {
                    transport_failed: true,
                    ..DeliveryReport::all(&rest, &Outcome::deferred(why))
                };
                return with(held, report);
            }
            let (whole, short) = (self.post(&event.whole), self.post(&event.short));
            let report = hand_over(&rest, whole, short.ok(), receipt, time, step);
            if report.reached_somebody() {
                continue;
            }
            let never = report.recipients.first().map(|it| &it.outcome);
            let Some(Outcome::Never(why)) = never else {
                return with(held, in_order(report));
            };
            held.push(Recipient {
                address: self.event(number),
                outcome: Outcome::deferred(why),
            });
            keys.push(key);
        }
        if held.is_empty() {
            return DeliveryReport::all(recipients, &Outcome::Delivered);
        }
        let is_taken = held.len() < left.len();
        let taken = [self.kind.clone()];
        let taken = &taken[..usize::from(is_taken)];
        DeliveryReport {
            pause: Some(Pause::REFUSED),
            ..with(held, DeliveryReport::all(taken, &Outcome::Delivered))
        }
    }
}

impl Settings {
    fn post(&self, event: &Value) -> Result<Post, String> {
        let key = self.routing_key.read("routing_key")?;
        let mut value = event.clone();
        value["routing_key"] = json!(key);
        let mut post = Post::json(&format!("{}/v2/enqueue", self.api_url), &value)?;
        post.hide(&key);
        Ok(post)
    }

    /// Who is left where these events are, each by its number from 0.
    fn rest(&self, left: &[usize], events: usize) -> Vec<String> {
        let first = left.first().copied().unwrap_or_default();
        // none of the later ones was taken
        if left.len() < events - first {
            return left.iter().map(|&number| self.event(number)).collect();
        }
        vec![if first == 0 {
            self.kind.clone()
        } else {
            format!("{}{FROM}{}", self.kind, first + 1)
        }]
    }

    /// One event, as a recipient.
    fn event(&self, number: usize) -> String {
        format!("{}{EVENT}{}", self.kind, number + 1)
    }
}

/// The events that are left of a message that has so many, each by its number from 0.
fn left_of(recipients: &[String], events: usize) -> Vec<usize> {
    let number = |text: &str| text.parse::<usize>().ok()?.checked_sub(1);
    let mut left = BTreeSet::new();
    for recipient in recipients {
        let from = recipient.rsplit_once(FROM);
        let only = recipient.rsplit_once(EVENT);
        match (
            from.and_then(|it| number(it.1)),
            only.and_then(|it| number(it.1)),
        ) {
            (Some(from), _) => left.extend(from..events),
            (None, Some(only)) => left.extend((only < events).then_some(only)),
            (None, None) => left.extend(0..events),
        }
    }
    left.into_iter().collect()
}

/// An event that was not taken: no other may overtake it, and a copy is no harm.
fn in_order(report: DeliveryReport) -> DeliveryReport {
    let recipients = report.recipients.into_iter().map(|it| Recipient {
        outcome: match it.outcome {
            Outcome::Deferred { why, .. } => Outcome::deferred(why),
            outcome => outcome,
        },
        ..it
    });
    let mut pause = report.pause;
    if let Some(pause) = &mut pause {
        pause.whom = Paused::Channel;
    }
    DeliveryReport {
        recipients: recipients.collect(),
        transport_failed: true,
        pause,
        ..report
    }
}

/// A report, and before it the events that are held.
fn with(held: Vec<Recipient>, report: DeliveryReport) -> DeliveryReport {
    DeliveryReport {
        recipients: held.into_iter().chain(report.recipients).collect(),
        ..report
    }
}

/// What was accepted says so; so does an event that is wrong, where it is not its key that is.
fn receipt(answer: &Answer<'_>) -> Receipt {
    let json = answer.json();
    match answer.status {
        202 if json["status"] == "success" => Receipt::Taken,
        400 if json["status"] == "invalid event" => {
            let errors = json["errors"].as_array().map_or(&[][..], Vec::as_slice);
            let errors: Vec<String> = (errors.iter().filter_map(Value::as_str))
                .map(|error| error.to_lowercase().replace('_', " "))
                .collect();
            let is_of_key = |error: &String| {
                ["key", "integration", "service", "account"]
                    .iter()
                    .any(|word| error.replace("dedup key", "").contains(word))
            };
            if errors.is_empty() || errors.iter().any(is_of_key) {
                Receipt::None
            } else {
                Receipt::Never
            }
        }
        _ => Receipt::None,
    }
}

/// The events that an alert is. What is over, and was not reported as open, is opened and closed: so it is on record, and
/// nothing stays open.
fn events(notification: &Notification, alert: &Alert) -> Vec<Message> {
    let key = dedup_key(notification, alert);
    let is_over = matches!(
        alert.event,
        Event::Report
            | Event::Started
            | Event::Recovered
            | Event::Scaled
            | Event::Restarted
            | Event::Repaired
            | Event::Test
    );
    let mut events = Vec::new();
    if alert.event != Event::Recovered {
        events.push(trigger(notification, alert, &key));
    }
    if is_over {
        let resolve = json!({"event_action": "resolve", "dedup_key": key});
        events.push(Message {
            whole: resolve.clone(),
            short: resolve,
        });
    }
    events
}

fn trigger(notification: &Notification, alert: &Alert, key: &str) -> Message {
    let host = line(&notification.host, SUMMARY, units);
    let begin = format!("{}: {} {}", host, alert.service, words(alert.event));
    let summary = match alert.findings.first() {
        Some(finding) => format!("{begin}: {}", finding.message),
        None => begin.clone(),
    };
    let mut body = Body::default();
    let own = Own::of(notification);
    section(&mut body, notification.time, alert, &own.called);
    let text = body.text.trim_end().lines();
    let text: Vec<String> = text.map(|line| inert_unless_own(line, &own)).collect();
    let event = |summary: &str| {
        json!({
            "event_action": "trigger",
            "dedup_key": key,
            "client": "watchdog",
            "payload": {
                "summary": summary,
                "source": host,
                "severity": severity(alert.event.severity()),
                "timestamp": alert.time.to_rfc3339_opts(SecondsFormat::Millis, true),
                "component": line(&alert.service, SHORT, units),
                "class": alert.event.name(),
            },
        })
    };
    let mut whole = event(&inert_line(&summary, SUMMARY, units));
    whole["payload"]["custom_details"] = json!({
        "incident": alert.incident,
        "restarts_last_hour": alert.attempts,
        "text": text.join("\n"),
    });
    let begin = inert_line(&begin, SHORT, units);
    Message {
        whole,
        short: event(&format!("{begin} (shortened)")),
    }
}

/// What all events of an incident have in common, and no others: so what comes late to one that is over opens no other.
fn dedup_key(notification: &Notification, alert: &Alert) -> String {
    // what belongs to no incident stands for itself
    let of = alert.incident.as_deref().unwrap_or(&alert.id);
    let of = if of.is_empty() { &notification.id } else { of };
    let key = format!("watchdog {} {} {of}", notification.host, alert.service);
    let is_plain = key.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_plain && key.len() <= DEDUP_KEY {
        return key;
    }
    let hash = digest(&SHA256, key.as_bytes());
    format!("watchdog {}", BASE64_STANDARD.encode(hash))
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
        Severity::Critical => "critical",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::alert;
    use crate::notify::fixtures::{hostile, notification};
    use proptest::prelude::*;

    fn settings() -> Settings {
        Settings {
            kind: "pagerduty".to_owned(),
            routing_key: Secret::Inline("4f1c2b7a9d3e4c5b8a6f0d1e2c3b4a59".to_owned()),
            api_url: "https://events.pagerduty.com".to_owned(),
            common: crate::fixtures::common(),
        }
    }

    fn of(service: &str, event: Event, incident: Option<&str>) -> Alert {
        Alert {
            incident: incident.map(str::to_owned),
            ..alert(service, event)
        }
    }

    fn rendered(alerts: Vec<Alert>) -> Vec<Message> {
        let notification = Notification {
            alerts,
            ..notification("")
        };
        let thread = Thread::default();
        settings().render(&notification, &thread).unwrap()
    }

    #[test]
    fn an_incident_is_opened_and_closed_by_one_key_that_no_other_has() {
        for (event, actions) in [
            (Event::Down, &["trigger"][..]),
            (Event::Degraded, &["trigger"]),
            (Event::Unknown, &["trigger"]),
            (Event::RestartFailed, &["trigger"]),
            (Event::RepairFailed, &["trigger"]),
            (Event::Exhausted, &["trigger"]),
            (Event::Watchdog, &["trigger"]),
            (Event::Recovered, &["resolve"]),
            // nothing of them is left open
            (Event::Restarted, &["trigger", "resolve"]),
            (Event::Repaired, &["trigger", "resolve"]),
            (Event::Test, &["trigger", "resolve"]),
        ] {
            let events = rendered(vec![of("a", event, Some("a.1"))]);
            let of_key = |key: &str| -> Vec<String> {
                let of = |it: &Message| it.whole[key].as_str().unwrap().to_owned();
                events.iter().map(of).collect()
            };
            assert_eq!(of_key("event_action"), actions, "{event:?}");
            for key in of_key("dedup_key") {
                assert_eq!(key, "watchdog box1 a a.1");
            }
            for event in &events {
                assert_eq!(event.whole["dedup_key"], event.short["dedup_key"]);
            }
        }
        let two = rendered(vec![
            of("a", Event::Down, Some("a.2")),
            of("b", Event::Down, Some("b.1")),
            Alert {
                id: "7".to_owned(),
                ..of("watchdog", Event::Watchdog, None)
            },
        ]);
        let keys = two.iter().map(|it| it.whole["dedup_key"].as_str().unwrap());
        assert_eq!(
            keys.collect::<Vec<_>>(),
            [
                "watchdog box1 a a.2",
                "watchdog box1 b b.1",
                "watchdog box1 watchdog 7"
            ]
        );
    }

    #[test]
    fn what_programs_read_is_plain_and_commands_can_be_typed() {
        let mut down = of("gate.way", Event::Down, Some("gate.way.1"));
        down.findings = vec![crate::fixtures::stale()];
        down.findings[0].message = "see https://x.example/y".to_owned();
        let notification = Notification {
            alerts: vec![down],
            ..notification(
                "it is down\n\nTo look at it:\n  watchdog -c /srv/w.toml status gate.way\n",
            )
        };
        let events = settings().render(&notification, &Thread::default());
        let event = &events.unwrap()[0].whole["payload"];
        assert_eq!(event["component"], "gate.way");
        assert_eq!(event["custom_details"]["incident"], "gate.way.1");
        let text = event["custom_details"]["text"].as_str().unwrap();
        assert!(
            text.contains("\n  watchdog -c /srv/w.toml status gate.way\n"),
            "{text}"
        );
        assert!(!text.contains("://"), "{text}");
        let summary = event["summary"].as_str().unwrap();
        assert_eq!(
            summary,
            "box1: gate.\u{200b}way down: see https:\u{200b}//x.\u{200b}example/y"
        );
    }

    #[test]
    fn of_what_was_taken_in_part_only_the_rest_is_sent_again() {
        let settings = settings();
        for (left, named) in [
            (vec![0, 1, 2, 3], &["pagerduty"][..]),
            (vec![2, 3], &["pagerduty, from event 3"]),
            (vec![0, 2], &["pagerduty, event 1", "pagerduty, event 3"]),
            (vec![3], &["pagerduty, from event 4"]),
            (vec![1], &["pagerduty, event 2"]),
        ] {
            let rest = settings.rest(&left, 4);
            assert_eq!(rest, named);
            assert_eq!(left_of(&rest, 4), left);
        }
        let odd = ["pagerduty, event 9", "pagerduty, from event 9"].map(str::to_owned);
        assert_eq!(left_of(&odd, 4), [0_usize; 0]);
        assert_eq!(left_of(&["pagerduty, event x".to_owned()], 2), [0, 1]);
        assert_eq!(left_of(&["pagerduty, from event 0".to_owned()], 2), [0, 1]);
    }

    #[test]
    fn nothing_overtakes_an_event_that_was_not_taken() {
        let why = Outcome::Deferred {
            why: "no answer".to_owned(),
            maybe_delivered: true,
        };
        let report = in_order(DeliveryReport {
            pause: Some(Pause {
                whom: Paused::Message,
                length: Duration::from_hours(1),
                until_changed: true,
            }),
            ..DeliveryReport::all(&["pagerduty".to_owned()], &why)
        });
        assert!(report.transport_failed && !report.is_uncertain());
        assert_eq!(report.pause.unwrap().whom, Paused::Channel);
        assert_eq!(report.pending(), ["pagerduty"]);
    }

    #[test]
    fn only_an_accepted_event_is_a_success() {
        for (status, body, expected) in [
            (
                202,
                r#"{"status":"success","dedup_key":"k"}"#,
                Receipt::Taken,
            ),
            (200, r#"{"status":"success"}"#, Receipt::None),
            (202, r#"{"status":"invalid event"}"#, Receipt::None),
            // the event is wrong, and no other is
            (
                400,
                r#"{"status":"invalid event","errors":["'payload.summary' is missing or blank"]}"#,
                Receipt::Never,
            ),
            (
                400,
                r#"{"status":"invalid event","errors":["Length of 'dedup_key' is too long"]}"#,
                Receipt::Never,
            ),
            // the key may be wrong, and so all of them
            (
                400,
                r#"{"status":"invalid event","errors":["Invalid routing key"]}"#,
                Receipt::None,
            ),
            (
                400,
                r#"{"status":"invalid event","errors":["'payload' is missing","'routing_key' is invalid"]}"#,
                Receipt::None,
            ),
            (
                400,
                r#"{"status":"invalid event","errors":[]}"#,
                Receipt::None,
            ),
            (400, r#"{"status":"invalid event"}"#, Receipt::None),
            (400, r#"{"message":"no"}"#, Receipt::None),
            (400, "<html>", Receipt::None),
            (202, "<html>", Receipt::None),
        ] {
            let answer = Answer {
                status,
                retry_after: None,
                body: body.as_bytes(),
            };
            assert_eq!(receipt(&answer), expected, "{status} {body}");
        }
    }

    proptest! {
        #[test]
        fn every_event_is_within_the_limits(
            it in hostile(),
            // a config takes no other names, and a command is shown with the name as it stands
            service in "[A-Za-z0-9._-]{1,64}",
            incident in "\\PC{0,300}",
        ) {
            let quoted = vec![it.body.clone()];
            let alert = Alert {
                incident: Some(incident),
                log_tail: quoted.clone(),
                notes: quoted,
                ..alert(&service, Event::Down)
            };
            let notification = Notification { alerts: vec![alert], ..it };
            let events = settings().render(&notification, &Thread::default()).unwrap();
            for event in [&events[0].whole, &events[0].short] {
                let key = event["dedup_key"].as_str().unwrap();
                prop_assert!((1..=255).contains(&key.len()) && key.is_ascii());
                let summary = event["payload"]["summary"].as_str().unwrap();
                prop_assert!((1..=1024).contains(&summary.encode_utf16().count()));
                prop_assert!(!summary.contains(['\n', '\r']));
                prop_assert!(!event["payload"]["source"].as_str().unwrap().contains('\n'));
                let text = event["payload"]["custom_details"]["text"].as_str();
                prop_assert!(!text.unwrap_or_default().contains("://"));
                prop_assert!(event.to_string().len() < 512 << 10);
            }
        }
    }
}
