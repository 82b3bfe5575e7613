//! Services that are found: containers of a real engine, and units of a real systemd.

use std::process::Command;

use nix::sys::signal::Signal;

use crate::boxes::SystemdBox;
use crate::containers::Engine;
use crate::scene::{Outcome, Scene, signal};

fn names(outcome: &Outcome) -> Vec<String> {
    let json = outcome.json();
    let services = json["services"].as_array().unwrap();
    let name = |it: &serde_json::Value| it["name"].as_str().unwrap().to_owned();
    services.iter().map(name).collect()
}

/// The watchdog in the network that the engine has for itself.
fn inside(scene: &Scene, engine: &Engine, args: &[&str]) -> Outcome {
    let pid = std::fs::read_to_string(format!("{}/docker.pid", engine.directory)).unwrap();
    let own = scene.command(args);
    let mut command = Command::new("nsenter");
    command.args(["--net", "--target", pid.trim(), "--"]);
    command.arg(own.get_program()).args(own.get_args());
    command
        .env_clear()
        .current_dir(own.get_current_dir().unwrap());
    for (key, value) in own.get_envs() {
        command.env(key, value.unwrap());
    }
    scene.finish(command)
}

fn check(scene: &Scene, engine: &Engine) -> Outcome {
    inside(scene, engine, &["check", "--json"])
}

/// Whether something answers at a port of that network.
fn answers(scene: &Scene, engine: &Engine, port: &str) -> bool {
    let script = format!(
        "nsenter --net --target $(cat {}/docker.pid) busybox wget -q -O - http://127.0.0.1:{port}/health",
        engine.directory
    );
    scene.shell(&script).code == 0
}

/// A container that answers over HTTP in the engine's network, while its file is there.
fn web(engine: &Engine, name: &str, port: &str, more: &[&str]) {
    let script = format!("echo ok >/tmp/health; exec busybox httpd -f -p 127.0.0.1:{port} -h /tmp");
    let label = format!("watchdog.port={port}");
    // what the image exposes says it as well
    let which = if name == "plain" {
        ["--expose", port]
    } else {
        ["--label", &label]
    };
    let first = ["run", "-d", "--name", name, "--network", "host"];
    let command = ["wd:1", "sh", "-c", &script];
    engine.docker(&[&first[..], &which, more, &command].concat());
}

const COMPOSE: [&str; 6] = [
    "--label",
    "com.docker.compose.project=app",
    "--label",
    "com.docker.compose.service=web",
    "--label",
    "com.docker.compose.container-number=2",
];

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn containers_with_a_label_are_found_probed_and_restarted() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    let pid = std::fs::read_to_string(format!("{}/docker.pid", engine.directory)).unwrap();
    scene
        .shell(&format!(
            "nsenter --net --target {} ip link set lo up",
            pid.trim()
        ))
        .exits(0);
    web(
        &engine,
        "compose-made",
        "8081",
        &[&["--label", "trading"][..], &COMPOSE].concat(),
    );
    web(&engine, "plain", "8082", &["--label", "trading=yes"]);
    let more = ["--label", "trading=on", "--label", "auto_repair=False"];
    engine.run("opted-out", &more, &["false"]);
    engine.run("other", &[], &["false"]);
    engine.run("job", &["--label", "trading"], &["true"]);
    // the port of this one nobody can know
    engine.run("unset", &["--label", "trading"], &[]);
    let table = "[discover.x]\nlabel = \"trading\"\n\
                 http = [{ url = \"http://{address}/health\", status = [200] }]\n\
                 restart = { after_failures = 2 }\n";
    engine.config(&scene, table);
    for name in ["job", "opted-out", "other"] {
        scene.wait_until("it has ended", || engine.state(name) == "exited");
    }
    for port in ["8081", "8082"] {
        scene.wait_until("it answers", || answers(&scene, &engine, port));
    }
    let outcome = check(&scene, &engine).exits(3);
    assert_eq!(names(&outcome), ["app-web-2", "job", "plain", "unset"]);
    let outcome = outcome
        .verdict("job", "healthy")
        .verdict("unset", "unknown")
        .finds("unset", "placeholder_unset");
    let why = outcome.service("unset")["findings"][0]["message"].to_string();
    assert!(
        why.contains(
            "{address} in http.url cannot be filled in for container unset: it exposes no TCP port"
        ) && why.contains("watchdog.port"),
        "{why}"
    );
    assert_eq!(outcome.service("plain")["container"]["name"], "plain");

    // what is unknown is left alone, also where it is frozen
    signal(engine.pid("unset"), Signal::SIGSTOP);
    let frozen = check(&scene, &engine);
    signal(engine.pid("unset"), Signal::SIGCONT);
    assert!(frozen.service("unset")["action"].is_null());
    engine.docker(&["rm", "-f", "unset"]);

    // two failures in a row, and the engine restarts it
    engine.docker(&["exec", "compose-made", "busybox", "rm", "/tmp/health"]);
    let first = engine.pid("compose-made");
    check(&scene, &engine)
        .exits(1)
        .verdict("app-web-2", "failing");
    let outcome = check(&scene, &engine).restarted_for("app-web-2", "http_failed");
    assert_eq!(names(&outcome), ["app-web-2", "job", "plain"]);
    assert_ne!(engine.pid("compose-made"), first);
    check(&scene, &engine).exits(0);

    // all commands know it by its name
    let status = scene.run(&["status", "--json"]).exits(0);
    assert_eq!(names(&status), ["app-web-2", "job", "plain"]);
    assert_eq!(status.service("app-web-2")["restarts_last_hour"], 1);
    let why = scene.run(&["why", "app-web-2"]).exits(0).stdout;
    assert!(why.contains("container compose-made has to run"), "{why}");
    scene.run(&["pause", "app-*", "--for", "1h"]).exits(0);
    check(&scene, &engine)
        .exits(0)
        .verdict("app-web-2", "paused");
    scene.run(&["resume", "app-web-2"]).exits(0);
    scene.run(&["reset", "app-web-2"]).exits(0);
    inside(&scene, &engine, &["restart", "plain"]).exits(0);
    let unknown = scene.run(&["restart", "plian"]).exits(64).stderr;
    assert!(unknown.contains("did you mean `plain`?"), "{unknown}");

    // one that is gone is not looked at, and keeps its budget; a service of the config is what it names
    engine.docker(&["rm", "-f", "plain"]);
    let both = format!("{table}[service.mine]\ncontainer = {{ name = \"compose-made\" }}\n");
    engine.config(&scene, &both);
    let outcome = check(&scene, &engine).exits(0);
    assert_eq!(names(&outcome), ["mine", "job"]);
    assert!(scene.state()["services"]["plain"].is_object());
    engine.config(&scene, table);
    web(&engine, "plain", "8082", &["--label", "trading=yes"]);
    scene.wait_until("it answers", || answers(&scene, &engine, "8082"));
    let outcome = check(&scene, &engine).exits(0);
    assert_eq!(outcome.service("plain")["restarts_last_hour"], 1);

    adopted(&scene, &engine);
    the_example_does_its_job(&scene, &engine);
    engine.config(&scene, table);

    // after a day it is forgotten
    engine.docker(&["rm", "-f", "job"]);
    check(&scene, &engine).exits(0);
    scene.edit_state(|state| {
        state["services"]["job"]["discovered"]["at"] = "2020-01-01T00:00:00Z".into();
    });
    check(&scene, &engine).exits(0);
    assert!(scene.state()["services"]["job"].is_null());
}

/// What `adopt` prints of a container is a config that finds it.
fn adopted(scene: &Scene, engine: &Engine) {
    engine.config(scene, "[discover.x]\nlabel = \"trading\"\n");
    let text = scene.run(&["adopt", "compose-made"]).exits(0).stdout;
    assert!(
        text.contains("container = { project = \"app\", service = \"web\" }"),
        "{text}"
    );
    let refused = scene.run(&["adopt", "no-such-thing"]).exits(1).stderr;
    assert!(refused.contains("no-such-thing"), "{refused}");
    engine.config(scene, &text);
    scene.check().exits(0).verdict("web", "healthy");
}

/// Three failures in a row, and no sooner.
fn the_example_does_its_job(scene: &Scene, engine: &Engine) {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/trading-stack.toml");
    let text = std::fs::read_to_string(example).unwrap();
    let socket = format!(
        "state_dir = \"{{dir}}/state-2\"\n[containers]\nsocket = \"unix://{}/docker.sock\"\n{text}",
        engine.directory
    );
    let mut config = socket;
    for (from, to) in [
        (
            "sendmail = { command = \"/usr/sbin/sendmail\" }",
            "directory = \"mails\"",
        ),
        ("start_grace = \"2m\"", "start_grace = \"0s\""),
        (
            "start_timeout = \"60s\"",
            "start_timeout = \"20s\", stop_timeout = \"1s\"",
        ),
    ] {
        assert!(config.contains(from), "it does not say {from}");
        config = config.replace(from, to);
    }
    scene.raw_config(&config);
    check(scene, engine)
        .exits(0)
        .verdict("app-web-2", "healthy")
        .verdict("plain", "healthy");
    engine.docker(&["exec", "plain", "busybox", "rm", "/tmp/health"]);
    for _ in 0..2 {
        check(scene, engine).exits(1).verdict("plain", "failing");
    }
    check(scene, engine).restarted_for("plain", "http_failed");
    check(scene, engine).exits(0);
    assert!(!scene.mails().is_empty());
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn what_was_found_is_unknown_while_the_engine_cannot_be_read() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    engine.run("one", &COMPOSE, &[]);
    engine.run(
        "two",
        &[
            "--label",
            "odd=ture",
            "--label",
            "com.docker.compose.project=app",
            "--label",
            "com.docker.compose.service=db",
        ],
        &[],
    );
    let table = "[discover.all]\nproject = \"app\"\nexclude = [\"odd=false\"]\n";
    let silent = |table: &str| {
        scene.config(&format!(
            "[containers]\nsocket = \"unix://{{dir}}/nowhere.sock\"\n{table}"
        ));
    };
    // none is known yet: the table stands for them
    silent(table);
    let outcome = scene.check().exits(3).finds("all", "engine_unreachable");
    assert_eq!(names(&outcome), ["all"]);
    engine.config(&scene, table);
    let outcome = scene.check().exits(0).verdict("app-web-2", "healthy");
    assert_eq!(names(&outcome), ["app-web-2"]);
    // the opt-out that cannot be understood is told
    let told = scene.run(&["validate"]).exits(0).stdout;
    assert!(
        told.contains("two has the label odd=ture") && told.contains("it is left out"),
        "{told}"
    );
    // now they are unknown, and stay known
    silent(table);
    for _ in 0..2 {
        let outcome = scene.check().exits(3).verdict("app-web-2", "unknown");
        assert_eq!(names(&outcome), ["app-web-2"]);
        assert_eq!(
            names(&scene.run(&["status", "--json"]).exits(3)),
            ["app-web-2"]
        );
    }
    let told = scene.run(&["validate"]).exits(0).stdout;
    assert!(told.contains("nothing is found"), "{told}");
    engine.config(&scene, table);
    scene.check().exits(0).verdict("app-web-2", "healthy");
}

#[test]
#[ignore = "needs root and systemd"]
fn units_of_a_pattern_are_found_and_restarted() {
    let it = SystemdBox::boot();
    it.unit("worker@.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    it.sh("systemctl start worker@1 worker@2 worker@x.y").ok();
    it.config(
        "[discover.workers]\nunits = \"worker@*.service\"\nstart_grace = \"0s\"\n\
         description = \"{unit} number {instance}\"\n\
         restart = { settle = \"200ms\", max_per_hour = 9 }\n\
         [service.mine]\nsystemd = { unit = \"worker@2.service\" }\nrestart = { max_per_hour = 0 }\n",
    );
    let ended = it
        .check()
        .exits(0)
        .tells("worker-1", "healthy", &[])
        .tells("worker-x.y", "healthy", &[])
        .tells("mine", "healthy", &[]);
    assert!(!ended.stdout.contains("worker-2"), "{}", ended.stdout);
    it.sh("systemctl kill -s KILL worker@1").ok();
    it.wait("systemctl is-failed worker@1");
    it.check()
        .exits(1)
        .tells("worker-1", "restarted", &["unit_failed"]);
    it.check().exits(0);
}
