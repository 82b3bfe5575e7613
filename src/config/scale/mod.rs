//! The `[scale.NAME]` tables: how many replicas of something run.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::service::{DefaultKeys, Entry, is_name, is_not_reserved};
use crate::systemctl::Manager;
use crate::table::{
    Checked, Context, Field, Fields, Filled, Form, Inner, Key, Part, Positive, Program, Shown,
    Standing, Table, Value, Within, quoted, table,
};

mod level;
mod metric;

use level::AboveZero;

pub use level::Level;
pub use metric::{Asked, Metric};

/// More replicas on one machine are a slip.
const MOST: i64 = 1000;

/// The levels of an average that names none: with so much between them they do not pull against each other.
const UP_AT: f64 = 0.8;
const DOWN_AT: f64 = 0.2;

/// What stands for the number of an instance.
const NUMBER: &str = "{n}";

table! {
    /// How many replicas of something run: so many as its load asks for, between min and max. NAME is as a service's, and no
    /// service may have the same. `watchdog scale NAME N` does it by hand.
    pub struct ScaleRule like "[scale.NAME]", check fits {
        /// The service of a Compose project; or …
        compose: Option<Compose>;
        /// … instances of a template of systemd, {n} is their number, from 1 on: started and stopped by systemctl.
        units: Option<String> as Option<Template>, commented r#""celery@{n}.service""#;
        /// "user": the units of the user that the watchdog runs as; default: those of the system.
        manager: Option<Manager>, commented r#""user""#;
        /// Never fewer, but for 0, which a person made.
        min: u32 as Within<1, MOST> = 1;
        /// Never more.
        max: u32 as Within<1, MOST> = 5;
        /// What it goes by: "cpu" (of one processor) and "memory" (of their limit) are averages of the replicas; or one of
        /// { command = ["…"], user = "…" }, { redis = "…", list = "…", ca_file = "…" } and { prometheus = "…" }, with a timeout.
        metric: Metric = Metric::Cpu, example r#""cpu""#;
        /// Above it for `up_after`: one step up. The default is that of "cpu" and "memory"; others have none.
        scale_up_at: Option<Level> as Option<AboveZero>, example "0.8";
        /// Below it for `down_after`: one step down. The default is that of "cpu" and "memory"; others have none.
        scale_down_at: Option<Level>, example "0.2";
        /// In place of the two, for queues: so many replicas as the metric has of this, rounded up.
        per_replica: Option<Level> as Option<AboveZero>, commented "100";
        /// So many replicas more or fewer by one change, at most.
        step: u32 as Within<1, MOST> = 1;
        /// Changes, good or bad, in any 60 minutes; 0: never.
        max_per_hour: u32 as Within<0, 3600> = 6;
        /// So long the load must be high.
        up_after: Duration = Duration::from_mins(1);
        /// So long it must be low.
        down_after: Duration = Duration::from_mins(10);
        /// Least time between two changes; what is outside of min and max does not wait for it.
        cooldown: Duration = Duration::from_mins(5);
        /// For the replicas to be there.
        start_timeout: Duration as Positive = Duration::from_mins(1);
        /// A younger replica does not count for the average; default: that of the defaults table.
        start_grace: Duration = Duration::from_mins(1);
        /// The Compose command; default: `docker compose` where that answers, else `docker-compose`.
        command: Option<Vec<String>> as Option<Program>, commented r#"["docker", "compose"]"#;
    }
}

table! {
    /// A service of a Compose project, in the table of the scale.
    pub struct Compose like "compose = { file = \"/srv/app/docker-compose.yml\", project = \"app\", service = \"worker\" }" {
        /// The file, or a list of them, in the order in which Compose merges them; its command is run in the directory of the first.
        file: Vec<PathBuf> as Files, example r#""/srv/app/docker-compose.yml""#;
        /// The project: `docker compose ls` shows it.
        project: String as Filled, example r#""app""#;
        /// The service of it.
        service: String as Filled, example r#""celery-worker""#;
        /// As `command` beside the table.
        command: Option<Vec<String>> as Option<Program>, commented r#"["docker-compose"]"#;
    }
}

/// A path, or a list of them.
struct Files;

impl Form<Vec<PathBuf>> for Files {
    fn read(value: &Value<'_>, context: &Context) -> Option<Vec<PathBuf>> {
        if value.is_list() {
            value.must_be_filled()?;
            return value.list(|entry| entry.path(&context.base));
        }
        value.path(&context.base).map(|path| vec![path])
    }

    fn show(value: &Vec<PathBuf>) -> Option<Shown> {
        let text = |path: &PathBuf| Shown::text(path.to_string_lossy());
        match &value[..] {
            [one] => Some(text(one)),
            several => Some(Shown::List(several.iter().map(text).collect())),
        }
    }

    fn kind() -> String {
        "a path, or a list of them".to_owned()
    }
}

/// The name of a template's instances, with `{n}` for their number.
struct Template;

impl Checked for Template {
    type Of = String;
    const KIND: &'static str = "the name of a unit with {n} in it";

    fn read(value: &Value<'_>, _: &Context) -> Option<String> {
        let text = value.filled()?;
        let known = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        let parts: Vec<&str> = text.split(NUMBER).collect();
        let is_template = match parts[..] {
            [front, back] => {
                front.contains('@')
                    && !front.starts_with(['@', '-'])
                    && [front, back].iter().all(|part| part.chars().all(known))
            }
            _ => false,
        };
        if !is_template {
            value.wrong(
                &format!("{} names no instances of a template", quoted(&text)),
                "write it like \"celery@{n}.service\"",
            );
            return None;
        }
        let has_suffix = text
            .rsplit_once('.')
            .is_some_and(|(_, suffix)| suffix == "service");
        Some(if has_suffix {
            text
        } else {
            format!("{text}.service")
        })
    }
}

/// Holds the keys of a scale against one another, and fills in what follows from the metric.
fn fits(table: &Table<'_>, part: &mut Part<ScaleRule>) {
    const ONE_OF: &str = "write one of compose = { … } and units = \"celery@{n}.service\"";
    if table.at_most_one(&["compose", "units"], ONE_OF).is_none() {
        table.lacks("it does not say what is scaled", ONE_OF);
    }
    for (key, is_right, of) in [
        ("manager", table.has("units"), "units"),
        ("command", table.has("compose"), "compose"),
    ] {
        if let Some(value) = table.get(key).filter(|_| !is_right) {
            value.misplaced(
                &format!("`{key}` without `{of}`"),
                format!("it is about `{of}`; leave it out"),
            );
        }
    }
    let compose = part.compose.as_mut().and_then(Option::as_mut);
    if let Some(compose) = compose
        && let Some(command) = compose.command.take()
    {
        if let Some(value) = table.get("command") {
            value.misplaced(
                "`command` stands in the table `compose` as well",
                "leave one of them out",
            );
        }
        part.command = Some(Some(command));
    }
    if let (Some(min), Some(max)) = (part.min.or(Some(1)), part.max.or(Some(5)))
        && min > max
        && let Some(value) = table.get("max").or_else(|| table.get("min"))
    {
        value.wrong(
            &format!("`max` ({max}) is less than `min` ({min})"),
            "there are at least `min` replicas, and `max` at most",
        );
    }
    levels_fit(table, part);
}

fn levels_fit(table: &Table<'_>, part: &mut Part<ScaleRule>) {
    let is_average = match &part.metric {
        Some(metric) => metric.is_average(),
        // one that is wrong says nothing
        None if table.has("metric") => return,
        None => true,
    };
    if let Some(value) = table.get("per_replica") {
        if is_average {
            value.misplaced(
                "`per_replica` is for what a queue or a query counts, and not for an average of the replicas",
                "write scale_up_at and scale_down_at, or another metric",
            );
        }
        for key in ["scale_up_at", "scale_down_at"] {
            if let Some(value) = table.get(key) {
                value.misplaced(
                    &format!("`{key}` beside `per_replica`"),
                    "how many replicas there are to be is said by one of them; leave the other out",
                );
            }
        }
        return;
    }
    if is_average {
        let up = part.scale_up_at.flatten().or(Level::of(UP_AT));
        let down = part.scale_down_at.flatten().or(Level::of(DOWN_AT));
        // what is written wrong is noted by now
        if !table.has("scale_up_at") {
            part.scale_up_at = Some(up);
        }
        if !table.has("scale_down_at") {
            part.scale_down_at = Some(down);
        }
    } else if !(table.has("scale_up_at") && table.has("scale_down_at")) {
        table.lacks(
            "it does not say how many replicas a load takes",
            "write per_replica = 100, or both scale_up_at and scale_down_at",
        );
    }
    if let (Some(Some(up)), Some(Some(down))) = (part.scale_up_at, part.scale_down_at)
        && down >= up
    {
        let value = table.get("scale_down_at");
        if let Some(value) = value.or_else(|| table.get("scale_up_at")) {
            value.wrong(
                &format!("`scale_down_at` ({down}) is not below `scale_up_at` ({up})"),
                "a load between the two changes nothing: leave space between them",
            );
        }
    }
}

/// A `[scale.NAME]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Its name.
    pub name: String,
    /// The file that it stands in.
    pub file: Arc<Path>,
    /// The directory of that, in which commands are run.
    pub directory: Arc<Path>,
    /// What it says.
    pub rule: ScaleRule,
}

/// How many replicas a load takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Levels {
    /// One step more above the first, one fewer below the second.
    Between(Level, Level),
    /// One for each so much of it.
    Each(Level),
}

impl ScaleRule {
    /// How many replicas a load takes; absent where the table does not say, which is reported when it is read.
    pub fn levels(&self) -> Option<Levels> {
        match (self.per_replica, self.scale_up_at, self.scale_down_at) {
            (Some(each), ..) => Some(Levels::Each(each)),
            (None, Some(up), Some(down)) => Some(Levels::Between(up, down)),
            _ => None,
        }
    }

    /// Whose units they are.
    pub fn manager(&self) -> Manager {
        self.manager.unwrap_or(Manager::System)
    }

    /// The name of an instance.
    pub fn unit(&self, number: u32) -> Option<String> {
        let units = self.units.as_ref()?;
        Some(units.replace(NUMBER, &number.to_string()))
    }

    /// The number of the instance that a unit is, from 1 on.
    pub fn number_of(&self, unit: &str) -> Option<u32> {
        let (front, back) = self.units.as_ref()?.split_once(NUMBER)?;
        let digits = unit.strip_prefix(front)?.strip_suffix(back)?;
        let number = digits.parse().ok()?;
        // 01 is another instance than 1
        (number > 0 && u32::to_string(&number) == digits).then_some(number)
    }

    /// A pattern that all instances match.
    pub fn pattern(&self) -> Option<String> {
        Some(self.units.as_ref()?.replace(NUMBER, "*"))
    }

    /// What is scaled, for people.
    pub fn target(&self) -> String {
        match (&self.compose, &self.units) {
            (Some(compose), _) => {
                format!("{} in Compose project {}", compose.service, compose.project)
            }
            (None, units) => units.clone().unwrap_or_default(),
        }
    }
}

/// Reads the tables, in the order of the files. `services` are those of the config; what a query is asked of is not in the
/// tables.
pub(super) fn read(
    entries: &[Entry<'_>],
    defaults: &Part<DefaultKeys>,
    services: &[Entry<'_>],
    has_prometheus: bool,
) -> Vec<Scale> {
    let mut places = HashMap::new();
    let mut targets: HashMap<String, &str> = HashMap::new();
    let mut scales = Vec::new();
    for entry in entries {
        if entry.repeats(&mut places, "scales") {
            continue;
        }
        if !is_name(entry.name) {
            entry.value.misplaced(
                &format!("{} cannot be the name of a scale", quoted(entry.name)),
                "letters, digits, '-', '_' and '.', 64 at most",
            );
        }
        is_not_reserved(entry.name, "a scale", &entry.value);
        if let Some(service) = services.iter().find(|it| it.name == entry.name) {
            entry.value.misplaced(
                &format!(
                    "there is a service {} as well, at {}",
                    quoted(entry.name),
                    service.place()
                ),
                "commands know both by their names: give one of them another",
            );
        }
        let metric = entry.value.key("metric").filter(Value::is_table);
        if let Some(query) = metric.as_ref().and_then(|it| it.key("prometheus"))
            && !has_prometheus
        {
            query.misplaced(
                "it does not say which Prometheus is asked: there is no table [prometheus]",
                "write url = \"http://127.0.0.1:9090\" in a table [prometheus]",
            );
        }
        let context = Context {
            base: Arc::clone(&entry.directory),
            directory: Arc::clone(&entry.directory),
        };
        let Some(table) = entry.value.table(ScaleRule::LAYOUT) else {
            continue;
        };
        let mut part = ScaleRule::take(&table, &context);
        part.start_grace = part.start_grace.or(defaults.start_grace);
        let Some(rule) = ScaleRule::whole(part) else {
            continue;
        };
        let of_manager = if rule.manager() == Manager::User {
            " of the user"
        } else {
            ""
        };
        let target = format!("{}{of_manager}", rule.target());
        let first = *targets.entry(target).or_insert(entry.name);
        if first != entry.name {
            entry.value.misplaced(
                &format!("the scale {} is of the same replicas", quoted(first)),
                "two scales would pull against each other: take one of them out",
            );
        }
        scales.push(Scale {
            name: entry.name.to_owned(),
            file: Arc::clone(&entry.file),
            directory: Arc::clone(&entry.directory),
            rule,
        });
    }
    scales
}

/// The tables by their names. Each is read when the rest is known.
pub(super) struct Named;

impl Field<Vec<(String, ScaleRule)>> for Named {
    type Part = ();

    fn take(_: &Table<'_>, _: &'static Key, _: &Context) {}

    fn whole(
        (): (),
        _: Option<fn() -> Vec<(String, ScaleRule)>>,
    ) -> Option<Vec<(String, ScaleRule)>> {
        Some(Vec::new())
    }

    fn or((): (), (): &()) {}

    fn show(
        scales: &Vec<(String, ScaleRule)>,
        key: &'static Key,
        entries: &mut Vec<(String, Shown)>,
    ) {
        if !scales.is_empty() {
            let shown = scales
                .iter()
                .map(|(name, rule)| (name.clone(), rule.shown()));
            entries.push((key.name.to_owned(), Shown::Table(shown.collect())));
        }
    }

    fn inner() -> Option<Inner> {
        Some(Inner {
            layouts: &[ScaleRule::LAYOUT],
            standing: Standing::Named,
        })
    }
}
