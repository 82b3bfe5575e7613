//! The same scenes with Docker and with Podman: what each state of a container is found to be, and what is done.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use watchdog::child::Ended;

use crate::containers::{Engine as Docker, succeeded};
use crate::scene::{Scene, signal};

/// An engine, ended with its containers when it is dropped.
enum Engine {
    Docker(Docker),
    Podman(String),
}

fn run_podman(verb: &str, directory: &str, args: &[&str]) -> Ended {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/engines/podman");
    let mut command = Command::new(script);
    command.args([verb, directory]).args(args);
    watchdog::child::run(command, None, Duration::from_mins(2)).unwrap()
}

fn podman(verb: &str, directory: &str, args: &[&str]) -> String {
    let ended = run_podman(verb, directory, args);
    succeeded(&format!("{verb} {args:?}"), &ended);
    String::from_utf8(ended.stdout).unwrap().trim().to_owned()
}

impl Engine {
    fn podman(scene: &Scene, is_rootless: bool) -> Self {
        // outside of the scene, whose processes are looked for by its path
        let name = scene.dir().rsplit('-').next().unwrap();
        let engine = Self::Podman(format!("/tmp/engine-{name}"));
        if is_rootless {
            podman("rootless", engine.directory(), &[]);
        }
        podman("up", engine.directory(), &[]);
        podman("image", engine.directory(), &[]);
        engine
    }

    fn directory(&self) -> &str {
        match self {
            Self::Docker(docker) => &docker.directory,
            Self::Podman(directory) => directory,
        }
    }

    fn cli(&self, args: &[&str]) -> String {
        match self {
            Self::Docker(docker) => docker.docker(args),
            Self::Podman(directory) => podman("cli", directory, args),
        }
    }

    /// All that a container has written to both of its streams.
    fn logs(&self, name: &str) -> String {
        match self {
            Self::Docker(docker) => docker.logs(name),
            Self::Podman(directory) => {
                let ended = run_podman("cli", directory, &["logs", name]);
                succeeded("logs", &ended);
                String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap()
            }
        }
    }

    fn inspect(&self, name: &str, field: &str) -> String {
        let format = format!("{{{{.{field}}}}}");
        self.cli(&["inspect", "--format", &format, name])
    }

    fn pid(&self, name: &str) -> i32 {
        self.inspect(name, "State.Pid").parse().unwrap()
    }

    fn state(&self, name: &str) -> String {
        self.inspect(name, "State.Status")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Self::Podman(directory) = self {
            let ended = run_podman("down", directory, &[]);
            // a second panic would end all tests
            if !std::thread::panicking() {
                succeeded("down", &ended);
            }
        }
    }
}

/// What is done to a container once it was run.
enum Then {
    Nothing,
    Ends,
    RunsOutOfMemory,
    Signal(Signal),
    Pause,
    FailItsCheck,
}

struct Row {
    name: &'static str,
    more: &'static [&'static str],
    command: &'static [&'static str],
    then: Then,
    verdict: &'static str,
    code: Option<&'static str>,
    /// What the finding says.
    says: &'static str,
}

const HEALTH: &[&str] = &[
    "--health-cmd",
    "false",
    "--health-interval",
    "300ms",
    "--health-retries",
    "2",
];

const TABLE: &[Row] = &[
    Row {
        name: "well",
        more: &[],
        command: &[],
        then: Then::Nothing,
        verdict: "healthy",
        code: None,
        says: "",
    },
    Row {
        name: "ended-0",
        more: &[],
        command: &["true"],
        then: Then::Ends,
        verdict: "down",
        code: Some("container_exited"),
        says: "exited with code 0",
    },
    Row {
        name: "ended-1",
        more: &[],
        command: &["false"],
        then: Then::Ends,
        verdict: "down",
        code: Some("container_exited"),
        says: "exited with code 1",
    },
    Row {
        name: "killed",
        more: &[],
        command: &[],
        then: Then::Signal(Signal::SIGKILL),
        verdict: "down",
        code: Some("container_exited"),
        says: "exited with code 137",
    },
    Row {
        name: "greedy",
        more: &["--memory", "16m", "--memory-swap", "16m"],
        command: &["sh", "-c", "x=a; while :; do x=$x$x; done"],
        then: Then::RunsOutOfMemory,
        verdict: "down",
        code: Some("container_exited"),
        says: "exited with code 137",
    },
    Row {
        name: "frozen",
        more: &[],
        command: &[],
        then: Then::Signal(Signal::SIGSTOP),
        verdict: "down",
        code: Some("process_stopped"),
        says: "",
    },
    Row {
        name: "paused",
        more: &[],
        command: &[],
        then: Then::Pause,
        verdict: "degraded",
        code: Some("container_paused"),
        says: "unpause paused",
    },
    Row {
        name: "unhealthy",
        more: HEALTH,
        command: &[],
        then: Then::FailItsCheck,
        verdict: "down",
        code: Some("container_unhealthy"),
        says: "HEALTHCHECK has failed",
    },
    Row {
        name: "young",
        more: &[
            "--health-cmd",
            "false",
            "--health-interval",
            "300s",
            "--health-start-period",
            "300s",
        ],
        command: &[],
        then: Then::Nothing,
        verdict: "starting",
        code: None,
        says: "",
    },
    Row {
        name: "task",
        more: &["--label", "com.docker.swarm.task.id=x"],
        command: &["false"],
        then: Then::Ends,
        verdict: "unknown",
        code: Some("container_managed"),
        says: "Docker Swarm",
    },
];

fn make(engine: &Engine, scene: &Scene, row: &Row) {
    let first = ["run", "-d", "--name", row.name, "--network", "none"];
    engine.cli(&[&first[..], row.more, &["wd:1"], row.command].concat());
    let has_ended = || engine.state(row.name) == "exited";
    match row.then {
        Then::Nothing => {}
        Then::Ends => scene.wait_until("it has ended", has_ended),
        // where Docker hears of the end first, it does not say why, and never will
        Then::RunsOutOfMemory => scene.wait_until("the engine has seen why it ended", || {
            if !has_ended() {
                return false;
            }
            let knows_why = matches!(engine, Engine::Podman(_))
                || engine.inspect(row.name, "State.OOMKilled") == "true";
            if !knows_why {
                engine.cli(&["start", row.name]);
            }
            knows_why
        }),
        Then::Signal(sent) => {
            signal(engine.pid(row.name), sent);
            if sent == Signal::SIGKILL {
                scene.wait_until("it has ended", has_ended);
            }
        }
        Then::Pause => {
            engine.cli(&["pause", row.name]);
        }
        Then::FailItsCheck => match engine {
            Engine::Docker(_) => scene.wait_until("it is unhealthy", || {
                engine.inspect(row.name, "State.Health.Status") == "unhealthy"
            }),
            // its timers are systemd's, which there is none of here
            Engine::Podman(directory) => {
                for _ in 0..2 {
                    let failing = format!(
                        "'{}/tests/it/engines/podman' cli '{directory}' healthcheck run {} || true",
                        env!("CARGO_MANIFEST_DIR"),
                        row.name
                    );
                    scene.shell(&failing);
                }
            }
        },
    }
}

fn config(engine: &Engine, names: &[&str], max_per_hour: u32) -> String {
    let tables = names
        .iter()
        .map(|name| format!("[service.{name}]\ncontainer = {{ name = \"{name}\" }}\n"));
    let tables: Vec<String> = tables.collect();
    format!(
        "[containers]\nsocket = \"unix://{}/docker.sock\"\n[defaults]\nstart_grace = \"0s\"\n\
         restart = {{ max_per_hour = {max_per_hour}, settle = \"300ms\", start_timeout = \"20s\", stop_timeout = \"1s\" }}\n{}",
        engine.directory(),
        tables.concat()
    )
}

/// What a container writes is judged once, whichever engine keeps it.
fn writes(engine: &Engine, scene: &Scene) {
    let script = "echo begun; echo ERROR one; echo ERROR two >&2; exec sleep 1000000";
    let first = ["run", "-d", "--name", "writer", "--network", "none", "wd:1"];
    engine.cli(&[&first[..], &["sh", "-c", script]].concat());
    // the engine reads each stream by itself
    scene.wait_until("it has written", || {
        engine.logs("writer").matches("ERROR").count() == 2
    });
    let log = "[[service.writer.log]]\ncontainer = true\nexpect = ['begun']\nforbid = ['ERROR']\n";
    scene.config(&(config(engine, &["writer"], 0) + log));
    let outcome = scene.check().finds("writer", "log_error");
    let found = outcome.service("writer")["findings"].to_string();
    assert!(found.contains("2 of the last lines"), "{found}");
    scene.check().exits(0).verdict("writer", "healthy");
}

fn plays(engine: &Engine, scene: &Scene) {
    for row in TABLE {
        make(engine, scene, row);
    }
    writes(engine, scene);
    engine.cli(&["create", "--name", "created", "--network", "none", "wd:1"]);
    let id = engine.inspect("well", "Id");
    let mut names: Vec<&str> = TABLE.iter().map(|row| row.name).collect();
    // the beginning of an id or of a name is not a name
    names.extend(["created", "nowhere", &id[..12], "wel"]);
    scene.config(&config(engine, &names, 0));
    let first = scene.check().exits(2).finds("created", "container_created");
    let outcome = scene.check().exits(2);
    for row in TABLE {
        let found = outcome.service(row.name);
        let shown = format!("{}: {found}", row.name);
        assert_eq!(found["verdict"], row.verdict, "{shown}");
        assert_eq!(first.codes(row.name), outcome.codes(row.name), "{shown}");
        assert_eq!(
            outcome.codes(row.name),
            row.code.into_iter().collect::<Vec<_>>(),
            "{shown}"
        );
        assert!(found["findings"].to_string().contains(row.says), "{shown}");
    }
    // Podman before 5 does not say why
    if matches!(engine, Engine::Docker(_)) {
        let why = outcome.service("greedy")["findings"].to_string();
        assert!(why.contains("memory ran out"), "{why}");
    }
    let outcome = outcome.finds("created", "container_created");
    for name in ["nowhere", &id[..12], "wel"] {
        assert_eq!(outcome.codes(name), ["container_missing"]);
    }
    // what a restart mends, and nothing else is touched
    let restarted = ["killed", "frozen", "created"];
    let others: Vec<&str> = TABLE
        .iter()
        .map(|row| row.name)
        .filter(|name| !restarted.contains(name))
        .collect();
    let started = || -> Vec<String> {
        others
            .iter()
            .map(|name| engine.inspect(name, "State.StartedAt"))
            .collect()
    };
    let before = started();
    scene.config(&config(
        engine,
        &["well", "paused", "killed", "frozen", "created"],
        9,
    ));
    let outcome = scene.check();
    let after = started();
    let is_paused = engine.state("paused");
    engine.cli(&["unpause", "paused"]);
    let outcome = outcome.exits(1).verdict("paused", "degraded");
    for name in restarted {
        let outcome = outcome.service(name);
        assert_eq!(outcome["verdict"], "restarted", "{outcome}");
        assert_eq!(outcome["pid"], engine.pid(name), "{outcome}");
    }
    assert_eq!((before, "paused"), (after, &*is_paused));
    scene.check().exits(0);
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn each_state_of_a_container_of_docker_is_found_and_mended() {
    let scene = Scene::new();
    let engine = Engine::Docker(Docker::new(&scene));
    plays(&engine, &scene);
}

#[test]
#[ignore = "needs root, podman, runc and busybox-static"]
fn each_state_of_a_container_of_podman_is_found_and_mended() {
    let scene = Scene::new();
    let engine = Engine::podman(&scene, false);
    plays(&engine, &scene);
}

/// An engine without privileges: its containers have no control groups of their own, so that only what it says is known.
#[test]
#[ignore = "needs root, podman, runc and busybox-static"]
fn a_container_of_an_engine_without_root_is_restarted() {
    let scene = Scene::new();
    let engine = Engine::podman(&scene, true);
    let pid = fs::read_to_string(format!("{}/podman.pid", engine.directory())).unwrap();
    let owner = fs::metadata(format!("/proc/{}", pid.trim())).unwrap().uid();
    assert_ne!(owner, 0);
    let run = |name: &str| {
        engine.cli(&["run", "-d", "--name", name, "--network", "none", "wd:1"]);
    };
    run("web");
    run("other");
    scene.config(&config(&engine, &["web"], 9));
    let outcome = scene.check().exits(0).verdict("web", "healthy");
    assert!(outcome.service("web")["pid"].is_null());
    let before = engine.inspect("other", "State.StartedAt");
    signal(engine.pid("web"), Signal::SIGKILL);
    scene.wait_until("it has ended", || engine.state("web") == "exited");
    scene.check().restarted_for("web", "container_exited");
    assert_eq!(engine.state("web"), "running");
    assert_eq!(engine.inspect("other", "State.StartedAt"), before);
    scene.check().exits(0);
}
