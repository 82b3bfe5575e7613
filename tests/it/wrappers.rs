//! A script that starts its program again and again: the watchdog starts the script and knows the program. While the script
//! lives, a second one would make two of each.

use std::fs;

use serde_json::Value;

use crate::scene::{Scene, Service, alive, numbers, render};

/// How the program is known that the script starts.
const KNOWN_BY: [&str; 2] = [
    "{ pid_file = \"a.pid\" }",
    "{ command_line = '^/bin/sh {dir}/prog\\.sh a( |$)' }",
];

/// The script starts its program again at once, but where there is a file `hold`.
const WRAPPER: &str = "#!/bin/sh\n\
    dir=${0%/*}\n\
    echo $$ >>\"$dir/wrapper.starts\"\n\
    while :; do\n\
        while [ -e \"$dir/hold\" ]; do sleep 0.05; done\n\
        /bin/sh \"$dir/prog.sh\" a pid_file=a.pid &\n\
        wait $!\n\
    done\n";

fn scene(process: &str, command: &str) -> Scene {
    let service = Service::new("a")
        .known_by(Some(process))
        .spawn("command", command);
    let scene = Scene::of(&[&service]);
    scene.write("wrapper.sh", WRAPPER);
    scene.write(
        "start.sh",
        "#!/bin/sh\nexec /bin/sh {dir}/wrapper.sh\n".replace("{dir}", scene.dir()),
    );
    scene.shell("chmod +x {dir}/*.sh").exits(0);
    scene
}

fn wrappers(scene: &Scene) -> Vec<i32> {
    let started = numbers(&scene.read("wrapper.starts")).into_iter();
    started.filter(|pid| alive(*pid)).collect()
}

/// The only wrapper that lives.
fn wrapper(scene: &Scene) -> i32 {
    let living = wrappers(scene);
    assert_eq!(living.len(), 1, "{living:?}");
    living[0]
}

fn is_healthy_with_one_of_each(scene: &Scene) {
    let outcome = scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(outcome.service("a")["pid"], scene.last("a"));
    wrapper(scene);
    assert_eq!(scene.copies("a"), 1);
}

/// Kills the program, which its wrapper does not start again.
fn kill_and_hold(scene: &Scene) {
    scene.write("hold", "");
    scene.kill(scene.last("a"));
}

#[test]
fn a_wrapper_is_given_a_while_to_start_its_program_again() {
    for process in KNOWN_BY {
        for command in ["[\"/bin/sh\", \"wrapper.sh\"]", "[\"{dir}/start.sh\"]"] {
            let scene = scene(
                process,
                &command.replace("\"wrapper.sh", "\"{dir}/wrapper.sh"),
            );
            scene.check().exits(1).verdict("a", "restarted");
            is_healthy_with_one_of_each(&scene);
            let wrapper = wrapper(&scene);
            kill_and_hold(&scene);
            let outcome = scene.check();
            assert_eq!(outcome.service("a")["action"], Value::Null);
            assert_eq!(outcome.service("a")["pid"], wrapper);
            let said =
                format!("but PID {wrapper}, which had started it, runs and may start it again");
            assert!(outcome.stdout.contains(&said), "{}", outcome.stdout);
            let starts = scene.starts("a").len();
            fs::remove_file(scene.path("hold")).unwrap();
            scene.wait_until("the next program", || {
                scene.starts("a").len() == starts + 1 && scene.has("a.pid")
            });
            is_healthy_with_one_of_each(&scene);
            assert_eq!(wrappers(&scene), [wrapper]);
        }
    }
}

#[test]
fn a_wrapper_that_does_not_start_its_program_again_is_stopped_before_another_is_started() {
    for process in KNOWN_BY {
        let scene = scene(process, "[\"/bin/sh\", \"{dir}/wrapper.sh\"]");
        scene.check().exits(1).verdict("a", "restarted");
        let old = wrapper(&scene);
        kill_and_hold(&scene);
        assert_eq!(scene.check().service("a")["action"], Value::Null);
        // the new one finds no reason to wait
        let dry = scene.run(&["check", "--json", "--dry-run"]).exits(1);
        assert_eq!(dry.service("a")["verdict"], "failing");
        scene
            .shell("(sleep 0.5; rm {dir}/hold) >/dev/null 2>&1 &")
            .exits(0);
        let outcome = scene.check().restarted_for("a", "process_missing");
        assert_eq!(outcome.service("a")["action"]["old_pid"], old);
        assert!(
            outcome.stdout.contains("has not started it again for"),
            "{}",
            outcome.stdout
        );
        assert!(!alive(old));
        is_healthy_with_one_of_each(&scene);
    }
}

#[test]
fn a_wrapper_is_stopped_with_what_its_program_left_behind() {
    let scene = scene(KNOWN_BY[1], "[\"/bin/sh\", \"{dir}/wrapper.sh\"]");
    let with_worker = WRAPPER.replace("a.pid &", "a.pid workers=1 &");
    scene.write("wrapper.sh", with_worker);
    scene.check().exits(1).verdict("a", "restarted");
    scene.wait_until("the worker", || scene.has("a.workers"));
    is_healthy_with_one_of_each(&scene);
    let old = wrapper(&scene);
    let workers = numbers(&scene.read("a.workers"));
    kill_and_hold(&scene);
    assert!(alive(workers[0]));
    scene
        .shell("(sleep 0.5; rm {dir}/hold) >/dev/null 2>&1 &")
        .exits(0);
    let outcome = scene.check().restarted_for("a", "main_process_ended");
    assert_eq!(outcome.service("a")["action"]["old_pid"], old);
    assert!(!alive(old) && !alive(workers[0]));
    is_healthy_with_one_of_each(&scene);
}

#[test]
fn a_restart_stops_the_wrapper_with_its_program() {
    for process in KNOWN_BY {
        for by_hand in [false, true] {
            for known in [true, false] {
                let scene = scene(process, "[\"/bin/sh\", \"{dir}/wrapper.sh\"]");
                if by_hand {
                    // it leads no group
                    scene
                        .shell("(/bin/sh {dir}/wrapper.sh </dev/null >/dev/null 2>&1 &)")
                        .exits(0);
                    scene.wait_until("the program", || scene.has("a.pid"));
                } else {
                    scene.check().exits(1).verdict("a", "restarted");
                }
                is_healthy_with_one_of_each(&scene);
                let (old, program) = (wrapper(&scene), scene.last("a"));
                if !known {
                    // as an earlier version of this program left the state
                    scene.edit_state(|state| {
                        let process = state["services"]["a"]["process"].as_object_mut();
                        process.unwrap().remove("wrapper").unwrap();
                    });
                }
                scene.freeze(program);
                scene.check().restarted_for("a", "process_stopped");
                assert!(!alive(old) && !alive(program), "{by_hand} {known}");
                is_healthy_with_one_of_each(&scene);
            }
        }
    }
}

#[test]
fn a_wrapper_is_known_by_the_journal_after_a_lost_state() {
    // by its arguments, nobody knows it
    let scene = scene(KNOWN_BY[0], "[\"{dir}/start.sh\"]");
    scene.check().exits(1).verdict("a", "restarted");
    let wrapper = wrapper(&scene);
    fs::remove_file(scene.path("state/state.json")).unwrap();
    fs::remove_file(scene.path("state/state.json.bak")).unwrap();
    kill_and_hold(&scene);
    let outcome = scene.check().exits(1).verdict("a", "degraded");
    assert_eq!(outcome.service("a")["pid"], wrapper);
    assert_eq!(wrappers(&scene), [wrapper]);
}

#[test]
fn a_wrapper_of_another_command_is_stopped_as_well() {
    let scene = scene(KNOWN_BY[0], "[\"{dir}/start.sh\"]");
    scene.check().exits(1).verdict("a", "restarted");
    let (old, program) = (wrapper(&scene), scene.last("a"));
    let service = Service::new("a").known_by(Some(KNOWN_BY[0]));
    scene.config(&render(&[&service]));
    scene.freeze(program);
    scene.check().restarted_for("a", "process_stopped");
    assert!(!alive(old) && !alive(program));
    assert_eq!(scene.copies("a"), 1);
}
