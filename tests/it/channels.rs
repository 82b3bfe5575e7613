//! Channels beside mail: what each answer of a server comes to, on each of them, over several runs.

use std::fs;
use std::net::TcpStream;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::scene::hooks::{Answer, Hooks};
use crate::scene::{Outcome, Scene, Service, free_port, render, wait_until};

const KINDS: [&str; 9] = [
    "webhook",
    "discord",
    "telegram",
    "slack",
    "ntfy",
    "gotify",
    "pushover",
    "pagerduty",
    "teams",
];

/// The kinds in whose order of messages nothing lies: a copy or a later one is no harm.
fn unordered() -> impl Iterator<Item = &'static str> {
    KINDS.into_iter().filter(|kind| *kind != "pagerduty")
}

/// A scene with a service that is down, and a channel of this type.
fn scene_of(kind: &str, hooks: &Hooks) -> Scene {
    let scene = Scene::new();
    configure(&scene, kind, hooks, "");
    scene
}

fn configure(scene: &Scene, kind: &str, hooks: &Hooks, more: &str) {
    let down = Service::new("alpha").watched();
    let keys = hooks.keys(kind);
    scene.config(&format!(
        "[notify.phone]\n{keys}{more}\n{}",
        render(&[&down])
    ));
}

fn phone(outcome: &Outcome) -> (u64, u64) {
    let json = outcome.json();
    let count = |key: &str| json["notify"]["phone"][key].as_u64().unwrap();
    (count("sent"), count("queued"))
}

/// A text in one line.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn say(status: u16) -> Answer {
    Answer::Say(status, "", format!("{{\"message\":\"no {status}\"}}"))
}

/// Makes the time until which the server is left alone be over.
fn end_hold(scene: &Scene) {
    scene.edit_state(|state| {
        let hold = &mut state["channels"]["phone"]["hold"];
        assert!(hold.is_object(), "{hold}");
        hold["since"] = json!("2026-01-01T00:00:00Z");
    });
}

#[test]
fn a_message_arrives_once_on_each_kind_of_channel_and_is_what_the_service_takes() {
    for kind in KINDS {
        let hooks = Hooks::new();
        let scene = scene_of(kind, &hooks);
        assert_eq!(phone(&scene.check().exits(2)), (1, 0), "{kind}");
        assert_eq!(phone(&scene.check().exits(2)), (0, 0), "{kind}");
        let got = hooks.got();
        assert_eq!(got.len(), 1, "{kind}: {got:?}");
        assert!(got[0].body.contains("alpha"), "{kind}");
        assert_eq!(scene.outbox(), 0, "{kind}");
        let events: Vec<_> = (scene.journal().into_iter())
            .filter(|entry| entry["event"] == "alert_sent" && entry["channel"] == "phone")
            .collect();
        assert_eq!(events.len(), 1, "{kind}");
    }
}

#[test]
fn a_server_that_is_not_there_is_asked_by_every_run() {
    for kind in KINDS {
        let hooks = Hooks::new();
        let gone = Hooks::absent();
        let scene = scene_of(kind, &gone);
        assert_eq!(phone(&scene.check().exits(2)), (0, 1), "{kind}");
        assert_eq!(phone(&scene.check().exits(2)), (0, 1), "{kind}");
        configure(&scene, kind, &hooks, "");
        assert_eq!(phone(&scene.check().exits(2)), (1, 0), "{kind}");
        assert_eq!(hooks.got().len(), 1, "{kind}");
    }
}

#[test]
fn one_that_wants_to_be_left_alone_is_until_its_time_is_over() {
    let bodies = [
        ("Retry-After: 60\r\n", "slow down".to_owned()),
        (
            "",
            json!({"message": "rate limited", "retry_after": 60.5, "global": false}).to_string(),
        ),
        (
            "",
            json!({"ok": false, "error_code": 429, "parameters": {"retry_after": 60}}).to_string(),
        ),
    ];
    for kind in KINDS {
        for (status, (header, body)) in [429, 503, 429].into_iter().zip(&bodies) {
            let hooks = Hooks::new();
            let scene = scene_of(kind, &hooks);
            hooks.answer(&[Answer::Say(status, header, body.clone())]);
            assert_eq!(phone(&scene.check().exits(2)), (0, 1), "{kind}");
            assert_eq!(phone(&scene.check().exits(2)), (0, 1), "{kind}");
            assert_eq!(hooks.got().len(), 1, "{kind}: asked too early");
            // not even for another config
            configure(&scene, kind, &hooks, "timeout = \"11s\"");
            assert_eq!(phone(&scene.check().exits(2)), (0, 1), "{kind}");
            end_hold(&scene);
            assert_eq!(phone(&scene.check().exits(2)), (1, 0), "{kind}");
            assert_eq!(hooks.got().len(), 2, "{kind}");
            assert!(
                scene.state()["channels"]["phone"]["hold"].is_null(),
                "{kind}"
            );
        }
    }
}

#[test]
fn a_server_in_trouble_that_names_no_time_is_asked_by_every_run() {
    for kind in KINDS {
        for status in [408, 425, 429, 500, 502, 503, 504] {
            let hooks = Hooks::new();
            let scene = scene_of(kind, &hooks);
            hooks.answer(&[say(status)]);
            assert_eq!(phone(&scene.check().exits(2)), (0, 1), "{kind} {status}");
            assert_eq!(phone(&scene.check().exits(2)), (1, 0), "{kind} {status}");
        }
    }
}

#[test]
fn each_try_that_did_not_hand_a_message_over_is_counted() {
    let hooks = Hooks::new();
    let scene = scene_of("webhook", &hooks);
    for tries in 1..=6 {
        hooks.answer(&[say(500)]);
        assert_eq!(phone(&scene.check().exits(2)), (0, 1));
        let metrics = scene.run(&["metrics"]).exits(0).stdout;
        let counter = format!(
            "watchdog_notifications_total{{channel=\"phone\",outcome=\"deferred\"}} {tries}\n"
        );
        assert!(metrics.contains(&counter), "{tries}: {metrics}");
    }
    // the journal has the first, the second and the fourth
    let journal = scene.journal().into_iter();
    let deferred = journal.filter(|entry| entry["event"] == "alert_deferred");
    assert_eq!(deferred.count(), 3);
}

#[test]
fn a_url_that_is_no_more_than_a_scheme_and_a_host_is_shown() {
    let scene = Scene::new();
    let down = Service::new("alpha").watched();
    for (keys, said) in [
        (
            "type = \"ntfy\"\ntopic = \"CANARY1\"\nurl = \"http://127.0.0.1:1\"",
            "http://127.0.0.1:1 refused the connection",
        ),
        (
            "type = \"redis\"\nurl = \"redis://127.0.0.1:1\"",
            "redis://127.0.0.1:1",
        ),
        (
            "type = \"redis\"\nurl = \"unix:///nonexistent/r.sock\"",
            "unix:///nonexistent/r.sock",
        ),
    ] {
        scene.config(&format!("[notify.phone]\n{keys}\n{}", render(&[&down])));
        let shown = scene.run(&["check"]).exits(2).stderr;
        assert!(shown.contains(said) && !shown.contains("***"), "{shown}");
    }
}

#[test]
#[ignore = "needs openssl"]
fn a_certificate_of_another_authority_names_ca_file_only_where_there_is_one() {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/real_smtp/certificates.sh"
    );
    let down = Service::new("alpha").watched();
    let scene = Scene::new();
    let made = Command::new("sh").arg(script).arg(scene.path("")).output();
    assert!(made.unwrap().status.success());
    for name in ["good", "own"] {
        let port = free_port();
        let mut server = Command::new("openssl")
            .args(["s_server", "-quiet", "-accept", &port.to_string()])
            .args(["-cert", &format!("{name}.pem")])
            .args(["-key", &format!("{name}.key")])
            .current_dir(scene.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("it listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        let said = ["slack", "webhook"].map(|kind| {
            let url = format!("https://localhost:{port}/CANARY1");
            scene.config(&format!(
                "[notify.phone]\ntype = \"{kind}\"\nurl = \"{url}\"\n{}",
                render(&[&down])
            ));
            scene.run(&["test-notify"]).exits(1).words()
        });
        server.kill().unwrap();
        server.wait().unwrap();
        let what_to_do = [
            "in the system's store (update-ca-certificates)",
            "that an authority has signed",
            "install ca-certificates",
        ];
        assert!(what_to_do.iter().any(|it| said[0].contains(it)), "{said:?}");
        assert!(!said[0].contains("ca_file"), "{said:?}");
        assert!(said[1].contains("set ca_file"), "{said:?}");
    }
}

#[test]
fn what_breaks_a_limit_is_sent_again_at_once_as_a_short_text() {
    for kind in KINDS {
        for status in [400, 413, 422] {
            let hooks = Hooks::new();
            let scene = scene_of(kind, &hooks);
            hooks.answer(&[say(status)]);
            assert_eq!(phone(&scene.check().exits(2)), (1, 0), "{kind} {status}");
            let got = hooks.got();
            assert_eq!(got.len(), 2, "{kind} {status}");
            assert!(got[1].body.len() < got[0].body.len(), "{kind} {status}");
            assert!(got[1].body.contains("alpha"), "{kind} {status}");
            assert_eq!(got[0].header("webhook-id"), got[1].header("webhook-id"));
        }
    }
}

#[test]
fn what_is_refused_in_short_as_well_waits_and_the_others_go_on() {
    for kind in unordered() {
        let hooks = Hooks::new();
        let scene = scene_of(kind, &hooks);
        hooks.answer(&[say(400), say(400)]);
        assert_eq!(phone(&scene.check().exits(2)), (0, 1), "{kind}");
        assert_eq!(phone(&scene.check().exits(2)), (0, 1), "{kind}");
        assert_eq!(hooks.got().len(), 2, "{kind}: asked too early");
        let said = scene.journal().last().unwrap()["message"].to_string();
        assert!(
            said.contains("400") && said.contains("once an hour"),
            "{said}"
        );
        // another message is not held up
        let (one, two) = (
            Service::new("alpha").watched(),
            Service::new("beta").watched(),
        );
        scene.config(&format!(
            "[notify.phone]\n{}\n{}",
            hooks.keys(kind),
            render(&[&one, &two])
        ));
        assert_eq!(phone(&scene.check().exits(2)), (1, 1), "{kind}");
        // and a changed table ends the wait
        let keys = hooks.keys(kind);
        scene.config(&format!(
            "[notify.phone]\n{keys}timeout = \"11s\"\n{}",
            render(&[&one, &two])
        ));
        assert_eq!(phone(&scene.check().exits(2)), (1, 0), "{kind}");
    }
}

#[test]
fn one_that_refuses_is_left_alone_for_an_hour_or_until_its_table_changes() {
    for kind in KINDS {
        for status in [301, 401, 403, 404, 405, 410] {
            let hooks = Hooks::new();
            let scene = scene_of(kind, &hooks);
            hooks.answer(&[say(status)]);
            assert_eq!(phone(&scene.check().exits(2)), (0, 1), "{kind} {status}");
            assert_eq!(phone(&scene.check().exits(2)), (0, 1), "{kind} {status}");
            assert_eq!(hooks.got().len(), 1, "{kind} {status}: asked too early");
            if status == 401 {
                end_hold(&scene);
            } else {
                configure(&scene, kind, &hooks, "timeout = \"11s\"");
            }
            assert_eq!(phone(&scene.check().exits(2)), (1, 0), "{kind} {status}");
        }
    }
}

#[test]
fn a_changed_secret_ends_the_wait_as_well() {
    let hooks = Hooks::new();
    let scene = Scene::new();
    let down = Service::new("alpha").watched();
    scene.config(&format!(
        "[notify.phone]\ntype = \"slack\"\nurl_file = \"url\"\n{}",
        render(&[&down])
    ));
    let write = |path: &str| {
        scene.write_private("url", format!("http://127.0.0.1:{}{path}\n", hooks.port));
    };
    write("/nowhere");
    for _ in 0..2 {
        assert_eq!(phone(&scene.check().exits(2)), (0, 1));
    }
    assert_eq!(hooks.got().len(), 1);
    write("/services/T/B/X");
    assert_eq!(phone(&scene.check().exits(2)), (1, 0));
}

#[test]
fn a_success_that_the_service_does_not_say_is_none() {
    for kind in KINDS
        .into_iter()
        .filter(|kind| !matches!(*kind, "webhook" | "teams"))
    {
        for body in [
            "",
            "<html>sign in</html>",
            "invalid_token",
            "{\"ok\":false}",
        ] {
            let hooks = Hooks::new();
            let scene = scene_of(kind, &hooks);
            hooks.answer(&[Answer::Say(200, "", body.to_owned())]);
            assert_eq!(phone(&scene.check().exits(2)), (0, 1), "{kind} {body}");
        }
    }
}

#[test]
fn without_a_whole_answer_the_same_message_comes_again_at_growing_intervals() {
    for kind in unordered() {
        let hooks = Hooks::new();
        let scene = scene_of(kind, &hooks);
        hooks.answer(&[Answer::Close]);
        assert_eq!(phone(&scene.check().exits(2)), (0, 1), "{kind}");
        assert_eq!(phone(&scene.check().exits(2)), (0, 1), "{kind}");
        assert_eq!(hooks.got().len(), 1, "{kind}: it may be there");
        let said = scene.journal().last().unwrap()["message"].to_string();
        assert!(said.contains("perhaps not delivered"), "{said}");
        // as if it had been long ago
        let dir = scene.path("state/outbox");
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap();
            let mut delivery: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(delivery["uncertain"], 1);
            delivery["last_uncertain"] = json!("2026-01-01T00:00:00Z");
            fs::write(entry.path(), delivery.to_string()).unwrap();
        }
        assert_eq!(phone(&scene.check().exits(2)), (1, 0), "{kind}");
        let got = hooks.got();
        assert_eq!(got[0].body, got[1].body, "{kind}");
    }
}

#[test]
fn that_a_channel_refuses_is_told_on_the_others_once() {
    let hooks = Hooks::new();
    let scene = Scene::new();
    let config = |keys: &str| {
        let down = Service::new("alpha").watched();
        scene.config(&format!(
            "[mail]\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]\ndirectory = \"mails\"\n[notify.phone]\n{}{keys}{}",
            hooks.keys("slack"),
            render(&[&down])
        ));
    };
    config("");
    let refusals = vec![say(403); 9];
    hooks.answer(&refusals);
    scene.check().exits(2);
    assert_eq!(scene.mails().len(), 1);
    for run in 0..3 {
        scene.check().exits(2);
        assert_eq!(scene.mails().len(), 2, "run {run}");
        end_hold(&scene);
    }
    let mails = scene.mails();
    assert_eq!(mails[1].header("X-Watchdog-Event").unwrap(), "watchdog");
    assert!(
        unwrapped(&mails[1].body).contains("takes no messages since"),
        "{}",
        mails[1].body
    );
    assert!(!mails[1].body.contains("CANARY"));
    // it takes them again, and that is told as well
    hooks.answer(&[]);
    scene.check().exits(2);
    scene.check().exits(2);
    let mails = scene.mails();
    assert_eq!(mails.len(), 3);
    assert!(
        unwrapped(&mails[2].body).contains("takes messages again"),
        "{}",
        mails[2].body
    );
    scene.check().exits(2);
    assert_eq!(scene.mails().len(), 3);
}

#[test]
fn that_a_channel_is_not_reached_for_long_is_told_on_the_others_once() {
    let scene = Scene::new();
    let down = Service::new("alpha").watched();
    scene.config(&format!(
        "[mail]\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]\ndirectory = \"mails\"\n[notify.phone]\n{}{}",
        Hooks::absent().keys("slack"),
        render(&[&down])
    ));
    scene.check().exits(2);
    scene.check().exits(2);
    assert_eq!(scene.mails().len(), 1, "not yet");
    scene.edit_state(|state| {
        let failing = &mut state["channels"]["phone"]["failing"];
        assert!(failing.is_object(), "{failing}");
        failing["since"] = json!("2026-01-01T00:00:00Z");
    });
    for run in 0..3 {
        scene.check().exits(2);
        assert_eq!(
            scene.mails().len(),
            if run == 0 { 1 } else { 2 },
            "run {run}"
        );
    }
    let said = unwrapped(&scene.mails()[1].body);
    assert!(said.contains("takes no messages since"), "{said}");
    assert!(!said.contains("CANARY"), "{said}");
}

#[test]
fn a_channel_is_told_only_of_the_services_and_severities_of_its_table() {
    for (keys, is_told) in [
        ("services = [\"alp*\"]", true),
        ("services = [\"beta\"]", false),
        ("min_severity = \"critical\"", true),
        ("on = [\"restarted\"]", false),
    ] {
        let hooks = Hooks::new();
        let scene = Scene::new();
        configure(&scene, "slack", &hooks, keys);
        assert_eq!(
            phone(&scene.check().exits(2)),
            (u64::from(is_told), 0),
            "{keys}"
        );
    }
}

#[test]
fn messages_of_an_incident_reply_to_its_first_in_telegram() {
    let hooks = Hooks::new();
    let scene = Scene::new();
    configure(&scene, "telegram", &hooks, "remind_every = \"1ms\"");
    scene.check().exits(2);
    scene.check().exits(2);
    let got = hooks.got();
    assert_eq!(got.len(), 2);
    assert!(got[0].json()["reply_parameters"].is_null());
    assert_eq!(got[1].json()["reply_parameters"]["message_id"], 77);
}

#[test]
fn an_incident_of_pagerduty_is_opened_and_closed_in_order_whatever_its_server_does() {
    for answers in [
        vec![Answer::Close],
        vec![say(400), say(400)],
        vec![say(503)],
    ] {
        let hooks = Hooks::new();
        let scene = Scene::new();
        let (one, two) = (
            Service::new("alpha").watched(),
            Service::new("beta").watched(),
        );
        let keys = hooks.keys("pagerduty");
        let configure = |more: &str| {
            scene.config(&format!(
                "[notify.phone]\n{keys}{more}{}",
                render(&[&one, &two])
            ));
        };
        configure("");
        // the first event is taken, and the second is not
        let taken = json!({"status": "success", "message": "Event processed"}).to_string();
        hooks.answer(&[vec![Answer::Say(202, "", taken)], answers.clone()].concat());
        assert_eq!(phone(&scene.check().exits(2)), (0, 1), "{answers:?}");
        let said = scene.journal().last().unwrap()["message"].to_string();
        assert!(said.contains("pagerduty, from event 2"), "{said}");
        let held = matches!(answers[0], Answer::Say(400, ..));
        if held {
            assert_eq!(phone(&scene.check().exits(2)), (0, 1));
            assert_eq!(hooks.got().len(), 3, "asked too early");
            configure("timeout = \"11s\"\n");
        }
        assert_eq!(phone(&scene.check().exits(2)), (1, 0), "{answers:?}");
        // of the first event there is one only, and the second is sent until it is taken
        let keys: Vec<String> = (hooks.got().iter())
            .map(|got| got.json()["dedup_key"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(keys.iter().filter(|key| **key == keys[0]).count(), 1);
        assert!(keys[2..].iter().all(|key| *key == keys[1]), "{keys:?}");
    }
}

#[test]
fn an_event_that_pagerduty_calls_invalid_is_kept_and_holds_up_its_own_incident_alone() {
    let hooks = Hooks::new();
    let scene = Scene::new();
    let (one, two) = (
        Service::new("alpha").watched(),
        Service::new("beta").watched(),
    );
    let keys = hooks.keys("pagerduty");
    scene.config(&format!("[notify.phone]\n{keys}{}", render(&[&one, &two])));
    let invalid = |error: &str| {
        let body = json!({"status": "invalid event", "message": "Event object is invalid", "errors": [error]});
        Answer::Say(400, "", body.to_string())
    };
    let bad = invalid("'payload.summary' is missing or blank");
    hooks.answer(&[bad.clone(), bad.clone()]);
    // the first is held, and the second goes on at once
    assert_eq!(phone(&scene.check().exits(2)), (1, 1));
    let asked = || -> Vec<String> {
        let got = hooks.got().into_iter().map(|got| got.json());
        got.map(|it| {
            let key = it["dedup_key"].as_str().unwrap().to_owned();
            let service = key.split(' ').nth(2).unwrap_or_default().to_owned();
            format!("{} {service}", it["event_action"].as_str().unwrap())
        })
        .collect()
    };
    assert_eq!(asked(), ["trigger alpha", "trigger alpha", "trigger beta"]);
    let told: Vec<(String, String)> = (scene.journal().iter())
        .filter(|entry| entry["channel"] == "phone")
        .map(|entry| (entry["event"].to_string(), entry["message"].to_string()))
        .collect();
    assert!(told[0].0.contains("alert_deferred"), "{told:?}");
    assert!(
        told[0].1.contains("pagerduty, event 1 not delivered yet: ")
            && told[0].1.contains("payload.summary")
            && told[0].1.contains("it is tried once an hour"),
        "{told:?}"
    );
    assert!(told[1].0.contains("alert_sent"), "{told:?}");
    // both recover: what is of the incident that is held waits behind it
    scene.start("alpha", &["pid_file=alpha.pid"]);
    scene.start("beta", &["pid_file=beta.pid"]);
    assert_eq!(phone(&scene.check().exits(0)), (1, 2));
    assert_eq!(asked()[3..], ["resolve beta"]);
    let end_hold = || {
        for entry in fs::read_dir(scene.path("state/outbox")).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let mut kept: serde_json::Value = serde_json::from_str(&text).unwrap();
            if kept["hold"].is_object() {
                kept["hold"]["since"] = json!("2026-01-01T00:00:00Z");
            }
            fs::write(&path, kept.to_string()).unwrap();
        }
    };
    assert_eq!(phone(&scene.check().exits(0)), (0, 2));
    assert_eq!(asked().len(), 4, "asked too early");
    // an hour later it is not taken either, and then it is
    hooks.answer(&[bad.clone(), bad]);
    end_hold();
    assert_eq!(phone(&scene.check().exits(0)), (0, 2));
    assert_eq!(asked()[4..], ["trigger alpha", "trigger alpha"]);
    end_hold();
    assert_eq!(phone(&scene.check().exits(0)), (2, 0));
    assert_eq!(asked()[6..], ["trigger alpha", "resolve alpha"]);
    assert_eq!(scene.outbox(), 0);
    // a key that is wrong is no fault of the event: all of it is kept
    let other = Scene::new();
    other.config(&format!("[notify.phone]\n{keys}{}", render(&[&one, &two])));
    hooks.answer(&[
        invalid("Invalid routing key"),
        invalid("Invalid routing key"),
    ]);
    assert_eq!(phone(&other.check().exits(2)), (0, 1));
    assert_eq!(phone(&other.check().exits(2)), (0, 1));
    assert_eq!(hooks.got().len(), 10, "asked too early");
    other.config(&format!(
        "[notify.phone]\n{keys}timeout = \"11s\"\n{}",
        render(&[&one, &two])
    ));
    assert_eq!(phone(&other.check().exits(2)), (1, 0));
    assert_eq!(hooks.got().len(), 12);
}

#[test]
fn what_a_log_says_mentions_nobody_and_is_no_markup() {
    for kind in KINDS {
        let hooks = Hooks::new();
        let scene = Scene::new();
        let keys = hooks.keys(kind);
        scene.write(
            "a.log",
            "x @everyone @here <!channel> <@U123> ``` [a](https://evil.example) </pre></b> \u{1b}[31m \u{202e}gnp \r X-Evil: 1 @everyone @here <!channel> <@U123> <https://evil.example|x> #general /leave ERROR\n",
        );
        let service = Service::logs("alpha").log("path = \"a.log\"\nforbid = ['ERROR']");
        scene.config(&format!("[notify.phone]\n{keys}\n{}", render(&[&service])));
        let told = phone(&scene.check());
        assert_eq!(told, (1, 0), "{kind}");
        let body = hooks.got()[0].body.clone();
        assert!(body.contains("everyone"), "{kind}: {body}");
        // nothing steers a terminal or turns a line around, and no line end of the log is one of a header
        for steering in ["\u{1b}", "\\u001b", "\u{202e}", "\\u202e", "\r", "\\r"] {
            assert!(!body.contains(steering), "{kind}: {steering:?}: {body}");
        }
        let names = ["x-evil", "set-cookie"];
        assert!(
            names
                .iter()
                .all(|name| hooks.got()[0].header(name).is_none()),
            "{kind}"
        );
        match kind {
            // JSON for programs: it is what was written
            "webhook" => {}
            "discord" => assert_eq!(body.matches("```").count(), 2, "{body}"),
            // all of it is in entities of code: the table tests see to it
            "telegram" => assert!(body.contains("\"pre\""), "{body}"),
            "slack" => {
                for markup in ["<!channel>", "<@U123>", "<https:", "</pre>"] {
                    assert!(!body.contains(markup), "{markup}: {body}");
                }
            }
            _ => {
                for live in ["://", "@everyone", "@here", "@U123", "#general", " /leave"] {
                    assert!(!body.contains(live), "{kind}: {live}: {body}");
                }
                assert!(!body.contains("\"TextBlock\""), "{body}");
            }
        }
    }
}

#[test]
fn f76_no_secret_of_a_channel_is_seen_anywhere() {
    for kind in KINDS {
        // what is known to be secret is all of it, as the table has it
        let leads_to = match kind {
            "gotify" => "Location: http://127.0.0.1/x/CANARY1.token\r\n",
            "pushover" => "Location: http://127.0.0.1/x/CANARY1aaaaaaaaaaaaaaaaaaaaaaa\r\n",
            "pagerduty" => "Location: http://127.0.0.1/x/CANARY1aaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
            _ => "Location: http://127.0.0.1/x/CANARY1\r\n",
        };
        for answers in [
            vec![],
            vec![say(401)],
            vec![Answer::Close],
            // a server that repeats all that it was sent
            vec![Answer::Repeat(403)],
            vec![Answer::Say(302, leads_to, String::new())],
        ] {
            let hooks = Hooks::new();
            let scene = Scene::new();
            configure(
                &scene,
                kind,
                &hooks,
                "\n[logging]\nfile = \"own.log\"\nlevel = \"trace\"\n",
            );
            hooks.answer(&answers);
            let mut seen = String::new();
            for args in [
                &["check", "-vvv"][..],
                &["check", "--json"],
                &["status", "--json"],
                &["why", "alpha"],
                &["history", "--json"],
                &["validate"],
                &["show-config"],
                &["test-notify"],
            ] {
                seen.push_str(&scene.run(args).text());
            }
            for name in [
                "own.log",
                "state/state.json",
                "state/state.json.bak",
                "state/journal.jsonl",
            ] {
                seen.push_str(&scene.read(name));
            }
            for entry in fs::read_dir(scene.path("state/outbox"))
                .into_iter()
                .flatten()
                .flatten()
            {
                seen.push_str(&fs::read_to_string(entry.path()).unwrap());
            }
            assert!(!hooks.got().is_empty());
            let place = seen.find("CANARY");
            let around = place.map(|at| {
                seen[at.saturating_sub(200)..]
                    .chars()
                    .take(300)
                    .collect::<String>()
            });
            assert_eq!(around, None, "{kind} {answers:?}");
        }
    }
}

#[test]
fn test_notify_tries_each_channel_and_says_how_it_went() {
    for kind in KINDS {
        let hooks = Hooks::new();
        let scene = scene_of(kind, &hooks);
        let outcome = scene.run(&["test-notify"]).exits(0);
        let text = outcome.text();
        assert!(text.starts_with("phone: a message "), "{text}");
        assert!(
            text.contains("127.0.0.1") && text.contains(": sent\n"),
            "{text}"
        );
        assert!(!text.contains("CANARY"), "{text}");
        // what a test opens it closes
        let requests = if kind == "pagerduty" { 2 } else { 1 };
        assert_eq!(hooks.got().len(), requests, "{kind}");
        assert!(
            !scene.has("state/state.json") && scene.outbox() == 0,
            "nothing is kept"
        );
        hooks.answer(&[say(401)]);
        let text = scene.run(&["test-notify", "phone"]).exits(1).words();
        assert!(text.contains("not sent: http://127.0.0.1"), "{text}");
        assert!(text.contains("401 Unauthorized"), "{text}");
    }
}

#[test]
fn test_notify_tries_those_that_are_named_and_knows_them() {
    let hooks = Hooks::new();
    let scene = Scene::new();
    scene.config(&format!(
        "[mail]\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]\ndirectory = \"mails\"\n[notify.phone]\n{}{}",
        hooks.keys("slack"),
        render(&[&Service::new("alpha").watched()])
    ));
    scene.run(&["test-notify", "mail"]).exits(0);
    assert_eq!((scene.mails().len(), hooks.got().len()), (1, 0));
    scene.run(&["test-notify"]).exits(0);
    assert_eq!((scene.mails().len(), hooks.got().len()), (2, 1));
    let outcome = scene.run(&["test-notify", "fone"]).exits(64);
    assert!(
        outcome.text().contains("did you mean `phone`?"),
        "{}",
        outcome.text()
    );
    let none = Scene::of(&[&Service::new("alpha").watched()]);
    let outcome = none.run(&["test-notify"]).exits(1);
    assert!(
        outcome.text().contains("there is no channel to test"),
        "{}",
        outcome.text()
    );
}

/// What Telegram answers for a group that has become a supergroup.
fn moved() -> Answer {
    let body = json!({
        "ok": false,
        "error_code": 400,
        "description": "Bad Request: group chat was upgraded to a supergroup chat",
        "parameters": {"migrate_to_chat_id": -100_123},
    });
    Answer::Say(400, "", body.to_string())
}

#[test]
fn a_group_of_telegram_that_became_a_supergroup_is_followed_and_that_is_said() {
    let hooks = Hooks::new();
    let scene = Scene::new();
    configure(&scene, "telegram", &hooks, "remind_every = \"1ms\"");
    hooks.answer(&[moved()]);
    assert_eq!(phone(&scene.check().exits(2)), (1, 0));
    let chats = || -> Vec<String> {
        let got = hooks.got().into_iter();
        got.map(|got| got.json()["chat_id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(chats(), ["-100", "-100123"]);
    // the next run asks the old one no more, and says what to do
    assert_eq!(phone(&scene.check().exits(2)), (1, 0));
    assert_eq!(chats(), ["-100", "-100123", "-100123"]);
    let text = |number: usize| unwrapped(hooks.got()[number].json()["text"].as_str().unwrap());
    let said = text(2);
    assert!(said.contains("write chat = \"-100123\""), "{said}");
    assert_eq!(phone(&scene.check().exits(2)), (1, 0));
    let said = text(3);
    assert!(!said.contains("has become"), "{said}");
    // another chat in the config is the one that is meant
    let config = scene.read("watchdog.toml").replace("\"-100\"", "\"-200\"");
    scene.write("watchdog.toml", config);
    scene.check().exits(2);
    assert_eq!(chats()[4], "-200");
}

#[test]
fn a_chat_of_telegram_that_is_said_to_have_become_itself_is_no_news() {
    let hooks = Hooks::new();
    let scene = Scene::new();
    configure(&scene, "telegram", &hooks, "remind_every = \"1ms\"");
    // the second answer is about the chat that it has become
    hooks.answer(&[moved(), moved(), moved(), moved()]);
    for _ in 0..4 {
        scene.check().exits(2);
    }
    let told: Vec<String> = (hooks.got().iter())
        .map(|got| unwrapped(got.json()["text"].as_str().unwrap()))
        .collect();
    assert!(
        !told.concat().contains("-100123 of the channel"),
        "{told:?}"
    );
    let news = told.iter().filter(|text| text.contains("has become"));
    assert_eq!(news.count(), 1, "{told:?}");
}

#[test]
fn that_a_channel_refuses_is_told_beside_what_the_same_run_found() {
    let (dead, other) = (Hooks::new(), Hooks::new());
    let scene = Scene::new();
    let service = Service::new("alpha");
    scene.config(&format!(
        "[notify.dead]\n{}\n[notify.other]\n{}\n{}",
        dead.keys("slack"),
        other.keys("webhook"),
        render(&[&service.watched()])
    ));
    scene.start("alpha", &["pid_file=alpha.pid"]);
    scene.check().exits(0);
    scene.write("state/state.json", "{");
    dead.answer(&[say(401)]);
    other.answer(&[say(503)]);
    scene.check().exits(0);
    for _ in 0..2 {
        scene.check().exits(0);
    }
    let told: String = other.got().iter().map(|got| got.body.clone()).collect();
    assert!(told.contains("state.json.corrupt-"), "{told}");
    assert!(told.contains("dead"), "{told}");
}

#[test]
fn in_a_new_chat_of_telegram_nothing_replies_to_a_message_of_the_old_one() {
    let hooks = Hooks::new();
    let scene = Scene::new();
    configure(&scene, "telegram", &hooks, "remind_every = \"1ms\"");
    let taken = |id: i32| {
        let body = json!({"ok": true, "result": {"message_id": id}});
        Answer::Say(200, "", body.to_string())
    };
    hooks.answer(&[taken(5), moved(), taken(9)]);
    for _ in 0..4 {
        scene.check().exits(2);
    }
    let replies: Vec<String> = hooks
        .got()
        .iter()
        .map(|got| got.json()["reply_parameters"]["message_id"].to_string())
        .collect();
    // the fourth one tells of the new chat as well
    assert_eq!(replies, ["null", "5", "null", "null", "9"]);
}
