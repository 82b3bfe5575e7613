//! What errors say: each text that a person can meet is produced here by what causes it, word by word.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use chrono::{TimeDelta, Utc};

use crate::scene::{Scene, root};

/// What makes a scene into the one that a text is about.
type Furnish = fn(&Scene);

/// Files that the configs below speak of.
fn furnish(scene: &Scene) {
    let program = |name: &str, text: &str, mode| {
        scene.write(name, text);
        fs::set_permissions(scene.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir(scene.path("folder")).unwrap();
    program("plain", "x\n", 0o644);
    program("nonsense", "no program\n", 0o755);
    program("orphan", "#!/no/such/interpreter\n", 0o755);
    scene.write("form.env", "A=1\nno form\n");
    scene.write("name.env", "1A=1\n");
    scene.write("quote.env", "A='x\n");
    scene.write("double.env", "A=\"x\n");
    scene.write("nul.env", "A=\0\n");
    scene.write("bytes.env", b"A=\xff\n");
    scene.write("huge.env", "#".repeat((1 << 20) + 1));
}

#[test]
fn a_start_that_fails_says_at_what() {
    let program = |command: &str| format!("spawn = {{ command = [{command}] }}");
    let with = |more: &str| format!("spawn = {{ command = [\"sleep\", \"1000\"], {more} }}");
    let quick = "restart = { start_timeout = \"300ms\", settle = \"100ms\" }\n";
    let hint = "; set `stderr` in its spawn table to a file to see what it says";
    let cases: Vec<(String, String)> = [
        (program("\"no-such-program\""), "no such program `no-such-program` in its PATH (/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin); give its whole path"),
        (program("\"./nowhere\""), "no such program {dir}/./nowhere"),
        (program("\"./folder\""), "{dir}/./folder is a folder, not a program"),
        (program("\"./plain\""), "{dir}/./plain cannot be run: Permission denied (os error 13); is it executable (chmod +x) for its user, and its folder not mounted noexec?"),
        (program("\"./nonsense\""), "{dir}/./nonsense is no program that the kernel can run; a script needs a first line such as #!/bin/sh"),
        (program("\"./orphan\""), "{dir}/./orphan cannot be run: No such file or directory (os error 2); if it is a script, its interpreter (the first line) is missing"),
        (with("stdout = \"folder\""), "cannot open its stdout file {dir}/folder: Is a directory (os error 21)"),
        (with("stderr = \"folder\""), "cannot open its stderr file {dir}/folder: Is a directory (os error 21)"),
        (with("group = \"no-such-group\""), "no such group `no-such-group`"),
        (with("user = \"1954322\""), "user 1954322 is not in the user database; set `group` as well"),
        (with("env_file = \"nowhere.env\""), "cannot read env_file {dir}/nowhere.env: No such file or directory (os error 2)"),
        (with("env_file = \"folder\""), "cannot read env_file {dir}/folder: it is a folder, not a regular file"),
        (with("env_file = \"huge.env\""), "cannot read env_file {dir}/huge.env: it is larger than 1 MiB"),
        (with("env_file = \"bytes.env\""), "cannot read env_file {dir}/bytes.env: it is not UTF-8"),
        (with("env_file = \"form.env\""), "env_file {dir}/form.env, line 2: not of the form KEY=VALUE"),
        (with("env_file = \"name.env\""), "env_file {dir}/name.env, line 1: not a variable's name before the `=`"),
        (with("env_file = \"quote.env\""), "env_file {dir}/quote.env, line 1: a single quote is not closed"),
        (with("env_file = \"double.env\""), "env_file {dir}/double.env, line 1: a double quote is not closed"),
        (with("env_file = \"nul.env\""), "env_file {dir}/nul.env, line 1: a value cannot hold a NUL"),
        (format!("working_dir = \"plain\"\n{}", with("nice = 1")), "the working folder {dir}/plain is no folder"),
        (format!("working_dir = \"nowhere\"\n{}", with("nice = 1")), "no working folder {dir}/nowhere: No such file or directory (os error 2)"),
        (format!("process = {{ pid_file = \"nowhere/a.pid\" }}\n{}", with("write_pid_file = true")), "cannot write its PID file {dir}/nowhere/a.pid: No such file or directory (os error 2)"),
    ]
    .map(|(config, said)| (config, said.to_owned()))
    .into_iter()
    .chain([
        (program("\"sh\", \"-c\", \"exit 7\""), format!("exited with status 7{hint}")),
        (program("\"sh\", \"-c\", \"kill -9 $$\""), format!("was ended by signal 9 (SIGKILL){hint}")),
        (
            format!("restart = {{ settle = \"5s\" }}\n{}", program("\"sh\", \"-c\", \"sleep 0.5; exit 7\"")),
            format!("came up, but then exited with status 7{hint}"),
        ),
        (
            format!("process = {{ pid_file = \"a.pid\" }}\n{quick}{}", program("\"sh\", \"-c\", \"exit 0\"")),
            format!("did not come up within 300ms: there is no PID file a.pid (what was started exited with status 0){hint}"),
        ),
    ])
    .collect();
    for (config, said) in cases {
        let scene = Scene::with(&format!("[service.a]\n{config}\n"));
        furnish(&scene);
        let outcome = scene.check().exits(2).verdict("a", "restart_failed");
        let error = outcome.error("a");
        let said = scene.fill(&said);
        // a shell that ends at once may have been seen alive before
        let ended = error.strip_prefix("came up, but then ").unwrap_or(&error);
        assert!(error == said || ended == said, "{config}: {error}");
        // and so in the journal
        let history = scene.run(&["history"]).exits(0).stdout;
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words(&history).contains(&words(&error)), "{history}");
    }
}

#[test]
fn what_was_started_in_vain_is_stopped_and_that_is_said() {
    let scene = Scene::with(
        "[service.a]\nprocess = { pid_file = \"a.pid\" }\nspawn = { command = [\"sleep\", \"1000\"] }\n\
         restart = { start_timeout = \"300ms\" }\n",
    );
    let error = scene.check().exits(2).error("a");
    let pid: String = error
        .split("(PID ")
        .nth(1)
        .unwrap()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    assert_eq!(
        error,
        format!(
            "did not come up within 300ms: there is no PID file a.pid; what was started (PID {pid}) was \
             stopped again; set `stderr` in its spawn table to a file to see what it says"
        )
    );
}

#[test]
fn a_restart_command_that_fails_says_how() {
    for (command, said) in [
        ("[\"sh\", \"-c\", \"exit 7\"]", "sh exited with status 7"),
        (
            "[\"no-such-program\"]",
            "cannot run no-such-program: No such file or directory (os error 2); its working folder is {dir}",
        ),
        (
            "[\"sleep\", \"1000\"]",
            "sleep did not end within 300ms, and was killed",
        ),
    ] {
        let scene = Scene::with(&format!(
            "[service.a]\nprocess = {{ pid_file = \"a.pid\" }}\n\
             restart = {{ start_timeout = \"300ms\", command = {command} }}\n"
        ));
        let outcome = scene.check().exits(2).verdict("a", "restart_failed");
        assert_eq!(outcome.error("a"), scene.fill(said));
    }
}

/// The message of the first finding with this code.
fn message(scene: &Scene, code: &str) -> String {
    let outcome = scene.check().finds("a", code);
    outcome.service("a")["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|finding| finding["code"] == code)
        .unwrap()["message"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_pid_file_that_names_nothing_says_why() {
    let config = "[service.a]\nprocess = { pid_file = \"a.pid\" }\n";
    for (text, said) in [
        ("", "is empty"),
        ("abc\n", "holds `abc`, which is not a PID"),
        ("-5\n", "holds `-5`, which is not a PID"),
        ("1\n", "holds `1`, which no service can have as its PID"),
        ("0", "holds `0`, which no service can have as its PID"),
        (
            "99999999999\n",
            "holds `99999999999`, which no service can have as its PID",
        ),
        ("\u{1b}[2J\n", "holds `\\x1b[2J`, which is not a PID"),
        ("4194305\n", "names PID 4194305, which does not run"),
    ] {
        let scene = Scene::with(config);
        scene.write("a.pid", text);
        assert_eq!(
            message(&scene, "process_missing"),
            format!("PID file a.pid {said}")
        );
    }
    let scene = Scene::with(config);
    assert_eq!(
        message(&scene, "process_missing"),
        "there is no PID file a.pid"
    );
    scene.write("a.pid", "7".repeat(5000));
    assert_eq!(
        message(&scene, "process_missing"),
        "PID file a.pid is longer than 4 KiB"
    );
    fs::remove_file(scene.path("a.pid")).unwrap();
    fs::create_dir(scene.path("a.pid")).unwrap();
    assert_eq!(
        message(&scene, "process_missing"),
        "PID file a.pid is not a regular file"
    );
    fs::remove_dir(scene.path("a.pid")).unwrap();
    symlink("a.pid", scene.path("a.pid")).unwrap();
    assert_eq!(
        message(&scene, "process_missing"),
        "PID file a.pid is a circle of symbolic links"
    );
    fs::remove_file(scene.path("a.pid")).unwrap();
    // a thread of this very test, whose number is no process's
    let me = i32::try_from(std::process::id()).unwrap();
    let thread = fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok())
        .find(|&id| id != me)
        .unwrap();
    scene.write("a.pid", thread.to_string());
    assert_eq!(
        message(&scene, "process_missing"),
        format!("PID file a.pid names {thread}, a thread of PID {me}, not a process")
    );
}

#[test]
fn a_process_that_is_not_the_services_says_why() {
    let scene = Scene::with(
        "[service.a]\nprocess = { pid_file = \"a.pid\", command_line = 'no-such-words' }\n",
    );
    let pid = scene.start("x", &["pid_file=a.pid"]);
    scene.wait_until("its PID file", || scene.has("a.pid"));
    let said = message(&scene, "process_missing");
    let expected = format!(
        "PID file a.pid names PID {pid}, which is another program: `/bin/sh {{dir}}/prog.sh x pid_file=a.pid`, \
         and no process matches `no-such-words`"
    );
    assert_eq!(said, scene.fill(&expected));
    scene.config("[service.a]\nprocess = { pid_file = \"a.pid\", user = \"daemon\" }\n");
    let said = message(&scene, "process_missing");
    let start = format!("PID file a.pid names PID {pid}, a process of user ");
    assert!(
        said.starts_with(&start) && said.ends_with(", not daemon"),
        "{said}"
    );
    scene.config("[service.a]\nprocess = { pid_file = \"a.pid\" }\n");
    scene.freeze(pid);
    assert_eq!(
        message(&scene, "process_stopped"),
        format!("PID {pid} is stopped by a signal (state T)")
    );
    scene.write("b.pid", "");
    scene.config(
        "[service.a]\nprocess = { pid_file = \"b.pid\", command_line = '{dir}/prog\\.sh x' }\n",
    );
    assert_eq!(
        message(&scene, "pid_file_stale"),
        format!("PID file b.pid is empty, but PID {pid} runs and matches the command line")
    );
}

#[test]
fn a_log_that_cannot_be_read_says_why() {
    let cases: [(&str, &str, &str, Furnish); 7] = [
        ("a.log", "log_missing", "a.log: no such file", |_| {}),
        (
            "logs/a.log",
            "log_missing",
            "logs/a.log: no such file, and its folder {dir}/logs does not exist",
            |_| {},
        ),
        (
            "a.log",
            "log_missing",
            "a.log: it is a symbolic link to nowhere, which does not exist",
            |scene| symlink("nowhere", scene.path("a.log")).unwrap(),
        ),
        (
            "a.log",
            "log_unreadable",
            "a.log: the symbolic links in its path lead in a circle",
            |scene| symlink("a.log", scene.path("a.log")).unwrap(),
        ),
        (
            "a.log",
            "log_unreadable",
            "a.log: it is a folder, not a regular file",
            |scene| fs::create_dir(scene.path("a.log")).unwrap(),
        ),
        (
            "prog.sh/a.log",
            "log_unreadable",
            "prog.sh/a.log: a part of its path is not a folder",
            |_| {},
        ),
        (
            "/dev/null",
            "log_unreadable",
            "/dev/null: it is a device, not a regular file",
            |_| {},
        ),
    ];
    for (path, code, said, furnish) in cases {
        let scene = Scene::with(&format!(
            "[service.a]\n[[service.a.log]]\npath = \"{path}\"\n"
        ));
        furnish(&scene);
        assert_eq!(message(&scene, code), scene.fill(said));
    }
}

#[test]
fn what_is_wrong_in_a_log_is_said_with_its_figures() {
    let log = |keys: &str| format!("[service.a]\n[[service.a.log]]\npath = \"a.log\"\n{keys}\n");
    let scene = Scene::with(&log("expect = [{ pattern = 'tick', at_least = 2 }]"));
    for (text, said) in [
        (
            "",
            "a.log: it has no complete line (2 matching `tick` needed)",
        ),
        ("tick\n", "a.log: 1 of 1 line matches `tick` (2 needed)"),
        (
            "tick\ntack\n",
            "a.log: 1 of the last 2 lines match `tick` (2 needed)",
        ),
    ] {
        scene.write("a.log", text);
        assert_eq!(message(&scene, "log_quiet"), said);
    }
    scene.config(&log("max_age = \"5m\""));
    scene.set_mtime("a.log", (Utc::now() + TimeDelta::hours(2)).into());
    let said = message(&scene, "log_in_future");
    assert!(
        said.starts_with("a.log: modified 1h 59m ahead of the clock, at "),
        "{said}"
    );
    scene.config(&log(
        "max_age = \"5m\"\nlines = 2\ntimestamp = \"%Y-%m-%d %H:%M:%S\"",
    ));
    assert_eq!(
        message(&scene, "log_stale"),
        "a.log: none of the last 2 lines has a stamp as `%Y-%m-%d %H:%M:%S` reads it, so that its age cannot be told (limit 5m)"
    );
}

#[test]
fn a_state_that_cannot_be_used_says_why_and_what_to_do() {
    let cases: [(&str, Furnish); 3] = [
        (
            "the state folder {dir}/state can be written by everybody (mode 777); chmod 700 it, or set state_dir to another folder",
            |scene| {
                fs::create_dir(scene.path("state")).unwrap();
                let mode = fs::Permissions::from_mode(0o777);
                fs::set_permissions(scene.path("state"), mode).unwrap();
            },
        ),
        (
            "cannot create the state folder {dir}/state: File exists (os error 17)",
            |scene| scene.write("state", ""),
        ),
        (
            "cannot take the lock {dir}/state/lock: Is a directory (os error 21)",
            |scene| fs::create_dir_all(scene.path("state/lock")).unwrap(),
        ),
    ];
    for (said, furnish) in cases {
        let scene = Scene::with("[service.a]\n[[service.a.log]]\npath = \"prog.sh\"\n");
        furnish(&scene);
        for args in [&["check"][..], &["pause", "a"], &["reset", "a"]] {
            let outcome = scene.run(args).exits(73);
            let said = format!("watchdog: {}\n", scene.fill(said));
            assert!(
                outcome.stderr.contains(&said),
                "{args:?}: {}",
                outcome.stderr
            );
        }
    }
}

#[test]
fn a_damaged_state_says_what_became_of_it() {
    for (text, why) in [
        ("", "is empty"),
        (
            "{",
            "is damaged (EOF while parsing an object at line 1 column 1)",
        ),
        (
            "{\"version\":99}",
            "was written by a newer watchdog (version 99)",
        ),
        ("{\"version\":0}", "has an unknown version (0)"),
    ] {
        let scene = Scene::with("[service.a]\n[[service.a.log]]\npath = \"prog.sh\"\n");
        scene.check().exits(0);
        scene.check().exits(0);
        scene.write("state/state.json", text);
        let outcome = scene.check();
        let said = scene.fill(&format!(
            "{{dir}}/state/state.json {why}; it was set aside as {{dir}}/state/state.json.corrupt-"
        ));
        assert!(outcome.stderr.contains(&said), "{said}\n{}", outcome.stderr);
        let said = scene.fill("the backup {dir}/state/state.json.bak was used in its place");
        assert!(outcome.stderr.contains(&said), "{}", outcome.stderr);
    }
    let scene = Scene::with("[service.a]\n[[service.a.log]]\npath = \"prog.sh\"\n");
    scene.check().exits(0);
    fs::rename(scene.path("state/state.json"), scene.path("state/other")).unwrap();
    symlink("other", scene.path("state/state.json")).unwrap();
    let outcome = scene.check();
    assert!(
        outcome
            .stderr
            .contains("/state/state.json is a symbolic link, not a regular file; it was set aside"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn commands_say_what_they_did_and_why_not() {
    let scene = Scene::with(
        "[service.a]\n[[service.a.log]]\npath = \"nowhere.log\"\n\
         [service.b]\nprocess = { pid_file = \"b.pid\" }\nrestart = { max_per_hour = 1, command = [\"false\"] }\n\
         [service.c]\nprocess = { command_line = '^none$', user = \"no-such-user\" }\nrestart = { command = [\"true\"] }\n",
    );
    let said = |args: &[&str], code: i32, said: &str| {
        let outcome = scene.run(args).exits(code);
        let said = scene.fill(said);
        let words = outcome
            .text()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(
            outcome.text().contains(&said) || words.contains(&said),
            "{args:?}: {said}\n{}",
            outcome.text()
        );
    };
    said(
        &["status"],
        3,
        "no run has been recorded yet; `watchdog check` makes one\n",
    );
    said(
        &["history"],
        0,
        "nothing has happened yet: the journal is empty\n",
    );
    said(
        &["why", "a"],
        0,
        "no run has looked at a yet; `watchdog check a` does\n",
    );
    said(&["resume", "a"], 0, "a: was not paused\n");
    said(
        &["restart", "a"],
        1,
        "a is not restarted: its config has no way to restart it (spawn, systemd or restart.command)",
    );
    said(
        &["restart", "c"],
        1,
        "c is not restarted: its process could not be seen, and a second copy might be started: no such user `no-such-user`",
    );
    said(&["check", "a"], 2, "    it has no way to be restarted\n");
    said(&["status"], 2, "`b` has not been looked at yet\n");
    said(&["restart", "b"], 1, "restart by command failed after");
    said(
        &["restart", "b"],
        1,
        "b is not restarted: it has had 1 of 1 restarts in the last hour, and the next is free at ",
    );
    said(&["restart", "b"], 1, "; --force does it all the same");
    said(
        &["pause", "a", "--for", "2h", "--reason", "disk swap"],
        0,
        ": disk swap; `watchdog resume a` ends it before",
    );
    said(&["status", "a"], 2, ": disk swap\n");
    said(&["why", "a"], 0, "    since then paused until ");
    said(&["check", "a"], 0, ": disk swap");
    said(&["why", "a"], 0, "a person wants it left alone");
    said(&["resume", "a"], 0, "a: resumed\n");
    said(&["reset", "b"], 0, "b: forgot 1 restart attempt and ");
    said(
        &["history", "--since", "0s"],
        0,
        "nothing happened in 0ms\n",
    );
    said(
        &["check", "chekc"],
        64,
        "watchdog: no service `chekc` in {dir}/watchdog.toml",
    );
    scene.edit_state(|state| {
        state["last_run"] = (Utc::now() - TimeDelta::hours(2)).to_rfc3339().into();
    });
    said(
        &["status", "--max-age", "10m"],
        3,
        "that is older than 10m: is the cron entry or the timer still there?\n",
    );
}

#[test]
fn why_a_restart_has_to_wait_is_said() {
    let scene = Scene::with(
        "[service.a]\nprocess = { pid_file = \"a.pid\" }\nrestart = { cooldown = \"20m\", command = [\"false\"] }\n\
         [service.b]\ndepends_on = [\"a\"]\nprocess = { pid_file = \"b.pid\" }\nrestart = { command = [\"true\"] }\n\
         [service.n]\nprocess = { pid_file = \"n.pid\" }\nrestart = { max_per_hour = 0, command = [\"true\"] }\n\
         [service.f]\nprocess = { pid_file = \"f.pid\" }\nrestart = { after_failures = 3, command = [\"true\"] }\n",
    );
    let first = scene.run(&["check"]).exits(2).stdout;
    for said in [
        "    waits for `a`, which did not come up\n",
        "    max_per_hour = 0: it is never restarted\n",
        "    1 of 3 failing runs before a restart\n",
    ] {
        assert!(first.contains(said), "{said}\n{first}");
    }
    let second = scene.run(&["check"]).exits(2).stdout;
    assert!(
        second.contains("    cooldown: the last restart was "),
        "{second}"
    );
    assert!(
        second.contains(" ago, the next can be made in 19m "),
        "{second}"
    );
    // a dry run says what it would do
    scene.run(&["reset", "a"]).exits(0);
    let dry = scene.run(&["check", "--dry-run", "a"]);
    assert!(
        dry.stdout.contains("    would be restarted now\n"),
        "{}",
        dry.stdout
    );
}

#[test]
fn a_log_file_that_cannot_be_opened_is_said_and_no_hindrance() {
    let scene = Scene::with(
        "[logging]\nfile = \"nowhere/watchdog.log\"\n[service.a]\n[[service.a.log]]\npath = \"prog.sh\"\n",
    );
    let outcome = scene.run(&["check"]).exits(0);
    let said = scene.fill(
        "the log file {dir}/nowhere/watchdog.log cannot be opened: No such file or directory",
    );
    assert!(outcome.stderr.contains(&said), "{}", outcome.stderr);
}

#[test]
fn who_is_not_root_is_told_what_only_root_can_do() {
    if root() {
        return;
    }
    let scene =
        Scene::with("[service.a]\nspawn = { command = [\"sleep\", \"1\"], user = \"root\" }\n");
    let error = scene.check().exits(2).error("a");
    assert!(
        error.starts_with(
            "only root can start a program as another user or group; this watchdog runs as UID "
        ),
        "{error}"
    );
}

#[test]
fn a_process_that_ended_or_was_lost_says_how() {
    let config = "[service.a]\nprocess = { pid_file = \"a.pid\" }\n";
    let scene = Scene::with(config);
    // the PID of the watchdog itself
    let outcome = scene
        .shell("echo $$ >{dir}/a.pid; exec {watchdog} check")
        .exits(2);
    assert!(
        outcome
            .stdout
            .contains("critical: PID file a.pid names the watchdog itself (process_missing)\n"),
        "{}",
        outcome.stdout
    );
    // one that has ended, and that nobody collects
    let mut child = scene.start_unreaped("x", &["pid_file=a.pid"], 0);
    let pid = i32::try_from(child.id()).unwrap();
    scene.wait_until("its PID file", || {
        scene.read("a.pid").trim() == pid.to_string()
    });
    scene.check().exits(0);
    child.kill().unwrap();
    scene.wait_until("its end", || !crate::scene::alive(pid));
    assert_eq!(
        message(&scene, "process_zombie"),
        format!("PID {pid} has ended and is a zombie: its parent has not collected it")
    );
    let refused = scene.run(&["adopt", &pid.to_string()]).exits(1);
    let said = format!("watchdog: PID {pid} has ended, or has no command line\n");
    assert_eq!(refused.stderr, said);
    let other = scene.start("y", &[]);
    scene.config(
        "[service.a]\nprocess = { pid_file = \"a.pid\", command_line = '{dir}/prog\\.sh y' }\n",
    );
    assert_eq!(
        message(&scene, "pid_file_stale"),
        format!(
            "PID file a.pid names PID {pid}, a zombie, but PID {other} runs and matches the command line"
        )
    );
    child.wait().unwrap();

    // a PID file that was lost
    let scene = Scene::with(config);
    let pid = scene.start("x", &["pid_file=a.pid"]);
    scene.wait_until("its PID file", || scene.has("a.pid"));
    scene.check().exits(0);
    fs::remove_file(scene.path("a.pid")).unwrap();
    assert_eq!(
        message(&scene, "pid_file_stale"),
        format!("there is no PID file a.pid, but PID {pid}, which it named before, still runs")
    );

    // one that is known by what the watchdog started
    let scene = Scene::with(
        "[service.a]\nspawn = { command = [\"sleep\", \"1000\"] }\nrestart = { settle = \"0s\" }\n",
    );
    let outcome = scene.check().exits(1);
    let first = outcome.service("a")["findings"][0]["message"].clone();
    assert_eq!(
        first,
        "it has not been started yet, or not since the last boot"
    );
    let pid = outcome.service("a")["pid"].as_i64().unwrap();
    scene.kill_and_reap(i32::try_from(pid).unwrap());
    assert_eq!(
        message(&scene, "process_missing"),
        format!("PID {pid}, which ran at the last check, has ended")
    );
    let again = scene.check().service("a")["pid"].as_i64().unwrap();
    scene.kill(i32::try_from(again).unwrap());
}

#[test]
fn what_is_new_in_a_log_is_said_with_its_first_line() {
    let scene =
        Scene::with("[service.a]\n[[service.a.log]]\npath = \"a.log\"\nforbid = ['ERROR']\n");
    for (more, said) in [
        (
            "ERROR one\nfine\nERROR two\n",
            "a.log: 2 of the last lines, perhaps of an earlier process, match `ERROR` (limit 0), the first: ERROR one",
        ),
        (
            "ERROR three\n",
            "a.log: 1 new line matches `ERROR` (limit 0), the first: ERROR three",
        ),
        (
            "ERROR four\nERROR \u{1b}[2J\n",
            "a.log: 2 new lines match `ERROR` (limit 0), the first: ERROR four",
        ),
    ] {
        scene.append("a.log", more);
        assert_eq!(message(&scene, "log_error"), said);
    }
    scene.write("a.log", "new\n");
    let notes = scene.check().exits(0).service("a")["notes"].clone();
    assert_eq!(
        notes[0],
        "a.log: it was truncated and no copy was found: what was written between the last run and then was not seen"
    );
}

#[test]
fn stamps_are_said_with_their_ages() {
    let scene = Scene::with(
        "[service.a]\n[[service.a.log]]\npath = \"a.log\"\nmax_age = \"5m\"\n\
         timestamp = \"%Y-%m-%d %H:%M:%S\"\ntimestamp_zone = \"utc\"\n",
    );
    let stamped = |ahead: TimeDelta| {
        let stamp = (Utc::now() + ahead).format("%Y-%m-%d %H:%M:%S");
        scene.write("a.log", format!("{stamp} tick\n"));
    };
    stamped(TimeDelta::hours(-2));
    let said = message(&scene, "log_stale");
    assert_eq!(said, "a.log: the newest stamped line is 2h old (limit 5m)");
    stamped(TimeDelta::hours(2));
    let said = message(&scene, "log_in_future");
    let start = "a.log: its newest line is stamped 1h 59m ahead of the clock, at ";
    assert!(said.starts_with(start), "{said}");
}

#[test]
fn a_run_that_cannot_begin_says_why() {
    let config = "[service.a]\n[[service.a.log]]\npath = \"prog.sh\"\n";
    let scene = Scene::with(config);
    scene.check().exits(0);
    let outcome = scene
        .shell("exec flock {dir}/state/lock {watchdog} check")
        .exits(75);
    assert!(
        outcome.stderr.starts_with("watchdog: another run"),
        "{}",
        outcome.stderr
    );
    let said = scene.fill(" holds the lock {dir}/state/lock; this one did nothing\n");
    assert!(outcome.stderr.ends_with(&said), "{}", outcome.stderr);

    fs::remove_file(scene.path("state/journal.jsonl")).ok();
    fs::create_dir(scene.path("state/journal.jsonl")).unwrap();
    for args in [&["history"][..], &["why", "a"]] {
        let outcome = scene.run(args).exits(73);
        let said = scene.fill(
            "watchdog: cannot read the journal in {dir}/state: it is a folder, not a regular file",
        );
        assert!(outcome.stderr.starts_with(&said), "{}", outcome.stderr);
    }

    let scene = Scene::new();
    scene.raw_config(&format!("state_dir = \"prog.sh/a/state\"\n{config}"));
    let outcome = scene.run(&["check"]).exits(73);
    let said =
        scene.fill("watchdog: cannot create the folder above the state folder {dir}/prog.sh/a");
    assert!(outcome.stderr.contains(&said), "{}", outcome.stderr);

    let scene = Scene::with("[service.a]\nx = 1\ny = 2\n");
    let outcome = scene.run(&["validate"]).exits(78);
    let said = scene.fill(" errors in {dir}/watchdog.toml\n");
    assert!(outcome.stderr.ends_with(&said), "{}", outcome.stderr);
}

#[test]
fn a_run_that_was_cut_short_is_told_by_the_next() {
    let service = "[service.a]\nprocess = { pid_file = \"a.pid\" }\n\
         spawn = { command = [\"sleep\", \"3\"] }\nrestart = { start_timeout = \"30s\" }\n";
    let scene = Scene::with(&format!("run_timeout = \"1s\"\n{service}"));
    let first = scene.run(&["check"]).exits(3).stdout;
    assert!(
        first.contains("    its restart had not ended when the run had to (run_timeout)\n"),
        "{first}"
    );
    // with all the time that it needs on a busy machine
    scene.config(&service.replace("30s", "300ms"));
    scene.run(&["check", "--no-mail"]);
    let history = scene.run(&["history"]).exits(0).stdout;
    let words = history.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in [
        "restarting a: attempt 1 of 3 in this hour",
        "interrupted a: the run of ",
        " was cut short while it restarted `a`; the attempt counts",
    ] {
        assert!(words.contains(said), "{said}\n{history}");
    }
    scene.wait_until("its end", || {
        !crate::scene::processes()
            .iter()
            .any(|process| process.lives() && process.command_line() == "sleep 3")
    });
}

#[test]
fn what_holds_a_restart_back_is_said() {
    // both states are damaged: what was done in the last hour is not known
    let config =
        "[service.a]\nprocess = { pid_file = \"a.pid\" }\nrestart = { command = [\"true\"] }\n";
    let scene = Scene::with(config);
    scene.run(&["pause", "a"]).exits(0);
    scene.run(&["resume", "a"]).exits(0);
    scene.write("state/state.json", "{");
    scene.write("state/state.json.bak", "{");
    let outcome = scene.run(&["check"]).exits(2);
    let words = outcome
        .stdout
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(
        words.contains(
            "the state was damaged, so earlier restarts are not known; it can be restarted by the next run"
        ),
        "{}",
        outcome.stdout
    );
    // one that came up, and not for long
    let scene = Scene::with(
        "[service.a]\nprocess = { pid_file = \"a.pid\" }\n\
         spawn = { command = [\"sh\", \"-c\", \"echo $$ >a.pid; sleep 0.5; rm a.pid; exec sleep 1000\"] }\n\
         restart = { settle = \"5s\" }\n",
    );
    let error = scene.check().exits(2).error("a");
    let start = "came up, but not for 5s: there is no PID file a.pid; what was started (PID ";
    assert!(error.starts_with(start), "{error}");
    // one that is young
    let scene = Scene::with(
        "[service.a]\nstart_grace = \"10m\"\nprocess = { pid_file = \"a.pid\" }\n\
         [[service.a.log]]\npath = \"nowhere.log\"\n",
    );
    scene.start("x", &["pid_file=a.pid"]);
    scene.wait_until("its PID file", || scene.has("a.pid"));
    let outcome = scene.run(&["check"]).exits(0);
    assert!(
        outcome
            .stdout
            .contains("    its logs are not judged before its process is 10m old\n"),
        "{}",
        outcome.stdout
    );
}

#[test]
fn each_step_is_told_to_those_who_ask() {
    let scene = Scene::with(
        "[service.a]\nspawn = { command = [\"sleep\", \"1000\"] }\nrestart = { settle = \"0s\" }\n",
    );
    let pid = scene.check().exits(1).service("a")["pid"].clone();
    let steps = scene.run(&["-v", "restart", "a"]).exits(0).stderr;
    let said = [
        format!("a: stopping PID {pid}"),
        "a: starting by spawn".to_owned(),
        "a: it is up".to_owned(),
    ];
    let found: Vec<&String> = said.iter().filter(|step| steps.contains(*step)).collect();
    assert_eq!(found.len(), said.len(), "{steps}");
    let new = scene.check().exits(0).service("a")["pid"].as_i64().unwrap();
    scene.kill(i32::try_from(new).unwrap());
}

#[test]
fn a_user_that_there_is_not_is_said_before_anything_is_started() {
    let scene = Scene::with(
        "[service.a]\nspawn = { command = [\"sleep\", \"1000\"], user = \"no-such-user\" }\n",
    );
    scene.check().exits(3).verdict("a", "unknown");
    assert_eq!(
        message(&scene, "process_unreadable"),
        "no such user `no-such-user`"
    );
}
