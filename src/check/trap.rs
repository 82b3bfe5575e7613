//! Traps: what a rule may say, and what yet does not do what was meant. For `validate`.

use std::borrow::Cow;
use std::path::Path;

use super::pattern::Pattern;

/// Something that may not do what was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// Which key it is about.
    pub place: Place,
    /// What it is.
    pub message: String,
    /// What mends it.
    pub help: Cow<'static, str>,
}

/// The key that a trap is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Of the rule's own table, with dots; empty: the whole table.
    Table(&'static str),
    /// Of the service that the rule belongs to.
    Service(&'static str),
}

impl Trap {
    /// One of a key of the rule's own table; of the whole table where that is empty.
    pub fn of(
        key: &'static str,
        message: impl Into<String>,
        help: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            place: Place::Table(key),
            message: message.into(),
            help: help.into(),
        }
    }

    /// One of a key of the service.
    pub fn of_service(
        key: &'static str,
        message: impl Into<String>,
        help: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            place: Place::Service(key),
            message: message.into(),
            help: help.into(),
        }
    }

    /// One where a pattern has a control character that is in nothing it is searched in: it was written in double quotes,
    /// where `\b` is a backspace.
    pub fn of_control(key: &'static str, pattern: &Pattern, but: &[char]) -> Option<Self> {
        let source = pattern.source();
        let (name, escape) = source
            .chars()
            .filter(|c| !but.contains(c))
            .find_map(control)?;
        Some(Self::of(
            key,
            format!(
                "the pattern `{source}` has a {name} in it: in double quotes `{escape}` is one"
            ),
            format!(
                "write it in single quotes, where a backslash stays one: '{}'",
                unescaped(source)
            ),
        ))
    }

    /// One where the directory of a file that is written is not there.
    pub fn of_directory(key: &'static str, path: &Path) -> Option<Self> {
        let directory = path.parent().filter(|directory| !directory.is_dir())?;
        Some(Self::of(
            key,
            format!("the directory {} is not there", directory.display()),
            "make it: the watchdog makes none",
        ))
    }
}

/// What a control character is called, and how it is written in double quotes.
fn control(c: char) -> Option<(String, String)> {
    let (name, escape) = match c {
        '\0'..='\x07' | '\x0e'..='\x1a' | '\x0b' | '\x1c'..='\x1f' | '\x7f'..='\u{9f}' => {
            let number = u32::from(c);
            let name = format!("control character (U+{number:04X})");
            return Some((name, format!("\\u{number:04x}")));
        }
        '\x08' => ("backspace", "\\b"),
        '\t' => ("tab", "\\t"),
        '\n' => ("line end", "\\n"),
        '\x0c' => ("form feed", "\\f"),
        '\r' => ("carriage return", "\\r"),
        '\x1b' => ("control character (escape)", "\\e"),
        _ => return None,
    };
    Some((name.to_owned(), escape.to_owned()))
}

/// A text with its control characters as they were written.
fn unescaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut all, c| {
        match control(c) {
            Some((_, escape)) => all.push_str(&escape),
            None => all.push(c),
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_character_in_a_pattern_is_told_with_what_was_meant() {
        for (source, but, name, meant) in [
            (
                "\u{8}ERROR\u{8}",
                &['\t'][..],
                "a backspace",
                r"'\bERROR\b'",
            ),
            ("a\tb", &[], "a tab", r"'a\tb'"),
            ("\u{1}", &[], "a control character (U+0001)", r"'\u0001'"),
            ("\u{c}", &[], "a form feed in it", r"'\f'"),
            ("a\nb", &[], "a line end in it", r"'a\nb'"),
            ("a\rb", &[], "a carriage return in it", r"'a\rb'"),
            (
                "x\u{1b}\\[2J",
                &['\t'],
                "a control character (escape) in it",
                r"'x\e\[2J'",
            ),
        ] {
            let pattern = Pattern::new(source).unwrap();
            let trap = Trap::of_control("expect", &pattern, but).unwrap();
            assert!(trap.message.contains(name), "{trap:?}");
            assert!(trap.help.ends_with(meant), "{trap:?}");
        }
        for (source, but) in [(r"\bERROR\b", &[][..]), ("a\tb\r\n", &['\t', '\r', '\n'])] {
            let pattern = Pattern::new(source).unwrap();
            assert_eq!(Trap::of_control("expect", &pattern, but), None);
        }
    }
}
