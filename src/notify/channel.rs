//! The channels of a config, and the list of their kinds.

use std::time::Duration;

use super::{ChannelKind, DeliveryReport, Notification, Outcome, Routing, Secret, Thread, mail};
use crate::check::trap::Trap;

macro_rules! channels {
    ($($(#[$doc:meta])* $name:ident: $settings:ty;)*) => {
        /// The settings of a channel, of whatever kind.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum ChannelSettings {
            $($(#[$doc])* $name($settings),)*
        }

        impl Channel {
            /// What goes out by it, and how often.
            pub fn routing(&self) -> &Routing {
                match &self.settings {
                    $(ChannelSettings::$name(it) => it.routing(),)*
                }
            }

            /// Whom it reaches.
            pub fn recipients(&self) -> Vec<String> {
                match &self.settings {
                    $(ChannelSettings::$name(it) => it.recipients(),)*
                }
            }

            /// How long all messages of a run may take together.
            pub fn timeout(&self) -> Duration {
                match &self.settings {
                    $(ChannelSettings::$name(it) => it.timeout(),)*
                }
            }

            /// How it sends, for a person.
            pub fn describe(&self) -> String {
                match &self.settings {
                    $(ChannelSettings::$name(it) => it.describe(),)*
                }
            }

            /// The secrets in its table, by their keys.
            pub fn secrets(&self) -> Vec<(&'static [&'static str], &Secret)> {
                match &self.settings {
                    $(ChannelSettings::$name(it) => it.secrets(),)*
                }
            }

            /// What in its table may not do what was meant.
            pub fn traps(&self) -> Vec<Trap> {
                match &self.settings {
                    $(ChannelSettings::$name(it) => it.traps(),)*
                }
            }

            /// The id that the other side will know a message by, where this side gives it.
            pub fn message_id(&self, notification: &Notification) -> Option<String> {
                match &self.settings {
                    $(ChannelSettings::$name(it) => it.message_id(notification),)*
                }
            }

            /// Makes one attempt to deliver a notification to these recipients, over within `limit` and a little more.
            /// `step` is called with a sentence for each step.
            pub fn send(
                &self,
                notification: &Notification,
                thread: &Thread,
                recipients: &[String],
                limit: Duration,
                step: &mut dyn FnMut(&str),
            ) -> DeliveryReport {
                match &self.settings {
                    $(ChannelSettings::$name(it) => attempt(it, notification, thread, recipients, limit, step),)*
                }
            }
        }
    };
}

channels! {
    /// Mail: the `[mail]` table.
    Mail: mail::Settings;
}

/// One way to reach people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// What no other channel of the config is called: it is in the journal, the state and the outbox.
    pub name: String,
    /// Its settings.
    pub settings: ChannelSettings,
}

impl Channel {
    /// The name of the channel that `[mail]` is.
    pub const MAIL: &'static str = "mail";

    /// The channel that a `[mail]` table is.
    pub fn mail(settings: mail::Settings) -> Self {
        Self {
            name: Self::MAIL.to_owned(),
            settings: ChannelSettings::Mail(settings),
        }
    }

    /// Its settings, where it is mail.
    pub fn as_mail(&self) -> Option<&mail::Settings> {
        match &self.settings {
            ChannelSettings::Mail(settings) => Some(settings),
        }
    }
}

fn attempt<K: ChannelKind>(
    kind: &K,
    notification: &Notification,
    thread: &Thread,
    recipients: &[String],
    limit: Duration,
    step: &mut dyn FnMut(&str),
) -> DeliveryReport {
    match kind.render(notification, thread) {
        Ok(request) => kind.send(request, recipients, limit.min(kind.timeout()), step),
        // what is wrong in the config is wrong for every message
        Err(why) => DeliveryReport {
            transport_failed: true,
            ..DeliveryReport::all(recipients, &Outcome::deferred(why))
        },
    }
}
