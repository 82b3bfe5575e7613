//! Disk checks: what is too full is alerted about and restarts nothing, what does not answer is unknown.

use std::fs;

use crate::disks::hung;
use crate::scene::{MAIL, Mail, Outcome, Scene, Service, render};

/// A host by one disk.
fn host(keys: &str) -> String {
    format!("{MAIL}[service.host]\n[[service.host.disk]]\n{keys}\n")
}

/// The sentence of the only finding.
#[track_caller]
fn message(outcome: &Outcome, name: &str) -> String {
    let findings = &outcome.service(name)["findings"];
    assert_eq!(findings.as_array().unwrap().len(), 1, "{findings}");
    findings[0]["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_disk_that_is_too_full_is_alerted_about_and_restarts_nothing() {
    let scene = Scene::new();
    let disk =
        "[[service.a.disk]]\npath = \"{dir}\"\nmax_used = \"0.001%\"\nmax_inodes = \"99.9%\"\n";
    scene.config(&format!("{MAIL}{}", render(&[&Service::new("a")])));
    scene.check().exits(1).verdict("a", "restarted");
    let before = scene.last("a");
    scene.config(&format!("{MAIL}{}{disk}", render(&[&Service::new("a")])));
    let outcome = scene.check().exits(2).verdict("a", "down");
    assert_eq!(outcome.codes("a"), ["disk_full"]);
    assert_eq!(scene.last("a"), before, "it was restarted");
    let service = outcome.service("a");
    let finding = &service["findings"][0];
    assert_eq!(finding["check"], "disk");
    assert_eq!(finding["id"], scene.fill("disk:{dir}"));
    let said = message(&outcome, "a");
    assert!(said.starts_with(&scene.fill("{dir} (on /")), "{said}");
    assert!(said.contains("(limit: 0.001% used)"), "{said}");
    let mails = scene.mails();
    let of_disk = |mail: &Mail| mail.body.contains("(limit: 0.001% used)");
    assert_eq!(mails.iter().filter(|mail| of_disk(mail)).count(), 1);
    let why = scene.run(&["why", "a"]).exits(0).words();
    let has_to = scene.fill("disk {dir} has to have at most 0.001% used");
    assert!(why.contains(&has_to) && why.contains("it had "), "{why}");
    // also while its process is missing
    scene.config(&format!(
        "{MAIL}{}{disk}",
        render(&[&Service::new("a").watched()])
    ));
    scene.kill_and_reap(before);
    scene
        .check()
        .exits(2)
        .finds("a", "process_missing")
        .finds("a", "disk_full");
}

#[test]
fn a_host_is_a_service_with_nothing_but_a_disk() {
    let scene = Scene::with(&host(
        "path = \"/\"\nmax_used = \"99.999%\"\nmin_free = \"1 B\"",
    ));
    scene.check().exits(0).verdict("host", "healthy");
    // a limit that it breaks counts once that has lasted
    scene.config(&host("path = \"/\"\nmin_free = \"100%\"\nfor = \"1h\""));
    let outcome = scene.check().exits(0).verdict("host", "healthy");
    let notes = outcome.service("host")["notes"].to_string();
    assert!(
        notes.contains("limit: 100% free") && notes.contains("counts once it has lasted 1h"),
        "{notes}"
    );
    let state = scene.state();
    let remembered = &state["services"]["host"]["checks"]["disk:/"];
    assert!(!remembered["failing_since"].is_null(), "{state}");
}

#[test]
fn what_cannot_be_looked_at_is_unknown() {
    let scene = Scene::with(&host("path = \"not/here\""));
    let outcome = scene.check().exits(3).verdict("host", "unknown");
    assert_eq!(outcome.codes("host"), ["probe_unreadable"]);
    assert_eq!(
        message(&outcome, "host"),
        scene.fill("{dir}/not/here is not there")
    );
    scene.config(&host("path = \"/proc\""));
    let outcome = scene.check().exits(3);
    assert!(message(&outcome, "host").contains("no size"));
}

#[test]
fn validate_says_what_the_check_would_come_to() {
    let scene = Scene::new();
    for (keys, said) in [
        (
            "path = \"not/here\"",
            "/not/here is not there; until that is mended",
        ),
        (
            "path = \"/\"\nmin_free = \"100%\"",
            "/ is fuller than its limits allow: it would be disk_full in the next run",
        ),
    ] {
        scene.config(&host(keys));
        let text = scene.run(&["validate"]).exits(0).stdout;
        assert!(text.contains(said), "{text}");
    }
    // what show-config prints is the same config
    scene.config(&host(
        "path = \"/\"\nmin_free = \"1.50GiB\"\nmax_inodes = \"99.5 %\"",
    ));
    let shown = scene.run(&["show-config"]).exits(0).stdout;
    assert!(
        shown.contains("min_free = \"1.5 GiB\"\nmax_inodes = \"99.5%\"\n"),
        "{shown}"
    );
    assert!(!shown.contains("max_used"), "{shown}");
    scene.raw_config(&shown);
    assert_eq!(scene.run(&["show-config"]).exits(0).stdout, shown);
}

/// A run with a small disk of its own at `small`, filled by a script.
fn on_a_small_disk(scene: &Scene, options: &str, fill: &str) -> Outcome {
    fs::create_dir_all(scene.path("small")).unwrap();
    let outcome = scene.shell(&format!(
        "exec unshare -m /bin/sh -c '
            mount -t tmpfs -o {options} tmpfs {{dir}}/small || exit 99
            {{watchdog}} check --json >{{dir}}/before || exit 98
            ({fill}) 2>/dev/null
            {{watchdog}} check --json'"
    ));
    assert!(![98, 99].contains(&outcome.code), "{}", outcome.stderr);
    outcome
}

#[test]
#[ignore = "needs root"]
fn a_disk_that_is_filled_to_the_brim_is_found_by_its_blocks() {
    let scene = Scene::with(&host("path = \"small\""));
    let fill = "cat /dev/zero >{dir}/small/zeros";
    let outcome = on_a_small_disk(&scene, "size=1m", fill).exits(2);
    assert_eq!(outcome.codes("host"), ["disk_full"]);
    assert_eq!(
        message(&outcome, "host"),
        scene.fill("{dir}/small (tmpfs): 100.0% used, 0 B of 1.04 MB free (limit: 90% used)")
    );
}

#[test]
#[ignore = "needs root"]
fn a_disk_without_inodes_is_found_by_its_inodes() {
    let scene = Scene::with(&host("path = \"small/deep\""));
    let fill = "i=0; while touch {dir}/small/x$i; do i=$((i + 1)); done";
    fs::create_dir_all(scene.path("small/deep")).unwrap();
    let outcome = scene.shell(&format!(
        "exec unshare -m /bin/sh -c '
            mount -t tmpfs -o nr_inodes=40 tmpfs {{dir}}/small || exit 99
            mkdir {{dir}}/small/deep
            ({fill}) 2>/dev/null
            {{watchdog}} check --json'"
    ));
    let outcome = outcome.exits(2);
    assert_eq!(outcome.codes("host"), ["disk_full"]);
    assert_eq!(
        message(&outcome, "host"),
        scene.fill("{dir}/small/deep (on {dir}/small, tmpfs): 100.0% of the inodes used, 0 of 40 free (limit: 90% used)")
    );
}

#[test]
#[ignore = "needs root"]
fn f35_a_disk_that_hangs_is_unknown_and_delays_nothing() {
    let scene = Scene::new();
    let disk =
        |name: &str, keys: &str| format!("[service.{name}]\n[[service.{name}.disk]]\n{keys}\n");
    let far = "path = \"far\"";
    let near = "path = \"/\"\ntimeout = \"1s\"\nmax_used = \"99.999%\"\nmax_inodes = \"99.999%\"";
    scene.config(&format!(
        "check_timeout = \"2s\"\n{}{}{}{}",
        disk("one", far),
        disk("other", &format!("{far}\nmax_used = \"99%\"")),
        disk("near", near),
        render(&[&Service::new("dead")])
    ));
    fs::create_dir(scene.path("far")).unwrap();
    let outcome = hung(&scene, "far", "{watchdog} check --json; exit $?")
        .verdict("one", "unknown")
        .verdict("other", "unknown")
        .verdict("near", "healthy")
        .verdict("dead", "restarted");
    for name in ["one", "other"] {
        assert_eq!(outcome.codes(name), ["probe_unreadable"]);
        assert_eq!(
            message(&outcome, name),
            scene.fill("{dir}/far did not answer within 2s (a dead disk or network share?)")
        );
    }
}
