//! Asks an engine for the last lines of a container, for more of them until enough is known, within bounds.
//!
//! It could be asked for all since a time; but then it gives the oldest first, which may be gigabytes, and an older engine
//! reads all of its file for that. From the end, both are within bounds.

use crate::client::engine::{Line, Lines};

/// So many lines are asked for first: more than most write from one run to the next.
const FIRST: usize = 500;

/// So many times more, where that is not enough.
const TIMES: usize = 16;

/// No more lines than these are asked for: with their times they are more than is read.
const MOST: usize = 1 << 20;

/// An answer of so many bytes is cut: each line has a time and a head besides its text.
pub(super) const LIMIT: usize = 16 << 20;

/// So often an answer may be cut.
const CUTS: usize = 4;

/// An engine has a record for each so many bytes of a long line.
const RECORD: usize = 16 << 10;

/// The last lines of a container.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// The oldest first.
    pub(super) lines: Vec<Line>,
    /// There are none before these.
    pub(super) is_whole: bool,
}

/// Reads the last lines: as many as are wanted, and more until they are enough. The error is a sentence.
pub(super) fn read(
    wanted: usize,
    is_enough: impl Fn(&[Line]) -> bool,
    mut ask: impl FnMut(usize) -> Result<Lines, String>,
) -> Result<Output, String> {
    let mut count = wanted.clamp(FIRST, MOST);
    let mut best: Option<Output> = None;
    let mut cuts = 0;
    loop {
        let answer = match (ask(count), best.take()) {
            (Ok(answer), before) => {
                best = before;
                answer
            }
            // what more would have been did not come in time: the newest lines are judged all the same
            (Err(_), Some(best)) => return Ok(best),
            (Err(why), None) => return Err(why),
        };
        if !answer.is_cut {
            let records = answer.lines.iter().map(|line| line.text.len() / RECORD + 1);
            let is_whole = records.sum::<usize>() < count;
            let is_last = is_whole || cuts > 0 || count >= MOST || is_enough(&answer.lines);
            let output = Output {
                lines: answer.lines,
                is_whole,
            };
            if is_last {
                return Ok(output);
            }
            best = Some(output);
            count = (count * TIMES).min(MOST);
            continue;
        }
        // the newest lines are those that were cut off: so many fewer are asked for as there is space for
        cuts += 1;
        count = (answer.lines.len() * 3 / 4).clamp(1, count);
        match best {
            Some(best) if cuts > CUTS || count <= best.lines.len() => return Ok(best),
            None if cuts > CUTS => return Err("a line of it is too long to be read".to_owned()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::engine::Stream;
    use crate::fixtures::at;

    /// Reads a container with lines of these lengths, the newest last, within bounds; says how often it was asked, and how
    /// many lines came.
    fn read_of(lengths: &[usize], enough: usize) -> (usize, Result<(usize, bool), String>) {
        let mut calls = 0;
        let ask = |count: usize| {
            calls += 1;
            let from = lengths.len().saturating_sub(count);
            let mut bytes = 0;
            let fits = |length: &&usize| {
                bytes += **length;
                bytes < LIMIT
            };
            let kept = lengths[from..].iter().take_while(fits);
            let line = |(number, length): (usize, &usize)| Line {
                time: at(i64::try_from(number).unwrap()),
                stream: Stream::Output,
                text: vec![b'x'; *length],
            };
            let lines: Vec<Line> = kept.enumerate().map(line).collect();
            let is_cut = lines.len() < lengths.len() - from;
            Ok(Lines { lines, is_cut })
        };
        let read = read(10, |lines| lines.len() >= enough, ask);
        (calls, read.map(|it| (it.lines.len(), it.is_whole)))
    }

    #[test]
    fn as_many_lines_are_asked_for_as_are_needed_within_bounds() {
        // few are enough, or all that there are
        assert_eq!(read_of(&[10; 2000], 100), (1, Ok((500, false))));
        assert_eq!(read_of(&[10; 499], 5000), (1, Ok((499, true))));
        assert_eq!(read_of(&[10; 2000], 1900), (2, Ok((2000, true))));
        assert_eq!(read_of(&[], 1), (1, Ok((0, true))));
        // too long together: the newest of them
        let (calls, read) = read_of(&vec![60 << 10; 5000], 5000);
        let (lines, is_whole) = read.unwrap();
        assert!(calls <= 4 && lines > 150 && !is_whole, "{calls} {lines}");
        // the records of long lines are not taken for fewer than were asked for
        assert_eq!(read_of(&[40 << 10; 300], 5000).1, Ok((300, true)));
        // what more there is does not come: the newest lines are there all the same
        let line = |second| Line {
            time: at(second),
            stream: Stream::Output,
            text: Vec::new(),
        };
        let slow = |count: usize| {
            if count > FIRST {
                return Err("too slow".to_owned());
            }
            Ok(Lines {
                lines: (0..500).map(line).collect(),
                is_cut: false,
            })
        };
        let late = super::read(10, |_| false, slow).unwrap();
        assert_eq!((late.lines.len(), late.is_whole), (500, false));
        assert!(super::read(501, |_| false, slow).is_err());
        // one that is longer than all that is read
        let why = read_of(&[LIMIT * 2; 3], 1).1.unwrap_err();
        assert!(why.contains("too long"), "{why}");
    }
}
