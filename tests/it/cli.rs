//! The command line: exit codes, options, output, and configs that are wrong or not to be trusted.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use chrono::{TimeDelta, Utc};
use nix::sys::stat::Mode;
use serde_json::Value;

use crate::scene::{MAIL, Scene, Service, WATCHDOG, alive, render, root, when};

fn broken(name: &str) -> Service {
    Service::new(name).option("exit=1")
}

/// A log of a service without a process that is as it says.
fn degraded(name: &str) -> Service {
    Service::logs(name).log("path = \"nowhere.log\"\nseverity = \"warning\"")
}

fn unknown(name: &str) -> Service {
    Service::logs(name).log("path = \"{dir}\"")
}

fn healthy(name: &str) -> Service {
    Service::logs(name).log("path = \"prog.sh\"")
}

#[test]
fn f79_each_verdict_has_its_code() {
    let young = Service::logs("starting")
        .known_by(Some("{ pid_file = \"young.pid\" }"))
        .top("start_grace", "\"10m\"")
        .log("path = \"nowhere.log\"\nmax_age = \"5m\"");
    let cases = [
        (0, "healthy", healthy("healthy")),
        (0, "starting", young),
        (0, "disabled", broken("disabled").top("enabled", "false")),
        (1, "degraded", degraded("degraded")),
        (
            1,
            "failing",
            broken("failing").restart("after_failures", "2"),
        ),
        (1, "restarted", Service::new("restarted")),
        (2, "down", broken("down").watched()),
        (2, "restart_failed", broken("restart_failed")),
        (3, "unknown", unknown("unknown")),
    ];
    for (code, verdict, service) in &cases {
        let scene = Scene::of(&[service]);
        scene.start("young", &["pid_file=young.pid"]);
        let outcome = scene.check().exits(*code).verdict(verdict, verdict);
        assert_eq!(outcome.json()["exit_code"], *code);
        // the same without JSON, as recorded, and of the record
        let state = scene.run(&["status"]);
        assert_eq!(state.code, *code, "{verdict}: {state:?}");
    }
}

#[test]
fn f79_exhausted_waiting_and_paused_have_their_codes() {
    let scene = Scene::of(&[&broken("a").restart("max_per_hour", "1")]);
    scene.check();
    scene.check().exits(2).verdict("a", "exhausted");
    scene.run(&["pause", "a"]).exits(0);
    scene.check().exits(0).verdict("a", "paused");
    let scene = Scene::of(&[&broken("a").restart("cooldown", "\"1h\"")]);
    scene.check();
    scene.check().exits(2).verdict("a", "waiting");
}

#[test]
fn f79_the_worst_of_all_is_the_answer() {
    let (well, warning) = (healthy("well"), degraded("warning"));
    let (unseen, critical) = (unknown("unseen"), broken("critical").watched());
    for (code, services) in [
        (1, vec![&well, &warning]),
        (3, vec![&unseen, &warning, &well]),
        (2, vec![&well, &critical, &unseen, &warning]),
    ] {
        Scene::of(&services).check().exits(code);
    }
}

#[test]
fn usage_errors_are_64() {
    let scene = Scene::of(&[&healthy("trader")]);
    for args in [
        &["chekc"][..],
        &["check", "--no-such-option"],
        &["status", "--max-age", "soon"],
        &["pause"],
        &["why"],
        &["restart"],
        &["check", "--color", "maybe"],
    ] {
        let outcome = scene.run(args).exits(64);
        assert!(!outcome.stderr.is_empty(), "{args:?}");
        assert!(outcome.stdout.is_empty(), "{args:?}");
    }
    for args in [
        &["check", "tradr"][..],
        &["status", "tradr"],
        &["history", "tradr"],
        &["why", "tradr"],
        &["restart", "tradr"],
        &["pause", "tradr"],
        &["resume", "tradr"],
        &["reset", "tradr"],
    ] {
        let outcome = scene.run(args).exits(64);
        assert!(outcome.stderr.contains("tradr"), "{args:?}");
        assert!(outcome.stderr.contains("trader"), "the nearest: {args:?}");
    }
}

#[test]
fn no_command_is_the_help_and_64() {
    let scene = Scene::new();
    let outcome = scene.run(&[]).exits(64);
    assert!(outcome.text().contains("check") && outcome.text().contains("status"));
    let help = scene.run(&["--help"]).exits(0);
    for command in [
        "check",
        "status",
        "history",
        "why",
        "restart",
        "pause",
        "resume",
        "reset",
        "validate",
        "show-config",
        "adopt",
        "completions",
        "man",
    ] {
        assert!(help.stdout.contains(command), "{command}");
    }
    let version = scene.run(&["--version"]).exits(0);
    assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_are_printed_for_each_shell() {
    // without any config: it is about the tool itself
    let scene = Scene::new();
    for shell in ["bash", "zsh", "fish", "elvish", "nushell", "powershell"] {
        let outcome = scene.run(&["completions", shell]).exits(0);
        assert!(outcome.stdout.contains("show-config"), "{shell}");
        assert!(outcome.stderr.is_empty(), "{shell}");
    }
    scene.run(&["completions", "tcsh"]).exits(64);
    scene.run(&["completions"]).exits(64);
    let names = scene.run(&["completions", "--services"]).exits(0);
    assert!(names.text().is_empty(), "{}", names.text());
}

#[test]
fn bash_completes_commands_options_and_names_of_services() {
    let scene = Scene::of(&[&healthy("trader"), &healthy("tracker"), &healthy("feed")]);
    let script = r#"
        watchdog() { WATCHDOG "$@"; }
        source <(watchdog completions bash)
        try() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _watchdog_and_services watchdog "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
            echo "$* => ${COMPREPLY[*]}"
        }
        try watchdog check t
        try watchdog -c DIR/watchdog.toml why trad
        try watchdog --color never pause --for 2h f
        try watchdog check --json tr
        try watchdog check --dry
        try watchdog show-
        try watchdog validate ""
    "#;
    let script = script
        .replace("WATCHDOG", WATCHDOG)
        .replace("DIR", scene.dir());
    let mut command = std::process::Command::new("bash");
    command
        .args(["--norc", "-c", &script])
        .current_dir(scene.dir())
        .env("HOME", scene.dir());
    let outcome = scene.finish(command).exits(0);
    let got = outcome.stdout.replace(scene.dir(), "DIR");
    let expected = "\
watchdog check t => trader tracker
watchdog -c DIR/watchdog.toml why trad => trader
watchdog --color never pause --for 2h f => feed
watchdog check --json tr => trader tracker
watchdog check --dry => --dry-run
watchdog show- => show-config
";
    assert!(got.starts_with(expected), "{got}");
    let validate = got.lines().last().unwrap();
    assert!(!validate.contains("trader"), "{validate}");
}

#[test]
#[ignore = "needs fish"]
fn fish_completes_names_of_services() {
    let scene = Scene::of(&[&healthy("trader"), &healthy("tracker"), &healthy("feed")]);
    let script = scene.run(&["completions", "fish"]).exits(0).stdout;
    scene.write("watchdog.fish", script);
    let mut command = std::process::Command::new("fish");
    let bin = std::path::Path::new(WATCHDOG).parent().unwrap();
    command
        .args([
            "--no-config",
            "-c",
            "source watchdog.fish; complete -C 'watchdog check tr'; \
             complete -C 'watchdog -c watchdog.toml why f'; complete -C 'watchdog show-'",
        ])
        .current_dir(scene.dir())
        .env("HOME", scene.dir())
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    let outcome = scene.finish(command).exits(0);
    let words: Vec<&str> = outcome
        .stdout
        .lines()
        .filter_map(|line| line.split('\t').next())
        .collect();
    assert_eq!(words, ["tracker", "trader", "feed", "show-config"]);
}

#[test]
fn the_manual_is_printed_and_written() {
    let scene = Scene::new();
    for (page, holds) in [
        (&["man"][..], "EXIT STATUS"),
        (&["man", "check"], "dry\\-run"),
        (&["man", "show-config"], "secrets"),
        (&["man", "config"], "start_grace"),
    ] {
        let text = scene.run(page).exits(0).stdout;
        assert!(
            text.contains(".TH") && text.contains(holds),
            "{page:?}: {text}"
        );
    }
    let wrong = scene.run(&["man", "chekc"]).exits(64);
    assert!(
        wrong.stderr.contains("did you mean `check`"),
        "{}",
        wrong.stderr
    );
    std::fs::create_dir(scene.path("man")).unwrap();
    scene.run(&["man", "--all", "man"]).exits(0);
    // one for the tool, one for the config, and one for each command
    let commands = scene.commands();
    let mut files: Vec<String> = commands
        .iter()
        .map(|command| format!("watchdog-{command}.1"))
        .collect();
    assert!(files.len() >= 14, "{files:?}");
    files.extend(["watchdog.1".to_owned(), "watchdog.toml.5".to_owned()]);
    files.sort();
    let mut written: Vec<String> = std::fs::read_dir(scene.path("man"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    written.sort();
    assert_eq!(written, files);
    let failed = scene.run(&["man", "--all", "nowhere"]).exits(1);
    assert!(
        failed.stderr.contains("cannot write nowhere/watchdog.1"),
        "{}",
        failed.stderr
    );
}

#[test]
fn check_json_has_the_shape_that_is_promised() {
    let scene = Scene::of(&[&Service::new("a"), &broken("b"), &healthy("c")]);
    let before = Utc::now() - TimeDelta::seconds(2);
    let json = scene.check().exits(2).json();
    let keys = |value: &Value| -> Vec<String> {
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    let holds = |value: &Value, names: &[&str]| {
        for name in names {
            assert!(keys(value).iter().any(|key| key == name), "{name}: {value}");
        }
    };
    holds(
        &json,
        &[
            "version",
            "host",
            "time",
            "duration_ms",
            "exit_code",
            "services",
            "mail",
        ],
    );
    assert_eq!(json["version"], 1);
    assert!(!json["host"].as_str().unwrap().is_empty());
    assert!(when(&json["time"]) >= before);
    assert!(json["time"].as_str().unwrap().ends_with('Z'));
    assert!(json["duration_ms"].is_u64());
    assert_eq!(json["exit_code"], 2);
    assert!(json["mail"]["sent"].is_u64() && json["mail"]["queued"].is_u64());
    let services = json["services"].as_array().unwrap();
    let names: Vec<&str> = services
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a", "b", "c"], "in the order of the file");
    for service in services {
        holds(
            service,
            &[
                "name",
                "verdict",
                "pid",
                "findings",
                "action",
                "restarts_last_hour",
                "max_per_hour",
            ],
        );
        assert!(service["max_per_hour"].is_u64());
        for finding in service["findings"].as_array().unwrap() {
            assert_eq!(keys(finding), ["check", "code", "message", "severity"]);
            let severity = finding["severity"].as_str().unwrap();
            assert!(["warning", "critical", "unknown"].contains(&severity));
            assert!(!finding["message"].as_str().unwrap().is_empty());
        }
    }
    let action_keys = [
        "kind",
        "method",
        "ok",
        "old_pid",
        "new_pid",
        "duration_ms",
        "error",
        "stderr",
    ];
    let (good, bad, none) = (&services[0], &services[1], &services[2]);
    holds(&good["action"], &action_keys);
    assert_eq!(good["pid"], scene.last("a"));
    assert_eq!(good["action"]["new_pid"], scene.last("a"));
    assert_eq!(good["action"]["ok"], true);
    assert_eq!(good["action"]["old_pid"], Value::Null);
    assert_eq!(good["action"]["error"], Value::Null);
    assert_eq!(good["action"]["stderr"], serde_json::json!([]));
    assert!(good["action"]["duration_ms"].is_u64());
    assert_eq!(good["restarts_last_hour"], 1);
    holds(&bad["action"], &action_keys);
    assert_eq!(bad["action"]["ok"], false);
    assert!(bad["action"]["error"].is_string());
    assert_eq!(none["action"], Value::Null);
    assert_eq!(none["pid"], Value::Null);
    assert_eq!(none["findings"], serde_json::json!([]));
    assert_eq!(none["restarts_last_hour"], 0);
}

#[test]
fn the_report_for_people_names_services_verdicts_and_reasons() {
    let scene = Scene::of(&[&Service::new("alpha"), &broken("beta").watched()]);
    let outcome = scene.run(&["check"]).exits(2);
    for word in ["alpha", "restarted", "beta", "down"] {
        assert!(outcome.stdout.contains(word), "{word}");
    }
    let outcome = scene.run(&["check"]).exits(2);
    assert!(outcome.stdout.contains("healthy"));
}

#[test]
fn status_tells_what_the_last_run_recorded_and_looks_at_nothing() {
    let scene = Scene::of(&[&Service::new("a")]);
    scene.run(&["status"]).exits(3);
    scene.run(&["status", "--json"]).exits(3);
    let recorded = scene.check().exits(1).service("a");
    let status = scene.run(&["status", "--json"]).exits(1);
    for key in [
        "name",
        "verdict",
        "findings",
        "action",
        "pid",
        "restarts_last_hour",
        "max_per_hour",
    ] {
        assert_eq!(status.service("a")[key], recorded[key], "{key}");
    }
    scene.check().exits(0);
    scene.kill(scene.last("a"));
    let before = scene.fingerprint();
    let status = scene.run(&["status"]).exits(0);
    assert!(status.stdout.contains('a') && status.stdout.contains("healthy"));
    scene
        .run(&["status", "--json"])
        .exits(0)
        .verdict("a", "healthy");
    assert!(scene.fingerprint() == before, "status changes nothing");
}

#[test]
fn f80_an_old_or_missing_record_is_3_with_a_greatest_age() {
    let scene = Scene::of(&[&healthy("a")]);
    scene.run(&["status", "--max-age", "1h"]).exits(3);
    scene.check().exits(0);
    scene.run(&["status", "--max-age", "1h"]).exits(0);
    scene.run(&["status", "--max-age", "0s"]).exits(3);
}

#[test]
fn f80_a_run_that_lies_ahead_is_not_taken_for_a_young_one() {
    let scene = Scene::of(&[&healthy("a")]);
    scene.check().exits(0);
    let month = chrono::TimeDelta::days(30);
    let ahead = chrono::Utc::now() + month;
    // the clock was set back since, within one boot: how long ago the run was is known
    scene.edit_state(|state| {
        state["last_run"] = ahead.to_rfc3339().into();
        state["clock"]["wall"] = ahead.to_rfc3339().into();
    });
    scene.run(&["status", "--max-age", "1h"]).exits(0);
    scene.run(&["status", "--max-age", "0s"]).exits(3);
    // in another boot it is not
    scene.edit_state(|state| state["clock"]["boot_id"] = "another".into());
    let said = scene.run(&["status", "--max-age", "1h"]).exits(3).stdout;
    assert!(said.contains("that is ahead of the clock"), "{said}");
    let said = scene.run(&["status"]).exits(0).stdout;
    assert!(said.contains("that is ahead of the clock"), "{said}");
    let metrics = scene.run(&["metrics"]).exits(0);
    assert!(
        metrics
            .stdout
            .contains("\nwatchdog_last_run_timestamp_seconds 0\n"),
        "{}",
        metrics.stdout
    );
    assert!(metrics.stderr.contains("ahead of the clock"), "{metrics:?}");
    let page = scene.run(&["status", "--html", "--max-age", "1h"]).exits(3);
    assert!(
        page.stdout.contains("ahead of the clock"),
        "{}",
        page.stdout
    );
    let traps = scene.run(&["validate"]).exits(0).stdout;
    assert!(
        traps.contains("ahead of the clock: nothing seems"),
        "{traps}"
    );
    // the next run brings it back
    scene.check().exits(0);
    scene.run(&["status", "--max-age", "1h"]).exits(0);
}

#[test]
fn f80_a_worse_verdict_is_not_hidden_by_an_old_record() {
    let scene = Scene::of(&[&broken("a").watched()]);
    scene.check().exits(2);
    // critical or unknown, but not well
    let code = scene.run(&["status", "--max-age", "0s"]).code;
    assert!(code == 2 || code == 3, "{code}");
}

#[test]
fn history_tells_the_journal() {
    let scene = Scene::of(&[&Service::new("a"), &Service::new("b")]);
    assert!(
        !scene
            .run(&["history"])
            .exits(0)
            .stdout
            .contains("restarted")
    );
    scene.check().exits(1);
    let outcome = scene.run(&["history"]).exits(0);
    assert!(outcome.stdout.contains("restarted"));
    let lines = |args: &[&str]| scene.run(args).exits(0).json_lines();
    assert_eq!(lines(&["history", "--json"]), scene.journal());
    let only = lines(&["history", "--json", "b"]);
    assert!(!only.is_empty());
    assert!(only.iter().all(|line| line["service"] == "b"), "{only:?}");
    // what is older than asked for is left out
    let old = "{\"time\":\"2020-01-01T00:00:00Z\",\"service\":\"a\",\"event\":\"restarted\",\"verdict\":\"restarted\"}\n";
    let journal = scene.read("state/journal.jsonl");
    scene.write("state/journal.jsonl", format!("{old}{journal}"));
    let all = lines(&["history", "--json"]).len();
    assert_eq!(
        lines(&["history", "--json", "--since", "1h"]).len(),
        all - 1
    );
    // a line that was cut by a crash spoils no other
    scene.append("state/journal.jsonl", "{\"time\":\"2026-");
    scene.run(&["history"]).exits(0);
    assert_eq!(
        scene
            .run(&["history", "--json"])
            .exits(0)
            .stdout
            .lines()
            .count(),
        all
    );
}

#[test]
fn why_tells_the_evidence() {
    let scene = Scene::of(&[&broken("a").restart("max_per_hour", "1")]);
    scene.check();
    scene.check().exits(2);
    let outcome = scene.run(&["why", "a"]).exits(0);
    assert!(outcome.stdout.contains("a.pid"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains('1'), "{}", outcome.stdout);
}

#[test]
fn a_paused_service_is_watched_and_left_alone() {
    let scene = Scene::of(&[&Service::new("a"), &Service::new("b")]);
    let outcome = scene.run(&["pause", "a", "--reason", "the disk is being changed"]);
    outcome.exits(0);
    for _ in 0..2 {
        let outcome = scene.check().verdict("a", "paused");
        outcome.finds("a", "process_missing");
    }
    assert_eq!(scene.starts("a").len(), 0);
    assert_eq!(scene.starts("b").len(), 1);
    let status = scene.run(&["status"]);
    assert!(status.stdout.contains("the disk is being changed"));
    scene.run(&["resume", "a"]).exits(0);
    scene.check().exits(1).verdict("a", "restarted");
}

#[test]
fn a_pause_for_a_time_ends_by_itself() {
    let scene = Scene::of(&[&Service::new("a"), &Service::new("b")]);
    scene.run(&["pause", "a", "b", "--for", "1h"]).exits(0);
    scene
        .check()
        .exits(0)
        .verdict("a", "paused")
        .verdict("b", "paused");
    let until = when(&scene.state()["services"]["a"]["paused_until"]);
    assert!(until > Utc::now() + TimeDelta::minutes(50));
    assert!(until < Utc::now() + TimeDelta::minutes(61));
    scene.edit_state(|state| {
        state["services"]["a"]["paused_until"] = (Utc::now() - TimeDelta::seconds(1))
            .to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
            .into();
    });
    scene
        .check()
        .exits(1)
        .verdict("a", "restarted")
        .verdict("b", "paused");
    scene.run(&["pause", "a", "--for", "0s"]);
    scene.kill(scene.last("a"));
    scene.check().exits(1).verdict("a", "restarted");
}

#[test]
fn a_pause_ends_after_a_day_and_a_record_of_one_that_is_none_pauses_nothing() {
    let scene = Scene::of(&[&Service::new("a"), &Service::new("b")]);
    scene.run(&["pause", "a", "b"]).exits(0);
    let until = when(&scene.state()["services"]["a"]["paused_until"]);
    let day = TimeDelta::hours(24);
    assert!(until > Utc::now() + day - TimeDelta::minutes(1) && until < Utc::now() + day);
    scene.edit_state(|state| state["services"]["a"]["paused_until"] = "for a while".into());
    scene
        .check()
        .exits(1)
        .verdict("a", "restarted")
        .verdict("b", "paused");
}

#[test]
fn what_a_person_does_is_in_the_journal() {
    let scene = Scene::of(&[&Service::new("a")]);
    for args in [
        &["pause", "a", "--for", "2h", "--reason", "new disk"][..],
        &["resume", "a"],
        &["reset", "a"],
        &["restart", "a"],
    ] {
        scene.run(args).exits(0);
    }
    let journal = scene.journal();
    let events: Vec<&str> = journal
        .iter()
        .map(|entry| entry["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        events,
        ["paused", "resumed", "reset", "restarting", "restarted"]
    );
    let paused = journal[0]["message"].as_str().unwrap();
    assert!(
        paused.starts_with("paused until ") && paused.ends_with("Z: new disk"),
        "{paused}"
    );
    assert_eq!(
        journal[2]["message"],
        "forgot 0 restart attempts and 0 failing runs"
    );
}

#[test]
fn dry_run_says_what_it_would_do_and_changes_nothing_at_all() {
    let services = [
        Service::new("missing"),
        Service::new("stopped"),
        Service::new("quiet").log("path = \"quiet.log\"\nexpect = ['never']"),
        broken("spent").restart("max_per_hour", "1"),
        broken("down").watched(),
    ];
    let scene = Scene::new();
    scene.config(&format!(
        "{MAIL}{}",
        render(&services.iter().collect::<Vec<_>>())
    ));
    scene.write("quiet.log", "quiet\n");
    scene.run(&["check", "spent", "--no-mail"]).exits(2);
    let stopped = scene.start("stopped", &["pid_file=stopped.pid"]);
    let quiet = scene.start("quiet", &["pid_file=quiet.pid", "traps=TERM HUP INT"]);
    scene.freeze(stopped);
    let before = scene.fingerprint();
    let outcome = scene.run(&["check", "--json", "--dry-run"]).exits(2);
    assert!(scene.fingerprint() == before, "something was written");
    assert!(alive(stopped) && alive(quiet));
    for (name, verdict) in [
        ("missing", "failing"),
        ("stopped", "failing"),
        ("quiet", "failing"),
        ("spent", "exhausted"),
        ("down", "down"),
    ] {
        assert_eq!(outcome.service(name)["verdict"], verdict, "{name}");
    }
    let human = scene.run(&["check", "--dry-run"]).exits(2);
    assert!(human.stdout.contains("would"), "{}", human.stdout);
    scene.run(&["check", "missing", "--dry-run"]).exits(1);
    assert!(scene.fingerprint() == before, "something was written");
    assert!(scene.mails().is_empty());
}

#[test]
fn dry_run_on_a_first_run_makes_no_state_directory() {
    let scene = Scene::of(&[&Service::new("a")]);
    scene.run(&["check", "--dry-run"]).exits(1);
    assert!(!scene.has("state"));
}

#[test]
fn dry_run_neither_makes_nor_writes_its_own_log() {
    let scene = Scene::new();
    scene.config(&format!(
        "[logging]\nfile = \"own.log\"\nlevel = \"trace\"\n{}",
        render(&[&broken("a")])
    ));
    scene.run(&["check", "--dry-run"]).exits(1);
    assert!(!scene.has("own.log"));
    scene.run(&["check"]).exits(2);
    assert!(scene.has("own.log"));
    let before = scene.read("own.log");
    scene.run(&["check", "--dry-run", "-vvv"]);
    assert_eq!(scene.read("own.log"), before);
}

#[test]
fn f22_quiet_prints_nothing_where_all_is_well() {
    let scene = Scene::of(&[&Service::new("a")]);
    let outcome = scene.run(&["check", "-q"]).exits(1);
    assert!(outcome.text().contains("restarted"));
    let outcome = scene.run(&["check", "-q"]).exits(0);
    assert_eq!(outcome.text(), "");
}

#[test]
fn quiet_shows_only_what_is_not_well() {
    let scene = Scene::of(&[&healthy("fine"), &broken("bad").watched()]);
    let outcome = scene.run(&["check", "-q"]).exits(2);
    assert!(outcome.stdout.contains("down") && outcome.stdout.contains("bad"));
    assert!(!outcome.stdout.contains("fine"), "{}", outcome.stdout);
}

#[test]
fn no_notify_is_another_name_of_no_mail() {
    let scene = Scene::new();
    scene.config(&format!(
        "{MAIL}{}",
        render(&[&Service::new("a").watched()])
    ));
    let outcome = scene.run(&["check", "--json", "--no-notify"]).exits(2);
    assert_eq!(outcome.json()["notify"], serde_json::json!({}));
    assert!(scene.mails().is_empty());
    scene.check().exits(2);
    assert_eq!(scene.mails().len(), 1, "and told by the next run");
}

#[test]
fn no_mail_sends_and_queues_nothing() {
    let scene = Scene::new();
    scene.config(&format!("{MAIL}{}", render(&[&broken("a").watched()])));
    let outcome = scene.run(&["check", "--json", "--no-mail"]).exits(2);
    assert_eq!(outcome.json()["mail"]["sent"], 0);
    assert_eq!(outcome.json()["mail"]["queued"], 0);
    assert!(scene.mails().is_empty());
    assert_eq!(scene.outbox(), 0);
}

#[test]
fn colours_are_for_terminals_and_for_those_who_ask() {
    let scene = Scene::of(&[&degraded("a")]);
    let escape = '\x1b';
    assert!(!scene.run(&["check"]).text().contains(escape));
    let outcome = scene.run(&["check", "--color", "always"]);
    assert!(outcome.stdout.contains(escape));
    let outcome = scene.run(&["check", "--color", "never"]);
    assert!(!outcome.text().contains(escape));
    let mut command = scene.command(&["check"]);
    command.env("NO_COLOR", "1");
    assert!(!scene.finish(command).text().contains(escape));
}

#[test]
fn f75_control_characters_from_outside_never_reach_the_terminal() {
    let service = Service::new("a")
        .option("err=\u{1b}[2Jcleared\u{7}")
        .option("exit=3")
        .spawn("stderr", "\"a.err\"")
        .spawn(
            "command",
            "[\"/bin/sh\", \"-c\", \"printf '\\\\033[2Jcleared\\\\007\\\\n' >&2; exit 3\"]",
        );
    let scene = Scene::of(&[&service]);
    let outcome = scene.run(&["check"]).exits(2);
    assert!(outcome.text().contains("cleared"));
    assert!(!outcome.text().contains(['\x1b', '\x07']));
    for args in [&["history"][..], &["why", "a"], &["status"]] {
        assert!(
            !scene.run(args).text().contains(['\x1b', '\x07']),
            "{args:?}"
        );
    }
}

#[test]
fn a_reader_that_goes_away_changes_nothing() {
    let scene = Scene::of(&[&Service::new("a")]);
    let outcome = scene.shell("{ {watchdog} check; echo $? >{dir}/code; } | true");
    assert_eq!(scene.read("code").trim(), "1");
    assert!(!outcome.stderr.contains("panick"));
    for args in [
        "--help",
        "man",
        "show-config",
        "completions bash",
        "history",
        "status",
    ] {
        let code = scene.run(&args.split(' ').collect::<Vec<_>>()).code;
        // it is gone before anything is written
        let script = format!("{{ sleep 0.1; {{watchdog}} {args}; echo $? >{{dir}}/code; }} | true");
        let outcome = scene.shell(&script);
        assert_eq!(outcome.stderr, "", "{args}");
        assert_eq!(scene.read("code").trim(), code.to_string(), "{args}");
    }
}

#[test]
fn what_cannot_be_printed_is_said_and_fails() {
    let said = "cannot write to standard output: no space left on device";
    let down = Service::new("b").watched().log("path = \"app.log\"");
    let scene = Scene::of(&[&healthy("a"), &down]);
    scene.write("app.log", "2026-11-22 01:02:03 tick\n".repeat(60));
    let full = |args: &str| scene.shell(&format!("exec {{watchdog}} {args} >/dev/full"));
    // scripts act on what the run came to
    for args in ["check", "check --json", "check --dry-run a"] {
        let code = scene.run(&args.split(' ').collect::<Vec<_>>()).code;
        let outcome = full(args).exits(code);
        assert!(outcome.stderr.contains(said), "{args}: {outcome:?}");
    }
    for args in [
        "--help",
        "--version",
        "status a",
        "status --json a",
        "status --html a",
        "history",
        "history --json",
        "report",
        "report --json",
        "why a",
        "evidence",
        "pause a",
        "resume a",
        "reset a",
        "validate",
        "backtest b",
        "show-config",
        "metrics",
        "completions bash",
        "completions --services",
        "man",
        "man --all .",
    ] {
        let outcome = full(args).exits(1);
        assert_eq!(outcome.stderr, format!("watchdog: {said}\n"), "{args}");
    }
    // what is not well is not hidden by it
    let outcome = full("status").exits(2);
    assert!(outcome.stderr.contains(said), "{outcome:?}");
}

#[test]
fn a_restart_that_was_made_is_no_failure_where_it_cannot_be_printed() {
    let scene = Scene::of(&[&Service::new("a")]);
    let outcome = scene.shell("exec {watchdog} restart a >/dev/full").exits(0);
    let said = "cannot write to standard output: no space left on device";
    assert!(outcome.stderr.contains(said), "{outcome:?}");
}

#[test]
fn a_report_is_sent_although_it_cannot_be_printed() {
    let scene = Scene::with(&format!(
        "{MAIL}[service.a]\nprocess = {{ pid_file = \"a.pid\" }}\n"
    ));
    scene
        .shell("exec {watchdog} report --json --send >/dev/full")
        .exits(1);
    assert_eq!(scene.mails().len(), 1);
}

#[test]
fn validate_finds_nothing_wrong_with_a_good_config() {
    let scene = Scene::of(&[&healthy("a")]);
    scene.run(&["validate"]).exits(0);
    assert!(!scene.has("state"), "it writes nothing");
}

#[test]
fn validate_tells_traps_and_strictly_fails_for_them() {
    let service = Service::new("a").known_by(Some(
        "{ pid_file = \"no-such-directory/a.pid\", command_line = '{dir}/matches-nothing' }",
    ));
    let scene = Scene::of(&[&service]);
    let outcome = scene.run(&["validate"]).exits(0);
    assert!(outcome.text().contains("no-such-directory"));
    scene.run(&["validate", "--strict"]).exits(1);
}

#[test]
fn f78_all_errors_are_told_at_once_with_their_places() {
    let scene = Scene::new();
    scene.raw_config(
        "state_dir = \"state\"
check_timeout = \"soon\"

[service.a]
proces = { pid_file = \"a.pid\" }

[service.b]
process = { pid_file = 7 }
restart = { max_per_hour = -1, stop_signal = \"NOPE\" }

[[service.b.log]]
path = \"b.log\"
forbid = ['(unclosed']
max_age = \"5 parsecs\"

[service.\"bad name\"]
process = { pid_file = \"c.pid\" }
",
    );
    for args in [
        &["validate"][..],
        &["check"],
        &["check", "--dry-run"],
        &["show-config"],
    ] {
        let outcome = scene.run(args).exits(78);
        let text = outcome.text();
        for word in [
            "soon",
            "proces",
            "process",
            "max_per_hour",
            "NOPE",
            "(unclosed",
            "parsecs",
            "bad name",
        ] {
            assert!(text.contains(word), "{word} is not in {text}");
        }
        // the places: the number of the line
        for line in ["2", "5", "8", "9", "13", "14", "16"] {
            assert!(text.contains(line), "line {line} is not in {text}");
        }
    }
    assert!(!scene.has("state"));
}

#[test]
fn f78_a_misspelt_key_names_the_nearest() {
    for (line, meant) in [
        ("restrt = { max_per_hour = 1 }", "restart"),
        ("restart = { max_per_hours = 1 }", "max_per_hour"),
        ("process = { pidfile = \"a.pid\" }", "pid_file"),
        ("spawn = { comand = [\"true\"] }", "command"),
        ("depend_on = [\"a\"]", "depends_on"),
        ("restart = { on_exhausted = \"giveup\" }", "give_up"),
    ] {
        let scene = Scene::new();
        scene.config(&format!("[service.a]\n{line}\n"));
        let outcome = scene.run(&["check"]).exits(78);
        assert!(outcome.stderr.contains(meant), "{line}: {}", outcome.stderr);
        assert!(
            outcome.stderr.contains(line),
            "the line is quoted: {}",
            outcome.stderr
        );
    }
}

#[test]
fn impossible_values_are_refused() {
    for text in [
        "[service.a]\nspawn = { command = [] }",
        "[service.a]\nspawn = { command = [\"true\"], umask = \"999\" }",
        "[service.a]\nspawn = { command = [\"true\"], nice = 99 }",
        "[service.a]\nspawn = { command = [\"true\"] }\nsystemd = { unit = \"a.service\" }",
        "[service.a]\nspawn = { command = [\"true\"] }\nrestart = { command = [\"true\"] }",
        "[service.a]\nprocess = {}",
        "[service.a]\nprocess = { pid_file = \"\" }",
        "[service.a]\nprocess = { pid_file = \"a.pid\" }\nrestart = { after_failures = 0 }",
        "[service.a]\nprocess = { pid_file = \"a.pid\" }\nrestart = { start_timeout = \"0s\" }",
        "[service.a]\nprocess = { pid_file = \"a.pid\" }\nrestart = { cooldown = \"1y\" }",
        "[service.a]\nprocess = { command_line = '(' }",
        "[[service.a.log]]\nmax_age = \"5m\"",
        "[[service.a.log]]\npath = \"a.log\"\nseverity = \"fatal\"",
        "[[service.a.log]]\npath = \"a.log\"\nmax_age = \"0s\"",
        "[[service.a.log]]\npath = \"a.log\"\nmax_age = \"5m\"\ntimestamp = \"%Q\"",
        "[service.a]\nspawn = { command = [\"true\"], env = { \"A=B\" = \"x\" } }",
        "[mail]\nfrom = \"w@example.org\"\nto = []\ndirectory = \"mails\"",
        "[mail]\nfrom = \"not an address\"\nto = [\"o@example.org\"]\ndirectory = \"mails\"",
        "[mail]\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]",
        "[mail]\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]\ndirectory = \"m\"\nsendmail = { command = \"/bin/true\" }",
        "check_timeout = \"0s\"",
        "[logging]\nlevel = \"loud\"",
        "[service.a]\nprocess = { pid_file = \"a.pid\" }\n[service.a]\nprocess = { pid_file = \"b.pid\" }",
    ] {
        let scene = Scene::new();
        let filler = if text.contains("[service") || text.contains("[[service") {
            String::new()
        } else {
            render(&[&healthy("filler")])
        };
        scene.config(&format!("{text}\n{filler}"));
        let outcome = scene.run(&["check"]);
        assert_eq!(outcome.code, 78, "{text}\n{outcome:?}");
        assert!(!outcome.stderr.is_empty(), "{text}");
    }
}

#[test]
fn the_shown_config_is_a_config_again_and_keeps_secrets() {
    let scene = Scene::new();
    scene.config(&format!(
        "[mail]\nfrom = \"w@example.org\"\nto = [\"ops@example.org\"]\n\
         smtp = {{ host = \"127.0.0.1\", port = 25, tls = \"none\", username = \"u\", password = \"canary-4711\" }}\n{}",
        render(&[
            &Service::new("a")
                .spawn("env", "{ MODE = \"live\" }")
                .log("path = \"a.log\"\nmax_age = \"90s\"\nforbid = [{ pattern = 'x\"y', at_most = 2 }]"),
            &healthy("b"),
        ])
    ));
    let shown = scene.run(&["show-config"]).exits(0).stdout;
    assert!(!shown.contains("canary-4711"), "{shown}");
    for word in [
        "max_per_hour",
        "check_timeout",
        "stop_signal",
        "start_grace",
        "live",
    ] {
        assert!(shown.contains(word), "defaults are filled in: {word}");
    }
    let parsed: toml::Table = shown.parse().unwrap();
    assert!(parsed["service"]["a"].is_table());
    scene.write_private("shown.toml", &shown);
    let again = format!("{WATCHDOG} --config {{dir}}/shown.toml");
    let second = scene.shell(&format!("{again} show-config")).exits(0).stdout;
    assert_eq!(second, shown, "shown again it is the same");
    let outcome = scene.shell(&format!("{again} validate"));
    assert!(outcome.code == 0, "{outcome:?}");
}

#[test]
fn f76_secrets_are_nowhere_but_in_the_config() {
    let scene = Scene::new();
    scene.config(&format!(
        "[mail]\nfrom = \"w@example.org\"\nto = [\"ops@example.org\"]\n\
         smtp = {{ host = \"127.0.0.1\", port = {}, tls = \"none\", username = \"u\", password = \"canary-4711\", timeout = \"1s\" }}\n\
         [logging]\nfile = \"{{dir}}/watchdog.log\"\nlevel = \"trace\"\n{}",
        crate::scene::free_port(),
        render(&[&Service::new("a"), &broken("b")])
    ));
    for args in [
        &["check", "-vvv"][..],
        &["check", "--json"],
        &["validate", "-vvv"],
        &["show-config"],
        &["status", "--json"],
        &["history", "--json"],
    ] {
        let outcome = scene.run(args);
        assert!(!outcome.text().contains("canary-4711"), "{args:?}");
    }
    let environment = crate::scene::environment(scene.last("a"));
    assert!(!format!("{environment:?}").contains("canary"));
    for (path, (_, _, _, bytes)) in scene.fingerprint() {
        let text = String::from_utf8_lossy(&bytes);
        if !path.ends_with("watchdog.toml") {
            assert!(!text.contains("canary-4711"), "{}", path.display());
        }
    }
}

#[test]
fn f76_a_secret_that_others_can_read_is_refused() {
    let scene = Scene::new();
    let mail = |secret: &str| {
        format!(
            "[mail]\nfrom = \"w@example.org\"\nto = [\"ops@example.org\"]\n\
             smtp = {{ host = \"127.0.0.1\", tls = \"starttls\", username = \"u\", {secret} }}\n{}",
            render(&[&healthy("a")])
        )
    };
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(scene.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    scene.config(&mail("password = \"canary\""));
    mode("watchdog.toml", 0o644);
    let outcome = scene.run(&["check"]).exits(78);
    assert!(outcome.stderr.contains("chmod"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("canary"), "{}", outcome.stderr);
    mode("watchdog.toml", 0o600);
    scene.run(&["check"]).exits(0);
    scene.write("secret", "canary\n");
    mode("secret", 0o644);
    scene.config(&mail("password_file = \"secret\""));
    let outcome = scene.run(&["check"]).exits(78);
    assert!(outcome.stderr.contains("chmod"), "{}", outcome.stderr);
    mode("secret", 0o600);
    scene.run(&["check"]).exits(0);
}

#[test]
fn configs_that_are_no_files_are_78_and_nothing_is_run() {
    let scene = Scene::new();
    let good = scene.fill(&format!(
        "state_dir = \"state\"\n{}",
        render(&[&Service::new("a")])
    ));
    let path = scene.path("watchdog.toml");
    let make: [(&str, &dyn Fn()); 7] = [
        ("missing", &|| {}),
        ("directory", &|| fs::create_dir(&path).unwrap()),
        ("fifo", &|| {
            nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        }),
        ("device", &|| symlink("/dev/zero", &path).unwrap()),
        ("dangling", &|| symlink("nowhere", &path).unwrap()),
        ("not UTF-8", &|| {
            fs::write(&path, [good.as_bytes(), b"# \xff\xfe\n"].concat()).unwrap();
        }),
        ("100 MB", &|| {
            fs::write(&path, &good).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_len(100 << 20).unwrap();
        }),
    ];
    for (name, make) in make {
        make();
        for args in [&["check"][..], &["validate"], &["show-config"]] {
            let outcome = scene.run(args);
            assert_eq!(outcome.code, 78, "{name}: {outcome:?}");
            assert!(
                outcome.stderr.contains("watchdog.toml"),
                "{name}: {outcome:?}"
            );
        }
        assert_eq!(scene.starts("a").len(), 0, "{name}");
        assert!(!scene.has("state"), "{name}");
        let _ = fs::remove_dir(&path).or_else(|_| fs::remove_file(&path));
    }
}

#[test]
fn f77_a_config_that_others_can_write_is_not_trusted() {
    let scene = Scene::of(&[&Service::new("a")]);
    let set = |name: &str, mode: u32| {
        fs::set_permissions(scene.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    set("watchdog.toml", 0o666);
    let outcome = scene.run(&["check"]).exits(78);
    assert!(outcome.stderr.contains("chmod"), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("watchdog.toml"),
        "{}",
        outcome.stderr
    );
    if root() {
        set("watchdog.toml", 0o620);
        scene.run(&["check"]).exits(78);
        set("watchdog.toml", 0o600);
        set("", 0o777);
        let outcome = scene.run(&["check"]);
        set("", 0o700);
        assert_eq!(outcome.code, 78, "its directory");
        assert!(outcome.stderr.contains("chmod"), "{}", outcome.stderr);
    }
    assert_eq!(scene.starts("a").len(), 0);
    set("watchdog.toml", 0o644);
    scene.run(&["check"]).exits(1);
}

#[test]
#[ignore = "needs root"]
fn f77_a_config_of_another_user_is_not_run_by_root() {
    let scene = Scene::of(&[&Service::new("a")]);
    let own = |name: &str, uid: u32| {
        std::os::unix::fs::chown(scene.path(name), Some(uid), None).unwrap();
    };
    own("watchdog.toml", 65534);
    let outcome = scene.run(&["check"]).exits(78);
    assert!(outcome.stderr.contains("chown"), "{}", outcome.stderr);
    own("watchdog.toml", 0);
    // nor one in a directory of another user, reached by a link or not
    fs::create_dir(scene.path("theirs")).unwrap();
    fs::copy(
        scene.path("watchdog.toml"),
        scene.path("theirs/watchdog.toml"),
    )
    .unwrap();
    own("theirs", 65534);
    symlink("theirs/watchdog.toml", scene.path("link.toml")).unwrap();
    for name in ["theirs/watchdog.toml", "link.toml"] {
        let outcome = scene.shell(&format!("exec {WATCHDOG} --config {{dir}}/{name} check"));
        outcome.exits(78);
    }
    assert_eq!(scene.starts("a").len(), 0);
    own("theirs", 0);
}

#[test]
fn f77_a_link_that_others_can_replace_is_not_trusted_wherever_it_leads() {
    let scene = Scene::of(&[&Service::new("a")]);
    let set = |name: &str, mode: u32| {
        fs::set_permissions(scene.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    for name in ["real", "kept", "open"] {
        fs::create_dir(scene.path(name)).unwrap();
        set(name, 0o755);
    }
    let config = fs::read_to_string(scene.path("watchdog.toml")).unwrap();
    scene.write_private("real/base.toml", config.clone());
    scene.write_private("real/more.toml", "[service.b]\nenabled = false\n");
    let text = scene.fill("include = [\"{dir}/open/more.toml\"]\n");
    scene.write_private("includes.toml", format!("{text}{config}"));
    let text = scene.fill("state_dir = \"{dir}/open/kept/sub\"\n");
    scene.write_private(
        "keeps.toml",
        config.replace("state_dir = \"state\"\n", &text),
    );
    for (link, target) in [
        ("absolute.toml", scene.path("real/base.toml")),
        ("relative.toml", "../real/base.toml".into()),
        ("real", "../real".into()),
        ("more.toml", "../real/more.toml".into()),
        ("kept", "../kept".into()),
    ] {
        symlink(target, scene.path("open").join(link)).unwrap();
    }
    let check = |config: &str, options: &str| {
        scene.shell(&format!("exec {WATCHDOG} -c {config} check {options}"))
    };
    set("open", 0o777);
    for (config, code) in [
        ("open/absolute.toml", 78),
        ("open/relative.toml", 78),
        ("open/real/base.toml", 78),
        ("includes.toml", 78),
        ("keeps.toml", 73),
    ] {
        let outcome = check(config, "");
        assert_eq!(outcome.code, code, "{config}: {outcome:?}");
        assert!(
            outcome.stderr.contains("chmod") || code == 73,
            "{outcome:?}"
        );
        assert!(outcome.stderr.contains("open"), "{outcome:?}");
    }
    assert_eq!(scene.starts("a").len(), 0);
    assert!(!scene.has("kept/sub"));
    // nobody else says where a `..` behind it leads
    let outcome = check("open/../real/base.toml", "--dry-run");
    assert_eq!(outcome.code, 1, "{outcome:?}");
    set("open", 0o755);
    assert_eq!(check("open/relative.toml", "--dry-run").code, 1);
}

#[test]
fn the_config_is_searched_for_in_order() {
    let scene = Scene::new();
    fs::create_dir_all(scene.path("xdg/watchdog")).unwrap();
    fs::create_dir(scene.path("work")).unwrap();
    let place = |name: &str, file: &str| {
        let text = scene.fill(&format!(
            "state_dir = \"{{dir}}/state\"\n{}",
            render(&[&healthy(name).top("working_dir", "\"{dir}\"")])
        ));
        scene.write_private(file, text);
    };
    place("option", "option.toml");
    place("variable", "variable.toml");
    place("here", "work/watchdog.toml");
    place("xdg", "xdg/watchdog/watchdog.toml");
    let first = |script: &str| {
        let outcome = scene.shell(&format!(
            "cd {{dir}}/work; export XDG_CONFIG_HOME={{dir}}/xdg WATCHDOG_CONFIG={{dir}}/variable.toml; {script} check --json"
        ));
        outcome.exits(0).json()["services"][0]["name"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(first(&format!("{WATCHDOG} -c ../option.toml")), "option");
    assert_eq!(first(WATCHDOG), "variable");
    assert_eq!(first(&format!("unset WATCHDOG_CONFIG; {WATCHDOG}")), "here");
    let elsewhere = format!("unset WATCHDOG_CONFIG; cd {}; {WATCHDOG}", scene.dir());
    assert_eq!(first(&elsewhere), "xdg");
    // one that is asked for must be there
    let outcome = scene.shell(&format!(
        "cd {{dir}}/work; WATCHDOG_CONFIG={{dir}}/nowhere.toml {WATCHDOG} check"
    ));
    outcome.exits(78);
}

#[test]
fn byte_order_marks_and_dos_lines_are_read() {
    let scene = Scene::new();
    let text = format!("state_dir = \"state\"\n{}", render(&[&healthy("a")]));
    scene.raw_config(&format!("\u{feff}{}", text.replace('\n', "\r\n")));
    scene.check().exits(0).verdict("a", "healthy");
}

#[test]
fn a_long_wait_is_told_at_a_terminal_and_nowhere_else() {
    // it does not end by itself, so that stopping it takes all of its time
    let service = Service::new("a")
        .option("traps=TERM")
        .restart("stop_timeout", "\"4s\"");
    let scene = Scene::of(&[&service]);
    let pid = scene.start("a", &["pid_file=a.pid", "traps=TERM"]);
    let line = format!("a: waiting for PID {pid} to end (");
    // script(1) gives it a terminal, and keeps what was written there
    let outcome = scene.shell("script -qec '{watchdog} restart a' /dev/null </dev/null");
    assert!(outcome.stdout.contains(&line), "{}", outcome.stdout);
    assert!(
        outcome.stdout.contains("; KILL after 4s)"),
        "{}",
        outcome.stdout
    );
    let outcome = scene.run(&["restart", "a"]).exits(0);
    assert!(!outcome.text().contains("waiting for"), "{outcome:?}");
}

#[test]
fn what_is_printed_fits_into_eighty_columns() {
    let long = "unheard-of ".repeat(20);
    let scene = Scene::of(&[
        &broken("a")
            .option(&format!("err='{long}'"))
            .spawn("stderr", "\"a.err\""),
        &Service::new("a-name-that-is-rather-long-but-not-too-long-for-a-name"),
        &healthy("b"),
    ]);
    scene.run(&["check"]).exits(2);
    for args in [
        &["check"][..],
        &["status"],
        &["history"],
        &["why", "a"],
        &["check", "--dry-run"],
    ] {
        let outcome = scene.run(args);
        assert!(!outcome.stdout.is_empty(), "{args:?}");
        for line in outcome.stdout.lines() {
            // quoted lines stay as they are, and no path is torn
            let whole = line.trim_start().starts_with('|')
                || line.split_whitespace().any(|word| word.len() > 60);
            assert!(line.chars().count() <= 80 || whole, "{args:?}: {line}");
        }
    }
}

#[test]
fn a_service_may_be_named_by_a_glob() {
    let scene = Scene::of(&[
        &Service::new("worker-1"),
        &Service::new("worker-2"),
        &Service::new("gateway"),
    ]);
    let names = |outcome: &crate::scene::Outcome| -> Vec<String> {
        let services = outcome.json()["services"].as_array().unwrap().clone();
        let name = |service: &serde_json::Value| service["name"].as_str().unwrap().to_owned();
        services.iter().map(name).collect()
    };
    let outcome = scene.run(&["check", "--json", "worker-*"]).exits(1);
    assert_eq!(names(&outcome), ["worker-1", "worker-2"]);
    assert!(scene.starts("gateway").is_empty());
    scene.run(&["pause", "*-[12]"]).exits(0);
    let outcome = scene.run(&["check", "--json", "*", "gateway"]).exits(1);
    assert_eq!(names(&outcome), ["worker-1", "worker-2", "gateway"]);
    let outcome = outcome.verdict("worker-1", "paused");
    outcome.verdict("gateway", "restarted");
    // one is wanted, and one is meant
    scene.run(&["why", "gate*"]).exits(0);
    let wrong = scene.run(&["why", "worker-?"]).exits(64);
    assert!(
        wrong
            .stderr
            .contains("`worker-?` matches 2 services, and one is wanted: worker-1, worker-2"),
        "{}",
        wrong.stderr
    );
    let wrong = scene.run(&["reset", "x*"]).exits(64);
    assert!(
        wrong.stderr.contains("no service matches `x*` in "),
        "{}",
        wrong.stderr
    );
    let wrong = scene.run(&["status", "[a"]).exits(64);
    assert!(
        wrong.stderr.contains("`[a` is no pattern of names: "),
        "{}",
        wrong.stderr
    );
}

#[test]
fn a_name_that_is_not_there_is_answered_with_what_is() {
    let scene = Scene::new();
    let services = |names: std::ops::Range<u32>| {
        let table = |n| format!("[service.bot-{n}]\nspawn = {{ command = [\"{{dir}}/prog\"] }}\n");
        names.map(table).collect::<String>()
    };
    let chat = "[notify.chat]\ntype = \"exec\"\ncommand = [\"true\"]\n";
    scene.config(&format!("{chat}{}", services(0..3)));
    let says = |args: &[&str], what: &str| {
        let wrong = scene.run(args).exits(64);
        assert!(wrong.stderr.trim_end().ends_with(what), "{}", wrong.stderr);
    };
    let all = "/watchdog.toml; it has bot-0, bot-1, bot-2";
    says(
        &["why", "xyz"],
        &format!("no service `xyz` in {}{all}", scene.fill("{dir}")),
    );
    says(&["status", "bot-1", "xyz"], all);
    says(&["reset", "x*"], all);
    says(&["why", "bto-1"], "; did you mean `bot-1`?");
    says(&["test-notify", "xyz"], "no channel `xyz`; it has chat");
    says(&["scale", "xyz", "1"], "/watchdog.toml");
    scene.config(&services(0..40));
    says(&["why", "xyz"], "bot-7, bot-8, bot-9 and 30 more");
}

#[test]
fn the_watchdogs_own_log_is_written_to_its_file() {
    let scene = Scene::new();
    scene.config(&format!(
        "[logging]\nfile = \"own.log\"\nlevel = \"info\"\n{}",
        render(&[&Service::new("a")])
    ));
    scene.check().exits(1);
    let ends = |before: usize| {
        let log = scene.read("own.log");
        let line = log[before..].lines().last().unwrap_or_default().to_owned();
        (line, log.len())
    };
    let (line, before) = ends(0);
    assert!(
        line.contains("[WARN] a is restarted: there is no PID file"),
        "{line}"
    );
    // one line for a run that finds all well, and nothing of it on standard error
    let ended = scene.check().exits(0);
    assert_eq!(ended.stderr, "");
    let (line, after) = ends(before);
    assert!(line.contains("[INFO] checked 1 service in "), "{line}");
    assert!(line.ends_with(": all healthy"), "{line}");
    assert_eq!(scene.read("own.log")[before..].lines().count(), 1);
    scene.kill(scene.last("a"));
    scene.check().exits(1);
    assert!(ends(after).1 > after, "it is appended to");
    // a dry run writes nothing
    let before = scene.read("own.log");
    scene.run(&["check", "--dry-run"]).exits(0);
    assert_eq!(scene.read("own.log"), before);
}

#[test]
fn the_own_log_can_be_an_object_a_line() {
    let scene = Scene::new();
    let services = render(&[&Service::new("a")]);
    let object = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let config = |logging: &str| {
        scene.config(&format!(
            "[logging]\nformat = \"json\"\n{logging}\n{services}"
        ));
    };
    config("file = \"own.log\"");
    scene.check().exits(1);
    let lines = scene.read("own.log");
    assert!(lines.lines().count() > 0);
    for line in lines.lines() {
        let line = object(line);
        let time = line["timestamp"].as_str().unwrap();
        assert!(time.ends_with('Z') && chrono::DateTime::parse_from_rfc3339(time).is_ok());
        assert!(
            line["message"].is_string() && line["component"].is_string(),
            "{line}"
        );
    }
    let restarted = object(lines.lines().last().unwrap());
    assert_eq!(restarted["level"], "WARNING");
    assert_eq!(restarted["component"], "report::summary");
    let details = &restarted["details"];
    assert_eq!(
        (&details["service"], &details["verdict"]),
        (&"a".into(), &"restarted".into())
    );
    assert_eq!(details["findings"][0]["code"], "process_missing");
    assert_eq!(details["action"]["ok"], true);
    scene.check().exits(0);
    let well = object(scene.read("own.log").lines().last().unwrap());
    assert_eq!(well["level"], "INFO");
    assert_eq!(
        (&well["details"]["services"], &well["details"]["exit_code"]),
        (&1.into(), &0.into())
    );
    // standard error stays for people where there is a file, and is the log where there is none
    let said = scene.run(&["check", "-v"]).stderr;
    assert!(
        said.contains("checked 1 service in ") && !said.contains('{'),
        "{said}"
    );
    config("");
    let said = scene.run(&["check", "-v"]).stderr;
    assert!(
        object(said.lines().last().unwrap())["message"]
            .as_str()
            .unwrap()
            .contains("all healthy")
    );
    assert_eq!(scene.check().stderr, "");
}

#[test]
fn an_own_log_that_cannot_be_written_stops_no_restart() {
    let scene = Scene::new();
    scene.config(&format!(
        "[logging]\nfile = \"nowhere/own.log\"\n{}",
        render(&[&Service::new("a")])
    ));
    scene.check().exits(1).verdict("a", "restarted");
}

#[test]
fn f31_a_run_has_an_end_whatever_hangs() {
    let scene = Scene::new();
    let hang = Service::new("hang")
        .watched()
        .restart(
            "command",
            "[\"/bin/sh\", \"-c\", \"trap '' TERM; while :; do sleep 1; done\", \"{dir}\"]",
        )
        .restart("start_timeout", "\"10m\"");
    scene.config(&format!(
        "run_timeout = \"2s\"\n{}",
        render(&[&hang, &Service::new("b")])
    ));
    let outcome = scene.check();
    assert!([2, 3].contains(&outcome.code), "{}", outcome.code);
    outcome.verdict("b", "restarted");
    let state = scene.state();
    assert_eq!(
        state["services"]["hang"]["attempts"]
            .as_array()
            .unwrap()
            .len(),
        1,
        "recorded"
    );
}

#[test]
fn a_disabled_service_is_reported_where_it_was_asked_for_and_never_restarted() {
    let off = Service::new("off").top("enabled", "false");
    let scene = Scene::of(&[&Service::new("a"), &off]);
    let names = |outcome: &crate::scene::Outcome| -> Vec<String> {
        let report = outcome.json();
        let services = report["services"].as_array().unwrap();
        let name = |service: &serde_json::Value| service["name"].as_str().unwrap().to_owned();
        services.iter().map(name).collect()
    };
    assert_eq!(names(&scene.check()), ["a", "off"]);
    assert_eq!(names(&scene.run(&["check", "--json", "a"])), ["a"]);
    let outcome = scene.run(&["check", "--json", "off"]).exits(0);
    outcome.verdict("off", "disabled");
    let outcome = scene.run(&["restart", "off"]).exits(1);
    let refused = "off is not restarted: it is disabled (enabled = false)";
    assert!(outcome.stderr.contains(refused), "{}", outcome.stderr);
    assert!(scene.starts("off").is_empty());
}
