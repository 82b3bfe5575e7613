//! What is new in a log since it was last looked at.

use std::io;

use super::patterns::Tally;
use super::position::FilePosition;
use super::rotation::{RotationChain, Segment};
use super::tail::{self, ByteRange};
use super::{NEW, Rule};

/// What is new, judged, and the places that it was read to.
pub(super) struct News<'a> {
    pub(super) tally: Tally<'a>,
    /// Bytes.
    pub(super) left_out: u64,
    /// The oldest first.
    pub(super) older: Vec<FilePosition>,
    pub(super) here: FilePosition,
}

/// Reads and judges what is new: of a log that is seen for the first time, its last lines.
pub(super) fn read_new<'a>(
    rule: &'a Rule,
    route: &RotationChain,
    first: bool,
    aged: bool,
) -> io::Result<News<'a>> {
    let new = |piece: &Segment| piece.opened.size.saturating_sub(piece.from);
    let total: u64 = route.older.iter().map(new).sum::<u64>() + new(&route.current);
    let mut tally = Tally::new(&rule.forbid);
    let mut skip = total.saturating_sub(NEW);
    let mut left_out = 0;
    let mut read = |piece: &Segment, as_it_is: bool| {
        let opened = &piece.opened;
        if rule.forbid.is_empty() {
            return FilePosition::at_end(opened, piece.path.clone());
        }
        let mut stretch = ByteRange {
            from: piece.from,
            to: opened.size,
            skip: skip.min(new(piece)),
            inside: piece.inside,
            after_cr: piece.after_cr,
            as_it_is,
        };
        skip -= stretch.skip;
        if first {
            let window = tail::last(&opened.bytes, opened.size, rule.lines, NEW)?;
            if window.cut && window.count == 0 {
                // one line, for all that can be seen
                stretch.skip = window.start;
            } else {
                stretch.from = window.begin();
                stretch.skip = 0;
                stretch.inside = window.cut && window.bytes.first() != Some(&0);
            }
        } else {
            left_out += stretch.skip;
        }
        let mut matched = None;
        let end = tail::each_line(&opened.bytes, stretch, |line| {
            let before = if line.first { &*piece.matched } else { &[] };
            if line.unfinished {
                matched = Some(tally.unfinished(line.text, before));
            } else {
                tally.line(line.text, line.cut, before);
            }
        })?;
        let place = FilePosition::of(opened, piece.path.clone(), end)?;
        // it has grown, and has no end yet
        let is_same_line = !end.inside && end.offset == piece.from;
        let matched = matched.or_else(|| is_same_line.then(|| piece.matched.clone()));
        Ok(FilePosition {
            matched: matched.unwrap_or_default(),
            ..place
        })
    };
    // nothing is added any more to a line that a rotation cut off
    let older = route
        .older
        .iter()
        .map(|piece| read(piece, true))
        .collect::<io::Result<_>>()?;
    let here = read(&route.current, aged)?;
    Ok(News {
        tally,
        left_out,
        older,
        here,
    })
}
