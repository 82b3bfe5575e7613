//! The stage of a black-box test: a folder of its own, a config, real programs, and the watchdog run as cron runs it.
//!
//! Whatever is started in a scene has the scene's folder in its command line, as its working folder or in its
//! environment. That is how [`Scene`] finds all of it again when it is dropped, also what the watchdog started and
//! detached, and ends it by PID: no test leaves a process behind. A test that panics tells the whole scene: what was
//! run, the config, the state, the journal, the folder, both streams.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything that is waited for may take: far beyond what it takes, so that only a hang meets it.
const PATIENCE: Duration = Duration::from_mins(1);

/// The stand-in program.
const PROGRAM: &str = include_str!("prog.sh");

/// The executable under test.
pub(crate) const WATCHDOG: &str = env!("CARGO_BIN_EXE_watchdog");

/// Mail into a folder, which [`Scene::mails`] reads.
pub(crate) const MAIL: &str =
    "[mail]\nfrom = \"w@example.org\"\nto = [\"ops@example.org\"]\ndirectory = \"mails\"\n";

/// A folder with a config, and all that runs in it.
pub(crate) struct Scene {
    dir: PathBuf,
    told: Mutex<String>,
    _temp: TempDir,
}

impl Scene {
    /// An empty folder, 0700, with the stand-in program in it.
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

    /// The path of a file in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The folder, as text.
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

    /// Writes the config, under a line that keeps the state in the folder.
    pub(crate) fn config(&self, text: &str) {
        self.raw_config(&format!("state_dir = \"state\"\n{text}"));
    }

    /// Writes the config as it stands, placeholders aside.
    pub(crate) fn raw_config(&self, text: &str) {
        let text = self.fill(text);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path("watchdog.toml"))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Writes a file in the folder.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Appends to a file in the folder.
    pub(crate) fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path(name))
            .unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    /// A file in the folder as text; empty where it is not there.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read(self.path(name)).map_or(String::new(), |bytes| {
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }

    /// Whether a file is in the folder.
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

    fn tell(&self, text: &str) {
        if let Ok(mut told) = self.told.lock() {
            told.push_str(text);
            told.push('\n');
        }
    }

    /// Starts the stand-in program beside the watchdog, leading a group of its own, and waits until it is up.
    /// It is reaped as soon as it ends.
    pub(crate) fn start(&self, name: &str, options: &[&str]) -> i32 {
        self.start_in(name, options, 0)
    }

    /// The same in an existing process group; 0: in its own.
    pub(crate) fn start_in(&self, name: &str, options: &[&str], group: i32) -> i32 {
        let mut child = self.start_unreaped(name, options, group);
        let pid = pid_of(&child);
        std::thread::spawn(move || child.wait());
        self.wait_until(&format!("start of {name}"), || {
            numbers(&self.read(&format!("{name}.up"))).contains(&pid)
        });
        pid
    }

    /// Starts the stand-in program and leaves it to the caller to reap it.
    pub(crate) fn start_unreaped(&self, name: &str, options: &[&str], group: i32) -> Child {
        let options: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        self.start_with(name, &options, group)
    }

    /// Starts the stand-in program with options that may be any bytes.
    pub(crate) fn start_with(&self, name: &str, options: &[&OsStr], group: i32) -> Child {
        Command::new("/bin/sh")
            .arg(self.path("prog.sh"))
            .arg(name)
            .args(options)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(group)
            .spawn()
            .unwrap()
    }

    /// The PIDs of all starts of a program so far.
    pub(crate) fn starts(&self, name: &str) -> Vec<i32> {
        numbers(&self.read(&format!("{name}.starts")))
    }

    /// The PID of the last start of a program.
    pub(crate) fn last(&self, name: &str) -> i32 {
        *self
            .starts(name)
            .last()
            .unwrap_or_else(|| panic!("{name} was never started"))
    }

    /// How many copies of a program live; a parent and its children are one.
    pub(crate) fn copies(&self, name: &str) -> usize {
        let mark = format!("{}/prog.sh {name} ", self.dir());
        let live: Vec<Proc> = processes()
            .into_iter()
            .filter(|p| p.lives() && format!("{} ", p.command_line()).contains(&mark))
            .collect();
        live.iter()
            .filter(|p| !live.iter().any(|other| other.pid == p.parent))
            .count()
    }

    /// Ends a process and waits until nothing of it is left but perhaps a zombie.
    pub(crate) fn kill(&self, pid: i32) {
        signal(pid, Signal::SIGKILL);
        self.wait_until(&format!("end of {pid}"), || !alive(pid));
    }

    /// Ends a process and waits until its PID names nothing any more.
    pub(crate) fn kill_and_reap(&self, pid: i32) {
        signal(pid, Signal::SIGKILL);
        self.wait_until(&format!("reaping of {pid}"), || {
            !Path::new(&format!("/proc/{pid}")).exists()
        });
    }

    /// Stops a process as Ctrl-Z does, and waits until it has stopped.
    pub(crate) fn freeze(&self, pid: i32) {
        signal(pid, Signal::SIGSTOP);
        self.wait_until(&format!("{pid} to stop"), || {
            Proc::of(pid).is_some_and(|p| p.state == 'T')
        });
    }

    /// Waits for something to become true, with a deadline that only a hang meets.
    pub(crate) fn wait_until(&self, what: &str, condition: impl Fn() -> bool) {
        wait_until(&format!("{what} (in {})", self.dir()), condition);
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

    /// The mails in the folder of a `directory = "mails"` transport, oldest first.
    pub(crate) fn mails(&self) -> Vec<Mail> {
        let Ok(entries) = fs::read_dir(self.path("mails")) else {
            return Vec::new();
        };
        let mut files: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter(|entry| entry.path().extension() == Some(OsStr::new("eml")))
            .map(|entry| (entry.metadata().unwrap().modified().unwrap(), entry.path()))
            .collect();
        files.sort();
        files
            .iter()
            .map(|(_, path)| Mail::parse(&String::from_utf8_lossy(&fs::read(path).unwrap())))
            .collect()
    }

    /// The files in the outbox.
    pub(crate) fn outbox(&self) -> usize {
        fs::read_dir(self.path("state/outbox")).map_or(0, Iterator::count)
    }

    /// Every path in the folder with its size, mode, modification time and bytes: to see whether anything changed.
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

    /// A subfolder that belongs to another user, with the stand-in program in it. Needs root.
    pub(crate) fn lend(&self, name: &str, user: &str) -> PathBuf {
        let user = nix::unistd::User::from_name(user).unwrap().unwrap();
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o755)).unwrap();
        let folder = self.path(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("prog.sh"), PROGRAM).unwrap();
        std::os::unix::fs::chown(&folder, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
            .unwrap();
        folder
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
        text.push_str("--- folder\n");
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

    /// The processes of this scene, zombies and this one aside.
    fn belongings(&self) -> Vec<Proc> {
        let mark = self.dir.as_os_str().as_bytes();
        let me = i32::try_from(std::process::id()).unwrap();
        processes()
            .into_iter()
            .filter(|p| p.lives() && p.pid != me && p.mentions(mark))
            .collect()
    }

    fn clear(&self) -> Vec<Proc> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = self.belongings();
            if left.is_empty() || Instant::now() >= deadline {
                return left;
            }
            for process in left {
                // looked at once more: the PID may be another's by now
                if Proc::of(process.pid).is_some_and(|p| p.start == process.start) {
                    signal(process.pid, Signal::SIGKILL);
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
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

/// A service's table in a config, with quick limits and no grace for its logs.
#[derive(Clone)]
pub(crate) struct Service {
    name: String,
    top: BTreeMap<String, String>,
    process: Option<String>,
    spawn: Option<BTreeMap<String, String>>,
    options: Vec<String>,
    restart: BTreeMap<String, String>,
    rest: String,
}

impl Service {
    /// The stand-in program, known by PID file and command line and started by the watchdog.
    pub(crate) fn new(name: &str) -> Self {
        let restart = [
            ("settle", "\"200ms\""),
            ("start_timeout", "\"20s\""),
            ("stop_timeout", "\"20s\""),
            ("max_per_hour", "9"),
        ];
        Self {
            name: name.to_owned(),
            top: pairs(&[("start_grace", "\"0s\"")]),
            process: Some(format!(
                "{{ pid_file = \"{name}.pid\", command_line = '{{dir}}/prog\\.sh {name}( |$)' }}"
            )),
            spawn: Some(BTreeMap::new()),
            options: vec![format!("pid_file={name}.pid")],
            restart: pairs(&restart),
            rest: String::new(),
        }
    }

    /// A service with logs alone.
    pub(crate) fn logs(name: &str) -> Self {
        Self::new(name).known_by(None).watched()
    }

    /// A further option of the program.
    pub(crate) fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// The program without any option, its PID file included.
    pub(crate) fn no_options(mut self) -> Self {
        self.options.clear();
        self
    }

    /// A key of the service itself.
    pub(crate) fn top(mut self, key: &str, value: &str) -> Self {
        self.top.insert(key.to_owned(), value.to_owned());
        self
    }

    /// A key of its restart table.
    pub(crate) fn restart(mut self, key: &str, value: &str) -> Self {
        self.restart.insert(key.to_owned(), value.to_owned());
        self
    }

    /// A key of its spawn table; `command` instead of the stand-in program's.
    pub(crate) fn spawn(mut self, key: &str, value: &str) -> Self {
        self.spawn
            .get_or_insert_default()
            .insert(key.to_owned(), value.to_owned());
        self
    }

    /// Another process table, or none.
    pub(crate) fn known_by(mut self, process: Option<&str>) -> Self {
        self.process = process.map(str::to_owned);
        self
    }

    /// No way to restart it.
    pub(crate) fn watched(mut self) -> Self {
        self.spawn = None;
        self
    }

    /// A `[[log]]` table.
    pub(crate) fn log(mut self, keys: &str) -> Self {
        let _ = write!(self.rest, "[[service.{}.log]]\n{keys}\n", self.name);
        self
    }

    fn render(&self) -> String {
        let mut text = format!("[service.{}]\n", self.name);
        for (key, value) in &self.top {
            let _ = writeln!(text, "{key} = {value}");
        }
        if let Some(process) = &self.process {
            let _ = writeln!(text, "process = {process}");
        }
        if let Some(spawn) = &self.spawn {
            let mut spawn = spawn.clone();
            spawn.entry("command".to_owned()).or_insert_with(|| {
                let mut words = vec![
                    "/bin/sh".to_owned(),
                    "{dir}/prog.sh".to_owned(),
                    self.name.clone(),
                ];
                words.extend(self.options.iter().cloned());
                format!("{words:?}")
            });
            let _ = writeln!(text, "spawn = {{ {} }}", inline(&spawn));
        }
        let _ = writeln!(text, "restart = {{ {} }}", inline(&self.restart));
        text.push_str(&self.rest);
        text
    }
}

/// The tables of several services.
pub(crate) fn render(services: &[&Service]) -> String {
    services.iter().map(|s| s.render()).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn inline(table: &BTreeMap<String, String>) -> String {
    let keys: Vec<String> = table.iter().map(|(k, v)| format!("{k} = {v}")).collect();
    keys.join(", ")
}

/// A process as /proc tells it.
#[derive(Clone, Debug)]
pub(crate) struct Proc {
    /// Its PID.
    pub(crate) pid: i32,
    /// The letter of its state.
    pub(crate) state: char,
    /// Its parent's PID.
    pub(crate) parent: i32,
    /// Its process group.
    pub(crate) group: i32,
    /// Its session.
    pub(crate) session: i32,
    /// Its terminal, 0 for none.
    pub(crate) terminal: i32,
    /// Its niceness.
    pub(crate) nice: i32,
    /// Its start, in ticks since boot.
    pub(crate) start: u64,
    /// Where `/proc` has its facts: that of another thread where the main one has ended before it.
    facts: PathBuf,
    arguments: Vec<u8>,
}

impl Proc {
    /// The process with a PID.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let close = stat.iter().rposition(|&b| b == b')')?;
        let rest = String::from_utf8_lossy(&stat[close + 1..]).into_owned();
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // numbered as in proc(5)
        let field = |number: usize| fields.get(number - 3).copied();
        let state = field(3)?.chars().next()?;
        let mut facts = PathBuf::from(format!("/proc/{pid}"));
        let main_ended = state == 'Z' && field(20)?.parse::<u32>().ok()? > 1;
        if main_ended {
            let mut threads = fs::read_dir(facts.join("task")).ok()?.flatten();
            facts = threads
                .find(|it| it.file_name() != *pid.to_string())?
                .path();
        }
        Some(Self {
            pid,
            state: if main_ended { 'S' } else { state },
            parent: field(4)?.parse().ok()?,
            group: field(5)?.parse().ok()?,
            session: field(6)?.parse().ok()?,
            terminal: field(7)?.parse().ok()?,
            nice: field(19)?.parse().ok()?,
            start: field(22)?.parse().ok()?,
            arguments: fs::read(facts.join("cmdline")).unwrap_or_default(),
            facts,
        })
    }

    /// Whether it runs or could run again.
    pub(crate) fn lives(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Its arguments with spaces between.
    pub(crate) fn command_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.arguments).replace('\0', " ");
        text.trim_end().to_owned()
    }

    fn mentions(&self, mark: &[u8]) -> bool {
        let holds = |bytes: &[u8]| bytes.windows(mark.len()).any(|window| window == mark);
        holds(&self.arguments)
            || fs::read_link(self.facts.join("cwd"))
                .is_ok_and(|cwd| cwd.as_os_str().as_bytes().starts_with(mark))
            || fs::read(self.facts.join("environ")).is_ok_and(|bytes| holds(&bytes))
    }
}

/// All processes.
pub(crate) fn processes() -> Vec<Proc> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Proc::of)
        .collect()
}

/// Whether a process lives; a zombie does not.
pub(crate) fn alive(pid: i32) -> bool {
    Proc::of(pid).is_some_and(|p| p.lives())
}

/// Sends a signal to a process; one that is gone is no failure.
pub(crate) fn signal(pid: i32, signal: Signal) {
    assert!(pid > 1, "a signal to {pid}");
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("{signal} to {pid}: {error}"),
    }
}

/// A line of `/proc/PID/status`, without its name.
pub(crate) fn status(pid: i32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("no {name} in {text}"));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The environment that a process was started with.
pub(crate) fn environment(pid: i32) -> BTreeMap<String, String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap();
    String::from_utf8_lossy(&bytes)
        .split('\0')
        .filter_map(|entry| entry.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Waits for something to become true, with a deadline that only a hang meets.
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The PID of a child.
pub(crate) fn pid_of(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap()
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

fn walk(folder: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata)) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
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

/// A message, decoded.
#[derive(Debug)]
pub(crate) struct Mail {
    headers: Vec<(String, String)>,
    /// The body as its reader sees it.
    pub(crate) body: String,
}

impl Mail {
    /// Parses a message of one plain part.
    pub(crate) fn parse(text: &str) -> Self {
        let text = text.replace("\r\n", "\n");
        let (head, body) = text
            .split_once("\n\n")
            .unwrap_or_else(|| panic!("no end of headers in {text}"));
        let unfolded = head.replace("\n ", " ").replace("\n\t", " ");
        let headers: Vec<(String, String)> = unfolded
            .lines()
            .map(|line| {
                let (name, value) = line
                    .split_once(':')
                    .unwrap_or_else(|| panic!("no header: {line}"));
                (name.to_ascii_lowercase(), decode_words(value.trim()))
            })
            .collect();
        let mut mail = Self {
            headers,
            body: String::new(),
        };
        mail.body = match mail
            .header("Content-Transfer-Encoding")
            .unwrap_or_default()
            .to_ascii_lowercase()
            .as_str()
        {
            "base64" => String::from_utf8_lossy(&base64(body)).into_owned(),
            "quoted-printable" => {
                String::from_utf8_lossy(&quoted(&body.replace("=\n", ""), false)).into_owned()
            }
            _ => body.to_owned(),
        }
        .replace("\r\n", "\n");
        mail
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let name = name.to_ascii_lowercase();
        let found = self.headers.iter().find(|(key, _)| *key == name)?;
        Some(found.1.clone())
    }

    /// The subject.
    pub(crate) fn subject(&self) -> String {
        self.header("Subject").expect("a subject")
    }
}

fn decode_words(value: &str) -> String {
    let mut text = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("=?") {
        let mut parts = after.splitn(4, '?');
        let (Some(_), Some(kind), Some(data), Some(tail)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            break;
        };
        // white space between two encoded words is not part of the text
        if !before.trim().is_empty() || text.is_empty() {
            text.push_str(before);
        }
        let bytes = if kind.eq_ignore_ascii_case("b") {
            base64(data)
        } else {
            quoted(data, true)
        };
        text.push_str(&String::from_utf8_lossy(&bytes));
        rest = tail.strip_prefix('=').unwrap_or(tail);
    }
    text.push_str(rest);
    text
}

fn base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    bytes
}

fn quoted(text: &str, in_header: bool) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        match (bytes[at], hex) {
            (b'=', Some(byte)) => {
                decoded.push(byte);
                at += 2;
            }
            (b'_', _) if in_header => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    decoded
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

#[test]
fn the_harness_reads_mails() {
    let mail = Mail::parse(
        "Subject: =?utf-8?B?w6Q=?= =?utf-8?Q?b_c?=\r\nX-Long: a\r\n b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\na=C3=A4 =\r\nb\r\n",
    );
    assert_eq!(mail.subject(), "äb c");
    assert_eq!(mail.header("x-long").unwrap(), "a b");
    assert_eq!(mail.body, "aä b\n");
}
