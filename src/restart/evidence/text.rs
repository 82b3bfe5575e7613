//! The record as text: the first facts on top, then all that was seen. Pure, and bounded.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use super::call::Call;
use super::seen::{Process, Seen, Thread};
use super::{Request, SIZE_LIMIT};
use crate::amount::rough_bytes;
use crate::check::Severity;
use crate::clock::{rough, stamp};
use crate::text::{printable, visible};

/// So many threads of a process have a line of their own.
const THREADS: usize = 200;

/// So many open files of a process have a line of their own.
const FILES: usize = 500;

/// So much of what the log and the command say, in bytes.
const QUOTED: usize = 1000;

/// What came of the command.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// The command.
    pub(super) command: Vec<String>,
    /// How it ended, as a sentence.
    pub(super) end: String,
    /// The beginning of its standard output.
    pub(super) stdout: Vec<u8>,
    /// The end of its standard error.
    pub(super) stderr: Vec<u8>,
}

/// A text of so many bytes at the most.
#[derive(Default)]
struct Bounded {
    text: String,
    is_full: bool,
}

impl Bounded {
    const END: &'static str = "(there is more; a record has 1 MiB at the most)\n";

    fn line(&mut self, indent: usize, line: &str) {
        if self.is_full {
            return;
        }
        let needs = indent + line.len() + 1 + Self::END.len();
        if self.text.len() + needs > SIZE_LIMIT {
            self.is_full = true;
            self.text.push_str(Self::END);
            return;
        }
        let _ = writeln!(self.text, "{:indent$}{line}", "");
    }

    fn heading(&mut self, heading: &str) {
        self.line(0, "");
        self.line(0, heading);
    }
}

/// The whole text.
pub(super) fn text(
    service: &str,
    time: DateTime<Utc>,
    request: &Request,
    facts: &[String],
    seen: &Seen,
    said: Option<&Said>,
) -> String {
    let mut text = Bounded::default();
    text.line(
        0,
        &format!(
            "{service}: what was running of it at {}, before it was stopped",
            stamp(time)
        ),
    );
    text.heading("First facts:");
    for fact in facts {
        text.line(0, &format!("- {}", visible(fact)));
    }
    if facts.is_empty() {
        text.line(
            0,
            "- no sign of a deadlock, a peer that does not answer, a full disk or a busy loop",
        );
    }
    text.heading("Findings:");
    for finding in &request.findings {
        let severity = match finding.severity {
            Severity::Critical => "critical",
            Severity::Unknown => "unknown",
            Severity::Warning => "warning",
        };
        let message = visible(&finding.message);
        text.line(0, &format!("- {severity}: {message} ({})", finding.code));
    }
    if request.findings.is_empty() {
        text.line(0, "- none: somebody asked for it");
    }
    if !request.figures.is_empty() {
        text.heading("As its checks saw it in this run (cpu_percent: since the last run):");
        for (name, value) in &request.figures {
            text.line(0, &format!("- {name}: {value}"));
        }
    }
    for trouble in &seen.troubles {
        text.line(0, "");
        text.line(0, &format!("Not complete: {}", visible(trouble)));
    }
    for process in &seen.processes {
        add_process(&mut text, process);
    }
    if seen.left_out > 0 {
        let line = format!("{} further processes were not looked at", seen.left_out);
        text.heading(&line);
    }
    text.heading("Last log lines:");
    for line in &request.log_tail {
        text.line(0, &format!("| {}", printable(line.as_bytes(), QUOTED)));
    }
    if request.log_tail.is_empty() {
        text.line(0, "(none were read in this run)");
    }
    if let Some(said) = said {
        let command = visible(&said.command.join(" "));
        text.heading(&format!("{command}: {}", visible(&said.end)));
        add_output(&mut text, &said.stdout);
        if !said.stderr.is_empty() {
            text.line(0, "its standard error:");
            add_output(&mut text, &said.stderr);
        }
    }
    text.text
}

fn add_output(text: &mut Bounded, output: &[u8]) {
    for line in output.split(|&b| b == b'\n') {
        text.line(
            0,
            &format!("| {}", printable(line.trim_ascii_end(), QUOTED)),
        );
    }
}

/// What the letter of a state means.
fn state(letter: char) -> &'static str {
    match letter {
        'R' => "running",
        'S' => "sleeping",
        'D' => "in uninterruptible sleep",
        'T' => "stopped by a signal",
        't' => "traced",
        'Z' => "ended, and not collected",
        'I' => "idle",
        _ => "unknown",
    }
}

fn add_process(text: &mut Bounded, process: &Process) {
    let mut line = format!(
        "PID {} ({}), parent {}: state {} ({})",
        process.pid,
        process.name,
        process.parent,
        process.state,
        state(process.state)
    );
    if let Some(age) = process.age {
        let _ = write!(line, ", started {} ago", rough(age));
    }
    let _ = write!(
        line,
        ", {} of processor time, {} resident, {} threads",
        rough(process.cpu),
        rough_bytes(process.resident),
        process.threads.count
    );
    text.heading(&line);
    let memory = &process.memory;
    for (what, value) in [
        ("command line", &memory.command_line),
        ("program", &memory.program),
        ("working directory", &memory.working_dir),
    ] {
        let value = value.as_deref().unwrap_or("not readable");
        text.line(2, &format!("{what}: {value}"));
    }
    match &memory.variables {
        Some(names) => {
            let count = names.len();
            text.line(2, &format!("variables ({count}): {}", names.join(" ")));
        }
        None => text.line(2, "variables: not readable"),
    }
    add_threads(text, process);
    add_files(text, process);
    for (name, lines) in &process.tables {
        text.line(2, &format!("{name}:"));
        for line in lines {
            text.line(4, line);
        }
    }
}

/// `S, recvfrom, wait_woken`.
fn waits(thread: &Thread) -> String {
    let mut text = format!("{}, {}", thread.state, thread.call.describe());
    if let Some(channel) = &thread.channel {
        let _ = write!(text, ", {channel}");
    }
    text
}

fn add_threads(text: &mut Bounded, process: &Process) {
    let threads = &process.threads;
    let looked_at = threads.each.len();
    if looked_at < threads.count {
        let line = format!("{looked_at} of {} threads were looked at", threads.count);
        text.line(2, &line);
    }
    if let Some(why) = &threads.unreadable {
        text.line(2, &format!("what threads wait in is not readable ({why})"));
    }
    let mut kinds: BTreeMap<String, Vec<&Thread>> = BTreeMap::new();
    for thread in &threads.each {
        kinds.entry(waits(thread)).or_default().push(thread);
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, alike)| std::cmp::Reverse(alike.len()));
    text.line(
        2,
        "threads by what they do (state, system call, wait channel):",
    );
    for (what, alike) in &kinds {
        text.line(4, &format!("{} x {what}", alike.len()));
        let stack = alike.iter().find_map(|thread| thread.stack.as_ref());
        for frame in stack.into_iter().flatten() {
            text.line(8, frame);
        }
    }
    let watched = rough(threads.watched);
    text.line(2, "threads:");
    for thread in threads.each.iter().take(THREADS) {
        let mut line = format!("{} ({}): {}", thread.tid, thread.name, waits(thread));
        if let Call::In {
            arguments: [first, second],
            ..
        } = thread.call
        {
            let _ = write!(line, "({first:#x}, {second:#x}, …)");
        }
        let _ = write!(line, "; {} of processor time", rough(thread.cpu));
        if let Some(used) = thread.used {
            let _ = write!(line, ", {} within {watched}", rough(used));
        }
        text.line(4, &line);
    }
    if looked_at > THREADS {
        text.line(4, &format!("and {} more", looked_at - THREADS));
    }
}

fn add_files(text: &mut Bounded, process: &Process) {
    let files = &process.files;
    if let Some(why) = &files.unreadable {
        text.line(2, &format!("open files: not readable ({why})"));
        return;
    }
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for file in files.each.values() {
        let shown = file.target.to_str().unwrap_or("/");
        let kind = match shown.split(':').next() {
            _ if file.is_path() => "files",
            Some("socket") => "sockets",
            Some("pipe") => "pipes",
            _ => "others",
        };
        *kinds.entry(kind).or_default() += 1;
    }
    let kinds: Vec<String> = kinds
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    let count = match files.count {
        Some(count) => count.to_string(),
        None => format!("more than {}", files.each.len()),
    };
    let looked_at = files.each.len();
    text.line(
        2,
        &format!(
            "open files: {count}; {looked_at} were looked at: {}",
            kinds.join(", ")
        ),
    );
    for (fd, file) in files.each.iter().take(FILES) {
        let written = if file.is_written {
            " (for writing)"
        } else {
            ""
        };
        let mut line = format!("{fd}: {}{written}", file.shown());
        if file.socket().is_some() {
            let _ = write!(line, " {}", files.describe(*fd));
        }
        text.line(4, &line);
    }
    if looked_at > FILES {
        text.line(4, &format!("and {} more", looked_at - FILES));
    }
}

#[cfg(test)]
mod tests {
    use super::super::seen::{Files, Memory, OpenFile, Threads};
    use super::*;
    use crate::fixtures::{at, stale};

    fn request(log_tail: Vec<String>) -> Request {
        Request {
            findings: vec![stale()],
            log_tail,
            ..Request::default()
        }
    }

    fn thread(tid: i32) -> Thread {
        Thread {
            tid,
            name: "worker".to_owned(),
            state: 'S',
            channel: Some("futex_do_wait".to_owned()),
            call: Call::parse("202 0x7f 0x189 0x0 0x0 0x0 0x0 0x7ffee2682370 0x7f7a42ca3f16"),
            ..Thread::default()
        }
    }

    fn process(threads: i32, files: u64) -> Process {
        let file = |fd| {
            let target = format!("/srv/{fd}").into();
            let is_written = fd % 2 == 0;
            (fd, OpenFile { target, is_written })
        };
        Process {
            pid: 7,
            name: "bot".to_owned(),
            state: 'S',
            threads: Threads {
                count: 20_000,
                each: (7..7 + threads).map(thread).collect(),
                ..Threads::default()
            },
            files: Files {
                count: Some(1_000_000),
                each: (0..files).map(file).collect(),
                ..Files::default()
            },
            tables: vec![("cgroup", vec!["0::/x.slice".to_owned()])],
            memory: Memory {
                variables: Some(vec!["PATH".to_owned()]),
                ..Memory::default()
            },
            ..Process::default()
        }
    }

    #[test]
    fn the_first_facts_stand_on_top_and_nothing_steers_a_terminal() {
        let seen = Seen {
            processes: vec![process(2, 3)],
            troubles: vec!["a part\x1b was not read".to_owned()],
            ..Seen::default()
        };
        let said = Said {
            command: vec!["py-spy".to_owned(), "dump".to_owned()],
            end: "exited with status 1".to_owned(),
            stdout: b"Thread 1\x1b[2J\n".to_vec(),
            stderr: b"no\n".to_vec(),
        };
        let request = request(vec!["tick\x07".to_owned()]);
        let facts = ["all 2 threads wait".to_owned()];
        let text = text("bot", at(0), &request, &facts, &seen, Some(&said));
        assert!(
            text.starts_with(
                "bot: what was running of it at 2027-01-15T08:00:00Z, before it was stopped\n\nFirst facts:\n- all 2 threads wait\n\nFindings:\n- critical: logs/trader.log"
            ),
            "{text}"
        );
        for line in [
            "PID 7 (bot), parent 0: state S (sleeping), 0ms of processor time, 0 B resident, 20000 threads",
            "  2 of 20000 threads were looked at",
            "    2 x S, futex, futex_do_wait",
            "    7 (worker): S, futex, futex_do_wait(0x7f, 0x189, …); 0ms of processor time",
            "  open files: 1000000; 3 were looked at: 3 files",
            "    2: /srv/2 (for writing)",
            "    0::/x.slice",
            "  variables (1): PATH",
            "Not complete: a part\\x1b was not read",
            "| tick\\x07",
            "py-spy dump: exited with status 1",
            "| Thread 1\\x1b[2J",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
    }

    #[test]
    fn it_has_a_mebibyte_at_the_most() {
        let seen = Seen {
            processes: (0..32).map(|_| process(10_000, 1000)).collect(),
            ..Seen::default()
        };
        let said = Said {
            stdout: vec![b'x'; 3 << 20],
            ..Said::default()
        };
        let lines = vec!["é".repeat(2000); 2000];
        let text = text("bot", at(0), &request(lines), &[], &seen, Some(&said));
        assert!(text.len() <= SIZE_LIMIT && text.len() > SIZE_LIMIT / 2);
        assert!(text.ends_with(Bounded::END));
        let short = super::text(
            "bot",
            at(0),
            &request(Vec::new()),
            &[],
            &Seen::default(),
            None,
        );
        assert!(!short.contains("there is more"), "{short}");
    }
}
