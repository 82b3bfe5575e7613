//! What logs, programs and servers wrote, made fit for where it is shown: it mentions nobody, and is no markup and no link;
//! and cut to the limits of those who show it.

use super::Notification;
use crate::client::http::secrets::masked;
use crate::text::{cut, visible};

/// A character without width, that nothing is recognised across.
const BREAK: char = '\u{200b}';

/// What stands at the end of a text that was shortened.
const SHORTENED: &str = "\n[shortened]";

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

/// The text of a notification for a telephone that shows it as it is: inert, and of so many units at most.
pub(super) fn pushed(
    notification: &Notification,
    limit: usize,
    measure: fn(char) -> usize,
) -> String {
    // what breaks links adds to the length
    let text = shortened(notification.body.trim_end(), limit / 2, measure);
    shortened(&inert(&text), limit, measure)
}

/// A text without a fence of code in it.
pub(super) fn unfenced(text: &str) -> String {
    text.replace('`', "`\u{200b}")
}

/// The beginning of a text that has so many units at most, as `measure` counts each character, with a note where it was
/// shortened. Whole lines are kept where that costs little.
pub(super) fn shortened(text: &str, limit: usize, measure: fn(char) -> usize) -> String {
    let length = |text: &str| -> usize { text.chars().map(measure).sum() };
    if length(text) <= limit {
        return text.to_owned();
    }
    let room = limit.saturating_sub(length(SHORTENED));
    let mut used = 0;
    let mut end = 0;
    for (at, c) in text.char_indices() {
        used += measure(c);
        if used > room {
            break;
        }
        end = at + c.len_utf8();
    }
    let kept = &text[..end];
    let kept = match kept.rfind('\n') {
        Some(line) if line > kept.len() / 2 => &kept[..line],
        _ => kept,
    };
    if room == 0 {
        return String::new();
    }
    format!("{}{SHORTENED}", kept.trim_end())
}

/// One line of so many units at most.
pub(super) fn line(text: &str, limit: usize, measure: fn(char) -> usize) -> String {
    let text = visible(text);
    let whole: usize = text.chars().map(measure).sum();
    if whole <= limit {
        return text;
    }
    let mut used = measure('…');
    let fits = |c: &char| {
        used += measure(*c);
        used <= limit
    };
    let mut kept: String = text.chars().take_while(fits).collect();
    kept.push('…');
    kept
}

/// Bytes of UTF-8.
pub(super) fn bytes(c: char) -> usize {
    c.len_utf8()
}

/// Units of UTF-16, which are never fewer than characters.
pub(super) fn units(c: char) -> usize {
    c.len_utf16()
}

/// What a server said, in a line and without the secrets that it was sent.
pub(super) fn said(text: &str, secrets: &[String]) -> String {
    let masked = masked(text, secrets);
    cut(visible(masked.trim()).trim(), 200)
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn what_is_cut_says_so() {
        assert_eq!(shortened("abc", 3, bytes), "abc");
        assert_eq!(
            shortened("one two\nthree four five six", 24, bytes),
            "one two\n[shortened]"
        );
        assert_eq!(line("ab\ncd", 20, units), "ab\\x0acd");
        assert_eq!(line("abcdef", 4, units), "abc…");
        assert_eq!(
            said("bad token s3cret-token\n", &["s3cret-token".to_owned()]),
            "bad token ***"
        );
    }

    proptest! {
        #[test]
        fn no_text_is_longer_than_its_limit(text in "(?s).{0,200}", limit in 0_usize..250) {
            for measure in [bytes as fn(char) -> usize, units] {
                let length = |text: &str| -> usize { text.chars().map(measure).sum() };
                prop_assert!(length(&shortened(&text, limit, measure)) <= limit);
                prop_assert!(length(&line(&text, limit.max(4), measure)) <= limit.max(4));
            }
        }
    }
}
