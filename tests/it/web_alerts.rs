//! `POST /alertmanager`: what an Alertmanager hands in, by the rules of `[prometheus]`, and a real one that does.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::scene::{Scene, Service, free_port, render, wait_until};
use crate::web::{Answer, ask_with, events, serve};

const TOKEN: &str = "7f3b0e5c9a1d";

/// A scene with a service that runs, and a Prometheus that never answers: what is handed in counts all the same.
fn scene() -> Scene {
    let scene = Scene::new();
    config(&scene, "");
    scene.start("bot", &["pid_file=bot.pid"]);
    scene
        .check()
        .exits(3)
        .finds("bot", "prometheus_unreachable");
    scene
}

fn config(scene: &Scene, more: &str) {
    scene.config(&format!(
        "[web]\ndir = \"{{dir}}/web\"\ntoken = \"{TOKEN}\"\n[prometheus]\nurl = \"http://127.0.0.1:{}\"\n\
         match = {{ auto_repair = \"true\" }}\nhost = \"web1\"\n{more}{}",
        free_port(),
        render(&[&Service::new("bot")])
    ));
}

/// An alert for the bot, that began to fire at a time.
fn alert(fingerprint: &str, started: DateTime<Utc>, labels: &Value) -> Value {
    let mut all = json!({ "alertname": "High", "auto_repair": "true", "service": "bot" });
    for (name, value) in labels.as_object().unwrap() {
        all[name] = value.clone();
    }
    json!({
        "status": "firing", "labels": all, "annotations": {}, "generatorURL": "http://p/",
        "startsAt": started.to_rfc3339_opts(SecondsFormat::Millis, true), "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": fingerprint,
    })
}

fn hand_in_with(scene: &Scene, token: &str, body: &str) -> Answer {
    let request = format!(
        "POST /alertmanager HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    ask_with(scene.command(&["web"]), request.as_bytes())
}

fn hand_in(scene: &Scene, alerts: &[Value]) -> Answer {
    let body = json!({
        "version": "4", "groupKey": "{}:{}", "status": "firing", "receiver": "w", "groupLabels": {},
        "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://a/", "alerts": alerts,
    });
    hand_in_with(scene, TOKEN, &body.to_string())
}

#[test]
fn an_alert_is_a_repair_once() {
    let scene = scene();
    let first = scene.last("bot");
    let high = alert("4bbe70f9d6b1b2e7", Utc::now(), &json!({}));
    hand_in(&scene, std::slice::from_ref(&high))
        .is(202)
        .says("\"queued\":1");
    hand_in(&scene, std::slice::from_ref(&high))
        .is(200)
        .says("\"already queued\":1");
    let run = scene.check().exits(1).verdict("bot", "restarted");
    assert_eq!(run.service("bot")["action"]["old_pid"], first);
    let asked = events(&scene, "requested");
    assert!(
        asked.len() == 1
            && asked[0].starts_with("bot: asked for by the alert High, by a local client at "),
        "{asked:?}"
    );
    // it goes on firing, and is handed in again, and the next one is another
    hand_in(&scene, &[high]).is(202);
    scene.check().exits(3);
    assert_eq!(events(&scene, "requested").len(), 1);
    assert_eq!(events(&scene, "request_refused"), [""; 0]);
    let later = alert("4bbe70f9d6b1b2e7", Utc::now(), &json!({}));
    hand_in(&scene, &[later]).is(202);
    scene.check().exits(1).verdict("bot", "restarted");
    // whatever others than an Alertmanager call it
    let named = alert("fp1/../x", Utc::now(), &json!({}));
    let both = [named.clone(), alert("fp2", Utc::now(), &json!({}))];
    hand_in(&scene, &both).is(202).says("\"queued\":2");
    hand_in(&scene, &[named])
        .is(200)
        .says("\"already queued\":1");
    scene.check().exits(1).verdict("bot", "restarted");
    hand_in(&scene, &[alert("", Utc::now(), &json!({}))])
        .is(400)
        .says("the fingerprint of an alert is empty");
}

#[test]
fn the_rules_of_alerts_hold_for_those_that_are_handed_in() {
    let scene = scene();
    let now = Utc::now();
    for (labels, why) in [
        (
            json!({ "instance": "web2:9100" }),
            "is another host than web1",
        ),
        (json!({ "action": "scale" }), "only alerted about"),
        (json!({ "service": "none" }), "there is no such service"),
    ] {
        hand_in(&scene, &[alert("aa", now, &labels)]).is(202);
        scene.check().exits(3).verdict("bot", "unknown");
        let refused = events(&scene, "request_refused").pop().unwrap();
        assert!(refused.contains(why), "{refused}");
    }
    let mut none = alert("ab", now, &json!({}));
    none["labels"].as_object_mut().unwrap().remove("service");
    hand_in(&scene, &[none]).is(202);
    let run = scene.check().exits(3);
    assert!(
        run.stderr
            .contains("the alert High is for no service: it has no label `service` (asked for by "),
        "{run:?}"
    );
    assert!(!run.stderr.contains("watchdog is not restarted"));
    let refused = events(&scene, "request_refused").pop().unwrap();
    assert!(
        refused.contains("watchdog: the alert High is for no service: it has no label `service`"),
        "{refused}"
    );

    // what was there before a repair has not had the time to end
    let here = json!({ "instance": "web1:9100", "action": "restart" });
    hand_in(&scene, &[alert("ac", now, &here)]).is(202);
    scene.check().exits(1).verdict("bot", "restarted");
    hand_in(
        &scene,
        &[alert("ad", now - TimeDelta::minutes(1), &json!({}))],
    )
    .is(202);
    scene.check().exits(3);
    let refused = events(&scene, "request_refused").pop().unwrap();
    assert!(
        refused.contains("bot: ") && refused.contains("counts again in "),
        "{refused}"
    );

    config(&scene, "confirm = true\n");
    hand_in(&scene, &[alert("ae", Utc::now(), &json!({}))]).is(202);
    scene.check().exits(3);
    let refused = events(&scene, "request_refused").pop().unwrap();
    assert!(refused.contains("no check of its own fails"), "{refused}");
}

/// One line of what an attacker would like to have in the log, and a sequence that a terminal obeys.
const FORGED: &str = "2026-11-28T09:00:00Z [ERROR] api: forged line";

#[test]
fn a_name_that_is_no_services_forges_no_line() {
    let scene = scene();
    let name = format!("x\n{FORGED} \u{1b}[31m{}", "x".repeat(1000));
    let log = |scene: &Scene| {
        let run = scene.check().exits(3);
        let shown = scene.run(&["history"]);
        let journal = fs::read_to_string(scene.path("state/journal.jsonl")).unwrap();
        for (text, longest) in [
            (&*run.stderr, 1000),
            (&*shown.stdout, 1000),
            (&*journal, 2000),
        ] {
            assert!(text.contains("forged line"), "{text}");
            assert!(!text.contains(['\u{1b}', '\r']), "{text}");
            assert!(!text.lines().any(|line| line.starts_with(FORGED)), "{text}");
            // as long as they are without it
            assert!(text.lines().all(|line| line.len() < longest), "{text}");
        }
    };
    let high = alert("aa", Utc::now(), &json!({ "service": name }));
    hand_in(&scene, &[high]).is(202);
    log(&scene);

    // and of whoever answers requests
    scene.run(&["reset", "bot"]);
    let file = "web/requests/repair-forged line \u{1b}[31m";
    let time = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    let request = json!({ "id": "1", "service": &file["web/requests/repair-".len()..], "time": time, "from": "x" });
    scene.write(file, request.to_string());
    log(&scene);
}

#[test]
fn with_confirm_the_reason_of_a_refusal_is_that_of_the_decision() {
    let scene = scene();
    config(&scene, "confirm = true\n");
    scene.kill(scene.last("bot"));
    scene.run(&["pause", "bot"]).exits(0);
    hand_in(&scene, &[alert("aa", Utc::now(), &json!({}))]).is(202);
    scene.check().verdict("bot", "paused");
    let refused = events(&scene, "request_refused").pop().unwrap();
    assert!(refused.contains("bot: paused"), "{refused}");
}

#[test]
fn what_is_not_meant_is_answered_and_kept_out() {
    let scene = scene();
    let high = alert("aa", Utc::now(), &json!({}));
    let mut resolved = high.clone();
    resolved["status"] = "resolved".into();
    let other = alert("ab", Utc::now(), &json!({ "auto_repair": "no" }));
    hand_in(&scene, &[resolved, other])
        .is(200)
        .says("\"ignored\":1")
        .says("\"resolved\":1");
    assert!(!scene.has("web/requests"));
    hand_in_with(&scene, "wrong", "{}").is(401);
    hand_in_with(&scene, TOKEN, "{}").is(400);
    hand_in_with(&scene, TOKEN, "").is(400);
    let many: Vec<_> = (0..101)
        .map(|number| alert(&format!("{number:x}"), Utc::now(), &json!({})))
        .collect();
    hand_in(&scene, &many).is(429);
    scene.config(&format!(
        "[web]\ndir = \"{{dir}}/web\"\ntoken = \"{TOKEN}\"\n{}",
        render(&[&Service::new("bot")])
    ));
    hand_in(&scene, &[high])
        .is(404)
        .says("no `match` in [prometheus]");
}

#[test]
#[ignore = "needs Alertmanager"]
fn a_real_alertmanager_hands_in_what_fires() {
    let scene = scene();
    let first = scene.last("bot");
    let (web, port) = (serve(&scene), free_port());
    scene.write(
        "alertmanager.yml",
        format!(
            "route: {{ receiver: watchdog, group_wait: 0s, group_interval: 1s, repeat_interval: 1h, group_by: ['...'] }}\n\
             receivers:\n- name: watchdog\n  webhook_configs:\n  - url: http://{web}/alertmanager\n    http_config:\n      authorization: {{ credentials: {TOKEN} }}\n"
        ),
    );
    let mut server = Command::new("prometheus-alertmanager")
        .args([
            "--cluster.listen-address=",
            &format!("--web.listen-address=127.0.0.1:{port}"),
        ])
        .arg(format!(
            "--config.file={}",
            scene.path("alertmanager.yml").display()
        ))
        .arg(format!("--storage.path={}", scene.path("data").display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let api = format!("http://127.0.0.1:{port}");
    wait_until("an Alertmanager that is ready", || {
        Command::new("curl")
            .args(["-fsS", "-o", "/dev/null", &format!("{api}/-/ready")])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    });
    let fires = json!([{
        "labels": { "alertname": "High", "auto_repair": "true", "service": "bot", "instance": "web1:9100" },
        "startsAt": Utc::now().to_rfc3339(),
    }]);
    let mut sender = Command::new("curl")
        .args([
            "-fsS",
            "-H",
            "Content-Type: application/json",
            "-d",
            "@-",
            &format!("{api}/api/v2/alerts"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    sender
        .stdin
        .take()
        .unwrap()
        .write_all(fires.to_string().as_bytes())
        .unwrap();
    assert!(sender.wait().unwrap().success());
    wait_until("a request of the Alertmanager's", || {
        std::fs::read_dir(scene.path("web/requests")).is_ok_and(|mut names| {
            names.any(|name| {
                name.unwrap()
                    .file_name()
                    .to_string_lossy()
                    .starts_with("alert-")
            })
        })
    });
    let run = scene.check().exits(1).verdict("bot", "restarted");
    assert_eq!(run.service("bot")["action"]["old_pid"], first);
    let asked = events(&scene, "requested");
    assert!(asked[0].contains("by the alert High, "), "{asked:?}");
    let _ = server.kill();
    server.wait().unwrap();
}
