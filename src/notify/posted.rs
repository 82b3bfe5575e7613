//! Channels whose messages are JSON that is posted over HTTP: what is the same for all of them.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::answers::{Answer, Receipt};
use super::kind::Private;
use super::post::{Post, hand_over, proxy_trap};
use super::{ChannelKind, Common, DeliveryReport, Notification, Routing, Thread};
use crate::check::trap::Trap;

/// A message in full, and in short: where the one is not taken as it is, the other is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// All of it.
    pub whole: Value,
    /// Plain text, and little.
    pub short: Value,
}

/// A kind of channel whose messages are posted: its config table is the type that this is implemented for. That makes it
/// a [`ChannelKind`].
pub(super) trait Posted {
    /// What its table has as every such table.
    fn common(&self) -> &Common;

    /// Its one destination, for reports.
    fn recipient(&self) -> String;

    /// How it sends, for a person.
    fn describe(&self) -> String;

    /// The secrets in its table.
    fn secrets(&self) -> Vec<Private<'_>>;

    /// What in its table may not do what was meant.
    fn traps(&self) -> Vec<Trap>;

    /// Makes a message of a notification. Pure.
    fn message(&self, notification: &Notification, thread: &Thread) -> Message;

    /// What is posted where. Reads secrets; the error says which one cannot be used.
    fn post(&self, message: &Value) -> Result<Post, String>;

    /// The same message for the place that its recipient has moved to, where a recipient can move.
    fn moved(_: &Message, _: &str) -> Option<Message> {
        None
    }

    /// What a success has to look like.
    fn receipt(answer: &Answer<'_>) -> Receipt;
}

impl<T: Posted> ChannelKind for T {
    type Request = Message;

    fn routing(&self) -> &Routing {
        &self.common().routing
    }

    fn recipients(&self) -> Vec<String> {
        vec![self.recipient()]
    }

    fn timeout(&self) -> Duration {
        self.common().timeout
    }

    fn describe(&self) -> String {
        Posted::describe(self)
    }

    fn secrets(&self) -> Vec<Private<'_>> {
        Posted::secrets(self)
    }

    fn traps(&self) -> Vec<Trap> {
        let mut found = Posted::traps(self);
        found.extend(proxy_trap(self.post(&Value::Null)));
        found
    }

    /// The other side gives one, if there is any.
    fn message_id(&self, _: &Notification) -> Option<String> {
        None
    }

    fn render(&self, notification: &Notification, thread: &Thread) -> Result<Message, String> {
        Ok(self.message(notification, thread))
    }

    fn send(
        &self,
        message: Message,
        recipients: &[String],
        limit: Duration,
        step: &mut dyn FnMut(&str),
    ) -> DeliveryReport {
        let began = Instant::now();
        let hand = |message: &Message, limit, step: &mut dyn FnMut(&str)| {
            let (whole, short) = (self.post(&message.whole), self.post(&message.short));
            hand_over(recipients, whole, short.ok(), T::receipt, limit, step)
        };
        let report = hand(&message, limit, step);
        let moved = (report.moved_to.as_ref()).and_then(|to| Some((to, T::moved(&message, to)?)));
        let Some((to, message)) = moved else {
            return report;
        };
        step(&format!("it has moved to {to}; once more to there"));
        DeliveryReport {
            moved_to: Some(to.clone()),
            ..hand(&message, limit.saturating_sub(began.elapsed()), step)
        }
    }
}
