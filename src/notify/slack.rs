//! `slack`: an incoming webhook of Slack, and of Mattermost and Rocket.Chat, which take the same.
//!
//! Slack shows the blocks, plain text all; the others show the text, in which nothing mentions anybody and what was quoted
//! stands in a fence of code.

use serde_json::{Value, json};

use super::answers::{Answer, Receipt};
use super::kind::{Private, check_url, url_traps};
use super::post::{Post, shown};
use super::posted::{Message, Posted};
use super::safe::unfenced;
use super::shorten::{fitted, line, units};
use super::{Common, Notification, Secret, Thread};
use crate::check::trap::Trap;
use crate::table::{Filled, Flat, Part, Table, table};

table! {
    /// Whom to tell by an incoming webhook of Slack, Mattermost or Rocket.Chat.
    pub struct Settings like "type = \"slack\"", check fits_together {
        /// Which kind of channel it is.
        kind("type"): String as Filled, example r#""slack""#;
        /// The URL of the webhook.
        url: Secret => Secret, commented r#""https://hooks.slack.com/services/T00/B00/XXX""#;
        /// What goes out by it.
        common: Common => Flat;
    }
}

/// Limits, in characters: of the text of a header, of that of a section, and of what all of it may have in sections.
const HEADER: usize = 150;
const SECTION: usize = 3000;
const SECTIONS: usize = 4;
/// Of the text beside the blocks.
const TEXT: usize = 4000;
/// What it ends with.
const END: &str = "\n```";

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
        let title = line(&notification.subject, HEADER, measure);
        // a header is never empty
        let title = if title.trim().is_empty() {
            "watchdog".to_owned()
        } else {
            title
        };
        let plain = |text: &str| json!({"type": "plain_text", "text": text, "emoji": false});
        let mut blocks = vec![json!({"type": "header", "text": plain(&escaped(&title))})];
        let body = notification.body.trim_end();
        for part in parts(body) {
            blocks.push(json!({"type": "section", "text": plain(&part)}));
        }
        let begin = format!("{}\n```\n", unfenced(&escaped(&title)));
        let space = TEXT - begin.chars().map(units).sum::<usize>() - END.len();
        let fenced = unfenced(&escaped(&fitted(body, space, measure)));
        Message {
            whole: json!({
                "text": format!("{begin}{fenced}{END}"),
                "blocks": blocks,
            }),
            short: json!({"text": format!("{} (shortened)", unfenced(&escaped(&title)))}),
        }
    }

    fn post(&self, message: &Value) -> Result<Post, String> {
        Post::json(&self.url.read("URL")?, message)
    }

    /// Errors are told with a status of success, too.
    fn receipt(answer: &Answer<'_>) -> Receipt {
        let is_ok = answer.body.trim_ascii() == b"ok" || answer.json()["success"] == true;
        if is_ok { Receipt::Taken } else { Receipt::None }
    }
}

/// What a character comes to at most, when it is escaped.
fn measure(c: char) -> usize {
    match c {
        '&' => 5,
        '<' | '>' => 4,
        '@' | '`' => 2,
        c => units(c),
    }
}

/// A text as it is sent: Slack reads `<!channel>`, others `@channel`.
fn escaped(text: &str) -> String {
    let mut sent = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => sent.push_str("&amp;"),
            '<' => sent.push_str("&lt;"),
            '>' => sent.push_str("&gt;"),
            '@' => sent.push_str("@\u{200b}"),
            c => sent.push(c),
        }
    }
    sent
}

/// A text in sections, at the ends of lines where that costs little.
fn parts(text: &str) -> Vec<String> {
    let text = fitted(text, SECTION * SECTIONS, measure);
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut used = 0;
    for line in text.split_inclusive('\n') {
        let length: usize = line.chars().map(measure).sum();
        if used + length > SECTION && !part.trim().is_empty() {
            parts.push(escaped(part.trim_end()));
            part.clear();
            used = 0;
        }
        for c in line.chars() {
            if used + measure(c) > SECTION {
                parts.push(escaped(&part));
                part.clear();
                used = 0;
            }
            used += measure(c);
            part.push(c);
        }
    }
    if !part.trim().is_empty() {
        parts.push(escaped(part.trim_end()));
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::fixtures::{hostile, notification};
    use proptest::prelude::*;

    fn settings() -> Settings {
        Settings {
            kind: "slack".to_owned(),
            url: Secret::Inline("https://hooks.slack.com/services/T/B/X".to_owned()),
            common: crate::fixtures::common(),
        }
    }

    fn length(value: &Value) -> usize {
        value.as_str().unwrap().chars().map(units).sum()
    }

    /// What Slack refuses, and what would mention somebody.
    fn check(message: &Value) {
        let mut texts = vec![&message["text"]];
        assert!(length(&message["text"]) <= 4_000);
        let blocks = message["blocks"].as_array().cloned().unwrap_or_default();
        assert!(blocks.len() <= 50);
        let mut all = 0;
        for block in &blocks {
            let text = &block["text"];
            assert_eq!(text["type"], "plain_text");
            let most = if block["type"] == "header" { 150 } else { 3000 };
            assert!((1..=most).contains(&length(&text["text"])));
            all += length(&text["text"]);
        }
        assert!(all <= 13_200, "{all}");
        texts.extend(blocks.iter().map(|block| &block["text"]["text"]));
        for text in texts {
            let text = text.as_str().unwrap();
            assert!(!text.contains(['<', '>']), "{text}");
            for (at, _) in text.match_indices('@') {
                assert!(text[at..].starts_with("@\u{200b}"), "{text}");
            }
        }
        // one fence, and nothing leaves it
        let text = message["text"].as_str().unwrap();
        assert!(text.matches("```").count() <= 2, "{text}");
    }

    #[test]
    fn what_was_quoted_mentions_nobody() {
        let notification = notification("<!channel> @here ``` & <@U1>");
        let message = settings().message(&notification, &Thread::default());
        check(&message.whole);
        check(&message.short);
        assert_eq!(
            message.whole["blocks"][1]["text"]["text"],
            "&lt;!channel&gt; @\u{200b}here ``` &amp; &lt;@\u{200b}U1&gt;"
        );
    }

    #[test]
    fn what_fits_is_not_shortened() {
        let body = "a line of a log, and another one\n".repeat(100);
        let message = settings().message(&notification(&body), &Thread::default());
        let text = message.whole["text"].as_str().unwrap();
        assert!(text.contains(body.trim_end()), "{text}");
        let subject = Notification {
            subject: "a&b ".repeat(100),
            ..notification("text")
        };
        let message = settings().message(&subject, &Thread::default());
        check(&message.whole);
        let title = message.whole["blocks"][0]["text"]["text"].as_str().unwrap();
        assert!(title.ends_with('…'), "{title}");
        assert!(title.chars().count() > 140, "{title}");
    }

    #[test]
    fn an_error_with_a_status_of_success_is_none() {
        for (body, expected) in [
            ("ok", Receipt::Taken),
            (r#"{"success":true}"#, Receipt::Taken),
            ("invalid_token", Receipt::None),
            ("<html>", Receipt::None),
            ("", Receipt::None),
        ] {
            let answer = Answer {
                status: 200,
                retry_after: None,
                body: body.as_bytes(),
            };
            assert_eq!(Settings::receipt(&answer), expected, "{body}");
        }
    }

    proptest! {
        #[test]
        fn every_message_is_within_the_limits(notification in hostile()) {
            let message = settings().message(&notification, &Thread::default());
            check(&message.whole);
            check(&message.short);
        }
    }
}
