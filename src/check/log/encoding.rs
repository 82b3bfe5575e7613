//! How the characters of a log are stored, and so where its lines end.
//!
//! Nearly all logs are bytes of which a line end is one, and nothing is decoded. Programs made for Windows write UTF-16,
//! with a byte order mark at the beginning of the file. A line ends with LF, with CR LF, or with CR alone: that is how a
//! program redraws a line of its statistics.

use std::ops::Range;

use memchr::{memchr2, memrchr2};
use serde::{Deserialize, Serialize};

use super::terminal::ESC;

/// How characters are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// As bytes that contain ASCII: UTF-8, Latin-1 and the like.
    #[default]
    Bytes,
    /// As units of two bytes, the low one first.
    Utf16Le,
    /// As units of two bytes, the high one first.
    Utf16Be,
}

const LF: u16 = 0x0a;
const CR: u16 = 0x0d;

impl Encoding {
    /// What the beginning of a file says of it.
    ///
    /// A mark alone may be bytes of any kind: text in UTF-16 has an ASCII character soon.
    pub(super) fn of_mark(beginning: &[u8]) -> Self {
        let encoding = match beginning {
            [0xff, 0xfe, ..] => Self::Utf16Le,
            [0xfe, 0xff, ..] => Self::Utf16Be,
            _ => return Self::Bytes,
        };
        if beginning.len() < 4 || encoding.fits(&beginning[2..]) {
            encoding
        } else {
            Self::Bytes
        }
    }

    /// Whether a text is the mark at the beginning of a file, and nothing else.
    pub(super) fn is_mark(self, text: &[u8]) -> bool {
        self != Self::Bytes && self.units(text).eq([0xfeff])
    }

    /// Whether some of the text is an ASCII character of this encoding. `text` begins with a whole unit.
    pub(super) fn fits(self, text: &[u8]) -> bool {
        self == Self::Bytes || self.units(text).any(|unit| (1..0x80).contains(&unit))
    }

    /// So many bytes are one unit.
    pub(super) fn unit(self) -> u64 {
        if self == Self::Bytes { 1 } else { 2 }
    }

    /// The last boundary of a unit at or before a place in the file.
    pub(super) fn floor(self, at: u64) -> u64 {
        at - at % self.unit()
    }

    /// The first boundary of a unit at or after a place in the file.
    pub(super) fn ceil(self, at: u64) -> u64 {
        at.saturating_add(at % self.unit())
    }

    fn units(self, text: &[u8]) -> impl DoubleEndedIterator<Item = u16> + ExactSizeIterator {
        text.chunks_exact(2).map(move |pair| {
            let pair = [pair[0], pair[1]];
            if self == Self::Utf16Be {
                u16::from_be_bytes(pair)
            } else {
                u16::from_le_bytes(pair)
            }
        })
    }

    /// The text in UTF-8; of bytes, there is nothing to do.
    pub(super) fn decode(self, text: &[u8]) -> Option<Vec<u8>> {
        if self == Self::Bytes {
            return None;
        }
        let mut decoded = String::with_capacity(text.len());
        let characters = char::decode_utf16(self.units(text));
        decoded.extend(characters.map(|found| found.unwrap_or(char::REPLACEMENT_CHARACTER)));
        Some(decoded.into_bytes())
    }

    /// The place of the first line end: of CR and LF both.
    pub(super) fn next_end(self, text: &[u8]) -> Option<Range<usize>> {
        if self == Self::Bytes {
            let at = memchr2(b'\n', b'\r', text)?;
            let both = text[at] == b'\r' && text.get(at + 1) == Some(&b'\n');
            return Some(at..at + 1 + usize::from(both));
        }
        let at = self.units(text).position(|unit| unit == LF || unit == CR)?;
        let both =
            self.begins_with(CR, &text[2 * at..]) && self.begins_with(LF, &text[2 * at + 2..]);
        Some(2 * at..2 * at + 2 + 2 * usize::from(both))
    }

    /// The place of the last line end: of CR and LF both.
    pub(super) fn last_end(self, text: &[u8]) -> Option<Range<usize>> {
        if self == Self::Bytes {
            let at = memrchr2(b'\n', b'\r', text)?;
            let both = text[at] == b'\n' && text[..at].ends_with(b"\r");
            return Some(at - usize::from(both)..at + 1);
        }
        let at = self
            .units(text)
            .rposition(|unit| unit == LF || unit == CR)?;
        let both = self.begins_with(LF, &text[2 * at..]) && self.ends_with_cr(&text[..2 * at]);
        Some(2 * at - 2 * usize::from(both)..2 * at + 2)
    }

    /// The places of the line ends, the last first.
    pub(super) fn ends_backwards(self, text: &[u8]) -> impl Iterator<Item = Range<usize>> + Clone {
        let mut to = text.len();
        std::iter::from_fn(move || {
            let end = self.last_end(&text[..to])?;
            to = end.start;
            Some(end)
        })
    }

    /// Whether every line end is one LF, and nothing is to be decoded or left out.
    pub(super) fn is_plain(self, text: &[u8]) -> bool {
        self == Self::Bytes && memchr2(b'\r', ESC, text).is_none()
    }

    /// How many line ends there are.
    pub(super) fn count_ends(self, text: &[u8]) -> usize {
        self.ends_backwards(text).count()
    }

    fn begins_with(self, unit: u16, text: &[u8]) -> bool {
        self.units(text).next() == Some(unit)
    }

    /// Whether the first character is the second half of a line end, if the text follows a CR.
    pub(super) fn begins_with_lf(self, text: &[u8]) -> bool {
        match self {
            Self::Bytes => text.first() == Some(&b'\n'),
            _ => self.begins_with(LF, text),
        }
    }

    /// Whether the last character is a CR. `text` is of whole units.
    pub(super) fn ends_with_cr(self, text: &[u8]) -> bool {
        match self {
            Self::Bytes => text.last() == Some(&b'\r'),
            _ => self.units(text).next_back() == Some(CR),
        }
    }

    /// Whether the last character ends a line. `text` is of whole units.
    pub(super) fn ends_with_end(self, text: &[u8]) -> bool {
        match self {
            Self::Bytes => matches!(text.last(), Some(b'\n' | b'\r')),
            _ => matches!(self.units(text).next_back(), Some(LF | CR)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A text as it is stored.
    pub(in crate::check::log) fn stored(encoding: Encoding, text: &str) -> Vec<u8> {
        match encoding {
            Encoding::Bytes => text.as_bytes().to_vec(),
            Encoding::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Encoding::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        }
    }

    const ALL: [Encoding; 3] = [Encoding::Bytes, Encoding::Utf16Le, Encoding::Utf16Be];

    #[test]
    fn a_line_ends_with_lf_cr_lf_or_cr_alone() {
        for (text, lines) in [
            ("", &[""][..]),
            ("a", &["a"]),
            ("a\nb", &["a", "b"]),
            ("a\r\nb\r\n", &["a", "b", ""]),
            ("a\rb\r", &["a", "b", ""]),
            ("\r\r\n\n\r", &["", "", "", "", ""]),
            ("\n\r\n", &["", "", ""]),
            ("\u{a0a}\u{d0d}x\n", &["\u{a0a}\u{d0d}x", ""]),
        ] {
            for encoding in ALL {
                let stored = stored(encoding, text);
                let decode = |line: &[u8]| {
                    let decoded = encoding.decode(line).unwrap_or_else(|| line.to_vec());
                    String::from_utf8(decoded).unwrap()
                };
                let mut rest = &*stored;
                let mut forwards = Vec::new();
                while let Some(end) = encoding.next_end(rest) {
                    forwards.push(decode(&rest[..end.start]));
                    rest = &rest[end.end..];
                }
                forwards.push(decode(rest));
                assert_eq!(forwards, lines, "{encoding:?} {text:?}");
                let mut to = stored.len();
                let mut backwards = Vec::new();
                for end in encoding.ends_backwards(&stored) {
                    backwards.push(decode(&stored[end.end..to]));
                    to = end.start;
                }
                backwards.push(decode(&stored[..to]));
                backwards.reverse();
                assert_eq!(backwards, lines, "{encoding:?} {text:?}");
                assert_eq!(encoding.count_ends(&stored), lines.len() - 1, "{text:?}");
                assert_eq!(
                    encoding.ends_with_end(&stored),
                    text.ends_with(['\r', '\n'])
                );
                assert_eq!(encoding.ends_with_cr(&stored), text.ends_with('\r'));
                assert_eq!(encoding.begins_with_lf(&stored), text.starts_with('\n'));
            }
        }
    }

    #[test]
    fn a_byte_order_mark_before_text_says_how_it_is_stored() {
        use Encoding::{Bytes, Utf16Be, Utf16Le};
        for (beginning, expected) in [
            (&b""[..], Bytes),
            (b"\xff", Bytes),
            (b"\xff\xfe", Utf16Le),
            (b"\xfe\xff", Utf16Be),
            (b"\xff\xfea\0", Utf16Le),
            (b"\xfe\xff\0a", Utf16Be),
            (b"\xff\xfe\x10\x04 \0", Utf16Le),
            // bytes of some other kind
            (b"\xff\xfe ERROR \x80\n", Bytes),
            (b"\xfe\xffa\0b\0", Bytes),
            (b"a\0b\0", Bytes),
        ] {
            assert_eq!(Encoding::of_mark(beginning), expected, "{beginning:?}");
        }
    }

    #[test]
    fn what_is_no_character_is_replaced() {
        let decode = |bytes: &[u8]| String::from_utf8(Encoding::Utf16Le.decode(bytes).unwrap());
        assert_eq!(decode(b"\x3d\xd8\0\xde!\0").unwrap(), "\u{1f600}!");
        assert_eq!(decode(b"\x3d\xd8!\0").unwrap(), "\u{fffd}!");
        // half a unit is none
        assert_eq!(decode(b"a\0b").unwrap(), "a");
    }
}
