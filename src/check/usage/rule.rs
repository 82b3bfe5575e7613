//! What the use of memory, processors, files and threads is held against.

use std::time::Duration;

use crate::amount::{Amount, Count, Share};
use crate::table::{AtLeast, Load, Part, Table, table};

table! {
    /// The memory of its processes, in the table of the service: `memory = { warning = "1536 MB" }`.
    pub struct Memory like "memory = { warning = \"1536 MB\", critical = \"1740 MB\" }", check memory_fits {
        /// From so much on it is a warning: resident, a size, or a share of its cgroup's limit, else of the machine's memory.
        warning: Option<Amount>, example r#""1536 MB""#;
        /// From so much on it is critical.
        critical: Option<Amount>, example r#""1740 MB""#;
        /// Either must have held in every run for so long.
        for_("for"): Duration = Duration::ZERO, example r#""5m""#;
    }
}

table! {
    /// The processor time of its processes; the average since the last run.
    pub struct Cpu like "cpu = { warning = \"90%\", for = \"10m\" }", check cpu_fits {
        /// From so much on it is a warning: 100% is one processor.
        warning: Option<Share> as Option<Load>, example r#""90%""#;
        /// From so much on it is critical.
        critical: Option<Share> as Option<Load>, commented r#""180%""#;
        /// Either must have held in every run for so long.
        for_("for"): Duration = Duration::ZERO, example r#""10m""#;
    }
}

table! {
    /// The files that its main process has open.
    pub struct OpenFiles like "open_files = { warning = \"80%\" }", check open_files_fit {
        /// From so many on it is a warning: a number, or a share of the process's own limit.
        warning: Option<Count>, example r#""80%""#;
        /// From so many on it is critical.
        critical: Option<Count>, example r#""95%""#;
        /// Either must have held in every run for so long.
        for_("for"): Duration = Duration::ZERO;
    }
}

table! {
    /// The threads of its processes.
    pub struct Threads like "threads = { warning = 500 }", check threads_fit {
        /// From so many on it is a warning.
        warning: Option<u64> as Option<AtLeast<1>>, example "500";
        /// From so many on it is critical.
        critical: Option<u64> as Option<AtLeast<1>>, commented "2000";
        /// Either must have held in every run for so long.
        for_("for"): Duration = Duration::ZERO;
    }
}

/// Notes a table without a level, and levels in the wrong order. `is_less` says whether one is surely less than another.
fn levels_fit<T: Copy>(
    table: &Table<'_>,
    warning: Option<T>,
    critical: Option<T>,
    is_less: impl FnOnce(T, T) -> bool,
) {
    if !table.has_any(&["warning", "critical"]) {
        table.lacks(
            &format!("{} has no limit", table.name()),
            "give it `warning`, `critical` or both",
        );
    }
    if let (Some(warning), Some(critical)) = (warning, critical)
        && is_less(critical, warning)
        && let Some(value) = table.get("critical")
    {
        value.wrong(
            "`critical` is less than `warning`",
            "the critical level is the higher one",
        );
    }
}

fn memory_fits(table: &Table<'_>, part: &mut Part<Memory>) {
    levels_fit(
        table,
        part.warning.flatten(),
        part.critical.flatten(),
        |one, other| {
            match (one, other) {
                (Amount::Size(one), Amount::Size(other)) => one.bytes() < other.bytes(),
                (Amount::Share(one), Amount::Share(other)) => {
                    one.thousandths() < other.thousandths()
                }
                // which of them is more is known when what the share is of is known
                _ => false,
            }
        },
    );
}

fn cpu_fits(table: &Table<'_>, part: &mut Part<Cpu>) {
    levels_fit(
        table,
        part.warning.flatten(),
        part.critical.flatten(),
        |one, other| one.thousandths() < other.thousandths(),
    );
}

fn open_files_fit(table: &Table<'_>, part: &mut Part<OpenFiles>) {
    levels_fit(
        table,
        part.warning.flatten(),
        part.critical.flatten(),
        |one, other| match (one, other) {
            (Count::Number(one), Count::Number(other)) => one < other,
            (Count::Share(one), Count::Share(other)) => one.thousandths() < other.thousandths(),
            _ => false,
        },
    );
}

fn threads_fit(table: &Table<'_>, part: &mut Part<Threads>) {
    levels_fit(
        table,
        part.warning.flatten(),
        part.critical.flatten(),
        |one, other| one < other,
    );
}

/// What is held against limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Memory, in bytes.
    Memory(Memory),
    /// Processor time, in thousandths of a percent of one processor.
    Cpu(Cpu),
    /// Open files.
    OpenFiles(OpenFiles),
    /// Threads.
    Threads(Threads),
}

/// One of the two limits of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Level {
    /// From here on it holds.
    pub(super) from: u64,
    /// As it was written.
    pub(super) written: String,
    /// Whether it is a share of something.
    pub(super) is_share: bool,
}

/// The limits of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Levels {
    pub(super) warning: Option<Level>,
    pub(super) critical: Option<Level>,
}

impl Levels {
    /// The lower one of them.
    pub(super) fn lowest(&self) -> Option<u64> {
        let levels = self.warning.iter().chain(&self.critical);
        levels.map(|level| level.from).min()
    }
}

impl Rule {
    /// The key of its table.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::Cpu(_) => "cpu",
            Self::OpenFiles(_) => "open_files",
            Self::Threads(_) => "threads",
        }
    }

    /// How long a level must have held.
    pub fn lasting(&self) -> Duration {
        match self {
            Self::Memory(rule) => rule.for_,
            Self::Cpu(rule) => rule.for_,
            Self::OpenFiles(rule) => rule.for_,
            Self::Threads(rule) => rule.for_,
        }
    }

    /// Whether a level is a share of what has to be known.
    pub(super) fn has_share(&self) -> bool {
        let levels = self.levels(0);
        let mut both = levels.warning.iter().chain(&levels.critical);
        both.any(|level| level.is_share)
    }

    /// Whether it has a critical level.
    pub(super) fn is_critical(&self) -> bool {
        self.levels(0).critical.is_some()
    }

    /// Its limits, where shares are of `whole`.
    pub(super) fn levels(&self, whole: u64) -> Levels {
        let of = |from: u64, written: String, is_share: bool| Level {
            from,
            written,
            is_share,
        };
        let amount = |amount: Amount| {
            let is_share = matches!(amount, Amount::Share(_));
            of(amount.of(whole), amount.to_string(), is_share)
        };
        let count = |count: Count| {
            let is_share = matches!(count, Count::Share(_));
            of(count.of(whole), count.to_string(), is_share)
        };
        let load = |share: Share| of(share.thousandths(), share.to_string(), false);
        let number = |number: u64| of(number, number.to_string(), false);
        match self {
            Self::Memory(rule) => Levels {
                warning: rule.warning.map(amount),
                critical: rule.critical.map(amount),
            },
            Self::Cpu(rule) => Levels {
                warning: rule.warning.map(load),
                critical: rule.critical.map(load),
            },
            Self::OpenFiles(rule) => Levels {
                warning: rule.warning.map(count),
                critical: rule.critical.map(count),
            },
            Self::Threads(rule) => Levels {
                warning: rule.warning.map(number),
                critical: rule.critical.map(number),
            },
        }
    }
}

/// The tables of a service that are about what it uses.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// `memory`.
    pub memory: Option<Memory>,
    /// `cpu`.
    pub cpu: Option<Cpu>,
    /// `open_files`.
    pub open_files: Option<OpenFiles>,
    /// `threads`.
    pub threads: Option<Threads>,
}

impl Tables {
    /// The rules that they are.
    pub fn into_rules(self) -> impl Iterator<Item = Rule> {
        let memory = self.memory.map(Rule::Memory).into_iter();
        memory
            .chain(self.cpu.map(Rule::Cpu))
            .chain(self.open_files.map(Rule::OpenFiles))
            .chain(self.threads.map(Rule::Threads))
    }

    /// The tables that rules were written as.
    pub fn of<'a>(rules: impl Iterator<Item = &'a Rule>) -> Self {
        let mut tables = Self::default();
        for rule in rules.cloned() {
            match rule {
                Rule::Memory(rule) => tables.memory = Some(rule),
                Rule::Cpu(rule) => tables.cpu = Some(rule),
                Rule::OpenFiles(rule) => tables.open_files = Some(rule),
                Rule::Threads(rule) => tables.threads = Some(rule),
            }
        }
        tables
    }
}
