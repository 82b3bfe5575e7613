//! Log files: how fresh they are, what their last lines show, what is new in them.
//!
//! A log is somebody else's file, and it is rotated, truncated, compressed and replaced while it is looked at.
//! So a look opens it once, reads by position and within bounds, and remembers a [`LogPosition`]: what was where. The
//! next look finds its way from there (`route`), reads lines (`tail`) and asks patterns about them. What it
//! could not see it says in its notes; where it is unsure whether a line or an age counts, it decides for what
//! restarts nothing.

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::trap::Trap;
use super::{
    Can, CheckKind, Checked, Code, Finding, Grace, JobOf, Kind, LastLook, Looking, ServiceContext,
    Severity,
};
use crate::clock::{Moment, Reading};

mod age;
mod authors;
pub mod backtest;
mod bytes;
mod container;
mod encoding;
mod explain;
mod fingerprint;
mod freshness;
mod held;
mod journal;
mod listing;
mod news;
mod open;
mod patterns;
mod position;
mod recent;
mod rotation;
mod rule;
mod stamp;
mod tail;
mod terminal;
mod traps;
mod zone;

pub use encoding::Encoding;
pub use fingerprint::Fingerprint;
pub use position::{FilePosition, JournalPosition, LastLine, LogPosition, OutputPosition};
pub use rule::{Expect, Forbid, Rule, Unit};
pub use zone::{NamedZone, Zone};

use freshness::Freshness;
use listing::Listings;
use news::read_new;
use open::{Links, Opened, Trouble};
use recent::Recent;
use rotation::{RotationChain, RotationOutcome, Segment};

/// How the lines of a log are stamped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// A chrono format, or `unix`, `unix_ms`, `tai64n`.
    pub format: String,
    /// Literal text before the stamp; empty: the line begins with the stamp.
    pub after: String,
    /// The zone of a stamp that names none.
    pub zone: Zone,
}

impl Stamp {
    /// The stamp of a line that was written by `now`, if it has one.
    pub fn read(&self, line: &[u8], now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        stamp::Reader::new(self, now).read(line, now)
    }
}

/// What the judgement of a log depends on beside the log.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The time of this run.
    pub now: &'a Reading,
    /// When the wall clock last jumped or the machine last slept: ages are not judged until `max_age` has
    /// passed since.
    pub jumped_at: Option<DateTime<Utc>>,
    /// Who may have written what is new.
    pub author: Author,
    /// Its last lines are wanted for a mail even where nothing is wrong with it.
    pub shown: bool,
}

/// Who wrote the lines that are new since the last run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// Surely the process that runs now; or the service has no process that could be known.
    Present,
    /// Perhaps an earlier process: its lines are warnings.
    Perhaps,
}

/// Positions as state version 1 has them: by the path in the config.
pub type Positions = BTreeMap<String, Arc<LogPosition>>;

/// What looking at a log gave. Its state is absent where nothing could be read, and the former one stands. It is
/// consumed where some of what is new is forbidden, be it within the limit.
pub type Seen = Checked<LogPosition>;

/// The last few lines of a log, as bytes: few are ever shown, so they become text only then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Each with a line end behind it.
    bytes: Vec<u8>,
}

impl Tail {
    /// Whether there are no lines.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds the lines of another log behind these.
    pub fn append(&mut self, mut other: Self) {
        if self.bytes.is_empty() {
            self.bytes = other.bytes;
        } else {
            self.bytes.append(&mut other.bytes);
        }
    }

    /// The lines, the oldest first: lossy UTF-8, control characters still in them.
    pub fn lines(&self) -> Vec<String> {
        let lines = self.bytes.split_inclusive(|byte| *byte == b'\n');
        lines
            .map(|line| String::from_utf8_lossy(&line[..line.len() - 1]).into_owned())
            .collect()
    }
}

/// The log check.
#[derive(Debug)]
pub struct Logs;

impl CheckKind for Logs {
    type Rule = Rule;
    type State = LogPosition;

    const KIND: Kind = Kind::Log;
    const CODES: &'static [Code] = &[
        Code::new("log_missing", Grace::Young, Can::Settable),
        Code::new("log_stale", Grace::Young, Can::Settable),
        Code::new("log_quiet", Grace::Young, Can::Settable),
        Code::new("log_error", Grace::Young, Can::Settable),
        Code::new("log_unstamped", Grace::Young, Can::Warning),
        Code::new("log_in_future", Grace::Young, Can::Warning),
        Code::new("log_unreadable", Grace::Young, Can::Unknown),
    ];
    const IS_PROBE: bool = false;

    fn is_warning(rule: &Rule) -> bool {
        rule.severity == Severity::Warning
    }

    fn asks_what_runs(rule: &Rule) -> bool {
        rule.container
    }

    fn target(rule: &Rule) -> String {
        if rule.journal {
            return "journal".to_owned();
        }
        if rule.container {
            return "container".to_owned();
        }
        rule.path.to_string_lossy().into_owned()
    }

    fn look(jobs: Vec<JobOf<Self>>, looking: &Looking<'_>) -> Vec<Seen> {
        let rules: Vec<Arc<Rule>> = jobs.iter().map(|job| Arc::clone(&job.rule)).collect();
        let (now, jumped_at) = (looking.now.clone(), looking.jumped_at);
        let (each, journals) = (looking.check_timeout, limit(&rules, looking));
        let listings = Arc::new(Listings::default());
        let results = looking
            .pool
            .side_by_side(jobs, journals, looking.deadline, move |job| {
                let context = Context {
                    now: &now,
                    jumped_at,
                    author: job.circumstances.author,
                    shown: job.circumstances.shown,
                };
                let known = job.state.as_deref();
                match &job.rule.unit {
                    Some(unit) if job.rule.journal => {
                        journal::look(&job.rule, unit, known, context, each)
                    }
                    _ if job.rule.container => {
                        let runs = job.circumstances.runs.as_deref();
                        let described = runs.and_then(|runs| runs.container.as_deref());
                        container::look(&job.rule, described, known, context, each)
                    }
                    _ => look_with(&job.rule, known, context, &listings),
                }
            });
        let checked = results.into_iter().zip(rules).map(|(result, rule)| {
            result.unwrap_or_else(|failed| Seen {
                findings: vec![looking.given_up(Kind::Log, &rule.title(), failed)],
                ..Seen::default()
            })
        });
        checked.collect()
    }

    fn when_stopped(rule: &Rule, state: Option<&LogPosition>) -> Option<LogPosition> {
        match &rule.unit {
            Some(unit) if rule.journal => Some(journal::at_end(unit, state)),
            _ if rule.container => Some(container::at_end(state)),
            _ => position_at_end(rule, state),
        }
    }

    fn last_write(state: &LogPosition) -> Option<&Moment> {
        state.written.as_ref()
    }

    fn catch_up(state: &mut LogPosition, later: &LogPosition) {
        state.catch_up(later);
    }

    fn traps(rules: &[(&Arc<Rule>, &ServiceContext<'_>)], looking: &Looking<'_>) -> Vec<Vec<Trap>> {
        traps::traps(rules, looking)
    }

    fn explain(rule: &Rule, state: Option<&LogPosition>, last: LastLook<'_>) -> String {
        explain::explain(rule, state, last)
    }
}

/// The limit of a look in the pool: where others are asked, more than they have themselves.
fn limit(rules: &[Arc<Rule>], looking: &Looking<'_>) -> Duration {
    if rules.iter().any(|rule| rule.journal || rule.container) {
        looking.check_timeout + SLACK
    } else {
        looking.check_timeout
    }
}

/// Looks at one log.
pub fn look(rule: &Rule, position: Option<&LogPosition>, context: Context<'_>) -> Seen {
    look_with(rule, position, context, &Listings::default())
}

/// The same with directories that others have read.
fn look_with(
    rule: &Rule,
    position: Option<&LogPosition>,
    context: Context<'_>,
    listings: &Listings,
) -> Seen {
    let position = position.filter(|position| position.is_known());
    let nothing_seen = |why: &str| Seen {
        findings: vec![unreadable(rule, why)],
        ..Seen::default()
    };
    let seen = retry_on_rotation(|| attempt(rule, position, context, listings));
    match (seen, rule.fault()) {
        (Err(error), _) => nothing_seen(&open::reason(&error)),
        // the former mark stands, so that its lines are judged by a run that can
        (Ok(_), Some(fault)) => nothing_seen(&fault),
        (Ok(seen), None) => seen,
    }
}

/// A mark at the present end of a log: what is in it now is not judged again. Taken when a restart has stopped
/// the old process.
///
/// Where the log cannot be read now, the former mark comes back, as far along as the file that it marks can be
/// found.
pub fn position_at_end(rule: &Rule, position: Option<&LogPosition>) -> Option<LogPosition> {
    let position = position.filter(|position| position.is_known());
    retry_on_rotation(|| end_of(rule, position)).unwrap_or_else(|_| position.cloned())
}

/// The file that a log's path means now: itself, or the newest match of a glob; none where a glob matches
/// nothing. Whether it can be read is not said.
pub fn resolve(path: &Path) -> Option<PathBuf> {
    open::choose(path).ok()
}

/// A log that is rotated or truncated while it is read is read again, so often at most.
const ATTEMPTS: usize = 5;

/// What a journalctl or an engine may take beyond its own limit: to be killed and collected, or given up.
const SLACK: Duration = Duration::from_secs(3);

/// Of new lines, at most so many bytes are read a run.
const NEW: u64 = 8 << 20;

/// Of the last lines, at most so many bytes are read a run.
const LAST: u64 = 1 << 20;

/// So many lines go into a mail, and so many bytes of each.
const SHOWN: usize = 10;
const SHOWN_BYTES: usize = 500;

/// Times this far ahead of the clock are told; less is the difference between two clocks.
const AHEAD: TimeDelta = TimeDelta::minutes(5);

/// Between the two steps of a rotation nothing is at the path: it is looked at once more after so long.
const ROTATING: Duration = Duration::from_millis(100);

/// Reads once more where a rotation or a truncation came between.
fn retry_on_rotation<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut outcome = read();
    for _ in 1..ATTEMPTS {
        match &outcome {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => outcome = read(),
            _ => break,
        }
    }
    outcome
}

fn attempt(
    rule: &Rule,
    position: Option<&LogPosition>,
    context: Context<'_>,
    listings: &Listings,
) -> io::Result<Seen> {
    let mut opened = reach(rule);
    if matches!(opened, Err(Trouble::Missing(_))) && position.is_some() {
        thread::sleep(ROTATING);
        opened = reach(rule);
    }
    let current = match opened {
        Ok(current) => current,
        Err(trouble) => {
            let finding = match trouble {
                Trouble::Missing(why) => {
                    finding(rule, "log_missing", Severity::Critical, &rule.shown, &why)
                }
                Trouble::Unreadable(why) => unreadable(rule, &why),
            };
            return Ok(Seen {
                findings: vec![finding],
                ..Seen::default()
            });
        }
    };
    let name = name(rule, &current.path);
    // first of all, so that whatever happens to the file from here on is seen at the end
    current.bytes.hold()?;
    let mut route = match position {
        Some(position) => RotationChain::from(&rule.path, position, current, listings)?,
        None => RotationChain::first(current),
    };
    let lost = matches!(
        route.outcome,
        RotationOutcome::Truncated | RotationOutcome::Gone
    );
    if lost {
        // what came before what was lost is not what came before this file
        route.former.clear();
    }
    let aged = route.unchanged && position.is_some_and(|position| position.here.unfinished);
    let news = read_new(rule, &route, position.is_none(), aged)?;
    let mut next = LogPosition {
        here: news.here,
        former: RotationChain::remember(std::mem::take(&mut route.former), news.older),
        ..position.cloned().unwrap_or_default()
    };
    // a program that begins its log anew when it starts rotates nothing
    let begun_anew = next.restarted || context.author == Author::Perhaps;
    next.restarted = false;
    next.cut = if lost { !begun_anew } else { next.cut };

    let wanted = if rule.expect.is_empty() && rule.stamp.is_none() {
        SHOWN
    } else {
        rule.lines.max(SHOWN)
    };
    let read = |wanted| Recent::read(&route.current.opened, aged, &next.former, wanted);
    // the newest lines of a log that is well show it, and then nobody looks for the others
    let newest = read(SHOWN.min(wanted))?;
    let is_shown = rule.stamp.is_none() && !next.cut && shows_all(rule, &newest);
    let recent = if is_shown || wanted <= SHOWN {
        newest
    } else {
        read(wanted)?
    };
    let current = &route.current.opened;
    if was_rewritten(current) {
        return Err(bytes::interrupted());
    }
    let mut seen = Seen::default();
    if let Some(sentence) = unseen_part(
        route.outcome,
        position.is_some_and(|position| position.restarted),
    ) {
        seen.note(&name, sentence);
    }
    let freshness = Freshness {
        rule,
        name: &name,
        context,
        wrote: wrote(&route),
    };
    freshness.judge(&route, &recent, &mut next, &mut seen)?;
    if !is_shown {
        judge_expect(rule, &name, &recent, &mut next, &mut seen);
    }
    seen.consumed = news.tally.hits.iter().any(|hits| hits.count > 0);
    let old = position.is_none() || context.author == Author::Perhaps;
    for (forbid, hits) in news.tally.beyond() {
        let found = (hits.count, &*hits.first);
        tell_forbidden(
            rule,
            &name,
            forbid,
            found,
            position.is_none(),
            old,
            &mut seen,
        );
    }
    if news.left_out > 0 {
        seen.note(
            &name,
            format!(
                "{} of new lines were left out, only the newest {} are read a run",
                size(news.left_out),
                size(NEW)
            ),
        );
    }
    if news.tally.cut > 0 {
        let limit = size(tail::LINE as u64);
        let what = match news.tally.cut {
            1 => format!("a line longer than {limit} was truncated for the search"),
            count => format!("{count} lines longer than {limit} were truncated for the search"),
        };
        seen.note(&name, what);
    }
    if context.shown || !seen.findings.is_empty() {
        seen.tail = recent.tail();
    }
    seen.state = Some(next);
    Ok(seen)
}

/// Whether a file was truncated since it was opened, and is longer again already.
fn was_rewritten(opened: &Opened) -> bool {
    !opened.is_untouched() && !opened.bytes.still_stands()
}

fn end_of(rule: &Rule, position: Option<&LogPosition>) -> io::Result<Option<LogPosition>> {
    let Ok(current) = reach(rule) else {
        let Some(position) = position else {
            return Ok(None);
        };
        let mut end = LogPosition {
            restarted: true,
            former: passed(position.former.clone()),
            ..position.clone()
        };
        if let Some(old) = rotation::locate(&rule.path, &position.here) {
            end.here = FilePosition::at_end(&old, old.path.clone())?;
        }
        return Ok(Some(end));
    };
    let route = match position {
        Some(position) => RotationChain::from(&rule.path, position, current, &Listings::default())?,
        None => RotationChain::first(current),
    };
    let at_end = |piece: &Segment| FilePosition::at_end(&piece.opened, piece.path.clone());
    let older = route.older.iter().map(at_end).collect::<io::Result<_>>()?;
    let lost = matches!(
        route.outcome,
        RotationOutcome::Truncated | RotationOutcome::Gone
    );
    let position = position.cloned().unwrap_or_default();
    let written = wrote(&route);
    let former = if lost { Vec::new() } else { route.former };
    Ok(Some(LogPosition {
        here: at_end(&route.current)?,
        written: match (written, position.written) {
            (Some(wrote), Some(known)) if wrote > known.wall() => Some(known.with_wall(wrote)),
            (Some(wrote), None) => Some(wrote.into()),
            (_, known) => known,
        },
        cut: position.cut || lost,
        restarted: true,
        former: RotationChain::remember(passed(former), older),
        ..position
    }))
}

/// Remembered files in which there was nothing new: the line that one may end within is not judged again either.
fn passed(former: Vec<FilePosition>) -> Vec<FilePosition> {
    former.into_iter().map(FilePosition::passed).collect()
}

fn reach(rule: &Rule) -> Result<Opened, Trouble> {
    open::choose(&rule.path).and_then(|path| open::open(&path, Links::Follow))
}

/// When the files of a route were last seen written, if one of them was: an empty file is not a write.
fn wrote(route: &RotationChain) -> Option<DateTime<Utc>> {
    let current = &route.current.opened;
    let older = route.older.iter().filter(|piece| piece.grown);
    older
        .map(|piece| piece.opened.modified)
        .chain((current.size > 0).then_some(current.modified))
        .max()
}

/// Whether these lines are enough to show all that is expected.
fn shows_all(rule: &Rule, recent: &Recent) -> bool {
    let lines = recent.lines().take(rule.lines);
    patterns::missed(&rule.expect, lines).next().is_none()
}

fn judge_expect(rule: &Rule, name: &str, recent: &Recent, next: &mut LogPosition, seen: &mut Seen) {
    if rule.expect.is_empty() {
        return;
    }
    let count = recent.count.min(rule.lines);
    if count >= rule.lines {
        next.cut = false;
    }
    let unknown = next.cut || recent.broken;
    tell_missed(rule, name, recent.lines().take(count), unknown, seen);
    if recent.bounded && count < rule.lines {
        seen.note(
            name,
            format!(
                "only the last {} were looked at for what is expected: {} of {} lines",
                size(LAST),
                count,
                rule.lines
            ),
        );
    }
}

/// Tells of what is expected and is not among the last lines; where `unknown`, there may have been more of them.
fn tell_missed<'a>(
    rule: &'a Rule,
    name: &str,
    lines: impl Iterator<Item = &'a [u8]> + Clone,
    unknown: bool,
    seen: &mut Seen,
) {
    // of a log that is well, only the newest lines are looked for
    let all = LazyCell::new({
        let lines = lines.clone();
        || lines.count()
    });
    for (expect, found) in patterns::missed(&rule.expect, lines) {
        let (count, pattern) = (*all, expect.pattern.source());
        if unknown && count < rule.lines {
            seen.note(
                name,
                format!(
                    "`{pattern}` is not judged: it was rotated, the lines before cannot be read any more, and \
                     there are only {count} of {} since",
                    rule.lines
                ),
            );
            continue;
        }
        let why = match count {
            0 => format!(
                "it has no complete line ({} matching `{pattern}` needed)",
                expect.at_least
            ),
            1 => format!(
                "{found} of 1 line matches `{pattern}` ({} needed)",
                expect.at_least
            ),
            all => format!(
                "{found} of the last {all} lines match `{pattern}` ({} needed)",
                expect.at_least
            ),
        };
        seen.findings
            .push(finding(rule, "log_quiet", Severity::Critical, name, &why));
    }
}

/// Tells of what is forbidden and was found so often, with the first line of it. What may be `old` is a warning.
fn tell_forbidden(
    rule: &Rule,
    name: &str,
    forbid: &Forbid,
    (count, first): (u64, &str),
    is_first: bool,
    old: bool,
    seen: &mut Seen,
) {
    let lines = match (is_first, count) {
        (true, count) => format!("{count} of the last lines"),
        (false, 1) => "1 new line".to_owned(),
        (false, count) => format!("{count} new lines"),
    };
    let verb = if count == 1 { "matches" } else { "match" };
    let (whose, severity) = if old {
        (", perhaps of an earlier process,", Severity::Warning)
    } else {
        ("", Severity::Critical)
    };
    let why = format!(
        "{lines}{whose} {verb} `{}` (limit {}), the first: {first}",
        forbid.pattern.source(),
        forbid.at_most
    );
    seen.findings
        .push(finding(rule, "log_error", severity, name, &why));
}

/// A note about lines that nobody will see.
fn unseen_part(outcome: RotationOutcome, restarted: bool) -> Option<String> {
    match outcome {
        RotationOutcome::Same | RotationOutcome::Rotated => None,
        // the new process began the log anew, and all before was done with
        RotationOutcome::Truncated if restarted => None,
        RotationOutcome::Truncated => Some(
            "it was truncated and no copy was found: what was written between the last run and then was not seen"
                .to_owned(),
        ),
        RotationOutcome::Gone => Some(
            "it was rotated and the rest of it is gone (compressed or removed): what was written \
             between the last run and the rotation was not seen"
                .to_owned(),
        ),
    }
}

/// The log's name in sentences: as the config has it, and the match of a glob.
fn name(rule: &Rule, path: &Path) -> String {
    if path == rule.path {
        return rule.shown.clone();
    }
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    format!("{} ({file})", rule.shown)
}

fn unreadable(rule: &Rule, why: &str) -> Finding {
    finding(rule, "log_unreadable", Severity::Unknown, &rule.shown, why)
}

/// A finding, as bad as the rule lets it be.
fn finding(rule: &Rule, code: &'static str, severity: Severity, name: &str, why: &str) -> Finding {
    let severity = match severity {
        Severity::Critical => rule.severity,
        other => other,
    };
    Finding::new(Kind::Log, code, severity, format!("{name}: {why}"))
}

impl Checked<LogPosition> {
    fn note(&mut self, name: &str, what: impl AsRef<str>) {
        self.notes.push(format!("{name}: {}", what.as_ref()));
    }
}

/// Bytes for a person.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests;
