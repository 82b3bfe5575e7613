//! What is sent, before any channel has made a message of its own of it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Alert, Event, Severity};

/// What happened in a run, as one digest of facts: the same for whatever channel it goes out by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// What no other notification is called, by [`super::digest::id`]; the same at every attempt to deliver it, so that
    /// the other side can tell a copy.
    pub id: String,
    /// When it was written.
    pub time: DateTime<Utc>,
    /// The name of this machine.
    pub host: String,
    /// The worst event in it.
    pub event: Event,
    /// The worst severity in it.
    pub severity: Severity,
    /// One line, without control characters.
    pub subject: String,
    /// Plain text, lines ended by line feeds.
    pub body: String,
    /// The services in it, the worst first.
    pub services: Vec<String>,
    /// What it reports, service by service in that order; what is quoted in them is shortened. Empty where an earlier
    /// version wrote it.
    #[serde(default)]
    pub alerts: Vec<Alert>,
}

impl Notification {
    /// The incidents that it is about, each once, with that of the leading service first.
    pub fn incidents(&self) -> Vec<&str> {
        let mut incidents: Vec<&str> = Vec::new();
        for incident in self.alerts.iter().filter_map(|it| it.incident.as_deref()) {
            if !incidents.contains(&incident) {
                incidents.push(incident);
            }
        }
        incidents
    }
}

/// The ids of earlier messages of the incidents that a notification is about, the oldest first: for channels that show
/// an incident as one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Thread {
    /// Of the leading incident. Empty: this is its first message.
    pub lead: Vec<String>,
    /// Of the others.
    pub others: Vec<String>,
}

impl Thread {
    /// That of a notification, where `known` has the ids by incidents.
    pub fn of(notification: &Notification, known: &BTreeMap<String, Vec<String>>) -> Self {
        let mut thread = Self::default();
        let leading = notification.alerts.first().map(|alert| &alert.service);
        for alert in &notification.alerts {
            let ids = alert.incident.as_ref().and_then(|it| known.get(it));
            let Some(ids) = ids else {
                continue;
            };
            if Some(&alert.service) == leading && thread.lead.is_empty() {
                thread.lead.clone_from(ids);
            } else {
                thread.others.extend(ids.iter().cloned());
            }
        }
        let mut known = thread.lead.clone();
        thread.others.retain(|id| {
            let new = !known.contains(id);
            if new {
                known.push(id.clone());
            }
            new
        });
        thread
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{alert, at};

    fn notification(alerts: &[(&str, Option<&str>)]) -> Notification {
        let alerts = alerts.iter().map(|(service, incident)| Alert {
            incident: incident.map(str::to_owned),
            ..alert(service, Event::Down)
        });
        Notification {
            id: String::new(),
            time: at(0),
            host: String::new(),
            event: Event::Down,
            severity: Severity::Critical,
            subject: String::new(),
            body: String::new(),
            services: Vec::new(),
            alerts: alerts.collect(),
        }
    }

    #[test]
    fn a_thread_has_the_ids_of_all_incidents_and_those_of_the_leading_one_apart() {
        let ids = |ids: &[&str]| -> Vec<String> { ids.iter().map(|&id| id.to_owned()).collect() };
        let known = BTreeMap::from([
            ("a.1".to_owned(), ids(&["1", "2"])),
            ("b.1".to_owned(), ids(&["2", "3"])),
        ]);
        for (alerts, lead, others) in [
            (&[][..], &[][..], &[][..]),
            (&[("a", None)], &[], &[]),
            (&[("a", Some("a.1"))], &["1", "2"], &[]),
            (&[("a", Some("a.2"))], &[], &[]),
            // the trouble that ended is the one that is known
            (&[("a", Some("a.1")), ("a", Some("a.2"))], &["1", "2"], &[]),
            (
                &[("b", Some("b.1")), ("a", Some("a.1"))],
                &["2", "3"],
                &["1"],
            ),
            (&[("b", None), ("a", Some("a.1"))], &[], &["1", "2"]),
            (
                &[("b", None), ("a", Some("a.1")), ("c", Some("b.1"))],
                &[],
                &["1", "2", "3"],
            ),
        ] {
            let thread = Thread::of(&notification(alerts), &known);
            assert_eq!(
                (thread.lead, thread.others),
                (ids(lead), ids(others)),
                "{alerts:?}"
            );
        }
        let both = notification(&[("b", Some("b.1")), ("a", Some("a.1")), ("a", Some("a.1"))]);
        assert_eq!(both.incidents(), ["b.1", "a.1"]);
    }
}
