//! Logs read back: which alarms the rules for a log would have raised on what is in it, how long it was silent, and which
//! `max_age` follows from that.
//!
//! The files of the log are found (`chain`) and read from the beginning (`lines`, `gzip`); each line is given to a
//! simulation of runs (`simulate`), with the time that it is stamped with (`formats`). None of it is kept, whatever the
//! length of the log.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use super::encoding::Encoding;
use super::fingerprint::Fingerprint;
use super::open::Opened;
use super::stamp::{InOrder, Lacking, Place, Reader};
use super::{Rule, Stamp, open};
use crate::clock;
use chain::{Chain, Part};
use formats::{Recognised, Sample};

mod chain;
mod formats;
mod gaps;
mod gzip;
mod lines;
mod simulate;

pub use gaps::{Gap, Gaps, propose, runs_to_find};
pub use simulate::{Alarm, Alarms, Asked, Found, Outcome};

use simulate::Simulation;

/// So many lines are sampled at the beginning of a file, and at its end.
const SAMPLED: usize = 200;

/// So many bytes of each are enough to find a stamp.
const SAMPLED_BYTES: usize = 4096;

/// So much of the end of a file is sampled.
const SAMPLED_END: u64 = 64 << 10;

/// A clock that is not set may be ahead by so much.
const AHEAD: TimeDelta = TimeDelta::days(100 * 365);

/// Of fewer lines, an earlier file is sampled as well.
const FEW: usize = 20;

/// So many lines tell a file from another.
const HEAD: usize = 20;

/// The time is looked at after so many lines.
const LINES: u64 = 1024;

/// What is read of a log, and when that has to end.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Of the latest files together, in bytes as they are stored.
    bytes: u64,
    ends: Option<Instant>,
}

/// All of it.
const ALL: Bounds = Bounds {
    bytes: u64::MAX,
    ends: None,
};

/// What was read back of a log.
#[derive(Clone, Debug)]
pub struct ReadBack {
    /// What came out of it.
    pub outcome: Outcome,
    /// How its lines are stamped.
    pub stamp: Stamp,
    /// That was recognised, and is not in the config.
    pub is_recognised: bool,
    /// How many files were read.
    pub files: usize,
    /// When its newest file was last written.
    pub written: DateTime<Utc>,
    /// What could not be read or judged, in sentences.
    pub notes: Vec<String>,
    /// Lines with a time that is too far ahead to be a stamp.
    pub ahead: Ahead,
}

/// Lines with a time that is more than a day ahead of the clock and of the last write: they count as lines without a stamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// How many.
    pub lines: u64,
    /// The time of the first.
    pub first: Option<DateTime<Utc>>,
}

impl Ahead {
    fn add(&mut self, time: DateTime<Utc>) {
        self.lines += 1;
        self.first.get_or_insert(time);
    }
}

impl ReadBack {
    /// The `max_age` that would have been silent, where there are gaps to tell it from.
    pub fn proposed(&self) -> Option<Duration> {
        let longest = self.outcome.gaps.longest?;
        Some(propose(gaps::millis(longest.length)))
    }

    /// From its first stamp to the last.
    pub fn span(&self) -> Duration {
        let (first, last) = self.outcome.span.unwrap_or_default();
        gaps::millis(last - first)
    }
}

/// Reads a log back, all of it, and holds a rule against it. An error is a sentence, with what to do.
///
/// `log` is read in place of the log of the rule, `since` is how far back is judged. Without a rule it is only measured.
pub fn read_back(
    rule: Option<&Rule>,
    log: Option<&Path>,
    since: Option<Duration>,
    start_grace: Duration,
    now: DateTime<Utc>,
) -> Result<ReadBack, String> {
    if let Some(fault) = rule.and_then(Rule::fault) {
        return Err(fault);
    }
    let path = match (log, rule) {
        (Some(path), _) => path,
        (None, Some(rule)) if rule.journal || rule.container => return Err(not_a_file(rule)),
        (None, Some(rule)) => &rule.path,
        (None, None) => return Err("there is no rule and no file".to_owned()),
    };
    let since = since.map(|since| {
        let since = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        now.timestamp_millis().saturating_sub(since)
    });
    let chain = chain::of(path)?;
    let asked = Asked {
        since,
        // an earlier file may be gone, and then the first line is none
        begins: (chain.parts.len() == 1).then_some(start_grace),
        ..rule.map_or(NOTHING, asked)
    };
    let stamp = rule.and_then(|rule| rule.stamp.as_ref());
    along(chain, stamp, asked, ALL, now)
}

/// What to do about a log that is no file.
fn not_a_file(rule: &Rule) -> String {
    let (what, how) = match &rule.unit {
        Some(unit) if rule.journal => (
            "its journal",
            format!("journalctl -o short-iso -u {}", unit.name),
        ),
        _ => (
            "its output",
            "docker logs --timestamps CONTAINER".to_owned(),
        ),
    };
    format!(
        "only files can be read back: write {what} into one (`{how} >FILE 2>&1`), and name that with --log FILE"
    )
}

/// What is asked of a log that is only measured.
const NOTHING: Asked<'_> = Asked {
    max_age: None,
    lines: 1,
    expect: &[],
    forbid: &[],
    since: None,
    begins: None,
};

fn asked(rule: &Rule) -> Asked<'_> {
    Asked {
        max_age: rule.max_age,
        lines: rule.lines,
        expect: &rule.expect,
        forbid: &rule.forbid,
        since: None,
        begins: None,
    }
}

/// Reads the latest part of a log, until `ends` at most, for what it says of the gaps in it.
pub fn look_back(path: &Path, now: DateTime<Utc>, ends: Instant) -> Result<ReadBack, String> {
    const BYTES: u64 = 32 << 20;
    let bounds = Bounds {
        bytes: BYTES,
        ends: Some(ends),
    };
    along(chain::of(path)?, None, NOTHING, bounds, now)
}

/// Holds a rule against the end of a file, as far as that is of the last day of it. None where it could not be read by
/// `ends`, or has no stamps.
pub(super) fn last_day(
    rule: &Rule,
    opened: &Opened,
    now: DateTime<Utc>,
    ends: Instant,
) -> Option<ReadBack> {
    const BYTES: u64 = 2 << 20;
    let bounds = Bounds {
        bytes: BYTES,
        ends: Some(ends),
    };
    let day = TimeDelta::days(1);
    let asked = Asked {
        since: Some((opened.modified - day).timestamp_millis()),
        ..asked(rule)
    };
    let chain = Chain {
        parts: vec![Part::present(opened)],
        notes: Vec::new(),
    };
    let read = along(chain, rule.stamp.as_ref(), asked, bounds, now).ok()?;
    // what was not read to the end, or not in time, says too little
    read.notes.is_empty().then_some(read)
}

/// Reads files one after the other.
fn along(
    chain: Chain,
    stamp: Option<&Stamp>,
    asked: Asked<'_>,
    bounds: Bounds,
    now: DateTime<Utc>,
) -> Result<ReadBack, String> {
    let Chain {
        mut parts,
        mut notes,
    } = chain;
    let written = parts.iter().map(|part| part.written).max().unwrap_or(now);
    bound(&mut parts, bounds.bytes, asked.since);
    let (stamp, lacking, is_recognised) = stamp_of(&parts, stamp, now, &mut notes)?;
    let reader = Reader::new(&stamp, now);
    in_order(&mut parts, &reader, lacking);
    let mut simulation = Simulation::new(asked);
    let mut encoding = Encoding::Bytes;
    let mut previous: Option<DateTime<Utc>> = None;
    let mut count = 0;
    let mut is_late = false;
    let mut ahead = Ahead::default();
    let files = parts.len();
    for part in &parts {
        if part.is_torn {
            simulation.is_torn();
        }
        if lacking == Lacking::Date {
            previous = first_day(part, &reader).or(previous);
        }
        let source = match part.open() {
            Ok(source) => source,
            Err(error) => {
                notes.push(format!("{}: {}", part.name(), open::reason(&error)));
                simulation.is_torn();
                continue;
            }
        };
        let mut is_inside = part.from > 0;
        let read = lines::each_line(source, encoding, |line, is_cut| {
            if std::mem::take(&mut is_inside) {
                return ControlFlow::Continue(());
            }
            let place = Place {
                previous,
                written: part.written,
            };
            let time = match reader.time_in_order(line, place) {
                InOrder::At(time, _) => Some(time),
                InOrder::Ahead(time) => {
                    ahead.add(time);
                    None
                }
                InOrder::Unstamped => None,
            };
            previous = time.or(previous);
            simulation.line(line, is_cut, time.map(|time| time.timestamp_millis()));
            count += 1;
            is_late = count % LINES == 0 && bounds.ends.is_some_and(|ends| Instant::now() > ends);
            if is_late {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        encoding = read.encoding;
        if let Some(error) = read.error {
            notes.push(format!(
                "{}: {}; what comes after that in it is not read",
                part.name(),
                damage(&error)
            ));
            simulation.is_torn();
        }
        if is_late {
            notes.push(format!(
                "{}: reading it took too long, the rest is not read",
                part.name()
            ));
            break;
        }
    }
    Ok(ReadBack {
        outcome: simulation.finish(),
        stamp,
        is_recognised,
        files,
        written,
        notes,
        ahead,
    })
}

fn damage(error: &std::io::Error) -> String {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    match error.kind() {
        UnexpectedEof | InvalidData => format!("it is damaged: {error}"),
        _ => open::reason(error),
    }
}

/// Leaves out what is not to be read: what is older than was asked for, but for one file that comes before, and what is
/// more than so many bytes.
fn bound(parts: &mut Vec<Part>, bytes: u64, since: Option<i64>) {
    if let Some(since) = since {
        let is_old = |part: &Part| part.written.timestamp_millis() < since;
        let old = parts.iter().take_while(|part| is_old(part)).count();
        // all of them may be
        let old = old.min(parts.len().saturating_sub(1));
        parts.drain(..old.saturating_sub(1));
    }
    let mut left = bytes;
    let mut first = 0;
    for (at, part) in parts.iter_mut().enumerate().rev() {
        if part.size > left {
            if part.is_packed || left == 0 {
                first = at + 1;
            } else {
                // whole units of any encoding
                part.from = (part.size - left) & !1;
                first = at;
            }
            break;
        }
        left -= part.size;
    }
    parts.drain(..first.min(parts.len().saturating_sub(1)));
}

/// How the lines are stamped: as the config says, or as can be recognised.
fn stamp_of(
    parts: &[Part],
    stamp: Option<&Stamp>,
    now: DateTime<Utc>,
    notes: &mut Vec<String>,
) -> Result<(Stamp, Lacking, bool), String> {
    let sample = sample(parts, now);
    if sample.lines.is_empty() {
        return Err("it has no line".to_owned());
    }
    if let Some(stamp) = stamp {
        let reader = Reader::new(stamp, now);
        let place = Place {
            previous: None,
            written: sample.written,
        };
        let mut lines = sample.lines.iter();
        if let Some((_, lacking)) = lines.find_map(|line| reader.read_in_order(line, place)) {
            return Ok((stamp.clone(), lacking, false));
        }
    }
    let no_stamp = stamp.map(|stamp| format!("`{}` reads no stamp in it", stamp.format));
    match formats::recognise(&sample) {
        Recognised::As(stamp, lacking) => {
            notes.extend(no_stamp.map(|none| {
                format!("{none}: it is read by the format that was recognised, and checks go by the last write")
            }));
            Ok((stamp, lacking, true))
        }
        Recognised::Either([one, other]) => Err(format!(
            "its lines are stamped, but whether by \"{one}\" or \"{other}\" cannot be told: \
             write the right one as `timestamp` into its table"
        )),
        Recognised::No => Err(match first_ahead(&sample, stamp, now) {
            Some(first) => format!(
                "its stamps are ahead of the clock, the first is {}: set the clock of the program right, or write the format \
                 and the zone of its stamps as `timestamp` and `timestamp_zone` into its table",
                clock::stamp(first)
            ),
            None => format!(
                "{}; write how its lines are stamped as `timestamp` into its table (\"%Y-%m-%d %H:%M:%S\"), \
             or have the program stamp them",
                no_stamp.unwrap_or_else(|| "no format that is known stamps its lines".to_owned())
            ),
        }),
    }
}

/// The first stamp of a sample of which all are too far ahead: by the format of the config, or else by one that is known.
fn first_ahead(
    sample: &Sample,
    stamp: Option<&Stamp>,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    // no format is recognised by stamps that are ahead, so as if they were not
    let later = Sample {
        lines: sample.lines.clone(),
        written: sample.written.checked_add_signed(AHEAD)?,
        is_end: false,
    };
    let stamp = match (stamp, formats::recognise(&later)) {
        (Some(stamp), _) => stamp.clone(),
        (None, Recognised::As(stamp, Lacking::Nothing)) => stamp,
        (None, _) => return None,
    };
    let reader = Reader::new(&stamp, now);
    let place = Place {
        previous: None,
        written: sample.written,
    };
    let mut lines = sample.lines.iter();
    lines.find_map(|line| match reader.time_in_order(line, place) {
        InOrder::Ahead(time) => Some(time),
        InOrder::At(..) | InOrder::Unstamped => None,
    })
}

/// Some lines of the latest files.
fn sample(parts: &[Part], now: DateTime<Utc>) -> Sample {
    let mut sample = Sample {
        lines: Vec::new(),
        written: now,
        is_end: false,
    };
    for part in parts.iter().rev().filter(|part| part.size > 0).take(3) {
        let is_first = sample.lines.is_empty();
        let mut lines = head(part, SAMPLED);
        let is_whole = lines.len() < SAMPLED;
        if !part.is_packed && !is_whole && part.size > SAMPLED_END {
            let mut end = part.clone();
            end.from = (part.size - SAMPLED_END) & !1;
            let mut last = head(&end, usize::MAX);
            last.drain(..last.len().saturating_sub(SAMPLED));
            lines.extend(last);
        }
        if is_first && !lines.is_empty() {
            sample.written = part.written;
            sample.is_end = !part.is_packed && (is_whole || part.size > SAMPLED_END);
        }
        lines.append(&mut sample.lines);
        sample.lines = lines;
        if sample.lines.len() >= FEW {
            break;
        }
    }
    sample
}

/// The first lines of a file, without what of them can hold no stamp.
fn head(part: &Part, count: usize) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let Ok(source) = part.open() else {
        return found;
    };
    let mut is_inside = part.from > 0;
    lines::each_line(source, Encoding::Bytes, |line, _| {
        if !std::mem::take(&mut is_inside) {
            found.push(line[..line.len().min(SAMPLED_BYTES)].to_vec());
        }
        if found.len() < count {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    found
}

/// Puts files in the order of their first stamps, where these are whole, and leaves out copies.
fn in_order(parts: &mut Vec<Part>, reader: &Reader<'_>, lacking: Lacking) {
    if parts.len() < 2 {
        return;
    }
    let mut found: Vec<(Option<DateTime<Utc>>, Vec<Fingerprint>, Part)> = Vec::new();
    for part in parts.drain(..) {
        let lines = head(&part, SAMPLED);
        let place = Place {
            previous: None,
            written: part.written,
        };
        let first = (lines.iter()).find_map(|line| reader.read_in_order(line, place));
        let prints: Vec<Fingerprint> = (lines.iter().take(HEAD))
            .map(|line| Fingerprint::of(line))
            .collect();
        let copied = found.iter().position(|(time, known, _)| {
            let common = known.len().min(prints.len());
            time.is_some() && common > 0 && known[..common] == prints[..common]
        });
        let here = (first.map(|(time, _)| time), prints, part);
        match copied {
            // the one that was copied has gone on since
            Some(at) if found[at].2.size < here.2.size => found[at] = here,
            Some(_) => {}
            None => found.push(here),
        }
    }
    if lacking == Lacking::Nothing && found.iter().all(|(first, ..)| first.is_some()) {
        found.sort_by_key(|(first, ..)| *first);
    }
    parts.extend(found.into_iter().map(|(.., part)| part));
}

/// The time of the first line of a file whose stamps have no date: so many days before its last write as there are midnights
/// in it.
fn first_day(part: &Part, reader: &Reader<'_>) -> Option<DateTime<Utc>> {
    let written = part.written;
    let (mut first, mut last) = (None, None);
    let source = part.open().ok()?;
    let mut is_inside = part.from > 0;
    lines::each_line(source, Encoding::Bytes, |line, _| {
        if !std::mem::take(&mut is_inside) {
            let place = Place {
                previous: last,
                // days that are too late are put right below
                written: last.map_or(written, |last: DateTime<Utc>| last.max(written)),
            };
            if let Some((time, _)) = reader.read_in_order(line, place) {
                first = first.or(Some(time));
                last = Some(time);
            }
        }
        ControlFlow::Continue(())
    });
    let (first, last) = (first?, last?);
    let beyond = (last - written - TimeDelta::minutes(5)).num_milliseconds();
    let day = TimeDelta::days(1).num_milliseconds();
    let days = if beyond > 0 {
        (beyond - 1) / day + 1
    } else {
        0
    };
    first.checked_sub_signed(TimeDelta::days(days))
}

#[cfg(test)]
mod tests;
