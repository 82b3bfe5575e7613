//! The proxies of the environment, for channels and `[ping]`: a real one, and one that does what no proxy should.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::scene::hooks::{Answer, Hooks};
use crate::scene::{Outcome, Scene, Service, free_port, render, wait_until};

/// What a proxy does with who asks it.
#[derive(Clone, Copy, Debug)]
enum Does {
    /// All bytes of an answer, and the connection is closed.
    Say(&'static str),
    /// The same, and it stays open.
    Hold(&'static str),
}

/// A proxy that leads nowhere.
struct Fake {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn new(does: Does) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&heads);
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for mut stream in listener.incoming().flatten() {
                let mut head = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
                shared.lock().unwrap().push(head);
                let (Does::Say(text) | Does::Hold(text)) = does;
                let _ = stream.write_all(text.as_bytes());
                match does {
                    Does::Say(_) => {
                        let _ = stream.shutdown(Shutdown::Write);
                        // what was sent and not read would reset the connection
                        let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
                        let _ = stream.read(&mut [0; 4096]);
                    }
                    Does::Hold(_) => open.push(stream),
                }
            }
        });
        Self { port, heads }
    }

    fn url(&self) -> String {
        format!("http://proxyuser:CANARY9pass@127.0.0.1:{}", self.port)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// A webhook, and a service that is down.
fn configure(scene: &Scene, url: &str, more: &str) {
    let down = Service::new("alpha").watched();
    scene.config(&format!(
        "[notify.phone]\ntype = \"webhook\"\nurl = \"{url}\"\n{more}\n{}",
        render(&[&down])
    ));
}

fn check(scene: &Scene, variables: &[(&str, &str)]) -> Outcome {
    run(scene, &["check", "--json"], variables)
}

fn run(scene: &Scene, args: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let mut command = scene.command(args);
    command.envs(variables.iter().copied());
    scene.finish(command)
}

fn phone(outcome: &Outcome) -> (u64, u64) {
    let json = outcome.json();
    let count = |key: &str| json["notify"]["phone"][key].as_u64().unwrap();
    (count("sent"), count("queued"))
}

/// What the journal and the outbox say of the last attempt.
fn last_said(scene: &Scene) -> String {
    scene.journal().pop().unwrap()["message"].to_string()
}

#[test]
fn what_a_proxy_says_of_itself_is_told_as_its_own_word_and_kept() {
    let denied = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"CANARY9pass\"\r\nContent-Length: 11\r\n\r\nCANARY9pass";
    for (does, said) in [
        (
            Does::Say(denied),
            "answered 407 Proxy Authentication Required to CONNECT; check the user and password of the proxy: ***",
        ),
        (
            Does::Hold(denied),
            "answered 407 Proxy Authentication Required to CONNECT; check",
        ),
        (
            Does::Say("HTTP/1.0 502 Bad Gateway\r\n\r\n<html>"),
            "answered 502 Bad Gateway to CONNECT",
        ),
        (
            Does::Say("HTTP/1.1 403 Filtered\r\n\r\n"),
            "answered 403 Filtered to CONNECT",
        ),
        (
            Does::Say("HTTP/1.1 400 Bad Request\r\n\r\n"),
            "answered 400 Bad Request to CONNECT",
        ),
        (
            Does::Say("HTTP/1.1 20"),
            "closed the connection in the middle of its answer to CONNECT",
        ),
        (
            Does::Say(""),
            "closed the connection without an answer to CONNECT",
        ),
        (
            Does::Say("SSH-2.0-OpenSSH_9\r\n"),
            "answered CONNECT with something that is not HTTP/1: `SSH-2.0",
        ),
        (
            Does::Hold("HTTP/1.1 200 Connection est"),
            ": it accepted the connection and did not answer CONNECT",
        ),
    ] {
        let proxy = Fake::new(does);
        let scene = Scene::new();
        configure(&scene, "https://hooks.test/CANARY1", "timeout = \"1s\"");
        let started = Instant::now();
        let variables = [("HTTPS_PROXY", &*proxy.url())];
        assert_eq!(
            phone(&check(&scene, &variables).exits(2)),
            (0, 1),
            "{does:?}"
        );
        assert!(started.elapsed() < Duration::from_secs(20), "{does:?}");
        let told = last_said(&scene);
        let begin = format!(
            "https://hooks.test: the proxy http://127.0.0.1:{} ",
            proxy.port
        );
        assert!(
            told.contains(&begin) && told.contains(said),
            "{does:?}: {told}"
        );
        // it asked nobody, so nothing may have been delivered; and the next run asks again
        assert!(
            !told.contains("perhaps") && !told.contains("once an hour"),
            "{told}"
        );
        assert_eq!(
            phone(&check(&scene, &variables).exits(2)),
            (0, 1),
            "{does:?}"
        );
        let heads = proxy.heads();
        assert_eq!(heads.len(), 2, "{does:?}: every run asks");
        assert!(
            heads[0].starts_with("CONNECT hooks.test:443 HTTP/1.1\r\nHost: hooks.test:443\r\n")
        );
        assert!(
            heads[0].contains("\r\nProxy-Authorization: Basic cHJveHl1c2VyOkNBTkFSWTlwYXNz\r\n"),
            "{heads:?}"
        );
        assert!(
            !heads[0].contains("CANARY1"),
            "the way is asked for, no more"
        );
        let seen = format!(
            "{told}{}{}",
            scene.read("state/state.json"),
            run(&scene, &["test-notify"], &variables).text()
        );
        assert!(!seen.contains("CANARY"), "{seen}");
    }
}

#[test]
fn a_server_behind_an_open_way_is_told_apart_from_the_proxy() {
    let opened = "HTTP/1.1 200 Connection established\r\n\r\n";
    for (does, said) in [
        (
            Does::Say(opened),
            "closed the connection in the TLS handshake",
        ),
        (
            Does::Hold(opened),
            ": it accepted the connection and did not finish the TLS handshake",
        ),
    ] {
        let proxy = Fake::new(does);
        let scene = Scene::new();
        configure(&scene, "https://hooks.test/CANARY1", "timeout = \"1s\"");
        check(&scene, &[("https_proxy", &*proxy.url())]).exits(2);
        let told = last_said(&scene);
        let begin = format!(
            "https://hooks.test, asked through the proxy http://127.0.0.1:{}, ",
            proxy.port
        );
        assert!(
            told.contains(&begin) && told.contains(said),
            "{does:?}: {told}"
        );
    }
}

#[test]
fn a_plain_request_is_handed_to_the_proxy_whole() {
    let scene = Scene::new();
    let url = "http://me:CANARY2@hooks.test:8080/a/CANARY1?b=CANARY3";
    configure(&scene, url, "");
    let taken = Fake::new(Does::Say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    // in capitals a visitor of a CGI program could have set it
    let outcome = check(&scene, &[("HTTP_PROXY", &*taken.url())]).exits(2);
    assert_eq!(phone(&outcome), (0, 1));
    assert!(taken.heads().is_empty());
    let denied = Fake::new(Does::Say(
        "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
    ));
    let outcome = check(&scene, &[("http_proxy", &*denied.url())]).exits(2);
    assert_eq!(phone(&outcome), (0, 1));
    let told = last_said(&scene);
    assert!(
        told.contains("http://hooks.test:8080: the proxy http://127.0.0.1:")
            && told.contains("answered 407 Proxy Authentication Required; check the user and password of the proxy"),
        "{told}"
    );
    let broken = Fake::new(Does::Say(
        "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\nhelp",
    ));
    let outcome = check(&scene, &[("all_proxy", &*broken.url())]).exits(2);
    assert_eq!(phone(&outcome), (0, 1));
    let outcome = check(&scene, &[("ALL_PROXY", &*taken.url())]).exits(2);
    assert_eq!(phone(&outcome), (1, 0));
    let head = taken.heads().remove(0);
    assert!(
        head.starts_with("POST http://hooks.test:8080/a/CANARY1?b=CANARY3 HTTP/1.1\r\n"),
        "{head}"
    );
    let head = head.to_ascii_lowercase();
    for line in [
        "host: hooks.test:8080",
        "authorization: basic bwu6q0foqvjzmg==",
        "proxy-authorization: basic chjvehl1c2vyoknbtkfswtlwyxnz",
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
    }
    assert!(!scene.read("state/journal.jsonl").contains("CANARY"));
}

#[test]
fn who_is_named_in_no_proxy_is_asked_without_one_and_checks_always_are() {
    let gone = format!("http://127.0.0.1:{}", free_port());
    let proxies = [("http_proxy", &*gone), ("https_proxy", &*gone)];
    let hooks = Hooks::new();
    let scene = Scene::new();
    let url = format!("http://127.0.0.1:{}/ping/x", hooks.port);
    scene.config(&format!(
        "[notify.phone]\ntype = \"webhook\"\nurl = \"{url}\"\n[ping]\nurl = \"{url}\"\n\
         [service.probed]\n[[service.probed.http]]\nurl = \"http://127.0.0.1:{}/ping/y\"\n{}",
        hooks.port,
        render(&[&Service::new("alpha").watched()])
    ));
    let outcome = check(&scene, &proxies)
        .exits(2)
        .verdict("probed", "healthy");
    assert_eq!(phone(&outcome), (0, 1));
    let told = last_said(&scene);
    assert!(
        told.contains(&format!(
            "127.0.0.1:{}: the proxy {gone} refused the connection",
            hooks.port
        )),
        "{told}"
    );
    assert!(
        outcome.stderr.contains("ping") && outcome.stderr.contains(&gone),
        "{}",
        outcome.stderr
    );
    let asked = || -> Vec<String> { hooks.got().into_iter().map(|got| got.path).collect() };
    assert_eq!(asked(), ["/ping/y"], "the probe alone");
    let variables = [&proxies[..], &[("NO_PROXY", "localhost,127.0.0.0/8")]].concat();
    assert_eq!(phone(&check(&scene, &variables).exits(2)), (1, 0));
    assert_eq!(asked()[1..], ["/ping/y", "/ping/x", "/ping/x"]);
}

#[test]
fn a_proxy_that_cannot_be_used_is_told_before_it_is_needed() {
    let hooks = Hooks::new();
    for kind in ["webhook", "telegram", "pagerduty", "alertmanager"] {
        let scene = Scene::new();
        let keys = match kind {
            "alertmanager" => format!(
                "type = \"{kind}\"\nurl = \"http://127.0.0.1:{}\"\n",
                hooks.port
            ),
            _ => hooks.keys(kind),
        };
        scene.config(&format!(
            "[ping]\nurl = \"http://127.0.0.1:{}/ping/x\"\n[notify.phone]\n{keys}{}",
            hooks.port,
            render(&[&Service::new("alpha").watched()])
        ));
        let variables = [("ALL_PROXY", "socks5://me:CANARY9@127.0.0.1:1")];
        let said = "the proxy that $ALL_PROXY names cannot be used: a proxy is spoken to by http://, not by socks5://";
        let text = run(&scene, &["validate", "--strict"], &variables)
            .exits(1)
            .text();
        assert_eq!(text.matches(said).count(), 2, "{text}");
        assert!(
            text.contains("[notify.phone]") && text.contains("[ping]"),
            "{text}"
        );
        let outcome = check(&scene, &variables).exits(2);
        let text = format!("{}{}", outcome.stderr, scene.read("state/journal.jsonl"));
        assert!(text.contains("$ALL_PROXY names cannot be used"), "{text}");
        assert!(!text.contains("CANARY9"), "{text}");
    }
    assert!(hooks.got().is_empty());
}

/// Tinyproxy in the directory of a scene.
struct Tinyproxy(Child, u16);

impl Tinyproxy {
    fn start(scene: &Scene) -> Self {
        let port = free_port();
        scene.write(
            "tinyproxy.conf",
            format!(
                "Port {port}\nListen 127.0.0.1\nTimeout 10\nLogFile \"{0}/tinyproxy.log\"\nPidFile \"{0}/tinyproxy.pid\"\n\
                 MaxClients 20\nAllow 127.0.0.1\nBasicAuth proxyuser CANARY9pass\nLogLevel Connect\n",
                scene.dir()
            ),
        );
        let child = Command::new("tinyproxy")
            .args(["-d", "-c"])
            .arg(scene.path("tinyproxy.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("it listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self(child, port)
    }
}

impl Drop for Tinyproxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server by TLS before another on loopback, in Python.
fn tls_before(scene: &Scene, port: u16) -> (Child, u16) {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/real_smtp/certificates.sh"
    );
    let made = Command::new("sh").arg(script).arg(scene.path("")).output();
    assert!(made.unwrap().status.success());
    scene.write(
        "tls.py",
        "import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('good.pem', 'good.key')
def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    except OSError:
        pass
def serve(plain):
    try:
        one = context.wrap_socket(plain, server_side=True)
    except OSError:
        return
    other = socket.create_connection(('127.0.0.1', int(sys.argv[2])))
    threading.Thread(target=pump, args=(one, other), daemon=True).start()
    pump(other, one)
    one.close()
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
",
    );
    let own = free_port();
    let child = Command::new("python3")
        .arg("tls.py")
        .args([own.to_string(), port.to_string()])
        .current_dir(scene.path(""))
        .spawn()
        .unwrap();
    wait_until("it listens", || {
        TcpStream::connect(("127.0.0.1", own)).is_ok()
    });
    (child, own)
}

#[test]
#[ignore = "needs tinyproxy, python3 and openssl"]
fn a_real_proxy_leads_to_both_kinds_of_servers() {
    let scene = Scene::new();
    let hooks = Hooks::new();
    let proxy = Tinyproxy::start(&scene);
    let (mut tls, tls_port) = tls_before(&scene, hooks.port);
    let good = format!("http://proxyuser:CANARY9pass@127.0.0.1:{}", proxy.1);
    let wrong = format!("http://proxyuser:CANARY8pass@127.0.0.1:{}", proxy.1);
    let plain = format!("http://127.0.0.1:{}/ping/CANARY1", hooks.port);
    let encrypted = format!("https://localhost:{tls_port}/ping/CANARY1");
    let mut came = 0;
    for (url, variable) in [(&plain, "http_proxy"), (&encrypted, "HTTPS_PROXY")] {
        let ca = if variable == "HTTPS_PROXY" {
            "ca_file = \"ca.pem\""
        } else {
            ""
        };
        let _ = fs::remove_dir_all(scene.path("state"));
        configure(&scene, url, ca);
        let outcome = check(&scene, &[(variable, &wrong)]).exits(2);
        assert_eq!(phone(&outcome), (0, 1), "{url}");
        let told = last_said(&scene);
        // it says 407 to who has no password, and 401 to who has a wrong one
        let said = if ca.is_empty() {
            [
                ", asked through the proxy http://127.0.0.1:",
                "word of the proxy; it is tried once an hour",
            ]
        } else {
            [
                ": the proxy http://127.0.0.1:",
                "answered 401 Unauthorized to CONNECT; check the user",
            ]
        };
        assert!(said.iter().all(|it| told.contains(it)), "{told}");
        let without = format!("http://127.0.0.1:{}", proxy.1);
        fs::remove_dir_all(scene.path("state")).unwrap();
        check(&scene, &[(variable, &without)]).exits(2);
        let told = last_said(&scene);
        assert!(
            told.contains(": the proxy http://127.0.0.1:")
                && told.contains("answered 407 Proxy Authentication Required"),
            "{told}"
        );
        assert_eq!(hooks.got().len(), came, "{url}");
        let outcome = check(&scene, &[(variable, &good)]).exits(2);
        assert_eq!(phone(&outcome), (1, 0), "{url}: {}", last_said(&scene));
        came += 1;
        let got = hooks.got();
        assert_eq!(got.len(), came, "{url}");
        assert_eq!(got[came - 1].path, "/ping/CANARY1");
        assert_eq!(
            got[came - 1].header("proxy-authorization"),
            None,
            "it is the proxy's alone"
        );
        assert_eq!(got[came - 1].json()["alerts"][0]["service"], json!("alpha"));
        // the answer of the server itself counts, and is told as its own
        hooks.answer(&[Answer::Say(401, "", "no CANARY1".to_owned())]);
        let text = run(&scene, &["test-notify"], &[(variable, &good)])
            .exits(1)
            .words();
        came += 1;
        assert!(
            text.contains(&format!(
                "is asked through the proxy http://127.0.0.1:{}",
                proxy.1
            )) && text.contains("answered 401 Unauthorized: no ***"),
            "{text}"
        );
        assert!(!text.contains("CANARY"), "{text}");
    }
    // nobody listens behind the proxy
    let gone = free_port();
    for (url, variable, said) in [
        (
            format!("https://127.0.0.1:{gone}/x"),
            "https_proxy",
            "to CONNECT",
        ),
        (
            format!("http://127.0.0.1:{gone}/x"),
            "http_proxy",
            "asked through the proxy",
        ),
    ] {
        let _ = fs::remove_dir_all(scene.path("state"));
        configure(&scene, &url, "");
        let outcome = check(&scene, &[(variable, &good)]).exits(2);
        assert_eq!(phone(&outcome), (0, 1), "{url}");
        let told = last_said(&scene);
        // it may close before the whole of a request was read, and so of its answer too
        let is_told = [
            "answered 500",
            "reset the connection before it had answered",
        ];
        assert!(
            told.contains(said) && is_told.iter().any(|it| told.contains(it)),
            "{told}"
        );
    }
    let log = fs::read_to_string(scene.path("tinyproxy.log")).unwrap();
    assert!(
        log.contains(&format!("CONNECT localhost:{tls_port} HTTP/1.1")),
        "{log}"
    );
    assert!(
        log.contains(&format!("POST http://127.0.0.1:{}/ping/", hooks.port)),
        "{log}"
    );
    // what went by CONNECT is seen by nobody between
    let tells = |line: &&str| line.contains("CANARY1") && line.contains("localhost");
    assert_eq!(log.lines().find(tells), None);
    tls.kill().unwrap();
    tls.wait().unwrap();
    drop(proxy);
    assert!(TcpStream::connect(("127.0.0.1", tls_port)).is_err());
    assert!(Path::new(&scene.path("ca.pem")).exists());
}
