//! Restarts that an engine was asked for and whose end no run saw, and containers whose process is not there.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::Signal;

use crate::containers::Engine;
use crate::scene::{Outcome, Scene, signal};

fn notes(outcome: &Outcome, name: &str) -> String {
    outcome.service(name)["notes"].to_string()
}

/// A field of `/proc/PID/status`.
fn status(pid: i32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.unwrap_or_default()
        .trim_start_matches(':')
        .trim()
        .to_owned()
}

/// The first process of a container gets TERM only where it handles it; while it is frozen, TERM stays pending.
const HEEDS_TERM: &str = "trap 'exit 0' TERM; while :; do sleep 1; done";

/// Whether TERM is in one of the sets of signals of a process.
fn has_term(pid: i32, set: &str) -> bool {
    let signals = u64::from_str_radix(&status(pid, set), 16);
    signals.is_ok_and(|signals| signals & (1 << (Signal::SIGTERM as u32 - 1)) != 0)
}

/// Whether TERM was sent to a frozen process.
fn is_to_stop(pid: i32) -> bool {
    has_term(pid, "ShdPnd")
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn a_restart_that_a_killed_run_ordered_is_awaited_and_not_made_twice() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    engine.run("slow", &[], &["sh", "-c", HEEDS_TERM]);
    let service = "[service.slow]\ncontainer = { name = \"slow\" }\n\
                   restart = { stop_timeout = \"60s\" }\n";
    engine.config(&scene, service);
    scene.check().exits(0).verdict("slow", "healthy");
    let started = || engine.docker(&["inspect", "-f", "{{.State.StartedAt}}", "slow"]);
    let (before, pid) = (started(), engine.pid("slow"));
    scene.wait_until("it heeds TERM", || has_term(pid, "SigCgt"));
    signal(pid, Signal::SIGSTOP);
    let run = scene.begin(scene.command(&["check", "--json"]));
    // a frozen process keeps the engine's TERM until it is killed
    scene.wait_until("the engine stops it", || is_to_stop(pid));
    signal(run.pid(), Signal::SIGKILL);
    scene.end(run);
    let outcome = scene.check();
    let outcome = outcome
        .verdict("slow", "waiting")
        .finds("slow", "process_stopped");
    assert!(outcome.service("slow")["action"].is_null());
    let why = notes(&outcome, "slow");
    assert!(
        why.contains("the run was cut short; it may still be done"),
        "{why}"
    );
    // nor by hand
    let refused = scene.run(&["restart", "slow"]).exits(1);
    assert!(
        refused.stderr.contains("--force does it all the same"),
        "{}",
        refused.stderr
    );
    assert_eq!(started(), before);
    // the engine goes on with what it was asked for
    signal(pid, Signal::SIGKILL);
    scene.wait_until("the engine has restarted it", || {
        started() != before && engine.state("slow") == "running"
    });
    let after = started();
    let outcome = scene.check().exits(0).verdict("slow", "healthy");
    assert_eq!(outcome.service("slow")["restarts_last_hour"], 1);
    assert_eq!(started(), after);
    assert!(scene.state()["services"]["slow"].get("ordered").is_none());
}

#[test]
#[ignore = "needs root, docker.io, docker-compose and busybox-static"]
fn a_service_of_compose_that_is_re_created_is_left_to_compose() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    scene.write(
        "compose.yml",
        format!(
            "version: \"2.4\"\nservices:\n\
             \x20 first: &it {{ image: \"wd:1\", network_mode: none, stop_grace_period: 1s, \
             command: [sh, -c, \"{HEEDS_TERM}\"] }}\n\x20 second: *it\n"
        ),
    );
    let compose = |args: &str| {
        let command = format!(
            "DOCKER_HOST=unix://{}/docker.sock docker-compose -p app -f compose.yml {args}",
            engine.directory
        );
        scene.shell(&command).exits(0);
    };
    let of = |field: &str| engine.docker(&["inspect", "-f", field, "app_second_1"]);
    compose("up -d");
    engine.config(
        &scene,
        "[service.first]\ncontainer = { project = \"app\", service = \"first\" }\n\
         restart = { stop_timeout = \"60s\" }\n\
         [service.second]\ncontainer = { project = \"app\", service = \"second\" }\n\
         depends_on = [\"first\"]\n",
    );
    scene.check().exits(0).verdict("second", "healthy");
    // between two runs
    let before = of("{{.Id}}");
    compose("up -d --force-recreate --no-deps second");
    let outcome = scene.check().exits(0).verdict("second", "healthy");
    assert_eq!(outcome.service("second")["container"]["id"], of("{{.Id}}"));
    assert_ne!(before, of("{{.Id}}"));
    // between the look and the restart, which waits for the one that it depends on
    let frozen = engine.pid("app_first_1");
    signal(frozen, Signal::SIGSTOP);
    signal(engine.pid("app_second_1"), Signal::SIGSTOP);
    let run = scene.begin(scene.command(&["check", "--json"]));
    scene.wait_until("the engine stops the first", || is_to_stop(frozen));
    compose("up -d --force-recreate --no-deps second");
    let started = of("{{.State.StartedAt}}");
    signal(frozen, Signal::SIGKILL);
    let outcome = scene.end(run);
    let outcome = outcome
        .verdict("first", "restarted")
        .verdict("second", "waiting");
    let why = notes(&outcome, "second");
    assert!(why.contains("re-created since it was looked at"), "{why}");
    assert_eq!(of("{{.State.StartedAt}}"), started);
    scene.check().exits(0).verdict("second", "healthy");
    // there is none any more
    compose("rm -sf second");
    let outcome = scene.check().exits(2).verdict("second", "down");
    assert_eq!(outcome.codes("second"), ["container_missing"]);
    assert!(outcome.service("second")["action"].is_null());
    compose("up -d");
    scene.check().exits(0).verdict("second", "healthy");
}

/// Goes on when it is dropped, whatever becomes of the test.
struct Frozen(i32);

impl Drop for Frozen {
    fn drop(&mut self) {
        signal(self.0, Signal::SIGCONT);
    }
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn a_container_whose_process_is_not_there_is_a_ghost() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    engine.run("gateway", &[], &[]);
    let service = "[service.gateway]\ncontainer = { name = \"gateway\" }\n";
    let watched = format!("{service}restart = {{ max_per_hour = 0 }}\n");
    engine.config(&scene, &watched);
    scene.check().exits(0).verdict("gateway", "healthy");
    let pid = engine.pid("gateway");
    // what would notice the end is frozen
    let shim: i32 = status(pid, "PPid").parse().unwrap();
    let frozen = Frozen(shim);
    signal(shim, Signal::SIGSTOP);
    signal(pid, Signal::SIGKILL);
    for _ in 0..2 {
        let outcome = scene.check().exits(2).verdict("gateway", "down");
        assert_eq!(outcome.codes("gateway"), ["container_ghost"]);
        let message = outcome.service("gateway")["findings"][0]["message"].to_string();
        assert!(message.contains(&format!("(PID {pid})")), "{message}");
        assert_eq!(engine.state("gateway"), "running");
    }
    drop(frozen);
    scene.wait_until("the engine has noticed", || {
        engine.state("gateway") == "exited"
    });
    engine.config(&scene, service);
    scene.check().restarted_for("gateway", "container_exited");
}

/// The PIDs that an engine names, and those that an earlier run found, are of another PID namespace then.
#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn no_container_is_a_ghost_in_a_pid_namespace_other_than_that_of_earlier_runs() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    let config = ["first", "second"].map(|name| {
        engine.run(name, &[], &[]);
        format!("[service.{name}]\ncontainer = {{ name = \"{name}\" }}\n")
    });
    engine.config(&scene, &config.concat());
    scene.check().exits(0).verdict("first", "healthy");
    let elsewhere = "unshare --pid --fork --mount-proc {watchdog} check --json";
    for _ in 0..2 {
        let outcome = scene.shell(elsewhere).exits(0);
        assert!(outcome.codes("first").is_empty(), "{}", outcome.stdout);
        let outcome = outcome.verdict("second", "healthy");
        let container = &outcome.service("second")["container"];
        assert!(container["pid_namespace"].is_null(), "{container}");
    }
    scene.check().exits(0).verdict("first", "healthy");
}

/// An engine that never answers a restart: a double, for a real one cannot be made to hang at that point alone. It
/// refuses what a real one refuses.
struct Silent {
    restarts: AtomicUsize,
    is_done: AtomicBool,
}

const ID: &str = "2bb4f39b04599424472aa8e4c4d817c9ced95e23407e4406a590cd59a6503e87";

impl Silent {
    fn serve(self: Arc<Self>, listener: UnixListener) {
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, engine) = (stream.unwrap(), Arc::clone(&self));
                thread::spawn(move || engine.answer(stream));
            }
        });
    }

    fn answer(&self, mut stream: UnixStream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let request = lines.next().and_then(Result::ok).unwrap_or_default();
        while lines
            .next()
            .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
        {}
        let path = format!("/containers/{ID}");
        let (status, body) = match request.split(' ').collect::<Vec<_>>()[..] {
            ["GET", "/containers/json?all=1", _] => (
                "200 OK",
                format!(r#"[{{"Id":"{ID}","Names":["/web"],"Image":"wd:1","State":"running"}}]"#),
            ),
            ["GET", asked, _] if asked == format!("{path}/json") => {
                let (started, health, failures) = if self.is_done.load(Ordering::SeqCst) {
                    ("2026-01-01T10:00:01.5Z", "healthy", 0)
                } else {
                    ("2026-01-01T09:00:00.25Z", "unhealthy", 3)
                };
                let state = format!(
                    r#"{{"Status":"running","Running":true,"Pid":0,"StartedAt":"{started}","Health":{{"Status":"{health}","FailingStreak":{failures}}}}}"#
                );
                (
                    "200 OK",
                    format!(r#"{{"Id":"{ID}","Name":"/web","State":{state}}}"#),
                )
            }
            ["POST", asked, _] if asked == format!("{path}/restart?t=1") => {
                self.restarts.fetch_add(1, Ordering::SeqCst);
                // until the client has gone
                lines.for_each(drop);
                return;
            }
            _ => (
                "404 Not Found",
                r#"{"message":"page not found"}"#.to_owned(),
            ),
        };
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    }
}

#[test]
fn a_restart_that_the_engine_did_not_answer_is_awaited_and_not_made_twice() {
    let scene = Scene::new();
    let engine = Arc::new(Silent {
        restarts: AtomicUsize::new(0),
        is_done: AtomicBool::new(false),
    });
    let listener = UnixListener::bind(scene.path("engine.sock")).unwrap();
    Arc::clone(&engine).serve(listener);
    scene.config(
        "[containers]\nsocket = \"unix://{dir}/engine.sock\"\n\
         [defaults]\nstart_grace = \"0s\"\n\
         restart = { max_per_hour = 9, settle = \"0s\", start_timeout = \"1s\", stop_timeout = \"1s\" }\n\
         [service.web]\ncontainer = { name = \"web\" }\n",
    );
    let outcome = scene.check().exits(2).verdict("web", "restart_failed");
    let error = outcome.error("web");
    assert!(
        error.contains("does not answer") && error.contains("may be restarted all the same"),
        "{error}"
    );
    assert_eq!(outcome.service("web")["restarts_last_hour"], 1);
    for _ in 0..2 {
        let outcome = scene.check().verdict("web", "waiting");
        let why = notes(&outcome, "web");
        assert!(
            why.contains("the engine did not answer in time; it may still be done"),
            "{why}"
        );
        assert_eq!(outcome.service("web")["restarts_last_hour"], 1);
    }
    engine.is_done.store(true, Ordering::SeqCst);
    scene.check().exits(0).verdict("web", "healthy");
    assert_eq!(engine.restarts.load(Ordering::SeqCst), 1);
    assert!(scene.state()["services"]["web"].get("ordered").is_none());
}
