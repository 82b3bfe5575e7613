//! `teams`: an Adaptive Card for a workflow of Microsoft Teams that is started by a webhook.
//!
//! A `TextBlock` reads Markdown, so there is none: each line is a run of text in a `RichTextBlock`, which reads nothing. And
//! what a client would take for a link or a mention all the same is broken.

use serde_json::{Value, json};

use super::answers::{Answer, Receipt};
use super::kind::{Private, check_url, url_traps};
use super::own::Own;
use super::post::{Post, shown};
use super::posted::{Message, Posted};
use super::safe::{inert_line, inert_unless_own};
use super::shorten::{units, without_quoted};
use super::{Common, Notification, Secret, Severity, Thread};
use crate::check::trap::Trap;
use crate::table::{Filled, Flat, Part, Table, table};

table! {
    /// Whom to tell by a workflow of Microsoft Teams.
    pub struct Settings like "type = \"teams\"", check fits_together {
        /// Which kind of channel it is.
        kind("type"): String as Filled, example r#""teams""#;
        /// The URL of the webhook that starts the workflow.
        url: Secret => Secret, commented r#""https://prod-01.westeurope.logic.azure.com/workflows/1f2e/triggers/manual/paths/invoke?sig=3xYz""#;
        /// What goes out by it.
        common: Common => Flat;
    }
}

/// Of all of a message, in bytes: Teams takes 28 KB, and may count two bytes for a character that is one here.
const MESSAGE: usize = 14_000;
/// Of its title, in characters.
const TITLE: usize = 200;
/// What stands at the end of a text that was shortened.
const SHORTENED: &str = "[shortened]";

/// The host of webhooks that Microsoft has retired.
const RETIRED: &str = "webhook.office.com";

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
        format!("by a workflow at {}", shown(&self.url))
    }

    fn secrets(&self) -> Vec<Private<'_>> {
        vec![Private::of(&["url"], &self.url)]
    }

    fn traps(&self) -> Vec<Trap> {
        let mut found = url_traps("url", &self.url);
        if shown(&self.url).ends_with(RETIRED) {
            found.push(Trap::of(
                "url",
                format!("`url` is that of a connector at {RETIRED}, which Microsoft has retired"),
                "make a workflow \"when a Teams webhook request is received\" in the channel, and take its URL",
            ));
        }
        found
    }

    fn message(&self, notification: &Notification, _: &Thread) -> Message {
        let mut title = inert_line(&notification.subject, TITLE, units);
        // an empty run is refused
        if title.is_empty() {
            "watchdog".clone_into(&mut title);
        }
        let heading = |title: &str| {
            block(&json!({
                "type": "TextRun", "text": title, "size": "Medium", "weight": "Bolder",
                "color": color(notification.severity),
            }))
        };
        let mut whole = vec![heading(&title)];
        let mut used = card(&whole).to_string().len();
        let end = text(SHORTENED);
        let most = MESSAGE - end.to_string().len() - 1;
        let own = Own::of(notification);
        let shown = |line: &str| text(&inert_unless_own(line, &own));
        let length = |line: &str| shown(line).to_string().len() + 1;
        let lines = notification.body.trim_end().lines();
        for line in without_quoted(lines, most.saturating_sub(used), length) {
            let next = shown(line);
            used += next.to_string().len() + 1;
            if used > most {
                whole.push(end);
                break;
            }
            whole.push(next);
        }
        Message {
            whole: card(&whole),
            short: card(&[heading(&title), text(SHORTENED)]),
        }
    }

    fn post(&self, message: &Value) -> Result<Post, String> {
        Post::json(&self.url.read("URL")?, message)
    }

    /// A workflow answers 202 before it has done anything, or 200 with what its author likes. What is a page or tells of
    /// an error is not from one that has worked.
    fn receipt(answer: &Answer<'_>) -> Receipt {
        let body = String::from_utf8_lossy(answer.body).to_lowercase();
        let is_taken = match answer.status {
            202 => true,
            200 => !body.trim_start().starts_with('<') && !body.contains("error"),
            _ => false,
        };
        if is_taken {
            Receipt::Taken
        } else {
            Receipt::None
        }
    }
}

fn card(body: &[Value]) -> Value {
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "type": "AdaptiveCard",
                "version": "1.2",
                "msteams": {"width": "Full"},
                "body": body,
            },
        }],
    })
}

fn block(run: &Value) -> Value {
    json!({"type": "RichTextBlock", "spacing": "None", "inlines": [run]})
}

/// One line.
fn text(line: &str) -> Value {
    // an empty run is refused
    let shown = if line.is_empty() { " " } else { line };
    block(&json!({"type": "TextRun", "text": shown, "fontType": "Monospace"}))
}

fn color(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "Good",
        Severity::Warning => "Warning",
        Severity::Error | Severity::Critical => "Attention",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::fixtures::{hostile, notification};
    use proptest::prelude::*;

    fn settings(url: &str) -> Settings {
        Settings {
            kind: "teams".to_owned(),
            url: Secret::Inline(url.to_owned()),
            common: crate::fixtures::common(),
        }
    }

    /// The texts of a card; all of them are runs, in which there is no markup.
    fn texts(message: &Value) -> Vec<String> {
        let content = &message["attachments"][0]["content"];
        let blocks = content["body"].as_array().unwrap().iter();
        blocks
            .map(|block| {
                assert_eq!(block["type"], "RichTextBlock");
                let run = &block["inlines"][0];
                assert_eq!(run["type"], "TextRun");
                assert_eq!(run.get("selectAction"), None);
                run["text"].as_str().unwrap().to_owned()
            })
            .collect()
    }

    #[test]
    fn a_long_text_is_shortened_with_a_note() {
        let long = notification(&"**b** [a](https://x.example) <at>all</at>\n".repeat(2000));
        let message = settings("https://x.example").message(&long, &Thread::default());
        let texts = texts(&message.whole);
        assert!(texts[1].starts_with("**b** [a](https:\u{200b}//x"));
        assert_eq!(texts.last().unwrap(), SHORTENED);
        let length = message.whole.to_string().len();
        assert!((12_000..=14_000).contains(&length), "{length}");
    }

    #[test]
    fn logs_are_shortened_before_what_is_to_be_done() {
        let quoted = "> a line of a log\n".repeat(400);
        let body =
            format!("broken\n\nLast log lines:\n{quoted}\nTo look at it:\n  watchdog history\n");
        let notification = Notification {
            subject: "[watchdog] box1.example.org: app down".to_owned(),
            ..notification(&body)
        };
        let message = settings("https://x.example").message(&notification, &Thread::default());
        let texts = texts(&message.whole);
        assert_eq!(
            texts[0],
            "[watchdog] box1.\u{200b}example.\u{200b}org: app down"
        );
        assert_eq!(texts.last().unwrap(), "  watchdog history");
        assert!(texts.contains(&"> [shortened]".to_owned()));
        let length = message.whole.to_string().len();
        assert!((12_000..=14_000).contains(&length), "{length}");
    }

    #[test]
    fn what_a_workflow_answers_is_a_success_and_what_others_answer_is_none() {
        for (status, body, expected) in [
            (202, "", Receipt::Taken),
            (200, "", Receipt::Taken),
            (200, "1", Receipt::Taken),
            (204, "", Receipt::None),
            (200, "<html>sign in</html>", Receipt::None),
            (
                200,
                "Webhook message delivery failed with error: … returned HTTP error 429",
                Receipt::None,
            ),
        ] {
            let answer = Answer {
                status,
                retry_after: None,
                body: body.as_bytes(),
            };
            assert_eq!(Settings::receipt(&answer), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_retired_webhook_is_a_trap() {
        assert_eq!(
            settings("https://x.logic.azure.com/w?sig=1").traps().len(),
            0
        );
        let traps = settings("https://x.webhook.office.com/webhookb2/1").traps();
        assert!(traps[0].message.contains("retired"));
    }

    proptest! {
        #[test]
        fn every_message_is_within_the_limits(notification in hostile()) {
            let message = settings("https://x.example").message(&notification, &Thread::default());
            for message in [&message.whole, &message.short] {
                prop_assert!(message.to_string().len() <= 14_000);
                for text in texts(message) {
                    prop_assert!(!text.is_empty() && !text.contains('\n'));
                    prop_assert!(!text.contains("://"));
                }
            }
        }
    }
}
