//! What is said of processes that are missing, stopped, lost or not the service's.

use std::fs;
use std::os::unix::fs::symlink;

use super::Golden;
use crate::scene::{Scene, alive, pid_of};

#[test]
fn pid_files_that_name_nothing() {
    let mut golden = Golden::new("pid_files");
    let config = "[service.a]\nprocess = { pid_file = \"a.pid\" }\n";
    for (what, text) in [
        ("empty", ""),
        ("no number", "abc\n"),
        ("negative", "-5\n"),
        ("init's", "1\n"),
        ("zero", "0"),
        ("far too large", "99999999999\n"),
        ("an escape sequence", "\u{1b}[2J\n"),
        ("larger than any PID", "4194305\n"),
        ("5000 digits", &"7".repeat(5000)),
    ] {
        let scene = Scene::with(config);
        scene.write("a.pid", text);
        golden.title(what);
        golden.run(&scene, &["check"]);
    }
    let scene = Scene::with(config);
    golden.title("not there");
    golden.run(&scene, &["check"]);
    fs::create_dir(scene.path("a.pid")).unwrap();
    golden.title("a directory");
    golden.run(&scene, &["check"]);
    fs::remove_dir(scene.path("a.pid")).unwrap();
    symlink("a.pid", scene.path("a.pid")).unwrap();
    golden.title("a link to itself");
    golden.run(&scene, &["check"]);
    fs::remove_file(scene.path("a.pid")).unwrap();
    golden.title("the watchdog's own");
    golden.command(
        &scene,
        "echo $$ >a.pid; exec watchdog check",
        scene.shell_command("echo $$ >{dir}/a.pid; exec {watchdog} check"),
    );
    // a thread of this very test, whose number is no process's
    let me = i32::try_from(std::process::id()).unwrap();
    let thread = fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok())
        .find(|&id| id != me)
        .unwrap();
    scene.write("a.pid", thread.to_string());
    golden.title("a thread's");
    golden.run(&scene, &["check"]);
    golden.compare();
}

#[test]
fn processes_in_odd_states() {
    let mut golden = Golden::new("process_states");
    let scene = Scene::with(
        "[service.a]\nprocess = { pid_file = \"a.pid\", command_line = 'no-such-words' }\n",
    );
    let pid = scene.start("x", &["pid_file=a.pid"]);
    scene.wait_until("its PID file", || scene.has("a.pid"));
    golden.title("another program has the PID");
    golden.run(&scene, &["check"]);
    // nobody who runs tests
    scene.config("[service.a]\nprocess = { pid_file = \"a.pid\", user = \"daemon\" }\n");
    golden.title("another user's");
    golden.run(&scene, &["check"]);
    scene.config("[service.a]\nprocess = { pid_file = \"a.pid\" }\n");
    scene.freeze(pid);
    golden.title("stopped");
    golden.run(&scene, &["check"]);
    golden.run(&scene, &["why", "a"]);
    scene.write("b.pid", "");
    scene.config(
        "[service.a]\nprocess = { pid_file = \"b.pid\", command_line = '{dir}/prog\\.sh x' }\n",
    );
    golden.title("an empty PID file beside a process that matches");
    golden.run(&scene, &["check"]);

    let config = "[service.a]\nprocess = { pid_file = \"a.pid\" }\n";
    let scene = Scene::with(config);
    let mut child = scene.start_unreaped("x", &["pid_file=a.pid"], 0);
    let pid = pid_of(&child);
    scene.wait_until("its PID file", || {
        scene.read("a.pid").trim() == pid.to_string()
    });
    scene.check().exits(0);
    child.kill().unwrap();
    scene.wait_until("its end", || !alive(pid));
    golden.title("a zombie");
    golden.run(&scene, &["check"]);
    golden.run(&scene, &["adopt", &pid.to_string()]);
    scene.start("y", &[]);
    scene.config(
        "[service.a]\nprocess = { pid_file = \"a.pid\", command_line = '{dir}/prog\\.sh y' }\n",
    );
    golden.title("a zombie in the PID file, beside a process that matches");
    golden.run(&scene, &["check"]);
    child.wait().unwrap();

    let scene = Scene::with(config);
    scene.start("x", &["pid_file=a.pid"]);
    scene.wait_until("its PID file", || scene.has("a.pid"));
    scene.check().exits(0);
    fs::remove_file(scene.path("a.pid")).unwrap();
    golden.title("a lost PID file");
    golden.run(&scene, &["check"]);

    let scene =
        Scene::with("[service.a]\nprocess = { command_line = '{dir}/prog\\.sh [xy]( |$)' }\n");
    golden.title("nothing matches");
    golden.run(&scene, &["check"]);
    golden.title("two match that are unrelated");
    scene.start("x", &[]);
    scene.start("y", &[]);
    golden.run(&scene, &["check"]);
    golden.title("a user that there is not");
    scene.config("[service.a]\nprocess = { pid_file = \"a.pid\", user = \"no-such-user\" }\n");
    golden.run(&scene, &["check"]);
    golden.compare();
}

#[test]
fn what_a_process_left_behind() {
    let mut golden = Golden::new("left_behind");
    let scene = Scene::with(
        "[service.a]\nspawn = { command = [\"sh\", \"-c\", \"sleep 1000 & echo $! >child; exec sleep 1001\"] }\n\
         restart = { settle = \"0s\" }\n",
    );
    let main = scene.check().exits(1).service("a")["pid"].as_i64().unwrap();
    scene.wait_until("its child", || {
        scene.has("child") && scene.read("child").ends_with('\n')
    });
    scene.check().exits(0);
    scene.kill_and_reap(i32::try_from(main).unwrap());
    golden.run(&scene, &["-v", "check"]);
    golden.compare();
}
