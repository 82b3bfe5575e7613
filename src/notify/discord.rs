//! `discord`: an embed for a webhook of a Discord channel.
//!
//! The text stands in a fence of code, where nothing is a mention, markup or a link; `allowed_mentions` is always sent, so
//! that nobody is ever mentioned but whom the config names.

use chrono::SecondsFormat;
use serde_json::{Value, json};

use super::answers::{Answer, Receipt};
use super::kind::{Private, check_url, url_traps};
use super::post::{Post, shown};
use super::posted::{Message, Posted};
use super::safe::{inert_line, unfenced};
use super::shorten::{fitted, line, units};
use super::{Common, Notification, Secret, Severity, Thread};
use crate::check::trap::Trap;
use crate::client::http::{HeaderValue, header};
use crate::table::{Checked, Context, Filled, Flat, Part, Table, Value as Written, table};

table! {
    /// Whom to tell by a webhook of Discord.
    pub struct Settings like "type = \"discord\"", check fits_together {
        /// Which kind of channel it is.
        kind("type"): String as Filled, example r#""discord""#;
        /// The URL of the webhook.
        url: Secret => Secret, commented r#""https://discord.com/api/webhooks/1234/abcd""#;
        /// The ID of a user, who is mentioned in critical messages.
        mention: Option<String> as Option<Snowflake>, commented r#""80351110224678912""#;
        /// The ID of a thread of the channel.
        thread_id: Option<String> as Option<Snowflake>, commented r#""1088510058284990888""#;
        /// The name that messages have in place of that of the webhook.
        username: Option<String> as Option<Filled>, commented r#""watchdog""#;
        /// What goes out by it.
        common: Common => Flat;
    }
}

/// Limits of an embed, in characters.
const TITLE: usize = 256;
const DESCRIPTION: usize = 4096;
const FIELD: usize = 1024;
/// Of a name in place of that of the webhook.
const NAME: usize = 80;
/// Services that are named in a field.
const NAMED: usize = 10;

/// Discord wants to know whose program asks, in this form.
const AGENT: &str = concat!(
    "DiscordBot (https://watchdog.invalid, ",
    env!("CARGO_PKG_VERSION"),
    ")"
);

/// An ID of Discord.
struct Snowflake;

impl Checked for Snowflake {
    type Of = String;
    const KIND: &'static str = "an ID of digits, as a text";

    fn read(value: &Written<'_>, _: &Context) -> Option<String> {
        let text = value.filled()?;
        if text.len() > 20 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            value.wrong(
                &format!("{} is an ID: digits only", value.name()),
                "turn on developer mode in Discord, and choose Copy ID",
            );
            return None;
        }
        Some(text)
    }
}

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
        format!("by a webhook at {}", shown(&self.url))
    }

    fn secrets(&self) -> Vec<Private<'_>> {
        vec![Private::of(&["url"], &self.url)]
    }

    fn traps(&self) -> Vec<Trap> {
        url_traps("url", &self.url)
    }

    fn message(&self, notification: &Notification, _: &Thread) -> Message {
        let is_critical = notification.severity == Severity::Critical;
        let mentioned = self.mention.as_ref().filter(|_| is_critical);
        let allowed = match mentioned {
            Some(id) => json!({"parse": [], "users": [id]}),
            None => json!({"parse": []}),
        };
        let ping = mentioned.map(|id| format!("<@{id}>")).unwrap_or_default();
        // nothing is read in a title; what is not in an embed may be
        let title = line(&notification.subject, TITLE, units);
        let begin = inert_line(&notification.subject, TITLE, units);
        let mut short = json!({
            "content": format!("{ping} {begin} (shortened)").trim(),
            "allowed_mentions": &allowed,
        });
        let mut whole = json!({
            "allowed_mentions": allowed,
            "embeds": [{
                "title": title,
                "description": description(&notification.body),
                "color": color(notification.severity),
                "timestamp": notification.time.to_rfc3339_opts(SecondsFormat::Secs, true),
                "fields": fields(notification),
                "footer": {"text": notification.id},
            }],
        });
        if let (Some(_), Some(object)) = (mentioned, whole.as_object_mut()) {
            object.insert("content".to_owned(), json!(ping));
        }
        if let Some(name) = &self.username {
            for message in [&mut short, &mut whole] {
                if let Some(object) = message.as_object_mut() {
                    object.insert("username".to_owned(), json!(line(name, NAME, units)));
                }
            }
        }
        Message { whole, short }
    }

    fn post(&self, value: &Value) -> Result<Post, String> {
        let mut url = self.url.read("URL")?;
        // without it, a message that was not saved is answered like one that was
        url.push_str(if url.contains('?') { "&" } else { "?" });
        url.push_str("wait=true");
        if let Some(id) = &self.thread_id {
            url.push_str("&thread_id=");
            url.push_str(id);
        }
        let mut post = Post::json(&url, value)?;
        let agent = HeaderValue::from_static(AGENT);
        post.headers.push((header::USER_AGENT, agent));
        Ok(post)
    }

    /// A message that was saved has an id.
    fn receipt(answer: &Answer<'_>) -> Receipt {
        if answer.json()["id"].is_string() {
            Receipt::Taken
        } else {
            Receipt::None
        }
    }
}

fn description(body: &str) -> String {
    const OPEN: &str = "```\n";
    const CLOSE: &str = "\n```";
    let space = DESCRIPTION - OPEN.len() - CLOSE.len();
    let text = fitted(&unfenced(body.trim_end()), space, units);
    format!("{OPEN}{text}{CLOSE}")
}

fn color(severity: Severity) -> u32 {
    match severity {
        Severity::Info => 0x002E_CC71,
        Severity::Warning => 0x00F1_C40F,
        Severity::Error => 0x00E7_4C3C,
        Severity::Critical => 0x0099_2D22,
    }
}

fn fields(notification: &Notification) -> Value {
    let mut services = notification.services.clone();
    let over = services.len().saturating_sub(NAMED);
    services.truncate(NAMED);
    if over > 0 {
        services.push(format!("and {over} more"));
    }
    let field = |name: &str, value: &str| json!({"name": name, "value": line(value, FIELD, units), "inline": true});
    let fields = [
        ("Host", notification.host.as_str()),
        ("Event", notification.event.name()),
        ("Services", &services.join(", ")),
    ];
    let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
    Value::Array(fields.map(|(name, value)| field(name, value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::fixtures::{hostile, notification};
    use proptest::prelude::*;

    fn settings(mention: Option<&str>) -> Settings {
        Settings {
            kind: "discord".to_owned(),
            url: Secret::Inline("https://discord.com/api/webhooks/1/x".to_owned()),
            mention: mention.map(str::to_owned),
            thread_id: None,
            username: Some("n".repeat(200)),
            common: crate::fixtures::common(),
        }
    }

    fn length(value: &Value) -> usize {
        value.as_str().unwrap().chars().map(units).sum()
    }

    /// What Discord refuses.
    fn check(message: &Value) {
        assert!(
            message["username"]
                .as_str()
                .is_none_or(|it| it.chars().count() <= 80)
        );
        assert_eq!(message["allowed_mentions"]["parse"], json!([]));
        if message.get("content").is_some() {
            assert!((1..=2000).contains(&length(&message["content"])));
        }
        let mut all = 0;
        for embed in message["embeds"].as_array().into_iter().flatten() {
            assert!(length(&embed["title"]) <= 256 && length(&embed["description"]) <= 4096);
            all += length(&embed["title"]) + length(&embed["description"]);
            all += length(&embed["footer"]["text"]);
            for field in embed["fields"].as_array().unwrap() {
                assert!((1..=256).contains(&length(&field["name"])));
                assert!((1..=1024).contains(&length(&field["value"])));
                all += length(&field["name"]) + length(&field["value"]);
            }
        }
        assert!(all <= 6000, "{all}");
    }

    #[test]
    fn only_whom_the_config_names_is_mentioned_and_only_in_critical_messages() {
        for (mention, severity, content, users) in [
            (None, Severity::Critical, Value::Null, Value::Null),
            (Some("42"), Severity::Warning, Value::Null, Value::Null),
            (
                Some("42"),
                Severity::Critical,
                json!("<@42>"),
                json!(["42"]),
            ),
        ] {
            let notification = Notification {
                severity,
                ..notification("@everyone <@1> a")
            };
            let message = settings(mention).message(&notification, &Thread::default());
            assert_eq!(message.whole["content"], content);
            assert_eq!(message.whole["allowed_mentions"]["users"], users);
            assert_eq!(message.short["allowed_mentions"]["users"], users);
            assert_eq!(message.whole["embeds"][0]["color"], color(severity));
            check(&message.whole);
            check(&message.short);
        }
    }

    #[test]
    fn titles_and_fields_are_plain_and_as_long_as_they_may_be() {
        let notification = Notification {
            host: "box1.example.org".to_owned(),
            subject: format!("[watchdog] box1.example.org: {}", "a.b".repeat(100)),
            services: vec!["gate.way".to_owned()],
            ..notification("text")
        };
        let message = settings(None).message(&notification, &Thread::default());
        let embed = &message.whole["embeds"][0];
        assert_eq!(length(&embed["title"]), 256);
        assert!(!embed["title"].as_str().unwrap().contains('\u{200b}'));
        assert_eq!(embed["fields"][0]["value"], "box1.example.org");
        assert_eq!(embed["fields"][2]["value"], "gate.way");
        assert!(
            message.short["content"]
                .as_str()
                .unwrap()
                .contains("a.\u{200b}b")
        );
        check(&message.whole);
    }

    #[test]
    fn what_was_quoted_cannot_leave_its_fence() {
        let message = settings(None).message(
            &notification("```\n@everyone [a](https://x.example) `b`"),
            &Thread::default(),
        );
        let description = message.whole["embeds"][0]["description"].as_str().unwrap();
        let inside = description.strip_prefix("```\n").unwrap();
        let inside = inside.strip_suffix("\n```").unwrap();
        assert!(!inside.contains("``"), "{inside}");
    }

    proptest! {
        #[test]
        fn every_message_is_within_the_limits(notification in hostile()) {
            let message = settings(Some("42")).message(&notification, &Thread::default());
            check(&message.whole);
            check(&message.short);
        }
    }
}
