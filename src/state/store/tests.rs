//! What is on the disk, whole and damaged.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::load::read_state;
use super::save::Flush;
use super::*;
use crate::check::log::Rule as LogRule;
use crate::check::{CheckState, Rule, assign_ids};
use crate::notify::Event;
use crate::state::{ServiceState, State, VERSION};

#[test]
fn a_mark_that_cannot_be_read_is_none_and_the_rest_is_kept() {
    let attempt = "2026-11-22T11:30:00Z";
    for (mark, is_known) in [
        (
            json!({"here": {"ino": 5, "size": 3, "offset": 9}, "other": 1}),
            true,
        ),
        (json!(null), false),
        (json!([]), false),
        (json!(3), false),
        (json!({}), false),
        (json!({"here": {"ino": -1}}), false),
        (json!({"here": {"ino": "x"}, "former": 7}), false),
        (
            json!({"here": {"ino": 5, "head": {"len": 3, "sha256": "00"}}}),
            false,
        ),
        (
            json!({"here": {"ino": 5, "head": {"len": 3, "xxh3": "not hexadecimal"}}}),
            false,
        ),
        (json!({"here": {"ino": 5}, "written": "soon"}), false),
    ] {
        let known = json!({"here": {"ino": 7}});
        let state = json!({"version": VERSION, "services": {"a": {
            "attempts": [attempt],
            "logs": {"/a.log": mark, "/b.log": known},
            "charged": {"logs": {"/b.log": known, "/c.log": mark}},
            "checks": {"log:/a.log": mark, "log:/b.log": known},
        }}});
        let state = parse_state(state.to_string().as_bytes()).unwrap();
        let service = &state.services["a"];
        assert_eq!(
            service.attempts,
            [attempt.parse::<DateTime<Utc>>().unwrap()]
        );
        for (id, expected) in [("log:/a.log", is_known), ("log:/b.log", true)] {
            let Some(CheckState::Log(state)) = service.checks.get(&id.to_owned().into()) else {
                panic!("{id}");
            };
            assert_eq!(state.here.ino != 0, expected, "{id}: {mark}");
        }
        let recorded = &service.recorded.as_ref().unwrap().logs;
        for (marks, name, expected) in [
            (&service.logs, "/a.log", is_known),
            (&service.logs, "/b.log", true),
            (recorded, "/b.log", true),
            (recorded, "/c.log", is_known),
        ] {
            assert_eq!(marks[name].here.ino != 0, expected, "{name}: {mark}");
        }
    }
}

#[test]
fn a_damaged_mark_excuses_no_other_damage() {
    for damaged in [
        r#""attempts":["soon"]"#,
        r#""attempts":3"#,
        r#""charged":{"logs":7}"#,
        r#""logs":[]"#,
        r#""since":{}"#,
    ] {
        for mark in ["", r#","logs":{"/a.log":3}"#] {
            if damaged.contains("logs") && mark.contains("logs") {
                continue;
            }
            let state = format!(r#"{{"version":1,"services":{{"a":{{{damaged}{mark}}}}}}}"#);
            let why = parse_state(state.as_bytes()).unwrap_err();
            assert!(why.starts_with("is damaged ("), "{state}: {why}");
        }
    }
}

#[test]
fn what_cannot_be_done_with_a_file_says_what_to_do() {
    for (errno, hint) in [
        (
            libc::ENOSPC,
            "No space left on device (os error 28); free some space on its disk",
        ),
        (
            libc::EFBIG,
            "File too large (os error 27); raise the limit of the size of files that it is run with (ulimit -f, LimitFSIZE=)",
        ),
        (
            libc::EACCES,
            "Permission denied (os error 13); run as the user that owns it, or set state_dir to a directory that this user can write",
        ),
        (
            libc::EROFS,
            "Read-only file system (os error 30); set state_dir to a directory that can be written",
        ),
        (libc::EIO, "Input/output error (os error 5)"),
    ] {
        let error = StoreError::Io {
            what: "cannot write the state",
            path: "/s/state.json".into(),
            source: io::Error::from_raw_os_error(errno),
        };
        assert_eq!(
            error.to_string(),
            format!("cannot write the state /s/state.json: {hint}")
        );
    }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn state(failures: u32) -> State {
    let mut state = State::default();
    let service = ServiceState {
        consecutive_failures: failures,
        ..ServiceState::default()
    };
    state.services.insert("a".to_owned(), Box::new(service));
    state
}

fn failures(loaded: &Loaded) -> Option<u32> {
    Some(loaded.state.services.get("a")?.consecutive_failures)
}

#[test]
fn the_state_and_the_one_before_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::prepare(&dir.path().join("a/b/state")).unwrap();
    assert!(
        store.load(now()).unwrap().trusted,
        "a first run starts afresh"
    );
    store.save(&mut state(1)).unwrap();
    store.save(&mut state(2)).unwrap();
    let loaded = store.load(now()).unwrap();
    assert_eq!((failures(&loaded), loaded.damage.len()), (Some(2), 0));
    assert_eq!(
        read_state(&store.dir().join("state.json.bak"), |_, _, _| {}).unwrap(),
        Some(state(1))
    );
    for (path, mode) in [
        (".", 0o700),
        ("state.json", 0o600),
        ("state.json.bak", 0o600),
    ] {
        let meta = fs::metadata(store.dir().join(path)).unwrap();
        assert_eq!(meta.mode() & 0o777, mode, "{path}");
    }
}

#[test]
fn only_what_was_flushed_becomes_the_backup() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::prepare(dir.path()).unwrap();
    let mut kept = state(1);
    let run = |kept: &mut State, failures, flush| {
        *kept = store.load(now()).unwrap().state;
        *kept.services.get_mut("a").unwrap() = state(failures).services["a"].clone();
        match flush {
            Flush::Now => store.save(kept).unwrap(),
            Flush::Later => store.save_unflushed(kept).unwrap(),
        }
        let backup = read_state(&dir.path().join("state.json.bak"), |_, _, _| {}).unwrap();
        let backup = backup.unwrap().services["a"].consecutive_failures;
        (failures_of(&store), backup)
    };
    store.save(&mut kept).unwrap();
    for (failures, flush, backup) in [
        (2, Flush::Later, 1),
        (3, Flush::Later, 1),
        (4, Flush::Now, 1),
        (5, Flush::Now, 4),
        (6, Flush::Later, 5),
        (7, Flush::Later, 5),
    ] {
        assert_eq!(run(&mut kept, failures, flush), (failures, backup));
    }
    // what a power cut may leave of a file that was never flushed
    fs::write(dir.path().join("state.json"), "").unwrap();
    let loaded = store.load(now()).unwrap();
    assert_eq!((failures(&loaded), loaded.trusted), (Some(5), true));
    let mut state = loaded.state;
    store.save_unflushed(&mut state).unwrap();
    store.save_twice(&mut state).unwrap();
    assert_eq!(failures_of(&store), 5);
}

fn failures_of(store: &Store) -> u32 {
    failures(&store.look()).unwrap()
}

#[test]
fn f45_damage_is_set_aside_and_the_backup_used() {
    let bad: [&[u8]; 6] = [
        b"",
        b"{",
        b"{\"version\":3,\"services\":{}}",
        b"[]",
        b"{\"version\":1,\"services\":{\"a\":3}}",
        b"\xff\xfe",
    ];
    for bytes in bad {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::prepare(dir.path()).unwrap();
        store.save_twice(&mut state(3)).unwrap();
        fs::write(dir.path().join("state.json"), bytes).unwrap();
        let looked = store.look();
        assert_eq!(failures(&looked), Some(3));
        assert!(
            dir.path().join("state.json").exists(),
            "looking changes nothing"
        );
        let loaded = store.load(now()).unwrap();
        assert!(loaded.trusted);
        assert_eq!(
            (failures(&loaded), loaded.damage.len()),
            (Some(3), 2),
            "{bytes:?}"
        );
        let aside = dir.path().join("state.json.corrupt-20270115T080000Z");
        assert_eq!(fs::read(aside).unwrap(), bytes);
    }
}

#[test]
fn an_attempt_is_in_two_files_that_share_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::prepare(dir.path()).unwrap();
    for failures in [1, 2] {
        store.save_twice(&mut state(failures)).unwrap();
        let file = |name: &str| dir.path().join(name);
        let [state, backup] = ["state.json", "state.json.bak"].map(file);
        assert_eq!(fs::read(&state).unwrap(), fs::read(&backup).unwrap());
        assert_eq!(failures_of(&store), failures);
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_ne!(inode(&state), inode(&backup));
        let names = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(names, 2, "nothing else is left behind");
    }
}

#[test]
fn f33_a_backup_that_is_the_state_itself_leaves_no_second_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::prepare(dir.path()).unwrap();
    store.save(&mut state(1)).unwrap();
    // as a run leaves it that is killed just before its new state takes its place
    let (state, backup) = (
        dir.path().join("state.json"),
        dir.path().join("state.json.bak"),
    );
    fs::hard_link(&state, &backup).unwrap();
    let mut next = store.load(now()).unwrap().state;
    store.save(&mut next).unwrap();
    assert!(!dir.path().join("state.json.bak.new").exists());
    assert!(backup.exists());
}

#[test]
fn f45_both_damaged_is_not_to_be_trusted_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::prepare(dir.path()).unwrap();
    store.save_twice(&mut state(3)).unwrap();
    fs::write(dir.path().join("state.json"), "{").unwrap();
    fs::write(dir.path().join("state.json.bak"), "").unwrap();
    let loaded = store.load(now()).unwrap();
    assert!(!loaded.trusted);
    assert_eq!((failures(&loaded), loaded.damage.len()), (None, 2));
    assert!(
        store.load(now()).unwrap().trusted,
        "the next run starts afresh"
    );
}

#[test]
fn f45_a_link_is_never_followed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::prepare(dir.path()).unwrap();
    let target = dir.path().join("target");
    fs::write(&target, serde_json::to_vec(&state(9)).unwrap()).unwrap();
    std::os::unix::fs::symlink(&target, dir.path().join("state.json")).unwrap();
    let loaded = store.load(now()).unwrap();
    assert_eq!(failures(&loaded), None);
    assert!(!loaded.trusted);
    std::os::unix::fs::symlink(&target, dir.path().join("state.json.new")).unwrap();
    store.save(&mut state(1)).unwrap();
    assert_eq!(read_state(&target, |_, _, _| {}).unwrap(), Some(state(9)));
}

#[test]
fn f30_one_lock_for_all_and_its_holder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::prepare(dir.path()).unwrap();
    let lock = store.lock().unwrap();
    let busy = store.lock().unwrap_err().to_string();
    assert!(busy.contains(&std::process::id().to_string()), "{busy}");
    drop(lock);
    store.lock().unwrap();
}

#[test]
fn a_directory_that_all_can_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = Store::prepare(dir.path()).unwrap_err().to_string();
    assert!(error.contains("chmod 700"), "{error}");
    let error = Store::prepare(&dir.path().join("state")).unwrap_err();
    assert!(error.to_string().contains("above it"), "{error}");
    assert!(!dir.path().join("state").exists(), "nothing is made there");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_state_parser_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = parse_state(&bytes);
    }
}

/// A state that watchdog 0.1.0 wrote.
const VERSION_1: &[u8] = include_bytes!("../versions/1.json");

#[test]
fn nothing_that_version_1_remembers_is_forgotten() {
    let mut state = parse_state(VERSION_1).unwrap();
    let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    for read_again in [false, true] {
        assert_eq!(state.version, VERSION);
        assert_eq!(state.last_run, Some(time("2026-11-26T22:44:47.418222864Z")));
        let channel = &state.channels["mail"];
        assert_eq!(channel.sent.len(), 2);
        assert_eq!(state.clock.as_ref().unwrap().boot_ms, 7_941_116);
        let broken = &state.services["broken"];
        assert_eq!(broken.attempts.len(), 2);
        assert_eq!(broken.given_up, state.last_run);
        assert_eq!(broken.attempt_codes, [["process_missing"]; 2]);
        let incident = "broken.20261126T224446.511Z";
        assert_eq!(broken.incident.as_deref(), Some(incident));
        assert_eq!(channel.threads[incident].len(), 2);
        assert_eq!(channel.services["broken"].alerted.len(), 2);
        assert_eq!(
            channel.services["broken"].open_trouble,
            Some(Event::Exhausted)
        );
        assert_eq!(channel.services["worker"].alerted.len(), 1);
        assert_eq!(broken.report.findings[0].code, "process_missing");
        let held = &state.services["held"];
        assert_eq!(
            held.paused_until,
            Some(time("2026-12-26T22:44:46.469056129Z"))
        );
        assert_eq!(held.pause_reason.as_deref(), Some("moving"));
        assert_eq!(held.consecutive_failures, 3);
        let worker = &state.services["worker"];
        let main = worker.process.main.as_ref().unwrap();
        assert_eq!((main.pid, main.start), (25_132, 794_023));
        assert!(worker.process.leads_group && worker.process.pid_file.is_some());
        let rule = LogRule {
            shown: "worker.log".to_owned(),
            ..LogRule::fixture("srv/app/worker.log")
        };
        let check = assign_ids(vec![Rule::Log(Arc::new(rule))]).remove(0);
        let Some(CheckState::Log(position)) = worker.state_of(&check, None) else {
            panic!("where it was read to");
        };
        assert_eq!((position.here.ino, position.here.offset), (10_324_547, 9));
        if !read_again {
            state = parse_state(&serde_json::to_vec(&state).unwrap()).unwrap();
        }
    }
}

#[test]
fn the_names_that_version_1_has_for_fields_are_read() {
    let state = br#"{"version":1,"owed":[],"services":{"a":{
        "young":[{"pid":7,"start":1,"boot_id":"b"}],"unfinished":"2026-11-22T11:30:00Z",
        "charged":{"main":{"pid":7,"start":1,"boot_id":"b"},"logs":{"a.log":{"here":{"ino":5}}}}}}}"#;
    let state = parse_state(state).unwrap();
    let service = &state.services["a"];
    assert_eq!(service.recent_starts[0].pid, 7);
    assert!(service.interrupted_attempt.is_some());
    let recorded = service.recorded.as_ref().unwrap();
    assert_eq!(recorded.main.as_ref().unwrap().pid, 7);
    assert_eq!(recorded.logs["a.log"].here.ino, 5);
}
