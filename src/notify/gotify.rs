//! `gotify`: a message of an application of a Gotify server.

use serde_json::{Value, json};

use super::answers::{Answer, Receipt};
use super::kind::{Private, check_url, trap_of, url_traps};
use super::post::{Post, shown};
use super::posted::{Message, Posted};
use super::safe::pushed;
use super::shorten::{bytes, line};
use super::{Common, Notification, Secret, Severity, Thread};
use crate::check::trap::Trap;
use crate::client::http::HeaderName;
use crate::table::{Filled, Flat, Part, Table, table};

table! {
    /// Whom to tell by an application of Gotify.
    pub struct Settings like "type = \"gotify\"", check fits_together {
        /// Which kind of channel it is.
        kind("type"): String as Filled, example r#""gotify""#;
        /// The server.
        url: Secret => Secret, commented r#""https://gotify.example.org""#;
        /// The token of an application of the server.
        token: Secret => Secret, commented r#""AWp9Kq.e4vGh1Bz""#;
        /// What goes out by it.
        common: Common => Flat;
    }
}

/// Limits, in bytes. The server names none: so much is read on a telephone.
const TITLE: usize = 250;
const TEXT: usize = 8192;
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
        format!("to an application at {}", shown(&self.url))
    }

    fn secrets(&self) -> Vec<Private<'_>> {
        vec![
            Private::of(&["url"], &self.url),
            Private::of(&["token"], &self.token),
        ]
    }

    fn traps(&self) -> Vec<Trap> {
        let help = "make an application on the server, and put its token there";
        let mut found = url_traps("url", &self.url);
        found.extend(trap_of("token", &self.token, help));
        found
    }

    fn message(&self, notification: &Notification, _: &Thread) -> Message {
        let message = |limit: usize| {
            json!({
                "title": line(&notification.subject, TITLE, bytes),
                "message": pushed(notification, limit, bytes),
                "priority": priority(notification.severity),
                "extras": {"client::display": {"contentType": "text/plain"}},
            })
        };
        Message {
            whole: message(TEXT),
            short: message(SHORT),
        }
    }

    fn post(&self, message: &Value) -> Result<Post, String> {
        let server = self.url.read("URL")?;
        let token = self.token.read("token")?;
        let url = format!("{}/message", server.trim_end_matches('/'));
        let post = Post::json(&url, message)?;
        post.with_secret(HeaderName::from_static("x-gotify-key"), &token)
    }

    /// A message that was taken has a number.
    fn receipt(answer: &Answer<'_>) -> Receipt {
        if answer.json()["id"].is_u64() {
            Receipt::Taken
        } else {
            Receipt::None
        }
    }
}

/// From 4 on the telephone makes a sound, from 8 on it shows the message above all else.
fn priority(severity: Severity) -> u8 {
    match severity {
        Severity::Info => 2,
        Severity::Warning => 5,
        Severity::Error => 7,
        Severity::Critical => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::fixtures::hostile;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_message_is_within_the_limits(notification in hostile()) {
            let settings = Settings {
                kind: "gotify".to_owned(),
                url: Secret::Inline("https://gotify.example.org/".to_owned()),
                token: Secret::Inline("AWp9Kq.e4vGh1Bz".to_owned()),
                common: crate::fixtures::common(),
            };
            let message = settings.message(&notification, &Thread::default());
            for (message, limit) in [(&message.whole, 8192), (&message.short, 500)] {
                let title = message["title"].as_str().unwrap();
                prop_assert!(title.len() <= 250 && !title.contains(['\n', '\r']));
                let text = message["message"].as_str().unwrap();
                prop_assert!(text.len() <= limit);
                prop_assert!(!text.contains("://"));
                prop_assert_eq!(&message["extras"]["client::display"]["contentType"], "text/plain");
            }
        }
    }
}
