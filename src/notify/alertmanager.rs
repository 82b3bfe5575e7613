//! `alertmanager`: the present trouble of all services, shown to an Alertmanager of Prometheus by each run.
//!
//! It is no channel of messages: an Alertmanager wants to be told of what goes on again and again, until it has ended. Only
//! what the watchdog says of itself, which begins and ends at once, goes through the outbox as on other channels.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use super::answers::{Answer, Receipt};
use super::kind::{Private, check_url, url_traps};
use super::post::{Post, hand_over, shown};
use super::posted::{Message, Posted};
use super::sentences::{first_sentence, words};
use super::{Common, DeliveryReport, Event, Notification, Secret, Thread};
use crate::check::trap::Trap;
use crate::client::http::header;
use crate::table::{Filled, Flat, Part, Table, table};
use crate::text::{cut, visible};

table! {
    /// An Alertmanager of Prometheus that is shown the present trouble of all services by each run; `on`, `remind_every` and
    /// `max_per_hour` do not hold for that.
    pub struct Settings like "type = \"alertmanager\"", check fits_together {
        /// Which kind of channel it is.
        kind("type"): String as Filled, example r#""alertmanager""#;
        /// Where it is, without /api/v2/alerts.
        url: Secret => Secret, commented r#""http://127.0.0.1:9093""#;
        /// The user, where it asks for one, with `password`.
        username: Option<String> as Option<Filled>, commented r#""watchdog""#;
        /// The password of that user.
        password: Option<Secret> => Secret, commented r#""s3cret""#;
        /// In their place: a token that is sent as "Bearer".
        token: Option<Secret> => Secret, commented r#""eyJhbGciOi""#;
        /// Authorities to trust in addition to the system's.
        ca_file: Option<PathBuf>, commented r#""/etc/ssl/own-ca.pem""#;
        /// What goes out by it.
        common: Common => Flat;
    }
}

/// What the watchdog says of itself is shown for so long.
const OWN: TimeDelta = TimeDelta::hours(1);

/// Of the findings of a service, so many are shown, of so many characters each.
const FINDINGS: usize = 10;
const FINDING: usize = 300;

/// What goes on is shown as ending after so many of the times between runs, so that it lasts until the next ones have shown
/// it again; and within these bounds.
const INTERVALS: u32 = 4;
const LEAST: Duration = Duration::from_secs(5 * 60);
const MOST: Duration = Duration::from_secs(24 * 60 * 60);

/// How long it lasts where no run came before.
const UNKNOWN: Duration = Duration::from_secs(60 * 60);

/// Something that goes on, or has ended a short while ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// The service.
    pub service: String,
    /// What is the matter with it.
    pub event: Event,
    /// Since when.
    pub since: DateTime<Utc>,
    /// When it ended.
    pub ended: Option<DateTime<Utc>>,
    /// What was found.
    pub findings: Vec<String>,
}

fn fits_together(table: &Table<'_>, part: &mut Part<Settings>) {
    check_url(table, "url", part.url.as_ref());
    Secret::check_login(table, "an Alertmanager");
}

impl Settings {
    /// Shows what goes on, in one attempt within `limit`. `interval` is the time between runs, as far as it is known.
    pub fn show(
        &self,
        present: &[Present],
        host: &str,
        now: DateTime<Utc>,
        interval: Option<Duration>,
        limit: Duration,
    ) -> DeliveryReport {
        let until = now + lasting(interval);
        let alerts = |in_short: bool| {
            let alerts = present.iter();
            (alerts.map(|it| of_present(it, host, until, in_short))).collect::<Value>()
        };
        hand_over(
            &[self.recipient()],
            self.post(&alerts(false)),
            self.post(&alerts(true)).ok(),
            Self::receipt,
            limit,
            &mut |_| {},
        )
    }
}

impl Posted for Settings {
    fn common(&self) -> &Common {
        &self.common
    }

    fn recipient(&self) -> String {
        self.kind.clone()
    }

    fn describe(&self) -> String {
        format!("to the Alertmanager at {}", shown(&self.url))
    }

    fn secrets(&self) -> Vec<Private<'_>> {
        let mut found = vec![Private::of(&["url"], &self.url)];
        found.extend(
            self.password
                .iter()
                .map(|it| Private::of(&["password"], it)),
        );
        found.extend(self.token.iter().map(|it| Private::of(&["token"], it)));
        found
    }

    fn traps(&self) -> Vec<Trap> {
        url_traps("url", &self.url)
    }

    fn message(&self, notification: &Notification, _: &Thread) -> Message {
        let message = |in_short: bool| {
            let alerts = notification.alerts.iter().map(|alert| {
                let mut description: Vec<String> = alert
                    .notes
                    .iter()
                    .map(|note| cut(&visible(note), FINDING))
                    .collect();
                description.truncate(if in_short { 0 } else { FINDINGS });
                let began = alert.since.unwrap_or(alert.time);
                let until = match alert.event {
                    Event::Recovered | Event::Scaled | Event::Restarted | Event::Repaired => {
                        alert.time
                    }
                    _ => Utc::now() + OWN,
                };
                json!({
                    "labels": labels(&alert.service, alert.event, &notification.host),
                    "annotations": {
                        "summary": first_sentence(alert),
                        "description": description.join("\n"),
                    },
                    "startsAt": time(began.min(until)),
                    "endsAt": time(until),
                })
            });
            alerts.collect::<Value>()
        };
        Message {
            whole: message(false),
            short: message(true),
        }
    }

    fn post(&self, alerts: &Value) -> Result<Post, String> {
        let url = self.url.read("URL")?;
        let url = format!("{}/api/v2/alerts", url.trim_end_matches('/'));
        let mut post = Post::json(&url, alerts)?;
        post.ca_file.clone_from(&self.ca_file);
        post.takes_ca_file = true;
        if let Some(token) = &self.token {
            let token = token.read("token")?;
            post = post.with_secret(header::AUTHORIZATION, &format!("Bearer {token}"))?;
        }
        if let (Some(user), Some(password)) = (&self.username, &self.password) {
            let password = password.read("password")?;
            post.hide(&password);
            let both = BASE64_STANDARD.encode(format!("{user}:{password}"));
            post = post.with_secret(header::AUTHORIZATION, &format!("Basic {both}"))?;
        }
        Ok(post)
    }

    /// It says nothing; what is like it may say something in JSON. A page is somebody else's.
    fn receipt(answer: &Answer<'_>) -> Receipt {
        let says_nothing = answer.body.trim_ascii().is_empty();
        if says_nothing || !answer.json().is_null() {
            Receipt::Taken
        } else {
            Receipt::None
        }
    }
}

/// How long it takes for what is not shown again to end.
fn lasting(interval: Option<Duration>) -> Duration {
    interval.map_or(UNKNOWN, |it| {
        it.saturating_mul(INTERVALS).clamp(LEAST, MOST)
    })
}

/// What an alert is known by: no figure that changes while it goes on is in it.
fn labels(service: &str, event: Event, host: &str) -> Value {
    json!({
        "alertname": format!("Watchdog{}", in_camel_case(event.name())),
        "service": service,
        "severity": event.severity(),
        "host": host,
        "event": event.name(),
    })
}

fn in_camel_case(name: &str) -> String {
    let parts = name.split('_').filter_map(|part| {
        let first = part.get(..1)?;
        Some(first.to_uppercase() + &part[1..])
    });
    parts.collect()
}

fn of_present(present: &Present, host: &str, until: DateTime<Utc>, in_short: bool) -> Value {
    let mut findings: Vec<String> = (present.findings.iter())
        .map(|finding| cut(&visible(finding), FINDING))
        .collect();
    findings.truncate(if in_short { 0 } else { FINDINGS });
    let until = present.ended.unwrap_or(until);
    json!({
        "labels": labels(&present.service, present.event, host),
        "annotations": {
            "summary": format!("{host}: {} {}", present.service, words(present.event)),
            "description": findings.join("\n"),
        },
        // the clock may have been set back
        "startsAt": time(present.since.min(until)),
        "endsAt": time(until),
    })
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::at;
    use crate::notify::fixtures::hostile;
    use proptest::prelude::*;

    fn settings() -> Settings {
        Settings {
            kind: "alertmanager".to_owned(),
            url: Secret::Inline("http://127.0.0.1:9093/".to_owned()),
            username: Some("me".to_owned()),
            password: Some(Secret::Inline("canary".to_owned())),
            token: None,
            ca_file: None,
            common: crate::fixtures::common(),
        }
    }

    #[test]
    fn what_goes_on_is_an_alert_without_figures_in_its_labels() {
        let present = Present {
            service: "trader".to_owned(),
            event: Event::RestartFailed,
            since: at(0),
            ended: None,
            findings: vec!["no write for 7m".to_owned(), "a\nb".to_owned()],
        };
        let until = at(0) + TimeDelta::minutes(20);
        let alert = of_present(&present, "box1", until, false);
        assert_eq!(
            alert["labels"],
            json!({
                "alertname": "WatchdogRestartFailed",
                "service": "trader",
                "severity": "critical",
                "host": "box1",
                "event": "restart_failed",
            })
        );
        assert_eq!(
            alert["annotations"]["description"],
            "no write for 7m\na\\x0ab"
        );
        assert_eq!(alert["startsAt"], time(at(0)));
        assert_eq!(alert["endsAt"], time(until));
        let ended = Present {
            ended: Some(at(0)),
            since: at(9),
            ..present
        };
        let alert = of_present(&ended, "box1", until, true);
        assert_eq!(alert["endsAt"], time(at(0)));
        assert_eq!(alert["startsAt"], time(at(0)), "never after its end");
        assert_eq!(alert["annotations"]["description"], "");
    }

    #[test]
    fn it_lasts_for_some_runs() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        for (interval, lasts) in [
            (None, 60),
            (Some(0), 5),
            (Some(1), 5),
            (Some(5), 20),
            (Some(60 * 24), 60 * 24),
        ] {
            assert_eq!(lasting(interval.map(minutes)), minutes(lasts));
        }
    }

    #[test]
    fn it_is_asked_where_it_takes_alerts_as_the_user() {
        let post = settings().post(&json!([])).unwrap();
        assert_eq!(post.url.to_string(), "http://127.0.0.1:9093/api/v2/alerts");
        let (_, value) = post
            .headers
            .iter()
            .find(|(name, _)| *name == header::AUTHORIZATION)
            .unwrap();
        assert_eq!(value, "Basic bWU6Y2FuYXJ5");
        assert!(value.is_sensitive());
        assert!(post.secrets.iter().any(|secret| secret == "canary"));
    }

    #[test]
    fn a_page_is_no_receipt() {
        for (body, is_taken) in [("", true), ("{}", true), ("<html>", false)] {
            let answer = Answer {
                status: 200,
                retry_after: None,
                body: body.as_bytes(),
            };
            let receipt = Settings::receipt(&answer);
            assert_eq!(receipt == Receipt::Taken, is_taken, "{body}");
        }
    }

    proptest! {
        #[test]
        fn what_is_told_of_itself_never_ends_before_it_began(notification in hostile()) {
            let message = settings().message(&notification, &Thread::default());
            for alert in message.whole.as_array().unwrap() {
                let time = |key: &str| -> DateTime<Utc> {
                    alert[key].as_str().unwrap().parse().unwrap()
                };
                prop_assert!(time("startsAt") <= time("endsAt"));
            }
        }
    }
}
