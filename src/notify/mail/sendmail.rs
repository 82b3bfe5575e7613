//! A program that takes a message on its standard input, as sendmail does.
//!
//! It may read nothing, never end, fork, or print without end: [`child::run`] gives it a file for its input and files
//! for its output, and ends its whole process group at the deadline. What it says by its exit status is believed.

use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use lettre::Address;

use super::{Accepted, Envelope};
use crate::child;
use crate::clock::rough;
use crate::notify::Outcome;
use crate::text::{cut, plain};

/// Lines of its output that are told.
const LINES: usize = 5;
/// Variables that a mailer may need; the secrets of the watchdog's own environment are none of its business.
const KEPT: [&str; 8] = [
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR",
];
/// sysexits.h: the recipient is not known, which another attempt soon cannot mend.
const NO_USER: i32 = 67;

/// Hands a message to `command`, for all recipients at once, and where that fails for each on its own, so that
/// one who is refused costs the others nothing.
pub(super) fn deliver(
    command: &Path,
    envelope: &Envelope,
    bytes: &[u8],
    timeout: Duration,
) -> Accepted {
    let deadline = Instant::now() + timeout;
    let together = run(command, envelope, &envelope.to, bytes, timeout);
    if envelope.to.len() < 2 || !together.may_be_one_recipients_fault() {
        return Accepted {
            transport_failed: together.befalls_all(),
            outcomes: vec![together.outcome(); envelope.to.len()],
            message_refused: false,
        };
    }
    let together = together.outcome();
    let alone = |to: &Address| {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return together.clone();
        }
        let to = std::slice::from_ref(to);
        run(command, envelope, to, bytes, left).outcome()
    };
    Accepted {
        outcomes: envelope.to.iter().map(alone).collect(),
        transport_failed: false,
        message_refused: false,
    }
}

/// How one run of the command went.
enum Attempt {
    Taken,
    /// It ended by itself and said no.
    Failed {
        code: Option<i32>,
        why: String,
    },
    /// It could not be started, or was ended.
    Stuck {
        why: String,
        maybe_delivered: bool,
    },
}

impl Attempt {
    /// Whether fewer recipients may fare better. Wrong usage, the system's own troubles, "for now" and a wrong
    /// config befall all alike.
    fn may_be_one_recipients_fault(&self) -> bool {
        matches!(self, Self::Failed { code: Some(code), .. } if !matches!(code, 64 | 71..=75 | 78))
    }

    /// Whether another message would fare no better now.
    fn befalls_all(&self) -> bool {
        match self {
            Self::Taken => false,
            Self::Failed { .. } => !self.may_be_one_recipients_fault(),
            Self::Stuck { .. } => true,
        }
    }

    fn outcome(self) -> Outcome {
        match self {
            Self::Taken => Outcome::Delivered,
            Self::Failed {
                code: Some(NO_USER),
                why,
            } => Outcome::Refused(why),
            Self::Failed { why, .. } => Outcome::deferred(why),
            Self::Stuck {
                why,
                maybe_delivered,
            } => Outcome::Deferred {
                why,
                maybe_delivered,
            },
        }
    }
}

fn run(
    command: &Path,
    envelope: &Envelope,
    to: &[Address],
    bytes: &[u8],
    limit: Duration,
) -> Attempt {
    let shown = command.display();
    let ended = match child::run(prepare(command, envelope, to), Some(bytes), limit) {
        Ok(ended) => ended,
        Err(error) => {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound => "; is a mailer installed there",
                _ => "",
            };
            return Attempt::Stuck {
                why: format!("{shown}: cannot be run: {}{hint}", plain(&error)),
                maybe_delivered: false,
            };
        }
    };
    let said = said(&ended);
    match ended.status {
        None => Attempt::Stuck {
            why: format!(
                "{shown}: not done within {}, and killed{said}",
                rough(limit)
            ),
            maybe_delivered: ended.read_all,
        },
        Some(status) if status.success() => Attempt::Taken,
        Some(status) => Attempt::Failed {
            code: status.code(),
            why: format!("{shown}: {}{said}", failure(status)),
        },
    }
}

fn prepare(command: &Path, envelope: &Envelope, to: &[Address]) -> Command {
    let kept = KEPT
        .iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut prepared = Command::new(command);
    prepared
        .arg("-i")
        .arg("-f")
        .arg(&envelope.from)
        .arg("--")
        .args(to.iter().map(ToString::to_string))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .envs(kept);
    prepared
}

fn failure(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exited with {code}{}", meaning(code)),
        None => child::describe_status(status),
    }
}

/// What sysexits.h says of a code, as far as mailers use it.
fn meaning(code: i32) -> &'static str {
    match code {
        64 => " (wrong usage)",
        65 => " (it does not like the message)",
        NO_USER => " (no such recipient)",
        68 => " (no such host)",
        69 => " (a service is not available)",
        73 => " (it cannot write its queue)",
        75 => " (for now)",
        77 => " (no permission)",
        78 => " (its config is wrong)",
        _ => "",
    }
}

/// The last lines of its standard error, or else of its output, as the end of a sentence.
fn said(ended: &child::Ended) -> String {
    for output in [&ended.stderr, &ended.stdout] {
        let lines = child::last_lines(output, LINES);
        if !lines.is_empty() {
            let lines: Vec<String> = lines.iter().map(|line| cut(line.trim(), 200)).collect();
            return format!("; it said: {}", lines.join(" / "));
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use nix::sys::signal::Signal;
    use nix::unistd::Pid;

    use super::*;

    /// Generous for a command that ends by itself, and short for one that never does.
    const LONG: Duration = Duration::from_mins(1);
    const SHORT: Duration = Duration::from_secs(2);

    fn envelope(to: &[&str]) -> Envelope {
        Envelope {
            from: "watchdog@example.org".parse().unwrap(),
            to: to.iter().map(|to| to.parse().unwrap()).collect(),
        }
    }

    /// A mailer of our own; `$OUT` is its directory. Another process writes it: a descriptor of ours that is open for
    /// writing could be in a child that another test is starting, and the kernel would not run the file.
    fn mailer(directory: &Path, script: &str) -> PathBuf {
        let path = directory.join("sendmail");
        let script = format!("#!/bin/sh\nOUT='{}'\n{script}\n", directory.display());
        let written = Command::new("sh")
            .arg("-c")
            .arg(r#"printf %s "$2" > "$1" && chmod 755 "$1""#)
            .args([Path::new("sh"), &path, Path::new(&script)])
            .status();
        assert!(written.unwrap().success());
        path
    }

    fn once(script: &str, timeout: Duration) -> (tempfile::TempDir, Outcome) {
        let directory = tempfile::tempdir().unwrap();
        let path = mailer(directory.path(), script);
        let mut outcomes = deliver(
            &path,
            &envelope(&["ops@example.org"]),
            b"hello\r\n",
            timeout,
        )
        .outcomes;
        assert_eq!(outcomes.len(), 1);
        let outcome = outcomes.remove(0);
        (directory, outcome)
    }

    fn why(directory: &tempfile::TempDir, outcome: &Outcome) -> (String, bool) {
        let Outcome::Deferred {
            why,
            maybe_delivered,
        } = outcome
        else {
            panic!("{outcome:?}");
        };
        let path = directory.path().display().to_string();
        (why.replace(&path, "DIR"), *maybe_delivered)
    }

    #[test]
    fn the_message_arrives_with_its_envelope_and_without_our_environment() {
        let directory = tempfile::tempdir().unwrap();
        let path = mailer(
            directory.path(),
            r#"printf '%s\n' "$@" > "$OUT/args"; env > "$OUT/env"; cat > "$OUT/mail""#,
        );
        let big = [b"0123456789abcde\r\n".repeat(100_000), b".\r\n".to_vec()].concat();
        let outcomes = deliver(&path, &envelope(&["a@x.org", "-b@x.org"]), &big, LONG).outcomes;
        assert_eq!(outcomes, [Outcome::Delivered, Outcome::Delivered]);
        let read = |name: &str| std::fs::read(directory.path().join(name)).unwrap();
        assert_eq!(
            read("args"),
            b"-i\n-f\nwatchdog@example.org\n--\na@x.org\n-b@x.org\n"
        );
        assert_eq!(read("mail"), big);
        // cargo sets this for every test; a variable of the watchdog's own is as good as a secret
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let env = String::from_utf8(read("env")).unwrap();
        assert!(env.contains("PATH=") && !env.contains("CARGO"), "{env}");
    }

    #[test]
    fn a_failure_is_told_with_its_last_words() {
        let (directory, outcome) = once(
            "cat > /dev/null; echo hello; for i in 1 2 3 4 5; do echo line $i >&2; done; printf 'queue\\033 full\\n' >&2; exit 75",
            LONG,
        );
        assert_eq!(
            why(&directory, &outcome),
            (
                "DIR/sendmail: exited with 75 (for now); it said: line 2 / line 3 / line 4 / line 5 / queue\\x1b full".to_owned(),
                false
            )
        );
        let (directory, outcome) = once("cat > /dev/null; echo hello; kill -9 $$", LONG);
        assert_eq!(
            why(&directory, &outcome).0,
            "DIR/sendmail: was ended by signal 9 (SIGKILL); it said: hello"
        );
    }

    #[test]
    fn who_is_refused_costs_the_others_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = mailer(
            directory.path(),
            r#"cat > /dev/null; for a; do case $a in gone@*) echo "no $a" >&2; exit 67;; esac; done; echo "$5" >> "$OUT/got""#,
        );
        let to = envelope(&["a@x.org", "gone@x.org", "b@x.org"]);
        let outcomes = deliver(&path, &to, b"hello\r\n", LONG).outcomes;
        assert_eq!(outcomes[0], Outcome::Delivered);
        let Outcome::Refused(why) = &outcomes[1] else {
            panic!("{outcomes:?}");
        };
        assert!(
            why.ends_with("sendmail: exited with 67 (no such recipient); it said: no gone@x.org"),
            "{why}"
        );
        assert_eq!(outcomes[2], Outcome::Delivered);
        let got = std::fs::read_to_string(directory.path().join("got")).unwrap();
        assert_eq!(got, "a@x.org\nb@x.org\n");
    }

    #[test]
    fn one_that_never_ends_is_killed_with_its_children() {
        let (directory, outcome) = once(
            "sleep 1000 & echo $! > \"$OUT/child\"; echo hm >&2; cat > /dev/null; wait",
            Duration::from_secs(2),
        );
        let (why, maybe) = why(&directory, &outcome);
        assert_eq!(
            why,
            "DIR/sendmail: not done within 2s, and killed; it said: hm"
        );
        assert!(maybe, "it had read all of it");
        let child = std::fs::read_to_string(directory.path().join("child")).unwrap();
        let child: i32 = child.trim().parse().unwrap();
        let deadline = Instant::now() + LONG;
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                break;
            }
            assert!(Instant::now() < deadline, "the child lives on: {stat}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn one_that_never_reads_blocks_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = mailer(directory.path(), "exec sleep 1000");
        let big = vec![b'x'; 1 << 20];
        let outcomes = deliver(&path, &envelope(&["ops@example.org"]), &big, SHORT).outcomes;
        let (why, maybe) = why(&directory, &outcomes[0]);
        assert_eq!(why, "DIR/sendmail: not done within 2s, and killed");
        assert!(!maybe);
    }

    #[test]
    fn a_child_that_holds_the_output_does_not_hold_us() {
        let (directory, outcome) = once(
            "cat > /dev/null; sleep 1000 & echo $! > \"$OUT/child\"; exit 0",
            LONG,
        );
        assert_eq!(outcome, Outcome::Delivered);
        let child = std::fs::read_to_string(directory.path().join("child")).unwrap();
        let child = Pid::from_raw(child.trim().parse().unwrap());
        nix::sys::signal::kill(child, Signal::SIGKILL).unwrap();
    }

    #[test]
    fn output_without_end_is_bounded() {
        let (directory, outcome) = once("cat > /dev/null; exec yes", LONG);
        assert_eq!(
            why(&directory, &outcome).0,
            "DIR/sendmail: was ended by signal 9 (SIGKILL); it said: y / y / y / y / y"
        );
    }

    #[test]
    fn what_cannot_start_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sendmail");
        let try_it = || {
            deliver(&path, &envelope(&["ops@example.org"]), b"x", LONG)
                .outcomes
                .remove(0)
        };
        assert_eq!(
            why(&directory, &try_it()).0,
            "DIR/sendmail: cannot be run: no such file or directory; is a mailer installed there"
        );
        std::fs::write(&path, "").unwrap();
        assert_eq!(
            why(&directory, &try_it()).0,
            "DIR/sendmail: cannot be run: permission denied"
        );
    }
}
