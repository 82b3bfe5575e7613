//! What is kept between runs: its form, its protection, and what happens when it is damaged, lost or contended.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use serde_json::Value;

use crate::scene::{MAIL, Scene, Service, alive, render, root, when};

fn broken(name: &str) -> Service {
    Service::new(name).option("exit=1")
}

#[test]
fn the_state_directory_is_made_and_is_its_owners_alone() {
    let scene = Scene::of(&[&Service::new("a"), &Service::new("b").watched()]);
    // a careless umask changes nothing
    let outcome = scene.shell("umask 000; exec {watchdog} check --json");
    outcome.exits(2);
    scene
        .shell("umask 000; exec {watchdog} check --json")
        .exits(2);
    let mode = |name: &str| scene.path(name).metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode("state"), 0o700);
    let mut seen = 0;
    for entry in fs::read_dir(scene.path("state")).unwrap().flatten() {
        if entry.file_type().unwrap().is_file() {
            let mode = entry.metadata().unwrap().mode() & 0o7777;
            assert_eq!(mode, 0o600, "{}", entry.path().display());
            seen += 1;
        }
    }
    assert!(seen >= 4, "{seen} files");
    for name in ["state.json", "state.json.bak", "journal.jsonl", "lock"] {
        assert!(scene.has(&format!("state/{name}")), "{name}");
    }
}

#[test]
fn files_that_were_opened_to_all_are_the_owners_alone_again() {
    let scene = Scene::with(
        "[logging]\nfile = \"own.log\"\n[service.a]\nprocess = { pid_file = \"a.pid\" }\nrestart = { command = [\"true\"], start_timeout = \"300ms\", settle = \"0s\" }\n",
    );
    scene.check().exits(2);
    let files = ["state.json", "journal.jsonl", "lock", "a.out"];
    for name in files {
        let path = scene.path(&format!("state/{name}"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    }
    // not one of the state directory: its mode is a person's choice
    fs::set_permissions(scene.path("own.log"), fs::Permissions::from_mode(0o644)).unwrap();
    let mode = |name: &str| scene.path(name).metadata().unwrap().mode() & 0o7777;
    scene.run(&["status"]).exits(2);
    scene.run(&["check", "--dry-run"]);
    for name in files {
        assert_eq!(
            mode(&format!("state/{name}")),
            0o666,
            "looking changes {name}"
        );
    }
    let outcome = scene.check().exits(2);
    for name in files {
        assert_eq!(mode(&format!("state/{name}")), 0o600, "{name}");
    }
    assert_eq!(mode("state/state.json.bak"), 0o600);
    assert_eq!(mode("own.log"), 0o644);
    let said = scene.fill(
        "{dir}/state/journal.jsonl could be read or written by others (mode 666); its mode is 600 again",
    );
    assert!(outcome.stderr.contains(&said), "{outcome:?}");
    assert!(scene.check().stderr.is_empty(), "said once");
}

#[test]
fn state_json_has_what_scripts_may_read() {
    let scene = Scene::of(&[&broken("a").restart("max_per_hour", "1")]);
    scene.check().exits(2).verdict("a", "restart_failed");
    scene.check().exits(2).verdict("a", "exhausted");
    let state = scene.state();
    assert!(state["version"].is_u64(), "{state}");
    assert!(!state["last_run"].is_null(), "{state}");
    let service = &state["services"]["a"];
    assert_eq!(service["verdict"], "exhausted");
    when(&service["since"]);
    assert_eq!(service["consecutive_failures"], 2);
    let attempts = service["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 1);
    when(&attempts[0]);
    assert!(attempts[0].as_str().unwrap().ends_with('Z'), "UTC");
}

#[test]
fn the_journal_has_a_line_of_json_for_each_event() {
    let scene = Scene::of(&[&Service::new("a")]);
    scene.check().exits(1);
    scene.check().exits(0);
    let journal = scene.journal();
    assert!(!journal.is_empty());
    for line in &journal {
        when(&line["time"]);
        assert!(line["event"].is_string(), "{line}");
    }
    let restart = journal
        .iter()
        .find(|line| line["service"] == "a" && line["verdict"] == "restarted")
        .unwrap_or_else(|| panic!("no restart in {journal:?}"));
    assert_eq!(restart["findings"][0]["code"], "process_missing");
    assert_eq!(restart["action"]["new_pid"], scene.last("a"));
    let lines = journal.len();
    // where nothing happens, nothing is written
    for _ in 0..3 {
        scene.check().exits(0);
    }
    assert_eq!(scene.journal().len(), lines);
}

#[test]
fn the_journal_is_rotated_by_size() {
    let scene = Scene::of(&[&Service::new("a")]);
    scene.check().exits(1);
    let line = format!(
        "{{\"time\":\"2026-01-01T00:00:00Z\",\"service\":\"a\",\"event\":\"{}\"}}\n",
        "x".repeat(1000)
    );
    scene.append("state/journal.jsonl", line.repeat(6000));
    for _ in 0..2 {
        scene.kill(scene.last("a"));
        scene.check().exits(1).verdict("a", "restarted");
    }
    let size = |name: &str| scene.path(name).metadata().unwrap().len();
    assert!(size("state/journal.jsonl") < 5 << 20);
    let old: Vec<String> = fs::read_dir(scene.path("state"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name.starts_with("journal") && name != "journal.jsonl")
        .collect();
    assert_eq!(old.len(), 1, "one old file is kept: {old:?}");
}

/// Things that a state file must never be believed for, and how to bring them about.
fn damages() -> BTreeMap<&'static str, fn(&Scene, &str)> {
    let mut table: BTreeMap<&'static str, fn(&Scene, &str)> = BTreeMap::new();
    table.insert("garbage", |scene, file| {
        scene.write(file, b"\xff\xfenot json at all");
    });
    table.insert("empty", |scene, file| scene.write(file, ""));
    table.insert("truncated", |scene, file| {
        let text = scene.read(file);
        scene.write(file, &text[..text.len() / 2]);
    });
    table.insert("another type", |scene, file| {
        scene.write(file, "[1, 2, 3]");
    });
    table.insert("a field of another type", |scene, file| {
        let mut state: Value = serde_json::from_str(&scene.read(file)).unwrap();
        state["services"]["a"]["attempts"] = "many".into();
        scene.write(file, state.to_string());
    });
    table.insert("newer", |scene, file| {
        let mut state: Value = serde_json::from_str(&scene.read(file)).unwrap();
        state["version"] = 999.into();
        scene.write(file, state.to_string());
    });
    table.insert("nested without end", |scene, file| {
        scene.write(file, "[".repeat(200_000));
    });
    table
}

fn set_aside(scene: &Scene) -> usize {
    fs::read_dir(scene.path("state"))
        .unwrap()
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .unwrap()
                .starts_with("state.json.corrupt-")
        })
        .count()
}

#[test]
fn f45_a_damaged_state_is_set_aside_and_the_backup_is_used() {
    for (name, damage) in damages() {
        let scene = Scene::of(&[&broken("a").restart("max_per_hour", "1")]);
        scene.check().exits(2).verdict("a", "restart_failed");
        scene.check().exits(2).verdict("a", "exhausted");
        scene.check().exits(2).verdict("a", "exhausted");
        damage(&scene, "state/state.json");
        scene.check().exits(2).verdict("a", "exhausted");
        assert_eq!(scene.starts("a").len(), 1, "{name}");
        assert_eq!(set_aside(&scene), 1, "{name}");
        scene.check().exits(2).verdict("a", "exhausted");
        assert_eq!(set_aside(&scene), 1, "{name}: told once");
        assert_eq!(scene.starts("a").len(), 1, "{name}");
    }
}

#[test]
fn f45_where_both_are_damaged_nothing_is_restarted_in_that_run() {
    for (name, damage) in damages() {
        let scene = Scene::of(&[&Service::new("a"), &Service::new("b")]);
        scene.check().exits(1);
        scene.check().exits(0);
        scene.kill(scene.last("a"));
        damage(&scene, "state/state.json");
        damage(&scene, "state/state.json.bak");
        scene
            .check()
            .exits(2)
            .verdict("a", "waiting")
            .verdict("b", "healthy");
        assert_eq!(scene.starts("a").len(), 1, "{name}");
        scene.check().exits(1).verdict("a", "restarted");
        assert_eq!(scene.starts("a").len(), 2, "{name}");
        assert_eq!(scene.starts("b").len(), 1, "{name}");
    }
}

#[test]
fn f45_a_state_that_cannot_be_read_is_not_taken_for_none() {
    for (name, damage) in damages() {
        let scene = Scene::of(&[&broken("a")]);
        scene.check().exits(2);
        scene.check().exits(2);
        damage(&scene, "state/state.json");
        // the backup says the same
        let outcome = scene.run(&["status"]).exits(2);
        assert!(outcome.stderr.contains("was used in its place"), "{name}");
        damage(&scene, "state/state.json.bak");
        for args in [
            &["status"][..],
            &["status", "--json"],
            &["status", "--html"],
            &["metrics"],
            &["why", "a"],
        ] {
            let outcome = scene.run(args).exits(73);
            assert_eq!(outcome.stdout, "", "{name}: {args:?}");
            for part in [
                "watchdog: the state cannot be read: ",
                &scene.fill("{dir}/state/state.json "),
                &scene.fill("; {dir}/state/state.json.bak "),
                "; `watchdog check` sets it aside and begins a new one, and restarts nothing in that run\n",
            ] {
                assert!(outcome.stderr.contains(part), "{name}: {outcome:?}");
            }
        }
        // as the run that it is about
        let dry = scene.run(&["check", "--dry-run", "--json"]).exits(2);
        let said = scene.fill("[WARN] {dir}/state/state.json");
        assert_eq!(dry.stderr.matches(&said).count(), 2, "{name}: {dry:?}");
        dry.verdict("a", "waiting");
        assert_eq!(set_aside(&scene), 0, "{name}: looking changes nothing");
        scene.check().exits(2).verdict("a", "waiting");
    }
}

#[test]
fn a_state_that_may_not_be_read_is_73_and_says_whose_it_is() {
    let scene = Scene::of(&[&broken("a")]);
    scene.check().exits(2);
    scene.run(&["pause", "a"]).exits(0);
    let command = if root() {
        // root may read all, so as somebody else
        fs::set_permissions(
            scene.path("watchdog.toml"),
            fs::Permissions::from_mode(0o644),
        )
        .unwrap();
        let watchdog = scene.public_watchdog();
        format!(
            "setpriv --reuid=65534 --regid=65534 --clear-groups {} -c {{dir}}/watchdog.toml",
            watchdog.display()
        )
    } else {
        for name in ["state/state.json", "state/state.json.bak"] {
            fs::set_permissions(scene.path(name), fs::Permissions::from_mode(0o000)).unwrap();
        }
        "{watchdog}".to_owned()
    };
    for args in ["status", "metrics", "why a", "check --dry-run"] {
        let outcome = scene.shell(&format!("exec {command} {args}")).exits(73);
        assert_eq!(outcome.stdout, "", "{args}");
        let said = scene.fill(
            "watchdog: the state cannot be read: {dir}/state/state.json cannot be opened: Permission denied (os error 13); \
             {dir}/state/state.json.bak cannot be opened: Permission denied (os error 13); run as the user that owns it\n",
        );
        assert!(outcome.stderr.ends_with(&said), "{args}: {outcome:?}");
    }
}

#[test]
fn a_state_with_times_beyond_all_measure_is_brought_back() {
    let scene = Scene::of(&[&broken("a")]);
    scene.check().exits(2);
    let (first, last) = ("-262143-01-01T00:00:00Z", "+262142-12-31T23:59:59Z");
    let walls = [
        Value::from(first),
        scene.state()["clock"]["wall"].clone(),
        last.into(),
    ];
    for (wall, count) in walls
        .iter()
        .flat_map(|wall| [0, 1 << 62, u64::MAX].map(|count| (wall, count)))
    {
        let shown = format!("{wall}, {count}");
        scene.edit_state(|state| {
            state["clock"]["wall"] = wall.clone();
            state["clock"]["boot_ms"] = count.into();
            state["clock"]["awake_ms"] = count.into();
            let service = &mut state["services"]["a"];
            service["attempts"][0] = last.into();
            service["process"]["seen_ms"] = u64::MAX.into();
        });
        for command in ["status", "why"] {
            assert!(scene.run(&[command, "a"]).code < 64, "{command}: {shown}");
        }
        assert!(scene.check().code < 64, "{shown}");
        let boot = scene.state()["clock"]["boot_ms"].as_u64().unwrap();
        assert!(boot < 1 << 60, "{shown}");
    }
}

#[test]
fn where_both_are_damaged_no_command_frees_the_budget_for_the_next_check() {
    for command in [
        &["pause", "b"][..],
        &["resume", "b"],
        &["reset", "b"],
        &["restart", "a"],
    ] {
        let scene = Scene::new();
        let services = [&Service::new("a"), &Service::new("b")];
        scene.config(&format!("{MAIL}{}", render(&services)));
        scene.check().exits(1);
        scene.check().exits(0);
        let mails = scene.mails().len();
        scene.kill(scene.last("a"));
        scene.write("state/state.json", "{");
        scene.write("state/state.json.bak", "{");
        let code = i32::from(command[0] == "restart");
        let outcome = scene.run(command).exits(code);
        if code == 1 {
            assert!(
                outcome.text().contains(
                    "a is not restarted: the state and its backup were damaged, and how often it was restarted in \
                     the last hour is not known; the next check takes that up; --force does it all the same"
                ),
                "{}",
                outcome.text()
            );
        }
        // again: what the first command saved is as little to be relied on
        scene.run(command).exits(code);
        assert_eq!(scene.starts("a").len(), 1, "{command:?}");
        let damaged = || {
            let journal = scene.journal();
            let is_damage = |line: &&Value| line["event"] == "state_damaged";
            journal.iter().filter(is_damage).count()
        };
        assert_eq!(damaged(), 2, "{command:?}: journalled at once, and once");
        assert_eq!(scene.mails().len(), mails, "{command:?}");
        scene.check().exits(2).verdict("a", "waiting");
        assert_eq!(scene.starts("a").len(), 1, "{command:?}");
        let new = &scene.mails()[mails..];
        let told = |mail: &crate::scene::Mail| mail.body.contains("state.json.bak");
        assert_eq!(new.iter().filter(|mail| told(mail)).count(), 1, "{new:?}");
        scene.check().exits(1).verdict("a", "restarted");
        assert_eq!(damaged(), 2, "{command:?}");
    }
}

#[test]
fn a_forced_restart_goes_on_where_both_are_damaged() {
    let scene = Scene::of(&[&Service::new("a")]);
    scene.check().exits(1);
    scene.write("state/state.json", "{");
    scene.write("state/state.json.bak", "{");
    scene.run(&["restart", "a", "--force"]).exits(0);
    assert_eq!(scene.starts("a").len(), 2);
    scene.kill(scene.last("a"));
    scene.check().verdict("a", "waiting");
    scene.check().verdict("a", "restarted");
}

/// A service whose restart command runs a script besides, and the scene that it is in.
fn scene_with_command(script: &str) -> Scene {
    let service = Service::new("a")
        .watched()
        .restart("command", "[\"/bin/sh\", \"{dir}/begin.sh\"]");
    let scene = Scene::of(&[&service]);
    let start = "exec /bin/sh {dir}/prog.sh a fork=1 pid_file=a.pid";
    scene.write("begin.sh", scene.fill(start));
    scene.check().exits(1).verdict("a", "restarted");
    scene.write("begin.sh", scene.fill(&format!("{script}\n{start}\n")));
    scene
}

fn restarts_in_journal(scene: &Scene) -> usize {
    let journal = scene.journal();
    let made = |line: &&Value| line["event"] == "restarted" && line["action"]["ok"] == true;
    journal.iter().filter(made).count()
}

#[test]
fn a_restart_that_was_made_is_journalled_although_the_state_cannot_be_saved() {
    // a directory in the place of the file that the state is written to
    let scene = scene_with_command("mkdir -p {dir}/state/state.json.new/x");
    scene.run(&["restart", "a"]).exits(73);
    assert_eq!(scene.copies("a"), 1);
    assert_eq!(restarts_in_journal(&scene), 2);
    fs::remove_dir_all(scene.path("state/state.json.new")).unwrap();
    let outcome = scene.check();
    assert_eq!(outcome.service("a")["restarts_last_hour"], 2);
}

#[test]
fn a_restart_whose_lock_was_taken_away_leaves_the_state_to_others() {
    let scene =
        scene_with_command("mv {dir}/state/lock {dir}/away; echo mine > {dir}/state/state.json");
    scene.run(&["restart", "a"]).exits(73);
    assert_eq!(scene.read("state/state.json"), "mine\n");
    assert_eq!(restarts_in_journal(&scene), 2);
}

#[test]
fn damage_that_a_command_finds_is_alerted_about_by_the_next_check() {
    let scene = Scene::new();
    scene.config(&format!("{MAIL}{}", render(&[&Service::new("a")])));
    scene.start("a", &["pid_file=a.pid"]);
    scene.check().exits(0);
    scene.check().exits(0);
    scene.write("state/state.json", "{");
    scene.run(&["pause", "a"]).exits(0);
    scene.run(&["resume", "a"]).exits(0);
    assert!(scene.mails().is_empty());
    // the backup knew all attempts
    scene.kill(scene.last("a"));
    scene.check().exits(1).verdict("a", "restarted");
    let told = |mail: &crate::scene::Mail| mail.body.contains("state.json.corrupt-");
    assert_eq!(scene.mails().iter().filter(|mail| told(mail)).count(), 1);
    scene.check().exits(0);
    assert_eq!(scene.mails().iter().filter(|mail| told(mail)).count(), 1);
}

#[test]
fn f45_a_damaged_state_is_mailed_about() {
    let scene = Scene::new();
    scene.config(&format!("{MAIL}{}", render(&[&Service::new("a")])));
    scene.start("a", &["pid_file=a.pid"]);
    scene.check().exits(0);
    scene.check().exits(0);
    assert!(scene.mails().is_empty());
    scene.write("state/state.json", "{");
    scene.check();
    let mails = scene.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].body.contains("state.json"), "{}", mails[0].body);
    scene.check();
    assert_eq!(scene.mails().len(), 1, "told once");
}

#[test]
fn f45_a_directory_in_place_of_the_state_or_its_backup_is_set_aside_and_mailed_about() {
    for name in ["state.json", "state.json.bak"] {
        let scene = Scene::new();
        scene.config(&format!("{MAIL}{}", render(&[&Service::new("a")])));
        scene.start("a", &["pid_file=a.pid"]);
        scene.check().exits(0);
        scene.check().exits(0);
        fs::remove_file(scene.path(&format!("state/{name}"))).unwrap();
        scene
            .shell(&format!("mkdir -p {{dir}}/state/{name}/x"))
            .exits(0);
        let said = format!("{name} is a directory, not a regular file; it was set aside as ");
        // a restart needs the backup as well
        scene.kill(scene.last("a"));
        let outcome = scene.check().restarted_for("a", "process_missing");
        assert!(outcome.stderr.contains(&said), "{}", outcome.stderr);
        scene.check().exits(0);
        let told = |mail: &&crate::scene::Mail| {
            let words: Vec<&str> = mail.body.split_whitespace().collect();
            words.join(" ").contains(said.trim_end())
        };
        assert_eq!(scene.mails().iter().filter(told).count(), 1, "{name}");
        for name in ["state.json", "state.json.bak"] {
            assert!(scene.path(&format!("state/{name}")).is_file(), "{name}");
        }
        assert_eq!(set_aside(&scene), 1);
    }
}

#[test]
fn f45_a_link_in_place_of_the_state_is_not_followed() {
    let scene = Scene::of(&[&Service::new("a")]);
    scene.check().exits(1);
    scene.check().exits(0);
    let state = scene.read("state/state.json");
    for name in ["state.json", "state.json.bak", "journal.jsonl"] {
        scene.write("precious", &state);
        fs::remove_file(scene.path(&format!("state/{name}"))).unwrap();
        symlink(scene.path("precious"), scene.path(&format!("state/{name}"))).unwrap();
        scene.kill(scene.last("a"));
        scene.check();
        scene.check();
        assert_eq!(scene.read("precious"), state, "{name}");
        let _ = fs::remove_file(scene.path(&format!("state/{name}")));
        scene.check();
        assert_eq!(scene.copies("a"), 1, "{name}: never fatal for the next run");
    }
}

#[test]
fn f46_a_deleted_state_restarts_nothing_for_old_errors() {
    let service = Service::new("a").log("path = \"a.log\"\nforbid = ['ERROR']");
    let scene = Scene::of(&[&service]);
    scene.write("a.log", "fine\n");
    let pid = scene.start("a", &["pid_file=a.pid"]);
    scene.check().exits(0);
    scene.append("a.log", "ERROR of long ago\n");
    fs::remove_dir_all(scene.path("state")).unwrap();
    scene.check().exits(1).verdict("a", "degraded");
    assert!(alive(pid));
    scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(scene.starts("a"), [pid]);
}

#[test]
fn f30_of_ten_runs_at_once_one_acts() {
    let scene = Scene::of(&[&Service::new("a").restart("settle", "\"500ms\"")]);
    let runs: Vec<_> = (0..10)
        .map(|_| scene.begin(scene.command(&["check", "--json"])))
        .collect();
    let mut codes: BTreeMap<i32, usize> = BTreeMap::new();
    for run in runs {
        let outcome = scene.end(run);
        if outcome.code == 75 {
            assert!(!outcome.stderr.is_empty());
        }
        *codes.entry(outcome.code).or_default() += 1;
    }
    assert_eq!(scene.starts("a").len(), 1, "{codes:?}");
    assert_eq!(codes.get(&1), Some(&1), "one restarted it: {codes:?}");
    // one that came late found it running
    assert!(
        codes.keys().all(|code| [0, 1, 75].contains(code)),
        "{codes:?}"
    );
    assert_eq!(scene.copies("a"), 1);
    scene.check().exits(0).verdict("a", "healthy");
}

#[test]
fn f37_the_second_run_says_who_holds_the_lock() {
    let service = Service::new("a")
        .restart("stop_timeout", "\"30s\"")
        .log("path = \"a.log\"\nexpect = ['never there']");
    let scene = Scene::of(&[&service]);
    scene.write("a.log", "quiet\n");
    let stubborn = scene.start("a", &["pid_file=a.pid", "traps=TERM"]);
    let first = scene.begin(scene.command(&["check"]));
    scene.wait_until("the stop", || scene.read("a.signals").contains("TERM"));
    let holder = first.pid().to_string();
    assert_eq!(scene.read("state/lock").trim(), holder);
    for args in [
        &["check"][..],
        &["check", "--json", "-q"],
        &["restart", "a"],
        &["pause", "a"],
        &["resume", "a"],
        &["reset", "a"],
    ] {
        let second = scene.run(args).exits(75);
        assert!(second.stderr.contains(&holder), "{}", second.stderr);
    }
    // looking needs no lock
    scene.run(&["validate"]);
    scene.run(&["history"]).exits(0);
    // killed, it holds it no more
    scene.kill(first.pid());
    scene.end(first);
    scene.kill(stubborn);
    scene.check().exits(1).verdict("a", "restarted");
    assert_eq!(scene.copies("a"), 1);
}

#[test]
fn f37_a_lock_file_left_behind_locks_nobody_out() {
    let scene = Scene::of(&[&Service::new("a")]);
    fs::create_dir(scene.path("state")).unwrap();
    fs::set_permissions(scene.path("state"), fs::Permissions::from_mode(0o700)).unwrap();
    scene.write("state/lock", format!("{}\n", std::process::id()));
    scene.check().exits(1).verdict("a", "restarted");
}

#[test]
fn a_state_directory_that_cannot_be_used_is_73_and_nothing_is_restarted() {
    let scene = Scene::new();
    scene.write("blocker", "a file");
    let services = render(&[&Service::new("a")]);
    for state_dir in ["blocker", "blocker/state", "/proc/nowhere/state"] {
        scene.raw_config(&format!("state_dir = \"{state_dir}\"\n{services}"));
        let outcome = scene.check().exits(73);
        assert!(outcome.stderr.contains(state_dir), "{}", outcome.stderr);
        assert_eq!(scene.starts("a").len(), 0);
    }
    assert_eq!(scene.read("blocker"), "a file");
}

#[test]
fn f44_where_the_state_cannot_be_written_a_mail_goes_out_at_once() {
    let scene = Scene::new();
    scene.write("blocker", "a file");
    scene.raw_config(&format!(
        "state_dir = \"blocker/state\"\n{MAIL}{}",
        render(&[&Service::new("a")])
    ));
    let outcome = scene.check().exits(73);
    assert!(
        outcome.stderr.contains("a is waiting"),
        "{}",
        outcome.stderr
    );
    assert_eq!(scene.mails().len(), 1);
    let told = format!("{:?}", scene.mails()[0]);
    assert!(told.contains("is waiting"), "what is broken: {told}");
    assert_eq!(scene.starts("a").len(), 0);
    // nothing can be remembered, and yet the same is not told every minute
    for _ in 0..3 {
        scene.check().exits(73);
    }
    assert_eq!(scene.mails().len(), 1);
    // but another trouble is
    scene.raw_config(&format!(
        "state_dir = \"blocker/state\"\n{MAIL}{}",
        render(&[&Service::new("a"), &Service::new("b").watched()])
    ));
    scene.check().exits(73);
    assert_eq!(scene.mails().len(), 2);
}

#[test]
fn f44_a_state_that_cannot_be_written_again_is_told_again() {
    let scene = Scene::new();
    for (remind_every, times) in [("1h", 3), ("0s", 6)] {
        scene.config(&format!(
            "{MAIL}remind_every = \"{remind_every}\"\n{}",
            render(&[&Service::new("a")])
        ));
        for time in times - 2..=times {
            scene.check();
            fs::remove_file(scene.path("state/lock")).unwrap();
            fs::create_dir(scene.path("state/lock")).unwrap();
            let before = scene.mails().len();
            for _ in 0..3 {
                scene.check().exits(73);
            }
            let new = &scene.mails()[before..];
            assert_eq!(new.len(), 1, "{time}: {new:?}");
            fs::remove_dir(scene.path("state/lock")).unwrap();
        }
    }
}

#[test]
fn a_limit_of_the_size_of_files_is_told_and_costs_no_state() {
    let scene = Scene::of(&[&Service::new("a")]);
    let limited = || scene.shell("ulimit -f 0; exec {watchdog} check").exits(73);
    let said = limited().stderr;
    assert!(
        said.contains("File too large (os error 27); raise the limit"),
        "{said}"
    );
    assert_eq!(scene.starts("a").len(), 0);
    scene.check().exits(1).verdict("a", "restarted");
    let before = scene.read("state/state.json");
    scene.kill(scene.last("a"));
    assert!(limited().stderr.contains("File too large"));
    assert_eq!(scene.read("state/state.json"), before);
    assert_eq!(scene.starts("a").len(), 1, "nothing is restarted");
    scene.check().exits(1).verdict("a", "restarted");
}

#[test]
fn what_the_watchdog_ignores_itself_its_children_do_not() {
    let scene = Scene::new();
    let noting = |name: &str| {
        format!("[\"/bin/sh\", \"-c\", \"grep SigIgn /proc/self/status >{{dir}}/{name}\"]")
    };
    scene.write(
        "sendmail.sh",
        "#!/bin/sh\ngrep SigIgn /proc/self/status >${0%/*}/sendmail\ncat >/dev/null\n",
    );
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(scene.path("sendmail.sh"), mode).unwrap();
    scene.config(&format!(
        "[mail]\nfrom = \"w@example.org\"\nto = [\"ops@example.org\"]\nsendmail = {{ command = \"{{dir}}/sendmail.sh\" }}\n\
         [notify.x]\ntype = \"exec\"\ncommand = {}\non = [\"degraded\"]\n{}[[service.a.exec]]\ncommand = {}\n\
         [service.b]\nrestart = {{ command = {} }}\n[[service.b.exec]]\ncommand = [\"false\"]\n\
         [service.c]\n[[service.c.exec]]\ncommand = [\"false\"]\nseverity = \"warning\"\n",
        noting("channel"),
        render(&[&Service::new("a")]),
        noting("exec"),
        noting("command"),
    ));
    scene.check();
    let spawned = crate::scene::status(scene.last("a"), "SigIgn");
    let set = |text: &str| u64::from_str_radix(text.trim(), 16).unwrap();
    let file_size = 1_u64 << (libc::SIGXFSZ - 1);
    assert_eq!(set(&spawned) & file_size, 0, "spawned: {spawned}");
    for name in ["sendmail", "channel", "exec", "command"] {
        let noted = scene.read(name);
        let mask = noted.trim().strip_prefix("SigIgn:").unwrap_or("none");
        assert_eq!(set(mask) & file_size, 0, "{name}: {noted}");
    }
}

#[test]
#[ignore = "needs root"]
fn f44_a_full_disk_costs_neither_the_state_nor_the_alert() {
    let scene = Scene::new();
    scene.config(&format!("{MAIL}{}", render(&[&Service::new("a")])));
    let outcome = scene.shell(
        "mkdir -m 700 {dir}/state
         exec unshare -m /bin/sh -c '
             mount -t tmpfs -o size=256k,mode=700 tmpfs {dir}/state || exit 99
             {watchdog} check || [ $? = 1 ] || exit 98
             {watchdog} check || exit 97
             cp {dir}/state/state.json {dir}/before
             kill -9 $(cat {dir}/a.pid)
             cat /dev/zero >{dir}/state/fill 2>/dev/null
             {watchdog} check
             code=$?
             cmp {dir}/before {dir}/state/state.json || exit 96
             [ $(wc -l <{dir}/a.starts) = 1 ] || exit 95
             [ $code = 73 ] || exit $code
             rm {dir}/state/fill
             {watchdog} check || [ $? = 1 ] || exit 94
             exit 73'",
    );
    outcome.exits(73);
    let said = scene.fill(
        "cannot write the state {dir}/state/state.json: No space left on device (os error 28); free some space on its \
         disk; nothing is restarted until that is mended",
    );
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        scene
            .mails()
            .iter()
            .any(|mail| words(&mail.body).contains(&said)),
        "a person is told: {said}"
    );
    assert_eq!(
        scene.starts("a").len(),
        2,
        "brought back once there is room"
    );
    assert_eq!(scene.copies("a"), 1);
}

#[test]
fn what_is_in_the_way_of_the_state_and_the_log_is_named_with_a_remedy() {
    let scene = Scene::of(&[&Service::new("a")]);
    let ends = |args: &[&str], what: &str| {
        let outcome = scene.run(args).exits(73);
        let what = scene.fill(what);
        assert!(outcome.stderr.contains(&what), "{what}\n{}", outcome.stderr);
        assert!(!outcome.stderr.contains("os error"), "{}", outcome.stderr);
    };
    let is_trap = |what: &str| {
        let text = scene.run(&["validate"]).exits(0).stdout;
        assert!(text.contains(&scene.fill(what)), "{what}\n{text}");
    };
    scene.write("state", "not a directory\n");
    let what = "the state directory {dir}/state cannot be made: {dir}/state is a regular file; take that away, or set state_dir \
                to another directory";
    ends(&["check"], what);
    ends(&["pause", "a"], what);
    is_trap("trap: the state cannot be kept in {dir}/state: {dir}/state is a regular file\n");
    fs::remove_file(scene.path("state")).unwrap();
    symlink("gone", scene.path("state")).unwrap();
    let what = "{dir}/state is a symbolic link to gone, which does not exist";
    ends(&["check"], what);
    is_trap(what);
    fs::remove_file(scene.path("state")).unwrap();

    fs::create_dir(scene.path("state")).unwrap();
    fs::set_permissions(scene.path("state"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("/etc/passwd", scene.path("state/lock")).unwrap();
    ends(
        &["check"],
        "cannot take the lock {dir}/state/lock: it is a symbolic link to /etc/passwd, and no link is followed there; take the \
         link away, or set state_dir to another directory",
    );
    fs::remove_dir_all(scene.path("state")).unwrap();

    symlink("other.log", scene.path("own.log")).unwrap();
    scene.config(&format!(
        "[logging]\nfile = \"own.log\"\n{}",
        render(&[&Service::new("a")])
    ));
    let outcome = scene.run(&["pause", "a"]).exits(0);
    let what = "the log file {dir}/own.log cannot be opened: it is a symbolic link to other.log, and no link is followed there; \
                set [logging] file to the path of a file";
    assert!(
        outcome.stderr.contains(&scene.fill(what)),
        "{}",
        outcome.stderr
    );
    assert!(!scene.has("other.log"));
}
