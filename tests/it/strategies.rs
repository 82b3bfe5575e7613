//! What is done for which findings: repairs, restarts and alerts by strategies, and the limits of an incident.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::scene::servers::ENVELOPE;
use crate::scene::{Scene, Service, alive, render, signal, when};

/// The stand-in program with a log that must have no errors.
fn service() -> Service {
    Service::new("a").log("path = \"a.log\"\nforbid = ['ERROR']")
}

/// A scene with such a service, whose strategies these are, and whose mail goes into a directory.
fn scene_of(service: &Service, strategies: &str) -> Scene {
    let scene = Scene::new();
    scene.config(&format!(
        "{ENVELOPE}directory = \"mails\"\n{}{strategies}",
        render(&[service])
    ));
    scene.write("a.log", "fine\n");
    scene
}

/// The same with the program running, and seen once.
fn running(service: &Service, strategies: &str) -> (Scene, i32) {
    let scene = scene_of(service, strategies);
    let pid = scene.start("a", &["pid_file=a.pid"]);
    scene.check().exits(0).verdict("a", "healthy");
    (scene, pid)
}

/// A repair of errors by a script.
const REPAIR: &str = "[[service.a.strategy]]\nfindings = [\"log_error\"]\ncommand = [\"/bin/sh\", \"{dir}/repair.sh\"]\n";

/// A script that counts its runs, and then does this.
fn script(scene: &Scene, rest: &str) {
    let text = format!("echo run >>\"${{0%/*}}/repairs\"\n{rest}\n");
    scene.write("repair.sh", text);
}

fn repairs(scene: &Scene) -> usize {
    scene.read("repairs").lines().count()
}

/// What is remembered of the service.
fn known(scene: &Scene) -> Value {
    scene.state()["services"]["a"].clone()
}

/// Lets all attempts, and so the incident, be older.
fn let_pass(scene: &Scene, minutes: i64) {
    scene.edit_state(|state| {
        let service = &mut state["services"]["a"];
        let older = |time: &mut Value| {
            *time = (when(time) - TimeDelta::minutes(minutes))
                .to_rfc3339()
                .into();
        };
        service["attempts"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .for_each(older);
        if let Some(Value::Object(strategies)) = service.get_mut("strategies") {
            for strategy in strategies.values_mut() {
                strategy["attempts"]
                    .as_array_mut()
                    .unwrap()
                    .iter_mut()
                    .for_each(older);
            }
        }
    });
}

#[test]
fn what_is_wrong_decides_what_is_done() {
    let strategies = format!(
        "{REPAIR}[[service.a.strategy]]\nfindings = [\"process_missing\"]\naction = \"restart\"\n"
    );
    let (scene, pid) = running(&service(), &strategies);
    script(&scene, "echo mended");
    scene.append("a.log", "ERROR one\n");
    let outcome = scene
        .check()
        .exits(1)
        .verdict("a", "repaired")
        .finds("a", "log_error");
    let it = outcome.service("a");
    assert_eq!(it["action"]["kind"], "repair");
    assert_eq!(it["action"]["method"], "command");
    assert_eq!(it["action"]["ok"], true);
    assert_eq!(it["action"]["new_pid"], Value::Null);
    assert_eq!(it["pid"], pid, "nothing was stopped");
    assert_eq!(it["restarts_last_hour"], 1);
    assert!(alive(pid));
    assert_eq!(repairs(&scene), 1);
    assert_eq!(scene.read("state/a.out"), "mended\n");
    scene.check().exits(0).verdict("a", "healthy");
    scene.kill(pid);
    let outcome = scene.check().restarted_for("a", "process_missing");
    assert_eq!(outcome.service("a")["action"]["kind"], "restart");
    assert_eq!(repairs(&scene), 1);
    let events: Vec<String> = scene
        .journal()
        .iter()
        .filter(|entry| entry["service"] == "a")
        .map(|entry| entry["event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        events,
        [
            "repairing",
            "repaired",
            "recovered",
            "restarting",
            "restarted"
        ]
    );
    let history = scene.run(&["history", "a"]).exits(0).words();
    assert!(history.contains("repaired by command in"), "{history}");
    assert!(history.contains("a: 1 restart in"), "{history}");
    assert!(history.contains("; 1 repair"), "{history}");
    let mails = scene.shell("cat {dir}/mails/*").exits(0).stdout;
    assert!(mails.contains("a was repaired."), "{mails}");
    assert!(mails.contains("X-Watchdog-Event: repaired"), "{mails}");
    let why = scene.run(&["why", "a"]).exits(0).words();
    assert!(
        why.contains("strategy for log_error: it is repaired by /bin/sh"),
        "{why}"
    );
}

#[test]
fn a_repair_that_fails_says_why_and_what_it_wrote() {
    let (scene, pid) = running(&service(), REPAIR);
    script(&scene, "echo no room left; exit 3");
    scene.append("a.log", "ERROR one\n");
    let outcome = scene.check().exits(2).verdict("a", "repair_failed");
    let it = outcome.service("a");
    assert_eq!(it["action"]["kind"], "repair");
    assert_eq!(it["action"]["stderr"], json!(["no room left"]));
    assert!(outcome.error("a").ends_with("exited with status 3"), "{it}");
    assert!(alive(pid));
    let mails = scene.shell("cat {dir}/mails/*").exits(0).stdout;
    assert!(
        mails.contains("a is broken, and could not be repaired"),
        "{mails}"
    );
    assert!(mails.contains("> no room left"), "{mails}");
}

#[test]
fn a_repair_that_takes_too_long_is_ended() {
    let (scene, _) = running(&service(), &format!("{REPAIR}timeout = \"300ms\"\n"));
    script(&scene, "sleep 600");
    scene.append("a.log", "ERROR one\n");
    let outcome = scene.check().exits(2).verdict("a", "repair_failed");
    assert!(
        outcome.error("a").contains("300ms"),
        "{}",
        outcome.error("a")
    );
}

#[test]
fn a_service_that_cannot_be_restarted_can_be_repaired() {
    let scene = scene_of(
        &Service::logs("a").log("path = \"a.log\"\nforbid = ['ERROR']"),
        REPAIR,
    );
    script(&scene, "");
    scene.check().exits(0);
    scene.append("a.log", "ERROR one\n");
    let dry = scene.run(&["check", "--dry-run"]).exits(1).words();
    assert!(dry.contains("would be repaired now"), "{dry}");
    assert_eq!(repairs(&scene), 0);
    scene.check().exits(1).verdict("a", "repaired");
    assert_eq!(repairs(&scene), 1);
    // a person who asks for a restart gets none
    scene.run(&["restart", "a"]).exits(1);
    assert_eq!(repairs(&scene), 1);
}

#[test]
fn what_can_be_looked_at_again_must_be_mended() {
    let port = crate::scene::free_port();
    let service = Service::new("a").restart("start_timeout", "\"3s\"");
    let strategies = format!(
        "[[service.a.port]]\naddress = \"127.0.0.1:{port}\"\n\
         [[service.a.strategy]]\nfindings = [\"port_closed\"]\ncommand = [\"/bin/sh\", \"{{dir}}/repair.sh\"]\n"
    );
    let scene = scene_of(&service, &strategies);
    scene.start("a", &["pid_file=a.pid"]);
    script(&scene, "");
    let outcome = scene.check().exits(2).verdict("a", "repair_failed");
    let error = outcome.error("a");
    assert!(error.starts_with("the command succeeded, but"), "{error}");
    assert!(error.contains("refused the connection"), "{error}");
    // one that is opened a little after the command has ended
    let server = format!(
        "import socket,time\ntime.sleep(0.7)\ns=socket.socket()\ns.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)\n\
         s.bind(('127.0.0.1',{port}))\ns.listen()\nopen('{}/server.pid','w').write('x')\ntime.sleep(600)\n",
        scene.dir()
    );
    scene.write("server.py", server);
    script(
        &scene,
        "setsid python3 \"${0%/*}/server.py\" >/dev/null 2>&1 &",
    );
    scene.check().exits(1).verdict("a", "repaired");
    assert_eq!(repairs(&scene), 2);
    scene.check().exits(0).verdict("a", "healthy");
}

#[test]
fn a_host_is_repaired_where_a_strategy_lists_its_finding() {
    let scene = Scene::new();
    let host = |limit: &str| {
        format!(
            "[service.host]\nrestart = {{ start_timeout = \"1s\" }}\n\
             [[service.host.disk]]\npath = \"{{dir}}\"\nmin_free = \"{limit}\"\n\
             [[service.host.strategy]]\nfindings = [\"disk_full\"]\n\
             command = [\"/bin/sh\", \"{{dir}}/repair.sh\"]\ncooldown = \"1h\"\n"
        )
    };
    script(&scene, "");
    scene.config(&host("1 B"));
    scene.check().exits(0).verdict("host", "healthy");
    scene.config(&host("100%"));
    let outcome = scene.check().exits(2).verdict("host", "repair_failed");
    let error = outcome.error("host");
    assert!(error.contains("it is not mended: "), "{error}");
    assert_eq!(outcome.service("host")["pid"], Value::Null);
    scene.check().exits(2).verdict("host", "waiting");
    assert_eq!(repairs(&scene), 1);
}

#[test]
fn what_is_only_alerted_about_is_down_and_left_alone() {
    let strategies = "[[service.a.strategy]]\nfindings = [\"log_error\"]\naction = \"alert\"\n";
    let (scene, pid) = running(&service(), strategies);
    scene.append("a.log", "ERROR one\n");
    let outcome = scene.check().exits(2).verdict("a", "down");
    assert!(alive(pid));
    assert_eq!(outcome.service("a")["action"], Value::Null);
    let notes = outcome.service("a")["notes"].to_string();
    assert!(notes.contains("its strategy for log_error says"), "{notes}");
    // what it does not list is restarted
    scene.kill(pid);
    scene.check().restarted_for("a", "process_missing");
}

#[test]
fn f33_a_run_that_is_killed_in_a_repair_has_made_an_attempt() {
    let (scene, pid) = running(&service().restart("max_per_hour", "2"), REPAIR);
    script(
        &scene,
        "touch \"${0%/*}/begun\"; sleep 1; echo end >>\"${0%/*}/repairs\"",
    );
    scene.append("a.log", "ERROR one\n");
    let check = scene.begin(scene.command(&["check", "--json"]));
    scene.wait_until("the repair", || scene.has("begun"));
    signal(check.pid(), nix::sys::signal::Signal::SIGKILL);
    let killed = scene.end(check);
    assert_eq!(killed.code, -9);
    assert_eq!(known(&scene)["attempts"].as_array().unwrap().len(), 1);
    // the error is still unread, the former command is waited for, and then it is run again
    let outcome = scene.check().exits(1).verdict("a", "repaired");
    // never two at a time
    assert_eq!(scene.read("repairs"), "run\nend\nrun\nend\n");
    assert_eq!(outcome.service("a")["restarts_last_hour"], 2);
    assert!(alive(pid));
    let told = scene.run(&["history", "a"]).exits(0).words();
    assert!(
        told.contains("was cut short while it repaired `a`; the attempt counts"),
        "{told}"
    );
    scene.append("a.log", "ERROR two\n");
    scene.check().exits(2).verdict("a", "exhausted");
    assert_eq!(repairs(&scene), 4);
}

#[test]
fn the_cooldown_grows_within_an_incident_and_begins_anew_after_it() {
    let service = Service::new("a")
        .option("exit=1")
        .restart("cooldown", "\"2m\"")
        .restart("backoff", "2.0");
    let scene = Scene::of(&[&service]);
    scene.check().exits(2).verdict("a", "restart_failed");
    scene.check().exits(2).verdict("a", "waiting");
    let_pass(&scene, 2);
    scene.check().exits(2).verdict("a", "restart_failed");
    let_pass(&scene, 3);
    let outcome = scene.check().exits(2).verdict("a", "waiting");
    let notes = outcome.service("a")["notes"].to_string();
    assert!(
        notes.contains("cooldown: the last restart was 3m"),
        "{notes}"
    );
    let why = scene.run(&["why", "a"]).exits(0).words();
    assert!(why.contains("cooldown of 4m until"), "{why}");
    let_pass(&scene, 1);
    scene.check().exits(2).verdict("a", "restart_failed");
    assert_eq!(known(&scene)["incident_attempts"], 3);
    // it is started by hand, and well
    let pid = scene.start("a", &["pid_file=a.pid"]);
    scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(known(&scene)["incident_attempts"], Value::Null);
    assert_eq!(
        known(&scene)["attempts"].as_array().unwrap().len(),
        3,
        "the hour counts them"
    );
    scene.kill(pid);
    scene.check().exits(2).verdict("a", "waiting");
    let_pass(&scene, 2);
    scene.check().exits(2).verdict("a", "restart_failed");
}

#[test]
fn an_incident_has_so_many_attempts_and_no_more() {
    let service = Service::new("a")
        .option("exit=1")
        .restart("max_attempts", "2");
    let scene = scene_of(&service, "");
    for _ in 0..2 {
        scene.check().exits(2).verdict("a", "restart_failed");
    }
    let outcome = scene.check().exits(2).verdict("a", "exhausted");
    let notes = outcome.service("a")["notes"].to_string();
    assert!(
        notes.contains("2 attempts in this incident (max_attempts = 2)"),
        "{notes}"
    );
    // no hour frees it
    let_pass(&scene, 61);
    scene.check().exits(2).verdict("a", "exhausted");
    let mails = scene.shell("cat {dir}/mails/*").exits(0).stdout;
    assert!(
        mails.contains("the attempts to mend it are used up"),
        "{mails}"
    );
    assert!(
        mails.contains("Next attempt: none in this incident, which has had 2"),
        "{mails}"
    );
    scene.run(&["reset", "a"]).exits(0);
    scene.check().exits(2).verdict("a", "restart_failed");
    scene.check().exits(2).verdict("a", "restart_failed");
    scene.check().exits(2).verdict("a", "exhausted");
    // well again, by hand: the next one is a new incident
    let pid = scene.start("a", &["pid_file=a.pid"]);
    scene.check().exits(0).verdict("a", "healthy");
    scene.kill(pid);
    scene.check().exits(2).verdict("a", "restart_failed");
}

#[test]
fn a_lost_state_forgets_no_attempt_of_an_incident() {
    let service = Service::new("a").option("exit=1");
    let strategies = "[[service.a.strategy]]\nfindings = [\"process_missing\"]\nmax_attempts = 2\n";
    let scene = scene_of(&service, strategies);
    for _ in 1..=2 {
        scene.check().exits(2).verdict("a", "restart_failed");
    }
    scene
        .shell("rm {dir}/state/state.json {dir}/state/state.json.bak")
        .exits(0);
    let outcome = scene.check().exits(2).verdict("a", "exhausted");
    assert_eq!(outcome.service("a")["restarts_last_hour"], 2);
    let state = known(&scene);
    assert_eq!(state["incident_attempts"], 2);
    assert_eq!(state["strategies"]["process_missing"]["of_incident"], 2);
    assert_eq!(scene.starts("a").len(), 2);
}

#[test]
fn some_of_the_last_runs_are_enough() {
    let service = Service::new("a")
        .restart("after_failures", "2")
        .restart("out_of", "3");
    let scene = Scene::of(&[&service]);
    scene.check().exits(1).verdict("a", "failing");
    let pid = scene.start("a", &["pid_file=a.pid"]);
    scene.check().exits(0).verdict("a", "healthy");
    scene.kill(pid);
    scene.check().exits(1).verdict("a", "restarted");
    // an attempt begins anew
    scene.kill(scene.last("a"));
    scene.check().exits(1).verdict("a", "failing");
    // a paused run does not count
    scene.run(&["pause", "a"]).exits(0);
    scene.check().exits(0).verdict("a", "paused");
    scene.run(&["resume", "a"]).exits(0);
    scene.check().exits(1).verdict("a", "restarted");
}

#[test]
fn the_limits_of_a_strategy_and_of_the_service_hold_both() {
    let strategies = format!("{REPAIR}cooldown = \"10m\"\n");
    let (scene, pid) = running(&service().restart("max_per_hour", "3"), &strategies);
    script(&scene, "");
    let error = |number: u32| scene.append("a.log", format!("ERROR {number}\n"));
    error(1);
    scene.check().exits(1).verdict("a", "repaired");
    error(2);
    scene.check().exits(2).verdict("a", "waiting");
    // what another finding is reason for does not wait for that
    scene.kill(pid);
    scene.check().exits(1).verdict("a", "restarted");
    let_pass(&scene, 10);
    error(3);
    scene.check().exits(1).verdict("a", "repaired");
    let_pass(&scene, 10);
    error(4);
    let outcome = scene.check().exits(2).verdict("a", "exhausted");
    assert_eq!(outcome.service("a")["restarts_last_hour"], 3);
    assert_eq!(repairs(&scene), 2);
    let state = known(&scene);
    assert_eq!(
        state["strategies"]["log_error"]["attempts"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    for time in state["attempts"].as_array().unwrap() {
        when(time);
    }
    // what a version without strategies has written is read
    scene.edit_state(|state| {
        let service = state["services"]["a"].as_object_mut().unwrap();
        for key in ["strategies", "incident_attempts", "recent_runs"] {
            service.remove(key);
        }
    });
    error(5);
    scene.check().exits(2).verdict("a", "exhausted");
}

#[test]
fn validate_tells_what_a_strategy_would_not_do() {
    let service = Service::logs("a").log("path = \"a.log\"\nforbid = ['ERROR']");
    let strategies = "[[service.a.strategy]]\nfindings = [\"log_error\"]\ncommand = [\"no-such-program\"]\ntimeout = \"10m\"\n\
                      [[service.a.strategy]]\nfindings = [\"log_error\"]\n";
    let scene = scene_of(&service, strategies);
    scene.age("a.log", Duration::from_secs(1));
    let text = scene.run(&["validate"]).exits(0).words();
    for trap in [
        "a: it could not be repaired: no such program `no-such-program` in its PATH",
        "this command may take 10m, but run_timeout ends a run after 5m",
        "its strategy for log_error never holds",
        "this strategy restarts a service that has no restart method",
    ] {
        assert!(text.contains(trap), "{trap}: {text}");
    }
}
