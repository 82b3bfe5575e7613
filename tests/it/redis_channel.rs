//! The channel `redis`, with a real server: with a password, TLS and a unix socket; what its errors mean; and that nothing
//! is added twice.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::scene::{Outcome, Scene, Service, free_port, render, wait_until};

/// A server in the directory of a scene, on a unix socket and a port of loopback.
struct Redis {
    child: Child,
    socket: String,
    port: u16,
}

impl Redis {
    fn start(scene: &Scene, options: &[&str]) -> Self {
        let socket = format!("{}/redis.sock", scene.dir());
        let port = free_port();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &port.to_string(), "--unixsocket", &socket])
            .args(["--dir", scene.dir()])
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let redis = Self {
            child,
            socket,
            port,
        };
        wait_until("redis-server answers", || redis.ask(&["PING"]) == "PONG");
        redis
    }

    /// What it says to a command.
    fn ask(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-s", &self.socket, "--raw"])
            .args(words)
            .env("REDISCLI_AUTH", "CANARY1")
            .stderr(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn length(&self) -> usize {
        self.ask(&["XLEN", "alerts"]).parse().unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configure(scene: &Scene, url: &str, more: &str) {
    let down = Service::new("alpha").watched();
    scene.config(&format!(
        "[notify.bus]\ntype = \"redis\"\nurl = \"{url}\"\n{more}\n{}",
        render(&[&down])
    ));
}

fn bus(outcome: &Outcome) -> (u64, u64) {
    let json = outcome.json();
    let count = |key: &str| json["notify"]["bus"][key].as_u64().unwrap();
    (count("sent"), count("queued"))
}

fn last_said(scene: &Scene) -> String {
    scene.journal().pop().unwrap()["message"].to_string()
}

/// An authority, and certificates of it.
fn certificates(directory: &Path) {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/real_smtp/certificates.sh"
    );
    let made = Command::new("sh").arg(script).arg(directory).output();
    assert!(made.unwrap().status.success());
}

#[test]
#[ignore = "needs the package redis-server"]
fn a_consumer_group_reads_what_was_added_over_each_way_to_a_server() {
    let scene = Scene::new();
    fs::create_dir(scene.path("tls")).unwrap();
    certificates(&scene.path("tls"));
    let tls_port = free_port();
    let file = |name: &str| scene.path(&format!("tls/{name}")).display().to_string();
    let redis = Redis::start(
        &scene,
        &[
            "--requirepass",
            "CANARY1",
            "--user",
            "watch",
            "on",
            ">CANARY2",
            "~alerts",
            "+xadd",
            "--tls-port",
            &tls_port.to_string(),
            "--tls-cert-file",
            &file("good.pem"),
            "--tls-key-file",
            &file("good.key"),
            "--tls-auth-clients",
            "no",
        ],
    );
    let (port, socket) = (redis.port, &redis.socket);
    let ca_file = format!("ca_file = \"{}\"", file("ca.pem"));
    for (number, (url, more)) in [
        (format!("redis://:CANARY1@127.0.0.1:{port}"), ""),
        (format!("redis://watch:CANARY2@localhost:{port}/0"), ""),
        (format!("unix://watch:CANARY2@{socket}"), ""),
        (
            format!("rediss://watch:CANARY2@localhost:{tls_port}"),
            &*ca_file,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let _ = fs::remove_dir_all(scene.path("state"));
        configure(&scene, &url, more);
        assert_eq!(bus(&scene.check().exits(2)), (1, 0), "{url}");
        assert_eq!(bus(&scene.check().exits(2)), (0, 0), "{url}");
        assert_eq!(redis.length(), number + 1, "{url}");
    }
    // in another database
    let url = format!("redis://:CANARY1@127.0.0.1:{port}/3");
    configure(&scene, &url, "stream = \"own\"\nfield = \"json\"");
    scene.run(&["test-notify"]).exits(0);
    assert_eq!(redis.ask(&["-n", "3", "XLEN", "own"]), "1");
    let entry = redis.ask(&["-n", "3", "XRANGE", "own", "-", "+"]);
    let test: Value = serde_json::from_str(entry.lines().last().unwrap()).unwrap();
    assert_eq!(test["event_type"], "TEST");

    redis.ask(&["XGROUP", "CREATE", "alerts", "bots", "0"]);
    let read = redis.ask(&[
        "XREADGROUP",
        "GROUP",
        "bots",
        "one",
        "COUNT",
        "9",
        "STREAMS",
        "alerts",
        ">",
    ]);
    let entries: Vec<Value> = (read.lines())
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(Value::is_object)
        .collect();
    assert_eq!(entries.len(), 4, "{read}");
    for entry in &entries {
        assert_eq!(entry["event_type"], "COMPONENT_DOWN");
        assert_eq!(entry["severity"], "CRITICAL");
        assert_eq!(entry["params"]["component_name"], "alpha");
        assert_eq!(entry["params"]["consecutive_failures"], 1);
        assert!(entry["timestamp"].as_f64().unwrap() > 1.7e9);
        assert!(entry["reason"].as_str().is_some_and(|it| !it.is_empty()));
    }
}

#[test]
#[ignore = "needs the package redis-server"]
fn a_certificate_that_is_not_trusted_is_told_and_nothing_is_said() {
    let scene = Scene::new();
    fs::create_dir(scene.path("tls")).unwrap();
    certificates(&scene.path("tls"));
    let tls_port = free_port();
    let file = |name: &str| scene.path(&format!("tls/{name}")).display().to_string();
    let redis = Redis::start(
        &scene,
        &[
            "--tls-port",
            &tls_port.to_string(),
            "--tls-cert-file",
            &file("good.pem"),
            "--tls-key-file",
            &file("good.key"),
            "--tls-auth-clients",
            "no",
        ],
    );
    configure(&scene, &format!("rediss://localhost:{tls_port}"), "");
    assert_eq!(bus(&scene.check().exits(2)), (0, 1));
    assert!(
        last_said(&scene).contains("certificate"),
        "{}",
        last_said(&scene)
    );
    configure(&scene, &format!("rediss://localhost:{}", redis.port), "");
    assert_eq!(bus(&scene.check().exits(2)), (0, 1));
    assert_eq!(redis.length(), 0);
}

#[test]
#[ignore = "needs the package redis-server"]
fn what_is_wrong_with_the_config_is_tried_once_an_hour_or_when_it_changes() {
    let scene = Scene::new();
    let redis = Redis::start(&scene, &["--requirepass", "CANARY1"]);
    let port = redis.port;
    redis.ask(&["SET", "text", "x"]);
    let right = format!("redis://:CANARY1@127.0.0.1:{port}");
    for (url, more, said) in [
        (format!("redis://127.0.0.1:{port}"), "", "NOAUTH"),
        (
            format!("redis://:CANARY3@127.0.0.1:{port}"),
            "",
            "WRONGPASS",
        ),
        (right.clone(), "stream = \"text\"", "WRONGTYPE"),
        (format!("{right}/99"), "", "out of range"),
    ] {
        let _ = fs::remove_dir_all(scene.path("state"));
        redis.ask(&["DEL", "alerts"]);
        configure(&scene, &url, more);
        assert_eq!(bus(&scene.check().exits(2)), (0, 1), "{said}");
        let message = last_said(&scene);
        assert!(message.contains(said), "{message}");
        assert!(message.contains("once an hour"), "{message}");
        assert!(!message.contains("CANARY"), "{message}");
        let hold = scene.state()["channels"]["bus"]["hold"].clone();
        assert!(hold.is_object(), "{said}");
        // nobody asks
        assert_eq!(bus(&scene.check().exits(2)), (0, 1), "{said}");
        configure(&scene, &right, "");
        assert_eq!(bus(&scene.check().exits(2)), (1, 0), "{said}");
        assert_eq!(redis.length(), 1, "{said}");
    }
}

#[test]
#[ignore = "needs the package redis-server"]
fn a_server_that_cannot_take_it_now_is_asked_by_every_run() {
    let scene = Scene::new();
    let redis = Redis::start(&scene, &[]);
    for (begin, end, said) in [
        (
            &["CONFIG", "SET", "maxmemory", "1"][..],
            &["CONFIG", "SET", "maxmemory", "0"][..],
            "OOM",
        ),
        (
            &["REPLICAOF", "127.0.0.1", "1"],
            &["REPLICAOF", "NO", "ONE"],
            "READONLY",
        ),
    ] {
        let _ = fs::remove_dir_all(scene.path("state"));
        configure(&scene, &format!("redis://127.0.0.1:{}", redis.port), "");
        redis.ask(begin);
        assert_eq!(bus(&scene.check().exits(2)), (0, 1), "{said}");
        assert!(last_said(&scene).contains(said), "{}", last_said(&scene));
        redis.ask(end);
        assert_eq!(bus(&scene.check().exits(2)), (1, 0), "{said}");
    }
    assert_eq!(redis.length(), 2);
    let port = redis.port;
    drop(redis);
    let _ = fs::remove_dir_all(scene.path("state"));
    assert_eq!(bus(&scene.check().exits(2)), (0, 1));
    assert_eq!(bus(&scene.check().exits(2)), (0, 1));
    let redis = Redis::start(&scene, &[]);
    configure(&scene, &format!("redis://127.0.0.1:{}", redis.port), "");
    assert_eq!(bus(&scene.check().exits(2)), (1, 0), "{port}");
}

/// A server that answers every command with this line.
fn says(line: &'static str) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut bytes = vec![0; 64 << 10];
            while let Ok(length @ 1..) = client.read(&mut bytes) {
                // each command begins with the number of its words
                let count = (bytes[..length].split(|byte| *byte == b'\n'))
                    .filter(|line| line.first() == Some(&b'*'))
                    .count();
                let _ = client.write_all(line.repeat(count.max(1)).as_bytes());
            }
        }
    });
    port
}

#[test]
fn a_server_that_is_starting_or_full_is_asked_by_every_run_and_one_that_forbids_is_not() {
    for (line, is_asked) in [
        ("-LOADING Redis is loading the dataset in memory\r\n", true),
        ("-BUSY Redis is busy running a script.\r\n", true),
        ("-MASTERDOWN Link with MASTER is down\r\n", true),
        ("-ERR max number of clients reached\r\n", true),
        (
            "-NOPERM this user has no permissions to run the 'xadd' command\r\n",
            false,
        ),
        ("-ERR unknown command 'XADD'\r\n", false),
    ] {
        let scene = Scene::new();
        configure(&scene, &format!("redis://127.0.0.1:{}", says(line)), "");
        assert_eq!(bus(&scene.check().exits(2)), (0, 1), "{line}");
        let said = last_said(&scene);
        assert!(said.contains(line[1..].trim()), "{line}: {said}");
        assert_eq!(said.contains("once an hour"), !is_asked, "{line}: {said}");
        assert!(!said.contains("perhaps"), "nothing was added: {said}");
        let hold = &scene.state()["channels"]["bus"]["hold"];
        assert_eq!(hold.is_object(), !is_asked, "{line}");
    }
}

#[test]
#[ignore = "needs the package redis-server"]
fn a_server_that_cannot_save_and_a_cluster_are_told_apart() {
    let scene = Scene::new();
    // it cannot save: its directory is gone
    fs::create_dir(scene.path("data")).unwrap();
    let data = scene.path("data").display().to_string();
    let redis = Redis::start(
        &scene,
        &[
            "--dir",
            &data,
            "--stop-writes-on-bgsave-error",
            "yes",
            "--save",
            "3600 1",
        ],
    );
    redis.ask(&["SET", "x", "1"]);
    fs::remove_dir_all(&data).unwrap();
    redis.ask(&["BGSAVE"]);
    wait_until("the save has failed", || {
        redis
            .ask(&["INFO", "persistence"])
            .contains("rdb_last_bgsave_status:err")
    });
    configure(&scene, &format!("redis://127.0.0.1:{}", redis.port), "");
    assert_eq!(bus(&scene.check().exits(2)), (0, 1));
    let said = last_said(&scene);
    assert!(
        said.contains("MISCONF") && !said.contains("once an hour"),
        "{said}"
    );
    redis.ask(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]);
    assert_eq!(bus(&scene.check().exits(2)), (1, 0));
    redis.ask(&["CONFIG", "SET", "save", ""]);
    drop(redis);
    // a node of a cluster that has no slots, and then some, but not that of the stream
    let scene = Scene::new();
    let bus_ports = [free_port(), free_port()].map(|port| port.to_string());
    let cluster = |bus_port| ["--cluster-enabled", "yes", "--cluster-port", bus_port];
    let redis = Redis::start(&scene, &cluster(&bus_ports[0]));
    configure(&scene, &format!("redis://127.0.0.1:{}", redis.port), "");
    assert_eq!(bus(&scene.check().exits(2)), (0, 1));
    let said = last_said(&scene);
    assert!(
        said.contains("CLUSTERDOWN") && !said.contains("once an hour"),
        "{said}"
    );
    let slot: u32 = redis
        .ask(&["CLUSTER", "KEYSLOT", "alerts"])
        .parse()
        .unwrap();
    redis.ask(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    // another node, that this one knows and that has the slot
    let second = Scene::new();
    let other = Redis::start(&second, &cluster(&bus_ports[1]));
    other.ask(&["CLUSTER", "ADDSLOTS", &slot.to_string()]);
    let own = if slot == 0 { "1" } else { "0" };
    redis.ask(&["CLUSTER", "ADDSLOTS", own]);
    redis.ask(&[
        "CLUSTER",
        "MEET",
        "127.0.0.1",
        &other.port.to_string(),
        &bus_ports[1],
    ]);
    wait_until("the node knows who has the stream", || {
        redis.ask(&["XLEN", "alerts"]).starts_with("MOVED")
    });
    assert_eq!(bus(&scene.check().exits(2)), (0, 1));
    let said = last_said(&scene);
    assert!(
        said.contains("MOVED") && said.contains("once an hour"),
        "{said}"
    );
    configure(&scene, &format!("redis://127.0.0.1:{}", other.port), "");
    wait_until("the other one takes entries", || {
        other.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
            || other
                .ask(&["CONFIG", "SET", "cluster-require-full-coverage", "no"])
                .is_empty()
    });
    assert_eq!(bus(&scene.check().exits(2)), (1, 0));
    assert_eq!(other.length(), 1);
}

/// A proxy before a server on a port, that hands on all that is sent to it, and of the answers none to an entry: as a network
/// that breaks at that moment.
fn forgetful(port: u16) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let own = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let mut bytes = vec![0; 64 << 10];
            while let Ok(length @ 1..) = client.read(&mut bytes) {
                server.write_all(&bytes[..length]).unwrap();
                let is_entry = bytes[..length].windows(4).any(|word| word == b"XADD");
                let length = server.read(&mut bytes).unwrap();
                if is_entry {
                    break;
                }
                let _ = client.write_all(&bytes[..length]);
            }
            let _ = client.shutdown(Shutdown::Both);
        }
    });
    own
}

#[test]
#[ignore = "needs the package redis-server"]
fn an_entry_whose_answer_was_lost_is_not_added_again() {
    let scene = Scene::new();
    let redis = Redis::start(&scene, &[]);
    let proxy = forgetful(redis.port);
    configure(&scene, &format!("redis://127.0.0.1:{proxy}"), "");
    assert_eq!(bus(&scene.check().exits(2)), (0, 1));
    assert_eq!(redis.length(), 1);
    assert!(last_said(&scene).contains("perhaps not delivered"));
    for known in [true, false] {
        if !known {
            // one of which nothing arrived
            redis.ask(&["DEL", "alerts"]);
            let _ = fs::remove_dir_all(scene.path("state"));
            configure(&scene, &format!("redis://127.0.0.1:{proxy}"), "");
            assert_eq!(bus(&scene.check().exits(2)), (0, 1));
            redis.ask(&["DEL", "alerts"]);
        }
        // others write as well
        for _ in 0..5 {
            redis.ask(&["XADD", "alerts", "*", "data", "{}"]);
        }
        for entry in fs::read_dir(scene.path("state/outbox")).unwrap().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap();
            let mut delivery: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(delivery["uncertain"], 1);
            delivery["last_uncertain"] = json!("2026-01-01T00:00:00Z");
            fs::write(entry.path(), delivery.to_string()).unwrap();
        }
        configure(&scene, &format!("redis://127.0.0.1:{}", redis.port), "");
        assert_eq!(bus(&scene.check().exits(2)), (1, 0), "{known}");
        assert_eq!(redis.length(), 6, "{known}");
        assert_eq!(scene.outbox(), 0);
    }
}

#[test]
#[ignore = "needs the package redis-server"]
fn old_entries_make_way_for_new_ones() {
    let scene = Scene::new();
    let redis = Redis::start(&scene, &[]);
    for _ in 0..250 {
        redis.ask(&["XADD", "alerts", "*", "data", "{}"]);
    }
    let url = format!("redis://127.0.0.1:{}", redis.port);
    configure(&scene, &url, "max_len = 10");
    assert_eq!(bus(&scene.check().exits(2)), (1, 0));
    assert!(redis.length() < 250, "{}", redis.length());
}

#[test]
#[ignore = "needs the package redis-server"]
fn f76_no_secret_of_a_redis_channel_is_seen_anywhere() {
    let scene = Scene::new();
    let redis = Redis::start(&scene, &["--requirepass", "CANARY1"]);
    for password in ["CANARY1", "CANARY9"] {
        let _ = fs::remove_dir_all(scene.path("state"));
        configure(
            &scene,
            &format!("redis://default:{password}@127.0.0.1:{}", redis.port),
            "\n[logging]\nfile = \"own.log\"\nlevel = \"trace\"\n",
        );
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
        for name in ["own.log", "state/state.json", "state/journal.jsonl"] {
            seen.push_str(&scene.read(name));
        }
        assert!(seen.contains("127.0.0.1"), "{seen}");
        assert!(!seen.contains("CANARY"), "{seen}");
    }
}

#[test]
fn a_server_that_is_none_of_redis_is_told() {
    let hooks = crate::scene::hooks::Hooks::new();
    let scene = Scene::new();
    configure(
        &scene,
        &format!("redis://127.0.0.1:{}", hooks.port),
        "timeout = \"1s\"",
    );
    assert_eq!(bus(&scene.check().exits(2)), (0, 1));
    configure(&scene, "http://127.0.0.1", "");
    let text = scene.run(&["validate"]).exits(78).text();
    assert!(text.contains("`url` is no URL of Redis"), "{text}");
}
