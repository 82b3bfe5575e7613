//! `watchdog web`: requests on its standard input, what it answers, and what the next check makes of them.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::scene::{Outcome, Scene, Service, render};
use crate::status_page;

const WEB: &str = "[web]\ndir = \"{dir}/web\"\ntoken = \"7f3b0e5c9a1d\"\n";
const TOKEN: &str = "Authorization: Bearer 7f3b0e5c9a1d\r\n";

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn of(text: &str) -> Self {
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self {
            status,
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1);
        lines.find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.body.contains(text), "{text}: {self:?}");
        self
    }
}

/// A connection whose other end a process answers.
fn connect(mut command: Command) -> (UnixStream, std::process::Child) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let other = theirs.try_clone().unwrap();
    let child = command
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(OwnedFd::from(other)))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    (ours, child)
}

/// What is answered to these bytes.
pub(crate) fn ask_with(command: Command, request: &[u8]) -> Answer {
    let (mut ours, child) = connect(command);
    // who is refused before all is sent need not read the rest
    let _ = ours.write_all(request);
    let mut answer = Vec::new();
    ours.read_to_end(&mut answer).unwrap();
    drop(ours);
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("panicked"), "{errors}");
    Answer::of(&String::from_utf8_lossy(&answer))
}

/// Listens as systemd does, with a process for each connection, for so many as a test may need.
pub(crate) fn serve(scene: &Scene) -> SocketAddr {
    const MOST: usize = 50;
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut commands: Vec<_> = (0..MOST).map(|_| scene.command(&["web"])).collect();
    // it waits for a next connection until the tests end
    std::thread::spawn(move || {
        for connection in socket.incoming().flatten() {
            let Some(mut command) = commands.pop() else {
                return;
            };
            let input = OwnedFd::from(connection.try_clone().unwrap());
            let child = command
                .stdin(Stdio::from(input))
                .stdout(Stdio::from(OwnedFd::from(connection)))
                .stderr(Stdio::null())
                .spawn();
            drop(command);
            // one is answered after the other
            let _ = child.map(|mut child| child.wait());
        }
    });
    address
}

fn ask_raw(scene: &Scene, request: impl AsRef<[u8]>) -> Answer {
    ask_with(scene.command(&["web"]), request.as_ref())
}

/// What is answered to a method and a path, with these headers.
fn ask(scene: &Scene, what: &str, headers: &str) -> Answer {
    ask_raw(
        scene,
        format!("{what} HTTP/1.1\r\nHost: localhost:9099\r\n{headers}\r\n"),
    )
}

/// A scene with a service that runs, and whose pages were published.
fn scene() -> Scene {
    let scene = Scene::new();
    scene.config(&format!("{WEB}{}", render(&[&Service::new("bot")])));
    scene.start("bot", &["pid_file=bot.pid"]);
    scene.check().exits(0);
    scene
}

/// What the journal has of an event of a service, the message of each.
pub(crate) fn events(scene: &Scene, event: &str) -> Vec<String> {
    let journal = scene.journal();
    let of_it = journal.iter().filter(|entry| entry["event"] == event);
    of_it
        .map(|entry| format!("{}: {}", entry["service"], entry["message"]).replace('"', ""))
        .collect()
}

fn requests(scene: &Scene) -> Vec<String> {
    let names = fs::read_dir(scene.path("web/requests")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn each_page_is_what_was_published() {
    let scene = scene();
    let page = ask(&scene, "GET /", "").is(200).says(": all well</h1>");
    assert_eq!(page.body, scene.read("web/status.html"));
    assert_eq!(
        page.header("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("Content-Security-Policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-")
            && policy.ends_with("; frame-ancestors 'none'"),
        "{policy}"
    );
    for (name, value) in [
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Cache-Control", "no-store"),
        ("Referrer-Policy", "no-referrer"),
        ("Connection", "close"),
    ] {
        assert_eq!(page.header(name), Some(value), "{name}");
    }
    let json = ask(&scene, "GET /status.json?x=y", "").is(200);
    let printed = scene.run(&["status", "--json"]).json();
    assert_eq!(serde_json::from_str::<Value>(&json.body).unwrap(), printed);
    assert_eq!(json.header("Content-Type"), Some("application/json"));
    let metrics = ask(&scene, "GET /metrics", "").is(200);
    assert_eq!(metrics.body, scene.read("web/metrics.prom"));
    assert_eq!(
        metrics.header("Content-Type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let head = ask(&scene, "HEAD /metrics", "").is(200);
    assert_eq!(head.body, "");
    assert_eq!(
        head.header("Content-Length"),
        Some(&*metrics.body.len().to_string())
    );
    ask(&scene, "GET /state.json", "").is(404);
    ask(&scene, "GET /access.json", "").is(404);
    let wrong = ask(&scene, "PUT /", "").is(405);
    assert_eq!(wrong.header("Allow"), Some("GET, HEAD"));
    let wrong = ask(&scene, "GET /repair/bot", "").is(405);
    assert_eq!(wrong.header("Allow"), Some("POST"));
}

#[test]
fn health_is_that_of_the_last_run_while_it_is_young() {
    let scene = scene();
    ask(&scene, "GET /health", "")
        .is(200)
        .says("all well (all services come to exit code 0); the last run was at ");
    let published = scene.read("web/status.json");
    let mut old: Value = serde_json::from_str(&published).unwrap();
    old["time"] = "2026-01-01T00:00:00Z".into();
    scene.write("web/status.json", old.to_string());
    ask(&scene, "GET /health", "")
        .is(503)
        .says("the last run was at 2026-01-01T00:00:00Z");
    // a page that nobody has made anew says so
    ask(&scene, "GET /", "")
        .is(200)
        .says("<strong>This page is old.</strong> the last run was at 2026-01-01T00:00:00Z");
    scene.write("web/status.json", "{");
    let damaged = "what the last run published cannot be understood";
    ask(&scene, "GET /health", "").is(503).says(damaged);
    ask(&scene, "GET /status.json", "").is(503).says(damaged);
    ask(&scene, "GET /", "")
        .is(200)
        .says(&format!("<strong>This page may be old.</strong> {damaged}"));
    scene.kill(scene.last("bot"));
    scene.write("bot.rc", "exit=3");
    scene.check().exits(2).verdict("bot", "restart_failed");
    ask(&scene, "GET /health", "")
        .is(503)
        .says("a service is broken (all services come to exit code 2); the last run was at ");
}

#[test]
fn health_is_that_of_all_services_after_a_check_of_one() {
    let scene = Scene::new();
    let services = [Service::new("a"), Service::new("bot").watched()];
    let services: Vec<&Service> = services.iter().collect();
    scene.config(&format!("{WEB}{}", render(&services)));
    scene.start("a", &["pid_file=a.pid"]);
    scene.check().exits(2).verdict("bot", "down");
    scene.run(&["check", "a"]).exits(0);
    let health = ask(&scene, "GET /health", "").is(503);
    health.says("a service is broken (all services come to exit code 2); the last run was at ");
    let metrics = ask(&scene, "GET /metrics", "").is(200);
    metrics.says("\nwatchdog_last_run_exit_code 0\n");
}

#[test]
fn nothing_is_said_before_a_run_has_published_anything() {
    let scene = Scene::new();
    scene.config(&format!("{WEB}{}", render(&[&Service::new("bot")])));
    for what in ["GET /", "GET /status.json", "GET /metrics", "GET /health"] {
        ask(&scene, what, "").is(503).says("no run has published");
    }
    let mut alone = scene.command(&["web", "--dir"]);
    alone.arg(scene.path("web"));
    ask_with(alone, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .is(503)
        .says("no run has published");
}

#[test]
fn only_who_has_the_token_may_ask_for_a_repair() {
    let scene = scene();
    let refused = ask(&scene, "POST /repair/bot", "").is(401);
    assert_eq!(
        refused.header("WWW-Authenticate"),
        Some("Bearer realm=\"watchdog\"")
    );
    for header in [
        "Authorization: Bearer wrong\r\n",
        "Authorization: Bearer 7f3b0e5c9a1\r\n",
        "Authorization: Basic 7f3b0e5c9a1d\r\n",
        "Authorization: 7f3b0e5c9a1d\r\n",
        "X-Token: 7f3b0e5c9a1d\r\n",
    ] {
        ask(&scene, "POST /repair/bot", header).is(401);
        // nor does anybody learn which services there are
        ask(&scene, "POST /repair/none", header).is(401);
    }
    assert!(!scene.has("web/requests"));
    let reads = WEB.replace("token =", "protect_reads = true\ntoken =");
    scene.config(&format!("{reads}{}", render(&[&Service::new("bot")])));
    for what in ["GET /", "GET /status.json", "GET /metrics", "GET /health"] {
        ask(&scene, what, "").is(401);
        ask(&scene, what, TOKEN).is(200);
    }
    let none = WEB.replace("token = \"7f3b0e5c9a1d\"\n", "");
    scene.config(&format!("{none}{}", render(&[&Service::new("bot")])));
    ask(&scene, "POST /repair/bot", TOKEN)
        .is(403)
        .says("has no token");
    ask(&scene, "GET /", "").is(200);
    // one that cannot be read is none
    scene.write("empty", "\n");
    fs::set_permissions(scene.path("empty"), fs::Permissions::from_mode(0o600)).unwrap();
    let empty = none + "token_file = \"{dir}/empty\"\n";
    scene.config(&format!("{empty}{}", render(&[&Service::new("bot")])));
    ask(&scene, "POST /repair/bot", "Authorization: Bearer \r\n").is(403);
}

#[test]
fn a_request_is_a_restart_by_the_next_run() {
    let scene = scene();
    let first = scene.last("bot");
    ask(&scene, "POST /repair/none", TOKEN).is(404);
    let queued = ask(&scene, "POST /repair/bot", TOKEN).is(202);
    let queued: Value = serde_json::from_str(&queued.body).unwrap();
    assert_eq!(queued["status"], "queued");
    let id = queued["id"].as_str().unwrap().to_owned();
    assert!(id.len() >= 8, "{id}");
    let again = ask(&scene, "POST /repair/bot", TOKEN).is(200);
    let again: Value = serde_json::from_str(&again.body).unwrap();
    assert_eq!(again["status"], "already queued");
    assert_eq!(again["id"], *id);
    assert_eq!(requests(&scene), ["repair-bot"]);
    // a dry run takes nothing
    scene.run(&["check", "--dry-run", "--json"]).exits(0);
    assert_eq!(requests(&scene), ["repair-bot"]);

    let run = scene.check().exits(1).verdict("bot", "restarted");
    let action = run.service("bot")["action"].clone();
    assert_eq!(action["old_pid"], first);
    assert_eq!(requests(&scene), [""; 0]);
    let asked = events(&scene, "requested");
    assert_eq!(asked.len(), 1);
    assert!(
        asked[0].starts_with("bot: asked for by a local client at ") && asked[0].contains(&id),
        "{asked:?}"
    );
    assert_eq!(events(&scene, "restarting").len(), 1);
    assert_eq!(scene.copies("bot"), 1);
    scene.check().exits(0);
    assert_eq!(events(&scene, "restarting").len(), 1);
}

#[test]
fn who_asks_is_said_by_the_address_that_systemd_gives() {
    let scene = scene();
    let mut command = scene.command(&["web"]);
    command
        .env("REMOTE_ADDR", "203.0.113.7")
        .env("REMOTE_PORT", "4711");
    let request = format!("POST /repair/bot HTTP/1.1\r\nHost: h\r\n{TOKEN}\r\n");
    ask_with(command, request.as_bytes()).is(202);
    scene.check().exits(1);
    let asked = events(&scene, "requested");
    assert!(
        asked[0].contains("asked for by 203.0.113.7:4711 at "),
        "{asked:?}"
    );
}

/// The run after a request for `bot`, which must not restart it, and why not.
#[track_caller]
fn refused(scene: &Scene, code: i32) -> (Outcome, String) {
    let before = scene.starts("bot");
    ask(scene, "POST /repair/bot", TOKEN).is(202);
    let run = scene.check().exits(code);
    assert_eq!(scene.starts("bot"), before);
    assert_eq!(requests(scene), [""; 0]);
    let mut why = events(scene, "request_refused");
    (run, why.pop().expect("a refusal in the journal"))
}

#[test]
fn what_forbids_a_restart_forbids_one_that_was_asked_for() {
    let scene = Scene::new();
    let bot = Service::new("bot").restart("max_per_hour", "1");
    let needy = Service::new("needy").top("depends_on", "[\"base\"]");
    let base = Service::new("base").watched();
    let config = |more: &str, bot: &Service| {
        scene.config(&format!("{WEB}{}{more}", render(&[bot, &needy, &base])));
    };
    config("", &bot);
    for name in ["bot", "needy", "base"] {
        scene.start(name, &[&format!("pid_file={name}.pid")]);
    }
    scene.check().exits(0);

    scene
        .run(&["pause", "bot", "--reason", "being mended"])
        .exits(0);
    let (run, why) = refused(&scene, 0);
    run.verdict("bot", "paused");
    assert!(
        why.contains("bot: paused until ") && why.contains("being mended"),
        "{why}"
    );
    scene.run(&["resume", "bot"]).exits(0);

    // one restart is in the budget, and a second is not
    ask(&scene, "POST /repair/bot", TOKEN).is(202);
    scene.check().exits(1).verdict("bot", "restarted");
    let (run, why) = refused(&scene, 0);
    run.verdict("bot", "healthy");
    assert!(
        why.contains("bot: 1 of 1 restarts in the last hour; the next can be made at "),
        "{why}"
    );

    config("", &bot.clone().restart("max_per_hour", "0"));
    let (_, why) = refused(&scene, 0);
    assert!(why.contains("max_per_hour = 0"), "{why}");
    config("", &bot.clone().watched());
    let (_, why) = refused(&scene, 0);
    assert!(why.contains("no restart method"), "{why}");
    config("", &bot.clone().top("enabled", "false"));
    let (_, why) = refused(&scene, 0);
    assert!(why.contains("it is disabled"), "{why}");

    // what depends on something broken waits
    config("", &bot);
    scene.kill(scene.last("base"));
    let before = scene.starts("needy");
    ask(&scene, "POST /repair/needy", TOKEN).is(202);
    scene.check().exits(2).verdict("needy", "healthy");
    assert_eq!(scene.starts("needy"), before);
    let why = events(&scene, "request_refused").pop().unwrap();
    assert!(
        why.contains("needy: waits for `base`, which is down"),
        "{why}"
    );
}

#[test]
fn a_run_under_way_takes_nothing_from_the_next() {
    let scene = scene();
    ask(&scene, "POST /repair/bot", TOKEN).is(202);
    let lock = fs::File::open(scene.path("state/lock")).unwrap();
    fs2::FileExt::try_lock_exclusive(&lock).unwrap();
    scene.run(&["check", "--json"]).exits(75);
    assert_eq!(requests(&scene), ["repair-bot"]);
    fs2::FileExt::unlock(&lock).unwrap();
    scene.check().exits(1).verdict("bot", "restarted");
}

#[test]
fn a_run_of_other_services_leaves_requests_alone() {
    let scene = Scene::new();
    scene.config(&format!(
        "{WEB}{}",
        render(&[&Service::new("bot"), &Service::new("other")])
    ));
    for name in ["bot", "other"] {
        scene.start(name, &[&format!("pid_file={name}.pid")]);
    }
    scene.check().exits(0);
    ask(&scene, "POST /repair/bot", TOKEN).is(202);
    scene.run(&["check", "--json", "other"]).exits(0);
    assert_eq!(requests(&scene), ["repair-bot"]);
    scene.check().exits(1).verdict("bot", "restarted");
}

#[test]
fn what_others_put_into_the_directory_is_no_request() {
    let scene = scene();
    ask(&scene, "POST /repair/bot", TOKEN).is(202);
    let good = scene.read("web/requests/repair-bot");
    scene.write(
        "web/requests/repair-none",
        good.replace("\"bot\"", "\"none\""),
    );
    scene.write("web/requests/whatever", "x");
    std::os::unix::fs::symlink("/etc/passwd", scene.path("web/requests/repair-x")).unwrap();
    let run = scene.check().exits(1).verdict("bot", "restarted");
    for text in [
        "repair-x: no request (it is a symbolic link",
        "whatever: no request (",
    ] {
        assert!(run.stderr.contains(text), "{text}: {}", run.stderr);
    }
    assert_eq!(requests(&scene), [""; 0]);
    assert_eq!(
        events(&scene, "request_refused"),
        ["none: there is no such service"]
    );
    // a directory that others can write to is left alone as a whole
    ask(&scene, "POST /repair/bot", TOKEN).is(202);
    fs::set_permissions(
        scene.path("web/requests"),
        fs::Permissions::from_mode(0o777),
    )
    .unwrap();
    let run = scene.check().exits(0).verdict("bot", "healthy");
    assert!(
        run.stderr.contains("no request is taken from it"),
        "{}",
        run.stderr
    );
    assert_eq!(requests(&scene), ["repair-bot"]);
}

#[test]
fn a_hundred_requests_wait_and_no_more() {
    let scene = Scene::new();
    let names: Vec<_> = (0..=100).map(|n| format!("s{n}")).collect();
    let services: Vec<_> = names
        .iter()
        .map(|name| Service::new(name).watched())
        .collect();
    scene.config(&format!(
        "{WEB}{}",
        render(&services.iter().collect::<Vec<_>>())
    ));
    scene.check().exits(2);
    for name in &names[..100] {
        ask(&scene, &format!("POST /repair/{name}"), TOKEN).is(202);
    }
    let more = ask(&scene, "POST /repair/s100", TOKEN).is(429);
    assert_eq!(more.header("Retry-After"), Some("60"));
    ask(&scene, "POST /repair/s5", TOKEN)
        .is(200)
        .says("already queued");
    scene.check().exits(2);
    assert_eq!(requests(&scene), [""; 0]);
    ask(&scene, "POST /repair/s100", TOKEN).is(202);
}

#[test]
fn a_request_that_cannot_be_kept_is_told_to_come_again() {
    let scene = scene();
    scene.write("web/requests", "a file in its place");
    ask(&scene, "POST /repair/bot", TOKEN)
        .is(503)
        .says("cannot be kept");
}

#[test]
fn without_a_config_what_was_published_decides() {
    let scene = scene();
    // the user that answers can read nothing else
    fs::create_dir(scene.path("web/requests")).unwrap();
    scene.check().exits(0);
    fs::remove_file(scene.path("watchdog.toml")).unwrap();
    let web = || {
        let mut command = scene.command(&["web", "--dir"]);
        command.arg(scene.path("web"));
        command
    };
    let request =
        |what: &str, headers: &str| format!("{what} HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
    let ask = |what: &str, headers: &str| ask_with(web(), request(what, headers).as_bytes());
    ask("GET /", "").is(200).says(": all well</h1>");
    ask("GET /health", "").is(200);
    ask("POST /repair/bot", "").is(401);
    ask("POST /repair/none", TOKEN).is(404);
    ask("POST /repair/bot", TOKEN).is(202);
    assert!(!scene.read("web/access.json").contains("7f3b0e5c9a1d"));
    scene.write("web/access.json", "{");
    ask("GET /", "").is(503).says("cannot be understood");
}

#[test]
fn a_config_that_cannot_be_used_is_told_without_detail() {
    let scene = scene();
    scene.config("[web]\ndir = \"secret-place\"\ntoken = 7\n");
    let answer = ask(&scene, "GET /", "")
        .is(503)
        .says("the config cannot be used");
    assert!(!answer.body.contains("secret"), "{answer:?}");
    scene.config(&render(&[&Service::new("bot")]));
    ask(&scene, "GET /", "").is(503);
}

#[test]
fn hostile_requests_are_refused_and_end_nothing_else() {
    let scene = scene();
    let many = |headers: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
            "A: b\r\n".repeat(headers)
        )
    };
    let body = |length: &str, body: &str| {
        format!(
            "POST /repair/bot HTTP/1.1\r\nHost: h\r\n{TOKEN}Content-Length: {length}\r\n\r\n{body}"
        )
    };
    for (request, status) in [
        (many(31), 200),
        (many(32), 431),
        (
            format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(8000)),
            404,
        ),
        (
            format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(9000)),
            431,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: {}", "x".repeat(1 << 20)),
            431,
        ),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), 200),
        ("GET / HTTP/2.0\r\nHost: h\r\n\r\n".to_owned(), 505),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}".to_owned(), 400),
        ("\r\n\r\n\r\n".to_owned() + &many(1), 200),
        (body("262145", ""), 413),
        (body("99999999999999999999", ""), 413),
        (body("-1", ""), 400),
        (body("0x10", ""), 400),
        (body("5\r\nContent-Length: 5", "hello"), 400),
        (body("5\r\nTransfer-Encoding: chunked", "hello"), 411),
        (
            format!("POST /repair/bot HTTP/1.1\r\nHost: h\r\n{TOKEN}{TOKEN}\r\n"),
            400,
        ),
        (
            format!("POST /repair/..%2f..%2fetc HTTP/1.1\r\nHost: h\r\n{TOKEN}\r\n"),
            404,
        ),
        (
            format!("POST /repair/.. HTTP/1.1\r\nHost: h\r\n{TOKEN}\r\n"),
            404,
        ),
    ] {
        let answer = ask_raw(&scene, &request);
        let shown: String = request.chars().take(80).collect();
        assert_eq!(answer.status, status, "{shown:?}: {answer:?}");
    }
    // a body of any size and kind is read, and says nothing
    ask_raw(&scene, body("262144", &"\0".repeat(262_144))).is(202);
    // one that is cut short is no request
    for request in [
        "",
        "GET",
        "GET / HTTP/1.1\r\nHost: h\r\n",
        &body("5", "hell"),
    ] {
        let (mut ours, mut child) = connect(scene.command(&["web"]));
        ours.write_all(request.as_bytes()).unwrap();
        ours.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        ours.read_to_string(&mut answer).unwrap();
        child.wait().unwrap();
        Answer::of(&answer).is(400).says("cut short");
    }
}

#[test]
fn a_client_that_waits_for_a_word_before_its_body_gets_it() {
    let scene = scene();
    let (mut ours, mut child) = connect(scene.command(&["web"]));
    let head = format!(
        "POST /repair/bot HTTP/1.1\r\nHost: h\r\n{TOKEN}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    );
    ours.write_all(head.as_bytes()).unwrap();
    let mut word = [0; 25];
    ours.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
    ours.write_all(b"{}").unwrap();
    let mut answer = String::new();
    ours.read_to_string(&mut answer).unwrap();
    child.wait().unwrap();
    Answer::of(&answer).is(202);
}

#[test]
fn a_client_that_takes_its_time_is_given_up_after_ten_seconds() {
    let scene = scene();
    let (mut ours, mut child) = connect(scene.command(&["web"]));
    // one that never reads either: nothing waits for it for longer
    let (deaf, mut other) = connect(scene.command(&["web"]));
    let began = Instant::now();
    for byte in b"GET / HTTP/1.1\r\nHost: h\r\nX: ".iter().cycle() {
        // it is refused while it still sends
        if ours.write_all(&[*byte]).is_err() || began.elapsed() > Duration::from_secs(30) {
            break;
        }
        if child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let took = began.elapsed();
    child.wait().unwrap();
    other.wait().unwrap();
    assert!(took < Duration::from_secs(20), "{took:?}");
    drop(deaf);
    let mut answer = Vec::new();
    let _ = ours.read_to_end(&mut answer);
    Answer::of(&String::from_utf8_lossy(&answer)).is(408);
}

#[test]
#[ignore = "needs Chromium"]
fn a_browser_applies_the_page_that_is_served_and_keeps_all_else_off() {
    let scene = scene();
    let url = format!("http://{}/", serve(&scene));
    let [page] = &status_page::look_at(&[url])[..] else {
        panic!("one page");
    };
    status_page::has(page, "heading", ": all well");
    status_page::has(page, "rowheader", "bot");
    for nothing in ["violations", "errors", "requests"] {
        assert_eq!(page[nothing], serde_json::json!([]), "{nothing}");
    }
    // its style sheet was applied, by the policy in the head of the answer as well
    assert_eq!(page["colors"]["dark"][0], "rgb(13, 17, 23)");
}
