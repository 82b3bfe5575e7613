//! What the commands say that ask or change what is remembered.

use chrono::{TimeDelta, Utc};

use super::Golden;
use crate::scene::{MAIL, Scene};

const CONFIG: &str = "[service.a]\nprocess = { pid_file = \"a.pid\" }\n\
     [service.b]\nprocess = { pid_file = \"b.pid\" }\nrestart = { command = [\"false\"] }\n";

#[test]
fn before_any_run() {
    let mut golden = Golden::new("before_any_run");
    let scene = Scene::with(CONFIG);
    for args in [
        &["status"][..],
        &["history"],
        &["why", "a"],
        &["resume", "a"],
        &["reset", "a"],
        &["check", "chekc"],
        &["why", "c"],
        &["history", "--since", "0s"],
        &["status", "--max-age", "10m"],
    ] {
        golden.run(&scene, args);
    }
    golden.title("after a run of one service");
    golden.run(&scene, &["check", "a"]);
    golden.run(&scene, &["status"]);
    golden.title("the last run was two hours ago");
    scene.run(&["check"]).exits(2);
    scene.edit_state(|state| {
        state["last_run"] = (Utc::now() - TimeDelta::minutes(125)).to_rfc3339().into();
    });
    golden.run(&scene, &["status", "--max-age", "10m"]);
    golden.compare();
}

#[test]
fn paused() {
    let mut golden = Golden::new("paused");
    let scene = Scene::with(&format!("{MAIL}{CONFIG}"));
    golden.run(
        &scene,
        &["pause", "b", "--for", "2h", "--reason", "disk swap"],
    );
    golden.run(&scene, &["check", "b"]);
    golden.run(&scene, &["status", "b"]);
    golden.run(&scene, &["why", "b"]);
    golden.run(&scene, &["restart", "b"]);
    golden.title("again, without a reason");
    golden.run(&scene, &["resume", "b"]);
    golden.run(&scene, &["check", "--no-mail", "a"]);
    golden.run(&scene, &["pause", "a"]);
    golden.run(&scene, &["why", "a"]);
    golden.run(&scene, &["resume", "a"]);
    golden.run(&scene, &["check", "b"]);
    golden.run(&scene, &["reset", "b"]);
    golden.run(&scene, &["history"]);
    golden.compare();
}

#[test]
fn json() {
    let mut golden = Golden::new("json");
    let scene = Scene::with(CONFIG);
    golden.replace_pattern("\"host\":\"[^\"]*\"", "\"host\":\"{host}\"");
    golden.run(&scene, &["check", "--json"]);
    golden.run(&scene, &["status", "--json"]);
    golden.run(&scene, &["history", "--json"]);
    golden.compare();
}

#[test]
fn programs_that_cannot_be_adopted() {
    let mut golden = Golden::new("not_adopted");
    let scene = Scene::with(CONFIG);
    golden.run(&scene, &["adopt", "4194305"]);
    golden.run(&scene, &["adopt", "no-such-program"]);
    golden.compare();
}

#[test]
fn times_that_are_none() {
    let mut golden = Golden::new("no_times");
    let scene = Scene::with(CONFIG);
    for time in ["5 weeks", "5", "1.5h", "40000d"] {
        golden.run(&scene, &["history", "--since", time]);
        let other = Scene::with(&format!(
            "check_timeout = \"{time}\"\n[service.a]\nspawn = {{ command = [\"true\"] }}\n"
        ));
        golden.run(&other, &["validate"]);
    }
    golden.compare();
}
