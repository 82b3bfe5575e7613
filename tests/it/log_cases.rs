//! Logs as programs in the field write them: redrawn lines, colours, UTF-16, stamps of all kinds.

use std::fs;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::scene::{Outcome, Scene, Service, alive};

const DAY: Duration = Duration::from_hours(24);

/// A scene with a service that has a log alone.
fn with_log(keys: &str) -> Scene {
    Scene::of(&[&Service::logs("a").log(&format!("path = \"a.log\"\n{keys}"))])
}

/// A scene whose log was read once, so that all that comes is new.
fn tailing(keys: &str) -> Scene {
    let scene = with_log(keys);
    scene.write("a.log", "begun\n");
    healthy(&scene);
    scene
}

fn healthy(scene: &Scene) {
    scene.check().exits(0).verdict("a", "healthy");
}

fn down(scene: &Scene, code: &str) -> Outcome {
    scene.check().exits(2).verdict("a", "down").finds("a", code)
}

fn degraded(scene: &Scene, code: &str) -> Outcome {
    let outcome = scene.check().exits(1).verdict("a", "degraded");
    assert_eq!(outcome.codes("a"), [code]);
    outcome
}

fn ago(minutes: i64) -> DateTime<Utc> {
    Utc::now() - TimeDelta::minutes(minutes)
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[test]
fn statistics_that_are_redrawn_are_lines() {
    let scene = with_log("expect = ['^frame=']");
    scene.write(
        "a.log",
        "ffmpeg version 6\nframe=   15 fps=15\rframe=   30 fps=15\r",
    );
    healthy(&scene);
    let scene = with_log("lines = 5\nexpect = ['it/s', { pattern = '%', at_least = 3 }]");
    scene.write(
        "a.log",
        "loading\n\r 1%| 2.1it/s\r 2%| 2.2it/s\r 3%| 2.1it/s\r",
    );
    healthy(&scene);
}

#[test]
fn an_error_behind_much_that_was_redrawn_is_found_once() {
    let scene = tailing("forbid = ['timed out']");
    scene.append(
        "a.log",
        "frame=  100 fps=15 q=-1.0 size= 10kB time=00:00:10\r".repeat(1400),
    );
    healthy(&scene);
    scene.append("a.log", "tcp: Connection timed out\n");
    down(&scene, "log_error");
    healthy(&scene);
    // the line feed of a line end that was written in two pieces is no line
    let scene = tailing("forbid = ['ERROR', '^$']");
    scene.append("a.log", "ERROR\r");
    down(&scene, "log_error");
    scene.append("a.log", "\nfine\r\n");
    healthy(&scene);
}

#[test]
fn the_rest_of_a_line_that_stood_unfinished_is_judged() {
    let scene = tailing("forbid = ['FAILED', 'refused']");
    scene.append("a.log", "connecting ... ");
    for _ in 0..3 {
        healthy(&scene);
    }
    scene.append("a.log", "FAILED\n");
    down(&scene, "log_error");
    healthy(&scene);
    // what matched when it was unfinished has counted
    scene.append("a.log", "connecting ... refused");
    healthy(&scene);
    down(&scene, "log_error");
    scene.append("a.log", ", again\n");
    healthy(&scene);
}

#[test]
fn utf_16_is_read_as_text() {
    let scene = with_log("lines = 3\nexpect = ['Position']\nforbid = ['^No money$']");
    scene.write("a.log", utf16("\u{feff}Position 1\r\n"));
    healthy(&scene);
    // a unit of which only one half is there yet
    let text = utf16("No money\r\nPosition 2\r\n");
    let (first, second) = text.split_at(7);
    scene.append("a.log", first);
    healthy(&scene);
    scene.append("a.log", second);
    let found = down(&scene, "log_error").service("a")["findings"].to_string();
    assert!(found.contains("the first: No money\""), "{found}");
    healthy(&scene);
    // a file that was copied and truncated goes on without a mark
    fs::copy(scene.path("a.log"), scene.path("a.log.1")).unwrap();
    scene.write("a.log", utf16("No money\r\nPosition 3\r\n"));
    down(&scene, "log_error");
    healthy(&scene);
    scene.append("a.log", utf16("x\r\nx\r\nx\r\n"));
    down(&scene, "log_quiet");
}

#[test]
fn utf_16_with_the_high_byte_first_and_stamps() {
    let scene = with_log("max_age = \"5m\"\ntimestamp = \"%F %T\"\ntimestamp_zone = \"utc\"");
    for (minutes, code) in [(60, Some("log_stale")), (1, None)] {
        let line = format!("\u{feff}{} tick\r\n", ago(minutes).format("%F %T"));
        let bytes: Vec<u8> = line.encode_utf16().flat_map(u16::to_be_bytes).collect();
        scene.write("a.log", bytes);
        assert_eq!(scene.check().codes("a"), Vec::from_iter(code));
    }
}

#[test]
fn colours_are_no_part_of_a_line() {
    let scene = with_log(
        "max_age = \"5m\"\nforbid = ['\\[ERROR\\] boom', '^ERROR boom$']\nexpect = ['INFO\\] connected']\n\
         timestamp = \"%m/%d/%Y, %T\"\ntimestamp_after = \"- \"\ntimestamp_zone = \"utc\"",
    );
    let connected = format!(
        "\x1b[32m[Nest] 4711  - \x1b[39m{} \x1b[32m[INFO\x1b[0m] connected\n",
        ago(1).format("%m/%d/%Y, %T")
    );
    scene.write("a.log", &connected);
    healthy(&scene);
    for line in [
        "[\x1b[31mERROR\x1b[0m] boom\n",
        "\x1b[1;31mERROR\x1b(B\x1b[m boom\n",
    ] {
        scene.append("a.log", line);
        let found = down(&scene, "log_error").service("a")["findings"].to_string();
        assert!(!found.contains("x1b"), "{found}");
        healthy(&scene);
    }
}

#[test]
fn a_stamp_that_cannot_be_read_restarts_nothing() {
    // what the lines have, and what was written for it
    let day = |format: &str| Utc::now().format(format).to_string();
    let millis = Utc::now().timestamp_millis();
    for (line, keys) in [
        (day("%d-Sept-%Y %T"), "timestamp = \"%d-%b-%Y %H:%M:%S\""),
        (millis.to_string(), "timestamp = \"%Y-%m-%d %H:%M:%S\""),
        (millis.to_string(), "timestamp = \"%s\""),
        (millis.to_string(), "timestamp = \"unix\""),
        (day("%F %T EST"), "timestamp = \"%F %T %Z\""),
        (
            day("%F %T IST"),
            "timestamp = \"%F %T %Z\"\ntimestamp_zone = \"utc\"",
        ),
    ] {
        let service = Service::new("a").log(&format!("path = \"a.log\"\nmax_age = \"5m\"\n{keys}"));
        let scene = Scene::of(&[&service]);
        let pid = scene.start("a", &["pid_file=a.pid"]);
        scene.write("a.log", format!("{line} tick\n").repeat(200));
        for _ in 0..2 {
            let outcome = degraded(&scene, "log_unstamped");
            assert_eq!(outcome.severity("a", "log_unstamped"), "warning");
        }
        assert_eq!(scene.starts("a"), [pid], "{line}");
        // the age is that of the last write
        scene.age("a.log", DAY);
        scene.check().restarted_for("a", "log_stale");
        assert!(!alive(pid));
    }
}

#[test]
fn seconds_and_milliseconds_since_1970_and_labels_of_tai64n() {
    let tai = |time: DateTime<Utc>| {
        let seconds = u64::try_from(time.timestamp()).unwrap() + (1 << 62) + 10;
        format!("@{seconds:016x}{:08x}", time.timestamp_subsec_nanos())
    };
    for (format, after, line) in [
        (
            "unix",
            "",
            (|t| format!("{}.123 x", t.timestamp())) as fn(DateTime<Utc>) -> String,
        ),
        ("unix", "ts=", |t| {
            format!("level=info ts={}", t.timestamp())
        }),
        ("unix_ms", "\\\"time\\\":", |t| {
            format!(
                "{{\"level\":30,\"time\":{},\"pid\":1}}",
                t.timestamp_millis()
            )
        }),
        ("tai64n", "", |_| String::new()),
    ] {
        let scene = with_log(&format!(
            "max_age = \"5m\"\ntimestamp = \"{format}\"\ntimestamp_after = \"{after}\""
        ));
        for (minutes, code) in [(2 * 24 * 60, Some("log_stale")), (1, None)] {
            let time = ago(minutes);
            let line = if format == "tai64n" {
                tai(time)
            } else {
                line(time)
            };
            scene.write("a.log", format!("{line}\n"));
            assert_eq!(scene.check().codes("a"), Vec::from_iter(code), "{line}");
        }
    }
}

#[test]
fn zones_of_logs_are_not_the_hosts() {
    let hour = TimeDelta::hours(1);
    for (keys, line) in [
        // a Z behind the time is UTC wherever the host is
        ("timestamp = \"%Y-%m-%dT%H:%M:%SZ\"", "%Y-%m-%dT%H:%M:%SZ"),
        ("timestamp = \"%F %T%.f%#z\"", "%F %T.123+00"),
        ("timestamp = \"%+\"", "%FT%T,123Z"),
        (
            "timestamp = \"%F %T\"\ntimestamp_zone = \"Africa/Lagos\"",
            "%F %T",
        ),
        (
            "timestamp = \"%F %T %Z\"\ntimestamp_zone = \"Africa/Lagos\"",
            "%F %T WAT",
        ),
    ] {
        let scene = with_log(&format!("max_age = \"5m\"\n{keys}"));
        for (minutes, code) in [(60, Some("log_stale")), (1, None)] {
            // an hour ahead of UTC in every season
            let shift = if keys.contains("Lagos") {
                hour
            } else {
                TimeDelta::zero()
            };
            let time = ago(minutes) + shift;
            scene.write("a.log", format!("{} tick\n", time.format(line)));
            for zone in ["UTC", "Asia/Tokyo", "America/New_York"] {
                let mut command = scene.command(&["check", "--json"]);
                command.env("TZ", zone);
                let outcome = scene.finish(command);
                assert_eq!(outcome.codes("a"), Vec::from_iter(code), "{keys} {zone}");
            }
        }
    }
}

#[test]
fn the_hosts_own_name_of_its_zone_is_known() {
    let scene = with_log("max_age = \"5m\"\ntimestamp = \"%F %T %Z\"");
    let here = ago(1) + TimeDelta::hours(9);
    for (zone, name, codes) in [
        ("Asia/Tokyo", "JST", &[][..]),
        ("Asia/Tokyo", "KST", &["log_unstamped"]),
        ("XYZ-9", "XYZ", &[]),
    ] {
        scene.write("a.log", format!("{} {name} tick\n", here.format("%F %T")));
        let mut command = scene.command(&["check", "--json"]);
        command.env("TZ", zone);
        assert_eq!(scene.finish(command).codes("a"), codes, "{zone} {name}");
    }
}

#[test]
fn a_zone_that_is_not_known_is_refused() {
    let scene = with_log("max_age = \"5m\"\ntimestamp = \"%T\"\ntimestamp_zone = \"Europe/Prag\"");
    let outcome = scene.check().exits(78);
    let said = outcome.text();
    assert!(said.contains("did you mean `Europe/Prague`?"), "{said}");
    let page = scene.run(&["man", "config"]).exits(0).words();
    assert!(
        page.contains("Takes local, utc, or a zone such as Europe/Prague"),
        "{page}"
    );
}

#[test]
fn a_time_of_day_is_no_younger_than_the_file() {
    let scene = with_log("max_age = \"10m\"\ntimestamp = \"[%H:%M:%S]\"\ntimestamp_zone = \"utc\"");
    scene.write(
        "a.log",
        format!("[{}] [Server thread/INFO]: tick\n", ago(1).format("%T")),
    );
    healthy(&scene);
    scene.age("a.log", 2 * DAY);
    down(&scene, "log_stale");
    // nor is a date without a year
    let scene = with_log("max_age = \"10m\"\ntimestamp = \"%b %e %T\"\ntimestamp_zone = \"utc\"");
    scene.write("a.log", format!("{} host x\n", ago(1).format("%b %e %T")));
    healthy(&scene);
    scene.age("a.log", 366 * DAY);
    down(&scene, "log_stale");
}

#[test]
fn validate_holds_a_time_of_day_against_the_file_too() {
    // eleven hours after the last write the same time of the next day is nearer
    let scene = with_log("max_age = \"10m\"\ntimestamp = \"%H:%M:%S\"\ntimestamp_zone = \"utc\"");
    scene.write("a.log", format!("{} tick\n", ago(13 * 60).format("%T")));
    scene.age("a.log", Duration::from_hours(13));
    let said = scene.run(&["validate"]).text();
    assert!(!said.contains("ahead of the clock"), "{said}");
}

#[test]
fn a_text_behind_the_stamp_chooses_the_lines_that_count() {
    let scene = with_log(
        "max_age = \"10m\"\ntimestamp = \"[%F %T] Imported new chain segment\"\ntimestamp_zone = \"utc\"",
    );
    let line = |minutes, text: &str| format!("[{}] {text}\n", ago(minutes).format("%F %T"));
    scene.write("a.log", line(5, "Imported new chain segment"));
    scene.append("a.log", line(1, "Looking for peers").repeat(300));
    healthy(&scene);
    scene.write("a.log", line(30, "Imported new chain segment"));
    scene.append("a.log", line(1, "Looking for peers").repeat(300));
    down(&scene, "log_stale");
}

#[test]
fn what_an_exception_matches_does_not_count() {
    let scene = tailing(
        "lines = 3\nforbid = [{ pattern = 'ERROR', except = ['ERROR: retrying', '^test'] }]\n\
         expect = [{ pattern = 'beg|ERROR|tick', except = ['no tick'] }]",
    );
    scene.append("a.log", "ERROR: retrying\ntest ERROR\ntick\n");
    healthy(&scene);
    scene.append("a.log", "ERROR: full\n");
    down(&scene, "log_error");
    scene.append("a.log", "no tick\n".repeat(3));
    down(&scene, "log_quiet");
    let shown = scene.run(&["show-config"]).exits(0).words();
    assert!(
        shown.contains("except = [\"ERROR: retrying\", \"^test\"]"),
        "{shown}"
    );
}

#[test]
fn the_fault_of_a_pattern_with_look_around_names_what_there_is() {
    let scene = with_log("forbid = ['(?i)error(?!s)']");
    let said = scene.check().exits(78).text();
    assert!(said.contains("look-around"), "{said}");
    assert!(said.contains("except = ["), "{said}");
    // no other table has it
    let scene = Scene::with("[service.a]\nprocess = { command_line = 'a(?!b)' }\n");
    let said = scene.check().exits(78).text();
    assert!(!said.contains("except"), "{said}");
}

#[test]
fn a_log_that_is_missing_is_critical_but_where_it_restarts_nothing() {
    let service = Service::new("a").log("path = \"a.log\"\nseverity = \"warning\"");
    let scene = Scene::of(&[&service]);
    let pid = scene.start("a", &["pid_file=a.pid"]);
    let outcome = degraded(&scene, "log_missing");
    assert_eq!(outcome.severity("a", "log_missing"), "warning");
    assert_eq!(scene.starts("a"), [pid]);
    // also where nothing else is asked of it
    for keys in ["", "max_age = \"5m\"", "expect = ['x']", "forbid = ['x']"] {
        let outcome = down(&with_log(keys), "log_missing");
        assert_eq!(outcome.severity("a", "log_missing"), "critical", "{keys}");
    }
}

#[test]
fn a_state_of_before_is_read() {
    let scene = tailing("forbid = ['FAILED']");
    scene.append("a.log", "connecting ... ");
    healthy(&scene);
    scene.edit_state(|state| {
        let here = &mut log_state(state)["here"];
        for new in ["matched", "encoding", "after_cr"] {
            here.as_object_mut().unwrap().remove(new);
        }
    });
    scene.append("a.log", "FAILED\n");
    down(&scene, "log_error");
}

fn log_state(state: &mut Value) -> &mut Value {
    let checks = state["services"]["a"]["checks"].as_object_mut().unwrap();
    checks.values_mut().next().unwrap()
}
