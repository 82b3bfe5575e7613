//! The lines of a text that is read in a mailbox or on a telephone: wrapped, and quoted where they are not ours.

use crate::text::{cut, visible, wrap};

/// Characters in a line of our own sentences.
const WIDTH: usize = 78;
/// Characters of a quoted line: of a log, of standard error, of an error text.
pub(super) const QUOTED: usize = 300;
/// Quoted lines a piece.
pub(super) const QUOTED_LINES: usize = 20;

/// Lines of a body as they are written.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) text: String,
    /// What comes after the program and its config in the lines that can be typed.
    pub(super) commands: Vec<String>,
}

impl Body {
    pub(super) fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    pub(super) fn blank_line(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    /// A command that can be typed; `called` is how the program is called.
    pub(super) fn command(&mut self, called: &str, rest: &str) {
        self.line(&format!("  {called} {rest}"));
        self.commands.push(rest.to_owned());
    }

    pub(super) fn sentence(&mut self, text: &str) {
        self.line(&wrap(text, "", "", WIDTH));
    }

    pub(super) fn item(&mut self, text: &str) {
        self.line(&wrap(text, "- ", "  ", WIDTH));
    }

    /// The last of `lines`, each behind `> `.
    pub(super) fn quote<'a>(&mut self, lines: impl ExactSizeIterator<Item = &'a str>) {
        let skipped = lines.len().saturating_sub(QUOTED_LINES);
        for line in lines.skip(skipped) {
            self.line(format!("> {}", quoted(line)).trim_end());
        }
    }
}

/// A line from elsewhere, without what could do more than be read.
pub(super) fn quoted(line: &str) -> String {
    cut(&visible(line.trim_end_matches(['\r', '\n'])), QUOTED)
}
