//! `pushover`: a message of an application of Pushover for a user or a group.

use serde_json::{Value, json};

use super::answers::{Answer, Receipt};
use super::kind::{Private, Server, length_trap};
use super::post::Post;
use super::posted::{Message, Posted};
use super::safe::pushed;
use super::shorten::{line, units};
use super::{Common, Notification, Secret, Severity, Thread};
use crate::check::trap::Trap;
use crate::table::{Filled, Flat, table};

table! {
    /// Whom to tell by an application of Pushover.
    pub struct Settings like "type = \"pushover\"" {
        /// Which kind of channel it is.
        kind("type"): String as Filled, example r#""pushover""#;
        /// The token of the application.
        token: Secret => Secret, commented r#""azGDORePK8gMaC0QOYAMyEEuzJnyUi""#;
        /// The key of the user or the group.
        user: Secret => Secret, commented r#""uQiRzpo4DXghDmr9QzzfQu27cmVRsG""#;
        /// Whether critical messages come again every minute, for an hour at most, until somebody acknowledges them.
        emergency: bool = false;
        /// For a server between this host and Pushover.
        api_url: String as Server = "https://api.pushover.net".to_owned();
        /// What goes out by it.
        common: Common => Flat;
    }
}

/// Limits, in characters.
const TITLE: usize = 250;
const TEXT: usize = 1024;
const SHORT: usize = 250;
/// All tokens and keys have so many letters and digits.
const KEY: usize = 30;
/// How often an emergency comes again, and for how long, in seconds.
const RETRY: u32 = 60;
const EXPIRE: u32 = 3600;

impl Posted for Settings {
    fn common(&self) -> &Common {
        &self.common
    }

    fn recipient(&self) -> String {
        self.kind.clone()
    }

    fn describe(&self) -> String {
        format!("by {}", self.api_url)
    }

    fn secrets(&self) -> Vec<Private<'_>> {
        vec![
            Private::of(&["token"], &self.token),
            Private::of(&["user"], &self.user),
        ]
    }

    fn traps(&self) -> Vec<Trap> {
        let token = "put the token of an application there, as pushover.net shows it";
        let user = "put the key of the user or the group there, as pushover.net shows it";
        let mut found = Vec::new();
        found.extend(length_trap("token", &self.token, KEY, token));
        found.extend(length_trap("user", &self.user, KEY, user));
        found
    }

    fn message(&self, notification: &Notification, _: &Thread) -> Message {
        let message = |limit: usize| {
            let title = line(&notification.subject, TITLE, units);
            let text = pushed(notification, limit, units);
            let priority = self.priority(notification.severity);
            let mut value = json!({
                // an empty one is refused
                "message": if text.trim().is_empty() { "watchdog" } else { &text },
                "title": title,
                "priority": priority,
                "timestamp": notification.time.timestamp(),
            });
            if priority == 2 {
                value["retry"] = json!(RETRY);
                value["expire"] = json!(EXPIRE);
            }
            value
        };
        Message {
            whole: message(TEXT),
            short: message(SHORT),
        }
    }

    fn post(&self, message: &Value) -> Result<Post, String> {
        let mut value = message.clone();
        let token = self.token.read("token")?;
        let user = self.user.read("user")?;
        value["token"] = json!(token);
        value["user"] = json!(user);
        let mut post = Post::json(&format!("{}/1/messages.json", self.api_url), &value)?;
        post.hide(&token);
        post.hide(&user);
        Ok(post)
    }

    /// What was taken has the status 1.
    fn receipt(answer: &Answer<'_>) -> Receipt {
        if answer.json()["status"] == 1 {
            Receipt::Taken
        } else {
            Receipt::None
        }
    }
}

impl Settings {
    fn priority(&self, severity: Severity) -> i8 {
        match severity {
            Severity::Info => -1,
            Severity::Warning | Severity::Error => 0,
            Severity::Critical if self.emergency => 2,
            Severity::Critical => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::fixtures::hostile;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_message_is_within_the_limits(notification in hostile(), emergency in any::<bool>()) {
            let settings = Settings {
                kind: "pushover".to_owned(),
                token: Secret::Inline("azGDORePK8gMaC0QOYAMyEEuzJnyUi".to_owned()),
                user: Secret::Inline("uQiRzpo4DXghDmr9QzzfQu27cmVRsG".to_owned()),
                emergency,
                api_url: "https://api.pushover.net".to_owned(),
                common: crate::fixtures::common(),
            };
            prop_assert_eq!(settings.traps().len(), 0);
            let message = settings.message(&notification, &Thread::default());
            for (message, limit) in [(&message.whole, 1024), (&message.short, 250)] {
                let title = message["title"].as_str().unwrap();
                prop_assert!(title.encode_utf16().count() <= 250 && !title.contains(['\n', '\r']));
                let text = message["message"].as_str().unwrap();
                prop_assert!((1..=limit).contains(&text.encode_utf16().count()));
                prop_assert!(!text.contains("://"));
                prop_assert_eq!(message.get("html"), None);
                // such a priority is refused without the two
                let repeats = message["priority"] == 2;
                prop_assert_eq!(repeats, emergency);
                prop_assert_eq!(message["retry"] == 60 && message["expire"] == 3600, repeats);
            }
        }
    }
}
