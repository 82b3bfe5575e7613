//! A soak: twenty programs that crash, freeze, hang, exit, fork and spoil their PID files at random, under runs in quick
//! succession of which some are killed and some meet. `WATCHDOG_SOAK_SECONDS` says how long (20), and
//! `WATCHDOG_SOAK_SEED` repeats what a seed that was printed did.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::scene::{MAIL, Outcome, Proc, Scene, alive, json_lines, numbers, processes, signal};

const ROGUE: &str = include_str!("rogue.sh");

/// How many programs there are.
const ALL: usize = 20;

/// Numbers that a seed decides (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % below as u64).unwrap()
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }
}

/// How the watchdog knows a program.
#[derive(Clone, Copy, PartialEq)]
enum Known {
    /// By both, with a log that must go on.
    Fully,
    ByCommandLine,
    ByPidFile,
    /// By what the watchdog itself has started.
    ByStart,
    /// By both, restarted by a command.
    ByCommand,
}

struct Rogue {
    name: String,
    known: Known,
    max_per_hour: usize,
}

fn rogues() -> Vec<Rogue> {
    let kinds = [
        Known::Fully,
        Known::ByCommandLine,
        Known::ByPidFile,
        Known::ByStart,
        Known::ByCommand,
    ];
    (0..ALL)
        .map(|n| Rogue {
            name: format!("p{n}"),
            known: kinds[n % kinds.len()],
            // every fourth has a budget that it will soon have spent
            max_per_hour: if n % 4 == 3 { 4 } else { 3600 },
        })
        .collect()
}

fn table(rogue: &Rogue) -> String {
    let Rogue {
        name,
        known,
        max_per_hour,
    } = rogue;
    let pid_file = format!("pid_file = \"{name}.pid\"");
    let line = format!("command_line = '^/bin/sh {{dir}}/rogue\\.sh {name}$'");
    let mut text = format!("[service.{name}]\n");
    match known {
        Known::Fully | Known::ByCommand => {
            let _ = writeln!(text, "process = {{ {pid_file}, {line} }}");
        }
        Known::ByCommandLine => {
            let _ = writeln!(text, "process = {{ {line} }}");
        }
        Known::ByPidFile => {
            let _ = writeln!(text, "process = {{ {pid_file} }}");
        }
        Known::ByStart => {}
    }
    let mut command = String::new();
    if *known == Known::ByCommand {
        command = format!(", command = [\"/bin/sh\", \"{{dir}}/restart.sh\", \"{name}\"]");
    } else {
        let _ = writeln!(
            text,
            "spawn = {{ command = [\"/bin/sh\", \"{{dir}}/rogue.sh\", \"{name}\"] }}"
        );
    }
    let _ = writeln!(
        text,
        "restart = {{ max_per_hour = {max_per_hour}, settle = \"200ms\", start_timeout = \"2s\", stop_timeout = \"500ms\"{command} }}"
    );
    if *known == Known::Fully {
        let _ = writeln!(
            text,
            "[[service.{name}.log]]\npath = \"{name}.log\"\nmax_age = \"4s\""
        );
    }
    text
}

/// One blow, to a program that is picked at random.
fn strike(scene: &Scene, rogues: &[Rogue], stranger: i32, dice: &mut Dice) {
    let rogue = &rogues[dice.roll(rogues.len())];
    let name = &rogue.name;
    let main = scene
        .starts(name)
        .last()
        .copied()
        .filter(|&pid| Proc::of(pid).is_some_and(|p| p.command_line().contains("rogue.sh")));
    let pid_file = format!("{name}.pid");
    match (dice.roll(12), main) {
        (0..3, Some(pid)) => signal(pid, Signal::SIGKILL),
        (3, Some(pid)) => signal(pid, Signal::SIGTERM),
        (4 | 5, Some(pid)) => signal(pid, Signal::SIGSTOP),
        (6, _) => scene.write(&format!("{name}.hang"), ""),
        (7, _) => {
            let _ = fs::remove_file(scene.path(&pid_file));
        }
        (8, _) => {
            // whose number is in a PID file alone is taken at its word, so these name nobody
            let number = if rogue.known == Known::ByPidFile {
                999_999_999
            } else {
                stranger
            };
            let text = dice.pick(&["", "soon", "1", "-1", "0", "12 monkeys", "stranger"]);
            scene.write(&pid_file, text.replace("stranger", &number.to_string()));
        }
        _ => {
            let mood = dice.pick(&[
                "", "", "", "daemon", "fails", "late", "stubborn", "nopid", "brief",
            ]);
            scene.write(&format!("{name}.mood"), format!("{mood}\n"));
        }
    }
}

/// Ends what happens beside also where a test fails.
struct Flag<'a>(&'a AtomicBool);

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs of the watchdog until the time is over: plain ones, killed ones, three at once.
fn watch(scene: &Scene, until: Instant, dice: &mut Dice) -> BTreeMap<i32, usize> {
    let mut codes = BTreeMap::new();
    let mut note = |outcome: Outcome| {
        assert!(
            [0, 1, 2, 3, 75, -9].contains(&outcome.code),
            "{}",
            outcome.text()
        );
        *codes.entry(outcome.code).or_default() += 1;
    };
    while Instant::now() < until {
        let check = || scene.begin(scene.command(&["check", "--json"]));
        match dice.roll(10) {
            0 => {
                let run = check();
                std::thread::sleep(Duration::from_millis(dice.roll(800) as u64));
                signal(run.pid(), Signal::SIGKILL);
                note(scene.end(run));
            }
            1 => {
                for run in [check(), check(), check()] {
                    note(scene.end(run));
                }
            }
            _ => note(scene.end(check())),
        }
        std::thread::sleep(Duration::from_millis(dice.roll(300) as u64));
    }
    codes
}

/// The live processes of a program, and those of its helper.
fn lives(scene: &Scene, name: &str) -> (Vec<i32>, Vec<i32>) {
    let main = format!("/bin/sh {}/rogue.sh {name}", scene.dir());
    let helper = format!("{}/helper-{name} 100000", scene.dir());
    let live: Vec<Proc> = processes().into_iter().filter(Proc::lives).collect();
    let copies = live.iter().filter(|p| p.command_line() == main);
    let helpers = live.iter().filter(|p| p.command_line() == helper);
    let pids = helpers.map(|p| p.pid).collect();
    (copies.map(|p| p.pid).collect(), pids)
}

/// What a process has open.
fn open_files(process: &str) -> BTreeSet<PathBuf> {
    let listed = fs::read_dir(format!("/proc/{process}/fd"));
    listed
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .collect()
}

/// What the journal says of a program, held against what the program itself counted.
fn account(scene: &Scene, rogue: &Rogue, journal: &[Value]) -> (usize, usize) {
    let name = &rogue.name;
    let starts = scene.starts(name);
    let known: BTreeSet<i64> = starts.iter().map(|&pid| i64::from(pid)).collect();
    // a run tells last what a run before it had left unfinished, so that beginnings and ends are counted
    let (mut attempts, mut ends) = (0_usize, 0_usize);
    for entry in journal.iter().filter(|entry| entry["service"] == *name) {
        match entry["event"].as_str().unwrap() {
            "restarting" => attempts += 1,
            "restarted" | "restart_failed" | "interrupted" => ends += 1,
            _ => {}
        }
        for key in ["old_pid", "new_pid"] {
            if let Some(pid) = entry["action"][key].as_i64() {
                assert!(
                    known.contains(&pid),
                    "{name}: PID {pid} is none of its own: {entry}"
                );
            }
        }
    }
    // one that was killed between the charge and its line in the journal is told by its end alone
    let charged = attempts.max(ends);
    assert!(
        starts.len() <= charged && starts.len() <= rogue.max_per_hour,
        "{name}: {} starts, {charged} attempts",
        starts.len()
    );
    assert!(
        attempts <= rogue.max_per_hour,
        "{name}: {attempts} attempts"
    );
    (attempts, attempts.saturating_sub(ends))
}

fn number_from(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().expect(variable))
}

#[test]
#[ignore = "needs its time: WATCHDOG_SOAK_SECONDS"]
fn twenty_rogues_are_kept_running_one_copy_of_each() {
    let seconds = number_from("WATCHDOG_SOAK_SECONDS").unwrap_or(20);
    let seed = number_from("WATCHDOG_SOAK_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        u64::from(now.unwrap().subsec_nanos())
    });
    println!("WATCHDOG_SOAK_SEED={seed} WATCHDOG_SOAK_SECONDS={seconds}");
    let scene = Scene::new();
    let rogues = rogues();
    scene.write("rogue.sh", ROGUE);
    scene.write(
        "restart.sh",
        "BY=command setsid /bin/sh \"${0%/*}/rogue.sh\" \"$1\" </dev/null >/dev/null 2>&1 &\n",
    );
    scene.shell("mkfifo hold").exits(0);
    for rogue in &rogues {
        let helper = scene.path(&format!("helper-{}", rogue.name));
        std::os::unix::fs::symlink("/bin/sleep", helper).unwrap();
        if rogue.known == Known::Fully {
            scene.write(&format!("{}.log", rogue.name), "");
        }
    }
    let tables: String = rogues.iter().map(table).collect();
    scene.config(&format!(
        "check_timeout = \"1m\"\n[defaults]\nstart_grace = \"0s\"\n\
         {MAIL}{tables}"
    ));
    let stranger = scene.start("stranger", &[]);

    let over = AtomicBool::new(false);
    let mut blows = 0;
    let codes = std::thread::scope(|scope| {
        let chaos = scope.spawn(|| {
            let mut dice = Dice(seed);
            let mut blows = 0;
            while !over.load(Ordering::Relaxed) {
                strike(&scene, &rogues, stranger, &mut dice);
                blows += 1;
                std::thread::sleep(Duration::from_millis(20 + dice.roll(200) as u64));
            }
            blows
        });
        let flag = Flag(&over);
        let mut dice = Dice(!seed);
        let until = Instant::now() + Duration::from_secs(seconds);
        let codes = watch(&scene, until, &mut dice);
        drop(flag);
        blows = chaos.join().unwrap();
        codes
    });

    // before anything is forgotten or mended
    let kept = ["state/journal.jsonl.1", "state/journal.jsonl"].map(|name| scene.read(name));
    let journal: Vec<Value> = kept.iter().flat_map(|text| json_lines(text)).collect();
    let killed = codes.get(&-9).copied().unwrap_or(0);
    let (mut attempts, mut without_end, mut astray) = (0, 0, 0);
    for rogue in &rogues {
        let (tried, unended) = account(&scene, rogue, &journal);
        attempts += tried;
        without_end += unended;
        let (copies, helpers) = lives(&scene, &rogue.name);
        let told = || -> Vec<String> {
            let of_it = journal
                .iter()
                .filter(|entry| entry["service"] == rogue.name);
            of_it.map(Value::to_string).collect()
        };
        let name = &rogue.name;
        assert!(
            copies.len() <= 1,
            "{name}: {copies:?}\n{}",
            told().join("\n")
        );
        astray += helpers.len().saturating_sub(1);
    }
    // what a killed run did not come to write
    assert!(
        without_end <= killed * ALL,
        "{without_end} attempts without an end"
    );
    println!(
        "{blows} blows, runs by their exit codes {codes:?}, {attempts} attempts, {without_end} without an end, {astray} helpers astray"
    );

    // fair weather: all come back, those with a spent budget when they are let
    for rogue in &rogues {
        scene.write(&format!("{}.mood", rogue.name), "\n");
        let _ = fs::remove_file(scene.path(&format!("{}.hang", rogue.name)));
    }
    let names: Vec<&str> = rogues.iter().map(|rogue| rogue.name.as_str()).collect();
    scene.run(&[&["reset"], &names[..]].concat()).exits(0);
    for rogue in &rogues {
        for pid in lives(&scene, &rogue.name).0 {
            signal(pid, Signal::SIGKILL);
        }
    }
    scene.wait_until("all to be well", || scene.check().code == 0);
    let mut living = BTreeSet::new();
    let mut left_over = 0;
    for rogue in &rogues {
        let (copies, helpers) = lives(&scene, &rogue.name);
        assert_eq!(copies, [scene.last(&rogue.name)], "{}", rogue.name);
        assert!(!helpers.is_empty(), "{}", rogue.name);
        let led: BTreeSet<i32> = numbers(&scene.read(&format!("{}.direct", rogue.name)))
            .into_iter()
            .filter(|pid| !copies.contains(pid))
            .collect();
        let group = |pid: i32| nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid)));
        let of_former = |pid: &&i32| group(**pid).is_ok_and(|group| led.contains(&group.as_raw()));
        left_over += helpers.iter().filter(of_former).count();
        living.extend(copies);
    }
    println!("{left_over} helpers of former programs are left over");
    // of programs whose run was killed, and which ended before another had seen them: nobody knows whose they are
    assert!(left_over <= killed, "{left_over} helpers are left over");
    assert!(alive(stranger));
    // what the command of a restart starts has besides what whoever runs the tests has left open
    let mut own: BTreeSet<PathBuf> = open_files("self");
    own.extend(["rogue.sh", "hold"].map(|name| scene.path(name)));
    own.insert(Path::new("/dev/null").to_owned());
    for rogue in &rogues {
        let open = open_files(&scene.last(&rogue.name).to_string());
        assert!(open.is_subset(&own), "{} has {open:?} open", rogue.name);
    }
    // none of the former ones is left, not even as a zombie; their numbers may be others' by now, a helper's even
    for rogue in &rogues {
        for pid in scene.starts(&rogue.name) {
            scene.wait_until("the collection of the dead", || {
                living.contains(&pid)
                    || Proc::of(pid)
                        .is_none_or(|p| p.lives() && !p.command_line().contains("/rogue.sh "))
            });
        }
    }
    let left: Vec<String> = fs::read_dir(scene.path("state"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.strip_suffix(".out").is_none() && !name.starts_with("journal.jsonl"))
        .collect();
    let left: BTreeSet<&str> = left.iter().map(String::as_str).collect();
    assert!(
        left.is_subset(&BTreeSet::from([
            "evidence",
            "lock",
            "outbox",
            "state.json",
            "state.json.bak"
        ])),
        "{left:?}"
    );
    assert_eq!(numbers(&scene.read("stranger.starts")).len(), 1);
}
