//! What in the rule for a process may not do what was meant.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::super::pattern::Pattern;
use super::super::trap::Trap;
use super::host::{Role, role_with};
use super::script::FirstLine;
use super::{ProcessStatus, Rule, Seen, Started, TOO_MANY, resolve_user};
use crate::process_table::{Process, ProcessState};
use crate::text::printable;

/// How much of a command line is quoted, in bytes.
const QUOTED: usize = 200;

/// What people and other programs are likely to run that has to do with the service.
#[derive(Clone, Debug)]
pub struct Bystanders<'a> {
    /// The config, which people edit.
    pub config: &'a Path,
    /// Logs, which people read.
    pub logs: Vec<&'a Path>,
    /// What the watchdog itself starts.
    pub started: Option<Started<'a>>,
    /// Whether the clock goes on while the machine is off.
    pub clock_goes_on: bool,
}

/// What in a rule may not do what was meant. `seen` is what it finds now, with nothing remembered.
pub fn traps(rule: &Rule, seen: &Seen, bystanders: &Bystanders<'_>) -> Vec<Trap> {
    let mut traps = Vec::new();
    if let Some(directory) = rule.pid_file.as_ref().and_then(|path| path.parent())
        && !directory.is_dir()
    {
        traps.push(Trap::of(
            "pid_file",
            format!(
                "the directory of its PID file, {}, is not there",
                directory.display()
            ),
            "make it, or say where the program writes its PID; below /run it has to be made at each boot",
        ));
    }
    let unknown = rule.user.as_deref().map(resolve_user);
    if let Some(Err(why)) = &unknown {
        traps.push(Trap::of(
            "user",
            why,
            "name a user that this machine has: `getent passwd`",
        ));
    }
    let Some(pattern) = &rule.command_line else {
        // what surely runs the command of `spawn` is the service, whatever its PID file says
        let by_file_alone = bystanders.started.is_none() && !bystanders.clock_goes_on;
        let path = rule.pid_file.as_ref().filter(|_| by_file_alone);
        if path.is_some_and(|path| is_kept_over_boots(path)) {
            traps.push(Trap::of(
                "pid_file",
                "only its PID file says which process it is, and this machine has no clock with a battery: what is \
                 written before its time is set looks older than the boot, and then the process is taken for another",
                "give `command_line` as well, by which it is known whatever the clock says",
            ));
        }
        return traps;
    };
    // an argument may have several lines
    traps.extend(Trap::of_control("command_line", pattern, &['\t', '\n']));
    let is_running = matches!(seen.process_status, ProcessStatus::Running(_));
    let of_start = bystanders.started.filter(|_| !is_running);
    if let Some(trap) = of_start.and_then(|started| misses_start(pattern, started)) {
        traps.push(trap);
    } else if !matches!(unknown, Some(Err(_))) && !is_running {
        traps.push(matches_nothing(rule, pattern));
    }
    let mut findings = seen.findings.iter();
    if let Some(finding) = findings.find(|finding| finding.code == TOO_MANY) {
        traps.push(Trap::of(
            "command_line",
            &finding.message,
            "make the pattern narrower, or give the `user` or a `pid_file` as well",
        ));
    }
    // other programs of that user are few, and those of a person are not among them
    if rule.user.is_none() {
        traps.extend(matches_bystander(pattern, bystanders));
    }
    traps
}

/// What is in memory is of this boot, whatever the clock says.
fn is_kept_over_boots(path: &Path) -> bool {
    let there = path.ancestors().find(|path| path.exists());
    there.is_some_and(|there| !statfs(there).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC))
}

fn matches_nothing(rule: &Rule, pattern: &Pattern) -> Trap {
    let of = rule.user.as_ref().map(|user| format!(" of user {user}"));
    Trap::of(
        "command_line",
        format!(
            "`{}` matches no process{} now",
            pattern.source(),
            of.unwrap_or_default()
        ),
        "where the program runs, hold the pattern against `ps -eo user,args`; it is searched in the \
         arguments joined by single spaces",
    )
}

/// A pattern that does not match the service's own command: what is started by it is never found. Only what it runs
/// itself tells whether a start script ends in something else.
fn misses_start(pattern: &Pattern, started: Started<'_>) -> Option<Trap> {
    let wanted = started.command.join(" ");
    let program = started.command.first().map_or("", String::as_str);
    let line = FirstLine::of(program, started.working_dir).unwrap_or_default();
    let command = line.command(&wanted);
    if pattern.matches(wanted.as_bytes()) || pattern.matches(command.as_bytes()) {
        return None;
    }
    Some(Trap::of(
        "command_line",
        format!(
            "`{}` matches no process now, nor what `spawn` starts: `{}`",
            pattern.source(),
            printable(command.as_bytes(), QUOTED)
        ),
        "let it match the command of `spawn`, or of the program that takes its place; else what was started is never found, \
         and started again",
    ))
}

/// A pattern that fits somebody's editor makes a person who reads the config into the program. What only hosts the
/// command, or quotes it, does not count.
fn matches_bystander(pattern: &Pattern, bystanders: &Bystanders<'_>) -> Option<Trap> {
    let text = |path: &Path| path.display().to_string();
    let line = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let file = text(bystanders.config);
    let mut lines: Vec<Vec<String>> = vec![
        line(&["vi", &file]),
        line(&["watchdog", "check", "--config", &file]),
    ];
    let logs = bystanders.logs.iter();
    lines.extend(logs.map(|log| line(&["tail", "-f", &text(log)])));
    if let Some(started) = bystanders.started {
        let scripts = scripts(started.command, started.working_dir);
        lines.extend(scripts.map(|script| line(&["vi", &text(&script)])));
        let command = started.command.join(" ");
        lines.push(line(&["sh", "-c", &command]));
        lines.push(line(&["ssh", "host", &command]));
        lines.push(line(&["tmux", "new-session", "-d", &command]));
        let docker = line(&["docker", "run", "image"]);
        lines.push(
            docker
                .into_iter()
                .chain(started.command.iter().cloned())
                .collect(),
        );
    }
    let line = lines.iter().find(|line| counts(pattern, line))?;
    let quoted = |word: &String| {
        if word.contains(' ') {
            format!("'{word}'")
        } else {
            word.clone()
        }
    };
    let words = line.iter().map(quoted);
    Some(Trap::of(
        "command_line",
        format!(
            "the pattern `{}` also matches `{}`",
            pattern.source(),
            printable(words.collect::<Vec<_>>().join(" ").as_bytes(), QUOTED)
        ),
        "let the pattern begin at the beginning, as in '^/usr/bin/python3 .*main\\.py', or give the `user`",
    ))
}

/// Whether a process with these arguments would be taken for the service.
fn counts(pattern: &Pattern, arguments: &[String]) -> bool {
    let has_blanks = arguments.iter().skip(1).any(|word| word.contains(' '));
    let ends = arguments.iter().scan(0, |end, word| {
        *end += word.len() + 1;
        Some(*end - 1)
    });
    let process = Process {
        pid: 0,
        parent: 0,
        group: 0,
        state: ProcessState::Alive,
        start: 0,
        uid: None,
        command: arguments.join(" ").into_bytes(),
        ends: if has_blanks {
            ends.collect()
        } else {
            Box::default()
        },
        kernel: false,
    };
    let is_path = |argument: &[u8]| Path::new(OsStr::from_bytes(argument)).exists();
    pattern.matches(&process.command) && role_with(pattern, &process, is_path) == Role::Itself
}

/// The files among the arguments of a program.
pub fn scripts(command: &[String], working_dir: &Path) -> impl Iterator<Item = PathBuf> {
    let paths = (command.iter().skip(1)).map(|argument| working_dir.join(argument));
    paths.filter(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::check::trap::Place;

    fn nothing_seen() -> Seen {
        Seen {
            findings: Vec::new(),
            notes: Vec::new(),
            process_status: ProcessStatus::NotRunning,
            last_seen: super::super::LastSeen::default(),
        }
    }

    /// What is said of a pattern where nothing runs; `{dir}` is the directory of a script `main.py` and of the config.
    fn said(pattern: &str, command: &[&str]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let shown = dir.path().display().to_string();
        for name in ["main.py", "start.sh"] {
            let text = "#!/usr/bin/env python3\n";
            fs::write(dir.path().join(name), text).unwrap();
        }
        let rule = Rule {
            shown: String::new(),
            pid_file: None,
            user: None,
            command_line: Some(Pattern::new(&pattern.replace("{dir}", &shown)).unwrap()),
        };
        let command: Vec<String> = command
            .iter()
            .map(|word| word.replace("{dir}", &shown))
            .collect();
        let log = dir.path().join("a.log");
        let bystanders = Bystanders {
            config: &dir.path().join("watchdog.toml"),
            logs: vec![&log],
            started: Some(Started {
                command: &command,
                working_dir: dir.path(),
                user: None,
            }),
            clock_goes_on: true,
        };
        let seen = nothing_seen();
        let traps = traps(&rule, &seen, &bystanders);
        let messages = traps.into_iter().map(|trap| trap.message);
        messages.map(|it| it.replace(&shown, "{dir}")).collect()
    }

    #[test]
    fn a_pid_file_alone_needs_a_clock_that_goes_on_or_a_directory_in_memory() {
        let here = std::env::current_dir().unwrap();
        let is_said = |path: PathBuf, pattern: Option<&str>, clock_goes_on| {
            let rule = Rule {
                shown: String::new(),
                pid_file: Some(path),
                user: None,
                command_line: pattern.map(|pattern| Pattern::new(pattern).unwrap()),
            };
            let bystanders = Bystanders {
                config: Path::new("/w.toml"),
                logs: Vec::new(),
                started: None,
                clock_goes_on,
            };
            let traps = traps(&rule, &nothing_seen(), &bystanders);
            let mut of_file = traps
                .iter()
                .filter(|trap| trap.place == Place::Table("pid_file"));
            let Some(trap) = of_file.next() else {
                return false;
            };
            assert_eq!(
                trap.message,
                "only its PID file says which process it is, and this machine has no clock with a battery: what is written \
                 before its time is set looks older than the boot, and then the process is taken for another"
            );
            let help = "give `command_line` as well, by which it is known whatever the clock says";
            assert_eq!(trap.help, help);
            true
        };
        assert!(is_said(here.join("a.pid"), None, false));
        assert!(!is_said(here.join("a.pid"), None, true));
        assert!(!is_said(here.join("a.pid"), Some("^a$"), false));
        assert!(!is_said("/dev/shm/a.pid".into(), None, false));
    }

    #[test]
    fn a_pattern_is_held_against_what_spawn_starts_and_what_quotes_it() {
        let none = "matches no process now";
        for (pattern, command, expected) in [
            // begins at the beginning: nobody else has it
            (
                "^python3 main\\.py$",
                &["python3", "main.py"][..],
                &[none][..],
            ),
            ("^python3 \\./main\\.py$", &["./main.py"], &[none]),
            // the program inside of a multiplexer, a container or a shell is the service, and they are not
            (
                "^python3 main\\.py",
                &["tmux", "new", "-d", "python3 main.py"],
                &["nor what `spawn` starts: `tmux new"],
            ),
            (
                "python3 .*main\\.py",
                &["tmux", "new", "-d", "python3 main.py"],
                &[none],
            ),
            ("python3 main\\.py", &["python3", "main.py"], &[none]),
            // one that names the host, and one that is not quoted for want of a blank
            (
                "tmux.*main\\.py",
                &["python3", "main.py"],
                &[
                    "nor what `spawn` starts: `python3 main.py`",
                    "also matches `tmux new-session -d 'python3 main.py'`",
                ],
            ),
            (
                "main\\.py",
                &["./main.py"],
                &[none, "also matches `sh -c ./main.py`"],
            ),
            (
                "worker",
                &["worker"],
                &[none, "also matches `sh -c worker`"],
            ),
            (
                "docker.* python3",
                &["python3", "main.py"],
                &[
                    "nor what",
                    "also matches `docker run image python3 main.py`",
                ],
            ),
            // a slip, and a start script
            (
                "^python main\\.py",
                &["python3", "main.py"],
                &["nor what `spawn` starts: `python3 main.py`"],
            ),
            (
                "^java ",
                &["./start.sh"],
                &["nor what `spawn` starts: `python3 ./start.sh`"],
            ),
        ] {
            let found = said(pattern, command);
            assert_eq!(found.len(), expected.len(), "{pattern}: {found:?}");
            for (message, part) in found.iter().zip(expected) {
                assert!(message.contains(part), "{pattern}: {message}");
            }
        }
    }
}
