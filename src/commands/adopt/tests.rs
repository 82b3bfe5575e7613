use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::facts::{LogSample, Open, Shape};
use super::parent::Parent;
use super::pid_file::PidFile;
use super::privileges::Privileges;
use super::toml::quoted;
use super::unit::{InUnit, Role};
use super::*;
use crate::check::log::{Stamp, Zone};
use crate::config::{Environment, Service, parse};
use crate::restart::RestartMethod;
use crate::restart::scope::Place;
use crate::systemctl::Manager;
use crate::text::is_invisible;

fn trader() -> Facts {
    Facts {
        pid: 4711,
        name: "python3".to_owned(),
        program: Some("/usr/bin/python3.11".into()),
        arguments: ["/usr/bin/python3", "-u", "/srv/trader/main.py", "it's"]
            .map(str::to_owned)
            .to_vec(),
        started_with: Some(4),
        samples: BTreeMap::new(),
        working_dir: "/srv/trader".into(),
        working_dir_is_gone: false,
        script_is_gone: false,
        root: None,
        user: "trader".to_owned(),
        uid: 1001,
        is_own_user: false,
        group: None,
        environment: BTreeMap::new(),
        inherited: BTreeSet::new(),
        umask: Some(0o022),
        nice: 0,
        unit: None,
        pid_file: None,
        other_pid_files: Vec::new(),
        open: Vec::new(),
        pipes: Vec::new(),
        terminal: None,
        privileges: Privileges::default(),
    }
}

/// With other arguments, which it was started with.
fn started_as(arguments: &[&str]) -> Facts {
    Facts {
        arguments: arguments.iter().map(|&it| it.to_owned()).collect(),
        started_with: Some(arguments.len()),
        ..trader()
    }
}

fn table(facts: &Facts) -> Table<'_> {
    Table {
        facts,
        twins: Twins::default(),
        parent: None,
        asked: "4711",
        is_root: true,
        now: now(),
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// The table, which has to be a config, and that config's one service.
fn told_of(table: &Table<'_>) -> (String, crate::config::Service) {
    let text = table.text();
    let config = parse(
        &text,
        Path::new("/etc/watchdog/watchdog.toml"),
        &Environment::default(),
    );
    let config = config.unwrap_or_else(|faults| panic!("{faults:?}\n{text}"));
    assert!(
        !text.contains(|c: char| c.is_control() && c != '\n'),
        "{text:?}"
    );
    (text, Service::clone(&config.services[0]))
}

fn told(facts: &Facts) -> (String, crate::config::Service) {
    told_of(&table(facts))
}

#[track_caller]
fn holds(text: &str, said: &str) {
    assert!(text.contains(said), "{said}\n--- is not in\n{text}");
}

fn open(number: u32, path: &str, ago: u64) -> Open {
    Open {
        number,
        path: path.into(),
        appends: true,
        written: Some(now() - Duration::from_secs(ago)),
        owner: 1001,
        mode: 0o644,
    }
}

fn pid_file(path: &str) -> PidFile {
    PidFile {
        path: path.into(),
        is_mentioned: true,
        can_be_made: true,
    }
}

#[test]
fn a_program_is_told_whole() {
    let mut facts = trader();
    facts.pid_file = Some(pid_file("/srv/trader/trader.pid"));
    facts.group = Some("staff".to_owned());
    facts.umask = Some(0o027);
    facts.nice = 5;
    for (key, value) in [
        ("TZ", "Europe/Berlin"),
        ("PATH", "/opt/bin:/usr/bin"),
        ("HOME", "/home/trader"),
        ("SSH_CLIENT", "x"),
        ("NIX_PATH", "of its shell as well"),
    ] {
        facts.environment.insert(key.to_owned(), value.to_owned());
    }
    facts.inherited.insert("NIX_PATH".to_owned());
    facts.open = vec![
        open(1, "/srv/trader/out.log", 3),
        open(2, "/srv/trader/out.log", 3),
        open(7, "/srv/trader/audit.log", 100_000),
        open(8, "/srv/trader/cache.db", 3),
        open(9, "/srv/trader/events", 3),
    ];
    let unknown = Err("no format that is known stamps its lines".to_owned());
    facts.samples = BTreeMap::from([
        ("/srv/trader/out.log".into(), Ok(sample())),
        ("/srv/trader/audit.log".into(), unknown),
    ]);
    let (text, service) = told(&facts);
    assert_eq!(
        text,
        r#"# PID 4711, as it runs now; `watchdog validate` and `watchdog check --dry-run` show whether this is what you mean
[service.trader]
working_dir = "/srv/trader"
process = { pid_file = "/srv/trader/trader.pid", command_line = "^/usr/bin/python3 -u /srv/trader/main\\.py it's$", user = "trader" }
# not taken over, because what started it has them as well: its variables NIX_PATH
spawn = { command = ["/usr/bin/python3", "-u", "/srv/trader/main.py", "it's"], user = "trader", group = "staff", env = { PATH = "/opt/bin:/usr/bin", TZ = "Europe/Berlin" }, stdout = "/srv/trader/out.log", stderr = "/srv/trader/out.log", umask = "027", nice = 5 }

[[service.trader.log]]
path = "/srv/trader/out.log"
severity = "warning"   # restarts nothing; take this line out when the log has a rule that you trust
timestamp = "%Y-%m-%d %H:%M:%S"   # recognised: 2881 of 2900 lines are stamped so
timestamp_after = "["
max_age = "10m"   # 2881 stamped lines in 2d, silent for 4m at most (after 2026-11-25T08:00:00Z); a freeze is found 11 runs after the last line at most

[[service.trader.log]]
path = "/srv/trader/audit.log"
severity = "warning"   # restarts nothing; take this line out when the log has a rule that you trust
# last written 1d 3h ago; no max_age is proposed: no format that is known stamps its lines

# it also writes to files that may be no logs; one that is a log wants a table like this:
#[[service.trader.log]]
#path = "/srv/trader/events"
"#
    );
    let Some(RestartMethod::Spawn(spawn)) = service.method else {
        panic!("{text}");
    };
    assert_eq!(spawn.command, facts.arguments);
    assert_eq!(spawn.umask, 0o027);
}

/// A log of two days.
fn sample() -> LogSample {
    LogSample {
        lines: 2900,
        stamped: 2881,
        stamp: Stamp {
            format: "%Y-%m-%d %H:%M:%S".to_owned(),
            after: "[".to_owned(),
            zone: Zone::Local,
        },
        apart: Duration::from_secs(1),
        span: Duration::from_hours(48),
        longest: Some((
            Duration::from_mins(4),
            "2026-11-25T08:00:00Z".parse().unwrap(),
        )),
    }
}

#[test]
fn what_a_log_says_of_itself_is_proposed_as_far_as_it_goes() {
    let told_of = |sample: LogSample| {
        let mut facts = trader();
        facts.open = vec![open(1, "/srv/trader/out.log", 3)];
        facts.samples = BTreeMap::from([("/srv/trader/out.log".into(), Ok(sample))]);
        told(&facts).0
    };
    let text = told_of(LogSample {
        span: Duration::from_hours(5),
        ..sample()
    });
    holds(&text, "2881 stamped lines in 5h, silent for 4m at most");
    holds(&text, "That is less than a day");
    holds(&text, "\n#max_age = \"10m\"\n");
    let text = told_of(LogSample {
        stamped: 12,
        lines: 12,
        ..sample()
    });
    holds(
        &text,
        "\ntimestamp = \"%Y-%m-%d %H:%M:%S\"   # recognised: 12 of 12 lines",
    );
    holds(
        &text,
        "# no max_age is proposed: 12 stamped lines in 2d say too little",
    );
    assert!(!text.contains("max_age ="), "{text}");
    let text = told_of(LogSample {
        apart: Duration::from_hours(1),
        ..sample()
    });
    holds(&text, "\n#timestamp = ");
    holds(&text, "the last stamp is 1h away from the last write");
    let mut utc = sample();
    utc.stamp.zone = Zone::Utc;
    holds(&told_of(utc), "\ntimestamp_zone = \"utc\"\n");
}

#[test]
fn a_unit_is_left_to_systemd() {
    let in_unit = |role| Facts {
        unit: Some(InUnit {
            place: Place {
                unit: "trader.service".to_owned(),
                manager: Manager::User,
            },
            role,
        }),
        ..trader()
    };
    let (text, service) = told(&in_unit(Role::Keeps));
    holds(
        &text,
        "\nsystemd = { unit = \"trader.service\", manager = \"user\" }\n",
    );
    assert!(service.process.is_none(), "{text}");
    // one that does not see the end of its processes
    let (text, service) = told(&in_unit(Role::Blind));
    holds(&text, "# the unit has no main process");
    holds(&text, "\nsystemd = { unit = \"trader.service\"");
    assert!(service.process.is_some(), "{text}");
    // one that it only got into
    let (text, service) = told(&in_unit(Role::Hosts));
    holds(
        &text,
        "# trader.service did not start it, and may take it along when it ends: it only has its processes in that unit\n",
    );
    assert!(
        matches!(service.method, Some(RestartMethod::Spawn(_))),
        "{text}"
    );
}

#[test]
fn output_that_its_user_could_not_open_is_a_comment() {
    let mut facts = trader();
    facts.open = vec![Open {
        owner: 0,
        written: None,
        ..open(2, "/var/log/trader.err", 0)
    }];
    let (text, _) = told(&facts);
    holds(
        &text,
        "# its stderr goes to /var/log/trader.err, which belongs to another user and was opened for it: chown that file \
         before you write it here\n",
    );
    holds(
        &text,
        "# last written at an unknown time; no max_age is proposed\n",
    );
    assert!(!text.contains("stderr ="), "{text}");
    facts.uid = 0;
    holds(&told(&facts).0, "stderr = \"/var/log/trader.err\"");
    // anybody could put a link there, and lead root to any other file
    let dir = tempfile::tempdir().unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(dir.path(), mode).unwrap();
    facts.open[0].path = dir.path().join("trader.err");
    holds(
        &told(&facts).0,
        &format!(
            "# its stderr goes to {}, in a directory that everybody can change: root does not write there\n",
            facts.open[0].path.display()
        ),
    );
}

#[test]
fn a_spawn_that_would_not_start_the_same_program_is_a_comment() {
    let title = |title: &str| Facts {
        program: Some("/usr/bin/node".into()),
        ..started_as(&[title])
    };
    let one_word = Facts {
        started_with: Some(3),
        arguments: ["nr", "", "", ""].map(str::to_owned).to_vec(),
        ..title("nr")
    };
    let of_perl = Facts {
        started_with: Some(3),
        ..title("queue-worker")
    };
    let with = |facts: Facts, variables: &[(&str, &str)]| Facts {
        environment: variables
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        ..facts
    };
    let image = Facts {
        program: Some("/tmp/.mount_BotXy1/usr/bin/bot".into()),
        ..with(
            started_as(&["/tmp/.mount_BotXy1/usr/bin/bot", "--live"]),
            &[
                ("APPIMAGE", "/gone/Bot.AppImage"),
                ("APPDIR", "/tmp/.mount_BotXy1"),
            ],
        )
    };
    let edited = Facts {
        started_with: Some(3),
        ..started_as(&["snmpd", "-I", "-smux", "mteTrigger"])
    };
    let removed = Facts {
        program: Some("/gone/python3".into()),
        ..started_as(&["feedd", "1"])
    };
    let windows = Facts {
        program: Some("/usr/lib/wine/wine64-preloader".into()),
        ..started_as(&[r"Z:\srv\mt5\terminal64.exe", "/portable"])
    };
    let no_script = Facts {
        script_is_gone: true,
        ..started_as(&["/usr/bin/python3", "main.py"])
    };
    let no_directory = Facts {
        working_dir_is_gone: true,
        ..trader()
    };
    let other_root = Facts {
        root: Some("/srv/root".into()),
        ..trader()
    };
    for (facts, said, pattern, spawn) in [
        (
            title("nginx: master process nginx -c /etc/nginx/nginx.conf"),
            "# it has written a title over its arguments, so how it was started is not known; fill it in\n",
            r"'^nginx: master process nginx -c /etc/nginx/nginx\.conf$'",
            r#"command = ["/usr/bin/node", "…"]"#,
        ),
        (
            title("sidekiq 7.1.2 app [0 of 5 busy]"),
            "written a title",
            r"'^sidekiq [^ ]+ app ",
            "…",
        ),
        (one_word, "written a title", "\"^nr$\"", "…"),
        (of_perl, "written a title", "\"^queue-worker$\"", "…"),
        (
            edited,
            "# it has changed its arguments since it was started",
            r"'^(snmpd|/usr/bin/python3\.11) -I -smux mteTrigger$'",
            r#""-smux", "mteTrigger"]"#,
        ),
        (
            with(trader(), &[("API_SECRET", "hunter2")]),
            "# not taken over, because they may be secret: its variables API_SECRET; write what it needs into an env_file\n",
            "main",
            "main.py",
        ),
        (
            removed,
            "# its program /gone/python3 is gone\n",
            "\"^(feedd|/gone/python3) 1$\"",
            r#"command = ["/gone/python3", "1"]"#,
        ),
        (
            image,
            "# its AppImage /gone/Bot.AppImage is gone\n",
            r"'^/tmp/\.mount_[^/ ]+/usr/bin/bot --live$'",
            r#"command = ["/gone/Bot.AppImage", "--live"]"#,
        ),
        (
            windows,
            "# it runs under Wine",
            r"'^Z:\\srv\\mt5\\terminal64\.exe /portable$'",
            r#"command = ["wine", 'Z:\srv\mt5\terminal64.exe', "/portable"]"#,
        ),
        (
            started_as(&["/usr/bin/python3", "-"]),
            "# it was given its program on standard input",
            "^/usr/bin/python3 -$",
            "",
        ),
        (
            started_as(&["/bin/sh", "/dev/fd/63"]),
            "# /dev/fd/63 was a descriptor, which it does not have again\n",
            "^/bin/sh /dev/fd/63$",
            "",
        ),
        (
            no_script,
            "# there is no main.py in its directory",
            r"'^/usr/bin/python3 main\.py$'",
            "",
        ),
        (
            no_directory,
            "# its directory /srv/trader is gone\n",
            "main",
            "",
        ),
        (
            other_root,
            "# it runs below another root directory, /srv/root\n",
            "main",
            "",
        ),
        (
            started_as(&["/usr/bin/python3", "/a/\u{fffd}.py"]),
            "# its arguments are no text (UTF-8)",
            r"/a/.+\.py$",
            "",
        ),
    ] {
        let (text, service) = told(&facts);
        assert!(service.method.is_none(), "{text}");
        assert!(service.process.is_some(), "{text}");
        holds(&text, said);
        holds(&text, pattern);
        holds(
            &text,
            "# until `spawn` is there, it is only watched:\n#spawn = { command = [",
        );
        holds(&text, spawn);
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn what_was_exchanged_or_is_mounted_anew_is_started_from_where_it_lies() {
    let command = |facts: &Facts| {
        let (text, service) = told(facts);
        match service.method {
            Some(RestartMethod::Spawn(spawn)) => (text, spawn.command),
            other => panic!("{other:?}\n{text}"),
        }
    };
    // upgraded while it runs: the file is there again
    let upgraded = Facts {
        program: Some("/usr/bin/env".into()),
        ..started_as(&["feedd", "1000"])
    };
    let (text, started) = command(&upgraded);
    assert_eq!(started, ["/usr/bin/env", "1000"]);
    holds(&text, "command_line = \"^(feedd|/usr/bin/env) 1000$\"");

    let mut image = Facts {
        program: Some("/tmp/.mount_BotXy1/AppRun".into()),
        ..started_as(&["/tmp/.mount_BotXy1/AppRun", "--live"])
    };
    for (key, value) in [("APPIMAGE", "/bin/sh"), ("APPDIR", "/tmp/.mount_BotXy1")] {
        image.environment.insert(key.to_owned(), value.to_owned());
    }
    assert_eq!(command(&image).1, ["/bin/sh", "--live"]);
    // what an AppImage has started is none
    image.program = Some("/bin/cat".into());
    image.arguments[0] = "/bin/cat".to_owned();
    assert_eq!(command(&image).1, ["/bin/cat", "--live"]);
}

#[test]
fn a_secret_is_needed_whoever_has_it_as_well() {
    let mut facts = trader();
    for key in ["API_KEY", "NIX_PATH"] {
        facts.environment.insert(key.to_owned(), "x".to_owned());
        facts.inherited.insert(key.to_owned());
    }
    let (text, service) = told(&facts);
    assert!(service.method.is_none(), "{text}");
    holds(&text, "because they may be secret: its variables API_KEY;");
}

#[test]
fn a_terminal_and_a_pipe_are_told() {
    let mut facts = trader();
    facts.terminal = Some("/dev/pts/3".to_owned());
    facts
        .environment
        .insert("TMUX".to_owned(), "/tmp/tmux-0/default,1,0".to_owned());
    let (text, service) = told(&facts);
    holds(
        &text,
        "# it runs in a terminal of tmux, /dev/pts/3; started again it has none",
    );
    assert!(
        matches!(service.method, Some(RestartMethod::Spawn(_))),
        "{text}"
    );
    facts.environment = BTreeMap::from([("STY".to_owned(), "1.x".to_owned())]);
    holds(
        &told(&facts).0,
        "# it runs in a terminal of screen, /dev/pts/3",
    );
    facts.terminal = None;
    facts.pipes = vec![1];
    holds(
        &told(&facts).0,
        "# its stdout is read by another program, through a pipe",
    );
}

#[test]
fn what_gave_up_root_is_started_as_root_again() {
    let facts = Facts {
        user: "bind".to_owned(),
        uid: 105,
        group: Some("bind".to_owned()),
        ..started_as(&["/usr/bin/env", "-u", "bind"])
    };
    let none = Privileges::default();
    let can_return = Privileges {
        can_return: true,
        ..none.clone()
    };
    let capabilities = Privileges {
        capabilities: true,
        ..none.clone()
    };
    let port = Privileges {
        port: Some(53),
        ..none.clone()
    };
    let has_changed = Privileges {
        has_changed: true,
        ..none.clone()
    };
    for (privileges, why) in [
        (can_return, "its real user is root"),
        (capabilities.clone(), "it has kept a privilege of root's"),
        (port, "it listens on port 53"),
        (has_changed, "it has changed its user itself"),
        (none, "its arguments say `-u bind`"),
    ] {
        let facts = Facts {
            privileges,
            ..facts.clone()
        };
        let (text, service) = told(&facts);
        holds(
            &text,
            &format!(
                "# it was started as root and became user bind itself ({why}): root starts it again\n"
            ),
        );
        let steady = !facts.privileges.can_return;
        assert_eq!(text.contains("user = \"bind\" }\n"), steady, "{text}");
        holds(
            &text,
            "\nspawn = { command = [\"/usr/bin/env\", \"-u\", \"bind\"] }\n",
        );
        assert!(service.method.is_some());
        let (text, service) = told_of(&Table {
            is_root: false,
            ..table(&facts)
        });
        holds(
            &text,
            &format!(
                "# it was started as root and became user bind itself ({why}): only a watchdog of root's can start it\n"
            ),
        );
        assert!(service.method.is_none(), "{text}");
    }
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("x.conf").display().to_string();
    fs::write(&config, "log x\nuser bind;\n").unwrap();
    let configured = Facts {
        arguments: ["/usr/bin/env", &config].map(str::to_owned).to_vec(),
        started_with: Some(2),
        ..facts.clone()
    };
    holds(
        &told(&configured).0,
        &format!("bind itself ({config} names that user): root"),
    );
    let given = Privileges {
        are_given: true,
        ..capabilities
    };
    for facts in [
        // a file of its own gives it what it has
        Facts {
            privileges: given,
            ..facts.clone()
        },
        // a person's program, that only has an argument like that
        Facts {
            uid: 1001,
            ..facts.clone()
        },
        started_as(&["/usr/bin/env", "x"]),
    ] {
        let (text, _) = told(&facts);
        assert!(!text.contains("was started as root"), "{text}");
        holds(&text, &format!("user = \"{}\"", facts.user));
    }
    let log = Open {
        owner: 0,
        ..open(5, "/var/log/x.log", 3)
    };
    let facts = Facts {
        open: vec![log],
        uid: 1001,
        ..facts
    };
    holds(
        &told(&facts).0,
        "it has opened /var/log/x.log, which is root's",
    );
}

#[test]
fn what_its_parent_starts_again_gets_no_spawn() {
    let facts = trader();
    let with = |restart: Option<Vec<String>>| Table {
        parent: Some(Parent {
            pid: 41,
            name: "collectdmon".to_owned(),
            restart,
        }),
        ..table(&facts)
    };
    let (text, service) = told_of(&with(None));
    holds(
        &text,
        "# its parent PID 41 (collectdmon) starts it itself: adopt that one (`watchdog adopt 41`), for a `spawn` here would \
         start a second copy beside it\n",
    );
    assert!(
        service.method.is_none() && service.process.is_some(),
        "{text}"
    );
    assert!(!text.contains("spawn ="), "{text}");
    for (program, mark) in [("no-such-supervisorctl", "#"), ("cat", "")] {
        let restart = [program, "restart", "worker"];
        let (text, service) = told_of(&with(Some(restart.map(str::to_owned).to_vec())));
        holds(
            &text,
            &format!(
                "# its parent PID 41 (collectdmon) starts it itself, and a `spawn` here would start a second copy beside it: \
                 adopt that one too, and have it restart this one:\n\
                 {mark}restart = {{ command = [\"{program}\", \"restart\", \"worker\"], stop_first = false }}\n"
            ),
        );
        assert_eq!(service.method.is_some(), mark.is_empty(), "{text}");
    }
}

#[test]
fn what_only_its_directory_tells_apart_is_known_by_its_spawn() {
    let relative = started_as(&["/usr/bin/python3", "main.py"]);
    let (text, service) = told(&relative);
    assert!(service.process.is_none(), "{text}");
    assert!(
        matches!(service.method, Some(RestartMethod::Spawn(_))),
        "{text}"
    );
    holds(
        &text,
        "# the same command in another directory is another program",
    );

    // a PID file tells it apart as well
    let with_file = Facts {
        pid_file: Some(pid_file("/srv/trader/x.pid")),
        ..relative.clone()
    };
    holds(
        &told(&with_file).0,
        "process = { pid_file = \"/srv/trader/x.pid\", user = \"trader\" }\n",
    );

    // one that is there now
    let elsewhere = Twins {
        elsewhere: true,
        ..Twins::default()
    };
    let absolute = trader();
    let table_of_absolute = Table {
        twins: elsewhere.clone(),
        ..table(&absolute)
    };
    let (text, service) = told_of(&table_of_absolute);
    assert!(service.process.is_none(), "{text}");

    // without a spawn there is no other way
    let mut secret = relative;
    secret
        .environment
        .insert("API_SECRET".to_owned(), "x".to_owned());
    let table_of_secret = Table {
        twins: elsewhere,
        ..table(&secret)
    };
    let (text, service) = told_of(&table_of_secret);
    assert!(service.process.is_some(), "{text}");
    holds(
        &text,
        "# something else that runs, in another directory, has the same command line",
    );
}

#[test]
fn twins_of_another_user_and_copies_are_told() {
    let facts = Facts {
        is_own_user: true,
        ..trader()
    };
    assert!(!told(&facts).0.contains("user ="));
    let twins = Twins {
        of_others: true,
        copies: vec![7, 8],
        ..Twins::default()
    };
    let table = Table {
        twins,
        ..table(&facts)
    };
    let (text, _) = told_of(&table);
    holds(&text, "user = \"trader\" }\n");
    holds(&text, "# it runs more than once: PID 7, 8 as well\n");
}

#[test]
fn a_pid_file_that_nobody_would_write_again_is_written_by_the_watchdog_or_left_out() {
    let mut file = PidFile {
        is_mentioned: false,
        ..pid_file("/srv/trader/x.pid")
    };
    let with = |file: &PidFile| Facts {
        pid_file: Some(file.clone()),
        ..trader()
    };
    let (text, _) = told(&with(&file));
    holds(&text, "write_pid_file = true }\n");
    holds(&text, "process = { pid_file = \"/srv/trader/x.pid\", ");
    file.can_be_made = false;
    let (text, _) = told(&with(&file));
    holds(
        &text,
        "# /srv/trader/x.pid has its PID, but was written by what started it, and user trader cannot",
    );
    assert!(!text.contains("pid_file ="), "{text}");
    let mut others = with(&file);
    others.other_pid_files = vec!["/run/other.pid".into()];
    holds(
        &told(&others).0,
        "# not used, because of the name: /run/other.pid, where the same PID stands as well\n",
    );
    // what started it starts it again, and writes it
    let kept = with(&file);
    let parent = Parent {
        pid: 41,
        name: "loop".to_owned(),
        restart: None,
    };
    let table = Table {
        parent: Some(parent),
        ..table(&kept)
    };
    holds(&told_of(&table).0, "process = { pid_file = ");
}

#[test]
fn whatever_arguments_hold_comes_through() {
    let facts = started_as(&[
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
    ]);
    let (text, service) = told(&facts);
    let Some(RestartMethod::Spawn(spawn)) = service.method else {
        panic!("{text}");
    };
    assert_eq!(spawn.command, facts.arguments, "{text}");
    let pattern = pattern::of_arguments(&facts.arguments, None);
    holds(&text, &quoted(&pattern));
    let line: Vec<&str> = facts
        .arguments
        .iter()
        .map(String::as_str)
        .filter(|argument| !argument.is_empty())
        .collect();
    let pattern = crate::check::pattern::Pattern::new(&pattern).unwrap();
    assert!(pattern.matches(line.join(" ").as_bytes()), "{text}");
}

#[test]
fn strange_names_are_told() {
    let mut facts = started_as(&["/opt/my prog\u{7}"]);
    facts.working_dir = "/gone".into();
    facts.working_dir_is_gone = true;
    holds(
        &table(&facts).text(),
        "# this directory is gone: name one that there is\n",
    );
    for (asked, named) in [
        ("a.b", "[service.\"a.b\"]"),
        ("///", "[service.adopted]"),
        ("my prog\u{7}", "[service.my-prog-]"),
    ] {
        let table = Table {
            asked,
            ..table(&facts)
        };
        holds(&table.text(), named);
    }
}

#[test]
fn what_a_command_line_is_is_told_by_the_number_of_arguments() {
    let title = |text: &str| Shape::Title(text.to_owned());
    for (arguments, count, program, expected) in [
        (
            &["queue-worker"][..],
            Some(3),
            "/usr/bin/perl",
            title("queue-worker"),
        ),
        (
            &["queue-worker"],
            None,
            "/usr/bin/perl",
            title("queue-worker"),
        ),
        (&["nr", "", ""], Some(2), "/usr/bin/node", title("nr")),
        (&["nr", "", ""], None, "/usr/bin/node", title("nr")),
        (&["feedd"], Some(1), "/opt/feedd", Shape::Arguments),
        (&["feedd"], None, "/opt/feedd", Shape::Arguments),
        (&["-bash"], Some(1), "/usr/bin/bash", Shape::Arguments),
        (&["x", ""], Some(2), "/opt/x", Shape::Arguments),
        (
            &["redis-server *:6379"],
            Some(1),
            "/usr/bin/redis-server",
            title("redis-server *:6379"),
        ),
        (&["x", "-a", "b"], Some(2), "/opt/x", Shape::Edited),
        (&["x", "-a", "b"], None, "/opt/x", Shape::Arguments),
    ] {
        let facts = Facts {
            started_with: count,
            program: Some(program.into()),
            ..started_as(arguments)
        };
        assert_eq!(facts.shape(), expected, "{arguments:?} {count:?}");
    }
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
        assert!(!written.contains(is_invisible), "{written}");
        let read: ::toml::Table = format!("x = {written}").parse().unwrap();
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

#[test]
fn no_proposed_name_is_one_that_a_config_refuses() {
    for (text, name) in [
        ("trader", "trader"),
        ("a b/c", "a-b-c"),
        ("watchdog", "watchdog-1"),
        ("?", "adopted"),
    ] {
        assert_eq!(table::as_name(text), name);
    }
}
