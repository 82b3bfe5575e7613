//! What containers of a real Docker engine write. One engine serves all of it.

use nix::sys::signal::Signal;

use crate::containers::Engine;
use crate::scene::{Outcome, Scene, signal};

fn services(names: &[&str], keys: &str) -> String {
    let service = |name: &&str| {
        format!(
            "[service.{name}]\ncontainer = {{ name = \"{name}\" }}\n[[service.{name}.log]]\ncontainer = true\n{keys}\n"
        )
    };
    names.iter().map(service).collect()
}

/// How many new lines the log of a service had that are forbidden.
fn errors(outcome: &Outcome, name: &str) -> u64 {
    let findings = outcome.service(name)["findings"]
        .as_array()
        .unwrap()
        .clone();
    let found = findings.iter().find(|it| it["code"] == "log_error");
    found.map_or(0, |found| {
        let message = found["message"].as_str().unwrap();
        let behind = message.split(": ").nth(1).unwrap();
        behind.split(' ').next().unwrap().parse().unwrap()
    })
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn what_a_container_writes_is_judged_once_by_whatever_its_engine_keeps_it_with() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    // each line that is put into the file is written, with another one to the other stream
    let echo = "echo begun; while true; do if test -e /tmp/say; then cat /tmp/say; echo 'ERROR beside' >&2; \
                busybox mv /tmp/say /tmp/said; fi; sleep 0.05; done";
    let sh = ["sh", "-c", echo];
    engine.run("plain", &[], &sh);
    engine.run("terminal", &["-t"], &sh);
    engine.run("local", &["--log-driver", "local"], &sh);
    let all = ["plain", "terminal", "local"];
    let said = |name: &str| engine.logs(name).matches("ERROR").count();
    let say = |name: &str, count: usize| {
        let before = said(name);
        let put = format!(
            "for i in 1 2 3 4 5 6 7 8 9; do test $i -le {count} && echo ERROR $i; done >/tmp/new; busybox mv /tmp/new /tmp/say"
        );
        engine.docker(&["exec", name, "sh", "-c", &put]);
        scene.wait_until("it has said so", || said(name) > before + count);
    };
    engine.config(
        &scene,
        &services(
            &all,
            "severity = \"warning\"\nforbid = ['ERROR']\nexpect = ['begun']",
        ),
    );
    scene.check().exits(0);
    for name in all {
        say(name, 3);
    }
    let outcome = scene.check().exits(1);
    for name in all {
        assert_eq!(errors(&outcome, name), 4, "{name}");
    }
    let outcome = scene.check().exits(0);
    assert_eq!(errors(&outcome, "plain"), 0);
    // the engine itself starts it again: the last words of the one before count, once, as an earlier process's
    say("plain", 2);
    engine.docker(&["restart", "-t", "0", "plain"]);
    let outcome = scene.check().exits(1);
    assert_eq!(errors(&outcome, "plain"), 3);
    let message = outcome.service("plain")["findings"].to_string();
    assert!(
        message.contains("perhaps of an earlier process"),
        "{message}"
    );
    scene.check().exits(0);
    // what a restart of ours has stopped is done with
    say("plain", 2);
    signal(engine.pid("plain"), Signal::SIGSTOP);
    engine.config(&scene, &services(&["plain"], "forbid = ['ERROR']"));
    scene.check().restarted_for("plain", "process_stopped");
    scene.check().exits(0);
    say("plain", 1);
    scene.check().restarted_for("plain", "log_error");
    scene.check().exits(0);
    // made anew: all of it is new
    engine.docker(&["rm", "-f", "plain"]);
    engine.run(
        "plain",
        &[],
        &["sh", "-c", "echo ERROR at once; exec sleep 1000000"],
    );
    scene.wait_until("it has said so", || said("plain") == 1);
    scene.check().restarted_for("plain", "log_error");
    let why = scene.run(&["why", "plain"]).stdout;
    assert!(
        why.contains("the output of container plain: 1 pattern forbidden"),
        "{why}"
    );
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn output_that_is_not_kept_or_does_not_come_is_said_and_holds_up_no_other() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    engine.run("none", &["--log-driver", "none"], &[]);
    engine.run("silent", &[], &[]);
    engine.run(
        "much",
        &[],
        &[
            "sh",
            "-c",
            "cat /big; echo ERROR at the end; exec sleep 1000000",
        ],
    );
    let big = scene.path("big");
    std::fs::write(&big, "0123456789abcdef\n".repeat(1 << 19)).unwrap();
    engine.docker(&["cp", big.to_str().unwrap(), "much:/big"]);
    engine.docker(&["restart", "-t", "0", "much"]);
    // an earlier run of it ended with the same line
    let has_said_all = || {
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", engine.pid("much")));
        comm.is_ok_and(|comm| comm == "sleep\n")
            && engine.docker(&["logs", "--tail", "1", "much"]) == "ERROR at the end"
    };
    scene.wait_until("it has said all", has_said_all);
    engine.config(
        &scene,
        &services(
            &["none", "silent", "much"],
            "forbid = ['ERROR']\nmax_age = \"1h\"",
        ),
    );
    let outcome = scene.check().exits(3);
    let outcome = outcome
        .verdict("none", "unknown")
        .finds("none", "log_unreadable")
        .verdict("silent", "healthy")
        .finds("much", "log_error");
    let message = outcome.service("none")["findings"].to_string();
    assert!(message.contains("its log driver is `none`"), "{message}");
    let validated = scene.run(&["validate"]).stdout;
    assert!(
        validated.contains("its log driver is `none`"),
        "{validated}"
    );
    assert!(
        validated.contains("the output of container silent is empty"),
        "{validated}"
    );
    // more than is read in a run: the newest of it, and that is said
    engine.docker(&["restart", "-t", "0", "much"]);
    scene.wait_until("it has said all again", has_said_all);
    let outcome = scene.check();
    let notes = outcome.service("much")["notes"].to_string();
    assert!(notes.contains("only the newest 8 MiB"), "{notes}");
}

#[test]
#[ignore = "needs root, docker.io and busybox-static"]
fn what_a_container_uses_is_counted_as_its_engine_does() {
    let scene = Scene::new();
    let engine = Engine::new(&scene);
    engine.run(
        "busy",
        &["--memory", "64m"],
        &["sh", "-c", "while true; do :; done"],
    );
    engine.run("idle", &[], &[]);
    let service = |name: &str| {
        format!(
            "[service.{name}]\ncontainer = {{ name = \"{name}\" }}\nmemory = {{ critical = \"90%\" }}\n\
             cpu = {{ critical = \"400%\" }}\nthreads = {{ critical = 50 }}\nopen_files = {{ critical = 5000 }}\n"
        )
    };
    engine.config(&scene, &(service("busy") + &service("idle")));
    let usage = |name: &str| scene.check().exits(0).service(name)["usage"].clone();
    let first = usage("busy");
    assert!(first["cpu_percent"].is_null(), "{first}");
    assert_eq!(
        (&first["threads"], &usage("idle")["threads"]),
        (&1.into(), &1.into())
    );
    // two looks a second apart are an average
    scene.wait_until("there is an average", || {
        !usage("busy")["cpu_percent"].is_null()
    });
    let stats = engine.docker(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "busy"]);
    let seen = usage("busy");
    // `564KiB / 64MiB`
    let (used, limit) = stats.split_once(" / ").unwrap();
    assert_eq!(limit, "64MiB");
    let end = used.find(|c: char| c.is_ascii_alphabetic()).unwrap();
    let unit = match &used[end..] {
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        other => panic!("{other}"),
    };
    let used: f64 = used[..end].parse::<f64>().unwrap() * unit;
    let own = seen["memory_bytes"].as_f64().unwrap();
    assert!((own - used).abs() < 256.0 * 1024.0, "{own} and {used}");
    let load = scene.state()["services"]["busy"].to_string();
    // by its control group, not by its processes
    assert!(load.contains("\"group\":"), "{load}");
    // by a limit that it reaches, which is the container's
    let low = service("busy").replace("\"90%\"", "\"0.1%\"");
    engine.config(&scene, &format!("{low}restart = {{ max_per_hour = 0 }}\n"));
    let outcome = scene.check().finds("busy", "memory_high");
    let message = outcome.service("busy")["findings"][0]["message"].to_string();
    assert!(
        message.contains("its container uses")
            && message.contains("of its container's limit of 67"),
        "{message}"
    );
}
