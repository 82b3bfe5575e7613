//! Lines of a log: the last ones read backwards, the new ones forwards, both with bounds.
//!
//! What is read never depends on the size of the log, only on the bounds here.

use std::borrow::Cow;
use std::io;
use std::ops::Deref;

use memchr::{memchr_iter, memrchr_iter};

use super::bytes::{BLOCK, Bytes, Part};
use super::encoding::Encoding;
use super::terminal;

/// A line is cut here: what is beyond is not searched.
pub(super) const LINE: usize = 64 << 10;

/// What is read at once forwards: whole units of any encoding.
const CHUNK: u64 = 256 << 10;

/// A line of a text as patterns see it: without a byte order mark, without the zeros that a hole puts before it, and cut.
pub(super) fn clean(line: &[u8]) -> &[u8] {
    let mut line = line;
    while let Some(rest) = line
        .strip_prefix(b"\0")
        .or_else(|| line.strip_prefix("\u{feff}".as_bytes()))
    {
        line = rest;
    }
    &line[..line.len().min(LINE)]
}

/// The same of what stands in a file, decoded and without sequences for terminals.
pub(super) fn read_line(encoding: Encoding, line: &[u8], give: impl FnOnce(&[u8])) {
    let decoded = encoding.decode(line);
    let text = terminal::without_sequences(decoded.as_deref().unwrap_or(line));
    give(clean(&text));
}

/// The end of a file.
#[derive(Debug)]
pub(super) struct Window {
    /// From `start` to the end, as it stands in the file. What is before the lines that were asked for may be in it.
    pub(super) bytes: Part,
    encoding: Encoding,
    /// The same decoded, without sequences for terminals: with the same line ends.
    text: Part,
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
        let mut ends = Encoding::Bytes.ends_backwards(&self.text);
        let mut end = ends.next();
        let line = move || {
            let to = end.take()?;
            end = ends.next();
            let from = end.as_ref().map_or(0, |before| before.end);
            Some(&self.text[from..to.start])
        };
        std::iter::from_fn(line).take(self.count)
    }

    /// What follows the last complete line.
    pub(super) fn rest(&self) -> &[u8] {
        let from = Encoding::Bytes
            .last_end(&self.text)
            .map_or(0, |end| end.end);
        &self.text[from..]
    }

    /// Where the first of the lines begins in the file.
    pub(super) fn begin(&self) -> u64 {
        if !self.more {
            return self.start;
        }
        let before = self.encoding.ends_backwards(&self.bytes).nth(self.count);
        self.start + before.map_or(0, |end| end.end as u64)
    }
}

/// Reads the last `count` complete lines before `end` and what follows them, but no more than `limit` bytes.
pub(super) fn last(file: &Bytes, end: u64, count: usize, limit: u64) -> io::Result<Window> {
    let encoding = file.encoding()?;
    let end = encoding.floor(end);
    let floor = encoding.ceil(end.saturating_sub(limit)).min(end);
    let mut parts: Vec<Part> = Vec::new();
    let mut found = 0;
    let mut is_plain = true;
    let mut start = end;
    let mut length = BLOCK;
    // the line end before the first line wanted is one more
    while start > floor && found <= count {
        let len = length.min(start - floor);
        start -= len;
        let part = file.read(start, len)?;
        // of the usual log, the lines that are wanted are in it, and nothing before them is looked at
        if encoding == Encoding::Bytes
            && let Some(before) = memrchr_iter(b'\n', &part).nth(count - found)
            && let newest = part.end_from(before)
            && encoding.is_plain(&newest)
        {
            found = count + 1;
            start += before as u64;
            parts.push(newest);
            break;
        }
        if encoding.is_plain(&part) {
            found += memchr_iter(b'\n', &part).count();
        } else {
            is_plain = false;
            found += encoding.count_ends(&part);
        }
        // one line end, of which each part has a half
        if let Some(next) = parts.last()
            && encoding.begins_with_lf(next)
            && encoding.ends_with_cr(&part)
        {
            found -= 1;
        }
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
    let text = if is_plain {
        bytes.clone()
    } else {
        text_of(encoding, &bytes)
    };
    Ok(Window {
        bytes,
        encoding,
        text,
        start,
        count: found.min(count),
        more: found > count,
        cut: found <= count && start > 0,
    })
}

/// What stands in a file, decoded and without sequences for terminals.
fn text_of(encoding: Encoding, bytes: &Part) -> Part {
    let decoded = encoding.decode(bytes).map(Part::from);
    let text = decoded.as_ref().unwrap_or(bytes);
    match terminal::without_sequences(text) {
        Cow::Borrowed(_) => text.clone(),
        Cow::Owned(plain) => plain.into(),
    }
}

/// The last unit before a place, where there is one.
fn unit_before(file: &Bytes, at: u64) -> io::Result<Part> {
    let len = file.encoding()?.unit().min(at);
    file.read(at - len, len)
}

/// Whether a file of `size` bytes ends within a line.
pub(super) fn ends_inside(file: &Bytes, size: u64) -> io::Result<bool> {
    let encoding = file.encoding()?;
    let whole = encoding.floor(size);
    if size == 0 || whole != size {
        return Ok(size > 0);
    }
    let last = unit_before(file, size)?;
    let is_mark = size == encoding.unit() && encoding.is_mark(&last);
    Ok(!encoding.ends_with_end(&last) && !is_mark)
}

/// Whether a file of `size` bytes ends with a CR, so that a LF after it is a part of the same line end.
pub(super) fn ends_with_cr(file: &Bytes, size: u64) -> io::Result<bool> {
    let encoding = file.encoding()?;
    Ok(encoding.floor(size) == size && encoding.ends_with_cr(&unit_before(file, size)?))
}

/// Where reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Every complete line before was given out.
    pub(super) offset: u64,
    /// `offset` is within a line that was given out, or left out: the rest of it is not a line.
    pub(super) inside: bool,
    /// The line before `offset` ended with a CR: a LF that follows belongs to it.
    pub(super) after_cr: bool,
}

impl End {
    /// The end of a file, all of which is as good as given out.
    pub(super) fn of_all(file: &Bytes, size: u64) -> io::Result<Self> {
        Ok(Self {
            offset: size,
            inside: ends_inside(file, size)?,
            after_cr: ends_with_cr(file, size)?,
        })
    }
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
    /// It begins after a CR, to which a LF may belong.
    pub(super) after_cr: bool,
    /// A last line without an end is given out too.
    pub(super) as_it_is: bool,
}

/// A line that is given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// As patterns see it.
    pub(super) text: &'a [u8],
    /// There was more of it than is searched.
    pub(super) cut: bool,
    /// It is the one at the beginning of the stretch.
    pub(super) first: bool,
    /// It has no end yet, and is given out again when it has.
    pub(super) unfinished: bool,
}

/// Reads a stretch of a file and gives out its lines.
///
/// Where something is left out and the first line is too long for a line anyway, its first part is given out
/// all the same: it is a line that was cut, not one that was left out.
pub(super) fn each_line(
    file: &Bytes,
    stretch: ByteRange,
    mut give: impl FnMut(Line<'_>),
) -> io::Result<End> {
    let encoding = file.encoding()?;
    let limit = limit(encoding);
    let to = encoding.floor(stretch.to);
    let start = encoding.ceil(stretch.from).min(to);
    let mut from = encoding.ceil(start.saturating_add(stretch.skip)).min(to);
    let torn = from > start;
    let mut first = !torn && !stretch.inside;
    let mut give = |line: &[u8], cut: bool, first: bool, unfinished: bool| {
        read_line(encoding, line, |text| {
            give(Line {
                text,
                cut,
                first,
                unfinished,
            });
        });
    };
    if torn && !stretch.inside && to - start > limit as u64 {
        let head = file.read(start, limit as u64)?;
        if encoding.next_end(&head).is_none() {
            give(&head, true, true, false);
        }
    }
    if torn && from == to {
        return End::of_all(file, to);
    }
    // the beginning of a line whose end is in a later chunk, without the zeros before it
    let mut carry: Vec<u8> = Vec::new();
    let mut begun = from;
    let mut passing = stretch.inside || torn;
    let mut after_cr = stretch.after_cr && !torn;
    let mut is_torn = torn;
    while from < to {
        let chunk = file.read(from, CHUNK.min(to - from))?;
        // a bound that fell into a hole did not fall into a line
        if std::mem::take(&mut is_torn) && chunk.first() == Some(&0) && encoding == Encoding::Bytes
        {
            passing = false;
        }
        let mut rest: &[u8] = &chunk;
        if std::mem::take(&mut after_cr) && encoding.begins_with_lf(rest) {
            rest = &rest[usize::try_from(encoding.unit()).unwrap_or(1)..];
            begun = from + encoding.unit();
        }
        while let Some(end) = encoding.next_end(rest) {
            let piece = &rest[..end.start];
            rest = &rest[end.end..];
            begun = from + (chunk.len() - rest.len()) as u64;
            if passing {
                passing = false;
            } else if carry.is_empty() {
                let cut = piece.len() - zeros(encoding, piece) > limit;
                give(piece, cut, first, false);
            } else {
                extend(&mut carry, piece, limit);
                give(&carry, carry.len() > limit, first, false);
                carry.clear();
            }
            first = false;
        }
        from += chunk.len() as u64;
        if !passing {
            if carry.is_empty() {
                // a hole before a line is no part of it, and is not read again
                rest = &rest[zeros(encoding, rest)..];
                begun = from - rest.len() as u64;
            }
            extend(&mut carry, rest, limit);
        }
        after_cr = begun == from && encoding.ends_with_cr(&chunk);
    }
    if passing {
        return Ok(End {
            offset: to,
            inside: true,
            after_cr: false,
        });
    }
    // of a line as long as this, nothing that is to come would be searched
    let long = carry.len() > limit;
    if long {
        give(&carry, true, first, false);
        return Ok(End {
            offset: to,
            inside: true,
            after_cr: false,
        });
    }
    if stretch.as_it_is && begun < to {
        give(&carry, false, first, true);
    }
    Ok(End {
        offset: begun,
        inside: false,
        after_cr,
    })
}

/// So many bytes of a line in a file are searched.
pub(super) fn limit(encoding: Encoding) -> usize {
    if encoding == Encoding::Bytes {
        LINE
    } else {
        2 * LINE
    }
}

/// Adds to a line what of it can matter: nothing beyond the cut, and a unit more.
fn extend(carry: &mut Vec<u8>, piece: &[u8], limit: usize) {
    let room = (limit + 2).saturating_sub(carry.len());
    carry.extend_from_slice(&piece[..piece.len().min(room)]);
}

/// So many bytes at the beginning are zeros, in whole units: a hole.
pub(super) fn zeros(encoding: Encoding, text: &[u8]) -> usize {
    let count = text.iter().take_while(|byte| **byte == 0).count();
    count & !usize::from(encoding != Encoding::Bytes)
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
            after_cr: false,
            as_it_is: false,
        }
    }

    fn collect(file: &Bytes, stretch: ByteRange) -> (Vec<Vec<u8>>, End) {
        let mut lines = Vec::new();
        let end = each_line(file, stretch, |line| lines.push(line.text.to_vec())).unwrap();
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
                inside: false,
                after_cr: false
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
                offset: 5,
                inside: false,
                after_cr: false
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
        let end = each_line(&file, stretch(0, to), |line| {
            seen.push((line.text.len(), line.text[0], line.cut));
        });
        assert_eq!(seen, [(LINE, b'E', true)]);
        assert_eq!(
            end.unwrap(),
            End {
                offset: to,
                inside: true,
                after_cr: false
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
                (0, LINE + 1, true),
                (9, LINE, false),
                (9, LINE + 1, true),
                (100, 100, false),
            ] {
                let mut content = vec![b'\n'; before];
                content.resize(before + zeros, 0);
                content.resize(before + zeros + length, b'x');
                // a carriage return belongs to no line
                content.extend_from_slice(b"\r\nnext\n");
                let (file, to) = file(&content);
                let mut seen = Vec::new();
                each_line(&file, stretch(0, to), |line| {
                    seen.push((line.text.len(), line.cut));
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
        let error = each_line(&file, stretch(0, to + 5), |_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
