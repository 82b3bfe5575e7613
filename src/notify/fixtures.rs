//! Notifications for the tests of kinds of channels.

use proptest::prelude::*;

use super::{Event, Notification, Severity};
use crate::fixtures::{alert, at};

/// One about a service, with this text.
pub(super) fn notification(body: &str) -> Notification {
    Notification {
        id: "20261122T010203Z.trader.1".to_owned(),
        time: at(0),
        host: "box1".to_owned(),
        event: Event::Down,
        severity: Severity::Critical,
        subject: "[watchdog] box1: trader down".to_owned(),
        body: body.to_owned(),
        services: vec!["trader".to_owned()],
        alerts: vec![alert("trader", Event::Down)],
    }
}

/// Any, with texts that would be mentions, markup, links and too long.
pub(super) fn hostile() -> impl Strategy<Value = Notification> {
    let piece = prop_oneof![
        Just("@everyone ".to_owned()),
        Just("<!channel> <@U1> &amp; ".to_owned()),
        Just("```".to_owned()),
        Just("[a](https://x.example/?q=1)".to_owned()),
        Just("\u{1f600}".repeat(300)),
        Just("\n".to_owned()),
        "\\PC{0,80}",
    ];
    let text = proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat());
    let line = "\\PC{0,300}";
    let services = proptest::collection::vec("\\PC{1,64}", 0..60);
    (text, line, "\\PC{0,300}", services).prop_map(|(body, subject, host, services)| Notification {
        host,
        subject,
        services,
        ..notification(&body)
    })
}
