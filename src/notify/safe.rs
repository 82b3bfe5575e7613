//! What logs, programs and servers wrote, made fit for where it is shown: it mentions nobody, and is no markup and no link.

use super::Notification;
use super::own::Own;
use super::shorten::{fitted, line};
use crate::client::http::secrets::masked;
use crate::text::{cut, visible};

/// A character without width, that nothing is recognised across.
const BREAK: char = '\u{200b}';

/// A text in which nothing is taken for a mention, a link, a tag or a command by somebody who looks for them in plain
/// text: what it is recognised by is broken by a character without width.
pub(super) fn inert(text: &str) -> String {
    let mut broken = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut before = ' ';
    while let Some(c) = chars.next() {
        broken.push(c);
        let next = chars.peek().copied().unwrap_or(' ');
        let is_word = next.is_alphanumeric();
        let breaks = match c {
            '@' | '#' => true,
            ':' => next == '/',
            // a command, or what follows the name of a host
            '/' => is_word && !before.is_alphanumeric() && before != '/',
            // names of hosts
            '.' => before.is_alphanumeric() && next.is_alphabetic(),
            _ => false,
        };
        if breaks && !next.is_whitespace() {
            broken.push(BREAK);
        }
        before = c;
    }
    broken
}

/// The text of a notification, line by line as [`inert`] makes it, but for the commands of the watchdog: they can be typed.
pub(super) fn inert_body(notification: &Notification) -> String {
    let own = Own::of(notification);
    let lines = notification.body.trim_end().lines();
    let lines: Vec<String> = lines.map(|line| inert_unless_own(line, &own)).collect();
    lines.join("\n")
}

/// A line of a notification, inert where it is no command of the watchdog.
pub(super) fn inert_unless_own(line: &str, own: &Own) -> String {
    if own.has(line) {
        line.to_owned()
    } else {
        inert(line)
    }
}

/// One inert line of so many units at most. What breaks links adds to its length.
pub(super) fn inert_line(text: &str, limit: usize, measure: fn(char) -> usize) -> String {
    let mut left = limit;
    loop {
        let inert = inert(&line(text, left, measure));
        let over = inert
            .chars()
            .map(measure)
            .sum::<usize>()
            .saturating_sub(limit);
        if over == 0 || left == 0 {
            return inert;
        }
        // a character comes to four at most
        left = left.saturating_sub((over / 4).max(1));
    }
}

/// The text of a notification for a telephone that shows it as it is: inert, and of so many units at most.
pub(super) fn pushed(
    notification: &Notification,
    limit: usize,
    measure: fn(char) -> usize,
) -> String {
    fitted(&inert_body(notification), limit, measure)
}

/// A text without a fence of code in it.
pub(super) fn unfenced(text: &str) -> String {
    text.replace('`', "`\u{200b}")
}

/// What a server said, in a line and without the secrets that it was sent.
pub(super) fn said(text: &str, secrets: &[String]) -> String {
    let masked = masked(text, secrets);
    cut(visible(masked.trim()).trim(), 200)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::shorten::{bytes, units};
    use proptest::prelude::*;

    #[test]
    fn nothing_is_recognised_in_an_inert_text() {
        for (text, inert_text) in [
            ("all is well.", "all is well."),
            ("@everyone", "@\u{200b}everyone"),
            ("a@b.cd", "a@\u{200b}b.\u{200b}cd"),
            (
                "see https://x.example/y",
                "see https:\u{200b}//x.\u{200b}example/y",
            ),
            ("#1 /start", "#\u{200b}1 /\u{200b}start"),
            ("12:30:01.5 3.5", "12:30:01.5 3.5"),
            ("/var/log/x", "/\u{200b}var/log/x"),
        ] {
            assert_eq!(inert(text), inert_text);
        }
    }

    #[test]
    fn a_line_is_as_long_as_it_may_be_once_it_is_inert() {
        assert_eq!(inert_line("a@b.cd", 100, units), "a@\u{200b}b.\u{200b}cd");
        let long = "a.".repeat(200) + "b\nc";
        let shown = inert_line(&long, 100, units);
        let length = shown.chars().map(units).sum::<usize>();
        assert!((95..=100).contains(&length), "{length}");
        assert!(shown.ends_with('…') && !shown.contains("\\u{200b}"));
    }

    #[test]
    fn what_a_server_said_has_no_secret_in_it() {
        assert_eq!(
            said("bad token s3cret-token\n", &["s3cret-token".to_owned()]),
            "bad token ***"
        );
    }

    proptest! {
        #[test]
        fn no_inert_line_is_longer_than_its_limit(text in "(?s).{0,200}", limit in 4_usize..250) {
            for measure in [bytes as fn(char) -> usize, units] {
                let length = inert_line(&text, limit, measure).chars().map(measure).sum::<usize>();
                prop_assert!(length <= limit);
            }
        }
    }
}
