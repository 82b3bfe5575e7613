//! `telegram`: a text by a bot.
//!
//! No parse mode is asked for, in which one odd character loses a message. What marks the text are entities, by their
//! places: all of it is code, in which nothing is a mention, a link or a command.

use serde_json::{Value, json};

use super::answers::{Answer, Receipt};
use super::kind::{Private, Server, trap_of};
use super::post::Post;
use super::posted::{Message, Posted};
use super::safe::inert;
use super::shorten::{fitted, line, units};
use super::{Common, Notification, Secret, Severity, Thread};
use crate::check::trap::Trap;
use crate::table::{Checked, Context, Filled, Flat, Part, Table, Value as Written, table};

table! {
    /// Whom to tell by a bot of Telegram.
    pub struct Settings like "type = \"telegram\"", check fits_together {
        /// Which kind of channel it is.
        kind("type"): String as Filled, example r#""telegram""#;
        /// The token of the bot.
        token: Secret => Secret, commented r#""110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw""#;
        /// The number of a chat, as a text, or the @name of a public one.
        chat: String as Chat, example r#""-1009876543210""#;
        /// The number of a topic of a group that has topics.
        topic: Option<i64> as Option<crate::table::AtLeast<1>>, commented "7";
        /// What matters less (info, warning, error, critical) arrives without a sound.
        silent_below: Severity = Severity::Warning;
        /// For a server of one's own.
        api_url: String as Server = "https://api.telegram.org".to_owned();
        /// What goes out by it.
        common: Common => Flat;
    }
}

/// Of a text, in units of UTF-16.
const TEXT: usize = 4096;
/// Of its first line.
const TITLE: usize = 200;

/// A chat of Telegram.
struct Chat;

impl Checked for Chat {
    type Of = String;
    const KIND: &'static str = "a number or an @name, as a text";

    fn read(value: &Written<'_>, _: &Context) -> Option<String> {
        let text = value.filled()?;
        let is_number = text.parse::<i64>().is_ok();
        let is_name = text.strip_prefix('@').is_some_and(|name| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        });
        if !is_number && !is_name {
            value.wrong(
                "this is no chat",
                "write its number, like \"-1009876543210\", or the @name of a public one",
            );
            return None;
        }
        Some(text)
    }
}

fn fits_together(table: &Table<'_>, part: &mut Part<Settings>) {
    if let (Some(Secret::Inline(token)), Some(value)) = (&part.token, table.get("token"))
        && !is_token(token)
    {
        value.misplaced(
            "`token` is not what a token of a bot looks like",
            "write it as BotFather has given it: a number, a colon, and letters",
        );
    }
}

/// A token stands in the path of a URL.
fn is_token(text: &str) -> bool {
    let right = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'_' | b'-');
    text.bytes().all(right) && text.contains(':')
}

impl Posted for Settings {
    fn common(&self) -> &Common {
        &self.common
    }

    fn recipient(&self) -> String {
        format!("{} {}", self.kind, self.chat)
    }

    fn describe(&self) -> String {
        format!("to the chat {} by {}", self.chat, self.api_url)
    }

    fn secrets(&self) -> Vec<Private<'_>> {
        vec![Private::of(&["token"], &self.token)]
    }

    fn traps(&self) -> Vec<Trap> {
        let help = "put the token there, as BotFather has given it";
        trap_of("token", &self.token, help).into_iter().collect()
    }

    fn message(&self, notification: &Notification, thread: &Thread) -> Message {
        let title = line(&notification.subject, TITLE, units);
        let begin: usize = title.chars().map(units).sum::<usize>() + 2;
        let body = fitted(notification.body.trim_end(), TEXT - begin, units);
        let length = |text: &str| text.chars().map(units).sum::<usize>();
        let mut whole = self.request(notification, thread);
        whole["text"] = json!(format!("{title}\n\n{body}"));
        whole["entities"] = json!([
            {"type": "code", "offset": 0, "length": length(&title)},
            {"type": "pre", "offset": begin, "length": length(&body)},
        ]);
        let mut short = self.request(notification, thread);
        short["text"] = json!(format!("{} (shortened)", inert(&title)));
        Message { whole, short }
    }

    fn post(&self, message: &Value) -> Result<Post, String> {
        let token = self.token.read("token")?;
        if !is_token(&token) {
            return Err("its token is not what one looks like".to_owned());
        }
        let url = format!("{}/bot{token}/sendMessage", self.api_url);
        let mut post = Post::json(&url, message)?;
        post.secrets.push(token);
        Ok(post)
    }

    /// Messages of the old chat have no answers in the new one.
    fn moved(message: &Message, to: &str) -> Option<Message> {
        if message.whole["chat_id"] == to {
            return None;
        }
        let mut moved = message.clone();
        for value in [&mut moved.whole, &mut moved.short] {
            value["chat_id"] = json!(to);
            if let Some(keys) = value.as_object_mut() {
                keys.remove("reply_parameters");
            }
        }
        Some(moved)
    }

    /// A message that was sent has an id.
    fn receipt(answer: &Answer<'_>) -> Receipt {
        let json = answer.json();
        match json["result"]["message_id"].as_i64() {
            Some(id) if json["ok"] == true => Receipt::Id(id.to_string()),
            _ => Receipt::None,
        }
    }
}

impl Settings {
    /// What is the same for all messages.
    fn request(&self, notification: &Notification, thread: &Thread) -> Value {
        let mut value = json!({
            "chat_id": self.chat,
            "disable_notification": notification.severity < self.silent_below,
            "link_preview_options": {"is_disabled": true},
        });
        if let Some(topic) = self.topic {
            value["message_thread_id"] = json!(topic);
        }
        let first = thread.lead.first().and_then(|id| id.parse::<i64>().ok());
        if let Some(first) = first {
            value["reply_parameters"] =
                json!({"message_id": first, "allow_sending_without_reply": true});
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::fixtures::{hostile, notification};
    use proptest::prelude::*;

    fn settings() -> Settings {
        Settings {
            kind: "telegram".to_owned(),
            token: Secret::Inline("1:a".to_owned()),
            chat: "-100".to_owned(),
            topic: Some(7),
            silent_below: Severity::Warning,
            api_url: "https://api.telegram.org".to_owned(),
            common: crate::fixtures::common(),
        }
    }

    /// What Telegram refuses; and all of the text is code.
    fn check(message: &Value) {
        let text: Vec<u16> = message["text"].as_str().unwrap().encode_utf16().collect();
        assert!((1..=4096).contains(&text.len()), "{}", text.len());
        assert_eq!(message.get("parse_mode"), None);
        let mut covered = vec![false; text.len()];
        for entity in message["entities"].as_array().unwrap() {
            let at = |key: &str| usize::try_from(entity[key].as_u64().unwrap()).unwrap();
            for place in &mut covered[at("offset")..at("offset") + at("length")] {
                *place = true;
            }
        }
        for (unit, is_covered) in text.iter().zip(covered) {
            assert!(is_covered || *unit == u16::from(b'\n'));
        }
    }

    #[test]
    fn messages_of_an_incident_reply_to_its_first_and_small_ones_make_no_sound() {
        let thread = Thread {
            lead: vec!["41".to_owned(), "42".to_owned()],
            others: Vec::new(),
        };
        for (thread, severity, reply, is_silent) in [
            (&Thread::default(), Severity::Critical, Value::Null, false),
            (&thread, Severity::Warning, json!(41), false),
            (&thread, Severity::Info, json!(41), true),
        ] {
            let notification = Notification {
                severity,
                ..notification("@all \u{1f600} text")
            };
            let message = settings().message(&notification, thread);
            for message in [&message.whole, &message.short] {
                assert_eq!(message["reply_parameters"]["message_id"], reply);
                assert_eq!(message["disable_notification"], is_silent);
                assert_eq!(message["message_thread_id"], 7);
            }
            check(&message.whole);
            assert!(!message.short["text"].as_str().unwrap().contains("@all"));
        }
    }

    proptest! {
        #[test]
        fn every_message_is_within_the_limits(notification in hostile()) {
            let message = settings().message(&notification, &Thread::default());
            if !notification.body.trim_end().is_empty() {
                check(&message.whole);
            }
            prop_assert!(message.short["text"].as_str().unwrap().len() < 4096);
        }
    }
}
