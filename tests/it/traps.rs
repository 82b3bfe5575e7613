//! `validate`: each trap that it knows, on a config that has it and no other.

use std::process::Command;

use crate::boxes::{SystemdBox, shipped};
use crate::scene::Scene;

/// What keeps every config below from having the trap that nobody is told.
const MAIL: &str =
    "[mail]\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]\ndirectory = \"mails\"\n";

/// A config with exactly one trap, the line that it stands on, and words of what is told.
struct Case {
    config: &'static str,
    line: usize,
    said: &'static str,
}

const CASES: &[Case] = &[
    Case {
        config: "[service.a]\nprocess = { command_line = '^no-such-program-at-all$' }",
        line: 7,
        said: "a: `^no-such-program-at-all$` matches no process now",
    },
    Case {
        config: "[service.a]\nprocess = { command_line = '^no-such-program$', user = \"root\" }",
        line: 7,
        said: "`^no-such-program$` matches no process of user root now",
    },
    Case {
        config: "[service.a]\nprocess = { pid_file = \"nowhere/a.pid\" }",
        line: 7,
        said: "a: the folder of its PID file, {dir}/nowhere, is not there",
    },
    Case {
        config: "[service.a]\nprocess = { pid_file = \"a.pid\", user = \"no-such-user\" }",
        line: 7,
        said: "a: no such user `no-such-user`",
    },
    Case {
        config: "[service.a]\nspawn = { command = [\"no-such-program\"] }",
        line: 7,
        said: "no such program `no-such-program` in its PATH (/usr/local/sbin:",
    },
    Case {
        config: "[service.a]\nspawn = { command = [\"./plain\"] }",
        line: 7,
        said: "it could not be started: {dir}/./plain is not executable",
    },
    Case {
        config: "[service.a]\nspawn = { command = [\"bin/x\"] }",
        line: 7,
        said: "no such program {dir}/bin/x",
    },
    Case {
        config: "[service.a]\nworking_dir = \"gone\"\nspawn = { command = [\"sh\"] }",
        line: 8,
        said: "no working folder {dir}/gone",
    },
    Case {
        config: "[service.a]\nspawn = { command = [\"sh\"], user = \"no-such-user\" }",
        line: 7,
        said: "no such user `no-such-user`",
    },
    Case {
        config: "[service.a]\nspawn = { command = [\"sh\"], env_file = \"missing.env\" }",
        line: 7,
        said: "cannot read env_file {dir}/missing.env",
    },
    Case {
        config: "[service.a]\nspawn = { command = [\"sh\"], stderr = \"logs/err.log\" }",
        line: 7,
        said: "a: the folder {dir}/logs is not there",
    },
    Case {
        config: "[service.a]\nspawn = { command = [\"sh\", \"run.sh\", \">\", \"x.log\"] }",
        line: 7,
        said: "no shell reads this command: `>` is an argument like any other",
    },
    Case {
        config: "[service.a]\nprocess = { pid_file = \"a.pid\" }\n[service.a.restart]\ncommand = [\"no-such-program\"]",
        line: 9,
        said: "a: it could not be restarted: no such program `no-such-program`",
    },
    Case {
        config: "[service.a]\n[[service.a.log]]\npath = \"logs/a.log\"",
        line: 8,
        said: "a: the folder {dir}/logs is not there",
    },
    Case {
        config: "[service.a]\n[[service.a.log]]\npath = \"plain\"\n[[service.a.log]]\npath = \"a-*.log\"",
        line: 10,
        said: "a: a-*.log matches no file now",
    },
    Case {
        config: "[service.a]\n[[service.a.log]]\npath = \"plain\"\nmax_age = \"5s\"",
        line: 9,
        said: "plain may be no older than 5s: a moment's pause",
    },
    Case {
        config: "[service.a]\nrestart = { settle = \"3m\" }\n[[service.a.log]]\npath = \"plain\"\nmax_age = \"2m\"",
        line: 10,
        said: "plain may be no older than 2m, less than it is given to settle (3m)",
    },
    Case {
        config: "[service.a]\nstart_grace = \"0s\"\nprocess = { pid_file = \"a.pid\" }\n[[service.a.log]]\npath = \"plain\"\nmax_age = \"2m\"",
        line: 7,
        said: "plain is judged the moment that it was started",
    },
    Case {
        config: "[service.a]\nspawn = { command = [\"sh\"] }\nrestart = { stop_timeout = \"10m\" }",
        line: 8,
        said: "settle can take 10m 32s, but run_timeout ends a run after 5m",
    },
    Case {
        config: "[service.a]\ndepends_on = [\"b\"]\nspawn = { command = [\"sh\"] }\nrestart = { start_timeout = \"3m\" }\n[service.b]\nspawn = { command = [\"sh\", \"b\"] }\nrestart = { start_timeout = \"3m\" }",
        line: 9,
        said: "a: its restart after those of what it depends on can take 6m 24s",
    },
    Case {
        config: "[service.a]\nspawn = { command = [\"sh\"] }\nrestart = { cooldown = \"30m\" }",
        line: 8,
        said: "with a cooldown of 30m there are never 3 restarts in an hour",
    },
    Case {
        config: "[service.a]\ndepends_on = [\"b\"]\nspawn = { command = [\"sh\"] }\n[service.b]\nenabled = false\nspawn = { command = [\"sh\"] }",
        line: 7,
        said: "a: `b`, which it depends on, is disabled",
    },
    Case {
        config: "[service.a]\nprocess = { pid_file = \"a.pid\" }\n[service.b]\nprocess = { pid_file = \"./a.pid\" }",
        line: 9,
        said: "b: its PID file is that of `a` as well",
    },
    Case {
        config: "[service.a]\nspawn = { command = [\"sh\", \"x\"] }\n[service.b]\nspawn = { command = [\"sh\", \"x\"] }",
        line: 9,
        said: "b: its command is that of `a` as well",
    },
];

#[test]
fn each_trap_is_told_with_its_place_and_what_mends_it() {
    for case in CASES {
        let scene = Scene::with(&format!("{MAIL}{}\n", case.config));
        scene.write("plain", "x\n");
        let outcome = scene.run(&["validate"]).exits(0);
        let text = &outcome.stdout;
        assert!(
            text.contains(&scene.fill(case.said)),
            "{}\n{text}",
            case.said
        );
        let place = format!(" --> {}/watchdog.toml:{} (", scene.dir(), case.line);
        assert!(text.contains(&place), "{place}\n{text}");
        assert!(text.contains("  = help: "), "{text}");
        assert!(text.contains(", 1 trap\n"), "{}\n{text}", case.config);
        scene.run(&["validate", "--strict"]).exits(1);
    }
}

#[test]
fn traps_of_the_whole_config_are_told() {
    let service = "[service.a]\nspawn = { command = [\"sh\"] }\n";
    for (head, said) in [
        (
            "state_dir = \"state\"\n".to_owned(),
            "trap: there is no [mail] table: nobody is told of anything",
        ),
        (
            format!("state_dir = \"/dev/shm/watchdog\"\n{MAIL}"),
            "the state in /dev/shm/watchdog is kept in memory",
        ),
        (
            format!("state_dir = \"plain\"\n{MAIL}"),
            "the state cannot be kept in {dir}/plain",
        ),
        (
            format!("state_dir = \"state\"\ncheck_timeout = \"6m\"\n{MAIL}"),
            "check_timeout (6m) is longer than run_timeout (5m)",
        ),
        (
            format!("state_dir = \"state\"\n{}", MAIL.replace("mails", "plain")),
            "no mail can be written to {dir}/plain",
        ),
        (
            format!(
                "state_dir = \"state\"\n{}",
                MAIL.replace(
                    "directory = \"mails\"",
                    "sendmail = { command = \"/no/such\" }"
                )
            ),
            "no mail can be sent: /no/such cannot be run",
        ),
    ] {
        let scene = Scene::new();
        scene.raw_config(&format!("{head}{service}"));
        scene.write("plain", "x\n");
        let text = scene.run(&["validate"]).exits(0).stdout;
        assert!(text.contains(&scene.fill(said)), "{said}\n{text}");
        assert!(text.contains(", 1 trap\n"), "{head}\n{text}");
        assert!(text.contains("  = help: "), "{text}");
    }
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
            "a: `{pattern}` would take `{taken}` for the program"
        ));
        assert!(text.contains(&said), "{said}\n{text}");
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
    assert!(text.contains("make the pattern narrower"), "{text}");
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
        text.contains("the last run was 3h ago: nothing seems to run `watchdog check` any more"),
        "{text}"
    );
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
            "trap: a: systemd has no unit nowhere.service",
        ),
        (
            "unit = \"bad.service\"",
            "trap: a: systemd cannot load bad.service (bad-setting)",
        ),
        (
            "unit = \"bot.service\", manager = \"user\"",
            "trap: a: systemd could not be asked for bot.service: the systemd of user root does not run",
        ),
    ] {
        only_trap(&validate(unit, 1), said);
    }
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
        "a: what is started would be shut into the sandbox of watchdog.service (ProtectSystem=strict)",
    );
    // systemd ends the run before the run ends itself
    drop_in("TimeoutStartSec=90s");
    only_trap(
        &validate(),
        "watchdog.service ends a run after 1m 30s, before run_timeout (5m) does",
    );
    // a user whose own systemd does not run without a login
    it.sh("useradd -m -u 4242 wdtest").ok();
    drop_in("User=wdtest");
    let killed = "a: what is started would be killed when watchdog.service ends: only the systemd of user wdtest";
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
    let killed =
        "a: what is started would be killed when watchdog.service ends: busctl, which gives it";
    only_trap(&validate(), killed);
    it.config(&format!(
        "{MAIL}[service.a]\nprocess = {{ pid_file = \"a.pid\" }}\nrestart = {{ command = [\"true\"] }}\n"
    ));
    let text = validate();
    only_trap(&text, killed);
    assert!(text.contains("(service.a.restart.command)"), "{text}");
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
