//! What the fuzzer plays: each target takes bytes, and panics where a promise is broken.
//!
//! They see only what the library makes public, so that `cargo test`, which is for everybody, can play them a little
//! as well.

// each fuzzing program plays one of them
#![allow(dead_code)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use watchdog::check::process::{ProcessStatus, parse_pid_file};
use watchdog::check::{
    CheckStates, Finding, Kind, Observation, Severity, SubjectState, log as log_check,
};
use watchdog::clock::Reading;
use watchdog::config::{self, Config, Environment};
use watchdog::decide::{self, Facts};
use watchdog::notify::mail::{
    Mailbox, Message, Secret, Settings, Smtp, Tls, Transport, eml, send_to,
};
use watchdog::notify::{Alert, ChannelKind, Event, Routing, Thread, digest, outbox};
use watchdog::settle::{AlertConfig, Outcome, record_attempt, settle};
use watchdog::state::journal::Entry;
use watchdog::state::store::{Loaded, Store};
use watchdog::state::{State, journal as journal_file};
use watchdog::web::{request as http, routes};

mod log;

// each fuzzer is a program that uses one target of all
#[allow(unused_imports)]
pub(crate) use log::log;

const PLACE: &str = "/etc/watchdog/watchdog.toml";

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_348_800, 0).unwrap()
}

thread_local! {
    static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

/// A directory for files, empty at first, kept from call to call: in memory where that can be had.
fn directory() -> PathBuf {
    FOLDER.with_borrow_mut(|directory| {
        let made = directory.get_or_insert_with(|| {
            let state = Path::new("/dev/shm");
            if state.is_dir() {
                tempfile::tempdir_in(state)
            } else {
                tempfile::tempdir()
            }
            .unwrap()
        });
        made.path().to_owned()
    })
}

fn parsed(text: &str) -> Result<Config, Vec<config::Fault>> {
    config::parse(text, Path::new(PLACE), &Environment::default())
}

/// What a config says is understood, or each fault has a place in the file; and what is shown of it means the same.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let lines = text.split('\n').count();
    match parsed(text) {
        Err(faults) => {
            assert!(!faults.is_empty());
            for fault in faults {
                let shown = fault.to_string();
                assert!(
                    !shown.contains(|c: char| c.is_control() && c != '\n'),
                    "{shown:?}"
                );
                // 0 is for what is missing as a whole
                assert!(
                    fault.line <= lines,
                    "line {} of {lines}: {shown}",
                    fault.line
                );
                let line = text.split('\n').nth(fault.line.saturating_sub(1)).unwrap();
                assert!(
                    fault.line == 0 || (1..=line.chars().count() + 1).contains(&fault.column),
                    "column {} of {line:?}: {shown}",
                    fault.column
                );
            }
        }
        Ok(config) => {
            let shown = config::to_toml(&config);
            let again = parsed(&shown).unwrap_or_else(|faults| {
                let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
                panic!("{}\n{shown}", told.join("\n"))
            });
            assert_eq!(config::to_toml(&again), shown);
            // but for its secrets, which are masked
            if !shown.contains("***") {
                assert_eq!(again, config, "{shown}");
            }
        }
    }
}

/// A PID file names a process that could be a service's, or nobody.
pub(crate) fn pid_file(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let line = text.split('\n').next().unwrap_or_default();
    let digits = line.trim_matches([' ', '\t', '\r', '\x0c']);
    match parse_pid_file(data) {
        Ok(pid) => {
            assert!(pid > 1 && data.len() <= 4096);
            assert!(digits.bytes().all(|b| b.is_ascii_digit()));
            assert_eq!(digits.trim_start_matches('0'), pid.to_string());
        }
        Err(why) => {
            assert!(!why.contains(char::is_control), "{why:?}");
            let meant: Option<i32> = digits.parse().ok().filter(|_| !digits.starts_with('+'));
            assert!(
                data.len() > 4096 || meant.is_none_or(|pid| pid <= 1),
                "{digits:?}: {why}"
            );
        }
    }
}

const BUDGET: usize = 3;

static BROKEN: LazyLock<Config> = LazyLock::new(|| {
    parsed(
        "[service.a]\nspawn = { command = [\"/bin/true\"] }\n\
         [service.b]\nrestart = { command = [\"/bin/true\"], on_exhausted = \"give_up\", cooldown = \"1m\" }\n\
         process = { pid_file = \"/b\" }\ndepends_on = [\"a\"]",
    )
    .unwrap()
});

fn gone() -> Observation {
    Observation {
        findings: vec![Finding::new(
            Kind::Process,
            "process_missing",
            Severity::Critical,
            "gone",
        )],
        notes: Vec::new(),
        process_status: ProcessStatus::NotRunning,
        activating: None,
        recreating: None,
        left_alone: None,
        unjudged: None,
        awaited: None,
        network_of: None,
        control_group: None,
        container: None,
        subject: SubjectState::default(),
        checks: CheckStates::default(),
        tail: log_check::Tail::default(),
        consumed: false,
        unsettled: false,
    }
}

/// Whatever the state and its backup hold, no hour has more restarts than the budget allows.
pub(crate) fn state(data: &[u8]) {
    // the first NUL is between the state and its backup
    let (state, backup) = data.split_at(data.iter().position(|&b| b == 0).unwrap_or(data.len()));
    let backup = backup.get(1..).unwrap_or_default();
    let _ = outbox::parse(state);
    let dir = directory();
    for entry in std::fs::read_dir(&dir).unwrap() {
        let _ = std::fs::remove_file(entry.unwrap().path());
    }
    std::fs::write(dir.join("state.json"), state).unwrap();
    if !backup.is_empty() {
        std::fs::write(dir.join("state.json.bak"), backup).unwrap();
    }
    let store = Store::at(&dir);
    let looked = store.look();
    let loaded = store.load(now()).unwrap();
    assert_eq!(
        (&looked.state, looked.trusted),
        (&loaded.state, loaded.trusted)
    );
    let Loaded {
        mut state,
        damage,
        trusted,
        lost,
    } = loaded;
    assert!(lost.is_none() || !damage.is_empty());
    assert!(
        trusted
            || (damage.len() == 1 + usize::from(!backup.is_empty()) && state == State::default())
    );
    for sentence in &damage {
        assert!(!sentence.contains(char::is_control), "{sentence:?}");
    }
    let reading = |minute: i64| Reading {
        wall: now() + TimeDelta::minutes(minute),
        boot_ms: u64::try_from(minute).unwrap() * 60_000 + 1_000_000,
        awake_ms: u64::try_from(minute).unwrap() * 60_000 + 1_000_000,
        boot_id: "a".into(),
    };
    state.adjust_to_clock(&reading(0));
    let mut attempts: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for service in &BROKEN.services {
        let known = state.services.get(&service.name);
        let old = known.iter().flat_map(|known| &known.attempts);
        let seconds = old.map(|&time| (time - now()).num_seconds().min(0));
        attempts.insert(&service.name, seconds.collect());
    }
    for minute in (0..130).step_by(7) {
        let now = reading(minute);
        state.adjust_to_clock(&now);
        let seen: BTreeMap<String, Observation> = BROKEN
            .services
            .iter()
            .map(|service| (service.name.clone(), gone()))
            .collect();
        let facts = Facts {
            seen: &seen,
            state: &state,
            now: now.wall,
            trusted: trusted || minute > 0,
        };
        for decision in decide::decide(&BROKEN.services, facts) {
            let service = BROKEN.service(&decision.service).unwrap();
            let observation = &seen[&decision.service];
            let outcome = decision.operation.is_some().then(|| {
                assert!(
                    trusted || minute > 0,
                    "restarted on a state that is not to be trusted"
                );
                let made = attempts.get_mut(service.name.as_str()).unwrap();
                let in_hour = made.iter().filter(|&&at| minute * 60 - at < 3600).count();
                assert!(in_hour < BUDGET, "{}: {made:?} and {minute}", service.name);
                made.push(minute * 60);
                record_attempt(&mut state, service, &decision, observation, now.wall);
                Outcome::Unfinished
            });
            let alerting = AlertConfig { channels: &[] };
            settle(
                &mut state,
                service,
                &decision,
                Some(observation),
                outcome.as_ref(),
                now.wall,
                alerting,
            );
        }
        let text = serde_json::to_vec(&state).unwrap();
        state = watchdog::state::store::parse_state(&text).unwrap();
    }
}

/// Lines of a journal are entries, or are counted as damaged; an entry is one line.
pub(crate) fn journal(data: &[u8]) {
    let dir = directory();
    let path = dir.join("journal.jsonl");
    std::fs::write(&path, data).unwrap();
    let mut entries = Vec::new();
    let damaged = journal_file::read(&dir, |entry| entries.push(entry)).unwrap();
    let lines = data.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    assert_eq!(entries.len() + damaged, lines.count());
    std::fs::remove_file(&path).unwrap();
    journal_file::append(&dir, &entries).unwrap();
    let mut again: Vec<Entry> = Vec::new();
    if !entries.is_empty() {
        assert_eq!(
            journal_file::read(&dir, |entry| again.push(entry)).unwrap(),
            0
        );
    }
    assert_eq!(again, entries);
}

/// A stamp of a line is a time, or there is none; and a stamp that was written by a format is read by it.
pub(crate) fn stamp(data: &[u8]) {
    const FORMATS: [&str; 15] = [
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%dT%H:%M:%S%.f%:z",
        "%b %e %H:%M:%S",
        "%d/%b/%Y:%H:%M:%S %z",
        "%H:%M:%S%.3f",
        "%s",
        "%a %b %e %T %Y",
        "%y%m%d %H%M",
        "%G-W%V-%u %H",
        "%j %R",
        "%m-%d %I:%M %p",
        "%Y-%m-%d %H:%M:%S %Z",
        "unix",
        "unix_ms",
        "tai64n",
    ];
    let [first, second, rest @ ..] = data else {
        return;
    };
    let split = rest.iter().position(|&b| b == 0).unwrap_or(rest.len());
    let own = || String::from_utf8_lossy(&rest[..split]).into_owned();
    let known = FORMATS.get(usize::from(*first));
    let format = known.map_or_else(own, |&format| format.to_owned());
    let line = match known {
        Some(_) => rest,
        None => rest.get(split + 1..).unwrap_or_default(),
    };
    let stamp = log_check::Stamp {
        format,
        after: if second & 1 == 0 {
            String::new()
        } else {
            "\"t\":\"".to_owned()
        },
        zone: if second & 2 == 0 {
            log_check::Zone::Utc
        } else {
            log_check::Zone::Local
        },
    };
    let read = stamp.read(line, now());
    // one with all of its parts is the same whatever the time is
    if *first < 2 {
        let later = stamp.read(line, now() + TimeDelta::days(400));
        // what lay too far ahead may not do so later
        if read.is_some() && (second & 2 == 0 || *first == 1) {
            assert_eq!(read, later, "{:?}", String::from_utf8_lossy(line));
        }
    }
    if let Some(time) = read
        && *first == 0
        && second & 2 == 0
    {
        let written = format!("{}{}", stamp.after, time.format(&stamp.format));
        assert_eq!(
            stamp.read(written.as_bytes(), now()),
            Some(time),
            "{written}"
        );
    }
}

/// What the kernel tells of a process is counted from the last parenthesis, whatever its name is.
pub(crate) fn proc_stat(data: &[u8]) {
    let parsed = watchdog::process_table::parse_stat(data);
    let mut named = b"4711 (".to_vec();
    named.extend_from_slice(data);
    named.extend_from_slice(
        b") T 17 4700 4711 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 1 0 987654 1000 10 0\n",
    );
    let stat = watchdog::process_table::parse_stat(&named).unwrap();
    assert_eq!((stat.parent, stat.group, stat.start), (17, 4700, 987_654));
    if let Some(stat) = parsed {
        let text = String::from_utf8_lossy(data);
        let (_, after) = text.rsplit_once(')').unwrap();
        let fields: Vec<&str> = after.split_ascii_whitespace().collect();
        assert_eq!(fields[19].trim_start_matches('+').parse(), Ok(stat.start));
    }
}

/// Answers of a mail server, whatever they are, are told in words that a terminal can be shown; and nothing hangs.
pub(crate) fn smtp(data: &[u8]) {
    static SERVER: LazyLock<(u16, Mutex<std::sync::mpsc::Sender<Vec<u8>>>)> = LazyLock::new(|| {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (give, given) = std::sync::mpsc::channel::<Vec<u8>>();
        std::thread::spawn(move || {
            for bytes in given {
                let Ok((mut stream, _)) = listener.accept() else {
                    return;
                };
                let _ = stream.write_all(&bytes);
                let _ = stream.shutdown(Shutdown::Write);
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                let _ = stream.read_to_end(&mut Vec::new());
            }
        });
        (port, Mutex::new(give))
    });
    let (port, give) = &*SERVER;
    let [first, said @ ..] = data else { return };
    give.lock().unwrap().send(said.to_vec()).unwrap();
    let settings = Settings {
        transport: Transport::Smtp(Smtp {
            host: "127.0.0.1".to_owned(),
            port: *port,
            tls: Tls::None,
            username: (first & 1 == 1).then(|| "user".to_owned()),
            password: (first & 1 == 1).then(|| Secret::Inline("canary7391".to_owned())),
            ca_file: None,
            timeout: Duration::from_secs(20),
        }),
        ..settings()
    };
    let report = send_to(
        &settings,
        &settings.recipients(),
        &plain_message(),
        Duration::from_secs(20),
    );
    assert_eq!(report.recipients.len(), settings.to.len());
    for trouble in report.troubles("mail") {
        assert!(!trouble.contains(char::is_control), "{trouble:?}");
        // a server that never was told it may say it by chance
        assert!(
            first & 1 == 0 || !trouble.contains("canary7391"),
            "{trouble}"
        );
        assert!(trouble.len() < 10_000, "{}", trouble.len());
    }
    let taken = said
        .split(|&b| b == b'\n')
        .filter(|line| line.starts_with(b"2"))
        .count();
    // greeting, EHLO, MAIL, RCPT, and the end of DATA
    assert!(!report.reached_somebody() || taken >= 5);
}

/// Variables have names and values that a program can be given; and what is quoted comes back as it was.
pub(crate) fn env_file(data: &[u8]) {
    use watchdog::program::parse_env_file;
    let text = String::from_utf8_lossy(data);
    match parse_env_file(&text) {
        Ok(variables) => {
            for (key, value) in variables {
                assert!(
                    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                );
                assert!(!key.starts_with(|c: char| c.is_ascii_digit()));
                assert!(!value.contains(['\0', '\n']));
            }
        }
        Err(why) => assert!(
            why.starts_with("line ") && !why.contains(char::is_control),
            "{why:?}"
        ),
    }
    let value: String = text
        .chars()
        .filter(|c| !matches!(c, '\n' | '\r' | '\0'))
        .collect();
    let quoted = format!("A='{}'", value.replace('\'', "'\\''"));
    assert_eq!(parse_env_file(&quoted), Ok(vec![("A".to_owned(), value)]));
}

fn settings() -> Settings {
    Settings {
        from: Mailbox::parse("watchdog@example.org").unwrap(),
        to: ["ops@example.org", "Boss <boss@example.org>"]
            .map(|to| Mailbox::parse(to).unwrap())
            .to_vec(),
        routing: Routing {
            on: Vec::new(),
            min_severity: None,
            services: vec!["*".to_owned()],
            remind_every: Duration::from_secs(3600),
            max_per_hour: 12,
            escalate_after: Duration::ZERO,
            quiet: None,
        },
        timeout: None,
        transport: Transport::Directory(PathBuf::from("/nonexistent")),
    }
}

fn plain_message() -> Message {
    Message {
        subject: "s".to_owned(),
        body: "b\n".to_owned(),
        services: vec!["a".to_owned()],
        event: Event::Down,
        time: now(),
        message_id: "<1@h>".to_owned(),
        in_reply_to: None,
        references: Vec::new(),
    }
}

/// The headers of a message, and whether a server could take it.
fn headers(settings: &Settings, message: &Message) -> Vec<String> {
    let bytes = eml(settings, message).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.is_ascii() && text.ends_with("\r\n"));
    assert!(
        text.bytes()
            .all(|b| b >= b' ' && b != 0x7f || b == b'\r' || b == b'\n'),
        "{text:?}"
    );
    for line in text.split("\r\n") {
        assert!(
            line.len() <= 998 && !line.contains(['\r', '\n']),
            "{line:?}"
        );
    }
    let (head, _) = text.split_once("\r\n\r\n").unwrap();
    head.split("\r\n")
        .filter(|line| !line.starts_with(' '))
        .map(|line| line.split_once(':').unwrap().0.to_owned())
        .collect()
}

/// Whatever is told, the headers are those that a message has, and the body can be shown.
pub(crate) fn mail(data: &[u8]) {
    let mut texts = data
        .split(|&b| b == 0)
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let mut next = || texts.next().unwrap_or_default();
    let settings = settings();
    let expected = headers(&settings, &plain_message());
    let alert = Alert {
        id: next(),
        time: now(),
        service: next(),
        event: Event::RestartFailed,
        findings: vec![Finding::new(
            Kind::Log,
            "log_error",
            Severity::Critical,
            next(),
        )],
        action: Some(watchdog::restart::Action {
            kind: watchdog::restart::Operation::Restart,
            method: watchdog::restart::MethodName::Spawn,
            ok: false,
            old_pid: None,
            new_pid: None,
            duration_ms: 1,
            error: Some(next()),
            stderr: vec![next()],
            pending: vec![next()],
            evidence: None,
            facts: Vec::new(),
            from: None,
            to: None,
        }),
        since: None,
        consecutive_failures: 1,
        attempts: 3,
        max_per_hour: 3,
        log_tail: vec![next(), next()],
        notes: vec![next()],
        same_finding: Some(next()),
        next_attempt: None,
        max_attempts: None,
        rate_limited: false,
        waits: false,
        incident: Some("a".to_owned()),
    };
    let threads = BTreeMap::from([("a".to_owned(), vec![next()])]);
    let context = digest::Context {
        config: None,
        table: "mail",
        rate_limited: 1,
        nonce: 7,
    };
    let notification = digest::compose(&next(), now(), &[alert], &context).unwrap();
    let composed = Message::of(&notification, &Thread::of(&notification, &threads));
    assert!(
        !composed.subject.contains(char::is_control),
        "{:?}",
        composed.subject
    );
    assert!(
        !composed
            .body
            .contains(|c: char| c.is_control() && c != '\n'),
        "{:?}",
        composed.body
    );
    let own: Vec<String> = headers(&settings, &composed)
        .into_iter()
        .filter(|name| name != "In-Reply-To" && name != "References")
        .collect();
    let bare = |list: &[String]| {
        list.iter()
            .filter(|name| *name != "Message-ID")
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(bare(&own), bare(&expected));
    let raw = Message {
        subject: next(),
        body: next(),
        services: vec![next(), next()],
        message_id: next(),
        in_reply_to: Some(next()),
        references: vec![next()],
        ..plain_message()
    };
    let raw: Vec<String> = headers(&settings, &raw)
        .into_iter()
        .filter(|name| name != "In-Reply-To" && name != "References")
        .collect();
    assert_eq!(bare(&raw), bare(&expected));
}

/// A request to `watchdog web` is read within its bounds, in whatever pieces it comes, and leads somewhere or is refused.
pub(crate) fn request(data: &[u8]) {
    let whole = http::parse(data);
    // what was whole before more came stays the same
    let first = (0..=data.len()).map(|end| http::parse(&data[..end]));
    let settled = first.into_iter().find(|parsed| *parsed != Ok(None));
    match (&whole, settled) {
        (Ok(None), settled) => {
            assert_eq!(settled, None);
            assert!(data.len() < http::HEAD);
        }
        // a refusal may come before all of the head has
        (Err(_), settled) => assert!(matches!(settled, Some(Err(_)))),
        (Ok(Some(_)), settled) => assert_eq!(settled.as_ref(), Some(&whole)),
    }
    let answer = match whole {
        Ok(None) => return,
        Err(refused) => routes::refused(refused),
        Ok(Some((head, length))) => {
            assert!(length <= http::HEAD && head.length <= http::BODY);
            assert!(head.path.starts_with('/'));
            match routes::route(head.method, &head.path) {
                Err(answer) => answer,
                Ok(routes::Route::Repair(name)) => {
                    assert!(!name.is_empty() && !name.contains('/'));
                    return;
                }
                Ok(_) => return,
            }
        }
    };
    assert!((400..600).contains(&answer.status));
    let text = String::from_utf8(answer.bytes(false, "", now())).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, answer.body);
    assert!(head.lines().skip(1).all(|line| line.contains(": ")));
}
