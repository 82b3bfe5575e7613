//! Many at once: ten runs, a hundred runs in a row, a thousand services of which a fifth is dead.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use crate::boxes::SystemdBox;
use crate::scene::{MAIL, Outcome, Running, Scene, Service, alive, numbers, processes, signal};
use nix::sys::signal::Signal;

/// A program that comes up when the file `go` is there, and counts its starts.
const GATED: &str = r#"#!/bin/sh
dir=${0%/*}
echo $$ >>"$dir/starts"
while [ ! -e "$dir/go" ]; do sleep 0.05; done
echo $$ >"$dir/gated.pid"
[ -p "$dir/hold" ] || mkfifo "$dir/hold"
while :; do read -r _ <>"$dir/hold"; done
"#;

/// Ten runs begin, nine of them while the tenth waits for what it has started. Gives back that one.
fn ten_at_once(scene: &Scene) -> Outcome {
    let runs: Vec<_> = (0..10)
        .map(|_| scene.begin(scene.command(&["check", "--json"])))
        .collect();
    let pids: Vec<i32> = runs.iter().map(Running::pid).collect();
    scene.wait_until("the end of nine", || {
        pids.iter().filter(|&&pid| alive(pid)).count() == 1
    });
    scene.write("go", "");
    let (mut acted, busy): (Vec<Outcome>, Vec<Outcome>) = runs
        .into_iter()
        .map(|run| scene.end(run))
        .partition(|outcome| outcome.code != 75);
    assert_eq!((acted.len(), busy.len()), (1, 9));
    for outcome in busy {
        assert!(
            outcome.stderr.contains("holds the lock"),
            "{}",
            outcome.stderr
        );
        assert!(outcome.stdout.is_empty(), "{}", outcome.stdout);
    }
    acted.remove(0)
}

const LIMITS: &str = "restart = { settle = \"100ms\", start_timeout = \"60s\", max_per_hour = 9";

#[test]
fn f30_of_ten_runs_one_spawns_and_nine_do_nothing() {
    let scene = Scene::with(&format!(
        "[service.a]\nprocess = {{ pid_file = \"gated.pid\" }}\n\
         spawn = {{ command = [\"/bin/sh\", \"{{dir}}/gated.sh\"] }}\n{LIMITS} }}\n"
    ));
    scene.write("gated.sh", GATED);
    ten_at_once(&scene).exits(1).verdict("a", "restarted");
    assert_eq!(numbers(&scene.read("starts")).len(), 1);
    let outcome = scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(outcome.service("a")["restarts_last_hour"], 1);
}

#[test]
fn f30_of_ten_runs_one_runs_the_command_and_nine_do_nothing() {
    let scene = Scene::with(&format!(
        "[service.a]\nprocess = {{ pid_file = \"gated.pid\" }}\n\
         {LIMITS}, command = [\"/bin/sh\", \"{{dir}}/restart.sh\"] }}\n"
    ));
    scene.write("gated.sh", GATED);
    scene.write(
        "restart.sh",
        "echo $$ >>\"${0%/*}/commands\"\nsetsid /bin/sh \"${0%/*}/gated.sh\" </dev/null >/dev/null 2>&1 &\n",
    );
    ten_at_once(&scene).exits(1).verdict("a", "restarted");
    assert_eq!(numbers(&scene.read("commands")).len(), 1);
    assert_eq!(numbers(&scene.read("starts")).len(), 1);
    scene.check().exits(0).verdict("a", "healthy");
}

#[test]
#[ignore = "needs root and systemd"]
fn f30_of_ten_runs_one_starts_the_unit_and_nine_do_nothing() {
    let it = SystemdBox::boot();
    it.unit(
        "bot.service",
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nTimeoutStartSec=300\n\
         ExecStart=/bin/sh -c 'echo start >>{dir}/starts; while [ ! -e {dir}/go ]; do sleep 0.05; done'\n",
    );
    it.config("[service.bot]\nsystemd = { unit = \"bot.service\" }\nrestart = { settle = \"100ms\", start_timeout = \"60s\" }\n");
    it.sh("for n in 1 2 3 4 5 6 7 8 9 10; do (watchdog check >/dev/null 2>&1; echo $? >>{dir}/codes) & done")
        .ok();
    it.wait("[ $(grep -c . {dir}/codes) = 9 ]");
    it.sh("touch {dir}/go").ok();
    it.wait("[ $(grep -c . {dir}/codes) = 10 ]");
    let codes = it
        .sh("sort -n {dir}/codes | uniq -c | tr -s ' \\n' ' '")
        .ok();
    assert_eq!(codes, "1 1 9 75");
    assert_eq!(it.sh("cat {dir}/starts").ok(), "start");
    it.check().exits(0).tells("bot", "healthy", &[]);
}

/// A service, its verdicts as [`course`] has them, and how often it starts.
type Course<'a> = (&'a str, &'a [(&'a str, usize)], usize);

/// The verdicts that a service gets in a hundred runs, as what comes how often in a row.
fn course(seen: &[String]) -> Vec<(&str, usize)> {
    seen.chunk_by(|a, b| a == b)
        .map(|same| (same[0].as_str(), same.len()))
        .collect()
}

#[test]
fn f40_a_hundred_runs_in_a_row_do_what_they_should_and_no_more() {
    let broken = |name: &str| Service::new(name).option("exit=1");
    let scene = Scene::with(&format!(
        "check_timeout = \"2m\"\n{MAIL}{}",
        crate::scene::render(&[
            &Service::new("well"),
            &broken("crashes").restart("max_per_hour", "3"),
            &Service::new("freezes").restart("max_per_hour", "4"),
            &broken("cools").restart("cooldown", "\"30m\""),
            &Service::new("waits").top("depends_on", "[\"gone\"]"),
            &Service::new("gone").watched(),
            &Service::new("paused"),
            &Service::logs("silent").log("path = \"silent.log\"\nmax_age = \"1h\""),
        ])
    ));
    let well = scene.start("well", &["pid_file=well.pid"]);
    scene.start("freezes", &["pid_file=freezes.pid"]);
    scene.write("silent.log", "a word\n");
    scene.run(&["pause", "paused"]).exits(0);
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut sizes = Vec::new();
    for _ in 0..100 {
        scene.freeze(scene.last("freezes"));
        let report = scene.check().exits(2).json();
        for service in report["services"].as_array().unwrap() {
            let name = service["name"].as_str().unwrap().to_owned();
            let verdict = service["verdict"].as_str().unwrap().to_owned();
            seen.entry(name).or_default().push(verdict);
        }
        let size = |name: &str| scene.path(name).metadata().map_or(0, |meta| meta.len());
        sizes.push((
            size("state/state.json"),
            size("state/journal.jsonl"),
            fs::read_dir(scene.path("state")).unwrap().count(),
            scene.mails().len(),
        ));
    }
    let expected: [Course<'_>; 8] = [
        ("well", &[("healthy", 100)], 1),
        ("crashes", &[("restart_failed", 3), ("exhausted", 97)], 3),
        ("freezes", &[("restarted", 4), ("exhausted", 96)], 5),
        ("cools", &[("restart_failed", 1), ("waiting", 99)], 1),
        ("waits", &[("waiting", 100)], 0),
        ("gone", &[("down", 100)], 0),
        ("paused", &[("paused", 100)], 0),
        ("silent", &[("healthy", 100)], 0),
    ];
    for (name, verdicts, starts) in expected {
        assert_eq!(course(&seen[name]), verdicts, "{name}");
        assert_eq!(scene.starts(name).len(), starts, "{name}");
    }
    // once nothing happens, nothing is written but the times in the state: times of fewer digits are shorter
    let (early, late) = (sizes[9], sizes[99]);
    assert!(late.0.abs_diff(early.0) < 200, "{sizes:?}");
    assert_eq!((early.1, early.2, early.3), (late.1, late.2, late.3));
    // each attempt and its end, and each verdict that was new
    let mut events: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in scene.journal() {
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        *events.entry((text("service"), text("event"))).or_default() += 1;
    }
    events.retain(|(_, event), _| event != "mail_sent");
    let count =
        |service: &str, event: &str, times: usize| ((service.to_owned(), event.to_owned()), times);
    let accounted = BTreeMap::from([
        count("crashes", "restarting", 3),
        count("crashes", "restart_failed", 3),
        count("crashes", "exhausted", 1),
        count("freezes", "restarting", 4),
        count("freezes", "restarted", 4),
        count("freezes", "exhausted", 1),
        count("cools", "restarting", 1),
        count("cools", "restart_failed", 1),
        count("cools", "waiting", 1),
        count("waits", "waiting", 1),
        count("gone", "down", 1),
        count("paused", "paused", 1),
    ]);
    assert_eq!(events, accounted);
    // what runs is what should: one that is well, and the last one that froze
    let mark = format!("{}/prog.sh", scene.dir());
    let live: BTreeSet<i32> = processes()
        .into_iter()
        .filter(|p| p.lives() && p.command_line().contains(&mark))
        .map(|p| p.pid)
        .collect();
    assert_eq!(live, BTreeSet::from([well, scene.last("freezes")]));
}

/// A program that is as small as a shell can be: it counts its starts, writes its PID file, and waits.
const TINY: &str =
    "echo $$ >>\"$1.starts\"\necho $$ >\"$1.pid\"\nwhile :; do read -r _ <>hold; done\n";

/// What a run took at the most, as far as it was seen.
#[derive(Debug, Default)]
struct Peak {
    threads: usize,
    descriptors: usize,
    resident_kib: usize,
}

impl Peak {
    fn look(&mut self, pid: i32) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
                .unwrap_or(0)
        };
        self.threads = self.threads.max(number("Threads:"));
        self.resident_kib = self.resident_kib.max(number("VmHWM:"));
        let open = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        self.descriptors = self.descriptors.max(open);
    }
}

#[test]
fn f32_a_thousand_services_of_which_a_fifth_is_dead() {
    const ALL: usize = 1000;
    let scene = Scene::new();
    scene.write("tiny.sh", TINY);
    // a machine that is busy with other tests as well has all the time that it needs
    let mut config = String::from(
        "check_timeout = \"2m\"\nrun_timeout = \"10m\"\n[defaults]\nstart_grace = \"0s\"\n",
    );
    for n in 0..ALL {
        // known by PID file and command line, by PID file alone, by what the watchdog itself starts
        let process = match n % 3 {
            0 => format!(
                "process = {{ pid_file = \"s{n}.pid\", command_line = '{{dir}}/tiny\\.sh s{n}$' }}\n"
            ),
            1 => format!("process = {{ pid_file = \"s{n}.pid\" }}\n"),
            _ => String::new(),
        };
        let _ = write!(
            config,
            "[service.s{n}]\n{process}spawn = {{ command = [\"/bin/sh\", \"{{dir}}/tiny.sh\", \"s{n}\"] }}\n\
             restart = {{ settle = \"100ms\", start_timeout = \"2m\" }}\n"
        );
    }
    scene.config(&config);
    scene
        .shell(&format!(
            "mkfifo hold; n=0; while [ $n -lt {ALL} ]; do /bin/sh {{dir}}/tiny.sh s$n >/dev/null 2>&1 & n=$((n + 1)); done"
        ))
        .exits(0);
    let named = |n: usize| -> Option<i32> { scene.read(&format!("s{n}.pid")).trim().parse().ok() };

    scene.wait_until("all to be up", || (0..ALL).all(|n| named(n).is_some()));
    scene.run(&["check"]).exits(0);
    let before: Vec<i32> = (0..ALL).map(|n| named(n).unwrap()).collect();

    let dead: BTreeSet<usize> = (0..ALL).filter(|n| n % 5 == 0).collect();
    for &n in &dead {
        signal(before[n], Signal::SIGKILL);
    }
    scene.wait_until("their end", || dead.iter().all(|&n| !alive(before[n])));
    let run = scene.begin(scene.shell_command("ulimit -n 256; exec {watchdog} check --json"));
    let pid = run.pid();
    let mut peak = Peak::default();
    let deadline = Instant::now() + Duration::from_mins(10);
    while alive(pid) {
        assert!(Instant::now() < deadline, "it outlived its run_timeout");
        peak.look(pid);
        std::thread::sleep(Duration::from_millis(5));
    }
    let outcome = scene.end(run).exits(1);
    let report = outcome.json();
    println!("{peak:?}, {} ms", report["duration_ms"]);
    for (n, service) in report["services"].as_array().unwrap().iter().enumerate() {
        let expected = if dead.contains(&n) {
            "restarted"
        } else {
            "healthy"
        };
        assert_eq!(service["name"], format!("s{n}"));
        assert_eq!(service["verdict"], expected, "{service}");
        let starts = numbers(&scene.read(&format!("s{n}.starts")));
        let now = named(n).unwrap();
        assert_eq!(service["pid"], now);
        if dead.contains(&n) {
            assert_eq!(starts, [before[n], now]);
        } else {
            assert_eq!((starts, now), (vec![before[n]], before[n]));
        }
    }
    let mark = format!("{}/tiny.sh s", scene.dir());
    let live = processes()
        .into_iter()
        .filter(|p| p.lives() && p.command_line().contains(&mark));
    assert_eq!(live.count(), ALL, "one copy of each");
    // 64 restarts at a time, and few beside
    assert!(peak.threads > 1 && peak.threads <= 140, "{peak:?}");
    assert!(
        peak.resident_kib > 0 && peak.resident_kib < 256 << 10,
        "{peak:?}"
    );
    let restarts = scene
        .journal()
        .iter()
        .filter(|line| line["event"] == "restarting")
        .count();
    assert_eq!(restarts, dead.len());
    scene.run(&["check"]).exits(0);
}

/// A run with a `systemctl show` that says of each unit that it runs, in as many bytes as `padding` makes it.
fn check_by_fake_systemctl(scene: &Scene, padding: usize) -> Outcome {
    let script = format!(
        "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift\necho $# >>{{dir}}/calls\nfor unit; do\n\
         printf 'Id=%s\\nNames=%s %0{padding}d.service\\nLoadState=loaded\\nActiveState=active\\nSubState=exited\\n\
         MainPID=0\\nNRestarts=0\\nResult=success\\n\\n' \"$unit\" \"$unit\" 0\ndone\n"
    );
    scene.write("systemctl", scene.fill(&script));
    scene.shell("chmod 755 {dir}/systemctl").exits(0);
    scene.shell(
        "exec unshare -m /bin/sh -c 'mount --bind {dir}/systemctl $(command -v systemctl) && exec {watchdog} check --json'",
    )
}

#[test]
#[ignore = "needs root"]
fn each_of_three_hundred_units_is_seen_whatever_systemctl_says_of_them() {
    let mut config = String::new();
    for number in 0..300 {
        let unit = format!("systemd = {{ unit = \"u{number}.service\" }}");
        write!(config, "[service.u{number}]\n{unit}\n").unwrap();
    }
    // the last of them are asked for once more, by halves
    for (padding, calls) in [(1, 3), (150, 3), (600, 9)] {
        let scene = Scene::with(&config);
        let outcome = check_by_fake_systemctl(&scene, padding).exits(0);
        let json = outcome.json();
        let services = json["services"].as_array().unwrap();
        let healthy = services.iter().filter(|it| it["verdict"] == "healthy");
        assert_eq!(healthy.count(), 300, "{padding}");
        assert_eq!(numbers(&scene.read("calls")).len(), calls, "{padding}");
    }
}

#[test]
#[ignore = "needs root"]
fn of_a_unit_that_systemctl_says_too_much_of_nothing_is_known() {
    let scene = Scene::with("[service.a]\nsystemd = { unit = \"a.service\" }\n");
    let outcome = check_by_fake_systemctl(&scene, 70_000).exits(3);
    assert_eq!(
        outcome.service("a")["findings"][0]["message"],
        "systemd could not be asked for a.service: the output of systemctl is too long"
    );
}
