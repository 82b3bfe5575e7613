//! A table as it is written back: with its placeholders, for what they stand for is another thing in each run.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Discover, directory};
use crate::table::fault::is_secret;
use crate::table::{MASK, Shown};

impl Discover {
    /// It as it is written, secrets masked. Where it has no directory of its own, that of its file is said: what is shown
    /// may be read elsewhere.
    pub(crate) fn shown(&self) -> Shown {
        let (tree, _) = DeTable::parse_recoverable(&self.text);
        let table = tree.get_ref().get("discover");
        let table = table.and_then(|it| it.get_ref().as_table()?.get(&*self.name));
        let shown = table.and_then(|it| shown(it, false));
        let mut entries = match shown {
            Some(Shown::Table(entries)) => entries,
            _ => Vec::new(),
        };
        if !self.finds_units() && !entries.iter().any(|(key, _)| key == "exclude") {
            let labels = self.exclude.iter().map(|it| Shown::text(it.to_string()));
            entries.push(("exclude".to_owned(), Shown::List(labels.collect())));
        }
        if !entries.iter().any(|(key, _)| key == "working_dir") {
            let directory = directory(&self.file);
            let directory = directory.to_string_lossy().replace('{', "{{");
            entries.push(("working_dir".to_owned(), Shown::text(directory)));
        }
        Shown::Table(entries)
    }
}

/// A value; a date, which no key takes, is left out.
fn shown(value: &Spanned<DeValue<'_>>, masked: bool) -> Option<Shown> {
    Some(match value.get_ref() {
        DeValue::Table(table) => {
            let entries = table.iter().filter_map(|(key, value)| {
                let word: &str = key.get_ref();
                Some((word.to_owned(), shown(value, masked || is_secret(word))?))
            });
            Shown::Table(entries.collect())
        }
        DeValue::Array(list) => {
            Shown::List(list.iter().filter_map(|it| shown(it, masked)).collect())
        }
        _ if masked => Shown::text(MASK),
        DeValue::String(text) => Shown::text(text.to_string()),
        DeValue::Boolean(flag) => Shown::Flag(*flag),
        DeValue::Integer(number) => {
            Shown::Whole(i64::from_str_radix(number.as_str(), number.radix()).ok()?)
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "keys with fractions take small ones of thousandths"
        )]
        DeValue::Float(number) => {
            let number: f64 = number.as_str().parse().ok()?;
            Shown::Fraction((number * 1000.0).round() as u32)
        }
        DeValue::Datetime(_) => return None,
    })
}
