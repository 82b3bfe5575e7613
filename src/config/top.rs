//! A config from its first line to its last: the tables of the top level, and the services in their order.

use std::cell::LazyCell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use log::LevelFilter;
use toml::de::{DeTable, DeValue};

use super::environment::Environment;
use super::service::{self, DefaultKeys, Named, ServiceKeys};
use super::{Config, Defaults};
use crate::notify::Channel;
use crate::notify::mail::Settings;
use crate::table::fault::{Fault, MOST, Source, is_secret};
use crate::table::{
    Context, Faults, Fields, Nested, Positive, Table, Value, choice, quoted, table,
};

table! {
    /// What stands before the first table.
    pub(super) struct TopKeys like "state_dir = \"/var/lib/watchdog\"" {
        /// Where state, lock, journal and unsent mail are kept; default: $STATE_DIRECTORY, else /var/lib/watchdog for root,
        /// else $XDG_STATE_HOME/watchdog, else ~/.local/state/watchdog.
        state_dir: Option<PathBuf>, commented r#""/var/lib/watchdog""#;
        /// For one check of one service; what takes longer is unknown.
        check_timeout: Duration as Positive = Duration::from_secs(10);
        /// For a whole run; what is not done by then is unknown, and the run ends.
        run_timeout: Duration as Positive = Duration::from_mins(5);
        /// The watchdog's own log.
        logging: Logging => Nested;
        /// What a service does not say itself.
        defaults: DefaultKeys => Nested;
        /// Whom to alert by mail.
        mail: Option<Settings>;
        /// The services.
        service: Vec<(String, ServiceKeys)> => Named;
    }
}

table! {
    /// The watchdog's own log.
    pub struct Logging like "logging = { level = \"info\" }" {
        /// Default: none, which is standard error only.
        file: Option<PathBuf>, commented r#""/var/log/watchdog.log""#;
        /// What is worth a line in it: error, warn, info, debug or trace.
        level: LevelFilter = LevelFilter::Info;
    }
}

choice! {
    LevelFilter:
    "error" = Error,
    "warn" = Warn,
    "info" = Info,
    "debug" = Debug,
    "trace" = Trace,
}

/// The effective config as TOML, with every default filled in and every secret masked. It can be loaded again, but for
/// its secrets. Paths are shown as they are meant, but for those that messages repeat.
pub fn to_toml(config: &Config) -> String {
    let services = config.services.iter();
    let keys = TopKeys {
        state_dir: Some(config.state_dir.clone()),
        check_timeout: config.check_timeout,
        run_timeout: config.run_timeout,
        logging: config.logging.clone(),
        defaults: DefaultKeys::from(&config.defaults),
        mail: config.mail().cloned(),
        service: services
            .map(|service| (service.name.clone(), ServiceKeys::from(&**service)))
            .collect(),
    };
    toml::to_string(&keys.shown())
        // every value in it is a text, a number or a list of them
        .unwrap_or_else(|error| format!("# {error}\n"))
}

/// Reads a whole config, or finds all that is wrong with it.
pub(super) fn read(
    text: &str,
    path: &Path,
    environment: &Environment,
) -> Result<Config, Vec<Fault>> {
    let (tree, slips) = DeTable::parse_recoverable(text);
    let faults = Faults::of(TopKeys::LAYOUT);
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

    let top = Table::whole(&faults, tree.get_ref(), TopKeys::LAYOUT);
    let config = body(&top, &faults, path, environment);
    let mut found = Vec::new();
    if !faults.is_empty() {
        let (source, values) = &*shown;
        found = faults.told(source, values);
    }
    let mut config = config;
    if is_toml && !top.has("mail") {
        match (environment.mail(), &mut config) {
            (Ok(mail), Some(config)) => config.channels.extend(mail.map(Channel::mail)),
            (Ok(_), None) => {}
            (Err(faults), _) => found.extend(faults),
        }
    }
    match config {
        Some(config) if found.is_empty() => Ok(config),
        _ => Err(found),
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
            faults.syntax(&opening, &format!("this {what} is not closed"), None);
        }
    }
    let mut last_line = None;
    // what stands below the second header of a table would be written twice for each of its keys
    let mut doubled: Option<Range<usize>> = None;
    for (span, message) in slips {
        if message == "duplicate key"
            && doubled
                .as_ref()
                .is_some_and(|table| table.contains(&span.start))
        {
            continue;
        }
        let swallowed = open
            .iter()
            .any(|value| value.start <= span.start && span.start <= value.end);
        let line = source.line_of(span.start);
        if swallowed || last_line == Some(line) {
            continue;
        }
        last_line = Some(line);
        let message = match message {
            "duplicate key" => match header(source, span.start) {
                Some(end) => {
                    doubled = Some(span.start..end);
                    "this table is there already: a name stands once".to_owned()
                }
                None => format!("{} is written twice", quoted(source.slice(span.clone()))),
            },
            "string values must be quoted, expected literal string" if span.is_empty() => {
                "there is no value".to_owned()
            }
            // what else could stand there would fill the line
            message => message
                .trim_end_matches(", expected literal string")
                .trim_end_matches(", expected nothing")
                .to_owned(),
        };
        let is_escape = message.contains("escaped");
        let (message, help) = if is_escape {
            let help = "write it in single quotes, where a backslash stays one: 'main\\.py'";
            (
                "in double quotes a backslash begins an escape, and this is none".to_owned(),
                Some(help),
            )
        } else {
            (message, None)
        };
        faults.syntax(&span, &message, help);
    }
}

/// Where a table ends, of which this place is in the header.
fn header(source: &Source<'_>, at: usize) -> Option<usize> {
    let text = source.text();
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let is_header = |line: &str| line.trim_start().starts_with('[');
    if !is_header(&text[line..at]) {
        return None;
    }
    let mut end = line;
    for (number, line) in text[line..].split_inclusive('\n').enumerate() {
        if number > 0 && is_header(line) {
            break;
        }
        end += line.len();
    }
    Some(end)
}

/// The config, of which nothing is sure until it is known to have no faults.
fn body(
    top: &Table<'_>,
    faults: &Faults,
    path: &Path,
    environment: &Environment,
) -> Option<Config> {
    let directory: Arc<Path> = Arc::from(path.parent().unwrap_or(Path::new("/")));
    let context = Context {
        base: Arc::clone(&directory),
        directory: Arc::clone(&directory),
    };
    let part = TopKeys::take(top, &context);
    let written = part.defaults.clone();
    let keys = TopKeys::whole(part)?;
    let state_dir = keys.state_dir.or_else(|| environment.state_dir());
    if state_dir.is_none() && !top.has("state_dir") {
        faults.absence(
            "`state_dir` is missing, and no HOME tells where it could be",
            "write state_dir = \"/home/trader/.local/state/watchdog\", say",
        );
    }

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
    let mut services = service::read(&entries, &directory, &written, || faults.many());
    for check in services.iter_mut().flat_map(|service| &mut service.checks) {
        check.rule.fill_in(keys.check_timeout);
    }
    Some(Config {
        path: path.to_owned(),
        state_dir: state_dir.unwrap_or_default(),
        check_timeout: keys.check_timeout,
        run_timeout: keys.run_timeout,
        logging: keys.logging,
        defaults: Defaults::of(keys.defaults),
        channels: keys.mail.map(Channel::mail).into_iter().collect(),
        services: services.into_iter().map(Arc::new).collect(),
    })
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
