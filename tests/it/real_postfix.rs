//! Mail through a real Postfix with TLS and a login, delivered to a Maildir and read back by Python's email package.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::scene::{Scene, Service, free_port, render, wait_until};

/// A scene, and a Postfix in its directory that is yet to be started.
struct Post {
    scene: Scene,
    starttls: u16,
    tls: u16,
}

/// A message as Python reads it.
struct Letter {
    headers: BTreeMap<String, String>,
    body: String,
}

impl Letter {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/real_smtp")
        .join(name)
}

impl Post {
    fn new() -> Self {
        let scene = Scene::new();
        // Postfix has users of its own
        fs::set_permissions(scene.path("."), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(scene.path("certificates")).unwrap();
        let made = Command::new("sh")
            .arg(script("certificates.sh"))
            .arg(scene.path("certificates"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        scene.write("pass", "s3cret\n");
        fs::set_permissions(scene.path("pass"), fs::Permissions::from_mode(0o600)).unwrap();
        Self {
            scene,
            starttls: free_port(),
            tls: free_port(),
        }
    }

    /// Starts Postfix, and waits until it greets.
    fn start(&self) {
        let log = fs::File::create(self.scene.path("postfix.log")).unwrap();
        let mut master = Command::new("sh")
            .arg(script("postfix.sh"))
            .args([self.scene.path("postfix"), self.scene.path("certificates")])
            .args([self.starttls.to_string(), self.tls.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        // the scene ends all that has its directory in its command line
        std::thread::spawn(move || master.wait());
        wait_until("Postfix", || {
            TcpStream::connect(("127.0.0.1", self.starttls)).is_ok_and(|stream| {
                let mut line = String::new();
                BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("220")
            })
        });
    }

    fn config(&self, tls: &str, to: &str, keys: &str, services: &[&Service]) {
        let port = if tls == "tls" {
            self.tls
        } else {
            self.starttls
        };
        self.scene.config(&format!(
            "[mail]\nfrom = \"Watchdog <watchdog@example.org>\"\nto = [{to}]\n{keys}
smtp = {{ host = \"localhost\", port = {port}, tls = \"{tls}\", username = \"watch@localhost\", password_file = \"{{dir}}/pass\", ca_file = \"{{dir}}/certificates/ca.pem\" }}
{}",
            render(services)
        ));
    }

    /// The messages that have come so far.
    fn letters(&self) -> Vec<Letter> {
        let output = crate::scene::python()
            .arg(script("maildir.py"))
            .arg(self.scene.path("postfix/mail/Maildir"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let letter = |value: &Value| {
            assert_eq!(value["defects"], json!([]));
            let headers = value["headers"].as_array().unwrap().iter();
            Letter {
                headers: headers
                    .map(|pair| (text(&pair[0]), text(&pair[1])))
                    .collect(),
                body: text(&value["body"]),
            }
        };
        all.iter().map(letter).collect()
    }

    /// Waits for so many messages.
    fn wait_for(&self, count: usize) -> Vec<Letter> {
        self.scene
            .wait_until("the mail", || self.letters().len() >= count);
        let letters = self.letters();
        assert_eq!(letters.len(), count);
        letters
    }
}

#[test]
#[ignore = "needs root, postfix, sasl2-bin and openssl"]
fn an_incident_arrives_whole_as_one_thread() {
    let post = Post::new();
    let scene = &post.scene;
    post.start();
    let odd = "gr\u{f6}\u{df}e \u{6f22}\u{5b57} \u{1b}[31m";
    let service = Service::new("a")
        .option("exit=1")
        .restart("max_per_hour", "1")
        .spawn("stderr", "\"a.err\"")
        .spawn(
            "command",
            &format!(
                "[\"/bin/sh\", \"-c\", 'printf \"%s\\n\" \"{}\" . .. \"From here\" {} >&2; exit 3']",
                odd.replace('\u{1b}', ""),
                "x".repeat(3000)
            ),
        );
    post.config("starttls", "\"ops@example.org\"", "", &[&service]);
    let outcome = scene.check().exits(2).verdict("a", "restart_failed");
    assert_eq!(outcome.json()["mail"], json!({"sent": 1, "queued": 0}));
    scene.check().exits(2).verdict("a", "exhausted");
    scene.start("a", &["pid_file=a.pid"]);
    scene.check().exits(0);
    let letters = post.wait_for(3);
    let host = outcome.json()["host"].as_str().unwrap().to_owned();
    let events: Vec<&str> = letters
        .iter()
        .map(|letter| letter.header("X-Watchdog-Event"))
        .collect();
    assert_eq!(events, ["restart_failed", "exhausted", "recovered"]);
    assert_eq!(
        letters[0].header("Subject"),
        format!("[watchdog] {host}: a restart failed")
    );
    let body = &letters[0].body;
    for line in [
        "> .\n",
        "> ..\n",
        "> From here\n",
        "> gr\u{f6}\u{df}e \u{6f22}\u{5b57}",
    ] {
        assert!(body.contains(line), "{line}: {body}");
    }
    assert!(body.contains(&"x".repeat(200)), "{body}");
    assert!(
        body.ends_with(&format!("watchdog {}\n", env!("CARGO_PKG_VERSION"))),
        "{body}"
    );
    for letter in &letters {
        assert_eq!(letter.header("Auto-Submitted"), "auto-generated");
        assert_eq!(letter.header("X-Watchdog-Service"), "a");
        assert_eq!(letter.header("From"), "Watchdog <watchdog@example.org>");
    }
    let ids: Vec<&str> = letters.iter().map(|l| l.header("Message-ID")).collect();
    assert_eq!(letters[0].header("References"), "");
    assert_eq!(letters[1].header("In-Reply-To"), ids[0]);
    assert_eq!(letters[2].header("In-Reply-To"), ids[1]);
    assert_eq!(
        letters[2].header("References"),
        format!("{} {}", ids[0], ids[1])
    );
}

#[test]
#[ignore = "needs root, postfix, sasl2-bin and openssl"]
fn f71_f72_what_waits_for_a_server_and_what_it_refuses() {
    let post = Post::new();
    let scene = &post.scene;
    let to = "\"gone@example.org\", \"full@example.org\", \"ops@example.org\"";
    post.config("tls", to, "", &[&Service::new("a").watched()]);
    let outcome = scene.check().exits(2);
    assert_eq!(outcome.json()["mail"], json!({"sent": 0, "queued": 1}));
    assert!(
        outcome.stderr.contains("is a mail server running there"),
        "{}",
        outcome.stderr
    );
    post.start();
    let outcome = scene.check().exits(2);
    assert_eq!(outcome.json()["mail"], json!({"sent": 1, "queued": 1}));
    let outcome = scene.check().exits(2);
    assert_eq!(outcome.json()["mail"], json!({"sent": 0, "queued": 1}));
    let letters = post.wait_for(1);
    assert_eq!(letters[0].header("X-Watchdog-Event"), "down");
    let journal = scene.read("state/journal.jsonl");
    assert_eq!(
        journal.matches("550 5.1.1").count(),
        1,
        "not at each try: {journal}"
    );
    assert!(
        journal.contains("452 4.2.2") && journal.contains("mail_refused"),
        "{journal}"
    );
    let left = fs::read_dir(scene.path("state/outbox"))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let left: Vec<Value> = left
        .map(|text| serde_json::from_str(&text).unwrap())
        .collect();
    assert_eq!(
        left[0]["recipients"],
        json!(["gone@example.org", "full@example.org"])
    );
}

#[test]
#[ignore = "needs root, postfix, sasl2-bin and openssl"]
fn a_test_mail_tells_of_tls_and_login_and_of_what_is_wrong() {
    let post = Post::new();
    let scene = &post.scene;
    post.start();
    for (tls, port) in [("starttls", post.starttls), ("tls", post.tls)] {
        post.config(
            tls,
            "\"ops@example.org\"",
            "",
            &[&Service::new("a").watched()],
        );
        let outcome = scene.run(&["test-mail"]).exits(0);
        for step in [
            "localhost is at ",
            &format!("connected to 127.0.0.1:{port}"),
            "server greeting: 220 localhost ESMTP",
            "TLS 1.3, the certificate is good; it is for localhost",
            "logged in as `watch@localhost`",
            "recipient ops@example.org accepted",
            "message taken: 250 ",
            "ops@example.org: sent",
        ] {
            assert!(outcome.words().contains(step), "{step}: {}", outcome.stdout);
        }
    }
    let letters = post.wait_for(2);
    assert_eq!(letters[1].header("X-Watchdog-Event"), "test");
    for (right, wrong, told) in [
        (
            "tls = \"tls\"",
            "tls = \"starttls\"",
            "(last step: waiting for its greeting); if that port wants TLS from the start, use tls = \"tls\"",
        ),
        (
            "ca.pem",
            "alone.pem",
            "comes from an authority that is not trusted here; set ca_file",
        ),
        (
            "watch@localhost",
            "nobody",
            "refused the user name `nobody` or its password: 535 5.7.8",
        ),
    ] {
        let config = scene.read("watchdog.toml");
        let changed = config
            .replace(right, wrong)
            .replace("ca_file", "timeout = \"2s\", ca_file");
        scene.raw_config(&changed);
        let outcome = scene.run(&["test-mail"]).exits(1);
        assert!(outcome.words().contains(told), "{told}: {}", outcome.stdout);
        scene.raw_config(&config);
    }
}

#[test]
#[ignore = "needs root, postfix, sasl2-bin and openssl"]
fn its_own_sendmail_takes_what_is_handed_to_it() {
    let post = Post::new();
    let scene = &post.scene;
    post.start();
    scene.write(
        "sendmail",
        scene.fill("#!/bin/sh\nexec /usr/sbin/sendmail -C {dir}/postfix/etc \"$@\"\n"),
    );
    fs::set_permissions(scene.path("sendmail"), fs::Permissions::from_mode(0o755)).unwrap();
    scene.config(&format!(
        "[mail]\nfrom = \"watchdog@example.org\"\nto = [\"ops@example.org\"]\nsendmail = {{ command = \"{{dir}}/sendmail\" }}\n{}",
        render(&[&Service::new("a").watched()])
    ));
    let outcome = scene.check().exits(2);
    assert_eq!(outcome.json()["mail"], json!({"sent": 1, "queued": 0}));
    let letters = post.wait_for(1);
    assert_eq!(letters[0].header("X-Watchdog-Event"), "down");
    assert!(
        letters[0].body.starts_with("a is broken"),
        "{}",
        letters[0].body
    );
}
