//! A notification as JSON for programs.

use chrono::SecondsFormat;
use serde_json::{Value, json};

use super::shorten::{bytes, shortened};
use super::{Alert, Notification};

/// The text of a short message has so many bytes at most.
const SHORT: usize = 1000;

/// All of a notification; `in_short`, without what is quoted and with the beginning of its text.
pub(super) fn facts(notification: &Notification, in_short: bool) -> Value {
    let text = if in_short {
        shortened(&notification.body, SHORT, bytes)
    } else {
        notification.body.clone()
    };
    let alerts = notification.alerts.iter();
    json!({
        "version": 1,
        "id": notification.id,
        "host": notification.host,
        "time": time(&notification.time),
        "severity": notification.severity,
        "title": notification.subject,
        "text": text,
        "alerts": alerts.map(|alert| of_alert(alert, in_short)).collect::<Vec<_>>(),
    })
}

fn of_alert(alert: &Alert, in_short: bool) -> Value {
    let mut value = json!({
        "service": alert.service,
        "event": alert.event,
        "severity": alert.event.severity(),
        "incident": alert.incident,
        "since": alert.since.as_ref().map(time),
        "restarts_last_hour": alert.attempts,
        "max_per_hour": alert.max_per_hour,
    });
    if let (false, Some(object)) = (in_short, value.as_object_mut()) {
        object.insert("findings".to_owned(), json!(alert.findings));
        object.insert("action".to_owned(), json!(alert.action));
        object.insert("notes".to_owned(), json!(alert.notes));
        object.insert("log_tail".to_owned(), json!(alert.log_tail));
    }
    value
}

fn time(time: &chrono::DateTime<chrono::Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
