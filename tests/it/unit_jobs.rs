//! Units that are rightly inactive, under a real systemd: jobs that a timer runs, services that a socket starts.

use crate::boxes::SystemdBox;

/// A service that is a unit, with quick limits.
fn service(name: &str, more: &str) -> String {
    format!(
        "[service.{name}]\nsystemd = {{ unit = \"{name}.service\"{more} }}\nstart_grace = \"0s\"\n\
         [service.{name}.restart]\nsettle = \"200ms\"\nstop_timeout = \"1s\"\nmax_per_hour = 9\n"
    )
}

/// A job that notes each of its runs, and then fails where the file `fail-NAME` is there.
fn job(it: &SystemdBox, name: &str) {
    it.unit(
        &format!("{name}.service"),
        &format!(
            "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo run >>{{dir}}/runs-{name}; test ! -e {{dir}}/fail-{name}'\n"
        ),
    );
}

fn runs(it: &SystemdBox, name: &str) -> usize {
    std::fs::read_to_string(it.path(&format!("runs-{name}"))).map_or(0, |text| text.lines().count())
}

#[test]
#[ignore = "needs root and systemd"]
fn what_a_timer_or_a_socket_starts_may_be_inactive_and_is_not_run_by_the_watchdog() {
    let it = SystemdBox::boot();
    for name in ["timed", "plain", "again"] {
        job(&it, name);
    }
    it.unit(
        "timed.timer",
        "[Timer]\nOnCalendar=yearly\n[Install]\nWantedBy=timers.target\n",
    );
    it.unit(
        "served.service",
        "[Service]\nExecStart=/bin/sh -c 'test ! -e {dir}/fail-served && exec sleep 1000'\n",
    );
    it.unit(
        "served.socket",
        "[Socket]\nListenStream=/run/served.sock\n[Install]\nWantedBy=sockets.target\n",
    );
    it.sh("systemctl start timed.timer served.socket").ok();
    it.config(
        &[
            service("timed", ""),
            service("plain", ""),
            service("served", ""),
            service("again", ", rerun = true"),
        ]
        .concat(),
    );
    let names = ["timed", "plain", "served", "again"];

    // never run since the boot, and then run well
    for round in 0..2 {
        let mut ended = it.check().exits(0);
        for name in names {
            ended = ended.tells(name, "healthy", &[]);
        }
        assert_eq!(runs(&it, "timed"), round);
        it.sh("systemctl start timed plain again").ok();
    }

    // one that fails is alerted about, and run again only where its table says so
    for name in names {
        it.write(&format!("{}/fail-{name}", it.dir()), "");
    }
    it.sh("systemctl start timed plain again").exits(1);
    it.sh("systemctl start served; systemctl is-failed --wait served || true");
    it.wait("systemctl is-failed served");
    let before = names.map(|name| runs(&it, name));
    it.sh(&format!("rm {}/fail-again", it.dir())).ok();
    let ended = it
        .check()
        .exits(2)
        .tells("timed", "down", &["unit_failed"])
        .tells("plain", "down", &["unit_failed"])
        .tells("served", "down", &["unit_failed"])
        .tells("again", "restarted", &["unit_failed"]);
    assert!(ended.service("again")["action"]["error"].is_null());
    let [timed, plain, _, again] = before;
    assert_eq!(runs(&it, "timed"), timed);
    assert_eq!(runs(&it, "plain"), plain);
    assert_eq!(runs(&it, "again"), again + 1);
    let why = it.sh("watchdog why timed").stdout;
    let says = "timed.service is started by timed.timer, so it is not started here";
    assert!(why.contains(says), "{why}");

    // a person may still have it run; a job that ended well has come up
    it.sh(&format!("rm {}/fail-timed", it.dir())).ok();
    it.sh("watchdog restart timed").exits(0);
    assert_eq!(runs(&it, "timed"), timed + 1);
    it.check().tells("timed", "healthy", &[]);
    // a job that fails again has not
    let failed = it.sh("watchdog restart plain").exits(1);
    assert!(
        failed.stdout.contains("restart_failed"),
        "{}",
        failed.stdout
    );
    it.sh("systemctl stop served.socket; systemctl reset-failed")
        .ok();
}
