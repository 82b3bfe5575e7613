//! Containers that share a network, and what is asked of those that have not changed, with a real Docker engine.

use std::fs;

use nix::sys::signal::Signal;

use crate::containers::Engine;
use crate::scene::{Scene, signal};

fn network(engine: &Engine, name: &str) -> String {
    let link = format!("/proc/{}/ns/net", engine.pid(name));
    fs::read_link(link).unwrap().display().to_string()
}

fn started(engine: &Engine, name: &str) -> String {
    engine.docker(&["inspect", "-f", "{{.State.StartedAt}}", name])
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn who_shares_the_network_of_what_was_restarted_is_restarted_after_it() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    let client = [
        "run",
        "-d",
        "--name",
        "client",
        "--network",
        "container:vpn",
    ];
    let run = || {
        engine.run("vpn", &[], &[]);
        engine.docker(&[&client[..], &["wd:1"]].concat());
    };
    run();
    engine.config(
        &scene,
        "[service.client]\ncontainer = { name = \"client\" }\nrestart = { after_failures = 3 }\n\
         [service.vpn]\ncontainer = { name = \"vpn\" }\n",
    );
    scene.check().exits(0);
    assert_eq!(network(&engine, "client"), network(&engine, "vpn"));

    // the restart of the one is what the other loses its network by
    signal(engine.pid("vpn"), Signal::SIGSTOP);
    let dry = scene.run(&["check", "--dry-run", "--json"]);
    dry.verdict("client", "failing")
        .finds("client", "network_lost");
    let outcome = scene.check();
    let outcome = outcome.restarted_for("vpn", "process_stopped");
    outcome.restarted_for("client", "network_lost");
    assert!(started(&engine, "client") > started(&engine, "vpn"));
    assert_eq!(network(&engine, "client"), network(&engine, "vpn"));
    scene.check().exits(0);

    // whoever restarted it
    engine.docker(&["restart", "-t", "0", "vpn"]);
    assert_ne!(network(&engine, "client"), network(&engine, "vpn"));
    let before = started(&engine, "vpn");
    let outcome = scene.check().verdict("vpn", "healthy");
    let outcome = outcome.restarted_for("client", "network_lost");
    let finding = outcome.service("client")["findings"].to_string();
    let says = "client has lost its network, which is that of vpn: that was started anew";
    assert!(finding.contains(says), "{finding}");
    assert_eq!(started(&engine, "vpn"), before);
    assert_eq!(network(&engine, "client"), network(&engine, "vpn"));
    scene.check().exits(0);

    // a run that restarted the one alone
    scene.run(&["restart", "vpn"]).exits(0);
    scene.check().restarted_for("client", "network_lost");

    // one that was made anew is another one, and a restart does not help
    let before = started(&engine, "client");
    engine.docker(&["rm", "-f", "vpn"]);
    engine.run("vpn", &[], &[]);
    let outcome = scene.check().verdict("vpn", "healthy");
    let outcome = outcome
        .verdict("client", "down")
        .finds("client", "network_lost");
    let found = outcome.service("client").to_string();
    assert!(found.contains("a restart does not mend that"), "{found}");
    assert_eq!(started(&engine, "client"), before);
}

/// The calls that the engine was seen to answer, by what its log says.
fn calls(engine: &Engine) -> Vec<String> {
    let log = fs::read_to_string(format!("{}/log", engine.directory)).unwrap();
    let calls = log.lines().filter_map(|line| {
        let (_, call) = line.split_once("Calling ")?;
        Some(call.trim_end_matches('"').to_owned())
    });
    calls.collect()
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn details_are_asked_only_of_what_may_have_changed() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    for name in ["one", "two", "logs"] {
        engine.run(name, &[], &[]);
    }
    let service = |name: &str| format!("[service.{name}]\ncontainer = {{ name = \"{name}\" }}\n");
    let text = ["one", "two", "logs"].map(service).concat();
    let log = "[[service.logs.log]]\ncontainer = true\nforbid = [\"Traceback\"]\n";
    engine.config(&scene, &format!("{text}{log}"));
    // from here on it says who asks what
    fs::write(
        format!("{}/daemon.json", engine.directory),
        "{\"debug\":true}",
    )
    .unwrap();
    let pid = fs::read_to_string(format!("{}/docker.pid", engine.directory)).unwrap();
    signal(pid.trim().parse().unwrap(), Signal::SIGHUP);
    scene.wait_until("the engine logs calls", || {
        engine.docker(&["version"]);
        !calls(&engine).is_empty()
    });
    let asked = || {
        let before = calls(&engine).len();
        let outcome = scene.check();
        let asked = calls(&engine).split_off(before);
        let lists = asked.iter().filter(|it| it.contains("/containers/json"));
        assert_eq!(lists.count(), 1, "{asked:?}");
        let details = asked.iter().filter(|call| {
            let path = call.split_once("/containers/").map_or("", |(_, rest)| rest);
            path.split_once('/')
                .is_some_and(|(id, rest)| id.len() == 64 && rest == "json")
        });
        (outcome, details.count())
    };
    let (outcome, details) = asked();
    assert_eq!(details, 3);
    outcome.exits(0);
    // that of which the output is read, whose driver and terminal decide about it
    let (outcome, details) = asked();
    assert_eq!(details, 1);
    outcome.exits(0);
    engine.docker(&["restart", "-t", "0", "two"]);
    let (outcome, details) = asked();
    assert_eq!(details, 2);
    let outcome = outcome.exits(0);
    let pid = outcome.service("two")["pid"].as_i64().unwrap();
    assert_eq!(pid, i64::from(engine.pid("two")));
    engine.docker(&["pause", "one"]);
    let (outcome, details) = asked();
    engine.docker(&["unpause", "one"]);
    assert_eq!(details, 2);
    outcome.finds("one", "container_paused");
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn two_services_that_are_one_container_restart_it_once() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    let label = |key: &str, value: &str| format!("com.docker.compose.{key}={value}");
    let (project, service) = (label("project", "app"), label("service", "web"));
    engine.run("web", &["--label", &project, "--label", &service], &[]);
    engine.config(
        &scene,
        "[service.a]\ncontainer = { name = \"web\" }\n\
         [service.b]\ncontainer = { project = \"app\", service = \"web\" }\n",
    );
    let trap = scene.run(&["validate"]).exits(0).stdout;
    let says = "is the container web, which another service is";
    assert!(trap.contains(says), "{trap}");
    signal(engine.pid("web"), Signal::SIGSTOP);
    let outcome = scene.check();
    let outcome = outcome.verdict("a", "restarted").verdict("b", "unknown");
    let found = outcome.service("b")["findings"].to_string();
    assert!(found.contains("that of service `a`, too"), "{found}");
}
