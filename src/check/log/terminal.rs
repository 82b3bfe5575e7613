//! Sequences for terminals: colours, and whatever else moves a cursor. A person who reads a log does not see them, so they
//! are no part of a line.

use std::borrow::Cow;

use memchr::memchr;

pub(super) const ESC: u8 = 0x1b;

/// A text without sequences for terminals.
pub(super) fn without_sequences(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr(ESC, text) else {
        return Cow::Borrowed(text);
    };
    let mut plain = text[..first].to_vec();
    let mut rest = &text[first..];
    while !rest.is_empty() {
        let length = sequence(rest);
        // one that is none stands for itself
        let from = length.unwrap_or(0);
        let to = memchr(ESC, &rest[length.unwrap_or(1)..])
            .map_or(rest.len(), |at| at + length.unwrap_or(1));
        plain.extend_from_slice(&rest[from..to]);
        rest = &rest[to..];
    }
    Cow::Owned(plain)
}

/// How long a sequence is that begins with the ESC at the start of `text`, if it is whole: `ESC [ 31 m`, or `ESC ( B`,
/// which `tput sgr0` writes.
fn sequence(text: &[u8]) -> Option<usize> {
    let span = |from: usize, is: fn(u8) -> bool| {
        let rest = text.get(from..).unwrap_or_default();
        from + rest.iter().take_while(|byte| is(**byte)).count()
    };
    let is_intermediate = |byte| matches!(byte, 0x20..=0x2f);
    let (at, least) = match *text.get(1)? {
        b'[' => {
            let parameters = span(2, |byte| matches!(byte, 0x30..=0x3f));
            (span(parameters, is_intermediate), 0x40)
        }
        0x20..=0x2f => (span(1, is_intermediate), 0x30),
        _ => return None,
    };
    let ending = *text.get(at)?;
    (least..=0x7e).contains(&ending).then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_no_part_of_a_text() {
        for (text, plain) in [
            ("", ""),
            ("plain", "plain"),
            ("\x1b[31mred\x1b[0m", "red"),
            ("[\x1b[1;31mERROR\x1b[m] x", "[ERROR] x"),
            ("\x1b[38;5;196m\x1b[48;2;1;2;3ma", "a"),
            ("a\x1b[2Kb\x1b[?25lc\x1b[10 qd", "abcd"),
            ("a\x1b(B\x1b[mb", "ab"),
            ("\x1b[0m\x1b[0m", ""),
            // what is no whole sequence
            ("a\x1b", "a\x1b"),
            ("a\x1b[31", "a\x1b[31"),
            ("a\x1b[31\nb", "a\x1b[31\nb"),
            ("\x1b\x1b[1mb", "\x1bb"),
            ("\x1b[\x1b[1mb", "\x1b[b"),
            ("\x1b[\u{e4}", "\x1b[\u{e4}"),
            ("\x1bxb", "\x1bxb"),
        ] {
            let found = without_sequences(text.as_bytes());
            assert_eq!(String::from_utf8_lossy(&found), plain, "{text:?}");
            let is_borrowed = matches!(found, Cow::Borrowed(_));
            assert_eq!(is_borrowed, !text.contains('\x1b'), "{text:?}");
        }
    }
}
