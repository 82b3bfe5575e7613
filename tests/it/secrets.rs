//! No secret is seen anywhere: a config with every secret that a table can have, each with a canary of its own and in each
//! form, servers that repeat all that they are sent in their errors, and all that the watchdog and its children show or
//! leave behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::scene::{Scene, free_port};

const EXAMPLE: &str = include_str!("../../watchdog.toml.example");

/// What every canary begins with; two letters that say whose it is follow.
const CANARY: &str = "cNRYq";

/// The same in BASE64, wherever it begins in what is encoded.
const ENCODED: [&str; 3] = ["Y05SWX", "NOUllx", "jTlJZc"];

/// The places of secrets, as the example of all keys has them, which is made of the tables' definitions.
fn known() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let (mut section, mut comment) = (String::new(), String::new());
    for line in EXAMPLE.lines() {
        let bare = line.trim_start_matches('#');
        if let Some(words) = line.strip_prefix("# ") {
            let _ = write!(comment, "{words} ");
            continue;
        }
        if bare.starts_with('[') {
            bare.trim_matches(['[', ']']).clone_into(&mut section);
        } else if let Some((key, _)) = bare.split_once(" = ") {
            let key = key.to_owned();
            if comment.ends_with("whose first line is it. ") {
                let name = key.strip_suffix("_file").expect("a secret in a file");
                found.insert((section.clone(), name.to_owned()));
            }
            if key == "header_files" || key == "headers" || key == "env" {
                found.insert((section.clone(), key));
            }
        }
        comment.clear();
    }
    found
}

/// In which form a secret stands in the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Inline,
    File,
    Env,
    Credential,
}

/// What servers do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// They answer with this status, and with all that they were sent.
    Repeat(u16),
    /// The same for a request that was handed to them as to a proxy.
    Proxy(u16),
    /// They are not there.
    Absent,
}

/// A server that repeats what it is sent.
#[derive(Clone)]
struct Echo {
    port: u16,
    heard: Arc<Mutex<String>>,
}

impl Echo {
    fn new(mode: Mode, answer: fn(&mut TcpStream, u16) -> String) -> Self {
        let heard = Arc::new(Mutex::new(String::new()));
        let status = match mode {
            Mode::Absent => {
                let port = free_port();
                return Self { port, heard };
            }
            Mode::Repeat(status) | Mode::Proxy(status) => status,
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::clone(&heard);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                let text = answer(&mut stream, status);
                shared.lock().unwrap().push_str(&text);
            }
        });
        Self { port, heard }
    }
}

/// Reads until `is_whole`, or until no more comes.
fn hear(stream: &mut TcpStream, is_whole: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut heard = Vec::new();
    let mut bytes = [0; 4096];
    while !is_whole(&heard) {
        match stream.read(&mut bytes) {
            Ok(length) if length > 0 => heard.extend_from_slice(&bytes[..length]),
            _ => break,
        }
    }
    heard
}

fn by_http(stream: &mut TcpStream, status: u16) -> String {
    let is_whole = |heard: &[u8]| {
        let text = String::from_utf8_lossy(heard);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return false;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length
                .then(|| value.trim().parse::<usize>().ok())
                .flatten()
        });
        // the body is cut by what is no UTF-8 in no test
        body.len() >= length.unwrap_or(0)
    };
    let heard = String::from_utf8_lossy(&hear(stream, is_whole)).into_owned();
    // the secrets of a head stand behind much else, and errors are cut: without what everybody sends
    let told: String = (heard.lines())
        .filter(|line| {
            !["user-agent", "accept", "connection", "content-", "host"]
                .iter()
                .any(|it| line.to_ascii_lowercase().starts_with(it))
        })
        .take(5)
        .collect::<Vec<_>>()
        .join(" ");
    let path = heard.split(' ').nth(1).unwrap_or_default();
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nLocation: {path}\r\nX-Told: {told}\r\n\r\n{told}",
        told.len()
    );
    heard
}

fn by_redis(stream: &mut TcpStream, _: u16) -> String {
    let heard = hear(stream, |heard| {
        heard.windows(4).any(|it| it == b"AUTH") && heard.ends_with(b"\r\n")
    });
    let heard = String::from_utf8_lossy(&heard).into_owned();
    let told = heard.replace("\r\n", " ");
    let _ = write!(stream, "-WRONGPASS {told}\r\n-NOAUTH {told}\r\n");
    heard
}

fn by_smtp(stream: &mut TcpStream, _: u16) -> String {
    let mut all = String::new();
    let _ = stream.write_all(b"220 echo ESMTP\r\n");
    loop {
        let line = hear(stream, |heard| heard.ends_with(b"\n"));
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.is_empty() {
            return all;
        }
        all.push_str(&line);
        let told = line.trim();
        let answer = if told.starts_with("EHLO") {
            "250-echo\r\n250 AUTH PLAIN LOGIN\r\n".to_owned()
        } else {
            format!("535 5.7.8 {told}\r\n")
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            return all;
        }
    }
}

/// The config that is made, and what belongs to it.
struct Made<'a> {
    scene: &'a Scene,
    form: Form,
    mode: Mode,
    config: String,
    env: BTreeMap<String, String>,
    /// The places of the secrets that were written.
    written: BTreeSet<(String, String)>,
    /// Whose canary is whose: two letters, and the server that may see it.
    servers: Vec<(String, Echo)>,
}

impl Made<'_> {
    /// The two letters of the channel that is written now.
    fn letters(&self) -> String {
        let number = u8::try_from(self.servers.len()).unwrap();
        format!(
            "{}{}",
            char::from(b'a' + number / 26),
            char::from(b'a' + number % 26)
        )
    }

    /// A canary of the channel that is written now, of so many letters and digits.
    fn canary(&self, length: usize) -> String {
        format!("{:0<length$}", format!("{CANARY}{}", self.letters()))
    }

    /// The server of the channel that is written now; it is the last thing that is asked for it.
    fn server(&mut self, answer: fn(&mut TcpStream, u16) -> String) -> u16 {
        let echo = Echo::new(self.mode, answer);
        let port = echo.port;
        self.servers.push((self.letters(), echo));
        port
    }

    fn private(&self, name: &str, text: &str) {
        let path = self.scene.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        self.scene.write_private(name, text);
    }

    /// A secret of a table, in the form of this config.
    fn secret(&mut self, section: &str, key: &str, value: &str) {
        let at = format!("{section}-{key}").replace('.', "-");
        match self.form {
            Form::Inline => writeln!(self.config, "{key} = \"{value}\""),
            Form::File => {
                self.private(&format!("secrets/{at}"), value);
                writeln!(self.config, "{key}_file = \"secrets/{at}\"")
            }
            Form::Env => {
                let name = at.replace('-', "_").to_uppercase();
                self.env.insert(name.clone(), value.to_owned());
                writeln!(self.config, "{key}_env = \"{name}\"")
            }
            Form::Credential => {
                self.private(&format!("secrets/{at}"), value);
                writeln!(self.config, "{key}_credential = \"{at}\"")
            }
        }
        .unwrap();
        self.written.insert((section.to_owned(), key.to_owned()));
    }

    fn text(&mut self, text: &str) {
        self.config.push_str(text);
        self.config.push('\n');
    }

    fn place(&mut self, section: &str, key: &str) {
        self.written.insert((section.to_owned(), key.to_owned()));
    }

    /// Headers with a secret, in the file of the config and in one of their own.
    fn headers(&mut self, section: &str) {
        let canary = self.canary(20);
        let name = format!("secrets/{section}-header").replace('.', "-");
        self.private(&name, &format!("Token {canary}"));
        self.text(&format!(
            "headers = {{ X-Api-Key = \"{canary}\" }}\nheader_files = {{ X-Token = \"{name}\" }}"
        ));
        self.place(section, "headers");
        self.place(section, "header_files");
    }

    /// The channels whose URL is the secret, with canaries in all of its parts.
    fn by_url(&mut self, kind: &str) {
        let canary = self.canary(20);
        let port = self.server(if kind == "redis" { by_redis } else { by_http });
        let section = format!("notify.{kind}");
        let url = match kind {
            "redis" => format!("redis://me:{canary}@127.0.0.1:{port}/0"),
            "webhook" => {
                format!("http://me:{canary}pass@127.0.0.1:{port}/{canary}path?key={canary}query")
            }
            // who adds a path to it has none, nor a query
            "gotify" | "ntfy" | "alertmanager" => {
                format!("http://me:{canary}pass@127.0.0.1:{port}/{canary}path")
            }
            _ => format!("http://127.0.0.1:{port}/{canary}path/x?key={canary}query"),
        };
        self.secret(&section, "url", &url);
    }
}

/// A config with every secret.
fn make(scene: &Scene, form: Form, servers: Mode) -> Made<'_> {
    let mut made = Made {
        scene,
        form,
        mode: servers,
        config: "[logging]\nfile = \"own.log\"\nlevel = \"trace\"\n[metrics]\ntextfile = \"metrics.prom\"\n".to_owned(),
        env: BTreeMap::new(),
        written: BTreeSet::new(),
        servers: Vec::new(),
    };
    made.text("[web]\ndir = \"{dir}/public\"");
    let canary = made.canary(40);
    made.secret("web", "token", &canary);
    made.text("[mail]\nfrom = \"w@example.org\"\nto = [\"o@example.org\"]\n[mail.smtp]\nhost = \"127.0.0.1\"\ntls = \"none\"\ntimeout = \"2s\"\nusername = \"me\"");
    let canary = made.canary(20);
    made.secret("mail.smtp", "password", &canary);
    let port = made.server(by_smtp);
    made.text(&format!("port = {port}\n[ping]\ntimeout = \"2s\""));
    let canary = made.canary(20);
    let port = made.server(by_http);
    made.secret(
        "ping",
        "url",
        &format!("http://me:{canary}pass@127.0.0.1:{port}/{canary}path?key={canary}query"),
    );
    for kind in ["discord", "slack", "teams", "redis"] {
        made.text(&format!(
            "[notify.{kind}]\ntype = \"{kind}\"\ntimeout = \"2s\""
        ));
        made.by_url(kind);
    }
    for kind in ["webhook", "ntfy", "gotify", "alertmanager"] {
        made.text(&format!(
            "[notify.{kind}]\ntype = \"{kind}\"\ntimeout = \"2s\""
        ));
        let section = format!("notify.{kind}");
        let canary = made.canary(20);
        match kind {
            "webhook" => {
                made.headers(&section);
                made.secret(&section, "secret", &canary);
            }
            "ntfy" => {
                made.secret(&section, "topic", &format!("{canary}topic"));
                made.secret(&section, "token", &canary);
            }
            "alertmanager" => {
                made.text("username = \"me\"");
                made.secret(&section, "password", &canary);
            }
            _ => made.secret(&section, "token", &canary),
        }
        made.by_url(kind);
    }
    // it has one or the other
    made.text("[notify.second]\ntype = \"alertmanager\"\ntimeout = \"2s\"");
    let canary = made.canary(20);
    made.secret("notify.alertmanager", "token", &canary);
    let port = made.server(by_http);
    made.text(&format!("url = \"http://127.0.0.1:{port}\""));
    for (kind, keys) in [
        ("telegram", &[("token", 20)][..]),
        ("pushover", &[("token", 30), ("user", 30)]),
        ("pagerduty", &[("routing_key", 32)]),
    ] {
        made.text(&format!(
            "[notify.{kind}]\ntype = \"{kind}\"\ntimeout = \"2s\""
        ));
        for (key, length) in keys {
            let canary = made.canary(*length);
            let value = if kind == "telegram" {
                format!("1:{canary}")
            } else {
                canary
            };
            made.secret(&format!("notify.{kind}"), key, &value);
        }
        let port = made.server(by_http);
        made.text(&format!("api_url = \"http://127.0.0.1:{port}\""));
        if kind == "telegram" {
            made.text("chat = \"-100\"");
        }
    }
    // it has one or the other
    made.text("[prometheus]");
    let canary = made.canary(20);
    if matches!(form, Form::Inline | Form::Env) {
        made.text("username = \"me\"");
        made.secret("prometheus", "password", &canary);
        made.place("prometheus", "token");
    } else {
        made.secret("prometheus", "token", &canary);
        made.place("prometheus", "password");
    }
    made.text(&format!("headers = {{ X-Api-Key = \"{canary}\" }}"));
    made.place("prometheus", "headers");
    let port = made.server(by_http);
    made.text(&format!(
        "url = \"http://127.0.0.1:{port}\"\n[service.measured]\n[[service.measured.prometheus]]\nquery = \"up == 0\""
    ));
    // what children see of themselves and of all others
    scene.write(
        "look.sh",
        "d=\"$1\"; { cat; tr '\\0' '\\n' </proc/self/environ; cat /proc/$$/environ; for p in /proc/[0-9]*; do tr '\\0' ' ' <\"$p/cmdline\"; echo; done; } >>\"$d\" 2>/dev/null; [ -z \"$2\" ]",
    );
    made.text("[notify.own]\ntype = \"exec\"\ncommand = [\"/bin/sh\", \"{dir}/look.sh\", \"{dir}/seen-exec\"]");
    made.text(
        "[service.looked]\n[[service.looked.exec]]\ncommand = [\"/bin/sh\", \"{dir}/look.sh\", \"{dir}/seen-probe\", \"fails\"]\n\
         restart = { command = [\"/bin/sh\", \"{dir}/look.sh\", \"{dir}/seen-restart\", \"fails\"], settle = \"100ms\" }"
            .replace("\nrestart = ", "\n[service.looked.restart]\n#")
            .replace("#{ command = ", "command = ")
            .replace(", settle = \"100ms\" }", "\nsettle = \"100ms\"")
            .as_str(),
    );
    // an endpoint that repeats what it is asked by, and a program whose environment holds a secret
    made.text(
        "[service.asked]\n[[service.asked.http]]\nexpect = ['never']\nstatus = [\"2xx\", \"4xx\"]",
    );
    let canary = made.canary(20);
    made.headers("service.trader.http");
    let port = made.server(by_http);
    made.text(&format!(
        "url = \"http://me:{canary}pass@127.0.0.1:{port}/x?key={canary}query\""
    ));
    made.text(&format!(
        "[service.started]\nprocess = {{ pid_file = \"started.pid\" }}\n[service.started.spawn]\n\
         command = [\"/bin/sh\", \"-c\", \"exit 3\"]\nenv = {{ API_TOKEN = \"{CANARY}zz\" }}\n[service.started.restart]\nsettle = \"100ms\"\nstart_timeout = \"1s\""
    ));
    made.place("service.trader.spawn", "env");
    made
}

/// Where a canary, or a part of the BASE64 of one, is in a text; with what stands around it.
fn find(text: &str) -> Option<String> {
    let places = std::iter::once(CANARY)
        .chain(ENCODED)
        .filter_map(|it| text.find(it));
    places.min().map(|at| {
        let mut from = at.saturating_sub(300);
        while !text.is_char_boundary(from) {
            from -= 1;
        }
        text[from..].chars().take(400).collect()
    })
}

#[test]
fn every_secret_of_every_table_has_a_canary() {
    let scene = Scene::new();
    let made = make(&scene, Form::Inline, Mode::Absent);
    let known = known();
    assert!(known.len() > 20, "{known:?}");
    assert_eq!(made.written, known);
}

#[test]
fn f76_no_secret_is_seen_in_any_form_whatever_servers_do() {
    use Form::{Credential, Env, File, Inline};
    for (form, mode) in [
        (Inline, Mode::Repeat(400)),
        (Inline, Mode::Proxy(407)),
        (File, Mode::Repeat(401)),
        (Env, Mode::Repeat(500)),
        (Credential, Mode::Repeat(200)),
        (Credential, Mode::Absent),
    ] {
        look(form, mode);
    }
}

fn look(form: Form, servers: Mode) {
    let scene = Scene::new();
    let made = make(&scene, form, servers);
    scene.config(&made.config);
    let credentials = scene.path("secrets").display().to_string();
    let proxy = match servers {
        Mode::Proxy(_) => Echo::new(servers, by_http),
        _ => Echo::new(Mode::Absent, by_http),
    };
    // in the environment of all that the watchdog does, and used where it is one
    let proxy_url = format!("http://me:{CANARY}proxy@127.0.0.1:{}", proxy.port);
    let mut seen = Vec::new();
    let mut run = |args: &[&str]| {
        let mut command = scene.command(args);
        command
            .envs(&made.env)
            .env("CREDENTIALS_DIRECTORY", &credentials)
            .env("HTTPS_PROXY", &proxy_url);
        if let Mode::Proxy(_) = servers {
            command.env("http_proxy", &proxy_url);
        }
        let outcome = scene.finish(command);
        assert!(
            outcome.code >= 0 && outcome.code != 78,
            "{args:?}: {}",
            outcome.text()
        );
        seen.push((args.join(" "), outcome.text()));
    };
    run(&["validate"]);
    run(&["check", "--dry-run", "-vvv"]);
    run(&["check", "-vvv"]);
    run(&["check", "--json"]);
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["history"],
        &["history", "--json"],
        &["why", "asked"],
        &["why", "started"],
        &["why", "looked"],
        &["show-config"],
        &["test-notify", "-vvv"],
        &["test-mail"],
        &["metrics"],
        &["restart", "started", "-vvv"],
        &["status", "--html"],
        &["evidence"],
        &["evidence", "--last"],
        &["report"],
        &["report", "--html"],
        &["report", "--send"],
        &["backtest", "looked"],
        &["pause", "started", "--for", "1m"],
        &["resume", "started"],
        &["reset", "started"],
        // without a request
        &["web", "-vvv"],
    ] {
        run(args);
    }
    let mut sleeper = Command::new("/bin/sleep")
        .arg("30")
        .env("API_TOKEN", format!("{CANARY}zz"))
        .current_dir(scene.path(""))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    run(&["adopt", &sleeper.id().to_string()]);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    // a config that is wrong elsewhere is told, and pinged
    fs::write(
        scene.path("watchdog.toml"),
        format!("{}\n[nonsense]\nx = 1\n", scene.read("watchdog.toml")),
    )
    .unwrap();
    let mut command = scene.command(&["check", "-vvv"]);
    command
        .envs(&made.env)
        .env("CREDENTIALS_DIRECTORY", &credentials);
    let outcome = scene.finish(command).exits(78);
    seen.push(("check of a wrong config".to_owned(), outcome.text()));
    // all that is left behind, but for what was put there
    for (path, (_, _, _, bytes)) in scene.fingerprint() {
        let name = path
            .strip_prefix(scene.path(""))
            .unwrap()
            .display()
            .to_string();
        if name != "watchdog.toml" && !name.starts_with("secrets/") {
            seen.push((name, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    for name in [
        "seen-exec",
        "seen-probe",
        "seen-restart",
        "own.log",
        "public/status.html",
        "metrics.prom",
        "state/journal.jsonl",
    ] {
        assert!(
            seen.iter()
                .any(|(known, text)| known == name && !text.is_empty()),
            "no {name}"
        );
    }
    for (what, text) in &seen {
        assert_eq!(find(text), None, "{form:?} {servers:?}: in {what}");
    }
    // each server sees its own secrets, and those of no other
    if servers == Mode::Absent {
        return;
    }
    for (letters, echo) in &made.servers {
        let heard = echo.heard.lock().unwrap().clone();
        let is_direct = !matches!(servers, Mode::Proxy(_))
            || heard.starts_with("EHLO")
            || heard.starts_with('*');
        assert!(
            !is_direct || heard.contains(CANARY) || ENCODED.iter().any(|it| heard.contains(it)),
            "{letters} was sent none: {heard}"
        );
        for (at, _) in heard.match_indices(CANARY) {
            let whose = &heard[at + CANARY.len()..];
            assert!(
                whose.starts_with(letters.as_str()),
                "{letters}: {}",
                &heard[at.saturating_sub(200)..]
            );
        }
    }
    let is_used = proxy.heard.lock().unwrap().contains(CANARY);
    assert_eq!(is_used, matches!(servers, Mode::Proxy(_)));
    let rights = fs::metadata(scene.path("own.log"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(rights & 0o007, 0, "the own log is for others");
}
