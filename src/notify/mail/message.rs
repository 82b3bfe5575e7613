//! A notification as a mail: its ids, and the messages that it follows.

use chrono::{DateTime, Utc};

use crate::notify::{Event, Notification, Thread};

/// Message ids of an incident that are carried along: its first and its latest.
const REFERENCES: usize = 10;

/// What a mail says, before it is bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// One line, without control characters.
    pub subject: String,
    /// Plain text, lines ended by line feeds.
    pub body: String,
    /// The services in it, the worst first, for `X-Watchdog-Service`.
    pub services: Vec<String>,
    /// The worst event in it, for `X-Watchdog-Event`.
    pub event: Event,
    /// When it was written.
    pub time: DateTime<Utc>,
    /// Its own id with angle brackets, by [`id`].
    pub message_id: String,
    /// The id of the last message of the same incident, if there was one.
    pub in_reply_to: Option<String>,
    /// The ids of the incident's messages, the oldest first.
    pub references: Vec<String>,
}

impl Message {
    /// The mail that a notification is, in the thread of its incidents.
    pub fn of(notification: &Notification, thread: &Thread) -> Self {
        Self {
            subject: notification.subject.clone(),
            body: notification.body.clone(),
            services: notification.services.clone(),
            event: notification.event,
            time: notification.time,
            message_id: id(notification),
            in_reply_to: thread.lead.last().cloned(),
            references: references(thread),
        }
    }
}

/// A message's id: `<20261122T010203Z.trader.9f86d081884c7d65@host>`. What no id may hold becomes `-`.
pub fn id(notification: &Notification) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let host: String = notification
        .host
        .chars()
        .take(64)
        .map(|c| if kept(c) { c } else { '-' })
        .collect();
    // empty labels are not allowed between dots
    let labels: Vec<&str> = host.split('.').filter(|label| !label.is_empty()).collect();
    let host = if labels.is_empty() {
        "localhost".to_owned()
    } else {
        labels.join(".")
    };
    format!("<{}@{host}>", notification.id)
}

/// The ids of all incidents in the message, the first kept where there are too many.
fn references(thread: &Thread) -> Vec<String> {
    // the leading incident's come last: readers attach a message to the last id that they know
    let mut ids: Vec<String> = thread.others.iter().chain(&thread.lead).cloned().collect();
    let surplus = ids.len().saturating_sub(REFERENCES);
    if surplus > 0 {
        ids.drain(1..=surplus);
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::digest;
    use crate::notify::mail::tests::notification;

    fn ids(prefix: &str, n: usize) -> Vec<String> {
        (0..n).map(|n| format!("<{prefix}{n}@h>")).collect()
    }

    #[test]
    fn an_incident_is_one_thread() {
        let thread = Thread {
            lead: ids("t", 30),
            others: ids("f", 1),
        };
        let message = Message::of(&notification(), &thread);
        assert_eq!(message.in_reply_to.as_deref(), Some("<t29@h>"));
        assert_eq!(message.references.len(), REFERENCES);
        assert_eq!(message.references[0], "<f0@h>");
        assert_eq!(message.references[REFERENCES - 1], "<t29@h>");
        // a new incident along with one that goes on
        let thread = Thread {
            lead: Vec::new(),
            others: ids("f", 2),
        };
        let message = Message::of(&notification(), &thread);
        assert_eq!(message.in_reply_to, None);
        assert_eq!(message.references, ids("f", 2));
    }

    #[test]
    fn ids_hold_only_what_ids_may_hold() {
        let at = "2026-11-22T01:02:03Z".parse().unwrap();
        for (service, nonce, host, expected) in [
            (
                "trader",
                u64::MAX,
                "box1.example.org",
                "<20261122T010203Z.trader.ffffffffffffffff@box1.example.org>",
            ),
            (
                "a..b>\r\n",
                1,
                ".b\u{fc}x..1 >",
                "<20261122T010203Z.a--b---.0000000000000001@b-x.1-->",
            ),
            ("", 1, "", "<20261122T010203Z.0000000000000001@localhost>"),
        ] {
            let notification = Notification {
                id: digest::id(at, service, nonce),
                host: host.to_owned(),
                ..notification()
            };
            assert_eq!(id(&notification), expected);
        }
    }
}
