//! What is said of logs.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use chrono::{TimeDelta, Utc};

use super::Golden;
use crate::scene::{Scene, Service};

/// What makes a scene into the one that a case is about.
type Furnish = fn(&Scene);

fn log(keys: &str) -> String {
    format!("[service.a]\n[[service.a.log]]\npath = \"a.log\"\n{keys}\n")
}

#[test]
fn logs_that_cannot_be_read() {
    let mut golden = Golden::new("logs_unreadable");
    let cases: [(&str, &str, Furnish); 7] = [
        ("not there", "a.log", |_| {}),
        ("no directory", "logs/a.log", |_| {}),
        ("a link to nowhere", "a.log", |scene| {
            symlink("nowhere", scene.path("a.log")).unwrap();
        }),
        ("a link to itself", "a.log", |scene| {
            symlink("a.log", scene.path("a.log")).unwrap();
        }),
        ("a directory", "a.log", |scene| {
            fs::create_dir(scene.path("a.log")).unwrap();
        }),
        ("below a file", "prog.sh/a.log", |_| {}),
        ("a device", "/dev/null", |_| {}),
    ];
    for (what, path, furnish) in cases {
        let scene = Scene::with(&format!(
            "[service.a]\n[[service.a.log]]\npath = \"{path}\"\nmax_age = \"5m\"\n"
        ));
        furnish(&scene);
        golden.title(what);
        golden.run(&scene, &["check"]);
    }
    golden.title("not there, and nothing else is asked of it");
    golden.run(&Scene::with(&log("")), &["check"]);
    golden.compare();
}

#[test]
fn logs_that_show_trouble() {
    let mut golden = Golden::new("logs_findings");
    let scene = Scene::with(&log("expect = [{ pattern = 'tick', at_least = 2 }]"));
    for text in ["", "tick\n", "tick\ntack\n"] {
        scene.write("a.log", text);
        golden.title(&format!("two lines expected of {text:?}"));
        golden.run(&scene, &["check"]);
    }

    scene.config(&log("max_age = \"5m\""));
    scene.age("a.log", Duration::from_secs(2 * 3600 + 30));
    golden.title("too old");
    golden.run(&scene, &["check"]);
    golden.run(&scene, &["why", "a"]);
    scene.set_mtime("a.log", (Utc::now() + TimeDelta::hours(2)).into());
    golden.title("of the future");
    golden.run(&scene, &["check"]);

    let stamps =
        "max_age = \"5m\"\nlines = 2\ntimestamp = \"%Y-%m-%d %H:%M:%S\"\ntimestamp_zone = \"utc\"";
    scene.config(&log(stamps));
    scene.age("a.log", Duration::ZERO);
    golden.title("without a stamp");
    golden.run(&scene, &["check"]);
    for (what, ahead) in [
        ("stamped two hours ago", TimeDelta::seconds(-7230)),
        ("stamped in two hours", TimeDelta::hours(2)),
    ] {
        let stamp = (Utc::now() + ahead).format("%Y-%m-%d %H:%M:%S");
        scene.write("a.log", format!("{stamp} tick\n"));
        golden.title(what);
        golden.run(&scene, &["check"]);
    }

    let scene = Scene::with(&log("forbid = ['ERROR']"));
    for more in [
        "ERROR one\nfine\nERROR two\n",
        "ERROR three\n",
        "ERROR four\nERROR \u{1b}[2J\n",
    ] {
        scene.append("a.log", more);
        golden.title(&format!("new lines: {more:?}"));
        golden.run(&scene, &["check"]);
    }
    scene.write("a.log", "new\n");
    golden.title("truncated");
    golden.run(&scene, &["check"]);
    golden.compare();
}

#[test]
fn lines_and_logs_that_are_too_long() {
    let mut golden = Golden::new("logs_too_long");
    let scene = Scene::with(&log("forbid = ['ERROR']"));
    let long = "x".repeat(70_000);
    scene.write("a.log", format!("{long}\n"));
    golden.title("a long line");
    golden.run(&scene, &["check"]);
    scene.append("a.log", format!("{long}\n{long}\n"));
    golden.title("two long lines");
    golden.run(&scene, &["check"]);

    let scene = Scene::with(&log("lines = 100\nexpect = ['tick']"));
    let long = "x".repeat(60_000);
    // not in the newest lines, so that all are looked for
    let lines = |word: &str, count| format!("{word} {long}\n").repeat(count);
    scene.write("a.log", lines("tick", 18) + &lines("tock", 12));
    golden.title("more than is searched");
    golden.run(&scene, &["check"]);
    golden.compare();
}

#[test]
fn a_young_process() {
    let mut golden = Golden::new("start_grace");
    let scene = Scene::of(&[&Service::new("a")
        .watched()
        .top("start_grace", "\"10m\"")
        .log("path = \"nowhere.log\"\nmax_age = \"5m\"")]);
    scene.start("a", &["pid_file=a.pid"]);
    scene.wait_until("its PID file", || scene.has("a.pid"));
    golden.run(&scene, &["check"]);
    golden.run(&scene, &["why", "a"]);
    golden.compare();
}

#[test]
fn logs_that_are_well() {
    let mut golden = Golden::new("logs_well");
    let scene = Scene::with(
        "[service.a]\n[[service.a.log]]\npath = \"prog.sh\"\n[[service.a.log]]\npath = \"a.log\"\nmax_age = \"5m\"\n\
         timestamp = \"%Y-%m-%dT%H:%M:%SZ\"\n",
    );
    let stamp = Utc::now().format("%Y-%m-%dT%H:%M:%SZ");
    scene.write("a.log", format!("{stamp} tick\n"));
    golden.run(&scene, &["check"]);
    golden.run(&scene, &["why", "a"]);
    golden.compare();
}
