//! What a config that is right means: defaults, paths, and what is shown of it again.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::*;
use crate::check::Severity;
use crate::check::log::{Logs, Zone};
use crate::check::unit::{Manager, Unit};
use crate::config::Service;
use crate::notify::mail::{Secret, Smtp, Tls, Transport};
use crate::notify::{ChannelKind, Event};
use crate::restart::RestartMethod;
use crate::table::Factor;

/// A config with every key but those that exclude one another.
const FULL: &str = r#"
state_dir = "state"
check_timeout = "1s 500ms"
run_timeout = "2m"
[logging]
file = "/var/log/watchdog.log"
level = "debug"
[defaults]
start_grace = "90s"
restart = { max_per_hour = 5, cooldown = "1m", stop_signal = "SIGINT", command = ["/bin/default"] }
[mail]
from = "Watch Dog <watchdog@example.org>"
to = ["ops@example.org", "root@localhost"]
on = ["down", "unknown"]
remind_every = "30m"
max_per_hour = 3
timeout = "20s"
smtp = { host = "::1", port = 2525, tls = "none", username = "u", password_file = "pass", ca_file = "ca.pem", timeout = "5s" }
[service."z.first"]
description = "a \"quoted\" \\ thing — ünï"
working_dir = "trader"
depends_on = ["second"]
process = { pid_file = "run/trader.pid", command_line = 'python3? .*main\.py', user = 1000 }
[service."z.first".spawn]
command = ["python3", "main.py", "--name=it's \"x\""]
user = "trader"
group = 33
env = { ZED = "1", MODE = "live", "odd name" = "tab\there" }
env_file = ".env"
stdout = "logs/out.log"
stderr = "/var/log/err.log"
umask = "027"
nice = -5
write_pid_file = true
[[service."z.first".log]]
path = "logs/trader-*.log"
max_age = "5m"
lines = 7
expect = ['VIX|Position', { pattern = 'tick', at_least = 3 }]
forbid = ["Trace\tback", { pattern = 'ERROR\d+', at_most = 5 }]
timestamp = "%Y-%m-%d %H:%M:%S%.f"
timestamp_after = '{"timestamp":"'
timestamp_zone = "utc"
severity = "warning"
[[service."z.first".log]]
path = "/var/log/other.log"
[service."z.first".restart]
max_per_hour = 0
on_exhausted = "give_up"
after_failures = 4
start_timeout = "1h 30m"
settle = "0"
[service.second]
systemd = { unit = "pg", manager = "user" }
enabled = false
[service.a]
restart = { command = ["/etc/init.d/a", "restart"] }
process = { command_line = 'a-daemon' }
[service.b]
process = { command_line = 'b-daemon' }
"#;

#[test]
fn every_key_is_meant_as_it_is_written() {
    let config = good(FULL);
    assert_eq!(config.path, Path::new(PLACE));
    assert_eq!(config.state_dir, Path::new("/etc/watchdog/state"));
    assert_eq!(config.check_timeout, Duration::from_millis(1500));
    assert_eq!(config.run_timeout, Duration::from_mins(2));
    assert_eq!(config.logging.level, log::LevelFilter::Debug);
    assert_eq!(
        config.logging.file.as_deref(),
        Some(Path::new("/var/log/watchdog.log"))
    );

    let mail = config.mail().unwrap();
    assert_eq!(mail.recipients(), ["ops@example.org", "root@localhost"]);
    assert_eq!(mail.routing.on, [Event::Down, Event::Unknown]);
    assert_eq!(mail.routing.remind_every, Duration::from_mins(30));
    assert_eq!(mail.routing.max_per_hour, 3);
    assert_eq!(mail.timeout, Some(Duration::from_secs(20)));
    assert_eq!(
        mail.transport,
        Transport::Smtp(Smtp {
            host: "::1".to_owned(),
            port: 2525,
            tls: Tls::None,
            username: Some("u".to_owned()),
            password: Some(Secret::File("/etc/watchdog/pass".into())),
            ca_file: Some("/etc/watchdog/ca.pem".into()),
            timeout: Duration::from_secs(5),
        })
    );

    let names: Vec<_> = config.services.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(
        names,
        ["z.first", "second", "a", "b"],
        "the order of the file"
    );
    let first = config.service("z.first").unwrap();
    assert_eq!(&*first.working_dir, Path::new("/etc/watchdog/trader"));
    assert_eq!(first.start_grace, Duration::from_secs(90));
    assert_eq!(first.depends_on, ["second"]);
    let process = first.process.as_ref().unwrap();
    assert_eq!(process.shown, "run/trader.pid");
    let pid_file = Path::new("/etc/watchdog/trader/run/trader.pid");
    assert_eq!(process.pid_file.as_deref(), Some(pid_file));
    assert_eq!(process.user.as_deref(), Some("1000"));
    let Some(RestartMethod::Spawn(spawn)) = &first.method else {
        panic!("spawned");
    };
    assert_eq!(spawn.command.len(), 3);
    assert_eq!(spawn.group.as_deref(), Some("33"));
    let variables: Vec<_> = spawn.env.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(variables, ["ZED", "MODE", "odd name"]);
    let out = Path::new("/etc/watchdog/trader/logs/out.log");
    assert_eq!(spawn.stdout.as_deref(), Some(out));
    assert_eq!(spawn.stderr.as_deref(), Some(Path::new("/var/log/err.log")));
    assert_eq!((spawn.umask, spawn.nice), (0o027, -5));
    assert_eq!(spawn.write_pid_file.as_deref(), Some(pid_file));
    let log = first.rules::<Logs>().next().unwrap();
    assert_eq!(log.shown, "logs/trader-*.log");
    assert_eq!(
        log.path,
        Path::new("/etc/watchdog/trader/logs/trader-*.log")
    );
    assert_eq!((log.expect[0].at_least, log.expect[1].at_least), (1, 3));
    assert_eq!((log.forbid[0].at_most, log.forbid[1].at_most), (0, 5));
    assert_eq!(log.stamp.as_ref().unwrap().zone, Zone::Utc);
    assert_eq!(log.severity, Severity::Warning);
    assert_eq!(
        first.rules::<Logs>().nth(1).unwrap().severity,
        Severity::Critical
    );
    assert_eq!(first.rules::<Logs>().nth(1).unwrap().max_age, None);

    // what the service does not say is the defaults', and what they do not say is built in
    assert_eq!(first.policy.max_per_hour, 0);
    assert_eq!(first.policy.on_exhausted, OnExhausted::GiveUp);
    assert_eq!(first.policy.cooldown, Duration::from_mins(1));
    assert_eq!(first.limits.stop_signal, Signal::SIGINT);
    assert_eq!(first.limits.stop_timeout, Duration::from_secs(10));
    assert_eq!(first.limits.start_timeout, Duration::from_mins(90));
    assert_eq!(first.limits.settle, Duration::ZERO);

    let second = config.service("second").unwrap();
    let unit = Unit {
        unit: "pg.service".to_owned(),
        manager: Manager::User,
        rerun: false,
    };
    assert_eq!(second.unit.as_ref(), Some(&unit));
    assert_eq!(second.method, Some(RestartMethod::Systemd(unit)));
    assert!(!second.enabled);
    let command = |name| match &config.service(name).unwrap().method {
        Some(RestartMethod::Command(command)) => command.command.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(command("a"), ["/etc/init.d/a", "restart"]);
    assert_eq!(command("b"), ["/bin/default"], "the default command");
}

#[test]
fn a_command_stops_what_runs_itself_only_where_there_is_one() {
    for (text, stops_itself) in [
        ("restart = { command = [\"x\"] }", false),
        ("restart = { command = [\"x\"], stop_first = true }", false),
        ("restart = { command = [\"x\"], stop_first = false }", true),
    ] {
        let config = good(&format!(
            "[service.a]\nprocess = {{ pid_file = \"a.pid\" }}\n{text}\n"
        ));
        let Some(RestartMethod::Command(command)) = &config.services[0].method else {
            panic!("{text}");
        };
        assert_eq!(!command.stop_first, stops_itself, "{text}");
        assert_eq!(
            to_toml(&config).contains("stop_first = false"),
            stops_itself
        );
    }
    // the command may be a default, and so may this
    let config = good(
        "[defaults]\nrestart = { command = [\"x\"], stop_first = false }\n\
         [service.a]\nprocess = { pid_file = \"a.pid\" }\n[service.b]\nspawn = { command = [\"y\"] }\n",
    );
    let command =
        |it: &Service| matches!(&it.method, Some(RestartMethod::Command(it)) if !it.stop_first);
    assert!(command(&config.services[0]) && !command(&config.services[1]));
}

#[test]
fn each_default_holds_where_a_service_says_nothing_and_nowhere_else() {
    const OTHER: &str = "max_per_hour = 7\non_exhausted = \"give_up\"\nafter_failures = 8\nout_of = 10\n\
        cooldown = \"9s\"\nbackoff = 1.5\nmax_cooldown = \"20m\"\nmax_attempts = 6\n\
        stop_signal = \"QUIT\"\nstop_timeout = \"11s\"\nstart_timeout = \"12s\"\nsettle = \"13s\"\nwait_for = \"process\"\n";
    const BUILT_IN: &str = "max_per_hour = 3\non_exhausted = \"wait\"\nafter_failures = 1\nout_of = 1\n\
        cooldown = \"0s\"\nbackoff = 1\nmax_cooldown = \"1h\"\nmax_attempts = 0\n\
        stop_signal = \"TERM\"\nstop_timeout = \"10s\"\nstart_timeout = \"30s\"\nsettle = \"2s\"\nwait_for = \"probes\"\n";
    let keys = |table: &str| table.lines().count();
    // all but those of a command, which another test has
    assert_eq!(
        keys(OTHER),
        super::super::service::RestartKeys::LAYOUT.names().len() - 2
    );
    assert_eq!(keys(BUILT_IN), keys(OTHER));

    let built_in = good("[service.x]\nspawn = { command = [\"x\"] }\n");
    let config = good(&format!(
        "[defaults]\nstart_grace = \"5s\"\n[defaults.restart]\n{OTHER}\
         [service.silent]\nspawn = {{ command = [\"x\"] }}\n\
         [service.other]\nspawn = {{ command = [\"x\"] }}\nstart_grace = \"60s\"\n[service.other.restart]\n{BUILT_IN}"
    ));
    let policy = Policy {
        max_per_hour: 7,
        on_exhausted: OnExhausted::GiveUp,
        after_failures: 8,
        out_of: Some(10),
        cooldown: Duration::from_secs(9),
        backoff: Factor::of(1.5).unwrap(),
        max_cooldown: Duration::from_mins(20),
        max_attempts: 6,
    };
    let limits = crate::restart::Limits {
        stop_signal: Signal::SIGQUIT,
        stop_timeout: Duration::from_secs(11),
        start_timeout: Duration::from_secs(12),
        settle: Duration::from_secs(13),
        wait_for: crate::restart::WaitFor::Process,
    };
    let silent = config.service("silent").unwrap();
    assert_eq!((&silent.policy, &silent.limits), (&policy, &limits));
    assert_eq!(silent.start_grace, Duration::from_secs(5));
    assert_eq!(
        (&config.defaults.policy, &config.defaults.limits),
        (&policy, &limits)
    );
    let other = config.service("other").unwrap();
    let x = built_in.service("x").unwrap();
    // that is what the default of `out_of` comes to
    let policy = Policy {
        out_of: Some(1),
        ..x.policy.clone()
    };
    assert_eq!((&other.policy, &other.limits), (&policy, &x.limits));
    assert_eq!((x.policy.window(), other.policy.window()), (1, 1));
    assert_eq!(other.start_grace, x.start_grace);
}

#[test]
fn spawn_alone_is_a_whole_config() {
    let config = good("[service.x]\nspawn = { command = [\"x\"] }\n");
    let service = &config.services[0];
    assert_eq!(service.process, None);
    assert!(service.checks.is_empty() && service.unit.is_none() && service.enabled);
    assert_eq!(&*service.working_dir, Path::new("/etc/watchdog"));
    assert_eq!(config.state_dir, Path::new("/var/lib/watchdog"));
    assert!(config.channels.is_empty());
}

#[test]
fn a_service_without_a_way_is_only_watched() {
    let config = good("[service.x]\nprocess = { pid_file = \"/run/x.pid\" }\n");
    assert_eq!(config.services[0].method, None);
}

#[test]
fn what_toml_1_1_allows_is_read() {
    let config = good("[service.x]\nspawn = {\n  command = [\"x\"], # why\n  nice = 1,\n}\n");
    assert_eq!(config.services.len(), 1);
    assert_eq!(
        good("\u{feff}[service.x]\r\nspawn.command = [\"x\"]\r\n")
            .services
            .len(),
        1
    );
}

#[test]
fn times_may_be_zero_where_that_makes_sense() {
    let config = good(
        "[service.x]\nstart_grace = \"0\"\nspawn = { command = [\"x\"] }\n\
         restart = { cooldown = \"0s\", settle = \"0ms\" }\n",
    );
    assert_eq!(config.services[0].start_grace, Duration::ZERO);
}

#[test]
fn signals_have_their_names() {
    for (text, signal) in [
        ("TERM", Signal::SIGTERM),
        ("SIGTERM", Signal::SIGTERM),
        ("hup", Signal::SIGHUP),
        ("SigUsr1", Signal::SIGUSR1),
        ("KILL", Signal::SIGKILL),
        ("WINCH", Signal::SIGWINCH),
    ] {
        let config = good(&format!(
            "[service.x]\nspawn = {{ command = [\"x\"] }}\nrestart = {{ stop_signal = \"{text}\" }}\n"
        ));
        assert_eq!(config.services[0].limits.stop_signal, signal, "{text}");
    }
}

#[test]
fn units_get_their_suffix() {
    for (text, unit) in [
        ("pg", "pg.service"),
        ("pg.service", "pg.service"),
        ("my.app", "my.app.service"),
        ("web@1", "web@1.service"),
        ("a.timer", "a.timer"),
        (r"dev-disk\\x2d1.mount", r"dev-disk\x2d1.mount"),
    ] {
        let config = good(&format!("[service.x]\nsystemd = {{ unit = \"{text}\" }}\n"));
        assert_eq!(config.services[0].unit.as_ref().unwrap().unit, unit);
    }
}

#[test]
fn formats_that_say_the_time_are_taken() {
    for format in [
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%dT%H:%M:%S%.f%:z",
        "%+",
        "%s",
        "%H:%M:%S",
        "%b %e %T",
        "%d/%b/%Y:%H:%M:%S %z",
        "%m/%d/%y %I:%M:%S %p",
        "%a %b %e %H:%M:%S %Y",
        "%c",
        "%Y%m%d-%H%M%S",
        "[%F %R]",
    ] {
        let config = good(&format!(
            "[[service.x.log]]\npath = \"x\"\ntimestamp = \"{format}\"\n"
        ));
        assert!(
            config.services[0]
                .rules::<Logs>()
                .next()
                .unwrap()
                .stamp
                .is_some()
        );
    }
}

#[test]
fn a_directory_with_brackets_is_no_part_of_a_glob() {
    let place = Path::new("/srv/[a]/watchdog.toml");
    let text = "[[service.x.log]]\npath = \"l-*.log\"\n[[service.x.log]]\npath = \"l.log\"\n";
    let config = parse(text, place, &bare()).unwrap();
    let paths: Vec<_> = config.services[0]
        .rules::<Logs>()
        .map(|log| &log.path)
        .collect();
    assert_eq!(paths[0], Path::new("/srv/[[]a[]]/l-*.log"));
    assert_eq!(paths[1], Path::new("/srv/[a]/l.log"));
}

#[test]
fn the_port_follows_from_the_protection() {
    for (tls, port) in [("starttls", 587), ("tls", 465), ("none", 25)] {
        let config = good(&format!(
            "[mail]\nfrom = \"a@b\"\nto = [\"c@d\"]\nsmtp = {{ host = \"mx\", tls = \"{tls}\" }}\n\
             [service.x]\nspawn = {{ command = [\"x\"] }}\n"
        ));
        let Transport::Smtp(smtp) = &config.mail().unwrap().transport else {
            panic!("smtp");
        };
        assert_eq!(smtp.port, port);
    }
}

#[test]
fn what_is_shown_means_the_same() {
    let config = good(FULL);
    let shown = to_toml(&config);
    let again = parse(&shown, Path::new(PLACE), &bare())
        .unwrap_or_else(|faults| panic!("{}\n{shown}", told(&faults)));
    assert_eq!(again, config, "{shown}");
    assert_eq!(to_toml(&again), shown, "and is shown the same");
    // in the order that a person writes them
    let at = |text: &str| {
        shown
            .find(text)
            .unwrap_or_else(|| panic!("no {text} in\n{shown}"))
    };
    let order = [
        at("state_dir = "),
        at("[logging]"),
        at("[defaults]"),
        at("[mail]"),
        at("[service.\"z.first\"]"),
        at("[service.second]"),
        at("[service.a]"),
    ];
    assert!(order.is_sorted(), "{shown}");
}

#[test]
fn the_least_config_is_shown_with_all_its_defaults() {
    let shown = to_toml(&good(
        "[service.x]\nspawn = { command = [\"x\", \"\\u001b[1m\"] }\n",
    ));
    let expected = r#"state_dir = "/var/lib/watchdog"
check_timeout = "10s"
run_timeout = "5m"
include = []

[logging]
level = "info"
format = "text"

[defaults]
start_grace = "1m"

[defaults.restart]
max_per_hour = 3
on_exhausted = "wait"
after_failures = 1
cooldown = "0s"
backoff = 1.0
max_cooldown = "1h"
max_attempts = 0
stop_signal = "TERM"
stop_timeout = "10s"
start_timeout = "30s"
settle = "2s"
wait_for = "probes"
stop_first = true

[defaults.evidence]
enabled = true
timeout = "5s"

[containers]
timeout = "10s"

[metrics]

[service.x]
enabled = true
working_dir = "/etc/watchdog"
start_grace = "1m"
depends_on = []

[service.x.spawn]
command = ["x", "\u001B[1m"]
umask = "022"
nice = 0
write_pid_file = false

[service.x.restart]
max_per_hour = 3
on_exhausted = "wait"
after_failures = 1
cooldown = "0s"
backoff = 1.0
max_cooldown = "1h"
max_attempts = 0
stop_signal = "TERM"
stop_timeout = "10s"
start_timeout = "30s"
settle = "2s"
wait_for = "probes"
stop_first = true

[service.x.evidence]
enabled = true
timeout = "5s"
"#;
    assert_eq!(shown, expected);
}

#[test]
fn what_is_recorded_is_said_by_the_service_or_by_the_defaults() {
    let config = good(
        "[defaults]\nevidence = { command = [\"spy\", \"{pid}\"], timeout = \"2s\" }\n\
         [service.a.spawn]\ncommand = [\"x\"]\n\
         [service.b]\nspawn = { command = [\"x\"] }\nevidence = { enabled = false, timeout = \"500ms\" }\n",
    );
    let of = |name: &str| config.service(name).unwrap().evidence.clone();
    let spy = || Some(vec!["spy".to_owned(), "{pid}".to_owned()]);
    for (name, enabled, millis) in [("a", true, 2000), ("b", false, 500)] {
        let settings = of(name);
        assert_eq!(settings.command, spy(), "{name}");
        assert_eq!(settings.enabled, enabled, "{name}");
        assert_eq!(settings.timeout, Duration::from_millis(millis), "{name}");
    }
    let plain = good("[service.a.spawn]\ncommand = [\"x\"]\n");
    let default = crate::restart::evidence::Settings::default();
    assert_eq!(plain.service("a").unwrap().evidence, default);
}

#[test]
fn f76_secrets_are_masked() {
    let config = good(
        "[mail]\nfrom = \"a@b\"\nto = [\"c@d\"]\nsmtp = { host = \"mx\", username = \"u\", password = \"canary-7391\" }\n\
         [service.x.spawn]\ncommand = [\"x\"]\nenv = { MODE = \"live\", API_TOKEN = \"canary-7391\", KEY_FILE = \"/k\" }\n",
    );
    let shown = to_toml(&config);
    assert!(!shown.contains("canary"), "{shown}");
    assert!(shown.contains("password = \"***\"") && shown.contains("API_TOKEN = \"***\""));
    assert!(shown.contains("MODE = \"live\"") && shown.contains("KEY_FILE = \"/k\""));
    let again = good(&shown);
    assert_eq!(to_toml(&again), shown, "and it can be loaded again");
}

#[test]
fn the_nearest_service_is_found() {
    let config = good(FULL);
    assert_eq!(
        crate::table::nearest("secnod", config.names()),
        Some("second")
    );
    assert_eq!(
        crate::table::nearest("Z.FIRST", config.names()),
        Some("z.first")
    );
    assert_eq!(crate::table::nearest("quux", config.names()), None);
    assert!(config.service("nope").is_none());
}

#[test]
fn every_place_of_the_state_is_tried_in_turn() {
    let text = "[service.x]\nspawn = { command = [\"x\"] }\n";
    let user = Environment {
        uid: 1000,
        home: Some("/home/u".into()),
        ..bare()
    };
    let xdg = Environment {
        xdg_state_home: Some("/home/u/.s".into()),
        ..user.clone()
    };
    let relative = Environment {
        xdg_state_home: Some("s".into()),
        ..user.clone()
    };
    let unit = Environment {
        state_directory: Some("/var/lib/a:/var/lib/b".into()),
        ..xdg.clone()
    };
    for (environment, dir) in [
        (&bare(), "/var/lib/watchdog"),
        (&user, "/home/u/.local/state/watchdog"),
        (&xdg, "/home/u/.s/watchdog"),
        (&relative, "/home/u/.local/state/watchdog"),
        (&unit, "/var/lib/a"),
    ] {
        let config = parse(text, Path::new(PLACE), environment).unwrap();
        assert_eq!(config.state_dir, Path::new(dir));
    }
    let homeless = Environment {
        uid: 1000,
        ..bare()
    };
    let faults = parse(text, Path::new(PLACE), &homeless).unwrap_err();
    assert_eq!(
        told(&faults),
        "error: `state_dir` is missing, and without HOME it has no default\n \
         --> /etc/watchdog/watchdog.toml\n  \
         = help: write state_dir = \"/home/trader/.local/state/watchdog\", say"
    );
}

/// An environment that mails.
fn mailing() -> Environment {
    Environment {
        alert_email_to: Some("ops@example.org, root@localhost".to_owned()),
        alert_email_from: Some("watchdog@example.org".to_owned()),
        smtp_server: Some("mx.example.org".to_owned()),
        ..bare()
    }
}

const LEAST: &str = "[service.x]\nspawn = { command = [\"x\"] }\n";

#[test]
fn mail_is_taken_from_the_environment_where_the_config_has_none() {
    let with_password = Environment {
        smtp_port: Some("465".to_owned()),
        smtp_username: Some("u".to_owned()),
        smtp_password: true,
        ..mailing()
    };
    let other_port = Environment {
        smtp_port: Some("2525".to_owned()),
        ..mailing()
    };
    let secret = Some(Secret::Env("SMTP_PASSWORD".to_owned()));
    for (environment, port, tls, password) in [
        (mailing(), 587, Tls::Starttls, None),
        (with_password, 465, Tls::Tls, secret),
        (other_port, 2525, Tls::Starttls, None),
    ] {
        let config = parse(LEAST, Path::new(PLACE), &environment).unwrap();
        let mail = config.mail().cloned().unwrap();
        assert_eq!(mail.recipients(), ["ops@example.org", "root@localhost"]);
        assert_eq!(mail.from.as_str(), "watchdog@example.org");
        let Transport::Smtp(smtp) = mail.transport else {
            panic!("smtp");
        };
        assert_eq!((smtp.port, smtp.tls), (port, tls));
        assert_eq!(smtp.password, password);
        let again = good(&to_toml(&config));
        assert_eq!(again, config, "and is shown as a table");
    }
    let text = format!("[mail]\nfrom = \"a@b\"\nto = [\"c@d\"]\ndirectory = \"x\"\n{LEAST}");
    let config = parse(&text, Path::new(PLACE), &mailing()).unwrap();
    assert_eq!(
        config.mail().unwrap().from.as_str(),
        "a@b",
        "the table wins"
    );
}

#[test]
fn what_is_wrong_with_mail_in_the_environment_is_told() {
    let broken = Environment {
        alert_email_to: Some("ops".to_owned()),
        alert_email_from: None,
        smtp_server: None,
        smtp_port: Some("smtp".to_owned()),
        smtp_username: Some("u".to_owned()),
        ..bare()
    };
    let nameless = Environment {
        smtp_password: true,
        alert_email_from: Some("nobody".to_owned()),
        ..mailing()
    };
    let said = |environment| told(&parse(LEAST, Path::new(PLACE), environment).unwrap_err());
    assert_eq!(
        said(&broken),
        "error: $ALERT_EMAIL_TO is not a list of mail addresses
 --> the environment
  = help: write addresses like ops@example.org, with commas between

error: $ALERT_EMAIL_FROM is not set, though $ALERT_EMAIL_TO is
 --> the environment
  = help: set it to the address that mail is sent from

error: $SMTP_SERVER is not set, though $ALERT_EMAIL_TO is
 --> the environment
  = help: set it to the mail server, or write a [mail] table

error: $SMTP_PORT is not a port
 --> the environment
  = help: write a number from 1 to 65535

error: $SMTP_PASSWORD is not set, though $SMTP_USERNAME is
 --> the environment
  = help: set both or none"
    );
    assert_eq!(
        said(&nameless),
        "error: $ALERT_EMAIL_FROM is not a mail address
 --> the environment
  = help: write it like watchdog@example.org

error: $SMTP_USERNAME is not set, though $SMTP_PASSWORD is
 --> the environment
  = help: set both or none"
    );
}

#[test]
fn the_reader_asks_for_every_key_that_it_lists() {
    // a key that is listed and never read would be taken and ignored: each key of the example and of FULL must
    // make a difference when its value is nonsense
    let mut silent = BTreeSet::new();
    for section in sections() {
        if section.place.starts_with("an entry") {
            continue;
        }
        for key in section.layout.names() {
            let header = section.place.replace("NAME", "x");
            let kind = section.variant().filter(|_| key != "type");
            let kind = kind.map(|kind| format!("type = \"{kind}\"\n"));
            let kind = kind.unwrap_or_default();
            let text = format!("{header}\n{kind}{key} = 1979-05-27\n");
            let told = parse(&text, Path::new(PLACE), &bare())
                .err()
                .unwrap_or_default();
            if !told
                .iter()
                .any(|fault| fault.message.contains("not a date"))
            {
                silent.insert(format!("{} {key}", section.place));
            }
        }
    }
    assert_eq!(silent, BTreeSet::new());
}

#[test]
fn checks_of_one_target_have_ids_in_the_order_of_the_file() {
    for (paths, keys) in [
        (&["a.log", "b.log"][..], &["a.log", "b.log"][..]),
        (
            &["a.log", "b.log", "a.log", "a.log"],
            &["a.log", "b.log", "a.log#2", "a.log#3"],
        ),
        // the name of a file may look like a number
        (
            &["a.log", "a.log", "a.log#2"],
            &["a.log", "a.log#3", "a.log#2"],
        ),
    ] {
        let logs = paths
            .iter()
            .map(|path| format!("[[service.a.log]]\npath = \"{path}\"\n"));
        let config = good(&logs.collect::<String>());
        let found: Vec<String> = config.services[0]
            .checks
            .iter()
            .map(|check| check.id.to_string())
            .collect();
        let expected: Vec<String> = keys
            .iter()
            .map(|key| format!("log:/etc/watchdog/{key}"))
            .collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn sockets_are_relative_to_the_working_directory() {
    let config = good(
        "[service.a]\nworking_dir = \"work\"\nport = [{ address = \"unix:run/a.sock\" }, { address = \"unix:/b.sock\" }]\n\
         http = [{ url = \"unix:a.sock:/ok\" }, { url = \"unix:./a.sock\" }, { url = \"unix:/b.sock:/ok\" }]\n",
    );
    let targets: Vec<String> = (config.services[0].checks.iter())
        .map(|check| check.rule.target())
        .collect();
    assert_eq!(
        targets,
        [
            "unix:/etc/watchdog/work/run/a.sock",
            "unix:/b.sock",
            "unix:/etc/watchdog/work/a.sock:/ok",
            "unix:/etc/watchdog/work/a.sock:/",
            "unix:/b.sock:/ok",
        ]
    );
}
