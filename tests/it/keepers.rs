//! Programs that something else starts again as well, workers whose main process is gone, and commands that stop what
//! runs themselves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::scene::{Proc, Scene, alive, numbers, processes};

/// Writes an executable script.
fn script(scene: &Scene, name: &str, text: &str) {
    scene.write(name, scene.fill(text));
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(scene.path(name), mode).unwrap();
}

/// Starts a script in a session of its own, without a terminal.
fn begin(scene: &Scene, name: &str) -> i32 {
    let child = Command::new("setsid")
        .arg(scene.path(name))
        .current_dir(scene.dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    std::thread::spawn(move || child.wait());
    pid
}

/// The processes that run a script of the scene, forks on their way to another program aside.
fn copies(scene: &Scene, name: &str) -> Vec<i32> {
    let ends = format!("{}/{name}", scene.dir());
    let mut found: Vec<Proc> = processes()
        .into_iter()
        .filter(|process| process.lives() && process.command_line().ends_with(&ends))
        .collect();
    let pids: Vec<i32> = found.iter().map(|process| process.pid).collect();
    found.retain(|process| !pids.contains(&process.parent));
    found.iter().map(|process| process.pid).collect()
}

const BOT: &str = "#!/bin/sh\necho $$ >>{dir}/bot.starts\nread -r _ <>{dir}/hold\n";

/// A bot that a loop keeps running, in a scene with a service that knows it by its command line.
fn kept(keep: &str, settle: &str) -> (Scene, i32) {
    let scene = Scene::with(&format!(
        "[service.bot]\nstart_grace = \"0s\"\nprocess = {{ command_line = '^/bin/sh {{dir}}/bot\\.sh$' }}\n\
         spawn = {{ command = [\"{{dir}}/bot.sh\"] }}\n\
         restart = {{ settle = \"{settle}\", start_timeout = \"20s\", stop_timeout = \"20s\", max_per_hour = 100 }}\n"
    ));
    scene.shell("mkfifo hold").exits(0);
    script(&scene, "bot.sh", BOT);
    script(&scene, "keep.sh", keep);
    let keeper = begin(&scene, "keep.sh");
    scene.wait_until("the bot", || copies(&scene, "bot.sh").len() == 1);
    scene.check().exits(0).verdict("bot", "healthy");
    (scene, keeper)
}

fn the_only_copy(scene: &Scene) -> i32 {
    let copies = copies(scene, "bot.sh");
    assert_eq!(copies.len(), 1, "{copies:?}");
    copies[0]
}

#[test]
fn what_a_loop_brings_back_is_a_success_and_gets_no_second_copy() {
    for keep in [
        "#!/bin/sh\nwhile :; do {dir}/bot.sh; done\n",
        "#!/bin/sh\nwhile :; do {dir}/bot.sh; sleep 0.3; done\n",
        // a supervisor that looks every now and then
        "#!/bin/sh\nwhile :; do {dir}/bot.sh & wait $!; sleep 0.1; done\n",
    ] {
        let (scene, keeper) = kept(keep, "1s");
        for turn in 0..8 {
            let old = the_only_copy(&scene);
            if turn % 2 == 0 {
                scene.freeze(old);
            } else {
                scene.kill(old);
            }
            let outcome = scene.run(&["-v", "check", "--json"]);
            // one that was back before the watchdog looked is well
            if outcome.service("bot")["verdict"] != "healthy" {
                let outcome = outcome.exits(1).verdict("bot", "restarted");
                let action = &outcome.service("bot")["action"];
                assert_eq!(action["method"], "itself", "{action}");
                let said = &outcome.stderr;
                assert!(said.contains("something else has started PID"), "{said}");
                assert!(said.contains(": nothing is started beside it"), "{said}");
                let new = the_only_copy(&scene);
                assert_eq!(action["new_pid"], new, "{action}");
                assert_eq!(outcome.service("bot")["pid"], new);
                assert!(!alive(old));
                let parent = Proc::of(new).map(|process| process.parent);
                assert_eq!(parent, Some(keeper), "the loop's own");
            }
            scene.check().exits(0).verdict("bot", "healthy");
            the_only_copy(&scene);
        }
    }
}

#[test]
fn what_was_started_here_is_ended_again_where_something_else_starts_it_too() {
    // later than the watchdog waits for it, and before it has seen its own stay up
    let (scene, keeper) = kept(
        "#!/bin/sh\nwhile :; do {dir}/bot.sh; sleep 1.5; done\n",
        "1s",
    );
    let old = the_only_copy(&scene);
    scene.freeze(old);
    let outcome = scene.run(&["-v", "check", "--json"]);
    let outcome = outcome.exits(1).verdict("bot", "restarted");
    let said = format!("PID {keeper}, which had started it, may start it again: waiting for that");
    assert!(outcome.stderr.contains(&said), "{}", outcome.stderr);
    let new = the_only_copy(&scene);
    let action = &outcome.service("bot")["action"];
    assert_eq!(
        (&action["method"], &action["new_pid"]),
        (&"itself".into(), &new.into())
    );
    assert_eq!(Proc::of(new).map(|process| process.parent), Some(keeper));
    assert!(
        outcome
            .stderr
            .contains("was started by something else as well"),
        "{}",
        outcome.stderr
    );
    let ours = scene.starts("bot");
    assert_eq!(ours.len(), 3, "{ours:?}");
    assert!(ours.iter().filter(|pid| alive(**pid)).eq([&new]));
    scene.check().exits(0).verdict("bot", "healthy");
}

#[test]
fn where_its_parent_has_ended_nobody_is_waited_for() {
    let (scene, keeper) = kept("#!/bin/sh\nwhile :; do {dir}/bot.sh; done\n", "100ms");
    scene.kill(keeper);
    scene.kill(the_only_copy(&scene));
    let outcome = scene.check().exits(1).verdict("bot", "restarted");
    assert_eq!(outcome.service("bot")["action"]["method"], "spawn");
    the_only_copy(&scene);
}

#[test]
fn one_that_is_brought_back_and_ends_again_and_again_is_no_success() {
    let (scene, _) = kept(
        "#!/bin/sh\nwhile :; do {dir}/bot.sh; sleep 0.1; done\n",
        "1s",
    );
    let old = the_only_copy(&scene);
    script(
        &scene,
        "bot.sh",
        "#!/bin/sh\necho $$ >>{dir}/bot.starts\nsleep 0.2\n",
    );
    scene.freeze(old);
    let outcome = scene.check().exits(2).verdict("bot", "restart_failed");
    let error = outcome.error("bot");
    assert!(error.contains("something else started PID"), "{error}");
    assert!(error.contains("nothing was started beside it"), "{error}");
}

#[test]
fn a_command_that_stops_the_program_itself_is_let_do_so() {
    let scene = Scene::with(
        "[service.bot]\nstart_grace = \"0s\"\nprocess = { pid_file = \"bot.pid\" }\n\
         restart = { command = [\"{dir}/ctl.sh\"], stop_first = false, settle = \"200ms\", start_timeout = \"3s\", \
         max_per_hour = 100 }\n",
    );
    scene.shell("mkfifo hold").exits(0);
    script(
        &scene,
        "bot.sh",
        "#!/bin/sh\necho $$ >{dir}/bot.pid\nread -r _ <>{dir}/hold\n",
    );
    // as the scripts of application servers: it refuses where nothing runs
    script(
        &scene,
        "ctl.sh",
        "#!/bin/sh\nif [ -e {dir}/idle ]; then exit 0; fi\n\
         if [ ! -e {dir}/missing ]; then kill -0 $(cat {dir}/bot.pid) || exit 1; kill -KILL $(cat {dir}/bot.pid); fi\n\
         setsid {dir}/bot.sh </dev/null >/dev/null 2>&1 &\n",
    );
    begin(&scene, "bot.sh");
    scene.wait_until("the bot", || !scene.read("bot.pid").is_empty());
    scene.check().exits(0);
    let pid = || numbers(&scene.read("bot.pid"))[0];
    let old = pid();
    scene.freeze(old);
    let outcome = scene.check().exits(1).verdict("bot", "restarted");
    let action = &outcome.service("bot")["action"];
    assert_eq!(
        (&action["method"], &action["old_pid"]),
        (&"command".into(), &old.into())
    );
    assert_eq!(action["new_pid"], pid());
    assert!(!alive(old) && alive(pid()));
    scene.check().exits(0).verdict("bot", "healthy");
    // one that leaves the old process alone has restarted nothing
    scene.write("idle", "");
    let old = pid();
    scene.freeze(old);
    let error = scene.check().exits(2).error("bot");
    assert!(
        error.contains(&format!("PID {old} is no new process")),
        "{error}"
    );
    assert!(alive(old), "nobody has stopped it");
    fs::remove_file(scene.path("idle")).unwrap();
    // and one that is gone is started by it
    scene.write("missing", "");
    scene.kill(old);
    scene.check().exits(1).verdict("bot", "restarted");
    assert!(alive(pid()));
}

/// A program with two workers that outlive it: `main` and `worker` are what their command lines end with.
fn with_workers(scene: &Scene, worker: &str) {
    scene.shell("mkfifo hold").exits(0);
    script(
        scene,
        "main.sh",
        &format!(
            "#!/bin/sh\necho $$ >>{{dir}}/main.starts\n\
             for n in 1 2; do {worker} & echo $! >>{{dir}}/workers; done\nread -r _ <>{{dir}}/hold\n"
        ),
    );
    script(scene, "worker.sh", "#!/bin/sh\nread -r _ <>{dir}/hold\n");
}

fn workers(scene: &Scene) -> Vec<i32> {
    numbers(&scene.read("workers"))
}

const MAIN: &str = "[service.main]\nstart_grace = \"0s\"\nprocess = { command_line = '^/bin/sh {dir}/main\\.sh$' }\n\
                    spawn = { command = [\"{dir}/main.sh\"] }\n\
                    restart = { settle = \"300ms\", start_timeout = \"20s\", stop_timeout = \"20s\", max_per_hour = 9 }\n";

/// Kills the main process, and sees that its workers are stopped and a new one comes up.
fn its_workers_are_stopped(scene: &Scene, main: i32) {
    scene.wait_until("the workers", || workers(scene).len() == 2);
    scene.check().exits(0).verdict("main", "healthy");
    scene.kill(main);
    let orphans = workers(scene);
    assert!(orphans.iter().all(|pid| alive(*pid)), "{orphans:?}");
    let seen = scene.run(&["check", "--json", "--dry-run"]);
    seen.finds("main", "main_process_ended");
    let outcome = scene.check().exits(1).verdict("main", "restarted");
    let outcome = outcome.finds("main", "main_process_ended");
    let findings = outcome.service("main")["findings"].to_string();
    assert!(findings.contains(" left PID "), "{findings}");
    for pid in orphans {
        assert!(!alive(pid), "PID {pid} lives");
    }
    scene.wait_until("new workers", || workers(scene).len() == 4);
    scene.check().exits(0).verdict("main", "healthy");
}

#[test]
fn workers_with_the_command_line_of_their_main_process_are_not_the_service() {
    let scene = Scene::with(MAIN);
    // a fork that is no other program, as those of apache2
    with_workers(&scene, "{ read -r _ <>{dir}/hold; }");
    let main = begin(&scene, "main.sh");
    its_workers_are_stopped(&scene, main);
    let why = scene
        .journal()
        .iter()
        .map(ToString::to_string)
        .collect::<String>();
    let said = format!("PID {main}, the main process at the last check, has ended, and left PID ");
    assert!(why.contains(&said), "{why}");
}

#[test]
fn workers_of_a_main_process_that_leads_no_group_are_found() {
    let scene = Scene::with(MAIN);
    with_workers(&scene, "{dir}/worker.sh");
    // as a daemon that forks twice: its group is that of a process that has ended
    script(
        &scene,
        "twice.sh",
        "#!/bin/sh\n{dir}/main.sh </dev/null >/dev/null 2>&1 &\n",
    );
    begin(&scene, "twice.sh");
    scene.wait_until("the start", || scene.starts("main").len() == 1);
    let main = scene.last("main");
    scene.wait_until("the end of the starter", || {
        Proc::of(main).is_some_and(|it| it.group != main && !alive(it.group))
    });
    its_workers_are_stopped(&scene, main);
}

#[test]
fn workers_in_a_group_with_others_are_found_as_children_and_the_others_left_alone() {
    let scene = Scene::with(MAIN);
    with_workers(&scene, "{dir}/worker.sh");
    // a script without job control that goes on, with another program in the same group
    script(
        &scene,
        "starter.sh",
        "#!/bin/sh\n{dir}/main.sh &\n{dir}/worker.sh & echo $! >{dir}/other\nread -r _ <>{dir}/hold\n",
    );
    let starter = begin(&scene, "starter.sh");
    scene.wait_until("the start", || scene.starts("main").len() == 1);
    let other = || numbers(&scene.read("other"));
    scene.wait_until("the other", || other().len() == 1);
    its_workers_are_stopped(&scene, scene.last("main"));
    assert!(
        alive(starter) && alive(other()[0]),
        "they are somebody else's"
    );
}

#[test]
fn a_child_that_took_over_from_its_parent_is_the_service() {
    let scene = Scene::with(MAIN);
    with_workers(&scene, "{dir}/worker.sh");
    // the first one hands over to another in a session of its own, and ends
    script(
        &scene,
        "main.sh",
        "#!/bin/sh\nif [ -z \"$AGAIN\" ]; then AGAIN=1 setsid {dir}/main.sh & while [ ! -e {dir}/go ]; do sleep 0.05; done; \
         exit 0; fi\necho $$ >>{dir}/main.starts\nread -r _ <>{dir}/hold\n",
    );
    let first = begin(&scene, "main.sh");
    scene.wait_until("the second", || scene.starts("main").len() == 1);
    scene.check().exits(0);
    scene.write("go", "");
    scene.wait_until("the end of the first", || !alive(first));
    scene.check().exits(0).verdict("main", "healthy");
    assert!(alive(scene.last("main")));
}

#[test]
fn the_pid_file_of_another_program_is_not_removed() {
    let scene = Scene::with(
        "[service.a]\nprocess = { pid_file = \"a.pid\", command_line = '^/bin/sh {dir}/bot\\.sh$' }\n\
         spawn = { command = [\"{dir}/bot.sh\"] }\nrestart = { settle = \"0s\", max_per_hour = 9 }\n",
    );
    scene.shell("mkfifo hold").exits(0);
    script(&scene, "bot.sh", BOT);
    script(&scene, "other.sh", "#!/bin/sh\nread -r _ <>{dir}/hold\n");
    let other = begin(&scene, "other.sh");
    scene.write("a.pid", format!("{other}\n"));
    scene.check().verdict("a", "restarted");
    assert_eq!(scene.read("a.pid"), format!("{other}\n"));
    // one that names nobody any more is
    scene.kill(other);
    scene.kill(scene.last("bot"));
    scene.check().verdict("a", "restarted");
    assert!(!scene.has("a.pid"));
}
