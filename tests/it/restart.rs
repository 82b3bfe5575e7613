//! Restarts: how a program is stopped, started and verified, and what it finds when it starts.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::scene::{
    Proc, Scene, Service, alive, environment, numbers, processes, render, root, status,
};

#[test]
fn f15_a_program_that_ends_at_once_with_a_failure_is_told_with_its_last_words() {
    let service = Service::new("a")
        .option("err=boom")
        .option("err_lines=25")
        .option("exit=3")
        .spawn("stderr", "\"a.err\"");
    let scene = Scene::new();
    scene.config(&format!(
        "[logging]\nfile = \"own.log\"\n{}",
        render(&[&service])
    ));
    let outcome = scene.check().exits(2).verdict("a", "restart_failed");
    let action = &outcome.service("a")["action"];
    assert_eq!(action["ok"], false);
    assert_eq!(action["kind"], "restart");
    assert_eq!(action["method"], "spawn");
    assert!(outcome.error("a").contains('3'), "{action}");
    let lines: Vec<&str> = action["stderr"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    let expected: Vec<String> = (6..=25).map(|n| format!("boom {n}")).collect();
    assert_eq!(lines, expected);
    for file in ["own.log", "state/journal.jsonl"] {
        assert!(
            scene.read(file).contains("boom 25"),
            "{file} has it as well"
        );
    }
}

#[test]
fn f15_old_words_are_not_taken_for_last_words() {
    let service = Service::new("a")
        .option("err=new")
        .option("exit=3")
        .spawn("stderr", "\"a.err\"");
    let scene = Scene::of(&[&service]);
    scene.write("a.err", "old 1\nold 2\n");
    let outcome = scene.check().exits(2);
    assert_eq!(
        outcome.service("a")["action"]["stderr"],
        serde_json::json!(["new 1"])
    );
    assert_eq!(scene.read("a.err"), "old 1\nold 2\nnew 1\n");
}

#[test]
fn f15_where_standard_error_goes_nowhere_a_hint_says_so() {
    let scene = Scene::of(&[&Service::new("a").option("exit=3")]);
    let outcome = scene.check().exits(2).verdict("a", "restart_failed");
    assert!(
        outcome.error("a").contains("stderr"),
        "{}",
        outcome.error("a")
    );
}

#[test]
fn f15_a_signal_is_named() {
    let scene = Scene::of(&[&Service::new("a").option("die=KILL")]);
    let outcome = scene.check().exits(2).verdict("a", "restart_failed");
    let error = outcome.error("a");
    assert!(error.contains("KILL") || error.contains('9'), "{error}");
}

#[test]
fn f15_up_and_gone_within_settle_is_no_success() {
    for exit in ["exit=0", "exit=5"] {
        let service = Service::new("a")
            .option("after=0.3")
            .option(exit)
            .restart("settle", "\"3s\"")
            .restart("start_timeout", "\"5s\"");
        let scene = Scene::of(&[&service]);
        scene.check().exits(2).verdict("a", "restart_failed");
        assert_eq!(scene.starts("a").len(), 1);
    }
}

#[test]
fn f15_one_that_never_comes_up_fails_and_gets_no_second_copy() {
    // it lives on, but writes no PID file
    let service = Service::new("a")
        .no_options()
        .known_by(Some("{ pid_file = \"a.pid\" }"))
        .restart("start_timeout", "\"500ms\"");
    let scene = Scene::of(&[&service]);
    scene.check().exits(2).verdict("a", "restart_failed");
    scene.check();
    scene.check();
    assert!(scene.copies("a") <= 1, "{} copies", scene.copies("a"));
}

#[test]
fn f16_a_restart_command_that_hangs_is_ended_with_its_group() {
    let service = Service::new("a")
        .watched()
        .top("description", "\"with a command\"")
        .restart("command", "[\"/bin/sh\", \"{dir}/hang.sh\"]")
        .restart("start_timeout", "\"1s\"");
    let scene = Scene::of(&[&service, &Service::new("b")]);
    scene.write(
        "hang.sh",
        "trap '' TERM\n/bin/sh ${0%/*}/prog.sh child traps=TERM &\nwait\nwhile :; do sleep 1; done\n",
    );
    scene
        .check()
        .exits(2)
        .verdict("a", "restart_failed")
        .verdict("b", "restarted");
    assert_eq!(scene.starts("child").len(), 1, "it did run");
    assert_eq!(scene.copies("child"), 0);
    let hanging = format!("{}/hang.sh", scene.dir());
    assert!(
        !processes()
            .iter()
            .any(|p| p.lives() && p.command_line().contains(&hanging))
    );
}

#[test]
fn f17_each_reason_that_a_start_fails_is_its_own_sentence() {
    let scene = Scene::new();
    scene.write("plain", "no program");
    scene.write("noshebang", "\0\0no shebang");
    scene.write("badshebang", "#!/no/such/interpreter\n");
    for name in ["noshebang", "badshebang"] {
        fs::set_permissions(scene.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::create_dir(scene.path("directory")).unwrap();
    let command = |path: &str| format!("[\"{{dir}}/{path}\"]");
    // what the sentence must name
    let cases = [
        ("missing", "command", command("nowhere"), "nowhere"),
        (
            "path",
            "command",
            "[\"no-such-program\"]".to_owned(),
            "no-such-program",
        ),
        ("mode", "command", command("plain"), "plain"),
        ("directory", "command", command("directory"), "directory"),
        ("shebang", "command", command("noshebang"), "noshebang"),
        (
            "interpreter",
            "command",
            command("badshebang"),
            "badshebang",
        ),
        (
            "user",
            "user",
            "\"no-such-user\"".to_owned(),
            "no-such-user",
        ),
        (
            "group",
            "group",
            "\"no-such-group\"".to_owned(),
            "no-such-group",
        ),
        (
            "envfile",
            "env_file",
            "\"no-such.env\"".to_owned(),
            "no-such.env",
        ),
        (
            "stdout",
            "stdout",
            "\"no-directory/out.log\"".to_owned(),
            "no-directory/out.log",
        ),
    ];
    let mut services: Vec<Service> = cases
        .iter()
        .map(|(name, key, value, _)| Service::new(name).spawn(key, value))
        .collect();
    services.push(
        Service::new("workdir")
            .top("working_dir", "\"no-such-directory\"")
            .known_by(Some("{ pid_file = \"{dir}/workdir.pid\" }")),
    );
    scene.config(&render(&services.iter().collect::<Vec<_>>()));
    let outcome = scene.check().exits(2);
    let mut sentences = BTreeSet::new();
    let named = cases.iter().map(|(name, _, _, word)| (*name, *word));
    for (name, word) in named.chain([("workdir", "no-such-directory")]) {
        let service = outcome.service(name);
        assert_eq!(service["verdict"], "restart_failed", "{name}: {service}");
        assert_eq!(service["restarts_last_hour"], 1, "{name}");
        let error = outcome.error(name);
        assert!(error.contains(word), "{name}: {error}");
        assert!(sentences.insert(error.clone()), "twice: {error}");
        assert_eq!(scene.starts(name).len(), 0, "{name}");
    }
}

#[test]
fn f18_nobody_waits_for_the_child() {
    let scene = Scene::of(&[&Service::new("a")]);
    // cat ends when the last writer of the pipe has closed it; the harness waits for both streams as well
    let outcome = scene.shell("{watchdog} check --json | cat").exits(0);
    outcome.verdict("a", "restarted");
    assert_eq!(scene.copies("a"), 1);
}

#[test]
fn f19_a_child_that_prints_lives_on() {
    let scene = Scene::of(&[&Service::new("a").option("print=1")]);
    scene.check().exits(1).verdict("a", "restarted");
    let beats = || scene.read("a.beats").lines().count();
    let seen = beats();
    scene.wait_until("further lines", || beats() > seen + 3);
    assert!(alive(scene.last("a")));
}

#[test]
fn f20_the_child_has_neither_the_lock_nor_any_other_descriptor() {
    let service = Service::new("a")
        .option("facts=1")
        .spawn("stdout", "\"a.out\"");
    let scene = Scene::of(&[&service]);
    scene.write("leak", "");
    let outcome = scene
        .shell("exec 7>>{dir}/leak 8<&0 9>&1; exec 6<{dir}/leak; exec {watchdog} check --json");
    outcome.exits(1).verdict("a", "restarted");
    scene.check().exits(0);
    let pid = scene.last("a");
    let open: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .map(|target| target.display().to_string())
        .collect();
    let ours = ["/dev/null", "a.out", "prog.sh", "a.fifo"];
    for target in &open {
        assert!(
            ours.iter().any(|end| target.ends_with(end)),
            "{target} in {open:?}"
        );
    }
    let at_start = scene.read("a.fds");
    let input = at_start.lines().find(|line| line.contains(" 0 -> "));
    assert!(
        input.is_some_and(|line| line.ends_with("/dev/null")),
        "{at_start}"
    );
    for line in at_start.lines().filter(|line| line.contains(" -> ")) {
        assert!(
            !line.contains("leak") && !line.contains("pipe:") && !line.contains("socket:"),
            "{at_start}"
        );
        assert!(!line.contains("state/"), "{at_start}");
    }
}

#[test]
fn the_last_words_of_a_failed_start_are_no_sign_of_life() {
    let scene = Scene::new();
    scene.config(
        "[service.a]\nspawn = { command = [\"/bin/sh\", \"-c\", \"echo no >&2; exit 1\"], stderr = \"a.log\" }\n\
         restart = { settle = \"100ms\", max_per_hour = 2 }\n[[service.a.log]]\npath = \"a.log\"\nmax_age = \"1h\"\n",
    );
    scene.check().exits(2).verdict("a", "restart_failed");
    let second = scene.check().exits(2).verdict("a", "restart_failed");
    second.finds("a", "process_missing");
    scene.check().exits(2).verdict("a", "exhausted");
}

#[test]
fn two_services_of_the_same_command_are_two_programs() {
    let scene = Scene::new();
    let spawn = "spawn = { command = [\"/bin/sh\", \"{dir}/prog.sh\", \"twin\"] }\nrestart = { settle = \"200ms\" }";
    scene.config(&format!("[service.one]\n{spawn}\n[service.two]\n{spawn}\n"));
    scene
        .check()
        .exits(1)
        .verdict("one", "restarted")
        .verdict("two", "restarted");
    assert_eq!(scene.copies("twin"), 2);
    let outcome = scene.check().exits(0);
    let pid = |name| outcome.service(name)["pid"].as_i64().unwrap();
    assert_ne!(pid("one"), pid("two"));
    // the death of one is not hidden by the other
    scene.kill(i32::try_from(pid("one")).unwrap());
    scene
        .check()
        .exits(1)
        .verdict("one", "restarted")
        .verdict("two", "healthy");
    assert_eq!(scene.copies("twin"), 2);
}

#[test]
fn f22_the_childs_environment_is_the_same_from_everywhere() {
    let service = Service::new("a").spawn("env", "{ MODE = \"live\" }");
    let scene = Scene::of(&[&service]);
    let outcome = scene.shell("exec env -i {watchdog} check --json");
    outcome.exits(1).verdict("a", "restarted");
    let poor = environment(scene.last("a"));
    scene.kill(scene.last("a"));
    let outcome = scene.shell(
        "exec env LANG=tlh_KX.UTF-8 HOME=/nowhere USER=somebody LOGNAME=somebody SHELL=/bin/false PATH={dir}:/bin \
         MAILTO=x FOO=bar NOTIFY_SOCKET=/x JOURNAL_STREAM=1:2 INVOCATION_ID=abc WATCHDOG_CONFIG=/x LC_ALL=C \
         {watchdog} check --json",
    );
    outcome.exits(1).verdict("a", "restarted");
    assert_eq!(poor, environment(scene.last("a")));
    // the machine may have a language set
    let names: Vec<&str> = poor
        .keys()
        .map(String::as_str)
        .filter(|name| *name != "LANG")
        .collect();
    assert_eq!(names, ["HOME", "LOGNAME", "MODE", "PATH", "SHELL", "USER"]);
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid())
        .unwrap()
        .unwrap();
    assert_eq!(poor["USER"], user.name);
    assert_eq!(poor["LOGNAME"], user.name);
    assert_eq!(poor["HOME"], user.dir.to_str().unwrap());
    assert_eq!(poor["MODE"], "live");
    let path: Vec<&str> = poor["PATH"].split(':').collect();
    assert!(
        path.contains(&"/usr/bin") && path.contains(&"/bin"),
        "{path:?}"
    );
}

#[test]
fn an_env_file_is_read_as_a_shell_would_and_env_wins() {
    let service = Service::new("a")
        .spawn("env", "{ BOTH = \"env\", TZ = \"UTC\" }")
        .spawn("env_file", "\"a.env\"");
    let scene = Scene::of(&[&service]);
    scene.write(
        "a.env",
        "# a comment\n\nPLAIN=one\nDOUBLE=\"two words\"\nSINGLE='three # words'\nBOTH=file\nEMPTY=\n  SPACED=four\nEQUALS=a=b\nHOME=/elsewhere\n",
    );
    scene.check().exits(1).verdict("a", "restarted");
    let found = environment(scene.last("a"));
    for (name, value) in [
        ("PLAIN", "one"),
        ("DOUBLE", "two words"),
        ("SINGLE", "three # words"),
        ("BOTH", "env"),
        ("EMPTY", ""),
        ("SPACED", "four"),
        ("EQUALS", "a=b"),
        ("HOME", "/elsewhere"),
        ("TZ", "UTC"),
    ] {
        assert_eq!(found.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[test]
fn f24_the_child_starts_with_no_signal_ignored_or_blocked() {
    let service = Service::new("a");
    let scene = Scene::of(&[&service]);
    let outcome =
        scene.shell("trap '' HUP PIPE CHLD INT QUIT TERM USR1; exec {watchdog} check --json");
    outcome.exits(1).verdict("a", "restarted");
    let pid = scene.last("a");
    // 32 and 33 are the C library's own, and posix_spawn leaves them ignored
    let internal = 0b11_u64 << 31;
    for name in ["SigIgn", "SigBlk"] {
        let set = u64::from_str_radix(&status(pid, name), 16).unwrap();
        assert_eq!(set & !internal, 0, "{name}: {set:x}");
    }
}

#[test]
fn f24_a_restart_command_works_where_children_are_ignored() {
    let service = Service::new("a").watched().restart(
        "command",
        "[\"/bin/sh\", \"{dir}/prog.sh\", \"a\", \"fork=1\", \"pid_file=a.pid\"]",
    );
    let scene = Scene::of(&[&service]);
    let outcome = scene.shell("trap '' CHLD; exec {watchdog} check --json");
    outcome.exits(1).verdict("a", "restarted");
}

#[test]
fn the_child_leads_a_session_of_its_own() {
    let scene = Scene::of(&[&Service::new("a")]);
    scene.check().exits(1).verdict("a", "restarted");
    let process = Proc::of(scene.last("a")).unwrap();
    assert_eq!(process.session, process.pid);
    assert_eq!(process.group, process.pid);
    assert_eq!(process.terminal, 0);
}

#[test]
fn umask_nice_and_working_directory_are_set() {
    let scene = Scene::new();
    fs::create_dir(scene.path("work")).unwrap();
    // no less nice than the tests are: only root could go back
    let own = Proc::of(i32::try_from(std::process::id()).unwrap()).unwrap();
    let nice = (own.nice + 7).min(19);
    let service = Service::new("a")
        .top("working_dir", "\"work\"")
        .known_by(Some("{ command_line = '{dir}/prog\\.sh a( |$)' }"))
        .spawn("umask", "\"027\"")
        .spawn("nice", &nice.to_string())
        .spawn("stdout", "\"a.out\"")
        .option("err=x");
    scene.config(&render(&[&service]));
    scene.check().exits(1).verdict("a", "restarted");
    let pid = scene.last("a");
    assert_eq!(status(pid, "Umask"), "0027");
    assert_eq!(Proc::of(pid).unwrap().nice, nice);
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/cwd")).unwrap(),
        scene.path("work")
    );
    assert!(scene.has("work/a.out"), "relative to the working directory");
}

/// A service whose restart command tells its niceness, umask and signals, and starts nothing.
fn telling_command() -> Scene {
    let service = Service::new("a")
        .watched()
        .restart("command", "[\"/bin/sh\", \"{dir}/tell.sh\"]")
        .restart("start_timeout", "\"300ms\"");
    let scene = Scene::of(&[&service]);
    let script = "cut -d' ' -f19 /proc/self/stat >{dir}/nice; cat /proc/self/status >{dir}/status";
    scene.write("tell.sh", scene.fill(script));
    scene
}

#[test]
fn a_restart_command_gets_a_umask_and_signals_of_its_own() {
    let scene = telling_command();
    scene
        .shell("umask 077; trap '' HUP PIPE INT USR1; exec {watchdog} check --json")
        .verdict("a", "restart_failed");
    let told = scene.read("status");
    for (name, value) in [
        ("Umask", "0022"),
        ("SigIgn", "0000000000000000"),
        ("SigBlk", "0000000000000000"),
    ] {
        let line = format!("{name}:\t{value}");
        assert!(told.lines().any(|told| told == line), "{line}: {told}");
    }
}

#[test]
fn a_childs_niceness_is_not_the_watchdogs() {
    let own = Proc::of(i32::try_from(std::process::id()).unwrap())
        .unwrap()
        .nice;
    let nicer = (own + 10).min(19);
    let scene = Scene::of(&[&Service::new("a")]);
    let commanded = telling_command();
    let nice = |scene: &Scene| scene.read("nice").trim().parse::<i32>().unwrap();
    if root() {
        scene
            .shell("exec nice -n 10 {watchdog} check --json")
            .verdict("a", "restarted");
        assert_eq!(Proc::of(scene.last("a")).unwrap().nice, 0);
        commanded.shell("exec nice -n 10 {watchdog} check --json");
        assert_eq!(nice(&commanded), 0);
        scene.kill(scene.last("a"));
    }
    // without the privilege to lower it, it stays, and that is no trouble
    let drop = if root() {
        "setpriv --bounding-set=-sys_nice --inh-caps=-sys_nice "
    } else {
        ""
    };
    let script = format!("exec {drop}nice -n 10 {{watchdog}} -vv check --json");
    let outcome = scene.shell(&script).verdict("a", "restarted");
    assert_eq!(Proc::of(scene.last("a")).unwrap().nice, nicer);
    let expected = format!("a: its niceness stays at {nicer}: to lower it to 0 takes CAP_SYS_NICE");
    assert!(outcome.text().contains(&expected), "{}", outcome.text());
    let outcome = commanded.shell(&script);
    assert!(outcome.text().contains(&expected), "{}", outcome.text());
    assert_eq!(nice(&commanded), nicer);
}

#[test]
fn arguments_arrive_as_they_stand() {
    let service = Service::new("a")
        .option("")
        .option("two words")
        .option("$HOME * ~ %d `id` 'x'")
        .option("\u{e4}");
    let scene = Scene::of(&[&service]);
    scene.check().exits(1).verdict("a", "restarted");
    let bytes = fs::read(format!("/proc/{}/cmdline", scene.last("a"))).unwrap();
    let arguments: Vec<String> = bytes
        .split(|&b| b == 0)
        .skip(3)
        .map(|argument| String::from_utf8(argument.to_vec()).unwrap())
        .collect();
    assert_eq!(
        arguments,
        [
            "pid_file=a.pid",
            "",
            "two words",
            "$HOME * ~ %d `id` 'x'",
            "\u{e4}",
            ""
        ]
    );
}

#[test]
fn output_is_appended_to_its_files() {
    let service = Service::new("a")
        .option("print=1")
        .option("line=hello")
        .spawn("stdout", "\"a.out\"")
        .spawn("stderr", "\"a.err\"");
    let scene = Scene::of(&[&service]);
    scene.write("a.out", "before\n");
    scene.write("a.err", "before\n");
    scene.check().exits(1).verdict("a", "restarted");
    for name in ["a.out", "a.err"] {
        scene.wait_until("output", || scene.read(name).lines().count() > 2);
        assert!(scene.read(name).starts_with("before\nhello\n"), "{name}");
    }
}

#[test]
fn a_pid_file_is_written_for_a_program_that_writes_none() {
    let service = Service::new("a")
        .no_options()
        .known_by(Some("{ pid_file = \"a.pid\" }"))
        .spawn("write_pid_file", "true");
    let scene = Scene::of(&[&service]);
    scene.check().exits(1).verdict("a", "restarted");
    assert_eq!(numbers(&scene.read("a.pid")), [scene.last("a")]);
    scene.check().exits(0).verdict("a", "healthy");
}

#[test]
fn a_stale_pid_file_is_removed_before_the_start() {
    // this program would not start beside a PID file, as many do not
    let service = Service::new("a").spawn(
        "command",
        "[\"/bin/sh\", \"-c\", \"[ -e {dir}/a.pid ] && exit 1; exec /bin/sh {dir}/prog.sh a pid_file=a.pid\"]",
    );
    let scene = Scene::of(&[&service]);
    let dead = scene.start("gone", &[]);
    scene.kill_and_reap(dead);
    scene.write("a.pid", format!("{dead}\n"));
    scene.check().exits(1).verdict("a", "restarted");
}

#[test]
fn f25_workers_go_with_their_parent() {
    let scene = Scene::of(&[&Service::new("a").option("workers=3")]);
    scene.check().exits(1).verdict("a", "restarted");
    let old = scene.last("a");
    let workers = numbers(&scene.read("a.workers"));
    assert_eq!(workers.len(), 3);
    scene.freeze(old);
    scene.check().exits(1).verdict("a", "restarted");
    for pid in workers.into_iter().chain([old]) {
        assert!(!alive(pid), "{pid}");
    }
    assert_eq!(scene.copies("a"), 1);
}

#[test]
#[ignore = "needs python3"]
fn f25_the_port_of_a_grandchild_is_free_again() {
    let service = Service::new("a")
        .known_by(Some("{ pid_file = \"a.pid\" }"))
        .spawn("stderr", "\"a.err\"")
        .spawn("command", "[\"python3\", \"{dir}/server.py\"]");
    let scene = Scene::of(&[&service]);
    let port = crate::scene::free_port();
    scene.write(
        "server.py",
        format!(
            "import os, socket, time
server = socket.socket()
server.bind(('127.0.0.1', {port}))
server.listen()
if os.fork():
    server.close()
    with open('a.pid', 'w') as f:
        f.write(str(os.getpid()))
    with open('a.starts', 'a') as f:
        f.write(str(os.getpid()) + '\\n')
while True:
    time.sleep(600)
"
        ),
    );
    scene.check().exits(1).verdict("a", "restarted");
    scene.freeze(scene.last("a"));
    scene.check().exits(1).verdict("a", "restarted");
    assert_eq!(scene.starts("a").len(), 2);
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
}

#[test]
#[ignore = "needs root"]
fn f26_user_and_groups_are_the_users_own() {
    let service = Service::new("a")
        .known_by(Some("{ pid_file = \"lent/a.pid\" }"))
        .spawn("user", "\"nobody\"")
        .spawn(
            "command",
            "[\"/bin/sh\", \"{dir}/lent/prog.sh\", \"a\", \"pid_file=a.pid\"]",
        );
    let scene = Scene::of(&[&service]);
    let user = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    scene.lend("lent", "nobody");
    // supplementary groups that must not be handed on
    let outcome = scene.shell("exec setpriv --groups 4,27 {watchdog} check --json");
    outcome.exits(1).verdict("a", "restarted");
    let pid = numbers(&scene.read("lent/a.pid"))[0];
    let four = |id: u32| vec![id.to_string(); 4].join(" ");
    assert_eq!(status(pid, "Uid"), four(user.uid.as_raw()));
    assert_eq!(status(pid, "Gid"), four(user.gid.as_raw()));
    let groups = status(pid, "Groups");
    assert!(
        !groups.split(' ').any(|g| ["0", "4", "27"].contains(&g)),
        "{groups}"
    );
    let environment = environment(pid);
    assert_eq!(environment["USER"], "nobody");
    assert_eq!(environment["HOME"], user.dir.to_str().unwrap());
}

#[test]
#[ignore = "needs root"]
fn f26_a_group_of_its_own_may_be_given() {
    let service = Service::new("a")
        .known_by(Some("{ pid_file = \"lent/a.pid\" }"))
        .spawn("user", "65534")
        .spawn("group", "\"daemon\"")
        .spawn(
            "command",
            "[\"/bin/sh\", \"{dir}/lent/prog.sh\", \"a\", \"pid_file=a.pid\"]",
        );
    let scene = Scene::of(&[&service]);
    scene.lend("lent", "nobody");
    scene.check().exits(1).verdict("a", "restarted");
    let pid = numbers(&scene.read("lent/a.pid"))[0];
    assert_eq!(status(pid, "Uid"), "65534 65534 65534 65534");
    assert_eq!(status(pid, "Gid"), "1 1 1 1");
}

#[test]
fn f26_without_root_no_other_user_can_be_had() {
    if root() {
        return; // root can
    }
    let scene = Scene::of(&[&Service::new("a").spawn("user", "\"root\"")]);
    let outcome = scene.check().exits(2).verdict("a", "restart_failed");
    assert!(
        outcome.error("a").contains("root"),
        "{}",
        outcome.error("a")
    );
    assert_eq!(scene.starts("a").len(), 0);
}

#[test]
fn a_program_that_ignores_the_stop_signal_is_killed() {
    let service = Service::new("a")
        .option("traps=TERM")
        .option("workers=1")
        .restart("stop_timeout", "\"300ms\"");
    let scene = Scene::of(&[&service]);
    scene.check().exits(1).verdict("a", "restarted");
    let old = scene.last("a");
    scene.run(&["restart", "a"]).exits(0);
    assert!(scene.read("a.signals").starts_with("TERM\n"));
    assert!(!alive(old));
    assert_eq!(scene.starts("a").len(), 2);
    assert_eq!(scene.copies("a"), 1);
}

#[test]
fn another_stop_signal_may_be_given() {
    for name in ["USR1", "SIGINT"] {
        let short = name.trim_start_matches("SIG");
        let service = Service::new("a")
            .option("traps=TERM")
            .option(&format!("exits={short}"))
            .restart("stop_signal", &format!("\"{name}\""));
        let scene = Scene::of(&[&service]);
        scene.check().exits(1).verdict("a", "restarted");
        scene.run(&["restart", "a"]).exits(0);
        assert_eq!(scene.read("a.signals"), format!("{short}\n"));
        assert_eq!(scene.copies("a"), 1);
    }
}

#[test]
fn a_restart_by_hand_replaces_a_healthy_program() {
    let scene = Scene::of(&[&Service::new("a")]);
    scene.check().exits(1);
    let old = scene.last("a");
    scene.run(&["restart", "a"]).exits(0);
    assert!(!alive(old));
    assert_eq!(scene.starts("a").len(), 2);
    let outcome = scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(outcome.service("a")["restarts_last_hour"], 2);
    assert_eq!(scene.copies("a"), 1);
}

#[test]
fn a_restart_by_hand_keeps_to_the_budget_unless_forced() {
    let scene = Scene::of(&[&Service::new("a").restart("max_per_hour", "1")]);
    scene.check().exits(1);
    let old = scene.last("a");
    scene.run(&["restart", "a"]).exits(1);
    assert!(alive(old));
    scene.run(&["restart", "a", "--force"]).exits(0);
    assert!(!alive(old));
    assert_eq!(scene.starts("a").len(), 2);
}

#[test]
fn what_is_never_restarted_is_restarted_by_hand_only_where_it_is_forced() {
    let scene = Scene::of(&[&Service::new("a")]);
    scene.check().exits(1);
    let old = scene.last("a");
    scene.config(&render(&[&Service::new("a").restart("max_per_hour", "0")]));
    let refused = scene.run(&["restart", "a"]).exits(1);
    assert!(
        refused.stderr.contains("max_per_hour = 0") && refused.stderr.contains("--force"),
        "{}",
        refused.stderr
    );
    assert!(alive(old));
    scene.run(&["restart", "a", "--force"]).exits(0);
    assert!(!alive(old));
    assert_eq!(scene.copies("a"), 1);
}

#[test]
fn a_restart_by_hand_that_fails_says_so() {
    let scene = Scene::of(&[&Service::new("a").option("exit=4")]);
    let outcome = scene.run(&["restart", "a"]).exits(1);
    assert!(outcome.text().contains('4'));
}

#[test]
fn a_restart_command_is_run_to_its_end_and_verified() {
    let service = Service::new("a").watched().restart(
        "command",
        "[\"/bin/sh\", \"{dir}/prog.sh\", \"a\", \"fork=1\", \"pid_file=a.pid\"]",
    );
    let scene = Scene::of(&[&service]);
    let outcome = scene.check().exits(1).verdict("a", "restarted");
    assert_eq!(outcome.service("a")["action"]["method"], "command");
    scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(scene.copies("a"), 1);
    // what is stopped before it is run is recorded
    let old = scene.last("a");
    scene.freeze(old);
    let outcome = scene.check().restarted_for("a", "process_stopped");
    let action = outcome.service("a")["action"].clone();
    let record = fs::read_to_string(action["evidence"].as_str().unwrap()).unwrap();
    assert!(record.contains(&format!("\nPID {old} (")), "{record}");
}

#[test]
fn a_restart_command_that_fails_is_told_with_its_output() {
    let service = Service::new("a").watched().restart(
        "command",
        "[\"/bin/sh\", \"-c\", \"echo spoken; echo cried >&2; exit 4\"]",
    );
    let scene = Scene::of(&[&service]);
    let outcome = scene.check().exits(2).verdict("a", "restart_failed");
    assert!(outcome.error("a").contains('4'));
    for word in ["spoken", "cried"] {
        assert!(outcome.text().contains(word), "{word}");
    }
}

#[test]
fn a_restart_command_that_starts_nothing_is_no_success() {
    let service = Service::new("a")
        .watched()
        .restart("command", "[\"/bin/true\"]")
        .restart("start_timeout", "\"500ms\"");
    let scene = Scene::of(&[&service]);
    scene.check().exits(2).verdict("a", "restart_failed");
}

#[test]
fn f18_a_restart_commands_daemon_keeps_nobody_waiting() {
    // its daemon keeps the output that the command was given
    let service = Service::new("a").watched().restart(
        "command",
        "[\"/bin/sh\", \"{dir}/prog.sh\", \"a\", \"fork=1\", \"print=1\", \"pid_file=a.pid\"]",
    );
    let scene = Scene::of(&[&service]);
    let outcome = scene.shell("{watchdog} check --json | cat");
    outcome.verdict("a", "restarted");
    let beats = || scene.read("a.beats").lines().count();
    let seen = beats();
    scene.wait_until("further lines", || beats() > seen + 3);
    scene.check().exits(0);
}

#[test]
fn the_output_of_a_restart_commands_daemon_is_bounded_and_in_order() {
    let service = Service::new("a").watched().restart(
        "command",
        "[\"/bin/sh\", \"{dir}/prog.sh\", \"a\", \"fork=1\", \"print=1\", \"pid_file=a.pid\"]",
    );
    let scene = Scene::of(&[&service]);
    scene.check().exits(1).verdict("a", "restarted");
    let size = || scene.path("state/a.out").metadata().unwrap().len();
    // as if the daemon had written it
    scene.append("state/a.out", "x".repeat(2 << 20));
    scene.check().exits(0);
    assert!(size() < 1 << 20, "{}", size());
    scene.wait_until("further output", || size() > 0);
    assert!(
        !scene.read("state/a.out").contains('\0'),
        "no hole before it"
    );
    assert!(size() < 1 << 20, "{}", size());
    // a second name may be that of another file
    scene.append("state/a.out", "x".repeat(2 << 20));
    fs::hard_link(scene.path("state/a.out"), scene.path("other")).unwrap();
    let outcome = scene.check().exits(0);
    assert!(
        outcome
            .stderr
            .contains("a.out cannot be emptied: it has another name"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_program_that_daemonises_is_found_by_its_pid_file() {
    let service = Service::new("a")
        .known_by(Some("{ pid_file = \"a.pid\" }"))
        .option("fork=1")
        .option("delay=0.3");
    let scene = Scene::of(&[&service]);
    let outcome = scene.check().exits(1).verdict("a", "restarted");
    let pid = scene.last("a");
    assert_eq!(outcome.service("a")["action"]["new_pid"], pid);
    assert_eq!(scene.check().exits(0).service("a")["pid"], pid);
    scene.freeze(pid);
    scene.check().exits(1).verdict("a", "restarted");
    assert!(!alive(pid));
    assert_eq!(scene.copies("a"), 1);
}

#[test]
fn a_program_that_daemonises_is_found_by_its_command_line() {
    let service = Service::new("a")
        .no_options()
        .option("fork=1")
        .known_by(Some("{ command_line = '{dir}/prog\\.sh a( |$)' }"));
    let scene = Scene::of(&[&service]);
    scene.check().exits(1).verdict("a", "restarted");
    scene.check().exits(0).verdict("a", "healthy");
    scene.kill(scene.last("a"));
    scene.check().exits(1).verdict("a", "restarted");
    assert_eq!(scene.starts("a").len(), 2);
    assert_eq!(scene.copies("a"), 1);
}

#[test]
fn f32_slow_stops_go_side_by_side() {
    let names = ["s1", "s2", "s3", "s4", "s5", "s6"];
    let services: Vec<Service> = names
        .iter()
        .map(|name| {
            Service::new(name)
                .restart("stop_timeout", "\"3s\"")
                .log("path = \"quiet.log\"\nexpect = ['never there']")
        })
        .collect();
    let scene = Scene::of(&services.iter().collect::<Vec<_>>());
    scene.write("quiet.log", "quiet\n");
    let old: Vec<i32> = names
        .iter()
        .map(|name| scene.start(name, &[&format!("pid_file={name}.pid"), "traps=TERM"]))
        .collect();
    let run = scene.begin(scene.command(&["check", "--json"]));
    // one after the other, the first would be killed before the last is told to stop
    scene.wait_until("all to be told to stop", || {
        let all_live = old.iter().all(|pid| alive(*pid));
        let all_told = names
            .iter()
            .all(|name| scene.read(&format!("{name}.signals")).contains("TERM"));
        assert!(all_told || all_live, "one was ended before all were told");
        all_told
    });
    scene.end(run).exits(1);
    for name in names {
        assert_eq!(scene.starts(name).len(), 2, "{name}");
        assert_eq!(scene.copies(name), 1, "{name}");
    }
}

#[test]
fn f33_an_attempt_is_on_disk_before_the_first_signal() {
    let service = Service::new("a")
        .option("traps=TERM")
        .restart("stop_timeout", "\"30s\"")
        .log("path = \"a.log\"\nexpect = ['never there']");
    let scene = Scene::of(&[&service]);
    scene.write("a.log", "quiet\n");
    let pid = scene.start("a", &["pid_file=a.pid", "traps=TERM"]);
    let run = scene.begin(scene.command(&["check", "--json"]));
    scene.wait_until("the signal", || scene.read("a.signals").contains("TERM"));
    let attempts = |state: &Value| {
        state["services"]["a"]["attempts"]
            .as_array()
            .map_or(0, Vec::len)
    };
    let on_disk = attempts(&scene.state());
    scene.kill(run.pid());
    scene.end(run);
    assert_eq!(on_disk, 1);
    // killed half-way: the next run neither forgets the attempt nor starts a second copy
    scene.kill(pid);
    let outcome = scene.check();
    assert_eq!(outcome.service("a")["restarts_last_hour"], 2);
    assert_eq!(attempts(&scene.state()), 2);
    assert_eq!(scene.starts("a").len(), 2);
    assert_eq!(scene.copies("a"), 1);
}

#[test]
fn f34_closed_streams_and_an_empty_environment_change_nothing() {
    for script in [
        "exec {watchdog} check <&- >&- 2>&-",
        "exec {watchdog} check --json <&- >&- 2>&-",
        "exec env -i {watchdog} check",
        "exec {watchdog} check >/dev/full 2>/dev/full",
        "cd /; exec env -u HOME -u PATH {watchdog} check -v",
    ] {
        let scene = Scene::of(&[&Service::new("a")]);
        let outcome = scene.shell(script).exits(1);
        assert!(!outcome.stderr.contains("panick"), "{script}");
        assert_eq!(scene.copies("a"), 1, "{script}");
        let at_start = fs::read_link(format!("/proc/{}/fd/1", scene.last("a"))).unwrap();
        assert_eq!(at_start.to_str(), Some("/dev/null"), "{script}");
        scene.shell(script).exits(0);
        assert_eq!(scene.starts("a").len(), 1, "{script}");
    }
}
