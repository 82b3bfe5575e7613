//! Sentences that a person can meet, produced by what causes them: mail that fails, configs full of faults, logs,
//! and the account of `why` in every state. [`crate::texts`] has those of starts, processes and states.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::scene::servers::{Do, ENVELOPE, Server};
use crate::scene::{Scene, Service, root};

/// Words with single spaces between, as they would stand in one line.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A scene whose mail goes through a program that ends like this.
fn mailer(script: &str) -> Scene {
    let scene = Scene::with(
        "[mail]\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]\nsendmail = { command = \"{dir}/mailer\" }\n\
         [service.a]\nprocess = { pid_file = \"a.pid\" }\n",
    );
    scene.write("mailer", format!("#!/bin/sh\ncat >/dev/null\n{script}\n"));
    fs::set_permissions(scene.path("mailer"), fs::Permissions::from_mode(0o755)).unwrap();
    scene
}

#[test]
fn how_a_mailer_failed_is_said() {
    for (script, said) in [
        ("exit 0", "/mailer took the message o@example.org: sent"),
        ("exit 64", "exited with 64 (wrong usage)"),
        ("exit 65", "exited with 65 (it does not like the message)"),
        ("exit 67", "exited with 67 (no such recipient)"),
        ("exit 68", "exited with 68 (no such host)"),
        ("exit 69", "exited with 69 (a service is not available)"),
        ("exit 73", "exited with 73 (it cannot write its queue)"),
        ("exit 75", "exited with 75 (for now)"),
        ("exit 77", "exited with 77 (no permission)"),
        ("exit 78", "exited with 78 (its config is wrong)"),
        ("exit 9", "exited with 9"),
        ("kill -9 $$", "was ended by signal 9 (SIGKILL)"),
    ] {
        let scene = mailer(script);
        let outcome = scene.run(&["test-mail"]);
        assert!(
            outcome.words().contains(said),
            "{script}: {}",
            outcome.text()
        );
        let well = script == "exit 0";
        assert_eq!(outcome.code, i32::from(!well), "{script}");
        let end = if well {
            "All of it was taken. Look whether it arrives, and not among the junk.\n"
        } else {
            "Not everybody has it. An alert would be kept and tried again; a test is not.\n"
        };
        assert!(
            outcome.stdout.ends_with(end),
            "{script}: {}",
            outcome.stdout
        );
    }
}

#[test]
fn a_message_that_is_given_up_is_named() {
    let scene = mailer("exit 75");
    scene.run(&["check"]).exits(2);
    let outbox = scene.path("state/outbox");
    let file = fs::read_dir(&outbox)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut kept: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let since = chrono::Utc::now() - chrono::TimeDelta::days(4);
    kept["since"] = since.to_rfc3339().into();
    fs::write(&file, kept.to_string()).unwrap();
    scene.run(&["check"]).exits(2);
    let subject = kept["message"]["subject"].as_str().unwrap();
    let said = format!(
        "it could not be delivered for three days; never told to o@example.org: {subject} (written {}Z)",
        since.format("%Y-%m-%dT%H:%M:%S")
    );
    let history = scene.run(&["history", "a"]).exits(0).stdout;
    assert!(flat(&history).contains(&said), "{said}\n{history}");
}

#[test]
fn a_file_that_is_no_config_at_all_is_cut_short() {
    let faults: Vec<String> = (0..150).map(|n| format!("nonsense_{n} = 1")).collect();
    let scene = Scene::with(&faults.join("\n"));
    let outcome = scene.run(&["validate"]).exits(78);
    let end = scene.fill("\n\n100 errors or more in {dir}/watchdog.toml\n");
    assert!(outcome.stderr.ends_with(&end), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.matches("error: ").count(), 100);
}

#[test]
fn times_that_are_none_say_how_they_are_written() {
    let help = "write it like \"90s\", \"5m\" or \"1h 30m\" (units: ms, s, m, h, d)";
    let scene = Scene::of(&[&Service::logs("a").log("path = \"prog.sh\"")]);
    for (time, said) in [
        (
            "5 weeks",
            format!("unknown unit `weeks` in a duration; {help}"),
        ),
        ("5", format!("`5` is not a duration; {help}")),
        (
            "1.5h",
            format!("`1.5h` is not a duration of whole numbers; {help}"),
        ),
        (
            "40000d",
            format!("`40000d` is longer than a hundred years; {help}"),
        ),
    ] {
        let outcome = scene.run(&["history", "--since", time]).exits(64);
        assert!(outcome.stderr.contains(&said), "{said}\n{}", outcome.stderr);
        let other = Scene::with(&format!(
            "check_timeout = \"{time}\"\n[service.a]\nspawn = {{ command = [\"true\"] }}\n"
        ));
        let outcome = other.run(&["validate"]).exits(78);
        assert!(
            outcome.stderr.contains(said.split(';').next().unwrap()),
            "{said}\n{}",
            outcome.stderr
        );
    }
}

#[test]
fn lines_that_are_too_long_are_said_to_be_cut() {
    let scene =
        Scene::with("[service.a]\n[[service.a.log]]\npath = \"a.log\"\nforbid = ['ERROR']\n");
    let long = "x".repeat(70_000);
    scene.write("a.log", format!("{long}\n"));
    let notes = |scene: &Scene| scene.check().exits(0).service("a")["notes"][0].clone();
    assert_eq!(
        notes(&scene),
        "a.log: a line longer than 64 KiB was truncated for the search"
    );
    scene.append("a.log", format!("{long}\n{long}\n"));
    assert_eq!(
        notes(&scene),
        "a.log: 2 lines longer than 64 KiB were truncated for the search"
    );
}

#[test]
fn what_a_restart_came_to_is_in_the_log() {
    let scene = Scene::with(
        "[service.a]\nspawn = { command = [\"sh\", \"-c\", \"echo no disk >&2; exit 3\"], stderr = \"a.err\" }\n",
    );
    let said = scene.run(&["-v", "check"]).exits(2).stderr;
    for line in [
        "[ERROR] a: restart failed: ",
        "exited with status 3\n",
        "[INFO] a: it said: no disk\n",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
}

#[test]
fn a_log_that_its_user_may_not_read_says_so() {
    let said =
        "permission denied; let the watchdog's user read it and enter its folders (log_unreadable)";
    let scene = Scene::with("[service.a]\n[[service.a.log]]\npath = \"secret.log\"\n");
    scene.write("secret.log", "x\n");
    fs::set_permissions(scene.path("secret.log"), fs::Permissions::from_mode(0o000)).unwrap();
    let outcome = if root() {
        // root may read all, so as somebody else, whose config it is
        let watchdog = scene.public_watchdog();
        let folder = scene.lend("theirs", "nobody");
        let config = folder.join("watchdog.toml");
        let text = scene.read("watchdog.toml").replace("secret", "../secret");
        fs::write(&config, text).unwrap();
        std::os::unix::fs::chown(&config, Some(65534), Some(65534)).unwrap();
        scene.shell(&format!(
            "exec setpriv --reuid=65534 --regid=65534 --clear-groups {} -c {} check",
            watchdog.display(),
            config.display()
        ))
    } else {
        scene.run(&["check"])
    };
    assert!(
        flat(&outcome.stdout).contains(&format!("secret.log: {said}")),
        "{outcome:?}"
    );
    assert_eq!(outcome.code, 3);
}

#[test]
fn why_accounts_for_every_verdict() {
    let service = |name: &str, restart: &str| {
        format!(
            "[service.{name}]\nprocess = {{ pid_file = \"{name}.pid\" }}\nspawn = {{ command = [\"false\"] }}\n\
             restart = {{ {restart} }}\n"
        )
    };
    let config = [
        service("spent", "max_per_hour = 1"),
        service("gone", "max_per_hour = 1, on_exhausted = \"give_up\""),
        service("cooling", "cooldown = \"20m\""),
        service("failing", "after_failures = 3"),
        service("never", "max_per_hour = 0"),
        service("quiet", "max_per_hour = 9"),
        "[service.up]\nspawn = { command = [\"sleep\", \"1000\"] }\nrestart = { settle = \"0s\" }\n".to_owned(),
        "[service.down]\nprocess = { pid_file = \"down.pid\" }\n".to_owned(),
        "[service.young]\nstart_grace = \"10m\"\nprocess = { pid_file = \"x.pid\" }\n[[service.young.log]]\npath = \"no.log\"\n".to_owned(),
        "[service.unseen]\nprocess = { pid_file = \"down.pid\", user = \"no-such-user\" }\n".to_owned(),
        "[service.warned]\n[[service.warned.log]]\npath = \"w.log\"\nforbid = ['ERROR', 'FATAL']\nseverity = \"warning\"\n".to_owned(),
        "[service.well]\n[[service.well.log]]\npath = \"prog.sh\"\n[[service.well.log]]\npath = \"s.log\"\nmax_age = \"5m\"\ntimestamp = \"%Y-%m-%dT%H:%M:%SZ\"\n".to_owned(),
    ];
    let scene = Scene::with(&config.concat());
    scene.write("w.log", "");
    scene.write(
        "s.log",
        format!("{}\n", chrono::Utc::now().format("%Y-%m-%dT%H:%M:%SZ tick")),
    );
    scene.start("x", &["pid_file=x.pid"]);
    scene.wait_until("its PID file", || scene.has("x.pid"));
    scene.run(&["pause", "quiet"]).exits(0);
    let first = scene.check().exits(2);
    let why = |name: &str, said: &[&str]| {
        let text = flat(&scene.run(&["why", name]).exits(0).stdout);
        for said in said {
            assert!(text.contains(said), "{name}: {said}\n{text}");
        }
    };
    why(
        "up",
        &[
            "process, known as the one that the watchdog started, PID ",
            "it was broken, and was restarted",
        ],
    );
    why("spent", &["it was broken, and its restart failed"]);
    let up = first.service("up")["pid"].as_i64().unwrap();
    scene.append("w.log", "ERROR\n");
    scene.check().exits(2);
    why(
        "up",
        &["nothing wrong decided: nothing is wrong, so nothing was done"],
    );
    why(
        "spent",
        &[
            "it is broken, and its restart budget is spent",
            "1 of 1 used the next can be made at ",
            "2 failing runs in a row, the first one is reason for a restart; the trouble began ",
        ],
    );
    why(
        "gone",
        &[
            "1 of 1 used given up ",
            "; `watchdog reset gone` lets it be restarted again",
        ],
    );
    why(
        "cooling",
        &[
            "it is broken, and its restart has to wait",
            "cooldown of 20m until ",
        ],
    );
    why(
        "failing",
        &[
            "it is broken, and not restarted yet",
            "2 failing runs in a row, 3 are reason for a restart",
        ],
    );
    why("never", &["max_per_hour = 0: it is never restarted"]);
    why("quiet", &["a person wants it left alone paused until "]);
    why(
        "down",
        &[
            "it is broken, and the watchdog may not restart it it has no way to be restarted",
            "restart budget: none: its config has no way to restart it (spawn, systemd or restart.command)",
            "last restarts: none in the journal",
            "mail: the config has no [mail] table: nobody is told anything by mail",
        ],
    );
    why("young", &["it is starting, and is given its time"]);
    why(
        "unseen",
        &["what could not be seen never restarts anything"],
    );
    why(
        "warned",
        &[
            "log w.log: 2 patterns forbidden in new lines",
            "warnings alone never restart anything",
        ],
    );
    why(
        "well",
        &[
            "log prog.sh: it has to be there nothing wrong",
            "log s.log: newest line stamped ",
        ],
    );
    scene.kill(i32::try_from(up).unwrap());
}

#[test]
fn what_was_too_much_to_look_at_is_said() {
    let scene = Scene::with(
        "[service.a]\n[[service.a.log]]\npath = \"a.log\"\nlines = 100\nexpect = ['tick']\n",
    );
    let long = "x".repeat(60_000);
    scene.write("a.log", format!("tick {long}\n").repeat(30));
    assert_eq!(
        scene.check().exits(0).service("a")["notes"][0],
        "a.log: only the last 1 MiB were looked at for what is expected: 18 of 100 lines"
    );
}

#[test]
fn a_test_mail_says_which_way_it_goes_and_what_is_not_sure() {
    let service = "[service.a]\n[[service.a.log]]\npath = \"prog.sh\"\n";
    let scene = Scene::with(&format!("{ENVELOPE}directory = \"mails\"\n{service}"));
    let outcome = scene.run(&["test-mail"]).exits(0);
    let first = scene
        .fill("A message from watchdog@example.org to ops@example.org, by a file in {dir}/mails written to ");
    assert!(outcome.words().starts_with(&first), "{}", outcome.stdout);
    // the message is on its way, and its answer never comes
    let server = Server::new();
    server.at(".", Do::Hang);
    scene.config(&format!("{ENVELOPE}{}\n{service}", server.table()));
    let outcome = scene.run(&["test-mail"]).exits(1);
    let said = format!(
        "ops@example.org: perhaps sent: no answer within 2s from 127.0.0.1:{} (last step: waiting for its answer to the message)",
        server.port
    );
    assert!(outcome.words().contains(&said), "{}", outcome.stdout);
    // nobody whose word could be believed
    let smtp = "smtp = { host = \"127.0.0.1\", port = 9, tls = \"tls\" }";
    scene.config(&format!("{ENVELOPE}{smtp}\n{service}"));
    let mut command = scene.command(&["test-mail"]);
    command
        .env("SSL_CERT_FILE", "/dev/null")
        .env("SSL_CERT_DIR", scene.dir());
    let outcome = scene.finish(command).exits(1);
    let said = "127.0.0.1:9: no certificate authority is known here, so no server can be trusted; install ca-certificates, or set ca_file";
    assert!(outcome.words().contains(said), "{}", outcome.stdout);
}

#[test]
#[ignore = "needs root"]
fn a_host_without_a_network_is_said() {
    let scene = Scene::with(&format!(
        "{ENVELOPE}smtp = {{ host = \"192.0.2.1\", tls = \"none\" }}\n[service.a]\n[[service.a.log]]\npath = \"prog.sh\"\n"
    ));
    let outcome = scene.shell("exec unshare -n {watchdog} test-mail").exits(1);
    let said =
        "192.0.2.1:25: cannot connect to 192.0.2.1: network is unreachable; is the network up";
    assert!(outcome.words().contains(said), "{}", outcome.stdout);
}

#[test]
fn where_the_state_cannot_be_written_the_mail_says_what_that_means() {
    let scene = Scene::new();
    scene.write("blocker", "");
    scene.raw_config(&format!(
        "state_dir = \"blocker/state\"\n{ENVELOPE}directory = \"mails\"\n[service.a]\nprocess = {{ pid_file = \"a.pid\" }}\n"
    ));
    scene.check().exits(73);
    let mail = flat(&scene.mails()[0].body);
    let said = scene.fill(
        "cannot create the folder above the state folder {dir}/blocker/state: File exists (os error 17); nothing is restarted until that is mended; a is down: there is no PID file a.pid",
    );
    assert!(mail.contains(&said), "{said}\n{mail}");
    let again = scene.run(&["-v", "check"]).exits(73).stderr;
    assert!(again.contains("the same was mailed within 1h\n"), "{again}");
    assert_eq!(scene.mails().len(), 1);
    let mut command = scene.command(&["-v", "check"]);
    command.env("TMPDIR", scene.path("nowhere"));
    let unmarked = scene.finish(command).exits(73).stderr;
    assert!(
        unmarked.contains(".told: cannot be written: No such file or directory (os error 2); the next run mails again\n"),
        "{unmarked}"
    );
}

#[test]
fn what_is_never_told_for_want_of_room_is_in_the_journal() {
    let scene = Scene::with(&format!(
        "{ENVELOPE}directory = \"mails\"\nmax_per_hour = 1\n\
         [service.a]\nprocess = {{ pid_file = \"a.pid\" }}\n[service.b]\nprocess = {{ pid_file = \"b.pid\" }}\n"
    ));
    scene.run(&["check", "a"]).exits(2);
    scene.run(&["check", "b"]).exits(2);
    scene.edit_state(|state| {
        let owed = state["owed"].as_array_mut().unwrap();
        let one = owed[0].clone();
        owed.resize(501, one);
    });
    scene.run(&["check"]).exits(2);
    let history = flat(&scene.run(&["history", "b"]).exits(0).stdout);
    let said = "too much is left to be told; never told: b down at 20";
    assert!(history.contains(said), "{history}");
    assert_eq!(scene.state()["owed"].as_array().unwrap().len(), 500);
}

#[test]
fn what_a_pattern_matches_is_listed() {
    let scene = Scene::with("[service.a]\nprocess = { command_line = '{dir}/prog\\.sh x( |$)' }\n");
    let pid = scene.start("x", &[]);
    scene.wait_until("its line", || {
        scene.run(&["validate"]).stdout.contains(&pid.to_string())
    });
    let said = scene.fill(&format!(
        "a: `{{dir}}/prog\\.sh x( |$)` matches now\n    PID {pid}: /bin/sh {{dir}}/prog.sh x\n"
    ));
    let outcome = scene.run(&["validate"]).exits(0);
    assert!(outcome.stdout.contains(&said), "{said}{}", outcome.stdout);
}

#[test]
fn what_a_dead_process_left_behind_is_named_when_it_is_stopped() {
    let scene = Scene::with(
        "[service.a]\nspawn = { command = [\"sh\", \"-c\", \"sleep 1000 & echo $! >child; exec sleep 1001\"] }\n\
         restart = { settle = \"0s\" }\n",
    );
    let main = scene.check().exits(1).service("a")["pid"].as_i64().unwrap();
    scene.wait_until("its child", || {
        scene.has("child") && scene.read("child").ends_with('\n')
    });
    let child = scene.read("child").trim().to_owned();
    scene.check().exits(0);
    scene.kill_and_reap(i32::try_from(main).unwrap());
    let steps = scene.run(&["-v", "check"]).exits(1).stderr;
    let said = format!("a: stopping what its main process left behind: PID {child}\n");
    assert!(steps.contains(&said), "{said}{steps}");
}

#[test]
#[ignore = "needs root"]
fn where_this_boot_cannot_be_told_from_another_nothing_is_started() {
    let scene = Scene::with(
        "[service.a]\nrestart = { command = [\"touch\", \"{dir}/ran\"] }\n[[service.a.log]]\npath = \"none.log\"\n\
         [service.b]\nprocess = { pid_file = \"b.pid\" }\n",
    );
    let outcome = scene
        .shell(
            "exec unshare -m /bin/sh -c 'mount --bind /proc/$$/mem /proc/sys/kernel/random/boot_id && exec {watchdog} check --json'",
        )
        .exits(2);
    assert_eq!(
        outcome.error("a"),
        "what its main process may have left behind cannot be seen: the id of this boot cannot be read; nothing was started"
    );
    assert_eq!(
        outcome.service("b")["findings"][0]["message"],
        "the id of this boot cannot be read"
    );
    assert!(!scene.has("ran"));
}

#[test]
#[ignore = "needs root"]
fn a_systemctl_that_is_not_there_is_said() {
    let scene = Scene::with("[service.a]\nsystemd = { unit = \"a.service\" }\n");
    let outcome = scene
        .shell(
            "exec unshare -m /bin/sh -c 'mount --bind /dev/null $(command -v systemctl) && exec {watchdog} check --json'",
        )
        .exits(3);
    assert_eq!(
        outcome.service("a")["findings"][0]["message"],
        "systemd could not be asked for a.service: cannot run systemctl: Permission denied (os error 13); is this a \
         machine with systemd?"
    );
}

#[test]
fn what_stands_in_the_way_of_an_answer_is_said() {
    let scene = Scene::of(&[&Service::logs("a").log("path = \"prog.sh\"")]);
    scene.check().exits(0);
    scene.append("state/journal.jsonl", "no JSON\n");
    let outcome = scene.run(&["history"]).exits(0);
    let said = scene.fill("1 damaged line of the journal in {dir}/state left out\n");
    assert!(outcome.stderr.contains(&said), "{}", outcome.stderr);
    let outcome = scene.shell("exec {watchdog} status >/dev/full");
    assert_eq!(
        outcome.stderr,
        "watchdog: cannot write to standard output: No space left on device (os error 28)\n"
    );
    scene.config(
        "[mail]\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]\n\
         smtp = { host = \"h\", username = \"u\", password_file = \"prog.sh/pass\" }\n\
         [service.a]\n[[service.a.log]]\npath = \"prog.sh\"\n",
    );
    let outcome = scene.run(&["validate"]).exits(78);
    let said = "cannot be looked at: Not a directory (os error 20)";
    assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
}

#[test]
#[ignore = "needs root"]
fn who_may_not_look_at_others_is_told_so() {
    let scene = Scene::with("[service.a]\nprocess = { command_line = '^none$' }\n");
    let watchdog = scene.public_watchdog();
    let pid = scene.start("x", &[]);
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    let outcome = scene
        .shell(&format!("exec {nobody} {} adopt {pid}", watchdog.display()))
        .exits(1);
    assert_eq!(
        outcome.stderr,
        format!(
            "watchdog: what PID {pid} is cannot be read: Permission denied (os error 13); run this as root, or as the user \
             of that program\n"
        )
    );
    let folder = scene.lend("theirs", "nobody");
    let config = folder.join("watchdog.toml");
    fs::write(&config, scene.read("watchdog.toml")).unwrap();
    let outcome = scene.shell(&format!(
        "exec unshare -m /bin/sh -c 'mount -t tmpfs -o mode=700 tmpfs /proc; exec {nobody} {} -c {} check --json --dry-run'",
        watchdog.display(),
        config.display()
    ));
    assert_eq!(
        outcome.service("a")["findings"][0]["message"],
        "no process was found, but /proc cannot be read: Permission denied (os error 13)"
    );
}

#[test]
fn a_restart_command_that_a_run_has_left_running_is_not_run_beside_itself() {
    let command = "[\"/bin/sh\", \"-c\", \"echo $$ >{dir}/ran; while :; do sleep 0.1; done\"]";
    let scene = Scene::with(&format!(
        "[service.a]\nprocess = {{ pid_file = \"a.pid\" }}\nrestart = {{ start_timeout = \"1s\", command = {command} }}\n"
    ));
    let config = scene.read("watchdog.toml");
    scene.raw_config(&config.replace("1s", "5m"));
    let run = scene.begin(scene.command(&["check"]));
    scene.wait_until("its command", || {
        scene.has("ran") && scene.read("ran").ends_with('\n')
    });
    let pid = scene.read("ran").trim().to_owned();
    scene.kill(run.pid());
    scene.end(run);
    scene.raw_config(&config);
    let outcome = scene.run(&["-v", "check", "--json"]).exits(2);
    assert_eq!(
        outcome.error("a"),
        format!(
            "its restart command still runs (PID {pid}) since a run that was cut short; it was not run beside it"
        )
    );
    let said = format!(
        "a: its restart command runs already (PID {pid}), since a run that was cut short: waiting for it\n"
    );
    assert!(outcome.stderr.contains(&said), "{}", outcome.stderr);
    scene.kill(pid.parse().unwrap());
}

#[test]
#[ignore = "needs root"]
fn what_cannot_be_seen_any_more_after_a_stop_gets_no_second_copy() {
    let scene = Scene::with(
        "[service.a]\nprocess = { pid_file = \"a.pid\" }\nspawn = { command = [\"touch\", \"{dir}/ran\"] }\n",
    );
    scene.write(
        "harm.sh",
        "trap 'mount --bind /proc/$$/mem /proc/sys/kernel/random/boot_id; exit' TERM\n\
         echo $$ >a.pid\nwhile :; do sleep 0.1; done\n",
    );
    scene
        .shell(
            "exec unshare -m /bin/sh -c '/bin/sh {dir}/harm.sh & until [ -s a.pid ]; do sleep 0.1; done; {watchdog} restart a'",
        )
        .exits(1);
    assert_eq!(
        scene.run(&["status", "--json"]).error("a"),
        "whether it still runs could not be seen; nothing was started"
    );
    assert!(!scene.has("ran"));
}

#[test]
fn what_has_come_up_again_by_itself_gets_no_second_copy() {
    let scene = Scene::with(
        "[service.a]\nprocess = { pid_file = \"a.pid\" }\nspawn = { command = [\"touch\", \"{dir}/ran\"] }\n",
    );
    // told to end, it has a successor in a session of its own
    scene.write(
        "heir.sh",
        "trap 'setsid /bin/sh \"$0\" & while [ \"$(cat a.pid)\" = $$ ]; do :; done; exit' TERM\n\
         echo $$ >a.new; mv a.new a.pid\nwhile :; do sleep 0.1; done\n",
    );
    let mut first = std::process::Command::new("/bin/sh")
        .arg(scene.path("heir.sh"))
        .current_dir(scene.dir())
        .spawn()
        .unwrap();
    scene.wait_until("its PID file", || scene.has("a.pid"));
    scene.run(&["restart", "a"]).exits(1);
    first.wait().unwrap();
    let heir: i32 = scene.read("a.pid").trim().parse().unwrap();
    assert_eq!(
        scene.run(&["status", "--json"]).error("a"),
        format!(
            "PID {heir} is up as well, or has come up again by itself; nothing was started beside it"
        )
    );
    assert!(!scene.has("ran"));
    scene.kill(heir);
}
