//! All that the program says in a situation, held in a file.
//!
//! Each test brings a situation about and runs commands in it. What they print, their exit codes and the mails are
//! compared with `tests/it/golden/NAME.txt`, where a change of a sentence is seen as a diff. What differs from run to
//! run (PIDs, times, measured durations, paths) is replaced by names in braces, and lines that were broken at the
//! page's width are joined again. After a change that is meant:
//!
//! ```sh
//! UPDATE_GOLDEN=1 cargo test --test it situations
//! ```

mod commands;
mod logs;
mod mails;
mod processes;
mod repairs;
mod restarts;
mod runs;
mod traps;
mod units;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::{Captures, Regex};

use crate::layers::sources;
use crate::scene::{Mail, Outcome, Scene, WATCHDOG};

/// Columns of a page, and of a mail.
const PAGE: usize = 80;
const MAIL: usize = 78;

/// A duration as people write it, such as `1h 5m`.
const SPAN: &str = r"\d+(?:\.\d+)?(?:ms|s|m|h|d)(?: \d+(?:ms|s|m|h|d))*";

/// The directory of the files.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden")
}

/// What was said in a situation so far.
struct Golden {
    name: &'static str,
    text: String,
    also: Vec<(Regex, &'static str)>,
}

impl Golden {
    /// Nothing yet; compared with the file of this name.
    fn new(name: &'static str) -> Self {
        Self {
            name,
            text: String::new(),
            also: Vec::new(),
        }
    }

    /// Says what comes next.
    fn title(&mut self, title: &str) {
        self.text.push('\n');
        for line in title.lines() {
            let _ = writeln!(self.text, "## {}", watchdog::text::visible(line));
        }
    }

    /// Replaces what depends on chance in what comes next.
    fn replace(&mut self, text: &str, by: &'static str) {
        self.also
            .push((Regex::new(&regex::escape(text)).unwrap(), by));
    }

    /// The same for all that matches a pattern.
    fn replace_pattern(&mut self, pattern: &str, by: &'static str) {
        self.also.push((Regex::new(pattern).unwrap(), by));
    }

    /// Runs the program, and records what it says.
    fn run(&mut self, scene: &Scene, args: &[&str]) -> Outcome {
        let outcome = scene.run(args);
        let shown: Vec<String> = std::iter::once("watchdog".to_owned())
            .chain(args.iter().map(|arg| (*arg).to_owned()))
            .collect();
        self.outcome(scene, &shown.join(" "), &outcome);
        outcome
    }

    /// Runs a command that runs the program.
    fn command(&mut self, scene: &Scene, shown: &str, command: Command) -> Outcome {
        let outcome = scene.finish(command);
        self.outcome(scene, shown, &outcome);
        outcome
    }

    fn outcome(&mut self, scene: &Scene, shown: &str, outcome: &Outcome) {
        let mut text = format!("\n$ {shown}\n{}", joined(&outcome.stdout, PAGE));
        if !outcome.stderr.is_empty() {
            let _ = write!(text, "--- stderr\n{}", joined(&outcome.stderr, PAGE));
        }
        let _ = writeln!(text, "--- exit {}", outcome.code);
        self.add(scene, &text);
    }

    /// Records the mails in the scene's directory that were not recorded yet.
    fn mails(&mut self, scene: &Scene) {
        let mails = scene.mails();
        assert!(!mails.is_empty(), "no mail");
        for mail in mails {
            self.mail(scene, &mail);
        }
        fs::remove_dir_all(scene.path("mails")).unwrap();
    }

    fn mail(&mut self, scene: &Scene, mail: &Mail) {
        let mut text = String::from("\n--- mail\n");
        for name in ["To", "Subject", "X-Watchdog-Service", "X-Watchdog-Event"] {
            if let Some(value) = mail.header(name) {
                let _ = writeln!(text, "{name}: {value}");
            }
        }
        let _ = writeln!(text, "\n{}", joined(&mail.body, MAIL).trim_end());
        let host = nix::unistd::gethostname().unwrap();
        let host = Regex::new(&format!(
            r"(^|[ @]){}([:,>]|$)",
            regex::escape(host.to_str().unwrap())
        ))
        .unwrap();
        let text: Vec<_> = text
            .lines()
            .map(|line| host.replace_all(line, "${1}{host}$2"))
            .collect();
        self.add(scene, &(text.join("\n") + "\n--- end of mail\n"));
    }

    fn add(&mut self, scene: &Scene, text: &str) {
        let mut text = normal(
            &text
                .replace(WATCHDOG, "{watchdog}")
                .replace(scene.dir(), "{dir}"),
        );
        for (chance, by) in &self.also {
            text = chance.replace_all(&text, *by).into_owned();
        }
        self.text.push_str(&text);
    }

    /// Compares all of it with the file, or writes the file.
    #[track_caller]
    fn compare(self) {
        let found = without_pids(&self.text).trim_start().to_owned();
        let file = directory().join(format!("{}.txt", self.name));
        if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
            fs::write(&file, &found).unwrap();
            return;
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            found == expected,
            "what is said differs from {}:\n{}\nwhere it is meant: UPDATE_GOLDEN=1 cargo test --test it situations",
            file.display(),
            difference(&expected, &found)
        );
    }
}

/// Joins the lines that were broken at so many columns: those that go on where they should, with a word that would not
/// have had room on the line before.
fn joined(text: &str, width: usize) -> String {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines: Vec<String> = Vec::new();
    // the columns of the last line as it was printed, and the indentation of the first and the further lines of a text
    let (mut columns, mut first, mut rest) = (0, 0, 0);
    for line in text.lines() {
        let word = line.split_whitespace().next().unwrap_or_default();
        let full = columns + 1 + word.chars().count() > width;
        let own = indent(line);
        let begins = matches!(
            word,
            "" | "|" | "-" | ">" | "=" | "-->" | "critical:" | "unknown:" | "warning:" | "nothing"
        );
        let goes_on = |last: &str| match width {
            MAIL if last.starts_with("- ") => own == 2,
            MAIL => first == 0 && own == 0,
            _ => own > first && (rest == first || own == rest),
        };
        match lines.last_mut() {
            Some(last) if full && !begins && !last.is_empty() && goes_on(last) => {
                last.push(' ');
                last.push_str(line.trim_start());
                rest = own;
            }
            _ => {
                lines.push(line.to_owned());
                (first, rest) = (own, own);
            }
        }
        columns = line.chars().count();
    }
    ended(&lines)
}

/// Lines with a line end each.
fn ended(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

/// The text with names for what differs from run to run, PIDs aside.
fn normal(text: &str) -> String {
    let rules = [
        (
            r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z| UTC)?",
            "{time}",
        ),
        (r"\d{8}T\d{6}Z", "{time}"),
        (r"\.[0-9a-f]{16}\b", ".{id}"),
        (r"\bjust now\b", "{span} ago"),
        (r"\b(?:just|SPAN) before that run", "{span} before that run"),
        (r"(\[watchdog\]) [0-9A-Za-z._-]+:", "$1 {host}:"),
        (r"\bSPAN (ago|ahead|between)\b", "{span} $1"),
        (r"\b(in|took|failed after|up after) SPAN\b", "$1 {span}"),
        (r#"("[a-z_]*_ms"):\d+"#, "$1:{ms}"),
        (r"127\.0\.0\.1:\d+", "127.0.0.1:{port}"),
        (r", port \d+,", ", port {port},"),
        (r"\bUID \d+", "UID {uid}"),
        (r"\bwhat [0-9A-Za-z_-]+ runs\b", "what {user} runs"),
        (
            r"\ba process of user [0-9A-Za-z_-]+",
            "a process of user {user}",
        ),
    ];
    let mut text = text.replace(env!("CARGO_PKG_VERSION"), "{version}");
    for (pattern, name) in rules {
        let pattern = Regex::new(&format!("(?-u){}", pattern.replace("SPAN", SPAN))).unwrap();
        text = pattern.replace_all(&text, name).into_owned();
    }
    // columns that were as wide as what stood in them; an excerpt of a config stays as it is
    let gaps = Regex::new(r"([!-~]) {3,}([!-~])").unwrap();
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            if line.trim_start().starts_with('|') {
                line.to_owned()
            } else {
                gaps.replace_all(line, "$1  $2").into_owned()
            }
        })
        .collect();
    ended(&lines)
}

/// The text with a name for each PID: the first, the second.
fn without_pids(text: &str) -> String {
    let contexts =
        Regex::new(r#"(?-u)\b(PIDs? (?:is )?|[a-z_]*pid":|names |adopt |, )(\d{2,7})\b"#).unwrap();
    let mut names = BTreeMap::new();
    let mut context = |found: &Captures<'_>| {
        let (before, pid) = (&found[1], &found[2]);
        let next = names.len() + 1;
        // numbers in a list are PIDs where they were named so before
        if before == ", " && !names.contains_key(pid) {
            return found[0].to_owned();
        }
        let name = names
            .entry(pid.to_owned())
            .or_insert_with(|| format!("{{pid{next}}}"));
        format!("{before}{name}")
    };
    // the second of a pair is no other number
    let text = Regex::new(r"(?-u)(\bPID \d+) and (\d)")
        .unwrap()
        .replace_all(text, "$1 and PID $2");
    let text = contexts.replace_all(&text, &mut context).into_owned();
    Regex::new(r"(?-u)\b\d{4,7}\b")
        .unwrap()
        .replace_all(&text, |number: &Captures<'_>| {
            names
                .get(&number[0])
                .cloned()
                .unwrap_or_else(|| number[0].to_owned())
        })
        .into_owned()
}

/// The lines that are in one text and not in the other, in their order, with a few around them.
fn difference(expected: &str, found: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    // the longest common subsequence of what is left from each pair of lines on
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let mut lines = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || i < old.len() && common[i + 1][j] >= common[i][j + 1] {
            lines.push(('-', old[i]));
            i += 1;
        } else {
            lines.push(('+', new[j]));
            j += 1;
        }
    }
    let near = |at: usize| {
        lines[at.saturating_sub(2)..lines.len().min(at + 3)]
            .iter()
            .any(|(mark, _)| *mark != ' ')
    };
    let shown: Vec<String> = lines
        .iter()
        .enumerate()
        .filter(|(at, _)| near(*at))
        .map(|(_, (mark, line))| format!("{mark}{line}"))
        .collect();
    ended(&shown)
}

#[test]
fn each_file_belongs_to_a_test() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/situations");
    let tests: String = sources(&here)
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for entry in fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            tests.contains(&format!("Golden::new(\"{name}\")")),
            "no test makes {}",
            path.display()
        );
    }
}

#[test]
fn what_differs_from_run_to_run_gets_a_name() {
    for (text, expected) in [
        (
            "at 2026-01-02T03:04:05.678Z (5s ago)",
            "at {time} ({span} ago)",
        ),
        ("up after 1m 5s, limit 5m", "up after {span}, limit 5m"),
        (
            "a  PID 4711,      PID 815, then 4711 or 47",
            "a  PID {pid1},  PID {pid2}, then {pid1} or 47",
        ),
        (
            "{\"pid\":1234,\"duration_ms\":17}",
            "{\"pid\":{pid1},\"duration_ms\":{ms}}",
        ),
    ] {
        assert_eq!(without_pids(&normal(text)).trim_end(), expected);
    }
}

#[test]
fn broken_lines_are_joined() {
    let line = "    ".to_owned() + &"x ".repeat(37) + "xx";
    for (text, expected) in [
        (
            format!("{line}\n        more\n    other\n"),
            format!("{line} more\n    other\n"),
        ),
        // there was room for it
        (
            "    short\n        more\n".to_owned(),
            "    short\n        more\n".to_owned(),
        ),
        (
            format!("{line}\n    other\n"),
            format!("{line}\n    other\n"),
        ),
    ] {
        assert_eq!(joined(&text, PAGE), expected);
    }
}

#[test]
fn a_difference_is_shown_by_its_lines() {
    assert_eq!(
        difference("1\n2\n3\n4\n5\n6\n", "1\n2\n3\nfour\n5\n6\n"),
        " 2\n 3\n-4\n+four\n 5\n 6\n"
    );
}
