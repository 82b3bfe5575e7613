//! What surely is the service's own is believed to be running before a second copy is started: the process that was
//! started last, and what runs the very command of `spawn`, also where the state was lost or a PID file looks older than
//! the boot.

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::scene::{Scene, Service, alive, render, root};

/// A service that is known by its PID file alone.
fn by_pid_file(name: &str) -> Service {
    Service::new(name).known_by(Some(&format!("{{ pid_file = \"{name}.pid\" }}")))
}

/// A service that is known by what was started alone.
fn by_start(name: &str) -> Service {
    Service::new(name).no_options().known_by(None)
}

/// A service whose start script becomes the program.
fn becoming(process: Option<&str>) -> Scene {
    let service = Service::new("a")
        .known_by(process)
        .spawn("command", "[\"{dir}/start.sh\"]");
    let scene = Scene::of(&[&service]);
    scene.write(
        "start.sh",
        "#!/bin/sh\nexec /bin/sh \"${0%/*}/prog.sh\" a pid_file=a.pid\n",
    );
    scene.shell("chmod +x {dir}/start.sh").exits(0);
    scene.check().exits(1).verdict("a", "restarted");
    scene
}

/// The entries of the journal that say what was started.
fn started(scene: &Scene) -> Vec<Value> {
    let entries = scene.journal().into_iter();
    entries
        .filter(|entry| entry["event"] == "restarted")
        .map(|entry| entry["started"].clone())
        .collect()
}

#[test]
fn what_was_started_last_is_known_by_the_journal_whatever_it_has_become() {
    for process in [None, Some("{ pid_file = \"a.pid\" }")] {
        for (state, backup) in [(None, None), (Some("{"), None), (Some("{"), Some("{"))] {
            let scene = becoming(process);
            let pid = scene.last("a");
            assert_eq!(started(&scene)[0]["pid"], pid);
            let _ = fs::remove_file(scene.path("a.pid"));
            for (name, content) in [("state.json", state), ("state.json.bak", backup)] {
                let path = format!("state/{name}");
                match content {
                    Some(content) => scene.write(&path, content),
                    // the backup is of before the end of the restart
                    None if state.is_some() => {}
                    None => fs::remove_file(scene.path(&path)).unwrap(),
                }
            }
            for _ in 0..3 {
                let outcome = scene.check();
                assert_eq!(outcome.service("a")["pid"], pid);
                assert_eq!(outcome.service("a")["action"], Value::Null);
            }
            assert_eq!(scene.starts("a"), [pid], "{process:?} {state:?} {backup:?}");
            // and it is restarted as ever
            scene.kill(pid);
            scene.check().exits(1).verdict("a", "restarted");
            assert_eq!(scene.starts("a").len(), 2);
        }
    }
}

#[test]
fn a_process_that_the_journal_does_not_name_to_the_tick_is_another() {
    let edit = |key: &str, value: Value| {
        let scene = becoming(None);
        let journal = scene.journal().into_iter();
        let lines = journal.map(|mut entry| {
            if let Some(started) = entry["started"].as_object_mut() {
                started[key] = value.clone();
            }
            format!("{entry}\n")
        });
        let lines: String = lines.collect();
        fs::remove_dir_all(scene.path("state")).unwrap();
        scene.shell("mkdir -m 700 {dir}/state").exits(0);
        scene.write("state/journal.jsonl", lines);
        let pid = scene.last("a");
        scene.check().restarted_for("a", "process_missing");
        assert!(alive(pid), "it is nobody's");
    };
    edit("start", 1.into());
    edit("boot_id", "another".into());
    edit("pid", i32::MAX.into());
}

#[test]
fn what_was_started_last_runs_although_another_pattern_does_not_match_it() {
    let scene = Scene::of(&[&Service::new("a")]);
    scene.check().exits(1).verdict("a", "restarted");
    let pid = scene.last("a");
    let other = Service::new("a").known_by(Some("{ command_line = 'no-such-program' }"));
    scene.config(&render(&[&other]));
    for _ in 0..2 {
        let outcome = scene.run(&["check"]).exits(0);
        let text = outcome.words();
        assert!(
            text.contains(&format!(
                "PID {pid} does not match `no-such-program`, but is what was started last"
            )),
            "{text}"
        );
    }
    assert_eq!(scene.starts("a"), [pid]);
}

#[test]
fn a_pid_file_older_than_the_boot_may_name_what_runs_the_very_command_of_spawn() {
    for (command, is_believed) in [("a", true), ("b", false)] {
        let scene = Scene::of(&[&by_pid_file("a")]);
        let pid = scene.start(command, &["pid_file=a.pid"]);
        scene.set_mtime("a.pid", SystemTime::UNIX_EPOCH + Duration::from_hours(24));
        let outcome = scene.check();
        if is_believed {
            let outcome = outcome.exits(0).verdict("a", "healthy");
            assert_eq!(outcome.service("a")["pid"], pid);
            assert_eq!(scene.starts("a"), [pid]);
        } else {
            outcome.restarted_for("a", "process_missing");
            assert!(alive(pid));
        }
    }
}

#[test]
fn what_was_started_by_hand_with_the_command_of_spawn_gets_no_second_copy() {
    let by_line = Service::new("a").known_by(Some("{ command_line = 'no-such-program' }"));
    for (service, options, verdict) in [
        (by_start("a"), &[][..], "healthy"),
        (by_pid_file("a"), &["pid_file=a.pid"], "degraded"),
        (by_line, &["pid_file=a.pid"], "healthy"),
    ] {
        let scene = Scene::of(&[&service]);
        if verdict == "degraded" || options.is_empty() {
            scene.check().exits(1).verdict("a", "restarted");
            scene.kill(scene.last("a"));
        }
        let before = scene.starts("a").len();
        let pid = scene.start("a", options);
        let _ = fs::remove_file(scene.path("a.pid"));
        for run in 0..2 {
            let outcome = scene.check().verdict("a", verdict);
            assert_eq!(outcome.service("a")["pid"], pid, "{options:?}");
            // then it is the one that the last run saw
            if run == 0 && !options.is_empty() {
                let text = &outcome.stdout;
                assert!(text.contains("runs just the command of `spawn`"), "{text}");
            }
        }
        assert_eq!(scene.starts("a").len(), before + 1);
    }
}

#[test]
fn a_child_that_a_dead_program_left_behind_is_not_taken_for_it() {
    for service in [by_start("a"), by_pid_file("a")] {
        let scene = Scene::of(&[&service.option("workers=1")]);
        scene.check().exits(1).verdict("a", "restarted");
        scene.check().exits(0);
        let worker = *crate::scene::numbers(&scene.read("a.workers"))
            .first()
            .unwrap();
        scene.kill_and_reap(scene.last("a"));
        assert!(alive(worker));
        scene.check().restarted_for("a", "main_process_ended");
        assert!(!alive(worker));
        assert_eq!(scene.starts("a").len(), 2);
    }
}

/// A program whose workers are forks of it, with its arguments, as those of prefork servers and of multiprocessing.
fn prefork() -> Scene {
    let scene = Scene::with(
        "[service.a]\nstart_grace = \"0s\"\nspawn = { command = [\"/bin/sh\", \"{dir}/pre.sh\"] }\n\
         restart = { settle = \"300ms\", stop_timeout = \"20s\", max_per_hour = 9 }\n",
    );
    scene.write(
        "pre.sh",
        "dir=${0%/*}\n\
         for n in 1 2 3; do { read -r _ <>\"$dir/hold\"; } & echo $! >>\"$dir/a.workers\"; done\n\
         echo $$ >>\"$dir/a.starts\"\nread -r _ <>\"$dir/hold\"\n",
    );
    scene.shell("mkfifo hold").exits(0);
    scene.check().exits(1).verdict("a", "restarted");
    let is_up = || scene.starts("a").len() == 1 && workers(&scene).len() == 3;
    scene.wait_until("the program and its workers", is_up);
    scene
}

fn workers(scene: &Scene) -> Vec<i32> {
    crate::scene::numbers(&scene.read("a.workers"))
}

/// The workers are seen for what they are, and end before another program starts.
fn its_workers_are_not_the_service(scene: &Scene) {
    let (starts, orphans) = (scene.starts("a").len(), workers(scene));
    scene.check().restarted_for("a", "main_process_ended");
    for pid in &orphans {
        assert!(!alive(*pid), "PID {pid} runs beside the new program");
    }
    scene.wait_until("the new one and its workers", || {
        scene.starts("a").len() == starts + 1 && workers(scene).len() == orphans.len() + 3
    });
}

#[test]
fn the_workers_of_a_program_that_was_just_started_are_not_taken_for_it() {
    let scene = prefork();
    // no check has found it well since, after one restart and after the next
    for _ in 0..2 {
        scene.kill_and_reap(scene.last("a"));
        its_workers_are_not_the_service(&scene);
    }
    scene.check().exits(0).verdict("a", "healthy");
}

#[test]
fn the_workers_of_a_program_that_was_to_be_replaced_are_not_taken_for_it() {
    let scene = prefork();
    scene.check().exits(0).verdict("a", "healthy");
    // a run stops it, and is cut short
    scene.kill_and_reap(scene.last("a"));
    scene.edit_state(|state| {
        let time = state["last_run"].clone();
        state["services"]["a"]["interrupted_attempt"] = time;
    });
    its_workers_are_not_the_service(&scene);
}

#[test]
fn a_script_is_known_by_its_file_however_it_was_started() {
    let by_watchdog = None;
    for (command, by_hand) in [
        ("\"./run.sh\"", by_watchdog),
        ("\"./run.sh\"", Some("./run.sh")),
        ("\"./run.sh\"", Some("{dir}/run.sh")),
        ("\"./run.sh\"", Some("sh run.sh")),
        ("\"{dir}/run.sh\"", Some("./run.sh")),
        ("\"/bin/sh\", \"run.sh\"", Some("sh run.sh")),
        ("\"sh\", \"run.sh\"", Some("/bin/sh {dir}/run.sh")),
    ] {
        let service = by_start("a").spawn("command", &format!("[{command}]"));
        let scene = Scene::of(&[&service]);
        let script = "#!/bin/sh\necho $$ >>{dir}/a.starts\nread -r _ <>{dir}/hold\n";
        scene.write("run.sh", script.replace("{dir}", scene.dir()));
        scene
            .shell("mkfifo {dir}/hold && chmod +x {dir}/run.sh")
            .exits(0);
        if let Some(by_hand) = by_hand {
            scene
                .shell(&format!("(setsid {by_hand} </dev/null >/dev/null 2>&1 &)"))
                .exits(0);
            scene.wait_until("the program", || scene.starts("a").len() == 1);
        } else {
            scene.check().exits(1).verdict("a", "restarted");
            scene.wait_until("the program", || scene.starts("a").len() == 1);
            fs::remove_dir_all(scene.path("state")).unwrap();
        }
        let pid = scene.last("a");
        let outcome = scene.check().exits(0).verdict("a", "healthy");
        assert_eq!(outcome.service("a")["pid"], pid, "{command} {by_hand:?}");
        assert_eq!(scene.starts("a"), [pid], "{command} {by_hand:?}");
    }
}

#[test]
fn a_service_that_was_renamed_gets_no_second_copy() {
    let command = "[\"/bin/sh\", \"{dir}/prog.sh\", \"x\"]";
    let plain = |name: &str| by_start(name).spawn("command", command);
    let by_file = |name: &str| {
        let process = format!("{{ pid_file = \"{name}.pid\" }}");
        plain(name)
            .known_by(Some(&process))
            .spawn("write_pid_file", "true")
    };
    let with_probe = |name: &str| {
        let probe = "command = [\"test\", \"-e\", \"{dir}/x.starts\"]";
        plain(name).rest(&format!("[[service.{name}.exec]]\n{probe}\n"))
    };
    let kinds: [&dyn Fn(&str) -> Service; 3] = [&plain, &by_file, &with_probe];
    for (kind, of) in kinds.iter().enumerate() {
        for between in ["nothing", "disabled", "a run without it", "a lost state"] {
            let scene = Scene::of(&[&of("old")]);
            scene.check().exits(1).verdict("old", "restarted");
            let pid = scene.last("x");
            let mut config = render(&[&of("new")]);
            match between {
                "disabled" => config += &render(&[&of("old").top("enabled", "false")]),
                "a run without it" => {
                    scene.config(&render(&[&Service::new("other")]));
                    scene.check().exits(1).verdict("other", "restarted");
                }
                "a lost state" => {
                    fs::remove_file(scene.path("state/state.json")).unwrap();
                    fs::remove_file(scene.path("state/state.json.bak")).unwrap();
                }
                _ => {}
            }
            scene.config(&config);
            for _ in 0..2 {
                let outcome = scene.check();
                let new = outcome.service("new");
                assert_eq!(new["action"], Value::Null, "{kind} {between}");
                assert_eq!(new["pid"], pid, "{kind} {between}");
            }
            assert_eq!(scene.starts("x"), [pid], "{kind} {between}");
        }
    }
}

#[test]
fn what_was_started_last_is_not_started_again_as_another_user() {
    let name = |uid| nix::unistd::User::from_uid(uid).unwrap().unwrap().name;
    let own = name(nix::unistd::geteuid());
    let other = if root() { "daemon" } else { "root" };
    let line = "command_line = '{dir}/prog\\.sh a( |$)'";
    for (rule, verdict) in [(line, "healthy"), ("pid_file = \"a.pid\"", "degraded")] {
        // with what is remembered, and by the command of `spawn` alone
        for is_lost in [false, true] {
            let of = |user: &str| {
                Service::new("a").known_by(Some(&format!("{{ {rule}, user = \"{user}\" }}")))
            };
            let scene = Scene::of(&[&of(&own)]);
            scene.check().exits(1).verdict("a", "restarted");
            let pid = scene.last("a");
            if is_lost {
                fs::remove_dir_all(scene.path("state")).unwrap();
            }
            scene.config(&render(&[&of(other)]));
            let why = if is_lost {
                "runs just the command of `spawn`"
            } else {
                "is what was started last"
            };
            let outcome = scene.check().verdict("a", verdict);
            let text = &outcome.stdout;
            assert_eq!(outcome.service("a")["pid"], pid);
            assert!(
                text.contains(&format!("PID {pid} runs as user {own}, not {other}")),
                "{text}"
            );
            assert!(text.contains(why), "{text}");
            assert_eq!(scene.starts("a"), [pid]);
            // and of one that is gone, it is not said that nobody runs it
            if verdict == "healthy" {
                scene.kill(pid);
                let stranger = scene.start("a", &[]);
                let other = of(other).watched();
                scene.config(&render(&[&other]));
                let text = scene.check().exits(2).stdout;
                assert!(text.contains("no process of user "), "{text}");
                assert!(alive(stranger));
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_restart_as_another_user_stops_what_was_started_last() {
    let config = |user: &str| {
        format!(
            "[service.a]\nprocess = {{ command_line = '^tail -f /dev/null {{dir}}$', user = \"{user}\" }}\n\
             spawn = {{ command = [\"tail\", \"-f\", \"/dev/null\", \"{{dir}}\"], user = \"{user}\" }}\nworking_dir = \"/\"\n\
             restart = {{ settle = \"200ms\" }}\n"
        )
    };
    let scene = Scene::with(&config("root"));
    let pid = |outcome: &crate::scene::Outcome| {
        i32::try_from(outcome.service("a")["pid"].as_i64().unwrap()).unwrap()
    };
    let first = pid(&scene.check().exits(1).verdict("a", "restarted"));
    scene.config(&config("nobody"));
    let outcome = scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(pid(&outcome), first);
    scene.run(&["restart", "a"]).exits(0);
    assert!(!alive(first));
    let second = pid(&scene.check().exits(0).verdict("a", "healthy"));
    let uids = crate::scene::status(second, "Uid");
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid;
    assert!(uids.contains(&nobody.to_string()), "{uids}");
}

#[test]
fn services_of_one_command_are_not_taken_for_each_other() {
    let of =
        |name: &str| by_start(name).spawn("command", "[\"/bin/sh\", \"{dir}/prog.sh\", \"x\"]");
    let scene = Scene::of(&[&of("a"), &of("b")]);
    let outcome = scene.check().exits(1);
    let pid = |outcome: &crate::scene::Outcome, name: &str| {
        i32::try_from(outcome.service(name)["pid"].as_i64().unwrap()).unwrap()
    };
    let (a, b) = (pid(&outcome, "a"), pid(&outcome, "b"));
    assert_ne!(a, b);
    scene.check().exits(0);
    scene.kill(a);
    // b has been brought back by somebody, and nobody has seen it yet
    scene.kill(b);
    let by_hand = scene.start("x", &[]);
    let outcome = scene.check().exits(1);
    for name in ["a", "b"] {
        assert_eq!(outcome.service(name)["verdict"], "restarted");
        assert_ne!(pid(&outcome, name), by_hand);
    }
    // the journal tells them apart after a lost state
    let (a, b) = (pid(&outcome, "a"), pid(&outcome, "b"));
    scene.kill(by_hand);
    fs::remove_file(scene.path("state/state.json")).unwrap();
    fs::remove_file(scene.path("state/state.json.bak")).unwrap();
    let outcome = scene.check().exits(0);
    assert_eq!((pid(&outcome, "a"), pid(&outcome, "b")), (a, b));
}
