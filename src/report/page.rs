//! Lines for a person: safe to show, and broken at words where the terminal ends.
//!
//! Most of what a report says was written by somebody else: log lines, command lines, names of units, errors of
//! systems. So everything passes through here on its way out, and what could move a cursor or forge a line is
//! shown as an escape. A line that is too long goes on below itself, indented, so that it still reads as one.

use unicode_width::UnicodeWidthStr;

use crate::text::visible;
use crate::verdict::ExitCode;

/// The width of a page whose reader is not known: a pipe, a file, cron's mail.
pub const USUAL: usize = 80;

/// No narrower page is made: less leaves no room for words beside their indentation.
const LEAST: usize = 40;

/// Whether text may hold colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// It may.
    Colours,
    /// It may not.
    Plain,
}

impl Paint {
    fn wrap(self, text: &str, code: ExitCode) -> String {
        let colour = match code {
            ExitCode::Ok => "32",
            ExitCode::Warning => "33",
            ExitCode::Unknown => "35",
            ExitCode::Critical => "31",
        };
        match self {
            Self::Colours => format!("\x1b[{colour}m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

/// How a page looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether it has colours.
    pub paint: Paint,
    /// How many columns a line may have.
    pub width: usize,
}

impl Style {
    /// As wide as the terminal that standard output is, or [`USUAL`] where it is none.
    pub fn for_stdout(paint: Paint) -> Self {
        let columns = terminal_size::terminal_size_of(std::io::stdout())
            .map_or(USUAL, |(width, _)| usize::from(width.0));
        Self {
            paint,
            width: columns.max(LEAST),
        }
    }

    /// Without colours, [`USUAL`] columns wide.
    pub fn plain() -> Self {
        Self {
            paint: Paint::Plain,
            width: USUAL,
        }
    }
}

/// Text that grows line by line.
#[derive(Debug)]
pub struct Page {
    style: Style,
    text: String,
}

impl Page {
    /// An empty page.
    pub fn new(style: Style) -> Self {
        Self {
            style,
            text: String::new(),
        }
    }

    /// Adds a line that begins `indent` columns from the left, and goes on four further where it is too long.
    pub fn line(&mut self, indent: usize, text: &str) {
        let lines = broken(&visible(text), indent, indent + 4, self.style.width);
        self.push(&lines);
    }

    /// The same, but what is too long goes on at `rest` columns from the left.
    pub fn hanging(&mut self, indent: usize, rest: usize, text: &str) {
        let lines = broken(&visible(text), indent, rest, self.style.width);
        self.push(&lines);
    }

    /// A line whose first word is painted by how bad it is; the word fills `column` columns.
    pub fn verdict(&mut self, word: &str, column: usize, code: ExitCode, text: &str) {
        let padded = format!("{word:<column$}  ");
        let mut lines = broken(&visible(text), padded.width(), 4, self.style.width);
        if let Some(first) = lines.first_mut() {
            let after = first.trim_start();
            let padding = " ".repeat(padded.width().saturating_sub(word.width()));
            *first = format!("{}{padding}{after}", self.style.paint.wrap(word, code));
        }
        self.push(&lines);
    }

    /// Adds a line as somebody else wrote it: escaped, and not broken, so that it can be searched for.
    pub fn quoted(&mut self, indent: usize, text: &str) {
        self.text.push_str(&" ".repeat(indent));
        self.text.push_str("| ");
        self.text.push_str(&visible(text));
        self.text.push('\n');
    }

    fn push(&mut self, lines: &[String]) {
        for line in lines {
            self.text.push_str(line.trim_end());
            self.text.push('\n');
        }
    }

    /// All of it.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// Breaks a text at spaces into lines of at most `width` columns. Runs of spaces within a line stay. A word that
/// is longer than a line has a line of its own: a path or a command in two pieces is of no use to anybody.
fn broken(text: &str, first: usize, rest: usize, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = " ".repeat(first);
    let mut columns = first;
    let mut empty = true;
    let mut gap = 0;
    for word in text.trim_end().split(' ') {
        if word.is_empty() {
            gap += 1;
            continue;
        }
        if !empty && columns + gap + word.width() > width {
            lines.push(std::mem::replace(&mut line, " ".repeat(rest)));
            columns = rest;
            gap = 0;
        }
        line.push_str(&" ".repeat(gap));
        line.push_str(word);
        columns += gap + word.width();
        empty = false;
        gap = 1;
    }
    lines.push(line);
    lines
}

/// How many columns a text takes.
pub fn columns(text: &str) -> usize {
    text.width()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(width: usize) -> Page {
        Page::new(Style {
            paint: Paint::Plain,
            width,
        })
    }

    #[test]
    fn what_is_too_long_goes_on_below_itself() {
        let mut page = page(20);
        page.line(4, "one two three four five");
        assert_eq!(page.into_text(), "    one two three\n        four five\n");
    }

    #[test]
    fn a_long_word_stays_whole() {
        let mut page = page(20);
        page.line(0, "see /srv/trader/logs/trader.log for more");
        assert_eq!(
            page.into_text(),
            "see\n    /srv/trader/logs/trader.log\n    for more\n"
        );
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let mut page = page(12);
        page.line(0, "日本 語語 日本");
        assert_eq!(page.into_text(), "日本 語語\n    日本\n");
    }

    #[test]
    fn colours_change_no_column() {
        let text = "trader  PID 4711, and more than fits";
        let mut plain = page(30);
        plain.verdict("down", 10, ExitCode::Critical, text);
        let mut coloured = Page::new(Style {
            paint: Paint::Colours,
            width: 30,
        });
        coloured.verdict("down", 10, ExitCode::Critical, text);
        let plain = plain.into_text();
        assert_eq!(
            plain,
            "down        trader  PID 4711,\n    and more than fits\n"
        );
        assert_eq!(
            coloured.into_text(),
            plain.replacen("down", "\x1b[31mdown\x1b[0m", 1)
        );
    }

    #[test]
    fn f75_what_could_move_a_cursor_is_shown() {
        let mut page = page(80);
        page.line(0, "a\x1b[2Jb\r\nc");
        page.quoted(2, "\x07 bell");
        page.verdict("down", 4, ExitCode::Critical, "\x1b]0;title\x07");
        assert_eq!(
            page.into_text(),
            "a\\x1b[2Jb\\x0d\\x0ac\n  | \\x07 bell\ndown  \\x1b]0;title\\x07\n"
        );
    }
}
