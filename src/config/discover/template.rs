//! A table as a template: read anew for each that was found, with its placeholders filled in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::placeholder::{self, Answer, Unfilled, fill};
use super::unset::{Unset, numbered, place_of, sentences};
use super::{Discover, DiscoverKeys};
use crate::config::service::{DefaultKeys, Entry, ServiceKeys, body};
use crate::config::{Config, Origin, Service};
use crate::systemctl::Manager;
use crate::table::{Context, Faults, Fields, Part, Table, Value, nearest, quoted};

/// What a service is made of that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    key: &'static str,
    entries: Vec<(&'static str, String)>,
}

impl Target {
    /// A container, by its name. One that ended with 0 ended on purpose.
    pub fn container(name: &str) -> Self {
        Self {
            key: "container",
            entries: vec![("name", name.to_owned())],
        }
    }

    /// A unit.
    pub fn unit(name: &str, manager: Manager) -> Self {
        let manager = match manager {
            Manager::System => "system",
            Manager::User => "user",
        };
        Self {
            key: "systemd",
            entries: vec![("unit", name.to_owned()), ("manager", manager.to_owned())],
        }
    }

    /// The name of what it is.
    pub fn name(&self) -> &str {
        self.entries.first().map_or("", |(_, name)| name)
    }

    /// What it is, and its name: `container web`.
    fn shown(&self) -> String {
        let kind = match self.key {
            "systemd" => "unit",
            kind => kind,
        };
        format!("{kind} {}", self.name())
    }

    /// It as a table of a service. It stands nowhere in the file.
    fn table(&self) -> Spanned<DeValue<'static>> {
        let mut table = DeTable::new();
        for (key, value) in &self.entries {
            let value = DeValue::String(Cow::Owned(value.clone()));
            table.insert(key_of(key), Spanned::new(0..0, value));
        }
        if self.key == "container" {
            // the only way to make a number is to read one
            let (mut list, _) = DeValue::parse_recoverable("[0]");
            list.get_mut().make_owned();
            table.insert(key_of("exit_ok"), list);
        }
        Spanned::new(0..0, DeValue::Table(table))
    }
}

fn key_of(key: &'static str) -> Spanned<DeString<'static>> {
    Spanned::new(0..0, Cow::Borrowed(key))
}

/// The keys of a table that say what is looked for, and those of the services that are found; absent: it is no table.
pub(super) fn parts<'a>(
    raw: &Spanned<DeValue<'a>>,
) -> Option<(Spanned<DeValue<'a>>, Spanned<DeValue<'a>>)> {
    let table = raw.get_ref().as_table()?;
    let (mut own, mut rest) = (DeTable::new(), DeTable::new());
    let names = DiscoverKeys::LAYOUT.names();
    for (key, value) in table {
        let word: &str = key.get_ref();
        let is_known = ServiceKeys::LAYOUT.knows(word);
        let is_own = match word {
            // a list is of probes
            "port" => !value.get_ref().is_array() && !value.get_ref().is_table(),
            _ if DiscoverKeys::LAYOUT.knows(word) => true,
            _ => !is_known && nearest(word, names.iter().map(String::as_str)).is_some(),
        };
        let part = if is_own { &mut own } else { &mut rest };
        part.insert(key.clone(), value.clone());
    }
    let spanned = |table| Spanned::new(raw.span(), DeValue::Table(table));
    Some((spanned(own), spanned(rest)))
}

/// The keys of services with sample values; what is no placeholder is noted.
pub(super) fn sample<'a>(
    noted: &Value<'_>,
    rest: &Spanned<DeValue<'a>>,
    target: &Target,
    of_units: bool,
    word: &str,
) -> Option<Spanned<DeValue<'a>>> {
    let value = |name: &str| placeholder::sample(name, of_units, word);
    let mut table = DeTable::new();
    let mut is_right = true;
    for (key, entry) in rest.get_ref().as_table()? {
        let mut unknown = |span: std::ops::Range<usize>, name: &str| {
            is_right = false;
            let known = if of_units {
                placeholder::OF_UNIT
            } else {
                placeholder::OF_CONTAINER
            };
            let known: Vec<String> = known.iter().map(|name| format!("{{{name}}}")).collect();
            let label = if of_units { "" } else { " and {label:KEY}" };
            noted.wrong_at(
                &span,
                &format!("there is no placeholder {}", quoted(&format!("{{{name}}}"))),
                format!(
                    "there are {}{label}; a brace itself is written `{{{{`",
                    known.join(", ")
                ),
            );
        };
        if let Ok(filled) = filled(entry, &of_key(key.get_ref(), &value), &mut unknown) {
            table.insert(key.clone(), filled);
        }
    }
    if !is_right {
        return None;
    }
    table.insert(key_of(target.key), target.table());
    Some(Spanned::new(rest.span(), DeValue::Table(table)))
}

/// What placeholders below a key of a service stand for: that of the process to look at is filled in when there is one.
fn of_key<'a>(
    key: &'a str,
    answer: &'a dyn Fn(&str) -> Option<Answer>,
) -> impl Fn(&str) -> Option<Answer> + 'a {
    move |name| match (key, name) {
        ("evidence", "pid") => Some(Ok("{pid}".to_owned())),
        _ => answer(name),
    }
}

/// A value with the placeholders in its texts filled in; or why there is nothing for one.
fn filled<'a>(
    value: &Spanned<DeValue<'a>>,
    answer: &dyn Fn(&str) -> Option<Answer>,
    unknown: &mut dyn FnMut(std::ops::Range<usize>, &str),
) -> Result<Spanned<DeValue<'a>>, Unset> {
    let made = match value.get_ref() {
        DeValue::String(text) => match fill(text, answer) {
            Ok(text) => DeValue::String(Cow::Owned(text)),
            Err(Unfilled::Unset { placeholder, why }) => {
                return Err(Unset {
                    key: String::new(),
                    placeholder,
                    why,
                });
            }
            Err(Unfilled::Unknown(name)) => {
                unknown(value.span(), &name);
                value.get_ref().clone()
            }
        },
        DeValue::Array(list) => {
            let mut made = DeArray::new();
            for entry in list {
                made.push(filled(entry, answer, unknown)?);
            }
            DeValue::Array(made)
        }
        DeValue::Table(table) => {
            let mut made = DeTable::new();
            for (key, entry) in table {
                let entry = filled(entry, answer, unknown);
                let entry = entry.map_err(|unset| unset.below(key.get_ref()))?;
                made.insert(key.clone(), entry);
            }
            DeValue::Table(made)
        }
        other => other.clone(),
    };
    Ok(Spanned::new(value.span(), made))
}

/// A table that services are made of.
pub struct Template<'a> {
    discover: &'a Discover,
    config: &'a Config,
    /// Absent: it is not there any more, which cannot be.
    rest: Option<Spanned<DeValue<'a>>>,
    /// Where relative paths begin.
    directory: Arc<Path>,
    /// What `[defaults]` has.
    defaults: Part<DefaultKeys>,
}

/// A service that was made of a template.
#[derive(Clone, Debug)]
pub struct Made {
    /// The service.
    pub service: Service,
    /// What of the table it lacks, and why, as sentences.
    pub unset: Vec<String>,
}

impl<'a> Template<'a> {
    /// Reads the table once more.
    pub fn of(discover: &'a Discover, config: &'a Config) -> Self {
        let (tree, _) = DeTable::parse_recoverable(&discover.text);
        let table = tree.get_ref().get("discover");
        let table = table.and_then(|it| it.get_ref().as_table()?.get(&*discover.name));
        let directory: Arc<Path> = Arc::from(super::directory(&discover.file));
        Self {
            discover,
            config,
            rest: table.and_then(parts).map(|(_, rest)| rest),
            defaults: defaults(config, &directory),
            directory,
        }
    }

    /// Whether a service of the config is a unit.
    pub fn has_unit(&self, name: &str, manager: Manager) -> bool {
        let mut units = self
            .config
            .services
            .iter()
            .filter_map(|it| it.unit.as_ref());
        units.any(|unit| unit.unit == name && unit.manager == manager)
    }

    /// The service of something that was found. What has a placeholder that cannot be filled is left out of it.
    pub fn make(
        &self,
        name: &str,
        target: &Target,
        answer: &dyn Fn(&str) -> Option<Answer>,
    ) -> Option<Made> {
        let mut unset = Vec::new();
        let mut numbers = BTreeMap::new();
        let mut table = DeTable::new();
        let mut unknown = |_: std::ops::Range<usize>, _: &str| {};
        for (key, value) in self.rest.as_ref()?.get_ref().as_table()? {
            let answer = &of_key(key.get_ref(), answer);
            // of a list of checks the others stand
            let is_list = |list: &DeArray<'_>| list.iter().all(|it| it.get_ref().is_table());
            if let Some(list) = value.get_ref().as_array().filter(|list| is_list(list)) {
                let mut made = DeArray::new();
                let kept: &mut Vec<usize> = numbers.entry(key.get_ref().to_string()).or_default();
                for (number, entry) in (1..).zip(list) {
                    match filled(entry, answer, &mut unknown) {
                        Ok(entry) => {
                            made.push(entry);
                            kept.push(number);
                        }
                        Err(lacks) => unset.push(lacks.below(&numbered(key.get_ref(), number))),
                    }
                }
                if !made.is_empty() {
                    let made = Spanned::new(value.span(), DeValue::Array(made));
                    table.insert(key.clone(), made);
                }
                continue;
            }
            match filled(value, answer, &mut unknown) {
                Ok(value) => {
                    table.insert(key.clone(), value);
                }
                Err(lacks) => unset.push(lacks.below(key.get_ref())),
            }
        }
        let mut unset = sentences(&unset, &target.shown());
        let service = match self.read(name, target, table) {
            Ok(service) => Some(service),
            // a label may say anything
            Err(None) => {
                unset.push(format!("the table does not fit {}", target.shown()));
                self.read(name, target, DeTable::new()).ok()
            }
            Err(Some((place, why))) => {
                unset.push(format!(
                    "{}, as filled in for {}, is wrong: {why}",
                    place_of(&place, &numbers),
                    target.shown()
                ));
                self.read(name, target, DeTable::new()).ok()
            }
        };
        service.map(|service| Made { service, unset })
    }

    /// The service of a table that is filled in; or the place of what is wrong in it first, and what is wrong with it.
    fn read(
        &self,
        name: &str,
        target: &Target,
        mut table: DeTable<'_>,
    ) -> Result<Service, Option<(String, String)>> {
        table.insert(key_of(target.key), target.table());
        let value = Spanned::new(0..0, DeValue::Table(table));
        let faults = Faults::of(ServiceKeys::LAYOUT);
        let entry = Entry {
            name,
            value: Value::apart(&faults, &value),
            file: Arc::clone(&self.discover.file),
            text: "",
            directory: Arc::clone(&self.directory),
        };
        let wrong = || faults.first();
        let inner = entry.value.table(ServiceKeys::LAYOUT).ok_or_else(wrong)?;
        let mut service = body(&entry, &inner, &self.defaults).ok_or_else(wrong)?;
        if !faults.is_empty() {
            return Err(wrong());
        }
        let shared = self.config.prometheus.as_ref();
        service.complete(self.config.check_timeout, shared);
        if let Some(method) = &mut service.method {
            method.know_engine(&self.config.containers);
        }
        service.origin = Some(Box::new(Origin {
            table: self.discover.name.clone(),
            target: target.name().to_owned(),
            is_listed: true,
            unset: Vec::new(),
        }));
        Ok(service)
    }
}

/// What `[defaults]` says, as a table would have it.
fn defaults(config: &Config, directory: &Arc<Path>) -> Part<DefaultKeys> {
    let text = toml::to_string(&DefaultKeys::from(&config.defaults).shown());
    let text = text.unwrap_or_default();
    let (tree, _) = DeTable::parse_recoverable(&text);
    let faults = Faults::of(DefaultKeys::LAYOUT);
    let context = Context {
        base: Arc::clone(directory),
        directory: Arc::clone(directory),
    };
    let table = Table::whole(&faults, tree.get_ref(), DefaultKeys::LAYOUT);
    DefaultKeys::take(&table, &context)
}
