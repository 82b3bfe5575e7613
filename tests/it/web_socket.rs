//! `watchdog web` under the socket that is shipped, in a booted box: each row of what it answers, by curl; what its user can do;
//! that a request starts a run at once, and no more than that.

use crate::boxes::{SystemdBox, shipped};

const CONFIG: &str = "[web]\ndir = \"/var/lib/watchdog-web\"\ntoken_file = \"/etc/watchdog/web.token\"\n\
    [service.bot]\nspawn = { command = [\"sleep\", \"86461\"] }\n\
    restart = { max_per_hour = 2, settle = \"100ms\" }\n\
    [service.other]\nspawn = { command = [\"sleep\", \"86462\"] }\n\
    restart = { settle = \"100ms\" }\n";

/// A box with all units as they are shipped, the socket listening, and a run behind it.
fn boot() -> SystemdBox {
    let it = SystemdBox::boot_alone();
    for unit in [
        "watchdog.service",
        "watchdog-failure@.service",
        "watchdog-web.socket",
        "watchdog-web@.service",
        "watchdog-requests.path",
        "watchdog-requests.service",
    ] {
        it.write(
            &format!("/etc/systemd/system/{unit}"),
            &shipped(&format!("contrib/{unit}")),
        );
    }
    for (from, to) in [("sysusers", "sysusers.d"), ("tmpfiles", "tmpfiles.d")] {
        it.write(
            &format!("/etc/{to}/watchdog-web.conf"),
            &shipped(&format!("contrib/watchdog-web.{from}")),
        );
    }
    it.config(CONFIG);
    it.sh("chmod 600 /etc/watchdog/watchdog.toml; umask 077; echo 7f3b0e5c9a1d >/etc/watchdog/web.token").ok();
    it.sh("systemd-sysusers && systemd-tmpfiles --create watchdog-web.conf && systemctl daemon-reload").ok();
    it.sh("systemctl start watchdog-web.socket watchdog-requests.path; systemctl start watchdog.service").ok();
    it.wait("grep -q '\"exit_code\":[01]' /var/lib/watchdog-web/status.json");
    it
}

/// What curl is answered: the status, and then the body.
fn curl(it: &SystemdBox, args: &str) -> String {
    let script = format!("curl -sS --max-time 20 -w '\\n%{{http_code}}' {args}");
    let text = it.sh(&script).ok();
    let (body, status) = text.rsplit_once('\n').unwrap_or(("", &text));
    format!("{status} {body}")
}

#[track_caller]
fn answers(it: &SystemdBox, args: &str, expected: &str) {
    let answer = curl(it, args);
    let (status, text) = expected.split_once(' ').unwrap_or((expected, ""));
    assert!(
        answer.starts_with(status) && answer.contains(text),
        "{args}: {answer}"
    );
}

/// The main process of a service, by the last run.
fn pid(it: &SystemdBox, name: &str) -> String {
    it.sh(&format!(
        "watchdog status --json {name} | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'"
    ))
    .stdout
    .trim()
    .to_owned()
}

#[test]
#[ignore = "needs root and systemd"]
fn the_socket_answers_and_its_user_can_only_ask() {
    let it = boot();
    let at = "http://127.0.0.1:9099";
    let token = "-H 'Authorization: Bearer 7f3b0e5c9a1d'";
    for (args, expected) in [
        (format!("{at}/"), "200 <!DOCTYPE html>"),
        (format!("{at}/status.json"), "200 {\"version\":1,"),
        (format!("{at}/metrics"), "200 # HELP watchdog_"),
        (format!("{at}/health"), "200 exit code"),
        (
            format!("-I {at}/"),
            "200 Content-Security-Policy: default-src 'none'",
        ),
        (format!("{at}/none"), "404"),
        (format!("-X DELETE {at}/"), "405"),
        (format!("{at}/repair/bot"), "405"),
        (format!("-X POST {at}/repair/bot"), "401"),
        (
            format!("-X POST -H 'Authorization: Bearer x' {at}/repair/bot"),
            "401",
        ),
        (format!("-X POST {token} {at}/repair/none"), "404"),
        (
            format!("-d x -H 'Transfer-Encoding: chunked' {token} {at}/repair/bot"),
            "411",
        ),
        (
            format!("--data-binary @/usr/local/bin/watchdog {token} {at}/repair/bot"),
            "413",
        ),
    ] {
        answers(&it, &args, expected);
    }

    // its user reads what is published, and writes requests; all else is refused
    for (script, works) in [
        ("cat /var/lib/watchdog-web/status.html", true),
        ("cat /var/lib/watchdog-web/access.json", true),
        ("cat /var/lib/watchdog/state.json", false),
        ("cat /etc/watchdog/watchdog.toml", false),
        ("cat /etc/watchdog/web.token", false),
        ("touch /var/lib/watchdog-web/status.html", false),
        ("touch /var/lib/watchdog-web/new", false),
        (
            "mv /var/lib/watchdog-web/requests /var/lib/watchdog-web/r",
            false,
        ),
        ("kill -TERM $(pgrep -f 'sleep 8646[1]')", false),
        ("watchdog -c /etc/watchdog/watchdog.toml restart bot", false),
    ] {
        let ended = it.sh(&format!(
            "runuser -u watchdog-web -- sh -c '{}'",
            script.replace('\'', "'\\''")
        ));
        assert_eq!(ended.code == 0, works, "{script}: {ended:?}");
    }
    let other = it.sh("runuser -u daemon -- cat /var/lib/watchdog-web/access.json");
    assert_ne!(other.code, 0, "{other:?}");

    // a request starts a run at once
    let before = pid(&it, "bot");
    answers(
        &it,
        &format!("-X POST {token} {at}/repair/bot"),
        "202 \"queued\"",
    );
    it.wait(&format!("test \"$(watchdog status --json bot | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')\" != {before} && ! kill -0 {before}"));
    let asked = it.sh("watchdog history --json | grep '\"requested\"'").ok();
    assert!(asked.contains("asked for by 127.0.0.1:"), "{asked}");
    assert_eq!(it.sh("pgrep -fc 'sleep 8646[1]'").ok(), "1");

    // it was started once by the first run, and once now: the budget of two is spent
    let before = pid(&it, "bot");
    answers(&it, &format!("-X POST {token} {at}/repair/bot"), "202");
    it.wait(
        "watchdog history --json | grep -q '\"request_refused\".*2 of 2 restarts in the last hour'",
    );
    assert_eq!(pid(&it, "bot"), before);

    // nor while it is paused
    it.sh("watchdog pause other").ok();
    let before = pid(&it, "other");
    answers(&it, &format!("-X POST {token} {at}/repair/other"), "202");
    it.wait("watchdog history --json | grep -q '\"request_refused\".*paused until'");
    assert_eq!(pid(&it, "other"), before);
    assert_eq!(it.sh("ls /var/lib/watchdog-web/requests | wc -l").ok(), "0");
}

#[test]
#[ignore = "needs root and systemd"]
fn a_thousand_connections_leave_the_socket_alive() {
    let it = boot();
    // most go away at once, some are answered, and some say nothing for a while
    it.write(
        "/root/many.py",
        "import socket\n\
         def connect():\n    return socket.create_connection(('127.0.0.1', 9099), 20)\n\
         silent = []\n\
         for number in range(1000):\n\
         \x20   try:\n\
         \x20       it = connect()\n\
         \x20       if number % 100 == 0:\n            silent.append(it)\n            continue\n\
         \x20       if number % 20 == 0:\n            it.sendall(b'GET /health HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n'); it.recv(100)\n\
         \x20       it.close()\n\
         \x20   except OSError:\n        pass\n",
    );
    it.sh("python3 /root/many.py").ok();
    it.wait("curl -sS --max-time 5 -o /dev/null http://127.0.0.1:9099/health");
    assert_eq!(it.show("watchdog-web.socket", "ActiveState"), "active");
    assert_eq!(it.show("watchdog-web.socket", "Result"), "success");
    // nothing is left of them
    it.wait("test $(systemctl list-units --all --no-legend 'watchdog-web@*' | wc -l) = 0");
}
