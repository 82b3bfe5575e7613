//! For the person at the shell: what the commands say and answer to whom.

use serde_json::Value;

use crate::scene::{Scene, Service};

/// A service that is down, and that nobody may restart.
fn down(name: &str) -> Service {
    Service::new(name).watched()
}

/// Mail into a folder.
const MAIL: &str =
    "[mail]\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]\ndirectory = \"mails\"\n";

/// The lines of a command that prints JSON.
fn lines(scene: &Scene, args: &[&str]) -> Vec<Value> {
    let outcome = scene.run(args).exits(0);
    outcome
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_history_of_a_service_has_the_mails_about_it() {
    let services = crate::scene::render(&[&down("a"), &Service::new("b").watched()]);
    let scene = Scene::with(&format!("{MAIL}{services}"));
    scene.check().exits(2);
    scene.start("b", &["pid_file=b.pid"]);
    scene.wait_until("its PID file", || scene.has("b.pid"));
    // the first mail is about both, the second about b alone
    scene.check().exits(2);
    let mails = |name: &str| {
        let lines = lines(&scene, &["history", "--json", name]);
        let mails = lines.iter().filter(|line| line["event"] == "mail_sent");
        mails.map(|line| line["about"].clone()).collect::<Vec<_>>()
    };
    let both = serde_json::json!(["a", "b"]);
    assert_eq!(mails("a"), std::slice::from_ref(&both));
    assert_eq!(mails("b"), [both, serde_json::json!(["b"])]);
    let text = scene.run(&["history", "a"]).exits(0).stdout;
    assert!(
        text.contains("mail_sent       watchdog: about a, b to o@example.org\n"),
        "{text}"
    );
}

#[test]
fn how_often_it_was_restarted_is_summed_up() {
    let scene = Scene::of(&[&Service::new("a"), &Service::new("b")]);
    let ago = |hours: i64| (chrono::Utc::now() - chrono::TimeDelta::hours(hours)).to_rfc3339();
    let restart = |hours: i64, name: &str, ok: bool| {
        format!(
            "{{\"time\":\"{}\",\"service\":\"{name}\",\"event\":\"restarted\",\"action\":{{\"kind\":\"restart\",\
             \"method\":\"spawn\",\"ok\":{ok},\"old_pid\":null,\"new_pid\":7,\"duration_ms\":5,\"error\":null,\"stderr\":[]}}}}\n",
            ago(hours)
        )
    };
    std::fs::create_dir(scene.path("state")).unwrap();
    let journal = [
        restart(48, "a", true),
        restart(36, "b", true),
        restart(24, "a", false),
        restart(12, "a", true),
    ];
    scene.write("state/journal.jsonl", journal.concat());
    let text = scene.run(&["history", "--summary"]).exits(0).stdout;
    assert_eq!(
        text,
        "a: 3 restarts in 2d (1 failed), 1.5 a day, 18h between them on average\n\
         b: 1 restart in 2d, 0.5 a day\n"
    );
    // the same after the lines themselves
    let all = scene.run(&["history"]).exits(0).stdout;
    assert!(all.ends_with(&text), "{all}");
    let sums = lines(&scene, &["history", "--summary", "--json"]);
    assert_eq!(sums.len(), 2);
    let figure = |sum: &Value, key: &str| sum[key].as_f64().map(|figure| (figure * 10.0).round());
    assert_eq!(
        (
            &sums[0]["service"],
            &sums[0]["restarts"],
            &sums[0]["failed"]
        ),
        (&"a".into(), &3.into(), &1.into())
    );
    assert_eq!(figure(&sums[0], "restarts_a_day"), Some(15.0));
    let mean = sums[0]["mean_between_s"].as_f64().unwrap();
    assert!((mean - 18.0 * 3600.0).abs() < 60.0, "{mean}");
    assert_eq!(figure(&sums[1], "mean_between_s"), None);
    // a time that is asked for, of one service; a rate of an hour would be a guess
    let sums = lines(
        &scene,
        &["history", "--summary", "--json", "--since", "13h", "a"],
    );
    assert_eq!(sums.len(), 1);
    assert_eq!(sums[0]["restarts"], 1);
    assert!(sums[0]["restarts_a_day"].is_null());
    let none = scene
        .run(&["history", "--summary", "--since", "1h"])
        .exits(0);
    assert_eq!(none.stdout, "nothing happened in 1h\n");
}
