//! A service's own user against a watchdog that runs as root: he owns the service's PID file, log, directory and output
//! files, and whatever he does with them, no process but his own is signalled, no file but his own is changed, nothing
//! of his is run by root, no run hangs, and nothing of his steers a terminal or a mail.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;

use crate::scene::{Outcome, Scene, alive, pid_of, signal};

/// The user who attacks, `nobody`.
const HE: u32 = 65534;

/// A user without an entry anywhere.
const ANOTHER: u32 = 54321;

/// The service of the attacker, known by its PID file alone, with a log that is fresh for a minute.
const SERVICE: &str = r#"
[service.a]
working_dir = "lent"
start_grace = "0s"
process = { pid_file = "a.pid" }
spawn = { command = ["/bin/sh", "{dir}/lent/prog.sh", "a", "pid_file=a.pid"], user = "nobody" }
restart = { settle = "200ms", start_timeout = "20s", stop_timeout = "5s", max_per_hour = 50 }
[[service.a.log]]
path = "a.log"
max_age = "1m"
"#;

/// A directory of the attacker's in the scene, `lent`, and one of root's, `vault`.
fn scene(config: &str) -> Scene {
    let scene = Scene::with(config);
    scene.lend("lent", "nobody");
    fs::create_dir(scene.path("vault")).unwrap();
    scene
}

/// Makes a file in the scene the attacker's.
fn give(scene: &Scene, name: &str) {
    std::os::unix::fs::lchown(scene.path(name), Some(HE), Some(HE)).unwrap();
}

fn give_text(scene: &Scene, name: &str, text: &str) {
    scene.write(name, text);
    give(scene, name);
}

/// A log that is fresh, or was last written long ago.
fn log(scene: &Scene, age: Duration) {
    give_text(scene, "lent/a.log", "tick\n");
    scene.age("lent/a.log", age);
}

const FRESH: Duration = Duration::ZERO;
const STALE: Duration = Duration::from_hours(1);

/// A program of another user's that tells its signals into his own directory.
fn start_as(scene: &Scene, uid: u32, name: &str, options: &[&str]) -> i32 {
    let directory = scene.path(&format!("of-{uid}"));
    if !directory.exists() {
        fs::create_dir(&directory).unwrap();
        fs::copy(scene.path("prog.sh"), directory.join("prog.sh")).unwrap();
        fs::set_permissions(directory.join("prog.sh"), fs::Permissions::from_mode(0o644)).unwrap();
        chown(&directory, Some(uid), Some(uid)).unwrap();
    }
    let mut child = Command::new("/bin/sh")
        .arg(directory.join("prog.sh"))
        .arg(name)
        .arg("traps=TERM HUP INT QUIT CONT")
        .args(options)
        .current_dir(&directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .uid(uid)
        .gid(uid)
        .process_group(0)
        .spawn()
        .unwrap();
    let pid = pid_of(&child);
    std::thread::spawn(move || child.wait());
    scene.wait_until(&format!("start of {name}"), || {
        fs::read_to_string(directory.join(format!("{name}.up")))
            .is_ok_and(|text| text.contains(&pid.to_string()))
    });
    pid
}

/// Asserts that a program has got no signal.
#[track_caller]
fn unharmed(scene: &Scene, uid: u32, name: &str, pid: i32) {
    assert!(alive(pid), "{name} (PID {pid}) was killed");
    assert_eq!(
        scene.read(&format!("of-{uid}/{name}.signals")),
        "",
        "{name} was signalled"
    );
}

/// Whatever was done, a run came to an end, and the next one gets the lock.
#[track_caller]
fn ended(scene: &Scene, outcome: &Outcome) {
    assert!(
        (0..=3).contains(&outcome.code),
        "exit code {}",
        outcome.code
    );
    let next = scene.check();
    assert!(
        (0..=3).contains(&next.code),
        "exit code {} of the next run",
        next.code
    );
}

// --- whom root signals

#[test]
#[ignore = "needs root"]
fn a_pid_file_of_his_makes_root_signal_nobody_elses_process() {
    let scene = scene(SERVICE);
    for (uid, name) in [(0, "roots"), (ANOTHER, "anothers")] {
        let victim = start_as(&scene, uid, name, &[]);
        log(&scene, STALE);
        give_text(&scene, "lent/a.pid", &format!("{victim}\n"));
        let outcome = scene.check().exits(2).verdict("a", "restart_failed");
        assert!(
            outcome.error("a").contains("not signalled"),
            "{}",
            outcome.error("a")
        );
        // nor when it looks as if it had to be killed
        signal(victim, Signal::SIGSTOP);
        scene.check().exits(2);
        unharmed(&scene, uid, name, victim);
    }
    // his own may be signalled, of course
    let own = start_as(&scene, HE, "own", &[]);
    give_text(&scene, "lent/a.pid", &format!("{own}\n"));
    scene.check();
    assert!(!alive(own));
}

#[test]
#[ignore = "needs root"]
fn a_process_that_his_pid_file_named_before_is_not_signalled_either() {
    let scene = scene(SERVICE);
    let victim = start_as(&scene, 0, "victim", &[]);
    log(&scene, FRESH);
    give_text(&scene, "lent/a.pid", &format!("{victim}\n"));
    scene.check().exits(0);
    // now it is remembered, and the file says nothing any more
    for text in [None, Some(""), Some("99999999\n")] {
        log(&scene, STALE);
        match text {
            None => fs::remove_file(scene.path("lent/a.pid")).unwrap(),
            Some(text) => give_text(&scene, "lent/a.pid", text),
        }
        scene.check().exits(2).verdict("a", "restart_failed");
        unharmed(&scene, 0, "victim", victim);
    }
}

#[test]
#[ignore = "needs root"]
fn the_children_of_a_process_that_his_pid_file_named_are_not_signalled() {
    let scene = scene(SERVICE);
    let victim = start_as(&scene, 0, "victim", &["workers=2"]);
    log(&scene, FRESH);
    give_text(&scene, "lent/a.pid", &format!("{victim}\n"));
    scene.check().exits(0);
    let workers = crate::scene::numbers(&scene.read("of-0/victim.workers"));
    assert_eq!(workers.len(), 2);
    scene.kill_and_reap(victim);
    scene.check();
    for worker in workers {
        assert!(alive(worker), "a child of root's process was killed");
    }
}

#[test]
#[ignore = "needs root"]
fn a_link_for_a_pid_file_does_not_borrow_the_trust_of_what_it_leads_to() {
    let scene = scene(SERVICE);
    let victim = start_as(&scene, 0, "victim", &[]);
    scene.write("vault/sshd.pid", format!("{victim}\n"));
    symlink(scene.path("vault/sshd.pid"), scene.path("lent/a.pid")).unwrap();
    give(&scene, "lent/a.pid");
    log(&scene, STALE);
    let outcome = scene.check().exits(2).verdict("a", "restart_failed");
    assert!(
        outcome.error("a").contains("not signalled"),
        "{}",
        outcome.error("a")
    );
    unharmed(&scene, 0, "victim", victim);
    assert!(scene.has("vault/sshd.pid"));
}

#[test]
#[ignore = "needs root"]
fn a_directory_that_his_group_can_write_is_his() {
    let scene = scene(&SERVICE.replace("pid_file = \"a.pid\"", "pid_file = \"../shared/a.pid\""));
    fs::create_dir(scene.path("shared")).unwrap();
    chown(scene.path("shared"), Some(0), Some(HE)).unwrap();
    fs::set_permissions(scene.path("shared"), fs::Permissions::from_mode(0o775)).unwrap();
    let victim = start_as(&scene, 0, "victim", &[]);
    // root's file, which he has moved there from beside it
    scene.write("shared/a.pid", format!("{victim}\n"));
    log(&scene, STALE);
    let outcome = scene.check().exits(2).verdict("a", "restart_failed");
    assert!(
        outcome.error("a").contains(&format!("GID {HE}")),
        "{}",
        outcome.error("a")
    );
    unharmed(&scene, 0, "victim", victim);
    // what belongs to the group's member is stopped and started as ever
    let own = start_as(&scene, HE, "own", &[]);
    scene.write("shared/a.pid", format!("{own}\n"));
    scene.check();
    assert!(!alive(own));
}

#[test]
#[ignore = "needs root"]
fn a_pid_file_that_changes_all_the_time_makes_root_signal_nobody_else() {
    let scene = scene(SERVICE);
    let victim = start_as(&scene, 0, "victim", &[]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swap = || {
            let (own, other) = (scene.path("lent/own"), scene.path("lent/other"));
            let mut round = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let mine = fs::read_to_string(scene.path("lent/mine")).unwrap_or_default();
                give_text(&scene, "lent/own", &mine);
                give_text(&scene, "lent/other", &format!("{victim}\n"));
                let next = if round.is_multiple_of(2) {
                    &own
                } else {
                    &other
                };
                let _ = fs::rename(next, scene.path("lent/a.pid"));
                round += 1;
            }
        };
        scope.spawn(swap);
        for _ in 0..8 {
            let mine = start_as(&scene, HE, "mine", &[]);
            scene.write("lent/mine", format!("{mine}\n"));
            log(&scene, STALE);
            scene.check();
            scene.kill(mine);
        }
        stop.store(true, Ordering::Relaxed);
    });
    unharmed(&scene, 0, "victim", victim);
}

#[test]
#[ignore = "needs root"]
fn a_pid_file_that_names_what_runs_the_watchdog_ends_nothing() {
    // also where root alone could have written it
    for directory in ["lent", "vault"] {
        let scene = scene(&SERVICE.replace("\"a.pid\" }", &format!("\"../{directory}/a.pid\" }}")));
        log(&scene, STALE);
        // the shell leads the group that the watchdog is in
        let outcome = scene.shell(&format!(
            "echo $$ >{{dir}}/{directory}/a.pid; {{watchdog}} check --json; echo survived >&2"
        ));
        assert!(outcome.stderr.ends_with("survived\n"), "{}", outcome.stderr);
        scene.write(&format!("{directory}/a.pid"), "1\n");
        assert!(scene.check().code <= 2);
    }
}

#[test]
#[ignore = "needs root"]
fn a_process_dressed_up_as_another_service_is_no_more_than_itself() {
    let with_user = "[service.b]\nstart_grace = \"0s\"\n\
                     process = { command_line = '^/usr/bin/b -c .*{dir}$', user = \"root\" }\n";
    let scene = scene(with_user);
    let dressed = |uid: u32| {
        let mut child = Command::new("/bin/sh")
            .arg0("/usr/bin/b")
            .args(["-c", "while :; do sleep 1; done", scene.dir()])
            .current_dir(scene.path("lent"))
            .uid(uid)
            .spawn()
            .unwrap();
        let pid = pid_of(&child);
        std::thread::spawn(move || child.wait());
        pid
    };
    let his = dressed(HE);
    // with the user given, it does not pass for the service
    scene.check().exits(2).finds("b", "process_missing");
    let roots = dressed(0);
    let outcome = scene.check().exits(0);
    assert_eq!(outcome.service("b")["pid"], roots);
    // without, it does; and it is he who is signalled then
    scene.config(&format!(
        "{}restart = {{ command = [\"/bin/false\"], stop_timeout = \"5s\" }}\n",
        with_user.replace(", user = \"root\"", "")
    ));
    scene.kill(roots);
    signal(his, Signal::SIGSTOP);
    let victim = start_as(&scene, 0, "victim", &[]);
    scene.check().exits(2).verdict("b", "restart_failed");
    assert!(!alive(his));
    unharmed(&scene, 0, "victim", victim);
}

#[test]
#[ignore = "needs root"]
fn a_host_of_processes_uses_up_no_descriptors() {
    let scene = scene(
        "[service.a]\nstart_grace = \"0s\"\nprocess = { command_line = 'one-of-many {dir}$', user = \"nobody\" }\n\
         restart = { command = [\"/bin/true\"], stop_timeout = \"5s\" }\n",
    );
    let script = scene.fill(
        "for i in $(seq 150); do setsid sh -c 'kill -STOP $$' one-of-many {dir} & done; wait",
    );
    let mut child = Command::new("/bin/sh")
        .args(["-c", &script, "sh", scene.dir()])
        .uid(HE)
        .spawn()
        .unwrap();
    let of_his = || {
        crate::scene::processes()
            .iter()
            .filter(|p| {
                p.state == 'T' && p.command_line().ends_with(&scene.fill("one-of-many {dir}"))
            })
            .count()
    };
    scene.wait_until("all of them", || of_his() == 150);
    let outcome = scene.check().exits(2).verdict("a", "restart_failed");
    assert_eq!(
        outcome.error("a"),
        "more than 128 processes of different groups are taken for it: nothing was signalled; make `command_line` narrower"
    );
    assert_eq!(of_his(), 150, "nothing was signalled");
    child.kill().unwrap();
    child.wait().unwrap();
}

// --- what root writes, and removes

/// All about the files of root's, down to their times.
fn vault(scene: &Scene) -> Vec<(PathBuf, u64, u32, u32, SystemTime, Vec<u8>)> {
    let mut files: Vec<PathBuf> = fs::read_dir(scene.path("vault"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let meta = fs::symlink_metadata(&path).unwrap();
            let bytes = fs::read(&path).unwrap_or_default();
            let time = meta.modified().unwrap();
            (path, meta.ino(), meta.mode(), meta.uid(), time, bytes)
        })
        .collect()
}

/// Puts each kind of trap at a place in turn, lets a run go, and sees that nothing of root's has changed.
fn traps(scene: &Scene, place: &str, mut run: impl FnMut(&str)) {
    scene.write_private("vault/passwd", "root:x\n");
    let place = scene.path(place);
    for trap in ["link", "hard link", "dangling link"] {
        if place.symlink_metadata().is_ok() {
            fs::remove_file(&place).unwrap();
        }
        match trap {
            "link" => symlink(scene.path("vault/passwd"), &place).unwrap(),
            "hard link" => fs::hard_link(scene.path("vault/passwd"), &place).unwrap(),
            _ => symlink(scene.path("vault/new"), &place).unwrap(),
        }
        if trap != "hard link" {
            std::os::unix::fs::lchown(&place, Some(HE), Some(HE)).unwrap();
        }
        let before = vault(scene);
        run(trap);
        assert_eq!(vault(scene), before, "{trap} at {}", place.display());
    }
    fs::remove_file(&place).ok();
    // a directory on the way that leads elsewhere
    let directory = place.parent().unwrap();
    let aside = directory.with_extension("aside");
    fs::rename(directory, &aside).unwrap();
    symlink(scene.path("vault"), directory).unwrap();
    std::os::unix::fs::lchown(directory, Some(HE), Some(HE)).unwrap();
    fs::write(directory.join(place.file_name().unwrap()), "99999999\n").unwrap();
    let before = vault(scene);
    run("directory");
    assert_eq!(vault(scene), before, "{} is a link", directory.display());
    fs::remove_file(directory).unwrap();
    fs::rename(&aside, directory).unwrap();
    fs::remove_file(scene.path("vault").join(place.file_name().unwrap())).unwrap();
}

/// A directory in the attacker's directory.
fn inner(scene: &Scene) {
    fs::create_dir(scene.path("lent/in")).unwrap();
    give(scene, "lent/in");
}

#[test]
#[ignore = "needs root"]
fn files_of_a_program_of_his_are_opened_as_him() {
    for key in ["stdout", "stderr", "write_pid_file"] {
        let (value, process) = match key {
            "write_pid_file" => ("true", "process = { pid_file = \"in/file\" }"),
            _ => ("\"in/file\"", "process = { pid_file = \"a.pid\" }"),
        };
        let config = SERVICE
            .replace("process = { pid_file = \"a.pid\" }", process)
            .replace(
                "user = \"nobody\"",
                &format!("user = \"nobody\", {key} = {value}"),
            );
        let scene = scene(&config);
        inner(&scene);
        traps(&scene, "lent/in/file", |trap| {
            let outcome = scene.check();
            // where he would have to write into root's file, it is not started; a link for a PID file is replaced
            let failed = outcome.service("a")["verdict"] == "restart_failed";
            assert!(
                failed || key == "write_pid_file",
                "{key}: {trap}: {}",
                outcome.stdout
            );
            for process in scene.starts("lent/a") {
                scene.kill(process);
            }
        });
    }
}

#[test]
#[ignore = "needs root"]
fn files_of_a_program_of_roots_are_not_opened_in_his_directories() {
    for key in ["stdout", "stderr", "write_pid_file", "env_file"] {
        let (value, process) = match key {
            "write_pid_file" => ("true", "process = { pid_file = \"in/file\" }"),
            _ => ("\"in/file\"", "process = { pid_file = \"../vault/a.pid\" }"),
        };
        let config = SERVICE
            .replace("process = { pid_file = \"a.pid\" }", process)
            .replace("user = \"nobody\"", &format!("{key} = {value}"));
        let scene = scene(&config);
        inner(&scene);
        traps(&scene, "lent/in/file", |trap| {
            let outcome = scene.check().exits(2).verdict("a", "restart_failed");
            let error = outcome.error("a");
            assert!(
                error.ends_with(
                    " can change, and could be led to any other file; set `user` in its spawn table, or keep the file \
                     where only root can write"
                ) || error.ends_with(
                    ", and what it says root would run; set `user` in its spawn table, or let root alone write that file \
                     and its directories"
                ) || error.contains("hard link"),
                "{key}: {trap}: {error}"
            );
        });
        scene.run(&["validate"]).exits(0);
        assert_eq!(scene.starts("lent/a"), [] as [i32; 0]);
    }
}

#[test]
#[ignore = "needs root"]
fn a_pid_file_is_not_removed_through_a_link_of_his() {
    // by root, for a command
    let config = SERVICE
        .replace("pid_file = \"a.pid\" }", "pid_file = \"in/file\" }")
        .replace("spawn = {", "#")
        .replace("restart = {", "restart = { command = [\"/bin/true\"],")
        .replace("20s", "100ms");
    let scene = scene(&config);
    inner(&scene);
    traps(&scene, "lent/in/file", |_| {
        scene.check();
    });
}

#[test]
#[ignore = "needs root"]
fn a_state_directory_that_he_could_swap_is_not_used() {
    let scene = scene("");
    let place = scene.path("lent/state");
    let config =
        "state_dir = \"lent/state\"\n[service.a]\nspawn = { command = [\"/bin/false\"] }\n";
    scene.raw_config(config);
    let refused = |what: &str, mends: &str| {
        let before = vault(&scene);
        let outcome = scene.check().exits(73);
        assert!(outcome.stderr.contains(mends), "{what}: {}", outcome.stderr);
        assert!(
            !mends.ends_with("above it")
                || outcome.stderr.contains(
                    " can write to a directory above it, and could put another in its place; let none but UID 0 write there, \
                     or set state_dir to another directory\n"
                ),
            "{what}: {}",
            outcome.stderr
        );
        assert_eq!(vault(&scene), before, "{what}");
    };
    // what is there already of the path is his
    refused("to be made", "above it");
    assert!(!place.exists());
    fs::create_dir(&place).unwrap();
    refused("root's own in his", "above it");
    fs::remove_dir(&place).unwrap();
    symlink(scene.path("vault"), &place).unwrap();
    refused("a link of his", "above it");
    scene.raw_config(&config.replace("lent/state", "lent/state/deeper/state"));
    refused("below a link of his", "above it");
    // one that his group can write
    scene.raw_config(&config.replace("lent/state", "vault"));
    fs::set_permissions(scene.path("vault"), fs::Permissions::from_mode(0o770)).unwrap();
    chown(scene.path("vault"), Some(0), Some(HE)).unwrap();
    refused("his group's", "chmod 700");
    // a link of his in a directory for all
    fs::set_permissions(scene.path("vault"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(scene.path("all")).unwrap();
    fs::set_permissions(scene.path("all"), fs::Permissions::from_mode(0o1777)).unwrap();
    symlink(scene.path("vault"), scene.path("all/state")).unwrap();
    give(&scene, "all/state");
    scene.raw_config(&config.replace("lent/state", "all/state"));
    refused("a link in a sticky directory", "UID 65534");
}

#[test]
#[ignore = "needs root"]
fn mail_is_not_written_to_a_directory_of_his() {
    let scene = scene(
        "[mail]\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]\ndirectory = \"lent/mails\"\n\
         [service.a]\nprocess = { pid_file = \"none.pid\" }\n",
    );
    symlink(scene.path("vault"), scene.path("lent/mails")).unwrap();
    give(&scene, "lent/mails");
    let before = vault(&scene);
    let outcome = scene.check().exits(2);
    assert!(outcome.stderr.contains("UID 65534"), "{}", outcome.stderr);
    assert_eq!(vault(&scene), before);
    assert_eq!(scene.outbox(), 1, "it is kept");
}

#[test]
#[ignore = "needs root"]
fn the_watchdogs_own_log_follows_no_link() {
    // in a directory of his, in one that all can write, in one of his group
    for (directory, uid, mode) in [
        ("lent/in", HE, 0o755),
        ("lent/in", 0, 0o1777),
        ("shared", 0, 0o775),
    ] {
        let scene = scene(&format!(
            "[logging]\nfile = \"{directory}/file\"\n[service.a]\nprocess = {{ pid_file = \"none.pid\" }}\n"
        ));
        let path = scene.path(directory);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        chown(&path, Some(uid), Some(HE)).unwrap();
        traps(&scene, &format!("{directory}/file"), |trap| {
            // nobody can swap root's directory in root's directory
            if trap == "directory" && directory == "shared" {
                return;
            }
            let outcome = scene.check().exits(2);
            assert!(
                outcome.stderr.contains("the log file")
                    && (directory == "shared"
                        || outcome.stderr.contains(
                            " could lead it elsewhere; keep it where nobody else can write to the directories\n"
                        )),
                "{trap}: {}",
                outcome.stderr
            );
        });
        if directory == "shared" {
            scene.check();
            assert!(scene.read("shared/file").contains("ERROR") || scene.has("shared/file"));
        }
    }
}

#[test]
#[ignore = "needs root"]
fn last_words_are_read_as_him() {
    let config = SERVICE
        .replace(
            "\"/bin/sh\", \"{dir}/lent/prog.sh\", \"a\", \"pid_file=a.pid\"",
            "\"/bin/sh\", \"{dir}/lent/swap.sh\"",
        )
        .replace(
            "user = \"nobody\"",
            "user = \"nobody\", stderr = \"err.log\"",
        );
    let scene = scene(&config);
    scene.write_private("vault/shadow", "canary-7391\n");
    give_text(
        &scene,
        "lent/swap.sh",
        &scene.fill("echo plain >&2; ln -sf {dir}/vault/shadow {dir}/lent/err.log; exit 3\n"),
    );
    let outcome = scene.check().exits(2).verdict("a", "restart_failed");
    assert!(!outcome.text().contains("canary"), "{}", outcome.text());
    assert!(!scene.read("state/journal.jsonl").contains("canary"));
}

// --- what root runs

#[test]
#[ignore = "needs root"]
fn his_environment_reaches_nothing_that_root_runs() {
    let mut config = SERVICE.replace("user = \"nobody\"", "user = \"nobody\", env_file = \"env\"");
    config.push_str(
        "[service.b]\nprocess = { pid_file = \"none.pid\" }\n\
         restart = { command = [\"/bin/sh\", \"-c\", \"env >{dir}/vault/command; id -u >>{dir}/vault/command\"], start_timeout = \"100ms\" }\n",
    );
    let mail = "[mail]\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]\nsendmail = { command = \"{dir}/vault/sendmail\" }\n";
    let scene = scene(&format!("{mail}{config}"));
    scene.write(
        "vault/sendmail",
        scene.fill("#!/bin/sh\nenv >{dir}/vault/mailer\ncat >/dev/null\n"),
    );
    fs::set_permissions(
        scene.path("vault/sendmail"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let his = scene.path("lent").display().to_string();
    // programs that root might take for its own
    for name in ["env", "id", "cat", "sh", "systemctl", "sendmail"] {
        give_text(&scene, &format!("lent/{name}.sh"), "");
        scene.write(
            &format!("lent/{name}"),
            scene.fill("#!/bin/sh\n/usr/bin/touch {dir}/lent/ran-$(/usr/bin/id -u)\n"),
        );
        fs::set_permissions(
            scene.path(&format!("lent/{name}")),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
    }
    give_text(
        &scene,
        "lent/env",
        &format!(
            "PATH={his}\nLD_PRELOAD={his}/evil.so\nBASH_ENV={his}/evil\nENV={his}/evil\nCANARY=7391\n"
        ),
    );
    log(&scene, STALE);
    scene.check();
    for name in ["vault/command", "vault/mailer"] {
        let seen = scene.read(name);
        assert!(seen.contains("PATH="), "{name}: {seen}");
        assert!(
            !seen.contains("lent") && !seen.contains("7391") && !seen.contains("LD_"),
            "{name}: {seen}"
        );
    }
    assert!(scene.read("vault/command").ends_with("\n0\n"));
    assert!(!scene.has("lent/ran-0"), "root ran a program of his");
}

#[test]
#[ignore = "needs root"]
fn validate_tells_what_of_his_root_would_run() {
    let scene = scene(
        "[service.a]\nworking_dir = \"lent\"\nspawn = { command = [\"./run.sh\"] }\n\
         [service.b]\nworking_dir = \"lent\"\nprocess = { pid_file = \"b.pid\" }\nrestart = { command = [\"/bin/sh\", \"run.sh\"] }\n\
         [service.c]\nworking_dir = \"lent\"\nspawn = { command = [\"./run.sh\"], user = \"nobody\" }\n\
         [service.d]\nspawn = { command = [\"/bin/sh\", \"prog.sh\"] }\n",
    );
    give_text(&scene, "lent/run.sh", "#!/bin/sh\n");
    fs::set_permissions(scene.path("lent/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let said = scene.run(&["validate"]).exits(0).text();
    let help = "= help: give a program of another user's its `user` in `spawn`; or let root alone write it and its directories\n";
    assert_eq!(said.matches(help).count(), 2, "{said}");
    for (service, told) in [("a", true), ("b", true), ("c", false), ("d", false)] {
        assert_eq!(
            said.contains(&format!("{service}: root would run")),
            told,
            "{service}: {said}"
        );
    }
}

// --- what makes a run wait

#[test]
#[ignore = "needs root"]
fn a_fifo_holds_nobody_up_wherever_it_is() {
    let base = SERVICE
        .replace("20s", "2s")
        .replace("user = \"nobody\"", "user = \"nobody\", {key}");
    for (key, file) in [
        ("nice = 0", "a.pid"),
        ("nice = 0", "a.log"),
        ("env_file = \"fifo\"", "fifo"),
        ("stdout = \"fifo\"", "fifo"),
        ("stderr = \"fifo\"", "fifo"),
        ("write_pid_file = true", "a.pid"),
    ] {
        let scene = scene(&base.replace("{key}", key));
        log(&scene, STALE);
        let path = scene.path("lent").join(file);
        fs::remove_file(&path).ok();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
        give(&scene, &format!("lent/{file}"));
        ended(&scene, &scene.check());
    }
}

#[test]
#[ignore = "needs root"]
fn a_fifo_for_a_password_is_refused_at_once() {
    let scene = scene(
        "[mail]\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]\n\
         smtp = { host = \"127.0.0.1\", username = \"u\", password_file = \"lent/pass\" }\n\
         [service.a]\nprocess = { pid_file = \"none.pid\" }\n",
    );
    nix::unistd::mkfifo(&scene.path("lent/pass"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    scene.check().exits(78);
    fs::remove_file(scene.path("lent/pass")).unwrap();
    give_text(&scene, "lent/pass", "his\n");
    fs::set_permissions(scene.path("lent/pass"), fs::Permissions::from_mode(0o600)).unwrap();
    let outcome = scene.check().exits(78);
    assert!(outcome.stderr.contains("chown root"), "{}", outcome.stderr);
}

#[test]
#[ignore = "needs root"]
fn files_without_end_are_not_read_to_it() {
    let with_env = SERVICE
        .replace("20s", "2s")
        .replace("user = \"nobody\"", "user = \"nobody\", env_file = \"env\"");
    for target in ["/dev/zero", "/proc/kmsg", "/dev/kmsg", "/proc/self/mem"] {
        for name in ["a.pid", "a.log", "env"] {
            let scene = scene(&with_env);
            give_text(&scene, "lent/env", "");
            log(&scene, STALE);
            fs::remove_file(scene.path("lent").join(name)).ok();
            symlink(target, scene.path("lent").join(name)).unwrap();
            ended(&scene, &scene.check());
        }
    }
    let scene = scene(&with_env.replace("max_age = \"1m\"", "expect = ['x']\nforbid = ['ERROR']"));
    for name in ["env", "a.pid", "a.log"] {
        let file = File::create(scene.path("lent").join(name)).unwrap();
        file.set_len(1 << 40).unwrap();
        give(&scene, &format!("lent/{name}"));
    }
    ended(&scene, &scene.check());
}

#[test]
#[ignore = "needs root"]
fn a_hundred_thousand_files_are_looked_through_in_time() {
    let scene = scene(
        &SERVICE
            .replace("\"a.log\"", "\"logs/*.log\"")
            .replace("max_age", "forbid = ['ERROR']\nmax_age"),
    );
    fs::create_dir(scene.path("lent/logs")).unwrap();
    for number in 0..100_000 {
        File::create(scene.path(&format!("lent/logs/{number}.log"))).unwrap();
    }
    let outcome = scene.check();
    assert!((0..=3).contains(&outcome.code));
    fs::remove_dir_all(scene.path("lent/logs")).unwrap();
}

/// File systems on which nothing ever ends: who ought to answer for them never does.
const HUNG: &str = "exec unshare -m /bin/sh -c '
    exec 8<>/dev/fuse 9<>/dev/fuse
    mount -i -t fuse -o fd=8,rootmode=40000,user_id=0,group_id=0,allow_other none {dir}/lent/one || exit 99
    mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0,allow_other none {dir}/lent/other || exit 99
    {watchdog} check --json; echo $? >&2; exec {watchdog} check --json >/dev/null'";

#[test]
#[ignore = "needs root"]
fn a_file_system_that_hangs_holds_up_nobody_else() {
    // where a check waits in the same directory, the kernel lets nobody kill the child before the run is over
    for (stdout, run_timeout) in [("other", "5m"), ("one", "15s")] {
        let mut config = SERVICE.replace("20s", "2s").replace(
            "user = \"nobody\"",
            &format!("user = \"nobody\", stdout = \"{stdout}/out.log\""),
        );
        config.push_str(
            "[service.b]\nprocess = { pid_file = \"lent/one/b.pid\" }\n\
             [[service.b.log]]\npath = \"lent/one/b-*.log\"\nmax_age = \"5m\"\n\
             [service.c]\nspawn = { command = [\"/bin/sh\", \"{dir}/prog.sh\", \"c\"] }\nrestart = { settle = \"100ms\" }\n",
        );
        let scene = scene(&format!(
            "check_timeout = \"2s\"\nrun_timeout = \"{run_timeout}\"\n{config}"
        ));
        for name in ["lent/one", "lent/other"] {
            fs::create_dir(scene.path(name)).unwrap();
        }
        let outcome = scene.shell(HUNG);
        assert_ne!(outcome.code, 99, "{}", outcome.stderr);
        assert!(
            (0..=3).contains(&outcome.code),
            "the lock is held: exit code {}",
            outcome.code
        );
        let outcome = outcome
            .verdict("c", "restarted")
            .finds("b", "check_timed_out");
        if stdout == "other" {
            assert!(
                outcome.error("a").contains("hangs"),
                "{}",
                outcome.error("a")
            );
        }
        assert_eq!(scene.starts("c").len(), 1);
    }
}

#[test]
#[ignore = "needs root"]
fn a_mail_directory_that_hangs_is_left_in_time() {
    let scene = Scene::with(
        "[mail]\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]\ndirectory = \"lent/one/mails\"\n\
         [service.a]\n[[service.a.log]]\npath = \"prog.sh\"\n",
    );
    for name in ["lent", "lent/one", "lent/other"] {
        fs::create_dir(scene.path(name)).unwrap();
    }
    let script = HUNG.replace(
        "check --json; echo $? >&2; exec {watchdog} check --json >/dev/null",
        "test-mail",
    );
    let outcome = scene.shell(&script).exits(1);
    let said = scene.fill(
        "o@example.org: perhaps sent: {dir}/lent/one/mails: not written within 10s; does its file system answer",
    );
    assert!(outcome.words().contains(&said), "{}", outcome.stdout);
}

#[test]
#[ignore = "needs root"]
fn a_look_that_the_end_of_the_run_cut_off_says_so() {
    let scene = Scene::with(
        "check_timeout = \"1m\"\nrun_timeout = \"1s\"\n[service.a]\n[[service.a.log]]\npath = \"lent/one/a.log\"\n",
    );
    for name in ["lent", "lent/one", "lent/other"] {
        fs::create_dir(scene.path(name)).unwrap();
    }
    let outcome = scene.shell(HUNG);
    assert_eq!(outcome.code, 3, "{}", outcome.stderr);
    assert_eq!(
        outcome.service("a")["findings"][0]["message"],
        "lent/one/a.log: check not done when the run had to end (run_timeout 1s)"
    );
}

#[test]
#[ignore = "needs root"]
fn a_process_that_comes_up_again_and_again_while_it_is_stopped_ends_no_run() {
    let config = SERVICE.replace(
        "pid_file = \"a.pid\"",
        "pid_file = \"a.pid\", command_line = '{dir}/lent/hydra\\.sh', user = \"nobody\"",
    );
    let scene = scene(&config.replace("20s", "3s").replace("5s", "1s"));
    // each head that is told to end makes two new ones in a session of their own; forty heads at the most
    give_text(
        &scene,
        "lent/hydra.sh",
        "cd \"${0%/*}\"\necho x >>heads\n\
         more() { [ $(wc -l <heads) -lt 40 ] && for i in 1 2; do setsid /bin/sh \"$0\" & done; }\n\
         trap more TERM\n[ -p hydra.fifo ] || mkfifo hydra.fifo\necho $$ >a.pid\nwhile :; do read -r _ <>hydra.fifo; done\n",
    );
    let script = scene.path("lent/hydra.sh");
    let mut child = Command::new("/bin/sh")
        .arg(&script)
        .uid(HE)
        .gid(HE)
        .spawn()
        .unwrap();
    let waiter = std::thread::spawn(move || child.wait());
    scene.wait_until("its first head", || scene.has("lent/a.pid"));
    log(&scene, STALE);
    for _ in 0..3 {
        let outcome = scene.check();
        assert!((1..=2).contains(&outcome.code), "{}", outcome.code);
    }
    assert_eq!(
        scene.starts("lent/a").len(),
        0,
        "nothing was started beside it"
    );
    drop(scene);
    waiter.join().unwrap().unwrap();
}

#[test]
#[ignore = "needs root"]
fn he_cannot_take_the_lock() {
    let scene = scene(SERVICE);
    fs::create_dir(scene.path("state")).unwrap();
    fs::set_permissions(scene.path("state"), fs::Permissions::from_mode(0o755)).unwrap();
    scene.write("state/lock", "");
    scene.check();
    let as_him =
        "exec setpriv --reuid=65534 --regid=65534 --clear-groups flock -n {dir}/state/lock true";
    assert_ne!(scene.shell(as_him).code, 0);
    assert!(
        scene.shell("exec flock -n {dir}/state/lock true").code == 0,
        "but it can be taken"
    );
}

// --- what people read

const EVIL: &str =
    "ERROR \x1b]0;pwned\x07\x1b[2J\rX-Evil: 1\u{202e}txt\u{2028}\u{9b}2J\u{7f}\u{200b}end";

/// Asserts that a text is only what is to be read.
#[track_caller]
fn harmless(what: &str, text: &str) {
    let bad = text.chars().find(|c| {
        (c.is_control() && *c != '\n') || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
    });
    assert_eq!(bad, None, "{what}: {text}");
}

#[test]
#[ignore = "needs root"]
fn nothing_of_his_steers_a_terminal_or_a_mail() {
    let scene = scene(&format!(
        "[logging]\nfile = \"own.log\"\nlevel = \"trace\"\n[mail]\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]\ndirectory = \"mails\"\n{}",
        SERVICE
            .replace("\"a.log\"", "\"logs/*.log\"\nforbid = ['ERROR']")
            .replace(
                "user = \"nobody\"",
                "user = \"nobody\", stderr = \"err.log\""
            )
            .replace(
                "\"/bin/sh\", \"{dir}/lent/prog.sh\", \"a\", \"pid_file=a.pid\"",
                "\"/bin/sh\", \"{dir}/lent/fail.sh\""
            )
            .replace(
                "pid_file = \"a.pid\" }",
                "pid_file = \"a.pid\", command_line = '^harmless' }"
            )
    ));
    give_text(
        &scene,
        "lent/fail.sh",
        &format!("printf '%s\\n' '{EVIL}' '' 'next' >&2; exit 3\n"),
    );
    // a name of a file, with a line of a log in it
    fs::create_dir(scene.path("lent/logs")).unwrap();
    let name = format!(
        "lent/logs/a\n2026-11-22T00:00:00Z [ERROR] forged {}.log",
        EVIL.replace('/', "_")
    );
    scene.write(&name, "tick\n");
    // arguments of a process that his PID file names
    let mut dressed = Command::new("/bin/sh")
        .arg0(format!("x{EVIL}\nforged"))
        .args([
            "-c",
            "while :; do sleep 1; done",
            &format!("y{EVIL}\ny"),
            scene.dir(),
        ])
        .env(format!("VAR{EVIL}\nforged"), "value")
        .current_dir(scene.path("lent"))
        .uid(HE)
        .spawn()
        .unwrap();
    let pid = pid_of(&dressed);
    give_text(&scene, "lent/a.pid", &format!("{pid}\n"));
    let mut shown = vec![scene.run(&["check", "-vvv"]).exits(2)];
    scene.append(&name, format!("{EVIL}\nERROR\n{EVIL}\n"));
    shown.push(scene.run(&["check", "-vvv"]));
    give_text(&scene, "lent/a.pid", &format!("12{EVIL}\n"));
    shown.push(scene.run(&["check", "--dry-run"]));
    fs::remove_file(scene.path(&name)).unwrap();
    symlink(format!("/none{EVIL}\nforged"), scene.path(&name)).unwrap();
    shown.push(scene.run(&["check", "-vvv"]));
    fs::remove_file(scene.path("lent/a.pid")).ok();
    symlink(format!("/none{EVIL}\nforged"), scene.path("lent/a.pid")).unwrap();
    shown.push(scene.run(&["check", "-vvv"]));
    for arguments in [
        &["status"][..],
        &["why", "a"],
        &["history"],
        &["validate"],
        &["adopt", &pid.to_string()],
    ] {
        shown.push(scene.run(arguments));
    }
    dressed.kill().unwrap();
    dressed.wait().unwrap();
    for outcome in &shown {
        harmless("what a command printed", &outcome.text());
    }
    let own = scene.read("own.log");
    harmless("the log", &own);
    assert!(!own.is_empty());
    for line in own.lines() {
        assert!(
            line.starts_with("20") && !line.starts_with("2026-11-22T00:00:00Z [ERROR] forged"),
            "{line}"
        );
    }
    for entry in scene.journal() {
        assert!(entry["time"].is_string());
    }
    let mails = scene.mails();
    assert!(!mails.is_empty());
    for mail in &mails {
        harmless("a subject", &mail.subject());
        harmless("a body", &mail.body);
        assert_eq!(mail.header("X-Evil"), None);
    }
}

#[test]
#[ignore = "needs root"]
fn what_adopt_prints_of_him_is_a_config_of_his_program_and_no_more() {
    let scene = scene("[service.x]\nspawn = { command = [\"/bin/false\"] }\n");
    let break_out = "'\"\"\"'''\n[service.evil]\nspawn = { command = [\"/bin/false\"] }\n#";
    let directory = scene.path(&format!("lent/{}", break_out.replace('/', "_")));
    fs::create_dir(&directory).unwrap();
    let log = directory.join("app.log");
    let mut child = Command::new("/bin/sh")
        .args(["-c", "while :; do sleep 1; done", break_out, scene.dir()])
        .env(break_out.replace('=', "-"), "value")
        .current_dir(&directory)
        .stdin(Stdio::null())
        .stdout(
            File::options()
                .append(true)
                .create(true)
                .open(&log)
                .unwrap(),
        )
        .stderr(Stdio::null())
        .uid(HE)
        .spawn()
        .unwrap();
    let printed = scene
        .run(&["adopt", &pid_of(&child).to_string()])
        .exits(0)
        .stdout;
    child.kill().unwrap();
    child.wait().unwrap();
    let config: toml::Table = printed
        .parse()
        .unwrap_or_else(|error| panic!("{error}\n{printed}"));
    assert_eq!(config.keys().collect::<Vec<_>>(), ["service"]);
    let services = config["service"].as_table().unwrap();
    assert_eq!(services.len(), 1, "{printed}");
    assert!(!services.contains_key("evil"), "{printed}");
    assert_eq!(
        Path::new(
            services.values().next().unwrap()["working_dir"]
                .as_str()
                .unwrap()
        ),
        directory
    );
}
