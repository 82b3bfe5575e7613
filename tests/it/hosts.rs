//! Processes that only host or quote a service's command: tmux, ssh, `docker run`, `sh -c` and the like. A service whose
//! program is dead is dead whatever has its command in its arguments, and none of that is ever signalled.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::scene::{Running, Scene, Service, alive};

/// A service that is known by its command line alone.
fn by_command_line(name: &str) -> Service {
    Service::new(name).no_options().known_by(Some(&format!(
        "{{ command_line = '/bin/sh .*{{dir}}/prog\\.sh {name}( |$)' }}"
    )))
}

/// A scene with a program that waits whatever its arguments are.
fn scene_of(service: &Service) -> Scene {
    let scene = Scene::of(&[service]);
    scene.write("hold.sh", "read -r _ <>\"${0%/*}/hold\"\n");
    scene.shell("mkfifo hold").exits(0);
    scene
}

/// Starts the waiting program under a name, with arguments, placeholders filled in.
fn host(scene: &Scene, name: &str, arguments: &[&str]) -> Running {
    let mut command = Command::new("/bin/sh");
    command.arg0(name).arg(scene.path("hold.sh"));
    command
        .args(arguments.iter().map(|argument| scene.fill(argument)))
        .current_dir(scene.dir());
    begin(scene, command)
}

/// Starts a command and waits until it has its arguments.
fn begin(scene: &Scene, command: Command) -> Running {
    let running = scene.begin(command);
    let pid = running.pid();
    let me = std::fs::read("/proc/self/cmdline").unwrap();
    scene.wait_until("its exec", || {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| !line.is_empty() && line != me)
    });
    running
}

fn end(scene: &Scene, running: Running) {
    scene.kill(running.pid());
    scene.end(running);
}

#[test]
fn a_host_of_the_command_is_not_the_service_and_is_never_signalled() {
    let program = ["/bin/sh", "{dir}/prog.sh", "a"];
    for (name, before) in [
        ("tmux", &["new-session", "-d"][..]),
        ("/usr/bin/tmux", &["-L", "x", "new"]),
        ("SCREEN", &["-dmS", "bot"]),
        ("dtach", &["-n", "socket"]),
        ("ssh", &["-t", "host"]),
        ("docker", &["run", "--rm", "image"]),
        ("podman", &["exec", "container"]),
        ("kubectl", &["exec", "pod", "--"]),
        ("lxc", &["exec", "container", "--"]),
        ("watch", &["-n", "5"]),
    ] {
        let scene = scene_of(&by_command_line("a"));
        let words = host(&scene, name, &[before, &program].concat());
        let text = host(&scene, name, &[before, &[&program.join(" ")]].concat());
        scene.check().restarted_for("a", "process_missing");
        let pid = scene.last("a");
        let outcome = scene.check().exits(0).verdict("a", "healthy");
        assert_eq!(outcome.service("a")["pid"], pid, "{name}");
        // frozen, it is stopped, and by a person's word
        scene.freeze(pid);
        scene.check().restarted_for("a", "process_stopped");
        scene.run(&["restart", "a"]).exits(0);
        assert_eq!(scene.starts("a").len(), 3, "{name}");
        assert!(alive(words.pid()) && alive(text.pid()), "{name}");
        end(&scene, words);
        end(&scene, text);
    }
}

#[test]
fn what_has_the_command_in_one_argument_is_not_the_service() {
    let scene = scene_of(&by_command_line("a").watched());
    let quoting = [
        host(&scene, "su", &["-c", "exec /bin/sh {dir}/prog.sh a", "bot"]),
        host(&scene, "sh", &["-c", "/bin/sh {dir}/prog.sh a; true"]),
        host(
            &scene,
            "timeout",
            &["9", "sh", "-c", "/bin/sh {dir}/prog.sh a"],
        ),
        host(&scene, "anything", &["--run=/bin/sh {dir}/prog.sh a"]),
    ];
    let outcome = scene.check().exits(2).verdict("a", "down");
    let finding = &outcome.service("a")["findings"][0];
    assert_eq!(finding["code"], "process_missing");
    let message = finding["message"].as_str().unwrap();
    assert!(
        message.contains("does not count: it only has the command in one of its arguments: `"),
        "{message}"
    );
    for running in quoting {
        assert!(alive(running.pid()));
        end(&scene, running);
    }
}

#[test]
fn the_program_below_a_shell_is_the_service_and_the_shell_is_not() {
    let scene = scene_of(&by_command_line("a"));
    let shell = scene.begin(scene.shell_command("/bin/sh {dir}/prog.sh a; read -r _ <>{dir}/hold"));
    scene.wait_until("its start", || !scene.starts("a").is_empty());
    let first = scene.last("a");
    let outcome = scene
        .check()
        .exits(0)
        .verdict("a", "healthy")
        .lacks("a", "too_many_processes");
    assert_eq!(outcome.service("a")["pid"], first);
    scene.kill(first);
    scene.check().restarted_for("a", "process_missing");
    assert_ne!(scene.last("a"), first);
    assert!(alive(shell.pid()));
    end(&scene, shell);
}

#[test]
fn titles_files_with_blanks_in_their_names_and_wrappers_are_the_service_as_before() {
    for (name, arguments) in [
        ("bot: /bin/sh {dir}/prog.sh a", &["x y"][..]),
        // its own arguments
        ("sudo", &["-u", "bot", "/bin/sh", "{dir}/prog.sh", "a"]),
        ("timeout", &["9", "/bin/sh", "{dir}/prog.sh", "a", "b c"]),
        ("nohup", &["/bin/sh", "{dir}/prog.sh", "a"]),
        ("strace", &["-f", "/bin/sh", "{dir}/prog.sh", "a"]),
        ("flock", &["lock", "/bin/sh", "{dir}/prog.sh", "a"]),
    ] {
        let scene = scene_of(&by_command_line("a").watched());
        let title = scene.fill(name);
        let running = host(&scene, &title, arguments);
        let outcome = scene.check().exits(0).verdict("a", "healthy");
        assert_eq!(outcome.service("a")["pid"], running.pid(), "{name}");
        end(&scene, running);
    }
    let service =
        by_command_line("a").known_by(Some("{ command_line = '{dir}/my bot/main\\.py' }"));
    let scene = scene_of(&service.watched());
    std::fs::create_dir(scene.path("my bot")).unwrap();
    scene.write("my bot/main.py", "");
    for argument in ["{dir}/my bot/main.py", "../{dir}/my bot/main.py"] {
        // the second is no file, seen from where it runs
        let running = host(&scene, "python3", &[argument]);
        let outcome = scene.check();
        let is_file = !argument.starts_with("..");
        outcome.verdict("a", if is_file { "healthy" } else { "down" });
        end(&scene, running);
    }
}

#[test]
fn a_host_that_the_pattern_names_is_the_service() {
    for pattern in ["^ssh .*1:a:2", "ssh {dir}", "(^|/)ssh {dir}/hold"] {
        let service =
            by_command_line("a").known_by(Some(&format!("{{ command_line = '{pattern}' }}")));
        let scene = scene_of(&service.watched());
        let tunnel = host(&scene, "ssh", &["-N", "-L", "1:a:2", "host"]);
        let outcome = scene.check().exits(0).verdict("a", "healthy");
        assert_eq!(outcome.service("a")["pid"], tunnel.pid(), "{pattern}");
        end(&scene, tunnel);
    }
}

#[test]
fn what_it_is_started_with_is_the_service_whatever_it_is() {
    for command in [
        // the match is in one argument
        "[\"/bin/sh\", \"-c\", \"echo $$ >>{dir}/a.starts; read -r _ <>{dir}/hold; : /bin/sh {dir}/prog.sh a\"]",
        // what runs is elsewhere
        "[\"{dir}/ssh\", \"host\", \"/bin/sh {dir}/prog.sh a\"]",
    ] {
        let service = by_command_line("a").spawn("command", command);
        let scene = scene_of(&service);
        scene.write(
            "ssh",
            "#!/bin/sh\necho $$ >>\"${0%/*}/a.starts\"\nread -r _ <>\"${0%/*}/hold\"\n",
        );
        scene.shell("chmod +x {dir}/ssh").exits(0);
        scene.check().exits(1).verdict("a", "restarted");
        let first = scene.last("a");
        for _ in 0..2 {
            let outcome = scene.check().exits(0).verdict("a", "healthy");
            assert_eq!(outcome.service("a")["pid"], first, "{command}");
        }
        std::fs::remove_dir_all(scene.path("state")).unwrap();
        scene.check().exits(0).verdict("a", "healthy");
        assert_eq!(scene.starts("a"), [first], "{command}");
        scene.kill(first);
        scene.check().restarted_for("a", "process_missing");
        assert_eq!(scene.starts("a").len(), 2, "{command}");
    }
}

#[test]
fn a_pid_file_that_names_a_host_names_a_stranger() {
    let scene = scene_of(&Service::new("a"));
    let pattern_of_it = ["/bin/sh", "{dir}/prog.sh", "a"];
    let server = host(&scene, "tmux", &pattern_of_it);
    scene.write("a.pid", format!("{}\n", server.pid()));
    let outcome = scene.check().restarted_for("a", "process_missing");
    let finding = outcome.service("a")["findings"][0].to_string();
    assert!(
        finding.contains("which only hosts the command: `tmux "),
        "{finding}"
    );
    assert!(alive(server.pid()));
    end(&scene, server);
}

#[test]
fn a_wrapper_of_a_host_is_no_more_than_the_host() {
    let scene = scene_of(&by_command_line("a").watched());
    // as `sudo docker run …` runs `docker run …`
    scene.write(
        "wrap.sh",
        "shift\n(exec -a docker /bin/sh \"${0%/*}/hold.sh\" \"$@\") &\necho $! >\"${0%/*}/client\"\nwait\n",
    );
    let mut command = Command::new("/bin/bash");
    command.arg0("sudo").arg(scene.path("wrap.sh"));
    let arguments = ["docker", "run", "/bin/sh", "{dir}/prog.sh", "a"];
    command
        .args(arguments.map(|argument| scene.fill(argument)))
        .current_dir(scene.dir());
    let sudo = begin(&scene, command);
    scene.wait_until("its child", || {
        let client = scene.read("client");
        let line = std::fs::read(format!("/proc/{}/cmdline", client.trim()));
        line.is_ok_and(|line| line.starts_with(b"docker"))
    });
    let outcome = scene.check().exits(2).verdict("a", "down");
    assert_eq!(outcome.service("a")["pid"], Value::Null);
    assert!(alive(sudo.pid()));
    let client = scene.read("client").trim().parse().unwrap();
    scene.kill(client);
    scene.end(sudo);
}

#[test]
fn what_an_earlier_config_took_for_the_service_is_not_stopped_as_its_leftover() {
    let taken = "{ command_line = '^tmux .*hold' }";
    let scene = scene_of(&by_command_line("a").known_by(Some(taken)).watched());
    let server = host(&scene, "tmux", &["/bin/sh", "{dir}/prog.sh", "a"]);
    let outcome = scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(outcome.service("a")["pid"], server.pid());
    scene.config(&crate::scene::render(&[&by_command_line("a")]));
    scene.check().restarted_for("a", "process_missing");
    assert!(alive(server.pid()));
    end(&scene, server);
}

/// A server of a multiplexer, a session of the service and one of a person.
struct Multiplexer {
    command: &'static str,
    other_session: &'static str,
    ends: &'static str,
}

fn hosted_by(multiplexer: &Multiplexer) {
    let service = by_command_line("a")
        .spawn("command", multiplexer.command)
        .log("path = \"a.log\"\nmax_age = \"1h\"");
    let scene = scene_of(&service);
    scene.write("a.log", "fresh\n");
    scene.check().restarted_for("a", "process_missing");
    let first = scene.last("a");
    let outcome = scene.check().exits(0).verdict("a", "healthy");
    assert_eq!(outcome.service("a")["pid"], first);
    scene.shell(multiplexer.other_session).exits(0);
    scene.wait_until("the other session", || !scene.starts("mywork").is_empty());
    let others = scene.last("mywork");
    // the program dies, and its host lives on
    scene.kill(first);
    scene.check().restarted_for("a", "process_missing");
    let second = scene.last("a");
    assert!(alive(second) && alive(others));
    // the program hangs, and is stopped alone
    scene.age("a.log", Duration::from_hours(2));
    scene.check().restarted_for("a", "log_stale");
    assert!(!alive(second) && alive(scene.last("a")) && alive(others));
    assert_eq!(scene.starts("a").len(), 3);
    // nothing is remembered, and the host still has the command of `spawn`
    scene.kill(scene.last("a"));
    fs::remove_dir_all(scene.path("state")).unwrap();
    scene.check().restarted_for("a", "process_missing");
    assert!(alive(scene.last("a")) && alive(others));
    assert_eq!(scene.starts("a").len(), 4);
    scene.shell(multiplexer.ends);
}

#[test]
#[ignore = "needs tmux"]
fn a_program_in_tmux_dies_alone() {
    hosted_by(&Multiplexer {
        command: "[\"tmux\", \"-S\", \"{dir}/socket\", \"-f\", \"/dev/null\", \"new-session\", \"-d\", \"-s\", \"bot\", \
                  \"/bin/sh {dir}/prog.sh a\"]",
        other_session: "tmux -S {dir}/socket new-session -d -s mywork '/bin/sh {dir}/prog.sh mywork'",
        ends: "tmux -S {dir}/socket kill-server",
    });
}

#[test]
#[ignore = "needs screen"]
fn a_program_in_screen_dies_alone() {
    hosted_by(&Multiplexer {
        command: "[\"screen\", \"-dmS\", \"bot\", \"/bin/sh\", \"{dir}/prog.sh\", \"a\"]",
        other_session: "screen -dmS mywork /bin/sh {dir}/prog.sh mywork",
        ends: "true",
    });
}
