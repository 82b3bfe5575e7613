//! A reader of values with their places: it hands out what was asked for, or notes what is wrong and where.
//!
//! A value that is wrong is `None`, and the reading goes on, so that all faults of a file are found in one go.
//! What was made of a file with faults is thrown away in the end; nothing needs to be sensible then.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use memchr::memchr_iter;
use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use crate::table::fault::{PathPart, shown_place};
use crate::table::{Key, Keys, Layout, nearest};

mod faults;
mod value;

pub(crate) use self::faults::Faults;
use self::faults::Kind;

/// A value of the file with its place.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a> {
    faults: &'a Faults,
    method: Step<'a>,
    spanned: &'a Spanned<DeValue<'a>>,
    /// How it may look, where its key says so.
    example: &'static str,
    /// Whether its key must be there.
    is_required: bool,
}

/// A step on the way to a value. Its names are for messages, and a config without faults has none: they are made up
/// when they are asked for.
#[derive(Clone, Copy)]
struct Step<'a> {
    above: Option<&'a Step<'a>>,
    last: Last<'a>,
}

/// The last part of a way.
#[derive(Clone, Copy)]
enum Last<'a> {
    /// A key.
    Key(&'a Spanned<DeString<'a>>),
    /// An entry of a list.
    Entry(usize),
}

impl Step<'_> {
    /// `service.trader.log[0].expect`
    fn key(&self) -> String {
        let above = self.above.map(Self::key);
        match self.last {
            Last::Key(word) => joined(above.as_deref(), word.get_ref()),
            Last::Entry(number) => format!("{}[{number}]", above.unwrap_or_default()),
        }
    }

    /// The way from the top of the file.
    fn path(&self) -> Vec<PathPart<'_>> {
        let mut path = self.above.map(Self::path).unwrap_or_default();
        path.push(match self.last {
            Last::Key(word) => PathPart::Key(word.get_ref()),
            Last::Entry(number) => PathPart::Entry(number),
        });
        path
    }

    /// What messages call it.
    fn name(&self) -> String {
        match self.last {
            Last::Key(word) => quoted(word.get_ref()),
            Last::Entry(_) => {
                let list = self.above.map(Self::name);
                format!("an entry of {}", list.unwrap_or_default())
            }
        }
    }
}

fn joined(above: Option<&str>, word: &str) -> String {
    above.map_or_else(|| word.to_owned(), |above| format!("{above}.{word}"))
}

/// A table of the file with its place, all of whose keys are known.
pub(crate) struct Table<'a> {
    faults: &'a Faults,
    /// What it is the value of: nothing where it is the whole file.
    value: Option<Value<'a>>,
    inner: &'a DeTable<'a>,
    /// What of it is known.
    fields: Vec<(&'a Spanned<DeString<'a>>, &'a Spanned<DeValue<'a>>)>,
    layout: &'static Layout,
}

impl<'a> Table<'a> {
    /// The whole file.
    pub(crate) fn whole(
        faults: &'a Faults,
        inner: &'a DeTable<'a>,
        layout: &'static Layout,
    ) -> Self {
        Self::open(faults, None, inner, layout)
    }

    fn open(
        faults: &'a Faults,
        value: Option<Value<'a>>,
        inner: &'a DeTable<'a>,
        layout: &'static Layout,
    ) -> Self {
        let mut table = Self {
            faults,
            value,
            inner,
            fields: Vec::with_capacity(inner.len()),
            layout,
        };
        for (name, value) in inner {
            let word: &str = name.get_ref();
            if layout.knows(word) {
                table.fields.push((name, value));
            } else {
                let mut path = table.path();
                path.push(PathPart::Key(word));
                faults.note(
                    Kind::Presence,
                    &name.span(),
                    &shown_place(&path, false),
                    &format!("unknown key {}", quoted(word)),
                    Some(layout.advice(word, is_table(value.get_ref()), faults.root)),
                );
            }
        }
        table
    }

    /// What messages call it.
    pub(crate) fn name(&self) -> String {
        self.value.map(|value| value.name()).unwrap_or_default()
    }

    fn path(&self) -> Vec<PathPart<'_>> {
        (self.value.as_ref()).map_or_else(Vec::new, |value| value.method.path())
    }

    /// In which table it is, as the end of a message: ` in [service.trader]`; nothing for the file itself.
    pub(crate) fn place(&self) -> String {
        match shown_place(&self.path(), true) {
            place if place.is_empty() => place,
            place => format!(" in {place}"),
        }
    }

    /// The value of a key, if it is there.
    pub(crate) fn get(&self, key: &str) -> Option<Value<'_>> {
        debug_assert!(self.layout.knows(key), "`{key}` is not a key of the table");
        let (name, value) = self.fields.iter().find(|(word, _)| word.get_ref() == key)?;
        Some(Value {
            faults: self.faults,
            example: "",
            is_required: false,
            method: Step {
                above: self.value.as_ref().map(|value| &value.method),
                last: Last::Key(name),
            },
            spanned: value,
        })
    }

    /// Whether a key is there, right or wrong.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.fields.iter().any(|(word, _)| word.get_ref() == key)
    }

    /// Whether a key is there under a wrong name, which is fault enough.
    pub(crate) fn is_misspelt(&self, key: &str) -> bool {
        let mut unknown = self
            .inner
            .keys()
            .map(|name| -> &str { name.get_ref() })
            .filter(|name| !self.layout.knows(name))
            .peekable();
        if unknown.peek().is_none() {
            return false;
        }
        let names = self.layout.names();
        unknown.any(|name| nearest(name, names.iter().map(String::as_str)) == Some(key))
    }

    /// Whether one of some keys is there, right or wrong or misspelt.
    pub(crate) fn has_any(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.has(key)) || keys.iter().any(|key| self.is_misspelt(key))
    }

    /// Notes that a key is missing, unless it is there under a wrong name.
    pub(crate) fn lacks_key(&self, key: &Key) {
        if self.is_misspelt(key.name) {
            return;
        }
        let help = if self.layout.short.is_some() {
            format!("write it like {}", self.layout.sample)
        } else if key.keys == Keys::Secret {
            let name = key.name;
            format!(
                "write {name}_file, {name}_env or {name}_credential; or {name} = {}, where nobody else can read this file",
                key.example.text()
            )
        } else {
            format!("write {} = {}", key.name, key.example.text())
        };
        self.lacks(&format!("`{}` is missing", key.name), &help);
    }

    /// A fault of the table as a whole: something is missing.
    pub(crate) fn lacks(&self, message: &str, help: &str) {
        let help = Some(help.to_owned());
        self.faults.note(
            Kind::Absence,
            &self.value.map(|value| value.at()).unwrap_or_default(),
            &shown_place(&self.path(), true),
            message,
            help,
        );
    }

    /// Of several keys only one may be there: gives the one that is there, and notes every further one.
    pub(crate) fn at_most_one(&self, keys: &[&str], help: &str) -> Option<Value<'_>> {
        let there = || keys.iter().filter_map(|key| self.get(key));
        let first = there().min_by_key(|value| value.at().start)?;
        for value in there().filter(|value| value.at().start > first.at().start) {
            value.misplaced(
                &format!("{} beside {}{}", value.name(), first.name(), self.place()),
                help,
            );
        }
        Some(first)
    }
}

/// Whether a value was written as a table, or as several of them.
fn is_table(value: &DeValue<'_>) -> bool {
    let are_tables = |list: &DeArray<'_>| {
        !list.is_empty() && list.iter().all(|entry| entry.get_ref().is_table())
    };
    value.is_table() || value.as_array().is_some_and(are_tables)
}

/// A path made absolute and rid of its `.` parts; `..` is left to the system, which knows the links.
pub(crate) fn absolute(base: &Path, path: &str) -> PathBuf {
    let joined = if path.starts_with('/') {
        PathBuf::from(path)
    } else {
        let mut joined = PathBuf::with_capacity(base.as_os_str().len() + 1 + path.len());
        joined.push(base);
        joined.push(path);
        joined
    };
    // most paths are written as they are meant
    let bytes = joined.as_os_str().as_bytes();
    let may_differ = |slash: usize| matches!(bytes.get(slash + 1), None | Some(b'/' | b'.'));
    if memchr_iter(b'/', bytes).any(may_differ) {
        return joined.components().collect();
    }
    joined
}

/// A word of the user's in a message.
pub(crate) fn quoted(word: &str) -> String {
    let mut short: String = word.chars().take(60).collect();
    if short.len() < word.len() {
        short.push('…');
    }
    format!("`{short}`")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_put_together_of_its_parts() {
        for (path, meant) in [
            ("a.pid", "/srv/a.pid"),
            ("./a", "/srv/a"),
            (".hidden", "/srv/.hidden"),
            ("a//b/", "/srv/a/b"),
            ("a/./b/.", "/srv/a/b"),
            ("a/../b", "/srv/a/../b"),
            ("/run/a.pid", "/run/a.pid"),
            ("//run/./a", "/run/a"),
            ("/", "/"),
            (".", "/srv"),
        ] {
            let path = absolute(Path::new("/srv"), path);
            // paths are equal where their parts are, however they are written
            assert_eq!(path.as_os_str(), meant);
        }
    }

    proptest! {
        #[test]
        fn a_path_that_is_taken_as_it_is_has_the_parts_that_it_is_written_with(
            base in "/[a./]{0,6}",
            path in "[ab./]{0,12}",
        ) {
            let base = Path::new(&base);
            let (path, whole) = (absolute(base, &path), base.join(&path));
            let whole: PathBuf = whole.components().collect();
            prop_assert_eq!(path.as_os_str(), whole.as_os_str());
        }
    }
}
