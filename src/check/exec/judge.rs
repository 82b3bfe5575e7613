//! What the end of a command means. Nothing here runs anything.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::rule::MOST_PROCESSES;
use super::{Convention, Raw, Rule};
use crate::check::lasting::{self, Failing, Outcome, UNREADABLE};
use crate::check::{Checked, Finding, Kind, Severity};
use crate::child::{describe_status, last_lines};
use crate::clock::{Reading, rough};
use crate::guard::{Answer, End};
use crate::text::printable;

/// It did not end as it has to.
pub const FAILED: &str = "exec_failed";

/// So many bytes of a line are shown.
const LINE: usize = 300;

/// Judges a probe.
pub fn judge(rule: &Rule, raw: &Raw, state: &Failing, now: &Reading) -> Checked<Failing> {
    let outcome = match raw {
        Raw::NotAsked(why) => unseen(rule, why),
        Raw::Answered(answer) => outcome(rule, answer),
    };
    let mut checked = lasting::judge(outcome, rule.for_, state, now);
    if let Raw::Answered(answer) = raw
        && !answer.left.is_empty()
    {
        let pids: Vec<String> = answer.left.iter().take(10).map(i32::to_string).collect();
        checked.notes.push(format!(
            "`{}` left processes behind that cannot be killed (another user's, or held by the kernel): PID {}",
            rule.brief(),
            pids.join(", ")
        ));
    }
    checked
}

pub(super) fn outcome(rule: &Rule, answer: &Answer) -> Outcome {
    let (limit, shown) = (rule.timeout.unwrap_or_default(), rule.brief());
    match &answer.end {
        End::Ended(status) => ended(rule, ExitStatus::from_raw(*status), answer),
        End::TimedOut => failed(
            rule.severity,
            format!(
                "`{shown}` did not end within {}, and was killed{}",
                rough(limit),
                said(answer)
            ),
        ),
        End::Stalled(stalled) => unseen(
            rule,
            &format!(
                "it did not end within {}, but this host was too busy to tell: nothing got on for {} of that",
                rough(limit),
                rough(*stalled)
            ),
        ),
        End::TooMany => unseen(
            rule,
            &format!("it had more than {MOST_PROCESSES} processes, and was killed"),
        ),
        End::Unstarted(why) => unseen(rule, why),
        End::Abandoned => unseen(rule, "it was killed before its end"),
    }
}

fn ended(rule: &Rule, status: ExitStatus, answer: &Answer) -> Outcome {
    let shown = rule.brief();
    let how = describe_status(status);
    match (rule.exit, status.code()) {
        (_, Some(0)) => Outcome::Passed(Vec::new()),
        (Convention::Zero, _) => failed(rule.severity, format!("`{shown}` {how}{}", said(answer))),
        (Convention::Nagios, code) => {
            let own = message(answer);
            let has_own = !own.is_empty();
            let message = if has_own {
                format!("`{shown}`: {own}")
            } else {
                format!("`{shown}` {how}{}", said(answer))
            };
            match code {
                Some(1) => failed(Severity::Warning, message),
                Some(2) => failed(rule.severity, message),
                // one that was ended by a signal said nothing
                None => unseen(rule, &format!("it {how}{}", said(answer))),
                Some(3) => Outcome::Unseen(unreadable(format!("{message} (unknown)"))),
                Some(code) if has_own => {
                    Outcome::Unseen(unreadable(format!("{message} (status {code})")))
                }
                Some(_) => Outcome::Unseen(unreadable(message)),
            }
        }
    }
}

fn failed(severity: Severity, message: String) -> Outcome {
    Outcome::Failed(Finding::new(Kind::Exec, FAILED, severity, message))
}

fn unseen(rule: &Rule, why: &str) -> Outcome {
    Outcome::Unseen(unreadable(format!("`{}`: {why}", rule.brief())))
}

fn unreadable(message: String) -> Finding {
    Finding::new(Kind::Exec, UNREADABLE, Severity::Unknown, message)
}

/// What a command said, behind how it ended: the first line of its output, else the last of its errors.
fn said(answer: &Answer) -> String {
    let line = first_line(&answer.stdout);
    let line = if line.is_empty() {
        last_lines(&answer.stderr, 1).pop().unwrap_or_default()
    } else {
        line
    };
    if line.is_empty() {
        String::new()
    } else {
        format!(": {line}")
    }
}

/// The message of a plugin: its first line, without the figures for machines.
fn message(answer: &Answer) -> String {
    let line = first_line(&answer.stdout);
    let message = line.split('|').next().unwrap_or_default();
    message.trim_end().to_owned()
}

/// The first line that has something in it, safe to show.
fn first_line(output: &[u8]) -> String {
    let mut lines = output.split(|&b| b == b'\n').map(<[u8]>::trim_ascii);
    let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
    printable(line, LINE)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fixtures::at;

    fn answer(end: End, stdout: &str, stderr: &str) -> Answer {
        Answer {
            end,
            stdout: stdout.as_bytes().to_vec(),
            stderr: stderr.as_bytes().to_vec(),
            left: Vec::new(),
            took: Duration::ZERO,
        }
    }

    /// What the end of a probe with a limit of 10 s came to: the code, its severity and the message.
    fn came_to(rule: &Rule, answer: &Answer) -> Option<(String, Severity, String)> {
        let rule = Rule {
            timeout: Some(Duration::from_secs(10)),
            ..rule.clone()
        };
        let found = match outcome(&rule, answer) {
            Outcome::Passed(mut findings) => findings.pop()?,
            Outcome::Failed(finding) | Outcome::Unseen(finding) => finding,
        };
        Some((found.code.into_owned(), found.severity, found.message))
    }

    #[test]
    fn each_end_has_its_meaning() {
        use Convention::{Nagios, Zero};
        use Severity::{Critical, Unknown, Warning};
        let exit = |code: i32| End::Ended(code << 8);
        let fork = "sh: 1: Cannot fork\n";
        for (exit, end, stdout, stderr, expected) in [
            (Zero, exit(0), "no matter", "", None),
            (
                Zero,
                exit(2),
                "\nno response\nmore",
                fork,
                Some((FAILED, Critical, "`x -q` exited with status 2: no response")),
            ),
            (
                Zero,
                exit(1),
                "",
                fork,
                Some((
                    FAILED,
                    Critical,
                    "`x -q` exited with status 1: sh: 1: Cannot fork",
                )),
            ),
            (
                Zero,
                exit(3),
                "",
                "",
                Some((FAILED, Critical, "`x -q` exited with status 3")),
            ),
            (
                Zero,
                End::Ended(9),
                "",
                "",
                Some((FAILED, Critical, "`x -q` was ended by signal 9 (SIGKILL)")),
            ),
            (
                Zero,
                End::TimedOut,
                "\u{1b}[2Jwaiting",
                "",
                Some((
                    FAILED,
                    Critical,
                    r"`x -q` did not end within 10s, and was killed: \x1b[2Jwaiting",
                )),
            ),
            (
                Zero,
                End::Stalled(Duration::from_secs(7)),
                "",
                "",
                Some((
                    UNREADABLE,
                    Unknown,
                    "`x -q`: it did not end within 10s, but this host was too busy to tell: nothing got on for 7s of that",
                )),
            ),
            (
                Zero,
                End::TooMany,
                "",
                "",
                Some((
                    UNREADABLE,
                    Unknown,
                    "`x -q`: it had more than 256 processes, and was killed",
                )),
            ),
            (
                Zero,
                End::Unstarted("no such program x".to_owned()),
                "",
                "",
                Some((UNREADABLE, Unknown, "`x -q`: no such program x")),
            ),
            (Nagios, exit(0), "OK - fine|a=1", "", None),
            (
                Nagios,
                exit(1),
                "LOAD WARNING - 5|load=5\n",
                "",
                Some((FAILED, Warning, "`x -q`: LOAD WARNING - 5")),
            ),
            (
                Nagios,
                exit(2),
                "DISK CRITICAL - / 9 MB|/=9MB\nmore",
                "",
                Some((FAILED, Critical, "`x -q`: DISK CRITICAL - / 9 MB")),
            ),
            (
                Nagios,
                exit(2),
                "|a=1",
                "why",
                Some((FAILED, Critical, "`x -q` exited with status 2: |a=1")),
            ),
            (
                Nagios,
                exit(3),
                "UNKNOWN - no such host",
                "",
                Some((
                    UNREADABLE,
                    Unknown,
                    "`x -q`: UNKNOWN - no such host (unknown)",
                )),
            ),
            (
                Nagios,
                exit(127),
                "",
                "sh: x: not found",
                Some((
                    UNREADABLE,
                    Unknown,
                    "`x -q` exited with status 127: sh: x: not found",
                )),
            ),
            (
                Nagios,
                exit(4),
                "",
                "",
                Some((UNREADABLE, Unknown, "`x -q` exited with status 4")),
            ),
            (
                Nagios,
                exit(4),
                "no such mode|a=1",
                "",
                Some((UNREADABLE, Unknown, "`x -q`: no such mode (status 4)")),
            ),
            (
                Nagios,
                End::Ended(11),
                "",
                "",
                Some((
                    UNREADABLE,
                    Unknown,
                    "`x -q`: it was ended by signal 11 (SIGSEGV)",
                )),
            ),
            (
                Nagios,
                End::TimedOut,
                "",
                "",
                Some((
                    FAILED,
                    Critical,
                    "`x -q` did not end within 10s, and was killed",
                )),
            ),
        ] {
            let rule = Rule {
                exit,
                ..Rule::new(&["x", "-q"])
            };
            let found = came_to(&rule, &answer(end, stdout, stderr));
            let found = found
                .as_ref()
                .map(|(code, severity, message)| (&**code, *severity, &**message));
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_probe_that_is_a_warning_is_never_critical() {
        for (exit, end) in [
            (Convention::Zero, End::Ended(1 << 8)),
            (Convention::Zero, End::TimedOut),
            (Convention::Nagios, End::Ended(2 << 8)),
        ] {
            let rule = Rule {
                exit,
                severity: Severity::Warning,
                ..Rule::new(&["x"])
            };
            let found = came_to(&rule, &answer(end, "", "")).unwrap();
            assert_eq!(found.1, Severity::Warning);
        }
    }

    #[test]
    fn what_could_not_be_killed_is_noted() {
        let now = Reading {
            wall: at(0),
            boot_ms: 0,
            awake_ms: 0,
            boot_id: "".into(),
        };
        let raw = Raw::Answered(Answer {
            left: vec![7, 8],
            ..answer(End::Ended(0), "", "")
        });
        let rule = Rule::new(&["x"]);
        let checked = judge(&rule, &raw, &Failing::default(), &now);
        assert_eq!(checked.findings, []);
        assert!(
            checked.notes[0].ends_with("PID 7, 8"),
            "{:?}",
            checked.notes
        );
    }
}
