//! Logs: freshness, patterns, rotation, and files that are none.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use chrono::{TimeDelta, Utc};
use nix::sys::stat::Mode;

use crate::scene::{Outcome, Scene, Service, alive};

const MINUTE: Duration = Duration::from_mins(1);

/// A scene with a service that has a log alone: what it finds is its verdict.
fn with_log(keys: &str) -> Scene {
    Scene::of(&[&Service::logs("a").log(&format!("path = \"a.log\"\n{keys}"))])
}

/// A scene whose log is read once already, so that all that comes is new.
fn tailing(keys: &str) -> Scene {
    let scene = with_log(keys);
    scene.write("a.log", "first\n");
    scene.check().exits(0).verdict("a", "healthy");
    scene
}

fn told(outcome: Outcome) -> Outcome {
    outcome
        .exits(2)
        .verdict("a", "down")
        .finds("a", "log_error")
}

fn quiet(outcome: Outcome) -> Outcome {
    outcome.exits(0).verdict("a", "healthy")
}

#[test]
fn a_live_process_with_a_stale_log_is_restarted() {
    let service = Service::new("a")
        .option("log=a.log")
        .log("path = \"a.log\"\nmax_age = \"5m\"");
    let scene = Scene::of(&[&service]);
    // it lives and writes nothing
    let frozen = scene.start("a", &["pid_file=a.pid"]);
    scene.write("a.log", "line\n");
    quiet(scene.check());
    scene.age("a.log", 7 * MINUTE);
    let outcome = scene.check().restarted_for("a", "log_stale");
    let message = outcome.service("a")["findings"].to_string();
    assert!(
        message.contains("7m") && message.contains("5m"),
        "{message}"
    );
    assert!(!alive(frozen));
    assert_eq!(scene.copies("a"), 1);
    scene.wait_until("its first line", || scene.read("a.log").lines().count() > 1);
    quiet(scene.check());
}

#[test]
fn a_fresh_log_is_well_and_a_missing_one_is_not() {
    let scene = with_log("max_age = \"5m\"");
    scene.check().exits(2).finds("a", "log_missing");
    scene.write("a.log", "line\n");
    scene.age("a.log", 4 * MINUTE);
    quiet(scene.check());
    scene.age("a.log", 6 * MINUTE);
    scene.check().exits(2).finds("a", "log_stale");
}

#[test]
fn a_glob_takes_the_newest_match() {
    let scene = Scene::of(&[&Service::logs("a").log("path = \"log/a-*.log\"\nmax_age = \"5m\"")]);
    fs::create_dir(scene.path("log")).unwrap();
    scene.check().exits(2).finds("a", "log_missing");
    scene.write("log/a-1.log", "old\n");
    scene.age("log/a-1.log", 60 * MINUTE);
    scene.check().exits(2).finds("a", "log_stale");
    scene.write("log/a-0.log", "new\n");
    quiet(scene.check());
}

#[test]
fn a_warning_alerts_and_restarts_nothing() {
    let service =
        Service::new("a").log("path = \"a.log\"\nmax_age = \"5m\"\nseverity = \"warning\"");
    let scene = Scene::of(&[&service]);
    let pid = scene.start("a", &["pid_file=a.pid"]);
    scene.write("a.log", "line\n");
    scene.age("a.log", 60 * MINUTE);
    let outcome = scene
        .check()
        .exits(1)
        .verdict("a", "degraded")
        .finds("a", "log_stale");
    assert_eq!(outcome.severity("a", "log_stale"), "warning");
    assert_eq!(scene.starts("a"), [pid]);
}

#[test]
fn a_young_process_is_not_judged_by_its_logs() {
    let service = Service::new("a")
        .top("start_grace", "\"10m\"")
        .log("path = \"a.log\"\nmax_age = \"5m\"\nexpect = ['tick']");
    let scene = Scene::of(&[&service]);
    scene.start("a", &["pid_file=a.pid"]);
    let outcome = scene.check().exits(0).verdict("a", "starting");
    assert_eq!(scene.starts("a").len(), 1);
    outcome.finds("a", "log_missing");
    scene.write("a.log", "tick\n");
    quiet(scene.check());
}

#[test]
fn a_third_young_process_in_a_row_has_no_grace() {
    let service = Service::new("a")
        .watched()
        .top("start_grace", "\"10m\"")
        .log("path = \"a.log\"\nmax_age = \"5m\"");
    let scene = Scene::of(&[&service]);
    for _ in 0..2 {
        let pid = scene.start("a", &["pid_file=a.pid"]);
        scene.check().exits(0).verdict("a", "starting");
        scene.kill_and_reap(pid);
    }
    scene.start("a", &["pid_file=a.pid"]);
    scene
        .check()
        .exits(2)
        .verdict("a", "down")
        .finds("a", "log_missing");
}

#[test]
fn expect_wants_enough_lines_among_the_last() {
    let scene = with_log("lines = 5\nexpect = ['tick', { pattern = 'tock', at_least = 2 }]");
    scene.write("a.log", "tick\ntock\ntock\n");
    quiet(scene.check());
    scene.append("a.log", "x\nx\n");
    quiet(scene.check());
    scene.append("a.log", "x\n");
    let outcome = scene.check().exits(2).finds("a", "log_quiet");
    assert_eq!(outcome.codes("a").len(), 1, "only one pattern is missed");
    scene.append("a.log", "tick tock\ntock\n");
    quiet(scene.check());
    // a line that is not ended yet does not count
    scene.append("a.log", "x\nx\nx\ntock\ntick tock");
    scene.check().exits(2).finds("a", "log_quiet");
}

#[test]
fn forbid_allows_so_many_new_lines() {
    let scene = tailing("forbid = [{ pattern = 'ERROR', at_most = 2 }]");
    scene.append("a.log", "ERROR 1\nERROR 2\n");
    quiet(scene.check());
    scene.append("a.log", "ERROR 3\nERROR 4\nERROR 5\n");
    told(scene.check());
    quiet(scene.check());
}

#[test]
fn f50_a_log_from_the_future_is_not_fresh_for_ever() {
    let scene = with_log("max_age = \"5m\"");
    scene.write("a.log", "line\n");
    scene.set_mtime("a.log", SystemTime::now() + 48 * 60 * MINUTE);
    scene
        .check()
        .exits(1)
        .verdict("a", "degraded")
        .finds("a", "log_in_future");
    // clocks differ a little
    scene.set_mtime("a.log", SystemTime::now() + 2 * MINUTE);
    quiet(scene.check());
}

#[test]
fn f51_a_changed_mode_makes_nothing_fresh() {
    let scene = with_log("max_age = \"5m\"");
    scene.write("a.log", "line\n");
    scene.age("a.log", 60 * MINUTE);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    fs::set_permissions(scene.path("a.log"), mode).unwrap();
    scene.check().exits(2).finds("a", "log_stale");
}

#[test]
fn f52_rotation_makes_nobody_fresh() {
    let scene = with_log("max_age = \"5m\"");
    scene.write("a.log", "line\n");
    scene.age("a.log", 60 * MINUTE);
    scene.check().exits(2).finds("a", "log_stale");
    fs::rename(scene.path("a.log"), scene.path("a.log.1")).unwrap();
    scene.write("a.log", "");
    scene.check().exits(2).finds("a", "log_stale");
    scene.append("a.log", "it writes\n");
    quiet(scene.check());
}

#[test]
fn f53_rotation_by_rename_loses_and_doubles_no_line() {
    for rotated in ["a.log.1", "a.log-20260101", "a-2026-01-01.log"] {
        let scene = tailing("forbid = ['ERROR']");
        scene.append("a.log", "fine\nERROR in the old file\n");
        fs::rename(scene.path("a.log"), scene.path(rotated)).unwrap();
        scene.write("a.log", "fine\n");
        told(scene.check());
        quiet(scene.check());
        scene.append("a.log", "ERROR in the new file\n");
        told(scene.check());
        quiet(scene.check());
    }
}

#[test]
fn two_tables_of_one_log_have_each_a_position_of_its_own() {
    let service = Service::logs("a")
        .log("path = \"a.log\"\nforbid = ['ERROR']")
        .log("path = \"a.log\"\nmax_age = \"5m\"\nseverity = \"warning\"");
    let scene = Scene::of(&[&service]);
    scene.write("a.log", "first\n");
    quiet(scene.check());
    // half a line is not judged, and the second table, which forbids nothing, is through with it
    scene.append("a.log", "ERR");
    quiet(scene.check());
    scene.append("a.log", "OR\n");
    told(scene.check());
    quiet(scene.check());
}

#[test]
fn f53_the_old_file_may_be_written_a_while_longer() {
    let scene = tailing("forbid = [{ pattern = 'ERROR', at_most = 2 }]");
    scene.append("a.log", "ERROR 1\n");
    fs::rename(scene.path("a.log"), scene.path("a.log.1")).unwrap();
    scene.write("a.log", "ERROR 2\n");
    // one in the old and one in the new file, each judged once: two are allowed
    quiet(scene.check());
    quiet(scene.check());
}

#[test]
fn f54_rotation_by_copytruncate_loses_and_doubles_no_line() {
    let scene = tailing("forbid = [{ pattern = 'ERROR', at_most = 1 }]");
    scene.append("a.log", "fine\nERROR one\nERROR two\n");
    fs::copy(scene.path("a.log"), scene.path("a.log.1")).unwrap();
    scene.write("a.log", "fine\n");
    told(scene.check());
    quiet(scene.check());
    scene.append("a.log", "ERROR three\n");
    quiet(scene.check());
}

#[test]
fn f54_a_log_that_regrew_past_the_mark_is_read_from_its_start() {
    let scene = with_log("forbid = ['ERROR']");
    scene.write("a.log", "0123456789\n".repeat(10));
    quiet(scene.check());
    // as long as before, then longer
    for lines in [10, 40] {
        let text = format!("ERROR here\n{}", "abcdefghij\n".repeat(lines - 1));
        scene.write("a.log", text);
        told(scene.check());
        quiet(scene.check());
        scene.write("a.log", "0123456789\n".repeat(lines));
        quiet(scene.check());
    }
}

#[test]
fn f55_of_too_much_the_newest_is_read_and_the_gap_is_told() {
    let scene = tailing("forbid = ['ERROR']");
    let line = format!("{}\n", "x".repeat(127));
    scene.append(
        "a.log",
        format!("ERROR too far back\n{}", line.repeat(81_920)),
    );
    let outcome = scene.check();
    assert!(
        outcome.code == 0 || outcome.code == 1,
        "the line is out of reach: {}",
        outcome.code
    );
    let human = tailing("forbid = ['ERROR']");
    human.append(
        "a.log",
        format!("{}ERROR at the end\n", line.repeat(81_920)),
    );
    told(human.check());
}

#[test]
fn f56_giant_lines_and_holes_are_bounded() {
    let scene = tailing("forbid = ['ERROR']");
    scene.append("a.log", format!("ERROR {}\n", "x".repeat(3 << 20)));
    told(scene.check());
    scene.append(
        "a.log",
        format!("{} ERROR beyond the cap\n", "x".repeat(3 << 20)),
    );
    quiet(scene.check());
    // a hole of a gigabyte, and a line after it
    let length = scene.path("a.log").metadata().unwrap().len();
    fs::File::options()
        .write(true)
        .open(scene.path("a.log"))
        .unwrap()
        .set_len(length + (1 << 30))
        .unwrap();
    scene.append("a.log", "\nERROR after the hole\n");
    told(scene.check());
    // no newline at all
    let bare = with_log("expect = ['tick']\nforbid = ['ERROR']");
    bare.write("a.log", "x".repeat(20 << 20));
    bare.check().finds("a", "log_quiet");
}

#[test]
fn f57_half_a_line_is_judged_once_it_is_whole() {
    let scene = tailing("forbid = ['^ERROR$', { pattern = '^ERR', at_most = 1 }]");
    scene.append("a.log", "ERR");
    quiet(scene.check());
    scene.append("a.log", "OR\n");
    told(scene.check());
    quiet(scene.check());
}

#[test]
fn f57_a_last_line_that_is_never_ended_is_judged_as_it_is() {
    let scene = tailing("forbid = ['ERROR']");
    scene.append("a.log", "ERROR and then it died");
    let found: usize = (0..5)
        .map(|_| scene.check())
        .filter(|outcome| outcome.codes("a").iter().any(|code| code == "log_error"))
        .count();
    assert_eq!(found, 1, "judged once");
}

#[test]
fn f58_bytes_of_any_kind_hide_no_line() {
    let scene = tailing("forbid = ['ERROR']");
    let far = format!("{}ERROR\n", "x".repeat(5000));
    for line in [
        &b"ERROR\r\n"[..],
        b"\0\0\0 ERROR\n",
        b"before \0 ERROR\n",
        b"\xff\xfe\x80 ERROR \xc3\n",
        b"\x1b[31mERROR\x1b[0m\n",
        b"\xef\xbb\xbfERROR\n",
        b"progress\rERROR\n",
        far.as_bytes(),
    ] {
        scene.append("a.log", line);
        told(scene.check());
        quiet(scene.check());
    }
}

#[test]
fn f59_what_is_no_file_is_unknown_at_once() {
    let names = ["fifo", "directory", "device"];
    let services: Vec<Service> = names
        .iter()
        .map(|name| {
            Service::logs(name).log(&format!(
                "path = \"{name}\"\nmax_age = \"5m\"\nexpect = ['x']\nforbid = ['y']"
            ))
        })
        .collect();
    let scene = Scene::of(&services.iter().collect::<Vec<_>>());
    nix::unistd::mkfifo(&scene.path("fifo"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    fs::create_dir(scene.path("directory")).unwrap();
    symlink("/dev/zero", scene.path("device")).unwrap();
    let outcome = scene.check().exits(3);
    for name in names {
        assert_eq!(outcome.service(name)["verdict"], "unknown", "{name}");
        assert_eq!(outcome.codes(name), ["log_unreadable"], "{name}");
    }
}

#[test]
fn f60_what_cannot_be_read_restarts_nothing() {
    let service = Service::new("a").log("path = \"a.log\"\nmax_age = \"5m\"");
    let scene = Scene::of(&[&service]);
    let pid = scene.start("a", &["pid_file=a.pid"]);
    symlink("a.log", scene.path("a.log")).unwrap();
    scene
        .check()
        .exits(3)
        .verdict("a", "unknown")
        .finds("a", "log_unreadable");
    assert_eq!(scene.starts("a"), [pid]);
    // only what is surely not there is critical
    fs::remove_file(scene.path("a.log")).unwrap();
    scene.check().exits(1).finds("a", "log_missing");
    assert_eq!(scene.starts("a").len(), 2);
}

#[test]
#[ignore = "needs root"]
fn f60_a_log_without_permission_is_unknown() {
    let scene = with_log("max_age = \"5m\"\nforbid = ['ERROR']");
    scene.write("a.log", "line\n");
    let copy = scene.public_watchdog();
    for (name, mode) in [("a.log", 0o600), ("watchdog.toml", 0o644)] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(scene.path(name), mode).unwrap();
    }
    fs::create_dir(scene.path("state")).unwrap();
    std::os::unix::fs::chown(scene.path("state"), Some(65534), Some(65534)).unwrap();
    let script = format!(
        "exec setpriv --reuid=65534 --regid=65534 --clear-groups {} --config {{dir}}/watchdog.toml check --json",
        copy.display()
    );
    scene
        .shell(&script)
        .exits(3)
        .verdict("a", "unknown")
        .finds("a", "log_unreadable");
}

#[test]
fn f61_old_errors_restart_nothing_on_the_first_run() {
    let service = Service::new("a").log("path = \"a.log\"\nforbid = ['ERROR']");
    let scene = Scene::of(&[&service]);
    scene.write("a.log", "ERROR of long ago\n");
    let pid = scene.start("a", &["pid_file=a.pid"]);
    let outcome = scene.check().exits(1).verdict("a", "degraded");
    assert_eq!(outcome.severity("a", "log_error"), "warning");
    quiet(scene.check());
    assert_eq!(scene.starts("a"), [pid]);
    // but what it surely wrote itself counts
    scene.append("a.log", "ERROR of today\n");
    let outcome = scene.check().exits(1).verdict("a", "restarted");
    assert_eq!(outcome.severity("a", "log_error"), "critical");
    assert!(!alive(pid));
    // and what was there when the old process had been stopped is never judged again
    quiet(scene.check());
    assert_eq!(scene.starts("a").len(), 2);
}

#[test]
fn f61_errors_of_a_process_that_is_gone_are_warnings() {
    let service = Service::new("a").log("path = \"a.log\"\nforbid = ['ERROR']");
    let scene = Scene::of(&[&service]);
    scene.write("a.log", "fine\n");
    let old = scene.start("a", &["pid_file=a.pid"]);
    quiet(scene.check());
    // somebody else restarted it between two runs
    scene.append("a.log", "ERROR, so I end\n");
    scene.kill_and_reap(old);
    let new = scene.start("a", &["pid_file=a.pid"]);
    let outcome = scene.check().exits(1).verdict("a", "degraded");
    assert_eq!(outcome.severity("a", "log_error"), "warning");
    assert!(alive(new));
}

#[test]
fn a_stamp_tells_the_age_where_the_file_does_not() {
    let scene =
        with_log("max_age = \"5m\"\ntimestamp = \"%Y-%m-%d %H:%M:%S\"\ntimestamp_zone = \"utc\"");
    let stamp = |minutes| {
        (Utc::now() + TimeDelta::minutes(minutes))
            .format("%Y-%m-%d %H:%M:%S")
            .to_string()
    };
    scene.write("a.log", format!("{} line\n", stamp(-60)));
    scene.check().exits(2).finds("a", "log_stale");
    scene.append("a.log", format!("{} line\n  of two parts\n", stamp(-1)));
    quiet(scene.check());
    scene.append("a.log", format!("{} line\n", stamp(60)));
    scene.check().exits(1).finds("a", "log_in_future");
}

#[test]
fn a_stamp_may_stand_after_a_text_and_have_a_zone() {
    let scene = with_log(
        "max_age = \"5m\"\ntimestamp = \"%Y-%m-%dT%H:%M:%S%z\"\ntimestamp_after = '{\"timestamp\":\"'",
    );
    let line = |minutes| {
        let time = Utc::now() + TimeDelta::minutes(minutes);
        let zone = chrono::FixedOffset::east_opt(3 * 3600).unwrap();
        format!(
            "{{\"level\":1,\"timestamp\":\"{}\"}}\n",
            time.with_timezone(&zone).format("%Y-%m-%dT%H:%M:%S%z")
        )
        .replace("{\"level\":1,", "{")
    };
    scene.write("a.log", line(-20));
    scene.check().exits(2).finds("a", "log_stale");
    scene.append("a.log", line(-2));
    quiet(scene.check());
}

#[test]
fn f62_a_pattern_that_would_grow_without_bound_is_refused() {
    let scene = with_log("forbid = ['((a{1000}){1000}){1000}']");
    scene.write("a.log", "line\n");
    scene.check().exits(78);
}

#[test]
fn f62_a_bomb_for_other_engines_takes_linear_time() {
    let scene = tailing("forbid = ['^(a+)+$']");
    scene.append("a.log", format!("{}!\n", "a".repeat(60_000)));
    quiet(scene.check());
}
