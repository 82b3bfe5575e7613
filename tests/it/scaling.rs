//! Replicas by load: what a run counts, decides, records and makes, with an engine and a Compose command of the test's own.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::prometheus::parts::{Part, Prometheus};
use crate::scene::{Mail, Outcome, Scene, free_port, signal};

/// An engine that lists as many containers of `app-worker` as the file `replicas` says. While there is no such file it hangs
/// up.
struct Engine {
    socket: PathBuf,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn answer(mut stream: &UnixStream, replicas: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 2 {
        line.clear();
    }
    let Ok(text) = fs::read_to_string(replicas) else {
        return Ok(());
    };
    let count: u32 = text.trim().parse().unwrap();
    let container = |number: u32| {
        json!({
            "Id": format!("{number:064}"),
            "Names": [format!("/app-worker-{number}")],
            "State": "running",
            "Labels": {
                "com.docker.compose.project": "app",
                "com.docker.compose.service": "worker",
                "com.docker.compose.container-number": number.to_string(),
                "com.docker.compose.oneoff": "False",
            },
        })
    };
    let body = (1..=count).map(container).collect::<Value>().to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

impl Engine {
    fn new(scene: &Scene) -> Self {
        let socket = scene.path("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, replicas) = (Arc::clone(&is_over), scene.path("replicas"));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let _ = answer(&stream, &replicas);
            }
        });
        Self {
            socket,
            is_over,
            thread: Some(thread),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(&self.socket);
        let _ = self.thread.take().unwrap().join();
    }
}

/// It takes the number from its arguments, notes them, and does what the file `compose-does` says.
const COMPOSE: &str = r#"#!/bin/sh
cd {dir}
echo "$@" >>calls
for word; do case $word in worker=*) to=${word#worker=} ;; esac; done
case $(cat compose-does) in
    well) echo $to >replicas.new; mv replicas.new replicas ;;
    nothing) ;;
    fails) echo "no space left on device" >&2; exit 1 ;;
    hangs) echo $to >replicas.new; mv replicas.new replicas; touch begun; exec sleep 60 ;;
esac
"#;

struct Scaled {
    /// Ended before the scene, which its socket is in.
    _engine: Engine,
    scene: Scene,
}

impl Scaled {
    /// Two replicas, of which each is for 100; quick, and with these lines beside.
    fn new(lines: &str) -> Self {
        let scene = Scene::new();
        let engine = Engine::new(&scene);
        scene.write("compose.yml", "services: {}\n");
        let script = scene.fill(COMPOSE);
        scene.write("compose.sh", script);
        fs::set_permissions(scene.path("compose.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        let it = Self {
            scene,
            _engine: engine,
        };
        it.set("replicas", "2");
        it.set("load", "150");
        it.set("compose-does", "well");
        it.configure(lines);
        it
    }

    fn configure(&self, lines: &str) {
        self.scene.config(&format!(
            r#"[containers]
socket = "unix://{{dir}}/engine.sock"
[mail]
from = "w@example.org"
to = ["ops@example.org"]
on = ["scaled", "scale_failed", "at_max", "recovered", "unknown"]
directory = "mails"
[scale.workers]
compose = {{ file = "compose.yml", project = "app", service = "worker" }}
command = ["{{dir}}/compose.sh"]
max = 3
metric = {{ command = ["cat", "{{dir}}/load"] }}
per_replica = 100
start_timeout = "1s"
{lines}
"#
        ));
    }

    fn set(&self, name: &str, text: &str) {
        self.scene.write(name, format!("{text}\n"));
    }

    fn runs(&self) -> u32 {
        self.scene.read("replicas").trim().parse().unwrap()
    }

    fn calls(&self) -> usize {
        if !self.scene.has("calls") {
            return 0;
        }
        self.scene
            .read("calls")
            .lines()
            .filter(|it| it.contains(" up "))
            .count()
    }

    #[track_caller]
    fn check(&self, code: i32, verdict: &str, replicas: u32, desired: u32) -> Value {
        let outcome = self.scene.check().exits(code);
        let scale = scale(&outcome);
        let found = (&scale["verdict"], &scale["replicas"], &scale["desired"]);
        let expected = (&json!(verdict), &json!(replicas), &json!(desired));
        assert_eq!(found, expected, "{scale}");
        scale
    }

    fn events(&self) -> Vec<String> {
        let journal = self.scene.journal();
        let of_scale = journal.iter().filter(|entry| entry["service"] == "workers");
        let events = of_scale.map(|entry| entry["event"].as_str().unwrap().to_owned());
        events.collect()
    }

    fn subjects(&self) -> Vec<String> {
        let mails = self.scene.mails();
        mails.iter().map(Mail::subject).collect()
    }
}

fn scale(outcome: &Outcome) -> Value {
    outcome.json()["scales"][0].clone()
}

const AT_ONCE: &str =
    "up_after = \"0s\"\ndown_after = \"0s\"\ncooldown = \"0s\"\nmax_per_hour = 99";

#[test]
fn what_is_outside_of_the_bounds_waits_for_the_budget_and_for_no_cooldown() {
    let it = Scaled::new("up_after = \"0s\"\nmax_per_hour = 2");
    it.set("load", "201");
    it.check(0, "scaled", 2, 3);
    it.set("replicas", "6");
    it.check(0, "scaled", 6, 3);
    assert_eq!(it.runs(), 3);
    it.set("replicas", "6");
    let held = it.check(0, "steady", 6, 3);
    let note = held["notes"][0].as_str().unwrap();
    assert!(
        note.starts_with("6 replicas run, and 3 at most may (max), so there are to be 3 replicas; 2 of 2 changes in the last hour; the next can be made at "),
        "{held}"
    );
    assert_eq!(it.runs(), 6);
}

#[test]
fn a_dry_run_has_in_its_json_why_it_would_scale() {
    let it = Scaled::new(AT_ONCE);
    it.set("load", "201");
    let dry = it.scene.run(&["check", "--dry-run", "--json"]).exits(0);
    let dry = scale(&dry);
    let expected = json!(["the load, 201, takes 3 replicas of 100, so there are to be 3 replicas"]);
    assert_eq!(
        (&dry["notes"], &dry["desired"]),
        (&expected, &json!(3)),
        "{dry}"
    );
    assert!(dry["action"].is_null());
}

#[test]
fn a_replica_that_is_not_to_run_is_not_broken_in_the_first_run_either() {
    let it = Scaled::new("[service.w3]\ncontainer = { name = \"app-worker-3\" }");
    let outcome = it.scene.check().exits(0).verdict("w3", "healthy");
    let notes = outcome.service("w3")["notes"].to_string();
    assert!(notes.contains("no run has counted the replicas"), "{notes}");
    let outcome = it.scene.check().exits(0).verdict("w3", "healthy");
    let notes = outcome.service("w3")["notes"].to_string();
    assert!(notes.contains("has fewer replicas now"), "{notes}");
}

#[test]
fn replicas_follow_the_load_between_their_bounds() {
    let it = Scaled::new(AT_ONCE);
    let first = it.check(0, "steady", 2, 2);
    assert_eq!(
        (&first["name"], &first["metric"]),
        (&json!("workers"), &json!(150.0))
    );
    assert!(first["action"].is_null());
    it.set("load", "201");
    let up = it.check(0, "scaled", 2, 3);
    let action = &up["action"];
    assert_eq!(
        (&action["kind"], &action["method"], &action["ok"]),
        (&json!("scale"), &json!("compose"), &json!(true))
    );
    assert_eq!((&action["from"], &action["to"]), (&json!(2), &json!(3)));
    assert_eq!(it.runs(), 3);
    let call = it.scene.read("calls");
    let file = it.scene.fill("{dir}/compose.yml");
    let expected = format!(
        "-p app -f {file} up -d --no-recreate --no-deps --no-build --scale worker=3 worker"
    );
    assert!(call.lines().any(|line| line == expected), "{call}");
    it.check(0, "steady", 3, 3);
    it.set("load", "5000");
    it.check(1, "at_max", 3, 3);
    it.set("load", "0");
    it.check(0, "scaled", 3, 2);
    it.check(0, "scaled", 2, 1);
    it.check(0, "steady", 1, 1);
    assert_eq!(
        it.events(),
        [
            "scaling", "scaled", "at_max", "scaling", "scaled", "scaling", "scaled"
        ]
    );
    let subjects = it.subjects().join("\n");
    assert_eq!(subjects.matches("workers scaled").count(), 3, "{subjects}");
    assert_eq!(
        subjects.matches("workers at its maximum").count(),
        1,
        "{subjects}"
    );
    // what is shown of it
    let status = it.scene.run(&["status", "--json"]).exits(0).json();
    assert_eq!(status["scales"][0]["replicas"], 1);
    let text = it.scene.run(&["status"]).exits(0).stdout;
    assert!(
        text.starts_with(
            "steady          workers  1 replica, load 0, 3 of 99 changes in the last hour"
        ),
        "{text}"
    );
    let why = it.scene.run(&["why", "workers"]).exits(0).words();
    assert!(why.contains("one replica for each 100"), "{why}");
    assert!(
        why.contains("scaled from 2 to 1 replicas by compose"),
        "{why}"
    );
    let history = it.scene.run(&["history", "workers"]).exits(0).words();
    assert!(
        history.contains("change 1 of 99 in this hour, from 2 to 3 replicas"),
        "{history}"
    );
    assert!(
        history.contains("workers: 3 changes of its replicas"),
        "{history}"
    );
    let metrics = it.scene.run(&["metrics"]).exits(0).stdout;
    for line in [
        "watchdog_scale_replicas{scale=\"workers\"} 1",
        "watchdog_scale_desired_replicas{scale=\"workers\"} 1",
        "watchdog_scale_status{scale=\"workers\",status=\"steady\"} 1",
        "watchdog_scale_changes_total{scale=\"workers\",success=\"true\"} 3",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

#[test]
fn times_and_limits_hold_what_a_load_asks_for() {
    let it = Scaled::new("up_after = \"1h\"");
    it.set("load", "300");
    let waits = it.check(0, "steady", 2, 2);
    let note = waits["notes"].to_string();
    assert!(
        note.contains("which counts from 1h on (up_after)"),
        "{note}"
    );
    // outside of its bounds it is brought inside at once
    it.set("replicas", "7");
    it.check(0, "scaled", 7, 3);
    // and what the load asks for waits
    it.configure("up_after = \"0s\"");
    it.set("replicas", "2");
    let held = it.check(0, "steady", 2, 3);
    let note = held["notes"].to_string();
    assert!(note.contains("(cooldown 5m)"), "{note}");
    assert_eq!((it.calls(), it.runs()), (1, 2));
    it.set("replicas", "8");
    it.configure("cooldown = \"0s\"\nmax_per_hour = 1");
    let spent = it.check(0, "steady", 8, 3);
    let note = spent["notes"].to_string();
    assert!(note.contains("1 of 1 changes in the last hour"), "{note}");
    // which a reset forgets
    let reset = it.scene.run(&["reset", "workers"]).exits(0).stdout;
    assert!(reset.contains("forgot 1 change of its replicas"), "{reset}");
    it.check(0, "scaled", 8, 3);
}

#[test]
fn why_of_a_change_that_is_held_says_that_it_is_due() {
    let it = Scaled::new("up_after = \"1h\"");
    let decided = || {
        let why = it.scene.run(&["why", "workers"]).exits(0).words();
        let (_, decided) = why.split_once("decided: ").unwrap();
        decided.split_once(" limits:").unwrap().0.to_owned()
    };
    let says = |begin: &str| {
        let decided = decided();
        assert!(decided.starts_with(begin), "{begin}\n{decided}");
    };
    it.check(0, "steady", 2, 2);
    assert_eq!(decided(), "nothing has to be changed");
    // it is not the load that asks for it
    it.set("replicas", "7");
    it.check(0, "scaled", 7, 3);
    says("another number of replicas was due, and 3 run now 7 replicas run, and 3 at most may");
    it.configure("up_after = \"0s\"");
    it.set("load", "300");
    it.set("replicas", "2");
    it.check(0, "steady", 2, 3);
    says(
        "a change from 2 to 3 replicas is due, and is not made now \
         the load, 300, takes 3 replicas of 100, so there are to be 3 replicas; the last change was ",
    );
    it.set("replicas", "8");
    let due = "a change from 8 to 3 replicas is due, and is not made now";
    let bounds = "8 replicas run, and 3 at most may (max), so there are to be 3 replicas; ";
    it.configure("cooldown = \"0s\"\nmax_per_hour = 1");
    it.check(0, "steady", 8, 3);
    says(&format!("{due} {bounds}1 of 1 changes in the last hour"));
    it.set("load", "none");
    it.check(3, "unknown", 8, 3);
    says(&format!("{due} the metric could not be read: "));
    it.set("load", "300");
    it.configure("cooldown = \"0s\"\nmax_per_hour = 0");
    it.check(0, "steady", 8, 3);
    says(&format!(
        "{due} {bounds}nothing is changed (max_per_hour = 0)"
    ));
}

#[test]
fn what_could_not_be_seen_changes_nothing() {
    let it = Scaled::new(AT_ONCE);
    it.set("load", "300");
    for (name, text, says) in [
        ("load", "many", "is not one number: `many`"),
        ("load", "", "it printed nothing"),
        ("replicas", "0", "stopped by a person"),
    ] {
        let before = it.scene.read(name);
        it.set(name, text);
        let outcome = it.scene.check().exits(3);
        let seen = scale(&outcome);
        assert_eq!(seen["verdict"], "unknown");
        assert!(seen["notes"].to_string().contains(says), "{seen}");
        it.scene.write(name, before);
    }
    // an engine that does not answer
    fs::rename(it.scene.path("replicas"), it.scene.path("away")).unwrap();
    let seen = scale(&it.scene.check().exits(3));
    assert!(
        seen["replicas"].is_null() && seen["desired"].is_null(),
        "{seen}"
    );
    fs::rename(it.scene.path("away"), it.scene.path("replicas")).unwrap();
    // a state that was lost
    for name in ["state.json", "state.json.bak"] {
        it.scene.write(&format!("state/{name}"), "{");
    }
    let seen = scale(&it.scene.check().exits(3));
    assert!(
        seen["notes"].to_string().contains("the state was lost"),
        "{seen}"
    );
    assert_eq!(it.calls(), 0);
    it.check(0, "scaled", 2, 3);
    // told once, and that it is over
    let subjects = it.subjects().join("\n");
    assert!(subjects.contains("workers unknown"), "{subjects}");
}

#[test]
fn a_change_that_fails_is_told_and_tried_again_while_it_is_wanted() {
    let it = Scaled::new("up_after = \"0s\"\ndown_after = \"0s\"\ncooldown = \"1h\"");
    it.check(0, "steady", 2, 2);
    it.set("load", "300");
    it.set("compose-does", "fails");
    let failed = it.check(2, "scale_failed", 2, 3);
    let error = failed["action"]["error"].as_str().unwrap();
    assert!(
        error.contains("exited with status 1: no space left on device"),
        "{error}"
    );
    assert!(error.contains("2 of 3 replicas run"), "{error}");
    let mail = it.scene.mails().pop().unwrap();
    assert!(
        mail.subject().contains("workers not scaled"),
        "{}",
        mail.subject()
    );
    assert!(mail.body.contains("scale workers 3"), "{}", mail.body);
    // it lasts until the next attempt, and is told once
    let held = it.check(2, "scale_failed", 2, 3);
    assert!(held["action"].is_null());
    assert_eq!((it.calls(), it.subjects().len()), (1, 1));
    // or until it is not wanted any more
    it.set("load", "150");
    it.check(0, "steady", 2, 2);
    let subjects = it.subjects();
    assert!(subjects[1].contains("workers recovered"), "{subjects:?}");
    // a command that says that all is well is not believed
    it.configure(AT_ONCE);
    it.set("load", "300");
    it.set("compose-does", "nothing");
    let failed = it.check(2, "scale_failed", 2, 3);
    let error = failed["action"]["error"].as_str().unwrap();
    assert!(error.ends_with("2 of 3 replicas run"), "{error}");
    it.set("compose-does", "well");
    it.check(0, "scaled", 2, 3);
    it.check(0, "steady", 3, 3);
    let metrics = it.scene.run(&["metrics"]).exits(0).stdout;
    assert!(
        metrics.contains("watchdog_scale_changes_total{scale=\"workers\",success=\"false\"} 2")
    );
}

#[test]
fn a_change_is_recorded_before_it_is_made_and_a_run_that_is_killed_counts() {
    let it = Scaled::new("up_after = \"0s\"\ncooldown = \"0s\"\nmax_per_hour = 2");
    it.check(0, "steady", 2, 2);
    it.set("load", "300");
    it.set("compose-does", "hangs");
    let run = it.scene.begin(it.scene.command(&["check"]));
    it.scene
        .wait_until("the change has begun", || it.scene.has("begun"));
    let state = it.scene.state();
    let recorded = &state["scales"]["workers"]["interrupted"];
    assert_eq!((&recorded["from"], &recorded["to"]), (&json!(2), &json!(3)));
    assert_eq!(it.events(), ["scaling"]);
    signal(run.pid(), Signal::SIGKILL);
    it.scene.end(run);
    it.set("compose-does", "well");
    let next = it.check(0, "steady", 3, 3);
    assert_eq!(next["changes_last_hour"], 1);
    assert_eq!(it.events(), ["scaling", "interrupted"]);
    let told = it.scene.journal().pop().unwrap()["message"].to_string();
    assert!(
        told.contains("from 2 to 3 replicas, and so many run; the change counts"),
        "{told}"
    );
    // it is known from the journal where the state is gone
    for name in ["state.json", "state.json.bak"] {
        fs::remove_file(it.scene.path(&format!("state/{name}"))).unwrap();
    }
    let known = it.check(0, "steady", 3, 3);
    assert_eq!(known["changes_last_hour"], 1);
}

#[test]
fn a_dry_run_says_what_it_would_do_and_touches_nothing() {
    let it = Scaled::new(AT_ONCE);
    it.check(0, "steady", 2, 2);
    it.set("load", "300");
    let before = it.scene.fingerprint();
    let dry = it.scene.run(&["check", "--dry-run"]).exits(0);
    assert!(
        dry.stdout.contains("would be scaled to 3 replicas now"),
        "{}",
        dry.stdout
    );
    assert!(
        dry.stdout.contains("2 of 3 replicas, load 300"),
        "{}",
        dry.stdout
    );
    assert_eq!(it.scene.fingerprint(), before);
    assert_eq!(it.calls(), 0);
}

#[test]
fn a_person_has_so_many_and_can_hold_them() {
    let it = Scaled::new("cooldown = \"1h\"\nmax_per_hour = 1");
    for (number, says) in [
        ("0", "they are then left alone"),
        ("4", "1 to 3 replicas, and not 4"),
    ] {
        let refused = it.scene.run(&["scale", "workers", number]).exits(1);
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }
    it.scene.run(&["scale", "worker", "2"]).exits(64);
    assert_eq!(it.calls(), 0);
    // as often as it takes, cooldown and budget or not
    for number in ["3", "1"] {
        let done = it.scene.run(&["scale", "workers", number]).exits(0);
        assert!(done.stdout.starts_with("scaled "), "{}", done.stdout);
        assert_eq!(it.runs().to_string(), number);
    }
    it.scene.run(&["scale", "workers", "1"]).exits(0);
    assert_eq!(it.calls(), 2);
    let journal = it.scene.journal();
    let first = journal[0]["message"].as_str().unwrap();
    assert!(first.ends_with("from 2 to 3 replicas: by hand"), "{first}");
    // what a run would do now
    it.configure(AT_ONCE);
    it.scene
        .run(&["pause", "workers", "--reason", "deploying"])
        .exits(0);
    let paused = it.scene.check().exits(0);
    let seen = scale(&paused);
    assert_eq!(seen["verdict"], "paused");
    assert!(seen["notes"].to_string().contains("deploying"), "{seen}");
    assert_eq!(it.runs(), 1);
    it.scene.run(&["resume", "work*"]).exits(0);
    it.check(0, "scaled", 1, 2);
    it.set("compose-does", "fails");
    let failed = it.scene.run(&["scale", "workers", "3"]).exits(1);
    assert!(
        failed.stdout.contains("no space left on device"),
        "{}",
        failed.stdout
    );
}

#[test]
fn validate_tells_what_cannot_be_scaled() {
    let it = Scaled::new("");
    let valid = it.scene.run(&["validate"]).exits(0).stdout;
    let words = valid.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("whether it can be scaled is not known"),
        "{words}"
    );
    assert!(
        valid.contains("0 services and 1 scale, no errors"),
        "{valid}"
    );
    it.scene.write(
        "compose.sh",
        "#!/bin/sh\ncat <<'EOF'\n{\"services\":{\"worker\":{\"container_name\":\"one\",\"ports\":[{\"published\":\"8080\",\"target\":80}]}}}\nEOF\n",
    );
    let valid = it.scene.run(&["validate"]).exits(0).stdout;
    let words = valid.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("worker cannot be scaled: it has `container_name: one`"),
        "{words}"
    );
    assert!(
        words.contains("it is published at port 8080 of this machine"),
        "{words}"
    );
    fs::remove_file(it.scene.path("compose.yml")).unwrap();
    let valid = it.scene.run(&["validate"]).exits(0).stdout;
    assert!(valid.contains("there is no file "), "{valid}");
}

/// A real Prometheus answers what is asked of it, and one that is away changes nothing.
#[test]
#[ignore = "needs prometheus and curl"]
fn a_query_of_a_real_prometheus_is_a_load() {
    let it = Scaled::new("");
    let port = free_port();
    let dir = it.scene.dir();
    it.scene.write("prometheus.yml", "global: {}\n");
    let metric = format!("[prometheus]\nurl = \"http://127.0.0.1:{port}\"\n[scale.workers]");
    let config = it
        .scene
        .read("watchdog.toml")
        .replace("[scale.workers]", &metric);
    let config = config.replace(
        &format!("{{ command = [\"cat\", \"{dir}/load\"] }}"),
        "{ prometheus = \"sum(vector(130) + vector(120))\" }",
    );
    assert!(config.contains("prometheus = \"sum"), "{config}");
    it.scene.raw_config(&format!("{config}{AT_ONCE}\n"));
    it.check(3, "unknown", 2, 2);
    let server = Part::begin(Command::new("prometheus").args([
        &format!("--config.file={dir}/prometheus.yml"),
        &format!("--storage.tsdb.path={dir}/tsdb"),
        &format!("--web.listen-address=127.0.0.1:{port}"),
    ]));
    it.scene.wait_until("Prometheus answers", || {
        Prometheus(port).values("vector(1)") == ["1"]
    });
    let scale = it.check(0, "scaled", 2, 3);
    assert_eq!(scale["metric"], 250.0, "{scale}");
    assert_eq!(it.runs(), 3);
    it.check(0, "steady", 3, 3);
    drop(server);
    it.check(3, "unknown", 3, 3);
    assert_eq!(it.calls(), 1);
}
