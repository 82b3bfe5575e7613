//! What `validate` says of traps, each on a config that has it and no other.

use std::os::unix::fs::PermissionsExt;

use super::Golden;
use crate::scene::{MAIL, Scene};

/// Configs with exactly one trap each.
const SERVICES: &[&str] = &[
    "[service.a]\nprocess = { command_line = '^no-such-program-at-all$' }",
    "[service.a]\nprocess = { command_line = '^no-such-program$', user = \"root\" }",
    "[service.a]\nprocess = { command_line = '^python3 main\\.py$' }\nspawn = { command = [\"sh\", \"main.py\"] }",
    "[service.a]\nprocess = { pid_file = \"nowhere/a.pid\" }",
    "[service.a]\nprocess = { pid_file = \"a.pid\", user = \"no-such-user\" }",
    "[service.a]\nspawn = { command = [\"no-such-program\"] }",
    "[service.a]\nspawn = { command = [\"./plain\"] }",
    "[service.a]\nspawn = { command = [\"bin/x\"] }",
    "[service.a]\nworking_dir = \"gone\"\nspawn = { command = [\"sh\"] }",
    "[service.a]\nspawn = { command = [\"sh\"], user = \"no-such-user\" }",
    "[service.a]\nspawn = { command = [\"sh\"], env_file = \"missing.env\" }",
    "[service.a]\nspawn = { command = [\"sh\"], env_file = \"plain\" }",
    "[service.a]\nspawn = { command = [\"sh\"], stderr = \"logs/err.log\" }",
    "[service.a]\nspawn = { command = [\"sh\", \"run.sh\", \">\", \"x.log\"] }",
    "[service.a]\nprocess = { pid_file = \"a.pid\" }\n[service.a.restart]\ncommand = [\"no-such-program\"]",
    "[service.a]\n[[service.a.log]]\npath = \"logs/a.log\"",
    "[service.a]\n[[service.a.log]]\npath = \"plain\"\n[[service.a.log]]\npath = \"a-*.log\"",
    "[service.a]\n[[service.a.log]]\npath = \"plain\"\nmax_age = \"5s\"",
    "[service.a]\nrestart = { settle = \"3m\" }\n[[service.a.log]]\npath = \"plain\"\nmax_age = \"2m\"",
    "[service.a]\nstart_grace = \"0s\"\nprocess = { pid_file = \"a.pid\" }\n[[service.a.log]]\npath = \"plain\"\nmax_age = \"2m\"",
    "[service.a]\nspawn = { command = [\"/usr/bin/env\", \"x\"] }\n[service.b]\nspawn = { command = [\"sh\", \"x\"], stdout = \"b.log\" }\n[service.c]\nspawn = { command = [\"./bot\"], stdout = \"plain\" }\n[[service.c.log]]\npath = \"plain\"\nmax_age = \"5m\"",
    "[service.a]\n[[service.a.log]]\npath = \"plain\"\nexpect = ['X']",
    "[service.a]\n[[service.a.log]]\npath = \"plain\"\nexpect = [{ pattern = 'x', at_least = 3 }]",
    "[service.a]\n[[service.a.log]]\npath = \"plain\"\nmax_age = \"5m\"\ntimestamp = \"%d.%m.%Y %H:%M\"",
    "[service.a]\n[[service.a.log]]\npath = \".\"",
    "[service.a]\n[[service.a.log]]\npath = \"plain\"\nforbid = [\"\\bERROR\\b\"]",
    "[service.a]\n[[service.a.log]]\npath = \"plain\"\nexpect = ['x']\nforbid = [{ pattern = \"a\\nb\", at_most = 3 }]",
    "[service.a]\nspawn = { command = [\"sh\"] }\nrestart = { stop_timeout = \"10m\" }",
    "[service.a]\ndepends_on = [\"b\"]\nspawn = { command = [\"sh\"] }\nrestart = { start_timeout = \"3m\" }\n[service.b]\nspawn = { command = [\"sh\", \"b\"] }\nrestart = { start_timeout = \"3m\" }",
    "[service.a]\nspawn = { command = [\"sh\"] }\nrestart = { cooldown = \"30m\" }",
    "[service.a]\ndepends_on = [\"b\"]\nspawn = { command = [\"sh\"] }\n[service.b]\nenabled = false\nspawn = { command = [\"sh\"] }",
    "[service.a]\nprocess = { pid_file = \"a.pid\" }\n[service.b]\nprocess = { pid_file = \"./a.pid\" }",
    "[service.a]\nspawn = { command = [\"sh\", \"x\"] }\n[service.b]\nspawn = { command = [\"sh\", \"x\"] }",
];

#[test]
fn traps_of_services() {
    let mut golden = Golden::new("traps");
    for config in SERVICES {
        // with mail, or each would have the trap that nobody is told, too
        let scene = Scene::with(&format!("{MAIL}{config}\n"));
        scene.write("plain", "x\n");
        scene.write("bot", "#!/usr/bin/env python3\n");
        std::fs::set_permissions(scene.path("bot"), std::fs::Permissions::from_mode(0o755))
            .unwrap();
        golden.title(config);
        let outcome = golden.run(&scene, &["validate"]).exits(0);
        assert!(outcome.stdout.contains(", 1 trap\n"), "{config}");
        scene.run(&["validate", "--strict"]).exits(1);
    }
    golden.title("a command in one piece, which is no program then");
    let scene = Scene::with(&format!(
        "{MAIL}[service.a]\nspawn = {{ command = [\"sleep 1000\"] }}\n"
    ));
    golden.run(&scene, &["validate"]);
    golden.title("a pattern that matches unrelated processes");
    let scene = Scene::with(&format!(
        "{MAIL}[service.a]\nprocess = {{ command_line = '^/bin/sh {{dir}}/prog\\.sh' }}\n"
    ));
    scene.start("one", &[]);
    scene.start("two", &[]);
    golden.run(&scene, &["validate"]);
    golden.title("no run for three hours");
    let scene = Scene::with(&format!(
        "{MAIL}[service.a]\n[[service.a.log]]\npath = \"prog.sh\"\n"
    ));
    scene.run(&["check"]).exits(0);
    scene.edit_state(|state| {
        let ago = chrono::Utc::now() - chrono::TimeDelta::hours(3);
        state["last_run"] = ago.to_rfc3339().into();
    });
    golden.run(&scene, &["validate"]);
    golden.compare();
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
fn traps_of_the_whole_config() {
    let mut golden = Golden::new("traps_of_all");
    for (what, head) in [
        ("no mail", "state_dir = \"state\"\n".to_owned()),
        (
            "a state in memory",
            format!("state_dir = \"/dev/shm/watchdog\"\n{MAIL}"),
        ),
        (
            "a state in a file",
            format!("state_dir = \"plain\"\n{MAIL}"),
        ),
        (
            "checks that may take longer than the run",
            format!("state_dir = \"state\"\ncheck_timeout = \"6m\"\n{MAIL}"),
        ),
        (
            "mail into a file",
            format!("state_dir = \"state\"\n{}", MAIL.replace("mails", "plain")),
        ),
        ("no mailer", sendmail("/no/such")),
        ("a directory for a mailer", sendmail("{dir}")),
        ("a mailer that is not executable", sendmail("{dir}/plain")),
    ] {
        let scene = Scene::new();
        scene.raw_config(&format!(
            "{head}[service.a]\nspawn = {{ command = [\"sh\"] }}\n"
        ));
        scene.write("plain", "x\n");
        golden.title(what);
        let outcome = golden.run(&scene, &["validate"]).exits(0);
        assert!(outcome.stdout.contains(", 1 trap\n"), "{what}");
    }
    golden.compare();
}
