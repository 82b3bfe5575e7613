//! A mail server of a few lines on loopback, without TLS, that misbehaves where it is told to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Scene, Service, render, signal, wait_until};

/// The first keys of a `[mail]` table.
pub(crate) const ENVELOPE: &str =
    "[mail]\nfrom = \"watchdog@example.org\"\nto = [\"ops@example.org\"]\n";

/// A scene whose mail goes to a server.
pub(crate) fn smtp(server: &Server, keys: &str, services: &[&Service]) -> Scene {
    let scene = Scene::new();
    scene.config(&format!(
        "{ENVELOPE}{}\n{keys}\n{}",
        server.table(),
        render(services)
    ));
    scene
}

/// What a server does at a step instead of what it should.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Do {
    /// Says this.
    Say(&'static str),
    /// Says nothing more, and keeps the connection.
    Hang,
    /// Closes the connection.
    Close,
    /// Says what it should, a byte every half second; reads a message at 10 KB/s.
    Drip,
    /// Kills the process that it was aimed at.
    Kill,
}

/// A message that was taken.
#[derive(Clone)]
pub(crate) struct Delivered {
    /// Its recipients.
    pub(crate) to: Vec<String>,
    /// All of it, dots unstuffed.
    pub(crate) text: String,
}

#[derive(Default)]
struct Rules {
    faults: BTreeMap<&'static str, Do>,
    refused: BTreeMap<String, String>,
    login: bool,
    victim: Option<i32>,
    got: Vec<Delivered>,
    heard: String,
    connections: usize,
    hung: Vec<TcpStream>,
}

/// The server.
pub(crate) struct Server {
    /// Its port.
    pub(crate) port: u16,
    rules: Arc<Mutex<Rules>>,
}

impl Server {
    /// One without a fault.
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let rules = Arc::new(Mutex::new(Rules::default()));
        let shared = Arc::clone(&rules);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                shared.lock().unwrap().connections += 1;
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { port, rules }
    }

    /// Its line of a `[mail]` table.
    pub(crate) fn table(&self) -> String {
        format!(
            "smtp = {{ host = \"127.0.0.1\", port = {}, tls = \"none\", timeout = \"2s\" }}",
            self.port
        )
    }

    /// Sets a fault. Steps: `""` the greeting, a verb, `line` the first line of a message, `.` its end, `taken` when
    /// it is taken and that was not said.
    pub(crate) fn at(&self, step: &'static str, fault: Do) {
        self.rules.lock().unwrap().faults.insert(step, fault);
    }

    /// No more faults.
    pub(crate) fn heal(&self) {
        self.rules.lock().unwrap().faults.clear();
    }

    /// The process that [`Do::Kill`] kills.
    pub(crate) fn aim(&self, pid: i32) {
        self.rules.lock().unwrap().victim = Some(pid);
    }

    /// Offers a login, and takes any.
    pub(crate) fn offer_login(&self) {
        self.rules.lock().unwrap().login = true;
    }

    /// Answers a recipient so.
    pub(crate) fn refuse(&self, who: &str, reply: &str) {
        let mut rules = self.rules.lock().unwrap();
        rules.refused.insert(who.to_owned(), reply.to_owned());
    }

    /// Takes a recipient again.
    pub(crate) fn accept(&self, who: &str) {
        self.rules.lock().unwrap().refused.remove(who);
    }

    /// The messages that were taken, in order.
    pub(crate) fn got(&self) -> Vec<Delivered> {
        self.rules.lock().unwrap().got.clone()
    }

    /// All lines that were heard.
    pub(crate) fn heard(&self) -> String {
        self.rules.lock().unwrap().heard.clone()
    }

    /// How often somebody connected.
    pub(crate) fn connections(&self) -> usize {
        self.rules.lock().unwrap().connections
    }
}

/// A conversation, as far as it still goes on.
struct Talk<'a> {
    stream: &'a TcpStream,
    rules: &'a Mutex<Rules>,
}

impl Talk<'_> {
    /// Says what belongs to a step, or does what it was told to do there. False: it is over.
    fn say(&self, step: &str, text: &str) -> bool {
        let fault = self.fault(step);
        let mut out = self.stream;
        match fault {
            None => out.write_all(format!("{text}\r\n").as_bytes()).is_ok(),
            Some(Do::Say(other)) => out.write_all(format!("{other}\r\n").as_bytes()).is_ok(),
            Some(Do::Hang) => {
                let kept = self.stream.try_clone().unwrap();
                self.rules.lock().unwrap().hung.push(kept);
                false
            }
            Some(Do::Close) => false,
            Some(Do::Drip) => format!("{text}\r\n").bytes().all(|byte| {
                std::thread::sleep(Duration::from_millis(500));
                out.write_all(&[byte]).is_ok()
            }),
            Some(Do::Kill) => {
                wait_until("somebody to kill", || {
                    self.rules.lock().unwrap().victim.is_some()
                });
                let victim = self.rules.lock().unwrap().victim.take();
                signal(victim.unwrap(), Signal::SIGKILL);
                false
            }
        }
    }

    fn fault(&self, step: &str) -> Option<Do> {
        self.rules.lock().unwrap().faults.get(step).copied()
    }
}

fn serve(stream: &TcpStream, rules: &Mutex<Rules>) {
    let talk = Talk { stream, rules };
    let mut lines = BufReader::new(stream);
    let mut to = Vec::new();
    let mut open = talk.say("", "220 mail.example.org ESMTP");
    while open {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
            return;
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        {
            let mut rules = rules.lock().unwrap();
            rules.heard.push_str(&line);
            rules.heard.push('\n');
        }
        let verb = line.get(..4).unwrap_or_default().to_uppercase();
        open = match verb.as_str() {
            "EHLO" if rules.lock().unwrap().login => talk.say(
                "EHLO",
                "250-mail.example.org\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME",
            ),
            "EHLO" => talk.say("EHLO", "250-mail.example.org\r\n250 8BITMIME"),
            "AUTH" => talk.say("AUTH", "235 welcome"),
            "HELO" | "NOOP" => talk.say("NOOP", "250 well"),
            "MAIL" | "RSET" => {
                to.clear();
                talk.say("MAIL", "250 well")
            }
            "RCPT" => {
                let who = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                let refused = rules.lock().unwrap().refused.get(&who).cloned();
                if let Some(reply) = refused {
                    talk.say("RCPT", &reply)
                } else {
                    to.push(who);
                    talk.say("RCPT", "250 well")
                }
            }
            "DATA" if to.is_empty() => talk.say("DATA", "503 nobody to send it to"),
            "DATA" if talk.fault("DATA").is_some() => talk.say("DATA", ""),
            "DATA" => {
                talk.say("DATA", "354 go on");
                let mut text = String::new();
                loop {
                    let mut line = Vec::new();
                    if lines.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
                        return;
                    }
                    match talk.fault("line") {
                        None => {}
                        // 10 KB in a second
                        Some(Do::Drip) => std::thread::sleep(
                            Duration::from_micros(100) * u32::try_from(line.len()).unwrap(),
                        ),
                        Some(_) => {
                            talk.say("line", "");
                            return;
                        }
                    }
                    if line == b".\r\n" {
                        break;
                    }
                    let line = line.strip_prefix(b".").unwrap_or(&line);
                    text.push_str(&String::from_utf8_lossy(line));
                }
                if talk.fault(".").is_some() {
                    talk.say(".", "")
                } else {
                    let to = std::mem::take(&mut to);
                    rules.lock().unwrap().got.push(Delivered { to, text });
                    talk.say("taken", "250 taken")
                }
            }
            "QUIT" => {
                talk.say("QUIT", "221 bye");
                return;
            }
            _ => talk.say("what", "502 not here"),
        };
    }
}
