//! `[ping]`: what a service that waits for runs is told of them.

use crate::scene::hooks::{Answer, Hooks};
use crate::scene::{Scene, Service, render};

/// A config that pings, with more keys, and a service.
fn config(hooks: &Hooks, more: &str, service: &Service) -> String {
    format!(
        "[ping]\nurl = \"http://127.0.0.1:{}/ping/CANARY1\"\n{more}\n{}",
        hooks.port,
        render(&[service])
    )
}

/// The paths that were asked for.
fn paths(hooks: &Hooks) -> Vec<String> {
    hooks.got().into_iter().map(|got| got.path).collect()
}

#[test]
fn each_run_is_told_once_as_its_last_step() {
    let hooks = Hooks::new();
    let scene = Scene::new();
    let down = Service::new("alpha").watched();
    scene.config(&config(&hooks, "", &down));
    scene.check().exits(2);
    assert_eq!(paths(&hooks), ["/ping/CANARY1"]);
    assert_eq!(hooks.got()[0].body, "");
    // what is no run is not told
    scene.run(&["check", "--dry-run"]).exits(2);
    scene.run(&["status"]);
    assert_eq!(hooks.got().len(), 1);
    scene.config(&config(&hooks, "services = true", &down));
    scene.check().exits(2);
    assert_eq!(paths(&hooks)[1..], ["/ping/CANARY1/fail"]);
    assert!(hooks.got()[1].body.contains("alpha"), "{:?}", hooks.got());
}

#[test]
fn a_run_that_could_not_do_its_work_is_a_failure_with_the_reason() {
    let hooks = Hooks::new();
    let scene = Scene::new();
    let down = Service::new("alpha").watched();
    // the config is wrong elsewhere
    scene.config(&format!("{}\nno_such_key = 1\n", config(&hooks, "", &down)));
    scene.check().exits(78);
    let got = hooks.got();
    assert_eq!(paths(&hooks), ["/ping/CANARY1/fail"]);
    assert!(got[0].body.contains("no_such_key"), "{}", got[0].body);
    assert!(!got[0].body.contains("CANARY"), "{}", got[0].body);
    // it is not acted on where others can write to it
    let path = scene.path("watchdog.toml");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    scene.check().exits(78);
    assert_eq!(hooks.got().len(), 1);
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    // a state directory that cannot be used
    scene.config(&config(&hooks, "", &down));
    std::fs::write(scene.path("state"), "a file").unwrap();
    scene.check().exits(73);
    let got = hooks.got();
    assert_eq!(got[1].path, "/ping/CANARY1/fail");
    assert!(got[1].body.contains("state"), "{}", got[1].body);
}

#[test]
fn a_ping_that_fails_changes_nothing_and_shows_no_secret() {
    let hooks = Hooks::new();
    let scene = Scene::new();
    let down = Service::new("alpha").watched();
    for answer in [Answer::Repeat(404), Answer::Repeat(500), Answer::Close] {
        hooks.answer(std::slice::from_ref(&answer));
        scene.config(&config(&hooks, "", &down));
        let outcome = scene.run(&["check", "-v"]).exits(2);
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(
            said.contains("ping failed: http://127."),
            "{answer:?}: {said}"
        );
        for words in ["once an hour", "not delivered", "not asked again"] {
            assert!(!said.contains(words), "{answer:?}: {said}");
        }
        assert!(!said.contains("CANARY"), "{answer:?}: {said}");
    }
    assert_eq!(hooks.got().len(), 3, "none comes again");
    scene.config(&config(&Hooks::absent(), "", &down));
    scene.check().exits(2);
}

#[test]
fn validate_reads_the_url_of_a_ping_and_sends_nothing() {
    let hooks = Hooks::new();
    let scene = Scene::new();
    let config = |url: &str| {
        let service = Service::new("alpha").watched();
        scene.config(&format!("[ping]\n{url}\n{}", render(&[&service])));
        scene.run(&["validate"])
    };
    scene.write_private("ping.url", "not a URL\n");
    let wrong = config("url_file = \"{dir}/ping.url\"").exits(0);
    assert!(wrong.stdout.contains("no scheme"), "{}", wrong.stdout);
    assert!(wrong.stdout.contains("[ping] url"), "{}", wrong.stdout);
    scene.write_private(
        "ping.url",
        format!("http://127.0.0.1:{}/ping/x\n", hooks.port),
    );
    let right = config("url_file = \"{dir}/ping.url\"").exits(0);
    assert!(!right.stdout.contains("[ping] url"), "{}", right.stdout);
    assert!(hooks.got().is_empty(), "{:?}", hooks.got());
}
