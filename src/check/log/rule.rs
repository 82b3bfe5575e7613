//! The `log` tables of a service.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

use memchr::memchr3;

use super::super::container;
use super::super::pattern::Pattern;
use super::{NamedZone, Severity, Stamp, Zone, stamp};
use crate::systemctl::Manager;
use crate::table::{
    AtLeast, Checked, Context, Derived, Form, Meant, Part, Positive, Shown, Table, Value, Via,
    Within, absolute, choice, nearest, quoted, table,
};

/// How many lines `expect` sees.
const LINES: usize = 100;

/// The most it may see: the bytes that are read for it could hold no more.
const MOST_LINES: i64 = 1_000_000;

table! {
    /// A log of the service; there may be several such tables.
    pub struct Rule like "[[service.NAME.log]]", check fits_together {
        /// A glob takes the newest match: "logs/trader-*.log".
        shown("path"): String as AsWritten, example r#""logs/trader.log""#;
        /// The same, absolute.
        path: PathBuf => AsMeant;
        /// In place of a path: the messages of the service's unit, as the journal of systemd has them.
        journal: bool = false, commented "true";
        /// Whose messages those are.
        unit: Option<Unit> => Later<Unit>;
        /// In place of a path: what the service's container writes to standard output and error, as its engine has it.
        container: bool = false, commented "true";
        /// Which container that is.
        of_container: Option<container::Rule> => Later<container::Rule>;
        /// The freshness limit; without it freshness is not judged.
        max_age: Option<Duration> as Option<Positive>, example r#""5m""#;
        /// How far back `expect` looks, and `forbid` on the first run.
        lines: usize as Within<1, MOST_LINES> = LINES;
        /// Each must match at_least (1) of these lines.
        expect: Vec<Expect> = Vec::new(), example "['VIX|Position|Update', { pattern = 'tick', at_least = 3 }]";
        /// Each may match at_most (0) of the lines that are new since the last run.
        forbid: Vec<Forbid> = Vec::new(), example "['Traceback', { pattern = 'ERROR', at_most = 5, except = ['ERROR: retrying'] }]";
        /// How lines are stamped, where the age is that of the newest stamp and not the modification time.
        stamp: Option<Stamp> => Via<StampKeys>;
        /// Or "warning": reported, and never a reason to restart.
        severity: Severity = Severity::Critical;
    }
}

table! {
    /// A pattern that must be there, with its count.
    pub struct Expect like "{ pattern = 'tick', at_least = 3 }", short pattern {
        /// What is searched for in each line.
        pattern: Pattern, example "'tick'";
        /// How many of the last lines must match.
        at_least: u64 as AtLeast<1> = 1;
        /// A line that one of these matches does not count.
        except: Vec<Pattern> = Vec::new();
    }
}

table! {
    /// A pattern that must not be there, with its count.
    pub struct Forbid like "{ pattern = 'ERROR', at_most = 5 }", short pattern {
        /// What is searched for in each new line.
        pattern: Pattern, example "'ERROR'";
        /// How many new lines may match.
        at_most: u64 as AtLeast<0> = 0;
        /// A line that one of these matches does not count.
        except: Vec<Pattern> = Vec::new();
    }
}

table! {
    /// How the lines of a log are stamped.
    struct StampKeys like "timestamp = \"%H:%M:%S\"", check has_format {
        /// A chrono format, or "unix", "unix_ms", "tai64n": then the age is that of the newest stamped line; default: that
        /// of the last write.
        timestamp: Option<String> as Option<TimeFormat>, example r#""%Y-%m-%d %H:%M:%S""#;
        /// Literal text before the stamp, for '{"timestamp":"2026-…' and the like.
        timestamp_after: Option<String> = Some(String::new());
        /// Or "utc", or a name such as "Europe/Prague", for formats that have no zone of their own.
        timestamp_zone: Option<Zone> = Some(Zone::Local);
    }
}

/// Whether a pattern matches a line, and none of its exceptions does.
fn counts(pattern: &Pattern, except: &[Pattern], line: &[u8]) -> bool {
    pattern.matches(line) && !except.iter().any(|except| except.matches(line))
}

impl Expect {
    /// Whether a line counts.
    pub(super) fn matches(&self, line: &[u8]) -> bool {
        counts(&self.pattern, &self.except, line)
    }
}

impl Forbid {
    /// Whether a line counts.
    pub(super) fn matches(&self, line: &[u8]) -> bool {
        counts(&self.pattern, &self.except, line)
    }
}

/// A unit that has messages in a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its name, with its suffix.
    pub name: String,
    /// Whose it is.
    pub manager: Manager,
}

/// Nothing yet: the service is read when its parts are.
struct Later<T>(PhantomData<T>);

impl<T: Clone> Derived for Later<T> {
    type Of = Option<T>;

    fn derive(_: &Table<'_>, _: &Context) -> Option<Option<T>> {
        Some(None)
    }
}

impl Rule {
    /// What it is called in sentences.
    pub fn title(&self) -> String {
        match &self.unit {
            Some(unit) if self.journal => format!("the journal of {}", unit.name),
            _ if self.container => match &self.of_container {
                Some(container) => format!("the output of {container}"),
                None => "the output of its container".to_owned(),
            },
            _ => self.shown.clone(),
        }
    }

    /// A log that only has to be there.
    #[cfg(test)]
    pub(crate) fn fixture(path: &str) -> Self {
        Self {
            shown: path.to_owned(),
            path: Path::new("/").join(path),
            journal: false,
            unit: None,
            container: false,
            of_container: None,
            max_age: None,
            lines: 1,
            expect: Vec::new(),
            forbid: Vec::new(),
            stamp: None,
            severity: Severity::Critical,
        }
    }

    /// Nothing is asked of it but to be there.
    pub(super) fn is_empty(&self) -> bool {
        self.max_age.is_none() && self.expect.is_empty() && self.forbid.is_empty()
    }

    /// Why one of its patterns cannot be searched for.
    pub(super) fn fault(&self) -> Option<String> {
        let expected = self
            .expect
            .iter()
            .flat_map(|expect| std::iter::once(&expect.pattern).chain(&expect.except));
        let forbidden = self
            .forbid
            .iter()
            .flat_map(|forbid| std::iter::once(&forbid.pattern).chain(&forbid.except));
        expected.chain(forbidden).find_map(Pattern::fault)
    }
}

/// "local", "utc", or a name of the IANA database.
impl Form for Zone {
    fn read(value: &Value<'_>, _: &Context) -> Option<Self> {
        let text = value.text()?;
        match text {
            "local" => return Some(Self::Local),
            "utc" => return Some(Self::Utc),
            _ => {}
        }
        let zone = NamedZone::of(text);
        if zone.is_none() {
            let known = ["local", "utc"].into_iter().chain(NamedZone::names());
            let help = match nearest(text, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write \"local\", \"utc\", or a name such as \"Europe/Prague\"".to_owned(),
            };
            value.wrong(
                &format!("{} cannot be {}", value.name(), quoted(text)),
                help,
            );
        }
        zone.map(Self::Named)
    }

    fn show(value: &Self) -> Option<Shown> {
        Some(Shown::text(match value {
            Self::Local => "local",
            Self::Utc => "utc",
            Self::Named(zone) => zone.name(),
        }))
    }

    fn kind() -> String {
        "local, utc, or a zone such as Europe/Prague".to_owned()
    }
}

choice! { Severity: "critical" = Critical, "warning" = Warning }

impl Meant<Option<Stamp>> for StampKeys {
    fn meant(self) -> Option<Option<Stamp>> {
        let (after, zone) = (self.timestamp_after, self.timestamp_zone);
        Some(self.timestamp.map(|format| Stamp {
            format,
            after: after.unwrap_or_default(),
            zone: zone.unwrap_or(Zone::Local),
        }))
    }

    fn written(stamp: &Option<Stamp>) -> Self {
        Self {
            timestamp: stamp.as_ref().map(|stamp| stamp.format.clone()),
            timestamp_after: stamp.as_ref().map(|stamp| stamp.after.clone()),
            timestamp_zone: stamp.as_ref().map(|stamp| stamp.zone),
        }
    }
}

fn has_format(table: &Table<'_>, _: &mut Part<StampKeys>) {
    if table.has("timestamp") {
        return;
    }
    for key in ["timestamp_after", "timestamp_zone"] {
        if let Some(value) = table.get(key) {
            value.misplaced(
                &format!("{} without `timestamp`", value.name()),
                "write timestamp = \"%Y-%m-%d %H:%M:%S\" too, or whatever the lines have",
            );
        }
    }
}

/// Holds the keys of a table against one another.
fn fits_together(table: &Table<'_>, part: &mut Part<Rule>) {
    let journal = table.get("journal").filter(|_| part.journal != Some(false));
    let container = table.get("container");
    let container = container.filter(|_| part.container != Some(false));
    let others = [("journal", &journal), ("container", &container)];
    let mut others = others
        .iter()
        .filter_map(|(key, it)| Some((*key, it.as_ref()?)));
    let first = if table.has("path") {
        Some("path")
    } else {
        others.next().map(|(key, _)| key)
    };
    for (key, value) in others {
        value.misplaced(
            &format!("`{key}` beside `{}`", first.unwrap_or_default()),
            "a log is one or the other: leave one out, or write a second [[service.NAME.log]]",
        );
    }
    if first.is_none() {
        table.lacks(
            "`path` is missing",
            "write path = \"logs/trader.log\", or journal = true, or container = true",
        );
    }
    if first == Some("journal") {
        for key in ["timestamp", "timestamp_after", "timestamp_zone"] {
            if let Some(value) = table.get(key) {
                value.misplaced(
                    &format!("{} beside `journal`", value.name()),
                    "leave it out: the journal has the time of each message",
                );
            }
        }
    }
    can_match(table, part);
}

/// Whether as many lines are looked at as have to match.
fn can_match(table: &Table<'_>, part: &mut Part<Rule>) {
    let lines = match part.lines {
        Some(lines) => lines,
        // it is wrong already
        None if table.has("lines") => return,
        None => LINES,
    };
    if part
        .expect
        .as_ref()
        .is_none_or(|expect| expect.iter().all(|expect| fits(expect, lines)))
    {
        return;
    }
    let Some(list) = table.get("expect") else {
        return;
    };
    for entry in (0..).map_while(|number| list.entry(number)) {
        let at_least = entry.key("at_least").and_then(|value| value.raw_number());
        if let Some(at_least) = at_least.filter(|at_least| *at_least > 0)
            && usize::try_from(at_least).map_or(true, |at_least| at_least > lines)
        {
            entry.wrong(
                &format!("{at_least} of the last {lines} lines can never match"),
                "raise `lines`, or lower `at_least`",
            );
        }
    }
}

fn fits(expect: &Expect, lines: usize) -> bool {
    usize::try_from(expect.at_least).is_ok_and(|at_least| at_least <= lines)
}

/// The path of a log as it is written.
struct AsWritten;

impl Form<String> for AsWritten {
    const OPTIONAL: bool = true;

    fn absent() -> Option<String> {
        Some(String::new())
    }

    fn show(value: &String) -> Option<Shown> {
        (!value.is_empty()).then(|| Shown::text(value))
    }

    fn kind() -> String {
        "a path or a glob".to_owned()
    }

    fn read(value: &Value<'_>, _: &Context) -> Option<String> {
        let text = value.path_text()?;
        if is_glob(text)
            && let Err(error) = glob::Pattern::new(text)
        {
            value.wrong(
                &format!("`path` is not a valid glob: {}", error.msg),
                "`*`, `?` and `[a-z]` are wildcards; `[[]` is a bracket",
            );
            return None;
        }
        Some(text.to_owned())
    }
}

fn is_glob(text: &str) -> bool {
    memchr3(b'*', b'?', b'[', text.as_bytes()).is_some()
}

/// The same as it is meant. Where it is a glob, the directory that it is relative to must not become a part of the
/// pattern.
struct AsMeant;

impl Derived for AsMeant {
    type Of = PathBuf;

    fn derive(table: &Table<'_>, context: &Context) -> Option<PathBuf> {
        let Some(value) = table.get("path") else {
            return table.has_any(&["journal", "container"]).then(PathBuf::new);
        };
        let (text, base) = (value.raw_text()?, &*context.base);
        if !is_glob(text) {
            return Some(absolute(base, text));
        }
        let base = base.to_str().map_or_else(
            || base.to_owned(),
            |base| glob::Pattern::escape(base).into(),
        );
        Some(absolute(Path::new(&base), text))
    }
}

/// A format that times can be read by.
struct TimeFormat;

impl Checked for TimeFormat {
    type Of = String;
    const KIND: &'static str = "a time format";

    fn read(value: &Value<'_>, _: &Context) -> Option<String> {
        let format = value.text()?;
        if let Err(reason) = stamp::check(format) {
            let help = if format.contains("%s") {
                "write \"unix\" for seconds since 1970, with a fraction or without, \"unix_ms\" for milliseconds"
            } else {
                "write it like \"%Y-%m-%d %H:%M:%S\", or \"unix\", \"unix_ms\", \"tai64n\""
            };
            value.wrong(&format!("`timestamp` {reason}"), help);
            return None;
        }
        Some(format.to_owned())
    }
}
