//! What happens to a container between the look at it and its restart: it is asked for once more right before that.

use nix::sys::signal::Signal;

use crate::container_commands::service;
use crate::containers::Engine;
use crate::scene::{Outcome, Scene, alive, signal};

/// Something is done to a running container after it was looked at, and before anything is done about it.
fn meanwhile(scene: &Scene, engine: &Engine, service: &str, done: impl FnOnce()) -> Outcome {
    for name in ["asked", "go"] {
        let _ = std::fs::remove_file(scene.path(name));
    }
    let waits = "touch asked; until [ -e go ]; do sleep 0.02; done";
    let evidence = format!(
        "working_dir = \"{}\"\nevidence = {{ command = [\"sh\", \"-c\", \"{waits}\"], timeout = \"5s\" }}\n",
        scene.dir()
    );
    engine.config(scene, &format!("{service}{evidence}"));
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
        let ran = format!("touch {}/ran; docker start web", scene.dir());
        let service = service(&engine, "web", &ran, keys);
        engine.run("web", &[], &[]);
        signal(engine.pid("web"), Signal::SIGSTOP);
        let outcome = meanwhile(&scene, &engine, &service, || {
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
        let outcome = meanwhile(&scene, &engine, &service, || {
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

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn a_container_that_is_well_by_then_or_was_restarted_by_somebody_else_is_left_alone() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    let health_of =
        |name: &str| engine.docker(&["inspect", "-f", "{{.State.Health.Status}}", name]);
    let started = || engine.docker(&["inspect", "-f", "{{.State.StartedAt}}", "web"]);
    let check = [
        "--health-cmd",
        "test -e /tmp/ok",
        "--health-interval",
        "300ms",
        "--health-retries",
        "1",
    ];
    engine.run("web", &check, &[]);
    let table = "[service.web]\ncontainer = { name = \"web\" }\n";
    let unwell = || scene.wait_until("it is unhealthy", || health_of("web") == "unhealthy");
    let mend = || {
        engine.docker(&["exec", "web", "touch", "/tmp/ok"]);
        scene.wait_until("it is healthy", || health_of("web") == "healthy");
    };
    unwell();
    let before = started();
    let outcome = meanwhile(&scene, &engine, table, mend);
    let outcome = outcome.exits(2).verdict("web", "waiting");
    let outcome = outcome.finds("web", "container_unhealthy");
    let why = outcome.service("web")["notes"].to_string();
    assert!(why.contains("not restarted: web is well by now"), "{why}");
    assert_eq!(started(), before);
    let outcome = scene.check().exits(0).verdict("web", "healthy");
    assert_eq!(outcome.service("web")["restarts_last_hour"], 1);
    // what it was restarted for may be gone or not: it is young
    engine.docker(&["exec", "web", "busybox", "rm", "/tmp/ok"]);
    unwell();
    let outcome = meanwhile(&scene, &engine, table, || {
        engine.docker(&["restart", "-t", "0", "web"]);
    });
    let after = started();
    assert_ne!(after, before);
    let outcome = outcome.exits(2).verdict("web", "waiting");
    let why = outcome.service("web")["notes"].to_string();
    assert!(
        why.contains("web was restarted by somebody else meanwhile"),
        "{why}"
    );
    assert_eq!(started(), after);
    // the engine knows nothing of a log
    mend();
    scene.write("web.log", "");
    scene.age("web.log", std::time::Duration::from_secs(3600));
    let log = format!(
        "{table}[[service.web.log]]\npath = \"{}/web.log\"\nmax_age = \"5m\"\n",
        scene.dir()
    );
    engine.config(&scene, &log);
    scene.check().restarted_for("web", "log_stale");
    // nor does a person who asks for it want to hear that it is well
    mend();
    engine.config(&scene, table);
    let before = started();
    scene.run(&["restart", "web"]).exits(0);
    assert_ne!(started(), before);
}
