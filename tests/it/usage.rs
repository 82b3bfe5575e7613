//! What services use: memory, processor time, open files and threads, of real programs and their children.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::boxes::SystemdBox;
use crate::scene::{Outcome, Scene, alive, numbers, wait_until};

/// A shell that runs a script, with a PID in `hog.starts` for each start.
fn hog(scene: &Scene, script: &str, tables: &str) {
    scene.write(
        "hog.sh",
        format!("cd {}\necho $$ >>hog.starts\n{script}\n", scene.dir()),
    );
    scene.config(&format!(
        "[service.hog]\nstart_grace = \"0s\"\nspawn = {{ command = [\"/bin/sh\", \"{{dir}}/hog.sh\"] }}\n{tables}\n\
         [service.hog.restart]\nsettle = \"300ms\"\nstop_timeout = \"1s\"\nmax_per_hour = 9\n"
    ));
}

/// Takes 80 MB where there is a file `grow`, in the shell that runs this, and says so.
const GROW: &str = "while [ ! -e grow ]; do sleep 0.05; done\n\
    x=$(head -c 80000000 /dev/zero | tr '\\0' x)\n: >grown\nwhile :; do sleep 0.2; done";

fn usage(outcome: &Outcome) -> Value {
    outcome.service("hog")["usage"].clone()
}

fn message(outcome: &Outcome) -> String {
    let findings = &outcome.service("hog")["findings"];
    findings[0]["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn a_service_that_takes_too_much_memory_is_restarted() {
    let scene = Scene::new();
    hog(
        &scene,
        GROW,
        "memory = { warning = \"30 MB\", critical = \"60 MB\" }",
    );
    scene.check().exits(1).verdict("hog", "restarted");
    let outcome = scene.check().exits(0).verdict("hog", "healthy");
    let small = usage(&outcome)["memory_bytes"].as_u64().unwrap();
    assert!((100_000..30_000_000).contains(&small), "{small}");
    let before = *numbers(&scene.read("hog.starts")).last().unwrap();
    scene.write("grow", "");
    wait_until("it has grown", || scene.has("grown"));
    fs::remove_file(scene.path("grow")).unwrap();
    let outcome = scene.check().restarted_for("hog", "memory_high");
    assert_eq!(outcome.severity("hog", "memory_high"), "critical");
    let finding = &outcome.service("hog")["findings"][0];
    assert_eq!(
        (&finding["check"], &finding["id"]),
        (&"usage".into(), &"usage:memory".into())
    );
    let said = message(&outcome);
    assert!(
        said.starts_with("its ") && said.contains(" of memory (limit: 60 MB)"),
        "{said}"
    );
    assert!(usage(&outcome)["memory_bytes"].as_u64().unwrap() > 60_000_000);
    let after = *numbers(&scene.read("hog.starts")).last().unwrap();
    assert!(after != before && !alive(before));
    // the new one begins anew
    scene.check().exits(0).verdict("hog", "healthy");
    let status = scene.run(&["status", "--json"]).exits(0);
    assert!(usage(&status)["memory_bytes"].as_u64().unwrap() < 30_000_000);
    let why = scene.run(&["why", "hog"]).exits(0).words();
    assert!(
        why.contains("memory: warning from 30 MB, critical from 60 MB; it had "),
        "{why}"
    );
}

#[test]
fn the_memory_of_a_child_counts_and_a_level_has_to_last() {
    let scene = Scene::new();
    scene.write("child.sh", GROW);
    // the child of a child, in a session of its own
    hog(
        &scene,
        "(setsid sh child.sh & wait) &\nwait",
        "memory = { warning = \"60 MB\", for = \"1h\" }",
    );
    scene.check().exits(1);
    scene.write("grow", "");
    wait_until("it has grown", || scene.has("grown"));
    let outcome = scene.check().exits(0).verdict("hog", "healthy");
    let notes = outcome.service("hog")["notes"].to_string();
    assert!(
        notes.contains("(limit: 60 MB); that counts once it has lasted 1h"),
        "{notes}"
    );
    assert!(usage(&outcome)["memory_bytes"].as_u64().unwrap() > 80_000_000);
    // an hour ago by the clocks that were kept
    let remembered = "/services/hog/checks/usage:memory/warning_since";
    let state = scene.state();
    let since = state.pointer(remembered).and_then(Value::as_str).unwrap();
    assert!(since.contains('@'), "{since}");
    scene.edit_state(|state| {
        let since = state.pointer_mut(remembered).unwrap();
        let wall = chrono::Utc::now() - chrono::TimeDelta::minutes(61);
        *since = wall.to_rfc3339().into();
    });
    let outcome = scene.check().exits(1).verdict("hog", "degraded");
    assert_eq!(outcome.severity("hog", "memory_high"), "warning");
    // it is not there to be judged
    scene.kill_and_reap(
        outcome.service("hog")["pid"]
            .as_i64()
            .unwrap()
            .try_into()
            .unwrap(),
    );
    let outcome = scene.run(&["check", "--json", "--dry-run"]);
    assert_eq!(
        outcome
            .codes("hog")
            .iter()
            .filter(|code| *code == "memory_high")
            .count(),
        0
    );
    assert_eq!(usage(&outcome), Value::Null);
}

#[test]
fn memory_that_forked_processes_share_counts_once() {
    let scene = Scene::new();
    // eight copies of a shell that has 40 MB
    let script = "x=$(head -c 40000000 /dev/zero | tr '\\0' x)\n\
        for i in 1 2 3 4 5 6 7 8; do (while :; do read y <fifo; done) & done\n: >forked\nwait";
    hog(&scene, script, "memory = { critical = \"200 MB\" }");
    scene.shell("mkfifo {dir}/fifo").exits(0);
    scene.check().exits(1);
    wait_until("it has forked", || scene.has("forked"));
    let outcome = scene.check().exits(0).verdict("hog", "healthy");
    let used = usage(&outcome)["memory_bytes"].as_u64().unwrap();
    assert!((40_000_000..150_000_000).contains(&used), "{used}");
}

/// Runs until there is an average.
fn average(scene: &Scene) -> (Outcome, f64) {
    // two looks within a second give none
    std::thread::sleep(Duration::from_millis(1100));
    let outcome = scene.check();
    let percent = usage(&outcome)["cpu_percent"].as_f64().unwrap();
    (outcome, percent)
}

#[test]
fn a_busy_child_is_found_by_the_average_between_two_runs() {
    let scene = Scene::new();
    let script = "while [ ! -e busy ]; do sleep 0.1; done\n\
        (while [ -e busy ]; do :; done) &\n(while [ -e busy ]; do :; done) &\nwait\nsleep 1000";
    hog(&scene, script, "cpu = { warning = \"20%\" }");
    scene.check().exits(1);
    let first = scene.check().exits(0);
    assert_eq!(usage(&first), Value::Null, "a first sight has no average");
    let (outcome, idle) = average(&scene);
    assert!(idle < 20.0, "{idle}");
    outcome.exits(0);
    scene.write("busy", "");
    // its first average has a part of the time before, and on a busy machine it gets less than it wants
    let found = (0..30)
        .map(|_| average(&scene))
        .find(|(outcome, _)| outcome.code == 1);
    let (outcome, busy) = found.expect("a run that finds it busy");
    assert!((20.0..250.0).contains(&busy), "{busy}");
    let outcome = outcome.verdict("hog", "degraded");
    assert_eq!(outcome.codes("hog"), ["cpu_high"]);
    assert!(
        message(&outcome).contains("% of a processor over the last ")
            && message(&outcome).ends_with("(limit: 20%)"),
        "{}",
        message(&outcome)
    );
    // two runs in a row: nothing is judged by less than a second
    assert_eq!(usage(&scene.check()), Value::Null);
    fs::remove_file(scene.path("busy")).unwrap();
    // the busy children have ended, and their time is in the count of their parent now
    average(&scene);
    let (outcome, idle) = average(&scene);
    assert!(idle < 10.0, "{idle}");
    outcome.exits(0);
}

#[test]
fn workers_that_come_and_go_make_no_peaks() {
    let scene = Scene::new();
    let script = "while :; do\n for i in 1 2 3; do (i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done) & done\n wait\ndone";
    hog(&scene, script, "cpu = { critical = \"100000%\" }");
    scene.check().exits(1);
    scene.check().exits(0);
    let processors = std::thread::available_parallelism().unwrap().get();
    let most = 110.0 * f64::from(u32::try_from(processors).unwrap());
    for _ in 0..4 {
        let (outcome, percent) = average(&scene);
        outcome.exits(0);
        assert!(percent > 0.0 && percent < most, "{percent} of {most}");
    }
}

#[test]
fn open_files_are_held_against_the_limit_of_the_process() {
    let scene = Scene::new();
    let script = "ulimit -S -n 20\nwhile [ ! -e open ]; do sleep 0.05; done\n\
        exec 3</dev/null 4</dev/null 5</dev/null 6</dev/null 7</dev/null 8</dev/null 9</dev/null\n: >opened\nsleep 1000";
    hog(
        &scene,
        script,
        "open_files = { warning = 7, critical = \"45%\" }",
    );
    scene.check().exits(1);
    let few = usage(&scene.check().exits(0))["open_files"]
        .as_u64()
        .unwrap();
    assert!((3..7).contains(&few), "{few}");
    scene.write("open", "");
    wait_until("it has opened them", || scene.has("opened"));
    fs::remove_file(scene.path("open")).unwrap();
    let outcome = scene.check().restarted_for("hog", "open_files_high");
    let said = message(&outcome);
    assert!(
        said.starts_with("its main process has 1")
            && said.ends_with(" open files (limit: 45% of its limit of 20)"),
        "{said}"
    );
}

#[test]
#[ignore = "needs python3"]
fn threads_of_a_process_and_of_its_children_are_counted() {
    let scene = Scene::new();
    scene.write(
        "threads.py",
        "import threading, time\nfor _ in range(40): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n\
         open('threads', 'w').close()\ntime.sleep(1000)\n",
    );
    hog(
        &scene,
        "python3 threads.py &\nwait",
        "threads = { warning = 42, critical = 43 }",
    );
    scene.check().exits(1);
    wait_until("it has them", || scene.has("threads"));
    let outcome = scene.check().exits(1).verdict("hog", "degraded");
    assert_eq!(usage(&outcome), serde_json::json!({"threads": 42}));
    assert_eq!(
        message(&outcome),
        "its 2 processes have 42 threads (limit: 42)"
    );
}

#[test]
#[ignore = "needs root"]
fn the_open_files_of_another_user_are_counted_or_unknown() {
    let scene = Scene::new();
    hog(&scene, "sleep 1000", "open_files = { critical = 100000 }");
    scene.check().exits(1);
    let pid = *numbers(&scene.read("hog.starts")).last().unwrap();
    scene.write("hog.pid", pid.to_string());
    // as a user who may not look into it
    let watchdog = scene.public_watchdog();
    let place = scene.lend("theirs", "nobody");
    fs::copy(scene.path("hog.pid"), place.join("hog.pid")).unwrap();
    let config = place.join("watchdog.toml");
    fs::write(
        &config,
        "state_dir = \"state\"\n[service.hog]\nprocess = { pid_file = \"hog.pid\" }\nopen_files = { critical = 100000 }\n",
    )
    .unwrap();
    let outcome = scene.shell(&format!(
        "chown -R nobody {0} && exec setpriv --reuid=nobody --regid=nogroup --clear-groups {1} -c {0}/watchdog.toml check --json",
        place.display(),
        watchdog.display()
    ));
    // from Linux 6.2 on everybody may know how many they are
    match outcome.code {
        0 => assert!(usage(&outcome)["open_files"].as_u64().unwrap() > 0),
        3 => assert!(message(&outcome).contains("only its user and root may look")),
        code => panic!("{code}"),
    }
}

#[test]
fn validate_says_what_a_limit_would_come_to() {
    let scene = Scene::new();
    hog(
        &scene,
        "sleep 1000",
        "process = { command_line = '^/bin/sh {dir}/hog\\.sh' }\nmemory = { warning = \"1 kB\", critical = \"1000 TB\" }\nthreads = { critical = 1 }",
    );
    scene.check();
    let text = scene.run(&["validate"]).exits(0).stdout;
    for said in [
        "which is over 1 kB: it would be memory_high in the next run",
        "1000 TB is more than the machine has",
        "which is over 1: it would be threads_high in the next run",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let known = "process = { command_line = '^/bin/sh {dir}/hog\\.sh' }";
    hog(
        &scene,
        "sleep 1000",
        &format!("{known}\nmemory = {{ warning = \"99%\" }}"),
    );
    let text = scene.run(&["validate"]).exits(0).stdout;
    let said = "99% is of all the memory of the machine, ";
    assert!(text.contains(said), "{text}");
    scene.config(
        "[service.hog]\nprocess = { pid_file = \"hog.pid\" }\nmemory = { critical = \"1 GB\" }\n",
    );
    let text = scene.run(&["validate"]).exits(0).stdout;
    assert!(
        text.contains("`critical` of `memory` restarts nothing: the service has no restart method"),
        "{text}"
    );
    // and what show-config prints is the same config
    hog(
        &scene,
        "sleep 1000",
        "memory = { warning = \"90%\", critical = \"1.5GiB\", for = \"5m\" }\ncpu = { warning = \"250 %\" }\n\
         open_files = { critical = 900 }\nthreads = { warning = 5 }",
    );
    let shown = scene.run(&["show-config"]).exits(0).stdout;
    for part in [
        "[service.hog.memory]\nwarning = \"90%\"\ncritical = \"1.5 GiB\"\nfor = \"5m\"\n",
        "[service.hog.cpu]\nwarning = \"250%\"\nfor = \"0s\"\n",
        "[service.hog.open_files]\ncritical = 900\nfor = \"0s\"\n",
        "[service.hog.threads]\nwarning = 5\nfor = \"0s\"\n",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    scene.raw_config(&shown);
    assert_eq!(scene.run(&["show-config"]).exits(0).stdout, shown);
}

#[test]
#[ignore = "needs root and systemd"]
fn a_unit_is_its_control_group() {
    let it = SystemdBox::boot();
    it.write(
        "/usr/local/bin/orphan.sh",
        "while [ ! -e /run/grow ]; do sleep 0.05; done\n\
         x=$(head -c 80000000 /dev/zero | tr '\\0' x)\n: >/run/grown\nwhile :; do :; done\n",
    );
    it.unit(
        "hog.service",
        "[Service]\nExecStart=/bin/sh -c '(setsid sh /usr/local/bin/orphan.sh &); exec sleep 1000'\n",
    );
    it.sh("systemctl start hog").ok();
    it.config(
        "[service.hog]\nsystemd = { unit = \"hog.service\" }\nstart_grace = \"0s\"\n\
         memory = { critical = \"60 MB\" }\ncpu = { warning = \"100000%\" }\nthreads = { warning = 100 }\n\
         [service.hog.restart]\nsettle = \"300ms\"\nstop_timeout = \"1s\"\n",
    );
    let first = it.check().exits(0).service("hog");
    assert!(
        first["usage"]["memory_bytes"].as_u64().unwrap() < 60_000_000,
        "{first}"
    );
    let threads = first["usage"]["threads"].as_u64().unwrap();
    assert!(threads >= 2, "the orphan is not counted: {first}");
    let trap = "which is over 60 MB: it would be memory_high in the next run";
    let text = it.sh("watchdog validate").ok();
    assert!(!text.contains(trap), "{text}");
    let before = it.show("hog.service", "MainPID");
    it.sh("touch /run/grow").ok();
    it.wait("[ -e /run/grown ]");
    it.sh("rm /run/grow; sleep 1.2").ok();
    let text = it.sh("watchdog validate").ok();
    assert!(text.contains(trap), "{text}");
    let found = it.check().exits(1);
    let service = found.service("hog");
    assert_eq!(service["verdict"], "restarted", "{service}");
    assert_eq!(service["findings"][0]["code"], "memory_high");
    assert!(
        service["usage"]["cpu_percent"].as_f64().unwrap() > 0.0,
        "{service}"
    );
    assert_ne!(it.show("hog.service", "MainPID"), before);
    let after = it.check().exits(0).service("hog");
    assert!(
        after["usage"].get("cpu_percent").is_none(),
        "it begins anew: {after}"
    );
}

/// A control group of version 1 of the test's own, removed with all in it.
struct Groups(Vec<PathBuf>);

impl Groups {
    /// None where the machine has no such hierarchies, or it may not make groups in them.
    fn make(name: &str) -> Option<Self> {
        let mut made = Self(Vec::new());
        for controller in ["memory", "cpuacct"] {
            let path = PathBuf::from("/sys/fs/cgroup").join(controller).join(name);
            fs::create_dir(&path).ok()?;
            made.0.push(path);
        }
        Some(made)
    }

    fn add(&self, pid: i32) {
        for path in &self.0 {
            fs::write(path.join("cgroup.procs"), pid.to_string()).unwrap();
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for path in &self.0 {
            for pid in numbers(&fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default()) {
                crate::scene::signal(pid, nix::sys::signal::Signal::SIGKILL);
            }
            for _ in 0..200 {
                if fs::remove_dir(path).is_ok() || !path.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_control_group_of_version_1_is_read() {
    let scene = Scene::new();
    let name = format!("wd-usage-{}", std::process::id());
    let Some(groups) = Groups::make(&name) else {
        // a machine with version 2 alone: the test of the unit is for that
        return;
    };
    for path in &groups.0 {
        let limit = path.join("memory.limit_in_bytes");
        if limit.exists() {
            fs::write(limit, "200000000").unwrap();
        }
    }
    scene.write("child.sh", GROW);
    let pid = scene.start("main", &[]);
    groups.add(pid);
    // one that has nothing to do with the main process but the group
    let mut other = scene
        .shell_command("exec sh {dir}/child.sh")
        .spawn()
        .unwrap();
    groups.add(other.id().try_into().unwrap());
    let script = format!(
        "#!/bin/sh\nprintf 'Id=a.service\\nNames=a.service\\nLoadState=loaded\\nActiveState=active\\nSubState=running\\n\
         MainPID={pid}\\nNRestarts=0\\nResult=success\\nControlGroup=/{name}\\n\\n'\n"
    );
    scene.write("systemctl", script);
    scene.shell("chmod 755 {dir}/systemctl").exits(0);
    scene.config(
        "[service.hog]\nsystemd = { unit = \"a.service\" }\nmemory = { warning = \"35%\" }\ncpu = { warning = \"100000%\" }\nthreads = { warning = 999 }\n",
    );
    let check = || {
        scene.shell(
            "exec unshare -m /bin/sh -c 'mount --bind {dir}/systemctl $(command -v systemctl) && exec {watchdog} check --json'",
        )
    };
    let first = check();
    scene.write("grow", "");
    wait_until("it has grown", || scene.has("grown"));
    std::thread::sleep(Duration::from_millis(1100));
    let second = check();
    other.kill().unwrap();
    other.wait().unwrap();
    let memory = usage(&first.exits(0))["memory_bytes"].as_u64().unwrap();
    assert!(memory < 60_000_000, "{memory}");
    let second = second.exits(1).verdict("hog", "degraded");
    assert!(
        message(&second).starts_with("its unit uses ")
            && message(&second).ends_with("(limit: 35% of its cgroup's limit of 199 MB)")
            || message(&second).ends_with("(limit: 35% of its cgroup's limit of 200 MB)"),
        "{}",
        message(&second)
    );
    assert!(usage(&second)["cpu_percent"].as_f64().unwrap() > 0.0);
    assert!(usage(&second)["threads"].as_u64().unwrap() >= 2);
}
