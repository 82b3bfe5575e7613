use std::collections::BTreeMap;

use super::*;
use crate::config::{Environment, parse};
use crate::restart::RestartMethod;
use crate::restart::scope::Place;

fn trader() -> Facts {
    Facts {
        pid: 4711,
        name: "python3".to_owned(),
        program: Some("/usr/bin/python3.11".into()),
        arguments: ["/usr/bin/python3", "-u", "main.py", "it's"]
            .map(str::to_owned)
            .to_vec(),
        working_dir: "/srv/trader".into(),
        user: "trader".to_owned(),
        uid: 1001,
        is_own_user: false,
        group: None,
        environment: BTreeMap::new(),
        umask: Some(0o022),
        nice: 0,
        unit: None,
        pid_file: None,
        open: Vec::new(),
    }
}

fn found() -> Found {
    Found {
        pattern: r"^/usr/bin/python3 -u main\.py( |$)".to_owned(),
        is_unique: true,
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// The table, which has to be a config, and that config's one service.
fn told(facts: &Facts, found: &Found) -> (String, crate::config::Service) {
    let text = table(facts, found, "4711", now());
    let config = parse(
        &text,
        Path::new("/etc/watchdog/watchdog.toml"),
        &Environment::default(),
    );
    let mut config = config.unwrap_or_else(|faults| panic!("{faults:?}\n{text}"));
    (text, config.services.remove(0))
}

#[test]
fn a_program_is_told_whole() {
    let mut facts = trader();
    facts.pid_file = Some("/srv/trader/trader.pid".into());
    facts.group = Some("staff".to_owned());
    facts.umask = Some(0o027);
    facts.nice = 5;
    for (key, value) in [
        ("TZ", "Europe/Berlin"),
        ("PATH", "/opt/bin:/usr/bin"),
        ("HOME", "/home/trader"),
        ("SSH_CLIENT", "x"),
        ("API_SECRET", "hunter2"),
    ] {
        facts.environment.insert(key.to_owned(), value.to_owned());
    }
    let open = |number, path: &str, ago| Open {
        number,
        path: path.into(),
        appends: true,
        written: Some(now() - Duration::from_secs(ago)),
        owner: 1001,
    };
    facts.open = vec![
        open(1, "/srv/trader/out.log", 3),
        open(2, "/srv/trader/out.log", 3),
        open(7, "/srv/trader/audit", 100_000),
        open(8, "/srv/trader/cache.db", 3),
    ];
    let (text, service) = told(&facts, &found());
    assert_eq!(
        text,
        r#"# PID 4711, as it runs now; `watchdog validate` and `watchdog check --dry-run` show whether this is what you mean
[service.main]
working_dir = "/srv/trader"
process = { pid_file = "/srv/trader/trader.pid", command_line = '^/usr/bin/python3 -u main\.py( |$)', user = "trader" }
# not taken over, because they may be secret: its variables API_SECRET; what it needs belongs in an env_file
spawn = { command = ["/usr/bin/python3", "-u", "main.py", "it's"], user = "trader", group = "staff", env = { PATH = "/opt/bin:/usr/bin", TZ = "Europe/Berlin" }, stdout = "/srv/trader/out.log", stderr = "/srv/trader/out.log", umask = "027", nice = 5 }

[[service.main.log]]
path = "/srv/trader/out.log"
# last written 3s ago; if it always writes about as often, this tells a program that is frozen:
#max_age = "5m"

[[service.main.log]]
path = "/srv/trader/audit"
# last written 1d 3h ago: too seldom for a limit that would tell a frozen program
"#
    );
    let Some(RestartMethod::Spawn(spawn)) = service.method else {
        panic!("{text}");
    };
    assert_eq!(spawn.command, facts.arguments);
    assert_eq!(spawn.umask, 0o027);
}

#[test]
fn a_unit_is_left_to_systemd() {
    let mut facts = trader();
    facts.unit = Some(Place {
        unit: "trader.service".to_owned(),
        manager: Manager::User,
    });
    let (text, service) = told(&facts, &found());
    assert!(
        text.contains("\nsystemd = { unit = \"trader.service\", manager = \"user\" }\n"),
        "{text}"
    );
    assert!(service.process.is_none(), "{text}");
}

#[test]
fn output_that_its_user_could_not_open_is_a_comment() {
    let mut facts = trader();
    facts.open = vec![Open {
        number: 2,
        path: "/var/log/trader.err".into(),
        appends: true,
        written: None,
        owner: 0,
    }];
    let (text, _) = told(&facts, &found());
    assert!(
        text.contains(
            "# its stderr goes to /var/log/trader.err, which belongs to another user and was opened for it: chown that file \
             before you write it here\n"
        ),
        "{text}"
    );
    assert!(
        text.contains(
            "# last written at an unknown time: too seldom for a limit that would tell a frozen program\n"
        ),
        "{text}"
    );
    assert!(!text.contains("stderr ="), "{text}");
    facts.uid = 0;
    assert!(
        told(&facts, &found())
            .0
            .contains("stderr = \"/var/log/trader.err\"")
    );
}

#[test]
fn a_title_is_no_command() {
    let mut facts = trader();
    facts.arguments = vec!["nginx: master process nginx -c /etc/nginx/nginx.conf".to_owned()];
    facts.program = Some("/usr/sbin/nginx".into());
    facts.name = "nginx".to_owned();
    assert_eq!(words(&facts)[0], "nginx: master");
    let (text, service) = told(&facts, &found());
    assert!(service.method.is_none(), "{text}");
    assert!(
        text.contains(
            "# it has written a title over its arguments, so how it was started is not known; fill it in, or it is\n\
             # only watched:\n#spawn = { command = ["
        ),
        "{text}"
    );
}

#[test]
fn whatever_arguments_hold_comes_through() {
    let mut facts = trader();
    facts.arguments = [
        "/usr/bin/env",
        "a b",
        "",
        "'",
        "\"",
        "\\",
        "\n\t\u{1b}\u{7f}",
        "$HOME",
        "'''",
        "é日本",
    ]
    .map(str::to_owned)
    .to_vec();
    let known = pattern::find(&facts.arguments, &[]);
    let (text, service) = told(&facts, &known);
    let Some(RestartMethod::Spawn(spawn)) = service.method else {
        panic!("{text}");
    };
    assert_eq!(spawn.command, facts.arguments, "{text}");
    assert!(
        !text.contains(|c: char| c.is_control() && c != '\n'),
        "{text:?}"
    );
}

#[test]
fn a_twin_and_a_strange_name_are_told() {
    let mut facts = trader();
    facts.arguments = vec!["/opt/my prog".to_owned()];
    facts.name = "my prog\u{7}".to_owned();
    facts.working_dir = "/gone (deleted)".into();
    let twin = Found {
        is_unique: false,
        ..found()
    };
    let text = table(&facts, &twin, "4711", now());
    assert!(text.contains("[service.my-prog-]"), "{text}");
    for said in [
        "# something else that runs has the same command line: without a PID file they cannot be told apart\n",
        "# this directory is gone: name one that there is\n",
    ] {
        assert!(text.contains(said), "{text}");
    }
    assert!(table(&facts, &twin, "a.b", now()).contains("[service.\"a.b\"]"));
}

#[test]
fn f75_a_value_is_read_back_as_it_was_and_steers_no_terminal() {
    for text in [
        "plain",
        "it's",
        "a\\b",
        "say \"x\"",
        "'\"\"\"'''\n[evil]\n#",
        "\x1b[2J\u{9b}\u{7f}\u{202e}x\u{200b}\t\r\n",
        "ü 漢",
    ] {
        let written = quoted(text);
        assert!(!written.contains(is_unseen), "{written}");
        let read: toml::Table = format!("x = {written}").parse().unwrap();
        assert_eq!(read["x"].as_str(), Some(text), "{written}");
    }
}

#[test]
fn a_thread_of_the_kernel_is_no_program() {
    let kernel = crate::process_table::Process {
        pid: 2,
        parent: 0,
        group: 0,
        state: crate::process_table::ProcessState::Alive,
        start: 1,
        uid: Some(0),
        command: Vec::new(),
        ends: Box::default(),
        kernel: true,
    };
    assert_eq!(
        chosen("2", &ProcessTable::of([kernel], 1)).unwrap_err(),
        "PID 2 is a thread of the kernel"
    );
}
