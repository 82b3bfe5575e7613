//! Runs that are killed at every one of their steps: what the next ones make of it.
//!
//! Each case is a scene in which something is to be done. Its run is listed once, and then done again for each step
//! that changes something, killed just before it, and, where the step reaches another process, just after it as well;
//! between two steps of one thread nothing else happens. WATCHDOG_TEST_ALL_STEPS=1 kills after each step, too, and
//! has the disk full at each step of every case.
//!
//! All of it is in a PID namespace of its own, so that a scan of all processes takes a tracer no time.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::scene::servers::{ENVELOPE, Server};
use crate::scene::{Mail, Outcome, Scene, Service, alive, render};
use crate::steps::{Fault, When, takes_room, walk};

/// So many scenes side by side: they wait as much as they work.
const WORKERS: usize = 3;

/// Set by a person who has time.
const ALL_STEPS: &str = "WATCHDOG_TEST_ALL_STEPS";

/// Set in the namespace.
const INSIDE: &str = "WATCHDOG_TEST_INSIDE";

/// A scene at the beginning of the run that is to be killed.
struct Stage {
    scene: Scene,
    server: Option<Server>,
    /// The process that is to be replaced, where one runs.
    old: Option<i32>,
    /// How often the program had been started.
    before: usize,
}

/// What is tried, and what must come of it.
struct Case {
    name: &'static str,
    set: fn() -> Stage,
    /// How often the program is started from then on, by all runs together.
    starts: usize,
    /// The exit code of all runs once things have calmed down.
    calm: i32,
    /// The event that a person must hear of, if any.
    event: &'static str,
    /// A finding that must be in the journal, if any.
    finding: &'static str,
}

fn service() -> Service {
    Service::new("a")
        .restart("settle", "\"0s\"")
        .restart("max_per_hour", "2")
}

/// A scene whose mail goes to a server, or into a directory.
fn stage(service: &Service, by_smtp: bool) -> Stage {
    let scene = Scene::new();
    let server = by_smtp.then(Server::new);
    let transport = server
        .as_ref()
        .map_or("directory = \"mails\"".to_owned(), Server::table);
    scene.config(&format!("{ENVELOPE}{transport}\n{}", render(&[service])));
    Stage {
        scene,
        server,
        old: None,
        before: 0,
    }
}

impl Stage {
    /// Starts the program as by hand, and has a run see it.
    fn running(mut self) -> Self {
        let pid = self.scene.start("a", &["pid_file=a.pid"]);
        self.scene.check().exits(0);
        self.old = Some(pid);
        self.before = 1;
        self
    }

    fn dead(mut self) -> Self {
        self.scene.kill(self.old.take().unwrap());
        self
    }
}

/// A program that runs, with an error in its log since.
fn stage_with_an_error() -> Stage {
    let service = service().log("path = \"a.log\"\nforbid = ['ERROR']");
    let stage = stage(&service, false);
    stage.scene.write("a.log", "fine\n");
    let stage = stage.running();
    stage.scene.append("a.log", "ERROR\n");
    stage
}

const CASES: [Case; 10] = [
    Case {
        name: "dead, known by its command line, mail by SMTP",
        set: || {
            let service = service()
                .no_options()
                .spawn("write_pid_file", "true")
                .spawn("stdout", "\"out.log\"");
            stage(&service, true).running().dead()
        },
        starts: 1,
        calm: 0,
        event: "restarted",
        finding: "process_missing",
    },
    Case {
        name: "dead, known by what was started, mail into a directory",
        set: || {
            let mut stage = stage(&service().known_by(None), false);
            stage.scene.check().exits(1);
            stage.scene.check().exits(0);
            stage.before = 1;
            stage.old = Some(stage.scene.last("a"));
            std::fs::remove_dir_all(stage.scene.path("mails")).unwrap();
            stage.scene.edit_state(|state| {
                state["services"]["a"]["attempts"] = serde_json::json!([]);
                state["channels"]["mail"]["services"] = serde_json::json!({});
            });
            stage.dead()
        },
        starts: 1,
        calm: 0,
        event: "restarted",
        finding: "process_missing",
    },
    Case {
        name: "dead, known by a PID file that it writes late",
        set: || {
            let service = service()
                .known_by(Some("{ pid_file = \"a.pid\" }"))
                .option("delay=0.5");
            stage(&service, false).running().dead()
        },
        starts: 1,
        calm: 0,
        event: "restarted",
        finding: "process_missing",
    },
    Case {
        name: "frozen, with an error in its log",
        set: || {
            let stage = stage_with_an_error();
            stage.scene.freeze(stage.old.unwrap());
            stage
        },
        starts: 1,
        calm: 0,
        event: "restarted",
        finding: "log_error",
    },
    Case {
        name: "running, with an error in its log",
        set: stage_with_an_error,
        starts: 1,
        calm: 0,
        event: "restarted",
        finding: "log_error",
    },
    Case {
        name: "running, with an error in its log, repaired by a command",
        set: || {
            let stage = stage_with_an_error();
            let config = stage.scene.read("watchdog.toml");
            let strategy = "[[service.a.strategy]]\nfindings = [\"log_error\"]\ncommand = [\"/bin/sh\", \"{dir}/repair.sh\"]\n";
            stage.scene.raw_config(&format!("{config}{strategy}"));
            let script = "d=${0%/*}\necho begun >>$d/repairs\nsleep 0.1\necho ended >>$d/repairs\n";
            stage.scene.write("repair.sh", script);
            stage
        },
        starts: 0,
        calm: 0,
        event: "repaired",
        finding: "log_error",
    },
    Case {
        name: "dead, restarted by a command",
        set: || {
            let service = service()
                .watched()
                .restart("command", "[\"/bin/sh\", \"{dir}/init.sh\"]");
            let stage = stage(&service, false);
            stage.scene.write(
                "init.sh",
                "d=${0%/*}\nsleep 0.1\nsetsid /bin/sh $d/prog.sh a pid_file=a.pid </dev/null >/dev/null 2>&1 &\n",
            );
            stage.running().dead()
        },
        starts: 1,
        calm: 0,
        event: "restarted",
        finding: "process_missing",
    },
    Case {
        name: "its budget is spent",
        set: || {
            let service = service()
                .option("exit=1")
                // it ends before, however busy the machine is
                .restart("settle", "\"20s\"")
                .restart("max_per_hour", "1");
            let mut stage = stage(&service, true);
            stage.scene.run(&["check", "--no-mail"]).exits(2);
            stage.before = 1;
            stage
        },
        starts: 0,
        calm: 2,
        event: "exhausted",
        finding: "process_missing",
    },
    Case {
        name: "healthy, with a warning in its log",
        set: || {
            let service =
                service().log("path = \"a.log\"\nforbid = ['ERROR']\nseverity = \"warning\"");
            let stage = stage(&service, false);
            let mails = "directory = \"mails\"\non = [\"degraded\"]";
            stage
                .scene
                .config(&format!("{ENVELOPE}{mails}\n{}", render(&[&service])));
            stage.scene.write("a.log", "fine\n");
            let stage = stage.running();
            stage.scene.append("a.log", "ERROR\n");
            stage
        },
        starts: 0,
        calm: 0,
        event: "degraded",
        finding: "log_error",
    },
    Case {
        name: "healthy",
        set: || stage(&service(), true).running(),
        starts: 0,
        calm: 0,
        event: "",
        finding: "",
    },
];

#[test]
#[ignore = "needs root"]
fn f33_a_run_killed_at_any_step_forgets_and_doubles_nothing() {
    if std::env::var_os(INSIDE).is_none() {
        return go_inside("killed::f33_a_run_killed_at_any_step_forgets_and_doubles_nothing");
    }
    let everywhere = std::env::var_os(ALL_STEPS).is_some();
    each_step(|case, steps| {
        let last = steps.len() - 1;
        let mut work = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let reaches = [
                "fork",
                "execve",
                "pidfd_send_signal",
                "write socket",
                "connect",
            ];
            if everywhere || index == last || reaches.iter().any(|call| step.starts_with(call)) {
                work.push((case, Owned::Kill(step.clone(), When::After)));
            }
            work.push((case, Owned::Kill(step.clone(), When::Before)));
        }
        work
    });
}

#[test]
#[ignore = "needs root"]
fn f44_a_disk_that_is_full_at_any_step_forgets_and_doubles_nothing() {
    if std::env::var_os(INSIDE).is_none() {
        return go_inside(
            "killed::f44_a_disk_that_is_full_at_any_step_forgets_and_doubles_nothing",
        );
    }
    let everywhere = std::env::var_os(ALL_STEPS).is_some();
    each_step(|case, steps| {
        let mut work = Vec::new();
        if everywhere || case.event != "restarted" || case.name.contains("SMTP") {
            for step in steps.iter().filter(|step| takes_room(step)) {
                work.push((case, Owned::NoRoom(step.clone())));
                work.push((case, Owned::NoRoomFrom(step.clone())));
            }
        }
        work
    });
}

/// A fault to come.
#[derive(Clone, Debug)]
enum Owned {
    Kill(String, When),
    NoRoom(String),
    NoRoomFrom(String),
}

impl Owned {
    fn lent(&self) -> Fault<'_> {
        match self {
            Self::Kill(step, when) => Fault::Kill(step, *when),
            Self::NoRoom(step) => Fault::NoRoom(step),
            Self::NoRoomFrom(step) => Fault::NoRoomFrom(step),
        }
    }
}

/// Lists the steps of each case, and tries all faults that `plan` makes of them, side by side.
fn each_step(plan: impl Fn(&'static Case, &[String]) -> Vec<(&'static Case, Owned)>) {
    let only = std::env::var("WATCHDOG_TEST_CASE").unwrap_or_default();
    let mut work = Vec::new();
    for case in CASES.iter().filter(|case| case.name.contains(&only)) {
        let stage = (case.set)();
        let walked = walk(&stage.scene, &["check", "--json"], None);
        println!("{}: {} steps", case.name, walked.steps.len());
        assert!(walked.steps.len() > 10, "{:?}", walked.steps);
        judge(case, &stage, None);
        work.extend(plan(case, &walked.steps));
    }
    let total = work.len();
    let queue = Mutex::new(work);
    let missed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().pop();
                    let Some((case, fault)) = next else { return };
                    let stage = (case.set)();
                    let walked = walk(&stage.scene, &["check", "--json"], Some(fault.lent()));
                    // one that was started may not have said so yet
                    let is_untouched = stage.scene.starts("a").len() == stage.before
                        && stage.old.map_or(stage.scene.copies("a") == 0, alive)
                        && !stage.scene.has("repairs");
                    judge(case, &stage, Some(&fault));
                    if is_untouched && matches!(fault, Owned::NoRoom(_)) {
                        was_not_cut_short(&stage.scene, &fault);
                    }
                    if !walked.met {
                        missed
                            .lock()
                            .unwrap()
                            .push((case.name, fault, walked.steps));
                    }
                }
            });
        }
    });
    println!("{total} faults");
    let missed = missed.into_inner().unwrap();
    assert!(
        missed.is_empty(),
        "steps that did not come again: {missed:#?}"
    );
}

/// Runs a test again in a PID namespace of its own, below a PID 1 that collects orphans.
fn go_inside(test: &str) {
    let ended = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["/bin/sh", "-c", "\"$@\" & wait $!", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--include-ignored", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ended.stdout).into_owned();
    println!("{told}");
    assert!(
        ended.status.success() && told.contains("1 passed"),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
}

/// A run that waits for the lock: what a killed run was about to start has it until its exec.
fn check(scene: &Scene) -> Outcome {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let outcome = scene.check();
        if outcome.code != 75 || Instant::now() >= deadline {
            return outcome;
        }
    }
}

/// An attempt that could not be recorded was none, although a first part of the record may have been on the disk.
fn was_not_cut_short(scene: &Scene, fault: &Owned) {
    let journal = scene.journal();
    let cut_short = journal.iter().find(|entry| entry["event"] == "interrupted");
    assert_eq!(cut_short, None, "{fault:?}");
}

fn judge(case: &Case, stage: &Stage, fault: Option<&Owned>) {
    let scene = &stage.scene;
    let place = format!("{}, {fault:?}", case.name);
    let mut codes = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline && !codes.ends_with(&[case.calm, case.calm]) {
        codes.push(check(scene).code);
    }
    assert!(
        codes.ends_with(&[case.calm, case.calm]),
        "{place}: {codes:?}"
    );
    let starts = scene.starts("a").len() - stage.before;
    assert_eq!(starts, case.starts, "starts; {place}");
    assert_eq!(
        scene.copies("a"),
        usize::from(case.calm == 0),
        "copies; {place}"
    );
    if let Some(old) = stage.old {
        assert_eq!(alive(old), case.starts == 0, "the old one; {place}");
    }
    let attempts = scene.state()["services"]["a"]["attempts"]
        .as_array()
        .unwrap()
        .len();
    let repaired = case.event == "repaired";
    if repaired {
        // never two at a time, and each one counted
        let repairs = scene.read("repairs");
        let once = "begun\nended\n";
        assert!(
            !repairs.is_empty() && once.repeat(attempts).starts_with(&repairs),
            "{repairs} in {attempts} attempts; {place}"
        );
    }
    let spent = usize::from(case.event == "exhausted" || repaired);
    assert!(
        attempts >= starts + spent && attempts <= starts + spent + 1,
        "{attempts} attempts for {starts} starts; {place}"
    );
    for entry in std::fs::read_dir(scene.path("state")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let is_known = [
            "lock",
            "state.json",
            "state.json.bak",
            "journal.jsonl",
            "outbox",
            "evidence",
            "a.out",
        ];
        assert!(is_known.contains(&name.as_str()), "{name} is left; {place}");
    }
    assert_eq!(scene.outbox(), 0, "outbox; {place}");
    let journal = scene.journal();
    let found = |code: &str| {
        journal.iter().any(|entry| {
            let mut findings = entry["findings"].as_array().into_iter().flatten();
            findings.any(|finding| finding["code"] == code)
        })
    };
    let journalled = case.finding.is_empty() || found(case.finding);
    let no_room = matches!(fault, Some(Owned::NoRoom(_) | Owned::NoRoomFrom(_)));
    assert!(journalled || no_room, "finding; {place}");
    judge_mails(case, stage, fault, &place);
}

fn judge_mails(case: &Case, stage: &Stage, fault: Option<&Owned>, place: &str) {
    let mails: Vec<Mail> = match &stage.server {
        Some(server) => {
            let got = server.got();
            got.iter().map(|got| Mail::parse(&got.text)).collect()
        }
        None => stage.scene.mails(),
    };
    let mut ids: BTreeMap<String, &Mail> = BTreeMap::new();
    for mail in &mails {
        ids.insert(mail.header("Message-ID").unwrap(), mail);
    }
    let told = |text: &str| ids.values().filter(|mail| mail.body.contains(text)).count();
    let interrupted = told("was cut short while");
    let events: BTreeSet<String> = ids
        .values()
        .map(|mail| mail.header("X-Watchdog-Event").unwrap())
        .collect();
    assert!(
        interrupted <= 1,
        "told twice that it was cut short; {place}"
    );
    let kill = match fault {
        Some(Owned::Kill(step, _)) => Some(step),
        _ => None,
    };
    let own_trouble = ids
        .values()
        .filter(|mail| mail.header("X-Watchdog-Event").as_deref() == Some("watchdog"))
        .count()
        .saturating_sub(interrupted);
    if fault.is_none() || kill.is_some() {
        assert_eq!(own_trouble, 0, "{mails:?}; {place}");
    }
    assert!(
        ids.len() <= 2 + own_trouble,
        "{} messages; {place}",
        ids.len()
    );
    if case.event.is_empty() {
        assert_eq!(mails.len(), own_trouble, "{mails:?}; {place}");
    } else {
        assert!(
            events.contains(case.event) || interrupted == 1,
            "{events:?} told; {place}"
        );
    }
    // the server has taken it, and the run that knew was killed before it could note that, or had no room to
    let noting = |step: &String| {
        ["write socket", "unlink /state/outbox"]
            .iter()
            .any(|call| step.starts_with(call))
    };
    let in_doubt = match kill {
        Some(step) => noting(step),
        None => fault.is_some(),
    };
    let most = ids.len() + usize::from(in_doubt);
    assert!(
        mails.len() <= most,
        "{} copies of {}; {place}",
        mails.len(),
        ids.len()
    );
}
