//! The table as it is printed.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::arguments;
use super::facts::{Facts, LogSample, Open, Shape};
use super::logs::{self, Kind};
use super::parent::Parent;
use super::spawn::{self, Start};
use super::toml::{key, path, quoted};
use super::unit::{InUnit, Named, Role};
use super::{names, pattern, root};
use crate::check::log::Zone;
use crate::check::log::backtest::{propose, runs_to_find};
use crate::clock::{self, exact, rough};
use crate::config::RESERVED;
use crate::systemctl::Manager;
use crate::text::printable;

/// So many files that may be logs are named.
const PERHAPS: usize = 5;

/// What runs beside the program under the same command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Twins {
    /// In another directory.
    pub(super) elsewhere: bool,
    /// As another user.
    pub(super) of_others: bool,
    /// In the same directory and as the same user.
    pub(super) copies: Vec<i32>,
}

/// All that a table is made of.
#[derive(Clone, Debug)]
pub(super) struct Table<'a> {
    pub(super) facts: &'a Facts,
    pub(super) twins: Twins,
    pub(super) parent: Option<Parent>,
    pub(super) asked: &'a str,
    /// Whether the watchdog may start programs as others.
    pub(super) is_root: bool,
    pub(super) now: SystemTime,
}

impl Table<'_> {
    /// The name of its service.
    pub(super) fn service(&self) -> String {
        service_name(self.facts, self.asked)
    }

    /// The text.
    pub(super) fn text(&self) -> String {
        let facts = self.facts;
        let mut out = String::new();
        let _ = writeln!(
            out,
            "# PID {}, as it runs now; `watchdog validate` and `watchdog check --dry-run` show whether this is what you mean",
            facts.pid
        );
        let _ = writeln!(out, "[service.{}]", key(&self.service()));
        let _ = writeln!(out, "working_dir = {}", path(&facts.working_dir));
        if facts.working_dir_is_gone {
            out.push_str("# this directory is gone: name one that there is\n");
        }
        match &facts.unit {
            Some(InUnit {
                place,
                role: Role::Keeps,
            }) => {
                let _ = writeln!(out, "systemd = {}", unit(&place.unit, place.manager));
            }
            Some(InUnit {
                place,
                role: Role::Blind,
            }) => {
                let _ = writeln!(out, "systemd = {}", unit(&place.unit, place.manager));
                out.push_str(
                    "# the unit has no main process: systemd does not see when this one ends\n",
                );
                self.add_process(&mut out, &Start::default(), true);
            }
            in_unit => {
                if let Some(InUnit { place, .. }) = in_unit {
                    let _ = writeln!(
                        out,
                        "# {} did not start it, and may take it along when it ends: it only has its processes in that unit",
                        printable(place.unit.as_bytes(), 200)
                    );
                }
                self.add_program(&mut out);
            }
        }
        add_logs(&mut out, &self.service(), facts, self.now);
        out
    }

    fn add_program(&self, out: &mut String) {
        let why_root = root::why_root(self.facts);
        let start = spawn::plan(self.facts, why_root.as_deref(), self.is_root);
        let is_started = start.why_not.is_empty() && self.parent.is_none();
        self.add_process(out, &start, !is_started);
        match &self.parent {
            Some(parent) => add_parent(out, parent),
            None => self.add_spawn(out, &start),
        }
    }

    /// How it is found. Where only its directory tells it from another program, `spawn` does that.
    fn add_process(&self, out: &mut String, start: &Start, is_only_watched: bool) {
        let facts = self.facts;
        let shape = facts.shape();
        let depends = self.twins.elsewhere || names::depend_on_directory(&facts.arguments);
        // by `spawn` it is known where that is the very command
        let is_same = shape == Shape::Arguments && start.first.is_none();
        let by_directory = !is_only_watched && depends && is_same;
        let mut keys = Vec::new();
        if let Some(file) = self.used_pid_file() {
            keys.push(format!("pid_file = {}", path(file)));
        }
        if !by_directory {
            let pattern = match &shape {
                Shape::Title(title) => pattern::of_title(title),
                _ => pattern::of_arguments(&facts.arguments, start.first.as_deref()),
            };
            keys.push(format!("command_line = {}", quoted(&pattern)));
        }
        let known = !keys.is_empty();
        // one that can become root again does so now and then, and is another user's for that time
        let is_steady = !facts.privileges.can_return;
        if known && is_steady && (!facts.is_own_user || self.twins.of_others) {
            keys.push(format!("user = {}", quoted(&facts.user)));
        }
        if by_directory {
            out.push_str(
                "# the same command in another directory is another program: this one is known by the command, the directory \
                 and the user of `spawn`\n",
            );
        } else if self.twins.elsewhere {
            out.push_str(
                "# something else that runs, in another directory, has the same command line: without a PID file or a `spawn` \
                 they cannot be told apart\n",
            );
        }
        if !self.twins.copies.is_empty() {
            let pids: Vec<String> = self
                .twins
                .copies
                .iter()
                .take(10)
                .map(i32::to_string)
                .collect();
            let _ = writeln!(
                out,
                "# it runs more than once: PID {} as well",
                pids.join(", ")
            );
        }
        self.add_pid_file_notes(out);
        if known {
            let _ = writeln!(out, "process = {{ {} }}", keys.join(", "));
        }
    }

    /// The PID file, where the next start writes it again.
    fn used_pid_file(&self) -> Option<&Path> {
        let file = self.facts.pid_file.as_ref()?;
        let is_started_by_others = self.parent.is_some()
            || matches!(
                self.facts.unit,
                Some(InUnit {
                    role: Role::Keeps | Role::Blind,
                    ..
                })
            );
        (file.is_mentioned || file.can_be_made || is_started_by_others)
            .then_some(file.path.as_path())
    }

    fn add_pid_file_notes(&self, out: &mut String) {
        let facts = self.facts;
        if let Some(file) = &facts.pid_file
            && self.used_pid_file().is_none()
        {
            let _ = writeln!(
                out,
                "# {} has its PID, but was written by what started it, and user {} cannot write it again: it is not used",
                shown(&file.path),
                facts.user
            );
        }
        if !facts.other_pid_files.is_empty() {
            let others: Vec<String> = facts
                .other_pid_files
                .iter()
                .take(5)
                .map(|path| shown(path))
                .collect();
            let _ = writeln!(
                out,
                "# not used, because of the name: {}, where the same PID stands as well",
                others.join(", ")
            );
        }
    }

    fn add_spawn(&self, out: &mut String, start: &Start) {
        for note in &start.notes {
            let _ = writeln!(out, "# {note}");
        }
        let mut keys = start.keys.clone();
        let must_be_written = self
            .facts
            .pid_file
            .as_ref()
            .is_some_and(|file| !file.is_mentioned && file.can_be_made);
        if must_be_written {
            keys.push("write_pid_file = true".to_owned());
        }
        let spawn = format!("spawn = {{ {} }}", keys.join(", "));
        if start.why_not.is_empty() {
            let _ = writeln!(out, "{spawn}");
            return;
        }
        for why in &start.why_not {
            let _ = writeln!(out, "# {why}");
        }
        let _ = writeln!(
            out,
            "# until `spawn` is there, it is only watched:\n#{spawn}"
        );
    }
}

/// The table of a unit of which no process is known.
pub(super) fn of_unit(named: &Named, service: &str) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "# {}, {} now; `watchdog validate` and `watchdog check --dry-run` show whether this is what you mean",
        printable(named.place.unit.as_bytes(), 200),
        printable(named.state.as_bytes(), 100)
    );
    let _ = writeln!(out, "[service.{}]", key(service));
    let _ = writeln!(
        out,
        "systemd = {}",
        unit(&named.place.unit, named.place.manager)
    );
    if named.remains {
        out.push_str(
            "# it stays active when its processes have ended, which systemd does not see: add a `process` that it has\n",
        );
    }
    out
}

fn unit(unit: &str, manager: Manager) -> String {
    let manager = match manager {
        Manager::User => ", manager = \"user\"",
        Manager::System => "",
    };
    format!("{{ unit = {}{manager} }}", quoted(unit))
}

fn add_parent(out: &mut String, parent: &Parent) {
    let name = printable(parent.name.as_bytes(), 100);
    let pid = parent.pid;
    match &parent.restart {
        None => {
            let _ = writeln!(
                out,
                "# its parent PID {pid} ({name}) starts it itself: adopt that one (`watchdog adopt {pid}`), for a `spawn` here \
                 would start a second copy beside it"
            );
        }
        Some(command) => {
            // one that cron's PATH does not have would only be a trap
            let mark = if spawn::is_in_path(&command[0]) {
                ""
            } else {
                "#"
            };
            let command: Vec<String> = command.iter().map(|word| quoted(word)).collect();
            let _ = writeln!(
                out,
                "# its parent PID {pid} ({name}) starts it itself, and a `spawn` here would start a second copy beside it: adopt \
                 that one too, and have it restart this one:\n{mark}restart = {{ command = [{}], stop_first = false }}",
                command.join(", ")
            );
        }
    }
}

/// A name that a service can have: the one that it was asked for by, or that of what is run.
pub(super) fn service_name(facts: &Facts, asked: &str) -> String {
    let meant = if asked.parse::<i32>().is_err() {
        asked.to_owned()
    } else if let Shape::Title(title) = facts.shape() {
        // the program's own name, which it may have given to its process as well
        let first = title
            .split([' ', ':'])
            .next()
            .unwrap_or_default()
            .to_owned();
        if arguments::is_interpreter(&facts.name) {
            first
        } else {
            facts.name.clone()
        }
    } else {
        names::name(&facts.arguments, &facts.working_dir).unwrap_or_else(|| facts.name.clone())
    };
    as_name(&meant)
}

/// A text with what no service's name can hold left out.
pub(super) fn as_name(text: &str) -> String {
    let right: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '-'
            }
        })
        .take(64)
        .collect();
    if right == RESERVED {
        format!("{right}-1")
    } else if right.chars().any(|c| c.is_ascii_alphanumeric()) {
        right
    } else {
        "adopted".to_owned()
    }
}

fn add_logs(out: &mut String, name: &str, facts: &Facts, now: SystemTime) {
    let mut told = BTreeSet::new();
    let mut perhaps = Vec::new();
    for open in &facts.open {
        match logs::kind(open, facts.pid) {
            Kind::Log(path) => {
                if told.insert(path.clone()) {
                    add_log(out, name, &path, open, facts, now);
                }
            }
            Kind::Perhaps => perhaps.push(&open.path),
            Kind::Not => {}
        }
    }
    perhaps.retain(|path| !told.contains(*path));
    perhaps.dedup();
    if !perhaps.is_empty() {
        out.push_str("\n# it also writes to files that may be no logs; one that is a log wants a table like this:\n");
        for path in perhaps.iter().take(PERHAPS) {
            let _ = writeln!(
                out,
                "#[[service.{}.log]]\n#path = {}",
                key(name),
                super::toml::path(path)
            );
        }
        if perhaps.len() > PERHAPS {
            let _ = writeln!(out, "# and {} more", perhaps.len() - PERHAPS);
        }
    }
}

fn add_log(out: &mut String, name: &str, path: &Path, open: &Open, facts: &Facts, now: SystemTime) {
    let _ = writeln!(out, "\n[[service.{}.log]]", key(name));
    let _ = writeln!(out, "path = {}", super::toml::path(path));
    let _ = writeln!(
        out,
        "severity = \"warning\"   # restarts nothing; take this line out when the log has a rule that you trust"
    );
    match facts.samples.get(path) {
        Some(Ok(sample)) => add_times(out, sample),
        other => {
            let age = open
                .written
                .map(|written| now.duration_since(written).unwrap_or_default());
            let age = age.map_or_else(
                || "at an unknown time".to_owned(),
                |age| format!("{} ago", rough(age)),
            );
            let why = match other {
                Some(Err(why)) => format!(": {}", printable(why.as_bytes(), 300)),
                _ => String::new(),
            };
            let _ = writeln!(out, "# last written {age}; no max_age is proposed{why}");
        }
    }
}

/// So many gaps, over so long a time, say something of what is usual.
const GAPS: u64 = 20;
const SHORT: Duration = Duration::from_mins(10);

/// A limit is trusted that holds a day and a night.
const DAY: Duration = Duration::from_hours(24);

/// The last stamp is about as old as the last write.
const SAME: Duration = Duration::from_mins(10);

/// How the lines of a log are stamped, and for how long it may be silent.
fn add_times(out: &mut String, sample: &LogSample) {
    let stamp = &sample.stamp;
    let half = if sample.stamped * 2 < sample.lines || sample.apart > SAME {
        "#"
    } else {
        ""
    };
    let why = if sample.apart > SAME {
        format!(
            "; but the last stamp is {} away from the last write, so it may be of another zone (timestamp_zone)",
            rough(sample.apart)
        )
    } else {
        String::new()
    };
    let _ = writeln!(
        out,
        "{half}timestamp = {}   # recognised: {} of {} lines are stamped so{why}",
        quoted(&stamp.format),
        sample.stamped,
        sample.lines
    );
    if !stamp.after.is_empty() {
        let _ = writeln!(out, "{half}timestamp_after = {}", quoted(&stamp.after));
    }
    if stamp.zone == Zone::Utc {
        let _ = writeln!(out, "{half}timestamp_zone = \"utc\"");
    }
    let seen = format!("{} stamped lines in {}", sample.stamped, rough(sample.span));
    let Some((longest, from)) = sample
        .longest
        .filter(|_| sample.stamped > GAPS && sample.span >= SHORT)
    else {
        let _ = writeln!(
            out,
            "# no max_age is proposed: {seen} say too little; `watchdog backtest` proposes one when there are more"
        );
        return;
    };
    let limit = propose(longest);
    let found = format!(
        "{seen}, silent for {} at most (after {}); a freeze is found {} runs after the last line at most",
        rough(longest),
        clock::stamp(from),
        runs_to_find(limit)
    );
    if sample.span >= DAY {
        let _ = writeln!(out, "max_age = {}   # {found}", quoted(&exact(limit)));
    } else {
        let _ = writeln!(
            out,
            "# {found}. That is less than a day: let `watchdog backtest` look again before you trust it\n\
             #max_age = {}",
            quoted(&exact(limit))
        );
    }
}

fn shown(path: &Path) -> String {
    printable(path.to_string_lossy().as_bytes(), 1000)
}
