//! What starts that failed, and commands, leave behind: processes and descriptors.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::scene::{Proc, Scene, alive, numbers};

/// Ends with the status after it has started a helper in its own group and one that goes its own way.
const LEAVES: &str = "#!/bin/sh
dir=${0%/*}
/bin/sh -c 'echo $$ >>\"$1/helper\"; trap \"\" TERM; while :; do sleep 0.1; done' helper \"$dir\" &
setsid /bin/sh -c 'echo $$ >>\"$1/other\"; while :; do sleep 0.1; done' other \"$dir\" &
while [ ! -s \"$dir/helper\" ] || [ ! -s \"$dir/other\" ]; do sleep 0.02; done
exit $1
";

fn ends(status: &str, start_timeout: &str) -> (Scene, String) {
    let scene = Scene::with(&format!(
        "[service.a]\nprocess = {{ pid_file = \"a.pid\" }}\n\
         spawn = {{ command = [\"/bin/sh\", \"{{dir}}/leaves.sh\", \"{status}\"] }}\n\
         restart = {{ settle = \"0s\", stop_timeout = \"200ms\", start_timeout = \"{start_timeout}\" }}\n"
    ));
    scene.write("leaves.sh", LEAVES);
    let outcome = scene.check().exits(2);
    let outcome = outcome.verdict("a", "restart_failed");
    let error = outcome.error("a");
    (scene, error)
}

#[test]
fn what_a_failed_start_leaves_in_its_group_is_ended_and_nobody_else() {
    for (status, start_timeout) in [("3", "1m"), ("0", "300ms")] {
        let (scene, error) = ends(status, start_timeout);
        assert!(
            error.contains("; a process that it had left behind was stopped")
                || error.contains(" processes that it had left behind were stopped"),
            "status {status}: {error}"
        );
        for pid in numbers(&scene.read("helper")) {
            assert!(!alive(pid), "status {status}: PID {pid} lives: {error}");
        }
        for pid in numbers(&scene.read("other")) {
            assert!(alive(pid), "status {status}: PID {pid} was ended: {error}");
        }
    }
}

#[test]
fn what_was_up_only_for_a_moment_leaves_nothing_to_the_next_attempt() {
    // it goes into a session of its own, so that only what was seen of it tells whose its helper is
    let scene = Scene::with(
        "[service.a]\nprocess = { pid_file = \"a.pid\" }\n\
         spawn = { command = [\"/bin/sh\", \"{dir}/brief.sh\"] }\n\
         restart = { settle = \"1m\", stop_timeout = \"200ms\", start_timeout = \"2s\", max_per_hour = 100 }\n",
    );
    scene.write(
        "brief.sh",
        "dir=${0%/*}\nif [ -z \"$AGAIN\" ]; then AGAIN=1 setsid /bin/sh \"$0\" & exit 0; fi\n\
         sleep 100000 &\necho $! >>\"$dir/helpers\"\necho $$ >\"$dir/a.pid\"\nread -r _ <>\"$dir/hold\"\n",
    );
    scene.shell("mkfifo hold").exits(0);
    // whether the run had seen it up by the time that it was ended
    let fails = |pause: u64| {
        let before = numbers(&scene.read("helpers")).len();
        let run = scene.begin(scene.command(&["check", "--json"]));
        scene.wait_until("a start", || {
            numbers(&scene.read("helpers")).len() > before && !scene.read("a.pid").is_empty()
        });
        let pid = numbers(&scene.read("a.pid"))[0];
        std::thread::sleep(Duration::from_millis(pause));
        scene.kill(pid);
        let outcome = scene.end(run).exits(2).verdict("a", "restart_failed");
        fs::remove_file(scene.path("a.pid")).unwrap();
        outcome.error("a").contains("came up, but not for")
    };
    let was_seen = [300, 1000, 3000, 10_000].into_iter().any(&fails);
    assert!(was_seen);
    let helper = *numbers(&scene.read("helpers")).last().unwrap();
    assert!(alive(helper));
    fails(0);
    assert!(!alive(helper), "PID {helper} lives");
}

#[test]
fn f20_a_command_and_what_it_leaves_running_have_neither_the_lock_nor_any_other_descriptor() {
    let scene = Scene::with(
        "[service.a]\nprocess = { pid_file = \"a.pid\" }\n\
         restart = { command = [\"/bin/sh\", \"{dir}/restart.sh\"], settle = \"0s\" }\n\
         [mail]\nfrom = \"w@example.org\"\nto = [\"ops@example.org\"]\n\
         sendmail = { command = \"{dir}/sendmail.sh\" }\n",
    );
    scene.write("leak", "");
    scene.write(
        "restart.sh",
        "dir=${0%/*}\nls -l /proc/$$/fd >\"$dir/command.fds\"\n\
         setsid /bin/sh -c 'echo $$ >\"$1/a.pid\"; while :; do sleep 0.1; done' daemon \"$dir\" &\n",
    );
    scene.write(
        "sendmail.sh",
        "#!/bin/sh\nls -l /proc/$$/fd >\"${0%/*}/sendmail.fds\"\ncat >/dev/null\n",
    );
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(scene.path("sendmail.sh"), mode).unwrap();
    let outcome = scene.shell("exec 7>>{dir}/leak 8<&0 6<{dir}/leak; exec {watchdog} check --json");
    outcome.exits(1).verdict("a", "restarted");
    // one that held the lock would keep the next run out
    scene.check().exits(0);
    let pid = numbers(&scene.read("a.pid"))[0];
    assert!(Proc::of(pid).is_some());
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let shown = target.display().to_string();
        assert!(!shown.ends_with("/leak"), "the daemon has {shown}");
        assert!(!shown.ends_with("/lock"), "the daemon has {shown}");
    }
    for who in ["command", "sendmail"] {
        let listed = scene.read(&format!("{who}.fds"));
        assert!(listed.contains(" 0 -> "), "{who}: {listed}");
        for line in listed.lines().filter(|line| line.contains(" -> ")) {
            // the shell has some of its own
            for foreign in ["/leak", "/lock", "/state.json", "pipe:", "socket:"] {
                assert!(!line.contains(foreign), "{who}: {line}");
            }
        }
    }
}

/// Without a `process` table: known by what is started alone.
fn known_by_start(limits: &str, script: &str) -> Scene {
    let scene = Scene::with(&format!(
        "[service.a]\nspawn = {{ command = [\"/bin/sh\", \"{{dir}}/a.sh\"] }}\nrestart = {{ {limits} }}\n"
    ));
    scene.write("a.sh", script);
    scene.shell("mkfifo hold").exits(0);
    scene
}

#[test]
fn one_that_was_seen_before_it_went_into_the_background_is_waited_for() {
    let scene = known_by_start(
        "settle = \"100ms\"",
        "dir=${0%/*}\nif [ -z \"$AGAIN\" ]; then\n\
         AGAIN=1 setsid /bin/sh -c 'sleep 1; exec /bin/sh \"$0\"' \"$0\" &\nsleep 0.08; exit 0\nfi\n\
         echo $$ >>\"$dir/a.starts\"\nread -r _ <>\"$dir/hold\"\n",
    );
    scene.check().exits(1).verdict("a", "restarted");
    assert!(alive(scene.last("a")));
    assert_eq!(scene.starts("a").len(), 1);
}

#[test]
fn one_that_came_up_after_its_start_had_failed_gets_no_second_copy() {
    let scene = known_by_start(
        "settle = \"2s\", start_timeout = \"300ms\"",
        "dir=${0%/*}\nif [ -f \"$dir/slow\" ] && [ -z \"$AGAIN\" ]; then\n\
         AGAIN=1 setsid /bin/sh -c 'while [ ! -e \"$1/go\" ]; do sleep 0.05; done; exec /bin/sh \"$0\"' \"$0\" \"$dir\" &\n\
         exit 0\nfi\n\
         echo $$ >>\"$dir/a.starts\"\nread -r _ <>\"$dir/hold\"\n",
    );
    scene.write("go", "");
    scene.check().exits(1).verdict("a", "restarted");
    scene.wait_until("its start", || scene.starts("a").len() == 1);
    fs::remove_file(scene.path("go")).unwrap();
    scene.write("slow", "");
    scene.kill(scene.last("a"));
    let error = scene.check().exits(2).error("a");
    assert!(error.contains("did not come up"), "{error}");
    scene.write("go", "");
    scene.wait_until("the late one", || scene.starts("a").len() == 2);
    scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(scene.starts("a").len(), 2);
    assert!(alive(scene.last("a")));
}
