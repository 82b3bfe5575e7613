//! What of an exec probe may not do what was meant: each is run once, as the next run will run it.

use std::path::Path;
use std::sync::Arc;

use super::judge::outcome;
use super::{Convention, Raw, Rule, look};
use crate::check::command_traps::{cannot_start, not_executable, of_program, of_words};
use crate::check::lasting::Outcome;
use crate::check::process::ProcessStatus;
use crate::check::trap::{Place, Trap};
use crate::check::{Looking, ServiceContext, Severity};
use crate::guard::End;

/// The key that a trap is about.
const KEY: &str = "command";

/// Programs that many ask, and whose exit status is not that of a Nagios plugin.
const NO_PLUGINS: [&str; 14] = [
    "curl",
    "false",
    "grep",
    "mongosh",
    "mysqladmin",
    "nc",
    "pg_isready",
    "pgrep",
    "ping",
    "psql",
    "redis-cli",
    "systemctl",
    "test",
    "wget",
];

/// Runs the commands of all services.
pub(super) fn traps(
    rules: &[(&Arc<Rule>, &ServiceContext<'_>)],
    looking: &Looking<'_>,
) -> Vec<Vec<Trap>> {
    let asked: Vec<&Rule> = rules.iter().map(|(rule, _)| &***rule).collect();
    let raws = look(&asked, looking);
    let found = rules.iter().zip(&raws).map(|((rule, service), raw)| {
        let is_running = match service.process_status {
            ProcessStatus::Running(_) => Some(true),
            ProcessStatus::NotRunning => Some(false),
            ProcessStatus::Unknown | ProcessStatus::NotApplicable => None,
        };
        let task = rule.task(looking.check_timeout);
        let prepared = task.program().prepare().ok();
        let of_files = prepared.iter().flat_map(|prepared| {
            of_program(&task.program(), KEY, prepared)
                .into_iter()
                .chain(not_executable(KEY, &prepared.path))
        });
        let mut traps: Vec<Trap> = of_words(KEY, &rule.command)
            .into_iter()
            .chain(of_files)
            .collect();
        // what cannot be started is told once
        if !traps
            .iter()
            .any(|trap| trap.message.starts_with("it could not be"))
        {
            traps.extend(of_end(rule, raw, is_running));
        }
        traps.extend(of_convention(rule));
        for trap in &mut traps {
            trap.place = Place::Table(match trap.place {
                Place::Table(key) | Place::Service(key) => key,
            });
        }
        traps
    });
    found.collect()
}

/// What a person should know of what a probe came to just now, given whether the service runs.
fn of_end(rule: &Rule, raw: &Raw, is_running: Option<bool>) -> Option<Trap> {
    const UNKNOWN: &str =
        "until that is mended the probe is unknown in each run, and finds nothing";
    const HELP: &str = "run it by hand as that user, and see what it says";
    let outcome = match raw {
        Raw::NotAsked(why) => {
            return Some(Trap::of(
                KEY,
                format!("`{}`: {why}; {UNKNOWN}", rule.brief()),
                HELP,
            ));
        }
        Raw::Answered(answer) => {
            if let End::Unstarted(why) = &answer.end {
                return Some(cannot_start(KEY, "run", &format!("{why}; {UNKNOWN}")));
            }
            outcome(rule, answer)
        }
    };
    match outcome {
        Outcome::Passed(_) if is_running == Some(false) => Some(Trap::of(
            KEY,
            format!(
                "`{}` ends well although the service does not run: it would do so whatever the service does",
                rule.brief()
            ),
            "see that it asks this service",
        )),
        Outcome::Passed(_) => None,
        Outcome::Unseen(finding) => Some(Trap::of(
            KEY,
            format!("{}; {UNKNOWN}", finding.message),
            HELP,
        )),
        // that it fails while nothing runs is as it should be
        Outcome::Failed(_) if is_running == Some(false) => None,
        Outcome::Failed(finding) => {
            let runs = match is_running {
                Some(true) => " while the service runs",
                _ => " now",
            };
            let warning = match finding.severity {
                Severity::Warning => " (a warning)",
                _ => "",
            };
            Some(Trap::of(
                KEY,
                format!(
                    "{}{runs}: it would be {}{warning} in the next run",
                    finding.message, finding.code
                ),
                HELP,
            ))
        }
    }
}

/// A plugin whose exit status is not read as one, and the reverse.
fn of_convention(rule: &Rule) -> Option<Trap> {
    let program = Path::new(rule.command.first().map_or("", String::as_str));
    let name = program.file_name()?.to_str()?;
    let is_plugin = name.starts_with("check_")
        || program
            .parent()
            .is_some_and(|directory| directory.ends_with("nagios/plugins"));
    match rule.exit {
        Convention::Zero if is_plugin => Some(Trap::of(
            "exit",
            format!(
                "{name} looks like a Nagios plugin, of which 1 is a warning and 3 unknown: with exit = \"zero\" both are failures"
            ),
            "write exit = \"nagios\"",
        )),
        Convention::Nagios if NO_PLUGINS.contains(&name) => Some(Trap::of(
            "exit",
            format!(
                "{name} is no Nagios plugin: with exit = \"nagios\" its status 1 is a mere warning, and 3 and above are unknown"
            ),
            "leave `exit` out",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Answer;

    #[test]
    fn traps_say_what_the_probe_will_come_to() {
        let rule = Rule::new(&["x", "-q"]);
        let answer = |end: End| {
            Raw::Answered(Answer {
                end,
                stdout: Vec::new(),
                stderr: Vec::new(),
                left: Vec::new(),
                took: std::time::Duration::ZERO,
            })
        };
        let (well, ill) = (answer(End::Ended(0)), answer(End::Ended(1 << 8)));
        let unstarted = answer(End::Unstarted("no such user `x`".to_owned()));
        let unasked = Raw::NotAsked("it was not run".to_owned());
        for (raw, is_running, part) in [
            (&well, Some(true), None),
            (&well, None, None),
            (
                &well,
                Some(false),
                Some("although the service does not run"),
            ),
            (&ill, Some(false), None),
            (
                &ill,
                Some(true),
                Some(
                    "exited with status 1 while the service runs: it would be exec_failed in the next run",
                ),
            ),
            (&ill, None, Some("status 1 now: it would be exec_failed")),
            (
                &unstarted,
                None,
                Some("it could not be run: no such user `x`; until that is mended"),
            ),
            (
                &unasked,
                Some(true),
                Some("`x -q`: it was not run; until that is mended"),
            ),
        ] {
            let found = of_end(&rule, raw, is_running);
            assert_eq!(found.is_some(), part.is_some(), "{found:?}");
            if let (Some(part), Some(found)) = (part, found) {
                assert!(found.message.contains(part), "{found:?}");
            }
        }
    }

    #[test]
    fn a_status_that_is_read_by_the_wrong_convention_is_a_trap() {
        use Convention::{Nagios, Zero};
        for (program, exit, is_trap) in [
            ("/usr/lib/nagios/plugins/check_load", Zero, true),
            ("/usr/lib/nagios/plugins/utils", Zero, true),
            ("check_mine", Zero, true),
            ("check_mine", Nagios, false),
            ("pg_isready", Zero, false),
            ("/usr/bin/pg_isready", Nagios, true),
            ("/srv/own.sh", Nagios, false),
        ] {
            let rule = Rule {
                exit,
                ..Rule::new(&[program])
            };
            assert_eq!(of_convention(&rule).is_some(), is_trap, "{program}");
        }
    }
}
