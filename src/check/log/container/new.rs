//! Which lines of an answer are new.
//!
//! Of each stream the time of the last line that was judged is known, and how many of its lines have that time. An engine
//! has lines in the order in which it got them; so what stands behind those lines is new, whatever the clock was set to in
//! between. Only where none of them is there any more do the times decide.

use super::super::position::{LastLine, OutputPosition};
use crate::client::engine::{Line, Stream};

/// For each line whether it is new.
pub(super) fn new_lines(lines: &[Line], known: &OutputPosition) -> Vec<bool> {
    let judged = judged(lines, known);
    let is_new = |(place, line): (usize, &Line)| match (judged, known.of(line.stream)) {
        (Some(judged), _) => place > judged,
        (None, Some(last)) => line.time > last.time,
        (None, None) => true,
    };
    lines.iter().enumerate().map(is_new).collect()
}

/// Whether lines go back to one that was judged.
pub(super) fn goes_back(lines: &[Line], known: &OutputPosition) -> bool {
    judged(lines, known).is_some()
}

/// The place of the last line that was judged.
fn judged(lines: &[Line], known: &OutputPosition) -> Option<usize> {
    let places =
        [Stream::Output, Stream::Error].map(|stream| found(lines, stream, known.of(stream)?));
    places.into_iter().max().flatten()
}

/// Whether no earlier lines are needed: they go back to what was judged, and of none that have the time of the newest ones
/// there may be more before.
pub(super) fn is_enough(lines: &[Line], known: Option<&OutputPosition>) -> bool {
    let is_open = |stream| {
        let newest = lines.iter().rfind(|line| line.stream == stream);
        newest.is_some_and(|newest| newest.time == lines[0].time)
    };
    known.is_none_or(|known| goes_back(lines, known))
        && !is_open(Stream::Output)
        && !is_open(Stream::Error)
}

/// How far a container is judged when these lines are. `is_whole` says that there are none before them.
pub(super) fn position(
    lines: &[Line],
    is_whole: bool,
    known: Option<&OutputPosition>,
    id: &str,
) -> OutputPosition {
    let last = |stream| {
        let newest = lines.iter().rfind(|line| line.stream == stream);
        let Some(newest) = newest else {
            return match known {
                Some(known) => known.of(stream),
                // what it has may stand before these
                None => (lines.first().filter(|_| !is_whole)).map(|first| LastLine {
                    time: first.time,
                    count: None,
                }),
            };
        };
        let same = |line: &&Line| line.stream == stream && line.time == newest.time;
        let is_open = !is_whole && lines[0].time == newest.time;
        Some(LastLine {
            time: newest.time,
            count: (!is_open).then(|| lines.iter().filter(same).count()),
        })
    };
    OutputPosition {
        id: id.to_owned(),
        output: last(Stream::Output),
        error: last(Stream::Error),
        silent_since: None,
    }
}

/// The place of the last line of one stream that was judged.
fn found(lines: &[Line], stream: Stream, last: LastLine) -> Option<usize> {
    let same = lines.iter().enumerate();
    let same = same.filter(|(_, line)| line.stream == stream && line.time == last.time);
    let judged = same.take(last.count.unwrap_or(usize::MAX));
    judged.last().map(|(place, _)| place)
}

impl OutputPosition {
    fn of(&self, stream: Stream) -> Option<LastLine> {
        match stream {
            Stream::Output => self.output,
            Stream::Error => self.error,
        }
    }
}
