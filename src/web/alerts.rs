//! What an Alertmanager sends: its webhook, version 4. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::requests::Alert;

/// Labels of an alert, and the characters of all of them: more than any has.
const LABELS: usize = 64;
const CHARACTERS: usize = 8192;

/// The longest name of an alert, in bytes. An Alertmanager's own has 16.
const FINGERPRINT: usize = 256;

/// What was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// The alerts that fire, and have what is asked for.
    pub firing: Vec<Alert>,
    /// How many are over.
    pub resolved: usize,
    /// How many are not meant.
    pub ignored: usize,
}

#[derive(Deserialize)]
struct Webhook {
    version: String,
    alerts: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    status: String,
    labels: BTreeMap<String, String>,
    #[serde(rename = "startsAt")]
    starts_at: DateTime<Utc>,
    fingerprint: String,
}

/// Reads a body. Alerts are meant that have all of these labels. The error is why it cannot be understood.
pub fn parse(body: &[u8], wanted: &BTreeMap<String, String>) -> Result<Sent, &'static str> {
    let webhook: Webhook = serde_json::from_slice(body)
        .map_err(|_| "this is not what an Alertmanager sends to a webhook")?;
    if webhook.version != "4" {
        return Err("only version 4 of an Alertmanager's webhook is known");
    }
    let mut sent = Sent::default();
    for entry in webhook.alerts {
        if entry.status != "firing" {
            sent.resolved += 1;
            continue;
        }
        let fingerprint = &entry.fingerprint;
        if fingerprint.is_empty() {
            return Err("the fingerprint of an alert is empty");
        }
        if fingerprint.len() > FINGERPRINT {
            return Err("the fingerprint of an alert is longer than 256 bytes");
        }
        if fingerprint.chars().any(char::is_control) {
            return Err("the fingerprint of an alert has control characters");
        }
        let characters = entry
            .labels
            .iter()
            .map(|(name, value)| name.len() + value.len());
        let is_small = entry.labels.len() <= LABELS && characters.sum::<usize>() <= CHARACTERS;
        let mut wanted = wanted.iter();
        let is_meant = wanted.all(|(name, value)| entry.labels.get(name) == Some(value));
        if !is_small || !is_meant {
            sent.ignored += 1;
            continue;
        }
        sent.firing.push(Alert {
            fingerprint: entry.fingerprint,
            started: entry.starts_at,
            labels: entry.labels,
        });
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALERT: &str = r#"{"status":"firing","labels":{"alertname":"High","auto_repair":"true","service":"api"},"annotations":{"summary":"x"},"startsAt":"2027-01-15T09:00:00.739266876+01:00","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://p/","fingerprint":"4bbe70f9d6b1b2e7"}"#;

    fn webhook(alerts: &[&str]) -> String {
        format!(
            r#"{{"version":"4","groupKey":"{{}}:{{}}","truncatedAlerts":0,"status":"firing","receiver":"w","groupLabels":{{}},"commonLabels":{{}},"commonAnnotations":{{}},"externalURL":"http://a/","alerts":[{}]}}"#,
            alerts.join(",")
        )
    }

    fn wanted() -> BTreeMap<String, String> {
        BTreeMap::from([("auto_repair".to_owned(), "true".to_owned())])
    }

    #[test]
    fn firing_alerts_that_are_meant_are_taken() {
        let resolved = ALERT.replace("firing", "resolved");
        let other = ALERT.replace(r#""auto_repair":"true""#, r#""auto_repair":"no""#);
        let large = ALERT.replace("High", &"x".repeat(10_000));
        let body = webhook(&[ALERT, &resolved, &other, &large]);
        let sent = parse(body.as_bytes(), &wanted()).unwrap();
        assert_eq!((sent.resolved, sent.ignored), (1, 2));
        let [alert] = &sent.firing[..] else {
            panic!("{sent:?}");
        };
        assert_eq!(alert.fingerprint, "4bbe70f9d6b1b2e7");
        assert_eq!(
            alert.started.to_rfc3339(),
            "2027-01-15T08:00:00.739266876+00:00"
        );
        assert_eq!(alert.labels["service"], "api");
        assert_eq!(
            parse(webhook(&[]).as_bytes(), &wanted()),
            Ok(Sent::default())
        );
    }

    #[test]
    fn a_fingerprint_is_any_name() {
        for name in ["fp1", "../../etc", "f", &"ü".repeat(128)] {
            let body = webhook(&[&ALERT.replace("4bbe70f9d6b1b2e7", name)]);
            let sent = parse(body.as_bytes(), &wanted()).unwrap();
            assert_eq!(sent.firing[0].fingerprint, name);
            let key = sent.firing[0].key();
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            assert!(key.len() < 100 && key.bytes().all(is_plain), "{key}");
        }
    }

    #[test]
    fn what_is_no_webhook_is_refused() {
        let version = webhook(&[ALERT]).replace(r#""version":"4""#, r#""version":"3""#);
        let named = |name: &str| webhook(&[&ALERT.replace("4bbe70f9d6b1b2e7", name)]);
        let (none, long) = (named(""), named(&"f".repeat(257)));
        let control = named("fp\\u0007");
        let time = webhook(&[&ALERT.replace("2027-01-15", "yesterday")]);
        for (body, why) in [
            ("", "this is not what"),
            ("{}", "this is not what"),
            ("[]", "this is not what"),
            (&version, "only version 4"),
            (&none, "fingerprint of an alert is empty"),
            (&long, "longer than 256 bytes"),
            (&control, "has control characters"),
            (&time, "this is not what"),
        ] {
            let error = parse(body.as_bytes(), &wanted()).unwrap_err();
            assert!(error.contains(why), "{body}: {error}");
        }
    }
}
