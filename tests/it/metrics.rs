//! Metrics: what a run writes for Prometheus, and what Prometheus makes of it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::scene::{Scene, Service, free_port, render, wait_until};

/// A scene with the stand-in program `a`, whose runs write metrics.
fn scene() -> Scene {
    let scene = Scene::new();
    scene.config(&format!(
        "[metrics]\ntextfile = \"{{dir}}/metrics/watchdog.prom\"\n{}",
        render(&[&Service::new("a").log("path = \"a.log\"\nmax_age = \"1h\"")])
    ));
    fs::create_dir(scene.path("metrics")).unwrap();
    scene.write("a.log", "fine\n");
    scene
}

/// The series of a text in the format of Prometheus, with their values.
fn series(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.to_owned())
    });
    pairs.collect()
}

fn written(scene: &Scene) -> BTreeMap<String, String> {
    series(&scene.read("metrics/watchdog.prom"))
}

const RESTARTED: &str =
    r#"watchdog_repair_attempts_total{service="a",action="restart",success="true"}"#;
const FAILED: &str =
    r#"watchdog_repair_attempts_total{service="a",action="restart",success="false"}"#;

#[test]
fn a_restart_by_hand_is_counted_at_once() {
    let scene = scene();
    scene.start("a", &["pid_file=a.pid"]);
    scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(written(&scene)[RESTARTED], "0");
    scene.run(&["restart", "a"]).exits(0);
    assert_eq!(written(&scene)[RESTARTED], "1");
}

#[test]
fn how_long_a_run_took_is_without_its_messages_wherever_it_is_asked_for() {
    // it takes connections and says nothing
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let scene = Scene::new();
    scene.config(&format!(
        "[metrics]\ntextfile = \"{{dir}}/watchdog.prom\"\n\
         [notify.phone]\ntype = \"slack\"\nurl = \"http://127.0.0.1:{port}/x\"\ntimeout = \"3s\"\n{}",
        render(&[&Service::new("a").watched()])
    ));
    let run = scene.check().exits(2).json();
    assert!(run["duration_ms"].as_u64().unwrap() >= 2900, "{run}");
    let took = "watchdog_last_run_duration_seconds";
    let written = series(&scene.read("watchdog.prom"))[took].clone();
    let printed = series(&scene.run(&["metrics"]).exits(0).stdout)[took].clone();
    assert_eq!(written, printed);
    assert!(written.parse::<f64>().unwrap() < 2.5, "{written}");
}

#[test]
fn each_run_writes_what_it_came_to_and_counters_go_on() {
    let scene = scene();
    let first = scene.start("a", &["pid_file=a.pid"]);
    scene.check().exits(0).verdict("a", "healthy");
    let before = written(&scene);
    assert_eq!(before[RESTARTED], "0");
    assert_eq!(
        before[r#"watchdog_service_status{service="a",status="healthy"}"#],
        "1"
    );
    assert_eq!(before["watchdog_last_run_exit_code"], "0");
    for series in [
        r#"watchdog_service_process_resident_memory_bytes{service="a"}"#,
        r#"watchdog_service_process_cpu_seconds_total{service="a"}"#,
        r#"watchdog_service_process_start_time_seconds{service="a"}"#,
    ] {
        assert!(before.contains_key(series), "{series}");
    }
    let log = scene.path("a.log");
    let log = format!(
        r#"watchdog_service_log_modified_timestamp_seconds{{service="a",path="{}"}}"#,
        log.display()
    );
    assert!(before.contains_key(&log), "{log}\n{before:#?}");
    let mode = fs::metadata(scene.path("metrics/watchdog.prom")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o644);

    scene.kill(first);
    scene.check().restarted_for("a", "process_missing");
    let after = written(&scene);
    assert_eq!((&*after[RESTARTED], &*after[FAILED]), ("1", "0"));
    assert_eq!(
        after[r#"watchdog_service_findings{service="a",code="process_missing",severity="critical"}"#],
        "1"
    );
    assert_eq!(after[r#"watchdog_service_restarts_left{service="a"}"#], "8");
    // and no series of before is gone
    let gone: Vec<&String> = (before.keys())
        .filter(|series| !after.contains_key(*series))
        .collect();
    assert!(gone.is_empty(), "{gone:?}");

    scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(written(&scene)[RESTARTED], "1");
    // the command prints the same, as of now
    let printed = scene.run(&["metrics"]).exits(0);
    let printed = series(&printed.stdout);
    assert!(printed.keys().eq(written(&scene).keys()));
    assert_eq!(printed[RESTARTED], "1");
    // a state that is lost begins at 0 again, and the file is whole
    for name in [
        "state/state.json",
        "state/state.json.bak",
        "state/journal.jsonl",
    ] {
        fs::remove_file(scene.path(name)).unwrap();
    }
    scene.check().exits(0);
    assert_eq!(written(&scene)[RESTARTED], "0");
}

#[test]
fn an_attempt_that_no_run_saw_the_end_of_is_counted_as_unknown() {
    let scene = scene();
    scene.start("a", &["pid_file=a.pid"]);
    let time = scene.check().exits(0).json()["time"].clone();
    scene.edit_state(|state| state["services"]["a"]["interrupted_attempt"] = time);
    scene.check();
    let unknown =
        r#"watchdog_repair_attempts_total{service="a",action="restart",success="unknown"}"#;
    assert_eq!(written(&scene)[unknown], "1");
}

#[test]
fn a_dry_run_writes_no_metrics_and_a_file_that_cannot_be_written_changes_no_verdict() {
    let scene = scene();
    scene.start("a", &["pid_file=a.pid"]);
    scene.run(&["check", "--dry-run"]).exits(0);
    assert!(!scene.has("metrics/watchdog.prom"));
    fs::remove_dir(scene.path("metrics")).unwrap();
    let outcome = scene.check().exits(0).verdict("a", "healthy");
    assert!(
        outcome
            .stderr
            .contains("the metrics cannot be written: No such file"),
        "{}",
        outcome.stderr
    );
    // no state directory: nothing is restarted, and the metrics say so
    fs::create_dir(scene.path("metrics")).unwrap();
    fs::remove_dir_all(scene.path("state")).unwrap();
    scene.write("state", "not a directory");
    scene.check().exits(73);
    assert_eq!(written(&scene)["watchdog_last_run_exit_code"], "73");
}

/// A process that is ended with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn begin(command: &mut Command) -> Ends {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    Ends(command.stderr(Stdio::null()).spawn().unwrap())
}

fn get(url: &str) -> String {
    let answer = Command::new("curl")
        .args(["--silent", "--max-time", "5", "--noproxy", "*", url])
        .output()
        .unwrap();
    String::from_utf8_lossy(&answer.stdout).into_owned()
}

#[test]
#[ignore = "needs prometheus, prometheus-node-exporter and curl"]
fn node_exporter_serves_the_file_and_prometheus_answers_the_documented_queries() {
    let scene = scene();
    let first = scene.start("a", &["pid_file=a.pid"]);
    scene.check().exits(0);
    let mut lint = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(fs::File::open(scene.path("metrics/watchdog.prom")).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(
        lint.wait().unwrap().success(),
        "{:?}",
        lint.wait_with_output()
    );

    let (exporter, prometheus) = (free_port(), free_port());
    let _exporter = begin(Command::new("prometheus-node-exporter").args([
        "--collector.disable-defaults",
        "--collector.textfile",
        &format!("--collector.textfile.directory={}/metrics", scene.dir()),
        &format!("--web.listen-address=127.0.0.1:{exporter}"),
    ]));
    scene.write(
        "prometheus.yml",
        format!(
            "global: {{scrape_interval: 250ms}}\nscrape_configs:\n- job_name: node\n  static_configs:\n  - targets: ['127.0.0.1:{exporter}']\n"
        ),
    );
    let _prometheus = begin(Command::new("prometheus").args([
        &format!("--config.file={}/prometheus.yml", scene.dir()),
        &format!("--storage.tsdb.path={}/tsdb", scene.dir()),
        &format!("--web.listen-address=127.0.0.1:{prometheus}"),
    ]));
    let served = || get(&format!("http://127.0.0.1:{exporter}/metrics"));
    wait_until("node-exporter serves the file", || {
        // it puts labels in the order of their names
        served().contains(
            r#"watchdog_repair_attempts_total{action="restart",service="a",success="true"} 0"#,
        )
    });
    assert!(served().contains("\nnode_textfile_scrape_error 0\n"));

    let query = |query: &str| -> Vec<(Value, String)> {
        let answer = Command::new("curl")
            .args(["--silent", "--max-time", "5", "--noproxy", "*", "--get"])
            .arg("--data-urlencode")
            .arg(format!("query={query}"))
            .arg(format!("http://127.0.0.1:{prometheus}/api/v1/query"))
            .output()
            .unwrap();
        let answer: Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
        let results = answer["data"]["result"].as_array().cloned();
        let pairs = results.unwrap_or_default().into_iter().map(|result| {
            let value = result["value"][1].as_str().unwrap_or_default();
            (result["metric"].clone(), value.to_owned())
        });
        pairs.collect()
    };
    let says = |text: &str, expected: &str| {
        wait_until(text, || {
            let answers = query(text);
            answers.len() == 1 && answers[0].1 == expected
        });
    };
    says("sum(watchdog_repair_attempts_total)", "0");
    scene.kill(first);
    scene.check().restarted_for("a", "process_missing");
    // the queries of docs/metrics.md
    says("sum by (service) (watchdog_repair_attempts_total)", "1");
    says(
        "sum by (service) (changes(watchdog_repair_attempts_total{success=\"true\"}[1h]))",
        "1",
    );
    says("watchdog_service_restarts_left", "8");
    let answers = query("watchdog_service_status == 1");
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0].0["status"], "restarted");
    assert_eq!(answers[0].0["service"], "a");
    let answers = query("time() - watchdog_last_run_timestamp_seconds < 300");
    assert_eq!(answers.len(), 1, "{answers:?}");
}

/// All of a JSON value's objects with a key, in order.
fn with_key<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(entries) => {
            if entries.contains_key(key) {
                found.push(value);
            }
            entries.values().for_each(|it| with_key(it, key, found));
        }
        Value::Array(items) => items.iter().for_each(|it| with_key(it, key, found)),
        _ => {}
    }
}

/// The names of the families in a text.
fn families(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    let names = words.filter(|word| word.starts_with("watchdog_"));
    names.map(str::to_owned).collect()
}

fn contrib(name: &str) -> String {
    let path = format!("{}/contrib/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files of contrib/prometheus with this ending.
fn rules_named(ending: &'static str) -> impl Iterator<Item = String> {
    let directory = format!("{}/contrib/prometheus", env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(move |name| name.ends_with(ending))
}

fn dashboard() -> Value {
    serde_json::from_str(&contrib("grafana/auto-repair.json")).unwrap()
}

#[test]
fn the_dashboard_has_panels_that_do_not_overlap_and_asks_for_metrics_that_there_are() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "auto-repair");
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids: Vec<u64> = panels.iter().map(|it| it["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), panels.len());
    let mut taken = BTreeMap::new();
    for panel in panels {
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{panel}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                let other = taken.insert((x, y), &panel["title"]);
                assert!(other.is_none(), "{other:?} and {}", panel["title"]);
            }
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}");
        assert!(!panel["description"].as_str().unwrap().is_empty());
    }
    let documented = families(&fs::read_to_string("docs/metrics.md").unwrap());
    let mut files = vec![contrib("grafana/auto-repair.json")];
    files.extend(rules_named(".rules.yml").map(|name| contrib(&format!("prometheus/{name}"))));
    for file in files {
        for name in families(&file) {
            assert!(documented.contains(&name), "{name}");
        }
    }
}

#[test]
#[ignore = "needs prometheus"]
fn the_rules_pass_their_tests_and_each_query_of_the_dashboard_is_one() {
    let promtool = |args: &[&str], directory: &str| {
        let output = Command::new("promtool")
            .args(args)
            .current_dir(directory)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    };
    let rules = format!("{}/contrib/prometheus", env!("CARGO_MANIFEST_DIR"));
    for (command, ending) in [("check", ".rules.yml"), ("test", ".test.yml")] {
        let files: Vec<String> = rules_named(ending).collect();
        assert!(files.len() >= 4, "{files:?}");
        for file in files {
            promtool(&[command, "rules", &file], &rules);
        }
    }

    let scene = Scene::new();
    let dashboard = dashboard();
    let mut targets = Vec::new();
    with_key(&dashboard, "expr", &mut targets);
    assert!(targets.len() > 10);
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (number, target) in targets.iter().enumerate() {
        let query = target["expr"].as_str().unwrap();
        let query = query.replace("$__rate_interval", "5m");
        writeln!(
            rules,
            "  - record: panel:query:{number}\n    expr: {query:?}"
        )
        .unwrap();
    }
    scene.write("dashboard.yml", rules);
    promtool(&["check", "rules", "dashboard.yml"], scene.dir());
}
