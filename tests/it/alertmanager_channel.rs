//! The channel `alertmanager`, with a real one: what goes on is shown there until it has ended, and can be silenced.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::scene::hooks::{Answer, Hooks};
use crate::scene::{Outcome, Scene, Service, free_port, render, wait_until};

/// A real one in the directory of a scene.
struct Alertmanager {
    child: Child,
    port: u16,
}

impl Alertmanager {
    fn start(scene: &Scene, port: u16) -> Self {
        scene.write(
            "alertmanager.yml",
            "route: { receiver: none }\nreceivers: [ { name: none } ]\n",
        );
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}/alertmanager.yml", scene.dir()))
            .arg(format!("--storage.path={}/alertmanager", scene.dir()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let alertmanager = Self { child, port };
        wait_until("the Alertmanager is ready", || {
            alertmanager.curl("-/ready", &[]).contains("OK")
        });
        alertmanager
    }

    fn curl(&self, path: &str, more: &[&str]) -> String {
        let output = Command::new("curl")
            .args(["-s", "--noproxy", "*"])
            .args(more)
            .arg(format!("http://127.0.0.1:{}/{path}", self.port))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// The alerts that go on.
    fn alerts(&self) -> Vec<Value> {
        serde_json::from_str(&self.curl("api/v2/alerts", &[])).unwrap()
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configure(scene: &Scene, port: u16, more: &str) {
    let service = Service::new("alpha").watched();
    scene.config(&format!(
        "[notify.am]\ntype = \"alertmanager\"\nurl = \"http://127.0.0.1:{port}\"\n{more}\n{}",
        render(&[&service])
    ));
}

fn am(outcome: &Outcome) -> (u64, u64) {
    let json = outcome.json();
    let count = |key: &str| json["notify"]["am"][key].as_u64().unwrap();
    (count("sent"), count("queued"))
}

/// What the journal has of the channel.
fn journal(scene: &Scene) -> Vec<String> {
    (scene.journal().iter())
        .filter(|entry| entry["channel"] == "am")
        .map(|entry| entry["event"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
#[ignore = "needs the package prometheus-alertmanager"]
fn what_goes_on_is_shown_until_it_has_ended_and_can_be_silenced() {
    let scene = Scene::new();
    let port = free_port();
    let alertmanager = Alertmanager::start(&scene, port);
    configure(&scene, port, "on = [\"restarted\"]");
    assert_eq!(am(&scene.check().exits(2)), (1, 0));
    let alerts = alertmanager.alerts();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    let alert = &alerts[0];
    let host = &alert["labels"]["host"];
    assert!(host.as_str().is_some_and(|it| !it.is_empty()), "{alert}");
    assert_eq!(
        alert["labels"],
        json!({
            "alertname": "WatchdogDown",
            "service": "alpha",
            "severity": "critical",
            "event": "down",
            "host": host,
        })
    );
    assert_eq!(alert["status"]["state"], "active");
    assert!(alert["annotations"]["description"] != "", "{alert}");
    // each run shows it again, and nothing new is in the journal
    assert_eq!(am(&scene.check().exits(2)), (1, 0));
    let again = alertmanager.alerts();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0]["fingerprint"], alert["fingerprint"]);
    assert_ne!(again[0]["updatedAt"], alert["updatedAt"]);
    assert_eq!(again[0]["startsAt"], alert["startsAt"]);
    assert_eq!(journal(&scene), ["alert_sent"]);

    let silence = json!({
        "matchers": [{"name": "service", "value": "alpha", "isRegex": false, "isEqual": true}],
        "startsAt": "2020-01-01T00:00:00Z",
        "endsAt": "2099-01-01T00:00:00Z",
        "createdBy": "a test",
        "comment": "at work on it",
    });
    let said = alertmanager.curl(
        "api/v2/silences",
        &[
            "-H",
            "Content-Type: application/json",
            "-d",
            &silence.to_string(),
        ],
    );
    assert!(said.contains("silenceID"), "{said}");
    scene.check().exits(2);
    wait_until("it is silenced", || {
        alertmanager.alerts()[0]["status"]["state"] == "suppressed"
    });

    // it ends with the trouble
    scene.start("alpha", &["pid_file=alpha.pid"]);
    assert_eq!(am(&scene.check().exits(0)), (1, 0));
    wait_until("it has ended", || alertmanager.alerts().is_empty());
    assert!(scene.state()["channels"]["am"]["shown"][0]["ended"].is_string());
    assert_eq!(am(&scene.check().exits(0)), (1, 0), "for some minutes");
    assert_eq!(scene.outbox(), 0);
}

#[test]
#[ignore = "needs the package prometheus-alertmanager"]
fn one_that_was_away_is_shown_what_goes_on_when_it_is_back() {
    let scene = Scene::new();
    let port = free_port();
    configure(&scene, port, "");
    for _ in 0..3 {
        assert_eq!(am(&scene.check().exits(2)), (0, 1));
    }
    assert_eq!(journal(&scene), ["alert_deferred"]);
    let alertmanager = Alertmanager::start(&scene, port);
    assert_eq!(am(&scene.check().exits(2)), (1, 0));
    assert_eq!(alertmanager.alerts().len(), 1);
    assert_eq!(journal(&scene), ["alert_deferred", "alert_sent"]);
    let text = scene.run(&["test-notify"]).exits(0).words();
    assert!(
        text.contains("to the Alertmanager at http://127.0.0.1"),
        "{text}"
    );
    let named: Vec<Value> = (alertmanager.alerts().iter())
        .map(|alert| alert["labels"]["alertname"].clone())
        .collect();
    assert!(named.contains(&json!("WatchdogTest")), "{named:?}");
}

#[test]
fn a_host_where_all_is_well_asks_nobody() {
    let hooks = Hooks::new();
    let scene = Scene::new();
    configure(&scene, hooks.port, "");
    scene.start("alpha", &["pid_file=alpha.pid"]);
    assert_eq!(am(&scene.check().exits(0)), (0, 0));
    assert_eq!(hooks.got().len(), 0);
}

#[test]
fn one_that_refuses_is_asked_once_an_hour_and_no_secret_is_seen() {
    for (keys, sent) in [
        (
            "username = \"me\"\npassword = \"CANARY1\"",
            "Basic bWU6Q0FOQVJZMQ==",
        ),
        ("token = \"CANARY2\"", "Bearer CANARY2"),
    ] {
        let hooks = Hooks::new();
        let scene = Scene::new();
        configure(&scene, hooks.port, keys);
        hooks.answer(&[Answer::Repeat(401), Answer::Repeat(401)]);
        let mut seen = String::new();
        for _ in 0..2 {
            let outcome = scene.check().exits(2);
            assert_eq!(am(&outcome), (0, 1));
            seen.push_str(&outcome.text());
        }
        let got = hooks.got();
        assert_eq!(got.len(), 1, "asked too early");
        assert!(seen.contains("; it is tried once an hour, "), "{seen}");
        assert!(!seen.contains("every run tries again"), "{seen}");
        assert_eq!(got[0].path, "/api/v2/alerts");
        assert_eq!(got[0].header("authorization"), Some(sent));
        assert!(scene.state()["channels"]["am"]["hold"].is_object());
        for args in [
            &["show-config"][..],
            &["validate"],
            &["history", "--json"],
            &["test-notify"],
        ] {
            seen.push_str(&scene.run(args).text());
        }
        for name in ["state/state.json", "state/journal.jsonl"] {
            seen.push_str(&scene.read(name));
        }
        assert!(
            !seen.contains("CANARY") && !seen.contains("bWU6Q0FOQVJZMQ"),
            "{seen}"
        );
        // another table, and it is asked at once
        hooks.answer(&[Answer::Say(200, "", String::new())]);
        configure(&scene, hooks.port, &format!("{keys}\ntimeout = \"11s\""));
        assert_eq!(am(&scene.check().exits(2)), (1, 0));
    }
}

#[test]
fn only_the_services_of_its_table_are_shown() {
    let hooks = Hooks::new();
    let scene = Scene::new();
    configure(&scene, hooks.port, "services = [\"beta\"]");
    assert_eq!(am(&scene.check().exits(2)), (0, 0));
    assert_eq!(hooks.got().len(), 0);
}
