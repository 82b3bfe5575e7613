use super::*;
use std::fs::{File, OpenOptions};
use std::process::{Child, Command};

use crate::check::worst;

/// The watchdog's PID in worlds that are made by hand.
const ME: i32 = 500;

fn process(pid: i32, parent: i32, command: &str) -> Process {
    Process {
        pid,
        parent,
        group: pid,
        state: State::Alive,
        start: u64::from(pid.unsigned_abs()) * 10,
        uid: Some(1000),
        command: command.as_bytes().to_vec(),
        kernel: false,
    }
}

fn now() -> Reading {
    Reading {
        boot_id: "this".to_owned(),
        ..Reading::take()
    }
}

/// A temp folder, a PID file in it, and the rule that names it.
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

fn look_for(rule: &Rule, memo: &Memo, world: &World) -> Seen {
    let target = Target {
        rule: Some(rule),
        ..Target::default()
    };
    look(&target, memo, world, &now(), &BTreeSet::new())
}

fn codes(seen: &Seen) -> Vec<&str> {
    seen.findings.iter().map(|finding| &*finding.code).collect()
}

fn pid(seen: &Seen) -> Option<i32> {
    match &seen.presence {
        Presence::Running(running) => Some(running.main.pid),
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
        &Memo::default(),
        &World::of([process(600, 1, "app")], ME),
    );
    assert_eq!((codes(&seen), pid(&seen)), (vec![], Some(600)));
    assert_eq!(seen.memo.main.as_ref().unwrap().start, 6000);
    assert!(seen.memo.leads_group);
    assert_eq!(seen.memo.pid_file.as_ref().unwrap().named.pid, 600);
}

#[test]
fn f01_another_program_is_a_stranger() {
    let place = Place::new("600").matching("trader").aged(60);
    let world = World::of([process(600, 1, "sshd: x")], ME);
    let seen = look_for(&place.rule, &Memo::default(), &world);
    assert_eq!(
        (codes(&seen), &seen.presence),
        (vec![MISSING], &Presence::Absent)
    );
    let message = &seen.findings[0].message;
    assert!(message.contains("another program: `sshd: x`"), "{message}");
}

#[test]
fn f01_a_reused_pid_is_a_stranger() {
    let place = Place::new("600").aged(60);
    let first = look_for(
        &place.rule,
        &Memo::default(),
        &World::of([process(600, 1, "app")], ME),
    );
    let stranger = Process {
        start: 7777,
        ..process(600, 1, "app")
    };
    let world = World::of([stranger], ME);
    let seen = look_for(&place.rule, &first.memo, &world);
    assert_eq!(
        (codes(&seen), &seen.presence),
        (vec![MISSING], &Presence::Absent)
    );
    // and it stays one in the runs after
    let again = look_for(&place.rule, &seen.memo, &world);
    assert_eq!(again.presence, Presence::Absent);
    // a file that was written anew names a new process
    std::fs::write(place.path(), "600 ").unwrap();
    assert_eq!(pid(&look_for(&place.rule, &again.memo, &world)), Some(600));
}

#[test]
fn f02_a_file_from_before_the_boot_is_stale_unless_the_command_line_says_otherwise() {
    let world = || World::of([process(600, 1, "app")], ME);
    let first = |place: &Place| {
        let mut memo = look_for(&place.rule, &Memo::default(), &world()).memo;
        if let Some(main) = &mut memo.main {
            main.boot_id = "earlier".to_owned();
        }
        if let Some(mark) = &mut memo.pid_file {
            mark.named.boot_id = "earlier".to_owned();
        }
        memo
    };
    let place = Place::new("600").aged(60);
    assert_eq!(
        look_for(&place.rule, &first(&place), &world()).presence,
        Presence::Absent
    );
    let place = Place::new("600").matching("^app").aged(60);
    assert_eq!(
        pid(&look_for(&place.rule, &first(&place), &world())),
        Some(600)
    );
    // never seen before, and older than the machine has been up
    let old = now().boot_ms / 1000 + 3600;
    let place = Place::new("600").aged(old);
    let seen = look_for(&place.rule, &Memo::default(), &world());
    assert_eq!(codes(&seen), [MISSING]);
    assert!(
        seen.findings[0]
            .message
            .contains("older than the last boot")
    );
    let place = Place::new("600").matching("^app").aged(old);
    assert_eq!(
        pid(&look_for(&place.rule, &Memo::default(), &world())),
        Some(600)
    );
    // seen by an earlier run of this boot: the clock was set since
    let place = Place::new("600");
    let memo = look_for(&place.rule, &Memo::default(), &world()).memo;
    let place = place.aged(old);
    assert_eq!(pid(&look_for(&place.rule, &memo, &world())), Some(600));
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
        &Memo::default(),
        &World::of([process(600, 1, "app")], ME),
    );
    writer.join().unwrap();
    assert_eq!(pid(&seen), Some(600));
    let place = Place::new("");
    let seen = look_for(&place.rule, &Memo::default(), &World::of([], ME));
    assert_eq!(codes(&seen), [MISSING]);
    assert_eq!(seen.findings[0].message, "PID file app.pid is empty");
}

#[test]
fn f05_what_is_no_file_names_nothing_and_blocks_nobody() {
    let place = Place::without_file();
    let check = |why: &str| {
        let seen = look_for(&place.rule, &Memo::default(), &World::of([], ME));
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
    let seen = look_for(&place.rule, &Memo::default(), &World::of([], ME));
    assert_eq!(
        (codes(&seen), &seen.presence),
        (vec![UNREADABLE], &Presence::Unseen)
    );
}

#[test]
fn f07_a_zombie_is_told_as_one() {
    let zombie = Process {
        state: State::Zombie,
        command: Vec::new(),
        ..process(600, 1, "")
    };
    let place = Place::new("600").aged(60);
    let world = World::of([zombie], ME);
    let seen = look_for(&place.rule, &Memo::default(), &world);
    assert_eq!(
        (codes(&seen), &seen.presence),
        (vec![ZOMBIE], &Presence::Absent)
    );
    let seen = look_for(&place.matching("app").rule, &Memo::default(), &world);
    assert_eq!(codes(&seen), [ZOMBIE]);
}

#[test]
fn f08_stopped_is_critical_and_traced_is_a_warning() {
    for (state, severity) in [
        (State::Stopped, Severity::Critical),
        (State::Traced, Severity::Warning),
    ] {
        let world = World::of(
            [Process {
                state,
                ..process(600, 1, "app")
            }],
            ME,
        );
        let seen = look_for(&Place::new("600").rule, &Memo::default(), &world);
        assert_eq!(
            (codes(&seen), worst(&seen.findings)),
            (vec![STOPPED], Some(severity))
        );
        assert_eq!(pid(&seen), Some(600));
    }
    // a wrapper that lives does not hide that the program below it is frozen
    let frozen = Process {
        state: State::Stopped,
        ..process(601, 600, "python app")
    };
    let world = World::of([process(600, 1, "sh -c python app"), frozen], ME);
    let seen = look_for(&pattern_rule("app"), &Memo::default(), &world);
    assert_eq!((codes(&seen), pid(&seen)), (vec![STOPPED], Some(600)));
}

#[test]
fn f09_the_watchdog_and_what_started_it_never_match() {
    let world = World::of(
        [
            process(400, 1, "cron"),
            process(450, 400, "sh -c watchdog check trader"),
            process(ME, 450, "watchdog check trader"),
        ],
        ME,
    );
    let seen = look_for(&pattern_rule("trader"), &Memo::default(), &world);
    assert_eq!(codes(&seen), [MISSING]);
    let kernel = Process {
        kernel: true,
        ..process(30, 2, "trader")
    };
    let zombie = Process {
        state: State::Zombie,
        ..process(700, 1, "trader")
    };
    let world = World::of([process(ME, 1, "watchdog"), kernel, zombie], ME);
    assert_eq!(
        codes(&look_for(&pattern_rule("trader"), &Memo::default(), &world)),
        [MISSING]
    );
}

#[test]
fn a_user_narrows_what_matches() {
    let world = World::of(
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
    let seen = look_for(&rule, &Memo::default(), &world);
    assert_eq!((codes(&seen), pid(&seen)), (vec![], Some(700)));
    rule.user = Some("no-such-user-here".to_owned());
    let seen = look_for(&rule, &Memo::default(), &world);
    assert_eq!(
        (codes(&seen), &seen.presence),
        (vec![UNREADABLE], &Presence::Unseen)
    );
    // a PID file may only name a process of that user
    let mut place = Place::new("600").aged(60);
    place.rule.user = Some("7".to_owned());
    let seen = look_for(&place.rule, &Memo::default(), &world);
    assert_eq!(codes(&seen), [MISSING]);
}

#[test]
fn f10_arguments_are_bytes() {
    let mut long = process(600, 1, "");
    long.command = [&b"app\xff\xfe \x00"[..], &vec![b'x'; 200 << 10], b" end"].concat();
    let world = World::of([long, process(601, 1, "")], ME);
    assert_eq!(
        pid(&look_for(
            &pattern_rule(r"^app.*end$"),
            &Memo::default(),
            &world
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
        let world = World::of([process(600, 1, "app")], ME);
        let seen = look_for(&place.rule, &Memo::default(), &world);
        assert_eq!(
            (codes(&seen), pid(&seen)),
            (vec![PID_FILE_STALE], Some(600))
        );
    }
}

#[test]
fn f13_a_lost_pid_file_ends_no_process() {
    let place = Place::new("600");
    let world = World::of([process(600, 1, "app")], ME);
    let memo = look_for(&place.rule, &Memo::default(), &world).memo;
    std::fs::remove_file(place.path()).unwrap();
    let seen = look_for(&place.rule, &memo, &world);
    assert_eq!(
        (codes(&seen), pid(&seen)),
        (vec![PID_FILE_STALE], Some(600))
    );
    let other = World::of(
        [Process {
            start: 1,
            ..process(600, 1, "app")
        }],
        ME,
    );
    assert_eq!(codes(&look_for(&place.rule, &memo, &other)), [MISSING]);
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
        &Memo::default(),
        &World::of(family.clone(), ME),
    );
    assert_eq!((codes(&seen), pid(&seen)), (vec![], Some(600)));
    let Presence::Running(running) = seen.presence else {
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
        let seen = look_for(&rule, &Memo::default(), &World::of(stranger.clone(), ME));
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
        &Memo::default(),
        &World::of(processes, ME),
    )
    .findings[0]
        .message
        .clone()
}

/// A real process, ended when it is dropped.
struct Real(Child);

impl Real {
    fn sleeping(folder: &Path) -> Self {
        Self(
            Command::new("sleep")
                .arg("61.5")
                .current_dir(folder)
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
        perhaps_started: false,
    };
    let now = Reading::take();
    // the child may be seen before its exec
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let seen = loop {
        let seen = look(
            &target,
            &Memo::default(),
            &World::survey(),
            &now,
            &BTreeSet::new(),
        );
        if pid(&seen).is_some() || std::time::Instant::now() > deadline {
            break seen;
        }
    };
    assert_eq!(pid(&seen), Some(it.pid()));
    // what another service is known to have is not taken for it
    let taken = BTreeSet::from([seen.memo.main.clone().unwrap()]);
    let none = look(&target, &Memo::default(), &World::survey(), &now, &taken);
    assert_eq!(codes(&none), [MISSING]);
    // what was seen and has ended is not looked for: its orphans are not the service
    let mut gone = seen.memo.clone();
    gone.main.as_mut().unwrap().start += 1;
    let ended = look(&target, &gone, &World::survey(), &now, &BTreeSet::new());
    assert_eq!(codes(&ended), [MISSING]);
    drop(elsewhere);
}

#[test]
fn a_script_is_known_behind_its_interpreter() {
    assert!(runs(b"./bot.sh x", b"./bot.sh x"));
    assert!(runs(b"/bin/sh ./bot.sh x", b"./bot.sh x"));
    assert!(runs(b"/usr/bin/env python3 ./bot.py", b"./bot.py"));
    assert!(!runs(b"vim -R -n ./bot.py", b"./bot.py"));
    assert!(!runs(b"x./bot.py", b"./bot.py"));
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
        perhaps_started: false,
    };
    let world = World::of([], ME);
    let seen = look(&target, &Memo::default(), &world, &now(), &BTreeSet::new());
    assert_eq!(
        (codes(&seen), &seen.presence),
        (vec![], &Presence::NotApplicable)
    );
    target.has_other_checks = false;
    let seen = look(&target, &Memo::default(), &world, &now(), &BTreeSet::new());
    assert_eq!(
        (codes(&seen), &seen.presence),
        (vec![MISSING], &Presence::Absent)
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
        boot_id: crate::clock::UNREAD.to_owned(),
        ..now()
    };
    let world = World::of([], ME);
    let seen = look(&target, &Memo::default(), &world, &unread, &BTreeSet::new());
    assert_eq!(codes(&seen), [UNREADABLE]);
    assert_eq!(seen.presence, Presence::Unseen);
}
