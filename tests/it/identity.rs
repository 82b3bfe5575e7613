//! Whose process is it: PID files, command lines, users, states. No stranger is ever signalled, and no second copy of
//! a program that runs is ever started.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use serde_json::Value;

use crate::scene::{Outcome, Proc, Scene, Service, alive, numbers, pid_of, root, signal};

/// A service that is known by its PID file alone.
fn by_pid_file(name: &str) -> Service {
    Service::new(name).known_by(Some(&format!("{{ pid_file = \"{name}.pid\" }}")))
}

/// A service that is known by its command line alone, its program writing no PID file.
fn by_command_line(name: &str) -> Service {
    Service::new(name).no_options().known_by(Some(&format!(
        "{{ command_line = '{{dir}}/prog\\.sh {name}( |$)' }}"
    )))
}

#[test]
fn a_program_that_is_not_there_is_started_once_and_left_alone() {
    let scene = Scene::of(&[&Service::new("a")]);
    scene.check().restarted_for("a", "process_missing");
    let pid = scene.last("a");
    for _ in 0..3 {
        let outcome = scene.check().exits(0).verdict("a", "healthy");
        assert_eq!(outcome.service("a")["pid"], pid);
        assert_eq!(outcome.service("a")["action"], Value::Null);
    }
    assert_eq!(scene.starts("a"), [pid]);
    assert_eq!(scene.copies("a"), 1);
}

#[test]
fn f01_a_pid_file_that_names_a_stranger_is_not_believed() {
    let scene = Scene::of(&[&Service::new("a")]);
    let stranger = scene.start("stranger", &["traps=TERM HUP INT QUIT USR1 USR2"]);
    scene.write("a.pid", format!("{stranger}\n"));
    scene.check().restarted_for("a", "process_missing");
    assert!(alive(stranger));
    assert_eq!(scene.read("stranger.signals"), "");
    assert_eq!(numbers(&scene.read("a.pid")), [scene.last("a")]);
    assert_eq!(scene.copies("a"), 1);
    scene.check().exits(0).verdict("a", "healthy");
}

#[test]
fn f01_a_process_of_another_user_is_a_stranger() {
    // neither root nor whoever runs the tests
    let other = if root() { "daemon" } else { "root" };
    let service = Service::new("a")
        .known_by(Some(&format!(
            "{{ pid_file = \"a.pid\", command_line = '{{dir}}/prog\\.sh a( |$)', user = \"{other}\" }}"
        )))
        .watched();
    let scene = Scene::of(&[&service]);
    let stranger = scene.start("a", &["pid_file=a.pid"]);
    scene
        .check()
        .exits(2)
        .verdict("a", "down")
        .finds("a", "process_missing");
    assert!(alive(stranger));
}

#[test]
fn f01_the_right_user_by_name_or_number_is_no_stranger() {
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid).unwrap().unwrap().name;
    for shown in [user, uid.to_string()] {
        let service = Service::new("a").known_by(Some(&format!(
            "{{ pid_file = \"a.pid\", user = \"{shown}\" }}"
        )));
        let scene = Scene::of(&[&service]);
        scene.start("a", &["pid_file=a.pid"]);
        scene.check().exits(0).verdict("a", "healthy");
    }
}

#[test]
fn f01_a_recycled_pid_is_another_process() {
    let scene = Scene::of(&[&by_pid_file("a")]);
    let stranger = scene.start("stranger", &["traps=TERM HUP INT QUIT"]);
    scene.write("a.pid", format!("{stranger}\n"));
    scene.check().exits(0).verdict("a", "healthy");
    // as if the process of the first run had started at another time
    scene.edit_state(|state| {
        let moved = move_starts(&mut state["services"]["a"]["process"]);
        assert!(moved > 0, "no start time in {state}");
    });
    scene.check().restarted_for("a", "process_missing");
    assert!(alive(stranger));
    assert_eq!(scene.read("stranger.signals"), "");
    assert_eq!(scene.copies("a"), 1);
}

/// Takes a second off every start time, in whole ticks, and counts them.
fn move_starts(value: &mut Value) -> usize {
    match value {
        Value::Object(fields) => fields
            .iter_mut()
            .map(|(key, value)| match value.as_u64() {
                Some(ticks) if key.starts_with("start") => {
                    *value = (ticks - 100).into();
                    1
                }
                _ => move_starts(value),
            })
            .sum(),
        Value::Array(values) => values.iter_mut().map(move_starts).sum(),
        _ => 0,
    }
}

#[test]
#[ignore = "needs root"]
fn f01_a_truly_recycled_pid_is_another_process() {
    let scene = Scene::of(&[&by_pid_file("a")]);
    let space = PidNamespace::new(&scene);
    space.run("{watchdog} check --json").exits(1);
    let outcome = space.run(
        "pid=$(cat {dir}/a.pid)
         kill -9 $pid
         while [ -e /proc/$pid ]; do sleep 0.05; done
         # the kernel gives the next number after this one
         while :; do
             echo $((pid - 1)) >/proc/sys/kernel/ns_last_pid
             /bin/sh {dir}/prog.sh stranger </dev/null >/dev/null 2>&1 &
             [ $! = $pid ] && break
             kill -9 $!
         done
         [ $(cat {dir}/a.pid) = $! ] || exit 99
         {watchdog} check --json
         code=$?
         kill -0 $pid || exit 98
         [ $(cat {dir}/a.pid) != $pid ] || exit 97
         exit $code",
    );
    outcome.restarted_for("a", "process_missing");
    assert_eq!(scene.copies("a"), 1);
    assert_eq!(scene.copies("stranger"), 1);
}

#[test]
fn f02_a_pid_file_older_than_the_boot_names_nobody() {
    let scene = Scene::of(&[&by_pid_file("a")]);
    let stranger = scene.start("stranger", &["traps=TERM HUP INT QUIT"]);
    scene.write("a.pid", format!("{stranger}\n"));
    scene.set_mtime("a.pid", SystemTime::UNIX_EPOCH + Duration::from_hours(24));
    scene.check().restarted_for("a", "process_missing");
    assert!(alive(stranger));
    assert_eq!(scene.read("stranger.signals"), "");
    assert_eq!(scene.copies("a"), 1);
}

#[test]
fn f02_an_old_pid_file_with_the_right_command_line_behind_it_is_right() {
    let scene = Scene::of(&[&Service::new("a")]);
    let pid = scene.start("a", &["pid_file=a.pid"]);
    scene.set_mtime("a.pid", SystemTime::UNIX_EPOCH + Duration::from_hours(24));
    let outcome = scene.check();
    assert!([0, 1].contains(&outcome.code), "{}", outcome.code);
    assert_eq!(outcome.service("a")["pid"], pid);
    assert_eq!(scene.starts("a"), [pid]);
    assert!(alive(pid));
}

#[test]
fn f03_an_empty_pid_file_starts_no_second_copy_of_what_is_found_by_its_command_line() {
    let scene = Scene::of(&[&Service::new("a")]);
    let pid = scene.start("a", &[]);
    scene.write("a.pid", "");
    scene
        .check()
        .exits(1)
        .verdict("a", "degraded")
        .finds("a", "pid_file_stale");
    assert_eq!(scene.starts("a"), [pid]);
}

#[test]
fn f03_an_empty_pid_file_names_nobody() {
    let scene = Scene::of(&[&by_pid_file("a")]);
    scene.write("a.pid", "");
    scene.check().restarted_for("a", "process_missing");
    assert_eq!(numbers(&scene.read("a.pid")), [scene.last("a")]);
}

#[test]
fn f04_only_one_positive_integer_on_the_first_line_is_a_pid() {
    let scene = Scene::new();
    let pid = scene.start("program", &["traps=TERM HUP INT QUIT"]);
    let good = [
        format!("{pid}"),
        format!("{pid}\n"),
        format!(" {pid}"),
        format!("\t{pid} \n"),
        format!("{pid}\r\n"),
        format!("{pid}\n/var/lib/data\n1795317904\n"),
        format!("{pid}\n\n\n"),
    ];
    let bad = [
        String::new(),
        "\n".to_owned(),
        " \n".to_owned(),
        "hello\n".to_owned(),
        "0\n".to_owned(),
        "-1\n".to_owned(),
        "1\n".to_owned(),
        "99999999\n".to_owned(),
        format!("{pid} junk\n"),
        format!("junk {pid}\n"),
        format!("+{pid}\n"),
        format!("-{pid}\n"),
        format!("\u{feff}{pid}\n"),
        format!("{pid}.0\n"),
        format!("0x{pid:x}\n"),
        format!("\n{pid}\n"),
        format!("{pid}\0\n"),
        "9".repeat(30),
        // two to the power of 32 more, and of 64
        format!("{}\n", i64::from(pid) + (1 << 32)),
        format!("{}\n", i128::from(pid) + (1 << 64)),
        format!("{pid}{}\n", " ".repeat(5000)),
        format!("{pid}\n{}", "x".repeat(5000)),
    ];
    let mut services = Vec::new();
    for (kind, contents) in [("good", &good[..]), ("bad", &bad[..])] {
        for (number, content) in contents.iter().enumerate() {
            let name = format!("{kind}{number}");
            scene.write(&format!("{name}.pid"), content);
            services.push(by_pid_file(&name).watched());
        }
    }
    scene.config(&crate::scene::render(&services.iter().collect::<Vec<_>>()));
    let outcome = scene.check().exits(2);
    for (number, content) in good.iter().enumerate() {
        let service = outcome.service(&format!("good{number}"));
        assert_eq!(service["verdict"], "healthy", "{content:?}");
        assert_eq!(service["pid"], pid);
    }
    for (number, content) in bad.iter().enumerate() {
        let name = format!("bad{number}");
        let service = outcome.service(&name);
        assert_eq!(service["verdict"], "down", "{content:?}: {service}");
        assert_eq!(outcome.codes(&name), ["process_missing"], "{content:?}");
        assert_eq!(service["pid"], Value::Null);
    }
    assert!(alive(pid));
    assert_eq!(scene.read("program.signals"), "");
}

#[test]
fn f04_a_pid_that_means_a_group_never_reaches_a_signal() {
    // 0 is the watchdog's own group to kill(2), so this shell would not come back to tell
    let scene = Scene::of(&[&by_pid_file("a")]);
    scene.write("a.pid", "0\n");
    let outcome = scene.shell("{watchdog} check --json; code=$?; echo back >&2; exit $code");
    outcome.exits(1).verdict("a", "restarted");
    assert_eq!(scene.copies("a"), 1);
}

#[test]
#[ignore = "needs root"]
fn f04_no_pid_file_makes_it_signal_everybody() {
    let services: Vec<Service> = ["a", "b"].iter().map(|name| by_pid_file(name)).collect();
    let scene = Scene::of(&services.iter().collect::<Vec<_>>());
    let space = PidNamespace::new(&scene);
    scene.write("a.pid", "-1\n");
    scene.write("b.pid", "1\n");
    let outcome = space.run(
        "/bin/sh {dir}/prog.sh bystander </dev/null >/dev/null 2>&1 &
         {watchdog} check --json; code=$?
         kill -0 $! || exit 99
         exit $code",
    );
    outcome.exits(1);
    assert_eq!(scene.copies("bystander"), 1);
    assert_eq!(scene.copies("a"), 1);
    assert_eq!(scene.copies("b"), 1);
}

#[test]
fn f04_the_watchdogs_own_pid_is_nobodys() {
    let scene = Scene::of(&[&by_pid_file("a")]);
    let outcome = scene.shell("echo $$ >{dir}/a.pid; exec {watchdog} check --json");
    outcome.restarted_for("a", "process_missing");
}

#[test]
fn f05_what_is_no_regular_pid_file_names_nobody_and_blocks_nothing() {
    let names = ["fifo", "directory", "device", "dangling", "gigabyte"];
    let services: Vec<Service> = names.iter().map(|n| by_pid_file(n).watched()).collect();
    let scene = Scene::of(&services.iter().collect::<Vec<_>>());
    nix::unistd::mkfifo(&scene.path("fifo.pid"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    fs::create_dir(scene.path("directory.pid")).unwrap();
    symlink("/dev/zero", scene.path("device.pid")).unwrap();
    symlink("nowhere", scene.path("dangling.pid")).unwrap();
    fs::File::create(scene.path("gigabyte.pid"))
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    let outcome = scene.check().exits(2);
    for name in names {
        assert_eq!(outcome.codes(name), ["process_missing"], "{name}");
        assert_eq!(outcome.service(name)["verdict"], "down");
    }
}

#[test]
fn f06_a_threads_id_is_no_process() {
    let scene = Scene::of(&[&by_pid_file("a").watched()]);
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        tell.send(nix::unistd::gettid().as_raw()).unwrap();
        let _ = wait.recv();
    });
    scene.write("a.pid", format!("{}\n", told.recv().unwrap()));
    let outcome = scene.check();
    drop(done);
    thread.join().unwrap();
    outcome
        .exits(2)
        .verdict("a", "down")
        .finds("a", "process_missing");
}

#[test]
fn f07_a_zombie_is_dead() {
    let scene = Scene::of(&[&by_pid_file("a")]);
    let mut child = scene.start_unreaped("a", &["exit=0"], 0);
    let zombie = pid_of(&child);
    scene.wait_until("the zombie", || {
        Proc::of(zombie).is_some_and(|p| p.state == 'Z')
    });
    scene.write("a.pid", format!("{zombie}\n"));
    let outcome = scene.check();
    child.wait().unwrap();
    outcome.restarted_for("a", "process_zombie");
    assert_eq!(scene.starts("a").len(), 2);
    assert_eq!(scene.copies("a"), 1);
}

#[test]
fn f08_a_stopped_process_is_restarted() {
    let scene = Scene::of(&[&Service::new("a")]);
    scene.check().exits(1);
    let old = scene.last("a");
    scene.freeze(old);
    let outcome = scene.check().restarted_for("a", "process_stopped");
    assert_eq!(outcome.severity("a", "process_stopped"), "critical");
    assert_eq!(outcome.service("a")["action"]["old_pid"], old);
    assert_eq!(outcome.service("a")["action"]["new_pid"], scene.last("a"));
    assert!(!alive(old));
    assert_eq!(scene.copies("a"), 1);
}

#[test]
#[ignore = "needs root"]
fn f08_a_traced_process_is_somebodys_work() {
    let scene = Scene::of(&[&Service::new("a")]);
    scene.check().exits(1);
    let pid = scene.last("a");
    scene.write(
        "trace.py",
        "import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(16, int(sys.argv[1]), 0, 0) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
while True:
    time.sleep(60)
",
    );
    let script = format!("exec python3 {{dir}}/trace.py {pid}");
    let tracer = scene.begin(scene.shell_command(&script));
    scene.wait_until("the tracer", || {
        Proc::of(pid).is_some_and(|p| p.state == 't')
    });
    let outcome = scene.check();
    scene.kill(tracer.pid());
    scene.end(tracer);
    let outcome = outcome.exits(1).verdict("a", "degraded");
    assert_eq!(outcome.severity("a", "process_stopped"), "warning");
    assert_eq!(scene.starts("a"), [pid]);
}

#[test]
fn f09_the_watchdog_and_its_ancestors_are_never_the_program() {
    let service = Service::new("a")
        .known_by(Some("{ command_line = '{dir}' }"))
        .watched();
    let scene = Scene::of(&[&service]);
    // the shell has the directory in its command line as well, as cron's shell has the crontab's line
    let outcome = scene.shell("true {dir}; {watchdog} check --json; code=$?; exit $code");
    outcome
        .exits(2)
        .verdict("a", "down")
        .finds("a", "process_missing");
}

#[test]
fn f10_long_and_odd_command_lines_are_matched_as_bytes() {
    let services = [
        by_command_line("long")
            .known_by(Some("{ command_line = '{dir}/prog\\.sh long .*the-end$' }"))
            .watched(),
        by_command_line("bytes")
            .known_by(Some("{ command_line = '{dir}/prog\\.sh bytes .*marker' }"))
            .watched(),
        by_command_line("bare").watched(),
    ];
    let scene = Scene::of(&services.iter().collect::<Vec<_>>());
    let long = "x".repeat(100 << 10);
    let options: [&[&OsStr]; 3] = [
        &[OsStr::new(&long), OsStr::new(&long), OsStr::new("the-end")],
        &[
            OsStr::from_bytes(b"\xff\xfe\x80"),
            OsStr::new(""),
            OsStr::new("marker"),
        ],
        &[OsStr::new("")],
    ];
    let children: Vec<_> = ["long", "bytes", "bare"]
        .iter()
        .zip(options)
        .map(|(name, options)| {
            let child = scene.start_with(name, options, 0);
            scene.wait_until("its start", || scene.has(&format!("{name}.up")));
            child
        })
        .collect();
    let outcome = scene.check();
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let outcome = outcome.exits(0);
    for name in ["long", "bytes", "bare"] {
        assert_eq!(outcome.service(name)["verdict"], "healthy", "{name}");
    }
}

#[test]
fn f11_a_name_like_a_stat_line_confuses_nobody() {
    let scene = Scene::of(&[&by_pid_file("a")]);
    // the name of a script's process is that of its file
    let odd = scene.path("a) R 1 (b");
    fs::copy("/bin/sleep", &odd).unwrap();
    let mut child = std::process::Command::new(&odd)
        .arg("1000")
        .spawn()
        .unwrap();
    let pid = pid_of(&child);
    scene.write("a.pid", format!("{pid}\n"));
    let running = scene.check();
    signal(pid, Signal::SIGSTOP);
    scene.wait_until("it to stop", || {
        Proc::of(pid).is_some_and(|p| p.state == 'T')
    });
    let stopped = scene.run(&["check", "--json", "--dry-run"]);
    child.kill().unwrap();
    child.wait().unwrap();
    running.exits(0).verdict("a", "healthy");
    stopped.exits(1).finds("a", "process_stopped");
}

#[test]
#[ignore = "needs root"]
fn f12_what_may_not_be_seen_is_unknown_and_never_dead() {
    // what the watchdog would start itself it could see; another user's program it could not
    let scene = Scene::of(&[&by_pid_file("file"), &by_command_line("line").watched()]);
    let hidden = scene.start("file", &["pid_file=file.pid"]);
    scene.start("line", &[]);
    let copy = scene.public_watchdog();
    for name in ["file.pid", "watchdog.toml", "prog.sh"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(scene.path(name), mode).unwrap();
    }
    fs::create_dir(scene.path("state")).unwrap();
    std::os::unix::fs::chown(scene.path("state"), Some(65534), Some(65534)).unwrap();
    let script = format!(
        "exec unshare -m /bin/sh -c 'mount -t proc -o hidepid=2 proc /proc &&
            exec setpriv --reuid=65534 --regid=65534 --clear-groups {} --config {{dir}}/watchdog.toml check --json'",
        copy.display()
    );
    let outcome = scene.shell(&script).exits(3);
    for name in ["file", "line"] {
        assert_eq!(outcome.service(name)["verdict"], "unknown");
        assert_eq!(outcome.codes(name), ["process_unreadable"]);
        assert_eq!(scene.starts(name).len(), 1);
    }
    assert!(alive(hidden));
}

#[test]
fn f13_a_program_without_its_pid_file_gets_no_second_copy() {
    let scene = Scene::of(&[&Service::new("a")]);
    scene.check().exits(1).verdict("a", "restarted");
    let pid = scene.last("a");
    fs::remove_file(scene.path("a.pid")).unwrap();
    for _ in 0..2 {
        let outcome = scene
            .check()
            .exits(1)
            .verdict("a", "degraded")
            .finds("a", "pid_file_stale");
        assert_eq!(outcome.service("a")["pid"], pid);
    }
    assert_eq!(scene.starts("a"), [pid]);
}

#[test]
fn f13_a_pid_file_that_names_the_dead_hides_no_living_copy() {
    let scene = Scene::of(&[&Service::new("a")]);
    let pid = scene.start("a", &[]);
    let dead = scene.start("gone", &[]);
    scene.kill_and_reap(dead);
    scene.write("a.pid", format!("{dead}\n"));
    scene.check().exits(1).finds("a", "pid_file_stale");
    assert_eq!(scene.starts("a"), [pid]);
}

#[test]
#[ignore = "needs python3"]
fn f14_threads_are_not_processes() {
    let service = Service::new("a")
        .known_by(Some("{ command_line = '{dir}/threads\\.py' }"))
        .watched();
    let scene = Scene::of(&[&service]);
    scene.write(
        "threads.py",
        "import threading, time
for _ in range(5):
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
open('ready', 'w').close()
time.sleep(600)
",
    );
    let program = scene.begin(scene.shell_command("exec python3 {dir}/threads.py"));
    scene.wait_until("its threads", || scene.has("ready"));
    let outcome = scene.check();
    scene.kill(program.pid());
    scene.end(program);
    outcome
        .exits(0)
        .verdict("a", "healthy")
        .lacks("a", "too_many_processes");
}

#[test]
fn two_unrelated_matches_are_a_warning() {
    let scene = Scene::of(&[&by_command_line("a")]);
    scene.start("a", &["copy=1"]);
    scene.start("a", &["copy=2"]);
    scene
        .check()
        .exits(1)
        .verdict("a", "degraded")
        .finds("a", "too_many_processes");
    assert_eq!(scene.starts("a").len(), 2);
}

#[test]
fn a_parent_and_its_workers_are_one() {
    let scene = Scene::of(&[&by_command_line("a")]);
    let pid = scene.start("a", &["workers=3"]);
    let outcome = scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(outcome.service("a")["pid"], pid);
}

#[test]
fn a_program_found_by_its_command_line_is_not_started_again() {
    let scene = Scene::of(&[&by_command_line("a")]);
    let pid = scene.start("a", &[]);
    scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(scene.starts("a"), [pid]);
    scene.kill(pid);
    scene.check().exits(1).verdict("a", "restarted");
    assert_eq!(scene.starts("a").len(), 2);
    assert_eq!(scene.copies("a"), 1);
}

#[test]
#[ignore = "needs root"]
fn a_process_in_another_pid_namespace_is_another_machines() {
    let service = Service::new("a")
        .no_options()
        .known_by(Some("{ command_line = '^/bin/sh {dir}/prog\\.sh a( |$)' }"));
    let scene = Scene::of(&[&service]);
    let script = "exec unshare -p -f --kill-child=KILL /bin/sh {dir}/prog.sh a";
    let container = scene.begin(scene.shell_command(script));
    scene.wait_until("its start", || !scene.starts("a").is_empty());
    scene.check().restarted_for("a", "process_missing");
    assert_eq!(scene.starts("a").len(), 2);
    assert_eq!(scene.copies("a"), 2, "one here, one in there");
    scene.kill(container.pid());
    scene.end(container);
}

#[test]
fn a_service_of_spawn_alone_is_known_by_what_was_started() {
    let service = Service::new("a").no_options().known_by(None);
    let scene = Scene::of(&[&service]);
    scene.check().exits(1).verdict("a", "restarted");
    let pid = scene.last("a");
    let outcome = scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(outcome.service("a")["pid"], pid);
    scene.kill(pid);
    scene.check().exits(1).verdict("a", "restarted");
    assert_eq!(scene.starts("a").len(), 2);
    scene.check().exits(0);
    assert_eq!(scene.copies("a"), 1);
}

#[test]
fn a_lost_state_starts_no_second_copy() {
    let spawn_only = Service::new("a").no_options().known_by(None);
    for service in [
        spawn_only,
        by_command_line("a"),
        Service::new("a"),
        by_pid_file("a"),
    ] {
        let scene = Scene::of(&[&service]);
        scene.check().exits(1).verdict("a", "restarted");
        let pid = scene.last("a");
        fs::remove_dir_all(scene.path("state")).unwrap();
        scene.check();
        scene.check();
        assert_eq!(scene.starts("a"), [pid]);
        assert!(alive(pid));
    }
}

#[test]
fn a_spoilt_state_starts_no_second_copy() {
    let service = Service::new("a").no_options().known_by(None);
    let scene = Scene::of(&[&service]);
    scene.check().exits(1).verdict("a", "restarted");
    scene.check().exits(0);
    let pid = scene.last("a");
    scene.write("state/state.json", "{");
    scene.write("state/state.json.bak", "{");
    scene.check();
    scene.check();
    scene.check();
    assert_eq!(scene.starts("a"), [pid]);
    assert!(alive(pid));
}

#[test]
fn a_bystander_in_the_same_group_is_not_signalled() {
    let scene = Scene::of(&[&Service::new("a")]);
    let bystander = scene.start("bystander", &["traps=TERM HUP INT"]);
    let old = scene.start_in("a", &["pid_file=a.pid"], bystander);
    scene.freeze(old);
    scene.check().exits(1).verdict("a", "restarted");
    assert!(!alive(old));
    assert!(alive(bystander));
    assert_eq!(scene.read("bystander.signals"), "");
}

#[test]
#[ignore = "needs root"]
fn a_pid_file_that_others_can_write_signals_no_process_of_root() {
    let service = Service::new("a").known_by(Some("{ pid_file = \"lent/a.pid\" }"));
    let service = service.spawn("user", "\"nobody\"").spawn(
        "command",
        "[\"/bin/sh\", \"{dir}/lent/prog.sh\", \"a\", \"pid_file=a.pid\"]",
    );
    let scene = Scene::of(&[&service]);
    scene.lend("lent", "nobody");
    let victim = scene.start("victim", &["traps=TERM HUP INT QUIT"]);
    scene.write("lent/a.pid", format!("{victim}\n"));
    std::os::unix::fs::chown(scene.path("lent/a.pid"), Some(65534), Some(65534)).unwrap();
    // frozen, so that whoever takes it for the service's own would want to end it
    scene.freeze(victim);
    let outcome = scene.check();
    assert!([1, 2].contains(&outcome.code), "{}", outcome.code);
    assert!(alive(victim));
    signal(victim, Signal::SIGCONT);
    scene.check();
    assert!(alive(victim));
    assert_eq!(scene.read("victim.signals"), "");
}

/// A program that works on in a thread after its main thread has ended; then it writes its PID file.
const ENDS_ITS_MAIN_THREAD: &str = r#"
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static char **words;
static pthread_t first;

static void *work(void *nothing) {
    pthread_join(first, NULL);
    for (int i = 1; i < 3; i++) {
        FILE *file = fopen(words[i], i == 1 ? "w" : "a");
        fprintf(file, "%d\n", getpid());
        fclose(file);
    }
    for (;;) pause();
    return nothing;
}

int main(int count, char **values) {
    pthread_t worker;
    words = values;
    first = pthread_self();
    pthread_create(&worker, NULL, work, NULL);
    pthread_exit(NULL);
}
"#;

#[test]
fn a_process_lives_on_after_its_main_thread_and_is_stopped_with_all_of_its_threads() {
    for process in [
        Some("{ pid_file = \"z.pid\" }"),
        Some("{ command_line = '{dir}/z ' }"),
        Some("{ pid_file = \"z.pid\", command_line = '{dir}/z ' }"),
        None,
    ] {
        let service = Service::new("z")
            .known_by(process)
            .spawn("command", "[\"{dir}/z\", \"z.pid\", \"z.starts\"]")
            .log("path = \"z.log\"\nmax_age = \"1h\"");
        let scene = Scene::of(&[&service]);
        scene.write("z.c", ENDS_ITS_MAIN_THREAD);
        scene
            .shell("cc -pthread -o {dir}/z {dir}/z.c 2>&1")
            .exits(0);
        scene.write("z.log", "old\n");
        scene.age("z.log", Duration::from_hours(2));
        let starts = || numbers(&scene.read("z.starts"));
        let has_lost_its_main_thread = |pid: i32| {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|it| it.contains(") Z "))
        };
        scene.check().exits(1).verdict("z", "restarted");
        scene.wait_until("the end of its main thread", || {
            starts().len() == 1 && has_lost_its_main_thread(starts()[0])
        });
        let pid = starts()[0];
        scene.write("z.log", "fresh\n");
        let outcome = scene.check().exits(0).verdict("z", "healthy");
        assert_eq!(outcome.service("z")["pid"], pid, "{process:?}");
        // and one that must go is stopped before another is started
        scene.age("z.log", Duration::from_hours(2));
        scene.check().exits(1).restarted_for("z", "log_stale");
        assert!(!alive(pid), "{process:?}: two copies");
        scene.wait_until("the second start", || starts().len() == 2);
        scene.write("z.log", "fresh\n");
        scene.check().exits(0).verdict("z", "healthy");
        assert_eq!(starts().len(), 2, "{process:?}");
        // nor is one started beside it when nothing is remembered
        scene.wait_until("the end of its main thread", || {
            has_lost_its_main_thread(starts()[1])
        });
        fs::remove_dir_all(scene.path("state")).unwrap();
        let outcome = scene.check().exits(0).verdict("z", "healthy");
        assert_eq!(outcome.service("z")["pid"], starts()[1], "{process:?}");
        // that all of its threads are stopped by a signal is seen by another one
        signal(starts()[1], Signal::SIGSTOP);
        let tasks = format!("/proc/{}/task", starts()[1]);
        scene.wait_until("its threads to stop", || {
            let threads = fs::read_dir(&tasks).unwrap().flatten();
            let stat = |path: std::path::PathBuf| {
                fs::read_to_string(path.join("stat")).unwrap_or_default()
            };
            threads
                .map(|it| stat(it.path()))
                .any(|it| it.contains(") T "))
        });
        let outcome = scene.check().exits(1);
        outcome.restarted_for("z", "process_stopped");
    }
}

/// A PID namespace of the scene's own: numbers can be used up in it, and a signal to all hits nobody outside.
struct PidNamespace<'a> {
    scene: &'a Scene,
    init: i32,
}

impl<'a> PidNamespace<'a> {
    fn new(scene: &'a Scene) -> Self {
        let mut holder = scene.shell_command(
            "exec unshare -p -f --mount-proc --kill-child=KILL /bin/sh -c 'while :; do sleep 0.05; done' {dir}",
        );
        let mut child = holder
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let parent = pid_of(&child);
        std::thread::spawn(move || child.wait());
        let init = || {
            crate::scene::processes()
                .into_iter()
                .find(|p| p.parent == parent)
                .map(|p| p.pid)
        };
        // its own /proc is mounted once it runs the shell
        scene.wait_until("the namespace", || {
            init().is_some_and(|pid| {
                Proc::of(pid).is_some_and(|p| p.command_line().starts_with("/bin/sh"))
            })
        });
        let init = init().unwrap();
        Self { scene, init }
    }

    fn run(&self, script: &str) -> Outcome {
        let mut command = self.scene.shell_command(script);
        let script = command.get_args().nth(1).unwrap().to_owned();
        command = self.scene.shell_command("exec \"$@\"");
        command.arg("sh").arg("nsenter").arg("-t");
        command.arg(self.init.to_string()).args(["-p", "-m", "--"]);
        command.args(["/bin/sh", "-c"]).arg(script);
        self.scene.finish(command)
    }
}
