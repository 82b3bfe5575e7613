//! Mail: what is told, how often, by which way, and what happens to what cannot be sent.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::json;

use crate::scene::servers::{Do, ENVELOPE, Server, smtp};
use crate::scene::{MAIL, Mail, Scene, Service, alive, render, when};

/// A scene whose mail goes into a directory.
fn mailing(keys: &str, services: &[&Service]) -> Scene {
    let scene = Scene::new();
    scene.config(&format!(
        "{ENVELOPE}directory = \"mails\"\n{keys}\n{}",
        render(services)
    ));
    scene
}

fn broken(name: &str) -> Service {
    Service::new(name).option("exit=1")
}

fn event(mail: &Mail) -> String {
    mail.header("X-Watchdog-Event").expect("an event")
}

#[test]
fn one_message_a_run_tells_all_that_happened() {
    let scene = mailing(
        "",
        &[
            &Service::new("alpha").watched(),
            &Service::new("beta"),
            &broken("gamma"),
            &Service::logs("delta").log("path = \"prog.sh\""),
        ],
    );
    let outcome = scene.check().exits(2);
    assert_eq!(outcome.json()["mail"]["sent"], 1);
    assert_eq!(outcome.json()["mail"]["queued"], 0);
    let mails = scene.mails();
    assert_eq!(mails.len(), 1);
    let mail = &mails[0];
    for word in ["alpha", "beta", "gamma", "alpha.pid"] {
        assert!(mail.body.contains(word), "{word}: {}", mail.body);
    }
    assert!(!mail.body.contains("delta"), "nothing happened to it");
    let services = mail.header("X-Watchdog-Service").unwrap();
    for name in ["alpha", "beta", "gamma"] {
        assert!(services.contains(name), "{services}");
    }
    assert_eq!(mail.header("Auto-Submitted").unwrap(), "auto-generated");
    assert!(
        mail.header("From")
            .unwrap()
            .contains("watchdog@example.org")
    );
    assert!(mail.header("To").unwrap().contains("ops@example.org"));
    assert!(mail.header("Message-ID").unwrap().starts_with('<'));
    assert!(mail.header("Date").is_some());
    assert!(
        mail.header("Content-Type")
            .unwrap()
            .starts_with("text/plain")
    );
}

#[test]
fn the_subject_names_host_event_and_service() {
    let scene = mailing("", &[&Service::new("alpha").watched()]);
    let host = scene.check().exits(2).json()["host"]
        .as_str()
        .unwrap()
        .to_owned();
    let mail = &scene.mails()[0];
    let subject = mail.subject();
    assert!(subject.contains(&host), "{subject}");
    assert!(subject.contains("alpha"), "{subject}");
    assert!(subject.to_lowercase().contains("down"), "{subject}");
    assert_eq!(event(mail), "down");
}

#[test]
fn nothing_is_told_where_all_is_well() {
    let scene = mailing("", &[&Service::new("a")]);
    scene.start("a", &["pid_file=a.pid"]);
    for _ in 0..3 {
        let outcome = scene.check().exits(0);
        assert_eq!(outcome.json()["mail"]["sent"], 0);
    }
    assert!(scene.mails().is_empty());
}

#[test]
fn what_lasts_is_told_once_and_its_end_is_told_in_the_same_thread() {
    let scene = mailing("", &[&Service::new("a").watched()]);
    for _ in 0..4 {
        scene.check().exits(2);
    }
    assert_eq!(scene.mails().len(), 1);
    scene.start("a", &["pid_file=a.pid"]);
    for _ in 0..3 {
        scene.check().exits(0);
    }
    let mails = scene.mails();
    assert_eq!(mails.len(), 2);
    let first = mails[0].header("Message-ID").unwrap();
    assert_eq!(event(&mails[1]), "recovered");
    assert!(mails[1].header("In-Reply-To").unwrap().starts_with('<'));
    assert!(mails[1].header("References").unwrap().contains(&first));
    assert_ne!(mails[1].header("Message-ID").unwrap(), first);
}

#[test]
fn the_last_lines_of_logs_that_are_well_are_shown_beside_what_is_wrong_and_at_its_end() {
    let one = Service::new("one")
        .watched()
        .log("path = \"{dir}/one.log\"");
    let two = Service::new("two")
        .watched()
        .log("path = \"{dir}/two.log\"")
        .log("path = \"{dir}/more.log\"\nmax_age = \"10s\"");
    let scene = mailing("", &[&one, &two]);
    for name in ["one", "two", "more"] {
        scene.write(&format!("{name}.log"), format!("the last of {name}\n"));
    }
    scene.start("one", &["pid_file=one.pid"]);
    scene.start("two", &["pid_file=two.pid"]);
    scene.check().exits(0);
    // the process of one, and one of the logs of the other
    scene.kill_and_reap(scene.last("one"));
    scene.age("more.log", Duration::from_secs(60));
    scene
        .check()
        .exits(2)
        .finds("two", "log_stale")
        .lacks("one", "log_stale");
    scene.start("one", &["pid_file=one.pid"]);
    scene.append("more.log", "more\n");
    scene.check().exits(0);
    let bodies: Vec<String> = scene.mails().into_iter().map(|mail| mail.body).collect();
    let quoting = |line: &str| bodies.iter().filter(|body| body.contains(line)).count();
    for name in ["one", "two", "more"] {
        assert_eq!(
            quoting(&format!("> the last of {name}\n")),
            2,
            "{bodies:#?}"
        );
    }
}

#[test]
fn what_lasts_is_told_again_after_a_while() {
    let scene = mailing("remind_every = \"1s\"", &[&Service::new("a").watched()]);
    scene.check().exits(2);
    assert_eq!(scene.mails().len(), 1);
    scene.wait_until("the reminder", || {
        scene.check();
        scene.mails().len() > 1
    });
    let mails = scene.mails();
    let first = mails[0].header("Message-ID").unwrap();
    assert!(mails[1].header("References").unwrap().contains(&first));
}

#[test]
fn a_restart_is_told_with_what_was_seen_and_what_is_left() {
    let service = Service::new("a")
        .restart("max_per_hour", "7")
        .log("path = \"a.log\"");
    let scene = mailing("", &[&service]);
    scene.write("a.log", "the last line of its log\n");
    scene.check().exits(1).verdict("a", "restarted");
    let mails = scene.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(event(&mails[0]), "restarted");
    let body = &mails[0].body;
    assert!(body.contains("a.pid"), "what was seen: {body}");
    assert!(
        body.contains(&scene.last("a").to_string()),
        "what runs now: {body}"
    );
    assert!(
        body.contains('6') || body.contains("1 of 7"),
        "what is left: {body}"
    );
    assert!(body.contains("the last line of its log"), "{body}");
    // all is well since: the incident is over
    scene.check().exits(0);
    scene.check().exits(0);
    assert!(scene.mails().len() <= 2);
}

#[test]
fn f15_a_failed_restart_is_told_with_its_last_words() {
    let service = broken("a")
        .option("err=cannot bind")
        .spawn("stderr", "\"a.err\"");
    let scene = mailing("", &[&service]);
    scene.check().exits(2);
    let mails = scene.mails();
    assert_eq!(event(&mails[0]), "restart_failed");
    assert!(mails[0].body.contains("cannot bind 1"), "{}", mails[0].body);
}

#[test]
fn f41_exhaustion_is_told_at_once() {
    let scene = mailing("", &[&broken("a").restart("max_per_hour", "2")]);
    for _ in 0..4 {
        scene.check().exits(2);
    }
    let mails = scene.mails();
    let exhausted: Vec<&Mail> = mails.iter().filter(|m| event(m) == "exhausted").collect();
    assert_eq!(exhausted.len(), 1);
    assert!(mails.len() <= 3);
}

#[test]
fn f47_a_recovery_and_a_failure_in_one_run_are_both_told() {
    let scene = mailing(
        "",
        &[
            &Service::new("one").watched(),
            &Service::new("two").watched(),
        ],
    );
    let two = scene.start("two", &["pid_file=two.pid"]);
    scene.check().exits(2);
    scene.start("one", &["pid_file=one.pid"]);
    scene.kill(two);
    scene.check().exits(2);
    let mails = scene.mails();
    assert_eq!(mails.len(), 2);
    assert_eq!(event(&mails[1]), "down");
    for name in ["one", "two"] {
        assert!(mails[1].body.contains(name), "{}", mails[1].body);
    }
}

#[test]
fn only_what_is_asked_for_is_told() {
    let scene = mailing(
        "on = [\"exhausted\"]",
        &[&broken("a").restart("max_per_hour", "1")],
    );
    scene.check().exits(2).verdict("a", "restart_failed");
    assert!(scene.mails().is_empty());
    scene.check().exits(2).verdict("a", "exhausted");
    assert_eq!(scene.mails().len(), 1);
    let scene = mailing(
        "",
        &[&Service::logs("a").log("path = \"no.log\"\nseverity = \"warning\"")],
    );
    scene.check().exits(1).verdict("a", "degraded");
    assert_eq!(event(&scene.mails()[0]), "degraded");
    let scene = mailing("", &[&Service::logs("b").log("path = \"{dir}\"")]);
    scene.check().exits(3).verdict("b", "unknown");
    assert!(scene.mails().is_empty(), "not by default");
    let scene = mailing(
        "on = [\"degraded\", \"unknown\"]",
        &[
            &Service::logs("a").log("path = \"no.log\"\nseverity = \"warning\""),
            &Service::logs("b").log("path = \"{dir}\""),
        ],
    );
    scene.check().exits(3);
    assert_eq!(scene.mails().len(), 1);
    assert_eq!(event(&scene.mails()[0]), "unknown");
}

#[test]
fn a_warning_is_mailed_once_and_a_failure_again_after_remind_every() {
    for (service, event, mails) in [
        (
            Service::logs("a").log("path = \"no.log\"\nseverity = \"warning\""),
            "degraded",
            1,
        ),
        (Service::new("a").watched(), "down", 2),
    ] {
        let scene = mailing("", &[&service]);
        scene.check();
        assert_eq!(scene.mails().len(), 1);
        // two hours ago
        scene.edit_state(|state| {
            let alerted = &mut state["channels"]["mail"]["services"]["a"]["alerted"][event];
            *alerted = json!(when(alerted) - chrono::TimeDelta::hours(2));
        });
        scene.check();
        assert_eq!(scene.mails().len(), mails, "{event}");
    }
}

#[test]
fn a_paused_service_is_not_told_of() {
    let scene = mailing("", &[&Service::new("a").watched()]);
    scene.run(&["pause", "a"]).exits(0);
    scene.check().exits(0);
    assert!(scene.mails().is_empty());
    scene.run(&["resume", "a"]).exits(0);
    scene.check().exits(2);
    assert_eq!(scene.mails().len(), 1);
}

#[test]
fn f73_an_hour_has_only_so_many_messages() {
    // warnings, for the first critical message of an incident is never held back
    let service =
        Service::logs("a").log("path = \"a.log\"\nmax_age = \"1h\"\nseverity = \"warning\"");
    let scene = mailing("max_per_hour = 3", &[&service]);
    for _ in 0..3 {
        scene.check().exits(1);
        scene.write("a.log", "fine\n");
        scene.check().exits(0);
        fs::remove_file(scene.path("a.log")).unwrap();
    }
    assert_eq!(scene.mails().len(), 3);
}

#[test]
fn f74_what_services_print_never_becomes_a_header() {
    let service = broken("a")
        .option("err=.\\r\\nBcc: evil@example.org\\r\\n\\r\\n.")
        .spawn("stderr", "\"a.err\"")
        .spawn(
            "command",
            "[\"/bin/sh\", \"-c\", \"printf 'x\\\\r\\\\nBcc: evil@example.org\\\\r\\\\n.\\\\n.\\\\r\\\\n\\\\303\\\\244 \\\\377 end\\\\n' >&2; exit 3\"]",
        );
    let server = Server::new();
    let scene = smtp(&server, "", &[&service]);
    scene.check().exits(2);
    let got = server.got();
    assert_eq!(got.len(), 1);
    let mail = Mail::parse(&got[0].text);
    assert!(mail.header("Bcc").is_none());
    assert!(mail.body.contains("Bcc: evil@example.org"), "{}", mail.body);
    assert!(
        mail.body.contains("end"),
        "after the lone dot: {}",
        mail.body
    );
    for line in got[0].text.lines() {
        assert!(line.len() <= 998 && line.is_ascii(), "{line}");
    }
}

#[test]
fn f74_a_long_line_arrives_whole_or_cut_but_well_formed() {
    let service = broken("a")
        .option(&format!("err={}", "long ".repeat(1000)))
        .spawn("stderr", "\"a.err\"");
    let server = Server::new();
    let scene = smtp(&server, "", &[&service]);
    scene.check().exits(2);
    let got = server.got();
    assert_eq!(got.len(), 1);
    assert!(got[0].text.lines().all(|line| line.len() <= 998));
    assert!(Mail::parse(&got[0].text).body.contains("long long long"));
}

#[test]
fn sendmail_gets_the_message_and_its_recipients() {
    let scene = Scene::new();
    scene.write(
        "sendmail",
        "#!/bin/sh\ncat >${0%/*}/sent.eml\necho \"$*\" >${0%/*}/arguments\n",
    );
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(scene.path("sendmail"), mode).unwrap();
    scene.config(&format!(
        "{ENVELOPE}sendmail = {{ command = \"{{dir}}/sendmail\" }}\n{}",
        render(&[&Service::new("a").watched()])
    ));
    let outcome = scene.check().exits(2);
    assert_eq!(outcome.json()["mail"]["sent"], 1);
    let mail = Mail::parse(&scene.read("sent.eml"));
    assert_eq!(event(&mail), "down");
    let arguments = scene.read("arguments");
    assert!(
        arguments.contains("ops@example.org") || arguments.contains("-t"),
        "{arguments}"
    );
}

#[test]
fn a_sendmail_that_fails_or_is_not_there_costs_no_alert() {
    let scene = Scene::new();
    scene.config(&format!(
        "{ENVELOPE}sendmail = {{ command = \"{{dir}}/sendmail\" }}\n{}",
        render(&[&Service::new("a").watched()])
    ));
    let outcome = scene.check().exits(2);
    assert_eq!(outcome.json()["mail"]["sent"], 0);
    assert_eq!(outcome.json()["mail"]["queued"], 1);
    let install = |text: &str| {
        scene.write("sendmail", text);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(scene.path("sendmail"), mode).unwrap();
    };
    install("#!/bin/sh\ncat >/dev/null\nexit 75\n");
    scene.check().exits(2);
    assert_eq!(scene.outbox(), 1);
    install("#!/bin/sh\ncat >${0%/*}/sent.eml\n");
    let outcome = scene.check().exits(2);
    assert_eq!(outcome.json()["mail"]["sent"], 1);
    assert_eq!(scene.outbox(), 0);
    assert_eq!(event(&Mail::parse(&scene.read("sent.eml"))), "down");
}

#[test]
fn smtp_delivers_to_every_recipient() {
    let server = Server::new();
    let scene = Scene::new();
    scene.config(&format!(
        "[mail]\nfrom = \"watchdog@example.org\"\nto = [\"one@example.org\", \"two@example.org\"]\n{}\n{}",
        server.table(),
        render(&[&Service::new("a").watched()])
    ));
    let outcome = scene.check().exits(2);
    assert_eq!(outcome.json()["mail"]["sent"], 1);
    assert_eq!(outcome.json()["mail"]["queued"], 0);
    let mut recipients: Vec<String> = server.got().into_iter().flat_map(|d| d.to).collect();
    recipients.sort();
    assert_eq!(recipients, ["one@example.org", "two@example.org"]);
    for delivered in server.got() {
        assert_eq!(event(&Mail::parse(&delivered.text)), "down");
    }
}

#[test]
fn f70_a_server_that_hangs_delays_no_restart_and_loses_no_alert() {
    let server = Server::new();
    server.at("", Do::Hang);
    let scene = smtp(&server, "", &[&Service::new("a")]);
    let outcome = scene.check().exits(1).verdict("a", "restarted");
    assert_eq!(outcome.json()["mail"]["sent"], 0);
    assert_eq!(outcome.json()["mail"]["queued"], 1);
    assert!(alive(scene.last("a")));
    assert_eq!(scene.outbox(), 1);
    server.heal();
    scene.check().exits(0);
    let got = server.got();
    assert_eq!(got.len(), 1, "once");
    assert_eq!(event(&Mail::parse(&got[0].text)), "restarted");
    assert_eq!(scene.outbox(), 0);
    scene.check().exits(0);
    assert!(
        server
            .got()
            .iter()
            .filter(|d| event(&Mail::parse(&d.text)) == "restarted")
            .count()
            == 1
    );
}

#[test]
fn f71_alerts_wait_for_a_server_that_is_down_and_come_in_order() {
    let server = Server::new();
    server.at("", Do::Close);
    let scene = smtp(&server, "", &[&Service::new("a").watched()]);
    scene.check().exits(2);
    scene.check().exits(2);
    let pid = scene.start("a", &["pid_file=a.pid"]);
    scene.check().exits(0);
    assert!(scene.outbox() >= 1);
    server.heal();
    for _ in 0..3 {
        scene.check().exits(0);
    }
    let events: Vec<String> = server
        .got()
        .iter()
        .map(|delivered| event(&Mail::parse(&delivered.text)))
        .collect();
    assert_eq!(events, ["down", "recovered"], "oldest first, each once");
    assert_eq!(scene.outbox(), 0);
    assert!(alive(pid));
}

#[test]
fn f72_a_recipient_who_is_refused_costs_the_others_nothing() {
    let server = Server::new();
    server.refuse("gone@example.org", "550 no such user");
    let scene = Scene::new();
    scene.config(&format!(
        "[mail]\nfrom = \"watchdog@example.org\"\nto = [\"gone@example.org\", \"ops@example.org\"]\n{}\n{}",
        server.table(),
        render(&[&Service::new("a").watched()])
    ));
    for _ in 0..3 {
        scene.check().exits(2);
    }
    let recipients: Vec<String> = server.got().into_iter().flat_map(|d| d.to).collect();
    assert_eq!(recipients, ["ops@example.org"], "once");
    assert_eq!(scene.outbox(), 1, "for the other, tried once an hour");
    assert_eq!(server.connections(), 1);
    let journal = scene.read("state/journal.jsonl");
    assert!(journal.contains("gone@example.org") && journal.contains("550"));
}

#[test]
fn f72_a_recipient_who_is_refused_is_tried_once_an_hour_whatever_becomes_of_another() {
    let server = Server::new();
    server.refuse("gone@example.org", "550 no such user");
    server.refuse("slow@example.org", "451 come back later");
    let scene = Scene::new();
    scene.config(&format!(
        "[mail]\nfrom = \"watchdog@example.org\"\nto = [\"gone@example.org\", \"slow@example.org\"]\n{}\n{}",
        server.table(),
        render(&[&Service::new("a").watched()])
    ));
    let asked = |who: &str| server.heard().matches(&format!("RCPT TO:<{who}")).count();
    for tries in 1..4 {
        scene.check().exits(2);
        assert_eq!((asked("gone@"), asked("slow@")), (1, tries));
    }
    let said = scene.read("state/journal.jsonl");
    assert!(said.contains("it is tried once an hour"), "{said}");
    server.accept("slow@example.org");
    scene.check().exits(2);
    scene.check().exits(2);
    assert_eq!((asked("gone@"), asked("slow@"), scene.outbox()), (1, 4, 1));
    // after an hour
    server.accept("gone@example.org");
    let name = fs::read_dir(scene.path("state/outbox")).unwrap().next();
    let path = name.unwrap().unwrap().path();
    let mut kept: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    kept["refused"]["gone@example.org"]["since"] = "2026-01-01T00:00:00Z".into();
    fs::write(&path, kept.to_string()).unwrap();
    scene.check().exits(2);
    assert_eq!((asked("gone@"), asked("slow@"), scene.outbox()), (2, 4, 0));
}

#[test]
fn f72_a_recipient_who_is_put_off_is_tried_again() {
    let server = Server::new();
    server.refuse("slow@example.org", "451 come back later");
    let scene = Scene::new();
    scene.config(&format!(
        "[mail]\nfrom = \"watchdog@example.org\"\nto = [\"slow@example.org\", \"ops@example.org\"]\n{}\n{}",
        server.table(),
        render(&[&Service::new("a").watched()])
    ));
    scene.check().exits(2);
    assert_eq!(scene.outbox(), 1);
    server.accept("slow@example.org");
    scene.check().exits(2);
    scene.check().exits(2);
    let mut recipients: Vec<String> = server.got().into_iter().flat_map(|d| d.to).collect();
    recipients.sort();
    assert_eq!(
        recipients,
        ["ops@example.org", "slow@example.org"],
        "each once"
    );
    assert_eq!(scene.outbox(), 0);
}

#[test]
fn mail_is_never_sent_in_the_clear_where_tls_is_asked_for() {
    for tls in ["starttls", "tls"] {
        let server = Server::new();
        let scene = Scene::new();
        scene.config(&format!(
            "{ENVELOPE}{}\n{}",
            server.table().replace("\"none\"", &format!("\"{tls}\"")),
            render(&[&Service::new("a").watched()])
        ));
        let outcome = scene.check().exits(2);
        assert_eq!(outcome.json()["mail"]["queued"], 1, "{tls}");
        assert!(server.got().is_empty(), "{tls}");
        assert!(!server.heard().contains("MAIL FROM"), "{tls}");
    }
}

#[test]
fn the_environment_configures_mail_where_the_config_does_not() {
    let server = Server::new();
    let scene = Scene::of(&[&Service::new("a").watched()]);
    let mut command = scene.command(&["check", "--json"]);
    command
        .env("ALERT_EMAIL_TO", "ops@example.org")
        .env("ALERT_EMAIL_FROM", "watchdog@example.org")
        .env("SMTP_SERVER", "127.0.0.1")
        .env("SMTP_PORT", server.port.to_string())
        .env("SMTP_USERNAME", "u")
        .env("SMTP_PASSWORD", "canary-4711");
    let outcome = scene.finish(command).exits(2);
    // STARTTLS it must be, which this server does not have
    assert_eq!(outcome.json()["mail"]["queued"], 1);
    assert!(server.heard().to_uppercase().contains("EHLO"));
    assert!(!server.heard().contains("AUTH"));
    assert!(!outcome.text().contains("canary-4711"));
}

#[test]
fn a_test_mail_is_sent_or_says_why_not() {
    let server = Server::new();
    let scene = smtp(&server, "", &[&Service::new("a")]);
    scene.run(&["test-mail"]).exits(0);
    assert_eq!(server.got().len(), 1);
    assert_eq!(scene.starts("a").len(), 0);
    server.at("", Do::Close);
    let outcome = scene.run(&["test-mail"]).exits(1);
    assert!(!outcome.text().is_empty());
    assert_eq!(scene.outbox(), 0, "a test is not kept");
    let none = Scene::of(&[&Service::new("a")]);
    let outcome = none.run(&["test-mail"]);
    assert!([1, 78].contains(&outcome.code), "{}", outcome.code);
}

#[test]
fn the_last_lines_of_a_log_with_two_tables_are_mailed_once() {
    let service = Service::logs("a")
        .log("path = \"a.log\"\nforbid = ['ERROR']")
        .log("path = \"a.log\"\nseverity = \"warning\"\nforbid = ['ERROR']");
    let scene = mailing("", &[&service]);
    scene.write("a.log", "first\n");
    scene.check().exits(0);
    scene.append("a.log", "before\nERROR\n");
    scene.check().exits(2);
    assert_eq!(scene.mails()[0].body.matches("before").count(), 1);
}

#[test]
fn the_first_run_with_a_new_state_is_told_where_that_is_wanted() {
    for (keys, told) in [
        ("", 0),
        ("min_severity = \"warning\"\n", 0),
        ("min_severity = \"info\"\n", 1),
        ("on = [\"started\"]\n", 1),
    ] {
        let scene = Scene::new();
        scene.config(&format!(
            "{MAIL}{keys}{}",
            render(&[&Service::new("a"), &Service::new("b")])
        ));
        for name in ["a", "b"] {
            scene.start(name, &[&format!("pid_file={name}.pid")]);
        }
        scene.check().exits(0);
        scene.check().exits(0);
        let mails = scene.mails();
        assert_eq!(mails.len(), told, "{keys}");
        if let Some(mail) = mails.first() {
            assert_eq!(mail.header("X-Watchdog-Event").unwrap(), "started");
            assert!(
                mail.body.contains("2 services of its config"),
                "{}",
                mail.body
            );
        }
    }
}
