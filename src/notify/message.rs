//! What a message says.

use super::{Alert, Message};
use chrono::{DateTime, Utc};

/// One message for all that is to be told in a run; `alerts` is not empty.
pub fn compose(_host: &str, _now: DateTime<Utc>, _alerts: &[Alert]) -> Option<Message> {
    None
}
