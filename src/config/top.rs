//! A config from its first line to its last: the tables of the top level, and the services in their order.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use log::LevelFilter;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::channels;
use super::discover::{self, Discover};
use super::environment::Environment;
use super::metrics::Metrics;
use super::scale::{self, ScaleRule};
use super::service::{self, DefaultKeys, Entry, Named, ServiceKeys};
use super::web::Web;
use super::{Config, Defaults};
use crate::check::container::Containers;
use crate::check::prometheus::Prometheus;
use crate::notify::mail::Settings;
use crate::notify::ping::Ping;
use crate::notify::{Channel, Tables};
use crate::table::fault::{Fault, MOST, Source, is_secret, is_secret_of_channel};
use crate::table::{
    Checked, Context, Faults, Fields, Form, Nested, Positive, Table, Value, choice, quoted, table,
};

table! {
    /// What stands before the first table.
    pub(super) struct TopKeys like "state_dir = \"/var/lib/watchdog\"" {
        /// Where state, lock, journal and unsent messages are kept; default: $STATE_DIRECTORY, else /var/lib/watchdog for root,
        /// else $XDG_STATE_HOME/watchdog, else ~/.local/state/watchdog.
        state_dir: Option<PathBuf>, commented r#""/var/lib/watchdog""#;
        /// For one check of one service; what takes longer is unknown.
        check_timeout: Duration as Positive = Duration::from_secs(10);
        /// For a whole run; what is not done by then is unknown, and the run ends.
        run_timeout: Duration as Positive = Duration::from_mins(5);
        /// Further files with [service.NAME], [discover.NAME], [scale.NAME] and [notify.NAME] tables, in the order of their names; each has to be as safe from others as this one.
        include: Vec<String> as Vec<FilePattern> = Vec::new(), commented r#"["conf.d/*.toml"]"#;
        /// The watchdog's own log.
        logging: Logging => Nested;
        /// What a service does not say itself.
        defaults: DefaultKeys => Nested;
        /// The container engine.
        containers: Containers => Nested;
        /// What Prometheus reads.
        metrics: Metrics => Nested;
        /// What `watchdog web` serves.
        web: Option<Web>;
        /// A Prometheus that is asked.
        prometheus: Option<Prometheus>;
        /// Whom to alert by mail.
        mail: Option<Settings>;
        /// Whom to alert in other ways.
        notify: Vec<Channel> => Tables;
        /// Who is told that runs happen.
        ping: Option<Ping>;
        /// The services.
        service: Vec<(String, ServiceKeys)> => Named;
        /// Services that are found in each run.
        discover: Vec<Discover> => discover::Named;
        /// How many replicas of something run.
        scale: Vec<(String, ScaleRule)> => scale::Named;
    }
}

table! {
    /// The watchdog's own log.
    pub struct Logging like "logging = { level = \"info\" }" {
        /// Default: none. What a run came to goes there, and with -v to standard error; its own trouble is always on standard
        /// error.
        file: Option<PathBuf>, commented r#""/var/log/watchdog.log""#;
        /// What is worth a line in it: error, warn, info, debug or trace.
        level: LevelFilter = LevelFilter::Info;
        /// Or "json": an object a line, with timestamp, level, component, message and details.
        format: LogFormat = LogFormat::Text;
    }
}

/// How the watchdog's own log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// Lines for programs, each an object.
    Json,
}

choice! { LogFormat: "text" = Text, "json" = Json }

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
        // what they say is here
        include: Vec::new(),
        logging: config.logging.clone(),
        containers: config.containers.clone(),
        metrics: config.metrics.clone(),
        web: config.web.clone(),
        prometheus: config.prometheus.as_deref().cloned(),
        defaults: DefaultKeys::from(&config.defaults),
        mail: config.mail().cloned(),
        notify: (config.channels.iter())
            .filter(|channel| channel.as_mail().is_none())
            .cloned()
            .collect(),
        ping: config.ping.clone(),
        service: services
            .map(|service| (service.name.clone(), ServiceKeys::from(&**service)))
            .collect(),
        discover: config.discover.clone(),
        scale: (config.scales.iter())
            .map(|scale| (scale.name.clone(), scale.rule.clone()))
            .collect(),
    };
    toml::to_string(&keys.shown())
        // every value in it is a text, a number or a list of them
        .unwrap_or_else(|error| format!("# {error}\n"))
}

/// A pattern of the names of files.
struct FilePattern;

impl Checked for FilePattern {
    type Of = String;
    const KIND: &'static str = "a path in which `*`, `?` and `[…]` stand for parts of names";

    fn read(value: &Value<'_>, _: &Context) -> Option<String> {
        let text = value.filled()?;
        if let Err(error) = glob::Pattern::new(&text) {
            value.wrong(
                &format!("this is no pattern of names: {}", error.msg),
                "write it like \"conf.d/*.toml\"",
            );
            return None;
        }
        Some(text)
    }
}

/// A file of a config.
#[derive(Clone, Copy)]
pub(super) struct Written<'a> {
    /// Where it stands, absolute.
    pub(super) path: &'a Path,
    /// What it says.
    pub(super) text: &'a str,
}

/// The patterns of `include` with their numbers, as far as they can be read: what is wrong with them is told when all is read.
pub(super) fn include_patterns(text: &str) -> Vec<(usize, String)> {
    // most configs have none, and are parsed once
    if !text.contains("include") {
        return Vec::new();
    }
    let (tree, _) = DeTable::parse_recoverable(text);
    let entries = tree.get_ref().get("include");
    let entries = entries.and_then(|value| value.get_ref().as_array());
    let texts = entries.into_iter().flatten().enumerate();
    let texts = texts.filter_map(|(number, entry)| Some((number, entry.get_ref().as_str()?)));
    let texts = texts.filter(|(_, text)| !text.is_empty() && glob::Pattern::new(text).is_ok());
    texts
        .map(|(number, text)| (number, text.to_owned()))
        .collect()
}

/// A file that is read, and what is wrong with it so far.
struct Reading<'a> {
    written: Written<'a>,
    tree: Spanned<DeTable<'a>>,
    faults: Faults,
    is_toml: bool,
}

impl<'a> Reading<'a> {
    fn begin(written: Written<'a>) -> Self {
        let (tree, slips) = DeTable::parse_recoverable(written.text);
        let reading = Self {
            written,
            tree,
            faults: Faults::of(TopKeys::LAYOUT),
            is_toml: slips.is_empty(),
        };
        if !slips.is_empty() {
            let (source, values) = reading.source();
            note_slips(&reading.faults, &source, &slips, &values);
        }
        reading
    }

    /// Its text with what is secret in it, and the places of lists and inline tables. Where all is well, nobody asks.
    fn source(&self) -> (Source<'a>, Vec<Range<usize>>) {
        let mut source = Source::new(self.written.text, self.written.path);
        let mut places = Places::default();
        for (key, value) in self.tree.get_ref() {
            places.is_of_channel = key.get_ref() == "notify" || key.get_ref() == "ping";
            places.entry(key, value, false);
        }
        for secret in &places.secrets {
            source.hide(secret);
        }
        (source, places.values)
    }

    fn table(&self) -> Table<'_> {
        Table::whole(&self.faults, self.tree.get_ref(), TopKeys::LAYOUT)
    }

    /// Says that what is for the whole does not belong into a file that is included.
    fn keep_to_services(&self, top: &Table<'_>, main: &Path) {
        for (name, _) in self.tree.get_ref() {
            let word: &str = name.get_ref();
            if ["service", "discover", "scale", "notify"].contains(&word) {
                continue;
            }
            if let Some(value) = top.get(word) {
                value.misplaced(
                    &format!("{} cannot stand in an included file", quoted(word)),
                    format!(
                        "a file that is included has [service.NAME], [discover.NAME], [scale.NAME] and [notify.NAME] tables; write this into {}",
                        main.display()
                    ),
                );
            }
        }
    }

    fn told(&self) -> Vec<Fault> {
        if self.faults.is_empty() {
            return Vec::new();
        }
        let (source, values) = self.source();
        self.faults.told(&source, &values)
    }
}

/// The `[ping]` table of a config that may have any faults elsewhere.
pub(super) fn ping(main: Written<'_>) -> Option<Ping> {
    let reading = Reading::begin(main);
    let directory: Arc<Path> = Arc::from(main.path.parent().unwrap_or(Path::new("/")));
    let context = Context {
        base: Arc::clone(&directory),
        directory,
    };
    let faults = Faults::of(TopKeys::LAYOUT);
    let top = Table::whole(&faults, reading.tree.get_ref(), TopKeys::LAYOUT);
    let ping = Ping::read(&top.get("ping")?, &context);
    ping.filter(|_| faults.is_empty())
}

/// Reads a whole config, or finds all that is wrong with it: `main`, and the files that it includes.
pub(super) fn read(
    main: Written<'_>,
    included: &[Written<'_>],
    environment: &Environment,
) -> Result<Config, Vec<Fault>> {
    let main = Reading::begin(main);
    let others: Vec<Reading<'_>> = included.iter().copied().map(Reading::begin).collect();
    let top = main.table();
    let tables: Vec<Table<'_>> = others.iter().map(Reading::table).collect();
    for (other, table) in others.iter().zip(&tables) {
        other.keep_to_services(table, main.written.path);
    }
    let files = std::iter::once((main.written, &top))
        .chain(others.iter().map(|other| other.written).zip(&tables));
    let mut config = body(&top, &main.faults, main.written.path, files, environment);
    let mut found = main.told();
    found.extend(others.iter().flat_map(Reading::told));
    if main.is_toml && !top.has("mail") {
        match (environment.mail(), &mut config) {
            (Ok(settings), Some(config)) => {
                config.channels.splice(0..0, settings.map(Channel::mail));
            }
            (Ok(_), None) => {}
            (Err(faults), _) => found.extend(faults),
        }
    }
    found.truncate(MOST);
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
fn body<'a>(
    top: &Table<'_>,
    faults: &Faults,
    path: &Path,
    files: impl Iterator<Item = (Written<'a>, &'a Table<'a>)>,
    environment: &Environment,
) -> Option<Config> {
    let directory: Arc<Path> = Arc::from(path.parent().unwrap_or(Path::new("/")));
    let context = Context {
        base: Arc::clone(&directory),
        directory,
    };
    let part = TopKeys::take(top, &context);
    let written = part.defaults.clone();
    let mut keys = TopKeys::whole(part)?;
    let state_dir = keys.state_dir.or_else(|| environment.state_dir());
    if state_dir.is_none() && !top.has("state_dir") {
        faults.absence(
            "`state_dir` is missing, and without HOME it has no default",
            "write state_dir = \"/home/trader/.local/state/watchdog\", say",
        );
    }

    let (mut services, mut discover, mut channels) = (Vec::new(), Vec::new(), Vec::new());
    let mut scales = Vec::new();
    for (written, top) in files {
        services.push((written, top.get("service")));
        discover.push((written, top.get("discover")));
        channels.push((written, top.get("notify")));
        scales.push((written, top.get("scale")));
    }
    let entries = named(&services, "[service.NAME]");
    let found = named(&discover, "[discover.NAME]");
    let replicated = named(&scales, "[scale.NAME]");
    let channels = channels::read(&named(&channels, "[notify.NAME]"));
    let are_tables = |table: &Option<Value<'_>>| table.as_ref().is_none_or(Value::is_table);
    let is_misspelt = |key: &&str| top.is_misspelt(key);
    if entries.is_empty()
        && found.is_empty()
        && replicated.is_empty()
        && !["service", "discover", "scale"].iter().any(is_misspelt)
        && services
            .iter()
            .chain(&discover)
            .chain(&scales)
            .all(|(_, table)| are_tables(table))
    {
        faults.absence(
            "there is no service in this config",
            "the least is [service.trader] with a line spawn = { command = [\"python3\", \"main.py\"] }",
        );
    }
    let scales = scale::read(&replicated, &written, &entries, top.has("prometheus"));
    // one that is wrong is there
    let shared = keys.prometheus.as_ref();
    let repairs = shared.is_some_and(|settings| settings.match_.is_some());
    let mut services = service::read(&entries, &written, repairs, || faults.many());
    let names: Vec<&str> = entries.iter().map(|entry| entry.name).collect();
    let mut discover = discover::read(&found, &written, &names);
    if !top.has("prometheus") {
        (entries.iter().chain(&found)).for_each(service::prometheus_has_url);
    }
    let shared = keys.prometheus.map(Arc::new);
    for service in &mut services {
        service.complete(keys.check_timeout, shared.as_ref());
    }
    for table in &mut discover {
        table.sample.complete(keys.check_timeout, shared.as_ref());
    }
    // an engine is given up after it as well
    keys.containers.timeout.get_or_insert(keys.check_timeout);
    for service in &mut services {
        if let Some(method) = &mut service.method {
            method.know_engine(&keys.containers);
        }
    }
    Some(Config {
        path: path.to_owned(),
        state_dir: state_dir.unwrap_or_default(),
        check_timeout: keys.check_timeout,
        run_timeout: keys.run_timeout,
        containers: keys.containers,
        included: Vec::new(),
        logging: keys.logging,
        metrics: keys.metrics,
        web: keys.web,
        prometheus: shared,
        defaults: Defaults::of(keys.defaults),
        channels: (keys.mail.map(Channel::mail).into_iter())
            .chain(channels)
            .collect(),
        discover,
        scales: scales.into_iter().map(Arc::new).collect(),
        ping: keys.ping,
        services: services.into_iter().map(Arc::new).collect(),
    })
}

/// The tables of a kind with names of the user's own, of all files.
fn named<'a>(tables: &'a [(Written<'_>, Option<Value<'a>>)], sample: &str) -> Vec<Entry<'a>> {
    let mut entries = Vec::new();
    for (written, table) in tables {
        let Some(named) = table.as_ref().and_then(|value| value.entries(sample)) else {
            continue;
        };
        let file: Arc<Path> = Arc::from(written.path);
        let directory: Arc<Path> = Arc::from(file.parent().unwrap_or(Path::new("/")));
        entries.extend(named.into_iter().map(|(name, value)| Entry {
            name,
            value,
            file: Arc::clone(&file),
            text: written.text,
            directory: Arc::clone(&directory),
        }));
    }
    entries
}

/// Places that are treated in a special way.
#[derive(Default)]
struct Places {
    /// Keys that hold a secret, with their values.
    secrets: Vec<Range<usize>>,
    /// Lists and inline tables.
    values: Vec<Range<usize>>,
    /// What is walked is of a `[notify.NAME]` table, or of `[ping]`.
    is_of_channel: bool,
}

impl Places {
    fn walk(&mut self, table: &DeTable<'_>, secret: bool) {
        for (key, value) in table {
            self.entry(key, value, secret);
        }
    }

    fn entry(&mut self, key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>, secret: bool) {
        let word = key.get_ref();
        let secret =
            secret || is_secret(word) || (self.is_of_channel && is_secret_of_channel(word));
        if secret {
            self.secrets.push(key.span());
        }
        self.value(value.span(), value.get_ref(), secret);
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
        // a URL may have a password or a token in it
        let is_url = |text: &str| {
            (text.contains("://") || text.starts_with("unix:")) && text.contains(['@', '?'])
        };
        if secret || value.as_str().is_some_and(is_url) {
            self.secrets.push(span.clone());
        }
        if matches!(value, DeValue::Table(_) | DeValue::Array(_)) {
            self.values.push(span);
        }
    }
}
