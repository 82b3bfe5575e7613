//! Real files, a clock of our own, and a test for each row of the table of known failures.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::SystemTime;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::check::pattern::Pattern;

mod lines;
mod model;
mod parts;
mod stamps;

use model::{End, Scene, Step, forbid, play};

impl Scene {
    /// A run of which only the findings matter.
    fn found(&mut self) -> Vec<String> {
        sentences(&self.look())
    }

    fn codes(&mut self) -> Vec<(String, Severity)> {
        codes(&self.look())
    }
}

fn sentences(seen: &Seen) -> Vec<String> {
    seen.findings
        .iter()
        .map(|finding| finding.message.clone())
        .collect()
}

fn codes(seen: &Seen) -> Vec<(String, Severity)> {
    seen.findings
        .iter()
        .map(|finding| (finding.code.to_string(), finding.severity))
        .collect()
}

fn expect(pattern: &str, at_least: u64) -> Expect {
    Expect {
        pattern: Pattern::new(pattern).unwrap(),
        at_least,
        except: Vec::new(),
    }
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

fn one(code: &str, severity: Severity) -> Vec<(String, Severity)> {
    vec![(code.to_owned(), severity)]
}

// --- freshness

#[test]
fn a_log_is_stale_only_beyond_its_limit() {
    let mut scene = Scene::new();
    scene.rule.max_age = Some(minutes(5));
    scene.log("tick\n");
    scene.pass(299);
    assert!(scene.found().is_empty());
    scene.pass(132);
    let seen = scene.look();
    assert_eq!(
        sentences(&seen),
        ["logs/app.log: no write for 7m 12s (limit 5m)"]
    );
    assert_eq!(codes(&seen), one("log_stale", Severity::Critical));
    scene.rule.severity = Severity::Warning;
    assert_eq!(scene.codes(), one("log_stale", Severity::Warning));
    scene.rule.max_age = None;
    assert!(scene.found().is_empty());
}

#[test]
fn f50_a_time_in_the_future_is_told_and_not_fresh_for_ever() {
    let mut scene = Scene::new();
    scene.rule.max_age = Some(minutes(5));
    scene.pass(172_800);
    scene.log("tick\n");
    scene.pass(-172_801);
    let seen = scene.look();
    assert_eq!(codes(&seen), one("log_in_future", Severity::Warning));
    assert!(
        sentences(&seen)[0].contains("modified 2d ahead"),
        "{seen:?}"
    );
    assert!(
        seen.state.unwrap().written.unwrap().wall() <= scene.now,
        "a time to come is not remembered"
    );
    scene.pass(172_800 - 200);
    assert!(scene.found().is_empty(), "within the difference of clocks");
}

#[test]
fn f50_a_stamp_in_the_future() {
    let mut scene = stamped();
    scene.log("2026-11-23 00:00:00 tick\n");
    let seen = scene.look();
    assert_eq!(codes(&seen), one("log_in_future", Severity::Warning));
    assert!(sentences(&seen)[0].contains("stamped"), "{seen:?}");
}

#[test]
fn f51_a_chmod_does_not_make_a_log_fresh() {
    let mut scene = Scene::new();
    scene.rule.max_age = Some(minutes(5));
    scene.log("tick\n");
    scene.pass(600);
    fs::set_permissions(scene.at("app.log"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(scene.codes(), one("log_stale", Severity::Critical));
}

#[test]
fn f52_an_empty_new_file_does_not_make_the_dead_look_fresh() {
    for copy in [false, true] {
        let mut scene = Scene::new();
        scene.rule.max_age = Some(minutes(5));
        scene.log("tick\n");
        scene.pass(100);
        assert!(scene.found().is_empty());
        scene.pass(100);
        if copy {
            scene.copytruncate();
        } else {
            scene.rotate();
        }
        scene.pass(50);
        assert!(scene.found().is_empty());
        scene.pass(60);
        assert_eq!(
            scene.codes(),
            one("log_stale", Severity::Critical),
            "copy: {copy}"
        );
        scene.rotate();
        assert_eq!(scene.codes(), one("log_stale", Severity::Critical));
        scene.log("alive\n");
        assert!(scene.found().is_empty());
    }
}

#[test]
fn f43_what_is_known_of_an_empty_log_grows_old_by_the_time_that_passes() {
    for set in [0, 7200, -7200, 400, -400] {
        let mut scene = Scene::new();
        scene.rule.max_age = Some(minutes(5));
        scene.log("tick\n");
        scene.pass(100);
        assert!(scene.found().is_empty());
        scene.rotate();
        assert!(scene.found().is_empty());
        scene.set_clock(set);
        scene.pass(100);
        assert!(scene.found().is_empty(), "{set}");
        scene.set_clock(-set / 2);
        scene.pass(150);
        assert_eq!(scene.codes(), one("log_stale", Severity::Critical), "{set}");
        assert!(sentences(&scene.look())[0].contains("no write for 5m 5"));
    }
}

#[test]
fn f52_what_was_written_just_before_the_rotation_counts() {
    for copy in [false, true] {
        let mut scene = Scene::new();
        scene.rule.max_age = Some(minutes(5));
        scene.log("tick\n");
        scene.found();
        scene.pass(290);
        scene.log("tock\n");
        if copy {
            scene.copytruncate();
        } else {
            scene.rotate();
        }
        scene.pass(60);
        assert!(scene.found().is_empty(), "copy: {copy}");
        // a program that still writes to the file that was renamed lives
        scene.pass(200);
        if !copy {
            scene.append("app.log.1", "late\n");
            scene.pass(100);
            assert!(scene.found().is_empty());
        }
        scene.pass(290);
        assert_eq!(scene.codes(), one("log_stale", Severity::Critical));
    }
}

#[test]
fn f36_after_a_jump_ages_wait_for_their_limit() {
    let mut scene = Scene::new();
    scene.rule.max_age = Some(minutes(5));
    scene.log("tick\n");
    scene.pass(8 * 3600);
    scene.jumped_at = Some(scene.now);
    assert!(scene.found().is_empty());
    scene.pass(299);
    assert!(scene.found().is_empty());
    scene.pass(1);
    assert_eq!(scene.codes(), one("log_stale", Severity::Critical));
    // a clock that was put back leaves times to come
    scene.pass(-9 * 3600);
    scene.jumped_at = Some(scene.now);
    assert!(scene.found().is_empty());
    scene.pass(400);
    assert_eq!(scene.codes(), one("log_in_future", Severity::Warning));
}

fn stamped() -> Scene {
    let mut scene = Scene::new();
    scene.rule.max_age = Some(minutes(5));
    scene.rule.stamp = Some(Stamp {
        format: "%Y-%m-%d %H:%M:%S".to_owned(),
        after: String::new(),
        zone: Zone::Utc,
    });
    scene
}

fn line(scene: &Scene, text: &str) -> String {
    format!("{} {text}\n", scene.now.format("%Y-%m-%d %H:%M:%S"))
}

#[test]
fn with_stamps_the_age_is_that_of_the_newest_stamped_line() {
    let mut scene = stamped();
    let tick = line(&scene, "tick");
    scene.log(tick);
    scene.pass(400);
    // written now, and not stamped: no sign of life
    scene.log("Traceback\n  File x\n".repeat(49));
    let seen = scene.look();
    assert_eq!(codes(&seen), one("log_stale", Severity::Critical));
    assert_eq!(
        sentences(&seen),
        ["logs/app.log: the newest stamped line is 6m 42s old (limit 5m)"]
    );
    let tick = line(&scene, "tick");
    scene.log(tick.trim_end());
    assert_eq!(scene.found().len(), 1, "half a line is no line");
    scene.log("\n");
    assert!(scene.found().is_empty());
}

#[test]
fn with_stamps_a_rotation_goes_on_with_the_age_that_is_known() {
    for kept in [true, false] {
        let mut scene = stamped();
        let tick = line(&scene, "tick");
        scene.log(tick);
        assert!(scene.found().is_empty());
        scene.rotate();
        if !kept {
            fs::remove_file(scene.at("app.log.1")).unwrap();
        }
        let unstamped = one("log_unstamped", Severity::Warning);
        scene.log("a banner\n");
        scene.pass(200);
        let codes = scene.codes();
        assert_eq!(codes, if kept { Vec::new() } else { unstamped.clone() });
        scene.pass(200);
        scene.log("more\n");
        let stale = one("log_stale", Severity::Critical);
        assert_eq!(scene.codes(), if kept { stale } else { unstamped });
    }
}

// --- rotations

#[test]
fn f53_the_rest_of_a_renamed_log_is_read_to_its_end() {
    for name in [
        "app.log.1",
        "app.log-20261122",
        "app-2026-11-22.log",
        "old/app.log",
        "renamed",
    ] {
        let mut scene = Scene::forbidding();
        fs::create_dir(scene.at("old")).unwrap();
        scene.log("fine\nERROR 0\n");
        assert_eq!(scene.codes(), one("log_error", Severity::Warning));
        scene.log("ERROR 1\nERROR 2");
        fs::rename(scene.at("app.log"), scene.at(name)).unwrap();
        scene.log("ERROR 3\n");
        let seen = scene.look();
        if name.starts_with("old/") {
            assert!(seen.notes[0].contains("was not seen"), "{seen:?}");
            assert!(sentences(&seen)[0].contains(": 1 new line matches"));
        } else {
            assert_eq!(
                sentences(&seen),
                ["logs/app.log: 3 new lines match `ERROR` (limit 0), the first: ERROR 1"],
                "{name}"
            );
            assert!(seen.notes.is_empty(), "{seen:?}");
        }
        assert!(scene.found().is_empty(), "once");
    }
}

#[test]
fn f53_several_rotations_between_two_runs() {
    let mut scene = Scene::forbidding();
    scene.log("fine\n");
    scene.found();
    for i in 0..5 {
        scene.log(format!("ERROR {i}\n"));
        scene.rotate();
    }
    scene.log("ERROR 5\n");
    let found = scene.found();
    assert!(found[0].contains(": 6 new lines"), "{found:?}");
    assert!(scene.found().is_empty());
    // logback's way of numbering is only known from the name of the file that was marked
    scene.log("ERROR 6\n");
    fs::rename(scene.at("app.log"), scene.at("app.2.log")).unwrap();
    scene.append("app.1.log", "ERROR 7\n");
    scene.append("app-1.log", "ERROR of another program\n");
    scene.log("ERROR 8\n");
    let found = scene.found();
    assert!(found[0].contains(": 3 new lines"), "{found:?}");
}

#[test]
fn f53_lines_that_come_after_the_rename() {
    let mut scene = Scene::forbidding();
    scene.log("fine\n");
    scene.found();
    scene.rotate();
    assert!(scene.found().is_empty());
    scene.append("app.log.1", "ERROR late\n");
    assert_eq!(scene.codes(), one("log_error", Severity::Critical));
    assert!(scene.found().is_empty());
    scene.append("app.log.1", "ERROR later\n");
    scene.log("fine\n");
    scene.rotate();
    assert_eq!(scene.found().len(), 1);
    assert!(scene.found().is_empty());
}

#[test]
fn f53_a_log_missing_for_the_moment_of_a_rotation() {
    let mut scene = Scene::forbidding();
    scene.log("fine\n");
    scene.found();
    scene.log("ERROR 1\n");
    fs::rename(scene.at("app.log"), scene.at("app.log.1")).unwrap();
    let seen = scene.look();
    assert_eq!(codes(&seen), one("log_missing", Severity::Critical));
    assert!(seen.state.is_none(), "the former mark stands");
    scene.log("ERROR 2\n");
    let found = scene.found();
    assert!(found[0].contains(": 2 new lines"), "{found:?}");

    // and where it comes back within the moment, nothing is said; a busy machine may be too late with it
    let came_in_time = (2..20).any(|number| {
        fs::rename(scene.at("app.log"), scene.at(&format!("app.log.{number}"))).unwrap();
        fs::write(scene.at("next"), "ERROR 3\n").unwrap();
        let (from, to) = (scene.at("next"), scene.at("app.log"));
        let writer = thread::spawn(move || fs::rename(from, to).unwrap());
        let seen = scene.look();
        writer.join().unwrap();
        let in_time = codes(&seen) == one("log_error", Severity::Critical);
        assert!(in_time || codes(&seen) == one("log_missing", Severity::Critical));
        in_time
    });
    assert!(came_in_time);
}

#[test]
fn f54_copied_truncated_and_grown_past_where_it_was() {
    for grown in [
        "ERROR new\n",
        "a line, ERROR, and more than there was before\n",
    ] {
        let mut scene = Scene::forbidding();
        scene.log("fine\nfine\n");
        scene.found();
        scene.log("ERROR old\n");
        scene.copytruncate();
        scene.log(grown);
        let seen = scene.look();
        assert!(sentences(&seen)[0].contains(": 2 new lines"), "{seen:?}");
        assert!(seen.notes.is_empty(), "{seen:?}");
        assert!(scene.found().is_empty());
    }
}

#[test]
fn f54_truncated_and_regrown_to_the_same_size() {
    let mut scene = Scene::forbidding();
    scene.log("fine 1\n");
    scene.found();
    scene.truncate();
    scene.log("ERROR2\n");
    let seen = scene.look();
    assert_eq!(codes(&seen), one("log_error", Severity::Critical));
    assert!(seen.notes[0].contains("was truncated"), "{seen:?}");
    assert!(scene.look().notes.is_empty());
}

#[test]
fn f54_a_constant_banner_hides_no_truncation() {
    let banner = format!("{}\n", "= trader 1.0 =".repeat(100));
    assert!(banner.len() > 1024);
    let mut scene = Scene::forbidding();
    scene.log(&banner);
    scene.log("one\n");
    scene.found();
    scene.copytruncate();
    scene.log(&banner);
    scene.log("two ERROR\n");
    assert_eq!(scene.found().len(), 1);
    assert!(scene.found().is_empty());
}

#[test]
fn f54_an_empty_log_that_was_written_and_copied_between_two_runs() {
    let mut scene = Scene::forbidding();
    scene.log("");
    scene.found();
    scene.log("ERROR 1\n");
    scene.copytruncate();
    scene.log("ERROR 2\n");
    let found = scene.found();
    assert!(found[0].contains(": 2 new lines"), "{found:?}");
    assert!(scene.found().is_empty());
}

#[test]
fn f54_an_inode_that_is_used_again_is_not_the_same_file() {
    let mut scene = Scene::forbidding();
    scene.log("fine 1\n");
    scene.found();
    let inode = fs::metadata(scene.at("app.log")).unwrap().ino();
    scene.truncate();
    scene.log("ERROR of a new file, longer\n");
    // the file system gives numbers out as it likes: a truncated file stands for one that has the number again
    assert_eq!(fs::metadata(scene.at("app.log")).unwrap().ino(), inode);
    assert_eq!(scene.found().len(), 1);
}

#[test]
fn f54_of_several_copies_that_begin_alike_the_oldest_is_gone_on_with() {
    let mut scene = Scene::forbidding();
    scene.log("banner\n");
    scene.found();
    scene.log("ERROR 1\n");
    scene.copytruncate();
    scene.log("banner\nERROR 2\n");
    scene.copytruncate();
    let found = scene.found();
    assert!(found[0].contains(": 2 new lines"), "{found:?}");
    assert!(scene.found().is_empty());
}

#[test]
fn f54_a_stranger_with_the_inode_of_an_empty_log_is_not_read() {
    let mut scene = Scene::forbidding();
    scene.log("");
    scene.found();
    scene.append("other.log", "ERROR of another program\n");
    let stranger = fs::metadata(scene.at("other.log")).unwrap().ino();
    scene.position.as_mut().unwrap().here.ino = stranger;
    scene.log("fine\n");
    assert!(scene.found().is_empty());
}

#[test]
fn a_log_that_was_restored_under_another_inode_goes_on() {
    let mut scene = Scene::forbidding();
    scene.log("ERROR 1\n");
    scene.found();
    fs::copy(scene.at("app.log"), scene.at("restored")).unwrap();
    fs::remove_file(scene.at("app.log")).unwrap();
    fs::rename(scene.at("restored"), scene.at("app.log")).unwrap();
    scene.log("fine\n");
    let seen = scene.look();
    assert!(
        seen.findings.is_empty() && seen.notes.is_empty(),
        "{seen:?}"
    );
    // and a file system that has another number after a reboot
    let position = scene.position.as_mut().unwrap();
    position.here.dev += 1;
    scene.log("fine\n");
    let seen = scene.look();
    assert!(
        seen.findings.is_empty() && seen.notes.is_empty(),
        "{seen:?}"
    );
}

#[test]
fn f55_where_the_rest_is_gone_it_is_said() {
    let mut scene = Scene::forbidding();
    scene.log("fine\n");
    scene.found();
    scene.log("ERROR lost\n");
    scene.rotate();
    fs::rename(scene.at("app.log.1"), scene.at("kept")).unwrap();
    fs::write(scene.at("app.log.1.gz"), b"\x1f\x8bfine\nERROR lost\n").unwrap();
    fs::remove_file(scene.at("kept")).unwrap();
    scene.log("ERROR new\n");
    let seen = scene.look();
    assert!(seen.notes[0].contains("compressed or removed"), "{seen:?}");
    assert!(sentences(&seen)[0].contains(": 1 new line "), "{seen:?}");
    assert!(scene.look().notes.is_empty());
}

#[test]
fn f55_the_newest_8_mib_are_read_and_the_gap_is_said() {
    let mut scene = Scene::forbidding();
    scene.log("fine\n");
    scene.found();
    scene.log("ERROR old\n");
    scene.log(format!("{}\n", "x".repeat(1023)).repeat(3 << 10));
    scene.rotate();
    scene.log(format!("{}\n", "y".repeat(1023)).repeat(8 << 10));
    scene.log("ERROR new\n");
    let seen = scene.look();
    assert_eq!(
        sentences(&seen),
        ["logs/app.log: 1 new line matches `ERROR` (limit 0), the first: ERROR new"]
    );
    assert!(
        seen.notes[0].contains("3 MiB of new lines were left out"),
        "{seen:?}"
    );
    assert!(scene.look().notes.is_empty());
}

#[test]
fn f56_a_line_of_megabytes_is_searched_at_its_beginning() {
    let long = "x".repeat(20 << 20);
    for first in [true, false] {
        let mut scene = Scene::forbidding();
        scene.log("fine\n");
        if first {
            fs::remove_file(scene.at("app.log")).unwrap();
        } else {
            scene.found();
        }
        scene.log(format!("ERROR {long}"));
        let seen = scene.look();
        assert_eq!(seen.findings.len(), 1, "first: {first}");
        assert!(sentences(&seen)[0].len() < 400);
        assert!(
            seen.notes.iter().any(|note| note.contains("truncated")),
            "{seen:?}"
        );
        assert!(scene.found().is_empty());
        scene.log("ERROR of the same line\nfine\n");
        assert!(scene.found().is_empty());
        scene.log("ERROR\n");
        assert_eq!(scene.found().len(), 1);
    }
}

/// What this thread has read so far, in bytes.
fn bytes_read() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/io").unwrap();
    let line = text.lines().find(|line| line.starts_with("rchar")).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn f56_a_log_of_ten_gigabytes_costs_what_a_small_one_does() {
    let mut scene = Scene::forbidding();
    scene.rule.expect = vec![expect("tick", 1)];
    scene.log("");
    let file = File::options()
        .write(true)
        .open(scene.at("app.log"))
        .unwrap();
    file.set_len(10 << 30).unwrap();
    scene.log("\n");
    scene.log("tick of the log\n".repeat(1000));
    scene.found();
    scene.log("tick\nERROR\n");
    let before = bytes_read();
    assert_eq!(scene.found().len(), 1);
    let read = bytes_read() - before;
    assert!(read < 100 << 10, "{read} bytes were read");
}

#[test]
fn f56_a_hole_is_passed_over() {
    // a writer that does not append goes on where it was after its log was truncated
    let mut scene = Scene::forbidding();
    scene.log("fine\n".repeat(20_000));
    scene.found();
    for size in [100_000_u64, 10 << 30] {
        scene.truncate();
        let file = File::options()
            .write(true)
            .open(scene.at("app.log"))
            .unwrap();
        file.set_len(size).unwrap();
        scene.log("ERROR 1\nERROR 2\n");
        let found = scene.found();
        assert!(found[0].contains(": 2 new lines"), "{found:?}");
        assert!(scene.found().is_empty());
    }
}

#[test]
fn f57_a_half_written_line_is_judged_once_when_complete() {
    let mut scene = Scene::forbidding();
    scene.log("fine\n");
    scene.found();
    scene.log("ERR");
    assert!(scene.found().is_empty());
    scene.log("OR");
    assert!(scene.found().is_empty(), "it grew");
    scene.log(" x\nfine\n");
    let found = scene.found();
    assert!(found[0].ends_with("the first: ERROR x"), "{found:?}");
    assert!(scene.found().is_empty());
}

#[test]
fn f57_left_without_newline_for_two_runs_it_is_judged_as_it_is() {
    let mut scene = Scene::forbidding();
    scene.rule.expect = vec![expect("fatal|fine", 2)];
    scene.log("fine\nERROR fatal");
    let codes = |found: &Seen| -> Vec<String> {
        found.findings.iter().map(|f| f.code.to_string()).collect()
    };
    assert_eq!(codes(&scene.look()), ["log_quiet"]);
    assert_eq!(codes(&scene.look()), ["log_error"]);
    assert!(scene.found().is_empty());
    scene.log(" ERROR the rest\n");
    assert!(scene.found().is_empty(), "its rest is not judged again");
    scene.log("ERROR\n");
    assert_eq!(codes(&scene.look()), ["log_error"]);
}

#[test]
fn f58_any_bytes_are_searched() {
    let mut colours = b"\x1b[1;31mERROR\x1b[0m x\n".to_vec();
    let far = format!("{}ERROR\n", "x".repeat(60_000)).into_bytes();
    colours.extend_from_slice(b"fine\n");
    for (content, count) in [
        (b"a\0b ERROR\n".to_vec(), "1 new line "),
        (b"\xff\xfe ERROR \x80\n".to_vec(), "1 new line "),
        (b"ERROR\r\nfine\r\nERROR\r\n".to_vec(), "2 new lines "),
        (colours, "1 new line "),
        (far, "1 new line "),
    ] {
        let mut scene = Scene::forbidding();
        scene.log("");
        scene.found();
        scene.log(&content);
        let found = scene.found();
        assert!(found[0].contains(count), "{found:?}");
        assert!(!found[0].contains(['\u{1b}', '\0', '\r']), "{found:?}");
    }
    let mut scene = Scene::new();
    scene.rule.forbid = vec![forbid("^end$")];
    scene.log("");
    scene.found();
    scene.log("end\r\n");
    assert_eq!(
        scene.found().len(),
        1,
        "a carriage return is no part of the line"
    );
}

#[test]
fn f59_what_is_no_regular_file_is_unreadable_at_once() {
    let mut scene = Scene::forbidding();
    let path = scene.at("app.log");
    let mode = nix::sys::stat::Mode::S_IRWXU;
    nix::unistd::mkfifo(&path, mode).unwrap();
    let seen = scene.look();
    assert_eq!(codes(&seen), one("log_unreadable", Severity::Unknown));
    assert!(sentences(&seen)[0].contains("a FIFO"), "{seen:?}");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(scene.found()[0].contains("a directory"));
    fs::remove_dir(&path).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(scene.found()[0].contains("a socket"));
    fs::remove_file(&path).unwrap();
    symlink("/dev/zero", &path).unwrap();
    assert!(scene.found()[0].contains("a device"));
    scene.rule.severity = Severity::Warning;
    assert_eq!(scene.codes(), one("log_unreadable", Severity::Unknown));
}

#[test]
fn f59_a_fifo_beside_the_log_is_not_read() {
    let mut scene = Scene::forbidding();
    scene.log("fine\n");
    scene.found();
    let mode = nix::sys::stat::Mode::S_IRWXU;
    nix::unistd::mkfifo(&scene.at("app.log.1"), mode).unwrap();
    fs::create_dir(scene.at("app.log.2")).unwrap();
    symlink(scene.at("app.log"), scene.at("app.log.3")).unwrap();
    fs::remove_file(scene.at("app.log")).unwrap();
    scene.log("ERROR\n");
    let found = scene.found();
    assert!(found[0].contains(": 1 new line "), "{found:?}");
}

#[test]
fn f60_missing_unreadable_and_dangling_are_told_apart() {
    let mut scene = Scene::forbidding();
    let path = scene.at("app.log");
    assert_eq!(scene.codes(), one("log_missing", Severity::Critical));
    assert_eq!(scene.found(), ["logs/app.log: no such file"]);

    symlink("nowhere", &path).unwrap();
    assert_eq!(scene.codes(), one("log_missing", Severity::Critical));
    assert!(scene.found()[0].contains("symbolic link to nowhere"));

    fs::remove_file(&path).unwrap();
    symlink(&path, &path).unwrap();
    assert_eq!(scene.codes(), one("log_unreadable", Severity::Unknown));
    assert!(scene.found()[0].contains("circle"));

    scene.rule.path = scene.at("no/app.log");
    assert_eq!(scene.codes(), one("log_missing", Severity::Critical));
    assert!(scene.found()[0].contains("its directory"));

    fs::write(scene.at("file"), "").unwrap();
    scene.rule.path = scene.at("file/app.log");
    assert_eq!(scene.codes(), one("log_unreadable", Severity::Unknown));
    assert!(scene.found()[0].contains("not a directory"));

    scene.rule.path = scene.at("app-*.log");
    assert_eq!(scene.codes(), one("log_missing", Severity::Critical));
    assert_eq!(scene.found(), ["logs/app.log: no file matches"]);
    scene.rule.path = scene.at("file/app-*.log");
    assert_eq!(scene.codes(), one("log_unreadable", Severity::Unknown));

    fs::create_dir(scene.at("shut")).unwrap();
    fs::write(scene.at("shut/app.log"), "x\n").unwrap();
    fs::set_permissions(scene.at("shut"), fs::Permissions::from_mode(0o000)).unwrap();
    scene.rule.path = scene.at("shut/app.log");
    // root may enter it all the same
    let expected = if nix::unistd::geteuid().is_root() {
        Vec::new()
    } else {
        one("log_unreadable", Severity::Unknown)
    };
    assert_eq!(scene.codes(), expected);
    fs::set_permissions(scene.at("shut"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn f61_the_first_run_looks_back_a_little_and_warns() {
    let mut scene = Scene::forbidding();
    scene.rule.lines = 3;
    scene.log("ERROR far\nfine\nERROR near\nfine\nhalf ERR");
    let seen = scene.look();
    assert_eq!(codes(&seen), one("log_error", Severity::Warning));
    assert!(
        sentences(&seen)[0].ends_with("the first: ERROR near"),
        "{seen:?}"
    );
    scene.log("OR\n");
    assert_eq!(scene.codes(), one("log_error", Severity::Critical));
}

#[test]
fn f61_lines_of_perhaps_an_earlier_process_are_warnings() {
    let mut scene = Scene::forbidding();
    scene.log("fine\n");
    scene.found();
    scene.log("ERROR\n");
    scene.author = Author::Perhaps;
    assert_eq!(scene.codes(), one("log_error", Severity::Warning));
    scene.author = Author::Present;
    scene.log("ERROR\n");
    scene.rule.severity = Severity::Warning;
    assert_eq!(scene.codes(), one("log_error", Severity::Warning));
}

#[test]
fn f61_what_was_there_when_the_process_was_stopped_is_never_judged() {
    // whatever becomes of the file between
    for case in 0..6 {
        let mut scene = Scene::forbidding();
        scene.rule.max_age = Some(minutes(5));
        scene.log("fine\n");
        scene.found();
        scene.log("ERROR of the old\nERROR half");
        match case {
            0 => scene.position_at_end(),
            1 => {
                scene.position_at_end();
                scene.rotate();
            }
            2 => {
                scene.position_at_end();
                scene.copytruncate();
            }
            3 => {
                scene.rotate();
                scene.position_at_end();
            }
            4 => {
                fs::rename(scene.at("app.log"), scene.at("app.log.1")).unwrap();
                scene.position_at_end();
            }
            _ => {
                scene.position_at_end();
                scene.truncate();
            }
        }
        if case == 0 {
            scene.log(" the rest of ERROR\n");
        }
        scene.log("fine\n");
        let seen = scene.look();
        assert!(seen.findings.is_empty(), "{case}: {seen:?}");
        assert!(seen.notes.is_empty(), "{case}: {seen:?}");
        scene.log("ERROR of the new\n");
        assert_eq!(scene.found().len(), 1, "{case}");
    }
}

#[test]
fn f61_a_mark_at_the_end_of_a_log_never_seen() {
    let mut scene = Scene::forbidding();
    assert_eq!(position_at_end(&scene.rule, None), None);
    scene.log("ERROR\n");
    scene.position_at_end();
    assert!(scene.found().is_empty());
    scene.log("ERROR\n");
    assert_eq!(scene.codes(), one("log_error", Severity::Critical));
}

#[test]
fn f52_a_restart_keeps_the_time_of_the_last_write() {
    let mut scene = Scene::new();
    scene.rule.max_age = Some(minutes(5));
    scene.log("fine\n");
    scene.pass(200);
    scene.position_at_end();
    scene.truncate();
    scene.pass(50);
    assert!(scene.found().is_empty());
    scene.pass(100);
    assert_eq!(scene.codes(), one("log_stale", Severity::Critical));
}

// --- expect

#[test]
fn expect_sees_the_last_complete_lines() {
    let mut scene = Scene::new();
    scene.rule.lines = 3;
    scene.rule.expect = vec![expect("tick", 2)];
    scene.log("tick\ntick\nother\nother\ntick");
    let seen = scene.look();
    assert_eq!(
        sentences(&seen),
        ["logs/app.log: 1 of the last 3 lines match `tick` (2 needed)"]
    );
    assert_eq!(codes(&seen), one("log_quiet", Severity::Critical));
    scene.log("\n");
    assert_eq!(scene.found().len(), 1);
    scene.log("tick\n");
    assert!(scene.found().is_empty());
}

#[test]
fn expect_goes_on_in_the_file_before_a_rotation() {
    for copy in [false, true] {
        let mut scene = Scene::new();
        scene.rule.lines = 5;
        scene.rule.expect = vec![expect("tick", 1)];
        scene.log("tick\n1\n2\n");
        assert!(scene.found().is_empty());
        if copy {
            scene.copytruncate();
        } else {
            scene.rotate();
        }
        assert!(scene.found().is_empty());
        scene.log("3\n");
        assert!(scene.found().is_empty());
        scene.log("4\n");
        assert!(scene.found().is_empty());
        scene.log("5\n");
        assert_eq!(scene.found().len(), 1, "copy: {copy}");
    }
}

#[test]
fn expect_is_not_judged_where_the_file_before_is_gone() {
    let mut scene = Scene::new();
    scene.rule.lines = 3;
    scene.rule.expect = vec![expect("tick", 1)];
    scene.log("tick\n");
    assert!(scene.found().is_empty());
    scene.rotate();
    fs::remove_file(scene.at("app.log.1")).unwrap();
    scene.log("1\n2\n");
    for _ in 0..2 {
        let seen = scene.look();
        assert!(seen.findings.is_empty(), "{seen:?}");
        let said = "logs/app.log: `tick` is not judged: it was rotated, the lines before cannot be read any more, and there are only 2 of 3 since";
        assert!(seen.notes.iter().any(|note| note == said), "{seen:?}");
    }
    scene.log("3\n");
    assert_eq!(scene.codes(), one("log_quiet", Severity::Critical));
    // compressed later, after it was found
    scene.log("tick\n");
    assert!(scene.found().is_empty());
    scene.rotate();
    assert!(scene.found().is_empty());
    fs::remove_file(scene.at("app.log.1")).unwrap();
    let seen = scene.look();
    assert!(
        seen.findings.is_empty() && !seen.notes.is_empty(),
        "{seen:?}"
    );
}

#[test]
fn expect_is_judged_where_a_new_process_began_its_log_anew() {
    let mut scene = Scene::new();
    scene.rule.lines = 3;
    scene.rule.expect = vec![expect("tick", 1)];
    scene.log("tick\n");
    assert!(scene.found().is_empty());
    scene.position_at_end();
    scene.truncate();
    scene.log("hung\n");
    assert_eq!(scene.codes(), one("log_quiet", Severity::Critical));
    // the same without a restart: somebody emptied it, and what was there before is not known
    scene.truncate();
    scene.log("a\n");
    assert!(scene.found().is_empty());
    scene.author = Author::Perhaps;
    scene.truncate();
    scene.log("b\n");
    assert_eq!(scene.codes(), one("log_quiet", Severity::Critical));
}

#[test]
fn a_short_first_look_is_judged_as_it_is() {
    let mut scene = Scene::new();
    scene.rule.expect = vec![expect("tick", 1)];
    scene.log("");
    assert_eq!(
        scene.found(),
        ["logs/app.log: it has no complete line (1 matching `tick` needed)"]
    );
}

// --- the rest

#[test]
fn the_tail_is_there_where_it_is_asked_for_or_something_is_wrong() {
    for (shown, line, lines) in [
        (false, "fine\n", 0),
        (true, "fine\n", 2),
        (false, "ERROR\n", 2),
        (true, "ERROR\n", 2),
    ] {
        let mut scene = Scene::forbidding();
        scene.shown = shown;
        scene.log("begun\n");
        scene.look();
        scene.log(line);
        assert_eq!(scene.look().tail.lines().len(), lines, "{shown} {line}");
    }
}

#[test]
fn the_tail_is_the_last_lines_across_a_rotation() {
    let mut scene = Scene::new();
    for i in 0..12 {
        scene.log(format!("line {i}\n"));
    }
    scene.log(b"\xff");
    scene.log("x".repeat(600));
    scene.log("\n");
    let tail = scene.look().tail.lines();
    assert_eq!(tail.len(), 10);
    assert_eq!(tail[0], "line 3");
    assert!(tail[9].starts_with('\u{fffd}') && tail[9].len() < 510);
    scene.rotate();
    assert_eq!(scene.look().tail.lines(), tail);
}

#[test]
fn a_glob_moves_on_to_its_next_file() {
    let mut scene = Scene::forbidding();
    scene.rule.path = scene.at("app-*.log");
    scene.rule.shown = "logs/app-*.log".to_owned();
    scene.append("app-20.log", "ERROR long ago\n");
    scene.append("app-21.log", "fine\n");
    assert!(scene.found().is_empty());
    scene.append("app-21.log", "ERROR 21\n");
    scene.append("app-22.log", "ERROR 22\n");
    scene.append("app-23.log", "ERROR 23\n");
    let found = scene.found();
    assert_eq!(
        found,
        ["logs/app-*.log (app-23.log): 3 new lines match `ERROR` (limit 0), the first: ERROR 21"]
    );
    assert!(scene.found().is_empty());
    // two that live: back and forth, and nothing twice
    for i in 0..3 {
        scene.append("app-22.log", format!("ERROR {i}\n"));
        let found = scene.found();
        assert!(found[0].contains(": 1 new line "), "{found:?}");
        scene.append("app-23.log", format!("ERROR {i}\n"));
        let found = scene.found();
        assert!(found[0].contains(": 1 new line "), "{found:?}");
    }
}

#[test]
fn a_symbolic_link_to_the_file_of_the_day() {
    let mut scene = Scene::forbidding();
    fs::create_dir(scene.at("d21")).unwrap();
    fs::create_dir(scene.at("d22")).unwrap();
    scene.append("d21/x.log", "fine\n");
    symlink("d21/x.log", scene.at("app.log")).unwrap();
    scene.found();
    scene.append("d21/x.log", "ERROR 1\n");
    scene.append("d22/x.log", "ERROR 2\n");
    fs::remove_file(scene.at("app.log")).unwrap();
    symlink("d22/x.log", scene.at("app.log")).unwrap();
    let found = scene.found();
    assert!(found[0].contains(": 2 new lines"), "{found:?}");
    assert!(scene.found().is_empty());
}

#[test]
fn a_damaged_mark_is_no_reason_to_fail() {
    let mut scene = Scene::forbidding();
    scene.log("fine\n");
    scene.found();
    let whole = scene.position.clone().unwrap();
    let spoil: [fn(&mut LogPosition); 6] = [
        |position| position.here.offset = u64::MAX,
        |position| position.here.size = u64::MAX,
        |position| position.here.head.len = u64::MAX,
        |position| position.here.tail.len = u64::MAX,
        |position| position.here.path = PathBuf::from("\0"),
        |position| position.former = vec![position.here.clone(); 50],
    ];
    for spoil in spoil {
        let mut position = whole.clone();
        spoil(&mut position);
        scene.position = Some(position.clone());
        assert!(scene.found().is_empty());
        assert!(position_at_end(&scene.rule, Some(&position)).is_some());
    }
}

#[test]
fn too_many_is_more_than_the_limit() {
    let mut scene = Scene::forbidding();
    scene.rule.forbid[0].at_most = 2;
    scene.log("fine\n");
    scene.found();
    scene.log("ERROR\nERROR\n");
    assert!(scene.found().is_empty());
    scene.log("ERROR\nERROR\nERROR\n");
    assert_eq!(
        scene.found(),
        ["logs/app.log: 3 new lines match `ERROR` (limit 2), the first: ERROR"]
    );
}

// --- rotated while it is looked at

/// Looks again and again while another thread writes and rotates, and counts what was judged.
fn race(rotate: fn(&Path)) {
    let mut scene = Scene::new();
    scene.rule.forbid = vec![forbid("line")];
    // with the time of the clock, as all that follows
    File::create(scene.at("app.log")).unwrap();
    scene.look();
    let path = scene.at("app.log");
    let writer = thread::spawn(move || {
        let mut written = 0;
        for _ in 0..30 {
            for _ in 0..10 {
                let mut lines = Vec::new();
                for _ in 0..20 {
                    writeln!(lines, "{written} line").unwrap();
                    written += 1;
                }
                let mut log = File::options().append(true).open(&path).unwrap();
                log.write_all(&lines).unwrap();
                thread::sleep(Duration::from_millis(1));
            }
            rotate(path.parent().unwrap());
            // the times of files have the grain of a tick of the kernel
            thread::sleep(Duration::from_millis(11));
        }
        written
    });
    let mut judged = 0;
    loop {
        let done = writer.is_finished();
        scene.now = Utc::now();
        let seen = scene.look();
        assert!(seen.notes.is_empty(), "{seen:?}");
        for finding in seen.findings.iter().filter(|f| f.code == "log_error") {
            let count = finding.message.split(": ").nth(1).unwrap();
            judged += count.split(' ').next().unwrap().parse::<u64>().unwrap();
        }
        if done {
            break;
        }
    }
    assert_eq!(judged, writer.join().unwrap());
}

#[test]
fn f53_renamed_while_it_is_looked_at() {
    race(|directory| {
        let name = |i| directory.join(format!("app.log.{i}"));
        for i in (1..45).rev().filter(|i| name(*i).exists()) {
            fs::rename(name(i), name(i + 1)).unwrap();
        }
        fs::rename(directory.join("app.log"), name(1)).unwrap();
        File::create(directory.join("app.log")).unwrap();
    });
}

#[test]
fn f54_copied_and_truncated_while_it_is_looked_at() {
    race(|directory| {
        let name = |i| directory.join(format!("app.log.{i}"));
        for i in (1..45).rev().filter(|i| name(*i).exists()) {
            fs::rename(name(i), name(i + 1)).unwrap();
        }
        fs::copy(directory.join("app.log"), name(1)).unwrap();
        File::create(directory.join("app.log")).unwrap();
    });
}

// --- the property: each line once

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pad =
        prop_oneof![4 => Just(0_usize), 2 => 0..400_usize, 1 => Just(1500), 1 => Just(70_000)];
    let end = || {
        prop_oneof![
            2 => Just(End::Nothing),
            4 => Just(End::Lf),
            1 => Just(End::CrLf),
            2 => Just(End::Cr),
        ]
    };
    let step = prop_oneof![
        6 => (pad, end()).prop_map(|(pad, end)| Step::Append(pad, end)),
        1 => Just(Step::Feed),
        2 => Just(Step::Rename),
        2 => Just(Step::Copytruncate),
        1 => end().prop_map(Step::Late),
        4 => Just(Step::Run),
        1 => Just(Step::MarkEnd),
    ];
    prop::collection::vec(step, 1..40)
}

fn encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![
        4 => Just(Encoding::Bytes),
        1 => Just(Encoding::Utf16Le),
        1 => Just(Encoding::Utf16Be),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 2))]

    #[test]
    fn f53_f54_f57_each_line_is_judged_exactly_once(steps in steps(), encoding in encoding()) {
        play(&steps, encoding);
    }
}

/// A counterexample that the property above found.
#[test]
fn after_a_restart_nothing_more_is_judged_of_the_last_line_of_a_rotated_file() {
    let steps = [
        Step::Append(0, End::Nothing),
        Step::Rename,
        Step::Run,
        Step::MarkEnd,
        Step::Late(End::Nothing),
    ];
    play(&steps, Encoding::Bytes);
}

#[test]
fn a_pattern_that_cannot_be_compiled_is_unknown_and_nothing_is_lost() {
    let mut scene = Scene::forbidding();
    scene.log("first\n");
    scene.look();
    let before = scene.position.clone();
    scene.log("ERROR\n");
    scene.rule.expect = vec![Expect {
        pattern: crate::check::pattern::broken(),
        at_least: 1,
        except: Vec::new(),
    }];
    let seen = scene.look();
    assert_eq!(
        sentences(&seen),
        ["logs/app.log: `a(` cannot be searched for: unclosed group"]
    );
    assert_eq!(seen.findings[0].severity, Severity::Unknown);
    assert_eq!(scene.position, before);
    scene.rule.expect.clear();
    assert!(scene.found()[0].contains("1 new line matches `ERROR`"));
}
