//! Boxes: real systems to run the watchdog in, of which nothing is left.
//!
//! A box is on a throw-away overlay of the machine, so everything installed is there, and units, users and files
//! that a test makes in it vanish with it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::scene::{WATCHDOG, wait_until};

/// What a script in a box may take: more than any does on a busy machine.
const SCRIPT_LIMIT: Duration = Duration::from_secs(120);
/// The script that makes the boxes.
const SDBOX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/boxes/sdbox");

/// What comes with the project and is tested as it is shipped.
pub(crate) fn shipped(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// A machine with a real systemd as its PID 1.
pub(crate) struct SystemdBox {
    name: String,
    dir: TempDir,
    told: Mutex<String>,
}

/// How a command in a box ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl SystemdBox {
    /// Boots one, with the watchdog installed in it as /usr/local/bin/watchdog.
    pub(crate) fn boot() -> Self {
        Self::boot_with(&[])
    }

    /// The same with a network of its own, of which it has all ports.
    pub(crate) fn boot_alone() -> Self {
        Self::boot_with(&["--net"])
    }

    fn boot_with(options: &[&str]) -> Self {
        // not in /tmp, which a booting systemd takes for its own
        let dir = tempfile::Builder::new()
            .prefix("wd-")
            .tempdir_in("/var/tmp")
            .unwrap();
        let name = dir.path().file_name().unwrap().to_str().unwrap().to_owned();
        fs::copy(WATCHDOG, dir.path().join("watchdog")).unwrap();
        let it = Self {
            name,
            dir,
            told: Mutex::default(),
        };
        let args = [&["up", &it.name], options, &[it.dir()]].concat();
        let up = Self::sdbox(&args).output().unwrap();
        assert!(up.status.success(), "{up:?}");
        it.sh("install -m 755 {dir}/watchdog /usr/local/bin/watchdog; mkdir -p /etc/watchdog; chmod 755 /etc/watchdog")
            .ok();
        it
    }

    fn sdbox(args: &[&str]) -> Command {
        let mut command = Command::new(SDBOX);
        command.args(args).stdin(Stdio::null());
        command
    }

    /// The directory that is shared with the box.
    pub(crate) fn dir(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a shell script in the box; `{dir}` is the shared directory.
    pub(crate) fn sh(&self, script: &str) -> Ended {
        let script = script.replace("{dir}", self.dir());
        // with a limit, and without waiting for those that the script leaves behind with its output open
        let command = Self::sdbox(&["sh", &self.name, "sh", "-c", &script]);
        let ended = watchdog::child::run(command, None, SCRIPT_LIMIT).unwrap();
        let status = ended
            .status
            .unwrap_or_else(|| panic!("no end within {SCRIPT_LIMIT:?}: {script}"));
        self.ended(&script, status, &ended.stdout, &ended.stderr)
    }

    fn ended(&self, what: &str, status: ExitStatus, stdout: &[u8], stderr: &[u8]) -> Ended {
        let ended = Ended {
            code: status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(stdout).into_owned(),
            stderr: String::from_utf8_lossy(stderr).into_owned(),
        };
        if let Ok(mut told) = self.told.lock() {
            let _ = writeln!(told, "$ {what}\n{ended:?}");
        }
        ended
    }

    /// Runs a program in the box without a shell, in the environment that cron gives.
    pub(crate) fn check(&self) -> Ended {
        self.sh("cd /; env -i PATH=/usr/bin:/bin HOME=/root /usr/local/bin/watchdog check --json")
    }

    /// Writes a file in the box.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let text = text.replace("{dir}", self.dir());
        let transfer = format!("transfer{}", path.replace('/', "-"));
        fs::write(self.path(&transfer), text).unwrap();
        self.sh(&format!(
            "mkdir -p $(dirname {path}) && install -m 644 {{dir}}/{transfer} {path}"
        ))
        .ok();
    }

    /// Installs a unit.
    pub(crate) fn unit(&self, name: &str, text: &str) {
        self.write(&format!("/etc/systemd/system/{name}"), text);
        self.sh("systemctl daemon-reload").ok();
    }

    /// Writes the config that the watchdog finds by itself.
    pub(crate) fn config(&self, text: &str) {
        self.write("/etc/watchdog/watchdog.toml", text);
    }

    /// Puts a sendmail in the box that keeps each message in the shared directory.
    pub(crate) fn catch_mail(&self) {
        self.write(
            "/usr/sbin/sendmail",
            "#!/bin/sh\nf=$(mktemp {dir}/mail.XXXXXX); cat >$f; mv $f $f.eml\n",
        );
        self.sh("chmod 755 /usr/sbin/sendmail").ok();
    }

    /// The messages that were caught.
    pub(crate) fn mails(&self) -> Vec<String> {
        let mut mails: Vec<_> = fs::read_dir(self.dir.path())
            .unwrap()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(".eml"))
            .map(|entry| (entry.metadata().unwrap().modified().unwrap(), entry.path()))
            .collect();
        mails.sort();
        mails
            .into_iter()
            .map(|(_, path)| fs::read_to_string(path).unwrap())
            .collect()
    }

    /// A property of a unit.
    pub(crate) fn show(&self, unit: &str, property: &str) -> String {
        self.sh(&format!(
            "systemctl show --property={property} --value {unit}"
        ))
        .ok()
    }

    /// The PID that the machine knows PID 1 of the box by.
    pub(crate) fn pid_1(&self) -> i32 {
        fs::read_to_string(format!("/run/sdbox/{}/pid", self.name))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    /// Waits for a script to succeed.
    #[track_caller]
    pub(crate) fn wait(&self, script: &str) {
        wait_until(script, || self.sh(script).code == 0);
    }
}

impl Drop for SystemdBox {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.sh("tail -n +1 /etc/watchdog/*; cat /var/lib/watchdog/state.json; systemctl list-units --no-pager --all 'watchdog*'; journalctl --no-pager -n 60");
            eprintln!("{}", self.told.lock().unwrap());
        }
        let down = Self::sdbox(&["down", &self.name]).output().unwrap();
        if !std::thread::panicking() {
            assert!(down.status.success(), "{down:?}");
        }
    }
}

impl Ended {
    /// Asserts success; gives back what was printed, trimmed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout.trim().to_owned()
    }

    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// A service in the JSON.
    #[track_caller]
    pub(crate) fn service(&self, name: &str) -> Value {
        let report: Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        report["services"]
            .as_array()
            .unwrap()
            .iter()
            .find(|service| service["name"] == name)
            .unwrap_or_else(|| panic!("no {name}: {self:?}"))
            .clone()
    }

    /// Asserts the verdict of a service, and that it has these findings and no other.
    #[track_caller]
    pub(crate) fn tells(self, name: &str, verdict: &str, codes: &[&str]) -> Self {
        let service = self.service(name);
        let found: Vec<&str> = service["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| finding["code"].as_str().unwrap())
            .collect();
        assert_eq!(
            (service["verdict"].as_str().unwrap(), &found[..]),
            (verdict, codes),
            "{name}: {self:?}"
        );
        self
    }
}
