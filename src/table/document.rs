//! All tables of a config in their order, for those who tell of them: the advice, the example and the manual.

use super::layout::PLACES;
use super::{Example, Inner, Key, Keys, Layout, Standing, nearest};

/// A kind of table with its place in a config.
#[derive(Debug)]
pub(crate) struct Section {
    /// As a person would write its header, with `NAME` for the user's own names; empty for the top level.
    pub(crate) place: String,
    /// Its keys.
    pub(crate) layout: &'static Layout,
    /// Whether others have the same place.
    pub(crate) is_variant: bool,
}

impl Section {
    /// What it is for.
    pub(crate) fn about(&self) -> String {
        sentence(self.layout.about)
    }

    /// Its keys as they are explained, those aside that are tables with a section of their own.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let place = self.place.trim_matches(['[', ']']);
        let place = place.trim_end_matches(".NAME");
        lines(self.layout, place.rsplit('.').next().unwrap_or_default())
    }

    /// Those of them that the first of its variants does not have as well, and the one that says which variant it is.
    pub(crate) fn own_lines(&self, sections: &[Self]) -> Vec<Line> {
        let first = sections.iter().find(|other| other.place == self.place);
        let is_first = first.is_none_or(|first| std::ptr::eq(first.layout, self.layout));
        let common = first
            .filter(|_| !is_first)
            .map(Self::lines)
            .unwrap_or_default();
        let is_own = |line: &Line| {
            let is_it = |other: &Line| other.name == line.name && other.about == line.about;
            line.name == VARIANT || !common.iter().any(is_it)
        };
        let mut lines = self.lines();
        lines.retain(is_own);
        lines
    }

    /// Which of the variants it is: what its `type` is.
    pub(crate) fn variant(&self) -> Option<&'static str> {
        let key = self.layout.keys.iter().find(|key| key.name == VARIANT)?;
        self.is_variant
            .then(|| key.example.text().trim_matches('"'))
    }
}

/// The key that says which of several tables it is.
const VARIANT: &str = "type";

/// A key as the example config and the manual have it.
#[derive(Debug)]
pub(crate) struct Line {
    /// Its name.
    pub(crate) name: String,
    /// A value.
    pub(crate) value: Sample,
    /// What it is for.
    pub(crate) about: String,
    /// What its value is.
    pub(crate) kind: String,
}

/// A value as the example config and the manual have it.
#[derive(Debug)]
pub(crate) enum Sample {
    /// The one that holds where the key is left out.
    Default(String),
    /// Another.
    Example(String),
    /// Another, which the example config has behind `#`.
    Commented(String),
}

impl Layout {
    /// What to say about a key that this table of a config does not have; with `is_table` it was written as one. `root` is
    /// the whole config.
    pub(super) fn advice(&self, key: &str, is_table: bool, root: &'static Layout) -> String {
        let all = sections(root);
        let is_root = std::ptr::eq(self, root);
        // a list of texts elsewhere is nothing that somebody meant by a table
        let belongs = if is_table {
            elsewhere(key, &all, |layout| layout.has_table(key))
        } else {
            elsewhere(key, &all, |layout| layout.knows(key))
        };
        if let Some(belongs) = belongs {
            return belongs;
        }
        let names = self.names();
        let tables = names.iter().filter(|name| self.has_table(name));
        let header = |name: &str| header(name, &all).unwrap_or_else(|| name.to_owned());
        if is_table && let Some(near) = nearest(key, tables.clone().map(String::as_str)) {
            let near = if is_root {
                header(near)
            } else {
                near.to_owned()
            };
            return format!("did you mean `{near}`?");
        }
        if is_table && is_root {
            let tables: Vec<_> = tables.map(|name| header(name)).collect();
            return format!("the tables are {}", tables.join(", "));
        }
        let belongs = is_table.then(|| elsewhere(key, &all, |layout| layout.knows(key)));
        if let Some(belongs) = belongs.flatten() {
            return belongs;
        }
        nearest(key, names.iter().map(String::as_str)).map_or_else(
            || format!("the keys here are {}", names.join(", ")),
            |near| format!("did you mean `{near}`?"),
        )
    }

    /// Whether its key of this name is a table, or a list of them.
    fn has_table(&self, word: &str) -> bool {
        self.keys.iter().any(|key| match key.keys {
            Keys::One => {
                let is_long = |layout: &&Layout| layout.short.is_none();
                key.name == word && key.layouts().iter().any(is_long)
            }
            Keys::None | Keys::Secret => false,
            Keys::Flat => key.layouts().iter().any(|layout| layout.has_table(word)),
        })
    }
}

/// Where a key belongs, in those of all tables that have it.
fn elsewhere(key: &str, all: &[Section], has: impl Fn(&Layout) -> bool) -> Option<String> {
    let sections = all.iter().filter(|section| has(section.layout));
    let mut places: Vec<_> = sections
        .map(|section| match section.place.as_str() {
            "" if section.layout.has_table(key) => {
                let header = header(key, all).unwrap_or_else(|| format!("[{key}]"));
                format!("at the top level, as `{header}`")
            }
            "" => "at the top of the file, before the first table".to_owned(),
            place if section.is_variant && !is_in_all(place, all, key) => {
                format!("in `{place}` like {}", section.layout.sample)
            }
            place if place.starts_with('[') => format!("in `{place}`"),
            place => format!("in {place}"),
        })
        .collect();
    places.dedup();
    (!places.is_empty()).then(|| format!("`{key}` belongs {}", places.join(" or ")))
}

/// The header of a table at the top level.
fn header(key: &str, all: &[Section]) -> Option<String> {
    let headers = [
        format!("[{key}]"),
        format!("[{key}.NAME]"),
        format!("[[{key}]]"),
    ];
    let mut sections = all.iter();
    let section = sections.find(|section| headers.contains(&section.place))?;
    Some(section.place.clone())
}

/// The tables of a config, from its whole on. One that is written as the value of its key is not listed.
pub(crate) fn sections(root: &'static Layout) -> Vec<Section> {
    let mut found = vec![Section {
        place: String::new(),
        layout: root,
        is_variant: false,
    }];
    walk(root, "", &mut found);
    found
}

/// Whether all variants of a table have a key.
fn is_in_all(place: &str, all: &[Section], key: &str) -> bool {
    let mut variants = all.iter().filter(|section| section.place == place);
    variants.all(|section| section.layout.knows(key))
}

fn walk(layout: &'static Layout, path: &str, found: &mut Vec<Section>) {
    for key in layout.keys {
        let Some(Inner { layouts, standing }) = (key.inner)() else {
            continue;
        };
        for layout in layouts {
            if key.keys == Keys::Flat {
                walk(layout, path, found);
            } else if layout.short.is_some() || has_section(key) {
                let mut path = path.to_owned();
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key.name);
                if standing == Standing::Named {
                    path.push_str(".NAME");
                }
                found.push(Section {
                    place: match standing {
                        _ if layout.short.is_some() => format!("an entry of `{}`", key.name),
                        Standing::List => format!("[[{path}]]"),
                        _ => format!("[{path}]"),
                    },
                    layout,
                    is_variant: layouts.len() > 1,
                });
                walk(layout, &path, found);
            }
        }
    }
}

/// Whether a key is a table that is explained where it stands, and not here: one with an example is written as the
/// value of its key, one that has a short form too.
fn has_section(key: &Key) -> bool {
    let layouts = key.layouts();
    let is_long = layouts.iter().all(|layout| layout.short.is_none());
    is_long && !layouts.is_empty() && key.example.text().is_empty()
}

/// The keys of a table of this name.
fn lines(layout: &Layout, table: &str) -> Vec<Line> {
    let mut found = Vec::new();
    for key in layout.keys {
        match key.keys {
            Keys::None => {}
            Keys::Flat => {
                let layouts = key.layouts().iter();
                found.extend(layouts.flat_map(|layout| lines(layout, table)));
            }
            Keys::Secret => found.extend(secret(key, table)),
            Keys::One if has_section(key) => {}
            Keys::One => found.push(line(key)),
        }
    }
    found
}

fn line(key: &Key) -> Line {
    Line {
        name: key.name.to_owned(),
        value: match key.example {
            Example::Default => {
                let default = key.default.and_then(|default| default());
                Sample::Default(default.map(|value| value.to_string()).unwrap_or_default())
            }
            Example::Plain(text) => Sample::Example(text.to_owned()),
            Example::Commented(text) => Sample::Commented(text.to_owned()),
        },
        about: sentence(key.about),
        kind: (key.kind)(),
    }
}

/// The four keys that a secret may come from.
fn secret(key: &Key, table: &str) -> [Line; 4] {
    let line = |place: &str, value: String, about: &str| Line {
        name: format!("{}{place}", key.name),
        value: Sample::Commented(value),
        about: about.to_owned(),
        kind: "a text".to_owned(),
    };
    let [file, env, credential] = PLACES;
    let about = sentence(key.about);
    [
        line(
            file,
            format!("\"/etc/watchdog/{table}.{}\"", key.name),
            &format!("{about} Here: a file that nobody else may read, whose first line is it."),
        ),
        line(
            env,
            format!("\"{table}_{}\"", key.name).to_ascii_uppercase(),
            "Or a variable of the environment.",
        ),
        line(
            credential,
            format!("\"{table}-{}\"", key.name),
            "Or a systemd credential, of LoadCredential= in the unit.",
        ),
        line(
            "",
            key.example.text().to_owned(),
            "Or the text itself, where nobody else can read this file.",
        ),
    ]
}

/// The lines of a comment as one.
fn sentence(about: &[&str]) -> String {
    let lines: Vec<_> = about.iter().map(|line| line.trim()).collect();
    lines.join(" ")
}
