//! Disks, files, limits and clocks at their worst: what cannot be had is never taken for what is not there.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use chrono::{DateTime, TimeDelta};
use serde_json::Value;

use crate::scene::{MAIL, Outcome, Running, Scene, Service, alive, processes, render};

/// Services that are known in each of the ways there are, in a scene where all of them are well.
fn well() -> Scene {
    let log = "path = \"log-*.log\"\nexpect = ['fine']\nforbid = ['ERROR']\n[[service.line.log]]\npath = \"a.log\"\nmax_age = \"1h\"";
    let user = nix::unistd::geteuid();
    let scene = Scene::of(&[
        &Service::new("line")
            .known_by(Some("{ command_line = '{dir}/prog\\.sh line( |$)' }"))
            .log(log),
        &Service::new("file").known_by(Some("{ pid_file = \"file.pid\" }")),
        &Service::new("user").known_by(Some(&format!(
            "{{ pid_file = \"user.pid\", command_line = '{{dir}}/prog\\.sh user', user = \"{user}\" }}"
        ))),
        &Service::new("own").known_by(None),
    ]);
    scene.write("log-1.log", "fine\n");
    scene.write("a.log", "fine\n");
    scene.check().exits(1);
    scene.check().exits(0);
    scene
}

const NAMES: [&str; 4] = ["line", "file", "user", "own"];

/// A run that was short of something: it restarts nothing, and takes nothing for dead.
fn takes_nothing_for_dead(scene: &Scene, outcome: &Outcome, place: &str) {
    assert!(!outcome.stderr.contains("panicked"), "{place}");
    for name in NAMES {
        assert_eq!(scene.starts(name).len(), 1, "{name}, {place}");
    }
    if outcome.stdout.is_empty() {
        assert_ne!(outcome.code, 0, "{place}");
        return;
    }
    for service in outcome.json()["services"].as_array().unwrap() {
        let verdict = service["verdict"].as_str().unwrap();
        assert!(
            ["healthy", "unknown"].contains(&verdict),
            "{place}: {service}"
        );
    }
    let is_well = outcome.json()["services"]
        .as_array()
        .unwrap()
        .iter()
        .all(|service| service["verdict"] == "healthy");
    assert_eq!(outcome.code == 0, is_well, "{place}");
}

/// After all of it: nothing was forgotten, nothing set aside.
fn is_as_before(scene: &Scene) {
    let outcome = scene.check().exits(0);
    for name in NAMES {
        assert_eq!(outcome.service(name)["restarts_last_hour"], 1, "{name}");
        assert_eq!(scene.copies(name), 1, "{name}");
    }
    for entry in fs::read_dir(scene.path("state")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        assert!(!name.contains("corrupt"), "{name}");
    }
}

#[test]
fn f12_without_descriptors_nothing_is_taken_for_dead() {
    let scene = well();
    let mut said = String::new();
    for limit in 3..=40 {
        let outcome = scene.shell(&format!(
            "ulimit -n {limit}; exec {{watchdog}} check --json"
        ));
        said.push_str(&outcome.stderr);
        takes_nothing_for_dead(&scene, &outcome, &format!("{limit} descriptors"));
    }
    let unread = "watchdog: cannot read the state {dir}/state/state.json: Too many open files (os error 24)\n";
    assert!(said.contains(&scene.fill(unread)), "{said}");
    is_as_before(&scene);
}

#[test]
fn f12_without_memory_nothing_is_taken_for_dead() {
    let scene = well();
    let mut went_well = 0;
    // in KiB: from what does not even load it to what is plenty
    for step in 1..=24 {
        let limit = 16_000 + 2000 * step;
        let outcome = scene.shell(&format!(
            "ulimit -v {limit}; exec {{watchdog}} check --json"
        ));
        takes_nothing_for_dead(&scene, &outcome, &format!("{limit} KiB"));
        went_well += usize::from(outcome.code == 0);
    }
    assert!(went_well < 24, "no limit was felt");
    is_as_before(&scene);
}

/// A directory `mine` for a user, with one for a state in it.
fn make_a_home(scene: &Scene, uid: u32) {
    for name in ["mine", "mine/state"] {
        fs::create_dir(scene.path(name)).unwrap();
        std::os::unix::fs::chown(scene.path(name), Some(uid), Some(uid)).unwrap();
        fs::set_permissions(scene.path(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
}

/// A user that nobody else is: the limit counts all processes of a user, on the whole machine.
const LONER: u32 = 1_954_321;

#[test]
#[ignore = "needs root"]
fn f12_without_threads_nothing_is_taken_for_dead() {
    let scene = Scene::new();
    let watchdog = scene.public_watchdog();
    make_a_home(&scene, LONER);
    let services = render(&[
        &Service::new("line").known_by(Some("{ command_line = '{dir}/prog\\.sh line( |$)' }")),
        &Service::new("file").known_by(Some("{ pid_file = \"{dir}/file.pid\" }")),
    ]);
    scene.raw_config(&format!("state_dir = \"state\"\n{services}"));
    fs::copy(
        scene.path("watchdog.toml"),
        scene.path("mine/watchdog.toml"),
    )
    .unwrap();
    std::os::unix::fs::chown(scene.path("mine/watchdog.toml"), Some(LONER), None).unwrap();
    for name in ["line", "file"] {
        scene.start(name, &[&format!("pid_file={name}.pid")]);
    }
    let run = |limit: Option<u32>| {
        let limited = limit.map_or(String::new(), |limit| format!("prlimit --nproc={limit}"));
        let script = format!(
            "cd {{dir}}/mine; exec {limited} setpriv --reuid={LONER} --regid={LONER} --clear-groups {} -c watchdog.toml check --json",
            watchdog.display()
        );
        scene.shell(&script)
    };
    run(None).exits(0);
    for limit in 0..=8 {
        let outcome = run(Some(limit));
        assert!(!outcome.stderr.contains("panicked"), "{limit}");
        for service in outcome.json()["services"].as_array().unwrap() {
            let verdict = service["verdict"].as_str().unwrap();
            assert!(
                ["healthy", "unknown"].contains(&verdict),
                "{limit}: {service}"
            );
        }
        assert_eq!(scene.starts("line").len() + scene.starts("file").len(), 2);
    }
    run(None).exits(0);
}

/// Another one: the tests run side by side.
const LONER_TOO: u32 = 1_954_323;

#[test]
#[ignore = "needs root"]
fn f12_what_has_no_thread_is_held_and_said() {
    let scene = Scene::new();
    let watchdog = scene.public_watchdog();
    make_a_home(&scene, LONER_TOO);
    let config = scene.path("mine/watchdog.toml");
    let run = |limit: u32, transport: &str| {
        // the smallest limit lets the watchdog itself run, and the next one a single thread beside it
        fs::write(
            &config,
            format!(
                "state_dir = \"state\"\n[mail]\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]\n\
                 on = [\"restart_failed\", \"down\", \"unknown\"]\n{transport}\n\
                 [service.a]\nprocess = {{ pid_file = \"a.pid\" }}\nrestart = {{ max_per_hour = 100, command = [\"true\"] }}\n\
                 [service.b]\nprocess = {{ pid_file = \"b.pid\" }}\n"
            ),
        )
        .unwrap();
        std::os::unix::fs::chown(&config, Some(LONER_TOO), None).unwrap();
        let _ = fs::remove_dir_all(scene.path("mine/state/outbox"));
        let outcome = scene.shell(&format!(
            "cd {{dir}}/mine; rm -f state/*; exec prlimit --nproc={limit} setpriv --reuid={LONER_TOO} --regid={LONER_TOO} \
             --clear-groups {} -c watchdog.toml check",
            watchdog.display()
        ));
        assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
        let journal = fs::read_to_string(scene.path("mine/state/journal.jsonl"));
        flat(&format!(
            "{} {}",
            outcome.stdout,
            journal.unwrap_or_default()
        ))
    };
    let says = |text: &str, said: &str| assert!(text.contains(said), "{said}\n{text}");
    let smtp = "smtp = { host = \"127.0.0.1\", port = 9, tls = \"none\" }";
    says(
        &run(1, smtp),
        "its process: check not done: cannot create a thread (ulimit -u, TasksMax=)",
    );
    let one = run(2, smtp);
    says(&one, "no thread could be made for its restart");
    says(
        &one,
        "127.0.0.1:9: no thread to send mail from: resource temporarily unavailable",
    );
    says(
        &run(2, "directory = \"mails\""),
        "no thread to write mail from: Resource temporarily unavailable (os error 11)",
    );
}

/// Words with single spaces between.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Waits until a program that a run says it started has told of itself, or is gone.
fn told(scene: &Scene, name: &str, outcome: &Outcome) {
    let Some(pid) = outcome.service(name)["action"]["new_pid"].as_i64() else {
        return;
    };
    let pid = i32::try_from(pid).unwrap();
    scene.wait_until(&format!("a word of {name}"), || {
        scene.starts(name).contains(&pid) || !alive(pid)
    });
}

#[test]
fn f40_no_limit_makes_a_restart_that_is_not_recorded() {
    let at_once = |name: &str| {
        Service::new(name)
            .option("files=64")
            .restart("settle", "\"0s\"")
            .restart("max_per_hour", "100")
    };
    let service = at_once("a");
    let own = at_once("b").known_by(None);
    let scene = Scene::of(&[&service, &own]);
    let outcome = scene.check().exits(1);
    for name in ["a", "b"] {
        told(&scene, name, &outcome);
    }
    let mut failed = 0;
    let recorded = |name: &str| {
        scene.state()["services"][name]["attempts"]
            .as_array()
            .unwrap()
            .len()
    };
    for limit in 3..=16 {
        let before = ["a", "b"].map(|name| scene.starts(name).len());
        for name in ["a", "b"] {
            if alive(scene.last(name)) {
                scene.kill(scene.last(name));
            }
        }
        let outcome = scene.shell(&format!(
            "ulimit -S -n {limit}; exec {{watchdog}} check --json"
        ));
        assert!(!outcome.stderr.contains("panicked"), "{limit}");
        assert_ne!(outcome.code, 0, "{limit}");
        failed += usize::from(outcome.code != 1);
        for (name, before) in ["a", "b"].into_iter().zip(before) {
            if [1, 2].contains(&outcome.code) {
                told(&scene, name, &outcome);
            }
            let starts = scene.starts(name).len();
            assert!(starts <= before + 1, "{name}, {limit}");
            assert!(recorded(name) >= starts, "{name}, {limit}");
            assert!(scene.copies(name) <= 1, "{name}, {limit}");
        }
    }
    assert!((1..14).contains(&failed), "no limit was felt, or all");
    scene.check();
    scene.check().exits(0);
    for name in ["a", "b"] {
        assert_eq!(scene.copies(name), 1, "{name}");
    }
}

/// The same in a scene with a mail directory and one service that is dead.
fn broken() -> Scene {
    let scene = Scene::new();
    scene.config(&format!("{MAIL}{}", render(&[&Service::new("a")])));
    scene.check().exits(1);
    scene.check().exits(0);
    fs::remove_dir_all(scene.path("mails")).unwrap();
    scene.kill(scene.last("a"));
    scene
}

/// In a mount namespace, with the state on a disk of its own, a script that makes it unusable, and one that mends it.
fn on_a_disk(options: &str, harm: &str, mend: &str) {
    let scene = broken();
    scene
        .shell(&format!(
            "exec unshare -m /bin/sh -c '
                cp -a {{dir}}/state {{dir}}/kept
                mount -t tmpfs -o {options},mode=700 tmpfs {{dir}}/state || exit 99
                cp -a {{dir}}/kept/. {{dir}}/state || exit 98
                cp {{dir}}/state/state.json {{dir}}/before
                {harm}
                {{watchdog}} check
                code=$?
                [ $(wc -l <{{dir}}/a.starts) = 1 ] || exit 97
                cmp {{dir}}/before {{dir}}/state/state.json || exit 96
                [ $code = 73 ] || exit $code
                ls {{dir}}/mails/*.eml || exit 95
                {mend}
                {{watchdog}} check
                [ $? = 1 ] || exit 94
                {{watchdog}} check || exit 93
                [ $(wc -l <{{dir}}/a.starts) = 2 ] || exit 92
                exit 73'"
        ))
        .exits(73);
    assert_eq!(scene.copies("a"), 1);
}

#[test]
#[ignore = "needs root"]
fn f44_a_disk_without_inodes_or_read_only_restarts_nothing() {
    on_a_disk(
        "nr_inodes=40",
        "i=0; while touch {dir}/state/x$i; do i=$((i + 1)); done 2>/dev/null",
        "rm {dir}/state/x*",
    );
    on_a_disk(
        "size=1m",
        "mount -o remount,ro {dir}/state || exit 91",
        "mount -o remount,rw {dir}/state || exit 90",
    );
}

#[test]
#[ignore = "needs root"]
fn f44_another_users_read_only_state_restarts_nothing() {
    let scene = Scene::new();
    let watchdog = scene.public_watchdog();
    for name in ["mine", "mine/state", "mine/mails"] {
        fs::create_dir(scene.path(name)).unwrap();
        std::os::unix::fs::chown(scene.path(name), Some(LONER), Some(LONER)).unwrap();
    }
    fs::set_permissions(scene.path("mine/state"), fs::Permissions::from_mode(0o500)).unwrap();
    scene.raw_config(&format!(
        "state_dir = \"state\"\n{MAIL}{}",
        render(&[&Service::new("a")])
    ));
    fs::copy(
        scene.path("watchdog.toml"),
        scene.path("mine/watchdog.toml"),
    )
    .unwrap();
    std::os::unix::fs::chown(scene.path("mine/watchdog.toml"), Some(LONER), None).unwrap();
    let script = format!(
        "cd {{dir}}/mine; exec setpriv --reuid={LONER} --regid={LONER} --clear-groups {} -c watchdog.toml check",
        watchdog.display()
    );
    let outcome = scene.shell(&script).exits(73);
    assert!(
        outcome.stderr.contains("run as the user"),
        "{}",
        outcome.stderr
    );
    assert!(!scene.has("a.starts"));
    assert_eq!(fs::read_dir(scene.path("mine/mails")).unwrap().count(), 1);
}

/// A run that has told a service to stop, which takes it a second more.
fn in_a_stop() -> (Scene, Running) {
    let service = Service::new("a")
        .option("traps=TERM")
        .restart("stop_timeout", "\"1s\"")
        .log("path = \"a.log\"\nexpect = ['never there']");
    let scene = Scene::new();
    scene.config(&format!("{MAIL}{}", render(&[&service])));
    scene.write("a.log", "quiet\n");
    scene.start("a", &["pid_file=a.pid", "traps=TERM"]);
    let run = scene.begin(scene.command(&["check"]));
    scene.wait_until("the stop", || scene.read("a.signals").contains("TERM"));
    (scene, run)
}

#[test]
fn a_state_directory_that_is_removed_during_a_stop_makes_no_second_copy() {
    let (scene, first) = in_a_stop();
    fs::remove_dir_all(scene.path("state")).unwrap();
    // it knows nothing of the first, and takes a lock of its own
    let second = scene.begin(scene.command(&["check"]));
    let first = scene.end(first).exits(73);
    assert!(
        first.stderr.contains("was removed during the run"),
        "{}",
        first.stderr
    );
    scene.end(second).exits(1);
    assert_eq!(scene.starts("a").len(), 2, "by one of them");
    assert_eq!(scene.copies("a"), 1);
    assert!(!scene.mails().is_empty(), "a person is told");
}

#[test]
fn a_lock_that_is_removed_during_a_stop_lets_nothing_be_started() {
    let (scene, run) = in_a_stop();
    fs::remove_file(scene.path("state/lock")).unwrap();
    scene.end(run).exits(73);
    let said = scene.fill(
        "the lock {dir}/state/lock was removed meanwhile, and another run may be starting it; nothing was started",
    );
    assert!(
        scene
            .mails()
            .iter()
            .any(|mail| flat(&mail.body).contains(&said)),
        "{said}"
    );
    assert_eq!(scene.starts("a").len(), 1);
}

/// A process that a frozen cgroup keeps from ending, whatever it is sent.
struct Frozen(std::path::PathBuf);

impl Frozen {
    /// None where this kernel has no such freezer: that of cgroups v2 lets KILL through.
    fn new(pid: i32) -> Option<Self> {
        Self::room(pid)
            .inspect(|frozen| fs::write(frozen.0.join("cgroup.procs"), pid.to_string()).unwrap())
    }

    /// One without a process, that freezes what enters it.
    fn room(name: i32) -> Option<Self> {
        let top = std::path::Path::new("/sys/fs/cgroup/freezer");
        let is_there = top.join("cgroup.procs").exists();
        if !is_there {
            println!("not tried: there is no freezer of cgroups v1");
        }
        is_there.then(|| {
            let group = top.join(format!("watchdog-it-{name}"));
            fs::create_dir(&group).unwrap();
            let frozen = Self(group);
            fs::write(frozen.0.join("freezer.state"), "FROZEN").unwrap();
            frozen
        })
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
        // what was killed ends now, and what was not goes back
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while fs::remove_dir(&self.0).is_err() && std::time::Instant::now() < deadline {
            for pid in fs::read_to_string(self.0.join("cgroup.procs"))
                .unwrap_or_default()
                .lines()
            {
                let _ = fs::write(self.0.join("../cgroup.procs"), pid);
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

#[test]
#[ignore = "needs root"]
fn what_outlives_kill_gets_no_second_copy() {
    let scene = Scene::of(&[&Service::new("a")
        .restart("stop_timeout", "\"100ms\"")
        .log("path = \"a.log\"\nforbid = ['ERROR']")]);
    scene.write("a.log", "");
    let pid = scene.start("a", &["pid_file=a.pid"]);
    scene.wait_until("its PID file", || scene.has("a.pid"));
    scene.check().exits(0);
    let Some(frozen) = Frozen::new(pid) else {
        return;
    };
    scene.wait_until("state D", || {
        crate::scene::Proc::of(pid).is_some_and(|process| process.state == 'D')
    });
    scene.append("a.log", "ERROR\n");
    let outcome = scene.check().exits(2).verdict("a", "restart_failed");
    assert_eq!(
        outcome.error("a"),
        format!(
            "PID {pid} still lives after KILL (in uninterruptible sleep, perhaps on a dead disk or network share); \
             nothing was started beside it"
        )
    );
    assert_eq!(scene.starts("a").len(), 1);
    drop(frozen);
    scene.wait_until("its end", || !alive(pid));
}

#[test]
#[ignore = "needs root"]
fn what_was_started_in_vain_and_outlives_kill_is_told() {
    let me = i32::try_from(std::process::id()).unwrap();
    let Some(frozen) = Frozen::room(me) else {
        return;
    };
    let enter = format!("echo $$ >{}/cgroup.procs", frozen.0.display());
    for (script, said) in [
        (
            enter.clone(),
            "; what was started could not be stopped again: PID ",
        ),
        (
            // its exit is that of a helper that has entered
            format!(
                "sh -c '{enter}; sleep 1000' & until grep -q . {}/cgroup.procs; do :; done; exit 3",
                frozen.0.display()
            ),
            "; what it had left behind could not be stopped: PID ",
        ),
    ] {
        let scene = Scene::new();
        scene.write("frozen.sh", script);
        scene.config(
            "[service.a]\nprocess = { pid_file = \"a.pid\" }\nspawn = { command = [\"/bin/sh\", \"{dir}/frozen.sh\"] }\n\
             restart = { start_timeout = \"1s\", stop_timeout = \"100ms\" }\n",
        );
        let error = scene.check().exits(2).error("a");
        assert!(
            error.contains(said) && error.contains(" still lives after KILL "),
            "{error}"
        );
        // let it go before the next one comes
        fs::write(frozen.0.join("freezer.state"), "THAWED").unwrap();
        scene.wait_until("its end", || {
            fs::read_to_string(frozen.0.join("cgroup.procs"))
                .unwrap()
                .is_empty()
        });
        fs::write(frozen.0.join("freezer.state"), "FROZEN").unwrap();
    }
}

#[test]
fn f31_a_run_that_was_ended_is_told_by_the_next() {
    let hang = Service::new("hang")
        .watched()
        .restart(
            "command",
            "[\"/bin/sh\", \"-c\", \"echo x >>{dir}/runs; while :; do sleep 1; done\", \"{dir}\"]",
        )
        .restart("start_timeout", "\"10m\"");
    let scene = Scene::with(&format!("run_timeout = \"2s\"\n{MAIL}{}", render(&[&hang])));
    scene.check().exits(3).verdict("hang", "unknown");
    scene.check();
    assert!(
        scene
            .journal()
            .iter()
            .any(|entry| entry["event"] == "interrupted"),
        "told"
    );
    let history = scene.run(&["history"]).exits(0).stdout;
    let said = "1 attempt was cut short together with a run, in ";
    assert!(
        history.contains(said) && !history.contains("no restart"),
        "{history}"
    );
    let told = |text: &str| scene.mails().iter().any(|mail| mail.body.contains(text));
    assert!(told("was cut short"), "and mailed");
    assert_eq!(
        scene.read("runs"),
        "x\n",
        "not a second time beside the first"
    );
}

#[test]
fn f46_a_deleted_state_costs_one_mail_at_most() {
    let scene = Scene::new();
    scene.config(&format!(
        "{MAIL}{}",
        render(&[&Service::new("a").watched()])
    ));
    for _ in 0..3 {
        scene.check().exits(2);
    }
    assert_eq!(scene.mails().len(), 1);
    fs::remove_dir_all(scene.path("state")).unwrap();
    for _ in 0..3 {
        scene.check().exits(2);
    }
    assert_eq!(scene.mails().len(), 2);
}

#[test]
fn f48_the_mail_on_exhaustion_says_that_restarting_does_not_help() {
    let service = Service::new("a")
        .option("exit=1")
        .restart("max_per_hour", "2");
    let scene = Scene::new();
    scene.config(&format!("{MAIL}{}", render(&[&service])));
    for _ in 0..3 {
        scene.check().exits(2);
    }
    let last = scene.mails().pop().unwrap();
    assert_eq!(last.header("X-Watchdog-Event").unwrap(), "exhausted");
    let body = last.body.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        body.contains("process_missing") && body.contains("same"),
        "{body}"
    );
}

/// Moves all times in a state, as if they had been taken by a clock that was set since; `clock` says whether those of
/// the last run, by which that is noticed, are moved as well.
fn move_times(value: &mut Value, by: TimeDelta) {
    match value {
        Value::String(text) => {
            // behind the time there may be that of the boot clock, which nobody sets
            let (wall, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
            if let Ok(time) = DateTime::parse_from_rfc3339(wall) {
                *text = format!("{}{rest}", (time.to_utc() + by).to_rfc3339());
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| move_times(value, by)),
        Value::Object(map) => map.values_mut().for_each(|value| move_times(value, by)),
        _ => {}
    }
}

#[test]
fn f43_a_clock_set_by_an_hour_or_a_year_gives_no_attempt_back() {
    for hours in [1, -1, 365 * 24, -365 * 24] {
        let scene = Scene::of(&[
            &Service::new("bad")
                .option("exit=1")
                .restart("max_per_hour", "1"),
            &Service::new("good").log("path = \"good.log\"\nmax_age = \"2h\""),
        ]);
        scene.write("good.log", "fine\n");
        scene.start("good", &["pid_file=good.pid"]);
        scene.check().exits(2).verdict("bad", "restart_failed");
        // the clock is set the other way round between two runs
        scene.edit_state(|state| move_times(state, TimeDelta::hours(hours)));
        scene.age("good.log", std::time::Duration::from_hours(3));
        for _ in 0..3 {
            scene
                .check()
                .exits(2)
                .verdict("bad", "exhausted")
                // after a jump, ages say nothing until they could have come to be by this clock
                .verdict("good", "healthy");
        }
        assert_eq!(scene.starts("bad").len(), 1, "{hours}");
        // and no longer than an hour
        scene.move_attempts("bad", -TimeDelta::minutes(61));
        scene.check().exits(2).verdict("bad", "restart_failed");
    }
}

#[test]
fn f36_after_a_sleep_no_log_is_stale_at_once() {
    let service = Service::new("a").log("path = \"a.log\"\nmax_age = \"1h\"");
    let scene = Scene::of(&[&service]);
    scene.write("a.log", "fine\n");
    scene.start("a", &["pid_file=a.pid"]);
    scene.check().exits(0);
    // it has slept for two hours since
    scene.edit_state(|state| {
        let clock = &mut state["clock"];
        let wall = DateTime::parse_from_rfc3339(clock["wall"].as_str().unwrap()).unwrap();
        clock["wall"] = (wall - TimeDelta::hours(2)).to_rfc3339().into();
        clock["boot_ms"] = clock["boot_ms"]
            .as_u64()
            .unwrap()
            .saturating_sub(7_200_000)
            .into();
    });
    scene.age("a.log", std::time::Duration::from_hours(2));
    let slept = scene.state()["clock"]["boot_ms"].as_u64().unwrap() > 0;
    let outcome = scene.check();
    if slept {
        outcome.exits(0).lacks("a", "log_stale");
        assert_eq!(scene.starts("a").len(), 1);
    }
    // once that is long ago, the age is judged again
    scene.edit_state(|state| state["jumped_at"] = Value::Null);
    scene.check().exits(1).finds("a", "log_stale");
}

#[test]
fn f43_a_boot_between_two_runs_starts_no_second_copy_and_gives_no_attempt_back() {
    let scene = Scene::of(&[
        &Service::new("bad")
            .option("exit=1")
            .restart("max_per_hour", "1"),
        &Service::new("line"),
        &Service::new("own").known_by(None),
    ]);
    scene.check().exits(2);
    scene.check().exits(2).verdict("bad", "exhausted");
    for wrong in [0, 1, -1] {
        scene.edit_state(|state| {
            let text = state.to_string();
            let boot = state["clock"]["boot_id"].as_str().unwrap().to_owned();
            *state = serde_json::from_str(&text.replace(&boot, "another-boot")).unwrap();
            // and the clock came up wrong, or was before
            if wrong > 0 {
                move_times(state, TimeDelta::days(365));
            }
            state["clock"]["boot_ms"] = 1.into();
        });
        scene
            .check()
            .exits(2)
            .verdict("bad", "exhausted")
            .verdict("line", "healthy")
            .verdict("own", "healthy");
    }
    for (name, starts) in [("bad", 1), ("line", 1), ("own", 1)] {
        assert_eq!(scene.starts(name).len(), starts, "{name}");
    }
}

#[test]
#[ignore = "needs root"]
fn f45_another_users_state_is_set_aside() {
    let scene = Scene::of(&[&Service::new("a")
        .option("exit=1")
        .restart("max_per_hour", "1")]);
    scene.check().exits(2);
    scene.check().exits(2).verdict("a", "exhausted");
    std::os::unix::fs::chown(scene.path("state/state.json"), Some(LONER), None).unwrap();
    let outcome = scene.check().exits(2).verdict("a", "exhausted");
    let said = scene.fill(&format!(
        "{{dir}}/state/state.json belongs to another user (UID {LONER}); it was set aside as "
    ));
    assert!(outcome.stderr.contains(&said), "{}", outcome.stderr);
    assert_eq!(scene.starts("a").len(), 1);
    let aside = fs::read_dir(scene.path("state"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains("corrupt"))
        .count();
    assert_eq!(aside, 1);
}

/// The watchdog with a directory on a file system on which nothing ever ends: who ought to answer for it never does. The
/// others see the directory as it was.
pub(crate) fn hung(scene: &Scene, directory: &str, then: &str) -> Outcome {
    let script = format!(
        "exec unshare -m /bin/sh -c '
            exec 8<>/dev/fuse
            mount -i -t fuse -o fd=8,rootmode=40000,user_id=0,group_id=0 none {{dir}}/{directory} || exit 99
            {then}'"
    );
    let outcome = scene.shell(&script);
    assert_ne!(outcome.code, 99, "{}", outcome.stderr);
    assert!(
        !processes().iter().any(|p| {
            let command = p.command_line();
            p.lives() && command.contains(scene.dir()) && command.contains("watchdog.toml")
        }),
        "a run is left over"
    );
    outcome
}

#[test]
#[ignore = "needs root"]
fn f35_what_is_on_a_disk_that_hangs_is_unknown_and_the_others_are_done() {
    let by_command_line =
        |name: &str| format!("{{ command_line = '{{dir}}/prog\\.sh {name}( |$)' }}");
    let line = by_command_line("glob");
    let scene = Scene::with(&format!(
        "check_timeout = \"1s\"\n{}",
        render(&[
            &Service::new("log").log("path = \"far/a.log\"\nforbid = ['ERROR']\nmax_age = \"1h\""),
            &Service::new("glob")
                .known_by(Some(&line))
                .log("path = \"far/*.log\"\nexpect = ['fine']"),
            &Service::new("pid")
                .no_options()
                .option("pid_file=far/pid.pid")
                .known_by(Some("{ pid_file = \"far/pid.pid\" }")),
            &Service::new("near").log("path = \"near.log\"\nmax_age = \"1h\""),
            &Service::new("dead"),
        ])
    ));
    fs::create_dir(scene.path("far")).unwrap();
    for log in ["far/a.log", "near.log"] {
        scene.write(log, "fine\n");
    }
    scene.check().exits(1);
    scene.check().exits(0);
    scene.kill_and_reap(scene.last("dead"));
    for round in 0..2 {
        let outcome = hung(&scene, "far", "{watchdog} check --json; exit $?")
            .exits(3)
            .finds("log", "check_timed_out")
            .finds("glob", "check_timed_out")
            .finds("pid", "check_timed_out")
            .verdict("near", "healthy")
            .verdict("dead", if round == 0 { "restarted" } else { "healthy" });
        for name in ["log", "glob", "pid"] {
            assert_eq!(outcome.service(name)["verdict"], "unknown", "{name}");
            assert_eq!(outcome.codes(name), ["check_timed_out"], "{name}");
        }
        // what is written meanwhile is judged when it can be seen, once
        scene.append("far/a.log", "fine\n");
    }
    scene.append("far/a.log", "ERROR\n");
    scene
        .check()
        .exits(1)
        .verdict("log", "restarted")
        .verdict("glob", "healthy")
        .verdict("pid", "healthy");
    scene.check().exits(0);
    for (name, starts) in [
        ("log", 2),
        ("glob", 1),
        ("pid", 1),
        ("near", 1),
        ("dead", 2),
    ] {
        assert_eq!(scene.starts(name).len(), starts, "{name}");
        assert_eq!(scene.copies(name), 1, "{name}");
    }
}

#[test]
#[ignore = "needs root"]
fn f35_a_state_directory_that_hangs_is_told_and_nothing_is_restarted() {
    let scene = Scene::with(&format!(
        "check_timeout = \"1s\"\n{MAIL}{}",
        render(&[&Service::new("a"), &Service::new("b")])
    ));
    scene.check().exits(1);
    scene.kill_and_reap(scene.last("a"));
    let (before, mails) = (scene.state(), scene.mails().len());
    for _ in 0..2 {
        let outcome = hung(&scene, "state", "{watchdog} check --json; exit $?").exits(73);
        for said in ["/state did not answer within 1s", "a is waiting"] {
            assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
        }
    }
    let told = scene.mails();
    assert_eq!(told.len(), mails + 1, "a person is told, once");
    assert!(told.iter().any(|mail| mail.body.contains("did not answer")));
    assert_eq!(scene.starts("a").len(), 1);
    assert_eq!(scene.state(), before);
    scene
        .check()
        .exits(1)
        .verdict("a", "restarted")
        .verdict("b", "healthy");
    for name in ["a", "b"] {
        assert_eq!(scene.copies(name), 1, "{name}");
    }
}

#[test]
#[ignore = "needs root, and half a minute"]
fn f35_a_run_that_hangs_itself_is_ended_by_the_kernel() {
    let config = format!(
        "run_timeout = \"1s\"\n[logging]\nfile = \"far/own.log\"\n{}",
        render(&[&Service::new("a")])
    );
    let scene = Scene::with(&config);
    fs::create_dir(scene.path("far")).unwrap();
    // as cron might leave it
    let outcome = hung(
        &scene,
        "far",
        "trap \"\" ALRM; {watchdog} check --json; exit $?",
    );
    assert_eq!(outcome.code, 128 + libc::SIGALRM, "{}", outcome.stderr);
    assert!(scene.starts("a").is_empty());
    scene.check().exits(1).verdict("a", "restarted");
}
