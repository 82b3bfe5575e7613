//! The watchdog and other commands, run to their ends, and what they said.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::processes::{PATIENCE, pid_of};
use super::{Scene, WATCHDOG, json_lines};

impl Scene {
    /// The watchdog with arguments, in the environment that cron would give, less than that even.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(WATCHDOG);
        command
            .arg("--config")
            .arg(self.path("watchdog.toml"))
            .args(args);
        self.clean(&mut command);
        command
    }

    /// A shell that runs a script, placeholders filled in, in the same environment.
    pub(crate) fn shell_command(&self, script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(self.fill(script));
        self.clean(&mut command);
        command
    }

    fn clean(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &self.dir)
            .env("TMPDIR", &self.dir)
            .current_dir(&self.dir)
            .stdin(Stdio::null());
    }

    /// Runs the watchdog to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
        self.finish(self.command(args))
    }

    /// Runs `check --json`.
    pub(crate) fn check(&self) -> Outcome {
        self.run(&["check", "--json"])
    }

    /// Runs a shell script to its end.
    pub(crate) fn shell(&self, script: &str) -> Outcome {
        self.finish(self.shell_command(script))
    }

    /// Starts a command whose end is waited for later.
    pub(crate) fn begin(&self, mut command: Command) -> Running {
        let shown = format!("{command:?}");
        self.tell(&format!("$ {shown} &"));
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
        let stdout = drain(child.stdout.take().unwrap());
        let stderr = drain(child.stderr.take().unwrap());
        Running {
            shown,
            child,
            stdout,
            stderr,
        }
    }

    /// Waits for a command's end, and for both its streams to be closed by all who have them.
    pub(crate) fn end(&self, mut running: Running) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = running.child.try_wait().unwrap() {
                break Some(status);
            }
            if Instant::now() >= deadline {
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        if status.is_none() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
        let (stdout, open_out) = running.stdout.take();
        let (stderr, open_err) = running.stderr.take();
        let code = status.map_or(-1000, |status| {
            status
                .code()
                .unwrap_or_else(|| -status.signal().unwrap_or(999))
        });
        let outcome = Outcome {
            code,
            stdout,
            stderr,
        };
        self.tell(&format!(
            "$ {}\nexit {}\n--- stdout\n{}--- stderr\n{}",
            running.shown, outcome.code, outcome.stdout, outcome.stderr
        ));
        assert!(status.is_some(), "it did not end within {PATIENCE:?}");
        assert!(
            !open_out && !open_err,
            "it ended, but somebody holds its {} open",
            if open_out {
                "standard output"
            } else {
                "standard error"
            }
        );
        outcome
    }

    /// Runs a command to its end.
    pub(crate) fn finish(&self, command: Command) -> Outcome {
        let running = self.begin(command);
        self.end(running)
    }
}

/// A command under way.
pub(crate) struct Running {
    shown: String,
    child: Child,
    stdout: Drain,
    stderr: Drain,
}

impl Running {
    /// Its PID.
    pub(crate) fn pid(&self) -> i32 {
        pid_of(&self.child)
    }
}

/// A stream that is read by a thread, so that a full pipe stops nobody.
struct Drain {
    bytes: Arc<Mutex<Vec<u8>>>,
    closed: mpsc::Receiver<()>,
}

impl Drain {
    /// What came, and whether somebody still holds the other end.
    fn take(self) -> (String, bool) {
        let open = self.closed.recv_timeout(Duration::from_secs(10)).is_err();
        let bytes = self.bytes.lock().unwrap();
        (String::from_utf8_lossy(&bytes).into_owned(), open)
    }
}

fn drain(mut stream: impl Read + Send + 'static) -> Drain {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let (done, closed) = mpsc::channel();
    let sink = Arc::clone(&bytes);
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(count) = stream.read(&mut buffer) {
            if count == 0 {
                break;
            }
            sink.lock().unwrap().extend_from_slice(&buffer[..count]);
        }
        let _ = done.send(());
    });
    Drain { bytes, closed }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The exit code; a signal's number, negative.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Outcome {
    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code");
        self
    }

    /// Asserts that a service got a verdict.
    #[track_caller]
    pub(crate) fn verdict(self, name: &str, verdict: &str) -> Self {
        let service = self.service(name);
        assert_eq!(service["verdict"], verdict, "verdict of {name}: {service}");
        self
    }

    /// Asserts that a service has a finding.
    #[track_caller]
    pub(crate) fn finds(self, name: &str, code: &str) -> Self {
        let codes = self.codes(name);
        assert!(
            codes.iter().any(|c| c == code),
            "{name}: no {code} in {codes:?}"
        );
        self
    }

    /// Asserts that a service was restarted for a finding, and that nothing worse happened to any.
    #[track_caller]
    pub(crate) fn restarted_for(self, name: &str, code: &str) -> Self {
        self.exits(1).verdict(name, "restarted").finds(name, code)
    }

    /// Asserts that a service has no such finding.
    #[track_caller]
    pub(crate) fn lacks(self, name: &str, code: &str) -> Self {
        let codes = self.codes(name);
        assert!(
            !codes.iter().any(|c| c == code),
            "{name}: {code} in {codes:?}"
        );
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON on standard output: {error}\n{self:?}"))
    }

    /// Standard output as JSON, line by line.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        json_lines(&self.stdout)
    }

    /// A service in the JSON.
    #[track_caller]
    pub(crate) fn service(&self, name: &str) -> Value {
        self.json()["services"]
            .as_array()
            .expect("services")
            .iter()
            .find(|service| service["name"] == name)
            .unwrap_or_else(|| panic!("no service {name} in {}", self.stdout))
            .clone()
    }

    /// The codes of a service's findings.
    #[track_caller]
    pub(crate) fn codes(&self, name: &str) -> Vec<String> {
        self.service(name)["findings"]
            .as_array()
            .expect("findings")
            .iter()
            .map(|finding| finding["code"].as_str().expect("code").to_owned())
            .collect()
    }

    /// The severity of a service's finding.
    #[track_caller]
    pub(crate) fn severity(&self, name: &str, code: &str) -> String {
        self.service(name)["findings"]
            .as_array()
            .expect("findings")
            .iter()
            .find(|finding| finding["code"] == code)
            .unwrap_or_else(|| panic!("no {code} in {}", self.stdout))["severity"]
            .as_str()
            .expect("severity")
            .to_owned()
    }

    /// The `action.error` of a service.
    #[track_caller]
    pub(crate) fn error(&self, name: &str) -> String {
        let service = self.service(name);
        service["action"]["error"]
            .as_str()
            .unwrap_or_else(|| panic!("no action.error in {service}"))
            .to_owned()
    }

    /// Standard output with single spaces between its words, wherever its lines are broken.
    pub(crate) fn words(&self) -> String {
        self.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Both streams.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}
