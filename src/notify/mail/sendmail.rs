//! A program that takes a message on its standard input, as sendmail does.
//!
//! It may read nothing, never end, fork, or print without end, so each of its ends is served by a thread of its
//! own, and its process group is killed at the deadline. Its exit is awaited without reaping it: as long as it is
//! not reaped its number belongs to it, and the kill cannot hit a stranger.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lettre::Address;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::{Envelope, plain};
use crate::clock::exact;
use crate::notify::Outcome;
use crate::notify::text::{cut, visible};

/// What of its output is kept for the error: the last bytes, and of them the last lines.
const OUTPUT: usize = 8 * 1024;
const LINES: usize = 5;
/// How long its output may stay open after its end, by children of its own, before what is there is taken.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long a killed process may take to be gone.
const DYING: Duration = Duration::from_secs(1);
/// Variables that a mailer may need; the secrets of the watchdog's own environment are none of its business.
const KEPT: [&str; 8] = [
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR",
];
/// sysexits.h: the recipient is not known. The one failure that another attempt cannot mend.
const NO_USER: i32 = 67;

/// Hands a message to `command`, for all recipients at once, and where that fails for each on its own, so that
/// one who is refused costs the others nothing.
pub(super) fn deliver(
    command: &Path,
    envelope: &Envelope,
    bytes: &[u8],
    timeout: Duration,
) -> Vec<Outcome> {
    let deadline = Instant::now() + timeout;
    let together = run(command, envelope, &envelope.to, bytes, deadline, timeout);
    if envelope.to.len() < 2 || !together.may_be_one_recipients_fault() {
        return vec![together.outcome(); envelope.to.len()];
    }
    let together = together.outcome();
    let alone = |to: &Address| {
        if Instant::now() >= deadline {
            return together.clone();
        }
        let to = std::slice::from_ref(to);
        run(command, envelope, to, bytes, deadline, timeout).outcome()
    };
    envelope.to.iter().map(alone).collect()
}

/// What was printed to one end, the last of it.
type Output = Arc<Mutex<Vec<u8>>>;

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
    deadline: Instant,
    timeout: Duration,
) -> Attempt {
    let shown = command.display();
    let stuck = |why: String| Attempt::Stuck {
        why,
        maybe_delivered: false,
    };
    let mut child = match start(command, envelope, to) {
        Ok(child) => child,
        Err(error) => {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound => "; is a mailer installed there",
                _ => "",
            };
            return stuck(format!(
                "{shown}: cannot be started: {}{hint}",
                plain(&error)
            ));
        }
    };
    let fed = feed(&mut child, bytes.to_vec());
    let output = [Output::default(), Output::default()];
    let quiet = [
        collect(child.stderr.take(), &output[0]),
        collect(child.stdout.take(), &output[1]),
    ];
    let pid = Pid::from_raw(child.id().cast_signed());
    let ended = watch(pid);
    let left = deadline.saturating_duration_since(Instant::now());
    let Ok(waited) = ended.recv_timeout(left) else {
        let _ = killpg(pid, Signal::SIGKILL);
        if ended.recv_timeout(DYING).is_ok() {
            let _ = child.wait();
        }
        let whole = matches!(fed.try_recv(), Ok(Ok(())));
        return Attempt::Stuck {
            why: format!(
                "{shown}: not done within {}, and killed{}",
                exact(timeout),
                said(&output)
            ),
            maybe_delivered: whole,
        };
    };
    if let Err(errno) = waited {
        return stuck(format!(
            "{shown}: its end cannot be awaited: {}",
            errno.desc()
        ));
    }
    let status = match child.wait() {
        Ok(status) => status,
        Err(error) => return stuck(format!("{shown}: its end is not known: {}", plain(&error))),
    };
    for end in quiet {
        let _ = end.recv_timeout(LAST_WORDS);
    }
    if !status.success() {
        return Attempt::Failed {
            code: status.code(),
            why: format!("{shown}: {}{}", failure(status), said(&output)),
        };
    }
    match fed.recv_timeout(LAST_WORDS) {
        Ok(Ok(())) => Attempt::Taken,
        _ => stuck(format!(
            "{shown}: ended well without having read the whole message{}",
            said(&output)
        )),
    }
}

fn start(command: &Path, envelope: &Envelope, to: &[Address]) -> std::io::Result<Child> {
    let kept = KEPT
        .iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)));
    Command::new(command)
        .arg("-i")
        .arg("-f")
        .arg(&envelope.from)
        .arg("--")
        .args(to.iter().map(ToString::to_string))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .envs(kept)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
}

/// Writes the message from a thread and says how that went: a command that never reads blocks nobody else.
fn feed(child: &mut Child, bytes: Vec<u8>) -> Receiver<std::io::Result<()>> {
    let (tell, told) = mpsc::channel();
    if let Some(mut stdin) = child.stdin.take() {
        std::thread::spawn(move || {
            let written = stdin.write_all(&bytes).and_then(|()| stdin.flush());
            drop(stdin);
            let _ = tell.send(written);
        });
    }
    told
}

/// Reads an output to its end, keeping the last of it, and then says so.
fn collect(stream: Option<impl Read + Send + 'static>, output: &Output) -> Receiver<()> {
    let (tell, told) = mpsc::channel();
    let output = Arc::clone(output);
    if let Some(mut stream) = stream {
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
                output.extend_from_slice(&buffer[..count]);
                let surplus = output.len().saturating_sub(OUTPUT);
                output.drain(..surplus);
            }
            let _ = tell.send(());
        });
    }
    told
}

/// Says when the process has ended, and leaves it to be reaped.
fn watch(pid: Pid) -> Receiver<nix::Result<()>> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        let ended = loop {
            match waitid(Id::Pid(pid), flags) {
                Err(nix::errno::Errno::EINTR) => {}
                ended => break ended.map(|_| ()),
            }
        };
        let _ = tell.send(ended);
    });
    told
}

fn failure(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}{}", meaning(code)),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => status.to_string(),
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
fn said(outputs: &[Output; 2]) -> String {
    for output in outputs {
        let bytes = output.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let last = lines[lines.len().saturating_sub(LINES)..]
            .iter()
            .map(|line| cut(&visible(line.trim()), 200));
        if !lines.is_empty() {
            return format!("; it said: {}", last.collect::<Vec<_>>().join(" / "));
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

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

    /// A mailer of our own; `$OUT` is its folder. Another process writes it: a descriptor of ours that is open for
    /// writing could be in a child that another test is starting, and the kernel would not run the file.
    fn mailer(folder: &Path, script: &str) -> PathBuf {
        let path = folder.join("sendmail");
        let script = format!("#!/bin/sh\nOUT='{}'\n{script}\n", folder.display());
        let written = Command::new("sh")
            .arg("-c")
            .arg(r#"printf %s "$2" > "$1" && chmod 755 "$1""#)
            .args([Path::new("sh"), &path, Path::new(&script)])
            .status();
        assert!(written.unwrap().success());
        path
    }

    fn once(script: &str, timeout: Duration) -> (tempfile::TempDir, Outcome) {
        let folder = tempfile::tempdir().unwrap();
        let path = mailer(folder.path(), script);
        let mut outcomes = deliver(
            &path,
            &envelope(&["ops@example.org"]),
            b"hello\r\n",
            timeout,
        );
        assert_eq!(outcomes.len(), 1);
        let outcome = outcomes.remove(0);
        (folder, outcome)
    }

    fn why(folder: &tempfile::TempDir, outcome: &Outcome) -> (String, bool) {
        let Outcome::Deferred {
            why,
            maybe_delivered,
        } = outcome
        else {
            panic!("{outcome:?}");
        };
        let path = folder.path().display().to_string();
        (why.replace(&path, "DIR"), *maybe_delivered)
    }

    #[test]
    fn the_message_arrives_with_its_envelope_and_without_our_environment() {
        let folder = tempfile::tempdir().unwrap();
        let path = mailer(
            folder.path(),
            r#"printf '%s\n' "$@" > "$OUT/args"; env > "$OUT/env"; cat > "$OUT/mail""#,
        );
        let big = [b"0123456789abcde\r\n".repeat(100_000), b".\r\n".to_vec()].concat();
        let outcomes = deliver(&path, &envelope(&["a@x.org", "-b@x.org"]), &big, LONG);
        assert_eq!(outcomes, [Outcome::Delivered, Outcome::Delivered]);
        let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
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
        let (folder, outcome) = once(
            "cat > /dev/null; echo hello; for i in 1 2 3 4 5; do echo line $i >&2; done; printf 'queue\\033 full\\n' >&2; exit 75",
            LONG,
        );
        assert_eq!(
            why(&folder, &outcome),
            (
                "DIR/sendmail: exited with 75 (for now); it said: line 2 / line 3 / line 4 / line 5 / queue\\x1b full".to_owned(),
                false
            )
        );
        let (folder, outcome) = once("cat > /dev/null; echo hello; kill -9 $$", LONG);
        assert_eq!(
            why(&folder, &outcome).0,
            "DIR/sendmail: was killed by signal 9; it said: hello"
        );
    }

    #[test]
    fn who_is_refused_costs_the_others_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = mailer(
            folder.path(),
            r#"cat > /dev/null; for a; do case $a in gone@*) echo "no $a" >&2; exit 67;; esac; done; echo "$5" >> "$OUT/got""#,
        );
        let to = envelope(&["a@x.org", "gone@x.org", "b@x.org"]);
        let outcomes = deliver(&path, &to, b"hello\r\n", LONG);
        assert_eq!(outcomes[0], Outcome::Delivered);
        let Outcome::Refused(why) = &outcomes[1] else {
            panic!("{outcomes:?}");
        };
        assert!(
            why.ends_with("sendmail: exited with 67 (no such recipient); it said: no gone@x.org"),
            "{why}"
        );
        assert_eq!(outcomes[2], Outcome::Delivered);
        let got = std::fs::read_to_string(folder.path().join("got")).unwrap();
        assert_eq!(got, "a@x.org\nb@x.org\n");
    }

    #[test]
    fn one_that_never_ends_is_killed_with_its_children() {
        let (folder, outcome) = once(
            "sleep 1000 & echo $! > \"$OUT/child\"; echo hm >&2; cat > /dev/null; wait",
            Duration::from_secs(2),
        );
        let (why, maybe) = why(&folder, &outcome);
        assert_eq!(
            why,
            "DIR/sendmail: not done within 2s, and killed; it said: hm"
        );
        assert!(maybe, "it had read all of it");
        let child = std::fs::read_to_string(folder.path().join("child")).unwrap();
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
        let folder = tempfile::tempdir().unwrap();
        let path = mailer(folder.path(), "exec sleep 1000");
        let big = vec![b'x'; 1 << 20];
        let outcomes = deliver(&path, &envelope(&["ops@example.org"]), &big, SHORT);
        let (why, maybe) = why(&folder, &outcomes[0]);
        assert_eq!(why, "DIR/sendmail: not done within 2s, and killed");
        assert!(!maybe);
        let path = mailer(folder.path(), "exec true");
        let outcomes = deliver(&path, &envelope(&["ops@example.org"]), &big, LONG);
        let (why, _) = self::why(&folder, &outcomes[0]);
        assert_eq!(
            why,
            "DIR/sendmail: ended well without having read the whole message"
        );
    }

    #[test]
    fn a_child_that_holds_the_output_does_not_hold_us() {
        let (folder, outcome) = once(
            "cat > /dev/null; sleep 1000 & echo $! > \"$OUT/child\"; exit 0",
            LONG,
        );
        assert_eq!(outcome, Outcome::Delivered);
        let child = std::fs::read_to_string(folder.path().join("child")).unwrap();
        let child = Pid::from_raw(child.trim().parse().unwrap());
        nix::sys::signal::kill(child, Signal::SIGKILL).unwrap();
    }

    #[test]
    fn output_without_end_is_bounded() {
        let (folder, outcome) = once("cat > /dev/null; exec yes", SHORT);
        let (why, _) = why(&folder, &outcome);
        assert!(why.ends_with("it said: y / y / y / y / y"), "{why}");
    }

    #[test]
    fn what_cannot_start_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sendmail");
        let try_it = || deliver(&path, &envelope(&["ops@example.org"]), b"x", LONG).remove(0);
        assert_eq!(
            why(&folder, &try_it()).0,
            "DIR/sendmail: cannot be started: no such file or directory; is a mailer installed there"
        );
        std::fs::write(&path, "").unwrap();
        assert_eq!(
            why(&folder, &try_it()).0,
            "DIR/sendmail: cannot be started: permission denied"
        );
    }
}
