//! Sessions with servers that have one fault each.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use super::super::tests::{mailbox, message, settings};
use super::super::{Secret, Transport, send};
use super::*;
use crate::notify::DeliveryReport;
use crate::notify::report::Paused;

/// What a server does when it is connected to (`""`), is sent a command, or a whole message (`"."`).
enum Do {
    Say(&'static str),
    /// Says something and then nothing more.
    Hang(&'static str),
    HangUp,
    /// Resets the connection at the first line of the message.
    ResetInMessage,
    /// The same line for ever.
    Flood(&'static str),
    /// A byte every half second.
    Drip(&'static str),
}

/// A server for one connection, and what it was told.
struct Server {
    port: u16,
    thread: JoinHandle<Vec<String>>,
}

impl Server {
    fn start(script: impl Fn(&str) -> Do + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut heard = Vec::new();
            // the client hangs up as it likes
            let _ = converse(&stream, &script, &mut heard);
            heard
        });
        Self { port, thread }
    }

    /// What it was told: to be asked when the client is done.
    fn heard(self) -> Vec<String> {
        self.thread.join().unwrap()
    }
}

fn converse(
    mut stream: &TcpStream,
    script: &impl Fn(&str) -> Do,
    heard: &mut Vec<String>,
) -> io::Result<()> {
    let mut lines = BufReader::new(stream);
    let mut command = String::new();
    let mut in_message = false;
    loop {
        let whole = !in_message || command == ".";
        if whole {
            in_message = false;
            match script(&command) {
                Do::Say(text) => {
                    in_message = text.starts_with("354");
                    stream.write_all(format!("{text}\r\n").as_bytes())?;
                }
                Do::Hang(text) => {
                    stream.write_all(text.as_bytes())?;
                    return io::copy(&mut lines, &mut io::sink()).map(|_| ());
                }
                Do::HangUp => return Ok(()),
                Do::ResetInMessage => {
                    stream.write_all(b"354 go on\r\n")?;
                    lines.read_line(&mut command)?;
                    // with the rest of the message unread, closing is a reset
                    return Ok(());
                }
                Do::Flood(line) => loop {
                    stream.write_all(line.as_bytes())?;
                },
                Do::Drip(text) => {
                    for byte in format!("{text}\r\n").bytes() {
                        stream.write_all(&[byte])?;
                        std::thread::sleep(Duration::from_millis(500));
                    }
                }
            }
        }
        command.clear();
        if lines.read_line(&mut command)? == 0 {
            return Ok(());
        }
        command.truncate(command.trim_end_matches(['\r', '\n']).len());
        heard.push(command.clone());
    }
}

/// A server without a fault.
fn good(command: &str) -> Do {
    let verb = command.split([' ', ':']).next().unwrap_or_default();
    Do::Say(match verb {
        "" => "220-hello\r\n220 there",
        "EHLO" => "250-fault\r\n250-auth PLAIN login\r\n250 8BITMIME",
        "AUTH" => "235 2.7.0 welcome",
        "MAIL" | "RCPT" | "." => "250 2.0.0 Ok",
        "DATA" => "354 go on",
        "QUIT" => "221 bye",
        _ => "502 what",
    })
}

pub(super) fn smtp(port: u16) -> Smtp {
    Smtp {
        host: "127.0.0.1".to_owned(),
        port,
        tls: Tls::None,
        username: None,
        password: None,
        ca_file: None,
        timeout: Duration::from_secs(10),
    }
}

fn try_it(smtp: Smtp) -> DeliveryReport {
    let mut settings = settings(Transport::Smtp(smtp));
    settings.to = ["ops@example.org", "gone@example.org", "full@example.org"]
        .map(mailbox)
        .to_vec();
    send(&settings, &message())
}

/// The one trouble that all recipients share, with the port as PORT, and whether they may have got it.
fn shared_trouble(report: &DeliveryReport, port: u16) -> (String, bool) {
    let first = &report.recipients[0].outcome;
    assert!(
        report.recipients.iter().all(|r| r.outcome == *first),
        "{report:?}"
    );
    let Outcome::Deferred {
        why,
        maybe_delivered,
    } = first
    else {
        panic!("{report:?}");
    };
    (why.replace(&format!(":{port}"), ":PORT"), *maybe_delivered)
}

/// Runs one session against a server that is good but for what `fault` says.
fn against(timeout_ms: u64, fault: impl Fn(&str) -> Option<Do> + Send + 'static) -> (String, bool) {
    let server = Server::start(move |command| fault(command).unwrap_or_else(|| good(command)));
    let port = server.port;
    let began = Instant::now();
    let report = try_it(Smtp {
        timeout: Duration::from_millis(timeout_ms),
        ..smtp(port)
    });
    assert!(began.elapsed() < Duration::from_mins(1), "no deadline held");
    server.heard();
    shared_trouble(&report, port)
}

#[test]
fn silence_is_told_with_the_step_and_what_may_be_behind_it() {
    let on = |port, tls| Smtp {
        tls,
        timeout: Duration::from_secs(9),
        ..smtp(port)
    };
    let hung = "127.0.0.1:25: not even begun within 9s: reading the password and the certificates hangs; does the \
                file system answer";
    assert_eq!(no_answer(&on(25, Tls::None), Step::Preparing), hung);
    for (port, tls, step, said) in [
        (
            25,
            Tls::None,
            Step::Lookup,
            "looking up the host name); does the name server answer (/etc/resolv.conf)",
        ),
        (
            25,
            Tls::None,
            Step::Connect,
            "connecting); is there a firewall between",
        ),
        (
            465,
            Tls::Starttls,
            Step::Greeting,
            "waiting for its greeting); port 465 wants tls = \"tls\"",
        ),
        (
            25,
            Tls::Starttls,
            Step::Greeting,
            "waiting for its greeting); if that port wants TLS from the start, use tls = \"tls\"",
        ),
        (465, Tls::Tls, Step::Greeting, "waiting for its greeting)"),
        (465, Tls::Tls, Step::Handshake, "the TLS handshake)"),
        (25, Tls::None, Step::Ehlo, "EHLO)"),
        (25, Tls::None, Step::Starttls, "STARTTLS)"),
        (25, Tls::None, Step::Auth, "AUTH)"),
        (25, Tls::None, Step::Mail, "MAIL FROM)"),
        (25, Tls::None, Step::Rcpt, "RCPT TO)"),
        (25, Tls::None, Step::Data, "DATA)"),
        (25, Tls::None, Step::Message, "sending the message)"),
        (
            25,
            Tls::None,
            Step::End,
            "waiting for its answer to the message)",
        ),
        (25, Tls::None, Step::Goodbye, "QUIT)"),
    ] {
        assert_eq!(
            no_answer(&on(port, tls), step),
            format!("no answer within 9s from 127.0.0.1:{port} (last step: {said}")
        );
    }
}

#[test]
fn a_host_that_no_certificate_can_name_is_said() {
    // this host's, by an old way to write it: it is found, and is no name
    let server = Server::start(good);
    let port = server.port;
    let report = try_it(Smtp {
        host: "127.1".to_owned(),
        tls: Tls::Tls,
        ..smtp(port)
    });
    assert_eq!(
        shared_trouble(&report, port).0,
        "127.1:PORT: `127.1` is not a host name that a certificate can have"
    );
}

#[test]
fn a_server_that_is_silent_or_hangs_up_in_a_handshake_is_told_so() {
    let against_tls = |fault: fn() -> Do| {
        let server = Server::start(move |_| fault());
        let port = server.port;
        let report = try_it(Smtp {
            tls: Tls::Tls,
            timeout: Duration::from_secs(2),
            ..smtp(port)
        });
        server.heard();
        shared_trouble(&report, port)
    };
    assert_eq!(
        against_tls(|| Do::Hang("")),
        (
            "no answer within 2s from 127.0.0.1:PORT (last step: the TLS handshake)".to_owned(),
            false
        )
    );
    assert_eq!(
        against_tls(|| Do::HangUp),
        (
            "127.0.0.1:PORT: the server hung up (last step: the TLS handshake)".to_owned(),
            false
        )
    );
}

#[test]
fn a_message_goes_to_all_in_one_session() {
    let server = Server::start(good);
    let report = try_it(smtp(server.port));
    assert!(
        report
            .recipients
            .iter()
            .all(|r| r.outcome == Outcome::Delivered),
        "{report:?}"
    );
    let heard = server.heard();
    assert!(heard[0].starts_with("EHLO "), "{heard:?}");
    assert_eq!(
        heard[1..6],
        [
            "MAIL FROM:<watchdog@example.org>",
            "RCPT TO:<ops@example.org>",
            "RCPT TO:<gone@example.org>",
            "RCPT TO:<full@example.org>",
            "DATA",
        ]
    );
    assert_eq!(heard[heard.len() - 2..], [".", "QUIT"]);
}

#[test]
fn f72_a_refused_recipient_costs_the_others_nothing() {
    let server = Server::start(|command| match command {
        "RCPT TO:<gone@example.org>" => Do::Say("550-5.1.1 no such\r\n550 5.1.1 user\x1b[2J"),
        "RCPT TO:<full@example.org>" => Do::Say("452 4.2.2 mailbox full"),
        command => good(command),
    });
    let at = format!("127.0.0.1:{}", server.port);
    let report = try_it(smtp(server.port));
    let outcomes: Vec<&Outcome> = report.recipients.iter().map(|r| &r.outcome).collect();
    assert_eq!(
        outcomes,
        [
            &Outcome::Delivered,
            &Outcome::Refused(format!("{at}: 550 5.1.1 no such / 5.1.1 user\\x1b[2J")),
            &Outcome::deferred(format!("{at}: 452 4.2.2 mailbox full")),
        ]
    );
    assert_eq!(report.pending(), ["gone@example.org", "full@example.org"]);
    assert_eq!(
        report.pause, None,
        "the next run tries the one that is put off"
    );
    assert!(server.heard().contains(&".".to_owned()));
}

#[test]
fn f72_what_is_refused_for_all_is_told_for_each() {
    for (fault, reply) in [("DATA", "554 5.5.1 no"), (".", "552 5.3.4 too big")] {
        let server = Server::start(move |command| match command {
            "RCPT TO:<full@example.org>" => Do::Say("450 4.2.0 greylisted"),
            command if command == fault => Do::Say(reply),
            command => good(command),
        });
        let report = try_it(smtp(server.port));
        let Outcome::Refused(why) = &report.recipients[0].outcome else {
            panic!("{report:?}");
        };
        assert!(why.ends_with(reply), "{why}");
        assert_eq!(report.pending().len(), 3);
        assert_eq!(report.pause, None);
    }
    for (fault, reply) in [("DATA", "451 4.3.0 later"), (".", "451 4.3.0 later")] {
        let (why, maybe) = against(10_000, move |command| {
            (command == fault).then_some(Do::Say(reply))
        });
        assert!(why.ends_with(reply) && !maybe, "{why}");
    }
}

#[test]
fn what_is_refused_waits_for_an_hour_and_all_else_only_where_everybody_is_refused() {
    for (fault, whom) in [
        ("RCPT TO:<gone@example.org>", Paused::Message),
        ("DATA", Paused::Message),
        (".", Paused::Message),
        ("RCPT", Paused::Channel),
    ] {
        let server = Server::start(move |command| match command {
            command if command == fault => Do::Say("550 5.7.1 no"),
            command if fault == "RCPT" && command.starts_with(fault) => Do::Say("550 5.7.1 no"),
            command => good(command),
        });
        let report = try_it(smtp(server.port));
        let pause = report.pause.unwrap();
        assert_eq!((pause.whom, pause.length), (whom, Duration::from_hours(1)));
        assert!(pause.until_changed, "{fault}");
        assert_eq!(report.transport_failed, whom == Paused::Channel, "{fault}");
    }
}

#[test]
fn too_many_recipients_and_missing_logins_are_not_the_recipients_fault() {
    for reply in ["552 too many", "530 5.7.0 authenticate first", "503 what"] {
        let (why, maybe) = against(10_000, move |command| {
            command.starts_with("RCPT").then_some(Do::Say(reply))
        });
        assert_eq!(why, format!("127.0.0.1:PORT: {reply}"));
        assert!(!maybe);
    }
}

#[test]
fn a_server_that_refuses_us_is_a_config_to_mend() {
    for (fault, reply, told) in [
        ("", "554 go away", "waiting for its greeting: 554 go away"),
        (
            "",
            "421 4.3.2 shutting down",
            "waiting for its greeting: 421 4.3.2 shutting down",
        ),
        ("EHLO", "502 what", "EHLO: 502 what"),
        (
            "MAIL",
            "553 5.1.8 who",
            "MAIL FROM: 553 5.1.8 who; check [mail] from",
        ),
        (
            "MAIL",
            "530 5.7.0 who",
            "MAIL FROM: 530 5.7.0 who; the server wants a login: set username and password_file",
        ),
        ("MAIL", "451 4.3.0 not now", "MAIL FROM: 451 4.3.0 not now"),
        ("MAIL", "421 bye", "MAIL FROM: 421 bye"),
        ("RCPT", "421 bye", "421 bye"),
    ] {
        let (why, maybe) = against(10_000, move |command| {
            (command.split(' ').next() == Some(fault)).then_some(Do::Say(reply))
        });
        assert_eq!(why, format!("127.0.0.1:PORT: {told}"));
        assert!(!maybe);
    }
}

#[test]
fn f70_a_server_that_says_nothing_is_left_at_the_deadline() {
    let cases = [
        ("", "waiting for its greeting", false),
        ("EHLO", "EHLO", false),
        ("MAIL", "MAIL FROM", false),
        ("RCPT", "RCPT TO", false),
        ("DATA", "DATA", false),
        (".", "waiting for its answer to the message", true),
    ];
    // side by side, so that each can have the time that a busy machine takes to come so far
    std::thread::scope(|scope| {
        for (fault, step, after) in cases {
            scope.spawn(move || {
                let (why, maybe) = against(3000, move |command| {
                    (command.split(' ').next() == Some(fault)).then_some(Do::Hang(""))
                });
                let told = format!("no answer within 3s from 127.0.0.1:PORT (last step: {step})");
                assert!(why.starts_with(&told), "{why}");
                assert_eq!(
                    maybe, after,
                    "only a message whose end was sent may have arrived"
                );
            });
        }
    });
}

#[test]
fn f70_what_was_settled_before_a_hang_stays_settled() {
    let server = Server::start(|command| match command {
        "RCPT TO:<gone@example.org>" => Do::Say("550 no"),
        "DATA" => Do::Hang(""),
        command => good(command),
    });
    let report = try_it(Smtp {
        timeout: Duration::from_secs(3),
        ..smtp(server.port)
    });
    assert_eq!(report.pending().len(), 3);
    assert!(
        matches!(report.recipients[1].outcome, Outcome::Refused(_)),
        "{report:?}"
    );
}

#[test]
fn answers_without_end_are_left() {
    let (why, _) = against(10_000, |command| {
        command
            .starts_with("EHLO")
            .then_some(Do::Flood("250-X-ENDLESS xxxxxxxxxxxxxxxxxxx\r\n"))
    });
    assert_eq!(
        why,
        "127.0.0.1:PORT: the server's answer has no end (last step: EHLO)"
    );
    let (why, _) = against(10_000, |command| {
        command
            .starts_with("EHLO")
            .then_some(Do::Flood("250-xxxxxxxxxxxxxxxxxxxxxxxx"))
    });
    assert_eq!(
        why,
        "127.0.0.1:PORT: the server's answer has no end (last step: EHLO)"
    );
    let (why, _) = against(1200, |command| {
        command
            .is_empty()
            .then_some(Do::Drip("220 a very slow server indeed"))
    });
    assert_eq!(
        why,
        "no answer within 1.2s from 127.0.0.1:PORT (last step: waiting for its greeting); if that port wants TLS from the start, use tls = \"tls\""
    );
}

#[test]
fn a_server_that_hangs_up_is_told_with_the_step() {
    for (fault, step, after) in [
        ("", "waiting for its greeting", false),
        ("MAIL", "MAIL FROM", false),
        (".", "waiting for its answer to the message", true),
    ] {
        let (why, maybe) = against(10_000, move |command| {
            (command.split(' ').next() == Some(fault)).then_some(Do::HangUp)
        });
        assert_eq!(
            why,
            format!("127.0.0.1:PORT: the server hung up (last step: {step})")
        );
        assert_eq!(maybe, after);
    }
}

#[test]
fn a_reset_in_the_midst_of_the_message_is_no_delivery() {
    let server = Server::start(|command| match command {
        "DATA" => Do::ResetInMessage,
        command => good(command),
    });
    let mut settings = settings(Transport::Smtp(smtp(server.port)));
    settings.to.truncate(1);
    let mut big = message();
    // more than both sides' buffers hold
    big.body = "0123456789abcdef\n".repeat(2_000_000);
    let report = send(&settings, &big);
    let (why, maybe) = shared_trouble(&report, server.port);
    assert_eq!(
        why,
        "127.0.0.1:PORT: the server hung up (last step: sending the message)"
    );
    assert!(!maybe, "its end was never sent");
}

#[test]
fn what_is_no_mail_server_is_said() {
    let (why, _) = against(10_000, |command| {
        command.is_empty().then_some(Do::Say(
            "HTTP/1.1 400 Bad Request\r\nServer: nginx\x1b[2J\r\n",
        ))
    });
    assert_eq!(
        why,
        "127.0.0.1:PORT: this is no mail server: it says `HTTP/1.1 400 Bad Request`; check [mail] host and port"
    );
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let (why, _) = shared_trouble(&try_it(smtp(port)), port);
    assert_eq!(
        why,
        "127.0.0.1:PORT: cannot connect to 127.0.0.1: connection refused; is a mail server running there, and is the port right"
    );
    let report = try_it(Smtp {
        host: "not a name".to_owned(),
        ..smtp(25)
    });
    let (why, _) = shared_trouble(&report, 25);
    assert!(
        why.starts_with("not a name:PORT: the host name cannot be looked up: ")
            && why.ends_with("; check [mail] host"),
        "{why}"
    );
}

#[test]
fn nothing_is_sent_in_clear_where_tls_is_asked_for() {
    let talk_tls = |script: fn(&str) -> Do| {
        let server = Server::start(script);
        let port = server.port;
        let report = try_it(Smtp {
            tls: Tls::Starttls,
            username: Some("watch".to_owned()),
            password: Some(Secret::Inline("canary".to_owned())),
            timeout: Duration::from_secs(5),
            ..smtp(port)
        });
        let heard = server.heard();
        assert!(
            heard.iter().all(|line| line.starts_with("EHLO")
                || line == "STARTTLS"
                || !line.is_ascii()
                || line.contains(|c: char| c.is_control())),
            "{heard:?}"
        );
        shared_trouble(&report, port).0
    };
    assert_eq!(
        talk_tls(good),
        "127.0.0.1:PORT: the server does not offer STARTTLS, and nothing is sent in clear; use tls = \"tls\" (mostly port 465), or tls = \"none\" where the way to it is safe"
    );
    assert_eq!(
        talk_tls(|command| match command {
            "STARTTLS" => Do::Say("454 4.7.0 not now"),
            "" => good(""),
            _ => Do::Say("250-fault\r\n250 STARTTLS"),
        }),
        "127.0.0.1:PORT: STARTTLS: 454 4.7.0 not now; it offers TLS and cannot do it"
    );
    // one that puts an answer to EHLO behind that to STARTTLS, to be believed under TLS
    assert_eq!(
        talk_tls(|command| match command {
            "STARTTLS" => Do::Hang("220 go\r\n250-injected\r\n250 AUTH PLAIN\r\n"),
            "" => good(""),
            _ => Do::Say("250-fault\r\n250 STARTTLS"),
        }),
        "127.0.0.1:PORT: the server sent more in clear behind its answer to STARTTLS; somebody between may have put it there"
    );
}

#[test]
fn plain_text_instead_of_tls_is_said() {
    let server = Server::start(good);
    let port = server.port;
    let report = try_it(Smtp {
        tls: Tls::Tls,
        ..smtp(port)
    });
    assert_eq!(
        shared_trouble(&report, port).0,
        "127.0.0.1:PORT: the server does not speak TLS there; use tls = \"starttls\" (mostly port 587)"
    );
}

#[test]
fn f76_the_password_goes_to_the_server_and_nowhere_else() {
    let with_login = |port| Smtp {
        username: Some("watch".to_owned()),
        password: Some(Secret::Inline("canary".to_owned())),
        ..smtp(port)
    };
    let server = Server::start(good);
    let report = try_it(with_login(server.port));
    assert!(report.pending().is_empty(), "{report:?}");
    assert_eq!(server.heard()[1], "AUTH PLAIN AHdhdGNoAGNhbmFyeQ==");
    // one that repeats what it is sent
    let server = Server::start(|command| match command.split(' ').next() {
        Some("AUTH") => Do::Say("535 5.7.8 bad: AUTH PLAIN AHdhdGNoAGNhbmFyeQ== canary Y2FuYXJ5"),
        _ => good(command),
    });
    let settings_shown = format!("{:?}", with_login(1));
    let port = server.port;
    let report = try_it(with_login(port));
    let (why, _) = shared_trouble(&report, port);
    assert_eq!(
        why,
        "127.0.0.1:PORT: the server refused the user name `watch` or its password: 535 5.7.8 bad: AUTH PLAIN *** *** ***; check [mail] username and its password"
    );
    for shown in [format!("{report:?}"), settings_shown] {
        assert!(
            !shown.contains("canary") && !shown.contains("Y2FuYXJ5"),
            "{shown}"
        );
    }
}

#[test]
fn a_login_in_two_questions_works_too() {
    let server = Server::start(|command| match command {
        "" => good(""),
        "AUTH LOGIN" => Do::Say("334 VXNlcm5hbWU6"),
        "d2F0Y2g=" => Do::Say("334 UGFzc3dvcmQ6"),
        "Y2FuYXJ5" => Do::Say("235 welcome"),
        command if command.starts_with("EHLO") => Do::Say("250-fault\r\n250 AUTH=LOGIN"),
        command => good(command),
    });
    let report = try_it(Smtp {
        username: Some("watch".to_owned()),
        password: Some(Secret::Inline("canary".to_owned())),
        ..smtp(server.port)
    });
    assert!(report.pending().is_empty(), "{report:?}");
    server.heard();
}

#[test]
fn a_missing_password_is_said_before_anybody_is_asked() {
    for (password, told) in [
        (
            None,
            "127.0.0.1:PORT: a username without a password; set password_file, password_env or password_credential",
        ),
        (
            Some(Secret::File("/nonexistent/pass".into())),
            "127.0.0.1:PORT: no password to log in with: /nonexistent/pass: the password cannot be read: no such file or directory",
        ),
    ] {
        let report = try_it(Smtp {
            username: Some("watch".to_owned()),
            password,
            ..smtp(9)
        });
        assert_eq!(shared_trouble(&report, 9).0, told);
    }
}

#[test]
fn a_ca_file_that_is_none_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    let shown = format!("127.0.0.1:PORT: {}", path.display());
    let told = || {
        let report = try_it(Smtp {
            tls: Tls::Tls,
            ca_file: Some(path.clone()),
            ..smtp(9)
        });
        shared_trouble(&report, 9).0
    };
    assert_eq!(
        told(),
        format!("{shown} cannot be read: no such file or directory; check [mail] ca_file")
    );
    std::fs::write(&path, "what").unwrap();
    assert_eq!(
        told(),
        format!(
            "127.0.0.1:PORT: there is no certificate in {}; ca_file wants PEM, -----BEGIN CERTIFICATE-----",
            path.display()
        )
    );
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\n!\n").unwrap();
    let said = told();
    assert!(
        said.starts_with(&format!("{shown} is not a PEM file: "))
            && said.ends_with("; check [mail] ca_file"),
        "{said}"
    );
    let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&path, empty).unwrap();
    let said = told();
    assert!(
        said.starts_with(&format!(
            "127.0.0.1:PORT: a certificate in {} cannot be used: ",
            path.display()
        )) && said.ends_with("; check [mail] ca_file"),
        "{said}"
    );
}

#[test]
fn addresses_beyond_ascii_need_a_server_that_takes_them() {
    let mut settings = settings(Transport::Smtp(smtp(0)));
    settings.to = vec![mailbox("größe@example.org"), mailbox("ops@example.org")];
    let server = Server::start(good);
    settings.transport = Transport::Smtp(smtp(server.port));
    let plain_letters = format!(
        "127.0.0.1:{}: the server takes only plain letters in addresses",
        server.port
    );
    let report = send(&settings, &message());
    assert_eq!(
        report.recipients[0].outcome,
        Outcome::Refused(plain_letters)
    );
    assert_eq!(report.recipients[1].outcome, Outcome::Delivered);
    server.heard();
    // what is wrong about the sender is no recipient's fault
    let server = Server::start(good);
    settings.transport = Transport::Smtp(smtp(server.port));
    let sender = settings.from.clone();
    settings.from = mailbox("wächter@example.org");
    let report = send(&settings, &message());
    assert_eq!(
        shared_trouble(&report, server.port).0,
        "127.0.0.1:PORT: the server takes only plain letters in addresses; change [mail] from"
    );
    settings.from = sender;
    server.heard();
    let server = Server::start(|command| match command.split(' ').next() {
        Some("EHLO") => Do::Say("250-fault\r\n250 SMTPUTF8"),
        _ => good(command),
    });
    settings.transport = Transport::Smtp(smtp(server.port));
    let report = send(&settings, &message());
    assert!(
        report.pending().is_empty() && report.reached_somebody(),
        "{report:?}"
    );
    assert!(server.heard()[1].ends_with(" SMTPUTF8"));
}

#[test]
fn f74_dots_are_doubled_and_the_end_is_a_line_of_its_own() {
    assert_eq!(stuffed(b".\r\na.b\r\n..x"), b"..\r\na.b\r\n...x\r\n");
    assert_eq!(stuffed(b"a\r\n"), b"a\r\n");
    assert_eq!(stuffed(b""), b"\r\n");
}
