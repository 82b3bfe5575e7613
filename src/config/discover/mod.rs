//! The `[discover.NAME]` tables: services that are found in each run.
//!
//! What is found differs from run to run, so a table is kept as it is written, and is read anew for each container or unit
//! with its placeholders filled in. When the config is loaded it is read once with sample values: what is wrong with it is
//! reported then, with its place.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Service;
use super::service::{self, Entry, ServiceKeys, is_name};
use crate::systemctl::Manager;
use crate::table::{
    Checked, Context, Faults, Field, Fields, Filled, Inner, Key, Shown, Standing, Table, Value,
    Within, nearest, quoted, table,
};

mod label;
mod placeholder;
mod scripts;
mod shown;
mod template;
mod unset;

pub use self::label::{Holds, LabelRule};
pub use self::placeholder::Answer;
pub use self::template::{Made, Target, Template};

table! {
    /// Services that are found in each run: every container with a label, of a Compose project, or every unit of a pattern
    /// becomes one. Beside these keys it has those of a service, where {name}, {ip}, {port}, {address}, {project}, {service},
    /// {label:KEY}, and of units {unit} and {instance}, stand for what was found; {{ is a brace.
    pub(super) struct DiscoverKeys like "[discover.NAME]", check fits {
        /// The label: "key", or "key=value"; or …
        label: Option<String> as Option<label::Written>, example r#""watchdog.watch""#;
        /// … all of a Compose project; or …
        project: Option<String> as Option<Filled>, commented r#""app""#;
        /// … the units of systemd that a pattern matches, as `systemctl list-units --all` takes it.
        units: Option<String> as Option<UnitPattern>, commented r#""worker@*.service""#;
        /// "user": the units of the user that the watchdog runs as.
        manager: Manager = Manager::System, commented r#""user""#;
        /// Labels of containers that are left out.
        exclude: Vec<String> as Vec<label::Written> = vec!["auto_repair=false".to_owned(), "watchdog.enable=false".to_owned()];
        /// Which port {port} and {address} are about, where a container exposes several; its label watchdog.port says it for one.
        port: Option<u16> as Option<PortNumber>, commented "8080";
    }
}

type PortNumber = Within<1, 65535>;

/// A pattern of the names of units.
struct UnitPattern;

impl Checked for UnitPattern {
    type Of = String;
    const KIND: &'static str = "a pattern of the names of units";

    fn read(value: &Value<'_>, _: &Context) -> Option<String> {
        let text = value.filled()?;
        if text.starts_with('-') || text.contains(char::is_whitespace) {
            value.wrong(
                &format!("{} is no pattern of the names of units", quoted(&text)),
                "write it like \"worker@*.service\"",
            );
            return None;
        }
        Some(text)
    }
}

const ONE_OF: &str =
    "write one of label = \"key\", project = \"app\" and units = \"worker@*.service\"";

fn fits(table: &Table<'_>, _: &mut crate::table::Part<DiscoverKeys>) {
    if table
        .at_most_one(&["label", "project", "units"], ONE_OF)
        .is_none()
    {
        table.lacks("it does not say what is looked for", ONE_OF);
    }
    if table.has("units") {
        for key in ["exclude", "port"] {
            if let Some(value) = table.get(key) {
                value.misplaced(
                    &format!("`{key}` beside `units`"),
                    "it is about containers; leave it out",
                );
            }
        }
    } else if let Some(value) = table.get("manager") {
        value.misplaced(
            "`manager` without `units`",
            "it is about units; leave it out",
        );
    }
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// Containers with a label.
    Label(LabelRule),
    /// Containers of a Compose project.
    Project(String),
    /// Units.
    Units {
        /// A pattern of their names.
        pattern: String,
        /// Whose they are.
        manager: Manager,
    },
}

/// A `[discover.NAME]` table.
#[derive(Clone)]
pub struct Discover {
    /// Its name.
    pub name: String,
    /// What is looked for.
    pub by: By,
    /// Labels of containers that are left out.
    pub exclude: Vec<LabelRule>,
    /// Which port is meant, where a container exposes several.
    pub port: Option<u16>,
    /// A service of it with sample values: for all that does not depend on them.
    pub sample: Service,
    /// The file that it stands in.
    pub file: Arc<Path>,
    /// All of that file. Secrets may be in it.
    text: Arc<str>,
}

/// By the table and what it means: what else stands in its file may differ.
impl PartialEq for Discover {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.by == other.by
            && self.exclude == other.exclude
            && self.port == other.port
            && self.sample == other.sample
            && self.shown() == other.shown()
    }
}

impl Eq for Discover {}

impl fmt::Debug for Discover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Discover");
        shown.field("name", &self.name).field("by", &self.by);
        shown.finish_non_exhaustive()
    }
}

impl Discover {
    /// Whether it finds units, and not containers.
    pub fn finds_units(&self) -> bool {
        matches!(self.by, By::Units { .. })
    }
}

impl fmt::Display for Discover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            By::Label(rule) => write!(f, "containers with the label {rule}"),
            By::Project(project) => write!(f, "containers of Compose project {project}"),
            By::Units { pattern, .. } => write!(f, "units {pattern}"),
        }
    }
}

/// Reads the tables, in the order of the files. `services` are those of the config, which they may depend on.
pub(super) fn read(
    entries: &[Entry<'_>],
    defaults: &crate::table::Part<service::DefaultKeys>,
    services: &[&str],
) -> Vec<Discover> {
    let mut found: Vec<Discover> = Vec::new();
    let mut places = HashMap::new();
    for entry in entries {
        if !is_name(entry.name) {
            entry.value.misplaced(
                &format!(
                    "{} cannot be the name of a `discover` table",
                    quoted(entry.name)
                ),
                "letters, digits, '-', '_' and '.', 64 at most",
            );
            continue;
        }
        if entry.repeats(&mut places, "`discover` tables") {
            continue;
        }
        found.extend(one(entry, defaults, services));
    }
    found
}

fn one(
    entry: &Entry<'_>,
    defaults: &crate::table::Part<service::DefaultKeys>,
    services: &[&str],
) -> Option<Discover> {
    let Some((own, rest)) = template::parts(entry.value.raw()) else {
        // which says so
        entry.value.table(DiscoverKeys::LAYOUT);
        return None;
    };
    let own = entry.value.instead(&own);
    let context = Context {
        base: Arc::clone(&entry.directory),
        directory: Arc::clone(&entry.directory),
    };
    let keys = DiscoverKeys::take(&own.table(DiscoverKeys::LAYOUT)?, &context);
    let keys = DiscoverKeys::whole(keys)?;
    let by = match (keys.label, keys.project, keys.units) {
        (Some(label), ..) => By::Label(LabelRule::parse(&label)?),
        (_, Some(project), _) => By::Project(project),
        (.., Some(pattern)) => By::Units {
            pattern,
            manager: keys.manager,
        },
        _ => return None,
    };
    let of_units = matches!(by, By::Units { .. });
    let given = if of_units { "systemd" } else { "container" };
    let raw = entry.value.instead(&rest);
    let keeper = if of_units { "systemd" } else { "its engine" };
    let mut is_whole = true;
    for key in ["container", "systemd", "spawn"] {
        if let Some(value) = raw.key(key) {
            let help = if key == given {
                "what is found is given: leave it out".to_owned()
            } else {
                format!("what is found is restarted by {keeper}: leave it out")
            };
            value.misplaced(&format!("`{key}` in a `discover` table"), help);
            is_whole = false;
        }
    }
    let restart = raw.key("restart");
    let command = restart.as_ref().and_then(|restart| restart.key("command"));
    if let Some(command) = command.filter(|_| of_units) {
        command.misplaced(
            "`restart.command` in a `discover` table of units",
            "what is found is restarted by systemd: leave it out",
        );
        is_whole = false;
    }
    if !is_whole {
        return None;
    }
    let target = if of_units {
        Target::unit("a@1.service", keys.manager)
    } else {
        Target::container("a")
    };
    // what is right with one of the words is right; what is wrong with each is reported
    let is_right = |word: &&str| {
        let scratch = Faults::of(ServiceKeys::LAYOUT);
        let apart = Value::apart(&scratch, &rest);
        let filled = template::sample(&apart, &rest, &target, of_units, word);
        let Some(filled) = filled else { return false };
        let value = Value::apart(&scratch, &filled);
        let table = value.table(ServiceKeys::LAYOUT);
        table.is_some_and(|table| service::body(&entry.with(value), &table, defaults).is_some())
            && scratch.is_empty()
    };
    let mut words = placeholder::WORDS.into_iter();
    let word = words.find(is_right).unwrap_or(placeholder::WORDS[0]);
    let filled = template::sample(&raw, &rest, &target, of_units, word)?;
    let value = entry.value.instead(&filled);
    let table = value.table(ServiceKeys::LAYOUT)?;
    let sample = service::body(&entry.with(value), &table, defaults)?;
    for (number, name) in sample.depends_on.iter().enumerate() {
        if services.contains(&name.as_str()) {
            continue;
        }
        let list = table.get("depends_on");
        if let Some(value) = list.as_ref().and_then(|list| list.entry(number)) {
            value.absent(
                &format!("no service {}", quoted(name)),
                nearest(name, services.iter().copied()).map_or_else(
                    || "what is found may depend on [service.NAME] tables".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                ),
            );
        }
    }
    Some(Discover {
        name: entry.name.to_owned(),
        by,
        exclude: keys
            .exclude
            .iter()
            .filter_map(|it| LabelRule::parse(it))
            .collect(),
        port: keys.port,
        sample,
        file: Arc::clone(&entry.file),
        text: Arc::from(entry.text),
    })
}

/// The tables by their names. Each is read when the rest is known.
pub(super) struct Named;

impl Field<Vec<Discover>> for Named {
    type Part = ();

    fn take(_: &Table<'_>, _: &'static Key, _: &Context) {}

    fn whole((): (), _: Option<fn() -> Vec<Discover>>) -> Option<Vec<Discover>> {
        Some(Vec::new())
    }

    fn or((): (), (): &()) {}

    fn show(tables: &Vec<Discover>, key: &'static Key, entries: &mut Vec<(String, Shown)>) {
        if !tables.is_empty() {
            let shown = tables.iter().map(|it| (it.name.clone(), it.shown()));
            entries.push((key.name.to_owned(), Shown::Table(shown.collect())));
        }
    }

    fn inner() -> Option<Inner> {
        Some(Inner {
            layouts: &[DiscoverKeys::LAYOUT],
            standing: Standing::Named,
        })
    }
}

/// The directory that relative paths of a table begin at.
fn directory(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("/")).to_owned()
}
