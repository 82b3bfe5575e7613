//! `restart.command` beside a container: it is run in the place of the engine's own restart, asked for and verified as that.

use nix::sys::signal::Signal;

use crate::containers::Engine;
use crate::scene::{Scene, alive, signal};

/// A service of a container that a command of the shell restarts, with Docker's client at hand.
pub(crate) fn service(engine: &Engine, name: &str, command: &str, keys: &str) -> String {
    format!(
        "[service.{name}]\ncontainer = {{ name = \"{name}\" }}\n\
         restart = {{ start_timeout = \"2s\", settle = \"100ms\", {keys} command = [\"/bin/sh\", \"-c\", \
         \"export DOCKER_HOST=unix://{}/docker.sock; {command}\"] }}\n",
        engine.directory
    )
}

const FAILING: &[&str] = &[
    "--health-cmd",
    "echo no file; false",
    "--health-interval",
    "300ms",
    "--health-retries",
    "1",
];

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn a_command_has_restarted_a_container_only_where_the_engine_says_that_it_is_up() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    let health = |name: &str| engine.docker(&["inspect", "-f", "{{.State.Health.Status}}", name]);
    let ends = ["sh", "-c", "test -e /tmp/fine || exit 3; exec sleep 1000"];
    engine.run("ended", &[], &ends);
    engine.run("unwell", FAILING, &[]);
    scene.wait_until("it has ended", || engine.state("ended") == "exited");
    scene.wait_until("it is unhealthy", || health("unwell") == "unhealthy");
    let all = |command: &dyn Fn(&str) -> String| {
        let services = ["ended", "unwell", "nowhere"].map(|name| {
            let keys = if name == "unwell" {
                "stop_first = false,"
            } else {
                ""
            };
            service(&engine, name, &command(name), keys)
        });
        engine.config(&scene, &services.concat());
    };
    // it does nothing, and says that all is well
    all(&|_| "true".to_owned());
    let outcome = scene.check().exits(2);
    for (name, parts) in [
        (
            "ended",
            ["was not started anew", "exited with code 3"].as_slice(),
        ),
        (
            "unwell",
            &[
                "was not started anew",
                "HEALTHCHECK is unhealthy (`no file`)",
            ],
        ),
        ("nowhere", &["there is no container nowhere"]),
    ] {
        let service = outcome.service(name);
        assert_eq!(service["verdict"], "restart_failed", "{service}");
        assert_eq!(service["action"]["method"], "command");
        let error = outcome.error(name);
        assert!(
            parts.iter().all(|part| error.contains(part)),
            "{name}: {error}"
        );
    }
    // it starts them, and they are no better
    all(&|name| match name {
        "nowhere" => format!("docker run -d --name {name} --network none wd:1 false"),
        _ => format!("docker restart -t 1 {name}"),
    });
    let outcome = scene.check().exits(2);
    for (name, part) in [
        ("ended", "ended has exited with code 3"),
        ("unwell", "HEALTHCHECK is unhealthy"),
        ("nowhere", "nowhere has exited with code 1"),
    ] {
        let outcome = outcome.service(name);
        assert_eq!(outcome["verdict"], "restart_failed", "{outcome}");
        let error = outcome["action"]["error"].to_string();
        assert!(error.contains(part), "{name}: {error}");
    }
    // and they are: made anew by another command
    let made = |name: &str| {
        format!("docker rm -f {name}; docker run -d --name {name} --network none wd:1")
    };
    all(&made);
    let outcome = scene.check().exits(1);
    for name in ["ended", "unwell", "nowhere"] {
        let found = outcome.service(name);
        assert_eq!(found["verdict"], "restarted", "{found}");
        assert_eq!(found["container"]["state"], "running", "{found}");
        assert_eq!(found["pid"], engine.pid(name), "{found}");
    }
    scene.check().exits(0);
    // what runs is stopped first, and the engine has seen that when the command comes
    let pid = engine.pid("ended");
    signal(pid, Signal::SIGSTOP);
    let start = service(&engine, "ended", "docker start ended", "");
    engine.config(&scene, &start);
    scene.check().restarted_for("ended", "process_stopped");
    assert!(!alive(pid) && engine.state("ended") == "running");
}
