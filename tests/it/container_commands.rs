//! `restart.command` beside a container: it is run in the place of the engine's own restart, asked for and verified as that.

use nix::sys::signal::Signal;

use crate::containers::Engine;
use crate::scene::{Outcome, Scene, alive, signal};

/// A service of a container that a command of the shell restarts, with Docker's client at hand.
fn service(engine: &Engine, name: &str, command: &str, keys: &str) -> String {
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

/// Something is done to a frozen container after it was looked at, and before its command is run.
fn meanwhile(scene: &Scene, engine: &Engine, keys: &str, done: impl FnOnce()) -> Outcome {
    for name in ["asked", "go"] {
        let _ = std::fs::remove_file(scene.path(name));
    }
    let ran = format!("touch {}/ran; docker start web", scene.dir());
    let waits = "touch asked; until [ -e go ]; do sleep 0.02; done";
    let evidence = format!(
        "working_dir = \"{}\"\nevidence = {{ command = [\"sh\", \"-c\", \"{waits}\"], timeout = \"5s\" }}\n",
        scene.dir()
    );
    engine.config(scene, &(service(engine, "web", &ran, keys) + &evidence));
    let run = scene.begin(scene.command(&["check", "--json"]));
    scene.wait_until("it was looked at", || scene.has("asked"));
    done();
    scene.write("go", "");
    scene.end(run)
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn a_command_is_not_run_where_its_container_is_another_one_by_then_or_paused() {
    for keys in ["", "stop_first = false,"] {
        let scene = Scene::new();
        let engine = Engine::new(&scene);
        engine.run("web", &[], &[]);
        signal(engine.pid("web"), Signal::SIGSTOP);
        let outcome = meanwhile(&scene, &engine, keys, || {
            engine.docker(&["rm", "-f", "web"]);
            engine.run("web", &[], &[]);
        });
        let fresh = engine.pid("web");
        assert_eq!(outcome.codes("web"), ["process_stopped"]);
        let outcome = outcome.exits(2).verdict("web", "waiting");
        let why = outcome.service("web")["notes"].to_string();
        assert!(why.contains("re-created since it was looked at"), "{why}");
        assert!(!scene.has("ran") && alive(fresh));
        scene.check().exits(0).verdict("web", "healthy");
        // what somebody has paused gets no signal
        signal(fresh, Signal::SIGSTOP);
        let outcome = meanwhile(&scene, &engine, keys, || {
            engine.docker(&["pause", "web"]);
        });
        // nor where it was paused before
        let again = scene.check();
        engine.docker(&["unpause", "web"]);
        let outcome = outcome.exits(2).verdict("web", "waiting");
        let why = outcome.service("web")["notes"].to_string();
        assert!(why.contains("web is paused"), "{why}");
        again.finds("web", "container_paused");
        let signals = crate::scene::status(fresh, "ShdPnd");
        assert_eq!(u64::from_str_radix(&signals, 16), Ok(0), "{signals}");
        assert!(!scene.has("ran") && alive(fresh));
    }
}
