//! Where in a config something is written: for what is found wrong after it was read.
//!
//! The typed config has no places in it, and needs none: only `validate` asks, so it reads the file once more.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// The line, from 1 on, of the deepest part of `path` that the text has: tables, keys, and the numbers of entries
/// of lists of tables. Absent where not even the first part is there.
pub fn line_of(text: &str, path: &[&str]) -> Option<usize> {
    let before = text.get(..find(text, path)?.0)?;
    Some(before.matches('\n').count() + 1)
}

/// What is written there as the value of `path`, with its quotes; of the deepest part of it that the text has.
pub fn written<'a>(text: &'a str, path: &[&str]) -> Option<&'a str> {
    text.get(value_of(text, path)?)
}

/// Where the value is of the deepest part of `path` that the text has.
pub(super) fn value_of(text: &str, path: &[&str]) -> Option<Range<usize>> {
    find(text, path).map(|(_, value)| value)
}

/// Where that part begins, and where its value is.
fn find(text: &str, path: &[&str]) -> Option<(usize, Range<usize>)> {
    let (tree, _) = DeTable::parse_recoverable(text);
    let mut table = tree.get_ref();
    let mut found = None;
    let mut parts = path.iter();
    while let Some(part) = parts.next() {
        let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == part) else {
            break;
        };
        found = Some((key.span().start, value.span()));
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            DeValue::Array(entries) => {
                let entry = parts
                    .next()
                    .and_then(|number| entries.get(number.parse::<usize>().ok()?));
                let Some(entry) = entry else { break };
                found = Some((entry.span().start, entry.span()));
                match entry.get_ref() {
                    DeValue::Table(inner) => table = inner,
                    _ => break,
                }
            }
            _ => break,
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
}
