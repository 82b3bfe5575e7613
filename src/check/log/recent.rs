//! The last lines of a log, across its rotations.

use std::io;

use chrono::{DateTime, Utc};

use super::open::Opened;
use super::position::FilePosition;
use super::tail::{self, Window};
use super::{LAST, SHOWN, SHOWN_BYTES, Tail, patterns};

/// What was read of one file.
#[derive(Debug)]
struct End {
    window: Window,
    /// What follows the last line end is a line.
    unfinished: bool,
    /// When the file was last written.
    written: DateTime<Utc>,
}

/// The last lines of a log, across its rotations.
#[derive(Debug)]
pub(super) struct Recent {
    /// The newest first.
    ends: Vec<End>,
    /// How many lines, no more than were wanted.
    pub(super) count: usize,
    /// An earlier file of the log could not be read any more.
    pub(super) broken: bool,
    /// There is more, beyond what may be read.
    pub(super) bounded: bool,
    /// There is more, and it was not asked for.
    pub(super) more: bool,
}

impl Recent {
    pub(super) fn read(
        current: &Opened,
        aged: bool,
        former: &[FilePosition],
        wanted: usize,
    ) -> io::Result<Self> {
        let mut recent = Self {
            ends: Vec::new(),
            count: 0,
            broken: false,
            bounded: false,
            more: false,
        };
        let mut room = LAST;
        let window = tail::last(&current.bytes, current.size, wanted, room)?;
        recent.add(window, aged, current.modified, &mut room);
        for place in former {
            if recent.bounded {
                break;
            }
            if recent.count >= wanted {
                recent.more = true;
                break;
            }
            let missing = wanted - recent.count;
            let found = place.reopen().and_then(|old| {
                let window = tail::last(&old.bytes, old.size, missing, room).ok()?;
                Some((window, old.modified))
            });
            let Some((window, written)) = found else {
                recent.broken = true;
                break;
            };
            recent.add(window, true, written, &mut room);
        }
        recent.more |= recent.count > wanted;
        recent.count = recent.count.min(wanted);
        Ok(recent)
    }

    fn add(&mut self, window: Window, unfinished: bool, written: DateTime<Utc>, room: &mut u64) {
        let unfinished = unfinished && !window.rest().is_empty();
        self.count += window.count + usize::from(unfinished);
        // of a window that holds more than was asked for, nothing beyond is read
        if !window.more {
            *room = room.saturating_sub(window.bytes.len() as u64);
        }
        self.bounded |= window.cut || *room == 0;
        self.more |= window.more || window.start > 0;
        self.ends.push(End {
            window,
            unfinished,
            written,
        });
    }

    /// The lines, the newest first.
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.dated_lines().map(|(line, _)| line)
    }

    /// The lines, the newest first, each with the time by which it was written: that of the last write to its file.
    pub(super) fn dated_lines(&self) -> impl Iterator<Item = (&[u8], DateTime<Utc>)> + Clone {
        self.ends
            .iter()
            .flat_map(|end| {
                let rest = end.unfinished.then(|| end.window.rest());
                let lines = rest.into_iter().chain(end.window.lines());
                lines.map(|line| (tail::clean(line), end.written))
            })
            .take(self.count)
    }

    /// The lines that are shown.
    pub(super) fn tail(&self) -> Tail {
        let newest = self.lines().take(SHOWN);
        let shown: Vec<&[u8]> = newest
            .map(|line| patterns::shorten(line, SHOWN_BYTES))
            .collect();
        let mut bytes = Vec::with_capacity(shown.iter().map(|line| line.len() + 1).sum());
        for line in shown.into_iter().rev() {
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
        }
        Tail { bytes }
    }
}
