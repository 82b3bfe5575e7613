//! The watchdog in a container of its own, beside those that it looks after.

use std::fs;
use std::process::Command;

use crate::containers::Engine;
use crate::scene::{Scene, alive, signal};

fn contrib(name: &str) -> String {
    format!("{}/contrib/container/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The command lines of a file of contrib/ that are for the program: what follows its name or its entry point.
fn lines_for_the_program() -> Vec<Vec<String>> {
    let dockerfile = fs::read_to_string(contrib("Dockerfile")).unwrap();
    let compose = fs::read_to_string(contrib("compose.yml")).unwrap();
    let lists = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("CMD "))
        .chain((compose.lines()).filter_map(|line| line.trim().strip_prefix("command: ")));
    let mut found: Vec<Vec<String>> = lists
        .map(|list| serde_json::from_str(list).unwrap())
        .collect();
    let (_, check) = compose.split_once("/usr/local/bin/watchdog ").unwrap();
    let (check, _) = check.split_once(" >").unwrap();
    found.push(check.split(' ').map(str::to_owned).collect());
    found
}

#[test]
fn what_contrib_runs_are_command_lines_of_the_program() {
    let lines = lines_for_the_program();
    assert_eq!(lines.len(), 3);
    for line in lines {
        // an option more that there is not: everything before it was understood
        let said = Command::new(env!("CARGO_BIN_EXE_watchdog"))
            .args(&line)
            .arg("--no-such-option")
            .output()
            .unwrap();
        let said = String::from_utf8(said.stderr).unwrap();
        assert!(
            said.contains("unexpected argument '--no-such-option'"),
            "{line:?}: {said}"
        );
    }
}

#[test]
#[ignore = "needs docker-compose"]
fn the_compose_file_is_one() {
    let checked = Command::new("docker-compose")
        .args(["-f", &contrib("compose.yml"), "config", "--quiet"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.is_empty(), "{said}");
}

/// An image with the program, what it is linked with, and a shell.
fn make_image(scene: &Scene, engine: &Engine) {
    let script = format!(
        "set -e; root='{dir}/root'; mkdir -p \"$root/bin\" \"$root/var/lib\" \"$root/usr/local/bin\" \"$root/run\"\n\
         cp /bin/busybox \"$root/bin/\"; for it in sh test; do ln -s busybox \"$root/bin/$it\"; done\n\
         cp '{program}' \"$root/usr/local/bin/watchdog\"\n\
         ldd '{program}' | grep -o '/[^ ]*' | while read -r it; do mkdir -p \"$root${{it%/*}}\"; cp -L \"$it\" \"$root$it\"; done\n\
         tar -C \"$root\" -c . | DOCKER_HOST=unix://{engine}/docker.sock docker import - self:1",
        dir = scene.dir(),
        program = env!("CARGO_BIN_EXE_watchdog"),
        engine = engine.directory,
    );
    scene.shell(&script).exits(0);
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn it_restarts_others_by_the_engines_socket_and_leaves_its_own_container_alone() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    make_image(&scene, &engine);
    let config = scene.path("etc");
    fs::create_dir(&config).unwrap();
    scene.write(
        "etc/watchdog.toml",
        "[defaults]\nstart_grace = \"0s\"\nrestart = { settle = \"200ms\", stop_timeout = \"1s\" }\n\
         [discover.all]\nlabel = \"watched\"\n",
    );
    engine.run("gateway", &["--label", "watched"], &[]);
    let socket = format!("{}/docker.sock:/run/docker.sock", engine.directory);
    let config = format!("{}:/etc/watchdog:ro", config.display());
    let watchdog = [
        "/usr/local/bin/watchdog",
        "--config",
        "/etc/watchdog/watchdog.toml",
    ];
    let options = [
        "run",
        "-d",
        "--name",
        "keeper",
        "--label",
        "watched",
        "--network",
        "none",
        "--pid",
        "host",
        "-v",
        &socket,
        "-v",
        &config,
        "self:1",
    ];
    engine.docker(&[&options[..], &watchdog, &["run", "--every", "1s"]].concat());
    let field = |name: &str, field: &str| {
        let format = format!("{{{{.{field}}}}}");
        engine.docker(&["inspect", "-f", &format, name])
    };
    let own = field("keeper", "State.StartedAt");
    // ended, and frozen
    for sent in [
        nix::sys::signal::Signal::SIGKILL,
        nix::sys::signal::Signal::SIGSTOP,
    ] {
        let (before, pid) = (field("gateway", "State.StartedAt"), engine.pid("gateway"));
        signal(pid, sent);
        scene.wait_until("the gateway is restarted", || {
            field("gateway", "State.StartedAt") != before && engine.state("gateway") == "running"
        });
        assert!(!alive(pid));
    }
    let inside = |arguments: &[&str]| {
        engine.docker(&[&["exec", "keeper"][..], &watchdog, arguments].concat())
    };
    scene.wait_until("a run has found all well", || {
        let status = engine.docker(&[
            "exec",
            "keeper",
            "/bin/sh",
            "-c",
            &format!("{} status --json || true", watchdog.join(" ")),
        ]);
        status.contains("\"verdict\":\"healthy\"")
    });
    let status = inside(&["status", "--json"]);
    assert!(
        status.contains("\"gateway\"") && !status.contains("\"keeper\""),
        "{status}"
    );
    let test = fs::read_to_string(contrib("compose.yml")).unwrap();
    let (_, check) = test.split_once("[\"CMD-SHELL\", \"").unwrap();
    let (check, _) = check.split_once("\"]").unwrap();
    engine.docker(&["exec", "keeper", "/bin/sh", "-c", &check.replace("$$", "$")]);
    // asked to end, it ends well
    engine.docker(&["stop", "keeper"]);
    assert_eq!(field("keeper", "State.ExitCode"), "0");
    assert_eq!(field("keeper", "State.StartedAt"), own);
}
