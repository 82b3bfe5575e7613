//! Mail through real servers: aiosmtpd with TLS and logins, read back by Python's email package.
//!
//! `WATCHDOG_TEST_PYTHON` names a Python that has aiosmtpd, where the distribution's has not.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use watchdog::notify::mail::{self, Mailbox, Message, Secret, Settings, Smtp, Tls, Transport};
use watchdog::notify::{Event, Outcome, Routing};

/// More than any delivery here takes.
const LIMIT: Duration = Duration::from_secs(30);

/// A directory with certificates and the mail that was taken, and the servers.
pub(crate) struct Scene {
    directory: tempfile::TempDir,
    server: Child,
    ports: Value,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/real_smtp");
        let directory = tempfile::tempdir().unwrap();
        let (mail, certificates) = (
            directory.path().join("mail"),
            directory.path().join("certificates"),
        );
        std::fs::create_dir(&mail).unwrap();
        std::fs::create_dir(&certificates).unwrap();
        let made = Command::new("sh")
            .arg(scripts.join("certificates.sh"))
            .arg(&certificates)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        std::fs::write(directory.path().join("pass"), "s3cret\n").unwrap();
        let mut server = crate::scene::python()
            .arg(scripts.join("server.py"))
            .args([&mail, &certificates])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ports = serde_json::from_str(&line)
            .expect("the server starts; where aiosmtpd is missing, see tests/run-all");
        Self {
            directory,
            server,
            ports,
        }
    }

    /// A file beside the servers: `certificates/ca.pem`, `pass`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The port of a kind of server.
    pub(crate) fn port(&self, kind: &str) -> u16 {
        u16::try_from(self.ports[kind].as_u64().unwrap()).unwrap()
    }

    /// The way to a kind of server, with the authority and the login that it wants.
    fn smtp(&self, kind: &str, tls: Tls) -> Smtp {
        Smtp {
            host: "localhost".to_owned(),
            port: self.port(kind),
            tls,
            username: Some("watch".to_owned()).filter(|_| ["starttls", "tls"].contains(&kind)),
            password: Some(Secret::File(self.path("pass"))),
            ca_file: Some(self.path("certificates/ca.pem")),
            timeout: Duration::from_secs(30),
        }
    }

    /// All messages that were taken, in order.
    fn taken(&self) -> Vec<Value> {
        (1..)
            .map_while(|n| std::fs::read_to_string(self.path(&format!("mail/{n}.json"))).ok())
            .map(|text| serde_json::from_str(&text).unwrap())
            .collect()
    }

    /// What a delivery in vain to one recipient says, with the port as PORT.
    fn trouble(&self, smtp: Smtp) -> String {
        let port = smtp.port.to_string();
        let report = mail::send(&settings(smtp, &["ops@example.org"]), &message());
        let Outcome::Deferred {
            why,
            maybe_delivered: false,
        } = &report.recipients[0].outcome
        else {
            panic!("{report:?}");
        };
        assert_eq!(self.taken(), Vec::<Value>::new(), "{why}");
        why.replace(&port, "PORT")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn settings(smtp: Smtp, to: &[&str]) -> Settings {
    Settings {
        from: Mailbox::parse("Watchdog <watchdog@example.org>").unwrap(),
        to: to.iter().map(|to| Mailbox::parse(to).unwrap()).collect(),
        routing: Routing {
            on: Vec::new(),
            min_severity: None,
            services: vec!["*".to_owned()],
            remind_every: Duration::from_hours(1),
            max_per_hour: 12,
            escalate_after: Duration::ZERO,
            quiet: None,
        },
        timeout: None,
        transport: Transport::Smtp(smtp),
    }
}

fn message() -> Message {
    Message {
        subject: "[watchdog] box1: trader restarted".to_owned(),
        body: "trader was restarted and is up again.\n".to_owned(),
        services: vec!["trader".to_owned(), "feed".to_owned()],
        event: Event::Restarted,
        time: "2026-11-22T01:02:03Z".parse().unwrap(),
        message_id: "<20261122T010203Z.trader.1@box1>".to_owned(),
        in_reply_to: Some("<b@box1>".to_owned()),
        references: vec!["<a@box1>".to_owned(), "<b@box1>".to_owned()],
    }
}

fn headers(taken: &Value) -> Vec<(String, String)> {
    let pairs = taken["headers"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    pairs
        .iter()
        .map(|pair| (text(&pair[0]), text(&pair[1])))
        .collect()
}

#[test]
#[ignore = "needs aiosmtpd and openssl"]
fn mail_goes_out_by_every_kind_of_connection() {
    let scene = Scene::new();
    for (kind, tls, login) in [
        ("plain", Tls::None, ""),
        ("optional", Tls::Starttls, ""),
        ("starttls", Tls::Starttls, "watch"),
        ("tls", Tls::Tls, "watch"),
    ] {
        let before = scene.taken().len();
        let report = mail::send(
            &settings(
                scene.smtp(kind, tls),
                &["ops@example.org", "Boss <boss@example.org>"],
            ),
            &message(),
        );
        assert!(
            report
                .recipients
                .iter()
                .all(|r| r.outcome == Outcome::Delivered),
            "{kind}: {report:?}"
        );
        let all = scene.taken();
        assert_eq!(all.len(), before + 1, "{kind}");
        let taken = all.last().unwrap();
        assert_eq!(taken["login"], login, "{kind}");
        assert_eq!(taken["tls"], tls != Tls::None, "{kind}");
        assert_eq!(taken["from"], "watchdog@example.org");
        assert_eq!(
            taken["to"],
            serde_json::json!(["ops@example.org", "boss@example.org"])
        );
        assert_eq!(taken["defects"], serde_json::json!([]));
        assert_eq!(taken["body"], "trader was restarted and is up again.\n");
        let expected = [
            ("From", "Watchdog <watchdog@example.org>"),
            ("Date", "Sun, 22 Nov 2026 01:02:03 +0000"),
            ("Subject", "[watchdog] box1: trader restarted"),
            ("To", "ops@example.org, Boss <boss@example.org>"),
            ("Message-ID", "<20261122T010203Z.trader.1@box1>"),
            ("In-Reply-To", "<b@box1>"),
            ("References", "<a@box1> <b@box1>"),
            ("Auto-Submitted", "auto-generated"),
            ("X-Watchdog-Service", "trader, feed"),
            ("X-Watchdog-Event", "restarted"),
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=\"utf-8\""),
            ("Content-Transfer-Encoding", "7bit"),
        ];
        let expected: Vec<(String, String)> = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(headers(taken), expected, "{kind}");
    }
}

#[test]
#[ignore = "needs aiosmtpd and openssl"]
fn f74_odd_texts_arrive_whole_and_add_no_header() {
    let scene = Scene::new();
    let long = "x".repeat(5000);
    for body in [
        ".\n..\n.hidden\nlast\n".to_owned(),
        format!("short\n{long}\n.\nshort\n"),
        format!("größe 漢字\n.\nü{long}\n"),
        "From here on\n trailing  \n\n\n=20 a=b\n".to_owned(),
    ] {
        let mut odd = message();
        odd.body.clone_from(&body);
        odd.subject = "[watchdog] größe: 漢字\r\nBcc: thief@example.org\r\n\r\nhello".to_owned();
        odd.services = vec!["a\r\nBcc: thief@example.org".to_owned()];
        let report = mail::send(
            &settings(scene.smtp("starttls", Tls::Starttls), &["ops@example.org"]),
            &odd,
        );
        assert_eq!(report.recipients[0].outcome, Outcome::Delivered);
        let all = scene.taken();
        let taken = all.last().unwrap();
        assert_eq!(taken["body"].as_str().unwrap(), body);
        assert_eq!(taken["defects"], serde_json::json!([]));
        assert!(taken["longest"].as_u64().unwrap() <= 998);
        let headers = headers(taken);
        assert_eq!(headers.len(), 13, "{headers:?}");
        assert_eq!(
            headers[2].1,
            "[watchdog] größe: 漢字\\x0d\\x0aBcc: thief@example.org\\x0d\\x0a\\x0d\\x0ahello"
        );
    }
}

#[test]
#[ignore = "needs aiosmtpd and openssl"]
fn f72_recipients_are_told_apart_and_the_rest_is_tried_again() {
    let scene = Scene::new();
    let to = ["gone@x.org", "full@x.org", "grey@x.org", "ops@x.org"];
    let smtp = scene.smtp("starttls", Tls::Starttls);
    let at = format!("localhost:{}", smtp.port);
    let settings = settings(smtp, &to);
    let report = mail::send(&settings, &message());
    let outcomes: Vec<&Outcome> = report.recipients.iter().map(|r| &r.outcome).collect();
    assert_eq!(
        outcomes,
        [
            &Outcome::Refused(format!("{at}: 550 5.1.1 No such user")),
            &Outcome::deferred(format!("{at}: 452 4.2.2 Mailbox full")),
            &Outcome::deferred(format!("{at}: 450 4.2.0 Greylisted")),
            &Outcome::Delivered,
        ]
    );
    let again = mail::send_to(&settings, &report.pending(), &message(), LIMIT);
    assert_eq!(again.pending(), ["gone@x.org", "full@x.org"]);
    let taken = scene.taken();
    assert_eq!(taken.len(), 2);
    assert_eq!(taken[0]["to"], serde_json::json!(["ops@x.org"]));
    assert_eq!(taken[1]["to"], serde_json::json!(["grey@x.org"]));
    assert_eq!(headers(&taken[0]), headers(&taken[1]), "the same message");

    let mut refused = message();
    refused.subject = "DATA554".to_owned();
    let report = mail::send_to(&settings, &["ops@x.org".to_owned()], &refused, LIMIT);
    assert_eq!(
        report.recipients[0].outcome,
        Outcome::Refused(format!("{at}: 554 5.7.1 Message refused"))
    );
    refused.subject = "DATA451".to_owned();
    let report = mail::send_to(&settings, &["ops@x.org".to_owned()], &refused, LIMIT);
    assert_eq!(
        report.recipients[0].outcome,
        Outcome::deferred(format!("{at}: 451 4.3.0 Try later"))
    );
}

#[test]
#[ignore = "needs aiosmtpd and openssl"]
fn no_server_is_believed_without_a_good_certificate() {
    let scene = Scene::new();
    assert_eq!(
        scene.trouble(scene.smtp("other", Tls::Starttls)),
        "localhost:PORT: the server's certificate is not valid for the name `localhost` (it is for other.example); set [mail] host to a name that it has"
    );
    assert_eq!(
        scene.trouble(scene.smtp("expired", Tls::Starttls)),
        "localhost:PORT: the server's certificate ended at 2020-01-02T00:00:00Z; renew it (or is the clock of this host wrong)"
    );
    let untrusted = "localhost:PORT: the server's certificate comes from an authority that is not trusted here; set ca_file to the certificate of that authority";
    assert_eq!(scene.trouble(scene.smtp("alone", Tls::Starttls)), untrusted);
    for (kind, tls) in [("starttls", Tls::Starttls), ("tls", Tls::Tls)] {
        let smtp = Smtp {
            ca_file: None,
            ..scene.smtp(kind, tls)
        };
        assert_eq!(scene.trouble(smtp), untrusted);
    }
    // one that signed itself is trusted where it was named, whatever it may sign
    for kind in ["alone", "own"] {
        let smtp = Smtp {
            ca_file: Some(scene.path(&format!("certificates/{kind}.pem"))),
            ..scene.smtp(kind, Tls::Starttls)
        };
        let report = mail::send(&settings(smtp, &["ops@example.org"]), &message());
        assert_eq!(report.recipients[0].outcome, Outcome::Delivered, "{kind}");
    }
}

#[test]
#[ignore = "needs aiosmtpd and openssl"]
fn a_config_that_does_not_fit_the_server_is_explained() {
    let scene = Scene::new();
    assert_eq!(
        scene.trouble(scene.smtp("plain", Tls::Starttls)),
        "localhost:PORT: the server does not offer STARTTLS, and nothing is sent in clear; use tls = \"tls\" (mostly port 465), or tls = \"none\" where the way to it is safe"
    );
    assert_eq!(
        scene.trouble(scene.smtp("plain", Tls::Tls)),
        "localhost:PORT: the server does not speak TLS there; use tls = \"starttls\" (mostly port 587)"
    );
    std::fs::write(scene.path("wrong"), "canary\n").unwrap();
    let wrong = Smtp {
        password: Some(Secret::File(scene.path("wrong"))),
        ..scene.smtp("tls", Tls::Tls)
    };
    assert_eq!(
        scene.trouble(wrong),
        "localhost:PORT: the server refused the user name `watch` or its password: 535 5.7.8 Authentication credentials invalid; check [mail] username and its password"
    );
    let none = Smtp {
        username: None,
        ..scene.smtp("starttls", Tls::Starttls)
    };
    assert_eq!(
        scene.trouble(none),
        "localhost:PORT: MAIL FROM: 530 5.7.0 Authentication required; the server wants a login: set username and password_file"
    );
    let clear = Smtp {
        username: Some("watch".to_owned()),
        ..scene.smtp("starttls", Tls::None)
    };
    assert_eq!(
        scene.trouble(clear),
        "localhost:PORT: the server offers no login that is known here (PLAIN, LOGIN); most offer it only with TLS: use tls = \"starttls\", or leave out username"
    );
    let needless = Smtp {
        username: Some("watch".to_owned()),
        ..scene.smtp("mute", Tls::Starttls)
    };
    assert_eq!(
        scene.trouble(needless),
        "localhost:PORT: the server offers no login that is known here (PLAIN, LOGIN); leave out username where none is needed"
    );
    // a client that waits for a greeting, and a server that waits for TLS to begin
    let waiting = Smtp {
        timeout: Duration::from_secs(1),
        username: None,
        ..scene.smtp("tls", Tls::None)
    };
    assert_eq!(
        scene.trouble(waiting),
        "no answer within 1s from localhost:PORT (last step: waiting for its greeting); if that port wants TLS from the start, use tls = \"tls\""
    );
}
