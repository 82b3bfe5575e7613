//! Checks by Prometheus, and repairs for its alerts: with one that is played, which gives broken answers, and with a real one
//! that has a real Alertmanager.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use chrono::{SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::scene::{Outcome, Scene, Service, free_port, render};

pub(crate) mod parts;
mod real;

/// What one that is played answers.
#[derive(Clone, Default)]
struct Play {
    /// The alerting rules.
    rules: Vec<Value>,
    /// What an expression gives.
    result: Value,
    /// What comes beside.
    warnings: Vec<&'static str>,
    /// All of an answer, in place of all that.
    whole: Option<&'static str>,
    /// What Alertmanager has.
    held: Option<Value>,
    /// The requests, with their headers.
    asked: Vec<(String, String)>,
}

/// A Prometheus and an Alertmanager on one port.
struct Played {
    port: u16,
    play: Arc<Mutex<Play>>,
}

impl Played {
    fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let play = Arc::new(Mutex::new(Play::default()));
        let shared = Arc::clone(&play);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || answer(&stream, &shared));
            }
        });
        Self { port, play }
    }

    fn set(&self, change: impl FnOnce(&mut Play)) {
        change(&mut self.play.lock().unwrap());
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What was asked since the last time.
    fn asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut self.play.lock().unwrap().asked);
        asked.into_iter().map(|(path, _)| path).collect()
    }

    fn headers(&self) -> String {
        let asked = std::mem::take(&mut self.play.lock().unwrap().asked);
        asked.into_iter().map(|(_, headers)| headers).collect()
    }
}

fn answer(stream: &TcpStream, shared: &Mutex<Play>) {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    let _ = reader.read_line(&mut first);
    let mut headers = String::new();
    while reader.read_line(&mut headers).is_ok_and(|read| read > 2) {}
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let play = {
        let mut play = shared.lock().unwrap();
        play.asked.push((path.clone(), headers));
        play.clone()
    };
    let data = match path.split(['?']).next().unwrap_or_default() {
        "/api/v1/rules" => {
            json!({"groups": [{"name": "g", "file": "x", "interval": 15, "rules": play.rules}]})
        }
        "/api/v1/query" => play.result,
        _ => Value::Null,
    };
    let mut body = json!({"status": "success", "data": data});
    if !play.warnings.is_empty() {
        body["warnings"] = json!(play.warnings);
    }
    let mut body = body.to_string();
    if path.starts_with("/api/v2/alerts") {
        body = play.held.unwrap_or_else(|| json!([])).to_string();
    }
    let whole = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nContent-Type: application/json\r\n\r\n{body}",
        body.len()
    );
    let mut stream = stream;
    let _ = stream.write_all(play.whole.unwrap_or(&whole).as_bytes());
}

/// So many seconds from now, as Prometheus writes it.
fn time(seconds: i64) -> String {
    let time = Utc::now() + TimeDelta::seconds(seconds);
    time.to_rfc3339_opts(SecondsFormat::Nanos, true)
}

/// A rule that wants services repaired, with an alert of each of these services that has been active for a minute.
fn rule(services: &[&str]) -> Value {
    let alerts = services.iter().map(|service| {
        json!({
            "labels": {"alertname": "Down", "auto_repair": "true", "service": service},
            "annotations": {"summary": format!("{service} is down")},
            "state": "firing",
            "activeAt": time(-60),
            "value": "0e+00",
        })
    });
    json!({
        "name": "Down",
        "type": "alerting",
        "health": "ok",
        "state": "firing",
        "lastEvaluation": time(-1),
        "labels": {"auto_repair": "true", "service": "{{ $labels.job }}"},
        "alerts": alerts.collect::<Value>(),
    })
}

/// A scene with the stand-in programs `a` and `b`, which run, and a Prometheus that wants them repaired.
fn scene(played: &Played, keys: &str) -> Scene {
    let (a, b) = (Service::new("a"), Service::new("b"));
    let scene = Scene::of(&[]);
    scene.config(&format!(
        "[prometheus]\nurl = \"{}\"\nmatch = {{ auto_repair = \"true\" }}\nhost = \"web1\"\n{keys}\n{}",
        played.url(),
        render(&[&a, &b])
    ));
    for name in ["a", "b"] {
        scene.start(name, &[&format!("pid_file={name}.pid")]);
    }
    scene
}

fn starts(scene: &Scene) -> (usize, usize) {
    (scene.starts("a").len(), scene.starts("b").len())
}

#[test]
fn an_alert_restarts_its_service_once_although_it_goes_on_firing() {
    let played = Played::new();
    let scene = scene(&played, "");
    played.set(|play| play.rules = vec![rule(&["a", "elsewhere"])]);
    scene
        .check()
        .restarted_for("a", "alert_firing")
        .verdict("b", "healthy");
    // one call for all services
    assert_eq!(played.asked(), ["/api/v1/rules?type=alert"]);
    // on the disk, with the attempt
    let state = scene.state();
    let acted = &state["services"]["a"]["acted_alerts"][0];
    assert_eq!(acted["labels"]["alertname"], "Down", "{state}");
    assert!(acted["active_at"].is_string());
    assert_eq!(
        state["services"]["a"]["attempts"].as_array().unwrap().len(),
        1
    );

    for _ in 0..3 {
        let outcome = scene.check().exits(0).verdict("a", "healthy");
        let notes = outcome.service("a")["notes"].to_string();
        assert!(
            notes.contains("still fires, and was active before the repair"),
            "{notes}"
        );
    }
    assert_eq!(starts(&scene), (2, 1));
    // it has not ended within settle_for: the repair did not help
    scene.move_attempts("a", -TimeDelta::minutes(11));
    scene.check().restarted_for("a", "alert_firing");
    // one that came up since is news
    let mut again = rule(&["a"]);
    again["alerts"][0]["activeAt"] = json!(time(5));
    played.set(|play| play.rules = vec![again]);
    scene.check().restarted_for("a", "alert_firing");
    played.set(|play| play.rules = vec![rule(&[])]);
    scene
        .check()
        .exits(0)
        .verdict("a", "healthy")
        .lacks("a", "alert_firing");
    assert_eq!(starts(&scene), (4, 1));
    let why = scene.run(&["why", "a"]).exits(0).words();
    assert!(
        why.contains("an alert that fires with {auto_repair=\"true\", service=\"a\"} is a reason for a repair"),
        "{why}"
    );
}

#[test]
fn an_incident_is_not_over_while_its_alert_goes_on_firing() {
    let played = Played::new();
    let scene = scene(&played, "[defaults]\nrestart = { max_attempts = 1 }");
    played.set(|play| play.rules = vec![rule(&["a"])]);
    scene.check().restarted_for("a", "alert_firing");
    // longer than `start_grace`, and shorter than `settle_for`
    scene.move_attempts("a", -TimeDelta::minutes(5));
    scene.check().exits(0).verdict("a", "healthy");
    let recovered = |scene: &Scene| {
        let journal = scene.journal();
        journal
            .iter()
            .filter(|it| it["event"] == "recovered")
            .count()
    };
    assert_eq!(recovered(&scene), 0);
    scene.move_attempts("a", -TimeDelta::minutes(6));
    scene.check().exits(2).verdict("a", "exhausted");
    assert_eq!(starts(&scene), (2, 1));
    played.set(|play| play.rules = vec![rule(&[])]);
    scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(recovered(&scene), 1);
    played.set(|play| play.rules = vec![rule(&["a"])]);
    scene.check().restarted_for("a", "alert_firing");
}

#[test]
fn what_is_no_whole_answer_is_unknown_and_repairs_nothing() {
    type Change = (&'static str, Box<dyn Fn(&mut Play)>);
    let with = |key: &'static str, value: Value| -> Box<dyn Fn(&mut Play)> {
        Box::new(move |play| {
            let mut rule = rule(&["a"]);
            rule[key] = value.clone();
            play.rules = vec![rule];
        })
    };
    let whole = |text: &'static str| -> Box<dyn Fn(&mut Play)> {
        Box::new(move |play| play.whole = Some(text))
    };
    let cases: [Change; 12] = [
        (
            "a part of the data only: store x is away",
            Box::new(|play| play.warnings = vec!["store x is away"]),
        ),
        (
            "cannot be evaluated: many-to-many",
            with("health", json!("err")),
        ),
        (
            "has not been evaluated yet",
            with("health", json!("unknown")),
        ),
        (
            "was last evaluated 1m ago, and should be every 15s",
            with("lastEvaluation", json!(time(-60))),
        ),
        (
            "closed the connection before the body was whole",
            whole(
                "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"status\":\"success\",\"data\":{\"groups\":[]}}",
            ),
        ),
        (
            "something that is no JSON",
            whole("HTTP/1.1 200 OK\r\n\r\n{\"status\":\"success\",\"data\":{\"groups\":["),
        ),
        (
            "query timed out",
            whole(
                "HTTP/1.1 200 OK\r\n\r\n{\"status\":\"error\",\"errorType\":\"timeout\",\"error\":\"query timed out\"}",
            ),
        ),
        (
            "answered 503 Service Unavailable: starting",
            whole("HTTP/1.1 503 Service Unavailable\r\n\r\nstarting"),
        ),
        (
            "something that is no JSON: `<html>`",
            whole("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>"),
        ),
        (
            "redirects are not followed",
            whole("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/x\r\n\r\n"),
        ),
        ("closed the connection without an answer", whole("")),
        (
            "JSON that its API does not give",
            whole("HTTP/1.1 200 OK\r\n\r\n[]"),
        ),
    ];
    let played = Played::new();
    let scene = scene(&played, "");
    for (expected, change) in cases {
        played.set(|play| {
            *play = Play {
                rules: vec![rule(&["a"])],
                ..Play::default()
            };
            if expected.contains("many-to-many") {
                change(play);
                play.rules[0]["lastError"] = json!("many-to-many");
            } else {
                change(play);
            }
        });
        let outcome = scene.check().exits(3).verdict("a", "unknown");
        let finding = &outcome.service("a")["findings"][0];
        assert_eq!(finding["code"], "prometheus_unreachable");
        assert_eq!(
            (&finding["check"], &finding["severity"]),
            (&json!("prometheus"), &json!("unknown"))
        );
        let message = finding["message"].as_str().unwrap();
        assert!(message.contains(expected), "{message}");
    }
    // what is wrong for another reason is repaired all the same
    scene.kill(scene.last("a"));
    scene
        .check()
        .exits(3)
        .verdict("a", "restarted")
        .verdict("b", "unknown");
    played.set(|play| *play = Play::default());
    scene.check().exits(0);
    assert_eq!(starts(&scene), (2, 1));
    // nothing listens there
    scene.raw_config(
        &scene
            .read("watchdog.toml")
            .replace(&played.port.to_string(), &free_port().to_string()),
    );
    let outcome = scene.check().exits(3).verdict("b", "unknown");
    assert!(
        outcome.text().contains("refused the connection"),
        "{}",
        outcome.text()
    );
}

#[test]
fn an_alert_of_another_host_or_for_something_else_restarts_nothing() {
    let played = Played::new();
    let scene = scene(&played, "");
    let mut of_others = rule(&["a"; 4]);
    for (number, (label, value)) in [
        ("instance", "web2:9100"),
        ("auto_repair", "false"),
        ("service", "c"),
    ]
    .into_iter()
    .enumerate()
    {
        of_others["alerts"][number]["labels"][label] = json!(value);
    }
    of_others["alerts"][3]["state"] = json!("pending");
    played.set(|play| play.rules = vec![of_others]);
    let outcome = scene.check().exits(0).verdict("a", "healthy");
    let notes = outcome.service("a")["notes"].to_string();
    assert!(notes.contains("alert Down is pending for 1m"), "{notes}");

    let mut action = rule(&["a"]);
    action["alerts"][0]["labels"]["action"] = json!("investigate");
    played.set(|play| play.rules = vec![action]);
    let outcome = scene.check().exits(2).verdict("a", "down");
    assert_eq!(outcome.service("a")["action"], Value::Null);
    assert_eq!(outcome.severity("a", "alert_firing"), "critical");
    assert_eq!(starts(&scene), (1, 1));

    // it tells of all of it
    let mut other = rule(&["a"]);
    other["alerts"][0]["labels"]["instance"] = json!("web2:9100");
    played.set(|play| play.rules = vec![other]);
    let traps = scene.run(&["validate"]).exits(0).words();
    assert!(
        traps.contains("the alert Down is of `web2:9100`, and this host is `web1`"),
        "{traps}"
    );
    assert!(traps.contains("without `alertmanager`"), "{traps}");
    let mut this = rule(&["a"]);
    this["alerts"][0]["labels"]["instance"] = json!("web1:9100");
    played.set(|play| play.rules = vec![this]);
    scene.check().restarted_for("a", "alert_firing");
}

#[test]
fn what_is_silenced_repairs_nothing_and_who_cannot_be_asked_is_unknown() {
    let played = Played::new();
    let scene = scene(&played, &format!("alertmanager = \"{}/am\"", played.url()));
    // nothing fires: nobody is asked what is silenced
    played.set(|play| play.rules = vec![rule(&[])]);
    scene.check().exits(0);
    assert_eq!(played.asked(), ["/api/v1/rules?type=alert"]);

    let played_too = Played::new();
    scene.raw_config(&scene.read("watchdog.toml").replace("/am\"", "\"").replace(
        &format!("alertmanager = \"{}", played.url()),
        &format!("alertmanager = \"{}", played_too.url()),
    ));
    let held = |state: &str, key: &str| {
        let mut status =
            json!({"state": state, "silencedBy": [], "inhibitedBy": [], "mutedBy": []});
        status[key] = json!(["x"]);
        json!([{
            "labels": {"alertname": "Down", "auto_repair": "true", "service": "a", "cluster": "eu"},
            "status": status,
        }])
    };
    played.set(|play| play.rules = vec![rule(&["a"])]);
    for (key, how) in [
        ("silencedBy", "silenced"),
        ("inhibitedBy", "inhibited"),
        ("mutedBy", "muted"),
    ] {
        played_too.set(|play| play.held = Some(held("suppressed", key)));
        let outcome = scene.check().exits(0).verdict("a", "healthy");
        let notes = outcome.service("a")["notes"].to_string();
        assert!(
            notes.contains(&format!("fires, and is {how} in Alertmanager")),
            "{notes}"
        );
    }
    assert_eq!(played_too.asked().len(), 3);
    played_too.set(|play| play.whole = Some("HTTP/1.1 502 Bad Gateway\r\n\r\n"));
    let outcome = scene
        .check()
        .exits(3)
        .verdict("a", "unknown")
        .verdict("b", "healthy");
    assert!(
        outcome.text().contains("answered 502 Bad Gateway"),
        "{}",
        outcome.text()
    );
    let traps = scene.run(&["validate"]).exits(0).words();
    assert!(
        traps.contains("an alert that fires is unknown, and repairs nothing"),
        "{traps}"
    );
    assert_eq!(starts(&scene), (1, 1));
    played_too.set(|play| *play = Play::default());
    scene.check().restarted_for("a", "alert_firing");
}

#[test]
fn with_confirm_an_alert_needs_a_second_witness() {
    let played = Played::new();
    let scene = scene(&played, "confirm = true");
    scene.raw_config(&format!(
        "{}[[service.a.log]]\npath = \"a.log\"\nmax_age = \"1m\"\n",
        scene.read("watchdog.toml")
    ));
    scene.write("a.log", "fine\n");
    played.set(|play| play.rules = vec![rule(&["a"])]);
    let outcome = scene.check().exits(1).verdict("a", "degraded");
    assert_eq!(outcome.severity("a", "alert_firing"), "warning");
    scene.age("a.log", std::time::Duration::from_secs(300));
    let outcome = scene.check().restarted_for("a", "log_stale");
    assert_eq!(outcome.severity("a", "alert_firing"), "critical");
}

/// A scene with `a`, which runs and has one check by this Prometheus.
fn probed(played: &Played, keys: &str, top: &str) -> Scene {
    let scene = Scene::of(&[]);
    scene.config(&format!(
        "{top}\n{}[[service.a.prometheus]]\n{keys}\n",
        render(&[&Service::new("a")])
    ));
    scene.start("a", &["pid_file=a.pid"]);
    let _ = played;
    scene
}

#[test]
fn an_expression_that_gives_a_sample_fails() {
    let played = Played::new();
    let scene = probed(
        &played,
        &format!(
            "url = \"{}/\"\nquery = 'up{{job=\"a\"}} == 0'",
            played.url()
        ),
        "",
    );
    let vector = |values: Value| json!({"resultType": "vector", "result": values});
    played.set(|play| play.result = vector(json!([])));
    scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(
        played.asked(),
        ["/api/v1/query?query=up%7Bjob%3D%22a%22%7D%20%3D%3D%200&timeout=10000ms"]
    );
    played.set(|play| play.result = json!({"resultType": "matrix", "result": []}));
    let outcome = scene.check().exits(3).verdict("a", "unknown");
    assert!(
        outcome.text().contains("gives a matrix"),
        "{}",
        outcome.text()
    );
    played.set(|play| {
        play.whole = Some(
            "HTTP/1.1 400 Bad Request\r\n\r\n{\"status\":\"error\",\"error\":\"parse error: bad\"}",
        );
    });
    let outcome = scene.check().exits(3).verdict("a", "unknown");
    assert!(
        outcome.text().contains("400 Bad Request: parse error: bad"),
        "{}",
        outcome.text()
    );
    played.set(|play| {
        play.whole = None;
        play.result = vector(json!([{"metric": {"job": "a"}, "value": [1, "0"]}]));
    });
    let outcome = scene.check().restarted_for("a", "query_matched");
    // the restart waited for no Prometheus
    assert_eq!(outcome.service("a")["action"]["ok"], true);
    let traps = scene.run(&["validate"]).exits(0).words();
    assert!(
        traps.contains("it would be query_matched in the next run"),
        "{traps}"
    );
}

#[test]
fn an_alert_that_is_named_has_to_be_there() {
    let played = Played::new();
    let top = format!("[prometheus]\nurl = \"{}\"\n", played.url());
    let scene = probed(
        &played,
        "alert = { alertname = \"Down\", service = \"a\" }",
        &top,
    );
    let outcome = scene.check().exits(3).verdict("a", "unknown");
    assert!(
        outcome.text().contains("there is no alerting rule `Down`"),
        "{}",
        outcome.text()
    );
    played.set(|play| play.rules = vec![rule(&["b"])]);
    scene.check().exits(0).verdict("a", "healthy");
    played.set(|play| play.rules = vec![rule(&["a", "b"])]);
    scene.check().restarted_for("a", "alert_firing");
    scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(scene.starts("a").len(), 2);
}

#[test]
fn a_young_process_is_not_judged_and_a_warning_restarts_nothing() {
    let played = Played::new();
    let keys = format!("url = \"{}\"\nquery = 'x'\n", played.url());
    let scene = probed(&played, &keys, "");
    let text = scene.read("watchdog.toml");
    played.set(|play| play.result = json!({"resultType": "scalar", "result": [1, "1"]}));
    scene.raw_config(&text.replace("start_grace = \"0s\"", "start_grace = \"10m\""));
    scene.check().exits(0).verdict("a", "starting");
    scene.raw_config(&text.replace("query =", "severity = \"warning\"\nquery ="));
    scene.check().exits(1).verdict("a", "degraded");
    scene.raw_config(&text.replace("query =", "for = \"10m\"\nquery ="));
    scene.check().exits(0).verdict("a", "healthy");
}

#[test]
fn it_is_asked_as_somebody_and_no_secret_is_seen() {
    for (keys, sent) in [
        (
            "username = \"me\"\npassword = \"CANARY1\"",
            "Basic bWU6Q0FOQVJZMQ==",
        ),
        ("token_file = \"token\"", "Bearer CANARY2"),
        (
            "headers = { Authorization = \"Bearer CANARY3\", X-Scope-OrgID = \"team\" }",
            "Bearer CANARY3",
        ),
    ] {
        let played = Played::new();
        let scene = scene(
            &played,
            &format!("{keys}\nalertmanager = \"{}\"", played.url()),
        );
        scene.write("token", "CANARY2\n");
        scene.shell("chmod 600 token").exits(0);
        played.set(|play| {
            play.rules = vec![rule(&["a"])];
            play.whole = Some("HTTP/1.1 401 Unauthorized\r\n\r\nwho are you?");
        });
        let mut seen = scene.check().exits(3).text();
        let headers = played.headers();
        assert!(
            headers.contains(&format!("uthorization: {sent}")),
            "{headers}"
        );
        if keys.contains("team") {
            assert!(
                headers.to_lowercase().contains("x-scope-orgid: team"),
                "{headers}"
            );
        }
        // and what is for one is not told to the other
        played.set(|play| play.whole = None);
        scene.check();
        let headers = played.headers();
        assert_eq!(headers.matches(sent).count(), 1, "{headers}");
        for args in [
            &["show-config"][..],
            &["validate"],
            &["why", "a"],
            &["history", "--json"],
            &["metrics"],
        ] {
            seen.push_str(&scene.run(args).text());
        }
        seen.push_str(&scene.read("state/state.json"));
        assert!(
            !seen.contains("CANARY") && !seen.contains("bWU6Q0F"),
            "{seen}"
        );
        if !keys.contains("_file") {
            scene.shell("chmod 644 watchdog.toml").exits(0);
            scene.run(&["check"]).exits(78);
        }
    }
}

#[test]
fn how_long_answers_took_is_in_the_metrics() {
    let played = Played::new();
    let top = format!("[prometheus]\nurl = \"{}\"\n", played.url());
    let scene = probed(&played, "query = 'x > 1'", &top);
    played.set(|play| play.result = json!({"resultType": "vector", "result": []}));
    let secret = format!(
        "{}[[service.a.http]]\nurl = \"http://u:CANARY@127.0.0.1:{}/health?t=CANARY\"\nstatus = [200]\n\
         [[service.a.port]]\naddress = \"127.0.0.1:{}\"\n[[service.a.exec]]\ncommand = [\"true\"]\n",
        scene.read("watchdog.toml"),
        played.port,
        played.port
    );
    scene.raw_config(&secret);
    scene.check().exits(0);
    let metrics = scene.run(&["metrics"]).exits(0).stdout;
    let durations: Vec<&str> = (metrics.lines())
        .filter(|line| line.starts_with("watchdog_probe_duration_seconds"))
        .collect();
    for expected in [
        r#"{service="a",check="prometheus",target="x > 1"} 0."#.to_owned(),
        format!(
            r#"{{service="a",check="http",target="http://127.0.0.1:{}/***"}} 0."#,
            played.port
        ),
        format!(
            r#"{{service="a",check="port",target="127.0.0.1:{}"}} 0."#,
            played.port
        ),
        r#"{service="a",check="exec",target="true"} 0."#.to_owned(),
    ] {
        assert!(
            durations.iter().any(|it| it.contains(&expected)),
            "{expected}: {durations:#?}"
        );
    }
    assert_eq!(durations.len(), 4);
    assert!(!metrics.contains("CANARY"), "{metrics}");
}

#[test]
fn a_config_that_does_not_ask_makes_no_call() {
    let played = Played::new();
    let scene = Scene::of(&[]);
    let only_a_place = format!(
        "[prometheus]\nurl = \"{}\"\n{}",
        played.url(),
        render(&[&Service::new("a")])
    );
    scene.config(&only_a_place);
    scene.start("a", &["pid_file=a.pid"]);
    let outcome: Outcome = scene.check().exits(0);
    assert_eq!(outcome.codes("a"), Vec::<String>::new());
    assert!(played.asked().is_empty());
}
