//! Lines of a log: the last ones read backwards, the new ones forwards, both with bounds.
//!
//! What is read never depends on the size of the log, only on the bounds here.

use std::io;
use std::ops::Deref;

use memchr::{memchr, memchr_iter, memrchr, memrchr_iter};

use super::bytes::{BLOCK, Bytes, Part};

/// A line is cut here: what is beyond is not searched.
pub(super) const LINE: usize = 64 << 10;

/// What is read at once forwards.
const CHUNK: u64 = 256 << 10;

/// A line as patterns see it: without the zeros that a hole puts before it, without its line end, and cut.
pub(super) fn clean(line: &[u8]) -> &[u8] {
    let zeros = line.iter().take_while(|byte| **byte == 0).count();
    let line = &line[zeros..];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    &line[..line.len().min(LINE)]
}

/// The end of a file.
#[derive(Debug)]
pub(super) struct Window {
    /// From `start` to the end. What is before the lines that were asked for may be in it.
    pub(super) bytes: Part,
    /// Where `bytes` starts in the file.
    pub(super) start: u64,
    /// So many complete lines were asked for and are there.
    pub(super) count: usize,
    /// There are more of them than were asked for.
    pub(super) more: bool,
    /// It was the bound that ended the way back, so that the first line is perhaps not whole.
    pub(super) cut: bool,
}

impl Window {
    /// The complete lines, the newest first. They are looked for as they are asked for: few are, of a log that is well.
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let mut ends = memrchr_iter(b'\n', &self.bytes);
        let mut end = ends.next();
        let line = move || {
            let to = end?;
            end = ends.next();
            let from = end.map_or(0, |before| before + 1);
            Some(&self.bytes[from..to])
        };
        std::iter::from_fn(line).take(self.count)
    }

    /// What follows the last complete line.
    pub(super) fn rest(&self) -> &[u8] {
        let from = memrchr(b'\n', &self.bytes).map_or(0, |end| end + 1);
        &self.bytes[from..]
    }

    /// Where the first of the lines begins in the file.
    pub(super) fn begin(&self) -> u64 {
        if !self.more {
            return self.start;
        }
        let before = memrchr_iter(b'\n', &self.bytes).nth(self.count);
        self.start + before.map_or(0, |end| end as u64 + 1)
    }
}

/// Reads the last `count` complete lines before `end` and what follows them, but no more than `limit` bytes.
pub(super) fn last(file: &Bytes, end: u64, count: usize, limit: u64) -> io::Result<Window> {
    let floor = end.saturating_sub(limit);
    let mut parts = Vec::new();
    let mut found = 0;
    let mut start = end;
    let mut length = BLOCK;
    // the line end before the first line wanted is one more
    while start > floor && found <= count {
        let len = length.min(start - floor);
        start -= len;
        let part = file.read(start, len)?;
        found += memchr_iter(b'\n', &part).count();
        parts.push(part);
        length = (length * 2).min(CHUNK);
    }
    let bytes = match parts.pop() {
        Some(part) if parts.is_empty() => part,
        first => {
            let parts: Vec<&[u8]> = first
                .iter()
                .chain(parts.iter().rev())
                .map(Deref::deref)
                .collect();
            parts.concat().into()
        }
    };
    Ok(Window {
        bytes,
        start,
        count: found.min(count),
        more: found > count,
        cut: found <= count && start > 0,
    })
}

/// Whether a file of `size` bytes ends within a line.
pub(super) fn ends_inside(file: &Bytes, size: u64) -> io::Result<bool> {
    match size.checked_sub(1) {
        None => Ok(false),
        Some(last) => Ok(*file.read(last, 1)? != *b"\n"),
    }
}

/// Where reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Everything before was given out.
    pub(super) offset: u64,
    /// `offset` is within a line that was given out, or left out: the rest of it is not a line.
    pub(super) inside: bool,
}

/// What is new in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByteRange {
    /// Where to begin.
    pub(super) from: u64,
    /// Where to end.
    pub(super) to: u64,
    /// So many bytes at the beginning are left out, and the line that is torn so with them.
    pub(super) skip: u64,
    /// It begins within a line, of which the rest is passed over.
    pub(super) inside: bool,
    /// A last line without an end is given out too.
    pub(super) as_it_is: bool,
}

/// Reads a stretch of a file and gives out its lines, cleaned, each with whether it was cut.
///
/// Where something is left out and the first line is too long for a line anyway, its first part is given out
/// all the same: it is a line that was cut, not one that was left out.
pub(super) fn each_line(
    file: &Bytes,
    stretch: ByteRange,
    mut give: impl FnMut(&[u8], bool),
) -> io::Result<End> {
    let to = stretch.to;
    let mut from = stretch.from.saturating_add(stretch.skip).min(to);
    let torn = from > stretch.from;
    if torn && !stretch.inside && to - stretch.from > LINE as u64 {
        let head = file.read(stretch.from, LINE as u64)?;
        if memchr(b'\n', &head).is_none() {
            give(clean(&head), true);
        }
    }
    if torn && from == to {
        return Ok(End {
            offset: to,
            inside: ends_inside(file, to)?,
        });
    }
    // the beginning of a line whose end is in a later chunk, without the zeros before it
    let mut carry: Vec<u8> = Vec::new();
    let mut begun = from;
    let mut passing = stretch.inside || torn;
    let mut first = torn;
    while from < to {
        let chunk = file.read(from, CHUNK.min(to - from))?;
        // a bound that fell into a hole did not fall into a line
        if std::mem::take(&mut first) && chunk.first() == Some(&0) {
            passing = false;
        }
        let mut rest: &[u8] = &chunk;
        while let Some(at) = memchr(b'\n', rest) {
            let piece = &rest[..at];
            rest = &rest[at + 1..];
            begun = from + (chunk.len() - rest.len()) as u64;
            if passing {
                passing = false;
            } else if carry.is_empty() {
                let zeros = piece.iter().take_while(|byte| **byte == 0).count();
                give(clean(piece), piece.len() - zeros > LINE + 1);
            } else {
                extend(&mut carry, piece);
                give(clean(&carry), carry.len() > LINE + 1);
                carry.clear();
            }
        }
        if !passing {
            extend(&mut carry, rest);
        }
        from += chunk.len() as u64;
    }
    if passing {
        return Ok(End {
            offset: to,
            inside: true,
        });
    }
    if begun == to {
        return Ok(End {
            offset: to,
            inside: false,
        });
    }
    // of a line as long as this, nothing that is to come would be searched
    let long = carry.len() > LINE;
    if stretch.as_it_is || long {
        give(clean(&carry), long);
        return Ok(End {
            offset: to,
            inside: true,
        });
    }
    Ok(End {
        offset: begun,
        inside: false,
    })
}

/// Adds to a line what of it can matter: nothing beyond the cut (and a byte more, and a carriage return), no
/// zeros at its beginning.
fn extend(carry: &mut Vec<u8>, piece: &[u8]) {
    let zeros = if carry.is_empty() {
        piece.iter().take_while(|byte| **byte == 0).count()
    } else {
        0
    };
    let room = (LINE + 2).saturating_sub(carry.len());
    let piece = &piece[zeros..];
    carry.extend_from_slice(&piece[..piece.len().min(room)]);
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::bytes::tests::file;
    use super::*;

    /// How often this thread has read so far.
    fn reads() -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/io").unwrap();
        let line = text.lines().find(|line| line.starts_with("syscr")).unwrap();
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn the_way_back_takes_longer_and_longer_steps() {
        let (file, end) = file(&vec![b'x'; 2 << 20]);
        let before = reads();
        assert_eq!(last(&file, end, 1, 1 << 20).unwrap().start, 1 << 20);
        let count = reads() - before;
        assert!(count < 15, "{count} reads");
    }

    #[test]
    fn the_last_lines_and_what_follows() {
        for (content, count, bytes, cut) in [
            ("", 3, "", false),
            ("a", 3, "a", false),
            ("a\n", 3, "a\n", false),
            ("a\nb\nc\n", 2, "b\nc\n", false),
            ("a\nb\nc", 1, "b\nc", false),
            ("a\nb\nc\n", 3, "a\nb\nc\n", false),
            ("\n\n\n", 2, "\n\n", false),
            ("aaaaaaaaaaaa", 1, "aaaaaaaa", true),
            ("aaaaaaaaaa\nb\n", 2, "aaaaa\nb\n", true),
            ("aaaaaaaaaa\nb\n", 1, "b\n", false),
        ] {
            let (file, end) = file(content.as_bytes());
            let window = last(&file, end, count, 8).unwrap();
            let begin = window.begin();
            let skipped = usize::try_from(begin - window.start).unwrap();
            assert_eq!(
                (&window.bytes[skipped..], window.cut),
                (bytes.as_bytes(), cut),
                "{content:?} {count}"
            );
            assert_eq!(begin, end - bytes.len() as u64);
            assert_eq!(window.more, skipped > 0);
            let mut lines: Vec<&[u8]> = bytes.as_bytes().split(|byte| *byte == b'\n').collect();
            assert_eq!(window.rest(), lines.pop().unwrap());
            lines.reverse();
            assert_eq!(window.count, lines.len());
            assert_eq!(window.lines().collect::<Vec<_>>(), lines);
        }
    }

    #[test]
    fn lines_across_blocks_are_whole() {
        let mut content = Vec::new();
        for i in 0..5000 {
            writeln!(content, "{i} {}", "x".repeat(i % 997)).unwrap();
        }
        let (file, end) = file(&content);
        for count in [1, 30, 100, 4999, 5000, 6000] {
            let window = last(&file, end, count, u64::MAX).unwrap();
            let lines: Vec<&[u8]> = window.lines().collect();
            assert_eq!(lines.len(), count.min(5000));
            assert_eq!(window.more, count < 5000);
            assert!(window.rest().is_empty());
            for (line, number) in lines.into_iter().zip((0..5000).rev()) {
                let expected = format!("{number} {}", "x".repeat(number % 997));
                assert_eq!(line, expected.as_bytes(), "{count}");
            }
        }
    }

    fn stretch(from: u64, to: u64) -> ByteRange {
        ByteRange {
            from,
            to,
            skip: 0,
            inside: false,
            as_it_is: false,
        }
    }

    fn collect(file: &Bytes, stretch: ByteRange) -> (Vec<Vec<u8>>, End) {
        let mut lines = Vec::new();
        let end = each_line(file, stretch, |line, _| lines.push(line.to_vec())).unwrap();
        (lines, end)
    }

    #[test]
    fn an_unfinished_line_is_kept_back_or_taken_as_it_is() {
        let (file, to) = file(b"a\r\nb\nhal");
        let (lines, end) = collect(&file, stretch(0, to));
        assert_eq!(lines, [b"a", b"b"]);
        assert_eq!(
            end,
            End {
                offset: 5,
                inside: false
            }
        );
        let as_it_is = ByteRange {
            as_it_is: true,
            ..stretch(5, to)
        };
        let (lines, end) = collect(&file, as_it_is);
        assert_eq!(lines, [b"hal"]);
        assert_eq!(
            end,
            End {
                offset: 8,
                inside: true
            }
        );
        let inside = ByteRange {
            inside: true,
            ..stretch(1, to)
        };
        assert_eq!(collect(&file, inside).0, [b"b"]);
    }

    #[test]
    fn a_long_line_is_given_once_cut_and_at_once() {
        let mut content = vec![b'x'; 3 * LINE];
        content[0] = b'E';
        let (file, to) = file(&content);
        let mut seen = Vec::new();
        let end = each_line(&file, stretch(0, to), |line, cut| {
            seen.push((line.len(), line[0], cut));
        });
        assert_eq!(seen, [(LINE, b'E', true)]);
        assert_eq!(
            end.unwrap(),
            End {
                offset: to,
                inside: true
            }
        );
    }

    #[test]
    fn of_a_line_that_is_torn_nothing_is_given_out_but_a_beginning_that_is_a_line() {
        let long = u64::try_from(LINE).unwrap();
        let x = |count: usize| vec![b'x'; count];
        let with = |parts: &[&[u8]]| parts.concat();
        let chunk = usize::try_from(CHUNK).unwrap();
        for (what, content, from, skip, inside, lines, end) in [
            (
                "a part of a line",
                with(&[b"abcdef\nghi\n"]),
                0,
                3,
                false,
                vec![3],
                (11, false),
            ),
            (
                "a part of one that was judged",
                with(&[b"abcdef\nghi\n"]),
                1,
                3,
                true,
                vec![3],
                (11, false),
            ),
            (
                "all",
                with(&[b"abc\ndef\n"]),
                0,
                8,
                false,
                vec![],
                (8, false),
            ),
            (
                "all, and no end",
                with(&[b"abc\ndef"]),
                0,
                7,
                false,
                vec![],
                (7, true),
            ),
            (
                "more than all",
                with(&[b"abc\n"]),
                0,
                9,
                false,
                vec![],
                (4, false),
            ),
            (
                "not as long as a line can be",
                x(LINE),
                0,
                10,
                false,
                vec![],
                (long, true),
            ),
            (
                "longer",
                x(LINE + 1),
                0,
                10,
                false,
                vec![LINE],
                (long + 1, true),
            ),
            (
                "longer, and judged",
                x(LINE + 1),
                0,
                10,
                true,
                vec![],
                (long + 1, true),
            ),
            (
                "short, far in",
                with(&[&x(LINE), b"\n", &x(100)]),
                long + 1,
                10,
                false,
                vec![],
                (long + 101, true),
            ),
            (
                "a hole",
                with(&[b"abc\0\0\0def\n"]),
                0,
                4,
                false,
                vec![3],
                (10, false),
            ),
            // what is passed over goes on in the next chunk, whatever that begins with
            (
                "a zero further on",
                with(&[&x(chunk + 10), b"\0abc\ndef\n"]),
                0,
                10,
                true,
                vec![3],
                (CHUNK + 19, false),
            ),
        ] {
            let (file, to) = file(&content);
            let stretch = ByteRange {
                skip,
                inside,
                ..stretch(from, to)
            };
            let (found, ended) = collect(&file, stretch);
            let lengths: Vec<usize> = found.iter().map(Vec::len).collect();
            assert_eq!(lengths, lines, "{what}");
            assert_eq!((ended.offset, ended.inside), end, "{what}");
        }
    }

    #[test]
    fn an_unfinished_line_is_given_out_when_nothing_to_come_could_matter() {
        for (length, given) in [(LINE, 0), (LINE + 1, 1), (3 * LINE, 1)] {
            let (file, to) = file(&vec![b'x'; length]);
            let (lines, end) = collect(&file, stretch(0, to));
            assert_eq!(lines.len(), given, "{length}");
            assert_eq!((end.offset, end.inside), (to * given as u64, given == 1));
        }
    }

    #[test]
    fn that_a_line_was_cut_is_said_of_what_is_longer_than_a_line() {
        let chunk = usize::try_from(CHUNK).unwrap();
        // in a chunk, and across the end of one
        for before in [0, chunk - 1000] {
            for (zeros, length, cut) in [
                (0, 1, false),
                (0, LINE, false),
                // a carriage return belongs to no line
                (0, LINE + 1, false),
                (0, LINE + 2, true),
                (9, LINE, false),
                (9, LINE + 2, true),
                (100, 100, false),
            ] {
                let mut content = vec![b'\n'; before];
                content.resize(before + zeros, 0);
                content.resize(before + zeros + length, b'x');
                content.extend_from_slice(b"\nnext\n");
                let (file, to) = file(&content);
                let mut seen = Vec::new();
                each_line(&file, stretch(0, to), |line, cut| {
                    seen.push((line.len(), cut));
                })
                .unwrap();
                assert_eq!(
                    seen[before..],
                    [(length.min(LINE), cut), (4, false)],
                    "{before} {zeros}"
                );
            }
        }
    }

    #[test]
    fn chunks_do_not_tear_lines() {
        let mut content = Vec::new();
        for i in 0..9000 {
            writeln!(content, "{i} {}", "y".repeat(i % 101)).unwrap();
        }
        assert!(content.len() as u64 > CHUNK);
        let (file, to) = file(&content);
        let (lines, end) = collect(&file, stretch(0, to));
        assert_eq!(lines.len(), 9000);
        for (i, line) in lines.iter().enumerate() {
            assert_eq!(line, format!("{i} {}", "y".repeat(i % 101)).as_bytes());
        }
        assert_eq!(end.offset, to);
    }

    #[test]
    fn zeros_of_a_hole_do_not_use_up_a_line() {
        let mut content = vec![0; 512 << 10];
        content.extend_from_slice(b"ERROR\nb\n");
        let (file, to) = file(&content);
        assert_eq!(
            collect(&file, stretch(0, to)).0,
            [b"ERROR".to_vec(), b"b".to_vec()]
        );
    }

    #[test]
    fn a_file_that_ends_early_is_an_error() {
        let (file, to) = file(b"a\n");
        let error = each_line(&file, stretch(0, to + 5), |_, _| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
