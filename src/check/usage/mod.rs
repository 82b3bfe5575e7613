//! What a service uses: memory, processor time, open files and threads.
//!
//! Of a unit, its control group counts. Of any other service, its main process and all its descendants do, which one pass
//! over `/proc` finds, for all services together. Memory is what is resident; what processes share counts once where a
//! limit depends on it. Processor time is an average between two runs, by the boot clock, which nobody sets.
//!
//! These are looked at once the processes are known, and a service that asks for none of it costs nothing.

use std::sync::Arc;

use serde_json::Number;

use super::lasting::UNREADABLE;
use super::trap::Trap;
use super::{Can, CheckKind, Checked, Code, Grace, JobOf, Kind, LastLook, Looking, ServiceContext};
use crate::clock::{age, exact, rough};
use crate::process_table::ticks_per_second;

mod average;
pub(crate) mod cgroup;
mod judge;
mod look;
mod rule;
mod traps;

pub use self::average::{Baseline, Processes, Total};
pub use self::judge::State;
pub use self::rule::{Cpu, Memory, OpenFiles, Rule, Tables, Threads};

/// Its processes use too much memory.
pub const MEMORY: &str = "memory_high";
/// They use too much processor time.
pub const CPU: &str = "cpu_high";
/// Its main process has too many files open.
pub const OPEN_FILES: &str = "open_files_high";
/// Its processes have too many threads.
pub const THREADS: &str = "threads_high";

/// The code of what a rule finds.
fn code(rule: &Rule) -> &'static str {
    match rule {
        Rule::Memory(_) => MEMORY,
        Rule::Cpu(_) => CPU,
        Rule::OpenFiles(_) => OPEN_FILES,
        Rule::Threads(_) => THREADS,
    }
}

/// The check of what a service uses.
#[derive(Debug)]
pub struct Usage;

impl CheckKind for Usage {
    type Rule = Rule;
    type State = State;

    const KIND: Kind = Kind::Usage;
    const CODES: &'static [Code] = &[
        Code::new(MEMORY, Grace::None, Can::Settable),
        Code::new(CPU, Grace::None, Can::Settable),
        Code::new(OPEN_FILES, Grace::None, Can::Settable),
        Code::new(THREADS, Grace::None, Can::Settable),
        Code::new(UNREADABLE, Grace::Young, Can::Unknown),
    ];
    const IS_PROBE: bool = false;
    const SHOWS_LIFE: bool = false;

    fn asks_what_runs(_: &Rule) -> bool {
        true
    }

    fn target(rule: &Rule) -> String {
        rule.key().to_owned()
    }

    fn look(jobs: Vec<JobOf<Self>>, looking: &Looking<'_>) -> Vec<Checked<State>> {
        let asked: Vec<_> = (jobs.iter())
            .map(|job| (&job.rule, job.circumstances.runs.as_ref()))
            .collect();
        let looks = look::look(&asked, looking);
        let ticks = ticks_per_second();
        let checked = jobs.iter().zip(&looks);
        checked
            .map(|(job, look)| {
                judge::judge(&job.rule, look, job.state.as_deref(), looking.now, ticks)
            })
            .collect()
    }

    fn when_stopped(_rule: &Rule, _state: Option<&State>) -> Option<State> {
        Some(State::default())
    }

    fn catch_up(state: &mut State, later: &State) {
        // a level that was reached, and of which process, must not be forgotten; the rest is read again
        state.figure = later.figure;
        state.whole = later.whole;
        state.baseline.clone_from(&later.baseline);
    }

    fn figures(rule: &Rule, state: &State) -> Option<(&'static str, Number)> {
        let figure = state.figure?;
        Some(match rule {
            Rule::Memory(_) => ("memory_bytes", figure.into()),
            Rule::Cpu(_) => ("cpu_percent", tenths_of_percent(figure)?),
            Rule::OpenFiles(_) => ("open_files", figure.into()),
            Rule::Threads(_) => ("threads", figure.into()),
        })
    }

    fn traps(rules: &[(&Arc<Rule>, &ServiceContext<'_>)], looking: &Looking<'_>) -> Vec<Vec<Trap>> {
        traps::traps(rules, looking)
    }

    fn explain(rule: &Rule, state: Option<&State>, last: LastLook<'_>) -> String {
        let nothing = State::default();
        let state = state.unwrap_or(&nothing);
        let levels = rule.levels(0);
        let mut limits = Vec::new();
        for (name, level) in [("warning", &levels.warning), ("critical", &levels.critical)] {
            limits.extend(
                level
                    .as_ref()
                    .map(|level| format!("{name} from {}", level.written)),
            );
        }
        let mut lines = vec![format!("{}: {}", rule.key(), limits.join(", "))];
        match (state.figure, rule) {
            (Some(figure), _) => {
                let share = judge::as_share(rule, state)
                    .map_or_else(String::new, |share| format!(", {share} of what it may use"));
                lines.push(format!("it had {}{share}", judge::shown(rule, figure)));
            }
            (None, Rule::Cpu(_)) if state.baseline.is_some() => {
                lines.push("two runs have to see it before there is an average".to_owned());
            }
            (None, _) => {}
        }
        for (name, since) in [
            ("warning", state.warning_since),
            ("critical", state.critical_since),
        ] {
            if let Some((since, time)) = since.as_ref().zip(last.time) {
                let lasted = rough(age(time, last.at(since)));
                let counts = match rule.lasting() {
                    limit if limit.is_zero() => String::new(),
                    limit => format!(", and counts once that is {}", exact(limit)),
                };
                lines.push(format!("{name} for {lasted}{counts}"));
            }
        }
        lines.join("; ")
    }
}

/// Thousandths of a percent as a number with one decimal.
fn tenths_of_percent(figure: u64) -> Option<Number> {
    // a figure has far fewer digits than the fraction can hold
    let tenths = u32::try_from(figure / 100).unwrap_or(u32::MAX);
    Number::from_f64(f64::from(tenths) / 10.0)
}
