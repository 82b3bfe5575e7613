//! The channels of a config, and the list of their kinds.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{
    ChannelKind, DeliveryReport, Notification, Outcome, Private, Routing, Thread, alertmanager,
    discord, exec, gotify, mail, ntfy, pagerduty, pushover, redis, slack, teams, telegram, webhook,
};
use crate::check::trap::Trap;
use crate::table::{Context, Field, Fields, Form, Inner, Key, Shown, Standing, Table, Value};

macro_rules! channels {
    (@layout $word:literal $settings:ty) => { <$settings as Fields>::LAYOUT };
    ($($(#[$doc:meta])* $name:ident $(= $word:literal)?: $settings:ty;)*) => {
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
            pub fn secrets(&self) -> Vec<Private<'_>> {
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

            /// What is left of a message for these recipients, part by part, where the order of messages matters: see
            /// [`ChannelKind::parts`].
            pub fn parts(&self, notification: &Notification, recipients: &[String]) -> Vec<(String, String)> {
                match &self.settings {
                    $(ChannelSettings::$name(it) => it.parts(notification, recipients),)*
                }
            }

            /// Makes one attempt to deliver a notification to these recipients, over within `limit` and a little more.
            /// `step` is called with a sentence for each step.
            pub fn send(
                &self,
                attempt: &Attempt<'_>,
                recipients: &[String],
                limit: Duration,
                step: &mut dyn FnMut(&str),
            ) -> DeliveryReport {
                match &self.settings {
                    $(ChannelSettings::$name(it) => attempt.make(it, recipients, limit, step),)*
                }
            }

            /// Its table as it is written.
            fn shown(&self) -> Shown {
                match &self.settings {
                    $(ChannelSettings::$name(it) => it.shown(),)*
                }
            }
        }

        impl ChannelSettings {
            /// Reads a `[notify.NAME]` table.
            pub(crate) fn read(value: &Value<'_>, context: &Context) -> Option<Self> {
                if !value.is_table() {
                    value.entries("[notify.NAME]")?;
                    return None;
                }
                let words = [$($(($word, $word),)?)*];
                let Some(kind) = value.key("type") else {
                    let names = words.map(|(word, _)| word).join(", ");
                    value.absent("`type` is missing", format!("write type = \"…\", one of {names}"));
                    return None;
                };
                match kind.choice(&words)? {
                    $($($word => <$settings as Form>::read(value, context).map(ChannelSettings::$name),)?)*
                    _ => None,
                }
            }
        }

        /// The tables of those that have a type.
        static LAYOUTS: &[&crate::table::Layout] = &[$($(channels!(@layout $word $settings),)?)*];
    };
}

channels! {
    /// Mail: the `[mail]` table.
    Mail: mail::Settings;
    /// JSON, posted to a URL.
    Webhook = "webhook": webhook::Settings;
    /// A webhook of a Discord channel.
    Discord = "discord": discord::Settings;
    /// A bot of Telegram.
    Telegram = "telegram": telegram::Settings;
    /// An incoming webhook of Slack, Mattermost or Rocket.Chat.
    Slack = "slack": slack::Settings;
    /// A topic of ntfy.
    Ntfy = "ntfy": ntfy::Settings;
    /// A command that is given JSON.
    Exec = "exec": exec::Settings;
    /// An Alertmanager of Prometheus.
    Alertmanager = "alertmanager": alertmanager::Settings;
    /// A stream of Redis.
    Redis = "redis": redis::Settings;
    /// An application of Gotify.
    Gotify = "gotify": gotify::Settings;
    /// An application of Pushover.
    Pushover = "pushover": pushover::Settings;
    /// A service of PagerDuty.
    PagerDuty = "pagerduty": pagerduty::Settings;
    /// A workflow of Microsoft Teams.
    Teams = "teams": teams::Settings;
}

/// One way to reach people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// What no other channel of the config is called: it is in the journal, the state and the outbox.
    pub name: String,
    /// Its settings.
    pub settings: ChannelSettings,
    /// The file that its table stands in, where that is not the config itself.
    pub file: Option<Arc<Path>>,
}

impl Channel {
    /// The name of the channel that `[mail]` is.
    pub const MAIL: &'static str = "mail";

    /// The channel that a `[mail]` table is.
    pub fn mail(settings: mail::Settings) -> Self {
        Self {
            name: Self::MAIL.to_owned(),
            settings: ChannelSettings::Mail(settings),
            file: None,
        }
    }

    /// The keys that lead to its table.
    pub fn place(&self) -> Vec<String> {
        match &self.settings {
            ChannelSettings::Mail(_) => vec![self.name.clone()],
            _ => vec!["notify".to_owned(), self.name.clone()],
        }
    }

    /// Its table, as people call it: `notify.phone`.
    pub fn table(&self) -> String {
        self.place().join(".")
    }

    /// What changes when its table or one of its secrets does. Of so few bits nobody learns a secret; and a change that they
    /// do not show costs an hour.
    pub fn fingerprint(&self) -> u16 {
        let mut hasher = DefaultHasher::new();
        format!("{:?}", self.settings).hash(&mut hasher);
        for private in self.secrets() {
            private.secret.read("secret").ok().hash(&mut hasher);
        }
        let [low, high, ..] = hasher.finish().to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// Its settings, where it is one that is shown all present trouble by each run, and no messages about services.
    pub fn as_alertmanager(&self) -> Option<&alertmanager::Settings> {
        match &self.settings {
            ChannelSettings::Alertmanager(settings) => Some(settings),
            _ => None,
        }
    }

    /// The chat that it writes to, where that can become another one.
    pub fn chat(&self) -> Option<&str> {
        match &self.settings {
            ChannelSettings::Telegram(settings) => Some(&settings.chat),
            _ => None,
        }
    }

    /// The same for another chat.
    #[must_use]
    pub fn with_chat(&self, chat: &str) -> Self {
        let mut moved = self.clone();
        if let ChannelSettings::Telegram(settings) = &mut moved.settings {
            chat.clone_into(&mut settings.chat);
        }
        moved
    }

    /// Its settings, where it is mail.
    pub fn as_mail(&self) -> Option<&mail::Settings> {
        match &self.settings {
            ChannelSettings::Mail(settings) => Some(settings),
            _ => None,
        }
    }
}

/// The `[notify.NAME]` tables by their names. Each is read when the rest is known.
pub(crate) struct Tables;

impl Field<Vec<Channel>> for Tables {
    type Part = ();

    fn take(_: &Table<'_>, _: &'static Key, _: &Context) {}

    fn whole((): (), _: Option<fn() -> Vec<Channel>>) -> Option<Vec<Channel>> {
        Some(Vec::new())
    }

    fn or((): (), (): &()) {}

    fn show(channels: &Vec<Channel>, key: &'static Key, entries: &mut Vec<(String, Shown)>) {
        if !channels.is_empty() {
            let shown = channels.iter().map(|it| (it.name.clone(), it.shown()));
            entries.push((key.name.to_owned(), Shown::Table(shown.collect())));
        }
    }

    fn inner() -> Option<Inner> {
        Some(Inner {
            layouts: LAYOUTS,
            standing: Standing::Named,
        })
    }
}

/// One attempt to deliver a notification.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// What is told.
    pub notification: &'a Notification,
    /// The earlier messages of its incidents.
    pub thread: &'a Thread,
    /// An earlier attempt may have delivered it.
    pub is_uncertain: bool,
}

impl Attempt<'_> {
    fn make<K: ChannelKind>(
        &self,
        kind: &K,
        recipients: &[String],
        limit: Duration,
        step: &mut dyn FnMut(&str),
    ) -> DeliveryReport {
        let limit = limit.min(kind.timeout());
        match kind.render(self.notification, self.thread) {
            Ok(request) if self.is_uncertain => kind.send_again(request, recipients, limit, step),
            Ok(request) => kind.send(request, recipients, limit, step),
            // what is wrong in the config is wrong for every message
            Err(why) => DeliveryReport {
                transport_failed: true,
                ..DeliveryReport::all(recipients, &Outcome::deferred(why))
            },
        }
    }
}
