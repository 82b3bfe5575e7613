//! What the figures of a service mean: findings, notes, and since when a level was reached. Nothing here looks at anything.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::average::{Average, Baseline};
use super::look::{Look, Measured, Owner, Seen, Whole};
use super::rule::Level;
use super::{Rule, code};
use crate::amount::{rough_bytes, rough_percent};
use crate::check::lasting::{self, Failing, Outcome, UNREADABLE};
use crate::check::process::Identity;
use crate::check::{Checked, Finding, Kind, Severity};
use crate::clock::{Moment, Reading, rough};

/// What is remembered from run to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The main process that this is about; PID 0 where there is none, but a unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub main: Option<Identity>,
    /// The first of the runs in which the warning level was reached without a break.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning_since: Option<Moment>,
    /// The same of the critical level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical_since: Option<Moment>,
    /// The figure of the last look, where it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figure: Option<u64>,
    /// What the shares were of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whole: Option<u64>,
    /// The processor time that was used by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
}

/// Judges what was seen. `ticks` are those that a second has in start times of processes.
pub(super) fn judge(
    rule: &Rule,
    look: &Look,
    former: Option<&State>,
    now: &Reading,
    ticks: u64,
) -> Checked<State> {
    let nothing = State::default();
    let (main, owner, seen) = match look {
        // what runs next has reached nothing yet
        Look::NotRunning => {
            return Checked {
                state: Some(nothing),
                ..Checked::default()
            };
        }
        // that it could not be seen is said by what it is made of
        Look::Unknown => {
            let state = former.cloned().map(without_figure);
            return Checked {
                state,
                ..Checked::default()
            };
        }
        Look::At { main, owner, seen } => (main, *owner, seen),
    };
    let of_it = |state: &&State| state.main.as_ref() == Some(main);
    let former = former.filter(of_it).unwrap_or(&nothing);
    let state = State {
        main: Some(main.clone()),
        ..former.clone()
    };
    match seen {
        Seen::Unreadable(why) => Checked {
            findings: vec![Finding::new(
                Kind::Usage,
                UNREADABLE,
                Severity::Unknown,
                format!("{} of its processes: {why}", in_words(rule)),
            )],
            state: Some(without_figure(state)),
            ..Checked::default()
        },
        Seen::Measured(measured) => levels(rule, measured, owner, None, state, now),
        Seen::Time {
            baseline,
            processes,
        } => match baseline.since(former.baseline.as_ref(), ticks) {
            Average::TooSoon => Checked {
                state: Some(without_figure(state)),
                ..Checked::default()
            },
            Average::First => Checked {
                state: Some(State {
                    baseline: Some(baseline.clone().kept()),
                    ..without_figure(state)
                }),
                ..Checked::default()
            },
            Average::Of { load, over_ms } => {
                let measured = Measured {
                    figure: load,
                    whole: None,
                    processes: *processes,
                };
                let state = State {
                    baseline: Some(baseline.clone().kept()),
                    ..state
                };
                levels(rule, &measured, owner, Some(over_ms), state, now)
            }
        },
    }
}

/// A look that saw no figure neither confirms nor ends what a level has lasted.
fn without_figure(state: State) -> State {
    State {
        figure: None,
        whole: None,
        ..state
    }
}

/// Holds a figure against both levels.
fn levels(
    rule: &Rule,
    measured: &Measured,
    owner: Owner,
    over_ms: Option<u64>,
    former: State,
    now: &Reading,
) -> Checked<State> {
    let whole = measured.whole.as_ref().map(|whole| whole.amount);
    let levels = rule.levels(whole.unwrap_or_default());
    let one = |level: Option<&Level>, severity, since: Option<Moment>| {
        let reached = level.filter(|level| measured.figure >= level.from);
        let outcome = match reached {
            None => Outcome::Passed(Vec::new()),
            Some(level) => Outcome::Failed(Finding::new(
                Kind::Usage,
                code(rule),
                severity,
                sentence(rule, measured, owner, over_ms, level),
            )),
        };
        let failing = Failing {
            failing_since: since,
            ..Failing::default()
        };
        lasting::judge(outcome, rule.lasting(), &failing, now)
    };
    let critical = one(
        levels.critical.as_ref(),
        Severity::Critical,
        former.critical_since,
    );
    let warning = one(
        levels.warning.as_ref(),
        Severity::Warning,
        former.warning_since,
    );
    let since = |checked: &Checked<Failing>| checked.state.as_ref()?.failing_since;
    let state = State {
        warning_since: since(&warning),
        critical_since: since(&critical),
        figure: Some(measured.figure),
        whole,
        ..former
    };
    // of two levels that are reached, the higher one says it; and where that does not count yet, the other may
    let (findings, notes) = match (critical.findings, warning.findings) {
        (found, _) if !found.is_empty() => (found, Vec::new()),
        (_, found) if critical.notes.is_empty() => (found, warning.notes),
        (_, found) => (found, critical.notes),
    };
    Checked {
        findings,
        notes,
        state: Some(state),
        ..Checked::default()
    }
}

/// What a rule is about.
fn in_words(rule: &Rule) -> &'static str {
    match rule {
        Rule::Memory(_) => "memory",
        Rule::Cpu(_) => "processor time",
        Rule::OpenFiles(_) => "open files",
        Rule::Threads(_) => "threads",
    }
}

/// The figure of a rule.
pub(super) fn shown(rule: &Rule, figure: u64) -> String {
    match rule {
        Rule::Memory(_) => format!("{} of memory", rough_bytes(figure)),
        Rule::Cpu(_) => format!("{}.{}% of a processor", figure / 1000, figure % 1000 / 100),
        Rule::OpenFiles(_) => format!("{figure} open files"),
        Rule::Threads(_) if figure == 1 => "1 thread".to_owned(),
        Rule::Threads(_) => format!("{figure} threads"),
    }
}

fn sentence(
    rule: &Rule,
    measured: &Measured,
    owner: Owner,
    over_ms: Option<u64>,
    level: &Level,
) -> String {
    let figure = shown(rule, measured.figure);
    let (who, one) = match (rule, measured.processes) {
        (Rule::OpenFiles(_), _) => ("its main process".to_owned(), true),
        (_, Some(1)) => ("its process".to_owned(), true),
        (_, Some(count)) => (format!("its {count} processes"), false),
        (_, None) if owner == Owner::Container => ("its container".to_owned(), true),
        (_, None) => ("its unit".to_owned(), true),
    };
    let does = match rule {
        Rule::Memory(_) if one => "uses",
        Rule::Memory(_) => "use",
        Rule::Cpu(_) => "used",
        Rule::OpenFiles(_) | Rule::Threads(_) if one => "has",
        Rule::OpenFiles(_) | Rule::Threads(_) => "have",
    };
    let over = over_ms.map_or_else(String::new, |ms| {
        format!(" over the last {}", rough(Duration::from_millis(ms)))
    });
    let limit = match &measured.whole {
        Some(whole) if level.is_share => {
            format!("{} of {}", level.written, of_what(rule, whole, owner))
        }
        _ => level.written.clone(),
    };
    format!("{who} {does} {figure}{over} (limit: {limit})")
}

/// What a share is of, with how much of it that is.
fn of_what(rule: &Rule, whole: &Whole, owner: Owner) -> String {
    match rule {
        Rule::Memory(_) if whole.is_machine => {
            format!("the machine's {}", rough_bytes(whole.amount))
        }
        Rule::Memory(_) if owner == Owner::Container => {
            format!("its container's limit of {}", rough_bytes(whole.amount))
        }
        Rule::Memory(_) => format!("its cgroup's limit of {}", rough_bytes(whole.amount)),
        Rule::Cpu(_) | Rule::Threads(_) => String::new(),
        Rule::OpenFiles(_) => format!("its limit of {}", whole.amount),
    }
}

/// How much of a share a figure is, for `why`.
pub(super) fn as_share(rule: &Rule, state: &State) -> Option<String> {
    let (figure, whole) = (state.figure?, state.whole?);
    rule.has_share().then(|| rough_percent(figure, whole))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::average::{Processes, Total};
    use super::super::rule::{Cpu, Memory, OpenFiles, Threads};
    use super::*;
    use crate::amount::{Amount, Count, Share};
    use crate::fixtures::at;

    fn memory(warning: Option<&str>, critical: Option<&str>, lasting: u64) -> Rule {
        let amount = |text: &str| Amount::parse(text).unwrap();
        Rule::Memory(Memory {
            warning: warning.map(amount),
            critical: critical.map(amount),
            for_: Duration::from_secs(lasting),
        })
    }

    fn main(pid: i32) -> Identity {
        Identity {
            pid,
            start: 7,
            boot_id: "a".into(),
        }
    }

    fn now(second: i64) -> Reading {
        Reading {
            wall: at(second),
            boot_ms: u64::try_from(100_000 + second * 1000).unwrap(),
            awake_ms: 0,
            boot_id: "a".into(),
        }
    }

    fn seen(pid: i32, seen: Seen) -> Look {
        Look::At {
            main: main(pid),
            owner: Owner::Unit,
            seen,
        }
    }

    fn measured(figure: u64, whole: Option<(u64, bool)>, processes: Option<usize>) -> Look {
        let whole = whole.map(|(amount, is_machine)| Whole { amount, is_machine });
        let measured = Measured {
            figure,
            whole,
            processes,
        };
        seen(7, Seen::Measured(measured))
    }

    fn judged(rule: &Rule, look: &Look, former: &State, second: i64) -> Checked<State> {
        judge(rule, look, Some(former), &now(second), 100)
    }

    #[test]
    fn what_the_group_of_a_container_uses_is_said_to_be_its() {
        let mb = 1_000_000;
        let rule = memory(None, Some("90%"), 0);
        let measured = Measured {
            figure: 60 * mb,
            whole: Some(Whole {
                amount: 64 * mb,
                is_machine: false,
            }),
            processes: None,
        };
        let look = Look::At {
            main: main(7),
            owner: Owner::Container,
            seen: Seen::Measured(measured),
        };
        let found = judged(&rule, &look, &State::default(), 0).findings;
        assert_eq!(
            found[0].message,
            "its container uses 60.0 MB of memory (limit: 90% of its container's limit of 64.0 MB)"
        );
    }

    #[test]
    fn each_figure_has_its_code_and_its_sentence() {
        let mb = |n: u64| n * 1_000_000;
        let both = memory(Some("1536 MB"), Some("1740 MB"), 0);
        let share = memory(None, Some("90%"), 0);
        let files = Rule::OpenFiles(OpenFiles {
            warning: Some(Count::Share(Share::percent(80))),
            critical: Some(Count::Number(1000)),
            for_: Duration::ZERO,
        });
        let threads = Rule::Threads(Threads {
            warning: Some(500),
            critical: None,
            for_: Duration::ZERO,
        });
        for (rule, look, expected) in [
            (&both, measured(mb(1535), None, Some(1)), None),
            (
                &both,
                measured(mb(1536), None, Some(1)),
                Some((
                    "memory_high",
                    false,
                    "its process uses 1.53 GB of memory (limit: 1536 MB)",
                )),
            ),
            (
                &both,
                measured(mb(1800), None, Some(3)),
                Some((
                    "memory_high",
                    true,
                    "its 3 processes use 1.80 GB of memory (limit: 1740 MB)",
                )),
            ),
            (
                &share,
                measured(mb(899), Some((mb(1000), false)), None),
                None,
            ),
            (
                &share,
                measured(mb(900), Some((mb(1000), false)), None),
                Some((
                    "memory_high",
                    true,
                    "its unit uses 900 MB of memory (limit: 90% of its cgroup's limit of 1.00 GB)",
                )),
            ),
            (
                &share,
                measured(mb(900), Some((mb(1000), true)), Some(1)),
                Some((
                    "memory_high",
                    true,
                    "its process uses 900 MB of memory (limit: 90% of the machine's 1.00 GB)",
                )),
            ),
            (
                &files,
                measured(820, Some((1024, false)), Some(1)),
                Some((
                    "open_files_high",
                    false,
                    "its main process has 820 open files (limit: 80% of its limit of 1024)",
                )),
            ),
            (
                &files,
                measured(1000, Some((1024, false)), Some(1)),
                Some((
                    "open_files_high",
                    true,
                    "its main process has 1000 open files (limit: 1000)",
                )),
            ),
            (
                &threads,
                measured(512, None, Some(2)),
                Some((
                    "threads_high",
                    false,
                    "its 2 processes have 512 threads (limit: 500)",
                )),
            ),
            (&threads, measured(499, None, Some(2)), None),
        ] {
            let judged = judged(rule, &look, &State::default(), 0);
            let found = judged.findings.first().map(|finding| {
                let is_critical = finding.severity == Severity::Critical;
                (&*finding.code, is_critical, &*finding.message)
            });
            assert_eq!(found, expected);
            assert!(judged.findings.len() < 2);
            for finding in &judged.findings {
                assert!(crate::check::code(&finding.code).is_some(), "{finding:?}");
                assert_eq!(finding.grace(), crate::check::Grace::None);
                let is_critical = finding.severity == Severity::Critical;
                assert_eq!(finding.is_reason_to_restart(), is_critical);
            }
        }
    }

    #[test]
    fn each_level_counts_once_it_has_lasted() {
        let rule = memory(Some("100 B"), Some("200 B"), 120);
        let figure = |figure| measured(figure, None, Some(1));
        let unreadable = seen(7, Seen::Unreadable("no".to_owned()));
        let other = Look::At {
            owner: Owner::Unit,
            main: main(8),
            seen: Seen::Measured(Measured {
                figure: 250,
                whole: None,
                processes: Some(1),
            }),
        };
        let (warning, critical) = (Some(Severity::Warning), Some(Severity::Critical));
        let mut state = State::default();
        for (second, look, severity, is_noted) in [
            (0, figure(150), None, true),
            (60, figure(250), None, true),
            // it cannot be read: neither confirmed nor ended
            (90, unreadable.clone(), Some(Severity::Unknown), false),
            (100, Look::Unknown, None, false),
            // the warning has lasted, the critical level has not
            (120, figure(250), warning, true),
            (179, figure(250), warning, true),
            (180, figure(250), critical, false),
            (181, figure(150), warning, false),
            (182, figure(250), warning, true),
            (200, figure(50), None, false),
            (210, figure(250), None, true),
            (400, figure(250), critical, false),
            // another process, and one that does not run
            (401, other.clone(), None, true),
            (402, figure(250), None, true),
            (600, figure(250), critical, false),
            (601, Look::NotRunning, None, false),
            (602, figure(250), None, true),
        ] {
            let judged = judged(&rule, &look, &state, second);
            let found = judged.findings.first().map(|finding| finding.severity);
            assert_eq!(found, severity, "{second}");
            assert_eq!(!judged.notes.is_empty(), is_noted, "{second}");
            state = judged.state.unwrap();
        }
    }

    #[test]
    fn a_clock_that_is_set_changes_nothing() {
        let rule = memory(Some("100 B"), None, 120);
        let mut state = State::default();
        for (second, off, is_found) in [
            (0, 0, false),
            (60, 7200, false),
            (119, -86_400, false),
            (120, 9, true),
        ] {
            let now = Reading {
                wall: at(second + off),
                ..now(second)
            };
            let judged = judge(
                &rule,
                &measured(100, None, Some(1)),
                Some(&state),
                &now,
                100,
            );
            assert_eq!(!judged.findings.is_empty(), is_found, "{second}");
            state = judged.state.unwrap();
        }
    }

    fn time(pid: i32, second: i64, used_s: u64) -> Look {
        let each = vec![(pid, 7, used_s * 1_000_000, 0)];
        let total = Total::Processes(Processes { each, rest: 0 });
        let now = now(second);
        seen(
            pid,
            Seen::Time {
                baseline: Baseline::new(total, now.boot_ms, &now),
                processes: Some(1),
            },
        )
    }

    #[test]
    fn processor_time_is_an_average_between_two_runs() {
        let rule = Rule::Cpu(Cpu {
            warning: Some(Share::percent(90)),
            critical: None,
            for_: Duration::ZERO,
        });
        let mut state = State::default();
        for (second, pid, used, figure, message) in [
            (0, 7, 1000, None, None),
            (60, 7, 1053, Some(88_333), None),
            (
                120,
                7,
                1113,
                Some(100_000),
                Some("its process used 100.0% of a processor over the last 1m (limit: 90%)"),
            ),
            // another process begins anew, however much it has used
            (180, 8, 5000, None, None),
            (240, 8, 5006, Some(10_000), None),
        ] {
            let judged = judged(&rule, &time(pid, second, used), &state, second);
            let found = judged.findings.first().map(|finding| &*finding.message);
            assert_eq!(found, message, "{second}");
            state = judged.state.unwrap();
            assert_eq!(state.figure, figure, "{second}");
        }
        // two runs in a row: the second says nothing, and the next goes on from the first
        let soon = judge(&rule, &time(8, 240, 5007), Some(&state), &now(240), 100);
        assert_eq!(soon.state.as_ref().unwrap().baseline, state.baseline);
        assert_eq!(soon.state.as_ref().unwrap().figure, None);
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        let rule = memory(Some("1 B"), None, 0);
        let look = seen(7, Seen::Unreadable("permission denied".to_owned()));
        let judged = judge(&rule, &look, None, &now(0), 100);
        assert_eq!(
            judged.findings,
            [Finding::new(
                Kind::Usage,
                UNREADABLE,
                Severity::Unknown,
                "memory of its processes: permission denied"
            )]
        );
        assert_eq!(judged.findings[0].grace(), crate::check::Grace::None);
        assert_eq!(judge(&rule, &Look::Unknown, None, &now(0), 100).state, None);
    }

    #[test]
    fn the_state_is_small_and_reads_back() {
        assert_eq!(serde_json::to_string(&State::default()).unwrap(), "{}");
        let state = State {
            main: Some(main(7)),
            warning_since: Some(at(0).into()),
            critical_since: Some(at(1).into()),
            figure: Some(5),
            whole: Some(10),
            baseline: Some(Baseline::new(Total::Group(5), 9, &now(0))),
        };
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
    }

    proptest! {
        #[test]
        fn more_is_never_better(figures in proptest::collection::vec(0u64..300, 1..20), more in 0u64..100, lasting in 0u64..200) {
            let rule = memory(Some("100 B"), Some("200 B"), lasting);
            let (mut less_state, mut more_state) = (State::default(), State::default());
            for (second, figure) in (0..).zip(figures) {
                let second = second * 60;
                let run = |state: &State, figure| judged(&rule, &measured(figure, None, Some(1)), state, second);
                let (less, much) = (run(&less_state, figure), run(&more_state, figure + more));
                let worst = |checked: &Checked<State>| crate::check::worst(&checked.findings);
                prop_assert!(worst(&less) <= worst(&much));
                prop_assert!(much.findings.len() + much.notes.len() <= 2);
                (less_state, more_state) = (less.state.unwrap(), much.state.unwrap());
            }
        }
    }
}
