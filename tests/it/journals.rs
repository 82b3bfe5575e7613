//! Logs in the journal of a real systemd: what is new is judged once, whatever becomes of the journal.

use crate::boxes::SystemdBox;

/// A unit that logs what is written into its FIFO, and a service that is watched by its journal.
fn logging(it: &SystemdBox, name: &str, keys: &str) -> String {
    it.unit(
        &format!("{name}.service"),
        &format!(
            "[Service]\nRuntimeDirectory={name}\nRuntimeDirectoryPreserve=yes\nExecStart=/bin/sh -c 'test -p /run/{name}/in || mkfifo \
             /run/{name}/in; while :; do cat /run/{name}/in; done'\n"
        ),
    );
    it.sh(&format!("systemctl start {name}")).ok();
    it.wait(&format!("test -p /run/{name}/in"));
    format!(
        "[service.{name}]\nsystemd = {{ unit = \"{name}.service\" }}\nstart_grace = \"0s\"\n\
         restart = {{ settle = \"200ms\", stop_timeout = \"2s\", max_per_hour = 9 }}\n\
         [[service.{name}.log]]\njournal = true\n{keys}\n"
    )
}

/// Has a unit log lines, and waits until the journal has the last of them.
fn log(it: &SystemdBox, name: &str, lines: &str) {
    it.sh(&format!("printf '{lines}\\n' >/run/{name}/in")).ok();
    let last = lines.rsplit("\\n").next().unwrap();
    it.wait(&format!(
        "journalctl -o cat _SYSTEMD_UNIT={name}.service | grep -qF -- '{last}'"
    ));
}

fn message(ended: &crate::boxes::Ended, name: &str) -> String {
    let service = ended.service(name);
    service["findings"][0]["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
#[ignore = "needs root and systemd"]
fn each_message_of_a_unit_is_judged_once_across_restarts_rotation_and_vacuum() {
    let it = SystemdBox::boot();
    let config = logging(&it, "a", "forbid = ['ERROR']\nexpect = ['line']\nlines = 3");
    it.config(&config);
    log(&it, "a", "ERROR before the first run\\na line");
    let ended = it.check().exits(1).tells("a", "degraded", &["log_error"]);
    let said = message(&ended, "a");
    assert!(
        said.starts_with("the journal of a.service: 1 of the last lines, perhaps of an earlier process, matches `ERROR`"),
        "{said}"
    );
    it.check().exits(0).tells("a", "healthy", &[]);

    // what systemd says of the unit is no line of it
    it.sh("systemctl kill --signal=KILL a; systemctl reset-failed a; systemctl start a")
        .ok();
    it.wait("journalctl -u a | grep -q 'Failed with result'");
    it.check().tells("a", "healthy", &[]);

    // new, of the present run: a reason to restart, once
    log(&it, "a", "a line\\nan ERROR\\nanother line");
    let ended = it.check().exits(1).tells("a", "restarted", &["log_error"]);
    let said = message(&ended, "a");
    assert!(
        said.ends_with("1 new line matches `ERROR` (limit 0), the first: an ERROR"),
        "{said}"
    );
    it.check().exits(0).tells("a", "healthy", &[]);

    // of an earlier run: a warning
    log(&it, "a", "ERROR of the end\\na line");
    it.sh("systemctl restart a").ok();
    let ended = it.check().exits(1).tells("a", "degraded", &["log_error"]);
    let said = message(&ended, "a");
    assert!(said.contains("perhaps of an earlier process"), "{said}");

    // rotated, with something new in both files
    log(&it, "a", "a line 1");
    it.sh("journalctl --rotate").ok();
    log(&it, "a", "a line 2");
    it.check().exits(0).tells("a", "healthy", &[]);
    log(&it, "a", "ERROR 3\\na line 3");
    it.sh("journalctl --rotate").ok();
    it.check().exits(1).tells("a", "restarted", &["log_error"]);
    it.check().exits(0).tells("a", "healthy", &[]);

    // vacuumed: what was judged is gone, and what is new is judged
    log(&it, "a", "a line 4");
    it.check().exits(0);
    it.sh("journalctl --rotate; sleep 1.1; journalctl --vacuum-time=1s")
        .ok();
    log(&it, "a", "an ERROR 5\\na line 5");
    let ended = it.check().exits(1).tells("a", "restarted", &["log_error"]);
    assert!(message(&ended, "a").contains("1 new line matches"));
    let notes = ended.service("a")["notes"].to_string();
    assert!(notes.contains("is not in it any more"), "{notes}");
    it.check().exits(0).tells("a", "healthy", &[]);
    it.sh("journalctl --rotate; journalctl --vacuum-files=1")
        .ok();
    it.check().exits(0).tells("a", "healthy", &[]);
    it.check().exits(0).tells("a", "healthy", &[]);

    // all of it gone
    it.sh("journalctl --rotate; systemctl stop systemd-journald.socket systemd-journald-dev-log.socket systemd-journald; \
           rm -rf /run/log/journal/*; systemctl start systemd-journald.socket systemd-journald-dev-log.socket systemd-journald")
        .ok();
    let ended = it.check();
    assert_eq!(ended.service("a")["verdict"], "healthy", "{ended:?}");
    let why = it.sh("watchdog why a").stdout;
    assert!(why.contains("log the journal of a.service:"), "{why}");
}

#[test]
#[ignore = "needs root and systemd"]
fn a_silent_unit_is_stale_and_a_journal_that_cannot_be_read_is_unknown() {
    let it = SystemdBox::boot();
    let mut config = logging(&it, "spoke", "max_age = \"2s\"");
    config += &logging(&it, "silent", "max_age = \"2s\"");
    config += &logging(&it, "fresh", "max_age = \"1h\"");
    log(&it, "spoke", "once");
    log(&it, "fresh", "once");
    it.config(&config.replace("max_per_hour = 9", "max_per_hour = 0"));
    it.sh("sleep 2.5").ok();
    let ended = it
        .check()
        .exits(2)
        .tells("spoke", "down", &["log_stale"])
        .tells("silent", "down", &["log_stale"])
        .tells("fresh", "healthy", &[]);
    let said = message(&ended, "spoke");
    assert!(
        said.starts_with("the journal of spoke.service: no message for"),
        "{said}"
    );
    let said = message(&ended, "silent");
    assert!(
        said.starts_with("the journal of silent.service: no message since the unit was started,"),
        "{said}"
    );

    // a user who may not read it, and one who may
    it.sh("useradd ann; useradd -G systemd-journal bob; chgrp -R systemd-journal /run/log/journal; chmod 644 /etc/watchdog/watchdog.toml")
        .ok();
    let check = |user: &str| {
        it.sh(&format!(
            "cd /; setpriv --reuid={user} --regid={user} --init-groups env -i PATH=/usr/bin:/bin HOME=/tmp STATE_DIRECTORY=/tmp/{user} \
             /usr/local/bin/watchdog check --json"
        ))
    };
    let ended = check("ann")
        .tells("fresh", "unknown", &["log_unreadable"])
        .tells("silent", "unknown", &["log_unreadable"]);
    let said = message(&ended, "fresh");
    assert!(said.contains("group systemd-journal"), "{said}");
    check("bob")
        .tells("fresh", "healthy", &[])
        .tells("spoke", "down", &["log_stale"]);

    let text = it.sh("watchdog validate").stdout;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "the journal of silent.service has no message of its processes",
        "the journal is kept in memory only",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // without journalctl, and with one that hangs
    it.sh("mv /usr/bin/journalctl /usr/bin/journalctl.real")
        .ok();
    let ended = it.check().tells("fresh", "unknown", &["log_unreadable"]);
    assert!(message(&ended, "fresh").contains("cannot run journalctl"));
    it.sh("printf '#!/bin/sh\\nsleep 1000\\n' >/usr/bin/journalctl; chmod 755 /usr/bin/journalctl")
        .ok();
    it.config(&format!("check_timeout = \"1s\"\n{config}"));
    let ended = it.check().tells("fresh", "unknown", &["log_unreadable"]);
    let said = message(&ended, "fresh");
    assert!(
        said.contains("journalctl gave no answer within 1s"),
        "{said}"
    );
    it.sh("pgrep -x sleep").exits(1);
}

#[test]
#[ignore = "needs root, systemd and python3"]
fn messages_of_any_kind_and_number_are_judged_within_bounds() {
    let it = SystemdBox::boot();
    it.write(
        "/srv/send.py",
        "import os, socket, struct, time\n\
         s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
         def send(data):\n    s.sendto(b'MESSAGE\\n' + struct.pack('<Q', len(data)) + data + b'\\n', '/run/systemd/journal/socket')\n\
         send(b'begun')\n\
         while not os.path.exists('/srv/go'): time.sleep(0.05)\n\
         send(b'first\\nsecond of several\\n  third')\n\
         send(b'bytes \\xff\\xfe and \\x01')\n\
         send(b'long ' + b'x' * 150000)\n\
         send(b'all sent')\n\
         time.sleep(1000)\n",
    );
    it.unit(
        "native.service",
        "[Service]\nExecStart=/usr/bin/python3 /srv/send.py\n",
    );
    it.sh("systemctl start native").ok();
    it.wait("journalctl _SYSTEMD_UNIT=native.service | grep -q begun");
    let patterns = "forbid = ['^second', '^bytes ', '^long x']\nmax_age = \"1h\"";
    let mut config = logging(
        &it,
        "flood",
        "forbid = ['^needle', '^newest']\nmax_age = \"1h\"",
    );
    let native = format!(
        "[service.native]\nsystemd = {{ unit = \"native.service\" }}\nstart_grace = \"0s\"\nrestart = {{ max_per_hour = 0 }}\n\
         [[service.native.log]]\njournal = true\n{patterns}\n"
    );
    config += &native;
    it.config(&config.replace("max_per_hour = 9", "max_per_hour = 0"));
    log(&it, "flood", "begun");
    it.check().exits(0);

    it.sh("touch /srv/go").ok();
    it.wait("journalctl _SYSTEMD_UNIT=native.service | grep -q 'all sent'");
    it.sh(
        "{ echo needle; yes $(head -c 3000 /dev/zero | tr '\\0' x) | head -n 4500; echo newest; } >/run/flood/in",
    )
    .ok();
    it.wait("journalctl -o cat _SYSTEMD_UNIT=flood.service -n 1 | grep -q newest");
    let ended = it
        .check()
        .exits(2)
        .tells("native", "down", &["log_error", "log_error", "log_error"])
        .tells("flood", "down", &["log_error"]);
    let said = message(&ended, "native");
    assert!(said.ends_with("the first: second of several"), "{said}");
    let notes = ended.service("native")["notes"].to_string();
    assert!(notes.contains("lines longer than 64 KiB"), "{notes}");
    // the newest are judged
    let said = message(&ended, "flood");
    assert!(said.ends_with("the first: newest"), "{said}");
    let notes = ended.service("flood")["notes"].to_string();
    assert!(
        notes.contains("only the newest 8 MiB are judged"),
        "{notes}"
    );
    it.check()
        .exits(0)
        .tells("native", "healthy", &[])
        .tells("flood", "healthy", &[]);
}
