//! The stage of a black-box test: a directory of its own, a config, real programs, and the watchdog run as cron runs it.
//!
//! Whatever is started in a scene has the scene's directory in its command line, as its working directory or in its
//! environment. That is how [`Scene`] finds all of it again when it is dropped, also what the watchdog started and
//! detached, and ends it by PID: no test leaves a process behind. A test that panics tells the whole scene: what was
//! run, the config, the state, the journal, the directory, both streams.

mod builder;
pub(crate) mod hooks;
mod mails;
mod processes;
mod runs;
pub(crate) mod servers;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) use builder::{Service, render};
pub(crate) use mails::Mail;
pub(crate) use processes::{
    Proc, alive, environment, pid_of, processes, signal, status, wait_until,
};
pub(crate) use runs::{Outcome, Running};

/// The stand-in program.
const PROGRAM: &str = include_str!("../prog.sh");

/// The executable under test.
pub(crate) const WATCHDOG: &str = env!("CARGO_BIN_EXE_watchdog");

/// Mail into a directory, which [`Scene::mails`] reads.
pub(crate) const MAIL: &str =
    "[mail]\nfrom = \"w@example.org\"\nto = [\"ops@example.org\"]\ndirectory = \"mails\"\n";

/// A directory with a config, and all that runs in it.
pub(crate) struct Scene {
    dir: PathBuf,
    told: Mutex<String>,
    _temp: TempDir,
}

impl Scene {
    /// An empty directory, 0700, with the stand-in program in it.
    pub(crate) fn new() -> Self {
        let temp = tempfile::Builder::new()
            .prefix("watchdog-it-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .unwrap();
        let dir = temp.path().canonicalize().unwrap();
        fs::write(dir.join("prog.sh"), PROGRAM).unwrap();
        Self {
            dir,
            told: Mutex::default(),
            _temp: temp,
        }
    }

    /// A scene with a config.
    pub(crate) fn with(config: &str) -> Self {
        let scene = Self::new();
        scene.config(config);
        scene
    }

    /// A scene whose config is these services.
    pub(crate) fn of(services: &[&Service]) -> Self {
        Self::with(&render(services))
    }

    /// The path of a file in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The directory, as text.
    pub(crate) fn dir(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    /// Text with the placeholders of this scene filled in: `{dir}`, and `{watchdog}` for the watchdog with its config.
    pub(crate) fn fill(&self, text: &str) -> String {
        text.replace("{dir}", self.dir()).replace(
            "{watchdog}",
            &format!("{WATCHDOG} --config {}/watchdog.toml", self.dir()),
        )
    }

    /// Writes the config, under a line that keeps the state in the directory.
    pub(crate) fn config(&self, text: &str) {
        self.raw_config(&format!("state_dir = \"state\"\n{text}"));
    }

    /// Writes the config as it stands, placeholders aside.
    pub(crate) fn raw_config(&self, text: &str) {
        self.write_private("watchdog.toml", self.fill(text));
    }

    /// Writes a file of mode 0600 in the directory.
    pub(crate) fn write_private(&self, name: &str, text: impl AsRef<[u8]>) {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path(name))
            .unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o600))
            .unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    /// Writes a file in the directory.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Appends to a file in the directory.
    pub(crate) fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path(name))
            .unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    /// A file in the directory as text; empty where it is not there.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read(self.path(name)).map_or(String::new(), |bytes| {
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }

    /// Whether a file is in the directory.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    /// Sets the modification time of a file to this long ago.
    pub(crate) fn age(&self, name: &str, age: Duration) {
        self.set_mtime(name, SystemTime::now() - age);
    }

    /// Sets the modification time of a file.
    pub(crate) fn set_mtime(&self, name: &str, time: SystemTime) {
        let path = self.path(name);
        fs::File::options()
            .append(true)
            .open(path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }

    /// The subcommands that `--help` lists.
    pub(crate) fn commands(&self) -> Vec<String> {
        let help = self.run(&["--help"]).exits(0).stdout;
        help.lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
            .filter(|command| !command.is_empty() && *command != "help")
            .map(str::to_owned)
            .collect()
    }

    fn tell(&self, text: &str) {
        if let Ok(mut told) = self.told.lock() {
            told.push_str(text);
            told.push('\n');
        }
    }

    /// What the watchdog remembers.
    pub(crate) fn state(&self) -> Value {
        let text = self.read("state/state.json");
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("state.json is not JSON: {error}\n{text}"))
    }

    /// Changes what the watchdog remembers.
    pub(crate) fn edit_state(&self, edit: impl FnOnce(&mut Value)) {
        let mut state = self.state();
        edit(&mut state);
        // in place, so that owner and mode stay
        fs::write(self.path("state/state.json"), state.to_string()).unwrap();
    }

    /// Moves all remembered restart attempts of a service.
    pub(crate) fn move_attempts(&self, name: &str, by: chrono::TimeDelta) {
        self.edit_state(|state| {
            let service = state["services"][name].as_object_mut().expect("service");
            let listed = service["attempts"].as_array().expect("attempts").len();
            assert!(listed > 0, "no attempts to move");
            // the last one may be kept beside the list
            for (_, value) in service
                .iter_mut()
                .filter(|(key, _)| key.contains("attempt"))
            {
                let list = match value {
                    Value::Array(list) => list.iter_mut().collect(),
                    single => vec![single],
                };
                for time in list {
                    if time.as_str().is_some_and(|text| text.ends_with('Z')) {
                        *time = (when(time) + by)
                            .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
                            .into();
                    }
                }
            }
        });
    }

    /// The events in the journal.
    pub(crate) fn journal(&self) -> Vec<Value> {
        json_lines(&self.read("state/journal.jsonl"))
    }

    /// The files in the outbox.
    pub(crate) fn outbox(&self) -> usize {
        fs::read_dir(self.path("state/outbox")).map_or(0, Iterator::count)
    }

    /// Every path in the directory with its size, mode, modification time and bytes: to see whether anything changed.
    pub(crate) fn fingerprint(&self) -> BTreeMap<PathBuf, (u64, u32, i128, Vec<u8>)> {
        let mut all = BTreeMap::new();
        walk(&self.dir, &mut |path, meta| {
            let bytes = if meta.is_file() {
                fs::read(path).unwrap_or_default()
            } else {
                Vec::new()
            };
            let time = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
            all.insert(path.to_owned(), (meta.len(), meta.mode(), time, bytes));
        });
        all
    }

    /// A subdirectory that belongs to another user, with the stand-in program in it. Needs root.
    pub(crate) fn lend(&self, name: &str, user: &str) -> PathBuf {
        let user = nix::unistd::User::from_name(user).unwrap().unwrap();
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o755)).unwrap();
        let directory = self.path(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("prog.sh"), PROGRAM).unwrap();
        std::os::unix::fs::chown(&directory, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
            .unwrap();
        directory
    }

    /// A copy of the watchdog that any user can run.
    pub(crate) fn public_watchdog(&self) -> PathBuf {
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o755)).unwrap();
        let copy = self.path("watchdog-copy");
        fs::copy(WATCHDOG, &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        copy
    }

    /// All that a person needs to see why a test failed.
    fn dump(&self) -> String {
        let mut text = String::from("\n===== scene =====\n");
        if let Ok(told) = self.told.lock() {
            text.push_str(&told);
        }
        for name in [
            "watchdog.toml",
            "state/state.json",
            "state/journal.jsonl",
            "state/lock",
        ] {
            let content = cut(&self.read(name), 6000);
            let _ = writeln!(text, "--- {name}\n{content}");
        }
        text.push_str("--- directory\n");
        walk(&self.dir, &mut |path, meta| {
            let _ = writeln!(
                text,
                "{:06o} {:>9} {}",
                meta.mode(),
                meta.len(),
                path.display()
            );
        });
        text.push_str("--- processes\n");
        for process in self.belongings() {
            let _ = writeln!(
                text,
                "{} {} {}",
                process.pid,
                process.state,
                cut(&process.command_line(), 200)
            );
        }
        text
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            eprintln!("{}", self.dump());
        }
        let left = self.clear();
        if !failed {
            assert!(left.is_empty(), "processes left behind: {left:?}");
        }
    }
}

/// The numbers in a text, one a line.
pub(crate) fn numbers(text: &str) -> Vec<i32> {
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// A time in JSON.
#[track_caller]
pub(crate) fn when(value: &Value) -> chrono::DateTime<chrono::Utc> {
    let text = value.as_str().unwrap_or_else(|| panic!("no time: {value}"));
    chrono::DateTime::parse_from_rfc3339(text)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .to_utc()
}

/// A TCP port on loopback that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Whether the tests run as root.
pub(crate) fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The Python that has the packages of tests/run-all: the distribution's, wherever another one comes first in `PATH`.
/// `WATCHDOG_TEST_PYTHON` names another.
pub(crate) fn python() -> Command {
    let of_packages = Path::new("/usr/bin/python3");
    let named = std::env::var_os("WATCHDOG_TEST_PYTHON");
    let found = || of_packages.exists().then(|| of_packages.into());
    Command::new(named.or_else(found).unwrap_or_else(|| "python3".into()))
}

/// Each line as JSON.
#[track_caller]
pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}")))
        .collect()
}

fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let from = text.ceil_char_boundary(text.len() - limit);
    format!("[…]{}", &text[from..])
}

fn walk(directory: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata)) {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    entries.sort();
    for path in entries {
        let Ok(meta) = path.symlink_metadata() else {
            continue;
        };
        visit(&path, &meta);
        if meta.is_dir() {
            walk(&path, visit);
        }
    }
}

#[test]
fn the_harness_ends_all_that_it_started() {
    let scene = Scene::new();
    let plain = scene.start("plain", &["workers=2", "traps=TERM"]);
    let mut forking = scene.start_unreaped("daemon", &["fork=1", "log=daemon.log"], 0);
    forking.wait().unwrap();
    scene.wait_until("the daemon's log", || {
        scene.read("daemon.log").lines().count() > 1
    });
    assert_eq!(scene.copies("plain"), 1);
    assert_eq!(scene.copies("daemon"), 1);
    let daemon = scene.last("daemon");
    let workers = numbers(&scene.read("plain.workers"));
    assert_eq!(workers.len(), 2);
    drop(scene);
    for pid in workers.into_iter().chain([plain, daemon]) {
        assert!(!alive(pid), "{pid}");
    }
}
