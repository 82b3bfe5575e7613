//! Values of the types that configs have: what was written is handed out, or what is wrong with it is noted.

use std::any::TypeId;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use memchr::memchr;
use toml::Spanned;
use toml::de::{DeArray, DeValue};

use super::faults::Kind;
use super::{Faults, Last, Step, Table, Value, absolute, is_table, quoted};
use crate::clock;
use crate::table::fault::{PathPart, is_secret, shown_place};
use crate::table::shown::written;
use crate::table::{Layout, nearest};

impl<'a> Value<'a> {
    /// What messages call it.
    pub(crate) fn name(&self) -> String {
        self.method.name()
    }

    /// Its key with those above it: `service.trader.log[0].forbid[1]`.
    pub(crate) fn whole_key(&self) -> String {
        self.method.key()
    }

    /// Where it stands, for later.
    pub(crate) fn span(&self) -> Range<usize> {
        self.spanned.span()
    }

    /// Where the key is that it stands under, or itself.
    pub(super) fn at(&self) -> Range<usize> {
        match self.method.last {
            Last::Key(word) => word.span(),
            Last::Entry(_) => self.span(),
        }
    }

    /// It, with a word on how it may look.
    pub(crate) fn with_example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }

    /// It as one that must be there.
    pub(crate) fn required(self) -> Self {
        Self {
            is_required: true,
            ..self
        }
    }

    /// What to write in the place of nothing.
    fn instead_of_nothing(&self, optional: &str) -> String {
        if self.is_required && !self.example.is_empty() {
            format!("write {} = {}", self.last_word(), self.example)
        } else {
            optional.to_owned()
        }
    }

    /// One that stands nowhere in a file.
    pub(crate) fn apart(faults: &'a Faults, spanned: &'a Spanned<DeValue<'a>>) -> Self {
        Self {
            faults,
            method: Step {
                above: None,
                last: Last::Entry(0),
            },
            spanned,
            example: "",
            is_required: false,
        }
    }

    /// Another value in its place: its own with changes.
    pub(crate) fn instead<'s>(&'s self, spanned: &'s Spanned<DeValue<'s>>) -> Value<'s> {
        Value { spanned, ..*self }
    }

    /// It as it was parsed.
    pub(crate) fn raw(&self) -> &'a Spanned<DeValue<'a>> {
        self.spanned
    }

    /// Notes what is wrong with something in it.
    pub(crate) fn wrong_at(&self, span: &Range<usize>, message: &str, help: impl Into<String>) {
        self.note(Kind::Presence, span, message, Some(help.into()));
    }

    /// A key of it, where it is a table: whatever stands there, known or not.
    pub(crate) fn key(&self, name: &str) -> Option<Value<'_>> {
        let (key, value) = self.inner().as_table()?.get_key_value(name)?;
        Some(self.within(Last::Key(key), value))
    }

    /// Its text, whatever may be wrong with it.
    pub(crate) fn raw_text(&self) -> Option<&'a str> {
        self.inner().as_str()
    }

    /// Whether it is true, whatever may be wrong with it.
    pub(crate) fn raw_flag(&self) -> Option<bool> {
        self.inner().as_bool()
    }

    /// Its number, whatever may be wrong with it.
    pub(crate) fn raw_number(&self) -> Option<i64> {
        let integer = self.inner().as_integer()?;
        i64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    /// An entry of it, where it is a list.
    pub(crate) fn entry(&self, number: usize) -> Option<Value<'_>> {
        let entry = self.inner().as_array()?.get(number)?;
        Some(self.within(Last::Entry(number), entry))
    }

    fn within<'s>(&'s self, last: Last<'s>, spanned: &'s Spanned<DeValue<'s>>) -> Value<'s> {
        Value {
            faults: self.faults,
            method: Step {
                above: Some(&self.method),
                last,
            },
            spanned,
            example: "",
            is_required: false,
        }
    }

    fn inner(&self) -> &'a DeValue<'a> {
        self.spanned.get_ref()
    }

    /// Notes what is wrong with the value.
    pub(crate) fn wrong(&self, message: &str, help: impl Into<String>) {
        self.note(Kind::Presence, &self.span(), message, Some(help.into()));
    }

    /// Notes that what the value names is not there.
    pub(crate) fn absent(&self, message: &str, help: impl Into<String>) {
        self.note(Kind::Absence, &self.span(), message, Some(help.into()));
    }

    /// Notes what is wrong with its being there.
    pub(crate) fn misplaced(&self, message: &str, help: impl Into<String>) {
        self.note(Kind::Presence, &self.at(), message, Some(help.into()));
    }

    fn note(&self, kind: Kind, span: &Range<usize>, message: &str, help: Option<String>) {
        let place = shown_place(&self.method.path(), self.is_table());
        self.faults.note(kind, span, &place, message, help);
    }

    /// Whether its key is that of a secret, so that no message may repeat it.
    fn is_secret(&self) -> bool {
        is_secret(self.method.key().rsplit('.').next().unwrap_or_default())
    }

    /// Notes that it is of the wrong type.
    fn type_is_wrong(&self, wanted: &str, help: Option<String>) {
        let found = match self.inner() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let message = format!("{} must be {wanted}, not {found}", self.name());
        self.note(Kind::Presence, &self.span(), &message, help);
    }

    /// A text, which may be empty, without a NUL: it ends up in paths, arguments and headers.
    pub(crate) fn text(&self) -> Option<&'a str> {
        let Some(text) = self.inner().as_str() else {
            let help = match self.inner() {
                _ if self.is_secret() => Some("write it in quotes".to_owned()),
                DeValue::Integer(number) if number.radix() == 10 => {
                    Some(format!("write it in quotes: \"{number}\""))
                }
                DeValue::Boolean(flag) => Some(format!("write it in quotes: \"{flag}\"")),
                _ => None,
            };
            self.type_is_wrong("a string", help);
            return None;
        };
        if memchr(0, text.as_bytes()).is_some() {
            self.wrong(
                &format!("{} must not hold a NUL character", self.name()),
                "no program could be given it",
            );
            return None;
        }
        Some(text)
    }

    /// A text, with advice for somebody who wrote something else.
    pub(crate) fn text_or(&self, help: &str) -> Option<&'a str> {
        if self.inner().as_str().is_none() {
            self.type_is_wrong("a string", Some(help.to_owned()));
            return None;
        }
        self.text()
    }

    /// A text that is not empty.
    pub(crate) fn filled(&self) -> Option<String> {
        let text = self.text()?;
        if text.trim().is_empty() {
            self.wrong(
                &format!("{} must not be empty", self.name()),
                self.instead_of_nothing("leave it out where there is nothing to say"),
            );
            return None;
        }
        Some(text.to_owned())
    }

    /// True or false.
    pub(crate) fn flag(&self) -> Option<bool> {
        let flag = self.inner().as_bool();
        if flag.is_none() {
            let help = match self.inner().as_str() {
                Some(text @ ("true" | "false")) => format!("write {text} without the quotes"),
                _ => "write true or false".to_owned(),
            };
            self.type_is_wrong("true or false", Some(help));
        }
        flag
    }

    /// A whole number within a range.
    pub(crate) fn whole<T: TryFrom<i64>>(&self, range: RangeInclusive<i64>) -> Option<T> {
        let DeValue::Integer(integer) = self.inner() else {
            let help = self
                .inner()
                .as_str()
                .filter(|text| text.parse::<i64>().is_ok())
                .map(|text| format!("write {text} without the quotes"));
            self.type_is_wrong("a whole number", help);
            return None;
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|number| range.contains(number))
            .and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            let (least, most) = (range.start(), range.end());
            let help = if *most == i64::MAX {
                format!("write {least} or more")
            } else {
                format!("write a number from {least} to {most}")
            };
            self.wrong(&format!("{} is out of range", self.name()), help);
        }
        number
    }

    /// A number, whole or not.
    pub(crate) fn number(&self) -> Option<f64> {
        let number = match self.inner() {
            DeValue::Integer(_) => self.raw_number().and_then(|number| {
                // what is too great for it is out of any range
                i32::try_from(number).ok().map(f64::from)
            }),
            DeValue::Float(float) => float.as_str().parse().ok(),
            other => {
                let help = (other.as_str())
                    .filter(|text| text.parse::<f64>().is_ok())
                    .map(|text| format!("write {text} without the quotes"));
                self.type_is_wrong("a number", help);
                return None;
            }
        };
        Some(number.unwrap_or(f64::INFINITY))
    }

    /// A duration, which may be zero.
    pub(crate) fn duration(&self) -> Option<Duration> {
        let Some(text) = self.inner().as_str() else {
            let help = match self.inner() {
                DeValue::Integer(number) if number.radix() == 10 => {
                    format!("write it with a unit, in quotes: \"{number}s\"")
                }
                _ => "write it like \"90s\", \"5m\" or \"1h 30m\"".to_owned(),
            };
            self.type_is_wrong("a duration", Some(help));
            return None;
        };
        match clock::parse_duration(text) {
            Ok(duration) => Some(duration),
            Err(reason) => {
                // the clock's sentence ends with its own advice
                let (reason, help) = reason
                    .split_once("; ")
                    .unwrap_or((&reason, "write it like \"90s\", \"5m\" or \"1h 30m\""));
                let reason = if text.len() > 60 {
                    "this is not a duration"
                } else {
                    reason
                };
                self.wrong(&format!("{}: {reason}", self.name()), help);
                None
            }
        }
    }

    /// A duration that zero would make no sense for.
    pub(crate) fn time(&self) -> Option<Duration> {
        let duration = self.duration()?;
        if duration.is_zero() {
            self.wrong(
                &format!("{} must be more than zero", self.name()),
                "write it like \"90s\", \"5m\" or \"1h 30m\"",
            );
            return None;
        }
        Some(duration)
    }

    /// One of some words.
    pub(crate) fn choice<T: Clone>(&self, choices: &[(&'static str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(choice.clone());
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let help = nearest(text, words.iter().copied()).map_or_else(
            || format!("it is one of {}", words.join(", ")),
            |near| format!("did you mean `{near}`? it is one of {}", words.join(", ")),
        );
        self.wrong(&format!("{} cannot be {}", self.name(), quoted(text)), help);
        None
    }

    /// A path, made absolute: nothing is looked up.
    pub(crate) fn path(&self, base: &Path) -> Option<PathBuf> {
        let text = self.path_text()?;
        Some(absolute(base, text))
    }

    /// A path as it is written.
    pub(crate) fn path_text(&self) -> Option<&'a str> {
        let text = self.text()?;
        if text.is_empty() {
            self.wrong(
                &format!("{} must not be empty", self.name()),
                self.instead_of_nothing("leave it out where there is no path"),
            );
            return None;
        }
        if text.starts_with('~') {
            self.wrong(
                &format!("`~` is not expanded in {}", self.name()),
                "write the path in full, like /home/trader/…: a config is read by cron, whose home is another",
            );
            return None;
        }
        Some(text)
    }

    /// What was made of the same text before, or what `make` makes of it.
    pub(crate) fn shared<T: Clone + 'static>(&self, make: impl FnOnce() -> Option<T>) -> Option<T> {
        let cache = &self.faults.made;
        let Some(text) = self.raw_text() else {
            return make();
        };
        let known = cache
            .borrow()
            .get(&TypeId::of::<T>())
            .and_then(|made| made.get(text)?.downcast_ref::<T>().cloned());
        if known.is_some() {
            return known;
        }
        let value = make()?;
        cache
            .borrow_mut()
            .entry(TypeId::of::<T>())
            .or_default()
            .insert(text.to_owned(), Box::new(value.clone()));
        Some(value)
    }

    /// A user or group: a name or a number.
    pub(crate) fn account(&self) -> Option<String> {
        if let DeValue::Integer(_) = self.inner() {
            // the greatest number means "no change" to the system calls that take it
            return self
                .whole::<u32>(0..=i64::from(u32::MAX) - 1)
                .map(|id| id.to_string());
        }
        if self.inner().as_str().is_none() {
            self.type_is_wrong("a name or a number", None);
            return None;
        }
        let name = self.filled()?;
        if name.contains([':', '/']) || name.contains(char::is_whitespace) {
            self.wrong(
                &format!("{} is no name of an account", self.name()),
                "write a name or a number; user and group are keys of their own",
            );
            return None;
        }
        Some(name)
    }

    /// A list, each entry read by `each`.
    pub(crate) fn list<T>(&self, each: impl Fn(&Value<'_>) -> Option<T>) -> Option<Vec<T>> {
        let Some(array) = self.inner().as_array() else {
            let help = match self.inner().as_str() {
                Some(text) if text.len() <= 60 => {
                    format!("write it as a list: [{}]", written(text))
                }
                _ => "write it as a list: […]".to_owned(),
            };
            self.type_is_wrong("a list", Some(help));
            return None;
        };
        // a list that is collected has room for four at least, and a thousand services have lists
        let mut list = Vec::with_capacity(array.len());
        list.extend(
            array
                .iter()
                .enumerate()
                .filter_map(|(number, entry)| each(&self.within(Last::Entry(number), entry))),
        );
        Some(list)
    }

    /// Notes a list that has nothing in it.
    pub(crate) fn must_be_filled(&self) -> Option<()> {
        let is_empty = |array: &DeArray<'_>| array.is_empty();
        if self.inner().as_array().is_some_and(is_empty) {
            let help = format!("write {} = {}", self.last_word(), self.example);
            self.wrong(&format!("{} must not be empty", self.name()), help);
            return None;
        }
        Some(())
    }

    /// A variable that could be named after its key: `SMTP_PASSWORD_ENV`.
    pub(crate) fn variable(&self) -> String {
        let key = self.method.key();
        let mut parts: Vec<_> = key
            .rsplit('.')
            .take(2)
            .filter_map(|part| part.split('[').next())
            .collect();
        parts.reverse();
        let word = |c: char| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        };
        parts.join("_").chars().map(word).collect()
    }

    /// The last key on the way to it.
    fn last_word(&self) -> &str {
        match self.method.last {
            Last::Key(word) => word.get_ref(),
            Last::Entry(_) => "",
        }
    }

    /// A program and its arguments.
    pub(crate) fn command(&self) -> Option<Vec<String>> {
        if let Some(text) = self.inner().as_str() {
            let plain =
                !text.contains(['"', '\'', '\\', '|', '&', ';', '<', '>', '$', '*', '`', '(']);
            let words: Vec<_> = if plain {
                text.split_whitespace().map(written).collect()
            } else {
                ["/bin/sh", "-c", text].into_iter().map(written).collect()
            };
            let help = if text.len() <= 200 {
                format!(
                    "no shell reads it; write it as a list: [{}]",
                    words.join(", ")
                )
            } else {
                "no shell reads it; write it as a list".to_owned()
            };
            self.type_is_wrong("a list of the program and its arguments", Some(help));
            return None;
        }
        if self
            .inner()
            .as_array()
            .is_some_and(|array| array.is_empty())
        {
            self.wrong(
                &format!("{} must not be empty", self.name()),
                "the first entry is the program",
            );
            return None;
        }
        let words = self.list(|word| word.text().map(str::to_owned))?;
        let fault = match words.first().map(String::as_str) {
            Some("") => (
                "the program must not be empty".to_owned(),
                "the first entry is the program",
            ),
            Some(first) if first.starts_with('~') => (
                format!("`~` is not expanded in {}", self.name()),
                "write the path in full, like /home/trader/…",
            ),
            _ => return Some(words),
        };
        if let Some(entry) = self.inner().as_array().and_then(|array| array.first()) {
            let (message, help) = fault;
            self.note(
                Kind::Presence,
                &entry.span(),
                &message,
                Some(help.to_owned()),
            );
        }
        None
    }

    /// A table of a known kind.
    pub(crate) fn table(&self, layout: &'static Layout) -> Option<Table<'a>> {
        let Some(inner) = self.inner().as_table() else {
            let help = match self.header() {
                Some(header) if is_table(self.inner()) => {
                    format!("write its header in single brackets: {header}")
                }
                _ => format!("write it like {}", layout.sample),
            };
            self.type_is_wrong("a table", Some(help));
            return None;
        };
        Some(Table::open(self.faults, Some(*self), inner, layout))
    }

    /// Notes that it is no list of tables.
    pub(crate) fn not_tables(&self, layout: &'static Layout) {
        let header = match self.header() {
            Some(header) => format!("[{header}]"),
            None => layout.sample.to_owned(),
        };
        self.type_is_wrong(
            "a list of tables",
            Some(format!("write its header in double brackets: {header}")),
        );
    }

    /// The header of the table that it is; absent in a list, where there are several.
    fn header(&self) -> Option<String> {
        let path = self.method.path();
        let is_key = |part: &PathPart<'_>| matches!(part, PathPart::Key(_));
        path.iter().all(is_key).then(|| shown_place(&path, true))
    }

    /// Whether it is a list.
    pub(crate) fn is_list(&self) -> bool {
        self.inner().is_array()
    }

    /// Whether it is a table rather than a short form.
    pub(crate) fn is_table(&self) -> bool {
        self.inner().is_table()
    }

    /// The entries of a table whose keys are the user's own, in the order of the file.
    pub(crate) fn entries(&self, sample: &str) -> Option<Vec<(&str, Value<'_>)>> {
        let Some(inner) = self.inner().as_table() else {
            self.type_is_wrong("a table", Some(format!("write it like {sample}")));
            return None;
        };
        let mut entries: Vec<_> = inner
            .iter()
            .map(|(key, value)| -> (&str, _) {
                (key.get_ref(), self.within(Last::Key(key), value))
            })
            .collect();
        entries.sort_by_key(|(_, entry)| entry.at().start);
        Some(entries)
    }

    /// The name of an environment variable or a credential: somebody may have put the secret itself here.
    pub(crate) fn secret_place(&self, valid: impl Fn(&str) -> bool, help: &str) -> Option<String> {
        let Some(text) = self.inner().as_str() else {
            self.text();
            return None;
        };
        if text.is_empty() || text.contains('\0') || !valid(text) {
            let message = format!("{} is not a name", self.name());
            self.note(Kind::Secret, &self.span(), &message, Some(help.to_owned()));
            return None;
        }
        Some(text.to_owned())
    }
}
