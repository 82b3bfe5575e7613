//! What is said by runs that cannot begin, or were cut short, or cannot rely on what is remembered.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::Golden;
use crate::scene::{MAIL, Scene};

const QUIET: &str = "[service.a]\n[[service.a.log]]\npath = \"prog.sh\"\n";

#[test]
fn states_that_cannot_be_used() {
    let mut golden = Golden::new("states_unusable");
    let scene = Scene::with(QUIET);
    fs::create_dir(scene.path("state")).unwrap();
    fs::set_permissions(scene.path("state"), fs::Permissions::from_mode(0o777)).unwrap();
    golden.title("a directory that all can write");
    golden.run(&scene, &["check"]);
    golden.run(&scene, &["pause", "a"]);
    golden.run(&scene, &["reset", "a"]);
    let scene = Scene::with(QUIET);
    scene.write("state", "");
    golden.title("a file in its place");
    golden.run(&scene, &["check"]);
    golden.run(&scene, &["status"]);
    let scene = Scene::with(QUIET);
    fs::create_dir_all(scene.path("state/lock")).unwrap();
    fs::set_permissions(scene.path("state"), fs::Permissions::from_mode(0o700)).unwrap();
    golden.title("a directory for a lock");
    golden.run(&scene, &["check"]);
    let scene = Scene::new();
    scene.raw_config(&format!("state_dir = \"prog.sh/a/state\"\n{QUIET}"));
    golden.title("below a file");
    golden.run(&scene, &["check"]);

    let scene = Scene::with(QUIET);
    scene.run(&["check"]).exits(0);
    golden.title("another run has the lock");
    golden.command(
        &scene,
        "flock state/lock watchdog check",
        scene.shell_command("exec flock {dir}/state/lock {watchdog} check"),
    );
    golden.title("a journal with a damaged line");
    scene.append("state/journal.jsonl", "no JSON\n");
    golden.run(&scene, &["history"]);
    golden.title("a directory for a journal");
    fs::remove_file(scene.path("state/journal.jsonl")).unwrap();
    fs::create_dir(scene.path("state/journal.jsonl")).unwrap();
    golden.run(&scene, &["history"]);
    golden.run(&scene, &["why", "a"]);
    golden.compare();
}

#[test]
fn a_state_that_cannot_be_written_is_mailed() {
    let mut golden = Golden::new("state_unwritable_mail");
    let scene = Scene::new();
    scene.write("blocker", "");
    scene.raw_config(&format!(
        "state_dir = \"blocker/state\"\n{MAIL}[service.a]\nprocess = {{ pid_file = \"a.pid\" }}\n"
    ));
    golden.run(&scene, &["check"]);
    golden.mails(&scene);
    golden.title("soon after");
    golden.run(&scene, &["-v", "check"]);
    assert!(scene.mails().is_empty(), "the same is mailed once");
    golden.title("where it cannot be noted that a mail was sent");
    let mut command = scene.command(&["-v", "check"]);
    command.env("TMPDIR", scene.path("nowhere"));
    golden.replace_pattern(r"/watchdog-[0-9a-z-]+\.told", "/{note}");
    golden.command(&scene, "TMPDIR=nowhere watchdog -v check", command);
    golden.compare();
}

#[test]
fn a_damaged_state() {
    let mut golden = Golden::new("state_damaged");
    let config = format!(
        "{MAIL}[service.a]\nprocess = {{ pid_file = \"a.pid\" }}\nrestart = {{ command = [\"true\"] }}\n"
    );
    let scene = Scene::with(&config);
    scene.run(&["pause", "a"]).exits(0);
    scene.run(&["resume", "a"]).exits(0);
    scene.write("state/state.json", "{");
    golden.title("and its backup is good");
    golden.run(&scene, &["check", "--dry-run"]);
    scene.write("state/state.json.bak", "{");
    golden.title("and its backup too");
    golden.run(&scene, &["status"]);
    golden.run(&scene, &["check"]);
    golden.mails(&scene);
    golden.run(&scene, &["history"]);
    golden.compare();
}

#[test]
fn states_and_what_became_of_them() {
    let mut golden = Golden::new("states_set_aside");
    for (what, text) in [
        ("empty", ""),
        ("cut off", "{"),
        ("of a newer watchdog", "{\"version\":99}"),
        ("of no version", "{\"version\":0}"),
    ] {
        let scene = Scene::with(QUIET);
        scene.run(&["check"]).exits(0);
        scene.run(&["check"]).exits(0);
        scene.write("state/state.json", text);
        golden.title(what);
        golden.run(&scene, &["check"]);
    }
    let scene = Scene::with(QUIET);
    scene.run(&["check"]).exits(0);
    fs::rename(scene.path("state/state.json"), scene.path("state/other")).unwrap();
    std::os::unix::fs::symlink("other", scene.path("state/state.json")).unwrap();
    golden.title("a symbolic link");
    golden.run(&scene, &["check"]);
    golden.compare();
}

#[test]
fn a_run_that_is_cut_short() {
    let mut golden = Golden::new("cut_short");
    let service = "[service.a]\nprocess = { pid_file = \"a.pid\" }\n\
         spawn = { command = [\"sleep\", \"1000\"] }\nrestart = { start_timeout = \"30s\" }\n";
    let scene = Scene::with(&format!("run_timeout = \"1s\"\n{MAIL}{service}"));
    golden.title("the run that ends too soon");
    golden.run(&scene, &["check"]);
    golden.title("the next");
    scene.config(&format!("{MAIL}{}", service.replace("30s", "300ms")));
    golden.run(&scene, &["check"]);
    golden.mails(&scene);
    golden.run(&scene, &["history"]);
    golden.compare();
}

#[test]
fn configs_that_are_none() {
    let mut golden = Golden::new("configs");
    let scene = Scene::new();
    golden.title("not there");
    golden.run(&scene, &["check"]);
    fs::create_dir(scene.path("watchdog.toml")).unwrap();
    golden.title("a directory");
    golden.run(&scene, &["check"]);
    fs::remove_dir(scene.path("watchdog.toml")).unwrap();
    nix::unistd::mkfifo(
        &scene.path("watchdog.toml"),
        nix::sys::stat::Mode::from_bits_truncate(0o600),
    )
    .unwrap();
    golden.title("a FIFO");
    golden.run(&scene, &["check"]);
    fs::remove_file(scene.path("watchdog.toml")).unwrap();
    for (what, bytes) in [
        ("no UTF-8", b"[service.a]\n# \xff\n".to_vec()),
        ("too large", vec![b'#'; 2 << 20]),
    ] {
        scene.raw_config("");
        scene.write("watchdog.toml", bytes);
        golden.title(what);
        golden.run(&scene, &["check"]);
    }
    scene.config("[service.a]\nx = 1\ny = 2\nprocess = { pid_fiel = \"a.pid\" }\n");
    golden.title("with faults");
    golden.run(&scene, &["check"]);
    golden.run(&scene, &["validate"]);
    golden.run(&scene, &["status"]);
    scene.config("[service.a\n");
    golden.title("no TOML");
    golden.run(&scene, &["validate"]);
    scene.config(QUIET);
    fs::set_permissions(
        scene.path("watchdog.toml"),
        fs::Permissions::from_mode(0o666),
    )
    .unwrap();
    golden.title("that all can write");
    golden.run(&scene, &["check"]);
    fs::set_permissions(
        scene.path("watchdog.toml"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    golden.title("without a fault");
    golden.run(&scene, &["validate"]);
    scene.config(
        "[logging]\nfile = \"nowhere/watchdog.log\"\n[service.a]\n[[service.a.log]]\npath = \"prog.sh\"\n",
    );
    golden.title("with a log that cannot be opened");
    golden.run(&scene, &["check"]);
    scene.config(
        "[mail]\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]\n\
         smtp = { host = \"h\", username = \"u\", password_file = \"prog.sh/pass\" }\n\
         [service.a]\n[[service.a.log]]\npath = \"prog.sh\"\n",
    );
    golden.title("with a password file that cannot be there");
    golden.run(&scene, &["validate"]);
    scene.config(QUIET);
    golden.title("a full disk for standard output");
    golden.command(
        &scene,
        "watchdog status >/dev/full",
        scene.shell_command("exec {watchdog} status >/dev/full"),
    );
    scene.config("[service.a]\nprocess = { command_line = '{dir}/prog\\.sh x( |$)' }\n");
    let pid = scene.start("x", &[]);
    scene.wait_until("its line", || {
        scene.run(&["validate"]).stdout.contains(&pid.to_string())
    });
    golden.title("what a pattern matches");
    golden.run(&scene, &["validate"]);
    golden.compare();
}

#[test]
fn mail_from_the_environment() {
    let mut golden = Golden::new("environment");
    let scene = Scene::with(QUIET);
    for variables in [
        &[("ALERT_EMAIL_TO", "nobody"), ("SMTP_PORT", "x")][..],
        &[
            ("ALERT_EMAIL_TO", "o@example.org"),
            ("ALERT_EMAIL_FROM", "nobody"),
            ("SMTP_SERVER", "mail.example.org"),
            ("SMTP_USERNAME", "u"),
        ],
        &[
            ("ALERT_EMAIL_TO", "o@example.org"),
            ("ALERT_EMAIL_FROM", "w@example.org"),
            ("SMTP_SERVER", "mail.example.org"),
            ("SMTP_PASSWORD", "p"),
        ],
    ] {
        let mut command = scene.command(&["validate"]);
        command.envs(variables.iter().copied());
        let set: Vec<String> = variables
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        golden.command(
            &scene,
            &format!("{} watchdog validate", set.join(" ")),
            command,
        );
    }
    golden.compare();
}
