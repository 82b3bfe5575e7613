//! `tests/run-all --check` says what is missing, before anything is installed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::scene::{Outcome, Scene};

/// Runs it where these commands, and few others, are what this script makes them.
fn check(fakes: &[(&str, &str)], without: &[&str]) -> Outcome {
    let scene = Scene::new();
    let programs = scene.path("programs");
    fs::create_dir(&programs).unwrap();
    let fine = [
        ("id", "echo 0"),
        ("cargo", "exit 0"),
        ("apt-get", "exit 1"),
        ("dpkg-query", "echo install ok installed"),
        ("mkdir", "exit 0"),
        ("rmdir", "exit 0"),
        ("unshare", "exit 0"),
        ("df", "echo header; echo disk 1 1 99999999"),
    ];
    for (name, script) in fine.iter().chain(fakes) {
        let path = programs.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for name in without {
        fs::remove_file(programs.join(name)).unwrap();
    }
    for name in ["awk", "dirname", "grep", "readlink"] {
        let found = ["/usr/bin", "/bin"]
            .map(|directory| Path::new(directory).join(name))
            .into_iter()
            .find(|path| path.exists())
            .unwrap();
        symlink(found, programs.join(name)).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run-all");
    let mut command = Command::new("/bin/bash");
    command
        .arg(script)
        .arg("--check")
        .env_clear()
        .env("PATH", &programs);
    scene.finish(command)
}

#[test]
fn who_is_not_root_is_told_before_anything_else() {
    let outcome = check(&[("id", "echo 1000")], &["cargo", "apt-get"]).exits(1);
    assert_eq!(
        outcome.stderr,
        "tests/run-all: run it as root, in a machine or container of its own; without root, use: cargo test\n"
    );
    assert_eq!(outcome.stdout, "");
}

#[test]
fn each_thing_that_is_missing_has_its_sentence() {
    let cgroups = fs::read_to_string("/proc/mounts")
        .unwrap()
        .lines()
        .any(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let outcome = check(
        &[
            ("mkdir", "exit 1"),
            ("unshare", "exit 1"),
            ("df", "echo header; echo disk 1 1 1048576"),
        ],
        &["cargo", "apt-get"],
    )
    .exits(1);
    for said in [
        "cargo is not in PATH",
        "apt-get and dpkg are missing",
        if cgroups {
            "cannot be written: the tests boot systemd in a cgroup of their own"
        } else {
            "no cgroup2 file system is mounted"
        },
        "namespaces with an overlay of / cannot be made",
        "only 1 GB are free in ",
    ] {
        let lines = outcome.stderr.lines().filter(|line| line.contains(said));
        assert!(lines.count() > 0, "{said}\n{}", outcome.stderr);
    }
    assert!(
        outcome
            .stderr
            .lines()
            .all(|line| line.starts_with("tests/run-all: ")),
        "{}",
        outcome.stderr
    );
    assert_eq!(outcome.stdout, "", "what is to be installed comes after it");
}

#[test]
fn what_it_would_install_is_one_line() {
    let outcome = check(
        &[(
            "dpkg-query",
            "case $4 in fish | zsh) exit 1 ;; *) echo install ok installed ;; esac",
        )],
        &[],
    );
    // on machines that lack what a fake cannot stand for, such as /dev/fuse, it says so instead
    if outcome.code == 0 {
        assert_eq!(outcome.stdout, "packages to install: fish zsh\n");
    } else {
        assert!(!outcome.stderr.is_empty());
        assert_eq!(outcome.stdout, "");
    }
}

#[test]
fn other_arguments_are_refused() {
    let scene = Scene::new();
    let outcome = scene.finish({
        let mut command = Command::new("/bin/bash");
        command.args([
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/run-all"),
            "--chekc",
        ]);
        command
    });
    assert_eq!(outcome.exits(64).stderr, "usage: tests/run-all [--check]\n");
}
