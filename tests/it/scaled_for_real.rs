//! Replicas by load with real parts: containers of a Docker engine and Compose, instances of a template of a booted systemd,
//! a list of Redis.

use std::cell::RefCell;
use std::fs;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::boxes::{Ended, SystemdBox};
use crate::containers::Engine;
use crate::scene::{Outcome, Scene, free_port, signal, wait_until};

fn scale(outcome: &Outcome) -> Value {
    outcome.json()["scales"][0].clone()
}

/// Checks until this is the verdict about the scale: there has to be an average, of the present load.
fn until(scene: &Scene, verdict: &str) -> Outcome {
    let last = RefCell::new(None);
    scene.wait_until(verdict, || {
        let outcome = scene.check();
        let is_so = scale(&outcome)["verdict"] == verdict;
        last.replace(Some(outcome));
        is_so
    });
    last.into_inner().unwrap()
}

/// Burns a processor while the file `on` is there.
const BURN: &str = "while :; do if [ -e /load/on ]; then :; else sleep 0.5; fi; done";

/// A worker, a neighbour, and two that cannot be scaled.
fn compose(scene: &Scene) -> String {
    format!(
        "version: \"2.4\"\nservices:\n\
         \x20 worker: &it {{ image: \"wd:1\", network_mode: none, stop_grace_period: 1s, volumes: [\"{}/load:/load\"], \
         command: [sh, -c, \"{BURN}\"] }}\n\
         \x20 web: {{ image: \"wd:1\", network_mode: none, stop_grace_period: 1s }}\n\
         \x20 named: {{ image: \"wd:1\", container_name: one }}\n\
         \x20 bound: {{ image: \"wd:1\", ports: [\"127.0.0.1:8080:80\", \"8000-8009:81\"] }}\n",
        scene.dir()
    )
}

const AT_ONCE: &str = "up_after = \"0s\"\ndown_after = \"0s\"\ncooldown = \"0s\"\nmax_per_hour = 99\nstart_grace = \"0s\"";

#[test]
#[ignore = "needs root, docker.io, docker-compose and busybox-static"]
fn containers_follow_the_processor_time_of_their_service_and_no_neighbour_is_touched() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    fs::create_dir(scene.path("load")).unwrap();
    scene.write("compose.yml", compose(&scene));
    let host = format!("unix://{}/docker.sock", engine.directory);
    scene
        .shell(&format!(
            "DOCKER_HOST={host} docker-compose -p app -f compose.yml up -d --scale web=2 worker web"
        ))
        .exits(0);
    let scaled = |service: &str, more: &str| {
        format!(
            "[scale.{service}s]\ncompose = {{ file = \"compose.yml\", project = \"app\", service = \"{service}\" }}\n{AT_ONCE}\n{more}\n"
        )
    };
    let watched = "[discover.app]\nproject = \"app\"\n";
    let with = |more: &str| engine.config(&scene, &(scaled("worker", more) + watched));
    // a machine that is busy with other things has little left for each
    with("max = 2\nscale_up_at = 0.2\nscale_down_at = 0.12");
    // by containers and ids
    let running = || {
        let listed = engine.docker(&["ps", "--format", "{{.Names}} {{.ID}}"]);
        let mut lines: Vec<String> = listed.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let names = |names: &[&str]| {
        let found: Vec<String> = running()
            .iter()
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect();
        assert_eq!(found, names);
    };
    let before = running();
    names(&["app_web_1", "app_web_2", "app_worker_1"]);

    let first = scale(&scene.check().exits(0));
    assert_eq!(
        (&first["verdict"], &first["metric"]),
        (&json!("steady"), &Value::Null)
    );
    fs::write(scene.path("load/on"), "").unwrap();
    let up = scale(&until(&scene, "scaled").exits(0));
    assert_eq!(
        (&up["verdict"], &up["desired"]),
        (&json!("scaled"), &json!(2)),
        "{up}"
    );
    assert!(up["metric"].as_f64().unwrap() > 0.2, "{up}");
    names(&["app_web_1", "app_web_2", "app_worker_1", "app_worker_2"]);
    // nothing that ran is another one now
    let after = running();
    assert!(
        before.iter().all(|line| after.contains(line)),
        "{before:?} {after:?}"
    );

    // more than there may be
    until(&scene, "at_max").exits(1);

    // one that dies is restarted as the service that it is, and then counted
    signal(engine.pid("app_worker_1"), Signal::SIGKILL);
    scene.wait_until("it has ended", || engine.state("app_worker_1") == "exited");
    let outcome = scene.check().verdict("app-worker-1", "restarted");
    assert_eq!(scale(&outcome)["replicas"], 2);

    // fewer, and the one that is gone is no failure
    fs::remove_file(scene.path("load/on")).unwrap();
    let down = scale(&until(&scene, "scaled"));
    assert_eq!(
        (&down["verdict"], &down["desired"]),
        (&json!("scaled"), &json!(1)),
        "{down}"
    );
    names(&["app_web_1", "app_web_2", "app_worker_1"]);
    let outcome = scene.check().exits(0).verdict("app-worker-1", "healthy");
    assert_eq!(outcome.json()["services"].as_array().unwrap().len(), 3);

    // one that is paused: Compose does nothing then, nor does this
    engine.docker(&["pause", "app_worker_1"]);
    let refused = scene.run(&["scale", "workers", "2"]);
    engine.docker(&["unpause", "app_worker_1"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("is paused by somebody"),
        "{}",
        refused.stderr
    );

    // what cannot be scaled is told before, and fails when it is tried
    engine.config(&scene, &(scaled("named", "") + &scaled("bound", "")));
    let valid = scene.run(&["validate"]).exits(0).words();
    for says in [
        "named cannot be scaled: it has `container_name: one`",
        "bound cannot be scaled: it is published at port 8080",
    ] {
        assert!(valid.contains(says), "{valid}");
    }
    assert!(!valid.contains("port 8000"), "{valid}");
    let failed = scene.run(&["scale", "nameds", "2"]).exits(1);
    assert!(failed.stdout.contains("scale_failed"), "{}", failed.stdout);
}

fn scale_in(ended: &Ended) -> Value {
    let report: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    report["scales"][0].clone()
}

#[test]
#[ignore = "needs root and systemd"]
fn instances_of_a_template_follow_a_load_the_lowest_first_and_the_highest_last() {
    let it = SystemdBox::boot();
    it.unit(
        "worker@.service",
        "[Service]\nExecStart=/bin/sh -c 'test ! -e {dir}/fail-%i && exec sleep 1000'\n",
    );
    let scaled_and_found = format!(
        "[scale.workers]\nunits = \"worker@{{n}}.service\"\nmax = 4\nper_replica = 10\nstart_timeout = \"5s\"\n\
         metric = {{ command = [\"cat\", \"{{dir}}/load\"] }}\n{AT_ONCE}\n\
         [discover.workers]\nunits = \"worker@*.service\"\nrestart = {{ max_per_hour = 0 }}\n"
    );
    it.config(&scaled_and_found);
    let load = |load: &str| fs::write(it.path("load"), load).unwrap();
    let running = || {
        let list =
            "systemctl list-units --plain --no-legend --state=active 'worker@*' | cut -d' ' -f1";
        let listed = it.sh(list).ok();
        let numbers = listed
            .lines()
            .map(|unit| unit.replace("worker@", "").replace(".service", ""));
        numbers.collect::<Vec<_>>().join(" ")
    };
    let scaled = |verdict: &str, replicas: u32, desired: u32| {
        let ended = it.check();
        let scale = scale_in(&ended);
        let found = (&scale["verdict"], &scale["replicas"], &scale["desired"]);
        assert_eq!(
            found,
            (&json!(verdict), &json!(replicas), &json!(desired)),
            "{ended:?}"
        );
        ended
    };
    // none runs: a person has not started any
    load("35");
    let ended = it.check();
    let none = scale_in(&ended);
    assert_eq!(none["verdict"], "unknown", "{ended:?}");
    it.sh("watchdog scale workers 1").exits(0);
    assert_eq!(running(), "1");
    // one after the other, and one that somebody started counts; it is a service of its own as well
    let third = "[service.third]\nsystemd = { unit = \"worker@3.service\" }\nrestart = { settle = \"200ms\" }\n";
    it.config(&(scaled_and_found + third));
    it.sh("systemctl start worker@3.service").ok();
    scaled("scaled", 2, 3);
    assert_eq!(running(), "1 2 3");
    scaled("scaled", 3, 4);
    load("900");
    scaled("at_max", 4, 4);

    // one that fails does not count, and is started again
    it.sh("systemctl kill --signal=KILL worker@2.service").ok();
    it.wait("systemctl is-failed worker@2.service");
    scaled("scaled", 3, 4);
    assert_eq!(running(), "1 2 3 4");

    // the highest go first; the third is not broken when it is gone, nor is one that failed when it was stopped
    load("15");
    scaled("scaled", 4, 3);
    scaled("scaled", 3, 2);
    assert_eq!(running(), "1 2");
    let ended = scaled("steady", 2, 2)
        .exits(0)
        .tells("third", "healthy", &[])
        .tells("worker-1", "healthy", &[]);
    let third = ended.service("third");
    let notes = third["notes"].to_string();
    assert!(
        notes.contains("the scale `workers` has fewer replicas now"),
        "{third}"
    );
    assert_eq!(running(), "1 2");

    // one that does not come up
    fs::write(it.path("fail-3"), "").unwrap();
    load("25");
    let ended = scaled("scale_failed", 2, 3);
    let error = scale_in(&ended)["action"]["error"].to_string();
    assert!(
        error.contains("2 of 3 replicas run: worker@3.service is failed"),
        "{error}"
    );
    let valid = it.sh("watchdog validate").ok();
    assert!(!valid.contains("systemd cannot start"), "{valid}");
}

struct Redis(Child);

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs redis"]
fn the_length_of_a_list_is_read_with_a_password_that_nobody_sees() {
    let scene = Scene::new();
    let port = free_port();
    let server = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--port", &port.to_string(), "--dir", scene.dir()])
        .args(["--requirepass", "CANARY1"])
        .stdout(Stdio::null())
        .spawn();
    let _server = Redis(server.unwrap());
    let ask = |words: &[&str]| {
        let mut command = Command::new("redis-cli");
        command
            .args(["-p", &port.to_string()])
            .args(words)
            .env("REDISCLI_AUTH", "CANARY1");
        let output = command.stderr(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    wait_until("redis-server answers", || ask(&["PING"]) == "PONG");
    let configure = |url: &str, list: &str| {
        scene.write("redis.url", format!("{url}\n"));
        let path = scene.path("redis.url");
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        scene.config(&format!(
            "[scale.workers]\nunits = \"no-such-worker@{{n}}.service\"\nper_replica = 100\n\
             metric = {{ redis_file = \"redis.url\", list = \"{list}\" }}\n"
        ));
    };
    let url = format!("redis://:CANARY1@127.0.0.1:{port}/0");
    let read = |list: &str| {
        configure(&url, list);
        let outcome = scene.check();
        assert!(!outcome.text().contains("CANARY1"), "{outcome:?}");
        scale(&outcome)
    };
    assert_eq!(read("celery")["metric"], 0.0);
    for task in ["one", "two", "three"] {
        ask(&["RPUSH", "celery", task]);
    }
    assert_eq!(read("celery")["metric"], 3.0);
    ask(&["SET", "text", "x"]);
    let wrong = read("text");
    assert!(wrong["metric"].is_null());
    assert_eq!(wrong["verdict"], "unknown");
    configure(&format!("redis://:CANARY2@127.0.0.1:{port}/0"), "celery");
    let outcome = scene.check();
    assert!(!outcome.text().contains("CANARY2"), "{outcome:?}");
    for name in ["state/state.json", "state/journal.jsonl"] {
        let kept = if scene.has(name) {
            scene.read(name)
        } else {
            String::new()
        };
        assert!(!kept.contains("CANARY"), "{name}: {kept}");
    }
    let shown = scene.run(&["show-config"]).exits(0).stdout;
    assert!(!shown.contains("CANARY"), "{shown}");
}
