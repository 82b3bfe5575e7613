//! `ntfy`: a message for a topic of ntfy.sh, or of a server of one's own.

use serde_json::{Value, json};

use super::answers::{Answer, Receipt};
use super::kind::{Private, check_url, trap_of};
use super::post::{Post, shown};
use super::posted::{Message, Posted};
use super::safe::pushed;
use super::shorten::{bytes, line};
use super::{Common, Notification, Secret, Severity, Thread};
use crate::check::trap::Trap;
use crate::client::http::header;
use crate::table::{Filled, Flat, Part, Table, table};

table! {
    /// Whom to tell by a topic of ntfy.
    pub struct Settings like "type = \"ntfy\"", check fits_together {
        /// Which kind of channel it is.
        kind("type"): String as Filled, example r#""ntfy""#;
        /// The server; default: the public one at ntfy.sh.
        url: Option<Secret> => Secret, commented r#""https://ntfy.example.org""#;
        /// The topic, which is a password: who knows it can read it.
        topic: Secret => Secret, commented r#""alerts-7f3a9c""#;
        /// A token, where the server asks for one.
        token: Option<Secret> => Secret, commented r#""tk_AgQdq7mVBoFD37zQVN29RhuMzNIz2""#;
        /// What goes out by it.
        common: Common => Flat;
    }
}

/// The server, where none is named.
const SERVER: &str = "https://ntfy.sh";
/// Limits, in bytes.
const TITLE: usize = 250;
const TEXT: usize = 4096;
const SHORT: usize = 500;

fn fits_together(table: &Table<'_>, part: &mut Part<Settings>) {
    check_url(table, "url", part.url.as_ref());
}

impl Posted for Settings {
    fn common(&self) -> &Common {
        &self.common
    }

    fn recipient(&self) -> String {
        self.kind.clone()
    }

    fn describe(&self) -> String {
        let server = self.url.as_ref().map(shown);
        format!("to a topic at {}", server.as_deref().unwrap_or(SERVER))
    }

    fn secrets(&self) -> Vec<Private<'_>> {
        let mut found = vec![Private::of(&["topic"], &self.topic)];
        found.extend(self.url.iter().map(|it| Private::of(&["url"], it)));
        found.extend(self.token.iter().map(|it| Private::of(&["token"], it)));
        found
    }

    fn traps(&self) -> Vec<Trap> {
        let help = "put the name of the topic there, in one line";
        trap_of("topic", &self.topic, help).into_iter().collect()
    }

    fn message(&self, notification: &Notification, _: &Thread) -> Message {
        let message = |limit: usize| {
            json!({
                "title": line(&notification.subject, TITLE, bytes),
                "message": pushed(notification, limit, bytes),
                "priority": priority(notification.severity),
                "markdown": false,
            })
        };
        Message {
            whole: message(TEXT),
            short: message(SHORT),
        }
    }

    fn post(&self, message: &Value) -> Result<Post, String> {
        let mut value = message.clone();
        let topic = self.topic.read("topic")?;
        value["topic"] = json!(topic);
        let server = match &self.url {
            Some(url) => url.read("URL")?,
            None => SERVER.to_owned(),
        };
        let mut post = Post::json(&server, &value)?;
        post.secrets.push(topic);
        match &self.token {
            Some(token) => {
                let token = token.read("token")?;
                post.secrets.push(token.clone());
                post.with_secret(header::AUTHORIZATION, &format!("Bearer {token}"))
            }
            None => Ok(post),
        }
    }

    /// A message that was published has an id.
    fn receipt(answer: &Answer<'_>) -> Receipt {
        if answer.json()["id"].is_string() {
            Receipt::Taken
        } else {
            Receipt::None
        }
    }
}

fn priority(severity: Severity) -> u8 {
    match severity {
        Severity::Info => 2,
        Severity::Warning => 3,
        Severity::Error => 4,
        Severity::Critical => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::fixtures::{hostile, notification};
    use proptest::prelude::*;

    fn settings() -> Settings {
        Settings {
            kind: "ntfy".to_owned(),
            url: None,
            topic: Secret::Inline("t".to_owned()),
            token: None,
            common: crate::fixtures::common(),
        }
    }

    #[test]
    fn the_commands_can_be_typed_and_nothing_else_is_recognised() {
        let body = "see x.example\n> /start @all\nTo look at it:\n  watchdog -c /srv/w.toml status trader\n";
        let message = settings().message(&notification(body), &Thread::default());
        assert_eq!(
            message.whole["message"],
            "see x.\u{200b}example\n> /\u{200b}start @\u{200b}all\nTo look at it:\n  watchdog -c /srv/w.toml status trader"
        );
        // so much is not halved
        let body = "a line\n".repeat(500);
        let message = settings().message(&notification(&body), &Thread::default());
        assert_eq!(message.whole["message"], body.trim_end());
    }

    proptest! {
        #[test]
        fn every_message_is_within_the_limits(notification in hostile()) {
            let message = settings().message(&notification, &Thread::default());
            for (message, limit) in [(&message.whole, 4096), (&message.short, 500)] {
                prop_assert!(message["title"].as_str().unwrap().len() <= 250);
                let text = message["message"].as_str().unwrap();
                prop_assert!(text.len() <= limit);
                prop_assert!(!text.contains("://"));
            }
        }
    }
}
