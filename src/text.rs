//! Text that came from elsewhere, made fit for a mail, a header or a terminal; and text of our own, cut and wrapped.
//!
//! Log lines, error texts and the replies of mail servers are written by others. What could move a cursor, forge
//! a header or turn a line around is shown as an escape, so that it is seen and does nothing.

use std::fmt::Write;
use std::path::Path;

/// The text with tabs as four spaces and every control and direction character as an escape: one line, always.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        push_visible(&mut shown, c);
    }
    shown
}

/// A path for a terminal, in one line.
pub fn visible_path(path: &Path) -> String {
    visible(&path.to_string_lossy())
}

/// The same for a text of several lines: line feeds stay, carriage returns before them go.
pub fn visible_lines(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            shown.push('\n');
        }
        for c in line.strip_suffix('\r').unwrap_or(line).chars() {
            push_visible(&mut shown, c);
        }
    }
    shown
}

/// Whether a character does something and shows nothing: controls, marks and fillers without a width of their own, line
/// separators, tags, and those that reverse the reading direction. Not the selectors of a variant, which are a part of
/// many an emoji.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// What is shown in the place of a character that [is unseen](is_invisible); nothing for all others. The one form of it:
/// what reaches a mail, a terminal or a log was written by this.
pub fn escape(c: char) -> Option<String> {
    match c {
        '\t' => Some("    ".to_owned()),
        c if c.is_control() => Some(format!("\\x{:02x}", u32::from(c))),
        c if is_invisible(c) => Some(format!("\\u{{{:x}}}", u32::from(c))),
        _ => None,
    }
}

fn push_visible(shown: &mut String, c: char) {
    match escape(c) {
        Some(escaped) => shown.push_str(&escaped),
        None => shown.push(c),
    }
}

/// At most `limit` characters of the text, with the last one an ellipsis where something was left out.
pub fn cut(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(limit.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

/// Breaks a text at spaces into lines of at most `width` characters; `first` leads the first line, `rest` the
/// others. A word that is longer than a line keeps a line of its own: paths and commands are never torn.
pub fn wrap(text: &str, first: &str, rest: &str, width: usize) -> String {
    let mut lines = Vec::new();
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !empty && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::replace(&mut line, rest.to_owned()));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push(line.trim_end().to_owned());
    lines.join("\n")
}

/// Bytes of somebody else's as one line of [`visible`] text: not more than `limit` bytes of them, an ellipsis where
/// some were left out; what is not UTF-8 is replaced.
pub fn printable(bytes: &[u8], limit: usize) -> String {
    let mut shown = visible(&String::from_utf8_lossy(
        bytes.get(..limit).unwrap_or(bytes),
    ));
    if bytes.len() > limit {
        shown.push('…');
    }
    shown
}

/// An I/O error without its number, in our case of letters.
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

/// The SHA-256 in hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut text = String::with_capacity(64);
    for byte in digest.as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f75_what_a_terminal_would_obey_is_shown() {
        assert_eq!(
            visible("a\x1b[31mred\x07\r\nX-Evil: 1\tb\x7f\u{9b}2J\u{202e}gnp.exe\0"),
            "a\\x1b[31mred\\x07\\x0d\\x0aX-Evil: 1    b\\x7f\\x9b2J\\u{202e}gnp.exe\\x00"
        );
        assert_eq!(visible("größe 5 µs – 漢字"), "größe 5 µs – 漢字");
        assert_eq!(visible_lines("a\r\nb\rc\n\x1b"), "a\nb\\x0dc\n\\x1b");
    }

    #[test]
    fn long_texts_are_cut_by_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
        assert_eq!(cut("ab", 0), "…");
    }

    #[test]
    fn lines_break_at_spaces_only() {
        assert_eq!(wrap("one two three", "- ", "  ", 9), "- one two\n  three");
        assert_eq!(
            wrap("see /a/very/long/path now", "", "", 8),
            "see\n/a/very/long/path\nnow"
        );
        assert_eq!(wrap("", "- ", "  ", 9), "-");
    }

    #[test]
    fn f75_bytes_are_shown_not_sent() {
        assert_eq!(
            printable(b"\x1b[31mred\x07\r\n\ttab \xff \xc2\x9b", 100),
            "\\x1b[31mred\\x07\\x0d\\x0a    tab \u{fffd} \\x9b"
        );
        assert_eq!(printable(b"abcdef", 3), "abc…");
        assert_eq!(printable(b"abc", 3), "abc");
    }

    #[test]
    fn no_text_shows_a_character_that_is_unseen() {
        for c in (0..=0x1_2000)
            .chain(0x1_d100..0x1_d200)
            .chain(0xd_fff0..0xe_1010)
            .filter_map(char::from_u32)
        {
            let shown = visible(&c.to_string());
            assert!(!shown.chars().any(is_invisible), "{c:?}");
            assert_eq!(shown == c.to_string(), !is_invisible(c), "{c:?}");
        }
        assert_eq!(visible("\u{26a0}\u{fe0f}"), "\u{26a0}\u{fe0f}", "an emoji");
    }
}
