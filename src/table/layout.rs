//! What is known of a table without a config: its keys, and what is said of them.

use super::Shown;

/// What may stand behind the name of a secret: where it is, in place of itself.
pub(super) const PLACES: [&str; 3] = ["_file", "_env", "_credential"];

/// The keys of a kind of table.
#[derive(Debug)]
pub(crate) struct Layout {
    /// What it is for, in lines.
    pub(crate) about: &'static [&'static str],
    /// How the table may look, for somebody who wrote something else.
    pub(crate) sample: &'static str,
    /// The field that a bare value stands for, in place of the table.
    pub(crate) short: Option<&'static str>,
    /// Its keys.
    pub(crate) keys: &'static [&'static Key],
}

/// A key of a table.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it is for, in lines.
    pub(crate) about: &'static [&'static str],
    /// A value for the example config.
    pub(crate) example: Example,
    /// What holds where it is left out.
    pub(crate) default: Option<fn() -> Option<Shown>>,
    /// Whether it must be there.
    pub(crate) required: bool,
    /// Which keys it stands for.
    pub(crate) keys: Keys,
    /// What its value is, for people.
    pub(crate) kind: fn() -> String,
    /// The table that its value is.
    pub(crate) inner: fn() -> Option<Inner>,
}

impl Key {
    /// The tables that its value can be.
    pub(super) fn layouts(&self) -> &'static [&'static Layout] {
        (self.inner)().map_or(&[], |inner| inner.layouts)
    }
}

/// The keys that a field takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// One of its name.
    One,
    /// None: it follows from others.
    None,
    /// Those of another table, in this one.
    Flat,
    /// One of its name, or with one of [`PLACES`] behind it.
    Secret,
}

/// A value for the example config, as TOML.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Example {
    /// The default says it.
    Default,
    /// This.
    Plain(&'static str),
    /// This, behind a `#`.
    Commented(&'static str),
}

impl Example {
    /// The value; empty where the default is one.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Default => "",
            Self::Plain(text) | Self::Commented(text) => text,
        }
    }
}

/// A table that stands in another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inner {
    /// Its keys; several where a key such as `type` says which.
    pub(crate) layouts: &'static [&'static Layout],
    /// How it stands there.
    pub(crate) standing: Standing,
}

/// How a table stands in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Once: `[mail]`.
    Once,
    /// In a list: `[[log]]`.
    List,
    /// By names that are the user's: `[service.NAME]`.
    Named,
}

impl Layout {
    /// Whether it has this key.
    pub(crate) fn knows(&self, word: &str) -> bool {
        self.keys.iter().any(|key| match key.keys {
            Keys::One => key.name == word,
            Keys::None => false,
            Keys::Flat => key.layouts().iter().any(|layout| layout.knows(word)),
            Keys::Secret => word
                .strip_prefix(key.name)
                .is_some_and(|rest| rest.is_empty() || PLACES.contains(&rest)),
        })
    }

    /// All its keys.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for key in self.keys {
            match key.keys {
                Keys::One => names.push(key.name.to_owned()),
                Keys::None => {}
                Keys::Flat => {
                    names.extend(key.layouts().iter().flat_map(|layout| layout.names()));
                }
                Keys::Secret => {
                    names.extend(PLACES.map(|place| format!("{}{place}", key.name)));
                    names.push(key.name.to_owned());
                }
            }
        }
        names
    }
}

/// The word among `known` that somebody who wrote `word` most likely meant, by the measure that clap uses for
/// commands; case is no difference.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // nobody meant a known word by a text as long as this one
    if word.len() > 100 {
        return None;
    }
    let word = word.to_lowercase();
    // a letter stands in many words
    let is_letter = word.chars().nth(1).is_none();
    known
        .into_iter()
        .filter(|candidate| !is_letter || candidate.len() == 1)
        .map(|candidate| (strsim::jaro(&word, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
