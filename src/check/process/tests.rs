//! Worlds made by hand, and real processes where only those tell.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::process::{Child, Command, Stdio};

use chrono::{DateTime, Utc};

use super::pid_file::{PidFile, holds_only_a_pid};
use super::search::{BOOT_SLACK, REREAD_AFTER};
use super::*;
use crate::check::pattern::Pattern;
use crate::check::{Severity, worst};
use crate::fixtures::{Met, opens_a_fifo};
use crate::process_table::Process;

/// The watchdog's PID in worlds that are made by hand.
const ME: i32 = 500;

pub(super) fn process(pid: i32, parent: i32, command: &str) -> Process {
    Process {
        pid,
        parent,
        group: pid,
        state: ProcessState::Alive,
        start: u64::from(pid.unsigned_abs()) * 10,
        uid: Some(1000),
        command: command.as_bytes().to_vec(),
        ends: Box::default(),
        kernel: false,
    }
}

pub(super) fn now() -> Reading {
    Reading {
        boot_id: "this".into(),
        ..Reading::take()
    }
}

/// A temp directory, a PID file in it, and the rule that names it.
struct Place {
    dir: tempfile::TempDir,
    rule: Rule,
}

impl Place {
    fn new(content: &str) -> Self {
        let place = Self::without_file();
        std::fs::write(place.path(), content).unwrap();
        place
    }

    fn without_file() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rule = Rule {
            shown: "app.pid".to_owned(),
            pid_file: Some(dir.path().join("app.pid")),
            command_line: None,
            user: None,
        };
        Self { dir, rule }
    }

    fn matching(mut self, pattern: &str) -> Self {
        self.rule.command_line = Some(Pattern::new(pattern).unwrap());
        self
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("app.pid")
    }

    /// Makes the file too old to be read twice.
    fn aged(self, seconds: u64) -> Self {
        let file = OpenOptions::new().write(true).open(self.path()).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(seconds))
            .unwrap();
        self
    }
}

fn look_for(rule: &Rule, last_seen: &LastSeen, table: &ProcessTable) -> Seen {
    let target = Target {
        rule: Some(rule),
        ..Target::default()
    };
    look(&target, last_seen, table, &now(), &BTreeSet::new())
}

fn codes(seen: &Seen) -> Vec<&str> {
    seen.findings.iter().map(|finding| &*finding.code).collect()
}

fn pid(seen: &Seen) -> Option<i32> {
    match &seen.process_status {
        ProcessStatus::Running(running) => Some(running.main.pid),
        _ => None,
    }
}

fn pattern_rule(pattern: &str) -> Rule {
    Rule {
        shown: String::new(),
        pid_file: None,
        command_line: Some(Pattern::new(pattern).unwrap()),
        user: None,
    }
}

#[test]
fn f04_only_a_positive_decimal_integer_is_a_pid() {
    for good in [
        "123",
        " 123",
        "123\n",
        "\t123 \r\n",
        "123\nanything\nelse",
        "0123",
    ] {
        assert_eq!(parse_pid_file(good.as_bytes()), Ok(123), "{good:?}");
    }
    for bad in [
        "",
        "\n",
        "\n123",
        "hello",
        "0",
        "-1",
        "1",
        "+5",
        "123 junk",
        "\u{feff}123",
        "12.3",
        "0x7b",
        "１２３",
        "999999999999999999999999999999",
        "4294967299",
        "2147483648",
    ] {
        assert!(parse_pid_file(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert!(parse_pid_file(&[b'1'; 5000]).is_err());
    assert_eq!(parse_pid_file(format!("{:4096}", 123).as_bytes()), Ok(123));
    assert!(parse_pid_file(format!("{:4097}", 123).as_bytes()).is_err());
    assert!(parse_pid_file(b"123\0").is_err());
}

#[test]
fn only_a_file_of_one_line_is_a_mere_pid_file() {
    for (content, bare) in [
        ("", true),
        ("12\n", true),
        ("junk", true),
        ("12\n/data\n5432\n", false),
    ] {
        assert_eq!(
            holds_only_a_pid(&Place::new(content).path()),
            bare,
            "{content:?}"
        );
    }
    assert!(!holds_only_a_pid(Path::new("/dev/null")));
    assert!(!holds_only_a_pid(Path::new("/nonexistent")));
}

proptest::proptest! {
    #[test]
    fn f04_no_bytes_give_a_number_that_signals_everybody(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64),
    ) {
        if let Ok(pid) = parse_pid_file(&bytes) {
            proptest::prop_assert!(pid > 1);
        }
    }
}

#[test]
fn the_process_of_a_pid_file_is_found_with_what_is_needed_to_know_it_again() {
    let place = Place::new("600\n");
    let seen = look_for(
        &place.rule,
        &LastSeen::default(),
        &ProcessTable::of([process(600, 1, "app")], ME),
    );
    assert_eq!((codes(&seen), pid(&seen)), (vec![], Some(600)));
    assert_eq!(seen.last_seen.main.as_ref().unwrap().start, 6000);
    assert!(seen.last_seen.leads_group);
    assert_eq!(seen.last_seen.pid_file.as_ref().unwrap().named.pid, 600);
}

#[test]
fn f01_another_program_is_a_stranger() {
    let place = Place::new("600").matching("trader").aged(60);
    let table = ProcessTable::of([process(600, 1, "sshd: x")], ME);
    let seen = look_for(&place.rule, &LastSeen::default(), &table);
    assert_eq!(
        (codes(&seen), &seen.process_status),
        (vec![MISSING], &ProcessStatus::NotRunning)
    );
    let message = &seen.findings[0].message;
    assert!(message.contains("another program: `sshd: x`"), "{message}");
}

#[test]
fn f01_a_reused_pid_is_a_stranger() {
    let place = Place::new("600").aged(60);
    let first = look_for(
        &place.rule,
        &LastSeen::default(),
        &ProcessTable::of([process(600, 1, "app")], ME),
    );
    let stranger = Process {
        start: 7777,
        ..process(600, 1, "app")
    };
    let table = ProcessTable::of([stranger], ME);
    let seen = look_for(&place.rule, &first.last_seen, &table);
    assert_eq!(
        (codes(&seen), &seen.process_status),
        (vec![MISSING], &ProcessStatus::NotRunning)
    );
    assert_eq!(
        seen.findings[0].message,
        "PID file app.pid names PID 600, which another process has got since (it was reused)"
    );
    // and it stays one in the runs after
    let again = look_for(&place.rule, &seen.last_seen, &table);
    assert_eq!(again.process_status, ProcessStatus::NotRunning);
    // a file that was written anew names a new process
    std::fs::write(place.path(), "600 ").unwrap();
    assert_eq!(
        pid(&look_for(&place.rule, &again.last_seen, &table)),
        Some(600)
    );
}

#[test]
fn f02_a_file_from_before_the_boot_is_stale_unless_the_command_line_says_otherwise() {
    let table = || ProcessTable::of([process(600, 1, "app")], ME);
    let first = |place: &Place| {
        let mut last_seen = look_for(&place.rule, &LastSeen::default(), &table()).last_seen;
        if let Some(main) = &mut last_seen.main {
            main.boot_id = "earlier".into();
        }
        if let Some(mark) = &mut last_seen.pid_file {
            mark.named.boot_id = "earlier".into();
        }
        last_seen
    };
    let place = Place::new("600").aged(60);
    let seen = look_for(&place.rule, &first(&place), &table());
    assert_eq!(seen.process_status, ProcessStatus::NotRunning);
    assert_eq!(
        seen.findings[0].message,
        "PID file app.pid names PID 600 of before the last boot; another process has it now"
    );
    let place = Place::new("600").matching("^app").aged(60);
    assert_eq!(
        pid(&look_for(&place.rule, &first(&place), &table())),
        Some(600)
    );
    // never seen before, and older than the machine has been up
    let old = now().boot_ms / 1000 + 3600;
    let place = Place::new("600").aged(old);
    let seen = look_for(&place.rule, &LastSeen::default(), &table());
    assert_eq!(codes(&seen), [MISSING]);
    assert_eq!(
        seen.findings[0].message,
        "PID file app.pid is older than the last boot; PID 600 is another process"
    );
    let place = Place::new("600").matching("^app").aged(old);
    assert_eq!(
        pid(&look_for(&place.rule, &LastSeen::default(), &table())),
        Some(600)
    );
    // seen by an earlier run of this boot: the clock was set since
    let place = Place::new("600");
    let last_seen = look_for(&place.rule, &LastSeen::default(), &table()).last_seen;
    let place = place.aged(old);
    assert_eq!(pid(&look_for(&place.rule, &last_seen, &table())), Some(600));
}

#[test]
fn f01_a_file_is_not_read_again_while_nobody_touched_it_and_its_process_lives() {
    let look_after = |place: &Place, seconds: i64, last_seen: &LastSeen, pids: &[i32]| {
        let target = Target {
            rule: Some(&place.rule),
            ..Target::default()
        };
        let now = now();
        let now = Reading {
            wall: now.wall + chrono::TimeDelta::seconds(seconds),
            ..now
        };
        let table = ProcessTable::of(pids.iter().map(|&pid| process(pid, 1, "app")), ME);
        look(&target, last_seen, &table, &now, &BTreeSet::new())
    };
    // as if it had named another: what the mark says is seen by that
    let misled = |last_seen: &LastSeen| {
        let mut last_seen = last_seen.clone();
        last_seen.main = None;
        let named = &mut last_seen.pid_file.as_mut().unwrap().named;
        (named.pid, named.start) = (700, 7000);
        last_seen
    };
    let place = Place::new("600");
    let fresh = look_after(&place, 0, &LastSeen::default(), &[600, 700]).last_seen;
    assert_eq!(fresh.pid_file.as_ref().unwrap().changed, None);
    let seen = look_after(&place, 60, &misled(&fresh), &[600, 700]);
    assert_eq!(pid(&seen), Some(600), "it may have been changed at once");
    let settled = seen.last_seen;
    let seen = look_after(&place, 60, &misled(&settled), &[600, 700]);
    assert_eq!(pid(&seen), Some(700), "it was read again");
    assert_eq!(seen.last_seen.pid_file, misled(&settled).pid_file);
    // another process, another boot: it is asked again
    let seen = look_after(&place, 60, &misled(&settled), &[600]);
    assert_eq!(pid(&seen), Some(600));
    let mut reused = misled(&settled);
    reused.pid_file.as_mut().unwrap().named.start = 7001;
    assert_eq!(
        pid(&look_after(&place, 60, &reused, &[600, 700])),
        Some(600)
    );
    let mut earlier = misled(&settled);
    earlier.pid_file.as_mut().unwrap().named.boot_id = "earlier".into();
    let seen = look_after(&place, 60, &earlier, &[600, 700]);
    assert_eq!(seen.process_status, ProcessStatus::NotRunning);
    // a change that hides itself: the same size, and the time put back
    let modified = std::fs::metadata(place.path()).unwrap().modified().unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let changed = || PidFile::read(&place.path()).unwrap().unwrap();
    let myself = identity_of(std::process::id().cast_signed(), &now());
    let before = changed().mark(myself, &now());
    while PidFile::unchanged(&place.path(), settled.pid_file.as_ref().unwrap()).is_some() {
        assert!(std::time::Instant::now() < deadline);
        std::fs::write(place.path(), "700").unwrap();
        let file = OpenOptions::new().write(true).open(place.path()).unwrap();
        file.set_modified(modified).unwrap();
    }
    assert!(changed().is_same(&before));
    let mut mark = misled(&settled);
    mark.pid_file.as_mut().unwrap().named.pid = 600;
    mark.pid_file.as_mut().unwrap().named.start = 6000;
    assert_eq!(pid(&look_after(&place, 60, &mark, &[600, 700])), Some(700));
    std::fs::remove_file(place.path()).unwrap();
    assert_eq!(
        look_after(&place, 60, &settled, &[700]).process_status,
        ProcessStatus::NotRunning
    );
}

#[test]
fn f03_a_file_that_is_empty_at_this_instant_is_read_again() {
    let place = Place::new("");
    let path = place.path();
    let writer = std::thread::spawn(move || {
        // the first reading finds it empty: this is written while the second one is awaited
        std::thread::sleep(REREAD_AFTER / 4);
        std::fs::write(path, "600").unwrap();
    });
    let seen = look_for(
        &place.rule,
        &LastSeen::default(),
        &ProcessTable::of([process(600, 1, "app")], ME),
    );
    writer.join().unwrap();
    assert_eq!(pid(&seen), Some(600));
    let place = Place::new("");
    let seen = look_for(&place.rule, &LastSeen::default(), &ProcessTable::of([], ME));
    assert_eq!(codes(&seen), [MISSING]);
    assert_eq!(seen.findings[0].message, "PID file app.pid is empty");
}

#[test]
fn what_is_swapped_for_a_fifo_is_never_opened() {
    let place = Place::new("4242\n");
    let met = |is_file| if is_file { Met::File } else { Met::Fifo };
    let read = |path: &Path| met(PidFile::read(path).unwrap().unwrap().pid.is_some());
    assert!(!opens_a_fifo(&place.path(), read));
    let holds = |path: &Path| met(holds_only_a_pid(path));
    assert!(!opens_a_fifo(&place.path(), holds));
}

#[test]
fn f05_what_is_no_file_names_nothing_and_blocks_nobody() {
    let place = Place::without_file();
    let check = |why: &str| {
        let seen = look_for(&place.rule, &LastSeen::default(), &ProcessTable::of([], ME));
        assert_eq!(codes(&seen), [MISSING]);
        assert!(
            seen.findings[0].message.contains(why),
            "{}",
            seen.findings[0].message
        );
    };
    check("there is no PID file app.pid");
    nix::unistd::mkfifo(&place.path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    check("is not a regular file");
    std::fs::remove_file(place.path()).unwrap();
    std::fs::create_dir(place.path()).unwrap();
    check("is not a regular file");
    std::fs::remove_dir(place.path()).unwrap();
    std::os::unix::fs::symlink("/dev/zero", place.path()).unwrap();
    check("is not a regular file");
    std::fs::remove_file(place.path()).unwrap();
    std::os::unix::fs::symlink("nowhere", place.path()).unwrap();
    check("there is no PID file");
    std::fs::remove_file(place.path()).unwrap();
    std::os::unix::fs::symlink("app.pid", place.path()).unwrap();
    check("circle of symbolic links");
    std::fs::remove_file(place.path()).unwrap();
    File::create(place.path())
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    check("longer than 4 KiB");
}

#[test]
fn a_file_that_cannot_be_read_is_unknown_and_not_missing() {
    let mut place = Place::without_file();
    // also root cannot look at a name that is too long
    place.rule.pid_file = Some(place.dir.path().join("x".repeat(300)));
    let seen = look_for(&place.rule, &LastSeen::default(), &ProcessTable::of([], ME));
    assert_eq!(
        (codes(&seen), &seen.process_status),
        (vec![UNREADABLE], &ProcessStatus::Unknown)
    );
    // what it names is not known either where the process is found otherwise
    let place = place.matching("^app");
    let table = ProcessTable::of([process(600, 1, "app")], ME);
    let seen = look_for(&place.rule, &LastSeen::default(), &table);
    assert_eq!((codes(&seen), pid(&seen)), (vec![UNREADABLE], Some(600)));
}

#[test]
fn f07_a_zombie_is_told_as_one() {
    let zombie = Process {
        state: ProcessState::Zombie,
        command: Vec::new(),
        ..process(600, 1, "")
    };
    let place = Place::new("600").aged(60);
    let table = ProcessTable::of([zombie], ME);
    let seen = look_for(&place.rule, &LastSeen::default(), &table);
    assert_eq!(
        (codes(&seen), &seen.process_status),
        (vec![ZOMBIE], &ProcessStatus::NotRunning)
    );
    let seen = look_for(&place.matching("app").rule, &LastSeen::default(), &table);
    assert_eq!(codes(&seen), [ZOMBIE]);
}

#[test]
fn f08_stopped_is_critical_and_traced_is_a_warning() {
    for (state, severity, said) in [
        (
            ProcessState::Stopped,
            Severity::Critical,
            "PID 600 is stopped by a signal (state T)",
        ),
        (
            ProcessState::Traced,
            Severity::Warning,
            "PID 600 is held by a debugger (state t)",
        ),
    ] {
        let table = ProcessTable::of(
            [Process {
                state,
                ..process(600, 1, "app")
            }],
            ME,
        );
        let seen = look_for(&Place::new("600").rule, &LastSeen::default(), &table);
        assert_eq!(
            (codes(&seen), worst(&seen.findings)),
            (vec![STOPPED], Some(severity))
        );
        assert_eq!(seen.findings[0].message, said);
        assert_eq!(pid(&seen), Some(600));
    }
    // a wrapper that lives does not hide that the program below it is frozen
    let frozen = Process {
        state: ProcessState::Stopped,
        ..process(601, 600, "python app")
    };
    let table = ProcessTable::of([process(600, 1, "sh -c python app"), frozen], ME);
    let seen = look_for(&pattern_rule("app"), &LastSeen::default(), &table);
    assert_eq!((codes(&seen), pid(&seen)), (vec![STOPPED], Some(600)));
}

#[test]
fn f09_the_watchdog_and_what_started_it_never_match() {
    let table = ProcessTable::of(
        [
            process(400, 1, "cron"),
            process(450, 400, "sh -c watchdog check trader"),
            process(ME, 450, "watchdog check trader"),
        ],
        ME,
    );
    let seen = look_for(&pattern_rule("trader"), &LastSeen::default(), &table);
    assert_eq!(codes(&seen), [MISSING]);
    let kernel = Process {
        kernel: true,
        ..process(30, 2, "trader")
    };
    let zombie = Process {
        state: ProcessState::Zombie,
        ..process(700, 1, "trader")
    };
    let table = ProcessTable::of([process(ME, 1, "watchdog"), kernel, zombie], ME);
    assert_eq!(
        codes(&look_for(
            &pattern_rule("trader"),
            &LastSeen::default(),
            &table
        )),
        [MISSING]
    );
}

#[test]
fn a_user_narrows_what_matches() {
    let table = ProcessTable::of(
        [
            process(600, 1, "trader"),
            Process {
                uid: Some(7),
                ..process(700, 1, "trader")
            },
        ],
        ME,
    );
    let mut rule = pattern_rule("trader");
    rule.user = Some("7".to_owned());
    let seen = look_for(&rule, &LastSeen::default(), &table);
    assert_eq!((codes(&seen), pid(&seen)), (vec![], Some(700)));
    rule.user = Some("no-such-user-here".to_owned());
    let seen = look_for(&rule, &LastSeen::default(), &table);
    assert_eq!(
        (codes(&seen), &seen.process_status),
        (vec![UNREADABLE], &ProcessStatus::Unknown)
    );
    // a PID file may only name a process of that user
    let mut place = Place::new("600").aged(60);
    place.rule.user = Some("7".to_owned());
    let seen = look_for(&place.rule, &LastSeen::default(), &table);
    assert_eq!(codes(&seen), [MISSING]);
}

#[test]
fn real_processes_are_asked_whose_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "echo; read line"])
        .arg(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // it has become its program once it says something
    let mut said = child.stdout.take().unwrap();
    said.read_exact(&mut [0]).unwrap();
    let it = Real(child);
    let by_file = Place::new(&it.pid().to_string()).aged(60);
    let lost = Place::without_file();
    let now = now();
    let last_seen = LastSeen {
        main: Some(identity_of(it.pid(), &now)),
        ..LastSeen::default()
    };
    let by_line = pattern_rule(dir.path().to_str().unwrap());
    let me = nix::unistd::geteuid().as_raw();
    for (table, rules) in [
        (ProcessTable::on_demand(), &[&by_file.rule, &lost.rule][..]),
        (
            ProcessTable::snapshot(),
            &[&by_line, &by_file.rule, &lost.rule],
        ),
    ] {
        for rule in rules {
            for (user, found) in [(None, true), (Some(me), true), (Some(me + 1), false)] {
                let rule = Rule {
                    user: user.map(|user| user.to_string()),
                    ..(*rule).clone()
                };
                let seen = look_for(&rule, &last_seen, &table);
                // where its file is lost, it is remembered
                let expected = found.then_some(it.pid());
                assert_eq!(pid(&seen), expected, "{rule:?} {:?}", seen.findings);
                let mut messages = seen.findings.iter().map(|finding| &finding.message);
                let whose = messages.find(|text| text.contains("a process of user "));
                let is_named = rule.pid_file == by_file.rule.pid_file;
                assert_eq!(whose.is_some(), is_named && !found, "{rule:?}");
                assert!(whose.is_none_or(|text| !text.contains('?')), "{whose:?}");
            }
        }
    }
}

#[test]
fn f10_arguments_are_bytes() {
    let mut long = process(600, 1, "");
    long.command = [&b"app\xff\xfe \x00"[..], &vec![b'x'; 200 << 10], b" end"].concat();
    let table = ProcessTable::of([long, process(601, 1, "")], ME);
    assert_eq!(
        pid(&look_for(
            &pattern_rule(r"^app.*end$"),
            &LastSeen::default(),
            &table
        )),
        Some(600)
    );
}

#[test]
fn f13_what_its_file_does_not_name_runs_all_the_same() {
    for place in [
        Place::without_file().matching("app"),
        Place::new("999").matching("app").aged(60),
        Place::new("junk").matching("app").aged(60),
    ] {
        let table = ProcessTable::of([process(600, 1, "app")], ME);
        let seen = look_for(&place.rule, &LastSeen::default(), &table);
        assert_eq!(
            (codes(&seen), pid(&seen)),
            (vec![PID_FILE_STALE], Some(600))
        );
    }
}

#[test]
fn f13_a_lost_pid_file_ends_no_process() {
    let place = Place::new("600");
    let table = ProcessTable::of([process(600, 1, "app")], ME);
    let last_seen = look_for(&place.rule, &LastSeen::default(), &table).last_seen;
    std::fs::remove_file(place.path()).unwrap();
    let seen = look_for(&place.rule, &last_seen, &table);
    assert_eq!(
        (codes(&seen), pid(&seen)),
        (vec![PID_FILE_STALE], Some(600))
    );
    let other = ProcessTable::of(
        [Process {
            start: 1,
            ..process(600, 1, "app")
        }],
        ME,
    );
    assert_eq!(codes(&look_for(&place.rule, &last_seen, &other)), [MISSING]);
}

#[test]
fn a_family_is_one_and_strangers_are_too_many() {
    let family = [
        process(600, 1, "app master"),
        process(601, 600, "app worker"),
        process(602, 600, "sh"),
        process(603, 602, "app helper"),
    ];
    let seen = look_for(
        &pattern_rule("^app"),
        &LastSeen::default(),
        &ProcessTable::of(family.clone(), ME),
    );
    assert_eq!((codes(&seen), pid(&seen)), (vec![], Some(600)));
    let ProcessStatus::Running(running) = seen.process_status else {
        panic!("not running");
    };
    assert_eq!(
        running.all.iter().map(|one| one.pid).collect::<Vec<_>>(),
        [600, 601, 603]
    );
    let stranger = [family.to_vec(), vec![process(700, 1, "app by hand")]].concat();
    for rule in [
        pattern_rule("^app"),
        Place::new("600").matching("^app").rule,
    ] {
        let seen = look_for(
            &rule,
            &LastSeen::default(),
            &ProcessTable::of(stranger.clone(), ME),
        );
        assert_eq!(pid(&seen), Some(600));
        assert!(codes(&seen).contains(&TOO_MANY));
    }
    let many = seen_with_both(stranger);
    assert_eq!(
        many,
        "2 unrelated processes match the command line: PID 600 and 700"
    );
}

fn seen_with_both(processes: Vec<Process>) -> String {
    look_for(
        &pattern_rule("^app"),
        &LastSeen::default(),
        &ProcessTable::of(processes, ME),
    )
    .findings[0]
        .message
        .clone()
}

/// A real process, ended when it is dropped.
struct Real(Child);

impl Real {
    fn sleeping(directory: &Path) -> Self {
        Self(
            Command::new("sleep")
                .arg("61.5")
                .current_dir(directory)
                .spawn()
                .unwrap(),
        )
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_the_watchdog_started_is_known_again_without_a_state() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let (it, elsewhere) = (Real::sleeping(dir.path()), Real::sleeping(other.path()));
    let command = ["sleep".to_owned(), "61.5".to_owned()];
    let target = Target {
        rule: None,
        started: Some(Started {
            command: &command,
            working_dir: dir.path(),
            user: None,
        }),
        has_other_checks: false,
        may_have_started: false,
        by_command: false,
        ..Target::default()
    };
    let now = Reading::take();
    // the child may be seen before its exec
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let seen = loop {
        let seen = look(
            &target,
            &LastSeen::default(),
            &ProcessTable::full_scan(),
            &now,
            &BTreeSet::new(),
        );
        if pid(&seen).is_some() || std::time::Instant::now() > deadline {
            break seen;
        }
    };
    assert_eq!(pid(&seen), Some(it.pid()));
    // what another service is known to have is not taken for it
    let taken = BTreeSet::from([seen.last_seen.main.clone().unwrap()]);
    let none = look(
        &target,
        &LastSeen::default(),
        &ProcessTable::full_scan(),
        &now,
        &taken,
    );
    assert_eq!(codes(&none), [MISSING]);
    // what was seen and has ended is not looked for: its orphans are not the service
    let mut gone = seen.last_seen.clone();
    gone.main.as_mut().unwrap().start += 1;
    let ended = look(
        &target,
        &gone,
        &ProcessTable::full_scan(),
        &now,
        &BTreeSet::new(),
    );
    assert_eq!(codes(&ended), [MISSING]);
    drop(elsewhere);
}

#[test]
fn nothing_is_started_by_mistake_where_logs_show_a_service() {
    let command = ["no-such-program-runs".to_owned()];
    let mut target = Target {
        rule: None,
        started: Some(Started {
            command: &command,
            working_dir: Path::new("/"),
            user: None,
        }),
        has_other_checks: true,
        may_have_started: false,
        by_command: false,
        ..Target::default()
    };
    let table = ProcessTable::of([], ME);
    let seen = look(
        &target,
        &LastSeen::default(),
        &table,
        &now(),
        &BTreeSet::new(),
    );
    assert_eq!(
        (codes(&seen), &seen.process_status),
        (vec![], &ProcessStatus::NotApplicable)
    );
    target.has_other_checks = false;
    let seen = look(
        &target,
        &LastSeen::default(),
        &table,
        &now(),
        &BTreeSet::new(),
    );
    assert_eq!(
        (codes(&seen), &seen.process_status),
        (vec![MISSING], &ProcessStatus::NotRunning)
    );
}

#[test]
fn f02_where_the_boot_cannot_be_told_nobody_is_dead() {
    let rule = Rule {
        shown: String::new(),
        pid_file: None,
        command_line: Some(Pattern::new("app").unwrap()),
        user: None,
    };
    let target = Target {
        rule: Some(&rule),
        ..Target::default()
    };
    let unread = Reading {
        boot_id: crate::clock::UNREAD.into(),
        ..now()
    };
    let table = ProcessTable::of([], ME);
    let seen = look(
        &target,
        &LastSeen::default(),
        &table,
        &unread,
        &BTreeSet::new(),
    );
    assert_eq!(codes(&seen), [UNREADABLE]);
    assert_eq!(seen.process_status, ProcessStatus::Unknown);
}

fn identity_of(pid: i32, now: &Reading) -> Identity {
    Identity {
        pid,
        start: process_table::stat(pid).unwrap().start,
        boot_id: now.boot_id.clone(),
    }
}

#[test]
fn f01_an_identity_lives_as_long_as_its_process_and_no_longer() {
    let now = now();
    let dir = tempfile::tempdir().unwrap();
    let mut it = Real::sleeping(dir.path());
    let identity = identity_of(it.pid(), &now);
    assert!(identity.lives(&now));
    let another_start = Identity {
        start: identity.start + 1,
        ..identity.clone()
    };
    let another_boot = Identity {
        boot_id: "former".into(),
        ..identity.clone()
    };
    assert!(!another_start.lives(&now) && !another_boot.lives(&now));
    it.0.kill().unwrap();
    // a zombie until it is waited for, and then nothing
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while process_table::stat(it.pid()).unwrap().state != ProcessState::Zombie {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    assert!(!identity.lives(&now));
    assert!(look_at(it.pid(), &LastSeen::default(), &now).is_none());
    it.0.wait().unwrap();
    assert!(!identity.lives(&now));
}

#[test]
fn what_another_keeper_names_is_looked_at() {
    let now = now();
    let dir = tempfile::tempdir().unwrap();
    let it = Real::sleeping(dir.path());
    let seen = look_at(it.pid(), &LastSeen::default(), &now).unwrap();
    assert_eq!(pid(&seen), Some(it.pid()));
    assert_eq!(seen.last_seen.main, Some(identity_of(it.pid(), &now)));
}

#[test]
fn f25_what_a_dead_process_left_in_its_group_is_known_by_proof_alone() {
    use std::io::BufRead;
    use std::os::unix::process::CommandExt;
    let mut leader = Command::new("sh")
        .args(["-c", "sleep 61.7 & echo $!; read line"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufReader::new(leader.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let orphan: i32 = line.trim().parse().unwrap();
    let before = Reading::take();
    let now = Reading {
        boot_id: "this".into(),
        ..before
    };
    let last_seen = LastSeen {
        main: Some(identity_of(i32::try_from(leader.id()).unwrap(), &now)),
        leads_group: true,
        seen_ms: now.boot_ms,
        pid_file: None,
        started: None,
        family: Family::default(),
        ..LastSeen::default()
    };
    let itself = Running::just_started(last_seen.main.clone().unwrap());
    let while_it_lives = last_seen.leftovers(&now, Some(&itself)).unwrap();
    let as_a_stranger = last_seen.leftovers(&now, None).unwrap();
    leader.kill().unwrap();
    leader.wait().unwrap();
    let left = last_seen.leftovers(&now, None).unwrap();
    let orphans = [identity_of(orphan, &now)];
    let in_ms = |ticks: u64| ticks * 1000 / process_table::ticks_per_second();
    let others = [
        // no group of its own, another boot, or no member that is older than the last sight of the leader
        LastSeen {
            leads_group: false,
            ..last_seen.clone()
        },
        LastSeen {
            main: last_seen.main.clone().map(|main| Identity {
                boot_id: "former".into(),
                ..main
            }),
            ..last_seen.clone()
        },
        LastSeen {
            seen_ms: 0,
            ..last_seen.clone()
        },
        LastSeen {
            seen_ms: in_ms(last_seen.main.as_ref().unwrap().start - 1),
            ..last_seen.clone()
        },
        LastSeen::default(),
    ];
    let seen_as_it_began = LastSeen {
        seen_ms: in_ms(orphans[0].start),
        ..last_seen.clone()
    };
    let left_then = seen_as_it_began.leftovers(&now, None).unwrap();
    let none: Vec<_> = others
        .iter()
        .map(|last_seen| last_seen.leftovers(&now, None).unwrap())
        .collect();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(orphan),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    assert_eq!(while_it_lives.len(), 2);
    assert_eq!(as_a_stranger, []);
    assert_eq!(left, orphans);
    assert_eq!(left_then, orphans);
    assert!(none.iter().all(Vec::is_empty), "{none:?}");
    // a group that somebody else leads now, by the same number
    let me = i32::try_from(std::process::id()).unwrap();
    let group = nix::unistd::getpgrp().as_raw();
    let reused = LastSeen {
        main: Some(Identity {
            pid: group,
            start: 1,
            boot_id: now.boot_id.clone(),
        }),
        ..last_seen
    };
    let leader_is_there = process_table::stat(group).is_ok();
    assert!(
        !leader_is_there || reused.leftovers(&now, None).unwrap().is_empty(),
        "{me}"
    );
}

#[test]
fn what_runs_already_is_found_by_its_arguments_directory_and_user() {
    let dir = tempfile::tempdir().unwrap();
    let it = Real::sleeping(dir.path());
    let now = Reading::take();
    let command = ["sleep".to_owned(), "61.5".to_owned()];
    let started = Started {
        command: &command,
        working_dir: dir.path(),
        user: None,
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let found = loop {
        let found = is_being_run(started, &now).unwrap();
        if found.is_some() || std::time::Instant::now() > deadline {
            break found;
        }
    };
    assert_eq!(found, Some(it.pid()));
    let others = ["sleep".to_owned(), "61.4".to_owned()];
    let none = Started {
        command: &others,
        ..started
    };
    assert_eq!(is_being_run(none, &now), Ok(None));
    let gone = dir.path().join("gone");
    let nowhere = Started {
        working_dir: &gone,
        ..started
    };
    assert_eq!(is_being_run(nowhere, &now), Ok(None));
    // what cannot be looked at may hide one
    std::fs::write(dir.path().join("file"), "").unwrap();
    let file = dir.path().join("file/below");
    let unseen = Started {
        working_dir: &file,
        ..started
    };
    assert_eq!(
        is_being_run(unseen, &now).unwrap_err(),
        format!(
            "its working directory {} cannot be looked at: Not a directory (os error 20)",
            file.display()
        )
    );
    // nor is it known what may stand before a script that cannot be read
    std::os::unix::fs::symlink("circle", dir.path().join("circle")).unwrap();
    let circle = ["./circle".to_owned()];
    let unread = Started {
        command: &circle,
        ..started
    };
    assert_eq!(
        is_being_run(unread, &now).unwrap_err(),
        "its program ./circle cannot be looked at: Too many levels of symbolic links (os error 40)"
    );
    // its PID file is still to come
    let place = Place::without_file();
    let target = Target {
        rule: Some(&place.rule),
        started: Some(started),
        may_have_started: true,
        ..Target::default()
    };
    let table = ProcessTable::snapshot();
    let seen = look(
        &target,
        &LastSeen::default(),
        &table,
        &now,
        &BTreeSet::new(),
    );
    assert_eq!(
        seen.findings[0].message,
        format!(
            "there is no PID file app.pid, but PID {} runs, which a run that was cut short has started",
            it.pid()
        )
    );
    let stranger = Started {
        user: Some("no-such-user"),
        ..started
    };
    assert!(is_being_run(stranger, &now).is_err());
}

#[test]
fn all_processes_are_looked_at_only_where_it_must_be() {
    let command = ["a".to_owned()];
    let started = Some(Started {
        command: &command,
        working_dir: Path::new("/"),
        user: None,
    });
    let (by_file, by_line) = (Place::without_file().rule, pattern_rule("a"));
    let now = now();
    let known = |boot_id: &str| LastSeen {
        main: Some(Identity {
            pid: 100,
            start: 1,
            boot_id: boot_id.into(),
        }),
        ..LastSeen::default()
    };
    // by which rule, whether it is started, whether a run was cut short, what is remembered
    for (rule, started, may_have_started, last_seen, needed) in [
        (None, None, false, LastSeen::default(), false),
        (Some(&by_file), None, false, LastSeen::default(), false),
        (Some(&by_file), started, false, LastSeen::default(), false),
        (Some(&by_file), started, true, LastSeen::default(), true),
        (Some(&by_file), None, true, LastSeen::default(), false),
        (Some(&by_line), None, false, known("this"), true),
        (None, started, false, LastSeen::default(), true),
        (None, started, false, known("former"), true),
        (None, started, false, known("this"), false),
        (None, started, true, known("this"), true),
    ] {
        let target = Target {
            rule,
            started,
            has_other_checks: false,
            may_have_started,
            by_command: false,
            ..Target::default()
        };
        assert_eq!(
            needs_scan(&target, &last_seen, &now),
            needed,
            "{target:?} {last_seen:?}"
        );
        assert_eq!(target.is_known(), rule.is_some() || started.is_some());
    }
    assert!(!Target::default().is_known());
}

#[test]
fn f07_what_was_started_and_not_collected_is_a_zombie() {
    let command = ["app".to_owned()];
    let target = Target {
        started: Some(Started {
            command: &command,
            working_dir: Path::new("/"),
            user: None,
        }),
        ..Target::default()
    };
    let mut ended = process(100, 1, "");
    ended.state = ProcessState::Zombie;
    let last_seen = |start| LastSeen {
        main: Some(Identity {
            pid: 100,
            start,
            boot_id: "this".into(),
        }),
        ..LastSeen::default()
    };
    let judged = |start| {
        let table = ProcessTable::of([ended.clone()], ME);
        let seen = look(&target, &last_seen(start), &table, &now(), &BTreeSet::new());
        codes(&seen).join(" ")
    };
    assert_eq!(judged(ended.start), ZOMBIE);
    assert_eq!(judged(ended.start + 1), MISSING, "a stranger's zombie");
}

#[test]
fn a_lost_pid_file_ends_no_process_of_the_right_user_only() {
    let place = Place::without_file();
    let table = ProcessTable::of([process(100, 1, "app")], ME);
    let last_seen = LastSeen {
        main: Some(Identity {
            pid: 100,
            start: 1000,
            boot_id: "this".into(),
        }),
        ..LastSeen::default()
    };
    for (user, found) in [("1000", Some(100)), ("1001", None)] {
        let rule = Rule {
            user: Some(user.to_owned()),
            ..place.rule.clone()
        };
        assert_eq!(pid(&look_for(&rule, &last_seen, &table)), found, "{user}");
    }
}

#[test]
fn of_too_many_processes_ten_are_named() {
    for (count, ending) in [(11, "111"), (12, "1 more"), (14, "3 more")] {
        let table = ProcessTable::of(
            (0..count).map(|n| process(101 + n, 1, &format!("app {n}"))),
            ME,
        );
        let seen = look_for(&pattern_rule("^app"), &LastSeen::default(), &table);
        let message = &seen.findings[0].message;
        assert!(message.ends_with(ending), "{message}");
        assert!(
            message.starts_with(&format!("{count} unrelated processes")),
            "{message}"
        );
    }
}

#[test]
fn f01_what_is_unchanged_is_the_same_process() {
    let place = Place::new("600").aged(60);
    let table = ProcessTable::of([process(600, 1, "app")], ME);
    let first = look_for(&place.rule, &LastSeen::default(), &table);
    let again = look_for(&place.rule, &first.last_seen, &table);
    assert_eq!((codes(&again), pid(&again)), (vec![], Some(600)));
}

#[test]
fn f02_a_file_is_held_against_the_boot_with_care() {
    let table = ProcessTable::of([process(600, 1, "app")], ME);
    let up = now().boot_ms / 1000;
    let slack = BOOT_SLACK.as_secs();
    let judged =
        |place: &Place| codes(&look_for(&place.rule, &LastSeen::default(), &table)).join(" ");
    // the clock of a boot is not so exact
    assert_eq!(judged(&Place::new("600").aged(up + slack / 2)), "");
    assert_eq!(
        judged(&Place::new("600").aged(up + slack * 2 + 60)),
        MISSING
    );
    // its command line says more than the time of its file
    let named = Place::new("600").matching("^app").aged(up + 3600);
    assert_eq!(judged(&named), "");
    // what a boot empties is of this boot, whatever its time
    let shm = Path::new("/dev/shm");
    let Ok(dir) = tempfile::tempdir_in(shm) else {
        return;
    };
    let mut place = Place::new("600");
    std::fs::write(dir.path().join("app.pid"), "600").unwrap();
    place.dir = dir;
    place.rule.pid_file = Some(place.path());
    let file = PidFile::read(&place.path()).unwrap().unwrap();
    let in_memory =
        nix::sys::statfs::statfs(shm).unwrap().filesystem_type() == nix::sys::statfs::TMPFS_MAGIC;
    assert_eq!(file.is_in_memory(), in_memory);
    assert_eq!(judged(&place.aged(up + 3600)).is_empty(), in_memory);
}

#[test]
fn a_file_of_any_time_is_held_against_the_boot() {
    // there, a file can have any time; on disks the furthest that they can hold
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    let mut place = Place::new("600");
    std::fs::write(dir.path().join("app.pid"), "600").unwrap();
    place.dir = dir;
    place.rule.pid_file = Some(place.path());
    let file = OpenOptions::new().write(true).open(place.path()).unwrap();
    let epoch = std::time::SystemTime::UNIX_EPOCH;
    let far = Duration::from_secs(9_000_000_000_000);
    let last = Duration::from_secs(DateTime::<Utc>::MAX_UTC.timestamp().unsigned_abs());
    for time in [epoch - far, epoch, epoch + last, epoch + far] {
        file.set_modified(time).unwrap();
        for (pid, found) in [(600, true), (601, false)] {
            let table = ProcessTable::of([process(pid, 1, "app")], ME);
            let seen = look_for(&place.rule, &LastSeen::default(), &table);
            assert_eq!(codes(&seen).is_empty(), found, "{time:?}");
        }
    }
}

#[test]
fn a_parent_and_its_only_child_are_one_whichever_the_file_names() {
    let two = || ProcessTable::of([process(600, 1, "app"), process(601, 600, "app")], ME);
    for (named, alone) in [("600", true), ("601", true), ("700", false)] {
        let place = Place::new(named).matching("^app").aged(60);
        let mut all = vec![process(700, 1, "app by hand")];
        let table = if alone {
            two()
        } else {
            all.extend([process(600, 1, "app"), process(601, 600, "app")]);
            ProcessTable::of(all, ME)
        };
        let seen = look_for(&place.rule, &LastSeen::default(), &table);
        assert_eq!(pid(&seen).unwrap().to_string(), named);
        assert_eq!(codes(&seen).is_empty(), alone, "{named}");
    }
}

#[test]
fn where_processes_could_not_be_read_nobody_is_missing() {
    let why = "/proc/7 cannot be read: Too many open files (os error 24)";
    let table = || ProcessTable::of([], ME).with_gap(why.to_owned());
    let started = Target {
        started: Some(Started {
            command: &["x".to_owned()],
            working_dir: Path::new("/"),
            user: None,
        }),
        ..Target::default()
    };
    for seen in [
        look_for(&pattern_rule("app"), &LastSeen::default(), &table()),
        look(
            &started,
            &LastSeen::default(),
            &table(),
            &now(),
            &BTreeSet::new(),
        ),
    ] {
        assert_eq!(
            (codes(&seen), &seen.process_status),
            (vec![UNREADABLE], &ProcessStatus::Unknown)
        );
        assert_eq!(
            seen.findings[0].message,
            format!("no process was found, but {why}")
        );
    }
}

#[test]
fn of_a_parent_and_its_children_of_the_same_tick_the_parent_is_the_main_one() {
    // numbers begin anew when they have run out
    let at_once = |pid, parent| Process {
        start: 5000,
        ..process(pid, parent, "app")
    };
    let all = [at_once(700, 1), at_once(600, 700), at_once(550, 600)];
    for count in 1..=all.len() {
        let table = ProcessTable::of(all[..count].to_vec(), ME);
        let seen = look_for(&pattern_rule("^app"), &LastSeen::default(), &table);
        assert_eq!((codes(&seen), pid(&seen)), (vec![], Some(700)), "{count}");
    }
}

#[test]
fn a_command_line_that_cannot_be_searched_for_is_unknown() {
    let rule = Rule {
        shown: String::new(),
        pid_file: None,
        command_line: Some(crate::check::pattern::broken()),
        user: None,
    };
    let table = ProcessTable::of([process(4242, 1, "app")], ME);
    let seen = look_for(&rule, &LastSeen::default(), &table);
    assert_eq!(seen.process_status, ProcessStatus::Unknown);
    assert_eq!(worst(&seen.findings), Some(Severity::Unknown));
}
