//! `watchdog run`: checks at fixed times, one after the other, and an end that interrupts none of them.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::scene::{Running, Scene, Service, alive, processes, signal, wait_until};

/// A config whose check writes the time of each run into `began`, and does what `script` says.
fn noting(script: &str) -> String {
    format!(
        "check_timeout = \"50s\"\n[service.a]\nstart_grace = \"0s\"\n[[service.a.exec]]\n\
         command = [\"/bin/sh\", \"-c\", \"date +%s.%N >>{{dir}}/began; {script}\"]\n"
    )
}

/// Starts `run` with its standard error in the file `said`.
fn begin(scene: &Scene, more: &str) -> Running {
    let script = format!("exec {{watchdog}} {more} run --every 1s 2>>{{dir}}/said");
    scene.begin(scene.shell_command(&script))
}

fn runs(scene: &Scene) -> usize {
    scene.read("began").lines().count()
}

/// A service whose restart begins, and ends when the file `go` is there.
fn slow_restart(scene: &Scene) {
    scene.config(
        "[service.a]\nprocess = { pid_file = \"a.pid\" }\n[service.a.restart]\nsettle = \"100ms\"\n\
         command = [\"/bin/sh\", \"-c\", \"echo >>begun; until test -e go; do sleep 0.05; done; \
         setsid /bin/sh {dir}/prog.sh a pid_file=a.pid >/dev/null 2>&1 & sleep 0.2\"]\n",
    );
}

fn no_zombie_of(pid: i32) {
    wait_until("its children to be collected", || {
        !processes()
            .iter()
            .any(|p| p.parent == pid && p.state == 'Z')
    });
}

#[test]
fn runs_begin_at_fixed_times_however_long_they_take() {
    let scene = Scene::with(&noting("sleep 0.5"));
    let running = begin(&scene, "-v");
    let times = || -> Vec<f64> {
        let text = scene.read("began");
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    // from the end of one to the beginning of the next, it would be half a second off each time
    let is_on_time = |pair: &[f64]| {
        let between = pair[1] - pair[0];
        (between - between.round()).abs() < 0.2
    };
    scene.wait_until("three runs on time, one after the other", || {
        let times = times();
        times.windows(4).any(|four| four.windows(2).all(is_on_time))
    });
    no_zombie_of(running.pid());
    // each is a process of its own, and says what it is asked to say
    let said = scene.read("said");
    assert!(said.matches("checked 1 service").count() >= 3, "{said}");
    signal(running.pid(), Signal::SIGTERM);
    let outcome = scene.end(running).exits(0);
    assert_eq!(outcome.stdout, "");
}

#[test]
fn a_run_that_is_due_while_the_former_one_lasts_is_left_out() {
    let scene = Scene::with(&noting("until test -e {dir}/go; do sleep 0.05; done"));
    let running = begin(&scene, "");
    scene.wait_until("a run that is left out", || {
        scene
            .read("said")
            .contains("a run is left out: the former one (PID ")
    });
    assert_eq!(runs(&scene), 1);
    scene.write("go", "");
    scene.wait_until("the next run", || runs(&scene) > 1);
    signal(running.pid(), Signal::SIGTERM);
    scene.end(running).exits(0);
}

#[test]
fn term_and_int_wait_for_a_restart_that_has_begun() {
    for asked in [Signal::SIGTERM, Signal::SIGINT] {
        let scene = Scene::new();
        slow_restart(&scene);
        let running = begin(&scene, "");
        scene.wait_until("the restart", || scene.has("begun"));
        // as a terminal sends it
        killpg(Pid::from_raw(running.pid()), asked).unwrap();
        scene.wait_until("its answer", || {
            scene
                .read("said")
                .contains("no further run begins; the one under way (PID ")
        });
        assert!(alive(running.pid()));
        // once more: it changes nothing
        killpg(Pid::from_raw(running.pid()), asked).unwrap();
        scene.write("go", "");
        // only what is not well is printed
        let outcome = scene.end(running).exits(0);
        assert!(outcome.stdout.contains("restarted"), "{}", outcome.stdout);
        let last = scene.journal();
        assert_eq!(last.last().unwrap()["event"], "restarted", "{last:?}");
        assert_eq!(scene.read("begun").lines().count(), 1);
        scene.check().exits(0).verdict("a", "healthy");
    }
}

#[test]
fn a_wrong_config_is_said_by_each_run_and_a_mended_one_is_read() {
    let scene = Scene::new();
    scene.config("[service.a]\nspawn = 7\n");
    let running = begin(&scene, "");
    scene.wait_until("two runs that say so", || {
        scene.read("said").matches("spawn").count() >= 2
    });
    scene.config(&noting("true"));
    scene.wait_until("a run", || scene.has("state/state.json"));
    signal(running.pid(), Signal::SIGINT);
    scene.end(running).exits(0);
    scene.run(&["status", "--max-age", "5m"]).exits(0);
}

#[test]
fn a_run_that_was_killed_is_said_and_the_next_is_made() {
    let scene = Scene::with(&noting("until test -e {dir}/go; do sleep 0.05; done"));
    let running = begin(&scene, "");
    scene.wait_until("the first run", || runs(&scene) == 1);
    let check = processes()
        .into_iter()
        .find(|p| p.parent == running.pid())
        .unwrap();
    signal(check.pid, Signal::SIGKILL);
    scene.write("go", "");
    scene.wait_until("the next run", || runs(&scene) > 1);
    let said = scene.read("said");
    assert!(said.contains("was ended by signal 9 (SIGKILL)"), "{said}");
    signal(running.pid(), Signal::SIGTERM);
    scene.end(running).exits(0);
}

#[test]
fn what_is_said_beside_the_runs_has_the_format_of_the_log() {
    let scene = Scene::with(&format!(
        "logging = {{ format = \"json\" }}\n{}",
        noting("until test -e {dir}/go; do sleep 0.05; done")
    ));
    let running = begin(&scene, "");
    scene.wait_until("a run that is left out", || {
        scene.read("said").contains("is left out")
    });
    let said = scene.read("said");
    let line: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert_eq!(line["level"], "WARNING", "{said}");
    scene.write("go", "");
    signal(running.pid(), Signal::SIGTERM);
    scene.end(running).exits(0);
}

#[test]
fn how_often_has_to_be_said_and_has_bounds() {
    let scene = Scene::of(&[&Service::new("a")]);
    for arguments in [
        &["run"][..],
        &["run", "--every", "0s"],
        &["run", "--every", "999ms"],
        &["run", "--every", "25h"],
        &["run", "--every", "soon"],
    ] {
        let outcome = scene.run(arguments).exits(64);
        assert!(outcome.stderr.contains("--every"), "{}", outcome.stderr);
    }
    assert!(!scene.has("state"));
}

#[test]
#[ignore = "needs root"]
fn as_pid_1_it_collects_orphans_and_ends_when_it_is_asked_to() {
    let scene = Scene::of(&[&Service::new("a").restart("settle", "\"100ms\"")]);
    let running = scene.begin(scene.shell_command(
        "exec unshare --pid --fork --mount-proc --kill-child=KILL {watchdog} run --every 1s",
    ));
    scene.wait_until("the first start", || scene.starts("a").len() == 1);
    let child = |parent: i32, is: &dyn Fn(&str) -> bool| {
        processes()
            .into_iter()
            .find(|p| p.parent == parent && is(&p.command_line()))
            .map(|p| p.pid)
    };
    let is_any = |_: &str| true;
    let first = child(running.pid(), &is_any).unwrap();
    // its starter ends, and it becomes a child of PID 1
    let program = |line: &str| line.contains("prog.sh a");
    scene.wait_until("the orphan", || child(first, &program).is_some());
    let orphan = child(first, &program).unwrap();
    signal(orphan, Signal::SIGKILL);
    scene.wait_until("its collection", || {
        !std::path::Path::new(&format!("/proc/{orphan}")).exists()
    });
    scene.wait_until("the restart", || scene.starts("a").len() == 2);
    no_zombie_of(first);
    signal(first, Signal::SIGTERM);
    scene.end(running).exits(0);
}
