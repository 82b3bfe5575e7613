//! Delivery at its worst: servers that misbehave, runs that are killed, outboxes that overflow, secrets that must stay.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::{Value, json};

use crate::scene::hooks::Hooks;
use crate::scene::servers::{Do, ENVELOPE, Server, smtp};
use crate::scene::{Mail, Scene, Service, alive, environment, render, when};

fn watched() -> Service {
    Service::new("a").watched()
}

/// The messages that a server has taken.
fn mails(server: &Server) -> Vec<Mail> {
    server
        .got()
        .iter()
        .map(|delivered| Mail::parse(&delivered.text))
        .collect()
}

fn events(server: &Server) -> Vec<String> {
    mails(server)
        .iter()
        .map(|mail| mail.header("X-Watchdog-Event").unwrap())
        .collect()
}

/// The events of messages about mail in the journal.
fn noted(scene: &Scene, event: &str) -> Vec<String> {
    scene
        .journal()
        .iter()
        .filter(|entry| entry["event"] == event)
        .map(|entry| entry["message"].as_str().unwrap().to_owned())
        .collect()
}

/// The names in the outbox, the oldest first.
fn names(scene: &Scene) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(scene.path("state/outbox"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Changes the messages in the outbox.
fn edit_outbox(scene: &Scene, edit: impl Fn(&mut Value)) {
    for name in names(scene) {
        let name = format!("state/outbox/{name}");
        let mut entry: Value = serde_json::from_str(&scene.read(&name)).unwrap();
        edit(&mut entry);
        scene.write(&name, entry.to_string());
    }
}

/// Lets the time pass that a message waits where it may have arrived.
fn some_minutes_later(scene: &Scene) {
    edit_outbox(scene, |entry| {
        let last = &entry["last_uncertain"];
        if !last.is_null() {
            entry["last_uncertain"] = json!(when(last) - chrono::TimeDelta::minutes(3));
        }
    });
}

/// Puts copies of the one message in the outbox beside it, as if they were older ones.
fn multiply(scene: &Scene, count: usize) {
    let name = names(scene).remove(0);
    let text = scene.read(&format!("state/outbox/{name}"));
    for n in 0..count {
        let mut entry: Value = serde_json::from_str(&text).unwrap();
        entry["notification"]["id"] = json!(format!("{n:003}"));
        entry["notification"]["host"] = json!("test");
        entry["alerts"] = json!([]);
        scene.write(
            &format!("state/outbox/20200101T000000.000Z-{n:016x}.json"),
            entry.to_string(),
        );
    }
}

/// A fault costs neither the restart nor the alert, which is told once when the server is well again.
fn survives(step: &'static str, fault: Do) {
    let server = Server::new();
    server.at(step, fault);
    let scene = smtp(&server, "", &[&Service::new("a")]);
    let outcome = scene.check().exits(1).verdict("a", "restarted");
    assert!(alive(scene.last("a")));
    assert_eq!(
        outcome.json()["mail"],
        json!({"sent": 0, "queued": 1}),
        "{step} {fault:?}"
    );
    assert_eq!(scene.outbox(), 1, "{step} {fault:?}");
    assert_eq!(noted(&scene, "mail_deferred").len(), 1, "{step} {fault:?}");
    server.heal();
    let outcome = scene.check().exits(0);
    assert_eq!(
        outcome.json()["mail"],
        json!({"sent": 1, "queued": 0}),
        "{step} {fault:?}"
    );
    scene.check().exits(0);
    assert_eq!(events(&server), ["restarted"], "{step} {fault:?}");
    assert_eq!(scene.outbox(), 0, "{step} {fault:?}");
    assert_eq!(noted(&scene, "mail_sent").len(), 1, "{step} {fault:?}");
}

#[test]
fn f70_silence_at_any_step_loses_nothing() {
    for step in ["", "EHLO", "MAIL", "RCPT", "DATA"] {
        survives(step, Do::Hang);
    }
}

#[test]
fn f70_a_server_that_hangs_up_at_any_step_loses_nothing() {
    for step in ["", "EHLO", "MAIL", "RCPT", "DATA"] {
        survives(step, Do::Close);
    }
}

#[test]
fn f70_what_breaks_off_in_the_middle_of_a_message_comes_later() {
    for fault in [Do::Hang, Do::Close] {
        let server = Server::new();
        server.at("line", fault);
        let scene = smtp(&server, "", &[&watched()]);
        let outcome = scene.check().exits(2);
        assert_eq!(outcome.json()["mail"], json!({"sent": 0, "queued": 1}));
        server.heal();
        some_minutes_later(&scene);
        scene.check().exits(2);
        scene.check().exits(2);
        assert_eq!(events(&server), ["down"], "{fault:?}");
        assert_eq!(scene.outbox(), 0);
    }
}

#[test]
fn f70_answers_drop_by_drop_are_left() {
    survives("", Do::Drip);
    survives("EHLO", Do::Drip);
}

#[test]
fn f70_a_slow_server_that_comes_to_an_end_has_it_once() {
    let server = Server::new();
    server.at("line", Do::Drip);
    let scene = smtp(&server, "", &[&watched()]);
    for _ in 0..2 {
        scene.check().exits(2);
    }
    assert_eq!(events(&server), ["down"]);
}

#[test]
fn f72_what_is_put_off_at_any_step_comes_later() {
    for (step, reply) in [
        ("", "421 too busy"),
        ("EHLO", "421 going down"),
        ("MAIL", "451 later"),
        ("RCPT", "452 full"),
        ("DATA", "451 later"),
        (".", "452 no room"),
        // what it says of us is no word about the recipient: somebody can mend that
        ("MAIL", "553 wrong sender"),
        ("MAIL", "530 log in first"),
    ] {
        survives(step, Do::Say(reply));
    }
}

/// Makes the hour over in which what was refused is not tried again.
fn end_hold(scene: &Scene) {
    let long_ago = |hold: &mut Value| {
        if !hold.is_null() {
            hold["since"] = json!("2026-01-01T00:00:00Z");
        }
    };
    scene.edit_state(|state| long_ago(&mut state["channels"]["mail"]["hold"]));
    edit_outbox(scene, |entry| long_ago(&mut entry["hold"]));
}

#[test]
fn f72_what_is_refused_is_kept_and_tried_once_an_hour() {
    for (step, reply) in [
        ("RCPT", "550 no such user"),
        ("DATA", "554 not from you"),
        (".", "554 looks like junk"),
    ] {
        let server = Server::new();
        server.at(step, Do::Say(reply));
        let scene = smtp(&server, "", &[&watched()]);
        let outcome = scene.check().exits(2);
        assert_eq!(outcome.json()["mail"], json!({"sent": 0, "queued": 1}));
        let told = noted(&scene, "mail_refused");
        assert_eq!(told.len(), 1);
        assert!(
            told[0].contains(reply) && told[0].contains("ops@example.org"),
            "{told:?}"
        );
        assert!(outcome.stderr.contains(reply), "{}", outcome.stderr);
        let connections = server.connections();
        scene.check().exits(2);
        assert_eq!(server.connections(), connections, "{step}: asked too early");
        server.heal();
        scene.check().exits(2);
        assert_eq!(server.got().len(), 0, "{step}: not within the hour");
        end_hold(&scene);
        let outcome = scene.check().exits(2);
        assert_eq!(
            outcome.json()["mail"],
            json!({"sent": 1, "queued": 0}),
            "{step}"
        );
        assert_eq!(scene.outbox(), 0);
    }
}

#[test]
fn that_all_mail_is_refused_is_told_on_the_other_channels_and_a_change_ends_the_wait() {
    let (server, hooks) = (Server::new(), Hooks::new());
    server.at("RCPT", Do::Say("550 5.7.1 relaying denied"));
    let channel = format!("[notify.phone]\n{}\n", hooks.keys("webhook"));
    let scene = smtp(&server, &channel, &[&watched()]);
    for _ in 0..2 {
        scene.check().exits(2);
    }
    let told = || {
        hooks
            .got()
            .iter()
            .any(|got| got.body.contains("relaying denied"))
    };
    assert!(told(), "{:?}", hooks.got());
    server.heal();
    let text = scene.read("watchdog.toml");
    scene.write(
        "watchdog.toml",
        text.replace("ops@example.org", "Ops <ops@example.org>"),
    );
    scene.check().exits(2);
    assert!(!server.got().is_empty());
}

#[test]
fn a_server_that_takes_everything_and_answers_nothing_fills_no_mailbox() {
    for fault in [Do::Hang, Do::Close] {
        let server = Server::new();
        server.at("taken", fault);
        let scene = smtp(&server, "", &[&watched()]);
        for _ in 0..4 {
            let outcome = scene.check().exits(2);
            assert_eq!(outcome.json()["mail"]["queued"], 1);
        }
        assert_eq!(server.got().len(), 1, "not again at once");
        server.heal();
        some_minutes_later(&scene);
        scene.check().exits(2);
        let ids: BTreeSet<String> = mails(&server)
            .iter()
            .map(|mail| mail.header("Message-ID").unwrap())
            .collect();
        assert_eq!(
            (server.got().len(), ids.len()),
            (2, 1),
            "the same, by its id"
        );
        assert_eq!(scene.outbox(), 0);
    }
}

#[test]
fn f70_a_black_hole_is_looked_into_once_a_run_however_much_is_queued() {
    let server = Server::new();
    server.at("", Do::Hang);
    let scene = smtp(&server, "", &[&watched()]);
    scene.check().exits(2);
    multiply(&scene, 30);
    let before = server.connections();
    let outcome = scene.check().exits(2);
    assert_eq!(outcome.json()["mail"], json!({"sent": 0, "queued": 31}));
    assert_eq!(server.connections(), before + 1);
    server.heal();
    let outcome = scene.check().exits(2);
    assert_eq!(outcome.json()["mail"], json!({"sent": 31, "queued": 0}));
    let ids: Vec<String> = mails(&server)
        .iter()
        .map(|mail| mail.header("Message-ID").unwrap())
        .collect();
    let oldest: Vec<String> = (0..30).map(|n| format!("<{n:03}@test>")).collect();
    assert_eq!(ids[..30], oldest[..], "the oldest first");
    assert_eq!(scene.outbox(), 0);
}

#[test]
fn one_message_that_breaks_the_server_does_not_block_the_others() {
    let server = Server::new();
    server.at("DATA", Do::Close);
    let scene = smtp(&server, "", &[&watched()]);
    scene.check().exits(2);
    multiply(&scene, 3);
    let before = server.connections();
    scene.check().exits(2);
    assert_eq!(server.connections(), before + 4, "each was tried");
}

#[test]
fn f71_an_outbox_is_bounded_and_what_goes_is_told() {
    let server = Server::new();
    server.at("", Do::Close);
    let scene = smtp(&server, "", &[&watched()]);
    scene.check().exits(2);
    multiply(&scene, 205);
    let outcome = scene.check().exits(2);
    assert_eq!(outcome.json()["mail"]["queued"], 200);
    assert_eq!(scene.outbox(), 200);
    let told = noted(&scene, "mail_given_up");
    assert_eq!(told.len(), 6);
    assert!(
        told[0].contains("the outbox is full") && told[0].contains("ops@example.org"),
        "{told:?}"
    );
}

#[test]
fn f71_after_three_days_it_is_given_up_with_a_line_in_the_journal() {
    let server = Server::new();
    server.at("", Do::Close);
    let scene = smtp(&server, "", &[&watched()]);
    scene.check().exits(2);
    let age = |hours: i64| {
        edit_outbox(&scene, |entry| {
            entry["since"] = json!(chrono::Utc::now() - chrono::TimeDelta::hours(hours));
        });
    };
    age(71);
    scene.check().exits(2);
    assert_eq!(scene.outbox(), 1);
    age(73);
    let outcome = scene.check().exits(2);
    assert_eq!(outcome.json()["mail"], json!({"sent": 0, "queued": 0}));
    let told = noted(&scene, "mail_given_up");
    assert_eq!(told.len(), 1);
    assert!(
        told[0].contains("three days") && told[0].contains("a down"),
        "{told:?}"
    );
    assert_eq!(scene.outbox(), 0);
    // but it is tried before: the machine may have been off
    let scene = smtp(&server, "", &[&watched()]);
    scene.check().exits(2);
    edit_outbox(&scene, |entry| {
        entry["since"] = json!("2020-01-01T00:00:00Z");
    });
    server.heal();
    scene.check().exits(2);
    assert_eq!(events(&server), ["down"]);
    assert!(noted(&scene, "mail_given_up").is_empty());
}

#[test]
fn f43_a_clock_that_was_set_gives_nothing_up() {
    let server = Server::new();
    server.at("", Do::Close);
    let scene = smtp(&server, "", &[&watched()]);
    scene.check().exits(2);
    // as if the clock had been four days behind until now
    let before = |time: &Value| json!(when(time) - chrono::TimeDelta::days(4));
    edit_outbox(&scene, |entry| {
        entry["since"] = before(&entry["since"]);
        entry["clock"]["wall"] = before(&entry["clock"]["wall"]);
    });
    scene.edit_state(|state| state["clock"]["wall"] = before(&state["clock"]["wall"]));
    // what comes before the next mail, and sends none, takes nothing away
    for args in [
        &["pause", "a"][..],
        &["resume", "a"],
        &["check", "--no-mail"],
    ] {
        scene.run(args);
    }
    for _ in 0..2 {
        let outcome = scene.check().exits(2);
        assert_eq!(outcome.json()["mail"]["queued"], 1);
    }
    assert!(noted(&scene, "mail_given_up").is_empty());
}

#[test]
fn what_is_no_message_in_the_outbox_stops_nobody() {
    let server = Server::new();
    server.at("", Do::Close);
    let scene = smtp(&server, "", &[&watched()]);
    scene.check().exits(2);
    let directory = scene.path("state/outbox");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join(names(&scene).remove(0))), 0o600);
    scene.write("state/outbox/0.json", "{");
    scene.write("state/outbox/1.json.new", "{");
    scene.write("elsewhere", "untouched");
    symlink(scene.path("elsewhere"), directory.join("2.json")).unwrap();
    // nobody can open it
    let _socket = std::os::unix::net::UnixListener::bind(directory.join("3.json")).unwrap();
    server.heal();
    let outcome = scene.check().exits(2);
    assert_eq!(outcome.json()["mail"], json!({"sent": 1, "queued": 0}));
    assert_eq!(
        names(&scene),
        ["0.json.corrupt", "2.json.corrupt", "3.json.corrupt"]
    );
    let told = noted(&scene, "outbox_damaged");
    for (number, why) in [
        (0, "is damaged ("),
        (2, "is a symbolic link, not a regular file; "),
        (3, "is a socket, not a regular file; "),
    ] {
        let said = scene.fill(&format!("{{dir}}/state/outbox/{number}.json {why}"));
        assert!(
            told.iter().any(|told| told.contains(&said)),
            "{said}\n{told:?}"
        );
    }
    assert_eq!(told.len(), 3);
    assert_eq!(scene.read("elsewhere"), "untouched");
}

#[test]
fn what_cannot_be_set_aside_is_named() {
    let server = Server::new();
    server.at("", Do::Close);
    let scene = smtp(&server, "", &[&watched()]);
    scene.check().exits(2);
    scene.write("state/outbox/0.json", "{");
    fs::create_dir_all(scene.path("state/outbox/0.json.corrupt/full")).unwrap();
    scene.check().exits(2);
    let told = noted(&scene, "outbox_damaged");
    assert!(
        told[0].starts_with(&scene.fill("{dir}/state/outbox/0.json is damaged ("))
            && told[0].ends_with("); it is not sent; look at it and remove it"),
        "{told:?}"
    );
}

#[test]
fn an_outbox_that_cannot_be_made_costs_no_alert() {
    let server = Server::new();
    server.at("", Do::Close);
    let scene = smtp(&server, "", &[&watched()]);
    fs::create_dir(scene.path("state")).unwrap();
    fs::set_permissions(scene.path("state"), fs::Permissions::from_mode(0o700)).unwrap();
    scene.write("state/outbox", "in the way");
    let outcome = scene.check().exits(2);
    assert_eq!(outcome.json()["mail"], json!({"sent": 0, "queued": 1}));
    let said = scene.fill(
        "{dir}/state/outbox: no mail can be kept there: it must be a directory of this user that nobody else can write to; \
         remove it, and it is made anew; it is sent at once, or tried again by the next run\n",
    );
    assert!(outcome.stderr.contains(&said), "{}", outcome.stderr);
    server.heal();
    let outcome = scene.check().exits(2);
    assert_eq!(outcome.json()["mail"], json!({"sent": 1, "queued": 0}));
    scene.check().exits(2);
    assert_eq!(events(&server), ["down"]);
    assert_eq!(scene.read("state/outbox"), "in the way");
}

#[test]
fn no_mail_leaves_the_outbox_alone_and_a_dry_run_everything() {
    let server = Server::new();
    server.at("", Do::Close);
    let scene = smtp(&server, "", &[&watched()]);
    scene.run(&["check", "--no-mail"]).exits(2);
    assert_eq!(server.connections(), 0);
    assert!(!scene.has("state/outbox"));
    // not told, so told by the next run that may
    scene.check().exits(2);
    assert_eq!(scene.outbox(), 1);
    server.heal();
    scene.run(&["check", "--no-mail"]).exits(2);
    let before = scene.fingerprint();
    scene.run(&["check", "--dry-run"]).exits(2);
    assert_eq!(scene.fingerprint(), before);
    assert_eq!(server.got().len(), 0);
    scene.check().exits(2);
    assert_eq!(events(&server), ["down"]);
}

#[test]
fn f73_what_was_held_back_is_sent_later_with_its_number() {
    let server = Server::new();
    let other = Service::new("b").watched();
    let scene = smtp(&server, "max_per_hour = 1", &[&watched(), &other]);
    scene.check().exits(2);
    let pid = scene.start("a", &["pid_file=a.pid"]);
    let outcome = scene.check().exits(2);
    assert_eq!(outcome.json()["mail"], json!({"sent": 0, "queued": 0}));
    scene.start("b", &["pid_file=b.pid"]);
    scene.check().exits(0);
    scene.check().exits(0);
    assert_eq!(server.got().len(), 1);
    // an hour later
    scene.edit_state(|state| state["channels"]["mail"]["sent"] = json!([]));
    let outcome = scene.check().exits(0);
    assert_eq!(outcome.json()["mail"], json!({"sent": 1, "queued": 0}));
    let last = mails(&server).pop().unwrap();
    for said in [
        "2 messages were held back before this one",
        "a is well again.",
        "b is well again.",
    ] {
        assert!(last.body.contains(said), "{}", last.body);
    }
    // the first critical message of an incident is never held back, and takes along what is
    scene.kill(pid);
    scene.check().exits(2);
    assert_eq!(server.got().len(), 3);
    scene.start("a", &["pid_file=a.pid"]);
    scene.check().exits(0);
    scene.check().exits(0);
    assert_eq!(server.got().len(), 3, "the end of it is");
    scene.edit_state(|state| state["channels"]["mail"]["sent"] = json!([]));
    scene.check().exits(0);
    let last = mails(&server).pop().unwrap();
    assert!(
        last.body
            .contains("1 message was held back before this one"),
        "{}",
        last.body
    );
    scene.edit_state(|state| state["channels"]["mail"]["sent"] = json!([]));
    scene.check().exits(0);
    assert_eq!(server.got().len(), 4, "nothing twice");
}

#[test]
fn an_incident_is_one_thread_from_the_first_failure_to_the_recovery() {
    let server = Server::new();
    let service = Service::new("a")
        .option("exit=1")
        .restart("max_per_hour", "1");
    let scene = smtp(&server, "remind_every = \"1s\"", &[&service]);
    scene.check().exits(2).verdict("a", "restart_failed");
    scene.check().exits(2).verdict("a", "exhausted");
    scene.wait_until("a reminder", || {
        scene.check();
        server.got().len() > 2
    });
    let pid = scene.start("a", &["pid_file=a.pid"]);
    scene.check().exits(0);
    let told = mails(&server);
    let header = |mail: &Mail, name: &str| mail.header(name).unwrap_or_default();
    assert_eq!(header(&told[0], "In-Reply-To"), "");
    for pair in told.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        let id = header(before, "Message-ID");
        assert_eq!(header(after, "In-Reply-To"), id);
        let references = header(after, "References");
        assert!(
            references.starts_with(&header(&told[0], "Message-ID")),
            "{references}"
        );
        assert!(references.ends_with(&id), "{references}");
    }
    assert_eq!(
        header(told.last().unwrap(), "X-Watchdog-Event"),
        "recovered"
    );
    // the next incident is another thread
    scene.check().exits(0);
    let count = server.got().len();
    scene.kill(pid);
    scene.check().exits(2);
    let told = mails(&server);
    assert_eq!(told.len(), count + 1);
    assert_eq!(header(told.last().unwrap(), "References"), "");
    assert_eq!(header(told.last().unwrap(), "In-Reply-To"), "");
}

/// Each message id once, and how often each came.
fn copies(server: &Server) -> (usize, usize) {
    let told = mails(server);
    let ids: BTreeSet<String> = told
        .iter()
        .map(|mail| mail.header("Message-ID").unwrap())
        .collect();
    (ids.len(), told.len())
}

#[test]
fn f33_a_run_killed_at_any_step_of_a_delivery_loses_nothing() {
    for (step, most) in [
        ("", 1),
        ("EHLO", 1),
        ("MAIL", 1),
        ("RCPT", 1),
        ("DATA", 1),
        ("line", 1),
        (".", 1),
        // the server has taken it, and the run was killed before it could remember that
        ("taken", 2),
        ("QUIT", 2),
    ] {
        let server = Server::new();
        server.at(step, Do::Kill);
        let scene = smtp(&server, "", &[&watched()]);
        let run = scene.begin(scene.command(&["check", "--json"]));
        server.aim(run.pid());
        assert_eq!(scene.end(run).code, -9, "killed at {step}");
        server.heal();
        for _ in 0..3 {
            scene.check().exits(2);
        }
        let (told, came) = copies(&server);
        assert_eq!(told, 1, "one message, after a kill at {step}");
        assert!(
            came >= 1 && came <= most,
            "{came} copies after a kill at {step}"
        );
        assert_eq!(events(&server)[0], "down");
        assert_eq!(scene.outbox(), 0);
    }
}

/// The same between all steps on the disk: strace kills the run at its first, second, third, … change of a file.
#[test]
#[ignore = "needs strace"]
fn f33_a_run_killed_at_any_change_of_a_file_loses_nothing() {
    let mut killed = 0;
    // strace counts each call by itself, and the first of a thread is the first again
    for call in [
        "rename",
        "link,linkat",
        "unlink",
        "fsync",
        "mkdir",
        "connect",
        "openat",
    ] {
        for nth in 1.. {
            let server = Server::new();
            let scene = smtp(&server, "", &[&watched()]);
            // files are opened by the dozen before anything is kept
            let only = if call == "openat" {
                "-P {dir}/state/outbox"
            } else {
                ""
            };
            let outcome = scene.shell(&format!(
                "exec strace -f -qqq -o {{dir}}/trace {only} -e trace={call} -e inject={call}:signal=KILL:when={nth} {{watchdog}} check"
            ));
            for _ in 0..3 {
                scene.check().exits(2);
            }
            let (told, came) = copies(&server);
            assert_eq!(told, 1, "one message, after a kill at {call} {nth}");
            assert!(came <= 2, "{came} copies after a kill at {call} {nth}");
            assert_eq!(events(&server)[0], "down");
            assert_eq!(scene.outbox(), 0);
            if outcome.code == 2 {
                break;
            }
            assert_eq!(outcome.code, -9, "killed at {call} {nth}");
            killed += 1;
        }
    }
    assert!(killed > 20, "only {killed} changes");
}

/// A disk that fills up in the middle of a delivery: strace makes the second, third, … rename fail.
#[test]
#[ignore = "needs strace"]
fn f44_a_disk_that_fills_up_during_a_delivery_loses_and_doubles_nothing() {
    let (mut failed, mut said) = (0, String::new());
    // the first one is the state before the mail: where that fails, the run ends with 73
    for nth in 2.. {
        let server = Server::new();
        let scene = smtp(&server, "", &[&watched()]);
        let outcome = scene
            .shell(&format!(
                "exec strace -f -qqq -o {{dir}}/trace -e trace=rename -e inject=rename:error=ENOSPC:when={nth} {{watchdog}} check"
            ))
            .exits(2);
        said.push_str(&outcome.stderr);
        assert_eq!(events(&server), ["down"], "at once, after {nth}");
        for _ in 0..3 {
            scene.check().exits(2);
        }
        assert_eq!(events(&server), ["down"], "once, after {nth}");
        assert_eq!(scene.outbox(), 0, "after {nth}");
        if !scene.read("trace").contains("INJECTED") {
            break;
        }
        failed += 1;
    }
    assert!(failed > 2, "only {failed} failures");
    let told = "; what is told now is kept in the outbox until it can be written\n";
    assert!(said.contains(told), "{said}");
}

#[test]
#[ignore = "needs strace"]
fn a_message_that_cannot_be_removed_is_named() {
    let server = Server::new();
    server.at("", Do::Close);
    let scene = smtp(&server, "", &[&watched()]);
    scene.check().exits(2);
    let file = scene.fill(&format!("{{dir}}/state/outbox/{}", names(&scene)[0]));
    let faulty = || {
        let script = format!(
            "exec strace -f -qqq -o {{dir}}/trace -P {file} -e trace=unlink -e inject=unlink:error=EIO {{watchdog}} check"
        );
        scene.shell(&script).exits(2).stderr
    };
    server.heal();
    some_minutes_later(&scene);
    let said = faulty();
    let expected = format!(
        "{file}: cannot be brought up to date: Input/output error (os error 5); a message that was sent may come again\n"
    );
    assert!(said.contains(&expected), "{expected}{said}");
    // nobody takes it for days
    server.at("", Do::Close);
    edit_outbox(&scene, |entry| {
        entry["recipients"] = json!(["o@example.org"]);
        entry["since"] = (chrono::Utc::now() - chrono::TimeDelta::days(4))
            .to_rfc3339()
            .into();
    });
    let said = faulty();
    let expected = format!("{file}: cannot be removed: Input/output error (os error 5)\n");
    assert!(said.contains(&expected), "{expected}{said}");
    scene.check().exits(2);
    assert_eq!(scene.outbox(), 0);
}

#[test]
fn f33_a_sendmail_that_kills_the_run_delivers_at_most_twice() {
    let scene = Scene::new();
    let install = |text: &str| {
        scene.write("sendmail", text);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(scene.path("sendmail"), mode).unwrap();
    };
    let take = "cat >${0%/*}/$$.eml.new; mv ${0%/*}/$$.eml.new ${0%/*}/$$.eml";
    scene.config(&format!(
        "{ENVELOPE}sendmail = {{ command = \"{{dir}}/sendmail\" }}\n{}",
        render(&[&watched()])
    ));
    for (before, after, most) in [("kill -9 $PPID; exit 1", "", 1), ("", "kill -9 $PPID", 2)] {
        install(&format!("#!/bin/sh\n{before}\n{take}\n{after}\n"));
        assert_eq!(scene.check().code, -9);
        install(&format!("#!/bin/sh\n{take}\n"));
        for _ in 0..3 {
            scene.check().exits(2);
        }
        let mut ids = Vec::new();
        for entry in fs::read_dir(scene.path(".")).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if entry.path().extension() == Some("eml".as_ref()) {
                ids.push(
                    Mail::parse(&scene.read(&name))
                        .header("Message-ID")
                        .unwrap(),
                );
                fs::remove_file(entry.path()).unwrap();
            }
        }
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), 1);
        assert!(count <= most, "{count} copies");
        assert_eq!(scene.outbox(), 0);
        fs::remove_dir_all(scene.path("state")).unwrap();
    }
}

#[test]
fn f33_a_message_whose_alert_the_state_still_owes_is_not_written_again() {
    let server = Server::new();
    server.at("", Do::Close);
    let scene = smtp(&server, "", &[&watched()]);
    // the state as it is when a run is killed after it has written the message
    scene.check().exits(2);
    let id = {
        let name = names(&scene).remove(0);
        let entry: Value =
            serde_json::from_str(&scene.read(&format!("state/outbox/{name}"))).unwrap();
        entry["alerts"][0].as_str().unwrap().to_owned()
    };
    scene.edit_state(|state| {
        state["channels"]["mail"]["sent"] = json!([]);
        state["channels"]["mail"]["threads"] = json!({});
        state["channels"]["mail"]["pending"] = json!([{
            "id": id, "time": state["last_run"], "service": "a", "event": "down",
            "incident": state["services"]["a"]["incident"],
        }]);
    });
    server.heal();
    scene.check().exits(2);
    scene.check().exits(2);
    assert_eq!(events(&server), ["down"]);
    let state = scene.state();
    let mail = &state["channels"]["mail"];
    assert_eq!(mail.get("pending"), None);
    assert_eq!(mail["sent"].as_array().unwrap().len(), 1, "it counts");
    let incident = state["services"]["a"]["incident"].as_str().unwrap();
    let thread = mail["threads"][incident].as_array().unwrap();
    assert_eq!(thread.len(), 1, "the thread knows it");
}

#[test]
fn a_test_mail_tells_each_step_and_what_to_change() {
    let server = Server::new();
    server.offer_login();
    let scene = Scene::new();
    scene.write("pass", "s3cret\n");
    fs::set_permissions(scene.path("pass"), fs::Permissions::from_mode(0o600)).unwrap();
    let table = server.table().replace(
        "timeout",
        "username = \"u\", password_file = \"{dir}/pass\", timeout",
    );
    scene.config(&format!("{ENVELOPE}{table}\n{}", render(&[&watched()])));
    let outcome = scene.run(&["test-mail"]).exits(0);
    let port = server.port;
    assert_eq!(
        outcome.stdout,
        format!(
            "A message from watchdog@example.org to ops@example.org, by 127.0.0.1, port
    {port}, with no TLS, logging in as `u`
  127.0.0.1 is at 127.0.0.1
  connected to 127.0.0.1:{port}
  server greeting: 220 mail.example.org ESMTP
  logged in as `u`
  recipient ops@example.org accepted
  message taken: 250 taken
ops@example.org: sent
All of it was taken. Check the inbox and the spam folder.
"
        )
    );
    let mail = mails(&server).remove(0);
    assert!(
        mail.subject().ends_with(": watchdog sends a test"),
        "{}",
        mail.subject()
    );
    assert_eq!(mail.header("X-Watchdog-Event").unwrap(), "test");
    assert!(!scene.has("state"), "nothing is remembered");
    server.at("AUTH", Do::Say("535 5.7.8 no"));
    let outcome = scene.run(&["test-mail"]).exits(1);
    assert!(
        outcome.words().contains(
            "ops@example.org: not sent: 127.0.0.1:PORT: the server refused the user name `u` or its password: 535 5.7.8 no; check [mail] username and its password"
                .replace("PORT", &port.to_string()).as_str()
        ),
        "{}",
        outcome.stdout
    );
    server.heal();
    server.at("RCPT", Do::Say("550 who"));
    let outcome = scene.run(&["test-mail"]).exits(1);
    assert!(
        outcome.stdout.contains("ops@example.org: refused: "),
        "{}",
        outcome.stdout
    );
    let none = Scene::of(&[&watched()]);
    let outcome = none.run(&["test-mail"]).exits(1);
    assert!(
        outcome.stderr.contains(&none.fill(
            "there is no mail to test: {dir}/watchdog.toml has no [mail] table, and $ALERT_EMAIL_TO is not set\n"
        )),
        "{}",
        outcome.stderr
    );
}

#[test]
fn what_watchdog_0_1_0_left_in_the_outbox_is_delivered_with_its_ids() {
    const FIRST: &str = include_str!("../../src/notify/outbox/versions/1-first.json");
    const REPLY: &str = include_str!("../../src/notify/outbox/versions/1-reply.json");
    let server = Server::new();
    let scene = smtp(&server, "", &[&watched()]);
    scene.start("a", &["pid_file=a.pid"]);
    scene.check().exits(0);
    fs::create_dir(scene.path("state/outbox")).unwrap();
    fs::set_permissions(
        scene.path("state/outbox"),
        fs::Permissions::from_mode(0o700),
    )
    .unwrap();
    for (name, text) in [
        ("20261127T023116834Z-708dfe6e573a08c2.json", FIRST),
        ("20261127T023119272Z-d676ab5af2d35c52.json", REPLY),
    ] {
        let mut entry: Value = serde_json::from_str(text).unwrap();
        // by clocks that this machine knows nothing of
        entry["since"] = json!(chrono::Utc::now());
        entry["doubted"] = Value::Null;
        entry["clock"] = Value::Null;
        scene.write(&format!("state/outbox/{name}"), entry.to_string());
    }
    let outcome = scene.check().exits(0);
    assert_eq!(outcome.json()["mail"], json!({"sent": 2, "queued": 0}));
    let told = mails(&server);
    let header = |mail: &Mail, name: &str| mail.header(name).unwrap_or_default();
    let first = "<20261127T023116Z.trader.c45400f8f610d495@vm>";
    let second = "<20261127T023118Z.feed.12ef8f09deabed98@vm>";
    assert_eq!(header(&told[0], "Message-ID"), first);
    assert_eq!(header(&told[0], "In-Reply-To"), "");
    assert_eq!(
        header(&told[1], "Message-ID"),
        "<20261127T023119Z.feed.755d163396826273@vm>"
    );
    assert_eq!(header(&told[1], "In-Reply-To"), second);
    assert_eq!(header(&told[1], "References"), format!("{first} {second}"));
    assert_eq!(told[0].subject(), "[watchdog] vm: trader down");
    let to = server.got().iter().map(|got| got.to.len()).sum::<usize>();
    assert_eq!(to, 4, "both recipients of both");
    assert_eq!(scene.outbox(), 0);
}

/// A secret and the forms in which a login sends it.
const CANARIES: [&str; 3] = ["canary-4711", "Y2FuYXJ5LTQ3MTE", "dQBjYW5hcnktNDcxM"];

#[test]
fn f76_a_secret_goes_to_the_server_and_nowhere_else() {
    let ways: [(&str, &str); 4] = [
        ("file", "password_file = \"{dir}/secret/pass\""),
        ("inline", "password = \"canary-4711\""),
        ("env", "password_env = \"CANARY\""),
        ("credential", "password_credential = \"pass\""),
    ];
    for (way, key) in ways {
        let server = Server::new();
        server.offer_login();
        // one that repeats what it was sent
        server.at(
            "AUTH",
            Do::Say("535 no: canary-4711 AHUAY2FuYXJ5LTQ3MTE= Y2FuYXJ5LTQ3MTE="),
        );
        let scene = Scene::new();
        fs::create_dir(scene.path("secret")).unwrap();
        fs::set_permissions(scene.path("secret"), fs::Permissions::from_mode(0o700)).unwrap();
        scene.write("secret/pass", "canary-4711\n");
        fs::set_permissions(scene.path("secret/pass"), fs::Permissions::from_mode(0o600)).unwrap();
        let table = server
            .table()
            .replace("timeout", &format!("username = \"u\", {key}, timeout"));
        scene.config(&format!(
            "{ENVELOPE}{table}\n[logging]\nfile = \"{{dir}}/own.log\"\nlevel = \"trace\"\n{}",
            render(&[&Service::new("a"), &Service::new("b").watched()])
        ));
        let run = |args: &[&str]| {
            let mut command = scene.command(args);
            if way == "env" {
                command.env("CANARY", "canary-4711");
            }
            if way == "credential" {
                command.env("CREDENTIALS_DIRECTORY", scene.path("secret"));
            }
            scene.finish(command)
        };
        let mut said = String::new();
        for args in [
            &["-vvv", "check", "--json"][..],
            &["-vvv", "check"],
            &["-vvv", "test-mail"],
            &["status"],
            &["history"],
            &["validate"],
            &["show-config"],
        ] {
            said.push_str(&run(args).text());
        }
        server.heal();
        said.push_str(&run(&["-vvv", "check"]).text());
        assert!(!server.got().is_empty(), "{way}: it was used\n{said}");
        assert!(server.heard().contains("AHUAY2FuYXJ5LTQ3MTE="), "{way}");
        let child = scene.last("a");
        for (name, value) in environment(child) {
            said.push_str(&name);
            said.push_str(&value);
        }
        for (path, (_, _, _, bytes)) in scene.fingerprint() {
            let own =
                path.ends_with("pass") || (way == "inline" && path.ends_with("watchdog.toml"));
            if !own {
                said.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
        for canary in CANARIES {
            assert!(!said.contains(canary), "{way}: {canary} in {said}");
        }
        assert!(said.contains("535 no: *** "), "{way}: {said}");
    }
}

#[test]
fn f76_a_mailer_gets_no_secret_of_ours() {
    let scene = Scene::new();
    scene.write("sendmail", "#!/bin/sh\ncat >/dev/null\nenv >${0%/*}/env\n");
    fs::set_permissions(scene.path("sendmail"), fs::Permissions::from_mode(0o755)).unwrap();
    scene.config(&format!(
        "{ENVELOPE}sendmail = {{ command = \"{{dir}}/sendmail\" }}\n{}",
        render(&[&watched()])
    ));
    let mut command = scene.command(&["check"]);
    command
        .env("SMTP_PASSWORD", "canary-4711")
        .env("CREDENTIALS_DIRECTORY", "canary-4711");
    scene.finish(command).exits(2);
    assert!(scene.read("env").contains("PATH="));
    assert!(
        !scene.read("env").contains("canary"),
        "{}",
        scene.read("env")
    );
}
