//! What a process was doing is recorded before it is stopped: what tells a deadlock, a hung connection, a full disk and a
//! busy loop, and that none of it holds up a restart.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::scene::{MAIL, Outcome, Scene, Service};

/// A program in Python with a log that is fresh for a minute.
const BOT: &str = r#"
[service.bot]
start_grace = "0s"
spawn = { command = ["/usr/bin/python3", "{dir}/bot.py"], env = { CANARY_TOKEN = "value-of-the-canary" }, stderr = "bot.err" }
restart = { settle = "100ms", stop_timeout = "10s", max_per_hour = 50 }
[[service.bot.log]]
path = "bot.log"
max_age = "1m"
"#;

/// Each restart is told.
const OFTEN: &str = "remind_every = \"1ms\"\n";

/// Runs until it is as it is to be found.
const READY: &str = "
import os, socket, sys, threading, time, resource
def ready():
    with open('ready.new', 'w') as file: file.write(str(os.getpid()))
    os.rename('ready.new', 'ready')
";

/// A scene with this program, started and ready.
fn started(program: &str, config: &str) -> Scene {
    let scene = Scene::with(&format!("{MAIL}{OFTEN}{config}"));
    scene.write("bot.py", format!("{READY}{program}"));
    scene.check().exits(1).verdict("bot", "restarted");
    scene.wait_until("the program", || scene.has("ready"));
    scene.write("bot.log", "tick\n");
    scene
}

/// The PID of the program that is ready.
fn pid(scene: &Scene) -> i32 {
    scene.read("ready").parse().unwrap()
}

/// Waits until all of its threads wait in a function of the kernel whose name has this in it.
fn wait_for_channel(scene: &Scene, channel: &str) {
    let task = PathBuf::from(format!("/proc/{}/task", pid(scene)));
    scene.wait_until(channel, || {
        let threads = fs::read_dir(&task).unwrap().flatten();
        let mut channels = threads.map(|it| fs::read_to_string(it.path().join("wchan")));
        channels.all(|it| it.is_ok_and(|it| it.contains(channel)))
    });
}

/// Makes it look frozen, and checks.
fn restarted(scene: &Scene) -> Recorded {
    scene.age("bot.log", Duration::from_hours(1));
    let outcome = scene.check().restarted_for("bot", "log_stale");
    Recorded::of(scene, &outcome)
}

/// What was recorded of a service `bot`.
struct Recorded {
    path: String,
    text: String,
    facts: Vec<String>,
}

impl Recorded {
    #[track_caller]
    fn of(scene: &Scene, outcome: &Outcome) -> Self {
        let action = &outcome.service("bot")["action"];
        let facts = action["facts"].as_array().cloned().unwrap_or_default();
        let path = action["evidence"].as_str().expect("evidence").to_owned();
        assert!(path.starts_with(&format!("{}/state/evidence/bot-", scene.dir())));
        let meta = fs::metadata(&path).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        assert!(meta.len() <= 1 << 20);
        Self {
            text: fs::read_to_string(&path).unwrap(),
            path,
            facts: (facts.iter())
                .map(|fact| fact.as_str().unwrap().to_owned())
                .collect(),
        }
    }

    /// Asserts that the first fact has all of these in it, that it stands on top of the file, and that the alert, the
    /// journal and `why` tell it.
    #[track_caller]
    fn tells(&self, scene: &Scene, parts: &[&str]) {
        let fact = self.facts.first().expect("a fact");
        for part in parts {
            assert!(fact.contains(part), "{part}: {:?}", self.facts);
        }
        let top = self.text.split("Findings:").next().unwrap();
        assert!(top.contains(&format!("First facts:\n- {fact}\n")), "{top}");
        assert!(self.text.contains("(log_stale)"), "{}", self.text);
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mails = scene.mails();
        let mail = one_line(&mails.last().unwrap().body);
        assert!(mail.contains(fact) && mail.contains(&self.path), "{mail}");
        let why = one_line(&scene.run(&["why", "bot"]).stdout);
        assert!(why.contains(fact) && why.contains(&self.path), "{why}");
        let journal = scene.journal();
        let last = journal
            .iter()
            .rev()
            .find(|entry| entry["event"] == "restarted");
        assert_eq!(last.unwrap()["action"]["evidence"], self.path.as_str());
        let printed = scene.run(&["evidence", "bot", "--last"]).exits(0).stdout;
        assert_eq!(printed, self.text);
    }
}

#[test]
#[ignore = "needs python3"]
fn a_deadlock_is_told_by_all_threads_that_wait_for_a_lock() {
    let scene = started(
        "
a, b = threading.Lock(), threading.Lock()
both = threading.Barrier(2)
def take(one, other):
    with one:
        both.wait()
        with other: pass
for locks in (a, b), (b, a): threading.Thread(target=take, args=locks).start()
ready()
",
        BOT,
    );
    wait_for_channel(&scene, "futex");
    let who = format!("of PID {} (python3)", pid(&scene));
    let recorded = restarted(&scene);
    recorded.tells(&scene, &["all 3 threads", &who, "deadlock"]);
}

#[test]
#[ignore = "needs python3"]
fn a_hung_connection_is_told_by_its_descriptor_its_peer_and_its_queues() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = listener.local_addr().unwrap();
    let scene = started(
        &format!(
            "
client = socket.create_connection(('127.0.0.1', {}))
client.sendall(b'hello')
ready()
client.recv(100)
",
            peer.port()
        ),
        BOT,
    );
    // it is accepted, read, and not answered
    let (mut accepted, _) = listener.accept().unwrap();
    std::io::Read::read_exact(&mut accepted, &mut [0; 5]).unwrap();
    wait_for_channel(&scene, "wait_woken");
    let recorded = restarted(&scene);
    let ours = accepted.peer_addr().unwrap();
    let connection = format!("TCP {ours} -> {peer} ESTABLISHED");
    recorded.tells(
        &scene,
        &[
            "waits in recvfrom for something to read: fd ",
            &connection,
            "0 bytes received and not read, 0 bytes sent and not confirmed",
        ],
    );
    assert!(recorded.text.contains(": socket:["), "{}", recorded.text);
}

#[test]
#[ignore = "needs python3"]
fn a_busy_loop_is_told_by_the_time_it_uses_without_a_system_call() {
    let scene = started("ready()\nwhile True: pass\n", BOT);
    let who = format!("PID {} (python3) computes, in no system call", pid(&scene));
    let recorded = restarted(&scene);
    recorded.tells(&scene, &[&who, "% of a processor"]);
}

#[test]
#[ignore = "needs root and python3"]
fn a_full_disk_is_told_by_the_file_that_is_written() {
    let scene = Scene::with(&format!("{MAIL}{OFTEN}{BOT}"));
    let program = "
try:
    file = open('full/data', 'wb', buffering=0)
    while True: file.write(b'x' * 4096)
except OSError: pass
ready()
time.sleep(1000)
";
    scene.write("bot.py", format!("{READY}{program}"));
    fs::create_dir(scene.path("full")).unwrap();
    let outcome = scene.shell(
        "exec unshare -m /bin/sh -c '
            mount -t tmpfs -o size=256k,mode=700 tmpfs {dir}/full || exit 99
            {watchdog} check -q >/dev/null
            until [ -e {dir}/ready ]; do sleep 0.05; done
            touch -d \"1 hour ago\" {dir}/bot.log
            exec {watchdog} check --json'",
    );
    assert_ne!(outcome.code, 99, "{}", outcome.stderr);
    let outcome = outcome.restarted_for("bot", "log_stale");
    let recorded = Recorded::of(&scene, &outcome);
    let file = format!("the file system of {}/full/data (fd ", scene.dir());
    recorded.tells(&scene, &[&file, ") is full: 0 B of 262 kB are left"]);
}

#[test]
#[ignore = "needs python3"]
fn any_number_of_threads_and_files_stays_bounded() {
    let scene = started(
        "
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
count = min(20000, hard - 100)
files = [os.open('/dev/null', os.O_WRONLY) for _ in range(count)]
threading.stack_size(65536)
lock = threading.Lock()
lock.acquire()
for _ in range(2000): threading.Thread(target=lock.acquire).start()
ready()
lock.acquire()
",
        BOT,
    );
    wait_for_channel(&scene, "futex");
    let open = fs::read_dir(format!("/proc/{}/fd", pid(&scene))).unwrap();
    let open = open.count();
    let recorded = restarted(&scene);
    recorded.tells(&scene, &["all 2001 threads", "deadlock"]);
    let text = &recorded.text;
    assert!(text.contains("2001 x S, futex"), "{text}");
    assert!(
        text.contains(&format!("open files: {open}; 1000 were looked at")),
        "{text}"
    );
    assert!(text.lines().count() < 2000);
}

/// Until a `vfork` has its child, its process is in state D.
#[test]
#[ignore = "needs python3"]
fn a_process_in_state_d_is_recorded_as_it_is() {
    let scene = started(
        "
import ctypes
libc = ctypes.CDLL(None)
ready()
if libc.vfork() == 0: libc.pause()
",
        BOT,
    );
    let stat = format!("/proc/{}/stat", pid(&scene));
    scene.wait_until("it is in state D", || {
        let stat = fs::read_to_string(&stat).unwrap_or_default();
        stat.rsplit_once(')')
            .is_some_and(|(_, rest)| rest.starts_with(" D "))
    });
    let recorded = restarted(&scene);
    recorded.tells(
        &scene,
        &["uninterruptible sleep (state D), in kernel_clone"],
    );
    assert!(recorded.text.contains("    1 x D, "), "{}", recorded.text);
}

#[test]
#[ignore = "needs root and python3"]
fn a_file_system_that_hangs_holds_up_neither_the_record_nor_the_restart() {
    let config =
        format!("check_timeout = \"1s\"\n{BOT}").replace("\"bot.log\"", "\"hung/bot.log\"");
    let scene = Scene::with(&config);
    scene.write("bot.py", format!("{READY}ready()\ntime.sleep(1000)\n"));
    fs::create_dir(scene.path("hung")).unwrap();
    let outcome = scene.shell(
        "exec unshare -m /bin/sh -c '
            exec 8<>/dev/fuse
            {watchdog} check -q >/dev/null
            until [ -e {dir}/ready ]; do sleep 0.05; done
            mount -i -t fuse -o fd=8,rootmode=40000,user_id=0,group_id=0,allow_other none {dir}/hung || exit 99
            kill -STOP $(cat {dir}/ready)
            exec {watchdog} check --json'",
    );
    assert_ne!(outcome.code, 99, "{}", outcome.stderr);
    let outcome = outcome
        .verdict("bot", "restarted")
        .finds("bot", "process_stopped");
    let recorded = Recorded::of(&scene, &outcome);
    assert!(
        recorded
            .text
            .contains("Not complete: the file systems of the open files: no answer within"),
        "{}",
        recorded.text
    );
    assert!(recorded.text.contains("state T (stopped by a signal)"));
}

#[test]
#[ignore = "needs python3"]
fn a_command_that_hangs_is_killed_at_its_limit_and_what_it_said_is_kept() {
    let command = r#"command = ["/bin/sh", "-c", "echo looking at {pid}; cat /proc/{pid}/comm; sleep 1000 & sleep 1000", "{dir}"]"#;
    let config = format!("{BOT}[service.bot.evidence]\n{command}\ntimeout = \"700ms\"\n");
    let scene = started("ready()\ntime.sleep(1000)\n", &config);
    let looks = format!("| looking at {}", pid(&scene));
    let recorded = restarted(&scene);
    for line in [
        "did not end within 700ms, and was killed",
        &looks,
        "| python3",
    ] {
        assert!(recorded.text.contains(line), "{line}\n{}", recorded.text);
    }
    let is_left = |it: &crate::scene::Proc| it.command_line().contains("looking at");
    assert!(!scene.belongings().iter().any(is_left));
}

#[test]
#[ignore = "needs python3"]
fn of_the_environment_only_names_are_recorded() {
    let command = r#"command = ["/bin/sh", "-c", "echo made; exit 3"]"#;
    let config = format!("{BOT}[service.bot.evidence]\n{command}\n");
    let scene = started("ready()\ntime.sleep(1000)\n", &config);
    let recorded = restarted(&scene);
    assert!(
        recorded.text.contains(" CANARY_TOKEN "),
        "{}",
        recorded.text
    );
    assert!(
        recorded.text.contains("exited with status 3\n| made"),
        "{}",
        recorded.text
    );
    for file in ["state/journal.jsonl", "state/state.json"] {
        assert!(!scene.read(file).contains("value-of-the-canary"), "{file}");
    }
    assert!(!recorded.text.contains("value-of-the-canary"));
}

#[test]
#[ignore = "needs root"]
fn a_process_of_another_user_is_recorded_too() {
    let scene = Scene::new();
    scene.lend("lent", "nobody");
    scene.config(
        r#"
[service.bot]
working_dir = "lent"
spawn = { command = ["/bin/sh", "{dir}/lent/prog.sh", "bot"], user = "nobody" }
restart = { settle = "100ms", max_per_hour = 50 }
"#,
    );
    scene.check().exits(1).verdict("bot", "restarted");
    scene.wait_until("the program", || scene.has("lent/bot.up"));
    scene.run(&["restart", "bot"]).exits(0);
    let printed = scene.run(&["evidence", "bot", "--last"]).exits(0).stdout;
    for line in [
        "waits in read for something to read: fd ",
        "/lent/bot.fifo",
        "- none: somebody asked for it",
        "    Uid:    65534",
        "    1 x S, read,",
    ] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    assert!(!printed.contains("not readable"), "{printed}");
}

#[test]
#[ignore = "needs root"]
fn what_may_not_be_read_is_said_to_be_so() {
    let scene = Scene::new();
    scene.lend("lent", "nobody");
    let main = scene.start("mine", &[]);
    scene.write(
        "lent/watchdog.toml",
        r#"
state_dir = "state"
[service.bot]
start_grace = "0s"
process = { pid_file = "bot.pid" }
restart = { command = ["/bin/false"], stop_first = false }
[[service.bot.log]]
path = "bot.log"
max_age = "1m"
"#,
    );
    scene.write("lent/bot.pid", format!("{main}\n"));
    scene.write("lent/bot.log", "tick\n");
    scene.age("lent/bot.log", Duration::from_hours(1));
    fs::create_dir(scene.path("lent/state")).unwrap();
    for name in ["lent/state", "lent/watchdog.toml"] {
        std::os::unix::fs::chown(scene.path(name), Some(65534), Some(65534)).unwrap();
    }
    fs::set_permissions(scene.path("lent/state"), fs::Permissions::from_mode(0o700)).unwrap();
    let run = format!(
        "cp {} {{dir}}/lent/it; cd {{dir}}/lent; exec setpriv --reuid 65534 --clear-groups ./it -c watchdog.toml check --json",
        crate::scene::WATCHDOG
    );
    let outcome = scene.shell(&run).exits(2).verdict("bot", "restart_failed");
    let path = outcome.service("bot")["action"]["evidence"]
        .as_str()
        .unwrap()
        .to_owned();
    let text = fs::read_to_string(path).unwrap();
    for line in [
        "  variables: not readable",
        "  open files: not readable (/proc/",
        "permission denied)",
        "system call not readable",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn the_newest_five_are_kept_and_listed() {
    let scene = Scene::of(&[&Service::new("bot"), &Service::new("other")]);
    assert!(
        scene
            .run(&["evidence"])
            .exits(0)
            .stdout
            .contains("nothing is recorded")
    );
    scene.run(&["evidence", "--last"]).exits(1);
    // nothing runs yet, so there is nothing to record
    scene.check().exits(1);
    scene.check().exits(0);
    assert!(!scene.has("state/evidence"));
    let pids: Vec<i32> = (0..7)
        .map(|_| {
            // several in a second
            let pid = scene.last("bot");
            scene.run(&["restart", "bot"]).exits(0);
            pid
        })
        .collect();
    scene.run(&["restart", "other"]).exits(0);
    let list = scene.run(&["evidence"]).exits(0).stdout;
    assert_eq!(list.matches("/state/evidence/bot-").count(), 5, "{list}");
    assert_eq!(list.matches("/state/evidence/other-").count(), 1, "{list}");
    let mode = |name: &str| fs::metadata(scene.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("state/evidence"), 0o700);
    let of_both = scene.run(&["evidence", "o*"]).exits(0).stdout;
    assert!(!of_both.contains("bot-"), "{of_both}");
    let newest = scene.run(&["evidence", "bot", "--last"]).exits(0).stdout;
    assert!(
        newest.contains(&format!("PID {} (sh)", pids[6])),
        "{newest}"
    );
    let nearest = scene.run(&["evidence", "bo"]).exits(64).stderr;
    assert!(nearest.contains("did you mean `bot`?"), "{nearest}");
}

#[test]
fn a_record_that_cannot_be_written_is_a_note_and_no_obstacle() {
    let scene = Scene::of(&[&Service::new("bot")]);
    scene.check().exits(1);
    scene.write("state/evidence", "in the way");
    scene.freeze(scene.last("bot"));
    let outcome = scene.check().restarted_for("bot", "process_stopped");
    let action = &outcome.service("bot")["action"];
    assert!(action.get("evidence").is_none(), "{action}");
    let facts = action["facts"].to_string();
    assert!(facts.contains("could not be recorded in"), "{facts}");
    let why = scene.run(&["why", "bot"]).words();
    assert!(why.contains("could not be recorded in"), "{why}");
}

#[test]
fn nothing_is_recorded_where_that_is_off_or_in_a_dry_run() {
    let scene = Scene::of(&[&Service::new("bot")]);
    scene.check().exits(1);
    scene.freeze(scene.last("bot"));
    let before = scene.fingerprint();
    scene.run(&["check", "--dry-run"]);
    assert!(
        scene.fingerprint() == before,
        "a dry run has written something"
    );
    let config = scene.read("watchdog.toml");
    scene.raw_config(&format!(
        "{config}[defaults]\nevidence = {{ enabled = false }}\n"
    ));
    let outcome = scene.check().restarted_for("bot", "process_stopped");
    assert!(outcome.service("bot")["action"].get("evidence").is_none());
    assert!(!scene.has("state/evidence"));
    scene.raw_config(&format!(
        "{config}[service.bot.evidence]\ntimeout = \"6s\"\n"
    ));
    let refused = scene.check().exits(78).stderr;
    assert!(
        refused.contains("all of the record takes 5s at the most"),
        "{refused}"
    );
}
