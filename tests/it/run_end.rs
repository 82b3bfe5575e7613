//! What a run does when its time ends, when it is killed, and when its lock is taken away: at no time may another run act
//! beside it, nothing is stopped that cannot be started again, and what it found is not forgotten.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;

use serde_json::Value;

use crate::scene::{Scene, Service, alive, render, when};

fn attempts(scene: &Scene, name: &str) -> usize {
    let state = scene.state();
    let attempts = state["services"][name]["attempts"].as_array();
    attempts.map_or(0, Vec::len)
}

#[test]
fn while_a_restart_goes_on_no_other_run_begins() {
    // takes a connection, and answers nothing: the run is at its last step for ten seconds
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let service = Service::new("a")
        .restart("stop_timeout", "\"30s\"")
        .log("path = \"a.log\"\nexpect = ['never there']");
    let scene = Scene::new();
    scene.config(&format!(
        "run_timeout = \"2s\"\n[ping]\nurl = \"http://127.0.0.1:{port}/x\"\n{}",
        render(&[&service])
    ));
    scene.write("a.log", "quiet\n");
    scene.start("a", &["pid_file=a.pid", "traps=TERM"]);
    let first = scene.begin(scene.command(&["check", "--json"]));
    scene.wait_until("the first run's last step", || match listener.accept() {
        Ok((stream, _)) => {
            // held open until both have ended
            std::mem::forget(stream);
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            false
        }
    });
    assert!(
        scene.read("a.signals").contains("TERM"),
        "it is being stopped"
    );
    let second = scene.check().code;
    scene.end(first).exits(3).verdict("a", "unknown");
    assert_eq!(second, 75, "the restart goes on until the process ends");
    assert_eq!(scene.copies("a"), 1);
}

#[test]
fn nothing_is_stopped_for_which_too_little_time_is_left() {
    let frozen = Service::new("a").log("path = \"a.log\"\nexpect = ['never there']");
    let scene = Scene::new();
    scene.config(&format!(
        "run_timeout = \"2s\"\n[mail]\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]\ndirectory = \"{{dir}}/mails\"\n[service.slow]\n[[service.slow.exec]]\ncommand = [\"sleep\", \"60\"]\ntimeout = \"1m\"\n{}",
        render(&[&frozen])
    ));
    scene.write("a.log", "quiet\n");
    let pid = scene.start("a", &["pid_file=a.pid"]);
    // the first that is late may be the only one; after that somebody has to be told
    for (verdict, mails) in [("waiting", 0), ("down", 1), ("down", 1)] {
        let outcome = scene.check().exits(2).verdict("a", verdict);
        assert_eq!(scene.mails().len(), mails, "{verdict}");
        let notes = outcome.service("a")["notes"].to_string();
        let why =
            "not restarted, because the run had too little time left for it (run_timeout = 2s)";
        assert!(notes.contains(why), "{notes}");
    }
    assert!(alive(pid));
    assert_eq!(attempts(&scene, "a"), 0, "and none is spent");
}

#[test]
fn an_attempt_counts_from_when_it_is_made() {
    let service = Service::new("a").watched();
    let scene = Scene::of(&[&service]);
    let text = scene.read("watchdog.toml");
    let slow = "[[service.a.exec]]\ncommand = [\"/bin/sh\", \"-c\", \"sleep 2; exit 1\"]\n";
    let way = "[service.a.spawn]\ncommand = [\"/bin/sh\", \"{dir}/prog.sh\", \"a\", \"pid_file=a.pid\"]\n";
    scene.raw_config(&format!("{text}\n{slow}{way}"));
    let outcome = scene.check();
    assert_eq!(outcome.service("a")["action"]["kind"], "restart");
    let state = scene.state();
    let began = when(&outcome.json()["time"]);
    let made = when(&state["services"]["a"]["attempts"][0]);
    assert!(
        made - began >= chrono::TimeDelta::seconds(2),
        "{began} {made}"
    );
}

#[test]
fn a_damaged_state_is_not_forgotten_where_the_run_is_killed() {
    let service = Service::new("a");
    let scene = Scene::new();
    let config = |more: &str| {
        scene.config(&format!(
            "[mail]\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]\ndirectory = \"{{dir}}/mails\"\n{}{more}",
            render(&[&service])
        ));
    };
    config("");
    scene.check().exits(1).verdict("a", "restarted");
    scene.check().exits(0);
    scene.kill(scene.last("a"));
    for name in ["state.json", "state.json.bak"] {
        scene.write(&format!("state/{name}"), "{");
    }
    fs::remove_file(scene.path("state/journal.jsonl")).unwrap();
    config(
        "[service.slow]\n[[service.slow.exec]]\ncommand = [\"/bin/sh\", \"-c\", \"echo x >{dir}/looked; exec sleep 60\"]\n\
         timeout = \"1m\"\n",
    );
    let run = scene.begin(scene.command(&["check"]));
    scene.wait_until("the look", || scene.has("looked"));
    scene.kill(run.pid());
    scene.end(run);
    config("");
    scene.check().exits(2).verdict("a", "waiting");
    let is_damage = |line: &&Value| line["event"] == "state_damaged";
    let journal = scene.journal();
    assert_eq!(journal.iter().filter(is_damage).count(), 2, "{journal:?}");
    let read = |entry: fs::DirEntry| fs::read_to_string(entry.path()).unwrap();
    let mails: Vec<String> = fs::read_dir(scene.path("mails"))
        .unwrap()
        .map(|entry| read(entry.unwrap()))
        .collect();
    assert!(
        mails.iter().any(|mail| mail.contains("state.json.bak")),
        "{mails:?}"
    );
    scene.check().exits(1).verdict("a", "restarted");
}

#[test]
fn nothing_is_stopped_once_the_lock_is_gone() {
    let service = Service::new("a").log("path = \"a.log\"\nexpect = ['never there']");
    let scene = Scene::of(&[&service]);
    scene.write("a.log", "quiet\n");
    let pid = scene.start("a", &["pid_file=a.pid"]);
    let text = scene.read("watchdog.toml");
    scene.raw_config(&format!(
        "{text}\n[[service.a.exec]]\ncommand = [\"/bin/sh\", \"-c\", \"mv {{dir}}/state {{dir}}/moved\"]\n"
    ));
    let outcome = scene.check().exits(73);
    assert!(
        outcome.stderr.contains("was removed during the run"),
        "{}",
        outcome.stderr
    );
    assert!(alive(pid));
    assert!(
        !scene.has("state"),
        "nothing is written where another run may be"
    );
}
