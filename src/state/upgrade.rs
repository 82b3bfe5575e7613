//! States of watchdog 0.1.0, which knew mail alone and no incidents.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::channels::ServiceAlerts;
use super::{State, incident_id};
use crate::notify::{Alert, Channel, Event};

#[derive(Deserialize)]
struct Old {
    #[serde(default)]
    services: BTreeMap<String, OldService>,
    #[serde(default, alias = "owed")]
    pending: Vec<Alert>,
    #[serde(default)]
    mails: Vec<DateTime<Utc>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OldService {
    #[serde(alias = "told")]
    alerted: BTreeMap<Event, DateTime<Utc>>,
    open_trouble: Option<Event>,
    thread: Vec<String>,
}

/// Adds to a state what only its old form has: what mail was alerted about, and what is pending for it.
pub(super) fn add(bytes: &[u8], state: &mut State) -> serde_json::Result<()> {
    let old: Old = serde_json::from_slice(bytes)?;
    let mail = state.channels.entry(Channel::MAIL.to_owned()).or_default();
    for (name, service) in old.services {
        let Some(known) = state.services.get_mut(&name) else {
            continue;
        };
        if let Some(began) = known.trouble_since {
            known
                .incident
                .get_or_insert_with(|| incident_id(&name, began));
        }
        // an incident that is over and still to be reported goes on in its thread
        if !service.thread.is_empty() {
            let incident = known.incident.clone().unwrap_or_else(|| name.clone());
            mail.threads.insert(incident, service.thread);
        }
        if !service.alerted.is_empty() || service.open_trouble.is_some() {
            mail.services.insert(
                name,
                ServiceAlerts {
                    alerted: service.alerted,
                    incident: known.incident.clone(),
                    open_trouble: service.open_trouble,
                    ..ServiceAlerts::default()
                },
            );
        }
    }
    mail.sent = old.mails;
    mail.pending = old.pending;
    for alert in &mut mail.pending {
        if let Some(known) = state.services.get(&alert.service) {
            let incident = known.incident.clone();
            alert.incident = Some(incident.unwrap_or_else(|| alert.service.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::store::parse_state;
    use super::*;

    /// A state of version 2 as it was before it had channels.
    const BEFORE_CHANNELS: &[u8] = include_bytes!("versions/2-before-channels.json");

    #[test]
    fn what_mail_was_alerted_about_and_what_is_pending_for_it_is_kept() {
        let mut state = parse_state(BEFORE_CHANNELS).unwrap();
        let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        for read_again in [false, true] {
            let mail = &state.channels["mail"];
            assert_eq!(mail.sent.len(), 3);
            let (trader, feed) = ("trader.20261127T023116.834Z", "feed.20261127T023118.055Z");
            assert_eq!(state.services["trader"].incident.as_deref(), Some(trader));
            assert_eq!(mail.threads[trader].len(), 3);
            assert_eq!(mail.threads[feed].len(), 2);
            let pending: Vec<_> = mail
                .pending
                .iter()
                .map(|alert| (alert.id.as_str(), alert.incident.as_deref()))
                .collect();
            assert_eq!(
                pending,
                [
                    ("1795746680491121.trader.down", Some(trader)),
                    ("1795746680491121.feed.down", Some(feed)),
                ]
            );
            assert!(mail.pending.iter().all(|alert| alert.rate_limited));
            let known = &mail.services["feed"];
            assert_eq!(known.open_trouble, Some(Event::Down));
            assert_eq!(
                known.alerted[&Event::Down],
                time("2026-11-27T02:31:20.491121263Z")
            );
            if !read_again {
                state = parse_state(&serde_json::to_vec(&state).unwrap()).unwrap();
            }
        }
    }

    #[test]
    fn what_was_over_and_is_still_to_be_reported_stays_one_thread() {
        let state = br#"{"version":1,"mails":[],"owed":[{"id":"1","time":"2026-11-22T11:30:00Z","service":"a","event":"recovered"},
            {"id":"2","time":"2026-11-22T11:30:00Z","service":"watchdog","event":"watchdog"}],
            "services":{"a":{"verdict":"healthy","thread":["<1@h>"]}}}"#;
        let mut state = parse_state(state).unwrap();
        let mail = &state.channels["mail"];
        assert_eq!(mail.pending[0].incident.as_deref(), Some("a"));
        assert_eq!(mail.pending[1].incident, None);
        assert_eq!(mail.threads["a"], ["<1@h>"]);
        assert!(!state.close_threads());
        let mail = state.channels.get_mut("mail").unwrap();
        mail.queued(DateTime::UNIX_EPOCH, Some("<2@h>"), |_| true);
        assert_eq!(mail.threads["a"], ["<1@h>", "<2@h>"]);
        assert!(state.close_threads());
    }

    #[test]
    fn damage_in_what_only_the_old_form_has_is_damage() {
        for damaged in [
            r#""owed":3"#,
            r#""services":{"a":{"told":7}}"#,
            r#""services":{"a":{"thread":"x"}}"#,
        ] {
            let state = format!(r#"{{"version":1,"mails":[],{damaged}}}"#);
            let why = parse_state(state.as_bytes()).unwrap_err();
            assert!(why.starts_with("is damaged ("), "{state}: {why}");
        }
    }
}
