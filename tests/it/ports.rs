//! Port probes: what is refused or silent has failed, what could not be asked is unknown.

use std::fmt::Write as _;
use std::net::TcpListener;

use crate::scene::{Scene, Service, free_port, render};

/// A listener of the test's own, and its address.
fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// A service that is up without its probes.
fn unwaited() -> Service {
    Service::new("a").restart("wait_for", "\"process\"")
}

/// A config with a port probe behind a service's other tables.
fn with_port(service: &Service, keys: &str) -> String {
    format!("{}[[service.a.port]]\n{keys}\n", render(&[service]))
}

#[test]
fn a_port_that_nothing_listens_on_is_a_reason_to_restart() {
    let (listener, address) = listener();
    let scene = Scene::new();
    scene.config(&with_port(
        &Service::new("a").restart("start_timeout", "\"1s\""),
        &format!("address = \"{address}\""),
    ));
    scene.check().exits(1).verdict("a", "restarted");
    let before = scene.last("a");
    let outcome = scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(outcome.service("a")["findings"], serde_json::json!([]));
    drop(listener);
    // the process that is left running is no longer young
    let outcome = scene.check().exits(2).verdict("a", "restart_failed");
    assert_eq!(outcome.codes("a"), ["port_closed"]);
    assert_ne!(scene.last("a"), before);
    let finding = &outcome.service("a")["findings"][0];
    assert_eq!(finding["check"], "port");
    assert_eq!(finding["id"], format!("port:{address}"));
    let message = finding["message"].as_str().unwrap();
    assert!(
        message.starts_with(&format!("{address} refused the connection")),
        "{message}"
    );
    let why = scene.run(&["why", "a"]).exits(0).words();
    assert!(
        why.contains(&format!("port {address} has to accept a connection")),
        "{why}"
    );
}

#[test]
fn a_missing_process_is_the_finding_and_its_ports_are_not_judged() {
    let scene = Scene::new();
    let port = free_port();
    scene.config(&with_port(
        &Service::new("a").watched(),
        &format!("address = \"127.0.0.1:{port}\""),
    ));
    let outcome = scene.check().exits(2).verdict("a", "down");
    assert_eq!(outcome.codes("a"), ["process_missing"]);
}

#[test]
fn a_young_process_is_not_judged_by_its_ports() {
    let scene = Scene::new();
    let port = free_port();
    let service = unwaited().top("start_grace", "\"1h\"");
    scene.config(&with_port(
        &service,
        &format!("address = \"127.0.0.1:{port}\""),
    ));
    scene.check().exits(1).verdict("a", "restarted");
    scene
        .check()
        .exits(0)
        .verdict("a", "starting")
        .finds("a", "port_closed");
}

#[test]
fn what_could_not_be_asked_is_unknown_and_restarts_nothing() {
    let scene = Scene::new();
    scene.config(&with_port(
        &unwaited(),
        "address = \"no-such-host.invalid:4002\"",
    ));
    scene.check().exits(1).verdict("a", "restarted");
    let before = scene.last("a");
    scene
        .check()
        .exits(3)
        .verdict("a", "unknown")
        .finds("a", "probe_unreadable");
    assert_eq!(scene.last("a"), before);
}

#[test]
fn a_warning_never_restarts_and_a_short_failure_is_a_note() {
    let port = free_port();
    for (keys, code, verdict) in [
        ("severity = \"warning\"", 1, "degraded"),
        ("for = \"1h\"", 0, "healthy"),
    ] {
        let scene = Scene::new();
        scene.config(&with_port(
            &unwaited(),
            &format!("address = \"127.0.0.1:{port}\"\n{keys}"),
        ));
        scene.check().exits(1).verdict("a", "restarted");
        let before = scene.last("a");
        let outcome = scene.check().exits(code).verdict("a", verdict);
        assert_eq!(scene.last("a"), before);
        if verdict == "healthy" {
            let notes = outcome.service("a")["notes"].to_string();
            assert!(notes.contains("counts once it has lasted 1h"), "{notes}");
            let state = &scene.state()["services"]["a"]["checks"];
            let id = format!("port:127.0.0.1:{port}");
            assert!(state[&id]["failing_since"].is_string(), "{state}");
        }
    }
}

#[test]
fn a_thousand_silent_addresses_take_one_timeout() {
    let (_listener, address) = listener();
    let scene = Scene::new();
    let mut config = String::new();
    for number in 0..1000 {
        write!(
            config,
            "[service.s{number}]\nrestart = {{ command = [\"touch\", \"ran\"], max_per_hour = 0 }}\n\
             [[service.s{number}.port]]\naddress = \"{address}\"\nexpect = 'never'\ntimeout = \"5s\"\n"
        )
        .unwrap();
    }
    scene.config(&config);
    let report = scene.check().exits(2).json();
    let findings: Vec<&str> = report["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|service| service["findings"][0]["code"].as_str().unwrap())
        .collect();
    assert_eq!(findings.len(), 1000);
    // where descriptors are few, some could not be made in time: unknown, and no failure
    assert!(
        findings
            .iter()
            .all(|code| *code == "port_closed" || *code == "probe_unreadable")
    );
    let closed = findings.iter().filter(|code| **code == "port_closed");
    assert!(closed.count() > 100);
    // one after another they would take 5,000 seconds; a wave more for want of descriptors is allowed
    let took = report["duration_ms"].as_u64().unwrap();
    assert!(took < 3 * 5_000, "{took} ms");
}

#[test]
fn validate_tells_what_a_probe_would_find_now() {
    let (_listener, address) = listener();
    let scene = Scene::new();
    scene.config(&format!(
        "{}[[service.a.port]]\naddress = \"{address}\"\n[[service.a.port]]\naddress = \"no-such-host.invalid:1\"\n",
        render(&[&Service::new("a")])
    ));
    let text = scene.run(&["validate"]).exits(0).words();
    let trap = format!("{address} answers although the service does not run");
    assert!(text.contains(&trap), "{text}");
    let help = "see that this is the port of this service, and that it can be reached from here";
    assert!(text.contains(help), "{text}");
    assert!(
        text.contains("no-such-host.invalid:1 does not resolve")
            || text.contains("the probe is unknown in each run"),
        "{text}"
    );
}
