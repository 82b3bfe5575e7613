//! What a kind of channel is.

use std::time::Duration;

use super::{DeliveryReport, Notification, Routing, Secret, Thread};
use crate::check::trap::Trap;

/// A kind of channel: its config table is the type that this is implemented for. It renders and it sends; what is sent
/// when, what is kept and what is tried again is the same for all kinds, and not its business.
pub trait ChannelKind {
    /// A notification in the form that this kind sends.
    type Request;

    /// What goes out by it, and how often.
    fn routing(&self) -> &Routing;

    /// Whom it reaches: one outcome each. A kind without recipients of its own has one, its destination.
    fn recipients(&self) -> Vec<String>;

    /// How long all messages of a run may take together, a second or two for ending them aside.
    fn timeout(&self) -> Duration;

    /// How it sends, for a person: `smtp.example.org, port 587, with STARTTLS`.
    fn describe(&self) -> String;

    /// The secrets in its table, by their keys: whether others can read them is known before anything is sent.
    fn secrets(&self) -> Vec<(&'static [&'static str], &Secret)>;

    /// What in its table may not do what was meant. Looks at the world as it is now, sends nothing and changes nothing.
    fn traps(&self) -> Vec<Trap>;

    /// The id that the other side will know a message by, where this side gives it. Absent: the other side gives one
    /// when it takes the message.
    fn message_id(&self, notification: &Notification) -> Option<String>;

    /// Makes a message of a notification. Pure. The error names what in the config is wrong.
    fn render(&self, notification: &Notification, thread: &Thread)
    -> Result<Self::Request, String>;

    /// Makes one attempt to send a message to these recipients, over within `limit` and a little more, whatever the other
    /// side does. `step` is called with a sentence for each step, as soon as it was made.
    fn send(
        &self,
        request: Self::Request,
        recipients: &[String],
        limit: Duration,
        step: &mut dyn FnMut(&str),
    ) -> DeliveryReport;
}
