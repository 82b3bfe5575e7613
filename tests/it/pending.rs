//! Waiting for the probes of what was restarted: a slow start has its time, and nothing is stopped for want of an answer.

use std::fmt::Write as _;
use std::time::Instant;

use serde_json::{Value, json};

use crate::boxes::SystemdBox;
use crate::scene::servers::ENVELOPE;
use crate::scene::{Scene, alive, free_port};

/// A server that opens its port after a while, answers `PONG` or something else, and may end.
const SERVER: &str = r"
import os, socket, sys, time
port, after, answer, ends = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], float(sys.argv[4])
here = os.path.dirname(os.path.abspath(__file__))
open(here + '/starts', 'a').write('%d\n' % os.getpid())
began = time.monotonic()
if after > 0:
    time.sleep(after)
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('127.0.0.1', port))
    s.listen()
    s.settimeout(0.1)
while ends <= 0 or time.monotonic() - began < ends:
    if after <= 0:
        time.sleep(0.1)
        continue
    try:
        c, _ = s.accept()
    except socket.timeout:
        continue
    c.settimeout(1)
    try:
        c.recv(100)
        c.sendall(answer.encode() + b'\r\n')
    except OSError:
        pass
    c.close()
sys.stderr.write('cannot bind: it is taken\n')
sys.exit(4)
";

/// A scene with such a server, which is dead, and two probes of it.
fn scene(after: &str, answer: &str, ends: &str, service: &str, restart: &str) -> (Scene, u16) {
    let scene = Scene::new();
    let port = free_port();
    scene.write("server.py", SERVER);
    scene.config(&format!(
        "{ENVELOPE}directory = \"mails\"\n[service.a]\n{service}\n\
         process = {{ command_line = '{{dir}}/server\\.py' }}\n\
         spawn = {{ command = [\"python3\", \"{{dir}}/server.py\", \"{port}\", \"{after}\", \"{answer}\", \"{ends}\"], \
         stderr = \"err.log\" }}\n\
         restart = {{ settle = \"100ms\", max_per_hour = 9, {restart} }}\n\
         [[service.a.port]]\naddress = \"127.0.0.1:{port}\"\nsend = \"PING\\r\\n\"\nexpect = '^PONG'\n\
         [[service.a.port]]\naddress = \"localhost:{port}\"\n"
    ));
    (scene, port)
}

/// The process that the restart has left, which must be the only one there ever was.
fn only_start(scene: &Scene) -> i32 {
    let starts = crate::scene::numbers(&scene.read("starts"));
    assert_eq!(starts.len(), 1, "{starts:?}");
    starts[0]
}

#[test]
fn a_port_that_opens_late_is_waited_for() {
    let (scene, _) = scene("1.2", "PONG", "0", "", "start_timeout = \"20s\"");
    let outcome = scene.check().exits(1).verdict("a", "restarted");
    let action = &outcome.service("a")["action"];
    assert_eq!(action.get("pending"), None, "{action}");
    assert!(action["duration_ms"].as_u64().unwrap() >= 1000, "{action}");
    let pid = only_start(&scene);
    assert_eq!(action["new_pid"], pid);
    scene.check().exits(0).verdict("a", "healthy");
    assert!(alive(pid));
}

#[test]
fn one_that_is_not_waited_for_is_judged_by_the_next_runs() {
    let rest = "start_timeout = \"20s\", wait_for = \"process\"";
    let (scene, _) = scene("0", "PONG", "0", "start_grace = \"1h\"", rest);
    let outcome = scene.check().exits(1).verdict("a", "restarted");
    let action = &outcome.service("a")["action"];
    assert_eq!(action.get("pending"), None, "{action}");
    let outcome = scene.check().exits(0).verdict("a", "starting");
    assert_eq!(outcome.codes("a"), ["port_closed", "port_closed"]);
}

#[test]
fn what_does_not_answer_while_it_is_young_is_pending_and_left_running() {
    let (scene, port) = scene(
        "0",
        "PONG",
        "0",
        "start_grace = \"1h\"",
        "start_timeout = \"2s\"",
    );
    let outcome = scene.check().exits(1).verdict("a", "restarted");
    let action = outcome.service("a")["action"].clone();
    assert_eq!(action["ok"], true);
    assert_eq!(
        action["pending"],
        json!([
            format!("port 127.0.0.1:{port}"),
            format!("port localhost:{port}")
        ])
    );
    let pid = only_start(&scene);
    assert!(alive(pid));
    scene.check().exits(0).verdict("a", "starting");
    // it is told, and kept
    let waits = format!("not passed yet: port 127.0.0.1:{port}, port localhost:{port}");
    for command in [&["history", "a"][..], &["why", "a"]] {
        let told = scene.run(command).exits(0).words();
        assert!(told.contains(&waits), "{told}");
    }
    let mails = scene.shell("cat {dir}/mails/*").exits(0).words();
    assert!(
        mails.contains("a was restarted and runs, but not all of it answers yet."),
        "{mails}"
    );
    assert!(
        mails.contains("Not passed yet, and judged again by the next runs:"),
        "{mails}"
    );
    // once it is no longer young, the next run judges it
    let text = scene
        .read("watchdog.toml")
        .replace("start_grace = \"1h\"", "start_grace = \"0s\"");
    scene.write(
        "watchdog.toml",
        text.replace("max_per_hour = 9", "max_per_hour = 0"),
    );
    let outcome = scene.check().exits(2).verdict("a", "down");
    assert_eq!(outcome.codes("a"), ["port_closed", "port_closed"]);
    assert!(alive(pid));
}

#[test]
fn what_does_not_answer_and_is_no_longer_young_was_restarted_in_vain() {
    for (after, answer, code) in [("0", "PONG", "refused"), ("0.1", "BUSY", "BUSY")] {
        let (scene, port) = scene(
            after,
            answer,
            "0",
            "start_grace = \"1s\"",
            "start_timeout = \"2s\"",
        );
        let outcome = scene.check().exits(2).verdict("a", "restart_failed");
        let it = outcome.service("a");
        assert_eq!(it["action"]["ok"], false);
        let error = outcome.error("a");
        let begin = format!("it is up, and left running, but port 127.0.0.1:{port}");
        assert!(error.starts_with(&begin), "{error}");
        assert!(error.contains(code), "{error}");
        // it is left running, and known by what the state and the journal have
        let pid = only_start(&scene);
        assert_eq!(it["action"]["new_pid"], pid);
        assert_eq!(it["pid"], pid);
        assert!(alive(pid));
        assert_eq!(
            scene.state()["services"]["a"]["process"]["started"]["pid"],
            pid
        );
        let journal = scene.journal();
        let entry = journal
            .iter()
            .find(|entry| entry["event"] == "restart_failed");
        assert_eq!(entry.unwrap()["started"]["pid"], pid);
        assert_eq!(scene.state()["services"]["a"].get("good_restarts"), None);
    }
}

#[test]
fn what_ends_while_its_probes_are_waited_for_says_why() {
    let (scene, _) = scene(
        "0",
        "PONG",
        "1",
        "start_grace = \"1h\"",
        "start_timeout = \"20s\"",
    );
    let began = Instant::now();
    let outcome = scene.check().exits(2).verdict("a", "restart_failed");
    let error = outcome.error("a");
    assert_eq!(
        error,
        "came up, but then, while its probes were waited for, exited with status 4"
    );
    let it = outcome.service("a");
    assert_eq!(it["action"]["stderr"], json!(["cannot bind: it is taken"]));
    assert_eq!(it["pid"], Value::Null);
    assert!(
        began.elapsed().as_secs() < 20,
        "it is not waited for in vain"
    );
}

#[test]
fn what_cannot_be_asked_is_pending_and_no_failure() {
    let (scene, _) = scene(
        "0.1",
        "PONG",
        "0",
        "start_grace = \"0s\"",
        "start_timeout = \"2s\"",
    );
    let text = scene
        .read("watchdog.toml")
        .replace("\"localhost:", "\"no-such-host.invalid:");
    scene.write("watchdog.toml", text);
    let outcome = scene.check().exits(1).verdict("a", "restarted");
    let pending = outcome.service("a")["action"]["pending"].to_string();
    assert!(pending.contains("no-such-host.invalid"), "{pending}");
    assert!(!pending.contains("127.0.0.1"), "{pending}");
    scene.check().exits(3).verdict("a", "unknown");
    only_start(&scene);
}

#[test]
fn what_has_to_last_or_only_warns_is_seen_as_it_is() {
    let (scene, port) = scene(
        "0",
        "PONG",
        "0",
        "start_grace = \"1h\"",
        "start_timeout = \"2s\"",
    );
    let text = scene.read("watchdog.toml").replace(
        &format!("[[service.a.port]]\naddress = \"localhost:{port}\"\n"),
        &format!("for = \"1h\"\n[[service.a.port]]\naddress = \"localhost:{port}\"\nseverity = \"warning\"\n"),
    );
    scene.write("watchdog.toml", text);
    let outcome = scene.check().exits(1).verdict("a", "restarted");
    let pending = &outcome.service("a")["action"]["pending"];
    assert_eq!(*pending, json!([format!("port 127.0.0.1:{port}")]));
}

#[test]
fn services_are_waited_for_side_by_side() {
    let scene = Scene::new();
    scene.write("server.py", SERVER);
    let mut config = String::new();
    for number in 0..6 {
        let port = free_port();
        write!(
            config,
            "[service.s{number}]\nstart_grace = \"1h\"\n\
             process = {{ command_line = '{{dir}}/server\\.py {port} ' }}\n\
             spawn = {{ command = [\"python3\", \"{{dir}}/server.py\", \"{port}\", \"0\", \"PONG\", \"0\"] }}\n\
             restart = {{ settle = \"0s\", start_timeout = \"4s\" }}\n\
             [[service.s{number}.port]]\naddress = \"127.0.0.1:{port}\"\n"
        )
        .unwrap();
    }
    scene.config(&config);
    let outcome = scene.check().exits(1);
    let took = outcome.json()["duration_ms"].as_u64().unwrap();
    assert!(took < 6 * 4000, "{took} ms: one after the other");
    for number in 0..6 {
        let service = outcome.service(&format!("s{number}"));
        assert_eq!(service["verdict"], "restarted");
        assert_eq!(service["action"]["pending"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_run_that_has_to_end_still_tells_what_was_restarted() {
    let (scene, _) = scene(
        "0",
        "PONG",
        "0",
        "start_grace = \"1h\"",
        "start_timeout = \"1m\"",
    );
    let text = scene.read("watchdog.toml");
    scene.write("watchdog.toml", format!("run_timeout = \"6s\"\n{text}"));
    let outcome = scene.check().exits(1).verdict("a", "restarted");
    let pending = &outcome.service("a")["action"]["pending"];
    assert_eq!(pending.as_array().unwrap().len(), 2);
    assert!(alive(only_start(&scene)));
}

#[test]
#[ignore = "needs root and systemd"]
fn a_unit_is_waited_for_like_a_program() {
    let it = SystemdBox::boot_alone();
    it.write("/srv/server.py", SERVER);
    let unit = |after: &str, ends: &str| {
        format!("[Service]\nExecStart=python3 /srv/server.py 4002 {after} PONG {ends}\n")
    };
    let config = |grace: &str| {
        it.config(&format!(
            "[service.bot]\nsystemd = {{ unit = \"bot.service\" }}\nstart_grace = \"{grace}\"\n\
             restart = {{ settle = \"200ms\", start_timeout = \"4s\", max_per_hour = 9 }}\n\
             [[service.bot.port]]\naddress = \"127.0.0.1:4002\"\nsend = \"PING\\r\\n\"\nexpect = '^PONG'\n"
        ));
    };
    it.unit("bot.service", &unit("1.5", "0"));
    config("1h");
    let ended = it
        .check()
        .exits(1)
        .tells("bot", "restarted", &["unit_inactive"]);
    assert_eq!(ended.service("bot")["action"].get("pending"), None);
    it.check().exits(0).tells("bot", "healthy", &[]);
    // it never answers, and is left running
    it.sh("systemctl stop bot.service").ok();
    it.unit("bot.service", &unit("0", "0"));
    let ended = it
        .check()
        .exits(1)
        .tells("bot", "restarted", &["unit_inactive"]);
    let pending = &ended.service("bot")["action"]["pending"];
    assert_eq!(*pending, json!(["port 127.0.0.1:4002"]));
    it.sh("systemctl is-active bot.service").ok();
    it.sh("systemctl stop bot.service").ok();
    config("1s");
    let ended = it
        .check()
        .exits(2)
        .tells("bot", "restart_failed", &["unit_inactive"]);
    let error = ended.service("bot")["action"]["error"].to_string();
    assert!(
        error.contains("it is up, and left running, but port 127.0.0.1:4002"),
        "{error}"
    );
    it.sh("systemctl is-active bot.service").ok();
    // it ends meanwhile, and its journal says why
    it.sh("systemctl stop bot.service").ok();
    it.unit("bot.service", &unit("0", "1"));
    let ended = it
        .check()
        .exits(2)
        .tells("bot", "restart_failed", &["unit_inactive"]);
    let action = &ended.service("bot")["action"];
    let error = action["error"].to_string();
    assert!(
        error.contains("while its probes were waited for, ended"),
        "{error}"
    );
    assert!(
        action["stderr"]
            .to_string()
            .contains("cannot bind: it is taken"),
        "{action}"
    );
}
