//! The channel `exec`: what a command is given, what its end means, and that nothing of it is left.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::scene::hooks::{Answer, Hooks};
use crate::scene::{Outcome, Scene, Service, alive, render};

/// A scene with a service that is down, and a channel that runs this.
fn scene_of(command: &str) -> Scene {
    let scene = Scene::new();
    configure(&scene, command, "");
    scene
}

fn configure(scene: &Scene, command: &str, more: &str) {
    let down = Service::new("alpha").watched();
    scene.config(&format!(
        "[notify.own]\ntype = \"exec\"\ncommand = {command}\n{more}\n{}",
        render(&[&down])
    ));
}

/// A shell script as a command.
fn script(text: &str) -> String {
    format!("[\"/bin/sh\", \"-c\", '{text}']")
}

fn own(outcome: &Outcome) -> (u64, u64) {
    let json = outcome.json();
    let count = |key: &str| json["notify"]["own"][key].as_u64().unwrap();
    (count("sent"), count("queued"))
}

/// What the journal has of the channel last.
fn last(scene: &Scene) -> (String, String) {
    let entry = scene.journal().pop().unwrap();
    assert_eq!(entry["channel"], "own", "{entry}");
    let text = |key: &str| entry[key].as_str().unwrap().to_owned();
    (text("event"), text("message"))
}

#[test]
fn a_command_is_given_json_and_a_fixed_environment_once() {
    let scene = scene_of(&script(
        "cat >>{dir}/given; tr \"\\\\000\" \"\\\\n\" </proc/self/environ >{dir}/environment",
    ));
    assert_eq!(own(&scene.check().exits(2)), (1, 0));
    assert_eq!(own(&scene.check().exits(2)), (0, 0));
    let given = scene.read("given");
    assert_eq!(given.lines().count(), 1, "{given}");
    let given: Value = serde_json::from_str(&given).unwrap();
    assert_eq!(given["alerts"][0]["service"], "alpha");
    assert_eq!(given["alerts"][0]["event"], "down");
    let environment = scene.read("environment");
    let value = |name: &str| {
        let mut lines = environment.lines();
        lines.find_map(|line| line.strip_prefix(&format!("{name}=")))
    };
    assert_eq!(value("WATCHDOG_EVENT"), Some("down"));
    assert_eq!(value("WATCHDOG_SERVICE"), Some("alpha"));
    assert_eq!(value("WATCHDOG_SEVERITY"), Some("critical"));
    assert_eq!(value("WATCHDOG_ID"), given["id"].as_str());
    assert_eq!(value("WATCHDOG_SUBJECT"), given["title"].as_str());
    for line in environment.lines() {
        let (name, _) = line.split_once('=').unwrap();
        let is_known = name.starts_with("WATCHDOG_")
            || [
                "PATH", "HOME", "LOGNAME", "USER", "SHELL", "LANG", "PWD", "OLDPWD",
            ]
            .contains(&name);
        assert!(is_known, "{line}");
    }
    assert_eq!(scene.outbox(), 0);
}

#[test]
fn no_shell_reads_a_command() {
    let scene = scene_of("[\"/bin/touch\", \"a $(touch evil) b\"]");
    assert_eq!(own(&scene.check().exits(2)), (1, 0));
    assert!(scene.has("a $(touch evil) b"));
    assert!(!scene.has("evil"));
}

#[test]
fn what_the_exit_status_means() {
    let again = "; every run tries again";
    for (status, queued, event, next) in [
        (65, 0, "alert_refused", ""),
        (78, 0, "alert_refused", ""),
        (1, 1, "alert_deferred", again),
        (75, 1, "alert_deferred", again),
    ] {
        let scene = scene_of(&script(&format!(
            "echo run >>{{dir}}/runs; echo first >&2; echo \"no such group\" >&2; exit {status}"
        )));
        assert_eq!(own(&scene.check().exits(2)), (0, queued), "{status}");
        let (what, message) = last(&scene);
        assert_eq!(what, event, "{status}");
        assert!(
            message.ends_with(&format!("exited with status {status}: no such group{next}")),
            "{message}"
        );
        assert_eq!(own(&scene.check().exits(2)), (0, queued), "{status}");
        let runs = scene.read("runs").lines().count();
        assert_eq!(runs, 1 + usize::try_from(queued).unwrap(), "{status}");
        // and when it does its work, it is given what waits
        configure(&scene, &script("cat >{dir}/given"), "");
        assert_eq!(own(&scene.check().exits(2)), (queued, 0), "{status}");
    }
}

#[test]
fn of_trouble_that_was_refused_for_good_the_end_is_not_told() {
    let scene = Scene::new();
    let alpha = Service::new("alpha").watched();
    scene.config(&format!(
        "[notify.own]\ntype = \"exec\"\ncommand = {}\nremind_every = \"1ms\"\n{}",
        script("cat >>{dir}/given; exit $(cat {dir}/code)"),
        render(&[&alpha])
    ));
    let told = || -> Vec<String> {
        let given = scene.read("given");
        let given = given.lines().map(|line| {
            let given: Value = serde_json::from_str(line).unwrap();
            given["alerts"][0]["event"].as_str().unwrap().to_owned()
        });
        given.collect()
    };
    let start = || scene.start("alpha", &["pid_file=alpha.pid"]);
    let kill = || scene.kill(scene.last("alpha"));
    scene.write("code", "65");
    scene.check().exits(2);
    assert_eq!(told(), ["down"]);
    scene.write("code", "0");
    start();
    scene.check().exits(0);
    assert_eq!(told(), ["down"]);
    // one that was taken, and a reminder that was not
    kill();
    scene.check().exits(2);
    scene.write("code", "65");
    scene.check().exits(2);
    assert_eq!(told()[1..], ["down", "down"]);
    scene.write("code", "0");
    start();
    scene.check().exits(0);
    assert_eq!(told()[3..], ["recovered"]);
    // one that was refused, and a reminder that was taken
    kill();
    scene.write("code", "78");
    scene.check().exits(2);
    scene.write("code", "0");
    scene.check().exits(2);
    start();
    scene.check().exits(0);
    assert_eq!(told()[4..], ["down", "down", "recovered"]);
}

#[test]
fn one_that_cannot_take_a_message_does_not_keep_the_others_waiting() {
    let scene = scene_of(&script("grep -q beta || exit 1"));
    assert_eq!(own(&scene.check().exits(2)), (0, 1));
    let (one, two) = (
        Service::new("alpha").watched(),
        Service::new("beta").watched(),
    );
    scene.config(&format!(
        "[notify.own]\ntype = \"exec\"\ncommand = {}\n{}",
        script("grep -q beta || exit 1"),
        render(&[&one, &two])
    ));
    assert_eq!(own(&scene.check().exits(2)), (1, 1));
}

#[test]
fn after_a_signal_the_same_message_comes_again_later() {
    let scene = scene_of(&script("echo run >>{dir}/runs; kill -9 $$"));
    assert_eq!(own(&scene.check().exits(2)), (0, 1));
    let (what, message) = last(&scene);
    assert_eq!(what, "alert_deferred");
    assert!(message.contains("perhaps not delivered"), "{message}");
    assert!(
        message.contains("was ended by signal 9 (SIGKILL)"),
        "{message}"
    );
    // it may have told it
    assert_eq!(own(&scene.check().exits(2)), (0, 1));
    assert_eq!(scene.read("runs").lines().count(), 1);
}

#[test]
fn at_the_timeout_all_that_it_started_is_ended() {
    let scene = Scene::new();
    // one of its processes leaves its group and its session, and keeps its output open
    configure(
        &scene,
        &script(
            "setsid sh -c \"echo \\$\\$ >{dir}/stray; exec sleep 300\" & echo $$ >{dir}/pid; echo waiting >&2; sleep 300",
        ),
        "timeout = \"1s\"",
    );
    assert_eq!(own(&scene.check().exits(2)), (0, 1));
    let (_, message) = last(&scene);
    let end =
        "did not end within 1s, and was killed: waiting; it is tried again at growing intervals";
    assert!(message.ends_with(end), "{message}");
    for name in ["pid", "stray"] {
        let pid: i32 = scene.read(name).trim().parse().unwrap();
        scene.wait_until("the end of it", || !alive(pid));
    }
}

#[test]
fn a_command_that_is_not_there_is_told_and_loses_nothing() {
    let scene = scene_of("[\"./tell\"]");
    let text = scene.run(&["validate"]).words();
    assert!(text.contains("notify.own"), "{text}");
    assert!(text.contains("it could not be run"), "{text}");
    assert_eq!(own(&scene.check().exits(2)), (0, 1));
    let text = scene.run(&["test-notify"]).exits(1).words();
    assert!(text.contains("exec: not sent: `./tell`: "), "{text}");
    scene.write("tell", "#!/bin/sh\ncat >given\n");
    let text = scene.run(&["validate"]).words();
    assert!(text.contains("chmod +x makes a script a program"), "{text}");
    fs::set_permissions(scene.path("tell"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(own(&scene.check().exits(2)), (1, 0));
    assert!(scene.has("given"));
    let text = scene.run(&["test-notify"]).exits(0).words();
    assert!(text.contains("by the command `./tell`"), "{text}");
    assert!(text.contains("exec: sent"), "{text}");
}

#[test]
fn words_for_a_shell_are_a_trap() {
    let scene = scene_of("[\"/bin/cat\", \">\", \"/tmp/x\"]");
    let text = scene.run(&["validate"]).words();
    assert!(text.contains("no shell reads this command"), "{text}");
}

#[test]
#[ignore = "needs root"]
fn a_command_runs_as_its_user() {
    let scene = Scene::new();
    fs::set_permissions(scene.path("."), fs::Permissions::from_mode(0o755)).unwrap();
    configure(
        &scene,
        &script("echo \"$(id -un) $HOME $(head -c 1)\" >&2; exit 65"),
        "user = \"nobody\"",
    );
    assert_eq!(own(&scene.check().exits(2)), (0, 0));
    let (what, message) = last(&scene);
    assert_eq!(what, "alert_refused");
    assert!(
        message.ends_with("status 65: nobody /nonexistent {"),
        "{message}"
    );
}

/// The script of the documentation, with a file of this test's in place of its own.
fn recipe(scene: &Scene) {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/alerts.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once("```sh\n#!/bin/sh\n").unwrap();
    let (script, _) = rest.split_once("```").unwrap();
    let conf = "/etc/watchdog/apprise.conf";
    assert!(script.contains(conf), "{script}");
    let script = script.replace(conf, scene.path("apprise.conf").to_str().unwrap());
    scene.write("apprise-alert", format!("#!/bin/sh\n{script}"));
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(scene.path("apprise-alert"), mode).unwrap();
}

#[test]
#[ignore = "needs the package apprise"]
fn the_recipe_for_apprise_hands_a_message_on() {
    let hooks = Hooks::new();
    let scene = scene_of("[\"./apprise-alert\"]");
    recipe(&scene);
    // a server that is down: Apprise says so, and the message waits
    scene.write(
        "apprise.conf",
        format!("json://127.0.0.1:{}/CANARY\n", hooks.port),
    );
    hooks.answer(&[
        Answer::Say(503, "", String::new()),
        Answer::Say(200, "", String::new()),
    ]);
    assert_eq!(own(&scene.check().exits(2)), (0, 1));
    assert_eq!(own(&scene.check().exits(2)), (1, 0));
    let got = hooks.got();
    assert_eq!(got.len(), 2, "{got:?}");
    let json = got[1].json();
    assert_eq!(json["type"], "failure");
    assert!(json["title"].as_str().unwrap().contains("alpha"), "{json}");
    let text = json["message"].as_str().unwrap();
    assert!(
        text.contains("alpha") && !text.contains("\"version\""),
        "{text}"
    );
    // the URLs of Apprise are in nothing that the watchdog writes
    let seen = ["state/state.json", "state/journal.jsonl"].map(|name| scene.read(name));
    assert!(!seen.concat().contains("CANARY"));
}
