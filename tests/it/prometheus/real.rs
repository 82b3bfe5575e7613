//! A real Prometheus with a real Alertmanager, fed by files through a real node-exporter.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::parts::{Part, Prometheus, get, json};
use crate::scene::{Scene, Service, free_port, render, wait_until};

/// Rules whose alerts want services repaired; the window is long, so that they go on firing after a repair.
const RULES: &str = r#"groups:
- name: repairs
  interval: 500ms
  rules:
  - alert: AppBroken
    expr: max_over_time(app_broken[10m]) > 0
    labels: {auto_repair: "true", service: "{{ $labels.app }}"}
    annotations: {summary: "{{ $labels.app }} is broken"}
"#;

/// The same, with an expression that cannot be evaluated: there are two series of a service.
const BROKEN: &str = "expr: app_broken * on (job) app_broken";

#[test]
#[ignore = "needs prometheus, prometheus-alertmanager, prometheus-node-exporter and curl"]
fn an_alert_repairs_once_a_silence_holds_and_a_rule_that_breaks_is_unknown() {
    let scene = Scene::of(&[]);
    let [exporter, port, alertmanager] = [free_port(), free_port(), free_port()];
    scene.config(&format!(
        "[prometheus]\nurl = \"http://127.0.0.1:{port}\"\nmatch = {{ auto_repair = \"true\" }}\nhost = \"127.0.0.1\"\n\
         alertmanager = \"http://127.0.0.1:{alertmanager}\"\n{}",
        render(&[&Service::new("a"), &Service::new("b")])
    ));
    for name in ["a", "b"] {
        scene.start(name, &[&format!("pid_file={name}.pid")]);
    }
    std::fs::create_dir(scene.path("metrics")).unwrap();
    let says = |a: u8, b: u8| {
        let text = format!("app_broken{{app=\"a\"}} {a}\napp_broken{{app=\"b\"}} {b}\n");
        scene.write("metrics/app.new", text);
        std::fs::rename(
            scene.path("metrics/app.new"),
            scene.path("metrics/app.prom"),
        )
        .unwrap();
    };
    says(0, 0);
    scene.write("rules.yml", RULES);
    scene.write(
        "prometheus.yml",
        format!(
            "global: {{scrape_interval: 250ms, evaluation_interval: 500ms}}\nrule_files: [rules.yml]\n\
             alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{alertmanager}']}}]}}]}}\n\
             scrape_configs: [{{job_name: node, static_configs: [{{targets: ['127.0.0.1:{exporter}']}}]}}]\n"
        ),
    );
    scene.write(
        "alertmanager.yml",
        "route: { receiver: none }\nreceivers: [ { name: none } ]\n",
    );
    let dir = scene.dir();
    let _exporter = Part::begin(Command::new("prometheus-node-exporter").args([
        "--collector.disable-defaults",
        "--collector.textfile",
        &format!("--collector.textfile.directory={dir}/metrics"),
        &format!("--web.listen-address=127.0.0.1:{exporter}"),
    ]));
    let _alertmanager = Part::begin(Command::new("prometheus-alertmanager").args([
        &format!("--config.file={dir}/alertmanager.yml"),
        &format!("--storage.path={dir}/alertmanager"),
        &format!("--web.listen-address=127.0.0.1:{alertmanager}"),
        "--cluster.listen-address=",
    ]));
    let server = Part::begin(Command::new("prometheus").args([
        &format!("--config.file={dir}/prometheus.yml"),
        &format!("--storage.tsdb.path={dir}/tsdb"),
        &format!("--web.listen-address=127.0.0.1:{port}"),
    ]));
    let prometheus = Prometheus(port);
    wait_until("it is fed, and its rules are evaluated", || {
        prometheus.values("count(app_broken)") == ["2"]
            && prometheus.rule("AppBroken")["health"] == "ok"
    });
    scene
        .check()
        .exits(0)
        .verdict("a", "healthy")
        .verdict("b", "healthy");

    // an alert fires
    says(1, 0);
    wait_until("the alert fires", || {
        prometheus.firing("AppBroken", "app") == ["a"]
    });
    scene
        .check()
        .restarted_for("a", "alert_firing")
        .verdict("b", "healthy");
    // and goes on, for what was is within its window
    says(0, 0);
    wait_until("all is well now", || {
        prometheus.values("sum(app_broken)") == ["0"]
    });
    assert_eq!(prometheus.firing("AppBroken", "app"), ["a"]);
    for _ in 0..3 {
        let outcome = scene.check().exits(0).verdict("a", "healthy");
        assert!(
            outcome.text().contains("was active before the repair"),
            "{}",
            outcome.text()
        );
    }
    assert_eq!(scene.starts("a").len(), 2);

    // a silence holds
    let api = format!("http://127.0.0.1:{alertmanager}/api/v2");
    let silence = json!({
        "matchers": [{"name": "service", "value": "b", "isRegex": false, "isEqual": true}],
        "startsAt": "2020-01-01T00:00:00Z",
        "endsAt": "2099-01-01T00:00:00Z",
        "createdBy": "a test",
        "comment": "at work on it",
    });
    let said = get(
        &format!("{api}/silences"),
        &[
            "-H",
            "Content-Type: application/json",
            "-d",
            &silence.to_string(),
        ],
    );
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    says(0, 1);
    wait_until("the other alert fires, and is silenced", || {
        let alerts = json(&format!("{api}/alerts"));
        let alerts = alerts.as_array().cloned().unwrap_or_default();
        prometheus.firing("AppBroken", "app") == ["a", "b"]
            && alerts
                .iter()
                .any(|it| it["labels"]["service"] == "b" && it["status"]["state"] == "suppressed")
    });
    let outcome = scene.check().exits(0).verdict("b", "healthy");
    assert!(
        outcome.text().contains("is silenced in Alertmanager"),
        "{}",
        outcome.text()
    );
    let id = said["silenceID"].as_str().unwrap();
    get(&format!("{api}/silence/{id}"), &["-X", "DELETE"]);
    scene
        .check()
        .restarted_for("b", "alert_firing")
        .verdict("a", "healthy");
    assert_eq!((scene.starts("a").len(), scene.starts("b").len()), (2, 2));

    // a rule that breaks: its alerts stay as they were, and are no evidence
    let broken = RULES.replace("expr: max_over_time(app_broken[10m]) > 0", BROKEN);
    assert_ne!(broken, RULES);
    scene.write("rules.yml", broken);
    kill(Pid::from_raw(server.pid()), Signal::SIGHUP).unwrap();
    wait_until("the rule fails", || {
        prometheus.rule("AppBroken")["health"] == "err"
    });
    let outcome = scene
        .check()
        .exits(3)
        .verdict("a", "unknown")
        .verdict("b", "unknown");
    assert!(
        outcome
            .text()
            .contains("the rule AppBroken cannot be evaluated"),
        "{}",
        outcome.text()
    );
    // a Prometheus that is away, too
    drop(server);
    let outcome = scene.check().exits(3).verdict("a", "unknown");
    assert!(
        outcome.text().contains("refused the connection"),
        "{}",
        outcome.text()
    );
    assert_eq!((scene.starts("a").len(), scene.starts("b").len()), (2, 2));
}
