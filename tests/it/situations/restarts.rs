//! What is said of restarts: those that work, that fail, and that have to wait.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::Golden;
use crate::scene::{MAIL, Scene};

/// Ends what a scene's service runs as.
fn end(scene: &Scene, name: &str) {
    let pid = scene.state()["services"][name]["process"]["main"]["pid"].clone();
    scene.kill_and_reap(i32::try_from(pid.as_i64().unwrap()).unwrap());
}

/// Files that the configs below name.
fn furnish(scene: &Scene) {
    let program = |name: &str, text: &str, mode| {
        scene.write(name, text);
        fs::set_permissions(scene.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir(scene.path("directory")).unwrap();
    program("plain", "x\n", 0o644);
    program("nonsense", "no program\n", 0o755);
    program("orphan", "#!/no/such/interpreter\n", 0o755);
    scene.write("form.env", "A=1\nno form\n");
    scene.write("name.env", "1A=1\n");
    scene.write("quote.env", "A='x\n");
    scene.write("double.env", "A=\"x\n");
    scene.write("nul.env", "A=\0\n");
    scene.write("bytes.env", b"A=\xff\n");
    scene.write("huge.env", "#".repeat((1 << 20) + 1));
}

#[test]
fn starts_that_fail() {
    let mut golden = Golden::new("starts_that_fail");
    let program = |command: &str| format!("spawn = {{ command = [{command}] }}");
    let with = |more: &str| format!("spawn = {{ command = [\"sleep\", \"1000\"], {more} }}");
    for config in [
        program("\"no-such-program\""),
        program("\"./nowhere\""),
        program("\"./directory\""),
        program("\"./plain\""),
        program("\"./nonsense\""),
        program("\"./orphan\""),
        with("stdout = \"directory\""),
        with("stderr = \"directory\""),
        with("group = \"no-such-group\""),
        with("user = \"no-such-user\""),
        with("user = \"1954322\""),
        with("env_file = \"nowhere.env\""),
        with("env_file = \"directory\""),
        with("env_file = \"huge.env\""),
        with("env_file = \"bytes.env\""),
        with("env_file = \"form.env\""),
        with("env_file = \"name.env\""),
        with("env_file = \"quote.env\""),
        with("env_file = \"double.env\""),
        with("env_file = \"nul.env\""),
        format!("working_dir = \"plain\"\n{}", with("nice = 1")),
        format!("working_dir = \"nowhere\"\n{}", with("nice = 1")),
        format!(
            "process = {{ pid_file = \"nowhere/a.pid\" }}\n{}",
            with("write_pid_file = true")
        ),
    ] {
        let scene = Scene::with(&format!("[service.a]\n{config}\n"));
        furnish(&scene);
        golden.title(&config);
        golden.run(&scene, &["check"]);
    }
    golden.compare();
}

#[test]
fn programs_that_end_again() {
    let mut golden = Golden::new("programs_that_end");
    // one that ends at once may have been seen alive before
    golden.replace(
        "came up, but then exited with status 7",
        "exited with status 7",
    );
    golden.replace("came up, but then was ended", "was ended");
    let shell = |script: &str| format!("spawn = {{ command = [\"sh\", \"-c\", \"{script}\"] }}");
    for config in [
        shell("exit 7"),
        shell("kill -9 $$"),
        format!(
            "restart = {{ settle = \"5s\" }}\n{}",
            shell("sleep 0.5; exit 8")
        ),
        format!(
            "process = {{ pid_file = \"a.pid\" }}\nrestart = {{ start_timeout = \"300ms\" }}\n{}",
            shell("exit 0")
        ),
        format!(
            "process = {{ pid_file = \"a.pid\" }}\nrestart = {{ start_timeout = \"300ms\" }}\n{}",
            shell("exec sleep 1000")
        ),
        format!(
            "process = {{ pid_file = \"a.pid\" }}\nrestart = {{ settle = \"5s\" }}\n{}",
            shell("echo $$ >a.pid; sleep 0.5; rm a.pid; exec sleep 1000")
        ),
    ] {
        let scene = Scene::with(&format!("[service.a]\n{config}\n"));
        golden.title(&config);
        golden.run(&scene, &["check"]);
    }
    golden.compare();
}

#[test]
fn commands_that_fail() {
    let mut golden = Golden::new("restart_commands_that_fail");
    for command in [
        "[\"sh\", \"-c\", \"echo no disk >&2; exit 7\"]",
        "[\"no-such-program\"]",
        "[\"sleep\", \"1000\"]",
    ] {
        let scene = Scene::with(&format!(
            "[service.a]\nprocess = {{ pid_file = \"a.pid\" }}\n\
             restart = {{ start_timeout = \"300ms\", command = {command} }}\n"
        ));
        golden.title(command);
        golden.run(&scene, &["check"]);
    }
    golden.compare();
}

#[test]
fn a_restart_that_works() {
    let mut golden = Golden::new("restarted");
    let scene = Scene::with(&format!(
        "{MAIL}[service.a]\nspawn = {{ command = [\"sleep\", \"1000\"] }}\nrestart = {{ settle = \"0s\" }}\n"
    ));
    golden.title("for the first time");
    golden.run(&scene, &["check"]);
    golden.mails(&scene);
    golden.run(&scene, &["why", "a"]);
    golden.title("all is well");
    golden.run(&scene, &["check"]);
    golden.run(&scene, &["check", "-q"]);
    golden.run(&scene, &["status"]);
    golden.run(&scene, &["why", "a"]);
    golden.title("it has ended");
    end(&scene, "a");
    golden.run(&scene, &["check", "--dry-run"]);
    golden.run(&scene, &["-v", "check"]);
    golden.title("by a person");
    golden.run(&scene, &["-v", "restart", "a"]);
    golden.run(&scene, &["history"]);
    end(&scene, "a");
    golden.compare();
}

#[test]
fn a_restart_that_fails_until_its_budget_is_spent() {
    let mut golden = Golden::new("exhausted");
    let scene = Scene::with(&format!(
        "{MAIL}[service.a]\ndescription = \"the queue\"\nprocess = {{ pid_file = \"a.pid\" }}\n\
         spawn = {{ command = [\"sh\", \"-c\", \"echo no disk >&2; exit 3\"], stderr = \"a.err\" }}\n\
         restart = {{ max_per_hour = 2 }}\n"
    ));
    golden.title("the first attempt");
    golden.run(&scene, &["-v", "check"]);
    golden.mails(&scene);
    golden.title("the second attempt");
    golden.run(&scene, &["check"]);
    golden.title("none is left");
    golden.run(&scene, &["check"]);
    golden.mails(&scene);
    golden.run(&scene, &["status"]);
    golden.run(&scene, &["why", "a"]);
    golden.run(&scene, &["restart", "a"]);
    golden.title("an hour later");
    scene.move_attempts("a", chrono::TimeDelta::hours(-1));
    golden.run(&scene, &["check", "--dry-run"]);
    golden.run(&scene, &["history"]);
    golden.title("it is well again");
    scene.start("a", &["pid_file=a.pid"]);
    scene.wait_until("its PID file", || scene.has("a.pid"));
    golden.run(&scene, &["check"]);
    golden.mails(&scene);
    golden.compare();
}

#[test]
fn given_up() {
    let mut golden = Golden::new("given_up");
    let scene = Scene::with(&format!(
        "{MAIL}[service.a]\nprocess = {{ pid_file = \"a.pid\" }}\n\
         restart = {{ max_per_hour = 1, on_exhausted = \"give_up\", command = [\"false\"] }}\n"
    ));
    scene.run(&["check", "--no-mail"]).exits(2);
    golden.run(&scene, &["check"]);
    golden.mails(&scene);
    golden.run(&scene, &["check"]);
    golden.run(&scene, &["status"]);
    golden.run(&scene, &["why", "a"]);
    golden.run(&scene, &["restart", "a"]);
    golden.run(&scene, &["reset", "a"]);
    golden.run(&scene, &["why", "a"]);
    golden.compare();
}

#[test]
fn restarts_that_have_to_wait() {
    let mut golden = Golden::new("waiting");
    let scene = Scene::with(&format!(
        "{MAIL}[service.a]\nprocess = {{ pid_file = \"a.pid\" }}\nrestart = {{ cooldown = \"20m\", command = [\"false\"] }}\n\
         [service.b]\ndepends_on = [\"a\"]\nprocess = {{ pid_file = \"b.pid\" }}\nrestart = {{ command = [\"true\"] }}\n\
         [service.n]\nprocess = {{ pid_file = \"n.pid\" }}\nrestart = {{ max_per_hour = 0, command = [\"true\"] }}\n\
         [service.f]\nprocess = {{ pid_file = \"f.pid\" }}\nrestart = {{ after_failures = 3, command = [\"true\"] }}\n\
         [service.w]\nprocess = {{ pid_file = \"w.pid\" }}\n\
         [service.u]\nprocess = {{ pid_file = \"w.pid\", user = \"no-such-user\" }}\nrestart = {{ command = [\"true\"] }}\n"
    ));
    golden.title("the first run");
    golden.run(&scene, &["check"]);
    golden.mails(&scene);
    golden.title("the second run");
    golden.run(&scene, &["check"]);
    for name in ["a", "b", "n", "f", "w", "u"] {
        golden.run(&scene, &["why", name]);
    }
    golden.title("by a person");
    for name in ["a", "w", "u"] {
        golden.run(&scene, &["restart", name]);
    }
    golden.compare();
}

#[test]
fn warnings_alone() {
    let mut golden = Golden::new("warnings");
    let scene = Scene::with(&format!(
        "{MAIL}[service.a]\nrestart = {{ command = [\"true\"] }}\n[[service.a.log]]\npath = \"a.log\"\n\
         forbid = ['ERROR', 'FATAL']\nseverity = \"warning\"\n"
    ));
    scene.write("a.log", "");
    golden.run(&scene, &["check"]);
    scene.append("a.log", "ERROR\n");
    golden.run(&scene, &["check"]);
    golden.run(&scene, &["why", "a"]);
    golden.compare();
}

#[test]
fn a_second_copy_that_is_not_started() {
    let mut golden = Golden::new("no_second_copy");
    golden.title("its restart command still runs since a run that was cut short");
    let command = "[\"/bin/sh\", \"-c\", \"echo $$ >{dir}/ran; while :; do sleep 0.1; done\"]";
    let scene = Scene::with(&format!(
        "[service.a]\nprocess = {{ pid_file = \"a.pid\" }}\nrestart = {{ start_timeout = \"1s\", command = {command} }}\n"
    ));
    let config = scene.read("watchdog.toml");
    scene.raw_config(&config.replace("1s", "5m"));
    let run = scene.begin(scene.command(&["check"]));
    scene.wait_until("its command", || {
        scene.has("ran") && scene.read("ran").ends_with('\n')
    });
    scene.kill(run.pid());
    scene.end(run);
    scene.raw_config(&config);
    golden.run(&scene, &["-v", "check"]);

    golden.title("it has come up again by itself");
    let scene = Scene::with(
        "[service.a]\nprocess = { pid_file = \"a.pid\" }\nspawn = { command = [\"touch\", \"{dir}/ran\"] }\n",
    );
    // told to end, it has a successor in a session of its own
    scene.write(
        "heir.sh",
        "trap 'setsid /bin/sh \"$0\" & while [ \"$(cat a.pid)\" = $$ ]; do :; done; exit' TERM\n\
         echo $$ >a.new; mv a.new a.pid\nwhile :; do sleep 0.1; done\n",
    );
    let mut first = std::process::Command::new("/bin/sh")
        .arg(scene.path("heir.sh"))
        .current_dir(scene.dir())
        .spawn()
        .unwrap();
    scene.wait_until("its PID file", || scene.has("a.pid"));
    golden.run(&scene, &["restart", "a"]);
    first.wait().unwrap();
    assert!(!scene.has("ran"));
    golden.compare();
}
