//! `validate`: each trap that it knows, on a config that has it and no other.

use std::process::Command;

use crate::boxes::{SystemdBox, shipped};
use crate::scene::{MAIL, Scene};
use crate::systemd::linger;

/// A config with exactly one trap, the line that it stands on, what is told, and what mends it.
struct Case {
    config: &'static str,
    line: usize,
    said: &'static str,
    help: &'static str,
}

const CASES: &[Case] = &[
    Case {
        config: "[service.a]\nprocess = { command_line = '^no-such-program-at-all$' }",
        line: 7,
        said: "a: `^no-such-program-at-all$` matches no process now",
        help: "where the program runs, hold the pattern against `ps -eo user,args`; it is searched in the arguments joined by single spaces",
    },
    Case {
        config: "[service.a]\nprocess = { command_line = '^no-such-program$', user = \"root\" }",
        line: 7,
        said: "a: `^no-such-program$` matches no process of user root now",
        help: "where the program runs, hold the pattern against `ps -eo user,args`; it is searched in the arguments joined by single spaces",
    },
    Case {
        config: "[service.a]\nprocess = { pid_file = \"nowhere/a.pid\" }",
        line: 7,
        said: "a: the folder of its PID file, {dir}/nowhere, is not there",
        help: "make it, or say where the program writes its PID; below /run it has to be made at each boot",
    },
    Case {
        config: "[service.a]\nprocess = { pid_file = \"a.pid\", user = \"no-such-user\" }",
        line: 7,
        said: "a: no such user `no-such-user`",
        help: "name a user that this machine has: `getent passwd`",
    },
    Case {
        config: "[service.a]\nspawn = { command = [\"no-such-program\"] }",
        line: 7,
        said: "a: it could not be started: no such program `no-such-program` in its PATH (/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin); give its whole path",
        help: "its PATH is not that of your shell: cron and timers have no other",
    },
    Case {
        config: "[service.a]\nspawn = { command = [\"./plain\"] }",
        line: 7,
        said: "a: it could not be started: {dir}/./plain is not executable",
        help: "chmod +x makes a script a program",
    },
    Case {
        config: "[service.a]\nspawn = { command = [\"bin/x\"] }",
        line: 7,
        said: "a: it could not be started: no such program {dir}/bin/x",
        help: "relative paths begin at the service's working_dir, and that at the config's folder",
    },
    Case {
        config: "[service.a]\nworking_dir = \"gone\"\nspawn = { command = [\"sh\"] }",
        line: 8,
        said: "a: it could not be started: no working folder {dir}/gone: No such file or directory (os error 2)",
        help: "relative paths begin at the service's working_dir, and that at the config's folder",
    },
    Case {
        config: "[service.a]\nspawn = { command = [\"sh\"], user = \"no-such-user\" }",
        line: 7,
        said: "a: it could not be started: no such user `no-such-user`",
        help: "name one that this machine has: `getent passwd`, `getent group`",
    },
    Case {
        config: "[service.a]\nspawn = { command = [\"sh\"], env_file = \"missing.env\" }",
        line: 7,
        said: "a: it could not be started: cannot read env_file {dir}/missing.env: No such file or directory (os error 2)",
        help: "relative paths begin at the service's working_dir, and that at the config's folder",
    },
    Case {
        config: "[service.a]\nspawn = { command = [\"sh\"], stderr = \"logs/err.log\" }",
        line: 7,
        said: "a: the folder {dir}/logs is not there",
        help: "make it: the watchdog makes none",
    },
    Case {
        config: "[service.a]\nspawn = { command = [\"sh\", \"run.sh\", \">\", \"x.log\"] }",
        line: 7,
        said: "a: no shell reads this command: `>` is an argument like any other",
        help: "write command = [\"/bin/sh\", \"-c\", \"exec …\"] where you need a shell",
    },
    Case {
        config: "[service.a]\nprocess = { pid_file = \"a.pid\" }\n[service.a.restart]\ncommand = [\"no-such-program\"]",
        line: 9,
        said: "a: it could not be restarted: no such program `no-such-program` in its PATH (/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin); give its whole path",
        help: "its PATH is not that of your shell: cron and timers have no other",
    },
    Case {
        config: "[service.a]\n[[service.a.log]]\npath = \"logs/a.log\"",
        line: 8,
        said: "a: the folder {dir}/logs is not there",
        help: "make it: the watchdog makes none",
    },
    Case {
        config: "[service.a]\n[[service.a.log]]\npath = \"plain\"\n[[service.a.log]]\npath = \"a-*.log\"",
        line: 10,
        said: "a: a-*.log matches no file now",
        help: "a log that is not there is a failure: hold the pattern against `ls`",
    },
    Case {
        config: "[service.a]\n[[service.a.log]]\npath = \"plain\"\nmax_age = \"5s\"",
        line: 9,
        said: "a: plain may be no older than 5s: a moment's pause at the time of a run is taken for a freeze",
        help: "runs are a minute apart, so a limit of a minute or more finds a freeze as soon",
    },
    Case {
        config: "[service.a]\nrestart = { settle = \"3m\" }\n[[service.a.log]]\npath = \"plain\"\nmax_age = \"2m\"",
        line: 10,
        said: "a: plain may be no older than 2m, less than it is given to settle (3m)",
        help: "make max_age longer, or settle shorter",
    },
    Case {
        config: "[service.a]\nstart_grace = \"0s\"\nprocess = { pid_file = \"a.pid\" }\n[[service.a.log]]\npath = \"plain\"\nmax_age = \"2m\"",
        line: 7,
        said: "a: plain is judged the moment that it was started",
        help: "make start_grace longer than it takes to write its first lines",
    },
    Case {
        config: "[service.a]\nspawn = { command = [\"sh\"] }\nrestart = { stop_timeout = \"10m\" }",
        line: 8,
        said: "a: stop_timeout, start_timeout and settle can take 10m 32s, but run_timeout ends a run after 5m",
        help: "make run_timeout longer, or these shorter",
    },
    Case {
        config: "[service.a]\ndepends_on = [\"b\"]\nspawn = { command = [\"sh\"] }\nrestart = { start_timeout = \"3m\" }\n[service.b]\nspawn = { command = [\"sh\", \"b\"] }\nrestart = { start_timeout = \"3m\" }",
        line: 9,
        said: "a: its restart after those of what it depends on can take 6m 24s, but run_timeout ends a run after 5m",
        help: "make run_timeout longer, or these shorter",
    },
    Case {
        config: "[service.a]\nspawn = { command = [\"sh\"] }\nrestart = { cooldown = \"30m\" }",
        line: 8,
        said: "a: with a cooldown of 30m there are never 3 restarts in an hour",
        help: "make cooldown shorter, or max_per_hour what it can be",
    },
    Case {
        config: "[service.a]\ndepends_on = [\"b\"]\nspawn = { command = [\"sh\"] }\n[service.b]\nenabled = false\nspawn = { command = [\"sh\"] }",
        line: 7,
        said: "a: `b`, which it depends on, is disabled: nobody looks whether it is well",
        help: "enable it, or take it out of depends_on",
    },
    Case {
        config: "[service.a]\nprocess = { pid_file = \"a.pid\" }\n[service.b]\nprocess = { pid_file = \"./a.pid\" }",
        line: 9,
        said: "b: its PID file is that of `a` as well",
        help: "two services for one program restart it against each other: keep one",
    },
    Case {
        config: "[service.a]\nspawn = { command = [\"sh\", \"x\"] }\n[service.b]\nspawn = { command = [\"sh\", \"x\"] }",
        line: 9,
        said: "b: its command is that of `a` as well",
        help: "two services for one program restart it against each other: keep one",
    },
];

#[test]
fn each_trap_is_told_with_its_place_and_what_mends_it() {
    for case in CASES {
        // with mail, or each would have the trap that nobody is told, too
        let scene = Scene::with(&format!("{MAIL}{}\n", case.config));
        scene.write("plain", "x\n");
        let outcome = scene.run(&["validate"]).exits(0);
        let text = &outcome.stdout;
        let said = scene.fill(&format!("trap: {}\n --> ", case.said));
        assert!(text.contains(&said), "{said}\n{text}");
        let place = format!(" --> {}/watchdog.toml:{} (", scene.dir(), case.line);
        assert!(text.contains(&place), "{place}\n{text}");
        let help = format!("\n  = help: {}\n", case.help);
        assert!(text.contains(&help), "{help}\n{text}");
        assert!(text.contains(", 1 trap\n"), "{}\n{text}", case.config);
        scene.run(&["validate", "--strict"]).exits(1);
    }
}

#[test]
fn traps_of_the_whole_config_are_told() {
    let service = "[service.a]\nspawn = { command = [\"sh\"] }\n";
    for (head, said, help) in [
        (
            "state_dir = \"state\"\n".to_owned(),
            "there is no [mail] table: nobody is told of anything",
            "write one, or have cron or a timer tell what `watchdog check -q` prints",
        ),
        (
            format!("state_dir = \"/dev/shm/watchdog\"\n{MAIL}"),
            "the state in /dev/shm/watchdog is kept in memory: each boot forgets restarts, pauses and unsent mail",
            "choose a state_dir on a disk, such as /var/lib/watchdog",
        ),
        (
            format!("state_dir = \"plain\"\n{MAIL}"),
            "the state cannot be kept in {dir}/plain: this user cannot write to {dir}/plain",
            "make it a folder of the user who runs `watchdog check`, or validate as that user",
        ),
        (
            format!("state_dir = \"state\"\ncheck_timeout = \"6m\"\n{MAIL}"),
            "check_timeout (6m) is longer than run_timeout (5m), which ends every check before",
            "make check_timeout a small part of run_timeout",
        ),
        (
            format!("state_dir = \"state\"\n{}", MAIL.replace("mails", "plain")),
            "no mail can be written to {dir}/plain: it is no folder that this user can write to",
            "make it a folder of the user who runs `watchdog check`",
        ),
        (
            sendmail("/no/such"),
            "no mail can be sent: /no/such cannot be run: No such file or directory (os error 2)",
            "install a mailer such as msmtp-mta or postfix, or use `smtp`",
        ),
        (
            sendmail("{dir}"),
            "no mail can be sent: {dir} is not a program",
            "install a mailer such as msmtp-mta or postfix, or use `smtp`",
        ),
        (
            sendmail("{dir}/plain"),
            "no mail can be sent: {dir}/plain is not executable",
            "install a mailer such as msmtp-mta or postfix, or use `smtp`",
        ),
    ] {
        let scene = Scene::new();
        scene.raw_config(&format!("{head}{service}"));
        scene.write("plain", "x\n");
        let text = scene.run(&["validate"]).exits(0).stdout;
        let said = scene.fill(&format!("trap: {said}\n --> "));
        assert!(text.contains(&said), "{said}\n{text}");
        let help = format!("\n  = help: {help}\n");
        assert!(text.contains(&help), "{help}\n{text}");
        assert!(text.contains(", 1 trap\n"), "{head}\n{text}");
    }
}

/// A config's head whose mail goes through a program.
fn sendmail(program: &str) -> String {
    let mail = MAIL.replace(
        "directory = \"mails\"",
        &format!("sendmail = {{ command = \"{program}\" }}"),
    );
    format!("state_dir = \"state\"\n{mail}")
}

#[test]
fn a_command_in_one_piece_is_a_trap() {
    let scene = Scene::with(&format!(
        "{MAIL}[service.a]\nspawn = {{ command = [\"sleep 1000\"] }}\n"
    ));
    let text = scene.run(&["validate"]).exits(0).stdout;
    let said = "trap: a: the whole of `sleep 1000` is taken for the name of a program\n --> ";
    assert!(text.contains(said), "{text}");
    let help = "\n  = help: write each argument by itself: [\"python3\", \"main.py\"]\n";
    assert!(text.contains(help), "{text}");
    // and so it is not found
    assert!(text.contains(", 2 traps\n"), "{text}");
}

#[test]
fn f09_a_pattern_that_takes_a_person_for_the_program_is_told() {
    for (pattern, taken) in [
        ("watchdog\\.toml", "vi {dir}/watchdog.toml"),
        ("a\\.log", "tail -f {dir}/a.log"),
        ("main\\.py", "vi {dir}/main.py"),
    ] {
        let scene = Scene::with(&format!(
            "{MAIL}[service.a]\nprocess = {{ command_line = '{pattern}' }}\n\
             spawn = {{ command = [\"sh\", \"main.py\"] }}\n\
             [[service.a.log]]\npath = \"a.log\"\n"
        ));
        scene.write("main.py", "");
        let text = scene.run(&["validate"]).exits(0).stdout;
        let said = scene.fill(&format!(
            "trap: a: `{pattern}` would take `{taken}` for the program\n --> "
        ));
        assert!(text.contains(&said), "{said}\n{text}");
        assert!(
            text.contains("  = help: let the pattern begin at the beginning, as in '^/usr/bin/python3 .*main\\.py', or give the `user`\n"),
            "{text}"
        );
    }
    // one that begins at the beginning, and one that is for a user, do not
    for rule in [
        "command_line = '^sh .*main\\.py'",
        "command_line = 'main\\.py', user = \"daemon\"",
    ] {
        let scene = Scene::with(&format!(
            "{MAIL}[service.a]\nprocess = {{ {rule} }}\nspawn = {{ command = [\"sh\", \"main.py\"] }}\n"
        ));
        scene.write("main.py", "");
        let text = scene.run(&["validate"]).exits(0).stdout;
        assert!(!text.contains("would take"), "{text}");
    }
}

#[test]
fn several_unrelated_processes_are_a_trap_and_are_listed() {
    let scene = Scene::with(&format!(
        "{MAIL}[service.a]\nprocess = {{ command_line = '^/bin/sh {{dir}}/prog\\.sh' }}\n"
    ));
    let (one, two) = (scene.start("one", &[]), scene.start("two", &[]));
    let text = scene.run(&["validate"]).exits(0).stdout;
    assert!(text.contains("matches now\n"), "{text}");
    for pid in [one, two] {
        assert!(text.contains(&format!("    PID {pid}: /bin/sh")), "{text}");
    }
    assert!(text.contains(", 1 trap\n"), "{text}");
    let help = "  = help: make the pattern narrower, or give the `user` or a `pid_file` as well\n";
    assert!(text.contains(help), "{text}");
}

#[test]
fn f80_a_watchdog_that_nobody_runs_any_more_is_a_trap() {
    let scene = Scene::with(&format!(
        "{MAIL}[service.a]\n[[service.a.log]]\npath = \"plain\"\n"
    ));
    scene.write("plain", "x\n");
    scene.check().exits(0);
    let text = scene.run(&["validate"]).exits(0).stdout;
    assert!(text.contains("no errors\n"), "{text}");
    scene.edit_state(|state| {
        let ago = chrono::Utc::now() - chrono::TimeDelta::hours(3);
        state["last_run"] = ago.to_rfc3339().into();
    });
    let text = scene.run(&["validate"]).exits(0).stdout;
    assert!(
        text.contains(
            "trap: the last run was 3h ago: nothing seems to run `watchdog check` any more\n"
        ),
        "{text}"
    );
    let help = "  = help: look at the cron entry (`* * * * * watchdog check -q`) or the timer; `watchdog status --max-age 10m` tells other tools\n";
    assert!(text.contains(help), "{text}");
}

#[test]
fn control_characters_of_a_config_are_shown_not_sent() {
    let scene = Scene::with("[service.a]\nprocess = { command_line = \"^x\\u001b\\\\[2J\" }\n");
    let outcome = scene.run(&["validate"]).exits(0);
    assert!(outcome.stdout.contains("\\x1b"), "{}", outcome.stdout);
    assert!(!outcome.text().contains('\x1b'));
}

#[test]
fn its_exit_code_serves_a_script() {
    // what runs in CI: 0 and no trap, or 1 with --strict, or 78
    let scene = Scene::with(&format!(
        "{MAIL}[service.a]\nspawn = {{ command = [\"sh\"] }}\n"
    ));
    scene.run(&["validate", "--strict"]).exits(0);
    let mut command = Command::new("sh");
    command.args([
        "-c",
        &scene.fill("{watchdog} validate --strict >/dev/null && echo fine"),
    ]);
    assert_eq!(scene.finish(command).exits(0).stdout, "fine\n");
    scene.config("[service.a]\nspwan = 1\n");
    scene.run(&["validate"]).exits(78);
}

/// Asserts that `validate` finds this one trap in a box, or none where nothing is `said`.
#[track_caller]
fn only_trap(text: &str, said: &str) {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if said.is_empty() {
        assert!(words.ends_with(", no errors"), "{text}");
    } else {
        assert!(words.contains(said), "{said}\n{text}");
        assert!(words.ends_with(", 1 trap"), "{text}");
        assert!(words.contains("= help: "), "{text}");
    }
}

#[test]
#[ignore = "needs root and systemd"]
fn units_that_cannot_be_started_are_traps() {
    let it = SystemdBox::boot();
    it.unit("bot.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    it.unit("bad.service", "[Service]\nType=nonsense\n");
    it.sh("systemctl mask gone.service; systemctl start bot")
        .ok();
    let validate = |unit: &str, code: i32| {
        it.config(&format!("{MAIL}[service.a]\nsystemd = {{ {unit} }}\n"));
        it.sh("watchdog validate --strict").exits(code).stdout
    };
    only_trap(&validate("unit = \"bot.service\"", 0), "");
    for (unit, said) in [
        (
            "unit = \"gone.service\"",
            "trap: a: gone.service is masked: nobody can start it, the watchdog neither \
             --> /etc/watchdog/watchdog.toml:6 (service.a.systemd.unit) = help: systemctl unmask gone.service",
        ),
        (
            "unit = \"nowhere.service\"",
            "trap: a: systemd has no unit nowhere.service --> /etc/watchdog/watchdog.toml:6 (service.a.systemd.unit) \
             = help: `systemctl list-unit-files` shows those that it has; units of a user need manager = \"user\"",
        ),
        (
            "unit = \"bad.service\"",
            "trap: a: systemd cannot load bad.service (bad-setting) --> /etc/watchdog/watchdog.toml:6 (service.a.systemd.unit) \
             = help: `systemd-analyze verify bad.service` says why",
        ),
        (
            "unit = \"bot.service\", manager = \"user\"",
            "trap: a: systemd could not be asked for bot.service: the systemd of user root does not run: there is no /run/user/0; \
             `loginctl enable-linger root` keeps it running without a login --> /etc/watchdog/watchdog.toml:6 (service.a.systemd) \
             = help: validate where the units run, as the user who runs `watchdog check`",
        ),
    ] {
        only_trap(&validate(unit, 1), said);
    }
    // asked for in the systemd of a user
    linger(&it, "root", 0);
    only_trap(
        &validate("unit = \"nowhere\", manager = \"user\"", 1),
        "units of the system need manager = \"system\"",
    );
    // one that runs, and could never be started again
    it.sh("rm /etc/systemd/system/bot.service; systemctl mask bot; systemctl is-active bot")
        .ok();
    only_trap(
        &validate("unit = \"bot\"", 1),
        "trap: a: bot.service is masked",
    );
    // two services for one unit
    it.unit("one.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    it.config(&format!(
        "{MAIL}[service.a]\nsystemd = {{ unit = \"one\" }}\n[service.b]\nsystemd = {{ unit = \"one\" }}\n"
    ));
    only_trap(
        &it.sh("watchdog validate").exits(0).stdout,
        "b: its unit is that of `a` as well",
    );
}

#[test]
#[ignore = "needs root and systemd"]
fn f21_a_unit_that_would_kill_what_it_starts_is_a_trap() {
    let it = SystemdBox::boot();
    let validate = || it.sh("watchdog validate").exits(0).stdout;
    let drop_in = |text: &str| {
        it.write(
            "/etc/systemd/system/watchdog.service.d/a.conf",
            &format!("[Service]\n{text}\n"),
        );
        it.sh("systemctl daemon-reload").ok();
    };
    it.config(&format!(
        "{MAIL}[service.a]\nspawn = {{ command = [\"sleep\", \"1000\"] }}\n"
    ));
    only_trap(&validate(), "");
    it.unit("watchdog.service", &shipped("contrib/watchdog.service"));
    only_trap(&validate(), "");

    // a sandbox is no good to what is started
    drop_in("ProtectSystem=strict");
    only_trap(
        &validate(),
        "a: what is started would be shut into the sandbox of watchdog.service (ProtectSystem=strict), whatever scope it is in \
         --> /etc/watchdog/watchdog.toml:6 (service.a.spawn) = help: take the sandbox away, or have every service restarted \
         by `systemd = { … }`",
    );
    // systemd ends the run before the run ends itself
    drop_in("TimeoutStartSec=90s");
    only_trap(
        &validate(),
        "watchdog.service ends a run after 1m 30s, before run_timeout (5m) does --> /etc/watchdog/watchdog.toml \
         (run_timeout) = help: set TimeoutStartSec in watchdog.service to more than run_timeout",
    );
    // a user whose own systemd does not run without a login
    it.sh("useradd -m -u 4242 wdtest").ok();
    drop_in("User=wdtest");
    let killed = "a: what is started would be killed when watchdog.service ends: only the systemd of user wdtest can give \
                  it a scope of its own, and that ends with the last login --> /etc/watchdog/watchdog.toml:6 \
                  (service.a.spawn) = help: loginctl enable-linger wdtest; or set KillMode=process in watchdog.service";
    only_trap(&validate(), killed);
    drop_in("User=wdtest\nKillMode=process");
    only_trap(&validate(), "");
    drop_in("User=wdtest");
    it.sh("mkdir -p /var/lib/systemd/linger; touch /var/lib/systemd/linger/wdtest")
        .ok();
    only_trap(&validate(), "");

    // nobody who gives out scopes
    drop_in("");
    it.sh("mv /usr/bin/busctl /usr/bin/busctl.away").ok();
    let killed = "a: what is started would be killed when watchdog.service ends: busctl, which gives it a scope of its own, is not \
         there --> ";
    only_trap(&validate(), killed);
    it.config(&format!(
        "{MAIL}[service.a]\nprocess = {{ pid_file = \"a.pid\" }}\nrestart = {{ command = [\"true\"] }}\n"
    ));
    let text = validate();
    only_trap(&text, killed);
    assert!(text.contains("(service.a.restart.command)"), "{text}");
    assert!(
        text.contains("= help: install it, it belongs to systemd"),
        "{text}"
    );
    // a unit of that name that runs something else, or another config, is none of its business
    drop_in("ExecStart=\nExecStart=/usr/local/bin/watchdog check -c /etc/other.toml");
    only_trap(&validate(), "");
    drop_in("ExecStart=\nExecStart=/usr/sbin/watchdog");
    only_trap(&validate(), "");

    // `validate` that is itself run by a unit, whatever its name
    let inside = it
        .sh("systemd-run --quiet --wait --pipe --unit=own watchdog validate")
        .exits(0);
    only_trap(
        &inside.stdout,
        "a: what is started would be killed when own.service ends",
    );
    // and one that a CI runs
    it.write("/job", "watchdog validate\n");
    let inside = it
        .sh("systemd-run --quiet --wait --pipe --unit=ci sh /job")
        .exits(0);
    only_trap(&inside.stdout, "");
}
