//! The lines of a stream, as a check sees those of a file: decoded, cut, without sequences for terminals.

use std::io::{self, Read};
use std::ops::ControlFlow;

use super::super::encoding::Encoding;
use super::super::fingerprint::HEAD;
use super::super::tail::{self, LINE, read_line};

/// What is read at once.
const CHUNK: usize = 256 << 10;

/// How a stream was read.
#[derive(Debug)]
pub(super) struct Reading {
    /// How its characters are stored.
    pub(super) encoding: Encoding,
    /// What ended it, where that was neither its end nor who asked.
    pub(super) error: Option<io::Error>,
}

/// Gives out the lines of a stream, the last one also where it has no end, until it is told to stop. What was read before an
/// error was given out.
///
/// A line that is too long is given out once, cut; `inherited` is how the log was stored before.
pub(super) fn each_line(
    mut source: impl Read,
    inherited: Encoding,
    mut give: impl FnMut(&[u8], bool) -> ControlFlow<()>,
) -> Reading {
    let mut buffer = Vec::new();
    let mut error = None;
    let mut is_end = false;
    let mut fill = |buffer: &mut Vec<u8>, is_end: &mut bool, error: &mut Option<io::Error>| {
        let before = buffer.len();
        buffer.resize(before + CHUNK, 0);
        let length = loop {
            match source.read(&mut buffer[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let length = length.unwrap_or_else(|why| {
            *error = Some(why);
            0
        });
        *is_end = length == 0;
        buffer.truncate(before + length);
    };
    let head = usize::try_from(HEAD).unwrap_or(1024);
    while buffer.len() < head && !is_end {
        fill(&mut buffer, &mut is_end, &mut error);
    }
    let mut encoding = Encoding::of_mark(&buffer[..buffer.len().min(head)]);
    if encoding == Encoding::Bytes && inherited.fits(&buffer[..buffer.len().min(head) & !1]) {
        encoding = inherited;
    }
    let limit = tail::limit(encoding);
    let mut from = 0;
    // within a line that was given out already
    let mut passing = false;
    loop {
        let rest = &buffer[from..];
        let end = encoding.next_end(rest).filter(|end| {
            // a LF may follow the CR
            is_end || end.end < rest.len() || !encoding.ends_with_cr(&rest[..end.end])
        });
        if let Some(end) = end {
            let line = &rest[..end.start];
            from += end.end;
            if !std::mem::take(&mut passing) {
                let is_cut = line.len() - tail::zeros(encoding, line) > limit;
                let mut flow = ControlFlow::Continue(());
                read_line(encoding, line, |text| flow = give(text, is_cut));
                if flow.is_break() {
                    break;
                }
            }
            continue;
        }
        if is_end {
            let is_line = rest.len() > tail::zeros(encoding, rest) && !encoding.is_mark(rest);
            if is_line && !passing {
                read_line(encoding, rest, |text| {
                    let _ = give(text, rest.len() > LINE);
                });
            }
            break;
        }
        // a hole before a line is no part of it
        let hole = if passing {
            0
        } else {
            tail::zeros(encoding, rest)
        };
        if passing || rest.len() - hole > limit {
            if !std::mem::replace(&mut passing, true) {
                let mut flow = ControlFlow::Continue(());
                read_line(encoding, &rest[hole..], |text| flow = give(text, true));
                if flow.is_break() {
                    break;
                }
            }
            // of what is passed over, the last unit may be the CR of an end
            let kept = rest.len() - rest.len().min(2 + rest.len() % 2);
            buffer.drain(..from + kept);
        } else {
            buffer.drain(..from + hole);
        }
        from = 0;
        fill(&mut buffer, &mut is_end, &mut error);
    }
    Reading { encoding, error }
}

#[cfg(test)]
mod tests {
    use super::super::super::encoding::tests::stored;
    use super::*;

    /// Gives so much at once.
    struct Steps<'a>(&'a [u8], usize);

    impl Read for Steps<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(out.len());
            out[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    fn lines(content: &[u8], at_once: usize) -> Vec<(String, bool)> {
        let mut lines = Vec::new();
        let read = each_line(Steps(content, at_once), Encoding::Bytes, |line, cut| {
            lines.push((String::from_utf8_lossy(line).into_owned(), cut));
            ControlFlow::Continue(())
        });
        assert!(read.error.is_none());
        lines
    }

    #[test]
    fn lines_are_those_of_a_check_in_any_steps() {
        for (content, expected) in [
            ("", &[][..]),
            ("a", &["a"]),
            ("a\n\nb\n", &["a", "", "b"]),
            ("a\r\nb\rc\r", &["a", "b", "c"]),
            ("\u{1b}[31mred\u{1b}[0m\nplain", &["red", "plain"]),
            ("\0\0\0\0a\n\0\0b\n\0\0", &["a", "b"]),
        ] {
            for encoding in [Encoding::Bytes, Encoding::Utf16Le, Encoding::Utf16Be] {
                let mut bytes = Vec::new();
                if encoding != Encoding::Bytes {
                    bytes.extend(stored(encoding, "\u{feff}"));
                }
                bytes.extend(stored(encoding, content));
                for at_once in [1, 2, 3, 1000] {
                    let found: Vec<String> = lines(&bytes, at_once)
                        .into_iter()
                        .map(|(line, _)| line)
                        .collect();
                    assert_eq!(found, expected, "{encoding:?} {content:?} {at_once}");
                }
            }
        }
    }

    #[test]
    fn a_line_without_an_end_takes_no_memory_and_is_given_out_once() {
        let mut content = vec![b'x'; 3 << 20];
        content.extend(b"\nnext\r\n");
        content.extend(vec![0; 3 << 20]);
        content.extend(b"after a hole\n");
        for at_once in [4096, 1 << 20] {
            let found = lines(&content, at_once);
            let shown: Vec<(usize, bool)> =
                found.iter().map(|(line, cut)| (line.len(), *cut)).collect();
            assert_eq!(shown, [(LINE, true), (4, false), (12, false)], "{at_once}");
        }
    }

    #[test]
    fn who_has_seen_enough_is_given_no_more() {
        let mut count = 0;
        each_line(&b"a\nb\nc\n"[..], Encoding::Bytes, |_, _| {
            count += 1;
            if count == 2 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert_eq!(count, 2);
    }
}
