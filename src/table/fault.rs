//! What is wrong with a config: each fault with its place, the line it stands on, and a word of help.
//!
//! A person mends a config by reading this, once: so all faults of a file are told together, and each shows the
//! line as it is written. Two kinds of text are never shown as they are: a line that holds a secret, and
//! characters that would steer the terminal.

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::path::Path;

use toml::de::DeTable;
use unicode_width::UnicodeWidthChar;

use crate::text::{cut, escape, visible, visible_path};
/// How many faults of a file are told; a file with more is not a config.
pub(crate) const MOST: usize = 100;

/// In place of a file.
const ENVIRONMENT: &str = "the environment";

/// The widest piece of a line that is shown, in columns.
const WIDEST: usize = 100;

/// The longest name that is shown whole, in characters: that of a service has 64 at most.
const LONGEST: usize = 64;

/// One thing that is wrong with a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1; 0 for what has no place: it is missing as a whole, or came from the environment.
    pub line: usize,
    /// The column in characters, from 1; 0 for what has no place.
    pub column: usize,
    /// The table and the key in it, `[service.trader.restart] max_per_hour`; empty for what is in no table.
    pub place: String,
    /// What is wrong, in one line.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
    file: String,
    excerpt: Excerpt,
}

/// A line of the config as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Excerpt {
    /// The line, or a piece of it, and the columns to point at.
    Shown {
        text: String,
        before: usize,
        carets: usize,
    },
    /// It holds a secret.
    Secret,
    /// There is none.
    Absent,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        if self.line == 0 {
            write!(f, "\n --> {}", self.file)?;
            if let Some(help) = &self.help {
                write!(f, "\n  = help: {help}")?;
            }
            return Ok(());
        }
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        write!(
            f,
            "\n{margin}--> {}:{}:{}",
            self.file, self.line, self.column
        )?;
        if !self.place.is_empty() {
            write!(f, ": {}", self.place)?;
        }
        match &self.excerpt {
            Excerpt::Shown {
                text,
                before,
                carets,
            } => {
                let pointer = format!("{}{}", " ".repeat(*before), "^".repeat(*carets));
                write!(f, "\n{margin} |\n{number} | {text}\n{margin} | {pointer}")?;
            }
            Excerpt::Secret => write!(
                f,
                "\n{margin} = note: the line is not shown, for it holds a secret"
            )?,
            Excerpt::Absent => {}
        }
        if let Some(help) = &self.help {
            write!(f, "\n{margin} = help: {help}")?;
        }
        Ok(())
    }
}

impl Fault {
    /// The file that it is in, as it is shown; absent for one of the environment.
    pub(crate) fn file(&self) -> Option<&str> {
        (self.file != ENVIRONMENT).then_some(&self.file)
    }

    /// A fault of the process environment, where there is no line to show.
    pub(crate) fn of_environment(message: &str, help: Option<&str>) -> Self {
        Self {
            line: 0,
            column: 0,
            place: String::new(),
            message: visible(message),
            help: help.map(visible),
            file: ENVIRONMENT.to_owned(),
            excerpt: Excerpt::Absent,
        }
    }
}

/// A part of the way to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathPart<'a> {
    /// A key.
    Key(&'a str),
    /// An entry of a list.
    Entry(usize),
}

/// The table that a path leads to, and the key in it, as a config has them: `[service.trader.restart] max_per_hour`,
/// `[[service.trader.log]] expect[1]`. With `is_table` the end of the path is a table itself.
pub(crate) fn shown_place(path: &[PathPart<'_>], is_table: bool) -> String {
    let is_key = |part: &PathPart<'_>| matches!(part, PathPart::Key(_));
    let list = path.iter().position(|part| !is_key(part));
    // its entries are tables
    let list = list.filter(|at| is_table || path.iter().skip(at + 1).any(is_key));
    let (table, rest) = if let Some(at) = list {
        let (table, rest) = path.split_at(at);
        (format!("[[{}]]", dotted(table)), &rest[1..])
    } else if path.is_empty() {
        return String::new();
    } else if is_table {
        return format!("[{}]", dotted(path));
    } else {
        match path.split_at(path.iter().rposition(is_key).unwrap_or_default()) {
            ([], rest) => return dotted(rest),
            (table, rest) => (format!("[{}]", dotted(table)), rest),
        }
    };
    match rest {
        [] => table,
        rest => format!("{table} {}", dotted(rest)),
    }
}

/// A path as TOML has it: a name with a dot in it is quoted.
fn dotted(path: &[PathPart<'_>]) -> String {
    let mut all = String::new();
    for part in path {
        match part {
            PathPart::Key(word) => {
                if !all.is_empty() {
                    all.push('.');
                }
                let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
                let shown = if !word.is_empty() && word.chars().all(is_bare) {
                    cut(word, LONGEST)
                } else {
                    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"");
                    format!("\"{}\"", cut(&escaped, LONGEST))
                };
                all.push_str(&shown);
            }
            PathPart::Entry(number) => {
                let _ = write!(all, "[{number}]");
            }
        }
    }
    all
}

/// The text of a config, cut into lines.
pub(crate) struct Source<'a> {
    path: &'a Path,
    text: &'a str,
    /// Where each line begins.
    starts: Vec<usize>,
    /// Which lines hold a secret.
    secret: Vec<bool>,
}

impl<'a> Source<'a> {
    /// Cuts `text` into lines, and hides those that look as if they held a secret: what does not parse must not
    /// be shown either.
    pub(crate) fn new(text: &'a str, path: &'a Path) -> Self {
        let starts: Vec<_> = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        let mut source = Self {
            path,
            text,
            secret: vec![false; starts.len()],
            starts,
        };
        let mut open: Option<&str> = None;
        let mut awaited = false;
        let mut is_of_channel = false;
        for (number, line) in text.split('\n').enumerate() {
            let hidden = if let Some(quotes) = open {
                if line.contains(quotes) {
                    open = None;
                }
                true
            } else if let Some(value) = {
                if line.trim_start().starts_with('[') {
                    is_of_channel = line.contains("notify") || line.contains("ping");
                }
                let is_secret = if is_of_channel || line.contains("notify") || line.contains("ping")
                {
                    is_secret_of_channel
                } else {
                    is_secret
                };
                secret_value(line, is_secret).or(awaited.then_some(line))
            } {
                // a text of many lines that begins here goes on in the next; a value may be missing, and follow
                open = ["\"\"\"", "'''"]
                    .into_iter()
                    .find(|quotes| line.matches(*quotes).count() % 2 == 1);
                awaited = value
                    .trim_matches(|c| blank(c) || "=:[{".contains(c))
                    .is_empty();
                true
            } else {
                false
            };
            if let Some(secret) = source.secret.get_mut(number) {
                *secret |= hidden;
            }
        }
        source
    }

    /// Hides all lines that `span` touches.
    pub(crate) fn hide(&mut self, span: &Range<usize>) {
        let (first, last) = (
            self.line_of(span.start),
            self.line_of(span.end.max(span.start + 1) - 1),
        );
        for secret in self.secret.iter_mut().take(last + 1).skip(first) {
            *secret = true;
        }
    }

    /// All of the text.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// The text of a place.
    pub(crate) fn slice(&self, span: Range<usize>) -> &'a str {
        self.text.get(span).unwrap_or_default()
    }

    /// The line of an offset, from 0.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        self.starts
            .partition_point(|start| *start <= offset)
            .saturating_sub(1)
    }

    /// The table that an offset is in, by the header above it: for what is not TOML. `values` are the places of lists and
    /// inline tables, which may have lines in them that look like one.
    pub(crate) fn table_above(&self, offset: usize, values: &[Range<usize>]) -> Option<String> {
        for number in (0..=self.line_of(offset)).rev() {
            let start = self.starts[number];
            let line = self.slice(start..self.text.len()).lines().next()?;
            let in_value = |value: &Range<usize>| value.start < start && start < value.end;
            if !line.trim_start().starts_with('[') || values.iter().any(in_value) {
                continue;
            }
            let (header, slips) = DeTable::parse_recoverable(line);
            let mut table = header.get_ref();
            let mut path = Vec::new();
            let mut is_list = false;
            while let Some((key, value)) = table.iter().next() {
                path.push(key.get_ref().to_string());
                is_list = value.get_ref().is_array();
                let entry = value.get_ref().as_array().and_then(|list| list.first());
                let inner = entry.map_or(value.get_ref(), |entry| entry.get_ref());
                match inner.as_table() {
                    Some(inner) => table = inner,
                    None => break,
                }
            }
            let mut path: Vec<_> = path.iter().map(|key| PathPart::Key(key)).collect();
            if is_list {
                path.push(PathPart::Entry(0));
            }
            // the line itself is shown
            let is_own = number == self.line_of(offset);
            return (slips.is_empty() && !is_own).then(|| shown_place(&path, true));
        }
        None
    }

    /// A fault at a place of this text. `secret` keeps its line back.
    pub(crate) fn fault(
        &self,
        span: &Range<usize>,
        place: &str,
        message: &str,
        help: Option<&str>,
        secret: bool,
    ) -> Fault {
        let mut at = self
            .text
            .floor_char_boundary(span.start.min(self.text.len()));
        // the end of the file is the end of its last line, not the empty one after it
        if at == self.text.len() && self.text.ends_with('\n') {
            at -= 1;
        }
        let number = self.line_of(at);
        let start = self.starts.get(number).copied().unwrap_or_default();
        let before = self.slice(start..at);
        let hidden = secret || self.secret.get(number).copied().unwrap_or_default();
        Fault {
            line: number + 1,
            column: before.trim_start_matches('\u{feff}').chars().count() + 1,
            place: visible(place),
            message: visible(message),
            help: help.map(visible),
            file: visible_path(self.path),
            excerpt: if hidden {
                Excerpt::Secret
            } else {
                self.excerpt(before, at, span.end.max(at))
            },
        }
    }

    /// A fault of the text as a whole.
    pub(crate) fn fault_of_whole(&self, message: &str, help: Option<&str>) -> Fault {
        Fault {
            line: 0,
            column: 0,
            place: String::new(),
            message: visible(message),
            help: help.map(visible),
            file: visible_path(self.path),
            excerpt: Excerpt::Absent,
        }
    }

    /// The piece of a line that is worth showing of a place that begins at `at`, after `before`.
    fn excerpt(&self, before: &str, at: usize, end: usize) -> Excerpt {
        let rest = self.text.get(at..).unwrap_or_default();
        let rest = rest.split('\n').next().unwrap_or_default();
        let rest = rest.strip_suffix('\r').unwrap_or(rest);
        let pointed = rest.floor_char_boundary((end - at).min(rest.len()));
        let (pointed, after) = rest.split_at(pointed);

        let pointed = Piece::from_front(pointed, WIDEST / 2);
        let carets = pointed.width.max(1);
        let after = Piece::from_front(after, WIDEST - pointed.width);
        let room = WIDEST.saturating_sub(pointed.width + after.width.min(WIDEST / 4));
        let before = Piece::from_back(before.trim_start_matches('\u{feff}'), room);
        let after = if pointed.cut {
            Piece::default()
        } else {
            after.shortened(WIDEST.saturating_sub(before.width + pointed.width))
        };
        let mark = |cut| if cut { "…" } else { "" };
        Excerpt::Shown {
            before: before.width + usize::from(before.cut),
            text: format!(
                "{}{}{}{}{}",
                mark(before.cut),
                before.text,
                pointed.text,
                after.text,
                mark(pointed.cut || after.cut)
            ),
            carets,
        }
    }
}

/// A piece of a line as it is shown.
#[derive(Default)]
struct Piece {
    text: String,
    width: usize,
    cut: bool,
}

impl Piece {
    fn from_front(text: &str, room: usize) -> Self {
        let mut piece = Self::default();
        for c in text.chars() {
            let (shown, width) = cell(c);
            if piece.width + width > room {
                piece.cut = true;
                break;
            }
            piece.text.push_str(&shown);
            piece.width += width;
        }
        piece
    }

    fn from_back(text: &str, room: usize) -> Self {
        let mut cells = Vec::new();
        let mut piece = Self::default();
        for c in text.chars().rev() {
            let (shown, width) = cell(c);
            if piece.width + width > room {
                piece.cut = true;
                break;
            }
            cells.push(shown);
            piece.width += width;
        }
        piece.text = cells.into_iter().rev().collect();
        piece
    }

    fn shortened(self, room: usize) -> Self {
        if self.width <= room {
            return self;
        }
        Self {
            cut: true,
            ..Self::from_front(&self.text, room)
        }
    }
}

/// A character as it is shown, and its columns.
fn cell(c: char) -> (String, usize) {
    match escape(c) {
        Some(shown) => {
            let width = shown.len();
            (shown, width)
        }
        None => (c.to_string(), c.width().unwrap_or_default()),
    }
}

/// Whether a key or variable of this name holds a secret, rather than the place of one.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    if ["_file", "_env", "_credential", "_path", "_dir"]
        .iter()
        .any(|place| name.ends_with(place))
    {
        return false;
    }
    [
        "passw",
        "passphrase",
        "secret",
        "token",
        "api_key",
        "apikey",
        "private_key",
        "access_key",
        "credential",
        "authorization",
        "cookie",
    ]
    .iter()
    .any(|word| name.contains(word))
        || ((5..=12).contains(&name.len()) && strsim::jaro(&name, "password") > 0.85)
}

/// The same in a `[notify.NAME]` table.
pub(crate) fn is_secret_of_channel(name: &str) -> bool {
    // misspelt, too: the value is the same
    let secrets = ["url", "topic", "token", "secret", "user", "routing_key"];
    let is_place = ["_file", "_env", "_credential"]
        .iter()
        .any(|place| name.ends_with(place));
    is_secret(name)
        || (!is_place
            && secrets
                .iter()
                .any(|secret| strsim::jaro(name, secret) > 0.85))
}

/// What separates words from what they are next to.
fn blank(c: char) -> bool {
    c.is_whitespace() || c == '"' || c == '\''
}

/// What follows the name of something secret in a line that looks as if it gave a value to it, parsed or not.
fn secret_value(line: &str, is_secret: fn(&str) -> bool) -> Option<&str> {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let mut rest = line;
    while let Some(begin) = rest.find(word) {
        let tail = rest.get(begin..)?;
        let end = tail.find(|c| !word(c)).unwrap_or(tail.len());
        let (name, after) = tail.split_at(end);
        if is_secret(name) {
            let before = line.get(..line.len() - tail.len())?.trim_end_matches(blank);
            let opens = before.is_empty() || before.ends_with(['{', ',', '.', '#']);
            let sets = after.trim_start_matches(blank).starts_with(['=', ':']);
            if opens || sets {
                return Some(after);
            }
        }
        rest = after;
    }
    None
}
