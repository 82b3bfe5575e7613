//! What a healthy run costs, held where it can be held without noise: in system calls.
//!
//! Times are for the benches. Calls that only set up and join threads, or get memory, depend on how busy the machine is,
//! and are left out; what is left is the same to a few on each. `cost.toml` has the figures that hold.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use crate::scene::{Scene, when};

/// System calls that the number of threads and the allocator decide about.
const LEFT_OUT: &str = "%memory,futex,clone3,rseq,set_robust_list,sigaltstack,rt_sigprocmask,rt_sigaction,gettid,prctl,sched_getaffinity,sched_yield,exit,arch_prctl,set_tid_address,getrandom";

/// System calls that depend on how soon others answer.
const WAITING: &str = "poll,ppoll,epoll_wait,epoll_pwait,epoll_pwait2";

/// A run may make this many per cent more calls than the figures say before it fails.
const TOLERATED: u64 = 10;

fn budget_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/cost.toml")
}

/// A scene of so many services with a PID file, a log that is watched, and a pattern; all of one process.
fn services(count: usize, command_line: bool) -> Scene {
    let scene = Scene::new();
    let pid = scene.start("bot", &[]);
    let mut config = String::new();
    for number in 0..count {
        let known = if command_line {
            "command_line = '{dir}/prog\\.sh bot$'".to_owned()
        } else {
            scene.write(&format!("{number}.pid"), format!("{pid}\n"));
            format!("pid_file = \"{number}.pid\"")
        };
        write!(
 config,
            "[service.s{number}]\nstart_grace = \"0s\"\nprocess = {{ {known} }}\n[[service.s{number}.log]]\npath = \"{number}.log\"\nmax_age = \"5m\"\nexpect = ['Position|Update']\nforbid = ['Traceback', {{ pattern = 'ERROR', at_most = 5 }}]\n"
        ).unwrap();
        for line in 0..300 {
            scene.append(
                &format!("{number}.log"),
                format!("2026-11-22 01:02:03 INFO Position update number {line}\n"),
            );
        }
    }
    scene.config(&config);
    // what was written just now is read twice, and again in the next run, for its time may not tell that it was written again
    let last = scene.path(&format!("{}.log", count - 1));
    scene.wait_until("logs and PID files that are a little old", || {
        let age = last.metadata().unwrap().modified().unwrap().elapsed();
        age.is_ok_and(|age| age > Duration::from_secs(6))
    });
    // a state must be there, and one that was not flushed
    for _ in 0..3 {
        scene.check().exits(0);
    }
    scene
}

/// So many endpoints, each of a service of its own, that all answer at once.
fn endpoints(count: usize) -> Scene {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    // it ends with the test
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
                );
            });
        }
    });
    let scene = Scene::new();
    let mut config = String::new();
    for number in 0..count {
        write!(
            config,
            "[service.s{number}]\n[[service.s{number}.http]]\nurl = \"http://127.0.0.1:{port}/{number}\"\n"
        )
        .unwrap();
    }
    scene.config(&config);
    for _ in 0..3 {
        scene.check().exits(0);
    }
    scene
}

/// A scene of one service and three channels, to which nothing is to be said.
fn channels() -> Scene {
    let scene = services(1, false);
    let config = scene.read("watchdog.toml");
    scene.raw_config(&format!(
        "{config}[mail]\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\nsmtp = {{ host = \"127.0.0.1\", port = 1 }}\n\
         [notify.hook]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:1/x\"\n\
         [notify.phone]\ntype = \"telegram\"\ntoken = \"1:x\"\nchat = \"1\"\n"
    ));
    for _ in 0..3 {
        scene.check().exits(0);
    }
    scene
}

/// The lines that strace writes of a run that finds all well, with these options.
fn trace(scene: &Scene, options: &str, code: i32) -> Vec<String> {
    scene
        .shell(&format!(
            "exec strace -f -qqq -o {{dir}}/trace {options} {{watchdog}} check --json"
        ))
        .exits(code);
    let trace = scene.read("trace");
    fs::remove_file(scene.path("trace")).unwrap();
    trace
        .lines()
        .filter(|line| !line.contains("resumed>") && line.contains('('))
        .map(str::to_owned)
        .collect()
}

/// Each figure with its name.
fn measured() -> Vec<(&'static str, u64)> {
    let counted = |scene: &Scene| {
        let lines = trace(scene, &format!("-e trace='!{LEFT_OUT}'"), 0);
        u64::try_from(lines.len()).unwrap()
    };
    let of_probes = |scene: &Scene| {
        let lines = trace(scene, &format!("-e trace='!{LEFT_OUT},{WAITING}'"), 0);
        // how often there is nothing to read yet is up to the server
        let lines = lines.iter().filter(|line| !line.contains("EAGAIN"));
        u64::try_from(lines.count()).unwrap()
    };
    vec![
        ("services_1", counted(&services(1, false))),
        ("services_100", counted(&services(100, false))),
        ("http_100", of_probes(&endpoints(100))),
        ("channels_3", counted(&channels())),
    ]
}

#[test]
#[ignore = "needs strace"]
fn a_healthy_run_makes_no_more_system_calls_than_it_did() {
    let measured = measured();
    if std::env::var_os("WATCHDOG_RENEW_COSTS").is_some() {
        let mut text = String::from(
            "# System calls of a healthy run, as tests/it/cost.rs counts them. To renew them:\n# WATCHDOG_RENEW_COSTS=1 cargo test --test it -- --include-ignored cost::a_healthy_run\n",
        );
        for (name, calls) in &measured {
            writeln!(text, "{name} = {calls}").unwrap();
        }
        fs::write(budget_file(), text).unwrap();
    }
    let budget: toml::Table = fs::read_to_string(budget_file()).unwrap().parse().unwrap();
    for (name, calls) in measured {
        let most = u64::try_from(budget[name].as_integer().unwrap()).unwrap();
        assert!(
            calls * 100 <= most * (100 + TOLERATED),
            "{name}: {calls} system calls, where it were {most}; is it worth that? tests/it/cost.toml tells how to renew the figures"
        );
    }
}

/// A log of ten gigabytes (a hole, for the most part) costs what one of ten kilobytes does.
#[test]
#[ignore = "needs strace"]
fn the_size_of_a_log_costs_nothing() {
    let scene = services(1, false);
    let small = trace(&scene, "-e trace=openat,pread64", 0);
    let log = File::options()
        .append(true)
        .open(scene.path("0.log"))
        .unwrap();
    log.set_len(10 << 30).unwrap();
    let lines = "2026-11-22 01:02:03 INFO Position update\n".repeat(300);
    (&log).write_all(format!("\n{lines}").as_bytes()).unwrap();
    // the first sight of what is new: it reads the newest of it, and says what it left out
    scene.check().exits(0);
    scene.check().exits(0);
    let large = trace(&scene, "-e trace=openat,pread64", 0);
    // the beginning of the log is no longer read with its end, and both twice for their age
    let more = large.len().saturating_sub(small.len());
    assert!(more <= 3, "{more} more calls: {large:#?}");
}

/// Where all services have PID files, nobody else is looked at, be they ten thousand; with command lines, each process
/// costs three calls, once, for however many services.
#[test]
#[ignore = "needs strace"]
fn other_processes_cost_nothing_or_three_calls() {
    let scene = services(10, false);
    let own = scene.last("bot");
    let seen = trace(&scene, "-e trace=%file", 0);
    let others: Vec<_> = seen
        .iter()
        .filter(|line| line.contains("\"/proc"))
        .filter(|line| {
            !["self/", "sys/", &own.to_string()]
                .iter()
                .any(|known| line.contains(known))
        })
        .collect();
    assert!(others.is_empty(), "{others:#?}");

    let scene = services(10, true);
    let seen = trace(&scene, "-e trace=openat", 0);
    let lists = seen
        .iter()
        .filter(|line| line.contains("\"/proc\""))
        .count();
    assert_eq!(lists, 1, "one pass for all services: {seen:#?}");
    let mut lines: Vec<&str> = seen
        .iter()
        .filter(|line| line.contains("/cmdline\""))
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    let all = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), all, "each command line is read once");
    // threads of the kernel have none, and are known by one look where the kernel tells
    let threads = fs::read_to_string("/proc/2/task/2/children").unwrap_or_default();
    let is_kernel = fs::read_to_string("/proc/2/comm").is_ok_and(|name| name == "kthreadd\n");
    for thread in threads.split_whitespace().filter(|_| is_kernel) {
        let line = format!("/proc/{thread}/cmdline");
        assert!(!lines.contains(&&*line), "{line}");
    }
    let other_files = seen
        .iter()
        .filter(|line| line.contains("\"/proc/") && !line.contains("/cmdline\""))
        .filter(|line| !line.contains("sys/kernel") && !line.contains("/2/children\""))
        // its own line of ancestors, and the processes that match
        .filter(|line| !line.contains("/stat\"") && !line.contains("self/"))
        .count();
    assert_eq!(other_files, 0, "{seen:#?}");
}

/// What TLS and mail need is not touched where nothing is mailed.
#[test]
#[ignore = "needs strace"]
fn nothing_of_mail_is_set_up_where_nothing_is_sent() {
    let scene = services(1, false);
    let config = scene.read("watchdog.toml");
    scene.raw_config(&format!(
        "{config}[mail]\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\nsmtp = {{ host = \"127.0.0.1\", port = 1 }}\n"
    ));
    scene.check().exits(0);
    let seen = trace(&scene, "-e trace=%file,%network", 0);
    let of_mail: Vec<_> = seen
        .iter()
        .filter(|line| {
            ["socket(", "connect(", "ssl", "certs", "resolv", "hosts"]
                .iter()
                .any(|part| line.contains(part))
        })
        .collect();
    assert!(of_mail.is_empty(), "{of_mail:#?}");
}

/// How often a run waits for the disk.
fn flushes(scene: &Scene, code: i32) -> usize {
    trace(scene, "-e trace=fsync,fdatasync", code).len()
}

#[test]
#[ignore = "needs strace"]
fn the_disk_is_waited_for_when_something_must_not_be_forgotten() {
    let scene = services(2, false);
    assert_eq!(flushes(&scene, 0), 0, "nothing new");
    scene.append("0.log", "INFO Position update\n");
    assert_eq!(flushes(&scene, 0), 0, "only harmless lines");
    scene.append("0.log", "ERROR of a kind\n");
    assert!(flushes(&scene, 0) > 0, "evidence, though within its limit");
    assert_eq!(flushes(&scene, 0), 0);

    let hours_ago = |field: &str| {
        scene.edit_state(|state| {
            let then = when(&state[field]) - chrono::TimeDelta::minutes(61);
            state["flushed"] = serde_json::json!(then);
        });
    };
    hours_ago("last_run");
    assert!(flushes(&scene, 0) > 0, "an hour has passed");
    assert_eq!(flushes(&scene, 0), 0);

    scene.append("0.log", "Traceback\n");
    assert!(flushes(&scene, 2) > 0, "a verdict that changed");
    assert!(flushes(&scene, 0) > 0, "and back");
    assert_eq!(flushes(&scene, 0), 0);

    // a restart: charged before anything is touched, and an alert about it
    let config = scene.read("watchdog.toml");
    scene.raw_config(&format!(
        "{config}[service.s0.restart]\nmax_per_hour = 1\nstart_timeout = \"1s\"\ncommand = [\"/bin/false\"]\n[mail]\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\ndirectory = \"mail\"\n"
    ));
    scene.check().exits(0);
    assert_eq!(flushes(&scene, 0), 0);
    scene.append("0.log", "Traceback\n");
    let waited = flushes(&scene, 2);
    // the state and its backup before the attempt, the state after it, the alert
    assert!(waited >= 8, "{waited}");
}

/// Whatever a power cut leaves of a state that was not flushed, the backup was, and knows every attempt.
#[test]
fn a_state_that_was_never_flushed_may_be_torn() {
    let scene = services(1, false);
    let config = scene.read("watchdog.toml");
    scene.raw_config(&format!(
        "{config}[service.s0.restart]\nmax_per_hour = 3\nstart_timeout = \"1s\"\ncommand = [\"/bin/false\"]\n"
    ));
    scene.append("0.log", "Traceback\n");
    scene.check().exits(2).verdict("s0", "restart_failed");
    scene.write("0.pid", format!("{}\n", scene.start("again", &[])));
    for _ in 0..3 {
        scene.check().exits(0);
    }
    assert_eq!(scene.state()["unflushed"], true);
    let whole = scene.read("state/state.json");
    for torn in ["", &whole[..whole.len() / 2], &"\0".repeat(whole.len())] {
        scene.write("state/state.json", torn);
        let outcome = scene.check().exits(0);
        assert_eq!(outcome.service("s0")["restarts_last_hour"], 1, "{torn:?}");
        assert!(scene.state()["unflushed"].is_null(), "told, and so flushed");
        scene.check().exits(0);
        assert_eq!(scene.state()["unflushed"], true);
    }
}
