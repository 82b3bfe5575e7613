//! `validate`: traps that need more than a config, and its exit code. [`crate::situations`] has all of what it says.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::boxes::{SystemdBox, shipped};
use crate::scene::{MAIL, Scene, WATCHDOG, processes};
use crate::systemd::linger;

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
            "trap: a: the pattern `{pattern}` also matches `{taken}`\n --> "
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
        assert!(!text.contains("the pattern `"), "{text}");
    }
}

#[test]
fn a_command_of_the_evidence_that_is_not_there_is_told() {
    for (command, said) in [
        (
            "\"no-such-dump\", \"{pid}\"",
            Some("a: it could not be run: no such program `no-such-dump` in its PATH"),
        ),
        (
            "\"true\", \"|\", \"cat\"",
            Some("a: no shell reads this command: `|` is an argument"),
        ),
        ("\"true\"", None),
    ] {
        let scene = Scene::with(&format!(
            "{MAIL}[service.a]\nspawn = {{ command = [\"sleep\", \"1\"] }}\nevidence = {{ command = [{command}] }}\n"
        ));
        let text = scene.run(&["validate"]).exits(0).stdout;
        let place = ": [service.a.evidence] command\n";
        match said {
            Some(said) => assert!(text.contains(said) && text.contains(place), "{text}"),
            None => assert!(!text.contains(place), "{text}"),
        }
    }
}

#[test]
fn a_service_that_no_check_would_start_is_told() {
    const SAID: &str = "a: no check will start it: its process was never seen";
    let port = crate::scene::free_port();
    let warning = "severity = \"warning\"\n";
    let log = "[[service.a.log]]\npath = \"a.log\"\n";
    let exec = "[[service.a.exec]]\ncommand = [\"true\"]\n";
    let is_told = |keys: &str, checks: &str| {
        let scene = Scene::with(&format!(
            "{MAIL}[service.a]\n{keys}spawn = {{ command = [\"/bin/sh\", \"{{dir}}/prog.sh\", \"a\"] }}\n{checks}"
        ));
        scene.write("a.log", "x\n");
        let validated = scene.run(&["validate"]).exits(0).stdout;
        (validated.contains(SAID), scene)
    };
    let all = format!(
        "{log}{warning}{exec}{warning}[[service.a.port]]\naddress = \"127.0.0.1:{port}\"\n{warning}"
    );
    for (keys, checks, told) in [
        ("", "", false),
        ("", &*format!("{log}{warning}"), true),
        ("", &*all, true),
        ("process = { pid_file = \"a.pid\" }\n", &*all, false),
        // one that is critical says that it has to run
        ("", &*format!("{log}{warning}{exec}"), false),
        // what does not show whether it runs
        ("memory = { warning = \"1 GB\" }\n", "", false),
    ] {
        let (is_told, scene) = is_told(keys, checks);
        assert_eq!(is_told, told, "{keys}{checks}");
        // and that is so
        if told {
            for _ in 0..2 {
                scene.check();
            }
            assert_eq!(scene.starts("a").len(), 0, "{checks}");
            scene.run(&["restart", "a"]).exits(0);
            scene.kill_and_reap(scene.last("a"));
            scene.check().restarted_for("a", "process_missing");
        }
    }
}

#[test]
fn a_strategy_for_what_is_never_critical_is_told() {
    let told = |findings: &str, checks: &str| {
        let scene = Scene::with(&format!(
            "{MAIL}[service.a]\nprocess = {{ pid_file = \"a.pid\" }}\n{checks}\
             [[service.a.strategy]]\nfindings = {findings}\naction = \"alert\"\n"
        ));
        scene.write("a.log", "x\n");
        scene.run(&["validate"]).exits(0).stdout
    };
    let log = |keys: &str| format!("[[service.a.log]]\npath = \"a.log\"\nmax_age = \"5m\"\n{keys}");
    let warning = log("severity = \"warning\"\n");
    for (findings, checks, said) in [
        (
            "[\"http_slow\"]",
            "",
            Some(
                "its strategy for http_slow never holds: what has that code is never critical here",
            ),
        ),
        (
            "[\"pid_file_stale\", \"log_unreadable\"]",
            "",
            Some(
                "pid_file_stale, log_unreadable never holds: what has one of these codes is never",
            ),
        ),
        ("[\"pid_file_stale\", \"process_missing\"]", "", None),
        (
            "[\"log_stale\"]",
            &*warning,
            Some("its strategy for log_stale never holds"),
        ),
        ("[\"log_stale\"]", &*format!("{warning}{}", log("")), None),
        // of no check here, but there may be one in another service's copy of these lines
        ("[\"log_stale\"]", "", None),
        ("[\"disk_full\"]", "", None),
    ] {
        let text = told(findings, checks);
        match said {
            Some(said) => assert!(text.contains(said), "{findings}: {text}"),
            None => assert!(!text.contains("never critical"), "{findings}: {text}"),
        }
    }
}

#[test]
fn rules_for_a_log_are_held_against_the_log_as_it_is() {
    let log = |rule: &str| {
        let scene = Scene::with(&format!(
            "{MAIL}[service.a]\n[[service.a.log]]\npath = \"a.log\"\nmax_age = \"5m\"\n{rule}\n"
        ));
        let line = "2026-11-26 12:00:00 Position updated\n";
        scene.write("a.log", line.repeat(120));
        scene
    };
    for (rule, key, said) in [
        (
            "expect = ['Positon']",
            "expect",
            "a: `Positon` matches none of the last 100 lines of a.log: a check would find log_quiet now; the last line is \
             `2026-11-26 12:00:00 Position updated`",
        ),
        (
            "lines = 2\nexpect = [{ pattern = 'Position', at_least = 2 }, 'updated$', '^Position']",
            "expect",
            "`^Position` matches none of the last 2 lines of a.log",
        ),
        (
            "timestamp = \"%d.%m.%Y %H:%M\"",
            "timestamp",
            "`%d.%m.%Y %H:%M` reads no stamp in the last 100 lines of a.log; the last line is `2026-11-26 12:00:00 Position \
             updated`",
        ),
        // no more than a check finds
        ("expect = ['Position']", "", ""),
        ("timestamp = \"%Y-%m-%d %H:%M:%S\"", "", ""),
        ("forbid = ['Positon']", "", ""),
    ] {
        let scene = log(rule);
        let text = scene.run(&["validate"]).exits(0).stdout;
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        if key.is_empty() {
            assert!(text.ends_with(", no errors"), "{rule}: {text}");
            continue;
        }
        assert!(text.contains(&said), "{rule}: {said}\n{text}");
        assert!(text.contains(&format!("[[service.a.log]] {key}")), "{text}");
        assert!(text.ends_with(", 1 trap"), "{text}");
    }
    // stamps of another unit lie far ahead
    let scene = log("timestamp = \"%s\"");
    scene.write("a.log", "{\"time\":1795348800123}\n".repeat(3));
    scene.config(&format!(
        "{MAIL}[service.a]\n[[service.a.log]]\npath = \"a.log\"\nmax_age = \"5m\"\ntimestamp = \"%s\"\n\
         timestamp_after = '\"time\":'\n"
    ));
    let text = scene.run(&["validate"]).exits(0).stdout;
    assert!(
        text.contains("the last line is `{\"time\":1795348800123}`"),
        "{text}"
    );
}

#[test]
fn what_is_no_log_is_said_without_waiting_for_it() {
    let scene = Scene::with(&format!(
        "{MAIL}[service.a]\n[[service.a.log]]\npath = \"a.log\"\nexpect = ['x']\n"
    ));
    nix::unistd::mkfifo(
        std::path::Path::new(&scene.path("a.log")),
        nix::sys::stat::Mode::S_IRWXU,
    )
    .unwrap();
    let text = scene.run(&["validate"]).exits(0).stdout;
    assert!(text.contains("trap: a: a.log: "), "{text}");
    assert!(text.ends_with("1 trap\n"), "{text}");
    // nothing is in it yet, or it is not there yet: there is nothing to hold a rule against
    std::fs::remove_file(scene.path("a.log")).unwrap();
    scene.run(&["validate", "--strict"]).exits(0);
    scene.write("a.log", "");
    scene.run(&["validate", "--strict"]).exits(0);
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
fn a_short_token_and_a_directory_of_others_are_traps_of_web() {
    let scene = Scene::new();
    let validate = |token: &str| {
        scene.config(&format!(
            "{MAIL}[web]\ndir = \"{{dir}}/pages\"\n{token}[service.a]\nspawn = {{ command = [\"sh\"] }}\n"
        ));
        scene.run(&["validate"]).exits(0).stdout
    };
    let text = validate("token = \"0123456789abcdef\"\n");
    assert!(!text.contains("trap: "), "{text}");
    let text = validate("token = \"0123456789abcde\"\n");
    let said = "trap: the token of [web] has fewer than 16 characters: it can be guessed\n";
    assert!(text.contains(said), "{text}");
    assert!(!text.contains("0123456789"), "{text}");
    assert!(text.contains("[web] token"), "{text}");
    let text = validate("token_env = \"NOBODY_SETS_THIS\"\n");
    assert!(
        text.contains("trap: $NOBODY_SETS_THIS, which holds the token of [web], is not set"),
        "{text}"
    );
    fs::create_dir(scene.path("pages")).unwrap();
    fs::set_permissions(scene.path("pages"), Permissions::from_mode(0o777)).unwrap();
    let text = validate("");
    let so = if nix::unistd::geteuid().is_root() {
        "root publishes nothing there"
    } else {
        "they could show other pages there"
    };
    let said = format!("/pages can be changed by everybody: {so}\n");
    assert!(text.contains(&said), "{text}");
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

/// What `validate` says once it finds the process of the service.
fn once_it_matches(scene: &Scene) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let text = scene.run(&["validate"]).exits(0).stdout;
        if text.contains("matches now") || Instant::now() > deadline {
            return text;
        }
    }
}

#[test]
fn a_program_that_its_parent_starts_again_is_a_trap_of_spawn() {
    let scene = Scene::with(&format!(
        "{MAIL}[service.a]\nprocess = {{ command_line = '^sleep 471123$' }}\nspawn = {{ command = [\"sleep\", \"471123\"] }}\n"
    ));
    let mut keeper = Command::new("sh")
        .args(["-c", "while :; do sleep 471123; done"])
        .process_group(0)
        .spawn()
        .unwrap();
    let text = once_it_matches(&scene);
    let group = nix::unistd::Pid::from_raw(i32::try_from(keeper.id()).unwrap());
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
    keeper.wait().unwrap();
    let said = format!(
        "is started again by its parent, PID {group} (sh): a restart by `spawn` may make a second copy"
    );
    assert!(text.contains(&said), "{said}\n{text}");
    assert!(text.contains("[service.a.spawn]"), "{text}");
    let help = "  = help: let the service be the parent, or restart it by the parent's own command: restart = { command = ";
    assert!(text.contains(help), "{text}");
    assert!(text.ends_with(", 1 trap\n"), "{text}");
}

#[test]
fn a_run_that_has_just_started_a_service_is_no_keeper_of_it() {
    let scene = Scene::with(&format!(
        "{MAIL}[service.a]\nprocess = {{ command_line = '^sleep 471124$' }}\nspawn = {{ command = [\"sleep\", \"471124\"] }}\n\
         restart = {{ settle = \"60s\", start_timeout = \"90s\" }}\n"
    ));
    // installed under another name
    let program = scene.path("wd");
    fs::copy(WATCHDOG, &program).unwrap();
    let mut run = Command::new(&program)
        .args(["-c", &scene.fill("{dir}/watchdog.toml"), "check", "-q"])
        .process_group(0)
        .spawn()
        .unwrap();
    let text = once_it_matches(&scene);
    let started = processes().into_iter();
    let mut started = started.filter(|process| process.command_line() == "sleep 471124");
    let started = started.next().map(|process| process.pid);
    run.kill().unwrap();
    run.wait().unwrap();
    scene.kill(started.unwrap());
    assert!(text.contains("matches now"), "{text}");
    assert!(text.ends_with(" 1 service, no errors\n"), "{text}");
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
             --> /etc/watchdog/watchdog.toml:6: [service.a.systemd] unit = help: systemctl unmask gone.service",
        ),
        (
            "unit = \"nowhere.service\"",
            "trap: a: systemd has no unit nowhere.service --> /etc/watchdog/watchdog.toml:6: [service.a.systemd] unit \
             = help: `systemctl list-unit-files` shows those that it has; units of a user need manager = \"user\"",
        ),
        (
            "unit = \"bad.service\"",
            "trap: a: systemd cannot load bad.service (bad-setting) --> /etc/watchdog/watchdog.toml:6: [service.a.systemd] unit \
             = help: `systemd-analyze verify bad.service` says why",
        ),
        (
            "unit = \"bot.service\", manager = \"user\"",
            "trap: a: systemd could not be asked for bot.service: the systemd of user root does not run: there is no /run/user/0; \
             `loginctl enable-linger root` keeps it running without a login --> /etc/watchdog/watchdog.toml:6: [service.a.systemd] \
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
    // an escape in double quotes makes it another unit
    it.unit("ser-GPS.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    it.sh("systemctl start ser-GPS").ok();
    only_trap(
        &validate("unit = \"ser\\x2dGPS.service\"", 1),
        r"trap: a: in double quotes `ser\x2dGPS.service` is another unit: ser-GPS.service --> ",
    );
    only_trap(
        &validate("unit = \"ser\\x2dGPS.service\"", 1),
        r"[service.a.systemd] unit = help: write it in single quotes, where a backslash stays one: 'ser\x2dGPS.service'",
    );
    only_trap(&validate("unit = \"ser-GPS\"", 0), "");
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
fn units_that_systemd_does_not_see_the_end_of_are_traps() {
    let it = SystemdBox::boot();
    // as an init script's is, by systemd-sysv-generator
    it.unit(
        "old.service",
        "[Service]\nType=forking\nGuessMainPID=no\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'exec sleep 1000 &'\n",
    );
    it.unit(
        "job.service",
        "[Service]\nType=oneshot\nExecStart=/bin/true\n",
    );
    it.unit("job.timer", "[Timer]\nOnCalendar=*-12-24\n");
    it.unit(
        "once.service",
        "[Service]\nType=oneshot\nExecStart=/bin/true\n",
    );
    it.sh("systemctl start old job.timer").ok();
    let validate = |keys: &str, code: i32| {
        it.config(&format!("{MAIL}[service.a]\n{keys}\n"));
        it.sh("watchdog validate --strict").exits(code).stdout
    };
    let no_main = "trap: a: old.service is active (running) without a main process: where its program ends, systemd \
                   does not see it, and it stays active --> /etc/watchdog/watchdog.toml:6: [service.a.systemd] unit = \
                   help: add `process`, which knows the program by its PID file or its command line";
    only_trap(&validate("systemd = { unit = \"old\" }", 1), no_main);
    it.sh("watchdog check").exits(0);
    let why = it.sh("watchdog why a").exits(0).stdout;
    let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = "unit old.service, active without a main process: its end is not seen; a `process` table would know it";
    assert!(why.contains(said), "{why}");
    // its program is known by something else
    let known = "systemd = { unit = \"old\" }\nprocess = { command_line = '^sleep 1000$' }";
    assert!(validate(known, 0).contains("no errors"));
    it.sh("watchdog check").exits(0);
    assert!(
        !it.sh("watchdog why a")
            .exits(0)
            .stdout
            .contains("main process")
    );
    // two keepers of one program
    it.unit(
        "bot.service",
        "[Service]\nExecStart=/bin/sleep 2000\nRestart=always\n",
    );
    it.sh("systemctl start bot").ok();
    let kept = validate(
        "process = { command_line = '^/bin/sleep 2000$' }\nspawn = { command = [\"/bin/sleep\", \"2000\"] }",
        1,
    );
    only_trap(
        &kept,
        "is the main process of bot.service, which systemd starts: a restart by `spawn` makes a second copy beside that",
    );
    only_trap(
        &kept,
        "[service.a.spawn] = help: write systemd = { unit = \"bot.service\" } in place of `spawn`",
    );
    // what is started by something else, or ends by itself
    only_trap(
        &validate("systemd = { unit = \"job\" }", 1),
        "trap: a: job.service is started by job.timer: it is well while it is inactive, and where it failed it is alerted \
         about and not started --> /etc/watchdog/watchdog.toml:6: [service.a.systemd] unit = help: rerun = true starts it \
         where it failed; a service with systemd = { unit = \"job.timer\" } sees whether that runs",
    );
    only_trap(
        &validate("systemd = { unit = \"once\" }", 1),
        "trap: a: once.service is a job that ends (Type=oneshot): it is well while it is inactive, and where it failed \
         it is alerted about and not started --> /etc/watchdog/watchdog.toml:6: [service.a.systemd] unit = help: rerun = \
         true starts it where it failed",
    );
    validate("systemd = { unit = \"job\", rerun = true }", 0);
    validate("systemd = { unit = \"job.timer\" }", 0);
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
         --> /etc/watchdog/watchdog.toml:6: [service.a.spawn] = help: take the sandbox away, or have every service restarted \
         by `systemd = { … }`",
    );
    // systemd ends the run before the run ends itself
    drop_in("TimeoutStartSec=90s");
    only_trap(
        &validate(),
        "watchdog.service ends a run after 1m 30s, before run_timeout (5m) does --> /etc/watchdog/watchdog.toml: \
         run_timeout = help: set TimeoutStartSec in watchdog.service to more than run_timeout",
    );
    // a user whose own systemd does not run without a login
    it.sh("useradd -m -u 4242 wdtest").ok();
    drop_in("User=wdtest");
    let killed = "a: what is started would be killed when watchdog.service ends: only the systemd of user wdtest can give \
                  it a scope of its own, and that ends with the last login --> /etc/watchdog/watchdog.toml:6: \
                  [service.a.spawn] = help: loginctl enable-linger wdtest; or set KillMode=process in watchdog.service";
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
    assert!(text.contains("[service.a.restart] command"), "{text}");
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
