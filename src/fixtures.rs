//! Services, what is seen of them and what is done to them, for the tests of the pure modules.

use std::fs::{self, File};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use nix::sys::signal::Signal;

use crate::check::process::{Identity, LastSeen, ProcessStatus, Running};
use crate::check::{CheckStates, Finding, Kind, Observation, Severity, SubjectState, log};
use crate::config::{OnExhausted, Policy, Remedy, Service, Strategy};
use crate::notify::{Alert, Event, Routing};
use crate::restart::command::Command;
use crate::restart::repair::Repair;
use crate::restart::{Action, Limits, MethodName, Operation, RestartMethod, WaitFor};
use crate::table::Factor;

/// A moment, so many seconds after a fixed one.
pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::seconds(seconds)
}

/// A service with the defaults of the config and a command to restart it.
pub(crate) fn service(name: &str) -> Service {
    Service {
        name: name.to_owned(),
        file: Path::new("/etc/watchdog.toml").into(),
        description: None,
        enabled: true,
        working_dir: Path::new("/").into(),
        start_grace: Duration::from_secs(60),
        depends_on: Vec::new(),
        process: None,
        checks: Vec::new(),
        unit: None,
        container: None,
        method: Some(RestartMethod::Command(Command {
            container: None,
            command: vec!["/bin/true".to_owned()],
            working_dir: Path::new("/").into(),
            stop_first: true,
        })),
        strategies: Vec::new(),
        policy: Policy {
            max_per_hour: 3,
            on_exhausted: OnExhausted::Wait,
            after_failures: 1,
            out_of: None,
            cooldown: Duration::ZERO,
            backoff: Factor::ONE,
            max_cooldown: Duration::from_hours(1),
            max_attempts: 0,
        },
        evidence: crate::restart::evidence::Settings::default(),
        limits: Limits {
            stop_signal: Signal::SIGTERM,
            stop_timeout: Duration::from_secs(10),
            start_timeout: Duration::from_secs(30),
            settle: Duration::from_secs(2),
            wait_for: WaitFor::Probes,
        },
        origin: None,
    }
}

/// A strategy for these findings, with the limits of [`service`].
pub(crate) fn strategy(findings: &[&str], remedy: Remedy) -> Strategy {
    Strategy {
        id: findings.join("+"),
        findings: findings.iter().map(|&code| code.to_owned()).collect(),
        policy: service("a").policy,
        remedy,
    }
}

/// One that repairs.
pub(crate) fn repair(findings: &[&str]) -> Strategy {
    let command = Command {
        container: None,
        command: vec!["/bin/true".to_owned()],
        working_dir: Path::new("/").into(),
        stop_first: false,
    };
    let timeout = Duration::from_mins(5);
    strategy(findings, Remedy::Repair(Repair { command, timeout }))
}

pub(crate) fn identity(pid: i32) -> Identity {
    Identity {
        pid,
        start: u64::from(pid.unsigned_abs()),
        boot_id: "a".into(),
    }
}

/// A process that has run for so many seconds.
pub(crate) fn up(pid: i32, age: u64) -> Observation {
    let main = identity(pid);
    Observation {
        findings: Vec::new(),
        notes: Vec::new(),
        process_status: ProcessStatus::Running(Running {
            age: Duration::from_secs(age),
            ..Running::just_started(main.clone())
        }),
        activating: None,
        recreating: None,
        left_alone: None,
        unjudged: None,
        awaited: None,
        network_of: None,
        control_group: None,
        container: None,
        subject: SubjectState {
            process: LastSeen {
                main: Some(main),
                ..LastSeen::default()
            },
            unit: None,
            container: None,
        },
        checks: CheckStates::default(),
        tail: log::Tail::default(),
        consumed: false,
        unsettled: false,
    }
}

/// No process.
pub(crate) fn gone() -> Observation {
    Observation {
        findings: vec![Finding::new(
            Kind::Process,
            "process_missing",
            Severity::Critical,
            "gone",
        )],
        process_status: ProcessStatus::NotRunning,
        ..up(1, 0)
    }
}

/// The same with a finding more.
pub(crate) fn with(
    mut observation: Observation,
    check: Kind,
    code: &'static str,
    severity: Severity,
) -> Observation {
    observation
        .findings
        .push(Finding::new(check, code, severity, code));
    observation
}

/// A log without a write for too long.
pub(crate) fn stale() -> Finding {
    Finding::new(
        Kind::Log,
        "log_stale",
        Severity::Critical,
        "logs/trader.log: no write for 7m 12s (limit 5m)",
    )
}

/// A restart that went well.
pub(crate) fn action() -> Action {
    Action {
        kind: Operation::Restart,
        method: MethodName::Spawn,
        ok: true,
        old_pid: Some(4711),
        new_pid: Some(4980),
        duration_ms: 2310,
        error: None,
        stderr: Vec::new(),
        pending: Vec::new(),
        evidence: None,
        facts: Vec::new(),
        from: None,
        to: None,
    }
}

/// Something to tell, without evidence.
pub(crate) fn alert(service: &str, event: Event) -> Alert {
    Alert {
        max_per_hour: 3,
        ..Alert::new(at(0), service, event)
    }
}

/// What the table of a channel has beside, by default.
pub(crate) fn common() -> crate::notify::Common {
    crate::notify::Common {
        routing: routing(&[Event::Down]),
        timeout: Duration::from_secs(10),
    }
}

/// What a channel reports, with the other defaults of its table.
pub(crate) fn routing(on: &[Event]) -> Routing {
    Routing {
        on: on.to_vec(),
        min_severity: None,
        services: vec!["*".to_owned()],
        remind_every: Duration::from_hours(1),
        max_per_hour: 12,
        escalate_after: Duration::ZERO,
        quiet: None,
    }
}

/// Reads a path again and again while it is swapped between a good file and a FIFO, and says whether the FIFO was ever
/// opened. `read` says which of the two it met.
pub(crate) fn opens_a_fifo(good: &Path, read: impl Fn(&Path) -> Met) -> bool {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let fifo = at("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // this waits until somebody opens it for reading
    let writer = thread::spawn({
        let fifo = fifo.clone();
        move || drop(File::options().write(true).open(fifo).unwrap())
    });
    let path = at("swapped");
    let targets = [fifo.as_path(), good];
    symlink(good, &path).unwrap();
    let (over, turns) = (AtomicBool::new(false), AtomicUsize::new(0));
    let opened = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let turn = turns.fetch_add(1, Ordering::Relaxed);
                symlink(targets[turn % 2], at("next")).unwrap();
                fs::rename(at("next"), &path).unwrap();
            }
        });
        // each was met often, so it was swapped now and then while it was read
        let (mut fifos, mut files) = (0, 0);
        while (fifos < SWAPS || files < SWAPS) && !writer.is_finished() {
            match read(&path) {
                Met::Fifo => fifos += 1,
                Met::File => files += 1,
            }
        }
        over.store(true, Ordering::Relaxed);
        writer.is_finished()
    });
    // so that the writer ends
    let reader = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&fifo);
    drop(reader.unwrap());
    writer.join().unwrap();
    opened
}

/// How often each of two things is to be met.
const SWAPS: usize = 5000;

/// What was met at a path.
#[derive(Debug)]
pub(crate) enum Met {
    Fifo,
    File,
}
