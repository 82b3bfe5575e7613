//! Containers of a real Docker engine, which each test has for itself.

use std::fs;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use watchdog::child::Ended;

use crate::scene::{Outcome, Scene, Service, alive, render, signal};

/// A Docker engine, ended with its containers when it is dropped.
pub(crate) struct Engine {
    pub(crate) directory: String,
}

fn run_script(verb: &str, directory: &str) -> Ended {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/engines/docker");
    let mut command = Command::new(script);
    command.args([verb, directory]);
    watchdog::child::run(command, None, Duration::from_mins(3)).unwrap()
}

/// # Panics
/// With what the command said, unless it succeeded.
pub(crate) fn succeeded(what: &str, ended: &Ended) {
    assert!(
        ended.status.is_some_and(|status| status.success()),
        "{what}: {}",
        String::from_utf8_lossy(&ended.stderr)
    );
}

fn script(verb: &str, directory: &str) {
    succeeded(verb, &run_script(verb, directory));
}

impl Engine {
    pub(crate) fn new(scene: &Scene) -> Self {
        // outside of the scene, whose processes are looked for by its path
        let name = scene.dir().rsplit('-').next().unwrap();
        let engine = Self {
            directory: format!("/tmp/engine-{name}"),
        };
        script("up", &engine.directory);
        script("image", &engine.directory);
        engine
    }

    fn run_docker(&self, args: &[&str]) -> Ended {
        let mut command = Command::new("docker");
        command.args(args).env(
            "DOCKER_HOST",
            format!("unix://{}/docker.sock", self.directory),
        );
        let ended = watchdog::child::run(command, None, Duration::from_mins(1)).unwrap();
        succeeded(&format!("docker {args:?}"), &ended);
        ended
    }

    pub(crate) fn docker(&self, args: &[&str]) -> String {
        let ended = self.run_docker(args);
        String::from_utf8(ended.stdout).unwrap().trim().to_owned()
    }

    /// All that a container has written to both of its streams.
    pub(crate) fn logs(&self, name: &str) -> String {
        let ended = self.run_docker(&["logs", name]);
        String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap()
    }

    /// Runs a container without a network.
    pub(crate) fn run(&self, name: &str, more: &[&str], command: &[&str]) -> String {
        let first = ["run", "-d", "--name", name, "--network", "none"];
        self.docker(&[&first[..], more, &["wd:1"], command].concat())
    }

    pub(crate) fn pid(&self, name: &str) -> i32 {
        let pid = self.docker(&["inspect", "-f", "{{.State.Pid}}", name]);
        pid.parse().unwrap()
    }

    pub(crate) fn state(&self, name: &str) -> String {
        self.docker(&["inspect", "-f", "{{.State.Status}}", name])
    }

    pub(crate) fn config(&self, scene: &Scene, services: &str) {
        scene.config(&format!(
            "[containers]\nsocket = \"unix://{}/docker.sock\"\ntimeout = \"10s\"\n\
             [defaults]\nstart_grace = \"0s\"\n\
             restart = {{ max_per_hour = 9, settle = \"300ms\", start_timeout = \"10s\", stop_timeout = \"1s\" }}\n{services}",
            self.directory
        ));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let ended = run_script("down", &self.directory);
        // a second panic would end all tests
        if !std::thread::panicking() {
            succeeded("down", &ended);
        }
    }
}

fn pid_of(outcome: &Outcome, name: &str) -> i32 {
    i32::try_from(outcome.service(name)["pid"].as_i64().unwrap()).unwrap()
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn a_container_is_restarted_by_its_engine_whatever_is_wrong_with_it() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    engine.run("gateway", &[], &[]);
    engine.config(
        &scene,
        "[service.gateway]\ncontainer = { name = \"gateway\" }\n",
    );
    let outcome = scene.check().exits(0).verdict("gateway", "healthy");
    let shown = &outcome.service("gateway")["container"];
    assert_eq!(
        (&shown["name"], &shown["state"]),
        (&"gateway".into(), &"running".into())
    );
    assert_eq!(
        (&shown["image"], &shown["restart_count"]),
        (&"wd:1".into(), &0.into())
    );
    assert!(shown["health"].is_null() && shown["id"].as_str().unwrap().len() == 64);
    // frozen, though the engine says that it runs
    let pid = engine.pid("gateway");
    assert_eq!(pid_of(&outcome, "gateway"), pid);
    signal(pid, Signal::SIGSTOP);
    let outcome = scene.check();
    let outcome = outcome.restarted_for("gateway", "process_stopped");
    let action = outcome.service("gateway")["action"].clone();
    assert_eq!(action["method"], "container");
    // what it was doing is recorded, by its number on this side
    let record = fs::read_to_string(action["evidence"].as_str().unwrap()).unwrap();
    assert!(
        record.contains(&format!("\nPID {pid} (")) && record.contains("state T (stopped by"),
        "{record}"
    );
    let new = engine.pid("gateway");
    assert_eq!(pid_of(&outcome, "gateway"), new);
    assert!(new != pid && !alive(pid));
    scene.check().exits(0);
    // killed, and ended
    signal(new, Signal::SIGKILL);
    scene.wait_until("it has ended", || engine.state("gateway") == "exited");
    scene.check().restarted_for("gateway", "container_exited");
    scene.check().exits(0);
    let status = scene.run(&["status", "--json"]).exits(0).stdout;
    assert!(
        status.contains("\"container\":{\"name\":\"gateway\""),
        "{status}"
    );
    let why = scene.run(&["why", "gateway"]).stdout;
    assert!(
        why.contains("container gateway has to run: gateway ("),
        "{why}"
    );
    // somebody paused it: it is left alone
    engine.docker(&["pause", "gateway"]);
    let paused = scene.check();
    let state = engine.state("gateway");
    engine.docker(&["unpause", "gateway"]);
    paused
        .exits(1)
        .verdict("gateway", "degraded")
        .finds("gateway", "container_paused");
    assert_eq!(state, "paused");
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn what_ended_on_purpose_is_not_there_or_belongs_to_others_is_not_started() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    engine.run("done", &[], &["sh", "-c", "exit 7"]);
    engine.run(
        "swarm",
        &["--label", "com.docker.swarm.task.id=x"],
        &["false"],
    );
    engine.run(
        "app-web-1",
        &[
            "--label",
            "com.docker.compose.project=app",
            "--label",
            "com.docker.compose.service=web",
        ],
        &[],
    );
    engine.run(
        "app-web-run-1",
        &[
            "--label",
            "com.docker.compose.project=app",
            "--label",
            "com.docker.compose.service=web",
            "--label",
            "com.docker.compose.oneoff=True",
        ],
        &["false"],
    );
    for name in ["done", "swarm"] {
        scene.wait_until("it has ended", || engine.state(name) == "exited");
    }
    engine.config(
        &scene,
        "[service.done]\ncontainer = { name = \"done\", exit_ok = [7] }\n\
         [service.swarm]\ncontainer = { name = \"swarm\" }\n\
         [service.nowhere]\ncontainer = { name = \"nowhere\" }\n\
         [service.web]\ncontainer = { project = \"app\", service = \"web\" }\n",
    );
    let outcome = scene.check().exits(2);
    let outcome = outcome
        .verdict("done", "healthy")
        .verdict("swarm", "unknown")
        .verdict("nowhere", "down")
        .verdict("web", "healthy")
        .finds("swarm", "container_managed")
        .finds("nowhere", "container_missing");
    let notes = outcome.service("done")["notes"].to_string();
    assert!(
        notes.contains("exited with code 7") && notes.contains("exit_ok"),
        "{notes}"
    );
    assert!(outcome.service("nowhere")["action"].is_null());
    assert_eq!(
        (engine.state("done"), engine.state("swarm")),
        ("exited".to_owned(), "exited".to_owned())
    );
    // where it is made anew by a command, that command is the way
    let made = format!(
        "DOCKER_HOST=unix://{}/docker.sock docker run -d --name nowhere --network none wd:1",
        engine.directory
    );
    engine.config(
        &scene,
        &format!("[service.nowhere]\ncontainer = {{ name = \"nowhere\" }}\nrestart = {{ command = [\"/bin/sh\", \"-c\", \"{made}\"] }}\n"),
    );
    scene.check().restarted_for("nowhere", "container_missing");
    scene.check().exits(0);
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn the_check_of_a_container_counts_and_is_waited_for() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    // well once the file is there; a restart keeps it
    engine.run(
        "web",
        &[
            "--health-cmd",
            "test -e /tmp/ok || { echo no file; false; }",
            "--health-interval",
            "300ms",
            "--health-retries",
            "1",
        ],
        &[],
    );
    engine.config(
        &scene,
        "[service.web]\ncontainer = { name = \"web\" }\nrestart = { start_timeout = \"3s\" }\n",
    );
    let unhealthy =
        || engine.docker(&["inspect", "-f", "{{.State.Health.Status}}", "web"]) == "unhealthy";
    scene.wait_until("it is unhealthy", unhealthy);
    let outcome = scene
        .check()
        .exits(2)
        .verdict("web", "restart_failed")
        .finds("web", "container_unhealthy");
    let finding = outcome.service("web")["findings"][0]["message"].to_string();
    assert!(
        finding.contains("has failed") && finding.contains("`no file`"),
        "{finding}"
    );
    // it is left running
    assert_eq!(engine.state("web"), "running");
    scene.wait_until("it is unhealthy", unhealthy);
    engine.docker(&["exec", "web", "touch", "/tmp/ok"]);
    scene.wait_until("it is healthy", || !unhealthy());
    scene.check().exits(0).verdict("web", "healthy");
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn a_check_that_is_still_starting_is_no_failure_and_is_told() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    let slow = ["--health-cmd", "true", "--health-interval", "300s"];
    for name in ["web", "api"] {
        engine.run(name, &slow, &[]);
        signal(engine.pid(name), Signal::SIGKILL);
        scene.wait_until("it has ended", || engine.state(name) == "exited");
    }
    engine.config(
        &scene,
        &format!(
            "[service.web]\ncontainer = {{ name = \"web\" }}\nrestart = {{ start_timeout = \"1s\" }}\n\
             [service.api]\ncontainer = {{ name = \"api\" }}\nrestart = {{ start_timeout = \"1s\", \
             command = [\"sh\", \"-c\", \"DOCKER_HOST=unix://{}/docker.sock docker start api\"] }}\n",
            engine.directory
        ),
    );
    let outcome = scene.check().exits(1);
    for name in ["web", "api"] {
        let service = outcome.service(name);
        assert_eq!(service["verdict"], "restarted", "{service}");
        let pending = serde_json::json!([format!("HEALTHCHECK of {name}")]);
        assert_eq!(service["action"]["pending"], pending);
        assert_eq!(service["container"]["health"], "starting");
    }
    let text = scene.run(&["restart", "web"]).exits(0).stdout;
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    assert!(
        text.contains("not passed yet: HEALTHCHECK of web"),
        "{text}"
    );
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn an_engine_that_does_not_answer_makes_its_services_unknown_and_no_others() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    engine.run("one", &[], &[]);
    engine.run("two", &[], &["false"]);
    scene.wait_until("it has ended", || engine.state("two") == "exited");
    let services = "[service.one]\ncontainer = { name = \"one\" }\n[service.two]\ncontainer = { name = \"two\" }\n";
    engine.config(
        &scene,
        &format!("{services}{}", render(&[&Service::new("a")])),
    );
    let config = scene.read("watchdog.toml").replace(
        "timeout = \"10s\"\n[defaults]",
        "timeout = \"1s\"\n[defaults]",
    );
    scene.raw_config(&config);
    let daemon: i32 = std::fs::read_to_string(format!("{}/docker.pid", engine.directory))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    signal(daemon, Signal::SIGSTOP);
    let outcome = scene.check();
    signal(daemon, Signal::SIGCONT);
    let outcome = outcome
        .exits(3)
        .verdict("a", "restarted")
        .verdict("one", "unknown")
        .verdict("two", "unknown");
    assert_eq!(outcome.codes("two"), ["engine_unreachable"]);
    let message = outcome.service("one")["findings"][0]["message"].to_string();
    assert!(
        message.contains("accepted the call and was silent for 1s"),
        "{message}"
    );
    assert_eq!(outcome.service("two")["restarts_last_hour"], 0);
    // nor where there is no socket
    let config = scene
        .read("watchdog.toml")
        .replace("docker.sock", "nowhere.sock");
    scene.raw_config(&config);
    let outcome = scene.check().exits(3).verdict("one", "unknown");
    let message = outcome.service("one")["findings"][0]["message"].to_string();
    assert!(
        message.contains("there is no such socket; is the engine running"),
        "{message}"
    );
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn a_container_that_was_made_anew_keeps_the_budget_of_its_service() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    let first = engine.run("app", &[], &[]);
    engine.config(&scene, "[service.app]\ncontainer = { name = \"app\" }\n");
    signal(engine.pid("app"), Signal::SIGSTOP);
    scene.check().restarted_for("app", "process_stopped");
    engine.docker(&["rm", "-f", "app"]);
    let second = engine.run("app", &[], &[]);
    assert_ne!(first, second);
    let outcome = scene.check().exits(0).verdict("app", "healthy");
    assert_eq!(outcome.service("app")["restarts_last_hour"], 1);
    assert_eq!(outcome.service("app")["container"]["id"], second);
    // another container that takes its name in the middle of a re-creation is not touched
    engine.docker(&[
        "create",
        "--name",
        "0123456789ab_app",
        "--network",
        "none",
        "wd:1",
    ]);
    signal(engine.pid("app"), Signal::SIGKILL);
    scene.wait_until("it has ended", || engine.state("app") == "exited");
    let outcome = scene.check().exits(2).verdict("app", "waiting");
    let outcome = outcome.finds("app", "container_exited");
    let service = outcome.service("app");
    let why = service["notes"].to_string();
    assert!(
        why.contains("is being re-created: 0123456789ab_app is there"),
        "{why}"
    );
    assert_eq!(service["restarts_last_hour"], 1);
    let refused = scene.run(&["restart", "app"]).exits(1).stderr;
    assert!(refused.contains("is being re-created"), "{refused}");
    assert_eq!(
        (engine.state("app"), engine.state("0123456789ab_app")),
        ("exited".to_owned(), "created".to_owned())
    );
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn what_the_engine_restarts_by_itself_is_told() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    engine.run(
        "loop",
        &["--restart", "always"],
        &["sh", "-c", "sleep 0.2; exit 3"],
    );
    engine.run("once", &["--restart", "always"], &[]);
    engine.config(
        &scene,
        "[service.loop]\ncontainer = { name = \"loop\" }\nrestart = { max_per_hour = 0 }\n\
         [service.once]\ncontainer = { name = \"once\" }\n",
    );
    scene.check();
    let count = |name: &str| -> u32 {
        engine
            .docker(&["inspect", "-f", "{{.RestartCount}}", name])
            .parse()
            .unwrap()
    };
    let before = count("loop");
    signal(engine.pid("once"), Signal::SIGKILL);
    scene.wait_until("the engine restarts them", || {
        count("loop") >= before + 4 && count("once") == 1
    });
    let outcome = scene.check();
    engine.docker(&["rm", "-f", "loop"]);
    outcome
        .verdict("loop", "down")
        .finds("loop", "container_restarting")
        .verdict("once", "degraded")
        .finds("once", "container_restarted");
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn the_example_of_containers_does_its_job() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    let port = crate::scene::free_port();
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    engine.run("ib-gateway", &[], &[]);
    engine.run(
        "app-web-1",
        &[
            "--label",
            "com.docker.compose.project=app",
            "--label",
            "com.docker.compose.service=web",
            "--memory",
            "64m",
            "--health-cmd",
            "test ! -e /tmp/ill",
            "--health-interval",
            "300ms",
            "--health-retries",
            "1",
        ],
        &[],
    );
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/containers.toml");
    let text = std::fs::read_to_string(example).unwrap();
    let mut config = format!("state_dir = \"{{dir}}/state\"\n{text}");
    for (from, to) in [
        (
            "sendmail = { command = \"/usr/sbin/sendmail\" }",
            "directory = \"mails\"",
        ),
        (
            "[defaults]",
            &*format!(
                "[containers]\nsocket = \"unix://{}/docker.sock\"\n[defaults]",
                engine.directory
            ),
        ),
        ("start_grace = \"2m\"", "start_grace = \"0s\""),
        (
            "start_timeout = \"60s\"",
            "start_timeout = \"20s\", stop_timeout = \"1s\"",
        ),
        ("4002", &port.to_string()),
        ("for     = \"2m\"", "for     = \"0s\""),
    ] {
        assert!(config.contains(from), "it does not say {from}");
        config = config.replace(from, to);
    }
    scene.raw_config(&config);
    let health = || engine.docker(&["inspect", "-f", "{{.State.Health.Status}}", "app-web-1"]);
    scene.wait_until("it is healthy", || health() == "healthy");
    scene
        .check()
        .exits(0)
        .verdict("gateway", "healthy")
        .verdict("web", "healthy");
    for name in ["ib-gateway", "app-web-1"] {
        signal(engine.pid(name), Signal::SIGSTOP);
    }
    scene
        .check()
        .exits(1)
        .verdict("gateway", "restarted")
        .verdict("web", "restarted");
    // its strategies: what only alerts, and what waits for a cooldown of its own
    engine.docker(&["exec", "app-web-1", "touch", "/tmp/ill"]);
    scene.wait_until("it is unhealthy", || health() == "unhealthy");
    let outcome = scene.check().exits(2).verdict("web", "down");
    outcome.finds("web", "container_unhealthy");
    engine.docker(&["exec", "app-web-1", "busybox", "rm", "/tmp/ill"]);
    scene.wait_until("it is healthy", || health() == "healthy");
    scene.run(&["reset", "web"]).exits(0);
    let leaking = config
        .replace(
            "warning = \"80%\", critical = \"95%\", for = \"5m\"",
            "critical = \"0.1%\"",
        )
        .replace("cooldown = \"1m\"", "cooldown = \"0s\"");
    scene.raw_config(&leaking);
    scene.check().restarted_for("web", "memory_high");
    let outcome = scene.check().exits(2).verdict("web", "waiting");
    let notes = outcome.service("web")["notes"].to_string();
    assert!(
        notes.contains("cooldown: the last attempt by its strategy"),
        "{notes}"
    );
    scene.raw_config(&config);
    // nothing listens any more
    drop(listener);
    let outcome = scene.check();
    outcome
        .exits(2)
        .verdict("gateway", "restart_failed")
        .finds("gateway", "port_closed");
    assert!(!scene.mails().is_empty());
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn a_paused_container_is_not_judged_by_its_logs_and_probes() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    engine.run("web", &[], &["sh", "-c", "echo begun; exec sleep 1000000"]);
    let port = crate::scene::free_port();
    scene.write("web.log", "begun\n");
    scene.age("web.log", Duration::from_secs(3600));
    // nobody listens, nobody writes
    let keys = format!(
        "[[service.web.log]]\npath = \"{0}/web.log\"\nmax_age = \"5m\"\n\
         [[service.web.log]]\ncontainer = true\nforbid = ['begun']\n\
         [[service.web.http]]\nurl = \"http://127.0.0.1:{port}/\"\n\
         [[service.web.exec]]\ncommand = [\"false\"]\n",
        scene.dir()
    );
    for method in [
        "",
        "restart.command = [\"false\"]\nrestart.stop_first = false\n",
    ] {
        let table = format!("[service.web]\ncontainer = {{ name = \"web\" }}\n{method}");
        engine.config(&scene, &(table + &keys));
        engine.docker(&["pause", "web"]);
        let runs = [scene.check(), scene.check()];
        engine.docker(&["unpause", "web"]);
        for outcome in runs {
            assert_eq!(outcome.codes("web"), ["container_paused"]);
            let outcome = outcome.exits(1).verdict("web", "degraded");
            let notes = outcome.service("web")["notes"].to_string();
            assert!(
                notes.contains("its logs and probes are not judged while web is paused"),
                "{notes}"
            );
            assert_eq!(outcome.service("web")["restarts_last_hour"], 0);
        }
        // it has had no time to write or answer
        let outcome = scene.check().exits(0).verdict("web", "healthy");
        let notes = outcome.service("web")["notes"].to_string();
        assert!(notes.contains("web was paused until now"), "{notes}");
    }
    let outcome = scene.check().exits(2);
    for code in ["log_stale", "http_failed", "exec_failed", "log_error"] {
        let codes = outcome.codes("web");
        assert!(codes.iter().any(|it| it == code), "{code}: {codes:?}");
    }
}
