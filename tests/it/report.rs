//! `watchdog report`: what a day came to, printed and sent.

use chrono::{TimeDelta, Utc};
use serde_json::json;

use crate::scene::hooks::{Answer, Hooks};
use crate::scene::{MAIL, Scene, Service, render};

/// A service that was started, frozen and restarted, and one that is always well.
fn lived(more: &str) -> Scene {
    let services = render(&[&Service::new("bot"), &Service::new("feed")]);
    let scene = Scene::with(&format!("{more}{services}"));
    scene.check().exits(1);
    scene.check().exits(0);
    scene.freeze(scene.last("bot"));
    scene.check().restarted_for("bot", "process_stopped");
    scene.check().exits(0);
    scene
}

#[test]
fn it_sums_up_what_the_journal_has() {
    let scene = lived("");
    let value = scene.run(&["report", "--json"]).exits(0).json();
    let service = |name: &str| {
        let all = value["services"].as_array().unwrap().iter();
        all.clone().find(|it| it["name"] == name).unwrap().clone()
    };
    let bot = service("bot");
    assert_eq!(
        (&bot["restarts"], &bot["failures"]),
        (&2.into(), &2.into()),
        "{value}"
    );
    assert_eq!(bot["in_trouble"], false);
    let met: Vec<&str> = (bot["attempts"].as_array().unwrap().iter())
        .map(|it| it["findings"][0]["code"].as_str().unwrap())
        .collect();
    assert_eq!(met, ["process_missing", "process_stopped"]);
    let evidence = bot["attempts"][1]["evidence"].as_str().unwrap();
    assert!(evidence.contains("/evidence/bot-"), "{evidence}");
    assert_eq!(service("feed")["restarts"], 1);
    assert_eq!(value["silent"], serde_json::json!([]));

    let words = scene.run(&["report"]).exits(0).words();
    assert!(
        words.contains("2 of 2 services had trouble in 1d: 3 restarts, 3 failures"),
        "{words}"
    );
    assert!(words.contains("bot: 2 restarts, 2 failures"), "{words}");
    assert!(words.contains("(process_stopped)"), "{words}");
    // what is older than was asked for is not in it
    scene.wait_until("a second without trouble", || {
        let value = scene.run(&["report", "--since", "1s", "--json"]).json();
        value["services"][0]["restarts"] == 0 && value["services"][0]["failures"] == 0
    });
    let html = scene.run(&["report", "--html"]).exits(0).stdout;
    assert!(
        html.starts_with("<!doctype html>") && html.contains("process_stopped"),
        "{html}"
    );
    assert!(!html.contains("<script"));
    scene.run(&["report", "--since", "0s"]).exits(64);
    scene.run(&["report", "--html", "--json"]).exits(64);
}

#[test]
fn it_says_when_no_run_was_made() {
    let scene = lived("");
    let last = Utc::now() - TimeDelta::hours(3);
    let stamp = last.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    scene.edit_state(|state| {
        state["last_run"] = stamp.clone().into();
        state["interval"] = serde_json::json!({"secs": 60, "nanos": 0});
    });
    // it goes on
    let words = scene.run(&["report"]).exits(0).words();
    assert!(words.contains("no run for 3h, from "), "{words}");
    assert!(words.contains(" until now"), "{words}");
    scene.check().exits(0);
    // and it is over
    let journal = scene.journal();
    let silent = journal
        .iter()
        .find(|entry| entry["event"] == "silent")
        .unwrap();
    assert_eq!(silent["service"], "watchdog");
    let value = scene.run(&["report", "--json"]).json();
    assert_eq!(value["silent"][0]["from"], silent["since"]);
    assert_eq!(value["silent"][0]["to"], silent["time"]);
    assert_eq!(value["silent"].as_array().unwrap().len(), 1, "{value}");
    scene.check().exits(0);
    let count = |scene: &Scene| {
        let journal = scene.journal();
        journal
            .iter()
            .filter(|entry| entry["event"] == "silent")
            .count()
    };
    assert_eq!(count(&scene), 1);
}

/// Channels that want next to nothing.
const CHANNELS: &str = r#"on = ["down"]
services = ["nothing"]
[notify.file]
type = "exec"
command = ["/bin/sh", "-c", "cat >'{dir}/told.json'"]
min_severity = "critical"
[notify.night]
type = "exec"
command = ["/bin/sh", "-c", "cat >'{dir}/night.json'"]
quiet = { from = "00:00", to = "23:59", zone = "utc" }
"#;

#[test]
fn it_is_sent_to_everybody_whatever_else_they_want() {
    let scene = lived(&format!("{MAIL}{CHANNELS}"));
    assert_eq!(scene.mails().len(), 0);
    let said = scene.run(&["report", "--send"]).exits(0).stdout;
    assert!(
        said.contains("mail: sent\n") && said.contains("file: sent\n"),
        "{said}"
    );
    let mails = scene.mails();
    let mail = mails.last().unwrap();
    let subject = mail.header("Subject").unwrap_or_default();
    assert!(subject.ends_with("watchdog report"), "{subject}");
    assert_eq!(
        mail.header("X-Watchdog-Event").unwrap_or_default(),
        "report"
    );
    assert!(
        mail.body.contains("bot: 2 restarts, 2 failures"),
        "{}",
        mail.body
    );
    let told: serde_json::Value = serde_json::from_str(&scene.read("told.json")).unwrap();
    assert_eq!(told["severity"], "info");
    assert_eq!(told["alerts"][0]["event"], "report");
    assert!(
        told["text"].as_str().unwrap().contains("no trouble")
            || told["text"].as_str().unwrap().contains("feed: 1 restart")
    );
    // the hours of a channel hold for it
    let is_quiet = said.contains("night: held back by quiet or max_per_hour");
    assert!(is_quiet != scene.has("night.json"), "{said}");
    // once, and not again by the next run
    scene.check().exits(0);
    assert_eq!(scene.mails().len(), 1);
    let journal = scene.journal();
    assert!(journal.iter().any(|entry| entry["event"] == "mail_sent"));
}

#[test]
fn a_channel_that_is_dead_says_nothing_of_the_others_and_where_nobody_has_it_it_has_failed() {
    let hooks = Hooks::new();
    let refuse = || {
        let no = Answer::Say(401, "", String::new());
        hooks.answer(&[no.clone(), no.clone(), no]);
    };
    let refusing = format!("[notify.g]\non = [\"down\"]\n{}", hooks.keys("discord"));
    let command = r#"[notify.h]
type = "exec"
on = ["down"]
command = ["/bin/sh", "-c", "cat >/dev/null; exit $(cat '{dir}/code')"]
"#;
    refuse();
    let scene = lived(&format!("{MAIL}on = [\"down\"]\n{refusing}{command}"));
    scene.write("code", "0");
    // that one is dead is known from this call on
    let said = scene.run(&["report", "--send"]).exits(0).stdout;
    assert_eq!(
        said,
        "mail: sent\ng: could not be sent yet; the next run tries again\nh: sent\n"
    );
    // and is told by the next run
    let run = scene.run(&["check", "--json"]).exits(0).json();
    assert_eq!(run["notify"]["h"], json!({"sent": 1, "queued": 0}));
    for (channel, said) in [
        (
            &*refusing,
            "g: could not be sent yet; the next run tries again\n",
        ),
        (command, "h: refused; `watchdog history` says why\n"),
    ] {
        refuse();
        let scene = lived(channel);
        scene.write("code", "65");
        assert_eq!(scene.run(&["report", "--send"]).exits(1).stdout, said);
        scene.run(&["report", "--send", "--json"]).exits(1);
    }
}

#[test]
fn where_a_channel_is_found_dead_the_run_says_of_the_others_that_they_have_their_messages() {
    let hooks = Hooks::new();
    hooks.answer(&[Answer::Say(401, "", String::new())]);
    let down = render(&[&Service::new("bot").watched()]);
    let scene = Scene::with(&format!(
        "[notify.dead]\n{}[notify.ok]\ntype = \"exec\"\ncommand = [\"/bin/true\"]\n{down}",
        hooks.keys("slack")
    ));
    let words = scene.run(&["check"]).exits(2).words();
    assert!(words.contains("ok: 1 sent"), "{words}");
    assert!(!words.contains("ok: 1 could not be sent yet"), "{words}");
    assert!(words.contains("dead: 1 could not be sent yet"), "{words}");
}

#[test]
fn without_a_channel_or_a_journal_it_says_so() {
    let scene = Scene::of(&[&Service::new("bot")]);
    let words = scene.run(&["report"]).exits(0).words();
    assert!(words.contains("1 service in 1d: no trouble"), "{words}");
    assert!(words.contains("the journal is empty"), "{words}");
    let said = scene.run(&["report", "--send"]).exits(1).stderr;
    assert!(said.contains("there is no channel to send it on"), "{said}");
    assert!(!scene.has("state"));
}
