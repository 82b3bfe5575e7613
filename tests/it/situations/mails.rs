//! What `test-mail` and the outbox say.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::Golden;
use crate::scene::servers::{Do, ENVELOPE, Server};
use crate::scene::{MAIL, Scene};

/// A scene whose mail goes through a program that ends like this.
fn mailer(script: &str) -> Scene {
    let scene = Scene::with(&format!(
        "{ENVELOPE}sendmail = {{ command = \"{{dir}}/mailer\" }}\n\
         [service.a]\nprocess = {{ pid_file = \"a.pid\" }}\n"
    ));
    scene.write("mailer", format!("#!/bin/sh\ncat >/dev/null\n{script}\n"));
    fs::set_permissions(scene.path("mailer"), fs::Permissions::from_mode(0o755)).unwrap();
    scene
}

#[test]
fn mailers_and_how_they_end() {
    let mut golden = Golden::new("mailers");
    for script in [
        "exit 0",
        "exit 64",
        "exit 65",
        "exit 67",
        "exit 68",
        "exit 69",
        "exit 73",
        "exit 75",
        "exit 77",
        "exit 78",
        "exit 9",
        "kill -9 $$",
    ] {
        golden.title(script);
        golden.run(&mailer(script), &["test-mail"]);
    }
    golden.title("a run whose mail has to wait");
    let scene = mailer("exit 75");
    golden.run(&scene, &["check"]);
    golden.run(&scene, &["status"]);
    golden.run(&scene, &["history"]);
    golden.title("and has waited for four days");
    let kept = fs::read_dir(scene.path("state/outbox"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut message: serde_json::Value = serde_json::from_slice(&fs::read(&kept).unwrap()).unwrap();
    let since = chrono::Utc::now() - chrono::TimeDelta::days(4);
    message["since"] = since.to_rfc3339().into();
    fs::write(&kept, message.to_string()).unwrap();
    golden.run(&scene, &["check"]);
    golden.run(&scene, &["history"]);
    golden.compare();
}

#[test]
fn servers_and_how_they_answer() {
    let mut golden = Golden::new("mail_servers");
    let service = "[service.a]\n[[service.a.log]]\npath = \"prog.sh\"\n";
    let scene = Scene::new();
    for (what, step, fault) in [
        ("well", "", None),
        (
            "refuses the recipient",
            "RCPT",
            Some(Do::Say("550 no such user")),
        ),
        (
            "refuses for now",
            "RCPT",
            Some(Do::Say("451 come back later")),
        ),
        ("refuses the message", ".", Some(Do::Say("554 no"))),
        ("hangs up", "MAIL", Some(Do::Close)),
        ("does not answer", "DATA", Some(Do::Hang)),
        ("does not answer to the message", ".", Some(Do::Hang)),
        ("talks nonsense", "", Some(Do::Say("hello"))),
    ] {
        let server = Server::new();
        if let Some(fault) = fault {
            server.at(step, fault);
        }
        scene.config(&format!("{ENVELOPE}{}\n{service}", server.table()));
        golden.title(what);
        golden.run(&scene, &["test-mail"]);
    }
    golden.title("nobody is there");
    let port = crate::scene::free_port();
    scene.config(&format!(
        "{ENVELOPE}smtp = {{ host = \"127.0.0.1\", port = {port}, tls = \"none\" }}\n{service}"
    ));
    golden.run(&scene, &["test-mail"]);
    golden.title("no authority is known");
    scene.config(&format!(
        "{ENVELOPE}smtp = {{ host = \"127.0.0.1\", port = {port}, tls = \"tls\" }}\n{service}"
    ));
    let mut command = scene.command(&["test-mail"]);
    command
        .env("SSL_CERT_FILE", "/dev/null")
        .env("SSL_CERT_DIR", scene.dir());
    golden.command(
        &scene,
        "SSL_CERT_FILE=/dev/null watchdog test-mail",
        command,
    );
    golden.title("into a directory");
    scene.config(&format!("{ENVELOPE}directory = \"mails\"\n{service}"));
    golden.replace_pattern(r"written to .*\.eml", "written to {file}");
    golden.run(&scene, &["test-mail"]);
    golden.mails(&scene);
    golden.title("no mail at all");
    scene.config(service);
    golden.run(&scene, &["test-mail"]);
    golden.compare();
}

#[test]
fn all_kinds_of_alerts() {
    let mut golden = Golden::new("alerts");
    let on = "on = [\"restarted\", \"restart_failed\", \"exhausted\", \"down\", \"degraded\", \"unknown\", \"recovered\"]";
    let scene = Scene::with(&format!(
        "{MAIL}{on}\n[service.l]\n[[service.l.log]]\npath = \"l.log\"\nforbid = ['ERROR']\n\
         [service.w]\n[[service.w.log]]\npath = \"w.log\"\nforbid = ['ERROR']\nseverity = \"warning\"\n\
         [service.u]\n[[service.u.log]]\npath = \"u.log\"\n\
         [service.c]\nrestart = {{ settle = \"0s\", command = [\"touch\", \"{{dir}}/c.log\"] }}\n\
         [[service.c.log]]\npath = \"c.log\"\nmax_age = \"5m\"\n"
    ));
    for name in ["l.log", "w.log", "u.log", "c.log"] {
        scene.write(name, "fine\n");
    }
    scene.run(&["check"]).exits(0);
    scene.append("l.log", "before\nERROR one\nafter\n");
    scene.append("w.log", "ERROR two\n");
    fs::remove_file(scene.path("u.log")).unwrap();
    fs::create_dir(scene.path("u.log")).unwrap();
    fs::rename(scene.path("c.log"), scene.path("c.log.1")).unwrap();
    golden.title("trouble of all kinds");
    golden.run(&scene, &["check"]);
    golden.mails(&scene);
    golden.title("all is well again");
    fs::remove_dir(scene.path("u.log")).unwrap();
    scene.write("u.log", "fine\n");
    golden.run(&scene, &["check"]);
    golden.mails(&scene);
    golden.compare();
}

#[test]
fn mails_that_are_held_back() {
    let mut golden = Golden::new("held_back");
    let scene = Scene::with(&format!(
        "{MAIL}max_per_hour = 1\n[service.a]\nprocess = {{ pid_file = \"a.pid\" }}\n\
         [[service.b.log]]\npath = \"b.log\"\nmax_age = \"5m\"\nseverity = \"warning\"\n[service.d]\nenabled = false\nprocess = {{ pid_file = \"d.pid\" }}\n"
    ));
    scene.run(&["check", "a"]).exits(2);
    fs::remove_dir_all(scene.path("mails")).unwrap();
    golden.title("the hour has its one");
    golden.run(&scene, &["check"]);
    golden.run(&scene, &["why", "b"]);
    golden.run(&scene, &["why", "d"]);
    golden.title("the next hour");
    scene.edit_state(|state| {
        for time in state["channels"]["mail"]["sent"].as_array_mut().unwrap() {
            let earlier = crate::scene::when(time) - chrono::TimeDelta::minutes(61);
            *time = earlier.to_rfc3339().into();
        }
    });
    golden.run(&scene, &["check"]);
    golden.mails(&scene);
    golden.compare();
}

#[test]
fn logins_and_passwords() {
    let mut golden = Golden::new("logins");
    let service = "[service.a]\n[[service.a.log]]\npath = \"prog.sh\"\n";
    let scene = Scene::new();
    for (name, bytes) in [
        ("pass", &b"secret\n"[..]),
        ("empty", b"\n"),
        ("bytes", b"\xff\n"),
    ] {
        scene.write(name, bytes);
        fs::set_permissions(scene.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    for (what, keys, offers, step, fault) in [
        ("well", "password_file = \"pass\"", true, "", None),
        (
            "refused",
            "password_file = \"pass\"",
            true,
            "AUTH",
            Some(Do::Say("535 5.7.8 no")),
        ),
        (
            "no login is offered",
            "password_file = \"pass\"",
            false,
            "",
            None,
        ),
        (
            "an empty password",
            "password_file = \"empty\"",
            true,
            "",
            None,
        ),
        (
            "a password of bytes",
            "password_file = \"bytes\"",
            true,
            "",
            None,
        ),
        (
            "no such variable",
            "password_env = \"NO_SUCH_VARIABLE\"",
            true,
            "",
            None,
        ),
        (
            "an empty variable",
            "password_env = \"EMPTY\"",
            true,
            "",
            None,
        ),
        (
            "no credentials",
            "password_credential = \"smtp\"",
            true,
            "",
            None,
        ),
    ] {
        let server = Server::new();
        if offers {
            server.offer_login();
        }
        if let Some(fault) = fault {
            server.at(step, fault);
        }
        scene.config(&format!(
            "{ENVELOPE}smtp = {{ host = \"127.0.0.1\", port = {}, tls = \"none\", timeout = \"2s\", username = \"u\", {keys} }}\n{service}",
            server.port
        ));
        let mut command = scene.command(&["test-mail"]);
        command.env("EMPTY", "");
        golden.title(what);
        golden.command(&scene, "watchdog test-mail", command);
    }
    // what needs certificate authorities depends on the machine
    for (what, step, fault) in [
        ("it does not greet", "", Do::Hang),
        (
            "it wants a login",
            "MAIL",
            Do::Say("530 5.7.0 authentication required"),
        ),
    ] {
        let server = Server::new();
        server.at(step, fault);
        scene.config(&format!("{ENVELOPE}{}\n{service}", server.table()));
        golden.title(what);
        golden.run(&scene, &["test-mail"]);
    }
    golden.compare();
}
