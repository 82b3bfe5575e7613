//! Exec probes: what a command's end means, and that nothing of it is left behind.

use std::fmt::Write as _;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::scene::{Scene, Service, free_port, render, root, signal};

/// A config with exec probes behind a service's other tables.
fn with_exec(service: &Service, tables: &[&str]) -> String {
    let keys = tables.join("\n[[service.a.exec]]\n");
    format!("{}[[service.a.exec]]\n{keys}\n", render(&[service]))
}

/// A service that is known by its probes alone, and never restarted.
fn probed(tables: &[&str]) -> String {
    let keys = tables.join("\n[[service.a.exec]]\n");
    format!("[service.a]\nstart_grace = \"0s\"\n[[service.a.exec]]\n{keys}\n")
}

/// Waits until nothing of a scene runs any more.
fn nothing_is_left(scene: &Scene) {
    scene.wait_until("all of it to be gone", || scene.belongings().is_empty());
}

#[test]
fn a_command_that_fails_is_a_reason_to_restart() {
    let scene = Scene::new();
    scene.write("ok", "");
    scene.config(&with_exec(
        &Service::new("a").restart("wait_for", "\"process\""),
        &["command = [\"cat\", \"ok\"]"],
    ));
    scene.check().exits(1).verdict("a", "restarted");
    let before = scene.last("a");
    let outcome = scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(outcome.service("a")["findings"], serde_json::json!([]));
    std::fs::remove_file(scene.path("ok")).unwrap();
    let outcome = scene.check().restarted_for("a", "exec_failed");
    assert_ne!(scene.last("a"), before);
    let finding = &outcome.service("a")["findings"][0];
    assert_eq!(finding["check"], "exec");
    assert_eq!(finding["id"], "exec:cat ok");
    let message = finding["message"].as_str().unwrap();
    assert_eq!(
        message,
        "`cat ok` exited with status 1: cat: ok: No such file or directory"
    );
    let why = scene.run(&["why", "a"]).exits(0).words();
    assert!(
        why.contains("exec `cat ok` has to end with status 0 within 10s"),
        "{why}"
    );
}

#[test]
fn a_missing_process_is_the_finding_and_its_commands_are_not_judged() {
    let scene = Scene::new();
    scene.config(&with_exec(
        &Service::new("a").watched(),
        &["command = [\"false\"]"],
    ));
    let outcome = scene.check().exits(2).verdict("a", "down");
    assert_eq!(outcome.codes("a"), ["process_missing"]);
}

#[test]
fn each_status_of_a_plugin_has_its_verdict() {
    let scene = Scene::new();
    scene.write(
        "plugin.sh",
        "read status <status\necho \"STATUS $status|a=1\"\nexit $status\n",
    );
    scene.config(&probed(&[
        "command = [\"sh\", \"plugin.sh\"]\nexit = \"nagios\"",
    ]));
    for (status, code, verdict, found) in [
        ("0", 0, "healthy", None),
        ("1", 1, "degraded", Some("`sh plugin.sh`: STATUS 1")),
        ("2", 2, "down", Some("`sh plugin.sh`: STATUS 2")),
        (
            "3",
            3,
            "unknown",
            Some("`sh plugin.sh`: STATUS 3 (unknown)"),
        ),
        (
            "77",
            3,
            "unknown",
            Some("`sh plugin.sh`: STATUS 77 (status 77)"),
        ),
    ] {
        scene.write("status", format!("{status}\n"));
        let outcome = scene.check().exits(code).verdict("a", verdict);
        let message = outcome.service("a")["findings"][0]["message"].clone();
        assert_eq!(message.as_str(), found);
    }
}

#[test]
fn a_dry_run_asks_as_well() {
    let scene = Scene::new();
    scene.config(&probed(&["command = [\"touch\", \"asked\"]"]));
    scene.run(&["check", "--dry-run"]).exits(0);
    assert!(scene.has("asked"));
}

#[test]
fn a_command_finds_the_environment_of_the_service() {
    let scene = Scene::new();
    scene.write("set.env", "FROM_FILE=1\nBOTH=file\n");
    scene.write(
        "look.sh",
        "env | sort >env\nls -l /proc/self/fd | sed -n 's/.* \\([0-9]*\\) -> .*/\\1/p' >fds\n\
         readlink /proc/self/fd/0 >input\npwd >here\ngrep -E '^Sig(Blk|Ign)' /proc/self/status >signals\n",
    );
    scene.config(&with_exec(
        &Service::new("a")
            .spawn("env", "{ FROM_TABLE = \"2\", BOTH = \"table\" }")
            .spawn("env_file", "\"set.env\""),
        &["command = [\"sh\", \"look.sh\"]"],
    ));
    // as careless a parent as there is
    let command =
        scene.shell_command("trap '' INT HUP; exec 7<watchdog.toml; SECRET=1 {watchdog} check");
    scene.finish(command).exits(1);
    let env = scene.read("env");
    for line in ["FROM_FILE=1", "FROM_TABLE=2", "BOTH=table"] {
        assert!(env.lines().any(|found| found == line), "{env}");
    }
    assert!(env.contains("PATH=/usr/local/sbin:"), "{env}");
    assert!(!env.contains("SECRET"), "{env}");
    // the fourth is the directory that `ls` reads
    assert_eq!(scene.read("fds"), "0\n1\n2\n3\n");
    assert_eq!(scene.read("input"), "/dev/null\n");
    assert_eq!(scene.read("here").trim(), scene.dir());
    let signals = scene.read("signals");
    assert!(
        signals
            .lines()
            .all(|line| line.ends_with("0000000000000000")),
        "{signals}"
    );
}

#[test]
#[ignore = "needs root"]
fn a_command_runs_as_its_user_and_with_no_file_of_anothers_variables() {
    let scene = Scene::new();
    std::fs::set_permissions(
        scene.path(""),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    scene.lend("out", "nobody");
    scene.write("set.env", "FROM_FILE=1\n");
    scene.write(
        "look.sh",
        "exec >out/$1; id -un; id -G; echo $HOME; echo $FROM_TABLE; echo file:$FROM_FILE\n",
    );
    scene.config(&with_exec(
        &Service::new("a")
            .restart("wait_for", "\"process\"")
            .spawn("env", "{ FROM_TABLE = \"2\" }")
            .spawn("env_file", "\"set.env\""),
        &[
            "command = [\"sh\", \"look.sh\", \"nobody\"]\nuser = \"nobody\"",
            "command = [\"true\"]\nuser = \"no-such-user\"",
        ],
    ));
    let outcome = scene.check();
    let words = |user: &str, option: &str| {
        let said = std::process::Command::new("id")
            .args([option, user])
            .output()
            .unwrap();
        String::from_utf8(said.stdout).unwrap().trim().to_owned()
    };
    let home = nix::unistd::User::from_name("nobody").unwrap().unwrap().dir;
    assert_eq!(
        scene.read("out/nobody"),
        format!(
            "nobody\n{}\n{}\n2\nfile:\n",
            words("nobody", "-G"),
            home.display()
        )
    );
    outcome.verdict("a", "restarted");
    let outcome = scene.check().verdict("a", "unknown");
    assert_eq!(
        outcome.service("a")["findings"][0]["message"],
        "`true`: no such user `no-such-user`"
    );
}

#[test]
fn what_could_not_be_run_is_unknown_and_restarts_nothing() {
    let scene = Scene::new();
    scene.write("no-program", "");
    scene.write("no-interpreter", "#!/no/such/thing\n");
    std::fs::set_permissions(
        scene.path("no-interpreter"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    for (command, part) in [
        (
            "no-such-program",
            "no such program `no-such-program` in its PATH",
        ),
        ("./no-such-program", "no such program"),
        ("./no-program", "is it executable (chmod +x)"),
        (
            "./no-interpreter",
            "its interpreter (the first line) is missing",
        ),
        (".//", "is a directory"),
    ] {
        scene.config(&with_exec(
            &Service::new("a").restart("wait_for", "\"process\""),
            &[&format!("command = [\"{command}\"]")],
        ));
        scene.run(&["restart", "a", "--force"]).exits(0);
        let before = scene.last("a");
        let outcome = scene
            .check()
            .exits(3)
            .verdict("a", "unknown")
            .finds("a", "probe_unreadable");
        let message = outcome.service("a")["findings"][0]["message"].to_string();
        assert!(message.contains(part), "{message}");
        assert_eq!(scene.last("a"), before);
    }
}

#[test]
fn nothing_is_left_of_a_command_that_does_not_end() {
    let scene = Scene::new();
    scene.write(
        "escape.sh",
        "trap '' TERM HUP INT\n\
         setsid sleep 1000 &\n\
         (setsid sh -c 'trap \"\" TERM; (sleep 1001 &) ; sleep 1002' &)\n\
         echo waiting\n[ \"$1\" ] || exec sleep 1003\n",
    );
    scene.config(&probed(&[
        "command = [\"sh\", \"escape.sh\"]\ntimeout = \"1s\"",
        // its output is held open by what it leaves behind
        "command = [\"sh\", \"escape.sh\", \"ends\"]\ntimeout = \"1m\"",
        "command = [\"yes\"]\ntimeout = \"1s\"",
        "command = [\"sh\", \"-c\", \"yes >&2 & sleep 0.3; exit 4\"]\ntimeout = \"1m\"",
    ]));
    let outcome = scene.check().exits(2).verdict("a", "down");
    let left = scene.belongings();
    let messages: Vec<String> = outcome.service("a")["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["message"].as_str().unwrap().to_owned())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(
        messages[0],
        "`sh escape.sh` did not end within 1s, and was killed: waiting"
    );
    assert_eq!(
        messages[1],
        "`yes` did not end within 1s, and was killed: y"
    );
    assert!(
        messages[2].ends_with("exited with status 4: y"),
        "{messages:?}"
    );
    assert_eq!(messages.len(), 3, "{messages:?}");
}

#[test]
fn nothing_is_left_of_a_command_when_the_watchdog_is_killed() {
    let scene = Scene::new();
    scene.write(
        "escape.sh",
        "trap '' TERM HUP INT\nsetsid sleep 1000 &\n(setsid sh -c 'sleep 1001 & sleep 1002' &)\n>begun\nsleep 1003\n",
    );
    scene.config(&probed(&[
        "command = [\"sh\", \"escape.sh\"]\ntimeout = \"10m\"",
    ]));
    // not SIGINT, which whoever runs the tests in the background ignores for all of them
    for how in [Signal::SIGKILL, Signal::SIGTERM] {
        let running = scene.begin(scene.command(&["check"]));
        scene.wait_until("the command to begin", || {
            scene.has("begun") && scene.belongings().len() >= 6
        });
        signal(running.pid(), how);
        scene.end(running);
        nothing_is_left(&scene);
        std::fs::remove_file(scene.path("begun")).unwrap();
    }
}

#[test]
fn a_command_with_too_many_processes_is_ended_with_all_of_them() {
    let scene = Scene::new();
    // 2 processes in the power of 8, and no more
    scene.write(
        "fork.sh",
        "f() { [ $1 -gt 0 ] && { f $(($1 - 1)) & f $(($1 - 1)) & }; sleep 100; }\nf 8\n",
    );
    scene.config(&probed(&[
        "command = [\"sh\", \"fork.sh\"]\ntimeout = \"1m\"",
    ]));
    let outcome = scene.check().exits(3).finds("a", "probe_unreadable");
    let left = scene.belongings();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(
        outcome.service("a")["findings"][0]["message"],
        "`sh fork.sh`: it had more than 256 processes, and was killed"
    );
}

#[test]
fn a_hundred_commands_run_a_few_at_a_time() {
    let scene = Scene::new();
    scene.write("one.sh", "echo + >>log\nsleep 0.1\necho - >>log\n");
    let mut config = String::new();
    for number in 0..100 {
        write!(
            config,
            "[service.s{number}]\n[[service.s{number}.exec]]\ncommand = [\"sh\", \"one.sh\", \"{number}\"]\n"
        )
        .unwrap();
    }
    scene.config(&config);
    scene.check().exits(0);
    let log = scene.read("log");
    let (mut now, mut most) = (0_i32, 0);
    for line in log.lines() {
        now += if line == "+" { 1 } else { -1 };
        most = most.max(now);
    }
    assert_eq!(log.lines().count(), 200);
    assert!((2..=16).contains(&most), "{most}");
}

#[test]
fn what_the_end_of_the_run_cuts_off_is_unknown() {
    let scene = Scene::new();
    let mut config = "run_timeout = \"2s\"\n".to_owned();
    for number in 0..40 {
        write!(
            config,
            "[service.s{number}]\n[[service.s{number}.exec]]\ncommand = [\"sleep\", \"100{number}\"]\ntimeout = \"1m\"\n"
        )
        .unwrap();
    }
    scene.config(&config);
    let report = scene.check().exits(3).json();
    assert!(scene.belongings().is_empty());
    let message = |service: &serde_json::Value| {
        assert_eq!(service["findings"][0]["code"], "probe_unreadable");
        service["findings"][0]["message"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let messages: Vec<String> = report["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(message)
        .collect();
    assert_eq!(messages.len(), 40);
    for part in [
        "it was not run to its end, and was killed: the time of the run was over (run_timeout 2s)",
        "it was not run: the time of the run was over (run_timeout 2s)",
    ] {
        assert!(
            messages.iter().any(|message| message.ends_with(part)),
            "{messages:?}"
        );
    }
}

#[test]
fn a_probe_is_not_taken_for_the_service() {
    let scene = Scene::new();
    scene.write("ask.sh", ">asking\nsleep 1\n");
    let service = Service::new("a")
        .watched()
        .known_by(Some("{ command_line = 'ask\\.sh the-service' }"));
    scene.config(&with_exec(
        &service,
        &["command = [\"sh\", \"ask.sh\", \"the-service\"]"],
    ));
    for _ in 0..5 {
        let outcome = scene.check().exits(2).verdict("a", "down");
        assert_eq!(outcome.codes("a"), ["process_missing"]);
    }
    assert!(scene.has("asking"));
}

#[test]
fn validate_tells_what_a_command_would_find_now() {
    let scene = Scene::new();
    scene.write("mine.sh", "");
    scene.config(&with_exec(
        &Service::new("a"),
        &[
            "command = [\"true\"]",
            "command = [\"no-such-program\"]",
            "command = [\"./mine.sh\"]",
            "command = [\"check_own\"]\nexit = \"zero\"",
            "command = [\"pg_isready\", \"-h\", \"/nonexistent\"]\nexit = \"nagios\"",
            "command = [\"grep\", \"x\", \"|\", \"wc\"]",
        ],
    ));
    let text = scene.run(&["validate"]).exits(0).words();
    for part in [
        "`true` ends well although the service does not run",
        "it could not be run: no such program `no-such-program` in its PATH",
        "mine.sh is not executable",
        "check_own looks like a Nagios plugin",
        "pg_isready is no Nagios plugin",
        "no shell reads this command: `|` is an argument like any other",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// The directory of the plugins that Debian's monitoring-plugins-basic has.
const PLUGINS: &str = "/usr/lib/nagios/plugins";

#[test]
#[ignore = "needs monitoring-plugins-basic"]
fn nagios_plugins_work_unchanged() {
    assert!(Path::new(PLUGINS).join("check_http").exists());
    let scene = Scene::new();
    let port = free_port();
    for (plugin, arguments, code, verdict, part) in [
        (
            "check_load",
            "\"-w\", \"9999\", \"-c\", \"9999\"",
            0,
            "healthy",
            "",
        ),
        (
            "check_load",
            "\"-w\", \"0,0,0\", \"-c\", \"9999\"",
            1,
            "degraded",
            "LOAD WARNING",
        ),
        (
            "check_procs",
            "\"-w\", \"1:\", \"-c\", \"1:\"",
            0,
            "healthy",
            "",
        ),
        (
            "check_procs",
            "\"-C\", \"no-such-thing\", \"-c\", \"1:\"",
            2,
            "down",
            "PROCS CRITICAL",
        ),
        (
            "check_disk",
            "\"-w\", \"0%\", \"-c\", \"0%\", \"-p\", \"/\"",
            0,
            "healthy",
            "",
        ),
        (
            "check_disk",
            "\"-w\", \"100%\", \"-c\", \"0%\", \"-p\", \"/\"",
            1,
            "degraded",
            "DISK WARNING",
        ),
        (
            "check_disk",
            "\"-w\", \"100%\", \"-c\", \"100%\", \"-p\", \"/\"",
            2,
            "down",
            "DISK CRITICAL",
        ),
        (
            "check_http",
            "\"-H\", \"127.0.0.1\", \"-p\", \"{port}\"",
            2,
            "down",
            "onnection refused",
        ),
        ("check_load", "\"--no-such-option\"", 3, "unknown", ""),
    ] {
        let arguments = arguments.replace("{port}", &port.to_string());
        scene.config(&probed(&[&format!(
            "command = [\"{PLUGINS}/{plugin}\", {arguments}]\nexit = \"nagios\""
        )]));
        let outcome = scene.check().exits(code).verdict("a", verdict);
        let service = outcome.service("a");
        let message = service["findings"][0]["message"]
            .as_str()
            .unwrap_or_default();
        assert!(message.contains(part), "{message}");
        // its figures are for machines
        assert!(!message.contains('|'), "{message}");
    }
    assert!(scene.belongings().is_empty());
}

/// Waits until a probe comes to a verdict: a server takes its time.
fn comes_to(scene: &Scene, probe: &str, verdict: &str) {
    scene.config(&probed(&[probe]));
    scene.wait_until(&format!("the verdict {verdict}"), || {
        let report = scene.check().json();
        report["services"][0]["verdict"] == verdict
    });
}

#[test]
#[ignore = "needs postgresql, redis-server"]
fn pg_isready_and_redis_cli_tell_a_server_that_is_up_down_or_frozen() {
    let scene = Scene::new();
    let bin = std::fs::read_dir("/usr/lib/postgresql").unwrap();
    let bin = bin
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .find(|bin| bin.join("postgres").exists())
        .unwrap();
    let (directory, user, prefix) = if root() {
        let directory = scene.lend("pg", "postgres");
        let prefix = "setpriv --reuid=postgres --regid=postgres --init-groups ";
        (directory, "user = \"postgres\"\n", prefix)
    } else {
        std::fs::create_dir(scene.path("pg")).unwrap();
        (scene.path("pg"), "", "")
    };
    let (bin, directory) = (bin.display(), directory.display());
    let (port, redis) = (free_port(), free_port());
    scene
        .shell(&format!(
            "cd {directory}; {prefix}{bin}/initdb -D {directory}/data -A trust --no-sync >/dev/null 2>&1\n\
             {prefix}setsid {bin}/postgres -D {directory}/data -c unix_socket_directories= -h 127.0.0.1 -p {port} >server.log 2>&1 </dev/null &\n\
             cd {{dir}}; setsid redis-server --port {redis} --save '' --dir {{dir}} >redis.log 2>&1 </dev/null &"
        ))
        .exits(0);
    let pids = |name: &str| -> Vec<i32> {
        let all = scene.belongings();
        all.iter()
            .filter(|process| process.command_line().contains(name))
            .map(|process| process.pid)
            .collect()
    };
    for (server, probe) in [
        (
            "postgres -D",
            format!(
                "command = [\"pg_isready\", \"-h\", \"127.0.0.1\", \"-p\", \"{port}\", \"-t\", \"1\"]\n{user}"
            ),
        ),
        (
            "redis-server",
            format!("command = [\"redis-cli\", \"-p\", \"{redis}\", \"ping\"]\ntimeout = \"2s\""),
        ),
    ] {
        comes_to(&scene, &probe, "healthy");
        let found = pids(server);
        for pid in &found {
            signal(*pid, Signal::SIGSTOP);
        }
        comes_to(&scene, &probe, "down");
        for pid in &found {
            signal(*pid, Signal::SIGCONT);
        }
        comes_to(&scene, &probe, "healthy");
        for pid in &found {
            signal(*pid, Signal::SIGKILL);
        }
        comes_to(&scene, &probe, "down");
    }
    nothing_is_left(&scene);
}
