//! A config from its first line to its last: the tables of the top level, and the services in their order.

use std::cell::LazyCell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::LevelFilter;
use toml::de::{DeTable, DeValue};

use super::environment::Environment;
use super::fault::{Fault, MOST, Source, is_secret};
use super::read::{Faults, Table, Value, quoted};
use super::service::{self, Written};
use super::{Config, Logging, keys, mail};

/// A config, and what the place of a later trouble would be.
pub(super) struct Read {
    pub(super) config: Config,
    /// Where the password is, or is said to be.
    pub(super) password: Option<Range<usize>>,
}

/// Reads a whole config, or finds all that is wrong with it.
pub(super) fn read(text: &str, path: &Path, environment: &Environment) -> Result<Read, Vec<Fault>> {
    let (tree, slips) = DeTable::parse_recoverable(text);
    let faults = Faults::default();
    let is_toml = slips.is_empty();
    // where all is well, nobody asks what stands on which line, and which lines hold a secret
    let shown = LazyCell::new(|| {
        let mut source = Source::new(text, path);
        let mut places = Places::default();
        places.walk(tree.get_ref(), false);
        for secret in &places.secrets {
            source.hide(secret);
        }
        (source, places.values)
    });
    if !is_toml {
        let (source, values) = &*shown;
        note_slips(&faults, source, &slips, values);
    }

    let top = Table::whole(&faults, tree.get_ref(), &keys::TOP);
    let (config, password) = body(&top, &faults, path, environment);
    let mut found = Vec::new();
    if !faults.is_empty() {
        let (source, values) = &*shown;
        found = faults.told(source, values);
    }
    let mail = if top.has("mail") || !is_toml {
        config.mail
    } else {
        environment.mail().unwrap_or_else(|faults| {
            found.extend(faults);
            None
        })
    };
    if found.is_empty() {
        Ok(Read {
            config: Config { mail, ..config },
            password,
        })
    } else {
        Err(found)
    }
}

/// Notes what is not TOML. One slip makes the parser stumble on, so of each line only the first is told, and of a
/// list that is not closed only where it opens.
fn note_slips(
    faults: &Faults,
    source: &Source<'_>,
    slips: &[toml::de::Error],
    values: &[Range<usize>],
) {
    let mut slips: Vec<_> = slips
        .iter()
        .map(|slip| (slip.span().unwrap_or_default(), slip.message()))
        .collect();
    slips.sort_by_key(|(span, _)| span.start);
    // several may stand on a line
    slips.truncate(4 * MOST);
    let mut open: Vec<&Range<usize>> = Vec::new();
    for (span, message) in &slips {
        let what = match message.split_once(", expected") {
            Some(("unclosed array", _)) => "list",
            Some(("unclosed inline table", _)) => "table",
            _ => continue,
        };
        let around = values
            .iter()
            .filter(|value| value.start <= span.start && span.start <= value.end)
            .min_by_key(|value| value.start);
        if let Some(value) = around
            && !open.contains(&value)
        {
            open.push(value);
            let opening = value.start..value.start + 1;
            faults.syntax(&opening, &format!("this {what} is not closed"));
        }
    }
    let mut last_line = None;
    for (span, message) in slips {
        let swallowed = open
            .iter()
            .any(|value| value.start <= span.start && span.start <= value.end);
        let line = source.line_of(span.start);
        if swallowed || last_line == Some(line) {
            continue;
        }
        last_line = Some(line);
        let message = match message {
            "duplicate key" => {
                let key = source.slice(span.clone());
                format!("{} is written twice", quoted(key))
            }
            "string values must be quoted, expected literal string" if span.is_empty() => {
                "there is no value".to_owned()
            }
            // what else could stand there would fill the line
            message => message
                .trim_end_matches(", expected literal string")
                .trim_end_matches(", expected nothing")
                .to_owned(),
        };
        faults.syntax(&span, &message);
    }
}

/// The config, of which nothing is sure until it is known to have no faults.
fn body(
    top: &Table<'_>,
    faults: &Faults,
    path: &Path,
    environment: &Environment,
) -> (Config, Option<Range<usize>>) {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let state_dir = match top.get("state_dir") {
        Some(value) => value.path(directory),
        None => environment.state_dir(),
    };
    if state_dir.is_none() && !top.has("state_dir") {
        faults.absence(
            "`state_dir` is missing, and no HOME tells where it could be",
            "write state_dir = \"/home/trader/.local/state/watchdog\", say",
        );
    }
    let time = |key, default| {
        top.get(key)
            .and_then(|value| value.time())
            .unwrap_or(default)
    };
    let check_timeout = time("check_timeout", Duration::from_secs(10));
    let run_timeout = time("run_timeout", Duration::from_mins(5));
    let logging = logging(top, directory);
    let defaults = Written::read(top.get("defaults").as_ref(), check_timeout);
    let (mail, password) = top
        .get("mail")
        .map_or((None, None), |value| mail::read(&value, directory));

    let table = top.get("service");
    let entries = table
        .as_ref()
        .and_then(|value| value.entries("[service.NAME]"))
        .unwrap_or_default();
    if entries.is_empty() && table.as_ref().is_none_or(Value::is_table) {
        faults.absence(
            "there is no service in this config",
            "the least is [service.trader] with a line spawn = { command = [\"python3\", \"main.py\"] }",
        );
    }
    let services = service::read(&entries, directory, &defaults, || faults.many());
    let config = Config {
        path: path.to_owned(),
        state_dir: state_dir.unwrap_or_else(PathBuf::new),
        check_timeout,
        run_timeout,
        logging,
        defaults: defaults.meant(),
        mail,
        services,
    };
    (config, password)
}

fn logging(top: &Table<'_>, directory: &Path) -> Logging {
    let table = top
        .get("logging")
        .and_then(|value| value.table(&keys::LOGGING));
    let get = |key| table.as_ref().and_then(|table| table.get(key));
    Logging {
        file: get("file").and_then(|value| value.path(directory)),
        level: get("level")
            .and_then(|value| {
                value.choice(&[
                    ("error", LevelFilter::Error),
                    ("warn", LevelFilter::Warn),
                    ("info", LevelFilter::Info),
                    ("debug", LevelFilter::Debug),
                    ("trace", LevelFilter::Trace),
                ])
            })
            .unwrap_or(LevelFilter::Info),
    }
}

/// Places that are treated in a special way.
#[derive(Default)]
struct Places {
    /// Keys that hold a secret, with their values.
    secrets: Vec<Range<usize>>,
    /// Lists and inline tables.
    values: Vec<Range<usize>>,
}

impl Places {
    fn walk(&mut self, table: &DeTable<'_>, secret: bool) {
        for (key, value) in table {
            let secret = secret || is_secret(key.get_ref());
            if secret {
                self.secrets.push(key.span());
            }
            self.value(value.span(), value.get_ref(), secret);
        }
    }

    fn value(&mut self, span: Range<usize>, value: &DeValue<'_>, secret: bool) {
        match value {
            DeValue::Table(table) => self.walk(table, secret),
            DeValue::Array(array) => {
                for entry in array {
                    self.value(entry.span(), entry.get_ref(), secret);
                }
            }
            _ => {}
        }
        if secret {
            self.secrets.push(span.clone());
        }
        if matches!(value, DeValue::Table(_) | DeValue::Array(_)) {
            self.values.push(span);
        }
    }
}
