//! Sentences that a person can meet where a test needs root, or must not be it, or where all of the output would be too
//! much to read. [`crate::situations`] has the others.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::scene::servers::ENVELOPE;
use crate::scene::{Scene, root};

/// Words with single spaces between, as they would stand in one line.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_file_that_is_no_config_at_all_is_cut_short() {
    let faults: Vec<String> = (0..150).map(|n| format!("nonsense_{n} = 1")).collect();
    let scene = Scene::with(&faults.join("\n"));
    let outcome = scene.run(&["validate"]).exits(78);
    let end = scene.fill("\n\n100 errors or more in {dir}/watchdog.toml\n");
    assert!(outcome.stderr.ends_with(&end), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.matches("error: ").count(), 100);
}

#[test]
fn a_log_that_its_user_may_not_read_says_so() {
    let said = "permission denied; let the watchdog's user read it and enter its directories (log_unreadable)";
    let scene = Scene::with("[service.a]\n[[service.a.log]]\npath = \"secret.log\"\n");
    scene.write("secret.log", "x\n");
    fs::set_permissions(scene.path("secret.log"), fs::Permissions::from_mode(0o000)).unwrap();
    let outcome = if root() {
        // root may read all, so as somebody else, whose config it is
        let watchdog = scene.public_watchdog();
        let directory = scene.lend("theirs", "nobody");
        let config = directory.join("watchdog.toml");
        let text = scene.read("watchdog.toml").replace("secret", "../secret");
        fs::write(&config, text).unwrap();
        std::os::unix::fs::chown(&config, Some(65534), Some(65534)).unwrap();
        scene.shell(&format!(
            "exec setpriv --reuid=65534 --regid=65534 --clear-groups {} -c {} check",
            watchdog.display(),
            config.display()
        ))
    } else {
        scene.run(&["check"])
    };
    assert!(
        flat(&outcome.stdout).contains(&format!("secret.log: {said}")),
        "{outcome:?}"
    );
    assert_eq!(outcome.code, 3);
}

#[test]
#[ignore = "needs root"]
fn a_host_without_a_network_is_said() {
    let scene = Scene::with(&format!(
        "{ENVELOPE}smtp = {{ host = \"192.0.2.1\", tls = \"none\" }}\n[service.a]\n[[service.a.log]]\npath = \"prog.sh\"\n"
    ));
    let outcome = scene.shell("exec unshare -n {watchdog} test-mail").exits(1);
    let said =
        "192.0.2.1:25: cannot connect to 192.0.2.1: network is unreachable; is the network up";
    assert!(outcome.words().contains(said), "{}", outcome.stdout);
}

#[test]
fn what_is_never_told_for_want_of_room_is_in_the_journal() {
    let scene = Scene::with(&format!(
        "{ENVELOPE}directory = \"mails\"\nmax_per_hour = 1\n\
         [service.a]\nprocess = {{ pid_file = \"a.pid\" }}\n\
         [[service.b.log]]\npath = \"b.log\"\nmax_age = \"1h\"\nseverity = \"warning\"\n"
    ));
    scene.run(&["check", "a"]).exits(2);
    scene.run(&["check", "b"]).exits(1);
    scene.edit_state(|state| {
        let pending = state["channels"]["mail"]["pending"].as_array_mut().unwrap();
        let one = pending[0].clone();
        pending.resize(501, one);
    });
    scene.run(&["check"]).exits(2);
    let history = flat(&scene.run(&["history", "b"]).exits(0).stdout);
    let said = "too much is left to be told; never told: b degraded at 20";
    assert!(history.contains(said), "{history}");
    let state = scene.state();
    let pending = state["channels"]["mail"]["pending"].as_array().unwrap();
    assert_eq!(pending.len(), 500);
}

#[test]
#[ignore = "needs root"]
fn where_this_boot_cannot_be_told_from_another_nothing_is_started() {
    let scene = Scene::with(
        "[service.a]\nrestart = { command = [\"touch\", \"{dir}/ran\"] }\n[[service.a.log]]\npath = \"none.log\"\nmax_age = \"5m\"\n\
         [service.b]\nprocess = { pid_file = \"b.pid\" }\n",
    );
    let outcome = scene
        .shell(
            "exec unshare -m /bin/sh -c 'mount --bind /proc/$$/mem /proc/sys/kernel/random/boot_id && exec {watchdog} check --json'",
        )
        .exits(2);
    assert_eq!(
        outcome.error("a"),
        "what its main process may have left behind cannot be seen: the id of this boot cannot be read; nothing was started"
    );
    assert_eq!(
        outcome.service("b")["findings"][0]["message"],
        "the id of this boot cannot be read"
    );
    assert!(!scene.has("ran"));
}

#[test]
#[ignore = "needs root"]
fn a_systemctl_that_is_not_there_is_said() {
    let scene = Scene::with("[service.a]\nsystemd = { unit = \"a.service\" }\n");
    let outcome = scene
        .shell(
            "exec unshare -m /bin/sh -c 'mount --bind /dev/null $(command -v systemctl) && exec {watchdog} check --json'",
        )
        .exits(3);
    assert_eq!(
        outcome.service("a")["findings"][0]["message"],
        "systemd could not be asked for a.service: cannot run systemctl: Permission denied (os error 13); is this a \
         machine with systemd?"
    );
}

#[test]
#[ignore = "needs root"]
fn who_may_not_look_at_others_is_told_so() {
    let scene = Scene::with("[service.a]\nprocess = { command_line = '^none$' }\n");
    let watchdog = scene.public_watchdog();
    let pid = scene.start("x", &[]);
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    let outcome = scene
        .shell(&format!("exec {nobody} {} adopt {pid}", watchdog.display()))
        .exits(1);
    assert_eq!(
        outcome.stderr,
        format!(
            "watchdog: what PID {pid} is cannot be read: Permission denied (os error 13); run this as root, or as the user \
             of that program\n"
        )
    );
    let directory = scene.lend("theirs", "nobody");
    let config = directory.join("watchdog.toml");
    fs::write(&config, scene.read("watchdog.toml")).unwrap();
    // the program's own entry is left: what it opens, it opens by way of that
    let own = "mkdir real; mount --bind /proc real; mount -t tmpfs -o mode=711 tmpfs /proc; ln -s $PWD/real/self /proc/self";
    for (proc, message) in [
        (
            own,
            "no process was found, but /proc cannot be read: Permission denied (os error 13)",
        ),
        (
            "mount -t tmpfs -o mode=700 tmpfs /proc",
            "/proc/self/fd: Permission denied (os error 13)",
        ),
    ] {
        let outcome = scene.shell(&format!(
            "cd {}; exec unshare -m /bin/sh -c '{proc}; exec {nobody} {} -c {} check --dry-run'",
            directory.display(),
            watchdog.display(),
            config.display()
        ));
        let text = outcome.text().replace("\n        ", " ");
        assert!(text.contains(message), "{text}");
    }
}

#[test]
#[ignore = "needs root"]
fn what_cannot_be_seen_any_more_after_a_stop_gets_no_second_copy() {
    let scene = Scene::with(
        "[service.a]\nprocess = { pid_file = \"a.pid\" }\nspawn = { command = [\"touch\", \"{dir}/ran\"] }\n",
    );
    scene.write(
        "harm.sh",
        "trap 'mount --bind /proc/$$/mem /proc/sys/kernel/random/boot_id; exit' TERM\n\
         echo $$ >a.pid\nwhile :; do sleep 0.1; done\n",
    );
    scene
        .shell(
            "exec unshare -m /bin/sh -c '/bin/sh {dir}/harm.sh & until [ -s a.pid ]; do sleep 0.1; done; {watchdog} restart a'",
        )
        .exits(1);
    assert_eq!(
        scene.run(&["status", "--json"]).error("a"),
        "whether it still runs could not be seen; nothing was started"
    );
    assert!(!scene.has("ran"));
}

#[test]
fn who_is_not_root_is_told_what_only_root_can_do() {
    if root() {
        return;
    }
    let scene =
        Scene::with("[service.a]\nspawn = { command = [\"sleep\", \"1\"], user = \"root\" }\n");
    let error = scene.check().exits(2).error("a");
    assert!(
        error.starts_with(
            "only root can start a program as another user or group; this watchdog runs as UID "
        ),
        "{error}"
    );
}
