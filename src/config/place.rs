//! Where in a config something is written: for what is found wrong after it was read.
//!
//! The typed config has no places in it, and needs none: only `validate` asks, so it reads the file once more.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::table::fault::{PathPart, shown_place};

/// The line, from 1 on, of the deepest part of `path` that the text has: tables, keys, and the numbers of entries
/// of lists of tables. Absent where not even the first part is there.
pub fn line_of(text: &str, path: &[&str]) -> Option<usize> {
    let before = text.get(..find(text, path)?.start)?;
    Some(before.matches('\n').count() + 1)
}

/// What is written there as the value of `path`, with its quotes; of the deepest part of it that the text has.
pub fn written<'a>(text: &'a str, path: &[&str]) -> Option<&'a str> {
    text.get(value_of(text, path)?)
}

/// Where the value is of the deepest part of `path` that the text has.
pub(super) fn value_of(text: &str, path: &[&str]) -> Option<Range<usize>> {
    find(text, path).map(|found| found.value)
}

/// The table that a path leads to, and the key in it, as the text has them: `[service.trader.restart] max_per_hour`.
pub fn shown(text: &str, path: &[&str]) -> String {
    // a service may be called `0`
    let is_named = |table: &str| ["service", "discover", "scale", "notify"].contains(&table);
    let first = if path.first().is_some_and(|table| is_named(table)) {
        2
    } else {
        1
    };
    let is_entry =
        |at: usize, part: &str| at >= first && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = path.iter().enumerate().map(|(at, part)| {
        let number = part.parse().ok().filter(|_| is_entry(at, part));
        number.map_or(PathPart::Key(part), PathPart::Entry)
    });
    let parts: Vec<_> = parts.collect();
    let is_table = find(text, path).is_some_and(|found| found.is_whole && found.is_table);
    shown_place(&parts, is_table)
}

/// The deepest part of a path that a text has.
struct Found {
    /// Where it begins.
    start: usize,
    /// Where its value is.
    value: Range<usize>,
    /// Whether that is a table.
    is_table: bool,
    /// Whether it is all of the path.
    is_whole: bool,
}

fn find(text: &str, path: &[&str]) -> Option<Found> {
    let (tree, _) = DeTable::parse_recoverable(text);
    let mut table = tree.get_ref();
    let mut found = None;
    let mut parts = path.iter();
    while let Some(part) = parts.next() {
        let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == part) else {
            break;
        };
        let mut start = key.span().start;
        let mut value = value;
        let mut is_whole = parts.len() == 0;
        if let (DeValue::Array(entries), Some(number)) = (value.get_ref(), parts.as_slice().first())
        {
            let entry = number.parse().ok().and_then(|it: usize| entries.get(it));
            if let Some(entry) = entry {
                (start, value) = (entry.span().start, entry);
                parts.next();
                is_whole = parts.len() == 0;
            }
        }
        let inner = value.get_ref().as_table();
        found = Some(Found {
            start,
            value: value.span(),
            is_table: inner.is_some(),
            is_whole,
        });
        match inner {
            Some(inner) => table = inner,
            None => break,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_part_that_is_there_counts() {
        let text = "state_dir = \"x\"\n\n[service.a]\nspawn = { command = [\"x\"] }\n\
                    [[service.a.log]]\npath = \"one\"\n[[service.a.log]]\nmax_age = \"1s\"\npath = \"two\"\n";
        for (path, line) in [
            (&["state_dir"][..], Some(1)),
            (&["service", "a"], Some(3)),
            (&["service", "a", "spawn", "command"], Some(4)),
            (&["service", "a", "restart", "settle"], Some(3)),
            (&["service", "a", "log", "0", "path"], Some(6)),
            (&["service", "a", "log", "1", "path"], Some(9)),
            (&["mail"], None),
        ] {
            assert_eq!(line_of(text, path), line, "{path:?}");
        }
    }

    #[test]
    fn a_place_is_shown_as_the_config_has_it() {
        let text =
            "[service.a]\nspawn = { command = [\"x\"] }\nsystemd = \"x\"\n[[service.a.log]]\n";
        for (path, shown) in [
            (&[][..], ""),
            (&["state_dir"], "state_dir"),
            (&["mail"], "mail"),
            (&["service", "a"], "[service.a]"),
            (&["service", "a", "spawn"], "[service.a.spawn]"),
            (&["service", "a", "systemd"], "[service.a] systemd"),
            (
                &["service", "a", "restart", "settle"],
                "[service.a.restart] settle",
            ),
            (&["service", "a", "log", "0"], "[[service.a.log]]"),
            (
                &["service", "a", "log", "0", "path"],
                "[[service.a.log]] path",
            ),
            (
                &["service", "a", "spawn", "command", "0"],
                "[service.a.spawn] command[0]",
            ),
            (&["service", "a.b", "enabled"], "[service.\"a.b\"] enabled"),
            (&["service", "0", "enabled"], "[service.0] enabled"),
            (&["include", "0"], "include[0]"),
        ] {
            assert_eq!(super::shown(text, path), shown, "{path:?}");
        }
    }
}
