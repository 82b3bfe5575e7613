//! Values as TOML.

use std::fmt::Write;
use std::path::Path;

use crate::text::is_invisible;

/// A value as TOML.
pub(super) fn quoted(text: &str) -> String {
    // a literal string shows a pattern as it is; what it cannot hold, or a terminal would obey, the other kind can
    if text.contains(|c: char| c == '\'' || is_invisible(c)) {
        let mut written = String::from("\"");
        for c in text.chars() {
            let _ = match c {
                '"' | '\\' => write!(written, "\\{c}"),
                '\n' => write!(written, "\\n"),
                c if is_invisible(c) => write!(written, "\\u{:04X}", u32::from(c)),
                c => write!(written, "{c}"),
            };
        }
        written.push('"');
        return written;
    }
    if text.contains(['\\', '"']) {
        return format!("'{text}'");
    }
    format!("\"{text}\"")
}

/// A path as TOML.
pub(super) fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// A name as a key: one with a dot has to be quoted.
pub(super) fn key(name: &str) -> String {
    if name.contains('.') {
        quoted(name)
    } else {
        name.to_owned()
    }
}
