//! The files of watchdog 0.1.0, which knew mail alone: a message with its headers.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::Delivery;
use crate::clock::Reading;
use crate::notify::{Channel, Event, Notification, Thread};

#[derive(Deserialize)]
struct Entry {
    message: Message,
    recipients: Vec<String>,
    alerts: Vec<String>,
    since: DateTime<Utc>,
    #[serde(default)]
    tries: u32,
    #[serde(default)]
    doubts: u32,
    #[serde(default)]
    doubted: Option<DateTime<Utc>>,
    #[serde(default)]
    clock: Option<Reading>,
}

#[derive(Deserialize)]
struct Message {
    subject: String,
    body: String,
    services: Vec<String>,
    event: Event,
    time: DateTime<Utc>,
    #[serde(rename = "message_id")]
    id: String,
    #[serde(default)]
    in_reply_to: Option<String>,
    #[serde(default)]
    references: Vec<String>,
}

/// The delivery that such a file is.
pub(super) fn parse(bytes: &[u8]) -> Option<Delivery> {
    let entry: Entry = serde_json::from_slice(bytes).ok()?;
    let message = entry.message;
    // `<ID@HOST>`: the same mail has the same id as before
    let whole = message.id.trim_start_matches('<').trim_end_matches('>');
    let (id, host) = whole.rsplit_once('@').unwrap_or((whole, ""));
    // the references end with what it replies to, if it replies to anything
    let (lead, others) = match message.in_reply_to {
        Some(parent) => (vec![parent], message.references),
        None => (Vec::new(), message.references),
    };
    let others = others.into_iter().filter(|id| !lead.contains(id)).collect();
    Some(Delivery {
        notification: Notification {
            id: id.to_owned(),
            time: message.time,
            host: host.to_owned(),
            event: message.event,
            severity: message.event.severity(),
            subject: message.subject,
            body: message.body,
            services: message.services,
            alerts: Vec::new(),
        },
        channel: Channel::MAIL.to_owned(),
        recipients: entry.recipients,
        alerts: entry.alerts,
        thread: Thread { lead, others },
        since: entry.since,
        tries: entry.tries,
        uncertain: entry.doubts,
        last_uncertain: entry.doubted,
        message_id: None,
        hold: None,
        refused: BTreeMap::new(),
        clock: entry.clock,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::mail;

    /// Files that watchdog 0.1.0 wrote: the first message of an incident, and one that follows it.
    const FIRST: &[u8] = include_bytes!("versions/1-first.json");
    const REPLY: &[u8] = include_bytes!("versions/1-reply.json");

    #[test]
    fn nothing_in_a_file_of_0_1_0_is_lost() {
        let delivery = super::super::parse(FIRST).unwrap();
        assert_eq!(delivery.channel, "mail");
        assert_eq!(
            delivery.recipients,
            ["ops@example.org", "Boss <boss@example.org>"]
        );
        assert_eq!(delivery.alerts, ["1795746676834976.trader.down"]);
        assert_eq!((delivery.tries, delivery.uncertain), (4, 2));
        let time = |text: &str| -> DateTime<Utc> { text.parse().unwrap() };
        assert_eq!(delivery.since, time("2026-11-27T02:31:16.834976884Z"));
        assert_eq!(
            delivery.last_uncertain,
            Some(time("2026-11-27T02:31:20.491121263Z"))
        );
        assert_eq!(delivery.clock.as_ref().unwrap().boot_ms, 1_649_076);
        // the mail is the same as before, to the byte
        for (bytes, id, parent, references) in [
            (
                FIRST,
                "<20261127T023116Z.trader.c45400f8f610d495@vm>",
                None,
                &[][..],
            ),
            (
                REPLY,
                "<20261127T023119Z.feed.755d163396826273@vm>",
                Some("<20261127T023118Z.feed.12ef8f09deabed98@vm>"),
                &[
                    "<20261127T023116Z.trader.c45400f8f610d495@vm>",
                    "<20261127T023118Z.feed.12ef8f09deabed98@vm>",
                ],
            ),
        ] {
            let delivery = super::super::parse(bytes).unwrap();
            let mail = mail::Message::of(&delivery.notification, &delivery.thread);
            assert_eq!(mail.message_id, id);
            assert_eq!(mail.in_reply_to.as_deref(), parent);
            assert_eq!(mail.references, references);
            let old: Entry = serde_json::from_slice(bytes).unwrap();
            assert_eq!(mail.subject, old.message.subject);
            assert_eq!(mail.body, old.message.body);
            assert_eq!(mail.services, old.message.services);
            assert_eq!(mail.event, Event::Down);
            assert_eq!(mail.time, old.message.time);
            // and stays so when it was written anew
            let again = serde_json::to_vec(&delivery).unwrap();
            assert_eq!(super::super::parse(&again).unwrap(), delivery);
        }
    }
}
