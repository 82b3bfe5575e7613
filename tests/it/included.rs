//! A config of several files.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::scene::{MAIL, Scene, Service, render};

/// A config that includes `conf.d/*.toml`, where one service stands.
fn scene() -> Scene {
    let scene = Scene::new();
    scene.config(&format!(
        "include = [\"conf.d/*.toml\", \"more/*.toml\"]\n{MAIL}{}",
        render(&[&Service::new("a")])
    ));
    fs::create_dir(scene.path("conf.d")).unwrap();
    fs::set_permissions(scene.path("conf.d"), fs::Permissions::from_mode(0o755)).unwrap();
    // relative paths begin here
    scene.write(
        "conf.d/b.toml",
        "# the second\n[service.b]\n[[service.b.log]]\npath = \"b.log\"\nexpect = ['tick']\n",
    );
    scene.write("conf.d/b.log", "tick\n");
    scene
}

#[test]
fn services_of_all_files_are_looked_after() {
    let scene = scene();
    let outcome = scene.check().exits(1);
    outcome.verdict("a", "restarted").verdict("b", "healthy");
    fs::remove_file(scene.path("conf.d/b.log")).unwrap();
    let outcome = scene.run(&["check", "--json", "b"]).exits(2);
    outcome.verdict("b", "down");
    let shown = scene.run(&["show-config"]).exits(0).stdout;
    assert!(shown.contains("[service.b]"), "{shown}");
    // it says all of it, and so can stand alone
    fs::remove_dir_all(scene.path("conf.d")).unwrap();
    scene.raw_config(&shown);
    let alone = scene.run(&["show-config"]).exits(0).stdout;
    assert_eq!(alone, shown);
}

#[test]
fn traps_are_told_at_the_file_in_which_they_stand() {
    let scene = scene();
    scene.write("conf.d/b.log", "silence\n");
    let said = scene.run(&["validate"]).exits(0).stdout;
    let own = scene.fill(" --> {dir}/conf.d/b.toml:5: [[service.b.log]] expect");
    assert!(said.contains(&own), "{own}\n{said}");
    assert!(
        said.contains("trap: `more/*.toml` matches no file: nothing is included by it\n"),
        "{said}"
    );
    assert!(!said.contains("`conf.d/*.toml` matches no file"), "{said}");
}

#[test]
fn a_file_that_two_patterns_match_is_no_trap() {
    let scene = scene();
    let config = scene.read("watchdog.toml");
    let both = "include = [\"conf.d/b.toml\", \"conf.d/*.toml\"]";
    let config = config.replace("include = [\"conf.d/*.toml\", \"more/*.toml\"]", both);
    assert!(config.contains(both), "{config}");
    scene.raw_config(&config);
    let said = scene.run(&["validate"]).exits(0).stdout;
    assert!(!said.contains("matches no file"), "{said}");
    assert!(said.contains(": 2 services, no errors"), "{said}");
}

#[test]
fn a_file_that_others_can_write_ends_the_run_before_anything_is_done() {
    let scene = scene();
    let file = scene.path("conf.d/b.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let outcome = scene.check().exits(78);
    let remedy = scene.fill("chmod go-w {dir}/conf.d/b.toml");
    assert!(outcome.stderr.contains(&remedy), "{}", outcome.stderr);
    assert!(!scene.path("state/state.json").exists());
}
