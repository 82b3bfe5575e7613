//! What a config holds, as it is shown: nothing of it steers the terminal.

use std::path::Path;

/// Whether a character steers a terminal or turns the writing round, and so is shown by its number.
pub(super) fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A text for a terminal, in one line.
pub(super) fn visible(text: &str) -> String {
    text.chars().fold(String::new(), |mut all, c| {
        if steers(c) {
            all.extend(c.escape_unicode());
        } else {
            all.push(c);
        }
        all
    })
}

/// A path for a terminal.
pub(super) fn visible_path(path: &Path) -> String {
    visible(&path.to_string_lossy())
}
