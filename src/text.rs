//! Text of somebody else's, made safe to show.

/// Bytes of somebody else's as text that is safe on a terminal and in a mail: not more than `limit` bytes of
/// them, control characters escaped, what is not UTF-8 replaced.
pub fn printable(bytes: &[u8], limit: usize) -> String {
    use std::fmt::Write;
    let cut = bytes.len() > limit;
    let mut shown = String::new();
    for c in String::from_utf8_lossy(bytes.get(..limit).unwrap_or(bytes)).chars() {
        match c {
            '\t' => shown.push(' '),
            c if c.is_control() => {
                let _ = write!(shown, "\\x{:02x}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    if cut {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f75_control_characters_are_shown_not_sent() {
        assert_eq!(
            printable(b"\x1b[31mred\x07\r\n\ttab \xff \xc2\x9b", 100),
            "\\x1b[31mred\\x07\\x0d\\x0a tab \u{fffd} \\x9b"
        );
    }

    #[test]
    fn long_text_is_cut_and_says_so() {
        assert_eq!(printable(b"abcdef", 3), "abc…");
        assert_eq!(printable(b"abc", 3), "abc");
    }
}
